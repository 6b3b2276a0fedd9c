"""Access: the keys that a new member gets, or brings."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from dorky import errors, files
from dorky.format.model import Locked
from dorky.keys import age, kms, signing

_SHORTEST = 12
"""The fewest characters of a passphrase: anyone who can read the bucket can try guesses."""


class Access(NamedTuple):
    """The access that a new member gets.

    Attributes:
        recipients: The public keys.
        signers: The keys that verify signatures, by the age key; see `Member`.
        locked: The secret key of the one recipient, if it is to lie in the repository.
        secret: The secret key, if somebody must write it down.
    """

    recipients: tuple[str, ...]
    signers: Mapping[str, str] = MappingProxyType({})
    locked: Locked | None = None
    secret: str = ""

    @property
    def can_sign(self) -> bool:
        """Return whether its holder can be more than a reader."""
        return bool(self.signers) or any(key.startswith("ssh-") for key in self.recipients)


def parse(text: str, *, passphrase: str, repository: str) -> Access:
    """Return the access that a user names.

    Args:
        text: ``age1…``, ``age1… ssh-ed25519 …`` (with the key that signs), ``ssh-…``, ``@FILE`` of
            such keys, ``passphrase``, ``awskms:ARN``.
        passphrase: The passphrase, if ``text`` is ``passphrase``.
        repository: The repository's id.

    Raises:
        BadRecipient: One of the keys can't be used.
    """
    if text == "passphrase":
        return by_passphrase(passphrase)
    if text.startswith("awskms:"):
        return by_kms(text, repository)
    if text.startswith("@"):
        path = files.expanded(text[1:])
        with files.disk_errors(path):
            text = path.read_text("utf-8", errors="replace")
    keys = signing.keys_in(text)
    return Access(tuple(keys), {key: signer for key, signer in keys.items() if signer})


def recovery(kind: str, passphrase: str) -> Access:
    """Return a second way in: ``key``, to be written down, or ``passphrase``."""
    if kind == "passphrase":
        return by_passphrase(passphrase)
    made = age.generate()
    return _of(made, secret=made.secret)


def by_passphrase(passphrase: str) -> Access:
    """Return the access of anyone who knows a passphrase.

    Raises:
        UsageError: The passphrase is too short.
    """
    if len(passphrase) < _SHORTEST:
        raise errors.ShortPassphrase(_SHORTEST)
    made = age.generate()
    locked = Locked(made.public, "passphrase", age.lock(made, passphrase))
    return _of(made, locked)


def by_kms(spec: str, repository: str) -> Access:
    """Return the access of anyone who may use a KMS key of AWS."""
    arn = kms.parse(spec)
    made = age.generate()
    data = kms.lock(made.secret, arn, repository)
    return _of(made, Locked(made.public, "awskms", data, arn))


def _of(made: age.Identity, locked: Locked | None = None, secret: str = "") -> Access:
    return Access((made.public,), {made.public: signing.public_of(made)}, locked, secret)
