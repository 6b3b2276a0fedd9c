"""Staging: what paths select, what can be kept, and what is git's."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from disks import Tree, difference, file, link, plant, trees, unprivileged
from hypothesis import HealthCheck, given, settings
from machines import files

from dorky import errors
from dorky.cli import hints
from dorky.repo import Repository
from dorky.results import Change
from dorky.store.objects import Writer
from dorky.worktree.worktree import Worktree


def write(*names: str | bytes, content: str = "x") -> None:
    for name in names:
        path = Path(os.fsdecode(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def git(*arguments: str) -> str:
    who = ["-c", "user.name=Ana", "-c", "user.email=ana@example.test"]
    done = subprocess.run(["git", *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def staged(repo: Repository) -> dict[str, str]:
    return {each.path: each.what for each in repo.status().staged}


def added(*paths: str) -> dict[str, str]:
    return dict.fromkeys(paths, "added")


# --- what paths select ----------------------------------------------------------------------


def test_files_directories_and_all(repo: Repository) -> None:
    write("a", "d/b", "d/e/c", "f")
    assert repo.stage(["a"]).changes == (Change("a", "added"),)
    repo.stage(["d/"])
    assert staged(repo) == added("a", "d/b", "d/e/c")
    repo.stage(["d/e/../../f", "."])
    assert staged(repo) == added("a", "d/b", "d/e/c", "f")
    assert repo.stage(["."]).changes == ()


def test_patterns_that_the_shell_left_alone(repo: Repository) -> None:
    write("a.env", "b.env", "c.txt", "d/a.env", "d/e/a.env", "[x]", "x")
    repo.stage(["*.env"])
    assert staged(repo) == added("a.env", "b.env")
    repo.stage(["d/*"])
    assert staged(repo) == added("a.env", "b.env", "d/a.env")
    repo.stage(["**/*.env"])
    assert staged(repo) == added("a.env", "b.env", "d/a.env", "d/e/a.env")
    repo.stage(["[x]"])  # there is a file of that name
    assert "[x]" in staged(repo)
    assert "x" not in staged(repo)
    repo.stage(["?"])
    assert "x" in staged(repo)
    with pytest.raises(errors.PathNotFound):
        repo.stage(["*.nothing"])


def test_two_stars_stand_for_whole_directories(repo: Repository) -> None:
    write("a/b", "a/c/b", "a/c/d/b", "a/xb", "a/c/xb")
    repo.stage(["a/**/b"])
    assert staged(repo) == added("a/b", "a/c/b", "a/c/d/b")


def test_deleted_files_are_staged_by_name_directory_and_pattern(repo: Repository) -> None:
    names = ["a", "d/b", "d/e/c", "p1", "p2", "rest"]
    write(*names)
    repo.stage(["."])
    repo.commit("all")
    for name in names:
        Path(name).unlink()
    repo.stage(["a"])
    assert staged(repo) == {"a": "deleted"}
    repo.stage(["d"])
    repo.stage(["p*"])
    assert staged(repo) == dict.fromkeys(["a", "d/b", "d/e/c", "p1", "p2"], "deleted")
    repo.stage(["."])
    repo.commit("none")
    assert repo.ls() == []


def test_one_path_that_is_wrong_stages_nothing(repo: Repository) -> None:
    write("a", "b")
    for wrong in ("nope", "nope*", "a/below", "/etc/passwd", "", ".dorky/dorky.db", ".dorkyrc"):
        with pytest.raises(errors.DorkyError):
            repo.stage(["a", wrong, "b"])
        assert staged(repo) == {}


def test_files_and_directories_take_each_others_place(repo: Repository) -> None:
    plant(repo.root, {"a": file("1"), "d/x": file("1"), "d/y/z": file("1"), "l": link("a")})
    repo.stage(["."])
    repo.commit("first")
    plant(repo.root, {"a/new": file("2"), "d": file("2"), "l/x": file("2")})
    assert repo.status().unstaged == tuple(
        Change(path, "deleted") for path in ("a", "d/x", "d/y/z", "l")
    ) or {each.path for each in repo.status().unstaged} >= {"a", "d/x", "d/y/z", "l"}
    repo.stage(["a", "d", "l"])
    assert {each.path for each in repo.status().staged if each.what == "added"} == {
        *("a/new", "d", "l/x")
    }
    repo.commit("swapped")
    assert {each.path for each in repo.ls()} == {"a/new", "d", "l/x"}


def test_a_path_behind_a_link_is_the_links_not_the_projects(
    repo: Repository, tmp_path: Path
) -> None:
    """A directory that became a link: what it held is deleted, what the link shows is not ours."""
    write("d/x")
    repo.stage(["."])
    repo.commit("first")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x").write_text("not ours")
    Path("d/x").unlink()
    Path("d").rmdir()
    Path("d").symlink_to(elsewhere)
    assert repo.status().unstaged == (Change("d/x", "deleted"),)
    with pytest.raises(errors.UnstorablePath, match="d is a symbolic link"):
        repo.stage(["d/y"])
    repo.stage(["d/x"])
    assert staged(repo) == {"d/x": "deleted"}
    repo.stage(["."])
    repo.commit("a link")
    assert [each.path for each in repo.ls()] == ["d"]


def test_dorkyignore_holds_for_directories_but_not_for_what_is_tracked(repo: Repository) -> None:
    write("keep.log", "a.log", "build/x", "src/b.log", "src/c")
    repo.stage(["keep.log"])
    Path(".dorkyignore").write_text("*.log\nbuild/\n")
    write("keep.log", content="changed")
    repo.stage(["."])
    assert staged(repo) == added("keep.log", "src/c", ".dorkyignore")
    for named in ("a.log", "build", "build/x"):
        with pytest.raises(errors.UsageError, match=r"ignored by \.dorkyignore"):
            repo.stage([named])
    repo.stage(["a.log", "build/x"], force=True)
    assert staged(repo).keys() >= {"a.log", "build/x"}


# --- what can be kept -----------------------------------------------------------------------


_SETTINGS = settings(
    max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
_GIVEN = given(first=trees, second=trees)


@_SETTINGS
@_GIVEN
def test_trees_are_checked_out_elsewhere_just_so(tmp_path: Path, first: Tree, second: Tree) -> None:
    check_out_elsewhere(tmp_path, first, second)


@pytest.mark.deep
@settings(_SETTINGS, max_examples=40)
@_GIVEN
def test_more_trees_are_checked_out_elsewhere(tmp_path: Path, first: Tree, second: Tree) -> None:
    check_out_elsewhere(tmp_path, first, second)


def check_out_elsewhere(tmp_path: Path, first: Tree, second: Tree) -> None:
    """Bytes, modes and links; and status and stage tell the same difference as dictionaries."""
    before, place = os.umask(0), Path.cwd()  # the umask would take from the modes
    try:
        _check_trees(tmp_path, first, second)
    finally:
        os.chdir(place)
        os.umask(before)


def _check_trees(tmp_path: Path, first: Tree, second: Tree) -> None:
    here = Path(tempfile.mkdtemp(dir=tmp_path))
    url = str(here / "vault")
    repo, _ = Repository.init(here / "one", url)
    with repo:
        plant(repo.root, first)
        os.chdir(repo.root)
        repo.stage(["."])
        assert [(each.path, each.what) for each in repo.status().staged] == difference({}, first)
        repo.stage(["."])
        if first:
            repo.commit("first")
        plant(repo.root, second)
        repo.stage(["."])
        changes = [(each.path, each.what) for each in repo.status().staged]
        assert changes == difference(first, second)
        assert repo.status().unstaged == ()
        if changes:
            repo.commit("second")
        if first or second:
            repo.push()
    other, _ = Repository.clone(url, here / "two")
    with other:
        assert files(other.root) == second
        assert other.status().clean
        if first and changes:
            other.checkout("HEAD~1")
            assert files(other.root) == first


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *(
            (name, "Windows")
            for name in ("a:b", "what?", "CON", "aux.txt", "a.", "b ", "a\\b", "<")
        ),
        (b"\xff", "UTF-8"),
        (b"a\xc3/b", "UTF-8"),
        (b"\xed\xa0\x80", "UTF-8"),  # a surrogate
        *(
            (name, "own directory")
            for name in (".GIT/x", ".git./x", "d/.g\u200cit", ".DORKY", "git~1")
        ),
    ],
    ids=ascii,
)
def test_names_that_can_not_be_kept(repo: Repository, name: str | bytes, reason: str) -> None:
    write(name, "fine")
    with pytest.raises(errors.UnstorablePath, match=reason):
        repo.stage([os.fsdecode(name)])
    assert staged(repo) == {}
    if "own directory" not in reason:  # a walk passes over some spellings of .git
        write("beside")
        (left,) = repo.stage(["."]).omitted
        assert reason in left.why
        assert staged(repo) == added("beside", "fine")


def test_names_that_windows_lacks_may_be_allowed(repo: Repository) -> None:
    write("a:b", "CON")
    repo.config.set("portable_names", False, scope="project")
    repo.stage(["a:b", "CON"])
    assert staged(repo) == added("a:b", "CON")


@pytest.mark.parametrize(
    ("one", "other"),
    [("readme", "README"), ("Dir/a", "dir/b"), ("é", "É"), ("a/X/y", "a/x"), ("straße", "STRASSE")],
)
def test_names_that_are_one_where_case_does_not_count(
    repo: Repository, one: str, other: str
) -> None:
    write(one, other)
    for paths in ([one, other], ["."]):
        with pytest.raises(errors.NameClash) as caught:
            repo.stage(paths)
        first, second = caught.value.args
        assert {first.casefold()} == {second.casefold()}
        assert first != second
        assert f"{first} and {second}" in caught.value.message
        assert staged(repo) == {}
    repo.stage([one])
    repo.commit("one")
    with pytest.raises(errors.NameClash):
        repo.stage([other])


def test_a_name_may_change_its_case(repo: Repository) -> None:
    write("Readme", "Docs/a")
    repo.stage(["."])
    repo.commit("first")
    Path("Readme").rename("README")
    Path("Docs").rename("docs")
    repo.stage(["."])
    repo.commit("renamed")
    assert {each.path for each in repo.ls()} == {"README", "docs/a"}


def test_the_same_letter_in_two_unicode_forms_is_two_names(repo: Repository) -> None:
    names = ["\u00e9", "e\u0301", "\u1e9b\u0323", "\u1e69"]
    write(*names)
    repo.stage(["."])
    repo.commit("forms")
    assert sorted(each.path for each in repo.ls()) == sorted(names)


def special_socket() -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("special")


def special_pipe() -> None:
    os.mkfifo("special")


def special_device() -> None:
    try:
        os.mknod("special", 0o020600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")


@pytest.mark.parametrize("make", [special_socket, special_pipe, special_device])
def test_what_has_no_content_is_refused_and_never_waited_for(
    repo: Repository, make: Callable[[], None]
) -> None:
    write("fine")
    make()
    with pytest.raises(errors.UnstorablePath, match="special"):
        repo.stage(["special"])
    assert [left.path for left in repo.stage(["."]).omitted] == ["special"]
    assert staged(repo) == added("fine")
    repo.commit("first")
    Path("special").unlink()
    write("special")
    repo.stage(["."])
    repo.commit("a file")
    Path("special").unlink()
    make()
    assert repo.status().unstaged == (Change("special", "modified"),)
    with pytest.raises(errors.UnstorablePath):
        repo.commit("all", all=True)


def test_an_unreadable_file_is_left_out(repo: Repository, tmp_path: Path) -> None:
    write("closed", "open", "shut/inside")
    Path("closed").chmod(0)
    with unprivileged(tmp_path):
        with pytest.raises(errors.UnreadableFile, match="closed can't be read: Permission denied"):
            repo.stage(["closed", "."])
        assert staged(repo) == {}
        Path("shut").chmod(0)
        try:
            left = repo.stage(["."]).omitted
            assert {(item.path, item.why) for item in left} == {
                ("closed", "Permission denied"),
                ("shut", "Permission denied"),
            }
            # Some other program's data does not keep us from looking at ours.
            assert staged(repo) == added("open")
        finally:
            Path("shut").chmod(0o700)


# --- files that change while they are read --------------------------------------------------

SIZES = [pytest.param(1000, id="small"), pytest.param(3_000_000, id="large")]


@pytest.fixture
def meddle(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object], int], list[int]]:
    """Do something while a file is being read, so many times."""

    def begin(act: Callable[[], object], times: int) -> list[int]:
        done: list[int] = []
        watched = Path("file").resolve()

        def meddling(really: Callable[..., object]) -> Callable[..., object]:
            def read(fd: int, *arguments: object) -> object:
                found = really(fd, *arguments)
                if len(done) < times and Path(f"/proc/self/fd/{fd}").resolve() == watched:
                    done.append(fd)
                    act()
                return found

            return read

        for name in ("read", "readv", "preadv", "pread"):
            monkeypatch.setattr(os, name, meddling(getattr(os, name)))
        return done

    return begin


def longer() -> None:
    with Path("file").open("a") as out:
        out.write("more")


def same_size() -> None:
    with Path("file").open("r+") as out:
        out.write("new")
    os.utime("file")


def shorter() -> None:
    os.truncate("file", 10)


@pytest.mark.each_value
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("act", [longer, same_size, shorter])
def test_a_file_that_changes_once_is_read_again(
    repo: Repository,
    meddle: Callable[[Callable[[], object], int], list[int]],
    act: Callable[[], None],
    size: int,
) -> None:
    write("file", content="old" * (size // 3))
    meddle(act, 1)
    repo.stage(["file"])
    repo.commit("whole")
    assert b"".join(repo.cat("HEAD", "file")) == Path("file").read_bytes()
    assert repo.status().clean


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("size", SIZES)
def test_a_file_that_never_holds_still_is_refused(
    repo: Repository, meddle: Callable[[Callable[[], object], int], list[int]], size: int
) -> None:
    write("file", content="old" * (size // 3))
    before = set(repo.state.glob("packs/*"))
    done = meddle(same_size, 10**9)
    with pytest.raises(errors.FileChanged, match="file keeps changing"):
        repo.stage(["file"])
    assert len(done) >= 3
    assert staged(repo) == {}
    assert set(repo.state.glob("packs/*")) == before


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("size", SIZES)
def test_a_file_that_grows_as_fast_as_it_is_read_is_not_read_for_ever(
    repo: Repository, meddle: Callable[[Callable[[], object], int], list[int]], size: int
) -> None:
    write("file", content="old" * (size // 3))

    def grow() -> None:
        assert len(done) < 100, "read without end"
        with Path("file").open("ab") as out:
            out.write(bytes(1 << 20))

    done = meddle(grow, 10**9)
    with pytest.raises(errors.FileChanged):
        repo.stage(["file"])


def test_a_log_that_somebody_else_writes_all_the_time(repo: Repository) -> None:
    """The same with a real writer, which no patch helps."""
    stop = threading.Event()
    write("file", content="line\n" * 2_000_000)

    def scribble() -> None:
        with Path("file").open("a", buffering=1) as out:
            while not stop.is_set():
                out.write("line\n")

    writer = threading.Thread(target=scribble)
    writer.start()
    try:
        with pytest.raises(errors.FileChanged):
            repo.stage(["file"])
    finally:
        stop.set()
        writer.join()
    repo.stage(["file"])
    assert staged(repo) == added("file")


@pytest.mark.parametrize("gone", ["vanishes", "pipe"])
def test_a_file_that_is_no_file_when_it_is_opened(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    write("file")
    really = Worktree.open

    def late(self: Worktree, path: str) -> int:
        Path("file").unlink()
        if gone == "pipe":
            os.mkfifo("file")
        return really(self, path)

    monkeypatch.setattr(Worktree, "open", late)
    with pytest.raises((errors.PathNotFound, errors.UnstorablePath)):
        repo.stage(["file"])
    assert staged(repo) == {}


def when_opened(monkeypatch: pytest.MonkeyPatch, turn: int, act: Callable[[], object]) -> None:
    """Do something right before the n-th file is opened for reading."""
    really = Worktree.open
    turns = itertools.count(1)

    def late(self: Worktree, path: str) -> int:
        if next(turns) == turn:
            act()
        return really(self, path)

    monkeypatch.setattr(Worktree, "open", late)


def test_a_large_file_that_is_empty_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "vault")
    repo, _ = Repository.init(tmp_path / "one", url)
    with repo:
        monkeypatch.chdir(repo.root)
        write("log", content="x" * 600_000)
        when_opened(monkeypatch, 1, lambda: os.truncate("log", 0))
        repo.stage(["log"])
        repo.commit("emptied")
        assert repo.status().clean
        assert b"".join(repo.cat("HEAD", "log")) == b""
        repo.push()
    other, _ = Repository.clone(url, tmp_path / "two")
    with other:
        assert files(other.root) == files(repo.root)
        assert (other.root / "log").read_bytes() == b""
        assert other.status().clean


@pytest.mark.parametrize("large", [set(), {"b"}, {"a", "b"}], ids=["none", "one", "both"])
@pytest.mark.parametrize("turn", [1, 2])
def test_a_directory_that_becomes_a_link_while_it_is_read(
    repo: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    large: set[str],
    turn: int,
) -> None:
    """What another directory holds under the same names is not the project's."""
    elsewhere = tmp_path / "elsewhere"
    for directory in (Path("d"), elsewhere):
        for name in "ab":
            text = f"{directory.name} " * (100_000 if name in large else 1)
            write(str(directory / name), content=text)

    def swap() -> None:
        Path("d").rename("moved")
        Path("d").symlink_to(elsewhere)

    before = set(repo.state.glob("packs/*"))
    when_opened(monkeypatch, turn, swap)
    with pytest.raises(errors.PathNotFound, match="d/"):
        repo.stage(["d"])
    assert staged(repo) == {}
    assert set(repo.state.glob("packs/*")) == before


# --- beside git -----------------------------------------------------------------------------


@pytest.fixture
def in_git(repo: Repository) -> Repository:
    git("init", "-q")
    return repo


def test_what_git_tracks_is_refused_with_the_command_that_untracks_it(in_git: Repository) -> None:
    write("a b", "src/code", ".env")
    git("add", "a b", "src/code")
    with pytest.raises(errors.GitTracked) as caught:
        in_git.stage(["a b"])
    assert caught.value.message == "git tracks a b"
    assert hints.hint(caught.value) == "git rm --cached -- 'a b'"
    done = in_git.stage(["."])  # in a directory it is just passed over
    assert done.skipped == 2
    assert staged(in_git) == added(".env")
    subprocess.run(hints.hint(caught.value), shell=True, check=True, capture_output=True)
    in_git.stage(["a b"])
    assert staged(in_git) == added(".env", "a b")
    git("add", "-f", ".env")  # somebody gives it to git after all
    write(".env", content="changed")
    with pytest.raises(errors.GitTracked):
        in_git.stage(["."])
    in_git.unstage(["."])
    with pytest.raises(errors.GitTracked):
        in_git.stage([".env"])


def test_git_ignores_what_is_staged(in_git: Repository) -> None:
    Path(".gitignore").write_text("*.log\n")
    write(".env", "x.log", "sub/#odd name ")
    done = in_git.stage([".env", "x.log"])
    assert done.ignored == ("/.env",)
    text = Path(".gitignore").read_text()
    assert text.startswith("*.log\n# >>> dorky")
    for name in (".env", "x.log"):
        assert git("check-ignore", name) == f"{name}\n"
    assert "x.log" not in text.replace("*.log", "")
    assert in_git.stage([".env"]).ignored == ()
    assert Path(".gitignore").read_text() == text
    git("add", ".")
    assert ".env" not in git("ls-files").split()


@pytest.mark.parametrize("own", ["", "*.log\n"], ids=["no file", "a file"])
@pytest.mark.parametrize("why", ["a pipe", "a full disk"])
def test_what_could_not_be_staged_is_not_hidden_from_git(
    in_git: Repository, monkeypatch: pytest.MonkeyPatch, own: str, why: str
) -> None:
    gits = Path(".gitignore")
    if own:
        gits.write_text(own)
    write("kept")
    in_git.stage(["kept"])
    before = gits.read_text()
    write("d/.env", "d/x", "kept", content="new")
    with monkeypatch.context() as patched:
        if why == "a pipe":
            os.mkfifo("d/pipe")
        else:
            patched.setattr(Writer, "save", full)
        with pytest.raises((errors.UnstorablePath, errors.DiskFull)):
            in_git.stage(["kept", "d", "d/pipe"] if why == "a pipe" else ["kept", "d"])
    assert gits.read_text() == before
    assert git("check-ignore", "kept") == "kept\n"
    assert "d/.env" in git("ls-files", "--others", "--exclude-standard")
    Path("d/pipe").unlink(missing_ok=True)
    assert in_git.stage(["kept", "d"]).ignored == ("/d/",)
    assert git("check-ignore", "d/.env", "d/x") == "d/.env\nd/x\n"


def full(*_: object) -> NoReturn:
    raise errors.DiskFull("a pack")


def test_untracking_gives_a_file_back_to_git(in_git: Repository) -> None:
    write(".env")
    in_git.stage([".env"])
    in_git.commit("first")
    in_git.rm([".env"], cached=True)
    assert Path(".env").exists()
    assert not Path(".gitignore").exists() or "/.env" not in Path(".gitignore").read_text()


def test_gits_own_files_and_dorkyrc_are_left_to_git(in_git: Repository) -> None:
    write(".gitignore", ".gitattributes", "sub/.gitignore", ".dorkyignore", content="\n")
    write("secret")
    in_git.stage(["."])
    assert staged(in_git) == added("secret")
    for named in (".gitignore", ".gitattributes", "sub/.gitignore", ".dorkyrc"):
        with pytest.raises(errors.UnstorablePath, match="belongs into git"):
            in_git.stage([named])
    assert git("status", "--porcelain", "--untracked-files=all").split() == [
        *("??", ".dorkyignore", "??", ".dorkyrc"),
        *("??", ".gitattributes", "??", ".gitignore", "??", "sub/.gitignore"),
    ]


def test_a_rule_that_takes_a_file_back_is_named(in_git: Repository) -> None:
    write("sub/.env")
    Path("sub/.gitignore").write_text("!.env\n")
    with pytest.raises(errors.GitDoesNotIgnore, match=r"sub/\.env"):
        in_git.stage(["sub/.env"])


def test_a_commit_names_the_commit_of_git(in_git: Repository) -> None:
    write("code", ".env")
    git("add", "code")
    git("commit", "-qm", "code")
    in_git.stage([".env"])
    in_git.commit("first")
    assert in_git.show().git == git("rev-parse", "HEAD").strip()


# --- secrets --------------------------------------------------------------------------------


def test_status_hints_at_what_looks_like_a_secret(repo: Repository) -> None:
    secrets = [".env", ".env.local", "prod.env", "deep/key.pem", "id_ed25519", "credentials.json"]
    harmless = [".env.example", "id_ed25519.pub", "README", "node_modules/x/.env", "environment"]
    write(*secrets, *harmless)
    assert repo.status().secrets == tuple(sorted(secrets))
    repo.stage([".env"])
    assert repo.status().secrets == tuple(sorted(secrets[1:]))
    Path(".dorkyignore").write_text("deep/\n")
    assert "deep/key.pem" not in repo.status().secrets
    assert staged(repo) == added(".env")  # hinted at, never staged by themselves
