"""What transfers of many files have in common: threads, and a count of bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Progress(Protocol):
    """Receives the progress of a transfer. Calls come from one thread at a time."""

    def start(self, label: str, total: int, unit: str) -> None:
        """Begin a phase with ``total`` of ``unit`` ("B" for bytes, else a plural noun)."""

    def advance(self, amount: int) -> None:
        """Count ``amount`` more units of the current phase as done."""

    def finish(self) -> None:
        """End the current phase."""


class Meter:
    """Counts for a progress, in any thread.

    Args:
        progress: Receives what is counted; None: nobody.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._lock = threading.Lock()

    def start(self, label: str, total: int, unit: str) -> None:
        """See `Progress.start`."""
        if self._progress:
            self._progress.start(label, total, unit)

    def advance(self, amount: int) -> None:
        """See `Progress.advance`."""
        if self._progress:
            with self._lock:
                self._progress.advance(amount)

    def finish(self) -> None:
        """See `Progress.finish`."""
        if self._progress:
            self._progress.finish()


def at_once(work: Callable[[T], R], items: Iterable[T], threads: int) -> list[R]:
    """Do work on items, some at once; return the results in the order of the items.

    The first failure is raised when what has begun has ended; the rest is not begun.
    """
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        return [future.result() for future in futures]
