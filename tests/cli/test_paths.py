"""Paths on the command line count from the current directory, and messages show them as typed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from machines import Machine

from dorky import errors
from dorky.cli import hints

PATH = "config/.env"


@pytest.fixture
def below(ana: Machine) -> Machine:
    """A project, seen from a directory in it; a file of the same name lies in the root."""
    ana("init")
    ana.commit({PATH: "KEY=1\n", ".env": "KEY=root\n", "config/deep/x.txt": "x\n"}, "first")
    ana.write(PATH, "KEY=2\n")
    ana.project /= "config"
    return ana


def test_every_command_counts_from_the_current_directory(below: Machine) -> None:
    assert below("get", ".env", "KEY").out == "2\n"
    assert below("get", "../.env", "KEY").out == "root\n"
    assert below("get", ".env", "KEY", "--rev", "HEAD").out == "1\n"
    assert below("get", below.project / ".env", "KEY").out == "2\n"
    assert below("export", "./.env", "--format", "json").json == {"KEY": "2"}
    assert below("log", ".env", "--oneline").out.count("\n") == 1
    assert below("ls", ".").out == "config/.env\nconfig/deep/x.txt\n"
    assert below("ls", "HEAD", "deep/").out == "config/deep/x.txt\n"
    assert below("diff", "--name-only", ".env").out == ".env\n"
    assert below("diff", "--name-only", "--", "..").out == ".env\n"
    assert below("stage", ".env", "--json").json["changes"][0]["path"] == PATH
    assert below("unstage", "../config//.env", "--json").json["changes"][0]["path"] == PATH
    assert below("restore", ".env", "--json").json["changes"][0]["path"] == PATH
    assert below("rm", "deep/", "--json").json["changes"][0]["path"] == "config/deep/x.txt"
    assert below("cat", f"HEAD:{PATH}").out == "KEY=1\n"  # as in git, from the root


def test_a_command_runs_with_the_nearest_file(
    below: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[dict[bytes, bytes]] = []

    def replace(file: str, command: list[str], environment: dict[bytes, bytes]) -> None:
        found.append(environment)
        raise errors.NothingToDo("ran")

    monkeypatch.setattr("dorky.process.replace", replace)
    above = below.project.parent
    for place, value in ((below.project / "deep", b"2"), (below.project, b"2"), (above, b"root")):
        below.project = place
        below("run", "--", "true", code=1)
        assert found[-1][b"KEY"] == value
    below("run", "-f", "config/.env", "--", "true", code=1)
    assert found[-1][b"KEY"] == b"2"


@pytest.mark.parametrize("typed", [".env", "../.env", "deep/a b.env"])
def test_the_command_of_a_hint_runs_from_the_current_directory(below: Machine, typed: str) -> None:
    below.write(typed, "A='not closed\n")
    said = below("get", typed, "A", code=2)
    assert shlex.split(said.hint) == ["dorky", "edit", typed]
    said = below("cat", f"HEAD:{PATH}/x", code=4)  # as in git, from the root
    assert said.hint == "dorky ls HEAD"
    said = below("cat", "HEAD:config/deep", code=2)
    assert said.hint == "dorky ls HEAD deep"


def test_the_command_of_a_hint_outside_of_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert hints.hint(errors.BadDocument("a b", "dotenv", "")) == "dorky edit 'a b'"


COMMANDS = (
    ("stage",),
    ("unstage",),
    ("rm",),
    ("restore",),
    ("get",),
    ("export",),
    ("edit",),
    ("unset", "KEY"),
    ("diff", "--"),
    ("resolve",),
    ("purge", "--dry-run"),
    ("group", "add", "ops"),
    ("run", "-f"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_path_outside_is_refused_as_it_was_typed(
    below: Machine, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "true")
    link = below.project / "link"
    link.symlink_to(tmp_path)
    before, after = (command[:1], command[1:]) if command[0] == "unset" else (command, ())
    after = ("--", "true") if command[0] == "run" else after
    for typed in ("../../x", "/etc/passwd", "link/../../../x"):
        said = below(*before, typed, *after, code=2)
        assert said.error == f"{typed} is outside the project at {below.project.parent}"
    said = below(*before, "", *after, code=2)
    assert said.error == "A path is empty"
    said = below(*before, "../.git/config", *after, code=2)
    assert said.error.startswith("../.git/config can't be stored")
