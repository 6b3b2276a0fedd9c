"""Programs that dorky starts get none of the secrets that open repositories."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import pytest
from machines import Machine

import dorky
from dorky.config import OWN_SECRETS, child_environment

CANARY = "canary-of-the-environment"
# Secrets of others: what the user's own programs need to do their work.
THEIRS = {"AWS_SECRET_ACCESS_KEY": CANARY + "-aws", "SSH_AUTH_SOCK": "/nowhere/agent"}


@pytest.fixture
def spy(ana: Machine) -> Path:
    """A program that notes its environment, as null-terminated lines, and prints ana's identity."""
    script = ana.base / "spy"
    script.write_text(
        f"#!{sys.executable}\n"
        "import os, pathlib, sys\n"
        f"noted = pathlib.Path({str(ana.base / 'noted')!r})\n"
        "noted.write_bytes(b'\\0'.join(b'='.join(each) for each in os.environb.items()))\n"
        f"secret = pathlib.Path({str(ana.base / 'secret')!r})\n"
        "print(secret.read_text() if secret.exists() else '')\n"
    )
    script.chmod(0o755)
    return script


def noted(ana: Machine) -> set[str]:
    """The names of the variables that the spy got; each of its secrets must be missing."""
    found = (ana.base / "noted").read_bytes()
    (ana.base / "noted").unlink()
    assert CANARY.encode() not in found.replace(THEIRS["AWS_SECRET_ACCESS_KEY"].encode(), b"")
    assert b"AGE-SECRET-KEY" not in found
    names = {each.partition(b"=")[0].decode() for each in found.split(b"\0")}
    assert not names & set(OWN_SECRETS)
    assert set(THEIRS) <= names
    return names


@pytest.fixture
def exposed(project: Machine, spy: Path) -> Machine:
    """A project whose user has every secret in the environment."""
    project.env |= dict.fromkeys(OWN_SECRETS, CANARY) | THEIRS
    project.env["DORKY_IDENTITY"] = project.identity.read_text()
    del project.env["DORKY_IDENTITY_CMD"]  # the identity itself goes before it
    return project


@pytest.fixture
def project(ana: Machine) -> Machine:
    ana("init")
    ana.commit({".env": "KEY=1\n"}, "first")
    return ana


def test_an_editor(exposed: Machine, spy: Path) -> None:
    exposed.env["EDITOR"] = str(spy)
    exposed("edit", ".env")
    assert "EDITOR" in noted(exposed)


def test_an_identity_command(exposed: Machine, spy: Path) -> None:
    (exposed.base / "secret").write_text(exposed.identity.read_text())
    del exposed.env["DORKY_IDENTITY"]
    exposed.env["DORKY_IDENTITY_CMD"] = str(spy)
    exposed("cat", "HEAD:.env")
    noted(exposed)


def test_git(exposed: Machine, spy: Path) -> None:
    (exposed.project / ".git").mkdir()
    (exposed.project / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (exposed.base / "bin").mkdir()
    (exposed.base / "bin/git").symlink_to(spy)
    exposed.env["PATH"] = f"{exposed.base / 'bin'}:{os.environ['PATH']}"
    exposed.run("doctor")
    noted(exposed)


def test_a_command_of_run(exposed: Machine, spy: Path) -> None:
    exposed("run", "--mask", "--", str(spy))
    assert "KEY" in noted(exposed)


def test_a_resolver_of_python_packages(
    exposed: Machine, spy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uv.find_uv_bin", lambda: str(spy))
    exposed.env["DEPOT_AUTH_TOKEN"] = CANARY
    exposed.run("python", "save", "acme")
    assert "UV_PYTHON_DOWNLOADS" in noted(exposed)


@pytest.mark.parametrize("entry", ["", ".", "bin"])
def test_programs_that_came_with_the_project_are_not_found(
    ana: Machine, spy: Path, entry: str
) -> None:
    """With such an entry in $PATH, `git` and the program of an identity command lie elsewhere."""
    ana("init")
    for name in ("git", "vault"):
        target = ana.project / entry / name
        target.parent.mkdir(exist_ok=True)
        target.symlink_to(spy)
    (ana.project / ".git").mkdir()
    (ana.project / ".git/HEAD").write_text("ref: refs/heads/main\n")
    ana.env["PATH"] = f"{entry}:{os.environ['PATH']}:"
    ana.run("doctor")
    ana.env["DORKY_IDENTITY_CMD"] = "vault print"
    said = ana("key", "show", code=6)
    assert said.error == (
        "The program that prints your identity (vault) failed: there is no such program"
    )
    assert not (ana.base / "noted").exists()


def test_nothing_else_is_left_out() -> None:
    everything = dict.fromkeys(OWN_SECRETS, CANARY) | {"PATH": "/bin", "DORKY_URL": "/vault"}
    assert child_environment(everything) == {"PATH": "/bin", "DORKY_URL": "/vault"}


def _starts_programs(tree: ast.AST) -> list[ast.Call]:
    """Find the calls that start a program, whatever they are reached through."""
    names = {"run", "Popen", "call", "check_call", "check_output", "getoutput", "system", "popen"}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            name = node.func.attr
            started = name in names or name.startswith(("exec", "spawn", "posix_spawn", "fork"))
            if owner in {"subprocess", "os", "pty"} and started:
                found.append(node)
    return found


def test_only_four_modules_start_programs_and_each_says_with_which_environment() -> None:
    """A new place that starts programs is to be thought about, and added to the tests above."""
    starting = {}
    for path in sorted(Path(dorky.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text())
        if calls := _starts_programs(tree):
            starting[path.stem] = calls
    assert set(starting) == {"age", "git", "locks", "process"}
    for calls in starting.values():
        for call in calls:
            execve = isinstance(call.func, ast.Attribute) and call.func.attr == "execve"
            assert execve or any(keyword.arg == "env" for keyword in call.keywords)
