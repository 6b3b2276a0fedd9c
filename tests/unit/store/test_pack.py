"""Packs: what is written is found again, and nothing else is."""

from __future__ import annotations

import hashlib
import io
import random
import struct
from collections.abc import Iterable, Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorky import errors
from dorky.format import codec, seal
from dorky.format.model import ALL, Kind, Location, MiB, ObjectId, Pack
from dorky.keys import age
from dorky.keys.vault import OpenEpoch, Vault, begin_epoch, create
from dorky.store import pack
from dorky.store.pack import FOOTER, MAGIC, PackWriter, read_footer, read_index, read_tail

REPOSITORY = "00112233445566778899aabbccddeeff"
SEALED = Vault(REPOSITORY, [OpenEpoch("all", 1, seal.EpochKey(bytes(range(32))))])
PLAIN = Vault(REPOSITORY, [])
vaults = pytest.mark.parametrize("vault", [SEALED, PLAIN], ids=["sealed", "plain"])

Objects = list[tuple[Kind, bytes]]
LAST = [Kind.CHUNK, None, Kind.COMMIT, Kind.TEAM]
SOME: Objects = [
    (Kind.TREE, b'{"entries":[]}'),
    (Kind.CHUNK, b"KEY=1\n"),
    (Kind.COMMIT, b"a commit " * 9),
    (Kind.CHUNK, b"OTHER=" * 9),
    (Kind.CHUNKS, b"pieces"),
]


def write(objects: Iterable[tuple[Kind, bytes]], vault: Vault) -> tuple[Pack, bytes]:
    file = io.BytesIO()
    writer = PackWriter(file, vault)
    for kind, body in objects:
        object_id = vault.object_id(kind, body)
        writer.append(kind, object_id, vault.store(kind, object_id, body))
    return writer.finish(), file.getvalue()


def claimed(packed: Pack, **change: int) -> Pack:
    """The pack as a root could list it."""
    return msgspec.structs.replace(packed, **change)


def whole(packed: Pack, *blocks: bytes) -> bool:
    return pack.is_whole(packed.id, blocks, packed.tail)


def tail_of(packed: Pack, data: bytes, vault: Vault) -> list[Location]:
    return read_tail(packed, data[packed.tail :], vault)


def body_of(at: Location, data: bytes, vault: Vault) -> bytes:
    return vault.read(at.kind, at.id, data[at.offset : at.offset + at.length])


# --- vectors: where one changes, docs/internals/format.md must ------------------------------

VECTORS = {
    "sealed": (
        SEALED,
        """
        444f524b59504b32876fbaf89ba122436465666768696a6b6c6d6e6f707172737475767778797a7b23304adf
        dba20c8352b82597a6bad86f22b60ed5166875655d0085f88fb09f8240567844701fde2b096f2d30d5af535d
        2e1385ffc4713b53b017a873b7ca5cebace0cd010c901e56483cac5cdcacec9dddf09c8e931f71177a295fb7
        a4dfff58a658fc6d9512272096af9eae171b32364ea60802fc555d146188a615bfbd26366006055c3d035ce5
        7965b36c2791fb926ef0627bdcdcca237df54f36fcbe92703b49f50e1403c9c6ef2bb6be7c3e7986236cca7b
        2eae8a98c8f32379e969586381df5c992534b2c76c27fa33d22d03fccf62bd29781fc6f727debb2b6212111f
        b26b75b983902bb58788518975e723ba03c3f77f6ea4ca42b3ed795c93ff2df24101775aeac9546e31f3a23d
        6ece6865876fbaf89ba122436465666768696a6b6c6d6e6f707172737475767778797a7b23304adfd3a20c83
        5a8842abf5ffa00647c52cef4d3508655d0085f88fb09f8240567844701fde2b096f2d30d5af535d2e1385ff
        c4713b53b017a873b7ca5cebace0cd010c901e56483cac5cdcacec9dddf09c8e931f71177a295fb7a4dfff58
        a658fc6d9512272096af9eae171b32364ea60802fc555d146188a615bfbd26366006055c3d035ce57965b36c
        2791fb926ef0627bdcdcca237df54f36fcbe92703b49f50e1403c9c6ef2bb6be7c3e7986236cca7b2eae8a98
        c8f32379e969586381df5c992534b2c76c27fa33d22d03fccf62bd29781fc6f727debb2b6212111fb26b75b9
        83902bb58788518975e723ba03c3f77f6ea4ca42b3ed795c93ff2df2945d1b67c9baf50d5c9b0857c3d03a70
        876fbaf89ba122436465666768696a6b6c6d6e6f707172737475767778797a7b23304adfb7a20c833e9705a8
        fce3bb0549da63bb791804172e0124b0bbcd1d7b93c6c3418d605c32cabc741f9838f30efdf59cd34d494916
        4cdaa873b7ca5cebace8cd010da01d47bf84b86bef5580c491f1acbbfabee7d2c7ff8d4fc4abdc973ea1f8f8
        5982062096af9eae171a0a364ea73850c95c1e4467a6cb76591424a7d8efcc0000000000000138000000a395
        b2c56099faecf168f6697309ad80a3bf4ae148cf388173da7d6f107634fef7444f524b59504b32
        """,
        Pack("91ba2c3e97059e00e6b837776ba1ac6f60bcf96f024e28d6b051cd616682ba55", 831, 312, 1),
        [(8, 304), (312, 304)],
    ),
    "plain": (
        PLAIN,
        """
        444f524b59504b320000000006000000064b45593d310a000000000e0000000e7b22656e7472696573223a5b
        5d7d000000006a0000006a6465666768696a6b6c6d6e6f7071727301c8ae12c6064cfb39a18736cbec29f944
        9d1f2623adaeafe28e9e9e2e1ac887a800000000000000080000000f03f6c51009171c1dc96929ce90acb986
        39abdc1223313f1c070333c62e113ccfd500000000000000170000001700000000000000170000007314bc98
        d383e506b173dfc10f87e2c76cf366d45e3f680e01ef262a616b26738e444f524b59504b32
        """,
        Pack("ff4f132f9114d0fd3955fab39a7b54359b0a8e0214b4a8c60d13531b3e3f8456", 213, 23, 0),
        [(8, 15), (23, 23)],
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str) -> None:
    vault, text, packed, places = VECTORS[name]
    data = bytes.fromhex(text)
    assert whole(packed, data)
    locations = tail_of(packed, data, vault)
    assert [(at.kind, at.offset, at.length) for at in locations] == [
        (Kind.CHUNK, *places[0]),
        (Kind.TREE, *places[1]),
    ]
    assert [body_of(at, data, vault) for at in locations] == [b"KEY=1\n", b'{"entries":[]}']


# --- round trips ----------------------------------------------------------------------------

objects = st.lists(
    st.tuples(st.sampled_from(Kind), st.binary(max_size=300)), unique=True, max_size=12
)


@given(objects, st.sampled_from([SEALED, PLAIN]))
def test_what_is_written_is_found_again(objects: Objects, vault: Vault) -> None:
    file = io.BytesIO()
    writer = PackWriter(file, vault)
    for kind, body in objects:
        object_id = vault.object_id(kind, body)
        writer.append(kind, object_id, vault.store(kind, object_id, body))
    assert len(writer) == len(objects)
    foreseen = writer.size
    packed, data = writer.finish(), file.getvalue()
    assert whole(packed, data[:5], data[5:])
    name = hashlib.sha256(data[packed.tail :]).hexdigest()
    assert packed == Pack(name, len(data), packed.tail, 1 if vault.sealed else 0)
    assert packed.size <= foreseen

    locations = tail_of(packed, data, vault)
    assert locations == read_index(writer.index)
    found = sorted((at.kind, body_of(at, data, vault)) for at in locations)
    assert found == sorted(objects)
    # Data, trees and chunk lists, commits, the team's log: each without gaps, in order of writing.
    assert [at.kind for at in locations] == sorted(
        (kind for kind, _ in objects), key=lambda kind: LAST.index(kind) if kind in LAST else 1
    )
    ends = [8, *(at.offset + at.length for at in locations)]
    assert [at.offset for at in locations] == ends[:-1]
    assert packed.tail == 8 + sum(at.length for at in locations if at.kind is Kind.CHUNK)
    digest = hashlib.sha256(data[: packed.tail]).digest()
    assert read_footer(packed.id, data[-FOOTER:], len(data)) == (packed.tail, ends[-1], digest)


@vaults
def test_two_packs_of_the_same_objects_have_different_names(vault: Vault) -> None:
    assert write(SOME, vault)[0].id != write(SOME, vault)[0].id


def test_an_empty_pack_is_a_pack() -> None:
    assert tail_of(*write([], SEALED), SEALED) == []


def test_what_is_kept_back_counts() -> None:
    # Else a commit of nothing but directories grows one pack that no reader accepts.
    writer = PackWriter(io.BytesIO(), PLAIN)
    directory = bytes(MiB)
    for number in range(pack.TARGET // MiB):
        assert writer.size < pack.TARGET
        writer.append(Kind.TREE, f"{number:064x}", directory)
    assert writer.size >= pack.TARGET


def test_the_index_counts() -> None:
    writer = PackWriter(io.BytesIO(), PLAIN)
    empty = writer.size
    for number in range(1000):
        writer.append(Kind.CHUNK, f"{number:064x}", b"tiny!")
    assert writer.size - empty == 1000 * (5 + 45)
    # Writers stop at the target, so no honest index comes near the limit.
    assert pack.TARGET + 45 < pack.INDEX_LIMIT


# --- damage ---------------------------------------------------------------------------------


def flips(data: bytes) -> Iterator[tuple[int, bytes]]:
    for place in range(len(data)):
        for bit in (0x01, 0x80):
            yield place, data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]


@vaults
def test_a_flipped_byte_never_gives_another_body(vault: Vault) -> None:
    packed, data = write(SOME, vault)
    bodies = {vault.object_id(kind, body): body for kind, body in SOME}
    for place, damaged in flips(data):
        assert not whole(packed, damaged)
        if place >= packed.tail:
            with pytest.raises(errors.CorruptPack, match="its tail has another hash"):
                tail_of(packed, damaged, vault)
            continue
        read: dict[ObjectId, bytes] = {}
        for at in tail_of(packed, damaged, vault):
            try:
                read[at.id] = body_of(at, damaged, vault)
            except errors.CorruptObject:
                continue
        assert read.items() <= bodies.items()
        if place >= len(MAGIC):
            assert len(read) == len(bodies) - 1


@vaults
def test_damage_of_the_data_is_found_without_a_key(vault: Vault) -> None:
    noise = [(Kind.CHUNK, random.Random(n).randbytes(9000)) for n in range(4)]
    packed, data = write([*SOME, *noise], vault)
    first, second = [at for at in tail_of(packed, data, vault) if at.length > 8000][:2]
    a, b = (data[at.offset : at.offset + at.length] for at in (first, second))
    swapped = data[: first.offset] + b + a + data[second.offset + second.length :]
    page = first.offset + 4096
    for damaged in (
        swapped,
        data[:page] + bytes(4096) + data[page + 4096 :],
        data[:page] + data[page + 1 :],
        data[:page] + b"\0" + data[page:],
        data[: packed.tail] + b"\0" + data[packed.tail :],
        data + b"\0",
        data[:-1],
        data[packed.tail :],
        data[: packed.tail],
        b"",
    ):
        assert damaged != data
        assert not whole(packed, damaged)
    # Nor with another tail, whoever has written it.
    other, more = write(noise, vault)
    assert whole(other, more)
    assert not whole(packed, data[: packed.tail], more[other.tail :])
    assert not pack.is_whole(other.id, [data[: packed.tail], more[other.tail :]], packed.tail)
    for tail in (0, packed.tail - 1, packed.tail + 1, len(data)):
        assert not pack.is_whole(packed.id, [data], tail)


@vaults
def test_whoever_swaps_the_data_of_a_pack_gains_nothing(vault: Vault) -> None:
    """The root lists the name, which the tail has: its data is whatever the bucket gives."""
    packed, data = write([(Kind.CHUNK, b"old" * 40), (Kind.CHUNK, b"new" * 40)], vault)
    old, new = tail_of(packed, data, vault)
    assert old.length == new.length
    stored = [data[at.offset : at.offset + at.length] for at in (old, new)]
    forged = codec.compress(b"bad" * 40)
    for other in (*reversed(stored), forged.ljust(old.length, b"\0"), forged):
        bucket = data[: old.offset] + other + data[old.offset + len(other) :]
        places = tail_of(packed, bucket, vault)  # the tail is right
        if other != stored[0]:
            with pytest.raises(errors.CorruptObject):
                body_of(places[0], bucket, vault)
            assert not whole(packed, bucket)


@vaults
def test_every_truncation_is_found(vault: Vault) -> None:
    packed, data = write(SOME, vault)
    for end in range(packed.tail, len(data)):
        with pytest.raises(errors.CorruptPack):
            tail_of(packed, data[:end], vault)
        # Nor does it help to say that this is how long the pack is.
        with pytest.raises(errors.CorruptPack):
            tail_of(claimed(packed, size=end), data[:end], vault)
    for end in range(FOOTER):
        with pytest.raises(errors.CorruptPack, match="truncated"):
            read_footer(packed.id, data[:end], end)


@vaults
def test_the_root_and_the_footer_agree(vault: Vault) -> None:
    packed, data = write(SOME, vault)
    for tail in (8, packed.tail - 1, packed.tail + 1, packed.size - FOOTER, packed.size):
        lie = claimed(packed, tail=tail)
        with pytest.raises(errors.CorruptPack, match="another hash"):
            tail_of(lie, data, vault)
        # Nor if it is listed by the hash of what it says.
        lie = msgspec.structs.replace(lie, id=hashlib.sha256(data[tail:]).hexdigest())
        with pytest.raises(errors.CorruptPack, match=r"not where the root says|truncated"):
            tail_of(lie, data, vault)
        assert not whole(lie, data)
    for size in (packed.size - 1, packed.size + 1):
        with pytest.raises(errors.CorruptPack, match="a tail of"):
            tail_of(claimed(packed, size=size), data, vault)
    with pytest.raises(errors.CorruptPack, match="a tail of"):
        read_tail(packed, data, vault)


def test_the_index_of_another_repository_is_not_read() -> None:
    packed, data = write(SOME, SEALED)
    other = Vault("f" * 32, [OpenEpoch("all", 1, seal.EpochKey(bytes(range(32))))])
    stranger = Vault(REPOSITORY, [OpenEpoch("all", 1, seal.EpochKey(bytes(32)))])
    for vault in (other, stranger, PLAIN):
        with pytest.raises(errors.CorruptPack):
            tail_of(packed, data, vault)


# --- keys that were not in use then ---------------------------------------------------------


def test_a_pack_is_sealed_with_the_keys_that_were_in_use_when_it_was_written() -> None:
    ana = age.generate()
    header, first = create([ana.public])
    header, second = begin_epoch(header, first, ALL, [ana.public])
    _, third = begin_epoch(header, second, ALL, [ana.public])
    for number, writer in enumerate((first, second, third), start=1):
        packed, data = write(SOME, writer)
        assert packed.epochs == number
        found = tail_of(packed, data, third)
        assert {body_of(at, data, third) for at in found} == {body for _, body in SOME}
        # Somebody who was removed may list a pack of theirs as newer, or with a key that nobody
        # had begun as older.
        for lie in {0, 1, 2, 3} - {number}:
            with pytest.raises(errors.CorruptPack, match="not in use then"):
                tail_of(claimed(packed, epochs=lie), data, third)


def test_a_plain_pack_has_no_keys() -> None:
    packed, data = write(SOME, PLAIN)
    assert packed.epochs == 0
    for lie in (0, 1, 7):
        assert len(tail_of(claimed(packed, epochs=lie), data, PLAIN)) == len(SOME)


# --- forged indexes: a plain repository's bucket is anybody's, a sealed one's a member's -----

CONTENT = b"c" * 40 + b"m" * 40
"""40 bytes of data, then 40 of metadata, behind the magic."""
TAIL, INDEX = 48, 88


def forged(body: bytes, vault: Vault) -> tuple[Pack, bytes]:
    index = vault.close(codec.compress(body), "index")
    data = MAGIC + CONTENT + index
    digest = hashlib.sha256(data[:TAIL]).digest()
    data += struct.pack(">QI32s8s", TAIL, len(index), digest, MAGIC)
    return Pack(hashlib.sha256(data[TAIL:]).hexdigest(), len(data), TAIL, vault.epochs), data


def entry(kind: int, offset: int, length: int) -> bytes:
    return struct.pack(">B32sQI", kind, b"i" * 32, offset, length)


@vaults
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(bytes(15), id="no salt"),
        pytest.param(bytes(17), id="odd"),
        pytest.param(bytes(16) + entry(1, 8, 1)[:-1], id="half an entry"),
        pytest.param(bytes(16) + entry(0, 8, 1), id="kind 0"),
        pytest.param(bytes(16) + entry(6, 48, 1), id="kind 6"),
        pytest.param(bytes(16) + entry(255, 48, 1), id="kind 255"),
        pytest.param(bytes(16) + entry(1, 7, 1), id="data in the magic"),
        pytest.param(bytes(16) + entry(1, 0, 0), id="data at 0"),
        pytest.param(bytes(16) + entry(1, 8, 41), id="data into the tail"),
        pytest.param(bytes(16) + entry(1, 48, 1), id="data in the tail"),
        pytest.param(bytes(16) + entry(3, 47, 1), id="metadata before the tail"),
        pytest.param(bytes(16) + entry(4, 48, 41), id="metadata into the index"),
        pytest.param(bytes(16) + entry(2, 89, 0), id="metadata behind the index"),
        pytest.param(bytes(16) + entry(1, 8, 0xFFFFFFFF), id="a length of 4 GiB"),
        pytest.param(bytes(16) + entry(1, (1 << 64) - 1, 1), id="an offset of 2^64"),
        pytest.param(bytes(16) + entry(3, (1 << 64) - 8, 16), id="an offset that wraps"),
        pytest.param(bytes(16) + entry(1, 8, 1) + entry(1, 99, 1), id="one of two"),
    ],
)
def test_an_index_that_points_outside(body: bytes, vault: Vault) -> None:
    with pytest.raises(errors.CorruptPack):
        tail_of(*forged(body, vault), vault)


@vaults
def test_an_index_may_point_anywhere_inside(vault: Vault) -> None:
    places = [(1, 8, 40), (1, 48, 0), (2, 48, 40), (3, 88, 0), (4, 50, 1)]
    body = bytes(16) + b"".join(entry(*place) for place in places)
    found = tail_of(*forged(body, vault), vault)
    assert [(at.offset, at.length) for at in found] == [place[1:] for place in places]


@vaults
@pytest.mark.parametrize("count", [100, 200_000])
def test_a_small_pack_does_not_unfold_to_a_huge_index(count: int, vault: Vault) -> None:
    # Every entry is valid, and the same: 9 MB of index from a pack of some KB.
    body = bytes(16) + entry(1, 8, 1) * count
    with pytest.raises(errors.CorruptPack, match="over the limit"):
        tail_of(*forged(body, vault), vault)


@pytest.mark.parametrize(
    ("tail", "length", "magic"),
    [(7, 20, MAGIC), (89, 20, MAGIC), (48, 1 << 31, MAGIC), (1 << 63, 20, MAGIC), (48, 20, b"PK")],
)
def test_footers_that_can_not_be(tail: int, length: int, magic: bytes) -> None:
    end = struct.pack(">QI32s8s", tail, length, bytes(32), magic)
    with pytest.raises(errors.CorruptPack, match="no footer"):
        read_footer("p", end, 160)


def test_a_pack_of_the_first_format_is_told_from_damage() -> None:
    end = struct.pack(">QI8s", 8, 20, b"DORKYPK1")
    with pytest.raises(
        errors.CorruptPack, match=r"earlier, unreleased version of dorky \(format 1"
    ):
        read_footer("p", bytes(100) + end, 128)


# --- anything -------------------------------------------------------------------------------

WRITTEN = [(vault, *write(SOME, vault)) for vault in (SEALED, PLAIN)]


@given(
    st.sampled_from(WRITTEN),
    st.lists(st.tuples(st.integers(0, 1 << 12), st.binary(min_size=1, max_size=6)), max_size=3),
    st.integers(-3, 3),
)
def test_mutilated_tails_give_places_inside_or_a_typed_error(
    written: tuple[Vault, Pack, bytes], changes: list[tuple[int, bytes]], longer: int
) -> None:
    vault, packed, data = written
    tail = bytearray(data[packed.tail :])
    for place, patch in changes:
        at = place % len(tail)
        tail[at : at + len(patch)] = patch
    size = packed.tail + len(tail) + longer
    listed = Pack(hashlib.sha256(tail).hexdigest(), size, packed.tail, packed.epochs)
    try:
        found = read_tail(listed, bytes(tail), vault)
    except errors.CorruptPack:
        return
    assert all(len(MAGIC) <= at.offset <= at.offset + at.length <= size for at in found)


@given(st.binary(max_size=200), st.integers(0, 300), st.sampled_from([SEALED, PLAIN]))
def test_noise_gives_places_inside_or_a_typed_error(noise: bytes, tail: int, vault: Vault) -> None:
    for end in (b"", struct.pack(">QI32s8s", tail, len(noise) // 2, bytes(32), MAGIC)):
        data = noise + end
        try:
            packed = Pack(hashlib.sha256(data).hexdigest(), tail + len(data), tail, vault.epochs)
            found = read_tail(packed, data, vault)
        except errors.CorruptPack:
            continue
        assert all(at.offset + at.length <= tail + len(data) for at in found)
