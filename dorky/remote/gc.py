"""Garbage collection in the remote: delete packs that no root lists, and rewrite wasteful packs.

The root is the only arbiter, as for a push. A swap of the root condemns the packs to delete, and
they are deleted only after it. A client that had uploaded such a pack and was about to list it
loses its own swap to that one, and finds the pack condemned. So nothing depends on clocks or on the
grace period: without a grace period, pushes that are under way only have to upload more.

An interrupted collection is run again: the next run deletes the condemned packs that still exist,
and the packs that the first run uploaded are garbage like any other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

import msgspec

from dorky import errors
from dorky.drivers.base import Stat
from dorky.format.model import ObjectId, Pack, Root
from dorky.progress import SILENT, Progress
from dorky.remote import authority, probe
from dorky.remote import root as roots
from dorky.remote.fetch import fetch, fetch_objects
from dorky.remote.journal import Sent, remaining
from dorky.remote.push import SMALL, build, remember, send
from dorky.remote.root import PACKS, Remote, RootSnapshot
from dorky.remote.rotate import renewed
from dorky.results import Garbage, RemoteGCReport
from dorky.store import history, pack, reachability

GRACE = timedelta(days=7)
"""How long a pack that no root lists is kept: somebody may be about to list it."""
_PROBING = timedelta(hours=1)
"""How long scratch keys are kept, whatever the grace: a probe fails if its key is deleted."""
_MANY_SMALL = 8
_MOST = 4000
"""The most packs that one swap condemns: a root has to hold their names."""
_ATTEMPTS = 10


class Plan(NamedTuple):
    """The plan of a collection.

    Attributes:
        collection: The report of it.
        grace: How old garbage must be.
        seen: The root that the plan is made for.
        condemned: Packs that this root condemns and that still exist.
        strays: Packs in no root, to be condemned.
        scratch: Keys that probes have left.
        rewritten: Listed packs to rewrite, with the reasons.
        alive: Everything that is reachable.
        moved: Of that, what has to move into new packs.
    """

    collection: RemoteGCReport
    grace: timedelta
    seen: RootSnapshot
    condemned: tuple[ObjectId, ...]
    strays: tuple[ObjectId, ...]
    scratch: tuple[str, ...]
    rewritten: dict[ObjectId, str]
    alive: set[ObjectId]
    moved: set[ObjectId]

    @property
    def changes_root(self) -> bool:
        """Return whether the root has to change.

        If not, only packs that the root condemns already have to be deleted.
        """
        gone = len(self.condemned) < len(self.seen.root.condemned)
        return bool(self.strays or self.rewritten or gone)


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
    listed = {each.id for each in root.packs}
    # List after reading the root: if a newer root lists one of these packs, our swap loses.
    there = roots.stored(remote.driver)
    condemned = tuple(each for each in root.condemned if each in there and each not in listed)
    loose = [there[each] for each in sorted(there.keys() - listed - set(condemned))]
    scratch = list(remote.driver.list(probe.PREFIX))
    old, left = _old(remote, loose, scratch, grace)
    rewritten, alive, moved = _rewritten(remote, seen)
    garbage = (
        *(Garbage(name=e.key, size=e.size, reason="no root lists it") for e in old),
        *(
            Garbage(name=PACKS + name, size=there[name].size, reason="it was condemned before")
            for name in condemned
        ),
        *(Garbage(name=e.key, size=e.size, reason="a probe has left it") for e in left),
    )
    sizes = {each.id: each.size for each in root.packs}
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
            packs_before=len(root.packs),
            packs_after=len(root.packs) - len(rewritten) + math.ceil(sent / pack.TARGET),
            size=sum(each.size for each in (*garbage, *given_up)),
            sent=sent,
        ),
        grace,
        seen,
        condemned,
        tuple(each.key.removeprefix(PACKS) for each in old[:_MOST]),
        tuple(each.key for each in left),
        rewritten,
        alive,
        moved,
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
        [each for each in loose if now - each.modified >= grace],
        [each for each in scratch if now - each.modified >= probing],
    )


def _rewritten(
    remote: Remote, seen: RootSnapshot
) -> tuple[dict[ObjectId, str], set[ObjectId], set[ObjectId]]:
    """Return which listed packs to rewrite, and why.

    The objects below a closed group's trees can't be known. So while there is a closed group,
    nothing counts as dead, and a pack in which anything may be that group's is left alone.

    Returns:
        The packs with their reasons; everything that is reachable; of that, what has to be moved.
    """
    store = remote.store
    alive = reachability.reach(store, seen.root.refs.values()).all
    alive.update(entered.id for entered in history.entries(store, seen.root.team))
    all_open = {each.group for each in seen.header.epochs} <= store.vault.groups
    judged: list[tuple[Pack, dict[ObjectId, int]]] = []
    taken: set[ObjectId] = set()
    for packed in sorted(seen.root.packs, key=lambda each: -each.size):
        sizes = {at.id: at.length for at in store.locations(packed.id, remote=remote.name)}
        if sizes and (all_open or sizes.keys() <= alive):
            judged.append((packed, sizes))
        else:
            taken |= sizes.keys()
    dead: dict[ObjectId, str] = {}
    small: dict[ObjectId, str] = {}
    needed: dict[ObjectId, set[ObjectId]] = {}
    for packed, sizes in judged:
        # If several packs hold an object, the copy in the largest one is needed.
        needed[packed.id] = (sizes.keys() & alive) - taken
        taken |= needed[packed.id]
        total = sum(sizes.values())
        unneeded = total - sum(sizes[each] for each in needed[packed.id])
        if 2 * unneeded >= total:
            dead[packed.id] = f"{100 * unneeded // total} % of it is not needed"
        elif packed.size < SMALL:
            small[packed.id] = "it is small"
    rewritten = dead | small if len(small) >= _MANY_SMALL else dead
    return rewritten, alive, {each for name in rewritten for each in needed[name]}


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
    for _ in range(_ATTEMPTS + len(first.garbage) // _MOST):
        before = made.seen.root
        doomed = made.condemned
        if made.changes_root:
            uploaded += _send(remote, made, sent, progress)
            following = _following(made, sent)
            doomed = following.condemned
            try:
                won = remote.swap(made.seen.header, following)
            except errors.PreconditionFailed:
                made = plan(remote, grace=made.grace, progress=progress)
                sent = remaining(remote, sent, made.alive, before.gc_epoch)
                continue
            remember(remote, won, sent, progress)
        keys = [*(PACKS + each for each in doomed), *made.scratch]
        if keys:
            remote.driver.delete(keys)
        if len(made.strays) < _MOST:
            after = len(before.packs) - len(made.rewritten) + len(sent)
            return msgspec.structs.replace(first, packs_after=after, sent=uploaded, done=True)
        made, sent = plan(remote, grace=made.grace, progress=progress), []
    raise errors.ServerBusy(remote.url, "others keep changing it")


def _following(made: Plan, sent: Iterable[Sent]) -> Root:
    root = made.seen.root
    new = {each.pack.id: each.pack for each in sent}
    kept = (each for each in root.packs if each.id not in made.rewritten)
    # Packs uploaded for a lost swap show up among those that no root lists.
    strays = (each for each in made.strays if each not in new)
    return roots.successor(
        root,
        packs=(*kept, *new.values()),
        condemned=(*made.condemned, *strays, *made.rewritten),
        gc_epoch=root.gc_epoch + 1,
    )


def _send(remote: Remote, made: Plan, sent: list[Sent], progress: Progress) -> int:
    """Upload new packs with what has to be moved; return their size in bytes."""
    header, root = made.seen.header, made.seen.root
    # There are no more new packs than old ones, so the old list is an upper bound.
    crowded = msgspec.structs.replace(_following(made, ()), packs=root.packs)
    opened = remote.unlock(header)
    roots.encode(header, crowded, opened, remote.signer())
    there = {each for earlier in sent for each in earlier.ids}
    moved = made.moved - there
    fetch_objects(remote, moved, progress)
    size = sum(at.length for at in remote.store.locate(moved).values())
    before = len(sent)
    send(remote, build(opened, renewed(remote.store, opened, moved)), sent, progress, size)
    return sum(each.pack.size for each in sent[before:])
