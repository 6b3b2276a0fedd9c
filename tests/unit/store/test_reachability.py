"""What must be kept: everything that anything here names."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from machines import Machine, forget, started
from servers import Remote
from teams import joined

from dorky import errors
from dorky.format.model import Kind
from dorky.store import history, reachability
from dorky.store.contents import chunks_of


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    content = {".env": "A=1\n", "dir/file": "x\n"}
    return started(tmp_path / "ana", file_url, content, "--recovery", "none", "--name", "ana")


def content_of(machine: Machine, path: str, revision: str = "") -> str:
    with machine.repo() as repo:
        if not revision:
            return repo.index.rows()[path].content
        (found,) = (each.content for each in repo.ls(revision) if each.path == path)
        return found


def named(machine: Machine) -> reachability.Named:
    with machine.repo() as repo:
        return reachability.named(repo.store)


def reachable(machine: Machine) -> set[str]:
    with machine.repo() as repo:
        return reachability.reachable(repo.store)


def test_refs_and_what_is_below_them(ana: Machine) -> None:
    forget(ana)
    with ana.repo() as repo:
        head = repo.database.ref("main")
        assert head
        trees = history.trees_of(repo.store, head)
        found = reachability.reach(repo.store, [head])
        entries = dict(history.files_of(repo.store, trees))
    assert set(found.commits) == {head}
    assert set(trees.values()) < found.trees
    assert len(found.trees) == 2
    assert found.contents == found.chunks == {each.content for each in entries.values()}
    log = reachable(ana) - found.all
    assert found.all == {head} | found.trees | found.chunks
    with ana.repo() as repo:
        assert log == {entered.id for entered in history.entries(repo.store, repo.team.id)}
    assert named(ana).commits == {head: "main"}


def test_lists_of_chunks(ana: Machine) -> None:
    ana.commit({"big": random.Random(1).randbytes(5 << 20)})
    content = content_of(ana, "big")
    with ana.repo() as repo:
        head = repo.database.ref("main")
        assert head
        found = reachability.reach(repo.store, [head])
        assert repo.store.locate([content])[content].kind is Kind.CHUNKS
        pieces = list(chunks_of(repo.store, content))
    assert content in found.contents - found.chunks
    assert set(pieces) <= found.chunks


def test_what_is_staged(ana: Machine) -> None:
    ana.write("new", "new\n")
    ana("stage", "new")
    forget(ana)
    content = content_of(ana, "new")
    assert named(ana).contents[content] == "new"
    assert content in reachable(ana)


def test_what_is_checked_out(ana: Machine) -> None:
    ana.commit({".env": "A=2\n"}, "second")
    ana("checkout", "HEAD~1")
    with ana.repo() as repo, repo.database.transaction() as db:
        db.execute("DELETE FROM refs")
        db.execute("DELETE FROM operations")
    ((commit, name),) = named(ana).commits.items()
    assert name == "HEAD"
    assert commit in reachable(ana)


def test_what_undoing_needs(ana: Machine) -> None:
    undone = ana.commit({".env": "A=2\n"}, "second")
    content = content_of(ana, ".env")
    ana("undo")
    assert named(ana).commits[undone] == "the operation log"
    assert {undone, content} <= reachable(ana)
    forget(ana)
    assert undone not in reachable(ana)


def test_local_changes_that_were_replaced(ana: Machine) -> None:
    ana.write(".env", "local\n")
    ana("restore", ".env")
    content = content_of(ana, ".env", "backup/1")
    forget(ana)
    assert content in reachable(ana)


@pytest.fixture
def merging(ana: Machine) -> Machine:
    """A merge that has left a conflict."""
    ben = ana.another("ben")
    with ana.repo() as repo:
        url = repo.remote().url
    ben("clone", url, ".")
    ben.commit({"dir/file": "theirs\n", "more": "more\n"}, "theirs")
    ben("push")
    ana.commit({"dir/file": "ours\n"}, "ours")
    ana("pull", code=5)
    return ana


def test_a_merge_in_progress(merging: Machine) -> None:
    forget(merging)
    with merging.repo() as repo, repo.database.transaction() as db:
        db.execute("DELETE FROM refs WHERE name <> 'main'")
    found = named(merging)
    assert "a merge" in found.commits.values()
    assert found.trees
    kept = reachable(merging)
    assert found.trees <= kept
    merging("gc", "--grace", "0")
    assert merging("fsck", "--read-data", "--json").json["findings"] == []
    merging.write("dir/file", "both\n")
    merging("resolve", "dir/file")
    merging("merge", "--continue")
    assert merging.read("dir/file") == b"both\n"


def test_a_merge_that_was_given_up_and_may_be_taken_up_again(merging: Machine) -> None:
    trees = named(merging).trees
    assert trees
    merging("merge", "--abort")
    assert named(merging).trees == trees
    assert trees <= reachable(merging)
    with merging.repo() as repo, repo.database.transaction() as db:
        db.execute("DELETE FROM refs WHERE name <> 'main'")
    merging("gc", "--grace", "0")
    merging("undo")
    assert "dir/file" in merging("status").out
    merging("merge", "--abort")
    assert merging.read("dir/file") == b"ours\n"


def test_what_is_missing_is_told(ana: Machine) -> None:
    with ana.repo() as repo:
        (tree,) = history.trees_of(repo.store, repo.database.ref("main")).values()
        with repo.database.transaction() as db:
            db.execute("DELETE FROM objects WHERE id = ?", (bytes.fromhex(tree),))
        with pytest.raises(errors.MissingObject) as caught:
            reachability.reachable(repo.store)
        assert caught.value.args == (tree,)
        told: dict[str, errors.DorkyError] = {}
        start = reachability.named(repo.store)
        found = reachability.reach(repo.store, *start, failed=told.__setitem__)
        assert isinstance(told.pop(tree), errors.MissingObject)
        assert not told
        assert found.commits


def test_groups(ana: Machine) -> None:
    ben = joined(ana, "ben")
    ana("group", "add", "prod", "*.env")
    content = content_of(ana, ".env", "HEAD")
    assert content in reachable(ana)
    ben("pull")
    assert content not in reachable(ben)
    ana("group", "members", "prod", "--add", "ben")
    # The key comes with the root, the trees with the same fetch.
    ben("fetch")
    assert content in reachable(ben)


def test_tips(ana: Machine) -> None:
    first = ana.commit({".env": "A=2\n"}, "a\nb")
    second = ana.commit({".env": "A=3\n"}, "second")
    with ana.repo() as repo:
        upstream = repo.database.ref("origin/main")
        assert upstream
        known = reachability.reach(repo.store, [upstream]).commits
        lost = reachability.unreached(repo.store, known)
        assert lost.keys() == {first, second}
        assert reachability.tips(lost) == [second]
        (shown,) = reachability.dangling({first: lost[first]})
    assert (shown.id, shown.title) == (first, "a")
