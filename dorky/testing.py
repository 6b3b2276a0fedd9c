"""The conformance suite that every driver must pass, ours and third parties'.

A driver makes dorky store its bytes in a new kind of place. Write a class after the protocol
`dorky.drivers.base.Driver`, register it in your ``pyproject.toml`` under the URL scheme it
serves::

    [project.entry-points."dorky.drivers"]
    sftp = "dorky_sftp:SFTPDriver"

and hold it to the contract with pytest (this module itself does not need it)::

    import pytest

    pytest.register_assert_rewrite("dorky.testing")  # failures then show the values compared

    from dorky.testing import DriverConformance


    class TestSFTPDriver(DriverConformance):
        def make_driver(self):
            return SFTPDriver.open(f"sftp://localhost/{uuid.uuid4()}", {})

Then ``dorky init sftp://…`` works wherever your package is installed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TypeVar

from dorky import errors
from dorky.drivers.base import LIMIT, Blob, Driver, Stat, Version

T = TypeVar("T")

MISSING = "packs/no-such-key"


class DriverConformance:
    """Tests of the contract in `dorky.drivers.base`, as methods that pytest collects.

    Subclass it (the name must begin with ``Test``) and say in `make_driver` how to make yours.
    What it needs (a server, a directory) may come from an autouse fixture of the subclass.
    """

    racers: int = 16
    """Threads that race for one swap."""

    listed: int = 1100
    """Keys in the long listing: more than the 1000 that stores put on a page."""

    def make_driver(self) -> Driver:
        """Make the driver under test, at an **empty place of its own for each call**."""
        raise NotImplementedError

    # --- whole objects ---------------------------------------------------------------------

    def test_has_a_url(self) -> None:
        """Messages name the place by it."""
        assert self.make_driver().url

    def test_gives_back_what_was_put(self) -> None:
        """Every byte, for sizes around what stores and libraries treat apart."""
        driver = self.make_driver()
        for size in (0, 1, 1 << 20, 9 << 20):
            data = os.urandom(size)
            driver.put(f"packs/{size}", data)
            blob = driver.get(f"packs/{size}", limit=size)
            assert blob is not None
            assert type(blob.data) is bytes
            assert blob.data == data

    def test_put_replaces(self) -> None:
        """A second write of the same key wins, and makes another version."""
        driver = self.make_driver()
        driver.put("packs/a", b"the first, which is longer")
        first = _read(driver, "packs/a")
        driver.put("packs/a", b"the second")
        second = _read(driver, "packs/a")
        assert second.data == b"the second"
        assert second.version != first.version

    def test_keys_are_paths(self) -> None:
        """Slashes nest; neighbours and prefixes of a key are other keys."""
        driver = self.make_driver()
        keys = ["a", "b/c", "b/d", "b-c/e", "deep/er/and/deeper/still", "with space/ünï+%41&=#.x"]
        for key in keys:
            driver.put(key, key.encode())
        for key in keys:
            assert _read(driver, key).data == key.encode()
        assert _keys(driver, "") == sorted(keys)

    def test_missing_keys(self) -> None:
        """They are `KeyNotFound`, in a place that holds nothing and in one that does."""
        driver = self.make_driver()
        version = Version("0123456789")
        for _ in range(2):
            assert _raises(errors.KeyNotFound, lambda: driver.get(MISSING))
            assert _raises(errors.KeyNotFound, lambda: driver.get_range(MISSING, 0, 1))
            assert _raises(errors.KeyNotFound, lambda: driver.get(MISSING, unless=version))
            driver.put("packs/other", b"x")

    def test_get_is_bounded(self) -> None:
        """An object of more bytes than the limit is an error; one of as many is none."""
        driver = self.make_driver()
        for size in (1, LIMIT, LIMIT + 1, 9 << 20):
            driver.put("packs/a", bytes(size))
            blob = driver.get("packs/a", limit=size)
            assert blob is not None
            assert len(blob.data) == size
            for limit in {0, 1, size // 2, size - 1} - {size}:
                assert _raises(errors.TooLarge, partial(driver.get, "packs/a", limit=limit))
            assert driver.get("packs/a", unless=blob.version, limit=size) is None
        assert _raises(errors.TooLarge, lambda: driver.get("packs/a"))
        version = driver.swap("root", bytes(LIMIT), expected=None)
        assert _read(driver, "root").version == version

    # --- parts -----------------------------------------------------------------------------

    def test_ranges(self) -> None:
        """Exactly the bytes asked for."""
        driver = self.make_driver()
        data = os.urandom(100_000)
        driver.put("packs/a", data)
        for start, end in ((0, 1), (0, 100_000), (99_999, 100_000), (5, 70_000), (7, 7)):
            part = driver.get_range("packs/a", start, end)
            assert type(part) is bytes
            assert part == data[start:end]

    def test_ranges_beyond_the_end(self) -> None:
        """An error, never fewer bytes than asked for."""
        driver = self.make_driver()
        driver.put("packs/a", b"12345")
        assert _raises(errors.BadEndpoint, lambda: driver.get_range("packs/a", 3, 6))
        assert _raises(errors.BadEndpoint, lambda: driver.get_range("packs/a", 5, 6))

    # --- lists and deletions ---------------------------------------------------------------

    def test_list_tells_sizes_and_times(self) -> None:
        """Each key once, with its size and when it was written."""
        driver = self.make_driver()
        driver.put("packs/a", b"12345")
        (stat,) = driver.list("packs/")
        assert stat == Stat("packs/a", 5, stat.modified)
        assert abs(datetime.now(timezone.utc) - stat.modified) < timedelta(minutes=10)

    def test_list_takes_a_string_prefix(self) -> None:
        """Not only whole path segments."""
        driver = self.make_driver()
        keys = ["packs/aa", "packs/ab", "packs/abc/d", "packs/b", "packs-old/x", "root"]
        for key in keys:
            driver.put(key, b"")
        for prefix in ("", "packs", "packs/", "packs/a", "packs/ab", "packs/abc/", "root", "zz"):
            assert _keys(driver, prefix) == sorted(k for k in keys if k.startswith(prefix))

    def test_list_of_an_empty_place(self) -> None:
        """Nothing, and no error."""
        assert _keys(self.make_driver(), "") == []

    def test_list_may_be_given_up(self) -> None:
        """Whoever has seen enough stops; the driver goes on working."""
        driver = self.make_driver()
        for n in range(3):
            driver.put(f"packs/{n}", b"x")
        stats = driver.list("packs/")
        assert next(stats).key.startswith("packs/")
        del stats
        assert _keys(driver, "") == ["packs/0", "packs/1", "packs/2"]

    def test_list_over_all_pages(self) -> None:
        """Stores send a list by the thousand; the driver gives all of it."""
        driver = self.make_driver()
        keys = [f"packs/{n:05}" for n in range(self.listed)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: driver.put(key, b""), keys))
        assert _keys(driver, "packs/") == keys
        driver.delete(keys)
        assert _keys(driver, "") == []

    def test_delete(self) -> None:
        """Only what was named; what is not there counts as deleted."""
        driver = self.make_driver()
        for key in ("packs/a", "packs/b", "packs/c"):
            driver.put(key, b"x")
        driver.delete(key for key in ("packs/a", MISSING, "packs/c"))
        driver.delete([])
        driver.delete([MISSING])
        assert _keys(driver, "") == ["packs/b"]
        assert _raises(errors.KeyNotFound, lambda: driver.get("packs/a"))

    # --- versions --------------------------------------------------------------------------

    def test_conditional_get(self) -> None:
        """None while the version is the same, the object as soon as it is not."""
        driver = self.make_driver()
        version = driver.swap("root", b"one", expected=None)
        assert driver.get("root", unless=version) is None
        assert _read(driver, "root") == Blob(b"one", version)
        later = driver.swap("root", b"two", expected=version)
        assert driver.get("root", unless=version) == Blob(b"two", later)
        assert driver.get("root", unless=later) is None

    def test_swap_creates_and_updates(self) -> None:
        """With the version of a get and with the version of a swap."""
        driver = self.make_driver()
        first = driver.swap("root", b"one", expected=None)
        second = driver.swap("root", b"two", expected=first)
        assert second != first
        third = driver.swap("root", b"", expected=_read(driver, "root").version)
        assert _read(driver, "root") == Blob(b"", third)

    def test_swap_refuses(self) -> None:
        """What exists when none was expected, what is stale, what is gone; and writes nothing."""
        driver = self.make_driver()
        stale = driver.swap("root", b"one", expected=None)
        assert _raises(errors.PreconditionFailed, lambda: driver.swap("root", b"x", expected=None))
        driver.swap("root", b"two", expected=stale)
        assert _raises(errors.PreconditionFailed, lambda: driver.swap("root", b"x", expected=stale))
        assert _read(driver, "root").data == b"two"
        assert _raises(
            errors.PreconditionFailed, lambda: driver.swap(MISSING, b"x", expected=stale)
        )
        assert _raises(errors.KeyNotFound, lambda: driver.get(MISSING))

    def test_one_winner(self) -> None:
        """Of racing swaps exactly one succeeds, creating and updating, round after round."""
        driver = self.make_driver()
        version: Version | None = None
        for turn in range(4):
            # All different: where versions are hashes, bytes written again are their old version.
            offers = [b"racer %d, turn %d" % (racer, turn) for racer in range(self.racers)]

            def swap(
                racer: int, *, offers: list[bytes], expected: Version | None
            ) -> Version | None:
                try:
                    return driver.swap("root", offers[racer], expected=expected)
                except (errors.PreconditionFailed, errors.ServerBusy):
                    return None

            results = _race(self.racers, partial(swap, offers=offers, expected=version))
            winners = [racer for racer, result in enumerate(results) if result is not None]
            assert len(winners) == 1
            version = results[winners[0]]
            assert tuple(_read(driver, "root")) == (offers[winners[0]], version)

    def test_readers_see_whole_objects(self) -> None:
        """While a writer replaces it, a reader gets one state or the other."""
        driver = self.make_driver()
        states = [bytes([n]) * (1 << 19) * (n + 1) for n in range(2)]
        driver.put("root", states[0])

        def act(actor: int) -> bool:
            if actor == 0:
                for n in range(1, 9):
                    driver.put("root", states[n % 2])
                return True
            return all(_read(driver, "root").data in states for _ in range(8))

        assert all(_race(4, act))


def _read(driver: Driver, key: str) -> Blob:
    blob = driver.get(key)
    assert blob is not None
    return blob


def _keys(driver: Driver, prefix: str) -> list[str]:
    return sorted(stat.key for stat in driver.list(prefix))


def _raises(kind: type[errors.DorkyError], call: Callable[[], object]) -> bool:
    try:
        call()
    except kind:
        return True
    return False


def _race(count: int, act: Callable[[int], T]) -> list[T]:
    """Call ``act(0)`` … ``act(count - 1)``, each in a thread of its own, all at once."""
    barrier = threading.Barrier(count)

    def start(number: int) -> T:
        barrier.wait(timeout=60)
        return act(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(start, range(count)))
