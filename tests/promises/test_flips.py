"""A byte that is not what was written, in the bucket or on this disk, and answers cut short.

Each is found before a file is replaced, or changes nothing. With ``--deep`` it is every third byte,
others in each run, else one in some; and always all of headers and footers.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import targets
from depth import deep
from faults import Faults
from machines import Machine

from dorky.drivers.base import Blob
from dorky.files import umask
from dorky.remote import listing, push

THOROUGH = pytest.param(3, marks=pytest.mark.deep, id="many")
FOUND = {3, 6, 7}
"""What a damaged root or pack ends with; a header tells the format, the repository, the keys."""


class World(NamedTuple):
    """A bucket in a directory, and somebody who has pulled all but its last state."""

    vault: Path
    ana: Machine
    ben: Machine
    kept: Path
    sealed: bool

    def rewind(self) -> None:
        """Let Ben be where he was."""
        shutil.rmtree(self.ben.project)
        shutil.copytree(self.kept, self.ben.project, symlinks=True)


def worlds(base: Path, *options: str) -> World:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(push, "INLINE", 0)
        vault = base / "vault"
        ana = Machine(base / "ana", {})
        ana("init", vault, *options)
        ana.commit({".env": "KEY=1\n", "a": "one", "gone": "gone"}, "first")
        ana("push")
        ben = ana.another("ben")
        ben("clone", vault, ".", *options)
        (ana.project / "gone").unlink()
        ana("stage", "gone")
        ana.commit({".env": "KEY=2\n", "b/c": random.Random(1).randbytes(200)}, "second")
        ana("push")
    ana.commit({"d": "rides in the root"}, "third")
    ana("push")
    kept = base / "kept"
    shutil.copytree(ben.project, kept, symlinks=True)
    return World(vault, ana, ben, kept, sealed=not options)


@pytest.fixture(scope="module", params=["sealed", "plain"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return worlds(
        tmp_path_factory.mktemp("world"), *(["--plain"] if request.param == "plain" else [])
    )


def pulled(world: World, codes: set[int]) -> bool:
    """Let Ben pull: all of it comes, or nothing. Whether it came."""
    before = world.ben.files()
    said = world.ben.run("pull")
    if said.code:
        assert said.code in codes, said
        assert world.ben.files() == before
        assert not list((world.ben.state / "tmp").iterdir())
    else:
        assert world.ben.files() == world.ana.files()
    world.rewind()
    return said.code == 0


def places(size: int, stride: int, *all_of: range) -> Iterator[int]:
    """One place in some, and all within ranges; a test that fails shows the last."""
    some = range(random.randrange(stride), size, stride)
    for at in sorted({*some, *(at for each in all_of for at in each if at < size)}):
        print("at byte", at)  # noqa: T201
        yield at


def new_packs(world: World) -> list[Path]:
    """The packs that Ben has not seen."""
    with world.ben.repo() as repo:
        seen = {each.id for each in repo.store.packs("origin")}
    return [path for path in sorted((world.vault / "packs").iterdir()) if path.name not in seen]


# --- in the bucket --------------------------------------------------------------------------


def test_nothing_is_wrong_with_it(world: World) -> None:
    assert len(new_packs(world)) == 1
    assert pulled(world, set())


@pytest.mark.parametrize("stride", [151, THOROUGH])
def test_a_flipped_byte_of_a_root(world: World, stride: int) -> None:
    path = world.vault / "root"
    whole = path.read_bytes()
    for at in places(len(whole), stride, range(12), range(len(whole) - 32, len(whole), 8)):
        altered = bytearray(whole)
        altered[at] ^= 1 << at % 8
        path.write_bytes(altered)
        assert not pulled(world, {7})
        if at < len(whole) - 32:  # by somebody who mends the checksum, too
            path.write_bytes(targets.mended(bytes(altered)))
            came = pulled(world, FOUND)
            assert not (came and world.sealed)
    path.write_bytes(whole)
    assert pulled(world, set())


@pytest.mark.parametrize("stride", [151, THOROUGH])
def test_a_flipped_byte_of_a_pack(world: World, stride: int) -> None:
    (path,) = new_packs(world)
    whole = path.read_bytes()
    tries = harmless = 0
    for at in places(len(whole), stride, range(8), range(len(whole) - 20, len(whole))):
        altered = bytearray(whole)
        altered[at] ^= 1 << at % 8
        path.write_bytes(altered)
        harmless += pulled(world, {7})
        tries += 1
    path.write_bytes(whole)
    # The magic at the beginning is not read, nor is what Ben has already; all else is.
    assert harmless < tries / 4
    assert pulled(world, set())


@pytest.mark.parametrize("stride", [301, THOROUGH])
@pytest.mark.parametrize("what", ["root", "pack"])
def test_a_truncated_file(world: World, what: str, stride: int) -> None:
    path = world.vault / "root" if what == "root" else new_packs(world)[0]
    whole = path.read_bytes()
    for size in places(len(whole), stride, range(3), range(len(whole) - 3, len(whole))):
        path.write_bytes(whole[:size])
        assert not pulled(world, {7})
    path.write_bytes(whole)
    assert pulled(world, set())


def test_packs_in_each_others_place(world: World) -> None:
    (new,) = new_packs(world)
    old = next(path for path in (world.vault / "packs").iterdir() if path != new)
    whole, other = new.read_bytes(), old.read_bytes()
    new.write_bytes(other)
    old.write_bytes(whole)
    assert not pulled(world, {7})
    # Of the same length, and its tail at the same place: as a range of the wrong pack would be.
    new.write_bytes((other * 9)[: len(whole)])
    assert not pulled(world, {7})
    new.write_bytes(whole[:8] + (other[8:] * 9)[: len(whole) - 28] + whole[-20:])
    assert not pulled(world, {7})
    new.write_bytes(whole)
    old.write_bytes(other)
    assert pulled(world, set())


@pytest.mark.parametrize("options", [(), ("--plain",)], ids=["encrypted", "unencrypted"])
@pytest.mark.parametrize("stride", [301, THOROUGH])
def test_a_flipped_byte_of_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int, options: tuple[str, ...]
) -> None:
    """Here no pack is recent, so that a pull has to read the list of a table."""
    monkeypatch.setattr(listing, "RECENT_PACKS", 0)
    world = worlds(tmp_path, *options)
    with world.ana.repo() as repo:
        seen = repo.remote().seen
        assert seen
        listed = seen.root.tables[0]
    path = world.vault / "tables" / listed.id
    whole = path.read_bytes()
    harmless = 0
    for at in places(len(whole), stride, range(1)):
        altered = bytearray(whole)
        altered[at] ^= 1 << at % 8
        path.write_bytes(altered)
        came = pulled(world, {7})
        # Only the list is read by a pull.
        assert came == (not listed.page * listed.pages <= at < listed.size)
        harmless += came
        assert world.ana("fsck", "--remote", code=7).out
    assert harmless
    path.write_bytes(whole)
    assert pulled(world, set())
    world.ana("fsck", "--remote")


# --- on this disk ---------------------------------------------------------------------------


COMMANDS = [("checkout", "HEAD~1"), ("restore", ".env"), ("status",), ("log",), ("push",)]


def tried(world: World, *command: str) -> None:
    """Run a command where something local is damaged: it does its work, or says that it can't.

    What is found only when a checkout is written down is found after it: its files are right.
    """
    before = world.ben.files()
    after = dict(before)
    if command[0] == "checkout" and staged_mode(world, "d") is not None:
        del after["d"]  # else it looks like a file that dorky does not keep, which stays
    if command[0] == "restore" and (mode := staged_mode(world, ".env")):
        after[".env"] = mode & ~umask(), before[".env"][1]
    said = world.ben.run(*command)  # which accepts neither tracebacks nor bugs
    found = world.ben.files()
    world.rewind()
    assert found == after or (said.code and found == before), said


def staged_mode(world: World, path: str) -> int | None:
    """The mode in the row of a file; none if SQLite does not find the row by its path, as dorky
    looks for it, 0 if it finds what is wrong."""
    place = f"file:{world.ben.state / 'dorky.db'}?mode=ro&immutable=1"
    with contextlib.closing(sqlite3.connect(place, uri=True)) as database:
        try:
            found = database.execute("SELECT mode FROM files WHERE path = ?", (path,)).fetchone()
        except (sqlite3.Error, UnicodeDecodeError):  # of SQLite's own message
            return 0
    return found and found[0]


@pytest.fixture(scope="module", params=["sealed", "plain"])
def local(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Ben has pulled everything."""
    made = worlds(
        tmp_path_factory.mktemp("local"), *(["--plain"] if request.param == "plain" else [])
    )
    made.ben("pull")
    made.ben("checkout", "HEAD~1")
    made.ben("checkout", "main")
    shutil.rmtree(made.kept)
    shutil.copytree(made.ben.project, made.kept, symlinks=True)
    return made


@pytest.mark.parametrize("stride", [181, THOROUGH])
def test_a_flipped_byte_of_a_local_pack(local: World, stride: int) -> None:
    turn = 0
    for name in sorted(path.name for path in (local.ben.state / "packs").iterdir()):
        size = (local.ben.state / "packs" / name).stat().st_size
        for at in places(size, stride):
            path = local.ben.state / "packs" / name
            path.chmod(0o600)
            altered = bytearray(path.read_bytes())
            altered[at] ^= 1 << at % 8
            path.write_bytes(altered)
            tried(local, *COMMANDS[turn % 2])
            turn += 1


@pytest.mark.parametrize("tries", [1, *deep(len(COMMANDS))])
def test_values_in_the_local_database_that_can_not_be(local: World, tries: int) -> None:
    turns = itertools.cycle(COMMANDS)
    whole = (local.ben.state / "dorky.db").read_bytes()
    with local.ben.repo() as repo:
        head = repo.database.ref("main")
    assert head
    for value in (
        head.encode(),
        b"commit",
        b"chunk",
        b"all",
        b'{"format":2',
        b"CREATE TABLE files",
    ):
        at = whole.index(value)
        while at >= 0:
            altered = bytearray(whole)
            altered[at + 1] ^= 0x80 if value.startswith(b"CREATE") else 0x20
            (local.ben.state / "dorky.db").write_bytes(altered)
            for command in itertools.islice(turns, tries):
                tried(local, *command)
            at = whole.find(value, at + 1)


ROW = b"\x00\x81\x80"
"""What follows a path in its row: the mode of a file that only its owner reads."""


@pytest.mark.parametrize(
    ("row", "altered"),
    [pytest.param(b"d", b"e", id="letter"), pytest.param(b"a", b"\xe1", id="order")],
)
def test_a_file_whose_row_is_lost_stays(local: World, row: bytes, altered: bytes) -> None:
    """SQLite finds nothing wrong with the letter of a path, nor with rows that are out of order."""
    path = local.ben.state / "dorky.db"
    whole = path.read_bytes()
    assert whole.count(row + ROW) == 1
    for command in COMMANDS:
        path.write_bytes(whole.replace(row + ROW, altered + ROW))
        assert staged_mode(local, "d") is None
        tried(local, *command)


@pytest.mark.parametrize("mode", [0o100645, 0o000600, 0o104600, 0o040600])
def test_a_file_whose_staged_mode_is_another(local: World, mode: int) -> None:
    """Nor with a permission bit: the file gets it, as if somebody had staged it so."""
    path = local.ben.state / "dorky.db"
    whole = path.read_bytes()
    assert whole.count(b".env" + ROW) == 1
    for command in COMMANDS:
        path.write_bytes(whole.replace(b".env" + ROW, b".env" + mode.to_bytes(3, "big")))
        assert staged_mode(local, ".env") == mode
        tried(local, *command)


@pytest.mark.deep
def test_a_flipped_byte_of_the_local_database(local: World) -> None:
    whole = (local.ben.state / "dorky.db").read_bytes()
    for turn, at in enumerate(at for at in places(len(whole), 3) if whole[at]):
        altered = bytearray(whole)
        altered[at] ^= 1 << at % 8
        (local.ben.state / "dorky.db").write_bytes(altered)
        tried(local, *COMMANDS[turn % len(COMMANDS)])


# --- answers that are not what was asked for ------------------------------------------------


def mangled(answer: Any, change: Callable[[bytes], bytes]) -> Any:
    if isinstance(answer, Blob):
        return answer._replace(data=change(answer.data))
    return change(answer) if isinstance(answer, bytes) else answer


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "short": lambda data: data[:-1],
    "long": lambda data: data + b"\0",
    "twice": lambda data: data + data,
    "late": lambda data: data[1:] + data[:1],
    "flipped": lambda data: (
        data[: len(data) // 3] + bytes([data[len(data) // 3] ^ 1]) + data[len(data) // 3 + 1 :]
    ),
    "zeros": lambda data: bytes(len(data)),
}


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults.installed(monkeypatch)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("command", ["pull", *deep("clone")])
def test_an_answer_that_is_not_what_was_asked_for(
    world: World, faults: Faults, tmp_path: Path, command: str, change: Callable[[bytes], bytes]
) -> None:
    def run(machine: Machine) -> int:
        where = [world.vault, ".", *([] if world.sealed else ["--plain"])]
        return machine.run(command, *(where if command == "clone" else [])).code

    def fresh(n: int) -> Machine:
        if command == "pull":
            world.rewind()
            return world.ben
        made = Machine(tmp_path / str(n), {})
        shutil.copytree(world.ben.home, made.home, dirs_exist_ok=True)
        return made

    assert run(fresh(0)) == 0
    asked = [verb for verb, _ in faults.calls if verb in {"get", "get_range"}]
    assert asked.count("get_range") >= 2
    for n in range(len(asked)):
        machine = fresh(n + 1)
        before = machine.files()
        faults.clear()
        for verb in asked[:n]:
            faults.after(verb, lambda answer: answer)
        faults.after(asked[n], lambda answer: mangled(answer, change))
        code = run(machine)
        assert faults.done
        if code:
            assert code == 7
            assert machine.files() == before
            assert run(machine) == 0
        else:  # what is too much at the end of a range is not looked at
            assert asked[n] == "get_range"
            assert change in {CHANGES["long"], CHANGES["twice"]}
        assert machine.files() == world.ana.files()
    world.rewind()
