"""Repository: setting up, pushing and pulling, getting single files, and the end."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import servers
from faults import OFFLINE, Faults, failing
from machines import Machine, bucket, driver_of, files, noise, started
from servers import Canned, Remote

from dorky import errors
from dorky.commands import sync as sync_module
from dorky.repo import Repository
from dorky.worktree.worktree import Writing


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    """A project with one commit, pushed into a directory."""
    return started(tmp_path / "ana", file_url, {".env": "KEY=1\n", "config/app": "x = 1\n"})


@pytest.fixture
def ben(ana: Machine, file_url: Remote) -> Machine:
    machine = ana.another("ben")
    machine("clone", file_url.url, ".")
    return machine


# --- init -----------------------------------------------------------------------------------


def test_init_makes_an_identity_and_says_so(tmp_path: Path, file_url: Remote) -> None:
    ana = Machine(tmp_path / "ana", {})
    said = ana("init", file_url.url)
    text = ana.identity.read_text()
    (public,) = re.findall(r"age1[0-9a-z]+", said.out)
    assert f"# public key: {public}" in text
    assert "AGE-SECRET-KEY-1" in text
    assert "AGE-SECRET-KEY" not in said.out
    assert "keep a copy" in said.out
    assert stat.S_IMODE(ana.identity.stat().st_mode) == 0o600
    assert stat.S_IMODE(ana.identity.parent.stat().st_mode) == 0o700
    rc = ana.read(".dorkyrc").decode()
    assert "AGE-SECRET" not in rc
    assert file_url.url in rc
    assert (ana.own / ".gitignore").read_text() == "*\n"

    ana.project = ana.base / "second"
    ana.project.mkdir()
    said = ana("init", "--json").json and ana("status")
    assert ana.identity.read_text() == text


def test_init_json(tmp_path: Path, file_url: Remote) -> None:
    ana = Machine(tmp_path / "ana", {})
    said = ana("init", file_url.url, "--json").json
    assert said["url"] == Path(file_url.url).as_uri()
    assert said["identity"] == str(ana.identity)
    assert said["new_identity"] is said["sealed"] is True
    assert re.fullmatch("[0-9a-f]{32}", said["repository"])


def test_init_plain_needs_no_identity(tmp_path: Path, file_url: Remote) -> None:
    ana = Machine(tmp_path / "ana", {})
    said = ana("init", file_url.url, "--plain")
    assert "not sealed" in said.out
    assert not ana.identity.exists()
    assert "fingerprint" not in ana.read(".dorkyrc").decode()


def test_init_where_a_project_is(ana: Machine) -> None:
    before = ana.read(".dorkyrc")
    said = ana("init", code=3)
    assert "already" in said.error
    assert said.hint == "dorky status"
    assert ana.read(".dorkyrc") == before


def test_init_where_the_remote_holds_a_repository(tmp_path: Path, remote: Remote) -> None:
    first = Machine(tmp_path / "first", remote.env)
    first("init", remote.url)
    before = bucket(remote)
    second = first.another("second", identity=False)
    said = second("init", remote.url, code=5)
    assert "holds a dorky repository already" in said.error
    assert said.hint.startswith("dorky clone ")
    assert list(second.project.iterdir()) == []
    assert bucket(remote) == before


def test_init_that_fails_leaves_nothing_behind_and_may_be_repeated(
    tmp_path: Path, file_url: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults.installed(monkeypatch)
    ana = Machine(tmp_path / "ana", {})
    ana.write("kept", "1")
    for verb in ("get", "swap"):
        faults.before(verb, failing(OFFLINE), times=100)
        said = ana("init", file_url.url, code=8)
        assert "can't be reached" in said.error
        assert [path.name for path in ana.project.iterdir()] == ["kept"]
        faults.clear()
    ana("init", file_url.url)


# --- clone ----------------------------------------------------------------------------------


def test_clone_names_its_directory_after_the_url(ana: Machine, tmp_path: Path) -> None:
    url = re.findall(r'url = "(.*)"', ana.read(".dorkyrc").decode())[0]
    carl = ana.another("carl")
    said = carl("clone", url)
    name = url.rpartition("/")[2]
    assert files(carl.project / name) == ana.files()
    assert "2 files" in said.out


def test_clone_of_an_empty_place(tmp_path: Path, remote: Remote) -> None:
    ana = Machine(tmp_path / "ana", remote.env)
    said = ana("clone", remote.url, "here", code=4)
    assert "holds no dorky repository" in said.error
    assert said.hint.startswith("check the URL")
    assert list(ana.project.iterdir()) == []
    (ana.project / "empty").mkdir()
    ana("clone", remote.url, "empty", code=4)
    assert list((ana.project / "empty").iterdir()) == []


def test_clone_of_a_repository_without_commits(tmp_path: Path, remote: Remote) -> None:
    ana = Machine(tmp_path / "ana", remote.env)
    ana("init", remote.url)
    ben = ana.another("ben")
    assert "no commits yet" in ben("clone", remote.url, ".").out
    assert "no commits yet" in ben("pull").out
    ben.commit({"a": "1"})
    ben("push")
    ana("pull")
    assert ana.files() == ben.files()


@pytest.mark.parametrize("there", ["full/file", "file"])
def test_clone_into_what_is_not_empty(ana: Machine, file_url: Remote, there: str) -> None:
    carl = ana.another("carl")
    carl.write(there, "mine")
    said = carl("clone", file_url.url, there.split("/")[0], code=5)
    assert "is not empty" in said.error
    assert carl.files().keys() == {there}
    assert carl.read(there) == b"mine"


@pytest.mark.parametrize(
    "there",
    [
        False,
        pytest.param(True),
    ],
    ids=["made", "there"],
)
def test_a_clone_that_was_interrupted_is_simply_run_again(
    ana: Machine, file_url: Remote, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    ana.commit({f"{n:02}/file": f"{n}" for n in range(20)})
    ana("push")
    carl = ana.another("carl")
    if there:
        (carl.project / "here").mkdir()
    for cut in ("KeyboardInterrupt", "disk"):
        with monkeypatch.context() as patched:
            Stopped(patched, KeyboardInterrupt() if cut[0] == "K" else None, after=10)
            carl("clone", file_url.url, "here", code=130 if cut[0] == "K" else 8)
        assert sorted(carl.project.glob("here/*")) == []
    carl("clone", file_url.url, "here")
    assert files(carl.project / "here") == ana.files()


class Stopped:
    """Lets some files be put into the worktree, and then no more."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, error: BaseException | None, *, after: int
    ) -> None:
        left = after
        error = error or errors.DiskFull("here")

        def install(self: Writing, *arguments: Any, **options: Any) -> os.stat_result:
            nonlocal left
            left -= 1
            if left < 0:
                raise error
            return real(self, *arguments, **options)

        real = Writing.install
        monkeypatch.setattr(Writing, "install", install)


def test_a_remote_inside_the_project(ana: Machine) -> None:
    """As somebody tries who wants to see how it works: it must not be taken into itself."""
    new = ana.another("new")
    new.write(".env", "KEY=1\n")
    said = new.run("init", "vault")
    if said.code:
        assert said.code in {2, 5}
        return
    new("stage", ".")
    new("commit", "-m", "all")
    new("push")
    assert new("ls").out == ".env\n"


# --- pull never overwrites what is only here ------------------------------------------------


def theirs(ana: Machine) -> None:
    """What ana pushes while ben edits: a file changed, one new, one gone."""
    ana.write(".env", "KEY=ana\n")
    ana.write("new", "ana\n")
    (ana.project / "config/app").unlink()
    ana("stage", ".env", "new", "config/app")
    ana("commit", "-m", "theirs")
    ana("push")


def modified(ben: Machine) -> str:
    ben.write(".env", "KEY=ben\n")
    return ".env"


def modified_mode(ben: Machine) -> str:
    (ben.project / ".env").chmod(0o640)
    return ".env"


def staged(ben: Machine) -> str:
    ben.write(".env", "KEY=ben\n")
    ben("stage", ".env")
    return ".env"


def staged_then_put_back(ben: Machine) -> str:
    """The index alone holds it."""
    staged(ben)
    ben.write(".env", "KEY=1\n")
    return ".env"


def staged_then_deleted(ben: Machine) -> str:
    staged(ben)
    (ben.project / ".env").unlink()
    return ".env"


def untracked_in_the_way(ben: Machine) -> str:
    ben.write("new", "ben's\n")
    return "new"


def link_in_the_way(ben: Machine) -> str:
    (ben.project / "new").symlink_to(".env")
    return "new"


def directory_in_the_way(ben: Machine) -> str:
    ben.write("new/deep/file", "ben's\n")
    return "new/deep/file"


def modified_where_it_goes(ben: Machine) -> str:
    ben.write("config/app", "x = ben\n")
    return "config/app"


EDITS = [
    *(modified, modified_mode, staged, staged_then_put_back, staged_then_deleted),
    *(untracked_in_the_way, link_in_the_way, directory_in_the_way, modified_where_it_goes),
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_local_edits_are_never_overwritten(
    ana: Machine, ben: Machine, edit: Callable[[Machine], str]
) -> None:
    theirs(ana)
    path = edit(ben)
    before = ben.files()
    with ben.repo() as repo:
        index = repo.index.rows()
    said = ben("pull", code=5)
    assert path in said.error
    assert "--force" in said.hint
    assert ben.files() == before
    with ben.repo() as repo:
        assert repo.index.rows() == index
        assert repo.database.ref("main") != repo.database.ref("origin/main")

    mine = before.get(path)
    done = ben("pull", "--force", "--json").json
    assert ben.files() == ana.files()
    assert ben("status", "--exit-code", "-s").out == ""
    # The exact bytes and mode are kept, be it only in the index that they were.
    backup = done["backup"]
    assert backup == "backup/1"
    if edit in {staged_then_put_back, staged_then_deleted}:
        return
    assert mine is not None
    with ben.repo() as repo:
        (listed,) = repo.ls(backup)
        assert listed.path == path
        assert int(listed.mode, 8) == mine[0]
        assert b"".join(repo.cat(backup, path)) == mine[1]


@pytest.mark.parametrize(
    ("edit", "kept"), [(staged_then_put_back, "backup/1~1"), (staged_then_deleted, "backup/1")]
)
def test_force_keeps_what_only_the_index_holds(
    ana: Machine, ben: Machine, edit: Callable[[Machine], str], kept: str
) -> None:
    theirs(ana)
    path = edit(ben)
    ben("pull", "--force")
    assert ben("cat", f"{kept}:{path}").raw == b"KEY=ben\n"


@pytest.mark.parametrize("old", ["file", "directory"])
def test_a_file_becomes_a_directory_and_the_reverse(ana: Machine, ben: Machine, old: str) -> None:
    before, after = ("thing", "thing/inside") if old == "file" else ("thing/inside", "thing")
    ana.commit({before: "1"})
    ana("push")
    ben("pull")
    (ana.project / before).unlink()
    if old == "directory":
        (ana.project / "thing").rmdir()
    ana.write(after, "2")
    ana("stage", ".")
    ana("commit", "-m", "turned round")
    ana("push")
    carl = ana.another("carl")
    carl("clone", driver_of(Remote(str(origin(ana)), {}, {}, servers.RequestLog())).url, ".")
    assert carl.files() == ana.files()

    edited = ana.another("edited")
    edited.project.rmdir()
    (ben.base / "project").rename(edited.project)
    shutil.copy(ben.home / ".dorky" / "state.key", edited.home / ".dorky")
    edited.write(before, "edited")
    said = edited("pull", code=5)
    assert "thing" in said.error
    assert edited.read(before) == b"edited"
    edited.write(before, "1")
    edited("pull")
    assert edited.files() == ana.files()


def origin(machine: Machine) -> Path:
    with machine.repo() as repo:
        return Path(repo.config.url("origin"))


def test_a_file_deleted_here_and_changed_there(ana: Machine, ben: Machine) -> None:
    theirs(ana)
    (ben.project / ".env").unlink()
    ben("pull")
    assert ben.files() == ana.files()


def test_the_same_edit_on_both_sides_is_no_conflict(ana: Machine, ben: Machine) -> None:
    theirs(ana)
    ben.write(".env", "KEY=ana\n")
    ben.write("new", "ana\n")
    ben("pull")
    assert ben.files() == ana.files()
    assert ben("status", "--exit-code", "-s").out == ""


def test_edits_that_are_in_nobodys_way_stay(ana: Machine, ben: Machine) -> None:
    ben.write("mine", "1")
    ben.write("config/app", "edited\n")
    ben.write("staged", "1")
    ben("stage", "staged")
    ana.commit({".env": "KEY=2\n"})
    ana("push")
    before = ben("status", "--json").json
    ben("pull")
    after = ben("status", "--json").json
    assert ben.read(".env") == b"KEY=2\n"
    assert ben.read("config/app") == b"edited\n"
    for key in ("staged", "unstaged"):
        assert before[key] == after[key]
    ben("commit", "-m", "mine")
    ben("push")
    assert ben("show", "--json").json["changes"] == [{"path": "staged", "what": "added"}]


def test_paths_count_from_where_one_is(ana: Machine, file_url: Remote) -> None:
    fresh = ana.another("fresh")
    fresh.write(".dorkyrc", ana.read(".dorkyrc"))
    root = fresh.project
    fresh.project = root / "config"
    fresh.project.mkdir()
    fresh("pull", "app")
    fresh.project = root
    assert fresh.files().keys() == {"config/app"}


def test_an_old_revision_is_not_pulled_onto(ana: Machine, ben: Machine) -> None:
    ana.commit({".env": "KEY=2\n"})
    ana("push")
    ana("checkout", "HEAD~1")
    said = ana("pull", code=5)
    assert said.hint == "dorky checkout main"


def test_a_pull_that_was_interrupted_is_simply_run_again(
    ana: Machine, ben: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana.commit({f"{n:03}": f"{n}\n" for n in range(100)})
    ana("push")
    with monkeypatch.context() as patched:
        Stopped(patched, KeyboardInterrupt(), after=40)
        ben("pull", code=130)
    assert 2 < len(ben.files()) < 102
    ben("pull")
    assert ben.files() == ana.files()
    assert ben("status", "-s", "--exit-code").out == ""


# --- what dies on the way ----------------------------------------------------------------------

_DYING = """
import os, sys
sys.path[:0] = sys.argv[1].split(":")
import pytest
from faults import Faults
from dorky.cli.main import run
command, verb, when, n = sys.argv[2:]
faults = Faults.installed(pytest.MonkeyPatch())
for _ in range(int(n)):
    getattr(faults, when)(verb, lambda *answer: answer[0] if answer else None)
getattr(faults, when)(verb, lambda *answer: os._exit(9))
sys.exit(run([command]))
"""


@pytest.mark.parametrize(
    ("command", "verb", "when", "n"),
    [
        *(("push", "put", "before", 0), ("push", "put", "after", 0), ("push", "swap", "before", 0)),
        *(("push", "swap", "after", 0), ("pull", "get", "after", 0)),
        *(("pull", "get_range", "after", 0), ("pull", "get_range", "after", 1)),
    ],
)
def test_a_process_that_dies_is_simply_started_again(
    ana: Machine, ben: Machine, command: str, verb: str, when: str, n: int
) -> None:
    ana.commit({"large": noise(300_000), ".env": "KEY=2\n"})
    dying = ana
    if command == "pull":
        ana("push")
        dying = ben
    before = ben.files()
    here = Path(__file__).parent
    with dying.here():
        code = subprocess.run(
            [sys.executable, "-c", _DYING, f"{here}:{here.parent}", command, verb, when, str(n)],
            check=False,
        ).returncode
    assert code == 9
    assert ben.files() == before
    dying("status")
    dying(command)
    ben("pull")
    assert ben.files() == ana.files()
    with ana.repo() as repo:
        repo.fetch()
        seen = repo.remote().seen
        assert seen
        assert seen.root.generation == 3
        assert len(seen.root.packs) == 1
    for machine in (ana, ben):
        assert list((machine.state / "tmp").iterdir()) == []
        assert {path.name for path in (machine.state / "packs").iterdir()} == packs_known(machine)


def packs_known(machine: Machine) -> set[str]:
    with machine.repo() as repo:
        return {each.id for each in repo.store.packs()}


class FullDisk:
    """Fails the nth write, counted where files are made durable or get their mode."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, n: int) -> None:
        self.left = n
        real = getattr(os, name)

        def limited(*arguments: object) -> object:
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments)

        monkeypatch.setattr(os, name, limited)


@pytest.mark.parametrize("name", ["fsync", "fchmod"])
@pytest.mark.parametrize("n", range(5))
def test_a_disk_that_is_full_while_pulling(
    ana: Machine, ben: Machine, monkeypatch: pytest.MonkeyPatch, name: str, n: int
) -> None:
    ana.commit({f"{n:02}": noise(20_000, n) for n in range(20)})
    ana("push")
    before = ben.files()
    with monkeypatch.context() as patched:
        disk = FullDisk(patched, name, n)
        code = ben.run("pull").code
        assert code in ({0, 8} if disk.left >= 0 else {8})
    assert ben.files().items() >= before.items()
    ben("status")
    ben("pull")
    assert ben.files() == ana.files()
    assert ben("status", "-s", "--exit-code").out == ""


@pytest.mark.parametrize("n", range(5))
def test_a_bucket_on_a_disk_that_is_full(
    ana: Machine, ben: Machine, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    ana.commit({"large": noise(300_000)})
    with monkeypatch.context() as patched:
        disk = FullDisk(patched, "fsync", n)
        said = ana.run("push")
        assert said.code in ({0, 8} if disk.left >= 0 else {8})
        if said.code:
            assert "No space left" in said.error
            assert "free some space" in said.hint
    ana("push")
    ben("pull")
    assert ben.files() == ana.files()


# --- both sides committed -------------------------------------------------------------------


def test_commits_on_both_sides_are_merged_if_they_changed_different_files(
    ana: Machine, ben: Machine
) -> None:
    theirs(ana)
    ben.commit({"mine": "1", "config/other": "2"})
    assert ben("status", "--json").json["ahead"] == 1
    said = ben("pull", "--json").json
    assert said["merged"] is True
    assert {each["path"] for each in said["changes"]} == {".env", "new", "config/app"}
    assert ben.files().keys() == {".env", "new", "mine", "config/other"}
    entry = ben("show", "--json").json
    assert len(entry["parents"]) == 2
    ben("push")
    ana("pull")
    assert ana.files() == ben.files()
    assert ana("status", "-s", "--exit-code").out == ""


def test_the_same_file_on_both_sides_is_for_people_to_decide(ana: Machine, ben: Machine) -> None:
    theirs(ana)
    ben.commit({".env": "KEY=ben\n", "mine": "1"})
    head = ben("log", "--json").json[0]["id"]
    said = ben("pull", code=5)
    assert "U .env (both changed it: KEY)" in said.out
    assert ".env" in said.error
    assert "mine" not in said.error
    assert ben.read(".env") == b"<<<<<<< main\nKEY=ben\n=======\nKEY=ana\n>>>>>>> origin/main\n"
    assert ben("log", "--json").json[0]["id"] == head
    assert "dorky resolve FILE" in ben("status").out
    ben("pull", "--force", code=5)
    ben("push", code=5)
    ben("sync", code=5)

    # What the hint says works: take a side, …
    assert "dorky resolve FILE" in said.hint
    ben("resolve", ".env", "--theirs")
    assert ben.read(".env") == b"KEY=ana\n"
    assert "dorky merge --continue" in ben("status").out
    ben("merge", "--continue")
    assert ben.read("mine") == b"1"
    # … or undo it, …
    ben("undo", "3")
    assert ben.read(".env") == b"KEY=ben\n"
    # … or merge by hand.
    ben("sync", code=5)
    ben.write(".env", "KEY=both\n")
    ben("resolve", ".env")
    ben("merge", "--continue")
    ben("sync")
    ana("sync")
    assert ana.read(".env") == b"KEY=both\n"


# --- download -------------------------------------------------------------------------------


def test_download_touches_nothing_else(ana: Machine, ben: Machine) -> None:
    ana.commit({"model": noise(300_000)})
    ana.write("key", "secret\n", 0o600)
    ana.write("tool", "#!/bin/sh\n", 0o755)
    ana("stage", "key", "tool")
    ana("commit", "-m", "more")
    ana("push")
    before = ben.files()
    with ben.repo() as repo:
        index = repo.index.rows()
    out = ben.base / "out"
    out.mkdir()
    assert "Wrote" in ben("download", "origin/main:model", out).out
    assert (out / "model").read_bytes() == noise(300_000)
    ben("download", "origin/main:config/app", out / "renamed")
    assert (out / "renamed").read_bytes() == b"x = 1\n"
    for name, mode in {"key": 0o600, "tool": 0o755}.items():
        ben("download", f"origin/main:{name}", out)
        assert stat.S_IMODE((out / name).stat().st_mode) == mode
    assert ben.files() == before
    with ben.repo() as repo:
        assert repo.index.rows() == index


def test_download_does_not_replace_files(ana: Machine) -> None:
    out = ana.base / "out"
    out.write_text("mine")
    said = ana("download", "HEAD:.env", out, code=5)
    assert "--force" in said.hint
    assert out.read_text() == "mine"
    link = ana.base / "link"
    link.symlink_to(ana.base / "nowhere")
    ana("download", "HEAD:.env", link, code=5)
    ana("download", "HEAD:.env", out, "--force")
    assert out.read_text() == "KEY=1\n"
    ana("download", "HEAD:.env", link, "--force")
    assert not link.is_symlink()
    assert not (ana.base / "nowhere").exists()


def test_download_without_a_project(tmp_path: Path, remote: Remote) -> None:
    first = Machine(tmp_path / "first", remote.env)
    first("init", remote.url)
    first.commit({"deep/secret": "1\n", "big": noise(300_000)})
    first("push")
    stranger = first.another("stranger")
    stranger("download", "main:deep/secret", "--remote", remote.url)
    assert stranger.read("secret") == b"1\n"
    stranger("download", "main:big", "copy", "--remote", remote.url)
    assert stranger.read("copy") == noise(300_000)
    stranger("download", "main:big", "copy", "--remote", remote.url, code=5)
    assert {path.name for path in stranger.project.iterdir()} == {"secret", "copy"}
    assert stat.S_IMODE((stranger.project / "secret").stat().st_mode) == 0o600


def test_download_never_makes_a_file_wider_than_it_is_kept(
    ana: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for the time in which it is written."""
    seen = []

    def chmod(fd: int, mode: int) -> None:
        seen.append((stat.S_IMODE(os.fstat(fd).st_mode), os.fstat(fd).st_size, mode))
        fchmod(fd, mode)

    fchmod = os.fchmod
    monkeypatch.setattr(os, "fchmod", chmod)
    before = os.umask(0)
    try:
        ana("download", "HEAD:.env", "copy")
    finally:
        os.umask(before)
    assert seen == [(0o600, 6, 0o600)]


@pytest.mark.parametrize(
    ("target", "code"),
    [("HEAD:nothing", 4), ("HEAD:config", 2), ("HEAD", 2), ("nothing:.env", 4), (":", 2)],
)
def test_download_of_what_is_not_there(ana: Machine, target: str, code: int) -> None:
    before = ana.files()
    said = ana("download", target, "copy", code=code)
    assert said.hint
    assert ana.files() == before


def test_download_into_a_directory_that_is_not_there(ana: Machine) -> None:
    ana("download", "HEAD:.env", "no/such/place", code=8)
    assert not (ana.project / "no").exists()


# --- remotes --------------------------------------------------------------------------------


def test_remotes(ana: Machine, tmp_path: Path) -> None:
    assert ana("remote", "list", "--json").json == {"origin": str(origin(ana))}
    said = ana("remote", "add", "origin", "s3://acme/x", code=3)
    assert said.hint == "dorky remote set-url origin URL"
    ana("remote", "add", "second", "s3://acme-backup/x", "--profile", "acme")
    assert ana("remote", "list", "--json").json["second"] == "s3://acme-backup/x"
    assert ana("config", "get", "remotes.second.profile").out == "acme\n"
    ana("remote", "set-url", "second", "gs://acme-backup/x")
    ana("remote", "remove", "second")
    assert "second" not in ana.read(".dorkyrc").decode()
    for name, url, code in (
        # Its refs would be taken for those that keep what force overwrote.
        ("backup", "s3://acme/x", 2),
        ("a/b", "s3://acme/x", 2),
        ("ok", "s3://", 2),
        ("ok", "ftp://acme/x", 3),
        ("ok", "s3://user:key@acme/x", 2),
    ):
        before = ana.read(".dorkyrc")
        assert "key@" not in ana("remote", "add", name, url, code=code).err
        assert ana.read(".dorkyrc") == before
    assert ana("remote", "remove", "gone", code=3).hint
    assert ana("remote", "set-url", "gone", "s3://acme/x", code=3).hint


def test_another_url_is_another_place(ana: Machine, ben: Machine, tmp_path: Path) -> None:
    """It may be an older copy, which has to be said once."""
    (tmp_path / "moved").mkdir()
    for path in origin(ana).iterdir():
        if path.is_file() and path.name == "root":
            (tmp_path / "moved" / "root").write_bytes(path.read_bytes())
    ana.commit({".env": "KEY=2\n"})
    ana("push")
    ana("remote", "set-url", "origin", tmp_path / "moved")
    assert "is older" in ana("pull", code=7).error
    ana("pull", "--accept-rewind")
    assert ana("status", "--json").json["ahead"] == 1
    ana("push")
    ben("remote", "set-url", "origin", tmp_path / "moved")
    ben("pull")
    assert ben.files() == ana.files()


def test_a_relative_url_counts_from_the_project(ana: Machine, tmp_path: Path) -> None:
    carl = ana.another("carl")
    carl("init", "../vault")
    carl.commit({"sub/file": "1"})
    with carl.here():
        os.chdir("sub")
        with Repository.find() as repo:
            repo.push()
    assert (carl.base / "vault" / "root").exists()


def test_a_bucket_named_by_the_environment(ana: Machine, s3_url: Remote) -> None:
    """DORKY_BUCKET: the project's directory is the prefix."""
    carl = ana.another("carl")
    name = s3_url.url.split("/")[2]
    carl.env |= {**s3_url.env, "DORKY_BUCKET": name}
    carl("init")
    carl.commit({".env": "KEY=1\n"})
    carl("push")
    dora = carl.another("dora")
    dora("pull")
    assert dora.files() == carl.files()
    assert f"s3://{name}/project" in dora("remote", "list").out


# --- destroy --------------------------------------------------------------------------------


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
    assert plan["keys"] == count + 2
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


# --- what goes wrong between here and a bucket ----------------------------------------------


def xml(code: str, more: str = "") -> str:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message>{more}</Error>"


ANSWERS = {
    "no bucket": (Canned(404, xml("NoSuchBucket")), 4, "bucket"),
    "no permission": (Canned(403, xml("AccessDenied")), 6, "denied"),
    "expired token": (Canned(400, xml("ExpiredToken")), 6, "expired"),
    "wrong region": (
        Canned(400, xml("AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>")),
        8,
        "eu-west-1",
    ),
    "redirect": (
        Canned(301, xml("PermanentRedirect"), {"x-amz-bucket-region": "eu-west-1"}),
        8,
        "eu-west-1",
    ),
    "no S3": (Canned(200, "<html>It works!</html>", {"Content-Type": "text/html"}), 8, "answer"),
    "no S3 either": (Canned(404, "<html>Not Found</html>"), 8, "answer"),
    "no S3 at all": (Canned(501, "<html>Unsupported method</html>"), 8, "answer"),
}


@pytest.mark.parametrize(("answer", "code", "word"), ANSWERS.values(), ids=ANSWERS)
def test_what_a_server_may_say(
    ana: Machine, answer: Canned, code: int, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command that talks to it says the same, with a hint, and leaves no trace."""
    with servers.stub_server(lambda method, target: answer) as server:
        new = ana.another("new")
        new.env |= servers.s3_env(server.endpoint)
        url = "s3://acme-vault/x"
        for command in (("init", url), ("clone", url, "here")):
            said = new(*command, code=code)
            assert word in said.error
            assert said.hint
            assert list(new.project.iterdir()) == []
        ana.env |= new.env
        ana("remote", "set-url", "origin", url)
        ana.commit({".env": "KEY=2\n"})
        before = ana.files()
        for each in ("fetch", "pull", "push"):
            said = ana(each, code=code)
            assert word in said.error
            assert said.hint
        new("download", "main:.env", "--remote", url, code=code)
        assert ana.files() == before
        ana("status")


def test_the_hint_for_a_wrong_region_works_before_there_is_a_project(ana: Machine) -> None:
    new = ana.another("new")
    with servers.stub_server(lambda method, target: ANSWERS["wrong region"][0]) as server:
        new.env |= servers.s3_env(server.endpoint)
        said = new("init", "s3://acme-vault/x", code=8)
    assert "--region" in said.hint


def test_no_credentials(ana: Machine) -> None:
    for url, word in {"s3://acme-vault/x": "aws configure", "gs://acme-vault/x": "gcloud"}.items():
        said = ana("init", code=3) and ana.another(word.split()[0])("init", url, code=6)
        assert "No credentials" in said.error
        assert word in said.hint


def test_no_network(ana: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    Faults.installed(monkeypatch)  # retries don't wait
    new = ana.another("new")
    with servers.stub_server(lambda method, target: Canned(200)) as server:
        endpoint = server.endpoint
    new.env |= {**servers.s3_env(endpoint), "STORAGE_EMULATOR_HOST": endpoint}
    for scheme in ("s3", "gs"):
        said = new("init", f"{scheme}://acme-vault/x", code=8)
        assert "can't be reached" in said.error
        assert "check the network" in said.hint
        assert list(new.project.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "code"),
    [("s3://", 2), ("s3:acme", 2), ("ftp://acme/x", 3), ("s3://a:b@acme/x", 2), ("gs://a/../b", 2)],
)
def test_malformed_urls(ana: Machine, url: str, code: int) -> None:
    new = ana.another("new")
    for command in (("init", url), ("clone", url, "here")):
        said = new(*command, code=code)
        assert said.hint
        assert list(new.project.iterdir()) == []


def test_a_pull_that_could_not_set_up_leaves_nothing_behind(ana: Machine, tmp_path: Path) -> None:
    """A wrong DORKY_URL in an empty directory must not turn it into a project."""
    new = ana.another("new")
    new.env["DORKY_URL"] = str(tmp_path / "typo")
    said = new("pull", code=4)
    assert "holds no dorky repository" in said.error
    assert list(new.project.iterdir()) == []
    new("init")


def test_an_error_is_one_class_for_the_library(ana: Machine, tmp_path: Path) -> None:
    with ana.here(), pytest.raises(errors.RepositoryExists) as caught:
        Repository.init(tmp_path / "again", str(origin(ana)))
    assert caught.value.code == "repository-exists"
    with ana.here(), pytest.raises(errors.NoRepositoryAtURL):
        Repository.clone(str(tmp_path / "nowhere"), tmp_path / "clone")
    assert not (tmp_path / "clone").exists()


@pytest.mark.parametrize("name", ["my vault", "vault", "\u00e9"])
def test_no_spelling_of_a_remote_inside_the_project(tmp_path: Path, name: str) -> None:
    ana = Machine(tmp_path / "ana", {})
    inside = (ana.project / name).as_uri()
    assert "inside the project" in ana("init", inside, code=2).error
    assert list(ana.project.iterdir()) == []


def test_a_single_path_is_one_path(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / ".a").write_text("2")
    repo, _ = Repository.init(tmp_path)
    with repo:
        repo.stage(str(tmp_path / "a"))
        repo.stage(tmp_path / ".a")
        repo.commit("both")
        repo.rm(str(tmp_path / ".a"))
        assert list(repo.index.rows()) == ["a"]
        assert (tmp_path / "a").exists()


def test_init_that_fails_leaves_no_directory(tmp_path: Path) -> None:
    with pytest.raises(errors.BadURL):
        Repository.init(tmp_path / "n" / "m", "s3://")
    assert list(tmp_path.iterdir()) == []


def test_a_clone_that_fails_leaves_what_others_put_there(
    ana: Machine, file_url: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    carl = ana.another("carl")
    (carl.project / "here").mkdir()

    def fail(*_: Any) -> None:
        (carl.project / "here" / "notes").write_text("mine")
        raise errors.ServerBusy("x", "503")

    monkeypatch.setattr(sync_module.remote_fetch, "fetch", fail)
    carl("clone", file_url.url, "here", code=8)
    assert [path.name for path in (carl.project / "here").iterdir()] == ["notes"]
