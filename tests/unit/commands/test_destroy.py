"""The end of a repository, here and in the remote."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import OFFLINE, Faults, failing
from machines import Machine, bucket, driver_of, noise, started
from servers import Remote


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    """A project with one commit, pushed into a directory."""
    return started(tmp_path / "ana", file_url, {".env": "KEY=1\n", "config/app": "x = 1\n"})


@pytest.fixture
def ben(ana: Machine, file_url: Remote) -> Machine:
    machine = ana.another("ben")
    machine("clone", file_url.url, ".")
    return machine


def test_destroy_is_planned_first(ana: Machine, file_url: Remote) -> None:
    ana.commit({".env": "KEY=2\n"})
    before, held = ana.files(), bucket(file_url)
    plan = ana("destroy", "--dry-run", "--json").json
    assert plan["unpushed"] == 1
    assert plan["url"] == ""
    assert plan["root"] == str(ana.project)
    plan = ana("destroy", "--remote", "--dry-run", "--json").json
    assert plan["keys"] == 1
    assert plan["size"] == len(held["root"])
    assert "1 commit that no remote" in ana("destroy", "--dry-run").err
    # Nobody is asked without a terminal.
    for command in (("destroy",), ("destroy", "--json"), ("destroy", "--remote")):
        assert "--yes" in ana(*command, code=5).hint
    assert ana.files() == before
    assert ana.own.is_dir()
    assert bucket(file_url) == held
    ana("status")


def test_destroy_here_keeps_files_and_remote(ana: Machine, ben: Machine, file_url: Remote) -> None:
    before, held = ana.files(), bucket(file_url)
    assert "Deleted" in ana("destroy", "--yes").out
    assert ana.files() == before
    assert not ana.own.exists()
    assert not (ana.project / ".dorkyrc").exists()
    assert bucket(file_url) == held
    ana("status", code=3)
    ben("pull")


def test_destroy_in_the_remote_lists_every_page(tmp_path: Path, remote: Remote) -> None:
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    ana = Machine(tmp_path / "ana", remote.env)
    ana("init", remote.url)
    ana.commit({"data": noise(300_000)})
    ana("push")
    driver = driver_of(remote)
    _, _, prefix = remote.url.partition("://")
    # moto's own way in is ten times faster, and so are bare files; the GCS emulator has but one
    # page.
    count = 30 if remote.url.startswith("gs:") else 1100
    for n in range(count):
        key = f"packs/{n:064x}"
        if remote.url.startswith("s3:"):
            name, _, folder = prefix.partition("/")
            s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(name, f"{folder}/{key}", b"")
        elif remote.url.startswith("gs:"):
            driver.put(key, b"")
        else:
            Path(remote.url, key).write_bytes(b"")
    others = {"packs.txt": b"1", "other/packs/x": b"2", "rooted": b"3", "root.txt": b"4"}
    for key, data in others.items():
        driver.put(key, data)
    plan = ana("destroy", "--remote", "--dry-run", "--json").json
    assert plan["keys"] == count + 3  # the root, a pack and its table
    before = ana.files()
    ana("destroy", "--remote", "--yes")
    assert bucket(remote) == others
    assert ana.files() == before
    assert not ana.own.exists()
    ana("init", remote.url)


def test_destroy_that_was_interrupted_goes_on(
    ana: Machine, ben: Machine, file_url: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana.commit({"data": noise(300_000)})
    ana("push")
    faults = Faults.installed(monkeypatch)
    faults.before("delete", lambda: None)
    faults.before("delete", failing(OFFLINE), times=100)
    ana("destroy", "--remote", "--yes", code=8)
    assert "root" not in bucket(file_url)
    assert ana.own.is_dir()
    faults.clear()
    assert ben("pull", code=4).error.startswith("The root of")
    ana("destroy", "--remote", "--yes")
    assert bucket(file_url) == {}


def test_destroy_spares_another_repository(ana: Machine, tmp_path: Path) -> None:
    other = ana.another("other")
    other("init", tmp_path / "place")
    before = (tmp_path / "place" / "root").read_bytes()
    ana("remote", "set-url", "origin", tmp_path / "place")
    assert "another repository" in ana("destroy", "--remote", "--yes", code=7).error
    assert (tmp_path / "place" / "root").read_bytes() == before
    assert ana.own.is_dir()


def test_destroy_at_home_keeps_the_identity(tmp_path: Path) -> None:
    """~/.dorky is the user's and the state of a project in the home directory."""
    ana = Machine(tmp_path / "ana", {})
    ana.project = ana.home
    ana("init", tmp_path / "place")
    ana.commit({".env": "KEY=1\n"})
    secret = ana.identity.read_bytes()
    ana("destroy", "--yes")
    assert ana.identity.read_bytes() == secret
    assert ana.read(".env") == b"KEY=1\n"
