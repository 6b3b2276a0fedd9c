"""Signers files: OpenSSH's format, read as OpenSSH reads it, or refused."""

from __future__ import annotations

import contextlib
from datetime import datetime, timezone

import pytest
import signatures as sign
from hypothesis import given
from hypothesis import strategies as st

from dorky import errors
from dorky.provenance import signers

KEY = sign.key().public
LINE = KEY.line


def test_a_file_is_read() -> None:
    text = f"""\ufeff# our signers
ana@x.org,*@y.org,!eve@y.org {LINE} a comment

  "two words,b" {sign.key("Ed25519").public.line}
c Namespaces="git,dorky-*",VALID-AFTER="20260102Z",valid-before="202612312359Z" {LINE}
"""
    assert signers.parse(text, "s") == [
        signers.Signer(("ana@x.org", "*@y.org", "!eve@y.org"), KEY),
        signers.Signer(("two words", "b"), sign.key("Ed25519").public),
        signers.Signer(
            ("c",),
            KEY,
            ("git", "dorky-*"),
            datetime(2026, 1, 2, tzinfo=timezone.utc),
            datetime(2026, 12, 31, 23, 59, tzinfo=timezone.utc),
        ),
    ]
    assert signers.parse("", "s") == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ana", "names and a public key"),
        (f"{LINE}", "names and a public key|usual form|only keys"),
        ("ana ssh-ed25519 AAAA", "damaged"),
        (f"ana,,ben {LINE}", "a name is empty"),
        (f"ana,! {LINE}", "a name is empty"),
        (f"ana cert-authority {LINE}", "certificate authority"),
        (f'ana namespaces="git",cert-authority {LINE}', "certificate authority"),
        (f'ana namespace="git" {LINE}', "'namespace' is unknown"),
        (f"ana namespaces {LINE}", "'namespaces' is unknown"),
        (f'ana namespaces="" {LINE}', "its namespaces are empty"),
        (f'ana namespaces="a",namespaces="b" {LINE}', "options are malformed"),
        (f'ana namespaces="a" namespaces="b" {LINE}', "names and a public key"),
        (f'ana valid-after="20260102" {LINE}', "in UTC"),
        (f'ana valid-after="" {LINE}', "in UTC"),
        (f'ana valid-before="20261302Z" {LINE}', "does not exist"),
        (f'ana valid-before="2026-01-02Z" {LINE}', "in UTC"),
        (f"ana restrict {LINE}", "unknown"),
        ("ana ssh-ed25519-cert-v01@openssh.com AAAA", "only keys of the types"),
        (f"ana {LINE[:-8]}", "damaged"),
    ],
)
def test_a_malformed_line_is_refused(line: str, why: str) -> None:
    with pytest.raises(errors.BadSigners, match=f"in line 2, .*({why})"):
        signers.parse(f"# list\n{line}\n", "s")


def test_keys_in_hardware_are_left_out() -> None:
    text = f"ana sk-ssh-ed25519@openssh.com AAAA x\nben ssh-dss AAAA\ncleo {LINE}\n"
    assert [one.names for one in signers.parse(text, "s")] == [("cleo",)]


def test_a_long_file_is_refused() -> None:
    with pytest.raises(errors.BadSigners, match="larger than 1 MiB"):
        signers.parse("#" * (signers.LIMIT + 1), "s")


@pytest.mark.parametrize(
    ("name", "patterns", "fits"),
    [
        ("ana", "ana", True),
        ("ana", "Ana", False),
        ("ana", "an", False),
        ("ana", "a?a", True),
        ("ana", "*", True),
        ("ana", "*,!ana", False),
        ("ana", "!ana,*", False),
        ("ana", "!ben", False),
        ("[ana]", "[ana]", True),
        ("a", "[ana]", False),
        ("ana", "", False),
        ("ana", "*" * 50 + "b", False),
    ],
)
def test_names_are_patterns(name: str, patterns: str, fits: bool) -> None:
    assert signers.matches(name, patterns.split(",")) is fits


def test_a_line_is_read_back() -> None:
    [found] = signers.parse(signers.line("ana@x.org", KEY), "s")
    assert found == signers.Signer(("ana@x.org",), KEY, ("dorky-artifact",))
    for name in ("", "a b", "*", "!a", 'a"', "a,b", "#a", "a\nb"):
        with pytest.raises(errors.BadName):
            signers.line(name, KEY)


@given(
    st.text() | st.lists(st.sampled_from(["ana", " ", '"', ",", "=", LINE, "\n", "!"])).map("".join)
)
def test_no_text_does_more_than_be_refused(text: str) -> None:
    with contextlib.suppress(errors.BadSigners):
        signers.parse(text, "s")
