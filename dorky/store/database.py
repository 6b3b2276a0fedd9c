"""The local database (SQLite): everything in a project's state that is not a pack.

It is one file, so a command's whole effect (objects recorded, files staged, a ref moved) is one
transaction. With ``synchronous=FULL`` a command that returned survives power loss.

A `Database` may be used by several threads at once. Each thread has a connection of its own, so it
reads only what is committed, and its transactions are its own.

Where the database can't be written to (on a read-only mount or a full disk), each thread reads a
copy in memory: SQLite needs to write even to read a database with a log.

After a fork, the parent and the child open connections of their own. A database that is in use
during the fork (in a transaction, or in another thread) can't be used in the child: SQLite would
take the parent's locks for its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import stat
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from dorky import errors, files
from dorky.format import model

if TYPE_CHECKING:
    from dorky.keys.teamlog import Team

T = TypeVar("T")

TEAM = "team"
"""The single value with the team as its log leaves it."""
PURGES = "purges"
"""The single value with the purges in the last root seen."""

PATIENCE = 10.0
"""The most seconds for which a writer waits for another thread or process."""

_SYNCHRONOUS = "FULL"
_FULL = 1 << 16
_ATTEMPTS = 5

_SCHEMA = """
-- header, head, remote probes and other single values
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- main, origin/main, backup/…
CREATE TABLE refs (name TEXT PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID;

-- the last root seen of each remote, as its bytes
CREATE TABLE roots (remote TEXT PRIMARY KEY, version TEXT NOT NULL, data BLOB NOT NULL)
    WITHOUT ROWID;

-- packs here (remote = '') and those that a remote's root lists
CREATE TABLE packs (
    n INTEGER PRIMARY KEY, remote TEXT NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL,
    tail INTEGER NOT NULL, epochs INTEGER NOT NULL, UNIQUE (remote, name)
);

-- object locations: a cache that can be made again from the packs
CREATE TABLE objects (
    id BLOB NOT NULL, pack INTEGER NOT NULL REFERENCES packs (n) ON DELETE CASCADE,
    kind TEXT NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (id, pack)
) WITHOUT ROWID;
CREATE INDEX contents ON objects (pack);

-- the staging area and the stat cache; absent = the file is not meant to be on disk
CREATE TABLE files (
    path TEXT PRIMARY KEY, mode INTEGER NOT NULL, size INTEGER NOT NULL, content TEXT NOT NULL,
    digest TEXT NOT NULL, absent INTEGER NOT NULL DEFAULT 0,
    mtime INTEGER NOT NULL DEFAULT 0, ctime INTEGER NOT NULL DEFAULT 0,
    inode INTEGER NOT NULL DEFAULT 0, seen INTEGER NOT NULL DEFAULT 0,
    readers TEXT NOT NULL DEFAULT 'all'
) WITHOUT ROWID;
-- the operation log (see `operations`): commands, and what each has replaced
CREATE TABLE operations (n INTEGER PRIMARY KEY, time INTEGER NOT NULL, command TEXT NOT NULL);
CREATE TABLE replaced (
    operation INTEGER NOT NULL REFERENCES operations (n) ON DELETE CASCADE,
    what TEXT NOT NULL, key TEXT NOT NULL, old TEXT, new TEXT,
    PRIMARY KEY (operation, what, key)
) WITHOUT ROWID;
"""

_VERSION = 5
"""The layout of the database."""
_APPLICATION = 0x646F7200
"""The application id of layout 0: "dor". It tells the layout, too: a flipped bit can't fake one."""

_ROWS = 256
"""The rows of a result that are read at a time."""

_COMMENT = re.compile(r"^--.*$", re.MULTILINE)


def _tables() -> set[str]:
    """Return what SQLite records of the statements that make the tables."""
    text = _COMMENT.sub("", _SCHEMA)
    return {statement.strip() for statement in text.split(";") if statement.strip()}


def _typed(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> errors.DorkyError:
    """Return the error of dorky's error tree for one of SQLite's."""
    said = str(error)
    if isinstance(error, sqlite3.OperationalError):
        if "full" in said:
            return errors.DiskFull(path)
        if "locked" in said or "busy" in said:
            return errors.Locked("the database is in use")
        # Where SQLite can't tell (for its shared memory, say), it reports a full disk as an I/O
        # error.
        with contextlib.suppress(OSError):
            if "I/O" in said and shutil.disk_usage(path.parent).free < _FULL:
                return errors.DiskFull(path)
        if "readonly" in said:
            return errors.ReadOnly(path)
        if "unable to open" in said or "I/O" in said:
            return errors.DiskError(path, said)
    return errors.CorruptDatabase(path, said)


class _Connection(sqlite3.Connection):
    """An SQLite connection that raises only errors of dorky's error tree."""

    path: Path
    refusal: Callable[[Path], errors.DorkyError] | None = None
    """Returns why nothing can be written, if this is a copy."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.running = threading.RLock()
        """Held while SQLite runs: a fork would leave its process-wide locks held in the child."""
        super().__init__(*args, **options)

    def execute(self, *args: Any) -> Any:
        return self.cursor(_Cursor).execute(*args)

    def executemany(self, *args: Any) -> Any:
        return self.cursor(_Cursor).executemany(*args)

    def executescript(self, *args: Any) -> Any:
        return self.cursor(_Cursor).executescript(*args)

    def typed(self, method: Callable[..., T], *args: object) -> T:
        """Call a function of SQLite's; translate its errors."""
        try:
            with self.running:
                return method(*args)
        # sqlite3 can fail to decode even SQLite's own message about invalid text.
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if self.refusal and "readonly" in str(error):
                raise self.refusal(self.path) from error
            raise _typed(error, self.path) from error

    def close(self) -> None:
        with self.running:
            super().close()


class _Cursor(sqlite3.Cursor):
    connection: _Connection

    def execute(self, *args: Any) -> Any:
        return self.connection.typed(super().execute, *args)

    def executemany(self, *args: Any) -> Any:
        return self.connection.typed(super().executemany, *args)

    def executescript(self, *args: Any) -> Any:
        return self.connection.typed(super().executescript, *args)

    def fetchone(self) -> Any:
        return self.connection.typed(super().fetchone)

    def fetchall(self) -> Any:
        return self.connection.typed(super().fetchall)

    def __iter__(self) -> Any:
        # Many rows at a time save Python calls for each.
        while rows := self.connection.typed(super().fetchmany, _ROWS):
            yield from rows

    def __del__(self) -> None:
        # The end of a statement that is not at its end is SQLite's work as well.
        with self.connection.running, contextlib.suppress(sqlite3.ProgrammingError):
            self.close()


class _Closing:
    """Closes a connection when its thread ends: SQLite's own object is part of a cycle."""

    def __init__(self, connection: _Connection, opened: set[_Connection]) -> None:
        self._connection = connection
        self._opened = opened
        self._process = os.getpid()

    def __del__(self) -> None:
        # In a child process, the other threads of its parent end.
        if os.getpid() == self._process:
            self._opened.discard(self._connection)
            self._connection.close()


def _check_files(path: Path) -> None:
    """Refuse a database, a log or a shared memory file that is a link or has another name.

    The files are only looked at: closing any of them would release the locks that SQLite holds on
    it.
    """
    for suffix in ("", "-wal", "-shm", "-journal"):
        try:
            found = os.lstat(f"{path}{suffix}")
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(found.st_mode):
            raise errors.DiskError(path, "it is not a regular file")
        # A database that is just being made has two names (see `files.publish`).
        if found.st_nlink > 1 and not _unlink_scratch(Path(f"{path}{suffix}"), found.st_ino):
            raise errors.CorruptDatabase(path, "it has another name elsewhere (a hard link)")


def _unlink_scratch(path: Path, inode: int) -> bool:
    """Delete the name under which a database was made, if it still has that name."""
    for other in path.parent.glob(".tmp-dorky-*"):
        with contextlib.suppress(FileNotFoundError):
            if other.lstat().st_ino == inode:
                other.unlink()
    return os.lstat(path).st_nlink == 1


def _create(path: Path) -> None:
    """Make an empty database.

    The file appears whole, since other processes may be making it as well.
    """
    scratch = files.temporary(path.parent)
    scratch.touch(mode=0o600)
    try:
        with contextlib.closing(sqlite3.connect(scratch, isolation_level=None)) as connection:
            # Synced once, as a file: nobody can open it before.
            connection.executescript(
                f"PRAGMA synchronous=OFF; PRAGMA journal_mode=WAL; BEGIN; {_SCHEMA}"
                f" PRAGMA user_version={_VERSION};"
                f" PRAGMA application_id={_APPLICATION + _VERSION}; COMMIT;"
            )
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            files.publish(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    files.sync_directory(path.parent)


def _fill(made: _Connection, path: Path) -> None:
    """Copy a database into an empty one, without writing next to it."""

    def stamps() -> list[files.FileStamp | None]:
        found: list[files.FileStamp | None] = []
        for suffix in ("", "-wal"):
            try:
                found.append(files.stamp(Path(f"{path}{suffix}").stat()))
            except FileNotFoundError:
                found.append(None)
        return found

    for _ in range(_ATTEMPTS):
        before = stamps()
        with contextlib.ExitStack() as stack:
            source = f"{path.absolute().as_uri()}?immutable=1"
            if before[1] and before[1][1]:  # only SQLite can read the log, and writes next to it
                from dorky import temporary

                scratch = stack.enter_context(temporary.directory())
                for suffix in ("", "-wal"):
                    with contextlib.suppress(FileNotFoundError):
                        shutil.copyfile(f"{path}{suffix}", f"{scratch}/copy{suffix}")
                source = Path(scratch, "copy").as_uri()
            opened = sqlite3.connect(source, uri=True)
            stack.callback(opened.close)
            opened.backup(made)
        if stamps() == before:
            return
    raise errors.Locked("the database is in use")


def _can_write(path: Path) -> bool:
    effective = os.access in os.supports_effective_ids
    return all(os.access(part, os.W_OK, effective_ids=effective) for part in (path, path.parent))


class Database:
    """An open local database, for any number of threads.

    Args:
        path: The database file, created (mode 0600) if missing.

    Raises:
        CorruptDatabase: The file is not a database.
        FormatTooNew: The database has a later layout.
        FormatTooOld: The database has an earlier one.
        DiskError: The file can't be read or made.
    """

    operation: tuple[int, int, str] | None = None
    """The operation that is being recorded (see `oplog`): its number, time and command. Only the
    holder of the project's lock sets it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._closed = self._full = False
        self.begin_again()
        with files.disk_errors(path):
            if not os.path.lexists(path):
                try:
                    _create(path)
                except sqlite3.Error as error:
                    raise _typed(error, path) from error
        try:
            try:
                version, again = self._layout()
            except errors.DiskFull:  # it can still be read
                self.close()
                self._closed, self._full = False, True
                version, again = self._layout()
            if version != again and _VERSION in {version, again}:
                raise errors.CorruptDatabase(path, f"its layout is {version}, or {again}")
            if version > _VERSION:
                raise errors.FormatTooNew(path, version)
            if version < 1:
                raise errors.CorruptDatabase(path, "it is empty")
            if version < _VERSION:
                raise errors.FormatTooOld(path, version)
            self._check_schema()
        except BaseException:
            self.close()
            raise
        with _FORKING:
            _DATABASES.add(self)

    @property
    def is_full(self) -> bool:
        """Return whether the disk is too full to write to the database."""
        return self._full

    @property
    def connection(self) -> sqlite3.Connection:
        """Return the calling thread's connection. It is closed when the thread ends.

        Raises:
            ValueError: The database is closed.
            DiskError: The file can't be read.
        """
        try:
            found: sqlite3.Connection = self._own.connection
        except AttributeError:
            found = self._connect()
        return found

    def _connect(self) -> _Connection:
        with _FORKING, files.disk_errors(self.path):
            if self._closed:
                raise ValueError(f"the database {self.path} is closed")
            _check_files(self.path)
            _check_unforked(self.path)
            copied = self._full or not _can_write(self.path)
            try:
                # The lock of `files.locked` orders writers; the timeout covers readers only.
                made = sqlite3.connect(
                    ":memory:" if copied else self.path,
                    timeout=PATIENCE,
                    isolation_level=None,
                    check_same_thread=False,  # `close` may be called in any thread
                    factory=_Connection,
                )
                if copied:
                    made.refusal = errors.DiskFull if self._full else errors.ReadOnly
                    _fill(made, self.path)
            except sqlite3.Error as error:
                raise _typed(error, self.path) from error
            made.path = self.path
            self._opened.add(made)
            self._own.closing = _Closing(made, self._opened)
        made.executescript(
            f"PRAGMA trusted_schema=OFF; PRAGMA synchronous={_SYNCHRONOUS};"
            f" PRAGMA foreign_keys=ON; PRAGMA query_only={int(copied)};"
        )
        self._own.connection = made
        return made

    def begin_again(self) -> None:
        """Forget the connections of all threads, without closing them."""
        self._own = threading.local()
        self._opened: set[_Connection] = set()
        self._writing = threading.Lock()
        self.operation = None

    def prepare_fork(self) -> list[_Connection]:
        """Close the connection of the only thread, if it is idle; stop those that stay open.

        Returns:
            The connections that stay open, whose `running` the caller releases after the fork.
        """
        own: _Connection | None = getattr(self._own, "connection", None)
        if own and self._opened == {own} and not own.in_transaction and self.operation is None:
            own.close()
            self.begin_again()
        opened = list(self._opened)
        for connection in opened:
            connection.running.acquire()
        return opened

    def _layout(self) -> tuple[int, int]:
        """Return the layout, as it is recorded in two places."""
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        (application,) = self.connection.execute("PRAGMA application_id").fetchone()
        return version, application - _APPLICATION

    def _check_schema(self) -> None:
        """Refuse tables, triggers and views that dorky did not make: they could change its writes.

        Raises:
            CorruptDatabase: There are some, or one of dorky's is missing.
        """
        rows = self.connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        # An entry without a statement is an index that SQLite makes for a key.
        made = {sql for _, _, sql in rows if sql is not None}
        implied = all(kind == "index" for kind, _, sql in rows if sql is None)
        if made != _tables() or not implied:
            raise errors.CorruptDatabase(self.path, "its tables are not those that dorky makes")

    def close(self) -> None:
        """Close the connections of all threads, none of which may be at work. Safe to call twice.

        The last connection to a database folds its log into it.
        """
        with _FORKING:
            self._closed = True
            opened = list(self._opened)
        for connection in opened:
            connection.close()
        self.begin_again()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block in one transaction: all of it takes effect, or nothing.

        Calls that are nested in one thread are part of the outer one: what they did takes effect
        with it, unless they fail. Other threads wait with their own transactions, and read what
        was committed before; so a thread in a transaction must not wait for one that writes.

        Raises:
            Locked: Another thread, or process, has been writing for too long.
        """
        db = self.connection
        if db.in_transaction:
            with self._undoing(db, "SAVEPOINT nested", "RELEASE nested", "ROLLBACK TO nested"):
                yield db
            return
        writing = self._writing
        if not writing.acquire(timeout=PATIENCE):
            raise errors.Locked("the database is in use")
        try:
            with self._undoing(db, "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK"):
                yield db
        finally:
            writing.release()

    @contextlib.contextmanager
    def _undoing(self, db: sqlite3.Connection, begin: str, end: str, undo: str) -> Iterator[None]:
        db.execute(begin)
        try:
            yield
            self.connection.execute(end)  # refused in a child process that was forked meanwhile
        except BaseException:
            if getattr(self._own, "connection", None) is db:
                # On a full disk SQLite has already rolled back.
                with contextlib.suppress(errors.DorkyError):
                    db.execute(undo)
            raise

    # --- single values and refs ------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        """Return a single value, or None."""
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is not None and not isinstance(row[0], bytes):
            raise errors.CorruptDatabase(self.path, f"{key} is no value")
        return row[0] if row else None

    def text(self, key: str) -> str:
        """Return a single value that is text; empty if there is none."""
        try:
            return (self.get(key) or b"").decode()
        except UnicodeDecodeError as error:
            raise errors.CorruptDatabase(self.path, error) from None

    def set(self, key: str, value: bytes) -> None:
        """Store a single value."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def roster(self) -> model.Roster:
        """Return the roster last seen; empty in an unencrypted repository."""
        data = self.get("roster")
        try:
            return model.decode(model.Roster, data) if data else model.Roster()
        except model.Malformed as error:
            raise errors.CorruptDatabase(self.path, error) from None

    def team(self) -> Team:
        """Return the team as the newest entry of its log left it, which has been verified."""
        from dorky.keys.teamlog import Team

        data = self.get(TEAM)
        try:
            return msgspec.json.decode(data, type=Team) if data else Team()
        except msgspec.MsgspecError as error:
            raise errors.CorruptDatabase(self.path, error) from None

    def set_team(self, team: Team) -> None:
        """Record the team, as `team` returns it."""
        self.set(TEAM, msgspec.json.encode(team))

    def refs(self) -> dict[str, str]:
        """Return commit ids by ref name."""
        found = dict(self.connection.execute("SELECT name, id FROM refs ORDER BY name"))
        for name, commit in found.items():
            self._check_id(name, commit)
        return found

    def _check_id(self, name: str, text: object) -> None:
        if not isinstance(text, str) or not re.fullmatch("[0-9a-f]{64}", text):
            raise errors.CorruptDatabase(self.path, f"{name} is no commit")

    def ref(self, name: str) -> str | None:
        """Return the commit that a ref names, or None."""
        row = self.connection.execute("SELECT id FROM refs WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        self._check_id(name, row[0])
        return str(row[0])

    def set_ref(self, name: str, commit: str) -> None:
        """Point a ref at a commit."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO refs VALUES (?, ?)", (name, commit))

    def delete_ref(self, name: str) -> None:
        """Delete a ref."""
        with self.transaction() as db:
            db.execute("DELETE FROM refs WHERE name = ?", (name,))

    def root(self, remote: str) -> tuple[str, bytes] | None:
        """Return the version and the bytes of the last root seen of a remote, or None."""
        found = self.connection.execute(
            "SELECT version, data FROM roots WHERE remote = ?", (remote,)
        )
        row: tuple[str, bytes] | None = found.fetchone()
        return row

    def forget_remote(self, remote: str) -> None:
        """Forget everything known of a remote: its root, its packs, its refs."""
        with self.transaction() as db:
            db.execute("DELETE FROM roots WHERE remote = ?", (remote,))
            db.execute("DELETE FROM packs WHERE remote = ?", (remote,))
            db.execute("DELETE FROM refs WHERE name GLOB ? || '/*'", (remote,))
            db.execute("DELETE FROM meta WHERE key GLOB 'remote.' || ? || '.*'", (remote,))


# --- fork -----------------------------------------------------------------------------------

_DATABASES: weakref.WeakSet[Database] = weakref.WeakSet()
_FORKING = threading.Lock()
"""Held during a fork, and while connections are opened."""
_inherited: list[_Connection] = []
"""The connections that are in use during a fork."""
_forked: set[tuple[int, int]] = set()
"""The device and inode of each database that was in use when this process was forked."""


def _check_unforked(path: Path) -> None:
    """Refuse a database that was in use when this process was forked.

    SQLite keeps a process's locks by inode, and the child's copy of that list is wrong.

    Raises:
        Locked: It was in use.
    """
    if _forked:
        found = path.stat()
        if (found.st_dev, found.st_ino) in _forked:
            raise errors.Locked(
                "it was in use when this process was forked: close the project before the fork, "
                "or start the process by spawn"
            )


def _before_fork() -> None:
    _FORKING.acquire()
    for database in _DATABASES:
        _inherited.extend(database.prepare_fork())


def _after_fork_in_parent() -> None:
    for connection in _inherited:
        connection.running.release()
    _inherited.clear()
    _FORKING.release()


def _after_fork_in_child() -> None:
    """Leave the parent's connections alone: closing one deletes a log that is still needed.

    See https://sqlite.org/howtocorrupt.html, section 2.6.
    """
    for connection in _inherited:
        import ctypes

        # Not even the end of the interpreter may delete it.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        with contextlib.suppress(OSError):
            found = connection.path.stat()
            _forked.add((found.st_dev, found.st_ino))
    for database in _DATABASES:
        database.begin_again()
    _after_fork_in_parent()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
