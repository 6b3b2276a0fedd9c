"""Listing: which tables follow which, and that they say where everything lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from machines import Machine, bucket, driver_of, started
from servers import Remote as Place

from dorky import errors
from dorky.format import model
from dorky.format.model import Kind, Location, Pack
from dorky.remote import listing, root
from dorky.remote.cold import Reader
from dorky.remote.fetch import fetch
from dorky.remote.journal import Sent
from dorky.remote.listing import packs_of, wrong_tables
from dorky.remote.push import remember
from dorky.remote.root import Remote, RootSnapshot
from dorky.remote.tables import renew
from dorky.repo import Repository
from dorky.store.pack import make_index


class World(NamedTuple):
    """A remote whose packs are merely claimed: only what lists them is there."""

    place: Place
    machine: Machine
    repo: Repository
    remote: Remote

    @property
    def seen(self) -> RootSnapshot:
        seen = self.remote.seen
        assert seen
        return seen

    def follow(
        self, added: int = 0, gone: tuple[str, ...] = (), *, objects: int = 3, compact: bool = False
    ) -> tuple[Sent, ...]:
        """Swap the root for one with more packs, and with fewer."""
        sent = tuple(claimed(objects) for _ in range(added))
        made = listing.follow(self.remote, self.seen, self.repo.vault, sent, gone, compact=compact)
        following = root.successor(self.seen.root, **made.changes)
        remember(self.remote, self.remote.swap(self.seen.header, following), sent)
        return sent

    def check(self) -> None:
        """Every object of every listed pack is found, by a reader who knows the root alone."""
        store = self.repo.store
        packs = packs_of(self.remote, self.seen)
        assert list(packs) == store.packs(self.remote.name)
        where = {each.id: store.locations(each.id, remote=self.remote.name) for each in packs}
        assert list(wrong_tables(self.remote, self.seen, where)) == []
        reader = Reader(self.remote.driver, self.seen, self.repo.vault)
        for name, locations in where.items():
            for at in locations[:1]:
                found = reader.locate(at.id)
                assert found
                assert (found.pack, found.at) == (name, at)
        one, *others = self.seen.root.tables or (None,)
        assert all(each.lists for each in others)
        assert bool(self.seen.root.packs) == (one is not None and not one.lists)
        assert len(self.seen.root.packs) <= model.RECENT_PACKS
        assert len(self.seen.root.tables) <= model.MANY_TABLES


def claimed(objects: int = 3) -> Sent:
    """A pack that nobody has written."""
    where = [Location(Kind.CHUNK, os.urandom(32).hex(), 8 + n, 1) for n in range(objects)]
    return Sent(Pack(os.urandom(32).hex(), 1000, 900, 1), make_index(where))


@pytest.fixture
def world(tmp_path: Path, file_url: Place) -> Iterator[World]:
    ana = started(tmp_path / "ana", file_url, {".env": "KEY=1\n"})
    with ana.repo() as repo, repo.locked():
        remote = repo.remote()
        assert remote.seen
        yield World(file_url, ana, repo, remote)


def sizes(world: World) -> list[tuple[int, int]]:
    return [(each.packs, each.objects) for each in world.seen.root.tables]


def test_nothing_new_makes_no_table(world: World) -> None:
    made = listing.follow(world.remote, world.seen, world.repo.vault)
    assert made == listing.Listing({})
    assert not [key for key in bucket(world.place) if key.startswith("tables/")]


def test_recent_packs_have_one_table(world: World) -> None:
    for n in range(1, 6):
        before = {each.id for each in world.seen.root.tables}
        world.follow(1)
        assert sizes(world) == [(n, 3 * n)]
        assert before.isdisjoint(each.id for each in world.seen.root.tables)
        world.check()


def test_a_full_table_becomes_another_and_they_are_joined(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "RECENT_PACKS", 4)
    most = 0
    for n in range(1, 60):
        world.follow(1)
        assert sum(packs for packs, _ in sizes(world)) == n
        most = max(most, len(world.seen.root.tables))
    world.check()
    assert 1 < most <= listing.OLDER + 1


def test_tables_grow_in_steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A push never makes a large table again, unless there would be too many."""
    monkeypatch.setattr(listing, "RECENT_PACKS", 2)
    monkeypatch.setattr(listing, "_CHEAP", 40)
    written = 0
    for _ in range(60):
        before = {each.id for each in world.seen.root.tables}
        world.follow(1)
        written += sum(each.objects for each in world.seen.root.tables if each.id not in before)
    world.check()
    assert len(world.seen.root.tables) <= listing.OLDER + 1
    # 180 locations, each written some times over; making one table each time takes 5,490.
    assert written < 2500


def test_a_table_with_much_in_it_is_not_recent(world: World) -> None:
    world.follow(1, objects=20_000)
    assert world.seen.root.packs == ()
    assert sizes(world) == [(1, 20_000)]
    world.follow(1)
    assert sizes(world) == [(1, 3), (1, 20_000)]
    world.check()


def test_what_goes_is_dropped_and_then_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "RECENT_PACKS", 4)
    old = world.follow(5)
    recent = world.follow(2)
    names = [each.pack.id for each in (*old, *recent)]
    world.follow(gone=(names[0], names[5]))
    assert world.seen.root.dropped == (names[0],)
    assert sizes(world) == [(1, 3), (5, 15)]
    world.check()
    reader = Reader(world.remote.driver, world.seen, world.repo.vault)
    assert reader.locate(old[0].locations[0].id) is None
    assert reader.locate(recent[0].locations[0].id) is None
    world.follow(gone=(names[1],))
    assert sizes(world) == [(1, 3), (5, 15)]
    assert set(world.seen.root.dropped) == {names[0], names[1]}
    world.follow(compact=True)
    assert sizes(world) == [(4, 12)]
    assert world.seen.root.dropped == ()
    world.check()
    world.follow(gone=tuple(each.id for each in packs_of(world.remote, world.seen)), compact=True)
    assert world.seen.root.tables == ()
    world.check()


def test_too_much_that_was_dropped_makes_one_table(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "RECENT_PACKS", 4)
    monkeypatch.setattr(listing, "MANY_NAMES", 6)
    old = world.follow(20)
    world.follow(1, gone=tuple(each.pack.id for each in old[:7]))
    assert sizes(world) == [(14, 42)]
    assert world.seen.root.dropped == ()
    world.check()


def test_a_copy_in_a_dropped_pack_does_not_hide_the_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "RECENT_PACKS", 1)
    one = claimed()
    twin = Sent(Pack(os.urandom(32).hex(), 1000, 900, 1), one.where)
    made = listing.follow(world.remote, world.seen, world.repo.vault, (one, twin))
    following = root.successor(world.seen.root, **made.changes)
    remember(world.remote, world.remote.swap(world.seen.header, following), (one, twin))
    world.follow(gone=(one.pack.id,))
    reader = Reader(world.remote.driver, world.seen, world.repo.vault)
    found = reader.locate(one.locations[0].id)
    assert found
    assert found.pack == twin.pack.id


def test_a_pack_of_which_nothing_is_known_is_not_listed_as_empty(world: World) -> None:
    (sent,) = world.follow(1)
    with world.repo.database.transaction() as db:
        db.execute("DELETE FROM objects WHERE id = ?", (bytes.fromhex(sent.locations[0].id),))
        db.execute("DELETE FROM objects WHERE id = ?", (bytes.fromhex(sent.locations[1].id),))
        db.execute("DELETE FROM objects WHERE id = ?", (bytes.fromhex(sent.locations[2].id),))
    with pytest.raises(errors.CorruptDatabase, match=sent.pack.id):
        world.follow(1)


# --- what is known of lists -----------------------------------------------------------------


def lists(world: World) -> dict[str, bytes]:
    rows = world.repo.database.connection.execute(
        "SELECT key, value FROM meta WHERE key GLOB 'remote.origin.list.*'"
    )
    return dict(rows.fetchall())


def test_lists_are_remembered_and_read_again_if_need_be(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "RECENT_PACKS", 4)
    world.follow(5)
    expected = packs_of(world.remote, world.seen)
    (key,) = lists(world)
    assert key.endswith(world.seen.root.tables[0].id)
    for value in (b"", b"x", bytes(44)):
        world.repo.database.set(key, value)
        world.remote.lists.clear()
        assert packs_of(world.remote, world.seen) == expected
    world.follow(compact=True)
    (other,) = lists(world)
    assert other != key


def test_a_list_that_is_read_by_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "RECENT_PACKS", 4)
    monkeypatch.setattr(listing, "_RANGE", 1)
    world.follow(1500, objects=1)
    assert world.seen.root.tables[0].lists == 2
    expected = packs_of(world.remote, world.seen)
    world.remote.lists.clear()
    with world.repo.database.transaction() as db:
        db.execute("DELETE FROM meta WHERE key GLOB 'remote.origin.list.*'")
    assert packs_of(world.remote, world.seen) == expected


# --- damage ---------------------------------------------------------------------------------


def table_of(world: World) -> tuple[str, bytes]:
    key = f"tables/{world.seen.root.tables[0].id}"
    return key, bucket(world.place)[key]


@pytest.mark.each_value
@pytest.mark.parametrize("compact", [False, True], ids=["recent", "all"])
@pytest.mark.parametrize("at", [0, -1, None], ids=["page", "footer", "gone"])
def test_a_damaged_table_is_found_and_made_again(
    world: World, at: int | None, compact: bool
) -> None:
    world.follow(3)
    if compact:
        world.follow(compact=True)
    key, data = table_of(world)
    if at is None:
        driver_of(world.place).delete([key])
    else:
        altered = bytearray(data)
        altered[at] ^= 1
        driver_of(world.place).put(key, bytes(altered))
    store = world.repo.store
    where = {e.id: store.locations(e.id, remote="origin") for e in store.packs("origin")}
    (error,) = wrong_tables(world.remote, world.seen, where)
    assert error.args[0] in key
    assert renew(world.remote) == 1
    world.check()
    assert renew(world.remote) == 0
    assert key not in bucket(world.place)


def test_a_table_that_a_member_has_made_wrong_is_made_again(world: World) -> None:
    """Its bytes are what they were written as, but they lie."""
    (sent,) = world.follow(1)
    false = Sent(sent.pack, make_index(at._replace(offset=at.offset + 1) for at in sent.locations))
    made = listing.follow(world.remote, world.seen, world.repo.vault, (false,), (sent.pack.id,))
    following = root.successor(world.seen.root, **made.changes)
    remember(world.remote, world.remote.swap(world.seen.header, following), ())
    assert renew(world.remote) == 1
    world.check()


def test_a_reader_whose_table_goes_away_reads_the_root_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "RECENT_PACKS", 4)
    world.follow(5)
    old = world.seen
    key, _ = table_of(world)
    world.follow(compact=True)
    driver_of(world.place).delete([key])
    world.remote.lists.clear()
    with pytest.raises(errors.CorruptTable, match="gone"):
        Reader(world.remote.driver, old, world.repo.vault).locate("0" * 64)
    with pytest.raises(listing.Moved):
        packs_of(world.remote, old)
    fetch(world.remote)
