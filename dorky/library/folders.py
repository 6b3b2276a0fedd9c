"""Many files at once: which ones patterns select, and how directories on the disk take part."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat as stat_module
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from dorky import cancellation, errors, files
from dorky.format.chunk import WHOLE
from dorky.format.model import MiB
from dorky.library import contents
from dorky.library.commits import Put
from dorky.library.contents import Content, Objects
from dorky.library.session import Session
from dorky.parallel import in_order
from dorky.paths import parents
from dorky.store.history import Placed

T = TypeVar("T")
R = TypeVar("R")
HELD = 32 * MiB
"""The most bytes of small files that wait in memory for their commit."""
_BLOCK = 1 << 20
_TOGETHER = 1 * MiB
"""The bytes of small files that each thread asks for together."""
_FILES = 512
"""The most files that each thread asks for together."""

Selects = Callable[[str], bool]
"""Returns whether a path is selected."""


def selector(allow: Sequence[str] | str | None, ignore: Sequence[str] | str | None) -> Selects:
    """Return the function that selects paths by patterns, in the syntax of `.gitignore`.

    Args:
        allow: A path must match one of these; None: any path does.
        ignore: And none of these.
    """
    from pathspec import GitIgnoreSpec

    def compiled(patterns: Sequence[str] | str) -> GitIgnoreSpec:
        return GitIgnoreSpec.from_lines([patterns] if isinstance(patterns, str) else patterns)

    allowed = None if allow is None else compiled(allow)
    ignored = compiled(ignore or ())
    return lambda path: (
        (allowed is None or allowed.match_file(path)) and not ignored.match_file(path)
    )


def walk(folder: Path, selects: Selects) -> Iterator[str]:
    """Yield the selected files below a directory, as paths relative to it.

    What belongs to git and to dorky themselves is left out.

    Raises:
        UnstorablePath: A selected file is a link, or no file.
    """
    if not folder.is_dir():
        raise errors.PathNotFound(folder)
    with files.disk_errors(folder):
        for directory, names, found in os.walk(folder):
            at = Path(directory).relative_to(folder).as_posix()
            below = "" if at == "." else f"{at}/"
            links = [name for name in names if Path(directory, name).is_symlink()]
            names[:] = sorted({name for name in names if not files.unsafe(name)} - {*links})
            for name in sorted([*found, *links]):
                path = below + name
                if files.unsafe(name) or not selects(path):
                    continue
                mode = Path(directory, name).lstat().st_mode
                if not stat_module.S_ISREG(mode):
                    kind = "a symbolic link" if stat_module.S_ISLNK(mode) else "not a regular file"
                    raise errors.UnstorablePath(path, f"it is {kind}")
                yield path


Taken = TypeVar("Taken", Put, Put | Exception)


def settled(session: Session, puts: Iterable[Taken]) -> Iterator[Taken]:
    """Yield the same uploads, or errors; store what would take too much memory together."""
    held: list[Taken] = []
    size = 0
    for put in puts:
        held.append(put)
        content = put.content if isinstance(put, Put) else None
        size += len(content.body or b"") if isinstance(content, Content) else 0
        if size > HELD:
            yield from stored(session, held)
            held, size = [], 0
    yield from held


def stored(session: Session, held: Sequence[Taken]) -> Iterator[Taken]:
    """Yield the same uploads, or errors, with every content stored."""
    made: list[Taken] = []
    with session.store.writer() as writer:
        for put in held:
            content = put.content if isinstance(put, Put) else None
            if isinstance(put, Put) and isinstance(content, Content) and content.body is not None:
                stored = content._replace(id=content.store(writer), body=None)
                made.append(put._replace(content=stored))
            else:
                made.append(put)
        writer.save()
    yield from made


def each(
    work: Callable[[T], R], items: Sequence[T], threads: int
) -> Iterator[tuple[T, R | Exception]]:
    """Work on every item in threads; yield each with its result or error, in order."""

    def attempt(item: T) -> tuple[T, R | Exception]:
        try:
            return item, work(item)
        except Exception as error:  # noqa: BLE001 - it is told with the item
            return item, error

    yield from in_order(attempt, items, threads=max(1, threads))


# --- into a directory -----------------------------------------------------------------------


def target(folder: Path, path: str) -> Path:
    """Return the place of a repository path in a directory.

    Raises:
        UnsafePath: It would lie outside, or behind a link, or where git or dorky have their own.
    """
    files.check_path(path)
    for above in parents(path):
        if (folder / above).is_symlink():
            raise errors.UnsafePath(f"{path!a}, behind the link {above!a}")
    return folder / path


def dangerous(paths: Iterable[str]) -> set[str]:
    """Return paths that git would obey in a directory: its own files, and what looks like it."""
    held = [*paths]
    own = {path for path in held if files.is_gits_own(path.rpartition("/")[2])}
    return own | in_repositories(held)


def in_repositories(paths: Iterable[str]) -> set[str]:
    """Return the paths below a directory that git would take for a repository of its own."""
    names: dict[str, set[str]] = {}
    held = [*paths]
    for path in held:
        for place in [*parents(path), path]:
            directory, _, name = place.rpartition("/")
            names.setdefault(directory, set()).add(name)
    shaped = {directory for directory, inside in names.items() if files.is_git_directory(inside)}
    return {path for path in held if "" in shaped or not shaped.isdisjoint(parents(path))}


def holds(place: Path, placed: Placed) -> bool:
    """Return whether a file on the disk has the content of one of a repository."""
    try:
        stat = place.lstat()
        if not stat_module.S_ISREG(stat.st_mode) or stat.st_size != placed.entry.size:
            return False
        sha256 = hashlib.sha256()
        with place.open("rb") as file:
            while block := file.read(_BLOCK):
                cancellation.check()
                sha256.update(block)
    except OSError:
        return False
    return sha256.hexdigest() == placed.entry.sha256


def write_all(
    session: Session, folder: Path, wanted: Sequence[tuple[str, Placed]]
) -> Iterator[tuple[int, Path | Exception]]:
    """Write files into a directory, each as a whole or not at all.

    Yields:
        The position of each file, in any order, and its place on the disk or its error.
    """

    def work(batch: list[int]) -> list[tuple[int, Path | Exception]]:
        placed = [wanted[at][1] for at in batch]
        small = {file.entry.content for file in placed if file.entry.size <= WHOLE}
        try:
            objects = contents.Together(session, small, placed[0].group)
        except Exception as error:  # noqa: BLE001 - it is told with the files
            return [(at, error) for at in batch]
        written = each(lambda at: _write(objects, folder, *wanted[at]), batch, threads=1)
        return [*written]

    threads = max(1, session.config.max_concurrency)
    for done in in_order(work, _batches(placed for _, placed in wanted), threads=threads):
        yield from done


def _batches(wanted: Iterable[Placed]) -> Iterator[list[int]]:
    """Yield the positions of files to fetch together: small ones of one group, or a large one."""
    waiting: dict[str, list[int]] = {}
    sizes: dict[str, int] = {}
    for at, (group, entry) in enumerate(wanted):
        if entry.size > WHOLE:
            yield [at]
            continue
        waiting.setdefault(group, []).append(at)
        sizes[group] = sizes.get(group, 0) + entry.size
        if sizes[group] >= _TOGETHER or len(waiting[group]) == _FILES:
            del sizes[group]
            yield waiting.pop(group)
    yield from waiting.values()


def _write(objects: Objects, folder: Path, path: str, placed: Placed) -> Path:
    place = target(folder, path)
    if not stat_module.S_ISREG(placed.entry.mode):
        raise errors.UnsafePath(f"{path!a}, a symbolic link")
    with files.disk_errors(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
    target(folder, path)  # again, now that what is above it exists
    mode = placed.entry.mode & ~files.umask()
    files.write_stream(place, mode, contents.blocks(objects, placed))
    return place


def others(folder: Path, wanted: Iterable[str], selects: Selects) -> list[str]:
    """Return the selected files of a directory that are not wanted."""
    keep = set(wanted)
    found = []
    for directory, names, inside in os.walk(folder):
        names[:] = [name for name in names if not files.unsafe(name)]
        for name in inside:
            path = Path(directory, name).relative_to(folder).as_posix()
            if path not in keep and selects(path) and not files.unsafe(name):
                found.append(path)
    return sorted(found)


def delete(folder: Path, paths: Iterable[str]) -> None:
    """Delete files, and the directories that are empty then."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            (folder / path).unlink()
        for above in reversed([*parents(path)]):
            with contextlib.suppress(OSError):
                (folder / above).rmdir()
