"""Commands that look at what is committed: log, show, ls, cat."""

from __future__ import annotations

import sys
from datetime import timezone
from pathlib import Path
from typing import Annotated, Optional

import typer

from dorky import errors
from dorky.cli.output import TerminalProgress, changes, clean, name, say, show_json, style
from dorky.results import LogEntry

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def log(
    path: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(help="Only commits that changed this file or directory."),
    ] = None,
    number: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("-n", "--number", help="At most so many.", min=0),
    ] = None,
    oneline: Annotated[bool, typer.Option("--oneline", help="One line a commit.")] = False,
    revision: Annotated[str, typer.Option("--rev", help="Begin here.", metavar="REV")] = "HEAD",
    json: Json = False,
) -> None:
    """Show the commits, newest first.

    \b
    $ dorky log -n 5
    $ dorky log .env --oneline
    """
    from dorky.repo import Repository

    with Repository.find() as repo:
        entries = repo.log(revision, path, limit=number)
        if json:
            show_json(list(entries))
            return
        for count, entry in enumerate(entries):
            if oneline:
                first = entry.message.splitlines()[0]
                say(f"{style(entry.id[:10], fg='yellow')}{_refs(entry)} {name(first)}")
            else:
                if count:
                    say()
                _commit(entry)


def _refs(entry: LogEntry) -> str:
    return f" ({style(', '.join(entry.refs), fg='cyan')})" if entry.refs else ""


def _commit(entry: LogEntry) -> None:
    say(f"{style('commit ' + entry.id, fg='yellow')}{_refs(entry)}")
    if len(entry.parents) > 1:
        say(f"Merge:  {' '.join(parent[:10] for parent in entry.parents)}")
    say(f"Author: {clean(entry.author)}")
    say(f"Date:   {entry.time.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC")
    if entry.git:
        say(f"git:    {entry.git[:10]}")
    say()
    for line in clean(entry.message).splitlines():
        say(f"    {line}")


def _split(target: str, path_needed: bool = False) -> tuple[str, str]:
    revision, colon, path = target.partition(":")
    if path_needed and not (colon and path):
        raise errors.UsageError(f"{target} is not REV:PATH", hint=f"HEAD:{target}")
    return revision or "HEAD", path


def show(
    target: Annotated[
        str, typer.Argument(metavar="[REV[:PATH]]", help="A commit, or a file in it.")
    ] = "HEAD",
    json: Json = False,
) -> None:
    """Show a commit and what it changed; or, with a path, a file's content.

    \b
    $ dorky show HEAD~1
    $ dorky show main:config/app.toml
    """
    revision, path = _split(target)
    if path:
        _write(revision, path)
        return
    from dorky.repo import Repository

    with Repository.find() as repo:
        entry = repo.show(revision)
    if json:
        show_json(entry)
        return
    _commit(entry)
    if entry.changes:
        say()
        changes(entry.changes, limit=None)


def ls(
    revision: Annotated[str, typer.Argument(metavar="[REV]", help="A commit.")] = "HEAD",
    path: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(help="Only what lies at or below this."),
    ] = None,
    long: Annotated[bool, typer.Option("--long", "-l", help="With mode and size.")] = False,
    json: Json = False,
) -> None:
    """List the files that a commit holds.

    \b
    $ dorky ls
    $ dorky ls HEAD~1 config -l
    """
    from dorky.repo import Repository

    with Repository.find() as repo:
        found = repo.ls(revision, path)
    if json:
        show_json(found)
        return
    for each in found:
        say(f"{each.mode} {each.size:>12} {name(each.path)}" if long else name(each.path))


def cat(
    target: Annotated[str, typer.Argument(metavar="REV:PATH", help="A file in a commit.")],
) -> None:
    """Write a committed file's content to standard output.

    \b
    $ dorky cat HEAD~1:.env
    """
    _write(*_split(target, path_needed=True))


def _write(revision: str, path: str) -> None:
    from dorky.repo import Repository

    with Repository.find(progress=TerminalProgress()) as repo:
        for block in repo.cat(revision, path):
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()


COMMANDS = (log, show, ls, cat)
