"""Taking a leaked file out of all history, and what everybody else sees of it."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import snapshots
from faults import RESET, Faults, failing
from machines import Machine
from servers import Remote
from teams import admit, cloned, joined

from dorky import errors
from dorky.commands import gc as garbage
from dorky.store import pack

LEAK = b"customer,card\n" + b"ann,4111111111111111\n" * 50


@pytest.fixture(params=["inline", "packs"])
def ana(request: pytest.FixtureRequest, tmp_path: Path, file_url: Remote) -> Machine:
    return leaked(tmp_path, file_url, packs=request.param == "packs")


def leaked(directory: Path, remote: Remote, *, packs: bool) -> Machine:
    """Five commits: the leak comes with the second, changes in the third, goes in the fourth."""
    made = Machine(directory / "ana", remote.env)

    def make() -> None:
        made("init", remote.url, "--name", "ana")
        bulk = {f"data/{n}": random.Random(n).randbytes(60_000) for n in range(4 * packs)}
        made.commit({".env": "A=1\n", "dump/keep": "k", **bulk}, "first")
        made.commit({"dump/all.csv": LEAK, "secret.env": "TOKEN=t\n"}, "leak")
        made("push")
        made.commit({"dump/all.csv": LEAK + b"more\n", ".env": "A=2\n"}, "more of it")
        made("rm", "--cached", "dump/all.csv")
        made("commit", "-m", "oops")
        made.commit({".env": "A=3\n"}, "last")
        made("push")

    # A path that is none of this disk's is a bucket's, which makes it every time.
    snapshots.once([made.base, Path(remote.url)], make, "leaked", packs)
    return made


def everything_readable(machine: Machine) -> list[bytes]:
    """What this machine can open of all that it and the remote hold."""
    found = []
    with machine.repo() as repo:
        store, vault = repo.store, repo.vault
        remote = repo.remote()
        for each in remote.driver.list("packs/"):
            size = each.size
            data = remote.driver.get_range(each.key, 0, size)
            tail, _, _ = pack.read_footer(each.key, data[-pack.FOOTER :], size)
            held = pack.Pack(each.key.removeprefix("packs/"), size, tail, vault.epochs)
            for at in pack.read_tail(held, data[tail:], vault):
                stored = data[at.offset : at.offset + at.length]
                found.append(vault.read(at.kind, at.id, stored))
        assert remote.seen
        found += [vault.read(e.kind, e.id, e.data) for e in remote.seen.root.inline]
        assert {each.name for each in store.directory.iterdir()} == {e.id for e in store.packs()}
        for each in store.packs():
            found += [store.read(at.id) for at in store.locations(each.id)]
    return found


def assert_forgotten(machine: Machine) -> None:
    for body in everything_readable(machine):
        assert b",4111" not in body  # not four digits of an id
        assert b" 4111" not in body
        assert b"all.csv" not in body
    machine("fsck", "--remote", "--read-data")


def test_a_purged_file_is_nowhere_any_more(ana: Machine, tmp_path: Path) -> None:
    before = ana("log", "--json").json
    planned = ana("purge", "dump/all.csv", "--dry-run", "--json").json
    assert planned["files"] == [{"path": "dump/all.csv", "variables": []}]
    assert (planned["versions"], planned["commits"], planned["readers"]) == (2, 4, ["ana"])
    assert not planned["done"]
    assert ana("log", "--json").json == before
    assert ana("purge", "dump/all.csv", code=5).error  # nobody to ask

    kept = ana.files()
    said = ana("purge", "dump/all.csv", "-m", "customers", "--yes")
    assert "What can't be taken back" in said.err
    assert ana.files() == kept
    assert ana.read("dump/all.csv") == LEAK + b"more\n"
    after = ana("log", "--json").json
    assert [each["message"] for each in after] == [each["message"] for each in before]
    assert [each["time"] for each in after] == [each["time"] for each in before]
    assert after[-1]["id"] == before[-1]["id"]
    assert after[0]["id"] != before[0]["id"]
    assert "purged it from all history" in ana("cat", "HEAD~3:dump/all.csv", code=4).hint
    assert "customers" in ana("cat", "HEAD~3:dump/all.csv", code=4).hint
    assert ana("cat", "HEAD~3:secret.env").out == "TOKEN=t\n"
    assert ana("cat", "HEAD~3:dump/keep").out == "k"
    ana("cat", f"{before[0]['id']}:.env", code=4)
    ana("undo", code=1)
    assert_forgotten(ana)
    assert ana("status", "--json").json["ahead"] == 0
    ana.commit({"next": "1"}, "next")
    ana("push")
    fresh = cloned(ana, "fresh")
    admitted = ana.identity.read_bytes()
    fresh.identity.parent.mkdir(exist_ok=True)
    fresh.identity.write_bytes(admitted)
    fresh.identity.chmod(0o600)
    fresh("pull")
    assert [e["message"] for e in fresh("log", "--json").json][1:] == [e["message"] for e in after]


@pytest.mark.parametrize("packs", [False, True])
def test_on_every_kind_of_remote(tmp_path: Path, remote: Remote, packs: bool) -> None:
    ana = leaked(tmp_path, remote, packs=packs)
    ana("purge", "dump/all.csv", "--yes")
    assert_forgotten(ana)


def another(ana: Machine, name: str) -> Machine:
    made = ana.another(name)
    (made.project / ".dorkyrc").write_bytes((ana.project / ".dorkyrc").read_bytes())
    made("pull")
    return made


def test_other_clones_follow(ana: Machine) -> None:
    ben, zoe = another(ana, "ben"), another(ana, "zoe")
    ben.commit({"mine": "1", "dump/all.csv": "again 4111"}, "ben's, on top")
    zoe.write("secret.env", "TOKEN=edited\n")
    ana("purge", "dump/all.csv", "secret.env", "-m", "why", "--yes")

    assert "purged dump/all.csv, secret.env from all history" in ben("sync").err
    assert ben.read("mine") == b"1"
    assert not (ben.project / "secret.env").exists()
    assert ben("log", "--json").json[0]["message"] == "ben's, on top"
    assert_forgotten(ben)
    # What was edited stays, and is nobody else's business.
    zoe("pull")
    assert zoe.read("secret.env") == b"TOKEN=edited\n"
    # To keep it again is not suggested, and remarked upon.
    assert zoe("status", "--json").json["secrets"] == []
    assert "was purged from all history once" in zoe("stage", "secret.env").err
    zoe("unstage", "secret.env")
    assert zoe.read("mine") == b"1"
    assert_forgotten(zoe)
    ana("pull")
    assert ana.read("mine") == b"1"


def test_a_clone_that_was_far_behind_follows(ana: Machine) -> None:
    ben = another(ana, "ben")
    with ben.repo() as repo:
        assert repo.database.get("purges.followed") == b"0"
    for n in range(3):
        ana.commit({".env": f"B={n}\n", "dump/all.csv": LEAK * (n + 2)}, f"more {n}")
    ana("push")
    ben.commit({"mine": "1"}, "ben's")
    ana("purge", "dump", "--yes")
    ben("sync")
    assert ben.read(".env") == b"B=2\n"
    assert ben.read("mine") == b"1"
    assert not (ben.project / "dump/keep").exists()
    messages = [e["message"] for e in ben("log", "--json").json]
    assert len(messages) == len(set(messages)) == 10
    assert_forgotten(ben)


@pytest.mark.parametrize("pulls", [False, True])
def test_two_purges_in_a_row_are_followed(ana: Machine, pulls: bool) -> None:
    """The commits to which the first led are nowhere any more when a clone follows."""
    ben = another(ana, "ben")
    ben.commit({"mine": "1"}, "ben's")
    ana("purge", "dump/all.csv", "--yes")
    if pulls:
        ben("pull")
    ana.commit({"dump/all.csv": "harmless", "next": "1"}, "here again")
    ana("push")
    ana("purge", "secret.env", "--yes")
    ben("sync")
    ana("pull")
    for each in (ana, ben):
        assert each.read("dump/all.csv") == b"harmless"
        assert each.read("mine") == b"1"
        messages = [e["message"] for e in each("log", "--json").json]
        assert len(messages) == len(set(messages)) == 8
        each("cat", "HEAD:secret.env", code=4)


def test_who_is_in_no_group_follows_a_purge_of_its_files(ana: Machine) -> None:
    """Closed trees can't be rewritten there; they are taken from who could."""
    ana("group", "add", "prod", "prod/**")
    ana.commit({"prod/leak": LEAK, "prod/x": "x"}, "in the group")
    ana("push")
    ben, carl = cloned(ana, "ben"), cloned(ana, "carl")
    for each in (ben, carl):
        admit(ana, each, each.base.name)
        each("pull")
    ben.commit({"mine": "1"}, "ben's")
    ana.commit({"y": "y"}, "not pulled yet")
    ana("push")
    ana("purge", "prod/leak", "dump/all.csv", "--yes")
    ben("sync")
    ana("sync")
    carl("sync")
    # Only ana is in the group, so only she is told which of its files a commit changed.
    found, *others = (
        [{**entry, "changes": [], "closed": []} for entry in machine("log", "--json").json]
        for machine in (ana, ben, carl)
    )
    assert others == [found, found]
    assert len({each["message"] for each in found}) == len(found)
    for each in found:
        assert "leak" not in ana("ls", each["id"]).out.replace("leak.", "")
    assert ana.read("prod/x") == b"x"
    assert_forgotten(ana)


@pytest.mark.parametrize("ending", ["pull", "sync"])
def test_who_purges_keeps_the_files_however_it_ends(
    ana: Machine, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ben = another(ana, "ben")
    faults = Faults.installed(monkeypatch)
    faults.before("delete", failing(errors.AccessDenied("the bucket", "deleting")), times=9)
    ana("purge", "dump/all.csv", "--yes", code=6)
    faults.clear()
    ana(ending)
    assert ana.read("dump/all.csv") == LEAK + b"more\n"
    ben(ending)
    assert not (ben.project / "dump/all.csv").exists()
    ana("gc", "--remote", "--grace", "0")
    assert_forgotten(ana)


def test_what_a_purge_refuses(ana: Machine) -> None:
    assert "anywhere in history" in ana("purge", "nope", "--yes", code=4).error
    ben = another(ana, "ben")
    ben.commit({"mine": "1"}, "ben's")
    assert ben("purge", "dump", "--yes", code=5).hint == "dorky sync"
    ben("push")
    assert ana("purge", "dump", "--yes", code=5).hint == "dorky sync"
    ana("pull")
    ana("group", "add", "prod", "prod/**")
    carl = joined(ana, "carl")
    assert "prod" in carl("purge", "dump", "--yes", code=6).error


def test_a_purge_that_is_interrupted_is_run_again(
    ana: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ben = another(ana, "ben")
    faults = Faults.installed(monkeypatch)
    plan = ana("purge", "dump/all.csv", "--dry-run", "--json").json
    faults.clear()
    for verb, times in (("swap", 1), ("delete", 6), ("put", 6), ("list", 6)):
        for when in ("before", "after"):
            getattr(faults, when)(verb, failing(RESET), times=times)
            ana.run("purge", "dump/all.csv", "--yes")
            faults.clear()
            # Done, or as it was; whichever it is, everybody can go on.
            ana("pull")
            ben("pull")
    ana.run("purge", "dump/all.csv", "--yes")
    ana("gc", "--remote", "--grace", "0")
    assert plan["commits"] == 4
    assert ana("purge", "dump/all.csv", "--yes", code=4).error
    assert_forgotten(ana)


def test_who_was_killed_while_following_forgets_with_the_next_pull(
    ana: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ben = another(ana, "ben")
    ben.commit({"mine": "1"}, "ben's")
    ana("purge", "dump/all.csv", "--yes")
    with monkeypatch.context() as patch:
        patch.setattr(garbage, "apply", failing(errors.DiskFull("here")))
        ben("pull", code=8)
    assert "purged dump/all.csv from all history" in ben("pull").err
    assert_forgotten(ben)


def test_a_project_without_a_remote_forgets_too(tmp_path: Path) -> None:
    alone = Machine(tmp_path / "alone", {})
    alone("init")
    alone.commit({"a": "1", "leak.csv": LEAK})
    alone.commit({"a": "2"})
    alone("purge", "*.csv", "--yes")
    with alone.repo() as repo:
        for each in repo.store.packs():
            for at in repo.store.locations(each.id):
                assert b"4111" not in repo.store.read(at.id)
    assert alone.read("leak.csv") == LEAK
    assert alone("fsck")
    assert alone("cat", "HEAD~1:a").out == "1"


# --- freshness ------------------------------------------------------------------------------


def test_a_remote_that_was_rewound_is_followed_only_if_told_to(
    tmp_path: Path, file_url: Remote
) -> None:
    ana = Machine(tmp_path / "ana", {})
    ana("init", file_url.url)
    ana.commit({"a": "1"})
    ana("push")
    vault = Path(file_url.url)
    shutil.copytree(vault, tmp_path / "old")
    ana.commit({"a": "2"})
    ana("push")
    ben = another(ana, "ben")
    shutil.rmtree(vault)
    shutil.copytree(tmp_path / "old", vault)
    for words in (["pull"], ["fetch"], ["sync"]):
        said = ben(*words, code=7)
        assert "--accept-rewind" in said.hint
        assert ben.read("a") == b"2"
    ben("pull", "--accept-rewind")
    assert ben.read("a") == b"2"
    assert ben("status", "--json").json["ahead"] == 1
    ben("push")
    ana("pull", code=7)
    ana("pull", "--accept-rewind")
    assert ana("log", "--json").json == ben("log", "--json").json


def test_another_history_is_followed_only_if_told_to(tmp_path: Path, file_url: Remote) -> None:
    """Eve has a key, and puts a history in place that does not go on from what others have seen."""
    ana = Machine(tmp_path / "ana", {})
    ana("init", file_url.url)
    ana.commit({"a": "1"})
    ana.commit({"a": "2"})
    ana("push")
    eve, ben = another(ana, "eve"), another(ana, "ben")
    with eve.repo() as repo:
        from dorky.remote import root as roots
        from dorky.store import history

        remote = repo.remote()
        assert remote.seen
        parent = history.resolve(repo.store, "HEAD~1")
        remote.swap(
            remote.seen.header, roots.successor(remote.seen.root, refs={"heads/main": parent})
        )
    said = ben("pull", code=7)
    assert "another history" in said.error
    assert "--accept-rewind" in said.hint
    with ben.repo() as repo, pytest.raises(errors.HistoryReplaced):
        repo.fetch()
    ben("fetch", "--accept-rewind")
    assert ben("status", "--json").json["ahead"] == 1
    ben("sync")
