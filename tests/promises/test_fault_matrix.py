"""Every request of every command that talks to a remote, and all that can befall it.

The command gets through, or ends with an error of its own and the right exit code; whatever it
was, nothing is damaged here or there, and the same command run again comes to the end that it
would have come to at once.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from faults import MISHAPS, RESET, Faults, Mishap, failing
from machines import Machine, bucket, driver_of, noise
from servers import Remote

from dorky.remote import ahead, push
from dorky.remote import root as roots
from dorky.store import history
from dorky.worktree import ingest

GONE = Mishap("offline", frozenset(), frozenset({8}), before=failing(RESET))


def _ahead(world: World, size: int) -> None:
    world.ana.commit({"data": noise(size, 5), ".env": "KEY=ana\n"}, "theirs")


def _behind(world: World) -> None:
    _ahead(world, 300_000)
    world.ana("push")


def _apart(world: World) -> None:
    _behind(world)
    world.ben.commit({"more": "ben\n"}, "ours")


def _forgotten(world: World) -> None:
    """A pack that was sent for nothing, and small ones to be made one."""
    for n in range(3):
        world.ana.commit({"data": noise(140_000, n)}, f"{n}")
        world.ana("push")
    data = noise(1000, 9)
    driver_of(world.remote).put(f"packs/{hashlib.sha256(data).hexdigest()}", data)


def _changed(world: World) -> None:
    """A large file, whose pack is sent before the push, and dropped after it."""
    world.ana("config", "set", "--user", "cache", "none")
    world.ana.write("data", noise(600_000, 5))


class Case(NamedTuple):
    """A command whose requests fail.

    Attributes:
        who: Whose.
        command: What is run.
        before: What happens first, without faults.
    """

    who: str
    command: str
    before: Callable[[World], object] = lambda _: None

    def words(self, world: World) -> list[str]:
        return self.command.replace("VAULT", world.remote.url).split()


CASES = {
    "push": Case("ana", "push", lambda world: _ahead(world, 100)),
    "push of a pack": Case("ana", "push", lambda world: _ahead(world, 300_000)),
    "fetch": Case("ben", "fetch", _behind),
    "pull": Case("ben", "pull", _behind),
    "pull and merge": Case("ben", "pull", _apart),
    "clone": Case("carl", "clone VAULT ."),
    "sync": Case("ben", "sync", _apart),
    "save": Case("ana", "save data -m saved", _changed),
    "rotate": Case("ana", "rotate", _behind),
    "gc": Case("ana", "gc --remote --grace 0", _forgotten),
}


class World:
    """Three machines and a bucket, which can be put back to how they were."""

    def __init__(self, base: Path, remote: Remote) -> None:
        self.base, self.remote = base, remote
        self.ana = Machine(base / "now" / "ana", {**remote.env, "DORKY_AUTHOR": "Ana"})
        self.ana("init", remote.url)
        self.ana.commit({".env": "KEY=1\n", "config/app": "x\n", "large": noise(200_000, 1)})
        self.ana("push")
        self.ben, self.carl, self.dora = (self.ana.another(n) for n in ("ben", "carl", "dora"))
        self.ben("clone", remote.url, ".")
        # Both have tried out what the remote does with conditional writes.
        self.ben.commit({"ben": "1\n"})
        self.ben("push")
        self.ana("pull")

    def keep(self) -> None:
        shutil.copytree(self.base / "now", self.base / "kept", symlinks=True)
        self._kept = bucket(self.remote)

    def go_back(self) -> None:
        shutil.rmtree(self.base / "now")
        shutil.copytree(self.base / "kept", self.base / "now", symlinks=True)
        driver = driver_of(self.remote)
        now = bucket(self.remote)
        driver.delete(now.keys() - self._kept.keys())
        for key, data in self._kept.items():
            if now.get(key) != data:
                driver.put(key, data)

    def described(self) -> Mapping[str, Any]:
        """The files and the history of all, and what a new clone gets."""
        found: dict[str, Any] = {}
        self.dora.project = self.dora.base / f"clone {len(list(self.dora.base.iterdir()))}"
        self.dora.project.mkdir()
        self.dora("clone", self.remote.url, ".")
        for name in ("ana", "ben", "carl", "dora"):
            machine = getattr(self, name)
            found[name] = machine.files()
            if machine.state.exists():
                with machine.repo() as repo:
                    heads = repo.database.refs()
                    for ref in ("main", "origin/main"):
                        nodes = history.ancestors(repo.store, filter(None, [heads.get(ref)]))
                        found[f"{name} {ref}"] = [each.commit.message for each in nodes]
        return found


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    # A swap that is sent again waits a random while, up to a minute in all.
    monkeypatch.setattr(random, "random", lambda: 0.0)
    monkeypatch.setattr(roots, "BUDGET", 0.3)
    # Hundreds of commands wait for the disk, and here the power stays.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    # So that a file of 600 kB is large.
    for module, name in ((ahead, "SMALL"), (push, "SMALL"), (ingest, "LARGE")):
        monkeypatch.setattr(module, name, 500_000)
    return Faults.installed(monkeypatch)


def befall(
    world: World, faults: Faults, case: Case, mishaps: Sequence[Mishap], *, every: int = 1
) -> None:
    case.before(world)
    world.keep()
    before = world.described()
    world.go_back()
    machine: Machine = getattr(world, case.who)
    faults.clear()
    machine(*case.words(world))
    asked = [verb for verb, _ in faults.calls]
    after = world.described()
    failed = {}
    for n, verb in enumerate(asked):
        possible = [each for each in mishaps if verb in each.verbs] + [GONE]
        for mishap in possible[n % every :: every]:
            world.go_back()
            try:
                _befall(world, faults, case, n, mishap, before, after)
            except AssertionError as error:
                failed[n, verb, mishap.name] = str(error)
    assert not failed, "\n".join(f"{where}: {said}" for where, said in failed.items())


def _befall(
    world: World,
    faults: Faults,
    case: Case,
    n: int,
    mishap: Mishap,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> None:
    machine: Machine = getattr(world, case.who)
    faults.clear()
    if mishap is GONE:
        faults.at(n, mishap._replace(verbs=frozenset(_EVERY)), lasting=True)
    else:
        faults.at(n, mishap)
    said = machine.run(*case.words(world))
    swapped = "swap" in [verb for verb, _ in faults.calls[:n]]
    # After the swap the work is done, except for commands that are there to delete.
    done = swapped and not case.command.startswith("gc") and said.code == 0
    assert done or said.code in mishap.codes, said
    # A swap is sent again only after a look at what has become of the last one.
    about_root = [verb for verb, key in faults.calls if key == "root"]
    assert ("swap", "swap") not in set(itertools.pairwise(about_root))
    faults.clear()
    for name in ("ana", "ben", "carl"):
        assert getattr(world, name).files() in (before[name], after[name])
    if said.code:
        found = world.described()
        assert found["dora"] in (before["dora"], after["dora"])
        machine(*case.words(world))
    assert world.described() == after


_ALIKE = ("timeout", "503", "409", "slow")
_EVERY = ("get", "get_range", "list", "put", "swap", "delete")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_whatever_befalls_a_request(
    tmp_path: Path, file_url: Remote, faults: Faults, case: Case
) -> None:
    # Others are the same errors to whoever calls a driver.
    mishaps = [each for each in MISHAPS if not each.name.startswith(_ALIKE)]
    befall(World(tmp_path, file_url), faults, case, mishaps, every=8)


@pytest.mark.deep
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_everything_that_befalls_a_request(
    tmp_path: Path, file_url: Remote, faults: Faults, case: Case
) -> None:
    befall(World(tmp_path, file_url), faults, case, MISHAPS)


@pytest.mark.deep
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_whatever_befalls_a_request_to_s3(
    tmp_path: Path, s3_url: Remote, faults: Faults, case: Case
) -> None:
    befall(World(tmp_path, s3_url), faults, case, MISHAPS)
