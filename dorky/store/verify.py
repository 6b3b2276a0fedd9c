"""Verification of whole packs: check that the bytes and every object are what they should be.

A stream of blocks, from a disk or a bucket, is hashed and cut into objects as it passes. Memory: a
block, and the objects that threads are verifying.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dorky import errors, files
from dorky.format.model import Location, MiB, Pack
from dorky.keys.vault import Vault
from dorky.parallel import THREADS, in_order
from dorky.store import pack
from dorky.store.pack import FOOTER

BLOCK = 8 * MiB


class Scrubbed(NamedTuple):
    """An object as it was found: its stored form, and what is wrong with it."""

    at: Location
    stored: bytes
    error: errors.IntegrityError | None


def is_name(name: str) -> bool:
    """Return whether a file of this name is meant to be a pack."""
    return bool(re.fullmatch("[0-9a-f]{64}", name))


def packs_in(directory: Path) -> list[Path]:
    """Return the packs in a directory, sorted; none if the directory is missing."""
    found = directory.iterdir() if directory.is_dir() else ()
    return sorted(path for path in found if is_name(path.name))


def in_part(name: str, part: tuple[int, int]) -> bool:
    """Return whether a pack belongs to the n-th of t parts.

    A pack always belongs to the same part.
    """
    n, t = part
    return int(name[:8], 16) % t == n - 1


def blocks_of(path: Path) -> Iterator[bytes]:
    """Yield a file, piece by piece."""
    with files.disk_errors(path), path.open("rb") as file:
        yield from iter(lambda: file.read(BLOCK), b"")


def footer_of(path: Path) -> tuple[int, int]:
    """Return a pack's size, and where its tail begins, going by its last bytes alone.

    Raises:
        CorruptPack: The pack has no footer.
    """
    with files.disk_errors(path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - FOOTER))
        end = file.read(FOOTER)
    return size, pack.read_footer(path.name, end, size).tail


def is_whole(path: Path) -> bool:
    """Return whether the bytes of a pack on disk are those that its name stands for.

    Raises:
        DiskError: The file can't be read.
    """
    try:
        _, tail = footer_of(path)
    except errors.CorruptPack:
        return False
    return pack.is_whole(path.name, blocks_of(path), tail)


def index_of(path: Path, vault: Vault, epochs: int | None = None) -> tuple[Pack, list[Location]]:
    """Return what a pack on disk says that it holds.

    Args:
        path: The pack.
        vault: Opens the pack's index.
        epochs: How many epochs there were when the pack was written, if that is known. If not, the
            pack is taken to be as old as its key.

    Raises:
        CorruptPack: The pack can't be opened.
    """
    size, tail = footer_of(path)
    with files.disk_errors(path), path.open("rb") as file:
        file.seek(tail)
        data = file.read(size - tail)
    tries = range(1, vault.epochs + 1) if vault.sealed else (0,)
    error = errors.CorruptPack(path.name, "its index can't be opened")
    for epoch in tries if epochs is None else (epochs,):
        found = Pack(path.name, size, tail, epoch)
        try:
            return found, pack.read_tail(found, data, vault)
        except errors.CorruptPack as failed:
            error = failed
    raise error


def scrub(
    blocks: Iterable[bytes],
    locations: Sequence[Location],
    vault: Vault | None,
    take: Callable[[bytes], object] = lambda _: None,
    epochs: int | None = None,
) -> Iterator[Scrubbed]:
    """Verify objects as a pack's bytes pass by. Foreign objects can't be verified and are accepted.

    Args:
        blocks: All of the pack's bytes.
        locations: The locations of the objects.
        vault: Opens the objects; without one they are only cut out.
        take: Receives every block.
        epochs: See `Vault.read`.
    """

    def verify(item: tuple[Location, bytes]) -> Scrubbed:
        at, stored = item
        try:
            if len(stored) != at.length:
                raise errors.CorruptObject(at.id, "truncated")
            if vault and not vault.is_foreign(stored):
                vault.read(at.kind, at.id, stored, epochs=epochs)
        except errors.IntegrityError as error:
            return Scrubbed(at, stored, error)
        return Scrubbed(at, stored, None)

    return in_order(verify, _cut(blocks, locations, take), threads=THREADS)


def _cut(
    blocks: Iterable[bytes], locations: Sequence[Location], take: Callable[[bytes], object]
) -> Iterator[tuple[Location, bytes]]:
    """Cut objects out of a stream, which is read to its end."""
    stream = iter(blocks)
    buffer = b""
    start = 0
    for at in sorted(locations, key=lambda found: found.offset):
        end = at.offset + at.length
        while start + len(buffer) < end and (block := next(stream, b"")):
            take(block)
            keep = max(0, at.offset - start)
            # The bytes before this object are not needed any more.
            buffer, start = buffer[keep:] + block, start + min(keep, len(buffer))
        yield at, buffer[at.offset - start : end - start] if at.offset >= start else b""
    for block in stream:
        take(block)
