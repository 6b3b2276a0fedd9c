"""Commands that maintain repositories: fsck, gc, purge."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, List, Optional  # noqa: UP035

import typer

from dorky import errors
from dorky.cli.command import Command, Json
from dorky.cli.output import (
    agree,
    escaped,
    listing,
    name,
    note,
    opened,
    plural,
    say,
    show_json,
    size,
)
from dorky.cli.paths import repository_paths
from dorky.results import Dangling, FsckReport, GCReport, PurgePlan, RemoteGCReport, RepairReport

_LONGEST = 36_500
_PART = re.compile(r"([1-9]\d*)/([1-9]\d*)\Z")


def fsck(
    remote: Annotated[bool, typer.Option("--remote", help="Look at the remote, too.")] = False,
    read_data: Annotated[
        str,
        typer.Option(
            "--read-data",
            metavar="[=N/T]",
            help="Read every byte of the packs, or of the N-th of T parts of them.",
        ),
    ] = "",
    keyless: Annotated[
        bool,
        typer.Option("--keyless", help="Without a key: packs must have the names of their bytes."),
    ] = False,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--repair",
            "--rebuild",
            help="Make the local database again from the packs; bring back what git has deleted.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Look for what is damaged or lost, here and in the remote. Exits with 7 if anything is.

    Nothing is ever deleted by it. --repair keeps the old database next to the new one, and moves
    damaged packs to damaged/ in the state. Where git has deleted .dorky/, it brings back the
    commits that were not pushed.

    \b
    $ dorky fsck
    $ dorky fsck --remote --read-data=1/7
    $ dorky fsck --repair
    """
    import msgspec

    from dorky.cli import hints
    from dorky.commands import fsck as fsck_command
    from dorky.commands import repair

    part = _part(read_data)
    if rebuild and (remote or part or keyless):
        raise errors.UsageError("--repair takes no other option", hint="dorky fsck --repair")
    with opened(anywhere=keyless) as repo:
        if rebuild:
            made = repair.rebuild(repo)
            if json:
                show_json(made)
            else:
                _show_rebuilt(made)
            return
        found = fsck_command.examine(repo, remote=remote, read_data=part, keyless=keyless)
    found = msgspec.structs.replace(
        found, findings=tuple(map(hints.finding_in_words, found.findings))
    )
    if json:
        show_json(found)
    else:
        _show_found(found)
    if not found.sound:
        count = sum(finding.fatal for finding in found.findings)
        remedies = {hints.remedy(finding.remedy) for finding in found.findings if finding.fatal}
        what = plural(count, "thing") + (" is" if count == 1 else " are")
        raise errors.Damaged(what, hint=remedies.pop() if len(remedies) == 1 else None)


def _part(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    match = _PART.match(text)
    if not match or int(match[1]) > int(match[2]):
        raise errors.UsageError(f"{text} is no part", hint="dorky fsck --read-data=1/7")
    return int(match[1]), int(match[2])


def _show_found(found: FsckReport) -> None:
    from dorky.cli import hints

    for finding in found.findings:
        label = "damaged" if finding.fatal else "note"
        about = escaped(finding.about)
        if finding.subject not in finding.about:
            about = f"{name(finding.subject)}: {about}"
        say(f"{label}: {about}")
        if remedy := hints.remedy(finding.remedy):
            say(f"  → {escaped(remedy)}")
    read = f", {size(found.bytes_read)} read whole" if found.bytes_read else ""
    say(f"Looked at {plural(found.packs, 'pack')}, {plural(found.objects, 'object')}{read}.")
    if found.unlisted:
        say(
            f"{plural(found.unlisted, 'pack')} in the remote ({size(found.unlisted_size)}) that no "
            "root lists: dorky gc --remote"
        )
    _show_dangling(found.dangling)


def _show_dangling(found: tuple[Dangling, ...]) -> None:
    if not found:
        return
    say("Commits that nothing leads to (dorky log ID, dorky checkout ID):")
    _show_commits(found)


def _show_commits(found: tuple[Dangling, ...]) -> None:
    listing(
        found,
        lambda commit: (
            f"{commit.id[:10]} {commit.time:%Y-%m-%d %H:%M} {escaped(commit.author)}: "
            f"{escaped(commit.title)}"
        ),
    )


def _show_rebuilt(made: RepairReport) -> None:
    say(f"Made the database again: {plural(made.packs, 'pack')}, {plural(made.objects, 'object')}.")
    if made.kept:
        say(f"The old one is {name(made.kept)}.")
    for pack in made.damaged:
        say(f"Moved to .dorky/…/damaged: {pack}")
    if made.damaged:
        say(f"{plural(made.saved, 'object')} saved from there.")
    for text in made.notes:
        note(f"note: {escaped(text)}")
    if made.main:
        say(f"main is {made.main[:10]}.")
    _show_dangling(made.dangling)
    say("Now look whether all is well: dorky fsck")


def gc(
    remote: Annotated[
        bool, typer.Option("--remote", help="Collect in the remote, not here.")
    ] = False,
    grace: Annotated[
        Optional[float],  # noqa: UP045 - typer reads annotations on Python 3.10, too
        typer.Option("--grace", metavar="DAYS", help="Leave what is younger: 14 here, 7 there."),
    ] = None,
    prune_remote_verified: Annotated[
        bool,
        typer.Option(
            "--prune-remote-verified",
            help="Drop content, too, that the remote provably has; it is fetched when needed.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be deleted.")
    ] = False,
    json: Json = False,
) -> None:
    """Delete what nothing needs any more.

    Here that is what no ref, no staged file and no operation of the last 90 days leads to, in packs
    that are two weeks old.

    \b
    $ dorky gc --dry-run
    $ dorky gc --prune-remote-verified
    $ dorky gc --remote
    """
    from dorky.commands import gc as gc_command

    if grace is not None and not 0 <= grace <= _LONGEST:
        raise errors.UsageError(f"a grace of {grace:g} days", hint="dorky gc --grace 14")
    if remote and prune_remote_verified:
        raise errors.UsageError(
            "--prune-remote-verified is about what is here", hint="leave out --remote"
        )
    age = None if grace is None else timedelta(days=grace)
    with opened() as repo:
        if remote:
            there = gc_command.collect_remote(repo, grace=age, dry_run=dry_run)
            show_json(there) if json else _show_collection(there)
            return
        here = gc_command.collect(
            repo, grace=age, prune_remote_verified=prune_remote_verified, dry_run=dry_run
        )
    show_json(here) if json else _show_swept(here)


def _show_swept(found: GCReport) -> None:
    would = _show_garbage(found)
    for pack in found.kept:
        note(f"note: pack {pack[:12]} is not recorded, and may hold work: dorky fsck --repair")
    if found.commits:
        say(f"Commits that nothing leads to, {would}lost:")
        _show_commits(found.commits)
    if found.operations:
        say(f"{plural(found.operations, 'operation')} {would}forgotten (dorky op log)")
    joined = f"{plural(len(found.rewritten), 'pack')} {would}rewritten."
    nothing = joined if found.rewritten else "Nothing to collect."
    say(f"{size(found.size)} {would}freed." if found.size else nothing)


def _show_collection(found: RemoteGCReport) -> None:
    would = _show_garbage(found)
    if found.kept_young:
        count = plural(found.kept_young, "pack")
        say(f"{count} that no root lists left alone: somebody may be about to (--grace)")
    if found.rewritten:
        say(
            f"{plural(found.packs_before, 'pack')} before, {found.packs_after:,} after; "
            f"{size(found.sent)} {would}uploaded"
        )
    freed = f"{size(found.size)} {would}deleted from {name(found.url)}."
    say(freed if found.size else "Nothing to collect.")


def _show_garbage(found: GCReport | RemoteGCReport) -> str:
    """Show the garbage; return the words that precede work that is only planned."""
    would = "" if found.done else "would be "
    for what, garbage in (("deleted", found.garbage), ("rewritten", found.rewritten)):
        lines = [
            f"{would}{what}: {_short(item.name)} ({size(item.size)}): {escaped(item.reason)}"
            for item in garbage
        ]
        listing(lines, str)
    return would


def _short(key: str) -> str:
    """Return the first part of the name of a pack, or of another key, that identifies it."""
    folder, slash, last = key.rpartition("/")
    return folder + slash + last[:12]


class FsckCommand(Command):
    """A command whose ``--read-data`` may stand alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give ``--read-data`` a value if it has none."""
        given = []
        for word, following in zip(args, [*args[1:], ""], strict=False):
            bare = word == "--read-data" and not _PART.match(following)
            given.append("--read-data=1/1" if bare else word)
        return super().parse_args(ctx, given)


def purge(
    paths: Annotated[List[str], typer.Argument(help="Files, directories, or quoted patterns.")],  # noqa: UP006
    message: Annotated[str, typer.Option("--message", "-m", help="Why: others are told it.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: Json = False,
) -> None:
    """Purge a leaked file from all local and remote history.

    The file on this disk stays, and is not tracked any more. Everybody else's clone follows with
    its next pull. What somebody has read can't be taken back: change the secrets.

    \b
    $ dorky purge prod-dump.sql --dry-run
    $ dorky purge prod-dump.sql -m "customers' data"
    """
    from dorky.commands import purge

    with opened() as repo:
        done = purge.plan_purge(repo, repository_paths(repo, paths))
        if not (json and dry_run):
            _show_plan(done)
        if not dry_run:
            if not yes and not agree("Purge it from all history, for everybody and permanently?"):
                raise errors.NotConfirmed("purged")
            done = purge.purge(repo, done, reason=message)
    if json:
        show_json(done)
    elif done.done:
        say(f"Purged: {plural(done.commits, 'commit')} rewritten, now at {done.head[:10]}")


def _show_plan(plan: PurgePlan) -> None:
    """Show on standard error what a purge will do, and what it can't: users must read it first."""
    note(
        f"In {plural(plan.commits, 'commit')}: {plural(plan.versions, 'version')}, "
        f"{size(plan.size)}, of"
    )
    for file in plan.files:
        holds = f" (with {', '.join(map(escaped, file.variables))})" if file.variables else ""
        note(f"  {name(file.path)}{holds}")
    note("What can't be taken back:")
    readers = ", ".join(map(escaped, plan.readers))
    note(f"  who could read it, has it, if they pulled: {readers or 'whoever reads the bucket'}")
    note("  their clones drop it with their next pull; backups of these machines don't")
    if plan.kept:
        note(f"  the bucket's versioning: {escaped(plan.kept)}")
    note("  so change every secret that is in it")
