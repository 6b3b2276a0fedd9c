"""Garbage collection in the remote: delete packs that no root lists, and rewrite wasteful packs.

The root is the only arbiter, as for a push. A swap of the root condemns the packs to delete, and
they are deleted only after it. A client that had uploaded such a pack and was about to list it
loses its own swap to that one, and finds the pack condemned. So nothing depends on clocks or on the
grace period: without a grace period, pushes that are under way only have to upload more.

An interrupted collection is run again: the next run deletes the condemned packs that still exist,
and the packs that the first run uploaded are garbage like any other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

import msgspec

from dorky import errors
from dorky.drivers.base import Stat
from dorky.drivers.retry import Patience
from dorky.format.model import MANY_NAMES, ObjectId, Pack, Root
from dorky.progress import SILENT, Progress
from dorky.remote import authority, probe
from dorky.remote import root as roots
from dorky.remote.fetch import fetch, fetch_objects
from dorky.remote.journal import Sent, remaining
from dorky.remote.listing import Listing, Moved, follow, older, packs_of
from dorky.remote.push import SMALL, build, remember, send
from dorky.remote.root import PACKS, TABLES, Remote, RootSnapshot
from dorky.remote.rotate import renewed, retired
from dorky.results import Garbage, RemoteGCReport
from dorky.store import history, pack, reachability

GRACE = timedelta(days=7)
"""How long a pack that no root lists is kept: somebody may be about to list it."""
_PROBING = timedelta(hours=1)
"""How long scratch keys are kept, whatever the grace: a probe fails if its key is deleted."""
_MANY_SMALL = 8
_MOST = 2000
"""The most strays, and the most listed packs, that one swap condemns: a root holds their names."""


class Plan(NamedTuple):
    """The plan of a collection.

    Attributes:
        collection: The report of it.
        grace: How old garbage must be.
        seen: The root that the plan is made for.
        condemned: Packs and tables that this root condemns and that still exist, by name: the keys.
        strays: Packs and tables in no root, to be condemned, by name: the keys.
        scratch: Keys that probes have left.
        packs: The packs that the root lists.
        rewritten: Listed packs to rewrite, with the reasons.
        alive: Everything that is reachable.
        moved: Of that, what has to move into new packs.
        more: Whether another swap has to follow: one condemns only so much.
    """

    collection: RemoteGCReport
    grace: timedelta
    seen: RootSnapshot
    condemned: dict[ObjectId, str]
    strays: dict[ObjectId, str]
    scratch: tuple[str, ...]
    packs: tuple[Pack, ...]
    rewritten: dict[ObjectId, str]
    alive: set[ObjectId]
    moved: set[ObjectId]
    more: bool

    @property
    def changes_root(self) -> bool:
        """Return whether the root has to change.

        If not, only packs that the root condemns already have to be deleted.
        """
        gone = len(self.condemned) < len(self.seen.root.condemned)
        return bool(self.strays or self.rewritten or gone or self.scattered)

    @property
    def scattered(self) -> bool:
        """Return whether there is more than one table, or one that lists what was dropped."""
        return len(self.seen.root.tables) > 1 or bool(self.seen.root.dropped)


def plan(remote: Remote, *, grace: timedelta = GRACE, progress: Progress = SILENT) -> Plan:
    """Find what can be deleted. This fetches first, and changes nothing in the remote.

    Ages are measured by the remote's own clock. To read it, a scratch key is written if anything
    may be garbage.

    Args:
        remote: The remote.
        grace: How old packs that no root lists must be.
        progress: Receives the progress of the fetch.

    Raises:
        NoRepositoryAtURL: The remote holds no repository.
        MissingObject: An object that the remote's refs need is missing.
    """
    fetch(remote, progress)
    seen = remote.seen
    assert seen is not None
    root = seen.root
    packs = packs_of(remote, seen)
    listed = {packed.id for packed in packs} | {entry.id for entry in root.tables}
    # List after reading the root: if a newer root lists one of these files, our swap loses.
    there = roots.stored(remote.driver) | roots.stored(remote.driver, TABLES)
    condemned = {
        name: there[name].key for name in root.condemned if name in there and name not in listed
    }
    loose = [there[name] for name in sorted(there.keys() - listed - condemned.keys())]
    scratch = list(remote.driver.list(probe.PREFIX))
    old, left = _old(remote, loose, scratch, grace)
    judged, alive, needed = _rewritten(remote, seen, packs)
    rewritten = dict(itertools.islice(judged.items(), _MOST))
    moved = {object_id for name in rewritten for object_id in needed[name]}
    garbage = (
        *(Garbage(name=e.key, size=e.size, reason="no root lists it") for e in old),
        *(
            Garbage(name=key, size=there[name].size, reason="it was condemned before")
            for name, key in condemned.items()
        ),
        *(Garbage(name=e.key, size=e.size, reason="a probe has left it") for e in left),
    )
    sizes = {packed.id: packed.size for packed in packs}
    given_up = tuple(
        Garbage(name=PACKS + name, size=sizes[name], reason=reason)
        for name, reason in rewritten.items()
    )
    places = remote.store.locate(moved, remote=remote.name)
    sent = sum(at.length for at in places.values())
    return Plan(
        RemoteGCReport(
            url=remote.url,
            garbage=garbage,
            rewritten=given_up,
            kept_young=len(loose) - len(old),
            packs_before=len(packs),
            packs_after=len(packs) - len(rewritten) + math.ceil(sent / pack.TARGET),
            size=sum(stored.size for stored in (*garbage, *given_up)),
            sent=sent,
        ),
        grace,
        seen,
        condemned,
        {stored.key.rpartition("/")[2]: stored.key for stored in old[:_MOST]},
        tuple(stored.key for stored in left),
        packs,
        rewritten,
        alive,
        moved,
        len(old) > _MOST or len(judged) > _MOST,
    )


def _old(
    remote: Remote, loose: list[Stat], scratch: list[Stat], grace: timedelta
) -> tuple[list[Stat], list[Stat]]:
    """Return the packs that no root lists, and the scratch keys, that are old enough to delete."""
    if not loose and not scratch:
        return [], []
    now = probe.clock(remote.driver)
    probing = max(grace, _PROBING)
    return (
        [stored for stored in loose if now - stored.modified >= grace],
        [stored for stored in scratch if now - stored.modified >= probing],
    )


def _rewritten(
    remote: Remote, seen: RootSnapshot, packs: Iterable[Pack]
) -> tuple[dict[ObjectId, str], set[ObjectId], dict[ObjectId, set[ObjectId]]]:
    """Return which listed packs to rewrite, and why.

    The objects below a closed group's trees can't be known. So while there is a closed group,
    nothing counts as dead, and a pack in which anything may be that group's is left alone.

    Returns:
        The packs with their reasons; everything that is reachable; what is needed of each pack.
    """
    store = remote.store
    alive = reachability.reach(store, seen.root.refs.values()).all
    alive.update(entered.id for entered in history.entries(store, seen.root.team))
    all_open = {epoch.group for epoch in seen.header.epochs} <= store.vault.groups
    exposed = retired(remote, seen, packs)
    judged: list[tuple[Pack, dict[ObjectId, int]]] = []
    taken: set[ObjectId] = set()
    for packed in sorted(packs, key=lambda packed: (-packed.epochs, -packed.size)):
        sizes = {at.id: at.length for at in store.locations(packed.id, remote=remote.name)}
        if sizes and (all_open or sizes.keys() <= alive):
            judged.append((packed, sizes))
        else:
            taken |= sizes.keys()
    dead: dict[ObjectId, str] = {}
    small: dict[ObjectId, str] = {}
    needed: dict[ObjectId, set[ObjectId]] = {}
    for packed, sizes in judged:
        # If several packs hold an object, the copy under the newest keys is needed, of the largest.
        needed[packed.id] = (sizes.keys() & alive) - taken
        taken |= needed[packed.id]
        total = sum(sizes.values())
        unneeded = total - sum(sizes[object_id] for object_id in needed[packed.id])
        if 2 * unneeded >= total:
            dead[packed.id] = f"{100 * unneeded // total} % of it is not needed"
        elif packed.id in exposed:
            dead[packed.id] = "current files in it have a key that is retired"
        elif packed.size < SMALL:
            small[packed.id] = "it is small"
    rewritten = dead | small if len(small) >= _MANY_SMALL else dead
    return rewritten, alive, needed


def apply(remote: Remote, made: Plan, *, progress: Progress = SILENT) -> RemoteGCReport:
    """Carry out a plan, or an updated one if the root has changed since.

    Raises:
        UsageError: The root would not fit any more.
        AccessDenied: Deleting is not allowed. The packs are condemned; a member who may delete can
            run this again.
        ServerBusy: Others keep changing the root.
    """
    authority.check_writer(remote)
    first = made.collection
    sent: list[Sent] = []
    uploaded = 0
    rounds = 1 + (len(first.garbage) + len(made.packs)) // _MOST
    patience = Patience(remote.url)
    while True:
        before = made.seen.root
        doomed = list(made.condemned.values())
        if made.changes_root:
            uploaded += _send(remote, made, sent, progress)
            opened = remote.unlock(made.seen.header)
            moved = bool(sent or made.rewritten) and bool(older(before))
            try:
                listing = follow(
                    *(remote, made.seen, opened, sent, made.rewritten.keys()),
                    compact=made.scattered or moved,
                )
                following, doomed = _following(made, sent, listing)
                won = remote.swap(made.seen.header, following)
            except (errors.PreconditionFailed, Moved):
                patience.wait()
                made = plan(remote, grace=made.grace, progress=progress)
                sent = remaining(remote, sent, made.alive, before.gc_epoch)
                continue
            remember(remote, won, sent, progress)
        keys = [*doomed, *made.scratch]
        if keys:
            remote.driver.delete(keys)
        rounds -= 1
        if not (made.more and rounds):
            after = len(made.packs) - len(made.rewritten) + len(sent)
            return msgspec.structs.replace(first, packs_after=after, sent=uploaded, done=True)
        made, sent = plan(remote, grace=made.grace, progress=progress), []


def _following(made: Plan, sent: Iterable[Sent], listing: Listing) -> tuple[Root, list[str]]:
    """Return the root that follows, and the keys of all that it condemns."""
    root = made.seen.root
    # Packs uploaded for a lost swap show up among those that no root lists.
    new = {upload.pack.id for upload in sent}
    doomed = {
        **made.condemned,
        **{name: key for name, key in made.strays.items() if name not in new},
        **{name: PACKS + name for name in made.rewritten},
        **{name: TABLES + name for name in listing.stale},
    }
    # What finds no room is condemned by another swap.
    names = list(doomed)[:MANY_NAMES]
    following = roots.successor(
        root, **listing.changes, condemned=tuple(names), gc_epoch=root.gc_epoch + 1
    )
    return following, [doomed[name] for name in names]


def _send(remote: Remote, made: Plan, sent: list[Sent], progress: Progress) -> int:
    """Upload new packs with what has to be moved; return their size in bytes."""
    header = made.seen.header
    opened = remote.unlock(header)
    roots.encode(header, _following(made, (), Listing({}))[0], opened, remote.signer())
    there = {object_id for earlier in sent for object_id in earlier.ids}
    moved = made.moved - there
    fetch_objects(remote, moved, progress)
    size = sum(at.length for at in remote.store.locate(moved).values())
    before = len(sent)
    send(remote, build(opened, renewed(remote.store, opened, moved)), sent, progress, size)
    return sum(upload.pack.size for upload in sent[before:])
