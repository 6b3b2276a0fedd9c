"""Taking back what was done: everything is as it was, byte for byte, and can be had again."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from clones import Pair
from depth import deep
from disks import Tree, file, link, plant
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from machines import Machine, files
from servers import Remote

from dorky import errors
from dorky.repo import Repository
from dorky.store import oplog

BASE = {
    ".env": file("A=1\nB=2\n", 0o600),
    "a": file("1\n"),
    "d/x": file("x\n", 0o755),
    "d/y": file(b"\0y", 0o400),
    "l": link("a"),
}
NOW = timedelta(0)


@contextlib.contextmanager
def two_clones(directory: Path, *, plain: bool) -> Iterator[Pair]:
    url = str(directory / "vault")
    ana, _ = Repository.init(directory / "ana", url, plain=plain)
    Pair(ana, ana).commit(ana, BASE)
    ana.push()
    ben, _ = Repository.clone(url, directory / "ben", plain=plain)
    with ana, ben:
        os.chdir(ben.root)
        yield Pair(ana, ben)


@pytest.fixture(params=[False, *deep(True)], ids=["sealed", "plain"])
def pair(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pair]:
    monkeypatch.chdir(tmp_path)
    with two_clones(tmp_path, plain=request.param) as made:
        yield made


@pytest.fixture
def ben(pair: Pair) -> Repository:
    return pair.ben


def snapshot(repo: Repository) -> dict[str, Any]:
    """All that an undo is to bring back."""
    refs = repo.database.refs()
    status = repo.status()
    return {
        "files": files(repo.root),
        "refs": {name: held for name, held in refs.items() if not name.startswith("origin/")},
        "rows": {path: row[1:6] for path, row in repo.index.rows().items()},
        "groups": repo.index.groups,
        "values": [repo.database.get(key) or b"" for key in ("head", "merge")],
        "status": (status.head, status.staged, status.unstaged, status.conflicts, status.absent),
    }


def write(repo: Repository, path: str, content: bytes | str, mode: int = 0o644) -> None:
    target = repo.root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.write_bytes(content.encode() if isinstance(content, str) else content)
    target.chmod(mode)


def commit(repo: Repository, tree: Tree) -> None:
    Pair(repo, repo).commit(repo, tree)


# --- every operation ------------------------------------------------------------------------

Does = Callable[[], object]
SCENARIOS: dict[str, Callable[[Pair], Does]] = {}


def scenario(prepare: Callable[[Pair], Does]) -> Callable[[Pair], Does]:
    """Something that is prepared, and then done and undone."""
    SCENARIOS[prepare.__name__] = prepare
    return prepare


def edits(repo: Repository) -> None:
    """Something of everything, not staged."""
    write(repo, "a", "edited\n", 0o600)
    write(repo, "new", "new\n", 0o755)
    (repo.root / "d/x").unlink()
    (repo.root / "l").unlink()
    (repo.root / "l").symlink_to("elsewhere")


@scenario
def stage(pair: Pair) -> Does:
    edits(pair.ben)
    return lambda: pair.ben.stage(".")


@scenario
def stage_again(pair: Pair) -> Does:
    edits(pair.ben)
    pair.ben.stage(".")
    write(pair.ben, "a", "edited again\n")
    write(pair.ben, "new", "2")
    return lambda: pair.ben.stage(["a", "new"])


@scenario
def stage_a_directory_in_a_files_place(pair: Pair) -> Does:
    (pair.ben.root / "a").unlink()
    write(pair.ben, "a/b/c", "below\n")
    return lambda: pair.ben.stage("a")


@scenario
def unstage(pair: Pair) -> Does:
    edits(pair.ben)
    pair.ben.stage(".")
    write(pair.ben, "a", "and edited\n")
    return lambda: pair.ben.unstage(".")


@scenario
def rm(pair: Pair) -> Does:
    return lambda: pair.ben.rm(["a", "d"])


@scenario
def rm_cached(pair: Pair) -> Does:
    edits(pair.ben)
    return lambda: pair.ben.rm(["a", "d", "l"], cached=True)


@scenario
def rm_what_is_kept_nowhere(pair: Pair) -> Does:
    edits(pair.ben)
    write(pair.ben, "staged", "only staged\n")
    write(pair.ben, "twice", "staged\n")
    pair.ben.stage(["staged", "twice"])
    write(pair.ben, "twice", "and edited\n", 0o700)
    return lambda: pair.ben.rm(["a", "d", "l", "staged", "twice"], force=True)


@scenario
def commit_what_is_staged(pair: Pair) -> Does:
    edits(pair.ben)
    pair.ben.stage(["a", "new"])
    return lambda: pair.ben.commit("some")


@scenario
def commit_all(pair: Pair) -> Does:
    edits(pair.ben)
    return lambda: pair.ben.commit("all", all=True)


@scenario
def restore(pair: Pair) -> Does:
    edits(pair.ben)
    return lambda: pair.ben.restore(".")


@scenario
def restore_where_a_directory_is(pair: Pair) -> Does:
    (pair.ben.root / "a").unlink()
    write(pair.ben, "a/b", "in the way\n")
    write(pair.ben, "a/c/d", "and that\n", 0o600)
    return lambda: pair.ben.restore("a")


@scenario
def restore_where_a_file_is(pair: Pair) -> Does:
    shutil.rmtree(pair.ben.root / "d")
    write(pair.ben, "d", "in the way\n", 0o600)
    return lambda: pair.ben.restore("d/x")


@scenario
def restore_from_a_revision(pair: Pair) -> Does:
    commit(pair.ben, {"a": file("2\n"), "d/x": file("x\n"), "l": link("x"), "n": file("n")})
    edits(pair.ben)
    pair.ben.stage("a")
    write(pair.ben, "a", "edited more\n")
    return lambda: pair.ben.restore(".", source="HEAD~1")


@scenario
def checkout(pair: Pair) -> Does:
    commit(pair.ben, {"a": file("2\n"), "d": file("a file now"), "n/m": file("n")})
    return lambda: pair.ben.checkout("HEAD~1")


@scenario
def checkout_and_back(pair: Pair) -> Does:
    commit(pair.ben, {"a": file("2\n"), "n/m": file("n")})
    pair.ben.checkout("HEAD~1")
    return lambda: pair.ben.checkout("main")


@scenario
def checkout_over_edits(pair: Pair) -> Does:
    commit(pair.ben, {"a": file("2\n"), "n": file("n"), "s": file("s")})
    write(pair.ben, "a", "edited\n", 0o700)
    write(pair.ben, "d/x", "untracked\n", 0o600)
    write(pair.ben, "s", "staged\n")
    pair.ben.stage("s")
    write(pair.ben, "s", "edited, too\n")
    write(pair.ben, "elsewhere", "not in the way\n")
    return lambda: pair.ben.checkout("HEAD~1", force=True)


@scenario
def checkout_of_what_is_there_already(pair: Pair) -> Does:
    commit(pair.ben, {"a": file("2\n")})
    write(pair.ben, "d/x", "x\n", 0o755)
    return lambda: pair.ben.checkout("HEAD~1")


def pushed(pair: Pair, tree: Tree) -> None:
    commit(pair.ana, tree)
    pair.ana.push()
    os.chdir(pair.ben.root)


THEIRS = {"a": file("theirs\n"), "d/x": file("x\n"), "t/n": file("new\n", 0o600), "l": link("t")}


@scenario
def pull(pair: Pair) -> Does:
    pushed(pair, THEIRS)
    write(pair.ben, "edited", "not in the way\n")
    return pair.ben.pull


@scenario
def pull_merged(pair: Pair) -> Does:
    pushed(pair, {**BASE, "a": file("theirs\n"), "t": file("t")})
    commit(pair.ben, {**BASE, "d/x": file("ours\n"), "o": file("o")})
    return pair.ben.pull


@scenario
def pull_conflicting(pair: Pair) -> Does:
    pushed(pair, {**THEIRS, "d/y": file(b"\0theirs")})
    commit(pair.ben, {**BASE, "a": file("ours\n"), "d/y": file(b"\0ours"), "o": file("o")})
    return pair.ben.pull


@scenario
def pull_over_edits(pair: Pair) -> Does:
    pushed(pair, THEIRS)
    edits(pair.ben)
    write(pair.ben, "t/n", "untracked\n")
    write(pair.ben, "d/y", b"\0staged")
    pair.ben.stage(["d/y", "l"])
    write(pair.ben, "d/y", b"\0edited", 0o600)
    return lambda: pair.ben.pull(force=True)


@scenario
def pull_of_single_files(pair: Pair) -> Does:
    pushed(pair, THEIRS)
    return lambda: pair.ben.pull("a")


@scenario
def pull_of_what_was_left_out(pair: Pair) -> Does:
    pushed(pair, THEIRS)
    pair.ben.pull("a")
    return pair.ben.pull


def in_conflict(pair: Pair) -> None:
    assert pull_conflicting(pair)().conflicts  # type: ignore[attr-defined]


@scenario
def resolve_with_ours(pair: Pair) -> Does:
    in_conflict(pair)
    return lambda: pair.ben.resolve(".", ours=True)


@scenario
def resolve_with_theirs(pair: Pair) -> Does:
    in_conflict(pair)
    write(pair.ben, "a", "half done\n")
    return lambda: pair.ben.resolve(["a", "d"], theirs=True)


@scenario
def resolve_as_it_is(pair: Pair) -> Does:
    in_conflict(pair)
    write(pair.ben, "a", "both\n")
    return lambda: pair.ben.resolve(".")


@scenario
def merge_continue(pair: Pair) -> Does:
    in_conflict(pair)
    pair.ben.resolve(".", theirs=True)
    return pair.ben.merge_continue


@scenario
def merge_abort(pair: Pair) -> Does:
    in_conflict(pair)
    write(pair.ben, "a", "half done\n")
    return pair.ben.merge_abort


@scenario
def set_a_variable(pair: Pair) -> Does:
    write(pair.ben, ".env", "A=edited\n", 0o640)
    return lambda: pair.ben.set(".env", "C", "3")


@scenario
def set_a_variable_in_a_new_file(pair: Pair) -> Does:
    return lambda: pair.ben.set("c/new.json", "C", "3")


@scenario
def unset_a_variable(pair: Pair) -> Does:
    return lambda: pair.ben.unset(".env", "A")


@scenario
def edit(pair: Pair) -> Does:
    write(pair.ben, "a", "not staged\n")
    return lambda: pair.ben.edit("a", lambda draft: bool(draft.write_text("in the editor\n")))


@scenario
def edit_what_is_not_on_disk(pair: Pair) -> Does:
    (pair.ben.root / "a").unlink()
    return lambda: pair.ben.edit("a", lambda draft: bool(draft.write_text("in the editor\n")))


@pytest.mark.parametrize("name", SCENARIOS)
def test_everything_is_as_it_was(pair: Pair, name: str) -> None:
    """With all that time may bring between: the keys rotated, the garbage collected."""
    ben = pair.ben
    do = SCENARIOS[name](pair)
    before = snapshot(ben)
    do()
    after = snapshot(ben)
    assert after != before
    if ben.vault.sealed:
        ben.rotate()
    ben.gc(grace=NOW)
    done = ben.undo()
    assert done.backup == ""
    assert len(done.operations) == 1
    assert {each.path: each.what for each in done.changes} == changed(after, before)
    assert snapshot(ben) == before
    ben.gc(grace=NOW)
    ben.undo()
    assert snapshot(ben) == after
    ben.undo()
    assert snapshot(ben) == before
    assert not [each for each in ben.fsck(read_data=(1, 1)).findings if each.fatal]


def changed(old: dict[str, Any], new: dict[str, Any]) -> dict[str, str]:
    """What happened to files on disk."""
    was, now = old["files"], new["files"]
    return {
        path: "modified" if path in was and path in now else "added" if path in now else "deleted"
        for path in was.keys() | now.keys()
        if was.get(path) != now.get(path)
    }


def test_a_group_is_added(ana: Machine, file_url: Remote) -> None:
    """Who is in it stays; its commit and what is staged are as before, until the next pull."""
    ana("init", file_url.url, "--name", "ana")
    ana.commit({"a": "1\n", "prod/b": "2\n", "prod/c": "3\n"})
    ana("push")
    ana.write("a", "edited\n")
    with ana.repo() as repo:
        before = snapshot(repo)
        repo.group_add("prod", ["prod/**"])
        after = snapshot(repo)
        assert after["refs"] != before["refs"]
        assert repo.undo().published
        assert snapshot(repo) == before
        repo.undo()
        assert snapshot(repo) == after
        repo.undo()
        repo.pull()
        assert snapshot(repo) == after
        repo.commit("more", all=True)
        repo.push()


# --- several, and none ----------------------------------------------------------------------


def test_several_operations_are_undone_at_once(ben: Repository) -> None:
    states = [snapshot(ben)]
    for n in range(4):
        write(ben, "a", f"{n}\n")
        write(ben, f"n{n}", f"{n}\n")
        ben.stage(["a", f"n{n}"])
        ben.commit(f"{n}")
        states.append(snapshot(ben))
    done = ben.undo(4)
    assert [each.command for each in done.operations] == [
        "commit",
        "stage a, n3",
        "commit",
        "stage a, n2",
    ]
    kept = states[2]
    # Nobody but their author wrote these files.
    assert snapshot(ben)["files"] == states[4]["files"]
    assert snapshot(ben)["refs"] == kept["refs"]
    assert snapshot(ben)["rows"] == kept["rows"]
    ben.undo()
    assert snapshot(ben) == states[4]
    # Each undo is an operation itself.
    ben.undo(4)
    assert snapshot(ben)["rows"] == states[3]["rows"]
    ben.undo(2)
    assert snapshot(ben)["rows"] == states[2]["rows"]


@pytest.mark.parametrize("count", [0, -1])
def test_less_than_one_operation_is_none(ben: Repository, count: int) -> None:
    ben.stage(".")
    with pytest.raises(errors.UsageError, match=f"{count} operations can't"):
        ben.undo(count)


def test_more_than_were_done_can_not_be_undone(ben: Repository) -> None:
    write(ben, "a", "2\n")
    ben.commit("2", all=True)
    before = snapshot(ben)
    with pytest.raises(errors.UsageError, match="Only 1 operation"):
        ben.undo(2)
    assert snapshot(ben) == before
    assert len(ben.op_log()) == 1


def test_nothing_to_undo(repo: Repository, ben: Repository) -> None:
    for each in (repo, ben):  # the first pull is a beginning, not a change
        assert each.op_log() == []
        with pytest.raises(errors.NothingToDo):
            each.undo()


def test_what_changed_nothing_is_no_operation(pair: Pair) -> None:
    ben = pair.ben
    write(ben, "a", "2\n")
    ben.commit("2", all=True)
    for nothing in (
        ben.pull,
        ben.fetch,
        ben.status,
        ben.sync,
        ben.sync,
        lambda: ben.stage("."),
        lambda: ben.unstage("."),
        lambda: ben.restore("."),
        lambda: ben.checkout("main"),
        lambda: ben.set(".env", "A", "1"),
        lambda: ben.edit("a", lambda draft: None),
    ):
        nothing()
    for refused, error in (
        (lambda: ben.commit("nothing"), errors.NothingToDo),
        (lambda: ben.stage("nowhere"), errors.PathNotFound),
        (lambda: ben.rm("nowhere"), errors.PathNotTracked),
        (lambda: ben.checkout("nowhere"), errors.UnknownRevision),
        (ben.merge_abort, errors.NothingToDo),
        (ben.merge_continue, errors.NothingToDo),
    ):
        with pytest.raises(error):
            refused()
    assert [each.command for each in ben.op_log()] == ["commit"]


# --- edited since ---------------------------------------------------------------------------


def test_later_edits_are_not_undone(ben: Repository) -> None:
    write(ben, "a", "2\n")
    ben.restore("a")
    for change in ("content", "mode", "link"):
        write(ben, "a", "later\n" if change == "content" else "1\n", 0o755)
        if change == "link":
            (ben.root / "a").unlink()
            (ben.root / "a").symlink_to("elsewhere")
        before = snapshot(ben)
        with pytest.raises(errors.LocalChanges, match="a"):
            ben.undo()
        assert snapshot(ben) == before
        assert len(ben.op_log()) == 1
    done = ben.undo(force=True)
    assert files(ben.root)["a"] == file("2\n")
    assert b"".join(ben.cat(done.backup, "a")) == b"elsewhere"
    assert done.backup in ben.database.refs()
    ben.undo()
    assert files(ben.root)["a"] == link("elsewhere")


def test_a_file_in_the_way_of_an_undo_is_not_lost(ben: Repository) -> None:
    ben.rm(["d", "a"])
    write(ben, "d", "a file\n")
    write(ben, "a/b", "below\n")
    before = snapshot(ben)
    with pytest.raises(errors.LocalChanges, match="a/b"):
        ben.undo()
    assert snapshot(ben) == before
    done = ben.undo(force=True)
    assert files(ben.root) == BASE
    kept = {each.path for each in ben.ls(done.backup)}
    assert kept == {"d", "a/b"}
    ben.undo()
    assert files(ben.root) == before["files"]


def test_a_file_that_is_gone_since_comes_back(ben: Repository) -> None:
    write(ben, "a", "2\n")
    ben.restore("a")
    (ben.root / "a").unlink()
    ben.undo()
    assert files(ben.root)["a"] == file("2\n")


def test_edits_between_operations_are_kept_in_the_log(ben: Repository) -> None:
    """What only the worktree held, at any time, can be had back."""
    held = []
    for n in range(4):
        held.append(f"edited {n}\n")
        write(ben, "a", held[-1])
        ben.restore("a")
    ben.gc(grace=NOW)
    for content in reversed(held):
        ben.undo(2 * (len(held) - held.index(content)) - 1)
        assert (ben.root / "a").read_text() == content
        ben.gc(grace=NOW)


def test_what_was_pushed_stays_pushed(pair: Pair) -> None:
    ben = pair.ben
    write(ben, "a", "2\n")
    ben.commit("2", all=True)
    assert not ben.undo().published
    ben.undo()
    ben.push()
    assert [each.command for each in ben.op_log(limit=1)] == ["undo undo commit"]
    head = ben.status().head
    done = ben.undo(3)
    assert done.published
    assert done.head != head
    assert ben.status().behind == 1
    pair.ana.pull()
    assert (pair.ana.root / "a").read_text() == "2\n"
    ben.restore(".")
    ben.pull()
    assert ben.status().head == head


# --- the log --------------------------------------------------------------------------------


def test_the_log_names_commands_and_files_but_no_values(ana: Machine) -> None:
    ana("init", "--plain")
    ana.write(".env", "A=hunter1\n")
    ana("stage", ".env", "-q")
    with ana.repo() as repo:
        repo.set(".env", "B", "hunter2")
    ana("commit", "-m", "first line\n\nand hunter3")
    ana("rm", ".env")
    ana("undo")
    said = ana("op", "log")
    shown = [line.split(None, 3) for line in said.out.splitlines()]
    assert [int(line[0]) for line in shown] == [5, 4, 3, 2, 1]
    assert [line[3] for line in shown] == [
        "undo rm .env  (1 file)",
        "rm .env  (1 file)",
        "commit 'first line'",
        "set B  (1 file)",
        "stage .env  (1 file)",
    ]
    found = ana("op", "log", "--json", "-n", "2").json
    assert [(each["number"], each["command"], each["paths"]) for each in found] == [
        (5, "undo rm .env", [".env"]),
        (4, "rm .env", [".env"]),
    ]
    assert "hunter" not in said.out + str(found)
    with ana.repo() as repo:
        stored = "\n".join(repo.database.connection.iterdump())
    assert "hunter" not in stored
    assert ana("undo", "--json").json["changes"] == [{"path": ".env", "what": "deleted"}]
    ana.write(".env", "A=hunter4\n")
    said = ana("undo", code=5)
    assert ".env" in said.error
    assert said.hint.startswith("dorky undo --force")
    said = ana("undo", "--force")
    assert "backup/1" in said.out + said.err
    assert ana.read(".env") == b"A=hunter1\nB=hunter2\n"


# --- any sequence ---------------------------------------------------------------------------

_PATHS = ["a", "b", "d", "d/a", "d/b", ".env", "."]
_paths = st.one_of(st.just(["."]), st.sampled_from(_PATHS).map(lambda path: [path]))
_TREES = st.dictionaries(
    st.sampled_from([path for path in _PATHS if path != "."]),
    st.one_of(
        st.builds(
            file, st.integers(0, 9).map(lambda n: f"K={n}\n"), st.sampled_from([0o600, 0o755])
        ),
        st.sampled_from(["a", "nowhere"]).map(link),
    ),
    min_size=2,
    max_size=4,
).filter(lambda tree: "d" not in tree or not tree.keys() & {"d/a", "d/b"})

Step = tuple[str, tuple[Any, ...], dict[str, Any]]
"""A method of a repository, and its arguments."""
Sequence = tuple[list[Tree], list[Step], list[int], bool]
"""Two commits and edits, what is done then, how far each undo goes back, and whether plain."""


def _calls(method: str, *values: st.SearchStrategy[Any], **options: Any) -> Any:
    return st.tuples(st.just(method), st.tuples(*values), st.just(options))


_STEPS: st.SearchStrategy[Step] = st.one_of(
    _calls("stage", _paths),
    _calls("unstage", _paths),
    _calls("rm", _paths),
    _calls("rm", _paths, force=True),
    _calls("rm", _paths, cached=True),
    _calls("restore", _paths),
    _calls("restore", _paths, source="HEAD"),
    _calls("restore", _paths, source="HEAD~1"),
    _calls("commit", st.just("staged")),
    _calls("commit", st.just("all"), all=True),
    _calls("checkout", st.sampled_from(["main", "HEAD~1", "main~1"])),
    _calls("checkout", st.sampled_from(["main", "HEAD~1", "main~1"]), force=True),
    _calls("set", st.just(".env"), st.sampled_from("KL"), st.just("5")),
    _calls("unset", st.just(".env"), st.just("K")),
    _calls("gc", grace=NOW),
    _calls("undo", st.integers(1, 3)),
)


def without_backups(repo: Repository) -> dict[str, Any]:
    """What is undone at once may have kept edits from between: these backups stay."""
    found = snapshot(repo)
    found["refs"] = {name: held for name, held in found["refs"].items() if name == "main"}
    return found


def run_any_sequence(directory: Path, sequence: Sequence) -> None:
    trees, steps, back, plain = sequence
    place = Path(tempfile.mkdtemp(dir=directory)).resolve()
    repo, _ = Repository.init(place, plain=plain)
    with repo:
        first, second, edited = trees
        commit(repo, first)
        commit(repo, second)
        plant(place, edited)
        (place / "kept").write_text("nobody's\n")
        states = [without_backups(repo)]
        done = len(repo.op_log())
        for method, arguments, options in steps:
            with contextlib.suppress(errors.DorkyError):
                getattr(repo, method)(*arguments, **options)
            if (now := len(repo.op_log())) > done:
                done += 1
                states.append(without_backups(repo))
            assert now == done
            assert without_backups(repo) == states[-1]
        for count in back:
            if count < len(states):
                repo.undo(count)
                assert without_backups(repo) == states[-1 - count]
                repo.gc(grace=NOW)
                if len(repo.op_log()) == done:
                    continue  # things are as they were then: nothing has been done
                repo.undo()
                assert without_backups(repo) == states[-1]
                states += [states[-1 - count], states[-1]]
                done += 2
        assert not [each for each in repo.fsck(read_data=(1, 1)).findings if each.fatal]


_SEQUENCES = given(
    sequence=st.tuples(
        st.lists(_TREES, min_size=3, max_size=3),
        st.lists(_STEPS, min_size=5, max_size=10),
        st.lists(st.integers(1, 8), min_size=1, max_size=3),
        st.booleans(),
    )
)
_SETTINGS = settings(
    deadline=None,
    max_examples=6,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@_SETTINGS
@_SEQUENCES
def test_any_sequence_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sequence: Sequence
) -> None:
    monkeypatch.chdir(tmp_path)
    run_any_sequence(tmp_path, sequence)


@pytest.mark.deep
@settings(_SETTINGS, max_examples=400)
@_SEQUENCES
def test_any_long_sequence_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sequence: Sequence
) -> None:
    monkeypatch.chdir(tmp_path)
    run_any_sequence(tmp_path, sequence)


# --- what else must not be lost, or shown ---------------------------------------------------


def diverge(pair: Pair, theirs: Tree, ours: Tree) -> None:
    assert pair.meet({**BASE, **theirs}, {**BASE, **ours}).conflicts


def test_what_was_kept_during_a_merge_outlives_its_end(pair: Pair) -> None:
    diverge(pair, {"a": file("theirs\n")}, {"a": file("ours\n")})
    plant(pair.ben.root, {**BASE, "a": file("merged with care\n")})
    backup = pair.ben.resolve("a", ours=True).backup
    assert backup
    pair.ben.merge_abort()
    assert b"".join(pair.ben.cat(backup, "a")) == b"merged with care\n"


def test_edits_between_undone_operations_stay_in_backups(ben: Repository) -> None:
    found = []
    for content in ("one\n", "two\n"):
        plant(ben.root, {**BASE, "a": file(content)})
        found.append(ben.restore("a").backup)
    ben.undo(2)
    assert (ben.root / "a").read_bytes() == b"one\n"
    assert b"".join(ben.cat(found[1], "a")) == b"two\n"


def test_git_ignores_what_an_undo_brings_back(pair: Pair) -> None:
    ben = pair.ben
    subprocess.run(["git", "init", "-q", ben.root], check=True)

    def exposed(*paths: str) -> list[str]:
        words = ["git", "ls-files", "--others", "--exclude-standard", "--", *paths]
        done = subprocess.run(words, cwd=ben.root, check=True, capture_output=True, text=True)
        return done.stdout.splitlines()

    ben.rm(".env", cached=True)
    ben.undo()
    assert ".env" in ben.index.rows()
    assert not exposed(".env")

    shutil.rmtree(ben.root / ".git")
    diverge(pair, {"b": file(b"\0theirs")}, {"b": file(b"\0ours")})
    ben.merge_abort()
    subprocess.run(["git", "init", "-q", ben.root], check=True)
    assert ben.pull().conflicts
    assert not exposed("b.theirs")
    ben.resolve("b", ours=True)
    ben.undo()
    assert (ben.root / "b.theirs").read_bytes() == b"\0theirs"
    assert not exposed("b.theirs")


def test_a_merge_whose_beginning_is_forgotten_can_only_be_ended(pair: Pair) -> None:
    diverge(pair, {"a": file("theirs\n")}, {"a": file("ours\n")})
    oplog.forget(pair.ben.database)
    with pytest.raises(errors.UsageError, match="not known any more"):
        pair.ben.merge_abort()
    assert pair.ben.status().conflicts
    pair.ben.resolve("a", ours=True)
    pair.ben.merge_continue()
    assert pair.ben.status().clean
