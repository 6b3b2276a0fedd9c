"""Identities (age and SSH), and wrapping a repository's keys for the people who hold them.

pyrage is used in memory only: its file helpers create world-readable files and may leave bytes
that were never verified. What reaches it was looked at before: on some malformed SSH keys it
panics.

Sources: https://age-encryption.org/v1 (stanzas, and passphrases through scrypt), OpenSSH's
PROTOCOL.key (private keys), RFC 4253 section 6.6 and RFC 8709 (public keys).
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from dorky import errors, files

Ask = Callable[[str], str | None]
"""Asks for a passphrase by a prompt (without a colon); None if there is nobody to ask."""

TRIES = 3
_RSA_BITS = range(2048, 4097)  # what age takes, and what pyrage can
_WORK = 21  # scrypt's, as a power of two: 2 GiB of memory, and some seconds

_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----\s(.*)-----END \1-----", re.DOTALL)
_DAMAGED = "it is cut off, mistyped or damaged"
_MAGIC = b"openssh-key-v1\0"
_SECRET = re.compile("AGE-SECRET-KEY|AGE-PLUGIN-|PRIVATE KEY", re.IGNORECASE)
_PUBLIC = re.compile("age1|ssh-|ecdsa-|sk-", re.IGNORECASE)
_SCRYPT = re.compile(rb"age-encryption\.org/v1\n-> scrypt \S+ ([1-9]\d?)\n")


class Identity(NamedTuple):
    """A secret key, and the public key that others seal to.

    Attributes:
        secret: ``AGE-SECRET-KEY-1…``, or the PEM text of an OpenSSH private key.
        public: ``age1…``, ``ssh-ed25519 AAAA…`` or ``ssh-rsa AAAA…``.
        source: Where an SSH key is from, to ask for its passphrase by.
    """

    secret: str
    public: str
    source: str = ""

    @property
    def locked(self) -> bool:
        """Whether it is an SSH key under a passphrase, which is asked for when it is needed."""
        return self.public.startswith("ssh-") and _envelope(self.secret).cipher != b"none"

    def __repr__(self) -> str:
        # A secret must not show up in a traceback or a log.
        return f"Identity({self.public})"


def nobody(_prompt: str) -> str | None:
    """The `Ask` of those who can't be asked."""
    return None


# --- identities -----------------------------------------------------------------------------


def generate() -> Identity:
    """Make a new X25519 identity."""
    from pyrage import x25519

    secret = x25519.Identity.generate()
    return Identity(str(secret), str(secret.to_public()))


def parse(text: str, source: str) -> list[Identity]:
    """Read the identities in the text of an identity file.

    Args:
        text: One age secret key a line (empty lines and ``#`` comments are passed over), or one
            SSH private key.
        source: Where the text is from, for messages.

    Raises:
        IdentityMalformed: There is none, or one is not well formed.
        UnusableIdentity: It is an SSH key of a type or format that can't be used.
    """
    from pyrage import IdentityError, x25519

    if "PRIVATE KEY-----" in text:
        return [_parse_ssh(text, source)]
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
        UnusableIdentity: It is an SSH key of a type or format that can't be used.
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


def run_command(command: str) -> str:
    """Let a program print the identity (``DORKY_IDENTITY_CMD``).

    Args:
        command: Its name and arguments, quoted as for a shell; no shell is run. Its standard
            error is ours; it has no standard input, because what is piped to dorky is not for it.

    Returns:
        What it printed: the text for `parse`.

    Raises:
        IdentityCommandFailed: It can't be run, or it failed. What it printed is not shown.
    """
    try:
        arguments = shlex.split(command)
    except ValueError:
        raise errors.IdentityCommandFailed("DORKY_IDENTITY_CMD", "a quote is not closed") from None
    if not arguments:
        raise errors.IdentityCommandFailed("DORKY_IDENTITY_CMD", "it is empty")
    # TOKEN=secret before a command is for shells only, but people will try.
    program = arguments[0].partition("=")[0]
    try:
        done = subprocess.run(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False
        )
    except FileNotFoundError:
        raise errors.IdentityCommandFailed(program, "there is no such program") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it can't be run"
        raise errors.IdentityCommandFailed(program, why) from None
    if done.returncode:
        raise errors.IdentityCommandFailed(program, f"exit status {done.returncode}")
    return done.stdout.decode(errors="replace")


# --- SSH private keys -----------------------------------------------------------------------


class _Unfit(ValueError):
    """A sound SSH key, but of a kind that age can't seal to; says why."""


class _Envelope(NamedTuple):
    """What is in the clear in an OpenSSH private key."""

    cipher: bytes
    blob: bytes


def _envelope(pem: str) -> _Envelope:
    """Read it; ValueError if it is damaged."""
    found = _PEM.fullmatch(pem.strip())
    stream = BytesIO(_decoded("".join(found[2].split())) if found else b"")
    if stream.read(len(_MAGIC)) != _MAGIC:
        raise ValueError(_DAMAGED)
    cipher, _kdf, _options = (_string(stream) for _ in range(3))
    if stream.read(4) != b"\0\0\0\1":
        raise ValueError("it holds several keys")
    return _Envelope(cipher, _string(stream))


def _parse_ssh(text: str, source: str) -> Identity:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        load_pem_private_key,
        load_ssh_private_key,
    )

    found = _PEM.fullmatch(text.strip("\ufeff \t\r\n"))
    if not found:
        raise errors.IdentityMalformed(source)
    try:
        if found[1] == "OPENSSH PRIVATE KEY":
            # Wrapped anew: secret stores of CI systems like to make blanks of newlines.
            body = "\n".join(found[2].split())
            secret = f"-----BEGIN {found[1]}-----\n{body}\n-----END {found[1]}-----\n"
            cipher, blob = _envelope(secret)
            public = _ssh_public(blob)
            if (
                cipher == b"none"
                and public != _halves(load_ssh_private_key(secret.encode(), None))[1]
            ):
                raise ValueError(_DAMAGED)
        else:
            lines = "\n".join(line.strip() for line in found[0].splitlines())
            secret, public = _halves(load_pem_private_key(f"{lines}\n".encode(), None))
    except _Unfit as error:
        raise errors.UnusableIdentity(source, error) from None
    except TypeError:  # cryptography's word for: it is encrypted
        raise errors.UnusableIdentity(
            source,
            "it has a passphrase, in a format of old",
            hint=f"ssh-keygen -p -f {shlex.quote(source) if '/' in source else 'FILE'} converts it",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise errors.IdentityMalformed(source) from None
    return Identity(secret, public, source)


def _halves(key: Any) -> tuple[str, str]:
    """A private key of `cryptography` as an OpenSSH private key, and its public key."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    if not isinstance(key, Ed25519PrivateKey | RSAPrivateKey):
        raise _Unfit(_TYPES)
    bare = key.private_bytes(
        form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()
    ).decode()
    return bare, _ssh_public(_envelope(bare).blob)


_OPENED: dict[Identity, Identity] = {}
"""The SSH keys that were opened: a passphrase is asked for once, not once a group."""


def _open(identity: Identity, ask: Ask) -> Identity | None:
    """Take the passphrase off an SSH key; None if nobody gives one."""
    if find_spec("bcrypt") is None:
        raise errors.MissingLibrary("An SSH key with a passphrase", "bcrypt")
    answers: list[str] = []
    while len(answers) < TRIES:
        answer = ask(f"Passphrase of the SSH key in {identity.source}")
        if not answer:
            return None
        if answer in answers:  # from the environment: it won't get better
            break
        if opened := _opened(identity, answer):
            return _OPENED.setdefault(identity, opened)
        answers.append(answer)
    raise errors.WrongPassphrase(identity.source)


def _opened(identity: Identity, passphrase: str) -> Identity | None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    try:
        key = load_ssh_private_key(identity.secret.encode(), passphrase.encode())
        secret, public = _halves(key)
    except UnsupportedAlgorithm:
        cipher = _envelope(identity.secret).cipher.decode(errors="replace")
        raise errors.UnusableIdentity(
            identity.source,
            f"its cipher {cipher!a} is not supported",
            hint="ssh-keygen -p -Z aes256-ctr -f FILE changes it",
        ) from None
    except ValueError:
        return None
    return Identity(secret, public, identity.source) if public == identity.public else None


# --- public keys ----------------------------------------------------------------------------

_TYPES = "age seals to SSH keys of the types ed25519 and RSA only"


def recipient(text: str) -> str:
    """Check a public key, and write it as dorky compares and keeps it: without a comment.

    Raises:
        BadRecipient: It is none that can be sealed to. The message shows nothing that may be a
            secret.
    """
    return _recipient(text, "")


def recipients(text: str) -> list[str]:
    """Read a file of public keys: one a line, with ``#`` comments; each comes out once.

    That is also the form of ``~/.ssh/*.pub`` and of what github.com/USER.keys answers.

    Raises:
        BadRecipient: There is none, one can't be sealed to, or the file holds a secret key.
    """
    if _SECRET.search(text):
        raise _a_secret()
    found = [
        _recipient(line, f" in line {number}")
        for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not found:
        raise errors.BadRecipient("An empty file", "it holds none")
    return list(dict.fromkeys(found))


def fingerprint(recipient: str) -> str:
    """What people compare: for an SSH key as ``ssh-keygen -l`` prints it.

    That of an age key is the SHA-256 of its text.

    Raises:
        BadRecipient: It begins like an SSH key but is none.
    """
    data = recipient.encode()
    if recipient.startswith("ssh-"):
        data = _blob(_recipient(recipient, ""))
    return f"SHA256:{_unpadded(hashlib.sha256(data).digest())}"


def _recipient(text: str, where: str) -> str:
    import pyrage

    if _SECRET.search(text):
        raise _a_secret()
    text = text.strip()
    # A word that begins like no public key may be a passphrase: it is not repeated.
    known = _PUBLIC.match(text)
    shown = f"{text[:20]!a}{where}" if known else f"What stands{where or ' there'}"
    try:
        if not known:
            raise _Unfit("it begins neither with age1 nor with ssh-ed25519 or ssh-rsa")
        if len(text.splitlines()) > 1:
            raise ValueError("it has several lines")
        if known[0].lower() == "age1":
            if "1" in text[4:]:
                raise _Unfit("it is of an age plugin, or of another kind than X25519")
            return str(pyrage.x25519.Recipient.from_str(text))
        kind, encoded = (*text.split(), "")[:2]
        if kind not in {"ssh-ed25519", "ssh-rsa"}:
            raise _Unfit(_TYPES)
        public = _ssh_public(_decoded(encoded))
        if public.split()[0] != kind:
            raise ValueError(_DAMAGED)
        pyrage.ssh.Recipient.from_str(public)
    except pyrage.RecipientError:
        raise errors.BadRecipient(shown, _DAMAGED) from None
    except ValueError as error:
        raise errors.BadRecipient(shown, error) from None
    return public


def _a_secret() -> errors.BadRecipient:
    return errors.BadRecipient(
        "A secret key",
        "keep it to yourself",
        hint="give its public half, which age-keygen -y FILE or ssh-keygen -y -f FILE prints",
    )


def _ssh_public(blob: bytes) -> str:
    """The line of an SSH public key; ValueError if it is none that age seals to."""
    stream = BytesIO(blob)
    kind = _string(stream)
    if kind not in {b"ssh-ed25519", b"ssh-rsa"}:
        raise _Unfit(_TYPES)
    if kind == b"ssh-rsa":
        exponent, modulus = _positive(stream), _positive(stream)
        if modulus.bit_length() not in _RSA_BITS:
            raise _Unfit(
                f"an RSA key of {modulus.bit_length()} bits: "
                f"age takes {_RSA_BITS[0]} to {_RSA_BITS[-1]}"
            )
        if not exponent & modulus & 1:
            raise ValueError(_DAMAGED)
    elif len(_string(stream)) != 32:
        raise ValueError(_DAMAGED)
    if stream.read(1):
        raise ValueError(_DAMAGED)
    return f"{kind.decode()} {base64.b64encode(blob).decode()}"


def _blob(public: str) -> bytes:
    return _decoded(public.split()[1])


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError(_DAMAGED) from None


def _string(stream: BytesIO) -> bytes:
    """The next string of an SSH format (RFC 4251, section 5)."""
    head = stream.read(4)
    data = stream.read(int.from_bytes(head, "big"))
    if len(head) < 4 or len(data) < int.from_bytes(head, "big"):
        raise ValueError(_DAMAGED)
    return data


def _positive(stream: BytesIO) -> int:
    """The next number (RFC 4251: mpint) that is not negative, in its one right form or as 00."""
    data = _string(stream)
    number = int.from_bytes(data, "big")
    if data != number.to_bytes(number.bit_length() // 8 + 1, "big"):
        raise ValueError(_DAMAGED)
    return number


def _unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


# --- wrapping -------------------------------------------------------------------------------


def wrap(key: bytes, recipients: Sequence[str]) -> bytes:
    """Encrypt a key to recipients, age and SSH in any mixture.

    Returns:
        A binary age file.

    Raises:
        BadRecipient: One is no public key that age seals to.
    """
    import pyrage

    checked = [recipient(each) for each in recipients]
    return bytes(
        pyrage.encrypt(
            key,
            [
                (pyrage.ssh if each.startswith("ssh-") else pyrage.x25519).Recipient.from_str(each)
                for each in checked
            ],
        )
    )


def unwrap(wrapped: bytes, identities: Sequence[Identity], ask: Ask = nobody) -> bytes | None:
    """Open a wrapped key.

    The passphrase of an SSH key is asked for once, after all other keys were tried, and only if
    the file names that key.

    Returns:
        The key; None if it is not wrapped to any of the identities (or was altered: age can't
        tell the two apart, so the caller checks the key's commitment).

    Raises:
        WrongPassphrase: Three passphrases were wrong, or the same one twice.
        UnusableIdentity: The SSH key is encrypted in a way that is not supported.
        MissingLibrary: bcrypt is not installed, which OpenSSH's passphrases need.
    """
    import pyrage

    named = _stanzas(wrapped)
    for each in sorted(identities, key=lambda one: one.locked and one not in _OPENED):
        identity: Identity | None = _OPENED.get(each, each)
        if identity and identity.locked:
            identity = _open(identity, ask) if _tag(identity.public) in named else None
        if identity:
            try:
                return bytes(pyrage.decrypt(wrapped, [_key(identity)]))
            except pyrage.DecryptError:
                continue
    return None


def _key(identity: Identity) -> Any:
    import pyrage

    if identity.public.startswith("ssh-"):
        return pyrage.ssh.Identity.from_buffer(identity.secret.encode())
    return pyrage.x25519.Identity.from_str(identity.secret)


def _stanzas(wrapped: bytes) -> set[bytes]:
    """The first two words of each stanza in an age file's header."""
    header = wrapped.partition(b"\n---")[0]
    return {
        b" ".join(line.split(b" ")[1:3]) for line in header.split(b"\n") if line.startswith(b"-> ")
    }


def _tag(public: str) -> bytes:
    """How age names an SSH key in a stanza (C2SP age-ssh, and its README)."""
    tag = _unpadded(hashlib.sha256(_blob(public)).digest()[:4])
    return f"{public.split(maxsplit=1)[0]} {tag}".encode()


# --- under a passphrase ---------------------------------------------------------------------


def lock(identity: Identity, passphrase: str) -> bytes:
    """Encrypt an age identity with a passphrase; takes about a second.

    So a passphrase can be a recipient: age forbids it beside others in one file, and a rotation
    must be able to seal to it without knowing it.

    Returns:
        A binary age file, which is an identity file for the age program.

    Raises:
        UsageError: The passphrase is empty.
    """
    import pyrage

    if not passphrase:
        raise errors.UsageError("The passphrase is empty")
    return bytes(pyrage.passphrase.encrypt(f"{identity.secret}\n".encode(), passphrase))


def unlock(data: bytes, passphrase: str) -> Identity | None:
    """Open what `lock` made.

    Returns:
        The identity; None if the passphrase is another, the data was altered, or it asks for
        more work than is reasonable: it comes from where others can write.
    """
    import pyrage

    work = _SCRYPT.match(data)
    if not passphrase or not work or int(work[1]) > _WORK:
        return None
    try:
        text = bytes(pyrage.passphrase.decrypt(data, passphrase)).decode()
        return parse(text, "passphrase")[0]
    except (pyrage.DecryptError, UnicodeDecodeError, errors.AccessError):
        return None
