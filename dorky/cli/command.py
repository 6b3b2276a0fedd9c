"""The options that every command has, before or after its name, or that many have."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from dorky.cli.output import Settings

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
"""The option of commands whose result can be printed as JSON."""


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
