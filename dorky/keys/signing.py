"""Signing keys: each identity has one, so whoever can decrypt as a member can sign as that member.

The signing key of an age identity is derived from it. An SSH key signs itself. Both are written as
SSH public keys (see `sshsig`).
"""

from __future__ import annotations

import base64
from typing import Any, NamedTuple, TypeVar

import msgspec

from dorky import errors
from dorky.format import model
from dorky.format.model import Commit, Member, Request, Role, TeamEntry
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


def keys_in(text: str) -> dict[str, str]:
    """Read public keys, one per line, with ``#`` comments.

    Args:
        text: Lines as `age.recipients` reads them; the key that signs may follow an age key.

    Returns:
        The recipients, each once, and for age keys the key that signs, or nothing.

    Raises:
        BadRecipient: The text holds no key, an unusable key, or a secret key.
    """
    found: dict[str, str] = {}
    lines = []
    if len(text.split()) == 1:
        return {age.recipient(text): ""}
    for line in text.splitlines():
        first, _, rest = line.strip().partition(" ")
        signer = rest.strip() if first.startswith("age1") else ""
        lines.append(first if signer else line)
        if signer:
            found[age.recipient(first)] = _checked(signer)
    return dict.fromkeys(age.recipients("\n".join(lines)), "") | found


def _checked(signer: str) -> str:
    try:
        sshsig.check(signer)
    except ValueError as error:
        raise errors.BadRecipient(f"{signer[:20]!a}", error) from None
    return signer


def fingerprint(recipient: str, signer: str = "") -> str:
    """Return the fingerprint that people compare: of both keys, if an age key has one that signs.

    Otherwise somebody who can write to the bucket could put their own key beside a member's.
    """
    return age.anonymous(f"{recipient} {signer}") if signer else age.fingerprint(recipient)


def member(name: str, identity: age.Identity, role: Role) -> Member:
    """Return a member with one identity's keys."""
    is_ssh = identity.public.startswith("ssh-")
    signers = {} if is_ssh else {identity.public: public_of(identity)}
    return Member(name, (identity.public,), (), signers, role)


def _derived(identity: age.Identity) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    seed = age.hkdf(age.scalar(identity), bytes(32), _INFO)
    return Ed25519PrivateKey.from_private_bytes(seed)


def _public(key: Any) -> str:
    parts = (_KIND, key.public_key().public_bytes_raw())
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return f"{_KIND.decode()} {base64.b64encode(blob).decode()}"


# --- records --------------------------------------------------------------------------------


Signed = TypeVar("Signed", Commit, TeamEntry, Request)


def signed(record: Signed, namespace: Namespace, signer: Signer, repository: str) -> Signed:
    """Return a record with a key's signature in place of the one that it has."""
    unsigned = msgspec.structs.replace(record, signer=signer.public)
    signature = signer.sign(namespace, message(repository, unsigned))
    return msgspec.structs.replace(unsigned, signature=signature)


def is_signed(record: Commit | TeamEntry | Request, namespace: Namespace, repository: str) -> bool:
    """Return whether the signature of a record is one of the key that it names."""
    signed = message(repository, record)
    return sshsig.verify(record.signer, namespace, signed, record.signature)


def message(repository: str, record: Commit | TeamEntry | Request) -> bytes:
    """Return the bytes that are signed of a record: everything but its signature.

    They name the format and the repository, so that no signature is valid in another one.
    """
    unsigned = msgspec.structs.replace(record, signature=b"")
    return f"dorky/{VERSION}\0{repository}\0".encode() + model.encode(unsigned)
