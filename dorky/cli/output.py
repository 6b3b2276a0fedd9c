"""What people and scripts see: text, JSON, colours, progress."""

from __future__ import annotations

import json as json_module
import shutil
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

from dorky.config import Config
from dorky.results import Change

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_PATIENCE = 0.5
_PLAIN_EVERY = 10.0
_MARKS = {"added": ("A", "green"), "modified": ("M", "yellow"), "deleted": ("D", "red")}


class Settings:
    """How to talk: set by the options that every command has."""

    quiet = False
    verbose = 0
    color: bool | None = None


def colored() -> bool:
    """Whether standard output takes colours."""
    if Settings.color is None:
        no_color = Config(None).environment.get("NO_COLOR")
        Settings.color = sys.stdout.isatty() and not no_color
    return Settings.color


def style(text: str, **how: Any) -> str:
    """Colour a text, if colours are wanted."""
    return typer.style(text, **how) if colored() else text


def clean(text: str) -> str:
    """A text from a commit, without what would steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def name(path: str) -> str:
    """A path for people: as it is, or quoted if it holds what would not show."""
    return path if path.isprintable() else json_module.dumps(path, ensure_ascii=False)


def say(text: str = "") -> None:
    """Print a line of the command's answer, unless it shall be quiet."""
    if not Settings.quiet:
        print(text)


def note(text: str) -> None:
    """Print a remark to standard error, unless the command shall be quiet."""
    if not Settings.quiet:
        print(text, file=sys.stderr)


def show_json(result: Any) -> None:
    """Print a result as JSON, and nothing else."""
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def plural(count: int, noun: str) -> str:
    """A count and its noun: ``1 file``, ``2 files``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def changes(found: Iterable[Change], *, indent: str = "  ", limit: int | None = 30) -> None:
    """List changed paths, the first ``limit`` of them."""
    every = list(found)
    for each in every[:limit]:
        mark, color = _MARKS[each.what]
        say(f"{indent}{style(mark, fg=color)} {name(each.path)}")
    if limit is not None and len(every) > limit:
        say(f"{indent}… and {plural(len(every) - limit, 'more file')}")


def confirm(question: str, expected: str) -> bool:
    """Ask for ``expected`` to be typed. Never asks without a terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(question, end=" ", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() == expected


class TerminalProgress:
    """Progress on standard error: a bar on a terminal, a plain line now and then elsewhere."""

    def __init__(self) -> None:
        self._label, self._unit, self._total, self._done = "", "", 0, 0
        self._began = self._told = 0.0
        self._bar: Bar | None = None

    def start(self, label: str, total: int, unit: str) -> None:
        """A phase begins."""
        self.finish()
        self._label, self._unit, self._total, self._done = label, unit, total, 0
        self._began = self._told = time.monotonic()

    def advance(self, amount: int) -> None:
        """Part of it is done."""
        self._done += amount
        now = time.monotonic()
        if Settings.quiet or now - self._began < _PATIENCE:
            return
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = self._make_bar()
            self._bar.update(self._bar.task_ids[0], completed=self._done)
        elif now - self._told >= _PLAIN_EVERY:
            self._told = now
            note(f"{self._label}: {self._amount(self._done)} of {self._amount(self._total)}")

    def finish(self) -> None:
        """It is over."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _amount(self, count: int) -> str:
        return size(count) if self._unit == "B" else f"{count} {self._unit}"

    def _make_bar(self) -> Bar:
        from rich import progress
        from rich.console import Console

        columns: list[progress.ProgressColumn] = [
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=min(40, shutil.get_terminal_size().columns // 3)),
        ]
        if self._unit == "B":
            columns += [progress.DownloadColumn(binary_units=True), progress.TransferSpeedColumn()]
        else:
            columns += [progress.MofNCompleteColumn(), progress.TextColumn(self._unit)]
        columns.append(progress.TimeRemainingColumn())
        console = Console(stderr=True, no_color=not colored())
        bar = progress.Progress(*columns, console=console, transient=True)
        bar.add_task(self._label, total=self._total or None)
        bar.start()
        return bar
