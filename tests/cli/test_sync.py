"""The main job, end to end through the command line, on a directory, on S3 and on GCS."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
from machines import Machine, bucket, files, make_assorted
from servers import Remote

HERE = Path(__file__).parent


@pytest.fixture
def ana(tmp_path: Path, remote: Remote) -> Machine:
    return Machine(tmp_path / "ana", remote.env)


# --- a second machine -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "plain", [False, pytest.param(True, marks=pytest.mark.deep)], ids=["sealed", "plain"]
)
def test_a_second_machine_gets_every_byte(ana: Machine, remote: Remote, plain: bool) -> None:
    """By a clone, by the `.dorkyrc` of a fresh git clone, and by DORKY_URL alone."""
    # No name reaches a bucket: there, each one once will do.
    count = 1000 if remote.url.startswith("/") else 300
    make_assorted(ana.project, count)
    ana("init", remote.url, *(["--plain"] if plain else []))
    ana("stage", ".")
    ana("commit", "-m", "everything")
    ana("push")
    expected = ana.files()
    assert len(expected) == count

    clone, fresh, bare = (ana.another(name, identity=not plain) for name in ("a", "b", "c"))
    clone("clone", remote.url, "here", *(["--plain"] if plain else []))
    assert files(clone.project / "here") == expected
    (fresh.project / ".dorkyrc").write_bytes(ana.read(".dorkyrc"))
    fresh("pull")
    assert fresh.files() == expected
    bare.env["DORKY_URL"] = remote.url
    bare("pull", *(["--plain"] if plain else []))
    assert bare.files() == expected
    for machine in (fresh, bare):
        assert machine("status", "-s", "--exit-code").out == ""


@pytest.mark.deep
@pytest.mark.parametrize("plain", [False, True], ids=["sealed", "plain"])
def test_a_second_machine_gets_a_file_of_300_mib(ana: Machine, remote: Remote, plain: bool) -> None:
    chance = random.Random(1)
    with ana.write("data/large.bin", b"", 0o640).open("wb") as file:
        for _ in range(300):
            file.write(chance.randbytes(1 << 20))
    ana("init", remote.url, *(["--plain"] if plain else []))
    ana("stage", "data")
    ana("commit", "-m", "300 MiB")
    ana("push")
    ben = ana.another("ben", identity=not plain)
    ben("clone", remote.url, "here", *(["--plain"] if plain else []))
    assert files(ben.project / "here") == ana.files()


@pytest.mark.every_place
def test_work_goes_back_and_forth(ana: Machine, remote: Remote) -> None:
    ana("init", remote.url)
    ana.commit({".env": "KEY=1\n", "config/app.toml": "x = 1\n"}, "first")
    ana("push")
    ben = ana.another("ben")
    ben("clone", remote.url, ".")
    ben.write("config/app.toml", "x = 2\n", 0o755)
    ben("stage", "config")
    (ben.project / ".env").unlink()
    ben("stage", ".env")
    ben.write("new", "")
    ben("stage", "new")
    ben("commit", "-m", "second")
    ben("push")
    assert ana("fetch").out.startswith("1 new commit")
    assert "behind" in ana("status").out
    ana("pull")
    assert ana.files() == ben.files()
    assert [each["message"] for each in ana("log", "--json").json] == ["second", "first"]
    assert ana("pull").out == "Up to date.\n"
    assert ana("push").out.startswith("Up to date")


@pytest.mark.parametrize("remote", ["file"], indirect=True)
def test_nothing_new_asks_for_no_key(ana: Machine, remote: Remote) -> None:
    """Opening one takes longer than the request that tells."""
    ana("init", remote.url)
    ana.commit({".env": "KEY=1\n"})
    ana("push")
    ana.identity.rename(ana.home / "elsewhere")
    assert ana("pull").out == "Up to date.\n"
    assert ana("push").out.startswith("Up to date")
    ana("pull", ".env", code=6)


# --- a bucket that ignores conditions -------------------------------------------------------


def test_a_bucket_that_ignores_conditions_is_refused(tmp_path: Path, rclone_url: Remote) -> None:
    ana = Machine(tmp_path / "ana", rclone_url.env)
    ana.write(".env", "KEY=1\n")
    said = ana("init", rclone_url.url, code=5)
    assert "ignores conditional writes" in said.error
    assert "single" in said.hint
    assert [path.name for path in ana.project.iterdir()] == [".env"]
    assert bucket(rclone_url) == {}


def test_a_bucket_that_ignores_conditions_may_have_one_writer(
    tmp_path: Path, rclone_url: Remote
) -> None:
    ana = Machine(tmp_path / "ana", rclone_url.env)
    ana("init", rclone_url.url, "--single-writer")
    ana.commit({".env": "KEY=1\n", "large": random.Random(1).randbytes(1 << 20)})
    ana("push")
    ben = ana.another("ben")
    ben("clone", rclone_url.url, ".")
    assert ben.files() == ana.files()
    ana.commit({".env": "KEY=2\n"})
    ana("push")
    ben("pull")
    assert ben.files() == ana.files()

    # What .dorkyrc says there, a clone by URL has not been told.
    ben.commit({".env": "KEY=3\n"})
    before = bucket(rclone_url)
    assert "ignores conditional writes" in ben("push", code=5).error
    assert bucket(rclone_url) == before
    hint = ben("push", code=5).hint
    ben(*hint.rpartition("dorky ")[2].split())
    ben("push")
    ana("pull")
    assert ana.read(".env") == b"KEY=3\n"


# --- beside git -----------------------------------------------------------------------------


def git(machine: Machine, *arguments: str) -> list[str]:
    done = subprocess.run(
        ["git", *arguments], cwd=machine.project, check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("words", [["pull", "--force"], ["restore", "config"]], ids=" ".join)
def test_a_link_in_place_of_a_directory_of_a_git_repository(
    tmp_path: Path, file_url: Remote, words: list[str]
) -> None:
    """Git itself refuses to be asked about what lies beyond a link."""
    ana = Machine(tmp_path / "ana", {})
    ana("init", file_url.url)
    ana.commit({"config/app": "1\n", "config/deep/x": "1\n", "a": "1\n"}, "first")
    ana("push")
    ben = ana.another("ben")
    ben("clone", file_url.url, ".")
    git(ben, "init", "--quiet")
    if "pull" in words:
        ana.commit(dict.fromkeys(("config/app", "config/deep/x", "config/new"), "2\n"))
        ana("push")
    elsewhere = tmp_path / "elsewhere"
    (ben.project / "config").rename(elsewhere)
    (ben.project / "config").symlink_to(elsewhere)
    ben(*words)
    assert not (ben.project / "config").is_symlink()
    found = ben.files()
    assert {path: found.get(path) for path in ana.files()} == ana.files()
    assert ben("cat", "backup/1:config").raw == bytes(elsewhere)
    assert (elsewhere / "app").read_bytes() == b"1\n"
    inside = [path for path in ana.files() if path.startswith("config/")]
    assert git(ben, "check-ignore", *inside) == inside
