"""stage, unstage, rm, status, commit, restore, checkout: what they take and what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess

import msgspec
import pytest
from machines import Machine

from dorky.results import CheckedOut, LogEntry, Result, Staged, Status

ID = re.compile(r"^[0-9a-f]{64}$")


def record(kind: type[Result], raw: bytes) -> Result:
    """The record that JSON holds, with all of its fields and no others."""
    found = msgspec.json.decode(raw)
    assert list(found) == [field.name for field in msgspec.structs.fields(kind)]
    return msgspec.convert(found, kind)


# --- stage ----------------------------------------------------------------------------------


def test_stage_and_its_alias(ana: Machine) -> None:
    ana("init")
    ana.write("a", "1")
    ana.write("b c", "1")
    assert ana("stage", "a").out == "  A a\n"
    assert ana("add", "b c").out == "  A b c\n"
    assert ana("stage", ".").out == "Nothing new to stage.\n"
    ana.write("a", "2")
    (ana.project / "b c").unlink()
    said = ana("stage", ".", "--json")
    assert said.err == ""
    assert record(Staged, said.raw) == ana_staged(("a", "modified"), ("b c", "deleted"))


def ana_staged(*changes: tuple[str, str]) -> Staged:
    return msgspec.convert(
        {"changes": [{"path": path, "what": what} for path, what in changes]}, Staged
    )


def test_stage_tells_what_it_told_git(ana: Machine) -> None:
    subprocess.run(["git", "init", "-q", ana.project], check=True)
    ana("init")
    ana.write(".env", "1")
    ana.write("code.py", "1")
    subprocess.run(["git", "-C", ana.project, "add", "code.py"], check=True)
    said = ana("stage", ".")
    assert said.out == "  A .env\n"
    assert said.err.splitlines() == [
        "Told git to ignore 1 file (in .gitignore)",
        "Left out 1 file that git tracks",
    ]
    said = ana("stage", "code.py", code=5)
    assert said.error == "git tracks code.py"
    assert said.hint == "git rm --cached -- code.py"
    assert ana("stage", ".", "-q").err == ""


def test_stage_of_many_files_shows_some(ana: Machine) -> None:
    ana("init")
    for n in range(100):
        ana.write(f"file{n:02}", "")
    lines = ana("stage", ".").out.splitlines()
    assert lines[29:] == ["  A file29", "  … and 70 more (-v lists all)"]
    ana("unstage", ".")
    assert len(ana("stage", ".", "-v").out.splitlines()) == 100
    ana("unstage", ".")
    assert ana("stage", ".", "-q").out == ""
    ana("unstage", ".")
    assert len(ana("stage", ".", "--json").json["changes"]) == 100


@pytest.mark.parametrize(
    ("path", "code", "error"),
    [
        ("nope", 4, "nope matches no file"),
        ("no  such *", 4, "no  such * matches no file"),
        ("", 2, "A path is empty"),
        ("/etc/passwd", 2, "/etc/passwd is outside the project at {root}"),
        ("../x", 2, "../x is outside the project at {root}"),
        (".git/config", 2, ".git/config can't be stored: it is a repository's own directory"),
        (
            ".dorkyrc",
            2,
            ".dorkyrc can't be stored: it tells dorky where a repository is, and belongs into git",
        ),
        ("pipe", 2, "pipe can't be stored: it is not a regular file or a link"),
        ("aux.txt", 2, "aux.txt can't be stored: the name is a device on Windows"),
        ("ENV", 5, "env and ENV are the same name on a case-insensitive system"),
        ("x.swp", 2, "x.swp is ignored by .dorkyignore"),
        (b"\xff", 2, "'\\udcff' can't be stored: its name is not UTF-8"),
        ("new\nline", 4, "new line matches no file"),
        ("\x1b[31m", 4, "\\u001b[31m matches no file"),
    ],
)
def test_paths_that_are_refused(ana: Machine, path: str | bytes, code: int, error: str) -> None:
    ana("init")
    ana.write("env", "1")
    ana("stage", "env")
    os.mkfifo(ana.project / "pipe")
    for name in ("aux.txt", "ENV", "x.swp", os.fsdecode(b"\xff")):
        ana.write(name, "1")
    said = ana("stage", os.fsdecode(path), code=code)
    assert said.error == error.format(root=ana.project)
    assert said.out == ""
    assert [each["path"] for each in ana("status", "--json").json["staged"]] == ["env"]


# --- unstage and rm -------------------------------------------------------------------------


def test_unstage_says_what(project: Machine) -> None:
    project.write(".env", "KEY=3\n")
    project.write("new", "1")
    project("stage", ".")
    assert project("unstage", "new").out == "Unstaged 1 file:\n  new\n"
    assert project("restore", "--staged", ".").out == "Unstaged 1 file:\n  .env\n"
    assert project("unstage", ".").out == "Nothing of it was staged.\n"
    assert record(Staged, project("unstage", ".", "--json").raw) == Staged()
    assert project("unstage", "nope", code=4).error == "nope is not tracked by dorky or staged"
    said = project("restore", "--staged", "--source", "HEAD", ".env", code=2)
    assert said.error == "--staged takes no --source"


def test_rm_says_what(project: Machine) -> None:
    assert project("rm", "config").out == "  D config/app.toml\n"
    assert not (project.project / "config").exists()
    project.write(".env", "edited")
    said = project("rm", ".env", code=5)
    assert ".env" in said.error
    assert "--cached" in said.hint
    assert project("rm", "--cached", ".env", "--json").json["changes"] == [
        {"path": ".env", "what": "deleted"}
    ]
    assert project.read(".env") == b"edited"
    assert project("rm", "nope", code=4).hint == "dorky ls"


# --- status ---------------------------------------------------------------------------------


def test_status_in_words(ana: Machine) -> None:
    ana("init")
    assert ana("status").out == "On main, no remote\nNo commits yet.\n"
    ana.write(".env", "1")
    assert ana("status").out.splitlines()[2:] == [
        "Look like secrets, but are not kept (dorky stage FILE):",
        "  ? .env",
    ]
    ana.commit({".env": "1", "b": "1", "c": "1"})
    assert ana("status").out == "On main, no remote\nNothing to commit.\n"
    ana.write("b", "2")
    ana.write("new", "1")
    ana("stage", "b", "new")
    ana.write("b", "3")
    (ana.project / "c").unlink()
    assert ana("status").out.splitlines() == [
        "On main, no remote",
        "Staged for the next commit:",
        "  M b",
        "  A new",
        "Changed, not staged (dorky stage FILE):",
        "  M b",
        "  D c",
    ]
    assert ana("status", "-s").out.splitlines() == ["MM b", " D c", "A  new"]


def test_status_as_json_and_as_exit_code(project: Machine) -> None:
    said = project("status", "--json", "--exit-code")
    assert said.err == ""
    found = record(Status, said.raw)
    assert isinstance(found, Status)
    assert found.head
    assert ID.match(found.head)
    project.write(".env", "edited")
    assert project("status", "--exit-code", code=1).err == ""
    assert project("status", "-q", "--exit-code", code=1).out == ""
    said = project("status", "--json", "--exit-code", code=1)
    assert said.json["unstaged"] == [{"path": ".env", "what": "modified"}]
    assert project("status").code == 0


def test_status_of_what_is_named(project: Machine) -> None:
    project.commit({"app/.env": "1", "app/key": "1", "gone": "1"})
    project.write("app/key", "2")
    project.write("b", "changed")
    project.write("db/.env", "1")
    (project.project / "gone").unlink()
    project("stage", "b", "db/.env")

    assert project("status", "-s", "app").out == " M app/key\n"
    assert project("status", "-s", "*").out.splitlines() == ["A  b", " D gone"]
    assert project("status", "-s", "**/.env", "gone").out.splitlines() == ["A  db/.env", " D gone"]
    assert project("status", "-s", ".").out == project("status", "-s").out
    assert project("status", "app/.env").out == "On main, no remote\nNothing to commit.\n"
    project("status", "--exit-code", "app/.env")
    project("status", "--exit-code", "app", code=1)
    found = record(Status, project("status", "db", "--json").raw)
    assert [change.path for change in found.staged] == ["db/.env"]
    assert found.unstaged == ()

    project.write("id.pem", "-----BEGIN PRIVATE KEY-----")
    assert project("status", "-s", "*.pem").out == "?? id.pem\n"
    assert project("status", "app/kye", code=4).error == "app/kye matches no file"
    assert project("status", "", code=2).error
    assert project("status", "..", code=2).error
    project("status", "--hook", "key", code=2)


def test_status_beside_a_remote(shared: Machine) -> None:
    assert shared("status").out == "On main, same as origin\nNothing to commit.\n"
    shared.commit({"a": "1"})
    assert shared("status").out.startswith("On main, 1 commit ahead of origin (dorky push)\n")
    ben = shared.another("ben")
    ben("clone", (shared("config", "get", "remotes.origin.url").out.strip()), ".")
    ben.commit({"b": "1"})
    ben.commit({"b": "2"})
    ben("push")
    shared("fetch")
    first = shared("status").out.splitlines()[0]
    assert first == "On main, 1 commit ahead and 2 behind origin (dorky sync, or pull)"
    shared("checkout", "HEAD~1")
    assert re.match(r"Looking at [0-9a-f]{10}, ", shared("status").out)


def test_status_with_names_that_are_not_utf8(ana: Machine) -> None:
    """JSON gives them so that their bytes can be had back."""
    ana("init")
    name = b"\xff.env"
    ana.write(os.fsdecode(name), "1")
    assert '? "\\udcff.env"' in ana("status").out
    (secret,) = json.loads(ana("status", "--json").out)["secrets"]
    assert os.fsencode(secret) == name


# --- commit ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [["-m", "why it is"], ["--message", "why it is"], ["why it is"], ["-mwhy it is"]],
    ids=" ".join,
)
def test_ways_to_give_a_message(ana: Machine, words: list[str]) -> None:
    ana("init")
    ana.write("a", "1")
    ana("stage", "a")
    assert re.fullmatch(r"\[[0-9a-f]{10}\] why it is\n  A a\n", ana("commit", *words).out)


@pytest.mark.parametrize(
    "words", [["-a", "-m", "all"], ["-am", "all"], ["-a", "all"], ["all", "-a"]]
)
def test_ways_to_commit_all(project: Machine, words: list[str]) -> None:
    project.write(".env", "KEY=3\n")
    project.write("new", "1")
    assert project("commit", *words).out.splitlines()[1:] == ["  M .env"]


def test_commit_as_json(project: Machine) -> None:
    project.write(".env", "KEY=3\n")
    found = record(LogEntry, project("commit", "-am", "third", "--json").raw)
    assert isinstance(found, LogEntry)
    assert found.message == "third"
    assert [(each.path, each.what) for each in found.changes] == [(".env", "modified")]


@pytest.mark.parametrize(
    ("words", "code", "error", "hint"),
    [
        ([], 2, "The commit message is empty", 'dorky commit -m "say what changed"'),
        (["-m", " "], 2, "The commit message is empty", 'dorky commit -m "say what changed"'),
        (["-m", "x"], 1, "Nothing is staged", "dorky stage FILE…, or dorky commit -a"),
        (
            ["fix", "the", "keys"],
            2,
            "commit takes one message, and always all that is staged",
            "quote it: dorky commit -m 'fix the keys'",
        ),
        (["a", "-m", "b"], 2, "the message is given twice", "dorky commit -m MESSAGE"),
    ],
)
def test_commits_that_are_refused(
    project: Machine, words: list[str], code: int, error: str, hint: str
) -> None:
    said = project("commit", *words, code=code)
    assert (said.error, said.hint) == (error, hint)


# --- restore and checkout -------------------------------------------------------------------


def test_restore_says_what_and_where_the_rest_is(project: Machine) -> None:
    project.write(".env", "mine")
    said = project("restore", ".env")
    assert said.out == "Restored:\n  M .env\n"
    assert said.err == "What was there is kept: dorky restore FILE --source backup/1\n"
    assert project("restore", ".").out == "Nothing to restore: the files are just so.\n"
    project("restore", ".env", "--source", "backup/1")
    assert project.read(".env") == b"mine"
    found = record(CheckedOut, project("restore", ".env", "--source", "HEAD~1", "--json").raw)
    assert isinstance(found, CheckedOut)
    assert found.backup == "backup/2"
    assert project.read(".env") == b"KEY=1\n"


def test_checkout_says_where_we_are_and_how_to_come_back(project: Machine) -> None:
    said = project("checkout", "HEAD~1")
    assert re.fullmatch(r"Now at [0-9a-f]{10}\n  M \.env\n", said.out)
    assert said.err == "To come back: dorky checkout main\n"
    said = project("commit", "-m", "x", code=5)
    assert said.error.startswith("You are looking at the old revision ")
    assert said.hint == "dorky checkout main"
    said = project("checkout", "main")
    assert said.err == ""
    found = record(CheckedOut, project("checkout", "main", "--json").raw)
    assert found == CheckedOut(commit=found.commit)  # type: ignore[attr-defined]


def test_checkout_keeps_local_changes(project: Machine) -> None:
    project.write(".env", "mine")
    said = project("checkout", "HEAD~1", code=5)
    assert said.error == "Local changes would be overwritten: .env"
    assert "--force" in said.hint
    assert project.read(".env") == b"mine"
    said = project("checkout", "HEAD~1", "--force")
    assert "What was there is kept: dorky restore FILE --source backup/1" in said.err


def test_checkout_of_a_file_is_restore(project: Machine) -> None:
    said = project("checkout", "config/app.toml", code=4)
    assert said.error == "config/app.toml is not a revision here"
    assert said.hint == "dorky restore config/app.toml"
    assert project("checkout", "nope", code=4).hint == "dorky log --oneline"


def test_paths_count_from_the_current_directory(project: Machine) -> None:
    project.project /= "config"
    project.write("app.toml", "x = 2\n")
    assert project("status", "-s").out == " M app.toml\n"
    assert project("stage", "app.toml").out == "  M app.toml\n"
    assert project("unstage", ".").out == "Unstaged 1 file:\n  app.toml\n"
    assert project("log", "app.toml", "--oneline").out.count("\n") == 1
    assert project("ls").out == ".env\nconfig/app.toml\n"
    assert project("ls", "HEAD", ".").out == "config/app.toml\n"
    assert project("restore", "../.env").out.startswith("Nothing")
