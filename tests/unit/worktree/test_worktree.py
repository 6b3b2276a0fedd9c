"""The files on disk: what a typed path means, walking, and writing that never leads outside."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

import pytest
from disks import unprivileged

from dorky import errors
from dorky.worktree.ignore import Ignore
from dorky.worktree.worktree import Worktree


def put(tree: Worktree, path: str, mode: int, blocks: Iterable[bytes]) -> None:
    (tree.root / ".dorky" / "tmp").mkdir(parents=True, exist_ok=True)
    try:
        with tree.writing() as writing:
            writing.install(writing.prepare(path, mode, blocks), path)
    finally:
        shutil.rmtree(tree.root / ".dorky")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worktree:
    """An empty worktree, and the current directory."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    return Worktree(root, lambda: root / ".dorky" / "tmp")


def walk(tree: Worktree, start: str = "") -> dict[str, os.stat_result]:
    return dict(tree.walk(Ignore.root(tree.root), start))


# --- paths ----------------------------------------------------------------------------------


def test_a_path_counts_from_the_root_or_from_a_directory(
    tree: Worktree, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tree.root / "sub"
    below.mkdir()
    assert tree.relative("x", within=below) == "sub/x"
    assert tree.relative("./x/../y/", within=below) == "sub/y"
    assert tree.relative("../x", within=below) == "x"
    assert tree.relative(Path("../..") / tree.root.name, within=below) == ""
    for directory in (below, "/"):
        monkeypatch.chdir(directory)
        assert tree.relative("x") == tree.relative("./sub/..//x/") == "x"
        assert tree.relative(Path("sub/x")) == "sub/x"
        assert tree.relative(".") == ""
    assert tree.relative(tree.root / "a b\n") == "a b\n"
    assert tree.relative("e\u0301") != tree.relative("é")


def test_links_to_the_project_are_followed_and_those_in_it_are_names(
    tree: Worktree, tmp_path: Path
) -> None:
    (tree.root / "real").mkdir()
    (tree.root / "link").symlink_to("real")
    (tmp_path / "way").symlink_to(tree.root)
    assert tree.relative(tmp_path / "way" / "real" / "file") == "real/file"
    assert tree.relative("link/file") == "link/file"
    assert tree.relative("link") == tree.relative("link/") == "link"
    assert tree.link_above("link/file") == "link"
    assert tree.link_above("link") is tree.link_above("real/file") is None
    assert tree.relative("file", within=(tree.root / "link").resolve()) == "real/file"


@pytest.mark.parametrize("path", ["..", "../project2/x", "/", "/etc/passwd", "../out/x"])
def test_a_path_outside_is_refused(tree: Worktree, path: str) -> None:
    (tree.root.parent / "out").symlink_to("/etc")
    with pytest.raises(errors.OutsideWorktree, match="outside the project"):
        tree.relative(path)


@pytest.mark.parametrize(
    "path", [".git/hooks/x", "a/.GIT", ".dorky/dorky.db", ".gi\u200ct", "git~1"]
)
def test_a_repositorys_own_directory_is_refused(tree: Worktree, path: str) -> None:
    with pytest.raises(errors.UnstorablePath):
        tree.relative(path)


def test_an_empty_path_does_not_mean_everything(tree: Worktree) -> None:
    with pytest.raises(errors.UsageError, match="A path is empty"):
        tree.relative("")


@pytest.mark.parametrize("path", ["../loop/x", "a\0b"])
def test_a_path_that_can_not_be(tree: Worktree, path: str) -> None:
    (tree.root.parent / "loop").symlink_to("loop")
    with pytest.raises((errors.PathNotFound, errors.OutsideWorktree)):
        tree.relative(path)


# --- looking --------------------------------------------------------------------------------


def test_what_lies_behind_a_link_is_not_there(tree: Worktree, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    (tree.root / "link").symlink_to(tmp_path / "outside")
    (tree.root / "file").touch()
    assert tree.stat("link/file") is None
    assert tree.stat("link/file/deeper") is None
    assert tree.stat("file/below") is None
    assert tree.stat("n" * 300) is None
    found = tree.stat("link")
    assert found
    assert stat.S_ISLNK(found.st_mode)


def test_a_walk_meets_files_and_links_and_goes_through_no_link(tree: Worktree) -> None:
    (tree.root / "a" / "b").mkdir(parents=True)
    (tree.root / "a" / "b" / "file").touch()
    (tree.root / "a" / "up").symlink_to("..")
    os.mkfifo(tree.root / "pipe")
    for own in (".git", ".dorky", "a/.Git"):
        (tree.root / own).mkdir()
        (tree.root / own / "config").touch()
    assert set(walk(tree)) == {"a/b/file", "a/up", "pipe"}
    assert set(walk(tree, "a")) == {"a/b/file", "a/up"}
    assert set(walk(tree, "gone")) == set()
    assert set(tree.below("a")) == {"a/b/file", "a/up", "a/.Git/config"}


def test_a_walk_is_as_deep_as_directories_are(tree: Worktree) -> None:
    """Deeper than Python's stack."""
    deep = "d/" * 1100 + "file"
    put(tree, deep, stat.S_IFREG | 0o600, [b"x"])
    assert set(walk(tree)) == set(tree.below("d")) == {deep}
    tree.remove(deep)
    assert not list(tree.root.iterdir())


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o600], ids=oct)
def test_a_directory_that_can_not_be_listed(tree: Worktree, tmp_path: Path, mode: int) -> None:
    (tree.root / "closed").mkdir()
    (tree.root / "closed" / "file").touch()
    (tree.root / "closed").chmod(mode)
    try:
        with unprivileged(tmp_path), pytest.raises(errors.UnreadableFile, match="closed"):
            walk(tree)
    finally:
        (tree.root / "closed").chmod(0o700)


# --- writing --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o755, 0o444, 0o000, 0o777], ids=oct)
def test_a_file_gets_its_mode_less_what_the_umask_takes_from_others(
    tree: Worktree, mode: int
) -> None:
    before = os.umask(0o027)
    try:
        put(tree, "a/b/file", stat.S_IFREG | mode, [b"one", b"two"])
    finally:
        os.umask(before)
    written = tree.root / "a" / "b" / "file"
    assert written.read_bytes() == b"onetwo"
    assert stat.S_IMODE(written.stat().st_mode) == mode & ~0o027


def test_nobody_else_can_read_a_file_while_it_is_written(tree: Worktree) -> None:
    modes = []

    def blocks() -> list[bytes]:
        scratch = tree.root / ".dorky" / "tmp"
        modes.extend(each.stat().st_mode & 0o777 for each in scratch.iterdir())
        return [b"secret"]

    put(tree, "file", stat.S_IFREG | 0o666, (block for _ in "1" for block in blocks()))
    assert modes == [0o600]


def test_set_user_id_is_never_written(tree: Worktree) -> None:
    put(tree, "file", stat.S_IFREG | 0o6755, [b""])
    assert stat.S_IMODE((tree.root / "file").stat().st_mode) == 0o755


def test_a_file_takes_the_place_of_a_link_not_of_its_target(tree: Worktree) -> None:
    (tree.root / "target").write_text("kept")
    (tree.root / "link").symlink_to("target")
    put(tree, "link", stat.S_IFREG | 0o600, [b"new"])
    assert (tree.root / "target").read_text() == "kept"
    assert (tree.root / "link").read_text() == "new"
    assert not (tree.root / "link").is_symlink()


def test_nothing_is_written_or_deleted_through_a_link(tree: Worktree, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept")
    (tree.root / "a").mkdir()
    (tree.root / "a" / "link").symlink_to(outside)
    for path in ("a/link/file", "a/link/new", "a/link/deep/new"):
        with pytest.raises(errors.UnsafePath, match="a/link is a symbolic link"):
            put(tree, path, stat.S_IFREG | 0o600, [b"evil"])
    with pytest.raises(errors.UnsafePath):
        tree.remove("a/link/file")
    assert [each.name for each in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == "kept"


def test_a_link_that_comes_later_leads_nothing_astray(tree: Worktree, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "two").write_text("kept")
    (tree.root / ".dorky" / "tmp").mkdir(parents=True)
    with tree.writing() as writing:
        one, two = (writing.prepare(f"d/{n}", stat.S_IFREG | 0o600, [b"x"]) for n in "12")
        writing.install(one, "d/1")
        (tree.root / "d").rename(tree.root / "moved")
        (tree.root / "d").symlink_to(outside)
        with pytest.raises(errors.LocalChanges, match="d/2"):
            writing.install(two, "d/2")
        writing.remove("d/two")
    assert [each.name for each in outside.iterdir()] == ["two"]
    assert (outside / "two").read_text() == "kept"
    assert {each.name for each in (tree.root / "moved").iterdir()} <= {"1", "2"}


def test_a_path_that_is_too_long_for_anybody(tree: Worktree) -> None:
    with pytest.raises(errors.DiskError, match="too long"):
        put(tree, "d/" * 2048 + "file", stat.S_IFREG | 0o600, [b"x"])
    assert not list(tree.root.iterdir())


def test_a_directory_that_can_not_be_listed_can_be_written_to(
    tree: Worktree, tmp_path: Path
) -> None:
    (tree.root / "d").mkdir()
    (tree.root / "d").chmod(0o300)
    try:
        with unprivileged(tmp_path):
            put(tree, "d/file", stat.S_IFREG | 0o600, [b"x"])
    finally:
        (tree.root / "d").chmod(0o700)
    assert (tree.root / "d" / "file").read_bytes() == b"x"


def test_many_looked_at_are_as_many_looked_at_one_by_one(tree: Worktree, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("a/b/c", "a/d", "e"):
        (tree.root / path).parent.mkdir(parents=True, exist_ok=True)
        (tree.root / path).touch()
    (tree.root / "link").symlink_to(tmp_path)
    paths = ["a", "a/b", "a/b/c", "a/b/no", "a/d/file", "e", "e/f", "link", "link/file", "no/no/x"]
    assert dict(tree.stats(paths)) == {path: tree.stat(path) for path in paths}
    assert {path for path, found in tree.stats(paths) if found} == {*paths[:3], "e", "link"}


@pytest.mark.parametrize(
    "path", ["../x", "/tmp/x", ".git/hooks/x", "a/../../x", ".GIT./x", "a\0b", ""]
)
def test_a_path_from_a_stranger_never_reaches_the_disk(tree: Worktree, path: str) -> None:
    with pytest.raises(errors.UnsafePath):
        put(tree, path, stat.S_IFREG | 0o600, [b""])
    with pytest.raises(errors.UnsafePath):
        tree.remove(path)
    assert not list(tree.root.iterdir())


def test_a_directory_without_files_makes_room_and_one_with_files_does_not(tree: Worktree) -> None:
    (tree.root / "a" / "b" / "c").mkdir(parents=True)
    put(tree, "a", stat.S_IFREG | 0o600, [b"x"])
    assert (tree.root / "a").read_bytes() == b"x"
    (tree.root / "d" / "e").mkdir(parents=True)
    (tree.root / "d" / "e" / "file").touch()
    with pytest.raises(errors.DiskError):
        put(tree, "d", stat.S_IFREG | 0o600, [b"x"])
    assert (tree.root / "d" / "e" / "file").exists()
    with pytest.raises(errors.LocalChanges, match="a is a file"):
        put(tree, "a/below", stat.S_IFREG | 0o600, [b"x"])
    assert sorted(each.name for each in tree.root.iterdir()) == ["a", "d"]


@pytest.mark.parametrize("mode", [stat.S_IFREG | 0o755, stat.S_IFREG, stat.S_IFLNK], ids=oct)
def test_a_directory_without_files_makes_room_on_another_mount(
    tree: Worktree, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    (tree.root / "a" / "b" / "c").mkdir(parents=True)
    rename = os.rename

    def refuse(path: str, to: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if src_dir_fd != dst_dir_fd:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(path, to, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", refuse)
    put(tree, "a", mode, [b"x"])
    assert [each.name for each in tree.root.iterdir()] == ["a"]
    if mode == stat.S_IFLNK:
        assert tree.link_target("a") == b"x"
    else:
        assert stat.S_IMODE((tree.root / "a").stat().st_mode) == stat.S_IMODE(mode)
        (tree.root / "a").chmod(0o600)
        assert (tree.root / "a").read_bytes() == b"x"


def test_deleting_takes_empty_directories_along_but_not_the_current_one(
    tree: Worktree, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("a/b/c/file", "a/keep", "x/y/file"):
        (tree.root / path).parent.mkdir(parents=True, exist_ok=True)
        (tree.root / path).touch()
    tree.remove("a/b/c/file")
    assert {each.name for each in (tree.root / "a").iterdir()} == {"keep"}
    monkeypatch.chdir(tree.root / "x")
    tree.remove("x/y/file")
    assert not list((tree.root / "x").iterdir())
    tree.remove("x/y/file")  # gone already


def test_a_link_is_written_with_any_target(tree: Worktree) -> None:
    for n, target in enumerate([b"nowhere", b"/abs", b"..", b"\xff\xfe", "e\u0301\n".encode()]):
        put(tree, f"link{n}", stat.S_IFLNK, [target])
        assert tree.link_target(f"link{n}") == target
