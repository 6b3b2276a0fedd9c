"""The conformance suite that every driver must pass, including those of third parties.

A driver makes dorky store its bytes in a new kind of place. Write a class that follows the protocol
`dorky.drivers.base.Driver`, register it in your ``pyproject.toml`` under the URL scheme it
serves::

    [project.entry-points."dorky.drivers"]
    sftp = "dorky_sftp:SFTPDriver"

and check that it meets the contract with pytest (this module itself does not need it)::

    import pytest

    pytest.register_assert_rewrite("dorky.testing")  # failures then show the values compared

    from dorky.testing import DriverConformance


    class TestSFTPDriver(DriverConformance):
        def make_driver(self):
            return SFTPDriver.open(f"sftp://localhost/{uuid.uuid4()}", {})

Then ``dorky init sftp://…`` works wherever your package is installed.

A driver of places that can only be read has a true attribute ``read_only`` and passes
`ReadOnlyConformance` instead.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
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

    Subclass it (the name must begin with ``Test``) and make your driver in `make_driver`. An
    autouse fixture of the subclass may prepare its needs (a server, a directory).
    """

    racers: int = 16
    """The number of threads that race for one swap."""

    listed: int = 1100
    """The number of keys in the long listing: more than the 1000 that stores put on a page."""

    def make_driver(self) -> Driver:
        """Make the driver under test, at an **empty place of its own for each call**."""
        raise NotImplementedError

    # --- whole objects ---------------------------------------------------------------------

    def test_has_a_url(self) -> None:
        """Check that the driver has a URL for messages."""
        assert self.make_driver().url

    def test_gives_back_what_was_put(self) -> None:
        """Check every byte, for sizes around those that stores and libraries treat differently."""
        driver = self.make_driver()
        for size in (0, 1, 1 << 20, 9 << 20):
            data = os.urandom(size)
            driver.put(f"packs/{size}", data)
            blob = driver.get(f"packs/{size}", limit=size)
            assert blob is not None
            assert type(blob.data) is bytes
            assert blob.data == data

    def test_put_replaces(self) -> None:
        """Check that a second write of the same key wins, and makes another version."""
        driver = self.make_driver()
        driver.put("packs/a", b"the first, which is longer")
        first = _read(driver, "packs/a")
        driver.put("packs/a", b"the second")
        second = _read(driver, "packs/a")
        assert second.data == b"the second"
        assert second.version != first.version

    def test_keys_are_paths(self) -> None:
        """Check that slashes nest, and that neighbours and prefixes of a key are other keys."""
        driver = self.make_driver()
        keys = ["a", "b/c", "b/d", "b-c/e", "deep/er/and/deeper/still", "with space/ünï+%41&=#.x"]
        for key in keys:
            driver.put(key, key.encode())
        for key in keys:
            assert _read(driver, key).data == key.encode()
        assert _keys(driver, "") == sorted(keys)

    def test_missing_keys(self) -> None:
        """Check that missing keys raise `KeyNotFound`, in an empty place and in another."""
        driver = self.make_driver()
        version = Version("0123456789")
        for _ in range(2):
            assert _raises(errors.KeyNotFound, lambda: driver.get(MISSING))
            assert _raises(errors.KeyNotFound, lambda: driver.get_range(MISSING, 0, 1))
            assert _raises(errors.KeyNotFound, lambda: driver.get(MISSING, unless=version))
            driver.put("packs/other", b"x")

    def test_get_is_bounded(self) -> None:
        """Check that an object above the limit is an error, and one of just the limit is not."""
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
        """Check that ranges give exactly the requested bytes."""
        driver = self.make_driver()
        data = os.urandom(100_000)
        driver.put("packs/a", data)
        for start, end in ((0, 1), (0, 100_000), (99_999, 100_000), (5, 70_000), (7, 7)):
            part = driver.get_range("packs/a", start, end)
            assert type(part) is bytes
            assert part == data[start:end]

    def test_ranges_beyond_the_end(self) -> None:
        """Check that a range beyond the end is an error, never fewer bytes than requested."""
        driver = self.make_driver()
        driver.put("packs/a", b"12345")
        assert _raises(errors.BadEndpoint, lambda: driver.get_range("packs/a", 3, 6))
        assert _raises(errors.BadEndpoint, lambda: driver.get_range("packs/a", 5, 6))

    # --- lists and deletions ---------------------------------------------------------------

    def test_list_tells_sizes_and_times(self) -> None:
        """Check that each key is listed once, with its size and the time of its last write."""
        driver = self.make_driver()
        driver.put("packs/a", b"12345")
        (stat,) = driver.list("packs/")
        assert stat == Stat("packs/a", 5, stat.modified)
        assert abs(datetime.now(timezone.utc) - stat.modified) < timedelta(minutes=10)

    def test_list_takes_a_string_prefix(self) -> None:
        """Check that a prefix need not consist of whole path segments."""
        driver = self.make_driver()
        keys = ["packs/aa", "packs/ab", "packs/abc/d", "packs/b", "packs-old/x", "root"]
        for key in keys:
            driver.put(key, b"")
        for prefix in ("", "packs", "packs/", "packs/a", "packs/ab", "packs/abc/", "root", "zz"):
            assert _keys(driver, prefix) == sorted(k for k in keys if k.startswith(prefix))

    def test_list_of_an_empty_place(self) -> None:
        """Check that the list of an empty place is empty, and raises no error."""
        assert _keys(self.make_driver(), "") == []

    def test_list_may_be_given_up(self) -> None:
        """Check that a caller may stop early, and that the driver still works afterwards."""
        driver = self.make_driver()
        for n in range(3):
            driver.put(f"packs/{n}", b"x")
        stats = driver.list("packs/")
        assert next(stats).key.startswith("packs/")
        del stats
        assert _keys(driver, "") == ["packs/0", "packs/1", "packs/2"]

    def test_list_over_all_pages(self) -> None:
        """Check that a list is complete, though stores send a thousand keys at a time."""
        driver = self.make_driver()
        keys = [f"packs/{n:05}" for n in range(self.listed)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: driver.put(key, b""), keys))
        assert _keys(driver, "packs/") == keys
        driver.delete(keys)
        assert _keys(driver, "") == []

    def test_delete(self) -> None:
        """Check that only the named keys are deleted, and that missing ones count as deleted."""
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
        """Check that a get returns None while the version is the same, else the object."""
        driver = self.make_driver()
        version = driver.swap("root", b"one", expected=None)
        assert driver.get("root", unless=version) is None
        assert _read(driver, "root") == Blob(b"one", version)
        later = driver.swap("root", b"two", expected=version)
        assert driver.get("root", unless=version) == Blob(b"two", later)
        assert driver.get("root", unless=later) is None

    def test_swap_creates_and_updates(self) -> None:
        """Check swaps with the version of a get and with the version of a swap."""
        driver = self.make_driver()
        first = driver.swap("root", b"one", expected=None)
        second = driver.swap("root", b"two", expected=first)
        assert second != first
        third = driver.swap("root", b"", expected=_read(driver, "root").version)
        assert _read(driver, "root") == Blob(b"", third)

    def test_swap_refuses(self) -> None:
        """Check that a swap with a wrong expected version is refused and writes nothing."""
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
        """Check that exactly one of racing swaps succeeds, creating and updating, in each round."""
        driver = self.make_driver()
        version: Version | None = None
        for turn in range(4):
            # All differ, because where versions are hashes, the same bytes have their old version.
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
        """Check that a reader gets the old or the new state while a writer replaces an object."""
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


class ReadOnlyConformance:
    """The part of the contract that a driver keeps whose places can only be read.

    Subclass it as `DriverConformance`, and make your driver in `make_driver`.
    """

    def make_driver(self, objects: Mapping[str, bytes]) -> Driver:
        """Make the driver under test, at a place of its own that holds just ``objects``."""
        raise NotImplementedError

    def change(self, driver: Driver, key: str, data: bytes) -> None:
        """Replace an object by the means of the place's owner."""
        raise NotImplementedError

    def test_has_a_url(self) -> None:
        """Check that the driver has a URL for messages, and says that it only reads."""
        driver = self.make_driver({})
        assert driver.url
        assert getattr(driver, "read_only", False) is True

    def test_gives_what_is_there(self) -> None:
        """Check every byte, and that keys are paths."""
        sizes = {f"packs/{size}": os.urandom(size) for size in (0, 1, 1 << 20, 9 << 20)}
        keys = ["a", "b/c", "b-c/e", "deep/er/and/deeper/still", "with space/ünï+%41&=#.x"]
        objects = {**sizes, **{key: key.encode() for key in keys}}
        driver = self.make_driver(objects)
        for key, data in objects.items():
            blob = driver.get(key, limit=len(data))
            assert blob is not None
            assert type(blob.data) is bytes
            assert blob.data == data

    def test_missing_keys(self) -> None:
        """Check that missing keys raise `KeyNotFound`, in an empty place and in another."""
        for driver in (self.make_driver({}), self.make_driver({"packs/other": b"x"})):
            assert _raises(errors.KeyNotFound, partial(driver.get, MISSING))
            assert _raises(errors.KeyNotFound, partial(driver.get_range, MISSING, 0, 1))

    def test_get_is_bounded(self) -> None:
        """Check that an object above the limit is an error, and one of just the limit is not."""
        sizes = (1, LIMIT, LIMIT + 1, 9 << 20)
        driver = self.make_driver({str(size): bytes(size) for size in sizes})
        for size in sizes:
            blob = driver.get(str(size), limit=size)
            assert blob is not None
            assert len(blob.data) == size
            for limit in {0, 1, size // 2, size - 1} - {size}:
                assert _raises(errors.TooLarge, partial(driver.get, str(size), limit=limit))

    def test_ranges(self) -> None:
        """Check that ranges give exactly the requested bytes, and none beyond the end."""
        data = os.urandom(100_000)
        driver = self.make_driver({"packs/a": data})
        for start, end in ((0, 1), (0, 100_000), (99_999, 100_000), (5, 70_000), (7, 7)):
            part = driver.get_range("packs/a", start, end)
            assert type(part) is bytes
            assert part == data[start:end]
        for start, end in ((99_998, 100_001), (100_000, 100_001), (200_000, 200_001)):
            assert _raises(errors.BadEndpoint, partial(driver.get_range, "packs/a", start, end))

    def test_conditional_get(self) -> None:
        """Check that a get returns None while the version is the same, else the object."""
        driver = self.make_driver({"root": b"one"})
        first = _read(driver, "root")
        assert first.data == b"one"
        assert driver.get("root", unless=first.version) is None
        self.change(driver, "root", b"two")
        second = driver.get("root", unless=first.version)
        assert second is not None
        assert second.data == b"two"
        assert driver.get("root", unless=second.version) is None

    def test_writes_are_refused(self) -> None:
        """Check that nothing is written, whatever is called."""
        driver = self.make_driver({"root": b"one"})
        before = _read(driver, "root")
        for write in (
            partial(driver.put, "packs/a", b"x"),
            partial(driver.swap, "root", b"two", expected=before.version),
            partial(driver.swap, "other", b"two", expected=None),
            partial(driver.delete, ["root"]),
        ):
            assert _raises(errors.ReadOnlyRemote, write)
        assert _read(driver, "root") == before
        assert _raises(errors.KeyNotFound, lambda: driver.get("packs/a"))


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
    """Call ``act(0)`` … ``act(count - 1)``, each in its own thread, all at once."""
    barrier = threading.Barrier(count)

    def start(number: int) -> T:
        barrier.wait(timeout=60)
        return act(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(start, range(count)))
