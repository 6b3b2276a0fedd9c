"""The probe: check whether a bucket honours conditional writes. Some S3-compatibles do not.

Sixteen writers race for one scratch key, first to create it, then to replace it. In a store that
keeps the contract exactly one of them wins each round.

Another scratch key tells the time of the store's clock.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import NamedTuple

from dorky import errors
from dorky.drivers.base import Driver, Version, refusal

WRITERS = 16
_ROUNDS = 3
_SECOND = 1.2
"""The seconds after which a store that takes one write a second for each key takes another."""
PREFIX = "probe/"


class _Race(NamedTuple):
    """The outcome of a race: the versions of the winners, and whether anybody was refused."""

    won: list[Version]
    refused: bool


def honours_swaps(driver: Driver, *, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Race conditional writers against a scratch key, which is deleted afterwards.

    This costs 34 requests in two parallel rounds, and one to clean up. A store that takes one write
    a second for each key answers most writers that it is busy: then they race for it again.

    Args:
        driver: The driver of the place.
        sleep: Waits, for tests.

    Raises:
        AccessDenied: Writing is not allowed at all.
        SwapsUnsupported: The store refuses conditional writes, or every replacement.
        ServerBusy: The store answered no writer, again and again.
    """
    used: list[str] = []
    shown: Version | None = None
    try:
        for _ in range(_ROUNDS):
            key = PREFIX + secrets.token_hex(8)
            used.append(key)
            created = _race(driver, key, None)
            if len(created.won) > 1:
                return False
            if not created.won:
                continue
            (first,) = created.won
            if not created.refused and _later(driver, key, None, sleep).won:
                return False
            replaced = _race(driver, key, first)
            if not replaced.won and not replaced.refused:
                replaced = _later(driver, key, first, sleep)
            if len(replaced.won) > 1:
                return False
            if replaced.won:
                return _refuses_late(driver, key, first, used, sleep)
            shown = first if replaced.refused else shown
        if shown is not None:
            raise errors.SwapsUnsupported(driver.url, refusal(shown))
        raise errors.ServiceUnavailableError(driver.url, "no conditional write got through")
    finally:
        _clean_up(driver, used)


def _refuses_late(
    driver: Driver, key: str, old: Version, used: list[str], sleep: Callable[[float], None]
) -> bool:
    """Return whether an outdated version loses, and any version of a key that does not exist."""
    missing = PREFIX + secrets.token_hex(8)
    used.append(missing)
    for target in (key, missing):
        late = _race(driver, target, old, writers=1)
        if not late.won and not late.refused:
            late = _later(driver, target, old, sleep, writers=1)
        if late.won:
            return False
    return True


def clock(driver: Driver) -> datetime:
    """Return the time by the store's own clock, which also says when each key was written.

    This costs three requests: a scratch key is written, listed and deleted. The local clock may be
    wrong by years, and the age of a key is a difference of two times.

    Raises:
        AccessDenied: Writing is not allowed.
        ServerBusy: The listing lacks the key that was written.
    """
    key = PREFIX + secrets.token_hex(8)
    try:
        driver.put(key, secrets.token_hex(8).encode())
        for stored in driver.list(key):
            return stored.modified
        raise errors.ServiceUnavailableError(
            driver.url, "it does not list what was written just now"
        )
    finally:
        _clean_up(driver, [key])


def _clean_up(driver: Driver, used: Iterable[str]) -> None:
    # A member who may write need not be allowed to delete; `remote.gc` deletes the key later.
    with contextlib.suppress(errors.AccessError, errors.Unavailable):
        driver.delete(used)


def _later(
    driver: Driver,
    key: str,
    expected: Version | None,
    sleep: Callable[[float], None],
    *,
    writers: int = WRITERS,
) -> _Race:
    """Race for a key again, as soon as a store that takes one write a second takes another."""
    for _ in range(_ROUNDS):
        sleep(_SECOND)
        race = _race(driver, key, expected, writers=writers)
        if race.won or race.refused:
            return race
    return race


def _race(driver: Driver, key: str, expected: Version | None, *, writers: int = WRITERS) -> _Race:
    """Return the outcome of a race.

    A store may be too busy to answer some writers (S3 answers 409 to those that collide; any store
    may answer 503), which says nothing about them.
    """
    start = threading.Barrier(writers)

    def write(n: int) -> Version | bool:
        start.wait()
        try:
            return driver.swap(key, f"{n} {secrets.token_hex(8)}".encode(), expected=expected)
        except errors.PreconditionFailed:
            return True
        except errors.ServerBusy:
            return False

    with ThreadPoolExecutor(max_workers=writers) as pool:
        found = list(pool.map(write, range(writers)))
    return _Race([stored for stored in found if isinstance(stored, str)], True in found)
