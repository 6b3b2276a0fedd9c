"""The enclosing git repository, against git itself."""

import json
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dorky
from dorky import errors, git, gitignore
from dorky.cli import hints

BEGIN = "# >>> dorky: files kept by dorky, not by git >>>\n"
END = "# <<< dorky <<<\n"

# Everything that a line of a .gitignore could take for something else.
WEIRD = [
    "plain",
    "a b",
    "#hash",
    "!bang",
    " front",
    "back ",
    "two  ",
    "tab\t",
    "new\nline",
    "car\rriage",
    "end\r",
    "[ab]",
    "a[b",
    "star*",
    "quest?",
    "back\\slash",
    "last\\",
    ":colon",
    ":(top)x",
    '"quote"',
    "-dash",
    "ünï",
    unicodedata.normalize("NFD", "é"),
    "日本",
    "**",
    "a\\ ",
]


@pytest.fixture(autouse=True)
def _plain_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the developer's own configuration nor a hook that runs the tests counts."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def run(top: Path, *args: str, **environment: str) -> str:
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.test"]
    done = subprocess.run(
        ["git", *who, "-c", "protocol.file.allow=always", *args],
        cwd=top,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def write(*paths: Path, text: str = "x\n") -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def commit(top: Path, *names: str) -> None:
    write(*(top / name for name in names))
    run(top, "add", "--force", "--", *(f":(literal){name}" for name in names))
    run(top, "commit", "--quiet", "-m", "files")


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = tmp_path.resolve() / "top"
    top.mkdir()
    run(top, "init", "--quiet", "--initial-branch", "main")
    return top


def untracked(top: Path) -> set[str]:
    listing = run(top, "ls-files", "--others", "--exclude-standard", "-z")
    return set(listing.split("\0")[:-1])


# --- find -----------------------------------------------------------------------------------


def test_find(top: Path) -> None:
    (top / "a/b").mkdir(parents=True)
    assert git.find(top) == git.find(top / "a/b") == top
    assert git.find(top.parent) is None


def test_find_passes_over_a_git_directory_that_is_no_repository(top: Path) -> None:
    (top / "a/.git").mkdir(parents=True)
    assert git.find(top / "a") == top
    assert run(top / "a", "rev-parse", "--show-toplevel").strip() == str(top)


def test_find_follows_links_as_git_does(top: Path) -> None:
    (top / "a").mkdir()
    link = top.parent / "link"
    link.symlink_to(top / "a")
    assert git.find(link) == top


def test_find_runs_nothing(top: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dorky import git, gitignore;"
        f"assert git.find(Path({str(top)!r})); assert 'subprocess' not in sys.modules"
    )
    python(code)


def python(code: str, *args: str, **environment: str) -> str:
    source = str(Path(dorky.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *args],
        env={**os.environ, "PYTHONPATH": source, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# --- tracked --------------------------------------------------------------------------------


def test_tracked(top: Path) -> None:
    commit(top, "a", "x/b")
    write(top / "staged", top / "new", top / "x/c")
    run(top, "add", "staged")
    paths = [top / name for name in ("a", "x/b", "staged", "new", "x/c", "gone")]
    assert git.tracked(top, paths) == {top / "a", top / "x/b", top / "staged"}
    assert git.tracked(top, []) == set()


def test_tracked_needs_no_file(top: Path) -> None:
    commit(top, "a")
    (top / "a").unlink()
    assert git.tracked(top, [top / "a"]) == {top / "a"}


def test_tracked_weird_names(top: Path) -> None:
    half = WEIRD[::2]
    write(*(top / "x" / name for name in WEIRD))
    commit(top, *(f"x/{name}" for name in half))
    got = git.tracked(top, [top / "x" / name for name in WEIRD])
    assert got == {top / "x" / name for name in half}


def test_tracked_one_form_of_an_accent_only(top: Path) -> None:
    composed, decomposed = top / "\u00e9", top / "e\u0301"
    commit(top, composed.name)
    expected = {composed, decomposed} if sys.platform == "darwin" else {composed}
    assert git.tracked(top, [composed, decomposed]) == expected


def test_tracked_on_macos_knows_both_forms_of_an_accent(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(top, "\u00e9")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert git.tracked(top, [top / "e\u0301"]) == {top / "e\u0301"}


def test_tracked_very_many(top: Path) -> None:
    commit(top, "a", "d" * 200)
    paths = [top / "x" / f"{number}-{'n' * 150}" for number in range(20_000)]
    assert git.tracked(top, [*paths, top / "a"]) == {top / "a"}
    assert git.not_ignored(top, paths) == paths


def test_outside_of_the_repository(top: Path) -> None:
    with pytest.raises(errors.OutsideWorktree):
        git.tracked(top, [top.parent / "a"])


# --- not_ignored ----------------------------------------------------------------------------


def test_not_ignored(top: Path) -> None:
    write(top / ".gitignore", text="*.env\n!keep.env\nd/\n")
    write(top / "x/.gitignore", text="!two.env\n")
    names = ["a.env", "keep.env", "b", "d/a", "x/one.env", "x/two.env"]
    write(*(top / name for name in names))
    got = git.not_ignored(top, [top / name for name in names])
    assert got == [top / "keep.env", top / "b", top / "x/two.env"]


def test_not_ignored_with_nothing_to_say(top: Path) -> None:
    assert git.not_ignored(top, []) == []
    assert git.not_ignored(top, [top / "a"]) == [top / "a"]


def test_a_tracked_file_can_be_covered_by_a_rule(top: Path) -> None:
    commit(top, "a.env")
    write(top / ".gitignore", text="*.env\n")
    assert git.not_ignored(top, [top / "a.env"]) == []


def test_not_ignored_weird_names(top: Path) -> None:
    write(*(top / "x" / name for name in WEIRD))
    write(*(top / name for name in WEIRD))
    write(top / ".gitignore", text="/x/\n")
    inside = [top / "x" / name for name in WEIRD]
    outside = [top / name for name in WEIRD]
    assert git.not_ignored(top, inside + outside) == outside


# --- ignore ---------------------------------------------------------------------------------


def test_ignore(top: Path) -> None:
    write(top / "config/.env", top / ".env", top / "b")
    added = gitignore.ignore(top, [top / "config/.env", top / ".env"])
    assert added == ["/.env", "/config/.env"]
    assert (top / ".gitignore").read_text() == f"{BEGIN}/.env\n/config/.env\n{END}"
    assert untracked(top) == {".gitignore", "b"}


def test_ignore_anchors(top: Path) -> None:
    write(top / ".env", top / "x/.env")
    gitignore.ignore(top, [top / ".env"])
    assert untracked(top) == {".gitignore", "x/.env"}


def test_ignore_keeps_the_rest_and_is_idempotent(top: Path) -> None:
    write(top / ".gitignore", text="# mine\n\n*.log\n")
    assert gitignore.ignore(top, [top / "b", top / "a"]) == ["/a", "/b"]
    expected = f"# mine\n\n*.log\n{BEGIN}/a\n/b\n{END}"
    assert (top / ".gitignore").read_text() == expected
    stat = (top / ".gitignore").stat()
    assert gitignore.ignore(top, [top / "a"]) == []
    assert (top / ".gitignore").read_text() == expected
    assert (top / ".gitignore").stat().st_ino == stat.st_ino


def test_ignore_updates_the_block_where_it_stands(top: Path) -> None:
    write(top / ".gitignore", text=f"one\n{BEGIN}/b\n*.pem\n{END}two\n")
    assert gitignore.ignore(top, [top / "a"]) == ["/a"]
    assert (top / ".gitignore").read_text() == f"one\n{BEGIN}*.pem\n/a\n/b\n{END}two\n"


def test_ignore_joins_two_blocks(top: Path) -> None:
    write(top / ".gitignore", text=f"{BEGIN}/a\n{END}mine\n{BEGIN}/b\n{END}too\n")
    gitignore.ignore(top, [top / "c"])
    assert (top / ".gitignore").read_text() == f"{BEGIN}/a\n/b\n/c\n{END}mine\ntoo\n"


@pytest.mark.parametrize("broken", [f"{BEGIN}/b\n*.pem\n", f"/b\n{END}*.pem\n"])
def test_a_mark_without_its_partner_is_left_alone(top: Path, broken: str) -> None:
    write(top / ".gitignore", text=broken)
    gitignore.ignore(top, [top / "a"])
    gitignore.ignore(top, [top / "c"])
    assert (top / ".gitignore").read_text() == f"{broken}{BEGIN}/a\n/c\n{END}"


def test_ignore_without_a_newline_at_the_end(top: Path) -> None:
    write(top / ".gitignore", text="*.log")
    gitignore.ignore(top, [top / "a"])
    assert (top / ".gitignore").read_text() == f"*.log\n{BEGIN}/a\n{END}"


def test_ignore_when_the_block_ends_without_a_newline(top: Path) -> None:
    write(top / ".gitignore", text=f"{BEGIN}/b\n{END}".rstrip("\n"))
    gitignore.ignore(top, [top / "a"])
    assert (top / ".gitignore").read_text() == f"{BEGIN}/a\n/b\n{END}"


def test_ignore_keeps_windows_line_ends(top: Path) -> None:
    file = top / ".gitignore"
    file.write_bytes(b"*.log\r\nb")
    gitignore.ignore(top, [top / "a "])
    gitignore.ignore(top, [top / "c"])
    block = f"{BEGIN}/a[ ]\n/c\n{END}".replace("\n", "\r\n").encode()
    assert file.read_bytes() == b"*.log\r\nb\r\n" + block
    assert git.not_ignored(top, [top / name for name in ("a ", "c", "a")]) == [top / "a"]
    gitignore.unignore(top, [top / "a ", top / "c"])
    assert file.read_bytes() == b"*.log\r\nb\r\n"


def test_ignore_keeps_bytes_that_are_no_text(top: Path) -> None:
    file = top / ".gitignore"
    file.write_bytes(b"\xef\xbb\xbf*.log\n\xff\xfe\n")
    gitignore.ignore(top, [top / "a"])
    assert file.read_bytes() == b"\xef\xbb\xbf*.log\n\xff\xfe\n" + f"{BEGIN}/a\n{END}".encode()


def test_ignore_keeps_the_mode(top: Path) -> None:
    write(top / ".gitignore")
    (top / ".gitignore").chmod(0o640)
    gitignore.ignore(top, [top / "a"])
    assert (top / ".gitignore").stat().st_mode & 0o777 == 0o640
    assert {path.name for path in top.iterdir()} == {".git", ".gitignore"}


def test_ignore_weird_names(top: Path) -> None:
    write(*(top / name for name in WEIRD), *(top / "x" / name for name in WEIRD))
    write(*(top / near for near in ("axb", "a", "b", "starx", "questx", "back", "two", "ab")))
    before = untracked(top)
    names = [*WEIRD, *(f"x/{name}" for name in WEIRD)]
    added = gitignore.ignore(top, [top / name for name in names])
    assert len(added) == len(names)
    assert untracked(top) == before - set(names) | {".gitignore"}
    assert gitignore.ignore(top, [top / name for name in names]) == []


_NAMES = (
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
    .filter(lambda name: len(name.encode()) < 200 and name.strip("."))
    .filter(lambda name: name.casefold() not in {".git", ".gitignore"})
)


@settings(deadline=None, max_examples=20)
@given(name=_NAMES)
def test_ignore_any_name(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    ignore(tmp_path_factory, name)


@pytest.mark.deep
@settings(deadline=None, max_examples=100)
@given(name=_NAMES)
def test_ignore_many_names(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    ignore(tmp_path_factory, name)


def ignore(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    top = tmp_path_factory.getbasetemp().resolve() / "any"
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir()
    run(top, "init", "--quiet")
    write(top / name)
    gitignore.ignore(top, [top / name])
    assert untracked(top) == {".gitignore"}
    gitignore.unignore(top, [top / name])
    assert untracked(top) == {name}


def test_ignore_a_thousand(top: Path) -> None:
    names = [f"data/{number:04}.bin" for number in range(1000)]
    assert len(gitignore.ignore(top, [top / name for name in names])) == 1000
    assert (top / ".gitignore").read_text().count("\n") == 1002


def test_ignore_from_a_project_below_the_top(top: Path) -> None:
    project = top / "services/pay"
    write(project / "config/.env", top / "config/.env")
    assert gitignore.ignore(project, [project / "config/.env"]) == ["/config/.env"]
    assert not (top / ".gitignore").exists()
    assert untracked(top) == {"services/pay/.gitignore", "config/.env"}


def test_a_later_rule_takes_it_back(top: Path) -> None:
    write(top / ".gitignore", text=f"{BEGIN}{END}!*.env\n")
    with pytest.raises(errors.GitDoesNotIgnore, match=r"git still does not ignore x/a\.env"):
        gitignore.ignore(top, [top / "b", top / "x/a.env"])
    assert git.not_ignored(top, [top / "b"]) == []


def test_a_deeper_rule_takes_it_back(top: Path) -> None:
    write(top / "x/.gitignore", text="!a\n")
    with pytest.raises(errors.GitDoesNotIgnore):
        gitignore.ignore(top, [top / "x/a"])


def test_ignore_outside_of_git(tmp_path: Path) -> None:
    assert gitignore.ignore(tmp_path, [tmp_path / "a"]) == []
    assert list(tmp_path.iterdir()) == []


def test_ignore_refuses_a_link(top: Path) -> None:
    write(top / "shared")
    (top / ".gitignore").symlink_to("shared")
    with pytest.raises(errors.SetupError, match="symbolic link"):
        gitignore.ignore(top, [top / "a"])
    assert (top / ".gitignore").is_symlink()


def test_paths_may_be_deeper_than_pythons_stack(top: Path) -> None:
    """Python's: git itself may crash when it is asked for the rules about such a path."""
    commit(top, "d/known")
    deep = top.joinpath(*["d"] * 1200)
    assert git.tracked(top, [deep / "x", top / "d/known"]) == {top / "d/known"}


# --- unignore -------------------------------------------------------------------------------


def test_unignore(top: Path) -> None:
    original = "*.log\n\n# mine\n"
    write(top / ".gitignore", text=original)
    gitignore.ignore(top, [top / "a", top / "b "])
    assert gitignore.unignore(top, [top / "b ", top / "c"]) == ["/b[ ]"]
    assert (top / ".gitignore").read_text() == f"{original}{BEGIN}/a\n{END}"
    assert gitignore.unignore(top, [top / "a"]) == ["/a"]
    assert (top / ".gitignore").read_text() == original


def test_unignore_removes_a_file_that_held_nothing_else(top: Path) -> None:
    gitignore.ignore(top, [top / "a"])
    gitignore.unignore(top, [top / "a"])
    assert not (top / ".gitignore").exists()
    assert gitignore.unignore(top, [top / "a"]) == []


def test_unignore_leaves_rules_outside_of_the_block(top: Path) -> None:
    write(top / ".gitignore", text="/a\n")
    assert gitignore.unignore(top, [top / "a"]) == []
    assert (top / ".gitignore").read_text() == "/a\n"


# --- head -----------------------------------------------------------------------------------


def test_head(top: Path) -> None:
    assert git.head(top) is None
    commit(top, "a")
    assert git.head(top) == run(top, "rev-parse", "HEAD").strip()
    run(top, "checkout", "--quiet", "--detach")
    run(top, "pack-refs", "--all")
    assert git.head(top) == run(top, "rev-parse", "HEAD").strip()


# --- worktrees and submodules ---------------------------------------------------------------


def test_hooks(top: Path, tmp_path: Path) -> None:
    place = top / ".git" / "hooks"
    shutil.rmtree(place, ignore_errors=True)
    assert git.hooks(top) == {}
    write(place / "post-merge", place / "pre-commit.sample", place / "below" / "x")
    assert git.hooks(top) == {"post-merge": place / "post-merge"}
    run(top, "config", "core.hooksPath", "own")
    assert git.hooks(top) == {}
    write(top / "own" / "pre-push")
    assert git.hooks(top) == {"pre-push": top / "own" / "pre-push"}
    run(top, "config", "core.hooksPath", str(tmp_path / "theirs"))
    write(tmp_path / "theirs" / "post-checkout")
    assert [*git.hooks(top)] == ["post-checkout"]


def test_hooks_of_a_linked_worktree_are_the_repository_s(top: Path, tmp_path: Path) -> None:
    commit(top, "a")
    run(top, "worktree", "add", "--quiet", str(tmp_path / "linked"))
    write(top / ".git" / "hooks" / "post-merge")
    assert [*git.hooks(tmp_path / "linked")] == ["post-merge"]


def test_a_linked_worktree(top: Path) -> None:
    commit(top, "a")
    other = top.parent / "other"
    run(top, "worktree", "add", "--quiet", "-b", "side", str(other))
    commit(other, "b")
    assert (other / ".git").is_file()
    assert git.find(other) == other
    assert git.tracked(other, [other / "a", other / "b", other / "c"]) == {other / "a", other / "b"}
    assert git.tracked(top, [top / "a", top / "b"]) == {top / "a"}
    assert git.head(other) == run(top, "rev-parse", "side").strip() != git.head(top)
    gitignore.ignore(other, [other / "c"])
    assert (other / ".gitignore").exists()
    assert not (top / ".gitignore").exists()


@pytest.fixture
def module(top: Path) -> Path:
    source = top.parent / "source"
    source.mkdir()
    run(source, "init", "--quiet")
    commit(source, "m")
    run(top, "submodule", "--quiet", "add", str(source), "sub")
    return top / "sub"


def test_files_in_a_submodule_are_its_own(top: Path, module: Path) -> None:
    commit(top, "a")
    write(module / ".env")
    assert (module / ".git").is_file()
    assert git.find(module) == module
    paths = [top / "a", module / "m", module / ".env"]
    assert git.tracked(top, paths) == {top / "a", module / "m"}
    assert git.not_ignored(top, paths) == paths
    write(module / ".gitignore", text=".env\n")
    assert git.not_ignored(top, paths) == [top / "a", module / "m"]


def test_the_outer_repository_can_not_ignore_in_a_submodule(top: Path, module: Path) -> None:
    write(module / ".env")
    with pytest.raises(errors.GitDoesNotIgnore):
        gitignore.ignore(top, [module / ".env"])


# --- inside a hook --------------------------------------------------------------------------

HOOK = """
import json, os, sys
from pathlib import Path
from dorky import git, gitignore
top, other, report = map(Path, sys.argv[1:])
def look(at):
    paths = [at / name for name in ("a", "b", "x.env")]
    return {
        "find": str(git.find(at)), "head": git.head(at),
        "tracked": sorted(path.name for path in git.tracked(at, paths)),
        "not_ignored": sorted(path.name for path in git.not_ignored(at, paths)),
        "added": gitignore.ignore(at, [at / "secret"]),
    }
exported = sorted(name for name in os.environ if name in ("GIT_DIR", "GIT_INDEX_FILE"))
report.write_text(json.dumps([exported, look(top), look(other)]))
"""


@pytest.mark.parametrize("hook", ["pre-commit", "post-checkout", "post-merge", "pre-push"])
def test_inside_a_hook(top: Path, hook: str) -> None:
    """What git exports for the hook's repository must not leak into questions about another."""
    other = top.parent / "other"
    other.mkdir()
    run(other, "init", "--quiet")
    commit(other, "b")
    write(other / ".gitignore", text="b\n")
    commit(top, "a")
    write(top / ".gitignore", text="*.env\n")
    run(top, "branch", "side")
    commit(top, "c")
    run(top, "checkout", "--quiet", "-b", "behind", "side")
    report = top.parent / "report"
    script = top.parent / "hook.py"
    script.write_text(HOOK)
    source = Path(dorky.__file__).parents[1]
    command = [sys.executable, "-W", "error", str(script), str(top), str(other), str(report)]
    path = top / ".git/hooks" / hook
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in command) + "\n")
    path.chmod(0o755)
    before = git.head(top)
    act = {
        "pre-commit": ("commit", "--quiet", "--all", "--message", "again"),
        "post-checkout": ("checkout", "--quiet", "main"),
        "post-merge": ("merge", "--quiet", "main"),
        "pre-push": ("push", "--quiet", str(top.parent / "bare.git"), "main"),
    }[hook]
    run(top.parent, "init", "--quiet", "--bare", "bare.git")
    write(top / "a", text="changed\n" if hook == "pre-commit" else "x\n")
    run(top, *act, PYTHONPATH=str(source))
    exported, here, there = json.loads(report.read_text())
    if hook == "pre-commit":
        assert "GIT_INDEX_FILE" in exported
    main = run(top, "rev-parse", "main").strip()
    assert here == {
        "find": str(top),
        "head": before if hook in {"pre-commit", "pre-push"} else main,
        "tracked": ["a"],
        "not_ignored": ["a", "b"],
        "added": ["/secret"],
    }
    assert there == {
        "find": str(other),
        "head": git.head(other),
        "tracked": ["b"],
        "not_ignored": ["a", "x.env"],
        "added": ["/secret"],
    }


@pytest.mark.parametrize(
    "variable",
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"],
)
def test_a_variable_that_points_elsewhere(
    top: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    commit(top, "a")
    head = git.head(top)
    monkeypatch.setenv(variable, str(top.parent / "nowhere"))
    assert git.head(top) == head
    assert git.tracked(top, [top / "a"]) == {top / "a"}
    assert gitignore.ignore(top, [top / "b"]) == ["/b"]


def test_literal_pathspecs(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")
    write(top / ".gitignore", text="b\n")
    assert git.not_ignored(top, [top / "a", top / "b"]) == [top / "a"]


# --- trouble --------------------------------------------------------------------------------


def test_git_is_not_installed(top: Path, tmp_path: Path) -> None:
    """No silence: without git nobody knows what git tracks."""
    code = (
        "import sys; from pathlib import Path; from dorky import errors, git\n"
        "from dorky.cli import hints\n"
        "top = git.find(Path(sys.argv[1])); assert top\n"
        "for ask in (git.head, lambda top: git.tracked(top, [top / 'a'])):\n"
        "    try: ask(top)\n"
        "    except errors.SetupError as error: print(error, hints.hint(error), sep='|')\n"
    )
    said = python(code, str(top), PATH=str(tmp_path))
    line = f"{top} is in git, but git can't be run|install git: dorky must see what it tracks\n"
    assert said == line * 2


def test_git_is_gone_while_we_run(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git.head(top)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(errors.SetupError, match="git can't be run"):
        git.head(top)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository away")
def test_git_refuses_somebody_elses_repository(top: Path) -> None:
    os.chown(top, 2001, 2001)
    for ask in (git.head, lambda top: git.tracked(top, [top / "a"])):
        with pytest.raises(errors.SetupError, match="dubious ownership in repository") as caught:
            ask(top)
        assert hints.hint(caught.value).startswith("git config --global --add safe.directory ")


def test_a_git_file_that_leads_nowhere(tmp_path: Path) -> None:
    top = tmp_path.resolve()
    write(top / ".git", text="gitdir: nowhere\n")
    with pytest.raises(errors.SetupError, match="not a git repository"):
        git.head(top)


def test_a_path_through_a_link(top: Path) -> None:
    (top / "x").mkdir()
    (top / "link").symlink_to("x")
    with pytest.raises(errors.SetupError, match="beyond a symbolic link"):
        git.not_ignored(top, [top / "link/a"])
