"""The border at which errors become messages, JSON and exit codes. Loaded when something fails."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from typing import Any

import typer

from dorky import errors
from dorky.cli import hints, output
from dorky.cli.output import Settings
from dorky.redaction import redacted
from dorky.results import Failure

_BUG = 70
_INTERRUPTED = 130
# click's UsageError is the class of all command-line errors; typer re-exports only its child.
_BadUsage: type[Exception] = typer.BadParameter.__bases__[0]
# Words that users of git and other tools type out of habit.
_GITS_WORDS = {
    "delete": ["rm"],
    "rebase": ["sync"],
    "redo": ["undo"],
    "reflog": ["op log"],
    "remove": ["rm"],
    "reset": ["unstage", "restore"],
    "revert": ["undo"],
    "stash": ["commit"],
    "switch": ["checkout"],
}


def failed(error: BaseException) -> int:
    """Print what went wrong; return the exit code.

    Standard error gets it in words. With ``--json``, standard output gets it as a `Failure`, unless
    the command has printed its result there already.
    """
    if isinstance(error, errors.DorkyError):
        return _report(error.code, error.message, hints.hint(error), error.exit_code, error)
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        hint = "run the command again: it is safe"
        return _report("interrupted", "interrupted", hint, _INTERRUPTED, error)
    if isinstance(error, _BadUsage):
        return _misused(error)
    if isinstance(error, OSError):
        return _system_failed(error)
    if damage := _damage():
        damage.__cause__ = error
        return failed(damage)
    what = f"a bug in dorky: {type(error).__name__}: {error}"
    return _report("bug", what, "run it again with -vv and report what it prints", _BUG, error)


def _damage() -> errors.CorruptDatabase | None:
    """Return the damage in the project's database that may have led to an unexpected error."""
    from dorky.project import Project
    from dorky.store.salvage import nonsense

    with contextlib.suppress(Exception):
        root = Project.root_above(Path())
        with Project(root) if root else contextlib.nullcontext() as project:
            if project and (wrong := nonsense(project.database)):
                return errors.CorruptDatabase(project.database.path, wrong[0])
    return None


def _system_failed(error: OSError) -> int:
    if isinstance(error, BrokenPipeError):
        return 0  # the reader of our output has seen enough (dorky log | head)
    try:
        Path.cwd()
    except FileNotFoundError:
        gone = errors.SetupError("the current directory was deleted")
        return _report(gone.code, gone.message, "cd to another one", gone.exit_code, error)
    # Files have names; an error without one is about the standard output.
    about = error.filename or "standard output"
    failure = errors.DiskError(about, error.strerror or error)
    return _report(failure.code, failure.message, "", failure.exit_code, error)


def _report(code: str, message: str, hint: str, exit_code: int, error: BaseException) -> int:
    if Settings.verbose > 1:
        import traceback

        text = redacted("".join(traceback.format_exception(error)))
        print(output.harmless(text), end="", file=sys.stderr)
    line = re.sub(r"\s*\n\s*", " ", redacted(message.strip()))
    print(f"{_label('error:', 'red')} {output.escaped(line)}", file=sys.stderr)
    if hint:
        print(f"{_label('hint:', 'cyan')} {output.escaped(hint)}", file=sys.stderr)
    if Settings.verbose and isinstance(error, errors.DorkyError):
        print(f"code: {code}", file=sys.stderr)
    if _wants_json(error) and not Settings.answered:
        failure = Failure(code=code, message=line, hint=hint, exit_code=exit_code)
        with contextlib.suppress(OSError):  # nobody reads it
            output.show_json({"error": failure})
    return exit_code


def _wants_json(error: BaseException) -> bool:
    """Return whether the command was called with ``--json``, and has that option.

    After an error in the command line itself, only the words that were typed can tell.
    """
    if Settings.json or not isinstance(error, _BadUsage):
        return Settings.json
    words = Settings.words
    typed = "--json" in (words[: words.index("--")] if "--" in words else words)
    context: Any = getattr(error, "ctx", None)
    # A group has no such option: the command in it that was meant is not known.
    known = context is not None and not hasattr(context.command, "commands")
    return typed and (not known or _takes(error, "--json"))


def _label(text: str, color: str) -> str:
    return typer.style(text, fg=color, bold=True) if output.colored(sys.stderr) else text


def _takes(error: Any, option: str) -> bool:
    return any(option in parameter.opts for parameter in error.ctx.command.params)


def _near(word: str, commands: list[str]) -> list[str]:
    """Return the commands that the user most likely meant."""
    meant = [command for command in _GITS_WORDS.get(word, ()) if command.split()[0] in commands]
    if meant:
        return meant
    import difflib

    begin = [command for command in commands if word and command.startswith(word)]
    return begin[:2] or difflib.get_close_matches(word, commands, n=1)


def _misused(error: Any) -> int:
    context = error.ctx
    path = context.command_path if context else "dorky"
    # Some versions of typer quote another library's kind of error.
    message = error.format_message().removesuffix(".").replace(": Value error, ", ": ")
    if type(error).__name__ == "MissingParameter":
        # The attribute has other names in other versions of typer.
        kind = error.param.param_type_name
        name = error.param.opts[0] if kind == "option" else error.param.name.upper()
        message = f"Missing {kind} {name}"
    hint = f"{path} --help"
    if context and (unknown := re.match(r"No such command (['\"])(.*?)\1", message)):
        word = unknown[2]
        near = [f"{path} {command}" for command in _near(word, list(context.command.commands))]
        root = context.find_root()
        if not near and word in root.command.commands:
            near = [f"{root.command_path} {word}"]
        hint = f"did you mean {' or '.join(near)}?" if near else hint
        hint = f"{root.command_path} --version" if word == "version" else hint
        message = f"{path} has no command {word}"
    elif (number := re.fullmatch(r"No such option: -(\d+)", message)) and _takes(error, "-n"):
        hint = f"{path} -n {number[1]}"
    elif path.endswith(" remote") and message == "No such option: -v":
        hint = f"{path} list"
    elif path.endswith(" merge") and message.startswith("Got unexpected extra argument"):
        hint = "dorky pull, or dorky sync: they merge what the remote has"
    usage = errors.UsageError(message)
    return _report(usage.code, message, hint, usage.exit_code, error)
