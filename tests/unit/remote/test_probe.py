"""The probe: which buckets honour conditional writes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone

import pytest
from faults import BUSY, OFFLINE, Faults, failing
from machines import bucket, driver_of
from servers import Remote

from dorky import errors
from dorky.drivers.base import Driver, Stat, Version
from dorky.remote import probe

pytestmark = pytest.mark.usefixtures("as_shipped")


@pytest.mark.every_place
def test_buckets_that_do(remote: Remote) -> None:
    assert probe.honours_swaps(driver_of(remote)) is True
    assert bucket(remote) == {}
    if remote.log:
        writes = [path for method, path in remote.log if method in {"PUT", "POST"}]
        assert len([path for path in writes if "probe/" in path or "/o" in path]) >= 33


@pytest.mark.deep
def test_another_bucket_that_honours_them(seaweedfs_url: Remote) -> None:
    assert probe.honours_swaps(driver_of(seaweedfs_url)) is True
    assert bucket(seaweedfs_url) == {}


def test_a_bucket_that_does_not(rclone_url: Remote) -> None:
    assert probe.honours_swaps(driver_of(rclone_url)) is False
    assert bucket(rclone_url) == {}


class Careless(Faults):
    """Makes a bucket that ignores one of the conditions."""

    def __init__(self, *, ignored: str) -> None:
        super().__init__()
        self.ignored = ignored

    def driver(self, place: Remote) -> Driver:
        inner = driver_of(place)
        careless = self
        lock = threading.Lock()

        class Ignoring(type(self.around(inner))):  # type: ignore[misc]
            def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:
                kind = "create" if expected is None else "update"
                with lock:
                    if kind == careless.ignored:
                        try:
                            blob = inner.get(key)
                            expected = blob.version if blob else None
                        except errors.KeyNotFound:
                            expected = None
                    return inner.swap(key, data, expected=expected)

        return Ignoring(inner, self)


@pytest.mark.parametrize("ignored", ["create", "update"])
def test_half_of_it_is_not_enough(file_url: Remote, ignored: str) -> None:
    assert probe.honours_swaps(Careless(ignored=ignored).driver(file_url)) is False
    assert bucket(file_url) == {}


@pytest.mark.parametrize(
    "error", [BUSY, errors.PreconditionFailed("probe", "url")], ids=["busy", "refused"]
)
def test_a_bucket_that_lets_no_conditional_write_through(
    file_url: Remote, error: Exception
) -> None:
    """That is no verdict either way."""
    faults = Faults()
    faults.before("swap", failing(error), times=1000)
    with pytest.raises(errors.ServerBusy):
        probe.honours_swaps(faults.around(driver_of(file_url)))
    assert bucket(file_url) == {}


def test_losers_that_are_told_that_the_server_is_busy(file_url: Remote) -> None:
    """S3 answers 409 ConditionalRequestConflict to some of those that race."""
    faults = Faults()
    inner = driver_of(file_url)
    busy = iter(range(100))

    class Conflicting(type(faults.around(inner))):  # type: ignore[misc]
        def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:
            try:
                return inner.swap(key, data, expected=expected)
            except errors.PreconditionFailed:
                if next(busy) % 2:
                    raise BUSY from None
                raise

    assert probe.honours_swaps(Conflicting(inner, faults)) is True
    assert bucket(file_url) == {}


@pytest.mark.parametrize("error", [errors.AccessDenied("url", "403"), OFFLINE])
def test_an_error_is_no_verdict(file_url: Remote, error: Exception) -> None:
    faults = Faults()
    faults.before("swap", failing(error), times=100)
    with pytest.raises(type(error)):
        probe.honours_swaps(faults.around(driver_of(file_url)))


def test_who_may_not_delete_may_push(file_url: Remote) -> None:
    faults = Faults()
    faults.before("delete", failing(errors.AccessDenied("x", "403")))
    assert probe.honours_swaps(faults.around(driver_of(file_url))) is True


# --- its clock ------------------------------------------------------------------------------


@pytest.mark.every_place
def test_what_time_it_is_there(remote: Remote) -> None:
    before = datetime.now(timezone.utc)
    found = probe.clock(driver_of(remote))
    # The servers of the tests run on this machine; stores may count in whole seconds.
    assert before - timedelta(seconds=2) <= found <= datetime.now(timezone.utc)
    assert bucket(remote) == {}


def test_the_local_clock_has_no_say(file_url: Remote) -> None:
    there = datetime(2001, 2, 3, 4, 5, 6, tzinfo=timezone.utc)

    def as_there(stats: Iterable[Stat]) -> Iterator[Stat]:
        return iter([each._replace(modified=there) for each in stats])

    faults = Faults()
    faults.after("list", as_there)
    assert probe.clock(faults.around(driver_of(file_url))) == there
    verbs = [verb for verb, _ in faults.calls]
    assert verbs == ["put", "list", "delete"]


def test_a_clock_that_does_not_show(file_url: Remote) -> None:
    faults = Faults()
    faults.after("list", lambda _: iter(()))
    with pytest.raises(errors.ServerBusy):
        probe.clock(faults.around(driver_of(file_url)))
    assert bucket(file_url) == {}


def test_who_may_not_delete_may_look_at_the_clock(file_url: Remote) -> None:
    faults = Faults()
    faults.before("delete", failing(errors.AccessDenied("x", "403")))
    probe.clock(faults.around(driver_of(file_url)))
    assert len(bucket(file_url)) == 1
