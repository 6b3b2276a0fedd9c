"""Back to files: checkout, restore and pull write what was committed, and lose nothing of ours."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from disks import Tree, file, link, plant, trees
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from machines import files

from dorky import errors
from dorky import files as on_disk
from dorky.format import model
from dorky.format.model import ALL, Kind, ObjectId
from dorky.repo import Repository
from dorky.results import Change, CheckedOut
from dorky.worktree import checkout
from dorky.worktree.worktree import Writing


def commit(repo: Repository, tree: Tree) -> ObjectId:
    plant(repo.root, tree)
    os.chdir(repo.root)
    repo.stage(["."])
    return repo.commit("work").id


def restore(repo: Repository, *paths: str, source: str = "") -> CheckedOut:
    done = repo.restore(paths, source=source)
    assert isinstance(done, CheckedOut)
    return done


def content(repo: Repository, revision: str, path: str) -> bytes:
    return b"".join(repo.cat(revision, path))


FIRST = {
    ".env": file("KEY=1\n", 0o600),
    "run": file("#!/bin/sh\n", 0o755),
    "empty": file(),
    "large": file(bytes(range(256)) * 20_000, 0o444),
    "d/e/x": file("x"),
    "d/l": link("../.env"),
    "nowhere": link("no/such/file"),
    "abs": link("/etc/passwd"),
    "dir": link("d"),
    "new\nline": file("n"),
    "caf\u00e9": file("nfc"),
    "cafe\u0301": file("nfd"),
}
SECOND = {
    ".env": file("KEY=2\n", 0o600),
    "run": file("#!/bin/sh\n", 0o644),
    "d": link("elsewhere"),
    "dir/inside": file("i"),
    "caf\u00e9": file("nfc"),
    "added": file("a"),
}


# --- there and back -------------------------------------------------------------------------


def test_checkout_goes_there_and_back(repo: Repository) -> None:
    first = commit(repo, FIRST)
    second = commit(repo, SECOND)
    done = repo.checkout("HEAD~1")
    assert files(repo.root) == FIRST
    assert done.commit == first
    assert Change("d/e/x", "added") in done.changes
    assert Change("d", "deleted") in done.changes
    assert Change(".env", "modified") in done.changes
    assert Change("caf\u00e9", "modified") not in done.changes
    assert repo.status().clean
    assert repo.status().detached
    repo.checkout("main")
    assert files(repo.root) == SECOND
    assert repo.status().clean
    assert not repo.status().detached
    assert repo.show().id == second
    assert not Path("d/e").exists()


def test_no_commits_are_made_on_an_old_revision(repo: Repository) -> None:
    commit(repo, FIRST)
    commit(repo, SECOND)
    repo.checkout("HEAD~1")
    Path(".env").write_text("KEY=3\n")
    repo.stage([".env"])
    with pytest.raises(errors.Detached):
        repo.commit("lost?")
    with pytest.raises(errors.LocalChanges):  # what is staged is in the way
        repo.checkout("main")
    done = repo.checkout("main", force=True)
    assert content(repo, done.backup, ".env") == b"KEY=3\n"


def test_a_checkout_to_where_we_are_changes_nothing(repo: Repository) -> None:
    commit(repo, FIRST)
    Path(".env").write_text("mine")
    assert repo.checkout("main").changes == ()
    assert Path(".env").read_text() == "mine"


def test_a_file_that_differs_nowhere_is_not_touched(repo: Repository) -> None:
    commit(repo, FIRST)
    commit(repo, {**FIRST, ".env": file("KEY=2\n", 0o600)})
    before = {path: (repo.root / path).lstat() for path in FIRST if path != ".env"}
    Path("run").write_text("my edit")
    repo.checkout("HEAD~1")
    after = {path: (repo.root / path).lstat() for path in FIRST if path not in {".env", "run"}}
    for path, found in after.items():
        assert (found.st_ino, found.st_mtime_ns) == (before[path].st_ino, before[path].st_mtime_ns)
    assert Path("run").read_text() == "my edit"


def test_the_umask_narrows_what_is_restored_and_that_is_no_change(repo: Repository) -> None:
    commit(repo, FIRST)
    before = os.umask(0o077)
    try:
        plant(repo.root, {})
        restore(repo, ".")
    finally:
        os.umask(before)
    assert files(repo.root) == {
        path: (mode if stat.S_ISLNK(mode) else mode & ~0o077, data)
        for path, (mode, data) in FIRST.items()
    }
    assert repo.status().clean


def test_set_user_id_is_neither_kept_nor_restored(repo: Repository) -> None:
    commit(repo, {"tool": file("#!/bin/sh\n", 0o755)})
    Path("tool").chmod(0o6755)
    assert repo.status().clean
    repo.stage(["tool"])
    assert repo.ls()[0].mode == "100755"
    Path("tool").unlink()
    restore(repo, "tool")
    assert stat.S_IMODE(Path("tool").stat().st_mode) == 0o755


# --- restore --------------------------------------------------------------------------------


def test_restore_brings_back_what_is_staged(repo: Repository) -> None:
    commit(repo, FIRST)
    Path(".env").write_text("staged")
    repo.stage([".env"])
    Path(".env").write_text("broken")
    Path("d/e/x").unlink()
    Path("run").chmod(0o600)
    done = restore(repo, ".env", "d", "run")
    assert done.changes == (
        *(Change(".env", "modified"), Change("d/e/x", "added"), Change("run", "modified")),
    )
    assert Path(".env").read_text() == "staged"
    assert stat.S_IMODE(Path("run").stat().st_mode) == 0o755
    assert content(repo, done.backup, ".env") == b"broken"
    assert repo.status().unstaged == ()
    assert repo.status().staged == (Change(".env", "modified"),)


def test_restore_from_a_revision_leaves_the_index_alone(repo: Repository) -> None:
    commit(repo, FIRST)
    commit(repo, SECOND)
    done = restore(repo, ".env", "run", "large", source="HEAD~1")
    assert done.commit == repo.show("HEAD~1").id
    assert Path(".env").read_text() == "KEY=1\n"
    assert stat.S_IMODE(Path("run").stat().st_mode) == 0o755
    assert Path("large").read_bytes() == FIRST["large"][1]
    assert repo.status().staged == ()
    unstaged = (Change(".env", "modified"), Change("run", "modified"))
    assert repo.status().unstaged == unstaged


def test_a_link_in_the_way_is_kept_and_replaced(repo: Repository) -> None:
    commit(repo, FIRST)
    commit(repo, SECOND)
    done = restore(repo, "d/e/x", source="HEAD~1")
    assert Path("d/e/x").read_text() == "x"
    assert content(repo, done.backup, "d") == b"elsewhere"


def test_restore_takes_directories_patterns_and_all(repo: Repository) -> None:
    commit(repo, FIRST)
    plant(repo.root, {})
    restore(repo, "d")
    assert files(repo.root).keys() == {"d/e/x", "d/l"}
    restore(repo, "caf*")
    assert files(repo.root).keys() == {"d/e/x", "d/l", "caf\u00e9", "cafe\u0301"}
    restore(repo, ".")
    assert files(repo.root) == FIRST
    assert restore(repo, ".").changes == ()
    assert not restore(repo, ".").backup


def test_restore_of_what_is_not_there(repo: Repository) -> None:
    commit(repo, FIRST)
    Path("new").write_text("x")
    for path in ("new", "nope", "no*"):
        with pytest.raises(errors.PathNotTracked):
            restore(repo, path) if path != "no*" else restore(repo, "zz*")
    with pytest.raises(errors.UnknownRevision):
        restore(repo, ".env", source="nope")
    with pytest.raises(errors.UsageError):
        repo.restore([".env"], source="HEAD", staged=True)
    assert Path("new").read_text() == "x"


def test_restore_staged_puts_back_the_index_alone(repo: Repository) -> None:
    commit(repo, FIRST)
    Path(".env").write_text("edit")
    repo.stage([".env"])
    repo.restore([".env"], staged=True)
    assert repo.status().staged == ()
    assert repo.status().unstaged == (Change(".env", "modified"),)
    assert Path(".env").read_text() == "edit"


# --- nothing of ours is lost ----------------------------------------------------------------


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param({".env": file("mine", 0o600)}, id="changed"),
        pytest.param({".env": file("KEY=2\n", 0o640)}, id="mode"),
        pytest.param({".env": link("mine")}, id="a link now"),
        pytest.param({".env/mine": file("mine")}, id="a directory now"),
        pytest.param({"added": file("changed")}, id="to be deleted"),
        pytest.param({"d/e/x": file("mine")}, id="untracked and in the way"),
        pytest.param({"d": file("mine")}, id="a file in the way of a directory"),
        pytest.param({"dir/other": file("mine")}, id="untracked in a directory in the way"),
    ],
)
def test_edits_hold_a_checkout_up_and_force_keeps_them(repo: Repository, edit: Tree) -> None:
    commit(repo, FIRST)
    commit(repo, SECOND)
    clear = {path for path in SECOND for new in edit if new.startswith(f"{path}/")}
    clear |= {path for path in SECOND for new in edit if path.startswith(f"{new}/")}
    edited = {path: each for path, each in SECOND.items() if path not in clear} | edit
    plant(repo.root, edited)
    with pytest.raises(errors.DorkyError) as caught:
        repo.checkout("HEAD~1")
    assert caught.value.exit_code == 5
    assert files(repo.root) == edited
    done = repo.checkout("HEAD~1", force=True)
    assert files(repo.root) == FIRST
    (path,) = edit
    kept = {each.path: each for each in repo.ls(done.backup)}
    assert content(repo, done.backup, path) == edit[path][1]
    assert int(kept[path].mode, 8) == edit[path][0]
    plant(repo.root, {})
    restore(repo, path, source=done.backup)
    assert files(repo.root) == edit


def test_backups_are_numbered_and_stay(repo: Repository) -> None:
    commit(repo, FIRST)
    for n in range(1, 4):
        Path(".env").write_text(f"edit {n}")
        done = restore(repo, ".env")
        assert done.backup == f"backup/{n}"
    for n in range(1, 4):
        assert content(repo, f"backup/{n}", ".env") == f"edit {n}".encode()
    assert repo.show("backup/2").refs == ("backup/2",)


def test_a_link_of_ours_in_the_way_is_not_followed(repo: Repository, tmp_path: Path) -> None:
    """Ours, not a stranger's: the remote's new directory meets a link that nobody tracks."""
    commit(repo, {"config/app": file("1"), "a": file("1")})
    commit(repo, {"a": file("2")})
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "app").write_text("not ours")
    Path("config").symlink_to(outside)
    with pytest.raises(errors.DorkyError):
        repo.checkout("HEAD~1")
    assert Path("a").read_text() == "2"
    assert Path("config").is_symlink()
    assert [(each.name, each.read_text()) for each in outside.iterdir()] == [("app", "not ours")]


def everywhere(repo: Repository) -> set[tuple[str, int, bytes]]:
    """Every file in every commit that a ref reaches."""
    found, seen = set(), set()
    for ref in repo.database.refs():
        for entry in repo.log(ref):
            if entry.id in seen:
                continue
            seen.add(entry.id)
            for each in repo.ls(entry.id):
                found.add((each.path, int(each.mode, 8), content(repo, entry.id, each.path)))
    return found


Act = Callable[[Repository], object]
ACTS: dict[str, Act] = {
    "checkout": lambda repo: repo.checkout("HEAD~1"),
    "checkout --force": lambda repo: repo.checkout("HEAD~1", force=True),
    "restore": lambda repo: repo.restore(["."]),
    "restore --source": lambda repo: repo.restore(["."], source="HEAD~1"),
    "pull": lambda repo: repo.pull(),
    "pull --force": lambda repo: repo.pull(force=True),
}


_SETTINGS = settings(
    max_examples=7, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
_GIVEN = given(
    committed=st.lists(trees, min_size=3, max_size=3),
    staged=trees,
    edited=trees,
    act=st.sampled_from(sorted(ACTS)),
)


@_SETTINGS
@_GIVEN
def test_whatever_was_on_disk_or_staged_is_there_or_in_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **tried: Any
) -> None:
    nothing_is_lost(tmp_path, monkeypatch, **tried)


@pytest.mark.deep
@settings(_SETTINGS, max_examples=40)
@_GIVEN
def test_of_more_trees_everything_is_there_or_in_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **tried: Any
) -> None:
    nothing_is_lost(tmp_path, monkeypatch, **tried)


def nothing_is_lost(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    committed: Sequence[Tree],
    staged: Tree,
    edited: Tree,
    act: str,
) -> None:
    """Two commits here and one in the remote; then something is staged, then edited again."""
    for tree in committed:  # see the test below
        assume(
            not any(a.startswith(f"{b}/") or b.startswith(f"{a}/") for a in tree for b in staged)
        )
    here = Path(tempfile.mkdtemp(dir=tmp_path))
    monkeypatch.chdir(tmp_path)
    url = str(here / "vault")
    repo, _ = Repository.init(here / "ours", url, plain=True)
    other, _ = Repository.clone(url, here / "theirs", plain=True)
    with repo, other:
        for n, tree in enumerate(committed):
            commit(repo if n < 2 else other, {**tree, "mark": file(f"{n}")})
            if n == 1:
                repo.push()
                other.pull()
        other.push()
        plant(repo.root, {**staged, "mark": file("1")})
        os.chdir(repo.root)
        repo.stage(["."])
        before = {**edited, "mark": file("1")}
        plant(repo.root, before)
        try:
            ACTS[act](repo)
        except errors.ConflictError:
            assert files(repo.root) == before
            return
        assert act not in {"checkout", "pull"} or not repo.database.ref("backup/1")
        after = files(repo.root)
        if repo.status().detached:
            repo.checkout("main", force=True)
        if repo.status().staged:
            repo.commit("what is still staged")
        kept = everywhere(repo)
        for path, (mode, body) in (*before.items(), *staged.items()):
            assert after.get(path) == (mode, body) or (path, mode, body) in kept, path


@pytest.mark.parametrize(("old", "staged"), [("a/b", "a"), ("a", "a/b")], ids=["directory", "file"])
def test_what_is_staged_alone_is_in_the_way_too(repo: Repository, old: str, staged: str) -> None:
    """Staged, not on disk any more, and of a name that can't be beside what comes."""
    commit(repo, {old: file("1"), "x": file()})
    commit(repo, {"x": file()})
    plant(repo.root, {staged: file("staged"), "x": file()})
    repo.stage(["."])
    plant(repo.root, {"x": file()})
    with pytest.raises(errors.LocalChanges):
        repo.checkout("HEAD~1")
    assert [each.path for each in repo.status().staged] == [staged]
    repo.commit("it")
    assert {each.path for each in repo.ls()} == {staged, "x"}


def test_what_is_only_staged_is_kept_too(repo: Repository) -> None:
    commit(repo, {"a": file("1")})
    commit(repo, {"a": file("2")})
    Path("a").write_text("staged")
    repo.stage(["a"])
    Path("a").write_text("edited")
    assert repo.checkout("HEAD~1", force=True).backup
    assert {body for _, _, body in everywhere(repo)} >= {b"staged", b"edited"}


def test_force_where_a_directory_stands_in_the_place_of_what_is_staged(repo: Repository) -> None:
    commit(repo, {"a": file("1"), "b": file("1")})
    commit(repo, {"a": file("2")})
    plant(repo.root, {"a": file("2"), "b": file("staged")})
    repo.stage(["."])
    plant(repo.root, {"a": file("2"), "b/inside": file("mine")})
    done = repo.checkout("HEAD~1", force=True)
    assert files(repo.root) == {"a": file("1"), "b": file("1")}
    assert content(repo, done.backup, "b/inside") == b"mine"


# --- trees from strangers -------------------------------------------------------------------

DIRECTORY, REGULAR, LINK = stat.S_IFDIR, stat.S_IFREG | 0o644, stat.S_IFLNK
Stranger = Sequence[tuple[str, int, "bytes | Stranger"]]


def forge(repo: Repository, tree: Stranger) -> ObjectId:
    """Store a commit whose trees say what ours never would, and make it the newest."""
    with repo.store.writer() as writer:

        def write(entries: Stranger) -> ObjectId:
            found = []
            for name, mode, inside in entries:
                if isinstance(inside, bytes):
                    made = writer.add(Kind.CHUNK, inside)
                else:
                    made = write(inside)
                entry = {"name": name, "mode": mode, "content": made}
                if isinstance(inside, bytes):
                    digest = hashlib.sha256(inside).hexdigest()
                    entry |= {"size": len(inside), "sha256": digest}
                found.append(entry)
            return writer.add(Kind.TREE, json.dumps({"entries": found}).encode())

        parents = [parent] if (parent := repo.database.ref("main")) else []
        when = "2026-01-01T00:00:00Z"
        body = {
            **{"trees": {ALL: write(tree)}, "parents": parents},
            **{"author": "Eve", "time": when, "message": "a present"},
        }
        made = writer.add(Kind.COMMIT, json.dumps(body).encode())
        writer.save()
    return made


PATHS = ["..", ".", "", "/abs", "../x", "a/b", "a\0b", "\0"]
NAMES = [
    *(".git", ".Git", ".git\u200c", ".GIT.", ".git ", "git~1", ".git::$INDEX_ALLOCATION"),
    *(".dorky", ".DORKY", "dorky~1", ".dor\u200dky"),
]


@pytest.mark.each_value
@pytest.mark.parametrize("name", PATHS, ids=ascii)
@pytest.mark.parametrize("kind", ["file", "link", "directory", "deep"])
def test_a_name_that_is_none(repo: Repository, name: str, kind: str) -> None:
    commit(repo, {"a": file("1")})
    evil: Stranger = {
        "file": [(name, REGULAR, b"evil")],
        "link": [(name, LINK, b"/tmp")],
        "directory": [(name, DIRECTORY, [("hooks", REGULAR, b"evil")])],
        "deep": [("z", DIRECTORY, [(name, REGULAR, b"evil")])],
    }[kind]
    made = forge(repo, evil)
    around = sorted(Path("..").rglob("*"))
    for act in (
        lambda: repo.checkout(made),
        lambda: repo.checkout(made, force=True),
        lambda: repo.restore(["."], source=made),
        lambda: repo.ls(made),
        lambda: repo.show(made),
    ):
        with pytest.raises(errors.IntegrityError) as caught:
            act()
        assert caught.value.exit_code == 7
    assert sorted(Path("..").rglob("*")) == around
    assert files(repo.root) == {"a": file("1")}
    assert repo.status().clean


@pytest.mark.each_value
@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("kind", ["file", "link", "directory", "deep"])
def test_a_name_that_must_not_be_written(repo: Repository, name: str, kind: str) -> None:
    """It is left out, and the rest is there: one hostile push does not stop everybody."""
    commit(repo, {"a": file("1")})
    evil: Stranger = {
        "file": [("a", REGULAR, b"2"), (name, REGULAR, b"evil")],
        "link": [("a", REGULAR, b"2"), (name, LINK, b"/tmp")],
        "directory": [("a", REGULAR, b"2"), (name, DIRECTORY, [("hooks", REGULAR, b"evil")])],
        "deep": [("a", REGULAR, b"2"), ("z", DIRECTORY, [(name, REGULAR, b"evil")])],
    }[kind]
    made = forge(repo, sorted(evil, key=lambda entry: entry[0].encode()))
    assert repo.checkout(made).left_out == (name,)
    assert [
        path.name for path in repo.root.iterdir() if path.name not in {".dorky", ".dorkyrc"}
    ] == ["a"]
    assert files(repo.root) == {"a": file("2")}
    assert {each.path for each in repo.ls(made)} == {"a"}
    assert repo.status().clean
    with pytest.raises(errors.DorkyError):
        repo.restore([name], source=made)


def test_a_link_and_then_a_file_behind_it(repo: Repository, tmp_path: Path) -> None:
    """First ``a -> outside``, then ``a/b``: the classic way out of a worktree."""
    outside = tmp_path / "outside"
    outside.mkdir()
    commit(repo, {"x": file("1")})
    linked = forge(repo, [("a", LINK, os.fsencode(outside))])
    repo.checkout(linked)
    assert Path("a").is_symlink()
    behind = forge(repo, [("a", DIRECTORY, [("b", REGULAR, b"evil")])])
    repo.checkout(behind)  # the link goes, a directory takes its place
    assert not Path("a").is_symlink()
    assert Path("a/b").read_bytes() == b"evil"
    assert list(outside.iterdir()) == []


def test_a_file_behind_a_link_that_stays(repo: Repository, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    commit(repo, {"x": file("1")})
    behind = forge(repo, [("a", DIRECTORY, [("b", REGULAR, b"evil")])])
    Path("a").symlink_to(outside)
    with pytest.raises(errors.LocalChanges):
        repo.checkout(behind)
    assert Path("a").is_symlink()
    assert Path("x").read_text() == "1"
    done = repo.checkout(behind, force=True)
    assert Path("a/b").read_text() == "evil"
    assert not Path("a").is_symlink()
    assert content(repo, done.backup, "a") == os.fsencode(outside)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param([("a", REGULAR, b"1"), ("a", REGULAR, b"2")], id="twice"),
        pytest.param([("a", LINK, b"/tmp"), ("a", DIRECTORY, [("b", REGULAR, b"x")])], id="both"),
        pytest.param([("b", REGULAR, b"1"), ("a", REGULAR, b"2")], id="unsorted"),
        pytest.param([("a", stat.S_IFCHR | 0o666, b"")], id="device"),
        pytest.param([("a", stat.S_IFIFO | 0o666, b"")], id="pipe"),
        pytest.param([("a", 0o644, b"x")], id="no type"),
    ],
)
def test_a_tree_that_is_malformed(repo: Repository, tree: Stranger) -> None:
    commit(repo, {"x": file("1")})
    made = forge(repo, tree)
    with pytest.raises(errors.CorruptObject):
        repo.checkout(made)
    assert files(repo.root) == {"x": file("1")}


@pytest.mark.parametrize(
    "entry",
    [
        {"content": "f" * 64},
        {"content": "tree"},
        {"content": "commit"},
        {"size": 3},
        {"size": -1},
        {"mode": stat.S_IFDIR},
    ],
    ids=str,
)
def test_an_entry_that_does_not_say_what_is_there(
    repo: Repository, entry: dict[str, object]
) -> None:
    """Found before any file is touched."""
    commit(repo, {"x": file("1")})
    with repo.store.writer() as writer:
        chunk = writer.add(Kind.CHUNK, b"content")
        empty = writer.add(Kind.TREE, model.encode(model.Tree(())))
        writer.save()
    named = {"tree": empty, "commit": repo.show().id}
    given = {"name": "a", "mode": REGULAR, "content": chunk, "size": 7, **entry}
    given["content"] = named.get(str(given["content"]), given["content"])
    with repo.store.writer() as writer:
        tree = writer.add(Kind.TREE, json.dumps({"entries": [given]}).encode())
        when = "2026-01-01T00:00:00Z"
        body = {"trees": {ALL: tree}, "parents": [], "author": "E", "time": when, "message": "x"}
        made = writer.add(Kind.COMMIT, json.dumps(body).encode())
        writer.save()
    with pytest.raises(errors.DorkyError) as caught:
        repo.checkout(made)
    assert caught.value.exit_code in {3, 7}  # 3: there is no remote to fetch what is missing from
    assert files(repo.root) == {"x": file("1")}
    assert repo.status().clean


def test_set_user_id_from_a_stranger_is_not_written(repo: Repository) -> None:
    commit(repo, {"x": file("1")})
    made = forge(repo, [("tool", stat.S_IFREG | 0o6755, b"#!")])
    try:
        repo.checkout(made)
    except errors.IntegrityError:
        return
    assert stat.S_IMODE(Path("tool").stat().st_mode) == 0o755


@pytest.mark.parametrize("target", [b"", b"a\0b", b"x" * 5000], ids=["empty", "NUL", "long"])
def test_a_link_with_a_target_that_can_not_be(repo: Repository, target: bytes) -> None:
    commit(repo, {"x": file("1")})
    made = forge(repo, [("a", LINK, target)])
    with pytest.raises(errors.DorkyError) as caught:
        repo.checkout(made)
    assert caught.value.exit_code in {7, 8}
    assert files(repo.root) == {"x": file("1")}


# --- what happens meanwhile -----------------------------------------------------------------


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something between the planning of a checkout and its first change to a file."""
    keep_out = checkout.keep_out

    def then(*arguments: Any, **options: Any) -> tuple[str, ...]:
        act()
        return keep_out(*arguments, **options)

    monkeypatch.setattr(checkout, "keep_out", then)


@pytest.mark.parametrize("force", [False, True])
def test_what_is_edited_during_a_checkout_stays(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    commit(repo, {"a": file("1"), "b": file("1")})
    commit(repo, {"a": file("2"), "b": file("2")})
    meanwhile(monkeypatch, lambda: Path("a").write_text("mine"))
    with pytest.raises(errors.LocalChanges, match="a"):
        repo.checkout("HEAD~1", force=force)
    assert Path("a").read_text() == "mine"
    assert Path("b").read_text() == "2"


def test_what_appears_during_a_checkout_stays(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(repo, {"a": file("1"), "b": file("1")})
    commit(repo, {"a": file("1")})
    meanwhile(monkeypatch, lambda: Path("b").write_text("mine"))
    with pytest.raises(errors.LocalChanges, match="b"):
        repo.checkout("HEAD~1")
    assert Path("b").read_text() == "mine"


def test_what_was_right_already_and_is_edited_is_known_to_be_edited(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(repo, {"a": file("1")})
    commit(repo, {"a": file("2")})
    Path("a").write_text("1")
    meanwhile(monkeypatch, lambda: Path("a").write_text("x"))
    repo.checkout("HEAD~1")
    assert repo.status().unstaged == (Change("a", "modified"),)


def after_the_first(monkeypatch: pytest.MonkeyPatch, what: str, act: Callable[[], object]) -> None:
    """Do something right after the first file was put in its place, or deleted."""
    owner, name = {"written": (on_disk, "move"), "deleted": (Writing, "remove")}[what]
    really = getattr(owner, name)
    turns = itertools.count()

    def then(*arguments: Any, **keywords: Any) -> Any:
        found = really(*arguments, **keywords)
        if next(turns) == 0:
            act()
        return found

    monkeypatch.setattr(owner, name, then)


@pytest.mark.each_value
@pytest.mark.parametrize("way_on", ["commit", "force"])
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("what", ["written", "deleted"])
def test_what_is_edited_when_another_file_is_in_its_place_already_stays(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, what: str, force: bool, way_on: str
) -> None:
    old = {"x": file("x")} | ({"a": file("1"), "b": file("1")} if what == "written" else {})
    first, edited = ("a", "b") if what == "written" else ("b", "a")  # the order of each
    target = commit(repo, old)
    commit(repo, {"x": file("x"), "a": file("2"), "b": file("2")})
    with monkeypatch.context() as patched:
        after_the_first(patched, what, lambda: Path(edited).write_text("mine"))
        with pytest.raises(errors.LocalChanges, match=edited):
            repo.checkout(target, force=force)
    assert files(repo.root).get(first) == old.get(first)
    assert Path(edited).read_text() == "mine"
    assert Change(edited, "modified") in repo.status().unstaged
    assert list((repo.state / "tmp").iterdir()) == []
    if way_on == "commit":
        repo.stage([edited])
        kept = repo.commit("mine").id
        repo.checkout(target)
    else:
        kept = repo.checkout(target, force=True).backup
    assert content(repo, kept, edited) == b"mine"
    assert files(repo.root) == old
    assert repo.status().clean


@pytest.mark.parametrize("appears", [Path.write_text, Path.symlink_to])
def test_what_appears_when_another_file_is_in_its_place_already_stays(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, appears: Callable[[Path, str], object]
) -> None:
    target = commit(repo, {"x": file("x"), "a": file("1"), "d/b": file("1")})
    commit(repo, {"x": file("x")})

    def act() -> None:
        Path("d").mkdir()
        appears(Path("d/b"), "mine")

    with monkeypatch.context() as patched:
        after_the_first(patched, "written", act)
        with pytest.raises(errors.LocalChanges, match="d/b"):
            repo.checkout(target)
    assert files(repo.root)["d/b"][1] == b"mine"
    kept = repo.checkout(target, force=True).backup
    assert content(repo, kept, "d/b") == b"mine"
    assert Path("d/b").read_text() == "1"


@pytest.mark.parametrize("edit", ["in place", "another file"])
def test_what_is_edited_once_it_is_in_its_place_is_known_to_be_edited(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, edit: str
) -> None:
    """Of the same size, and so long before the end that its stat would be trusted."""
    commit(repo, {"a": file("1"), "b": file("1")})
    commit(repo, {"a": file("2"), "b": file("2")})

    def act() -> None:
        target = Path("a" if edit == "in place" else "a~")
        target.write_text("x")
        os.utime(target, (1e9, 1e9))
        target.rename("a")

    after_the_first(monkeypatch, "written", act)
    monkeypatch.setattr(checkout, "now", lambda: time.time_ns() + 10**10)
    repo.checkout("HEAD~1")
    assert Path("a").read_text() == "x"
    assert repo.status().unstaged == (Change("a", "modified"),)


def test_nothing_follows_a_directory_that_is_moved_away(
    repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(repo, {f"d/{name}": file("secret") for name in "abc"} | {"x": file("1")})
    commit(repo, {"x": file("1")})
    moved = tmp_path / "moved"
    after_the_first(monkeypatch, "written", lambda: Path("d").rename(moved))
    with pytest.raises(errors.LocalChanges, match="d/a"):
        repo.checkout("HEAD~1")
    assert [each.name for each in moved.iterdir()] == ["a"]
    assert files(repo.root) == {"x": file("1")}
    assert list((repo.state / "tmp").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.chdir(repo.root)
    repo.checkout("HEAD~1")
    assert Path("d/c").read_text() == "secret"


def test_a_large_file_of_no_pieces_is_an_empty_file(repo: Repository) -> None:
    """As it was staged once where it was emptied meanwhile."""
    commit(repo, {"x": file("1")})
    with repo.store.writer() as writer:
        none = writer.add(Kind.CHUNKS, model.encode(model.Chunks(())))
        entry = {"name": "log", "mode": REGULAR, "content": none, "size": 0}
        entry["sha256"] = hashlib.sha256().hexdigest()
        tree = writer.add(Kind.TREE, json.dumps({"entries": [entry]}).encode())
        when = "2026-01-01T00:00:00Z"
        body = {"trees": {ALL: tree}, "parents": [], "author": "E", "time": when, "message": "x"}
        made = writer.add(Kind.COMMIT, json.dumps(body).encode())
        writer.save()
    repo.checkout(made)
    assert files(repo.root) == {"log": file()}
    assert repo.status().clean


def test_a_checkout_that_fails_leaves_no_plaintext_about(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(repo, {"a": file("1"), "b": file("1")})
    commit(repo, {"a": file("2"), "b": file("2")})
    prepare = Writing.prepare

    def full(self: Writing, path: str, mode: int, blocks: Iterable[bytes]) -> str:
        if path == "b":
            raise errors.DiskFull(path)
        return prepare(self, path, mode, blocks)

    monkeypatch.setattr(Writing, "prepare", full)
    with pytest.raises(errors.DiskFull):
        repo.checkout("HEAD~1")
    assert list((repo.state / "tmp").iterdir()) == []
    assert Path("a").read_text() == "2"
