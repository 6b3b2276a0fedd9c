"""State that was copied, restored, or made by another key: refused until `dorky trust`."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from machines import Machine, flip
from servers import Remote

from dorky import errors, files
from dorky.cli import hints
from dorky.config import Config
from dorky.store import state
from dorky.store.database import Database

NOWHERE = Path("/proc/nowhere")
"""Where even root can make nothing."""
TOKEN = re.compile(r"[0-9a-f]{64}")


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    made = Machine(tmp_path / "ana", {})
    made("init", file_url.url, "--name", "ana")
    made.commit({".env": "KEY=1\n"}, "one")
    made("push")
    made.commit({".env": "KEY=2\n"}, "two")
    return made


@pytest.fixture
def restored(ana: Machine) -> Machine:
    """Another computer with the same identity, that the project was copied to."""
    made = ana.another("restored")
    shutil.copytree(ana.project, made.project, dirs_exist_ok=True, symlinks=True)
    return made


def foreign(machine: Machine) -> Path:
    """The one state in `.dorky/`, whosever it is."""
    (found,) = [path for path in machine.own.iterdir() if TOKEN.fullmatch(path.name)]
    return found


COMMANDS = (
    *(["status"], ["pull"], ["sync"], ["log"], ["commit", "-m", "x"], ["fsck"], ["init"]),
    *(["fsck", "--rebuild"], ["gc"], ["undo"], ["destroy", "--yes"]),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_copied_state_is_refused(restored: Machine, command: list[str]) -> None:
    before = sorted(restored.own.rglob("*"))
    said = restored(*command, code=3)
    assert "was not made with your key" in said.error
    assert said.hint.startswith("dorky trust shows it and asks; if it is not yours: rm -r ")
    assert sorted(restored.own.rglob("*")) == before


def test_the_other_way_out_is_to_delete_it(restored: Machine) -> None:
    hint = restored("pull", code=3).hint
    subprocess.run(hint.rpartition(": ")[2], shell=True, check=True, timeout=60)
    (restored.project / ".env").unlink()
    restored("pull")
    assert restored("log", "--oneline").out.count("\n") == 1


def test_trust_takes_it_over(ana: Machine, restored: Machine) -> None:
    assert restored("trust", "--json", code=5).error == "Not confirmed: nothing was taken over"
    head = ana("log", "--json").json[0]["id"]
    said = restored("trust", code=5)
    assert head in said.err
    assert re.search(r"\d packs, ", said.err)
    done = restored("trust", "--yes", "--json").json
    assert done["done"]
    assert (done["head"], done["url"]) == (head, ana("push", "--json").json["url"])
    assert restored("log", "--oneline").out.count("\n") == 2
    assert restored("status", "--json").json["staged"] == []
    restored("fsck")
    assert foreign(restored).name != foreign(ana).name
    assert "yours already" in restored("trust", "--yes", code=1).error


def test_a_lost_key_is_the_same(ana: Machine) -> None:
    (ana.home / ".dorky" / "state.key").unlink()
    ana("status", code=3)
    ana("trust", "--yes")
    assert ana("log", "--oneline").out.count("\n") == 2


def a_link(found: Path) -> None:
    (found / "lock").unlink()
    (found / "lock").symlink_to("/etc/hostname")


def a_hard_link(found: Path) -> None:
    os.link(found / "dorky.db", found / "dorky.db.damaged-1")


def a_link_in_packs(found: Path) -> None:
    (found / "packs" / "x").symlink_to("/etc")


def a_pipe(found: Path) -> None:
    os.mkfifo(found / "packs" / "x")


def a_stranger(found: Path) -> None:
    (found / "notes").write_text("x")


def a_directory(found: Path) -> None:
    (found / "packs" / "more").mkdir()


def a_trigger(found: Path) -> None:
    with closing(sqlite3.connect(found / "dorky.db")) as connection:
        connection.execute("CREATE TRIGGER t AFTER INSERT ON meta BEGIN SELECT 1; END")


def a_flipped_pack(found: Path) -> None:
    flip(next((found / "packs").iterdir()), 100)


def no_database(found: Path) -> None:
    (found / "dorky.db").unlink()


def no_keys(found: Path) -> None:
    with closing(sqlite3.connect(found / "dorky.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM meta")


def garbage(found: Path) -> None:
    (found / "dorky.db").write_bytes(b"no database" * 1000)


@pytest.mark.parametrize(
    "harm",
    [
        *(a_link, a_hard_link, a_link_in_packs, a_pipe, a_stranger, a_directory, a_trigger),
        *(a_flipped_pack, no_database, no_keys, garbage),
    ],
)
def test_what_is_not_sound_is_not_taken(restored: Machine, harm: Callable[[Path], None]) -> None:
    harm(foreign(restored))
    name = foreign(restored).name
    said = restored("trust", "--yes", code=3)
    assert "can't be taken over" in said.error
    assert foreign(restored).name == name


def test_what_git_tracks_came_with_a_branch(restored: Machine) -> None:
    for words in (["init", "-q"], ["add", "-f", ".dorky"]):
        subprocess.run(["git", *words], cwd=restored.project, check=True, timeout=60)
    assert "git tracks it" in restored("trust", "--yes", code=3).error


def test_the_state_of_another_repository_is_not_taken(tmp_path: Path, restored: Machine) -> None:
    other = Machine(tmp_path / "other", {})
    other("init", tmp_path / "elsewhere")
    (restored.project / ".dorkyrc").write_bytes((other.project / ".dorkyrc").read_bytes())
    assert "another repository" in restored("trust", "--yes", code=7).error


def test_of_several_one_is_named(restored: Machine) -> None:
    first = foreign(restored)
    shutil.copytree(first, restored.own / ("0" * 64))
    said = restored("trust", "--yes", code=2)
    assert said.hint == "dorky trust --state 00000000"
    restored("trust", "--state", "f00d", code=4)
    restored("trust", "--state", first.name[:8], "--yes")
    assert restored("log", "--oneline").out.count("\n") == 2
    assert (restored.own / ("0" * 64)).is_dir()


def test_a_state_of_the_old_layout_says_what_to_do(tmp_path: Path, ana: Machine) -> None:
    old = ana.another("old")
    shutil.copy(ana.project / ".dorkyrc", old.project)
    shutil.copytree(ana.state, old.own)
    for command in ("status", "pull", "trust"):
        said = old(command, code=3)
        assert "the layout from before the first release" in said.error
    (old.own / "dorky.db").unlink()
    old("pull")
    old("status")


def test_two_of_ones_own_are_not_mixed_up(ana: Machine) -> None:
    with ana.here():
        key = state.make_key(Config(None))
    shutil.copytree(ana.state, ana.own / state._name(key))
    assert "it holds 2 states of yours" in ana("status", code=3).error


# --- where there is no home, or another user ------------------------------------------------


def test_one_identity_opens_the_state_on_every_runner(ana: Machine, tmp_path: Path) -> None:
    secret = ana.identity.read_text()
    first = Machine(tmp_path / "first", {"DORKY_IDENTITY": secret})
    (first.project / ".dorkyrc").write_bytes((ana.project / ".dorkyrc").read_bytes())
    first("pull")
    assert not (first.home / ".dorky" / "state.key").exists()
    second = Machine(tmp_path / "second", {"DORKY_IDENTITY": secret.strip()})
    shutil.copytree(first.project, second.project, dirs_exist_ok=True)
    second("status")
    other = Machine(tmp_path / "other", {})
    shutil.copytree(first.project, other.project, dirs_exist_ok=True)
    other("status", code=3)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place to make nothing in")
def test_without_a_home_an_identity_is_enough(ana: Machine, tmp_path: Path) -> None:
    nobody = Machine(tmp_path / "nobody", {})
    (nobody.project / ".dorkyrc").write_bytes((ana.project / ".dorkyrc").read_bytes())
    nobody.home = NOWHERE
    said = nobody("pull", code=3)
    assert "no place for the key" in said.error
    assert "DORKY_IDENTITY" in said.hint
    assert not nobody.own.exists()
    nobody.env["DORKY_IDENTITY"] = ana.identity.read_text()
    nobody("pull")
    assert nobody.read(".env") == b"KEY=1\n"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place to make nothing in")
def test_a_download_needs_no_home(tmp_path: Path) -> None:
    plain = Machine(tmp_path / "plain", {})
    plain("init", tmp_path / "vault", "--plain")
    plain.commit({".env": "KEY=1\n"}, "one")
    plain("push")
    nobody = Machine(tmp_path / "nobody", {})
    nobody.home = NOWHERE
    nobody("download", "main:.env", "out", "--remote", tmp_path / "vault", "--plain")
    assert nobody.read("out") == b"KEY=1\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["own", "state"])
def test_the_state_of_another_user_is_refused(ana: Machine, what: str) -> None:
    os.chown(getattr(ana, what), 12345, 12345)
    for command in ("status", "pull", "trust"):
        said = ana(command, code=3)
        assert ("user" in said.error and "12345" in said.error) or "another user" in said.error
    if what == "state":
        assert said.hint == f"sudo chown -R 0 {ana.own}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_under_sudo_the_callers_state_is_used(ana: Machine) -> None:
    for path in (ana.own, *ana.own.rglob("*"), *(ana.home / ".dorky").rglob("*")):
        os.chown(path, 12345, 12345)
    ana.env["SUDO_UID"] = "12345"
    ana("status")
    ana.env["SUDO_UID"] = "54321"
    ana("status", code=3)


# --- where a project can lie ----------------------------------------------------------------


def test_a_project_behind_a_link(ana: Machine, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(ana.project)
    there = Machine(tmp_path / "there", {})
    there.home, there.project = ana.home, tmp_path / "link"
    there("status")
    there.commit({"more": "x"}, "three")
    assert ana("log", "--oneline").out.count("\n") == 3


def test_a_project_that_was_moved(ana: Machine, tmp_path: Path) -> None:
    ana.project = ana.project.rename(tmp_path / "moved")
    assert ana("log", "--oneline").out.count("\n") == 2


def test_worktrees_and_submodules_have_states_of_their_own(ana: Machine, tmp_path: Path) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.test"]

    def git(*words: str) -> None:
        subprocess.run(["git", *who, *words], cwd=ana.project, check=True, timeout=60)

    git("init", "-q")
    (ana.project / ".gitignore").write_text(".env\n")
    git("add", "--all")
    git("commit", "-qm", "start")
    git("worktree", "add", "-q", str(tmp_path / "second"), "-b", "second")
    allowed = ["-c", "protocol.file.allow=always"]
    git(*allowed, "submodule", "--quiet", "add", str(ana.project / ".git"), "sub")
    states = {foreign(ana).name}
    for directory in (tmp_path / "second", ana.project / "sub"):
        there = Machine(tmp_path / f"{directory.name} machine", {})
        there.home, there.project = ana.home, directory
        there("pull")
        there("status")
        states.add(foreign(there).name)
    assert len(states) == 3
    assert ana("log", "--oneline").out.count("\n") == 2


def test_many_first_pulls_at_once_make_one_state(ana: Machine) -> None:
    fresh = ana.another("fresh")
    (fresh.project / ".dorkyrc").write_bytes((ana.project / ".dorkyrc").read_bytes())
    with fresh.here():
        pulls = [
            subprocess.Popen([sys.executable, "-m", "dorky", "pull", "-q"], stderr=subprocess.PIPE)
            for _ in range(4)
        ]
        said = [pull.communicate(timeout=120)[1] for pull in pulls]
    assert [pull.returncode for pull in pulls] == [0] * 4, said
    assert foreign(fresh)
    assert fresh("status", "--json").json["behind"] == 0


# --- what lies in the state -----------------------------------------------------------------


def test_the_scratch_directory_loses_files_and_links_only(ana: Machine) -> None:
    scratch = ana.state / "tmp"
    precious = ana.home / "precious"
    precious.mkdir()
    (precious / "x").touch()
    (scratch / "link").symlink_to(precious)
    (scratch / "file").touch()
    (scratch / "directory").mkdir()
    ana.commit({"more": "x"})
    assert [path.name for path in scratch.iterdir()] == ["directory"]
    assert (precious / "x").exists()
    shutil.rmtree(scratch)
    scratch.symlink_to(precious)
    assert ana.run("commit", "-am", "x").code != 0
    assert (precious / "x").exists()


@pytest.mark.parametrize("form", ["link", "hard link", "pipe"])
def test_a_lock_that_is_another_file_is_not_taken(tmp_path: Path, form: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    lock = tmp_path / "lock"
    if form == "link":
        lock.symlink_to(victim)
    elif form == "hard link":
        lock.hardlink_to(victim)
    else:
        os.mkfifo(lock)
    with pytest.raises(errors.DiskError), files.locked(lock):
        pass
    assert victim.read_text() == "precious"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON meta BEGIN SELECT 1; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE more (x)",
        "CREATE INDEX i ON refs (id)",
        "DROP TABLE refs",
        "ALTER TABLE refs ADD COLUMN more",
    ],
)
def test_tables_that_dorky_did_not_make_are_damage(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "dorky.db"
    Database(path).close()
    Database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
    with pytest.raises(errors.CorruptDatabase) as caught:
        Database(path)
    assert hints.hint(caught.value) == "dorky fsck --repair"


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("form", ["link", "hard link"])
def test_a_database_that_is_another_file_is_not_opened(
    tmp_path: Path, suffix: str, form: str
) -> None:
    path, other = tmp_path / "dorky.db", tmp_path / f"other{suffix}"
    Database(path).close()
    named = tmp_path / f"dorky.db{suffix}"
    if suffix:
        other.touch()
    else:
        path.rename(other)
    named.symlink_to(other) if form == "link" else named.hardlink_to(other)
    with pytest.raises(errors.DorkyError, match=r"regular file|hard link"):
        Database(path)


def test_a_database_that_is_just_being_made_may_have_two_names(tmp_path: Path) -> None:
    path = tmp_path / "dorky.db"
    Database(path).close()
    (tmp_path / ".tmp-dorky-0123456789abcdef").hardlink_to(path)
    Database(path).close()
    assert [each.name for each in tmp_path.iterdir()] == ["dorky.db"]


# --- the name is a secret -------------------------------------------------------------------


def test_the_name_of_the_state_is_shown_by_nothing(ana: Machine) -> None:
    token = ana.state.name
    database = ana.state / "dorky.db"
    told = [ana.run(*words, "-vv") for words in (["doctor"], ["fsck"], ["status"], ["op", "log"])]
    told += [ana.run(*words, "--json") for words in (["doctor"], ["fsck"], ["gc", "--dry-run"])]
    whole = database.read_bytes()
    database.write_bytes(b"damaged" * 1000)
    for words in (["status"], ["status", "-vv"], ["fsck"], ["fsck", "--json"], ["doctor"]):
        told.append(ana.run(*words))
    told.append(ana.run("fsck", "--rebuild"))
    told.append(ana.run("fsck", "--rebuild", "--json"))
    assert any(".dorky/…/dorky.db" in said.out + said.err for said in told)
    database.write_bytes(whole)
    (ana.state / "lock").unlink()
    (ana.state / "lock").mkdir()
    told += [ana.run("commit", "-am", "x", "-vv"), ana.run("commit", "-am", "x")]
    assert told[-1].code == 8
    for said in told:
        assert token not in said.out + said.err


def test_doctor_tells_of_state_that_is_not_believed(restored: Machine) -> None:
    checks = restored.run("doctor", "--json").json
    (check,) = [each for each in checks if each["name"] == "state"]
    assert check["verdict"] == "fail"
    assert check["remedy"].startswith("dorky trust")
