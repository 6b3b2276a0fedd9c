"""Packs that no root lists any more, and how they go.

Each is first named in the root's ``condemned`` and deleted after that swap. As long as it stands
there no client lists it again, whatever it remembers; once it has been seen to be gone it need not.
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
    """What changes in a root so that packs which its successor does not list may be deleted.

    Entries that are gone leave, and only together with a new ``gc_epoch``: who has sent a pack that
    is in no root yet tells by it whether that may have been condemned meanwhile.

    Args:
        remote: Where they are.
        root: The root to replace.
        dropped: What it lists, and its successor does not.
        unasked: Up to how many older entries are kept without asking what is still there.
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

    Who is just reading them finds out, and starts over with the new root. Nobody who pushes relies
    on them: a push lists what the root that it replaces does not.
    """
    # Who may write need not be allowed to delete; a collection of garbage finds them.
    with contextlib.suppress(errors.AccessError):
        remote.driver.delete([PACKS + name for name in dropped])
