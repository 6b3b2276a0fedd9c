"""The team log: who is on the team, in which role, and who has decided that.

The log is a chain of signed entries, one for each change of the team. An entry is valid only if an
administrator of the state before has signed it. So nobody else can change the members, the groups
or the keys, whatever they can write to. Everything here is a pure function of the entries.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from dorky.format import model
from dorky.format.model import (
    ALL,
    Begun,
    Group,
    Header,
    Member,
    ObjectId,
    Replaced,
    Role,
    Roster,
    TeamEntry,
)
from dorky.keys import signing, sshsig
from dorky.keys.sshsig import Namespace

_MAIN = "heads/main"


class Refused(ValueError):
    """An entry that is not valid after the one before it; the text says why."""


class Pin(NamedTuple):
    """An entry that a team log must have: its number and its id, as in `.dorkyrc`."""

    n: int
    id: str

    @classmethod
    def parse(cls, text: str) -> Pin:
        """Read ``N:ID``; raise ValueError if it is malformed."""
        found = re.fullmatch(r"([1-9]\d{0,9}):([0-9a-f]{64})", text)
        if found is None:
            raise ValueError("an entry of the team log is named by N:ID")
        return cls(int(found[1]), found[2])


class Team(NamedTuple):
    """The state after an entry.

    Attributes:
        n: The number of the entry; 0 before the first.
        id: Its id; empty before the first.
        members: The members, by name.
        groups: The groups, those that have ended included, by id; without versions and seals.
        epochs: Every key that was ever made, in the header's order.
        purges: Every history that was ever purged, the oldest first.
        names: Every signing key that was ever a writer's or an administrator's, with the name of
            its holder. Commits stay valid when their author leaves.
        insiders: Every signing key that was ever a member's of a group, by the group's id.
        roster: The SHA-256 of the roster.
        head: The commit that main named in the root that the entry replaced; empty if none.
    """

    n: int = 0
    id: str = ""
    members: Mapping[str, Member] = {}
    groups: Mapping[str, Group] = {}
    epochs: tuple[Begun, ...] = ()
    purges: tuple[Replaced, ...] = ()
    names: Mapping[str, str] = {}
    insiders: Mapping[str, tuple[str, ...]] = {}
    roster: str = ""
    head: str = ""

    @property
    def pin(self) -> str:
        """Return the newest entry as `.dorkyrc` names it."""
        return f"{self.n}:{self.id}" if self.n else ""

    def holder(self, key: str) -> Member | None:
        """Return the member who signs with a key; None if nobody does."""
        return next((one for one in self.members.values() if key in signing_keys(one)), None)

    def role(self, key: str) -> Role | None:
        """Return what the holder of a signing key may do; None if nobody holds it."""
        found = self.holder(key)
        return found.role if found else None

    def may_write(self, key: str) -> bool:
        """Return whether the holder of a signing key may write to the remote."""
        return self.role(key) in {"admin", "writer"}


def signing_keys(member: Member) -> tuple[str, ...]:
    """Return the keys that verify a member's signatures."""
    own = (key for key in member.recipients if key.startswith("ssh-"))
    return (*own, *member.signers.values())


def digest(roster: Roster) -> str:
    """Return the hash of a roster that entries hold."""
    return hashlib.sha256(model.encode(roster)).hexdigest()


def digest_of_refs(refs: Mapping[str, ObjectId]) -> str:
    """Return the hash of a root's refs that entries hold; empty if there are none.

    The refs themselves would be up to 184 KiB in each entry.
    """
    return (
        hashlib.sha256(msgspec.json.encode(refs, order="deterministic")).hexdigest() if refs else ""
    )


# --- reading --------------------------------------------------------------------------------


def extend(team: Team, entry: TeamEntry, entry_id: ObjectId, repository: str) -> Team:
    """Return the state after an entry.

    Args:
        team: The state before it.
        entry: The entry, from an untrusted source.
        entry_id: The id that its bytes have.
        repository: The repository's id.

    Raises:
        Refused: The entry is not valid in this place.
    """
    if (entry.n, entry.prev) != (team.n + 1, team.id):
        raise Refused(f"entry {entry.n} does not follow entry {team.n}")
    if not signing.is_signed(entry, Namespace.TEAM, repository):
        raise Refused(f"the signature of entry {entry.n} is not valid")
    after = _applied(team, entry, entry_id)
    # The first entry is its own authority: `.dorkyrc` pins it, or people compare it.
    if (team if team.n else after).role(entry.signer) != "admin" and not _is_leaving(team, entry):
        raise Refused(f"entry {entry.n} was not signed by an administrator of the team")
    return after


def replay(
    entries: Iterable[tuple[ObjectId, TeamEntry]], repository: str, start: Team | None = None
) -> Team:
    """Return the state after entries, the oldest first.

    Args:
        entries: The entries, with their ids.
        repository: The repository's id.
        start: The state before them, if they don't begin with the first.

    Raises:
        Refused: One of them is not valid in its place.
    """
    team = start or Team()
    for entry_id, entry in entries:
        team = extend(team, entry, entry_id, repository)
    return team


def _applied(team: Team, entry: TeamEntry, entry_id: ObjectId) -> Team:
    """Return the state after an entry, whoever has signed it.

    Raises:
        Refused: The state makes no sense.
    """
    members = dict(team.members)
    named = [*entry.left, *(member.name for member in entry.members)]
    if len(set(named)) < len(named):
        raise Refused(f"entry {entry.n} changes one member twice")
    for name in entry.left:
        if members.pop(name, None) is None:
            raise Refused(f"entry {entry.n} removes {name}, who is not on the team")
    members |= {member.name: member for member in entry.members}
    groups = {**team.groups, **_groups(entry)}
    _check_members(members.values(), groups, entry)
    names = {
        key: member.name
        for member in entry.members
        if member.role != "reader"
        for key in signing_keys(member)
    }
    return Team(
        entry.n,
        entry_id,
        members,
        groups,
        _epochs(team, entry, groups),
        (*team.purges, *entry.purges),
        {**team.names, **names},
        _insiders(team, entry),
        entry.roster,
        entry.head,
    )


def _insiders(team: Team, entry: TeamEntry) -> dict[str, tuple[str, ...]]:
    found = dict(team.insiders)
    for member in entry.members:
        for group in member.groups:
            held = found.get(group, ())
            found[group] = tuple(dict.fromkeys((*held, *signing_keys(member))))
    return found


def _groups(entry: TeamEntry) -> dict[str, Group]:
    found = {group.id: group for group in entry.groups}
    if len(found) < len(entry.groups) or ALL in found:
        raise Refused(f"entry {entry.n} changes one group twice")
    if any(group.version or group.seal for group in entry.groups):
        raise Refused(f"entry {entry.n} holds the seal of a group")
    return found


def _check_members(
    members: Iterable[Member], groups: Mapping[str, Group], entry: TeamEntry
) -> None:
    """Refuse a team in which a key could pass for two members', or that nobody administers."""
    keys: list[str] = []
    administered = False
    for member in members:
        keys += [*member.recipients, *member.signers.values()]
        if not set(member.groups) <= groups.keys():
            raise Refused(f"in entry {entry.n} {member.name} belongs to a group that is not")
        for recipient, signer in member.signers.items():
            if recipient not in member.recipients or not recipient.startswith("age1"):
                raise Refused(f"in entry {entry.n} {member.name} has a signing key of no key")
            if not signer.startswith("ssh-ed25519 ") or not _is_usable(signer):
                raise Refused(f"in entry {entry.n} {member.name} has a malformed signing key")
        if member.role == "admin" and any(map(_is_usable, signing_keys(member))):
            administered = True
    if len(set(keys)) < len(keys):
        raise Refused(f"entry {entry.n} gives one key to two members")
    living = [group.name for group in groups.values() if group.patterns]
    if len(set(living)) < len(living):
        raise Refused(f"entry {entry.n} gives one name to two groups")
    if not administered:
        raise Refused(f"entry {entry.n} leaves no administrator")


def _is_usable(key: str) -> bool:
    try:
        sshsig.check(key)
    except ValueError:
        return False
    return True


def _epochs(team: Team, entry: TeamEntry, groups: Mapping[str, Group]) -> tuple[Begun, ...]:
    epochs = (*team.epochs, *entry.epochs)
    if len({epoch.commitment for epoch in epochs}) < len(epochs):
        raise Refused(f"entry {entry.n} begins an epoch with an old key")
    if any(epoch.group != ALL and epoch.group not in groups for epoch in entry.epochs):
        raise Refused(f"entry {entry.n} begins an epoch of a group that is not")
    return epochs


def _is_leaving(team: Team, entry: TeamEntry) -> bool:
    """Return whether all that an entry does is to take away keys of the member who signed it."""
    holder = team.holder(entry.signer)
    if holder is None or entry.groups or entry.purges:
        return False
    if any(epoch.group not in {ALL, *holder.groups} for epoch in entry.epochs):
        return False
    if entry.left == (holder.name,) and not entry.members:
        return True
    if entry.left or len(entry.members) != 1:
        return False
    left = [key for key in holder.recipients if key in entry.members[0].recipients]
    return len(left) < len(holder.recipients) and entry.members[0] == without(holder, left)


def without(member: Member, left: Sequence[str]) -> Member:
    """Return a member with only those public keys that are left, and their signing keys."""
    signers = {key: signer for key, signer in member.signers.items() if key in left}
    return msgspec.structs.replace(member, recipients=tuple(left), signers=signers)


def check(team: Team, header: Header, roster: Roster) -> None:
    """Refuse a header and a roster that are not as the log says.

    Raises:
        Refused: They differ.
    """
    epochs = tuple(Begun(epoch.group, epoch.commitment) for epoch in header.epochs)
    if epochs != team.epochs:
        raise Refused("its keys are not those of the team log")
    if digest(roster) != team.roster or _differ(team, roster):
        raise Refused("its roster is not that of the team log")


def _differ(team: Team, roster: Roster) -> bool:
    members = {member.name: member for member in roster.members}
    groups = {group.id: _bare(group) for group in roster.groups}
    alike = members == team.members and groups == team.groups
    return not alike or len(members) < len(roster.members) or len(groups) < len(roster.groups)


def _bare(group: Group) -> Group:
    return msgspec.structs.replace(group, version=0, seal=b"")


# --- writing --------------------------------------------------------------------------------


def entry_for(
    team: Team,
    header: Header,
    roster: Roster,
    *,
    time: datetime,
    refs: Mapping[str, ObjectId],
    purges: Sequence[Replaced] = (),
) -> TeamEntry:
    """Return the entry, not signed yet, that makes the log agree with a header and a roster.

    Args:
        team: The state before it.
        header: The new header.
        roster: The new roster.
        time: The time, in UTC, to the second.
        refs: The refs of the root that is replaced.
        purges: The histories that the same change purges.
    """
    names = {member.name for member in roster.members}
    changed = (one for one in roster.members if team.members.get(one.name) != one)
    groups = map(_bare, roster.groups)
    return TeamEntry(
        n=team.n + 1,
        prev=team.id,
        time=time,
        members=tuple(changed),
        left=tuple(name for name in team.members if name not in names),
        groups=tuple(group for group in groups if team.groups.get(group.id) != group),
        epochs=tuple(
            Begun(epoch.group, epoch.commitment) for epoch in header.epochs[len(team.epochs) :]
        ),
        purges=tuple(purges),
        roster=digest(roster),
        head=refs.get(_MAIN, ""),
        refs=digest_of_refs(refs),
    )
