"""Compression: whatever the bytes claim, no more is written than they may claim."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
from base64 import b64encode

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorky.format import codec
from dorky.format.codec import CodecError
from dorky.format.model import KiB, MiB


def packed(body: bytes, length: int, tag: int = codec.ZSTD) -> bytes:
    return struct.pack(">BII", tag, length, len(body)) + body


def zstd(body: bytes) -> bytes:
    return bytes(cramjam.zstd.compress(body))


def raw_frame(window_log: int, *blocks: bytes) -> bytes:
    """A frame that keeps its content's length to itself. RFC 8878, section 3.1.1."""
    return b"\x28\xb5\x2f\xfd" + bytes([0, (window_log - 10) << 3]) + b"".join(blocks)


def repeated(count: int, *, last: bool = False) -> bytes:
    """A block of one byte, repeated: four bytes that unfold to up to 128 KiB."""
    return (last | 1 << 1 | count << 3).to_bytes(3, "little") + b"A"


# --- what it is for -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "body"),
    [
        ("000000000000000000", b""),
        ("0000000006000000064b45593d310a", b"KEY=1\n"),
        ("01000000780000001628b52ffd20786d0000304b45593d310a01002f692902", b"KEY=1\n" * 20),
    ],
)
def test_vectors(data: str, body: bytes) -> None:
    assert codec.inflate(bytes.fromhex(data), limit=MiB) == body


@pytest.mark.parametrize("size", [4 * KiB, 16 * KiB, 200 * KiB, 1 * MiB])
def test_what_does_not_shrink_is_kept_as_it_is_and_what_does_is_not(size: int) -> None:
    noise = os.urandom(size)
    assert codec.compress(noise) == packed(noise, size, codec.NONE)
    for body in (b64encode(noise)[:size], (noise[:100] + b"\xff") * (size // 101)):
        assert len(codec.compress(body)) < 0.85 * size


@given(st.binary(max_size=2000).map(lambda body: body * 3))
def test_bodies_survive(body: bytes) -> None:
    data = codec.compress(body)
    assert len(data) <= len(body) + codec.OVERHEAD
    assert codec.inflate(data, limit=len(body)) == body
    assert codec.inflate(memoryview(data), limit=len(body)) == body


@pytest.mark.parametrize("size", [256 * KiB, 256 * KiB + 1, 4 * MiB])
def test_what_does_not_shrink_is_stored_as_it_is(size: int) -> None:
    noise = os.urandom(size)
    data = codec.compress(noise)
    assert data[0] == codec.NONE
    assert codec.inflate(data, limit=4 * MiB) == noise


@pytest.mark.parametrize("seed", range(5))
def test_numbers_that_are_often_small_shrink_and_random_bytes_do_not(seed: int) -> None:
    """As in a recording: nothing repeats, but half of the bytes are nearly all the same."""
    chance = random.Random(seed)
    numbers = struct.pack("<4096h", *(int(chance.gauss(0, 300)) for _ in range(4096)))
    assert len(codec.compress(numbers)) < 0.85 * len(numbers)
    noise = chance.randbytes(4 * KiB)
    assert codec.compress(noise) == packed(noise, len(noise), codec.NONE)


def test_a_sample_does_not_decide_for_text_behind_it() -> None:
    # 64 KiB of noise in front of text: the sample sees no hope, and nothing is lost but room.
    body = os.urandom(64 * KiB) + b"text " * 100_000
    assert codec.inflate(codec.compress(body), limit=4 * MiB) == body


# --- what is refused ------------------------------------------------------------------------

HELLO = zstd(b"hello")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\0\0\0\0", id="half a prefix"),
        pytest.param(packed(b"hell", 5, codec.NONE), id="stored, short"),
        pytest.param(packed(b"hello!", 5, codec.NONE), id="stored, long"),
        pytest.param(packed(b"hello", 5, 5), id="codec 5"),
        pytest.param(packed(b"hello", 5, 255), id="codec 255"),
        pytest.param(packed(b"", 5), id="no frame"),
        pytest.param(packed(b"", 0), id="no frame for nothing"),
        pytest.param(packed(b"hello", 5), id="not a frame"),
        pytest.param(packed(HELLO, 4), id="unfolds to more"),
        pytest.param(packed(HELLO, 6), id="unfolds to less"),
        pytest.param(packed(HELLO, 0), id="claims nothing"),
        pytest.param(packed(HELLO + HELLO, 5), id="two frames"),
        pytest.param(packed(HELLO + b"junk", 5), id="junk behind"),
        pytest.param(packed(b"hello", 101, codec.NONE), id="stored, over the limit"),
        pytest.param(packed(zstd(bytes(101)), 101), id="over the limit"),
        pytest.param(packed(HELLO, 0xFFFFFFFF), id="claims 4 GiB"),
        pytest.param(packed(raw_frame(31, repeated(5, last=True)), 5), id="window of 2 GiB"),
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        codec.inflate(data, limit=100)


def test_the_limit_is_the_last_length_that_passes() -> None:
    for body in (bytes(100), os.urandom(100)):
        data = codec.compress(body)
        assert codec.inflate(data, limit=100) == body
        with pytest.raises(CodecError, match="over the limit of 99"):
            codec.inflate(data, limit=99)


@pytest.mark.parametrize("body", [b"", b"hello", b"hello " * 100, bytes(range(256)) * 4])
def test_every_truncation_is_found(body: bytes) -> None:
    data = codec.compress(body)
    for length in range(len(data)):
        with pytest.raises(CodecError):
            codec.inflate(data[:length], limit=MiB)


@given(st.binary(max_size=60), st.integers(0, 255), st.integers(0, 300))
def test_noise_gives_a_body_of_the_stated_length_or_a_typed_error(
    noise: bytes, tag: int, length: int
) -> None:
    for data in (noise, packed(noise, length, tag), packed(zstd(noise)[:-1] + noise[:1], length)):
        try:
            body = codec.inflate(data, limit=200)
        except CodecError:
            continue
        assert len(body) == struct.unpack(">xI", data[:5])[0] <= 200


BOMBS = """
import resource, struct, sys
import cramjam
from dorky.format import codec

def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

bombs = [bytes.fromhex(line) for line in sys.stdin.read().split()]
bombs += [bytes(cramjam.zstd.compress(bytes(1 << 28), level=19))]
codec.inflate(codec.compress(bytes(1000)), limit=1000)
# Whatever is allocated counts, touched or not: no more than this, for a body of 4 MiB.
room = memory() + (48 << 20)
resource.setrlimit(resource.RLIMIT_AS, (room, room))
for bomb in bombs:
    for length in (0, 1, 1000, 4 << 20, 1 << 28, 0xFFFFFFFF):
        try:
            head = struct.pack(">BII", 1, length, len(bomb))
            codec.inflate(head + bomb, limit=4 << 20)
        except codec.CodecError:
            continue
        raise SystemExit(f"{bomb[:20]} passed as {length} bytes")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory through /proc")
def test_bombs_take_no_memory() -> None:
    wide = repeated(128 * KiB)
    bombs = [
        raw_frame(20, *[wide] * 8000, repeated(7, last=True)),  # 1 GiB from 32 KB
        raw_frame(27, *[wide] * 8000, repeated(7, last=True)),  # looking back 128 MiB
        zstd(b"")[:4] + bytes([0b11100000]) + (1 << 50).to_bytes(8, "little"),  # claims a pebibyte
        b"\x28\xb5\x2f\xfd" * 1000,
    ]
    subprocess.run(
        [sys.executable, "-c", BOMBS],
        input="\n".join(bomb.hex() for bomb in bombs).encode(),
        check=True,
    )
