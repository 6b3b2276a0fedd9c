"""How much memory the largest files take."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import Machine
from servers import Remote

MiB = 1 << 20
SIZE = int(os.environ.get("TEST_MEMORY_MIB", "2048")) * MiB
LIMIT = 300 * MiB

# A process starts with the peak of the one that it was forked from, so a small one stands between.
_MEASURE = """
import os, sys
child = os.posix_spawn(sys.executable, [sys.executable, "-m", "dorky", *sys.argv[1:]], os.environ)
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def peak(machine: Machine, *arguments: str) -> int:
    """Run a command in a process of its own; give the most memory it had, in bytes."""
    with machine.here():
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, *arguments],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


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
