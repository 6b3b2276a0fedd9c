"""What somebody types on a first day: an answer that helps, where git would have one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from machines import Machine, started
from servers import Remote
from teams import cloned

from dorky import errors, files
from dorky.cli import output
from dorky.commands import setup
from dorky.keys import age


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    return started(
        tmp_path / "ana", file_url, {".env": "KEY=1\n", "svc/.env": "KEY=2\n"}, "--name", "ana"
    )


@pytest.mark.parametrize("words", [["origin", "main"], ["origin"]])
def test_pull_takes_no_remote(ana: Machine, words: list[str]) -> None:
    said = ana("pull", *words, code=2)
    assert (
        said.error == "pull takes files, not a remote and a branch: it always pulls main of origin"
    )
    assert said.hint == "dorky pull"
    ana.commit({"origin": "a file\n"})
    ana("push")
    ana("pull", "origin")


@pytest.mark.parametrize("command", ["cat", "show"])
def test_a_path_from_the_current_directory(ana: Machine, command: str) -> None:
    assert ana(command, "HEAD:./.env").out == "KEY=1\n"
    ana.project /= "svc"
    assert ana(command, "HEAD:./.env").out == "KEY=2\n"
    assert ana(command, "HEAD:../.env").out == "KEY=1\n"
    assert ana(command, "HEAD:.env").out == "KEY=1\n"
    ana(command, "HEAD:../../.env", code=2)


def test_download_from_the_current_directory(ana: Machine, tmp_path: Path) -> None:
    ana.project /= "svc"
    ana("download", "main:./.env", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "KEY=2\n"


def test_download_to_standard_output_is_cat(ana: Machine) -> None:
    """A file of the name ``-`` would be a secret that git sees."""
    said = ana("download", "main:svc/.env", "-", code=2)
    assert (said.out, said.hint) == ("", "dorky cat main:svc/.env")
    assert not (ana.project / "-").exists()


def test_an_editor_that_is_not_there(ana: Machine) -> None:
    ana.env["EDITOR"] = "nosuch --wait"
    said = ana("edit", ".env", code=4)
    assert (said.error, said.hint) == (
        "nosuch can't be run: not found",
        'EDITOR="…" dorky edit PATH',
    )


def test_a_variable_that_no_command_can_be_given(ana: Machine) -> None:
    ana.write(".env", "BIG=" + "x" * 20_000_000 + "\nA=1\n")
    with ana.here():
        done = subprocess.run(
            [sys.executable, "-m", "dorky", "run", "true"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 4
    assert "larger than the system allows" in done.stderr
    assert "hint: dorky run --only NAME" in done.stderr


def test_a_file_that_cant_be_written(tmp_path: Path) -> None:
    def refuse() -> None:
        with files.disk_errors(tmp_path / "x", writing=True):
            raise PermissionError(13, "Permission denied")

    with pytest.raises(errors.UnwritableFile, match="x can't be written: Permission denied"):
        refuse()


@pytest.mark.parametrize("way", ["key", "request"])
def test_a_second_key_is_told(ana: Machine, way: str) -> None:
    ben = cloned(ana, "ben")
    ben("key", "gen")
    first = age.generate().public
    ana("team", "add", "ben", first, "--role", "reader")
    if way == "key":
        given = [ben("key", "show", "--json").json[0]["recipient"]]
    else:
        ben("team", "join", "ben")
        given = ["--fingerprint", ben("key", "show", "--json").json[0]["fingerprint"]]
    said = ana("team", "add", "ben", *given)
    assert "ben had 1 key already, and can use all of them." in said.err
    assert "dorky team remove ben" in said.err


def test_a_dorkyrc_with_git_conflict_marks(ana: Machine) -> None:
    path = ana.project / ".dorkyrc"
    path.write_text(f"<<<<<<< HEAD\n{path.read_text()}=======\nversion = 2\n>>>>>>> other\n")
    for command in ("status", "pull", "push"):
        hint = ana(command, code=3).hint
        assert hint.startswith("resolve git's conflict in it")
        assert hint.endswith("git add .dorkyrc")


def test_another_place_has_not_the_options_of_the_old_one(ana: Machine) -> None:
    for key, value in {"endpoint": "https://old.example.test", "region": "eu-1"}.items():
        ana("config", "set", f"remotes.origin.{key}", value)
    said = ana("remote", "set-url", "origin", "s3://acme-new/vault")
    assert "Taken out, as they were of the old place: endpoint, region" in said.err
    rc = ana.read(".dorkyrc").decode()
    assert "old.example.test" not in rc
    assert "eu-1" not in rc
    assert "s3://acme-new/vault" in rc
    assert "fingerprint" in rc
    with ana.repo() as repo:
        assert setup.set_remote_url(repo, "origin", "s3://acme-new/other") == ()


@pytest.mark.parametrize("unit", ["B", "packs"])
@pytest.mark.parametrize("columns", [30, 40, 59, 60, 100])
def test_progress_fits(monkeypatch: pytest.MonkeyPatch, unit: str, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = output.TerminalProgress()
    shown.start("Fetching history", 5_000_000_000, unit)
    bar = shown._make_bar()
    try:
        assert len(bar.columns) <= (3 if columns < 60 else 5)
    finally:
        bar.stop()
