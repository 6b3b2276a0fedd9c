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
from dorky.model import ALL, FORMAT, Epoch, Header, Kind, ObjectId

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
        """Give the stored form of an object.

        Raises:
            UsageError: It is larger than any reader accepts.
        """
        if len(body) > kind.limit:
            raise errors.UsageError(
                f"a {kind.value} of {len(body):,} bytes is too large (at most {kind.limit:,})"
            )
        return self.close(codec.compress(body), f"{kind.value}\0{object_id}", group=group)

    def read(self, kind: Kind, object_id: ObjectId, stored: bytes | memoryview) -> bytes:
        """Open a stored object and verify that it is the one named.

        Raises:
            CorruptObject: Altered, swapped for another, inflating past its stated length, or
                sealed with a key that this vault does not hold.
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

    def open(self, data: bytes | memoryview, what: str, *, newest: bool = False) -> bytes:
        """Open what `close` returned.

        Args:
            data: The sealed bytes.
            what: They are.
            newest: Whether to refuse the keys of past epochs. Objects are bound to their content
                by their ids, whoever sealed them; what is not (a root) must not be taken from
                somebody who has been removed and still has the old key.

        Raises:
            SealBroken: Altered, or sealed as something else.
        """
        if not self.sealed:
            return bytes(data)
        entry = self._by_id.get(bytes(data[:_KEY_ID]))
        if entry is None or (newest and entry is not self._current[entry.group]):
            raise seal.SealBroken("sealed with a key that is not this repository's")
        return entry.key.aead.open(data[_KEY_ID:], self._aad(entry.group, what))

    def _aad(self, group: str, what: str) -> bytes:
        return f"dorky/1\0{self.repository}\0{group}\0{what}\0".encode()


def create(recipients: Sequence[str]) -> tuple[Header, Vault]:
    """Start a repository: sealed to ``recipients``, or plain if there are none."""
    repository = os.urandom(16).hex()
    if not recipients:
        return Header(FORMAT, repository, ()), Vault(repository, ())
    key = seal.EpochKey(os.urandom(seal.KEY))
    wrapped = keys.wrap(key.key, recipients)
    epoch = Epoch(ALL, 1, key.commitment, tuple(recipients), wrapped)
    return Header(FORMAT, repository, (epoch,)), Vault(repository, (Opened(ALL, 1, key),))


def unlock(header: Header, identities: Sequence[keys.Identity]) -> Vault:
    """Open a repository's keys.

    Who is a member now is who opens a group's newest key; each key opens the one before it. An
    epoch's ``previous`` is that key as `Vault.close` seals it, as ``previous ‖ 0x00 ‖ epoch``.

    Raises:
        NoKey: None of the identities is among its recipients.
        WrongKey: A key opens but is not the one that its commitment promises.
    """
    opened: list[Opened] = []
    newer: dict[str, Epoch] = {}
    for epoch in reversed(header.epochs):
        after = newer.get(epoch.group)
        newer[epoch.group] = epoch
        raw = _previous(header, after, opened) if after else keys.unwrap(epoch.wrapped, identities)
        if raw is None:
            continue
        key = seal.EpochKey(raw)
        if len(raw) != seal.KEY or key.commitment != epoch.commitment:
            raise errors.WrongKey(f"repository {header.repository}")
        opened.insert(0, Opened(epoch.group, epoch.epoch, key))
    if header.sealed and not any(entry.group == ALL for entry in opened):
        raise errors.NoKey(", ".join(identity.public for identity in identities))
    return Vault(header.repository, opened)


def _previous(header: Header, epoch: Epoch, opened: Sequence[Opened]) -> bytes | None:
    """The key before an epoch's; None for those who can't open that epoch."""
    held = [each for each in opened if (each.group, each.epoch) == (epoch.group, epoch.epoch)]
    if not held:
        return None
    try:
        return Vault(header.repository, held).open(epoch.previous, f"previous\0{epoch.epoch}")
    except seal.SealBroken:
        raise errors.WrongKey(f"repository {header.repository}") from None
