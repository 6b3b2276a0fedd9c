"""Single files of a repository, read without its history."""

from __future__ import annotations

from pathlib import Path

import pytest
from backends import Backend
from calls import Requests
from machines import Machine, driver_of, noise
from roles import Forge
from servers import Remote
from teams import joined, start

import dorky
from dorky import errors
from dorky.client import DorkyClient
from dorky.remote import cold
from dorky.remote.root import HEAD

MiB = 1 << 20


def pushes(client: DorkyClient, count: int) -> None:
    """Make packs: each upload is too large for the root."""
    for n in range(count):
        client.upload(noise(200_000, n), f"runs/{n}")


def test_a_part_of_a_large_file_takes_few_requests(
    local: DorkyClient, backend: Backend, asked: Requests
) -> None:
    large = noise(40 * MiB, 1)
    local.upload(large, "models/large")
    pushes(local, 20)
    asked.clear()
    reader = backend.client(local.url)
    assert (
        reader.read("models/large", start=30 * MiB, end=30 * MiB + 1024)
        == large[30 * MiB : 30 * MiB + 1024]
    )
    assert len(asked) <= 6, asked
    assert asked.size < 6 * MiB
    # From then on: whether there is a newer root, and the chunk.
    for at in (5 * MiB, 17 * MiB, 33 * MiB):
        asked.clear()
        assert reader.read("models/large", start=at, end=at + 10) == large[at : at + 10]
        assert len(asked) <= 2, asked
        assert asked.size < 5 * MiB
    asked.clear()
    assert reader.exists("models/large")
    assert not reader.exists("models/none")
    assert not reader.exists("models")
    assert {key for _, key, _ in asked} == {"root"}


def test_whatever_reads_a_file_reads_it_cold(
    local: DorkyClient, backend: Backend, asked: Requests
) -> None:
    held = {"small": b"x" * 10, "empty": b"", "a/b/c/large": noise(9 * MiB, 1)}
    for path, data in held.items():
        local.upload(data, path)
    pushes(local, 20)
    for path, data in held.items():
        for read in (
            lambda client, path: client.read(path),
            lambda client, path: b"".join(client.stream(path, chunk_size=1000)),
            lambda client, path: client.open(path).read(),
        ):
            asked.clear()
            assert read(backend.client(local.url), path) == data
            assert len(asked) <= 6 + len(data) // (MiB // 2), (path, asked)
    # What needs the history fetches it; then there is nothing cold about it.
    client = backend.client(local.url)
    assert client.read("small") == held["small"]
    assert client.stat("small").uploaded_by
    assert client.read("a/b/c/large") == held["a/b/c/large"]
    with pytest.raises(dorky.NotFoundError):
        backend.client(local.url).read("none")
    with pytest.raises(errors.IsADirectory):
        backend.client(local.url).read("a/b")


def test_what_was_read_cold_is_what_an_upload_expects(local: DorkyClient, backend: Backend) -> None:
    """Nothing but the file was read, and the next upload fetches all: the update is not lost."""
    local.upload(b"1", "x")
    local.upload(b"1", "y")
    for change in (lambda c: c.upload(b"mine", "x"), lambda c: c.upload_batch([(b"mine", "x")])):
        reader = backend.client(local.url)
        before = reader.read("x")
        local.upload(before + b"+", "x")
        with pytest.raises((dorky.UpdateConflict, dorky.BatchError)):
            change(reader)
        assert local.read("x") == before + b"+"
        # Disjoint paths never conflict, and afterwards the newest state is what was seen.
        reader = backend.client(local.url)
        reader.read("x")
        local.upload(before + b"++", "x")
        reader.upload(b"2", "y", force=True)
        reader.upload(b"mine", "x")
        assert local.read("x") == b"mine"
    reader = backend.client(local.url)
    reader.read("y")
    with reader.batch() as batch:
        local.upload(b"theirs", "z")
        batch.upload(b"mine", "y")
    assert (local.read("y"), local.read("z")) == (b"mine", b"theirs")


def test_a_path_that_was_absent_is_expected_to_be(local: DorkyClient, backend: Backend) -> None:
    local.upload(b"1", "x")
    reader = backend.client(local.url)
    assert not reader.exists("new")
    local.upload(b"theirs", "new")
    with pytest.raises(dorky.UpdateConflict):
        reader.upload(b"mine", "new")


def test_a_read_follows_a_collection_and_a_purge(
    tmp_path: Path, file_url: Remote, backend: Backend
) -> None:
    ana = start(tmp_path, file_url)
    client = ana_client(ana, file_url, backend)
    large = noise(3 * MiB, 1)
    client.upload(large, "large")
    pushes(client, 3)
    reader = ana_client(ana, file_url, backend)
    file = reader.open("large")
    assert file.read(10) == large[:10]
    client.upload(b"new", "new")
    ana("pull")
    ana("gc", "--remote", "--grace", "0")
    ana("gc", "--remote", "--grace", "0")
    file.seek(0)
    assert reader.read("new") == b"new"
    assert reader.read("large") == large
    assert file.read() == large


def url_path(client: DorkyClient) -> str:
    return client.url.removeprefix("file:")


def ana_client(ana: Machine, place: Remote, backend: Backend) -> DorkyClient:
    return backend.client(place.url, identity=ana.home / ".dorky" / "identity")


@pytest.mark.parametrize("known", ["in the home", "by the client alone"])
def test_no_older_root_follows_one_that_was_read_cold(
    local: DorkyClient,
    backend: Backend,
    known: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    local.upload(b"1", "x")
    root = Path(url_path(local)) / "root"
    old = root.read_bytes()
    local.upload(b"2", "x")
    newest = root.read_bytes()
    if known == "by the client alone":
        monkeypatch.setenv("DORKY_IDENTITY_FILE", str(Path.home() / ".dorky" / "identity"))
        monkeypatch.setenv("HOME", str(tmp_path / "none"))
    reader = backend.client(local.url)
    assert reader.read("x") == b"2"
    root.write_bytes(old)
    for call in (
        lambda: reader.read("x"),
        lambda: reader.stat("x"),
        lambda: reader.upload(b"3", "x"),
    ):
        with pytest.raises(errors.Rewound):
            call()
    if known == "in the home":
        with pytest.raises(errors.Rewound):
            backend.client(local.url).read("x")
    root.write_bytes(newest)
    assert reader.read("x") == b"2"
    assert reader.stat("x").size == 1


def test_a_history_that_was_replaced_since_a_cold_read(
    tmp_path: Path, file_url: Remote, backend: Backend
) -> None:
    """A writer puts another history into a newer root: a fetch after a cold read refuses it."""
    ana = start(tmp_path, file_url)
    forge = Forge(ana)
    first = forge.head
    ana.commit({"x": "1\n"})
    ana("push")
    reader = ana_client(ana, file_url, backend)
    assert reader.read("x") == b"1\n"
    forge = Forge(ana)
    forge.head = first
    root = forge.encode(refs={HEAD: forge.commit(forge.signer)})
    driver_of(file_url).put("root", root)
    with pytest.raises(errors.HistoryReplaced):
        reader.stat("x")
    with pytest.raises(errors.HistoryReplaced):
        reader.upload(b"2", "x")


def test_groups_are_read_as_by_whoever_has_the_history(
    tmp_path: Path, file_url: Remote, backend: Backend
) -> None:
    """A file of everybody's at a path that a group has claimed does not count, cold or not."""
    ana = start(tmp_path, file_url)
    ben = joined(ana, "ben")
    ana("group", "add", "prod", "prod/**", "--member", "ana")
    ana.commit({"prod/key": "1\n", "other": "o\n"})
    ana("push")
    ben("pull")
    one, other = (ana_client(machine, file_url, backend) for machine in (ana, ben))
    assert one.read("prod/key") == b"1\n"
    assert not other.exists("prod/key")
    assert other.read("other") == b"o\n"
    with pytest.raises(dorky.NotFoundError):
        other.read("prod/key")


def test_a_table_that_lies_denies_nothing_that_the_history_tells(
    local: DorkyClient, backend: Backend
) -> None:
    """A damaged table is not needed by a fetch."""
    local.upload(noise(300_000, 1), "x")
    for table in (Path(url_path(local)) / "tables").iterdir():
        table.write_bytes(table.read_bytes()[:-100] + bytes(100))
        table.write_bytes(bytes(len(table.read_bytes())))
    assert backend.client(local.url).read("x") == noise(300_000, 1)


def test_what_a_glimpse_keeps_is_bounded() -> None:
    kept = cold.Kept()
    for n in range(100):
        kept.keep(f"{n:064x}", None, cold.Kind.TREE, bytes(MiB))
        kept.keep_page((f"{n:064x}", 0), {})
    assert sum(len(body) for _, _, body in kept.bodies.values()) <= 8 * MiB
    assert len(kept.pages) <= 64
    kept.keep("x", None, cold.Kind.TREE, bytes(9 * MiB))
    assert "x" not in kept.bodies
