"""Files as the remote has them now, whether the project was ever pulled or not."""

from __future__ import annotations

from pathlib import Path

from dorky import errors, files
from dorky.commands.inspect import StrPath, cat, lookup_file
from dorky.commands.sync import refresh
from dorky.commands.upstream import UPSTREAM, at_remote, was_pulled
from dorky.project import ORIGIN, Project
from dorky.store.history import HEAD

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
    _, entry = lookup_file(project, revision, name)
    blocks = cat(project, revision, name)
    files.write_stream(target, entry.mode & ~files.umask(), blocks, replace=force)
    return target
