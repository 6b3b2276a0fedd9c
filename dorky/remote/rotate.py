"""Sealing anew what the remote holds, after a key has been retired.

Ids stay, and so do trees and commits: only stored forms change. New packs are uploaded first, then
one swap lists them in place of the old ones, then those are deleted: interrupted anywhere, the
repository is in one of two states, and both can be read and rotated again.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

from dorky.format.model import ALL, Inline, ObjectId
from dorky.keys.vault import Vault
from dorky.progress import Progress
from dorky.remote.fetch import fetch_objects
from dorky.remote.journal import Sent
from dorky.remote.pending_deletes import condemn
from dorky.remote.push import Stored, build, send
from dorky.remote.root import Remote, RootSnapshot
from dorky.store import history
from dorky.store.objects import Store


class Resealed(NamedTuple):
    """What sealing anew comes to.

    Attributes:
        changes: What changes in the root.
        sent: The new packs.
        objects: How many objects were sealed anew.
        size: How many bytes of them, as stored.
        kept: How many bytes stay in the bucket, of packs in which something is sealed as before.
    """

    changes: dict[str, Any]
    sent: list[Sent]
    objects: int
    size: int
    kept: int


def reseal(
    remote: Remote,
    seen: RootSnapshot,
    opened: Vault,
    groups: Collection[str],
    *,
    all_history: bool,
    progress: Progress,
) -> Resealed:
    """Seal anew and upload what is reachable from the remote's heads, or all that it holds.

    Args:
        remote: Where; its root, as last seen, lists nothing that is unknown here.
        seen: That root.
        opened: The keys, with the new ones.
        groups: Whose keys are new.
        all_history: Whether to seal old revisions anew, too.
        progress: Is told about it.
    """
    store = remote.store
    inline = tuple(
        each
        if opened.is_foreign(each.data) or opened.is_current(each.data)
        else Inline(each.kind, each.id, opened.renew(each.kind, each.id, each.data))
        for each in seen.root.inline
    )
    stale = [old for old, new in zip(seen.root.inline, inline, strict=True) if old is not new]
    there = {each.id for each in inline}
    held = {
        packed.id: {at.id: at.length for at in store.locations(packed.id, remote=remote.name)}
        for packed in seen.root.packs
    }
    heads = sorted(set(seen.root.refs.values()))
    commits = [node.id for node in history.ancestors(store, heads)]
    everything = _reachable(store, commits, opened.groups)
    affected = _reachable(store, commits, groups)
    newest = everything if all_history else _reachable(store, heads, groups)
    wanted: set[ObjectId] = set()
    for sizes in held.values():
        needed = newest.intersection(sizes)
        # A pack that is half needed goes as a whole, else a single old commit in it would keep
        # everything beside it in the bucket, sealed with the old key.
        if 2 * sum(sizes[each] for each in needed) >= sum(sizes.values()):
            needed = everything.intersection(sizes)
        wanted |= needed
    fetch_objects(remote, wanted, progress)
    sent: list[Sent] = []
    size = sum(at.length for at in store.locate(wanted).values())
    # What rides in the root as well need not be in a pack, too.
    packs = build(opened, renewed(store, opened, wanted - there))
    send(remote, packs, sent, progress, size)
    # A pack may go if nothing is in it but what is now elsewhere.
    dropped = [name for name, sizes in held.items() if sizes.keys() <= wanted | there]
    gone = set(dropped)
    kept = [each for each in seen.root.packs if each.id not in gone]
    return Resealed(
        {
            "inline": inline,
            "packs": (*kept, *(each.pack for each in sent)),
            **condemn(remote, seen.root, dropped),
        },
        sent,
        len(wanted - there) + len(stale),
        size + sum(len(each.data) for each in stale),
        sum(each.size for each in kept if not affected.isdisjoint(held[each.id])),
    )


def _reachable(store: Store, commits: Iterable[ObjectId], groups: Collection[str]) -> set[ObjectId]:
    """Commits and all that they hold in the groups; not the commits before them."""
    heads = list(commits)
    roots = (history.trees_of(store, each, groups).values() for each in heads)
    found, contents = history.below(store, itertools.chain.from_iterable(roots))
    if ALL in groups:
        found.update(heads)
    for content, pieces in history.chunks_of(store, contents).items():
        found.update([content, *pieces])
    return found


def renewed(store: Store, opened: Vault, ids: Iterable[ObjectId]) -> Iterator[Stored]:
    """Objects that are held here, for a pack of now: sealed with newest keys, data first.

    Raises:
        CorruptObject: One of them is damaged.
    """
    places = sorted(
        store.locate(ids).values(), key=lambda at: (not at.kind.is_data, at.pack, at.offset)
    )
    for at in places:
        stored = store.stored(at)
        # What is replaced by this is deleted: it must be sound.
        opened.read(at.kind, at.id, stored)
        yield at.kind, at.id, opened.renew(at.kind, at.id, stored)
