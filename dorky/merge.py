"""Merging two lines of commits: what one side changed is taken, what both changed is combined.

Paths are merged three ways: against the best common ancestor. A file that both sides changed is
combined by `threeway`; where that can't be done it is a conflict, for a person to resolve.
"""

from __future__ import annotations

import stat as stat_module
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

import msgspec

from dorky import errors, history, staging
from dorky.database import Database
from dorky.history import MAIN
from dorky.model import ALL, Entry, MiB, ObjectId
from dorky.operations import MERGE
from dorky.paths import parents
from dorky.results import Unmerged
from dorky.roster import GroupOf
from dorky.store import Store, Writer

_BESIDE = ".theirs"
_LARGEST = 4 * MiB

Bring = Callable[[Iterable[Entry]], object]
"""Sees to it that the chunks of files are here."""


class Merged(NamedTuple):
    """Two lines of commits, merged.

    Attributes:
        commit: The merge commit; no ref names it yet. None if there are conflicts.
        trees: What it holds, or what is to be checked out for the conflicts to be resolved.
        sealed: The trees of groups that can't be read here.
        conflicts: Files that a person must look at.
    """

    commit: ObjectId | None
    trees: dict[str, ObjectId]
    sealed: dict[str, ObjectId]
    conflicts: tuple[Unmerged, ...]


class State(msgspec.Struct, frozen=True):
    """A merge in progress.

    Attributes:
        theirs: The commit that is merged into ``HEAD``.
        label: What it is called.
        operation: The operation that began the merge.
        trees: What was checked out for it; in it, files with conflict markers.
        sealed: The trees of groups that can't be read here.
        conflicts: What is not resolved yet.
    """

    theirs: ObjectId
    label: str
    operation: int
    trees: dict[str, ObjectId]
    sealed: dict[str, ObjectId]
    conflicts: tuple[Unmerged, ...]


def load(database: Database) -> State | None:
    """The merge in progress, or None.

    Raises:
        CorruptDatabase: What is noted of it can't be read.
    """
    data = database.get(MERGE)
    try:
        return msgspec.json.decode(data, type=State) if data else None
    except msgspec.MsgspecError as error:
        raise errors.CorruptDatabase(database.path, error) from None


def save(database: Database, state: State | None) -> None:
    """Note how far a merge is; None: it is over."""
    database.set(MERGE, msgspec.json.encode(state) if state else b"")


class _Side(NamedTuple):
    """A file as one commit holds it, and the group whose tree it lies in."""

    group: str
    entry: Entry

    def holds(self, other: _Side | None) -> bool:
        """Whether the other file has the same content and mode. Ids are keyed for each group."""
        if other is None:
            return False
        one, two = self.entry, other.entry
        return (one.mode, one.size, one.sha256) == (two.mode, two.size, two.sha256)


def merge(
    store: Store,
    ours: ObjectId,
    theirs: ObjectId,
    *,
    label: str,
    author: str,
    group_of: GroupOf,
    bring: Bring,
) -> Merged:
    """Store what both sides did since they parted, as a commit unless there are conflicts.

    Args:
        store: Where the commits are.
        ours: The first parent.
        theirs: The second parent.
        label: What to call the other side.
        author: Who merges.
        group_of: Tells whom a file is for that the two sides have for different groups.
        bring: Fetches files that both sides changed.

    Raises:
        Diverged: A name is a file on one side and a directory on the other, or both sides changed
            the files of a group that can't be read here.
        NameClash: Names that differ only in case.
    """
    base = history.merge_base(store, ours, theirs)
    sealed = _sealed_trees(store, base, ours, theirs, label)
    before, our_trees, their_trees = (
        history.trees_of(store, each) for each in (base, ours, theirs)
    )
    done = {each.path for each in history.differences(store, before, our_trees)}
    # Whole, and not looked up one by one: that would read a directory once for each of its files.
    original, merged = (_sides(store, each) for each in (before, our_trees))
    both: dict[str, tuple[_Side | None, _Side | None, _Side | None]] = {}
    for each in history.differences(store, before, their_trees):
        side = _Side(each.group, each.new) if each.new else None
        if each.path in done:
            both[each.path] = original.get(each.path), merged.get(each.path), side
        else:
            _place(merged, each.path, side)
    contested = (side.entry for sides in both.values() for side in sides if side)
    bring(entry for entry in contested if entry.size <= _LARGEST)
    conflicts = []
    with store.writer() as writer:
        for path, sides in both.items():
            found = _both(store, writer, path, sides, label, group_of)
            _place(merged, path, found.side)
            if found.conflict:
                conflicts.append(found.conflict)
        # Only now is it known which names are taken.
        taken = merged.keys() | {above for path in merged for above in parents(path)}
        conflicts = [_beside(merged, taken, each, both[each.path][2]) for each in conflicts]
        _check_names(merged, label)
        placed = ((path, *side) for path, side in merged.items())
        trees = staging.write_placed(placed, writer)
        commit = None
        if not conflicts:
            message = f"Merge {label}"
            commit = history.add_commit(
                writer, {**trees, **sealed}, [ours, theirs], author=author, message=message
            )
        writer.save()
    return Merged(commit, trees, sealed, tuple(sorted(conflicts)))


def _place(merged: dict[str, _Side], path: str, side: _Side | None) -> None:
    if side:
        merged[path] = side
    else:
        merged.pop(path, None)


def _sides(store: Store, trees: history.Trees) -> dict[str, _Side]:
    return {
        path: _Side(group, entry)
        for group, tree in trees.items()
        for path, entry in history.files_of(store, {group: tree})
    }


class _Found(NamedTuple):
    """What becomes of a file, and what is to be decided about it."""

    side: _Side | None
    conflict: Unmerged | None = None


def _both(
    store: Store,
    writer: Writer,
    path: str,
    sides: tuple[_Side | None, _Side | None, _Side | None],
    label: str,
    group_of: GroupOf,
) -> _Found:
    """Merge a file that both sides changed, in content, in mode, or in whom it is for."""
    base, ours, theirs = sides
    if ours is None and theirs is None:
        return _Found(None)
    if ours is None or theirs is None:
        kept = ours or theirs
        if base and base.holds(kept):  # it only went to another group
            return _Found(None)
        return _Found(kept, Unmerged(path=path, why="deleted by them" if ours else "deleted by us"))
    group = _whose(path, ours.group, theirs.group, group_of)
    if theirs.holds(ours) or (base and base.holds(theirs)):
        return _Found(_sealed_for(store, writer, ours, group))
    if base and base.holds(ours):
        return _Found(_sealed_for(store, writer, theirs, group))
    return _combined(store, writer, path, (base, ours, theirs), group, label)


def _whose(path: str, ours: str, theirs: str, group_of: GroupOf) -> str:
    """The group that a merged file is for: never `ALL` if one side has it for fewer...

    ... unless it is for all by now. What one group may read is not for others to merge.
    """
    if ours == theirs:
        return ours
    if (meant := group_of(path)) in {ours, theirs}:
        return meant
    return theirs if ours == ALL else ours


def _combined(
    store: Store,
    writer: Writer,
    path: str,
    sides: tuple[_Side | None, _Side, _Side],
    group: str,
    label: str,
) -> _Found:
    """Combine what both sides made of a file, if it is a text that is not too long."""
    base, ours, theirs = sides
    mode = theirs.entry.mode if base and ours.entry.mode == base.entry.mode else ours.entry.mode
    if theirs.entry.sha256 == ours.entry.sha256 and _are_files(ours, theirs):
        return _Found(_sealed_for(store, writer, _with(ours, mode=mode), group))
    combined = None
    if _are_files(ours, theirs) and max(ours.entry.size, theirs.entry.size) <= _LARGEST:
        original = base if base and _are_files(base) and base.entry.size <= _LARGEST else None
        from dorky import threeway

        combined = threeway.combine(
            path,
            _read(store, original) if original else None,
            _read(store, ours),
            _read(store, theirs),
            ours_label=MAIN,
            theirs_label=label,
        )
    if combined is None:
        return _Found(ours, Unmerged(path=path, why="binary"))
    from dorky import contents

    entry = contents.store_bytes(store, writer, ours.entry.name, mode, combined.data, group=group)
    conflict = Unmerged(path=path, why="changed by both", places=combined.conflicts)
    return _Found(_Side(group, entry), conflict if combined.conflicts else None)


def _are_files(*sides: _Side) -> bool:
    return all(stat_module.S_ISREG(side.entry.mode) for side in sides)


def _with(side: _Side, *, mode: int) -> _Side:
    return side._replace(entry=msgspec.structs.replace(side.entry, mode=mode))


def _read(store: Store, side: _Side) -> bytes:
    from dorky import checkout

    return b"".join(checkout.read(store, side.entry))


def _sealed_for(store: Store, writer: Writer, side: _Side, group: str) -> _Side:
    if side.group == group:
        return side
    from dorky import contents

    return _Side(group, contents.regroup(store, writer, side.entry, group))


def _beside(
    merged: dict[str, _Side], taken: set[str], conflict: Unmerged, theirs: _Side | None
) -> Unmerged:
    """Put the other side's file beside ours, where the two could not become one."""
    if conflict.why != "binary" or theirs is None:
        return conflict
    beside = conflict.path + _BESIDE
    while beside in taken:
        beside += _BESIDE
    taken.add(beside)
    name = beside.rpartition("/")[2]
    merged[beside] = theirs._replace(entry=msgspec.structs.replace(theirs.entry, name=name))
    return msgspec.structs.replace(conflict, beside=beside)


def _check_names(paths: Collection[str], label: str) -> None:
    """Refuse what no directory can hold.

    Raises:
        Diverged: A name is a file and a directory.
        NameClash: Two names differ only in case.
    """
    for path in paths:
        for parent in parents(path):
            if parent in paths:
                hint = "rename yours with mv, stage both names, commit, and pull again"
                raise errors.Diverged(
                    label, f"{parent} is a file here and a directory there, or was", hint=hint
                )
    staging.check_names(paths, (), portable=False)


def _sealed_trees(
    store: Store, base: ObjectId | None, ours: ObjectId, theirs: ObjectId, label: str
) -> dict[str, ObjectId]:
    """The trees of groups that can't be read here, merged as a whole.

    Raises:
        Diverged: Both sides changed the files of such a group.
    """
    base_trees, our_trees, their_trees = (
        history.read_commit(store, each).trees if each else {} for each in (base, ours, theirs)
    )
    found = {}
    for group in (our_trees.keys() | their_trees.keys()) - store.vault.groups:
        before, our, their = (held.get(group) for held in (base_trees, our_trees, their_trees))
        if before not in {our, their} and our != their:
            hint = "somebody in that group has to pull and push"
            what = "both sides changed files of a group that you are not in"
            raise errors.Diverged(label, what, hint=hint)
        merged = their if our == before else our
        if merged:
            found[group] = merged
    return found
