"""Large files on their way in: each is written aside while its chunks arrive, in any order.

A chunk is decrypted and verified once, and written where it belongs. Nothing in the worktree is
touched; `Writing.install` puts the files in place when all of them are complete.
"""

from __future__ import annotations

import stat as stat_module
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from dorky import errors
from dorky.format import chunk
from dorky.format.model import Kind, ObjectId
from dorky.parallel import THREADS, in_order
from dorky.store import contents
from dorky.store.history import Placed
from dorky.store.objects import PackedObject, Store
from dorky.worktree.worktree import Prepared, Writing


class _Part(NamedTuple):
    """One place of a chunk in a file: its offset and length in bytes."""

    path: str
    offset: int
    length: int


class Incoming:
    """Files that lack chunks in the local store, as they are written.

    Args:
        writing: Writes them in the scratch directory.
        store: Holds the lists of their chunks, and perhaps some of the chunks.
    """

    def __init__(self, writing: Writing, store: Store) -> None:
        self._writing = writing
        self._store = store
        self._files: dict[str, tuple[str, Placed]] = {}
        self._parts: dict[ObjectId, list[_Part]] = {}
        self._lacking: set[ObjectId] = set()

    def expect(self, files: Mapping[str, Placed]) -> None:
        """Begin to write those files that are cut into chunks and lack some in the local store.

        The chunks that are there are written at once.

        Raises:
            CorruptObject: A list of chunks is damaged, or is not of the file's size.
            DiskFull: The disk has no space.
        """
        large = {
            path: placed
            for path, placed in files.items()
            if placed.entry.size > chunk.WHOLE and stat_module.S_ISREG(placed.entry.mode)
        }
        if not large:
            return
        places = self._store.locate(entry.content for _, entry in large.values())
        for path, placed in large.items():
            at = places.get(placed.entry.content)
            if at and at.kind is Kind.CHUNKS:
                self._begin(path, placed)
        held = self._store.locate(self._parts)
        self._lacking = self._parts.keys() - held.keys()
        for _ in in_order(self._copy, list(held.values()), threads=THREADS):
            pass

    def _begin(self, path: str, placed: Placed) -> None:
        entry = placed.entry
        parts: dict[ObjectId, list[_Part]] = {}
        size = 0
        for piece in contents.pieces(self._store, entry.content):
            parts.setdefault(piece.id, []).append(_Part(path, size, piece.length))
            size += piece.length
        if size != entry.size:
            raise errors.CorruptObject(
                entry.content, f"{size} bytes in its chunks, {entry.size} in the tree"
            )
        if not self._store.missing(parts):
            return
        self._files[path] = self._writing.begin(path), placed
        for piece_id, where in parts.items():
            self._parts.setdefault(piece_id, []).extend(where)

    def _copy(self, at: PackedObject) -> None:
        stored = self._store.stored(at)
        vault = self._store.vault
        self.take(at.id, vault.group_of(stored), vault.read(at.kind, at.id, stored))

    def take(self, object_id: ObjectId, group: str | None, body: bytes | memoryview) -> None:
        """Write a verified chunk wherever it belongs. Safe to call from several threads.

        Args:
            object_id: The chunk; other objects are ignored.
            group: The group that it is encrypted for.
            body: Its content.

        Raises:
            CorruptObject: The chunk has another length than its list says, or is encrypted for
                others than the file.
            DiskFull: The disk has no space.
        """
        for path, offset, length in self._parts.get(object_id, ()):
            name, placed = self._files[path]
            if group != placed.group:
                raise errors.CorruptObject(
                    object_id, "it is encrypted for another group than what names it"
                )
            if len(body) != length:
                raise errors.CorruptObject(object_id, f"{len(body)} bytes, its list says {length}")
            self._writing.write_at(path, name, body, offset)
        self._lacking.discard(object_id)

    def complete(self) -> Iterable[tuple[str, Prepared]]:
        """Yield the files, each ready to be put in place.

        Raises:
            MissingObject: A chunk has not arrived.
        """
        for object_id in self._lacking:
            raise errors.MissingObject(object_id)
        for path, (name, placed) in self._files.items():
            yield path, self._writing.complete(path, name, placed.entry.mode)
