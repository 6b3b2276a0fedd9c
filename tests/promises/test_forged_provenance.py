"""Forged provenance: nothing that is changed, moved or signed by somebody else is valid."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
import signatures as sign
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from hypothesis import given
from hypothesis import strategies as st

from dorky.keys import sshsig
from dorky.keys.sshsig import Namespace
from dorky.provenance import bundle, dsse, public_keys, statement
from dorky.provenance.verification import Subject

TRUST = sign.trust(sign.key())
SIGNED = bundle.sign(sign.claim(), sign.key())
ORDER = 2**252 + 27742317777372353535851937790883648493


PIECES = [b'"', b"{}", b"[]", b",", b'"keyid":"",', b'"payload":"",', b"null", b"=", b"\\u0041"]


def edited(change: Callable[[dict[str, Any]], object], indent: int | None = None) -> bytes:
    """Return the bundle with a changed payload, and the signature that it has."""
    value = json.loads(SIGNED)
    payload = json.loads(base64.b64decode(value["dsseEnvelope"]["payload"]))
    change(payload)
    text = json.dumps(payload, indent=indent).encode()
    value["dsseEnvelope"]["payload"] = base64.b64encode(text).decode()
    return json.dumps(value, separators=(",", ":")).encode()


ATTACKS = {
    "another path's": bundle.sign(sign.claim("models/other.bin"), sign.key()),
    "another repository's": bundle.sign(sign.claim(repository="ff" * 16), sign.key()),
    "other content's": bundle.sign(sign.claim(sha256="00" * 32), sign.key()),
    "another key's": bundle.sign(sign.claim(), sign.key("P-256", 2)),
    "unsigned": bundle.unsigned(sign.claim()),
    "path edited": edited(lambda p: p["subject"][0].update(name="x")),
    "digest edited": edited(lambda p: p["subject"][0]["digest"].update(sha256="00" * 32)),
    "type swapped": edited(lambda p: p.update(predicateType=statement.SLSA)),
    "time edited": edited(lambda p: p["predicate"].update(time="2027-01-01T00:00:00Z")),
    "commit edited": edited(lambda p: p["predicate"].update(commit="ee" * 32)),
    "payload reserialised": edited(lambda p: p, indent=1),
    "signature of the payload alone": bundle._encoded(
        sign.claim().payload,
        sign.key().key.sign(sign.claim().payload, ECDSA(SHA256())),
        sign.key().public.id,
    ),
    "signature of another DSSE type": bundle._encoded(
        sign.claim().payload,
        sign.key().sign(dsse.encoded(sign.claim().payload, "application/json")),
        sign.key().public.id,
    ),
    "DSSE type changed": SIGNED.replace(b"vnd.in-toto+json", b"vnd.in-toto+jsox"),
    "another hash": bundle._encoded(
        sign.claim().payload,
        sign.key().key.sign(dsse.encoded(sign.claim().payload), ECDSA(SHA384())),
        sign.key().public.id,
    ),
    "longer signature": bundle._encoded(
        sign.claim().payload,
        sign.key().sign(dsse.encoded(sign.claim().payload)) + b"\0",
        sign.key().public.id,
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_forgery_is_never_valid(attack: str) -> None:
    assert sign.states([SIGNED], TRUST) == ["valid"]
    subject = sign.SUBJECT
    assert sign.states([ATTACKS[attack]], TRUST, subject)[0] in {
        "invalid": {"invalid"},
        "unsigned": {"unsigned"},
        "another key's": {"untrusted"},
        "other content's": {"stale"},
    }.get(attack, {"invalid"})


def test_a_moved_bundle_is_not_valid_at_its_new_path() -> None:
    moved = Subject("models/elsewhere.bin", sign.SHA256, sign.REPOSITORY)
    assert sign.states([SIGNED], TRUST, moved) == ["invalid"]


def test_a_restored_old_version_is_not_valid() -> None:
    newer = bundle.sign(sign.claim(sha256="77" * 32, days=1), sign.key())
    assert sign.states([SIGNED, newer], TRUST) == ["stale", "stale"]


@pytest.mark.parametrize("kind", sign.TYPES)
def test_no_changed_byte_stays_valid(kind: str) -> None:
    key = sign.key(kind)
    trust, data = sign.trust(key), bundle.sign(sign.claim(), key)
    for at, byte in enumerate(data):
        change = 1 << at % 8
        flipped = data[:at] + bytes([byte ^ change]) + data[at + 1 :]
        assert sign.states([flipped], trust) != ["valid"], (at, change)


def test_every_cut_is_noticed() -> None:
    assert all(sign.states([SIGNED[:at]], TRUST) == ["invalid"] for at in range(len(SIGNED)))


@given(st.data())
def test_no_edit_says_something_else(data: st.DataObject) -> None:
    """An edit may be refused, or change nothing that counts; nothing else is ever valid."""
    begin = data.draw(st.integers(0, len(SIGNED)))
    end = data.draw(st.integers(begin, min(len(SIGNED), begin + 12)))
    inserted = data.draw(st.binary(max_size=8) | st.sampled_from(PIECES))
    changed = SIGNED[:begin] + inserted + SIGNED[end:]
    found = sign.verdict(changed, TRUST)
    assert found.state in {"invalid", "untrusted"} or changed == SIGNED


def signed_by(key: Any, raw: bytes) -> bytes:
    return bundle._encoded(sign.claim().payload, raw, key.public.id)


def test_an_ssh_signature_of_another_namespace_is_not_valid() -> None:
    message = dsse.encoded(sign.claim().payload)
    for kind in ("SSH Ed25519", "SSH RSA"):
        key = sign.key(kind)
        for namespace in Namespace:
            raw = sshsig.sign(key.key, namespace, message)
            for said in Namespace:
                data = signed_by(key, sshsig.blob(key.public.line, said, raw))
                state = "valid" if namespace == said == Namespace.ARTIFACT else "invalid"
                assert sign.states([data], sign.trust(key)) == [state]


def test_a_commits_signature_signs_no_artifact() -> None:
    """A member's key signs commits and artifacts: neither passes for the other."""
    key = sign.key("Ed25519")
    message = dsse.encoded(sign.claim().payload)
    for namespace in Namespace:
        raw = sshsig.sign(key.key, namespace, message)
        assert sign.states([signed_by(key, raw)], sign.trust(key)) == ["invalid"]
        assert not sshsig.verify(key.public.line, namespace, message, key.sign(message))


def test_an_ed25519_signature_has_one_form() -> None:
    key = sign.key("Ed25519")
    message = dsse.encoded(sign.claim().payload)
    raw = key.sign(message)
    twin = raw[:32] + (int.from_bytes(raw[32:], "little") + ORDER).to_bytes(32, "little")
    assert sign.states([signed_by(key, raw)], sign.trust(key)) == ["valid"]
    assert sign.states([signed_by(key, twin)], sign.trust(key)) == ["invalid"]


def test_an_rsa_key_signs_in_one_way() -> None:
    key = sign.key("RSA")
    message = dsse.encoded(sign.claim().payload)
    pss = PSS(MGF1(SHA256()), PSS.DIGEST_LENGTH)
    for raw in (
        key.key.sign(message, pss, SHA256()),
        key.key.sign(message, *sshsig.rsa("SHA512")),
        b"\0" + key.sign(message),
    ):
        assert sign.states([signed_by(key, raw)], sign.trust(key)) == ["invalid"]


@pytest.mark.parametrize(
    "point",
    [
        bytes(32),
        b"\1" + bytes(31),
        b"\1" + bytes(30) + b"\x80",
        (2**255 - 20).to_bytes(32, "little"),
        (2**255 - 19).to_bytes(32, "little"),
        (2**255 - 18).to_bytes(32, "little"),
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        b"\2" + bytes(31),  # not on the curve
    ],
)
def test_a_weak_ed25519_key_is_no_key(point: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        public_keys.of(Ed25519PublicKey.from_public_bytes(point))


def test_a_small_rsa_key_is_no_key() -> None:
    with pytest.raises(ValueError, match="1024 bits"):
        public_keys.of(rsa.generate_private_key(65537, 1024).public_key())
