"""Locks end with their holder's block, though a process that was forked meanwhile still lives."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dorky import errors, files
from dorky.drivers.file import FileDriver
from dorky.store import state

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture
def forking(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Fork a process whenever a lock is taken; it lives until the test ends."""
    children: list[int] = []
    take = fcntl.flock
    wait, end = os.pipe()

    def flock(fd: int, operation: int) -> None:
        if operation == fcntl.LOCK_UN:
            take(fd, operation)
            return
        take(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error instead of a wait for ever
        if (child := os.fork()) == 0:
            with contextlib.suppress(BaseException):
                os.close(end)
                os.read(wait, 1)
            os._exit(0)
        children.append(child)

    monkeypatch.setattr(fcntl, "flock", flock)
    yield children
    os.close(end)
    os.close(wait)
    for child in children:
        os.waitpid(child, 0)


def swap(place: Path) -> None:
    FileDriver(place).swap("root", b"x", expected=None)
    (place / "root").unlink()


def lock(place: Path) -> None:
    with files.locked(place / "lock", timeout=0):
        pass


@pytest.mark.parametrize("hold", [swap, lock])
def test_a_lock_ends_with_its_block(
    hold: Callable[[Path], None], tmp_path: Path, forking: list[int]
) -> None:
    hold(tmp_path)
    hold(tmp_path)
    assert len(forking) == 2


def test_a_directory_s_lock_ends_with_its_block(tmp_path: Path, forking: list[int]) -> None:
    for _ in range(2):
        with state.alone(os.open(tmp_path, os.O_RDONLY)):
            pass
    assert len(forking) == 2


def test_a_forked_process_does_not_release_its_parent_s_lock(tmp_path: Path) -> None:
    with files.locked(tmp_path / "lock"):
        child = os.fork()
        if child == 0:
            os._exit(0)  # the descriptor was closed when it was forked
        assert os.waitpid(child, 0)[1] == 0
        with pytest.raises(errors.Locked), files.locked(tmp_path / "lock", timeout=0):
            pass
