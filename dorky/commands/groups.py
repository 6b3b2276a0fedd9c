"""Groups of readers: files that only some members of the team can read.

A group's files are encrypted with the group's own key, names included, and lie in a tree of their
own in each commit. A member who is not in the group carries that tree forward unchanged.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

import msgspec

from dorky import errors
from dorky.commands import rotation
from dorky.commands.exposures import exposures_of_groups
from dorky.commands.regroup import check_in, regroup
from dorky.commands.root_change import RootChange, change_root, fetch_keyed_root
from dorky.commands.rotation import RotationPlan
from dorky.commands.team import current_member, described, group_infos, other_member
from dorky.commands.upstream import ensure_set_up, fetch_root
from dorky.format.model import Group, Member, Roster
from dorky.keys import roster, vault
from dorky.keys.placement import fold
from dorky.keys.vault import Vault
from dorky.project import Project
from dorky.remote.root import RootSnapshot
from dorky.results import GroupChange, GroupInfo, Rotation


def list_groups(project: Project) -> list[GroupInfo]:
    """Return the groups as last fetched."""
    return list(group_infos(project, project.roster))


def add(
    project: Project,
    name: str,
    patterns: Sequence[str],
    members: Iterable[str] = (),
    *,
    dry_run: bool = False,
) -> GroupChange:
    """Encrypt files for a group: a new one, or one that already has other files.

    Arguments, results and errors are those of `Repository.group_add`.
    """
    roster.check_name(name, "group")
    wanted = roster.check_patterns([project.repository_path(pattern) for pattern in patterns])
    names = list(dict.fromkeys(members))

    def add(known: Roster) -> tuple[Roster, str]:
        me = current_member(project, known)
        assert me is not None
        old = roster.find(known, name)
        if old is None and names and me.name not in names:
            raise errors.OutsideOwnGroup(me.name)
        made = old or Group(secrets.token_hex(8), name, ())
        held = {fold(pattern) for pattern in made.patterns}
        both = (*made.patterns, *(pattern for pattern in wanted if fold(pattern) not in held))
        known = roster.put_group(known, msgspec.structs.replace(made, patterns=both))
        for member in names or ([] if old else [me.name]):
            known = _join(known, member, made.id)
        return known, made.id

    return regroup(project, add, dry_run=dry_run)


def remove(
    project: Project, name: str, patterns: Sequence[str] = (), *, dry_run: bool = False
) -> GroupChange:
    """Give a group's files, or those that patterns select, to everybody.

    Arguments, results and errors are those of `Repository.group_remove`.
    """
    wanted = roster.check_patterns([project.repository_path(pattern) for pattern in patterns])

    def remove(known: Roster) -> tuple[Roster, str]:
        old = roster.group(known, name)
        held = {fold(pattern) for pattern in old.patterns}
        for pattern in wanted:
            if fold(pattern) not in held:
                raise errors.NoSuchPattern(name, pattern)
        ended = {fold(pattern) for pattern in wanted} or held
        left = tuple(pattern for pattern in old.patterns if fold(pattern) not in ended)
        for member in roster.readers(known, old.id) if not left else ():
            known = _leave(known, member, old.id)
        return roster.put_group(known, msgspec.structs.replace(old, patterns=left)), old.id

    return regroup(project, remove, dry_run=dry_run)


def change_members(
    project: Project, name: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()
) -> tuple[GroupInfo, Rotation | None]:
    """Add members of the team to a group, or take its files away from some.

    Arguments, results and errors are those of `Repository.group_members`.
    """
    coming, leaving = list(dict.fromkeys(add)), list(dict.fromkeys(remove))
    with ensure_set_up(project):
        done = None
        if leaving:

            def plan(known: Roster, opened: Vault) -> RotationPlan:
                return _plan_removal(project, known, opened, name, leaving, coming)

            done = rotation.rotate(project, plan)
        elif coming:

            def let_in(seen: RootSnapshot, opened: Vault) -> tuple[RootChange, None]:
                return _let_in(seen, opened, name, coming), None

            change_root(project, fetch_keyed_root(project), let_in)
        else:
            fetch_root(project)
        known = project.roster
        return described(known, roster.group(known, name), project.vault.groups), done


def _let_in(seen: RootSnapshot, opened: Vault, name: str, coming: Sequence[str]) -> RootChange:
    known = seen.root.roster
    group = roster.group(known, name)
    check_in(group, opened)
    for newcomer in coming:
        known = _join(known, newcomer, group.id)
    if known == seen.root.roster:
        raise errors.NothingToDo(f"{', '.join(coming)}: in {name} already")
    heirs = roster.recipients(known, group.id)
    return RootChange(vault.wrap_anew(seen.header, opened, group.id, heirs), {"roster": known})


def _plan_removal(
    project: Project,
    known: Roster,
    opened: Vault,
    name: str,
    leaving: Sequence[str],
    coming: Sequence[str],
) -> RotationPlan:
    """Plan the rotation that takes members out of a group, and lets others in."""
    group = roster.group(known, name)
    check_in(group, opened)
    for newcomer in coming:
        known = _join(known, newcomer, group.id)
    for leaver in leaving:
        if group.id not in roster.member(known, leaver).groups:
            raise errors.NotFoundError(f"{leaver} is not in the group {name}")
        member = other_member(project, known, leaver)
        known = _leave(known, member, group.id)
    exposed = tuple(exposures_of_groups(project, {group.id}))
    return RotationPlan(known, frozenset({group.id}), removed=", ".join(leaving), exposed=exposed)


def _leave(known: Roster, member: Member, group: str) -> Roster:
    """Return the roster without a member in a group."""
    groups = tuple(held for held in member.groups if held != group)
    return roster.put(known, msgspec.structs.replace(member, groups=groups))


def _join(known: Roster, name: str, group: str) -> Roster:
    """Return the roster with a member in a group."""
    member = roster.member(known, name)
    groups = tuple(dict.fromkeys((*member.groups, group)))
    return roster.put(known, msgspec.structs.replace(member, groups=groups))
