"""Containers, mounted secrets, users without a home, and disks that are not plugged in."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import quirky
from machines import Machine
from servers import Remote

from dorky import errors
from dorky.keys import age


@pytest.fixture
def ben(ana: Machine, file_url: Remote) -> Machine:
    ana("init", file_url.url)
    ana.commit({".env": "KEY=1\n", "large": os.urandom(400_000)})
    ana("push")
    return ana


# --- identities -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o440, 0o444, 0o644])
def test_an_identity_on_a_read_only_mount_is_used(ben: Machine, tmp_path: Path, mode: int) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    path = secrets / "identity"
    shutil.copy(ben.identity, path)
    path.chmod(mode)
    shutil.rmtree(ben.home / ".dorky")
    ben.env["DORKY_IDENTITY_FILE"] = str(path)
    said = ben("key", "show", code=6)
    assert said.hint == f"chmod 600 {path}"
    with quirky.read_only(secrets):
        ben("key", "show")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")
@pytest.mark.parametrize(
    ("owner", "mode", "used"),
    [(0, 0o440, True), (0, 0o444, True), (0, 0o464, False), (0, 0o446, False), (7, 0o440, False)],
)
def test_a_secret_of_roots_is_used_by_others(
    ben: Machine, monkeypatch: pytest.MonkeyPatch, owner: int, mode: int, used: bool
) -> None:
    os.chown(ben.identity, owner, 0)
    ben.identity.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    if used:
        assert age.load(ben.identity)
    else:
        with pytest.raises(errors.IdentityExposed):
            age.load(ben.identity)


def test_roots_own_identity_stays_private(ben: Machine) -> None:
    ben.identity.chmod(0o644)
    with pytest.raises(errors.IdentityExposed):
        age.load(ben.identity)


def test_without_a_home_or_an_account(ben: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number of its own."""

    def nobody(*_: object) -> None:
        raise KeyError

    job = ben.another("job", identity=False)
    shutil.copy(ben.project / ".dorkyrc", job.project)
    job.env["DORKY_IDENTITY"] = ben.identity.read_text()
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    here = job.here

    @contextlib.contextmanager
    def homeless() -> Iterator[None]:
        with here(), monkeypatch.context() as patched:
            patched.delenv("HOME")
            yield

    monkeypatch.setattr(job, "here", homeless)
    for words in (
        ("pull",),
        ("status",),
        ("log",),
        ("get", ".env", "KEY"),
        ("export", ".env"),
        ("key", "show"),
        ("config", "list"),
        ("team", "list"),
        ("doctor",),
        ("fsck",),
    ):
        job(*words)
    job.commit({".env": "KEY=2\n"})
    job("push")
    ben("pull")
    assert ben.read(".env") == b"KEY=2\n"


# --- a disk that is not there ---------------------------------------------------------------


@pytest.mark.parametrize("left", ["nothing", "an empty mount point", "an empty directory"])
def test_an_unplugged_disk_is_no_loss_and_no_new_vault(
    ana: Machine, tmp_path: Path, left: str
) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    vault = stick if left == "an empty directory" else stick / "vault"
    ana("init", vault)
    ana.commit({".env": "KEY=1\n"})
    ana("push")
    aside = stick.rename(tmp_path / "aside")
    if left != "nothing":
        stick.mkdir()
    ana.commit({".env": "KEY=2\n", "large": os.urandom(400_000)})
    for words in (("pull",), ("push",), ("sync",), ("fetch",), ("gc", "--remote")):
        said = ana(*words, code=8)
        assert "missing or empty" in said.error
        assert "mount" in said.hint
    ana.run("doctor")
    ana.run("fsck", "--remote")
    ana("status")
    ana("log")
    assert not stick.exists() or not list(stick.iterdir())
    if left != "nothing":
        stick.rmdir()
    aside.rename(stick)
    ana("push")
    ana("fsck", "--remote")


def test_a_root_that_was_deleted_is_still_called_so(ana: Machine, file_url: Remote) -> None:
    ana("init", file_url.url)
    ana.commit({"large": os.urandom(400_000)})
    ana("push")
    (Path(file_url.url) / "root").unlink()
    assert "root" in ana("pull", code=4).error


def test_init_begins_in_an_empty_mount_point(ana: Machine, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    ana("init", stick)
    ana.commit({".env": "KEY=1\n"})
    ana("push")
