"""Merging two people's commits, through their clones and a directory between them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from clones import Pair, two_clones
from disks import Tree, file, link, trees
from hypothesis import HealthCheck, given, settings
from machines import Machine, files

from dorky import errors
from dorky.format.model import ALL
from dorky.store import history
from dorky.worktree import checkout


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.chdir(tmp_path)
    with two_clones(tmp_path) as made:
        yield made


Side = Mapping[str, tuple[int, bytes] | None]

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
    ("theirs", "ours", "left", "why"),
    [
        pytest.param(
            {"a": file("t\n")},
            {"a": file("o\n")},
            {"a": file("<<<<<<< main\no\n=======\nt\n>>>>>>> origin/main\n")},
            "changed by both",
            id="content",
        ),
        pytest.param({"a": None}, {"a": file("o")}, {"a": file("o")}, "deleted by them", id="gone"),
        pytest.param({"a": file("t")}, {"a": None}, {"a": file("t")}, "deleted by us", id="kept"),
        pytest.param(
            {"a": file("t\n")},
            {"a": file(b"\0o")},
            {"a": file(b"\0o"), "a.theirs": file("t\n")},
            "binary",
            id="binary",
        ),
        pytest.param(
            {"z": link("t")},
            {"z": file("a")},
            {"z": file("a"), "z.theirs": link("t")},
            "binary",
            id="link and file",
        ),
        pytest.param(
            {"n": file(b"\0t"), "n.theirs": file("taken")},
            {"n": file(b"\0o")},
            {"n": file(b"\0o"), "n.theirs": file("taken"), "n.theirs.theirs": file(b"\0t")},
            "binary",
            id="both new",
        ),
    ],
)
def test_conflicts_wait_for_a_person(
    pair: Pair, theirs: Side, ours: Side, left: Side, why: str
) -> None:
    pair.start(BASE)
    both = [{**BASE, **side, f"only{n}": file("1")} for n, side in enumerate((theirs, ours))]
    trees = [{path: each for path, each in side.items() if each} for side in both]
    before = pair.ben.root
    done = pair.meet(*trees)
    (conflict,) = done.conflicts
    assert conflict.path == min(theirs)
    assert conflict.why == why
    assert not done.merged
    expected = {**{p: e for p, e in both[1].items() if e}, "only0": file("1"), **left}
    assert files(before) == expected

    status = pair.ben.status()
    assert status.merging == "origin/main"
    assert status.conflicts == done.conflicts
    assert not status.clean
    assert conflict.path not in {each.path for each in (*status.staged, *status.unstaged)}
    assert conflict.beside not in {each.path for each in (*status.staged, *status.unstaged)}
    assert (status.ahead, status.behind) == (1, 1)
    for refused in (
        pair.ben.push,
        pair.ben.pull,
        lambda: pair.ben.commit("x"),
        lambda: pair.ben.checkout("HEAD~1"),
        pair.ben.merge_continue,
    ):
        with pytest.raises(errors.Unresolved, match=conflict.path):
            refused()
    assert files(before) == expected


@pytest.mark.each_value
@pytest.mark.parametrize("side", ["ours", "theirs"])
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"a": file("t")}, {"a": file("o")}),
        ({"a": None}, {"a": file("o")}),
        ({"a": file("t")}, {"a": None}),
        ({"a": file(b"\0t")}, {"a": file(b"\0o")}),
        ({"z": link("t")}, {"z": file("a")}),
    ],
)
def test_one_side_is_taken(pair: Pair, theirs: Side, ours: Side, side: str) -> None:
    pair.start(BASE)
    left, right = (
        {path: each for path, each in {**BASE, **made}.items() if each} for made in (theirs, ours)
    )
    (conflict,) = pair.meet(left, {**right, "mine": file()}).conflicts
    done = pair.ben.resolve(conflict.path, ours=side == "ours", theirs=side == "theirs")
    assert (done.paths, done.left, done.backup) == ((conflict.path,), (), "")
    taken = {**(right if side == "ours" else left), "mine": file()}
    assert files(pair.ben.root) == taken
    with pytest.raises(errors.MergeInProgress):
        pair.ben.push()
    merge = pair.ben.merge_continue()
    assert len(merge.parents) == 2
    assert merge.message == "Merge origin/main"
    assert pair.ben.status().clean
    pair.ben.push()
    pair.ana.pull()
    assert files(pair.ana.root) == taken


def test_a_file_is_resolved_as_it_is(pair: Pair) -> None:
    pair.start(BASE)
    pair.meet({**BASE, "a": file("t\n")}, {**BASE, "a": file("o\n")})
    with pytest.raises(errors.StillMarked, match="line 1"):
        pair.ben.resolve("a")
    with pytest.raises(errors.StillMarked, match="line 1"):
        pair.ben.stage("a")
    pair.ben.stage(".")
    assert pair.ben.status().conflicts
    (pair.ben.root / "a").write_text("both\n")
    pair.ben.stage(".")
    assert pair.ben.status().conflicts, "only what is named is settled"
    pair.ben.stage("a")
    assert not pair.ben.status().conflicts
    assert pair.ben.commit("by hand").parents[1:]
    pair.ben.push()
    pair.ana.pull()
    assert files(pair.ana.root) == {**BASE, "a": file("both\n")}


@pytest.mark.each_value
@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize("end", ["continue", "commit -a"])
def test_a_merge_commit_holds_only_the_merge(pair: Pair, when: str, end: str) -> None:
    """A change that has nothing to do with a conflict stays staged, even on their file."""
    base = {**BASE, ".env": file("K=1\n"), "gone": file("g\n"), "their": file("1\n")}
    pair.start(base)
    pair.commit(pair.ana, {**base, "a": file("theirs\n"), "their": file("2\n")})
    pair.ana.push()
    pair.commit(pair.ben, {**base, "a": file("ours\n")})

    def unrelated() -> None:
        pair.ben.set(".env", "K", "unfinished")
        pair.ben.rm("gone")
        (pair.ben.root / "new").write_text("n\n")
        pair.ben.stage("new")

    if when == "before":
        unrelated()
    assert [each.path for each in pair.ben.pull().conflicts] == ["a"]
    if when == "during":
        unrelated()
        (pair.ben.root / "their").write_text("3\n")
        pair.ben.stage("their")
    pair.ben.resolve("a", theirs=True)
    left = pair.ben.status().staged
    merge = pair.ben.merge_continue() if end == "continue" else pair.ben.commit("m", all=True)
    assert [(each.path, each.what) for each in merge.changes] == [
        ("a", "modified"),
        ("their", "modified"),
    ]
    apart = {".env", "gone", "new", *({"their"} if when == "during" else ())}
    status = pair.ben.status()
    assert {change.path for change in status.staged} == apart
    assert apart <= {change.path for change in left}
    assert not status.unstaged
    pair.ben.push()
    pair.ana.pull()
    expected = {**base, "a": file("theirs\n"), "their": file("2\n")}
    assert files(pair.ana.root) == expected
    pair.ben.commit("the rest")
    assert pair.ben.status().clean
    pair.ben.push()
    pair.ana.pull()
    assert files(pair.ana.root) == files(pair.ben.root)
    assert pair.ana.read(".env") == b"K=unfinished\n"


def test_a_conflict_is_resolved_by_deleting_the_file(pair: Pair) -> None:
    pair.start(BASE)
    pair.meet({**BASE, "a": file("t"), "z": file("t")}, {**BASE, "a": file("o"), "z": file("o")})
    (pair.ben.root / "a").unlink()
    pair.ben.resolve("a")
    pair.ben.rm("z", force=True)
    pair.ben.merge_continue("without")
    pair.ben.push()
    pair.ana.pull()
    assert files(pair.ana.root).keys() == BASE.keys() - {"a", "z"}


def test_an_edited_conflict_is_kept_when_a_side_is_taken(pair: Pair) -> None:
    pair.start(BASE)
    pair.meet({**BASE, "a": file("t")}, {**BASE, "a": file("o")})
    (pair.ben.root / "a").write_text("half done")
    done = pair.ben.resolve("a", theirs=True)
    assert b"".join(pair.ben.cat(done.backup, "a")) == b"half done"
    assert (pair.ben.root / "a").read_text() == "t"


def test_a_merge_is_aborted(pair: Pair) -> None:
    pair.start(BASE)
    ours = {**BASE, "a": file("o"), "z": file(b"\0")}
    pair.meet({**BASE, "a": file("t"), "z": file("t"), "d/x": file("t"), "n": file("t")}, ours)
    (pair.ben.root / "a").write_text("half done")
    pair.ben.resolve("z", theirs=True)
    done = pair.ben.merge_abort()
    assert files(pair.ben.root) == ours
    assert b"".join(pair.ben.cat(done.backup, "a")) == b"half done"
    status = pair.ben.status()
    assert status.clean
    assert (status.ahead, status.behind) == (1, 1)
    with pytest.raises(errors.NothingToDo):
        pair.ben.merge_abort()
    # And once more, to the end.
    assert len(pair.ben.pull().conflicts) == 2
    pair.ben.resolve(".", ours=True)
    pair.ben.merge_continue()
    pair.ben.push()


def test_local_edits_outlive_a_conflict(pair: Pair) -> None:
    pair.start(BASE)
    pair.commit(pair.ana, {**BASE, "a": file("t"), "z": file("t")})
    pair.ana.push()
    pair.commit(pair.ben, {**BASE, "a": file("o")})
    for path in ("a", "z"):
        (pair.ben.root / path).unlink()
        (pair.ben.root / path).write_text("edited")
        with pytest.raises(errors.LocalChanges, match=path):
            pair.ben.pull()
        assert (pair.ben.root / path).read_text() == "edited"
        assert pair.ben.status().merging == ""
        pair.ben.restore(path)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        pytest.param({"n": file("t")}, {"n/x": file("o")}, id="file and directory"),
        pytest.param({"n/x": file("t")}, {"n": file("o")}, id="directory and file"),
        pytest.param(
            {"d/x": None, "d/y": None, "d": file("t")}, {"d/x": file("o")}, id="swap and change"
        ),
    ],
)
def test_what_no_directory_can_hold_changes_nothing(pair: Pair, theirs: Side, ours: Side) -> None:
    pair.start(BASE)
    left, right = (
        {path: each for path, each in {**BASE, **side}.items() if each} for side in (theirs, ours)
    )
    with pytest.raises(errors.Diverged, match="a file here and a directory there"):
        pair.meet(left, right)
    assert files(pair.ben.root) == right
    assert pair.ben.status().clean


def test_modes_and_contents_are_merged_apart(pair: Pair) -> None:
    pair.start(BASE)
    assert pair.meet({**BASE, "a": file("1", 0o755)}, {**BASE, "a": file("o")}).merged
    assert files(pair.ben.root) == {**BASE, "a": file("o", 0o755)}


def test_lines_and_keys_are_merged(pair: Pair) -> None:
    lines = [f"{n}\n" for n in range(9)]
    start = {"text": file("".join(lines)), ".env": file("# ours\nA=1\nB=2\n", 0o600)}
    pair.start(start)
    theirs = {
        "text": file("".join(["top\n", *lines])),
        ".env": file("# ours\nA=1\nB=2\nTHEIRS=t\n", 0o600),
    }
    ours = {
        "text": file("".join([*lines, "end\n"])),
        ".env": file("# ours\nA=0\nB=2\nOURS=o\n", 0o600),
    }
    assert pair.meet(theirs, ours).merged
    held = files(pair.ben.root)
    assert held["text"] == file("".join(["top\n", *lines, "end\n"]))
    kept = held[".env"][1].decode().splitlines()
    assert sorted(kept) == ["# ours", "A=0", "B=2", "OURS=o", "THEIRS=t"]
    assert held[".env"][0] & 0o777 == 0o600


def test_conflicting_keys_are_named(pair: Pair) -> None:
    pair.start({".env": file("A=1\nB=2\n")})
    done = pair.meet({".env": file("A=t\nB=2\nT=1\n")}, {".env": file("A=o\nB=2\nO=1\n")})
    assert [each.places for each in done.conflicts] == [("A",)]
    text = (pair.ben.root / ".env").read_text()
    assert "<<<<<<< main\nA=o\n=======\nA=t\n>>>>>>> origin/main\n" in text
    assert "T=1" in text
    assert "O=1" in text


def test_large_texts_are_combined_too(pair: Pair) -> None:
    lines = [f"line {n}\n" for n in range(60_000)]
    pair.start({"big": file("".join(lines))})
    theirs, ours = [*lines], [*lines]
    theirs[5], ours[-5] = "theirs\n", "ours\n"
    assert pair.meet({"big": file("".join(theirs))}, {"big": file("".join(ours))}).merged
    theirs[-5] = "ours\n"
    assert files(pair.ben.root) == {"big": file("".join(theirs))}


def test_a_rejected_push_says_who_pushed_what(pair: Pair) -> None:
    pair.start(BASE)
    pair.commit(pair.ana, {**BASE, "a": file("t")})
    pair.ana.push()
    pair.commit(pair.ben, {**BASE, "z": file("o")})
    with pytest.raises(errors.Rejected, match=r"'work' \(20..-..-.. ..:.. UTC\)$") as caught:
        pair.ben.push()
    assert pair.ana.author in caught.value.message
    done = pair.ben.sync()
    assert done.pulled
    assert done.pulled.merged
    assert done.pushed
    assert pair.ana.sync().pushed is None
    assert files(pair.ana.root) == files(pair.ben.root)


def test_names_that_differ_in_case_clash_in_a_merge_too(pair: Pair) -> None:
    pair.start(BASE)
    with pytest.raises(errors.NameClash, match=r"(?i)readme and readme"):
        pair.meet({**BASE, "readme": file("t")}, {**BASE, "README": file("o")})
    assert files(pair.ben.root) == {**BASE, "README": file("o")}


def test_names_of_theirs_that_clash_lock_nobody_out(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = {**BASE, "x/a": file("t"), "X/b": file("t")}
    pair.start(BASE)
    with monkeypatch.context() as patched:
        patched.setattr("dorky.worktree.staging.check_names", lambda *_, **__: None)
        pair.commit(pair.ana, twins)
        pair.ana.push()
    pair.commit(pair.ben, {**BASE, "a": file("o")})
    assert pair.ben.sync().pushed
    assert files(pair.ben.root) == {**twins, "a": file("o")}
    pair.commit(pair.ben, {**twins, "x/c": file("o"), "X/d": file("o")})
    with pytest.raises(errors.NameClash, match="x/A"):
        pair.commit(pair.ben, {**twins, "x/A": file("o")})


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


def merged(start: Tree, theirs: Tree, ours: Tree) -> tuple[Tree, set[str]] | None:
    """What a merge shall give: a path that one side alone changed is as that side has it.

    Also at which paths there may be conflicts, and what is there then; None if it can't be done.
    """
    found: dict[str, tuple[int, bytes]] = {}
    both = set()
    for path in start.keys() | theirs.keys() | ours.keys():
        was, left, right = start.get(path), theirs.get(path), ours.get(path)
        if was not in (left, right) and left != right:
            both.add(path)
        if kept := right if left == was or (path in both and right) else left:
            found[path] = kept
    if any(path.startswith(f"{other}/") for path in found for other in found):
        return None
    return found, both


_SETTINGS = settings(
    max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
_GIVEN = given(start=trees, theirs=trees, ours=trees)


@_SETTINGS
@_GIVEN
def test_merges_against_dictionaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Tree, theirs: Tree, ours: Tree
) -> None:
    monkeypatch.chdir(tmp_path)
    merge_all(tmp_path, start, theirs, ours)


@pytest.mark.deep
@settings(_SETTINGS, max_examples=40)
@_GIVEN
def test_more_merges_against_dictionaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Tree, theirs: Tree, ours: Tree
) -> None:
    monkeypatch.chdir(tmp_path)
    merge_all(tmp_path, start, theirs, ours)


def merge_all(tmp_path: Path, start: Tree, theirs: Tree, ours: Tree) -> None:
    expected = merged(start, theirs, ours)
    with two_clones(Path(tempfile.mkdtemp(dir=tmp_path))) as pair:
        pair.start({**start, "mark": file()})
        theirs, ours = {**theirs, "mark": file()}, {**ours, "mark": file("ours")}
        if expected is None:
            with pytest.raises(errors.Diverged):
                pair.meet(theirs, ours)
            assert files(pair.ben.root) == ours
            assert pair.ben.status().clean
            return
        tree, both = expected
        done = pair.meet(theirs, ours)
        unsettled = {each.path for each in done.conflicts}
        assert unsettled <= both
        aside = {each.beside for each in done.conflicts}
        held = files(pair.ben.root)
        for path in held.keys() | tree.keys():
            if path not in both | aside | {"mark"}:
                assert held.get(path) == tree.get(path)
        if unsettled:
            pair.ben.merge_abort()
            assert files(pair.ben.root) == ours
            pair.ben.pull()
            pair.ben.resolve(sorted(unsettled), theirs=True)
            pair.ben.merge_continue()
        pair.ben.push()
        pair.ana.pull()
        assert files(pair.ana.root) == files(pair.ben.root)
        for path in unsettled:
            assert files(pair.ana.root).get(path) == theirs.get(path)
        assert pair.ben.status().clean


def test_a_merge_gives_nothing_of_a_group_to_everybody(tmp_path: Path) -> None:
    """Both added a file, one of them before knowing of the group that it is for."""
    ana = Machine(tmp_path / "ana", {})
    ana("init", str(tmp_path / "vault"), "--name", "ana")
    ana.commit({"a": "1"})
    ana("push")
    ben = ana.another("ben")
    ben.write(".dorkyrc", ana.read(".dorkyrc"))
    ben("pull")
    ana("group", "add", "prod", "prod/**")
    ana.commit({"prod/.env": "SECRET=of-prod\n", "prod/b": b"\0of-prod"})
    ana("push")
    ben.commit({"prod/.env": "OTHER=1\n", "prod/b": b"\0"})
    ben("pull", code=5)
    ben("resolve", "prod/b", "--theirs")
    ben("merge", "--continue")
    # The commit before the merge holds the files for everybody.
    ben("push", code=5)
    ben("sync", "--rewrite")
    assert ben.read("prod/.env") == b"OTHER=1\nSECRET=of-prod\n"
    with ben.repo() as repo:
        for node in history.ancestors(repo.store, [history.head_of(repo.store) or ""]):
            trees = history.trees_of(repo.store, node.id, {ALL})
            for _, entry in history.files_of(repo.store, trees):
                assert b"of-prod" not in b"".join(checkout.read(repo.store, entry))


def test_what_lies_beside_takes_no_directory_s_name(pair: Pair) -> None:
    pair.start(BASE)
    ours = {**BASE, "b": file(b"\0ours"), "b.theirs/x": file("x")}
    (conflict,) = pair.meet({**BASE, "b": file(b"\0theirs")}, ours).conflicts
    assert conflict.beside == "b.theirs.theirs"
    assert (pair.ben.root / conflict.beside).read_bytes() == b"\0theirs"
