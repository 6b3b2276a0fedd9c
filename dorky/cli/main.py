"""The application: its commands, the options of all commands, and the border at which errors
become messages and exit codes."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, List, NoReturn  # noqa: UP035

import typer
import typer.main

from dorky import __version__, errors
from dorky.cli import output
from dorky.cli.command import Deferred, Group
from dorky.cli.output import Settings, TerminalProgress

_COMMANDS = (
    Deferred("init", "setup.init", "Start a repository in this directory."),
    Deferred("clone", "setup.clone", "Make a directory with the newest state of a repository."),
    Deferred(
        "stage", "stage.stage", "Put files into the next commit: changed, new, or deleted ones."
    ),
    Deferred("unstage", "stage.unstage", "Take changes out of the next commit."),
    Deferred("rm", "stage.rm", "Delete files, here and in the next commit."),
    Deferred(
        "status", "stage.status", "Show what is staged, what is not, and what the remote has."
    ),
    Deferred("commit", "stage.commit", "Record what is staged."),
    Deferred(
        "restore",
        "stage.restore",
        "Put files back as they are staged, or as a revision holds them.",
    ),
    Deferred("checkout", "stage.checkout", "Make all files be as a revision is."),
    Deferred("log", "inspect.log", "Show the commits, newest first."),
    Deferred("show", "inspect.show", "Show a commit and what it changed, or a file in it."),
    Deferred("diff", "inspect.diff", "Show how files, what is staged, and commits differ."),
    Deferred("ls", "inspect.ls", "List the files that a commit holds."),
    Deferred("cat", "inspect.cat", "Write a committed file's content to standard output."),
    Deferred("push", "sync.push", "Send your commits to the remote."),
    Deferred("fetch", "sync.fetch", "Learn what the remote has, without changing any file."),
    Deferred("pull", "sync.pull", "Bring the files here up to date with the remote."),
    Deferred("sync", "sync.sync", "Pull, merge and push, until both sides have the same."),
    Deferred("download", "sync.download", "Fetch one file, and touch nothing else."),
    Deferred(
        "run", "variables.run", "Run a command with the variables of .env in its environment."
    ),
    Deferred("get", "variables.get", "Print a variable's value, or all of a file."),
    Deferred("set", "variables.set", "Give a variable a value, and stage the file."),
    Deferred("unset", "variables.unset", "Take a variable out of a file, and stage that."),
    Deferred("edit", "variables.edit", "Edit a file with $VISUAL or $EDITOR, and stage it."),
    Deferred("export", "variables.export", "Print a file's variables for other programs to read."),
    Deferred(
        "rotate", "team.rotate", "Give the repository new keys, and re-encrypt the current files."
    ),
    Deferred(
        "resolve", "undo.resolve", "Settle a conflict: with the file as it is now, or one side's."
    ),
    Deferred("merge", "undo.merge", "End a merge that a pull has left with conflicts."),
    Deferred("undo", "undo.undo", "Take back what was done last: commits, staging, files."),
    Deferred("fsck", "care.fsck", "Look for what is damaged or lost, here and in the remote."),
    Deferred("gc", "care.gc", "Delete what nothing needs any more."),
    Deferred(
        "purge", "care.purge", "Take a leaked file out of all history, here and in the remote."
    ),
    Deferred("doctor", "setup.doctor", "Look for what is wrong with this project."),
    Deferred("trust", "setup.trust", "Take over local state that was copied or restored."),
    Deferred("destroy", "setup.destroy", "Delete this project's repository."),
    Deferred(
        "add",
        "stage.stage",
        "Put files into the next commit: changed, new, or deleted ones.",
        hidden=True,
    ),
    Deferred(
        "help", "main.help_", "Show how a command is used; the same as its --help.", hidden=True
    ),
    Deferred("config", "config.app", "Read and change settings."),
    Deferred("remote", "setup.remote_app", "Name the places where the repository is kept."),
    Deferred("op", "undo.op_app", "What was done here, to be looked at and undone."),
    Deferred("key", "team.key_app", "Make and choose your own key."),
    Deferred("team", "team.team_app", "Let people in, and take access away."),
    Deferred("group", "team.group_app", "Say which files only some can read."),
)


class Root(Group):
    """The command dorky itself: its options, and all commands, none of which is imported yet."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "commands": _COMMANDS})


app = typer.Typer(
    name="dorky",
    cls=Root,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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


def help_(
    words: Annotated[List[str] | None, typer.Argument(metavar="[COMMAND]")] = None,  # noqa: UP006
) -> None:
    """Show how a command is used; the same as its --help."""
    raise typer.Exit(run([*(words or ()), "--help"]))


def everything() -> Any:
    """Return the application as click sees it, with all its commands, for code that lists them."""
    root: Any = typer.main.get_command(app)
    root.commands = {each.name: each.load() for each in _COMMANDS}
    return root


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command line and exit with its code."""
    # Without them (`>&-`), files that are opened next would get their numbers, and their output.
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # A name may hold characters that the terminal's encoding lacks: escape them, don't fail.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    stdout = sys.stdout  # typer replaces it when it meets a broken pipe
    code = run(arguments)
    try:
        stdout.flush()
    except OSError as error:
        code = code or _failed(error)
    # A plain exit would first dismantle every module, and join threads that still wait for the
    # network after an interruption.
    os._exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run a command line; return its exit code. Errors are printed, never raised."""
    Settings.quiet, Settings.verbose, Settings.color = False, 0, True
    try:
        result = app(arguments, standalone_mode=False, prog_name=_program())
    except SystemExit as end:
        # typer exits with 1 after a broken pipe.
        if isinstance(end.__context__, BrokenPipeError):
            return 0
        raise
    except BaseException as error:
        if not isinstance(error, (Exception, KeyboardInterrupt)):
            from dorky import native

            if not native.panicked(error):
                raise
        TerminalProgress.clear()
        return _failed(error)
    finally:
        TerminalProgress.clear()  # typer turns an interruption into a result
    if result == _INTERRUPTED:
        return _failed(KeyboardInterrupt())
    return result if isinstance(result, int) else 0


def _program() -> str:
    """Return the script's name that dorky was called by; the usual one for any other name."""
    name = Path(sys.argv[0]).name
    return name if name == "dorky-py" else "dorky"


def _failed(error: BaseException) -> int:
    """Print what went wrong; return the exit code."""
    if isinstance(error, errors.DorkyError):
        from dorky.cli import hints

        return _report(error.message, hints.hint(error), error.exit_code, error)
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return _report("interrupted", "run the command again: it is safe", _INTERRUPTED, error)
    if isinstance(error, _BadUsage):
        return _misused(error)
    if isinstance(error, OSError):
        return _system_failed(error)
    what = f"a bug in dorky: {type(error).__name__}: {error}"
    return _report(what, "run it again with -vv and report what it prints", _BUG, error)


def _system_failed(error: OSError) -> int:
    if isinstance(error, BrokenPipeError):
        return 0  # the reader of our output has seen enough (dorky log | head)
    try:
        Path.cwd()
    except FileNotFoundError:
        return _report("the current directory was deleted", "cd to another one", 3, error)
    # Files have names; an error without one is about the standard output.
    about = error.filename or "standard output"
    return _report(f"{about}: {error.strerror or error}", "", 8, error)


def _report(message: str, hint: str, code: int, error: BaseException) -> int:
    from dorky.redaction import redacted

    if Settings.verbose > 1:
        import traceback

        text = redacted("".join(traceback.format_exception(error)))
        print(output.harmless(text), end="", file=sys.stderr)
    line = output.escaped(re.sub(r"\s*\n\s*", " ", redacted(message.strip())))
    print(f"{_label('error:', 'red')} {line}", file=sys.stderr)
    if hint:
        print(f"{_label('hint:', 'cyan')} {output.escaped(hint)}", file=sys.stderr)
    if Settings.verbose and isinstance(error, errors.DorkyError):
        print(f"code: {error.code}", file=sys.stderr)
    return code


def _label(text: str, color: str) -> str:
    return typer.style(text, fg=color, bold=True) if output.colored(sys.stderr) else text


def _takes(error: Any, option: str) -> bool:
    return any(option in each.opts for each in error.ctx.command.params)


def _near(word: str, commands: list[str]) -> list[str]:
    """Return the commands that the user most likely meant."""
    if meant := [each for each in _GITS_WORDS.get(word, ()) if each.split()[0] in commands]:
        return meant
    import difflib

    begin = [each for each in commands if word and each.startswith(word)]
    return begin[:2] or difflib.get_close_matches(word, commands, n=1)


def _misused(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.ctx.get_help())
        return 0
    context = error.ctx
    path = context.command_path if context else "dorky"
    message = error.format_message().removesuffix(".")
    if type(error).__name__ == "MissingParameter":
        # The attribute has other names in other versions of typer.
        kind = error.param.param_type_name
        name = error.param.opts[0] if kind == "option" else error.param.name.upper()
        message = f"Missing {kind} {name}"
    hint = f"{path} --help"
    if context and (unknown := re.match(r"No such command (['\"])(.*?)\1", message)):
        word = unknown[2]
        near = [f"{path} {each}" for each in _near(word, list(context.command.commands))]
        root = context.find_root()
        if not near and word in root.command.commands:
            near = [f"{root.command_path} {word}"]
        hint = f"did you mean {' or '.join(near)}?" if near else hint
        message = f"{path} has no command {word}"
    elif (number := re.fullmatch(r"No such option: -(\d+)", message)) and _takes(error, "-n"):
        hint = f"{path} -n {number[1]}"
    elif path.endswith(" merge") and message.startswith("Got unexpected extra argument"):
        hint = "dorky pull, or dorky sync: they merge what the remote has"
    return _report(message, hint, errors.UsageError.exit_code, error)
