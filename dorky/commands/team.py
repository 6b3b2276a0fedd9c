"""Team: list members, add them, remove them, and renew keys.

Every change is one compare-and-swap of the root: it takes effect as a whole, or not at all. Packs
uploaded before the swap are in no root yet; packs deleted after it are in no root any more.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from dorky import documents, errors, files
from dorky.commands import requests
from dorky.commands.inspect import StrPath, fetch_missing
from dorky.commands.sync import ensure_set_up, fetch_root
from dorky.drivers.base import Driver
from dorky.format import model
from dorky.format.model import ALL, Entry, Group, Header, Locked, Member, Request, Roster
from dorky.keys import age, identities, kms, placement, roster, vault
from dorky.keys.vault import Vault
from dorky.project import ORIGIN, Project
from dorky.remote import fetch as remote_fetch
from dorky.remote import root as roots
from dorky.remote import rotate as remote_rotate
from dorky.remote.journal import Sent
from dorky.remote.pending_deletes import delete
from dorky.remote.push import remember
from dorky.remote.root import Remote, RootSnapshot
from dorky.results import (
    Exposure,
    Generated,
    GroupInfo,
    JoinRequest,
    MemberInfo,
    Overlap,
    Rotation,
    Team,
    Unused,
)
from dorky.store import history, outgoing
from dorky.store.history import MAIN
from dorky.worktree import checkout

UNUSED = "unused"
"""The word for the fingerprints of all keys of a member that can't be used."""

_ATTEMPTS = 5
_SHORTEST = 12
"""The fewest characters of a passphrase: anyone who can read the bucket can try guesses."""


class Access(NamedTuple):
    """The access that a new member gets.

    Attributes:
        recipients: The public keys.
        locked: The secret key of the one recipient, if it is to lie in the repository.
        secret: The secret key, if somebody must write it down.
    """

    recipients: tuple[str, ...]
    locked: Locked | None = None
    secret: str = ""


def by_passphrase(passphrase: str) -> Access:
    """Return the access of anyone who knows a passphrase.

    Raises:
        UsageError: The passphrase is too short.
    """
    if len(passphrase) < _SHORTEST:
        raise errors.UsageError(
            f"a passphrase has at least {_SHORTEST} characters",
            hint="whoever reads the bucket can try as many as they like: take several words",
        )
    made = age.generate()
    locked = Locked(made.public, "passphrase", age.lock(made, passphrase))
    return Access((made.public,), locked)


def by_kms(spec: str, repository: str) -> Access:
    """Return the access of anyone who may use a KMS key of AWS."""
    arn = kms.parse(spec)
    made = age.generate()
    data = kms.lock(made.secret, arn, repository)
    return Access((made.public,), Locked(made.public, "awskms", data, arn))


def recovery(kind: str, passphrase: str) -> Access:
    """Return a second way in: ``key``, to be written down, or ``passphrase``."""
    if kind == "passphrase":
        return by_passphrase(passphrase)
    made = age.generate()
    return Access((made.public,), secret=made.secret)


class RootChange(NamedTuple):
    """The replacement of a root.

    Attributes:
        header: The new header.
        changes: The other changes of the root.
        sent: The packs that have been uploaded for it.
    """

    header: Header
    changes: dict[str, Any]
    sent: Sequence[Sent] = ()


# --- listing ---------------------------------------------------------------------------


def members(project: Project, path: StrPath = "") -> Team:
    """Return who may read, and who asks to.

    Args:
        project: The project.
        path: If given, only members who may read this file.
    """
    with ensure_set_up(project):
        remote = fetch_root(project)
        known = project.roster
        name = project.repository_path(path) if path else ""
        group = placement.owner(known)(name) if path else ALL
        if group is None:
            raise outgoing.contested(known, name)
        return Team(
            members=tuple(_reader(project, member) for member in roster.readers(known, group)),
            groups=() if path else group_infos(project, known),
            requests=() if path else tuple(requests.waiting(project, remote)),
            path=name,
            group=roster.name_of(known, group),
        )


def _reader(project: Project, member: Member) -> MemberInfo:
    known, header = project.roster, project.header
    locked = {secret.recipient: secret.kind for secret in header.locked}
    unused = roster.unused(known)
    alive = [group for group in roster.living(known) if group.id in member.groups]
    return MemberInfo(
        name=member.name,
        keys=tuple(
            identities.describe(key, problem=unused.get(key, "")) for key in member.recipients
        ),
        groups=tuple(group.name for group in alive),
        you=not project.publics.isdisjoint(member.recipients),
        how=next((locked[key] for key in member.recipients if key in locked), "key"),
    )


def group_infos(project: Project, known: Roster) -> tuple[GroupInfo, ...]:
    """Return the groups that have not ended."""
    own = project.vault.groups
    return tuple(described(known, group, own) for group in roster.living(known))


# --- requests --------------------------------------------------------------------------


def join(project: Project, name: str = "") -> JoinRequest:
    """Ask to join: put a request, encrypted to the members, into the remote.

    Args:
        project: The project.
        name: The name that the user asks for.

    Raises:
        NothingToDo: The user can read the repository.
    """
    name = roster.check_name(name or roster.suggest_name(project.author), "member")
    driver = project.driver()
    try:
        blob = driver.get(roots.KEY)
    except errors.KeyNotFound:
        raise errors.NoRepositoryAtURL(driver.url) from None
    assert blob is not None
    header, body = roots.read_header(blob.data, driver.url)
    try:
        project.unlock(header, roots.verifier(header, body, driver.url))
    except (errors.NoKey, errors.IdentityMissing):
        pass
    else:
        if not header.sealed:
            raise errors.NothingToDo("the repository is plain: who gets at it can read it")
        raise errors.NothingToDo("you can read this repository already", hint="dorky pull")
    identity, made = identities.own(project.config)
    source = str(project.config.identity_path) if made else ""
    request = JoinRequest(name=name, key=identities.describe(identity.public, source))
    _ask(driver, header, request)
    return request


def requests_by(project: Project, name: str) -> list[JoinRequest]:
    """Return the requests to join under a name."""
    with ensure_set_up(project):
        return [
            request
            for request in requests.waiting(project, fetch_root(project))
            if request.name == name
        ]


# --- adding ----------------------------------------------------------------------------


def add(
    project: Project, name: str, access: str, *, passphrase: str = "", new: bool = False
) -> MemberInfo:
    """Add a member, or give a member another key.

    Args:
        project: The project.
        name: The member's name.
        access: ``age1…``, ``ssh-…``, ``@FILE`` of such keys, ``passphrase``, ``awskms:ARN``.
        passphrase: The passphrase, if ``access`` is ``passphrase``.
        new: Whether to refuse another key for somebody who is on the team already.

    Raises:
        NothingToDo: The member has that key already.
        Conflict: The key is another member's, or the name is taken and was to be new.
    """
    roster.check_name(name, "member")
    with ensure_set_up(project):
        made: list[Access] = []

        def admit(_: Remote, seen: RootSnapshot, opened: Vault) -> RootChange:
            if not made:
                made.append(_access(project, access, passphrase))
            if new and any(member.name == name for member in seen.root.roster.members):
                raise errors.Conflict(
                    f"there is a {name} on the team already", hint="dorky team list"
                )
            return _admit(seen, opened, name, made[0])

        remote = change_keys(project, admit)
        # A member who may write need not be allowed to delete.
        with contextlib.suppress(errors.AccessError, errors.Unavailable):
            remote.driver.delete(map(_place, made[0].recipients))
        left = [other for other in project.database.text("requests").split() if other != name]
        project.database.set("requests", " ".join(left).encode())
        return _reader(project, roster.member(project.roster, name))


def _access(project: Project, access: str, passphrase: str) -> Access:
    if access == "passphrase":
        return by_passphrase(passphrase)
    if access.startswith("awskms:"):
        return by_kms(access, project.header.repository)
    if access.startswith("@"):
        path = files.expanded(access[1:])
        with files.disk_errors(path):
            text = path.read_text("utf-8", errors="replace")
        return Access(tuple(age.recipients(text)))
    return Access((age.recipient(access),))


def generate_ci_key(project: Project, name: str) -> Generated:
    """Make a key for a CI job and add the job to the team.

    The secret part is in the result alone.
    """
    made = age.generate()
    add(project, name, made.public, new=True)
    return Generated(key=identities.describe(made.public), secret=made.secret, member=name)


# --- removing --------------------------------------------------------------------------


def remove(
    project: Project,
    name: str,
    *,
    key: str = "",
    all_history: bool = False,
    dry_run: bool = False,
    lock_out: bool = False,
) -> Rotation:
    """Remove a member's access, and make new keys for those who stay.

    Args:
        project: The project.
        name: The member's name.
        key: The fingerprint of the one key of the member to remove, or ``unused`` for all that
            can't be used; by default the member is removed.
        all_history: Whether to re-encrypt old revisions, too.
        dry_run: Whether to report only what the member can read.
        lock_out: Whether the user may lose all access.

    Raises:
        NoSuchMember: There is no member of that name.
        NotFound: The member has no such key.
        ForeignGroup: The member belongs to a group that the user is not in and whose key the user
            so can't renew.
        WouldLockOut: The user would have no access any more.
        UsageError: Nobody would have access any more.
    """
    with ensure_set_up(project):
        exposed: list[Exposure] = []
        out: list[bool] = []
        rest: list[str] = []

        def remove(known: Roster, opened: Vault) -> tuple[Roster, set[str]]:
            leaver = roster.member(known, name)
            going = _chosen(known, leaver, key)
            left = tuple(recipient for recipient in leaver.recipients if recipient not in going)
            rest[:] = left
            stay = roster.drop(known, name)
            if left:
                stay = roster.put(known, msgspec.structs.replace(leaver, recipients=left))
            heirs = roster.recipients(stay, ALL)
            if not heirs:
                raise errors.UsageError(
                    "nobody would be left who can read this repository",
                    hint="dorky destroy deletes it",
                )
            out[:] = [project.publics.isdisjoint(heirs)]
            if out[0] and not (lock_out or dry_run):
                raise errors.WouldLockOut(name)
            groups = roster.keyed(known) & {ALL, *leaver.groups}
            # A key that is malformed was never encrypted to, in any group.
            sound = not all(map(age.problem, going))
            if not sound:
                groups = {ALL}
            for group in groups - opened.groups:
                # A group that nobody is left in has no member who could renew its key.
                if roster.readers(stay, group):
                    raise errors.ForeignGroup(name, roster.name_of(known, group))
            groups &= opened.groups
            exposed[:] = exposures_of_groups(project, groups) if sound else []
            return stay, groups

        done = begin_epochs(
            project, remove, all_history=all_history, dry_run=dry_run, lock_out=lock_out
        )
        return msgspec.structs.replace(
            done,
            removed=name,
            key=key if rest else "",
            exposed=tuple(exposed),
            locked_out=out[0],
        )


def rotate(project: Project, *, all_history: bool = False) -> Rotation:
    """Renew the keys of everybody's group and of every group that the user is in."""
    with ensure_set_up(project):
        return begin_epochs(
            project,
            lambda known, opened: (known, opened.groups & roster.keyed(known)),
            all_history=all_history,
        )


def begin_epochs(
    project: Project,
    choose: Callable[[Roster, Vault], tuple[Roster, Collection[str]]],
    *,
    all_history: bool = False,
    dry_run: bool = False,
    lock_out: bool = False,
) -> Rotation:
    """Begin new epochs and re-encrypt.

    Args:
        project: The project.
        choose: Gives the new roster, and the groups whose keys are renewed.
        all_history: See `remote_rotate.reseal`.
        dry_run: Whether to only choose.
        lock_out: Whether the user may leave.
    """
    chosen: set[str] = set()
    did: list[tuple[remote_rotate.Resealed, list[JoinRequest]]] = []

    def change(remote: Remote, seen: RootSnapshot, opened: Vault) -> RootChange | None:
        known, groups = choose(seen.root.roster, opened)
        chosen.clear()
        chosen.update(groups)
        if dry_run:
            return None
        header = seen.header
        for group in sorted(groups):
            heirs = roster.recipients(known, group)
            if not heirs:
                what = roster.name_of(known, group)
                raise errors.UsageError(
                    f"nobody would be left in the group {what}",
                    hint=f"first: dorky group members {what} --add NAME",
                )
            header, opened = vault.begin_epoch(header, opened, group, heirs)
        heirs_of_all = set(roster.recipients(known, ALL))
        locked = tuple(secret for secret in header.locked if secret.recipient in heirs_of_all)
        # The member who leaves knows the old mailbox's secret key.
        mailbox = age.generate()
        header = msgspec.structs.replace(header, locked=locked, mailbox=mailbox.public)
        waiting: list[JoinRequest] = []
        with contextlib.suppress(errors.AccessError):
            waiting = requests.waiting(project, remote)
        resealed = remote_rotate.reseal(
            remote, seen, opened, groups, all_history=all_history, progress=project.progress
        )
        did[:] = [(resealed, waiting)]
        changes = {**resealed.changes, "roster": known, "mailbox": mailbox.secret}
        if lock_out and project.publics.isdisjoint(heirs_of_all):
            # The user leaves: the new keys are used once more, for the swap.
            project.keyring.adopt(header, opened)
        return RootChange(header, changes, resealed.sent)

    remote = change_keys(project, change)
    known = project.roster
    done = Rotation(
        groups=tuple(sorted(roster.name_of(known, group) for group in chosen)),
        fingerprint=project.vault.fingerprint,
        skipped=tuple(group.name for group in group_infos(project, known) if not group.yours),
        unused=_unused(known),
    )
    if dry_run:
        return done
    resealed, waiting = did[0]
    for request in waiting:
        _ask(remote.driver, project.header, request)
    delete(remote, resealed.changes["condemned"])
    return msgspec.structs.replace(
        done, objects=resealed.objects, size=resealed.size, kept=resealed.kept, done=True
    )


def current_member(project: Project, known: Roster) -> Member | None:
    """Return the member who holds one of the user's keys; None if nobody does."""
    return roster.me(known, project.publics)


def other_member(project: Project, known: Roster, name: str) -> Member:
    """Return the member of that name, who is to be removed.

    Raises:
        NoSuchMember: There is none.
        UsageError: The member is the user.
    """
    found = roster.member(known, name)
    if found == current_member(project, known):
        raise errors.UsageError("you can't remove yourself", hint="ask another member to do it")
    return found


def exposures_of_groups(project: Project, groups: Collection[str]) -> list[Exposure]:
    """Return what the members of groups can read now: files, and the variables in them."""
    head = project.database.ref(f"{ORIGIN}/{MAIN}")
    trees = history.trees_of(project.store, head, groups)
    return exposures(
        project, {path: [entry] for path, entry in history.files_of(project.store, trees)}
    )


def exposures(project: Project, found: Mapping[str, Iterable[Entry]]) -> list[Exposure]:
    """Return files, and the variables that each of them holds or has held."""
    telling = {
        path: [entry for entry in entries if entry.size < model.MiB]
        for path, entries in found.items()
        if documents.syntax_of(path) == documents.Syntax.DOTENV
    }
    held = itertools.chain.from_iterable(telling.values())
    fetch_missing(project, checkout.needed(project.store, held))
    exposed = []
    for path in sorted(found):
        names: dict[str, str] = {}
        for entry in telling.get(path, ()):
            data = b"".join(checkout.read(project.store, entry))
            with contextlib.suppress(errors.UsageError):
                names.update(documents.parse(path, data).items())
        exposed.append(Exposure(path=path, variables=tuple(names)))
    return exposed


# --- the swap --------------------------------------------------------------------------


def change_keys(
    project: Project, change: Callable[[Remote, RootSnapshot, Vault], RootChange | None]
) -> Remote:
    """Replace the remote's root by what ``change`` makes of it, and update `.dorkyrc` to match.

    Args:
        project: The project.
        change: Gives the replacement, or None for no change; called again if somebody else was
            faster.

    Raises:
        UsageError: The repository is unencrypted: it has no keys.
        ServerBusy: Others were faster, again and again.
    """
    try:
        remote = fetch_root(project)
    except errors.NoRepositoryAtURL as error:
        # The repository was started locally and is not in the remote yet.
        hint = "dorky push" if project.database.ref(MAIN) else None
        raise errors.NoRepositoryAtURL(*error.args, hint=hint) from None
    for _ in range(_ATTEMPTS):
        seen = remote.seen
        assert seen is not None
        if not seen.header.sealed:
            raise errors.UsageError("a plain repository has no keys, and so no team")
        following = change(remote, seen, project.unlock(seen.header))
        if following is None:
            return remote
        before = seen.root.roster
        after = following.changes.get("roster", before)
        heirs = roster.recipients(after, ALL)
        leaves = project.keyring.opened(following.header) is not None
        if project.publics.isdisjoint(heirs) and not leaves:
            raise errors.UsageError("no key of yours would be used", hint="dorky team list")
        roster.check_room(before, after)
        vault.check_room(seen.header, following.header)
        known = roster.sealed(before, after, project.unlock(following.header))
        root = roots.successor(seen.root, **{**following.changes, "roster": known})
        try:
            won = remote.swap(following.header, root)
        except errors.PreconditionFailed:
            project.unlock(seen.header)
            delete(remote, [sent.pack.id for sent in following.sent])
            remote_fetch.fetch(remote, project.progress)
            continue
        except BaseException:
            # Return to the known header: new keys that nobody else ever sees must not be used.
            project.unlock(seen.header)
            raise
        try:
            remember(remote, won, following.sent, project.progress)
        except errors.AccessError:
            # Other swaps have followed, and the user has just left the team.
            if not leaves:
                raise
        _pin(project)
        return remote
    raise errors.ServerBusy(remote.url, "others keep changing it")


def _pin(project: Project) -> None:
    """Make `.dorkyrc` commit to the newest key."""
    if project.config.text("repository.id"):
        fingerprint = project.vault.fingerprint
        if project.config.text("repository.fingerprint") != fingerprint:
            project.config.set("repository.fingerprint", fingerprint, scope="project")


def described(known: Roster, group: Group, own: Collection[str]) -> GroupInfo:
    """Return a group as a member of the groups ``own`` sees it."""
    return GroupInfo(
        name=group.name,
        patterns=group.patterns,
        members=tuple(member.name for member in roster.readers(known, group.id)),
        yours=group.id in own,
        overlaps=tuple(
            Overlap(pattern=mine, group=other.name, other=theirs)
            for mine in group.patterns
            for other in known.groups
            for theirs in (other.patterns if other.id != group.id else ())
            if placement.overlap(mine, theirs)
        ),
    )


def _chosen(known: Roster, member: Member, key: str) -> set[str]:
    """Return the public keys of a member that a fingerprint (or the key itself) means.

    Without one, all of the member's keys are meant.

    Raises:
        NotFound: The member has no such key.
    """
    problems = roster.unused(known)
    found = {
        each
        for each in member.recipients
        if key in {"", each, identities.describe(each, problem=problems.get(each, "")).fingerprint}
        or (key == UNUSED and each in problems)
    }
    if not found:
        raise errors.NotFound(f"{member.name} has no key {key}", hint="dorky team list")
    return found


def _unused(known: Roster) -> tuple[Unused, ...]:
    """Return the keys of members that nothing is encrypted to."""
    problems = roster.unused(known)
    return tuple(
        Unused(
            member=member.name,
            fingerprint=identities.describe(key, problem=problems[key]).fingerprint,
            problem=problems[key],
        )
        for member in known.members
        for key in member.recipients
        if key in problems
    )


def _place(recipient: str) -> str:
    """Return where the request of a recipient lies.

    Each key has one place, and the place does not reveal the key.
    """
    return requests.JOIN + hashlib.sha256(recipient.encode()).hexdigest()[:32]


def _ask(driver: Driver, header: Header, request: JoinRequest) -> None:
    """Put a request to join into the remote, readable by members only."""
    body = model.encode(Request(request.name, request.key.recipient))
    driver.put(_place(request.key.recipient), age.wrap(body, [header.mailbox]))


def _check_locked(locked: Sequence[Locked]) -> None:
    """Refuse more secret keys in a repository than a reader tries to unlock.

    Raises:
        UsageError: There are too many.
    """
    tried = sum(age.work(secret.data) for secret in locked if secret.kind == "passphrase")
    if tried > 1 << age.MOST_WORK or len(locked) > model.LOCKED:
        most = 1 << (age.MOST_WORK - age.WORK)
        raise errors.UsageError(
            f"a repository has at most {most} passphrases, "
            f"and {model.LOCKED} passphrases and KMS keys together",
            hint="dorky team list",
        )


def _admit(seen: RootSnapshot, opened: Vault, name: str, access: Access) -> RootChange:
    """Return the root with a new member, or with another key for a member."""
    known = seen.root.roster
    held = {key: member.name for member in known.members for key in member.recipients}
    for key in access.recipients:
        if held.get(key, name) != name:
            raise errors.Conflict(f"that key is {held[key]}'s already", hint="dorky team list")
    new = [key for key in access.recipients if key not in held]
    if not new:
        raise errors.NothingToDo(f"{name} has that key already", hint="dorky team list")
    before = next((member for member in known.members if member.name == name), Member(name, ()))
    alive = roster.keyed(known)
    for group in alive.intersection(before.groups) - opened.groups:
        # Otherwise the new key would open less than the member's other keys do.
        raise errors.ForeignGroup(name, roster.name_of(known, group))
    member = msgspec.structs.replace(before, recipients=(*before.recipients, *new))
    known = roster.put(known, member)
    header = seen.header
    if access.locked:
        _check_locked((*header.locked, access.locked))
        header = msgspec.structs.replace(header, locked=(*header.locked, access.locked))
    for group in alive.intersection((ALL, *member.groups)):
        header = vault.wrap_anew(header, opened, group, roster.recipients(known, group))
    return RootChange(header, {"roster": known})
