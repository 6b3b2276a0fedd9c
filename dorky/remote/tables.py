"""Make the tables of a remote again, from what the local store knows of its packs."""

from __future__ import annotations

from dorky import errors
from dorky.drivers.retry import Patience
from dorky.progress import SILENT, Progress
from dorky.remote import root as roots
from dorky.remote.fetch import fetch
from dorky.remote.listing import Moved, follow, wrong_tables
from dorky.remote.pending_deletes import condemn, delete
from dorky.remote.push import remember
from dorky.remote.root import Remote


def renew(remote: Remote, progress: Progress = SILENT) -> int:
    """Replace tables that are damaged, gone, or wrong about where objects lie.

    Args:
        remote: The remote; what its packs hold was just fetched.
        progress: Receives the progress of fetches.

    Returns:
        How many tables were wrong. If any was, one new table replaces all.

    Raises:
        AccessDenied: The user may not write.
        ServerBusy: Others keep changing the root.
    """
    patience = Patience(remote.url)
    while True:
        seen = remote.seen
        if seen is None:
            return 0
        try:
            wrong = list(wrong_tables(remote, seen, remote.store.contents(remote.name)))
        except Moved:
            patience.wait()
            fetch(remote, progress)
            continue
        if not wrong:
            return 0
        opened = remote.unlock(seen.header)
        listing = follow(remote, seen, opened, compact=True)
        condemned = condemn(remote, seen.root, (), listing.stale)
        following = roots.successor(seen.root, **listing.changes, **condemned.changes)
        try:
            won = remote.swap(seen.header, following)
        except errors.PreconditionFailed:
            patience.wait()
            fetch(remote, progress)
            continue
        remember(remote, won, (), progress)
        delete(remote, condemned.keys)
        return len(wrong)
