"""Bundles: one signed statement, as it is stored and exchanged.

Sources: Sigstore's bundle v0.3 with a public key (sigstore/protobuf-specs, sigstore_bundle.proto),
and the envelope of DSSE, version 1.

A bundle is read strictly. One that holds no more than a statement and its signature must have the
very bytes that dorky writes, so that no byte of it can change without notice. Others' bundles may
carry entries of transparency logs and timestamps; these are kept, and mean nothing here. The name
of the key is only ever a hint.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec

from dorky import errors
from dorky.keys import sshsig
from dorky.provenance import dsse, json, statement
from dorky.provenance.dsse import PAYLOAD
from dorky.provenance.private_keys import PrivateKey
from dorky.provenance.statement import Statement

MEDIA = "application/vnd.dev.sigstore.bundle.v0.3+json"
LIMIT = 24 << 20
"""The largest bundle in bytes: an SBOM of 16 MiB in Base64, and something to spare."""

_MORE = ("tlogEntries", "timestampVerificationData")
_CERTIFIED = ("certificate", "x509CertificateChain")


class Bundle(NamedTuple):
    """A statement, and the signature of it.

    Attributes:
        payload: The exact bytes of the statement.
        signature: The signature of their encoding by `dsse`; empty if there is none.
        keyid: What the bundle says of its key: a hint, and no more.
        statement: The statement.
    """

    payload: bytes
    signature: bytes
    keyid: str
    statement: Statement

    @property
    def signed(self) -> bytes:
        """Return the bytes that are signed."""
        return dsse.encoded(self.payload)


class _Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sig: bytes
    keyid: str = ""


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    payload: bytes
    payload_type: str
    signatures: tuple[_Signature, ...]


class _PublicKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hint: str = ""


class _Material(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"
):
    public_key: _PublicKey
    tlog_entries: msgspec.Raw = msgspec.Raw()
    timestamp_verification_data: msgspec.Raw = msgspec.Raw()


class _Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    media_type: str
    verification_material: _Material
    dsse_envelope: _Envelope


def sign(claim: Statement, key: PrivateKey) -> bytes:
    """Return the bundle of a statement that a key signs."""
    payload = claim.payload
    return _encoded(payload, key.sign(dsse.encoded(payload)), key.public.id)


def unsigned(claim: Statement) -> bytes:
    """Return the bundle of a statement that nobody has signed; it never verifies."""
    return _encoded(claim.payload, b"", "")


def identify(data: bytes) -> str:
    """Return the id of a bundle: the SHA-256 of its bytes."""
    return hashlib.sha256(data).hexdigest()


def read(data: bytes, source: str = "What was attached") -> Bundle:
    """Read a bundle, from an untrusted source.

    Args:
        data: Its bytes.
        source: What to call it in errors.

    Raises:
        BadBundle: It is malformed.
    """
    found, bare = _parsed(data, source)
    if bare and data != _encoded(found.payload, found.signature, found.keyid):
        raise errors.BadBundle(source, "it is not in its usual form")
    return found


def adopt(data: bytes, source: str) -> bytes:
    """Return what another tool has made as a bundle that `read` takes.

    Args:
        data: A bundle, or a bare envelope of DSSE.
        source: What to call it in errors.

    Returns:
        The same bytes, if they hold more than a statement and its signature.

    Raises:
        BadBundle: It is malformed, or was signed with a certificate.
    """
    found, bare = _parsed(data, source)
    return _encoded(found.payload, found.signature, found.keyid) if bare else data


def envelope(data: bytes) -> bytes:
    """Return the bare envelope of DSSE in a bundle."""
    return msgspec.json.encode(msgspec.json.decode(data, type=_Bundle).dsse_envelope)


def _parsed(data: bytes, source: str) -> tuple[Bundle, bool]:
    """Return a bundle, and whether it holds no more than a statement and its signature."""
    if len(data) > LIMIT:
        raise errors.BadBundle(source, f"it is larger than {LIMIT >> 20} MiB")
    try:
        found = json.check(data)
        keys = found.keys() if isinstance(found, dict) else ()
        if "verificationMaterial" in keys:
            whole = msgspec.json.decode(data, type=_Bundle)
            _check_media(whole.media_type)
            hint = whole.verification_material.public_key.hint
            more = any(found["verificationMaterial"].get(name) for name in _MORE)
            return _opened(whole.dsse_envelope, hint), not more
        return _opened(msgspec.json.decode(data, type=_Envelope), ""), True
    except (msgspec.DecodeError, RecursionError):
        why = "it is neither a bundle v0.3 with a public key nor an envelope"
        given = found.get("verificationMaterial") if isinstance(found, dict) else None
        if isinstance(given, dict) and any(name in given for name in _CERTIFIED):
            why = "it was signed with a certificate; dorky verifies plain keys alone"
        raise errors.BadBundle(source, why) from None
    except ValueError as error:
        raise errors.BadBundle(source, error) from None


def _check_media(kind: str) -> None:
    if kind not in {MEDIA, "application/vnd.dev.sigstore.bundle+json;version=0.3"}:
        raise ValueError("it is not a bundle v0.3")


def _opened(envelope: _Envelope, hint: str) -> Bundle:
    if envelope.payload_type != PAYLOAD:
        raise ValueError("its payload is not an in-toto statement")
    if len(envelope.signatures) > 1:
        raise ValueError("it has several signatures")
    [signature] = envelope.signatures or [_Signature(b"")]
    if envelope.signatures and not signature.sig:
        raise ValueError("its signature is empty")
    keyid = signature.keyid or hint
    return Bundle(envelope.payload, signature.sig, keyid, statement.read(envelope.payload))


def _encoded(payload: bytes, signature: bytes, keyid: str) -> bytes:
    signatures = (_Signature(signature, keyid),) if signature else ()
    envelope = _Envelope(payload, PAYLOAD, signatures)
    return msgspec.json.encode(_Bundle(MEDIA, _Material(_PublicKey(keyid)), envelope))


def ssh_form(data: bytes) -> tuple[bytes, str] | None:
    """Return what ``ssh-keygen -Y verify`` checks: the signed bytes, and the signature's file.

    Returns:
        Both; None if the bundle is not signed with an SSH key.

    Raises:
        BadBundle: It is malformed.
    """
    found = read(data)
    armoured = sshsig.armour_of(found.signature)
    return (found.signed, armoured) if armoured else None
