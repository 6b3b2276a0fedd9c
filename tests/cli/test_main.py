"""The border: options of all commands, help, exit codes, errors."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from machines import Machine

import dorky
from dorky import errors
from dorky.cli.main import everything, run
from dorky.commands import status

ROOT = everything()


def every_command() -> list[list[str]]:
    found = []
    for name, command in ROOT.commands.items():
        family = getattr(command, "commands", None)
        found += [[name, each] for each in family] if family else [[name]]
    return found


def python(machine: Machine, *arguments: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
    with machine.here():
        return subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, check=False, **keywords
        )


# --- help -----------------------------------------------------------------------------------


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_every_command_has_help_with_an_example(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    # Not made anew from its functions every time.
    monkeypatch.setattr("dorky.cli.main.app", ROOT)
    for ask in ("--help", "-h"):
        assert run([*words, ask]) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"Usage: dorky {' '.join(words)}")
        shown = "stage" if words == ["add"] else " ".join(words)
        assert words == ["help"] or f"  $ dorky {shown}" in text
        for option in ("-q, --quiet", "-v, --verbose", "--no-color"):
            assert option in text
        assert all(len(line) <= 80 for line in text.splitlines())
    assert run(["help", *words]) == 0
    assert capsys.readouterr().out == text


def test_the_overview_names_every_command_once_and_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = []
    for words in ([], ["--help"], ["-h"], ["help"]):
        assert run(words) == 0
        shown.append(capsys.readouterr().out)
    assert len(set(shown)) == 1
    listed = re.findall(r"^  (\w+) {2,}\S", shown[0].partition("Commands:")[2], re.MULTILINE)
    assert sorted(listed) == sorted(name for name, each in ROOT.commands.items() if not each.hidden)
    assert "..." not in shown[0].partition("Commands:")[2]


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"dorky {dorky.__version__}\n"


# --- usage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["statsu"], "dorky has no command statsu", "did you mean dorky status?"),
        (
            ["export", ".env", "-f", "toml"],
            "Invalid value for '-f' / '--format': 'toml' is not one of 'dotenv', 'shell', 'json', "
            "'yaml', 'docker', 'github'",
            "dorky export --help",
        ),
        (["remote", "-v"], "No such option: -v", "dorky remote list"),
        (["version"], "dorky has no command version", "dorky --version"),
        (["st"], "dorky has no command st", "did you mean dorky stage or dorky status?"),
        (["xyzzy"], "dorky has no command xyzzy", "dorky --help"),
        (["reset"], "dorky has no command reset", "did you mean dorky unstage or dorky restore?"),
        (["reflog"], "dorky has no command reflog", "did you mean dorky op log?"),
        (["op", "undo"], "dorky op has no command undo", "did you mean dorky undo?"),
        (
            ["merge", "origin/main"],
            "Got unexpected extra argument(s) (origin/main)",
            "dorky pull, or dorky sync: they merge what the remote has",
        ),
        (["switch"], "dorky has no command switch", "did you mean dorky checkout?"),
        (
            ["merge"],
            "merge takes --continue or --abort",
            "dorky pull (or sync) is what begins a merge; dorky status shows one",
        ),
        (["revert"], "dorky has no command revert", "did you mean dorky undo?"),
        (["it's"], "dorky has no command it's", "dorky --help"),
        (["help", "xyzzy"], "dorky has no command xyzzy", "dorky --help"),
        (["remote", "ad"], "dorky remote has no command ad", "did you mean dorky remote add?"),
        (["--nope"], "No such option: --nope", "dorky --help"),
        (["status", "--nope"], "No such option: --nope", "dorky status --help"),
        (["stage"], "Missing argument PATHS", "dorky stage --help"),
        (["log", "-n", "x"], "Invalid value for '-n'", "dorky log --help"),
        (["log", "a", "b"], "Got unexpected extra argument", "dorky log --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_wrong_with_a_command_line(
    ana: Machine, words: list[str], error: str, hint: str
) -> None:
    said = ana(*words, code=2)
    assert said.error.startswith(error)
    assert said.hint == hint
    assert said.out == ""


def test_options_stand_before_or_after_the_command(project: Machine) -> None:
    for words in (["-q", "status"], ["status", "-q"], ["status", "--quiet"]):
        assert project(*words).out == ""
    assert project("status").out  # and hold for one run only
    for words in (["-vv", "show", "x"], ["-v", "show", "x", "-v"], ["show", "-v", "x", "-v"]):
        assert "UnknownRevision" in err_of(project, *words)
    once = err_of(project, "show", "x", "-v")
    assert once.splitlines()[2:] == ["code: unknown-revision"]


def err_of(machine: Machine, *words: str) -> str:
    return python(machine, "-m", "dorky", *words).stderr


# --- errors and exit codes ------------------------------------------------------------------


@pytest.mark.parametrize("words", [["status"], ["log"], ["stage", "x"], ["push"], ["pull"]])
def test_outside_of_a_project(ana: Machine, words: list[str]) -> None:
    said = ana(*words, code=3)
    assert said.error == f"Not a dorky repository (or any parent directory): {ana.project}"
    assert said.hint == "dorky init, or dorky clone URL"


def test_in_a_directory_that_is_gone(ana: Machine) -> None:
    script = "import os, sys; os.rmdir(os.getcwd()); from dorky.cli.main import main; main()"
    for words in (["status"], ["init"], ["clone", "/x"]):
        ana.project.mkdir(exist_ok=True)
        done = python(ana, "-c", script, *words)
        assert done.returncode == 3
        assert done.stderr == "error: the current directory was deleted\nhint: cd to another one\n"


def failing(error: BaseException) -> Callable[..., Any]:
    def act(*_: object, **__: object) -> Any:
        raise error

    return act


def test_a_bug_is_one_line_and_exit_70(
    project: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "status", failing(ZeroDivisionError("oh\n\tno")))
    with project.here():
        assert run(["status"]) == 70
    assert capsys.readouterr().err.splitlines() == [
        "error: a bug in dorky: ZeroDivisionError: oh no",
        "hint: run it again with -vv and report what it prints",
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), EOFError()])
def test_an_interruption_is_exit_130(
    project: Machine, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(status, "status", failing(error))
    with project.here():
        assert run(["status"]) == 130


def test_a_failing_disk_is_no_bug(project: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "status", failing(OSError(5, "Input/output error", "/x")))
    assert project("status", code=8).error == "/x: Input/output error"


def test_an_error_is_one_line_whatever_its_message(
    project: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = errors.Unreachable("s3://b", "first\n   second\n\nthird \x1b[31m")
    monkeypatch.setattr(status, "status", failing(error))
    said = project("status", code=8)
    assert said.error == "s3://b can't be reached: first second third \\u001b[31m"


def test_a_message_keeps_the_spaces_of_names(project: Machine) -> None:
    assert project("stage", "two  spaces", code=4).error == "two  spaces matches no file"


# --- output that nobody takes ---------------------------------------------------------------


def test_a_reader_who_has_seen_enough(project: Machine) -> None:
    """`dorky log | head -1`, with more than a pipe holds."""
    project.commit({"large": bytes(1 << 20)})
    for words in (["cat", "HEAD:large"], ["log", "-v"], ["log"]):
        with project.here():
            process = subprocess.Popen(
                [sys.executable, "-m", "dorky", *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        assert process.stdout
        assert process.stderr
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait() == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["log"], ["cat", "HEAD:.env"], ["--version"], ["ls", "--json"]])
def test_a_full_disk_behind_standard_output(project: Machine, words: list[str]) -> None:
    with project.here(), Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dorky", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 8
    assert done.stderr == "error: standard output: No space left on device\n"


@pytest.mark.each_value
@pytest.mark.parametrize("closed", [">&-", "2>&-"])
@pytest.mark.parametrize(
    ("words", "code"), [("status", 0), ("log", 0), ("cat HEAD:.env", 0), ("statsu", 2)]
)
def test_a_process_that_was_started_without_a_stream(
    project: Machine, closed: str, words: str, code: int
) -> None:
    command = f'exec "{sys.executable}" -m dorky {words} {closed}'
    with project.here():
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr
    assert bool(done.stdout) == (closed == "2>&-" and code == 0)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_lacks_letters(project: Machine, encoding: str) -> None:
    project.commit({"日本": "1"}, "für 日本")
    env = {**os.environ, "PYTHONIOENCODING": encoding, "HOME": str(project.home)}
    done = subprocess.run(
        [sys.executable, "-m", "dorky", "show"],
        cwd=project.project,
        env=env,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == b""
    shown = done.stdout.decode(encoding)
    assert ("日本" if encoding == "utf-8" else "\\u65e5\\u672c") in shown


# --- completion -----------------------------------------------------------------------------


def complete(machine: Machine, shell: str, line: str) -> str:
    words = line.split(" ")
    env = {
        **os.environ,
        "HOME": str(machine.home),
        "_DORKY_COMPLETE": f"complete_{shell}",
        **{"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)},
        "_TYPER_COMPLETE_ARGS": line,
    }
    return python(machine, "-c", "from dorky.cli.main import main; main()", env=env).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_and_options(ana: Machine, shell: str) -> None:
    assert "status" in complete(ana, shell, "dorky sta")
    assert "--oneline" in complete(ana, shell, "dorky log --one")
    assert "set-url" in complete(ana, shell, "dorky remote set")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_completion_script_is_one_that_the_shell_reads(ana: Machine, shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here")
    with ana.here():
        done = subprocess.run(
            [program, "-n"],
            input=python(ana, "-c", SHOW, shell).stdout,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0
    assert done.stderr == ""


SHOW = """
import os, sys
os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
from dorky.cli.main import run
sys.exit(run(["--show-completion", sys.argv[1]]))
"""
