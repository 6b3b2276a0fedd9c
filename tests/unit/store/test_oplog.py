from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from dorky.store import oplog
from dorky.store.database import Database
from dorky.store.index import Index, Row
from dorky.store.oplog import recording

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "dorky.db")
    yield opened
    opened.close()


def row(path: str, content: str = A, *, absent: bool = False) -> Row:
    return Row(path, 0o100644, 3, content, "d" * 64, absent)


def test_the_first_old_value_of_everything_is_noted(database: Database) -> None:
    index = Index(database)
    index.put([row("a"), row("b"), row("c")])
    database.set_ref("main", A)
    database.set("head", b"")
    with recording(database, "test"):
        index.put([row("a", B), row("d")])
        index.put([row("a", C)])
        index.remove(["b"])
        database.set_ref("main", B)
        database.set_ref("main", C)
        database.set_ref("backup/1", C)
        database.set("head", A.encode())
    found = oplog.replaced(database, 1)
    assert found.rows == {"a": row("a"), "b": row("b"), "d": None}
    assert found.refs == {"main": A, "backup/1": None}
    assert found.values["head"] == b""
    assert oplog.named(database) == ({A}, {A})


def test_what_is_not_ours_to_undo_is_not_noted(database: Database) -> None:
    index = Index(database)
    index.put([row("a")])
    with recording(database, "fetch"):
        database.set_ref("origin/main", A)
        database.set("remote.origin.place", b"x")
        index.refresh([row("a")._replace(mtime=7, seen=9)])
    assert oplog.log(database) == []
    database.set_ref("main", A)
    assert oplog.log(database) == []


def test_a_file_that_is_back_on_disk_is_a_change(database: Database) -> None:
    index = Index(database)
    index.put([row("a", absent=True)])
    with recording(database, "restore"):
        index.refresh([row("a")])
    assert oplog.replaced(database, 1).rows == {"a": row("a", absent=True)}


def test_several_operations_are_looked_at_as_one(database: Database) -> None:
    index = Index(database)
    for content in (A, B, C):
        with recording(database, f"put {content[0]}"):
            index.put([row("a", content)])
            oplog.note_disk(database, {"a": (None, row("a", content))})
            database.set_ref("main", content)
    assert [each.command for each in oplog.log(database)] == ["put c", "put b", "put a"]
    assert [each.n for each in oplog.log(database, 2)] == [3, 2]
    since = oplog.replaced(database, 2)
    assert since.rows == {"a": row("a", A)}
    assert since.refs == {"main": A}
    assert since.disk == {"a": (None, row("a", C))}
    assert oplog.touched(database, 3) == ["a"]


def test_the_disk_is_noted_first_and_last(database: Database) -> None:
    with recording(database, "restore"):
        oplog.note_disk(database, {"a": (row("a", A), row("a", B))})
        oplog.note_disk(database, {"a": (row("a", B), row("a", C))})
    assert oplog.replaced(database, 1).disk == {"a": (row("a", A), row("a", C))}
    oplog.note_disk(database, {"b": (None, None)})
    assert oplog.replaced(database, 1).disk.keys() == {"a"}


def test_one_inside_another_is_part_of_it(database: Database) -> None:
    with recording(database, "outer"):
        with recording(database, "inner"):
            database.set_ref("main", A)
        database.set_ref("main", B)
    assert [each.command for each in oplog.log(database)] == ["outer"]
    assert oplog.replaced(database, 1).refs == {"main": None}


def test_what_is_rolled_back_was_never_done(database: Database) -> None:

    def fail() -> None:
        with recording(database, "x"), database.transaction():
            database.set_ref("main", A)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert oplog.log(database) == []
    with recording(database, "again"):
        database.set_ref("main", A)
    assert [each.command for each in oplog.log(database)] == ["again"]


def test_commands_may_hold_anything(database: Database) -> None:
    command = "stage 'it''s' \0 \udcff; DROP TABLE operations; --"
    with recording(database, command):
        database.set_ref("main", A)
    assert oplog.log(database)[0].command.startswith("stage 'it''s' ")


def test_old_operations_expire(database: Database) -> None:
    with recording(database, "x"):
        database.set_ref("main", A)
    assert oplog.expire(database, datetime.now(timezone.utc) - timedelta(days=1)) == 0
    assert oplog.expire(database, datetime.now(timezone.utc) + timedelta(days=1)) == 1
    assert oplog.named(database) == (set(), set())


def test_all_operations_are_forgotten(database: Database) -> None:
    with recording(database, "x"):
        database.set_ref("main", A)
        oplog.forget(database)
        database.set_ref("main", B)
    assert len(oplog.log(database)) == 1
    oplog.forget(database)
    assert oplog.log(database) == []
    assert oplog.named(database) == (set(), set())
