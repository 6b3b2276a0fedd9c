"""Packs: many stored objects in one file.

    what                            size
    magic ``DORKYPK2``              8
    stored objects: chunks          …
    --- the tail ---
    stored objects: trees and chunk lists, commits, entries of the team's log
    index, encrypted (see `vault`)     …
    footer: start of the tail       8, big-endian
            length of the index     4, big-endian
            SHA-256 of all before the tail   32
            magic ``DORKYPK2``      8

The index inflates to a 16-byte random salt (so that two packs of the same objects have different
names) and 45 bytes per object: kind (1), id (32), offset (8), length (4). Everything needed to walk
history is in the tail, which one range request reads.

A pack's name is the SHA-256 of its tail. The root lists the name, so what was read of a tail is
what its writer put there; and as the tail holds the hash of the rest, the name stands for every
byte of the pack (see docs/decisions/0022).
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable
from typing import IO, NamedTuple

from dorky import errors
from dorky.format import codec, seal
from dorky.format.model import KiB, Kind, Location, MiB, ObjectId, Pack
from dorky.keys.vault import OVERHEAD, Vault

TARGET = 32 * MiB
"""Packs are closed once they hold this many bytes."""
LIMIT = 512 * MiB
"""No reader accepts a pack larger than this."""
INDEX_LIMIT = 64 * MiB
"""No reader accepts an index that inflates to more. Writers stay below `TARGET` and an entry."""

MAGIC = b"DORKYPK2"
_FIRST_MAGIC = b"DORKYPK1"
_FOOTER = struct.Struct(">QI32s8s")
FOOTER = _FOOTER.size
_ENTRY = struct.Struct(">B32sQI")
_SALT = 16
# Small objects are hashed and written together: a call for each would cost more than the work.
_BUFFER = 1 * MiB
_ALONE = 64 * KiB
CODES = {Kind.CHUNK: 1, Kind.CHUNKS: 2, Kind.TREE: 3, Kind.COMMIT: 4, Kind.TEAM: 5}
"""The numbers that stand for kinds in indexes and tables."""
KINDS = {code: kind for kind, code in CODES.items()}
_LAST = {Kind.COMMIT: 1, Kind.TEAM: 2}
_INDEX = "index"


class Footer(NamedTuple):
    """A pack's last bytes: the offsets of its tail and of its index, and the hash of its data."""

    tail: int
    index_offset: int
    digest: bytes


class PackWriter:
    """A writer of one pack to a binary file, which hashes as it goes.

    Args:
        file: A file open for writing, empty.
        vault: Encrypts the index.
        copy: Receives the same bytes, if given.
        target: The bytes that it is closed at; 0: `TARGET`.
    """

    def __init__(
        self, file: IO[bytes], vault: Vault, copy: IO[bytes] | None = None, *, target: int = 0
    ) -> None:
        self._file = file
        self._copy = copy
        self._target = target or TARGET
        self._vault = vault
        self._hash = hashlib.sha256()
        self._metadata: list[tuple[Kind, ObjectId, bytes | memoryview]] = []
        self._index = bytearray()
        self.size = len(MAGIC) + _SALT + codec.OVERHEAD + OVERHEAD + FOOTER
        """The most bytes that the pack will have if nothing is added.

        The metadata held back counts, and so does the index: otherwise a commit of directories
        only, or of millions of tiny files, would make a pack that no reader accepts.
        """
        self.digest = b""
        """The SHA-256 of the data, once the pack is finished."""
        self._end = 0
        self._pending: list[bytes | memoryview] = []
        self._unwritten = 0
        self._write(MAGIC)

    def __len__(self) -> int:
        return len(self._index) // _ENTRY.size + len(self._metadata)

    @property
    def index(self) -> bytes:
        """Return where the objects lie, as `read_index` reads it: 45 bytes for each."""
        return bytes(self._index)

    @property
    def full(self) -> bool:
        """Return whether the pack is large enough to finish and begin another one."""
        return self.size >= self._target

    def _write(self, data: bytes | memoryview) -> None:
        self._end += len(data)
        if len(data) >= _ALONE:
            self._flush()
            self._put(data)
            return
        self._pending.append(data)
        self._unwritten += len(data)
        if self._unwritten >= _BUFFER:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._pending)
        self._pending.clear()
        self._unwritten = 0
        self._put(data)

    def _put(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        if self._copy is not None:
            self._copy.write(data)
        self._hash.update(data)

    def append(self, kind: Kind, object_id: ObjectId, stored: bytes | memoryview) -> None:
        """Add a stored object. Metadata is held back until all data is written."""
        if kind.is_data:
            self._place(kind, object_id, stored)
        else:
            self._metadata.append((kind, object_id, stored))
        self.size += len(stored) + _ENTRY.size

    def _place(self, kind: Kind, object_id: ObjectId, stored: bytes | memoryview) -> None:
        self._index += _entry(Location(kind, object_id, self._end, len(stored)))
        self._write(stored)

    def finish(self) -> Pack:
        """Write the tail. The file is complete but neither flushed nor closed."""
        tail = self._end
        self._flush()
        digest = self.digest = self._hash.digest()
        self._hash = hashlib.sha256()
        # Commits and the team's log come last: nobody who reads a directory needs them.
        for kind, object_id, stored in sorted(
            self._metadata, key=lambda item: _LAST.get(item[0], 0)
        ):
            self._place(kind, object_id, stored)
        self._metadata.clear()
        sealed = self._vault.close(codec.compress(os.urandom(_SALT) + self._index), _INDEX)
        self._write(sealed)
        self._write(_FOOTER.pack(tail, len(sealed), digest, MAGIC))
        self._flush()
        return Pack(self._hash.hexdigest(), self._end, tail, self._vault.epochs)


def _entry(at: Location) -> bytes:
    return _ENTRY.pack(CODES[at.kind], bytes.fromhex(at.id), at.offset, at.length)


def make_index(locations: Iterable[Location]) -> bytes:
    """Return locations in as little memory as `PackWriter.index` takes."""
    return b"".join(map(_entry, locations))


def read_index(index: bytes) -> list[Location]:
    """Return the locations that `PackWriter.index` or `make_index` holds."""
    return [
        Location(KINDS[code], raw.hex(), offset, length)
        for code, raw, offset, length in _ENTRY.iter_unpack(index)
    ]


def read_footer(name: str, end: bytes, size: int) -> Footer:
    """Read where a pack's parts lie.

    Args:
        name: The pack's name, for messages.
        end: The pack's last bytes, at least `FOOTER` of them.
        size: The pack's size in bytes.

    Raises:
        CorruptPack: The bytes are not a pack's, or its offsets are impossible.
    """
    if len(end) < FOOTER:
        raise errors.CorruptPack(name, "truncated")
    tail, length, digest, magic = _FOOTER.unpack(end[-FOOTER:])
    if magic == _FIRST_MAGIC:
        raise errors.CorruptPack(
            name, "it was written by an earlier, unreleased version of dorky (format 1)"
        )
    index = size - FOOTER - length
    if magic != MAGIC or not len(MAGIC) <= tail <= index:
        raise errors.CorruptPack(name, "no footer")
    return Footer(tail, index, digest)


def read_tail(pack: Pack, data: bytes, vault: Vault) -> list[Location]:
    """Read a pack's index from its tail.

    Args:
        pack: The pack as the root lists it.
        data: The pack's bytes from ``pack.tail`` to the end.
        vault: Opens the index.

    Returns:
        The location of every object of the pack. Offsets are relative to the pack.

    Raises:
        CorruptPack: The pack is altered or truncated, or its index points outside the pack.
    """
    if len(data) != pack.size - pack.tail:
        raise errors.CorruptPack(pack.id, f"a tail of {len(data)} bytes")
    if hashlib.sha256(data).hexdigest() != pack.id:
        raise errors.CorruptPack(pack.id, "its tail has another hash")
    tail, index, _ = read_footer(pack.id, data, pack.size)
    if tail != pack.tail:
        raise errors.CorruptPack(pack.id, "its tail is not where the root says")
    try:
        sealed = memoryview(data)[index - tail : -FOOTER]
        packed = vault.open(sealed, _INDEX, epochs=pack.epochs)
        # Every object takes bytes of the pack, so a small pack can't have a huge index.
        most = _SALT + _ENTRY.size * (index // codec.OVERHEAD)
        body = codec.inflate(packed, limit=min(most, INDEX_LIMIT))
    except (seal.SealBroken, codec.CodecError) as error:
        raise errors.CorruptPack(pack.id, f"its index {error}") from None
    if (len(body) - _SALT) % _ENTRY.size:
        raise errors.CorruptPack(pack.id, "an index of odd length")
    locations = []
    for code, raw, offset, length in _ENTRY.iter_unpack(memoryview(body)[_SALT:]):
        kind = KINDS.get(code)
        start, end = (len(MAGIC), tail) if kind is Kind.CHUNK else (tail, index)
        if kind is None or not start <= offset <= offset + length <= end:
            raise errors.CorruptPack(pack.id, "an index that points outside the pack")
        locations.append(Location(kind, raw.hex(), offset, length))
    return locations


class Check:
    """The check of all of a pack's bytes against its name, which needs no key.

    Args:
        tail: The offset of the tail, as the footer states it.
    """

    def __init__(self, tail: int) -> None:
        self._before = tail
        self._size = 0
        self._data = hashlib.sha256()
        self._tail = hashlib.sha256()
        self._end = b""

    def update(self, block: bytes) -> None:
        """Take in the pack's next bytes."""
        split = max(0, self._before - self._size)
        data, tail = (block, b"") if split >= len(block) else (block[:split], block[split:])
        self._data.update(data)
        self._tail.update(tail)
        self._size += len(block)
        self._end = (self._end + tail)[-FOOTER:]

    def passes(self, name: str) -> bool:
        """Return whether the bytes taken in are those of the pack with this name, all of them."""
        try:
            footer = read_footer(name, self._end, self._size)
        except errors.CorruptPack:
            return False
        return (self._tail.hexdigest(), footer.tail, footer.digest) == (
            name,
            self._before,
            self._data.digest(),
        )


def is_whole(name: str, blocks: Iterable[bytes], tail: int) -> bool:
    """Return whether blocks are the bytes of the pack with this name."""
    check = Check(tail)
    for block in blocks:
        check.update(block)
    return check.passes(name)
