"""Every operation on a remote of very many packs: few requests, few bytes, little memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import bulk
import pytest
from bulk import Bulk, MemoryDriver, fill, install
from machines import Machine
from teams import follow

from dorky.format.model import KiB, MiB
from dorky.remote import cold, listing
from dorky.remote.fetch import fetch
from dorky.remote.listing import packs_of
from dorky.remote.root import LIMIT


class World(NamedTuple):
    """Ana has filled the remote; Ben, another computer of hers, has cloned it."""

    ana: Machine
    ben: Machine
    driver: MemoryDriver
    bulk: Bulk
    packs: int

    @contextmanager
    def counted(self) -> Iterator[MemoryDriver]:
        self.driver.asked.clear()
        yield self.driver


def made(base: Path, packs: int, pushes: int) -> World:
    url = f"memory://{base.name}"
    ana = Machine(base / "ana", {"PYTHONWARNINGS": "error"})
    ana("init", url, "--recovery", "none")
    ana.commit({".env": "KEY=1\n"})
    ana("push")
    ana("group", "add", "prod", "prod/**")
    with ana.repo() as repo, repo.locked():
        (group,) = repo.vault.groups - {"all"}
        filled = fill(repo, packs, pushes, group)
    ben = ana.another("ben")
    follow(ben, ana)
    return World(ana, ben, MemoryDriver.places[url], filled, packs + pushes + 1)


def check_cold_reads(world: World, *, tables: int, recent: int = 0) -> None:
    """Read files with the keys and `.dorkyrc` alone, from the root on.

    Args:
        world: The remote.
        tables: How many tables there are that list their packs.
        recent: 1 if there is one of recent packs.
    """
    kinds = set()
    for path, data in world.bulk.files.items():
        kind = path.partition("/")[0][:1], len(data)
        if kind in kinds:
            continue
        kinds.add(kind)
        count = len([*world.ana.base.parent.iterdir()])
        reader = world.ana.another(f"cold-{count}")
        follow(reader, world.ana)
        with reader.repo() as repo, world.counted() as driver:
            repo.set_up()
            snapshot = cold.opened(repo.remote())
            found = snapshot.find(path)
            assert found
            assert b"".join(snapshot.read(found)) == data
            pieces = 3 if len(data) == 3000 else 1
            # The root; then a page (of each table) and a range for each directory and piece.
            steps = path.count("/") + pieces + (pieces > 1)
            assert driver.count() <= 1 + recent + steps * (1 + tables), driver.asked
            if tables == 1 and pieces == 1:
                assert driver.count() <= 6 + 2 * (path.count("/") - 1)
            assert driver.size() - len(data) < 2 * MiB
    assert len(kinds) == 6


def peak(run: Callable[[], object]) -> int:
    """The most memory that Python allocates meanwhile."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def check_everything(world: World, *, memory: bool = False) -> None:
    ana, ben, driver = world.ana, world.ben, world.driver
    check_cold_reads(world, tables=listing.OLDER, recent=1)

    # A clone: the root, the lists of the tables, and the tail of each pack; of one file its chunk.
    path, data = next(iter(world.bulk.files.items()))
    driver.asked.clear()
    ben("pull", path)
    assert ben.read(path) == data
    assert driver.count("range", key="packs/") <= world.packs + 3
    assert driver.count("range", key="tables/") <= 1 + listing.OLDER * (1 + world.packs // 100_000)
    assert driver.count("put", "swap", "list") == 0
    assert driver.count("get") <= 3

    # Nothing new is one request.
    driver.asked.clear()
    ben("pull", path)
    assert [each[:2] for each in driver.asked] == [("get", "root")]

    # A push of one small file is one request; of a large one a pack, a table and the root.
    ben.commit({".env": "KEY=2\n"})
    driver.asked.clear()
    ben("push")
    assert driver.count() <= 2, driver.asked
    ben.commit({"large": bytes(range(256)) * 2000 + ana.identity.read_bytes()})
    driver.asked.clear()
    ben("push")
    assert driver.count() <= 4, driver.asked
    assert driver.size("put", key="tables/") <= 192 * KiB
    assert driver.size("swap") <= LIMIT

    # A pull of it: the root, a tail, a chunk; the table's list only if it was joined.
    carl = ana.another("carl")
    follow(carl, ana)
    if memory:
        # A line for each pack, and a few tails.
        assert peak(lambda: carl("pull", path)) < 48 * MiB + 4 * KiB * world.packs
    else:
        carl("pull", path)
    ben.commit({"more": b"more" * 60_000})
    ben("push")
    driver.asked.clear()
    carl("pull", path)
    assert driver.count() <= 4, driver.asked


def check_care(world: World) -> None:
    """A collection rewrites the packs of pushes, and makes one table of all."""
    ben, driver = world.ben, world.driver
    driver.asked.clear()
    done = ben("gc", "--remote", "--grace", "0", "--json").json
    assert done["rewritten"]
    with ben.repo() as repo:
        remote = repo.remote()
        assert remote.seen
        assert len(remote.seen.root.tables) == 1
        assert len(packs_of(remote, remote.seen)) <= world.packs
    assert driver.count("range") <= len(done["rewritten"]) + 20
    assert driver.count("put") <= 5
    assert driver.count("swap") <= 2
    check_cold_reads(world, tables=1)

    # A rotation downloads what is current, once, and uploads it once.
    size = sum(len(each) for each, _ in driver.objects.values())
    driver.asked.clear()
    ben("rotate")
    assert driver.size("range", key="packs/") <= size
    assert driver.size("put", key="packs/") <= 1.1 * size
    assert driver.count("put") <= 5 + size // (8 * MiB)
    follow(world.ana, ben)
    check_cold_reads(world, tables=1)
    with ben.repo() as repo:
        fetch(repo.remote())


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    install(tmp_path, monkeypatch)
    (tmp_path / "world").mkdir()
    yield tmp_path / "world"
    MemoryDriver.places.clear()


def test_hundreds_of_packs(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "DIRECTORY", 40)
    world = made(base, 160, 40)
    check_everything(world, memory=True)
    check_care(world)


@pytest.mark.deep
def test_a_thousand_packs(base: Path) -> None:
    world = made(base, 900, 100)
    check_everything(world, memory=True)
    check_care(world)


@pytest.mark.deep
def test_33_000_packs(base: Path) -> None:
    """2,000 of them by pushes without a collection in between."""
    world = made(base, 31_000, 2000)
    check_everything(world)
    check_care(world)
