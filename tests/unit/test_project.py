"""A project: where it is, whose it is, and what a machine has to have to open it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from faults import Faults
from machines import Machine, started
from servers import Remote
from stores import NEWER

from dorky import errors, files
from dorky.commands import upstream
from dorky.keys import age
from dorky.project import Project
from dorky.repo import Repository


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    return started(tmp_path / "ana", file_url, {".env": "KEY=1\n"})


def wall(directory: Path) -> dict[str, int]:
    """The mode of everything below a directory, and its own."""
    found = {".": stat.S_IMODE(directory.stat().st_mode)}
    for path in directory.rglob("*"):
        found[path.relative_to(directory).as_posix()] = stat.S_IMODE(path.stat().st_mode)
    return found


# --- where it is ----------------------------------------------------------------------------


def test_a_project_is_found_from_below(ana: Machine) -> None:
    below = ana.project / "a" / "b"
    below.mkdir(parents=True)
    assert Project.root_above(below) == ana.project
    assert Project.root_above(ana.project) == ana.project
    link = ana.base / "link"
    link.symlink_to(below)
    assert Project.root_above(link) == ana.project
    assert Project.root_above(ana.home) is None


def test_a_home_with_an_identity_is_no_project(ana: Machine) -> None:
    assert ana.identity.exists()
    ana.project = ana.home / "elsewhere"
    ana.project.mkdir()
    said = ana("status", code=3)
    assert "Not a dorky repository" in said.error
    assert "dorky init" in said.hint


def test_a_project_without_dorkyrc_is_one_by_its_state(ana: Machine) -> None:
    (ana.project / ".dorkyrc").unlink()
    with ana.here():
        assert Project.root_above(ana.project) == ana.project
    assert ana("cat", "HEAD:.env").raw == b"KEY=1\n"


@pytest.mark.parametrize(
    "command",
    [
        *(["status"], ["stage", "x"], ["commit", "-m", "x"], ["log"], ["show"], ["ls"]),
        *(["cat", "HEAD:x"], ["restore", "x"], ["checkout", "main"], ["push"], ["fetch"]),
        *(["pull"], ["download", "HEAD:x"], ["destroy", "--yes"], ["rm", "x"], ["unstage", "x"]),
        *(["remote", "list"], ["remote", "add", "x", "s3://acme/x"]),
    ],
    ids=" ".join,
)
def test_no_project(tmp_path: Path, command: list[str]) -> None:
    nobody = Machine(tmp_path / "nobody", {})
    said = nobody(*command, code=3)
    assert "Not a dorky repository" in said.error
    assert said.hint == "dorky init, or dorky clone URL"
    assert list(nobody.project.iterdir()) == []


@pytest.mark.parametrize("command", ["status", "stage .env", "commit -m x", "log", "push", "ls"])
def test_a_fresh_git_clone_says_how_it_is_set_up(ana: Machine, command: str) -> None:
    fresh = ana.another("fresh")
    fresh.write(".dorkyrc", ana.read(".dorkyrc"))
    fresh.write(".env", "KEY=mine\n")
    said = fresh(*command.split(), code=3)
    assert "has not been set up" in said.error
    assert said.hint == "dorky pull"
    assert not fresh.own.exists()


# --- its state ------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_what_dorky_keeps_is_for_its_owner_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        ana = Machine(tmp_path / "ana", {})
        ana.project.chmod(0o755)  # else the project is refused
        ana("init", tmp_path / "vault")
        ana.commit({".env": "KEY=1\n", "large": os.urandom(1 << 20)})
        ana("push")
        ben = ana.another("ben")
        ben.project.rmdir()  # made by the command itself
        with ana.here(), mock.patch.dict(os.environ, {"HOME": str(ben.home)}):
            Repository.clone(str(tmp_path / "vault"), ben.project)[0].close()
        with ben.repo() as repo:
            # While it is open, too: the database has two files more then.
            assert list(repo.log())
            open_modes = wall(ben.state)
    finally:
        os.umask(before)
    for modes in (wall(ana.state), wall(ben.state), open_modes):
        for name, mode in modes.items():
            assert mode == (0o700 if name in {".", "packs", "tmp"} else 0o600), name
    assert "dorky.db" in modes
    home = wall(ana.identity.parent)
    assert home.keys() > {".", "identity", "state.key", "known"}
    for name, mode in home.items():
        assert mode == (0o700 if name in {".", "known"} else 0o600), name


def test_setting_up_twice_changes_nothing(ana: Machine) -> None:
    with ana.repo() as repo:
        (repo.base / ".gitignore").write_text("*\n# mine\n")
        repo.set_up()
        assert repo.database.ref("main")
    assert (ana.own / ".gitignore").read_text() == "*\n# mine\n"


def test_tearing_down_spares_what_is_not_its_own(ana: Machine) -> None:
    (ana.own / "identity").write_text("mine")
    with ana.repo() as repo:
        assert repo.database.ref("main")
        repo.tear_down()
    assert {path.name for path in ana.own.iterdir()} == {"identity", ".gitignore"}
    (ana.own / "identity").unlink()
    with ana.repo() as repo:
        repo.set_up()
        repo.tear_down()
    assert not ana.own.exists()


def test_closing_twice(ana: Machine) -> None:
    with ana.here():
        repo = Repository(ana.project)
        assert repo.database.ref("main")
        repo.close()
        repo.close()
        assert repo.database.ref("main")
        repo.close()


def test_commands_that_write_wait_for_each_other(
    ana: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(files.locked.__wrapped__.__kwdefaults__, "timeout", 0.05)  # type: ignore[attr-defined]
    ana.write(".env", "KEY=2\n")
    with ana.repo() as repo, repo.locked():
        for command in ("stage .env", "commit -m x", "push", "pull", "fetch", "destroy --yes"):
            said = ana(*command.split(), code=5)
            assert f"process {os.getpid()}" in said.error
            assert "wait" in said.hint
        # Those that only look don't.
        ana("status")
        ana("log")
        ana("cat", "HEAD:.env")
    ana("stage", ".env")


class Meanwhile:
    """A progress that does something at the first step of it."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act: Callable[[], object] | None = act

    def start(self, label: str, total: int, unit: str) -> None:
        pass

    def advance(self, amount: int) -> None:
        act, self.act = self.act, None
        if act:
            act()

    def finish(self) -> None:
        pass


def test_a_command_that_begins_while_another_reads_does_not_disturb_it(
    ana: Machine, file_url: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cat` fetches old chunks; what it has of them so far is not cleared away under it."""
    monkeypatch.setitem(files.locked.__wrapped__.__kwdefaults__, "timeout", 0.05)  # type: ignore[attr-defined]
    old = os.urandom(300_000)
    ana.commit({"data": old})
    ana.commit({"data": "new"})
    ana("push")
    ben = ana.another("ben")
    ben("clone", file_url.url, ".")
    ben.write("x", "1")

    def stage() -> None:
        with ben.repo() as other:
            try:
                other.stage(["x"])
            except errors.Locked:
                return  # that may be the answer, too

    with ben.here(), Repository(ben.project, progress=Meanwhile(stage)) as repo:
        assert b"".join(repo.cat("HEAD~1", "data")) == old


def test_a_database_of_a_later_layout(ana: Machine) -> None:
    with ana.repo() as repo:
        repo.database.connection.executescript(NEWER)
    said = ana("status", code=3)
    assert "newer dorky" in said.error
    assert "newer dorky" in said.hint


def test_a_damaged_database(ana: Machine) -> None:
    (ana.state / "dorky.db").write_bytes(b"not a database, but long enough to look at " * 100)
    for name in ("dorky.db-wal", "dorky.db-shm"):
        (ana.state / name).unlink(missing_ok=True)
    before = ana.files()
    said = ana("status", code=7)
    assert "is damaged" in said.error
    assert said.hint == "dorky fsck --repair"
    ana("fsck", "--rebuild")
    ana("status")
    ana("pull")
    assert ana.files() == before


# --- who may open it ------------------------------------------------------------------------


def test_an_identity_by_every_way(ana: Machine, file_url: Remote) -> None:
    text = ana.identity.read_text()
    secret = next(line for line in text.splitlines() if line.startswith("AGE-SECRET-KEY-1"))
    by_text = ana.another("text", identity=False)
    by_text.env["DORKY_IDENTITY"] = secret
    by_file = ana.another("file", identity=False)
    path = by_file.base / "key.txt"
    path.write_text(text)
    path.chmod(0o600)
    by_file.env["DORKY_IDENTITY_FILE"] = str(path)
    by_config = ana.another("config", identity=False)
    by_config("config", "set", "--user", "identity", path)
    for machine in (by_text, by_file, by_config):
        machine("clone", file_url.url, ".")
        assert machine.files().items() >= ana.files().items()
        machine.commit({machine.base.name: "1"})
        machine("pull")
        machine("push")
        assert secret not in machine.read(".dorkyrc").decode()


def missing(path: Path) -> None:
    path.unlink()


def malformed(path: Path) -> None:
    path.write_text("AGE-SECRET-KEY-1NONSENSE\n")


def empty(path: Path) -> None:
    path.write_text("# nothing\n")


def readable(path: Path) -> None:
    path.chmod(0o644)


def group_readable(path: Path) -> None:
    path.chmod(0o640)


def wrong(path: Path) -> None:
    path.write_text(age.generate().secret)


BROKEN = {
    missing: "No age identity",
    malformed: "holds no age identity",
    empty: "holds no age identity",
    readable: "can be read by other users",
    group_readable: "can be read by other users",
    wrong: "not encrypted for you",
}


@pytest.mark.parametrize(("breaks", "word"), BROKEN.items(), ids=[each.__name__ for each in BROKEN])
def test_an_identity_that_does_not_open_it(
    ana: Machine, file_url: Remote, breaks: Callable[[Path], None], word: str
) -> None:
    ana.commit({".env": "KEY=2\n", "more": "1"})
    ana("push")
    ben = ana.another("ben")
    breaks(ben.identity)
    said = ben("clone", file_url.url, "here", code=6)
    assert word in said.error
    assert said.hint
    assert list(ben.project.iterdir()) == []
    ben.write(".dorkyrc", ana.read(".dorkyrc"))
    ben("pull", code=6)
    assert ben.files() == {}
    # And where everything was well before:
    ana.commit({".env": "KEY=3\n"})
    secret = ana.identity.read_text()
    breaks(ana.identity)
    ana.write(".env", "KEY=4\n")
    before = ana.files()
    for command in (("push",), ("stage", ".env"), ("cat", "HEAD:.env")):
        said = ana(*command, code=6)
        assert word.replace("No age identity", "Your key is not in") in said.error
        assert secret.splitlines()[-1] not in said.err
    assert ana.files() == before
    ana.identity.unlink(missing_ok=True)
    ana.identity.write_text(secret)
    ana.identity.chmod(0o600)
    ana("push")
    assert ana.files() == before


def test_a_malformed_identity_in_the_environment_is_not_shown(ana: Machine) -> None:
    ana.env["DORKY_IDENTITY"] = "AGE-SECRET-KEY-1CANARY"
    ana.write("x", "1")
    said = ana("stage", "x", code=6)
    assert "DORKY_IDENTITY" in said.error
    assert "CANARY" not in said.err


def test_no_identity_is_asked_for_where_there_is_nothing_to_open(ana: Machine) -> None:
    ana.identity.unlink()
    ana("remote", "list")
    assert ana("fetch").out.startswith("Nothing new")


# --- .dorkyrc -------------------------------------------------------------------------------

RC = {
    "not TOML": ("version = = 1", 3, "malformed"),
    "not UTF-8": (b"\xff\xfe", 3, "malformed"),
    "unknown setting": ("remote = 's3://acme'", 3, "no setting remote"),
    "wrong type": ("version = 'one'", 3, "malformed"),
    "a credential": ("[user]\nname = 'Ana'", 3, "may only stand in"),
    "newer": ("version = 3", 3, "newer dorky"),
}


@pytest.mark.parametrize(("text", "code", "word"), RC.values(), ids=RC)
def test_a_dorkyrc_that_can_t_be_read(
    ana: Machine, text: str | bytes, code: int, word: str
) -> None:
    before = ana.read(".dorkyrc")
    ana.write(".dorkyrc", text)
    for command in ("status", "push", "pull", "fetch", "remote list"):
        said = ana(*command.split(), code=code)
        assert word in said.error
        assert said.hint
    ana.write(".dorkyrc", before)
    ana("push")


def test_a_dorkyrc_of_another_repository(ana: Machine, tmp_path: Path) -> None:
    other = ana.another("other")
    other("init", tmp_path / "elsewhere")
    mixed = other.read(".dorkyrc").decode().replace(str(tmp_path / "elsewhere"), url_of(ana))
    fresh = ana.another("fresh")
    fresh.write(".dorkyrc", mixed)
    said = fresh("pull", code=7)
    assert "another repository" in said.error
    assert "check the URL" in said.hint
    assert fresh.files() == {}


def test_a_dorkyrc_with_another_fingerprint(ana: Machine) -> None:
    text = ana.read(".dorkyrc").decode()
    line = next(line for line in text.splitlines() if line.startswith("fingerprint"))
    fresh = ana.another("fresh")
    fresh.write(".dorkyrc", text.replace(line, f'fingerprint = "{"0" * 64}"'))
    said = fresh("pull", code=7)
    # Both are named, shortened.
    own = line.partition('"')[2][:16]
    assert f"is encrypted with another key ({own}) than the one expected ({'0' * 16})" in said.error
    assert "ask the person" in said.hint
    assert fresh.files() == {}


def test_a_dorkyrc_without_a_remote(ana: Machine) -> None:
    fresh = ana.another("fresh")
    fresh.write(".dorkyrc", "version = 2\n")
    said = fresh("pull", code=3)
    assert said.hint.startswith("dorky remote add origin")
    assert not fresh.own.exists()


def url_of(machine: Machine) -> str:
    with machine.repo() as repo:
        return repo.config.url("origin")


# --- its remotes ----------------------------------------------------------------------------


@pytest.mark.usefixtures("as_shipped")
def test_a_place_is_probed_once(
    ana: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults.installed(monkeypatch)
    ben = ana.another("ben")
    ben("clone", url_of(ana), ".")
    probed = [key for _, key in faults.calls if key.startswith("probe/")]
    assert probed == []  # who may only read can clone
    for _ in range(2):
        ben.commit({"a": os.urandom(10)})
        ben("push")
    probed = [key for verb, key in faults.calls if key.startswith("probe/")]
    assert len(probed) == 35
    faults.calls.clear()
    ben("remote", "set-url", "origin", tmp_path / "elsewhere")
    ben("push")
    assert [key for _, key in faults.calls if key.startswith("probe/")]


def test_one_writer_is_not_probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults.installed(monkeypatch)
    ana = Machine(tmp_path / "ana", {})
    ana("init", tmp_path / "vault", "--single-writer")
    ana.commit({"a": "1"})
    ana("push")
    assert not [key for _, key in faults.calls if key.startswith("probe/")]
    assert "single_writer = true" in ana.read(".dorkyrc").decode()


def test_a_repository_may_be_used_from_several_threads(ana: Machine) -> None:
    with ana.here(), ana.repo() as repo:
        repo.status()

        def work(n: int) -> str:
            (ana.project / f"{n}.env").write_text(f"KEY={n}\n")
            repo.stage([ana.project / f"{n}.env"])
            try:
                return repo.commit(f"{n}").id
            except errors.NothingToDo:
                return ""  # another thread's commit took it along

        with ThreadPoolExecutor(max_workers=8) as pool:
            made = {commit for commit in pool.map(work, range(24)) if commit}
        assert made <= {entry.id for entry in repo.log()}
        assert repo.status().clean
        assert len(repo.ls()) == 25


def test_the_second_of_two_first_pulls_leaves_the_first_alone(
    ana: Machine, file_url: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(files.locked.__wrapped__.__kwdefaults__, "timeout", 0.05)  # type: ignore[attr-defined]
    ben = ana.another("ben")
    ben.write(".dorkyrc", ana.read(".dorkyrc"))
    with ben.here(), Repository(ben.project) as first:
        fetch = upstream.remote_fetch.fetch

        def slowly(*arguments: Any) -> None:
            with Repository(ben.project) as second, pytest.raises(errors.Locked):
                second.pull()
            fetch(*arguments)

        monkeypatch.setattr(upstream.remote_fetch, "fetch", slowly)
        assert first.pull().new
    assert ben.read(".env") == ana.read(".env")


def test_another_endpoint_is_another_place(ana: Machine) -> None:
    with ana.repo() as repo:
        remote = repo.remote()
        assert remote.version
        repo.config.set("remotes.origin.endpoint", "http://127.0.0.1:9", scope="project")
        assert repo.remote().version is None
