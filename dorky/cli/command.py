"""The options that every command has, before or after its name, or that many have."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup, TyperOption

from dorky.cli.output import Settings

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
"""The option of commands whose result can be printed as JSON."""

For = Annotated[
    str,
    typer.Option(
        "--for",
        metavar="GROUP",
        help="These readers (a group, or all) may see what another group has closed.",
    ),
]
"""The option of commands that can hand what a group has closed to other readers."""


def _quiet(_context: Any, _option: Any, value: bool) -> None:
    if value:
        Settings.quiet = True


def _verbose(_context: Any, _option: Any, value: int | None) -> None:
    Settings.verbose += value or 0


def _no_color(_context: Any, _option: Any, value: bool) -> None:
    if value:
        Settings.color = False


def _options() -> list[TyperOption]:
    shared: dict[str, Any] = {"expose_value": False, "is_eager": True}
    return [
        TyperOption(
            param_decls=["-q", "--quiet"],
            callback=_quiet,
            is_flag=True,
            help="Print nothing but errors.",
            **shared,
        ),
        TyperOption(
            param_decls=["-v", "--verbose"],
            callback=_verbose,
            count=True,
            type=int,  # else its help ends in [x>=0]
            help="Say more: long lists whole, errors with their code; twice: tracebacks.",
            **shared,
        ),
        TyperOption(
            param_decls=["--no-color"],
            callback=_no_color,
            is_flag=True,
            help="No colours (NO_COLOR does the same).",
            **shared,
        ),
    ]


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
    """A command as help lists it. The module that holds it is imported when it is run.

    Args:
        name: What it is called.
        home: Where it is: a module of this package, and a function or a typer application in it.
            A function ``x`` that needs a class of its own has it beside it, as ``XCommand``.
        about: The first sentence of its help.
        hidden: Whether help leaves it out.
    """

    name: str

    def __init__(self, name: str, home: str, about: str, *, hidden: bool = False) -> None:
        super().__init__(name, help=about, hidden=hidden)
        self.home = home

    def load(self) -> Any:
        """The command itself, or the group of commands."""
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
        """Read a command line, as the command itself."""
        return self.load().make_context(*args, **kwargs)
