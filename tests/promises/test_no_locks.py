"""A file system that knows no locks, as some over a network."""

from __future__ import annotations

import errno
import fcntl
import sys
from pathlib import Path

import pytest
from machines import Machine
from servers import Remote


def test_where_the_project_lies_is_named(ana: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    ana("init")
    ana.write("new", "1")
    monkeypatch.setattr(fcntl, "flock", refuse)
    if hasattr(fcntl, "F_OFD_SETLK"):
        ana("stage", "new")
        ana.write("new", "2")
        monkeypatch.setattr(fcntl, "fcntl", refuse)
    said = ana("stage", "new", code=8)
    assert said.error.endswith("lock: it can't be locked: No locks available")


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which file is locked")
def test_a_home_without_locks_still_remembers(
    ana: Machine, file_url: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana("init", file_url.url)
    flock = fcntl.flock

    def refuse(fd: int, how: int) -> None:
        if str(ana.home) in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(errno.ENOLCK, "No locks available")
        flock(fd, how)

    def known() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (ana.home / ".dorky/known").iterdir()}

    monkeypatch.setattr(fcntl, "flock", refuse)
    ana.commit({"new": "1"}, "one")
    ana("push")
    old = known()
    ana.commit({"new": "2"}, "two")
    ana("push")
    assert old
    assert known() != old
