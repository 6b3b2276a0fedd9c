"""What can be read of a damaged database is."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from dorky.store.database import Database
from dorky.store.index import Index, Row
from dorky.store.salvage import salvage

ROWS = [Row(f"dir/file{n:04}", 0o100644, n, f"{n:064x}", f"{n:064x}") for n in range(2000)]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database of many pages."""
    path = tmp_path / "old.db"
    made = Database(path)
    Index(made).put(ROWS)
    made.set_ref("main", "1" * 64)
    made.set("key", b"value")
    made.close()
    return path


@pytest.fixture
def new(tmp_path: Path) -> Database:
    return Database(tmp_path / "new.db")


def rows(database: Database) -> list[Row]:
    found = list(Index(database).rows().values())
    database.close()
    return found


def test_everything(old: Path, new: Database) -> None:
    assert salvage(old, new) >= {"files", "refs", "meta", "packs", "objects", "roots"}
    assert new.refs() == {"main": "1" * 64}
    assert new.get("key") == b"value"
    assert rows(new) == ROWS


def test_what_lies_on_both_sides_of_a_damaged_page(old: Path, new: Database) -> None:
    data = bytearray(old.read_bytes())
    middle = data.index(b"dir/file1000") // 4096
    data[middle * 4096 : (middle + 1) * 4096] = random.Random(1).randbytes(4096)
    old.write_bytes(data)
    whole = salvage(old, new)
    assert "files" not in whole
    assert "refs" in whole
    found = rows(new)
    assert found[0] == ROWS[0]
    assert found[-1] == ROWS[-1]
    assert 1800 < len(found) < 2000
    assert set(found) < set(ROWS)


def test_rows_that_make_no_sense(old: Path, new: Database) -> None:
    connection = sqlite3.connect(old)
    with connection:
        connection.execute("INSERT INTO refs VALUES ('bad', 'no id')")
        connection.execute("UPDATE files SET content = 'nothing' WHERE path = 'dir/file0000'")
        connection.execute(
            "UPDATE files SET path = CAST(X'ff' AS TEXT) WHERE path = 'dir/file0001'"
        )
    connection.close()
    salvage(old, new)
    assert new.refs() == {"main": "1" * 64}
    assert rows(new) == ROWS[2:]


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, None])
def test_nothing(tmp_path: Path, new: Database, content: bytes | None) -> None:
    path = tmp_path / "nothing.db"
    if content is not None:
        path.write_bytes(content)
    assert salvage(path, new) == set()
    assert rows(new) == []
