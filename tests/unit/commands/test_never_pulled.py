"""A file of one's own in place of a version that was never pulled: nobody replaces it unseen."""

from __future__ import annotations

from pathlib import Path

import pytest
from machines import Machine, bucket, started
from servers import Remote
from teams import cloned, joined


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    content = {"x/.env": "A=theirs\nB=2\n", "y/f": "1\n"}
    return started(tmp_path / "ana", file_url, content, "--name", "ana")


@pytest.fixture
def ben(ana: Machine) -> Machine:
    """Somebody who pulls one directory, and then makes a file outside of it."""
    made = ana.another("ben")
    (made.project / ".dorkyrc").write_bytes((ana.project / ".dorkyrc").read_bytes())
    made("pull", "y")
    made.write("x/.env", "A=mine\n")
    return made


@pytest.mark.parametrize(
    "words",
    [
        ["stage", "x/.env"],
        ["commit", "-a", "-m", "mine"],
        ["save", "-m", "mine"],
        ["save", "x/.env", "-m", "mine"],
        ["unset", "x/.env", "A"],
    ],
    ids=" ".join,
)
def test_it_is_refused(ben: Machine, file_url: Remote, words: list[str]) -> None:
    there = bucket(file_url)
    said = ben(*words, code=5)
    assert said.error == (
        "x/.env was never pulled here, and the last commit holds another version of it"
    )
    assert said.hint.startswith("dorky restore x/.env brings it")
    assert ben.read("x/.env") == b"A=mine\n"
    ben.run("push")
    assert bucket(file_url) == there


def test_found_in_a_directory_it_is_left_out(ben: Machine) -> None:
    ben.write("x/new", "1\n")
    said = ben("stage", "x", code=1)
    assert said.out == "  A x/new\n"
    assert "x/.env was never pulled here" in said.err
    assert "hint: dorky restore FILE" in said.err


def test_the_hint_keeps_both(ben: Machine) -> None:
    said = ben("restore", "x/.env")
    assert ben.read("x/.env") == b"A=theirs\nB=2\n"
    assert "backup/1" in said.err
    assert ben("cat", "backup/1:x/.env").out == "A=mine\n"
    ben.write("x/.env", "A=mine\nB=2\n")
    ben("save", "x/.env", "-m", "both seen")


def test_it_can_be_meant(ben: Machine, ana: Machine) -> None:
    ben("stage", "--force", "x/.env")
    ben("commit", "-m", "mine")
    ben.write("x/.env", "A=mine again\n")
    ben("save", "-m", "a later edit needs no force")
    ana("pull")
    assert ana.read("x/.env") == b"A=mine again\n"


def test_the_same_content_is_taken_over(ben: Machine) -> None:
    ben.write("x/.env", "A=theirs\nB=2\n")
    assert ben("stage", "x/.env").out == "Nothing new to stage.\n"
    ben.write("x/.env", "A=theirs\nB=3\n")
    ben("stage", "x/.env")


def test_a_variable_is_set_in_the_committed_version(ben: Machine) -> None:
    (ben.project / "x/.env").unlink()
    with ben.repo() as repo:
        repo.set("x/.env", "A", "mine")
    assert ben.read("x/.env") == b"A=mine\nB=2\n"


def test_before_the_first_pull_there_is_a_way_on(ana: Machine) -> None:
    cleo = cloned(ana, "cleo")
    cleo.identity.parent.mkdir(mode=0o700)
    cleo.identity.write_bytes(ana.identity.read_bytes())
    cleo.identity.chmod(0o600)
    cleo.write("x/.env", "A=mine\n")
    said = cleo("pull", code=5)
    assert said.hint == "move them away, or add --force (a backup is kept)"
    cleo("pull", "--force")
    assert cleo.read("x/.env") == b"A=theirs\nB=2\n"
    assert cleo("cat", "backup/1:x/.env").out == "A=mine\n"


def test_a_file_of_a_group_that_was_joined_later(ana: Machine) -> None:
    """What a clone begins to see is not on its disk yet either."""
    ben = joined(ana, "ben")
    ana("pull")
    ana("group", "add", "prod", "x/**")
    ben("pull")
    ben.write("x/.env", "A=mine\n")
    ana("pull")
    ana("group", "members", "prod", "--add", "ben")
    assert "x/.env" in ben("pull", code=5).error
    assert ben.read("x/.env") == b"A=mine\n"
