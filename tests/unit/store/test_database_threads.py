"""The local database and threads: each has its own view, and its own transactions."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from dorky import errors
from dorky.store import oplog
from dorky.store.database import Database

ID = "ab" * 32
SECONDS = 30


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "dorky.db")
    yield opened
    opened.close()


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def open_files(path: Path) -> int:
    """Return how many descriptors of this process are open on a database or its log."""
    found = 0
    for number in Path("/proc/self/fd").iterdir():
        try:
            found += str(number.readlink()).startswith(str(path))
        except FileNotFoundError:
            continue
    return found


class Refused(Exception):
    pass


def test_a_commit_survives_another_threads_rollback(
    database: Database, thread: ThreadPoolExecutor
) -> None:
    begun, gone = threading.Event(), threading.Event()

    def roll_back() -> None:
        with suppress(Refused), database.transaction():
            database.set("theirs", b"rolled back")
            begun.set()
            assert gone.wait(SECONDS)
            raise Refused

    other = thread.submit(roll_back)
    assert begun.wait(SECONDS)
    # Another thread's transaction is no reason to join it: this one waits for the other's end.
    threading.Timer(0.1, gone.set).start()
    database.set("ours", b"committed")
    other.result(SECONDS)
    assert database.get("ours") == b"committed"
    assert database.get("theirs") is None


def test_a_commit_ends_no_other_threads_transaction(
    database: Database, thread: ThreadPoolExecutor
) -> None:
    with suppress(Refused), database.transaction():
        database.set("ours", b"rolled back")
        waiting = thread.submit(database.set, "theirs", b"committed")
        with pytest.raises(futures.TimeoutError):
            waiting.result(0.2)
        raise Refused
    waiting.result(SECONDS)
    assert database.get("ours") is None
    assert database.get("theirs") == b"committed"


def test_a_thread_reads_no_uncommitted_rows_of_another(
    database: Database, thread: ThreadPoolExecutor
) -> None:
    database.set("key", b"old")
    with database.transaction():
        database.set("key", b"new")
        database.set_ref("main", ID)
        assert database.get("key") == b"new"
        assert thread.submit(database.get, "key").result(SECONDS) == b"old"
        assert thread.submit(database.refs).result(SECONDS) == {}
    assert thread.submit(database.get, "key").result(SECONDS) == b"new"
    assert thread.submit(database.refs).result(SECONDS) == {"main": ID}


def test_nested_calls_join_in_every_thread(database: Database, thread: ThreadPoolExecutor) -> None:
    def nested(key: str) -> None:
        with suppress(Refused), database.transaction():
            with database.transaction():
                database.set(key, b"rolled back")
            database.set_ref(key, ID)
            raise Refused

    nested("here")
    thread.submit(nested, "there").result(SECONDS)
    assert (database.get("here"), database.get("there"), database.refs()) == (None, None, {})


def test_a_nested_call_that_fails_leaves_nothing_behind(database: Database) -> None:
    with database.transaction():
        database.set("outer", b"kept")
        with suppress(Refused), database.transaction():
            database.set("outer", b"lost")
            database.set("inner", b"lost")
            with database.transaction():
                database.set("innermost", b"lost")
            raise Refused
        with database.transaction():
            database.set("later", b"kept")
    found = {key: database.get(key) for key in ("outer", "inner", "innermost", "later")}
    assert found == {"outer": b"kept", "inner": None, "innermost": None, "later": b"kept"}


def test_many_threads_lose_no_write(database: Database) -> None:
    database.set("count", b"0")

    def add(_: int) -> None:
        for _ in range(5):
            with database.transaction():
                count = int(database.text("count"))
                database.set("count", str(count + 1).encode())

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(add, range(32)))
    assert database.text("count") == "160"


def test_a_thread_that_waits_too_long_says_so(
    database: Database, thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dorky.store.database.PATIENCE", 0.05)
    with database.transaction():
        waiting = thread.submit(database.set, "key", b"value")
        with pytest.raises(errors.Locked, match="in use"):
            waiting.result(SECONDS)
    thread.submit(database.set, "key", b"value").result(SECONDS)
    assert database.get("key") == b"value"


def test_an_operation_records_only_its_own_threads_changes(
    database: Database, thread: ThreadPoolExecutor
) -> None:
    with oplog.recording(database, "ours"):
        database.set_ref("main", ID)
        thread.submit(database.set_ref, "backup/theirs", ID).result(SECONDS)
    assert oplog.replaced(database, 1).refs == {"main": None}
    assert set(database.refs()) == {"main", "backup/theirs"}


# --- closing --------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_a_thread_that_ends_keeps_no_file_open(database: Database) -> None:
    before = open_files(database.path)
    for _ in range(20):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(database.get, "abcdefgh"))
    # SQLite keeps some for the connections to come: as many as there were threads at once.
    assert open_files(database.path) <= before + 4


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_closing_closes_the_files_of_every_thread(tmp_path: Path) -> None:
    database = Database(tmp_path / "dorky.db")
    ready, leave = threading.Barrier(5), threading.Event()

    def hold() -> None:
        database.set(threading.current_thread().name, b"value")
        ready.wait(SECONDS)
        assert leave.wait(SECONDS)
        with pytest.raises(ValueError, match="closed"):
            database.get("key")

    with ExitStack() as ending, ThreadPoolExecutor(4) as pool:
        ending.callback(leave.set)
        running = [pool.submit(hold) for _ in range(4)]
        ready.wait(SECONDS)
        database.close()
        assert open_files(database.path) == 0
        leave.set()
        for done in running:
            done.result(SECONDS)
    with pytest.raises(ValueError, match="closed"):
        database.get("key")
    assert not list(tmp_path.glob("*-wal"))


# --- fork -----------------------------------------------------------------------------------

FORKED = """
import os, sys, threading
from pathlib import Path
from dorky import errors
from dorky.store.database import Database

path = Path(sys.argv[1])
database = Database(path)
database.set("parent", b"before")


def fork(work):
    if (child := os.fork()) == 0:
        work()
        sys.exit(0)
    return child


def check(child):
    assert os.waitpid(child, 0)[1] == 0


def write():
    assert database.get("parent") == b"before"
    database.set("child", b"written")


def refuse():
    for use in (lambda: database.get("parent"), lambda: Database(path)):
        try:
            use()
        except errors.Locked as error:
            assert "forked" in error.message, error
            assert "spawn" in error.message, error
        else:
            raise AssertionError("used")
    Database(path.with_name("other.db")).set("key", b"value")
    database.close()


child = fork(write)
assert database.get("parent") == b"before"
check(child)
assert database.get("child") == b"written"

with database.transaction():
    database.set("child", b"uncommitted")
    check(fork(refuse))
assert database.get("child") == b"uncommitted"
with database.transaction():
    database.set("child", b"changed")
    if (child := os.fork()) == 0:
        os.close(2)  # it fails to end its parent's transaction
    else:
        check_failed = os.waitpid(child, 0)[1]
assert check_failed
assert database.get("child") == b"changed"

begun, leave = threading.Event(), threading.Event()
def hold():
    with database.transaction():
        database.set("thread", b"value")
        begun.set()
        leave.wait(30)
holder = threading.Thread(target=hold)
holder.start()
begun.wait(30)
child = fork(refuse)
leave.set()
holder.join()
check(child)
assert database.get("thread") == b"value"
check(fork(write))
assert database.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
database.close()
assert not list(path.parent.glob("*-wal"))
print("done")
"""


def outcome(script: str, directory: Path) -> tuple[int, str, str]:
    """Run a script that forks; return its exit code, its errors and what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, directory / "dorky.db"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr, done.stdout


def test_a_child_process_opens_its_own_or_says_why_not(tmp_path: Path) -> None:
    assert outcome(FORKED, tmp_path) == (0, "", "done\n")


UNUSED = """
import os, subprocess, sys
from pathlib import Path
from dorky.store.database import Database

path = Path(sys.argv[1])
if sys.argv[2:]:
    database = Database(path)
    database.set("key", b"newer")
    os._exit(0)  # killed: nobody has the database open, and its log holds what is newest
database = Database(path)
database.set("key", b"value")
ended, end = os.pipe()
if (child := os.fork()) == 0:
    os.read(ended, 1)
    sys.exit(0)  # an end that deletes all objects, those that were inherited as well
database.close()
subprocess.run([sys.executable, sys.argv[0], path, "later"], check=True, timeout=30)
assert Path(f"{path}-wal").stat().st_size
os.write(end, b"!")
assert os.waitpid(child, 0)[1] == 0
assert Database(path).get("key") == b"newer"
print("kept")
"""


def test_a_child_that_ends_does_not_touch_its_parents_log(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(UNUSED)
    command = [sys.executable, script, tmp_path / "dorky.db"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "kept\n")


BUSY = """
import os, sys, threading, time
from pathlib import Path
from dorky.store.database import Database

database = Database(Path(sys.argv[1]))
inside, forked = threading.Event(), threading.Event()

def pause():
    inside.set()
    forked.wait(0.5)
    inside.clear()

def work():
    connection = database.connection
    connection.create_function("pause", 0, pause)
    USE

worker = threading.Thread(target=work)
worker.start()
assert inside.wait(30)
if (child := os.fork()) == 0:
    os._exit(inside.is_set())
forked.set()
worker.join()
assert os.waitpid(child, 0)[1] == 0
print("done")
"""


@pytest.mark.parametrize(
    "use",
    [
        "connection.execute('SELECT pause()')",
        "connection.execute('SELECT 1 UNION ALL SELECT pause()').fetchall()",
        "[*connection.execute('SELECT 1 UNION ALL SELECT pause()')]",
        "connection.executescript('SELECT pause();')",
        "connection.executemany('INSERT INTO refs SELECT ?, coalesce(pause(), 0)', [(1,)])",
    ],
)
def test_no_child_begins_while_sqlite_runs_in_another_thread(tmp_path: Path, use: str) -> None:
    # SQLite's process-wide locks (that of its memory, for one) would stay held in the child.
    assert outcome(BUSY.replace("USE", use), tmp_path) == (0, "", "done\n")
