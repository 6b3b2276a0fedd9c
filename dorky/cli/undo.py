"""Commands for when things go wrong: resolve, merge, undo, op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, List  # noqa: UP035

import typer

from dorky import errors
from dorky.cli.command import Command, For, Group, Json
from dorky.cli.output import (
    Settings,
    changes,
    escaped,
    from_here,
    listing,
    note,
    opened,
    plural,
    say,
    show_json,
    style,
    title,
)
from dorky.cli.paths import repository_paths
from dorky.results import Change, Masked, OperationEntry, Undone, Unmerged

_PLACES = 5
_WHY = {
    "changed by both": "both changed it",
    "binary": "both changed it",
    "deleted by us": "deleted here, changed there",
    "deleted by them": "changed here, deleted there",
    "closed": "here it is only for its group, there for others",
}

_FROZEN = "Frozen until one group alone claims it (dorky group list):"

op_app = typer.Typer(
    cls=Group, no_args_is_help=True, help="What was done here, to be looked at and undone."
)


def conflicts(found: Sequence[Unmerged]) -> None:
    """List the files that a merge could not combine."""
    here = from_here()

    def line(conflict: Unmerged) -> str:
        what = _WHY[conflict.why]
        if conflict.beside:
            what += f", theirs is {here(conflict.beside)}"
        elif conflict.places:
            what += f": {_few(conflict.places)}"
        return f"{style('U', fg='red')} {here(conflict.path)} ({what})"

    listing(found, line)


def _few(places: Sequence[str]) -> str:
    """Return a few keys or lines in words; all of them with ``-v``."""
    shown = places if Settings.verbose else places[:_PLACES]
    more = f" and {len(places) - len(shown):,} more" if len(places) > len(shown) else ""
    return escaped(", ".join(shown)) + more


def resolve(
    paths: Annotated[List[str], typer.Argument(help="Files, directories, or quoted patterns.")],  # noqa: UP006
    ours: Annotated[bool, typer.Option("--ours", help="Take the file as it was here.")] = False,
    theirs: Annotated[bool, typer.Option("--theirs", help="Take the other side's file.")] = False,
    readers: For = "",
    json: Json = False,
) -> None:
    """Settle a conflict with the file as it is, or one side's.

    \b
    $ dorky resolve .env
    $ dorky resolve logo.png --theirs
    """
    from dorky.commands import resolve

    with opened() as repo:
        if ours and theirs:
            raise errors.UsageError(
                "--ours and --theirs exclude each other", hint="dorky resolve FILE --ours"
            )
        names = repository_paths(repo, paths)
        done = resolve.resolve(repo, names, ours=ours, theirs=theirs, readers=readers)
    if json:
        show_json(done)
        return
    if done.paths:
        say(f"Resolved {plural(len(done.paths), 'file')}.")
    if done.left:
        say("Still to be resolved:")
        conflicts(done.left)
    else:
        say("No conflicts are left: dorky merge --continue")
    kept(done.backup)


def merge(
    continue_: Annotated[
        bool, typer.Option("--continue", help="Commit it: all conflicts are resolved.")
    ] = False,
    abort: Annotated[
        bool, typer.Option("--abort", help="Go back to how things were before it.")
    ] = False,
    message: Annotated[str, typer.Option("--message", "-m", help="Of the commit.")] = "",
    json: Json = False,
) -> None:
    """End a merge that a pull has left with conflicts.

    \b
    $ dorky merge --continue
    $ dorky merge --abort
    """
    from dorky.commands import commit, resolve

    if continue_ == abort:
        hint = "dorky pull (or sync) is what begins a merge; dorky status shows one"
        raise errors.UsageError("merge takes --continue or --abort", hint=hint)
    with opened() as repo:
        done = resolve.merge_abort(repo) if abort else resolve.merge_continue(repo, message)
        left = [] if isinstance(done, Undone) else commit.left_by_merge(repo, done)
    if json:
        show_json(done)
    elif isinstance(done, Undone):
        say("Everything is as it was before the merge.")
        changes(done.changes)
        kept(done.backup)
    else:
        say(f"[{style(done.id[:10], fg='yellow')}] {title(done.message)}")
        changes(done.changes)
        apart(left)
        note("To send it: dorky push")


def apart(left: Sequence[Change]) -> None:
    """Tell what stays staged after a merge, for it is no part of it."""
    if left:
        note(f"Not part of the merge, so still staged: {plural(len(left), 'file')} (dorky commit)")
        changes(left)


def undo(
    count: Annotated[int, typer.Argument(metavar="[N]", help="How many operations.")] = 1,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Overwrite later edits (a backup is kept).")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be undone.")
    ] = False,
    json: Json = False,
) -> None:
    """Take back what was done last: commits, staging, files.

    An undo can be undone, too. Pushed commits stay in the remote.

    \b
    $ dorky undo
    $ dorky undo 3 --dry-run
    $ dorky undo 3
    """
    from dorky.commands import undo

    with opened() as repo:
        done = undo.undo(repo, count, force=force, dry_run=dry_run)
    if json:
        show_json(done)
        return
    for operation in done.operations:
        say(f"{'Would undo' if dry_run else 'Undone'}: {_named(operation)}")
    changes(done.changes)
    kept(done.backup)
    if done.published:
        note(
            f"The remote has what {'would be' if dry_run else 'was'} undone: dorky pull brings it "
            "back, a new commit takes it back for everybody"
        )
    if dry_run:
        note("Nothing has been changed.")


def op_log(
    limit: Annotated[int, typer.Option("--limit", "-n", help="At most so many.")] = 20,
    json: Json = False,
) -> None:
    """List what has been done here, the newest first: what undo takes back.

    \b
    $ dorky op log
    $ dorky op log -n 5
    """
    from dorky.commands import undo

    if limit < 0:
        raise errors.UsageError(f"-n takes a count, not {limit}", hint="dorky op log -n 5")
    with opened() as repo:
        found = undo.op_log(repo, limit=limit)
    if json:
        show_json(found)
        return
    if not found and limit:
        say("Nothing was done here yet that could be undone.")
    width = len(str(found[0].number)) if found else 0
    for operation in found:
        number = style(f"{operation.number:>{width}}", fg="yellow")
        when = operation.time.astimezone().strftime("%Y-%m-%d %H:%M")
        files = f"  ({plural(len(operation.paths), 'file')})" if operation.paths else ""
        say(f"{number}  {when}  {_named(operation)}{files}")


def _named(done: OperationEntry) -> str:
    message = f" {done.message!r}" if done.message else ""
    return escaped(done.command + message)


def masked(found: Sequence[Masked]) -> None:
    """List the entries of a commit that do not count."""
    here = from_here()

    def line(entry: Masked) -> str:
        owners = escaped(" and ".join(entry.owners) or "all")
        if entry.above:
            why = f"{here(entry.above)} of {owners} needs a directory there"
        elif len(entry.owners) > 1:
            why = f"claimed by {owners}"
        else:
            why = f"belongs to {owners}, committed for {escaped(entry.tree)}"
        return f"{style('!', fg='red')} {here(entry.path)} ({why})"

    contested = [entry for entry in found if len(entry.owners) > 1]
    ignored = [entry for entry in found if len(entry.owners) <= 1]
    if ignored:
        say("Does not count, for it is not in its group's tree (the next commit leaves it out):")
        listing(ignored, line)
    if contested:
        say(_FROZEN)
        listing(list(dict.fromkeys(map(line, contested))), str)  # several trees may hold one


def frozen(paths: Sequence[str]) -> None:
    """List the files that a command has left as they are because several groups claim them."""
    if paths:
        say(_FROZEN)
        here = from_here()
        listing(paths, lambda path: f"{style('!', fg='red')} {here(path)}")


def kept(backup: str) -> None:
    """Tell where overwritten content is kept, if there was any."""
    if backup:
        note(f"What was there is kept: dorky restore FILE --source {backup}")


op_app.command("log", cls=Command)(op_log)
