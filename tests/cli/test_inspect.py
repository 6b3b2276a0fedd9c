"""log, show, diff, ls, cat."""

from __future__ import annotations

import re
from datetime import datetime, timezone

import msgspec
import pytest
from machines import Machine

from dorky.results import Diff, FileEntry, LogEntry


def test_log_in_full(project: Machine) -> None:
    project("config", "set", "--user", "user.name", "Ana Example")
    project.write(".env", "KEY=3\n")
    project("commit", "-am", "third\n\nbecause\n\ttabs are kept apart")
    text = project("log", "-n", "2").out
    assert re.fullmatch(
        r"commit [0-9a-f]{64}\n"
        r"Refs:   main\n"
        r"Author: Ana Example\n"
        r"Signed: [\w.-]+\n"
        r"Date:   \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\n"
        r"\n"
        r"    third\n\n    because\n            tabs are kept apart\n"
        r"\n"
        r"commit [0-9a-f]{64}\n"
        r"Author: .*\nSigned: .*\nDate:   .*\n\n    second\n",
        text,
    )


def test_log_in_short(project: Machine) -> None:
    lines = project("log", "--oneline").out.splitlines()
    assert [re.sub("^[0-9a-f]{10} ", "", line) for line in lines] == ["(main) second", "first"]
    assert project("log", "--oneline", "-n1").out.count("\n") == 1
    assert project("log", "-n", "0").out == ""
    assert project("log", "-q").out == ""
    said = project("log", "-3", code=2)
    assert said.hint == "dorky log -n 3"
    assert project("log", "-n", "-1", code=2).code == 2


def test_log_of_a_path_or_a_revision(project: Machine) -> None:
    assert project("log", "config", "--oneline").out.endswith(" first\n")
    assert project("log", ".env", "--oneline").out.count("\n") == 2
    assert project("log", "--rev", "HEAD~1", "--oneline").out.count("\n") == 1
    # As git has it: a word that is no file may be a revision.
    assert project("log", "HEAD~1", "--oneline").out.endswith(" first\n")
    project("rm", "config")
    project("commit", "-m", "gone")
    assert project("log", "config", "--oneline").out.count("\n") == 2
    said = project("log", "nope", code=4)
    assert said.error == "nope is not tracked by dorky anywhere in the history of HEAD"


def test_log_of_a_remote(shared: Machine) -> None:
    shared.commit({"new": "1"}, "third")
    lines = shared("log", "--oneline").out.splitlines()
    assert "(main) third" in lines[0]
    assert "(origin/main) second" in lines[1]
    assert shared("log", "origin/main", "--oneline").out.splitlines() == lines[1:]


def test_log_as_json(project: Machine) -> None:
    found = msgspec.json.decode(project("log", "--json").raw, type=list[LogEntry])
    assert [entry.message for entry in found] == ["second", "first"]
    assert found[0].parents == (found[1].id,)
    assert found[0].refs == ("main",)
    assert found[0].time.tzinfo
    assert abs((datetime.now(timezone.utc) - found[0].time).total_seconds()) < 3600
    fields = [field.name for field in msgspec.structs.fields(LogEntry)]
    assert list(project("log", "--json").json[0]) == fields
    assert project("log", "-n", "0", "--json").json == []


def test_show(project: Machine) -> None:
    text = project("show").out
    assert text.startswith("commit ")
    assert text.splitlines()[1] == "Refs:   main"
    assert text.endswith("\n\n    second\n\n  M .env\n")
    assert project("show", "HEAD~1").out.endswith("  A .env\n  A config/app.toml\n")
    shown = msgspec.json.decode(project("show", "HEAD^", "--json").raw, type=LogEntry)
    assert [each.path for each in shown.changes] == [".env", "config/app.toml"]
    assert project("show", "HEAD~1:.env").out == "KEY=1\n"
    assert project("show", ":.env").out == "KEY=2\n"
    assert project("show", shown.id[:8]).out.startswith(f"commit {shown.id}")
    for number in range(40):
        project.write(f"many/{number}", "")
    project("stage", "many")
    project("commit", "-m", "many")
    assert project("show").out.count("  A many/") == 40


def test_show_what_is_not_there(project: Machine) -> None:
    said = project("show", ".env", code=4)
    assert (said.error, said.hint) == (".env is not a revision here", "dorky show HEAD:.env")
    said = project("show", "HEAD:config", code=2)
    assert (said.error, said.hint) == ("config is a directory", "dorky ls HEAD config")
    said = project("show", "HEAD:.env", "--json", code=2)
    assert said.hint == "dorky ls HEAD .env --json"
    assert project("show", "HEAD:nope", code=4).error == "nope is not tracked by dorky in HEAD"
    assert project("show", "HEAD~9", code=4).hint.endswith("has no parent")


def test_diff(project: Machine) -> None:
    assert project("diff") == (0, b"", "")
    project.write(".env", "KEY=3\nNEW='a b'\n")
    project.write("config/app.toml", "x = 1 # one\n")
    project.write("notes.txt", "a\nb\n")
    said = project("diff")
    assert said.out == (
        "M .env  +2 -1 keys\n"
        "  ~ KEY = ******** → ********\n"
        "  + NEW = ********\n"
        "M config/app.toml  +1 -1 lines\n"
        "@@ -1 +1 @@\n"
        "-********\n"
        "+********\n"
    )
    assert said.err == "Values are hidden; --show-values shows them\n"
    said = project("diff", "--show-values")
    assert "  ~ KEY = 2 → 3\n  + NEW = a b\n" in said.out
    assert "@@ -1 +1 @@\n-x = 1\n+x = 1 # one\n" in said.out
    assert said.err == ""
    assert project("diff", "--stat") == (
        0,
        b"M .env  +2 -1 keys\nM config/app.toml  +1 -1 lines\n",
        "",
    )
    assert project("diff", "--name-only").out == ".env\nconfig/app.toml\n"
    assert project("diff", "--name-only", "config").out == "config/app.toml\n"
    found = msgspec.convert(project("diff", "--json").json, Diff)
    assert [(each.path, each.kind, each.masked) for each in found.files] == [
        (".env", "keys", True),
        ("config/app.toml", "text", True),
    ]
    assert project("diff", "--exit-code", "-q", code=1) == (1, b"", "")
    assert project("diff", "--exit-code", "--staged").out == ""


def test_diff_of_what_is_staged_and_committed(project: Machine) -> None:
    project.write(".env", "KEY=3\n")
    project("stage", ".env")
    project.write(".env", "KEY=4\n")
    shown = ["--show-values"]
    assert "KEY = 3 → 4" in project("diff", *shown).out
    for option in ("--staged", "--cached"):
        assert "KEY = 2 → 3" in project("diff", option, *shown).out
        assert "KEY = 1 → 3" in project("diff", option, "HEAD~1", *shown).out
    assert "KEY = 2 → 4" in project("diff", "HEAD", *shown).out
    for words in (["HEAD~1", "main"], ["HEAD~1..main"], ["HEAD~1.."], ["HEAD~1..", "--"]):
        assert "KEY = 1 → 2" in project("diff", *words[:1], *shown, *words[1:]).out
    assert "KEY = 2 → 1" in project("diff", "..HEAD~1", *shown).out
    assert project("diff", "HEAD~1", "HEAD", "config").out == ""
    said = project("diff", "HEAD~1", "HEAD", "--staged", code=2)
    assert said.error == "A diff has two sides, these are more"
    assert project("diff", "a..b...c", code=4).code == 4


def test_diff_tells_files_from_revisions(project: Machine) -> None:
    project.commit({"main": "1\n", "other": "2\n"}, "a file called as a branch is")
    project.write("main", "3\n")
    project.write("other", "4\n")
    assert project("diff", "--name-only", "main").out == "main\n"
    assert project("diff", "--name-only", "main", "--").out == "main\nother\n"
    assert project("diff", "--name-only", "main", "--", "oth*").out == "other\n"
    assert project("diff", "--name-only", "--", "main").out == "main\n"
    assert project("diff", "--name-only", "HEAD", "main").out == "main\n"
    # What was deleted, too, is a file.
    (project.project / "other").unlink()
    assert project("diff", "--stat", "other").out == "D other  +0 -1 lines\n"
    assert project("diff", "nope", code=4).error == "nope is not tracked by dorky"
    assert project("diff", "nope", "--", code=4).error == "nope is not a revision here"


def test_diff_of_binaries_and_modes(project: Machine) -> None:
    project.commit({"data": b"\0" * 2048, "run.sh": "true\n"}, "more")
    project.write("data", b"\0" * 1024)
    (project.project / "run.sh").chmod(0o755)
    (project.project / "line\nbreak").write_text("x\x1b[31m\n")
    project("stage", "line*")
    lines = project("diff").out.splitlines()
    assert re.fullmatch(r"M data  2\.0 KiB \([0-9a-f]{10}\) → 1\.0 KiB \([0-9a-f]{10}\)", lines[0])
    assert re.fullmatch(r"M run\.sh  mode 100[67]\d\d → 100755", lines[1])
    text = project("diff", "--staged").out
    assert text == 'A "line\\nbreak"  +1 -0 lines\n@@ -0,0 +1 @@\n+x\\u001b[31m\n'


def test_ls(project: Machine) -> None:
    assert project("ls").out == ".env\nconfig/app.toml\n"
    assert project("ls", "HEAD~1", "config").out == "config/app.toml\n"
    assert project("ls", "config").out == "config/app.toml\n"
    assert project("ls", "-l", ".env").out == "100600            6 .env\n"
    found = msgspec.json.decode(project("ls", "--json").raw, type=list[FileEntry])
    assert [(each.path, each.mode, each.size) for each in found] == [
        (".env", "100600", 6),
        ("config/app.toml", "100600", 6),
    ]
    assert project("ls", "nope", code=4).error == "nope is not tracked by dorky in HEAD"
    assert project("ls", "nope", "config", code=4).error == "nope is not a revision here"


def test_cat_writes_the_very_bytes(project: Machine) -> None:
    content = bytes(range(256)) * 5000
    project.commit({"data": content, "empty": b""})
    assert project("cat", "HEAD:data").raw == content
    assert project("cat", "main:data", "-q").raw == content
    assert project("cat", "HEAD:empty").raw == b""
    assert project("cat", "HEAD~2:.env").raw == b"KEY=1\n"


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        (".env", "dorky cat HEAD:.env"),
        ("two words", "dorky cat 'HEAD:two words'"),
        ("HEAD:", "dorky cat HEAD:HEAD"),
        ("", "dorky cat HEAD:PATH"),
    ],
)
def test_cat_needs_a_revision_and_a_path(project: Machine, target: str, hint: str) -> None:
    said = project("cat", target, code=2)
    assert said.error == f"{target} is not REV:PATH".strip()
    assert said.hint == hint


def test_before_the_first_commit(ana: Machine) -> None:
    ana("init")
    for words in (["log"], ["show"], ["ls"], ["cat", "HEAD:x"], ["checkout", "main"]):
        said = ana(*words, code=4)
        assert said.error == "There are no commits yet"
        assert said.hint == 'dorky stage FILE && dorky commit -m "first"'
    assert ana("log", "--json", code=4).json["error"]["code"] == "no-commits"
