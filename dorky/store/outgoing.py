"""The push rule: find the files of new commits that lie where they do not belong.

A file that a commit adds or changes must lie in the tree of the group that owns its path, and its
content must be encrypted for that group. The owner comes from the roster that the swap writes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from dorky import errors
from dorky.format.model import ALL, Entry, ObjectId, Roster
from dorky.keys import placement, roster
from dorky.keys.placement import Owner
from dorky.store import history
from dorky.store.contents import below
from dorky.store.history import Node
from dorky.store.objects import Store

_KEY_ID = 16
"""The number of bytes of a stored object that name the group it is encrypted for."""


class Stray(NamedTuple):
    """A file that a commit adds or changes, and that does not lie where it belongs.

    Attributes:
        path: The path in the repository.
        entry: The commit's entry.
        tree: The group in whose tree the file lies.
        owner: The group that owns the path; None if several claim it. The same as ``tree`` if only
            the content is encrypted for others.
    """

    path: str
    entry: Entry
    tree: str
    owner: str | None


def strays(store: Store, node: Node, owner_of: Owner) -> Iterator[Stray]:
    """Yield the files of a commit that lie where they do not belong, except those of a parent.

    Trees of groups that the user can't read are skipped: they came from the remote.
    """
    parents = [history.read_commit(store, parent).trees for parent in node.commit.parents]
    for group in sorted(node.commit.trees.keys() & store.vault.groups):
        first = parents[0].get(group) if parents else None
        if first == node.commit.trees[group]:
            continue
        before = {group: first} if first else {}
        placed: dict[str, Entry] = {}
        for change in history.differences(store, before, {group: node.commit.trees[group]}):
            if change.new is None or _has(store, parents[1:], group, change.path, change.new):
                continue
            owner = owner_of(change.path)
            if owner == group:
                placed[change.path] = change.new
            else:
                yield Stray(change.path, change.new, group, owner)
        readers = _readers(store, {entry.content for entry in placed.values()})
        for path, entry in placed.items():
            if readers.get(entry.content, group) != group:
                yield Stray(path, entry, group, group)


def _has(
    store: Store, commits: Iterable[history.Trees], group: str, path: str, entry: Entry
) -> bool:
    """Return whether one of some commits holds exactly this entry at a path of a group's tree."""
    return any(
        entry in history.lookup(store, {group: trees[group]}, path)
        for trees in commits
        if group in trees
    )


def _readers(store: Store, contents: Collection[ObjectId]) -> dict[ObjectId, str]:
    """Return the group that each content is encrypted for.

    Of the pieces of a large file, the first one that differs counts. A content that only the remote
    holds is left out: no push sends it.
    """
    pieces = below(store, contents)
    places = store.locate({object_id for held in pieces.values() for object_id in held})
    groups = {
        object_id: store.vault.group_of(store.stored(at._replace(length=min(at.length, _KEY_ID))))
        or ""
        for object_id, at in places.items()
    }
    found: dict[ObjectId, str] = {}
    for content, held in pieces.items():
        own = [groups[object_id] for object_id in held if object_id in groups]
        if own:
            found[content] = next((group for group in own if group != own[0]), own[0])
    return found


def check(
    store: Store,
    heads: Collection[ObjectId],
    nodes: Iterable[Node],
    known: Roster,
    owner_of: Owner,
) -> None:
    """Refuse commits that a push must not add.

    Args:
        store: The store that holds the commits.
        heads: The newest of the commits.
        nodes: The commits.
        known: The roster that the swap is going to write.
        owner_of: Returns the owner of a path by it.

    Raises:
        Misplaced: A file lies in another tree than its owner's, or is encrypted for others.
        AmbiguousGroup: Several groups claim the path of a new or changed file.
    """
    if not known.groups:
        return
    for node in nodes:
        for stray in strays(store, node, owner_of):
            raise refusal(store, heads, node.id, stray, known)


def is_held(store: Store, heads: Iterable[ObjectId], stray: Stray) -> bool:
    """Return whether one of some commits holds a file at a stray's path in the stray's tree."""
    held = (history.read_commit(store, head).trees for head in heads)
    return any(
        history.lookup(store, {stray.tree: trees[stray.tree]}, stray.path)
        for trees in held
        if stray.tree in trees
    )


def refusal(
    store: Store, heads: Collection[ObjectId], commit: ObjectId, stray: Stray, known: Roster
) -> errors.DorkyError:
    """Return the error that says what is wrong with a file, and who can repair it."""
    if stray.owner is None:
        return contested(known, stray.path)
    error = errors.Misplaced(stray.path, audience(known, stray.owner), commit[:10])
    if stray.owner not in store.vault.groups and is_held(store, heads, stray):
        readers = roster.readers(known, stray.owner)
        error.facts["heirs"] = ", ".join(member.name for member in readers)
    return error


def would_open(stray: Stray, known: Roster) -> errors.WouldOpen:
    """Return the error for a closed group's file that now belongs to other readers."""
    old, new = (roster.name_of(known, group or ALL) for group in (stray.tree, stray.owner))
    return errors.WouldOpen(stray.path, old, new, committed=True)


def contested(known: Roster, path: str) -> errors.AmbiguousGroup:
    """Return the error for a path that several groups claim."""
    one, other = placement.claimants(known, path)[:2]
    return errors.AmbiguousGroup(path, one.name, other.name)


def audience(known: Roster, group: str) -> str:
    """Return the name that messages use for the readers of a group."""
    return "everybody" if group == ALL else f"the group {roster.name_of(known, group)}"
