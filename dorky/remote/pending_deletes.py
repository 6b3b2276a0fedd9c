"""Pending deletes: packs that no root lists any more, and how they are deleted.

A swap first names each pack in the root's ``condemned``; the pack is deleted after that swap. As
long as the root names the pack, no client lists it again, whatever it remembers. Once the pack is
known to be gone, its name can be dropped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

from dorky import errors
from dorky.format.model import ObjectId, Root
from dorky.remote.root import PACKS, Remote, stored


def condemn(
    remote: Remote, root: Root, dropped: Iterable[ObjectId], *, unasked: int = 0
) -> dict[str, Any]:
    """Return the changes to a root that condemn packs which its successor does not list.

    Entries of packs that are gone are dropped, but only together with a new ``gc_epoch``: a client
    that has uploaded a pack that is in no root yet tells by it whether the pack may have been
    condemned meanwhile.

    Args:
        remote: The remote that stores the packs.
        root: The root to replace.
        dropped: The packs that the root lists and its successor does not.
        unasked: Up to how many older entries are kept without asking which packs still exist.
    """
    kept: Sequence[ObjectId] = root.condemned
    if len(kept) > unasked:
        kept = _still_there(remote, kept)
    left = len(kept) < len(root.condemned)
    return {"condemned": (*kept, *dropped), "gc_epoch": root.gc_epoch + left}


def _still_there(remote: Remote, condemned: Sequence[ObjectId]) -> Sequence[ObjectId]:
    try:
        there = stored(remote.driver)
    except errors.AccessError:
        return condemned
    return [name for name in condemned if name in there]


def delete(remote: Remote, dropped: Iterable[ObjectId]) -> None:
    """Delete packs that no root lists any more.

    A client that is reading them notices, and starts over with the new root. No push relies on
    them: a push only skips what is listed by the root that it replaces.
    """
    # A member who may write need not be allowed to delete; a garbage collection finds them.
    with contextlib.suppress(errors.AccessError):
        remote.driver.delete([PACKS + name for name in dropped])
