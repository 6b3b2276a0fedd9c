"""Pushing, pulling and downloading: nothing that is only here is lost, whatever fails."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import servers
from disks import Stopped
from faults import Faults
from machines import Machine, noise, started
from servers import Canned, Remote

from dorky import errors
from dorky.repo import Repository
from dorky.store.index import Index, Row


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    """A project with one commit, pushed into a directory."""
    return started(tmp_path / "ana", file_url, {".env": "KEY=1\n", "config/app": "x = 1\n"})


@pytest.fixture
def ben(ana: Machine, file_url: Remote) -> Machine:
    machine = ana.another("ben")
    machine("clone", file_url.url, ".")
    return machine


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
def test_a_file_becomes_a_directory_and_the_reverse(
    ana: Machine, ben: Machine, file_url: Remote, old: str
) -> None:
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
    carl("clone", file_url.url, ".")
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
sys.path.insert(0, sys.argv[1])
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
    with dying.here():
        code = subprocess.run(
            [sys.executable, "-c", _DYING, str(servers.SUPPORT), command, verb, when, str(n)],
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


@pytest.mark.each_value
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
    stranger("download", "big", "copy", "--remote", remote.url)
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
    [
        ("HEAD:nothing", 4),
        ("HEAD:config", 2),
        ("nothing", 4),
        ("config", 2),
        ("nothing:.env", 4),
        (":", 2),
    ],
)
def test_download_of_what_is_not_there(ana: Machine, target: str, code: int) -> None:
    before = ana.files()
    said = ana("download", target, "copy", code=code)
    assert said.hint
    assert ana.files() == before


@pytest.fixture
def fresh(ana: Machine) -> Machine:
    """A git clone with `.dorkyrc`, in which nothing was ever pulled."""
    ana.commit({"config/app": "x = 2\n"})
    ana("push")
    made = ana.another("fresh")
    made.write(".dorkyrc", ana.read(".dorkyrc"))
    return made


@pytest.mark.parametrize(
    "target", ["config/app", "HEAD:config/app", "main:config/app", "@:config/app"]
)
def test_download_in_a_fresh_clone(fresh: Machine, target: str) -> None:
    assert "There are no commits" not in fresh("download", target, "copy").err
    assert fresh.read("copy") == b"x = 2\n"
    fresh("download", "main~1:config/app", "old")
    assert fresh.read("old") == b"x = 1\n"
    fresh("pull")
    assert fresh.read("config/app") == b"x = 2\n"


def test_ls_of_the_remote_in_a_fresh_clone(fresh: Machine) -> None:
    fresh("ls", code=3)
    assert fresh("ls", "--remote").out == ".env\nconfig/app\n"
    assert fresh("ls", "--remote", "config").out == "config/app\n"
    assert (
        fresh("ls", "--remote", "main~1", "config", "-l").out == "100600            6 config/app\n"
    )
    assert [each["path"] for each in fresh("ls", "--remote", "--json").json] == [
        ".env",
        "config/app",
    ]
    assert fresh("ls", "--remote", "nothing", code=4).hint
    for words in (["ls"], ["log"], ["show", "main"], ["cat", "HEAD:.env"]):
        assert fresh(*words, code=4).hint == "dorky pull"
    fresh("pull")
    assert fresh("ls").out == ".env\nconfig/app\n"


def test_the_remote_s_files_where_the_clone_is_behind(ana: Machine, ben: Machine) -> None:
    ana.commit({"new": "1", ".env": "KEY=2\n"})
    ana("push")
    ana.commit({"unpushed": "1"})
    assert ben("ls").out == ".env\nconfig/app\n"
    assert ben("ls", "--remote").out == ".env\nconfig/app\nnew\n"
    assert "unpushed" not in ana("ls", "--remote", "HEAD").out
    ben("download", ".env", "newest")
    ben("download", "HEAD:.env", "own")
    assert (ben.read("newest"), ben.read("own")) == (b"KEY=2\n", b"KEY=1\n")


def test_the_files_of_an_empty_or_a_missing_remote(tmp_path: Path) -> None:
    alone = Machine(tmp_path / "alone", {})
    alone("init")
    alone.commit({"a": "1"})
    alone("download", "a", "copy")
    assert alone.read("copy") == b"1"
    assert alone("ls", "--remote", code=3).hint
    first = Machine(tmp_path / "first", {})
    first("init", tmp_path / "vault")
    for command in (("ls", "--remote"), ("download", "a")):
        assert "There are no commits yet" in first(*command, code=4).error


def test_download_into_a_directory_that_is_not_there(ana: Machine) -> None:
    ana("download", "HEAD:.env", "no/such/place", code=8)
    assert not (ana.project / "no").exists()


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


def test_an_error_is_one_class_for_the_library(
    ana: Machine, file_url: Remote, tmp_path: Path
) -> None:
    with ana.here(), pytest.raises(errors.RepositoryExists) as caught:
        Repository.init(tmp_path / "again", file_url.url)
    assert caught.value.code == "repository-exists"
    with ana.here(), pytest.raises(errors.NoRepositoryAtURL):
        Repository.clone(str(tmp_path / "nowhere"), tmp_path / "clone")
    assert not (tmp_path / "clone").exists()


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


# --- files that are missing, and pulls of a part ---------------------------------------------


@pytest.mark.parametrize("command", ["pull", "sync"])
def test_a_pull_names_what_is_missing(ana: Machine, ben: Machine, command: str) -> None:
    (ben.project / ".env").unlink()
    assert "  D .env\n" in ben(command).out
    assert "dorky restore FILE" in ben(command).out
    ana.commit({"config/app": "x = 2\n"})
    ana("push")
    said = ben(command, "--json").json
    assert (said["pulled"] if command == "sync" else said)["missing"] == [".env"]
    ben("restore", ".env")
    assert ben("pull", "--json").json["missing"] == []


def on_disk(machine: Machine) -> set[str]:
    return {path for path in machine.files() if path not in {".dorkyrc", ".gitignore"}}


def test_a_first_pull_of_a_part_is_remembered(ana: Machine) -> None:
    fresh = ana.another("fresh")
    fresh.write(".dorkyrc", (ana.project / ".dorkyrc").read_bytes())
    fresh("pull", "config")
    assert on_disk(fresh) == {"config/app"}
    ana.commit({"config/new": "1\n", "other": "1\n", ".env": "KEY=2\n"})
    ana("push")
    fresh("pull")
    assert on_disk(fresh) == {"config/app", "config/new"}
    ana.commit({"config/app": "x = 2\n", "third": "1\n"})
    ana("push")
    fresh("sync")
    assert on_disk(fresh) == {"config/app", "config/new"}
    status = fresh("status")
    assert "3 files not pulled (dorky pull --all)" in status.out
    assert "Pulls keep to config (dorky pull --all ends that)" in status.out
    assert fresh("status", "--json").json["partial"] == ["config"]
    assert fresh("pull", "--json").json["missing"] == []

    fresh("pull", ".env")
    assert on_disk(fresh) == {"config/app", "config/new", ".env"}
    assert fresh("status", "--json").json["partial"] == [".env", "config"]
    ana("rm", "config", "-f")
    ana("commit", "-m", "gone")
    ana("push")
    fresh("pull")  # what was chosen need not exist any more
    assert on_disk(fresh) == {".env"}

    assert "not both" in fresh("pull", ".env", "--all", code=2).error
    fresh("pull", "--all")
    assert on_disk(fresh) == {".env", "other", "third"}
    assert fresh("status", "--json").json["partial"] == []
    ana.commit({"fourth": "1\n"})
    ana("push")
    fresh("pull")
    assert "fourth" in on_disk(fresh)


def test_pulling_one_file_into_a_full_clone_is_not_remembered(ana: Machine, ben: Machine) -> None:
    ana.commit({"new": "1\n", ".env": "KEY=2\n"})
    ana("push")
    ben("pull", ".env")
    assert on_disk(ben) == {".env", "config/app"}
    ben("pull")
    assert on_disk(ben) == {".env", "config/app", "new"}


def test_a_git_checkout_without_git(ana: Machine, tmp_path: Path) -> None:
    """A small container has the checkout, and no program git."""
    job = ana.another("job")
    subprocess.run(["git", "init", "-q", job.project], check=True, timeout=60)
    job.write(".dorkyrc", ana.read(".dorkyrc"))
    empty = tmp_path / "bin"
    empty.mkdir()
    job.env["PATH"] = str(empty)
    said = job("pull")
    assert job.read(".env") == b"KEY=1\n"
    assert said.err.count("git can't be run") == 1
    assert b"/.env\n" in job.read(".gitignore")
    assert "git can't be run" not in job("pull").err
    assert job("get", ".env", "KEY").out == "1\n"
    ana.commit({".env": "KEY=2\n"})
    ana("push")
    job("sync")
    assert job.read(".env") == b"KEY=2\n"


# --- copies of the bucket, as docs/guides/backup.md and moving.md make them --------------------


def copied(old: Path, new: Path) -> None:
    """What `rclone copy` without the root, and then of the root, leaves."""
    ignored = shutil.ignore_patterns("root", "probe")
    shutil.copytree(old, new, dirs_exist_ok=True, ignore=ignored)
    shutil.copyfile(old / "root", new / "root")


def test_a_repository_moves(ana: Machine, ben: Machine, tmp_path: Path, file_url: Remote) -> None:
    old, new = Path(file_url.url), tmp_path / "new"
    copied(old, new)
    ana("remote", "set-url", "origin", new)
    assert ana("pull").out == "Up to date.\n"
    ana("fsck", "--remote", "--read-data")
    (old / "root").rename(old / "root.moved")
    assert "is gone" in ben("pull", code=4).error
    ben.write(".dorkyrc", ana.read(".dorkyrc"))
    assert "has another URL" in ben("pull").err
    ben.commit({".env": "KEY=ben\n"})
    ben("push")
    ana("pull")
    assert ana.read(".env") == b"KEY=ben\n"


def test_an_older_copy_is_brought_back(ana: Machine, tmp_path: Path, file_url: Remote) -> None:
    place, backup = Path(file_url.url), tmp_path / "backup"
    copied(place, backup)
    ana.commit({".env": "KEY=2\n"})
    ana("push")
    restored = ana.another("restored")
    restored("clone", backup, ".")
    assert restored.read(".env") == b"KEY=1\n"
    shutil.rmtree(place)
    copied(backup, place)
    ana("pull", code=7)
    ana("pull", "--accept-rewind")
    ana("push")
    fresh = ana.another("fresh")
    fresh("clone", file_url.url, ".")
    assert fresh.read(".env") == b"KEY=2\n"
    fresh("fsck", "--remote", "--read-data")


# --- many files -----------------------------------------------------------------------------


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads all rows of the index at once: a million take 600 MiB."""
    read = Index.rows

    def rows(index: Index, paths: Iterable[str] | None = None) -> dict[str, Row]:
        assert paths is not None
        return read(index, paths)

    monkeypatch.setattr(Index, "rows", rows)


@pytest.mark.usefixtures("few_rows")
def test_a_pull_of_a_change_reads_only_the_rows_around_it(ana: Machine, ben: Machine) -> None:
    theirs(ana)
    ben.write("staged", "ben\n")
    ben("stage", "staged")
    ben("pull")
    assert ben.read(".env") == b"KEY=ana\n"
    assert ben.read("new") == b"ana\n"
    assert not (ben.project / "config").exists()
    said = ben("status", "--json").json
    assert said["staged"] == [{"path": "staged", "what": "added"}]
    assert said["unstaged"] == []


@pytest.mark.parametrize(
    ("mine", "others"), [("new/mine", "new"), ("new", "new/other"), ("new/a/b", "new")]
)
def test_a_staged_file_that_is_gone_is_in_the_way_of_a_pulled_one(
    ana: Machine, ben: Machine, mine: str, others: str
) -> None:
    """The index can't hold a file and what would be below it."""
    ana.commit({others: "ana\n"})
    ana("push")
    staged = ben.write(mine, "ben\n")
    ben("stage", mine)
    staged.unlink()
    for above in staged.relative_to(ben.project).parents[:-1]:
        (ben.project / above).rmdir()
    assert ben("pull", code=5).error.startswith("Local changes")
    assert not (ben.project / others).exists()
    ben("pull", "--force")
    assert ben.read(others) == b"ana\n"
    with ben.repo() as repo:
        assert mine not in repo.index.rows()
        backup = repo.cat("backup/1", mine)
        assert b"".join(backup) == b"ben\n"


@pytest.mark.usefixtures("few_rows")
def test_a_save_of_a_change_keeps_no_row_of_other_files(ana: Machine, ben: Machine) -> None:
    (ana.project / "config/app").unlink()
    ana.write(".env", "KEY=3\n")
    ana("save", "-m", "three")
    ben("pull")
    assert ben.read(".env") == b"KEY=3\n"
    assert not (ben.project / "config/app").exists()


@pytest.mark.usefixtures("few_rows")
def test_a_save_of_paths_keeps_no_row_of_other_files(ana: Machine, ben: Machine) -> None:
    ana.write("config/app", "x = 2\n")
    for path in (".env", "other"):
        ana.write(path, "staged\n")
        ana("stage", path)
    with ana.repo() as repo:
        repo.index.set_commit(None)  # as if more had been staged than is noted
    ana("save", "config", "-m", "two")
    ben("pull")
    assert ben.read("config/app") == b"x = 2\n"
    assert ben.read(".env") == b"KEY=1\n"
    assert not (ben.project / "other").exists()
    staged = ana("status", "--json").json["staged"]
    assert staged == [{"path": ".env", "what": "modified"}, {"path": "other", "what": "added"}]
    saved = ana("show", "--json").json["changes"]
    assert saved == [{"path": "config/app", "what": "modified"}]
