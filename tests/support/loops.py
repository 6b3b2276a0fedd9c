"""A blocking face of the asynchronous client, so that the library's suite runs on every loop.

Each call runs to its end on an event loop in a thread of its own.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
from anyio.from_thread import BlockingPortal

from dorky import AsyncBatch, AsyncDorkyClient, AsyncFile, AsyncItems, AsyncUploadSession

LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


class Loop:
    """An event loop in a thread, which a forked process starts again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._process = 0
        self._portal: BlockingPortal | None = None

    def __call__(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Await what a function returns, on the loop."""
        if self._process != os.getpid():
            self._start()
        assert self._portal
        return self._portal.call(functools.partial(work, *args, **kwargs))

    def _start(self) -> None:
        ready = threading.Event()

        async def serve() -> None:
            async with BlockingPortal() as portal:
                self._portal = portal
                ready.set()
                await portal.sleep_until_stopped()

        backend, options = LOOPS[self.name]
        run = functools.partial(anyio.run, serve, backend=backend, backend_options=options)
        threading.Thread(target=run, daemon=True).start()
        assert ready.wait(60)
        self._process = os.getpid()

    def stop(self) -> None:
        """End the loop."""
        if self._portal and self._process == os.getpid():
            self._portal.call(self._portal.stop)
            self._process = 0


_LOOPS = {name: Loop(name) for name in LOOPS}


class Faced:
    """A client or a batch: what it returns is asynchronous there, and blocks here."""

    def __init__(self, loop: Loop, inner: Any) -> None:
        vars(self).update(_loop=loop, _inner=inner, _entered=False)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found
        return functools.partial(self._call, found)

    def _call(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        args = tuple(_asynchronous(arg) for arg in args)
        if isinstance(other := kwargs.get("to"), Faced):
            kwargs["to"] = other._inner
        if inspect.iscoroutinefunction(work):
            return self._loop(work, *args, **kwargs)
        found = self._loop(_made, work, *args, **kwargs)
        if isinstance(found, AsyncItems):
            # The blocking client looks for the file at once.
            first = self._loop(_next, found)
            return self._items(first, found)
        if isinstance(found, AsyncFile):
            return FacedFile(self._loop, found)
        if isinstance(found, AsyncBatch | AsyncUploadSession):
            self._loop(found.__aenter__)
        return Faced(self._loop, found)

    def _items(self, first: list[Any], items: AsyncItems[Any]) -> Iterator[Any]:
        try:
            while first:
                yield first[0]
                first = self._loop(_next, items)
        finally:
            self._loop(items.aclose)

    def __enter__(self) -> Faced:
        begun = isinstance(self._inner, AsyncBatch | AsyncUploadSession)
        if begun and not self._entered:
            vars(self)["_entered"] = True  # the blocking client's begins before the block does
        else:
            self._loop(self._inner.__aenter__)
        return self

    def __exit__(self, *raised: Any) -> None:
        self._loop(self._inner.__aexit__, *raised)

    def __repr__(self) -> str:
        return repr(self._inner)

    def __reduce__(self) -> Any:
        return again, (self._loop.name, self._inner)


def again(name: str, inner: AsyncDorkyClient) -> Faced:
    """Return a client that was pickled."""
    return Faced(_LOOPS[name], inner)


async def _made(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return work(*args, **kwargs)


async def _next(items: AsyncItems[Any]) -> list[Any]:
    with contextlib.suppress(StopAsyncIteration):
        return [await items.__anext__()]
    return []


def _asynchronous(source: Any) -> Any:
    """Return an asynchronous source for one that is an iterator, which then covers both."""
    if not inspect.isgenerator(source):
        return source

    async def blocks() -> AsyncIterator[bytes]:
        for block in source:
            await anyio.lowlevel.checkpoint()
            yield block

    return blocks()


class FacedFile:
    """A file; it is open at once, and closed as by ``async with``."""

    def __init__(self, loop: Loop, inner: AsyncFile) -> None:
        self._loop = loop
        self._inner = inner
        self._before = sys.exc_info()[1]
        loop(inner.__aenter__)

    def __getattr__(self, name: str) -> Any:
        if inspect.iscoroutinefunction(found := getattr(self._inner, name, None)):
            return functools.partial(self._loop, found)
        return getattr(self._inner.sync, name)

    @property
    def closed(self) -> bool:
        return self._inner.closed

    def close(self) -> None:
        if self.closed:
            return
        now = sys.exc_info()[1]
        if now is None or now is self._before:
            self._loop(self._inner.close)
        else:
            self._loop(self._inner.__aexit__, type(now), now, None)

    def __enter__(self) -> FacedFile:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._loop(self._inner.__aexit__, *raised)

    def __iter__(self) -> Iterator[Any]:
        while line := self._loop(self._inner.readline):
            yield line


io.IOBase.register(FacedFile)


class OnLoop:
    """A `backends.Backend` whose clients are asynchronous ones."""

    def __init__(self, name: str) -> None:
        self.loop = _LOOPS[name]
        self.made: list[Any] = []

    def client(self, url: str | None = None, **keywords: Any) -> Any:
        self.made.append(Faced(self.loop, AsyncDorkyClient(url, **keywords)))
        return self.made[-1]

    def create(self, url: str, **keywords: Any) -> Any:
        inner = self.loop(AsyncDorkyClient.create, url, **keywords)
        self.made.append(Faced(self.loop, inner))
        return self.made[-1]


@contextlib.contextmanager
def on_loop(name: str) -> Iterator[OnLoop]:
    """Run a loop while a test does."""
    backend = OnLoop(name)
    try:
        yield backend
    finally:
        for client in backend.made:
            client.close()
        backend.loop.stop()
