"""`dorky save`: stage, commit and push in one step; what it takes, and what it leaves alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
import pytest
from machines import Machine, started
from servers import Remote

from dorky import errors
from dorky.drivers.file import FileDriver
from dorky.repo import Repository
from dorky.results import Saved


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    return started(tmp_path / "ana", file_url, {".env": "KEY=1\n", "other": "1\n", "d/a": "1"})


@pytest.fixture
def ben(ana: Machine, file_url: Remote) -> Machine:
    made = ana.another("ben")
    made("clone", file_url.url, ".")
    return made


def subjects(machine: Machine) -> list[str]:
    return [entry["message"] for entry in machine("log", "--json").json]


def pending(machine: Machine) -> dict[str, list[str]]:
    found = machine("status", "--json").json
    return {key: [each["path"] for each in found[key]] for key in ("staged", "unstaged")}


def test_a_new_file_is_saved_in_one_step(ana: Machine, ben: Machine) -> None:
    ana.write("new/.env", "A=1\n")
    out = ana("save", "new/.env", "-m", "first").out
    assert "first" in out
    assert "A new/.env" in out
    assert "Pushed 1 commit" in out
    assert "same as origin" in ana("status").out
    ben("pull")
    assert ben.read("new/.env") == b"A=1\n"


def test_without_paths_it_takes_what_is_tracked_and_what_is_staged(ana: Machine) -> None:
    ana.write(".env", "KEY=2\n")
    ana.write("stranger", "1")
    ana.write("staged", "1")
    ana("stage", "staged")
    (ana.project / "other").unlink()
    found = msgspec.json.decode(ana("save", "-m", "x", "--json").raw, type=Saved)
    assert found.commit
    assert found.staged is None
    assert {(each.path, each.what) for each in found.commit.changes} == {
        (".env", "modified"),
        ("staged", "added"),
        ("other", "deleted"),
    }
    assert found.synced.pushed
    assert found.synced.pushed.commits == 1
    assert "stranger" not in ana("ls").out


@pytest.mark.parametrize("words", [(), (".env",)])
def test_without_a_message(ana: Machine, words: tuple[str, ...]) -> None:
    ana.write(".env", "KEY=2\n")
    assert ana("save", *words, code=2).hint == 'dorky save -m "say what changed"'
    assert pending(ana) == {"staged": [], "unstaged": [".env"]}


@pytest.mark.parametrize("words", [(), (".",), (".env", "d")])
def test_when_nothing_has_changed(ana: Machine, words: tuple[str, ...]) -> None:
    ana.write("new", "1")
    if "." not in words:
        said = ana("save", *words, "-m", "x", code=1)
        assert said.error == "Nothing to save: the files are as they were committed"
        assert said.hint == "dorky status; to save a new file, name it: dorky save FILE"
    assert ana("save", "new", "-m", "x").out
    assert ana("save", *words, "-m", "x", code=1).error.startswith("Nothing to save")


@pytest.mark.parametrize("path", ["d", ".env", "*.env", "d/*", "."])
def test_with_paths_it_takes_nothing_else(ana: Machine, path: str) -> None:
    """Neither what changed elsewhere, nor what is staged there: as ``git commit PATH``."""
    for name in (".env", "other", "d/a"):
        ana.write(name, "2\n")
    ana.write("d/new", "1")
    ana.write("fresh", "1")
    ana("stage", "other", "fresh")
    ana("rm", "--cached", "d/a") if path == ".env" else None
    done = ana("save", path, "-m", "x", "--json").json
    taken = {each["path"] for each in done["commit"]["changes"]}
    wanted = {
        "d": {"d/a", "d/new"},
        "d/*": {"d/a", "d/new"},
        ".env": {".env"},
        "*.env": {".env"},
        ".": {".env", "other", "d/a", "d/new", "fresh"},
    }
    assert taken == wanted[path]
    left = pending(ana)
    if path == ".":
        assert left == {"staged": [], "unstaged": []}
    else:
        assert {"fresh", "other"} <= set(left["staged"])
        assert "fresh" not in ana("ls").out
        ana("commit", "-m", "rest")
        assert "fresh" in ana("ls").out
    assert ana("fsck").out


def test_a_deleted_path(ana: Machine) -> None:
    (ana.project / "d" / "a").unlink()
    ana.write("fresh", "1")
    ana("stage", "fresh")
    done = ana("save", "d/a", "-m", "gone", "--json").json
    assert done["commit"]["changes"] == [{"path": "d/a", "what": "deleted"}]
    assert pending(ana)["staged"] == ["fresh"]
    (ana.project / "other").unlink()
    ana.write("other/x", "a directory now")
    done = ana("save", "other", "-m", "directory", "--json").json
    assert {each["path"] for each in done["commit"]["changes"]} == {"other", "other/x"}
    assert pending(ana)["staged"] == ["fresh"]


def test_nothing_to_do(ana: Machine, tmp_path: Path) -> None:
    before = subjects(ana)
    assert ana("save", "-m", "x", code=1).error
    assert ana("save", ".env", "-m", "x", code=1).error
    assert ana("save", "nowhere", "-m", "x", code=4).error
    assert ana("save", "-m", " ", code=2).error
    ana.write(".env", "KEY=2\n")
    assert ana("save", ".env", code=2).error
    assert pending(ana)["staged"] == []  # refused before anything is staged
    assert subjects(ana) == before
    local = ana.another("local")
    local("init")
    local.write(".env", "A=1")
    assert "dorky remote add origin" in local("save", ".env", "-m", "x", code=3).hint
    assert local("log", code=4).error


def test_the_other_side_has_moved(ana: Machine, ben: Machine) -> None:
    ben.write("d/b", "ben\n")
    ben("save", "d/b", "-m", "ben's")
    ana.write(".env", "KEY=2\n")
    found = msgspec.json.decode(ana("save", "-m", "ana's", "--json").raw, type=Saved)
    assert found.commit
    assert found.synced.pulled
    assert found.synced.pushed
    assert ana.read("d/b") == b"ben\n"
    ben("pull")
    assert ben.files() == ana.files()
    assert {"ana's", "ben's"} <= set(subjects(ben))


def test_conflicts_stop_it(ana: Machine, ben: Machine) -> None:
    ben.write(".env", "KEY=ben\n")
    ben("save", "-m", "ben's")
    ana.write(".env", "KEY=ana\n")
    ana.write("fresh", "1")
    ana("stage", "fresh")
    said = ana("save", ".env", "-m", "ana's", code=5)
    assert "dorky resolve" in said.hint
    assert "[" in said.out
    assert ana("save", "d", "-m", "more", code=5).error  # not in the middle of a merge
    assert ana("save", "-m", "more", code=5).error
    ana.write(".env", "KEY=both\n")
    ana("resolve", ".env")
    ana("merge", "--continue")
    assert pending(ana)["staged"] == ["fresh"]
    ana("sync")
    ben("pull")
    assert ben.read(".env") == b"KEY=both\n"
    assert "fresh" not in ben.files()


def test_it_is_undone_in_one_step(ana: Machine) -> None:
    ana.write(".env", "KEY=2\n")
    ana.write("fresh", "1")
    ana("save", ".env", "fresh", "-m", "secret plan")
    assert "secret plan" in ana("op", "log").out
    ana("undo")
    assert subjects(ana) == ["first"]
    assert pending(ana)["staged"] == []
    assert ana.read(".env") == b"KEY=2\n"


@pytest.mark.parametrize("fault", [errors.Unreachable("x", "no network"), KeyboardInterrupt()])
def test_a_push_that_fails_leaves_the_commit(
    ana: Machine, fault: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saving again pushes it, whether or not anything has changed since."""

    def fail(*_: object, **__: object) -> object:
        raise fault

    ana.write(".env", "KEY=2\n")
    with monkeypatch.context() as patched:
        patched.setattr(FileDriver, "swap", fail)
        patched.setattr("dorky.remote.root.BUDGET", 0.1)
        patched.setattr("time.sleep", lambda _: None)
        said = ana("save", "-m", "two", code=130 if isinstance(fault, KeyboardInterrupt) else 8)
    if not isinstance(fault, KeyboardInterrupt):
        assert "Committed, but not pushed: [" in said.err
    assert subjects(ana)[0] == "two"
    done = ana("save", "-m", "two", "--json").json
    assert done["commit"] is None
    assert done["synced"]["pushed"]["commits"] == 1
    ana("save", "-m", "two", code=1)


def test_small_files_take_one_request(tmp_path: Path, s3_url: Remote) -> None:
    ana = started(tmp_path / "ana", s3_url, {".env": "KEY=1\n"})
    ana.write(".env", "KEY=2\n")
    s3_url.log.clear()
    ana("save", ".env", "-m", "two")
    assert [method for method, _ in s3_url.log] == ["PUT"]


def test_git_is_told_to_ignore_what_is_saved(ana: Machine) -> None:
    subprocess.run(["git", "init", "-q"], cwd=ana.project, check=True, timeout=60)
    ana.write("fresh", "1")
    assert "Told git to ignore" in ana("save", "fresh", "-m", "x").err
    ana.write("tracked", "1")
    subprocess.run(["git", "add", "tracked"], cwd=ana.project, check=True, timeout=60)
    assert "git rm --cached" in ana("save", "tracked", "-m", "x", code=5).hint


def test_the_library_saves(ana: Machine) -> None:
    ana.write(".env", "KEY=2\n")
    with ana.here(), Repository(ana.project) as repo:
        found = repo.save(ana.project / ".env", "two")
    assert found.commit
    assert found.synced.pushed


def test_what_must_be_confirmed(ana: Machine) -> None:
    """As for stage and commit: source code, and a commit that deletes most files."""
    subprocess.run(["git", "init", "-q"], cwd=ana.project, check=True, timeout=60)
    ana.write("src/main.py", "x")
    said = ana("save", "src", "-m", "x", code=5)
    assert "--yes" in said.hint
    assert "main.py" not in ana("ls").out
    ana("save", "src", "-m", "x", "--yes")
    ana.write("src/one.dat", "1")
    for n in range(20):
        ana.write(f"many/{n}", f"{n}")
    ana("save", "many", "-m", "many", "--yes")
    for n in range(20):
        (ana.project / "many" / f"{n}").unlink()
    said = ana("save", "-m", "gone", code=5)
    assert "--allow-deletions" in said.hint
    assert "Committed" not in said.err
    ana("save", "-m", "gone", "--allow-deletions")
    assert "many" not in ana("ls").out


def test_a_file_that_can_not_be_kept_is_told(ana: Machine) -> None:
    """The rest is saved; the exit code says that something is missing, as of stage."""
    ana.write("new/good", "1")
    ana.write("new/bad:name", "1")
    for flag in ((), ("--json",)):
        ana.write("new/good", f"{flag}")
        ana("save", "new", "-m", "x", *flag, code=1)
        assert "same as origin" in ana("status").out
    assert ana("ls", "HEAD", "new").out.split() == ["new/good"]
