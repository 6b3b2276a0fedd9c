"""Typed records and their canonical bytes: the contents of objects and of the root.

Every record is canonical JSON: fields in the order of their declaration, keys of mappings in the
order of their code points, no white space, fields with their default value left out. The same
record always gives the same bytes, and an object's id is computed from them.

Decoding validates types, ranges, and the rules that JSON can't express. Unknown fields are refused:
a client that rewrites a record would lose what a newer client had put into them. Additions go into
``meta``, or come with another `FORMAT`, which the header states first.
"""

from __future__ import annotations

import operator
import stat
from datetime import datetime, timezone
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec

from dorky import errors, files

FORMAT = 2
"""The version of every byte that this module describes."""

KiB = 1024
MiB = 1024 * KiB

# \Z, because $ allows a newline at the end.
ObjectId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""64 lower-case hex digits: HMAC-SHA256 (encrypted) or SHA-256 (unencrypted repositories) of
kind ‖ 0x00 ‖ body."""

Digest = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")]
"""A SHA-256 in lower-case hex, or nothing. Only ever stored inside encrypted bytes."""

Token = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
"""16 random bytes in lower-case hex: the id of a repository, or of one state of a root."""

Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""A number of bytes, or an offset, within what SQLite and every file system can hold."""

GroupId = Annotated[str, msgspec.Meta(pattern=r"^(all|[0-9a-f]{16})\Z")]
"""A group's public id, which does not reveal its name: `ALL`, or random."""

MOST = 512
"""The most entries that one tree object holds; larger directories have parts."""

LISTED = 8192
"""The most chunks of a file, or lists of them, that one list holds."""

PARTS = 16
"""The number of parts of a tree object that has parts."""

DIGITS = 16
"""The number of digits in the hash that places an entry in a part (see `Vault.place`)."""

LOCKED = 16
"""The most secret keys that a repository itself holds."""

ALL = "all"
"""The group that everybody belongs to."""

MANY_REFS, MANY_NAMES, MANY_PLACES = 2048, 4096, 16
"""The most refs, names of dropped or condemned files, and probed places of a root."""
RECENT_PACKS, MANY_TABLES, MANY_PACKS = 64, 5, 1 << 20
"""The most packs that a root itself lists, the most tables, and the most packs of one."""

_PART = r"[^/\x00-\x20\x7f~^:?*\[\\]+"
RefName = Annotated[
    str, msgspec.Meta(max_length=200, pattern=rf"^(attest|(heads|tags)(/{_PART})+)\Z")
]
"""The name of a ref: ``heads/main``, ``tags/v1``, ``attest``."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}\Z"
Name = Annotated[str, msgspec.Meta(pattern=NAME)]
"""The name of a member or group: one word that suits a command line."""


Role = Literal["admin", "writer", "reader"]
"""What a member may do: change the team, write to the remote, or only read."""


def unhex(ids: str) -> bytes:
    """Return the bytes of one id or several, written one after another.

    Raises:
        ValueError: It is not lower-case hex. `bytes.fromhex` takes capitals and spaces, too.
    """
    found = bytes.fromhex(ids)
    if found.hex() != ids:
        raise ValueError("an id is not in lower case")
    return found


class Kind(str, Enum):
    """The kind of an object. The value is hashed into its id."""

    CHUNK = "chunk"
    CHUNKS = "chunks"
    TREE = "tree"
    COMMIT = "commit"
    TEAM = "team"

    @property
    def is_data(self) -> bool:
        """Return whether it is file content; the rest is metadata and lives in a pack's tail."""
        return self is Kind.CHUNK

    @property
    def limit(self) -> int:
        """Return the largest body in bytes that a reader accepts."""
        return _LIMITS[self]


_LIMITS = {
    Kind.CHUNK: 4 * MiB,
    Kind.CHUNKS: 64 * MiB,
    Kind.TREE: 64 * MiB,
    Kind.COMMIT: 1 * MiB,
    Kind.TEAM: 1 * MiB,
}


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
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
    size: Size = 0
    sha256: Digest = ""
    meta: dict[str, str] = {}

    @property
    def is_tree(self) -> bool:
        """Return whether it names a directory."""
        return stat.S_ISDIR(self.mode)


class Tree(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One directory, or a part of a large one (see `directories`).

    Attributes:
        entries: Its entries, at most `MOST`: unique, sorted by the UTF-8 bytes of their names.
        parts: The trees that hold its entries instead, by the next digit of the names' hashes; an
            empty id where there are none.
    """

    entries: tuple[Entry, ...]
    parts: tuple[Digest, ...] = ()


class Chunk(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One piece of a large file: the chunk's id and its length in bytes."""

    id: ObjectId
    length: int


class Chunks(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A large file's chunks, in order.

    Attributes:
        chunks: At most `LISTED` chunks; for a file of more, the lists that hold them.
        lists: Whether they are lists. Those hold chunks.
    """

    chunks: tuple[Chunk, ...]
    lists: bool = False


SIGNED = "signed"
"""The annotation of a commit that a purge has rewritten: the key that had signed it before."""


class Commit(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One state of the project.

    Attributes:
        trees: The root tree of each group of readers, by group. `ALL` is always present, other
            groups if they hold files.
        parents: The commits before it: none for the first, two for a merge.
        author: Its author, as free text.
        time: Its time, in UTC, to the second.
        message: Its message.
        git: The commit of the enclosing git repository, if there was one.
        meta: Free annotations; see `SIGNED`.
        signer: The key that has signed it.
        signature: The signature of everything else.
    """

    trees: dict[GroupId, ObjectId]
    parents: tuple[ObjectId, ...]
    author: str
    time: datetime
    message: str
    git: str = ""
    meta: dict[str, str] = {}
    signer: str = ""
    signature: bytes = b""


class Epoch(msgspec.Struct, frozen=True, omit_defaults=True):
    """One key of one group, wrapped for the group's readers.

    Attributes:
        group: The group whose key it is.
        epoch: Counts from 1; a new epoch begins when somebody is removed.
        commitment: A hash that commits to the key without revealing it; its first 8 bytes are the
            key's id in stored objects.
        wrapped: An age file holding the 32-byte key, in a group's newest epoch alone. Neither it
            nor the header names its readers (except for 32 bits of a hash of each SSH key).
        previous: The key of the epoch before, encrypted with this one (see `vault.unlock`);
            nothing in the first epoch.
        proof: The commitment, encrypted with the key of the epoch before: it shows removed members
            that a member removed them (see `vault.check_succession`); nothing in the first epoch.
    """

    group: GroupId
    epoch: int
    commitment: ObjectId
    wrapped: bytes = b""
    previous: bytes = b""
    proof: bytes = b""


class Locked(msgspec.Struct, frozen=True, omit_defaults=True):
    """A secret key stored in the repository itself, encrypted by something that is no age key.

    The epochs' keys are wrapped to its public key as to any other. So members who do not know the
    passphrase, or have no access to the KMS, can wrap them again.

    Attributes:
        recipient: Its public key (age X25519).
        kind: ``passphrase``: an age file (scrypt) holding the secret key; ``awskms``: the
            ciphertext of KMS.
        data: The age file or the ciphertext.
        key: The ARN of the KMS key.
    """

    recipient: str
    kind: Literal["passphrase", "awskms"]
    data: bytes
    key: str = ""


class Format(msgspec.Struct, frozen=True):
    """The one field that a header has in every format."""

    format: int


class Header(msgspec.Struct, frozen=True, omit_defaults=True):
    """The unencrypted part of a root, which is needed before anything can be decrypted.

    Attributes:
        format: `FORMAT`. A reader looks at it before it validates the rest.
        repository: The repository's id; random, and never changed.
        epochs: Every group's epochs, in the order in which they began: none is ever removed or
            inserted. The first is the first of the group `ALL`; none if unencrypted.
        locked: Secret keys that the repository holds, at most 16: each costs a reader without
            another key a second, or a request.
        mailbox: The public key (age X25519) that requests to join are encrypted to.
    """

    format: Annotated[int, msgspec.Meta(ge=1)]
    repository: Token
    epochs: tuple[Epoch, ...]
    locked: Annotated[tuple[Locked, ...], msgspec.Meta(max_length=LOCKED)] = ()
    mailbox: str = ""

    def __post_init__(self) -> None:
        newest: dict[str, Epoch] = {}
        for epoch in self.epochs:
            before = newest.get(epoch.group)
            later = epoch.epoch > 1
            if epoch.epoch != (before.epoch + 1 if before else 1) or not (
                bool(epoch.previous) is bool(epoch.proof) is later
            ):
                raise ValueError(f"epoch {epoch.epoch} of group {epoch.group} is out of order")
            newest[epoch.group] = epoch
        if any(bool(epoch.wrapped) != (newest[epoch.group] is epoch) for epoch in self.epochs):
            raise ValueError("a key is wrapped that is not the newest, or is not wrapped")
        # The first 8 bytes of commitments are the ids of keys.
        if len({epoch.commitment[:16] for epoch in self.epochs}) < len(self.epochs):
            raise ValueError("two epochs have one key")
        if self.epochs and self.epochs[0].group != ALL:
            raise ValueError(f"the first epoch is not that of the group {ALL}")

    @property
    def sealed(self) -> bool:
        """Return whether the repository is encrypted (an unencrypted one has no keys)."""
        return bool(self.epochs)

    def newest(self, group: str) -> Epoch | None:
        """Return a group's newest epoch; None if there is no such group."""
        return next((epoch for epoch in reversed(self.epochs) if epoch.group == group), None)


class Member(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A person (or a thing: a CI job, a printed key) that may read.

    Attributes:
        name: The member's name.
        recipients: Their public keys (age X25519 or SSH).
        groups: The ids of their groups other than `ALL`.
        signers: The keys that verify their signatures, each by the age key that it is derived
            from. An SSH key signs itself.
        role: What they may do.
    """

    name: Name
    recipients: tuple[str, ...]
    groups: tuple[GroupId, ...] = ()
    signers: dict[str, str] = {}
    role: Role = "writer"


class Group(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A group of readers, and the files that only they can read.

    Attributes:
        id: Its id in headers and commits.
        name: Its name for people.
        patterns: The patterns of its files (see `placement.owner`); none once it is removed.
        version: Counts the changes of its fields and of its members.
        seal: Proves, by the group's key, that its members have made it so (see `roster.sealed`):
            everybody on the team can change the rest of the roster.
    """

    id: GroupId
    name: Name
    patterns: tuple[str, ...]
    version: Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)] = 0
    seal: bytes = b""


class Roster(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The members and groups, so who may read what. Empty in an unencrypted repository."""

    members: tuple[Member, ...] = ()
    groups: tuple[Group, ...] = ()


class Begun(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An epoch that an entry of the team log began: the group, and the key's commitment."""

    group: GroupId
    commitment: ObjectId


class Replaced(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A history that was purged: its head, and the head of the one in its place."""

    old: ObjectId
    new: ObjectId


class TeamEntry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One change of the team: an entry of the team log (see `teamlog`).

    Attributes:
        n: Its number, from 1.
        prev: The id of the entry before; empty in the first.
        time: Its time, in UTC, to the second.
        members: Members that were added or changed, as they are from here on.
        left: The names of members that were removed.
        groups: Groups that were added or changed, without version and seal.
        epochs: The keys that were made, in the header's order.
        purges: The histories that were purged.
        roster: The SHA-256 of the roster, seals included.
        head: The commit that main names in the root that it replaces; empty if it names none.
        refs: The SHA-256 of that root's refs in canonical JSON; empty if there are none.
        signer: The key that has signed it.
        signature: The signature of everything else.
    """

    n: Annotated[int, msgspec.Meta(ge=1, le=(1 << 31) - 1)]
    prev: Digest
    time: datetime
    members: tuple[Member, ...] = ()
    left: tuple[Name, ...] = ()
    groups: tuple[Group, ...] = ()
    epochs: tuple[Begun, ...] = ()
    purges: tuple[Replaced, ...] = ()
    roster: Digest = ""
    head: Digest = ""
    refs: Digest = ""
    signer: str = ""
    signature: bytes = b""


class Location(NamedTuple):
    """The place of a stored object in its pack: offset and length in bytes."""

    kind: Kind
    id: ObjectId
    offset: int
    length: int


class Pack(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A pack that a root lists.

    Attributes:
        id: Its name.
        size: Its size in bytes.
        tail: The offset of its tail.
        epochs: The number of epochs in the header when the pack was written: its content is
            encrypted with keys that were their groups' newest then (see `Vault.read`).
    """

    id: ObjectId
    size: Size
    tail: Size
    epochs: Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)] = 0


class Table(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A table that a root lists: an index of many packs (see `store.table`).

    Attributes:
        id: Its name: a hash of every byte of it.
        salt: Random; decides which page an object is in.
        page: The length of a page in bytes.
        pages: The number of its pages of locations.
        lists: The number of its pages of packs, which follow; none in the table of recent packs.
        objects: The number of its locations.
        packs: The number of packs that it is about.
    """

    id: ObjectId
    salt: Token
    page: Annotated[int, msgspec.Meta(ge=1, le=64 * KiB)]
    pages: Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
    lists: Annotated[int, msgspec.Meta(ge=0, le=1 << 10)]
    objects: Size
    packs: Annotated[int, msgspec.Meta(ge=0, le=MANY_PACKS)]

    @property
    def size(self) -> int:
        """Return its size in bytes, without the footer."""
        return self.page * (self.pages + self.lists)


class Inline(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A small object inside the root itself, in its stored form."""

    kind: Kind
    id: ObjectId
    data: bytes


class Purge(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The tombstone of files that were purged from all history.

    Attributes:
        paths: The files: paths, directories, or patterns.
        author: The author of the purge, as free text.
        time: Its time, in UTC, to the second.
        old: The head of the history with the files.
        new: The head of the rewritten history.
        reason: The reason given.
    """

    paths: tuple[str, ...]
    author: str
    time: datetime
    old: ObjectId
    new: ObjectId
    reason: str = ""


class Root(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The encrypted part of a root: one state of the whole repository.

    Attributes:
        generation: Counts the swaps.
        txid: Names this state; random.
        recent: The txids of the states before, newest first, at most 64.
        refs: Commit ids by ref name.
        packs: The recent packs; the others are listed by tables.
        inline: Objects too small for a pack of their own.
        gc_epoch: Counts the garbage collections.
        condemned: Packs and tables that are about to be deleted.
        roster: Members and groups.
        mailbox: The secret key that decrypts requests to join.
        purges: The purges so far, the oldest first.
        team: The newest entry of the team log.
        before: The newest entry of the root that it replaces, or the same one.
        time: When it was written, in UTC, to the second.
        signer: The key that has signed it (see `remote.root.encode`).
        tables: Where the objects of packs lie (see `store.table`): of the recent packs first, if
            there are any, then those that list their own packs, the newest first.
        dropped: Packs that a table lists and that belong to the repository no more.
        probed: Hashes of places that were seen to honour conditional writes (see `remote.probe`).
    """

    generation: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
    txid: Token
    recent: Annotated[tuple[Token, ...], msgspec.Meta(max_length=64)] = ()
    refs: Annotated[dict[RefName, ObjectId], msgspec.Meta(max_length=MANY_REFS)] = {}
    packs: Annotated[tuple[Pack, ...], msgspec.Meta(max_length=RECENT_PACKS)] = ()
    inline: tuple[Inline, ...] = ()
    gc_epoch: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 0
    condemned: Annotated[tuple[ObjectId, ...], msgspec.Meta(max_length=MANY_NAMES)] = ()
    roster: Roster = Roster()
    mailbox: str = ""
    purges: tuple[Purge, ...] = ()
    team: Digest = ""
    before: Digest = ""
    time: datetime | None = None
    signer: str = ""
    tables: Annotated[tuple[Table, ...], msgspec.Meta(max_length=MANY_TABLES)] = ()
    dropped: Annotated[tuple[ObjectId, ...], msgspec.Meta(max_length=MANY_NAMES)] = ()
    probed: Annotated[tuple[ObjectId, ...], msgspec.Meta(max_length=MANY_PLACES)] = ()


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request to be let in under a name, with a public key and the key that signs."""

    name: Name
    recipient: Annotated[str, msgspec.Meta(max_length=2048)]
    signer: Annotated[str, msgspec.Meta(max_length=2048)]
    signature: bytes = b""


Record = Tree | Chunks | Commit | Header | Root | Roster | Request | TeamEntry
R = TypeVar("R", Tree, Chunks, Commit, Format, Header, Root, Roster, Request, TeamEntry)

_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {
    record: msgspec.json.Decoder(record)
    for record in (Tree, Chunks, Commit, Format, Header, Root, Roster, Request, TeamEntry)
}


class Malformed(ValueError):
    """The bytes are not a record of the expected kind."""


def encode(record: Record) -> bytes:
    """Return the canonical bytes of a record."""
    return msgspec.json.encode(_settled(record), order="deterministic")


def _settled(value: Any) -> Any:
    """Return a record whose empty tuples are *the* empty tuple.

    Python 3.10 makes others (of a generator, say), and msgspec does not treat those as a default.
    """
    if isinstance(value, tuple):
        settled = tuple(map(_settled, value)) or ()
        return value if value and all(map(operator.is_, settled, value)) else settled
    if not isinstance(value, Header | Root | Roster | Member | Group | Purge | TeamEntry):
        return value
    fields = {name: getattr(value, name) for name in value.__struct_fields__}
    changed = {n: new for n, old in fields.items() if (new := _settled(old)) is not old}
    return msgspec.structs.replace(value, **changed) if changed else value


def decode(kind: type[R], body: bytes | memoryview) -> R:
    """Read a record of any kind, from an untrusted source.

    Raises:
        Malformed: The bytes are no such record.
    """
    try:
        record: R = _DECODERS[kind].decode(body)
    # The decoder lets Python's own errors through for bad UTF-8 and for excessive nesting.
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None
    return record


def decode_header(clear: bytes | memoryview, place: object) -> Header:
    """Read a header, whose format decides whether the rest can be judged.

    Args:
        clear: The header.
        place: Where it was found, for messages.

    Raises:
        FormatTooNew: It was written by a later version of dorky.
        FormatTooOld: It was written by an earlier one.
        Malformed: It is no header.
    """
    version = decode(Format, clear).format
    if version > FORMAT:
        raise errors.FormatTooNew(place, version)
    if 1 <= version < FORMAT:
        raise errors.FormatTooOld(place, version)
    return decode(Header, clear)


def decode_tree(body: bytes, object_id: ObjectId, left_out: set[str] | None = None) -> Tree:
    """Read a tree, without the entries that no worktree may hold.

    So an attacker who pushes such a name neither plants a file nor blocks the other users.

    Args:
        body: The tree.
        object_id: Its id, for messages.
        left_out: Receives the names of those entries.

    Raises:
        CorruptObject: The body is no tree, its names are not sorted and unique, or it has too many
            entries or other parts than it can have.
        UnsafePath: A name is a path, or is no name at all.
    """
    try:
        tree = decode(Tree, body)
    except Malformed as error:
        raise errors.CorruptObject(object_id, error) from None
    if len(tree.entries) > MOST:
        raise errors.CorruptObject(object_id, f"{len(tree.entries)} entries in one object")
    if tree.parts and (tree.entries or len(tree.parts) != PARTS or not any(tree.parts)):
        raise errors.CorruptObject(object_id, "parts that can't be")
    previous = b""
    strange = set()
    for entry in tree.entries:
        if files.unsafe(entry.name):
            if files.malformed(entry.name):
                raise errors.UnsafePath(ascii(entry.name))
            strange.add(entry.name)
        name = entry.name.encode()
        if name <= previous:
            raise errors.CorruptObject(object_id, "names out of order")
        previous = name
        # Only permission bits and a type are allowed: no setuid, no device.
        if entry.mode & ~0o777 not in {stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR}:
            raise errors.CorruptObject(object_id, f"mode {entry.mode:o}")
    if strange:
        if left_out is not None:
            left_out |= strange
        tree = Tree(tuple(entry for entry in tree.entries if entry.name not in strange) or ())
    return tree


def decode_chunks(body: bytes, object_id: ObjectId) -> Chunks:
    """Read a chunk list.

    Raises:
        CorruptObject: The body is no chunk list, it is too long, or a chunk or a list has an
            impossible length.
    """
    try:
        chunks = decode(Chunks, body)
    except Malformed as error:
        raise errors.CorruptObject(object_id, error) from None
    if len(chunks.chunks) > LISTED:
        raise errors.CorruptObject(object_id, f"{len(chunks.chunks)} chunks in one list")
    most = Kind.CHUNK.limit * (LISTED if chunks.lists else 1)
    if any(not 0 < chunk.length <= most for chunk in chunks.chunks):
        raise errors.CorruptObject(object_id, "a chunk of impossible length")
    return chunks


def decode_commit(body: bytes, object_id: ObjectId) -> Commit:
    """Read a commit.

    Raises:
        CorruptObject: The body is no commit, has no tree for `ALL`, or its time is not in UTC and
            in whole seconds.
    """
    try:
        commit = decode(Commit, body)
    except Malformed as error:
        raise errors.CorruptObject(object_id, error) from None
    if ALL not in commit.trees:
        raise errors.CorruptObject(object_id, "it has no tree for all")
    _check_time(commit.time, object_id)
    return commit


def decode_entry(body: bytes, object_id: ObjectId) -> TeamEntry:
    """Read an entry of the team log.

    Raises:
        CorruptObject: The body is no entry, or has other bytes than `encode` gives it.
    """
    try:
        entry = decode(TeamEntry, body)
    except Malformed as error:
        raise errors.CorruptObject(object_id, error) from None
    _check_time(entry.time, object_id)
    if encode(entry) != body:
        raise errors.CorruptObject(object_id, "its bytes are not canonical")
    return entry


def _check_time(time: datetime, object_id: ObjectId) -> None:
    if time.tzinfo is not timezone.utc or time.microsecond:
        raise errors.CorruptObject(object_id, f"time {time.isoformat()}")
