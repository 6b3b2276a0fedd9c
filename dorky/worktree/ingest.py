"""Storing the content of files: reading once, hashing, compressing, encrypting, packing.

Threads work on small files in parallel batches; a large file is cut, and its chunks are processed
in the same way.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat as stat_module
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from dorky import errors, files
from dorky.files import moment
from dorky.format import chunk
from dorky.format.model import ALL, Chunk, Entry, Kind, MiB, ObjectId
from dorky.keys.roster import GroupOf
from dorky.keys.vault import Vault
from dorky.parallel import THREADS, in_order
from dorky.store import contents
from dorky.store.index import Row
from dorky.store.objects import Store, Writer
from dorky.worktree.worktree import Omit, Worktree, now

LARGE = 8 * MiB
"""The size in bytes from which files get packs of their own, which a clone need not keep."""
_ATTEMPTS = 3
_UNREADABLE = (
    errors.PathNotFound,
    errors.UnreadableFile,
    errors.UnstorablePath,
    errors.FileChanged,
    errors.DiskError,
)
_BATCH = 128
_BATCH_SIZE = 4 * MiB


class _Read(NamedTuple):
    """A small file or a link after reading: its row, and its content."""

    row: Row
    group: str
    body: bytes


def store_files(
    worktree: Worktree,
    sizes: Mapping[str, int],
    writer: Writer,
    store: Store,
    group_of: GroupOf,
    *,
    advance: Callable[[int], None] = lambda _: None,
    omit: Callable[[str], Omit | None] = lambda _: None,
) -> Iterator[Row]:
    """Store the content of files and links, and yield a row for each; in no particular order.

    Memory: a few batches of 4 MiB, whatever the total.

    Args:
        worktree: The files on disk.
        sizes: The approximate size in bytes of each, by path.
        writer: Receives the content.
        store: The store, for its keys.
        group_of: Returns the group that a path is encrypted for.
        advance: Receives the numbers of bytes as they are stored.
        omit: Returns what receives a path that can't be read; None if that raises.

    Raises:
        PathNotFound: A file no longer exists.
        UnstorablePath: A file is a socket, device or pipe.
        FileChanged: A file kept changing while it was read.
    """
    vault = store.vault
    large = [path for path, size in sizes.items() if size > chunk.WHOLE]
    small = ((path, size) for path, size in sizes.items() if size <= chunk.WHOLE)
    batches = list(_batches(small))

    def read(batch: list[str]) -> list[_Read | str]:
        above = {path.rpartition("/")[0]: path for path in batch}
        _check_above(worktree, above)
        found: list[_Read | str] = []
        for path in batch:
            with _omitting(path, omit):
                found.append(_read(worktree, path, group_of(path), vault))
        # Checked again, because a file read through a new link is not the project's.
        _check_above(worktree, above)
        return found

    def judged() -> Iterator[tuple[list[_Read], set[ObjectId]]]:
        for found in in_order(read, batches, threads=THREADS):
            large.extend(file for file in found if isinstance(file, str))
            reads = [file for file in found if not isinstance(file, str)]
            yield reads, writer.lacking({file.row.content for file in reads})

    def close(item: tuple[list[_Read], set[ObjectId]]) -> list[tuple[Row, bytes | None]]:
        reads, lacking = item
        return [
            (
                row,
                vault.store(Kind.CHUNK, row.content, body, group=group)
                if row.content in lacking
                else None,
            )
            for row, group, body in reads
        ]

    several = len(batches) > 1
    for batch in in_order(close, judged(), threads=THREADS) if several else map(close, judged()):
        for row, stored in batch:
            if stored is not None:
                writer.append(Kind.CHUNK, row.content, stored)
            yield row
        advance(sum(row.size for row, _ in batch))
    large.sort(key=lambda path: sizes.get(path, 0) >= LARGE)
    before = False
    for path in large:
        alone = sizes.get(path, 0) >= LARGE
        if alone and not before:
            writer.divide()
        before = alone
        with _omitting(path, omit):
            yield _store_large(worktree, path, writer, store, group_of(path), advance)


@contextlib.contextmanager
def _omitting(path: str, omit: Callable[[str], Omit | None]) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        told = omit(path)
        if told is None:
            raise
        told(path, error)


def _batches(sizes: Iterable[tuple[str, int]]) -> Iterator[list[str]]:
    """Yield paths in batches that are large enough for a thread, but need little memory."""
    batch: list[str] = []
    total = 0
    for path, size in sizes:
        batch.append(path)
        total += size
        if len(batch) == _BATCH or total > _BATCH_SIZE:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def _check_above(worktree: Worktree, above: Mapping[str, str]) -> None:
    """Check that paths are directories, and no links; each is given with a path in it.

    Raises:
        PathNotFound: One is not.
    """
    for directory, path in above.items():
        stat = worktree.stat(directory) if directory else None
        if directory and (stat is None or not stat_module.S_ISDIR(stat.st_mode)):
            raise errors.PathNotFound(path)


def _read(worktree: Worktree, path: str, group: str, vault: Vault) -> _Read | str:
    """Read a small file, or a link; return the path if the file has become a large one.

    Args:
        worktree: The files on disk.
        path: The path in the repository; its parents have been checked.
        group: The group that it is encrypted for.
        vault: The keys.
    """
    for _ in range(_ATTEMPTS):
        seen = now()
        stat = worktree.stat_in(path)
        if stat is None:
            raise errors.PathNotFound(path)
        if stat_module.S_ISLNK(stat.st_mode):
            body = worktree.link_target(path)
        elif stat_module.S_ISREG(stat.st_mode):
            fd = worktree.open(path)
            try:
                stat = os.fstat(fd)
                if stat.st_size > chunk.WHOLE:
                    return path
                with files.disk_errors(Path(path)):
                    # One byte more than expected shows that the file grows.
                    body = os.read(fd, stat.st_size + 1)
                after = os.fstat(fd)
            finally:
                os.close(fd)
            if moment(stat) != moment(after) or stat.st_size != len(body):
                continue
        else:
            raise errors.UnstorablePath(path, "it is not a regular file or a link")
        content = vault.object_id(Kind.CHUNK, body, group=group)
        digest = vault.mask(hashlib.sha256(body).hexdigest(), content)
        row = Row(path, worktree.new_mode(stat), len(body), content, digest).known(stat, seen)
        return _Read(row._replace(group=group), group, body)
    raise errors.FileChanged(path)


class _Hashing:
    """A file whose bytes are hashed as they are read, up to one more than its initial size.

    Otherwise reading a file that keeps growing would never end.
    """

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._limit = size + 1
        self.sha256 = hashlib.sha256()
        self.size = 0

    def readinto(self, buffer: memoryview, /) -> int:
        window = memoryview(buffer)[: self._limit - self.size]
        count = os.readv(self._fd, [window])
        self.sha256.update(window[:count])
        self.size += count
        return count


def _store_large(
    worktree: Worktree,
    path: str,
    writer: Writer,
    store: Store,
    group: str,
    advance: Callable[[int], None],
) -> Row:
    """Store a file that is too large for one chunk, in bounded memory."""
    above = {path.rpartition("/")[0]: path}
    for _ in range(_ATTEMPTS):
        _check_above(worktree, above)
        seen = now()
        fd = worktree.open(path)
        try:
            _check_above(worktree, above)
            stat = os.fstat(fd)
            source = _Hashing(fd, stat.st_size)
            with files.disk_errors(Path(path)):
                content = _store_pieces(source, writer, store, group, advance)
            after = os.fstat(fd)
        finally:
            os.close(fd)
        if moment(stat) == moment(after) and after.st_size == source.size:
            digest = store.vault.mask(source.sha256.hexdigest(), content)
            row = Row(path, worktree.new_mode(after), source.size, content, digest, group=group)
            return row.known(after, seen)
    raise errors.FileChanged(path)


def _store_pieces(
    source: chunk.Readable,
    writer: Writer,
    store: Store,
    group: str,
    advance: Callable[[int], None] = lambda _: None,
) -> ObjectId:
    """Cut and store what is too large for one chunk; return its content id."""
    bodies = chunk.cut(source, seed=store.vault.gear_seed(group))

    def stored() -> Iterator[Chunk]:
        for piece, length in writer.add_all(Kind.CHUNK, bodies, group=group):
            yield Chunk(piece, length)
            advance(length)

    # A large file may have been emptied meanwhile.
    return contents.write(writer, stored(), group=group) or writer.add(Kind.CHUNK, b"", group=group)


def store_bytes(
    store: Store, writer: Writer, name: str, mode: int, data: bytes, *, group: str = ALL
) -> Entry:
    """Store the content of a file that is not on disk; return its tree entry."""
    if len(data) <= chunk.WHOLE:
        content = writer.add(Kind.CHUNK, data, group=group)
    else:
        content = _store_pieces(io.BytesIO(data), writer, store, group)
    return Entry(name, mode, content, len(data), hashlib.sha256(data).hexdigest())


def regroup(
    store: Store, writer: Writer, entry: Entry, group: str, *, source: str | None = None
) -> Entry:
    """Encrypt a file's content for another group; its chunks must be in the local store.

    Every group has its own key for ids, so the content gets another id, too.

    Args:
        store: The store that holds the chunks.
        writer: Receives the encrypted ones.
        entry: The file.
        group: The group that it is for.
        source: The group whose tree holds it, if known: its chunks must be of that group.
    """
    pieces = contents.chunks_of(store, entry.content)
    bodies = (store.read(piece, group=source) for piece in pieces)
    moved = (Chunk(writer.add(Kind.CHUNK, body, group=group), len(body)) for body in bodies)
    content = contents.write(writer, moved, group=group)
    if content is None:
        content = writer.add(Kind.CHUNK, b"", group=group)
    return msgspec.structs.replace(entry, content=content)
