"""gc here: what nothing needs goes, when it is old enough, and nothing else ever does."""

from __future__ import annotations

import os
import random
import shutil
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from machines import Machine, flip, forget
from servers import Remote
from teams import admit, cloned

from dorky.remote import root as roots
from dorky.store import oplog, reachability
from dorky.store.objects import Store

BIG = random.Random(4).randbytes(1_500_000)
DAY = 86_400


@pytest.fixture
def ana(tmp_path: Path) -> Machine:
    """A project without a remote."""
    made = Machine(tmp_path / "ana", {})
    made("init", "--recovery", "none", "--name", "ana")
    made.commit({".env": "A=1\n"}, "first")
    return made


@pytest.fixture
def pushed(ana: Machine, file_url: Remote) -> Machine:
    """It has a remote, which has a large file, too."""
    ana.commit({"big": BIG}, "second")
    ana("remote", "add", "origin", file_url.url)
    ana("push")
    return ana


def gc(machine: Machine, *options: str, code: int = 0) -> Any:
    return machine("gc", "--json", *options, code=code).json


def age(machine: Machine, days: float) -> None:
    then = time.time() - days * DAY
    for path in (machine.state / "packs").iterdir():
        os.utime(path, (then, then))


def held(machine: Machine) -> set[str]:
    with machine.repo() as repo:
        return {at.id for each in repo.store.packs() for at in repo.store.locations(each.id)}


def names(machine: Machine) -> set[str]:
    return {path.name for path in (machine.state / "packs").iterdir()}


def stage_and_drop(machine: Machine, content: bytes = b"dropped\n") -> None:
    machine.write("dropped", content)
    machine("stage", "dropped")
    machine("unstage", "dropped")
    (machine.project / "dropped").unlink()


def commit_half(
    machine: Machine, kept: bytes = BIG[:300_000], dropped: bytes = BIG[300_000:]
) -> None:
    """Commit one of two files that were staged together, and drop the other."""
    machine.write("kept", kept)
    machine.write("dropped", dropped)
    machine("stage", "kept", "dropped")
    machine("unstage", "dropped")
    machine("commit", "-m", "kept")


def sound(machine: Machine) -> None:
    assert machine("fsck", "--read-data", "--json").json["findings"] == []


# --- what goes ------------------------------------------------------------------------------


def test_nothing_to_collect(ana: Machine) -> None:
    age(ana, 100)
    before = names(ana)
    found = gc(ana)
    assert found["done"] is True
    assert found["garbage"] == found["rewritten"] == []
    assert names(ana) == before
    assert ana("gc").out == "Nothing to collect.\n"


def test_what_was_staged_and_dropped_goes_when_it_is_old(ana: Machine) -> None:
    before = held(ana)
    stage_and_drop(ana)
    forget(ana)
    assert gc(ana, "--dry-run")["garbage"] == []
    age(ana, 13)
    assert gc(ana)["garbage"] == []
    age(ana, 15)
    planned = gc(ana, "--dry-run")
    assert planned["done"] is False
    (goes,) = planned["garbage"]
    assert goes["reason"] == "nothing in it is needed"
    assert (ana.state / "packs" / goes["name"]).stat().st_size == goes["size"]
    done = gc(ana)
    assert done["done"] is True
    assert done["garbage"] == planned["garbage"]
    assert not (ana.state / "packs" / goes["name"]).exists()
    assert held(ana) == before
    sound(ana)


def test_what_can_be_undone_stays_until_that_is_forgotten(ana: Machine) -> None:
    stage_and_drop(ana)
    age(ana, 80)
    assert gc(ana)["garbage"] == []
    with ana.repo() as repo, repo.database.transaction() as db:
        db.execute("UPDATE operations SET time = time - ?", (91 * DAY * 1_000_000_000,))
    found = gc(ana)
    assert found["operations"] > 0
    assert found["garbage"] == []
    with ana.repo() as repo:
        assert oplog.log(repo.database) == []
    assert len(gc(ana)["garbage"]) == 1
    sound(ana)


def test_commits_that_go_are_named(ana: Machine) -> None:
    lost = ana.commit({".env": "A=2\n"}, "lost")
    ana("undo")
    assert gc(ana, "--grace", "0")["commits"] == []
    forget(ana)
    assert [each["id"] for each in gc(ana, "--grace", "0", "--dry-run")["commits"]] == [lost]
    assert "lost" in ana("gc", "--grace", "0").out
    ana("show", lost, code=4)
    sound(ana)


def test_a_half_dead_pack_is_written_anew(ana: Machine) -> None:
    commit_half(ana)
    forget(ana)
    (planned,) = gc(ana, "--grace", "0", "--dry-run")["rewritten"]
    assert planned["reason"] == "half of it or more is not needed"
    assert planned["size"] > 1_000_000
    before = names(ana)
    gc(ana, "--grace", "0")
    assert planned["name"] in before - names(ana)
    assert len(names(ana) - before) == 1
    sound(ana)
    assert ana("cat", "HEAD:kept").raw == BIG[:300_000]
    assert gc(ana, "--grace", "0")["size"] == 0


def test_a_pack_of_which_little_is_dead_stays(ana: Machine) -> None:
    commit_half(ana, BIG, b"dropped")
    forget(ana)
    before = names(ana)
    assert gc(ana, "--grace", "0")["size"] == 0
    assert names(ana) == before


def test_of_what_is_there_twice_one_copy_goes(ana: Machine) -> None:
    with ana.repo() as repo, repo.locked():
        vault, store = repo.vault, repo.store
        at = next(at for each in store.packs() for at in store.locations(each.id))
        with store.writer() as writer:
            writer.append(at.kind, at.id, store.stored(store.locate([at.id])[at.id]))
            writer.save()
        assert vault.sealed
    sound(ana)
    assert len(gc(ana)["garbage"]) == 1
    sound(ana)
    assert ana("cat", "HEAD:.env").raw == b"A=1\n"


def test_who_is_reading_meanwhile_finds_what_was_moved(ana: Machine) -> None:
    """Commands that only look take no lock."""
    commit_half(ana)
    forget(ana)
    with ana.repo() as repo:
        row = repo.index.rows()["kept"]
        place = repo.store.locate([row.content])[row.content]
        assert len(gc(ana, "--grace", "0")["rewritten"]) == 1
        assert not (repo.store.directory / place.pack).exists()
        assert repo.store.open(place) == repo.store.read(row.content)


# --- packs that nobody knows ----------------------------------------------------------------


def test_a_pack_that_a_killed_command_has_left_goes(ana: Machine) -> None:
    ana.write("new", "new\n")
    with ana.repo() as repo:
        before = repo.store.packs()
        repo.stage("new")
        (left,) = [each.id for each in repo.store.packs() if each not in before]
        with repo.database.transaction() as db:
            db.execute("DELETE FROM packs WHERE name = ?", (left,))
            db.execute("DELETE FROM files WHERE path = 'new'")
    assert gc(ana)["garbage"] == []
    age(ana, 15)
    (goes,) = gc(ana)["garbage"]
    assert goes["name"] == left
    assert goes["reason"] == "left by a command that was killed"
    assert left not in names(ana)


def test_a_pack_with_commits_that_nobody_knows_stays(ana: Machine) -> None:
    ben = ana.another("ben")
    shutil.copytree(ana.project, ben.project, dirs_exist_ok=True)
    shutil.copy(ana.home / ".dorky" / "state.key", ben.home / ".dorky")
    ben.commit({"more": "more\n"}, "elsewhere")
    for path in (ben.state / "packs").iterdir():
        shutil.copy(path, ana.state / "packs")
    age(ana, 100)
    before = names(ana)
    found = gc(ana)
    assert len(found["kept"]) == 1
    assert set(found["kept"]) <= before
    assert "dorky fsck --repair" in ana("gc").err
    ana("fsck", "--rebuild")
    assert gc(ana, "--dry-run")["garbage"] == []  # it is as if new
    age(ana, 100)
    assert gc(ana)["commits"] != []
    sound(ana)


@pytest.mark.parametrize("n", range(1, 6))
def test_interrupted_anywhere_it_is_run_again(
    ana: Machine, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the n-th rename or deletion."""
    commit_half(ana)
    stage_and_drop(ana)
    forget(ana)
    needed = needed_by(ana)
    left = [n]

    def counted(name: str) -> None:
        """Let the n-th call kill the command."""
        real = getattr(Path, name)

        def call(self: Path, *arguments: Any, **options: Any) -> Any:
            left[0] -= self.parent.name == "packs" or self.parent.name == "tmp"
            if not left[0]:
                raise KeyboardInterrupt
            return real(self, *arguments, **options)

        patched.setattr(Path, name, call)

    with monkeypatch.context() as patched:
        counted("rename")
        counted("unlink")
        ana.run("gc", "--grace", "0")
    gc(ana)
    assert names(ana) == recorded(ana)
    gc(ana, "--grace", "0")
    sound(ana)
    assert names(ana) == recorded(ana)
    assert held(ana) == needed
    assert ana("cat", "HEAD:kept").raw == BIG[:300_000]


def needed_by(machine: Machine) -> set[str]:
    with machine.repo() as repo:
        return reachability.reachable(repo.store)


def recorded(machine: Machine) -> set[str]:
    with machine.repo() as repo:
        return {each.id for each in repo.store.packs()}


# --- what the remote has --------------------------------------------------------------------


def test_content_that_the_remote_has_goes_if_that_is_wanted(pushed: Machine) -> None:
    assert gc(pushed, "--grace", "0")["size"] == 0
    found = gc(pushed, "--prune-remote-verified")
    assert found["size"] > 1_400_000
    assert "the remote has" in (*found["garbage"], *found["rewritten"])[0]["reason"]
    assert sum(path.stat().st_size for path in (pushed.state / "packs").iterdir()) < 10_000
    assert pushed("fsck", "--remote", "--read-data", "--json").json["findings"] == []
    assert pushed("status").out.startswith("On main, same as origin")
    (pushed.project / "big").unlink()
    pushed("restore", "big")
    assert pushed.read("big") == BIG


def there(remote: Remote) -> Path:
    return max((Path(remote.url) / "packs").iterdir(), key=lambda each: each.stat().st_size)


def test_what_the_remote_only_lists_stays(pushed: Machine, file_url: Remote) -> None:
    there(file_url).unlink()
    assert gc(pushed, "--prune-remote-verified")["size"] == 0


def test_what_the_remote_has_cut_short_stays(pushed: Machine, file_url: Remote) -> None:
    there(file_url).write_bytes(there(file_url).read_bytes()[:-1])
    assert gc(pushed, "--prune-remote-verified")["size"] == 0


def test_what_the_remote_has_but_does_not_need_stays(pushed: Machine) -> None:
    """Its own collection of garbage may take it away any time."""
    pushed.write("new", BIG[:200_000])
    with pushed.repo() as repo:
        before = repo.store.packs()
        repo.stage("new")
        (packed,) = [each for each in repo.store.packs() if each not in before]
        content = repo.index.rows()["new"].content
        remote = repo.remote()
        remote.driver.put(roots.PACKS + packed.id, repo.store.pack_bytes(packed.id))
        seen = remote.seen
        assert seen is not None
        following = roots.successor(seen.root, packs=(*seen.root.packs, packed))
        assert remote.swap(seen.header, following)
    assert gc(pushed, "--prune-remote-verified")["size"] > 1_000_000
    with pushed.repo() as repo:
        assert repo.store.locate([content], remote="origin")
    assert content in held(pushed)


def test_an_older_root_proves_nothing(pushed: Machine, file_url: Remote) -> None:
    root = Path(file_url.url) / "root"
    old = root.read_bytes()
    pushed.commit({".env": "A=2\n"})
    pushed("push")
    root.write_bytes(old)
    assert "older" in pushed("gc", "--prune-remote-verified", code=7).error
    sound(pushed)


def test_a_remote_that_is_gone_proves_nothing(pushed: Machine, file_url: Remote) -> None:
    before = names(pushed)
    shutil.rmtree(file_url.url)
    pushed("gc", "--prune-remote-verified", code=4)
    assert names(pushed) == before


# --- when it must not -----------------------------------------------------------------------


def test_where_something_is_damaged_nothing_goes(ana: Machine) -> None:
    stage_and_drop(ana)
    forget(ana)
    with ana.repo() as repo:
        store = repo.store
        tree = next(
            at
            for each in store.packs()
            for at in store.locations(each.id)
            if at.kind.value == "tree"
        )
        place = store.locate([tree.id])[tree.id]
    path = ana.state / "packs" / place.pack
    flip(path, place.offset + place.length - 1)
    before = names(ana)
    said = ana("gc", "--grace", "0", code=7)
    assert tree.id in said.error
    assert "dorky fsck" in said.hint
    assert names(ana) == before


def test_what_is_needed_of_a_damaged_pack_is_not_dropped(ana: Machine) -> None:
    commit_half(ana, BIG[:200_000])
    forget(ana)
    with ana.repo() as repo:
        row = repo.index.rows()["kept"]
        place = repo.store.locate([row.content])[row.content]
    path = ana.state / "packs" / place.pack
    flip(path, place.offset + 100)
    before = names(ana)
    ana("gc", "--grace", "0", code=7)
    assert names(ana) == before == recorded(ana)


def test_a_group_that_is_closed_by_now(tmp_path: Path, file_url: Remote) -> None:
    """What was sealed with a key that one has no more can't be judged, and stays."""
    ana = Machine(tmp_path / "ana", {})
    ana("init", file_url.url, "--name", "ana", "--recovery", "none")
    ana.commit({".env": "A=1\n", "prod.env": BIG[:300_000]})
    ana("push")
    ben = cloned(ana, "ben")
    admit(ana, ben, "ben")
    ana("group", "add", "prod", "prod.env", "--member", "ben", "--member", "ana")
    ben("pull")
    ana("group", "members", "prod", "--remove", "ben")
    ben("pull")
    forget(ben)
    with ben.repo() as repo:
        strange = reachability.foreign(repo.store, held(ben))
        needed = reachability.reachable(repo.store)
    assert strange - needed
    gc(ben, "--grace", "0")
    assert strange <= held(ben)
    sound(ben)


def test_what_is_written_anew_has_newest_keys(tmp_path: Path, file_url: Remote) -> None:
    ana = Machine(tmp_path / "ana", {})
    ana("init", file_url.url, "--name", "ana", "--recovery", "none")
    commit_half(ana)
    ana("push")
    ana("rotate")
    forget(ana)
    before = recorded(ana)
    assert len(gc(ana, "--grace", "0")["rewritten"]) == 1
    with ana.repo() as repo:
        store = repo.store
        (made,) = recorded(ana) - before
        for at in store.locations(made):
            assert store.vault.is_current(store.stored(store.locate([at.id])[at.id]))
    sound(ana)


# --- any life -------------------------------------------------------------------------------


class Life:
    """What somebody does to a project, and what a dictionary remembers of it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.commits: dict[str, dict[str, bytes]] = {}
        self.staged: dict[str, bytes] = {}

    def do(self, what: str, n: int) -> None:
        machine, path = self.machine, f"file{n % 3}"
        if what == "write":
            machine.write(path, b"%d\n" % n * (1 + n * 40))
        elif what == "stage":
            machine.run("stage", ".")
        elif what == "commit":
            machine.run("stage", ".")
            machine.run("commit", "-m", f"commit {n}")
        elif what == "undo":
            machine.run("undo")
        elif what == "restore":
            machine.run("restore", path)
        elif what == "checkout":
            machine.run("checkout", "HEAD~1", "--force")
        elif what == "main":
            machine.run("checkout", "main", "--force")
        elif what == "forget":
            forget(machine)
        else:
            machine("gc", "--grace", "0")


def everything(machine: Machine) -> dict[str, bytes]:
    """Every content that anything here names, by what names it."""
    found = {}
    with machine.repo() as repo:
        store: Store = repo.store
        for content in reachability.reachable(store):
            found[content] = store.read(content)
    return found


STEPS = ("write", "write", "stage", "commit", "commit", "undo", "restore", "checkout", "main")


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(st.tuples(st.sampled_from((*STEPS, "forget", "gc")), st.integers(0, 9)), max_size=14)
)
def test_whatever_somebody_does_nothing_that_is_named_goes(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    machine = Machine(tmp_path_factory.mktemp("life") / "ana", {})
    machine("init", "--plain")
    life = Life(machine)
    for what, n in steps:
        life.do(what, n)
    before = everything(machine)
    log = machine("op", "log", "--json").json
    gc(machine, "--grace", "0")
    assert everything(machine) == before
    assert held(machine) == before.keys()
    assert machine("op", "log", "--json").json == log
    sound(machine)
    gc_again = gc(machine, "--grace", "0")
    assert gc_again["size"] == 0
    for _ in log:
        machine("undo")


# --- small packs ----------------------------------------------------------------------------


def many(machine: Machine, count: int) -> None:
    with machine.repo() as repo:
        for n in range(count):
            (repo.root / ".env").write_text(f"A={n}\n")
            repo.stage(".env")
            repo.commit(f"commit {n}")


@pytest.mark.parametrize("days", [0, 30])
def test_many_small_packs_are_joined(ana: Machine, days: int) -> None:
    many(ana, 40)
    age(ana, days)
    before, log = held(ana), ana("log", "--oneline").out
    assert len(names(ana)) >= 40
    planned = gc(ana, "--dry-run")
    assert {each["reason"] for each in planned["rewritten"]} == {"it is small"}
    assert len(names(ana)) >= 40
    gc(ana)
    assert len(names(ana)) <= 2
    assert held(ana) == before
    assert ana("log", "--oneline").out == log
    ana("fsck", "--read-data")
    assert gc(ana)["rewritten"] == []


def test_joining_gives_no_new_grace_to_what_nobody_needs(ana: Machine) -> None:
    for n in range(20):
        ana.write("scratch", f"{n}\n")
        ana("stage", "scratch")
        ana("unstage", "scratch")
    many(ana, 20)
    with ana.repo() as repo:
        oplog.expire(repo.database, datetime.now(timezone.utc) + timedelta(days=1))
    before = names(ana)
    gc(ana)
    left = before & names(ana)
    assert len(left) >= 20
    age(ana, 15)
    gc(ana)
    assert not left & names(ana)


def test_a_hint_where_there_are_many(ana: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "dorky gc" not in ana("doctor").out
    monkeypatch.setattr("dorky.project.MANY_PACKS", 5)
    many(ana, 5)
    ana.write(".env", "A=last\n")
    ana("stage", ".env")
    assert "packs in .dorky: dorky gc joins the small ones" in ana("commit", "-m", "x").err
    (check,) = [each for each in ana("doctor", "--json").json if each["name"] == "space"]
    assert (check["verdict"], check["remedy"]) == ("warn", "dorky gc")
