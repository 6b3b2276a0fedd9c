"""Cutting: the same bytes in the same places, wherever they lie."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dorky.format import chunk, seal
from dorky.format.chunk import MAX, MIN, cut
from dorky.format.model import Kind, MiB

SEED = seal.gear_seed(seal.EpochKey(bytes(range(32))).id_key)
NOISE = hashlib.shake_128(b"chunks").digest(12 * MiB)


def lengths(data: bytes, seed: int = 0) -> list[int]:
    return [len(piece) for piece in cut(io.BytesIO(data), seed=seed)]


class Stream:
    """Gives at most ``step`` bytes a read, and counts them."""

    def __init__(self, data: bytes, step: int) -> None:
        self._file = io.BytesIO(data)
        self._step = step
        self.read = 0

    def readinto(self, buffer: memoryview, /) -> int:
        count = self._file.readinto(memoryview(buffer)[: self._step])
        self.read += count
        return count


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        (
            0,
            [
                *(1177943, 1102714, 1386261, 1106657, 1146738, 1289754, 1079945, 1095092),
                *(1126999, 1284460, 786349),
            ],
        ),
        (
            SEED,
            [
                *(1066898, 1082524, 1211096, 1275294, 1104627, 1078668),
                *(1294210, 1479150, 1161616, 1121837, 706992),
            ],
        ),
    ],
)
def test_vectors(seed: int, expected: list[int]) -> None:
    # Other boundaries would be as right, but no chunk would be found again.
    assert lengths(NOISE, seed) == expected


@settings(max_examples=25)
@given(
    st.binary(min_size=1, max_size=400),
    st.integers(0, 3 * MAX),
    st.integers(0, (1 << 63) - 1),
)
def test_nothing_is_lost_and_every_chunk_has_its_bounds(
    pattern: bytes, size: int, seed: int
) -> None:
    data = (pattern * (size // len(pattern) + 1))[:size]
    pieces = list(cut(io.BytesIO(data), seed=seed))
    assert b"".join(pieces) == data
    assert all(MIN <= len(piece) <= MAX for piece in pieces[:-1])
    assert all(0 < len(piece) <= MAX for piece in pieces[-1:])
    assert Kind.CHUNK.limit >= MAX


def test_nothing_gives_no_chunk() -> None:
    assert lengths(b"") == []


def test_what_is_never_cut_would_be_one_chunk_anyway() -> None:
    assert lengths(NOISE[: chunk.WHOLE]) == [chunk.WHOLE]


@pytest.mark.parametrize("step", [1 << 10, 65_521, 1 << 30])
def test_how_the_stream_is_read_does_not_matter(step: int) -> None:
    assert [len(piece) for piece in cut(Stream(NOISE, step), seed=SEED)] == lengths(NOISE, SEED)


def test_another_seed_cuts_elsewhere() -> None:
    places = [
        set(itertools.accumulate(lengths(NOISE, seed)))
        for seed in (0, 1, SEED, SEED ^ 1, (1 << 63) - 1)
    ]
    for one, other in itertools.combinations(places, 2):
        assert one & other == {len(NOISE)}


@pytest.mark.parametrize("at", [0, 6 * MiB])
def test_a_byte_put_in_changes_few_chunks(at: int) -> None:
    before = Counter(cut(io.BytesIO(NOISE), seed=SEED))
    after = Counter(cut(io.BytesIO(NOISE[:at] + b"x" + NOISE[at:]), seed=SEED))
    assert (after - before).total() <= 2
    assert before.total() >= 10


def test_a_hole_is_one_chunk_over_and_over() -> None:
    pieces = list(cut(io.BytesIO(bytes(16 * MiB)), seed=SEED))
    assert len(set(pieces)) == 1


def test_the_stream_is_not_read_ahead_of_need() -> None:
    stream = Stream(NOISE * 4, 1 << 30)
    pieces = cut(stream, seed=SEED)
    first = next(pieces)
    assert stream.read <= 3 * MAX
    # A piece stays what it is when the next is drawn.
    copy = bytes(bytearray(first))
    list(pieces)
    assert first == copy


def test_an_error_of_the_stream_comes_through() -> None:
    class Broken:
        def readinto(self, buffer: memoryview, /) -> int:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        list(cut(Broken(), seed=0))
