"""Setting up: init, clone and remotes, and nothing left of what failed."""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from disks import Stopped
from faults import OFFLINE, Faults, failing
from machines import Machine, bucket, files, started
from servers import Remote

from dorky import errors
from dorky.commands import upstream
from dorky.repo import Repository


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
    assert said["new_identity"] is said["encrypted"] is True
    assert re.fullmatch("[0-9a-f]{32}", said["repository"])


def test_init_plain_makes_a_key_that_signs(tmp_path: Path, file_url: Remote) -> None:
    ana = Machine(tmp_path / "ana", {})
    said = ana("init", file_url.url, "--plain")
    assert "an unencrypted repository" in said.out
    assert ana.identity.exists()
    assert "fingerprint" not in ana.read(".dorkyrc").decode()
    assert 'team = "1:' in ana.read(".dorkyrc").decode()


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


@pytest.mark.parametrize("name", ["my vault", "vault", "\u00e9"])
def test_no_spelling_of_a_remote_inside_the_project(tmp_path: Path, name: str) -> None:
    ana = Machine(tmp_path / "ana", {})
    inside = (ana.project / name).as_uri()
    assert "inside the project" in ana("init", inside, code=2).error
    assert list(ana.project.iterdir()) == []


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

    monkeypatch.setattr(upstream.remote_fetch, "fetch", fail)
    carl("clone", file_url.url, "here", code=8)
    assert [path.name for path in (carl.project / "here").iterdir()] == ["notes"]


# --- remotes --------------------------------------------------------------------------------


def test_remotes(ana: Machine, file_url: Remote) -> None:
    assert ana("remote", "list", "--json").json == {"origin": file_url.url}
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


def test_another_url_is_another_place(
    ana: Machine, ben: Machine, file_url: Remote, tmp_path: Path
) -> None:
    """It may be an older copy, which has to be said once."""
    (tmp_path / "moved").mkdir()
    shutil.copy(Path(file_url.url) / "root", tmp_path / "moved")
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


def test_an_empty_place_is_not_the_same_as_before(ana: Machine, tmp_path: Path) -> None:
    """Nothing of the old place counts, and each command says what starts the new one."""
    ana("push")
    assert "same as origin" in ana("status").out
    said = ana("remote", "set-url", "origin", tmp_path / "moved")
    assert "Nothing is known of that place yet: dorky fetch" in said.err
    assert "dorky mirror " in said.err
    found = ana("status", "--json").json
    assert (found["fetched"], found["ahead"], found["behind"]) == (False, 0, 0)
    assert ana("status").out.startswith("On main, nothing known of origin yet (dorky fetch)\n")
    for command in ("fetch", "pull", "team list", "gc --remote"):
        said = ana(*command.split(), code=4)
        assert "holds no dorky repository" in said.error
        assert said.hint == "check the URL; dorky push starts it with all that this clone has"
    assert "this push has started one" in ana("push").err
    assert "same as origin" in ana("status").out
    assert "nothing known" not in ana("remote", "set-url", "origin", tmp_path / "moved").err


def test_another_url_that_came_by_git_is_not_the_same_as_before(
    ana: Machine, file_url: Remote, tmp_path: Path
) -> None:
    ana("push")
    text = ana.read(".dorkyrc").decode()
    ana.write(".dorkyrc", text.replace(file_url.url, str(tmp_path / "moved")).encode())
    out = ana("status").out
    assert "nothing known of origin yet" in out
    assert "another URL" in out
    ana.write(".dorkyrc", text.encode())
    assert "same as origin" in ana("status").out


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
