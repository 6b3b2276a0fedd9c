"""Disks that can't be written to: mounted read-only, or full."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import quirky
from disks import unprivileged
from machines import Machine, forget
from servers import Remote

from dorky import errors, files
from dorky.repo import Repository
from dorky.store import database

READING = [
    ("status",),
    ("log",),
    ("ls",),
    ("show", "HEAD"),
    ("diff",),
    ("get", ".env", "KEY"),
    ("export", ".env"),
    ("cat", "HEAD:.env"),
    ("fsck",),
    ("fsck", "--read-data"),
    ("doctor",),
]
WRITING = [
    ("stage", ".env"),
    ("commit", "-am", "x"),
    ("unstage", ".env"),
    ("rm", ".env"),
    ("checkout", "HEAD"),
    ("restore", ".env"),
    ("pull",),
    ("push",),
    ("sync",),
    ("gc",),
    ("undo",),
]


def run_in(machine: Machine, command: str) -> str:
    """Run a command with the project's variables, which replaces the process."""
    with machine.here():
        words = [sys.executable, "-m", "dorky", "run", "--", "sh", "-c", command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.fixture
def ben(ana: Machine, file_url: Remote) -> Machine:
    ana("init", file_url.url)
    ana.commit({".env": "KEY=1\n", "large": os.urandom(400_000)})
    ana("push")
    return ana


@pytest.mark.parametrize("log", [False, True], ids=["closed", "with a log"])
def test_a_read_only_mount_is_read(ben: Machine, log: bool) -> None:
    expected = {words: ben(*words).out for words in READING if words[0] not in {"doctor", "fsck"}}
    with contextlib.ExitStack() as stack:
        if log:  # of a command that runs elsewhere, or was killed
            other = stack.enter_context(ben.repo())
            other.database.set("some", b"value")
            wal = Path(f"{other.database.path}-wal")
            assert wal.stat().st_size
        stack.enter_context(quirky.read_only(ben.project))
        before = sorted(path for path in ben.own.rglob("*"))
        assert run_in(ben, 'echo "$KEY"') == "1\n"
        for words in READING:
            said = ben(*words)
            assert said.out == expected.get(words, said.out)
        with Repository(ben.project) as repo, ben.here():
            assert repo.database.get("some") == (b"value" if log else None)
        for words in WRITING:
            said = ben(*words, code=8)
            assert "read-only" in said.error, words
        with ben.repo() as repo, pytest.raises(errors.ReadOnly):
            repo.database.set("other", b"value")
        assert sorted(path for path in ben.own.rglob("*")) == before
    assert ben("status").out == expected["status",]


def test_a_read_only_checkout_without_state_is_told_where_to_have_one(
    ben: Machine, tmp_path: Path
) -> None:
    fresh = ben.another("fresh")
    fresh.write(".dorkyrc", ben.read(".dorkyrc"))
    with quirky.read_only(fresh.project):
        said = fresh("get", ".env", "KEY", code=8)
        assert "read-only" in said.error
        assert "DORKY_DIR" in said.hint
        fresh.env["DORKY_DIR"] = str(tmp_path / "state")
        assert fresh("get", ".env", "KEY").out == "1\n"
        assert "DORKY_DIR" not in fresh("pull", code=8).hint


def test_a_checkout_without_permission_to_write_is_read(ben: Machine, tmp_path: Path) -> None:
    expected = ben("status").out
    places = [ben.project, ben.own, ben.state, ben.state / "packs", ben.state / "tmp"]
    with unprivileged(tmp_path):
        for place in places:
            place.chmod(0o500)
        try:
            assert ben("status").out == expected
            assert ben("get", ".env", "KEY").out == "1\n"
            assert "read-only" in ben("stage", ".env", code=8).error
        finally:
            for place in places:
                place.chmod(0o700)


def test_edits_on_a_read_only_mount_are_seen(ben: Machine) -> None:
    ben.write(".env", "KEY=2\n")
    with quirky.read_only(ben.project):
        said = ben("status", "--json").json["unstaged"]
        assert [change["path"] for change in said] == [".env"]


def test_a_copy_of_a_database_that_keeps_changing_is_refused(
    ben: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(100))
    stamp = files.stamp

    def moving(found: os.stat_result) -> files.FileStamp:
        return (next(looks), *stamp(found)[1:])

    with quirky.read_only(ben.project):
        monkeypatch.setattr(database.files, "stamp", moving)
        assert "in use" in ben("log", code=5).error


# --- full -----------------------------------------------------------------------------------


@pytest.fixture
def cramped(tmp_path: Path, file_url: Remote) -> Machine:
    """A project on a disk of 8 MiB."""
    machine = Machine(tmp_path / "cramped", {})
    machine.project.rmdir()
    return machine


def test_a_full_disk_is_read_and_cleaned(
    cramped: Machine, file_url: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    with quirky.small(cramped.project, 8 << 20):
        cramped("init", file_url.url)
        cramped.commit({".env": "KEY=1\n"})
        for _ in range(3):
            cramped.write("draft", os.urandom(500_000))
            cramped("stage", "draft")
        cramped("unstage", "draft")
        forget(cramped)
        full = quirky.fill(cramped.project)
        taken = full.stat().st_size
        for words in READING:
            cramped.run(*words)
            if words[0] != "doctor":
                cramped(*words)
        assert cramped("stage", "draft", code=8).error.startswith("No space left")
        assert cramped("status", "--json").json["staged"] == []
        said = cramped("gc", "--grace", "0", "--json").json
        assert said["size"] > 1_000_000
        assert files.free(cramped.project) > 1_000_000
        assert (cramped.state / "reserve").exists()
        cramped("stage", "draft")
        cramped("commit", "-m", "there is room again")
        cramped("fsck", "--read-data")
        assert full.stat().st_size == taken


def test_what_can_not_be_rewritten_for_want_of_room_follows_what_is_deleted(
    cramped: Machine, file_url: Remote
) -> None:
    with quirky.small(cramped.project, 12 << 20):
        cramped("init", file_url.url)
        kept = os.urandom(900_000)
        # One pack that is half needed, and one that is not needed at all.
        cramped.write("kept", kept)
        cramped.write("half", os.urandom(1_000_000))
        cramped("stage", "kept", "half")
        cramped("rm", "half", "--cached")
        cramped("commit", "-m", "one")
        cramped.write("draft", os.urandom(1_000_000))
        cramped("stage", "draft")
        cramped("rm", "draft", "--cached")
        forget(cramped)
        quirky.fill(cramped.project)
        said = cramped("gc", "--grace", "0", "--json").json
        assert said["garbage"]
        assert said["rewritten"]
        assert said["size"] > 1_900_000
        (cramped.project / "kept").unlink()
        cramped("restore", "kept")
        assert cramped.read("kept") == kept
        cramped("fsck", "--read-data")


def test_a_pull_that_does_not_fit_does_not_begin(
    cramped: Machine, ana: Machine, file_url: Remote
) -> None:
    ana("init", file_url.url)
    ana.commit({".env": "KEY=1\n"})
    ana("push")
    cramped.identity.parent.mkdir(mode=0o700)
    cramped.identity.write_bytes(ana.identity.read_bytes())
    cramped.identity.chmod(0o600)
    with quirky.small(cramped.project, 4 << 20):
        cramped("clone", file_url.url, ".")
        ana.commit({"large": os.urandom(3_000_000), ".env": "KEY=2\n"})
        ana("push")
        free = files.free(cramped.project)
        said = cramped("pull", code=8)
        assert "are needed" in said.error
        assert cramped.read(".env") == b"KEY=1\n"
        assert files.free(cramped.project) > free - 100_000  # not even fetched
        assert not list((cramped.state / "tmp").iterdir())
        ana("rm", "large")
        ana("commit", "-m", "smaller")
        ana("push")
        cramped("pull")
        assert cramped.read(".env") == b"KEY=2\n"
