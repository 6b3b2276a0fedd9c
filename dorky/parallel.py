"""Work spread over threads, in bounded memory and in order.

Hashing, compression, encryption and reading release the interpreter's lock, so threads are enough.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

THREADS = min(8, max(2, os.cpu_count() or 2))
"""How many threads pay for work that the processor does."""

_AHEAD = 2

T = TypeVar("T")
R = TypeVar("R")


def in_order(
    work: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int | None = None
) -> Iterator[R]:
    """Run ``work`` on every item in threads; give the results in the items' order.

    Args:
        work: Called in several threads at once.
        items: Drawn in the caller's thread, as room permits.
        threads: How many work at once.
        ahead: How many items may be under way or done but not yet taken, and so how much memory
            is used; twice the number of threads by default.
    """
    if isinstance(items, Sequence) and len(items) < 2:
        # Alone it need wait for nobody, and threads take 8 ms to import.
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
            running.append(pool.submit(work, item))
        while running:
            yield running.popleft().result()
    except KeyboardInterrupt:
        # Whoever presses Ctrl-C does not want to wait for a slow upload to end.
        patient = False
        raise
    finally:
        pool.shutdown(wait=patient, cancel_futures=True)


class BackgroundWorker:
    """A thread that does one thing after the other, beside its owner's.

    What fails is raised to the owner when it asks for more or waits; nothing is done after it.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._running: deque[Future[None]] = deque()
        self._error: BaseException | None = None

    def do(self, work: Callable[..., object], *arguments: object) -> None:
        """Have something done; wait if more than a little is waiting already."""
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
        """Have something done last, and wait until all is; alone it takes no thread."""
        if self._pool is None:
            self._try(work, arguments)
            return
        self.do(work, *arguments)
        while self._running:
            self._running.popleft().result()

    def close(self) -> None:
        """Give up what has not begun, and end."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
