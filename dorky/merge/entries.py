"""Merging one file or link that both sides changed, in content, in mode, or in its group.

`threeway` combines the content. Where that is impossible the file is a conflict.
"""

from __future__ import annotations

import stat as stat_module
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import msgspec

from dorky.format.model import Entry, MiB
from dorky.keys.placement import Owner
from dorky.results import Unmerged
from dorky.store.history import MAIN, Placed
from dorky.store.objects import Store, Writer

_BESIDE = ".theirs"
LARGEST = 4 * MiB
"""The size of the largest file whose content is combined, in bytes."""


Bring = Callable[[Iterable[Entry]], object]
"""Fetches the chunks of files into the local store."""


class Sides(NamedTuple):
    """A file in the common ancestor, on our side and on their side."""

    base: Placed | None
    ours: Placed | None
    theirs: Placed | None


class Files(NamedTuple):
    """The files of a merge.

    Attributes:
        store: The store that holds them.
        writer: Receives what is merged.
        owner: Returns the owner of a path.
        label: The name of the other side for the user.
    """

    store: Store
    writer: Writer
    owner: Owner
    label: str


def same(one: Placed | None, other: Placed | None) -> bool:
    """Return whether two files have the same content and mode. Ids differ by group."""
    if one is None or other is None:
        return False
    first, second = one.entry, other.entry
    return (first.mode, first.size, first.sha256) == (second.mode, second.size, second.sha256)


class File(NamedTuple):
    """The merged version of a file, and the conflict, if any."""

    side: Placed | None
    conflict: Unmerged | None = None


def merge(files: Files, path: str, sides: Sides) -> File:
    """Merge a file that both sides changed, in content, in mode, or in its group."""
    base, ours, theirs = sides
    if ours is None and theirs is None:
        return File(None)
    group = files.owner(path)
    assert group is not None  # no contested path counts
    if ours is None or theirs is None:
        kept = ours or theirs
        if base and same(base, kept):  # it only moved to another group
            return File(None)
        why: Literal["deleted by them", "deleted by us"]
        why = "deleted by them" if ours else "deleted by us"
        assert kept is not None
        return File(encrypted_for(files, kept, group), Unmerged(path=path, why=why))
    if same(theirs, ours) or same(base, theirs):
        return File(encrypted_for(files, ours, group))
    if same(base, ours):
        return File(encrypted_for(files, theirs, group))
    return _combine(files, path, base, ours, theirs, group)


def _combine(
    files: Files, path: str, base: Placed | None, ours: Placed, theirs: Placed, group: str
) -> File:
    """Combine two versions of a file, if it is a text that is not too long."""
    mode = theirs.entry.mode if base and ours.entry.mode == base.entry.mode else ours.entry.mode
    if theirs.entry.sha256 == ours.entry.sha256 and are_files(ours, theirs):
        return File(encrypted_for(files, _with(ours, mode=mode), group))
    combined = None
    if are_files(ours, theirs) and max(ours.entry.size, theirs.entry.size) <= LARGEST:
        original = base if base and are_files(base) and base.entry.size <= LARGEST else None
        from dorky.merge import threeway

        combined = threeway.combine(
            path,
            read(files.store, original) if original else None,
            read(files.store, ours),
            read(files.store, theirs),
            ours_label=MAIN,
            theirs_label=files.label,
        )
    if combined is None:
        return File(encrypted_for(files, ours, group), Unmerged(path=path, why="binary"))
    from dorky.documents import names
    from dorky.worktree import ingest

    name = ours.entry.name
    entry = ingest.store_bytes(files.store, files.writer, name, mode, combined.data, group=group)
    places = tuple(map(names.shown, combined.conflicts))
    conflict = Unmerged(path=path, why="changed by both", places=places)
    return File(Placed(group, entry), conflict if combined.conflicts else None)


def are_files(*sides: Placed) -> bool:
    """Return whether none of some entries is a link."""
    return all(stat_module.S_ISREG(side.entry.mode) for side in sides)


def _with(side: Placed, *, mode: int) -> Placed:
    return side._replace(entry=msgspec.structs.replace(side.entry, mode=mode))


def read(store: Store, side: Placed) -> bytes:
    """Return the content of a file."""
    from dorky.worktree import checkout

    return b"".join(checkout.read(store, side.entry, side.group))


def encrypted_for(files: Files, side: Placed, group: str) -> Placed:
    """Return a file with its content encrypted for a group."""
    if side.group == group:
        return side
    from dorky.worktree import ingest

    moved = ingest.regroup(files.store, files.writer, side.entry, group, source=side.group)
    return Placed(group, moved)


def put_beside(
    files: Files,
    merged: dict[str, Placed],
    taken: set[str],
    conflict: Unmerged,
    theirs: Placed | None,
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
    if files.owner(beside) != theirs.group:
        return conflict
    taken.add(beside)
    name = beside.rpartition("/")[2]
    merged[beside] = theirs._replace(entry=msgspec.structs.replace(theirs.entry, name=name))
    return msgspec.structs.replace(conflict, beside=beside)
