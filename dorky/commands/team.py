"""Team: list members, add them, remove them, and renew keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec

from dorky import errors
from dorky.commands import access as accesses
from dorky.commands import requests, rotation
from dorky.commands.access import Access
from dorky.commands.exposures import exposures_of_groups
from dorky.commands.inspect import StrPath
from dorky.commands.root_change import RootChange, change_root, fetch_keyed_root, fetch_team
from dorky.commands.rotation import RotationPlan
from dorky.commands.upstream import ensure_set_up, fetch_root
from dorky.drivers.base import check_writable
from dorky.format import model
from dorky.format.model import ALL, Group, Header, Locked, Member, ObjectId, Role, Roster
from dorky.keys import age, identities, placement, roster, ssh, teamlog, vault
from dorky.keys.vault import Vault
from dorky.project import Project
from dorky.remote import root as roots
from dorky.remote.root import RootSnapshot
from dorky.results import (
    Exposures,
    Generated,
    GroupInfo,
    JoinRequest,
    MemberInfo,
    Overlap,
    Rotation,
    Team,
)
from dorky.store import history, outgoing

UNUSED = "unused"
"""The word for the fingerprints of all keys of a member that can't be used."""


# --- listing ---------------------------------------------------------------------------


def members(project: Project, path: StrPath = "") -> Team:
    """Return who may read, and who asks to.

    Arguments, results and errors are those of `Repository.team_list`.
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
            identities.describe(
                key, problem=unused.get(key, ""), signer=member.signers.get(key, "")
            )
            for key in member.recipients
        ),
        groups=tuple(group.name for group in alive),
        you=not project.publics.isdisjoint(member.recipients),
        how=next((locked[key] for key in member.recipients if key in locked), "key"),
        role=member.role,
    )


def group_infos(project: Project, known: Roster) -> tuple[GroupInfo, ...]:
    """Return the groups that have not ended."""
    own = project.vault.groups
    return tuple(described(known, group, own) for group in roster.living(known))


# --- requests --------------------------------------------------------------------------


def join(project: Project, name: str = "") -> JoinRequest:
    """Ask to join: put a request, encrypted to the members, into the remote.

    Arguments, results and errors are those of `Repository.team_join`.
    """
    name = roster.check_name(name or roster.suggest_name(project.author), "member")
    driver = project.driver()
    check_writable(driver)
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
        if header.sealed or _is_known(project, header, body, driver.url):
            raise errors.AlreadyAdmitted
    identity, made = identities.own(project.config)
    requests.ask(driver, header, name, identity, project.ask or age.nobody)
    source = str(project.config.identity_path) if made else ""
    return JoinRequest(name=name, key=identities.described(identity, source))


def _is_known(project: Project, header: Header, body: bytes, url: str) -> bool:
    """Return whether the user is on the team of an unencrypted repository."""
    root = roots.read_body(header, body, project.keyring.newest or project.vault, url)
    return roster.me(root.roster, project.keyring.publics) is not None


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
    project: Project,
    name: str,
    access: str,
    *,
    passphrase: str = "",
    new: bool = False,
    role: Role | None = None,
) -> MemberInfo:
    """Add a member, or give a member another key.

    Args:
        project: The project.
        name: The member's name.
        access: ``age1…`` (with the key that signs behind it), ``ssh-…``, ``@FILE`` of such keys,
            ``passphrase``, ``awskms:ARN``.
        passphrase: The passphrase, if ``access`` is ``passphrase``.
        new: Whether to refuse another key for somebody who is on the team already.
        role: What they may do; by default, who is new and can sign is a writer.

    Raises:
        NothingToDo: The member has that key already.
        Conflict: The key is another member's, or the name is taken and was to be new.
        UsageError: Nothing can be signed with the key, and the role is not that of a reader.
        NotWriter: The user does not administer the team.
    """
    roster.check_name(name, "member")
    with ensure_set_up(project):
        remote = fetch_team(project)
        repository = project.header.repository
        given = accesses.parse(access, passphrase=passphrase, repository=repository)

        def admit(seen: RootSnapshot, opened: Vault) -> tuple[RootChange, None]:
            return _admit(seen, opened, name, given, new=new, role=role), None

        change_root(project, remote, admit)
        requests.forget(project, remote, name, given.recipients)
        return _reader(project, roster.member(project.roster, name))


def generate_ci_key(project: Project, name: str, *, role: Role = "reader") -> Generated:
    """Make a key for a CI job and add the job to the team.

    Arguments, results and errors are those of `Repository.key_gen_ci`.
    """
    made = age.generate()
    key = identities.described(made)
    add(project, name, f"{key.recipient} {key.signer}", new=True, role=role)
    return Generated(key=key, secret=made.secret, member=name)


def set_role(project: Project, name: str, role: Role) -> MemberInfo:
    """Change what a member may do.

    Arguments, results and errors are those of `Repository.team_set_role`.
    """
    with ensure_set_up(project):

        def change(seen: RootSnapshot, _: Vault) -> tuple[RootChange, None]:
            member = roster.member(seen.root.roster, name)
            if member.role == role:
                raise errors.RoleHeldAlready(name, "an admin" if role == "admin" else f"a {role}")
            changed = msgspec.structs.replace(member, role=role)
            _check_role(changed)
            return RootChange(seen.header, {"roster": roster.put(seen.root.roster, changed)}), None

        change_root(project, fetch_team(project), change)
        return _reader(project, roster.member(project.roster, name))


def _check_role(member: Member) -> None:
    """Refuse to let somebody write who can't sign.

    Raises:
        UsageError: The member can't.
    """
    if member.role != "reader" and not teamlog.signing_keys(member):
        raise errors.CanOnlyRead(member.name)


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

    Arguments, results and errors are those of `Repository.team_remove`.
    """
    with ensure_set_up(project):

        def plan(known: Roster, opened: Vault) -> RotationPlan:
            return _plan_removal(project, known, opened, name, key, lock_out=lock_out or dry_run)

        if dry_run:
            fetch_keyed_root(project, change=False)
            return rotation.describe(project, plan(project.roster, project.vault))
        return rotation.rotate(
            project, plan, all_history=all_history, lock_out=lock_out, leaver=name
        )


def _plan_removal(
    project: Project, known: Roster, opened: Vault, name: str, key: str, *, lock_out: bool
) -> RotationPlan:
    """Plan the rotation that takes a member's keys, or one of them, out of the roster."""
    leaver = roster.member(known, name)
    going = _chosen(known, leaver, key)
    left = tuple(recipient for recipient in leaver.recipients if recipient not in going)
    stay = roster.drop(known, name)
    if left:
        stay = roster.put(known, teamlog.without(leaver, left))
    if not opened.sealed:
        return RotationPlan(stay, frozenset(), removed=name, key=key if left else "")
    heirs = roster.recipients(stay, ALL)
    if not heirs:
        raise errors.NobodyLeft
    locked_out = project.publics.isdisjoint(heirs)
    if locked_out and not lock_out:
        raise errors.WouldLockOut(name)
    # A key that is malformed was never encrypted to, in any group.
    sound = not all(map(age.problem, going))
    groups = roster.keyed(known) & {ALL, *leaver.groups} if sound else {ALL}
    for group in groups - opened.groups:
        # A group that nobody is left in has no member who could renew its key.
        if roster.readers(stay, group):
            raise errors.ForeignGroup(name, roster.name_of(known, group))
    groups &= opened.groups
    return RotationPlan(
        stay,
        frozenset(groups),
        removed=name,
        key=key if left else "",
        exposed=tuple(exposures_of_groups(project, groups)) if sound else (),
        locked_out=locked_out,
    )


def exposed(project: Project, name: str) -> Exposures:
    """Return the files that a member can read, or could read on leaving the team.

    Arguments, results and errors are those of `Repository.team_exposed`.
    """
    with ensure_set_up(project):
        fetch_root(project)
        member, left, head = _last_seen(project, name)
        groups = {ALL, *member.groups}
        if head is not None and head not in project.store:
            head = None  # purged; what is left of it is in the history of today
        return Exposures(
            name=name,
            left=left,
            files=tuple(exposures_of_groups(project, groups & project.vault.groups, head)),
            closed=tuple(
                sorted(
                    roster.name_of(project.roster, group) for group in groups - project.vault.groups
                )
            ),
        )


def _last_seen(project: Project, name: str) -> tuple[Member, datetime | None, ObjectId | None]:
    """Return a member as last on the team, when the member left, and the remote's head then."""
    team, found = teamlog.Team(), None
    for entry_id, entry in [*history.entries(project.store, project.team.id)][::-1]:
        if name in entry.left:
            found = team.members[name], entry.time, entry.head or None
        team = teamlog.extend(team, entry, entry_id, project.header.repository)
    if name in team.members:
        return team.members[name], None, None
    if found is None:
        raise errors.NoSuchMember(name)
    return found


def rotate(project: Project, *, all_history: bool = False) -> Rotation:
    """Renew the keys of everybody's group and of every group that the user is in."""
    with ensure_set_up(project):
        fetch_keyed_root(project)
        return rotation.rotate(
            project,
            lambda known, opened: RotationPlan(known, opened.groups & roster.keyed(known)),
            all_history=all_history,
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
        raise errors.OwnRemoval
    return found


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
        recipient
        for recipient in member.recipients
        if key in _names(member, recipient, problems.get(recipient, ""))
        or (key == UNUSED and recipient in problems)
    }
    if not found:
        raise errors.NoSuchKey(member.name, key)
    return found


def _names(member: Member, recipient: str, problem: str) -> set[str]:
    """Return what a user may call a key: itself, or a fingerprint of it or of what it signs with.

    An empty text means all keys.
    """
    names = {"", recipient, identities.describe(recipient, problem=problem).fingerprint}
    if signer := member.signers.get(recipient):
        both = identities.describe(recipient, problem=problem, signer=signer).fingerprint
        names |= {both, ssh.fingerprint(signer)}
    return names


def _check_locked(locked: Sequence[Locked]) -> None:
    """Refuse more secret keys in a repository than a reader tries to unlock.

    Raises:
        UsageError: There are too many.
    """
    tried = sum(age.work(secret.data) for secret in locked if secret.kind == "passphrase")
    if tried > 1 << age.MOST_WORK or len(locked) > model.LOCKED:
        most = 1 << (age.MOST_WORK - age.WORK)
        raise errors.TooManyKeys(
            f"A repository has at most {most} passphrases, "
            f"and {model.LOCKED} passphrases and KMS keys together"
        )


def _admit(
    seen: RootSnapshot,
    opened: Vault,
    name: str,
    access: Access,
    *,
    new: bool,
    role: Role | None,
) -> RootChange:
    """Return the root with a new member, or with another key for a member."""
    known = seen.root.roster
    if new and any(member.name == name for member in known.members):
        raise errors.MemberExists(name)
    held = {key: member.name for member in known.members for key in member.recipients}
    for key in access.recipients:
        if held.get(key, name) != name:
            raise errors.KeyTaken(held[key])
    fresh = [key for key in access.recipients if key not in held]
    if not fresh:
        raise errors.KeyHeldAlready(name)
    default: Role = "writer" if access.can_sign else "reader"
    before = next(
        (member for member in known.members if member.name == name), Member(name, (), role=default)
    )
    alive = roster.keyed(known)
    for group in alive.intersection(before.groups) - opened.groups:
        # Otherwise the new key would open less than the member's other keys do.
        raise errors.ForeignGroup(name, roster.name_of(known, group))
    member = msgspec.structs.replace(
        before,
        recipients=(*before.recipients, *fresh),
        signers={**before.signers, **access.signers},
        role=role or before.role,
    )
    _check_role(member)
    known = roster.put(known, member)
    header = seen.header
    if access.locked:
        if not header.sealed:
            raise errors.UsageError("An unencrypted repository has no keys for others to unlock")
        _check_locked((*header.locked, access.locked))
        header = msgspec.structs.replace(header, locked=(*header.locked, access.locked))
    for group in alive.intersection((ALL, *member.groups)) if header.sealed else ():
        header = vault.wrap_anew(header, opened, group, roster.recipients(known, group))
    return RootChange(header, {"roster": known})
