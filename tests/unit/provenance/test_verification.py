"""Verification: everything has to hold, and each thing that does not is named."""

from __future__ import annotations

import pytest
import signatures as sign

from dorky.provenance import bundle, statement, verification
from dorky.provenance.statement import Origin
from dorky.provenance.verification import Subject

ORIGIN = Origin(sign.REPOSITORY, sign.COMMIT, sign.NOW)
OTHER = "07" * 32


@pytest.mark.parametrize("kind", sign.TYPES)
def test_a_signature_is_valid(kind: str) -> None:
    key = sign.key(kind)
    found = sign.verdict(bundle.sign(sign.claim(), key), sign.trust(key))
    assert (found.state, found.problem, found.signer) == ("valid", "", "s0")
    assert (found.algorithm, found.fingerprint) == (kind, key.public.fingerprint)
    assert (found.time, found.type) == (sign.NOW, statement.SIGNATURE)


def test_nobody_is_trusted_by_default() -> None:
    found = sign.verdict(bundle.sign(sign.claim(), sign.key()), sign.trust())
    assert (found.state, found.problem) == ("untrusted", "no trusted key has signed it")
    assert not sign.trust()
    assert sign.trust(sign.key())


def test_the_hint_is_only_a_hint() -> None:
    a, b = sign.key("P-256", 1), sign.key("P-256", 2)
    data = bundle.sign(sign.claim(), a)
    misled = data.replace(a.public.id.encode(), b.public.id.encode())
    assert sign.verdict(misled, sign.trust(b, a)).signer == "s1"
    assert sign.states([misled], sign.trust(b)) == ["invalid"]
    assert sign.states([data.replace(a.public.id.encode(), b"")], sign.trust(b, a)) == ["valid"]


def test_an_unsigned_statement_never_counts() -> None:
    found = sign.verdict(bundle.unsigned(sign.claim()), sign.trust(sign.key()))
    assert (found.state, verification.count([found])) == ("unsigned", 0)


def test_a_signer_counts_once_and_so_does_a_key() -> None:
    a, b, c = (sign.key("P-256", n) for n in (1, 2, 3))
    lines = [f"ana {a.public.line}", f"ana {b.public.line}", f"ben,*@x {c.public.line}"]
    trust = verification.Trust(verification.signers.parse("\n".join(lines), "s"))
    bundles = [bundle.sign(sign.claim(days=n), key) for n, key in enumerate((a, a, b, c, c))]
    found = verification.examine(bundles, sign.SUBJECT, trust, now=sign.LATER)
    assert [one.signer for one in found] == ["ana", "ana", "ana", "ben", "ben"]
    assert [verification.count(found[:n]) for n in range(6)] == [0, 1, 1, 1, 2, 2]


def test_a_key_with_many_names_counts_once() -> None:
    key = sign.key()
    trust = verification.Trust(
        verification.signers.parse(f"ana {key.public.line}\nben {key.public.line}", "s")
    )
    bundles = [bundle.sign(sign.claim(days=n), key) for n in (0, 1)]
    found = [
        *verification.examine(bundles, sign.SUBJECT, trust, now=sign.LATER, names=["ana"]),
        *verification.examine(bundles, sign.SUBJECT, trust, now=sign.LATER, names=["ben"]),
    ]
    assert {one.signer for one in found} == {"ana", "ben"}
    assert verification.count(found) == 1


def test_only_the_names_that_are_asked_for_count() -> None:
    trust = sign.trust(sign.key())
    data = bundle.sign(sign.claim(), sign.key())
    assert sign.verdict(data, trust, names=["s0"]).signer == "s0"
    found = sign.verdict(data, trust, names=["s1", "s"])
    assert (found.state, found.signer) == ("untrusted", "")
    assert found.problem == "its signer is not among those that are asked for"


def test_a_pattern_stands_for_the_name_that_is_asked_for() -> None:
    text = f"!eve@x.org,*@x.org {sign.key().public.line}"
    trust = verification.Trust(verification.signers.parse(text, "s"))
    data = bundle.sign(sign.claim(), sign.key())
    assert sign.verdict(data, trust, names=["ana@x.org"]).signer == "ana@x.org"
    assert sign.states([data], trust, names=["eve@x.org"]) == ["untrusted"]
    assert sign.states([data], trust, names=["ana@y.org"]) == ["untrusted"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ('valid-after="20261201Z"', "its key was not valid yet"),
        ('valid-before="20261129Z"', "its key was not valid any more"),
        ('valid-before="20261130115959Z"', "its key was not valid any more"),
        ('namespaces="git,file"', "its key does not count for the namespace dorky-artifact"),
        ('namespaces="!dorky-*,*"', "its key does not count for the namespace dorky-artifact"),
    ],
)
def test_a_signer_has_to_be_in_force(options: str, problem: str) -> None:
    data = bundle.sign(sign.claim(), sign.key())
    found = sign.verdict(data, sign.trust(sign.key(), options=options))
    assert (found.state, found.problem, found.signer) == ("untrusted", problem, "")


@pytest.mark.parametrize(
    "options",
    ['valid-after="20261130Z",valid-before="20261130120000Z"', 'namespaces="git,dorky-*"'],
)
def test_a_signer_in_force_counts(options: str) -> None:
    data = bundle.sign(sign.claim(), sign.key())
    assert sign.states([data], sign.trust(sign.key(), options=options)) == ["valid"]


def test_a_second_line_can_extend_a_key() -> None:
    line = sign.key().public.line
    text = f'ana valid-before="20250101Z" {line}\nana valid-after="20260101Z" {line}'
    trust = verification.Trust(verification.signers.parse(text, "s"))
    assert sign.states([bundle.sign(sign.claim(), sign.key())], trust) == ["valid"]


def test_without_a_claimed_time_the_signer_has_to_be_in_force_now() -> None:
    silent = statement.Statement(sign.PATH, sign.SHA256, statement.SLSA, b"{}", None)
    data = bundle.sign(silent, sign.key())
    assert sign.states([data], sign.trust(sign.key())) == ["valid"]
    for options in ('valid-before="20261209Z"', 'valid-after="20261211Z"'):
        assert sign.states([data], sign.trust(sign.key(), options=options)) == ["untrusted"]


def test_a_newer_signature_of_other_content_makes_one_stale() -> None:
    trust = sign.trust(sign.key(), sign.key("Ed25519"))
    old = bundle.sign(sign.claim(), sign.key())
    new = bundle.sign(sign.claim(sha256=OTHER, days=1), sign.key())
    assert sign.states([old], trust) == ["valid"]
    assert sign.states([old, new], trust) == ["stale", "stale"]
    assert sign.states([old, new], trust, Subject(sign.PATH, OTHER, sign.REPOSITORY)) == [
        "stale",
        "valid",
    ]
    # Another signer's newer signature says nothing of this one's.
    others = bundle.sign(sign.claim(sha256=OTHER, days=1), sign.key("Ed25519"))
    assert sign.states([old, others], trust) == ["valid", "stale"]


def test_a_signer_who_signs_the_old_content_again_is_believed() -> None:
    trust = sign.trust(sign.key())
    bundles = [
        bundle.sign(sign.claim(), sign.key()),
        bundle.sign(sign.claim(sha256=OTHER, days=1), sign.key()),
        bundle.sign(sign.claim(days=2), sign.key()),
    ]
    assert sign.states(bundles, trust) == ["stale", "stale", "valid"]


def test_a_newer_signature_that_does_not_count_makes_nothing_stale() -> None:
    trust = sign.trust(sign.key(), options='valid-before="20261130120000Z"')
    old = bundle.sign(sign.claim(), sign.key())
    for newer in (
        bundle.sign(sign.claim(sha256=OTHER, days=1), sign.key("P-256", 2)),
        bundle.sign(sign.claim(sha256=OTHER, days=1), sign.key()),  # its key has ended
        bundle.sign(sign.claim("elsewhere", OTHER, 1), sign.key()),
        bundle.unsigned(sign.claim(sha256=OTHER, days=1)),
    ):
        assert sign.states([old, newer], trust)[0] == "valid"


def test_a_new_key_of_the_same_signer_makes_the_old_ones_signature_stale() -> None:
    a, b = sign.key("P-256", 1), sign.key("P-256", 2)
    text = f"ana {a.public.line}\nana {b.public.line}"
    trust = verification.Trust(verification.signers.parse(text, "s"))
    old = bundle.sign(sign.claim(), a)
    new = bundle.sign(sign.claim(sha256=OTHER, days=1), b)
    assert sign.states([old, new], trust) == ["stale", "stale"]


def test_a_time_in_the_future_does_not_count() -> None:
    """It would make all that its signer signs until then stale."""
    trust = sign.trust(sign.key())
    ahead = bundle.sign(sign.claim(sha256=OTHER, days=11), sign.key())
    found = sign.verdict(ahead, trust, Subject(sign.PATH, OTHER, sign.REPOSITORY))
    assert (found.state, found.problem) == ("untrusted", "it claims a time in the future")
    assert sign.states([ahead, bundle.sign(sign.claim(), sign.key())], trust)[1] == "valid"


def test_types_are_told_apart() -> None:
    attested = statement.attestation(sign.PATH, sign.SHA256, "build", b"{}", ORIGIN)
    bundles = [bundle.sign(sign.claim(), sign.key()), bundle.sign(attested, sign.key()), b"junk"]
    found = {
        kind: sign.states(bundles, sign.trust(sign.key()), kind=kind)
        for kind in ("", statement.SIGNATURE, attested.type, statement.SLSA)
    }
    assert found == {
        "": ["valid", "valid", "invalid"],
        statement.SIGNATURE: ["valid", "invalid"],
        attested.type: ["valid", "invalid"],
        statement.SLSA: ["invalid"],
    }
