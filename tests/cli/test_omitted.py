"""A file that can't be read or kept stops neither the rest of a directory nor a status."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import quirky
from disks import unprivileged
from machines import Machine
from servers import Remote

from dorky import errors
from dorky.worktree import worktree


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Machine]:
    """A project with a file, of a user whom permission bits bind."""
    machine = Machine(tmp_path / "plain", {})
    machine("init")
    machine.commit({"sub/.env": "A=1\n"})
    with unprivileged(tmp_path):
        yield machine


def omitted(machine: Machine, *words: str, code: int) -> dict[str, str]:
    said = machine("stage", *words, "--json", code=code).json
    return {item["path"]: item["code"] for item in said["omitted"]}


def staged(machine: Machine) -> set[str]:
    return {change["path"] for change in machine("status", "--json").json["staged"]}


def test_what_has_no_content_is_left_out(plain: Machine) -> None:
    os.mkfifo(plain.project / "sub/pipe")
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(plain.project / "sub")
        made.bind("socket")
        os.chdir("/")
    plain.write("sub/new", "1")
    said = plain("stage", "sub")
    assert said.err == "Not staged:\n  sub/pipe: a pipe\n  sub/socket: a socket\n"
    assert staged(plain) == {"sub/new"}
    plain("unstage", "sub/new")
    found = omitted(plain, "sub", code=0)
    assert found == {"sub/pipe": "special-file", "sub/socket": "special-file"}
    assert plain("stage", "sub/pipe", code=2).error.startswith("sub/pipe can't be stored")


def test_what_can_not_be_read_or_named_is_left_out_and_all_of_it_is_said(plain: Machine) -> None:
    plain.write("sub/closed", "1", 0)
    plain.write("sub/a:b", "2")
    plain.write("sub/new", "3")
    plain.write("sub/inner/below", "4")
    large = plain.write("sub/large", "5" * 3_000_000)
    large.chmod(0)
    (plain.project / "sub/inner").chmod(0)
    try:
        said = plain("stage", "sub", code=1)
        assert staged(plain) == {"sub/new"}
        for path in ("sub/closed", "sub/a:b", "sub/inner", "sub/large"):
            assert f"  {path}: " in said.err
        assert said.err.count("hint: ") == 2
        assert "portable_names" in said.err
        plain("unstage", "sub/new")
        assert omitted(plain, "sub", code=1) == {
            "sub/closed": "unreadable-file",
            "sub/large": "unreadable-file",
            "sub/inner": "unreadable-file",
            "sub/a:b": "unstorable-path",
        }
    finally:
        (plain.project / "sub/inner").chmod(0o700)


@pytest.mark.parametrize(
    ("words", "code"), [(["sub/closed"], 6), (["sub/a:b"], 2), (["sub/a:b", "sub"], 2)]
)
def test_what_is_named_is_refused_as_ever(plain: Machine, words: list[str], code: int) -> None:
    plain.write("sub/closed", "1", 0)
    plain.write("sub/a:b", "2")
    plain("stage", *words, code=code)
    assert not staged(plain)


def test_git_is_not_told_to_ignore_what_was_left_out(plain: Machine) -> None:
    plain.write("closed.env", "1", 0)
    plain.write("new.env", "1")
    subprocess.run(["git", "init", "-q"], cwd=plain.project, check=True, timeout=60)
    plain("stage", "*.env", code=1)
    assert staged(plain) == {"new.env"}
    ignored = (plain.project / ".gitignore").read_text()
    assert "new.env" in ignored
    assert "closed.env" not in ignored


def test_a_file_that_vanishes_or_keeps_changing(
    plain: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gone", "log", "new"):
        plain.write(f"sub/{name}", "1")
    opened = worktree.Worktree.open

    def open_(self: worktree.Worktree, path: str) -> int:
        if path == "sub/gone":
            raise errors.PathNotFound(path)
        if path == "sub/log":
            raise errors.FileChanged(path)
        return opened(self, path)

    monkeypatch.setattr(worktree.Worktree, "open", open_)
    assert omitted(plain, ".", code=1) == {"sub/gone": "path-not-found", "sub/log": "file-changed"}
    assert staged(plain) == {"sub/new"}


def test_a_busy_file(ana: Machine, file_url: Remote, tmp_path: Path) -> None:
    with quirky.mounted(tmp_path / "disk", "unreadable") as mount:
        ana.project = mount
        ana("init")
        ana.write("busy", "1")
        ana.write("new", "1")
        assert omitted(ana, ".", code=1) == {"busy": "unreadable-file"}
        assert staged(ana) == {"new"}


@pytest.mark.parametrize("closed", ["sub/.env", "sub"])
def test_a_status_goes_on_without_what_can_not_be_read(plain: Machine, closed: str) -> None:
    plain.commit({"other": "1", "sub/second": "1"})
    plain.write("other", "2")
    plain.write("sub/.env", "A=2\n")
    path = plain.project / closed
    mode = path.stat().st_mode & 0o777
    path.chmod(0)
    try:
        found = plain("status", "--json").json
        unreadable = {item["path"] for item in found["unreadable"]}
        # The size and the mode of a closed file tell that it has changed.
        expected = {"sub/.env", "sub/second"} if closed == "sub" else set()
        assert unreadable == expected
        assert "other" in {change["path"] for change in found["unstaged"]}
        assert not any(change["what"] == "deleted" for change in found["unstaged"])
        said = plain("status").out
        assert all(f"! {name}: Permission denied" in said for name in expected)
        plain("status", "--exit-code", code=1)
        plain("commit", "-a", "-m", "all", code=6)
        assert not staged(plain)
    finally:
        path.chmod(mode)


def test_an_edit_that_only_content_shows_is_not_called_clean(plain: Machine) -> None:
    path = plain.write("sub/.env", "A=2\n", 0)
    plain("status", "--exit-code", code=1)
    path.chmod(0o600)
    path.write_text("A=1\n")
    path.chmod(0o200)
    assert [item["path"] for item in plain("status", "--json").json["unstaged"]] == ["sub/.env"]
