"""Push: upload what the remote lacks, into the root or into packs, then compare-and-swap the root.

Order matters: every pack **must** be durable in the remote before the swap that lists it, because
from that moment on readers rely on it.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from dorky import cancellation, errors
from dorky.drivers.retry import Patience
from dorky.format.model import Header, Inline, KiB, Kind, MiB, ObjectId, Pack, Root, Roster
from dorky.keys import roster
from dorky.keys.teamlog import Team
from dorky.keys.vault import Vault
from dorky.parallel import in_order
from dorky.progress import SILENT, Progress
from dorky.remote import authority
from dorky.remote import root as roots
from dorky.remote.fetch import fetch
from dorky.remote.journal import Journal, PacksAhead, Sent
from dorky.remote.listing import follow, packs_of
from dorky.remote.pending_deletes import condemn, delete
from dorky.remote.root import HEAD, INLINE, PACKS, TABLES, Remote, RootSnapshot
from dorky.store import attestations, authorship, history, outgoing, pack
from dorky.store.contents import all_below
from dorky.store.history import ATTEST, MAIN, Node
from dorky.store.objects import PackedObject, Store

SMALL = 8 * MiB
"""Packs below this size are worth compacting; others are sent as they are cut here."""
_TIDIED = 64
"""After so many tables that pushes have replaced, one of the pushes deletes them."""
_HEADS = 32 * KiB
"""The most bytes of head commits and their root trees that stay inline."""
_LOG = 32 * KiB
"""The most bytes of the team log that stay inline, too: every reader checks all of it."""
UPLOADS = 3
"""How many packs are uploaded at once; each is in memory, at most 32 MiB and an object."""


Found = Callable[[], tuple[Header, Root]]


class Pushed(NamedTuple):
    """The result of a push.

    Attributes:
        old: The remote's head before; None if it had none.
        new: The remote's head now.
        objects: How many objects were uploaded.
        size: How many bytes they have, as stored.
        founded: Whether the remote held no repository before.
        left: How many files that no root lists could not be deleted.
        lists: The lists of chunks that were uploaded.
        attestations: How many attestations the remote has got.
    """

    old: ObjectId | None
    new: ObjectId
    objects: int
    size: int
    founded: bool = False
    left: int = 0
    lists: tuple[ObjectId, ...] = ()
    attestations: int = 0


def push(
    remote: Remote,
    found: Found,
    head: ObjectId,
    progress: Progress = SILENT,
    ahead: Collection[PacksAhead] = (),
    *,
    journal: Journal | None = None,
) -> Pushed:
    """Move the remote's ``main`` to ``head``, and add what vouches for files, in one swap.

    This takes one request if the remote is as it was last seen and the new objects are small.

    Args:
        remote: The remote to push to.
        found: Returns the repository's header and first root, for a push into an empty place.
        head: A commit whose objects are all in the local store or in the remote.
        progress: Receives the progress of uploads.
        ahead: Packs that this process has uploaded already. The caller deletes those that no root
            lists in the end.
        journal: The packs that were uploaded for this push; None if none were, or if it is not
            known which.

    Raises:
        Rejected: The remote has commits that ``head`` does not descend from.
        Misplaced: A new commit holds a file for other readers than its path belongs to.
        NotWriter: The user may not write to the remote.
        ForgedCommit: A new commit is not signed by a key that the team log knows.
        OutcomeUnknown: The remote did not answer; pushing again is safe.
    """
    if _is_settled(remote, head, progress):
        (journal or Journal(remote)).clear()
        return Pushed(head, head, 0, 0)
    _check_writer(remote, progress)
    journal = journal or Journal(remote)
    for uploaded in ahead:
        journal.resume(uploaded)
    sent: list[Sent] = []
    patience = Patience(remote.url, "others keep pushing")
    while True:
        authority.check_writer(remote)
        seen = remote.seen
        before = seen.root if seen else None
        refs = before.refs if before else {}
        old = refs.get(HEAD)
        if old is not None and not history.is_ancestor(remote.store, old, head):
            raise errors.Rejected(remote.name, f"{old[:10]}, and what led to it")
        # Check against the very root to be replaced: a group may have been started meanwhile.
        header, root = (
            (seen.header, roots.successor(before)) if seen else remote.following(*found())
        )
        heads = _heads(remote.store, root.roster, refs, head)
        if heads.items() <= refs.items():
            journal.clear()
            return Pushed(old, head, 0, 0)
        try:
            fresh = unlisted(remote, seen, heads, root.roster)
            _check_signatures(remote.store, heads.values())
        except (errors.Misplaced, errors.AmbiguousGroup):
            # Those that were passed in are the caller's to delete: it may push again, with them.
            passed = {uploaded.pack.id for packs in ahead for uploaded in packs.sent}
            journal.discard([own for own in journal.sent if own.pack.id not in passed])
            raise
        sent = journal.take(before, {at.id for at in fresh}, listed_by(remote, seen))
        # A root that has no room is refused before anything is sent.
        empty = msgspec.structs.replace(root, inline=())
        roots.encode(header, empty, remote.unlock(header), remote.signer())
        refs = {**heads, **refs, **heads}
        made = upload(
            *(remote, remote.store.vault, seen, fresh, sent, progress),
            heads=refs.values(),
            note=journal.add,
        )
        root = msgspec.structs.replace(root, refs=refs, **made.changes)
        try:
            won = remote.swap(header, root)
        except errors.PreconditionFailed:
            patience.wait()
            fetch(remote, progress)
            _delete_unlisted(remote, made.tables)
            continue
        with cancellation.shielded():  # the new root lists everything: what is left is to note it
            added = _follow(remote.store, before, heads)
            remember(remote, won, sent)
            journal.clear()
            left = delete(remote, made.stale) if made.stale else 0
        size = sum(at.length for at in fresh)
        lists = tuple(at.id for at in fresh if at.kind is Kind.CHUNKS)
        founded = seen is None
        return Pushed(old, head, len(fresh), size, founded, left, lists, added)


def _is_settled(remote: Remote, head: ObjectId, progress: Progress) -> bool:
    """Return whether there is nothing to push, after a look at a remote that seems to have all."""
    if remote.store.database.ref(ATTEST):
        attestations.catch_up(remote.store, remote.name)
    if remote.version is None:
        with contextlib.suppress(errors.NoRepositoryAtURL):
            fetch(remote, progress)
        return False
    if lacks(remote, head):
        return False
    # One conditional read tells whether there is still nothing to push.
    fetch(remote, progress)
    return not lacks(remote, head)


def lacks(remote: Remote, head: ObjectId) -> bool:
    """Return whether the remote lacks something that is about to be pushed, as last seen."""
    database = remote.store.database
    if attestations.unpushed(database, remote.name):
        return True
    return database.ref(f"{remote.name}/{MAIN}") != head


def _heads(
    store: Store, known: Roster, refs: Mapping[str, ObjectId], head: ObjectId
) -> dict[str, ObjectId]:
    """Return the refs that a push moves."""
    attested = attestations.following(store, known, refs.get(ATTEST), store.database.ref(ATTEST))
    return {HEAD: head, ATTEST: attested} if attested else {HEAD: head}


def _follow(store: Store, before: Root | None, heads: Mapping[str, ObjectId]) -> int:
    """Update the local history of attestations; return how many have been pushed."""
    old, new = before.refs.get(ATTEST) if before else None, heads.get(ATTEST)
    if new is None or new == old:
        return 0
    store.database.set_ref(ATTEST, new)
    trees = (history.trees_of(store, commit) for commit in (old, new))
    return sum(1 for _ in history.differences(store, *trees))


def _check_signatures(store: Store, heads: Iterable[ObjectId]) -> None:
    try:
        authorship.check(store, store.database.team(), heads)
    except errors.ForgedCommit as error:
        raise errors.ForgedCommit(*error.args, own=True) from None


def _check_writer(remote: Remote, progress: Progress) -> None:
    try:
        authority.check_writer(remote)
    except errors.NotWriter:
        if remote.version is None:
            raise
        fetch(remote, progress)  # an administrator may have changed that


def _delete_unlisted(remote: Remote, tables: Collection[ObjectId]) -> None:
    """Delete tables that were made for a lost swap, unless the newest root lists them after all.

    A swap may seem lost that won, if very many have followed it.
    """
    listed = {entry.id for entry in remote.seen.root.tables} if remote.seen else set()
    if gone := [TABLES + entry for entry in tables if entry not in listed]:
        delete(remote, gone)


def remember(
    remote: Remote,
    won: tuple[RootSnapshot, bytes] | None,
    sent: Iterable[Sent],
    progress: Progress = SILENT,
    *,
    team: Team | None = None,
) -> None:
    """Record the remote's state after a swap that won (see `Remote.swap`).

    Args:
        remote: The remote.
        won: The root as it is now.
        sent: The packs that it lists for the first time.
        progress: Receives the progress of a fetch.
        team: The team, if the root has changed it.
    """
    if won is None:  # others have swapped since
        # The swap has won, whether or not what followed it can be read: the next fetch does.
        with contextlib.suppress(errors.Unavailable):
            fetch(remote, progress)
        return
    packs = packs_of(remote, won[0])
    store = remote.store
    with store.writer() as writer, remote.remembering(*won):
        # What a change of the team has added to the log is in its root alone.
        log = {inlined.id: inlined for inlined in won[0].root.inline if inlined.kind is Kind.TEAM}
        for new in store.missing(log):
            writer.append(Kind.TEAM, new, log[new].data)
        writer.save()
        authorship.note(store.database, won[0].root.refs.values())
        if team:
            store.database.set_team(team)
        for upload in sent:
            remote.store.record(remote.name, upload.pack, upload.locations)
        remote.store.retain(remote.name, [packed.id for packed in packs])


# --- what to upload -------------------------------------------------------------------------


def listed_by(
    remote: Remote, seen: RootSnapshot | None
) -> Callable[[Iterable[ObjectId]], set[ObjectId]]:
    """Return a function that returns which of some objects the last root seen lists or holds."""
    inline = {inlined.id for inlined in seen.root.inline} if seen else set()

    def listed(ids: Iterable[ObjectId]) -> set[ObjectId]:
        known = set(ids)
        there = remote.store.locate(known - inline, remote=remote.name).keys() if seen else set()
        return (known & inline) | there

    return listed


def unlisted(
    remote: Remote, seen: RootSnapshot | None, heads: Mapping[str, ObjectId], known: Roster
) -> list[PackedObject]:
    """Return the locations of the objects that heads need and the root (to be replaced) lacks.

    A root lists an object only with everything below it, so the walk stops at what is listed. Trees
    of groups that the user is not in are always listed: they came from the remote.

    Args:
        remote: The remote to push to.
        seen: The remote's root; None if it has none yet.
        heads: Commits by the names of their refs.
        known: The roster that the swap is going to write. Each new commit is checked against it.

    Raises:
        MissingObject: An object is neither in the local store nor in the remote.
        Misplaced: A new commit holds a file for other readers than its path belongs to.
    """
    store = remote.store
    listed = listed_by(remote, seen)
    wanted: set[ObjectId] = set()
    trees: set[ObjectId] = set()
    nodes: list[Node] = []
    for ref, head in heads.items():
        new = [*history.ancestors(store, [head], stop=lambda commit: bool(listed([commit])))]
        outgoing.check(store, [head], new, known, attestations.owner_in(ref, known))
        nodes += new
    if seen is None:
        wanted.update(entered.id for entered in history.entries(store, store.database.team().id))
    for node in nodes:
        wanted.add(node.id)
        opened = {g: tree for g, tree in node.commit.trees.items() if g in store.vault.groups}
        trees.update(opened.values())
        foreign = {tree: g for g, tree in node.commit.trees.items() if g not in opened}
        for tree in foreign.keys() - listed(foreign):
            if seen is not None:
                name = roster.name_of(known, foreign[tree])
                raise errors.LeftGroup(node.id[:10], name)
            raise errors.MissingObject(tree, why="group")
    unlisted_trees, contents = history.below(store, trees, skip=listed)
    contents -= listed(contents)
    pieces = all_below(store, contents)
    del contents
    pieces -= listed(pieces)
    # The larger set grows: there may be a million pieces.
    pieces |= wanted
    pieces |= unlisted_trees
    places = store.locate(pieces)
    for object_id in pieces - places.keys():
        raise errors.MissingObject(object_id, why="elsewhere")
    return sorted(places.values(), key=lambda at: (at.pack, at.offset))


# --- uploading ------------------------------------------------------------------------------


class Uploaded(NamedTuple):
    """The result of an upload.

    Attributes:
        changes: The changes in the root that list everything.
        tables: The tables that were made for this root alone.
        stale: The keys of files that may be deleted after the swap.
    """

    changes: dict[str, Any]
    tables: tuple[ObjectId, ...] = ()
    stale: tuple[str, ...] = ()


def upload(
    remote: Remote,
    vault: Vault,
    seen: RootSnapshot | None,
    fresh: Sequence[PackedObject],
    sent: list[Sent],
    progress: Progress,
    *,
    heads: Collection[ObjectId],
    note: Callable[[Sent], None] = lambda _: None,
) -> Uploaded:
    """Upload what does not fit into the root, and the tables that then say where it lies.

    Head commits, their small root trees and the end of the team log are inline in any case: whoever
    reads one file without a local store needs them first.

    Args:
        remote: The remote to push to.
        vault: Re-encrypts what was encrypted with a key that has been retired since.
        seen: The root to replace; None if there is none.
        fresh: The objects that the root lacks.
        sent: Packs uploaded before, for a swap that was lost; those uploaded now are added.
        progress: Receives the progress of uploads.
        heads: The commits that the root's refs are going to name.
        note: Receives each pack before it is uploaded.
    """
    old = seen.root if seen else None
    inline = {inlined.id: inlined for inlined in (old.inline if old else ())}
    there = {at.id for upload in sent for at in upload.locations}
    rest = [at for at in fresh if at.id not in there]
    first = first_objects(remote.store, vault, heads)
    room = INLINE - sum(len(inlined.data) for inlined in inline.values())
    few = sum(at.length for at in rest) <= room
    riding = {**first, **{at.id: at for at in rest if few}}
    riding = {object_id: at for object_id, at in riding.items() if object_id not in inline}
    if few and sum(at.length for at in riding.values()) <= room:
        new = [Inline(*_renewed(remote.store, vault, at)) for at in riding.values()]
        following = (*inline.values(), *new)
    else:
        # Objects that were inline move into a pack, so that the root has room again.
        listed = remote.store.locate(inline, remote=remote.name).keys() | there
        moved = [(e.kind, e.id, e.data) for e in inline.values() if e.id not in listed]
        size = sum(at.length for at in rest) + sum(len(data) for _, _, data in moved)
        packed = packs_of_objects(remote.store, vault, rest, moved)
        send(remote, packed, sent, progress, size, note=note)
        following = (
            *(Inline(*_renewed(remote.store, vault, at)) for at in first.values()),
            *_newest_entries(inline.values()),
        )
    listing = follow(remote, seen, vault, sent)
    changes = {"inline": following, **listing.changes}
    stale: tuple[str, ...] = ()
    if old and listing.stale:
        count = len(old.condemned)
        tidy = (count + len(listing.stale)) // _TIDIED > count // _TIDIED
        condemned = condemn(remote, old, (), listing.stale, ask=tidy)
        changes |= condemned.changes
        stale = condemned.keys if tidy else ()
    return Uploaded(changes, listing.made, stale)


def _newest_entries(inline: Iterable[Inline]) -> list[Inline]:
    """Return the newest inline entries of the team log, as far as they have room."""
    found: list[Inline] = []
    size = 0
    for entry in reversed([inlined for inlined in inline if inlined.kind is Kind.TEAM]):
        size += len(entry.data)
        if size > _LOG:
            break
        found.append(entry)
    return found[::-1]


def first_objects(
    store: Store, vault: Vault, heads: Iterable[ObjectId]
) -> dict[ObjectId, PackedObject]:
    """Return the locations of head commits and of their root trees, as far as they are small."""
    found: dict[ObjectId, PackedObject] = {}
    size = 0
    for head in heads:
        trees = history.read_commit(store, head).trees
        opened = [tree for group, tree in sorted(trees.items()) if group in vault.groups]
        for object_id, at in sorted(store.locate([head, *opened]).items(), key=_by_kind):
            if object_id not in found and size + at.length <= _HEADS:
                found[object_id] = at
                size += at.length
    return found


def _by_kind(item: tuple[ObjectId, PackedObject]) -> tuple[bool, int]:
    return item[1].kind is not Kind.COMMIT, item[1].length


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
    """Upload packs, several at once, and add each to ``sent`` once it is stored.

    Each is passed to ``note`` before it is uploaded, so that whatever interrupts the upload, the
    packs that have arrived are known.

    Memory: at most `UPLOADS` packs of 32 MiB and an object.
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

    for new in in_order(put, noted(), threads=UPLOADS, ahead=UPLOADS):
        sent.append(new)
        progress.advance(sum(at.length for at in new.locations))
    progress.finish()


def packs_of_objects(
    store: Store, vault: Vault, fresh: Iterable[PackedObject], moved: Iterable[Stored]
) -> Iterator[Made]:
    """Yield the packs to upload: one for each large local one that is wanted whole, then the rest.

    No pack is uploaded as it lies in the local store: a name must never be used twice, since the
    deletion of an earlier pack of that name may still be under way. But packs that are wanted whole
    can be checked against their names.
    """
    wanted: dict[str, list[PackedObject]] = {}
    for at in fresh:
        wanted.setdefault(at.pack, []).append(at)
    loose: list[PackedObject] = []
    for packed in store.packs():
        places = wanted.get(packed.id, [])
        if packed.size >= SMALL and places and len(places) == len(store.locations(packed.id)):
            yield _copy(store, vault, packed, places)
        else:
            loose += places
    # Data first: the writer holds metadata back, so that it ends up in the last pack's tail.
    loose.sort(key=lambda at: not at.kind.is_data)
    objects = itertools.chain(moved, (_renewed(store, vault, at) for at in loose))
    yield from build(vault, objects, store.pack_size)


def _copy(store: Store, vault: Vault, packed: Pack, places: Iterable[PackedObject]) -> Made:
    """Return a new pack of all objects of a local one, whose data are hashed once for both.

    Raises:
        CorruptPack: The local pack's bytes are not those that were written.
    """
    digest = store.data_digest(packed)
    buffer = store.pack_memory(packed)
    writer = pack.PackWriter(buffer, vault)
    for at in places:
        writer.append(*_renewed(store, vault, at))
    made = writer.finish()
    if writer.digest != digest:
        # Objects were encrypted again, or the pack is damaged: then this raises.
        store.pack_bytes(packed.id)
    buffer.truncate()
    return Sent(made, writer.index), buffer.getvalue()


def build(vault: Vault, objects: Iterable[Stored], size: int = 0) -> Iterator[Made]:
    """Yield new packs, made in memory; each has at most ``size`` (or 32 MiB) and an object."""
    buffer = io.BytesIO()
    writer = pack.PackWriter(buffer, vault, target=size)
    for kind, object_id, stored in objects:
        writer.append(kind, object_id, stored)
        if writer.full:
            yield Sent(writer.finish(), writer.index), buffer.getvalue()
            buffer = io.BytesIO()
            writer = pack.PackWriter(buffer, vault, target=size)
    if len(writer):
        yield Sent(writer.finish(), writer.index), buffer.getvalue()
