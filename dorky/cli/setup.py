"""Commands that begin and end projects: init, clone, remote, trust, destroy."""

from __future__ import annotations

import shlex
from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from dorky import errors
from dorky.cli import output
from dorky.cli.command import AcceptRewind, Command, Json
from dorky.cli.output import (
    TerminalProgress,
    ask,
    name,
    note,
    opened,
    plural,
    say,
    show_json,
    size,
)
from dorky.config import Config

Profile = Annotated[str, typer.Option(help="AWS profile to use.", metavar="NAME")]
Region = Annotated[str, typer.Option(help="AWS region of the bucket.", metavar="NAME")]
Endpoint = Annotated[str, typer.Option(help="Endpoint of an S3-compatible server.", metavar="URL")]

Plain = Annotated[bool, typer.Option("--plain", help="Accept a repository that is not encrypted.")]


class Recovery(str, Enum):
    """The way to open a repository when the user's key is lost."""

    KEY = "key"
    PASSPHRASE = "passphrase"  # noqa: S105
    NONE = "none"


def init(
    url: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="The remote; without one the project is local."),
    ] = None,
    plain: Annotated[
        bool,
        typer.Option(
            "--plain", help="Do not encrypt: anyone who can read the bucket can read everything."
        ),
    ] = False,
    profile: Profile = "",
    region: Region = "",
    endpoint: Endpoint = "",
    single_writer: Annotated[
        bool,
        typer.Option(
            "--single-writer", help="The bucket ignores conditional writes; only I write."
        ),
    ] = False,
    recovery: Annotated[
        Optional[Recovery],  # noqa: UP045
        typer.Option(
            "--recovery",
            help="A second way in: a key to be kept on paper, or a passphrase.",
        ),
    ] = None,
    member: Annotated[
        str,
        typer.Option("--name", metavar="NAME", help="What to be called; made of git's name."),
    ] = "",
    json: Json = False,
) -> None:
    """Start a repository in this directory.

    Encrypted by default: files are encrypted on this machine, to your age identity. The
    identity is made at ~/.dorky/identity if you have none. Whoever loses every key loses all that
    was pushed: --recovery makes a second one.

    \b
    $ dorky init s3://acme-vault/payments --recovery key
    $ dorky init gs://acme-vault/payments
    $ dorky init ../vault
    """
    from dorky.commands import setup
    from dorky.project import Project

    if url is not None and not url.strip():  # a variable of a script that is not set
        raise errors.BadURL("''", "it is empty")
    options: dict[str, str | bool] = {
        "profile": profile,
        "region": region,
        "endpoint": endpoint,
        "single_writer": single_writer,
    }
    if recovery is None and not plain and not json:
        question = "Make a recovery key, to be kept on paper, too?"
        recovery = Recovery.KEY if output.agree(question) else None
    passphrase = ""
    if recovery is Recovery.PASSPHRASE:
        passphrase = Config(None).passphrase or output.new_passphrase()
    repo, made = setup.init(
        Project,
        ".",
        url or "",
        plain=plain,
        name=member,
        recovery=recovery.value if recovery and recovery is not Recovery.NONE else "",
        passphrase=passphrase,
        options=options,
        progress=TerminalProgress(),
        ask=ask,
    )
    repo.close()
    if json:
        show_json(made)
        return
    kind = "an encrypted" if made.encrypted else "an unencrypted"
    say(f"Started {kind} repository in {name(made.root)}")
    if made.url:
        say(f"Remote: {name(made.url)}")
    else:
        say("No remote yet: dorky remote add origin s3://bucket/prefix")
    if made.encrypted:
        say(f"Encrypted to {made.member}: {made.public_key}")
    if made.identity:
        new = "new " if made.new_identity else ""
        say(f"Your {new}secret key is in {name(made.identity)};")
        lost = "nobody can open what you push" if made.encrypted else "you can't push any more"
        say(f"keep a copy somewhere safe, for without it {lost}.")
    if made.recovery:
        say("The recovery key, shown only now: write it down, and keep it off this machine.")
        print(f"  {made.recovery}")
    elif made.encrypted and recovery is not Recovery.PASSPHRASE:
        say("A second way in, should it be lost: dorky team add recovery passphrase")
    say("Commit .dorkyrc to git; it holds no secrets.")


def clone(
    url: Annotated[str, typer.Argument(help="The remote.")],
    directory: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads annotations on Python 3.10, too
        typer.Argument(help="Where to; by default the last part of URL."),
    ] = None,
    profile: Profile = "",
    region: Region = "",
    endpoint: Endpoint = "",
    accept_rewind: AcceptRewind = False,
    plain: Plain = False,
    fingerprint: Annotated[
        str,
        typer.Option(
            "--fingerprint", metavar="HEX", help="Refuse a repository with another fingerprint."
        ),
    ] = "",
    team: Annotated[
        str,
        typer.Option(
            "--team", metavar="N:ID", help="Refuse a repository without this entry of a team log."
        ),
    ] = "",
    json: Json = False,
) -> None:
    """Make a directory with the newest state of a repository.

    There is nothing yet to check the repository by: compare the fingerprint and the team that are
    printed with a member's, or give them with --fingerprint and --team, as they stand in a
    member's .dorkyrc. A repository that is not encrypted is refused without --plain.

    \b
    $ dorky clone s3://acme-vault/payments
    $ dorky clone gs://acme-vault/payments secrets
    $ dorky clone s3://acme-open/data --plain
    """
    from dorky.commands import setup
    from dorky.project import Project

    target = directory or Path(url.rstrip("/").rpartition("/")[2] or "repository")
    options = {"profile": profile, "region": region, "endpoint": endpoint}
    repo, done = setup.clone(
        Project,
        *(url, target),
        options=options,
        accept_rewind=accept_rewind,
        plain=plain,
        fingerprint=fingerprint,
        team=team,
        progress=TerminalProgress(),
        ask=ask,
    )
    repo.close()
    if json:
        show_json(done)
        return
    say(f"Cloned {name(done.url)} into {name(str(target))}")
    if done.new is None:
        say("It has no commits yet.")
    else:
        say(f"{plural(len(done.changes), 'file')} at {done.new[:10]}")
    output.left_out(done.left_out)
    output.unplaced(done.unplaced)
    output.first_sight(done)
    output.first_team(done)


def destroy(
    remote: Annotated[
        bool, typer.Option("--remote", help="Delete the repository in the remote, too.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be deleted.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: Json = False,
) -> None:
    """Delete this project's repository. The project's files stay.

    \b
    $ dorky destroy --dry-run
    $ dorky destroy --remote
    """
    from dorky.commands import destroy as destroy_command

    with opened() as repo:
        plan = destroy_command.plan_destroy(repo, remote=remote)
        if json:
            show_json(plan)
        else:
            note(f"Will delete .dorky/ and .dorkyrc in {name(plan.root)}")
            if plan.unpushed and not plan.url:
                note(f"with {plural(plan.unpushed, 'commit')} that no remote is known to have")
            if plan.url:
                note(
                    f"and the whole repository at {name(plan.url)}: "
                    f"{plural(plan.keys, 'key')}, {size(plan.size)}, for everybody, permanently"
                )
        if dry_run:
            return
        word = plan.url or Path(plan.root).name
        if not yes and not output.confirm(f"Type {output.escaped(word)} to go on:", word):
            raise errors.NotConfirmed("deleted")
        destroy_command.destroy(repo, plan)
    if not json:
        say("Deleted.")


def trust(
    state: Annotated[
        str, typer.Option("--state", metavar="NAME", help="Which, where there are several.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: Json = False,
) -> None:
    """Take over local state that was copied or restored.

    dorky believes only state that was made with your key on this machine (~/.dorky/state.key, or
    DORKY_IDENTITY), since a git branch can bring a .dorky/ of its own. Take over only what you
    have copied yourself.

    \b
    $ dorky trust
    $ dorky trust --state 1f09c2ab --yes
    """
    from dorky.commands import trust as trust_command

    with opened() as repo:
        plan = trust_command.plan(repo, state)
        if not json:
            note(f"State {plan.name}:")
            note(f"  repository  {plan.repository}")
            note(f"  remote      {name(plan.url) if plan.url else 'none'}")
            note(f"  head        {plan.head or 'no commits'}")
            note(f"  packs       {plural(plan.packs, 'pack')}, {size(plan.size)}, all sound")
        if not yes and not output.agree("Did you put it there yourself, and is it to be believed?"):
            raise errors.NotConfirmed("taken over")
        done = trust_command.apply(repo, plan)
    if json:
        show_json(done)
    else:
        say("Taken over. Now look whether all is well: dorky status")


def doctor(json: Json = False) -> None:
    """Look for what is wrong with this project. Exits with 1 if anything is.

    \b
    $ dorky doctor
    """
    from dorky.cli import hints
    from dorky.commands import doctor as doctor_command

    with opened(anywhere=True) as repo:
        found = [hints.check_in_words(check) for check in doctor_command.examine(repo)]
    if json:
        show_json(found)
    else:
        output.checks(found)
    if any(check.verdict == "fail" for check in found):
        raise typer.Exit(1)


remote_app = typer.Typer(no_args_is_help=True, help="Name the places where the repository is kept.")


@remote_app.command("add", cls=Command)
def remote_add(
    name: Annotated[str, typer.Argument(help="Its name: origin.")],
    url: Annotated[str, typer.Argument(help="Where it is.")],
    profile: Profile = "",
    region: Region = "",
    endpoint: Endpoint = "",
) -> None:
    """Name a remote in .dorkyrc.

    \b
    $ dorky remote add origin s3://acme-vault/payments --profile acme
    """
    from dorky.commands import setup

    with opened() as repo:
        setup.add_remote(
            repo, name, url, {"profile": profile, "region": region, "endpoint": endpoint}
        )


@remote_app.command("list", cls=Command)
def remote_list(json: Json = False) -> None:
    """List the remotes.

    \b
    $ dorky remote list
    """
    from dorky.redaction import redacted

    with opened() as repo:
        remotes = {key: redacted(url) for key, url in repo.config.remotes().items()}
    if json:
        show_json(remotes)
    else:
        for remote, url in remotes.items():
            say(f"{name(remote)}\t{name(url)}")


@remote_app.command("allow", cls=Command)
def remote_allow(
    url: Annotated[str, typer.Argument(help="Of the remote; its bucket is what counts.")],
    endpoint: Endpoint = "",
    profile: Profile = "",
) -> None:
    """Allow a profile and a server that .dorkyrc names, on this machine.

    .dorkyrc comes with a git clone, so dorky uses neither before you have allowed it: once for
    each bucket, server and profile. On a terminal it asks by itself. What you name in a command
    or in the environment (AWS_PROFILE, AWS_ENDPOINT_URL) needs no more than that.

    \b
    $ dorky remote allow s3://acme-vault --endpoint https://s3.example.test
    $ dorky remote allow s3://acme-vault --profile acme
    """
    from dorky import config
    from dorky.drivers import consent

    for option, value in (("endpoint", endpoint), ("profile", profile)):
        config.check(f"remotes.origin.{option}", value)
    choice = config.choice(url, endpoint=endpoint, profile=profile)
    if choice is None:
        raise errors.UsageError(
            "there is nothing to allow",
            hint="give s3://BUCKET and --endpoint URL or --profile NAME",
        )
    if not consent.allow(Config(None), choice):
        raise errors.NothingToDo("that is allowed already")


@remote_app.command("remove", cls=Command)
def remote_remove(name: Annotated[str, typer.Argument(help="Its name.")]) -> None:
    """Forget a remote. What it holds stays.

    \b
    $ dorky remote remove origin
    """
    from dorky.commands import setup

    with opened() as repo:
        setup.remove_remote(repo, name)


@remote_app.command("repair", cls=Command)
def remote_repair(
    yes: Annotated[bool, typer.Option("--yes", help="Without asking.")] = False,
    json: Json = False,
) -> None:
    """Put the last sound state back in the place of one that was forged.

    Somebody who can write to the bucket, and is no member who may, can put a state there that
    every clone refuses. This puts the last state that this clone has verified in its place, and
    names the members' commits in the bucket that it lacks: whoever has made them pushes again. The
    forged state is kept in the remote, for whoever finds out what has happened.

    \b
    $ dorky remote repair
    """
    from dorky.commands import forged

    with opened() as repo:
        plan = forged.plan(repo)
        if not json:
            when = f" of {plan.time:%Y-%m-%d %H:%M} UTC" if plan.time else ""
            note(plan.error)
            note(f"The last sound state here: {plan.generation}{when}, by {plan.signer}")
            for commit in plan.lacking:
                note(
                    f"It lacks {output.escaped(commit.author)}'s {output.escaped(commit.title)!r} "
                    f"({commit.time:%Y-%m-%d %H:%M} UTC), which the bucket holds"
                )
            note("A member who has pulled a newer state should run this instead.")
        if not yes and not output.agree("Put it back?"):
            raise errors.NotConfirmed("changed", hint="dorky remote repair --yes")
        done = forged.repair(repo, plan)
    if json:
        show_json(done)
        return
    say(f"Put back. The forged state is kept as {done.kept[:20]}… in {name(done.url)}")
    note("Now see who can write to the bucket, and tell the other members.")


@remote_app.command("set-url", cls=Command)
def remote_set_url(
    name: Annotated[str, typer.Argument(help="Its name.")],
    url: Annotated[str, typer.Argument(help="Where it is now.")],
) -> None:
    """Point a remote elsewhere. The old place keeps what it holds.

    The endpoint, profile and other options of the old place are taken out of .dorkyrc.

    \b
    $ dorky remote set-url origin s3://acme-vault-eu/payments
    """
    from dorky.commands import setup
    from dorky.project import ORIGIN
    from dorky.redaction import redacted

    with opened() as repo:
        old = redacted(repo.config.url(name))
        gone = setup.set_remote_url(repo, name, url)
        known = repo.is_set_up and repo.database.root(name) is not None
    if gone:
        note(f"Taken out, as they were of the old place: {', '.join(gone)}")
        note(f"If the new one needs them, too: dorky config set remotes.{name}.{gone[0]} VALUE")
    if name == ORIGIN and not known:
        note("Nothing is known of that place yet: dorky fetch")
        note(f"If it is empty, copy the old one first: dorky mirror {shlex.quote(old)} {name}")
