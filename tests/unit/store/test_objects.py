"""The local object store: what was saved is there, what was not leaves no trace."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import random
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dorky import errors
from dorky.format.model import Kind, Location, Pack
from dorky.keys import age, vault
from dorky.store import objects as store
from dorky.store import pack
from dorky.store.database import Database
from dorky.store.objects import Store, Writer

_, SEALED = vault.create([age.generate().public])
_, PLAIN = vault.create([])

kinds = st.sampled_from(list(Kind))
things = st.lists(st.tuples(kinds, st.binary(max_size=50)), max_size=30)


@contextmanager
def opened(place: Path, key: vault.Vault = SEALED) -> Iterator[Store]:
    place.mkdir(exist_ok=True)
    (place / "tmp").mkdir(exist_ok=True)
    database = Database(place / "db")
    found = Store(place / "packs", place / "tmp", database, lambda: key)
    try:
        yield found
    finally:
        found.close()
        database.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path / "state") as found:
        yield found


def leftovers(found: Store) -> list[Path]:
    """Whatever is on disk of objects."""
    packs = found.directory.iterdir() if found.directory.exists() else ()
    return [*packs, *found.scratch.iterdir()]


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


# --- what was saved -------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(things=things, key=st.sampled_from([SEALED, PLAIN]), cut=st.integers(0, 30))
def test_what_was_saved_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    things: list[tuple[Kind, bytes]],
    key: vault.Vault,
    cut: int,
) -> None:
    place = tmp_path_factory.mktemp("store")
    with opened(place, key) as found:
        ids = []
        for batch in (things[:cut], things[cut:]):
            with found.writer() as writer:
                ids += [writer.add(*each) for each in batch]
                saved = writer.save()
            assert len(saved) <= 1
    with opened(place, key) as found:
        for (kind, body), object_id in zip(things, ids, strict=True):
            assert object_id == key.object_id(kind, body)
            assert object_id in found
            assert found.read(object_id) == body
        # Each thing once, however often it was added.
        held = [at for each in found.packs() for at in found.locations(each.id)]
        assert sorted(at.id for at in held) == sorted(set(ids))
        assert found.missing([*ids, "0" * 64]) == {"0" * 64}
        for each in found.packs():
            data = found.pack_bytes(each.id)
            assert pack.is_whole(each.id, [data], each.tail)
            assert len(data) == each.size
            found_there = pack.read_tail(each, data[each.tail :], key)
            assert found_there == found.locations(each.id)


def test_many_bodies_in_threads_are_what_they_are_one_by_one(here: Store) -> None:
    chance = random.Random(1)
    bodies = [chance.randbytes(chance.choice([0, 10, 10_000])) for _ in range(200)] * 2
    with here.writer() as writer:
        first = writer.add(Kind.CHUNK, bodies[3])
        named = list(writer.add_all(Kind.CHUNK, iter(bodies)))
        writer.save()
    assert named == [(SEALED.object_id(Kind.CHUNK, body), len(body)) for body in bodies]
    assert named[3][0] == first
    for body, (object_id, _) in zip(bodies, named, strict=True):
        assert here.read(object_id) == body
    (only,) = here.packs()
    assert len(here.locations(only.id)) == len({object_id for object_id, _ in named})


def test_large_things_are_spread_over_packs(here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "TARGET", 100_000)
    chance = random.Random(1)
    bodies = [chance.randbytes(30_000) for _ in range(10)]
    with here.writer() as writer:
        ids = [writer.add(Kind.CHUNK, body) for body in bodies]
        saved = writer.save()
    assert len(saved) == 3
    assert all(each.size < 130_000 for each in saved)
    assert [here.read(object_id) for object_id in ids] == bodies


def test_files_are_for_their_owner_alone(here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    finish = pack.PackWriter.finish

    def finishing(self: pack.PackWriter) -> Pack:
        modes.extend(stat.S_IMODE(path.stat().st_mode) for path in here.scratch.iterdir())
        return finish(self)

    monkeypatch.setattr(pack.PackWriter, "finish", finishing)
    before = os.umask(0)
    try:
        with here.writer() as writer:
            writer.add(Kind.CHUNK, b"secret")
            (saved,) = writer.save()
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert stat.S_IMODE(here.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((here.directory / saved.id).stat().st_mode) == 0o600


# --- what was not ---------------------------------------------------------------------------


def test_what_was_not_saved_leaves_no_trace(here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "TARGET", 1000)
    monkeypatch.setattr(store, "_ENOUGH", 1)
    with here.writer() as writer:
        for n in range(10):
            # Some packs are finished by now, one is open.
            object_id = writer.add(Kind.CHUNK, random.Random(n).randbytes(400))
        assert writer.holds(object_id)
        assert len(leftovers(here)) > 2
    assert leftovers(here) == []
    assert object_id not in here
    assert here.packs() == []
    with here.writer() as writer:
        assert not writer.holds(object_id)


def test_what_a_transaction_took_back_is_not_there(here: Store) -> None:
    object_id = SEALED.object_id(Kind.CHUNK, b"x")

    def interrupted() -> None:
        with here.database.transaction(), here.writer() as writer:
            writer.add(Kind.CHUNK, b"x")
            writer.save()
            assert object_id in here
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert object_id not in here
    with pytest.raises(errors.MissingObject):
        here.read(object_id)
    with here.writer() as writer:
        assert writer.add(Kind.CHUNK, b"x") == object_id
        writer.save()
    assert here.read(object_id) == b"x"


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_what_could_not_be_recorded_is_not_tried_twice(
    here: Store, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    """A fetch that fails saves what it has on its way out."""
    monkeypatch.setattr(pack, "TARGET", 1000)
    record, turns = Store.record, itertools.count(1)

    def locked(*arguments: Any) -> None:
        if next(turns) == turn:
            raise errors.Locked("process 1")
        record(*arguments)

    bodies = [random.Random(n).randbytes(1200) for n in range(3)]

    def save_and_save_again() -> None:
        try:
            writer.save()
        finally:
            writer.save()

    with here.writer() as writer, monkeypatch.context() as patched:
        patched.setattr(Store, "record", locked)
        ids = [writer.add(Kind.CHUNK, body) for body in bodies]
        with pytest.raises(errors.Locked):
            save_and_save_again()
    assert list(here.scratch.iterdir()) == []
    assert {each.id for each in here.packs()} <= {each.name for each in here.directory.iterdir()}
    for object_id, body in zip(ids, bodies, strict=True):
        if object_id in here:
            assert here.read(object_id) == body
    with here.writer() as writer:
        assert [writer.add(Kind.CHUNK, body) for body in bodies] == ids
        writer.save()
    assert [here.read(object_id) for object_id in ids] == bodies


def test_nothing_is_written_for_nothing(here: Store) -> None:
    with here.writer() as writer:
        assert writer.save() == []
    assert leftovers(here) == []


@pytest.mark.parametrize("when", ["fsync", "rename"])
def test_a_disk_that_is_full(here: Store, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Found when the pack is made durable: nothing is recorded, nothing lies about."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with here.writer() as writer:
        object_id = writer.add(Kind.CHUNK, b"x" * 100)
        with monkeypatch.context() as patched:
            patched.setattr(os, when, full)
            patched.setattr(Path, when, full, raising=False)
            with pytest.raises(errors.DiskFull):
                writer.save()
    assert object_id not in here
    assert here.packs() == []
    assert leftovers(here) == []


def write_noise(writer: Writer) -> None:
    for n in range(9):
        writer.add(Kind.CHUNK, bytes([n]) * 100 + os.urandom(100))
    writer.save()


@pytest.mark.parametrize("enough", [1, 150, 1000])
def test_a_disk_that_is_full_while_writing(
    here: Store, monkeypatch: pytest.MonkeyPatch, enough: int
) -> None:
    """Whoever finds out, and when: nothing is saved, and nothing after it."""
    append = pack.PackWriter.append

    def full(self: pack.PackWriter, kind: Kind, object_id: str, stored: bytes) -> None:
        if len(self):
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, kind, object_id, stored)

    monkeypatch.setattr(store, "_ENOUGH", enough)
    with here.writer() as writer, monkeypatch.context() as patched:
        patched.setattr(pack.PackWriter, "append", full)
        with pytest.raises(errors.DiskFull):
            write_noise(writer)
        patched.undo()
        with pytest.raises(errors.DiskFull):
            writer.save()
    assert leftovers(here) == []
    assert here.packs() == []


# --- damage ---------------------------------------------------------------------------------


@pytest.fixture
def saved(here: Store) -> tuple[str, str, str]:
    """A pack of two chunks: its name and theirs."""
    with here.writer() as writer:
        one, two = (writer.add(Kind.CHUNK, bytes([n]) * 5000 + os.urandom(5000)) for n in (1, 2))
        (made,) = writer.save()
    return made.id, one, two


def test_a_pack_that_is_gone(here: Store, saved: tuple[str, str, str]) -> None:
    name, one, _ = saved
    (here.directory / name).unlink()
    with pytest.raises(errors.MissingObject):
        here.read(one)
    with pytest.raises(errors.DorkyError):
        here.pack_bytes(name)


def test_a_pack_that_was_cut(here: Store, saved: tuple[str, str, str]) -> None:
    name, one, two = saved
    os.truncate(here.directory / name, 6000)
    assert len(here.read(one)) == 10_000
    with pytest.raises(errors.CorruptObject, match="truncated"):
        here.read(two)
    with pytest.raises(errors.CorruptPack):
        here.pack_bytes(name)


@pytest.mark.parametrize("key", [SEALED, PLAIN], ids=["sealed", "plain"])
def test_a_flipped_byte(tmp_path: Path, key: vault.Vault) -> None:
    with opened(tmp_path / "state", key) as here:
        body = b"text\n" * 40
        with here.writer() as writer:
            object_id = writer.add(Kind.CHUNK, body)
            (made,) = writer.save()
        path = here.directory / made.id
        data = path.read_bytes()
        (at,) = here.locations(made.id)
        for n in range(at.length):
            altered = bytearray(data)
            altered[at.offset + n] ^= 1 << n % 8
            path.write_bytes(altered)
            with pytest.raises(errors.CorruptObject):
                here.read(object_id)
        with pytest.raises(errors.CorruptPack):
            here.pack_bytes(made.id)
        path.write_bytes(data)
        assert here.read(object_id) == body


def test_what_is_remembered_is_given_once_and_to_its_group_alone(
    here: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_SMALL", 10)
    at = store.PackedObject(Kind.CHUNK, "12", "no pack", 0, 1)
    for body in (b"body", b"other"):  # what is there already stays
        here.remember("12", "g", body)
    assert here.open(at, group="g") == b"body"
    for group in ("g", None):
        with pytest.raises(errors.MissingObject):
            here.open(at, group=group)
    here.remember("12", "g", b"body")
    with pytest.raises(errors.MissingObject):
        here.open(at, group="another")
    here.remember("12", "g", b"too large for that")
    with pytest.raises(errors.MissingObject):
        here.open(at)


def test_no_more_is_remembered_than_there_is_room_for(here: Store) -> None:
    places = [store.PackedObject(Kind.CHUNK, f"{n:02x}", "no pack", 0, 1) for n in range(2000)]
    for at in places:
        here.remember(at.id, None, bytes(32_768))
    assert sum(len(body) for _, body in here._opened.values()) == store._OPENED
    for at in places[:500]:
        assert len(here.open(at)) == 32_768
    here.remember("ff", None, bytes(32_768))
    assert len(here.open(at._replace(id="ff"))) == 32_768


def test_an_object_in_another_ones_place(here: Store, saved: tuple[str, str, str]) -> None:
    name, one, two = saved
    at = here.locate([one, two])
    path = here.directory / name
    data = bytearray(path.read_bytes())
    first, second = at[one], at[two]
    assert first.length == second.length
    data[first.offset : first.offset + first.length] = here.stored(second)
    path.write_bytes(data)
    with pytest.raises(errors.CorruptObject):
        here.read(one)


# --- remotes' packs -------------------------------------------------------------------------


def test_what_remotes_hold_is_kept_apart(here: Store) -> None:
    ids = [f"{n:064x}" for n in range(1200)]
    packs = [pack.Pack(f"{n:064x}", 1000, 500) for n in range(3)]
    for n, made in enumerate(packs):
        some = [Location(Kind.CHUNK, each, 8, 10) for each in ids[n::3]]
        here.record("origin", made, some)
    here.record("other", packs[0], [Location(Kind.CHUNK, ids[1], 8, 10)])
    assert here.packs("origin") == packs
    assert here.packs() == []
    found = here.locate(ids, remote="origin")
    assert found.keys() == set(ids)
    assert found[ids[4]] == store.PackedObject(Kind.CHUNK, ids[4], packs[1].id, 8, 10)
    assert here.locate(ids) == {}
    assert here.missing(ids) == set(ids)
    assert ids[0] not in here

    here.retain("origin", [packs[1].id, "f" * 64])
    assert here.packs("origin") == [packs[1]]
    assert here.locate(ids, remote="origin").keys() == set(ids[1::3])
    assert here.locate(ids, remote="other").keys() == {ids[1]}
    here.record("origin", packs[1], [Location(Kind.CHUNK, ids[1], 8, 10)])
    assert here.packs("origin") == [packs[1]]


def test_objects_are_found_among_many_packs_as_among_few(here: Store) -> None:
    """Counted in steps of SQLite's machine: its planner must not walk all packs for some ids."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection = here.database.connection
    spent = []
    for size in (10, 2000):
        with here.database.transaction():
            for n in range(size):
                name = hashlib.sha256(b"%d" % n).hexdigest()
                at = Location(Kind.CHUNK, name, 8, 10)
                here.record(f"remote{size}", pack.Pack(name, 100, 50), [at])
        connection.set_progress_handler(count, 1)
        for wanted in ([name], [f"{n:064x}" for n in range(4)]):
            steps = 0
            here.locate(wanted, remote=f"remote{size}")
            spent.append(steps)
        connection.set_progress_handler(None, 0)
    assert spent[2] < 2 * spent[0]
    assert spent[3] < 2 * spent[1]


# --- many packs, many threads ---------------------------------------------------------------


def test_many_packs_in_many_threads_with_few_files_open(here: Store) -> None:
    ids = []
    for n in range(100):
        with here.writer() as writer:
            ids.append(writer.add(Kind.CHUNK, b"%d" % n))
            writer.save()
    places = here.locate(ids)
    order = random.Random(1).choices(range(100), k=2000)
    before = open_files()
    with ThreadPoolExecutor(max_workers=8) as pool:
        bodies = list(pool.map(lambda n: here.open(places[ids[n]]), order))
    assert bodies == [b"%d" % n for n in order]
    assert open_files() - before <= 64 + 8
    here.close()
    assert open_files() <= before
    assert here.read(ids[0]) == b"0"


@given(sizes=st.lists(st.integers(0, 20)), size=st.integers(1, 7))
def test_batches(sizes: list[int], size: int) -> None:
    found = list(store.batches(iter(sizes), size))
    assert [each for batch in found for each in batch] == sizes
    assert all(len(batch) == size for batch in found[:-1])
    assert all(0 < len(batch) <= size for batch in found[-1:])


def test_what_a_pack_holds_is_found_without_looking_at_all_objects(here: Store) -> None:
    """Nor is anything else slower that is done to one of very many packs."""

    def recorded(count: int) -> Pack:
        made = Pack(os.urandom(32).hex(), 1000, 500, 1)
        where = [Location(Kind.CHUNK, os.urandom(32).hex(), 8 + n, 1) for n in range(count)]
        here.record("origin", made, where)
        return made

    def steps(name: str) -> int:
        """Count the steps of SQLite's machine, in tens."""
        counted: list[None] = []
        connection = here.database.connection
        connection.set_progress_handler(lambda: counted.append(None), 10)
        here.locations(name, remote="origin")
        connection.execute("DELETE FROM packs WHERE name = ? AND remote = 'origin'", (name,))
        connection.set_progress_handler(None, 0)
        return len(counted)

    few = steps(recorded(10).id)
    for _ in range(20):
        recorded(200)
    assert steps(recorded(10).id) < 2 * few
