"""The command that stages, commits and pushes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, List  # noqa: UP035

import typer

from dorky import errors
from dorky.cli.command import For, Json
from dorky.cli.output import agree, changes, note, opened, say, show_json, style, title
from dorky.cli.paths import repository_paths
from dorky.cli.stage import staged_notes
from dorky.cli.sync import synced, unresolved
from dorky.results import LogEntry, Saved


def save(
    paths: Annotated[
        List[str] | None,  # noqa: UP006
        typer.Argument(help="Only what lies here, new files included; else all tracked files."),
    ] = None,
    message: Annotated[str, typer.Option("--message", "-m", help="Why.")] = "",
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Take files that .dorkyignore excludes.")
    ] = False,
    readers: For = "",
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Take source code, or very many files, too.")
    ] = False,
    deletions: Annotated[
        bool, typer.Option("--allow-deletions", help="Delete more than half of the files, too.")
    ] = False,
    json: Json = False,
) -> None:
    """Stage what has changed, commit it and push, in one step.

    Without paths, it takes the tracked files that have changed, and all that is staged, as commit
    -a does. With paths, it takes what lies there, and leaves other staged changes for later.

    If the remote has moved, it pulls and merges first, as sync does. It stops at conflicts: resolve
    them, dorky merge --continue, and sync. If the push fails, the commit stays: save again.

    \b
    $ dorky save .env -m "rotate the staging keys"
    $ dorky save -m "what has changed"
    """
    from dorky.commands import save

    with opened() as repo:
        names = repository_paths(repo, paths) if paths else []
        record = partial(save.save, repo, names, message, force=force, readers=readers)
        try:
            done = _agreed(record, confirmed=yes, allow_deletions=deletions)
        except errors.DorkyError as error:
            if isinstance(commit := error.facts.get("committed"), LogEntry):
                note(f"Committed, but not pushed: [{commit.id[:10]}] {title(commit.message)}")
            raise
    if json:
        show_json(done)
    else:
        if done.commit:
            say(f"[{style(done.commit.id[:10], fg='yellow')}] {title(done.commit.message)}")
            changes(done.commit.changes)
        synced(done.synced)
    unresolved(done.synced.pulled.conflicts if done.synced.pulled else (), json=json)
    if done.staged:
        staged_notes(done.staged, json=json)


def _agreed(record: Callable[..., Saved], *, confirmed: bool, allow_deletions: bool) -> Saved:
    """Save, and ask for what `stage` and `commit` ask for."""
    try:
        return record(confirmed=confirmed, allow_deletions=allow_deletions)
    except (errors.SourceCode, errors.ManyFiles) as error:
        if not agree(f"{error.message}. Save that?"):
            raise
        return _agreed(record, confirmed=True, allow_deletions=allow_deletions)
    except errors.ManyDeletions as error:
        if not agree(f"{error.message}. Commit that?"):
            raise
        return _agreed(record, confirmed=confirmed, allow_deletions=True)
