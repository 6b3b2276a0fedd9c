"""Pushing: what the remote lacks, into the root or into packs, then one compare-and-swap.

Order matters: every pack **must** be durable in the remote before the swap that lists it, because
from that moment on readers rely on it.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from dorky import errors, history, pack
from dorky.history import MAIN
from dorky.model import Header, Inline, Kind, MiB, ObjectId, Pack, Root
from dorky.pack import Location
from dorky.parallel import in_order
from dorky.progress import SILENT, Progress
from dorky.remote import root as roots
from dorky.remote.fetch import fetch
from dorky.remote.root import INLINE, PACKS, Remote, Seen
from dorky.store import Held, Store
from dorky.vault import Vault

_AS_IT_IS = 8 * MiB
"""Local packs from this size on are uploaded whole if everything in them is wanted."""
_UPLOADS = 3
"""Packs sent at once; each is in memory, 32 MiB and an object at the most."""
_ATTEMPTS = 10


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


class Sent(NamedTuple):
    """A pack that is in the remote but in no root yet, and what it holds."""

    pack: Pack
    locations: list[Location]


def push(
    remote: Remote,
    found: Found,
    head: ObjectId,
    progress: Progress = SILENT,
    *,
    check: Callable[[], None] = lambda: None,
) -> Pushed:
    """Make the remote's ``main`` be ``head``.

    One request if the remote is as it was last seen and the new objects are small.

    Args:
        remote: Where to.
        found: Gives the repository's header and first root, for a push into an empty place.
        head: A commit whose objects are all here, or in the remote already.
        progress: Is told about uploads.
        check: Raises if what is to be pushed does not fit what the remote says by now.

    Raises:
        Rejected: The remote has commits that ``head`` does not descend from.
        OutcomeUnknown: The remote did not answer; pushing again is safe.
    """
    if remote.version is None:
        with contextlib.suppress(errors.NoRepositoryAtURL):
            fetch(remote, progress)
    elif remote.store.database.ref(f"{remote.name}/{MAIN}") == head:
        # Nothing to send if that is still so: one conditional read tells.
        fetch(remote, progress)
    sent: list[Sent] = []
    for _ in range(_ATTEMPTS):
        seen = remote.seen
        old = seen.root.refs.get(MAIN) if seen else None
        if old == head:
            return Pushed(old, head, 0, 0)
        if old is not None and not history.is_ancestor(remote.store, old, head):
            raise errors.Rejected(remote.name)
        check()
        fresh = unlisted(remote, seen, head)
        changes = upload(remote, remote.store.vault, seen and seen.root, fresh, sent, progress)
        header, root = (seen.header, roots.successor(seen.root)) if seen else found()
        root = msgspec.structs.replace(root, refs={**root.refs, MAIN: head}, **changes)
        try:
            won = remote.swap(header, root)
        except errors.PreconditionFailed:
            fetch(remote, progress)
            _withdraw(remote, sent)
            continue
        remember(remote, won, sent)
        size = sum(at.length for at in fresh)
        return Pushed(old, head, len(fresh), size, founded=seen is None)
    raise errors.ServerBusy(remote.url, "others keep pushing")


def _withdraw(remote: Remote, sent: list[Sent]) -> None:
    """Delete packs sent for a swap that was lost to a rotation: who was removed has their key."""
    epochs = remote.store.vault.epochs
    stale = [each for each in sent if each.pack.epochs != epochs]
    sent[:] = [each for each in sent if each.pack.epochs == epochs]
    with contextlib.suppress(errors.AccessError):
        remote.driver.delete(PACKS + each.pack.id for each in stale)


def remember(
    remote: Remote,
    won: tuple[Seen, bytes] | None,
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


def unlisted(remote: Remote, seen: Seen | None, head: ObjectId) -> list[Held]:
    """Where the objects lie that ``head`` needs and the root (about to be replaced) lacks.

    What a root lists it lists with everything below, so the walk stops at what is listed. Trees of
    groups that the user is not in are always listed: they came from there.

    Raises:
        MissingObject: Something is neither here nor there.
    """
    store = remote.store
    inline = {each.id for each in seen.root.inline} if seen else set()

    def listed(ids: Iterable[ObjectId]) -> set[ObjectId]:
        known = set(ids)
        there = store.locate(known - inline, remote=remote.name).keys() if seen else set()
        return (known & inline) | there

    wanted: set[ObjectId] = set()
    trees: set[ObjectId] = set()
    for node in history.ancestors(store, [head], stop=lambda commit: bool(listed([commit]))):
        wanted.add(node.id)
        opened = {g: tree for g, tree in node.commit.trees.items() if g in store.vault.groups}
        trees.update(opened.values())
        foreign = set(node.commit.trees.values()) - trees
        for each in foreign - listed(foreign):
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
    fresh: Sequence[Held],
    sent: list[Sent],
    progress: Progress,
) -> dict[str, Any]:
    """Send what does not fit into the root.

    Args:
        remote: Where to.
        vault: Seals anew what was sealed with a key that has been retired since.
        old: The root to replace.
        fresh: What it lacks.
        sent: Packs sent before, for a swap that was lost; those sent now are added.
        progress: Is told about uploads.

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
        size = sum(at.length for at in rest) + sum(len(data) for _, _, data in moved)
        send(remote, packs_of(remote.store, vault, rest, moved), sent, progress, size)
        inline = ()
    packs = (*(old.packs if old else ()), *(each.pack for each in sent))
    return {"inline": inline, "packs": packs}


Stored = tuple[Kind, ObjectId, bytes]


def _renewed(store: Store, vault: Vault, at: Held) -> Stored:
    return at.kind, at.id, vault.renew(at.kind, at.id, store.stored(at))


def send(
    remote: Remote,
    packs: Iterable[tuple[Sent, bytes | None]],
    sent: list[Sent],
    progress: Progress,
    size: int,
) -> None:
    """Upload packs, several at once, and add each to ``sent`` once it is there.

    Memory: `_UPLOADS` packs of 32 MiB and an object at the most.
    """
    store = remote.store
    progress.start("Uploading", size, "B")

    def put(job: tuple[Sent, bytes | None]) -> Sent:
        made, data = job
        remote.driver.put(PACKS + made.pack.id, data or store.pack_bytes(made.pack.id))
        return made

    for made in in_order(put, packs, threads=_UPLOADS, ahead=_UPLOADS):
        sent.append(made)
        progress.advance(sum(at.length for at in made.locations))
    progress.finish()


def packs_of(
    store: Store, vault: Vault, fresh: Iterable[Held], moved: Iterable[Stored]
) -> Iterator[tuple[Sent, bytes | None]]:
    """The packs to send: whole local ones (no bytes: they are on disk), and new ones.

    A local pack goes as it is only if all of it is wanted (what was staged and never committed
    stays here) and no key has been changed since.
    """
    wanted: dict[str, list[Held]] = {}
    for at in fresh:
        wanted.setdefault(at.pack, []).append(at)
    loose: list[Held] = []
    for packed in store.packs():
        places = wanted.get(packed.id, [])
        whole = packed.size >= _AS_IT_IS and packed.epochs == vault.epochs and places
        locations = store.locations(packed.id) if whole else []
        if locations and len(locations) == len(places):
            yield Sent(packed, locations), None
        else:
            loose += places
    # Data first: the metadata is kept back by the writer and ends up in the last pack's tail.
    loose.sort(key=lambda at: not at.kind.is_data)
    objects = itertools.chain(moved, (_renewed(store, vault, at) for at in loose))
    yield from build(vault, objects)


def build(vault: Vault, objects: Iterable[Stored]) -> Iterator[tuple[Sent, bytes | None]]:
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
