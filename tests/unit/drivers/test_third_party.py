"""A driver of somebody else's, installed beside dorky, found by its URL scheme."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import ClassVar

import pytest

from dorky import errors
from dorky.drivers import open_driver
from dorky.drivers.base import LIMIT, Blob, Driver, Stat, Version
from dorky.testing import DriverConformance


class MemoryDriver:
    """The least that passes: a dictionary."""

    scheme: ClassVar[str] = "memory"
    places: ClassVar[dict[str, dict[str, tuple[bytes, datetime]]]] = {}
    lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, url: str) -> None:
        self.url = url
        self.objects = self.places.setdefault(url, {})

    @classmethod
    def open(cls, url: str, options: object) -> MemoryDriver:
        return cls(url)

    def get(self, key: str, *, unless: Version | None = None, limit: int = LIMIT) -> Blob | None:
        if key not in self.objects:
            raise errors.KeyNotFound(key, self.url)
        data, _ = self.objects[key]
        if len(data) > limit:
            raise errors.TooLarge(key, self.url, limit)
        version = Version(hashlib.sha256(data).hexdigest())
        return None if version == unless else Blob(data, version)

    def get_range(self, key: str, start: int, end: int) -> bytes:
        blob = self.get(key, limit=1 << 30)
        assert blob
        if end > len(blob.data):
            raise errors.BadEndpoint(self.url, "too short")
        return blob.data[start:end]

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = (data, datetime.now(timezone.utc))

    def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:
        with self.lock:
            try:
                blob = self.get(key)
                current = blob.version if blob else None
            except errors.KeyNotFound:
                current = None
            if current != expected:
                raise errors.PreconditionFailed(key, self.url)
            self.put(key, data)
        return Version(hashlib.sha256(data).hexdigest())

    def list(self, prefix: str) -> Iterator[Stat]:
        for key, (data, modified) in self.objects.copy().items():
            if key.startswith(prefix):
                yield Stat(key, len(data), modified)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.objects.pop(key, None)


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pip installs it: a .dist-info directory on sys.path that names the entry point."""
    metadata = tmp_path / "dorky_memory-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: dorky-memory\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[dorky.drivers]\nmemory = {__name__}:MemoryDriver\n"
        "broken = dorky_memory_of_nobody:Driver\n"
        "s3 = dorky_memory_of_nobody:Driver\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])


class TestMemoryDriver(DriverConformance):
    count = 0

    def make_driver(self) -> Driver:
        TestMemoryDriver.count += 1
        driver = open_driver(f"memory://place-{self.count}", {})
        assert driver.url.startswith("memory://")
        return driver


def test_its_package_is_broken() -> None:
    with pytest.raises(errors.MissingLibrary, match="dorky_memory_of_nobody"):
        open_driver("broken://x", {})


def test_it_is_named_where_a_scheme_is_unknown() -> None:
    with pytest.raises(errors.NoDriver) as caught:
        open_driver("ftp://x", {})
    assert caught.value.args[1] == "broken, file, gs, https, memory, s3"


def test_it_does_not_replace_ours() -> None:
    assert open_driver("s3://bucket", {}).url == "s3://bucket"
