"""Access: the keys that a new member gets, or brings."""

from __future__ import annotations

from typing import NamedTuple

from dorky import errors, files
from dorky.format.model import Locked
from dorky.keys import age, kms

_SHORTEST = 12
"""The fewest characters of a passphrase: anyone who can read the bucket can try guesses."""


class Access(NamedTuple):
    """The access that a new member gets.

    Attributes:
        recipients: The public keys.
        locked: The secret key of the one recipient, if it is to lie in the repository.
        secret: The secret key, if somebody must write it down.
    """

    recipients: tuple[str, ...]
    locked: Locked | None = None
    secret: str = ""


def parse(text: str, *, passphrase: str, repository: str) -> Access:
    """Return the access that a user names.

    Args:
        text: ``age1…``, ``ssh-…``, ``@FILE`` of such keys, ``passphrase``, ``awskms:ARN``.
        passphrase: The passphrase, if ``text`` is ``passphrase``.
        repository: The repository's id.
    """
    if text == "passphrase":
        return by_passphrase(passphrase)
    if text.startswith("awskms:"):
        return by_kms(text, repository)
    if text.startswith("@"):
        path = files.expanded(text[1:])
        with files.disk_errors(path):
            keys = path.read_text("utf-8", errors="replace")
        return Access(tuple(age.recipients(keys)))
    return Access((age.recipient(text),))


def recovery(kind: str, passphrase: str) -> Access:
    """Return a second way in: ``key``, to be written down, or ``passphrase``."""
    if kind == "passphrase":
        return by_passphrase(passphrase)
    made = age.generate()
    return Access((made.public,), secret=made.secret)


def by_passphrase(passphrase: str) -> Access:
    """Return the access of anyone who knows a passphrase.

    Raises:
        UsageError: The passphrase is too short.
    """
    if len(passphrase) < _SHORTEST:
        raise errors.ShortPassphrase(_SHORTEST)
    made = age.generate()
    locked = Locked(made.public, "passphrase", age.lock(made, passphrase))
    return Access((made.public,), locked)


def by_kms(spec: str, repository: str) -> Access:
    """Return the access of anyone who may use a KMS key of AWS."""
    arn = kms.parse(spec)
    made = age.generate()
    data = kms.lock(made.secret, arn, repository)
    return Access((made.public,), Locked(made.public, "awskms", data, arn))
