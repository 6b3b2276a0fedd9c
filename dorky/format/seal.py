"""XAES-256-GCM, and derivations from a repository's keys.

XAES-256-GCM (C2SP) is AES-256-GCM under a key derived from the first half of a 24-byte nonce, so
nonces can be drawn at random for any number of messages. Source: https://c2sp.org/XAES-256-GCM

Key derivation is HKDF-SHA256 (RFC 5869) without a salt, with an ``info`` that names the purpose.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable
from functools import cached_property

from dorky import native

NONCE = 24
TAG = 16
KEY = 32


class SealBroken(ValueError):
    """The bytes were not encrypted with this key and this additional data, or were altered."""


class XAES:
    """One XAES-256-GCM key. Safe to use from several threads.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._gcm = AESGCM
        # CMAC is built from the bare AES permutation, which ECB is for a single block.
        self._block = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305
        zero = int.from_bytes(self._aes(bytes(16)), "big")
        doubled = (zero << 1) & ((1 << 128) - 1)
        self._k1 = doubled ^ (0x87 if zero >> 127 else 0)

    def _aes(self, blocks: bytes) -> bytes:
        return self._block.encryptor().update(blocks)

    def _derive(self, nonce: bytes) -> bytes:
        context = int.from_bytes(nonce[:12], "big")
        label = 0x5800 << 96 | context
        first = ((1 << 112) | label) ^ self._k1
        second = ((2 << 112) | label) ^ self._k1
        return self._aes(first.to_bytes(16, "big") + second.to_bytes(16, "big"))

    def seal(
        self,
        plaintext: bytes | memoryview,
        aad: bytes,
        *,
        nonce: bytes | None = None,
        head: bytes = b"",
    ) -> bytes:
        """Encrypt and authenticate.

        Args:
            plaintext: Any number of bytes up to 64 GiB.
            aad: Authenticated with the plaintext, not contained in the result.
            nonce: 24 bytes, for test vectors; drawn at random otherwise.
            head: Put in front, unencrypted.

        Returns:
            head ‖ nonce (24) ‖ ciphertext ‖ tag (16).
        """
        nonce = os.urandom(NONCE) if nonce is None else nonce
        if len(nonce) != NONCE:
            raise ValueError(f"a nonce of {len(nonce)} bytes")
        return b"".join(
            (head, nonce, self._gcm(self._derive(nonce)).encrypt(nonce[12:], plaintext, aad))
        )

    def seal_all(self, parts: Iterable[bytes], aad: bytes, *, head: bytes = b"") -> bytes:
        """Encrypt parts as one plaintext, without the copy that joins large ones (see `seal`)."""
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        nonce = os.urandom(NONCE)
        cipher = Cipher(algorithms.AES(self._derive(nonce)), modes.GCM(nonce[12:])).encryptor()
        cipher.authenticate_additional_data(aad)
        sealed = [cipher.update(part) for part in parts]
        return b"".join((head, nonce, *sealed, cipher.finalize(), cipher.tag))

    def open(self, sealed: bytes | memoryview, aad: bytes) -> bytes:
        """Verify and decrypt what `seal` returned.

        Raises:
            SealBroken: The bytes were altered, truncated, or encrypted with other additional data
                or another key.
        """
        from cryptography.exceptions import InvalidTag

        if len(sealed) < NONCE + TAG:
            raise SealBroken("truncated")
        nonce = bytes(sealed[:NONCE])
        try:
            return self._gcm(self._derive(nonce)).decrypt(nonce[12:], sealed[NONCE:], aad)
        except InvalidTag:
            raise SealBroken("does not verify") from None
        except BaseException as error:
            if not native.panicked(error):
                raise
            raise SealBroken("does not verify") from None


def derive(key: bytes, purpose: str) -> bytes:
    """Derive 32 bytes from ``key`` for one purpose, by HKDF-SHA256."""
    # One output block of RFC 5869 is two HMACs; the standard library starts 15 ms faster than
    # `cryptography`, and commands that never decrypt need ids, too.
    pseudorandom = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(pseudorandom, f"dorky/2 {purpose}".encode() + b"\x01", "sha256")


class EpochKey:
    """One group's key of one epoch, and the values derived from it.

    Args:
        key: 32 random bytes.
    """

    def __init__(self, key: bytes) -> None:
        self.key = key

    @cached_property
    def commitment(self) -> str:
        """Return a commitment to the key, which may be published: 64 hex digits."""
        return derive(self.key, "commitment").hex()

    @cached_property
    def id(self) -> bytes:
        """Return the first 8 bytes of the commitment, the key's id in stored objects."""
        return bytes.fromhex(self.commitment)[:8]

    @cached_property
    def aead(self) -> XAES:
        """Return the cipher that encrypts objects, pack indexes and roots."""
        return XAES(derive(self.key, "seal"))

    @cached_property
    def id_key(self) -> bytes:
        """Return the 32-byte key of ids (of the first epoch only)."""
        return derive(self.key, "id")


def object_id(kind: str, body: bytes | memoryview, id_key: bytes | None) -> str:
    """Return the id of an object: HMAC-SHA256 of kind ‖ 0x00 ‖ body, or SHA-256 without a key."""
    prefix = kind.encode() + b"\0"
    digest = hashlib.sha256(prefix) if id_key is None else hmac.new(id_key, prefix, "sha256")
    digest.update(body)
    return digest.hexdigest()


def gear_seed(id_key: bytes | None) -> int:
    """Return the seed of the chunker's gear table: 63 bits, 0 in an unencrypted repository."""
    if id_key is None:
        return 0
    return int.from_bytes(derive(id_key, "gear")[:8], "big") >> 1


def mask(digest: str, content: str, key: bytes | None) -> str:
    """Hide (or reveal) the SHA-256 of a file that the local index remembers.

    The index is unencrypted, and the plain hash of a secret must not lie in it: it is XORed with a
    keyed hash of the content's id. One content has one digest, so each pad hides one message.

    Args:
        digest: 64 hex digits, hidden or not.
        content: The id of the file's content.
        key: 32 bytes; None in an unencrypted repository, where nothing is hidden.
    """
    if key is None or not digest:
        return digest
    pad = hmac.digest(key, content.encode(), "sha256")
    return (int.from_bytes(pad, "big") ^ int(digest, 16)).to_bytes(32, "big").hex()
