"""Typed records and their canonical bytes: what is inside objects and the root.

Every record is canonical JSON: fields in the order in which they are declared, no white space,
fields that hold their default left out. The same record always gives the same bytes, and an
object's id is taken over them. Decoding validates types, and the rules that JSON can't say.
"""

from __future__ import annotations

import stat
from datetime import datetime
from enum import Enum
from typing import Annotated, Literal

import msgspec

from dorky import errors, files

FORMAT = 1
"""The version of every byte that this module describes."""

KiB = 1024
MiB = 1024 * KiB

ObjectId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
"""64 lower-case hex digits: HMAC-SHA256 (sealed) or SHA-256 (plain) of kind ‖ 0x00 ‖ body."""

Digest = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")]
"""A SHA-256 in lower-case hex, or nothing. Only ever stored inside sealed bytes."""

ALL = "all"
"""The group that everybody belongs to."""


class Kind(str, Enum):
    """What an object is. The value is hashed into its id."""

    CHUNK = "chunk"
    CHUNKS = "chunks"
    TREE = "tree"
    COMMIT = "commit"

    @property
    def is_data(self) -> bool:
        """Whether it is bulk content; the rest is metadata and lives in a pack's tail."""
        return self is Kind.CHUNK

    @property
    def limit(self) -> int:
        """The largest body in bytes that a reader accepts."""
        return _LIMITS[self]


_LIMITS = {
    Kind.CHUNK: 4 * MiB,
    Kind.CHUNKS: 64 * MiB,
    Kind.TREE: 64 * MiB,
    Kind.COMMIT: 1 * MiB,
}


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One name in a tree.

    Attributes:
        name: One path component.
        mode: File type and permission bits, as in ``st_mode``.
        content: A chunk or a chunk list for files; a chunk holding the target for links; a tree.
        size: Bytes of content; 0 for directories.
        sha256: Of the content; empty for directories.
        meta: Free annotations.
    """

    name: str
    mode: int
    content: ObjectId
    size: int = 0
    sha256: Digest = ""
    meta: dict[str, str] = {}

    @property
    def is_tree(self) -> bool:
        """Whether it names a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether it names a symbolic link."""
        return stat.S_ISLNK(self.mode)


class Tree(msgspec.Struct, frozen=True):
    """One directory. Entries are unique and sorted by the UTF-8 bytes of their names."""

    entries: tuple[Entry, ...]


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """One piece of a large file: the chunk's id and its length in bytes."""

    id: ObjectId
    length: int


class Chunks(msgspec.Struct, frozen=True):
    """A large file's pieces, in order."""

    chunks: tuple[Chunk, ...]


class Commit(msgspec.Struct, frozen=True, omit_defaults=True):
    """One state of the project.

    Attributes:
        trees: The root tree of each group of readers, by group; until there are groups, ``all``.
        parents: The commits it follows: none for the first, two for a merge.
        author: Who made it, as free text.
        time: When, in UTC, to the second.
        message: Why.
        git: The commit of the enclosing git repository, if there was one.
        meta: Free annotations.
    """

    trees: dict[str, ObjectId]
    parents: tuple[ObjectId, ...]
    author: str
    time: datetime
    message: str
    git: str = ""
    meta: dict[str, str] = {}


class Epoch(msgspec.Struct, frozen=True, omit_defaults=True):
    """One key of one group, wrapped for those who may read.

    Attributes:
        group: Whose key it is.
        epoch: Counts from 1; a new epoch begins when somebody is removed.
        commitment: A hash that commits to the key without telling it; its first 8 bytes are the
            key's id in stored objects.
        recipients: The public keys (age) that the key is wrapped to.
        wrapped: An age file holding the 32-byte key.
        previous: The epoch before's key, sealed with this one (XAES-256-GCM).
    """

    group: str
    epoch: int
    commitment: Digest
    recipients: tuple[str, ...]
    wrapped: bytes
    previous: bytes = b""


class Header(msgspec.Struct, frozen=True):
    """The clear part of a root: what must be known before anything can be opened."""

    format: int
    repository: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    epochs: tuple[Epoch, ...]

    @property
    def sealed(self) -> bool:
        """Whether the repository is sealed (a plain one has no keys)."""
        return bool(self.epochs)


class Pack(msgspec.Struct, frozen=True, array_like=True):
    """A pack that a root lists: its id, its size and where its tail begins, in bytes."""

    id: ObjectId
    size: int
    tail: int


class Inline(msgspec.Struct, frozen=True, array_like=True):
    """A small object that rides in the root itself, in its stored form."""

    kind: Kind
    id: ObjectId
    data: bytes


class Root(msgspec.Struct, frozen=True, omit_defaults=True):
    """The sealed part of a root: one state of the whole repository.

    Attributes:
        generation: Counts the swaps.
        txid: Random; names this state.
        recent: The txids of the states before, newest first, at most 64.
        refs: Commit ids by ref name.
        packs: Every pack that belongs to the repository.
        inline: Objects too small to deserve a pack.
        gc_epoch: Counts the collections of garbage.
        condemned: Packs that a collection is about to delete.
    """

    generation: int
    txid: str
    recent: tuple[str, ...] = ()
    refs: dict[str, ObjectId] = {}
    packs: tuple[Pack, ...] = ()
    inline: tuple[Inline, ...] = ()
    gc_epoch: int = 0
    condemned: tuple[str, ...] = ()


Record = Tree | Chunks | Commit | Header | Root


def encode(record: Record) -> bytes:
    """The canonical bytes of a record."""
    return msgspec.json.encode(record)


_TREE = msgspec.json.Decoder(Tree)
_CHUNKS = msgspec.json.Decoder(Chunks)
_COMMIT = msgspec.json.Decoder(Commit)


def decode_tree(body: bytes, object_id: ObjectId) -> Tree:
    """Read a tree.

    Raises:
        CorruptObject: Not a tree, or its names are not sorted and unique.
        UnsafePath: A name that must never reach a disk.
    """
    try:
        tree = _TREE.decode(body)
    except msgspec.MsgspecError as error:
        raise errors.CorruptObject(object_id, error) from None
    previous = b""
    for entry in tree.entries:
        if files.unsafe(entry.name):
            raise errors.UnsafePath(ascii(entry.name))
        name = entry.name.encode()
        if name <= previous:
            raise errors.CorruptObject(object_id, "names out of order")
        previous = name
        if stat.S_IFMT(entry.mode) not in {stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR}:
            raise errors.CorruptObject(object_id, f"mode {entry.mode:o}")
        if entry.size < 0:
            raise errors.CorruptObject(object_id, f"size {entry.size}")
    return tree


def decode_chunks(body: bytes, object_id: ObjectId) -> Chunks:
    """Read a chunk list.

    Raises:
        CorruptObject: Not a chunk list, or a chunk of impossible length.
    """
    try:
        chunks = _CHUNKS.decode(body)
    except msgspec.MsgspecError as error:
        raise errors.CorruptObject(object_id, error) from None
    if any(not 0 < chunk.length <= Kind.CHUNK.limit for chunk in chunks.chunks):
        raise errors.CorruptObject(object_id, "a chunk of impossible length")
    return chunks


def decode_commit(body: bytes, object_id: ObjectId) -> Commit:
    """Read a commit.

    Raises:
        CorruptObject: Not a commit.
    """
    try:
        return _COMMIT.decode(body)
    except msgspec.MsgspecError as error:
        raise errors.CorruptObject(object_id, error) from None


File = Literal["file", "link"]
