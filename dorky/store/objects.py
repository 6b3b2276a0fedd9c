"""The local object store: its packs, and the location of every object, locally and in the remote.

Objects are written through a `Writer`: packs are written under temporary names, synced and renamed,
and only then recorded, in the caller's transaction. Until that commits, nothing refers to them.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, TypeVar

from dorky import errors, files
from dorky.format import model
from dorky.format.model import ALL, Commit, KiB, Kind, Location, MiB, ObjectId, Pack
from dorky.parallel import THREADS, BackgroundWorker, in_order
from dorky.store.database import Database

if TYPE_CHECKING:
    # Locating objects needs none of these imports, nor the hashes that come with them.
    from dorky.format.codec import Coding
    from dorky.keys.signing import Signer
    from dorky.keys.vault import Vault
    from dorky.store.pack import PackWriter

T = TypeVar("T")

_OPEN_PACKS = 64
# The smallest amount of data worth handing to another thread.
_ENOUGH = 2 * MiB
_OPENED = 16 * MiB
_SMALL = 64 * KiB
LOCAL = ""
"""The name under which local packs are recorded; a remote's are under its own name."""


class PackedObject(NamedTuple):
    """The location of an object: the pack's name, offset and length in bytes."""

    kind: Kind
    id: ObjectId
    pack: str
    offset: int
    length: int


Announce = Callable[[Pack, bytes, bytes], None]
"""Receives a pack, the locations of its objects (see `pack.read_index`), and its bytes."""

_KIND = {kind.value: kind for kind in Kind}


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Split items into lists of at most ``size``."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class Store:
    """Objects by id. Any number of threads may read; each writes through a `Writer` of its own.

    Args:
        directory: The directory of packs; made (0700) on the first write.
        scratch: Where packs are written, on the same file system.
        database: Holds the locations.
        vault: Returns the keys; called when they are first needed, because unwrapping them costs
            more than many commands do otherwise.
        signer: Returns the key that signs new commits; None to leave them unsigned.
    """

    def __init__(
        self,
        directory: Path,
        scratch: Path,
        database: Database,
        vault: Callable[[], Vault],
        signer: Callable[[], Signer] | None = None,
    ) -> None:
        self.directory = directory
        self._prefix = os.path.join(directory, "")  # noqa: PTH118
        self.scratch = scratch
        self.database = database
        self._vault = vault
        self._signer = signer
        self._fds: dict[str, int] = {}
        self._opened: dict[ObjectId, tuple[str | None, bytes]] = {}
        self._room = _OPENED
        self._caching = threading.Lock()
        self.pack_size = 0
        """The bytes that packs are closed at; 0: as usual."""
        self.left_out: set[str] = set()
        self.recent = None
        """Names in trees read so far that no worktree may hold."""

    @property
    def vault(self) -> Vault:
        """Return the repository's keys."""
        return self._vault()

    @property
    def signer(self) -> Signer | None:
        """Return the key that signs new commits; None to leave them unsigned."""
        return self._signer() if self._signer else None

    def close(self) -> None:
        """Close the packs that are open. No other thread may be reading."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
        self._opened.clear()
        self._room = _OPENED

    # --- where objects are -----------------------------------------------------------------

    def locate(
        self, ids: Iterable[ObjectId], *, remote: str = LOCAL
    ) -> dict[ObjectId, PackedObject]:
        """Return which of ``ids`` the local store (or a remote's packs) holds, and where."""
        found: dict[ObjectId, PackedObject] = {}
        names: dict[str, str] = {}
        for batch in batches(ids if isinstance(ids, AbstractSet) else set(ids), 500):
            marks = ",".join("?" * len(batch))
            with self._readable():
                raws = {model.unhex(object_id): object_id for object_id in batch}
            rows = self.database.connection.execute(
                "SELECT o.kind, o.id, p.name, o.offset, o.length FROM objects o"  # noqa: S608
                f" CROSS JOIN packs p ON p.n = o.pack WHERE p.remote = ? AND o.id IN ({marks})",
                (remote, *raws),
            )
            with self._readable():
                for kind, raw, name, offset, length in rows.fetchall():
                    # One string for each id and pack: there may be a million.
                    found_id, pack = raws[raw], names.setdefault(name, name)
                    found[found_id] = PackedObject(_KIND[kind], found_id, pack, offset, length)
        return found

    def missing(self, ids: Iterable[ObjectId]) -> set[ObjectId]:
        """Return those of ``ids`` that the local store lacks."""
        wanted = set(ids)
        return wanted - self.locate(wanted).keys()

    def __contains__(self, object_id: ObjectId) -> bool:
        with self._readable():
            raw = model.unhex(object_id)
        found = self.database.connection.execute(
            # CROSS JOIN keeps SQLite from walking all packs to look for the object in each.
            "SELECT 1 FROM objects o CROSS JOIN packs p ON p.n = o.pack"
            " WHERE o.id = ? AND p.remote = ?",
            (raw, LOCAL),
        )
        return found.fetchone() is not None

    def packs(self, remote: str = LOCAL) -> list[Pack]:
        """Return the packs that are recorded."""
        rows = self.database.connection.execute(
            "SELECT name, size, tail, epochs FROM packs WHERE remote = ? ORDER BY n", (remote,)
        )
        return [Pack(*row) for row in rows]

    def contents(self, remote: str) -> dict[ObjectId, list[Location]]:
        """Return what each of a remote's packs holds, by the pack's name."""
        packs = self.packs(remote)
        return {packed.id: self.locations(packed.id, remote=remote) for packed in packs}

    def locations(self, name: str, *, remote: str = LOCAL) -> list[Location]:
        """Return the locations, in order, of everything that a local pack (or a remote's) holds."""
        rows = self.database.connection.execute(
            "SELECT o.kind, o.id, o.offset, o.length FROM packs p JOIN objects o ON o.pack = p.n"
            " WHERE p.remote = ? AND p.name = ? ORDER BY o.offset",
            (remote, name),
        )
        with self._readable():
            return [
                Location(_KIND[kind], raw.hex(), offset, length)
                for kind, raw, offset, length in rows.fetchall()
            ]

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, ValueError, AttributeError) as error:
            raise errors.CorruptDatabase(self.database.path, error) from None

    def record(self, remote: str, packed: Pack, locations: Sequence[Location]) -> None:
        """Record what a pack holds."""
        with self.database.transaction() as db:
            n = db.execute(
                "INSERT INTO packs (remote, name, size, tail, epochs) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (remote, name) DO UPDATE SET size = excluded.size RETURNING n",
                (remote, packed.id, packed.size, packed.tail, packed.epochs),
            ).fetchone()[0]
            db.executemany(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)",
                (
                    (bytes.fromhex(at.id), n, at.kind.value, at.offset, at.length)
                    for at in locations
                ),
            )

    def retain(self, remote: str, packs: Iterable[str]) -> None:
        """Forget the packs of a remote that its root no longer lists."""
        names = "SELECT name FROM packs WHERE remote = ?"
        rows = self.database.connection.execute(names, (remote,)).fetchall()
        if gone := {name for (name,) in rows}.difference(packs):
            with self.database.transaction() as db:
                db.executemany(
                    "DELETE FROM packs WHERE remote = ? AND name = ?", [(remote, n) for n in gone]
                )

    # --- reading ---------------------------------------------------------------------------

    def stored(self, at: PackedObject) -> bytes:
        """Return the stored form of an object, unopened. Safe to call from several threads.

        Raises:
            MissingObject: The object's pack is gone.
            CorruptObject: The object's pack is truncated.
        """
        path = self._prefix + at.pack
        fd = self._fds.get(at.pack)
        passing = fd is None and len(self._fds) >= _OPEN_PACKS
        if fd is None:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                # A garbage collection may have moved the object since it was located.
                moved = self.locate([at.id]).get(at.id, at)
                if moved.pack == at.pack:
                    raise errors.MissingObject(at.id) from None
                return self.stored(moved)
            except OSError as error:
                raise errors.DiskError(path, error.strerror) from error
            # If another thread has opened the pack first, this descriptor is closed after use.
            passing = passing or self._fds.setdefault(at.pack, fd) != fd
        try:
            with files.disk_errors(path):
                data = os.pread(fd, at.length, at.offset)
        finally:
            if passing:
                os.close(fd)
        if len(data) != at.length:
            raise errors.CorruptObject(at.id, f"pack {at.pack} is truncated")
        return data

    def open(self, at: PackedObject, *, group: str | None = None) -> bytes:
        """Return the body of an object, verified. Safe to call from several threads.

        Args:
            at: The object's location.
            group: If given, the group that the object must be encrypted for. An object that
                everybody's trees name must be everybody's: otherwise somebody outside a group could
                make a member publish its files.

        Raises:
            CorruptObject: The object is damaged, or encrypted for others.
        """
        with self._caching:
            own, body = self._opened.pop(at.id, (None, None))
            self._room += len(body or b"")
        if body is not None and group in {None, own}:
            return body
        stored = self.stored(at)
        if group is not None and self.vault.group_of(stored) != group:
            raise errors.CorruptObject(
                at.id, "it is encrypted for another group than the one that names it"
            )
        return self.vault.read(at.kind, at.id, stored)

    def remember(self, object_id: ObjectId, group: str | None, body: bytes) -> None:
        """Cache a body that has just been verified, if there is room, for the next read.

        Opening a small object costs as much as writing it to a file.
        """
        with self._caching:
            if len(body) <= min(_SMALL, self._room) and object_id not in self._opened:
                self._opened[object_id] = group, body
                self._room -= len(body)

    def read(self, object_id: ObjectId, *, group: str | None = None) -> bytes:
        """Return the body of an object, verified (see `open`).

        Raises:
            MissingObject: The local store lacks the object.
            CorruptObject: The object is damaged, or encrypted for others.
        """
        at = self.locate([object_id]).get(object_id)
        if at is None:
            raise errors.MissingObject(object_id)
        return self.open(at, group=group)

    def pack_bytes(self, name: str) -> bytes:
        """Return a whole pack, checked against its name.

        Raises:
            CorruptPack: The pack's bytes are not those that were written.
        """
        from dorky.store.pack import is_whole, read_footer

        with files.disk_errors(self.directory / name):
            data = (self.directory / name).read_bytes()
        if not is_whole(name, [data], read_footer(name, data, len(data)).tail):
            raise errors.CorruptPack(name, "its bytes have another hash")
        return data

    def pack_memory(self, packed: Pack) -> io.BytesIO:
        """Return a file in memory with a pack's bytes, unchecked, to be written over.

        The kernel gets the memory here, without Python's lock: that takes longer than the copying.
        """
        path = self.directory / packed.id
        buffer = io.BytesIO(bytes(packed.size))
        with files.disk_errors(path), path.open("rb", 0) as file, buffer.getbuffer() as view:
            file.readinto(view)
        return buffer

    def data_digest(self, packed: Pack) -> bytes:
        """Return the SHA-256 that a pack's data must have, from its tail, checked against its name.

        Raises:
            CorruptPack: The tail is not as it was written.
        """
        import hashlib

        from dorky.store.pack import read_footer

        path = self.directory / packed.id
        with files.disk_errors(path), path.open("rb") as file:
            file.seek(packed.tail)
            tail = file.read()
        if hashlib.sha256(tail).hexdigest() != packed.id:
            raise errors.CorruptPack(packed.id, "its bytes have another hash")
        return read_footer(packed.id, tail, packed.tail + len(tail)).digest

    # --- writing ---------------------------------------------------------------------------

    def writer(self, announce: Announce | None = None) -> Writer:
        """Begin to write objects; ``announce`` receives packs before they are saved."""
        return Writer(self, announce)


_Stored = tuple[Kind, ObjectId, "bytes | memoryview"]


class Writer:
    """A writer of objects to new packs, for one thread. A context manager.

    Packs that were not saved are dropped on leaving.

    Packs are hashed, written and synced in a separate thread, so encryption does not wait for the
    disk.

    Args:
        store: The store.
        announce: Receives each pack, with its bytes, once it is on the disk. It is called in the
            thread that writes objects, outside of a transaction if `complete` is.
    """

    def __init__(self, store: Store, announce: Announce | None = None) -> None:
        self._store = store
        self._announce = announce
        self.vault = store.vault
        self._new: set[ObjectId] = set()
        self._pending: list[_Stored] = []
        self._size = 0
        self._lane = BackgroundWorker()
        # Only the writing thread touches it until that thread is waited for.
        self._open: tuple[Path, IO[bytes], PackWriter] | None = None
        self._copy = io.BytesIO() if announce else None
        self._finished: list[tuple[Path, Pack, bytes]] = []
        self._news: deque[tuple[Pack, bytes, bytes]] = deque()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *exception: object) -> None:
        self._lane.close()
        if self._open:
            # On a full disk, closing tries to write the buffered bytes once more.
            with contextlib.suppress(OSError):
                self._open[1].close()
            self._open[0].unlink(missing_ok=True)
        for path, _, _ in self._finished:
            path.unlink(missing_ok=True)

    def holds(self, object_id: ObjectId) -> bool:
        """Return whether the object is stored already, or about to be."""
        return object_id in self._new or object_id in self._store

    def lacking(self, ids: Iterable[ObjectId]) -> set[ObjectId]:
        """Return those of ``ids`` that are neither stored nor about to be."""
        return self._store.missing(set(ids) - self._new)

    def add(
        self, kind: Kind, body: bytes, *, group: str = ALL, how: Coding | None = None
    ) -> ObjectId:
        """Store a body for a group, unless it is stored already; return its id.

        Args:
            kind: The object's kind.
            body: The object.
            group: The group.
            how: How it is compressed; None: as usual.
        """
        object_id = self.vault.object_id(kind, body, group=group)
        if not self.holds(object_id):
            stored = self.vault.store(kind, object_id, body, group=group, how=how)
            self.append(kind, object_id, stored)
        return object_id

    def add_commit(self, commit: Commit) -> ObjectId:
        """Sign a commit and store it; return its id."""
        if signer := self._store.signer:
            from dorky.keys import signing
            from dorky.keys.sshsig import Namespace

            repository = self.vault.repository
            commit = signing.signed(commit, Namespace.COMMIT, signer, repository)
        return self.add(Kind.COMMIT, model.encode(commit))

    def add_all(
        self,
        kind: Kind,
        bodies: Iterable[bytes],
        *,
        group: str = ALL,
        how: Coding | None = None,
    ) -> Iterator[tuple[ObjectId, int]]:
        """Store many bodies, hashing and encrypting them in threads.

        Yields:
            Their ids and lengths, in order.
        """
        vault = self.vault

        def identify(body: bytes) -> tuple[ObjectId, bytes]:
            return vault.object_id(kind, body, group=group), body

        def close(item: tuple[ObjectId, bytes, bool]) -> tuple[ObjectId, int, bytes | None]:
            object_id, body, held = item
            stored = None if held else vault.store(kind, object_id, body, group=group, how=how)
            return object_id, len(body), stored

        named = in_order(identify, bodies, threads=THREADS)
        judged = ((object_id, body, self.holds(object_id)) for object_id, body in named)
        for object_id, length, stored in in_order(close, judged, threads=THREADS):
            if stored is not None:
                self.append(kind, object_id, stored)
            yield object_id, length

    def append(self, kind: Kind, object_id: ObjectId, stored: bytes | memoryview) -> None:
        """Store an object that is already in its stored form."""
        if object_id in self._new:
            return
        self._new.add(object_id)
        self._pending.append((kind, object_id, stored))
        self._size += len(stored)
        if self._size >= _ENOUGH:
            self._lane.do(self._write, self._taken())
            self._tell()

    def _tell(self) -> None:
        while self._announce and self._news:
            self._announce(*self._news.popleft())

    def complete(self) -> None:
        """Finish the last pack, and announce it; `save` then has nothing to announce."""
        if self._new:
            self._lane.finish(self._write_last, self._taken())
            self._tell()

    def divide(self) -> None:
        """Begin a new pack with the next object."""
        if self._new:
            self._lane.do(self._write_last, self._taken())

    def _taken(self) -> list[_Stored]:
        taken = self._pending
        self._pending, self._size = [], 0
        return taken

    def _write(self, objects: Iterable[_Stored]) -> None:
        for kind, object_id, stored in objects:
            if self._open is None:
                self._begin()
            assert self._open is not None
            path, _, writer = self._open
            with files.disk_errors(path):
                writer.append(kind, object_id, stored)
            if writer.full:
                self._finish()

    def _write_last(self, objects: Iterable[_Stored]) -> None:
        self._write(objects)
        self._finish()

    def _begin(self) -> None:
        from dorky.store.pack import PackWriter

        directory = self._store.directory
        with files.disk_errors(directory):
            if not directory.is_dir():
                directory.mkdir(mode=0o700, exist_ok=True)
                files.sync_directory(directory.parent)
            path = files.temporary(self._store.scratch)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        file = open(fd, "wb", buffering=1 << 20)  # noqa: SIM115
        try:
            with files.disk_errors(path):
                target = self._store.pack_size
                made = PackWriter(file, self.vault, self._copy, target=target)
                self._open = (path, file, made)
        except BaseException:
            file.close()
            path.unlink(missing_ok=True)
            raise

    def _finish(self) -> None:
        if self._open is None:
            return
        path, file, writer = self._open
        with files.disk_errors(path):
            packed = writer.finish()
            file.flush()
            os.fsync(file.fileno())
            file.close()
        self._finished.append((path, packed, writer.index))
        if self._copy is not None:
            self._news.append((packed, writer.index, self._copy.getvalue()))
            self._copy = io.BytesIO()
        self._open = None

    @contextlib.contextmanager
    def saving(self) -> Iterator[Callable[[], list[Pack]]]:
        """Give `save`, and delete what it has written if the block fails after all.

        The caller's transaction is taken back then, so that nothing refers to the packs.
        """
        saved: list[Pack] = []

        def save() -> list[Pack]:
            saved.extend(self.save())
            return saved

        try:
            yield save
        except BaseException:
            for packed in saved:
                with contextlib.suppress(OSError):
                    (self._store.directory / packed.id).unlink()
            raise

    def save(self) -> list[Pack]:
        """Make everything written so far durable, and record it in the caller's transaction."""
        if not self._new:
            return []
        self._lane.finish(self._write_last, self._taken())
        from dorky.store.pack import read_index

        directory = self._store.directory
        packs = []
        with files.disk_errors(directory), self._store.database.transaction():
            while self._finished:
                scratch, packed, index = self._finished[0]
                scratch.rename(directory / packed.id)
                # If the rest fails, nobody must look for this pack at its temporary path.
                del self._finished[0]
                self._store.record(LOCAL, packed, read_index(index))
                packs.append(packed)
            if packs:
                files.sync_directory(directory)
        self._new.clear()
        return packs
