"""Reads of single files, and lists of them. `DorkyClient` has their arguments."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TypeVar

from dorky import errors, files
from dorky.library import catalog, contents, glimpses, ranges, uploads
from dorky.library.contents import Objects
from dorky.library.metering import Meter, Report
from dorky.library.ranges import Range
from dorky.library.records import CommitInfo, Download, FileInfo, StrPath
from dorky.library.scope import Scope
from dorky.paths import matches
from dorky.store import history
from dorky.store.history import Placed

T = TypeVar("T")


def read(scope: Scope, path: StrPath, start: int, end: int | None, version: str) -> bytes:
    """Return the content of a file; see `DorkyClient.read`."""
    ranges.check(start, end)
    _, placed, objects = scope.content(path, version)
    return b"".join(contents.blocks(objects, placed, start, end))


def stream(scope: Scope, path: StrPath, size: int, version: str) -> Iterator[bytes]:
    """Return the blocks of a file; see `DorkyClient.stream`."""
    _, placed, objects = scope.content(path, version)
    if size < 1:
        raise errors.UsageError("a chunk has at least one byte")
    return ranges.even(contents.blocks(objects, placed), size)


def download(
    scope: Scope,
    path: StrPath,
    dest: StrPath | IO[bytes],
    *,
    version: str,
    byte_range: Range | None,
    progress: Report | None,
) -> Download:
    """Download a file; see `DorkyClient.download`."""
    where, placed = scope.find(path, version)
    scope.vouch(where, placed)
    info = scope.info(where, placed)
    if info.kind == "link":
        raise errors.UsageError(f"{where.path} is a symbolic link, which has no content")
    start, end = ranges.resolve(byte_range, info.size)
    meter = Meter(progress, "download", total=end - start)
    objects: Objects = contents.Fetched(scope.session)

    def counted() -> Iterator[bytes]:
        for block in contents.blocks(objects, placed, start, end):
            yield block
            meter.advance(where.path, len(block))

    written = ""
    if isinstance(dest, str | os.PathLike):
        place = Path(dest)
        if place.is_dir() or str(dest).endswith("/"):
            place /= where.path.rpartition("/")[2]
        with files.disk_errors(place.parent):
            place.parent.mkdir(parents=True, exist_ok=True)
        files.write_stream(place, placed.entry.mode & ~files.umask(), counted())
        written = str(place)
    else:
        for block in counted():
            dest.write(block)
    meter.finish(where.path)
    return Download(info=info, local_path=written)


def exists(scope: Scope, path: StrPath, version: str) -> bool:
    """Return whether there is such a file."""
    _, found = scope.glimpse(path, version)
    if found is not None:
        return isinstance(found, glimpses.File)
    with contextlib.suppress(errors.NoSuchFile, errors.IsADirectory):
        scope.find(path, version)
        return True
    return False


def is_closed(scope: Scope, path: StrPath) -> bool:
    """Return whether a path belongs to a group that this client is not in."""
    named = catalog.address(uploads.text_of(path)).path
    session = scope.session
    if scope.pin:
        session.open()
    else:
        session.refresh()
    return session.project.owner(named) not in session.store.vault.groups


def listed(
    scope: Scope,
    prefix: str,
    *,
    recursive: bool,
    limit: int | None,
    start_after: str,
    version: str,
    details: bool,
) -> Iterator[FileInfo]:
    """Return the files in a directory; see `DorkyClient.list`."""
    directory = catalog.prefix(prefix)
    found = scope.version(version)
    held = catalog.listed(catalog.view_of(scope.session, found), directory, recursive=recursive)
    chosen = (item for item in held if item[0] > start_after)
    return catalog.infos(scope.session, found, _first(limit, chosen), details=details)


def matching(scope: Scope, pattern: str, version: str) -> Iterator[FileInfo]:
    """Return the files that match a shell pattern; see `DorkyClient.glob`."""
    found = scope.version(version)
    held = catalog.listed(catalog.view_of(scope.session, found), "", recursive=True)
    chosen: Iterator[tuple[str, Placed | None]] = (
        item for item in held if matches(item[0], pattern)
    )
    return catalog.infos(scope.session, found, chosen)


def versions(scope: Scope, path: StrPath, limit: int | None) -> Iterator[FileInfo]:
    """Return every version of a file, the newest first."""
    target = catalog.checked(uploads.text_of(path))
    head = scope.version()
    return _first(limit, catalog.versions(scope.session, head, target) if head else ())


def log(scope: Scope, limit: int | None) -> Iterator[CommitInfo]:
    """Return the commits, the newest first."""
    head = scope.version()
    nodes = history.ancestors(scope.session.store, [head] if head else [])
    return _first(limit, (catalog.commit_info(scope.session, node) for node in nodes))


def _first(limit: int | None, items: Iterable[T]) -> Iterator[T]:
    return itertools.islice(items, None if limit is None else max(0, limit))
