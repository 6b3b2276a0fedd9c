"""Members, groups, and the group that a path belongs to: who may read what.

The roster is in the encrypted body of the root. It is as authentic as the root, and anyone who can
only read the bucket learns no name from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from dorky import errors
from dorky.format.model import ALL, NAME, Group, Header, Member, Roster
from dorky.keys import placement
from dorky.paths import is_text

if TYPE_CHECKING:
    from dorky.keys.vault import Vault

KEYS = 16
"""The most public keys of one member that are used."""
GROUPS = 128
"""The most groups that a repository has, those that have ended included."""

GroupOf = Callable[[str], str]
"""Returns the id of the group that a path belongs to."""


def check_name(name: str, what: str) -> str:
    """Return a name if a member or group may have it.

    Raises:
        UsageError: The name is not allowed.
    """
    if not re.match(NAME, name) or (what == "group" and name == ALL):
        raise errors.BadName(what, ascii(name))
    return name


def suggest_name(author: str) -> str:
    """Return a member's name made from an author: ``ana-example`` from Ana Example <ana@…>."""
    plain = author.partition("<")[0].strip().lower()
    return re.sub(r"[^a-z0-9._]+", "-", plain).strip("-._")[:64] or "me"


# --- members --------------------------------------------------------------------------------


def member(roster: Roster, name: str) -> Member:
    """Return the member with a name.

    Raises:
        NoSuchMember: There is none.
    """
    for member in roster.members:
        if member.name == name:
            return member
    raise errors.NoSuchMember(name)


def me(roster: Roster, publics: Iterable[str]) -> Member | None:
    """Return the member who holds one of the keys; None if nobody does."""
    held = set(publics)
    return next((member for member in roster.members if held.intersection(member.recipients)), None)


def readers(roster: Roster, group: str) -> list[Member]:
    """Return the members of a group."""
    return [member for member in roster.members if group == ALL or group in member.groups]


def recipients(roster: Roster, group: str) -> list[str]:
    """Return the public keys that a group's key is wrapped to."""
    return [key for key, problem in _judged(roster, group) if not problem]


def unused(roster: Roster, group: str = ALL) -> dict[str, str]:
    """Return the keys of a group's readers that its key is not wrapped to, each with the reason.

    Any member can write any text into the roster as a member's key. Such a text must not stop the
    others from adding and removing members.
    """
    return {key: problem for key, problem in _judged(roster, group) if problem}


def _judged(roster: Roster, group: str) -> Iterator[tuple[str, str]]:
    """Yield the public keys of a group's readers, each with its problem, if any."""
    from dorky.keys import age

    taken, room = 0, age.ROOM
    for reader in readers(roster, group):
        held = 0
        for key in reader.recipients:
            problem = age.problem(key)
            if not problem and held == KEYS:
                problem = f"{reader.name} has more than {KEYS} keys"
            if not problem and (taken == age.RECIPIENTS or room < age.cost(key)):
                problem = "the team has more keys than a root has room for"
            if not problem:
                held, taken, room = held + 1, taken + 1, room - age.cost(key)
            yield key, problem


def check_room(before: Roster, after: Roster) -> None:
    """Refuse to add keys or groups that readers would not use.

    Raises:
        UsageError: A member would have too many keys, the team would, or there are too many
            groups.
    """
    held = {key for member in before.members for key in member.recipients}
    problems = unused(after)
    known = unused(before)
    if any(key not in held for member in after.members for key in member.recipients):
        for key in problems.keys() - known.keys():
            raise errors.TooManyKeys(f"No key can be added: {problems[key]}")
    if len(after.groups) > max(GROUPS, len(before.groups)):
        raise errors.TooManyGroups(GROUPS)


def put(roster: Roster, changed: Member) -> Roster:
    """Return the roster with a member added, or put in place of the one with the same name."""
    names = [member.name for member in roster.members]
    if changed.name in names:
        members = tuple(
            changed if member.name == changed.name else member for member in roster.members
        )
    else:
        members = (*roster.members, changed)
    return msgspec.structs.replace(roster, members=members)


def drop(roster: Roster, name: str) -> Roster:
    """Return the roster without a member."""
    members = tuple(member for member in roster.members if member.name != name)
    return msgspec.structs.replace(roster, members=members)


# --- groups ---------------------------------------------------------------------------------


def living(roster: Roster) -> list[Group]:
    """Return the groups that have not ended, which are those with patterns."""
    return [group for group in roster.groups if group.patterns]


def keyed(roster: Roster) -> set[str]:
    """Return the ids of the groups whose keys are renewed and wrapped: `ALL` and living ones."""
    return {ALL, *(group.id for group in living(roster))}


def find(roster: Roster, name: str) -> Group | None:
    """Return the living group with a name; None if there is none."""
    return next((group for group in living(roster) if group.name == name), None)


def group(roster: Roster, name: str) -> Group:
    """Return the living group with a name.

    Raises:
        NoSuchGroup: There is none.
    """
    found = find(roster, name)
    if found is None:
        raise errors.NoSuchGroup(name)
    return found


def name_of(roster: Roster, group_id: str) -> str:
    """Return the name of a group."""
    if group_id == ALL:
        return ALL
    return next((group.name for group in roster.groups if group.id == group_id), group_id)


def check_patterns(patterns: Sequence[str]) -> tuple[str, ...]:
    """Return patterns in the form that is kept: relative to the project, no slash at the end.

    Two spellings of one pattern become equal.

    Raises:
        UsageError: One is empty, absolute, or leaves the project.
    """
    found: dict[str, str] = {}
    for pattern in patterns:
        cleaned = pattern.removeprefix("./").rstrip("/")
        parts = cleaned.split("/")
        if {"", ".", ".."} & set(parts) or not is_text(cleaned):
            raise errors.BadPattern(ascii(pattern))
        found.setdefault(placement.fold(cleaned), cleaned)
    return tuple(found.values())


def put_group(roster: Roster, changed: Group) -> Roster:
    """Return the roster with a group added, or put in place of the one with the same id."""
    groups = tuple(group for group in roster.groups if group.id != changed.id)
    at = next((n for n, group in enumerate(roster.groups) if group.id == changed.id), len(groups))
    return msgspec.structs.replace(roster, groups=(*groups[:at], changed, *groups[at:]))


# --- what groups vouch for ------------------------------------------------------------------


def sealed(before: Roster, after: Roster, opened: Vault) -> Roster:
    """Return the roster with the user's groups authenticated by their keys.

    Everybody on the team can write a roster. So the facts that decide who gets a group's key and
    which files it closes are authenticated with that key: the group's name, patterns, version, and
    its members' names and keys are the additional data of an empty message.

    Args:
        before: The roster that is replaced.
        after: The new roster.
        opened: The keys, with the newest.
    """
    old = {group.id: group for group in before.groups}
    groups = []
    for group in after.groups:
        if group.id in opened.groups and not _vouched(after, group, opened):
            known = old.get(group.id)
            following = msgspec.structs.replace(group, version=(known.version if known else 0) + 1)
            what = _claims(after, following)
            seal = opened.close(b"", what, group=group.id)
            group = msgspec.structs.replace(following, seal=seal)  # noqa: PLW2901
        groups.append(group)
    return msgspec.structs.replace(after, groups=tuple(groups))


def check(header: Header, known: Roster, opened: Vault, seen: Roster, url: str) -> None:
    """Refuse a roster in which somebody outside a group of the user's has changed that group.

    Args:
        header: The root's header, which holds every group's keys.
        known: The roster.
        opened: The keys.
        seen: The roster that was seen before.
        url: Where the roster comes from, for messages.

    Raises:
        ForgedGroup: A group was not written by its members, is older than what was seen, or is
            missing.
    """
    _check_sound(known, url)
    ids = {group.id for group in known.groups}
    for missing in {epoch.group for epoch in header.epochs} - {ALL} - ids:
        raise errors.ForgedGroup(name_of(seen, missing), url)
    versions = {group.id: group.version for group in seen.groups}
    for group in known.groups:
        if group.id not in opened.groups:
            continue
        if not _vouched(known, group, opened) or group.version < versions.get(group.id, 0):
            raise errors.ForgedGroup(group.name, url)


def _check_sound(known: Roster, url: str) -> None:
    """Refuse a roster in which one member or group could pass for another."""
    held = [key for member in known.members for key in member.recipients]
    names = [member.name for member in known.members]
    living_names = [group.name for group in living(known)]
    for several in (held, names, living_names, [group.id for group in known.groups]):
        if len(set(several)) < len(several):
            raise errors.CorruptRoot(url, "its roster names a member or a group twice")


def _vouched(known: Roster, group: Group, opened: Vault) -> bool:
    from dorky.format.seal import SealBroken

    if opened.group_of(group.seal) != group.id:  # anybody could make one with the key of all
        return False
    try:
        return opened.open(group.seal, _claims(known, group), newest=True) == b""
    except SealBroken:
        return False


def _claims(known: Roster, group: Group) -> str:
    import json

    # Nobody gets the key of a group that has ended, so its members may come and go.
    readable = readers(known, group.id) if group.patterns else []
    members = sorted([member.name, *sorted(member.recipients)] for member in readable)
    claims = [group.id, group.name, list(group.patterns), group.version, members]
    return f"group\0{json.dumps(claims, separators=(',', ':'))}"
