"""The conformance suite itself: it catches drivers that break the contract."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dorky import errors
from dorky.drivers.base import LIMIT, Blob, Driver, Stat, Version
from dorky.drivers.file import FileDriver
from dorky.testing import DriverConformance


class IgnoresVersions(FileDriver):
    """As some S3-compatibles do."""

    def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:
        self.put(key, data)
        blob = self.get(key)
        assert blob
        return blob.version


class ChecksThenWrites(FileDriver):
    """Compares and writes, but not in one step."""

    def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:
        import time

        try:
            blob = self.get(key)
        except errors.KeyNotFound:
            blob = None
        if (blob.version if blob else None) != expected:
            raise errors.PreconditionFailed(key, self.url)
        time.sleep(0.05)
        return IgnoresVersions.swap(self, key, data, expected=expected)  # type: ignore[arg-type]


class WritesInPlace(FileDriver):
    def put(self, key: str, data: bytes) -> None:
        import time

        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for start in range(0, len(data), 1 << 18):
                file.write(data[start : start + (1 << 18)])
                file.flush()
                time.sleep(0.01)


class ForgetsTheRest(FileDriver):
    def list(self, prefix: str) -> Iterator[Stat]:
        stats = super().list(prefix)
        return (stat for stat, _ in zip(stats, range(1000), strict=False))


class ListsDirectories(FileDriver):
    def list(self, prefix: str) -> Iterator[Stat]:
        return (s for s in super().list("") if not prefix or s.key.startswith(f"{prefix}/"))


class CutsRangesShort(FileDriver):
    def get_range(self, key: str, start: int, end: int) -> bytes:
        return self.get(key, limit=1 << 30).data[start:end]  # type: ignore[union-attr]


class LeaksErrors(FileDriver):
    def get(self, key: str, *, unless: Version | None = None, limit: int = LIMIT) -> Blob | None:
        data = (self.root / key).read_bytes()
        found = super().get(key, unless=unless, limit=limit)
        assert not found or found.data == data
        return found


class AlwaysSends(FileDriver):
    def get(self, key: str, *, unless: Version | None = None, limit: int = LIMIT) -> Blob | None:
        return super().get(key, limit=limit)


class ReadsWhatever(FileDriver):
    def get(self, key: str, *, unless: Version | None = None, limit: int = LIMIT) -> Blob | None:
        return super().get(key, unless=unless, limit=1 << 40)


class MissesMissing(FileDriver):
    def delete(self, keys: Any) -> None:
        for key in keys:
            super().get(key)
            super().delete([key])


def failures(suite: type[DriverConformance], place: Path) -> set[str]:
    failed = set()
    for name in dir(suite):
        if name.startswith("test_"):
            try:
                getattr(suite(), name)()
            except Exception:  # noqa: BLE001
                failed.add(name)
    return failed


def suite_for(driver: type[FileDriver], place: Path) -> type[DriverConformance]:
    class Suite(DriverConformance):
        count = 0

        def make_driver(self) -> Driver:
            Suite.count += 1
            return driver.open(str(place / str(Suite.count)), {})

    return Suite


def test_a_good_driver_passes(tmp_path: Path) -> None:
    assert failures(suite_for(FileDriver, tmp_path), tmp_path) == set()


@pytest.mark.parametrize(
    ("driver", "caught_by"),
    [
        (IgnoresVersions, "test_swap_refuses"),
        (IgnoresVersions, "test_one_winner"),
        (ChecksThenWrites, "test_one_winner"),
        (WritesInPlace, "test_readers_see_whole_objects"),
        (ForgetsTheRest, "test_list_over_all_pages"),
        (ListsDirectories, "test_list_takes_a_string_prefix"),
        (CutsRangesShort, "test_ranges_beyond_the_end"),
        (LeaksErrors, "test_missing_keys"),
        (AlwaysSends, "test_conditional_get"),
        (ReadsWhatever, "test_get_is_bounded"),
        (MissesMissing, "test_delete"),
    ],
)
def test_a_bad_driver_is_caught(driver: type[FileDriver], caught_by: str, tmp_path: Path) -> None:
    test: Callable[[], None] = getattr(suite_for(driver, tmp_path)(), caught_by)
    with pytest.raises((AssertionError, OSError, errors.DorkyError)):
        test()


def test_it_needs_no_pytest() -> None:
    program = "import sys; sys.modules['pytest'] = None; import dorky.testing"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root)
