"""What git deletes together with `.dorky/` is not lost: unpushed work has a second copy."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import snapshots
from machines import Machine, started
from servers import Remote

from dorky import errors
from dorky.project import Project
from dorky.store import spare


def git(machine: Machine, *arguments: str, at: Path | None = None) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(machine.home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ALLOW_PROTOCOL": "file",
    }
    names = (
        "user.name=x",
        "user.email=x@x",
        "init.defaultBranch=main",
        "protocol.file.allow=always",
    )
    settings = [word for name in names for word in ("-c", name)]
    done = subprocess.run(
        ["git", *settings, *arguments],
        cwd=at or machine.project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    """A project in git, pushed, with `.dorkyrc` tracked by git."""
    made = Machine(tmp_path / "ana", file_url.env)

    def make() -> None:
        git(made, "init", "-q")
        made("init", file_url.url)
        made.commit({".env": "KEY=1\n"}, "first")
        made("push")
        git(made, "add", "-A")
        git(made, "commit", "-qm", "start")

    snapshots.once([made.base, Path(file_url.url)], make, "in git")
    return made


def slots(machine: Machine) -> list[Path]:
    return sorted((machine.project / ".git" / "dorky").glob("*"))


def head(machine: Machine) -> str:
    found: str = machine("log", "--json").json[0]["id"]
    return found


def lost(machine: Machine, *command: str, what: str = "1 commit ") -> None:
    said = machine(*command, code=7)
    assert what in said.error
    assert "is gone" in said.error
    assert said.hint.startswith("dorky fsck --repair; ")


def brought_back(machine: Machine, commit: str) -> None:
    for command in (["status"], ["pull"], ["log"], ["commit", "-m", "x"], ["push"], ["sync"]):
        lost(machine, *command)
    assert machine.run("doctor").out.count("dorky fsck --repair") == 1
    machine("fsck", "--repair")
    assert head(machine) == commit
    machine("fsck")


def test_forget(ana: Machine, file_url: Remote) -> None:
    """The reproduction forget.sh: a branch with a link `.dorky`, checked out and left again."""
    vault = Path(file_url.url)
    old = (vault / "root").read_bytes()
    ana.commit({".env": "KEY=new\n"}, "two")
    ana("push")
    commit = ana.commit({".env": "KEY=unpushed\n"}, "three")
    mal = ana.base / "mal"
    git(ana, "clone", "-q", ".", str(mal))
    git(ana, "checkout", "-qb", "pr", at=mal)
    (mal / ".dorky").symlink_to("nowhere")
    git(ana, "add", "-f", ".dorky", at=mal)
    git(ana, "commit", "-qm", "typo", at=mal)
    git(ana, "push", "-q", "origin", "pr", at=mal)
    git(ana, "checkout", "-q", "pr")
    git(ana, "checkout", "-q", "main")
    assert not ana.own.exists()
    (vault / "root").write_bytes(old)
    (ana.project / ".env").unlink()
    brought_back(ana, commit)
    said = ana("pull", code=7)
    assert "older than what this clone has seen" in said.error
    ana("restore", ".env")
    assert ana.read(".env") == b"KEY=unpushed\n"


@pytest.mark.parametrize("how", [["clean", "-fdxq"], ["stash", "-qa"]])
def test_git_cleans_up(ana: Machine, how: list[str]) -> None:
    commit = ana.commit({".env": "KEY=2\n", "more": "data\n" * 1000}, "two")
    ana.write("scratch", "x")
    git(ana, *how)
    assert not ana.own.exists()
    brought_back(ana, commit)
    ana("push")
    assert not slots(ana)
    ana("pull")
    assert ana.read("more") == b"data\n" * 1000


def test_there_is_no_second_copy_of_what_is_pushed(ana: Machine) -> None:
    assert not slots(ana)
    ana.commit({".env": "KEY=2\n"}, "two")
    (slot,) = slots(ana)
    assert stat.S_IMODE(slot.stat().st_mode) == stat.S_IMODE(slot.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in slot.rglob("*") if p.is_file()} == {0o600}
    packs = {path.name: path.stat().st_ino for path in (ana.state / "packs").iterdir()}
    assert {path.name: path.stat().st_ino for path in (slot / "packs").iterdir()} == packs
    ana("push")
    assert not slots(ana)
    shutil.rmtree(ana.own)
    ana("pull")


def test_nothing_else_begins_over_it(ana: Machine, file_url: Remote) -> None:
    ana.commit({".env": "KEY=2\n"}, "two")
    shutil.rmtree(ana.own)
    lost(ana, "init")
    (ana.project / ".dorkyrc").unlink()
    lost(ana, "init")
    lost(ana, "status")
    for path in ana.project.iterdir():
        if path.name != ".git":
            path.unlink()
    said = ana.run("clone", file_url.url, ".")
    assert said.code in {5, 7}
    assert not ana.own.exists()
    ana("fsck", "--repair")
    assert (ana.project / ".dorkyrc").read_text()
    ana("push")


def test_it_follows_what_is_done(ana: Machine) -> None:
    first = head(ana)
    second = ana.commit({".env": "KEY=2\n"}, "two")
    ana.commit({".env": "KEY=3\n"}, "three")
    ana("undo")
    (slot,) = slots(ana)

    def record() -> spare.Record:
        with ana.here():
            project = Project(ana.project)
            assert project.spare is not None
            found = spare.find(project.spare, project.config)
        assert found is not None
        return found

    assert record().refs["main"] == second
    assert record().commits == 1
    ana.commit({"big": os.urandom(100_000)}, "four")
    assert record().commits == 2
    ana("undo")
    before = {path.name for path in (slot / "packs").iterdir()}
    with ana.repo() as repo:
        from dorky.store import oplog

        oplog.forget(repo.database)
    ana("gc", "--grace", "0")
    packs = {path.name for path in (slot / "packs").iterdir()}
    assert packs == {path.name for path in (ana.state / "packs").iterdir()} != before
    assert record().refs["main"] == second
    ana("checkout", first, "--force")
    shutil.rmtree(ana.own)
    ana("fsck", "--repair")
    assert ana("status", "--json").json["detached"]


def test_a_merge_and_a_backup_are_kept(ana: Machine, file_url: Remote) -> None:
    ben = ana.another("ben")
    ben("clone", file_url.url, ".")
    ben.commit({"ben": "1\n"})
    ben("push")
    ana.commit({"ana": "1\n"})
    ana.write(".env", "KEY=edited\n")
    said = ana("pull")
    assert "erge" in said.out
    commit = head(ana)
    ana("restore", ".env")
    shutil.rmtree(ana.own)
    lost(ana, "status", what="2 commits and 1 backup")
    ana("fsck", "--repair")
    assert head(ana) == commit
    ana("restore", ".env", "--source", "backup/1")
    assert ana.read(".env") == b"KEY=edited\n"


def test_what_was_purged_goes_from_there_too(ana: Machine, file_url: Remote) -> None:
    ben = ana.another("ben")
    git(ben, "init", "-q")
    ben("clone", file_url.url, "in")
    ben.project = ben.project / "in"
    ben.commit({"mine": "1\n"})
    (slot,) = (ben.project.parent / ".git" / "dorky").iterdir()
    before = {path.name for path in (slot / "packs").iterdir()}
    ana("purge", ".env", "--yes")
    ben("pull")
    after = {path.name for path in (slot / "packs").iterdir()}
    assert after == {path.name for path in (ben.state / "packs").iterdir()}
    assert before - after
    shutil.rmtree(ben.own)
    ben("fsck", "--repair")
    assert {each["path"] for each in ben("ls", "--json").json} == {"mine"}


def test_new_keys_open_it(ana: Machine) -> None:
    commit = ana.commit({".env": "KEY=2\n"}, "two")
    ana("rotate")
    shutil.rmtree(ana.own)
    ana("fsck", "--repair")
    assert head(ana) == commit
    ana("push")


@pytest.mark.parametrize("option", ["", "--plain"])
def test_without_a_remote(tmp_path: Path, option: str) -> None:
    ana = Machine(tmp_path / "ana", {})
    git(ana, "init", "-q")
    ana("init", *filter(None, [option]))
    for n in range(3):
        commit = ana.commit({".env": f"KEY={n}\n"}, str(n))
    (ana.project / ".dorkyrc").unlink()
    shutil.rmtree(ana.own)
    lost(ana, "status", what="3 commits ")
    below = ana.project / "a"
    below.mkdir()
    top, ana.project = ana.project, below
    lost(ana, "status", what="3 commits ")
    ana.project = top
    ana("fsck", "--repair")
    assert head(ana) == commit
    assert (ana.project / ".dorkyrc").exists()
    ana("fsck", "--read-data")


def test_destroy_removes_it(ana: Machine) -> None:
    ana.commit({".env": "KEY=2\n"}, "two")
    assert slots(ana)
    ana("destroy", "--yes")
    assert not slots(ana)


def test_another_file_system_gets_copies(ana: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def refuse(source: str, target: str, **options: object) -> None:
        if "dst_dir_fd" in options:
            raise OSError(18, "Invalid cross-device link")
        link(source, target, **options)

    monkeypatch.setattr(os, "link", refuse)
    ana.commit({"pushed": os.urandom(300_000)}, "two")
    ana("push")
    commit = ana.commit({".env": "KEY=2\n"}, "three")
    (slot,) = slots(ana)
    sizes = [path.stat().st_size for path in (slot / "packs").iterdir()]
    assert sizes
    assert max(sizes) < 300_000
    (pack, *_) = (slot / "packs").iterdir()
    data = pack.read_bytes()
    pack.write_bytes(data[:-1] + b"x")
    said = ana("fsck", code=7)
    assert "second copy" in said.out
    assert said.hint == "dorky fsck --repair"
    ana("fsck", "--repair")
    ana("fsck")
    assert pack.read_bytes() == data
    own = ana.state / "packs" / pack.name
    own.write_bytes(data[:-1] + b"x")
    ana("fsck", code=7)
    ana("fsck", "--repair")
    ana("fsck", "--read-data")
    assert own.read_bytes() == data
    git(ana, "clean", "-fdxq")
    ana("fsck", "--repair")
    assert head(ana) == commit
    ana("pull")


def test_two_work_trees_have_two(ana: Machine) -> None:
    other = Machine(ana.base / "other", ana.env)
    other.home = ana.home
    other.project.rmdir()
    git(ana, "worktree", "add", "-q", str(other.project), "-b", "side")
    other("pull")
    mine = ana.commit({".env": "KEY=mine\n"})
    theirs = other.commit({".env": "KEY=theirs\n"})
    assert len(slots(ana)) == 2
    shutil.rmtree(ana.own)
    shutil.rmtree(other.own)
    other("fsck", "--repair")
    assert head(other) == theirs
    ana("fsck", "--repair")
    assert head(ana) == mine
    # A work tree that is gone leaves its work to the others.
    git(ana, "worktree", "remove", "--force", str(other.project))
    assert "dorky fsck --repair" in ana("doctor").out
    ana("fsck", "--repair")
    assert len(slots(ana)) == 1
    ana("restore", ".env", "--source", "backup/1")
    assert ana.read(".env") == b"KEY=theirs\n"
    assert head(ana) == mine


def test_a_project_in_a_submodule(ana: Machine, tmp_path: Path) -> None:
    top = Machine(tmp_path / "top", ana.env)
    top.home = ana.home
    git(top, "init", "-q")
    git(top, "submodule", "add", "-q", str(ana.project), "sub")
    sub = Machine(tmp_path / "unused", ana.env)
    sub.home, sub.project = ana.home, top.project / "sub"
    sub("pull")
    commit = sub.commit({".env": "KEY=2\n"})
    (slot,) = (top.project / ".git" / "modules" / "sub" / "dorky").iterdir()
    git(top, "submodule", "--quiet", "deinit", "-f", "sub")
    git(top, "submodule", "--quiet", "update", "--init", "sub")
    assert not sub.own.exists()
    brought_back(sub, commit)
    sub("push")
    assert not slot.exists()


def test_the_environment_does_not_lead_astray(
    ana: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a hook GIT_DIR names the hook's repository, which need not be the project's."""
    elsewhere = Machine(tmp_path / "elsewhere", {})
    git(elsewhere, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(elsewhere.project / ".git"))
    monkeypatch.setenv("GIT_COMMON_DIR", str(elsewhere.project / ".git"))
    ana.commit({".env": "KEY=2\n"}, "two")
    assert len(slots(ana)) == 1
    assert not slots(elsewhere)


@pytest.mark.parametrize("how", ["record", "mac", "other slot", "other key"])
def test_a_forged_record_is_refused(ana: Machine, how: str) -> None:
    ana.commit({".env": "KEY=2\n"}, "two")
    (slot,) = slots(ana)
    data = (slot / "record").read_bytes()
    if how == "record":
        data = data.replace(b'"commits":1', b'"commits":2')
    elif how == "mac":
        data = bytes(32) + data[32:]
    elif how == "other slot":
        shutil.copytree(ana.project, ana.project / "below", ignore=lambda *_: [".git", ".dorky"])
        with ana.here():
            below = spare.slot_of(ana.project / "below")
        assert below is not None
        slot.rename(below.path)
        below.path.joinpath("record").write_bytes(data)
        slot, ana.project = below.path, ana.project / "below"
    else:
        (ana.home / ".dorky" / "state.key").write_bytes(os.urandom(32))
    (slot / "record").write_bytes(data)
    shutil.rmtree(ana.own, ignore_errors=True)
    for command in (["status"], ["pull"], ["fsck", "--repair"]):
        said = ana(*command, code=7)
        assert str(slot) in said.error


@pytest.mark.parametrize("what", ["dorky", "slot", "packs"])
def test_links_are_not_followed(ana: Machine, what: str) -> None:
    precious = ana.base / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    ana.commit({".env": "KEY=2\n"}, "two")
    (slot,) = slots(ana)
    target = {"dorky": slot.parent, "slot": slot, "packs": slot / "packs"}[what]
    shutil.rmtree(target)
    target.symlink_to(precious)
    ana.commit({".env": "KEY=3\n"}, "three")
    ana("push")
    assert [path.name for path in precious.iterdir()] == ["file"]
    assert ana("log", "--json").json[0]["message"] == "three"


def test_a_lost_pack_comes_back(ana: Machine) -> None:
    ana.commit({".env": "KEY=2\n"}, "two")
    for path in (ana.state / "packs").iterdir():
        path.unlink()
    ana("fsck", code=7)
    ana("fsck", "--repair")
    ana("fsck", "--read-data")
    ana("push")


def test_a_damaged_record_is_made_again(ana: Machine) -> None:
    ana.commit({".env": "KEY=2\n"}, "two")
    (slot,) = slots(ana)
    good = (slot / "record").read_bytes()
    (slot / "record").write_bytes(good[:-1])
    assert "can't be used" in ana("fsck").out
    assert (slot / "record").read_bytes() == good


def test_outside_of_git_there_is_none(tmp_path: Path, file_url: Remote) -> None:
    ana = started(tmp_path / "ana", file_url, {".env": "KEY=1\n"})
    ana.commit({".env": "KEY=2\n"})
    with ana.here():
        assert Project(ana.project).spare is None
    assert "not needed" in ana("doctor").out


def test_full_git_directory_fails_no_commit(ana: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise errors.DiskFull(ana.project)

    monkeypatch.setattr(spare, "_write", full)
    ana.commit({".env": "KEY=2\n"}, "two")
    assert "fail  second copy" in ana("doctor", code=1).out


@pytest.mark.parametrize("kind", [["--plain"], []])
def test_a_state_that_git_deleted_is_set_up_with_no_other_repository(
    ana: Machine, tmp_path: Path, file_url: Remote, kind: list[str]
) -> None:
    """A branch has git delete `.dorky/`, and its next commit leads to somebody else's bucket."""
    mallory = Machine(tmp_path / "mallory", {})
    mallory("init", str(tmp_path / "evil"), *kind)
    mallory.commit({"readme": "x"}, "x")
    mallory("push")
    if not kind:
        key = ana("key", "show", "--json").json[0]["recipient"]
        mallory("team", "add", "ana", key)
    (ana.project / ".gitignore").write_text("/.env\n/.dorky\n")
    git(ana, "checkout", "-qb", "evil")
    state = ana.project / ".dorky"
    aside = state.rename(tmp_path / "aside")
    state.symlink_to("nowhere")
    git(ana, "add", "-f", ".dorky")
    git(ana, "commit", "-qm", "one")
    git(ana, "rm", "-q", ".dorky")
    (ana.project / ".dorkyrc").write_text((mallory.project / ".dorkyrc").read_text())
    git(ana, "commit", "-qam", "two")
    git(ana, "checkout", "-q", "main")
    aside.rename(state)
    ana("pull")

    for revision in ("evil~1", "evil"):
        git(ana, "checkout", "-q", revision)
    assert not state.exists()
    said = ana("pull", code=7)
    assert "holds another repository" in said.error
    ana("stage", ".env", code=3)
    # A work tree for the branch believes it no more.
    other = Machine(tmp_path / "other", file_url.env)
    other.home = ana.home
    other.project.rmdir()
    git(ana, "checkout", "-q", "main")
    git(ana, "worktree", "add", "-q", str(other.project), "evil")
    assert "holds another repository" in other("pull", code=7).error
    ana("pull")

    # The hint leads on, where the project has moved.
    command = said.hint.rpartition(": ")[2]
    subprocess.run(["sh", "-c", command], check=True, timeout=20)
    other("pull")
