"""undo: what a dry run shows is what an undo does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from machines import Machine, files

from dorky import errors


@pytest.fixture
def worked(ana: Machine) -> Machine:
    """A clone in which files and commits have been made, and an edit overwritten."""
    ana("init")
    ana.commit({".env": "KEY=1\n", "data/a": "1\n"}, "first")
    ana.commit({".env": "KEY=2\n"}, "second")
    ana.write(".env", "KEY=3\n")
    ana("restore", ".env", "--source", "main")
    return ana


def everything(machine: Machine) -> tuple[object, ...]:
    with machine.repo() as repo:
        refs = repo.database.refs()
        return files(machine.project), refs, repo.index.rows(), repo.op_log()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_a_dry_run_changes_nothing_and_tells_what_an_undo_does(worked: Machine, count: int) -> None:
    before = everything(worked)
    with worked.repo() as repo:
        planned = repo.undo(count, dry_run=True)
    assert everything(worked) == before
    assert not planned.done
    with worked.repo() as repo:
        done = repo.undo(count)
        assert done.head == repo.database.ref("main")
    assert done.done
    assert done.operations == planned.operations
    assert done.changes == planned.changes
    assert done.head == planned.head


def test_a_dry_run_is_refused_as_the_undo_would_be(worked: Machine) -> None:
    worked.write(".env", "KEY=4\n")
    before = everything(worked)
    with worked.repo() as repo:
        for dry_run in (True, False):
            with pytest.raises(errors.LocalChanges):
                repo.undo(dry_run=dry_run)
        assert not repo.undo(force=True, dry_run=True).backup
    assert everything(worked) == before


def test_a_dry_run_leaves_out_what_git_would_obey(worked: Machine) -> None:
    """Inside a git repository nothing that dorky restores decides what git ignores."""
    worked.write("sub/.gitignore", "x\n")
    worked("stage", "-f", "sub/.gitignore", ".env")
    worked("commit", "-m", "rules")
    worked("rm", "--force", "sub/.gitignore")
    subprocess.run(["git", "init", "-q"], cwd=worked.project, check=True, timeout=60)
    with worked.repo() as repo:
        planned = repo.undo(dry_run=True)
        done = repo.undo()
    assert planned.changes == done.changes == ()
    assert not (worked.project / "sub/.gitignore").exists()


def test_the_command_says_that_nothing_was_changed(worked: Machine) -> None:
    said = worked("undo", "2", "--dry-run")
    assert said.out.splitlines()[:2] == [
        "Would undo: restore .env",
        "Would undo: commit 'second'",
    ]
    assert said.err == "Nothing has been changed.\n"
    assert worked("undo", "2", "--dry-run", "--json").json["done"] is False
    assert worked("undo", "2", "--json").json["done"] is True


def test_a_dry_run_says_that_the_remote_has_it(worked: Machine, tmp_path: Path) -> None:
    worked("remote", "add", "origin", str(tmp_path / "bucket"))
    worked("push")
    said = worked("undo", "2", "--dry-run")
    assert said.err.startswith("The remote has what would be undone: dorky pull brings it back")
