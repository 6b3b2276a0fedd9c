"""Rotation: re-encrypt what the remote holds after a key has been retired.

Ids stay, and so do trees and commits: only stored forms change. New packs are uploaded first, then
one swap lists them in place of the old ones, then the old ones are deleted. If a rotation is
interrupted, the repository is in its old or in its new state; both can be read and rotated again.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

from dorky.format.model import ALL, Inline, ObjectId, Pack
from dorky.keys.vault import Vault
from dorky.progress import Progress
from dorky.remote.fetch import fetch_objects
from dorky.remote.journal import Sent
from dorky.remote.listing import follow, packs_of
from dorky.remote.pending_deletes import Condemned, condemn
from dorky.remote.push import SMALL, Stored, build, send
from dorky.remote.root import Remote, RootSnapshot
from dorky.store import history
from dorky.store.contents import below
from dorky.store.objects import Store


class Resealed(NamedTuple):
    """The result of re-encryption.

    Attributes:
        changes: The changes in the root.
        sent: The new packs.
        objects: How many objects were re-encrypted.
        size: How many bytes they have, as stored.
        kept: How many bytes stay in the bucket, of packs with older revisions that keep their old
            encryption.
        blocked: How many bytes stay in the bucket, of packs that should have been replaced, but may
            hold files of groups that the user is not in.
        condemned: The files that the swap condemns.
    """

    changes: dict[str, Any]
    sent: list[Sent]
    objects: int
    size: int
    kept: int
    blocked: int
    condemned: Condemned


def reseal(
    remote: Remote,
    seen: RootSnapshot,
    opened: Vault,
    groups: Collection[str],
    *,
    all_history: bool,
    progress: Progress,
) -> Resealed:
    """Re-encrypt and upload what is reachable from the remote's heads, or all that it holds.

    Args:
        remote: The remote; the local store knows everything that its last seen root lists.
        seen: The last root seen.
        opened: The keys, with the new ones.
        groups: The groups whose keys are new.
        all_history: Whether to re-encrypt old revisions, too.
        progress: Receives the progress.
    """
    store = remote.store
    inline = tuple(
        inlined
        if opened.is_foreign(inlined.data) or opened.is_current(inlined.data)
        else Inline(inlined.kind, inlined.id, opened.renew(inlined.kind, inlined.id, inlined.data))
        for inlined in seen.root.inline
    )
    stale = [old for old, new in zip(seen.root.inline, inline, strict=True) if old is not new]
    there = {inlined.id for inlined in inline}
    packs = packs_of(remote, seen)
    held = {
        packed.id: {at.id: at.length for at in store.locations(packed.id, remote=remote.name)}
        for packed in packs
    }
    heads = sorted(set(seen.root.refs.values()))
    commits = [node.id for node in history.ancestors(store, heads)]
    everything = _reachable(store, commits, opened.groups)
    everything |= {entered.id for entered in history.entries(store, seen.root.team)}
    affected = _reachable(store, commits, groups)
    newest = affected if all_history else _reachable(store, heads, groups)
    all_open = {epoch.group for epoch in seen.header.epochs} <= opened.groups
    wanted: set[ObjectId] = set()
    gone: set[ObjectId] = set()
    blocked: set[ObjectId] = set()
    for name, sizes in held.items():
        if newest.isdisjoint(sizes):
            continue
        if all_open or sizes.keys() <= everything | there:
            # The whole pack goes: otherwise the old copies stay for whoever has the old key.
            wanted |= everything & sizes.keys()
            gone.add(name)
        else:
            blocked.add(name)
    fetch_objects(remote, wanted, progress)
    sent: list[Sent] = []
    # An object that is inline in the root need not be in a pack, too.
    moved = wanted - there
    size = sum(at.length for at in store.locate(moved).values())
    # Old revisions go into packs of their own, which the next rotation can leave alone.
    for part in (moved,) if size < SMALL else (moved & newest, moved - newest):
        send(remote, build(opened, renewed(store, opened, part)), sent, progress, size)
    dropped = [name for name in held if name in gone]
    # One new table: whoever is removed holds the key of the old ones.
    listing = follow(remote, seen, opened, sent, gone, compact=True)
    condemned = condemn(remote, seen.root, dropped, listing.stale)
    old = (packed for packed in packs if packed.id not in gone and packed.id not in blocked)
    kept = sum(packed.size for packed in old if not affected.isdisjoint(held[packed.id]))
    return Resealed(
        {"inline": inline, **listing.changes, **condemned.changes},
        sent,
        len(moved) + len(stale),
        size + sum(len(inlined.data) for inlined in stale),
        kept,
        sum(packed.size for packed in packs if packed.id in blocked),
        condemned,
    )


def retired(remote: Remote, seen: RootSnapshot, packs: Iterable[Pack]) -> set[ObjectId]:
    """Return packs in which something that the newest commits need has a key that is retired.

    Args:
        remote: The remote; the local store knows what the packs hold.
        seen: The root that lists the packs.
        packs: The packs.
    """
    store = remote.store
    began = {epoch.group: n for n, epoch in enumerate(seen.header.epochs)}
    found: set[ObjectId] = set()
    for group in began.keys() & store.vault.groups:
        old = [packed.id for packed in packs if packed.epochs <= began[group]]
        if old:
            needed = _reachable(store, set(seen.root.refs.values()), [group])
            found.update(
                name
                for name in old
                if any(at.id in needed for at in store.locations(name, remote=remote.name))
            )
    return found


def _reachable(store: Store, commits: Iterable[ObjectId], groups: Collection[str]) -> set[ObjectId]:
    """Return commits and all that they hold in the groups, but not the commits before them."""
    heads = list(commits)
    roots = (history.trees_of(store, head, groups).values() for head in heads)
    found, contents = history.below(store, itertools.chain.from_iterable(roots))
    if ALL in groups:
        found.update(heads)
    for pieces in below(store, contents).values():
        found.update(pieces)
    return found


def renewed(store: Store, opened: Vault, ids: Iterable[ObjectId]) -> Iterator[Stored]:
    """Yield local objects in stored form, encrypted with the newest keys, data first.

    Raises:
        CorruptObject: One of them is damaged.
    """
    places = sorted(
        store.locate(ids).values(), key=lambda at: (not at.kind.is_data, at.pack, at.offset)
    )
    for at in places:
        stored = store.stored(at)
        # The old copy is deleted afterwards, so this one must be sound.
        opened.read(at.kind, at.id, stored)
        yield at.kind, at.id, opened.renew(at.kind, at.id, stored)
