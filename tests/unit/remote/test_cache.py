"""The cache's directory: bounded, private, and harmless whatever happens to it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dorky import errors, files
from dorky.drivers.base import Blob, Version
from dorky.remote import cache as caches
from dorky.remote.cache import Cache, Space

KiB, MiB = 1 << 10, 1 << 20


def size(place: Path) -> int:
    """The bytes of the entries on the disk, whole blocks each."""
    held = [
        path for path in place.rglob("*") if path.is_file() and path.name not in {"lock", "size"}
    ]
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in held)


def space_of(place: Path, limit: int = MiB, repository: str = "a", purges: bytes = b"") -> Space:
    return Cache(place, limit).settle(repository, purges)


def get(space: Space, name: str) -> bytes | None:
    return space.taken(name, bytes)


def fill(space: Space, names: range, length: int = 10_000) -> None:
    for n in names:
        space.keep(f"{n}", bytes([n % 256]) * length)


def test_the_limit_holds_and_what_was_not_used_for_longest_goes(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    for n in range(60):
        fill(space, range(n, n + 1), 50_000)
        assert size(tmp_path) <= MiB
        assert get(space, "0") == bytes(50_000)
        for path in (tmp_path / "client-1" / space.name).iterdir():
            if path.stat().st_mtime > 1000:  # time goes by
                os.utime(path, (n, n))
    assert get(space, "59")
    assert get(space, "1") is None
    assert size(tmp_path) > MiB // 2


def test_a_record_of_the_size_that_makes_no_sense_is_made_again(tmp_path: Path) -> None:
    record = tmp_path / "client-1" / "size"
    for text in (b"", b"-5", b"x" * 100, b"9" * 31):
        space = space_of(tmp_path)
        fill(space, range(12), 50_000)
        record.write_bytes(text)
        fill(space_of(tmp_path), range(12, 24), 50_000)
        assert size(tmp_path) <= MiB
        assert int(record.read_text()) <= MiB
    record.unlink()
    record.symlink_to(tmp_path / "elsewhere")
    fill(space_of(tmp_path), range(2))
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_too_large_is_not_kept(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    space.keep("large", bytes(MiB // 4 + 1))
    assert get(space, "large") is None
    space.keep("fits", bytes(MiB // 4))
    assert get(space, "fits") == bytes(MiB // 4)


def test_a_repository_sees_its_own_alone_and_nothing_from_before_a_purge(tmp_path: Path) -> None:
    first, second = space_of(tmp_path), space_of(tmp_path, repository="b")
    first.keep("name", b"a")
    second.keep("name", b"b")
    assert (get(first, "name"), get(second, "name")) == (b"a", b"b")
    after = space_of(tmp_path, purges=b"purged")
    assert get(after, "name") is None
    assert get(first, "name") is None
    first.keep("name", b"from a process that has not heard of it")
    assert get(first, "name") is None
    assert get(second, "name") == b"b"
    assert len(list((tmp_path / "client-1").glob("*-*"))) == 2


def test_an_entry_that_the_check_refuses_is_deleted(tmp_path: Path) -> None:
    def refuse(_: bytes) -> bytes:
        raise errors.CorruptObject("x", "wrong")

    space = space_of(tmp_path)
    space.keep("name", b"wrong")
    assert space.taken("name", refuse) is None
    assert get(space, "name") is None
    assert space.through("name", lambda: b"right", bytes) == b"right"
    assert get(space, "name") == b"right"


def test_a_root_comes_back_with_its_version(tmp_path: Path) -> None:
    cache = Cache(tmp_path, MiB)
    assert cache.root("place") is None
    cache.keep_root("place", Blob(b"root", Version('"etag"')))
    assert cache.root("place") == Blob(b"root", Version('"etag"'))
    assert cache.root("another") is None
    # A version is sent to the server: nothing but text may be in it.
    cache.keep_root("place", Blob(b"root", Version("a\r\nb")))
    assert cache.root("place") is None
    (entry,) = (tmp_path / "client-1" / "roots").iterdir()
    for text in (b"", b"\0", b"\xff\xff", b"\0\0root"):
        entry.write_bytes(text)
        assert cache.root("place") is None


def test_half_written_files_are_never_read_and_swept_in_the_end(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    place = tmp_path / "client-1" / space.name
    old, young = (files.temporary(place) for _ in range(2))
    for half in (old, young):
        half.write_bytes(bytes(MiB // 4))
    os.utime(old, (1, 1))
    fill(space, range(20), 50_000)
    assert not old.exists()
    assert young.exists() or size(tmp_path) <= MiB
    assert size(tmp_path) <= MiB + MiB // 4


_KILLED = """
import os, signal, sys
from pathlib import Path
from dorky.remote.cache import Cache
space = Cache(Path(sys.argv[1]), 1 << 20).settle("a", b"")
own, count = getattr(os, sys.argv[2]), 0
def killed(*args, **how):
    global count
    count += 1
    if count == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return own(*args, **how)
setattr(os, sys.argv[2], killed)
space.keep("name", b"x" * 10_000)
"""


@pytest.mark.parametrize(
    ("call", "nth"), [("rename", 1), ("write", 1), ("open", 5), ("open", 6), ("fstat", 3)]
)
def test_a_crash_at_any_point_leaves_nothing_harmful(tmp_path: Path, call: str, nth: int) -> None:
    space_of(tmp_path).keep("before", b"before")
    command = [sys.executable, "-c", _KILLED, str(tmp_path), call, str(nth)]
    assert subprocess.run(command, timeout=60, check=False).returncode == -signal.SIGKILL
    space = space_of(tmp_path)
    assert get(space, "name") in {None, b"x" * 10_000}
    assert get(space, "before") == b"before"
    fill(space, range(25), 50_000)
    assert get(space, "24")
    assert size(tmp_path) <= MiB + 3 * 4096


def _write(place: str, first: int, failures: multiprocessing.Queue[str]) -> None:
    space = space_of(Path(place), 4 * MiB)
    for n in range(first, first + 100):
        space.keep(f"{n}", bytes([n % 256]) * 20_000)
        for other in (n, n - 50, n + 100):
            if get(space, f"{other}") not in {None, bytes([other % 256]) * 20_000}:
                failures.put(f"{other}")


def test_many_processes_and_threads_write_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    failures = context.Queue()
    workers = [
        context.Process(target=_write, args=(str(tmp_path), 50 * n, failures)) for n in range(8)
    ]
    for worker in workers:
        worker.start()
    space = space_of(tmp_path, 4 * MiB, repository="b")
    threads = [threading.Thread(target=fill, args=(space, range(n, n + 50))) for n in range(4)]
    for thread in threads:
        thread.start()
    for running in (*workers, *threads):
        running.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 8
    assert failures.empty()
    # By 1/64 of the limit for each process, as the class says.
    assert size(tmp_path) <= 4 * MiB + 9 * (4 * MiB // 64)
    assert not list(tmp_path.rglob(".tmp-dorky-*"))


def test_a_process_that_stops_while_it_makes_room_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "_PATIENCE", 0.0)
    space = space_of(tmp_path)
    space.keep("before", b"before")
    with files.locked(tmp_path / "client-1" / "lock"):
        other = space_of(tmp_path)
        other.keep("name", b"not kept")
        assert get(other, "name") is None
        assert get(other, "before") == b"before"


def test_clear_leaves_nothing_and_the_cache_goes_on(tmp_path: Path) -> None:
    cache = Cache(tmp_path, MiB)
    space = cache.settle("a", b"")
    fill(space, range(10))
    cache.keep_root("place", Blob(b"root", Version("1")))
    (tmp_path / "client-1" / "mine").mkdir()
    content = cache.content()
    assert (content.repositories, content.entries) == (1, 11)
    assert content.size == size(tmp_path)
    cache.clear()
    assert cache.content() == (0, 0, 0)
    assert {path.name for path in (tmp_path / "client-1").iterdir()} == {"lock", "size", "mine"}
    fill(space, range(1))  # by a process that has not noticed
    assert cache.content() == (0, 0, 0)
    fill(cache.settle("a", b""), range(1))
    assert cache.content().entries == 1


def test_why_it_can_not_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "client-1"
    assert Cache(None, MiB).why_not().startswith("it is turned off")
    assert not Cache(tmp_path, MiB).why_not()
    place.mkdir(mode=0o755)
    place.chmod(0o755)
    assert Cache(tmp_path, MiB).why_not() == "other users may enter it"
    place.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert Cache(tmp_path, MiB).why_not() == "it belongs to another user"
    monkeypatch.undo()
    place.rmdir()
    place.symlink_to(tmp_path)
    assert Cache(tmp_path, MiB).why_not() == "it is a symbolic link"
    with pytest.raises(errors.DiskError):
        Cache(tmp_path, MiB).clear()
