"""What is sent again, how often, and what never is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from itertools import count
from typing import Any, ClassVar

import pytest

from dorky import cancellation, errors
from dorky.drivers.base import LIMIT, Blob, Stat, Version
from dorky.drivers.retry import Patience, Retrying

BUSY = errors.ServerBusy("s3://b", "503")
RESET = errors.Unreachable("s3://b", "the connection broke")
OFFLINE = errors.Unreachable("s3://b", "connection refused", lasting=True)


class Failing:
    """A driver that raises what it is given, in turn, and then works."""

    scheme: ClassVar[str] = "failing"
    url = "failing://"

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    @classmethod
    def open(cls, url: str, options: object) -> Failing:
        return cls()

    def act(self) -> None:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)

    def get(self, key: str, *, unless: Version | None = None, limit: int = LIMIT) -> Blob | None:
        self.act()
        return None

    def get_range(self, key: str, start: int, end: int) -> bytes:
        self.act()
        return bytes(end - start)

    def put(self, key: str, data: bytes) -> None:
        self.act()

    def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:
        self.act()
        return Version("1")

    def list(self, prefix: str) -> Iterator[Stat]:
        self.act()
        yield Stat("a", 1, datetime.now(timezone.utc))
        self.act()
        yield Stat("b", 1, datetime.now(timezone.utc))

    def delete(self, keys: Iterable[str]) -> None:
        assert [*keys] == ["a", "b"]
        self.act()


def retrying(driver: Failing, **options: Any) -> tuple[Retrying, list[float]]:
    slept: list[float] = []
    return Retrying(driver, sleep=slept.append, **options), slept


CALLS = {
    "get": lambda d: d.get("a"),
    "get_range": lambda d: d.get_range("a", 0, 1),
    "put": lambda d: d.put("a", b""),
    "list": lambda d: list(d.list("")),
    "delete": lambda d: d.delete(iter(["a", "b"])),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize("failure", [BUSY, RESET, OFFLINE], ids=["busy", "reset", "offline"])
def test_what_is_safe_is_sent_again(call: Any, failure: Exception) -> None:
    driver = Failing(failure, failure)
    wrapped, slept = retrying(driver)
    call(wrapped)
    assert driver.calls >= 3
    assert len(slept) == 2


@pytest.mark.parametrize("failure", [BUSY, RESET, OFFLINE])
def test_a_swap_is_sent_once(failure: Exception) -> None:
    driver = Failing(failure)
    wrapped, slept = retrying(driver)
    with pytest.raises(type(failure)):
        wrapped.swap("root", b"", expected=None)
    assert (driver.calls, slept) == (1, [])


@pytest.mark.parametrize(
    "failure", [errors.KeyNotFound("a", "s3://b"), errors.AccessDenied("s3://b", "no"), OSError()]
)
def test_what_will_not_pass_is_raised_at_once(failure: Exception) -> None:
    driver = Failing(failure)
    with pytest.raises(type(failure)):
        retrying(driver)[0].get("a")
    assert driver.calls == 1


def test_tries_are_bounded() -> None:
    driver = Failing(*[BUSY] * 99)
    wrapped, slept = retrying(driver)
    with pytest.raises(errors.ServerBusy):
        wrapped.get("a")
    assert driver.calls == 6
    assert all(0 <= pause <= 0.5 * 2**n for n, pause in enumerate(slept))


def test_pauses_are_spread() -> None:
    pauses = set()
    for _ in range(20):
        wrapped, slept = retrying(Failing(BUSY))
        wrapped.get("a")
        pauses.update(slept)
    assert len(pauses) > 15


def test_the_server_says_when() -> None:
    wrapped, slept = retrying(Failing(errors.ServerBusy("s3://b", "429", retry_after=7)))
    wrapped.get("a")
    assert 7 <= slept[0] <= 7.5


def test_not_later_than_patience() -> None:
    driver = Failing(errors.ServerBusy("s3://b", "503", retry_after=31))
    wrapped, slept = retrying(driver)
    with pytest.raises(errors.ServerBusy):
        wrapped.get("a")
    assert slept == []
    driver = Failing(*[errors.ServerBusy("s3://b", "503", retry_after=9)] * 99)
    wrapped, slept = retrying(driver)
    with pytest.raises(errors.ServerBusy):
        wrapped.get("a")
    assert sum(slept) <= 30


def test_no_network_is_told_soon() -> None:
    for _ in range(20):
        driver = Failing(*[OFFLINE] * 99)
        wrapped, slept = retrying(driver)
        with pytest.raises(errors.Unreachable):
            wrapped.get("a")
        assert sum(slept) <= 3


def test_a_list_that_has_begun_is_not_begun_again() -> None:
    driver = Failing()
    wrapped, _ = retrying(driver)
    stats = wrapped.list("")
    assert next(stats).key == "a"
    driver.failures.append(BUSY)
    with pytest.raises(errors.ServerBusy):
        next(stats)


def test_an_empty_list() -> None:
    driver = Failing()
    driver.list = lambda prefix: iter(())  # type: ignore[method-assign]
    assert list(retrying(driver)[0].list("")) == []


# --- what a driver gives is held to what was asked ------------------------------------------


@pytest.mark.parametrize("size", [11, 1 << 20])
def test_an_object_over_the_limit(size: int) -> None:
    driver = Failing()
    driver.get = lambda key, **_: Blob(bytes(size), Version("1"))  # type: ignore[method-assign]
    with pytest.raises(errors.TooLarge, match="10 bytes"):
        retrying(driver)[0].get("root", limit=10)


@pytest.mark.parametrize("size", [0, 9, 11])
def test_a_range_of_another_length(size: int) -> None:
    driver = Failing()
    driver.get_range = lambda key, start, end: bytes(size)  # type: ignore[method-assign]
    with pytest.raises(errors.BadEndpoint):
        retrying(driver)[0].get_range("packs/a", 0, 10)


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """What others do, for how long, and what to say of it."""
    now, paused = [0.0], list[float]()
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def sleep(seconds: float) -> None:
        paused.append(seconds)
        now[0] += 1

    monkeypatch.setattr(cancellation, "sleep", sleep)
    patience = Patience("s3://acme-vault/payments", "others keep pushing")
    for _ in range(121):
        patience.wait()
    with pytest.raises(errors.ServiceUnavailableError, match="others keep pushing"):
        patience.wait()
    assert all(0 <= seconds <= 0.01 * 2**n for n, seconds in enumerate(paused))
    assert max(paused) <= Patience.longest


def test_a_list_without_an_end() -> None:
    driver = Failing()
    now = datetime.now(timezone.utc)
    driver.list = lambda prefix: (Stat(f"packs/{n}", 1, now) for n in count())  # type: ignore[method-assign]
    with pytest.raises(errors.TooLarge, match="the list of packs/"):
        for _ in retrying(driver)[0].list("packs/"):
            pass


def test_listed_keys_that_can_not_be() -> None:
    driver = Failing()
    now = datetime.now(timezone.utc)
    odd = [Stat("packs/" + "x" * 2000, 1, now), Stat("root", 1, now), Stat("packs/b", -1, now)]
    driver.list = lambda prefix: iter([*odd, Stat("packs/c", 1, now)])  # type: ignore[method-assign]
    assert [stat.key for stat in retrying(driver)[0].list("packs/")] == ["packs/c"]
