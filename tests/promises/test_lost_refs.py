"""Refs that vanish from the database without a trace: a repair finds them elsewhere."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from machines import Machine, started
from servers import Remote


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    """A project with two commits, of which one is pushed."""
    content = {".env": "A=1\n", "b": "1\n"}
    made = started(tmp_path / "ana", file_url, content, "--name", "ana", "--recovery", "none")
    made.commit({".env": "A=2\n"}, "second")
    return made


def heads(machine: Machine) -> dict[str, str]:
    with machine.repo() as repo:
        return repo.database.refs()


def damage(machine: Machine, *statements: str) -> None:
    with machine.repo() as repo, repo.database.transaction() as db:
        for statement in statements:
            db.execute(statement)


def main_is_back(machine: Machine, before: dict[str, str]) -> None:
    said = machine("fsck", "--repair")
    assert "main was lost: it is " in said.err
    assert heads(machine)["main"] == before["main"]
    assert heads(machine).keys() == before.keys()
    assert machine("fsck", "--json").json["findings"] == []
    assert "second" in machine("log", "--oneline").out.splitlines()[0]
    deleted = [
        change
        for change in machine("status", "--json").json["staged"]
        if change["what"] == "deleted"
    ]
    assert deleted == []


# What a few flipped bits do: a name is another one, or a page has fewer rows.
FLIPS = {
    "name": "UPDATE refs SET name = 'maio' WHERE name = 'main'",
    "other name": "UPDATE refs SET name = '-ain' WHERE name = 'main'",
    "row": "DELETE FROM refs WHERE name = 'main'",
}
ALSO = {
    "only": (),
    "and the log": ("DELETE FROM operations",),
    "and single values": ("DELETE FROM meta WHERE key LIKE 'index.%'",),
    "and both": ("DELETE FROM operations", "DELETE FROM meta WHERE key LIKE 'index.%'"),
    "and the index": ("DELETE FROM files", "DELETE FROM meta WHERE key LIKE 'index.%'"),
}


@pytest.mark.each_value
@pytest.mark.parametrize("also", ALSO.values(), ids=ALSO)
@pytest.mark.parametrize("flip", FLIPS.values(), ids=FLIPS)
def test_main_that_vanishes_is_found(ana: Machine, flip: str, also: tuple[str, ...]) -> None:
    before = heads(ana)
    damage(ana, flip, *also)
    main_is_back(ana, before)


# Without the index it looks like a clone that has fetched, and not pulled.
@pytest.mark.parametrize("also", [*ALSO.values()][:-1], ids=[*ALSO][:-1])
def test_main_of_a_clone_that_has_pushed_everything(ana: Machine, also: tuple[str, ...]) -> None:
    ana("push")
    before = heads(ana)
    damage(ana, FLIPS["row"], *also)
    main_is_back(ana, before)


def test_staged_files_stay_when_main_comes_back(ana: Machine) -> None:
    ana.write("b", "staged\n")
    ana("stage", "b")
    status = ana("status", "--json").json
    before = heads(ana)
    damage(ana, FLIPS["name"])
    main_is_back(ana, before)
    assert ana("status", "--json").json == status


def test_a_backup_whose_name_is_damaged_keeps_its_work(ana: Machine) -> None:
    ana.write(".env", "local\n")
    ana("restore", ".env")
    before = heads(ana)
    damage(ana, "UPDATE refs SET name = 'backtp/1' WHERE name = 'backup/1'")
    said = ana("fsck", "--repair")
    assert "backup/1 was named backtp/1" in said.err
    assert heads(ana) == before


def test_the_second_copy_in_git_has_refs_that_the_database_lost(
    tmp_path: Path, file_url: Remote
) -> None:
    made = Machine(tmp_path / "ana", {})
    subprocess.run(["git", "init", "-q", made.project], check=True, timeout=60)
    made("init", file_url.url, "--name", "ana", "--recovery", "none")
    made.commit({".env": "A=1\n"}, "first")
    made.commit({".env": "A=2\n"}, "second")
    made.write(".env", "local\n")
    made("restore", ".env")
    before = heads(made)
    assert before.keys() == {"main", "backup/1"}
    damage(made, "DELETE FROM refs", *ALSO["and both"])
    made("fsck", "--repair")
    assert heads(made) == before


# --- where there is no main -----------------------------------------------------------------


def nothing_yet(machine: Machine) -> None:
    machine.write("a", "1\n")
    machine("stage", "a")


def undone(machine: Machine) -> None:
    machine.commit({"a": "1\n"}, "first")
    machine("undo")


@pytest.mark.parametrize("begin", [nothing_yet, undone])
def test_a_repair_of_a_sound_project_makes_no_main(
    tmp_path: Path, file_url: Remote, begin: Callable[[Machine], None]
) -> None:
    made = Machine(tmp_path / "ana", {})
    made("init", file_url.url, "--name", "ana", "--recovery", "none")
    begin(made)
    status = made("status", "--json").json
    made("fsck", "--repair")
    assert "main" not in heads(made)
    assert made("status", "--json").json == status


def test_a_repair_of_what_was_only_fetched_makes_no_main(ana: Machine) -> None:
    ana("push")
    other = ana.another("other")
    other.write(".dorkyrc", (ana.project / ".dorkyrc").read_bytes())
    other("fetch")
    other.write("b", "1\n")
    other("stage", "b")
    assert "main" not in heads(other)
    other("fsck", "--repair")
    assert "main" not in heads(other)
