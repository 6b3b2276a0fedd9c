"""The options that every command has, before or after its name's own."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperOption

from dorky.cli.output import Settings


def _quiet(_context: Any, _option: Any, value: bool) -> None:
    if value:
        Settings.quiet = True


def _verbose(_context: Any, _option: Any, value: int) -> None:
    if value:
        Settings.verbose = value


def _no_color(_context: Any, _option: Any, value: bool) -> None:
    if value:
        Settings.color = False


class Command(TyperCommand):
    """A command with ``-q``, ``-v`` and ``--no-color``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        flag: dict[str, Any] = {"is_flag": True, "expose_value": False, "is_eager": True}
        self.params += [
            TyperOption(
                param_decls=["-q", "--quiet"],
                callback=_quiet,
                help="Print nothing but errors.",
                **flag,
            ),
            TyperOption(
                param_decls=["-v", "--verbose"],
                callback=_verbose,
                count=True,
                expose_value=False,
                is_eager=True,
                help="Say more; twice: show tracebacks.",
            ),
            TyperOption(
                param_decls=["--no-color"],
                callback=_no_color,
                help="No colours (NO_COLOR does the same).",
                **flag,
            ),
        ]
