"""Merging two lines of commits: a change of one side is taken, changes of both are combined.

Paths are merged three ways, against the best common ancestor. `threeway` combines a file that both
sides changed; where that is impossible the file is a conflict, for a person to resolve.
"""

from __future__ import annotations

import stat as stat_module
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec

from dorky import errors
from dorky.format.model import ALL, Entry, MiB, ObjectId, Roster
from dorky.keys import placement
from dorky.keys.placement import Owner
from dorky.paths import parents
from dorky.results import Unmerged
from dorky.store import history, projection
from dorky.store.database import Database
from dorky.store.history import MAIN, Placed
from dorky.store.index import Row
from dorky.store.objects import Store, Writer
from dorky.store.oplog import MERGE
from dorky.store.projection import View
from dorky.worktree import staging

_BESIDE = ".theirs"
_LARGEST = 4 * MiB

Bring = Callable[[Iterable[Entry]], object]
"""Fetches the chunks of files into the local store."""


class Merged(NamedTuple):
    """The merge of two lines of commits.

    Attributes:
        commit: The merge commit, which no ref names yet. None if there are conflicts.
        trees: Its trees, or those to check out for the conflicts to be resolved.
        sealed: The trees of groups that the user can't read.
        conflicts: Files that a person must look at.
        left: Our files that are not in their owner's tree, and stay as they are.
        dropped: Groups whose trees the other side has left out; ``trees`` has them.
    """

    commit: ObjectId | None
    trees: dict[str, ObjectId]
    sealed: dict[str, ObjectId]
    conflicts: tuple[Unmerged, ...]
    left: frozenset[str] = frozenset()
    dropped: tuple[str, ...] = ()


class State(msgspec.Struct, frozen=True):
    """A merge in progress.

    Attributes:
        theirs: The commit that is merged into ``HEAD``.
        label: Its name for the user.
        operation: The operation that began the merge.
        trees: The trees that were checked out for it, with conflict markers in files.
        sealed: The trees of groups that the user can't read.
        conflicts: The conflicts that are not resolved yet.
    """

    theirs: ObjectId
    label: str
    operation: int
    trees: dict[str, ObjectId]
    sealed: dict[str, ObjectId]
    conflicts: tuple[Unmerged, ...]


def load(database: Database) -> State | None:
    """Return the merge in progress, or None.

    Raises:
        CorruptDatabase: The record of it can't be read.
    """
    data = database.get(MERGE)
    try:
        return msgspec.json.decode(data, type=State) if data else None
    except msgspec.MsgspecError as error:
        raise errors.CorruptDatabase(database.path, error) from None


def save(database: Database, state: State | None) -> None:
    """Record the state of a merge; None records its end."""
    database.set(MERGE, msgspec.json.encode(state) if state else b"")


def _same(one: Placed | None, other: Placed | None) -> bool:
    """Return whether two files have the same content and mode. Ids differ by group."""
    if one is None or other is None:
        return False
    first, second = one.entry, other.entry
    return (first.mode, first.size, first.sha256) == (second.mode, second.size, second.sha256)


class _Three(NamedTuple):
    """A file in the common ancestor, on our side and on their side."""

    base: Placed | None
    ours: Placed | None
    theirs: Placed | None


class _Ours(NamedTuple):
    """Our changes to files outside the trees of their owners.

    They were committed before the owner was known, and nobody else has them.

    Attributes:
        adopted: Files that belong to a group of the user's which has no further readers: they count
            as committed for it; each with the version of the common ancestor.
        left: Other files, which stay in the tree where they are.
        conflicts: Those of ``left`` that their side changed, too.
    """

    adopted: dict[str, tuple[Placed, Placed | None]]
    left: dict[str, Placed]
    conflicts: list[Unmerged]


def merge(
    store: Store,
    ours: ObjectId,
    theirs: ObjectId,
    *,
    label: str,
    author: str,
    known: Roster,
    rows: Mapping[str, Row],
    bring: Bring,
) -> Merged:
    """Store the changes of both sides since they diverged, as a commit if there are no conflicts.

    Today's roster decides which entries of each commit count, and the result is encrypted for the
    owners of its paths. Contested files stay in their trees, as the side that changed them has
    left them.

    Args:
        store: The store that holds the commits.
        ours: The first parent.
        theirs: The second parent.
        label: The name of the other side for the user.
        author: The author of the merge.
        known: The roster, which gives the owners of paths.
        rows: The staged files: only these are ours, whatever our commits hold.
        bring: Fetches files that both sides changed.

    Raises:
        Diverged: A name is a file on one side and a directory on the other, or both sides changed
            contested files, or the files of a group that the user can't read.
        NameClash: Names differ only in case.
    """
    owner = placement.owner(known)
    living = {group.id for group in known.groups if group.patterns}
    base = history.merge_base(store, ours, theirs)
    sealed = _sealed_trees(store, base, ours, theirs, label, living)
    before, our_view = (
        View(store, history.trees_of(store, commit), owner) for commit in (base, ours)
    )
    their_view = View(store, history.trees_of(store, theirs), owner)
    their_view, dropped = without_drops(before, their_view, living)
    merged, both, own = _compared(before, our_view, their_view, rows)
    contested = (side.entry for sides in both.values() for side in sides if side)
    adopted = (merged[path].entry for path in own.adopted.keys() & merged.keys())
    bring(entry for entry in (*contested, *adopted) if entry.size <= _LARGEST)
    conflicts = []
    with store.writer() as writer:
        for path, sides in both.items():
            found = _both(store, writer, path, sides, label, owner)
            _place(merged, path, found.side)
            if found.conflict:
                conflicts.append(found.conflict)
        for path in own.adopted.keys() & merged.keys() - both.keys():
            merged[path] = _sealed_for(store, writer, merged[path], owner(path) or ALL)
        if living:
            held = [(path, each.group) for path, each in merged.items()]
            counted, _ = placement.projected(owner, held)
            merged = {path: merged[path] for path, _ in counted}
            conflicts = [each for each in conflicts if each.path in merged]
        # The names in use are known only after all paths are merged.
        taken = merged.keys() | {above for path in merged for above in parents(path)}
        conflicts = [
            _beside(merged, taken, each, both[each.path].theirs, owner) for each in conflicts
        ]
        apart = [*own.left.items()]
        if placement.is_contested(known):
            apart += _frozen(before, our_view, their_view, label)
        _check_names(merged.keys(), label)
        # These files are on no disk: each must only fit into its own tree.
        for group in {placed.group for _, placed in apart}:
            tree = (path for path, side in (*merged.items(), *apart) if side.group == group)
            _check_names({*tree}, label)
        items = ((path, *side) for path, side in (*merged.items(), *apart))
        kept = living & (our_view.trees.keys() | their_view.trees.keys())
        trees = staging.write_placed(items, writer, kept)
        conflicts += own.conflicts
        commit = None
        if not conflicts:
            message = f"Merge {label}"
            commit = history.add_commit(
                writer, {**trees, **sealed}, [ours, theirs], author=author, message=message
            )
        writer.save()
    left = frozenset(own.left)
    return Merged(commit, trees, sealed, tuple(sorted(conflicts)), left, tuple(dropped))


def _compared(
    before: View, our_view: View, their_view: View, rows: Mapping[str, Row]
) -> tuple[dict[str, Placed], dict[str, _Three], _Ours]:
    """Return the changes that one side alone made, the files that both changed, and our own."""
    done = {each.path for each in projection.differences(before, our_view)}
    # Read whole: single look-ups would read a directory once for each of its files.
    original, merged = (dict(view.files()) for view in (before, our_view))
    own = _ours(before, our_view, their_view, rows)
    for path, (placed, was) in own.adopted.items():
        if path not in merged:
            merged[path] = placed
            done.add(path)
            if was and path not in original:
                original[path] = was
    both: dict[str, _Three] = {}
    for each in projection.differences(before, their_view):
        side = Placed(each.group, each.new) if each.new else None
        if each.path in done:
            both[each.path] = _Three(original.get(each.path), merged.get(each.path), side)
        elif each.path not in own.left:
            _place(merged, each.path, side)
    return merged, both, own


def unpushed(
    store: Store, ours: ObjectId | None, theirs: ObjectId | None, known: Roster
) -> frozenset[str]:
    """Return the files that only our side has committed outside the trees of their owners."""
    owner = placement.owner(known)
    before, after = (View(store, history.trees_of(store, each), owner) for each in (theirs, ours))
    return frozenset(
        path
        for group, path, _, now in projection.changed(before, after)
        if now and owner(path) not in {group, None}
    )


def without_drops(old: View, new: View, living: Collection[str]) -> tuple[View, list[str]]:
    """Return a commit with the trees of living groups that it leaves out, and those groups.

    Members leave an empty tree when no files are left. So a missing tree was most likely left out
    by somebody who can't read it, and its files stay as they are.
    """
    gone = old.trees.keys() & set(living) - new.trees.keys()
    if not gone:
        return new, []
    kept = {group: old.trees[group] for group in gone}
    missed = {placed.group for _, placed in View(old.store, kept, old.owner).files()}
    return View(new.store, {**kept, **new.trees}, new.owner), sorted(missed)


def _ours(before: View, our_view: View, their_view: View, rows: Mapping[str, Row]) -> _Ours:
    """Return our side's changes outside the trees of the files' owners."""
    found = _Ours({}, {}, [])
    owner, readable = our_view.owner, our_view.store.vault.groups
    assert owner is not None
    apart = {
        (group, path): (was, now)
        for group, path, was, now in projection.changed(before, our_view)
        if now and owner(path) not in {group, None} and path in rows and rows[path].group == group
    }
    others = dict(their_view.files({path for _, path in apart})) if apart else {}
    theirs = {
        (group, path): now
        for group, path, _, now in (projection.changed(before, their_view) if apart else ())
    }
    for (group, path), (was, now) in apart.items():
        placed = Placed(group, now)
        target = owner(path)
        assert target is not None
        other = others.get(path)
        if target in readable and not placement.is_widening(group, target):
            found.adopted[path] = placed, Placed(group, was) if was else None
        elif not _same(placed, other):
            found.left[path] = placed
            if other:
                found.conflicts.append(Unmerged(path=path, why="closed"))
            elif was and theirs.get((group, path), was) is None:
                found.conflicts.append(Unmerged(path=path, why="deleted by them"))
    return found


def _frozen(before: View, our_view: View, their_view: View, label: str) -> list[tuple[str, Placed]]:
    """Return the contested files, in their trees, as one side has left them.

    Raises:
        Diverged: Both sides changed one.
    """
    held = {
        (path, placed.group): placed
        for path, placed, why in our_view.walk()
        if why and why.owner is None
    }
    owner = our_view.owner
    assert owner is not None
    ours = {
        (path, group): now
        for group, path, _, now in projection.changed(before, our_view)
        if owner(path) is None
    }
    for group, path, _, now in projection.changed(before, their_view):
        if owner(path) is not None:
            continue
        if (path, group) in ours and ours[path, group] != now:
            what = f"both sides changed {path}, which several groups claim"
            raise errors.Diverged(label, what, over="contested")
        held.pop((path, group), None)
        if now:
            held[path, group] = Placed(group, now)
    return [(path, placed) for (path, _), placed in held.items()]


def _place(merged: dict[str, Placed], path: str, side: Placed | None) -> None:
    if side:
        merged[path] = side
    else:
        merged.pop(path, None)


class _Found(NamedTuple):
    """The merged version of a file, and the conflict, if any."""

    side: Placed | None
    conflict: Unmerged | None = None


def _both(
    store: Store, writer: Writer, path: str, sides: _Three, label: str, owner: Owner
) -> _Found:
    """Merge a file that both sides changed, in content, in mode, or in its group."""
    base, ours, theirs = sides
    if ours is None and theirs is None:
        return _Found(None)
    group = owner(path)
    assert group is not None  # no contested path counts
    if ours is None or theirs is None:
        kept = ours or theirs
        if base and _same(base, kept):  # it only moved to another group
            return _Found(None)
        why: Literal["deleted by them", "deleted by us"]
        why = "deleted by them" if ours else "deleted by us"
        assert kept is not None
        return _Found(_sealed_for(store, writer, kept, group), Unmerged(path=path, why=why))
    if _same(theirs, ours) or _same(base, theirs):
        return _Found(_sealed_for(store, writer, ours, group))
    if _same(base, ours):
        return _Found(_sealed_for(store, writer, theirs, group))
    return _combined(store, writer, path, sides, group, label)


def _combined(
    store: Store, writer: Writer, path: str, sides: _Three, group: str, label: str
) -> _Found:
    """Combine two versions of a file, if it is a text that is not too long."""
    base, ours, theirs = sides
    assert ours is not None
    assert theirs is not None
    mode = theirs.entry.mode if base and ours.entry.mode == base.entry.mode else ours.entry.mode
    if theirs.entry.sha256 == ours.entry.sha256 and _are_files(ours, theirs):
        return _Found(_sealed_for(store, writer, _with(ours, mode=mode), group))
    combined = None
    if _are_files(ours, theirs) and max(ours.entry.size, theirs.entry.size) <= _LARGEST:
        original = base if base and _are_files(base) and base.entry.size <= _LARGEST else None
        from dorky.merge import threeway

        combined = threeway.combine(
            path,
            _read(store, original) if original else None,
            _read(store, ours),
            _read(store, theirs),
            ours_label=MAIN,
            theirs_label=label,
        )
    if combined is None:
        return _Found(_sealed_for(store, writer, ours, group), Unmerged(path=path, why="binary"))
    from dorky.worktree import ingest

    entry = ingest.store_bytes(store, writer, ours.entry.name, mode, combined.data, group=group)
    conflict = Unmerged(path=path, why="changed by both", places=combined.conflicts)
    return _Found(Placed(group, entry), conflict if combined.conflicts else None)


def _are_files(*sides: Placed) -> bool:
    return all(stat_module.S_ISREG(side.entry.mode) for side in sides)


def _with(side: Placed, *, mode: int) -> Placed:
    return side._replace(entry=msgspec.structs.replace(side.entry, mode=mode))


def _read(store: Store, side: Placed) -> bytes:
    from dorky.worktree import checkout

    return b"".join(checkout.read(store, side.entry, side.group))


def _sealed_for(store: Store, writer: Writer, side: Placed, group: str) -> Placed:
    if side.group == group:
        return side
    from dorky.worktree import ingest

    return Placed(group, ingest.regroup(store, writer, side.entry, group, source=side.group))


def _beside(
    merged: dict[str, Placed],
    taken: set[str],
    conflict: Unmerged,
    theirs: Placed | None,
    owner: Owner,
) -> Unmerged:
    """Put the other side's file next to ours, if the two can't be combined.

    If that name belongs to another group, their version is available only by
    ``resolve --theirs``.
    """
    if conflict.why != "binary" or theirs is None:
        return conflict
    beside = conflict.path + _BESIDE
    while beside in taken:
        beside += _BESIDE
    if owner(beside) != theirs.group:
        return conflict
    taken.add(beside)
    name = beside.rpartition("/")[2]
    merged[beside] = theirs._replace(entry=msgspec.structs.replace(theirs.entry, name=name))
    return msgspec.structs.replace(conflict, beside=beside)


def _check_names(paths: Collection[str], label: str) -> None:
    """Refuse names that no directory can hold together.

    Raises:
        Diverged: A name is a file and a directory.
        NameClash: Two names differ only in case.
    """
    for path in paths:
        for parent in parents(path):
            if parent in paths:
                what = f"{parent} is a file here and a directory there, or was"
                raise errors.Diverged(label, what, over="names")
    staging.check_names(paths, (), portable=False)


def _sealed_trees(
    store: Store,
    base: ObjectId | None,
    ours: ObjectId,
    theirs: ObjectId,
    label: str,
    living: Collection[str],
) -> dict[str, ObjectId]:
    """Return the trees of groups that the user can't read, each merged as a whole.

    Raises:
        Diverged: Both sides changed the files of such a group.
    """
    base_trees, our_trees, their_trees = (
        history.read_commit(store, each).trees if each else {} for each in (base, ours, theirs)
    )
    found = {}
    for group in (our_trees.keys() | their_trees.keys()) - store.vault.groups:
        before, our, their = (held.get(group) for held in (base_trees, our_trees, their_trees))
        if group in living:  # see `without_drops`
            our, their = our or before, their or before
        if before not in {our, their} and our != their:
            what = "both sides changed files of a group that you are not in"
            raise errors.Diverged(label, what, over="left group")
        merged = their if our == before else our
        if merged:
            found[group] = merged
    return found
