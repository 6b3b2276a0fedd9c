"""The vault: turns bodies into stored objects and back, with a repository's keys.

The stored form of an object in a sealed repository:

    offset  size  what
    0       8     id of the epoch key it is sealed with
    8       24    nonce
    32      …     XAES-256-GCM of the compressed body (see `codec`)
    end-16  16    tag

with the additional data ``dorky/1 ‖ repository ‖ group ‖ kind ‖ id``, each followed by 0x00. In a
plain repository the stored form is the compressed body alone. Either way it is self-contained:
it may be copied between packs without being opened.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from dorky import codec, errors, keys, seal
from dorky.model import ALL, Epoch, Header, Kind, ObjectId

_KEY_ID = 8
OVERHEAD = _KEY_ID + seal.NONCE + seal.TAG
"""Bytes that sealing adds."""


class Opened(NamedTuple):
    """An epoch's key in the clear."""

    group: str
    epoch: int
    key: seal.EpochKey


class Vault:
    """The keys of one repository, opened.

    Args:
        repository: Its id, 32 hex digits.
        opened: Every epoch key that the holder's identity opens, oldest first; empty for a plain
            repository.
    """

    def __init__(self, repository: str, opened: Sequence[Opened]) -> None:
        self.repository = repository
        self._by_id = {entry.key.id: entry for entry in opened}
        self._current = {entry.group: entry for entry in opened}
        self.id_key = opened[0].key.id_key if opened else None
        self.gear_seed = seal.gear_seed(self.id_key)
        self._mask_key = seal.derive(self.id_key, "mask") if self.id_key else None

    @property
    def sealed(self) -> bool:
        """Whether the repository is sealed."""
        return bool(self._current)

    @property
    def fingerprint(self) -> str:
        """The commitment to the current epoch's key; empty in a plain repository."""
        return self._current[ALL].key.commitment if self.sealed else ""

    # --- objects ---------------------------------------------------------------------------

    def object_id(self, kind: Kind, body: bytes) -> ObjectId:
        """The id of an object."""
        return seal.object_id(kind.value, body, self.id_key)

    def store(self, kind: Kind, object_id: ObjectId, body: bytes, *, group: str = ALL) -> bytes:
        """Give the stored form of an object."""
        return self.close(codec.compress(body), f"{kind.value}\0{object_id}", group=group)

    def read(self, kind: Kind, object_id: ObjectId, stored: bytes | memoryview) -> bytes:
        """Open a stored object and verify that it is the one named.

        Raises:
            CorruptObject: Altered, swapped for another, or inflating past its stated length.
            NoKey: Sealed with a key that this vault does not hold.
        """
        try:
            packed = self.open(stored, f"{kind.value}\0{object_id}")
            body = codec.inflate(packed, limit=kind.limit)
        except (seal.SealBroken, codec.CodecError) as error:
            raise errors.CorruptObject(object_id, error) from None
        if self.object_id(kind, body) != object_id:
            raise errors.CorruptObject(object_id, "its content has another id")
        return body

    def mask(self, digest: str, content: ObjectId) -> str:
        """Hide, or show again, the SHA-256 of a file for the local index (see `seal.mask`)."""
        return seal.mask(digest, content, self._mask_key)

    # --- anything --------------------------------------------------------------------------

    def close(self, data: bytes, what: str, *, group: str = ALL) -> bytes:
        """Seal bytes under ``group``'s current key, bound to ``what`` they are."""
        if not self.sealed:
            return data
        entry = self._current[group]
        return entry.key.id + entry.key.aead.seal(data, self._aad(group, what))

    def open(self, data: bytes | memoryview, what: str) -> bytes:
        """Open what `close` returned.

        Raises:
            SealBroken: Altered, or sealed as something else.
        """
        if not self.sealed:
            return bytes(data)
        entry = self._by_id.get(bytes(data[:_KEY_ID]))
        if entry is None:
            raise seal.SealBroken("sealed with a key that is not this repository's")
        return entry.key.aead.open(data[_KEY_ID:], self._aad(entry.group, what))

    def _aad(self, group: str, what: str) -> bytes:
        return f"dorky/1\0{self.repository}\0{group}\0{what}\0".encode()


def create(recipients: Sequence[str]) -> tuple[Header, Vault]:
    """Start a repository: sealed to ``recipients``, or plain if there are none."""
    repository = os.urandom(16).hex()
    if not recipients:
        return Header(1, repository, ()), Vault(repository, ())
    key = seal.EpochKey(os.urandom(seal.KEY))
    wrapped = keys.wrap(key.key, recipients)
    epoch = Epoch(ALL, 1, key.commitment, tuple(recipients), wrapped)
    return Header(1, repository, (epoch,)), Vault(repository, (Opened(ALL, 1, key),))


def unlock(header: Header, identities: Sequence[keys.Identity]) -> Vault:
    """Open a repository's keys.

    Raises:
        NoKey: None of the identities is among its recipients.
        WrongKey: A key opens but is not the one that its commitment promises.
    """
    opened = []
    for epoch in header.epochs:
        raw = keys.unwrap(epoch.wrapped, identities)
        if raw is None:
            continue
        key = seal.EpochKey(raw)
        if len(raw) != seal.KEY or key.commitment != epoch.commitment:
            raise errors.WrongKey(f"repository {header.repository}")
        opened.append(Opened(epoch.group, epoch.epoch, key))
    if header.sealed and not any(entry.group == ALL for entry in opened):
        raise errors.NoKey(", ".join(identity.public for identity in identities))
    return Vault(header.repository, opened)
