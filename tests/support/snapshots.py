"""What many tests start from: made once a process, and put back for each of them.

A repository knows the paths of its projects and its remote, so this takes what `tests/conftest.py`
gives: directories that have the same path in every test.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import pytest


class _Entry(NamedTuple):
    """A directory, link or file: the latter two with what they hold."""

    path: Path
    found: os.stat_result
    data: bytes


_KEPT: dict[Hashable, list[_Entry]] = {}
_MOST = 64
"""The most states that are kept, of those that were used last: most are never needed again."""


class Grounds:
    """What `tests/conftest.py` tells of the test that runs.

    Attributes:
        now: The directory that has the same path in every test; None before the first test.
        patches: What the test's fixtures have patched.
    """

    now: ClassVar[Path | None] = None
    patches: ClassVar[pytest.MonkeyPatch]


def once(places: Sequence[Path], make: Callable[[], object], *what: Hashable) -> None:
    """Make what lies in directories, or put it back as it was made the first time.

    Args:
        places: The directories. What they held before is part of what tells states apart.
        make: Makes it. It is called every time if a place is elsewhere than in the grounds, or
            a fixture has patched more than the environment.
        what: Tells it from all else that is made in the same places.
    """
    now = Grounds.now
    inside = now is not None and all(place.is_relative_to(now) for place in places)
    if not inside or Grounds.patches._setattr:
        make()
        return
    environment = {n: value for n, value in os.environ.items() if n != "PYTEST_CURRENT_TEST"}
    key = (what, *places, _held(places), frozenset(environment.items()), _umask())
    if key not in _KEPT:
        make()
        _KEPT[key] = [entry for place in places for entry in _look(place)]
        if len(_KEPT) > _MOST:
            del _KEPT[next(iter(_KEPT))]
    _KEPT[key] = kept = _KEPT.pop(key)
    # The first time, too: nobody is to see a difference between one test and another.
    for place in places:
        _clear(place)
    _put_back(kept)


def _held(places: Iterable[Path]) -> bytes:
    """Return a hash of what directories hold."""
    digest = hashlib.sha256()
    for place in places:
        for path, found, data in sorted(_look(place)) if place.exists() else ():
            digest.update(f"{path} {found.st_mode} {len(data)}\n".encode(errors="surrogateescape"))
            digest.update(data)
    return digest.digest()


def _umask() -> int:
    found = os.umask(0o022)
    os.umask(found)
    return found


def _clear(place: Path) -> None:
    """Empty a directory, which may be the current one."""
    if place.exists():
        for path in place.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _look(place: Path) -> Iterable[_Entry]:
    yield _Entry(place, place.lstat(), b"")
    for parent, directories, files in os.walk(place):
        for name in [*directories, *files]:
            path = Path(parent, name)
            found = path.lstat()
            if stat.S_ISLNK(found.st_mode):
                yield _Entry(path, found, os.fsencode(path.readlink()))
            else:
                whole = path.read_bytes() if stat.S_ISREG(found.st_mode) else b""
                yield _Entry(path, found, whole)


def _put_back(entries: Sequence[_Entry]) -> None:
    for path, found, data in entries:
        if stat.S_ISDIR(found.st_mode):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif stat.S_ISLNK(found.st_mode):
            path.symlink_to(os.fsdecode(data))
        else:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), stat.S_IMODE(found.st_mode))
    for path, found, _ in reversed(entries):  # what a directory gets changes its time
        if not stat.S_ISLNK(found.st_mode):
            if stat.S_ISDIR(found.st_mode):
                path.chmod(stat.S_IMODE(found.st_mode))
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
