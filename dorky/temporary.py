"""Temporary directories, which a process that is killed does not leave for long.

A killed process, or a worker of `multiprocessing`, deletes nothing when it ends. Each directory is
therefore locked for as long as its process lives, and whoever makes one deletes those that no
process has locked. `systemd-tmpfiles`, too, leaves locked directories alone, however old they are.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "dorky-state-"


class TemporaryDirectory:
    """A new empty directory that only this user can open.

    Raises:
        OSError: It can't be made.
    """

    def __init__(self) -> None:
        import tempfile  # most commands need none

        _remove_abandoned(tempfile.gettempdir())
        self._process = os.getpid()
        while True:
            self._outer = Path(tempfile.mkdtemp(prefix=_PREFIX))
            # Another process may find and delete it before it is locked.
            with contextlib.suppress(FileNotFoundError):
                self._fd = os.open(self._outer, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                if _locked(self._fd, self._outer):
                    break
                os.close(self._fd)
        self.path = self._outer / "state"  # whose own lock is its user's
        self.path.mkdir(mode=stat.S_IRWXU)

    def remove(self) -> None:
        """Delete the directory, unless this is a child of the process that made it."""
        if os.getpid() == self._process:
            shutil.rmtree(self._outer, ignore_errors=True)
            os.close(self._fd)


def _locked(fd: int, path: Path) -> bool:
    with contextlib.suppress(OSError):  # without locks nothing is taken for abandoned, either
        fcntl.flock(fd, fcntl.LOCK_SH)
    try:
        return os.path.samestat(os.fstat(fd), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """Yield a temporary directory, and delete it in the end."""
    made = TemporaryDirectory()
    try:
        yield made.path
    finally:
        made.remove()


def _remove_abandoned(place: str) -> None:
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(entry.path)


def _remove_if_abandoned(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == stat.S_IRWXU:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(fd)
