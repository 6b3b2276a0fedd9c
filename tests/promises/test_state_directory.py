"""DORKY_DIR: the state outside of the checkout, and values of it that must not be obeyed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from machines import Machine, started
from servers import Remote

from dorky import filesystem


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    return started(tmp_path / "ana", file_url, {".env": "KEY=1\n", "b/c": "1\n"})


@pytest.fixture
def job(ana: Machine, tmp_path: Path) -> Machine:
    """A CI job with a fresh checkout, whose state lies in a cached directory."""
    job = ana.another("job")
    job.write(".dorkyrc", ana.read(".dorkyrc"))
    job.env["DORKY_DIR"] = str(tmp_path / "cache")
    return job


def fresh(job: Machine) -> None:
    """Check the project out again."""
    text = job.read(".dorkyrc")
    shutil.rmtree(job.project)
    job.project.mkdir()
    job.write(".dorkyrc", text)


def test_the_state_survives_the_checkout(ana: Machine, job: Machine, tmp_path: Path) -> None:
    job("pull")
    assert not (job.project / ".dorky").exists()
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    fresh(job)
    ana.commit({".env": "KEY=2\n"})
    ana("push")
    assert job("get", ".env", "KEY").out == "2\n"
    job("pull")
    assert job.read(".env") == b"KEY=2\n"
    assert job.read("b/c") == b"1\n"


def test_a_fresh_checkout_deletes_nothing(job: Machine) -> None:
    job("pull")
    fresh(job)
    job("commit", "-a", "-m", "x", code=1)
    assert {each["path"] for each in job("ls", "--json").json} == {".env", "b/c"}
    job("pull")
    assert job.read(".env") == b"KEY=1\n"


def test_it_is_bound_to_its_repository(job: Machine, tmp_path: Path) -> None:
    job("pull")
    other = Machine(tmp_path / "other", {})
    other("init", tmp_path / "second", "--recovery", "none")
    other.env["DORKY_DIR"] = job.env["DORKY_DIR"]
    # A state made with another key would not even be opened.
    shutil.copy(job.home / ".dorky" / "state.key", other.home / ".dorky" / "state.key")
    for command in (["status"], ["pull"], ["get", "x.env", "K"], ["stage", "x"]):
        assert "holds the state of repository" in other(*command, code=3).error


@pytest.mark.parametrize("text", ["version = 2\n", '[remotes.origin]\nurl = "{0}"\n'])
def test_a_project_that_names_no_repository_gets_nothing_of_it(
    job: Machine, tmp_path: Path, file_url: Remote, text: str
) -> None:
    job("pull")
    evil = job.another("evil")
    evil.env["DORKY_DIR"] = job.env["DORKY_DIR"]
    shutil.copy(job.home / ".dorky" / "state.key", evil.home / ".dorky" / "state.key")
    evil.write(".dorkyrc", text.format(file_url.url))
    for command in (["status"], ["pull"], ["get", ".env", "KEY"], ["restore", "."], ["ls"]):
        assert "holds the state of repository" in evil(*command, code=3).error
    assert [path.name for path in evil.project.iterdir()] == [".dorkyrc"]


def test_the_disk_of_the_checkout_is_looked_at(
    job: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory may be on another disk, which tells more names apart than the checkout's."""
    looked: list[Path] = []
    real = filesystem.look
    monkeypatch.setattr(filesystem, "look", lambda place: looked.append(place) or real(place))
    job("pull")
    assert set(looked) == {job.project}
    assert sorted(path.name for path in job.project.iterdir()) == [".dorkyrc", ".env", "b"]


@pytest.mark.parametrize("part", ["lock", "dorky.db", "tmp"])
def test_its_name_is_not_shown(job: Machine, tmp_path: Path, part: str) -> None:
    """Somebody who knows it could plant a state in a branch; the log of a job may be public."""
    job("pull")
    (state,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    if (state / part).is_dir():
        shutil.rmtree(state / part)
    (state / part).unlink(missing_ok=True)
    (state / part).symlink_to("/etc")
    (job.project / ".env").unlink()
    for options in (["-vv"], []):
        said = job.run(*options, "pull")
        assert said.code != 0
        assert state.name not in said.out + said.err


def exposed(place: Path) -> str:
    place.mkdir()
    place.chmod(0o755)
    return "other users may enter it (mode 0755)"


def linked(place: Path) -> str:
    (place.parent / "real").mkdir(mode=0o700)
    place.symlink_to("real")
    return "it is a symbolic link"


def foreign(place: Path) -> str:
    place.mkdir(mode=0o700)
    os.chown(place, 4321, 4321)
    return "it belongs to another user"


def filled(place: Path) -> str:
    place.mkdir(mode=0o700)
    (place / "letter").write_text("dear")
    return "it holds other files"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("made", [exposed, linked, foreign, filled])
def test_hostile_directories(job: Machine, tmp_path: Path, made: Callable[[Path], str]) -> None:
    place = tmp_path / "cache"
    why = made(place)
    before = place.stat().st_mode, sorted(place.iterdir())
    assert why in job("pull", code=3).error
    assert (place.stat().st_mode, sorted(place.iterdir())) == before


@pytest.mark.parametrize("value", ["relative", "../up", "/tmp/../etc"])
def test_paths_that_are_not_absolute(job: Machine, value: str) -> None:
    job.env["DORKY_DIR"] = value
    assert "it is not an absolute path" in job("pull", code=3).error


def test_a_directory_inside_the_project(job: Machine) -> None:
    job.env["DORKY_DIR"] = str(job.project / "cache")
    assert "it is inside the project" in job("pull", code=3).error
    assert not (job.project / "cache").exists()


def test_doctor_looks_at_a_state_outside_of_git(job: Machine) -> None:
    subprocess.run(["git", "init", "-q"], cwd=job.project, check=True, timeout=60)
    job("pull")
    found = {check["name"]: check["verdict"] for check in job.run("doctor", "--json").json}
    assert found["state"] == "ok"


def test_a_place_of_the_state_that_was_forgotten(job: Machine) -> None:
    """Unpushed work lies at the place that was named before, so naming it again is enough."""
    subprocess.run(["git", "init", "-q"], cwd=job.project, check=True, timeout=60)
    job("pull")
    job.commit({".env": "KEY=2\n"}, "unpushed")
    place = job.env.pop("DORKY_DIR")
    said = job("status", code=7)
    assert "dorky fsck --repair" in said.hint
    assert "DORKY_DIR" in said.hint
    job.env["DORKY_DIR"] = place
    assert "1 commit ahead" in job("status").out
