"""age identities, and wrapping a repository's keys for the people who hold them.

pyrage is used in memory only: its file helpers create world-readable files and may leave bytes
that were never verified.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dorky import errors, files


class Identity(NamedTuple):
    """An age identity: a secret key, and the public key that others seal to."""

    secret: str
    public: str

    def __repr__(self) -> str:
        # A secret must not show up in a traceback or a log.
        return f"Identity({self.public})"


def generate() -> Identity:
    """Make a new X25519 identity."""
    from pyrage import x25519

    secret = x25519.Identity.generate()
    return Identity(str(secret), str(secret.to_public()))


def parse(text: str, source: str) -> list[Identity]:
    """Read the identities in the text of an age identity file.

    Args:
        text: One secret key a line; empty lines and ``#`` comments are passed over.
        source: Where the text is from, for messages.

    Raises:
        IdentityMalformed: There is none, or one is not well formed.
    """
    from pyrage import IdentityError, x25519

    found = []
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            found.append(Identity(line, str(x25519.Identity.from_str(line).to_public())))
        except IdentityError:
            raise errors.IdentityMalformed(source) from None
    if not found:
        raise errors.IdentityMalformed(source)
    return found


def load(path: Path) -> list[Identity]:
    """Read an identity file.

    Raises:
        IdentityMissing: There is no such file.
        IdentityExposed: Others than its owner can read it.
        IdentityMalformed: It holds no identity.
    """
    try:
        with files.disk_errors(path), path.open(encoding="utf-8", errors="replace") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            if mode & 0o077:
                raise errors.IdentityExposed(path, f"{mode:04o}")
            text = file.read()
    except errors.DiskError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise errors.IdentityMissing(path) from None
        raise
    return parse(text, str(path))


def save(identity: Identity, path: Path) -> None:
    """Write a new identity file, mode 0600, in the format of age-keygen.

    Raises:
        DiskError: It can't be written, or there is one: a secret key is never overwritten.
    """
    with files.disk_errors(path.parent):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = f"# public key: {identity.public}\n{identity.secret}\n"
    files.write_atomic(path, text.encode(), mode=0o600, replace=False)


def wrap(key: bytes, recipients: Sequence[str]) -> bytes:
    """Encrypt a key to age recipients.

    Returns:
        A binary age file.

    Raises:
        UsageError: A recipient is not an age public key.
    """
    import pyrage

    public = []
    for recipient in recipients:
        try:
            public.append(pyrage.x25519.Recipient.from_str(recipient))
        except pyrage.RecipientError as error:
            raise errors.UsageError(f"{recipient!a} is no age public key: {error}") from None
    return bytes(pyrage.encrypt(key, public))


def unwrap(wrapped: bytes, identities: Sequence[Identity]) -> bytes | None:
    """Open a wrapped key.

    Returns:
        The key; None if it is not wrapped to any of the identities (or was altered: age can't
        tell the two apart, so the caller checks the key's commitment).
    """
    import pyrage

    secrets = [pyrage.x25519.Identity.from_str(identity.secret) for identity in identities]
    try:
        return bytes(pyrage.decrypt(wrapped, secrets))
    except pyrage.DecryptError:
        return None
