"""DSSE: what exactly is signed.

Source: the Dead Simple Signing Envelope, secure-systems-lab/dsse, protocol.md, version 1.
"""

from __future__ import annotations

PAYLOAD = "application/vnd.in-toto+json"
"""The one type of payload that dorky writes and reads: an in-toto statement."""


def encoded(payload: bytes, kind: str = PAYLOAD) -> bytes:
    """Return the bytes that are signed of a payload: its pre-authentication encoding (PAE)."""
    name = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)
