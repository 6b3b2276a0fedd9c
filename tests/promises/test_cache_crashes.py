"""Contents that only the remote keeps: a push that drops them, and a pull that does not store them.

Both are killed at every point, or the power goes, and then run again. So is a save, which sends
what it will drop before anything is committed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from crashes import DATA, END, NAMES, Crashes, Point, occurrences
from machines import Machine, noise, packs_listed

from dorky.format.model import MiB
from dorky.store import contents

OLD = noise(5 * MiB, 1)
LARGER = noise(9 * MiB, 3)
"""A file whose packs are sent while it is staged."""
NEW = OLD[: 3 * MiB] + noise(MiB, 2) + OLD[4 * MiB :]


class Life(NamedTuple):
    """Two machines and their vault; `keep` and `go_back` put them back to how they were."""

    base: Path
    ana: Machine
    ben: Machine

    @property
    def vault(self) -> Path:
        return self.base / "vault"

    def keep(self) -> None:
        shutil.copytree(self.base, self.base.parent / "kept", symlinks=True)

    def go_back(self) -> None:
        shutil.rmtree(self.base)
        shutil.copytree(self.base.parent / "kept", self.base, symlinks=True)


@pytest.fixture
def crashes(tmp_path: Path) -> Iterator[Crashes]:
    found = Crashes(tmp_path / "now")
    yield found
    found.close()


@pytest.fixture
def life(crashes: Crashes, monkeypatch: pytest.MonkeyPatch) -> Life:
    """The large file has a new version, which ana has committed."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    ana = Machine(crashes.base / "ana", {"DORKY_AUTHOR": "Ana"})
    ana("init", crashes.base / "vault")
    ana("config", "set", "--user", "cache", "none")
    ana.commit({"large": OLD, "small": "1"})
    ana("push")
    ben = ana.another("ben")
    ben("config", "set", "--user", "cache", "none")
    ben("clone", crashes.base / "vault", ".")
    ana.commit({"large": NEW, "small": "2"})
    return Life(crashes.base, ana, ben)


def held(machine: Machine) -> bool:
    with machine.repo() as repo:
        (row,) = repo.index.rows(["large"]).values()
        return not repo.store.missing(contents.chunks_of(repo.store, row.content))


def interrupt(life: Life, crashes: Crashes, who: Machine, command: str, point: Point) -> None:
    life.go_back()
    crashes.run(who, command, at=point)
    finish(who, command)


def finish(who: Machine, command: str) -> None:
    """Nothing is damaged, and the same command again comes to the end."""
    assert who.read("large") in {OLD, NEW}
    who("fsck")
    who(command)
    assert who.read("large") == NEW
    assert who.read("small") == b"2"
    assert who("status", "--json").json["unstaged"] == []
    # A push that was killed after its swap leaves contents that `gc` may drop.
    assert command == "push" or not held(who)
    assert who("cat", "HEAD:large").raw == NEW
    assert list((who.state / "tmp").iterdir()) == []


def points(crashes: Crashes, life: Life, who: Machine, command: str) -> list[Point]:
    life.keep()
    ended = crashes.run(who, command)
    assert ended.code == 0, ended
    assert not held(who)
    every = occurrences(ended.points)
    return [each for each in every if not each[0].startswith("before request g")]


def push(life: Life, crashes: Crashes, points: list[Point]) -> None:
    for point in points:
        interrupt(life, crashes, life.ana, "push", point)
        carl = life.ana.another(f"carl {len(list(life.base.iterdir()))}")
        carl("clone", life.vault, ".")
        assert carl.read("large") == NEW


def test_a_push_that_is_killed(life: Life, crashes: Crashes) -> None:
    push(life, crashes, decisive(points(crashes, life, life.ana, "push"))[::2])


@pytest.mark.deep
def test_a_push_that_is_killed_anywhere(life: Life, crashes: Crashes) -> None:
    push(life, crashes, points(crashes, life, life.ana, "push"))


def test_a_pull_that_is_killed(life: Life, crashes: Crashes) -> None:
    life.ana("push")
    for point in decisive(points(crashes, life, life.ben, "pull"))[::2]:
        interrupt(life, crashes, life.ben, "pull", point)


@pytest.mark.deep
def test_a_pull_that_is_killed_anywhere(life: Life, crashes: Crashes) -> None:
    life.ana("push")
    for point in points(crashes, life, life.ben, "pull"):
        interrupt(life, crashes, life.ben, "pull", point)


def save(life: Life, crashes: Crashes, point: Point, loss: str = "") -> None:
    """Interrupt a save, run it again, and see that everything is there."""
    life.go_back()
    disks = [life.vault, life.ana.state / "packs"] if loss else []
    crashes.run(life.ana, "save", "large", "-m", "saved", at=point, loss=loss, disks=disks)
    assert life.ana.read("large") == LARGER
    life.ana("fsck")
    assert life.ana.run("save", "large", "-m", "saved").code in {0, 1}  # 1: it was done
    assert "same as origin" in life.ana("status").out
    assert life.ana("cat", "HEAD:large").raw == LARGER
    life.ana("fsck", "--remote", "--read-data")
    life.ben("pull")
    assert life.ben.read("large") == LARGER
    assert list((life.ana.state / "tmp").iterdir()) == []
    there = {path.name for path in (life.vault / "packs").iterdir()}
    # A root lists every pack but one, which may have been sent for a push that never came.
    assert len(there - {packed.id for packed in packs_listed(life.ana)}) <= 1


def saving(life: Life, crashes: Crashes) -> list[Point]:
    life.ana("push")
    life.ana.write("large", LARGER)
    life.keep()
    ended = crashes.run(life.ana, "save", "large", "-m", "saved")
    assert ended.code == 0, ended
    assert not held(life.ana)
    sent = ended.points.index("before request put packs/#")
    assert sent < max(n for n, name in enumerate(ended.points) if name == "before COMMIT")
    return [
        point for point in occurrences(ended.points) if not point[0].startswith("before request g")
    ]


def decisive(points: list[Point]) -> list[Point]:
    """The points at which something becomes known to others, or durable."""
    words = ("request", "after COMMIT", "unlink")
    return [point for point in points if any(word in point[0] for word in words)]


def test_a_save_that_is_killed(life: Life, crashes: Crashes) -> None:
    for point in decisive(saving(life, crashes))[::2]:
        save(life, crashes, point)


@pytest.mark.deep
def test_a_save_that_is_killed_anywhere(life: Life, crashes: Crashes) -> None:
    for point in saving(life, crashes):
        save(life, crashes, point)


@pytest.mark.deep
@pytest.mark.parametrize("loss", [NAMES, DATA])
def test_the_power_goes_during_a_save(life: Life, crashes: Crashes, loss: str) -> None:
    for point in [*saving(life, crashes), END]:
        save(life, crashes, point, loss)


@pytest.mark.parametrize("loss", [NAMES])
def test_the_power_goes_after_a_push(life: Life, crashes: Crashes, loss: str) -> None:
    disks = [life.vault, life.ana.state / "packs"]
    for point in [*points(crashes, life, life.ana, "push"), END]:
        if "swap root" in point[0] or "packs" in point[0] or point == END:
            life.go_back()
            crashes.run(life.ana, "push", at=point, loss=loss, disks=disks)
            finish(life.ana, "push")
