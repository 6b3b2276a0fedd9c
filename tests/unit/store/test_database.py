"""The local database: all of a command or nothing of it, and damage is said so."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from stores import NEWER

from dorky import errors
from dorky.store.database import Database

ID = "ab" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dorky.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    opened = Database(path)
    yield opened
    opened.close()


# --- values and refs ------------------------------------------------------------------------


def test_values_survive(database: Database, path: Path) -> None:
    assert database.get("key") is None
    database.set("key", b"\0\xff")
    database.set("key", b"other")
    database.set_ref("main", ID)
    database.set_ref("main", ID[::-1])
    database.set_ref("backup/1", ID)
    database.close()
    database.close()
    again = Database(path)
    assert again.get("key") == b"other"
    assert again.ref("main") == ID[::-1]
    assert again.ref("other") is None
    assert list(again.refs().items()) == [("backup/1", ID), ("main", ID[::-1])]
    again.close()


def test_forgetting_a_remote_forgets_nothing_else(database: Database) -> None:
    names = ["origin", "Origin", "orig_n", "o", "originals"]
    with database.transaction() as db:
        for name in names:
            database.set_ref(f"{name}/main", ID)
            database.set(f"remote.{name}.url", b"x")
            db.execute("INSERT INTO roots VALUES (?, 'v', x'00')", (name,))
            db.execute(
                "INSERT INTO packs (remote, name, size, tail, epochs) VALUES (?, 'p', 9, 8, 1)",
                (name,),
            )
            number = db.execute("SELECT max(n) FROM packs").fetchone()[0]
            db.execute("INSERT INTO objects VALUES (x'01', ?, 'chunk', 8, 1)", (number,))
    database.set_ref("main", ID)
    database.set("head", b"x")
    for gone in ("orig_n", "origin"):
        names.remove(gone)
        database.forget_remote(gone)
        assert database.root(gone) is None
        assert set(database.refs()) == {"main", *(f"{name}/main" for name in names)}
        assert {name for name in names if database.get(f"remote.{name}.url")} == set(names)
        assert {name for name in names if database.root(name) == ("v", b"\0")} == set(names)
        for table in ("packs", "objects"):
            (count,) = database.connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            assert count == len(names)
    assert database.get("head") == b"x"


# --- on disk --------------------------------------------------------------------------------


def test_nobody_else_can_read_it(path: Path) -> None:
    old = os.umask(0)
    try:
        database = Database(path)
        database.set("key", b"value")
        found = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    finally:
        os.umask(old)
    database.close()
    assert found == dict.fromkeys(("dorky.db", "dorky.db-shm", "dorky.db-wal"), 0o600)


@pytest.mark.usefixtures("as_shipped")
def test_what_returned_is_on_the_disk(database: Database) -> None:
    # 2 is FULL: with a write-ahead log, every commit is synced before it returns.
    assert database.connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert database.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert database.connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


KILLED = """
import os, sys
from pathlib import Path
from dorky.store.database import Database

database = Database(Path(sys.argv[1]))
database.set("done", b"yes")
with database.transaction() as db:
    database.set("begun", b"yes")
    database.set_ref("main", "x")
    print("here", flush=True)
    os.kill(os.getpid(), 9)
"""


def test_a_killed_command_leaves_what_was_committed(database: Database, path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, path], capture_output=True, check=False)
    assert done.stdout == b"here\n"
    assert database.get("done") == b"yes"
    assert database.get("begun") is None
    assert database.ref("main") is None
    database.set("next", b"works")


def test_who_comes_at_once_makes_one_database(path: Path) -> None:
    together = threading.Barrier(8)

    def come(number: int) -> None:
        together.wait()
        database = Database(path)
        database.set(f"key{number}", b"x")
        database.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(come, range(8)))
    database = Database(path)
    assert all(database.get(f"key{number}") for number in range(8))
    database.close()
    assert list(path.parent.iterdir()) == [path]


def test_a_file_system_without_hard_links_will_do(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    database = Database(path)
    database.set("key", b"x")
    database.close()
    assert list(path.parent.iterdir()) == [path]


# --- transactions ---------------------------------------------------------------------------


def test_all_or_nothing(database: Database) -> None:
    def broken() -> None:
        with database.transaction():
            database.set("one", b"1")
            with database.transaction():
                database.set_ref("main", ID)
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert database.get("one") is None
    assert database.ref("main") is None
    with database.transaction():
        database.set("one", b"1")
        with database.transaction():
            database.set_ref("main", ID)
    assert database.get("one") == b"1"
    assert database.ref("main") == ID


def test_another_process_sees_nothing_before_the_end(database: Database, path: Path) -> None:
    other = Database(path)
    with database.transaction():
        database.set("key", b"value")
        assert other.get("key") is None
    assert other.get("key") == b"value"
    other.close()


def test_two_writers_wait_for_each_other_or_say_so(database: Database, path: Path) -> None:
    other = Database(path)
    other.connection.execute("PRAGMA busy_timeout=0")
    with database.transaction(), pytest.raises(errors.Locked, match="in use"):
        other.set("key", b"value")
    other.set("key", b"value")
    other.close()


def test_a_full_disk_is_no_damage(database: Database) -> None:
    database.set("old", b"kept")
    (pages,) = database.connection.execute("PRAGMA page_count").fetchone()
    database.connection.execute(f"PRAGMA max_page_count={pages + 2}")

    def fill() -> None:
        with database.transaction():
            for number in range(100):
                database.set(f"key{number}", bytes(1000))

    for _ in range(2):
        with pytest.raises(errors.DiskFull) as caught:
            fill()
        assert str(database.path) in caught.value.message
        assert database.get("key0") is None
        assert database.get("old") == b"kept"
    database.connection.execute(f"PRAGMA max_page_count={pages + 1000}")
    fill()
    assert database.get("key99") == bytes(1000)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("database or disk is full", errors.DiskFull),
        ("database is locked", errors.Locked),
        ("attempt to write a readonly database", errors.DiskError),
        ("unable to open database file", errors.DiskError),
        ("disk I/O error", errors.DiskError),
        ("no such table: refs", errors.CorruptDatabase),
    ],
)
def test_what_sqlite_says_is_understood(
    database: Database, said: str, error: type[errors.DorkyError]
) -> None:
    def fail() -> None:
        raise sqlite3.OperationalError(said)

    with pytest.raises(error):
        database.connection.typed(fail)


# --- damage ---------------------------------------------------------------------------------


def test_what_is_no_database_is_said_so(path: Path) -> None:
    path.write_bytes(b"not a database at all, " * 100)
    with pytest.raises(errors.CorruptDatabase, match=r"dorky\.db is damaged") as caught:
        Database(path)
    assert caught.value.exit_code == 7
    assert path.read_bytes().startswith(b"not a database")


def test_a_damaged_page_is_said_so(database: Database, path: Path) -> None:
    with database.transaction():
        for number in range(500):
            database.set(f"key{number:03}", bytes(100))
    database.close()
    data = bytearray(path.read_bytes())
    data[12 * 4096 :] = b"\xff" * (len(data) - 12 * 4096)
    path.write_bytes(data)
    damaged = Database(path)
    for act in (
        lambda: damaged.set("key499", b"x"),
        lambda: damaged.get("key499"),
        lambda: list(damaged.connection.execute("SELECT * FROM meta")),
        lambda: damaged.connection.execute("SELECT * FROM meta").fetchall(),
        lambda: dict(damaged.connection.execute("SELECT key, value FROM meta")),
    ):
        with pytest.raises(errors.CorruptDatabase):
            act()
    damaged.close()


def test_text_that_is_none_is_said_so(database: Database) -> None:
    database.connection.execute("INSERT INTO refs VALUES (CAST(x'ff' AS TEXT), 'x')")
    with pytest.raises(errors.CorruptDatabase):
        database.refs()


@pytest.mark.parametrize("name", ["user_version", "application_id"])
@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_of_the_layout_is_damage(
    database: Database, path: Path, name: str, bit: int
) -> None:
    (value,) = database.connection.execute(f"PRAGMA {name}").fetchone()
    database.connection.execute(f"PRAGMA {name}={value ^ 1 << bit}")
    database.close()
    with pytest.raises(errors.CorruptDatabase, match="layout"):
        Database(path)


def test_a_newer_layout_is_left_alone(database: Database, path: Path) -> None:
    database.connection.executescript(NEWER)
    database.close()
    before = path.read_bytes()
    with pytest.raises(errors.FormatTooNew, match="format 99"):
        Database(path)
    assert path.read_bytes() == before


def test_an_empty_file_is_no_database(path: Path) -> None:
    path.touch()
    with pytest.raises(errors.CorruptDatabase, match="empty"):
        Database(path)


def test_a_place_that_can_not_be_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.DiskError, match="none"):
        Database(tmp_path / "none" / "dorky.db")
    with pytest.raises(errors.DiskError):
        Database(tmp_path)
