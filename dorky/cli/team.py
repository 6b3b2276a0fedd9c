"""Commands for keys and readers: key, team, group, rotate."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, List, get_args  # noqa: UP035

import typer

from dorky import errors
from dorky.cli.command import Command, Json
from dorky.cli.output import (
    agree,
    escaped,
    listing,
    name,
    new_passphrase,
    note,
    opened,
    plural,
    say,
    show_json,
    size,
    undeleted,
)
from dorky.cli.paths import repository_path, repository_paths
from dorky.config import Config
from dorky.format.model import Role
from dorky.results import Exposure, GroupChange, GroupInfo, JoinRequest, Rotation

if TYPE_CHECKING:
    from dorky.project import Project

_MUCH = 8 << 20
"""The size in bytes of a download that is worth a question."""
History = Annotated[
    bool, typer.Option("--history", help="Re-encrypt old revisions, too, not only the newest.")
]
RoleOption = Annotated[
    str,
    typer.Option("--role", metavar="ROLE", help="What they may do: admin, writer or reader."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen, and to whom.")]

_PINNED = "Commit .dorkyrc to git: it pins the team."

key_app = typer.Typer(no_args_is_help=True, help="Make and choose your own key.")
team_app = typer.Typer(no_args_is_help=True, help="Let people in, and take access away.")
group_app = typer.Typer(no_args_is_help=True, help="Say which files only some can read.")


# --- keys -----------------------------------------------------------------------------------


@key_app.command("gen", cls=Command)
def key_gen(
    path: Annotated[
        str, typer.Argument(metavar="[PATH]", help="Where to; ~/.dorky/identity without it.")
    ] = "",
    ci: Annotated[
        str,
        typer.Option("--ci", metavar="NAME", help="For a CI job: let it in, print its key once."),
    ] = "",
    signing: Annotated[
        str,
        typer.Option("--signing", metavar="FILE", help="Make a key that signs files, in FILE."),
    ] = "",
    role: RoleOption = "",
    json: Json = False,
) -> None:
    """Make a key. An existing one is never overwritten.

    With --ci the key is added to the team under that name, as a reader unless --role says
    otherwise, and printed once: put it into the CI's secret store as DORKY_IDENTITY.

    With --signing it is a key for dorky sign (P-256, in PKCS#8). The line that is printed goes into
    .dorkysigners, or another list of signers: without it nobody trusts the key.

    \b
    $ dorky key gen
    $ dorky key gen --ci deploy
    $ dorky key gen --signing ~/release.pem >> .dorkysigners
    """
    from dorky.commands import team

    if role and not ci:
        raise errors.UsageError("--role is for --ci: members are given one when they are added")
    if ci and path:
        raise errors.UsageError(
            "a CI key is printed, not written", hint=f"dorky key gen --ci {shlex.quote(ci)}"
        )
    if signing:
        if ci or path:
            raise errors.UsageError("--signing makes another kind of key: name one file, no other")
        _signing_key(signing, json=json)
        return
    if ci:
        with opened() as repo:
            done = team.generate_ci_key(repo, ci, role=_role(role) or "reader")
        if json:
            show_json(done)
            return
        note(f"{ci} is on the team. This is its key, shown only now (set DORKY_IDENTITY to it):")
        print(done.secret)
        return
    from dorky.keys import identities

    made = identities.make(Config(None), path)
    if json:
        show_json(made)
        return
    say(f"Your secret key is in {name(made.source)}: keep a copy somewhere safe.")
    say(f"Your public keys: {made.recipient} {made.signer}")
    say(f"  fingerprint  {made.fingerprint}")


def _signing_key(path: str, *, json: bool) -> None:
    from dorky.provenance import private_keys

    made = private_keys.make(path)
    if json:
        show_json(made)
        return
    print(made.line)
    note(f"The secret key is in {name(made.source)}: whoever has it can sign.")
    note(f"  fingerprint  {made.fingerprint}")


@key_app.command("show", cls=Command)
def key_show(json: Json = False) -> None:
    """Show your public key: what others let you in by.

    \b
    $ dorky key show
    """
    from dorky.keys import identities

    found = identities.shown(Config(None))
    if json:
        show_json(found)
        return
    for key in found:
        say(f"{key.recipient} {key.signer}".rstrip())
        note(f"  fingerprint  {key.fingerprint}")
        note(f"  secret part  {name(key.source)}")


@key_app.command("list", cls=Command)
def key_list(json: Json = False) -> None:
    """List the keys on this machine, the one in use first.

    \b
    $ dorky key list
    """
    from dorky.keys import identities

    found = identities.here(Config(None))
    if json:
        show_json(found)
        return
    if not found:
        say("No keys here (dorky key gen).")
    for n, key in enumerate(found):
        say(f"{'*' if n == 0 else ' '} {key.fingerprint}  {name(key.source)}")


@key_app.command("use", cls=Command)
def key_use(
    path: Annotated[str, typer.Argument(help="An age identity file, or an SSH key.")],
) -> None:
    """Use a key from now on: an age identity file, or an SSH private key.

    \b
    $ dorky key use ~/.ssh/id_ed25519
    """
    from dorky.keys import identities

    for key in identities.use(Config(None), path):
        say(f"In use: {key.fingerprint}  {name(key.source)}")


# --- team -----------------------------------------------------------------------------------


@team_app.command("list", cls=Command)
def team_list(
    path: Annotated[
        str, typer.Argument(metavar="[PATH]", help="Only those who can read this file.")
    ] = "",
    json: Json = False,
) -> None:
    """List who can read what, and who asks to be let in.

    \b
    $ dorky team list
    $ dorky team list env/prod/api.env
    """
    from dorky.commands import team

    with opened() as repo:
        below = repository_path(repo, path) if path else ""
        found = team.members(repo, below)
    if json:
        show_json(found)
        return
    if path:
        say(f"{name(found.path)} belongs to {found.group}. Who can read it:")
    for member in found.members:
        kinds = {"passphrase": "a passphrase", "awskms": "an AWS KMS key", "key": ""}
        sound = [key.fingerprint for key in member.keys if not key.problem]
        how = [kinds[member.how]] if kinds[member.how] else sound
        what = f"  [{', '.join(member.groups)}]" if member.groups else ""
        say(f"  {member.name}{' (you)' if member.you else ''}  {member.role}{what}")
        for line in how:
            say(f"      {line}")
        bad = [key for key in member.keys if key.problem]
        listing(bad, lambda key: f"    {key.fingerprint}  CAN'T BE USED: {key.problem}")
    if found.groups:
        say("Groups:")
        _groups(found.groups)
    if found.requests:
        say("Ask to be let in:")
        for request in found.requests:
            say(f"  {request.name}  {request.key.fingerprint}")
        note("If it is the fingerprint that they tell you: dorky team add NAME")
    if not path and len(found.members) == 1:
        note("One key only opens this repository: dorky team add recovery passphrase")


@team_app.command("add", cls=Command)
def team_add(
    who: Annotated[str, typer.Argument(metavar="NAME", help="What to call them.")],
    access: Annotated[
        List[str] | None,  # noqa: UP006
        typer.Argument(
            metavar="[KEY]",
            help="age1…, ssh-…, @FILE of such keys, passphrase, or awskms:ARN; "
            "without it, the key that they ask to be let in with.",
        ),
    ] = None,
    fingerprint: Annotated[
        str, typer.Option("--fingerprint", help="Of the request to grant, as they told you.")
    ] = "",
    role: RoleOption = "",
    json: Json = False,
) -> None:
    """Let somebody in: a person who asked to join, a public key, a passphrase, a KMS key.

    They can read everything, its history too, except the files of groups. Unless --role says
    otherwise they can write, too, if they have a key that signs: both keys of dorky key show, or an
    SSH key.

    \b
    $ dorky team add ben
    $ dorky team add cleo "$(cat cleo.pub)"
    $ dorky team add dan @dan.pub
    $ dorky team add break-glass passphrase
    """
    from dorky.commands import team

    given = " ".join(access or ())
    with opened() as repo:
        if not given:
            asked = team.requests_by(repo, who)
            known = any(member.name == who for member in repo.roster.members)
            given = _asked(asked, who, fingerprint, known=known)
        elif fingerprint:
            raise errors.UsageError("--fingerprint is for requests, not for a key that is given")
        secret = ""
        if given == "passphrase":
            secret = repo.config.passphrase or new_passphrase()
        done = team.add(repo, who, given, passphrase=secret, role=_role(role))
    if json:
        show_json(done)
        return
    more = {"reader": "", "writer": " and write to", "admin": ", write to and administer"}
    say(f"{done.name} can read{more[done.role]} this repository now:")
    for key in done.keys:
        say(f"  {key.fingerprint}")
    if before := len(done.keys) - 1:
        note(f"{done.name} had {plural(before, 'key')} already, and can use all of them.")
        note(
            f"If this is somebody else: dorky team remove {shlex.quote(done.name)}, and a new name"
        )
    note(_PINNED)


def _role(text: str) -> Role | None:
    """Return the role that a text names; None if it is empty."""
    for role in get_args(Role):
        if text == role:
            found: Role = role
            return found
    if text:
        raise errors.UsageError(f"{text!a} is no role", hint="admin, writer or reader")
    return None


def _asked(requests: Sequence[JoinRequest], who: str, fingerprint: str, *, known: bool) -> str:
    """Return the key of the request that is granted."""
    word = shlex.quote(who)
    if not requests and known:
        raise errors.NothingToDo(f"{who} is on the team already", hint="dorky team list")
    if not requests:
        raise errors.NotFoundError(
            f"{who} has not asked to be let in",
            hint=f"they run dorky team join {word}; or: dorky team add {word} KEY",
        )
    found = [request for request in requests if fingerprint in {"", request.key.fingerprint}]
    if not found:
        raise errors.NotFoundError(
            f"no request of {who} has the fingerprint {fingerprint}",
            hint="somebody else may be asking in that name: let nobody in before you know",
        )
    if len(found) > 1:
        both = " and ".join(request.key.fingerprint for request in found)
        raise errors.ConflictError(
            f"there are several requests of {who}: {both}",
            hint=f"dorky team add {word} --fingerprint FINGERPRINT",
        )
    (request,) = found
    if not fingerprint:
        note(f"Somebody who calls themselves {who} asks to be let in with the key")
        note(f"  {request.key.fingerprint}")
        if known:
            note(f"There is a {who} on the team already: this would be a SECOND key of theirs.")
        if not agree("Is this what they told you?"):
            raise errors.NotConfirmed(
                "changed",
                hint=f"dorky team add {word} --fingerprint, and what they told you",
            )
    return f"{request.key.recipient} {request.key.signer}".rstrip()


@team_app.command("set-role", cls=Command)
def team_set_role(
    who: Annotated[str, typer.Argument(metavar="NAME", help="Whose role.")],
    role: Annotated[str, typer.Argument(metavar="ROLE", help="admin, writer or reader.")],
    json: Json = False,
) -> None:
    """Say what a member may do.

    A reader reads, a writer pushes, too, and an admin changes the team as well. What a reader, or
    somebody who has left, pushes is refused by everybody, even if the bucket lets it through.

    \b
    $ dorky team set-role ben admin
    $ dorky team set-role deploy reader
    """
    from dorky.commands import team

    wanted = _role(role)
    if wanted is None:
        raise errors.UsageError("a role is admin, writer or reader")
    with opened() as repo:
        done = team.set_role(repo, who, wanted)
    if json:
        show_json(done)
        return
    say(f"{done.name} is {'an' if done.role == 'admin' else 'a'} {done.role} now.")
    note(_PINNED)


@team_app.command("log", cls=Command)
def team_log(json: Json = False) -> None:
    """Show who has changed the team, and how, the newest first, as last fetched.

    Every entry is signed by an administrator of the team before it.

    \b
    $ dorky team log
    """
    from dorky.commands import team_log

    with opened() as repo:
        found = team_log.log(repo)
    if json:
        show_json(found)
        return
    for change in found:
        say(f"{change.n:4}  {change.time:%Y-%m-%d %H:%M} UTC  {change.by}  {change.key}")
        for line in change.changes:
            say(f"      {escaped(line)}")


@team_app.command("join", cls=Command)
def team_join(
    who: Annotated[
        str, typer.Argument(metavar="[NAME]", help="What to be called; made of git's name.")
    ] = "",
    json: Json = False,
) -> None:
    """Ask to be let in. Makes a key if you have none.

    \b
    $ dorky team join ben
    """
    from dorky.commands import team

    with opened(anywhere=True) as repo:
        done = team.join(repo, who)
    if json:
        show_json(done)
        return
    if done.key.source:
        say(f"Your new secret key is in {name(done.key.source)}: keep a copy somewhere safe.")
    say(f"Asked to be let in as {done.name}. Tell a member your key's fingerprint:")
    say(f"  {done.key.fingerprint}")
    say(f"They run: dorky team add {done.name}")
    say("Then you run: dorky pull")


@team_app.command("remove", cls=Command)
def team_remove(
    who: Annotated[str, typer.Argument(metavar="NAME", help="Who leaves.")],
    key: Annotated[
        str,
        typer.Option(
            "--key",
            metavar="FINGERPRINT",
            help="Only this key of theirs; unused: those that can't be used.",
        ),
    ] = "",
    yes: Annotated[
        bool, typer.Option("--yes", help="Even if it is your own access that you take away.")
    ] = False,
    history: History = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Take somebody's access away: new keys, and a list of the secrets to be changed.

    What they have read they have read: change the secrets in the list. Take away their access to
    the bucket, too. If you remove yourself, somebody who stays should run dorky rotate: it is your
    machine that made the new keys.

    \b
    $ dorky team remove ben
    $ dorky team remove ben --dry-run
    $ dorky team remove ana --key SHA256:I9EBCiF0ZO1Ti1jMc2Qq…
    """
    from dorky.commands import team

    with opened() as repo:
        if not dry_run:
            _agree_to_download(repo, all_history=history)
        done = team.remove(repo, who, key=key, all_history=history, dry_run=dry_run, lock_out=yes)
    if json:
        show_json(done)
        return
    _rotated(done)


@team_app.command("exposed", cls=Command)
def team_exposed(
    who: Annotated[str, typer.Argument(metavar="NAME", help="A member, or somebody who has left.")],
    json: Json = False,
) -> None:
    """List what a member can read, or could read on leaving: the secrets to be changed.

    \b
    $ dorky team exposed ben
    """
    from dorky.commands import team

    with opened() as repo:
        found = team.exposed(repo, who)
    if json:
        show_json(found)
        return
    if not found.files:
        say(f"{found.name} {'can' if found.left is None else 'could'} read no file.")
    elif found.left is None:
        say(f"{found.name} can read these.")
    else:
        say(f"{found.name} left at {found.left:%Y-%m-%d %H:%M} UTC, and could read these.")
    _exposed(found.files)
    if found.closed:
        note(f"Files of groups that you are not in are missing: {', '.join(found.closed)}")


def rotate(history: History = False, json: Json = False) -> None:
    """Make new keys, and re-encrypt the current files.

    \b
    $ dorky rotate
    $ dorky rotate --history
    """
    from dorky.commands import team

    with opened() as repo:
        _agree_to_download(repo, all_history=history)
        done = team.rotate(repo, all_history=history)
    if json:
        show_json(done)
        return
    _rotated(done)


def _agree_to_download(repo: Project, *, all_history: bool = False) -> None:
    """Say how much must be fetched to be re-encrypted, and ask whether that is meant."""
    from dorky.commands import cache

    most = cache.to_download(repo, all_history=all_history) if repo.is_set_up else 0
    if most >= _MUCH:
        note(f"Contents that only the remote holds are downloaded first: up to {size(most)}.")
        asked = sys.stdin.isatty() and sys.stderr.isatty()
        if asked and not agree("Download and re-encrypt them?"):
            raise errors.NotConfirmed("re-encrypted")


def _rotated(done: Rotation) -> None:
    if done.done:
        if done.removed:
            scope = "" if "all" in done.groups else f" of {', '.join(done.groups)}"
            say(f"{done.removed} can read nothing new{scope}{done.key and ' by that key'}.")
        say(
            f"New keys: {', '.join(done.groups)} "
            f"({plural(done.objects, 'object')}, {size(done.size)} re-encrypted)"
        )
    if done.exposed:
        could = "could read these: change the secrets in them" if done.done else "can read these"
        say(f"{done.removed} {could}.")
        _exposed(done.exposed)
        if done.done and not done.key:
            note(f"The list again: dorky team exposed {shlex.quote(done.removed)}")
    if done.locked_out:
        what = "You can read nothing new" if done.done else "You would lock yourself out"
        note(f"{what}: tell somebody who stays to run dorky rotate.")
    for member in dict.fromkeys(key.member for key in done.unused):
        bad = [key.problem for key in done.unused if key.member == member]
        note(f"Nothing is encrypted to {plural(len(bad), 'key')} of {member}: {bad[0]}")
        note(f"  dorky team remove {member} --key unused")
    if not done.done:
        note("Nothing has been changed.")
    if done.skipped:
        note(f"Not renewed, because you are not in them: {', '.join(done.skipped)}")
    if done.done:
        _left_behind(done)
        if "all" in done.groups:
            note("Commit .dorkyrc to git: it names the new key.")


def _left_behind(done: Rotation) -> None:
    """Tell what a rotation has left to do."""
    undeleted(done.left, "encrypted with the old keys")
    if done.lost:
        note(f"Requests to join were lost: {', '.join(done.lost)} must ask again.")
    if done.kept:
        note(
            f"{size(done.kept)} of older revisions stay encrypted with the old keys "
            "(dorky rotate --history)"
        )
    if done.blocked:
        who = f"ask {' or '.join(done.finishers)} to" if done.finishers else "somebody in them must"
        note(
            f"{size(done.blocked)} stay encrypted with the old keys, because they may hold files "
            f"of groups that you are not in: {who} run dorky rotate --history"
        )


def _exposed(files: Sequence[Exposure]) -> None:
    def line(index: int) -> str:
        exposure = files[index]
        names = ", ".join(exposure.variables)
        return f"{name(exposure.path)}{': ' if names else ''}{names}"

    listing(range(len(files)), line, whole=True)


# --- groups ---------------------------------------------------------------------------------


def _groups(found: Sequence[GroupInfo]) -> None:
    for info in found:
        closed = "" if info.yours else "  (closed to you)"
        say(f"  {info.name}: {', '.join(info.members)}{closed}")
        for pattern in info.patterns:
            say(f"      {name(pattern)}")
        for clash in info.overlaps:
            say(
                f"      frozen: {name(clash.pattern)} overlaps {name(clash.other)} of "
                f"{escaped(clash.group)}"
            )
    if any(info.overlaps for info in found):
        note(
            "Files that several groups claim stay as they are, and nobody can change them, until "
            "a member ends one of the patterns: dorky group remove NAME PATTERN"
        )


@group_app.command("add", cls=Command)
def group_add(
    group: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    patterns: Annotated[
        List[str],  # noqa: UP006
        typer.Argument(metavar="PATTERN…", help="Which files; quote it."),
    ],
    members: Annotated[
        List[str] | None,  # noqa: UP006
        typer.Option(
            "--member", metavar="NAME", help="A member who can read them; without any, you."
        ),
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Encrypt files for some of the team only: those that match, now and in future.

    A pattern selects what it matches and all below it: * within a name, ** for any directories.

    \b
    $ dorky group add prod 'env/prod/**' --member ana --member ci-deploy
    """
    from dorky.commands import groups

    with opened() as repo:
        done = groups.add(
            repo, group, repository_paths(repo, patterns), members or (), dry_run=dry_run
        )
    _regrouped(done, json=json)


@group_app.command("remove", cls=Command)
def group_remove(
    group: Annotated[str, typer.Argument(metavar="NAME", help="Which group.")],
    patterns: Annotated[
        List[str] | None,  # noqa: UP006
        typer.Argument(metavar="[PATTERN…]", help="Only these of its patterns."),
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Give a group's files to everybody on the team.

    \b
    $ dorky group remove prod
    $ dorky group remove prod 'env/prod/public/**' --dry-run
    """
    from dorky.commands import groups

    with opened() as repo:
        selected = repository_paths(repo, patterns or ())
        done = groups.remove(repo, group, selected, dry_run=dry_run)
    _regrouped(done, json=json)


def _regrouped(done: GroupChange, *, json: bool) -> None:
    if json:
        show_json(done)
        return
    would = "" if done.done else "would "
    if done.moved:
        changes = "change" if would or len(done.moved) > 1 else "changes"
        say(f"{plural(len(done.moved), 'file')} {would}{changes} hands:")
        listing(done.moved, lambda file: f"{name(file.path)}: {file.old} → {file.new}")
    if done.gains:
        say(f"Can read more: {', '.join(done.gains)}")
    if done.loses:
        say(f"Can read less: {', '.join(done.loses)}")
        note("What they have read they have read: change the secrets in these files.")
    _groups([done.group] if done.group.patterns else [])
    if done.group.patterns:
        say(f"  {plural(done.files, 'committed file')} of it" if done.files else "  no file yet")
    if done.done and not done.group.patterns:
        say(f"There is no group {done.group.name} any more.")
    if not done.done:
        note("Nothing has been changed.")


@group_app.command("list", cls=Command)
def group_list(json: Json = False) -> None:
    """List the groups, as last fetched.

    \b
    $ dorky group list
    """
    from dorky.commands import groups

    with opened() as repo:
        found = groups.list_groups(repo)
    if json:
        show_json(found)
    elif found:
        _groups(found)
    else:
        say("No groups: everybody on the team reads everything.")


@group_app.command("members", cls=Command)
def group_members(
    group: Annotated[str, typer.Argument(metavar="NAME", help="Which group.")],
    add: Annotated[
        List[str] | None,  # noqa: UP006
        typer.Option("--add", metavar="NAME", help="Let a member of the team in."),
    ] = None,
    remove: Annotated[
        List[str] | None,  # noqa: UP006
        typer.Option("--remove", metavar="NAME", help="Take the files away; the group gets a key."),
    ] = None,
    json: Json = False,
) -> None:
    """List who is in a group, let others in, or take its files away from some.

    \b
    $ dorky group members prod
    $ dorky group members prod --add ben
    $ dorky group members prod --remove ben
    """
    from dorky.commands import groups

    with opened() as repo:
        if remove:
            _agree_to_download(repo)
        found, rotation = groups.change_members(repo, group, add=add or (), remove=remove or ())
    if json:
        show_json(rotation or found)
        return
    _groups([found])
    if add:
        say(f"Can read more: {', '.join(add)}")
    if rotation:
        _rotated(rotation)
