"""Packs that an upload sends while it still reads its source."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from machines import noise
from servers import Remote
from teams import gather

import dorky
from dorky import errors
from dorky.client import ABSENT, DorkyClient
from dorky.drivers.file import FileDriver
from dorky.format.model import MiB
from dorky.library import commits
from dorky.remote import ahead
from dorky.remote.root import INLINE

SIZE = 32 * MiB  # several times what is between the source and the first pack
DATA = noise(SIZE)
OTHER = noise(5 * MiB, 3)
SOON = 30


@pytest.fixture
def sending(file_url: Remote, monkeypatch: pytest.MonkeyPatch) -> DorkyClient:
    """A client whose packs of 2 MiB are worth sending."""
    monkeypatch.setattr(ahead, "SMALL", MiB)
    monkeypatch.setattr("dorky.library.records._LEAST_PART", MiB)
    return DorkyClient.create(file_url.url, part_size=2 * MiB)


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a pack has arrived."""
    arrived = threading.Event()
    own = FileDriver.put

    def note(self: FileDriver, key: str, data: bytes) -> None:
        own(self, key, data)
        arrived.set()

    monkeypatch.setattr(FileDriver, "put", note)
    return arrived


def stored(place: Remote) -> dict[str, int]:
    """The packs in a directory, and their sizes."""
    found = Path(place.url) / "packs"
    return {path.name: path.stat().st_size for path in found.iterdir()} if found.exists() else {}


def blocks(end: Callable[[], object] = lambda: None) -> Iterator[bytes]:
    for start in range(0, SIZE, MiB):
        if start == SIZE - MiB:
            end()
        yield DATA[start : start + MiB]


def test_a_large_source_is_sent_while_it_is_read(
    sending: DorkyClient, file_url: Remote, put: threading.Event
) -> None:
    early: list[bool] = []
    info = sending.upload(blocks(lambda: early.append(put.wait(SOON))), "big")
    assert early == [True]
    assert DorkyClient(sending.url).read("big") == DATA
    # Each byte was stored once, and all that is stored is listed.
    found = stored(file_url)
    assert SIZE - INLINE < sum(found.values()) < SIZE + MiB
    with sending.at(info.version) as pinned:
        assert pinned.read("big", start=5, end=9) == DATA[5:9]
    sending.upload(b"small", "small")
    assert stored(file_url) == found


def test_a_directory_is_sent_while_it_is_read(
    sending: DorkyClient, file_url: Remote, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for n in range(3):
        (folder / f"{n}").write_bytes(noise(5 * MiB, n + 2))
    sending.upload_folder(folder, "data")
    other = DorkyClient(sending.url)
    assert all(other.read(f"data/{n}") == noise(5 * MiB, n + 2) for n in range(3))
    assert sum(stored(file_url).values()) < 16 * MiB


@pytest.mark.parametrize("what", ["source", "conflict", "network"])
def test_an_upload_that_fails_leaves_nothing(
    sending: DorkyClient,
    file_url: Remote,
    put: threading.Event,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sending.upload(b"old", "big")
    before = stored(file_url)

    def fail() -> None:
        assert put.wait(SOON)
        if what == "source":
            raise ZeroDivisionError

    if what == "network":
        monkeypatch.setattr(ahead.Ahead, "finish", lambda _: 1 / 0)
    expected = errors.ConflictError if what == "conflict" else ZeroDivisionError
    with pytest.raises(expected):
        sending.upload(blocks(fail), "big", if_version=ABSENT if what == "conflict" else None)
    assert put.is_set()
    assert stored(file_url) == before
    assert sending.read("big") == b"old"


def test_a_swap_without_an_answer_may_have_listed_what_was_sent(
    sending: DorkyClient, file_url: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        raise errors.OutcomeUnknown(sending.url)

    with monkeypatch.context() as patch:
        patch.setattr(commits, "push", unknown)
        with pytest.raises(dorky.DorkyError):
            sending.upload(blocks(), "big")
        assert sum(stored(file_url).values()) > SIZE / 2
        assert sending.upload_batch([(blocks(), "big")], return_exceptions=True).failed
        assert sum(stored(file_url).values()) > SIZE / 2
    sending.upload(blocks(), "big")
    assert sending.read("big") == DATA


def test_no_upload_keeps_an_interrupted_program_from_ending(
    sending: DorkyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python waits for every thread of a pool at its end, however long a server takes."""
    begun, answered = threading.Event(), threading.Event()

    def stall(*_: object) -> None:
        begun.set()
        assert answered.wait(SOON)

    def source() -> Iterator[bytes]:
        for block in blocks():
            yield block
            if begun.is_set():
                raise KeyboardInterrupt

    def working() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if not thread.daemon}

    before = working()
    monkeypatch.setattr(FileDriver, "put", stall)
    with pytest.raises(KeyboardInterrupt):
        sending.upload(source(), "big")
    for thread in working() - before:
        thread.join(SOON / 2)
        assert not thread.is_alive()
    answered.set()


def at_once(client: DorkyClient) -> None:
    client.upload(blocks(), "big")


def in_parts(client: DorkyClient) -> None:
    with client.start_upload("big") as upload:
        upload.put_part(1, DATA)
        upload.complete()


@pytest.mark.parametrize("send", [at_once, in_parts])
def test_a_swap_that_is_interrupted_may_still_take_effect(
    sending: DorkyClient, monkeypatch: pytest.MonkeyPatch, send: Callable[[DorkyClient], None]
) -> None:
    """The request is under way when somebody presses Ctrl-C; the server gets it a little later."""
    sending.upload(b"first", "first")
    late: list[Callable[[], object]] = []
    own, delete = FileDriver.swap, FileDriver.delete

    def interrupt(self: FileDriver, key: str, data: bytes, **asked: Any) -> None:
        late.append(lambda: own(self, key, data, **asked))
        raise KeyboardInterrupt

    def arrive(self: FileDriver, keys: Iterable[str]) -> None:
        late.pop()()
        delete(self, keys)

    with monkeypatch.context() as patch:
        patch.setattr(FileDriver, "swap", interrupt)
        patch.setattr(FileDriver, "delete", arrive)
        with pytest.raises(KeyboardInterrupt):
            send(sending)
        for arrives in late:
            arrives()
    assert DorkyClient(sending.url).read("big") == DATA


def test_an_item_that_fails_leaves_nothing_and_the_others_are_there(
    sending: DorkyClient, file_url: Remote
) -> None:
    sending.upload(b"a directory", "dir/x")
    done = sending.upload_batch([(blocks(), "dir"), (b"fine", "y")], return_exceptions=True)
    assert [item.path for item in done.failed] == ["dir"]
    assert sum(stored(file_url).values()) < MiB
    other = DorkyClient(sending.url)
    assert other.read("y") == b"fine"
    assert sending.upload_batch([(blocks(), "z")]).version
    assert other.read("z") == DATA


def test_what_the_remote_holds_is_not_sent(sending: DorkyClient, file_url: Remote) -> None:
    sending.upload(blocks(), "big")
    before = stored(file_url)
    sending.upload(blocks(), "copy")
    with DorkyClient(sending.url, part_size=2 * MiB) as other:
        other.upload(blocks(), "another")
    assert stored(file_url) == before


def test_a_pack_that_does_not_arrive_is_sent_by_the_commit(
    sending: DorkyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, failed = FileDriver.put, []

    def fail_once(self: FileDriver, key: str, data: bytes) -> None:
        if not failed:
            failed.append(key)
            raise errors.DiskFull("the place")
        own(self, key, data)

    monkeypatch.setattr(FileDriver, "put", fail_once)
    sending.upload(blocks(), "big")
    assert failed
    assert DorkyClient(sending.url).read("big") == DATA


def test_one_source_at_a_time_is_sent_ahead(sending: DorkyClient, put: threading.Event) -> None:
    """Their packs are in memory, so the others wait for the commit."""

    def other() -> None:
        assert put.wait(SOON)
        put.clear()
        sending.upload(OTHER, "other")

    sending.upload(blocks(other), "big")
    again = DorkyClient(sending.url)
    assert (again.read("big"), again.read("other")) == (DATA, OTHER)


def test_a_group_gets_files_while_packs_are_sent(
    tmp_path: Path, file_url: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit is refused, and made again: of what was sent, it lists what is still there."""
    monkeypatch.setattr(ahead, "SMALL", MiB)
    monkeypatch.setattr("dorky.library.records._LEAST_PART", MiB)
    team = gather(tmp_path, file_url)
    team.ben("group", "add", "few", "few/**", "--member", "ana", "--member", "ben")
    data = {name: noise(3 * MiB, len(name)) for name in ("closed/x", "open")}
    folder = tmp_path / "folder"
    for name, body in data.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    own, changed = commits.push, []

    def push(*arguments: Any) -> None:
        if not changed:
            changed.append(team.ben("group", "add", "few", "closed/**"))
        own(*arguments)

    monkeypatch.setattr(commits, "push", push)
    config: dict[str, Any] = {"identity": team.ana.identity, "part_size": 2 * MiB}
    DorkyClient(file_url.url, **config, max_concurrency=1).upload_folder(folder)
    assert changed
    other = DorkyClient(file_url.url, **config)
    assert {name: other.read(name) for name in data} == data
    # The packs that were sent before are deleted: no root lists them.
    assert sum(stored(file_url).values()) < 8 * MiB
