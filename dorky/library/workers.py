"""Worker threads: the blocking client's calls, awaited on any event loop that anyio supports.

Nothing that may wait runs on the loop itself: every call goes to a thread. A call that is cancelled
tells its threads so (see `dorky.cancellation`), and waits for them for moments.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import threading
import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

from dorky import cancellation, errors
from dorky.cancellation import Call, Cancelled
from dorky.library.records import StrPath
from dorky.library.sources import Source

if TYPE_CHECKING:
    from anyio import CapacityLimiter
    from anyio.lowlevel import RunVar

AsyncSource = Source | AsyncIterable[bytes]
"""What a blocking client uploads, or an asynchronous iterable of bytes."""

_GRACE = 0.2
"""The seconds that a cancelled call waits for its thread, which ends a little later otherwise."""
_LOOK = 0.005
_WAITING = 8
"""How many calls may wait for a commit for each that transfers."""
_ITEMS = 256
_BYTES = 1 << 20
_SECONDS = 0.01

P = ParamSpec("P")
T = TypeVar("T")


class _Limits(NamedTuple):
    """The bounds on one event loop: of calls that transfer, and of threads."""

    working: CapacityLimiter
    threads: CapacityLimiter


class Workers:
    """The threads of one asynchronous client.

    A call that waits for a commit leaves its place to another, so that many share the commit.

    Args:
        limit: The most calls that transfer at once.

    Raises:
        MissingLibrary: anyio is not installed.
    """

    def __init__(self, limit: int) -> None:
        try:
            import anyio  # noqa: F401
        except ImportError as error:
            missing = "anyio (pip install 'dorky-client[async]')"
            raise errors.MissingLibrary("AsyncDorkyClient", missing) from error
        self.limit = limit

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work in a thread."""
        return await self.run_for(Call(), functools.partial(work, *args, **kwargs))

    async def finish(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work in a thread, even if the task was cancelled."""
        import anyio

        done: list[T] = []
        with anyio.CancelScope(shield=True):
            done.append(await self.run(work, *args, **kwargs))
        return done[0]

    async def run_for(self, call: Call, work: Callable[[], T]) -> T:
        """Run blocking work in a thread, as a part of a call."""
        import anyio
        import anyio.to_thread

        limits = self._limits()
        await limits.working.acquire_on_behalf_of(call)
        job = _Job(call, work, functools.partial(limits.working.release_on_behalf_of, call))
        try:
            return await anyio.to_thread.run_sync(
                job.run, limiter=limits.threads, abandon_on_cancel=True
            )
        except anyio.get_cancelled_exc_class():
            call.cancel()
            with anyio.CancelScope(shield=True):
                ending = time.monotonic() + _GRACE
                # A commit that has begun to take effect is waited for; the rest may take longer.
                while job.running and (call.shielded or time.monotonic() < ending):
                    await anyio.sleep(_LOOK)
            raise
        finally:
            job.release()
            call.idle = _nothing  # else an iterator that is dropped still refers to itself

    async def upload(
        self, work: Callable[..., T], source: AsyncSource, /, *args: Any, **options: Any
    ) -> T:
        """Run an upload in a thread; a source that is asynchronous is read on the loop."""
        if not isinstance(source, AsyncIterable):
            return await self.run(work, source, *args, **options)
        return await _feeding(lambda feed: self.run(work, feed(source), *args, **options))

    async def upload_batch(
        self,
        work: Callable[..., T],
        items: Iterable[StrPath | tuple[AsyncSource, StrPath]],
        /,
        **options: Any,
    ) -> T:
        """Run an upload of many sources in a thread."""

        def fed(feed: _Feed) -> Iterator[StrPath | tuple[Source, StrPath]]:
            for item in items:
                if isinstance(item, tuple):
                    source, path = item
                    yield (feed(source) if isinstance(source, AsyncIterable) else source), path
                else:
                    yield item

        return await _feeding(lambda feed: self.run(work, fed(feed), **options))

    def _limits(self) -> _Limits:
        import anyio

        of_loop = _all_limits()
        found = of_loop.get(self)
        if found is None:
            threads = anyio.CapacityLimiter(self.limit * _WAITING)
            found = of_loop[self] = _Limits(anyio.CapacityLimiter(self.limit), threads)
        return found


def _nothing() -> None:
    """Do nothing."""


class _Job:
    """Work in a thread, as the loop sees it."""

    def __init__(self, call: Call, work: Callable[[], Any], release: Callable[[], None]) -> None:
        from anyio.lowlevel import current_token

        self.running = False
        self._call = call
        self._work = work
        self._release: Callable[[], None] | None = release
        self._loop = current_token()
        call.idle = self._idle

    def run(self) -> Any:
        self.running = True
        try:
            with cancellation.scope(self._call):
                cancellation.check()
                return self._work()
        finally:
            self.running = False

    def _idle(self) -> None:
        from anyio import from_thread

        cancellation.check()
        from_thread.run_sync(self.release, token=self._loop)

    def release(self) -> None:
        """Leave the place of a call that transfers; called on the loop."""
        if self._release:
            self._release()
            self._release = None


@functools.cache
def _of_loop() -> RunVar[WeakKeyDictionary[Workers, _Limits]]:
    from anyio.lowlevel import RunVar

    return RunVar("dorky")


def _all_limits() -> WeakKeyDictionary[Workers, _Limits]:
    """Return the limits of all clients on this loop."""
    held = _of_loop()
    try:
        return held.get()
    except LookupError:
        made: WeakKeyDictionary[Workers, _Limits] = WeakKeyDictionary()
        held.set(made)
        return made


# --- iterators ------------------------------------------------------------------------------


class AsyncItems(Generic[T]):
    """An asynchronous iterator over what a blocking one yields, some at a time.

    Nothing is read before the first item is asked for. `aclose` ends it early, as
    `contextlib.aclosing` does; one that is dropped or cancelled is ended soon, by a thread.
    """

    def __init__(self, workers: Workers, make: Callable[[], Iterator[T]]) -> None:
        self._workers = workers
        self._make: Callable[[], Iterator[T]] | None = make
        self._items: Iterator[T] | None = None
        self._using = threading.Lock()
        """Held by the thread that uses `_items`; it may outlive the cancellation."""
        self._ready: deque[T] = deque()
        self._call = Call()
        self._ended = False

    def __aiter__(self) -> AsyncItems[T]:
        return self

    async def __anext__(self) -> T:
        if not self._ready and not self._ended:
            try:
                self._ready.extend(await self._workers.run_for(self._call, self._take))
            except BaseException:
                self._give_up()
                raise
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.popleft()

    def _take(self) -> list[T]:
        """Take items: at least one, and more for moments, within bounds."""
        taken: list[T] = []
        size = 0
        with self._using:
            cancellation.check()
            if self._make:
                self._items, self._make = self._make(), None
            ending = time.monotonic() + _SECONDS
            for item in self._items or ():
                taken.append(item)
                size += len(item) if isinstance(item, bytes) else 0
                if len(taken) >= _ITEMS or size >= _BYTES or time.monotonic() > ending:
                    return taken
        self._ended = True
        return taken

    async def aclose(self) -> None:
        """End the iteration, and what was fetched ahead for it."""
        self._ready.clear()
        if not self._ended:
            self._ended = True
            self._call.cancel()
            await self._workers.finish(self._close)

    def _give_up(self) -> None:
        """End the iteration in a thread, since that may wait."""
        self._ended = True
        self._call.cancel()
        with contextlib.suppress(RuntimeError):  # the interpreter ends
            threading.Thread(target=self._close, daemon=True).start()

    def _close(self) -> None:
        with self._using, contextlib.suppress(Cancelled):
            items, self._items = self._items, None
            if items is not None:
                cast("Any", items).close()

    def __del__(self) -> None:
        if not self._ended and self._make is None:
            self._give_up()


# --- asynchronous sources -------------------------------------------------------------------

_Feed = Callable[[AsyncIterable[bytes]], Iterator[bytes]]
"""Returns the blocks of an asynchronous source, for a thread."""


async def _feeding(work: Callable[[_Feed], Awaitable[T]]) -> T:
    """Await work that reads asynchronous sources from a thread, each in one task of this loop."""
    import anyio
    from anyio.from_thread import BlockingPortal

    done: list[T] = []
    failures: list[Exception] = []
    async with BlockingPortal() as portal:

        def feed(source: AsyncIterable[bytes]) -> Iterator[bytes]:
            send, receive = anyio.create_memory_object_stream[list[bytes]](1)
            try:
                pumping = portal.start_task_soon(_pump, source, send)
                with receive:
                    with contextlib.suppress(anyio.EndOfStream):
                        while True:
                            yield from portal.call(receive.receive)
                    pumping.result()  # raises what the source has raised
            except concurrent.futures.CancelledError:
                raise Cancelled from None

        try:
            done.append(await work(feed))
        except Exception as error:  # noqa: BLE001 (it must not leave in a group)
            failures.append(error)
        await portal.stop(cancel_remaining=True)
    for failure in failures:
        raise failure
    return done[0]


async def _pump(source: AsyncIterable[Any], send: Any) -> None:
    """Read a source to its end, and send its blocks, many small ones together."""
    import anyio

    held: list[bytes] = []
    size = 0
    with send:
        try:
            async for block in source:
                # The source may use a buffer again; what is no bytes at all is refused later.
                held.append(bytes(block) if isinstance(block, bytearray | memoryview) else block)
                size += len(block) if isinstance(block, bytes) else _BYTES
                if size >= _BYTES:
                    await send.send(held)
                    held, size = [], 0
            if held:
                await send.send(held)
        finally:
            if isinstance(source, AsyncGenerator):
                with anyio.CancelScope(shield=True):
                    await source.aclose()
