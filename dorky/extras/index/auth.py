"""Access to the server: opaque tokens, and JSON Web Tokens that a known key has signed.

The token file has a line for each of them; ``#`` begins a comment::

    ci      write  sha256:9f86d081…          expires=2027-01-31
    laptop  read   sha256:60303ae2…
    github  write  key:github.pem            issuer=https://… audience=dorky subject=repo:acme/core

An opaque token is stored by its SHA-256 alone, which is enough for 256 random bits. A JSON Web
Token is accepted if the key of such a line has signed it, with the one algorithm that the key is
for, and if it expires. Its claim ``scope`` can only narrow what the line allows.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
import secrets
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, NamedTuple

from dorky import errors
from dorky.results import PythonToken

PREFIX = "dorky_"
"""The beginning of each token that is made here, for scanners that look for leaked ones."""

_HEX = 64
_LARGEST = 1 << 20
_LONGEST = 8 << 10
_FAILURES = 10
_WINDOW = 60.0
_ADDRESSES = 10_000
_RSA_BITS = 2048
_CLAIMS = ("issuer", "audience", "subject")


class Caller(NamedTuple):
    """A client that has shown a valid token.

    Attributes:
        name: The name of the token's line.
        may_write: Whether it may upload.
    """

    name: str
    may_write: bool


class _Token(NamedTuple):
    caller: Caller
    digest: bytes
    expires: datetime | None


class _Signer(NamedTuple):
    caller: Caller
    key: Any
    algorithm: str
    claims: dict[str, str]


class Access(NamedTuple):
    """The tokens and keys of a token file."""

    tokens: tuple[_Token, ...]
    signers: tuple[_Signer, ...]

    @property
    def names(self) -> set[str]:
        """Return the names of all lines."""
        callers = [held.caller for held in self.tokens] + [held.caller for held in self.signers]
        return {caller.name for caller in callers}

    def caller(self, token: str) -> Caller | None:
        """Return the client that shows a token; None if the token is not valid."""
        if len(token) > _LONGEST:
            return None
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found: _Token | None = None
        for held in self.tokens:  # all of them, so that the time tells nothing
            if hmac.compare_digest(held.digest, digest):
                found = held
        if found:
            valid = found.expires is None or datetime.now(timezone.utc) < found.expires
            return found.caller if valid else None
        return next(filter(None, (_signed(token, signer) for signer in self.signers)), None)


def only(name: str, token: str) -> Access:
    """Return the access of one token, for reading."""
    digest = hashlib.sha256(token.encode()).digest()
    return Access((_Token(Caller(name, may_write=False), digest, None),), ())


def _signed(token: str, signer: _Signer) -> Caller | None:
    import jwt

    try:
        claims = jwt.decode(
            token,
            signer.key,
            algorithms=[signer.algorithm],
            options={"require": ["exp", *_required(signer)]},
            issuer=signer.claims.get("issuer"),
            audience=signer.claims.get("audience"),
            subject=signer.claims.get("subject"),
        )
    except (jwt.PyJWTError, ValueError):
        return None
    scope = claims.get("scope")
    narrowed = scope is not None and "write" not in str(scope).split()
    return signer.caller._replace(may_write=signer.caller.may_write and not narrowed)


def _required(signer: _Signer) -> list[str]:
    return [name[:3] for name in signer.claims]  # iss, aud, sub


def token_in(header: str) -> str | None:
    """Return the token in an Authorization header: Bearer, or Basic with any user name.

    Returns:
        The token; None if the header is malformed or of another scheme.
    """
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip() or None
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(rest.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    user, _, password = text.partition(":")
    # Some tools take a token as the user name alone.
    return password or user or None


# --- the token file --------------------------------------------------------------------------


def load(path: Path) -> Access:
    """Read a token file.

    Raises:
        PathNotFound: It is not there.
        UnreadableFile: It can't be read.
        BadConfig: Others may write to it, or a line is wrong.
    """
    tokens: list[_Token] = []
    signers: list[_Signer] = []
    names: set[str] = set()
    for number, line in enumerate(_read(path).splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            held = _line(words, path.parent)
        except (ValueError, OSError) as error:
            # The line itself is not told: it may hold a token that was not hashed.
            raise errors.BadConfig(path, f"line {number}: {error}") from None
        if held.caller.name in names:
            raise errors.BadConfig(path, f"line {number}: the name is taken")
        names.add(held.caller.name)
        tokens += [held] if isinstance(held, _Token) else []
        signers += [held] if isinstance(held, _Signer) else []
    return Access(tuple(tokens), tuple(signers))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_uid not in {os.geteuid(), 0} or found.st_mode & (
                stat.S_IWGRP | stat.S_IWOTH
            ):
                raise errors.BadConfig(path, "another user may write to it")
            return file.read(_LARGEST).decode()
    except FileNotFoundError:
        raise errors.PathNotFound(path, kind="tokens") from None
    except OSError as error:
        raise errors.UnreadableFile(path, error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise errors.BadConfig(path, "it is not UTF-8") from None


def _line(words: list[str], directory: Path) -> _Token | _Signer:
    if len(words) < 3:
        raise ValueError("a line is NAME, read or write, and sha256:HEX or key:FILE")
    name, scope, secret, *rest = words
    if scope not in {"read", "write"}:
        raise ValueError("the second word is read or write")
    caller = Caller(name, may_write=scope == "write")
    options = {key: value for key, _, value in (word.partition("=") for word in rest)}
    kind, _, value = secret.partition(":")
    if kind == "sha256":
        _known(options, ("expires",))
        if len(value) != _HEX:
            raise ValueError("sha256: needs 64 digits in hex")
        return _Token(caller, bytes.fromhex(value), _expiry(options.get("expires", "")))
    if kind == "key":
        _known(options, _CLAIMS)
        key, algorithm = _public_key((directory / value).read_bytes())
        return _Signer(caller, key, algorithm, options)
    raise ValueError("the third word is sha256:HEX or key:FILE")


def _known(options: dict[str, str], names: tuple[str, ...]) -> None:
    if unknown := [name for name, value in options.items() if name not in names or not value]:
        raise ValueError(f"{unknown[0]} is none of {', '.join(names)}, or is empty")


def _expiry(text: str) -> datetime | None:
    """Return the end of a day, in UTC."""
    if not text:
        return None
    day = date.fromisoformat(text) + timedelta(days=1)
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc)


def _public_key(pem: bytes) -> tuple[Any, str]:
    """Return a public key, and the one algorithm that it is for."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(pem)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key, "EdDSA"
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key, "ES256"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _RSA_BITS:
        return key, "RS256"
    raise ValueError("the key is not of Ed25519, of P-256, or of RSA with 2,048 bits")


def made() -> str:
    """Return a new token of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def new(name: str, *, write: bool, expires: date | None = None) -> PythonToken:
    """Make a token.

    Args:
        name: What or whom it is for.
        write: Whether it allows uploads.
        expires: Its last day, in UTC; None: it never expires.

    Raises:
        UsageError: The name is no single word.
    """
    token = made()
    return PythonToken(
        name=name, token=token, line=line_of(name, token, write=write, expires=expires).rstrip()
    )


def append(path: Path, line: str) -> None:
    """Add a line to a token file, which is made if it is not there.

    Raises:
        BadConfig: The file is not sound.
        TokenExists: It has a line of this name.
        UnwritableFile: It can't be written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            name = line.split(maxsplit=1)[0]
            if name in load(path).names:
                raise errors.TokenExists(path, name)
            held = file.read().decode()
            ending = "" if held.endswith("\n") or not held else "\n"
            file.write(f"{ending}{line}\n".encode())
    except OSError as error:
        raise errors.UnwritableFile(path, error.strerror or str(error)) from None


def line_of(name: str, token: str, *, write: bool, expires: date | None = None) -> str:
    """Return the line of a token file that allows a token.

    Raises:
        UsageError: The name is no single word.
    """
    if not name or not name.isprintable() or set(name) & set(" \t#"):
        raise errors.UsageError("the name of a token is one word, without #")
    digest = hashlib.sha256(token.encode()).hexdigest()
    until = f" expires={expires.isoformat()}" if expires else ""
    return f"{name} {'write' if write else 'read'} sha256:{digest}{until}\n"


# --- failed logins ---------------------------------------------------------------------------


class Failures:
    """The failed logins of the last minute, by address. Any number of threads may use it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._times: OrderedDict[str, list[float]] = OrderedDict()

    def wait(self, address: str) -> int:
        """Return the seconds for which an address is refused; 0 if it is not."""
        now = self._clock()
        with self._lock:
            recent = self._recent(_network(address), now)
        return max(1, round(recent[0] + _WINDOW - now)) if len(recent) >= _FAILURES else 0

    def note(self, address: str) -> None:
        """Note a failed login."""
        now, network = self._clock(), _network(address)
        with self._lock:
            self._times[network] = [*self._recent(network, now), now][-_FAILURES:]
            self._times.move_to_end(network)
            while len(self._times) > _ADDRESSES:
                self._times.popitem(last=False)

    def _recent(self, network: str, now: float) -> list[float]:
        return [then for then in self._times.get(network, []) if now - then < _WINDOW]


def _network(address: str) -> str:
    """Return whom an address belongs to: with IPv6, a client has a network of 64 bits."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and not found.ipv4_mapped:
        return str(int(found) >> 64)
    return str(found)
