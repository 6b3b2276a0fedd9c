"""The common ancestor of two commits; where there are several, a virtual one, merged from them.

That is git's recursive strategy: the best common ancestors are merged by way of their own common
ancestor, which may be virtual, too. Where they disagree, the virtual one holds what neither of them
holds. So the two sides conflict at that place, unless they agree. Its objects are stored, but
nothing refers to them after the merge.
"""

from __future__ import annotations

import stat as stat_module
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import msgspec

from dorky.format.model import Entry, ObjectId
from dorky.merge import entries
from dorky.merge.entries import Bring, Sides
from dorky.paths import parents
from dorky.store import history
from dorky.store.history import Placed, Trees
from dorky.store.objects import Store, Writer
from dorky.worktree import staging

UNKNOWN = "unknown"
"""Stands for a closed group's tree that the common ancestors disagree on."""

# Others can write a history in which ancestors of ancestors never end.
_MERGES = 32


class _Merging(NamedTuple):
    """The rules for virtual ancestors, and the merges that are still allowed."""

    store: Store
    bring: Bring
    living: Collection[str]
    turns: Iterator[int]


def ancestor(
    store: Store, ours: ObjectId, theirs: ObjectId, living: Collection[str], bring: Bring
) -> dict[str, ObjectId]:
    """Return the trees of the common ancestor of two commits, by group.

    Args:
        store: The store that holds the commits, and receives the trees of a virtual ancestor.
        ours: A commit.
        theirs: The other commit.
        living: The groups whose trees are missing only where somebody could not read them.
        bring: Fetches files that several ancestors changed.

    Returns:
        The trees; none if the histories are unrelated. `UNKNOWN` stands for the tree of a group
        that the user can't read, where the ancestors disagree on it.
    """
    merging = _Merging(store, bring, living, iter(range(_MERGES)))
    return _ancestor(merging, [ours], [theirs])


def _ancestor(
    merging: _Merging, ours: Sequence[ObjectId], theirs: Sequence[ObjectId]
) -> dict[str, ObjectId]:
    """Return the trees of the common ancestor of two commits, each given by what it merges."""
    heads: list[ObjectId] = []
    trees: dict[str, ObjectId] = {}
    for base in reversed(history.merge_bases(merging.store, ours, theirs)):
        others = history.read_commit(merging.store, base).trees
        if not heads:
            trees = dict(others)
        elif next(merging.turns, None) is None:
            trees = _merge(merging, None, trees, others)
        else:
            trees = _merge(merging, _ancestor(merging, heads, [base]), trees, others)
        heads.append(base)
    return trees


def _merge(
    merging: _Merging, base: Trees | None, ours: Trees, theirs: Trees
) -> dict[str, ObjectId]:
    """Merge two ancestors' trees, each by itself; without a base every difference is a conflict."""
    merged: dict[str, ObjectId] = {}
    for group in history.in_order(ours.keys() | theirs.keys()):
        was = UNKNOWN if base is None else base.get(group)
        our, their = presumed(was, ours.get(group), theirs.get(group), group in merging.living)
        if our == their:
            found = our
        elif group not in merging.store.vault.groups:
            found = UNKNOWN  # only a member's signature on a merge of these counts
        elif our == was:
            found = their
        elif their == was:
            found = our
        else:
            found = _merge_tree(merging, group, was, our, their)
        if found:
            merged[group] = found
    return merged


def presumed(
    was: ObjectId | None, our: ObjectId | None, their: ObjectId | None, is_living: bool
) -> tuple[ObjectId | None, ObjectId | None]:
    """Return a group's trees on both sides, with one that a living group lacks unchanged.

    Members leave an empty tree when no files are left. So a missing tree was most likely left out
    by somebody who can't read it.
    """
    if not is_living:
        return our, their
    if was == UNKNOWN:
        return our or their, their or our
    return our or was, their or was


def _merge_tree(
    merging: _Merging,
    group: str,
    base: ObjectId | None,
    ours: ObjectId | None,
    theirs: ObjectId | None,
) -> ObjectId:
    """Merge the trees of one group file by file, as recorded, and store the result."""
    store = merging.store
    differing = {
        path: (our, their) for path, our, their in history.differing(store, group, ours, theirs)
    }
    before: dict[str, Entry] = {}
    if base and base != UNKNOWN:
        before = dict(history.files_below(store, group, base, differing))
    files = dict(history.files_below(store, group, ours)) if ours else {}
    disputed = {}
    for path, (our, their) in differing.items():
        was = before.get(path)
        if base != UNKNOWN and was in (our, their):
            _put(files, path, their if our == was else our)
        else:
            disputed[path] = Sides(
                *(Placed(group, entry) if entry else None for entry in (was, our, their))
            )
    sides = [side for sides in disputed.values() for side in sides if side]
    merging.bring(side.entry for side in sides if side.entry.size <= entries.LARGEST)
    with store.writer() as writer:
        for path, sides_of_file in disputed.items():
            files[path] = _merge_file(store, writer, group, path, sides_of_file)
        tree = _write(writer, group, files)
        writer.save()
    return tree


def _merge_file(store: Store, writer: Writer, group: str, path: str, sides: Sides) -> Entry:
    """Store the virtual ancestor of a file that both ancestors changed.

    Where they disagree, it has a content or a mode that neither of them has.
    """
    from dorky.worktree import ingest

    mode = _mode(sides)
    _, ours, theirs = sides
    if ours and theirs and ours.entry.content == theirs.entry.content:
        return msgspec.structs.replace(ours.entry, mode=mode)
    name = path.rpartition("/")[2]
    data = _content(store, path, sides)
    return ingest.store_bytes(store, writer, name, mode, data, group=group)


def _mode(sides: Sides) -> int:
    was, our, their = (side.entry.mode if side else None for side in sides)
    if our is None or their is None or our == their:
        found = our or their
    elif was in {our, their}:
        found = their if our == was else our
    else:
        found = None
    return found if found and stat_module.S_ISREG(found) else stat_module.S_IFREG


def _content(store: Store, path: str, sides: Sides) -> bytes:
    """Return the merged content, with a text in place of each conflict that neither side has.

    Where only one ancestor has the file, the whole is such a text: its lines must not look like
    lines that both sides had.
    """
    from dorky.merge import threeway

    base, ours, theirs = sides
    both = ours and theirs and entries.are_files(ours, theirs)
    if ours and theirs and both and max(ours.entry.size, theirs.entry.size) <= entries.LARGEST:
        was = entries.read(store, base) if base else None
        our, their = (entries.read(store, side) for side in (ours, theirs))
        combined = threeway.ancestor(path, was, our, their)
        if combined:
            return combined.data
    told = " ".join(side.entry.sha256 if side else "none" for side in sides)
    return f"\0the common ancestors disagree: {told}".encode()


def _put(files: dict[str, Entry], path: str, entry: Entry | None) -> None:
    if entry:
        files[path] = entry
    else:
        files.pop(path, None)


def _write(writer: Writer, group: str, files: dict[str, Entry]) -> ObjectId:
    """Store a tree, without files where other files need a directory."""
    for path in [*files]:
        for directory in parents(path):
            files.pop(directory, None)
    return staging.write_entries(files.items(), writer, group=group)
