"""Pushing: what is sent, in which order, and what becomes of it when something fails between."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from depth import deep
from faults import BUSY, LOST, OFFLINE, RESET, Faults, failing
from machines import Machine, bucket, driver_of, noise, root_of, started
from servers import Remote as Place

from dorky import errors
from dorky.drivers.retry import Patience
from dorky.format.model import Kind
from dorky.remote import root as roots
from dorky.store import pack

MiB = 1 << 20
NOISE = {"busy": BUSY, "reset": RESET, "lost": LOST}


def decide_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up a swap without an answer after one try."""
    monkeypatch.setattr(roots, "BUDGET", 0)


# --- what is sent ---------------------------------------------------------------------------


def test_small_things_ride_in_the_root(ana: Machine, file_url: Place, faults: Faults) -> None:
    ana.commit({".env": "KEY=2\n", "deep/er/file": noise(1000)})
    ana("push")
    assert faults.calls == [("swap", "root")]
    assert bucket(file_url).keys() == {"root"}
    kinds = [each.kind for each in root_of(ana).inline]
    assert kinds.count(Kind.COMMIT) == 2
    assert kinds.count(Kind.TREE) == 4
    assert kinds.count(Kind.CHUNK) == 3


def test_packs_come_before_the_root_that_lists_them(
    ana: Machine, file_url: Place, faults: Faults
) -> None:
    ana.commit({f"{n}.bin": noise(9 * MiB, n) for n in range(4)})
    ana("push")
    verbs = [verb for verb, _ in faults.calls]
    assert verbs == ["put"] * verbs.count("put") + ["swap"]
    assert verbs.count("put") >= 2
    held = bucket(file_url)
    listed = root_of(ana).packs
    tables = {f"tables/{each.id}" for each in root_of(ana).tables}
    assert {f"packs/{each.id}" for each in listed} == held.keys() - {"root"} - tables
    for each in listed:
        data = held[f"packs/{each.id}"]
        assert pack.is_whole(each.id, [data], each.tail)
        assert len(data) == each.size <= pack.TARGET + 5 * MiB
        assert 0 < each.tail < each.size


def test_a_failed_upload_leaves_no_root_that_lists_it(
    ana: Machine, file_url: Place, faults: Faults
) -> None:
    before = bucket(file_url)["root"]
    ana.commit({f"{n}.bin": noise(9 * MiB, n) for n in range(4)})
    faults.before("put", lambda: None)
    faults.before("put", failing(errors.AccessDenied("the bucket", "403")))
    assert "denied" in ana("push", code=6).error
    assert bucket(file_url)["root"] == before
    assert "swap" not in {verb for verb, _ in faults.calls}
    faults.clear()
    ana("push")
    ben = ana.another("ben")
    ben("clone", file_url.url, ".")
    assert ben.files() == ana.files()


def test_what_was_staged_and_never_committed_stays_here(
    ana: Machine, ben: Machine, file_url: Place
) -> None:
    """Even in a pack with what is committed, and too large to be made anew."""
    ana.write("kept", noise(9 * MiB, 1))
    ana.write("secret", noise(9 * MiB, 2))
    ana("stage", "kept", "secret")
    ana("unstage", "secret")
    ana("commit", "-m", "only one")
    ana("push")
    ben("pull")
    assert ben.read("kept") == ana.read("kept")
    sent = sum(map(len, bucket(file_url).values()))
    assert 9 * MiB < sent < 10 * MiB


def test_only_what_is_new_is_sent(ana: Machine, file_url: Place) -> None:
    ana.commit({f"{n}.bin": noise(MiB, n) for n in range(4)})
    ana("push")
    held = bucket(file_url)
    # A byte in front of a file moves one cut and not all of them.
    ana.commit({"copy.bin": noise(MiB, 1), "2.bin": b"!" + noise(MiB, 2)})
    ana("push")
    (new,) = (key for key in bucket(file_url).keys() - held.keys() if key.startswith("packs/"))
    assert len(bucket(file_url)[new]) < 1.1 * MiB


def test_of_a_deleted_file_and_many_commits_everything_is_sent(
    ana: Machine, file_url: Place
) -> None:
    for n in range(5):
        ana.commit({f"{n}": f"{n}\n", "changing": noise(40_000, n)}, f"commit {n}")
    ana("rm", "3")
    ana("commit", "-m", "gone")
    assert ana("push", "--json").json["commits"] == 6
    ben = ana.another("ben")
    ben("clone", file_url.url, ".")
    for n in range(5):
        assert ben("cat", f"HEAD~{5 - n}:changing").raw == noise(40_000, n)
    assert ben("cat", "HEAD~1:3").raw == b"3\n"


def test_json_says_what_was_done(ana: Machine, file_url: Place) -> None:
    old = ana("log", "--json").json[0]["id"]
    new = ana.commit({".env": "KEY=2\n"})
    said = ana("push", "--json").json
    assert said.pop("size") > 100
    assert said == {
        **{"remote": "origin", "url": Path(file_url.url).as_uri(), "old": old, "new": new},
        **{"commits": 1, "attestations": 0, "objects": 3, "founded": False, "left": 0, "moved": ""},
    }
    assert ana("push", "--json").json["objects"] == 0


# --- whose swap it was ----------------------------------------------------------------------


@pytest.mark.each_value
@pytest.mark.parametrize("error", NOISE.values(), ids=NOISE)
@pytest.mark.parametrize("size", [10, 300_000], ids=["inline", "pack"])
def test_a_push_that_won_is_not_done_twice(
    ana: Machine, ben: Machine, faults: Faults, error: Exception, size: int
) -> None:
    before = root_of(ana)
    ana.commit({"data": noise(size)})
    faults.clear()
    faults.after("swap", failing(error))
    assert ana("push").out.startswith("Pushed 1 commit")
    after = root_of(ana)
    assert after.generation == before.generation + 1
    assert after.recent == (before.txid, *before.recent)
    assert [verb for verb, _ in faults.calls].count("swap") == 1
    assert ana("push").out.startswith("Up to date")
    ben("pull")
    assert ben.files() == ana.files()


def test_a_push_that_won_and_was_followed(ana: Machine, ben: Machine, faults: Faults) -> None:
    """By the time that its answer would have come, ben has pushed on top of it."""
    ana.commit({"a": "1"})

    def ben_pushes(_: object) -> None:
        ben("pull")
        ben.commit({"b": "1"})
        ben("push")
        raise RESET

    faults.after("swap", ben_pushes)
    assert ana("push").out.startswith("Pushed 1 commit")
    assert "behind" in ana("status").out
    ana("pull")
    assert ana.files() == ben.files()
    assert root_of(ana).generation == 4


@pytest.mark.parametrize("error", [None, *NOISE.values()], ids=["answered", *NOISE])
def test_a_push_that_lost_is_rejected(
    ana: Machine, ben: Machine, faults: Faults, error: Exception | None
) -> None:
    ana.commit({"a": "1"})
    ben.commit({"b": "1"})
    faults.clear()

    def ben_pushes() -> None:
        ben("push")
        if error:
            raise error

    faults.before("swap", ben_pushes)
    said = ana("push", code=5)
    assert "rejected" in said.error
    assert said.hint == "dorky sync (pulls, merges and pushes), or dorky pull"
    assert ana("status", "--json").json["behind"] == 1
    ana("pull")
    ana("push")
    ben("pull")
    assert ana.files() == ben.files()
    assert ana.files().keys() == {".env", "a", "b"}


def test_a_push_from_behind_is_rejected_and_changes_nothing(
    ana: Machine, ben: Machine, file_url: Place
) -> None:
    ben.commit({"b": noise(300_000)})
    ben("push")
    ana.commit({"a": "1"})
    before = bucket(file_url)
    ana("push", code=5)
    assert ana("push", code=5).hint == "dorky sync (pulls, merges and pushes), or dorky pull"
    assert bucket(file_url) == before


@pytest.mark.parametrize("size", [10, 300_000], ids=["inline", "pack"])
def test_a_root_that_moved_without_new_commits_is_no_reason_to_refuse(
    ana: Machine, file_url: Place, faults: Faults, size: int
) -> None:
    """As when garbage is collected. Packs that were sent are not sent again."""
    before = root_of(ana)
    ana.commit({"data": noise(size)})
    with ana.repo() as repo:
        moved = roots.encode(repo.header, roots.successor(before), repo.vault, repo.signer)
    faults.clear()
    faults.before("swap", lambda: driver_of(file_url).put("root", moved))
    ana("push")
    verbs = [verb for verb, _ in faults.calls]
    assert verbs.count("swap") == 2
    sent = [key for verb, key in faults.calls if verb == "put" and key.startswith("packs/")]
    assert len(sent) == (size > 1000)
    assert root_of(ana).generation == before.generation + 2
    ben = ana.another("ben")
    ben("clone", file_url.url, ".")
    assert ben.files() == ana.files()


def test_a_push_outlasts_many_others(
    ana: Machine, file_url: Place, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when garbage is collected without end: what others win is no reason to give up."""
    monkeypatch.setattr(Patience, "longest", 0)
    before = root_of(ana)
    ana.commit({"data": noise(10)})

    def collect() -> None:
        root = roots.successor(root_of(ana))
        with ana.repo() as repo:
            moved = roots.encode(repo.header, root, repo.vault, repo.signer)
        driver_of(file_url).put("root", moved)

    faults.before("swap", collect, times=40)
    ana("push")
    assert root_of(ana).generation == before.generation + 41


@pytest.mark.each_value
@pytest.mark.parametrize("arrived", [False, True])
@pytest.mark.parametrize("size", [10, 300_000], ids=["inline", "pack"])
def test_without_an_answer_the_outcome_is_unknown_and_pushing_again_is_safe(
    ana: Machine, faults: Faults, monkeypatch: pytest.MonkeyPatch, arrived: bool, size: int
) -> None:
    before = root_of(ana)
    ana.commit({"data": noise(size)})
    decide_at_once(monkeypatch)
    faults.clear()
    # A swap is sent three times at least.
    (faults.after if arrived else faults.before)("swap", failing(RESET), times=3)
    faults.before("get", failing(RESET), times=1000)
    said = ana("push", code=8)
    assert "did not answer whether" in said.error
    assert said.hint == "run dorky push again: it is safe"
    faults.clear()
    monkeypatch.undo()
    assert (root_of(ana).generation == before.generation + 1) is arrived
    ana("push")
    after = root_of(ana)
    assert after.generation == before.generation + 1
    assert after.refs["heads/main"] == ana("log", "--json").json[0]["id"]
    ana("pull")
    assert ana("push").out.startswith("Up to date")


def test_offline_is_said_at_once(ana: Machine, faults: Faults) -> None:
    ana.commit({"a": "1"})
    faults.clear()
    faults.before("swap", failing(OFFLINE))
    said = ana("push", code=8)
    assert "can't be reached" in said.error
    assert "check the network" in said.hint
    assert len(faults.calls) == 1


@pytest.mark.parametrize("seed", [*range(4), *deep(*range(4, 12))])
def test_whatever_fails_a_push_repeated_ends_well(
    ana: Machine, ben: Machine, faults: Faults, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Any request fails, before or after it took effect, while somebody else pushes, too."""
    decide_at_once(monkeypatch)
    chance = random.Random(seed)
    expected = {".env": b"KEY=1\n"}
    for n in range(3):
        for machine, name in ((ana, "a"), (ben, "b")):
            path, content = f"{name}{n}", noise(chance.choice([10, 200_000]), chance.random())
            expected[path] = content
            machine.commit({path: content})
            for _ in range(chance.randrange(4)):
                verb = chance.choice(["swap", "swap", "get", "put", "get_range"])
                when: Callable[..., None] = chance.choice([faults.before, faults.after])
                when(verb, failing(chance.choice([BUSY, RESET])))
            push_at_last(machine)
    for machine in (ana, ben):
        faults.clear()
        machine("pull")
        assert {path: content for path, (_, content) in machine.files().items()} == expected
    root = root_of(ana)
    assert root.generation == 2 + 6
    assert len({root.txid, *root.recent}) == root.generation


def push_at_last(machine: Machine) -> None:
    for _ in range(30):
        with machine.repo() as repo:
            try:
                repo.push()
            except errors.Rejected:
                try:
                    repo.pull()
                except errors.Unavailable:
                    continue
            except errors.Unavailable:
                continue
            else:
                return
    raise AssertionError


# --- what can't be pushed -------------------------------------------------------------------


def test_nothing_to_push(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "new", {})
    machine("init", tmp_path / "bucket")
    said = machine("push", code=4)
    assert "no commits" in said.error
    assert "dorky commit" in said.hint


def test_a_clone_can_not_move_chunks_that_it_never_fetched(
    ana: Machine, ben: Machine, tmp_path: Path
) -> None:
    ana.commit({"data": noise(300_000, 1)})
    ana.commit({"data": noise(300_000, 2)})
    ana("push")
    carl = ana.another("carl")
    carl("clone", ben("remote", "list").out.split()[1], ".")
    carl("remote", "set-url", "origin", tmp_path / "elsewhere")
    said = carl("push", code=7)
    assert "dorky mirror OLD-URL origin" in said.hint


def test_a_project_without_a_remote_gets_one(tmp_path: Path) -> None:
    ana = Machine(tmp_path / "ana", {})
    ana("init")
    ana.commit({".env": "KEY=1\n"})
    said = ana("push", code=3)
    assert said.hint.startswith("dorky remote add origin")
    ana("remote", "add", "origin", tmp_path / "bucket")
    ana("push")
    ben = ana.another("ben")
    ben("clone", tmp_path / "bucket", ".")
    assert ben.files() == ana.files()


def test_a_place_that_holds_another_repository(ana: Machine, ben: Machine, tmp_path: Path) -> None:
    other = ana.another("other")
    other("init", tmp_path / "bucket")
    before = (tmp_path / "bucket" / "root").read_bytes()
    ana("remote", "set-url", "origin", tmp_path / "bucket")
    said = ana("push", code=7)
    assert "holds another repository" in said.error
    assert (tmp_path / "bucket" / "root").read_bytes() == before


def test_packs_are_listed_in_the_order_they_came(ana: Machine) -> None:
    ana.commit({"data": noise(300_000)})
    ana("push")
    root = root_of(ana)
    assert len({each.id for each in root.packs}) == len(root.packs) == 1
    ana.commit({"data": noise(300_000, 2)})
    ana("push")
    assert [each.id for each in root_of(ana).packs][:1] == [root.packs[0].id]
    # The head commit, its small tree and the end of the team log are inline in any case.
    kinds = [inlined.kind for inlined in root_of(ana).inline]
    assert kinds == [Kind.COMMIT, Kind.TREE, Kind.TEAM]


@pytest.mark.parametrize("where", ["data", "tail", "end", "cut"])
@pytest.mark.parametrize("renewed", [False, *deep(True)], ids=["", "renewed"])
def test_a_damaged_local_pack_is_never_sent(
    tmp_path: Path, s3_url: Place, where: str, renewed: bool
) -> None:
    """Large packs are copied whole: their data are hashed once, for the old and the new name."""
    ana = started(tmp_path / "ana", s3_url, {".env": "KEY=1\n"})
    ana.commit({"big": noise(12 << 20)}, "big")
    if renewed:
        other = ana.another("other")
        other("clone", s3_url.url, ".")
        other("rotate")
        ana("fetch")
    with ana.repo() as repo:
        packed = max(repo.store.packs(), key=lambda each: each.size)
        path = repo.store.directory / packed.id
    data = bytearray(path.read_bytes())
    at = {"data": packed.tail // 2, "tail": packed.tail + 5, "end": len(data) - 1, "cut": 0}[where]
    data[at] ^= bool(at)
    path.chmod(0o600)
    path.write_bytes(data if where != "cut" else data[:-1])
    before = {each.key for each in driver_of(s3_url).list("packs/")}
    ana("push", code=7)
    assert {each.key for each in driver_of(s3_url).list("packs/")} == before
    path.write_bytes(data)
    if at:
        data[at] ^= 1
        path.write_bytes(data)
    ana("push")
    ana("fsck", "--remote", "--read-data")
