"""How much memory the largest files take, and how much of them a small read asks for."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machines import Machine
from servers import Remote

from dorky import DorkyClient
from dorky.drivers.file import FileDriver

MiB = 1 << 20
SIZE = int(os.environ.get("TEST_MEMORY_MIB", "2048")) * MiB
LIBRARY = int(os.environ.get("TEST_MEMORY_LIBRARY_MIB", "5120")) * MiB
LIMIT = 300 * MiB

# A process starts with the peak of the one that it was forked from, so a small one stands between.
_MEASURE = """
import os, sys
child = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ)
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
sys.exit(os.waitstatus_to_exitcode(status))
"""


# Neither the uploaded nor the downloaded bytes are ever on the disk.
_LIBRARY = """
import hashlib, os, sys
from dorky import DorkyClient
url, way, size = sys.argv[1:]
block, digest = os.urandom(1 << 18), hashlib.sha256()
def noise():
    for n in range(int(size) >> 18):
        data = n.to_bytes(8, "big") + block[8:]
        digest.update(data)
        yield data
with DorkyClient(url) as client:
    if way == "up":
        assert client.upload(noise(), "large").size == int(size)
    else:
        for data in client.stream("large"):
            digest.update(data)
print(digest.hexdigest())
"""


def peak(machine: Machine, *arguments: str) -> int:
    """Run a command in a process of its own; give the most memory it had, in bytes."""
    with machine.here():
        return int(measured("-m", "dorky", *arguments)[-1])


def measured(*arguments: str) -> list[str]:
    """Run Python; give the lines that it prints, and the most memory that it had, in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=1700,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(
    params=[
        "file",
        "s3",
        pytest.param("rclone"),
    ]
)
def place(request: pytest.FixtureRequest) -> Remote:
    found: Remote = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def ana(tmp_path: Path, place: Remote) -> Iterator[Machine]:
    yield Machine(tmp_path / "ana", place.env)
    # Some 12 GB, which pytest would keep.
    shutil.rmtree(tmp_path)
    if "://" not in place.url:
        shutil.rmtree(place.url, ignore_errors=True)


def _saved(machine: Machine) -> int:
    """Save a file of half the size; give the most memory that it took."""
    with machine.write("other.bin", b"").open("wb") as file:
        for _ in range(SIZE // MiB // 2):
            file.write(os.urandom(MiB))
    return peak(machine, "save", "other.bin", "-m", "other")


@pytest.mark.deep
def test_a_file_of_two_gib_in_less_than_300_mib(ana: Machine, place: Remote) -> None:
    large = ana.write("large.bin", b"")
    with large.open("wb") as file:
        for _ in range(SIZE // MiB):
            file.write(os.urandom(MiB))
    ana("init", place.url, "--single-writer")
    ben = ana.another("ben")
    ben.write(".dorkyrc", ana.read(".dorkyrc"))
    taken = {
        "stage": peak(ana, "stage", "large.bin"),
        "commit": peak(ana, "commit", "-m", "large"),
        "push": peak(ana, "push"),
        "pull": peak(ben, "pull"),
        "save": _saved(ana),
        "status": peak(ben, "status"),
    }
    print({command: f"{size / MiB:.0f} MiB" for command, size in taken.items()})  # noqa: T201
    assert filecmp.cmp(large, ben.project / "large.bin", shallow=False)
    assert {command: size for command, size in taken.items() if size > LIMIT} == {}


@pytest.mark.deep
@pytest.mark.parametrize("kind", ["file", "seaweedfs"])
def test_the_library_takes_five_gib_in_less_than_300_mib(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    place: Remote = request.getfixturevalue(f"{kind}_url")
    for name, value in place.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with DorkyClient.create(place.url):
        pass
    sent, up = measured("-c", _LIBRARY, place.url, "up", str(LIBRARY))
    got, down = measured("-c", _LIBRARY, place.url, "down", str(LIBRARY))
    print({"up": int(up) // MiB, "down": int(down) // MiB})  # noqa: T201
    assert sent == got
    if kind == "file":
        _read_a_little(place, monkeypatch)
        shutil.rmtree(place.url)
    assert max(int(up), int(down)) < LIMIT


def _read_a_little(place: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read 1 KiB of the large file twice, and see what it takes."""
    asked: list[int] = []

    def counted(name: str) -> None:
        work = getattr(FileDriver, name)

        def call(*args: Any, **options: Any) -> Any:
            found = work(*args, **options)
            asked.append(len(found if isinstance(found, bytes) else found.data if found else b""))
            return found

        monkeypatch.setattr(FileDriver, name, call)

    counted("get")
    counted("get_range")
    with DorkyClient(place.url) as client:
        for start, requests in ((LIBRARY // 2, 6), (LIBRARY // 3, 2)):
            asked.clear()
            assert len(client.read("large", start=start, end=start + 1024)) == 1024
            assert 0 < len(asked) <= requests
            assert sum(asked) <= 5 * MiB
