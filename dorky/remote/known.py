"""Known roots: the newest root that this user has seen at each URL of a repository.

The record lies in ``~/.dorky/known/REPOSITORY``, outside every project, so that nobody who changes
a project's directory or its `.dorkyrc` can make this machine forget it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from dorky import errors, files
from dorky.config import Config

DIRECTORY = "known"
"""The directory in ``~/.dorky``."""

_LIMIT = 1 << 20
_PLACES = 100
_ABSENT = {errno.ENOENT, errno.ENOTDIR}
_CLOSED = {*_ABSENT, errno.EROFS, errno.EACCES, errno.EPERM}
"""Errors of a home directory that is missing or can't be written to."""


class Newest(msgspec.Struct, frozen=True, omit_defaults=True):
    """The newest root of one place, as far as it matters for the roots that follow.

    Attributes:
        generation: Counts the swaps.
        txid: The root's txid.
        recent: The txids before it, newest first.
        epochs: The commitments of all keys in its header, in order; public.
    """

    generation: int
    txid: str
    recent: tuple[str, ...] = ()
    epochs: tuple[str, ...] = ()


class Known:
    """The records of one user, for one place.

    Args:
        config: Leads to the user's home.
        place: The remote's place, in one spelling.
    """

    def __init__(self, config: Config, place: str) -> None:
        self._config = config
        self.place = place

    @property
    def directory(self) -> Path | None:
        """Return the directory of the records; None if the user has no home."""
        try:
            return self._config.home / DIRECTORY
        except errors.SetupError:
            return None

    def floor(self, repository: str) -> Newest | None:
        """Return the root that this place must not fall behind; None if none was ever seen.

        For a place that was never seen, that is the newest root of all places: `.dorkyrc`, which
        names the place, can come from anybody.

        Raises:
            BadKnown: The record can't be read.
        """
        found = self._read(repository)
        if self.place in found:
            return _newest(found[self.place])
        return max(map(_newest, found.values()), key=lambda one: one.generation, default=None)

    def has_seen(self, repository: str) -> bool:
        """Return whether a root of the repository was ever accepted from this very place."""
        return self.place in self._read(repository)

    def note(self, repository: str, newest: Newest, *, force: bool = False) -> bool:
        """Record a root that was accepted, if it is newer than the one recorded.

        Args:
            repository: The repository's id.
            newest: The root to record.
            force: Whether to record it even if it is older.

        Returns:
            Whether it is recorded: False if the user has no home, or one that can't be written to.

        Raises:
            BadKnown: The record can't be read.
            DiskError: The record can't be written, and ``force`` depends on it.
        """
        old = self._read(repository).get(self.place)
        if old is not None and not _follows(_newest(old), newest, force=force):
            return True
        directory = self.directory
        if directory is None:
            return False
        try:
            _make(directory)
            with files.locked(directory / f"{repository}.lock", required=False):
                found = self._read(repository)
                old = found.get(self.place)
                if old is not None and not _follows(_newest(old), newest, force=force):
                    return True
                # Fields that a later dorky has added stay, except where an older root is accepted.
                kept = {} if force or old is None else old
                found[self.place] = {**kept, **msgspec.to_builtins(newest)}
                self._write(directory / repository, found)
        except (errors.DiskError, errors.UnreadableFile, OSError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno in _CLOSED and not (force and old):
                return False
            if isinstance(error, OSError):
                with files.disk_errors(directory):
                    raise
            raise
        return True

    def _read(self, repository: str) -> dict[str, dict[str, Any]]:
        directory = self.directory
        if directory is None:
            return {}
        path = directory / repository
        try:
            found = msgspec.json.decode(_bytes(path) or b"{}", type=dict[str, dict[str, Any]])
            for place in found.values():
                _newest(place)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _bad(path, error) from None
        return found

    def _write(self, path: Path, found: dict[str, dict[str, Any]]) -> None:
        while len(found) > _PLACES:
            # A forgotten place must not fall behind the newest root, so the oldest one is dropped.
            others = found.keys() - {self.place}
            del found[min(others, key=lambda place: _newest(found[place]).generation)]
        files.write_atomic(path, msgspec.json.encode(found), tidy=False)
        if os.geteuid() == 0:  # by sudo, in the home of another user, who needs the record, too
            home = path.parent.stat()
            os.chown(path, home.st_uid, home.st_gid)


def _follows(old: Newest, new: Newest, *, force: bool) -> bool:
    return new != old if force else new.generation > old.generation


def _newest(place: dict[str, Any]) -> Newest:
    return msgspec.convert(place, Newest)


def _make(directory: Path) -> None:
    for path in (directory.parent, directory):
        if not path.is_dir():
            path.mkdir(mode=0o700, exist_ok=True)
    with _opened(directory):
        pass


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    """Open the directory of the records, which must not be a link."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _bytes(path: Path) -> bytes | None:
    """Return the bytes of a record; None if there is none.

    Raises:
        BadKnown: The record is no file, too large, or can't be read.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with _opened(path.parent) as directory:
            fd = os.open(path.name, flags, dir_fd=directory)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise _bad(path, "it is not a regular file")
            data = file.read(_LIMIT + 1)
    except OSError as error:
        link = path.is_symlink() or path.parent.is_symlink()
        if error.errno in _ABSENT and not link:
            return None
        raise _bad(path, "it is a symbolic link" if link else error.strerror) from error
    if not data or len(data) > _LIMIT:
        raise _bad(path, f"it has {len(data):,} bytes")
    return data


def _bad(path: Path, why: object) -> errors.BadKnown:
    target = path.parent if path.parent.is_symlink() else path
    return errors.BadKnown(path, why, target)
