"""Public keys that verify: P-256, P-384, Ed25519, and RSA of 2048 to 4096 bits.

Each has one name, its line as an SSH key without a comment: it is what signers files hold, and two
spellings of one key can't pass for two keys. Elsewhere keys are PEM (SubjectPublicKeyInfo).

Sources: RFC 5480 and RFC 8410 (PEM), RFC 5656 and RFC 8709 (SSH), FIPS 186-5.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any, NamedTuple

from dorky import errors, native
from dorky.keys import ssh, sshsig
from dorky.keys.sshsig import Namespace

_CURVES = {"ecdsa-sha2-nistp256": "P-256", "ecdsa-sha2-nistp384": "P-384"}
_KEPT = 1024  # parsed keys
UNFIT = "only keys of the types P-256, P-384, Ed25519 and RSA (2048 to 4096 bits) verify"


class PublicKey(NamedTuple):
    """A public key that verifies.

    Attributes:
        line: The key as an SSH key, without a comment: ``ecdsa-sha2-nistp256 AAAA…``.
        algorithm: ``P-256``, ``P-384``, ``Ed25519`` or ``RSA``.
        pem: The key in PEM.
        key: The public key of `cryptography`.
    """

    line: str
    algorithm: str
    pem: str
    key: Any

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint that people compare, as ``ssh-keygen -l`` shows it."""
        return ssh.fingerprint(self.line)

    @property
    def id(self) -> str:
        """Return the key's name in envelopes: the SHA-256 of its PEM text, in hex."""
        return hashlib.sha256(self.pem.encode()).hexdigest()

    def verify(self, message: bytes, signature: bytes) -> str:
        """Return the algorithm by which the key has signed a message; empty if it has not.

        All arguments may come from an attacker. An SSH key's signature may also have the form of
        SSHSIG, with the namespace ``dorky-artifact``.
        """
        if self.algorithm in {"P-256", "P-384"}:
            return self.algorithm if self._verify_ecdsa(message, signature) else ""
        if sshsig.verify_bytes(self.line, message, signature, "SHA256"):
            return self.algorithm
        size = (self.key.key_size + 7) // 8 if self.algorithm == "RSA" else 64
        raw = signature[-size:]
        # Built again, so only one form of it is valid.
        if signature == sshsig.blob(self.line, Namespace.ARTIFACT, raw) and sshsig.verify(
            self.line, Namespace.ARTIFACT, message, raw
        ):
            return f"SSH {self.algorithm}"
        return ""

    def _verify_ecdsa(self, message: bytes, signature: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature

        try:
            self.key.verify(signature, message, ecdsa(self.algorithm))
        except InvalidSignature:
            return False
        except BaseException as error:
            if not native.panicked(error):
                raise
            return False
        return True


def ecdsa(curve: str) -> Any:
    """Return how keys of a curve sign: with the hash of its size."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    return ECDSA(hashes.SHA256() if curve == "P-256" else hashes.SHA384())


def of(key: Any) -> PublicKey:
    """Return a public key of `cryptography` as one of ours.

    Raises:
        ValueError: It is of a kind that does not verify; the text says why.
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if not isinstance(key, EllipticCurvePublicKey | Ed25519PublicKey | RSAPublicKey):
        raise ValueError(UNFIT)  # noqa: TRY004
    try:
        line = key.public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH).decode()
    except ValueError:
        raise ValueError(UNFIT) from None
    return parse(line)


@lru_cache(_KEPT)
def parse(line: str) -> PublicKey:
    """Read a public key from its line as an SSH key, without a comment.

    Raises:
        ValueError: It is unusable, or has another spelling than the usual; the text says why.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization as form

    kind = line.partition(" ")[0]
    if kind in _CURVES:
        try:
            key = form.load_ssh_public_key(line.encode())
            usual = key.public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH).decode()
        except (ValueError, UnsupportedAlgorithm, NotImplementedError):
            # The last is for a point that is compressed: a second spelling.
            raise ValueError(ssh.DAMAGED) from None
        if usual != line:
            raise ValueError(ssh.UNUSUAL)
        algorithm = _CURVES[kind]
    elif kind in {"ssh-ed25519", "ssh-rsa"}:
        key = sshsig.parsed(line)
        algorithm = "RSA" if kind == "ssh-rsa" else "Ed25519"
    else:
        raise ValueError(UNFIT)
    pem = key.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo).decode()
    return PublicKey(line, algorithm, pem, key)


def read(text: str, source: str) -> PublicKey:
    """Read a public key in PEM, or as an SSH key with or without a comment.

    Raises:
        BadPublicKey: It is none, or unusable.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if "PRIVATE KEY" in text:
        raise errors.BadPublicKey(source, "it is a private key")
    try:
        if "-----BEGIN" in text:
            return of(load_pem_public_key(text.encode()))
        return parse(" ".join(text.split()[:2]))
    except (ValueError, UnsupportedAlgorithm) as error:
        why = str(error) if str(error) in {UNFIT, ssh.LOW_ORDER, ssh.UNUSUAL} else ssh.DAMAGED
        raise errors.BadPublicKey(source, why) from None
    except BaseException as error:
        if not native.panicked(error):
            raise
        raise errors.BadPublicKey(source, ssh.DAMAGED) from None
