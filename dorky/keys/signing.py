"""Signing keys: each identity has one, so whoever can decrypt as a member can sign as that member.

The signing key of an age identity is derived from it. An SSH key signs itself. Both are written as
SSH public keys (see `sshsig`).
"""

from __future__ import annotations

import base64
from typing import Any, NamedTuple

import msgspec

from dorky.format import model
from dorky.format.model import TeamEntry
from dorky.keys import age, sshsig
from dorky.keys.sshsig import Namespace

VERSION = 2
"""The format whose records are signed."""

_INFO = b"dorky signing ed25519 v1"
_KIND = b"ssh-ed25519"


class Signer(NamedTuple):
    """A key that signs.

    Attributes:
        public: Its public key, as an SSH key without a comment.
        key: The private key of `cryptography`.
    """

    public: str
    key: Any

    def sign(self, namespace: Namespace, message: bytes) -> bytes:
        """Return the raw signature of a message; the same one each time."""
        return sshsig.sign(self.key, namespace, message)

    def __repr__(self) -> str:
        # A secret must not show up in a traceback or a log.
        return f"Signer({self.public})"


def public_of(identity: age.Identity) -> str:
    """Return the public key that verifies an identity's signatures; needs no passphrase."""
    return identity.public if identity.public.startswith("ssh-") else _public(_derived(identity))


def signer(identity: age.Identity, ask: age.Ask = age.nobody) -> Signer | None:
    """Return the key with which an identity signs.

    Args:
        identity: The identity, which may be an SSH key under a passphrase.
        ask: Asks for that passphrase.

    Returns:
        The key; None if nobody gives the passphrase.

    Raises:
        WrongPassphrase: Three passphrases were wrong, or the same one twice.
        UnusableIdentity: The SSH key is encrypted in a way that is not supported.
        MissingLibrary: bcrypt, which OpenSSH's passphrases need, is not installed.
    """
    if not identity.public.startswith("ssh-"):
        key = _derived(identity)
        return Signer(_public(key), key)
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    opened = age.opened(identity, ask)
    if opened is None:
        return None
    return Signer(identity.public, load_ssh_private_key(opened.secret.encode(), None))


def _derived(identity: age.Identity) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    seed = age.hkdf(age.scalar(identity), bytes(32), _INFO)
    return Ed25519PrivateKey.from_private_bytes(seed)


def _public(key: Any) -> str:
    parts = (_KIND, key.public_key().public_bytes_raw())
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return f"{_KIND.decode()} {base64.b64encode(blob).decode()}"


# --- records --------------------------------------------------------------------------------


def message(repository: str, record: TeamEntry) -> bytes:
    """Return the bytes that are signed of a record: everything but its signature.

    They name the format and the repository, so that no signature is valid in another one.
    """
    unsigned = msgspec.structs.replace(record, signature=b"")
    return f"dorky/{VERSION}\0{repository}\0".encode() + model.encode(unsigned)
