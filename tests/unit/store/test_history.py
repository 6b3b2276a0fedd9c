"""History: names of revisions, ancestry, and how two states differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from disks import Tree, difference, file, plant, trees
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dorky import errors
from dorky.format import model
from dorky.format.model import ALL, Commit, Kind, ObjectId
from dorky.repo import Repository
from dorky.store import history, projection
from dorky.store.objects import PackedObject, Store

BEGINNING = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """A local project without commits, and the current directory."""
    monkeypatch.chdir(tmp_path)
    made, _ = Repository.init(plain=True)
    with made:
        yield made


def commit(repo: Repository, tree: Tree, message: str = "work") -> ObjectId:
    plant(repo.root, tree)
    repo.stage(["."])
    return repo.commit(message).id


def add_commits(
    repo: Repository, parents: Sequence[Sequence[int]], times: Sequence[int]
) -> list[str]:
    """Write commits of an empty tree, each with the parents (by place) and at the time given."""
    ids: list[ObjectId] = []
    with repo.store.writer() as writer:
        tree = writer.add(Kind.TREE, model.encode(model.Tree(())))
        for n, (above, time) in enumerate(zip(parents, times, strict=True)):
            when = BEGINNING + timedelta(seconds=time)
            made = Commit({ALL: tree}, tuple(ids[each] for each in above), "Ana", when, f"{n}")
            ids.append(writer.add(Kind.COMMIT, model.encode(made)))
        writer.save()
    return ids


# --- revisions ------------------------------------------------------------------------------


def test_every_way_to_name_a_revision(repo: Repository) -> None:
    first, second, third = (commit(repo, {"a": file(f"{n}")}) for n in range(3))
    repo.database.set_ref("origin/main", second)

    def at(revision: str) -> str:
        return repo.show(revision).id

    assert (
        at("HEAD") == at("main") == at("@") == at(third) == at(third[:10]) == at(third[:4]) == third
    )
    assert at("HEAD~") == at("HEAD~1") == at("HEAD^") == at("main~1") == at("origin/main") == second
    assert at("HEAD~2") == at("HEAD^^") == at("HEAD~1^") == at("origin/main^") == first
    assert at(f"{third[:8]}~2") == first
    assert at("HEAD~0") == third
    repo.checkout("HEAD~1")
    assert at("HEAD") == second
    assert at("main") == third


@pytest.mark.parametrize(
    "revision",
    [
        *("nope", "", "HEAD~3", "HEAD^^^", "HEAD~" + "9" * 5000, "HEAD^2", "HEAD~x", "~1", "^"),
        *("abc", "0" * 64, "f" * 65, "origin/main", "../main", "head", "main\n", "' OR 1; --"),
    ],
    ids=lambda revision: ascii(revision)[:20],
)
def test_a_revision_that_is_none(repo: Repository, revision: str) -> None:
    for n in range(3):
        commit(repo, {"a": file(f"{n}")})
    with pytest.raises(errors.UnknownRevision):
        repo.show(revision)


def test_before_the_first_commit(repo: Repository) -> None:
    for revision in ("HEAD", "main", "HEAD~1"):
        with pytest.raises(errors.NoCommits):
            repo.show(revision)
    assert repo.status().head is None


def test_a_short_id_that_two_commits_begin_with(repo: Repository) -> None:
    # Of 1500 ids two begin with the same four digits: the chance that none do is 10^-8.
    ids = add_commits(repo, [()] * 1500, range(1500))
    counts: dict[str, list[str]] = {}
    for each in ids:
        counts.setdefault(each[:4], []).append(each)
    shared, (one, other, *_) = next(found for found in counts.items() if len(found[1]) > 1)
    with pytest.raises(errors.AmbiguousRevision) as caught:
        repo.show(shared)
    assert one[:12] in caught.value.message
    assert other[:12] in caught.value.message
    assert repo.show(one[:20]).id == one


def test_ids_of_trees_and_files_are_no_revisions(repo: Repository) -> None:
    commit(repo, {"a": file("x")})
    with pytest.raises(errors.UnknownRevision):
        repo.show(repo.ls()[0].content)


# --- ancestry -------------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[list[int]], list[int]]:
    """Parents by place, and times by clocks that disagree."""
    count = draw(st.integers(2, 12))
    above = [
        draw(st.lists(st.integers(0, n - 1), max_size=2, unique=True)) if n else []
        for n in range(count)
    ]
    return above, draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(histories(), st.data())
def test_ancestry_against_sets(
    repo: Repository, made: tuple[list[list[int]], list[int]], data: st.DataObject
) -> None:
    above, times = made
    ids = add_commits(repo, above, times)
    reach: list[set[int]] = []
    for n, parents in enumerate(above):
        reach.append({n}.union(*(reach[each] for each in parents)))
    here = {name: n for n, name in enumerate(ids)}
    left, right = (data.draw(st.integers(0, len(ids) - 1)) for _ in "ab")

    walked = [here[node.id] for node in history.ancestors(repo.store, [ids[left], ids[right]])]
    assert sorted(walked) == sorted(reach[left] | reach[right])

    ahead = len(reach[left] - reach[right]), len(reach[right] - reach[left])
    assert history.ahead_behind(repo.store, ids[left], ids[right]) == ahead
    assert history.is_ancestor(repo.store, ids[left], ids[right]) == (left in reach[right])

    common = reach[left] & reach[right]
    best = {each for each in common if not any(each in reach[o] for o in common - {each})}
    bases = history.merge_bases(repo.store, [ids[left]], [ids[right]])
    assert {here[base] for base in bases} == best


def test_children_come_before_parents_if_clocks_agree(repo: Repository) -> None:
    #   0 ─ 1 ─ 3 ─ 4
    #     ╲ 2 ╱
    ids = add_commits(repo, [[], [0], [0], [1, 2], [3]], range(5))
    assert [entry.id for entry in repo.log(ids[4])] == ids[::-1]
    assert [entry.id for entry in repo.log(ids[4], limit=2)] == [ids[4], ids[3]]
    assert list(repo.log(ids[4], limit=0)) == []


@pytest.fixture
def reads(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> list[ObjectId]:
    """The objects that are read from here on."""
    ids: list[ObjectId] = []
    really = Store.open

    def spy(self: Store, at: PackedObject, *, group: str | None = None) -> bytes:
        ids.append(at.id)
        return really(self, at, group=group)

    monkeypatch.setattr(Store, "open", spy)
    return ids


def test_how_long_history_is_does_not_matter(repo: Repository, reads: list[ObjectId]) -> None:
    """What lies below the commit where two lines part is not read."""
    ids = add_commits(repo, [[], *([n] for n in range(99)), [99], [99], [101]], range(103))
    ours, theirs = ids[100], ids[102]
    assert history.ahead_behind(repo.store, ours, theirs) == (1, 2)
    assert history.ahead_behind(repo.store, ids[99], theirs) == (0, 2)
    assert history.merge_bases(repo.store, [ours], [theirs]) == [ids[99]]
    assert history.is_ancestor(repo.store, ids[99], ours)
    assert not history.is_ancestor(repo.store, ours, theirs)
    assert [each.id for each in repo.log(theirs, limit=2)] == [theirs, ids[101]]
    assert set(reads) == {ours, theirs, ids[101], ids[99]}


def test_the_history_of_a_path_ends_where_enough_was_found(
    repo: Repository, reads: list[ObjectId]
) -> None:
    tree = {"a/b/c": file("1"), "d/e": file("1")}
    old = commit(repo, tree)
    commit(repo, {**tree, "a/b/c": file("2")})
    reads.clear()
    assert [each.id for each in repo.log(path="d/e")] == [old]
    # Not the trees a and b, which differ: d does not.
    assert len(reads) == len(set(reads)) + 2 == 2 + 2 + 2 + 1
    new = commit(repo, {**tree, "a/b/c": file("3")})
    reads.clear()
    assert [each.id for each in repo.log(path="a/b/c", limit=1)] == [new]
    assert old not in reads


# --- states ---------------------------------------------------------------------------------


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(trees, trees)
def test_how_two_states_differ(repo: Repository, old: Tree, new: Tree) -> None:
    made = []
    for tree in ({**old, "mark": file("old")}, {**new, "mark": file("new")}):
        made.append(commit(repo, tree))
        assert {each.path for each in repo.ls()} == tree.keys()
        assert {each.path: int(each.mode, 8) for each in repo.ls()} == {
            path: mode for path, (mode, _) in tree.items()
        }
    changes = [(each.path, each.what) for each in repo.show(made[1]).changes]
    assert changes == sorted([*difference(old, new), ("mark", "modified")])


def test_differences_are_told_directory_by_directory(
    repo: Repository, reads: list[ObjectId]
) -> None:
    """There may be a million; only the directory at hand is in memory."""
    made = commit(repo, {f"{n}/a": file("1") for n in range(20)})
    view = projection.current(repo.store, made)
    reads.clear()
    found = iter(projection.differences(projection.current(repo.store, None), view))
    assert next(found).path == "0/a"
    assert len(reads) == 2
    assert len([*found]) == 19


def test_the_history_of_a_path(repo: Repository) -> None:
    added = commit(repo, {"a": file("1"), "d/x": file("1")}, "add")
    other = commit(repo, {"a": file("1"), "d/x": file("1"), "b": file()}, "other")
    deeper = commit(repo, {"a": file("1"), "d/x": file("2"), "b": file()}, "deeper")
    mode = commit(repo, {"a": file("1", 0o755), "d/x": file("2"), "b": file()}, "mode")
    gone = commit(repo, {"d/x": file("2"), "b": file()}, "gone")
    swap = commit(repo, {"d": file("now a file"), "b": file()}, "swap")

    def of(path: str) -> list[ObjectId]:
        return [entry.id for entry in repo.log(path=path)]

    assert of("a") == [gone, mode, added]
    assert of("d/x") == [swap, deeper, added]
    assert of("d") == [swap, deeper, added]
    assert of("b") == [other]
    assert of(".") == [swap, gone, mode, deeper, other, added]
    assert [entry.id for entry in repo.log(path="a", limit=1)] == [gone]
    assert [entry.id for entry in repo.log("HEAD~2", "a")] == [mode, added]
    with pytest.raises(errors.PathNotTracked, match="zzz is not tracked"):
        of("zzz")


def test_trees_deeper_than_the_stack(repo: Repository) -> None:
    """Ours would not fit on a disk; a stranger's is read all the same."""
    ids = []
    with repo.store.writer() as writer:
        for content in (b"1", b"2"):
            chunk = writer.add(Kind.CHUNK, content)
            entry = model.Entry("x", 0o100644, chunk, 1, "0" * 64)
            for _ in range(1500):
                below = writer.add(Kind.TREE, model.encode(model.Tree((entry,))))
                entry = model.Entry("d", 0o040000, below)
            root = writer.add(Kind.TREE, model.encode(model.Tree((entry,))))
            made = Commit({ALL: root}, tuple(ids[-1:]), "Ana", BEGINNING, "deep")
            ids.append(writer.add(Kind.COMMIT, model.encode(made)))
        writer.save()
    (listed,) = repo.ls(ids[1])
    assert listed.path == "d/" * 1500 + "x"
    (change,) = repo.show(ids[1]).changes
    assert (change.path, change.what) == (listed.path, "modified")


# --- commits that are not as they should be -------------------------------------------------


GOOD = {
    "trees": {"all": "f" * 64},
    "parents": [],
    "author": "Eve",
    "time": "2026-01-01T00:00:00Z",
    "message": "x",
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"time": "yesterday"},
        {"time": None},
        {"time": "0001-01-01T00:00:00"},
        {"time": "0001-01-01T00:00:00+14:00"},
        {"time": "9999-12-31T23:59:59-14:00"},
        {"parents": ["../../x"]},
        {"parents": "f" * 64},
        {"trees": {"all": "x"}},
        {"trees": {"all": "f" * 64, "ops": "f" * 64}},
        {"trees": {"0" * 16: "f" * 64}},
        {"trees": {}},
        {"message": 7},
        {"author": None},
    ],
    ids=str,
)
def test_a_commit_that_is_malformed(repo: Repository, wrong: dict[str, object]) -> None:
    with repo.store.writer() as writer:
        bad = writer.add(Kind.COMMIT, json.dumps({**GOOD, **wrong}).encode())
        writer.save()
    with pytest.raises(errors.CorruptObject):
        list(repo.log(bad))


def test_a_commit_whose_parent_is_missing(repo: Repository) -> None:
    with repo.store.writer() as writer:
        body = {**GOOD, "parents": ["f" * 64]}
        bad = writer.add(Kind.COMMIT, json.dumps(body).encode())
        writer.save()
    with pytest.raises(errors.MissingObject):
        list(repo.log(bad))
