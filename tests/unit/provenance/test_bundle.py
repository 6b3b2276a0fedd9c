"""Bundles: one form, read strictly; other tools' are adopted."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest
import signatures as sign
from hypothesis import given
from hypothesis import strategies as st

from dorky import errors
from dorky.provenance import bundle, dsse

SIGNED = bundle.sign(sign.claim(), sign.key())
FOREIGN = json.loads(SIGNED) | {}
FOREIGN["verificationMaterial"]["tlogEntries"] = [{"logIndex": "1"}]


def written(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def with_envelope(**changes: Any) -> bytes:
    value = json.loads(SIGNED)
    value["dsseEnvelope"] |= changes
    return written(value)


def test_the_encoding_is_that_of_the_specification() -> None:
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert dsse.encoded(b"hello world", "http://example.com/HelloWorld") == expected


def test_a_bundle_is_sigstores() -> None:
    value = json.loads(SIGNED)
    payload = base64.b64encode(sign.claim().payload).decode()
    [signature] = value["dsseEnvelope"].pop("signatures")
    assert value == {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": sign.key().public.id}},
        "dsseEnvelope": {"payload": payload, "payloadType": "application/vnd.in-toto+json"},
    }
    assert signature.keys() == {"keyid", "sig"}
    assert signature["keyid"] == sign.key().public.id


@pytest.mark.parametrize("kind", sign.TYPES)
def test_what_a_key_signs_is_read(kind: str) -> None:
    data = bundle.sign(sign.claim(), sign.key(kind))
    found = bundle.read(data)
    assert found.statement == sign.claim()
    assert sign.key(kind).public.verify(found.signed, found.signature) == kind


def test_an_unsigned_bundle_has_no_signature() -> None:
    found = bundle.read(bundle.unsigned(sign.claim()))
    assert (found.statement, found.signature, found.keyid) == (sign.claim(), b"", "")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not JSON"),
        (b"[]", "neither a bundle v0.3"),
        (b"{}", "neither a bundle v0.3"),
        (SIGNED + b"\n", "usual form"),
        (SIGNED.replace(b",", b", ", 1), "usual form"),
        (SIGNED.replace(b'"mediaType"', b'"media\\u0054ype"'), "usual form"),
        (SIGNED.replace(b'"payload":', b'"payload":"","payload":'), "one key twice"),
        (SIGNED.replace(b"v0.3+json", b"v0.2+json"), "not a bundle v0.3"),
        (SIGNED.replace(b'"mediaType"', b'"MediaType"'), "neither a bundle v0.3"),
        (SIGNED.replace(b'"hint":"', b'"hint":"0'), "usual form"),
        (SIGNED.replace(b'"keyid":"', b'"keyid":"0'), "usual form"),
        (SIGNED.replace(b'{"hint"', b'{"rawBytes":"AA==","hint"'), "neither a bundle v0.3"),
        (with_envelope(payloadType="application/vnd.in-toto+jsom"), "not an in-toto statement"),
        (with_envelope(payloadType="text/plain"), "not an in-toto statement"),
        (with_envelope(payload="AA=="), "not JSON"),
        (with_envelope(payload="A"), "neither a bundle v0.3"),
        (with_envelope(signatures=json.loads(SIGNED)["dsseEnvelope"]["signatures"] * 2), "several"),
        (with_envelope(signatures=[{"sig": "", "keyid": ""}]), "its signature is empty"),
        (with_envelope(signatures=[{"keyid": ""}]), "neither a bundle v0.3"),
        (with_envelope(signatures=[{"sig": "AA==", "keyid": "", "cert": ""}]), "neither a bundle"),
        (b"[" * 100_000, "nested too deeply"),
        (b" " * (bundle.LIMIT + 1), "larger than 24 MiB"),
    ],
)
def test_a_malformed_bundle_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(errors.BadBundle, match=why):
        bundle.read(data)


def test_a_certificate_is_refused_by_name() -> None:
    value = json.loads(SIGNED)
    value["verificationMaterial"] = {"certificate": {"rawBytes": "AA=="}}
    with pytest.raises(errors.BadBundle, match="plain keys alone"):
        bundle.adopt(written(value), "x.json")


def test_a_bare_envelope_is_adopted() -> None:
    envelope = json.dumps(json.loads(SIGNED)["dsseEnvelope"], indent=2).encode()
    assert bundle.adopt(envelope, "x.json") == SIGNED
    assert json.loads(bundle.envelope(SIGNED)) == json.loads(envelope)
    with pytest.raises(errors.BadBundle):
        bundle.read(envelope)


def test_another_form_of_a_bundle_is_adopted() -> None:
    value = json.loads(SIGNED)
    assert bundle.adopt(json.dumps(value, indent=4, sort_keys=True).encode(), "x") == SIGNED
    del value["dsseEnvelope"]["signatures"][0]["keyid"]
    assert bundle.adopt(written(value), "x") == SIGNED


def test_entries_of_transparency_logs_are_kept() -> None:
    data = json.dumps(FOREIGN, indent=1).encode()
    assert bundle.adopt(data, "x") == data
    assert bundle.read(data) == bundle.read(SIGNED)


def test_no_changed_byte_is_read_as_the_same_bundle() -> None:
    """A signature's or payload's bytes may change; then no key verifies them (see the promises)."""
    chosen = random.Random(16)
    original = bundle.read(SIGNED)
    for at in range(len(SIGNED)):
        changed = bytearray(SIGNED)
        changed[at] ^= 1 << chosen.randrange(8)
        try:
            found = bundle.read(bytes(changed))
        except errors.BadBundle:
            continue
        assert (found.payload, found.signature) != (original.payload, original.signature), at


@given(st.binary() | st.text().map(str.encode))
def test_nothing_does_more_than_be_refused(data: bytes) -> None:
    for read in (bundle.read, bundle.adopt):
        with pytest.raises(errors.BadBundle):
            read(data, "x")


def test_ssh_signatures_have_a_file_of_their_own() -> None:
    data = bundle.sign(sign.claim(), sign.key("SSH Ed25519"))
    form = bundle.ssh_form(data)
    assert form is not None
    assert form[0] == dsse.encoded(sign.claim().payload)
    assert form[1].startswith("-----BEGIN SSH SIGNATURE-----\n")
    assert bundle.ssh_form(SIGNED) is None
    assert bundle.ssh_form(bundle.unsigned(sign.claim())) is None
