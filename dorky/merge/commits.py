"""Merging two lines of commits: a change of one side is taken, changes of both are combined.

Paths are merged three ways, against the best common ancestor. `entries` merges a file that both
sides changed; where that is impossible the file is a conflict, for a person to resolve.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Set
from typing import TYPE_CHECKING, NamedTuple

from dorky import errors
from dorky.format.model import ALL, Entry, ObjectId, Roster
from dorky.keys import placement
from dorky.keys.placement import Owner
from dorky.paths import parents
from dorky.results import Unmerged
from dorky.store import history, projection
from dorky.store.history import Placed, Trees
from dorky.store.index import Row
from dorky.store.objects import Store
from dorky.store.projection import View
from dorky.worktree import staging

if TYPE_CHECKING:
    # A pull that only follows the other side needs none of it.
    from dorky.merge.entries import Bring, Files, Sides


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


class _Trees(NamedTuple):
    """The trees of the common ancestor, and of both sides, by group."""

    base: Trees
    ours: Trees
    theirs: Trees


class _Views(NamedTuple):
    """What counts of the common ancestor, and of both sides."""

    base: View
    ours: View
    theirs: View


class _Misplaced(NamedTuple):
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
    from dorky.merge import bases, entries

    owner = placement.owner(known)
    living = {group.id for group in known.groups if group.patterns}
    base = bases.ancestor(store, ours, theirs, living, bring)
    all_trees = _Trees(base, *(history.read_commit(store, side).trees for side in (ours, theirs)))
    sealed = _sealed_trees(store, all_trees, label, living)
    views, dropped = _views(store, all_trees, owner, living)
    changes = _compare(views, rows)
    bring(entry for entry in changes.contested() if entry.size <= entries.LARGEST)
    with store.writer() as writer:
        merged, conflicts = _merge_files(
            entries.Files(store, writer, owner, label), changes, living
        )
        # These files are on no disk: each must only fit into its own tree.
        apart = [*changes.misplaced.left.items()]
        if placement.is_contested(known):
            apart += _frozen(views, label)
        _check_names(merged.keys(), views.theirs, label)
        for group in {placed.group for _, placed in apart}:
            tree = (path for path, side in (*merged.items(), *apart) if side.group == group)
            _check_names({*tree}, views.theirs, label)
        items = ((path, *side) for path, side in (*merged.items(), *apart))
        kept = living & (views.ours.trees.keys() | views.theirs.trees.keys())
        trees = staging.write_placed(items, writer, kept)
        conflicts += changes.misplaced.conflicts
        commit = None
        if not conflicts:
            message = f"Merge {label}"
            commit = history.add_commit(
                writer, {**trees, **sealed}, [ours, theirs], author=author, message=message
            )
        writer.save()
    left = frozenset(changes.misplaced.left)
    return Merged(commit, trees, sealed, tuple(sorted(conflicts)), left, tuple(dropped))


def _views(
    store: Store, trees: _Trees, owner: Owner, living: Collection[str]
) -> tuple[_Views, list[str]]:
    """Return what counts of the trees, and the groups whose trees the other side left out."""
    opened = store.vault.groups
    base, ours, theirs = (
        View(store, {group: side[group] for group in history.in_order(side.keys() & opened)}, owner)
        for side in trees
    )
    theirs, dropped = without_drops(base, theirs, living)
    return _Views(base, ours, theirs), dropped


class _Changes(NamedTuple):
    """The changes of both sides since their common ancestor.

    Attributes:
        merged: Our files, with the changes that their side alone made.
        both: The files that both sides changed.
        misplaced: Our changes outside the trees of the files' owners.
    """

    merged: dict[str, Placed]
    both: dict[str, Sides]
    misplaced: _Misplaced

    def adopted(self) -> Collection[str]:
        """Return our misplaced files that are encrypted for their owner now."""
        return self.misplaced.adopted.keys() & self.merged.keys()

    def contested(self) -> Iterator[Entry]:
        """Yield the files whose content the merge may have to read."""
        for sides in self.both.values():
            yield from (side.entry for side in sides if side)
        yield from (self.merged[path].entry for path in self.adopted())


def _compare(views: _Views, rows: Mapping[str, Row]) -> _Changes:
    """Return the changes of both sides, without combining any."""
    from dorky.merge import entries

    done = {change.path for change in projection.differences(views.base, views.ours)}
    # Read whole: single look-ups would read a directory once for each of its files.
    original, merged = (dict(view.files()) for view in (views.base, views.ours))
    misplaced = _misplaced(views, rows)
    for path, (placed, was) in misplaced.adopted.items():
        if path not in merged:
            merged[path] = placed
            done.add(path)
            if was and path not in original:
                original[path] = was
    both: dict[str, Sides] = {}
    for change in projection.differences(views.base, views.theirs):
        side = Placed(change.group, change.new) if change.new else None
        if change.path in done:
            both[change.path] = entries.Sides(
                original.get(change.path), merged.get(change.path), side
            )
        elif change.path not in misplaced.left:
            _place(merged, change.path, side)
    for path, placed in _before_groups(views.base, both).items():
        both[path] = both[path]._replace(base=placed)
    return _Changes(merged, both, misplaced)


def _before_groups(base: View, both: Mapping[str, Sides]) -> dict[str, Placed]:
    """Return files of everybody that a group has closed since the common ancestor.

    Both sides may have moved such a file into the group's tree, which adds nothing. The ancestor
    has no tree of the group, so nobody outside of it can have put the file there to mislead.
    """
    owner = base.owner
    assert owner is not None
    added = {path for path, sides in both.items() if sides.base is None}
    return base.recorded({path: ALL for path in added if owner(path) not in base.trees})


def _merge_files(
    files: Files, changes: _Changes, living: Collection[str]
) -> tuple[dict[str, Placed], list[Unmerged]]:
    """Return every merged file that counts, and the conflicts."""
    from dorky.merge import entries

    merged, conflicts = changes.merged, []
    for path, sides in changes.both.items():
        file = entries.merge(files, path, sides)
        _place(merged, path, file.side)
        if file.conflict:
            conflicts.append(file.conflict)
    for path in changes.adopted() - changes.both.keys():
        merged[path] = entries.encrypted_for(files, merged[path], files.owner(path) or ALL)
    if living:
        held = [(path, placed.group) for path, placed in merged.items()]
        counted, _ = placement.projected(files.owner, held)
        merged = {path: merged[path] for path, _ in counted}
        conflicts = [conflict for conflict in conflicts if conflict.path in merged]
    # The names in use are known only after all paths are merged.
    taken = merged.keys() | {above for path in merged for above in parents(path)}
    placed = [
        entries.put_beside(files, merged, taken, conflict, changes.both[conflict.path].theirs)
        for conflict in conflicts
    ]
    return merged, placed


def unpushed(
    store: Store, ours: ObjectId | None, theirs: ObjectId | None, known: Roster
) -> frozenset[str]:
    """Return the files that only our side has committed outside the trees of their owners."""
    owner = placement.owner(known)
    before, after = (
        View(store, history.trees_of(store, commit), owner) for commit in (theirs, ours)
    )
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


def _misplaced(views: _Views, rows: Mapping[str, Row]) -> _Misplaced:
    """Return our side's changes outside the trees of the files' owners."""
    from dorky.merge import entries

    found = _Misplaced({}, {}, [])
    owner, readable = views.ours.owner, views.ours.store.vault.groups
    assert owner is not None
    apart = {
        (group, path): (was, now)
        for group, path, was, now in projection.changed(views.base, views.ours)
        if now and owner(path) not in {group, None} and path in rows and rows[path].group == group
    }
    others = dict(views.theirs.files({path for _, path in apart})) if apart else {}
    theirs = {
        (group, path): now
        for group, path, _, now in (projection.changed(views.base, views.theirs) if apart else ())
    }
    for (group, path), (was, now) in apart.items():
        placed = Placed(group, now)
        target = owner(path)
        assert target is not None
        other = others.get(path)
        if target in readable and not placement.is_widening(group, target):
            found.adopted[path] = placed, Placed(group, was) if was else None
        elif not entries.same(placed, other):
            found.left[path] = placed
            if other:
                found.conflicts.append(Unmerged(path=path, why="closed"))
            elif was and theirs.get((group, path), was) is None:
                found.conflicts.append(Unmerged(path=path, why="deleted by them"))
    return found


def _frozen(views: _Views, label: str) -> list[tuple[str, Placed]]:
    """Return the contested files, in their trees, as one side has left them.

    Raises:
        Diverged: Both sides changed one.
    """
    held = {
        (path, placed.group): placed
        for path, placed, why in views.ours.walk()
        if why and why.owner is None
    }
    owner = views.ours.owner
    assert owner is not None
    ours = {
        (path, group): now
        for group, path, _, now in projection.changed(views.base, views.ours)
        if owner(path) is None
    }
    for group, path, _, now in projection.changed(views.base, views.theirs):
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


def _check_names(paths: Set[str], theirs: View, label: str) -> None:
    """Refuse names that no directory can hold together.

    Names of theirs that differ only in case were there before: to refuse them keeps nobody safe,
    and would lock out everybody who has something to merge.

    Raises:
        Diverged: A name is a file and a directory.
        NameClash: Two names differ only in case.
    """
    for path in paths:
        for parent in parents(path):
            if parent in paths:
                what = f"{parent} is a file here and a directory there, or was"
                raise errors.Diverged(label, what, over="names")
    try:
        staging.check_names(paths, (), portable=False)
    except errors.NameClash:
        there = {path for path, _ in theirs.files()} & paths
        staging.check_names(paths - there, there, portable=False)


def _sealed_trees(
    store: Store, trees: _Trees, label: str, living: Collection[str]
) -> dict[str, ObjectId]:
    """Return the trees of groups that the user can't read, each merged as a whole.

    Raises:
        Diverged: Both sides changed the files of such a group.
    """
    from dorky.merge import bases

    found = {}
    for group in (trees.ours.keys() | trees.theirs.keys()) - store.vault.groups:
        before, our, their = (side.get(group) for side in trees)
        our, their = bases.presumed(before, our, their, is_living=group in living)
        if before not in {our, their} and our != their:
            what = "both sides changed files of a group that you are not in"
            raise errors.Diverged(label, what, over="left group")
        merged = their if our == before else our
        if merged:
            found[group] = merged
    return found
