"""The lines in `.gitignore` and `info/exclude`, against git itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dorky import errors, git, gitignore

BEGIN = "# >>> dorky: files kept by dorky, not by git >>>\n"
END = "# <<< dorky <<<\n"


def run(top: Path, *args: str) -> str:
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.test"]
    done = subprocess.run(
        ["git", *who, *args], cwd=top, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def write(*paths: Path, text: str = "x\n") -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    made = tmp_path.resolve() / "top"
    made.mkdir()
    run(made, "init", "--quiet", "--initial-branch", "main")
    write(made / "code.py")
    run(made, "add", "code.py")
    run(made, "commit", "--quiet", "-m", "code")
    return made


def untracked(top: Path) -> set[str]:
    return set(run(top, "ls-files", "--others", "--exclude-standard").splitlines())


def exclude(top: Path) -> str:
    return (top / ".git/info/exclude").read_text()


# --- git's own exclude file -----------------------------------------------------------------


def test_the_lines_stand_in_the_clone_too(top: Path) -> None:
    before = exclude(top)
    write(top / ".env", top / "d/a")
    gitignore.ignore(top, [top / ".env"], [top / "d"])
    assert exclude(top) == f"{before}{BEGIN}/.env\n/d/\n{END}"
    (top / ".gitignore").unlink()  # as on a branch from before dorky
    assert untracked(top) == set()
    gitignore.unignore(top, [top / ".env"], ["d/a"])
    assert exclude(top) == f"{before}{BEGIN}/d/\n{END}"
    gitignore.unignore(top, [top / "d/a"])
    assert exclude(top) == before
    assert untracked(top) == {".env", "d/a"}


def test_a_project_below_the_top_and_a_linked_worktree(top: Path) -> None:
    linked = top.parent / "linked"
    run(top, "worktree", "add", "--quiet", str(linked), "-b", "other")
    project = linked / "sp [ace]/pay"
    write(project / ".env", linked / ".env", top / "sp [ace]/pay/.env")
    gitignore.ignore(project, [project / ".env"])
    (project / ".gitignore").unlink()
    assert untracked(linked) == {".env"}
    assert untracked(top) == set()
    assert "/sp \\[ace]/pay/.env\n" in exclude(top)


def test_nothing_is_written_through_a_link_out_of_gits_directory(top: Path) -> None:
    outside = top.parent / "outside"
    write(outside, text="precious\n")
    file = top / ".git/info/exclude"
    file.unlink()
    file.symlink_to(outside)
    assert gitignore.ignore(top, [top / "a"]) == ["/a"]
    assert outside.read_text() == "precious\n"
    file.unlink()
    (top / ".git/info").rename(top.parent / "info")
    (top / ".git/info").symlink_to(top.parent / "info")
    assert gitignore.ignore(top, [top / "b"]) == ["/b"]
    assert not (top.parent / "info/exclude").exists()


@pytest.mark.parametrize("odd", ["loop", "huge"])
def test_an_exclude_file_that_cannot_be_used(
    top: Path, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    file = top / ".git/info/exclude"
    if odd == "huge":
        monkeypatch.setattr(gitignore, "_LARGEST", 100)
    else:
        file.unlink()
    if odd == "loop":
        file.symlink_to("exclude")
    before = file.lstat()
    assert gitignore.ignore(top, [top / "a"]) == ["/a"]
    assert git.not_ignored(top, [top / "a"]) == []
    assert file.lstat() == before


def test_an_exclude_file_with_windows_line_ends(top: Path) -> None:
    (top / ".git/info/exclude").write_bytes(b"*.log\r\n")
    gitignore.ignore(top, [top / "a "])
    (top / ".gitignore").unlink()
    assert git.not_ignored(top, [top / "a ", top / "a", top / "b.log"]) == [top / "a"]


def test_git_without_an_info_directory(top: Path) -> None:
    (top / ".git/info/exclude").unlink()
    (top / ".git/info").rmdir()
    gitignore.ignore(top, [top / "a"])
    assert exclude(top) == f"{BEGIN}/a\n{END}"


# --- directories ----------------------------------------------------------------------------


def test_a_directory_takes_the_place_of_its_files(top: Path) -> None:
    gitignore.ignore(top, [top / "d/a", top / "d/e/b", top / "dd"])
    assert gitignore.ignore(top, [top / "d/c"], [top / "d"]) == ["/d/"]
    assert (top / ".gitignore").read_text() == f"{BEGIN}/d/\n/dd\n{END}"
    assert gitignore.whole(top, top) == {"d"}


def test_the_line_of_a_directory_goes_with_its_last_file(top: Path) -> None:
    gitignore.ignore(top, [], [top / "d"])
    assert gitignore.unignore(top, [top / "d/a"], ["d/b"]) == []
    assert gitignore.unignore(top, [top / "d/b"], ["other/b"]) == ["/d/"]
    assert not (top / ".gitignore").exists()


@pytest.mark.parametrize(
    "name", ["plain", "a b", "back ", "#h", "!bang", "[ab]", "star*", "q?", "b\\s", "ünï", " f"]
)
def test_the_marks_of_directories_are_read_as_they_are_written(top: Path, name: str) -> None:
    write(top / name / "x", top / "near")
    gitignore.ignore(top, [], [top / name])
    assert gitignore.whole(top, top) == {name}
    assert untracked(top) == {".gitignore", "near"}


# --- merging --------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["", "*.log\n", f"*.log\n{BEGIN}/m\n{END}# mine\n"])
@pytest.mark.parametrize("below", ["", "services/p y"])
def test_two_branches_merge_without_a_conflict(top: Path, start: str, below: str) -> None:
    project = top / below
    if start:
        write(project / ".gitignore", text=start)
        run(top, "add", ".")
        run(top, "commit", "--quiet", "-m", "start")
    project.mkdir(parents=True, exist_ok=True)
    run(top, "branch", "base")
    for branch, names, directory in (("one", ["a", "n"], ""), ("two", ["b", "d/x"], "d")):
        run(top, "checkout", "--quiet", "-B", branch, "base")
        project.mkdir(parents=True, exist_ok=True)
        directories = [project / directory] if directory else []
        gitignore.ignore(project, [project / name for name in names], directories)
        run(top, "add", ".")
        run(top, "commit", "--quiet", "-m", branch)
    run(top, "merge", "--quiet", "-m", "merged", "one")
    gitignore.ignore(project, [project / "c"])
    text = (project / ".gitignore").read_text()
    block = "".join(f"/{name}\n" for name in ("a", "b", "c", "d/", *("m" * ("/m" in start)), "n"))
    assert f"{BEGIN}{block}{END}" in text
    assert (text.count(BEGIN), text.count(END)) == (1, 1)
    assert text.replace(f"{BEGIN}{block}{END}", "") == start.replace(f"{BEGIN}/m\n{END}", "")


def test_a_conflict_in_the_block_is_settled_by_keeping_both_sides(top: Path) -> None:
    conflict = "<<<<<<< HEAD\n/a\n||||||| base\n=======\n/b\n>>>>>>> two\n"
    write(top / ".gitignore", text=f"{BEGIN}{conflict}{END}*.log\n")
    gitignore.ignore(top, [top / "c"])
    assert (top / ".gitignore").read_text() == f"{BEGIN}/a\n/b\n/c\n{END}*.log\n"


def test_a_link_is_refused_only_when_it_matters(
    top: Path,
) -> None:
    (top / ".gitignore").symlink_to("code.py")
    with pytest.raises(errors.IgnoreFileIsLink):
        gitignore.ignore(top, [top / "a"])
    assert gitignore.ignore(top, []) == []
