"""`dorky status --hook`, run by git itself before a commit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from machines import Machine, git
from servers import Remote

PUBLIC = "-----BEGIN CERTIFICATE-----\nx\n"


def install(top: Path) -> None:
    hook = top / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m dorky status --hook\n")
    hook.chmod(0o755)


@pytest.fixture
def hooked(ana: Machine) -> Machine:
    """A project in git with a kept file and the hook, in which nothing is left to be done."""
    git(ana, "init", "-q", "-b", "main")
    ana("init")
    ana.commit({"config/.env": "K=1\n"})
    ana.write("code.py", "1")
    git(ana, "add", ".")
    git(ana, "commit", "-q", "-m", "code")
    install(ana.project)
    return ana


def test_an_ordinary_commit_passes(hooked: Machine) -> None:
    hooked.write("code.py", "2")
    hooked.write("ca.pem", PUBLIC)
    git(hooked, "add", ".")
    git(hooked, "commit", "-q", "-m", "code")


@pytest.mark.each_value
@pytest.mark.parametrize("path", ["config/.env", "deploy.pem", "new/.env"])
@pytest.mark.parametrize("how", ["add", "commit FILE"])
def test_a_kept_file_or_a_secret_is_refused(hooked: Machine, path: str, how: str) -> None:
    if path != "config/.env":
        hooked.write(path, "secret")
    git(hooked, "add", "-f", "-N" if how == "commit FILE" else "-v", path)
    words = ["--", path] if how == "commit FILE" else []
    said = git(hooked, "commit", "-m", "oops", *words, code=1)
    assert path in said
    git(hooked, "rm", "-q", "--cached", "-f", path)
    hooked.write("code.py", "2")
    git(hooked, "commit", "-q", "-m", "code", "--", "code.py")


def test_a_secret_that_belongs_into_git_is_listed(hooked: Machine) -> None:
    hooked.write("tests/key.pem", "secret")
    hooked.write(".dorkyignore", "/tests/\n")
    git(hooked, "add", ".")
    git(hooked, "commit", "-q", "-m", "a key for tests")


def test_a_change_that_is_not_committed_to_dorky_is_refused(hooked: Machine) -> None:
    hooked.write("config/.env", "K=22\n")
    hooked.write("code.py", "2")
    assert "config/.env" in git(hooked, "commit", "-a", "-m", "code", code=1)


def test_the_first_commit_of_git(ana: Machine) -> None:
    git(ana, "init", "-q", "-b", "main")
    ana("init")
    install(ana.project)
    ana.write(".env", "K=1\n")
    git(ana, "add", ".")
    assert ".env" in git(ana, "commit", "-m", "all", code=1)


def test_in_a_linked_worktree(hooked: Machine, file_url: Remote) -> None:
    hooked("remote", "add", "origin", file_url.url)
    hooked("push")
    git(hooked, "commit", "-q", "-a", "-m", "remote")
    linked = hooked.another("ben")
    linked.project.rmdir()
    git(hooked, "worktree", "add", "-q", str(linked.project), "-b", "other")
    linked("pull")
    git(linked, "add", "-f", "config/.env")
    assert "config/.env" in git(linked, "commit", "-m", "oops", code=1)
    git(hooked, "commit", "-q", "--allow-empty", "-m", "fine")
    git(linked, "rm", "-q", "--cached", "config/.env")
    git(linked, "commit", "-q", "--allow-empty", "-m", "fine")


@pytest.mark.parametrize("set_up", [True, False])
def test_a_project_in_a_subdirectory(ana: Machine, set_up: bool) -> None:
    git(ana, "init", "-q", "-b", "main")
    top, ana.project = ana.project, ana.project / "svc/pay"
    ana.project.mkdir(parents=True)
    ana("init")
    ana.commit({"plain": "K=1\n"})
    ana.write("new.env", "K=1\n")
    (top / "other.env").write_text("not dorky's")
    git(ana, "add", "svc/pay/.dorkyrc", "svc/pay/.gitignore", "other.env", at=top)
    git(ana, "commit", "-q", "-m", "dorky", at=top)
    install(top)
    if not set_up:
        ana("destroy", "--yes")
        git(ana, "checkout", "-q", ".", at=top)
    git(ana, "commit", "-q", "--allow-empty", "-m", "fine", at=top)
    git(ana, "add", "-f", "plain", "new.env")
    said = git(ana, "commit", "-m", "oops", code=1, at=top)
    assert "svc/pay/plain" in said
    assert "svc/pay/new.env" in said
    ana.project = top
    found = ana("status", "--hook", "--json", code=1).json
    assert found["kept"] == ["svc/pay/plain"]
    assert found["secrets"] == ["svc/pay/new.env"]


def test_a_branch_that_makes_a_project_around_a_kept_file(hooked: Machine) -> None:
    hooked.commit({"config/plain": "K=1\n"})
    hooked.write("config/.dorkyrc", "version = 2\n")
    hooked.write("config/.gitignore", "!plain\n")
    git(hooked, "add", "-f", "config")
    said = git(hooked, "commit", "-m", "oops", code=1)
    assert "config/plain" in said
    assert "config/.env" in said


def test_without_a_project(ana: Machine) -> None:
    git(ana, "init", "-q")
    ana("status", "--hook", code=3)
