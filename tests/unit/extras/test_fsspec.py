"""`dorky://` as a file system of fsspec's, where it has more to say than fsspec's own suite."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from servers import Remote
from web import web_server

from dorky import errors
from dorky.client import Credentials, DorkyClient
from dorky.extras.fsspec import DorkyFileSystem
from dorky.keys import age

TREE = {"a.csv": b"1,2", "data/b.csv": b"3", "data/deep/c.bin": b"4" * 5000, "data2/d": b""}


@pytest.fixture
def fs(file_url: Remote) -> DorkyFileSystem:
    client = DorkyClient.create(file_url.url)
    return DorkyFileSystem(client.url, skip_instance_cache=True)


@pytest.fixture
def tree(fs: DorkyFileSystem) -> DorkyFileSystem:
    fs.pipe(TREE)
    return fs


def commits(fs: DorkyFileSystem) -> int:
    return len([*fs.client.log()])


# --- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "options", "path"),
    [
        ("dorky://a/b.csv", {}, "a/b.csv"),
        ("dorky:///a/", {}, "a"),
        ("dorky://", {}, ""),
        ("a/b", {}, "a/b"),
        ("dorky+s3://bucket/prefix//a/b", {"remote": "s3://bucket/prefix"}, "a/b"),
        ("dorky+s3://bucket//a", {"remote": "s3://bucket"}, "a"),
        ("dorky+gs://bucket/p", {"remote": "gs://bucket/p"}, ""),
        ("dorky+file:///srv/vault//a", {"remote": "file:///srv/vault"}, "a"),
        ("dorky+https://example.org/x//a//", {"remote": "https://example.org/x"}, "a"),
    ],
)
def test_urls(url: str, options: dict[str, str], path: str) -> None:
    assert DorkyFileSystem._get_kwargs_from_urls(url) == options
    assert DorkyFileSystem._strip_protocol(url) == path
    assert DorkyFileSystem._strip_protocol([url, Path("x")]) == [path, "x"]


def test_a_url_is_all_that_is_needed(tree: DorkyFileSystem) -> None:
    url = tree.unstrip_protocol("data/b.csv")
    assert url.startswith("dorky+file:///")
    found, path = url_to_fs(url)
    assert path == "data/b.csv"
    assert found.unstrip_protocol(path) == url
    with fsspec.open(url, "rt") as file:
        assert file.read() == "3"
    assert DorkyFileSystem().unstrip_protocol("x") == "dorky://x"
    assert tree.fsid == f"dorky_{tree.client.url}"


def test_the_environment_names_the_repository(
    tree: DorkyFileSystem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.NotARepository):
        fsspec.filesystem("dorky").ls("")
    monkeypatch.setenv("DORKY_URL", tree.client.url)
    # fsspec keeps instances: none of another repository may be taken.
    assert fsspec.filesystem("dorky").cat("dorky://a.csv") == b"1,2"
    assert fsspec.filesystem("dorky") is fsspec.filesystem("dorky")


# --- commits --------------------------------------------------------------------------------


def test_each_call_is_one_commit(tree: DorkyFileSystem, tmp_path: Path) -> None:
    assert commits(tree) == 1
    for n in range(20):
        (tmp_path / "many" / f"{n % 3}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "many" / f"{n % 3}" / f"{n}").write_bytes(b"x" * n)
    calls = [
        lambda: tree.pipe("one", b"1"),
        lambda: tree.pipe({f"many/{n}": b"%d" % n for n in range(30)}),
        lambda: tree.put(str(tmp_path / "many"), "put", recursive=True),
        lambda: tree.put([str(tmp_path / "many/0/0"), str(tmp_path / "many/1/1")], ["p/0", "p/1"]),
        lambda: tree.put_file(str(tmp_path / "many/0/0"), "single"),
        lambda: tree.cp("data", "copied", recursive=True),
        lambda: tree.cp_file("a.csv", "b.csv"),
        lambda: tree.mv("data", "moved", recursive=True),
        lambda: tree.mv("b.csv", "c.csv"),
        lambda: tree.rm("many", recursive=True),
        lambda: tree.rm(["one", "c.csv"]),
        lambda: tree.rm_file("single"),
        lambda: tree.touch("empty"),
        lambda: tree.write_text("text", "x"),
    ]
    for n, call in enumerate(calls):
        call()
        assert commits(tree) == n + 2
    assert tree.find("") == [
        *("a.csv", "copied/b.csv", "copied/deep/c.bin", "data2/d", "empty"),
        *("moved/b.csv", "moved/deep/c.bin", "p/0", "p/1"),
        *sorted(f"put/{n % 3}/{n}" for n in range(20)),
        "text",
    ]
    assert tree.cat("moved/deep/c.bin") == TREE["data/deep/c.bin"]


def test_a_transaction_is_one_commit(tree: DorkyFileSystem, tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"local")
    with tree.transaction:
        with tree.open("t/open", "wb") as file:
            file.write(b"open")
        with tree.open("t/text", "w") as file:
            file.write("text")
        tree.pipe("t/pipe", b"pipe")
        tree.put(str(tmp_path / "local"), "t/put")
        tree.cp("a.csv", "t/cp")
        tree.mv("data/b.csv", "t/mv")
        tree.rm("data2", recursive=True)
        assert not tree.exists("t/open")
        assert commits(tree) == 1
    assert commits(tree) == 2
    assert tree.cat("t", recursive=True) == {
        **{f"t/{name}": name.encode() for name in ("open", "text", "pipe")},
        **{"t/put": b"local", "t/cp": b"1,2", "t/mv": b"3"},
    }
    assert not tree.exists("data2")
    tree.start_transaction()
    tree.pipe("later", b"x")
    assert not tree.exists("later")
    tree.end_transaction()
    assert tree.cat("later") == b"x"


def test_a_transaction_that_fails_changes_nothing(tree: DorkyFileSystem) -> None:
    def fail() -> None:
        with tree.transaction:
            tree.pipe("x", b"1")
            tree.open("y", "wb").write(b"2")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with pytest.raises(errors.UsageError, match="still open"), tree.transaction:
        left = tree.open("z", "wb")
    assert left.closed
    assert commits(tree) == 1
    tree.pipe("x", b"after")  # outside of any transaction
    assert commits(tree) == 2


def test_a_bulk_call_that_fails_changes_nothing(tree: DorkyFileSystem, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"x")
    with pytest.raises(FileNotFoundError):
        tree.put([str(tmp_path / "good"), str(tmp_path / "none")], ["x/good", "x/none"])
    with pytest.raises(FileNotFoundError):
        tree.rm(["a.csv", "none"])
    with pytest.raises(errors.UnstorablePath):
        tree.pipe({"fine": b"", "../x": b""})
    assert commits(tree) == 1
    tree.pipe("alone", b"")
    assert commits(tree) == 2


def test_nothing_changed_is_no_commit(tree: DorkyFileSystem) -> None:
    tree.pipe({})
    tree.mkdir("new")
    tree.makedirs("new/er", exist_ok=True)
    tree.cp("data", "data", recursive=True)
    assert commits(tree) == 1


def test_the_last_writer_wins_and_history_keeps_the_other(
    tree: DorkyFileSystem, file_url: Remote
) -> None:
    assert tree.cat("a.csv") == b"1,2"
    DorkyClient(tree.client.url).upload(b"theirs", "a.csv")
    tree.pipe("a.csv", b"ours")
    DorkyClient(tree.client.url).upload(b"theirs again", "a.csv")
    tree.pipe({"a.csv": b"ours again", "other": b""})
    DorkyClient(tree.client.url).upload(b"third", "a.csv")
    with tree.open("a.csv", "wb") as file:
        file.write(b"ours, too")
    held = [tree.cat(info.id) for info in tree.client.versions("a.csv")]
    assert held[:3] == [b"ours, too", b"third", b"ours again"]
    assert held[-1] == b"1,2"


def test_create_is_exclusive(tree: DorkyFileSystem) -> None:
    # Somebody else is faster, after this client has looked.
    exists, tree.exists = tree.exists, lambda *_, **__: False  # type: ignore[method-assign]
    with pytest.raises(FileExistsError):
        tree.pipe_file("a.csv", b"x", mode="create")
    with pytest.raises(errors.UpdateConflict), tree.open("a.csv", "xb") as file:
        file.write(b"x")
    tree.exists = exists  # type: ignore[method-assign]
    with pytest.raises(FileExistsError):
        tree.open("a.csv", "xb")
    with pytest.raises(FileExistsError), tree.transaction:
        tree.pipe_file("a.csv", b"x", mode="create")
    with tree.open("fresh", "xb") as file:
        file.write(b"x")
    assert (tree.cat("a.csv"), tree.cat("fresh")) == (b"1,2", b"x")


# --- file objects ---------------------------------------------------------------------------


def test_files_are_opened_in_every_mode(tree: DorkyFileSystem) -> None:
    with tree.open("data/deep/c.bin") as file:
        assert (file.size, file.path) == (5000, "data/deep/c.bin")
        file.seek(-3, io.SEEK_END)
        assert file.read() == b"444"
    with tree.open("a.csv", "r", encoding="utf-16") as file, pytest.raises(UnicodeError):
        file.read()
    with tree.open("z.gz", "wt", compression="gzip") as file:
        file.write("packed")
    assert tree.cat("z.gz")[:2] == b"\x1f\x8b"
    with tree.open("z.gz", "rt", compression="infer") as file:
        assert file.read() == "packed"
    for mode in ("ab", "a", "r+b"):
        with pytest.raises(io.UnsupportedOperation, match="append"):
            tree.open("a.csv", mode)
    with pytest.raises(io.UnsupportedOperation, match="transaction"):
        tree.open("x", "wb", autocommit=False)
    for mode in ("rb", "r"):
        with pytest.raises(FileNotFoundError):
            tree.open("none", mode)
        with pytest.raises(IsADirectoryError):
            tree.open("data", mode)
    assert tree.read_block("data/deep/c.bin", 10, 20) == b"4" * 20
    assert tree.head("a.csv", 1) + tree.tail("a.csv", 1) == b"12"


def test_a_file_that_is_not_finished_is_not_there(tree: DorkyFileSystem) -> None:
    def fail(mode: str, half: Any, compression: str | None) -> None:
        with tree.open("x", mode, compression=compression) as file:
            file.write(half)
            raise ZeroDivisionError

    for compression in (None, "gzip"):
        for mode, half in (("wb", b"half"), ("w", "half")):
            with pytest.raises(ZeroDivisionError):
                fail(mode, half, compression)
    assert not tree.exists("x")


def test_options_of_uploads_are_taken(file_url: Remote) -> None:
    DorkyClient.create(file_url.url)
    fs = DorkyFileSystem(file_url.url, message="by the job", skip_instance_cache=True)
    fs.pipe_file("x", b"1", metadata={"k": "v"}, content_type="x/y")
    fs.pipe({"y": b"2"}, compress="gzip")
    found = fs.info("x")
    assert (found["metadata"], found["content_type"]) == ({"k": "v"}, "x/y")
    assert [commit.message for commit in fs.client.log()] == ["by the job"] * 2


# --- what is there --------------------------------------------------------------------------


def test_lists(tree: DorkyFileSystem) -> None:
    assert tree.ls("", detail=False) == ["a.csv", "data", "data2"]
    assert tree.ls("dorky://data/", detail=False) == ["data/b.csv", "data/deep"]
    assert tree.ls("a.csv") == [tree.info("a.csv")]
    assert [entry["type"] for entry in tree.ls("data")] == ["file", "directory"]
    for missing in ("none", "dat", "a.csv/x"):
        with pytest.raises(FileNotFoundError):
            tree.ls(missing)
        assert tree.find(missing) == []
        assert not tree.exists(missing)
    assert not tree.exists("../x")
    assert tree.find("") == sorted(TREE)
    assert tree.find("data", withdirs=True) == [
        *("data", "data/b.csv", "data/deep", "data/deep/c.bin")
    ]
    assert tree.find("data", maxdepth=1, withdirs=True) == ["data", "data/b.csv", "data/deep"]
    assert tree.find("a.csv") == ["a.csv"]
    with pytest.raises(ValueError, match="maxdepth"):
        tree.find("", maxdepth=0)
    assert tree.glob("**/*.csv") == ["a.csv", "data/b.csv"]
    assert tree.glob("data*/") == ["data", "data2"]
    assert [*tree.walk("data")] == [("data", ["deep"], ["b.csv"]), ("data/deep", [], ["c.bin"])]
    assert tree.du("data") == 5001
    assert (tree.isdir("data"), tree.isfile("data"), tree.isfile("a.csv")) == (True, False, True)
    assert (tree.isdir(""), tree.isdir("none")) == (True, False)


def test_what_is_known_of_a_file(tree: DorkyFileSystem) -> None:
    found = tree.info("dorky://a.csv")
    assert found == next(entry for entry in tree.ls("") if entry["name"] == "a.csv")
    assert (found["name"], found["size"], found["type"]) == ("a.csv", 3, "file")
    assert found["sha256"] == tree.ukey("a.csv")
    assert found["version"] == next(tree.client.log()).version
    first = tree.created("a.csv")
    assert tree.modified("a.csv") == first
    assert abs((datetime.now(timezone.utc) - first).total_seconds()) < 600
    before = tree.checksum("a.csv")
    tree.pipe("a.csv", b"other")
    assert tree.checksum("a.csv") != before
    assert tree.created("a.csv") == first
    tree.pipe("a.csv", TREE["a.csv"])
    assert tree.checksum("a.csv") == before
    for ask in (tree.checksum, tree.ukey, tree.modified):
        with pytest.raises(IsADirectoryError):
            ask("data")
        with pytest.raises(FileNotFoundError):
            ask("none")


def test_versions(tree: DorkyFileSystem) -> None:
    first = tree.info("a.csv")["version"]
    tree.pipe({"a.csv": b"new", "more": b""})
    assert tree.cat("a.csv", version=first) == b"1,2"
    assert tree.cat(f"{first}:a.csv") == b"1,2"
    assert tree.info(f"dorky://{first}:a.csv")["size"] == 3
    assert not tree.exists("more", version=first)
    assert "more" not in tree.ls("", detail=False, version=first)
    with tree.open("a.csv", version=first) as file:
        assert file.read() == b"1,2"
    then = DorkyFileSystem(tree.client.url, version=first)
    assert then.cat("a.csv") == b"1,2"
    assert then.find("") == sorted(TREE)
    for write in (lambda: then.pipe("x", b""), lambda: then.rm("a.csv"), lambda: then.touch("x")):
        with pytest.raises(errors.ReadOnlyClient):
            write()
    tree.cp(f"{first}:a.csv", "old.csv")
    assert tree.cat("old.csv") == b"1,2"


def test_contents(tree: DorkyFileSystem, tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    tree.pipe("big", data)
    for start, end in ((None, None), (5, 10), (-10, None), (-10, -3), (None, -5), (7, 7), (9, 2)):
        assert tree.cat_file("big", start, end) == data[start:end]
    assert tree.cat_file("big", 0, 1 << 30) == data
    assert tree.cat_file("big", 1 << 30, 2 << 30) == b""
    assert tree.cat("data", recursive=True) == {
        name: content for name, content in TREE.items() if name.startswith("data/")
    }
    assert tree.cat(["a.csv", "data2/d"]) == {"a.csv": b"1,2", "data2/d": b""}
    with pytest.raises(FileNotFoundError):
        tree.cat(["a.csv", "none"])
    assert tree.cat(["a.csv", "none"], on_error="omit") == {"a.csv": b"1,2"}
    kept = tree.cat(["a.csv", "none"], on_error="return")
    assert isinstance(kept["none"], FileNotFoundError)
    with pytest.raises(IsADirectoryError):
        tree.cat_file("data")
    parts = tree.cat_ranges(["big"] * 40 + ["none"], [*range(40), 0], [n + 9 for n in range(41)])
    assert parts[:40] == [data[n : n + 9] for n in range(40)]
    assert isinstance(parts[40], FileNotFoundError)
    assert tree.cat_ranges(["big", "a.csv"], 1, 3) == [data[1:3], b",2"]
    with pytest.raises(FileNotFoundError):
        tree.cat_ranges(["none"], 0, 1, on_error="raise")
    out = io.BytesIO()
    tree.get_file("big", out)
    assert out.getvalue() == data
    tree.get("data", str(tmp_path / "got"), recursive=True)
    assert LocalFileSystem().find(str(tmp_path / "got")) == [
        str(tmp_path / "got" / name) for name in ("b.csv", "deep/c.bin")
    ]


def test_progress_is_told(tree: DorkyFileSystem, tmp_path: Path) -> None:
    tree.pipe("big", bytes(3 << 20))
    seen = fsspec.callbacks.Callback()
    tree.get_file("big", str(tmp_path / "big"), callback=seen)
    assert (seen.size, seen.value) == (3 << 20, 3 << 20)
    sent = fsspec.callbacks.Callback()
    tree.put_file(str(tmp_path / "big"), "again", callback=sent)
    assert (sent.size, sent.value) == (3 << 20, 3 << 20)


def test_links_are_not_listed(tree: DorkyFileSystem, ana: Any) -> None:
    with ana.here():
        ana("init")
    ana("remote", "add", "origin", str(ana.base / "vault"))
    ana.commit({"file": "x"})
    (ana.project / "link").symlink_to("file")
    ana("stage", "link")
    ana("commit", "-m", "a link")
    ana("push")
    with ana.here():
        fs = DorkyFileSystem(str(ana.base / "vault"))
        assert fs.find("") == fs.ls("", detail=False) == ["file"]
        assert fs.info("link")["type"] == "link"
        assert not fs.isfile("link")
        fs.rm("link")
        assert not fs.exists("link")


def test_listings_may_be_kept(tree: DorkyFileSystem) -> None:
    kept = DorkyFileSystem(tree.client.url, use_listings_cache=True, skip_instance_cache=True)
    assert kept.ls("data2", detail=False) == ["data2/d"]
    tree.pipe("data2/e", b"")
    assert kept.ls("data2", detail=False) == ["data2/d"]
    assert not kept.exists("data2/e")
    kept.invalidate_cache()
    assert kept.ls("data2", detail=False) == ["data2/d", "data2/e"]
    kept.pipe("data2/f", b"own writes are seen")
    assert kept.exists("data2/f")
    with kept.open("data2/g", "wb") as file:
        file.write(b"x")
    assert kept.exists("data2/g")
    brief = DorkyFileSystem(
        tree.client.url,
        use_listings_cache=True,
        listings_expiry_time=0,
        skip_instance_cache=True,
    )
    assert not brief.exists("h")
    tree.pipe("h", b"")
    assert brief.exists("h")


def test_a_call_is_one_look_at_the_remote(
    tree: DorkyFileSystem, file_url: Remote, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DORKY_PRIVATE_HOSTS", "127.0.0.1")
    with web_server(Path(file_url.url.removeprefix("file://"))) as web:
        fs = DorkyFileSystem(web.url, skip_instance_cache=True)
        assert fs.find("") == sorted(TREE)
        assert fs.cat("", recursive=True) == TREE
        for call in (
            lambda: fs.find(""),
            lambda: fs.glob("**/*.csv"),
            lambda: fs.info("a.csv"),
            lambda: [*fs.walk("")],
            lambda: fs.du(""),
            lambda: fs.cat("", recursive=True),
            lambda: fs.cat_ranges([*TREE], 0, 1),
            lambda: fs.get("data", str(tmp_path / "got"), recursive=True),
        ):
            before = len(web.log)
            call()
            assert web.log[before:] == [("GET", "/root")]
        with pytest.raises(errors.ReadOnlyRemote):
            fs.pipe("x", b"")
        with pytest.raises(errors.ReadOnlyRemote), fs.transaction:
            pass
        assert fs.cat(fs.unstrip_protocol("a.csv")) == b"1,2"
        assert fs.unstrip_protocol("a.csv").startswith("dorky+http://127.0.0.1:")


# --- processes and threads ------------------------------------------------------------------


def read(fs: DorkyFileSystem) -> bytes:
    return bytes(fs.cat("a.csv"))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_worker_processes(tree: DorkyFileSystem, start: str) -> None:
    tree.find("")
    with multiprocessing.get_context(start).Pool(1) as pool:
        assert pool.apply_async(bytes.join, (b"", [b"x"])).get(120) == b"x"
        assert pool.apply_async(_cat, (pickle.dumps(tree),)).get(120) == b"1,2"


def _cat(pickled: bytes) -> bytes:
    return bytes(pickle.loads(pickled).cat("a.csv"))


def test_pickles_hold_no_secret(tree: DorkyFileSystem) -> None:
    again = pickle.loads(pickle.dumps(tree))
    assert again.cat("a.csv") == b"1,2"
    assert fsspec.AbstractFileSystem.from_json(tree.to_json()).cat("a.csv") == b"1,2"
    assert json.loads(tree.to_json())["protocol"] == "dorky"
    for secret in (
        {"identity": age.generate().secret},
        {"credentials": Credentials("AKIA", "very-secret")},
    ):
        fs = DorkyFileSystem(tree.client.url, skip_instance_cache=True, **secret)
        for leak in (lambda fs=fs: pickle.dumps(fs), lambda fs=fs: fs.to_json()):
            with pytest.raises(errors.CantPickle):
                leak()


def test_threads_write_apart(tree: DorkyFileSystem) -> None:
    def write(n: int) -> None:
        tree.pipe({f"t{n}/a": b"%d" % n, f"t{n}/b": b"x"})
        assert tree.cat(f"t{n}/a") == b"%d" % n

    with ThreadPoolExecutor(6) as pool:
        [*pool.map(write, range(6))]
    assert len(tree.find("")) == len(TREE) + 12


def test_a_mapping(tree: DorkyFileSystem) -> None:
    mapping = tree.get_mapper("map")
    mapping["x/y"] = b"1"
    mapping.setitems({"a": b"2", "b": b"3"})
    assert dict(mapping) == {"a": b"2", "b": b"3", "x/y": b"1"}
    del mapping["a"]
    assert commits(tree) == 4
    with pytest.raises(KeyError):
        mapping["a"]
