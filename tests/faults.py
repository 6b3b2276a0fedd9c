"""A driver around a driver that counts what is asked, and fails, lies or interferes when told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, NoReturn

import pytest

from dorky import drivers, errors
from dorky.drivers.base import Blob, Driver, Stat, Version
from dorky.drivers.retry import Retrying

BUSY = errors.ServerBusy("the bucket", "503 SlowDown")
RESET = errors.Unreachable("the bucket", "the connection broke")
OFFLINE = errors.Unreachable("the bucket", "connection refused", lasting=True)
LOST = errors.PreconditionFailed("root", "the bucket")


def failing(error: Exception) -> Callable[..., NoReturn]:
    """An action that raises."""

    def act(*_: object) -> NoReturn:
        raise error

    return act


class Faults:
    """What goes wrong, and what was asked: shared by every driver that is opened.

    Attributes:
        calls: Verb and key of every request, in order.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self._rules: list[tuple[str, str, str, Callable[..., Any]]] = []
        self._lock = threading.Lock()

    @classmethod
    def installed(cls, monkeypatch: pytest.MonkeyPatch) -> Faults:
        """Put a faulty driver between every project and its remote. Retries don't wait."""
        faults = cls()

        def open_driver(url: str, options: Mapping[str, str]) -> Driver:
            opened = drivers.open_driver(url, options)
            assert isinstance(opened, Retrying)
            return Retrying(faults.around(opened.driver), sleep=lambda _: None)

        monkeypatch.setattr("dorky.project.open_driver", open_driver)
        return faults

    def around(self, driver: Driver) -> Faulty:
        return Faulty(driver, self)

    def before(
        self, verb: str, act: Callable[[], object], *, key: str = "", times: int = 1
    ) -> None:
        """Do something before the next ``times`` requests of that verb, whose key begins so."""
        self._rules += [("before", verb, key, act)] * times

    def after(self, verb: str, act: Callable[[Any], Any], *, key: str = "", times: int = 1) -> None:
        """Turn the answers of the next ``times`` requests into others."""
        self._rules += [("after", verb, key, act)] * times

    def run(self, verb: str, key: str, call: Callable[[], Any]) -> Any:
        with self._lock:
            self.calls.append((verb, key))
            before, after = (self._take(when, verb, key) for when in ("before", "after"))
        if before:
            before()
        answer = call()
        return after(answer) if after else answer

    def _take(self, *wanted: str) -> Callable[..., Any] | None:
        for n, (when, verb, prefix, act) in enumerate(self._rules):
            if (when, verb) == wanted[:2] and wanted[2].startswith(prefix):
                del self._rules[n]
                return act
        return None

    @property
    def done(self) -> bool:
        """Whether everything that was to go wrong did."""
        return not self._rules

    def clear(self) -> None:
        self.calls.clear()
        self._rules.clear()


class Faulty:
    """See `Faults`."""

    scheme: ClassVar[str] = "faulty"

    def __init__(self, inner: Driver, faults: Faults) -> None:
        self.inner, self.faults, self.url = inner, faults, inner.url

    @classmethod
    def open(cls, url: str, options: Mapping[str, str]) -> Faulty:
        return cls(drivers.open_driver(url, options), Faults())

    def get(self, key: str, *, unless: Version | None = None) -> Blob | None:
        found: Blob | None = self.faults.run("get", key, lambda: self.inner.get(key, unless=unless))
        return found

    def get_range(self, key: str, start: int, end: int) -> bytes:
        found: bytes = self.faults.run(
            "get_range", key, lambda: self.inner.get_range(key, start, end)
        )
        return found

    def put(self, key: str, data: bytes) -> None:
        self.faults.run("put", key, lambda: self.inner.put(key, data))

    def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:
        found: Version = self.faults.run(
            "swap", key, lambda: self.inner.swap(key, data, expected=expected)
        )
        return found

    def list(self, prefix: str) -> Iterator[Stat]:
        yield from self.faults.run("list", prefix, lambda: self.inner.list(prefix))

    def delete(self, keys: Iterable[str]) -> None:
        keys = tuple(keys)
        self.faults.run("delete", keys[0] if keys else "", lambda: self.inner.delete(keys))
