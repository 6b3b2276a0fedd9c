"""Options that every command has, before or after its name, or that many commands have."""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Annotated, Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from dorky.cli.output import Settings


def _json(_context: Any, _option: Any, value: bool) -> bool:
    Settings.json = value
    return value


Json = Annotated[
    bool,
    # Eager: a mistake in another option is told as JSON, too.
    typer.Option("--json", callback=_json, is_eager=True, help="Print the result as JSON."),
]
"""The option of commands whose result can be printed as JSON."""

For = Annotated[
    str,
    typer.Option(
        "--for",
        metavar="GROUP",
        help="These readers (a group, or all) may see what another group has closed.",
    ),
]
"""The option of commands that can give a closed group's files to other readers."""

AcceptRewind = Annotated[
    bool, typer.Option("--accept-rewind", help="Follow the remote to an older or other history.")
]
"""The option of commands that accept an older or other history from the remote."""


def _quiet(_context: Any, _option: Any, value: bool) -> None:
    if value:
        Settings.quiet = True


def _verbose(_context: Any, _option: Any, value: int | None) -> None:
    Settings.verbose += value or 0


def _no_color(_context: Any, _option: Any, value: bool) -> None:
    if value:
        Settings.color = False


def _shared(
    quiet: bool = typer.Option(
        False,
        *("-q", "--quiet"),
        callback=_quiet,
        is_eager=True,
        expose_value=False,
        help="Print nothing but errors.",
    ),
    verbose: int = typer.Option(
        0,
        *("-v", "--verbose"),
        callback=_verbose,
        is_eager=True,
        expose_value=False,
        count=True,
        show_default=False,
        metavar="",
        help="Say more: long lists whole, errors with their code; twice: tracebacks.",
    ),
    no_color: bool = typer.Option(
        False,
        "--no-color",
        callback=_no_color,
        is_eager=True,
        expose_value=False,
        help="No colours (NO_COLOR does the same).",
    ),
) -> None:
    """Declare the options; this is never called."""


@functools.cache
def _options() -> list[Any]:
    # typer derives the options from a signature; its own classes change between its versions.
    app = typer.Typer(add_completion=False)
    app.command()(_shared)
    command: Any = typer.main.get_command(app)
    return [option for option in command.params if option.name != "help"]


class Command(TyperCommand):
    """A command with ``-q``, ``-v`` and ``--no-color``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _options()


class Group(TyperGroup):
    """A group of commands with the same options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _options()


class Deferred(TyperCommand):
    """A command as help lists it. Its module is imported only when the command is run.

    Args:
        name: Its name.
        home: A module of this package, and a function or a typer application in it. If a function
            ``x`` needs a class of its own, that is ``XCommand`` in the same module.
        about: The first sentence of its help.
        hidden: Whether help leaves it out.
    """

    name: str

    def __init__(self, name: str, home: str, about: str, *, hidden: bool = False) -> None:
        super().__init__(name, help=about, hidden=hidden)
        self.home = home

    def load(self) -> Any:
        """Return the command itself, or the group of commands."""
        place, _, thing = self.home.partition(".")
        module = import_module(f"dorky.cli.{place}")
        found = getattr(module, thing)
        app = typer.Typer(rich_markup_mode=None)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=self.name)
        else:
            kind = getattr(module, f"{thing.title()}Command", Command)
            app.command(self.name, cls=kind, hidden=self.hidden)(found)
        return typer.main.get_group(app).commands[self.name]

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse a command line, as the command itself does."""
        return self.load().make_context(*args, **kwargs)
