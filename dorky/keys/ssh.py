"""SSH keys: OpenSSH's private keys, with or without a passphrase, and their public keys.

Sources: OpenSSH's PROTOCOL.key (private keys), RFC 4253 section 6.6 and RFC 8709 (public keys), RFC
4251 section 5 (their parts), C2SP's age-ssh (how age names a key).
"""

from __future__ import annotations

import base64
import hashlib
import re
from io import BytesIO
from typing import Any, NamedTuple

from dorky import errors

_RSA_BITS = range(2048, 4097)  # the sizes that age takes, and that pyrage can handle
_EXPONENTS = range(3, 1 << 33)
_P = 2**255 - 19
_LOW_ORDER = frozenset(
    {
        0,
        1,
        _P - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    }
)
"""The y of the points of Ed25519 that have at most eight multiples (those of low order)."""
_MAGIC = b"openssh-key-v1\0"
PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----\s(.*)-----END \1-----", re.DOTALL)
DAMAGED = "it is cut off, mistyped or damaged"
UNUSUAL = "it is not in its usual form"
LOW_ORDER = "it is of low order: everybody could read what is encrypted to it"
TYPES = "age encrypts to SSH keys of the types ed25519 and RSA only"


class Unfit(ValueError):
    """A sound SSH key, but of a kind that age can't encrypt to; the text says why."""


class _Envelope(NamedTuple):
    """The unencrypted part of an OpenSSH private key."""

    cipher: bytes
    blob: bytes


def _envelope(pem: str) -> _Envelope:
    """Read the unencrypted part of a private key; raise ValueError if it is damaged."""
    found = PEM.fullmatch(pem.strip())
    stream = BytesIO(decoded("".join(found[2].split())) if found else b"")
    if stream.read(len(_MAGIC)) != _MAGIC:
        raise ValueError(DAMAGED)
    cipher, _kdf, _options = (_string(stream) for _ in range(3))
    if stream.read(4) != b"\0\0\0\1":
        raise ValueError("it holds several keys")
    return _Envelope(cipher, _string(stream))


def locked(pem: str) -> bool:
    """Return whether an OpenSSH private key has a passphrase."""
    return _envelope(pem).cipher != b"none"


def parse(text: str, source: str) -> tuple[str, str]:
    """Read a private key: OpenSSH's format, PKCS#8 or the old PEM ones.

    Returns:
        The key in OpenSSH's format, still under its passphrase if it has one; and its public key.

    Raises:
        IdentityMalformed: The key is damaged.
        UnusableIdentity: It is of a type or format that dorky can't use.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        load_pem_private_key,
        load_ssh_private_key,
    )

    found = PEM.fullmatch(text.strip("\ufeff \t\r\n"))
    if not found:
        raise errors.IdentityMalformed(source)
    try:
        if found[1] == "OPENSSH PRIVATE KEY":
            # Restore the line breaks, which secret stores of CI systems often turn into blanks.
            body = "\n".join(found[2].split())
            secret = f"-----BEGIN {found[1]}-----\n{body}\n-----END {found[1]}-----\n"
            cipher, blob = _envelope(secret)
            public = public_of(blob)
            if (
                cipher == b"none"
                and public != _halves(load_ssh_private_key(secret.encode(), None))[1]
            ):
                raise ValueError(DAMAGED)
        else:
            lines = "\n".join(line.strip() for line in found[0].splitlines())
            secret, public = _halves(load_pem_private_key(f"{lines}\n".encode(), None))
    except Unfit as error:
        raise errors.UnusableIdentity(source, error) from None
    except TypeError:  # cryptography raises it for an encrypted key
        raise errors.UnusableIdentity(
            source,
            "it has a passphrase, in a format of old",
            needs="format",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise errors.IdentityMalformed(source) from None
    return secret, public


def _halves(key: Any) -> tuple[str, str]:
    """Return a private key of `cryptography` in OpenSSH's format, and its public key."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    if not isinstance(key, Ed25519PrivateKey | RSAPrivateKey):
        raise Unfit(TYPES)
    bare = key.private_bytes(
        form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()
    ).decode()
    return bare, public_of(_envelope(bare).blob)


def opened(secret: str, public: str, passphrase: str, source: str) -> str | None:
    """Decrypt a private key in OpenSSH's format; return None if the passphrase is wrong.

    Raises:
        UnusableIdentity: The key is encrypted in a way that is not supported.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    try:
        bare, found = _halves(load_ssh_private_key(secret.encode(), passphrase.encode()))
    except UnsupportedAlgorithm:
        cipher = _envelope(secret).cipher.decode(errors="replace")
        raise errors.UnusableIdentity(
            source,
            f"its cipher {cipher!a} is not supported",
            needs="cipher",
        ) from None
    except ValueError:
        return None
    return bare if found == public else None


# --- public keys ----------------------------------------------------------------------------


def public_of(blob: bytes) -> str:
    """Return the line of an SSH public key; raise ValueError if age can't encrypt to it."""
    stream = BytesIO(blob)
    kind = _string(stream)
    if kind not in {b"ssh-ed25519", b"ssh-rsa"}:
        raise Unfit(TYPES)
    if kind == b"ssh-rsa":
        exponent, modulus = _positive(stream), _positive(stream)
        if modulus.bit_length() not in _RSA_BITS:
            raise Unfit(
                f"an RSA key of {modulus.bit_length()} bits: "
                f"age takes {_RSA_BITS[0]} to {_RSA_BITS[-1]}"
            )
        if not exponent & modulus & 1 or exponent not in _EXPONENTS:
            raise ValueError(DAMAGED)
    else:
        _check_point(_string(stream))
    if stream.read(1):
        raise ValueError(DAMAGED)
    return f"{kind.decode()} {base64.b64encode(blob).decode()}"


def _check_point(point: bytes) -> None:
    """Refuse an Ed25519 key of low order, or a second spelling of a key."""
    if len(point) != 32:
        raise ValueError(DAMAGED)
    y = int.from_bytes(point, "little") & ((1 << 255) - 1)
    if y >= _P:
        raise Unfit(UNUSUAL)
    if y in _LOW_ORDER:
        raise Unfit(LOW_ORDER)


def numbers_of(blob: bytes) -> tuple[int, int]:
    """Return the exponent and the modulus of an RSA key that `public_of` accepts."""
    stream = BytesIO(blob)
    _string(stream)
    return _positive(stream), _positive(stream)


def blob_of(public: str) -> bytes:
    """Return the binary key of an SSH public key's line."""
    return decoded(public.split()[1])


def fingerprint(public: str) -> str:
    """Return the fingerprint of an SSH public key, as ``ssh-keygen -l`` shows it."""
    digest = hashlib.sha256(blob_of(public)).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def decoded(text: str) -> bytes:
    """Decode Base64; raise ValueError if the text is malformed."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError(DAMAGED) from None


def _string(stream: BytesIO) -> bytes:
    """Read the next string of an SSH format (RFC 4251, section 5)."""
    head = stream.read(4)
    data = stream.read(int.from_bytes(head, "big"))
    if len(head) < 4 or len(data) < int.from_bytes(head, "big"):
        raise ValueError(DAMAGED)
    return data


def _positive(stream: BytesIO) -> int:
    """Read the next non-negative number (RFC 4251: mpint), in its one valid form or as 00."""
    data = _string(stream)
    number = int.from_bytes(data, "big")
    if data != number.to_bytes(number.bit_length() // 8 + 1, "big"):
        raise ValueError(DAMAGED)
    return number


def tag(public: str) -> bytes:
    """Return the name by which age's headers call an SSH key."""
    digest = hashlib.sha256(blob_of(public)).digest()[:4]
    return f"{public.split(maxsplit=1)[0]} {base64.b64encode(digest).decode().rstrip('=')}".encode()
