"""The probe: check whether a bucket honours conditional writes. Some S3-compatibles do not.

Sixteen writers race for one scratch key, first to create it, then to replace it. In a store that
keeps the contract exactly one of them wins each round.

Another scratch key tells the time of the store's clock.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from dorky import errors
from dorky.drivers.base import Driver, Version

WRITERS = 16
_ROUNDS = 3
PREFIX = "probe/"


def honours_swaps(driver: Driver) -> bool:
    """Race conditional writers against a scratch key, which is deleted afterwards.

    This costs 33 requests in two parallel rounds, and one to clean up.

    Raises:
        AccessDenied: Writing is not allowed at all.
        ServerBusy: The store answered no writer, again and again.
    """
    used: list[str] = []
    try:
        for _ in range(_ROUNDS):
            key = PREFIX + secrets.token_hex(8)
            used.append(key)
            won = _race(driver, key, None)
            if len(won) > 1:
                return False
            if not won:
                continue
            replaced = _race(driver, key, won[0])
            if len(replaced) > 1:
                return False
            # A late writer with an outdated version must lose, too.
            if replaced:
                return not _race(driver, key, won[0], writers=1)
        raise errors.ServerBusy(driver.url, "no conditional write got through")
    finally:
        _clean_up(driver, used)


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
        for each in driver.list(key):
            return each.modified
        raise errors.ServerBusy(driver.url, "it does not list what was written just now")
    finally:
        _clean_up(driver, [key])


def _clean_up(driver: Driver, used: Iterable[str]) -> None:
    # A member who may write need not be allowed to delete; `remote.gc` deletes the key later.
    with contextlib.suppress(errors.AccessError, errors.Unavailable):
        driver.delete(used)


def _race(
    driver: Driver, key: str, expected: Version | None, *, writers: int = WRITERS
) -> list[Version]:
    """Return the versions of the writers that are known to have won.

    A store may be too busy to answer some writers (S3 answers 409 to those that collide; any store
    may answer 503), which says nothing about them.
    """
    start = threading.Barrier(writers)

    def write(n: int) -> Version | None:
        start.wait()
        try:
            return driver.swap(key, f"{n} {secrets.token_hex(8)}".encode(), expected=expected)
        except (errors.PreconditionFailed, errors.ServerBusy):
            return None

    with ThreadPoolExecutor(max_workers=writers) as pool:
        return [version for version in pool.map(write, range(writers)) if version is not None]
