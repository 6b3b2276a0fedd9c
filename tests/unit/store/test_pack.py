"""Packs: what is written is found again, and nothing else is."""

from __future__ import annotations

import io
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
from dorky.store.pack import FOOTER, MAGIC, PackWriter, read_footer, read_tail

REPOSITORY = "00112233445566778899aabbccddeeff"
SEALED = Vault(REPOSITORY, [OpenEpoch("all", 1, seal.EpochKey(bytes(range(32))))])
PLAIN = Vault(REPOSITORY, [])
vaults = pytest.mark.parametrize("vault", [SEALED, PLAIN], ids=["sealed", "plain"])

Objects = list[tuple[Kind, bytes]]
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


def tail_of(packed: Pack, data: bytes, vault: Vault) -> list[Location]:
    return read_tail(packed, data[packed.tail :], vault)


def body_of(at: Location, data: bytes, vault: Vault) -> bytes:
    return vault.read(at.kind, at.id, data[at.offset : at.offset + at.length])


# --- vectors: where one changes, docs/internals/format.md must ------------------------------

VECTORS = {
    "sealed": (
        SEALED,
        """
        444f524b59504b31914607719f98d91e6465666768696a6b6c6d6e6f707172737475767778797a7b0c58465f
        87061da2c29140bc19b745a408f042c538ec0c525da9dc914607719f98d91e6465666768696a6b6c6d6e6f70
        7172737475767778797a7b0c58465f8f367a9e91d43845b2ab9b357e42ffca676584757c76f44e73fe0fb782
        b3c2914607719f98d91e6465666768696a6b6c6d6e6f707172737475767778797a7b0c58465feb293d9d98c8
        2346bcb4d4614a6ff39940d0e5951e68ba619a695e1835c560d45ec7b2405ec37b38c3696f33f27f0e4bf28d
        25314f9aa69121764fcba9ec0aaacc2ef5a459c1ddd931383a802518c97ab1a7b8c88209d529cbea47f7d546
        8462dd3d76ab74cb0173e40d045ff8ef7e999697df2c120357a6ee0a4100000000000000430000009f444f52
        4b59504b31
        """,
        Pack("82c660190ae75ef0387b44fee2712911c5163814c5cf81a19e3468dcf09768f6", 313, 67, 1),
        [(8, 59), (67, 67)],
    ),
    "plain": (
        PLAIN,
        """
        444f524b59504b3100000000064b45593d310a000000000e7b22656e7472696573223a5b5d7d000000006a64
        65666768696a6b6c6d6e6f7071727301c8ae12c6064cfb39a18736cbec29f9449d1f2623adaeafe28e9e9e2e
        1ac887a800000000000000080000000b03f6c51009171c1dc96929ce90acb98639abdc1223313f1c070333c6
        2e113ccfd500000000000000130000001300000000000000130000006f444f524b59504b31
        """,
        Pack("086bf51108442f3f8801911d7cb04991e6e682dee52d437b80405abddab2cc2e", 169, 19, 0),
        [(8, 11), (19, 19)],
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str) -> None:
    vault, text, packed, places = VECTORS[name]
    data = bytes.fromhex(text)
    assert pack.name_of([data]) == packed.id
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
    name = pack.name_of([data[:5], data[5:]])
    assert packed == Pack(name, len(data), packed.tail, 1 if vault.sealed else 0)
    assert packed.size <= foreseen

    locations = tail_of(packed, data, vault)
    assert locations == writer.locations
    found = sorted((at.kind, body_of(at, data, vault)) for at in locations)
    assert found == sorted(objects)
    # All of the data, then all of the rest, each without gaps and in the order of writing.
    assert [at.kind for at in locations] == sorted(
        (kind for kind, _ in objects), key=lambda kind: kind is not Kind.CHUNK
    )
    ends = [8, *(at.offset + at.length for at in locations)]
    assert [at.offset for at in locations] == ends[:-1]
    assert packed.tail == 8 + sum(at.length for at in locations if at.kind is Kind.CHUNK)
    assert read_footer(packed.id, data[-FOOTER:], len(data)) == (packed.tail, ends[-1])


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
    offsets = read_footer(packed.id, data, len(data))
    for place, damaged in flips(data):
        # Whoever reads the whole pack compares its name.
        assert pack.name_of([damaged]) != packed.id
        try:
            locations = tail_of(packed, damaged, vault)
        except errors.CorruptPack:
            assert place >= offsets[1]
            continue
        assert vault is PLAIN or place < offsets[1]
        read: dict[ObjectId, bytes] = {}
        for at in locations:
            try:
                read[at.id] = body_of(at, damaged, vault)
            except errors.CorruptObject:
                continue
        assert read.items() <= bodies.items()
        if len(MAGIC) <= place < offsets[1]:
            assert len(read) == len(bodies) - 1


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
    for tail in (8, packed.tail - 1, packed.tail + 1, packed.size - FOOTER):
        with pytest.raises(errors.CorruptPack, match="not where the root says"):
            tail_of(claimed(packed, tail=tail), data, vault)
    with pytest.raises(errors.CorruptPack, match="truncated"):
        tail_of(claimed(packed, tail=packed.size), data, vault)
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
    data = MAGIC + CONTENT + index + struct.pack(">QI8s", TAIL, len(index), MAGIC)
    return Pack(pack.name_of([data]), len(data), TAIL, vault.epochs), data


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
        pytest.param(bytes(16) + entry(5, 48, 1), id="kind 5"),
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
    end = struct.pack(">QI8s", tail, length, magic)
    with pytest.raises(errors.CorruptPack, match="no footer"):
        read_footer("p", end, 128)


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
    try:
        found = read_tail(claimed(packed, size=size), bytes(tail), vault)
    except errors.CorruptPack:
        return
    assert all(len(MAGIC) <= at.offset <= at.offset + at.length <= size for at in found)


@given(st.binary(max_size=200), st.integers(0, 300), st.sampled_from([SEALED, PLAIN]))
def test_noise_gives_places_inside_or_a_typed_error(noise: bytes, tail: int, vault: Vault) -> None:
    for end in (b"", struct.pack(">QI8s", tail, len(noise) // 2, MAGIC)):
        data = noise + end
        try:
            packed = Pack("0" * 64, tail + len(data), tail, vault.epochs)
            found = read_tail(packed, data, vault)
        except errors.CorruptPack:
            continue
        assert all(at.offset + at.length <= tail + len(data) for at in found)
