"""Ways to call a client: the tests of the library are written once, and run by each of them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from loops import LOOPS, on_loop

from dorky.client import DorkyClient


class Backend(Protocol):
    """Makes clients, which answer as a `DorkyClient` does."""

    def client(self, url: str | None = None, **keywords: Any) -> DorkyClient:
        """Make a client."""

    def create(self, url: str, **keywords: Any) -> DorkyClient:
        """Start a repository."""


class Blocking:
    """The blocking client itself."""

    def __init__(self) -> None:
        self.made: list[DorkyClient] = []

    def client(self, url: str | None = None, **keywords: Any) -> DorkyClient:
        self.made.append(DorkyClient(url, **keywords))
        return self.made[-1]

    def create(self, url: str, **keywords: Any) -> DorkyClient:
        self.made.append(DorkyClient.create(url, **keywords))
        return self.made[-1]


@contextlib.contextmanager
def blocking() -> Iterator[Backend]:
    backend = Blocking()
    try:
        yield backend
    finally:
        for client in backend.made:
            client.close()


BACKENDS: dict[str, Callable[[], contextlib.AbstractContextManager[Backend]]] = {
    "sync": blocking,
    **{name: functools.partial(on_loop, name) for name in LOOPS},
}
