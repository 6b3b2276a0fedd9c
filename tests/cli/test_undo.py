"""resolve, merge, undo, op log, and sync and status beside them: what they take and say."""

from __future__ import annotations

import copy
import json
import re
import shlex
from typing import NamedTuple

import msgspec
import pytest
from machines import Machine
from servers import Remote

from dorky.results import OperationEntry, PullResult, Resolved, Result, Synced, Undone


class Pair(NamedTuple):
    """Two people with one project. Ana has pushed what Ben has not pulled yet."""

    ana: Machine
    ben: Machine


START = {
    ".env": "KEY=1\nPORT=1\n",
    "notes.txt": "one\ntwo\n",
    "logo.png": b"\0logo",
    "keys/mine.pem": "1\n",
    "keys/theirs.pem": "1\n",
}
CHANGED = ".env (both changed it: KEY)"
NOTES = "notes.txt (both changed it: line 2)"
LOGO = "logo.png (both changed it, theirs is logo.png.theirs)"
MINE = "keys/mine.pem (changed here, deleted there)"
THEIRS = "keys/theirs.pem (deleted here, changed there)"
UNRESOLVED = "The merge has left conflicts: "
NEXT = (
    "edit the files, then dorky resolve FILE (or with --ours, or --theirs) and "
    "dorky merge --continue; to give up: dorky merge --abort"
)


def change(machine: Machine, side: str, *, kept: str, gone: str) -> None:
    """Commit a side's change to every file."""
    machine.write(".env", f"KEY={side}\nPORT=1\n{side.upper()}=1\n")
    machine.write("notes.txt", f"one\n{side}\n")
    machine.write("logo.png", b"\0" + side.encode())
    machine.write(kept, f"{side}\n")
    (machine.project / gone).unlink()
    machine("commit", "-a", "-m", side)


@pytest.fixture
def project(ana: Machine) -> Machine:
    ana("init")
    ana.commit(START)
    return ana


@pytest.fixture
def pair(shared: Machine) -> Pair:
    ben = shared.another("ben")
    ben("clone", shared("config", "get", "remotes.origin.url").out.strip(), ".")
    return Pair(shared, ben)


@pytest.fixture
def ben(pair: Pair) -> Machine:
    """Somebody who has changed what Ana has changed, and pushed, too."""
    change(pair.ana, "ana", kept="keys/theirs.pem", gone="keys/mine.pem")
    pair.ana("push")
    change(pair.ben, "ben", kept="keys/mine.pem", gone="keys/theirs.pem")
    return pair.ben


@pytest.fixture
def torn(ben: Machine) -> Machine:
    """The same, in the middle of the merge."""
    ben("pull", code=5)
    return ben


def record(kind: type[Result], raw: bytes) -> Result:
    """The record that JSON holds, with all of its fields and no others."""
    found = msgspec.json.decode(raw)
    assert list(found) == [field.name for field in msgspec.structs.fields(kind)]
    return msgspec.convert(found, kind)


# --- conflicts, as they come ----------------------------------------------------------------


@pytest.mark.parametrize("command", ["pull", "sync"])
def test_what_a_merge_leaves(ben: Machine, command: str) -> None:
    said = ben(command, code=5)
    assert said.out.splitlines() == [
        "Merging origin/main: 4 files changed",
        "  M .env",
        "  A keys/theirs.pem",
        "  A logo.png.theirs",
        "  M notes.txt",
        "These need you:",
        *(f"  U {each}" for each in (CHANGED, MINE, THEIRS, LOGO, NOTES)),
    ]
    assert said.error == UNRESOLVED + ".env, keys/mine.pem, keys/theirs.pem and 2 more"
    assert said.hint == NEXT
    marked = "<<<<<<< main\nKEY=ben\n=======\nKEY=ana\n>>>>>>> origin/main\nPORT=1\n"
    assert ben.read(".env").decode() == marked + "BEN=1\nANA=1\n"
    assert ben.read("logo.png") == b"\0ben"
    assert ben.read("logo.png.theirs") == b"\0ana"


def test_conflicts_of_a_pull_as_json(ben: Machine) -> None:
    said = ben("pull", "--json", code=5)
    found = record(PullResult, said.raw)
    assert isinstance(found, PullResult)
    assert [(each.path, each.why, each.places, each.beside) for each in found.conflicts] == [
        (".env", "changed by both", ("KEY",), ""),
        ("keys/mine.pem", "deleted by them", (), ""),
        ("keys/theirs.pem", "deleted by us", (), ""),
        ("logo.png", "binary", (), "logo.png.theirs"),
        ("notes.txt", "changed by both", ("line 2",), ""),
    ]
    assert said.error.startswith(UNRESOLVED)


def test_conflicts_of_a_sync_as_json(ben: Machine) -> None:
    said = ben("sync", "--json", code=5)
    found = record(Synced, said.raw)
    assert isinstance(found, Synced)
    assert found.pulled
    assert len(found.pulled.conflicts) == 5
    assert found.pushed is None


def test_only_the_first_keys_are_named(pair: Pair) -> None:
    for machine, side in ((pair.ana, "ana"), (pair.ben, "ben")):
        machine.commit({".env": "".join(f"KEY{n}={side}\n" for n in range(8))})
    pair.ana("push")
    first = "both changed it: KEY0, KEY1, KEY2, KEY3, KEY4"
    assert f"  U .env ({first} and 3 more)\n" in pair.ben("pull", code=5).out
    assert f"({first}, KEY5, KEY6, KEY7)\n" in pair.ben("status", "-v").out


def test_sync_when_there_is_nothing_in_the_way(pair: Pair) -> None:
    assert pair.ben("sync").out == "Both sides have the same.\n"
    pair.ana.commit({"a": "1"})
    assert re.fullmatch(r"Pushed 1 commit to file:.*\n", pair.ana("sync").out)
    pair.ben.commit({"b": "1"})
    lines = pair.ben("sync").out.splitlines()
    assert re.fullmatch(r"Merged 2 commits: now at [0-9a-f]{10}", lines[0])
    assert lines[1] == "  A a"
    assert lines[2].startswith("Pushed 2 commits to ")
    assert pair.ana("sync").out.splitlines()[1:] == ["  A b", "Both sides have the same."]
    found = record(Synced, pair.ana("sync", "--json").raw)
    assert isinstance(found, Synced)
    assert found.pushed is None
    assert found.rounds == 1


def test_sync_makes_the_beginning(ana: Machine, file_url: tuple[str]) -> None:
    ana("init")
    ana("remote", "add", "origin", file_url[0])
    assert ana("sync", code=4).error == "There are no commits yet"
    ana.commit({"a": "1"})
    said = ana("sync")
    assert said.out.startswith("Pushed 1 commit to ")
    assert said.err == "There was no repository: this push has started one.\n"


# --- status ---------------------------------------------------------------------------------


def test_status_during_a_merge(torn: Machine) -> None:
    assert torn("status").out.splitlines()[:9] == [
        "On main, 1 commit ahead and 1 behind origin",
        "Merging origin/main. These need you (edit, then dorky resolve FILE):",
        *(f"  U {each}" for each in (CHANGED, MINE, THEIRS, LOGO, NOTES)),
        "Or take one side's file: dorky resolve FILE --ours (or --theirs)",
        "To give up: dorky merge --abort",
    ]
    assert torn("status", "-s").out.splitlines()[:5] == [
        "UU .env",
        "UU keys/mine.pem",
        "UU keys/theirs.pem",
        "UU logo.png",
        "UU notes.txt",
    ]
    assert torn("status", "--exit-code", code=1).err == ""
    found = torn("status", "--json").json
    assert found["merging"] == "origin/main"
    assert len(found["conflicts"]) == 5


def test_status_when_all_is_resolved(torn: Machine) -> None:
    torn("resolve", ".", "--theirs")
    assert torn("status").out.splitlines() == [
        "On main, 1 commit ahead and 1 behind origin",
        "Merging origin/main: no conflicts are left (dorky merge --continue)",
        "Staged for the next commit:",
        "  M .env",
        "  D keys/mine.pem",
        "  A keys/theirs.pem",
        "  M logo.png",
        "  M notes.txt",
    ]
    assert torn("status", "--exit-code", code=1).err == ""


@pytest.mark.parametrize(
    "words", [["commit", "-m", "x"], ["push"], ["pull"], ["sync"], ["checkout", "HEAD~1"]]
)
def test_what_waits_for_the_merge(torn: Machine, words: list[str]) -> None:
    said = torn(*words, code=5)
    assert said.error.startswith(UNRESOLVED)
    assert said.hint == NEXT
    torn("resolve", ".", "--ours")
    if words[0] != "commit":
        said = torn(*words, code=5)
        assert said.error == "A merge of origin/main is in progress"
        assert said.hint == "dorky merge --continue, or dorky merge --abort"


# --- resolve --------------------------------------------------------------------------------


def test_resolving_one_after_the_other(torn: Machine) -> None:
    said = torn("resolve", "keys/mine.pem", "--theirs")
    assert said.out.splitlines() == [
        "Resolved 1 file.",
        "Still to be resolved:",
        *(f"  U {each}" for each in (CHANGED, THEIRS, LOGO, NOTES)),
    ]
    assert not (torn.project / "keys/mine.pem").exists()
    torn("resolve", "keys/theirs.pem")
    assert torn.read("keys/theirs.pem") == b"ana\n"
    torn.write("notes.txt", "one\nboth\n")
    torn("resolve", "notes.txt")
    torn("resolve", "logo.png", "--theirs")
    assert torn.read("logo.png") == b"\0ana"
    assert not (torn.project / "logo.png.theirs").exists()
    assert torn("resolve", ".env", "--ours").out.splitlines() == [
        "Resolved 1 file.",
        "No conflicts are left: dorky merge --continue",
    ]
    assert torn.read(".env") == b"KEY=ben\nPORT=1\nBEN=1\n"
    said = torn("merge", "--continue")
    assert re.match(r"\[[0-9a-f]{10}\] Merge origin/main\n  D keys/mine.pem\n", said.out)
    assert said.err == "To send it: dorky push\n"
    assert torn("push").out.startswith("Pushed 2 commits to ")


def test_resolving_what_was_edited(torn: Machine) -> None:
    torn.write(".env", "KEY=mended\n")
    said = torn("resolve", ".env", "--theirs")
    assert said.err == "What was there is kept: dorky restore FILE --source backup/1\n"
    assert torn("cat", "backup/1:.env").raw == b"KEY=mended\n"


def test_staging_a_directory_names_the_conflicts_that_it_passes_over(torn: Machine) -> None:
    torn.write(".env", "KEY=both\n")
    lines = torn("stage", ".").out.splitlines()
    assert lines[:2] == ["Nothing new to stage.", "Conflicts are passed over (dorky resolve FILE):"]
    assert lines[2] == "  U .env (both changed it: KEY)"
    torn("resolve", ".", "--ours")
    assert torn("stage", ".").out == "Nothing new to stage.\n"


def test_resolving_as_json(torn: Machine) -> None:
    found = record(Resolved, torn("resolve", "keys", "--ours", "--json").raw)
    assert isinstance(found, Resolved)
    assert found.paths == ("keys/mine.pem", "keys/theirs.pem")
    assert [each.path for each in found.left] == [".env", "logo.png", "notes.txt"]


def test_what_resolve_refuses(torn: Machine) -> None:
    said = torn("resolve", ".env", code=5)
    assert said.error == ".env has conflict markers still (line 1)"
    assert said.hint == "edit it, or take one side: dorky resolve .env --ours (or --theirs)"
    assert torn("resolve", "nowhere", code=4).error == "nowhere has no conflict"
    said = torn("resolve", ".env", "--ours", "--theirs", code=2)
    assert said.error == "--ours and --theirs exclude each other"
    assert torn("resolve", code=2).error.startswith("Missing argument")
    assert torn("resolve", "", code=2).error
    torn("merge", "--abort")
    assert torn("resolve", ".env", code=1).error == "No merge is in progress"


# --- merge ----------------------------------------------------------------------------------


def test_a_merge_that_is_given_up(torn: Machine) -> None:
    torn.write(".env", "KEY=mended\n")
    before = torn("log", "--json").raw
    said = torn("merge", "--abort")
    assert said.out.splitlines()[0] == "Everything is as it was before the merge."
    assert "  D logo.png.theirs" in said.out.splitlines()
    assert said.err == "What was there is kept: dorky restore FILE --source backup/1\n"
    assert torn("log", "--json").raw == before
    assert torn.read(".env") == b"KEY=ben\nPORT=1\nBEN=1\n"
    assert torn("cat", "backup/1:.env").raw == b"KEY=mended\n"
    first = torn("status").out.splitlines()[0]
    assert first == "On main, 1 commit ahead and 1 behind origin (dorky sync, or pull)"


def test_the_end_of_a_merge_as_json(torn: Machine) -> None:
    found = record(Undone, torn("merge", "--abort", "--json").raw)
    assert isinstance(found, Undone)
    assert [each.command for each in found.operations] == ["pull"]
    torn("pull", code=5)
    torn("resolve", ".", "--ours")
    made = torn("merge", "--continue", "-m", "ours it is", "--json").json
    assert made["message"] == "ours it is"
    assert len(made["parents"]) == 2


def test_what_merge_refuses(torn: Machine) -> None:
    for words in ([], ["--continue", "--abort"]):
        said = torn("merge", *words, code=2)
        assert said.error == "merge takes --continue or --abort"
        assert said.hint.startswith("dorky pull (or sync)")
    assert torn("merge", "origin/main", code=2).error
    assert torn("merge", "--continue", code=5).error.startswith(UNRESOLVED)
    torn("merge", "--abort")
    for word in ("--continue", "--abort"):
        assert torn("merge", word, code=1).error == "No merge is in progress"


# --- undo and op log ------------------------------------------------------------------------


def test_undo_and_its_undo(ana: Machine) -> None:
    ana("init")
    ana.commit({".env": "KEY=1\n"}, "first")
    ana.commit({".env": "KEY=2\n"}, "second")
    assert ana("undo").out == "Undone: commit 'second'\n"
    assert ana("status", "-s").out == "M  .env\n"
    assert ana("undo").out == "Undone: undo commit\n"
    assert ana("status", "-s").out == ""
    # The two undos, and what they were about.
    lines = ana("undo", "4").out.splitlines()
    assert lines[-2:] == ["Undone: commit 'second'", "Undone: stage .env"]
    assert ana("log", "--oneline").out.endswith(" first\n")
    assert ana.read(".env") == b"KEY=2\n"


def test_undoing_what_has_touched_files(ana: Machine) -> None:
    ana("init")
    ana.commit({".env": "KEY=1\n"})
    ana.write(".env", "KEY=2\n")
    ana("restore", ".env")
    assert ana("undo").out == "Undone: restore .env\n  M .env\n"
    assert ana.read(".env") == b"KEY=2\n"
    ana.write(".env", "KEY=3\n")
    said = ana("undo", code=5)
    assert said.error == "Local changes would be overwritten: .env"
    assert said.hint == "dorky undo --force (a backup is kept)"
    said = ana("undo", "--force")
    assert "restore FILE --source backup/" in said.err
    assert ana.read(".env") == b"KEY=1\n"
    assert ana("undo").code == 0
    assert ana.read(".env") == b"KEY=3\n"


def test_undoing_what_was_pushed(pair: Pair) -> None:
    pair.ben.commit({"a": "1"}, "leak")
    pair.ben("push")
    said = pair.ben("undo")
    assert said.out == "Undone: commit 'leak'\n"
    assert said.err.startswith("The remote has what was undone: dorky pull brings it back, ")
    assert pair.ben("undo", "--json").json["published"] is False


def test_undo_as_json(ana: Machine) -> None:
    ana("init")
    ana.commit({"a": "1"})
    found = record(Undone, ana("undo", "--json").raw)
    assert isinstance(found, Undone)
    assert found.head is None
    assert [(each.number, each.command) for each in found.operations] == [(2, "commit")]


def test_what_undo_refuses(ana: Machine) -> None:
    ana("init")
    assert ana("undo", code=1).error == "nothing was done here that can be undone"
    ana.commit({"a": "1"})
    said = ana("undo", "3", code=2)
    assert said.error == "Only 2 operations are known"
    assert said.hint == "dorky op log"
    for words in (["0"], ["-1"], ["two"], ["1", "2"], ["--", "-1"]):
        assert ana("undo", *words, code=2).error
    assert ana("undo").out == "Undone: commit 'work'\n"


def test_op_log(ana: Machine) -> None:
    ana("init")
    assert ana("op", "log").out == "Nothing was done here yet that could be undone.\n"
    assert ana("op", "log", "--json").json == []
    ana.commit({"a": "1", "b": "1"})
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d"
    lines = ana("op", "log").out.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(rf"2  {time}  commit 'work'.*", lines[0])
    assert re.fullmatch(rf"1  {time}  stage a, b  \(2 files\)", lines[1])
    assert ana("op", "log", "-n", "1").out.splitlines() == lines[:1]
    assert ana("op", "log", "-n", "0").out == ""
    found = msgspec.convert(ana("op", "log", "--json").json, list[OperationEntry])
    assert [each.paths for each in found][1] == ("a", "b")
    for command in ("status", "log", "ls"):  # what only looks is nothing to undo
        ana(command)
    assert ana("op", "log").out.splitlines() == lines


def test_op_log_is_in_columns(ana: Machine) -> None:
    ana("init")
    for n in range(5):
        ana.commit({"a": f"{n}"})
    lines = ana("op", "log").out.splitlines()
    assert [line.index("  20") for line in lines] == [2] * 10
    assert lines[1].startswith(" 9  ")


def test_what_op_log_refuses(ana: Machine) -> None:
    ana("init")
    assert ana("op", "log", "-n", "-1", code=2).error == "-n takes a count, not -1"
    assert ana("op", "log", "-n", "two", code=2).error
    assert ana("op", "blog", code=2).error == "dorky op has no command blog"
    assert "log" in ana("op").out


def test_a_pull_with_nothing_new_is_no_operation(pair: Pair) -> None:
    pair.ben("pull")
    assert pair.ben("op", "log", "--json").json == []


def test_undoing_a_merge_that_was_not_pushed_says_nothing_of_the_remote(torn: Machine) -> None:
    torn("resolve", ".", "--ours")
    torn("merge", "--continue")
    assert torn("undo").err == ""


def test_the_operation_log_names_the_whole_directory(ana: Machine) -> None:
    ana("init")
    ana.write("a", "1")
    ana("stage", ".")
    assert ana("op", "log", "--json").json[0]["command"] == "stage ."


# --- odd names, other directories, terminals ------------------------------------------------

ODD = {
    "two words": "two words",
    "-dash": "-dash",
    "it's.json": "it's.json",
    'say "x"': r'"say \"x\""',
    "new\nline.env": r'"new\nline.env"',
    "\x1b[31mred": r'"\u001b[31mred"',
    "日本語.env": "日本語.env",
}
"""Names, and how they are shown."""


def test_names_of_every_sort(pair: Pair) -> None:
    for machine, side in zip(pair, ("ana", "ben"), strict=True):
        machine("config", "set", "portable_names", "false")
        for path in ODD:
            machine.write(path, f"KEY={side}\n")
        machine("stage", "--", *ODD)
        machine("commit", "-m", "odd")
    pair.ana("push")
    said = pair.ben("pull", code=5)
    status = pair.ben("status").out
    for screen in (said.out + said.err, status, pair.ben("status", "-s").out):
        assert "\x1b" not in screen
    for shown in ODD.values():
        assert f"\n  U {shown} (both changed it: " in status
    assert {each["path"] for each in pair.ben("status", "--json").json["conflicts"]} == {*ODD}
    for path in ODD:
        assert "\x1b" not in pair.ben("resolve", "--", path, code=5).err
        pair.ben("resolve", "--theirs", "--", path)
        assert (pair.ben.project / path).read_text() == "KEY=ana\n"
    pair.ben("merge", "--continue")
    assert "\x1b" not in pair.ben("op", "log").out
    for _ in ODD:
        assert "\x1b" not in pair.ben("undo", "2").out


@pytest.mark.parametrize("path", ["two words", "it's.json", "日本語.env"])
def test_the_hint_can_be_run(pair: Pair, path: str) -> None:
    for machine, side in zip(pair, ("ana", "ben"), strict=True):
        machine.commit({path: f"KEY={side}\n"})
    pair.ana("push")
    pair.ben("pull", code=5)
    hint = pair.ben("resolve", path, code=5).hint
    command = hint.partition("dorky ")[2].removesuffix(" (or --theirs)")
    pair.ben(*shlex.split(command))
    assert pair.ben.read(path) == b"KEY=ben\n"


def test_from_a_subdirectory(torn: Machine) -> None:
    inside = copy.copy(torn)
    inside.project = torn.project / "keys"
    lines = inside("status").out.splitlines()
    assert "  U ../logo.png (both changed it, theirs is ../logo.png.theirs)" in lines
    assert "  U mine.pem (changed here, deleted there)" in lines
    assert "UU theirs.pem" in inside("status", "-s").out.splitlines()
    assert inside("resolve", ".", "--ours").out.splitlines()[:3] == [
        "Resolved 2 files.",
        "Still to be resolved:",
        "  U ../.env (both changed it: KEY)",
    ]
    inside("resolve", "../logo.png")
    assert inside("merge", "--abort").out.splitlines()[0].startswith("Everything is as it was")
    assert inside("undo").out.splitlines()[0] == "Undone: merge --abort"
    assert inside("status", "-s").out.splitlines()[:2] == ["UU ../.env", "UU ../notes.txt"]


def test_quiet(ben: Machine) -> None:
    said = ben("pull", "-q", code=5)
    assert said.out == ""
    assert len(said.err.splitlines()) == 2
    assert ben("resolve", "-q", ".", "--ours") == (0, b"", "")
    assert ben("merge", "-q", "--continue") == (0, b"", "")
    assert ben("undo", "-q") == (0, b"", "")
    assert ben("op", "log", "-q") == (0, b"", "")


def test_json_is_all_that_is_printed(torn: Machine) -> None:
    for words in (
        ["resolve", ".", "--ours"],
        ["merge", "--continue"],
        ["undo"],
        ["undo"],
        ["op", "log"],
        ["sync"],
        ["sync"],
    ):
        said = torn(*words, "--json")
        json.loads(said.raw)
        assert said.err == "", words


def test_a_merge_says_what_stays_staged(project: Machine, file_url: Remote) -> None:
    project("remote", "add", "origin", file_url.url)
    project("push")
    ben = project.another("ben")
    ben("clone", file_url.url, ".")
    project.commit({"a": "theirs\n"})
    project("push")
    ben.commit({"a": "ours\n"})
    ben.write(".env", "KEY=unfinished\n")
    ben("stage", ".env")
    ben("pull", code=5)
    ben("resolve", "a", "--theirs")
    said = ben("merge", "--continue")
    assert "Not part of the merge, so still staged: 1 file (dorky commit)" in said.err
    assert "M .env" in said.out
    assert [each["path"] for each in ben("status", "--json").json["staged"]] == [".env"]
