"""Packs: many stored objects in one file.

    what                            size
    magic ``DORKYPK1``              8
    stored objects: chunks          …
    --- the tail ---
    stored objects: chunk lists, trees, commits, entries of the team log
    index, encrypted (see `vault`)     …
    footer: start of the tail       8, big-endian
            length of the index     4, big-endian
            magic ``DORKYPK1``      8

The index inflates to a 16-byte random salt (so that two packs of the same objects have different
names) and 45 bytes per object: kind (1), id (32), offset (8), length (4). A pack's name is the
SHA-256 of its bytes. Everything needed to walk history is in the tail, which one range request
reads.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable
from typing import IO

from dorky import errors
from dorky.format import codec, seal
from dorky.format.model import Kind, Location, MiB, ObjectId, Pack
from dorky.keys.vault import OVERHEAD, Vault

TARGET = 32 * MiB
"""Packs are closed once they hold this many bytes."""
LIMIT = 512 * MiB
"""No reader accepts a pack larger than this."""
INDEX_LIMIT = 64 * MiB
"""No reader accepts an index that inflates to more. Writers stay below `TARGET` and an entry."""

MAGIC = b"DORKYPK1"
_FOOTER = struct.Struct(">QI8s")
FOOTER = _FOOTER.size
_ENTRY = struct.Struct(">B32sQI")
_SALT = 16
# Small objects are hashed and written together: a call for each would cost more than the work.
_BUFFER = 1 * MiB
_KINDS = {Kind.CHUNK: 1, Kind.CHUNKS: 2, Kind.TREE: 3, Kind.COMMIT: 4, Kind.TEAM: 5}
_KIND_OF = {code: kind for kind, code in _KINDS.items()}
_INDEX = "index"


class PackWriter:
    """A writer of one pack to a binary file, which hashes as it goes.

    Args:
        file: A file open for writing, empty.
        vault: Encrypts the index.
    """

    def __init__(self, file: IO[bytes], vault: Vault) -> None:
        self._file = file
        self._vault = vault
        self._hash = hashlib.sha256()
        self._metadata: list[tuple[Kind, ObjectId, bytes | memoryview]] = []
        self.locations: list[Location] = []
        self.size = len(MAGIC) + _SALT + codec.OVERHEAD + OVERHEAD + FOOTER
        """The most bytes that the pack will have if nothing is added.

        The metadata held back counts, and so does the index: otherwise a commit of directories
        only, or of millions of tiny files, would make a pack that no reader accepts.
        """
        self._end = 0
        self._pending: list[bytes | memoryview] = []
        self._unwritten = 0
        self._write(MAGIC)

    def __len__(self) -> int:
        return len(self.locations) + len(self._metadata)

    @property
    def full(self) -> bool:
        """Return whether the pack is large enough to finish and begin another one."""
        return self.size >= TARGET

    def _write(self, data: bytes | memoryview) -> None:
        self._pending.append(data)
        self._end += len(data)
        self._unwritten += len(data)
        if self._unwritten >= _BUFFER:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._pending)
        self._pending.clear()
        self._unwritten = 0
        self._file.write(data)
        self._hash.update(data)

    def append(self, kind: Kind, object_id: ObjectId, stored: bytes | memoryview) -> None:
        """Add a stored object. Metadata is held back until all data is written."""
        if kind.is_data:
            self._place(kind, object_id, stored)
        else:
            self._metadata.append((kind, object_id, stored))
        self.size += len(stored) + _ENTRY.size

    def _place(self, kind: Kind, object_id: ObjectId, stored: bytes | memoryview) -> None:
        self.locations.append(Location(kind, object_id, self._end, len(stored)))
        self._write(stored)

    def finish(self) -> Pack:
        """Write the tail. The file is complete but neither flushed nor closed."""
        tail = self._end
        for kind, object_id, stored in self._metadata:
            self._place(kind, object_id, stored)
        self._metadata.clear()
        index = os.urandom(_SALT) + b"".join(
            _ENTRY.pack(_KINDS[at.kind], bytes.fromhex(at.id), at.offset, at.length)
            for at in self.locations
        )
        sealed = self._vault.close(codec.compress(index), _INDEX)
        self._write(sealed)
        self._write(_FOOTER.pack(tail, len(sealed), MAGIC))
        self._flush()
        return Pack(self._hash.hexdigest(), self._end, tail, self._vault.epochs)


def read_footer(name: str, end: bytes, size: int) -> tuple[int, int]:
    """Read where a pack's parts lie.

    Args:
        name: The pack's name, for messages.
        end: The pack's last bytes, at least `FOOTER` of them.
        size: The pack's size in bytes.

    Returns:
        The offsets of the tail and of the index.

    Raises:
        CorruptPack: The bytes are not a pack's, or its offsets are impossible.
    """
    if len(end) < FOOTER:
        raise errors.CorruptPack(name, "truncated")
    tail, length, magic = _FOOTER.unpack(end[-FOOTER:])
    index = size - FOOTER - length
    if magic != MAGIC or not len(MAGIC) <= tail <= index:
        raise errors.CorruptPack(name, "no footer")
    return tail, index


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
    tail, index = read_footer(pack.id, data, pack.size)
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
        kind = _KIND_OF.get(code)
        start, end = (len(MAGIC), tail) if kind is Kind.CHUNK else (tail, index)
        if kind is None or not start <= offset <= offset + length <= end:
            raise errors.CorruptPack(pack.id, "an index that points outside the pack")
        locations.append(Location(kind, raw.hex(), offset, length))
    return locations


def name_of(blocks: Iterable[bytes]) -> str:
    """Return the name of a pack with these bytes, which anyone can compute without a key."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()
