"""Fetch: the root, the tails of packs that are new, and the chunks that a checkout needs.

A reader may meet a garbage collection: a listed pack that is missing means that the root has moved
on or that the repository is damaged. Reading the root again tells which.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
from typing import NamedTuple

from dorky import errors
from dorky.format.model import ALL, KiB, Location, MiB, ObjectId, Pack
from dorky.parallel import in_order
from dorky.progress import SILENT, Progress
from dorky.remote import authority
from dorky.remote.listing import Moved, packs_of, read_range
from dorky.remote.root import HEAD, PACKS, Remote, RootSnapshot
from dorky.store import history, pack
from dorky.store.database import TEAM
from dorky.store.history import ATTEST
from dorky.store.objects import PackedObject, Store

_THREADS = 6
_ATTEMPTS = 3
# Reading over a gap is cheaper than another request, up to about what a round trip carries.
_GAP = 128 * KiB
_RANGE = 8 * MiB
_FINE = 32 * KiB
_OVERHEAD = 64
"""More than an object costs its pack on top of its bytes: packs are saved before they are full."""


def fetch(remote: Remote, progress: Progress = SILENT) -> None:
    """Update what is known of a remote: its root, and the metadata of all its packs.

    This takes one conditional request if nothing is new, and one request if everything new is
    inline.

    Raises:
        NoRepositoryAtURL: The remote holds no repository.
        MissingPack: The root lists a pack that the remote does not store.
    """
    for _ in range(_ATTEMPTS):
        known = bool(remote.store.database.get(TEAM)) and not _groups_changed(remote.store)
        answer = remote.read(unless=remote.version if known else None)
        if answer is None:
            return
        with contextlib.suppress(Moved):
            _take(remote, *answer, progress)
            return
    raise errors.ServiceUnavailableError(remote.url, "its root keeps changing")


def _groups_changed(store: Store) -> bool:
    """Return whether the user has other groups' keys than at the last fetch of the remote."""
    if not store.database.roster().groups:
        return False
    with contextlib.suppress(errors.NoKey, errors.IdentityMissing):
        return _groups(store) != store.database.get("groups")
    return False


def _groups(store: Store) -> bytes:
    return " ".join(sorted(store.vault.groups)).encode()


def _take(remote: Remote, seen: RootSnapshot, data: bytes, progress: Progress) -> None:
    """Store a root and the metadata of all that it lists, or nothing."""
    authority.check_early(remote, seen)
    store = remote.store
    known = {packed.id for packed in store.packs(remote.name)}
    packs = packs_of(remote, seen)
    _check_epochs(remote, seen, packs, known)
    groups = _groups(store)
    if groups != (store.database.get("groups") or ALL.encode()):
        # Packs that were skipped while their group was closed can be read now.
        known.clear()
    new = [packed for packed in packs if packed.id not in known]
    before = remote.before
    learned: list[tuple[Pack, bytes]] = []
    with store.writer() as writer:
        lacking = writer.lacking(inlined.id for inlined in seen.root.inline)
        for inlined in seen.root.inline:
            if inlined.id in lacking and not store.vault.is_foreign(inlined.data):
                store.vault.read(
                    inlined.kind, inlined.id, inlined.data, epochs=len(seen.header.epochs)
                )
                writer.append(inlined.kind, inlined.id, inlined.data)
        progress.start("Fetching history", len(new), "packs")
        for packed, locations, metadata in _tails(remote, seen, new):
            # Packed, because there may be a million.
            learned.append((packed, pack.make_index(locations)))
            lacking = writer.lacking(at.id for at, _ in metadata)
            for at, stored in metadata:
                if at.id in lacking:
                    writer.append(at.kind, at.id, stored)
            progress.advance(1)
        progress.finish()
        # One short transaction, after all waiting for the network.
        with writer.saving() as save, remote.remembering(seen, data):
            save()
            for packed, index in learned:
                store.record(remote.name, packed, pack.read_index(index))
            store.database.set("groups", groups)
            store.retain(remote.name, [packed.id for packed in packs])
            authority.accept(remote, seen, first=before is None)
            _check_descent(remote, before or remote.glimpsed, seen)


def _check_descent(remote: Remote, before: RootSnapshot | None, seen: RootSnapshot) -> None:
    """Refuse a history that does not continue what was seen, unless files were purged from it.

    Raises:
        HistoryReplaced: The history does not continue what was seen.
    """
    if before is None or remote.accept_rewind:
        return
    for ref in (HEAD, ATTEST):
        old, new = (snapshot.root.refs.get(ref) for snapshot in (before, seen))
        if old is None or old == new:
            continue
        if seen.root.purges[: len(before.root.purges)] != before.root.purges:
            raise errors.HistoryReplaced(remote.url, old[:10])
        if len(seen.root.purges) == len(before.root.purges) and not (
            new and history.is_ancestor(remote.store, old, new)
        ):
            raise errors.HistoryReplaced(remote.url, old[:10])


def _check_epochs(
    remote: Remote, seen: RootSnapshot, packs: Iterable[Pack], known: Collection[ObjectId]
) -> None:
    """Refuse packs that were listed after a key was retired, but written with the retired key.

    Raises:
        CorruptRoot: There are such packs.
    """
    old = remote.before
    if old is None:
        return
    before = len(old.header.epochs)
    for packed in packs:
        if packed.id not in known and not before <= packed.epochs <= len(seen.header.epochs):
            raise errors.CorruptRoot(remote.url, f"pack {packed.id} uses keys that were retired")


Tail = tuple[Pack, list[Location], list[tuple[Location, bytes]]]


def _tails(remote: Remote, seen: RootSnapshot, packs: Sequence[Pack]) -> Iterator[Tail]:
    """Read the tails of packs: what they hold, and their metadata objects, verified.

    Objects of groups that the user is not in are skipped.
    """
    vault, space = remote.store.vault, remote.space

    def read(packed: Pack) -> Tail:
        if not 0 < packed.tail < packed.size <= pack.LIMIT:
            raise errors.CorruptRoot(remote.url, f"pack {packed.id} of {packed.size} bytes")
        tail, locations = space.through(
            f"tail {packed.id}",
            lambda: read_range(remote, seen, PACKS + packed.id, packed.tail, packed.size),
            lambda data: (data, pack.read_tail(packed, data, vault)),
        )
        metadata = []
        for at in locations:
            if not at.kind.is_data:
                start = at.offset - packed.tail
                stored = tail[start : start + at.length]
                if vault.is_foreign(stored):
                    continue
                vault.read(at.kind, at.id, stored, epochs=packed.epochs)
                metadata.append((at, stored))
        return packed, locations, metadata

    return in_order(read, packs, threads=_THREADS, ahead=_THREADS)


# --- chunks ---------------------------------------------------------------------------------


class Span(NamedTuple):
    """One range of one pack, and the objects to take from it."""

    pack: str
    start: int
    end: int
    objects: tuple[PackedObject, ...]

    @property
    def fine(self) -> bool:
        """Return whether the objects are so small that one thread is faster than several."""
        return self.end - self.start < len(self.objects) * _FINE

    def cut(self, data: bytes) -> Iterator[tuple[PackedObject, bytes | memoryview]]:
        """Yield the stored forms of the objects, cut from the range that was read."""
        # Slices save a copy, but a few small ones would keep a large buffer in memory.
        dense = sum(at.length for at in self.objects) > len(data) // 2
        whole = memoryview(data) if dense else data
        for at in self.objects:
            start = at.offset - self.start
            yield at, whole[start : start + at.length]


def spans(places: Iterable[PackedObject]) -> list[Span]:
    """Coalesce objects into ranges worth one request each."""
    found: list[list[PackedObject]] = []
    name, start, last = "", 0, 0
    for at in sorted(places, key=lambda at: (at.pack, at.offset)):
        end = at.offset + at.length
        if at.pack == name and at.offset - last <= _GAP and end - start <= _RANGE:
            found[-1].append(at)
        else:
            name, start = at.pack, at.offset
            found.append([at])
        last = end
    return [
        Span(run[0].pack, run[0].offset, run[-1].offset + run[-1].length, tuple(run))
        for run in found
    ]


Deliver = Callable[[ObjectId, str | None, bytes], None]
"""Receives a verified object: its id, the group that it is encrypted for, and its body."""


def fetch_objects(
    remote: Remote,
    ids: Iterable[ObjectId],
    progress: Progress = SILENT,
    deliver: Deliver | None = None,
    passing: Container[ObjectId] = frozenset(),
) -> None:
    """Fetch objects that only the remote holds. Each is verified before it is stored.

    Memory: a few ranges of 8 MiB, whatever the total.

    Args:
        remote: The remote.
        ids: The objects.
        progress: Receives the progress.
        deliver: Called, in several threads, with each object that is not stored yet. Once in a
            while it gets an object twice.
        passing: Objects to deliver without storing them.

    Raises:
        MissingObject: The remote does not hold one of them.
        CorruptObject: One of them is damaged.
        MissingPack: The remote does not store a pack that the root lists.
    """
    store = remote.store
    wanted = store.missing(ids)
    delivered: set[ObjectId] = set()
    for _ in range(_ATTEMPTS):
        if not wanted:
            return
        places = store.locate(wanted, remote=remote.name)
        for object_id in wanted - places.keys():
            raise errors.MissingObject(object_id)
        try:
            epochs = {packed.id: packed.epochs for packed in store.packs(remote.name)}
            receiving = _Receiving(store, epochs, deliver, passing, delivered)
            _fetch_spans(remote, spans(places.values()), progress, receiving)
        except Moved:
            fetch(remote)
            wanted = store.missing(wanted - delivered)
            continue
        return
    raise errors.ServiceUnavailableError(remote.url, "its root keeps changing")


class _Receiving(NamedTuple):
    """What becomes of the objects that arrive (see `fetch_objects`)."""

    store: Store
    epochs: dict[str, int]
    deliver: Deliver | None
    passing: Container[ObjectId]
    delivered: set[ObjectId]

    def open(self, span: Span, data: bytes) -> None:
        """Verify the objects of a range, and deliver them."""
        vault = self.store.vault
        for at, stored in span.cut(data):
            body = vault.read(at.kind, at.id, stored, epochs=self.epochs[span.pack])
            group = vault.group_of(stored)
            if self.deliver:
                self.deliver(at.id, group, body)
                if at.id in self.passing:
                    self.delivered.add(at.id)
            if span.fine:
                self.store.remember(at.id, group, body)

    def kept(self, span: Span, data: bytes) -> Iterator[tuple[PackedObject, bytes | memoryview]]:
        """Yield the objects of a range that are to be stored."""
        return (piece for piece in span.cut(data) if piece[0].id not in self.passing)


def _fetch_spans(
    remote: Remote, wanted: Sequence[Span], progress: Progress, receiving: _Receiving
) -> None:
    seen = remote.seen
    assert seen is not None

    def read(span: Span) -> bytes:
        data = read_range(remote, seen, PACKS + span.pack, span.start, span.end)
        if not span.fine:
            receiving.open(span, data)
        return data

    unsaved = 0
    progress.start("Downloading", sum(span.end - span.start for span in wanted), "B")
    with remote.store.writer() as writer:
        try:
            for span, data in zip(
                wanted, in_order(read, wanted, threads=_THREADS, ahead=_THREADS), strict=True
            ):
                if span.fine:
                    receiving.open(span, data)
                for at, stored in receiving.kept(span, data):
                    writer.append(at.kind, at.id, stored)
                    unsaved += len(stored) + _OVERHEAD
                    if unsaved >= pack.TARGET:
                        # Save even after a failure: what has arrived need not be fetched again.
                        writer.save()
                        unsaved = 0
                progress.advance(span.end - span.start)
        finally:
            writer.save()
    progress.finish()
