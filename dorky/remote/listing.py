"""Listing: the packs of a repository, and the tables that say where their objects lie.

The root itself lists recent packs; its first table is about them. Other tables list their own
packs. A push replaces the table of recent packs. Once that is full, it becomes one of the others,
joined with those of about its size, so that there are never many. `gc` makes one of all.

A table that a root lists is immutable, like a pack. Every swap uploads its own, under a name that
was never used before, and none is taken over from a swap that was lost.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dorky import errors
from dorky.format.model import (
    MANY_NAMES,
    RECENT_PACKS,
    KiB,
    Location,
    MiB,
    ObjectId,
    Pack,
    Root,
    Table,
)
from dorky.keys.vault import Vault
from dorky.remote.journal import Sent
from dorky.remote.root import TABLES, Remote, RootSnapshot
from dorky.store import table
from dorky.store.table import Held

RECENT_SIZE = 128 * KiB
"""The most bytes of the table of recent packs: each push with a pack uploads all of it."""
OLDER = 4
"""The most other tables."""
_RATIO = 4
_CHEAP = 250_000
"""The most locations of a table that a push makes of its own accord: some 15 MiB."""
_RANGE = 8 * MiB


class Moved(Exception):
    """A listed file is gone because the root has moved on: start over."""


class Listing(NamedTuple):
    """The listing of the root that follows.

    Attributes:
        changes: The changes in the root.
        stale: Tables that it no longer lists.
        made: Tables that were uploaded for it.
    """

    changes: dict[str, Any]
    stale: tuple[ObjectId, ...] = ()
    made: tuple[ObjectId, ...] = ()


# --- reading --------------------------------------------------------------------------------


def older(root: Root) -> tuple[Table, ...]:
    """Return the tables that list their own packs, the newest first."""
    return tuple(entry for entry in root.tables if entry.lists)


def packs_of(remote: Remote, seen: RootSnapshot) -> tuple[Pack, ...]:
    """Return every pack that a root lists, in the order in which they came.

    Lists of tables that are not known yet are read.

    Raises:
        Moved: A table is gone because the root has moved on.
        CorruptTable: A table is damaged or gone.
    """
    dropped = set(seen.root.dropped)
    found: list[Pack] = []
    for entry in reversed(older(seen.root)):
        found += (packed for packed in _list(remote, seen, entry) if packed.id not in dropped)
    return (*found, *seen.root.packs)


def _list(remote: Remote, seen: RootSnapshot, listed: Table) -> tuple[Pack, ...]:
    if (known := remote.list_of(listed)) is not None:
        return known
    vault, space = remote.store.vault, remote.space
    found: list[Pack] = []
    numbers = range(listed.pages, listed.pages + listed.lists)
    for n in numbers:
        page = space.taken(
            table.page_name(listed, n), functools.partial(table.read_list, listed, n, vault=vault)
        )
        if page is None:
            found = []
            break
        found += page
    if not found:
        for n, data in _pages(remote, seen, listed, listed.pages):
            found += table.read_list(listed, n, data, vault)
            space.keep(table.page_name(listed, n), data)
    if len(found) != listed.packs:
        raise errors.CorruptTable(listed.id, f"it lists {len(found)} packs")
    remote.lists[listed.id] = tuple(found)
    return tuple(found)


def _pages(
    remote: Remote, seen: RootSnapshot, listed: Table, first: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Yield the numbers and the bytes of a table's pages from one on, read by large ranges."""
    step = max(1, _RANGE // listed.page)
    last = listed.pages + listed.lists
    for start in range(first, last, step):
        end = min(start + step, last)
        low, high = table.span(listed, start)[0], table.span(listed, end - 1)[1]
        data = read_range(remote, seen, TABLES + listed.id, low, high)
        for n in range(start, end):
            at = (n - start) * listed.page
            yield n, data[at : at + listed.page]


def wrong_tables(
    remote: Remote, seen: RootSnapshot, where: Mapping[ObjectId, Collection[Location]]
) -> Iterator[errors.CorruptTable]:
    """Check the tables that a root lists against what its packs hold.

    Args:
        remote: The remote.
        seen: The root.
        where: What packs hold, by name; what it does not tell of is not checked.

    Yields:
        An error for each table that is damaged, gone or wrong.
    """
    for listed in seen.root.tables:
        try:
            packs = _list(remote, seen, listed) if listed.lists else seen.root.packs
            found: set[tuple[ObjectId, Location]] = set()
            for n, data in _pages(remote, seen, listed):
                if n < listed.pages:
                    places = table.read_page(listed, n, data, remote.store.vault).values()
                    found.update((place.pack, place.at) for batch in places for place in batch)
                else:
                    table.read_list(listed, n, data, remote.store.vault)
            end = listed.size + table.FOOTER
            key = TABLES + listed.id
            if read_range(remote, seen, key, listed.size, end) != table.footer(listed):
                raise errors.CorruptTable(listed.id, "its footer is another")
            wanted = {(packed.id, at) for packed in packs for at in where.get(packed.id, ())}
            if wrong := len(wanted - found):
                raise errors.CorruptTable(listed.id, f"{wrong} locations are wrong")
        except errors.CorruptTable as error:
            yield error


def read_range(remote: Remote, seen: RootSnapshot, key: str, start: int, end: int) -> bytes:
    """Read a range of a pack or table that a root lists.

    Raises:
        Moved: It is gone because the root has moved on.
        MissingPack: The pack is gone.
        CorruptTable: The table is gone, or too short.
        CorruptPack: The pack is too short.
    """
    folder, _, name = key.partition("/")
    try:
        return remote.driver.get_range(key, start, end)
    except errors.BadEndpoint as error:
        # The same endpoint has just returned a root, so the file is too short.
        damaged = errors.CorruptTable if TABLES.startswith(folder) else errors.CorruptPack
        raise damaged(name, f"bytes {start} to {end} can't be read") from error
    except errors.KeyNotFound:
        if remote.read(unless=seen.version) is not None:
            raise Moved from None
        if TABLES.startswith(folder):
            raise errors.CorruptTable(name, "it is gone") from None
        raise errors.MissingPack(name, remote.url) from None


# --- writing --------------------------------------------------------------------------------


def follow(
    remote: Remote,
    seen: RootSnapshot | None,
    vault: Vault,
    added: Sequence[Sent] = (),
    gone: Collection[ObjectId] = (),
    *,
    compact: bool = False,
) -> Listing:
    """Make and upload the tables of the root that follows.

    Every pack that is added **must** be durable in the remote.

    Args:
        remote: The remote; the local store knows what the packs of its last seen root hold.
        seen: The root to replace; None if there is none.
        vault: Encrypts the tables.
        added: The packs to list.
        gone: The listed packs to list no more.
        compact: Whether to make one new table of all.
    """
    root = seen.root if seen else None
    before = root.tables if root else ()
    if not (added or gone or compact):
        return Listing({})
    recent = [packed for packed in (root.packs if root else ()) if packed.id not in gone]
    same = root is not None and not added and len(recent) == len(root.packs)
    recent += [upload.pack for upload in added]
    others = [
        (entry, _list(remote, seen, entry)) for entry in (older(root) if root else ()) if seen
    ]
    dropped = {*(root.dropped if root else ()), *gone}
    dropped &= {packed.id for _, packs in others for packed in packs}

    def lives(packs: Iterable[Pack]) -> list[Pack]:
        return [packed for packed in packs if packed.id not in dropped]

    made: list[Table] = []

    def make(packs: Sequence[Pack], *, lists: bool) -> Table:
        new, data = table.build(_held(remote, packs, added), vault, lists=lists)
        if lists:
            remote.lists[new.id] = tuple(packs)
        remote.driver.put(TABLES + new.id, data)
        made.append(new)
        return new

    if compact or len(dropped) > MANY_NAMES:
        packs = [packed for _, listed in reversed(others) for packed in lives(listed)] + recent
        others, recent = [], []
        tables = [make(packs, lists=True)] if packs else []
    elif same:
        tables = list(before)
    elif len(recent) <= RECENT_PACKS and _size(remote, recent, added) <= RECENT_SIZE:
        tables = [make(recent, lists=False)] if recent else []
        tables += [entry for entry, _ in others]
    else:
        for listed in _neighbours(others, _objects(remote, recent, added)):
            recent = lives(listed) + recent
        tables = [make(recent, lists=True), *(entry for entry, _ in others)]
        recent = []
    dropped &= {packed.id for _, packs in others for packed in packs}
    names = {entry.id for entry in tables}
    return Listing(
        {"packs": tuple(recent), "tables": tuple(tables), "dropped": tuple(sorted(dropped))},
        tuple(entry.id for entry in before if entry.id not in names),
        tuple(entry.id for entry in made),
    )


def _neighbours(
    others: list[tuple[Table, tuple[Pack, ...]]], count: int
) -> Iterator[Sequence[Pack]]:
    """Yield, and remove, the lists of those tables that a new one of so many locations joins."""
    while others:
        objects = others[0][0].objects
        close = objects <= _RATIO * count and objects + count <= _CHEAP
        if not close and len(others) < OLDER:
            return
        yield others.pop(0)[1]
        count += objects


def _objects(remote: Remote, packs: Iterable[Pack], added: Iterable[Sent]) -> int:
    return sum(len(list(where)) for _, where in _held(remote, packs, added))


def _size(remote: Remote, packs: Sequence[Pack], added: Iterable[Sent]) -> int:
    return table.most(_objects(remote, packs, added), len(packs))


def _held(remote: Remote, packs: Iterable[Pack], added: Iterable[Sent]) -> Iterator[Held]:
    """Yield what packs hold, as the local store knows it.

    Raises:
        CorruptDatabase: It does not know.
    """
    own = {upload.pack.id: upload for upload in added}
    for packed in packs:
        sent = own.get(packed.id)
        where = sent.locations if sent else remote.store.locations(packed.id, remote=remote.name)
        if not where:
            path = remote.store.database.path
            raise errors.CorruptDatabase(path, f"it does not know what pack {packed.id} holds")
        yield packed, where
