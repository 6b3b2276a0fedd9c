"""Tables: where an object lies is found with one page, and nothing else is believed."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import msgspec
import pytest
from depth import deep
from hypothesis import given, settings
from hypothesis import strategies as st

from dorky import errors
from dorky.format import seal
from dorky.format.model import KiB, Kind, Location, Pack, Table
from dorky.keys.vault import OpenEpoch, Vault
from dorky.store import table
from dorky.store.table import Held, Place

REPOSITORY = "00112233445566778899aabbccddeeff"
ENCRYPTED = Vault(REPOSITORY, [OpenEpoch("all", 1, seal.EpochKey(bytes(range(32))))])
PLAIN = Vault(REPOSITORY, [])
vaults = pytest.mark.parametrize("vault", [ENCRYPTED, PLAIN], ids=["encrypted", "unencrypted"])

KINDS = list(Kind)


def held(packs: int, objects: int, seed: int = 1) -> list[Held]:
    """Packs with as many objects each."""
    chance = random.Random(seed)
    found: list[Held] = []
    for n in range(packs):
        packed = Pack(chance.randbytes(32).hex(), 1000 + n, 500 + n, n % 3)
        where = [
            Location(
                chance.choice(KINDS),
                chance.randbytes(32).hex(),
                chance.randrange(1 << 29),
                chance.randrange(1 << 22),
            )
            for _ in range(objects)
        ]
        found.append((packed, where))
    return found


def page(made: Table, data: bytes, n: int) -> bytes:
    start, end = table.span(made, n)
    return data[start:end]


def lookup(made: Table, data: bytes, object_id: str, vault: Vault) -> list[Place]:
    n = table.page_of(made, object_id)
    return table.read_page(made, n, page(made, data, n), vault).get(object_id, [])


def listed(made: Table, data: bytes, vault: Vault) -> list[Pack]:
    numbers = range(made.pages, made.pages + made.lists)
    return [each for n in numbers for each in table.read_list(made, n, page(made, data, n), vault)]


@vaults
@pytest.mark.parametrize("some", [50, *deep(1)])
@pytest.mark.parametrize(
    ("packs", "objects"), [(0, 0), (1, 0), (1, 1), (3, 7), (2, 2000), (1500, 3)]
)
def test_what_is_written_is_found(vault: Vault, packs: int, objects: int, some: int) -> None:
    """Of many objects one in ``some`` is looked up, which reads a page."""
    content = held(packs, objects)
    made, data = table.build(content, vault)
    assert len(data) == made.size + table.FOOTER
    assert (made.objects, made.packs) == (packs * objects, packs)
    assert made.page <= table.PAGE
    assert listed(made, data, vault) == [packed for packed, _ in content]
    every = [(packed, at) for packed, where in content for at in where]
    for packed, at in every if len(every) < 100 else every[::some]:
        assert lookup(made, data, at.id, vault) == [Place(packed.id, packed.epochs, at)]
    assert lookup(made, data, "5" * 64, vault) == []
    assert table.is_table(data[-8:])
    for size in (1, 4096, len(data)):
        if size > 1 or len(data) < 10_000:
            blocks = [data[n : n + size] for n in range(0, len(data), size)]
            assert table.name_of(data[-100:], blocks) == made.id


def test_an_object_in_several_packs_is_found_in_each() -> None:
    (one, (at,)), (other, _) = held(2, 1)
    again = at._replace(offset=7)
    made, data = table.build([(one, [at]), (other, [again])], ENCRYPTED)
    places = lookup(made, data, at.id, ENCRYPTED)
    assert [place.pack for place in places] == [one.id, other.id]


@vaults
def test_the_same_content_never_has_the_same_name(vault: Vault) -> None:
    names = {table.build(held(2, 3), vault)[0].id for _ in range(10)}
    assert len(names) == 10


def test_recent_packs_are_listed_by_the_root_alone() -> None:
    made, data = table.build(held(3, 3), ENCRYPTED, lists=False)
    assert made.lists == 0
    assert len(data) == made.page * made.pages + table.FOOTER


def test_little_makes_a_small_table() -> None:
    _, data = table.build(held(1, 5), ENCRYPTED, lists=False)
    assert len(data) < 1200


def test_pages_are_even_and_one_is_never_full() -> None:
    """The arithmetic: 640 on average; the most that surely fits is 7 standard deviations above."""
    most = (table.PAGE - 2 * KiB - 20) // (43 + 36)
    assert most > 800
    deviations = (most - table.FILL) / math.sqrt(table.FILL)
    assert math.erfc(deviations / math.sqrt(2)) < 1e-9
    made, data = table.build(held(200, 200), ENCRYPTED)
    assert made.pages == math.ceil(40_000 / table.FILL)
    sizes = [
        len(table.read_page(made, n, page(made, data, n), ENCRYPTED)) for n in range(made.pages)
    ]
    assert sum(sizes) == 40_000
    assert max(sizes) < table.FILL + 7 * math.sqrt(table.FILL)
    assert min(sizes) > table.FILL - 7 * math.sqrt(table.FILL)


def test_ids_that_begin_alike_do_not_crowd_a_page() -> None:
    """Anyone can choose contents whose plain hashes begin alike; the salt is not known before."""
    packed = Pack("a" * 64, 1 << 20, 1, 0)
    where = [Location(Kind.CHUNK, f"{n:064x}", n, 1) for n in range(5000)]
    made, data = table.build([(packed, where)], PLAIN)
    sizes = [len(table.read_page(made, n, page(made, data, n), PLAIN)) for n in range(made.pages)]
    assert sum(sizes) == 5000
    assert max(sizes) < 2 * table.FILL


def test_a_page_that_overflows_makes_more_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "FILL", 100_000)
    made, data = table.build(held(50, 100), ENCRYPTED)
    assert made.pages > 1
    assert made.page <= table.PAGE
    found = [table.read_page(made, n, page(made, data, n), ENCRYPTED) for n in range(made.pages)]
    for _, where in held(50, 100):
        assert all(at.id in found[table.page_of(made, at.id)] for at in where)


# --- hostile bytes --------------------------------------------------------------------------


def refused(made: Table, data: bytes, vault: Vault, n: int) -> None:
    read = table.read_page if n < made.pages else table.read_list
    with pytest.raises(errors.CorruptTable):
        read(made, n, data, vault)


@vaults
def test_no_flipped_byte_goes_unnoticed(vault: Vault) -> None:
    made, data = table.build(held(4, 400), vault)
    assert made.pages > 1
    for at in range(0, len(data), 97):
        altered = bytearray(data)
        altered[at] ^= 1
        assert table.name_of(bytes(altered[-100:]), [bytes(altered)]) != made.id
        if at < made.size:
            n = at // made.page
            refused(made, page(made, bytes(altered), n), vault, n)


@vaults
def test_pages_stay_in_their_place(vault: Vault) -> None:
    made, data = table.build(held(4, 400), vault)
    other, foreign = table.build(held(4, 400), vault)
    for n in range(made.pages + made.lists):
        for m in range(made.pages + made.lists):
            if n != m:
                refused(made, page(made, data, m), vault, n)
        refused(made, page(other, foreign, n), vault, n)
        refused(made, page(made, data, n)[:-1], vault, n)
        refused(made, b"", vault, n)


@vaults
@pytest.mark.parametrize("field", ["id", "salt", "page", "pages", "lists"])
def test_what_the_root_says_is_binding(vault: Vault, field: str) -> None:
    made, data = table.build(held(4, 400), vault)
    value = getattr(made, field)
    other = value[::-1] if isinstance(value, str) else value + 1
    claimed = msgspec.structs.replace(made, **{field: other})
    refused(claimed, data[: claimed.page], vault, 0)


def test_another_key_opens_nothing() -> None:
    made, data = table.build(held(1, 3), ENCRYPTED)
    stranger = Vault(REPOSITORY, [OpenEpoch("all", 1, seal.EpochKey(bytes(32)))])
    refused(made, page(made, data, 0), stranger, 0)


def test_nothing_of_it_can_be_read_without_a_key() -> None:
    content = held(3, 50)
    _, data = table.build(content, ENCRYPTED)
    for packed, where in content:
        assert bytes.fromhex(packed.id) not in data
        assert all(bytes.fromhex(at.id) not in data for at in where)


def written(body: bytes, vault: Vault, *, lists: bool = False) -> tuple[Table, bytes]:
    """A table of one page, with any body, as a member could write it."""
    pages, listed = (1, 1) if lists else (1, 0)
    sealed = [vault.close(body, "table")] * (pages + listed)
    levels = table._tree([table._leaf(each) for each in sealed])
    length = len(sealed[0]) + 32 * (len(levels) - 1)
    footer = table._FOOTER.pack(length, pages, listed, table.MAGIC)
    data = b"".join(each + table._proof(levels, n) for n, each in enumerate(sealed)) + footer
    name = table._name(footer, levels[-1][0])
    return Table(name, body[:16].hex() or "0" * 32, length, pages, listed, 0, 0), data


@vaults
@settings(deadline=None)
@given(body=st.binary(min_size=16, max_size=300))
def test_whatever_a_member_writes_is_read_or_refused(vault: Vault, body: bytes) -> None:
    for n in (0, 1):
        made, data = written(body, vault, lists=True)
        read = table.read_page if n < made.pages else table.read_list
        try:
            read(made, n, page(made, data, n), vault)
        except errors.CorruptTable:
            continue


def entries(kind: int, which: int, count: int = 1) -> bytes:
    return (
        bytes(16)
        + (1).to_bytes(2, "big")
        + count.to_bytes(2, "big")
        + bytes(36)
        + table._ENTRY.pack(kind, bytes(32), which, 0, 0)
    )


def test_impossible_locations_are_refused() -> None:
    made, data = written(entries(1, 0), PLAIN)
    assert lookup(made, data, "0" * 64, PLAIN)
    wrong: Sequence[bytes] = [entries(0, 0), entries(99, 0), entries(1, 1), entries(1, 0, 2)]
    for body in wrong:
        made, data = written(body, PLAIN)
        refused(made, page(made, data, 0), PLAIN, 0)


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_the_name_of_any_bytes(data: bytes, end: bytes) -> None:
    assert table.name_of(end, [data]) == ""
