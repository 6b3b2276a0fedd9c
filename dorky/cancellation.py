"""Cancellation: when a caller of the library gives up, what works for it in threads stops.

The call is in a context variable, which the threads that it starts inherit. Without one, as on the
command line, nothing in this module has an effect.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

_POLL = 0.05
"""The seconds after which whatever waits looks for cancellation."""

T = TypeVar("T")


class Cancelled(BaseException):
    """The caller has given up. It is no `Exception`: what handles errors must not swallow it."""


class Call:
    """A call that may be cancelled from another thread.

    Args:
        parts: Other calls: if all of them are cancelled, so is this one.
        idle: Called when the call does nothing more but wait for others.

    Attributes:
        shielded: Whether it is doing what must not be interrupted.
        wake: Called when the call is cancelled: ends what it waits for.
    """

    def __init__(self, *parts: Call, idle: Callable[[], object] = lambda: None) -> None:
        self.idle = idle
        self.shielded = False
        self.wake: Callable[[], object] = lambda: None
        self._parts = parts
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Return whether nobody waits for the result any more."""
        parts = self._parts
        return self._cancelled or (bool(parts) and all(part.cancelled for part in parts))

    def cancel(self) -> None:
        """End the call soon."""
        self._cancelled = True
        self.wake()

    def shield(self, on: bool) -> None:
        """Note whether the call is doing what must not be interrupted."""
        self.shielded = on
        for part in self._parts:
            part.shield(on)


_CURRENT: contextvars.ContextVar[Call | None] = contextvars.ContextVar("call", default=None)


def current() -> Call | None:
    """Return the call that this thread works for; None if it can't be cancelled."""
    return _CURRENT.get()


def together(calls: Iterable[Call | None]) -> Call | None:
    """Return a call that is cancelled when all of some calls are; None if one can't be."""
    found = [*calls]
    parts = [call for call in found if call]
    return Call(*parts) if parts and len(parts) == len(found) else None


@contextlib.contextmanager
def scope(call: Call | None) -> Iterator[None]:
    """Let a block work for a call."""
    token = _CURRENT.set(call)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Let a block run to its end, whatever is cancelled."""
    call = _CURRENT.get()
    if call is None:
        yield
        return
    call.shield(True)
    try:
        with scope(None):
            yield
    finally:
        call.shield(False)


def cancelled() -> bool:
    """Return whether the call that this thread works for was cancelled."""
    call = _CURRENT.get()
    return call is not None and call.cancelled


def check() -> None:
    """End the work of a call that was cancelled.

    Raises:
        Cancelled: It was.
    """
    if cancelled():
        raise Cancelled


def sleep(seconds: float) -> None:
    """Wait, unless the call is cancelled."""
    if _CURRENT.get() is None:
        time.sleep(seconds)
        return
    ending = time.monotonic() + seconds
    while (left := ending - time.monotonic()) > 0:
        check()
        time.sleep(min(left, _POLL))


@contextlib.contextmanager
def holding(lock: Any) -> Iterator[None]:
    """Hold a lock for a block; stop waiting for it if the call is cancelled."""
    if _CURRENT.get() is None:
        lock.acquire()
    else:
        check()
        while not lock.acquire(timeout=_POLL):
            check()
    try:
        yield
    finally:
        lock.release()


class Turn:
    """A lock for which hundreds of threads may wait, each until another has done its work for it.

    They sleep until the lock is free, or until their calls are cancelled.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: set[threading.Event] = set()

    @contextlib.contextmanager
    def taken(self, done: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        """Hold the lock for a block, and yield True; yield False if its work is done without it.

        Args:
            done: Returns whether there is nothing left to do.
        """
        if not self._take(done):
            yield False
            return
        try:
            yield True
        finally:
            with self._lock:
                self._taken = False
                for waiting in self._waiting:
                    waiting.set()

    def _take(self, done: Callable[[], bool]) -> bool:
        """Wait; return whether the lock was taken."""
        changed = threading.Event()
        call = current()
        if call:
            call.wake = changed.set
        try:
            while True:
                changed.clear()
                check()
                with self._lock:
                    if done():
                        return False
                    if not self._taken:
                        self._taken = True
                        return True
                    self._waiting.add(changed)
                changed.wait()
        finally:
            if call:
                call.wake = lambda: None
            with self._lock:
                self._waiting.discard(changed)


def interruptible(work: Callable[[], T]) -> T:
    """Do work that waits for a server; stop waiting if the call is cancelled.

    The work is then left to a thread of its own, which ends when it next looks for cancellation,
    or when the server answers.
    """
    if _CURRENT.get() is None:
        return work()
    answers: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(work())
        except BaseException as error:  # noqa: BLE001 (it is raised where it is waited for)
            failures.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True)
    check()
    thread.start()
    while thread.is_alive():
        check()
        thread.join(_POLL)
    for error in failures:
        raise error
    return answers[0]
