"""A driver around a driver that counts what is asked, and fails, lies or interferes when told.

Either by verb and key (`Faults.before`, `Faults.after`), or by number: `Faults.at` has any of
`MISHAPS` befall the n-th request.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, NoReturn

import pytest

from dorky import drivers, errors
from dorky.drivers.base import LIMIT, Blob, Driver, Stat, Version
from dorky.drivers.retry import Retrying

BUSY = errors.ServerBusy("the bucket", "503 SlowDown")
RESET = errors.Unreachable("the bucket", "the connection broke")
OFFLINE = errors.Unreachable("the bucket", "connection refused", lasting=True)
LOST = errors.PreconditionFailed("root", "the bucket")


def failing(error: Exception) -> Callable[..., NoReturn]:
    """An action that raises."""

    def act(*_: object) -> NoReturn:
        found = copy.copy(error)
        if isinstance(found, errors.DorkyError):
            found.facts = {**found.facts}  # what is noted of one is not noted of the next
        raise found

    return act


class Mishap(NamedTuple):
    """Something that can befall a request, before it takes effect or after that.

    Attributes:
        name: What happened.
        verbs: The requests that it can befall, in `ALL`, `READS` or `SWAP`.
        codes: The exit codes that a command may end with because of it.
        before: Instead of the request.
        after: With the request's answer.
    """

    name: str
    verbs: frozenset[str]
    codes: frozenset[int]
    before: Callable[[], object] | None = None
    after: Callable[[Any], Any] | None = None


READS = frozenset({"get", "get_range", "list"})
SWAP = frozenset({"swap"})
WRITES = SWAP | {"put", "delete"}
ALL = READS | WRITES


def _cut(answer: Any) -> Any:
    if isinstance(answer, Blob):
        return answer._replace(data=_cut(answer.data))
    return answer[: len(answer) // 2] if isinstance(answer, bytes) else answer


def _flip(answer: Any) -> Any:
    if isinstance(answer, Blob):
        return answer._replace(data=_flip(answer.data))
    if not isinstance(answer, bytes):
        return answer
    middle = len(answer) // 2
    return answer[:middle] + bytes([answer[middle] ^ 1]) + answer[middle + 1 :]


def _raised(name: str, error: Exception, verbs: frozenset[str], *codes: int) -> list[Mishap]:
    """Instead of a request, or of the answer to one that took effect."""
    allowed = frozenset({0, *codes})
    changing = verbs & WRITES
    return [
        Mishap(f"{name} before", verbs, allowed, before=failing(error)),
        Mishap(f"{name} after", changing, allowed, after=failing(error)),
    ]


MISHAPS = [
    *_raised("timeout", errors.Unreachable("the bucket", "it timed out"), ALL, 8),
    *_raised("reset", RESET, ALL, 8),
    *_raised("503", BUSY, ALL, 8),
    *_raised("429", errors.ServerBusy("the bucket", "429", retry_after=2.0), ALL, 8),
    *_raised("409", errors.ServerBusy("the bucket", "409 Conflict"), SWAP, 8),
    *_raised("412", LOST, SWAP, 5, 8),
    Mishap("truncated", READS, frozenset({0, 7, 8}), after=_cut),
    Mishap("flipped", READS, frozenset({0, 7, 8}), after=_flip),
    Mishap("slow", ALL, frozenset({0}), before=lambda: time.sleep(0.01)),
]


class Faults:
    """What goes wrong, and what was asked: shared by every driver that is opened.

    Attributes:
        calls: Verb and key of every request, in order.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self._rules: list[tuple[str, str, str, Callable[..., Any]]] = []
        self._numbered: tuple[int, bool, Mishap] | None = None
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

    def at(self, n: int, mishap: Mishap, *, lasting: bool = False) -> None:
        """Have something befall the ``n``-th request from now (from 0), or all from then on."""
        self._numbered = (len(self.calls) + n, lasting, mishap)

    def run(self, verb: str, key: str, call: Callable[[], Any]) -> Any:
        with self._lock:
            self.calls.append((verb, key))
            before, after = (self._take(when, verb, key) for when in ("before", "after"))
            if self._numbered:
                n, lasting, mishap = self._numbered
                now = len(self.calls) - 1
                if verb in mishap.verbs and (now == n or (lasting and now > n)):
                    before, after = mishap.before, mishap.after
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
        self._numbered = None


class Faulty:
    """See `Faults`."""

    scheme: ClassVar[str] = "faulty"

    def __init__(self, inner: Driver, faults: Faults) -> None:
        self.inner, self.faults, self.url = inner, faults, inner.url

    @classmethod
    def open(cls, url: str, options: Mapping[str, str]) -> Faulty:
        return cls(drivers.open_driver(url, options), Faults())

    def get(self, key: str, *, unless: Version | None = None, limit: int = LIMIT) -> Blob | None:
        found: Blob | None = self.faults.run(
            "get", key, lambda: self.inner.get(key, unless=unless, limit=limit)
        )
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
