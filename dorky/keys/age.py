"""Identities (age and SSH), and wrapping a repository's keys for their holders.

pyrage is used in memory only: its file helpers create world-readable files and may leave bytes
that were never verified. This module checks what it hands to pyrage, because pyrage panics on
some malformed SSH keys and on keys of low order.

Source: https://age-encryption.org/v1 (stanzas, and passphrases through scrypt), RFC 7748 (X25519).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from dorky import errors, files, native
from dorky.config import child_environment, find_program
from dorky.keys import ssh

Ask = Callable[[str], str | None]
"""Asks for a passphrase, given a prompt (without a colon); returns None if nobody can be asked."""

TRIES = 3
RECIPIENTS = 256
"""The most public keys that a key is wrapped to; the time that rage takes grows by the square of
their number, and for this many it is half a second."""
ROOM = 60 * 1024
"""The most bytes that the stanzas of all recipients may take; see `cost`."""
WORK = 18
"""The work of scrypt, as a power of two, for a passphrase: 256 MiB of memory, about a second."""
MOST_WORK = 20
"""The most work of scrypt that is accepted, for one file and for all of a header."""

_HEADER = 64 * 1024  # bytes before the wrapped key
_STANZAS = RECIPIENTS + 8  # rage adds one stanza that has no meaning
_NAMESAKES = 2  # stanzas that name one SSH key by 32 bits of its hash, each an RSA operation

_SECRET = re.compile("AGE-SECRET-KEY|AGE-PLUGIN-|PRIVATE KEY", re.IGNORECASE)
_PUBLIC = re.compile("age1|ssh-|ecdsa-|sk-", re.IGNORECASE)
_SCRYPT = re.compile(rb"age-encryption\.org/v1\n-> scrypt \S+ ([1-9]\d?)\n")
_BECH32 = {letter: n for n, letter in enumerate("qpzry9x8gf2tvdw0s3jn54khce6mua7l")}
_P = 2**255 - 19
_LOW_ORDER = frozenset(
    {
        0,
        1,
        _P - 1,
        0x00B8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0,
        0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F,
    }
)
"""The points of X25519 with which every secret key agrees on zero, so on no secret."""


class Identity(NamedTuple):
    """A secret key, and the public key that others encrypt to.

    Attributes:
        secret: ``AGE-SECRET-KEY-1…``, or the PEM text of an OpenSSH private key.
        public: ``age1…``, ``ssh-ed25519 AAAA…`` or ``ssh-rsa AAAA…``.
        source: Where an SSH key comes from; the prompt for its passphrase shows it.
    """

    secret: str
    public: str
    source: str = ""

    @property
    def locked(self) -> bool:
        """Return whether this is an SSH key under a passphrase, which is asked for when needed."""
        return self.public.startswith("ssh-") and ssh.locked(self.secret)

    def __repr__(self) -> str:
        # A secret must not show up in a traceback or a log.
        return f"Identity({self.public})"


def nobody(_prompt: str) -> str | None:
    """Return None for every prompt: the `Ask` for when nobody can be asked."""
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
        text: One age secret key per line (empty lines and ``#`` comments are skipped), or one
            SSH private key.
        source: Where the text comes from, for messages.

    Raises:
        IdentityMalformed: The text holds no identity, or a malformed one.
        UnusableIdentity: It is an SSH key of a type or format that dorky can't use.
    """
    from pyrage import IdentityError, x25519

    if "PRIVATE KEY-----" in text:
        try:
            return [Identity(*ssh.parse(text, source), source)]
        except BaseException as error:
            if not native.panicked(error):
                raise
            raise errors.IdentityMalformed(source) from None
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
        IdentityMissing: The file does not exist.
        IdentityExposed: Users other than its owner can read it, and the user could prevent that.
        IdentityMalformed: It holds no identity.
        UnusableIdentity: It is an SSH key of a type or format that dorky can't use.
    """
    return parse(read_secret(path), str(path))


def read_secret(path: Path) -> str:
    """Return the text of a file that holds a secret key.

    Raises:
        IdentityMissing: The file does not exist.
        IdentityExposed: Users other than its owner can read it, and the user could prevent that.
    """
    try:
        with files.disk_errors(path), path.open(encoding="utf-8", errors="replace") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            if mode & 0o077 and not _is_given(file.fileno()):
                raise errors.IdentityExposed(path, f"{mode:04o}")
            return file.read()
    except errors.DiskError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise errors.IdentityMissing(path) from None
        raise


def _is_given(fd: int) -> bool:
    """Return whether an identity file is one that the user can't close to others, and need not.

    Container platforms mount secrets so: read-only, or as root's files that a group may read.
    """
    found = os.fstat(fd)
    if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
        return True
    return found.st_uid == 0 != os.geteuid() and not found.st_mode & 0o022


def save(identity: Identity, path: Path) -> None:
    """Write a new identity file, mode 0600, in the format of age-keygen.

    Raises:
        DiskError: The file can't be written, or it exists: a secret key is never overwritten.
    """
    with files.disk_errors(path.parent):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = f"# public key: {identity.public}\n{identity.secret}\n"
    files.write_atomic(path, text.encode(), mode=0o600, replace=False)


def run_command(command: str) -> str:
    """Run the program that prints the identity (``DORKY_IDENTITY_CMD``).

    Args:
        command: Its name and arguments, quoted as for a shell; no shell is run. It inherits
            standard error; it gets no standard input, because that is input for dorky.

    Returns:
        The program's output: the text for `parse`.

    Raises:
        IdentityCommandFailed: The program can't be run, or failed. Its output is not shown.
    """
    try:
        arguments = shlex.split(command)
    except ValueError:
        raise errors.IdentityCommandFailed("DORKY_IDENTITY_CMD", "a quote is not closed") from None
    if not arguments:
        raise errors.IdentityCommandFailed("DORKY_IDENTITY_CMD", "it is empty")
    # TOKEN=secret before a command works in shells only, but people will try it.
    program = arguments[0].partition("=")[0]
    file = arguments[0] if "/" in arguments[0] else find_program(arguments[0])
    if file is None:
        raise errors.IdentityCommandFailed(program, "there is no such program")
    try:
        done = subprocess.run(
            [file, *arguments[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=child_environment(),
            check=False,
        )
    except FileNotFoundError:
        raise errors.IdentityCommandFailed(program, "there is no such program") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it can't be run"
        raise errors.IdentityCommandFailed(program, why) from None
    if done.returncode:
        raise errors.IdentityCommandFailed(program, f"exit status {done.returncode}")
    return done.stdout.decode(errors="replace")


# --- SSH keys under a passphrase --------------------------------------------------------------

_OPENED: dict[Identity, Identity] = {}
"""The unlocked SSH keys: the user is asked for a passphrase once, not once per group."""


def opened(identity: Identity, ask: Ask) -> Identity | None:
    """Return an identity without its passphrase, asked for once; None if nobody gives one.

    Raises:
        WrongPassphrase: Three passphrases were wrong, or the same one twice.
        UnusableIdentity: The SSH key is encrypted in a way that is not supported.
        MissingLibrary: bcrypt, which OpenSSH's passphrases need, is not installed.
    """
    found: Identity | None = _OPENED.get(identity, identity)
    return _open(found, ask) if found and found.locked else found


def _open(identity: Identity, ask: Ask) -> Identity | None:
    """Decrypt an SSH key with its passphrase; return None if nobody gives one."""
    if find_spec("bcrypt") is None:
        raise errors.MissingLibrary("An SSH key with a passphrase", "bcrypt")
    answers: list[str] = []
    while len(answers) < TRIES:
        answer = ask(f"Passphrase of the SSH key in {identity.source}")
        if not answer:
            return None
        if answer in answers:  # from the environment: asking again is useless
            break
        if bare := ssh.opened(identity.secret, identity.public, answer, identity.source):
            opened = Identity(bare, identity.public, identity.source)
            return _OPENED.setdefault(identity, opened)
        answers.append(answer)
    raise errors.WrongPassphrase(identity.source)


# --- public keys ----------------------------------------------------------------------------


def recipient(text: str) -> str:
    """Check a public key, and return it in the form that dorky compares and keeps: no comment.

    Raises:
        BadRecipient: Nothing can be encrypted to it. The message shows nothing that may be a
            secret.
    """
    return _recipient(text, "")


def recipients(text: str) -> list[str]:
    """Read a file of public keys, one per line, with ``#`` comments; return each key once.

    ``~/.ssh/*.pub`` files and the answers of github.com/USER.keys have this form.

    Raises:
        BadRecipient: The file holds no key, an unusable key, or a secret key.
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


def problem(recipient: str) -> str:
    """Return why nothing can be encrypted to a roster's key; an empty text if it is usable."""
    try:
        # With a second spelling, one key would count as two.
        return "" if _recipient(recipient, "") == recipient else "it is not in its usual form"
    except errors.BadRecipient as error:
        return str(error.args[1])


def cost(recipient: str) -> int:
    """Return the most bytes that the stanza of a public key takes."""
    return len(recipient) + 60


def fingerprint(recipient: str) -> str:
    """Return the fingerprint that people compare; for an SSH key, the one of ``ssh-keygen -l``.

    The fingerprint of an age key is the SHA-256 of its text.

    Raises:
        BadRecipient: The text begins like an SSH key but is none.
    """
    if recipient.startswith("ssh-"):
        return ssh.fingerprint(_recipient(recipient, ""))
    return anonymous(recipient)


def anonymous(text: str) -> str:
    """Return a fingerprint of any text, key or not, that reveals nothing of the text."""
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).digest()
    return f"SHA256:{_unpadded(digest)}"


@lru_cache(4 * RECIPIENTS)
def _recipient(text: str, where: str) -> str:
    import pyrage

    if _SECRET.search(text):
        raise _a_secret()
    text = text.strip()
    # A text that begins like no public key may be a passphrase, so it is not repeated.
    known = _PUBLIC.match(text)
    shown = f"{text[:20]!a}{where}" if known else f"What stands{where or ' there'}"
    try:
        if not known:
            raise ssh.Unfit("it begins neither with age1 nor with ssh-ed25519 or ssh-rsa")
        if len(text.splitlines()) > 1:
            raise ValueError("it has several lines")
        if known[0].lower() == "age1":
            if "1" in text[4:]:
                raise ssh.Unfit("it is of an age plugin, or of another kind than X25519")
            public = str(pyrage.x25519.Recipient.from_str(text))
            _check_point(public)
            _try(public)
            return public
        kind, encoded = (*text.split(), "")[:2]
        if kind not in {"ssh-ed25519", "ssh-rsa"}:
            raise ssh.Unfit(ssh.TYPES)
        public = ssh.public_of(ssh.decoded(encoded))
        if public.split()[0] != kind:
            raise ValueError(ssh.DAMAGED)
        _try(public)
    except pyrage.RecipientError:
        raise errors.BadRecipient(shown, ssh.DAMAGED) from None
    except ValueError as error:
        raise errors.BadRecipient(shown, error) from None
    return public


def _check_point(public: str) -> None:
    """Refuse an age key with a valid checksum that is not a point of X25519 fit to encrypt to."""
    point = int.from_bytes(_unpacked(public.removeprefix("age1")), "little")
    if point >= _P:
        raise ssh.Unfit(ssh.UNUSUAL)
    if point in _LOW_ORDER:
        raise ssh.Unfit(ssh.LOW_ORDER)


def _unpacked(letters: str) -> bytes:
    """Return the 32 bytes in a Bech32 text, whose prefix is cut off and whose checksum is valid."""
    number = 0
    for letter in letters[:-6]:
        number = number << 5 | _BECH32[letter]
    # 52 letters are 260 bits: the last 4 are padding.
    return (number >> 4).to_bytes(32, "big")


def scalar(identity: Identity) -> bytes:
    """Return the 32 secret bytes of an age identity."""
    return _unpacked(identity.secret.rpartition("1")[2].lower())


def _try(public: str) -> None:
    """Try to encrypt to a public key, so that an unusable one is found before it is kept."""
    import pyrage

    try:
        pyrage.encrypt(b"", [_encrypting(public)])
    except (pyrage.EncryptError, ValueError):
        raise ssh.Unfit("nothing can be encrypted to it") from None
    except BaseException as error:
        if not native.panicked(error):
            raise
        raise ssh.Unfit("nothing can be encrypted to it") from None


def _encrypting(public: str) -> Any:
    import pyrage

    kind = pyrage.ssh if public.startswith("ssh-") else pyrage.x25519
    return kind.Recipient.from_str(public)


def _a_secret() -> errors.BadRecipient:
    return errors.BadRecipient("A secret key", "keep it to yourself", kind="secret")


def _unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


# --- wrapping -------------------------------------------------------------------------------


def wrap(key: bytes, recipients: Sequence[str]) -> bytes:
    """Encrypt a key to recipients, age and SSH in any mixture.

    Returns:
        A binary age file.

    Raises:
        BadRecipient: One is not a public key that age encrypts to.
        UsageError: There are more than `RECIPIENTS`, or they take more room than readers accept.
    """
    import pyrage

    checked = [recipient(public) for public in recipients]
    if len(checked) > RECIPIENTS:
        raise errors.UsageError(f"{len(checked)} public keys are more than a key is wrapped to")
    try:
        wrapped = bytes(pyrage.encrypt(key, [_encrypting(public) for public in checked]))
    except BaseException as error:
        if not native.panicked(error):
            raise
        raise errors.BadRecipient("One of the keys", "nothing can be encrypted to it") from None
    if _too_long(wrapped):
        raise errors.UsageError(f"{len(checked)} public keys are more than a key is wrapped to")
    return wrapped


def _too_long(data: bytes) -> bool:
    """Return whether an age file's header is too long to be read; the file may be hostile."""
    return not 0 <= data.find(b"\n---") <= _HEADER


def unwrap(
    wrapped: bytes, identities: Sequence[Identity], ask: Ask = nobody, *, most: int = _STANZAS
) -> bytes | None:
    """Decrypt a wrapped key.

    The passphrase of an SSH key is asked for once, after all other keys were tried, and only if
    the file names that key.

    Args:
        wrapped: An age file from the bucket, so possibly hostile.
        identities: The user's.
        ask: Asks for the passphrase of an SSH key.
        most: The most stanzas that are read; a file with more is treated as unreadable.

    Returns:
        The key; None if it is wrapped to none of the identities, was altered (age can't tell the
        two apart, so the caller checks the key's commitment), or has too many stanzas.

    Raises:
        WrongPassphrase: Three passphrases were wrong, or the same one twice.
        UnusableIdentity: The SSH key is encrypted in a way that is not supported.
        MissingLibrary: bcrypt, which OpenSSH's passphrases need, is not installed.
    """
    import pyrage

    if _too_long(wrapped):
        return None
    named = _stanzas(wrapped)
    if len(named) > most:
        return None
    for known in sorted(identities, key=lambda one: one.locked and one not in _OPENED):
        if not _is_named(known, named):
            continue
        if identity := opened(known, ask):
            try:
                return bytes(pyrage.decrypt(wrapped, [_key(identity)]))
            except pyrage.DecryptError:
                continue
            except BaseException as error:
                if not native.panicked(error):
                    raise
    return None


def _key(identity: Identity) -> Any:
    import pyrage

    if identity.public.startswith("ssh-"):
        return pyrage.ssh.Identity.from_buffer(identity.secret.encode())
    return pyrage.x25519.Identity.from_str(identity.secret)


def stanzas(wrapped: bytes) -> int:
    """Return the number of stanzas in an age file's header, which decides what opening it costs."""
    return len(_stanzas(wrapped))


def _stanzas(wrapped: bytes) -> list[bytes]:
    """Return the first two words of each stanza in an age file's header."""
    header = wrapped.partition(b"\n---")[0]
    return [
        b" ".join(line.split(b" ")[1:3]) for line in header.split(b"\n") if line.startswith(b"->")
    ]


def _is_named(identity: Identity, named: Sequence[bytes]) -> bool:
    """Return whether one of the stanzas may be for an identity."""
    if identity.public.startswith("ssh-"):
        return 0 < named.count(ssh.tag(identity.public)) <= _NAMESAKES
    return any(stanza.startswith(b"X25519 ") for stanza in named)


# --- under a passphrase ---------------------------------------------------------------------


def lock(identity: Identity, passphrase: str) -> bytes:
    """Encrypt an age identity with a passphrase, which takes about a second.

    The passphrase becomes a recipient through this identity. age allows no other recipient in a
    file with a passphrase, and a rotation must encrypt to it without knowing it. pyrage does not
    write the file: it sets scrypt's work by the machine's speed, so a busy one gets too little.

    Returns:
        A binary age file, which the age program takes as an identity file.

    Raises:
        UsageError: The passphrase is empty.
    """
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    if not passphrase:
        raise errors.UsageError("The passphrase is empty")
    file_key, salt, nonce = os.urandom(16), os.urandom(16), os.urandom(16)
    scrypt = Scrypt(b"age-encryption.org/v1/scrypt" + salt, length=32, n=1 << WORK, r=8, p=1)
    sealed = ChaCha20Poly1305(scrypt.derive(passphrase.encode())).encrypt(bytes(12), file_key, None)
    header = f"age-encryption.org/v1\n-> scrypt {_unpadded(salt)} {WORK}\n{_unpadded(sealed)}\n---"
    mac = hmac.digest(hkdf(file_key, bytes(32), b"header"), header.encode(), "sha256")
    # The payload is a single chunk, so also the last one: its nonce is the number 0, then a 1.
    payload = ChaCha20Poly1305(hkdf(file_key, nonce, b"payload")).encrypt(
        bytes(11) + b"\1", f"{identity.secret}\n".encode(), None
    )
    return f"{header} {_unpadded(mac)}\n".encode() + nonce + payload


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """Derive 32 bytes by HKDF-SHA256 (RFC 5869)."""
    return hmac.digest(hmac.digest(salt, key, "sha256"), info + b"\1", "sha256")


def work(data: bytes) -> int:
    """Return the scrypt work that a file of `lock` needs; 0 if invalid or too much."""
    found = _SCRYPT.match(data)
    power = int(found[1]) if found and not _too_long(data) else 0
    return 1 << power if 0 < power <= MOST_WORK else 0


def unlock(data: bytes, passphrase: str) -> Identity | None:
    """Decrypt what `lock` made.

    Returns:
        The identity; None if the passphrase is wrong, the data was altered, or it needs more work
        than is reasonable: the data comes from the bucket, so it may be hostile.
    """
    import pyrage

    if not passphrase or not work(data) or stanzas(data) > 1:
        return None
    try:
        text = bytes(pyrage.passphrase.decrypt(data, passphrase)).decode()
        return parse(text, "passphrase")[0]
    except (pyrage.DecryptError, UnicodeDecodeError, errors.AccessError):
        return None
    except BaseException as error:
        if not native.panicked(error):
            raise
        return None
