"""Tables: where the objects of many packs lie, so that one request finds an object among all.

    what                            size
    pages of locations              a page each
    pages of packs                  a page each
    footer: length of a page        4, big-endian
            pages of locations      4
            pages of packs          4
            magic ``DORKYTB1``      8

A page is encrypted bytes, all of one length, and the hashes that prove its place:

    what                            size
    page, encrypted                 …
    proof: the sibling's hash, from the leaf up      32 for each level of the tree

A table's name is the hash of its footer and of the root of a Merkle tree over its pages, so every
page that a reader asks for is checked against the root that lists the table, with or without a key.

An object is in page ⌊SHA-256(salt ‖ id) · P / 2²⁵⁶⌋. The salt keeps pages even: ids of unencrypted
repositories are plain hashes, and contents could be chosen to crowd one page.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from dorky import errors
from dorky.format import seal
from dorky.format.model import KiB, Location, ObjectId, Pack, Table
from dorky.keys.vault import OVERHEAD, Vault
from dorky.store.pack import CODES, KINDS

MAGIC = b"DORKYTB1"
_FOOTER = struct.Struct(">III8s")
FOOTER = _FOOTER.size
PAGE = 64 * KiB
"""The most bytes of a page."""
FILL = 640
"""How many locations a page holds on average."""
_ROOM = PAGE - 2 * KiB
# Lengths are rounded up to this, so that they don't tell how many objects there are.
_STEP = 1 * KiB
_HASH = 32
_SALT = 16
_WHAT = "table"

_HEAD = struct.Struct(">16sHH")
_PACK = struct.Struct(">32sIII")  # name, size, tail, epochs
_NAMED = struct.Struct(">32sI")  # name, epochs
_ROW = struct.Struct(">B32sIII")  # kind, id, which of all packs, offset, length
_ENTRY = struct.Struct(">B32sHII")  # kind, id, which of the page's packs, offset, length


class Place(NamedTuple):
    """The place of an object: its location in a pack, and when the pack was written."""

    pack: ObjectId
    epochs: int
    at: Location


Held = tuple[Pack, Iterable[Location]]
"""A pack, and what it holds."""


# --- writing --------------------------------------------------------------------------------


def build(held: Iterable[Held], vault: Vault, *, lists: bool = True) -> tuple[Table, bytes]:
    """Make a table.

    The memory that it takes is some three times the size of the table, whatever it holds.

    Args:
        held: Packs and their objects. A pack that holds no object is kept, too.
        vault: Encrypts the pages, with the newest key of all members.
        lists: Whether to list the packs; the root itself lists the recent ones.

    Returns:
        The table as a root lists it, and its bytes.
    """
    packs: list[Pack] = []
    rows = bytearray()
    for packed, locations in held:
        for at in locations:
            rows += _ROW.pack(
                CODES[at.kind], bytes.fromhex(at.id), len(packs), at.offset, at.length
            )
        packs.append(packed)
    count = len(rows) // _ROW.size
    pages = max(1, -(-count // FILL))
    while True:
        salt = os.urandom(_SALT)
        bodies = [_body(salt, page, packs) for page in _spread(rows, salt, pages)]
        if max(map(len, bodies)) <= _ROOM:
            break
        # A page of 640 locations has this happen less than once in 10^10.
        pages += 1 + pages // 8
    listed = list(_listed(salt, packs)) if lists else []
    length = -(-max(map(len, (*bodies, *listed))) // _STEP) * _STEP
    sealed = [vault.close(body.ljust(length, b"\0"), _WHAT) for body in (*bodies, *listed)]
    levels = _tree([_leaf(page) for page in sealed])
    page = len(sealed[0]) + _HASH * (len(levels) - 1)
    footer = _FOOTER.pack(page, pages, len(listed), MAGIC)
    data = b"".join(
        (*(part for n, page in enumerate(sealed) for part in (page, _proof(levels, n))), footer)
    )
    name = _name(footer, levels[-1][0])
    made = Table(name, salt.hex(), page, pages, len(listed), count, len(packs))
    return made, data


def most(objects: int, packs: int) -> int:
    """Return about how many bytes a table of so many objects has at the most."""
    pages = max(1, -(-objects // FILL))
    return objects * _ENTRY.size + pages * (min(packs, FILL) * _NAMED.size + _STEP)


def _spread(rows: bytearray, salt: bytes, pages: int) -> list[bytearray]:
    spread = [bytearray() for _ in range(pages)]
    for start in range(0, len(rows), _ROW.size):
        row = rows[start : start + _ROW.size]
        spread[_page(bytes(row[1 : 1 + _HASH]), salt, pages)] += row
    return spread


def _page(raw: bytes, salt: bytes, pages: int) -> int:
    return int.from_bytes(hashlib.sha256(salt + raw).digest(), "big") * pages >> 256


def _body(salt: bytes, rows: bytearray, packs: Sequence[Pack]) -> bytes:
    held = list(_ROW.iter_unpack(rows))
    used = sorted({n for _, _, n, _, _ in held})
    if len(held) * _ENTRY.size + len(used) * _NAMED.size + _HEAD.size > _ROOM:
        return bytes(_ROOM + 1)
    place = {n: at for at, n in enumerate(used)}
    return b"".join(
        (
            _HEAD.pack(salt, len(used), len(held)),
            *(_NAMED.pack(bytes.fromhex(packs[n].id), packs[n].epochs) for n in used),
            *(_ENTRY.pack(code, raw, place[n], *where) for code, raw, n, *where in held),
        )
    )


def _listed(salt: bytes, packs: Sequence[Pack]) -> Iterator[bytes]:
    most = (_ROOM - _HEAD.size) // _PACK.size
    for start in range(0, max(1, len(packs)), most):
        some = packs[start : start + most]
        yield _HEAD.pack(salt, len(some), 0) + b"".join(
            _PACK.pack(bytes.fromhex(packed.id), packed.size, packed.tail, packed.epochs)
            for packed in some
        )


# --- the tree of hashes ---------------------------------------------------------------------


def _leaf(page: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(b"\0")
    digest.update(page)
    return digest.digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def _tree(leaves: list[bytes]) -> list[list[bytes]]:
    """Return the levels of the tree, leaves first; pairs that are incomplete get an empty half."""
    levels = [leaves]
    while len(levels[-1]) > 1:
        if len(levels[-1]) % 2:
            levels[-1].append(bytes(_HASH))
        level = levels[-1]
        levels.append([_node(*level[n : n + 2]) for n in range(0, len(level), 2)])
    return levels


def _proof(levels: Sequence[Sequence[bytes]], n: int) -> bytes:
    return b"".join(level[n >> depth ^ 1] for depth, level in enumerate(levels[:-1]))


def _name(footer: bytes, top: bytes) -> ObjectId:
    return hashlib.sha256(footer + top).hexdigest()


def _depth(pages: int) -> int:
    return (pages - 1).bit_length()


# --- reading --------------------------------------------------------------------------------


def page_of(table: Table, object_id: ObjectId) -> int:
    """Return the number of the page that an object's location is in, if the table has it."""
    return _page(bytes.fromhex(object_id), bytes.fromhex(table.salt), table.pages)


def page_name(table: Table, page: int) -> str:
    """Return a name for a page that no other page of any table has."""
    return f"page {table.id} {page}"


def footer(table: Table) -> bytes:
    """Return the bytes that follow its pages."""
    return _FOOTER.pack(table.page, table.pages, table.lists, MAGIC)


def span(table: Table, page: int) -> tuple[int, int]:
    """Return where a page begins and ends."""
    return page * table.page, (page + 1) * table.page


def read_page(table: Table, page: int, data: bytes, vault: Vault) -> dict[ObjectId, list[Place]]:
    """Read a page of locations.

    Args:
        table: The table as the root lists it.
        page: The page's number.
        data: The page's bytes (see `span`).
        vault: Opens it, with the newest key alone: a rotation makes tables again.

    Returns:
        The places of its objects. An object may lie in several packs.

    Raises:
        CorruptTable: The page is not the one that the root lists.
    """
    packs, rows, body = _opened(table, page, data, vault)
    start = _HEAD.size + packs * _NAMED.size
    if start + rows * _ENTRY.size > len(body):
        raise errors.CorruptTable(table.id, f"page {page} ends too early")
    named = [(raw.hex(), epochs) for raw, epochs in _NAMED.iter_unpack(body[_HEAD.size : start])]
    found: dict[ObjectId, list[Place]] = defaultdict(list)
    for code, raw, n, offset, length in _ENTRY.iter_unpack(
        body[start : start + rows * _ENTRY.size]
    ):
        kind = KINDS.get(code)
        if kind is None or n >= packs:
            raise errors.CorruptTable(table.id, f"page {page} has an impossible location")
        name, epochs = named[n]
        found[raw.hex()].append(Place(name, epochs, Location(kind, raw.hex(), offset, length)))
    return dict(found)


def read_list(table: Table, page: int, data: bytes, vault: Vault) -> list[Pack]:
    """Read a page of packs, whose number is ``table.pages`` or more.

    Raises:
        CorruptTable: The page is not the one that the root lists.
    """
    packs, _, body = _opened(table, page, data, vault)
    if _HEAD.size + packs * _PACK.size > len(body):
        raise errors.CorruptTable(table.id, f"page {page} ends too early")
    rows = body[_HEAD.size : _HEAD.size + packs * _PACK.size]
    return [Pack(raw.hex(), *rest) for raw, *rest in _PACK.iter_unpack(rows)]


def _opened(table: Table, page: int, data: bytes, vault: Vault) -> tuple[int, int, memoryview]:
    depth = _depth(table.pages + table.lists)
    length = table.page - _HASH * depth
    if len(data) != table.page or length < _HEAD.size + (OVERHEAD if vault.sealed else 0):
        raise errors.CorruptTable(table.id, f"a page of {len(data)} bytes")
    top = _leaf(memoryview(data)[:length])
    for level in range(depth):
        sibling = data[length + level * _HASH : length + (level + 1) * _HASH]
        top = _node(sibling, top) if page >> level & 1 else _node(top, sibling)
    if _name(footer(table), top) != table.id:
        raise errors.CorruptTable(table.id, f"page {page} is not the one that was written")
    try:
        body = memoryview(vault.open(memoryview(data)[:length], _WHAT, newest=True))
    except seal.SealBroken as error:
        raise errors.CorruptTable(table.id, f"page {page} {error}") from None
    salt, packs, rows = _HEAD.unpack_from(body)
    if salt.hex() != table.salt:
        raise errors.CorruptTable(table.id, f"page {page} has another salt than the root says")
    return packs, rows, body


def encode_list(packs: Iterable[Pack]) -> bytes:
    """Return a list of packs as bytes, for the local database."""
    rows = (_PACK.pack(bytes.fromhex(e.id), e.size, e.tail, e.epochs) for e in packs)
    return b"".join(rows)


def decode_list(data: bytes) -> tuple[Pack, ...] | None:
    """Return what `encode_list` encoded; None if it is anything else."""
    if len(data) % _PACK.size:
        return None
    return tuple(Pack(raw.hex(), *rest) for raw, *rest in _PACK.iter_unpack(data))


def is_table(end: bytes) -> bool:
    """Return whether a file that ends like this is a table; otherwise it is meant to be a pack."""
    return end.endswith(MAGIC)


def name_of(end: bytes, blocks: Iterable[bytes]) -> str:
    """Return the name of a table with these bytes, which anyone can compute without a key.

    Args:
        end: Its last bytes, at least `FOOTER` of them.
        blocks: All of its bytes; empty is returned if they are not what the footer says.
    """
    footer = end[-FOOTER:]
    if len(footer) < FOOTER:
        return ""
    length, pages, lists, _ = _FOOTER.unpack(footer)
    count = pages + lists
    sealed = length - _HASH * _depth(count) if count else 0
    if not 0 < sealed <= PAGE or not pages:
        return ""
    leaves: list[bytes] = []
    proofs: list[bytes] = []
    rest = b""
    for block in blocks:
        rest += block
        whole = min(len(rest) // length, count - len(leaves))
        for start in range(0, whole * length, length):
            leaves.append(_leaf(rest[start : start + sealed]))
            proofs.append(rest[start + sealed : start + length])
        rest = rest[whole * length :]
    if len(leaves) < count or rest != footer:
        return ""
    levels = _tree(leaves)
    if any(_proof(levels, n) != proof for n, proof in enumerate(proofs)):
        return ""
    return _name(footer, levels[-1][0])
