"""Merging two people's commits, through their clones and a directory between them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from disks import Tree, file, link, plant, trees
from hypothesis import HealthCheck, given, settings
from machines import files

from dorky import errors
from dorky.repo import Repository
from dorky.results import Transfer


class Pair(NamedTuple):
    """Two clones of one repository. Ana pushes first, Ben pulls."""

    ana: Repository
    ben: Repository

    def start(self, tree: Tree) -> None:
        """Give both the same state."""
        self.commit(self.ana, tree)
        self.ana.push()
        self.ben.pull()
        assert files(self.ben.root) == dict(tree)

    def commit(self, repo: Repository, tree: Tree) -> None:
        plant(repo.root, tree)
        os.chdir(repo.root)
        repo.stage(["."])
        if repo.status().staged:
            repo.commit("work")

    def meet(self, theirs: Tree, ours: Tree) -> Transfer:
        """Ana commits and pushes ``theirs``, Ben commits ``ours`` and pulls."""
        self.commit(self.ana, theirs)
        self.ana.push()
        self.commit(self.ben, ours)
        return self.ben.pull()


@contextlib.contextmanager
def two_clones(directory: Path) -> Iterator[Pair]:
    url = str(directory / "vault")
    ana, _ = Repository.init(directory / "ana", url)
    ben, _ = Repository.clone(url, directory / "ben")
    with ana, ben:
        yield Pair(ana, ben)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.chdir(tmp_path)
    with two_clones(tmp_path) as made:
        yield made


BASE = {"a": file("1"), "d/x": file("1"), "d/y": file("1"), "z": link("a")}


def test_both_sides_are_in_a_merge(pair: Pair) -> None:
    pair.start(BASE)
    theirs = {**BASE, "a": file("theirs", 0o755), "new/t": file("t")}
    del theirs["d/x"]
    ours = {**BASE, "d/y": link("../a"), "new/o": file("o")}
    done = pair.meet(theirs, ours)
    assert done.merged
    assert done.commits == 2
    assert {each.path: each.what for each in done.changes} == {
        "a": "modified",
        "d/x": "deleted",
        "new/t": "added",
    }
    expected = {**theirs, "d/y": link("../a"), "new/o": file("o")}
    assert files(pair.ben.root) == expected
    made = pair.ben.show()
    assert made.message == "Merge origin/main"
    assert len(made.parents) == 2
    assert pair.ben.status().clean
    assert pair.ben.status().ahead == 2
    for path in ("new/t", "new/o"):  # a merge is not what changed a file that one side changed
        assert [entry.message for entry in pair.ben.log(path=path)] == ["work"]
    pair.ben.push()
    assert not pair.ana.pull().merged
    assert files(pair.ana.root) == expected
    assert pair.ana.show().id == made.id


def test_the_same_change_on_both_sides_is_no_conflict(pair: Pair) -> None:
    pair.start(BASE)
    same = {**BASE, "a": file("same"), "n": file("new")}
    del same["d/x"]
    assert pair.meet(same, {**same, "mine": file()}).merged
    assert files(pair.ben.root) == {**same, "mine": file()}


@pytest.mark.parametrize(
    ("theirs", "ours", "clash"),
    [
        pytest.param({"a": file("t")}, {"a": file("o")}, "a", id="content"),
        pytest.param({"a": file("1", 0o755)}, {"a": file("o")}, "a", id="mode and content"),
        pytest.param({"a": None}, {"a": file("o")}, "a", id="deleted and changed"),
        pytest.param({"a": file("t")}, {"a": None}, "a", id="changed and deleted"),
        pytest.param({"n": file("t")}, {"n": file("o")}, "n", id="both new"),
        pytest.param({"z": link("t")}, {"z": file("a")}, "z", id="link and file"),
        pytest.param({"n": file("t")}, {"n/x": file("o")}, "n", id="file and directory"),
        pytest.param({"n/x": file("t")}, {"n": file("o")}, "n", id="directory and file"),
        pytest.param(
            {"d/x": None, "d/y": None, "d": file("t")},
            {"d/x": file("o")},
            "d/x",
            id="swap and change",
        ),
    ],
)
def test_a_conflict_changes_nothing(
    pair: Pair, theirs: dict[str, tuple[int, bytes] | None], ours: dict, clash: str
) -> None:
    pair.start(BASE)
    left, right = (
        {path: each for path, each in {**BASE, **side}.items() if each} for side in (theirs, ours)
    )
    with pytest.raises(errors.Diverged) as caught:
        pair.meet(left, right)
    assert clash in caught.value.args[1].split(", ")
    assert files(pair.ben.root) == right
    status = pair.ben.status()
    assert status.clean
    assert (status.ahead, status.behind) == (1, 1)
    assert not pair.ben.show().message.startswith("Merge")
    with pytest.raises(errors.Rejected):
        pair.ben.push()


def test_a_conflict_ends_by_taking_theirs(pair: Pair) -> None:
    """What the error's hint says."""
    pair.start(BASE)
    with pytest.raises(errors.Diverged):
        pair.meet({**BASE, "a": file("theirs")}, {**BASE, "a": file("ours")})
    pair.ben.restore(["a"], source="origin/main")
    pair.ben.stage(["a"])
    pair.ben.commit("theirs it is")
    assert pair.ben.pull().merged
    assert files(pair.ben.root) == {**BASE, "a": file("theirs")}
    pair.ben.push()


def test_names_that_differ_in_case_clash_in_a_merge_too(pair: Pair) -> None:
    pair.start(BASE)
    with pytest.raises(errors.NameClash, match=r"(?i)readme and readme"):
        pair.meet({**BASE, "readme": file("t")}, {**BASE, "README": file("o")})
    assert files(pair.ben.root) == {**BASE, "README": file("o")}


def test_local_edits_outlive_a_merge(pair: Pair) -> None:
    pair.start(BASE)
    pair.commit(pair.ana, {**BASE, "a": file("theirs")})
    pair.ana.push()
    pair.commit(pair.ben, {**BASE, "n": file("ours")})
    edited = pair.ben.root / "a"
    edited.write_text("not committed")
    with pytest.raises(errors.LocalChanges, match="a"):
        pair.ben.pull()
    assert edited.read_text() == "not committed"
    assert pair.ben.status().ahead == 1
    (pair.ben.root / "d" / "x").write_text("elsewhere")
    edited.write_text("1")
    edited.chmod(0o644)
    assert pair.ben.pull().merged
    assert edited.read_text() == "theirs"
    assert (pair.ben.root / "d" / "x").read_text() == "elsewhere"


def test_unrelated_beginnings_are_merged(tmp_path: Path, pair: Pair) -> None:
    """Both committed before either pushed."""
    pair.commit(pair.ana, {"a": file("ana")})
    pair.commit(pair.ben, {"b": file("ben")})
    pair.ana.push()
    assert pair.ben.pull().merged
    assert files(pair.ben.root) == {"a": file("ana"), "b": file("ben")}


def merged(start: Tree, theirs: Tree, ours: Tree) -> Tree | None:
    """What a merge shall give: a path that one side alone changed is as that side has it."""
    found: dict[str, tuple[int, bytes]] = {}
    for path in start.keys() | theirs.keys() | ours.keys():
        was, left, right = start.get(path), theirs.get(path), ours.get(path)
        if was not in (left, right) and left != right:
            return None
        if kept := right if left == was else left:
            found[path] = kept
    if any(path.startswith(f"{other}/") for path in found for other in found):
        return None
    return found


@settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(trees, trees, trees)
def test_merges_against_dictionaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Tree, theirs: Tree, ours: Tree
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = merged(start, theirs, ours)
    with two_clones(Path(tempfile.mkdtemp(dir=tmp_path))) as pair:
        pair.start({**start, "mark": file()})
        theirs, ours = {**theirs, "mark": file()}, {**ours, "mark": file("ours")}
        if expected is None:
            with pytest.raises(errors.Diverged):
                pair.meet(theirs, ours)
            assert files(pair.ben.root) == ours
        else:
            pair.meet(theirs, ours)
            assert files(pair.ben.root) == {**expected, "mark": file("ours")}
            pair.ben.push()
            pair.ana.pull()
            assert files(pair.ana.root) == files(pair.ben.root)
        assert pair.ben.status().clean
