"""Lists of chunks, and lists of such lists: bounded, in order, and what they say they are."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from hashlib import sha256
from itertools import chain
from pathlib import Path

import pytest
from depth import deep
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import opened

from dorky import errors
from dorky.format import chunk, model, seal
from dorky.format.model import LISTED, Chunk, Chunks, Entry, KiB, Kind, MiB
from dorky.keys.vault import OpenEpoch, Vault
from dorky.store import contents, history, reachability
from dorky.store.objects import Store
from dorky.worktree import checkout, ingest

REPOSITORY = "00112233445566778899aabbccddeeff"
SEALED = Vault(REPOSITORY, [OpenEpoch("all", 1, seal.EpochKey(bytes(range(32))))])
PLAIN = Vault(REPOSITORY, [])


@pytest.fixture(params=[SEALED, *deep(PLAIN)], ids=["encrypted", "unencrypted"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path / "state", request.param) as found:
        yield found


def numbered(count: int) -> Iterator[Chunk]:
    return (Chunk(f"{n:064x}", 1 + n % 4) for n in range(count))


def listed(store: Store, count: int) -> str:
    with store.writer() as writer:
        made = contents.write(writer, numbered(count), group="all")
        writer.save()
    assert made
    return made


def read(store: Store, content: str) -> Chunks:
    return model.decode_chunks(store.read(content), content)


def test_a_list_that_is_named_over_and_over_is_read_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = "ab" * 32
    with store.writer() as writer:
        tiny = Chunks((Chunk(one, 1),) * LISTED)
        list_id = writer.add(Kind.CHUNKS, model.encode(tiny), group="all")
        top = Chunks((Chunk(list_id, LISTED),) * LISTED, lists=True)
        content = writer.add(Kind.CHUNKS, model.encode(top), group="all")
        writer.save()
    asked = []
    real = store.read
    monkeypatch.setattr(store, "read", lambda each: asked.append(each) or real(each))
    assert contents.below(store, [content]) == {content: [content, list_id, one]}
    assert asked == [list_id]


@pytest.mark.parametrize("count", [2, LISTED, LISTED + 1, 2 * LISTED, 2 * LISTED + 1, 20_000])
def test_chunks_come_back_in_order(store: Store, count: int) -> None:
    content = listed(store, count)
    top = read(store, content)
    wanted = [each.id for each in numbered(count)]
    assert list(contents.chunks_of(store, content)) == wanted
    assert top.lists is (count > LISTED)
    assert len(top.chunks) == (-(-count // LISTED) if top.lists else count)
    assert sum(each.length for each in top.chunks) == sum(1 + n % 4 for n in range(count))
    lists = [each.id for each in top.chunks] if top.lists else []
    assert all(len(read(store, each).chunks) == LISTED for each in lists[:-1])
    (below,) = contents.below(store, [content]).values()
    assert sorted(below) == sorted([content, *lists, *wanted])
    found = reachability.reach(store, [], [content])
    assert found.chunks == set(wanted)
    assert found.contents == {content, *lists}


def test_one_chunk_needs_no_list(store: Store) -> None:
    with store.writer() as writer:
        assert contents.write(writer, numbered(1), group="all") == "0" * 64
        assert contents.write(writer, [], group="all") is None
    assert list(contents.chunks_of(store, "0" * 64)) == ["0" * 64]


def test_a_list_is_read_when_its_turn_comes(store: Store) -> None:
    content = listed(store, 3 * LISTED)
    lists = [each.id for each in read(store, content).chunks]
    found: list[str] = []
    really = store.read

    def spy(object_id: str, *, group: str | None = None) -> bytes:
        found.append(object_id)
        return really(object_id, group=group)

    store.read = spy  # type: ignore[method-assign]
    chunks = contents.chunks_of(store, content)
    for n in range(3):
        assert next(chunks) == f"{n * LISTED:064x}"
        assert found == lists[: n + 1]
        for _ in range(LISTED - 1):
            next(chunks)
    assert next(chunks, None) is None


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(2, 6))
def test_any_file_comes_back(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], most: int
) -> None:
    """With short lists, so that small files have many."""
    bodies = [random.Random(n).randbytes(length) for n, length in enumerate(lengths)]
    whole = b"".join(bodies)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "LISTED", most)
        with opened(tmp_path_factory.mktemp("state") / "s", SEALED) as store:
            with store.writer() as writer:
                pieces = [Chunk(writer.add(Kind.CHUNK, body), len(body)) for body in bodies]
                if len(pieces) > most * most:
                    with pytest.raises(errors.UsageError, match="too large"):
                        contents.write(writer, pieces, group="all")
                    return
                content = contents.write(writer, pieces, group="all")
                writer.save()
            assert content
            entry = Entry("f", 0o100644, content, len(whole), sha256(whole).hexdigest())
            assert b"".join(checkout.read(store, entry, "all")) == whole
            with store.writer() as writer:
                other = ingest.regroup(store, writer, entry, "all", source="all")
            assert other == entry
            assert checkout.needed(store, [entry]) >= {each.id for each in pieces}
            (below,) = contents.below(store, [content]).values()
            assert not store.missing(below)
            assert history.below(store, []) == (set(), set())


def test_a_file_is_cut_and_read_in_bounded_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "LISTED", 4)
    monkeypatch.setattr(
        chunk, "cut", lambda source, *, seed: iter(lambda: source.read(64 * KiB), b"")
    )
    noise = random.Random(7).randbytes(MiB)
    with store.writer() as writer:
        entry = ingest.store_bytes(store, writer, "f", 0o100644, noise)
        writer.save()
    assert read(store, entry.content).lists
    tracemalloc.start()
    digest = sha256()
    for block in checkout.read(store, entry):
        digest.update(block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert digest.hexdigest() == entry.sha256
    assert peak < MiB


# --- what no writer makes -------------------------------------------------------------------


def test_lists_that_can_not_be() -> None:
    one = "1" * 64
    for found in (
        Chunks((Chunk(one, 1),) * (LISTED + 1)),
        Chunks((Chunk(one, 1),) * (LISTED + 1), True),
        Chunks((Chunk(one, 0),)),
        Chunks((Chunk(one, -1),), True),
        Chunks((Chunk(one, 4 * MiB + 1),)),
        Chunks((Chunk(one, LISTED * 4 * MiB + 1),), True),
    ):
        with pytest.raises(errors.CorruptObject):
            model.decode_chunks(model.encode(found), one)
    for fine in (
        Chunks((Chunk(one, 4 * MiB),) * LISTED),
        Chunks((Chunk(one, LISTED * 4 * MiB),) * LISTED, True),
    ):
        assert model.decode_chunks(model.encode(fine), one) == fine
    assert model.encode(Chunks((Chunk(one, 1),))) == b'{"chunks":[["%s",1]]}' % one.encode()
    assert model.encode(Chunks((Chunk(one, 1),), True)).endswith(b',"lists":true}')


def test_lists_in_lists_in_lists(store: Store) -> None:
    with store.writer() as writer:
        piece = Chunk(writer.add(Kind.CHUNK, b"abcd"), 4)

        def add(found: Chunks) -> Chunk:
            length = sum(each.length for each in found.chunks)
            return Chunk(writer.add(Kind.CHUNKS, model.encode(found)), length)

        flat = add(Chunks((piece, piece)))
        two = add(Chunks((flat, flat), True))
        bad = [
            add(Chunks((two, two), True)).id,  # deeper than any
            add(Chunks((Chunk(flat.id, 7),), True)).id,  # another length
            add(Chunks((Chunk(flat.id, 9), flat), True)).id,
            add(Chunks((piece, flat), True)).id,  # a chunk in place of a list
            add(Chunks((Chunk("f" * 64, 4),), True)).id,  # a list that is missing
            add(Chunks((flat, flat))).id,  # lists in place of chunks
        ]
        writer.save()
    good = Entry("f", 0o100644, two.id, 16, sha256(b"abcd" * 4).hexdigest())
    assert b"".join(checkout.read(store, good)) == b"abcd" * 4
    for content in bad:
        for size in (8, 16, 32):
            entry = Entry("f", 0o100644, content, size)
            with pytest.raises((errors.CorruptObject, errors.MissingObject)):
                list(chain(checkout.read(store, entry)))
