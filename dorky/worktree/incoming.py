"""Large files on their way in: each is written aside while its chunks arrive, in any order.

A chunk is decrypted and verified once, and written where it belongs. Nothing in the worktree is
touched; `Writing.install` puts the files in place when all of them are complete.
"""

from __future__ import annotations

import contextlib
import os
import stat as stat_module
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from dorky import errors
from dorky import files as on_disk
from dorky.format import chunk
from dorky.format.model import Kind, ObjectId
from dorky.parallel import THREADS, in_order
from dorky.store import contents
from dorky.store.history import Placed
from dorky.store.index import Row
from dorky.store.objects import PackedObject, Store
from dorky.worktree.worktree import Prepared, Writing

_BLOCK = 1 << 20


class _Part(NamedTuple):
    """One place of a chunk in a file: its offset and length in bytes."""

    path: str
    offset: int
    length: int


class _File(NamedTuple):
    """A file that is being written.

    Attributes:
        placed: The file.
        name: Its name in the scratch directory.
        passing: Whether a chunk of it is stored nowhere else on this machine.
    """

    placed: Placed
    name: str
    passing: bool


class Incoming:
    """Files that lack chunks in the local store, as they are written.

    Args:
        writing: Writes them in the scratch directory.
        store: Holds the lists of their chunks, and perhaps some of the chunks.
        files: Files of a plan, by path. Those that are cut into chunks, and lack some in the local
            store, are expected.
        whole: Whether those that lack none are expected, too.

    Raises:
        CorruptObject: A list of chunks is damaged, or is not of the file's size.
    """

    def __init__(
        self, writing: Writing, store: Store, files: Mapping[str, Placed], *, whole: bool = False
    ) -> None:
        self._writing = writing
        self._store = store
        self._whole = whole
        self._files: dict[str, _File] = {}
        self._parts: dict[ObjectId, list[_Part]] = {}
        self.expected: dict[str, Placed] = {}
        large = {
            path: placed
            for path, placed in files.items()
            if placed.entry.size > chunk.WHOLE and stat_module.S_ISREG(placed.entry.mode)
        }
        places = store.locate(entry.content for _, entry in large.values()) if large else {}
        for path, placed in large.items():
            at = places.get(placed.entry.content)
            if at and at.kind is Kind.CHUNKS:
                self._expect(path, placed)
        self._lacking = set(self._parts)
        self._passing: Collection[ObjectId] = ()

    def _expect(self, path: str, placed: Placed) -> None:
        entry = placed.entry
        parts: dict[ObjectId, list[_Part]] = {}
        size = 0
        most = entry.size // chunk.MIN + 1  # only the last chunk may be shorter
        for n, piece in enumerate(contents.pieces(self._store, entry.content)):
            if n == most:
                raise errors.CorruptObject(
                    entry.content, f"it has more chunks than {entry.size} bytes have room for"
                )
            parts.setdefault(piece.id, []).append(_Part(path, size, piece.length))
            size += piece.length
        if size != entry.size:
            raise errors.CorruptObject(
                entry.content, f"{size} bytes in its chunks, {entry.size} in the tree"
            )
        if self._whole or self._store.missing(parts):
            self.expected[path] = placed
            for piece_id, where in parts.items():
                self._parts.setdefault(piece_id, []).extend(where)

    def begin(self, passing: Collection[ObjectId], *, resume: bool = True) -> None:
        """Begin to write the files, with those of their chunks that are on this machine.

        Args:
            passing: Chunks that are not going to be stored. A file with such chunks outlives the
                command while it is not complete, for the next command to go on with.
            resume: Whether it does; it is not encrypted.

        Raises:
            CorruptObject: A chunk in the local store is damaged.
            DiskFull: The disk has no space.
        """
        alone = {part.path for piece in passing for part in self._parts.get(piece, ())}
        partial: dict[ObjectId, str] = {}
        begun: set[str] = set()
        for path, placed in self.expected.items():
            content = placed.entry.content if resume and path in alone else ""
            if content and partial.setdefault(content, path) != path:
                content = ""
            name, resumed = self._writing.begin(path, placed.entry.size, resumed=content)
            if resumed:
                begun.add(path)
            self._files[path] = _File(placed, name, path in alone)
        held = self._store.locate(self._parts)
        for _ in in_order(self._copy, list(held.values()), threads=THREADS):
            pass
        self._passing = passing
        for path in begun:
            placed, name, _ = self._files[path]
            fd = self._writing.reopen(path, name)
            self._reuse(fd, placed.entry.content, placed.group)

    @property
    def lacking(self) -> set[ObjectId]:
        """Return the chunks that are still missing."""
        return set(self._lacking)

    def reuse(self, rows: Iterable[Row], open_: Callable[[str], int]) -> None:
        """Take chunks from files in the worktree, which may hold what is not stored.

        Args:
            rows: What files are known to have held. Each chunk is verified.
            open_: Opens a file of the worktree for reading.
        """
        for row in rows:
            with contextlib.suppress(errors.DorkyError):
                self._reuse(open_(row.path), row.content, row.group)

    def _reuse(self, fd: int, content: ObjectId, group: str) -> None:
        """Take those chunks of a content from a file that the file does hold; close it."""
        vault = self._store.vault

        def take(item: tuple[ObjectId, tuple[int, int]]) -> None:
            piece, (offset, length) = item
            body = os.pread(fd, length, offset)
            if len(body) == length and vault.object_id(Kind.CHUNK, body, group=group) == piece:
                self.take(piece, group, body)

        try:
            wanted: dict[ObjectId, tuple[int, int]] = {}
            offset = 0
            for piece in contents.pieces(self._store, content):
                if piece.id in self._lacking and piece.id in self._passing:
                    wanted[piece.id] = offset, piece.length
                offset += piece.length
            with on_disk.disk_errors(content):
                for _ in in_order(take, list(wanted.items()), threads=THREADS):
                    pass
        finally:
            os.close(fd)

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
            placed, name, _ = self._files[path]
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
        for path, (placed, name, passing) in self._files.items():
            mode = placed.entry.mode
            yield path, self._writing.complete(path, name, mode, durable=passing)

    def written(self, path: str) -> Iterator[bytes]:
        """Yield the content of an expected file as it has been written aside."""
        fd = self._writing.reopen(path, self._files[path].name)
        with open(fd, "rb") as file, on_disk.disk_errors(path):
            while block := file.read(_BLOCK):
                yield block

    def discard(self) -> None:
        """Delete what has been written: a disk that is full needs the room."""
        for _, name, _ in self._files.values():
            self._writing.discard(name)
