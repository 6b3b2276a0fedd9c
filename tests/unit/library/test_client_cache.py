"""What a client has read serves the clients after it, as it is stored, and never instead of checks.

Each client is made afresh, as in another process: nothing but the cache is left of the one before.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import snapshots
from calls import Requests
from machines import noise
from servers import Remote
from teams import start

import dorky
from dorky import errors
from dorky.client import Config, DorkyClient

MiB = 1 << 20


@pytest.fixture(autouse=True)
def _on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DORKY_CLIENT_CACHE")


def cached() -> dict[Path, bytes]:
    """The entries of the cache."""
    found = (Path.home() / ".cache").rglob("*")
    return {path: path.read_bytes() for path in found if path.is_file() and len(path.name) == 64}


def read(url: str, path: str, **keywords: object) -> bytes:
    with DorkyClient(url, **keywords) as client:  # type: ignore[arg-type]
        return client.read(path)


@pytest.fixture
def url(file_url: Remote) -> str:
    """A repository with a file of several chunks, and packs enough to need a table."""

    def make() -> None:
        with DorkyClient.create(file_url.url, cache=False) as client:
            client.upload(noise(5 * MiB, 1), "models/large")
            client.upload(b"secret", "small")
            for n in range(3):
                client.upload(noise(200_000, n), f"runs/{n}")

    snapshots.once([Path(file_url.url), Path.home()], make, "cached")
    return file_url.url


def test_the_next_process_asks_whether_the_root_is_new_and_for_nothing_else(
    url: str, asked: Requests
) -> None:
    large = noise(5 * MiB, 1)

    def kilobyte() -> bytes:
        with DorkyClient(url) as client:
            return client.read("models/large", start=3 * MiB, end=3 * MiB + 1024)

    assert kilobyte() == large[3 * MiB : 3 * MiB + 1024]
    cold = len(asked)
    assert cold > 3
    asked.clear()
    assert kilobyte() == large[3 * MiB : 3 * MiB + 1024]
    assert [(verb, key, size) for verb, key, size in asked] == [("get", "root", 0)]


def test_the_root_is_asked_for_on_condition_wherever_it_is(place: Remote) -> None:
    with DorkyClient.create(place.url, cache=False) as client:
        client.upload(noise(300_000, 1), "runs/1")
    assert read(place.url, "runs/1") == noise(300_000, 1)
    place.log.clear()
    assert read(place.url, "runs/1") == noise(300_000, 1)
    if not place.url.startswith("/"):
        assert len(place.log) == 1
        assert place.log.down < 1000
    with DorkyClient(place.url, cache=False) as client:
        client.upload(b"newer", "runs/1")
    assert read(place.url, "runs/1") == b"newer"


@pytest.mark.parametrize(
    "use",
    [
        lambda client, _: client.stat("models/large"),
        lambda client, tmp: client.download("models/large", tmp / "large"),
        lambda client, tmp: client.snapshot(tmp / "all"),
        lambda client, _: [*client.list()],
    ],
    ids=["stat", "download", "snapshot", "list"],
)
def test_history_is_not_fetched_again_either(
    url: str, asked: Requests, tmp_path: Path, use: Callable[[DorkyClient, Path], object]
) -> None:
    with DorkyClient(url) as client:
        use(client, tmp_path)
    asked.clear()
    shutil.rmtree(tmp_path / "all", ignore_errors=True)
    with DorkyClient(url) as client:
        use(client, tmp_path)
    assert [(verb, key, size) for verb, key, size in asked] == [("get", "root", 0)]


def test_what_is_new_is_read(url: str, asked: Requests) -> None:
    read(url, "small")
    with DorkyClient(url, cache=False) as writer:
        writer.upload(b"newer", "small")
    asked.clear()
    assert read(url, "small") == b"newer"
    asked.clear()
    assert read(url, "small") == b"newer"
    assert [size for _, _, size in asked] == [0]


def test_nothing_is_kept_unencrypted(url: str) -> None:
    with DorkyClient(url) as client:
        client.read("small")
        client.read("models/large")
        assert client.stat("small").uploaded_by
    held = cached()
    assert len(held) > 5
    for path, data in held.items():
        assert path.stat().st_mode & 0o777 == 0o600
        for known in (b"secret", b"models", noise(5 * MiB, 1)[:64]):
            assert known not in data
            assert known.hex() not in path.name
    top = Path.home() / ".cache" / "dorky" / "client-1"
    assert top.stat().st_mode & 0o777 == 0o700


def test_where_it_is_and_whether(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Requests
) -> None:
    places = [tmp_path / name for name in ("given", "named", "xdg")]
    read(url, "small", cache=False)
    monkeypatch.setenv("DORKY_CLIENT_CACHE", "no")
    read(url, "small")
    read(url, "small", config=Config(cache=False), cache_max_size=MiB)
    assert not (Path.home() / ".cache").exists()
    read(url, "small", cache=places[0])
    monkeypatch.setenv("DORKY_CLIENT_CACHE", str(places[1]))
    read(url, "small")
    monkeypatch.setenv("DORKY_CLIENT_CACHE", "yes")
    monkeypatch.setenv("XDG_CACHE_HOME", str(places[2]))
    read(url, "small")
    assert [[path.name for path in place.iterdir()] for place in places] == [
        ["client-1"],
        ["client-1"],
        ["dorky"],
    ]
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    read(url, "small", cache=True)
    assert cached()
    asked.clear()
    read(url, "small", cache=str(places[0]))
    assert [size for _, _, size in asked] == [0]
    with pytest.raises(dorky.BadRequestError):
        read(url, "small", cache_max_size=1000)
    monkeypatch.setenv("DORKY_CLIENT_CACHE_MAX_SIZE", "1000")
    with pytest.raises(dorky.BadRequestError, match="at least 1 MiB"):
        read(url, "small")


@pytest.mark.parametrize("damage", ["flipped", "empty", "longer", "another", "link", "directory"])
def test_a_wrong_entry_is_read_from_the_remote(url: str, damage: str, asked: Requests) -> None:
    whole = noise(5 * MiB, 1)
    with DorkyClient(url) as client:
        client.read("models/large")
        client.download("models/large", Path.home() / "copy")
    held = cached()
    for path, data in held.items():
        path.unlink()
        if damage == "flipped":
            path.write_bytes(data[:-40] + bytes([data[-40] ^ 1]) + data[-39:])
        elif damage == "empty":
            path.write_bytes(b"")
        elif damage == "longer":
            path.write_bytes(data + b"\0")
        elif damage == "another":
            path.write_bytes(next(other for other in held.values() if other != data))
        elif damage == "link":
            path.symlink_to("/etc/passwd")
        else:
            path.mkdir()
    asked.clear()
    assert read(url, "models/large") == whole
    with DorkyClient(url) as client:
        assert client.stat("models/large").size == len(whole)
    if damage != "directory":  # what was wrong has been replaced
        asked.clear()
        assert read(url, "models/large") == whole
        assert [size for _, _, size in asked] == [0]


def test_an_older_root_that_was_planted_does_not_count(url: str) -> None:
    """It has the version that the remote has now, so that the remote says that nothing is new."""
    read(url, "small")
    (entry,) = (Path.home() / ".cache/dorky/client-1/roots").iterdir()
    older = entry.read_bytes()
    with DorkyClient(url) as writer:
        writer.upload(b"newer", "small")
    assert read(url, "small") == b"newer"
    now = entry.read_bytes()
    length = 2 + int.from_bytes(now[:2], "big")
    entry.write_bytes(now[:length] + older[2 + int.from_bytes(older[:2], "big") :])
    assert read(url, "small") == b"newer"


def test_a_directory_that_others_can_write_to_is_not_used(url: str, tmp_path: Path) -> None:
    top = tmp_path / "kept" / "client-1"
    for mode in (0o777, 0o770, 0o701):
        top.mkdir(parents=True)
        top.chmod(mode)
        assert read(url, "small", cache=tmp_path / "kept") == b"secret"
        assert not [*top.iterdir()]
        top.rmdir()
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    top.symlink_to(other)
    assert read(url, "small", cache=tmp_path / "kept") == b"secret"
    assert not [*other.iterdir()]
    top.unlink()
    top.write_bytes(b"a file")
    assert read(url, "small", cache=tmp_path / "kept") == b"secret"
    assert read(url, "small", cache=tmp_path / "kept" / "client-1" / "deeper") == b"secret"


def test_a_disk_without_room_or_that_refuses_does_no_harm(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(url, "small")
    own = os.open

    def refused(path: object, flags: int, *args: object, **how: object) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR) and how.get("dir_fd") is not None:
            raise OSError(28, "No space left on device")
        return own(path, flags, *args, **how)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refused)
        assert read(url, "models/large") == noise(5 * MiB, 1)
    home = Path.home()
    monkeypatch.setenv("HOME", str(home / "missing"))
    assert read(url, "small", identity=home / ".dorky" / "identity") == b"secret"


def test_two_repositories_share_a_cache(url: str, tmp_path: Path) -> None:
    with DorkyClient.create(str(tmp_path / "other"), unencrypted=True) as other:
        other.upload(b"public", "small")
    for _ in range(2):
        assert read(url, "small") == b"secret"
        assert read(other.url, "small", unencrypted=True) == b"public"
    # A repository in the place of another: the root that is kept of the place is not its.
    shutil.rmtree(Path(url))
    shutil.copytree(tmp_path / "other", Path(url))
    with pytest.raises(dorky.IntegrityError):
        read(url, "small")
    assert read(url, "small", unencrypted=True) == b"public"


def test_a_purge_empties_it(
    tmp_path: Path, file_url: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = start(tmp_path, file_url)
    with ana.here():
        monkeypatch.delenv("DORKY_CLIENT_CACHE", raising=False)
        ana.commit({"leaked": b"hunter2" * 9000, "kept": b"kept"})
        ana("push")
        assert read(file_url.url, "leaked") == b"hunter2" * 9000
        before = {*cached()}
        assert before
        ana("purge", "leaked", "--yes")
        assert read(file_url.url, "kept") == b"kept"
        after = {*cached()}
        assert not {path for path in before & after if path.parent.name != "roots"}


def test_what_is_far_larger_is_not_kept_and_drives_nothing_out(url: str, asked: Requests) -> None:
    """A whole file of over a quarter of the limit; a part of it is kept."""

    def kilobyte() -> bytes:
        with DorkyClient(url, cache_max_size=16 * MiB) as client:
            return client.read("models/large", start=MiB, end=MiB + 1024)

    read(url, "small", cache_max_size=16 * MiB)
    before = {*cached()}
    asked.clear()
    assert read(url, "models/large", cache_max_size=16 * MiB) == noise(5 * MiB, 1)
    assert before <= {*cached()}
    assert sum(len(data) for data in cached().values()) < MiB
    assert kilobyte() == noise(5 * MiB, 1)[MiB : MiB + 1024]
    asked.clear()
    assert kilobyte() == noise(5 * MiB, 1)[MiB : MiB + 1024]
    assert len(asked) == 1


def test_a_snapshot_of_the_cache_alone_sends_no_request(
    url: str, asked: Requests, tmp_path: Path
) -> None:
    with DorkyClient(url) as client:
        client.snapshot(tmp_path / "a", allow_patterns=["runs/", "small"])
        asked.clear()
        made = client.snapshot(tmp_path / "b", allow_patterns=["runs/", "small"], local_only=True)
        assert set(made.written) == {"small", "runs/0", "runs/1", "runs/2"}
        assert (tmp_path / "b/runs/1").read_bytes() == noise(200_000, 1)
        # What the directory holds need not be in the cache.
        (tmp_path / "b/models").mkdir()
        (tmp_path / "b/models/large").write_bytes(noise(5 * MiB, 1))
        again = client.snapshot(tmp_path / "b", local_only=True)
        assert (again.written, len(again.unchanged)) == ((), 5)
        for dry_run in (False, True):
            with pytest.raises(errors.NotCached, match="content of models/large of"):
                client.snapshot(tmp_path / "c", local_only=True, dry_run=dry_run)
        assert not (tmp_path / "c").exists()
        assert not asked
    with DorkyClient(url, cache=False) as client, pytest.raises(errors.NotCached, match="root"):
        client.snapshot(tmp_path / "c", local_only=True)
    with DorkyClient(url) as client:
        version = client.snapshot(
            tmp_path / "d", local_only=True, dry_run=True, ignore_patterns="models"
        )
        with DorkyClient(url, cache=False) as writer:
            writer.upload(b"newer", "small")
        for at in ("", version.version):
            made = client.snapshot(
                tmp_path / "d", allow_patterns="small", version=at, local_only=True
            )
            assert (tmp_path / "d/small").read_bytes() == b"secret"
    asked.clear()
    cold = DorkyClient(url, cache=tmp_path / "cold")
    cold.read("small")
    asked.clear()
    with pytest.raises(errors.NotCached), cold:
        cold.snapshot(tmp_path / "e", local_only=True)
    assert not asked
