"""Pushing: what the remote lacks, into the root or into packs, then one compare-and-swap.

Order matters: every pack **must** be durable in the remote before the swap that lists it, because
from that moment on readers rely on it.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from dorky import errors
from dorky.format.model import Header, Inline, Kind, MiB, ObjectId, Root, Roster
from dorky.keys import roster
from dorky.keys.vault import Vault
from dorky.parallel import in_order
from dorky.progress import SILENT, Progress
from dorky.remote import root as roots
from dorky.remote.fetch import fetch
from dorky.remote.journal import Journal, Sent
from dorky.remote.pending_deletes import condemn, delete
from dorky.remote.root import INLINE, PACKS, Remote, RootSnapshot
from dorky.store import history, outgoing, pack
from dorky.store.history import MAIN
from dorky.store.objects import PackedObject, Store

SMALL = 8 * MiB
"""Packs below this size are folded into larger ones."""
_MANY_SMALL = 16
"""How many of them a root lists before a push begins to fold."""
_UNASKED = 256
"""A push that folds asks what has become of the packs condemned before, once they are more."""
_UPLOADS = 3
"""Packs sent at once; each is in memory, 32 MiB and an object at the most."""
_ATTEMPTS = 30
_PAUSE = 0.2
"""Seconds that a push which lost waits at the most, so that those who met don't meet again."""


Found = Callable[[], tuple[Header, Root]]


class Pushed(NamedTuple):
    """What a push did.

    Attributes:
        old: The remote's head before; None if it had none.
        new: Its head now.
        objects: How many objects were sent.
        size: How many bytes of them, as stored.
        founded: Whether there was no repository before.
    """

    old: ObjectId | None
    new: ObjectId
    objects: int
    size: int
    founded: bool = False


def push(
    remote: Remote,
    found: Found,
    head: ObjectId,
    progress: Progress = SILENT,
) -> Pushed:
    """Make the remote's ``main`` be ``head``.

    One request if the remote is as it was last seen and the new objects are small.

    Args:
        remote: Where to.
        found: Gives the repository's header and first root, for a push into an empty place.
        head: A commit whose objects are all here, or in the remote already.
        progress: Is told about uploads.

    Raises:
        Rejected: The remote has commits that ``head`` does not descend from.
        Misplaced: A new commit holds a file for others than its path belongs to.
        OutcomeUnknown: The remote did not answer; pushing again is safe.
    """
    if remote.version is None:
        with contextlib.suppress(errors.NoRepositoryAtURL):
            fetch(remote, progress)
    elif remote.store.database.ref(f"{remote.name}/{MAIN}") == head:
        # Nothing to send if that is still so: one conditional read tells.
        fetch(remote, progress)
        if remote.store.database.ref(f"{remote.name}/{MAIN}") == head:
            Journal(remote).clear()
            return Pushed(head, head, 0, 0)
    journal = Journal(remote)
    sent: list[Sent] = []
    for attempt in range(_ATTEMPTS):
        seen = remote.seen
        before = seen.root if seen else None
        old = before.refs.get(MAIN) if before else None
        if old == head:
            journal.clear()
            return Pushed(old, head, 0, 0)
        if old is not None and not history.is_ancestor(remote.store, old, head):
            raise errors.Rejected(remote.name, f"{old[:10]}, and what led to it")
        # By the very root that is to be replaced: a group may have been started meanwhile.
        header, root = (
            (seen.header, roots.successor(before)) if seen else remote.following(*found())
        )
        try:
            fresh = unlisted(remote, seen, [head], root.roster)
        except (errors.Misplaced, errors.AmbiguousGroup):
            # The swap for these was lost, and they hold what others must not read.
            there = {each.id for each in before.packs} if before else set()
            delete(remote, {each.pack.id for each in sent} - there)
            raise
        sent = journal.take(before, {at.id for at in fresh}, listed_by(remote, seen))
        # What was folded in for a swap that was lost is in a pack that is sent.
        more = partial(_foldable, remote, before) if before and not attempt else tuple
        changes = upload(
            *(remote, remote.store.vault, before, fresh, sent, progress),
            note=journal.add,
            more=more,
        )
        dropped = _covered(remote, before, sent) if before else []
        if before and dropped:
            packs = [each for each in changes["packs"] if each.id not in dropped]
            changes |= {"packs": packs, **condemn(remote, before, dropped, unasked=_UNASKED)}
        root = msgspec.structs.replace(root, refs={**root.refs, MAIN: head}, **changes)
        try:
            won = remote.swap(header, root)
        except errors.PreconditionFailed:
            import random

            time.sleep(random.uniform(0, min(_PAUSE, 0.01 * 2**attempt)))  # noqa: S311
            fetch(remote, progress)
            continue
        remember(remote, won, sent)
        journal.clear()
        if dropped:
            delete(remote, dropped)
        size = sum(at.length for at in fresh)
        return Pushed(old, head, len(fresh), size, founded=seen is None)
    raise errors.ServerBusy(remote.url, "others keep pushing")


def remember(
    remote: Remote,
    won: tuple[RootSnapshot, bytes] | None,
    sent: Iterable[Sent],
    progress: Progress = SILENT,
) -> None:
    """Keep what a swap that won (see `Remote.swap`) has made of the remote."""
    if won is None:  # others have followed
        fetch(remote, progress)
        return
    with remote.remembering(*won):
        for each in sent:
            remote.store.record(remote.name, each.pack, each.locations)
        remote.store.retain(remote.name, [each.id for each in won[0].root.packs])


# --- what to send ---------------------------------------------------------------------------


def listed_by(
    remote: Remote, seen: RootSnapshot | None
) -> Callable[[Iterable[ObjectId]], set[ObjectId]]:
    """A function that says which of some objects the last root seen lists, or holds itself."""
    inline = {each.id for each in seen.root.inline} if seen else set()

    def listed(ids: Iterable[ObjectId]) -> set[ObjectId]:
        known = set(ids)
        there = remote.store.locate(known - inline, remote=remote.name).keys() if seen else set()
        return (known & inline) | there

    return listed


def unlisted(
    remote: Remote, seen: RootSnapshot | None, heads: Collection[ObjectId], known: Roster
) -> list[PackedObject]:
    """Where the objects lie that heads need and the root (about to be replaced) lacks.

    What a root lists it lists with everything below, so the walk stops at what is listed. Trees of
    groups that the user is not in are always listed: they came from there.

    Args:
        remote: Where to.
        seen: Its root; None if it has none yet.
        heads: Commits.
        known: The roster that the swap is going to write. Each new commit is placed by it.

    Raises:
        MissingObject: Something is neither here nor there.
        Misplaced: A new commit holds a file for others than its path belongs to.
    """
    store = remote.store
    listed = listed_by(remote, seen)
    wanted: set[ObjectId] = set()
    trees: set[ObjectId] = set()
    nodes = list(history.ancestors(store, heads, stop=lambda commit: bool(listed([commit]))))
    outgoing.check(store, heads, nodes, known)
    for node in nodes:
        wanted.add(node.id)
        opened = {g: tree for g, tree in node.commit.trees.items() if g in store.vault.groups}
        trees.update(opened.values())
        foreign = {tree: g for g, tree in node.commit.trees.items() if g not in opened}
        for each in foreign.keys() - listed(foreign):
            if seen is not None:
                name = roster.name_of(known, foreign[each])
                raise errors.LeftGroup(node.id[:10], name)
            hint = "it belongs to a group that you are not in: somebody who is has to push it"
            raise errors.MissingObject(each, hint=hint)
    unlisted_trees, contents = history.below(store, trees, skip=listed)
    contents -= listed(contents)
    pieces = {piece for each in history.chunks_of(store, contents).values() for piece in each}
    wanted |= unlisted_trees | contents | (pieces - listed(pieces))
    places = store.locate(wanted)
    for each in wanted - places.keys():
        raise errors.MissingObject(
            each,
            hint="it was never pulled here: copy the old remote's keys to the new place first",
        )
    return sorted(places.values(), key=lambda at: (at.pack, at.offset))


# --- sending it -----------------------------------------------------------------------------


def upload(
    remote: Remote,
    vault: Vault,
    old: Root | None,
    fresh: Sequence[PackedObject],
    sent: list[Sent],
    progress: Progress,
    *,
    note: Callable[[Sent], None] = lambda _: None,
    more: Callable[[], Iterable[PackedObject]] = tuple,
) -> dict[str, Any]:
    """Send what does not fit into the root.

    Args:
        remote: Where to.
        vault: Seals anew what was sealed with a key that has been retired since.
        old: The root to replace.
        fresh: What it lacks.
        sent: Packs sent before, for a swap that was lost; those sent now are added.
        progress: Is told about uploads.
        note: Is told about each pack before it is sent.
        more: Gives what is to go into a pack as well, if one has to be written anyway.

    Returns:
        What changes in the root to list everything: ``packs`` and ``inline``.
    """
    inline = old.inline if old else ()
    there = {at.id for each in sent for at in each.locations}
    rest = [at for at in fresh if at.id not in there]
    room = INLINE - sum(len(each.data) for each in inline)
    if sum(at.length for at in rest) <= room:
        inline += tuple(Inline(*_renewed(remote.store, vault, at)) for at in rest)
    else:
        # What was inline moves into a pack, so that there is room again.
        moved = [(each.kind, each.id, each.data) for each in inline if each.id not in there]
        taken = there.union((at.id for at in rest), (object_id for _, object_id, _ in moved))
        rest += (at for at in more() if at.id not in taken)
        size = sum(at.length for at in rest) + sum(len(data) for _, _, data in moved)
        packed = packs_of(remote.store, vault, rest, moved)
        send(remote, packed, sent, progress, size, note=note)
        inline = ()
    packs = (*(old.packs if old else ()), *(each.pack for each in sent))
    return {"inline": inline, "packs": packs}


Stored = tuple[Kind, ObjectId, bytes]
Made = tuple[Sent, bytes]
"""A new pack, and its bytes."""


def _renewed(store: Store, vault: Vault, at: PackedObject) -> Stored:
    return at.kind, at.id, vault.renew(at.kind, at.id, store.stored(at))


def send(
    remote: Remote,
    packs: Iterable[Made],
    sent: list[Sent],
    progress: Progress,
    size: int,
    *,
    note: Callable[[Sent], None] = lambda _: None,
) -> None:
    """Upload packs, several at once, and add each to ``sent`` once it is there.

    Each is told to ``note`` before it is sent: so whatever ends this, what has arrived is known.

    Memory: `_UPLOADS` packs of 32 MiB and an object at the most.
    """
    progress.start("Uploading", size, "B")

    def noted() -> Iterator[Made]:
        for made in packs:
            note(made[0])
            yield made

    def put(made: Made) -> Sent:
        new, data = made
        remote.driver.put(PACKS + new.pack.id, data)
        return new

    for new in in_order(put, noted(), threads=_UPLOADS, ahead=_UPLOADS):
        sent.append(new)
        progress.advance(sum(at.length for at in new.locations))
    progress.finish()


def packs_of(
    store: Store, vault: Vault, fresh: Iterable[PackedObject], moved: Iterable[Stored]
) -> Iterator[Made]:
    """The packs to send: one for each large local one that is wanted whole, and those of the rest.

    None is sent as it lies here: a name must never be used twice, since a deletion of what had it
    before may still be under way. But whole ones can be checked against their names.
    """
    wanted: dict[str, list[PackedObject]] = {}
    for at in fresh:
        wanted.setdefault(at.pack, []).append(at)
    loose: list[PackedObject] = []
    for packed in store.packs():
        places = wanted.get(packed.id, [])
        if packed.size >= SMALL and places and len(places) == len(store.locations(packed.id)):
            store.pack_bytes(packed.id)
            yield from build(vault, (_renewed(store, vault, at) for at in places))
        else:
            loose += places
    # Data first: the metadata is kept back by the writer and ends up in the last pack's tail.
    loose.sort(key=lambda at: not at.kind.is_data)
    objects = itertools.chain(moved, (_renewed(store, vault, at) for at in loose))
    yield from build(vault, objects)


def build(vault: Vault, objects: Iterable[Stored]) -> Iterator[Made]:
    """New packs, made in memory: 32 MiB and an object at the most each."""
    buffer = io.BytesIO()
    writer = pack.PackWriter(buffer, vault)
    for each in objects:
        writer.append(*each)
        if writer.size >= pack.TARGET:
            yield Sent(writer.finish(), writer.locations), buffer.getvalue()
            buffer = io.BytesIO()
            writer = pack.PackWriter(buffer, vault)
    if len(writer):
        yield Sent(writer.finish(), writer.locations), buffer.getvalue()


# --- folding --------------------------------------------------------------------------------


def _foldable(remote: Remote, root: Root) -> list[PackedObject]:
    """What small packs hold, if the root lists many: where it lies here, so nothing is downloaded.

    As much as one pack takes, the smallest first; so what is folded is not folded over and over.
    """
    store = remote.store
    small = sorted((each for each in root.packs if each.size < SMALL), key=lambda each: each.size)
    if len(small) < _MANY_SMALL:
        return []
    found: list[PackedObject] = []
    size = folded = 0
    for packed in small:
        size += packed.size
        if size > pack.TARGET:
            break
        ids = {at.id for at in store.locations(packed.id, remote=remote.name)}
        places = store.locate(ids)
        if len(places) == len(ids) and all(_is_sound(store, at) for at in places.values()):
            found += places.values()
            folded += 1
    return found if folded >= _MANY_SMALL // 2 else []


def _is_sound(store: Store, at: PackedObject) -> bool:
    """Whether an object can be read: what is damaged here, or for others, stays as it is there."""
    try:
        store.open(at)
    except errors.DorkyError:
        return False
    return True


def _covered(remote: Remote, root: Root, sent: Iterable[Sent]) -> set[ObjectId]:
    """The small packs of a root in which nothing is that is not in those which were sent."""
    there = {at.id for each in sent for at in each.locations}
    covered = set()
    for packed in root.packs:
        if there and packed.size < SMALL:
            ids = {at.id for at in remote.store.locations(packed.id, remote=remote.name)}
            if ids and ids <= there:
                covered.add(packed.id)
    return covered
