"""The content of single files: stored from a stream, and read by range without a local copy."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from dorky import cancellation, errors
from dorky.format import chunk, model
from dorky.format.codec import Coding
from dorky.format.model import LISTED, Chunk, Entry, KiB, Kind, MiB, ObjectId
from dorky.library.outbox import Outbox
from dorky.library.session import Session
from dorky.library.sources import Reading
from dorky.parallel import in_order
from dorky.remote.fetch import Span, spans
from dorky.remote.root import PACKS
from dorky.store import contents
from dorky.store.history import Placed
from dorky.store.objects import Store, Writer

_AHEAD = 8 * MiB - 64 * KiB
"""The most bytes of a file that are asked for together; as stored, they fit into one range."""
_THREADS = 6
_ATTEMPTS = 3


class Content(NamedTuple):
    """The content of a file that is about to be committed.

    Attributes:
        size: Its size in bytes.
        sha256: Its SHA-256, in hex.
        mode: File type and permission bits; 0: those of the file that it replaces, if any.
        group: The group that it is encrypted for.
        how: How it is compressed.
        body: All of it, if it is so small that the commit stores it.
        id: Its id, if it is stored already.
    """

    size: int
    sha256: str
    mode: int
    group: str
    how: Coding
    body: bytes | None = None
    id: ObjectId = ""

    def store(self, writer: Writer) -> ObjectId:
        """Store a small content; return the id of any."""
        if self.body is None:
            return self.id
        return writer.add(Kind.CHUNK, self.body, group=self.group, how=self.how)


def take(
    store: Store, reading: Reading, group: str, how: Coding, outbox: Outbox | None = None
) -> Content:
    """Read a source to its end, and store what is too large for one chunk.

    Args:
        store: The store.
        reading: The source.
        group: The group that it is encrypted for.
        how: How it is compressed.
        outbox: Sends the packs of a large one while it is read.
    """
    body = reading.read_up_to(chunk.WHOLE + 1)
    if len(body) <= chunk.WHOLE:
        return Content(reading.size, reading.digest, reading.mode, group, how, body)
    with contextlib.ExitStack() as stack:
        ahead = stack.enter_context(outbox.ahead()) if outbox else None
        writer = stack.enter_context(store.writer(ahead.send if ahead else None))
        bodies = chunk.cut(_Joined(body, reading), seed=store.vault.gear_seed(group))
        pieces = (
            Chunk(piece, length)
            for piece, length in writer.add_all(Kind.CHUNK, bodies, group=group, how=how)
        )
        content = contents.write(writer, pieces, group=group)
        assert content is not None
        writer.complete()
        writer.save()
        if ahead:
            ahead.finish()
    return Content(reading.size, reading.digest, reading.mode, group, how, id=content)


class _Joined:
    """A stream whose beginning has been read."""

    def __init__(self, head: bytes, rest: Reading) -> None:
        self._head = memoryview(head)
        self._rest = rest

    def readinto(self, buffer: memoryview, /) -> int:
        window = memoryview(buffer)
        if not self._head:
            return self._rest.readinto(window)
        count = min(len(window), len(self._head))
        window[:count] = self._head[:count]
        self._head = self._head[count:]
        return count


# --- reading --------------------------------------------------------------------------------


class Piece(NamedTuple):
    """One chunk of a file, and the offset of its first byte in the file."""

    start: int
    chunk: Chunk

    @property
    def end(self) -> int:
        """Return the offset behind its last byte."""
        return self.start + self.chunk.length


class Objects(Protocol):
    """The chunks of files, and the lists that hold them together."""

    def read_list(self, object_id: ObjectId) -> bytes | None:
        """Return the body of a list, verified; None if the object is a chunk."""

    def fetch(self, ids: set[ObjectId], group: str, *, keep: bool = True) -> dict[ObjectId, bytes]:
        """Return the bodies of chunks, verified.

        Args:
            ids: The chunks.
            group: The group that they must be encrypted for.
            keep: Whether the cache keeps them.

        Raises:
            MissingObject: Neither the local store nor the remote holds a chunk.
            CorruptObject: A chunk is damaged, or encrypted for others than the group.
        """

    def keeps(self, size: int) -> bool:
        """Return whether the cache keeps what is read by one call of so many bytes."""


class Fetched:
    """The objects of a session that has fetched the history, with all lists in it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def read_list(self, object_id: ObjectId) -> bytes | None:
        """See `Objects`."""
        store = self._session.store
        at = store.locate([object_id]).get(object_id)
        return store.open(at) if at and at.kind is Kind.CHUNKS else None

    def fetch(self, ids: set[ObjectId], group: str, *, keep: bool = True) -> dict[ObjectId, bytes]:
        """See `Objects`."""
        return _fetch(self._session, ids, group, keep=keep)

    def keeps(self, size: int) -> bool:
        """See `Objects`."""
        return self._session.remote.cache.keeps(size)


class Together:
    """The objects of a session that has fetched the history; some chunks come by few requests.

    If one of these is damaged or missing, all are fetched one by one, so that only one file fails.

    Args:
        session: The session.
        ids: The chunks to fetch at once.
        group: The group that they must be encrypted for.
    """

    def __init__(self, session: Session, ids: set[ObjectId], group: str) -> None:
        self._others = Fetched(session)
        self._held: dict[ObjectId, bytes] = {}
        with contextlib.suppress(errors.CorruptObject, errors.MissingObject, errors.MissingPack):
            self._held = _fetch(session, ids, group, keep=True)

    def read_list(self, object_id: ObjectId) -> bytes | None:
        """See `Objects`."""
        return self._others.read_list(object_id)

    def fetch(self, ids: set[ObjectId], group: str, *, keep: bool = True) -> dict[ObjectId, bytes]:
        """See `Objects`."""
        if ids <= self._held.keys():
            return {object_id: self._held[object_id] for object_id in ids}
        return self._others.fetch(ids, group, keep=keep)

    def keeps(self, size: int) -> bool:
        """See `Objects`."""
        return self._others.keeps(size)


def pieces(
    objects: Objects, entry: Entry, start: int = 0, end: int | None = None
) -> Iterator[Piece]:
    """Yield the chunks of a file that hold the bytes from ``start`` to ``end``.

    Lists of chunks outside the range are not read.

    Raises:
        CorruptObject: A list is damaged, or the file is not as long as its entry says.
    """
    body = objects.read_list(entry.content)
    end = entry.size if end is None else min(end, entry.size)
    if body is None:
        if start < end or entry.size == 0:
            yield Piece(0, Chunk(entry.content, entry.size))
        return
    found = model.decode_chunks(body, entry.content)
    if sum(part.length for part in found.chunks) != entry.size:
        raise errors.CorruptObject(entry.content, f"it is not {entry.size} bytes long")
    offset = 0
    for part in found.chunks:
        if offset < end and offset + part.length > start:
            yield from (
                _below(objects, part, offset, start, end) if found.lists else (Piece(offset, part),)
            )
        offset += part.length


def _below(objects: Objects, listed: Chunk, offset: int, start: int, end: int) -> Iterator[Piece]:
    body = objects.read_list(listed.id)
    if body is None:
        raise errors.MissingObject(listed.id)
    found = model.decode_chunks(body, listed.id)
    if found.lists or len(found.chunks) > LISTED:
        raise errors.CorruptObject(listed.id, "a list of lists in another one")
    if sum(part.length for part in found.chunks) != listed.length:
        raise errors.CorruptObject(listed.id, f"it is not {listed.length} bytes long")
    for part in found.chunks:
        if offset < end and offset + part.length > start:
            yield Piece(offset, part)
        offset += part.length


def bodies(
    objects: Objects, wanted: Iterable[Piece], group: str, *, keep: bool = True
) -> Iterator[tuple[Piece, bytes]]:
    """Yield chunks with their bytes, verified, in order. This is the one way to file content.

    Memory: a few times 8 MiB, whatever the total.

    Args:
        objects: The chunks.
        wanted: The chunks.
        group: The group that they must be encrypted for.
        keep: Whether the cache keeps them.

    Raises:
        MissingObject: Neither the local store nor the remote holds a chunk.
        CorruptObject: A chunk is damaged, or encrypted for others.
    """

    def read(batch: list[Piece]) -> list[tuple[Piece, bytes]]:
        found = objects.fetch({piece.chunk.id for piece in batch}, group, keep=keep)
        for piece in batch:
            if len(found[piece.chunk.id]) != piece.chunk.length:
                raise errors.CorruptObject(piece.chunk.id, f"it is not {piece.chunk.length} bytes")
        return [(piece, found[piece.chunk.id]) for piece in batch]

    batches = _batches(wanted)
    first = [*itertools.islice(batches, 2)]  # a small file needs no thread
    many = len(first) > 1
    for batch in in_order(
        read, itertools.chain(first, batches) if many else first, threads=_THREADS, ahead=2
    ):
        yield from batch


def is_local(session: Session, entry: Entry) -> bool:
    """Return whether the cache and the local store hold a content, as far as their lists tell."""
    chunks = {piece.chunk.id for piece in pieces(Fetched(session), entry)}
    missing = chunks - session.store.locate(chunks).keys()
    return all(map(session.remote.space.holds_object, missing))


def _batches(wanted: Iterable[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    size = 0
    for piece in wanted:
        if batch and size + piece.chunk.length > _AHEAD:
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += piece.chunk.length
    if batch:
        yield batch


def _fetch(
    session: Session, ids: set[ObjectId], group: str, *, keep: bool
) -> dict[ObjectId, bytes]:
    store, remote = session.store, session.remote
    local = store.locate(ids)
    found = {object_id: store.open(at, group=group) for object_id, at in local.items()}
    for object_id in ids - found.keys():
        if held := remote.space.object(store.vault, object_id, group):
            found[object_id] = held.body
    for attempt in range(_ATTEMPTS):
        wanted = ids - found.keys()
        if not wanted:
            return found
        places = store.locate(wanted, remote=remote.name)
        for object_id in wanted - places.keys():
            raise errors.MissingObject(object_id)
        epochs = {packed.id: packed.epochs for packed in store.packs(remote.name)}
        for span in spans(places.values()):
            try:
                data = remote.driver.get_range(PACKS + span.pack, span.start, span.end)
            except errors.KeyNotFound:
                # A garbage collection has moved its objects, or the pack is lost.
                session.refresh(force=True)
                if attempt + 1 == _ATTEMPTS:
                    raise errors.MissingPack(span.pack, remote.url) from None
                break
            opened = _opened(session, span, data, group, epochs.get(span.pack), keep=keep)
            found |= opened
    return found


def _opened(
    session: Session, span: Span, data: bytes, group: str, epochs: int | None, *, keep: bool
) -> Iterator[tuple[ObjectId, bytes]]:
    vault = session.store.vault
    for at, stored in span.cut(data):
        if vault.group_of(stored) != group:
            raise errors.CorruptObject(at.id, "it is sealed for another group than what names it")
        yield at.id, vault.read(at.kind, at.id, stored, epochs=epochs)
        if keep:
            session.remote.space.keep_object(at.kind, at.id, stored)


def blocks(
    objects: Objects, placed: Placed, start: int = 0, end: int | None = None
) -> Iterator[bytes]:
    """Yield the bytes of a file from ``start`` to ``end``, verified; the whole file by its hash.

    Raises:
        CorruptObject: The file is not what its entry says.
    """
    group, entry = placed
    end = entry.size if end is None else min(end, entry.size)
    whole = start == 0 and end == entry.size
    sha256 = hashlib.sha256()
    wanted = pieces(objects, entry, start, end)
    for piece, body in bodies(objects, wanted, group, keep=objects.keeps(end - start)):
        cancellation.check()
        block = body[max(0, start - piece.start) : max(0, end - piece.start)]
        if whole:
            sha256.update(block)
            if piece.end == entry.size and sha256.hexdigest() != entry.sha256:
                # The last block is held back: nobody takes a wrong file for a whole one.
                raise errors.CorruptObject(entry.content, "its SHA-256 is not the recorded one")
        if block:
            yield block
