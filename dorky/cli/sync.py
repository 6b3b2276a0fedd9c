"""Commands that talk to the remote: push, fetch, pull, sync, download."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, List  # noqa: UP035

import typer

from dorky import errors
from dorky.cli.command import AcceptRewind, Json
from dorky.cli.inspect import from_current, split
from dorky.cli.output import (
    Settings,
    TerminalProgress,
    agree,
    ask,
    change_mark,
    changes,
    escaped,
    first_sight,
    first_team,
    from_here,
    left_out,
    listing,
    name,
    note,
    opened,
    plural,
    say,
    show_json,
    size,
    told_git,
    undeleted,
    unplaced,
)
from dorky.cli.paths import repository_paths
from dorky.cli.undo import conflicts, kept, masked
from dorky.results import FetchResult, PullResult, PushResult, Synced, Unmerged


def push(json: Json = False) -> None:
    """Send your commits to the remote.

    \b
    $ dorky push
    """
    from dorky.commands import sync

    with opened() as repo:
        done = sync.push(repo)
    if json:
        show_json(done)
    else:
        _pushed(done)


def _moved(done: FetchResult | PullResult | PushResult) -> None:
    """Tell whether the remote has moved."""
    if done.moved:
        note(f".dorkyrc has another URL for {done.remote} than before: {name(done.url)}")
        note(f"  before: {name(done.moved)}")


def _place(done: FetchResult | PullResult, *, pinned: bool = True) -> None:
    """Tell whether the remote has moved, or its fingerprint if it is seen for the first time."""
    _moved(done)
    if not pinned or done.unencrypted:
        first_sight(done)
    first_team(done)


def _pushed(done: PushResult) -> None:
    _moved(done)
    attested = plural(done.attestations, "attestation") if done.attestations else ""
    if done.old == done.new and attested:
        say(f"Pushed {attested} to {name(done.url)}")
    elif done.old == done.new:
        say(f"Up to date: {name(done.url)} has everything.")
    else:
        what = plural(done.commits, "commit") + (f" and {attested}" if attested else "")
        say(
            f"Pushed {what} to {name(done.url)} "
            f"({plural(done.objects, 'object')}, {size(done.size)})"
        )
        if done.founded:
            note("There was no repository: this push has started one.")
        undeleted(done.left, "that nothing uses any more")


def fetch(
    paths: Annotated[
        List[str] | None,  # noqa: UP006
        typer.Argument(help="With --all-contents: only what these files hold."),
    ] = None,
    accept_rewind: AcceptRewind = False,
    all_contents: Annotated[
        bool,
        typer.Option("--all-contents", help="Fetch contents, too, that only the remote holds."),
    ] = False,
    json: Json = False,
) -> None:
    """Learn what the remote has, without changing any file.

    \b
    $ dorky fetch
    $ dorky fetch --all-contents data/
    """
    from dorky.commands import sync

    with opened() as repo:
        done = sync.fetch(
            repo,
            repository_paths(repo, paths or ()),
            accept_rewind=accept_rewind,
            all_contents=all_contents,
        )
    if json:
        show_json(done)
    elif not done.commits:
        _place(done)
        say(f"Nothing new at {name(done.url)}")
    else:
        _place(done)
        say(f"{plural(done.commits, 'new commit')} at {name(done.url)} (dorky pull)")
    if all_contents and not json:
        say(
            f"{size(done.contents)} of contents fetched"
            if done.contents
            else "All contents are here"
        )
    if Settings.verbose and not json:
        # For members to compare: a bucket could show each of them another state.
        say(f"Its state: generation {done.generation}, {done.txid}")


def pull(
    paths: Annotated[
        List[str] | None,  # noqa: UP006
        typer.Argument(help="Only these files appear; others stay away until they are pulled."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Overwrite local changes (a backup is kept).")
    ] = False,
    accept_rewind: AcceptRewind = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Accept, at first, a repository that is not encrypted.")
    ] = False,
    all_: Annotated[
        bool, typer.Option("--all", help="Put every file in place, and so in later pulls.")
    ] = False,
    json: Json = False,
) -> None:
    """Bring the files here up to date with the remote.

    In a fresh git clone that carries .dorkyrc it sets everything up first. If that names files,
    later pulls and syncs keep to them, until --all. Local changes are never overwritten without
    --force.

    \b
    $ dorky pull
    $ dorky pull .env
    $ dorky pull --all
    """
    from dorky.commands import sync

    with opened(anywhere=True) as repo:
        names = repository_paths(repo, paths or ())
        try:
            done = sync.pull(
                repo, names, force=force, accept_rewind=accept_rewind, plain=plain, all=all_
            )
        except errors.PathNotTracked as error:
            if paths and paths[0] in repo.config.remotes() and not os.path.lexists(paths[0]):
                raise errors.UsageError(
                    "pull takes files, not a remote and a branch: it always pulls main of origin",
                    hint="dorky pull",
                ) from error
            raise
        pinned = repo.config.text("repository.fingerprint")
        lacks_git = bool(done.changes) and repo.lacks_git
    if lacks_git:
        note("git can't be run: nobody has checked that it ignores the files (see .gitignore)")
    if json:
        show_json(done)
    else:
        _purged(done)
        _pulled(done)
        _place(done, pinned=bool(pinned))
    unresolved(done.conflicts, json=json)


def _purged(done: PullResult) -> None:
    """Tell which files were purged from the local history, and who did it."""
    for purge in done.purged:
        why = f": {escaped(purge.reason)}" if purge.reason else ""
        note(
            f"{escaped(purge.author)} purged {', '.join(map(name, purge.paths))} from all history "
            f"on {purge.time:%Y-%m-%d}{why}"
        )


def _pulled(done: PullResult) -> None:
    if done.conflicts:
        say(f"Merging {done.remote}/main: {plural(len(done.changes), 'file')} changed")
        changes(done.changes)
    elif done.old == done.new and not done.changes:
        say("Up to date." if done.new else f"{name(done.url)} has no commits yet.")
    elif done.purged and not done.commits:
        say(f"History was rewritten: now at {str(done.new)[:10]}")
        changes(done.changes)
    elif done.old == done.new:
        say("No new commits, but these files:")
        changes(done.changes)
    else:
        verb = "Merged" if done.merged else "Pulled"
        say(f"{verb} {plural(done.commits, 'commit')}: now at {str(done.new)[:10]}")
        changes(done.changes)
    told_git(done.ignored)
    left_out(done.left_out)
    unplaced(done.unplaced)
    kept(done.backup)
    masked(done.masked)
    if done.missing:
        here = from_here()
        say("Missing on disk (dorky restore FILE brings them back):")
        listing(done.missing, lambda path: f"{change_mark('deleted')} {here(path)}")
    for group in done.dropped:
        note(f"The new head leaves out all files of {escaped(group)}: they stay here, staged")


def unresolved(found: Sequence[Unmerged], *, json: bool) -> None:
    """Fail with the conflicts that a merge has left, if there are any."""
    if found:
        from dorky.paths import shown

        if not json:
            say("These need you:")
            conflicts(found)
        raise errors.Unresolved(shown([conflict.path for conflict in found]))


def sync(
    rewrite: Annotated[
        bool,
        typer.Option(
            "--rewrite", help="Rewrite your unpushed commits so that each file is for its group."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Pull, merge and push, until both sides have the same.

    It stops at conflicts: resolve them, dorky merge --continue, and sync again.

    A file that you committed before its path became a group's is not sent: --rewrite encrypts it
    for the group in every commit that is not pushed. dorky undo brings the old commits back.

    \b
    $ dorky sync
    $ dorky sync --rewrite
    """
    from dorky.commands import sync

    with opened(anywhere=True) as repo:
        try:
            done = sync.sync(repo, rewrite=rewrite)
        except errors.Misplaced as error:
            if rewrite or json or "heirs" in error.facts:
                raise
            note(escaped(f"{error.message}."))
            if not agree("Rewrite your unpushed commits so that each file is for its group?"):
                raise
            done = sync.sync(repo, rewrite=True)
    if json:
        show_json(done)
    else:
        synced(done)
    unresolved(done.pulled.conflicts if done.pulled else (), json=json)


def synced(done: Synced) -> None:
    """Tell what a sync has pulled and pushed."""
    if done.rewritten:
        count = plural(done.rewritten, "unpushed commit")
        say(f"Rewrote {count}: each file is encrypted for its group")
    if done.pulled:
        _purged(done.pulled)
    if done.pulled and (
        done.pulled.old != done.pulled.new or done.pulled.changes or done.pulled.missing
    ):
        _pulled(done.pulled)
    if done.pulled:
        _place(done.pulled)
    if done.pushed:
        _pushed(done.pushed)
    elif not (done.pulled and done.pulled.conflicts):
        say("Both sides have the same.")


def download(
    target: Annotated[
        str,
        typer.Argument(
            metavar="[REV:]PATH", help="A file, as the remote has it now, or as of a commit."
        ),
    ],
    destination: Annotated[
        Path, typer.Argument(metavar="[DEST]", help="A file or a directory.")
    ] = Path(),
    remote: Annotated[
        str, typer.Option("--remote", help="Work without a project, from this URL.", metavar="URL")
    ] = "",
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing file.")] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="With --remote: the repository may be unencrypted.")
    ] = False,
) -> None:
    """Fetch one file, and touch nothing else.

    \b
    $ dorky download models/small.bin
    $ dorky download main:models/small.bin /tmp/
    $ dorky download main:.env .env --remote s3://acme-vault/payments
    """
    from dorky.commands import remote_files, setup

    revision, path = split(target, "download") if ":" in target else ("", target)
    if str(destination) == "-":
        hint = "name a file or a directory" if remote else f"dorky cat {shlex.quote(target)}"
        raise errors.UsageError("download writes a file, not to standard output", hint=hint)
    if remote:
        written = setup.download_from(
            remote,
            revision,
            path,
            destination,
            force=force,
            plain=plain,
            progress=TerminalProgress(),
            ask=ask,
        )
    else:
        with opened() as repo:
            file = from_current(repo, path)
            written = remote_files.download(repo, revision, file, destination, force=force)
    say(f"Wrote {name(str(written))}")
