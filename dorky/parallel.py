"""Work in threads, in bounded memory and in order.

Hashing, compression, encryption and reading release the interpreter's lock, so threads suffice.
"""

from __future__ import annotations

import contextvars
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

THREADS = min(8, max(2, os.cpu_count() or 2))
"""The number of threads that is useful for work of the processor."""

_AHEAD = 2

T = TypeVar("T")
R = TypeVar("R")


def in_order(
    work: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int | None = None
) -> Iterator[R]:
    """Run ``work`` on every item in threads; yield the results in the items' order.

    Args:
        work: Called in several threads at once, in the caller's context.
        items: Taken in the caller's thread, as room permits.
        threads: The number of threads.
        ahead: The most items that may be in progress or done but not yet taken, which bounds the
            memory used; twice the number of threads by default.
    """
    if isinstance(items, Sequence) and len(items) < 2:
        # One thread needs no pool, whose import takes 8 ms.
        yield from map(work, items)
        return

    from concurrent.futures import ThreadPoolExecutor

    limit = ahead or 2 * threads
    pool = ThreadPoolExecutor(max_workers=threads)
    running: deque[Future[R]] = deque()
    patient = True
    try:
        for item in items:
            if len(running) >= limit:
                yield running.popleft().result()
            running.append(pool.submit(contextvars.copy_context().run, work, item))
        while running:
            yield running.popleft().result()
    except KeyboardInterrupt:
        # A user who presses Ctrl-C does not want to wait for the end of a slow upload.
        patient = False
        raise
    finally:
        pool.shutdown(wait=patient, cancel_futures=True)


class BackgroundWorker:
    """A thread that does one task after the other, in parallel to its owner's thread.

    An error is raised to the owner at the next task or wait; no task is done after it.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._running: deque[Future[None]] = deque()
        self._error: BaseException | None = None

    def do(self, work: Callable[..., object], *arguments: object) -> None:
        """Queue a task; wait if several are queued already."""
        from concurrent.futures import ThreadPoolExecutor

        self._pool = self._pool or ThreadPoolExecutor(max_workers=1)
        while len(self._running) > _AHEAD:
            self._running.popleft().result()
        self._running.append(self._pool.submit(self._try, work, arguments))

    def _try(self, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
        if self._error:
            raise self._error
        try:
            work(*arguments)
        except BaseException as error:
            self._error = error
            raise

    def finish(self, work: Callable[..., object], *arguments: object) -> None:
        """Do a last task, and wait until all are done; without other tasks no thread is used."""
        if self._pool is None:
            self._try(work, arguments)
            return
        self.do(work, *arguments)
        while self._running:
            self._running.popleft().result()

    def close(self) -> None:
        """Drop the tasks that have not begun, and end the thread."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
