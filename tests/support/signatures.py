"""Keys of every type that sign artifacts, and statements that they sign."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dorky.provenance import public_keys, signers, statement, verification
from dorky.provenance.private_keys import PrivateKey
from dorky.provenance.statement import Origin, Statement
from dorky.provenance.verification import Subject, Trust, Verdict

PATH, SHA256 = "models/net.bin", "5e" * 32
REPOSITORY, COMMIT = "ab" * 16, "cd" * 32
NOW = datetime(2026, 11, 30, 12, 0, 0, tzinfo=timezone.utc)
LATER = NOW + timedelta(days=10)  # when bundles are verified
SUBJECT = Subject(PATH, SHA256, REPOSITORY)
TYPES = ("P-256", "P-384", "Ed25519", "RSA", "SSH Ed25519", "SSH RSA")


@lru_cache
def key(kind: str = "P-256", number: int = 1) -> PrivateKey:
    """Return a key of a type; the same one for the same number."""
    made: Any
    if kind.endswith("Ed25519"):
        made = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    elif kind.endswith("RSA"):
        made = _rsa(number)
    else:
        curve = ec.SECP256R1() if kind == "P-256" else ec.SECP384R1()
        made = ec.derive_private_key(number + 1000, curve)
    return PrivateKey(public_keys.of(made.public_key()), made, kind.startswith("SSH"))


@lru_cache
def _rsa(number: int) -> Any:
    return rsa.generate_private_key(65537, 2048)


def pem(of: PrivateKey) -> str:
    """Return a private key as the text of its file: in PKCS#8, or OpenSSH's format."""
    kind = form.PrivateFormat.OpenSSH if of.is_ssh else form.PrivateFormat.PKCS8
    return of.key.private_bytes(form.Encoding.PEM, kind, form.NoEncryption()).decode()


def claim(path: str = PATH, sha256: str = SHA256, days: int = 0, **other: str) -> Statement:
    """Return the statement of a bare signature, made some days after `NOW`."""
    where = {"repository": REPOSITORY, "commit": COMMIT, **other}
    return statement.signature(path, sha256, Origin(time=NOW + timedelta(days=days), **where))


def trust(*keys: PrivateKey, options: str = "") -> Trust:
    """Return the trust in keys, whose holders are called s0, s1, …"""
    lines = [f"s{n} {options} {one.public.line}" for n, one in enumerate(keys)]
    return Trust(signers.parse("\n".join(lines), "signers"))


def verdict(data: bytes, trusted: Trust, subject: Subject = SUBJECT, **asked: Any) -> Verdict:
    """Return what one bundle is worth."""
    [found] = verification.examine([data], subject, trusted, now=LATER, **asked)
    return found


def states(
    bundles: Sequence[bytes], trusted: Trust, subject: Subject = SUBJECT, **asked: Any
) -> list[str]:
    """Return the states of bundles."""
    found = verification.examine(bundles, subject, trusted, now=LATER, **asked)
    return [one.state for one in found]
