"""What a command imports before it does anything: modules are counted, not time, which wobbles."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import time
from typing import Any

import pytest
import typer.main
from depth import deep
from machines import Machine
from servers import Remote

from dorky.cli.command import Deferred
from dorky.cli.main import app, everything

HEAVY = {
    *("obstore", "boto3", "botocore", "google", "git", "rich", "pyrage", "cryptography"),
    *("cramjam", "pyfastcdc", "pathspec", "ruamel", "tomlkit", "dotenv"),
    *("asyncio", "concurrent", "email", "http", "logging", "multiprocessing", "ssl", "unittest"),
    *("getpass", "random", "secrets", "tempfile"),
}
"""Libraries that are slow to import, or that only other commands have a use for."""

REPORT = """
import sys
from dorky.cli.main import run
code = run(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""

TYPER = """
import sys, typer
app = typer.Typer(rich_markup_mode=None)
@app.command()
def command(flag: bool = False, count: int = typer.Option(0, count=True)) -> None: ...
app(["--flag"], standalone_mode=False)
print(*sys.modules, file=sys.stderr)
"""


@pytest.fixture(params=["", *deep("--plain")], ids=["sealed", "plain"])
def clean(ana: Machine, request: pytest.FixtureRequest) -> Machine:
    """A small project in which nothing is left to be done."""
    ana("init", *filter(None, [request.param]))
    ana.commit({".env": "KEY=1\n", "config/app.toml": "x = 1\n"}, "first")
    time.sleep(0.05)
    ana("status")  # the files are old enough now to be trusted unread
    return ana


def run(script: str, *words: str) -> set[str]:
    """Run a script that ends by printing what it has imported; return that."""
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@functools.cache
def typers() -> frozenset[str]:
    """The modules that any command line needs which typer reads: pydantic's, too, since 0.29."""
    return frozenset(run(TYPER))


def loaded(machine: Machine, *words: str) -> set[str]:
    """The modules, beyond those of typer itself, that a command has imported when it is done."""
    with machine.here():
        return run(REPORT, *words) - typers()


def heavy(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules} & HEAVY


def own(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] == "dorky"}


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["help"], []])
def test_help_imports_no_command(ana: Machine, words: list[str]) -> None:
    modules = loaded(ana, *words)
    assert own(modules) == {
        *("dorky", "dorky.errors", "dorky.cli", "dorky.cli.main"),
        *("dorky.cli.command", "dorky.cli.output"),
    }
    assert not heavy(modules)
    assert "msgspec" not in modules


def test_the_help_of_a_command_opens_no_repository(ana: Machine) -> None:
    modules = loaded(ana, "status", "--help")
    assert "dorky.project" not in modules
    assert not heavy(modules)


@pytest.mark.parametrize("words", [["status"], ["status", "-s"], ["status", "--json"]])
def test_status_imports_little(clean: Machine, words: list[str]) -> None:
    modules = loaded(clean, *words)
    # Keys are looked at when something is opened: nothing is.
    assert not heavy(modules)
    # What only others need: of the commands, of what compares, merges and talks to remotes.
    for name in (
        *("repo", "commands.stage", "commands.sync", "commands.team", "merge.diff"),
        *("merge.threeway", "documents", "remote"),
    ):
        assert f"dorky.{name}" not in modules
    # What opens and writes: hashing takes 2 to 6 ms to import.
    for name in (
        *("keys.keyring", "keys.age", "keys.identities", "keys.ssh", "keys.vault"),
        *("format.seal", "format.codec", "store.pack", "store.verify"),
    ):
        assert f"dorky.{name}" not in modules
    assert not {"hashlib", "_hashlib", "hmac"} & modules
    assert len(own(modules)) <= 44
    assert len(modules) <= 82


def test_staging_what_is_staged_imports_little(clean: Machine) -> None:
    modules = loaded(clean, "stage", ".env")
    assert not heavy(modules)
    assert "dorky.repo" not in modules
    assert "dorky.merge.commits.threeway" not in modules
    assert not {"dorky.keys.age.keyring", "dorky.store.pack", "dorky.remote"} & modules
    assert len(own(modules)) <= 57
    assert len(modules) <= 98


@pytest.mark.parametrize("words", [["commit", "-m", "x"], ["get", ".env"], ["log"], ["ls"]])
def test_what_needs_no_remote_imports_no_cloud(clean: Machine, words: list[str]) -> None:
    clean.write("new", "1")
    clean("stage", "new")
    modules = loaded(clean, *words)
    assert not {"obstore", "boto3", "google", "rich", "ssl", "dorky.repo"} & modules


@pytest.mark.parametrize("job", ["push", "first pull", "pull"])
def test_one_small_file_goes_and_comes_without_much(
    clean: Machine, s3_url: Remote, job: str
) -> None:
    clean.env.update(s3_url.env)
    clean("remote", "add", "origin", s3_url.url)
    clean("push")
    machine = clean
    if job == "push":
        clean.commit({".env": "KEY=2\n"}, "second")
    else:
        machine = clean.another("ben")
        shutil.copy(clean.project / ".dorkyrc", machine.project)
    if job == "pull":
        machine("pull")
    modules = loaded(machine, job.split()[-1])
    assert "obstore" in modules
    # Nothing here is done by several threads, by a large library, or asked of git.
    needed = {"obstore", "cryptography", "pyrage", "cramjam"}
    assert heavy(modules) <= needed
    if job == "pull":
        # Not even the keys are asked for.
        assert heavy(modules) == {"obstore"}
        assert "dorky.keys.age.identities" not in modules
    for name in (
        *("repo", "commands.team", "merge.diff", "merge.threeway", "documents", "commands.gc"),
        *("store.reachability", "commands.fsck"),
    ):
        assert f"dorky.{name}" not in modules
    assert len(own(modules)) <= (83 if job == "first pull" else 81)  # it looks at the disk
    assert len(modules) <= (170 if job == "first pull" else 167)


# --- what is imported late must be what it seems ---------------------------------------------


def test_help_says_of_each_command_what_the_command_says() -> None:
    listed: Any = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    commands = everything().commands
    assert list(listed) == list(commands)
    for name, each in commands.items():
        deferred = listed[name]
        assert isinstance(deferred, Deferred)
        assert deferred.get_short_help_str(1000) == each.get_short_help_str(1000)
        assert (deferred.name, deferred.hidden) == (each.name, each.hidden)
