"""Tables obey the rules of packs: durable before they are listed, condemned before they go."""

from __future__ import annotations

from datetime import timedelta

import pytest
from faults import Faults, failing
from machines import Machine, bucket, driver_of, noise, packs_listed, root_of
from servers import Remote as Place

from dorky import errors
from dorky.remote import gc, listing, pending_deletes, push
from dorky.remote import root as roots
from dorky.store import history

KiB = 1 << 10
DENIED = errors.AccessDenied("the bucket", "403")


def tables(place: Place) -> set[str]:
    return {key.removeprefix("tables/") for key in bucket(place) if key.startswith("tables/")}


def listed(machine: Machine) -> set[str]:
    return {each.id for each in root_of(machine).tables}


def push_packs(machine: Machine, count: int, *, first: int = 0) -> None:
    with machine.repo() as repo:
        for n in range(first, first + count):
            machine.write(f"{n}.bin", noise(140 * KiB, n))
            repo.stage(f"{n}.bin")
            repo.commit("work")
            repo.push()


def collect(machine: Machine) -> None:
    with machine.repo() as repo, repo.locked():
        remote = repo.remote()
        gc.apply(remote, gc.plan(remote, grace=timedelta(0)))


@pytest.fixture
def few_recent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three packs are many."""
    monkeypatch.setattr(listing, "RECENT_PACKS", 3)


def test_a_table_is_written_before_the_root_that_lists_it(
    ana: Machine, file_url: Place, faults: Faults
) -> None:
    ana.commit({"data": noise(200 * KiB)})
    faults.clear()
    ana("push")
    verbs = [f"{verb} {key.partition('/')[0]}" for verb, key in faults.calls]
    assert verbs == ["put packs", "put tables", "swap root"]
    assert tables(file_url) == listed(ana)


def test_what_can_not_be_written_is_not_listed(
    ana: Machine, file_url: Place, faults: Faults
) -> None:
    before = bucket(file_url)["root"]
    ana.commit({"data": noise(200 * KiB)})
    faults.before("put", failing(DENIED), key="tables/")
    ana("push", code=6)
    assert bucket(file_url)["root"] == before
    faults.clear()
    ana("push")
    assert tables(file_url) == listed(ana)


def test_a_replaced_table_is_condemned_and_deleted_in_the_end(
    ana: Machine, file_url: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "_TIDIED", 4)
    for n in range(12):
        push_packs(ana, 1, first=n)
        root = root_of(ana)
        stored = tables(file_url)
        assert listed(ana) <= stored
        # What is stored and not listed is condemned: nobody lists it again.
        assert stored - listed(ana) <= set(root.condemned)
        assert len(root.condemned) < 9
    collect(ana)
    assert tables(file_url) == listed(ana)
    collect(ana)
    assert root_of(ana).condemned == ()


def test_who_may_not_delete_or_list_pushes_all_the_same(
    ana: Machine, file_url: Place, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "_TIDIED", 2)
    monkeypatch.setattr(pending_deletes, "MANY_NAMES", 5)
    for verb in ("delete", "list"):
        faults.before(verb, failing(DENIED), times=1000)
    push_packs(ana, 9)
    assert len(root_of(ana).condemned) == 5
    assert len(tables(file_url)) == 9
    faults.clear()
    ben = ana.another("ben")
    ben("clone", file_url.url, ".")
    assert ben.files() == ana.files()
    collect(ana)
    assert tables(file_url) == listed(ana)


def test_the_table_of_a_lost_swap_goes(ana: Machine, file_url: Place, faults: Faults) -> None:
    with ana.repo() as repo:
        moved = roots.encode(repo.header, roots.successor(root_of(ana)), repo.vault, repo.signer)
    ana.commit({"data": noise(200 * KiB)})
    faults.before("swap", lambda: driver_of(file_url).put("root", moved))
    ana("push")
    assert faults.done
    assert tables(file_url) == listed(ana)


def test_the_table_of_a_swap_that_only_seems_lost_stays(
    ana: Machine, ben: Machine, file_url: Place, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many swaps have followed that nothing tells of it any more."""
    monkeypatch.setattr(listing, "RECENT_PACKS", 0)
    monkeypatch.setattr(roots, "RECENT", 1)
    ana.commit({"data": noise(200 * KiB)})

    def others_follow() -> None:
        root = roots.successor(roots.successor(root_of(ana)))
        with ana.repo() as repo:
            data = roots.encode(repo.header, root, repo.vault, repo.signer)
        driver_of(file_url).put("root", data)
        raise errors.ServerBusy("the bucket", "500")

    faults.after("swap", lambda _: others_follow())
    ana.run("push")
    assert listed(ana) <= tables(file_url)
    ben.run("pull")
    assert ben.files() == ana.files()


@pytest.mark.parametrize("command", [("rotate",), ("group", "add", "few", "data")])
def test_the_packs_of_a_swap_that_only_seems_lost_stay(
    ana: Machine,
    file_url: Place,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    monkeypatch.setattr(roots, "RECENT", 1)
    ana.commit({"data": noise(200 * KiB)})
    ana("push")
    driver = driver_of(file_url)

    def others_follow() -> None:
        blob = driver.get("root")
        assert blob
        with ana.repo() as repo:
            header, body = roots.read_header(blob.data, "")
            opened = repo.unlock(header)
            root = roots.read_body(header, body, opened, "")
            root = roots.successor(roots.successor(root))
            driver.put("root", roots.encode(header, root, opened, repo.signer))
        raise errors.ServerBusy("the bucket", "500")

    faults.after("swap", lambda _: others_follow())
    ana.run(*command)
    assert faults.done
    fresh = ana.another("fresh")
    fresh("clone", file_url.url, ".")
    assert fresh.files() == ana.files()


def test_a_collection_makes_one_of_all(ana: Machine, file_url: Place, few_recent: None) -> None:
    push_packs(ana, 7)
    assert len(listed(ana)) > 1
    assert len(packs_listed(ana)) == 7
    collect(ana)
    (only,) = root_of(ana).tables
    assert tables(file_url) == {only.id}
    assert root_of(ana).packs == ()
    assert only.packs == len(packs_listed(ana)) == 7
    before = bucket(file_url)
    collect(ana)
    assert bucket(file_url).keys() == before.keys()
    fresh = ana.another("fresh")
    fresh("clone", file_url.url, ".")
    assert fresh.files() == ana.files()


@pytest.mark.parametrize("command", ["rotate", "purge 1.bin --yes", "gc --remote --grace 0"])
def test_who_has_seen_other_tables_follows(
    ana: Machine, ben: Machine, file_url: Place, few_recent: None, command: str
) -> None:
    push_packs(ana, 5)
    ben("pull")
    push_packs(ana, 5, first=5)
    ana(*command.split())
    root = root_of(ana)
    assert root.refs[roots.HEAD] in {each.id for each in root.inline}
    ben("pull")
    ana.run("stage", "1.bin")
    assert set(ana.files()) - set(ben.files()) <= {"1.bin"}
    push_packs(ben, 2, first=10)
    ana("pull")
    assert set(ana.files()) - set(ben.files()) <= {"1.bin"}
    for machine in (ana, ben):
        machine("fsck", "--remote", "--read-data")
    fresh = ana.another("fresh")
    fresh("clone", file_url.url, ".")
    assert fresh.files() == ben.files()


def test_after_a_rotation_all_tables_have_the_newest_key(
    ana: Machine, file_url: Place, few_recent: None
) -> None:
    push_packs(ana, 5)
    ana("rotate")
    with ana.repo() as repo:
        epochs = [each.commitment[:16] for each in repo.header.epochs]
        for key, data in bucket(file_url).items():
            if key.startswith("tables/"):
                assert data[:8].hex() == epochs[-1]


def test_more_than_a_root_has_room_to_condemn_goes_by_a_collection(
    ana: Machine, file_url: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_packs(ana, 8)
    before = {each.id for each in packs_listed(ana)}
    monkeypatch.setattr(pending_deletes, "MANY_NAMES", 5)
    ana("rotate", "--history")
    held = {key.removeprefix("packs/") for key in bucket(file_url) if key.startswith("packs/")}
    assert held.isdisjoint(before)
    fresh = ana.another("fresh")
    fresh("clone", file_url.url, ".")
    assert fresh.files() == ana.files()


def test_a_collection_of_very_much_goes_by_parts(
    ana: Machine, file_url: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc, "_MOST", 3)
    push_packs(ana, 10)
    collect(ana)
    collect(ana)
    held = {key.removeprefix("packs/") for key in bucket(file_url) if key.startswith("packs/")}
    assert held == {each.id for each in packs_listed(ana)}
    fresh = ana.another("fresh")
    fresh("clone", file_url.url, ".")
    assert fresh.files() == ana.files()


@pytest.mark.parametrize("damage", ["gone", "altered"])
def test_a_damaged_table_is_repaired(
    ana: Machine, ben: Machine, file_url: Place, few_recent: None, damage: str
) -> None:
    push_packs(ana, 5)
    (name,) = (each.id for each in root_of(ana).tables if each.lists)
    key = f"tables/{name}"
    if damage == "gone":
        driver_of(file_url).delete([key])
    else:
        data = bucket(file_url)[key]
        driver_of(file_url).put(key, bytes(len(data)))
    said = ana("fsck", "--remote", code=7)
    assert f"{name[:8]}" in said.out + said.err
    # Whoever has not seen it is told so, and nothing is lost.
    assert ben("pull", code=7).hint
    ana("fsck", "--repair")
    ana("fsck", "--remote")
    ben("pull")
    assert ben.files() == ana.files()
    assert tables(file_url) == listed(ana)


def test_destroy_takes_them_along(ana: Machine, file_url: Place) -> None:
    push_packs(ana, 2)
    assert tables(file_url)
    ana("destroy", "--remote", "--yes")
    assert bucket(file_url) == {}


# --- many refs ------------------------------------------------------------------------------


def test_other_refs_stay_and_so_does_what_they_need(ana: Machine, file_url: Place) -> None:
    ana.commit({"data": noise(200 * KiB, 1)})
    ana("push")
    with ana.repo() as repo, repo.locked():
        remote = repo.remote()
        assert remote.seen
        root = remote.seen.root
        refs = {**root.refs, "tags/v1": root.refs[roots.HEAD], "heads/other": root.refs[roots.HEAD]}
        won = remote.swap(remote.seen.header, roots.successor(root, refs=refs))
        push.remember(remote, won, ())
    (ana.project / "data").unlink()
    ana("stage", "data")
    ana.commit({"b": noise(200 * KiB, 2)})
    ana("push")
    collect(ana)
    ana("purge", "b", "--yes")
    ana("rotate", "--history")
    after = root_of(ana).refs
    assert after["tags/v1"] == after["heads/other"] == refs["tags/v1"]
    fresh = ana.another("fresh")
    fresh("clone", file_url.url, ".")
    with fresh.repo() as repo:
        assert repo.database.ref("origin/tags/v1") == refs["tags/v1"]
        assert repo.database.ref("origin/main") == after[roots.HEAD]
    assert fresh("cat", f"{refs['tags/v1']}:data").raw == noise(200 * KiB, 1)


def test_the_root_holds_head_commits_and_small_trees(ana: Machine, file_url: Place) -> None:
    for n in range(3):
        ana.commit({"data": noise(200 * KiB, n)})
        ana("push")
        root = root_of(ana)
        inline = {each.id for each in root.inline}
        assert root.refs[roots.HEAD] in inline
        with ana.repo() as repo:
            trees = history.read_commit(repo.store, root.refs[roots.HEAD]).trees
        assert set(trees.values()) <= inline
