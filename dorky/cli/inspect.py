"""Commands that show committed files and uncommitted changes: log, show, diff, ls, cat."""

from __future__ import annotations

import os
import re
import shlex
import sys
from datetime import timezone
from typing import TYPE_CHECKING, Annotated, Any, List, Optional  # noqa: UP035

import typer

from dorky import errors
from dorky.cli.command import Command, Json
from dorky.cli.output import (
    change_mark,
    changes,
    escaped,
    from_here,
    name,
    note,
    opened,
    say,
    show_json,
    size,
    style,
    title,
)
from dorky.cli.paths import repository_path, repository_paths
from dorky.results import FileDiff, KeyChange, LogEntry

if TYPE_CHECKING:
    from dorky.project import Project


def log(
    path: Annotated[
        str, typer.Argument(help="Only commits that changed this file or directory.")
    ] = "",
    number: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("-n", "--number", help="At most so many.", metavar="N"),
    ] = None,
    oneline: Annotated[bool, typer.Option("--oneline", help="One line a commit.")] = False,
    name_status: Annotated[
        bool, typer.Option("--name-status", help="And the files that each commit changed.")
    ] = False,
    revision: Annotated[str, typer.Option("--rev", help="Begin here.", metavar="REV")] = "HEAD",
    signatures: Annotated[
        bool, typer.Option("--signatures", help="Verify whose key has signed each commit.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the commits, newest first.

    The author is what the commit says; the signer is the member whose key has signed it.

    \b
    $ dorky log -n 5
    $ dorky log --signatures
    $ dorky log .env --oneline
    $ dorky log origin/main
    """
    from dorky.commands import inspect

    if number is not None and number < 0:
        raise errors.UsageError(f"-n takes a count, not {number}")
    with opened() as repo:
        if path and not os.path.lexists(path) and _is_revision(repo, path):
            revision, path = path, ""  # dorky log origin/main
        below = repository_path(repo, path) if path else None
        entries = inspect.log(
            repo,
            revision,
            below,
            limit=number,
            changes=json or name_status,
            signatures=signatures,
        )
        if json:
            show_json(list(entries))
            return
        for count, entry in enumerate(entries):
            if oneline:
                say(f"{style(entry.id[:10], fg='yellow')}{_refs(entry)} {title(entry.message)}")
            else:
                if count:
                    say()
                _commit(entry, key=signatures)
            if name_status:
                _changed(entry)


def _is_revision(repo: Project, word: str) -> bool:
    from dorky.commands import inspect

    try:
        inspect.show(repo, word)
    except errors.UnknownRevision:
        return False
    return True


def _refs(entry: LogEntry) -> str:
    refs = escaped(", ".join(entry.refs))
    return f" ({style(refs, fg='cyan')})" if refs else ""


def _commit(entry: LogEntry, *, key: bool = False) -> None:
    say(style(f"commit {entry.id}", fg="yellow"))
    if entry.refs:
        say(f"Refs:   {style(escaped(', '.join(entry.refs)), fg='cyan')}")
    if len(entry.parents) > 1:
        say(f"Merge:  {' '.join(parent[:10] for parent in entry.parents)}")
    say(f"Author: {escaped(entry.author)}")
    say(f"Signed: {_signed(entry)}{f' {entry.key}' if key and entry.key else ''}")
    say(f"Date:   {entry.time.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC")
    if entry.git:
        say(f"git:    {escaped(entry.git[:10])}")
    say()
    for line in entry.message.splitlines():
        say(f"    {escaped(line.expandtabs())}".rstrip())


def _signed(entry: LogEntry) -> str:
    if entry.fault:
        return style(f"NOT VALID: {entry.fault}", fg="red")
    if entry.original:
        return f"{escaped(entry.original)}, rewritten by {escaped(entry.signer)}"
    return entry.signer or "by nobody that the team log knows"


def file_meant(error: errors.UnknownRevision, word: str, command: str) -> errors.UnknownRevision:
    """Return the error with a better hint, if ``word`` is not a revision but a file."""
    return errors.UnknownRevision(word, hint=command) if os.path.lexists(word) else error


def from_current(repo: Project, path: str) -> str:
    """Return the path of REV:PATH: from the root, or, as in git, from here if it says so."""
    return repository_path(repo, path) if re.match(r"\.\.?(/|$)", path) else path


def split(target: str, command: str) -> tuple[str, str]:
    """Return the revision and the path that REV:PATH names."""
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
    from dorky.commands import inspect

    revision, _, path = target.partition(":")
    if path:
        if json:
            raise errors.UsageError(
                "a file's content is not shown as JSON",
                hint=f"dorky ls {shlex.quote(revision)} {shlex.quote(path)} --json",
            )
        _write(revision, path)
        return
    with opened() as repo:
        try:
            entry = inspect.show(repo, revision or "HEAD")
        except errors.UnknownRevision as error:
            raise file_meant(error, revision, f"dorky show HEAD:{revision}") from None
    if json:
        show_json(entry)
        return
    _commit(entry)
    _changed(entry)


def _changed(entry: LogEntry) -> None:
    """List the files that a commit changed."""
    if entry.changes or entry.closed:
        say()
    changes(entry.changes, whole=True)
    for group in entry.closed:
        say(f"  and files of the group {group}, which are closed to you")


class DiffCommand(Command):
    """A command that remembers the words after ``--``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as usual, but take only the words before ``--`` for revisions."""
        if "--" in args:
            at = args.index("--")
            ctx.meta[_PATHS] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)


_PATHS = "dorky.paths"


def diff(
    context: typer.Context,
    words: Annotated[
        List[str] | None,  # noqa: UP006
        typer.Argument(metavar="[REV [REV]] [--] [PATH]…", help="What to compare; which files."),
    ] = None,
    staged: Annotated[
        bool, typer.Option("--staged", "--cached", help="What is staged, from HEAD or REV.")
    ] = False,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Show values, and secret text.")
    ] = False,
    stat: Annotated[bool, typer.Option("--stat", help="Only how much differs.")] = False,
    name_only: Annotated[bool, typer.Option("--name-only", help="Only which files.")] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 if anything differs.")
    ] = False,
    json: Json = False,
) -> None:
    """Show how files, what is staged, and commits differ.

    The files on disk are compared with what is staged; with REV; or REV with REV. Of .env, JSON,
    TOML and YAML the keys are shown, their values hidden. A word is a revision if no file is called
    so; after -- it is a path.

    \b
    $ dorky diff
    $ dorky diff --staged .env --show-values
    $ dorky diff HEAD~1 origin/main -- config
    """
    from dorky.commands import inspect

    with opened() as repo:
        revisions, paths = _told_apart(repo, words or [], context.meta.get(_PATHS))
        names = repository_paths(repo, paths)
        found = inspect.diff(repo, revisions, names, staged=staged, reveal=show_values)
    if json:
        show_json(found)
    else:
        for file in found.files:
            if name_only:
                say(from_here()(file.path))
            else:
                _difference(file, short=stat)
        for group in found.closed:
            note(f"Files of the group {escaped(group)} differ, too, and are closed to you")
        if any(file.masked for file in found.files) and not (stat or name_only):
            note("Values are hidden; --show-values shows them")
    if exit_code and (found.files or found.closed):
        raise typer.Exit(1)


def _told_apart(
    repo: Project, words: list[str], after: list[str] | None
) -> tuple[list[str], list[str]]:
    """Return the revisions and the paths among words; ``after`` are those after ``--``."""
    if after is not None:
        return words, after
    revisions: list[str] = []
    for word in words[:2]:
        ends = [end for end in word.split("..") if end]
        if os.path.lexists(word) or not all(_is_revision(repo, end) for end in ends):
            break
        revisions.append(word)
    return revisions, words[len(revisions) :]


def _difference(found: FileDiff, *, short: bool) -> None:
    mode = f"mode {found.old_mode} → {found.new_mode}"
    head = f"{change_mark(found.what)} {from_here()(found.path)}"
    if found.old_mode and found.new_mode and found.old_mode != found.new_mode:
        head += f"  {mode}"
    if found.kind == "mode":
        say(head)
    elif found.kind == "binary":
        sides = [
            f"{size(count)} ({shown})"
            for count, shown in ((found.old_size, found.old_id), (found.new_size, found.new_id))
            if count is not None
        ]
        say(f"{head}  {' → '.join(sides)}")
    else:
        noun = "key" if found.kind == "keys" else "line"
        plus = style(f"+{found.added}", fg="green")
        minus = style(f"-{found.removed}", fg="red")
        say(f"{head}  {plus} {minus} {noun}s")
        if not short:
            for key in found.keys:
                say(f"  {_key(key)}")
            for line in found.text.split("\n")[:-1]:
                say(_colored(escaped(line.expandtabs())))


def _key(change: KeyChange) -> str:
    sign, color = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}[
        change.what
    ]
    values = " → ".join(escaped(value) for value in (change.old, change.new) if value is not None)
    return f"{style(sign, fg=color)} {escaped(change.key)} = {values}"


def _colored(line: str) -> str:
    color = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    return style(line, fg=color) if color else line


def ls(
    revision: Annotated[str, typer.Argument(metavar="[REV]", help="A commit.")] = "HEAD",
    path: Annotated[str, typer.Argument(help="Only what lies at or below this.")] = "",
    long: Annotated[bool, typer.Option("--long", "-l", help="With mode and size.")] = False,
    remote: Annotated[
        bool, typer.Option("--remote", help="As the remote has them now, pulled or not.")
    ] = False,
    json: Json = False,
) -> None:
    """List the files that a commit holds.

    \b
    $ dorky ls config
    $ dorky ls HEAD~1 config -l
    $ dorky ls --remote
    """
    from dorky.commands import inspect

    with opened() as repo:
        newest = "HEAD"
        if remote:
            from dorky.commands import remote_files

            newest, revision = remote_files.newest(repo), remote_files.at_remote(revision)
        if not path and not _is_revision(repo, revision):
            revision, path = newest, revision  # dorky ls config
        below = repository_path(repo, path) if path else None
        found = inspect.ls(repo, revision, below)
    if json:
        show_json(found)
        return
    for file in found:
        say(f"{file.mode} {file.size:>12} {name(file.path)}" if long else name(file.path))


def cat(
    target: Annotated[str, typer.Argument(metavar="REV:PATH", help="A file in a commit.")],
) -> None:
    """Write a committed file's content to standard output.

    \b
    $ dorky cat HEAD~1:.env
    """
    _write(*split(target, "cat"))


def _write(revision: str, path: str) -> None:
    from dorky.commands import inspect

    with opened() as repo:
        file = from_current(repo, path)
        for block in inspect.cat(repo, revision or "HEAD", file):
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
