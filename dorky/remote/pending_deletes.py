"""Pending deletes: packs and tables that no root lists any more, and how they are deleted.

A swap first names each in the root's ``condemned``; it is deleted after that swap. As long as the
root names a pack, no client lists it again, whatever it remembers. Once the pack is known to be
gone, its name can be dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from dorky import errors
from dorky.format.model import MANY_NAMES, ObjectId, Root
from dorky.remote.root import PACKS, TABLES, Remote, stored


class Condemned(NamedTuple):
    """The result of condemning files.

    Attributes:
        changes: The changes in the root.
        keys: The keys of files that may be deleted after the swap.
        left: How many packs are left for a garbage collection, because the root has no more room.
    """

    changes: dict[str, Any]
    keys: tuple[str, ...]
    left: int = 0


def condemn(
    remote: Remote,
    root: Root,
    packs: Collection[ObjectId],
    tables: Collection[ObjectId] = (),
    *,
    ask: bool = True,
) -> Condemned:
    """Condemn packs and tables which a root lists and its successor does not.

    Entries of files that are gone are dropped, but only together with a new ``gc_epoch``: a client
    that has uploaded a pack that is in no root yet tells by it whether the pack may have been
    condemned meanwhile. Files that find no room are left: nothing lists them, and a garbage
    collection condemns them.

    Args:
        remote: The remote that stores the files.
        root: The root to replace.
        packs: The packs.
        tables: The tables.
        ask: Whether to find out which files that were condemned before still exist.
    """
    there = _stored(remote) if ask and root.condemned else None
    kept = [name for name in root.condemned if there is None or name in there]
    new = [*((PACKS, packed) for packed in packs), *((TABLES, entry) for entry in tables)]
    new = new[: MANY_NAMES - len(kept)]
    # Keys of what was condemned before, and was found, are known now.
    again = [there[name] for name in kept] if there is not None else []
    left = len(kept) < len(root.condemned)
    return Condemned(
        {
            "condemned": (*kept, *(name for _, name in new)),
            "gc_epoch": root.gc_epoch + left,
        },
        (*again, *(folder + name for folder, name in new)),
        max(0, len(packs) - len(new)),
    )


def _stored(remote: Remote) -> dict[ObjectId, str] | None:
    """Return the keys of all packs and tables; None if the user may not list them."""
    try:
        return {
            name: stat.key
            for folder in (PACKS, TABLES)
            for name, stat in stored(remote.driver, folder).items()
        }
    except errors.AccessError:
        return None


def delete(remote: Remote, keys: Iterable[str]) -> int:
    """Delete files that no root lists any more, if that is possible.

    A client that is reading them notices, and starts over with the new root. No push relies on
    them: a push only skips what is listed by the root that it replaces.

    Returns:
        How many may be left for a garbage collection. The user may lack the permission, the store
        may not be able to delete, or the network may be gone; what was done before stays done.
    """
    going = list(keys)
    try:
        remote.driver.delete(going)
    except errors.DorkyError:
        return len(going)
    return 0
