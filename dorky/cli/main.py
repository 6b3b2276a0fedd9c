"""The application: its commands, and the options of all commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, List, NoReturn  # noqa: UP035

import typer
import typer.main

from dorky import __version__
from dorky.cli.command import Deferred, Group
from dorky.cli.output import Settings, TerminalProgress

_COMMANDS = (
    Deferred("init", "setup.init", "Start a repository in this directory."),
    Deferred("clone", "setup.clone", "Make a directory with the newest state of a repository."),
    Deferred("stage", "stage.stage", "Put changed, new or deleted files into the next commit."),
    Deferred("unstage", "stage.unstage", "Remove changes from the next commit."),
    Deferred("rm", "stage.rm", "Delete files, here and in the next commit."),
    Deferred(
        "status", "stage.status", "Show what is staged, what is not, and what the remote has."
    ),
    Deferred("commit", "stage.commit", "Record what is staged."),
    Deferred("save", "save.save", "Stage what has changed, commit it and push, in one step."),
    Deferred(
        "restore",
        "stage.restore",
        "Put files back as staged, or as a revision holds them.",
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
        "upload",
        "remote_files.upload",
        "Upload files, as a commit in the remote, without a worktree.",
    ),
    Deferred("stat", "remote_files.stat", "Show what the remote knows of a file."),
    Deferred(
        "run", "variables.run", "Run a command with the variables of .env in its environment."
    ),
    Deferred("get", "variables.get", "Print a variable's value, or all of a file."),
    Deferred("set", "variables.set", "Give a variable a value, and stage the file."),
    Deferred("unset", "variables.unset", "Remove a variable from a file, and stage that."),
    Deferred("edit", "variables.edit", "Edit a file with $VISUAL or $EDITOR, and stage it."),
    Deferred("export", "variables.export", "Print a file's variables for other programs to read."),
    Deferred("rotate", "team.rotate", "Make new keys, and re-encrypt the current files."),
    Deferred("resolve", "undo.resolve", "Settle a conflict with the file as it is, or one side's."),
    Deferred("merge", "undo.merge", "End a merge that a pull has left with conflicts."),
    Deferred("undo", "undo.undo", "Take back what was done last: commits, staging, files."),
    Deferred("fsck", "care.fsck", "Look for what is damaged or lost, here and in the remote."),
    Deferred("gc", "care.gc", "Delete what nothing needs any more."),
    Deferred("purge", "care.purge", "Purge a leaked file from all local and remote history."),
    Deferred(
        "mirror",
        "mirror.mirror",
        "Copy a repository to another place as it is stored.",
    ),
    Deferred(
        "sign", "provenance.sign", "Sign files: say that they are as you have committed them."
    ),
    Deferred("verify", "provenance.verify", "Verify that files are signed, as they are on disk."),
    Deferred(
        "signatures",
        "provenance.signatures",
        "List the signatures of a file, and what each is worth.",
    ),
    Deferred(
        "attest",
        "provenance.attest",
        "Attach a signed statement to a file: how it was built, say.",
    ),
    Deferred(
        "attestations",
        "provenance.attestations",
        "List what was attached to a file, and what each is worth.",
    ),
    Deferred("doctor", "setup.doctor", "Look for what is wrong with this project."),
    Deferred("trust", "setup.trust", "Take over local state that was copied or restored."),
    Deferred("destroy", "setup.destroy", "Delete this project's repository."),
    Deferred(
        "add",
        "stage.stage",
        "Put changed, new or deleted files into the next commit.",
        hidden=True,
    ),
    Deferred(
        "help", "main.help_", "Show how a command is used; the same as its --help.", hidden=True
    ),
    Deferred("config", "config.app", "Read and change settings."),
    Deferred("remote", "setup.remote_app", "Name the places where the repository is kept."),
    Deferred("python", "python.app", "Keep Python packages, and be their index for pip and uv."),
    Deferred("bucket", "bucket.app", "Create, list, examine and delete buckets."),
    Deferred("sbom", "provenance.sbom_app", "Attach SBOMs to files, and read them."),
    Deferred("bundle", "provenance.bundle_app", "Exchange signatures with other programs."),
    Deferred("cache", "cache.app", "Show or empty the cache of programs that use the library."),
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

_INTERRUPTED = 130


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
    encrypted in your own bucket.

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
    root.commands = {command.name: command.load() for command in _COMMANDS}
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
        from dorky.cli.failures import failed

        code = code or failed(error)
    # A plain exit would first dismantle every module, and join threads that still wait for the
    # network after an interruption.
    os._exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run a command line; return its exit code. Errors are printed, never raised."""
    Settings.reset(sys.argv[1:] if arguments is None else arguments)
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
        if type(error).__name__ == "NoArgsIsHelpError":
            print(getattr(error, "ctx").get_help())  # noqa: B009 - click's own, in typer
            return 0
        from dorky.cli.failures import failed

        return failed(error)
    finally:
        TerminalProgress.clear()  # typer turns an interruption into a result
    if result == _INTERRUPTED:
        from dorky.cli.failures import failed

        return failed(KeyboardInterrupt())
    return result if isinstance(result, int) else 0


def _program() -> str:
    """Return the script's name that dorky was called by; the usual one for any other name."""
    name = Path(sys.argv[0]).name
    return name if name == "dorky-py" else "dorky"
