"""A project inside a git repository: what git may see, delete and commit, and what it may not."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import snapshots
from depth import deep
from machines import Machine, git
from servers import Remote
from terminals import Terminal

import dorky.git
from dorky import errors
from dorky.store.index import Index
from dorky.worktree import staging


def untracked(machine: Machine) -> set[str]:
    return set(git(machine, "ls-files", "--others", "--exclude-standard").splitlines())


@pytest.fixture(params=["", *deep("--plain")], ids=["encrypted", "unencrypted"])
def in_git(ana: Machine, request: pytest.FixtureRequest) -> Machine:
    """A project with a file in git, on the branch ``main``; ``old`` is from before dorky."""

    def make() -> None:
        git(ana, "init", "-q", "-b", "main")
        ana.write("code.py", "1")
        git(ana, "add", "code.py")
        git(ana, "commit", "-q", "-m", "code")
        git(ana, "branch", "old")
        ana("init", *filter(None, [request.param]))

    snapshots.once([ana.base], make, "in git", request.param)
    return ana


def keep(machine: Machine, *paths: str) -> None:
    machine("stage", *paths)
    machine("commit", "-m", "kept")
    git(machine, "add", ".gitignore", ".dorkyrc")
    git(machine, "commit", "-q", "-m", "dorky")


# --- branches from before dorky -------------------------------------------------------------


def test_a_branch_from_before_dorky_neither_shows_nor_deletes_kept_files(in_git: Machine) -> None:
    in_git.write(".env", "K=1\n")
    in_git.write("data/a", "1")
    keep(in_git, ".env", "data")
    git(in_git, "checkout", "-q", "old")
    assert untracked(in_git) == set()
    git(in_git, "add", "-A")
    assert git(in_git, "status", "--short") == ""
    git(in_git, "checkout", "-q", "main")
    assert (in_git.read(".env"), in_git.read("data/a")) == (b"K=1\n", b"1")


def test_pulled_files_are_hidden_on_a_branch_from_before_dorky(
    in_git: Machine, file_url: Remote
) -> None:
    in_git.write(".env", "K=1\n")
    keep(in_git, ".env")
    in_git("remote", "add", "origin", file_url.url)
    in_git("push")
    git(in_git, "add", "-A")
    git(in_git, "commit", "-q", "-m", "remote")
    ben = in_git.another("ben")
    git(ben, "clone", "-q", str(in_git.project), ".")
    git(ben, "branch", "-q", "old", "origin/old")
    ben("pull")
    git(ben, "checkout", "-q", "old")
    assert untracked(ben) == set()
    assert ben.read(".env") == b"K=1\n"


def test_what_is_staged_on_a_branch_from_before_dorky_leaves_the_way_back_open(
    in_git: Machine,
) -> None:
    """A new `.gitignore`, or lines in that branch's own, would stop ``git checkout main``."""
    in_git.write(".env", "K=1\n")
    in_git.write("data/a", "1")
    keep(in_git, ".env", "data")
    git(in_git, "checkout", "-q", "old")
    in_git.write(".env", "K=2\n")
    in_git.write("new.pem", "k")
    in_git("stage", ".env", "new.pem")
    in_git("commit", "-m", "from the old branch")
    assert not (in_git.project / ".gitignore").exists()
    assert untracked(in_git) == set()
    git(in_git, "checkout", "-q", "main")
    assert (in_git.read(".env"), in_git.read("new.pem")) == (b"K=2\n", b"k")
    in_git("stage", "new.pem")
    assert untracked(in_git) == set()


def test_a_branch_from_before_dorky_whose_exclude_file_cannot_be_used(in_git: Machine) -> None:
    in_git.write(".env", "K=1\n")
    keep(in_git, ".env")
    git(in_git, "checkout", "-q", "old")
    exclude = in_git.project / ".git/info/exclude"
    exclude.unlink()
    exclude.symlink_to(in_git.write(".git/../code.py", "1"))
    in_git.write("new.pem", "k")
    in_git("stage", "new.pem")
    assert "new.pem" not in untracked(in_git)


@pytest.mark.parametrize("words", [("pull",), ("push",), ("save", "-m", "x", ".env")])
def test_the_remote_of_a_branch_from_before_dorky_is_not_missing(
    in_git: Machine, file_url: Remote, words: tuple[str, ...]
) -> None:
    """A hint to add one would make a `.dorkyrc` without pins, which git then trips over."""
    in_git.write(".env", "K=1\n")
    in_git("remote", "add", "origin", file_url.url)
    keep(in_git, ".env")
    git(in_git, "checkout", "-q", "old")
    said = in_git(*words, code=3)
    assert ".dorkyrc" in said.error
    assert "remote add" not in said.hint


def test_a_remote_that_is_named_again_brings_the_pins_back(
    in_git: Machine, file_url: Remote
) -> None:
    """Without them, a clone of it would believe any repository at the URL."""
    in_git.write(".env", "K=1\n")
    in_git("remote", "add", "origin", file_url.url)
    in_git("save", ".env", "-m", "x")
    before = in_git.read(".dorkyrc")
    (in_git.project / ".dorkyrc").unlink()
    in_git("remote", "add", "origin", file_url.url)
    assert in_git.read(".dorkyrc") == before
    in_git("pull")


# --- directories ----------------------------------------------------------------------------


def test_a_directory_that_was_named_is_one_line(in_git: Machine) -> None:
    for n in range(3):
        in_git.write(f"data/{n}", "1")
    said = in_git("stage", "data")
    assert said.err == "Told git to ignore 1 directory (in .gitignore)\n"
    assert b"\n/data/\n" in in_git.read(".gitignore")
    assert b"/data/0" not in in_git.read(".gitignore")


@pytest.mark.parametrize("other", ["in git", "git's own", "unkept", "a project"])
def test_a_directory_that_holds_something_else_is_not_ignored_as_a_whole(
    in_git: Machine, other: str
) -> None:
    in_git.write("data/a", "1")
    if other == "in git":
        in_git.write("data/code.py", "1")
        git(in_git, "add", "data/code.py")
    elif other == "git's own":
        in_git.write("data/.gitignore", "*.log\n")
    elif other == "a project":
        in_git.write("data/pay/.dorkyrc", "version = 2\n")
    else:
        in_git.write("data/b", "1")
    in_git("stage", "data/a" if other == "unkept" else "data")
    assert b"\n/data/a\n" in in_git.read(".gitignore")


def test_many_files_are_one_line(in_git: Machine) -> None:
    for n in range(120):
        in_git.write(f"a/many/{n}", "1")
    in_git.write("a/one", "1")
    in_git.write("b/code.py", "1")
    for n in range(120):
        in_git.write(f"b/{n}", "1")
    git(in_git, "add", "b/code.py")
    lines = in_git("stage", ".", "--json").json["ignored"]
    assert "/a/" in lines
    assert len([line for line in lines if line.startswith("/b/")]) == 120
    assert len(lines) == 121


def test_a_rule_of_the_users_is_respected(in_git: Machine) -> None:
    in_git.write(".gitignore", "*.env\n/data/\n")
    for path in ("a.env", "data/x", "data/y"):
        in_git.write(path, "1")
    said = in_git("stage", ".", "--json").json
    assert said["ignored"] == []
    assert in_git.read(".gitignore") == b"*.env\n/data/\n"
    git(in_git, "checkout", "-q", "old")
    (in_git.project / ".gitignore").unlink()
    assert untracked(in_git) == {".dorkyrc"}


# --- what is in neither ---------------------------------------------------------------------


@pytest.mark.parametrize("back", [("unstage", "."), ("undo",), ("restore", "--staged", ".")])
def test_what_was_never_committed_is_shown_to_git_again(
    in_git: Machine, back: tuple[str, ...]
) -> None:
    before = (in_git.project / ".git/info/exclude").read_bytes()
    in_git.write("new", "1")
    in_git.write("data/new", "1")
    in_git("stage", "new", "data")
    in_git(*back)
    assert not (in_git.project / ".gitignore").exists()
    assert (in_git.project / ".git/info/exclude").read_bytes() == before
    assert untracked(in_git) == {".dorkyrc", "data/new", "new"}
    git(in_git, "clean", "-fdX")
    assert in_git.read("new") == in_git.read("data/new") == b"1"


@pytest.mark.parametrize("line", ["/x", "/d/"])
def test_a_line_of_somebody_elses_outlives_a_stage_that_fails(
    in_git: Machine, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """The line came with a branch, before the file that it is for was pulled."""
    begin, end = "# >>> dorky: files kept by dorky, not by git >>>", "# <<< dorky <<<"
    in_git.write(".gitignore", f"{begin}\n{line}\n{end}\n")
    git(in_git, "add", ".gitignore", ".dorkyrc")
    path = line.strip("/").replace("d", "d/x")
    in_git.write(path, "secret")
    in_git.write("y", "secret")
    with monkeypatch.context() as patched:
        refused = errors.UnreadableFile("y", "no reason")
        patched.setattr(staging, "stage", mock.Mock(side_effect=refused))
        in_git("stage", path, "y", code=6)
    assert untracked(in_git) == {"y"}
    assert in_git.read(".gitignore").decode().split("\n")[1] == line


def test_what_is_committed_stays_hidden(in_git: Machine) -> None:
    in_git.write(".env", "1")
    keep(in_git, ".env")
    in_git.write(".env", "2")
    in_git("stage", ".env")
    in_git("unstage", ".env")
    assert untracked(in_git) == set()
    in_git("rm", "--cached", ".env")
    assert untracked(in_git) == {".env"}
    in_git("unstage", ".env")
    assert untracked(in_git) == set()
    in_git("rm", "--cached", ".env")
    in_git("undo")
    assert untracked(in_git) == set()


# --- other projects -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["project", "git", "worktree"])
def test_what_belongs_to_another_project_is_passed_over(in_git: Machine, kind: str) -> None:
    in_git.write("svc/own", "1")
    in_git.write("svc/pay/.env", "PAY=1\n")
    in_git.write("svc/pay/deep/.env", "PAY=1\n")
    nested = in_git.project / "svc/pay"
    if kind == "project":
        in_git.write("svc/pay/.dorkyrc", "version = 2\n")
    elif kind == "git":
        git(in_git, "init", "-q", at=nested)
    else:
        git(in_git, "worktree", "add", "-q", "linked")
        (in_git.project / "linked/.git").rename(nested / ".git")
        (in_git.project / "linked/code.py").unlink()
    assert in_git("status", "--json").json["secrets"] == []
    said = in_git("stage", "svc", "--json").json
    assert [change["path"] for change in said["changes"]] == ["svc/own"]
    assert said["nested"] == ["svc/pay"]
    assert "svc/pay" in in_git("stage", "svc/own", ".").err
    for path in ("svc/pay", "svc/pay/.env", "svc/pay/deep", "svc/pay/deep/.env"):
        refused = in_git("stage", path, code=2)
        assert refused.error == f"{path} belongs to another project, at svc/pay"
    in_git("commit", "-a", "-m", "all")
    assert [file["path"] for file in in_git("ls", "--json").json] == ["svc/own"]


def test_an_empty_git_directory_is_no_repository(in_git: Machine) -> None:
    in_git.write("svc/.env", "1")
    (in_git.project / "svc/.git").mkdir()
    assert [c["path"] for c in in_git("stage", "svc", "--json").json["changes"]] == ["svc/.env"]


def test_what_is_kept_of_a_directory_that_becomes_a_project_stays_kept(in_git: Machine) -> None:
    in_git.write("svc/.env", "1")
    in_git("stage", "svc")
    in_git("commit", "-m", "one")
    in_git.write("svc/.dorkyrc", "version = 2\n")
    in_git.write("svc/.env", "2")
    in_git.write("svc/new", "1")
    assert [c["path"] for c in in_git("status", "--json").json["unstaged"]] == ["svc/.env"]
    assert [c["path"] for c in in_git("stage", "svc", "--json").json["changes"]] == ["svc/.env"]


# --- what git should track ------------------------------------------------------------------


@pytest.mark.each_value
@pytest.mark.parametrize("path", [".", "src", "src/*"])
@pytest.mark.parametrize("name", ["app.py", "Main.JAVA", "package.json", "Makefile"])
def test_source_code_that_is_not_in_git_yet_is_not_taken_along(
    in_git: Machine, path: str, name: str
) -> None:
    in_git.write("src/.env", "1")
    in_git.write(f"src/{name}", "1")
    said = in_git("stage", path, code=5)
    assert f"src/{name}" in said.error
    assert "--yes" in said.hint
    assert not (in_git.project / ".gitignore").exists()
    assert in_git("status", "--json").json["staged"] == []
    in_git("stage", "src/.env", f"src/{name}")
    in_git("unstage", ".")
    git(in_git, "add", f"src/{name}")
    changes = in_git("stage", path, "--json").json["changes"]
    assert [change["path"] for change in changes] == ["src/.env"]


def test_source_code_is_taken_if_that_is_meant(in_git: Machine) -> None:
    in_git.write("corpus/a.py", "1")
    in_git("stage", "corpus", "--yes")
    in_git("commit", "-m", "corpus")
    in_git.write("corpus/a.py", "2")
    in_git("stage", ".")
    in_git.write("corpus/b.py", "2")
    in_git("stage", ".", code=5)


def test_secrets_with_the_name_of_source_code_are_taken(in_git: Machine) -> None:
    in_git.write("site/wp-config.php", "1")
    in_git("stage", "site")


def test_very_many_files_at_first_are_not_taken_along(in_git: Machine) -> None:
    for n in range(501):
        in_git.write(f"data/{n}", "")
    assert "501 files" in in_git("stage", "data", code=5).error
    with in_git.repo() as repo:
        with pytest.raises(errors.ManyFiles):
            repo.stage("data")
        assert len(repo.stage("data", confirmed=True).changes) == 501
    in_git.write("data2/x", "1")
    in_git("stage", ".")


def test_a_project_without_git_takes_anything(ana: Machine) -> None:
    ana("init")
    for n in range(501):
        ana.write(f"src/{n}.py", "")
    ana("stage", ".")


# --- what git sees --------------------------------------------------------------------------


def seen(machine: Machine) -> tuple[list[str], list[str]]:
    found = machine("status", "--json").json
    return found["tracked_by_git"], found["not_ignored"]


def test_new_files_in_a_kept_directory_are_listed_and_not_committed(in_git: Machine) -> None:
    in_git.write("data/a", "1")
    keep(in_git, "data")
    for path in ("data/deep/new", "data/new.env", "other"):
        in_git.write(path, "1")
    in_git.write("data/.dorkyignore", "*.log\n")
    in_git.write("data/x.log", "1")
    in_git.write("data/a", "2")
    os.mkfifo(in_git.project / "data/pipe")  # neither can be staged
    os.mkfifo(in_git.project / "id_rsa")
    found = in_git("status", "--json").json
    assert found["untracked"] == ["data/deep/new", "data/new.env"]
    assert found["secrets"] == ["data/new.env"]
    said = in_git("status").out
    assert "New in directories that are kept (dorky stage FILE):\n  ? data/deep/new\n" in said
    assert said.count("data/new.env") == 1
    assert "?? data/deep/new\n" in in_git("status", "-s").out
    in_git("commit", "-a", "-m", "tracked")
    assert [file["path"] for file in in_git("ls", "--json").json] == ["data/a"]
    assert "data/deep/new" not in untracked(in_git)
    in_git("stage", "data")
    assert in_git("status", "--json").json["untracked"] == []


def test_a_clone_knows_kept_directories_from_the_gitignore(in_git: Machine) -> None:
    in_git.write("data/a", "1")
    keep(in_git, "data")
    in_git.write("data/new", "1")
    (in_git.project / ".git/info/exclude").unlink()
    assert in_git("status", "--json").json["untracked"] == ["data/new"]
    in_git.write("data/a", "2")
    in_git("stage", "data/a")
    git(in_git, "checkout", "-q", "old")
    assert in_git("status", "--json").json["untracked"] == ["data/new"]


def test_status_warns_when_git_tracks_a_kept_file(in_git: Machine) -> None:
    in_git.write(".env", "1")
    keep(in_git, ".env")
    assert seen(in_git) == ([], [])
    in_git("status", "--exit-code")
    git(in_git, "add", "-f", ".env")
    assert seen(in_git) == ([".env"], [])
    assert "git tracks them, too (git rm --cached FILE):\n  ! .env\n" in in_git("status").out
    assert in_git("status", "-s", "--exit-code", code=1).out == "G! .env\n"
    git(in_git, "rm", "-q", "--cached", ".env")
    assert seen(in_git) == ([], [])


def test_git_is_asked_about_a_few_paths_at_a_time(
    in_git: Machine, file_url: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project may have a million files."""
    monkeypatch.setattr(dorky.git, "AT_ONCE", 2)
    in_git.write("config/readme", "git's")
    git(in_git, "add", "config/readme")
    git(in_git, "commit", "-q", "-m", "readme")
    kept = [f"config/{n}.env" for n in range(5)]
    for path in kept:
        in_git.write(path, "1")
    with Asked(monkeypatch) as asked:
        said = in_git("stage", "config", "--json").json
    assert asked[:6] == [2, 2, 2, 2, 2, 1]
    assert [change["path"] for change in said["changes"]] == kept
    assert said["skipped"] == 1
    assert not untracked(in_git) & {*kept}
    in_git("commit", "-m", "kept")
    git(in_git, "add", "-f", kept[0], kept[4])
    with Asked(monkeypatch) as asked:
        assert seen(in_git) == ([kept[0], kept[4]], [])
    assert max(asked) <= 2
    git(in_git, "rm", "-q", "--cached", kept[0], kept[4])
    in_git("remote", "add", "origin", file_url.url)
    in_git("push")
    ben = in_git.another("ben")
    git(ben, "init", "-q", "-b", "main")
    ben.write(".dorkyrc", in_git.read(".dorkyrc"))
    with Asked(monkeypatch) as asked:
        ben("pull")
    assert asked[:6] == [2, 2, 1, 2, 2, 1]
    assert not untracked(ben) & {*kept}


class Asked(list[int]):
    """How many paths git is asked about within a block, at each time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __enter__(self) -> Asked:
        self._context = self._monkeypatch.context()
        patched = self._context.__enter__()
        for name in ("tracked", "not_ignored"):
            patched.setattr(dorky.git, name, self._counted(getattr(dorky.git, name)))
        return self

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)

    def _counted(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        def asked(top: Path, paths: Sequence[Path], *others: Any) -> Any:
            self.append(len(paths))
            return ask(top, paths, *others)

        return asked


def test_status_warns_when_git_does_not_ignore_a_kept_file(in_git: Machine) -> None:
    in_git.write("config/.env", "1")
    in_git.write("code/.env", "1")
    keep(in_git, "config", "code/.env")
    assert seen(in_git) == ([], [])
    in_git.write("code/.gitignore", "!.env\n")
    assert seen(in_git) == ([], ["code/.env"])
    (in_git.project / "code/.gitignore").unlink()
    (in_git.project / ".gitignore").unlink()
    assert seen(in_git) == ([], [])  # info/exclude is enough
    (in_git.project / ".git/info/exclude").write_text("# lost\n")
    assert seen(in_git) == ([], ["code/.env", "config/.env"])
    in_git("status", "--exit-code")
    in_git("stage", "code/.env", "config")
    assert seen(in_git) == ([], [])
    in_git("unstage", ".")
    assert seen(in_git) == ([], [])


def test_a_file_that_is_staged_later_is_looked_at(in_git: Machine) -> None:
    in_git.write(".gitignore", "*.env\n")
    for name in ("a.env", "b.env"):
        in_git.write(name, "1")
        in_git("stage", name)
        assert seen(in_git) == ([], [])
    git(in_git, "add", "-f", "b.env")
    assert seen(in_git) == (["b.env"], [])


def test_status_asks_git_only_when_something_has_changed(
    in_git: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_git.write(".env", "1")
    keep(in_git, ".env")
    in_git("status")
    with monkeypatch.context() as patched:
        patched.delattr("dorky.git._git")
        in_git("status")
    monkeypatch.setenv("PATH", "/nowhere")
    in_git.env["PATH"] = "/nowhere"
    (in_git.project / ".gitignore").touch()
    assert seen(in_git) == ([], [])  # without git, nothing is known


@pytest.mark.parametrize("why", [errors.Locked("x"), errors.ReadOnly("x"), errors.DiskFull("x")])
def test_status_works_where_the_last_look_cannot_be_noted(
    in_git: Machine, monkeypatch: pytest.MonkeyPatch, why: errors.DorkyError
) -> None:
    def refuse(*_: object) -> None:
        raise why

    in_git.write(".env", "1")
    keep(in_git, ".env")
    git(in_git, "add", "-f", ".env")
    monkeypatch.setattr(Index, "set_sight", refuse)
    assert seen(in_git) == ([".env"], [])


def test_status_in_a_linked_worktree(in_git: Machine, file_url: Remote) -> None:
    in_git.write(".env", "1")
    keep(in_git, ".env")
    in_git("remote", "add", "origin", file_url.url)
    in_git("push")
    git(in_git, "commit", "-q", "-am", "remote")
    linked = in_git.another("ben")
    linked.project.rmdir()
    git(in_git, "worktree", "add", "-q", str(linked.project), "-b", "other")
    linked("pull")
    assert seen(linked) == ([], [])
    git(linked, "add", "-f", ".env")
    assert (seen(linked), seen(in_git)) == (([".env"], []), ([], []))


# --- a sparse checkout ----------------------------------------------------------------------


def sparse(machine: Machine, mode: str, *kept: str) -> None:
    git(machine, "sparse-checkout", "set", mode, *kept)


@pytest.fixture
def monorepo(in_git: Machine) -> Machine:
    """Kept files at the top, in ``a``, ``a/deep`` and ``b``, next to files that git tracks."""
    for path in ("a/code.py", "a/deep/code.py", "b/code.py"):
        in_git.write(path, "1")
    git(in_git, "add", "a", "b")
    git(in_git, "commit", "-q", "-m", "more code")
    for path in (".env", "a/.env", "a/deep/.env", "b/.env"):
        in_git.write(path, "K=1\n")
    keep(in_git, ".env", "a", "b")
    return in_git


def take_away(machine: Machine, *paths: str) -> None:
    """Delete what git's cone mode deletes, which depends on git's version."""
    for path in paths:
        (machine.project / path).unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("mode", "kept", "gone"),
    [
        ("--cone", ["a"], ["b/.env"]),
        ("--cone", ["a/deep"], ["b/.env"]),
        ("--cone", ["b"], ["a/.env", "a/deep/.env"]),
        ("--no-cone", ["/*", "!/a/"], ["a/.env", "a/deep/.env"]),
        ("--no-cone", ["/*", "!/b/*", "!deep"], ["a/deep/.env", "b/.env"]),
        ("--no-cone", ["/a/", ".env", "!/b/.env", "*.py"], ["b/.env"]),
    ],
)
def test_what_a_sparse_checkout_takes_away_is_not_deleted(
    monorepo: Machine, mode: str, kept: list[str], gone: list[str]
) -> None:
    sparse(monorepo, mode, *kept)
    take_away(monorepo, *gone)
    assert monorepo("diff", "--json").json["files"] == []
    status = monorepo("status", "--json").json
    assert status["unstaged"] == []
    assert (status["absent"], status["sparse"]) == (len(gone), len(gone))
    assert "outside git's sparse checkout" in monorepo("status").out
    monorepo.write(".env", "K=2\n")
    monorepo("commit", "-a", "-m", "all")
    monorepo("stage", ".")
    assert monorepo("status", "--json").json["staged"] == []
    assert len(monorepo("ls", "--json").json) == 4
    # And neither are they once everything is checked out again.
    git(monorepo, "sparse-checkout", "disable")
    assert monorepo("status", "--json").json["unstaged"] == []
    monorepo("commit", "-a", "-m", "nothing", code=1)
    monorepo("checkout", "main")
    assert monorepo("status", "--json").json["absent"] == 0
    assert monorepo.read(gone[0]) == b"K=1\n"


def test_a_file_inside_the_sparse_checkout_that_is_gone_is_deleted(monorepo: Machine) -> None:
    sparse(monorepo, "--cone", "a")
    take_away(monorepo, "a/.env", "b/.env")
    changes = monorepo("status", "--json").json["unstaged"]
    assert changes == [{"path": "a/.env", "what": "deleted"}]


def test_a_sparse_checkout_of_a_project_below_the_top(ana: Machine) -> None:
    git(ana, "init", "-q", "-b", "main")
    for path in ("svc/pay/code.py", "svc/pay/b/code.py", "b/code.py"):
        ana.write(path, "1")
    git(ana, "add", ".")
    git(ana, "commit", "-q", "-m", "code")
    top, ana.project = ana.project, ana.project / "svc/pay"
    ana("init")
    ana.commit({"b/.env": "1"})
    git(ana, "sparse-checkout", "set", "--no-cone", "/*", "!/svc/pay/b/", at=top)
    take_away(ana, "b/.env")
    assert ana("status", "--json").json["sparse"] == 1
    ana("commit", "-a", "-m", "x", code=1)


def test_pull_leaves_a_sparse_checkout_sparse(monorepo: Machine, file_url: Remote) -> None:
    monorepo("remote", "add", "origin", file_url.url)
    monorepo("push")
    ben = monorepo.another("ben")
    git(ben, "clone", "-q", str(monorepo.project), ".")
    (ben.project / ".dorkyrc").write_bytes(monorepo.read(".dorkyrc"))
    sparse(ben, "--cone", "a")
    ben("pull")
    assert not (ben.project / "b").exists()
    monorepo.commit({"b/.env": "K=3\n", "a/.env": "K=3\n"})
    monorepo("push")
    ben("pull")
    assert ben.read("a/.env") == b"K=3\n"
    assert not (ben.project / "b").exists()
    assert ben("status", "--json").json["unstaged"] == []
    git(ben, "sparse-checkout", "disable")
    ben("pull")
    assert ben.read("b/.env") == b"K=3\n"


# --- commits that delete much ---------------------------------------------------------------


@pytest.fixture
def many(ana: Machine) -> Machine:
    ana("init")
    ana.commit({f"data/{n}": str(n) for n in range(20)})
    return ana


@pytest.mark.parametrize("how", ["commit -a", "stage", "rm"])
def test_a_commit_that_deletes_most_files_is_refused(many: Machine, how: str) -> None:
    for n in range(11):
        (many.project / f"data/{n}").unlink()
    if how != "commit -a":
        many(how, "data" if how == "stage" else "data/?")
        many("stage", "data")
    before = many("status", "--json").json
    said = many("commit", "-a", "-m", "cleaned", code=5)
    assert said.error == "The commit would delete 11 of 20 files, for everybody"
    assert "--allow-deletions" in said.hint
    assert many("status", "--json").json == before
    many("commit", "-a", "-m", "cleaned", "--allow-deletions")
    assert len(many("ls", "--json").json) == 9


@pytest.mark.parametrize(
    "words",
    [
        ["commit", "-a", "-m", "x"],
        ["stage", "data"],
        ["save", "-m", "x"],
        ["save", "data", "-m", "x"],
    ],
    ids=" ".join,
)
def test_the_hint_of_a_refused_commit_brings_the_files_back(
    many: Machine, file_url: Remote, words: list[str]
) -> None:
    """Also those whose deletion is staged, which ``restore`` alone leaves as staged."""
    many("remote", "add", "origin", file_url.url)
    before = many.files()
    for n in range(15):
        (many.project / f"data/{n}").unlink()
    many.run(*words)
    hint = many("commit", "-m", "x", *(["-a"] if "stage" not in words else []), code=5).hint
    commands, _, _ = hint.partition(" brings")
    assert commands.endswith("dorky restore .")
    for command in commands.split(" && "):
        many(*command.split()[1:])
    assert many.files() == before
    assert "Nothing to commit" in many("status").out


@pytest.mark.each_value
@pytest.mark.parametrize("words", [["commit", "-a"], ["save"], ["save", "data"]], ids=" ".join)
@pytest.mark.parametrize("answer", ["yes", "no"])
def test_a_terminal_is_asked_about_many_deletions(
    many: Machine, file_url: Remote, terminal: Terminal, words: list[str], answer: str
) -> None:
    many("remote", "add", "origin", file_url.url)
    for n in range(15):
        (many.project / f"data/{n}").unlink()
    shown = terminal(many, *words, "-m", "x", until="Commit that?", typed=f"{answer}\n")
    assert shown.text.count("Commit that?") == 1
    assert (shown.code, len(many("ls", "--json").json)) == ((0, 5) if answer == "yes" else (5, 20))


def test_save_asks_a_terminal_about_source_code_and_about_deletions(
    many: Machine, file_url: Remote, terminal: Terminal
) -> None:
    git(many, "init", "-q")
    many("remote", "add", "origin", file_url.url)
    many.write("data/code.py", "1")
    for n in range(15):
        (many.project / f"data/{n}").unlink()
    shown = terminal(many, "save", "data", "-m", "x", until="Save that?", typed="yes\nyes\n")
    assert shown.code == 0, shown.text
    assert "Commit that?" in shown.text
    assert "data/code.py" in many("ls").out


def test_a_commit_that_deletes_half_of_the_files_is_not(many: Machine) -> None:
    many.write("new", "1")
    many("stage", "new")
    for n in range(10):
        (many.project / f"data/{n}").unlink()
    many("commit", "-a", "-m", "cleaned")
    for n in range(10, 20):
        (many.project / f"data/{n}").unlink()
    many("commit", "-a", "-m", "few files")
    assert len(many("ls", "--json").json) == 1


def test_the_library_refuses_it_too(many: Machine) -> None:
    for n in range(20):
        (many.project / f"data/{n}").unlink()
    with many.repo() as repo:
        with pytest.raises(errors.ManyDeletions):
            repo.commit("cleaned", all=True)
        assert len(repo.commit("cleaned", all=True, allow_deletions=True).changes) == 20
