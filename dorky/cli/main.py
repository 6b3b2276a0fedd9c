"""The application: its commands, the options that all of them have, and the border where errors
become messages and exit codes."""

from __future__ import annotations

import difflib
import os
import sys
from typing import Any, NoReturn

import typer

from dorky import __version__, errors
from dorky.cli import config, history, output, setup, sync, work
from dorky.cli.command import Command
from dorky.cli.output import Settings

app = typer.Typer(
    name="dorky",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_BUG = 70
_INTERRUPTED = 130
# click calls what is wrong with a command line UsageError; typer re-exports only its child.
_BadUsage: type[Exception] = typer.BadParameter.__bases__[0]


def _version(value: bool) -> None:
    if value:
        print(f"dorky {__version__}")
        raise typer.Exit


@app.callback()
def dorky(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """git for the files git must not hold: .env files, keys, configs and data sets, versioned and
    sealed in your own bucket.

    \b
    $ dorky init s3://acme-vault/payments
    $ dorky stage .env && dorky commit -m "staging keys" && dorky push
    $ dorky pull
    """


for _family in (setup, work, history, sync):
    for _function in _family.COMMANDS:
        _name = _function.__name__.rstrip("_").replace("_", "-")
        app.command(_name, cls=Command)(_function)
app.command("add", cls=Command, hidden=True)(work.stage)
app.add_typer(config.app, name="config")
app.add_typer(setup.remote_app, name="remote")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        # A name may hold what the terminal's encoding lacks; show it rather than fail on it.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough (dorky log | head).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run a command line; give its exit code. Errors are printed, never raised."""
    Settings.quiet, Settings.verbose, Settings.color = False, 0, None
    try:
        result = app(arguments, standalone_mode=False)
    except errors.DorkyError as error:
        return _report(error.message, error.hint, error.exit_code, error)
    except (KeyboardInterrupt, typer.Abort) as error:
        return _report("interrupted", "", _INTERRUPTED, error)
    except _BadUsage as error:
        return _misused(error)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001
        what = f"a bug in dorky: {type(error).__name__}: {error}"
        return _report(what, "run it again with -vv and report what it prints", _BUG, error)
    return result if isinstance(result, int) else 0


def _report(message: str, hint: str, code: int, error: BaseException) -> int:
    if Settings.verbose > 1:
        import traceback

        traceback.print_exception(error)
    prefix = typer.style("error:", fg="red", bold=True) if _stderr_colored() else "error:"
    print(f"{prefix} {' '.join(output.clean(message).split())}", file=sys.stderr)
    if hint:
        print(f"hint: {output.clean(hint)}", file=sys.stderr)
    return code


def _stderr_colored() -> bool:
    return sys.stderr.isatty() and output.colored()


def _misused(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.ctx.get_help())
        return 0
    context = error.ctx
    path = context.command_path if context else "dorky"
    message = error.format_message()
    hint = f"{path} --help"
    if context and message.startswith("No such command"):
        word = message.split("'")[1]
        near = difflib.get_close_matches(word, context.command.commands, n=1)
        hint = f"did you mean {path} {near[0]}?" if near else hint
        message = f"{path} has no command {word}"
    return _report(message, hint, errors.UsageError.exit_code, error)
