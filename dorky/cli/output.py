"""Output for people and scripts: text, JSON, colours, progress."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TextIO, TypeVar

import typer

from dorky import errors

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from dorky.config import Choice
    from dorky.project import Project
    from dorky.results import Change, Check, FetchResult, Omission, PullResult

T = TypeVar("T")

# `say` does not escape these: line ends, tabs, and the colours of `style`.
_OURS = re.compile("(\n|\t|\x1b\\[(?:[012]|3[0-7]|9[0-7])m)")
_LIST = 30
_NARROW = 60
"""The columns below which a progress bar has no room next to its numbers."""
_PATIENCE = 0.5
_PLAIN_EVERY = 10.0
_MARKS = {"added": ("A", "green"), "modified": ("M", "yellow"), "deleted": ("D", "red")}


class Settings:
    """The settings for output, from the options that every command has."""

    quiet = False
    verbose = 0
    color = True
    json = False
    """Whether the command was called with ``--json``."""
    answered = False
    """Whether the command has printed its result as JSON."""
    words: ClassVar[Sequence[str]] = ()
    """The command line."""

    @classmethod
    def reset(cls, words: Sequence[str]) -> None:
        """Begin a command line."""
        cls.quiet, cls.verbose, cls.color = False, 0, True
        cls.json, cls.answered, cls.words = False, False, words


def colored(stream: TextIO | None = None) -> bool:
    """Return whether a stream (standard output by default) shows colours."""
    from dorky.config import Config

    environment = Config(None).environment
    if not Settings.color or environment.get("NO_COLOR") or environment.get("TERM") == "dumb":
        return False
    return (stream or sys.stdout).isatty()


def style(text: str, **how: Any) -> str:
    """Colour a text, if colours are wanted."""
    return typer.style(text, **how) if colored() else text


def escaped(text: str) -> str:
    """Return a text with unprintable and terminal control characters escaped as in JSON."""
    if text.isprintable():
        return text
    import json

    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def harmless(text: str) -> str:
    """Return dorky's text with untrusted parts escaped; its line ends and colours stay.

    All output for people goes through this function, as the last defence.
    """
    if text.isprintable():
        return text
    parts = _OURS.split(text)
    return "".join(part if n % 2 else escaped(part) for n, part in enumerate(parts))


def name(path: str) -> str:
    """Return a path for people: as it is, or quoted as in JSON if it is not printable."""
    if path.isprintable() and '"' not in path and "\\" not in path:
        return path
    import json

    return escaped(json.dumps(path, ensure_ascii=False))


def title(message: str) -> str:
    """Return the first line of a commit's message."""
    return escaped(message.strip().partition("\n")[0])


def from_here() -> Callable[[str], str]:
    """Return the function that makes repository paths relative to the current directory."""
    from dorky.project import Project

    root = Project.root_above(Path())
    below = os.path.relpath(Path.cwd(), root) if root else "."
    return name if below == "." else lambda path: name(os.path.relpath(path, below))


def say(text: str = "") -> None:
    """Print a line of the command's answer, unless the command is quiet."""
    if not Settings.quiet:
        print(harmless(text))


def note(text: str) -> None:
    """Print a remark to standard error, unless the command is quiet."""
    if not Settings.quiet:
        print(harmless(text), file=sys.stderr)


def show_json(result: Any) -> None:
    """Print a result as JSON, and nothing else.

    Unprintable characters are escaped, so a terminal obeys none of them. A name that is not UTF-8
    has lone surrogates, which `os.fsencode` turns back into its bytes.
    """
    import json

    import msgspec

    text = json.dumps(msgspec.to_builtins(result), indent=2, ensure_ascii=False)
    Settings.answered = True
    print("\n".join(escaped(line) for line in text.split("\n")))


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if round(count, 1) < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def plural(count: int, noun: str) -> str:
    """Return a count and its noun: ``1 file``, ``2 files``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def told_git(lines: Sequence[str]) -> None:
    """Tell what git has been told to ignore, if anything."""
    directories = sum(line.endswith("/") for line in lines)
    words = []
    if directories:
        words.append("1 directory" if directories == 1 else f"{directories:,} directories")
    if count := len(lines) - directories:
        words.append(plural(count, "file"))
    if words:
        note(f"Told git to ignore {' and '.join(words)} (in .gitignore)")


def undeleted(count: int, what: str) -> None:
    """Tell that files could not be deleted in the remote, if there are any."""
    if count:
        note(f"{plural(count, 'file')} {what} could not be deleted (dorky gc --remote).")


def changes(found: Sequence[Change], *, whole: bool = False) -> None:
    """List changed paths; only some of them, unless the whole list is wanted."""
    here = from_here()

    def line(change: Change) -> str:
        return f"{change_mark(change.what)} {here(change.path)}"

    listing(found, line, whole=whole)


def change_mark(what: str) -> str:
    """Return the letter for what happened to a file."""
    mark, color = _MARKS[what]
    return style(mark, fg=color)


def checks(found: Iterable[Check]) -> None:
    """Print the findings of checks, whose remedies are in words."""
    for check in found:
        color = {"ok": "green", "warn": "yellow", "fail": "red"}[check.verdict]
        say(f"{style(f'{check.verdict:4}', fg=color)}  {check.name}: {name(check.about)}")
        if check.remedy:
            say(f"      → {name(str(check.remedy))}")


def listing(items: Sequence[T], line: Callable[[T], str], *, whole: bool = False) -> None:
    """Print a list below a heading; only a part of it, unless the whole list is wanted."""
    limit = len(items) if whole or Settings.verbose else _LIST
    for item in items[:limit]:
        say(f"  {line(item)}")
    if len(items) > limit:
        say(f"  … and {len(items) - limit:,} more (-v lists all)")


def ask(prompt: str) -> str | None:
    """Ask for a secret on the terminal, without echo. Never asks without a terminal.

    Returns:
        The typed text; None if nobody can be asked.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    import getpass

    return getpass.getpass(f"{escaped(prompt)}: ", stream=sys.stderr)


def left_out(names: Sequence[str]) -> None:
    """Tell which files of a commit were not put in place, because of their names."""
    heading = "Left out, because of what git or dorky would do with files of these names:"
    _noted(heading, [name(path) for path in names])


def unplaced(found: Sequence[Omission]) -> None:
    """Tell which files of a commit this file system can't show."""
    heading = "Not on this disk; they stay in the repository, and no commit deletes them:"
    _noted(heading, [f"{name(item.path)}: {escaped(item.why)}" for item in found])


def _noted(heading: str, lines: Sequence[str]) -> None:
    """Note the first of some lines below a heading; nothing if there are none."""
    if lines:
        note(heading)
        for line in lines[:_LIST]:
            note(f"  {line}")
        if len(lines) > _LIST:
            note(f"  … and {len(lines) - _LIST:,} more")


def first_sight(done: FetchResult | PullResult) -> None:
    """Tell the fingerprint of a repository that was seen for the first time."""
    if done.unencrypted:
        note(f"Not encrypted: anyone who can read {name(done.url)} can read all that you push.")
    elif done.fingerprint:
        note(f"Its fingerprint: {done.fingerprint}")
        note("Compare it with a member's: dorky config get repository.fingerprint")


def first_team(done: FetchResult | PullResult) -> None:
    """Tell who administers a repository that was seen for the first time, if nothing pins that."""
    if done.team:
        note(f"Its team is administered by {', '.join(done.admins)}: entry {done.team[:20]}…")
        note("Compare it with a member's: dorky team log")


def new_passphrase() -> str:
    """Ask for a new passphrase, twice.

    Raises:
        UsageError: Nobody can be asked, or the two differ.
    """
    first = ask("New passphrase")
    if first is None:
        raise errors.UsageError("no passphrase", hint="set DORKY_PASSPHRASE, or use a terminal")
    if ask("Once more") != first:
        raise errors.UsageError("the two passphrases differ", hint="run the command again")
    return first


def opened(*, anywhere: bool = False) -> Project:
    """Open the project that contains the current directory, for a command to work on.

    Args:
        anywhere: Whether the current directory may become a project, if DORKY_URL or DORKY_BUCKET
            names its remote.
    """
    from dorky.config import Config
    from dorky.project import Project

    if anywhere and Project.root_above(Path()) is None and Config(None).remotes():
        return Project(Path.cwd(), progress=TerminalProgress(), ask=ask, agree=allow)
    return Project.find(progress=TerminalProgress(), ask=ask, agree=allow)


def confirm(question: str, expected: str) -> bool:
    """Ask the user to type ``expected``. Never asks without a terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(harmless(question), end=" ", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() == expected


def agree(question: str) -> bool:
    """Ask for a yes or a no, until the user gives one. Never asks without a terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    while True:
        print(f"{harmless(question)} (yes/no)", end=" ", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if answer.strip().lower() in {"y", "yes"}:
            return True
        if not answer or answer.strip().lower() in {"n", "no"}:
            return False


def allow(choice: Choice) -> bool:
    """Ask whether `.dorkyrc` may choose a profile or a server. Never asks without a terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    from dorky.drivers.consent import described

    print(f".dorkyrc wants for {escaped(choice.place)}:", file=sys.stderr)
    print(f"  {escaped(described(choice))}", file=sys.stderr)
    print(
        "Requests go there signed by your AWS credentials, with their session token.",
        file=sys.stderr,
    )
    return agree("Allow that from now on?")


class TerminalProgress:
    """Progress on standard error: a bar on a terminal, else a line now and then."""

    _drawing: ClassVar[TerminalProgress | None] = None

    @classmethod
    def clear(cls) -> None:
        """Remove a bar that an error left on the terminal, and show the cursor again."""
        if cls._drawing is not None:
            cls._drawing.finish()

    def __init__(self) -> None:
        self._label, self._unit, self._total, self._done = "", "", 0, 0
        self._began = self._told = 0.0
        self._bar: Bar | None = None

    def start(self, label: str, total: int, unit: str) -> None:
        """See `Progress.start`."""
        self.finish()
        self._label, self._unit, self._total, self._done = label, unit, total, 0
        self._began = self._told = time.monotonic()

    def advance(self, amount: int) -> None:
        """See `Progress.advance`."""
        self._done += amount
        now = time.monotonic()
        if Settings.quiet or now - self._began < _PATIENCE:
            return
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = self._make_bar()
                TerminalProgress._drawing = self
            self._bar.update(self._bar.task_ids[0], completed=self._done, pace=self._pace())
        elif now - self._told >= _PLAIN_EVERY:
            self._told = now
            note(f"{self._label}: {self._amount(self._done)} of {self._amount(self._total)}")

    def finish(self) -> None:
        """See `Progress.finish`."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            TerminalProgress._drawing = None

    def _amount(self, count: int) -> str:
        return size(count) if self._unit == "B" else f"{count:,} {self._unit}"

    def _pace(self) -> str:
        """Return the speed and the time left, over the whole phase.

        The bar appears when a part is done already, which rich would count as done at once.
        """
        speed = max(self._done, 1) / max(time.monotonic() - self._began, 0.001)
        left = timedelta(seconds=round(max(self._total - self._done, 0) / speed))
        return f"{size(speed)}/s {left}" if self._unit == "B" else str(left)

    def _make_bar(self) -> Bar:
        from rich import progress
        from rich.console import Console
        from rich.text import Text

        class Amounts(progress.ProgressColumn):
            """The done and total amounts, and the speed, in one unit (rich mixes units)."""

            def render(self, task: progress.Task) -> Text:
                done = size(task.completed)
                return Text(f"{done} of {size(task.total)}" if task.total else done)

        columns: list[progress.ProgressColumn] = [
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=min(40, shutil.get_terminal_size().columns // 6)),
        ]
        if self._unit == "B":
            columns += [Amounts()]
        else:
            columns += [progress.MofNCompleteColumn(), progress.TextColumn(self._unit)]
        columns.append(progress.TextColumn("{task.fields[pace]}"))
        if shutil.get_terminal_size().columns < _NARROW:
            del columns[1]  # the bar itself: the numbers say as much
            columns = columns[:2] if self._unit == "B" else columns[:-1]
        console = Console(stderr=True, no_color=not colored(sys.stderr))
        bar = progress.Progress(*columns, console=console, transient=True)
        bar.add_task(escaped(self._label), total=self._total or None, pace="")
        bar.start()
        return bar
