"""What a user has seen of a remote is remembered outside of the project, for each of its URLs."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from machines import Machine, driver_of, started
from servers import Remote

from dorky import errors
from dorky.config import Config
from dorky.drivers.file import FileDriver
from dorky.remote import root as roots
from dorky.remote.known import Known, Newest


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    return started(tmp_path / "ana", file_url, {".env": "KEY=leaked\n"})


def vault_of(url: Remote) -> Path:
    return Path(url.url)


def records(machine: Machine) -> dict[str, Any]:
    """What the machine's user knows, by place."""
    (path,) = (path for path in noted(machine) if path.suffix != ".lock")
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def noted(machine: Machine) -> list[Path]:
    return sorted((machine.home / ".dorky" / "known").glob("*"))


def rewound(machine: Machine, *command: str) -> None:
    said = machine(*command, code=7)
    assert "older than what this clone has seen" in said.error
    assert "--accept-rewind" in said.hint


def moved_on(ana: Machine, url: Remote) -> bytes:
    """Push a second commit; give the root from before it."""
    old = (vault_of(url) / "root").read_bytes()
    ana.commit({".env": "KEY=changed\n"}, "second")
    ana("push")
    return old


def forget_state(machine: Machine) -> None:
    shutil.rmtree(machine.project / ".dorky")
    (machine.project / ".env").unlink()


def test_a_deleted_state_forgets_nothing(ana: Machine, file_url: Remote) -> None:
    old = moved_on(ana, file_url)
    forget_state(ana)
    (vault_of(file_url) / "root").write_bytes(old)
    for command in (["pull"], ["fetch"], ["sync"]):
        rewound(ana, *command)
    assert not (ana.project / ".env").exists()


def test_another_clone_and_a_fresh_one_know_the_same(ana: Machine, file_url: Remote) -> None:
    other = Machine(ana.base / "other", ana.env)
    other.home = ana.home
    other("clone", file_url.url, ".")
    old = moved_on(ana, file_url)
    (vault_of(file_url) / "root").write_bytes(old)
    # Its own state has seen nothing newer, and the remote is as it was.
    rewound(other, "pull")
    other.commit({".env": "KEY=mine\n"})
    rewound(other, "push")
    fresh = Machine(ana.base / "fresh", ana.env)
    fresh.home = ana.home
    said = fresh("clone", file_url.url, ".", code=7)
    assert "dorky clone --accept-rewind" in said.hint
    assert not list(fresh.project.iterdir())
    rewound(fresh, "download", "--remote", file_url.url, "HEAD:.env", ".")
    fresh("clone", "--accept-rewind", file_url.url, ".")
    assert fresh.read(".env") == b"KEY=leaked\n"


def test_an_url_that_was_never_seen_must_not_be_older(ana: Machine, file_url: Remote) -> None:
    """The reproduction r1: `.dorkyrc` comes with a git branch, and names a copy of an old state."""
    copy = vault_of(file_url).with_name("copy")
    shutil.copytree(vault_of(file_url), copy)
    moved_on(ana, file_url)
    rc = ana.project / ".dorkyrc"
    own = rc.read_text()
    rc.write_text(own.replace(str(vault_of(file_url)), str(copy)))
    for command in (
        ["pull"],
        ["fetch"],
        ["push"],
        ["download", "origin/main:.env", ".", "--force"],
    ):
        rewound(ana, *command)
    # ... nor is anything forgotten on the way back.
    (vault_of(file_url) / "root").write_bytes((copy / "root").read_bytes())
    rc.write_text(own)
    rewound(ana, "pull")
    assert len(records(ana)) == 1


def test_without_a_home_the_project_itself_remembers(
    ana: Machine, file_url: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Known, "directory", None)
    copy = vault_of(file_url).with_name("copy")
    shutil.copytree(vault_of(file_url), copy)
    old = moved_on(ana, file_url)
    ana("pull")
    rc = ana.project / ".dorkyrc"
    own = rc.read_text()
    rc.write_text(own.replace(str(vault_of(file_url)), str(copy)))
    rewound(ana, "fetch")
    rc.write_text(own)
    (vault_of(file_url) / "root").write_bytes(old)
    rewound(ana, "fetch")
    assert "you have no home directory" in ana.run("doctor").out


def test_accepting_a_rewind_holds_for_that_url_alone(ana: Machine, file_url: Remote) -> None:
    copy = vault_of(file_url).with_name("copy")
    shutil.copytree(vault_of(file_url), copy)
    moved_on(ana, file_url)
    known = records(ana)
    rc = ana.project / ".dorkyrc"
    own = rc.read_text()
    rc.write_text(own.replace(str(vault_of(file_url)), str(copy)))
    ana("fetch", "--accept-rewind")
    ana("fetch")
    place = copy.as_uri()
    assert records(ana).keys() == known.keys() | {place}
    assert records(ana)[place]["generation"] < known[vault_of(file_url).as_uri()]["generation"]
    rc.write_text(own)
    (vault_of(file_url) / "root").write_bytes((copy / "root").read_bytes())
    rewound(ana, "fetch")
    ana("fetch", "--accept-rewind")
    ana("fetch")


def test_a_new_place_goes_on_from_the_old_one(ana: Machine, file_url: Remote) -> None:
    ben = ana.another("ben")
    ben("clone", file_url.url, ".")
    moved_on(ana, file_url)
    ben("pull")
    moved = vault_of(file_url).with_name("moved")
    for machine in (ana, ben):
        machine("remote", "set-url", "origin", str(moved))
    ana("push")
    ben("pull")
    ana.commit({".env": "KEY=there\n"}, "third")
    ana("push")
    ben("pull")
    assert ben.read(".env") == b"KEY=there\n"
    # The record of the old place still holds for it.
    shutil.rmtree(vault_of(file_url))
    ana("remote", "set-url", "origin", file_url.url)
    assert "is missing or empty" in ana("push", code=8).error


def test_two_spellings_are_one_place(ana: Machine, file_url: Remote) -> None:
    old = moved_on(ana, file_url)
    (vault_of(file_url) / "root").write_bytes(old)
    path = vault_of(file_url)
    spellings = (f"{path}/", f"{path.parent}/./x/../{path.name}", path.as_uri())
    for n, spelling in enumerate(spellings):
        fresh = Machine(ana.base / f"fresh-{n}", ana.env)
        fresh.home = ana.home
        fresh("clone", spelling, ".", code=7)
    assert list(records(ana)) == [path.as_uri()]


def test_a_fork_is_refused(ana: Machine, file_url: Remote) -> None:
    """Two roots of one generation: a member, or the bucket's owner, shows each half another."""
    ben = ana.another("ben")
    ben("clone", file_url.url, ".")
    fork = {path: path.read_bytes() for path in vault_of(file_url).rglob("*") if path.is_file()}
    moved_on(ana, file_url)
    for path in [*vault_of(file_url).rglob("*")]:
        if path.is_file():
            path.unlink()
    for path, data in fork.items():
        path.write_bytes(data)
    ben.commit({".env": "KEY=ben's\n"})
    ben("push")
    forget_state(ana)
    rewound(ana, "pull")


def test_retired_keys_stay_retired(ana: Machine, file_url: Remote) -> None:
    ana("rotate")
    (place,) = records(ana).values()
    assert len(place["epochs"]) == 2
    with ana.repo() as repo:
        remote = repo.remote()
        seen = remote.read()
        assert seen is not None
        header = seen[0].header
        remote._check_keys(Newest(1, "", (), tuple(e.commitment for e in header.epochs)), header)
        with pytest.raises(errors.WrongKey):
            remote._check_keys(Newest(1, "", (), ("0" * 64,)), header)
        commitments = (*(epoch.commitment for epoch in header.epochs), "0" * 64)
        with pytest.raises(errors.WrongKey):
            remote._check_keys(Newest(1, "", (), commitments), header)


@pytest.mark.parametrize(
    "command",
    [
        ["rotate"],
        ["key", "gen", "--ci", "robot"],
        ["group", "add", "prod", "prod/**"],
        ["gc", "--remote", "--grace", "0"],
        ["purge", ".env", "--yes"],
        ["sync"],
    ],
)
def test_every_swap_is_noted(ana: Machine, file_url: Remote, command: list[str]) -> None:
    before = records(ana)
    if command[0] == "gc":
        for n in range(3):
            ana.commit({"big": os.urandom(200_000)}, f"{n}")
            ana("push")
        ana("undo", "2")
    if command[0] == "sync":
        ana.commit({".env": "KEY=2\n"})
    ana(*command)
    with ana.repo() as repo:
        noted = roots.noted(repo.database)
    assert noted is not None
    (place,) = records(ana).values()
    assert place["generation"] == noted.generation
    assert place["txid"] == noted.txid
    assert place["generation"] > next(iter(before.values()))["generation"]


def test_nothing_new_writes_nothing(ana: Machine) -> None:
    ana("pull")
    before = {path: path.stat().st_mtime_ns for path in noted(ana)}
    inodes = {path: path.stat().st_ino for path in noted(ana)}
    ana("pull")
    ana("fetch")
    ana("push")
    assert {path: path.stat().st_mtime_ns for path in noted(ana)} == before
    assert {path: path.stat().st_ino for path in noted(ana)} == inodes


def test_it_is_the_users_alone(ana: Machine) -> None:
    directory = ana.home / ".dorky" / "known"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in noted(ana)} == {0o600}


def test_a_record_that_was_lost_is_made_again(ana: Machine) -> None:
    before = records(ana)
    shutil.rmtree(ana.home / ".dorky" / "known")
    ana("pull")
    assert records(ana) == before


@pytest.mark.parametrize("how", ["garbage", "empty", "link", "directory link", "fifo", "types"])
def test_a_damaged_record_fails_closed(ana: Machine, file_url: Remote, how: str) -> None:
    (path,) = (path for path in noted(ana) if path.suffix != ".lock")
    directory, aside = path.parent, ana.base / "aside"
    if how == "directory link":
        directory.rename(aside)
        directory.symlink_to(aside)
    elif how == "link":
        path.rename(aside)
        path.symlink_to(aside)
    elif how == "fifo":
        path.unlink()
        os.mkfifo(path)
    else:
        data = {"garbage": b"{", "empty": b"", "types": b'{"x": {"generation": "y"}}'}[how]
        path.write_bytes(data)
    said = ana("pull", code=7)
    assert str(path) in said.error
    assert said.hint.startswith("rm ")
    assert any(each.startswith("fail  known") for each in ana("doctor", code=1).out.splitlines())
    Path(said.hint.removeprefix("rm ")).unlink()
    ana("pull")
    assert len(records(ana)) == 1


def test_a_home_that_cannot_be_written_to(
    ana: Machine, file_url: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    before = records(ana)
    monkeypatch.setattr("dorky.remote.known._make", refuse)
    moved_on(ana, file_url)
    ana("pull")
    assert "can't be written to" in ana("doctor").out
    assert records(ana) == before


def test_a_home_that_is_not_there(ana: Machine, tmp_path: Path) -> None:
    config = Config(None, environment={"HOME": str(tmp_path / "none")})
    known = Known(config, "file:///vault")
    assert not known.note("ab" * 16, Newest(1, "x"))
    assert known.floor("ab" * 16) is None
    assert not (tmp_path / "none").exists()


def test_what_a_later_dorky_adds_stays(tmp_path: Path) -> None:
    config = Config(None, environment={"HOME": str(tmp_path)})
    known = Known(config, "file:///vault")
    assert known.note("ab" * 16, Newest(1, "x"))
    path = tmp_path / ".dorky" / "known" / ("ab" * 16)
    found = json.loads(path.read_bytes())
    found["file:///vault"]["team"] = "entry"
    path.write_text(json.dumps(found))
    assert known.note("ab" * 16, Newest(2, "y"))
    assert json.loads(path.read_bytes())["file:///vault"]["team"] == "entry"
    assert known.floor("ab" * 16) == Newest(2, "y")
    assert known.note("ab" * 16, Newest(1, "z"))
    assert known.floor("ab" * 16) == Newest(2, "y")
    assert known.note("ab" * 16, Newest(1, "z"), force=True)
    assert json.loads(path.read_bytes())["file:///vault"] == {"generation": 1, "txid": "z"}


def test_many_places_leave_room(tmp_path: Path) -> None:
    config = Config(None, environment={"HOME": str(tmp_path)})
    recent = tuple(f"{n:032x}" for n in range(64))
    for n in range(1, 130):
        Known(config, f"file:///{n}").note("ab" * 16, Newest(n, "x", recent))
    assert Known(config, "file:///new").floor("ab" * 16) == Newest(129, "x", recent)
    assert Known(config, "file:///1").floor("ab" * 16) == Newest(129, "x", recent)


def test_a_destroyed_remote_is_not_forgotten(ana: Machine, file_url: Remote) -> None:
    """Nobody can bring it back: a repository that begins in its place has another id."""
    old = moved_on(ana, file_url)
    rc = (ana.project / ".dorkyrc").read_text()
    ana("destroy", "--remote", "--yes")
    driver_of(file_url).swap("root", old, expected=None)
    (ana.project / ".env").unlink()
    (ana.project / ".dorkyrc").write_text(rc)
    rewound(ana, "pull")
    driver_of(file_url).delete(["root"])
    (ana.project / ".dorkyrc").unlink()
    ana("init", file_url.url)
    ana.commit({".env": "NEW=1\n"})
    ana("push")


@pytest.mark.parametrize("command", ["fetch", "pull", "sync"])
def test_another_clone_of_the_users_is_faster(
    ana: Machine, file_url: Remote, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """It accepts a newer root while an older one is on its way here: nothing was rewound."""
    other = ana.another("other")
    other.home = ana.home
    other("clone", file_url.url, ".")
    other.commit({"b": "1"})
    real, pushed = FileDriver.get, []

    def get(driver: FileDriver, key: str, **options: Any) -> Any:
        blob = real(driver, key, **options)
        if key == "root" and not pushed:
            pushed.append(1)
            other("push")
        return blob

    other("push")
    other.commit({"b": "2"})
    monkeypatch.setattr(FileDriver, "get", get)
    ana(command)
    assert pushed
    ana("pull")
    assert ana.read("b") == b"2"
