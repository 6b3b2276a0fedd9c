"""Files as the remote has them now, whether the project was ever pulled or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dorky import errors, files
from dorky.commands import vouching
from dorky.commands.inspect import (
    StrPath,
    content_of,
    fetch_missing,
    lookup_file,
    needing,
    streams,
)
from dorky.commands.sync import refresh
from dorky.commands.upstream import UPSTREAM, at_remote, was_pulled
from dorky.format.model import Entry
from dorky.project import ORIGIN, Project
from dorky.store import history
from dorky.store.history import HEAD, Placed
from dorky.store.index import Row

__all__ = ["at_remote", "download", "newest"]


def newest(project: Project) -> str:
    """Ask the remote for news; return the name of its newest commit.

    Args:
        project: The project. If it has not been set up, it is.

    Raises:
        NoCommits: The remote has none.
    """
    refresh(project)
    if project.database.ref(UPSTREAM) is None:
        raise errors.NoCommits
    return UPSTREAM


def download(
    project: Project, revision: str, path: StrPath, destination: StrPath, *, force: bool
) -> Path:
    """Write one committed file somewhere, without touching anything else.

    Args:
        project: The project.
        revision: The revision that holds the file; the remote is asked for news first. Empty: the
            remote's newest. If the project was never pulled, ``HEAD`` and ``main`` are that, too.
        path: The file in the repository.
        destination: A file, or a directory to put the file in, on the disk.
        force: Whether to replace an existing file.

    Returns:
        The file that was written.
    """
    name = project.repository_path(path)
    target = Path(destination)
    if target.is_dir():
        target /= name.rpartition("/")[2]
    if not force and (target.exists() or target.is_symlink()):
        raise errors.LocalChanges(target, during="download")
    if ORIGIN in project.config.remotes():
        pulled = was_pulled(project)
        newest(project)
        revision = revision or UPSTREAM
        revision = revision if pulled else at_remote(revision)
    revision = revision or HEAD
    placed = lookup_file(project, revision, name)
    old = vouching.is_old(project, history.resolve(project.store, revision))
    exact = bool(vouching.check(project, {name: placed}, old=old))
    if project.has_worktree and streams(project, placed.entry):
        _receive(project, name, placed, target, force=force, exact=exact)
        return target
    blocks = content_of(project, name, placed)
    if exact:
        blocks = vouching.exact(blocks, placed.entry)
    files.write_stream(target, placed.entry.mode & ~files.umask(), blocks, replace=force)
    return target


def _receive(
    project: Project, name: str, placed: Placed, target: Path, *, force: bool, exact: bool
) -> None:
    """Write a large file aside as its chunks arrive, in any order, then put it in place.

    A download that was interrupted is gone on with, as a pull is.
    """
    from dorky.store import contents
    from dorky.worktree.incoming import Incoming

    store, entry = project.store, placed.entry
    passing = {piece.id for piece in contents.pieces(store, entry.content)}
    resume = project.config.state_directory is None
    with project.locked(), project.worktree.writing() as writing:
        incoming = Incoming(writing, store, {name: placed}, whole=True)
        try:
            incoming.begin(passing, resume=resume)
            incoming.reuse(_copies(project, entry), project.worktree.open)
            with needing(project, {name: placed}):
                fetch_missing(project, incoming.lacking, incoming.take, passing)
        except errors.DiskFull:
            incoming.discard()
            raise
        for _ in vouching.exact(incoming.written(name), entry) if exact else ():
            pass
        ((_, prepared),) = incoming.complete()
        writing.export(prepared, target, replace=force)


def _copies(project: Project, entry: Entry) -> Iterator[Row]:
    """Yield the files in the worktree that may hold a content."""
    rows = project.index.rows().values()
    yield from (row for row in rows if row.content == entry.content and not row.absent)
