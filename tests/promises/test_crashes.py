"""A life with a remote, killed at every point of it; what was interrupted is simply run again.

Each step of `LIFE` is one command. It is run once to the end, which names its points and gives the
state to be reached. Then, for every point: back to before the step, the command dies there,
nothing may be damaged, the same command is run again, and the end must be the same.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from crashes import DATA, END, NAMES, Crashes, Ended, Point, occurrences
from depth import deep
from machines import Machine, driver_of, noise
from servers import Remote

from dorky import errors
from dorky.remote.listing import packs_of
from dorky.store import history, table, verify

SECRET = "hunter2"
"""Is in every file that is small: what is sealed does not show it."""


class Life:
    """Two machines and their vault, and a memory of how things stood before each step."""

    def __init__(self, base: Path) -> None:
        self.base = base / "now"
        self._kept = base / "kept"
        self.vault = self.base / "vault"
        self.ana = Machine(self.base / "ana", {"DORKY_AUTHOR": "Ana"})
        self.ben = Machine(self.base / "ben", {"DORKY_AUTHOR": "Ben"})

    @property
    def machines(self) -> dict[str, Machine]:
        return {"ana": self.ana, "ben": self.ben}

    def keep(self, name: str) -> None:
        self._copy(self.base, self._kept / name)

    def go_back(self, name: str) -> None:
        shutil.rmtree(self.base)
        self._copy(self._kept / name, self.base)

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        def copy(one: str, other: str) -> None:
            # Nobody writes to a pack that has its name.
            (os.link if "/packs/" in one else shutil.copy2)(one, other)

        shutil.copytree(source, target, symlinks=True, copy_function=copy)

    @property
    def disks(self) -> list[Path]:
        """What a loss of power is tried on; SQLite looks after its own files."""
        return [self.vault, *(each.state / "packs" for each in self.machines.values())]


class Step(NamedTuple):
    """One command of a life.

    Attributes:
        who: Whose.
        command: What is run.
        before: What happens first, and is not killed.
        code: How it ends.
        again: How it may end when it is run again: ``commit`` has nothing to do if it was done.
        remedy: What has to be done before it is run again.
        once: Whether it is run again only if it was not done: an undo of an undo undoes that.
    """

    who: str
    command: str
    before: Callable[[Life], object] = lambda _: None
    code: int = 0
    again: tuple[int, ...] = (0,)
    remedy: Callable[[Life], object] = lambda _: None
    once: bool = False

    def __str__(self) -> str:
        return f"{self.who} {self.command}"

    def machine(self, life: Life) -> Machine:
        return life.machines[self.who]

    def words(self, life: Life) -> list[str]:
        return self.command.replace("VAULT", str(life.vault)).split()


def _first_files(life: Life) -> None:
    life.ana.write(".env", f"KEY={SECRET}\nPORT=1\n")
    life.ana.write("config/app", f"secret = {SECRET}\n", 0o640)
    life.ana.write("bin/run", f"#!/bin/sh\necho {SECRET}\n", 0o755)
    life.ana.write("notes", f"first\n{SECRET}\nlast\n")
    life.ana.write("data", noise(140_000, 1))
    (life.ana.project / "link").symlink_to("config/app")


def _both_sides(life: Life) -> None:
    """Both change what the other does not; what ana changes is too much for a root."""
    (life.ana.project / "bin/run").unlink()
    life.ana.write("data", noise(150_000, 2))
    life.ben.write(".env", f"KEY={SECRET}\nPORT=2\n")
    life.ben.write("more/deep", f"{SECRET} of ben\n")


def _the_same_line(life: Life) -> None:
    for machine in (life.ana, life.ben):
        machine.write("notes", f"first\n{SECRET} {machine.base.name}\nlast\n")
        machine("commit", "-a", "-m", f"notes of {machine.base.name}")
    life.ana("push")


def _a_mistake(life: Life) -> None:
    life.ana.write("data", noise(160_000, 3))
    (life.ana.project / "notes").unlink()
    life.ana("commit", "-a", "-m", "mistake")


def _to_save(life: Life) -> None:
    life.ana.write("data", noise(170_000, 4))
    life.ana.write("saved", f"{SECRET} saved")


def _init_again(life: Life) -> None:
    """A project that was not made to the end is not one that can be gone on with."""
    _clear(life.ana)
    shutil.rmtree(life.vault, ignore_errors=True)


def _clone_again(life: Life) -> None:
    _clear(life.ben)


def _clear(begun: Machine) -> None:
    shutil.rmtree(begun.project)
    begun.project.mkdir()


def _identity(life: Life) -> None:
    shutil.copytree(life.ana.home / ".dorky", life.ben.home / ".dorky")


LIFE = [
    Step("ana", "init VAULT", remedy=_init_again),
    Step("ana", "stage .", _first_files),
    Step("ana", "commit -m first", again=(0, 1)),
    Step("ana", "push"),
    Step("ben", "clone VAULT .", _identity, remedy=_clone_again),
    Step("ana", "stage data bin", _both_sides),
    Step("ana", "commit -m changed", again=(0, 1)),
    Step("ana", "push"),
    Step("ben", "stage .env more"),
    Step("ben", "commit -m ours", again=(0, 1)),
    Step("ben", "fetch"),
    Step("ben", "pull"),
    Step("ben", "push"),
    Step("ana", "pull"),
    Step("ana", "restore .env", lambda life: life.ana.write(".env", f"{SECRET} spoilt")),
    Step("ana", "checkout main~1"),
    Step("ana", "checkout main"),
    Step("ana", "rm config/app", again=(0, 4)),
    Step("ana", "commit -m gone", again=(0, 1)),
    Step("ana", "rotate --history"),
    Step("ana", "push"),
    Step("ben", "pull"),
    Step("ben", "pull", _the_same_line, code=5),
    Step("ben", "merge --abort", again=(1, 5)),
    Step("ben", "pull", code=5),
    Step("ben", "resolve notes --theirs", again=(1, 4, 5)),
    Step("ben", "merge --continue", again=(1, 5)),
    Step("ben", "sync"),
    Step("ana", "sync"),
    Step("ana", "undo", _a_mistake, once=True),
    Step("ana", "gc --grace 0"),
    Step("ana", "gc --remote --grace 0"),
    Step("ana", "gc --prune-remote-verified"),
    Step("ana", "save data saved -m saved", _to_save, again=(0, 1)),
    Step("ben", "sync"),
]


# --- how things stand -----------------------------------------------------------------------


def described(machine: Machine) -> dict[str, Any]:
    """All of a machine that a user can tell: files, index, history, how it stands to the remote."""
    found: dict[str, Any] = {"files": machine.files()}
    with machine.repo() as repo:
        if not repo.is_set_up:
            return found
        status = repo.status()
        found["status"] = {
            name: getattr(status, name)
            for name in (
                "detached",
                "fetched",
                "ahead",
                "behind",
                "staged",
                "unstaged",
                "absent",
                "conflicts",
            )
        }
        found["log"] = [
            (
                node.commit.author,
                node.commit.message,
                len(node.commit.parents),
                sorted(history.files_of(repo.store, history.trees_of(repo.store, node.id))),
            )
            for node in history.ancestors(repo.store, filter(None, [repo.database.ref("main")]))
        ]
    return found


def everything(life: Life) -> dict[str, Any]:
    return {name: described(machine) for name, machine in life.machines.items()}


def assert_remote_is_whole(life: Life) -> None:
    """The root opens, and every pack that it lists is there, and is what its name says."""
    if not (life.vault / "root").exists():
        return
    reader = next(each for each in life.machines.values() if (each.state / "dorky.db").exists())
    with reader.repo() as repo:
        remote = repo.remote()
        read = remote.read()
        assert read
        for each in packs_of(remote, read[0]):
            assert verify.is_whole(life.vault / "packs" / each.id)
        for listed in read[0].root.tables:
            data = (life.vault / "tables" / listed.id).read_bytes()
            assert table.name_of(data[-table.FOOTER :], [data]) == listed.id


def assert_sound(machine: Machine) -> None:
    """fsck finds nothing that is damaged or lost."""
    if (machine.state / "dorky.db").exists() and (machine.project / ".dorkyrc").exists():
        machine("fsck")


def assert_nothing_torn(life: Life, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Every file is as it was or as it was to become, and only dorky's own places hold more."""
    for name, machine in life.machines.items():
        for path, file in machine.files().items():
            if path.startswith(".tmp-"):
                continue  # beside .dorkyrc, which holds no secrets
            states = [each[name]["files"].get(path) for each in (before, after)]
            assert file in states, path
        kept = before[name]["files"].keys() & after[name]["files"].keys()
        assert kept <= machine.files().keys()


def assert_nothing_left(life: Life) -> None:
    """No scratch files, and plaintext nowhere but in the worktrees."""
    for each in life.base.rglob("*"):
        inside = each.relative_to(life.base).parts
        if "home" in inside:
            continue  # a key that nobody uses, for its owner alone
        assert not each.name.startswith(".tmp-"), each
        if each.is_file() and (inside[0] == "vault" or ".dorky" in inside):
            assert SECRET.encode() not in each.read_bytes(), each


def go_on(life: Life, step: Step, ended: Ended, after: dict[str, Any] | None = None) -> None:
    """What the user does after an interruption: the same again."""
    if step.once and everything(life) == after:
        return
    for scratch in life.base.rglob(".tmp-*"):
        os.utime(scratch, (0, 0), follow_symlinks=False)  # what lies about for a day is swept up
    if ended.code is None:
        step.remedy(life)
    said = step.machine(life).run(*step.words(life))
    assert said.code in {step.code, *step.again}, said


# --- the tests ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crashes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashes]:
    found = Crashes(tmp_path_factory.mktemp("life") / "now")
    yield found
    found.close()


class Lived(NamedTuple):
    """A life that went as planned: by step, its points and how things stood before and after."""

    life: Life
    points: list[list[Point]]
    before: list[dict[str, Any]]
    after: list[dict[str, Any]]


@pytest.fixture(scope="module")
def memo() -> dict[str, Lived]:
    return {}


@pytest.fixture
def lived(crashes: Crashes, memo: dict[str, Lived], monkeypatch: pytest.MonkeyPatch) -> Lived:
    """Lived once for all tests of this module, in a hermetic environment."""
    # What is run again need not wait for the disk: the power goes in the children alone.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    if not memo:
        found = Lived(Life(crashes.base.parent), [], [], [])
        for n, step in enumerate(LIFE):
            step.before(found.life)
            found.before.append(everything(found.life))
            found.life.keep(str(n))
            ended = crashes.run(step.machine(found.life), *step.words(found.life))
            assert ended.code == step.code, (str(step), ended)
            found.points.append(occurrences(ended.points))
            found.after.append(everything(found.life))
        assert_nothing_left(found.life)
        memo["life"] = found
    return memo["life"]


def writers(points: list[Point]) -> list[Point]:
    """All points, but of the dozens of writers that try out a remote only the first."""
    return [point for point in points if "probe/" not in point[0] or point[1] == 1]


def telling(points: list[Point], loss: str) -> list[Point]:
    """Those of the points that hardly another one is as good as.

    To a process that is killed, it is all the same whether what it wrote was synced, and a request
    that changes nothing is no event. When the power goes, what matters is what somebody relies on:
    others on a root, the user on a command that has returned.
    """
    if loss:
        return [each for each in points if each[0] == "after request swap root"] + [END]
    dull = re.compile(r"before (fsync|request [gl])|before (rename|unlink) .*/\.tmp-.*\.dorkyrc")
    return [each for each in writers(points) if not dull.match(each[0])]


def interrupt(lived: Lived, crashes: Crashes, n: int, point: Point, *, loss: str = "") -> None:
    """Have step ``n`` die at a point, run it again, and look at what has come of it."""
    life, step = lived.life, LIFE[n]
    life.go_back(str(n))
    disks = life.disks if loss else []
    ended = crashes.run(step.machine(life), *step.words(life), at=point, loss=loss, disks=disks)
    assert ended.code is None or "probe/" in point[0], ended
    assert_nothing_torn(life, lived.before[n], lived.after[n])
    assert_remote_is_whole(life)
    assert_sound(step.machine(life))
    if point != END:  # what has returned need not be run again
        go_on(life, step, ended, lived.after[n])
    assert everything(life) == lived.after[n]
    assert_remote_is_whole(life)
    assert_nothing_left(life)


def each_step(*losses: str) -> pytest.MarkDecorator:
    """Every step, killed or with every loss."""
    found = []
    for loss in losses:
        for n, step in enumerate(LIFE):
            found.append(pytest.param(n, loss, id=f"{step}{loss and '-'}{loss}"))
    return pytest.mark.parametrize(("n", "loss"), found)


def interrupt_at_all(
    lived: Lived, crashes: Crashes, n: int, points: list[Point], *, loss: str = ""
) -> None:
    failed = {}
    for point in points:
        try:
            interrupt(lived, crashes, n, point, loss=loss)
        except (AssertionError, errors.DorkyError) as error:
            failed[point] = str(error)
    assert not failed, "\n".join(f"{point}: {said}" for point, said in failed.items())


@each_step("")
def test_killed_at_every_point(lived: Lived, crashes: Crashes, n: int, loss: str) -> None:
    # One in eight; `test_every_point_there_is` leaves none out.
    interrupt_at_all(lived, crashes, n, telling(lived.points[n], loss)[n % 8 :: 8])


@each_step(NAMES)
def test_the_power_goes(lived: Lived, crashes: Crashes, n: int, loss: str) -> None:
    """A commit that has returned is kept, and whatever a COMMIT or a root relies on is there."""
    interrupt_at_all(lived, crashes, n, telling(lived.points[n], loss), loss=loss)


@pytest.mark.deep
@each_step("", NAMES, DATA)
def test_every_point_there_is(lived: Lived, crashes: Crashes, n: int, loss: str) -> None:
    interrupt_at_all(lived, crashes, n, [*lived.points[n], END], loss=loss)


@pytest.mark.parametrize("stride", [9, *deep(3)])
@pytest.mark.parametrize("n", [0, 4], ids=["init", "clone"])
def test_a_beginning_is_run_again_as_it_is(
    lived: Lived, crashes: Crashes, n: int, stride: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(globals(), "LIFE", [step._replace(remedy=lambda _: None) for step in LIFE])
        # After the last commit it is done, and says so.
        points = lived.points[n]
        last = max(at for at, point in enumerate(points) if point[0] == "after COMMIT")
        interrupt_at_all(lived, crashes, n, telling(points[:last], "")[::stride])


def test_every_step_at_one_point_and_on_to_the_end(lived: Lived, crashes: Crashes) -> None:
    """One life with an accident in every command comes to the same end."""
    life, chance = lived.life, random.Random(1)
    life.go_back("0")
    for n, step in enumerate(LIFE):
        step.before(life)
        point = chance.choice(telling(lived.points[n], ""))
        if step.once:
            point = END
        ended = crashes.run(step.machine(life), *step.words(life), at=point)
        if point != END:
            go_on(life, step, ended)
    last = lived.after[-1]
    for name, found in everything(life).items():
        assert found["files"] == last[name]["files"]
        assert found["status"] == last[name]["status"]
        assert [each[1:3] for each in found["log"]] == [each[1:3] for each in last[name]["log"]]
    assert_nothing_left(life)


# --- at random moments ----------------------------------------------------------------------


def dorky(machine: Machine, words: list[str]) -> subprocess.Popen[bytes]:
    """A process like the user's."""
    return subprocess.Popen(
        [sys.executable, "-m", "dorky", *words],
        cwd=machine.project,
        env={**os.environ, **machine.env, "HOME": str(machine.home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.deep
@pytest.mark.parametrize("kind", ["file", "s3"])
def test_killed_at_random_moments(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """Two machines work on, and whatever they run is killed until it is done."""
    remote: Remote = request.getfixturevalue(f"{kind}_url")
    chance = random.Random(7)
    ana = Machine(tmp_path / "ana", remote.env)
    ana("init", remote.url)
    ben = ana.another("ben")
    ben("clone", remote.url, ".")
    kills = 0
    began = time.monotonic()
    assert dorky(ben, ["pull"]).wait() == 0
    usual = time.monotonic() - began

    def persist(machine: Machine, *words: str, done: tuple[int, ...] = (0,)) -> None:
        """Run a command until one run of it is not killed."""
        nonlocal kills
        for tries in range(6):
            process = dorky(machine, list(words))
            with contextlib.suppress(subprocess.TimeoutExpired):
                # Starting up takes most of the time.
                process.wait(usual * chance.uniform(0.4, 1.2) if tries < 5 else 60)
            process.kill()
            code = process.wait()
            if code in done:
                return
            assert code == -9, (words, code)
            kills += 1

    # A slow machine is met by fewer of them in a round.
    rounds = 0
    while kills < 100 and rounds < 100:
        n, rounds = rounds, rounds + 1
        for machine, name in ((ana, "ana"), (ben, "ben")):
            machine.write(f"{name}/{n}", noise(chance.choice([100, 200_000]), n))
            machine.write(f"{name}/now", f"{n}\n")
            persist(machine, "stage", ".")
            persist(machine, "commit", "-m", f"{name} {n}", done=(0, 1))
        persist(ana, "pull")
        persist(ana, "push")
        persist(ben, "pull")
        persist(ben, "push")
        persist(ana, "pull")
        assert ana.files() == ben.files()
    assert kills
    carl = ana.another("carl")
    carl("clone", remote.url, ".")
    assert carl.files() == ana.files()
    assert len(carl.files()) == 2 * rounds + 2
    for machine in (ana, ben):
        messages = [each["message"] for each in machine("log", "--json").json]
        assert messages.count(f"ana {rounds - 1}") == 1
        assert machine("status", "--json").json["unstaged"] == []
    driver = driver_of(remote)
    assert {each.key for each in driver.list("")} >= {"root"}
