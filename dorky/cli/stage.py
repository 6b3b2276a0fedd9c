"""Commands for local files: stage, unstage, rm, status, commit, restore, checkout."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, List  # noqa: UP035

import typer

from dorky import errors
from dorky.cli.command import For, Json
from dorky.cli.output import (
    agree,
    changes,
    escaped,
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
    style,
    title,
    told_git,
    unplaced,
)
from dorky.cli.paths import repository_paths
from dorky.cli.undo import apart, conflicts, frozen, kept, masked
from dorky.paths import shown
from dorky.results import Omission, PreCommit, Staged, Status

# Text, because a pathlib path turns an empty word (an unset variable) into the current directory.
Paths = Annotated[List[str], typer.Argument(help="Files, directories, or quoted patterns.")]  # noqa: UP006


def stage(
    paths: Paths,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            "-f",
            help="Stage files that .dorkyignore excludes, or that were never pulled.",
        ),
    ] = False,
    readers: For = "",
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Take source code, or very many files, too.")
    ] = False,
    json: Json = False,
) -> None:
    """Put changed, new or deleted files into the next commit. Also called add.

    Inside a git repository, git is told to ignore them. What a group has closed goes to other
    readers only with --for. What looks like source code is taken with a directory only if you
    confirm that; so are more than 500 files at first.

    \b
    $ dorky stage .env config/
    $ dorky stage 'keys/*.pem'
    $ dorky stage docs/example.env --for all
    """
    from dorky.commands import stage
    from dorky.commands.status import status

    with opened() as repo:
        names = repository_paths(repo, paths)
        take = partial(stage.stage, repo, names, force=force, readers=readers)
        try:
            done = take(confirmed=yes)
        except (errors.SourceCode, errors.ManyFiles) as error:
            if not agree(f"{error.message}. Stage that?"):
                raise
            done = take(confirmed=True)
        passed_over = () if done.changes or json else status(repo).conflicts
    if json:
        show_json(done)
    else:
        if not done.changes:
            say("Nothing new to stage.")
        changes(done.changes)
        if passed_over:
            say("Conflicts are passed over (dorky resolve FILE):")
            conflicts(passed_over)
    staged_notes(done, json=json)


def staged_notes(done: Staged, *, json: bool) -> None:
    """Tell what staging did to git's rules, and what it left out; exit with 1 for the latter."""
    if not json:
        _staged_notes(done)
    _exit_for(done.omitted)


def _staged_notes(done: Staged) -> None:
    told_git(done.ignored)
    for path in done.purged:
        note(f"{name(path)} was purged from all history once: dorky unstage keeps it out")
    if done.skipped:
        note(f"Left out {plural(done.skipped, 'file')} that git tracks")
    if done.nested:
        here = from_here()
        shown_here = shown([here(path) for path in done.nested])
        note(f"Left out what belongs to other projects: {shown_here} (cd there, then dorky stage)")
    _omitted(done.omitted)


_OMITTED = {
    "unstorable-path": "rename it, or: dorky config set portable_names false",
    "unreadable-file": "chmod u+r FILE, or name it in .dorkyignore",
    "file-changed": "stop the program that writes it, then run the command again",
    "disk-error": "run the command again when nothing else uses it",
    "never-pulled": "dorky restore FILE brings the other version, and keeps yours in a backup",
}
"""What to do about files that were left out, by the code of the reason."""


def _omitted(found: Sequence[Omission]) -> None:
    """Tell which files in directories were not staged, and what to do about them."""
    if found:
        note("Not staged:")
    here = from_here()
    for item in found:
        note(f"  {here(item.path)}: {escaped(item.why)}")
    for code in _OMITTED.keys() & {item.code for item in found}:
        note(f"hint: {_OMITTED[code]}")


def _exit_for(found: Sequence[Omission]) -> None:
    """Exit with 1 if a file was left out that somebody may miss.

    Pipes, sockets and devices have no content, and a file may be deleted at any time.
    """
    if {item.code for item in found} - {"special-file", "path-not-found"}:
        raise typer.Exit(1)


def unstage(paths: Paths, json: Json = False) -> None:
    """Remove changes from the next commit. The files stay as they are.

    \b
    $ dorky unstage .env
    """
    from dorky.commands import stage

    with opened() as repo:
        done = stage.unstage(repo, repository_paths(repo, paths))
    _unstaged(done, json=json)


def _unstaged(done: Staged, *, json: bool) -> None:
    if json:
        show_json(done)
    elif done.changes:
        say(f"Unstaged {plural(len(done.changes), 'file')}:")
        here = from_here()
        listing(done.changes, lambda change: here(change.path))
    else:
        say("Nothing of it was staged.")


def rm(
    paths: Paths,
    cached: Annotated[
        bool, typer.Option("--cached", help="Keep the files, only stop tracking them.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Delete files that are not committed, too.")
    ] = False,
    json: Json = False,
) -> None:
    """Delete files, here and in the next commit.

    \b
    $ dorky rm old.env
    $ dorky rm --cached notes.txt
    """
    from dorky.commands import stage

    with opened() as repo:
        done = stage.rm(repo, repository_paths(repo, paths), cached=cached, force=force)
    if json:
        show_json(done)
    else:
        changes(done.changes)
        kept(done.backup)


def status(
    paths: Annotated[
        List[str] | None,  # noqa: UP006
        typer.Argument(help="Only these files, directories, or quoted patterns."),
    ] = None,
    short: Annotated[bool, typer.Option("--short", "-s", help="One line a file.")] = False,
    exit_code: Annotated[
        bool,
        typer.Option(
            "--exit-code", help="Exit with 1 if anything is not committed, or git tracks it, too."
        ),
    ] = False,
    hook: Annotated[
        bool,
        typer.Option(
            "--hook",
            help="As a pre-commit hook of git: fail as --exit-code does, in every project of the"
            " repository, and if git is about to commit a kept file or a secret.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Show what is staged, what is not, and what the remote has.

    \b
    $ dorky status
    $ dorky status -s config/
    """
    if hook:
        if paths:
            raise errors.UsageError("--hook looks at every project of the repository, not at paths")
        _before_commit(json=json)
        return
    from dorky.commands import status as commands

    with opened() as repo:
        found = commands.status(repo, repository_paths(repo, paths or ()))
    if json:
        show_json(found)
    elif short:
        _short(found)
    else:
        _long(found)
    if exit_code and (found.tracked_by_git or not found.clean):
        raise typer.Exit(1)


def _before_commit(*, json: bool) -> None:
    from dorky.commands import precommit

    found, dirty = precommit.check(Path())
    if json:
        show_json(found)
    if found.kept and not json:
        say("dorky keeps these, and git is about to commit them (git rm --cached FILE):")
        listing(found.kept, name, whole=True)
    if found.secrets and not json:
        say("These look like secrets, and git is about to commit them (git rm --cached FILE, then")
        say("dorky stage FILE; or list them in .dorkyignore):")
        listing(found.secrets, name, whole=True)
    for project, status in () if json else dirty.items():
        say(f"Not committed to dorky in {name(project)}:")
        _short(status)
    if found != PreCommit():
        raise typer.Exit(1)


def _short(found: Status) -> None:
    here = from_here()
    letters = {"added": "A", "modified": "M", "deleted": "D"}
    staged = {change.path: letters[change.what] for change in found.staged}
    unstaged = {change.path: letters[change.what] for change in found.unstaged}
    for conflict in found.conflicts:
        say(f"{style('UU', fg='red')} {here(conflict.path)}")
    for path in sorted(staged.keys() | unstaged.keys()):
        left = style(staged.get(path, " "), fg="green")
        right = style(unstaged.get(path, " "), fg="red")
        say(f"{left}{right} {here(path)}")
    for item in found.unreadable:
        say(f"{style(' !', fg='red')} {here(item.path)}")
    for path in sorted({*found.secrets, *found.untracked}):
        say(f"{style('??', fg='red')} {here(path)}")
    for path in (*found.tracked_by_git, *found.not_ignored):
        say(f"{style('G!', fg='red')} {here(path)}")


def _long(found: Status) -> None:
    where = f"Looking at {found.head[:10]}" if found.detached and found.head else "On main"
    say(f"{where}{_upstream(found)}")
    if found.moved:
        say(f".dorkyrc has another URL for {found.remote} than before: {name(found.moved)}")
        say("If you don't know why: git log -p .dorkyrc")
    if found.head is None:
        say("No commits yet.")
    _merging(found)
    if found.staged:
        say("Staged for the next commit:")
        changes(found.staged)
    if found.unstaged:
        say("Changed, not staged (dorky stage FILE):")
        changes(found.unstaged)
    _unreadable(found.unreadable)
    _not_pulled(found)
    if found.secrets:
        say("Look like secrets, but are not kept (dorky stage FILE):")
        here = from_here()
        listing(found.secrets, lambda path: f"{style('?', fg='red')} {here(path)}")
    _untracked(found)
    masked(found.masked)
    if found.closed:
        say(f"Closed to you: the files of {', '.join(found.closed)} (dorky group list)")
    if found.requests:
        say(f"Ask to be let in: {', '.join(found.requests)} (dorky team list)")
    if found.clean and found.head is not None:
        say("Nothing to commit.")


def _not_pulled(found: Status) -> None:
    if missing := found.absent - found.sparse:
        way = "dorky pull --all" if found.partial else "dorky pull"
        say(f"{plural(missing, 'file')} not pulled ({way})")
    if found.partial:
        say(f"Pulls keep to {', '.join(map(name, found.partial))} (dorky pull --all ends that)")
    if found.remote_only:
        count, total = plural(len(found.remote_only), "file"), size(found.remote_only_size)
        say(
            f"The stored contents of {count} ({total}) are only in {found.remote}"
            " (dorky fetch --all-contents)"
        )
    if found.sparse:
        count = plural(found.sparse, "file")
        say(
            f"{count} not pulled: outside git's sparse checkout (git sparse-checkout add DIRECTORY)"
        )


def _untracked(found: Status) -> None:
    here = from_here()
    mark = style("?", fg="red")
    if others := sorted({*found.untracked} - {*found.secrets}):
        say("New in directories that are kept (dorky stage FILE):")
        listing(others, lambda path: f"{mark} {here(path)}")
    if found.tracked_by_git:
        say("Kept, but git tracks them, too (git rm --cached FILE):")
        listing(found.tracked_by_git, lambda path: f"{style('!', fg='red')} {here(path)}")
    if found.not_ignored:
        say("Kept, but git does not ignore them (dorky stage FILE):")
        listing(found.not_ignored, lambda path: f"{style('!', fg='red')} {here(path)}")
    if found.nested:
        say(f"Other projects, not looked into: {shown([here(path) for path in found.nested])}")


def _unreadable(found: Sequence[Omission]) -> None:
    if found:
        say("Can't be compared, because they can't be read:")
        here = from_here()
        mark = style("!", fg="red")
        listing(found, lambda item: f"{mark} {here(item.path)}: {escaped(item.why)}")


def _merging(found: Status) -> None:
    if found.conflicts:
        say(f"Merging {found.merging}. These need you (edit, then dorky resolve FILE):")
        conflicts(found.conflicts)
        say("Or take one side's file: dorky resolve FILE --ours (or --theirs)")
        say("To give up: dorky merge --abort")
    elif found.merging:
        say(f"Merging {found.merging}: no conflicts are left (dorky merge --continue)")


def _upstream(found: Status) -> str:
    if not found.remote:
        return ", no remote"
    if not found.fetched:
        return f", nothing known of {found.remote} yet (dorky fetch)"
    count = plural(found.ahead or found.behind, "commit")
    if found.ahead and found.behind:
        how, command = f"{count} ahead and {found.behind} behind", "dorky sync, or pull"
    elif found.ahead:
        how, command = f"{count} ahead of", "dorky push"
    elif found.behind:
        how, command = f"{count} behind", "dorky pull"
    elif found.attested:
        return f", same as {found.remote}, which lacks signatures (dorky push)"
    else:
        return f", same as {found.remote}"
    return f", {how} {found.remote}" + ("" if found.merging else f" ({command})")


def commit(
    words: Annotated[
        List[str] | None,  # noqa: UP006
        typer.Argument(metavar="[MESSAGE]", help="The message, instead of -m."),
    ] = None,
    message: Annotated[str, typer.Option("--message", "-m", help="Why.")] = "",
    all_: Annotated[
        bool, typer.Option("--all", "-a", help="Stage tracked files that changed first.")
    ] = False,
    again: Annotated[
        bool,
        typer.Option("--re-sign", help="Sign unpushed commits again, after your key has changed."),
    ] = False,
    deletions: Annotated[
        bool, typer.Option("--allow-deletions", help="Even if it deletes most of the files.")
    ] = False,
    json: Json = False,
) -> None:
    """Record what is staged.

    Every commit is signed with your key: what others refuse because of the key that has signed it,
    --re-sign signs with the key that you have now. A commit that deletes more than ten files, and
    more than half of all, asks first.

    \b
    $ dorky commit -m "rotate the staging keys"
    $ dorky commit -a "rotate the staging keys"
    $ dorky commit --re-sign
    """
    from dorky.commands import commit

    if again:
        if words or message or all_:
            raise errors.UsageError("--re-sign commits nothing new", hint="dorky commit --re-sign")
        with opened() as repo:
            count = commit.sign_again(repo)
        say(f"Signed {plural(count, 'commit')} again.")
        return
    if words and message:
        raise errors.UsageError("the message is given twice", hint="dorky commit -m MESSAGE")
    if words and len(words) > 1:
        raise errors.UsageError(
            "commit takes one message, and always all that is staged",
            hint=f"quote it: dorky commit -m {shlex.quote(' '.join(words))}",
        )
    with opened() as repo:
        record = partial(commit.commit, repo, words[0] if words else message, all=all_)
        try:
            done = record(allow_deletions=deletions)
        except errors.ManyDeletions as error:
            if not agree(f"{error.message}. Commit that?"):
                raise
            done = record(allow_deletions=True)
        left = commit.left_by_merge(repo, done)
        packs = repo.scattered
    if json:
        show_json(done)
        return
    say(f"[{style(done.id[:10], fg='yellow')}] {title(done.message)}")
    changes(done.changes)
    apart(left)
    if packs:
        note(f"{packs:,} packs in .dorky: dorky gc joins the small ones")


def restore(
    paths: Paths,
    source: Annotated[
        str, typer.Option("--source", help="Take them from this revision.", metavar="REV")
    ] = "",
    staged: Annotated[
        bool, typer.Option("--staged", help="Put back the index, not the files.")
    ] = False,
    readers: For = "",
    json: Json = False,
) -> None:
    """Put files back as staged, or as a revision holds them.

    What would be lost is kept first, as a commit that backup/N names.

    \b
    $ dorky restore .env
    $ dorky restore .env --source HEAD~2
    """
    from dorky.commands import stage

    with opened() as repo:
        if staged and source:
            raise errors.UsageError(
                "--staged takes no --source", hint="dorky restore --staged PATH (from HEAD)"
            )
        names = repository_paths(repo, paths)
        done = stage.restore(repo, names, source=source, staged=staged, readers=readers)
    if isinstance(done, Staged):
        _unstaged(done, json=json)
    elif json:
        show_json(done)
    else:
        say("Restored:" if done.changes else "Nothing to restore: the files are just so.")
        changes(done.changes)
        kept(done.backup)
        left_out(done.left_out)
        unplaced(done.unplaced)
        frozen(done.frozen)


def checkout(
    revision: Annotated[str, typer.Argument(help="A commit; main to come back.")],
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Overwrite local changes (a backup is kept).")
    ] = False,
    json: Json = False,
) -> None:
    """Make all files be as a revision is.

    \b
    $ dorky checkout HEAD~1
    $ dorky checkout main
    """
    from dorky.commands import checkout

    with opened() as repo:
        try:
            done = checkout.checkout(repo, revision, force=force)
        except errors.UnknownRevision as error:
            from dorky.cli.inspect import file_meant

            raise file_meant(error, revision, f"dorky restore {shlex.quote(revision)}") from None
    if json:
        show_json(done)
        return
    say(f"Now at {str(done.commit)[:10]}")
    changes(done.changes)
    kept(done.backup)
    left_out(done.left_out)
    unplaced(done.unplaced)
    if revision != "main":
        note("To come back: dorky checkout main")
