"""The stat cache: no edit goes unseen, and what is known to be clean is not read again."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dorky.format.model import Tree
from dorky.repo import Repository
from dorky.results import Change
from dorky.store import directories
from dorky.store import index as index_module
from dorky.store.database import Database
from dorky.store.index import Index, Row, Spool
from dorky.store.objects import Store
from dorky.worktree import staging
from dorky.worktree.worktree import Worktree

MODIFIED = (Change("file", "modified"),)


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """A project with one committed file, ``file``, that holds ``one``; the current directory."""
    monkeypatch.chdir(tmp_path)
    made, _ = Repository.init()
    with made:
        Path("file").write_text("one")
        made.stage(["file"])
        made.commit("first")
        yield made


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are opened from here on."""
    opened: list[str] = []
    really = Worktree.open

    def spy(self: Worktree, path: str) -> int:
        opened.append(path)
        return really(self, path)

    monkeypatch.setattr(Worktree, "open", spy)
    return opened


def see(monkeypatch: pytest.MonkeyPatch, look: Callable[[str, os.stat_result], Any]) -> None:
    """Have walks take for a file's stat what ``look`` makes of its name and its stat."""
    scandir = os.scandir

    class Entry:
        def __init__(self, item: os.DirEntry[str]) -> None:
            self.name, self.is_dir = item.name, item.is_dir
            self.stat = lambda **how: look(item.name, item.stat(**how))

    @contextlib.contextmanager
    def listing(directory: int) -> Iterator[list[Entry]]:
        with scandir(directory) as items:
            yield [Entry(item) for item in items]

    monkeypatch.setattr(os, "scandir", listing)


def settle() -> None:
    """Let the clock's tick pass in which a file can be changed without its times moving."""
    time.sleep(0.05)


def times(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_atime_ns, stat.st_mtime_ns


# --- edits ----------------------------------------------------------------------------------


def in_place(path: Path) -> None:
    """Same size, same inode, at once."""
    with path.open("r+b") as file:
        file.write(b"two")


def times_restored(path: Path) -> None:
    before = times(path)
    in_place(path)
    os.utime(path, ns=before)


def replaced(path: Path) -> None:
    """By another file of the same size and times, as an editor does."""
    new = path.with_name("new")
    new.write_text("two")
    os.utime(new, ns=times(path))
    new.rename(path)


def through_a_mapping(path: Path) -> None:
    import mmap

    with path.open("r+b") as file, mmap.mmap(file.fileno(), 3) as view:
        view[:] = b"two"


def mode_alone(path: Path) -> None:
    path.chmod(0o755)


def longer(path: Path) -> None:
    before = times(path)
    path.write_text("one more")
    os.utime(path, ns=before)


def made_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("one")


EDITS = [in_place, times_restored, replaced, through_a_mapping, mode_alone, longer, made_a_link]


@pytest.mark.each_value
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
@pytest.mark.parametrize("settled", [False, True], ids=["at once", "later"])
def test_no_edit_goes_unseen(repo: Repository, edit: Callable[[Path], None], settled: bool) -> None:
    """At once: git's racy case, where file and index are of the same tick of the clock."""
    if settled:
        settle()
        assert repo.status().unstaged == ()
    edit(Path("file"))
    assert repo.status().unstaged == MODIFIED
    assert repo.status().unstaged == MODIFIED
    repo.stage(["file"])
    assert repo.status().staged == MODIFIED


@pytest.mark.parametrize("edit", [in_place, times_restored], ids=lambda edit: edit.__name__)
def test_an_edit_right_after_a_checkout_is_seen(
    repo: Repository, edit: Callable[[Path], None]
) -> None:
    Path("file").write_text("six")
    repo.stage(["file"])
    repo.commit("second")
    repo.checkout("HEAD~1")
    edit(Path("file"))
    assert repo.status().unstaged == MODIFIED
    repo.restore(["file"])
    edit(Path("file"))
    assert repo.status().unstaged == MODIFIED


def test_times_of_whole_seconds_prove_little(repo: Repository) -> None:
    """As on FAT, where a file may be written again two seconds later without its times moving."""
    second = 1_700_000_000 * 10**9
    os.utime("file", ns=(second, second))
    assert repo.status().unstaged == ()
    in_place(Path("file"))
    os.utime("file", ns=(second, second))
    assert repo.status().unstaged == MODIFIED


def test_an_edit_without_any_trace_is_seen(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On file systems of coarse times, file and index are of the same tick: all stats are equal.

    Kernels since 6.13 hide the case by finer times, hence the pretence.
    """
    second = time.time_ns() // 10**9 * 10**9

    def coarse(stat: os.stat_result) -> os.stat_result:
        times = {"st_mtime_ns": second, "st_ctime_ns": second}
        return os.stat_result(tuple(stat), times)

    fstat, look = os.fstat, Worktree.stat
    monkeypatch.setattr(os, "fstat", lambda fd: coarse(fstat(fd)))
    monkeypatch.setattr(Worktree, "stat", lambda *given: (s := look(*given)) and coarse(s))
    see(monkeypatch, lambda _, stat: coarse(stat))
    Path("file").write_text("new")
    repo.stage(["file"])
    in_place(Path("file"))
    assert repo.status().unstaged == MODIFIED
    repo.stage(["file"])
    repo.commit("second")
    assert repo.status().clean
    assert b"".join(repo.cat("HEAD", "file")) == b"two"


# --- no edits -------------------------------------------------------------------------------


def test_touch_is_no_change_and_is_looked_into_once(repo: Repository, reads: list[str]) -> None:
    settle()
    Path("file").touch()
    settle()
    assert repo.status().clean
    assert reads == ["file"]
    assert repo.status().clean
    assert reads == ["file"]
    assert repo.stage(["file"]).changes == ()
    assert reads == ["file"]


def test_a_clean_file_is_not_read_again(repo: Repository, reads: list[str]) -> None:
    assert repo.status().clean  # reads it if it is too young to be trusted
    settle()
    assert repo.status().clean
    reads.clear()
    assert repo.status().clean
    assert repo.stage(["."]).changes == ()
    assert reads == []


def test_where_nothing_changed_each_file_is_looked_at_once(
    repo: Repository, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"d{n}/{name}" for n in range(3) for name in "abc"]
    for name in names:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    repo.stage(["."])
    repo.commit("more")
    settle()
    assert repo.status().clean
    Path("untracked").touch()
    reads.clear()
    looks: list[str] = []
    read: list[list[str]] = []
    rows = Index.rows

    def spy(self: Index, paths: Iterable[str]) -> dict[str, Row]:
        read.append(list(paths))
        return rows(self, paths)

    see(monkeypatch, lambda name, stat: (looks.append(name), stat)[1])
    monkeypatch.setattr(Worktree, "stat_in", None)
    monkeypatch.setattr(Index, "rows", spy)
    assert repo.status().clean
    assert sorted(looks) == sorted(["file", *(name[3:] for name in names)])
    assert reads == read == []
    in_place(Path("file"))
    assert repo.status().unstaged == MODIFIED
    assert read == [["file"]]


@pytest.mark.parametrize("rule", ["file", "d/", "*"])
def test_what_is_tracked_is_looked_at_though_it_is_ignored(repo: Repository, rule: str) -> None:
    Path("d/e").mkdir(parents=True)
    Path("d/e/inside").write_text("one")
    repo.stage(["."])
    repo.commit("deep")
    Path(".dorkyignore").write_text(rule)
    Path("d/e/other.env").touch()
    settle()
    found = repo.status()
    assert found.clean
    assert found.secrets == (("d/e/other.env",) if rule == "file" else ())
    in_place(Path("file"))
    in_place(Path("d/e/inside"))
    assert repo.status().unstaged == (Change("d/e/inside", "modified"), *MODIFIED)
    Path("d/e/inside").unlink()
    assert repo.status().unstaged == (Change("d/e/inside", "deleted"), *MODIFIED)


def test_a_directory_where_a_file_was_is_looked_into(repo: Repository) -> None:
    Path("file").unlink()
    Path("file").mkdir()
    Path("file/.env").touch()
    found = repo.status()
    assert found.unstaged == (Change("file", "deleted"),)
    assert found.secrets == ("file/.env",)


def test_links_are_proved_by_their_stat_as_well(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("link").symlink_to("file")
    repo.stage(["link"])
    repo.commit("link")
    settle()
    assert repo.status().clean
    if os.lstat("link").st_mode & 0o777 == 0o777:
        monkeypatch.setattr(Index, "rows", None)
    assert repo.status().clean


def test_proofs_say_what_rows_say(tmp_path: Path) -> None:
    """One in SQL for all rows, the other in Python for one: the same rule, twice."""
    second, modes = 10**9, (stat.S_IFREG | 0o644, stat.S_IFLNK)
    moments = [base + ms * 10**6 for base in (second, 3 * second) for ms in (-20, 0, 10, 20, 21)]
    found = {}
    for n, (mode, absent, mtime, ctime, seen) in enumerate(
        itertools.product(modes, (False, True), moments, moments, [0, *moments])
    ):
        row = Row(f"{n}", mode, 1, "0" * 64, "", absent, mtime, ctime, 7, seen)
        on_disk = mode | 0o777 if mode == stat.S_IFLNK else mode
        times = {"st_mtime_ns": mtime, "st_ctime_ns": ctime}
        found[row] = os.stat_result((on_disk, 7, 0, 1, 0, 0, 1, 0, 0, 0), times)
    database = Database(tmp_path / "db")
    Index(database).put(found)
    proofs = Index(database).proofs()
    database.close()
    told = [row.fresh(stat) and not row.absent for row, stat in found.items()]
    assert set(told) == {False, True}
    assert told == [
        proofs[row.path] == (stat.st_mode, 1, 7, row.mtime, row.ctime)
        for row, stat in found.items()
    ]


def test_a_file_that_was_checked_out_is_not_read_again(repo: Repository, reads: list[str]) -> None:
    Path("file").write_text("two")
    repo.stage(["file"])
    repo.commit("second")
    settle()
    repo.checkout("HEAD~1")
    settle()
    assert repo.status().clean
    settle()
    reads.clear()
    assert repo.status().clean
    assert reads == []


def test_back_to_the_old_content_is_clean(repo: Repository) -> None:
    Path("file").write_text("two")
    assert not repo.status().clean
    Path("file").write_text("one")
    assert repo.status().clean
    Path("file").write_text("two")
    repo.stage(["file"])
    Path("file").write_text("one")
    repo.stage(["file"])
    assert repo.status().clean


def test_what_is_known_outlives_the_process(repo: Repository, reads: list[str]) -> None:
    names = ["new\nline", "é", "e\u0301", "日本", "-x"]
    for name in names:
        Path(name).write_text(name)
    repo.stage(["."])
    repo.commit("names")
    settle()
    assert repo.status().clean
    repo.close()
    reads.clear()
    with Repository(repo.root) as again:
        assert again.status().clean
        assert {each.path for each in again.ls()} == {"file", *names}
    assert reads == []


def test_what_status_learned_never_undoes_what_was_staged_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo, _ = Repository.init(tmp_path)
    with repo, Repository(repo.root) as other:
        path = repo.root / "a"
        path.write_text("1")
        repo.stage([path])
        repo.commit("one")
        holds = staging.holds

        def then(*arguments: Any) -> bool:
            answer = holds(*arguments)
            monkeypatch.setattr(staging, "holds", holds)
            path.write_text("2")
            other.stage([path])
            return answer

        monkeypatch.setattr(staging, "holds", then)
        path.touch()
        repo.status()
        assert repo.status().staged == (Change("a", "modified"),)
        other.commit("two")
        assert b"".join(repo.cat("HEAD", "a")) == b"2"


def test_the_index_forgets_its_commit_with_every_change(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    index = Index(database)
    row = Row("a", 0o100644, 1, "0" * 64, "")
    for change in (lambda: index.put([row]), lambda: index.remove(["a"])):
        index.set_commit("1" * 64)
        change()
        assert index.commit is None
    index.put([row])
    index.set_commit("1" * 64)
    index.refresh([row._replace(seen=7), row._replace(path="b")])
    assert index.commit == "1" * 64
    assert index.rows() == {"a": row._replace(seen=7)}
    database.close()


# --- what was staged since a commit ---------------------------------------------------------


def grow(repo: Repository) -> None:
    for name in ("d/a", "d/b", "e/f/c"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("one")
    repo.stage(["."])
    repo.commit("more")


def test_what_is_staged_is_told_from_what_changed_since_the_commit(repo: Repository) -> None:
    grow(repo)

    def edit(name: str) -> None:
        Path(name).write_text(f"{time.time_ns()}")
        repo.stage([name])

    def swap() -> None:
        for name in ("a", "b", "new"):
            Path("d", name).unlink(missing_ok=True)
        Path("d").rmdir()
        Path("d").touch()
        repo.stage(["."])

    steps: list[Callable[[], object]] = [
        *(lambda: edit("d/a"), lambda: edit("new"), lambda: edit("d/new"), repo.undo),
        *(lambda: repo.rm(["d/b"]), lambda: repo.unstage(["d/a"]), lambda: repo.commit("again")),
        *(lambda: edit("file"), swap, repo.undo, lambda: edit("e/f/c")),
        *(lambda: repo.unstage(["."]), lambda: edit("file")),
    ]
    known = 0
    for step in steps:
        step()
        found = repo.status().staged
        known += repo.index.since is not None
        commit, since = repo.index.commit, repo.database.get("index.since")
        repo.index.set_commit(None)
        assert repo.status().staged == found
        repo.index.set_commit(commit)
        repo.database.set("index.since", since or b"")
    assert known > len(steps) / 2


def test_only_directories_with_staged_files_are_read(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(repo)
    Path("d/a").write_text("two")
    repo.stage(["d/a"])
    trees = []
    really = directories.read_node

    def spy(store: Store, tree: str, group: str | None = None) -> Tree:
        trees.append(tree)
        return really(store, tree, group)

    monkeypatch.setattr(directories, "read_node", spy)
    assert repo.status().staged == (Change("d/a", "modified"),)
    assert len(trees) == 2
    monkeypatch.setattr(index_module, "_FEW", 1)
    Path("d/b").write_text("two")
    repo.stage(["d/b"])
    assert repo.index.since is None
    assert len(repo.status().staged) == 2
    assert len(trees) == 2 + 4


def test_what_another_command_staged_meanwhile_is_not_kept_from_view(repo: Repository) -> None:
    """The old content comes back, with its old stat: what was proof of it proves nothing now."""
    with Repository(repo.root) as other:
        assert other.status().clean
        row = other.index.rows()["file"]
        repo.index.put([row._replace(content="1" * 64, seen=0, mtime=0, ctime=0, inode=0)])
        assert other.status().unstaged == MODIFIED


# --- on the way in --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 3500])
def test_rows_are_kept_in_a_file_without_a_name(tmp_path: Path, count: int) -> None:
    rows = [
        Row(
            f"é/{n}", 0o100600, n, f"{n:064x}", "ab" * 32, absent=n % 2 == 0, mtime=-n, seen=1 << 62
        )
        for n in range(count)
    ]
    spool = Spool(tmp_path, Row._make)
    for n, row in enumerate(rows):
        spool.add(row)
        if n % 1500 == 7:
            assert list(spool) == rows[: n + 1]
    assert list(spool) == list(spool) == rows
    assert all(isinstance(row, Row) for row in spool)
    assert not list(tmp_path.iterdir())


def test_more_rows_than_are_noted_are_put(repo: Repository) -> None:
    head = repo.index.commit
    (row,) = repo.index.rows().values()
    few = [row._replace(path=f"few-{n}") for n in range(3)]
    repo.index.put(iter(few))
    assert repo.index.since == (head, ["few-0", "few-1", "few-2"])
    many = [row._replace(path=f"many-{n:04}") for n in range(2500)]
    repo.index.put(iter(many))
    assert repo.index.since is None
    assert [*repo.index.in_order()] == sorted([row, *few, *many])
    assert repo.index.rows() == {each.path: each for each in repo.index.in_order()}
