"""`Retrying`: a driver around a driver that sends again what is safe to send twice.

It also enforces the bounds of each call on every driver, including those of third parties.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import ClassVar, TypeVar

from dorky import cancellation, errors
from dorky.drivers.base import (
    KEY_LIMIT,
    LIMIT,
    LISTED,
    Advice,
    Blob,
    Driver,
    Inspected,
    Stat,
    Version,
)

T = TypeVar("T")

QUOTED, UNQUOTED, NONE = "quoted", "unquoted", "none"
"""The ways to send the version that a swap expects (see `Retrying`)."""

_STALLS = 2
"""After so many tries that took longer than the patience, the next one to fail is the last."""


def pause(longest: float, asked: float | None = None) -> float:
    """Return how many seconds to wait before the next try: full jitter.

    Args:
        longest: The upper bound of the random part; the caller doubles it with each try.
        asked: The time that a server asked for, which is waited in any case.
    """
    import random

    return random.uniform(0, longest) + (asked or 0.0)  # noqa: S311


class Patience:
    """The time for which a change of a remote is tried again while others change it first.

    Args:
        url: The remote, for the error.
        reason: What the others do, for the error.
    """

    seconds: ClassVar[float] = 120.0
    longest: ClassVar[float] = 0.3
    """The most seconds of one pause."""

    def __init__(self, url: str, reason: str = "others keep changing it") -> None:
        self._error = errors.ServiceUnavailableError(url, reason)
        self._end = time.monotonic() + self.seconds
        self._bound = 0.01

    def wait(self) -> None:
        """Wait a random moment before the next try, longer each time, so that tries spread.

        Raises:
            ServiceUnavailableError: The time is over.
        """
        if time.monotonic() > self._end:
            raise self._error
        cancellation.sleep(pause(self._bound))
        self._bound = min(self.longest, self._bound * 2)


class Retrying:
    """A driver that retries another's reads, unconditional writes, lists and deletes.

    `ServerBusy` and `Unreachable` may pass, so these calls are sent again after an exponential
    backoff with full jitter, or after the time that the server asked for. A host that can't be
    connected to at all (`Unreachable.lasting`) gets `patience_offline` only, so that people without
    a network see the error fast. `swap` is **never** sent twice: after a lost answer only its
    caller can find out whether it took effect.

    A swap names the version that it expects as the driver does (`QUOTED`), or without its quotation
    marks (`UNQUOTED`), which is all that some S3-compatibles understand. With `NONE` nothing is
    sent that a server could fail to support, for a remote with a single writer ever: the version is
    read and compared, then the object is written and read again.

    Args:
        driver: The driver to wrap.
        conditions: How a swap names the version that it expects.
        tries: How often a call is sent at most.
        patience: The most seconds of all pauses. The time that a try takes does not count: a large
            upload may take long and fail. But of tries that took longer than this there are
            at most three.
        patience_offline: The same, while no connection can be made.
        first_delay: Upper bound of the first pause in seconds; it doubles with each try.
        total: After so many seconds no try begins; None: whatever time the tries take.
        sleep: The function that waits, for tests.
        clock: The time in seconds, for tests.
    """

    scheme: ClassVar[str] = "retrying"

    def __init__(
        self,
        driver: Driver,
        *,
        conditions: str = QUOTED,
        tries: int = 6,
        patience: float = 30.0,
        patience_offline: float = 3.0,
        first_delay: float = 0.5,
        total: float | None = None,
        sleep: Callable[[float], None] = cancellation.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.driver = driver
        self.url = driver.url
        self.read_only = bool(getattr(driver, "read_only", False))
        self.conditions = conditions
        self._tries = tries
        self._patience = patience
        self._patience_offline = patience_offline
        self._first_delay = first_delay
        self._total = total
        self._sleep = sleep
        self._clock = clock

    @classmethod
    def open(cls, url: str, options: Mapping[str, str]) -> Driver:
        """Open the driver of ``url``'s scheme, wrapped: the same as `dorky.drivers.open_driver`."""
        from dorky.drivers import open_driver

        return open_driver(url, options)

    def get(self, key: str, *, unless: Version | None = None, limit: int = LIMIT) -> Blob | None:
        """See `Driver.get`."""
        blob = self._retry(lambda: self.driver.get(key, unless=unless, limit=limit))
        if blob and len(blob.data) > limit:
            raise errors.TooLarge(key, self.url, f"{limit:,} bytes")
        return blob

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """See `Driver.get_range`."""
        data = self._retry(lambda: self.driver.get_range(key, start, end))
        if len(data) != end - start:
            raise errors.BadEndpoint(self.url, f"{key} has no bytes {start} to {end}")
        return data

    def put(self, key: str, data: bytes) -> None:
        """See `Driver.put`."""
        self._retry(lambda: self.driver.put(key, data))

    def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:
        """See `Driver.swap`; sent once."""
        if self.conditions == NONE:
            return self._replace(key, data, expected)
        if self.conditions == UNQUOTED and expected is not None:
            expected = Version(expected.strip('"'))
        return self.driver.swap(key, data, expected=expected)

    def _replace(self, key: str, data: bytes, expected: Version | None) -> Version:
        """Swap without a condition."""
        if self._version(key) != expected:
            raise errors.PreconditionFailed(key, self.url)
        self.driver.put(key, data)
        blob = self.get(key, limit=max(LIMIT, len(data)))
        if blob is None or blob.data != data:
            # Somebody else writes, after all.
            raise errors.PreconditionFailed(key, self.url)
        return blob.version

    def _version(self, key: str) -> Version | None:
        try:
            blob = self.get(key)
        except errors.KeyNotFound:
            return None
        return blob.version if blob else None

    def list(self, prefix: str) -> Iterator[Stat]:
        """See `Driver.list`; retried until the first key arrives, not after."""

        def begin() -> Iterator[Stat]:
            stats = self.driver.list(prefix)
            return chain([first], stats) if (first := next(stats, None)) else iter(())

        seen: set[str] = set()
        for count, stat in enumerate(self._retry(begin)):
            if count == LISTED:
                raise errors.TooLarge(f"the list of {prefix}*", self.url, f"{LISTED:,} keys")
            if stat.key in seen:
                raise errors.BadEndpoint(self.url, "its list repeats itself")
            seen.add(stat.key)
            # dorky's keys are shorter, so other keys of such a store are not its own.
            if len(stat.key) <= KEY_LIMIT and stat.key.startswith(prefix) and stat.size >= 0:
                yield stat

    def delete(self, keys: Iterable[str]) -> None:
        """See `Driver.delete`."""
        keys = tuple(keys)
        self._retry(lambda: self.driver.delete(keys))

    def inspect(self, keep: Sequence[str]) -> Iterator[Advice]:
        """See `base.Inspected`; sent once. A driver that can't inspect yields nothing."""
        if isinstance(self.driver, Inspected):
            yield from self.driver.inspect(keep)

    def _retry(self, call: Callable[[], T]) -> T:
        waited = 0.0
        stalled = 0
        first = self._clock()
        for delay in (self._first_delay * 2**n for n in range(self._tries - 1)):
            began = self._clock()
            try:
                return cancellation.interruptible(call)
            except (errors.ServerBusy, errors.Unreachable) as error:
                asked = error.retry_after if isinstance(error, errors.ServerBusy) else None
                wait = pause(delay, asked)
                offline = isinstance(error, errors.Unreachable) and error.lasting
                patience = self._patience_offline if offline else self._patience
                stalled += self._clock() - began > self._patience
                late = self._total and self._clock() - first + wait > self._total
                if late or waited + wait > patience or stalled > _STALLS:
                    raise
            self._sleep(wait)
            waited += wait
        return cancellation.interruptible(call)
