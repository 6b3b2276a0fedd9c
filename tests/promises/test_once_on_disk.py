"""Once on disk: what dorky keeps of large files outside of the files themselves.

That is every byte in `.dorky/`, in git's directory and in the home directory.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from machines import Machine, noise
from servers import Remote

MiB = 1 << 20
SIZES = [pytest.param(20 * MiB), pytest.param(1024 * MiB, marks=pytest.mark.deep)]
ALWAYS = 2 * MiB
"""The most that a project of nothing takes: its database, and a file kept for a full disk."""


def outside(machine: Machine) -> int:
    """The bytes below a machine's directory that are not files of the worktree."""
    sizes = {}
    for directory, _, names in os.walk(machine.base):
        place = Path(directory)
        if place == machine.project:
            names = []
        for name in names:
            found = (place / name).lstat()
            sizes[found.st_ino] = found.st_size
    return sum(sizes.values())


def write(path: Path, size: int, seed: int) -> None:
    """Write a file that does not compress, of which no part comes twice."""
    with path.open("wb") as file:
        for n in range(size // MiB):
            file.write(noise(MiB, seed * 10_000 + n))


def pushed(ana: Machine, _: Machine) -> Machine:
    for words in (("stage", "big"), ("commit", "-m", "big"), ("push",)):
        ana(*words)
    return ana


def saved(ana: Machine, _: Machine) -> Machine:
    ana("save", "big", "-m", "big")
    return ana


def pulled(ana: Machine, ben: Machine) -> Machine:
    saved(ana, ben)
    ben("pull")
    return ben


@pytest.mark.each_value
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", [pushed, saved, pulled])
@pytest.mark.parametrize("cache", ["all", "small", "none"])
def test_bytes_outside_of_the_files(
    tmp_path: Path,
    file_url: Remote,
    cache: str,
    way: Callable[[Machine, Machine], Machine],
    size: int,
) -> None:
    ana = Machine(tmp_path / "ana", file_url.env)
    ana("init", file_url.url)
    ben = ana.another("ben")
    ben.write(".dorkyrc", ana.read(".dorkyrc"))
    for machine in (ana, ben):
        git = ["git", "init", "-q", machine.project]
        subprocess.run(git, check=True, timeout=60)
        machine("config", "set", "--user", "cache", cache)
    write(ana.project / "big", size, 1)
    machine = way(ana, ben)
    kept = outside(machine)
    if cache == "all":
        assert size < kept < 1.02 * size + ALWAYS
    else:
        assert kept < 0.05 * size + ALWAYS
    write(ana.project / "big", size, 2)
    saved(ana, ben)
    if machine is ben:
        ben("pull")
    kept = outside(machine)
    assert kept < (2.02 * size if cache == "all" else 0.05 * size) + ALWAYS
