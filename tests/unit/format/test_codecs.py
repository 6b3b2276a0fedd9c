"""The codecs that dorky reads, and the padding that hides how long something is."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from collections.abc import Callable

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorky import errors
from dorky.format import codec, seal
from dorky.format.codec import CodecError
from dorky.format.model import KiB, Kind, MiB
from dorky.keys.vault import OVERHEAD, OpenEpoch, Vault

CODECS: dict[int, tuple[str, Callable[[bytes], bytes]]] = {
    1: ("zstd", lambda body: bytes(cramjam.zstd.compress(body))),
    2: ("gzip", lambda body: bytes(cramjam.gzip.compress(body))),
    3: ("lz4", lambda body: bytes(cramjam.lz4.compress(body))),
    4: ("brotli", lambda body: bytes(cramjam.brotli.compress(body))),
}
each_codec = pytest.mark.parametrize("tag", CODECS, ids=[name for name, _ in CODECS.values()])

REPOSITORY = "00112233445566778899aabbccddeeff"
SEALED = Vault(REPOSITORY, [OpenEpoch("all", 1, seal.EpochKey(bytes(range(32))))])
PLAIN = Vault(REPOSITORY, [])


def packed(tag: int, body: bytes, length: int, coded: int | None = None) -> bytes:
    return struct.pack(">BII", tag, length, len(body) if coded is None else coded) + body


@each_codec
@given(st.binary(max_size=3000).map(lambda body: body * 3))
def test_bodies_come_back(tag: int, body: bytes) -> None:
    data = packed(tag, CODECS[tag][1](body), len(body))
    assert codec.inflate(data, limit=len(body)) == body
    assert codec.inflate(memoryview(data + bytes(7)), limit=len(body), padded=True) == body


@pytest.mark.parametrize(
    ("tag", "data"),
    [
        (0, "4b45593d310a4b45593d310a4b45593d310a"),
        (1, "28b52ffd2012650000304b45593d310a0100e14a11"),
        (2, "1f8b08000000000000fff3768db435e4f24622019046907812000000"),
        (
            3,
            "04224d185440ae0f000000634b45593d310a06005045593d310addbebccf00000000d202816c",
        ),
        (4, "1b1100f88d94aba35bad10b394a57a8a229e38804e00"),
    ],
)
def test_vectors(tag: int, data: str) -> None:
    body = b"KEY=1\n" * 3
    assert codec.inflate(packed(tag, bytes.fromhex(data), 18), limit=18) == body


def test_dorky_writes_zstd() -> None:
    for body in (b"", b"x", b"text " * 5000, random.Random(1).randbytes(5000)):
        assert codec.compress(body)[0] in {codec.NONE, codec.ZSTD}


@each_codec
@pytest.mark.parametrize("body", [b"", b"hello", b"hello " * 100, bytes(range(256)) * 4])
def test_every_truncation_is_found(tag: int, body: bytes) -> None:
    whole = CODECS[tag][1](body)
    for end in range(len(whole)):
        for data in (
            packed(tag, whole[:end], len(body)),
            packed(tag, whole[:end], len(body), len(whole)),
            packed(tag, whole, len(body), end),
        ):
            with pytest.raises(CodecError):
                codec.inflate(data, limit=MiB)
        with pytest.raises(CodecError):
            codec.inflate(packed(tag, whole[:end], len(body)) + bytes(300), limit=MiB, padded=True)


@each_codec
@pytest.mark.parametrize("junk", [b"\0", bytes(9), b"\1", b"junk", bytes(40) + b"\1"])
def test_nothing_but_padding_may_follow(tag: int, junk: bytes) -> None:
    body = b"hello " * 50
    for data in (packed(tag, CODECS[tag][1](body), len(body)), packed(0, body, len(body))):
        with pytest.raises(CodecError, match="followed by"):
            codec.inflate(data + junk, limit=MiB)
        if junk.strip(b"\0"):
            with pytest.raises(CodecError, match="followed by"):
                codec.inflate(data + junk, limit=MiB, padded=True)
        else:
            assert codec.inflate(data + junk, limit=MiB, padded=True) == body


@pytest.mark.parametrize("tag", [1, 2, 3], ids=["zstd", "gzip", "lz4"])
def test_junk_counted_in_is_refused(tag: int) -> None:
    """Behind the end of a Brotli stream cramjam does not look."""
    body = b"hello " * 50
    for junk in (b"\0", b"junk", bytes(40), CODECS[tag][1](body)):
        with pytest.raises(CodecError):
            codec.inflate(packed(tag, CODECS[tag][1](body) + junk, len(body)), limit=MiB)


@each_codec
def test_other_lengths_than_stated(tag: int) -> None:
    body = b"hello " * 50
    whole = CODECS[tag][1](body)
    for length in (0, 1, len(body) - 1, len(body) + 1, 99_999):
        with pytest.raises(CodecError):
            codec.inflate(packed(tag, whole, length), limit=MiB)
    with pytest.raises(CodecError, match="over the limit of 299"):
        codec.inflate(packed(tag, whole, len(body)), limit=299)
    for other in CODECS.keys() - {tag}:
        with pytest.raises(CodecError):
            codec.inflate(packed(other, whole, len(body)), limit=MiB)


@each_codec
@given(
    st.lists(st.tuples(st.integers(0, 1 << 10), st.binary(min_size=1, max_size=4)), min_size=1),
    st.integers(0, 400),
)
def test_mutilated_bodies_give_the_stated_length_or_a_typed_error(
    tag: int, changes: list[tuple[int, bytes]], length: int
) -> None:
    data = bytearray(CODECS[tag][1](b"hello world, " * 20))
    for place, patch in changes:
        at = place % len(data)
        data[at : at + len(patch)] = patch
    try:
        body = codec.inflate(packed(tag, bytes(data), length), limit=300)
    except CodecError:
        return
    assert len(body) == length <= 300


BOMBS = """
import resource, struct, sys
import cramjam
from dorky.format import codec

zeros = bytes(1 << 26)
bombs = [(tag, bytes(getattr(cramjam, name).compress(zeros, 1))) for tag, name in (
    (1, "zstd"), (2, "gzip"), (3, "lz4"), (4, "brotli"))]
del zeros
# Brotli's header for a window of 1 GiB (large windows), then blocks that state 16 MiB each.
bombs += [(4, bytes([0x11, bits]) + b"\\xff" * 400) for bits in (10, 24, 30, 62, 63)]
bombs += [(4, bytes([first]) + b"\\x7f\\xff\\xff\\xff" * 99) for first in range(256)]
for tag, _ in bombs[:4]:
    codec.inflate(struct.pack(">BII", 0, 1, 1) + b"x", limit=1)
    name = {1: "zstd", 2: "gzip", 3: "lz4", 4: "brotli"}[tag]
    body = bytes(getattr(cramjam, name).compress(b"hello " * 9000))
    codec.inflate(struct.pack(">BII", tag, 54000, len(body)) + body, limit=1 << 20)
with open("/proc/self/statm") as file:
    held = int(file.read().split()[0]) * resource.getpagesize()
room = held + (48 << 20)
resource.setrlimit(resource.RLIMIT_AS, (room, room))
for tag, bomb in bombs:
    for length in (0, 1, 1000, 4 << 20, 1 << 26, 0xFFFFFFFF):
        try:
            codec.inflate(struct.pack(">BII", tag, length, len(bomb)) + bomb, limit=4 << 20)
        except codec.CodecError:
            continue
        if length:
            raise SystemExit(f"{tag}: {bomb[:20]} passed as {length} bytes")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory through /proc")
def test_bombs_take_no_memory() -> None:
    subprocess.run([sys.executable, "-c", BOMBS], check=True, timeout=120)


# --- padding --------------------------------------------------------------------------------


def padme(length: int) -> int:
    """As published."""
    exponent = length.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (length + mask) & ~mask


def test_lengths_are_padded_as_published() -> None:
    for length in (*range(9, 3000), *range(60 * KiB, 64 * KiB)):
        assert len(codec.pad(bytes(length))) == max(256, padme(length))
    for length in (64 * KiB, 64 * KiB + 1, MiB):
        assert len(codec.pad(bytes(length))) == length
    assert len({len(codec.pad(bytes(length))) for length in range(9, 64 * KiB)}) < 140


@given(st.sampled_from(Kind), st.binary(max_size=200))
def test_short_things_look_alike(kind: Kind, body: bytes) -> None:
    stored = SEALED.store(kind, SEALED.object_id(kind, body), body)
    assert len(stored) == OVERHEAD + 256
    assert SEALED.read(kind, SEALED.object_id(kind, body), stored) == body
    plain = PLAIN.store(kind, PLAIN.object_id(kind, body), body)
    assert plain == codec.compress(body)


def test_readers_look_at_the_padding() -> None:
    body = b"KEY=1\n"
    for opened in (SEALED, PLAIN):
        name = opened.object_id(Kind.CHUNK, body)
        for behind, fine in ((b"", True), (bytes(100), opened.sealed), (bytes(99) + b"\1", False)):
            stored = opened.close(codec.compress(body) + behind, f"chunk\0{name}")
            if fine:
                assert opened.read(Kind.CHUNK, name, stored) == body
            else:
                with pytest.raises(errors.CorruptObject, match="followed by"):
                    opened.read(Kind.CHUNK, name, stored)


# --- choosing one ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zstd", "gzip", "lz4", "brotli", "none"])
def test_a_body_is_compressed_as_its_caller_says(name: str) -> None:
    body = b"KEY=value\n" * 500
    data = codec.compress(body, codec.coding(name))
    assert data[0] == {"none": 0, **{made: tag for tag, (made, _) in CODECS.items()}}[name]
    assert codec.inflate(data, limit=len(body)) == body
    assert (len(data) < len(body)) is (name != "none")
    noise = random.Random(name).randbytes(5000)
    assert codec.inflate(codec.compress(noise, codec.coding(name)), limit=5000) == noise


def test_a_vault_stores_what_is_compressed_in_any_way() -> None:
    body = b"KEY=value\n" * 500
    for vault in (SEALED, PLAIN):
        object_id = vault.object_id(Kind.CHUNK, body)
        for name in ("gzip", "none"):
            stored = vault.store(Kind.CHUNK, object_id, body, how=codec.coding(name))
            assert vault.read(Kind.CHUNK, object_id, stored) == body


@pytest.mark.parametrize(("name", "level"), [("lzma", None), ("gzip", 10), ("zstd", -1), ("", 1)])
def test_a_codec_that_there_is_not(name: str, level: int | None) -> None:
    with pytest.raises(errors.UsageError):
        codec.coding(name, level)
