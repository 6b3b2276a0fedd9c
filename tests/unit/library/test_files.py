"""Files in a remote: uploaded, read, listed, changed, each as a commit."""

from __future__ import annotations

import builtins
import hashlib
import io
import os
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from backends import Backend
from machines import noise
from servers import Remote

import dorky
from dorky import errors
from dorky.client import ABSENT, DorkyClient, FileInfo, Progress
from dorky.format import chunk
from dorky.format.model import MiB
from dorky.library import catalog
from dorky.store import directories

BIG = noise(5 * MiB + 17)


def paths(client: DorkyClient, prefix: str = "", *, recursive: bool = True) -> list[str]:
    return [info.path for info in client.list(prefix, recursive=recursive)]


# --- every kind of place --------------------------------------------------------------------


@pytest.mark.every_place
def test_a_file_comes_back(client: DorkyClient, backend: Backend, tmp_path: Path) -> None:
    before = datetime.now(timezone.utc).replace(microsecond=0)
    info = client.upload(BIG, "models/v1.bin", metadata={"team": "ml"}, message="train")
    assert (info.path, info.size, info.kind) == ("models/v1.bin", len(BIG), "file")
    assert info.content_hash == info.etag == hashlib.sha256(BIG).hexdigest()
    assert info.content_type == "application/octet-stream"
    assert info.custom == {"team": "ml"}
    assert info.stored_size >= len(BIG)
    assert info.last_updated
    assert before <= info.last_updated <= datetime.now(timezone.utc) + timedelta(seconds=1)
    other = backend.client(client.url)  # nothing of it is here
    assert other.read("models/v1.bin") == BIG
    assert other.stat("models/v1.bin") == info
    assert other.read("models/v1.bin", start=MiB, end=MiB + 9) == BIG[MiB : MiB + 9]
    done = other.download("models/v1.bin", tmp_path / "new" / "out.bin")
    assert Path(done).read_bytes() == BIG
    assert done.info == info
    assert [commit.message for commit in other.log()] == ["train"]
    assert other.exists("models/v1.bin")
    assert not other.exists("models")


def test_small_files_and_their_history(client: DorkyClient, backend: Backend) -> None:
    first = client.upload(b"one", "a/x.json")
    client.upload(b"two", "a/x.json")
    client.upload(b"", "a/empty")
    client.upload(b"three", "b")
    assert paths(client) == ["a/empty", "a/x.json", "b"]
    assert paths(client, recursive=False) == ["a", "b"]
    assert client.read("a/empty") == b""
    assert client.read(first.id) == b"one"
    assert client.at(first.version).read("a/x.json") == b"one"
    assert [client.read(each.id) for each in client.versions("a/x.json")] == [b"two", b"one"]
    client.delete("a", recursive=True)
    other = backend.client(client.url)
    assert paths(other) == ["b"]
    assert other.read(first.id) == b"one"
    assert [each.size for each in other.versions("a/x.json")] == [3, 3]
    assert other.at(first.version).exists("a/x.json")


def test_a_lost_update_is_a_conflict(client: DorkyClient, backend: Backend) -> None:
    client.upload(b"1", "x")
    other = backend.client(client.url)
    assert other.read("x") == b"1"
    newest = client.upload(b"2", "x")
    other.upload(b"other", "y")  # disjoint paths never conflict
    client.upload(b"3", "z")
    third = backend.client(client.url)
    old = third.at(next(iter([*third.versions("x")][1:])).version).stat("x")
    with pytest.raises(dorky.ConflictError, match="not as you last saw it") as caught:
        third.upload(b"4", "x", if_version=old.version)
    assert isinstance(caught.value, errors.UpdateConflict)
    assert caught.value.status_code == 409
    assert not caught.value.retryable
    assert third.upload(b"4", "x", if_version=newest.id).size == 1
    with pytest.raises(errors.UpdateConflict):
        third.upload(b"5", "x", if_version=ABSENT)
    with pytest.raises(errors.UpdateConflict):
        client.delete("x", if_version=newest.version)
    assert client.upload(b"6", "x", force=True)
    assert backend.client(client.url).read("x") == b"6"
    assert len([*client.versions("x")]) == 4


def test_a_copy_and_a_move_send_no_content(client: DorkyClient, place: Remote) -> None:
    info = client.upload(BIG, "a.bin", metadata={"k": "v"}, content_type="model/x")
    place.log.clear()
    copied = client.copy("a.bin", "b.bin")
    client.move("b.bin", "c/d.bin")
    assert place.log.up < MiB
    assert paths(client) == ["a.bin", "c/d.bin"]
    moved = client.stat("c/d.bin")
    assert (moved.custom, moved.content_type) == ({"k": "v"}, "model/x")
    assert (moved.content_hash, moved.size) == (info.content_hash, copied.size)
    assert client.read("c/d.bin", start=len(BIG) - 3) == BIG[-3:]


# --- sources --------------------------------------------------------------------------------


class Lying(io.BytesIO):
    """A file that says a wrong size, and gives less than it is asked for."""

    def __len__(self) -> int:
        return 7

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 1, 100_003))


def blocks(data: bytes) -> Iterator[bytes]:
    chance = random.Random(3)
    at = 0
    while at < len(data):
        size = chance.choice([0, 1, 1000, 300_000])
        yield data[at : at + size]
        at += size


def fifo(data: bytes, tmp_path: Path) -> io.BufferedReader:
    reading, writing = os.pipe()
    if not os.fork():
        os.close(reading)
        with open(writing, "wb") as file:
            file.write(data)
        os._exit(0)
    os.close(writing)
    return open(reading, "rb")


SOURCES: dict[str, Callable[[bytes, Path], object]] = {
    "bytes": lambda data, _: data,
    "bytearray": lambda data, _: bytearray(data),
    "memoryview": lambda data, _: memoryview(data),
    "file": lambda data, _: io.BytesIO(data),
    "lying": lambda data, _: Lying(data),
    "iterable": lambda data, _: blocks(data),
    "pipe": fifo,
}


@pytest.mark.each_value
@pytest.mark.parametrize("size", [0, 1, chunk.WHOLE, chunk.WHOLE + 1, 3 * MiB])
@pytest.mark.parametrize("kind", SOURCES)
def test_whatever_gives_bytes_is_a_source(
    local: DorkyClient, kind: str, size: int, tmp_path: Path
) -> None:
    data = noise(size)
    source = SOURCES[kind](data, tmp_path)
    info = local.upload(source, "file")  # type: ignore[arg-type]
    assert (info.size, info.content_hash) == (size, hashlib.sha256(data).hexdigest())
    assert local.read("file") == data
    if hasattr(source, "closed"):
        assert not source.closed
        source.close()
    if kind == "pipe":
        os.wait()


def test_a_file_object_is_read_from_where_it_stands(local: DorkyClient) -> None:
    file = io.BytesIO(b"0123456789")
    file.seek(4)
    local.upload(file, "x")
    assert local.read("x") == b"456789"


def test_a_source_on_the_disk_names_its_path(
    local: DorkyClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "run.sh").write_bytes(b"#!")
    (tmp_path / "sub" / "run.sh").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert local.upload("sub/run.sh").path == "sub/run.sh"
    assert local.upload(tmp_path / "sub" / "run.sh").path == "run.sh"
    assert local.upload("./sub/../sub/run.sh", "bin/").path == "bin/run.sh"
    assert local.upload("sub/run.sh", Path("x") / "y").path == "x/y"
    assert Path(local.download("x/y", tmp_path / "back")).stat().st_mode & 0o777 == 0o755
    with pytest.raises(errors.BadRequestError):
        local.upload(b"x")


def broken(*, after: int) -> Iterator[bytes]:
    yield b"x" * after
    raise ZeroDivisionError


@pytest.mark.parametrize("after", [1, 3 * MiB])
def test_an_interrupted_source_leaves_nothing(local: DorkyClient, after: int) -> None:
    local.upload(b"old", "x")
    with pytest.raises(ZeroDivisionError):
        local.upload(broken(after=after), "x")
    assert local.read("x") == b"old"
    assert len([*local.log()]) == 1


def test_sources_that_are_none(local: DorkyClient, tmp_path: Path) -> None:
    for source in (io.StringIO("text"), 7, None, ["text"], [7]):
        with pytest.raises(errors.BadRequestError):
            local.upload(source, "x")  # type: ignore[arg-type]
    with pytest.raises(errors.NotFoundError):
        local.upload(tmp_path / "none", "x")
    with pytest.raises(errors.BadRequestError):
        local.upload(tmp_path, "x")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(errors.BadRequestError):
        local.upload(tmp_path / "fifo", "x")
    assert not [*local.list()]


def test_a_file_that_grows_while_it_is_read(local: DorkyClient, tmp_path: Path) -> None:
    growing = tmp_path / "log"
    growing.write_bytes(noise(2 * MiB))

    def grow(_: Progress) -> None:
        with growing.open("ab") as file:
            file.write(b"more")

    with pytest.raises(errors.FileChanged):
        local.upload(growing, "log", progress=grow)
    assert not local.exists("log")


# --- names and metadata ---------------------------------------------------------------------

HOSTILE = (
    *("", "/", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/.", "a\0b", ".git/config"),
    *("A/.GIT/x", ".dorky/state", ".dorkyrc", "con", "a:b", "end.", "sp /x", "\udcff"),
)


@pytest.mark.parametrize("path", HOSTILE)
def test_paths_that_no_worktree_may_hold(local: DorkyClient, path: str) -> None:
    local.upload(b"x", "source")
    for change in (
        lambda: local.upload(b"x", path),
        lambda: local.copy("source", path),
        lambda: local.move("source", path),
    ):
        with pytest.raises(errors.BadRequestError):
            change()
    assert paths(local) == ["source"]


def test_names_that_clash(local: DorkyClient) -> None:
    local.upload(b"x", "a/File")
    for path, kind in (
        ("a/file", errors.NameClash),
        ("A/other", errors.NameClash),
        ("a", errors.IsADirectory),
        ("a/File/x", errors.NotADirectory),
    ):
        with pytest.raises(kind) as caught:
            local.upload(b"y", path)
        assert isinstance(caught.value, dorky.ConflictError)
    assert paths(local) == ["a/File"]
    with pytest.raises(errors.IsADirectory, match="a is a directory in the repository, not a file"):
        local.read("a")
    local.delete("a/File")
    assert local.upload(b"y", "a").path == "a"
    assert local.upload(b"y", "A2/é").path == "A2/é"


def test_a_name_of_any_characters(local: DorkyClient) -> None:
    names = ["日本語", "two words", "new\nline", "-dash", "%20", "#", "~", "ünï/cöde"]
    for name in names:
        local.upload(name.encode(), name)
    assert sorted(paths(local)) == sorted(names)
    assert all(local.read(name) == name.encode() for name in names)


def test_metadata_changes_without_an_upload(local: DorkyClient, backend: Backend) -> None:
    first = local.upload(b"x", "x.json", metadata={"a": "1", "b": "2"}, compress="gzip")
    assert (first.content_type, first.compression) == ("application/json", "gzip")
    info = local.set_metadata("x.json", {"b": "3", "c": "4"})
    assert info.custom == {"a": "1", "b": "3", "c": "4"}
    assert local.set_metadata("x.json", {"d": "5"}, replace=True).custom == {"d": "5"}
    stat = backend.client(local.url).get_metadata("x.json")
    assert (stat.custom, stat.compression, stat.content_hash) == (
        *({"d": "5"}, "gzip", first.content_hash),
    )
    assert local.stat(first.id).custom == {"a": "1", "b": "2"}
    assert local.upload(b"x", "y", content_type="text/x-mine").content_type == "text/x-mine"


@pytest.mark.parametrize(
    "metadata", [{"k": "x" * 9000}, {"k": 1}, {1: "k"}, {"k": "\udcff"}, {"k": None}]
)
def test_metadata_that_can_not_be_kept(local: DorkyClient, metadata: dict[str, str]) -> None:
    with pytest.raises(errors.BadMetadata):
        local.upload(b"x", "x", metadata=metadata)
    local.upload(b"x", "x")
    with pytest.raises(errors.BadMetadata):
        local.set_metadata("x", metadata)


@pytest.mark.parametrize("compress", ["zstd", "gzip", "lz4", "brotli", "none"])
def test_a_codec_of_the_caller(local: DorkyClient, backend: Backend, compress: str) -> None:
    data = b"the same again and again " * 60_000
    info = local.upload(data, "x", compress=compress, level=1 if compress != "none" else None)
    assert info.compression == compress
    assert (info.stored_size < len(data) // 2) is (compress != "none")
    assert backend.client(local.url).read("x") == data


def test_codecs_and_levels_that_there_are_not(local: DorkyClient) -> None:
    for options in ({"compress": "rar"}, {"compress": "gzip", "level": 10}, {"level": -1}):
        with pytest.raises(errors.BadRequestError):
            local.upload(b"x", "x", **options)  # type: ignore[arg-type]


# --- listing --------------------------------------------------------------------------------


def test_a_prefix_is_a_directory(local: DorkyClient) -> None:
    for path in ("async/a", "async/b/c", "async2/d", "async.txt"):
        local.upload(b"x", path)
    assert paths(local, "async") == paths(local, "async/") == ["async/a", "async/b/c"]
    assert paths(local, "async", recursive=False) == ["async/a", "async/b"]
    assert [each.kind for each in local.list("async", recursive=False)] == ["file", "directory"]
    assert paths(local, "none") == []
    assert paths(local, "async/a") == ["async/a"]
    assert [each.path for each in local.list(limit=2)] == ["async.txt", "async/a"]
    assert [each.path for each in local.list(start_after="async/a")] == ["async/b/c", "async2/d"]
    assert [each.path for each in local.glob("async/**")] == ["async/a", "async/b/c"]
    assert [each.path for each in local.glob("*")] == ["async.txt"]
    assert [each.path for each in local.glob("**/[ad]")] == ["async/a", "async2/d"]


def test_a_list_tells_who_changed_each_file_and_when(local: DorkyClient) -> None:
    first = local.upload(b"1", "a")
    local.upload(b"2", "b")
    local.upload(b"3", "c")
    listed = {info.path: info for info in local.list()}
    assert {info.version for info in listed.values()} == {local.stat("a").version}
    one = local.stat("a")
    assert listed["a"] == one
    assert (one.last_updated, one.uploaded_by) == (first.last_updated, first.uploaded_by)
    assert one.version != first.version


def test_a_list_without_details_asks_no_history(
    local: DorkyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("a/x", "a/deep/y", "a/deep/z", "a.b", "other/w"):
        local.upload(path.encode(), path)
    full = [*local.list("a", recursive=False)]
    assert [(info.path, info.kind) for info in full] == [("a/deep", "directory"), ("a/x", "file")]
    monkeypatch.setattr(catalog, "changes", None)
    quick = [*local.list("a", recursive=False, details=False)]
    assert [info.path for info in quick] == [info.path for info in full]
    assert quick[1].content_hash == full[1].content_hash
    assert (quick[1].last_updated, quick[1].stored_size) == (None, 0)
    assert [info.path for info in local.list(recursive=False, details=False)] == [
        *("a", "a.b", "other")
    ]
    assert [info.path for info in local.list("a/x", recursive=False, details=False)] == ["a/x"]
    assert [*local.list("nowhere", recursive=False, details=False)] == []


def test_a_list_of_one_directory_reads_no_other(
    local: DorkyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(8):
        local.upload(b"1", f"many/d{n}/file")
    read = []
    before = directories.read_node

    def counted(*args: Any) -> Any:
        read.append(args[1])
        return before(*args)

    monkeypatch.setattr(directories, "read_node", counted)
    assert len([*local.list("many/d3", recursive=False, details=False)]) == 1
    assert len({*read}) <= 3


def test_a_log_of_all_files(local: DorkyClient) -> None:
    for n in range(3):
        local.upload(f"{n}".encode(), "x", message=f"number {n}")
    assert [commit.message for commit in local.log(limit=2)] == ["number 2", "number 1"]
    newest = next(local.log())
    assert newest.version == local.stat("x").version
    assert len(newest.parents) == 1
    assert [info.version for info in local.versions("x", limit=1)] == [newest.version]


def test_an_empty_repository(local: DorkyClient) -> None:
    assert [*local.list()] == []
    assert [*local.log()] == []
    assert [*local.versions("x")] == []
    assert not local.exists("x")
    assert local.delete("x", missing_ok=True) is None
    with pytest.raises(FileNotFoundError):
        local.read("x")


# --- reading --------------------------------------------------------------------------------


def test_what_is_not_there(local: DorkyClient, tmp_path: Path) -> None:
    local.upload(b"x", "x")
    for call in (local.read, local.stat, local.stream, local.download, local.delete):
        with pytest.raises(dorky.NotFoundError, match="no file y in") as caught:
            call("y")  # type: ignore[operator]
        assert isinstance(caught.value, builtins.FileNotFoundError)
        assert caught.value.status_code == 404
    with pytest.raises(errors.UnknownRevision):
        local.read("x", version="f" * 64)
    with pytest.raises(errors.UnknownRevision):
        local.read("x", version="main")
    with pytest.raises(errors.UnknownRevision):
        local.at("0")


def test_ranges(local: DorkyClient) -> None:
    local.upload(BIG, "x")
    local.upload(b"abc", "y")
    chance = random.Random(5)
    for _ in range(20):
        start = chance.randrange(len(BIG))
        end = start + chance.choice([0, 1, 100, 2 * MiB, 9 * MiB])
        assert local.read("x", start=start, end=end) == BIG[start:end]
    assert local.read("y", start=3) == local.read("y", start=9, end=99) == b""
    for start, end in ((-1, None), (2, 1)):
        with pytest.raises(errors.BadRequestError):
            local.read("y", start=start, end=end)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("bytes=1-2", b"bc"), ("0-0", b"a"), ("bytes=2-", b"cd"), ("-2", b"cd"), ("1-99", b"bcd")],
)
def test_ranges_of_http(local: DorkyClient, wanted: str, found: bytes) -> None:
    local.upload(b"abcd", "x")
    out = io.BytesIO()
    done = local.download("x", out, byte_range=wanted)
    assert out.getvalue() == found
    assert (done.local_path, done.info.size) == ("", 4)
    for bad in ("bytes=", "a-b", "5-", "2-1", "1", "1-2-3", "-"):
        with pytest.raises(errors.BadRequestError):
            local.download("x", io.BytesIO(), byte_range=bad)


def test_a_stream_of_even_blocks(local: DorkyClient) -> None:
    local.upload(BIG, "x")
    local.upload(b"", "empty")
    found = [*local.stream("x", chunk_size=300_000)]
    assert b"".join(found) == BIG
    assert {len(block) for block in found[:-1]} == {300_000}
    assert [*local.stream("empty")] == []
    with pytest.raises(errors.BadRequestError):
        local.stream("x", chunk_size=0)


def test_a_download_is_whole_or_not_there(
    local: DorkyClient, tmp_path: Path, url: str, backend: Backend
) -> None:
    local.upload(BIG, "dir/x")
    target = tmp_path / "out"
    target.write_bytes(b"old")
    (pack,) = Path(url.removeprefix("file://")).glob("packs/*")
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    with pytest.raises(dorky.IntegrityError):
        backend.client(url).download("dir/x", target)
    assert target.read_bytes() == b"old"

    # On an event loop, an interrupt ends the loop.
    interrupt = KeyboardInterrupt if isinstance(local, DorkyClient) else ZeroDivisionError

    def stop(_: Progress) -> None:
        raise interrupt

    local.upload(noise(3 * MiB, 2), "y")
    with pytest.raises(interrupt):
        local.download("y", target, progress=stop)
    assert {path.name for path in tmp_path.iterdir() if "dir" not in path.name} == {"out"}
    assert target.read_bytes() == b"old"


def test_a_download_into_a_directory(local: DorkyClient, tmp_path: Path) -> None:
    local.upload(b"x", "a/b.txt")
    assert local.download("a/b.txt", tmp_path).local_path == str(tmp_path / "b.txt")
    done = local.download("a/b.txt", f"{tmp_path}/new/")
    assert Path(done).read_bytes() == b"x"
    assert done.local_path == str(tmp_path / "new" / "b.txt")


def test_progress_is_absolute_and_ends_with_the_commit(local: DorkyClient, tmp_path: Path) -> None:
    told: list[Progress] = []

    def note(one: Progress) -> None:
        # Nothing is done before the commit is.
        assert (one.done == one.total) is (one.files_done == 1)
        assert local.exists("x") is (one.files_done == 1)
        told.append(one)

    local.upload(BIG, "x", progress=note)
    done = [one.done for one in told]
    assert done == sorted(done)
    assert done[-1] == len(BIG)
    assert {one.operation for one in told} == {"upload"}
    told.clear()
    local.download("x", tmp_path / "x", progress=told.append)
    assert told[-1].done == told[-1].total == len(BIG)
    told.clear()
    local.upload(iter([b"1", b"2"]), "y", progress=told.append)
    assert [one.total for one in told][-1] == 2


# --- keys that make repeats harmless --------------------------------------------------------


def test_a_repeat_with_the_same_key_changes_nothing(local: DorkyClient, backend: Backend) -> None:
    first = local.upload(b"1", "x", idempotency_key="job-7")
    local.upload(b"2", "x")
    for client in (local, backend.client(local.url)):
        again = client.upload(b"1", "x", idempotency_key="job-7")
        assert again == first
        with pytest.raises(dorky.ConflictError) as caught:
            client.upload(b"other", "x", idempotency_key="job-7")
        assert isinstance(caught.value, errors.IdempotencyKeyReused)
        with pytest.raises(errors.IdempotencyKeyReused):
            client.upload(b"1", "y", idempotency_key="job-7")
    assert local.read("x") == b"2"
    assert len([*local.log()]) == 2
    # The same content under another key is an upload.
    assert local.upload(b"2", "x", idempotency_key="job-8").version != first.version


def test_an_upload_that_changes_nothing_is_no_commit(local: DorkyClient) -> None:
    first = local.upload(b"1", "x")
    assert local.upload(b"1", "x") == first
    assert len([*local.log()]) == 1
    assert local.move("x", "x").version == first.version


def test_a_file_info_says_which_version_it_is(local: DorkyClient) -> None:
    info = local.upload(b"1", "a/b")
    assert info.id == f"{info.version}:a/b"
    assert isinstance(info, FileInfo)
    with pytest.raises(AttributeError):
        info.path = "other"  # type: ignore[misc]
    with pytest.raises(errors.BadRequestError):
        local.read(info.id, version="f" * 64)


def test_a_fresh_client_looks_at_one_version(local: DorkyClient, backend: Backend) -> None:
    first = local.upload(b"one", "x")
    local.upload(b"two", "x")
    for look in (
        lambda client: [commit.version for commit in client.log()],
        lambda client: [info.version for info in client.versions("x")],
        lambda client: [info.version for info in client.list()],
    ):
        assert look(backend.client(local.url).at(first.version)) == [first.version]
    with pytest.raises(errors.UnknownRevision):
        [*backend.client(local.url).at("0" * 64).log()]


@pytest.mark.parametrize("how", ["delete", "delete all", "copy", "move"])
def test_no_change_is_lost_that_the_client_has_not_seen(
    local: DorkyClient, backend: Backend, how: str
) -> None:
    local.upload(b"one", "dir/x")
    local.upload(b"source", "source")
    backend.client(local.url).upload(b"two", "dir/x", force=True)
    change = {
        "delete": lambda: local.delete("dir/x"),
        "delete all": lambda: local.delete("dir", recursive=True),
        "copy": lambda: local.copy("source", "dir/x"),
        "move": lambda: local.move("source", "dir/x"),
    }[how]
    with pytest.raises(dorky.ConflictError):
        change()
    assert local.read("dir/x") == b"two"
    assert local.read("source") == b"source"
    change()  # now it is seen
