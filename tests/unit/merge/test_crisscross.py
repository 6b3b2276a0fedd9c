"""Merging commits that have several best common ancestors: against git, and by hand."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest
from clones import two_clones
from depth import deep
from disks import Tree, file, link
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from machines import files

from dorky import errors
from dorky.format import model
from dorky.format.model import ALL, Commit, Entry, Group, Kind, ObjectId, Roster
from dorky.merge import commits
from dorky.repo import Repository
from dorky.store import history
from dorky.worktree import checkout, ingest, staging

BEGINNING = datetime(2026, 1, 1, tzinfo=timezone.utc)
PROD = "a" * 16
NOBODY = Roster()
LIVING = Roster((), (Group(PROD, "prod", ("prod/**",)),))


class Past(NamedTuple):
    """A commit: its parents (by place), its files, and the trees of closed groups."""

    parents: Sequence[int]
    tree: Tree
    closed: Mapping[str, ObjectId] = MappingProxyType({})


class Met(NamedTuple):
    """The files of a merge, and those in conflict."""

    tree: Tree
    conflicts: Mapping[str, str]


@pytest.fixture(params=["sealed", *deep("plain")])
def repo(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Repository]:
    """A local project without commits, and the current directory."""
    monkeypatch.chdir(tmp_path)
    made, _ = Repository.init(plain=request.param == "plain")
    with made:
        yield made


def write(repo: Repository, pasts: Iterable[Past]) -> list[ObjectId]:
    """Store commits; each is a second younger than the one before."""
    ids: list[ObjectId] = []
    with repo.store.writer() as writer:
        for n, (parents, tree, closed) in enumerate(pasts):
            entries = []
            for path, (mode, data) in tree.items():
                name = path.rpartition("/")[2]
                entries.append((path, ingest.store_bytes(repo.store, writer, name, mode, data)))
            root = staging.write_entries(entries, writer)
            when = BEGINNING + timedelta(seconds=n)
            made = Commit(
                {ALL: root, **closed}, tuple(ids[parent] for parent in parents), "Ana", when, ""
            )
            ids.append(writer.add(Kind.COMMIT, model.encode(made)))
        writer.save()
    return ids


def files_of(repo: Repository, trees: Mapping[str, ObjectId]) -> Tree:
    def read(entry: Entry) -> bytes:
        return b"".join(checkout.read(repo.store, entry))

    return {path: (entry.mode, read(entry)) for path, entry in history.files_of(repo.store, trees)}


def merged(repo: Repository, pasts: Sequence[Past], known: Roster = NOBODY) -> commits.Merged:
    """Merge the last two commits."""
    *_, ours, theirs = write(repo, pasts)
    return commits.merge(
        repo.store,
        ours,
        theirs,
        label="theirs",
        author="Ana",
        known=known,
        rows={},
        bring=lambda _: None,
    )


def meet(repo: Repository, pasts: Sequence[Past]) -> Met:
    done = merged(repo, pasts)
    told = {conflict.path: conflict.why for conflict in done.conflicts}
    return Met(files_of(repo, done.trees), told)


def criss_cross(base: Tree, left: Tree, right: Tree, ours: Tree, theirs: Tree) -> list[Past]:
    """Two lines that have each merged the other's commit, and their heads.

    0 ─ 1 ─ 3 ours
      ╲   ╳
        2 ─ 4 theirs
    """
    return [
        Past([], base),
        Past([0], left),
        Past([0], right),
        Past([1, 2], ours),
        Past([2, 1], theirs),
    ]


# --- by hand --------------------------------------------------------------------------------


def test_what_one_side_took_back_does_not_return(repo: Repository) -> None:
    """The newest of the common ancestors alone would say that theirs has added it."""
    ours = {"a": file("1\n")}
    for left, right in (({"a": file("1\n"), "b": file("b\n")}, ours), (ours, {"b": file("b\n")})):
        base = {"a": file("1\n")}
        both = {**left, "b": file("b\n")}
        done = meet(repo, criss_cross(base, left, {**right, **base}, base, both))
        assert done == Met(base, {})


def test_a_value_that_the_ancestors_disagree_on_is_a_conflict(repo: Repository) -> None:
    base, left, right = ({".env": file(f"A=1\nK={value}\nZ=1\n")} for value in ("0", "1", "2"))
    for ours, theirs in itertools.permutations((left, right)):
        done = meet(repo, criss_cross(base, left, right, ours, theirs))
        assert done.conflicts == {".env": "changed by both"}
        assert b"A=1\n<<<<<<< main\n" in done.tree[".env"][1]
    settled = {".env": file("A=1\nK=3\nZ=1\n")}
    more = {".env": file("A=1\nK=3\nZ=2\n")}
    assert meet(repo, criss_cross(base, left, right, settled, more)) == Met(more, {})


@pytest.mark.parametrize("path", [".env", "a.json", "a.yaml", "a.toml"])
def test_keys_are_merged_by_way_of_the_ancestors(repo: Repository, path: str) -> None:
    def tree(**values: int) -> Tree:
        forms: dict[str, Callable[[str, int], str]] = {
            ".env": lambda key, value: f"{key}={value}\n",
            "a.toml": lambda key, value: f"{key} = {value}\n",
            "a.yaml": lambda key, value: f"{key}: {value}\n",
        }
        if path == "a.json":
            text = "{\n" + ",\n".join(f'  "{k}": {v}' for k, v in values.items()) + "\n}\n"
        else:
            text = "".join(forms[path](key, value) for key, value in values.items())
        return {path: file(text)}

    base = tree(A=0, B=0, C=0, D=0)
    left = tree(A=1, B=0, C=0)  # D deleted
    right = tree(A=0, B=2, C=0, D=0)
    # The left change is taken back by ours, the right one by theirs; both keep D deleted.
    ours, theirs = tree(A=0, B=2, C=0), tree(A=1, B=0, C=0)
    done = meet(repo, criss_cross(base, left, right, ours, theirs))
    assert done == Met(tree(A=0, B=0, C=0), {})


def test_a_deletion_that_the_ancestors_disagree_on_is_a_conflict(repo: Repository) -> None:
    base, right = {"k": file("k"), "a": file("0\n")}, {"k": file("k"), "a": file("2\n")}
    left = {"k": file("k")}
    done = meet(repo, criss_cross(base, left, right, left, right))
    assert done.conflicts == {"a": "deleted by us"}
    done = meet(repo, criss_cross(base, left, right, right, left))
    assert done.conflicts == {"a": "deleted by them"}
    assert meet(repo, criss_cross(base, left, right, left, left)) == Met(left, {})
    other = {**left, "a": file("3\n")}
    assert meet(repo, criss_cross(base, left, right, other, other)) == Met(other, {})


@pytest.mark.parametrize("odd", [file(b"\0"), link("x"), file("x" * (4 * 1024 * 1024 + 1))])
def test_what_can_not_be_combined_is_a_conflict(repo: Repository, odd: tuple[int, bytes]) -> None:
    base, left, right = {"a": file(b"\0\0")}, {"a": odd}, {"a": file("2\n")}
    for ours, theirs in itertools.permutations((left, right)):
        assert meet(repo, criss_cross(base, left, right, ours, theirs)).conflicts == {"a": "binary"}
    assert meet(repo, criss_cross(base, left, right, right, right)) == Met(right, {})


def test_modes_are_merged_by_way_of_the_ancestors(repo: Repository) -> None:
    def tree(mode: int, text: str) -> Tree:
        return {"a": file(text, mode)}

    base, left, right = tree(0o600, "1\n"), tree(0o700, "1\n"), tree(0o600, "2\n")
    # Ours takes the mode back, theirs the content.
    done = meet(repo, criss_cross(base, left, right, tree(0o600, "2\n"), tree(0o700, "1\n")))
    assert done == Met(tree(0o600, "1\n"), {})


def test_ancestors_of_which_one_has_a_directory(repo: Repository) -> None:
    base: Tree = {"k": file("k")}
    left, right = {**base, "a": file("1")}, {**base, "a/b": file("1")}
    assert meet(repo, criss_cross(base, left, right, right, right)) == Met(right, {})
    assert meet(repo, criss_cross(base, left, right, left, left)) == Met(left, {})


def closed(*trees: str) -> list[Past]:
    """A criss-cross in which a group that the user is not in has these trees; empty for none."""
    pasts = criss_cross(*[{"a": file("1")}] * 5)
    ids = [{PROD: tree * 64} if tree else {} for tree in trees]
    return [past._replace(closed=ids[n]) for n, past in enumerate(pasts)]


@pytest.mark.parametrize("known", [NOBODY, LIVING])
@pytest.mark.parametrize(
    ("trees", "found"),
    [
        pytest.param("01233", "3", id="both sides agree"),
        # Only a member of the group can tell: what others sign there is refused by everybody.
        pytest.param("01013", None, id="one ancestor changed it, then theirs"),
        pytest.param("00131", None, id="the other one changed it, then ours"),
        pytest.param("01212", None, id="the ancestors disagree"),
        pytest.param("01012", None, id="taken over"),
        pytest.param("01001", None, id="taken back"),
    ],
)
def test_a_closed_groups_tree_is_merged_as_a_whole(
    repo: Repository, known: Roster, trees: str, found: str | None
) -> None:
    pasts = closed(*trees)
    if found is None:
        with pytest.raises(errors.Diverged):
            merged(repo, pasts, known)
    else:
        assert merged(repo, pasts, known).sealed == {PROD: found * 64}


def test_a_living_groups_tree_is_not_lost_where_somebody_left_it_out(repo: Repository) -> None:
    assert merged(repo, closed("0", "1", "", "", "2"), LIVING).sealed == {PROD: "2" * 64}
    assert merged(repo, closed("0", "1", "2", "", "3"), LIVING).sealed == {PROD: "3" * 64}
    assert merged(repo, closed("0", "", "1", "1", ""), LIVING).sealed == {PROD: "1" * 64}


def test_a_history_of_criss_crosses_without_end(repo: Repository) -> None:
    """Others can write such a history: it neither takes long nor exceeds the stack."""

    def tree(n: int) -> Tree:
        return {"a": file(f"{n}\n"), "k": file("k")}

    pasts = [Past([], tree(0)), Past([0], tree(1)), Past([0], tree(2)), Past([0], tree(3))]
    for n in range(1, 240, 3):
        above = [n, n + 1, n + 2]
        pasts += [Past(above, tree(n + 10)), Past(above, tree(n + 11)), Past(above, tree(n + 12))]
    done = merged(repo, pasts[:-1])
    assert [conflict.path for conflict in done.conflicts] == ["a"]


def test_an_undo_after_a_push_makes_a_criss_cross(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ben merges Ana's commit, takes the merge back, merges it again and pushes."""
    monkeypatch.chdir(tmp_path)
    base = {"a": file("1"), "k": file("k")}
    with two_clones(tmp_path) as pair:
        pair.start(base)
        pair.meet({**base, "hers": file("h")}, {**base, "his": file("b")})
        first = pair.ben.show().id
        pair.ben.undo()
        pair.commit(pair.ben, {**base, "his": file("b"), "more": file("m")})
        pair.ben.pull()
        pair.ben.rm(["hers"])
        pair.ben.commit("without hers")
        pair.ben.push()
        pair.ben.undo(6)
        assert pair.ben.show().id == first
        heads = [[first], [pair.ben.database.ref("origin/main") or ""]]
        assert len(history.merge_bases(pair.ben.store, *heads)) == 2
        done = pair.ben.pull()
        assert done.merged
        # Ben's first merge holds the file, but only because the commit before it does.
        assert files(pair.ben.root) == {**base, "his": file("b"), "more": file("m")}


# --- against git ----------------------------------------------------------------------------


def git(top: Path, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", *words]
    return subprocess.run(
        command, cwd=top, input=data, capture_output=True, env=environment, timeout=60, check=False
    )


def gits_merge(top: Path, pasts: Sequence[Past]) -> Met:
    """Write the same commits with git, and merge the last two as its recursive strategy does."""
    git(top, "init", "-q", ".")
    stream = bytearray()
    for n, (parents, tree, _) in enumerate(pasts):
        stream += b"commit refs/heads/n%d\nmark :%d\n" % (n, n + 1)
        stream += b"committer a <a@b> %d +0000\ndata 0\n" % (1_700_000_000 + n)
        for kind, parent in zip([b"from", *[b"merge"] * 9], parents, strict=False):
            stream += b"%s :%d\n" % (kind, parent + 1)
        stream += b"deleteall\n"
        for path, (_, data) in tree.items():
            stream += b"M 644 inline %s\ndata %d\n%s\n" % (path.encode(), len(data), data)
    written = git(top, "fast-import", "--quiet", "--force", data=bytes(stream))
    assert written.returncode == 0, written.stderr
    heads = [f"n{len(pasts) - 2}", f"n{len(pasts) - 1}"]
    done = git(
        top,
        "-c",
        "merge.renames=false",
        "merge-tree",
        "--write-tree",
        "-z",
        "--no-messages",
        *heads,
    )
    assert done.returncode in {0, 1}, done.stderr
    root, *stages = done.stdout.decode().strip("\0").split("\0")
    names = git(top, "ls-tree", "-r", "--name-only", root).stdout.decode().split()
    wanted = "".join(f"{root}:{name}\n" for name in names).encode()
    blobs = io.BytesIO(git(top, "cat-file", "--batch", data=wanted).stdout)
    tree = {}
    for name in names:
        size = int(blobs.readline().split()[2])
        tree[name] = file(blobs.read(size), 0o644)
        blobs.read(1)
    return Met(tree, {stage.split("\t")[1]: "conflict" for stage in stages if stage})


LINES = ["1\n", "2\n", "3\n", "4\n", "5\n", "6\n", "7\n"]


@st.composite
def versions(draw: st.DrawFn) -> Tree:
    """Two text files, each a few edits away from the same seven lines, or missing."""
    tree: Tree = {"keep": file("k\n", 0o644)}
    for name in ("a.txt", "b.txt"):
        lines = [f"{name} {line}" for line in LINES]
        for place in draw(st.lists(st.sampled_from([0, 3, 6]), max_size=2)):
            lines[place] = draw(st.sampled_from(["", "x\n", "y\n", lines[place]]))
        if draw(st.integers(0, 5)):
            tree[name] = file("".join(lines), 0o644)
    return tree


SHAPES = {
    "criss-cross": [[], [0], [0], [1, 2], [2, 1]],
    "three ancestors": [[], [0], [0], [0], [1, 2], [4, 3], [2, 3], [6, 1], [5], [7]],
    "twice": [[], [0], [0], [1, 2], [2, 1], [3, 4], [4, 3]],
    "without a common root": [[], [], [0, 1], [1, 0]],
    "one side ahead": [[], [0], [0], [1, 2], [2, 1], [3], [4], [5]],
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@settings(
    max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data())
def test_text_is_merged_as_git_merges_it(
    repo: Repository, shape: Sequence[Sequence[int]], data: st.DataObject
) -> None:
    """Dorky's hunks may be larger, so it may find a conflict where git finds none."""
    pasts = [Past(parents, data.draw(versions())) for parents in shape]
    mine, gits = meet(repo, pasts), gits_merge(repo.root, pasts)
    assert gits.conflicts.keys() <= mine.conflicts.keys()
    for path in (mine.tree.keys() | gits.tree.keys()) - mine.conflicts.keys():
        assert mine.tree.get(path) == gits.tree.get(path)
