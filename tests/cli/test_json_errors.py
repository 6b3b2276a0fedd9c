"""Under --json an error is JSON, too: standard output holds one document, whatever happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from machines import Machine

from dorky import errors
from dorky.cli import stage
from dorky.cli.main import everything, run
from dorky.commands import status


def commands() -> Iterator[tuple[str, ...]]:
    """The commands that have --json."""
    todo: list[tuple[tuple[str, ...], Any]] = [((), everything())]
    for words, command in todo:
        todo += [
            ((*words, name), child) for name, child in getattr(command, "commands", {}).items()
        ]
        if any("--json" in option.opts for option in command.params):
            yield words


WITH_JSON = list(commands())
every_command = pytest.mark.parametrize("words", WITH_JSON, ids=" ".join)


def told(said: Any) -> dict[str, Any]:
    """The error object, which is all that standard output holds."""
    found = json.loads(said.raw)
    assert list(found) == ["error"]
    error = found["error"]
    assert list(error) == ["code", "message", "hint", "exit_code"]
    assert error["exit_code"] == said.code
    assert said.error == error["message"]
    assert not error["hint"] or said.hint == error["hint"]
    return dict(error)


def test_the_commands() -> None:
    assert {("status",), ("pull",), ("team", "list"), ("config", "list")} <= set(WITH_JSON)
    assert len(WITH_JSON) > 30


@every_command
def test_a_mistake_in_the_command_line(ana: Machine, words: tuple[str, ...]) -> None:
    for typed in (["--zzz", "--json"], ["--json", "--zzz"]):
        error = told(ana(*words, *typed, code=2))
        assert error["code"] == "usage-error"
        assert error["message"] == "No such option: --zzz"
        assert error["hint"] == f"dorky {' '.join(words)} --help"
    assert ana(*words, "--zzz", code=2).out == ""
    assert ana(*words, "--zzz", "--", "--json", code=2).out == ""


def test_other_mistakes(ana: Machine) -> None:
    for words, message in (
        (["stage", "--json"], "Missing argument PATHS"),
        (["log", "-n", "x", "--json"], "Invalid value for '-n'"),
        (["log", "--json", "-n", "x"], "Invalid value for '-n'"),
        (["log", "a", "b", "--json"], "Got unexpected extra argument"),
        (["statsu", "--json"], "dorky has no command statsu"),
        (["team", "lsit", "--json"], "dorky team has no command lsit"),
        (["log", "--json", "-n"], "Option '-n' requires an argument"),
    ):
        assert told(ana(*words, code=2))["message"].startswith(message)


def test_a_command_without_json_has_none(ana: Machine) -> None:
    said = ana("push", "--zzz", code=2)
    assert said.out == ""
    for words in (["cat", "--json"], ["cat", "--json", "--zzz"], ["run", "--zzz", "--json"]):
        said = ana(*words, code=2)
        assert said.out == ""
        assert said.error.startswith("No such option")


def test_the_option_holds_for_one_run(ana: Machine) -> None:
    told(ana("status", "--json", code=3))
    assert ana("status", code=3).out == ""


def test_outside_of_a_project(ana: Machine) -> None:
    for words in (["status"], ["log"], ["stage", "x"], ["push"], ["pull"], ["team", "list"]):
        error = told(ana(*words, "--json", code=3))
        assert error["code"] == "not-a-repository"
        assert error["hint"] == "dorky init, or dorky clone URL"


def test_what_verbose_and_quiet_change(ana: Machine) -> None:
    for words in (["-q"], ["-v"], ["-vv"], ["--no-color"]):
        assert told(ana("status", "--json", *words, code=3))["code"] == "not-a-repository"


def test_nothing_to_do(project: Machine) -> None:
    error = told(project("commit", "-m", "y", "--json", code=1))
    assert error["code"] == "nothing-staged"
    assert error["hint"] == "dorky stage FILE…, or dorky commit -a"


def failing(error: BaseException) -> Callable[..., Any]:
    def act(*_: object, **__: object) -> Any:
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (EOFError(), 130, "interrupted"),
        (ZeroDivisionError("oh\n\tno"), 70, "bug"),
        (OSError(5, "Input/output error", "/x"), 8, "disk-error"),
        (errors.Unreachable("s3://b", "a\n\x1b[31mb \udcff"), 8, "unreachable"),
        (errors.Unreachable("https://me:hunter2@host", "x"), 8, "unreachable"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_goes_wrong_on_the_way(
    project: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    exit_code: int,
    code: str,
) -> None:
    monkeypatch.setattr(status, "status", failing(error))
    with project.here():
        assert run(["status", "--json"]) == exit_code
    out, err = capsys.readouterr()
    found = json.loads(out)["error"]
    assert (found["code"], found["exit_code"]) == (code, exit_code)
    assert "\n" not in found["message"]
    assert "\x1b" not in out
    assert "hunter2" not in out + err


def test_a_result_that_was_printed_is_the_only_document(
    project: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The conflicts of a pull are in its result: the error is on standard error."""
    monkeypatch.setattr(status, "status", lambda *_, **__: {"x": 1})
    before = stage.show_json

    def show(found: Any) -> None:
        before(found)
        raise errors.Unresolved("x")

    monkeypatch.setattr(stage, "show_json", show)
    said = project("status", "--json", code=5)
    assert said.json == {"x": 1}
    assert said.error.startswith("The merge has left conflicts")


def test_a_reader_that_is_gone(project: Machine) -> None:
    """Neither a result nor an error has a reader then: no traceback, and the exit code stays."""
    for words, code in ((["status", "--json"], 0), (["show", "nope", "--json"], 4)):
        read, write = os.pipe()
        os.close(read)
        with project.here():
            done = subprocess.run(
                [sys.executable, "-m", "dorky", *words],
                stdout=write,
                stderr=subprocess.PIPE,
                env=os.environ,
                timeout=60,
                check=False,
            )
        os.close(write)
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr


def test_the_exit_code_is_as_without(project: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    with project.here():
        for words in (["show", "nope"], ["show", "--zzz"], ["ls", "nope"], ["diff", "nope"]):
            assert run(words) == run([*words, "--json"])
