"""The operation log: what every command has replaced locally, so that it can be undone.

While a command is recorded, triggers on its connection record the first old value of each ref, each
row of the index and each single value that it changes, in the very transaction that changes it. A
command that is about to replace files on disk records that itself (`note_disk`).

Facts about a remote (``origin/main``, its root, its packs) are not recorded: a local undo does not
change the remote.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import NamedTuple

from dorky import errors
from dorky.format.model import ObjectId, unhex
from dorky.store.database import Database
from dorky.store.index import Row

MERGE = "merge"
"""The single value that describes a merge in progress (see `merge.pending.State`)."""

_VALUES = ("head", MERGE, "index.commit", "index.groups", "index.claims")
_ROW = (
    "(SELECT json_array(mode, size, content, digest, absent, readers) FROM files WHERE path = {0})"
)
_REF = "(SELECT id FROM refs WHERE name = {0})"
_VALUE = "(SELECT CAST(value AS TEXT) FROM meta WHERE key = {0})"

# How a change is recorded: its name, the table and its key, the current value, of which rows.
_NOTED = (
    ("row", "files", "path", _ROW, "1"),
    ("ref", "refs", "name", _REF, "{0}.name IN ('main', 'attest') OR {0}.name GLOB 'backup/*'"),
    ("value", "meta", "key", _VALUE, f"{{0}}.key IN {_VALUES}"),
)
# The columns whose updates count. The stat cache is not among them: it changes constantly.
_DIFFERS = {
    "files": "(OLD.content, OLD.mode, OLD.absent) IS NOT (NEW.content, NEW.mode, NEW.absent)",
    "refs": "OLD.id IS NOT NEW.id",
    "meta": "OLD.value IS NOT NEW.value",
}


class Operation(NamedTuple):
    """One command that changed something. ``n`` counts operations."""

    n: int
    time: datetime
    command: str


class Replaced(NamedTuple):
    """The values that operations have replaced, before the first of them; None for no value."""

    refs: dict[str, ObjectId | None]
    values: dict[str, bytes | None]
    rows: dict[str, Row | None]
    disk: dict[str, tuple[Row | None, Row | None]]
    """Files on disk: before the first operation, and after the last."""


@contextlib.contextmanager
def recording(database: Database, command: str) -> Iterator[None]:
    """Record what the block replaces, as one operation. Nested ones are part of the outer one.

    Args:
        database: The database of a project whose lock is held.
        command: The name of the operation; never the value of a variable.
    """
    if database.operation is not None:
        yield
        return
    db = database.connection
    (last,) = db.execute("SELECT coalesce(max(n), 0) FROM operations").fetchone()
    text = command.replace("\0", "").encode(errors="backslashreplace").decode()
    operation = last + 1, time.time_ns(), text
    begin, end = _triggers(*operation)
    db.executescript(begin)
    database.operation = operation
    try:
        yield
    finally:
        database.operation = None
        db.executescript(end)
        # The cause of the command's failure may make this fail, too.
        with contextlib.suppress(errors.DorkyError):
            _forget_unchanged(database, operation[0])


def _triggers(n: int, now: int, command: str) -> tuple[str, str]:
    """Return the statements that begin and end the recording of an operation."""
    quoted = command.replace("'", "''")
    begin, end = [], []
    for what, table, key, value, when in _NOTED:
        for event, row in (("INSERT", "NEW"), ("UPDATE", "OLD"), ("DELETE", "OLD")):
            old = value.format(f"{row}.{key}")
            condition = f"({when.format(row)})"
            if event == "UPDATE":
                condition += f" AND {_DIFFERS[table]}"
            # No `INSERT OR IGNORE`: inside a trigger the outer statement's `OR REPLACE` wins.
            begin.append(f"""
                CREATE TEMP TRIGGER note_{table}_{event} BEFORE {event} ON main.{table}
                WHEN {condition} BEGIN
                    INSERT INTO operations SELECT {n}, {now}, '{quoted}'
                        WHERE NOT EXISTS (SELECT 1 FROM operations WHERE n = {n});
                    INSERT INTO replaced SELECT {n}, '{what}', {row}.{key}, {old}, NULL
                        WHERE NOT EXISTS (SELECT 1 FROM replaced
                            WHERE operation = {n} AND what = '{what}' AND key = {row}.{key});
                END;""")  # noqa: S608
            end.append(f"DROP TRIGGER note_{table}_{event};")
    return "".join(begin), "".join(end)


def _forget_unchanged(database: Database, n: int) -> None:
    """Delete records of unchanged values: a command that changed nothing is no operation."""
    same = " OR ".join(
        f"(what = '{what}' AND coalesce(old, '') = coalesce({value.format('replaced.key')}, ''))"
        for what, _, _, value, _ in _NOTED
    )
    with database.transaction() as db:
        db.execute(
            "DELETE FROM replaced"  # noqa: S608
            f" WHERE operation = ? AND ({same} OR (what = 'disk' AND old IS new))",
            (n,),
        )
        # The commit that the index is known to equal is only a cache.
        db.execute(
            "DELETE FROM operations WHERE n = ? AND NOT EXISTS"
            " (SELECT 1 FROM replaced WHERE operation = ? AND key != 'index.commit')",
            (n, n),
        )


def note_disk(database: Database, found: Mapping[str, tuple[Row | None, Row | None]]) -> None:
    """Record what is on disk, and what is about to take its place; None for no file.

    The first record of a path counts as the old state, the last one as the new.
    """
    if database.operation is None or not found:
        return
    n, now, command = database.operation
    with database.transaction() as db:
        db.execute("INSERT OR IGNORE INTO operations VALUES (?, ?, ?)", (n, now, command))
        db.executemany(
            "INSERT INTO replaced VALUES (?, 'disk', ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET new = excluded.new",
            ((n, path, _packed(old), _packed(new)) for path, (old, new) in found.items()),
        )


def _packed(row: Row | None) -> str | None:
    if row is None:
        return None
    import json

    return json.dumps([row.mode, row.size, row.content, row.digest, int(row.absent), row.group])


def _unpacked(database: Database, path: str, text: str | None) -> Row | None:
    if text is None:
        return None
    import json

    try:
        mode, size, content, digest, absent, group = json.loads(text)
        unhex(content + digest)
        row = Row(path, int(mode), int(size), content, digest, bool(absent))
        return row._replace(group=str(group))
    except (ValueError, TypeError) as error:
        raise errors.CorruptDatabase(database.path, error) from None


# --- reading --------------------------------------------------------------------------------


def log(database: Database, limit: int | None = None) -> list[Operation]:
    """Return the recorded operations, the newest first."""
    rows = database.connection.execute(
        "SELECT n, time, command FROM operations ORDER BY n DESC LIMIT ?",
        (-1 if limit is None else limit,),
    )
    return [
        Operation(n, datetime.fromtimestamp(when // 1_000_000_000, timezone.utc), command)
        for n, when, command in rows
    ]


def known(database: Database, n: int) -> bool:
    """Return whether what an operation has replaced is still known."""
    db = database.connection
    return db.execute("SELECT 1 FROM operations WHERE n = ?", (n,)).fetchone() is not None


def mains(database: Database) -> dict[int, ObjectId | None]:
    """Return where ``main`` was before each operation that moved it, by the operation's number."""
    rows = database.connection.execute(
        "SELECT operation, old FROM replaced WHERE what = 'ref' AND key = 'main'"
    )
    return dict(rows)


def touched(database: Database, n: int) -> list[str]:
    """Return the paths whose rows or files an operation changed, sorted."""
    rows = database.connection.execute(
        "SELECT DISTINCT key FROM replaced WHERE operation = ? AND what IN ('row', 'disk')"
        " ORDER BY key",
        (n,),
    )
    return [key for (key,) in rows]


def replaced(database: Database, since: int) -> Replaced:
    """Return what the operations from ``since`` on have replaced."""
    found = Replaced({}, {}, {}, {})
    rows = database.connection.execute(
        "SELECT what, key, old, new FROM replaced WHERE operation >= ? ORDER BY operation DESC",
        (since,),
    )
    for what, key, old, new in rows:
        if what == "ref":
            found.refs[key] = old
        elif what == "value":
            found.values[key] = None if old is None else old.encode()
        elif what == "row":
            found.rows[key] = _unpacked(database, key, old)
        else:
            last = found.disk[key][1] if key in found.disk else _unpacked(database, key, new)
            found.disk[key] = _unpacked(database, key, old), last
    return found


def named(database: Database) -> tuple[set[ObjectId], set[ObjectId]]:
    """Return the commits and the contents that undoing would need."""
    commits: set[ObjectId] = set()
    contents: set[ObjectId] = set()
    rows = database.connection.execute("SELECT what, key, old, new FROM replaced")
    for what, key, old, new in rows:
        if what == "ref" or (what == "value" and key == "head"):
            commits.add(old)
        elif what in {"row", "disk"}:
            found = (_unpacked(database, key, text) for text in (old, new))
            contents.update(row.content for row in found if row)
    return {commit for commit in commits if commit}, contents


def expire(database: Database, before: datetime) -> int:
    """Forget operations older than ``before``; return how many."""
    with database.transaction() as db:
        done = db.execute(
            "DELETE FROM operations WHERE time < ?", (int(before.timestamp()) * 1_000_000_000,)
        )
        return int(done.rowcount)


def forget(database: Database) -> None:
    """Forget all operations: what they have replaced can't be restored any more."""
    with database.transaction() as db:
        db.execute("DELETE FROM operations")
