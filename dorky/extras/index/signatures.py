"""Signatures of files, which the server shows next to them, for other programs to verify.

`FILE.sigstore.json` is a bundle of Sigstore's with a plain key. If the key is one of SSH,
`FILE.signed` is the statement that it signs, and `FILE.signed.sig` what `ssh-keygen` reads.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

BUNDLE, STATEMENT, SIGNATURE = ".sigstore.json", ".signed", ".signed.sig"
ENDINGS = (BUNDLE, SIGNATURE, STATEMENT)
"""The endings of names, the longest of those that end alike first."""

_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


class Shown(NamedTuple):
    """What the server shows for a signature.

    Attributes:
        body: The content.
        content_type: Its media type.
    """

    body: bytes
    content_type: str


class _Signature(msgspec.Struct):
    sig: bytes


class _Envelope(msgspec.Struct, rename="camel"):
    payload: bytes
    payload_type: str
    signatures: list[_Signature]


class _Bundle(msgspec.Struct, rename="camel"):
    dsse_envelope: _Envelope


def shown(bundles: Sequence[bytes], ending: str) -> Shown | None:
    """Return what stands at a file's name with an ending; None if no signature can be shown so.

    Args:
        bundles: The signatures of the file, the best first.
        ending: One of `ENDINGS`.
    """
    if ending == BUNDLE:
        return Shown(bundles[0], _TYPE) if bundles else None
    for body in bundles:
        envelope = msgspec.json.decode(body, type=_Bundle).dsse_envelope
        (signature,) = envelope.signatures
        if not signature.sig.startswith(b"SSHSIG"):
            continue
        if ending == STATEMENT:
            return Shown(_signed(envelope), "application/octet-stream")
        return Shown(_armoured(signature.sig), "text/plain; charset=utf-8")
    return None


def _signed(envelope: _Envelope) -> bytes:
    """Return the bytes that are signed, as DSSE, version 1, has them."""
    kind, payload = envelope.payload_type.encode(), envelope.payload
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _armoured(signature: bytes) -> bytes:
    text = base64.b64encode(signature).decode()
    lines = [text[at : at + 70] for at in range(0, len(text), 70)]
    marks = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
    return "\n".join((marks[0], *lines, marks[1], "")).encode()
