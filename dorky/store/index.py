"""The index: the staging area and the stat cache, one row per file.

A row is what the next commit will hold at a path, with the file's stat at a time when the file was
known to have that content. While the stat is unchanged, the file need not be read.
"""

from __future__ import annotations

import itertools
import os
import stat as stat_module
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import msgspec

from dorky import errors, files
from dorky.files import FileStamp, Stat, StatProof, stamp, umask
from dorky.format.model import ALL, ObjectId, unhex
from dorky.paths import is_text, parents
from dorky.store.database import Database

if TYPE_CHECKING:
    from dorky.keys.placement import Owner

_TICK = 20_000_000
_COARSE = 2_000_000_000
_TYPE = 0o170000
_TYPES = frozenset({stat_module.S_IFREG, stat_module.S_IFLNK})

# `Row.fresh` in SQL. (On Linux, links have all permissions; elsewhere they prove nothing.)
_PROOFS = f"""
    SELECT path, CASE WHEN absent = 0 AND max(mtime, ctime) < seen - CASE
            WHEN mtime % 1000000000 = 0 THEN {_COARSE} ELSE {_TICK}
        END
        THEN CASE mode WHEN {stat_module.S_IFLNK} THEN {stat_module.S_IFLNK | 0o777} & ?
            ELSE mode & ? END
        ELSE -1
    END, size, inode, mtime, ctime FROM files
"""  # noqa: S608

MASKED = "masked"
"""The single value that caches the entries of a commit that do not count."""
SIGHT = "index.sight"
SINCE = "index.since"
"""The single value with a commit and the paths at which rows may differ from it."""
REMOTE_ONLY = "contents.remote"
"""The single value with contents that the local store lets go, each with a chunk that it lacks."""
_FEW = 1000
_MOST = 1000
"""The most records of a `Spool` that are kept in memory."""
_LENGTH = 8


def mode_of(stat: Stat) -> int:
    """Return the file type and permission bits to record; links have no own permissions."""
    kind = stat_module.S_IFMT(stat.st_mode)
    return kind if kind == stat_module.S_IFLNK else kind | (stat.st_mode & 0o777)


class Row(NamedTuple):
    """One staged path.

    Attributes:
        path: The path in the repository.
        mode: The file type and permission bits.
        size: The size in bytes.
        content: The id of the file's chunk or chunk list.
        digest: The file's SHA-256, masked (`seal.mask`).
        absent: Whether the file is deliberately not on disk: it was never checked out.
        mtime: The file's mtime when it was ``seen``, in ns; likewise ``ctime`` and ``inode``.
        seen: When the file was last known to hold this content, in ns; 0 for never.
        group: The group that the content is encrypted for.
    """

    path: str
    mode: int
    size: int
    content: ObjectId
    digest: str
    absent: bool = False
    mtime: int = 0
    ctime: int = 0
    inode: int = 0
    seen: int = 0
    group: str = ALL

    def fresh(self, stat: Stat, *, modes: bool = True) -> bool:
        """Return whether the stat alone proves that the file has not changed since it was ``seen``.

        A file that was written in the same clock tick as it was looked at may be written again
        without a change of its times (git's racy index), so a stat that young proves nothing.

        Args:
            stat: The file's stat.
            modes: Whether its file system keeps permission bits; otherwise they prove nothing.
        """
        if stamp(stat) != self.moment:
            return False
        # A umask may have narrowed the mode; any later change moves the ctime.
        found = mode_of(stat)
        if (found | (self.mode & 0o077)) != self.mode and (
            modes or stat_module.S_IFMT(found) != stat_module.S_IFMT(self.mode)
        ):
            return False
        # The file system keeps whole seconds only (FAT even only even ones), so a tick is longer.
        tick = _COARSE if self.mtime % 1_000_000_000 == 0 else _TICK
        return max(self.mtime, self.ctime) < self.seen - tick

    def known(self, stat: os.stat_result, seen: int) -> Row:
        """Return this row with the stat of a file that is known to hold its content."""
        inode, _, mtime, ctime = stamp(stat)
        return self._replace(absent=False, mtime=mtime, ctime=ctime, inode=inode, seen=seen)

    @property
    def moment(self) -> FileStamp:
        """Return the file's state when it was ``seen``."""
        return self.inode, self.size, self.mtime, self.ctime

    def same(self, other: Row) -> bool:
        """Return whether both rows would be committed alike."""
        return self.content == other.content and self.mode == other.mode


class Sized(NamedTuple):
    """A staged path, and the size of its content in bytes."""

    path: str
    size: int


class Sight(msgspec.Struct, frozen=True):
    """What git sees of the kept files, as of the last look.

    Attributes:
        places: The files that decide that, with their stamps then; None for no file.
        whole: The directories that are kept as a whole.
        tracked: The files that git tracks.
        exposed: The files that no rule of git's ignores.
    """

    places: dict[str, FileStamp | None] = {}
    whole: tuple[str, ...] = ()
    tracked: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()


class Index:
    """The rows of the local database's ``files`` table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def rows(self, paths: Iterable[str] | None = None) -> dict[str, Row]:
        """Return every row by path, sorted by path.

        Args:
            paths: If given, only these.
        """
        if paths is None:
            return self._checked("SELECT * FROM files ORDER BY path")
        return self._checked(
            "SELECT * FROM files WHERE path IN (SELECT value FROM json_each(?)) ORDER BY path",
            msgspec.json.encode([path for path in paths if is_text(path)]).decode(),
        )

    def around(self, paths: Iterable[str]) -> dict[str, Row]:
        """Return the rows at some paths, above and below them, by path; others are not read."""
        near = {path for path in paths if is_text(path)}
        found = self.rows({*near, *(above for path in near for above in parents(path))})
        for path in near:
            # A slash, and the character after it, bound the names in a directory.
            query = "SELECT * FROM files WHERE path > ? AND path < ?"
            found |= self._checked(query, f"{path}/", f"{path}0")
        return dict(sorted(found.items()))

    def names(self) -> list[str]:
        """Return the paths of all rows."""
        found = self._database.connection.execute("SELECT path FROM files").fetchall()
        return [path for (path,) in found]

    @property
    def count(self) -> int:
        """Return how many rows there are."""
        (count,) = self._database.connection.execute("SELECT count(*) FROM files").fetchone()
        return int(count)

    def in_order(self) -> Iterator[Row]:
        """Yield every row, sorted by path, in memory that does not grow with their number.

        Nothing may be written to the index meanwhile.
        """
        found = self._database.connection.execute("SELECT * FROM files ORDER BY path")
        rest = iter(found)
        while rows := [Row(*values) for values in itertools.islice(rest, _FEW)]:
            self._check(rows)
            yield from rows

    def _checked(self, query: str, *given: str) -> dict[str, Row]:
        found = self._database.connection.execute(query, given)
        rows = {values[0]: Row(*values) for values in found}
        self._check(rows.values())
        return rows

    def _check(self, rows: Collection[Row]) -> None:
        """Refuse rows that dorky can't have written.

        Raises:
            CorruptDatabase: There is one.
        """
        try:
            unhex("".join(row.content + row.digest for row in rows))
            # SQLite can store text in a numeric column, and bytes in a text column.
            "".join(row.path + row.group for row in rows)
            sum(row.size + row.mtime + row.ctime + row.seen for row in rows)
            if not {row.mode & ~0o777 for row in rows} <= _TYPES:
                raise ValueError("a mode of neither a file nor a link")
        except (TypeError, ValueError) as error:
            raise errors.CorruptDatabase(self._database.path, error) from None

    def present(self) -> Iterator[str]:
        """Yield the paths of all files that are not deliberately off the disk, sorted.

        Nothing may be written to the index meanwhile.
        """
        db = self._database.connection
        for (path,) in db.execute("SELECT path FROM files WHERE absent = 0 ORDER BY path"):
            yield path

    def proofs(self, *, modes: bool = True) -> dict[str, StatProof]:
        """Return, by path, the stat that proves that a file is as staged (see `Row.fresh`).

        An absent file, or one looked at too early, gets a stat that no file ever has. This costs
        far less than a `Row` for each of a hundred thousand files, most of which are as staged.

        Args:
            modes: Whether the modes of files have permission bits, or only the file type.
        """
        # The umask narrows the mode of files, never that of links.
        links, others = (-1, ~umask()) if modes else (_TYPE, _TYPE)
        found = self._database.connection.execute(_PROOFS, (links, others)).fetchall()
        proofs = {values[0]: values[1:] for values in found}
        try:
            "".join(proofs)
        except TypeError as error:
            raise errors.CorruptDatabase(self._database.path, error) from None
        return proofs

    def put(self, rows: Iterable[Row]) -> None:
        """Add or replace rows."""
        paths: set[str] = set()

        def noted() -> Iterator[Row]:
            for row in rows:
                if len(paths) <= _FEW:  # of more, nothing is noted
                    paths.add(row.path)
                yield row

        with self._database.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?,?,?,?,?,?)", noted())
            self._note(paths)

    def remove(self, paths: Iterable[str]) -> None:
        """Delete rows."""
        gone = list(paths)
        with self._database.transaction() as db:
            db.executemany("DELETE FROM files WHERE path = ?", ((path,) for path in gone))
            self._note(gone)

    def refresh(self, rows: Iterable[Row]) -> None:
        """Record newer stats of files that still hold what is staged.

        Only rows that have not changed since they were read are touched, so this may run
        concurrently with a command that stages.
        """
        with self._database.transaction() as db:
            db.executemany(
                "UPDATE files SET absent = 0, mtime = ?, ctime = ?, inode = ?, seen = ?"
                " WHERE path = ? AND content = ? AND mode = ?",
                (
                    (row.mtime, row.ctime, row.inode, row.seen, row.path, row.content, row.mode)
                    for row in rows
                ),
            )

    def leave_out(self, paths: Iterable[str]) -> None:
        """Record that files are deliberately not on disk."""
        with self._database.transaction() as db:
            db.executemany("UPDATE files SET absent = 1 WHERE path = ?", ((p,) for p in paths))

    @property
    def sight(self) -> Sight | None:
        """Return what git sees of the files, as of the last look; None if rows have changed."""
        data = self._database.get(SIGHT)
        try:
            return msgspec.json.decode(data, type=Sight) if data else None
        except msgspec.MsgspecError as error:
            raise errors.CorruptDatabase(self._database.path, error) from None

    def set_sight(self, sight: Sight) -> None:
        """Record what git sees of the files."""
        self._database.set(SIGHT, msgspec.json.encode(sight))

    def note_remote_only(self, contents: Mapping[ObjectId, ObjectId]) -> None:
        """Record contents that only the remote holds; forget those that are not staged any more.

        Args:
            contents: The contents, each with one of its chunks that the local store lacks.
        """
        if not contents:
            return
        with self._database.transaction() as db:
            known = self._remote_only
            query = "SELECT content FROM files WHERE content IN (SELECT value FROM json_each(?))"
            found = db.execute(query, (msgspec.json.encode([*known]).decode(),)).fetchall()
            kept = {content: known[content] for (content,) in found}
            self._database.set(REMOTE_ONLY, msgspec.json.encode({**kept, **contents}))

    def remote_only(self, missing: Callable[[Iterable[ObjectId]], set[ObjectId]]) -> list[Sized]:
        """Return the files whose contents are noted, and still not stored, sorted by path.

        Telling by the lists of chunks would take the keys.

        Args:
            missing: Returns which of some chunks the local store lacks.
        """
        known = self._remote_only
        gone = missing(known.values()) if known else set()
        lacking = [content for content, piece in known.items() if piece in gone]
        if not lacking:
            return []
        query = (
            "SELECT path, size FROM files WHERE content IN (SELECT value FROM json_each(?))"
            " ORDER BY path"
        )
        text = msgspec.json.encode(lacking).decode()
        return [Sized(*row) for row in self._database.connection.execute(query, (text,)).fetchall()]

    @property
    def _remote_only(self) -> dict[ObjectId, ObjectId]:
        data = self._database.get(REMOTE_ONLY)
        try:
            return msgspec.json.decode(data, type=dict[ObjectId, ObjectId]) if data else {}
        except msgspec.MsgspecError as error:
            raise errors.CorruptDatabase(self._database.path, error) from None

    @property
    def groups(self) -> frozenset[str]:
        """Return the groups of readers whose files the rows cover.

        The files of a group that the user has joined appear only with the next checkout. Until then
        a commit takes that group's tree over unchanged.
        """
        return frozenset(self._database.text("index.groups").split() or [ALL])

    def set_groups(self, groups: Iterable[str]) -> None:
        """Record the groups whose files the rows cover."""
        with self._database.transaction():
            self._database.set("index.groups", " ".join(sorted(groups)).encode())
            self._database.set(SINCE, b"")

    @property
    def claims(self) -> str:
        """Return the owners of paths (see `placement.claims`) as of the last checkout."""
        return self._database.text("index.claims")

    def set_claims(self, claims: str) -> None:
        """Record the owners of paths."""
        if claims != self.claims:
            with self._database.transaction():
                self._database.set("index.claims", claims.encode())
                self._database.set(SINCE, b"")

    @property
    def owner(self) -> Owner:
        """Return the function that gives the owner of a path by those claims."""
        from dorky.keys import placement

        try:
            return placement.owner_by(self.claims)
        except (ValueError, TypeError) as error:
            raise errors.CorruptDatabase(self._database.path, error) from None

    @property
    def has_absent(self) -> bool:
        """Return whether some of the files are deliberately not on disk."""
        db = self._database.connection
        return db.execute("SELECT 1 FROM files WHERE absent LIMIT 1").fetchone() is not None

    @property
    def commit(self) -> str | None:
        """Return the commit that the rows are known to equal, which saves decoding its trees.

        Every change of a row clears it.
        """
        return self._database.text("index.commit") or None

    def set_commit(self, commit: str | None) -> None:
        """Record the commit that the rows are known to equal; only under the project's lock."""
        with self._database.transaction():
            self._database.set("index.commit", (commit or "").encode())
            self._database.set(SINCE, b"")

    @property
    def since(self) -> tuple[str, list[str]] | None:
        """Return a commit and the few paths at which rows may differ from it; None if unknown."""
        if commit := self.commit:
            return commit, []
        noted = self._database.text(SINCE).split("\0")
        return (noted[0], noted[1:]) if noted[0] else None

    def _note(self, paths: Iterable[str]) -> None:
        """Record that rows change at these paths."""
        commit, noted = self.since or ("", [])
        changed = {*noted, *paths} if commit else set()
        self.set_commit(None)
        self._database.set(SIGHT, b"")
        if commit and len(changed) <= _FEW:
            self._database.set(SINCE, "\0".join([commit, *sorted(changed)]).encode())


T = TypeVar("T")


class Spool(Generic[T]):
    """Records on their way, rows into the index say, to be read in order any number of times.

    Many are written to a file without a name, which ends with the process: a million rows would
    take half a gigabyte of memory. It holds what the local database is going to hold.

    Args:
        directory: The directory of the file.
        make: Makes a record, which is a tuple of strings and numbers, of its values.
    """

    def __init__(self, directory: Path, make: Callable[[Iterable[Any]], T]) -> None:
        self._directory = directory
        self._make = make
        self._file: IO[bytes] | None = None
        self._end = 0
        self._last: list[T] = []

    def __del__(self) -> None:
        if self._file:
            self._file.close()

    def add(self, record: T) -> None:
        """Add a record.

        Raises:
            DiskFull: The disk has no space.
        """
        self._last.append(record)
        if len(self._last) < _MOST:
            return
        data = msgspec.msgpack.encode(self._last)
        with files.disk_errors(self._directory, writing=True):
            if self._file is None:
                import tempfile

                self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115
            self._file.seek(self._end)
            self._end += self._file.write(len(data).to_bytes(_LENGTH, "big") + data)
        self._last = []

    def __iter__(self) -> Iterator[T]:
        at = 0
        while self._file and at < self._end:
            with files.disk_errors(self._directory):
                self._file.seek(at)
                size = int.from_bytes(self._file.read(_LENGTH), "big")
                data = self._file.read(size)
            at += _LENGTH + size
            yield from map(self._make, msgspec.msgpack.decode(data))
        yield from self._last
