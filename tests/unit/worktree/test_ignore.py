"""`.dorkyignore` against git itself: the same patterns, the same tree, the same answer."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dorky import errors
from dorky.worktree.ignore import Ignore, Rule


def git(top: Path, *args: str) -> bytes:
    config = ["-c", "core.excludesFile=/dev/null", "-c", "core.ignoreCase=false"]
    done = subprocess.run(["git", *config, *args], cwd=top, check=True, capture_output=True)
    return done.stdout


def kept_by_git(top: Path) -> set[str]:
    listing = git(top, "ls-files", "--others", "--exclude-standard", "-z")
    return {os.fsdecode(name) for name in listing.split(b"\0")[:-1]}


def kept(top: Path) -> set[str]:
    found = set()
    pending = [("", Ignore.root(top))]
    while pending:
        base, rules = pending.pop()
        with os.scandir(top / base) as listing:
            for item in listing:
                is_dir = item.is_dir(follow_symlinks=False)
                if rules.match(item.name, is_dir=is_dir):
                    continue
                if is_dir:
                    pending.append((f"{base}{item.name}/", rules.enter(item.name)))
                else:
                    found.add(base + item.name)
    return found


def grow(top: Path, *paths: str) -> None:
    for path in paths:
        file = top / path
        if path.endswith("/"):
            file.mkdir(parents=True, exist_ok=True)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()


def write_patterns(directory: Path, patterns: bytes) -> None:
    for name in (".gitignore", ".dorkyignore"):
        (directory / name).write_bytes(patterns)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("git")
    git(top, "init", "--quiet")
    return top


@pytest.fixture
def tree(repository: Path) -> Path:
    """An empty directory inside a git repository."""
    return Path(tempfile.mkdtemp(dir=repository))


# --- git is the oracle ----------------------------------------------------------------------

NAMES = st.one_of(
    st.sampled_from(["a", "b", "ab", "abc", "c", ".x", "a.log", "b.log", "x y", "é", "aé"]),
    st.text("ab[]!#-^\\ *.é\t", min_size=1, max_size=3).filter(lambda name: name.strip(".")),
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
COMMON = """
a b /a a/ /a/ a/b a/* a/** **/a **/a/b a/**/b * */ /* ** **/ *.log ? ?? [ab] [!a] [^a] [a-c] *b a*b
[[:alpha:]] [[:no:]] [[:] [a[:digit:]-] []-] [\\]a] [--a] [a/b] [^/] [a-\\c] [b-a] [a [] [!]
\\#a \\!a #a !!a a\\ x\\\\y .* é [é] / // a//b a*** **a a**/b /**/b /a** /a**/ a/b** **\\/a a/**\\/b
"""
TOKENS = "a b c / * ** ? [ ] ! ^ - \\ # . é [:alpha:] [:punct:] [a-b] [!a] /**/"
PATTERNS = st.tuples(
    st.sampled_from(["", "", "!"]),
    st.one_of(
        st.sampled_from(COMMON.split()),
        st.lists(st.sampled_from([*TOKENS.split(), " ", "\t", "\r"]), max_size=7).map("".join),
    ),
    st.sampled_from(["", "", "", " ", "\\ ", "\t"]),
).map("".join)
FILES = st.tuples(
    st.sampled_from(["", "", "\ufeff"]),
    st.lists(PATTERNS, min_size=1, max_size=4),
    st.sampled_from(["\n", "\n", "\r\n"]),
    st.booleans(),
).map(lambda parts: parts[0] + parts[2].join(parts[1]) + parts[2] * parts[3])


@settings(deadline=None)
@given(paths=st.lists(PATHS, min_size=1, max_size=15), files=st.data())
def test_same_answer_as_git(repository: Path, paths: list[str], files: st.DataObject) -> None:
    top = repository / "any"
    top.mkdir()
    try:
        for path in paths:
            # An earlier file can stand where this one needs a directory, or the reverse.
            if not (top / path).exists() and all(not p.is_file() for p in (top / path).parents):
                grow(top, path)
        for directory in [top, *sorted(path for path in top.rglob("*") if path.is_dir())]:
            if directory == top or files.draw(st.booleans()):
                write_patterns(directory, files.draw(FILES).encode())
        rules = Ignore.root(top)
        every = {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()}
        assert kept(top) == kept_by_git(top)
        assert kept(top) == {path for path in every if not rules.ignored(path)}
    finally:
        shutil.rmtree(top)


# What people write, and what is known to go wrong: patterns, paths ignored, paths kept.
CASES = {
    "a name at any depth": (["a"], ["a", "x/a", "y/a/b"], ["b", "x/ab"]),
    "anchored": (["/a", "x/b"], ["a", "x/b"], ["y/a", "y/x/b"]),
    "only directories": (["a/"], ["a/b", "x/a/b"], ["y/a"]),
    "negation": (["*.log", "!keep.log"], ["a.log", "x/b.log"], ["keep.log", "x/keep.log"]),
    "the last rule wins": (["!a", "a"], ["a"], ["b"]),
    "nothing below an ignored directory": (["a/", "!a/b"], ["a/b", "a/c"], []),
    "all but one, below a directory": (["a/*", "!a/b"], ["a/c"], ["a/b"]),
    "all but one, with **": (["a/**", "!a/b"], ["a/c", "a/d/e"], ["a/b"]),
    "all but one, deep": (["/*", "!/a", "/a/*", "!/a/b"], ["c", "a/d"], ["a/b/e"]),
    "** in front": (["**/a/b"], ["a/b", "x/a/b"], ["a/x/b"]),
    "** between": (["a/**/b"], ["a/b", "a/x/b", "a/x/y/b"], ["b"]),
    "** at the end": (["a/**"], ["a/b", "a/x/b"], ["x/a/b"]),
    "** that is a *": (["a**b", "x/?**d"], ["ab", "axb", "x/cd", "x/ceed"], ["a/b", "x/c/d"]),
    "** as the first wildcard": (["/a**/b", "/x/c**"], ["ab", "ac/b", "x/cd/e"], ["x/b"]),
    "** behind a wildcard": (["?a**/b"], ["xac/b"], ["xab", "xa/c/b"]),
    "* does not cross /": (["a/*/b"], ["a/x/b"], ["a/b", "a/x/y/b"]),
    "?": (["a?c"], ["abc"], ["ac", "a/c"]),
    "? is one byte": (["?", "[é]"], ["e"], ["é"]),
    "a set": (["[ab]"], ["a", "b"], ["c", "ab"]),
    "a range": (["[a-c]x"], ["ax", "cx"], ["dx", "-x"]),
    "a - behind a range": (["[a-c-e]x"], ["-x", "ex"], ["dx"]),
    "a directory beyond ASCII": (["é/a", "ü?/a"], ["é/a"], ["üü/a"]),
    "a set turned round": (["[!a]", "[^b]c"], ["b", "ac"], ["a", "bc"]),
    "a set with ]": (["[]a]x"], ["]x", "ax"], ["bx"]),
    "a set with -": (["[a-]x"], ["ax", "-x"], ["bx"]),
    "a set with an escape": (["[\\]\\-]x"], ["]x", "-x"], ["\\x", "ax"]),
    "a set never holds /": (["a[!x]b", "c[/]d"], ["a.b"], ["a/b", "c/d"]),
    "a class": (["[[:digit:]]", "[![:alpha:]]x"], ["1", "1x"], ["a", "ax"]),
    "an unknown class": (["[[:word:]]"], [], ["a", "w"]),
    "a set without an end": (["[a"], [], ["[a", "a"]),
    "a range backwards": (["[b-a]"], ["b"], ["a"]),
    "a backslash at the end": (["a\\"], [], ["a", "a\\"]),
    "a comment": (["#a"], [], ["#a", "a"]),
    "an escaped #": (["\\#a"], ["#a"], ["a"]),
    "an escaped !": (["a", "\\!a"], ["!a", "a"], ["b"]),
    "an escaped wildcard": (["\\*", "\\[a]", "a\\?"], ["*", "[a]", "a?"], ["b", "a", "ab"]),
    "spaces at the end": (["a  "], ["a"], ["a "]),
    "an escaped space at the end": (["a\\ ", "b\\  "], ["a ", "b "], ["a", "b"]),
    "spaces in front": ([" a"], [" a"], ["a"]),
    "a tab at the end": (["a\t"], ["a\t"], ["a"]),
    "a lone slash": (["/", "//", "!", ""], [], ["a", "b/c"]),
    "a lone star": (["*"], ["a", "b/c"], []),
    "every directory": (["*/"], ["b/c"], ["a"]),
    "case counts": (["a"], ["a"], ["B"]),
}


@pytest.mark.parametrize(("patterns", "ignored", "stay"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_known_cases(
    tree: Path, patterns: list[str], ignored: list[str], stay: list[str], newline: str
) -> None:
    grow(tree, *ignored, *stay)
    write_patterns(tree, newline.join(["!.*ignore", *patterns, "!.*ignore"]).encode())
    assert kept(tree) == {".gitignore", ".dorkyignore", *stay}
    assert kept_by_git(tree) == kept(tree)
    rules = Ignore.root(tree)
    assert [path for path in [*ignored, *stay] if rules.ignored(path)] == ignored


def test_a_name_that_is_not_utf8(tree: Path) -> None:
    odd = os.fsdecode(b"\xff.log")
    try:
        grow(tree, odd, "a")
    except OSError:
        pytest.skip("this file system holds only UTF-8 names")
    write_patterns(tree, b"*.log\n.*\n")
    assert kept(tree) == kept_by_git(tree) == {"a"}


# --- several files --------------------------------------------------------------------------


def test_deeper_files_win(tree: Path) -> None:
    grow(tree, "a.log", "x/a.log", "x/y/a.log", "x/y/b")
    write_patterns(tree, b"*.log\n.*\n")
    write_patterns(tree / "x", b"!*.log\n")
    write_patterns(tree / "x/y", b"/a.log\nb\n!/b\n")
    assert kept(tree) == kept_by_git(tree) == {"x/a.log", "x/y/b"}


def test_a_deeper_file_can_not_open_an_ignored_directory(tree: Path) -> None:
    grow(tree, "x/a")
    write_patterns(tree, b"x/\n.*\n")
    write_patterns(tree / "x", b"!a\n!*\n")
    assert kept(tree) == kept_by_git(tree) == set()
    assert Ignore.root(tree).ignored("x/a")


def test_an_anchor_is_the_directory_of_its_file(tree: Path) -> None:
    grow(tree, "a", "x/a", "x/y/a")
    write_patterns(tree, b".*\n")
    write_patterns(tree / "x", b"/a\n")
    assert kept(tree) == kept_by_git(tree) == {"a", "x/y/a"}


def test_rules_stop_at_their_directory(tmp_path: Path) -> None:
    grow(tmp_path, "x/a", "y/a")
    (tmp_path / "x/.dorkyignore").write_bytes(b"a\n")
    assert kept(tmp_path) == {"x/.dorkyignore", "y/a"}


def test_a_link_to_a_directory_is_no_directory(tree: Path) -> None:
    grow(tree, "x/a")
    (tree / "link").symlink_to("x")
    write_patterns(tree, b"link/\n.*\n")
    assert kept(tree) == kept_by_git(tree) == {"x/a", "link"}
    assert not Ignore.root(tree).ignored("link")


def test_a_missing_path_counts_as_a_file(tmp_path: Path) -> None:
    (tmp_path / ".dorkyignore").write_bytes(b"a/\n")
    assert not Ignore.root(tmp_path).ignored("a")
    assert Ignore.root(tmp_path).ignored("a/b/c")


# --- what is ignored without being told -----------------------------------------------------

DEFAULTS = (
    ".git/config .dorky/db x/.git/config x/.dorky/db x/.GIT/config .hg/x .svn/x node_modules/x "
    "x/node_modules/y __pycache__/x .mypy_cache/x .pytest_cache/x .ruff_cache/x .tox/x .nox/x "
    ".cache/x .terraform/x .gradle/x .next/x .nuxt/x .turbo/x .DS_Store x/.DS_Store Thumbs.db "
    ".env.swp .env~"
)


def test_defaults(tmp_path: Path) -> None:
    stay = {".env", "env/prod/.env", "venv/.env", "x/node_modules.md", "cache/x", ".next.js"}
    defaults = DEFAULTS.split()
    grow(tmp_path, *defaults, *stay)
    assert kept(tmp_path) == stay
    rules = Ignore.root(tmp_path)
    assert all(rules.ignored(path) for path in defaults)


def test_a_file_with_the_name_of_a_default_directory_stays(tmp_path: Path) -> None:
    grow(tmp_path, "node_modules", ".cache", ".terraform")
    assert kept(tmp_path) == {"node_modules", ".cache", ".terraform"}


def test_the_git_file_of_a_worktree_is_ignored(tmp_path: Path) -> None:
    grow(tmp_path, "x/.git", "x/a")
    assert kept(tmp_path) == {"x/a"}


@pytest.mark.parametrize("name", ["env", ".venv", "py"])
def test_a_virtual_environment_is_known_by_its_file(tmp_path: Path, name: str) -> None:
    grow(tmp_path, f"{name}/pyvenv.cfg", f"{name}/lib/a", "b")
    assert kept(tmp_path) == {"b"}
    (tmp_path / ".dorkyignore").write_text(f"!{name}/\n")
    assert kept(tmp_path) == {".dorkyignore", f"{name}/pyvenv.cfg", f"{name}/lib/a", "b"}


def test_defaults_can_be_taken_back(tmp_path: Path) -> None:
    grow(tmp_path, "node_modules/a", "x/.DS_Store", "a.swp", "b~", "x/.cache/c")
    (tmp_path / ".dorkyignore").write_text("!node_modules/\n!.DS_Store\n!*.swp\n")
    (tmp_path / "x/.dorkyignore").write_text("!.cache\n")
    got = kept(tmp_path) - {".dorkyignore", "x/.dorkyignore"}
    assert got == {"node_modules/a", "x/.DS_Store", "a.swp", "x/.cache/c"}


def test_repositories_can_not_be_taken_back(tmp_path: Path) -> None:
    grow(tmp_path, ".git/a", ".dorky/a", "x/.git/a", "x/.dorky/a", "b")
    (tmp_path / ".dorkyignore").write_text("!.git\n!.dorky/\n!*\n!**\n")
    assert kept(tmp_path) == {".dorkyignore", "b"}


# --- why ------------------------------------------------------------------------------------


def test_why(tmp_path: Path) -> None:
    grow(tmp_path, "x/a.log", "y/b", "z/pyvenv.cfg", "node_modules/a", "c~", "d.swp", ".git/x", "e")
    (tmp_path / ".dorkyignore").write_text("# logs\n\n*.log  \n/y/\n!e\n")
    (tmp_path / "x/.dorkyignore").write_text("!b.log\n")
    why = Ignore.root(tmp_path).why
    assert why("x/a.log") == (".dorkyignore", 3, "*.log")
    assert why("y/b") == (".dorkyignore", 4, "/y/")
    assert why("x/b.log") is None
    assert why("e") is None
    assert why("f") is None
    assert why("node_modules/a") == ("", 0, "node_modules/")
    assert why("c~") == ("", 0, "*~")
    assert why("d.swp") == ("", 0, "*.swp")
    assert why(".git/x") == ("", 0, ".git")
    rule = why("z/pyvenv.cfg")
    assert rule
    assert rule.pattern.startswith("z/ ")


def test_why_names_the_nested_file(tmp_path: Path) -> None:
    (tmp_path / "x/é").mkdir(parents=True)
    (tmp_path / "x/é/.dorkyignore").write_text("ü\n", encoding="utf-8")
    assert Ignore.root(tmp_path).why("x/é/ü") == Rule("x/é/.dorkyignore", 1, "ü")


# --- trouble --------------------------------------------------------------------------------


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/.dorkyignore").write_bytes(b"a\n\xff\n")
    with pytest.raises(errors.BadConfig, match=r"x/\.dorkyignore is malformed: it is not UTF-8"):
        Ignore.root(tmp_path).enter("x")


def test_a_pipe_or_a_directory_of_that_name_is_no_ignore_file(tmp_path: Path) -> None:
    grow(tmp_path, "x/.dorkyignore/a", "b")
    os.mkfifo(tmp_path / ".dorkyignore")
    assert kept(tmp_path) == {".dorkyignore", "x/.dorkyignore/a", "b"}


def test_an_empty_file(tmp_path: Path) -> None:
    grow(tmp_path, ".dorkyignore", "node_modules/a", "b")
    assert kept(tmp_path) == {".dorkyignore", "b"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable(tmp_path: Path) -> None:
    grow(tmp_path, ".dorkyignore")
    (tmp_path / ".dorkyignore").chmod(0)
    with pytest.raises(errors.UnreadableFile):
        Ignore.root(tmp_path)
