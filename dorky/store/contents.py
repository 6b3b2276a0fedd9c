"""Contents: the chunks of files, and the lists that hold them together.

A file that is cut has a list of its chunks; one of more than `LISTED` chunks has a list of such
lists. A list is read when its turn comes, so memory does not grow with the file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from dorky import errors
from dorky.format import model
from dorky.format.model import LISTED, Chunk, Chunks, Kind, ObjectId
from dorky.store.objects import Store, Writer, batches

_LOCATED = 5000
"""How many contents are looked up at a time: the places of a million would take much memory."""


def write(writer: Writer, chunks: Iterable[Chunk], *, group: str) -> ObjectId | None:
    """Store the list of a file's chunks, which are stored already.

    Returns:
        The file's content id: the chunk's, if there is only one; None if there is none.

    Raises:
        UsageError: The file has more chunks than a list of lists holds.
    """
    lists: list[Chunk] = []
    last: list[Chunk] = []

    def add(of: list[Chunk], *, lists: bool = False) -> Chunk:
        found = Chunks(tuple(of), lists)
        length = sum(chunk.length for chunk in of)
        return Chunk(writer.add(Kind.CHUNKS, model.encode(found), group=group), length)

    for chunk in chunks:
        if len(last) == LISTED:
            lists.append(add(last))
            last = []
        last.append(chunk)
    if not lists:
        return last[0].id if len(last) == 1 else add(last).id if last else None
    lists.append(add(last))
    if len(lists) > LISTED:
        raise errors.UsageError(f"a file of over {LISTED * LISTED:,} pieces is too large")
    return add(lists, lists=True).id


def chunks_of(store: Store, content: ObjectId) -> Iterator[ObjectId]:
    """Yield the chunks of a content, in order. They need not be in the local store.

    Raises:
        CorruptObject: A list is damaged, or is not as long as the list above it says.
    """
    at = store.locate([content]).get(content)
    if at is None or at.kind is not Kind.CHUNKS:
        yield content
        return
    yield from (chunk.id for chunk in _pieces(store, store.open(at), content))


def chunks_known(store: Store, wanted: Iterable[ObjectId]) -> set[ObjectId]:
    """Return the chunks of contents; a list that can't be read has none."""
    found: set[ObjectId] = set()
    for content in wanted:
        with contextlib.suppress(errors.IntegrityError):
            found.update(chunks_of(store, content))
    return found


def lacking(store: Store, wanted: Iterable[ObjectId]) -> dict[ObjectId, ObjectId]:
    """Return the contents that the local store does not hold, each with a chunk that it lacks."""
    return {
        content: min(missing)
        for content in wanted
        if (missing := store.missing(chunks_known(store, [content])))
    }


def pieces(store: Store, content: ObjectId) -> Iterator[Chunk]:
    """Yield the chunks that a list holds, in order, with their lengths in bytes.

    Raises:
        MissingObject: The local store lacks a list.
        CorruptObject: A list is damaged, or is not as long as the list above it says.
    """
    yield from _pieces(store, store.read(content), content)


def _pieces(store: Store, body: bytes, content: ObjectId) -> Iterator[Chunk]:
    found = model.decode_chunks(body, content)
    for chunk in found.chunks:
        if found.lists:
            yield from _listed(store, chunk)
        else:
            yield chunk


def _listed(store: Store, each: Chunk) -> tuple[Chunk, ...]:
    """Return the chunks in a list that another list names."""
    found = model.decode_chunks(store.read(each.id), each.id)
    if found.lists:
        raise errors.CorruptObject(each.id, "a list of lists in another one")
    if sum(chunk.length for chunk in found.chunks) != each.length:
        raise errors.CorruptObject(each.id, f"it is not {each.length} bytes long")
    return found.chunks


def below(store: Store, contents: Iterable[ObjectId]) -> dict[ObjectId, list[ObjectId]]:
    """Return, for each content, itself and the lists and chunks that it needs.

    The chunks need not be in the local store.
    """
    wanted = set(contents)
    lists = {
        object_id: at for object_id, at in store.locate(wanted).items() if at.kind is Kind.CHUNKS
    }
    result = {content: [content] for content in wanted}
    for content, at in lists.items():
        found = model.decode_chunks(store.open(at), content)
        for part in dict.fromkeys(found.chunks):
            result[content].append(part.id)
            if found.lists:
                result[content] += dict.fromkeys(chunk.id for chunk in _listed(store, part))
    return result


def all_below(store: Store, contents: Iterable[ObjectId]) -> set[ObjectId]:
    """Return contents, and all lists and chunks that they need (see `below`)."""
    found: set[ObjectId] = set()
    for batch in batches(contents, _LOCATED):
        found.update(*below(store, batch).values())
    return found
