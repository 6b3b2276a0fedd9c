"""What is printed: quoting, colours, lists, JSON, progress."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import pytest
from machines import Machine
from terminals import Terminal

from dorky.cli import output
from dorky.cli.output import Settings, TerminalProgress
from dorky.results import Change

# What a terminal acts upon: C0 (but line ends), DEL, C1, and what turns the writing's direction.
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
NASTY = "\x1b[31m\x1b]0;title\x07 \x9b1m \u202egnp.exe \x7f \r\b \u200b"


@pytest.fixture(autouse=True)
def _fresh_settings() -> Iterator[None]:
    Settings.quiet, Settings.verbose, Settings.color = False, 0, True
    yield
    Settings.quiet, Settings.verbose, Settings.color = False, 0, True


# --- names and texts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("a b/c-d", "a b/c-d"),
        ("é/日本/😀", "é/日本/😀"),
        ("new\nline", '"new\\nline"'),
        ("tab\t", '"tab\\t"'),
        ('quo"te', '"quo\\"te"'),
        ("back\\slash", '"back\\\\slash"'),
        ("\x1b[31m", '"\\u001b[31m"'),
        ("\x9b1m", '"\\u009b1m"'),
        ("\u202e", '"\\u202e"'),
        ("\U000e0001", '"\\udb40\\udc01"'),
        (os.fsdecode(b"\xff"), '"\\udcff"'),
    ],
)
def test_names_are_quoted_when_they_would_not_show(path: str, shown: str) -> None:
    assert output.name(path) == shown
    if shown.startswith('"'):
        assert json.loads(shown) == path


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1024**3, "1.0 GiB"),
        (5 * 1024**4, "5120.0 GiB"),
    ],
)
def test_sizes(count: int, shown: str) -> None:
    assert output.size(count) == shown


def test_counts() -> None:
    assert [output.plural(n, "file") for n in (0, 1, 2, 1234)] == [
        *("0 files", "1 file", "2 files", "1,234 files")
    ]


def test_the_first_line_of_a_message() -> None:
    assert output.title("one\ntwo") == "one"
    assert output.title("\n\n  one \n") == "one"
    assert output.title("") == ""
    assert output.title("\x1b[1mbold") == "\\u001b[1mbold"


def test_nothing_that_steers_the_terminal_is_printed(ana: Machine) -> None:
    """Neither from names nor from messages, errors or JSON."""
    ana("init")
    for name in (f"{NASTY}.env", NASTY):
        ana.write(name, "1")
    said = [
        ana("status"),
        ana("status", "-s"),
        ana("status", "--json"),
        ana("stage", "."),
        ana("commit", "-m", f"{NASTY}\n\n{NASTY}\ttab"),
        ana("log"),
        ana("log", "--oneline"),
        ana("log", "--json"),
        ana("show"),
        ana("show", "--json"),
        ana("ls"),
        ana("ls", "-l"),
        ana("ls", "--json"),
        ana("rm", NASTY),
        ana("restore", "--staged", NASTY),
        ana("restore", NASTY),
        ana("stage", f"{NASTY}2", code=4),
        ana("show", NASTY, code=4),
        ana("checkout", f"{NASTY}2", code=4),
        ana(NASTY, code=2),
        ana("log", f"--{NASTY}", code=2),
        ana("config", "get", NASTY, code=2),
    ]
    for each in said:
        assert not STEERING.search(each.out.replace("\n", "")), each
        assert not STEERING.search(each.err.replace("\n", "")), each
    (listed,) = [each for each in ana("ls", "--json").json if not each["path"].endswith(".env")]
    assert listed["path"] == NASTY


# --- lists ----------------------------------------------------------------------------------


def test_long_lists_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    found = [Change(f"{n}", "added") for n in range(31)]
    output.changes(found[:30])
    assert capsys.readouterr().out.count("\n") == 30
    output.changes(found)
    assert capsys.readouterr().out.splitlines()[30:] == ["  … and 1 more (-v lists all)"]
    output.changes(found, whole=True)
    assert capsys.readouterr().out.count("\n") == 31
    Settings.verbose = 1
    output.changes(found)
    assert capsys.readouterr().out.count("\n") == 31


# --- colours --------------------------------------------------------------------------------


def test_colours_are_for_terminals_that_want_them(project: Machine, terminal: Terminal) -> None:
    assert "\x1b" not in project("log").out
    assert "\x1b[33m" in terminal(project, "log").text
    assert "\x1b" not in terminal(project, "log", "--no-color").text
    assert "\x1b" not in terminal(project, "--no-color", "log").text
    assert "\x1b" not in terminal(project, "log", NO_COLOR="1").text
    assert "\x1b" not in terminal(project, "log", TERM="dumb").text


def test_errors_have_colours_too(project: Machine, terminal: Terminal) -> None:
    shown = terminal(project, "show", "nope")
    assert shown.code == 4
    assert "\x1b[31m\x1b[1merror:\x1b[0m nope is not a revision here" in shown.text
    assert "\x1b" not in terminal(project, "show", "nope", NO_COLOR="1").text


# --- progress -------------------------------------------------------------------------------


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("dorky.cli.output.time.monotonic", lambda: self.now)


def test_progress_off_a_terminal_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    progress = TerminalProgress()
    progress.start("Uploading", 100 << 20, "B")
    for _ in range(25):
        clock.now += 1
        progress.advance(4 << 20)
    progress.finish()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "Uploading: 40.0 MiB of 100.0 MiB",
        "Uploading: 80.0 MiB of 100.0 MiB",
    ]
    progress.start("Reading", 5000, "packs")
    clock.now += 10
    progress.advance(2500)
    assert capsys.readouterr().err == "Reading: 2,500 packs of 5,000 packs\n"


def test_progress_is_silent_when_quick_or_asked_to_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    progress = TerminalProgress()
    progress.start("Uploading", 10, "B")
    progress.advance(10)
    progress.finish()
    Settings.quiet = True
    progress.start("Uploading", 10, "B")
    clock.now += 60
    progress.advance(10)
    progress.finish()
    assert capsys.readouterr() == ("", "")


BAR = """
import sys, time
import typer
from dorky.cli import main, output

way = sys.argv[1]

def slow():
    progress = output.TerminalProgress()
    progress.start("Uploading", 100, "B")
    for n in range(100):
        time.sleep(0.01)
        progress.advance(1)
        if n == 90 and way != "end":
            print("now", flush=True)
            if way == "fail":
                raise RuntimeError("oh")
            time.sleep(30)
    progress.finish()

main.app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
main.app.command()(slow)
sys.argv = ["dorky"]
main.main()
"""
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


@pytest.mark.parametrize(("way", "code"), [("end", 0), ("fail", 70), ("control-C", 130)])
def test_a_bar_leaves_the_terminal_as_it_was(
    ana: Machine, terminal: Terminal, way: str, code: int
) -> None:
    """The cursor is shown again, also after an error and an interruption."""
    typed = "\x03" if way == "control-C" else ""
    shown = terminal(ana, "-c", BAR, way, until="now", typed=typed, module=False)
    assert shown.code == code
    assert "Uploading" in shown.text
    assert shown.text.rindex(SHOW) > shown.text.rindex(HIDE)
    assert shown.text.rfind("error:") in (-1, *range(shown.text.rindex(SHOW), len(shown.text)))
    assert "Traceback" not in shown.text
