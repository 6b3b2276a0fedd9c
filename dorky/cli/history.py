"""Commands that look at what is committed: log, show, ls, cat."""

from __future__ import annotations

import os
import shlex
import sys
from datetime import timezone
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from dorky import errors
from dorky.cli.command import Json
from dorky.cli.output import (
    changes,
    escaped,
    name,
    repository,
    say,
    show_json,
    style,
    title,
)
from dorky.results import LogEntry

if TYPE_CHECKING:
    from dorky.repo import Repository


def log(
    path: Annotated[
        str, typer.Argument(help="Only commits that changed this file or directory.")
    ] = "",
    number: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("-n", "--number", help="At most so many.", metavar="N"),
    ] = None,
    oneline: Annotated[bool, typer.Option("--oneline", help="One line a commit.")] = False,
    revision: Annotated[str, typer.Option("--rev", help="Begin here.", metavar="REV")] = "HEAD",
    json: Json = False,
) -> None:
    """Show the commits, newest first.

    \b
    $ dorky log -n 5
    $ dorky log .env --oneline
    $ dorky log origin/main
    """
    if number is not None and number < 0:
        raise errors.UsageError(f"-n takes a count, not {number}")
    with repository() as repo:
        if path and not os.path.lexists(path) and _is_revision(repo, path):
            revision, path = path, ""  # dorky log origin/main
        entries = repo.log(revision, path or None, limit=number)
        if json:
            show_json(list(entries))
            return
        for count, entry in enumerate(entries):
            if oneline:
                say(f"{style(entry.id[:10], fg='yellow')}{_refs(entry)} {title(entry.message)}")
            else:
                if count:
                    say()
                _commit(entry)


def _is_revision(repo: Repository, word: str) -> bool:
    try:
        repo.show(word)
    except errors.UnknownRevision:
        return False
    return True


def _refs(entry: LogEntry) -> str:
    refs = escaped(", ".join(entry.refs))
    return f" ({style(refs, fg='cyan')})" if refs else ""


def _commit(entry: LogEntry) -> None:
    say(style(f"commit {entry.id}", fg="yellow"))
    if entry.refs:
        say(f"Refs:   {style(escaped(', '.join(entry.refs)), fg='cyan')}")
    if len(entry.parents) > 1:
        say(f"Merge:  {' '.join(parent[:10] for parent in entry.parents)}")
    say(f"Author: {escaped(entry.author)}")
    say(f"Date:   {entry.time.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC")
    if entry.git:
        say(f"git:    {escaped(entry.git[:10])}")
    say()
    for line in entry.message.splitlines():
        say(f"    {escaped(line.expandtabs())}".rstrip())


def file_meant(error: errors.UnknownRevision, word: str, command: str) -> errors.UnknownRevision:
    """The error with a better hint, if ``word`` is no revision but a file."""
    return errors.UnknownRevision(word, hint=command) if os.path.lexists(word) else error


def split(target: str, command: str) -> tuple[str, str]:
    """The revision and the path that REV:PATH names."""
    revision, colon, path = target.partition(":")
    if not (colon and path):
        file = path or revision or "PATH"
        hint = f"dorky {command} {shlex.quote(f'HEAD:{file}')}"
        raise errors.UsageError(f"{target} is not REV:PATH", hint=hint)
    return revision or "HEAD", path


def show(
    target: Annotated[
        str, typer.Argument(metavar="[REV[:PATH]]", help="A commit, or a file in it.")
    ] = "HEAD",
    json: Json = False,
) -> None:
    """Show a commit and what it changed, or a file in it.

    \b
    $ dorky show HEAD~1
    $ dorky show main:config/app.toml
    """
    revision, _, path = target.partition(":")
    if path:
        if json:
            raise errors.UsageError(
                "a file's content is not shown as JSON", hint=f"dorky ls {revision} {path} --json"
            )
        _write(revision, path)
        return
    with repository() as repo:
        try:
            entry = repo.show(revision or "HEAD")
        except errors.UnknownRevision as error:
            raise file_meant(error, revision, f"dorky show HEAD:{revision}") from None
    if json:
        show_json(entry)
        return
    _commit(entry)
    if entry.changes or entry.closed:
        say()
        changes(entry.changes, whole=True)
    for group in entry.closed:
        say(f"  and files of the group {group}, which are closed to you")


def ls(
    revision: Annotated[str, typer.Argument(metavar="[REV]", help="A commit.")] = "HEAD",
    path: Annotated[str, typer.Argument(help="Only what lies at or below this.")] = "",
    long: Annotated[bool, typer.Option("--long", "-l", help="With mode and size.")] = False,
    json: Json = False,
) -> None:
    """List the files that a commit holds.

    \b
    $ dorky ls config
    $ dorky ls HEAD~1 config -l
    """
    with repository() as repo:
        if not path and not _is_revision(repo, revision):
            revision, path = "HEAD", revision  # dorky ls config
        found = repo.ls(revision, path or None)
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
    _write(*split(target, "cat"))


def _write(revision: str, path: str) -> None:
    with repository() as repo:
        for block in repo.cat(revision or "HEAD", path):
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()


COMMANDS = (log, show, ls, cat)
