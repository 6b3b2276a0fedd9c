"""The root: the only object of a remote that ever changes, and its compare-and-swap.

    offset  size  what
    0       8     magic ``DORKYRT1``
    8       4     length of the header, big-endian
    12      …     header: canonical JSON, unencrypted (see `model.Header`)
    …       …     body, encrypted, with the header in its additional data: the lengths of what
                  follows (2, 4), a signature, canonical JSON (see `model.Root`), compressed, and
                  zeros up to a multiple of 4 KiB
    end-32  32    SHA-256 of everything before

The checksum finds accidents without a key; the encryption proves that nobody altered a root on
purpose.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from typing import NamedTuple, Protocol

import msgspec

from dorky import cancellation, errors
from dorky.drivers.base import Blob, Driver, Stat, Version, refusal
from dorky.drivers.retry import pause
from dorky.format import codec, model, seal
from dorky.format.model import Header, KiB, MiB, ObjectId, Pack, Root, Table
from dorky.keys import roster, signing, sshsig
from dorky.keys.signing import Signer
from dorky.keys.sshsig import Namespace
from dorky.keys.vault import Vault
from dorky.remote.cache import NONE, NOWHERE, Cache, Space
from dorky.remote.known import Known, Newest
from dorky.store import table
from dorky.store import verify as scrub
from dorky.store.database import PURGES, Database
from dorky.store.history import MAIN
from dorky.store.objects import Store

KEY = "root"
HEAD = f"heads/{MAIN}"
"""The ref that a push moves."""
PACKS = "packs/"
TABLES = "tables/"
LIMIT = 1 * MiB
"""The largest root in bytes."""
INLINE = 128 * KiB
"""The most bytes of stored objects that a root holds inline."""
RECENT = 64
NEWEST = "newest"
"""The single value that names the root accepted last, from whatever place."""
BUDGET = 60.0
"""Seconds after which a swap without an answer counts as unknown."""

_MAGIC = b"DORKYRT1"
_PREFIX = struct.Struct(">8sI")
_CHECKSUM = 32
_BODY_LIMIT = 16 * MiB
_FRAME = struct.Struct(">HI")
_STEP = 4 * KiB
"""A body is a multiple of this, so that its length does not tell what was pushed."""

_TRIES = 3
"""How often a swap is sent at least: a try whose connection stalls uses up the budget alone."""
_REFUSALS = 8
"""After so many refusals of a version that the store itself shows, it won't take it at all."""

_AMBIGUOUS = (errors.PreconditionFailed, errors.ServerBusy, errors.Unreachable)
"""Answers to a swap that leave open whether it took effect."""


class Unlock(Protocol):
    """A function that opens a header's keys, after checking that it is the right repository's."""

    def __call__(self, header: Header, verify: Callable[[Vault], None] = ..., /) -> Vault:
        """Open the keys; ``verify`` receives everybody's keys first (see `vault.unlock`)."""


def stored(driver: Driver, folder: str = PACKS) -> dict[str, Stat]:
    """Return the packs (or tables) that a remote stores, by name, listed or not."""
    found = {stored.key.removeprefix(folder): stored for stored in driver.list(folder)}
    return {name: stored for name, stored in found.items() if scrub.is_name(name)}


class RootSnapshot(NamedTuple):
    """A root as it was read: its version in the store, its header, and its body."""

    version: Version
    header: Header
    root: Root


def encode(header: Header, root: Root, vault: Vault, signer: Signer | None = None) -> bytes:
    """Return the bytes of a root.

    Args:
        header: The header.
        root: The body; its signer is replaced by ``signer``.
        vault: Encrypts the body.
        signer: The key that signs the header and the body. No reader accepts a root without.

    Raises:
        UsageError: The root is too large, or holds more of something than readers accept.
    """
    for what, count, most in (
        ("branches and tags", len(root.refs), model.MANY_REFS),
        ("files that are to be deleted", len(root.condemned), model.MANY_NAMES),
        ("recent packs", len(root.packs), model.RECENT_PACKS),
        ("tables", len(root.tables), model.MANY_TABLES),
        ("packs in a table", max((e.packs for e in root.tables), default=0), model.MANY_PACKS),
        ("packs that were dropped", len(root.dropped), model.MANY_NAMES),
    ):
        if count > most:
            raise errors.UsageError(f"the root has room for {most:,} {what}, not for {count:,}")
    clear = model.encode(header)
    signature = b""
    if signer:
        root = msgspec.structs.replace(root, signer=signer.public)
    text = model.encode(root)
    if signer:
        signature = signer.sign(Namespace.ROOT, _signed(header.repository, clear, text))
    packed = codec.compress(text)
    framed = _FRAME.pack(len(signature), len(packed)) + signature + packed
    body = vault.close(framed.ljust(-(-len(framed) // _STEP) * _STEP, b"\0"), _what(clear))
    data = _PREFIX.pack(_MAGIC, len(clear)) + clear + body
    if len(data) + _CHECKSUM > LIMIT:
        raise errors.UsageError(
            f"the root has room for {LIMIT:,} bytes, not for {len(data) + _CHECKSUM:,}"
        )
    return data + hashlib.sha256(data).digest()


def _signed(repository: str, header: bytes, text: bytes) -> bytes:
    """Return the bytes that are signed of a root: its header's hash, and the body's exact text."""
    prefix = f"dorky/{signing.VERSION}\0{repository}\0".encode()
    return prefix + hashlib.sha256(header).digest() + text


def _what(header: bytes) -> str:
    return f"root\0{header.decode()}"


def read_header(data: bytes, url: str) -> tuple[Header, bytes]:
    """Read the unencrypted part of a root.

    Returns:
        The header, and the body as it is stored.

    Raises:
        CorruptRoot: The root is truncated or altered by accident, or is not a root.
        FormatTooNew: The root has a later format.
        FormatTooOld: The root has an earlier one.
    """
    if len(data) > LIMIT or len(data) < _PREFIX.size + _CHECKSUM:
        raise errors.CorruptRoot(url, f"{len(data)} bytes can't be a root")
    magic, length = _PREFIX.unpack_from(data)
    if magic != _MAGIC:
        raise errors.CorruptRoot(url, "it is not a dorky root")
    if hashlib.sha256(data[:-_CHECKSUM]).digest() != data[-_CHECKSUM:]:
        raise errors.CorruptRoot(url, "its checksum does not match")
    clear = data[_PREFIX.size : _PREFIX.size + length]
    try:
        header = model.decode_header(clear, url)
    except model.Malformed as error:
        raise errors.CorruptRoot(url, error) from None
    if model.encode(header) != clear:
        raise errors.CorruptRoot(url, "its header is not canonical")
    return header, data[_PREFIX.size + length : -_CHECKSUM]


def verifier(header: Header, body: bytes, url: str) -> Callable[[Vault], None]:
    """Return a function that refuses a body not encrypted with a vault's key and this header.

    It shows that a header was written by a member before the work is done that the header asks for.
    """

    def verify(vault: Vault) -> None:
        _authentic(header, body, vault, url)

    return verify


def _authentic(header: Header, body: bytes, vault: Vault, url: str) -> bytes:
    try:
        if vault.group_of(body) != model.ALL:
            raise seal.SealBroken("is encrypted with another key than that of all members")
        return vault.open(body, _what(model.encode(header)), newest=True)
    except seal.SealBroken as error:
        raise errors.CorruptRoot(url, error) from None


def _unframed(framed: bytes, url: str) -> tuple[bytes, bytes]:
    """Return the signature and the compressed text of a body."""
    if len(framed) % _STEP or len(framed) < _FRAME.size:
        raise errors.CorruptRoot(url, "its body is not padded as it should be")
    signature, packed = _FRAME.unpack_from(framed)
    middle, end = _FRAME.size + signature, _FRAME.size + signature + packed
    if end > len(framed) or framed[end:].strip(b"\0"):
        raise errors.CorruptRoot(url, "its body is not padded as it should be")
    return framed[_FRAME.size : middle], framed[middle:end]


def read_body(header: Header, body: bytes, vault: Vault, url: str, *, verify: bool = False) -> Root:
    """Decrypt the body of a root.

    Args:
        header: The header.
        body: The body, as it is stored.
        vault: Decrypts it.
        url: Where the root comes from, for messages.
        verify: Whether to verify its signature: it does not come from the local store.

    Raises:
        CorruptRoot: The body is altered, or encrypted with another key or header.
        ForgedRoot: The signature is not one of the key that it names.
    """
    signature, packed = _unframed(_authentic(header, body, vault, url), url)
    try:
        text = codec.inflate(packed, limit=_BODY_LIMIT)
        root = model.decode(Root, text)
    except (codec.CodecError, model.Malformed) as error:
        raise errors.CorruptRoot(url, error) from None
    if any(not entry.lists for entry in root.tables[1:]):
        raise errors.CorruptRoot(url, "it has two tables of recent packs")
    if verify:
        signed = _signed(header.repository, model.encode(header), text)
        if not sshsig.verify(root.signer, Namespace.ROOT, signed, signature):
            raise errors.ForgedRoot(url, "its signature is not valid")
    return root


def noted(database: Database) -> Newest | None:
    """Return the root that a local store has accepted last, from whatever place.

    Raises:
        CorruptDatabase: The record makes no sense.
    """
    data = database.get(NEWEST)
    try:
        return msgspec.json.decode(data, type=Newest) if data else None
    except msgspec.MsgspecError as error:
        raise errors.CorruptDatabase(database.path, error) from None


def successor(root: Root | None, **changes: object) -> Root:
    """Return the root that follows ``root`` (None: the first root), with other content."""
    txid = os.urandom(16).hex()
    if root is None:
        return msgspec.structs.replace(Root(1, txid), **changes)
    recent = (root.txid, *root.recent)[:RECENT]
    kept: dict[str, object] = {"before": root.team, **changes}
    return msgspec.structs.replace(
        root, generation=root.generation + 1, txid=txid, recent=recent, **kept
    )


def follows(old: Root | Newest, root: Root) -> bool:
    """Return whether a root is the old one, or may be a later one of the same line.

    Within the remembered window, the chain of txids must lead back to the old root.
    """
    steps = root.generation - old.generation
    if steps == 0:
        return root.txid == old.txid
    return steps > 0 and (steps > RECENT or old.txid in root.recent[:steps])


def _newest(seen: RootSnapshot) -> Newest:
    epochs = tuple(epoch.commitment for epoch in seen.header.epochs)
    return Newest(seen.root.generation, seen.root.txid, seen.root.recent, epochs)


class Remote:
    """A remote repository: its driver, and the last root that was seen of it. For one thread.

    Args:
        name: The name in `.dorkyrc`: ``origin``.
        driver: The driver of the remote's place.
        store: The local store, whose database remembers the root.
        unlock: Opens a header's keys.
        known: The user's own record of the place, independent of the local store.
        signer: Returns the key that signs new roots.
    """

    def __init__(
        self,
        name: str,
        driver: Driver,
        store: Store,
        unlock: Unlock,
        known: Known,
        signer: Callable[[], Signer],
    ) -> None:
        self.name = name
        self.driver = driver
        self.store = store
        self.unlock = unlock
        self.known = known
        self.signer = signer
        self.pin = ""
        """The entry of the team log that `.dorkyrc` pins; see `authority.check_pin`."""
        self.accept_rewind = False
        """Whether to follow a root that is older than what was seen, or has another history."""
        self.lists: dict[ObjectId, tuple[Pack, ...]] = {}
        """The packs that tables list, as far as they were read or written."""
        self.glimpsed: RootSnapshot | None = None
        """The last root that was read without all that it lists (see `cold`)."""
        self.may_be_old = False
        """Whether roots may be older than what this user has seen: the cache alone is read."""
        self.cache: Cache = NONE
        """What this user has read of remotes before."""
        self.space: Space = NOWHERE
        """The part of the cache that the repository has, once its root was read."""
        self._seen: RootSnapshot | None = None
        self._vouches = False

    @property
    def url(self) -> str:
        """Return the remote's URL, for messages."""
        return self.driver.url

    def list_of(self, listed: Table) -> tuple[Pack, ...] | None:
        """Return the packs that a table lists; None if they have to be read."""
        if listed.id not in self.lists:
            data = self.store.database.get(f"remote.{self.name}.list.{listed.id}")
            found = table.decode_list(data) if data else None
            if found is None or len(found) != listed.packs:
                return None
            self.lists[listed.id] = found
        return self.lists[listed.id]

    def _note_lists(self, root: Root) -> None:
        """Record the packs that the tables of a root list; forget those of other tables."""
        database = self.store.database
        prefix = f"remote.{self.name}.list."
        with database.transaction() as db:
            rows = db.execute("SELECT key FROM meta WHERE key GLOB ? || '*'", (prefix,)).fetchall()
            known = {key.removeprefix(prefix) for (key,) in rows}
            listed = {entry.id for entry in root.tables}
            db.executemany(
                "DELETE FROM meta WHERE key = ?", [(prefix + name,) for name in known - listed]
            )
            for entry_id in sorted(listed & self.lists.keys() - known):
                database.set(prefix + entry_id, table.encode_list(self.lists[entry_id]))
        for name in self.lists.keys() - listed:
            del self.lists[name]

    @property
    def _place(self) -> ObjectId:
        """Return a hash of the remote's place: its bucket, and the server that is asked."""
        return hashlib.sha256(self.known.place.encode()).hexdigest()

    @property
    def vouched(self) -> bool:
        """Return whether the last root seen says that the place honours conditional writes."""
        return self.before is not None and self._place in self.before.root.probed

    def vouch(self) -> None:
        """Let the next root say that the place honours conditional writes.

        A directory is no such place: whether it does depends on how each machine has mounted it.
        """
        self._vouches = not self.url.startswith("file:")

    @property
    def version(self) -> Version | None:
        """Return the version of the last root seen; needs no key, unlike `seen`."""
        row = self.store.database.root(self.name)
        return Version(row[0]) if row else None

    @property
    def seen(self) -> RootSnapshot | None:
        """Return the last root seen, or None."""
        if self._seen is None and (row := self.store.database.root(self.name)):
            self._seen = self._decode(Version(row[0]), row[1], verify=False)
        return self._seen

    @property
    def before(self) -> RootSnapshot | None:
        """Return the last root seen; None, too, if the user's keys have changed since."""
        try:
            return self.seen
        except (errors.NoKey, errors.IdentityMissing):
            return None

    def stand_for(self, seen: RootSnapshot, version: Version) -> None:
        """Let the next swap replace a version that was refused, not that of the last root seen."""
        self._seen = seen._replace(version=version)

    def _decode(self, version: Version, data: bytes, *, verify: bool = True) -> RootSnapshot:
        header, body = read_header(data, self.url)
        opened = self.unlock(header, verifier(header, body, self.url))
        root = read_body(header, body, opened, self.url, verify=verify)
        return RootSnapshot(version, header, root)

    def read(self, *, unless: Version | None = None) -> tuple[RootSnapshot, bytes] | None:
        """Read the root, in one request.

        Returns:
            The root and its bytes; None if it is still at version ``unless``.

        Raises:
            NoRepositoryAtURL: The remote holds no repository.
            RootVanished: The remote held a repository, but its root is gone.
            Rewound: The root is older than what this clone, or this user on this machine, has seen.
            ForgedGroup: A group of the user's was changed by somebody who is not in it.
            ForgedRoot: The signature of the root is not valid.
        """
        glimpsed = self.glimpsed.version if self.glimpsed else None
        if unless is not None and unless in {self.version, glimpsed} and self._is_behind:
            unless = None
        if unless is None and (held := self.cache.root(self._place)):
            # A root that is damaged, or that somebody has planted, is read from the remote.
            with contextlib.suppress(errors.IntegrityError, errors.SetupError, errors.AccessError):
                return self._read(held.version, held)
            self.cache.discard_root(self._place)
        return self._read(unless)

    def _read(
        self, unless: Version | None, held: Blob | None = None
    ) -> tuple[RootSnapshot, bytes] | None:
        blob = self._get(unless) or held
        if blob is None:
            self._note_again()
            return None
        seen = self.before
        # Decode the new root after the old one: the keys that are opened last stay in force.
        found = self._decode(blob.version, blob.data)
        if not self.accept_rewind:
            floor = self._floor(found.header.repository)
            try:
                self._check_follows(found, seen, floor)
            except (errors.Rewound, errors.WrongKey):
                # Another command of this user's may have accepted a newer root after the read.
                if (blob := self._get(None)) is None or blob.version == found.version:
                    raise
                found = self._decode(blob.version, blob.data)
                self._check_follows(found, seen, floor)
        # The roster is kept apart from the root seen, which is forgotten when the URL changes.
        known = self.store.database.roster()
        opened = self.unlock(found.header)
        roster.check(found.header, found.root.roster, opened, known, self.url)
        if blob is not held:
            self.cache.keep_root(self._place, blob)
        self.space = self.cache.settle(
            found.header.repository, msgspec.json.encode(found.root.purges)
        )
        return found, blob.data

    def _get(self, unless: Version | None) -> Blob | None:
        try:
            return self.driver.get(KEY, unless=unless, limit=LIMIT)
        except errors.KeyNotFound:
            own = self._repository
            if self.version is not None or (own and self.known.has_seen(own)):
                raise self._vanished() from None
            local = self.store.database.ref(MAIN) is not None
            raise errors.NoRepositoryAtURL(self.url, unpushed=local) from None

    def check_there(self) -> None:
        """Check, before anything is written, that a directory that was seen is not just empty.

        Raises:
            NotMounted: It is missing or empty, as a mount point is without its disk.
        """
        if self.version is not None and self._is_unmounted():
            raise errors.NotMounted(self.url)

    def _vanished(self) -> errors.DorkyError:
        if self._is_unmounted():
            return errors.NotMounted(self.url)
        return errors.RootVanished(self.url)

    def _is_unmounted(self) -> bool:
        if not self.url.startswith("file:"):
            return False
        from dorky.drivers.file import FileDriver

        return FileDriver.open(self.url, {}).is_bare()

    # --- what this user knows --------------------------------------------------------------

    @property
    def _repository(self) -> str:
        """Return the id of the repository whose keys the local store has; empty if it has none."""
        database = self.store.database
        data = database.get("header")
        try:
            return model.decode(Header, data).repository if data else ""
        except model.Malformed as error:
            raise errors.CorruptDatabase(database.path, error) from None

    @property
    def _noted(self) -> Newest | None:
        return noted(self.store.database)

    def _floor(self, repository: str) -> Newest | None:
        """Return the root that the remote must not fall behind, whatever the name of its place."""
        if self.may_be_old:
            return None
        floor, noted = self.known.floor(repository), self._noted
        if floor is None or self.known.has_seen(repository):
            # The local store's own record serves users without a home.
            return floor or noted
        return noted if noted and noted.generation > floor.generation else floor

    @property
    def _is_behind(self) -> bool:
        """Return whether a newer root than the last one seen may be known."""
        noted, own = self._noted, self._repository
        floor = self.known.floor(own) if own else None
        if noted is None or floor is None:
            return noted is None
        return floor.generation >= noted.generation and floor.txid != noted.txid

    def _note_again(self) -> None:
        """Write the last root seen to the user's record again, in case the record was lost."""
        own, noted = self._repository, self._noted
        if own and noted and not self.known.has_seen(own):
            self.known.note(own, noted)

    def following(self, header: Header, root: Root) -> tuple[Header, Root]:
        """Make the first root of an empty place follow what is known of other places.

        Everybody who moves to the new place can then tell that it is no older copy.
        """
        if floor := self._floor(header.repository):
            recent = (floor.txid, *floor.recent)[:RECENT]
            root = msgspec.structs.replace(root, generation=floor.generation + 1, recent=recent)
        return header, root

    def _check_follows(
        self, found: RootSnapshot, seen: RootSnapshot | None, floor: Newest | None
    ) -> None:
        """Refuse a root that is older than the last one seen, or than any that this user knows."""
        if seen:
            self._check_newer(seen.root, found.root)
        if floor:
            self._check_newer(floor, found.root)
            self._check_keys(floor, found.header)

    def _check_keys(self, floor: Newest, header: Header) -> None:
        """Refuse a header that does not hold every known key in its place.

        Raises:
            WrongKey: The header lacks a known key.
        """
        found = [epoch.commitment for epoch in header.epochs]
        for n, commitment in enumerate(floor.epochs):
            if found[n : n + 1] != [commitment]:
                other = found[n][:16] if n < len(found) else "none"
                raise errors.WrongKey(self.url, other, commitment[:16])

    def _check_newer(self, old: Root | Newest, root: Root) -> None:
        if not follows(old, root):
            raise errors.Rewound(self.url, root.generation, old.generation)

    @contextlib.contextmanager
    def remembering(self, seen: RootSnapshot, data: bytes) -> Iterator[None]:
        """Record a root as the last one seen, in one transaction with the block.

        The root's refs are stored locally as ``NAME/ref``, and the header becomes the repository's.
        The user's own record is written last, when nothing can refuse the root any more.
        """
        newest = _newest(seen)
        database = self.store.database
        before, self._seen = self._seen, seen
        try:
            with database.transaction() as db:
                db.execute(
                    "INSERT OR REPLACE INTO roots VALUES (?, ?, ?)",
                    (self.name, seen.version, data),
                )
                db.execute("DELETE FROM refs WHERE name GLOB ? || '/*'", (self.name,))
                for ref, commit in seen.root.refs.items():
                    database.set_ref(f"{self.name}/{MAIN if ref == HEAD else ref}", commit)
                self._note(seen, newest)
                self._note_lists(seen.root)
                yield
                self.known.note(seen.header.repository, newest, force=self.accept_rewind)
        except BaseException:
            self._seen = before
            raise

    def _note(self, seen: RootSnapshot, newest: Newest) -> None:
        database = self.store.database
        database.set("header", model.encode(seen.header))
        database.set("roster", model.encode(seen.root.roster))
        database.set(PURGES, msgspec.json.encode(seen.root.purges))
        database.set(NEWEST, msgspec.json.encode(newest))

    def glimpse(self, seen: RootSnapshot) -> None:
        """Record a root that was read without all that it lists: no older one may follow it."""
        newest = _newest(seen)
        with self.store.database.transaction():
            self._note(seen, newest)
            self.known.note(seen.header.repository, newest, force=self.accept_rewind)
        self.glimpsed = seen

    # --- the swap --------------------------------------------------------------------------

    @cancellation.shielded()
    def swap(
        self,
        header: Header,
        root: Root,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> tuple[RootSnapshot, bytes] | None:
        """Replace the root last seen by ``root``.

        The outcome is decided by the txid, never by the status alone: a server (or a client that
        retries inside) may report a failure for a swap that took effect.

        Returns:
            The root as it is now in the store, and its bytes; None if the swap won but other swaps
            have followed it.

        Raises:
            PreconditionFailed: Somebody else was faster.
            CantSign: None of the user's keys can be used.
            Unreachable: No connection could be made, so nothing was sent.
            SwapsUnsupported: The store refuses every conditional write.
            OutcomeUnknown: The store did not answer within `BUDGET`; doing all of it again is safe.
        """
        expected = self.seen.version if self.seen else None
        if self.seen and root.recent[:1] != (self.seen.root.txid,):
            # The new root was made to follow another one: a newer root has been fetched since.
            raise errors.PreconditionFailed(KEY, self.url)
        floor = self._floor(header.repository)
        if floor and root.generation <= floor.generation:
            # Another clone on this machine has seen a newer root.
            raise errors.PreconditionFailed(KEY, self.url)
        signer = self.signer()
        root = self._completed(root, signer)
        data = encode(header, root, self.unlock(header), signer)
        deadline = clock() + BUDGET
        delay = 0.1
        sent = False
        refusals: list[bool] = []
        while True:
            try:
                version = self.driver.swap(KEY, data, expected=expected)
                return RootSnapshot(version, header, root), data
            except _AMBIGUOUS as error:
                if isinstance(error, errors.Unreachable) and error.lasting and not sent:
                    raise
                sent = True
                refusals.append(isinstance(error, errors.PreconditionFailed))
                asked = error.retry_after if isinstance(error, errors.ServerBusy) else None
                blob = self._look(expected, error)
            if blob is not None:
                clear, body = read_header(blob.data, self.url)
                opened = self.unlock(clear, verifier(clear, body, self.url))
                found = read_body(clear, body, opened, self.url, verify=True)
                if found.txid == root.txid:
                    return RootSnapshot(blob.version, header, root), data
                if root.txid in found.recent:
                    return None
                if blob.version != expected:
                    raise errors.PreconditionFailed(KEY, self.url)
                self._check_refusals(refusals, blob.version)
            wait = pause(delay, asked)
            enough = len(refusals) >= _TRIES or wait > BUDGET
            if clock() + max(delay, wait) > deadline and enough:
                raise errors.OutcomeUnknown(self.url)
            sleep(wait)
            delay = min(delay * 2, 10.0)

    def _check_refusals(self, refusals: Sequence[bool], version: Version) -> None:
        """Give up if a store has refused nothing but the very version that it shows."""
        if all(refusals) and (len(refusals) == _REFUSALS or version.startswith("W/")):
            raise errors.SwapsUnsupported(self.url, refusal(version))

    def _completed(self, root: Root, signer: Signer) -> Root:
        """Return a root with its time and signer, and with the place if it is known to be good."""
        now = datetime.now(timezone.utc).replace(microsecond=0)
        probed = root.probed
        if self._vouches and self._place not in probed:
            probed = (self._place, *probed)[: model.MANY_PLACES]
        return msgspec.structs.replace(root, time=now, signer=signer.public, probed=probed)

    def _look(self, expected: Version | None, error: errors.DorkyError) -> Blob | None:
        """Read the root after a swap that did not succeed; return None if that tells nothing."""
        try:
            return self.driver.get(KEY, limit=LIMIT)
        except errors.KeyNotFound:
            if expected is not None:
                raise self._vanished() from error
            return None
        except errors.Unavailable:
            return None
