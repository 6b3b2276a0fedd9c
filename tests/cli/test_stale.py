"""run, get and export of a file that is not on disk: never an old value in silence."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import snapshots
from depth import deep
from machines import Machine, started
from servers import Remote

from dorky import errors
from dorky.drivers.file import FileDriver

Read = Callable[..., str]


@pytest.fixture(params=["", *deep("--plain")], ids=["encrypted", "unencrypted"])
def ana(tmp_path: Path, file_url: Remote, request: pytest.FixtureRequest) -> Machine:
    options = filter(None, [request.param])
    return started(tmp_path / "ana", file_url, {".env": "KEY=old\n", "svc/.env": "S=1\n"}, *options)


@pytest.fixture
def job(ana: Machine, file_url: Remote) -> Machine:
    """A fresh checkout with a restored `.dorky`: of the tracked files none is on disk."""
    job = ana.another("job")
    plain = "fingerprint" not in (ana.project / ".dorkyrc").read_text()

    def make() -> None:
        job("clone", file_url.url, ".", *(["--plain"] if plain else []))
        for path in (".env", "svc/.env"):
            (job.project / path).unlink()

    snapshots.once([job.base, Path(file_url.url)], make, "job", plain)
    return job


def news(ana: Machine) -> None:
    ana.commit({".env": "KEY=new\n", "added.env": "A=1\n"}, "new")
    ana("push")


def run(machine: Machine, *options: str) -> str:
    with machine.here():
        done = subprocess.run(
            [sys.executable, "-m", "dorky", "run", *options, "sh", "-c", "echo $KEY"],
            capture_output=True,
            timeout=60,
            check=True,
        )
    return done.stdout.decode().strip()


def get(machine: Machine, *options: str) -> str:
    return machine("get", ".env", "KEY", *options).out.strip()


def export(machine: Machine, *options: str) -> str:
    return machine("export", ".env", *options).out.strip().partition("=")[2]


READS = [run, get, export]


@pytest.mark.each_value
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("options", [(), ("--fresh",), ("--rev", "HEAD"), ("--rev", "main")])
def test_a_restored_state_gives_what_the_remote_has(
    ana: Machine, job: Machine, read: Read, options: tuple[str, ...]
) -> None:
    assert read(job, *options) == "old"
    news(ana)
    assert read(job, *options) == "new"
    assert job("get", "added.env", "A").out == "1\n"


def test_a_file_that_was_deleted_upstream_is_gone(ana: Machine, job: Machine) -> None:
    ana("rm", ".env")
    ana("commit", "-m", "gone")
    ana("push")
    assert job("get", ".env", "KEY", code=4).error == ".env is not tracked by dorky in origin/main"


@pytest.mark.parametrize("read", [get, export])
def test_offline_says_how_old(ana: Machine, job: Machine, read: Read) -> None:
    news(ana)
    assert read(job, "--offline") == "old"
    said = job("get", ".env", "KEY", "--offline", "--json")
    head = job("status", "--json").json["head"]
    source = said.json["source"]
    assert (source["path"], source["commit"]) == (".env", head)
    assert source["age"] >= 0
    assert source["why"] == "the remote was not asked"
    (line,) = said.err.splitlines()
    assert line.startswith(f".env: as of commit {head[:10]}, ")
    assert line.endswith(" old; the remote was not asked")


def test_offline_asks_nothing(ana: Machine, job: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileDriver, "get", _refuse)
    monkeypatch.setattr(FileDriver, "get_range", _refuse)
    assert get(job, "--offline") == "old"
    assert job("get", ".env", "--rev", "HEAD", "--offline").out == "KEY=old\n"


def test_offline_in_a_project_that_was_never_pulled(job: Machine) -> None:
    shutil.rmtree(job.project / ".dorky")
    assert "dorky pull" in job("get", ".env", "--offline", code=3).hint


def _refuse(*_: object, **__: object) -> None:
    raise errors.Unreachable("the bucket", "connection refused", lasting=True)


def test_an_unreachable_remote(job: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a note, and with --fresh an error; the worktree's own files need no remote."""
    monkeypatch.setattr(FileDriver, "get", _refuse)
    said = job("get", ".env", "KEY")
    assert said.out == "old\n"
    (line,) = said.err.splitlines()
    assert "can't be reached: connection refused" in line
    assert "as of commit" in line
    assert "can't be reached" in job("get", ".env", "KEY", "--fresh", code=8).error
    job.write(".env", "KEY=mine\n")
    assert get(job, "--fresh") == "mine"
    assert not job("get", ".env", "KEY").err


def test_a_remote_whose_disk_is_not_mounted(ana: Machine, job: Machine, file_url: Remote) -> None:
    place = Path(file_url.url.removeprefix("file://"))
    place.rename(place.with_name("unplugged"))
    said = job("get", ".env", "KEY")
    assert said.out == "old\n"
    assert "is missing or empty" in said.err
    assert "is missing or empty" in job("get", ".env", "KEY", "--fresh", code=8).error


def test_what_the_user_has_staged_is_not_replaced(ana: Machine, job: Machine) -> None:
    job.write(".env", "KEY=mine\n")
    job("stage", ".env")
    (job.project / ".env").unlink()
    news(ana)
    assert get(job) == "mine"


def test_a_diverged_clone_says_that_there_is_more(ana: Machine, job: Machine) -> None:
    job.write("own", "1")
    job("stage", "own")
    job("commit", "-m", "own")
    news(ana)
    said = job("get", ".env", "KEY")
    assert said.out == "old\n"
    assert "the remote has 1 newer commit (dorky pull)" in said.err


def test_fresh_and_offline_exclude_each_other(job: Machine) -> None:
    assert "exclude" in job("get", ".env", "--fresh", "--offline", code=2).error


def test_one_conditional_request(tmp_path: Path, s3_url: Remote) -> None:
    """As many as a pull that finds nothing new, and none for files on disk."""
    ana = started(tmp_path / "ana", s3_url, {".env": "KEY=1\n", "b.env": "B=1\n"})
    s3_url.log.clear()
    get(ana)
    assert not s3_url.log
    for path in (".env", "b.env"):
        (ana.project / path).unlink()
    ana("pull")
    pulled = [*s3_url.log]
    s3_url.log.clear()
    get(ana)
    assert s3_url.log == pulled
    assert len(pulled) == 1


# --- the nearest .env -----------------------------------------------------------------------


def test_run_takes_the_nearest_file_upwards(ana: Machine, job: Machine) -> None:
    for machine in (ana, job):
        deep = machine.project / "svc" / "api" / "v1"
        deep.mkdir(parents=True)
        with machine.here():
            done = subprocess.run(
                [sys.executable, "-m", "dorky", "run", "sh", "-c", "echo $S$KEY"],
                cwd=deep,
                capture_output=True,
                timeout=60,
                check=True,
            )
        assert done.stdout == b"1\n"
        assert done.stderr == b"Using svc/.env\n"


# --- export refuses what run refuses --------------------------------------------------------


@pytest.mark.each_value
@pytest.mark.parametrize("name", ["PATH", "LD_PRELOAD", "BASH_ENV", "PYTHONPATH"])
@pytest.mark.parametrize("form", ["shell", "dotenv", "docker", "github"])
def test_export_refuses_what_steers_programs(ana: Machine, name: str, form: str) -> None:
    ana.write(".env", f"A=1\n{name}=x\n")
    said = ana("export", ".env", "-f", form, code=2)
    assert (said.out, said.hint) == ("", f"if that is meant, add --allow-env {name}")
    assert name in ana("export", ".env", "-f", form, "--allow-env", name).out
    assert "A" in ana("export", ".env", "-f", form, "--only", "A").out
