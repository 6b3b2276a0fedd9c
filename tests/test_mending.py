"""Taking back what was done: everything is as it was, byte for byte, and can be had again."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from disks import Tree, file, link
from machines import files
from test_merge import Pair

from dorky.repo import Repository

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
    ben, _ = Repository.clone(url, directory / "ben")
    with ana, ben:
        os.chdir(ben.root)
        yield Pair(ana, ben)


@pytest.fixture(params=[True, False], ids=["plain", "sealed"])
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


def conflicting(pair: Pair) -> None:
    assert pull_conflicting(pair)().conflicts  # type: ignore[attr-defined]


@scenario
def resolve_with_ours(pair: Pair) -> Does:
    conflicting(pair)
    return lambda: pair.ben.resolve(".", ours=True)


@scenario
def resolve_with_theirs(pair: Pair) -> Does:
    conflicting(pair)
    write(pair.ben, "a", "half done\n")
    return lambda: pair.ben.resolve(["a", "d"], theirs=True)


@scenario
def resolve_as_it_is(pair: Pair) -> Does:
    conflicting(pair)
    write(pair.ben, "a", "both\n")
    return lambda: pair.ben.resolve(".")


@scenario
def merge_continue(pair: Pair) -> Does:
    conflicting(pair)
    pair.ben.resolve(".", theirs=True)
    return pair.ben.merge_continue


@scenario
def merge_abort(pair: Pair) -> Does:
    conflicting(pair)
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
