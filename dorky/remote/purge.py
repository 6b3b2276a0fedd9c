"""Purge in the remote: replace the history, and delete every pack that holds the old one.

New packs are uploaded first. Then one swap of the root replaces the history, drops what is inline,
and condemns every pack that holds anything of the old history; then those packs are deleted. If the
purge is interrupted, the remote is as it was, or purged except for packs that a garbage collection
deletes.
"""

from __future__ import annotations

from typing import NamedTuple

from dorky import errors
from dorky.drivers.retry import Patience
from dorky.format.model import Inline, ObjectId, Purge
from dorky.progress import SILENT, Progress
from dorky.remote import authority
from dorky.remote import root as roots
from dorky.remote.fetch import fetch, fetch_objects
from dorky.remote.journal import Sent, remaining
from dorky.remote.listing import Moved, follow, packs_of
from dorky.remote.pending_deletes import condemn
from dorky.remote.push import build, first_objects, remember, send
from dorky.remote.root import HEAD, INLINE, Remote
from dorky.remote.rotate import renewed
from dorky.store import history, reachability
from dorky.store.history import ATTEST


class Purged(NamedTuple):
    """The result of a purge: how many packs it gave up, and how many bytes they had."""

    packs: int
    size: int


def purge(
    remote: Remote,
    record: Purge,
    old: ObjectId | None,
    attested: ObjectId | None,
    progress: Progress = SILENT,
) -> Purged:
    """Replace the remote's history by a rewritten local one without some files.

    Args:
        remote: The remote; the user can open every group of its header.
        record: The tombstone, which names both histories.
        old: The head of the remote's history of attestations; None if it has none.
        attested: The head of the one in its place, without those about the files.
        progress: Receives the progress.

    Raises:
        Conflict: Somebody has pushed meanwhile.
        NotWriter: The user does not administer the team.
        AccessDenied: Deleting is not allowed. The root does not list the packs any more.
        ServerBusy: Others keep changing the root.
    """
    store = remote.store
    authority.check_writer(remote, admin=True)
    sent: list[Sent] = []
    patience = Patience(remote.url)
    while True:
        seen = remote.seen
        assert seen is not None
        root = seen.root
        if (root.refs.get(HEAD), root.refs.get(ATTEST)) != (record.old, old):
            raise errors.PushedMeanwhile
        refs = {**root.refs, HEAD: record.new}
        if attested:
            refs[ATTEST] = attested
        heads = [record.new, *(commit for ref, commit in refs.items() if ref != HEAD)]
        alive = reachability.reach(store, heads).all
        alive |= {entered.id for entered in history.entries(store, root.team)}
        packs = packs_of(remote, seen)
        held = {
            packed.id: {at.id for at in store.locations(packed.id, remote=remote.name)}
            for packed in packs
        }
        dropped = [packed for packed in packs if not held[packed.id] <= alive]
        kept = [packed for packed in packs if held[packed.id] <= alive]
        opened = remote.unlock(seen.header)
        inline = tuple(inlined for inlined in root.inline if inlined.id in alive)
        first = {*first_objects(store, opened, heads)} - {inlined.id for inlined in inline}
        inline += tuple(Inline(*renewed_object) for renewed_object in renewed(store, opened, first))
        wanted = alive - {inlined.id for inlined in inline}
        wanted -= {object_id for pack in kept for object_id in held[pack.id]}
        wanted -= {object_id for earlier in sent for object_id in earlier.ids}
        fetch_objects(remote, wanted, progress)
        size = sum(at.length for at in store.locate(wanted).values())
        objects = renewed(store, opened, wanted)
        if size + sum(len(inlined.data) for inlined in inline) <= INLINE:
            inline += tuple(Inline(*renewed_object) for renewed_object in objects)
        else:
            send(remote, build(opened, objects), sent, progress, size)
        doomed = {packed.id for packed in dropped}
        try:
            listing = follow(remote, seen, opened, sent, doomed, compact=True)
            condemned = condemn(remote, root, doomed, listing.stale)
            changes = {**listing.changes, **condemned.changes, "gc_epoch": root.gc_epoch + 1}
            following = roots.successor(
                root,
                refs=refs,
                inline=inline,
                purges=(*root.purges, record),
                **changes,
            )
            following, team = authority.amended(
                remote, seen.header, following, purges=[authority.replaced(record)]
            )
            won = remote.swap(seen.header, following)
        except (errors.PreconditionFailed, Moved):
            patience.wait()
            fetch(remote, progress)
            sent = remaining(remote, sent, alive, root.gc_epoch)
            continue
        remember(remote, won, sent, progress, team=team)
        remote.driver.delete(condemned.keys)
        return Purged(len(doomed), sum(packed.size for packed in dropped))
