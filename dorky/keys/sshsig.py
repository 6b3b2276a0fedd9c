"""SSH signatures: one form for everything that is signed, with keys that people have.

A signature is an SSHSIG blob with SHA-512, as ``ssh-keygen -Y sign`` makes it. Only the raw
signature is stored; `armour` builds the blob again, for ``ssh-keygen -Y verify``.

Keys are Ed25519, or RSA of 2048 to 4096 bits with rsa-sha2-512. Their signatures are deterministic,
so the same commit always has the same id. ECDSA and hardware (sk) keys sign otherwise each time.

Sources: OpenSSH's PROTOCOL.sshsig, RFC 8032 (Ed25519), RFC 8709 and RFC 8332 (both in SSH).
"""

from __future__ import annotations

import base64
import hashlib
from enum import Enum
from functools import lru_cache
from typing import Any

from dorky import native
from dorky.keys import ssh

_MAGIC = b"SSHSIG"
_HASH = b"sha512"
_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_KEYS = 1024  # parsed keys that are kept: as many as a team has ever had


class Namespace(str, Enum):
    """The purpose of a signature: one that was made for another is not valid."""

    COMMIT = "dorky-commit"
    ROOT = "dorky-root"
    TEAM = "dorky-team"
    JOIN = "dorky-join"
    ARTIFACT = "dorky-artifact"


def check(public: str) -> None:
    """Refuse a public key that can't verify signatures, or has another spelling than the usual.

    Args:
        public: ``ssh-ed25519 AAAA…`` or ``ssh-rsa AAAA…``, without a comment.

    Raises:
        ValueError: The text says why.
    """
    parsed(public)


def verify(public: str, namespace: Namespace, message: bytes, signature: bytes) -> bool:
    """Return whether a key has signed a message for a purpose.

    All arguments may come from an attacker. Only the usual form of a key and of a signature is
    valid, so nobody can make a second signature out of one.
    """
    return verify_bytes(public, _signed(namespace, message), signature)


def verify_bytes(public: str, message: bytes, signature: bytes, digest: str = "SHA512") -> bool:
    """Return whether a key has signed bytes, outside the form of SSH.

    Args:
        public: The public key, as in `check`.
        message: The bytes.
        signature: The raw signature.
        digest: The hash by which an RSA key signs, as `cryptography` calls it.
    """
    from cryptography.exceptions import InvalidSignature

    try:
        key = parsed(public)
    except ValueError:
        return False
    try:
        if public.startswith("ssh-ed25519 "):
            # The length and S < L: otherwise one signature would have a second form.
            if len(signature) != 64 or int.from_bytes(signature[32:], "little") >= _ORDER:
                return False
            key.verify(signature, message)
        else:
            if len(signature) != (key.key_size + 7) // 8:
                return False
            key.verify(signature, message, *rsa(digest))
    except InvalidSignature:
        return False
    except BaseException as error:
        if not native.panicked(error):
            raise
        return False
    return True


def sign(key: Any, namespace: Namespace, message: bytes) -> bytes:
    """Return the raw signature of a message.

    Args:
        key: A private key of `cryptography`, Ed25519 or RSA.
        namespace: The purpose.
        message: Any bytes.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    signed = _signed(namespace, message)
    raw = key.sign(signed) if isinstance(key, Ed25519PrivateKey) else key.sign(signed, *rsa())
    return bytes(raw)


def armour(public: str, namespace: Namespace, signature: bytes) -> str:
    """Return a raw signature as the file that ``ssh-keygen -Y verify`` reads."""
    return armour_of(blob(public, namespace, signature))


def armour_of(blob: bytes) -> str:
    """Return the binary form of a signature as such a file; empty if it is not one."""
    if not blob.startswith(_MAGIC):
        return ""
    text = base64.b64encode(blob).decode()
    lines = (text[at : at + 70] for at in range(0, len(text), 70))
    return "\n".join(("-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""))


def blob(public: str, namespace: Namespace, signature: bytes) -> bytes:
    """Return a raw signature as the binary form of SSHSIG: with its key and its purpose."""
    kind = b"ssh-ed25519" if public.startswith("ssh-ed25519 ") else b"rsa-sha2-512"
    parts = (
        ssh.blob_of(public),
        namespace.value.encode(),
        b"",
        _HASH,
        _string(kind) + _string(signature),
    )
    return _MAGIC + (1).to_bytes(4, "big") + b"".join(map(_string, parts))


def _signed(namespace: Namespace, message: bytes) -> bytes:
    """Return the bytes that the key itself signs."""
    digest = hashlib.sha512(message).digest()
    parts = (Namespace(namespace).value.encode(), b"", _HASH, digest)
    return _MAGIC + b"".join(map(_string, parts))


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def rsa(digest: str = "SHA512") -> tuple[Any, Any]:
    """Return how RSA keys sign: the padding PKCS#1 v1.5, and a hash."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    return PKCS1v15(), getattr(hashes, digest)()


@lru_cache(_KEYS)
def parsed(public: str) -> Any:
    """Return a public key of `cryptography`; raise ValueError unless it has its usual form."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    kind, _, encoded = public.partition(" ")
    if kind not in {"ssh-ed25519", "ssh-rsa"}:
        raise ssh.Unfit("only keys of the types ed25519 and RSA sign")
    blob = ssh.decoded(encoded)
    if ssh.public_of(blob) != public:
        raise ValueError(ssh.UNUSUAL)
    if kind == "ssh-rsa":
        # This module of `cryptography` takes long to load.
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

        exponent, modulus = ssh.numbers_of(blob)
        return RSAPublicNumbers(exponent, modulus).public_key()
    point = blob[-32:]
    if not _on_curve(point):
        raise ValueError(ssh.DAMAGED)
    return Ed25519PublicKey.from_public_bytes(point)


def _on_curve(point: bytes) -> bool:
    """Return whether 32 bytes are a point of the curve (RFC 8032, section 5.1.3).

    `cryptography` takes any 32 bytes for a key.
    """
    y = int.from_bytes(point, "little") & ((1 << 255) - 1)
    square = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    # x is 0 only for points of low order, which `ssh` refuses.
    return pow(square, (_P - 1) // 2, _P) == 1
