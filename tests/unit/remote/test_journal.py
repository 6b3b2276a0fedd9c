"""Going on with a push: what has arrived is not sent again, unless it must not be listed."""

from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from faults import RESET, Faults, failing
from machines import Machine, driver_of, noise, root_of
from servers import Remote as Place

from dorky import errors
from dorky.commands import sync
from dorky.drivers.file import FileDriver
from dorky.format import model
from dorky.format.model import ALL, Kind, Tree
from dorky.remote import gc, push
from dorky.remote import root as roots
from dorky.store import directories, history, pack, reachability
from dorky.worktree.worktree import SCRATCH

KiB, MiB = 1 << 10, 1 << 20
HERE = Path(__file__).parent
DENIED = errors.AccessDenied("the bucket", "403")


def packs(place: Place) -> dict[str, int]:
    """The packs in the bucket, with their sizes."""
    return {each.key: each.size for each in driver_of(place).list("packs/")}


def replace_root(machine: Machine, place: Place, **changes: object) -> None:
    """Do what another client may do: put a root of the same history in place."""
    root = root_of(machine)
    with machine.repo() as repo:
        data = roots.encode(repo.header, roots.successor(root, **changes), repo.vault, repo.signer)
    driver_of(place).put("root", data)


def pushed_at_last(machine: Machine, place: Place) -> None:
    """Everything can be pushed, all that is listed is there, and a clone gets every byte."""
    machine("push")
    listed = [f"packs/{each.id}" for each in root_of(machine).packs]
    assert len(set(listed)) == len(listed)
    assert set(listed) <= packs(place).keys()
    clone = machine.another(f"clone{random.getrandbits(32)}")
    clone("clone", place.url, ".")
    assert clone.files() == machine.files()
    for each in clone("log", "--json").json:
        clone("checkout", each["id"])


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "TARGET", 200 * KiB)


@pytest.fixture
def halfway(ana: Machine, file_url: Place, faults: Faults, small_packs: None) -> dict[str, int]:
    """A push of 16 packs that has ended after 8 of them: those."""
    ana.commit({f"{n:02}.bin": noise(250 * KiB, n) for n in range(16)}, "much")
    faults.before("put", lambda: None, times=8)
    faults.before("put", failing(DENIED), times=100)
    ana("push", code=6)
    faults.clear()
    arrived = packs(file_url)
    assert len(arrived) == 8
    return arrived


def test_what_has_arrived_is_not_sent_again(
    ana: Machine, file_url: Place, faults: Faults, halfway: dict[str, int]
) -> None:
    pushed_at_last(ana, file_url)
    total = packs(file_url)
    assert halfway.keys() < total.keys()
    again = sum(total.values()) - sum(halfway.values())
    assert again <= 0.55 * sum(total.values())
    asked = [verb for verb, _ in faults.calls if verb != "put"]
    assert asked[:2] == ["list", "swap"]
    assert {f"packs/{each.id}" for each in root_of(ana).packs} == total.keys()
    faults.clear()
    ana.commit({"more": noise(200 * KiB, 99)})
    ana("push")
    assert "list" not in {verb for verb, _ in faults.calls}


def test_of_a_push_that_was_acknowledged_nothing_is_remembered(
    ana: Machine, file_url: Place, faults: Faults
) -> None:
    ana.commit({"a": noise(300 * KiB, 1)})
    ana("push")
    ana.commit({"b": noise(300 * KiB, 2)})
    faults.clear()
    ana("push")
    assert [verb for verb, _ in faults.calls] == ["put", "put", "swap"]


def test_more_was_committed_and_merged_meanwhile(
    ana: Machine, ben: Machine, file_url: Place, halfway: dict[str, int]
) -> None:
    ben.commit({"b": "1"})
    ben("push")
    ana.commit({"a": "1"})
    ana("pull")
    pushed_at_last(ana, file_url)
    assert {f"packs/{each.id}" for each in root_of(ana).packs} >= halfway.keys()
    again = sum(packs(file_url).values()) - sum(halfway.values())
    assert again <= 0.55 * sum(packs(file_url).values())


def test_another_push_sent_the_same_meanwhile(
    ana: Machine, ben: Machine, file_url: Place, halfway: dict[str, int]
) -> None:
    """What ana has sent is not wanted any more, but for her commit."""
    ben.commit({f"{n:02}.bin": noise(250 * KiB, n) for n in range(16)}, "the same")
    ben("push")
    ana("pull")
    pushed_at_last(ana, file_url)
    assert halfway.keys().isdisjoint(f"packs/{each.id}" for each in root_of(ana).packs)


def test_packs_that_hold_what_nobody_wants_are_not_listed(
    ana: Machine, file_url: Place, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a root lists it lists with all below. Ana pushes another commit than she began with."""
    monkeypatch.setattr(pack, "TARGET", 500 * KiB)
    before = root_of(ana).refs["heads/main"]
    given_up = ana.commit({f"{n:02}.bin": noise(250 * KiB, n) for n in range(6)}, "given up")
    faults.before("swap", failing(DENIED))
    ana("push", code=6)
    sent = packs(file_url)
    with ana.repo() as repo:
        store, remote = repo.store, repo.remote()
        entries = directories.read(store, history.trees_of(store, given_up)[ALL], ALL)
        with store.writer() as writer:
            tree = writer.add(Kind.TREE, model.encode(Tree(entries[:4])))
            new = history.add_commit(writer, {ALL: tree}, [before], author="Ana", message="new")
            writer.save()
        push.push(remote, functools.partial(sync.first_root, repo), new)
        wanted = reachability.reach(store, [new]).all
        listed = {f"packs/{each.id}" for each in root_of(ana).packs}
        assert listed & sent.keys()
        assert sent.keys() - listed
        for name in listed:
            held = store.locations(name.removeprefix("packs/"), remote=remote.name)
            assert {at.id for at in held if at.kind is not Kind.TEAM} <= wanted


@pytest.mark.parametrize("gone", [0, 3, 8])
def test_what_is_gone_is_sent_again(
    ana: Machine, file_url: Place, halfway: dict[str, int], gone: int
) -> None:
    names = sorted(halfway)
    driver_of(file_url).delete(names[:gone])
    pushed_at_last(ana, file_url)
    listed = {f"packs/{each.id}" for each in root_of(ana).packs}
    assert listed & halfway.keys() == set(names[gone:])


def test_what_has_not_arrived_whole_is_sent_again(
    ana: Machine, file_url: Place, halfway: dict[str, int]
) -> None:
    name = min(halfway)
    driver_of(file_url).put(name, b"half of it")
    pushed_at_last(ana, file_url)
    assert name not in {f"packs/{each.id}" for each in root_of(ana).packs}


def test_what_is_condemned_is_sent_again_under_other_names(
    ana: Machine, ben: Machine, file_url: Place, halfway: dict[str, int]
) -> None:
    """Whether the collection has deleted it already or not."""
    names = sorted(halfway)
    doomed = tuple(name.removeprefix("packs/") for name in names[:4])
    replace_root(ben, file_url, condemned=doomed, gc_epoch=1)
    driver_of(file_url).delete(names[:2])
    pushed_at_last(ana, file_url)
    listed = {each.id for each in root_of(ana).packs}
    assert listed.isdisjoint(doomed)
    assert {name.removeprefix("packs/") for name in names[4:]} <= listed


def test_a_collection_while_pushing(
    ana: Machine, ben: Machine, file_url: Place, faults: Faults, small_packs: None
) -> None:
    """All that was sent is condemned just before it would have been listed."""
    ana.commit({f"{n:02}.bin": noise(250 * KiB, n) for n in range(6)}, "much")
    doomed: list[str] = []

    def collect() -> None:
        doomed.extend(packs(file_url))
        with ben.repo() as repo:
            remote = repo.remote()
            done = gc.apply(remote, gc.plan(remote, grace=timedelta(0)))
            assert {each.name for each in done.garbage} > set(doomed)
            assert len(doomed) > 2

    faults.before("swap", collect)
    pushed_at_last(ana, file_url)
    assert packs(file_url).keys().isdisjoint(doomed)


def test_after_two_collections_nothing_can_be_told(
    ana: Machine, ben: Machine, file_url: Place, halfway: dict[str, int]
) -> None:
    """It may have been deleted, and written once more by a request that was late."""
    replace_root(ben, file_url, gc_epoch=2)
    pushed_at_last(ana, file_url)
    assert halfway.keys().isdisjoint(f"packs/{each.id}" for each in root_of(ana).packs)


def test_who_may_not_list_sends_everything_again(
    ana: Machine, file_url: Place, faults: Faults, halfway: dict[str, int]
) -> None:
    faults.before("list", failing(DENIED))
    pushed_at_last(ana, file_url)


@pytest.mark.parametrize("deletes", [True, False])
def test_after_a_rotation_it_is_deleted_and_sealed_anew(
    ana: Machine,
    ben: Machine,
    file_url: Place,
    faults: Faults,
    halfway: dict[str, int],
    deletes: bool,
) -> None:
    ben("rotate")
    ana("pull")
    if not deletes:
        faults.before("delete", failing(DENIED))
    pushed_at_last(ana, file_url)
    assert halfway.keys().isdisjoint(f"packs/{each.id}" for each in root_of(ana).packs)
    assert packs(file_url).keys().isdisjoint(halfway) is deletes


def test_another_place_is_told_nothing_of_it(
    ana: Machine, file_url: Place, tmp_path: Path, halfway: dict[str, int]
) -> None:
    ana("remote", "set-url", "origin", tmp_path / "elsewhere")
    ana("push")
    with ana.repo() as repo:
        assert not {f"packs/{each.id}" for each in repo.store.packs("origin")} & halfway.keys()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_push_that_dies_at_its_swap(
    ana: Machine, file_url: Place, faults: Faults, small_packs: None, when: str
) -> None:
    ana.commit({f"{n:02}.bin": noise(250 * KiB, n) for n in range(6)}, "much")

    class Killed(BaseException):
        pass

    rule: Callable[..., None] = faults.before if when == "before" else faults.after
    rule("swap", failing(Killed()))
    with ana.repo() as repo, pytest.raises(Killed):
        repo.push()
    arrived = packs(file_url)
    faults.clear()
    pushed_at_last(ana, file_url)
    assert packs(file_url) == arrived


def test_a_broken_connection_in_between_costs_what_was_under_way(
    ana: Machine, file_url: Place, faults: Faults, small_packs: None
) -> None:
    ana.commit({f"{n:02}.bin": noise(250 * KiB, n) for n in range(16)}, "much")
    for _ in range(4):
        faults.before("put", lambda: None, times=4)
        faults.before("put", failing(RESET), times=100)
        ana.run("push")
        faults.clear()
    pushed_at_last(ana, file_url)
    assert len(packs(file_url)) == len(root_of(ana).packs)


# --- for real -------------------------------------------------------------------------------


@pytest.mark.deep
def test_killed_at_half_of_a_gib_the_rerun_sends_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = Machine(tmp_path / "ana", {})
    place = tmp_path / "vault"
    ana("init", place)
    with ana.write("large.bin", b"").open("wb") as file:
        for _ in range(1024):
            file.write(os.urandom(MiB))
    ana("stage", "large.bin")
    ana("commit", "-m", "large")
    arrived = killed(ana, ["push"], lambda: total(place / "packs") >= 512 * MiB)
    before = total(place / "packs")
    assert arrived
    assert before < 900 * MiB
    ana("push")
    after = total(place / "packs")
    assert after - before <= 0.55 * 1024 * MiB
    ben = ana.another("ben")
    ben.write(".dorkyrc", ana.read(".dorkyrc"))

    assert killed(ben, ["pull"], lambda: written(ben.state / SCRATCH) >= 512 * MiB)
    received = 0
    get_range = FileDriver.get_range

    def counted(self: FileDriver, key: str, start: int, end: int) -> bytes:
        nonlocal received
        data = get_range(self, key, start, end)
        received += len(data)
        return data

    monkeypatch.setattr(FileDriver, "get_range", counted)
    ben("pull")
    assert 0 < received <= 0.55 * 1024 * MiB
    assert (ben.project / "large.bin").read_bytes() == (ana.project / "large.bin").read_bytes()


def written(directory: Path) -> int:
    """Return how many bytes of files, which may have holes, are on the disk."""
    return sum(each.stat().st_blocks * 512 for each in directory.glob("*"))


def total(directory: Path) -> int:
    if not directory.exists():
        return 0
    return sum(each.stat().st_size for each in directory.iterdir() if each.name[0] != ".")


def killed(machine: Machine, command: list[str], when: Callable[[], bool]) -> bool:
    """Run a command in a process of its own, and kill it at a moment."""
    with machine.here():
        process = subprocess.Popen(
            [sys.executable, "-m", "dorky", *command],
            env={**os.environ, "PYTHONPATH": str(HERE.parents[2])},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    while process.poll() is None and not when():
        time.sleep(0.01)
    process.kill()
    return process.wait() == -signal.SIGKILL


_PULLER = """
import itertools, os, sys
sys.path.insert(0, sys.argv[1])
from dorky.store import pack
from dorky.cli.main import run
from dorky.drivers.file import FileDriver
from dorky.remote import fetch
pack.TARGET, fetch._RANGE = 200 << 10, 300 << 10
calls, read = itertools.count(), FileDriver.get_range
def get_range(self, key, start, end):
    if end - start > 100 << 10 and next(calls) == 10:
        os._exit(9)  # the power is gone: nothing is tidied up
    return read(self, key, start, end)
FileDriver.get_range = get_range
run(["pull"])
"""


def test_a_pull_goes_on_where_the_power_went(
    ana: Machine, ben: Machine, faults: Faults, small_packs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana.commit({f"{n:02}.bin": noise(250 * KiB, n) for n in range(16)}, "much")
    ana("push")
    with ben.here():
        arguments = [sys.executable, "-c", _PULLER, str(HERE.parents[2])]
        assert subprocess.run(arguments, capture_output=True, check=False).returncode == 9
    with ben.repo() as repo:
        saved = sum(each.size for each in repo.store.packs())
    # Eight ranges are under way, or wait for their turn, at the most.
    assert saved >= 2 * 250 * KiB
    monkeypatch.setattr("dorky.remote.fetch._RANGE", 300 * KiB)
    faults.clear()
    ben("pull")
    large = [verb for verb, _ in faults.calls if verb == "get_range"]
    assert len(large) <= 16 - saved // (250 * KiB)
    assert ben.files() == ana.files()
