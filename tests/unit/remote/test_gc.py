"""Collecting garbage, through real remotes."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import pytest
from depth import deep
from faults import LOST, RESET, Faults, failing
from machines import Machine, bucket, driver_of, flip, noise, packs_listed, root_of
from servers import Remote as Place

from dorky import errors
from dorky.format.model import Inline, Kind
from dorky.remote import gc, listing, push
from dorky.remote import root as roots
from dorky.remote.fetch import fetch
from dorky.results import RemoteGCReport
from dorky.store import history, pack

KiB, MiB = 1 << 10, 1 << 20
HERE = Path(__file__).parent
NOW = timedelta(0)
STRAY = f"packs/{'ab' * 32}"
DENIED = errors.AccessDenied("the bucket", "403")


def packs(place: Place) -> set[str]:
    return {each.key for each in driver_of(place).list("packs/")}


def listed(machine: Machine) -> set[str]:
    return {f"packs/{each.id}" for each in packs_listed(machine)}


def planned(machine: Machine, grace: timedelta = NOW) -> RemoteGCReport:
    with machine.repo() as repo:
        return gc.plan(repo.remote(), grace=grace).collection


def collect(machine: Machine, grace: timedelta = NOW) -> RemoteGCReport:
    with machine.repo() as repo:
        remote = repo.remote()
        remote.accept_rewind = True
        return gc.apply(remote, gc.plan(remote, grace=grace))


def put_stray(place: Place, *, days: float = 0) -> None:
    """Leave a pack that no root lists, written some days ago (that works in directories)."""
    driver_of(place).put(STRAY, b"garbage")
    if days:
        when = time.time() - days * 86_400
        os.utime(Path(place.url) / STRAY, (when, when))


def check_all_readable(machine: Machine, place: Place) -> None:
    """A new clone has every file of every commit, and the bucket what is listed."""
    assert listed(machine) <= packs(place)
    clone = machine.another(f"clone{random.getrandbits(32)}")
    clone("clone", place.url, ".")
    clone_log = clone("log", "--json").json
    assert clone_log == machine("log", "--json").json
    for each in clone_log:
        for name in clone("ls", each["id"], "--json").json:
            args = ("cat", f"{each['id']}:{name['path']}")
            assert clone(*args).raw == machine(*args).raw


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs of 400 KiB; those below 100 are small. So tests need not move megabytes."""
    monkeypatch.setattr(pack, "TARGET", 400 * KiB)
    monkeypatch.setattr(push, "SMALL", 250 * KiB)
    monkeypatch.setattr(gc, "SMALL", 250 * KiB)


def push_each(machine: Machine, names: Iterable[str]) -> None:
    """Push a file in a pack of its own, and the next."""
    with machine.repo() as repo:
        for name in names:
            machine.write(name, noise(130 * KiB, hash_of(name)))
            repo.stage(name)
            repo.commit(name)
            repo.push()


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode(), "big")


def push_small_packs(machine: Machine, count: int) -> None:
    push_each(machine, [f"small{n}" for n in range(count)])


# --- what is garbage ------------------------------------------------------------------------


def test_what_no_root_lists_goes(tmp_path: Path, remote: Place) -> None:
    ana = Machine(tmp_path / "ana", remote.env)
    ana("init", remote.url)
    ana.commit({"kept": noise(200 * KiB, 1)})
    ana("push")
    put_stray(remote)
    before = bucket(remote)
    plan = planned(ana)
    assert [each.name for each in plan.garbage] == [STRAY]
    assert (plan.garbage[0].size, plan.size, plan.done) == (7, 7, False)
    assert bucket(remote) == before

    assert planned(ana, gc.GRACE).kept_young == 1
    assert planned(ana, gc.GRACE).garbage == ()
    done = collect(ana)
    assert (done.garbage, done.done, done.sent) == (plan.garbage, True, 0)
    assert packs(remote) == listed(ana)
    assert root_of(ana).condemned == (STRAY.removeprefix("packs/"),)
    assert root_of(ana).gc_epoch == 1
    # Seen to be gone, it need not be remembered.
    assert collect(ana).garbage == ()
    assert root_of(ana).condemned == ()
    generation = root_of(ana).generation
    assert collect(ana).garbage == ()
    assert root_of(ana).generation == generation
    check_all_readable(ana, remote)


def test_what_is_young_stays(ana: Machine, file_url: Place) -> None:
    put_stray(file_url, days=6.9)
    assert collect(ana, gc.GRACE).kept_young == 1
    assert STRAY in packs(file_url)
    assert root_of(ana).gc_epoch == 0
    put_stray(file_url, days=7.1)
    assert len(collect(ana, gc.GRACE).garbage) == 1
    assert STRAY not in packs(file_url)


def test_the_local_clock_has_no_say(
    ana: Machine, file_url: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_stray(file_url, days=1)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert collect(ana, gc.GRACE).kept_young == 1


def test_other_keys_are_not_touched(ana: Machine, file_url: Place) -> None:
    driver = driver_of(file_url)
    for key in ("packs/notes.txt", "join/x", "elsewhere/y", f"packs/{'AB' * 32}"):
        driver.put(key, b"")
    before = bucket(file_url)
    assert collect(ana).garbage == ()
    assert bucket(file_url) == before


def test_scratch_keys_of_probes_go_once_they_are_old(ana: Machine, file_url: Place) -> None:
    """A probe that is under way would fail without its own, whatever the grace."""
    driver_of(file_url).put("probe/0123", b"")
    assert collect(ana).garbage == ()
    when = time.time() - 7200
    os.utime(Path(file_url.url) / "probe" / "0123", (when, when))
    assert planned(ana, gc.GRACE).garbage == ()
    assert [each.name for each in collect(ana).garbage] == ["probe/0123"]
    assert bucket(file_url).keys() == {"root"}


def test_what_was_condemned_and_is_still_there_goes_whatever_its_age(
    ana: Machine, ben: Machine, file_url: Place, faults: Faults
) -> None:
    """What a rotation dropped and who rotated may not delete."""
    ana.commit({"data": noise(200 * KiB, 1)})
    ana("push")
    (old,) = packs(file_url)
    faults.before("delete", failing(DENIED), times=3)
    ana("rotate")
    assert old in packs(file_url)
    faults.clear()
    ben("pull")
    done = collect(ben, gc.GRACE)
    assert [each.name for each in done.garbage if each.name.startswith("packs/")] == [old]
    assert packs(file_url) == listed(ben)
    assert collect(ben, gc.GRACE).garbage == ()
    assert root_of(ben).condemned == ()
    check_all_readable(ben, file_url)


def test_who_may_not_delete_is_told(ana: Machine, file_url: Place, faults: Faults) -> None:
    put_stray(file_url)
    with ana.repo() as repo:
        remote = repo.remote()
        plan = gc.plan(remote, grace=NOW)
        faults.before("delete", failing(DENIED))
        with pytest.raises(errors.AccessDenied):
            gc.apply(remote, plan)
    assert STRAY in packs(file_url)
    # It is condemned: who may delete need not wait any more.
    assert len(collect(ana, gc.GRACE).garbage) == 1
    assert STRAY not in packs(file_url)


def test_garbage_without_end_is_condemned_in_parts(
    ana: Machine, file_url: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A root has to hold the names of what is about to go."""
    monkeypatch.setattr(gc, "_MOST", 3)
    for n in range(10):
        driver_of(file_url).put(f"packs/{n:064x}", b"garbage")
    done = collect(ana)
    assert (len(done.garbage), done.size) == (10, 70)
    assert packs(file_url) == set()
    assert len(root_of(ana).condemned) == 1


def test_a_root_that_would_not_fit_is_found_before_anything_is_sent(
    ana: Machine,
    file_url: Place,
    small_packs: None,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    push_small_packs(ana, 9)
    for _ in range(300):
        driver_of(file_url).put(f"packs/{os.urandom(32).hex()}", b"garbage")
    before = bucket(file_url)
    monkeypatch.setattr(roots, "LIMIT", len(before["root"]) + 100)
    faults.clear()
    with pytest.raises(errors.UsageError, match="has room for"):
        collect(ana)
    assert not [key for verb, key in faults.calls if verb == "put" and key.startswith("packs/")]
    assert bucket(file_url) == before


def test_what_it_costs(ana: Machine, file_url: Place, faults: Faults) -> None:
    faults.clear()
    collect(ana)
    assert [verb for verb, _ in faults.calls] == ["get", "list", "list", "list"]
    put_stray(file_url)
    faults.clear()
    collect(ana)
    assert [verb for verb, _ in faults.calls] == [
        *("get", "list", "list", "list"),
        *("put", "list", "delete"),  # what time it is there
        *("swap", "delete"),
    ]


# --- packing anew ---------------------------------------------------------------------------


def test_many_small_packs_become_one(
    ana: Machine, ben: Machine, file_url: Place, small_packs: None
) -> None:
    """By somebody who has none of what they hold."""
    push_small_packs(ana, 9)
    before = packs(file_url)
    assert len(before) == 9
    ben("fetch")
    plan = planned(ben)
    assert len(plan.rewritten) == plan.packs_before == 9
    assert packs(file_url) == before
    done = collect(ben)
    assert done.packs_after == len(packs(file_url)) == len(packs_listed(ben)) < 5
    assert plan.packs_after == done.packs_after
    assert done.sent == sum(each.size for each in packs_listed(ben))
    assert 0 < plan.sent <= done.sent <= 1.01 * plan.sent
    assert packs(file_url).isdisjoint(before)
    check_all_readable(ana, file_url)
    ana.commit({"more": noise(130 * KiB, 5)})
    ana("push", code=0)
    assert collect(ana).rewritten == ()


def test_seven_small_packs_stay(ana: Machine, file_url: Place, small_packs: None) -> None:
    push_small_packs(ana, 7)
    before = packs(file_url)
    assert collect(ana).rewritten == ()
    assert packs(file_url) == before


def forget_history(machine: Machine, place: Place) -> None:
    """Leave nothing in the remote's history but its newest commit, as a purge might."""
    with machine.repo() as repo:
        store, remote = repo.store, repo.remote()
        root = root_of(machine)
        newest = history.read_commit(store, root.refs["heads/main"])
        with store.writer() as writer:
            alone = history.add_commit(writer, newest.trees, [], author="Ana", message="alone")
            writer.save()
        stored = store.stored(store.locate([alone])[alone])
        inline = (*root.inline, Inline(Kind.COMMIT, alone, stored))
        following = roots.successor(root, refs={"heads/main": alone}, inline=inline)
        driver_of(place).put("root", roots.encode(repo.header, following, repo.vault, repo.signer))
        repo.database.set_ref("main", alone)
        remote.accept_rewind = True
        fetch(remote)


def test_what_is_half_dead_is_packed_anew(
    ana: Machine, ben: Machine, file_url: Place, small_packs: None
) -> None:
    """Half of the bytes that the bucket holds are of files that no commit names any more."""
    ana.commit({"dead": noise(220 * KiB, 1), "alive": noise(150 * KiB, 2)})
    ana("push")
    ana.commit({"dead too": noise(350 * KiB, 3)})
    ana("push")
    ana.commit({"alive too": noise(390 * KiB, 4), "small": noise(130 * KiB, 5)})
    ana("push")
    ana("rm", "dead", "dead too")
    ana("commit", "-m", "rm")
    ana("push")
    before = {each.key: each.size for each in driver_of(file_url).list("packs/")}
    assert collect(ana).rewritten == ()
    forget_history(ana, file_url)
    done = collect(ben)
    assert done.rewritten
    assert all("not needed" in each.reason for each in done.rewritten)
    after = {each.key: each.size for each in driver_of(file_url).list("packs/")}
    assert max(before, key=lambda each: before[each]) in after
    assert sum(after.values()) < sum(before.values()) - 500 * KiB
    check_all_readable(ana, file_url)


def test_of_what_is_there_twice_one_copy_is_enough(
    ana: Machine, file_url: Place, faults: Faults
) -> None:
    ana.commit({"data": noise(200 * KiB, 1)})
    ana("push")
    (only,) = packs_listed(ana)
    with ana.repo() as repo:
        store, remote = repo.store, repo.remote()
        ids = {at.id for at in store.locations(only.id, remote=remote.name)}
        objects = [(at.kind, at.id, store.stored(at)) for at in store.locate(ids).values()]
        ((twin, data),) = push.build(repo.vault, objects)
        driver_of(file_url).put(f"packs/{twin.pack.id}", data)
        both = roots.successor(root_of(ana), packs=(only, twin.pack))
        driver_of(file_url).put("root", roots.encode(repo.header, both, repo.vault, repo.signer))
    done = collect(ana)
    assert (len(done.rewritten), done.sent, done.packs_after) == (1, 0, 1)
    assert packs(file_url) == listed(ana)
    check_all_readable(ana, file_url)


def test_what_is_damaged_here_does_not_replace_what_is_sound_there(
    ana: Machine, file_url: Place, small_packs: None
) -> None:
    push_small_packs(ana, 9)
    before = bucket(file_url)
    for each in (ana.state / "packs").iterdir():
        each.chmod(0o600)
        if each.stat().st_size > 100 * KiB:
            flip(each, 1000)
    with pytest.raises(errors.IntegrityError):
        collect(ana)
    assert {key: bucket(file_url)[key] for key in before} == before


def test_after_a_rotation_what_is_packed_anew_is_sealed_anew(
    ana: Machine, ben: Machine, file_url: Place, small_packs: None
) -> None:
    push_small_packs(ana, 9)
    ana("rotate")
    ben("pull")
    collect(ben)
    epochs = {each.epochs for each in packs_listed(ben)}
    assert max(epochs) == 2
    check_all_readable(ben, file_url)
    ana("pull")


def test_groups_that_are_closed(
    ana: Machine, ben: Machine, file_url: Place, small_packs: None
) -> None:
    """Whatever may be theirs stays as it is, dead or alive."""
    carl = ana.another("carl", identity=False)
    carl("key", "gen")
    key = carl("key", "show", "--json").json[0]
    ana("team", "add", "carl", f"{key['recipient']} {key['signer']}")
    ana("group", "add", "prod", "prod/**")
    push_small_packs(ana, 5)
    push_each(ana, [f"prod/{n}" for n in range(5)])
    carl("clone", file_url.url, ".")
    theirs = packs(file_url)
    forget_history(ana, file_url)
    done = collect(carl)
    assert all("small" in each.reason for each in done.rewritten)
    assert packs(file_url) >= theirs - {each.name for each in done.rewritten}
    ana("pull")
    for n in range(5):
        assert len(ana("cat", f"HEAD:prod/{n}").raw) == 130 * KiB
    fresh = ana.another("fresh")
    fresh("clone", file_url.url, ".", "--accept-rewind")  # its history was cut
    assert fresh.files() == ana.files()
    # Who can read everything judges everything.
    done = collect(ana)
    assert done.rewritten
    fresh = ana.another("fresher")
    fresh("clone", file_url.url, ".", "--accept-rewind")
    assert fresh.files() == ana.files()


def test_a_reader_whose_packs_are_packed_anew_starts_over(
    ana: Machine, ben: Machine, file_url: Place, faults: Faults, small_packs: None
) -> None:
    push_small_packs(ana, 9)
    ben("fetch")
    faults.before("get_range", lambda: collect(ana), key="packs/")
    ben("pull")
    assert ben.files() == ana.files()


# --- what goes wrong ------------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("stride", [3, *deep(1)])
@pytest.mark.parametrize(
    ("when", "error"),
    [
        ("after", Killed),
        ("before", errors.AccessDenied),
        # The next request's before is this one's after.
        pytest.param("before", Killed, marks=pytest.mark.deep),
    ],
)
def test_interrupted_at_any_request_and_run_again_it_ends_the_same(
    ana: Machine,
    file_url: Place,
    faults: Faults,
    small_packs: None,
    tmp_path: Path,
    when: str,
    error: type[BaseException],
    stride: int,
) -> None:
    push_small_packs(ana, 8)
    put_stray(file_url)
    places = [ana.state, Path(file_url.url)]
    for each in places:
        shutil.copytree(each, tmp_path / "kept" / each.name)
    interrupted, n = True, 0
    while interrupted:
        for each in places:
            shutil.rmtree(each)
            shutil.copytree(tmp_path / "kept" / each.name, each)
        faults.clear()
        interrupted = fails_at(n, faults, when, error, lambda: collect(ana))
        n += stride
        assert listed(ana) <= packs(file_url)
        collect(ana)
        collect(ana)
        root = root_of(ana)
        assert packs(file_url) == listed(ana)
        assert (len(packs_listed(ana)), root.condemned) == (3, ())
        fresh = ana.another(f"fresh{n}")
        fresh("clone", file_url.url, ".")
        assert fresh.files() == ana.files()
    # The root, three listings, the clock, three packs, a table, the swap, a deletion.
    assert n > 1 + 3 + 3 + 3 + 1 + 1 + 1


def fails_at(
    n: int, faults: Faults, when: str, error: type[BaseException], act: Callable[[], object]
) -> bool:
    """Do something whose nth request ends it, if it has as many."""
    left = itertools.count(-n)

    def count(answer: object = None) -> object:
        if next(left) == 0:
            raise error("the bucket", "403")
        return answer

    rule: Callable[..., None] = faults.before if when == "before" else faults.after
    for verb in ("get", "list", "put", "swap", "delete"):
        rule(verb, count, times=100)
    # Whether a failure at cleaning up is passed over or not: it happened.
    with contextlib.suppress(Killed, errors.DorkyError):
        act()
    faults.clear()
    return next(left) > 0


@pytest.mark.parametrize("error", [RESET, LOST], ids=["reset", "lost"])
def test_a_swap_that_won_is_not_done_twice(
    ana: Machine, file_url: Place, faults: Faults, error: Exception
) -> None:
    put_stray(file_url)
    faults.after("swap", failing(error))
    collect(ana)
    assert root_of(ana).gc_epoch == 1
    assert packs(file_url) == listed(ana)


def test_a_push_in_between_makes_it_start_over(
    ana: Machine, ben: Machine, file_url: Place, faults: Faults, small_packs: None
) -> None:
    """What was packed anew is not sent again; what the push lists is not taken for garbage."""
    push_small_packs(ana, 9)
    ben("pull")
    ben.commit({"b": noise(300 * KiB, 77)})
    faults.clear()
    faults.before("swap", lambda: ben("push"))
    done = collect(ana)
    names = [key for verb, key in faults.calls if verb == "put" and key.startswith("packs/")]
    assert set(names[:3]) <= listed(ana)
    assert len(names) == 3 + 2 + 1  # a small one of ben's is packed anew, too
    assert len(done.rewritten) == 9
    assert packs(file_url) == listed(ana)
    ana("pull")
    check_all_readable(ana, file_url)


def test_a_root_that_is_learned_of_while_downloading(
    ana: Machine, ben: Machine, file_url: Place, faults: Faults, small_packs: None
) -> None:
    """What is made of the root before must not take its place."""
    push_small_packs(ana, 9)
    ben("fetch")

    def ana_works() -> None:
        collect(ana)
        ana.commit({"late": "1"}, "late")
        ana("push")

    faults.before("get_range", ana_works, key="packs/")
    collect(ben)
    assert faults.done
    assert root_of(ben).refs["heads/main"] == ana("log", "--json").json[0]["id"]
    assert packs(file_url) == listed(ben)
    ben("pull")
    assert ben.files() == ana.files()


@pytest.mark.parametrize(
    "work",
    [
        ("gc", "--remote", "--grace", "0"),
        ("purge", "small1", "--yes"),
        ("rotate",),
        ("fsck", "--remote"),
        ("fsck", "--remote", "--read-data"),
    ],
    ids=" ".join,
)
def test_tables_that_go_while_others_work(
    ana: Machine,
    ben: Machine,
    file_url: Place,
    faults: Faults,
    small_packs: None,
    monkeypatch: pytest.MonkeyPatch,
    work: tuple[str, ...],
) -> None:
    """The root that listed them is not the newest: no damage is reported, and nothing is lost."""
    monkeypatch.setattr(listing, "RECENT_PACKS", 2)
    push_small_packs(ana, 9)
    ben("pull", "small1")
    faults.before("get_range", lambda: collect(ana), key="packs/")
    ben(*work)
    assert faults.done
    assert listed(ben) <= packs(file_url)  # what a rotation sent in vain is left to a collection
    ana("pull")
    check_all_readable(ana, file_url)


def test_another_collection_in_between(
    ana: Machine, ben: Machine, file_url: Place, faults: Faults, small_packs: None
) -> None:
    """It takes what was packed anew and not listed yet for garbage, which it is then."""
    push_small_packs(ana, 9)
    put_stray(file_url)
    ben("pull")
    faults.clear()
    faults.before("swap", lambda: collect(ben))
    collect(ana)
    assert packs(file_url) == listed(ana)
    check_all_readable(ana, file_url)


def test_a_collection_while_purging(
    ana: Machine, ben: Machine, file_url: Place, faults: Faults, small_packs: None
) -> None:
    """What the purge has packed anew is taken for garbage, and packed once more."""
    ana.commit({"secret": noise(130 * KiB, 1), "kept": noise(130 * KiB, 2)})
    ana("push")
    ben("pull")
    faults.clear()
    faults.before("swap", lambda: collect(ben), key="root")
    ana("purge", "secret", "--yes")
    assert faults.done
    assert packs(file_url) == listed(ana)
    fresh = ana.another("fresh")
    fresh("clone", file_url.url, ".")
    assert fresh.read("kept") == ana.read("kept")
    assert "secret" not in fresh.files()


def test_others_who_never_stop(ana: Machine, ben: Machine, file_url: Place, faults: Faults) -> None:
    put_stray(file_url)

    def ben_pushes() -> None:
        ben("pull")
        ben.commit({"b": str(random.random())})
        ben("push")

    with ana.repo() as repo:
        remote = repo.remote()
        plan = gc.plan(remote, grace=NOW)
        swap = remote.driver.swap

        def slow(*args: object, **named: object) -> object:
            ben_pushes()
            return swap(*args, **named)  # type: ignore[arg-type]

        remote.driver.swap = slow  # type: ignore[method-assign, assignment]
        with pytest.raises(errors.ServerBusy):
            gc.apply(remote, plan)
    assert STRAY in packs(file_url)


# --- a race ---------------------------------------------------------------------------------

_PUSHER = """
import sys, pathlib, random, time
sys.path.insert(0, sys.argv[3])
from datetime import timedelta
from dorky import errors
from dorky.remote import gc, listing, push
from dorky.repo import Repository
from dorky.store import pack
pack.TARGET, push.SMALL, gc.SMALL = 400 << 10, 250 << 10, 250 << 10
name, until = sys.argv[1], time.time() + float(sys.argv[2])
n = 0
while time.time() < until:
    with Repository(pathlib.Path.cwd()) as repo:
        pathlib.Path(f"{name}{n}").write_bytes(random.Random(f"{name}{n}").randbytes(130 << 10))
        repo.stage(f"{name}{n}")
        repo.commit(f"{name}{n}")
        while True:
            try:
                repo.push()
                break
            except errors.Rejected:
                repo.pull()
    print(f"{name}{n}", flush=True)
    n += 1
"""
_COLLECTOR = """
import sys, pathlib, time
sys.path.insert(0, sys.argv[3])
from datetime import timedelta
from dorky import errors
from dorky.remote import gc, listing, push
from dorky.repo import Repository
from dorky.store import pack
pack.TARGET, push.SMALL, gc.SMALL = 400 << 10, 250 << 10, 250 << 10
until = time.time() + float(sys.argv[2])
done = 0
while time.time() < until:
    with Repository(pathlib.Path.cwd()) as repo, repo.locked():
        try:
            remote = repo.remote()
            gc.apply(remote, gc.plan(remote, grace=timedelta(0)))
            print("collected", flush=True)
        except errors.ServerBusy:
            pass
"""


def race(ana: Machine, place: Place, *, pushers: int, collectors: int, seconds: float) -> None:
    ana("init", place.url)
    ana.commit({"start": "0"}, "start")
    ana("push")
    running = {}
    for n in range(pushers + collectors):
        name = f"m{n}-"
        machine = ana.another(name)
        machine("clone", place.url, ".")
        code = _PUSHER if n < pushers else _COLLECTOR
        with machine.here():
            running[name] = subprocess.Popen(
                [sys.executable, "-c", code, name, str(seconds), str(HERE.parents[2])],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
    acknowledged: set[str] = set()
    collected = 0
    for process in running.values():
        out, err = process.communicate(timeout=seconds + 120)
        assert process.returncode == 0, err.decode()
        words = out.decode().split()
        collected += words.count("collected")
        acknowledged |= {each for each in words if each != "collected"}
    assert len(acknowledged) >= pushers
    assert collected >= collectors
    ana("pull")
    collect(ana)
    collect(ana)
    assert packs(place) == listed(ana)
    fresh = ana.another("fresh")
    fresh("clone", place.url, ".")
    messages = {each["message"] for each in fresh("log", "--json").json}
    assert acknowledged <= messages
    for name in acknowledged:
        assert fresh.read(name) == random.Random(name).randbytes(130 * KiB)


def test_a_race(tmp_path: Path, file_url: Place) -> None:
    race(Machine(tmp_path / "ana", {}), file_url, pushers=2, collectors=2, seconds=2.5)


@pytest.mark.deep
def test_a_longer_race(tmp_path: Path, remote: Place) -> None:
    ana = Machine(tmp_path / "ana", remote.env)
    race(ana, remote, pushers=3, collectors=2, seconds=40)
