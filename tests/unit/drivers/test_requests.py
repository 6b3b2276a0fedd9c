"""How many requests each call costs: one, and no more bytes than it has to carry."""

from __future__ import annotations

import pytest
from servers import Remote

from dorky.drivers import open_driver
from dorky.drivers.retry import Retrying


@pytest.fixture(params=["s3", "gcs"])
def remote(request: pytest.FixtureRequest) -> Remote:
    found: Remote = request.getfixturevalue(f"{request.param}_url")
    return found


def test_every_call_is_one_request(remote: Remote) -> None:
    driver = open_driver(remote.url, remote.options)
    assert isinstance(driver, Retrying)  # it sends nothing twice that has succeeded
    log = remote.log

    def methods() -> list[str]:
        said = [method for method, _ in log]
        log.clear()
        return said

    write = ["PUT"] if driver.url.startswith("s3:") else ["POST"]
    first = driver.swap("root", b"one", expected=None)
    assert methods() == write
    second = driver.swap("root", b"two", expected=first)
    assert methods() == write
    driver.get("root")
    assert methods() == ["GET"]
    driver.get("root", unless=second)
    assert methods() == ["GET"]
    driver.get("root", unless=first)
    assert methods() == ["GET"]
    driver.put("packs/a", b"x" * (5 << 20))
    assert methods() == write
    driver.get_range("packs/a", 1, 4 << 20)
    assert methods() == ["GET"]
    assert len(list(driver.list(""))) == 2
    assert methods() == ["GET"]
    driver.delete(["packs/a"])
    assert methods() == (["POST"] if driver.url.startswith("s3:") else ["DELETE"])
    assert driver.get_range("packs/a", 3, 3) == b""
    assert methods() == []


def test_s3_writes_large_objects_and_deletes_many_in_one_request(s3_url: Remote) -> None:
    driver = open_driver(s3_url.url, s3_url.options)
    driver.put("packs/a", b"x" * (32 << 20))
    assert [method for method, _ in s3_url.log] == ["PUT"]
    s3_url.log.clear()
    driver.delete(f"packs/{n}" for n in range(1000))
    assert [method for method, _ in s3_url.log] == ["POST"]


def test_bytes_go_once(remote: Remote) -> None:
    """Beside them Google is sent metadata, and answers with it."""
    driver = open_driver(remote.url, remote.options)
    log = remote.log
    beside = 0 if driver.url.startswith("s3:") else 2048

    def carried() -> tuple[int, int]:
        said = log.up, log.down
        log.clear()
        return said

    driver.put("packs/a", b"x" * (5 << 20))
    up, down = carried()
    assert 5 << 20 <= up <= (5 << 20) + beside
    assert down <= beside
    version = driver.swap("root", b"y" * 100_000, expected=None)
    up, down = carried()
    assert 100_000 <= up <= 100_000 + beside
    assert down <= beside
    driver.get("root")
    assert carried() == (0, 100_000)
    driver.get("root", unless=version)
    assert carried() == (0, 0)
    driver.get_range("packs/a", 10, 1010)
    assert carried() == (0, 1000)


def test_the_log_has_paths(remote: Remote) -> None:
    open_driver(remote.url, remote.options).put("packs/ä b", b"")
    ((_, path),) = remote.log
    bucket = remote.url.split("/")[2]
    assert f"/{bucket}/" in path
