"""Many files at once, directories, and file objects."""

from __future__ import annotations

import gc
import gzip
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from backends import Backend
from machines import Machine, noise
from servers import Remote

import dorky
from dorky import errors
from dorky.client import ABSENT, DorkyClient, Progress
from dorky.drivers.file import FileDriver
from dorky.format import model
from dorky.format.model import MiB
from dorky.library import folders

FILES = {"a.txt": b"a", "sub/b.bin": noise(MiB), "sub/deep/c": b"", "sub/d.log": b"log"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    for path, data in FILES.items():
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).write_bytes(data)
    return made


def held(client: DorkyClient) -> dict[str, bytes]:
    return {info.path: client.read(info.id) for info in client.list()}


def on_disk(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- batches --------------------------------------------------------------------------------


def test_a_batch_is_one_commit(
    client: DorkyClient, place: Remote, folder: Path, tmp_path: Path
) -> None:
    told: list[Progress] = []
    items = [(folder / path, path) for path in FILES]
    done = client.upload_batch([*items, (b"x", "more/x")], prefix="up", progress=told.append)
    assert [item.path for item in done.items] == [*(f"up/{path}" for path in FILES), "up/more/x"]
    assert {item.info.version for item in done.items if item.info} == {done.version}
    assert len([*client.log()]) == 1
    assert (told[-1].files_done, told[-1].files_total) == (5, 5)
    assert all(one.files_done == 0 for one in told[:5])
    ids = [item.info.id for item in done.items if item.info]
    client.delete("up", recursive=True)
    back = client.download_batch(ids, tmp_path / "back")
    assert on_disk(tmp_path / "back" / "up") == {**FILES, "more/x": b"x"}
    assert [item.local_path for item in back.items][-1] == str(tmp_path / "back/up/more/x")


def test_a_bad_item_fails_alone(local: DorkyClient, backend: Backend, tmp_path: Path) -> None:
    local.upload(b"1", "taken")
    other = backend.client(local.url)
    assert other.exists("taken")
    local.upload(b"2", "taken")
    items = [(b"x", "good"), (b"x", "taken"), (tmp_path / "none", "y"), (b"x", "../up")]
    with pytest.raises(dorky.BatchError, match="3 of 4 files of the batch failed") as caught:
        other.upload_batch(items)
    result = caught.value.facts["result"]
    kinds = [type(item.error) for item in result.items]  # type: ignore[attr-defined]
    assert kinds == [type(None), errors.UpdateConflict, errors.PathNotFound, errors.UnstorablePath]
    assert held(local) == {"taken": b"2", "good": b"x"}
    again = local.download_batch(["good", "none"], tmp_path / "d", return_exceptions=True)
    assert isinstance(again.failed[0].error, errors.NoSuchFile)
    assert on_disk(tmp_path / "d") == {"good": b"x"}


def test_two_items_of_one_path_are_two_versions(local: DorkyClient) -> None:
    done = local.upload_batch([(b"1", "x"), (b"2", "x")], force=True)
    assert len({item.info.version for item in done.items if item.info}) == 2
    assert local.read("x") == b"2"


def test_a_batch_tells_of_each_file_what_a_look_at_it_tells(local: DorkyClient) -> None:
    first = local.upload(b"same", "a")
    done = local.upload_batch([(b"same", "a"), (b"new", "b")], message="two")
    assert [item.info for item in done.items] == [local.stat("a"), local.stat("b")]
    assert done.items[0].info
    assert done.items[0].info.last_updated == first.last_updated


@pytest.mark.parametrize("how", ["batch", "folder"])
def test_many_files_cost_no_more_reads_of_their_directory(
    local: DorkyClient, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.upload_batch([(b"old", f"dir/{n}") for n in range(20)])
    read: list[str] = []
    decode = model.decode_tree

    def counted(body: bytes, tree: str, left_out: set[str] | None = None) -> model.Tree:
        read.append(tree)
        return decode(body, tree, left_out)

    monkeypatch.setattr(model, "decode_tree", counted)
    reads = []
    for count in (2, 40):
        read.clear()
        made = tmp_path / f"{count}"
        made.mkdir()
        for n in range(count):
            (made / f"{count}-{n}").write_bytes(b"new")
        if how == "batch":
            items = [(path, f"dir/{path.name}") for path in made.iterdir()]
            local.upload_batch(items)
        else:
            local.upload_folder(made, "dir")
        reads.append(len(read))
    assert reads[1] <= reads[0] + 2


def test_small_files_do_not_pile_up_in_memory(
    local: DorkyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "HELD", 1000)
    local.upload_batch([(noise(600, n), f"{n}") for n in range(9)])
    assert held(local) == {f"{n}": noise(600, n) for n in range(9)}
    assert len([*local.log()]) == 1


# --- changes that are made together ---------------------------------------------------------


def test_a_batch_of_changes_is_one_commit(client: DorkyClient, backend: Backend) -> None:
    client.upload(b"1", "old/a", metadata={"k": "v"})
    client.upload_batch([(b"2", "old/b"), (b"3", "gone"), (b"4", "d/x")])
    before = len([*client.log()])
    with client.batch(message="all at once") as batch:
        batch.upload(noise(400_000), "big", metadata={"n": "1"}, compress="gzip")
        batch.upload(b"first", "twice")
        batch.upload(b"second", "twice")
        batch.move("old/a", "new/a")
        batch.copy("new/a", "copy")
        batch.copy("big", "big2")
        batch.set_metadata("old/b", {"more": "1"})
        batch.delete("gone")
        batch.delete("d", recursive=True)
        batch.upload(b"a file now", "d")
        batch.upload(b"x", "passing/by")
        batch.delete("passing", recursive=True)
        with batch.open("written", "w") as file:
            file.write("text")
        assert batch.commit is None
        assert not client.exists("big")
    assert batch.commit
    assert batch.commit.message == "all at once"
    other = backend.client(client.url)
    assert held(other) == {
        "big": noise(400_000),
        "big2": noise(400_000),
        "copy": b"1",
        "d": b"a file now",
        "new/a": b"1",
        "old/b": b"2",
        "twice": b"second",
        "written": b"text",
    }
    assert other.stat("copy").custom == {"k": "v"}
    assert other.stat("old/b").custom == {"more": "1"}
    assert other.stat("big").compression == "gzip"
    assert len([*other.log()]) == before + 1


def changing(client: DorkyClient, change: Callable[[Any], object]) -> None:
    with client.batch() as batch:
        batch.upload(b"x", "early")
        change(batch)
        batch.upload(b"x", "late")


def _raise(batch: Any) -> None:
    raise ZeroDivisionError


CHANGES: dict[str, tuple[Callable[[Any], object], type[Exception]]] = {
    "an exception": (_raise, ZeroDivisionError),
    "a file left open": (lambda batch: batch.open("w", "wb").write(b"x"), errors.BadRequestError),
    "text left open": (lambda batch: batch.open("w", "w"), errors.BadRequestError),
    "no source": (lambda batch: batch.upload(3, "x"), errors.UsageError),
    "no path": (lambda batch: batch.upload(b"x"), errors.UsageError),
    "no such file": (lambda batch: batch.delete("none"), errors.NoSuchFile),
    "no such source": (lambda batch: batch.copy("none", "x"), errors.NoSuchFile),
    "nor to move": (lambda batch: batch.move("none", "x"), errors.NoSuchFile),
    "deleted in it": (
        lambda batch: (batch.delete("dir/a"), batch.set_metadata("dir/a", {})),
        errors.NoSuchFile,
    ),
    "a directory": (lambda batch: batch.delete("dir"), errors.IsADirectory),
    "a file below a file": (lambda batch: batch.upload(b"x", "dir/a/b"), errors.NotADirectory),
    "a name that clashes": (lambda batch: batch.upload(b"x", "DIR/b"), errors.NameClash),
    "to be read": (lambda batch: batch.open("dir/a", "rb"), errors.UsageError),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_batch_is_made_whole_or_not_at_all(local: DorkyClient, what: str) -> None:
    local.upload(b"1", "dir/a")
    change, kind = CHANGES[what]
    with pytest.raises(kind):
        changing(local, change)
    assert held(local) == {"dir/a": b"1"}
    assert len([*local.log()]) == 1


def test_a_batch_meets_what_others_do(local: DorkyClient, backend: Backend) -> None:
    first = local.upload(b"1", "x")
    other = backend.client(local.url)
    with pytest.raises(errors.UpdateConflict):
        changing(local, lambda batch: (batch.upload(b"3", "x"), other.upload(b"2", "x")))
    assert held(local) == {"x": b"2"}
    with local.batch() as batch:  # disjoint paths never conflict
        batch.upload(b"3", "y")
        other.upload(b"4", "z")
    assert held(local) == {"x": b"2", "y": b"3", "z": b"4"}
    for version in (first.version, ABSENT):
        with pytest.raises(errors.UpdateConflict), local.batch(if_version=version) as batch:
            batch.upload(b"5", "x")
    with local.batch(if_version=local.stat("x").version) as batch:
        batch.upload(b"5", "x")
    assert local.read("x") == b"5"


def test_a_batch_that_has_ended_takes_nothing(local: DorkyClient) -> None:
    with local.batch() as batch:
        pass
    assert batch.commit is None
    assert not [*local.log()]
    for late in (lambda: batch.upload(b"x", "x"), lambda: batch.open("x"), batch.__enter__):
        with pytest.raises(errors.UsageError, match="ended"):
            late()
    with pytest.raises(errors.UsageError), local.batch() as batch:
        left = batch.open("x", "wb")
    left.close()
    assert not [*local.log()]
    with pytest.raises(errors.ReadOnlyClient):
        local.at(local.upload(b"x", "x").version).batch()


@pytest.mark.every_loop
def test_threads_share_a_batch_in_bounded_memory(
    local: DorkyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "HELD", 1000)
    with local.batch() as batch, ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(batch.upload, noise(600, n), f"{n}") for n in range(20)]:
            done.result()
    assert held(local) == {f"{n}": noise(600, n) for n in range(20)}
    assert len([*local.log()]) == 1


# --- directories ----------------------------------------------------------------------------


def test_a_directory_goes_up_and_comes_down(
    client: DorkyClient, folder: Path, tmp_path: Path
) -> None:
    info = client.upload_folder(folder, "data", message="all")
    assert (info.message, len([*client.log()])) == ("all", 1)
    assert held(client) == {f"data/{path}": data for path, data in FILES.items()}
    dest = tmp_path / "dest"
    plan = client.snapshot(dest, dry_run=True)
    assert not dest.exists()
    made = client.snapshot(dest)
    assert (made.written, made.version) == (plan.written, info.version)
    assert on_disk(dest / "data") == FILES
    again = client.snapshot(dest)
    assert (again.written, len(again.unchanged)) == ((), 4)


@pytest.fixture
def ranges(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the ranges that are asked for."""
    sizes: list[int] = []
    get_range = FileDriver.get_range

    def counted(self: FileDriver, key: str, start: int, end: int) -> bytes:
        sizes.append(end - start)
        return get_range(self, key, start, end)

    monkeypatch.setattr(FileDriver, "get_range", counted)
    return sizes


@pytest.mark.parametrize("how", ["snapshot", "batch"])
def test_small_files_come_together(
    local: DorkyClient, backend: Backend, tmp_path: Path, ranges: list[int], how: str
) -> None:
    files = {f"dir/{n:03}": noise(3000 + n) for n in range(400)} | {"large": noise(3 * MiB)}
    local.upload_batch([(data, path) for path, data in files.items()])
    other = backend.client(local.url)
    assert other.read("dir/000") == files["dir/000"]
    ranges.clear()
    if how == "snapshot":
        other.snapshot(tmp_path / "out")
    else:
        done = other.download_batch([*files], tmp_path / "out")
        assert [item.path for item in done.items] == [*files]
    assert on_disk(tmp_path / "out") == files
    assert len(ranges) <= 10


def test_a_large_file_comes_in_large_ranges(
    local: DorkyClient, backend: Backend, tmp_path: Path, ranges: list[int]
) -> None:
    local.upload(noise(48 * MiB), "x")
    other = backend.client(local.url)
    assert other.exists("x")
    ranges.clear()
    other.download("x", tmp_path / "out")
    of_content = [size for size in ranges if size > MiB // 16]  # the rest are pages of tables
    assert sum(of_content) > 48 * MiB
    assert len(of_content) <= 9


def test_a_damaged_file_among_many_fails_alone(
    local: DorkyClient, backend: Backend, tmp_path: Path, file_url: Remote
) -> None:
    files = {f"{n}": noise(100_000 + n) for n in range(4)}
    local.upload_batch([(data, path) for path, data in files.items()])
    (pack,) = (Path(file_url.url) / "packs").iterdir()
    flipped = bytearray(pack.read_bytes())
    flipped[50_000] ^= 1
    pack.write_bytes(flipped)
    client = backend.client(local.url)
    found = client.download_batch([*files], tmp_path / "out", return_exceptions=True)
    (failed,) = found.failed
    assert isinstance(failed.error, errors.CorruptObject)
    del files[failed.path]
    assert on_disk(tmp_path / "out") == files
    with pytest.raises(errors.CorruptObject):
        client.snapshot(tmp_path / "other")


def test_patterns_select_as_in_gitignore(local: DorkyClient, folder: Path, tmp_path: Path) -> None:
    local.upload_folder(folder, allow_patterns=["*.txt", "sub/"], ignore_patterns="*.log")
    assert sorted(held(local)) == ["a.txt", "sub/b.bin", "sub/deep/c"]
    made = local.snapshot(tmp_path / "d", allow_patterns=["**/c", "*.txt"])
    assert made.written == ("a.txt", "sub/deep/c")


def test_what_a_directory_lacks_is_deleted_if_asked(
    local: DorkyClient, folder: Path, tmp_path: Path
) -> None:
    local.upload_folder(folder)
    (folder / "a.txt").unlink()
    (folder / "new").write_bytes(b"new")
    local.upload_folder(folder)
    assert "a.txt" in held(local)
    local.upload_folder(folder, delete=True, ignore_patterns=["sub/"])
    assert sorted(held(local)) == ["new", "sub/b.bin", "sub/d.log", "sub/deep/c"]
    dest = tmp_path / "d"
    (dest / "old").mkdir(parents=True)
    (dest / "old" / "x").write_bytes(b"")
    (dest / "keep.me").write_bytes(b"")
    made = local.snapshot(dest, delete=True, ignore_patterns=["*.me"])
    assert made.deleted == ("old/x",)
    assert sorted(on_disk(dest)) == ["keep.me", "new", "sub/b.bin", "sub/d.log", "sub/deep/c"]
    assert not (dest / "old").exists()


def test_links_and_what_is_gits_stay_where_they_are(local: DorkyClient, folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_bytes(b"secret")
    local.upload_folder(folder)
    assert sorted(held(local)) == sorted(FILES)
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(errors.UnstorablePath, match="symbolic link"):
        local.upload_folder(folder)
    assert local.upload_folder(folder, ignore_patterns=["/link"])
    with pytest.raises(errors.NotFoundError):
        local.upload_folder(folder / "none")


def test_a_batch_brings_no_link_and_no_repository_of_git(
    ana: Machine, file_url: Remote, tmp_path: Path
) -> None:
    ana("init", file_url.url, "--recovery", "none")
    (ana.project / "link").symlink_to("/etc/passwd")
    ana("stage", "link")
    ana.commit({"a.txt": "a"})
    ana("push")
    dest = tmp_path / "dest"
    with ana.here():
        client = DorkyClient(file_url.url)
        client.upload_batch([(b"ref: x", "r/HEAD"), (b"x", "r/objects/x"), (b"x", "r/refs/x")])
        names = ["a.txt", "link", "r/HEAD", "r/objects/x", "r/refs/x"]
        done = client.download_batch(names, dest, return_exceptions=True)
    assert [item.path for item in done.failed] == names[1:]
    assert [path.name for path in dest.iterdir()] == ["a.txt"]


def test_a_snapshot_follows_no_link_out_of_its_directory(
    local: DorkyClient, tmp_path: Path
) -> None:
    local.upload(b"x", "sub/x")
    dest, outside = tmp_path / "d", tmp_path / "outside"
    dest.mkdir()
    outside.mkdir()
    (dest / "sub").symlink_to(outside)
    for call in (lambda: local.snapshot(dest), lambda: local.download_batch(["sub/x"], dest)):
        with pytest.raises((errors.UnsafePath, dorky.BatchError)):
            call()
    assert not [*outside.iterdir()]


def test_a_snapshot_plants_nothing_that_git_obeys(local: DorkyClient, tmp_path: Path) -> None:
    for path in ("bare/HEAD", "bare/objects/x", "bare/refs/x", "a/.gitattributes", "fine"):
        local.upload(b"x", path)
    made = local.snapshot(tmp_path / "d")
    assert made.written == ("fine",)
    assert made.left_out == ("a/.gitattributes", "bare/HEAD", "bare/objects/x", "bare/refs/x")


# --- file objects ---------------------------------------------------------------------------


def test_a_reader_seeks(local: DorkyClient) -> None:
    data = noise(6 * MiB)
    local.upload(data, "x")
    with local.open("x") as file:
        assert file.seekable()
        assert file.seek(-5, io.SEEK_END) == len(data) - 5
        assert file.read() == data[-5:]
        assert file.read(1) == b""
        file.seek(3 * MiB)
        assert file.read(100) == data[3 * MiB : 3 * MiB + 100]
        file.seek(0)
        assert file.read() == data
        with pytest.raises(OSError, match="position"):
            file.seek(-1)
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_a_reader_fetches_only_what_it_touches(
    client: DorkyClient, place: Remote, backend: Backend
) -> None:
    client.upload(noise(20 * MiB), "x")
    other = backend.client(client.url)
    assert other.exists("x")
    place.log.clear()
    with other.open("x") as file:
        file.seek(10 * MiB)
        assert file.read(10) == noise(20 * MiB)[10 * MiB : 10 * MiB + 10]
    assert place.log.down < 5 * MiB


def test_threads_share_a_reader(local: DorkyClient) -> None:
    data = noise(2 * MiB)
    local.upload(data, "x")
    with local.open("x") as file, ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda _: file.read(1000), range(300))]
    assert sorted(found) == sorted(data[at : at + 1000] for at in range(0, 300_000, 1000))


def test_what_is_written_is_committed_by_close(local: DorkyClient) -> None:
    with local.open("x", "wb", metadata={"k": "v"}) as file:
        for n in range(100):
            file.write(bytes([n]) * 50_000)
        assert not local.exists("x")
    assert local.read("x") == b"".join(bytes([n]) * 50_000 for n in range(100))
    assert local.stat("x").custom == {"k": "v"}
    with local.open("t", "w") as text:
        text.write("zeile\nünï\n")
    with local.open("t", "r") as text:
        assert [*text] == ["zeile\n", "ünï\n"]
    with local.open("z", "wb") as raw, gzip.open(raw, "wt") as text:
        text.write("packed")
    assert gzip.decompress(local.read("z")) == b"packed"
    with pytest.raises(dorky.ConflictError):
        local.open("x", "xb").close()
    with pytest.raises(errors.BadRequestError):
        local.open("x", "r+b")


def wrapped(file: object) -> io.TextIOWrapper:
    return io.TextIOWrapper(file)  # type: ignore[type-var]


def test_what_an_exception_ends_is_not_committed(local: DorkyClient) -> None:
    def fail(file: Any, data: object) -> None:
        with file:
            file.write(data)
            raise ZeroDivisionError

    for mode, data in (("wb", b"x"), ("w", "x")):
        with pytest.raises(ZeroDivisionError):
            fail(local.open("x", mode), data)
    with pytest.raises(ZeroDivisionError):
        fail(wrapped(local.open("x", "wb")), "x")
    for mode in ("wb", "w"):
        left = local.open("x", mode)
        left.write(b"x" if mode == "wb" else "x")
        del left
        gc.collect()
    assert not [*local.list()]
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        # An exception that was there before has nothing to do with the file.
        with local.open("x", "wb") as file:
            file.write(b"fine")
    assert local.read("x") == b"fine"


def test_an_error_reaches_whoever_writes(local: DorkyClient) -> None:
    local.upload(b"x", "dir/x")
    with pytest.raises(errors.IsADirectory), local.open("dir", "wb") as file:
        file.write(os.urandom(3 * MiB))
    assert local.read("dir/x") == b"x"
