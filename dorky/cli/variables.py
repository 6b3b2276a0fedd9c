"""Commands that use secrets: run, get, set, unset, edit, export."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, List  # noqa: UP035

import typer

from dorky import documents, errors, process
from dorky.cli.command import Command, Json
from dorky.cli.output import (
    ask,
    confirm,
    escaped,
    name,
    note,
    opened,
    plural,
    say,
    show_json,
    told_git,
)
from dorky.cli.paths import repository_path, repository_paths
from dorky.config import Config
from dorky.documents import Syntax
from dorky.documents.dotenv import quoted
from dorky.documents.export import Form
from dorky.results import Edited, Values

if TYPE_CHECKING:
    from dorky.commands.reading import Reader

File = Annotated[str, typer.Argument(metavar="PATH", help="A .env, JSON, TOML or YAML file.")]
Only = Annotated[
    List[str] | None,  # noqa: UP006
    typer.Option("--only", metavar="KEY", help="Only this variable; may be given several times."),
]
Revision = Annotated[
    str, typer.Option("--rev", metavar="REV", help="As a revision holds it, not as it is here.")
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Fail if the remote can't be asked for a newer one.")
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Never ask the remote: say how old it is instead.")
]
Allow = Annotated[
    List[str] | None,  # noqa: UP006
    typer.Option("--allow-env", metavar="NAME", help="Let it change how programs load."),
]


class RunCommand(Command):
    """A command whose options end at the first word, where those of another program begin."""

    allow_interspersed_args = False


class SetCommand(Command):
    """A command that checks for surplus arguments itself, as typer's message would quote them."""

    allow_extra_args = True


def run(
    command: Annotated[
        List[str],  # noqa: UP006
        typer.Argument(metavar="-- COMMAND…", help="The program to run, and its arguments."),
    ],
    paths: Annotated[
        List[str] | None,  # noqa: UP006
        typer.Option("-f", "--file", metavar="PATH", help="Instead of .env; the last one wins."),
    ] = None,
    only: Only = None,
    pristine: Annotated[
        bool, typer.Option("--pristine", help="Give it these variables and no others.")
    ] = False,
    overload: Annotated[
        bool, typer.Option("--overload", help="Replace variables that are set already.")
    ] = False,
    mask: Annotated[
        bool, typer.Option("--mask", help="Hide the values in what the command prints.")
    ] = False,
    revision: Revision = "",
    allow: Allow = None,
    fresh: Fresh = False,
    offline: Offline = False,
) -> None:
    """Run a command with the variables of .env in its environment. No file is written.

    The command takes dorky's place: signals and its exit code are its own. Variables that are set
    already stay as they are. The .env is the nearest one upwards. Where it is not on disk, dorky
    asks the remote, so nothing need be pulled first.

    \b
    $ dorky run -- npm start
    $ dorky run -f .env -f prod.env --only DATABASE_URL -- ./migrate
    $ dorky run --mask -- ./deploy.sh
    """
    from dorky.commands import variables
    from dorky.commands.reading import Reader

    with opened(anywhere=True) as repo:
        reader = Reader(repo, revision, fresh=fresh, offline=offline)
        names = repository_paths(repo, paths) if paths else [_dotenv(reader)]
        found = variables.environment(reader, names, only=only or (), allow=allow or ())
        inherited, places = repo.config.inheritable, repo.config.search_path
    _aged(reader)
    environment = process.environment(found, inherited, overload=overload, pristine=pristine)
    file = process.find(command[0], places)
    if not mask:
        process.replace(file, command, environment)
    hidden = {*found.values(), *(inherited.get(name, "") for name in found)}
    # With typer's exit, 130 would count as an interruption of dorky.
    sys.exit(process.masked(file, command, environment, hidden))


def _dotenv(reader: Reader) -> str:
    """Return the `.env` file to read when none is named: the nearest one upwards."""
    from dorky.commands.variables import DOTENV

    here = repository_path(reader.project, DOTENV)
    near = reader.nearest(here)
    if here != DOTENV:
        note(f"Using {name(near)}")
    return near


def _aged(reader: Reader) -> None:
    """Tell how old files are that the remote may have newer ones of."""
    from dorky.paths import shown

    told: dict[tuple[str, str], list[str]] = {}
    for source in reader.sources.values():
        why = source.why
        if source.behind and not why:
            newer = plural(source.behind, "newer commit")
            why = f"the remote has {newer} (dorky pull)"
        if source.commit and why:
            facts = f"as of commit {source.commit[:10]}, {_age(source.age or 0)} old"
            told.setdefault((facts, why), []).append(source.path)
    for (facts, why), paths in told.items():
        note(escaped(f"{shown(paths)}: {facts}; {why}"))


def _age(seconds: int) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return plural(seconds // length, unit)
    return plural(seconds, "second")


def get(
    path: File,
    key: Annotated[
        str, typer.Argument(metavar="[KEY]", help="A variable, or keys such as db.hosts.0.")
    ] = "",
    revision: Revision = "",
    fresh: Fresh = False,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Print a variable's value, or all of a file.

    A file that is not on disk is read as the remote has it now.

    \b
    $ dorky get .env DATABASE_URL
    $ dorky get config.yaml db.hosts.0 --rev HEAD~1
    $ dorky get .env --json
    """
    from dorky.commands import variables
    from dorky.commands.reading import Reader

    with opened(anywhere=True) as repo:
        reader = Reader(repo, revision, fresh=fresh, offline=offline)
        file = repository_path(repo, path)
        if key:
            found = {key: variables.get_variable(reader, file, key)}
        else:
            found = variables.variables(reader, file)
    _aged(reader)
    if json:
        show_json(Values(values=found, source=list(reader.sources.values())[-1]))
    elif key:
        _print(f"{found[key]}\n")
    elif documents.syntax_of(path) is Syntax.DOTENV:
        _print("".join(f"{key}={quoted(value)}\n" for key, value in found.items()))
    else:
        _print("".join(f"{name(key)} = {name(value)}\n" for key, value in found.items()))


def _print(answer: str) -> None:
    """Print an answer exactly, whatever the terminal's encoding, even if the command is quiet."""
    sys.stdout.flush()
    sys.stdout.buffer.write(answer.encode())
    sys.stdout.buffer.flush()


def export(
    path: File,
    form: Annotated[Form, typer.Option("-f", "--format", help="For whom.")] = Form.DOTENV,
    only: Only = None,
    revision: Revision = "",
    allow: Allow = None,
    fresh: Fresh = False,
    offline: Offline = False,
) -> None:
    """Print a file's variables for other programs to read.

    dotenv is for python-dotenv, node's dotenv, docker compose and bash: a value that they would not
    all read alike is refused. shell is for any POSIX shell, docker for docker run --env-file, and
    github for $GITHUB_ENV.

    \b
    $ eval "$(dorky export .env -f shell)"
    $ dorky export .env -f docker > "$XDG_RUNTIME_DIR/env"
    $ dorky export .env -f github --only TOKEN >> "$GITHUB_ENV"
    """
    from dorky.commands import variables
    from dorky.commands.reading import Reader

    with opened(anywhere=True) as repo:
        reader = Reader(repo, revision, fresh=fresh, offline=offline)
        file = repository_path(repo, path)
        text = variables.export(reader, file, form, only=only or (), allow=allow or ())
    _aged(reader)
    _print(text)


# --- changing -------------------------------------------------------------------------------


def set(
    context: typer.Context,
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A .env, JSON, TOML or YAML file; may be new.")
    ],
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="A variable, or keys such as db.hosts.0.")
    ],
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read the value from standard input, even a terminal.")
    ] = False,
    json: Json = False,
) -> None:
    """Give a variable a value, and stage the file. Comments and order stay as they are.

    The value is asked for, unseen, or read from standard input; never an argument, which other
    users and the shell's history would see. One newline at its end is left out.

    \b
    $ dorky set .env DATABASE_URL
    $ openssl rand -hex 32 | dorky set .env SESSION_KEY
    $ dorky set config.yaml db.password < password.txt
    """
    from dorky.commands import variables

    word = next((text for text in (key, path) if "=" in text and '"' not in text), "")
    if context.args or (word and (word == key or documents.syntax_of(path) is None)):
        file, variable = (path, key) if word in {"", key} else (".env", path)
        meant = [file, variable.partition("=")[0]]
        raise errors.UsageError(
            "a value is no argument: other users could see it, and the shell's history keeps it",
            hint=f"dorky set {shlex.join(meant)} asks for it, or reads standard input",
        )
    with opened() as repo:
        # Checked first, because a prompt for another secret could be taken for this one.
        named = repository_path(repo, path)
        variables.check_settable(repo, named)
        done = variables.set_variable(repo, named, key, _value(path, key, stdin=stdin))
    if json:
        show_json(done)
        return
    if done.what is None:
        say(f"{name(key)} in {name(done.path)} is just that already.")
    else:
        say(f"Set {name(key)} in {name(done.path)}{_new(done)}, and staged it.")
    _ignored(done)


def _value(path: str, key: str, *, stdin: bool) -> str:
    """Return the value that the user types, or that standard input gives.

    Raises:
        UsageError: There is none. An empty value must be an empty line, so that a program that
            failed does not empty a secret.
    """
    if not stdin and sys.stdin.isatty():
        typed = ask(f"{key} in {path}")
        if typed is None:
            raise errors.UsageError("there is no terminal to ask on", hint="add --stdin")
        data = typed.encode(errors="surrogateescape")
    else:
        data = sys.stdin.buffer.read()
    if not data:
        raise errors.UsageError(
            "no value was given: nothing was changed",
            hint=f"for an empty one: echo | dorky set {shlex.join([path, key])}",
        )
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise errors.UsageError("the value is not UTF-8, and a text file holds no other") from None
    return text[: len(text) - len("\r\n")] if text.endswith("\r\n") else text.removesuffix("\n")


def unset(
    path: File,
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="A variable, or keys such as db.hosts.0.")
    ],
    json: Json = False,
) -> None:
    """Remove a variable from a file, and stage that.

    \b
    $ dorky unset .env OLD_TOKEN
    """
    from dorky.commands import variables

    with opened() as repo:
        done = variables.unset_variable(repo, repository_path(repo, path), key)
    if json:
        show_json(done)
        return
    say(f"Took {name(key)} out of {name(done.path)}, and staged it.")
    _ignored(done)


def edit(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Any file; may be new.")],
    json: Json = False,
) -> None:
    """Edit a file with $VISUAL or $EDITOR, and stage it.

    The editor gets a copy, in memory where that is possible. It is saved if it was changed, and if
    it can be read: a slip in a .env, JSON, TOML or YAML file is told, with its line.

    \b
    $ dorky edit .env
    $ EDITOR="code --wait" dorky edit config.yaml
    """
    from dorky.commands import variables

    terminal = sys.stdin.isatty() and sys.stderr.isatty()
    command = _words(Config(None).editor or ("vi" if terminal else ""))
    with opened() as repo:
        inherited = repo.config.inheritable

        def editor(draft: Path) -> None:
            try:
                file = process.find(command[0], repo.config.search_path)
                environment = process.environment({}, inherited)
                code = process.attend(file, [*command, str(draft)], environment)
            except errors.CommandUnusable as error:
                error.facts["needs"] = "editor"
                raise
            if code:
                raise errors.EditorFailed(code)

        done = variables.edit(repo, repository_path(repo, path), editor, again=_again)
    if json:
        show_json(done)
    elif done.what is None:
        say(f"{name(done.path)} was not changed.")
    else:
        say(f"Saved {name(done.path)}{_new(done)}, and staged it.")
    if not json:
        _ignored(done)


def _words(editor: str) -> list[str]:
    """Return an editor and its arguments. No shell is used: Ctrl-C in the editor would end it."""
    try:
        words = shlex.split(editor)
    except ValueError:
        raise errors.UsageError("the quotes in $VISUAL or $EDITOR are not closed") from None
    if not words:
        raise errors.UsageError("no editor is named", hint='EDITOR="…" dorky edit PATH')
    return words


def _again(flaw: errors.BadDocument) -> bool:
    return confirm(f"{flaw.message}.\nEnter opens it again, anything else gives up:", "")


def _new(done: Edited) -> str:
    return ", which is new" if done.what == "added" else ""


def _ignored(done: Edited) -> None:
    told_git(done.ignored)
