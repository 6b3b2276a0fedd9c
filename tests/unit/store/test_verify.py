"""Packs read whole, piece by piece."""

from __future__ import annotations

import hashlib
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorky.format.model import Kind, Location, MiB
from dorky.store import verify

DATA = random.Random(9).randbytes(2000)


def cut(lengths: list[tuple[int, int]]) -> list[Location]:
    """Objects one after the other, each with a gap before it."""
    places, offset = [], 0
    for n, (gap, length) in enumerate(lengths):
        offset += gap
        places.append(Location(Kind.CHUNK, f"{n:064x}", offset, length))
        offset += length
    return places


def blocks(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at, n = 0, 0
    while at < len(data):
        yield data[at : at + sizes[n % len(sizes)]]
        at += sizes[n % len(sizes)]
        n += 1


@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(1, 200)), max_size=20),
    st.lists(st.integers(1, 300), min_size=1, max_size=5),
)
def test_objects_are_what_lies_at_their_places(
    lengths: list[tuple[int, int]], sizes: list[int]
) -> None:
    places = cut(lengths)
    digest = hashlib.sha256()
    for each in verify.scrub(blocks(DATA, sizes), places, None, digest.update):
        end = each.at.offset + each.at.length
        assert each.stored == DATA[each.at.offset : end]
        assert (each.error is None) is (end <= len(DATA))
    assert digest.digest() == hashlib.sha256(DATA).digest()


def test_objects_that_overlap_are_damaged() -> None:
    places = [Location(Kind.CHUNK, "a", 0, 150), Location(Kind.CHUNK, "b", 10, 300)]
    found = {each.at.id: each.error for each in verify.scrub(blocks(DATA, [100]), places, None)}
    assert found["a"] is None


def test_memory_does_not_grow_with_the_pack() -> None:
    lengths = [(10, MiB)] * 64
    stream = (bytes(MiB) for _ in range(65))
    tracemalloc.start()
    for _ in verify.scrub(stream, cut(lengths), None):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * MiB


@pytest.mark.parametrize("t", [1, 2, 7])
def test_every_pack_is_in_one_part(t: int) -> None:
    names = [hashlib.sha256(bytes([n])).hexdigest() for n in range(50)]
    parts = [{name for name in names if verify.in_part(name, (n + 1, t))} for n in range(t)]
    assert sorted(name for part in parts for name in part) == sorted(names)


def test_names(tmp_path: Path) -> None:
    there = [tmp_path / (each * 32) for each in ("ab", "cd")]
    for path in reversed(there):
        path.touch()
    for each in ("ab" * 31, "AB" * 32, ".tmp-ab", "ab" * 32 + "0"):
        assert not verify.is_name(each)
        (tmp_path / each).touch()
    assert verify.packs_in(tmp_path) == there
    assert verify.packs_in(tmp_path / "elsewhere") == []
