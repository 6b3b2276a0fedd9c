"""Recorded permissions don't override the user's umask, and the umask is not recorded."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import Machine

MODES = {"plain": 0o666, "keys/tls.pem": 0o640, "run.sh": 0o777, ".env": 0o600, "locked": 0o444}


@contextlib.contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def modes(machine: Machine) -> dict[str, int]:
    return {path: stat.S_IMODE((machine.project / path).stat().st_mode) for path in MODES}


def narrowed(by: int) -> dict[str, int]:
    return {path: mode & ~by for path, mode in MODES.items()}


@pytest.fixture
def wide(ana: Machine) -> Machine:
    """A project whose files are for everybody, pushed."""
    with umask(0):
        ana.project.chmod(0o755)
        ana("init", ana.base / "vault")
        for path, mode in MODES.items():
            ana.write(path, "K=1\n", mode)
        ana("stage", ".")
        ana("commit", "-m", "first")
        ana("push")
    return ana


def clone(wide: Machine, name: str, mask: int) -> Machine:
    made = wide.another(name)
    (made.project / ".dorkyrc").write_bytes((wide.project / ".dorkyrc").read_bytes())
    with umask(mask):
        made("pull")
    return made


def recorded(machine: Machine) -> dict[str, int]:
    listed = machine("ls", "--json").json
    return {each["path"]: int(each["mode"], 8) & 0o777 for each in listed}


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o027, 0o077])
def test_a_pull(wide: Machine, mask: int) -> None:
    ben = clone(wide, "ben", mask)
    assert modes(ben) == narrowed(mask)
    assert stat.S_IMODE((ben.project / "keys").stat().st_mode) == 0o777 & ~mask


def test_the_owners_bits_are_as_recorded(wide: Machine) -> None:
    ben = clone(wide, "ben", 0o077)
    with umask(0o777):
        ben("restore", "--source", "HEAD", ".")
        (ben.project / "run.sh").unlink()
        ben("restore", "run.sh")
    assert modes(ben) == narrowed(0o077)


def clean(machine: Machine) -> None:
    found = machine("status", "--json").json
    assert not found["unstaged"]
    assert not found["staged"]
    assert machine("diff").out == ""


@pytest.mark.parametrize("later", [0o077, 0o022, 0o000])
def test_what_a_umask_took_is_no_change(wide: Machine, later: int) -> None:
    """Nor for another umask later: of an editor, a hook, a job at night."""
    ben = clone(wide, "ben", 0o077)
    with umask(later):
        clean(ben)
        for path in MODES:
            os.utime(ben.project / path)  # what was not looked at for long is read
        clean(ben)
        ben("stage", ".")
        ben("commit", "-a", "-m", "nothing", code=1)
        for path in ("plain", "keys/tls.pem", "run.sh"):
            ben.write(path, "K=2\n", narrowed(0o077)[path])
        ben("stage", "plain")
        ben("set", "keys/tls.pem", "K", code=2)
        ben("commit", "-a", "-m", "edited")
        clean(ben)
    assert recorded(ben) == MODES


def test_a_variable_that_is_set(wide: Machine) -> None:
    ben = clone(wide, "ben", 0o077)
    ben.write("app.env", "K=1\n", 0o600)
    wide.write("app.env", "K=1\n", 0o644)
    wide("stage", "app.env")
    wide("commit", "-m", "env")
    wide("push")
    (ben.project / "app.env").unlink()
    with umask(0o077):
        ben("pull")
        ben("unset", "app.env", "K")
        ben("commit", "-m", "less")
    assert stat.S_IMODE((ben.project / "app.env").stat().st_mode) == 0o600
    assert recorded(ben)["app.env"] == 0o644


def test_a_pull_replaces_what_a_umask_narrowed(wide: Machine) -> None:
    ben = clone(wide, "ben", 0o077)
    wide.commit({"plain": "K=2\n"})
    (wide.project / "plain").chmod(0o666)
    wide("stage", "plain")
    wide("commit", "-m", "wide again")
    wide("push")
    with umask(0o022):
        ben("pull")
    assert ben.read("plain") == b"K=2\n"
    assert modes(ben)["plain"] == 0o644
    clean(ben)


def test_what_the_user_narrows_is_a_change(wide: Machine) -> None:
    """A secret that was recorded as everybody's is made private, for everybody's clones."""
    ben = clone(wide, "ben", 0o022)
    (ben.project / "plain").chmod(0o600)
    with umask(0o022):
        assert ben("status", "--json").json["unstaged"]
        ben("commit", "-a", "-m", "private")
    assert recorded(ben) == MODES | {"plain": 0o600}


@pytest.mark.parametrize(("path", "mode"), [("plain", 0o700), (".env", 0o640), ("locked", 0o644)])
def test_any_other_mode_is_a_change(wide: Machine, path: str, mode: int) -> None:
    ben = clone(wide, "ben", 0o077)
    (ben.project / path).chmod(mode)
    with umask(0o077):
        ben("commit", "-a", "-m", "mode")
    assert recorded(ben) == MODES | {path: mode}


def test_a_download(wide: Machine, tmp_path: Path) -> None:
    with umask(0o027):
        wide("download", "HEAD:plain", tmp_path / "one")
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o640


def test_nonsense_in_the_database_is_passed_over(wide: Machine) -> None:
    ben = clone(wide, "ben", 0o077)
    with ben.repo() as repo:
        assert repo.database.text("umasks").split()[-1] == "77"
        repo.database.set("umasks", b"9 x -7 077")
    with umask(0o022):
        clean(ben)


def test_files_of_our_own(ana: Machine) -> None:
    (ana.project / ".git").mkdir()
    subprocess.run(["git", "init", "-q", ana.project], check=True, timeout=60)
    with umask(0o027):
        ana("init")
        ana.commit({".env": "K=1\n"})
    for name in (".dorkyrc", ".gitignore"):
        assert stat.S_IMODE((ana.project / name).stat().st_mode) == 0o640


def test_an_undo_and_a_restore(wide: Machine) -> None:
    ben = clone(wide, "ben", 0o077)
    with umask(0o077):
        ben.commit({"plain": "K=3\n"})
        ben("undo")
        ben("unstage", ".")
        ben("restore", "--source", "HEAD", ".")
        clean(ben)
    assert modes(ben) == narrowed(0o077)
    assert recorded(ben) == MODES
