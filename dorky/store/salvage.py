"""Salvage: copy the readable parts of a damaged database into a new one, table by table."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from pathlib import Path

from dorky import errors
from dorky.store.database import Database

_ID = "typeof({0}) = 'text' AND length({0}) = 64 AND {0} NOT GLOB '*[^0-9a-f]*'"
# sqlite3 can fail to decode even SQLite's own message about invalid text.
_ERRORS = (sqlite3.Error, UnicodeDecodeError)
# A page of other data can look like rows, and a flipped bit gives a value another type.
_SANE = {
    "meta": "typeof(key) = 'text' AND typeof(value) = 'blob'",
    "refs": "typeof(name) = 'text' AND " + _ID.format("id"),
    "roots": "typeof(remote) = 'text' AND typeof(version) = 'text' AND typeof(data) = 'blob'",
    "files": "typeof(path) = 'text' AND typeof(mode) = 'integer'"
    f" AND mode & ~{0o777} IN ({stat.S_IFREG}, {stat.S_IFLNK})"
    " AND typeof(size) = 'integer' AND size >= 0 AND absent IN (0, 1)"
    " AND typeof(mtime) = 'integer' AND typeof(ctime) = 'integer' AND typeof(inode) = 'integer'"
    " AND typeof(seen) = 'integer' AND typeof(readers) = 'text'"
    " AND (digest = '' OR " + _ID.format("digest") + ") AND " + _ID.format("content"),
    "operations": "typeof(time) = 'integer' AND typeof(command) = 'text'",
    "replaced": "typeof(key) = 'text' AND typeof(old) IN ('null', 'text')"
    " AND typeof(new) IN ('null', 'text') AND CASE what"
    " WHEN 'ref' THEN old IS NULL OR " + _ID.format("old") + ""
    " WHEN 'value' THEN key <> 'head' OR old IS NULL OR old = '' OR " + _ID.format("old") + ""
    " ELSE (old IS NULL OR json_valid(old)) AND (new IS NULL OR json_valid(new)) END",
    "packs": "typeof(size) = 'integer' AND typeof(tail) = 'integer' AND size > tail AND tail > 0"
    " AND typeof(epochs) = 'integer' AND " + _ID.format("name"),
    "objects": "typeof(id) = 'blob' AND length(id) = 32 AND typeof(offset) = 'integer'"
    " AND offset BETWEEN 0 AND 1 << 40 AND typeof(length) = 'integer'"
    " AND length BETWEEN 0 AND 1 << 40 AND kind IN ('chunk', 'chunks', 'tree', 'commit', 'team')",
}


def nonsense(database: Database) -> list[str]:
    """Return what tables hold that dorky can't have written, in words.

    SQLite takes such rows for sound, since any column can hold a value of any type.
    """
    wrong = []
    for table, sane in _SANE.items():
        query = f"SELECT count(*) FROM {table} WHERE ({sane}) IS NOT 1"  # noqa: S608
        (count,) = database.connection.execute(query).fetchone()
        if count:
            wrong.append(f"{count} rows of its table {table} can't be")
    return wrong


def salvage(old: Path, new: Database) -> set[str]:
    """Copy what can be read.

    Args:
        old: The damaged database; it may be missing.
        new: An empty database.

    Returns:
        The tables that were read whole.
    """
    found = new.connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        " ORDER BY rowid"  # as declared: referenced tables come first
    )
    tables = [name for (name,) in found]
    if not old.exists() or not old.stat().st_size:
        return set()
    try:
        damaged = sqlite3.connect(old, isolation_level=None, timeout=10)
    except _ERRORS:
        return set()
    damaged.execute("PRAGMA trusted_schema=OFF")
    # Text that is not UTF-8 any more must cost one row, not the table.
    damaged.text_factory = lambda raw: raw.decode(errors="surrogateescape")
    with contextlib.closing(damaged), new.transaction():
        return {table for table in tables if _copy(damaged, new, table)}


def _copy(damaged: sqlite3.Connection, new: Database, table: str) -> bool:
    """Copy a table; return whether all of it could be read."""
    ours = _columns(new.connection, table)
    try:
        theirs = _columns(damaged, table)
    except _ERRORS:
        return False
    names = [name for name in ours if name in theirs]
    if not names:
        return False
    columns = ", ".join(names)
    marks = ", ".join("?" * len(names))
    key = ", ".join(name for name in names if ours[name])
    whole = strange = False
    # Read from both ends, to reach the rows behind a damaged page.
    for direction in ("ASC", "DESC"):
        order = ", ".join(f"{column} {direction}" for column in key.split(", "))
        sane = _SANE.get(table, "1")
        query = f"SELECT {sane}, {columns} FROM {table} ORDER BY {order}"  # noqa: S608
        try:
            for makes_sense, *row in damaged.execute(query):
                strange = strange or not makes_sense
                if not makes_sense:
                    continue
                with contextlib.suppress(errors.DorkyError, UnicodeEncodeError):
                    new.connection.execute(
                        f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})",  # noqa: S608
                        row,
                    )
            whole = direction == "ASC" and not strange
        except _ERRORS:
            continue
        break
    return whole


def _columns(connection: sqlite3.Connection, table: str) -> dict[str, int]:
    """Return the columns of a table, and their places in its key (0: none)."""
    return {row[1]: row[5] for row in connection.execute(f"PRAGMA table_info({table})")}
