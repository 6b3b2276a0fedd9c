"""A git branch, or another user, puts things into `.dorky/`: nothing of it is believed or followed.

Each attack once hit: files behind links were deleted or emptied, and a planted database was taken
for this machine's own.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from machines import Machine, files
from servers import Remote

from dorky.store.database import Database

WHO = ["-c", "user.name=x", "-c", "user.email=x@example.test", "-c", "init.defaultBranch=main"]
PLANTED = "0123456789abcdef" * 4


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *WHO, *arguments],
        cwd=directory,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout


def empty_database(path: Path) -> None:
    """A database as dorky makes it, in one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    """A healthy clone in git, with one commit pushed and one not, and files in the home."""
    made = Machine(tmp_path / "ana", {})
    git(made.project, "init", "-q")
    made("init", file_url.url, "--name", "ana")
    made.commit({".env": "KEY=old\n"}, "one")
    made("push")
    git(made.project, "add", "--all")
    git(made.project, "commit", "-qm", "start")
    made.commit({".env": "KEY=new\n"}, "two")
    fill(made)
    return made


def fill(machine: Machine) -> None:
    """Put files into a home that others would like to see emptied or deleted."""
    for path in (
        "ssh/id",
        "ssh/keys",
        "tmp/work/thesis",
        "packs/vinyl",
        "damaged/x",
        "dorky-book/x",
    ):
        target = machine.home / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"precious {path}\n")


def branch(machine: Machine, plant: Callable[[Path], None]) -> None:
    """Have somebody push a branch that plants something, and check it out."""
    mallory = machine.base / "mallory"
    git(machine.base, "clone", "-q", str(machine.project), str(mallory))
    git(mallory, "checkout", "-qb", "pr-17")
    plant(mallory)
    git(mallory, "add", "-f", ".dorky")
    git(mallory, "commit", "-qm", "fix typo")
    git(mallory, "push", "-q", "origin", "pr-17")
    git(machine.project, "checkout", "-q", "pr-17")


LINKS = {
    "lock": "ssh/keys",
    "tmp": "ssh",
    "packs": "ssh",
    "damaged": "ssh",
    "first-root": "ssh/keys",
    "dorky.db-wal": "ssh/keys",
    ".gitignore": "ssh/keys",
    PLANTED: "ssh",
}
COMMANDS = (
    ["status"],
    ["run", "--", "no-such-program"],
    ["fsck"],
    ["doctor"],
    ["pull"],
    ["gc"],
    ["trust"],
)


@pytest.mark.each_value
@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("database", [True, False], ids=["database", "bare"])
def test_no_link_of_a_fresh_clone_is_followed(
    tmp_path: Path, file_url: Remote, name: str, database: bool
) -> None:
    author = Machine(tmp_path / "author", {})
    author("init", file_url.url, "--plain")
    shutil.rmtree(author.project / ".dorky")
    if database:
        empty_database(author.project / ".dorky" / "dorky.db")
    (author.project / ".dorky").mkdir(exist_ok=True)
    (author.project / ".dorky" / name).symlink_to(Path("../../home") / LINKS[name])
    git(author.project, "init", "-q")
    git(author.project, "add", "-f", "--all")
    git(author.project, "commit", "-qm", "innocent")
    victim = Machine(tmp_path / "victim", {})
    fill(victim)
    victim.project.rmdir()
    git(victim.base, "clone", "-q", str(author.project), str(victim.project))
    before = files(victim.home)
    for command in COMMANDS:
        said = victim.run(*command)
        assert files(victim.home) == before, command
        if database and command == ["pull"]:
            assert said.code == 3
            assert "delete" in said.hint


@pytest.mark.parametrize("name", LINKS)
def test_no_link_of_a_branch_is_followed_by_a_healthy_clone(ana: Machine, name: str) -> None:
    hook = ana.project / ".git" / "hooks" / "post-checkout"
    hook.write_text(f'#!/bin/sh\ntimeout 60 "{sys.executable}" -m dorky pull || true\n')
    hook.chmod(0o755)
    before = files(ana.home)

    def plant(mallory: Path) -> None:
        (mallory / ".dorky").mkdir()
        (mallory / ".dorky" / name).symlink_to(Path("../../home") / LINKS[name])

    with ana.here():
        branch(ana, plant)
    for command in COMMANDS:
        ana.run(*command)
        assert files(ana.home) == before, command
    assert ana("log", "--oneline").out.count("\n") == 2
    ana.commit({"more": "more\n"}, "three")
    ana("push")


def test_a_planted_database_makes_a_clone_forget_nothing(ana: Machine, file_url: Remote) -> None:
    root = Path(file_url.url) / "root"
    old = root.read_bytes()
    ana("push")
    branch(ana, lambda mallory: empty_database(mallory / ".dorky" / "dorky.db"))
    root.write_bytes(old)  # whoever can write to the bucket rewinds it
    for force in ([], ["--force"]):
        said = ana.run("pull", *force)
        assert said.code == 7
        assert ana.read(".env") == b"KEY=new\n"


@pytest.mark.parametrize("directory", ["", PLANTED], ids=["old layout", "invented name"])
def test_what_is_planted_is_not_this_machines(ana: Machine, directory: str) -> None:
    def plant(mallory: Path) -> None:
        empty_database(mallory / ".dorky" / directory / "dorky.db")
        (mallory / ".dorky" / ".gitignore").write_text("!*\n")

    branch(ana, plant)
    assert ana("log", "--oneline").out.count("\n") == 2
    assert ana("status", "--json").json["ahead"] == 1
    ana("push")
    # The rule that was planted has git take nothing of the state.
    assert PLANTED not in git(ana.project, "status", "--porcelain", "-uall")
    assert git(ana.project, "status", "--porcelain", "-uall") == ""


def test_a_trigger_in_a_planted_database_keeps_no_group_secret(ana: Machine) -> None:
    def plant(mallory: Path) -> None:
        path = mallory / ".dorky" / "dorky.db"
        empty_database(path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(
                "CREATE TRIGGER t AFTER INSERT ON meta WHEN new.key = 'roster' AND new.value <> ''"
                " BEGIN UPDATE meta SET value = x'' WHERE key = 'roster'; END"
            )

    ana("push")
    ana("group", "add", "prod", "env/prod/**")
    branch(ana, plant)
    ana("pull")
    assert [each["name"] for each in ana("group", "list", "--json").json] == ["prod"]


def test_a_planted_log_replays_over_nothing(ana: Machine, tmp_path: Path) -> None:
    made = tmp_path / "attacker" / "dorky.db"
    made.parent.mkdir()
    Database(made).close()
    connection = sqlite3.connect(made, isolation_level=None)
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("INSERT INTO refs VALUES ('main', ?)", ("0" * 64,))
    before = ana("log", "--json").json

    def plant(mallory: Path) -> None:
        (mallory / ".dorky").mkdir()
        shutil.copy(f"{made}-wal", mallory / ".dorky" / "dorky.db-wal")

    branch(ana, plant)
    connection.close()
    assert ana("log", "--json").json == before
    assert ana("fsck", "--json").json["findings"] == []


@pytest.mark.parametrize("target", ["../home", "nowhere", "../project/sub"])
def test_a_link_in_place_of_the_state_is_refused(
    tmp_path: Path, file_url: Remote, target: str
) -> None:
    victim = Machine(tmp_path / "victim", {})
    victim.write(".dorkyrc", f'version = 2\n[remotes.origin]\nurl = "{file_url.url}"\n')
    victim.write("sub/file", "x")
    (victim.project / ".dorky").symlink_to(target)
    fill(victim)
    before = files(victim.home), files(victim.project)
    for command in COMMANDS:
        said = victim.run(*command)
        assert (files(victim.home), files(victim.project)) == before, command
        if command != ["doctor"]:
            assert said.code == 3, command
            assert "is a symbolic link" in said.error
            assert ".dorky" in said.hint
    assert "dorky-book" not in victim.run("doctor").out
    (check,) = [each for each in victim.run("doctor", "--json").json if each["name"] == "state"]
    assert check["verdict"] == "fail"
    assert "is a symbolic link" in check["about"]


def test_a_file_in_place_of_the_state_is_refused(tmp_path: Path, file_url: Remote) -> None:
    victim = Machine(tmp_path / "victim", {})
    victim.write(".dorkyrc", f'version = 2\n[remotes.origin]\nurl = "{file_url.url}"\n')
    victim.write(".dorky", "mine")
    assert "is not a directory" in victim("pull", code=3).error
    assert victim.read(".dorky") == b"mine"
