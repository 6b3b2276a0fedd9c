"""The last step of a copy: the root, by compare-and-swap, whatever the store answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from dorky import errors
from dorky.drivers.base import Version
from dorky.drivers.file import FileDriver
from dorky.format.model import FORMAT, Header
from dorky.remote import mirror
from dorky.remote.mirror import State

OURS = State(b"ours", Version("1"), Header(FORMAT, "0" * 32, ()), None, ())


class Store(FileDriver):
    """A directory whose answers to swaps are as a test says."""

    lost = 0
    """How many swaps take effect without an answer."""
    refused = 0
    unreachable = 0

    def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:
        if self.unreachable:
            self.unreachable -= 1
            raise errors.Unreachable(self.url, "no answer")
        if self.refused:
            self.refused -= 1
            raise errors.PreconditionFailed(key, self.url)
        made = super().swap(key, data, expected=expected)
        if self.lost:
            self.lost -= 1
            raise errors.ServiceUnavailableError(self.url, "no answer")
        return made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "place")


def put(store: Store, expected: Version | None = None) -> None:
    mirror.put_root(OURS, store, expected, (), sleep=lambda _: None)


def root(store: Store) -> bytes | None:
    blob = mirror.root_of(store)
    return blob.data if blob else None


def test_a_lost_answer_is_looked_up(store: Store) -> None:
    store.lost = 1
    put(store)
    assert root(store) == b"ours"


def test_a_store_that_is_not_reached_is_asked_again(store: Store) -> None:
    store.unreachable = 2
    put(store)
    assert root(store) == b"ours"


def test_a_store_that_is_never_reached(store: Store) -> None:
    store.unreachable = 100
    with pytest.raises(errors.Unreachable):
        put(store)
    assert root(store) is None


@pytest.mark.parametrize("held", [b"theirs", b"ours"])
def test_somebody_else_was_faster(store: Store, held: bytes) -> None:
    """The same bytes from somebody else are as good; others are left as they are."""
    store.swap("root", held, expected=None)
    if held == b"ours":
        put(store)
    else:
        with pytest.raises(errors.RootMoved):
            put(store)
    assert root(store) == held


def test_a_store_that_refuses_every_swap(store: Store) -> None:
    version = store.swap("root", b"older", expected=None)
    store.refused = 100
    with pytest.raises(errors.SwapsUnsupported):
        put(store, version)
    assert root(store) == b"older"


def test_roots_that_were_copied_are_remembered(store: Store) -> None:
    many = tuple(f"{n:064x}" for n in range(1500))
    mirror.put_root(OURS, store, None, many, sleep=lambda _: None)
    found = mirror.copied_to(store)
    assert len(found) == 1000
    assert found[:-1] == many[-999:]
    store.put("copied", b"\xff" * 300_000)
    assert mirror.copied_to(store) == ()
