"""Temporary directories of processes that live, end, fork, and are killed."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dorky import temporary

MAKE = """\
import os, sys
from dorky import temporary
made = temporary.TemporaryDirectory()
(made.path / "state").write_bytes(b"x")
print(made.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def maker() -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", MAKE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_it_is_private_and_goes_in_the_end(place: Path) -> None:
    with temporary.directory() as made:
        assert made.parent.parent == place
        assert made.stat().st_mode & 0o777 == 0o700
        assert made.parent.stat().st_mode & 0o777 == 0o700
        descriptor = os.open(made, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody else's
        os.close(descriptor)
        (made / "file").write_bytes(b"x")
    assert [*place.iterdir()] == []


def test_what_a_killed_process_left_goes_with_the_next() -> None:
    process, left = maker()
    with temporary.directory():
        assert (left / "state").exists()  # it lives
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (left / "state").exists()
    with temporary.directory() as made:
        assert not left.parent.exists()
        assert made.exists()


def test_a_child_neither_deletes_it_nor_keeps_it(place: Path) -> None:
    made = temporary.TemporaryDirectory()
    pid = os.fork()
    if pid == 0:
        made.remove()
        temporary.TemporaryDirectory()  # as a worker that ends without a word
        os._exit(0)
    os.waitpid(pid, 0)
    assert made.path.exists()
    assert len([*place.iterdir()]) == 2
    with temporary.directory():
        assert len([*place.iterdir()]) == 2  # the parent's, and the new one
    made.remove()
    assert [*place.iterdir()] == []


def test_only_directories_of_this_kind_are_deleted(place: Path) -> None:
    aim = place / "aim"
    aim.mkdir(0o700)
    (aim / "file").write_bytes(b"x")
    (place / "dorky-state-link").symlink_to(aim)
    (place / "dorky-state-file").write_bytes(b"x")
    (place / "dorky-state-open").mkdir(0o755)
    (place / "dorky-state-open").chmod(0o755)
    (place / "dorky-other").mkdir(0o700)
    before = sorted(place.rglob("*"))
    with temporary.directory():
        pass
    assert sorted(place.rglob("*")) == before


def test_another_users_directory_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = place / "dorky-state-other"
    other.mkdir(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with temporary.directory():
        assert other.exists()


def test_nothing_is_abandoned_where_there_are_no_locks(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "dorky-state-other").mkdir(0o700)

    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with temporary.directory() as made:
        assert made.exists()
    assert [each.name for each in place.iterdir()] == ["dorky-state-other"]


def test_one_that_is_deleted_before_it_is_locked_is_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted: list[Path] = []
    real_open, real_flock = os.open, fcntl.flock

    def opened(path: Path, flags: int, **options: Any) -> int:
        if not deleted:
            deleted.append(path)
            path.rmdir()
        return real_open(path, flags, **options)

    def locked(fd: int, operation: int) -> None:
        if len(deleted) == 1:
            deleted.extend(place.iterdir())
            deleted[1].rmdir()
        real_flock(fd, operation)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(fcntl, "flock", locked)
    with temporary.directory() as made:
        assert len(deleted) == 2
        assert made.exists()
        assert made.parent not in deleted
