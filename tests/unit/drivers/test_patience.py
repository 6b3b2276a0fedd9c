"""Patience: what takes long is no reason to give up, and what never ends does not hang."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import servers

from dorky import errors
from dorky.drivers import s3
from dorky.drivers.base import Blob, Version
from dorky.drivers.retry import Retrying
from dorky.drivers.s3 import S3Driver

MiB = 1 << 20


class Slow:
    """A driver whose every try takes some seconds; the first of them fail."""

    url = "s3://b"

    def __init__(self, seconds: float, failures: int) -> None:
        self.now, self.tries = 0.0, 0
        self.seconds, self.failures = seconds, failures

    def get(self, *_: object, **__: object) -> Blob:
        self.now += self.seconds
        self.tries += 1
        if self.tries <= self.failures:
            raise errors.Unreachable(self.url, "it did not answer in time")
        return Blob(b"x", Version("1"))

    def retrying(self) -> Retrying:
        return Retrying(self, sleep=lambda _: None, clock=lambda: self.now)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [32.0, 61.0, 3600.0])
@pytest.mark.parametrize("failures", [1, 2])
def test_a_try_that_takes_long_is_followed_by_another(seconds: float, failures: int) -> None:
    slow = Slow(seconds, failures)
    assert slow.retrying().get("a") == Blob(b"x", Version("1"))
    assert slow.tries == failures + 1


def test_not_for_ever() -> None:
    slow = Slow(61.0, 99)
    with pytest.raises(errors.Unreachable):
        slow.retrying().get("a")
    assert slow.tries == 3


def test_short_tries_are_not_counted() -> None:
    slow = Slow(29.0, 5)
    slow.retrying().get("a")
    assert slow.tries == 6


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_stalled_connection(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """It takes the upload and never answers, or nothing: the next connection does better."""
    monkeypatch.setattr(s3, "_SLOWEST", 1 << 40)
    over = threading.Event()
    asked = []

    def act(request: Any) -> None:
        asked.append(request.command)
        if len(asked) == 1:
            over.wait(30)
            return
        servers.send(request, 200, {"Content-Length": "0"}, iter(()))

    with servers.answering(act) as endpoint:
        try:
            wait = "0.2" if method == "GET" else "1"
            options = {**servers.s3_options(endpoint), "read_timeout": wait}
            driver = S3Driver.open("s3://bucket/prefix", options)
            retrying = Retrying(driver, sleep=lambda _: None)
            if method == "GET":
                retrying.get("root")
            else:
                retrying.put("packs/a", bytes(2 * MiB))
        finally:
            over.set()
    assert asked == [method, method]


def test_timeouts_grow_with_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    driver = S3Driver.open("s3://bucket/prefix", servers.s3_options("http://127.0.0.1:1"))
    monkeypatch.setattr(driver, "_connect", given.append)
    for size in (0, MiB, MiB + 1, 32 * MiB, 33 * MiB, 512 * MiB, 512 * MiB):
        driver._store(size)
    assert given == [
        {"timeout": "86400000ms", "read_timeout": "60000ms"},
        {"timeout": "92000ms"},
        {"timeout": "572000ms"},
        {"timeout": "1084000ms"},
        {"timeout": "8252000ms"},
    ]
