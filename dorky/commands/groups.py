"""Groups of readers: files that only some members of the team can read.

A group's files are encrypted with the group's own key, names included, and lie in a tree of their
own in each commit. A member who is not in the group carries that tree forward unchanged.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from dorky import errors
from dorky.commands.checkout import attached_head, follow_claims
from dorky.commands.inspect import fetch_missing
from dorky.commands.sync import ensure_set_up, fetch_root
from dorky.commands.team import (
    RootChange,
    begin_epochs,
    change_keys,
    current_member,
    described,
    exposures_of_groups,
    group_infos,
    other_member,
)
from dorky.format.model import Entry, Group, Member, ObjectId, Roster
from dorky.keys import placement, roster, vault
from dorky.keys.placement import fold
from dorky.keys.vault import Vault
from dorky.paths import parents
from dorky.project import ORIGIN, Project
from dorky.remote import push
from dorky.remote.journal import Sent
from dorky.remote.root import Remote, RootSnapshot
from dorky.results import Exposure, GroupChange, GroupInfo, Moved, Rotation
from dorky.store import history
from dorky.store.history import MAIN, Placed
from dorky.worktree import checkout, ingest, staging


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

    Args:
        project: The project.
        name: The group's name.
        patterns: The files (see `placement`), from the project's root.
        members: The members of the group; the user alone if none are given.
        dry_run: Whether to report only who would gain and lose access to what.

    Raises:
        Conflict: There are commits that are not pushed or not pulled, changes to the files that
            move, or patterns that overlap those of another group.
    """
    roster.check_name(name, "group")
    wanted = roster.check_patterns([project.repository_path(pattern) for pattern in patterns])
    names = list(dict.fromkeys(members))

    def add(known: Roster) -> tuple[Roster, str]:
        me = current_member(project, known)
        assert me is not None
        old = roster.find(known, name)
        if old is None and names and me.name not in names:
            raise errors.UsageError("you would lock yourself out", hint=f"add --member {me.name}")
        made = old or Group(secrets.token_hex(8), name, ())
        held = {fold(pattern) for pattern in made.patterns}
        both = (*made.patterns, *(pattern for pattern in wanted if fold(pattern) not in held))
        known = roster.put_group(known, msgspec.structs.replace(made, patterns=both))
        for member in names or ([] if old else [me.name]):
            known = _join(known, member, made.id)
        return known, made.id

    return _regroup(project, add, dry_run=dry_run)


def remove(
    project: Project, name: str, patterns: Sequence[str] = (), *, dry_run: bool = False
) -> GroupChange:
    """Give a group's files, or those that patterns select, to everybody.

    Args:
        project: The project.
        name: The group's name.
        patterns: Some of the group's patterns; all of them if none are given.
        dry_run: Whether to report only who would gain and lose access to what.
    """
    wanted = roster.check_patterns([project.repository_path(pattern) for pattern in patterns])

    def remove(known: Roster) -> tuple[Roster, str]:
        old = roster.group(known, name)
        held = {fold(pattern) for pattern in old.patterns}
        for pattern in wanted:
            if fold(pattern) not in held:
                raise errors.NotFound(
                    f"the group {name} has no pattern {pattern}", hint="dorky group list"
                )
        ended = {fold(pattern) for pattern in wanted} or held
        left = tuple(pattern for pattern in old.patterns if fold(pattern) not in ended)
        for member in roster.readers(known, old.id) if not left else ():
            known = _leave(known, member, old.id)
        return roster.put_group(known, msgspec.structs.replace(old, patterns=left)), old.id

    return _regroup(project, remove, dry_run=dry_run)


def change_members(
    project: Project, name: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()
) -> tuple[GroupInfo, Rotation | None]:
    """Add members of the team to a group, or take its files away from some.

    Returns:
        The group, and the rotation that a removal caused.

    Raises:
        ForeignGroup: The user is not in the group.
    """
    coming, leaving = list(dict.fromkeys(add)), list(dict.fromkeys(remove))
    with ensure_set_up(project):
        done = None
        if leaving:
            done = _put_out(project, name, leaving, coming)
        elif coming:
            change_keys(project, lambda _, seen, opened: _let_in(seen, opened, name, coming))
        else:
            fetch_root(project)
        known = project.roster
        return described(known, roster.group(known, name), project.vault.groups), done


def _let_in(seen: RootSnapshot, opened: Vault, name: str, coming: Sequence[str]) -> RootChange:
    known = seen.root.roster
    group = roster.group(known, name)
    _check_in(group, opened)
    for newcomer in coming:
        known = _join(known, newcomer, group.id)
    if known == seen.root.roster:
        raise errors.NothingToDo(f"{', '.join(coming)}: in {name} already")
    heirs = roster.recipients(known, group.id)
    return RootChange(vault.wrap_anew(seen.header, opened, group.id, heirs), {"roster": known})


def _put_out(
    project: Project, name: str, leaving: Sequence[str], coming: Sequence[str]
) -> Rotation:
    exposed: list[Exposure] = []

    def leave(known: Roster, opened: Vault) -> tuple[Roster, set[str]]:
        group = roster.group(known, name)
        _check_in(group, opened)
        for newcomer in coming:
            known = _join(known, newcomer, group.id)
        for leaver in leaving:
            if group.id not in roster.member(known, leaver).groups:
                raise errors.NotFound(f"{leaver} is not in the group {name}")
            member = other_member(project, known, leaver)
            known = _leave(known, member, group.id)
        exposed[:] = exposures_of_groups(project, {group.id})
        return known, {group.id}

    done = begin_epochs(project, leave, all_history=False)
    return msgspec.structs.replace(done, removed=", ".join(leaving), exposed=tuple(exposed))


def _check_in(group: Group, opened: Vault) -> None:
    if group.id not in opened.groups:
        raise errors.NotInGroup(group.name)


# --- moving files ----------------------------------------------------------------------


def _regroup(
    project: Project, choose: Callable[[Roster], tuple[Roster, str]], *, dry_run: bool
) -> GroupChange:
    """Change which files belong to a group, and move those that are committed.

    Args:
        project: The project.
        choose: Gives the new roster, and the id of the group that changes.
        dry_run: Whether to plan only.
    """
    with ensure_set_up(project):
        head = attached_head(project)
        did: list[tuple[str, GroupChange, dict[str, _Moving]]] = []

        def change(remote: Remote, seen: RootSnapshot, opened: Vault) -> RootChange | None:
            before = seen.root.roster
            known, group = choose(before)
            header = seen.header
            _check_up_to_date(project, known, head, opened)
            # Anyone can end a group that has no readers left: ending it reveals nothing.
            if header.newest(group) and roster.readers(before, group):
                _check_in(next(g for g in known.groups if g.id == group), opened)
            _check_apart(before, known, group)
            if known == before:
                raise errors.NothingToDo("the group is like that already")
            # Look at every head: a file that stays in one of them still counts as everybody's.
            moves = {
                ref: _moves(project, before, known, commit, {*opened.groups, group})
                for ref, commit in seen.root.refs.items()
            }
            if moves.get(MAIN):
                _check_settled(project, moves[MAIN])
            plan = _regrouping(before, known, group, moves)
            matching = _count(project, known, group, head, moves.get(MAIN, {}))
            plan = msgspec.structs.replace(plan, files=matching)
            did[:] = [(group, plan, {})]
            if dry_run:
                return None
            heirs = roster.recipients(known, group)
            if header.newest(group):
                # Former readers of a group that ends keep reading its history.
                if heirs:
                    header = vault.wrap_anew(header, opened, group, heirs)
            else:
                header, opened = vault.begin_epoch(header, opened, group, heirs)
            project.unlock(header)
            made = {
                ref: _move(project, seen.root.refs[ref], moves[ref]) for ref in moves if moves[ref]
            }
            if not made:
                return RootChange(header, {"roster": known})
            did[:] = [(group, plan, made)]
            sent: list[Sent] = []
            fresh = push.unlisted(remote, seen, [moving.commit for moving in made.values()], known)
            changes = push.upload(remote, opened, seen.root, fresh, sent, project.progress)
            refs = {**seen.root.refs, **{ref: moving.commit for ref, moving in made.items()}}
            return RootChange(header, {**changes, "roster": known, "refs": refs}, sent)

        change_keys(project, change)
        ((group, plan, made),) = did
        if dry_run:
            return plan
        moving = made.get(MAIN)
        _follow(project, head, group, moving)
        commit = moving.commit if moving else None
        return msgspec.structs.replace(plan, done=True, commit=commit)


def _check_up_to_date(
    project: Project, known: Roster, head: ObjectId | None, opened: Vault
) -> None:
    """Refuse to change who reads what while some work is not shared.

    Raises:
        Conflict: There are commits that are not pushed or not pulled.
        NotPulled: There are files of a group that the user has joined since the last pull.
    """
    if head != project.database.ref(f"{ORIGIN}/{MAIN}"):
        raise errors.Conflict(
            "there are commits that are not pushed, or not pulled",
            hint="dorky sync, then run the command again",
        )
    for group in history.trees_of(project.store, head, opened.groups - project.index.groups):
        raise errors.NotPulled(roster.name_of(known, group))


def _moves(
    project: Project, old: Roster, new: Roster, commit: ObjectId, own: set[str]
) -> dict[str, _Move]:
    """Return the files of a head that change groups.

    Only a file in its owner's tree counts and so moves. Contested files stay where they are.

    Raises:
        ForeignGroup: A file would move into a group that the user is not in.
    """
    source_of, target_of = placement.owner(old), placement.owner(new)
    found: dict[str, _Move] = {}
    for source, tree in history.trees_of(project.store, commit).items():
        for path, entry in history.files_of(project.store, {source: tree}):
            target = target_of(path)
            if source_of(path) != source or target in {source, None}:
                continue
            assert target is not None
            if target not in own:
                raise errors.ForeignGroup(path, roster.name_of(new, target))
            found[path] = _Move(source, target, entry)
    return found


def _check_settled(project: Project, paths: Iterable[str]) -> None:
    """Refuse to move files that have been changed and not committed.

    Raises:
        Conflict: There are such files.
    """
    changed = {
        change.path for change in staging.staged(project.store, project.index, project.index.rows())
    }
    for path in sorted(changed.intersection(paths)):
        raise errors.Conflict(f"changes to {path} are staged", hint="commit or unstage them first")


def _count(
    project: Project, known: Roster, group: str, head: ObjectId | None, moves: Mapping[str, _Move]
) -> int:
    """Count the committed files that a group is going to have."""
    owner_of = placement.owner(known)
    return sum(
        owner_of(path) == group and (source == group or path in moves)
        for source, tree in history.trees_of(project.store, head).items()
        for path, _ in history.files_of(project.store, {source: tree})
    )


def _move(project: Project, head: ObjectId, moves: Mapping[str, _Move]) -> _Moving:
    """Commit files into the trees of their new groups."""
    fetch_missing(project, checkout.needed(project.store, (move.entry for move in moves.values())))
    trees = history.read_commit(project.store, head).trees
    opened = history.trees_of(project.store, head)
    coming = {(move.target, path) for path, move in moves.items()}
    coming |= {(group, above) for group, path in coming for above in parents(path)}
    with project.store.writer() as writer:
        moved = {
            path: ingest.regroup(project.store, writer, move.entry, move.target, source=move.source)
            for path, move in moves.items()
        }
        placed = [
            (path, moves[path].target, moved[path])
            if path in moves and moves[path].source == source
            else (path, source, entry)
            for source, tree in opened.items()
            for path, entry in history.files_of(project.store, {source: tree})
            # An entry that does not count gives way to one that does.
            if (source, path) not in coming
            and not any(above in moves and (source, above) in coming for above in parents(path))
        ]
        own = staging.write_placed(placed, writer, opened.keys())
        sealed = {other: trees[other] for other in trees.keys() - project.vault.groups}
        count = "1 file" if len(moves) == 1 else f"{len(moves):,} files"
        commit = history.add_commit(
            writer,
            {**own, **sealed},
            [head],
            author=project.author,
            message=f"Change who can read {count}",
        )
        writer.save()
    return _Moving(commit, {path: Placed(moves[path].target, moved[path]) for path in moved})


def _follow(project: Project, head: ObjectId | None, group: str, made: _Moving | None) -> None:
    """Update the index and ``main`` to follow files that have changed groups."""
    rows = project.index.rows()
    clean = project.index.commit == head
    name = roster.name_of(project.roster, group)
    with project.operation(f"group {name}"), project.database.transaction():
        if made:
            project.database.set_ref(MAIN, made.commit)
            project.index.put(
                staging.moved(rows[path], placed, project.vault)
                for path, placed in made.entries.items()
                if path in rows
            )
            if clean:
                project.index.commit = made.commit
        project.index.groups = project.index.groups | {group}
        clean = project.index.commit is not None
        follow_claims(project, made.commit if made else head)
        if clean:
            project.index.commit = made.commit if made else head


class _Move(NamedTuple):
    """A committed file that moves from one group's tree to another's."""

    source: str
    target: str
    entry: Entry


class _Moving(NamedTuple):
    """The result of committing files for other groups."""

    commit: ObjectId
    entries: dict[str, Placed]


def _check_apart(old: Roster, new: Roster, group: str) -> None:
    """Refuse new patterns of a group that overlap those of another.

    Raises:
        Conflict: A pattern overlaps.
    """
    before = {pattern for each in old.groups if each.id == group for pattern in each.patterns}
    own = next(each for each in new.groups if each.id == group)
    for mine in own.patterns:
        for other in new.groups if mine not in before else ():
            for theirs in other.patterns if other.id != group else ():
                if placement.overlap(mine, theirs):
                    raise errors.Conflict(
                        f"{mine} overlaps {theirs} of the group {other.name}",
                        hint="a file belongs to one group: dorky group list",
                    )


def _regrouping(
    old: Roster, new: Roster, group: str, moves: Mapping[str, Mapping[str, _Move]]
) -> GroupChange:
    """Return who gains and who loses access to what."""
    gains: set[str] = set()
    loses: set[str] = set()
    moved = set()
    for path, move in (item for of_ref in moves.values() for item in of_ref.items()):
        before = {member.name for member in roster.readers(old, move.source)}
        after = {member.name for member in roster.readers(new, move.target)}
        gains |= after - before
        loses |= before - after
        names = (roster.name_of(old, move.source), roster.name_of(new, move.target))
        moved.add((path, *names))
    held = next(each for each in new.groups if each.id == group)
    if held.patterns and group in roster.keyed(old):
        inside = {member.name for member in roster.readers(old, group)}
        gains |= {member.name for member in roster.readers(new, group)} - inside
    return GroupChange(
        group=described(new, held, {group}),
        moved=tuple(Moved(path=path, old=was, new=now) for path, was, now in sorted(moved)),
        gains=tuple(sorted(gains)),
        loses=tuple(sorted(loses)),
    )


def _leave(known: Roster, member: Member, group: str) -> Roster:
    """Return the roster without a member in a group."""
    groups = tuple(held for held in member.groups if held != group)
    return roster.put(known, msgspec.structs.replace(member, groups=groups))


def _join(known: Roster, name: str, group: str) -> Roster:
    """Return the roster with a member in a group."""
    member = roster.member(known, name)
    groups = tuple(dict.fromkeys((*member.groups, group)))
    return roster.put(known, msgspec.structs.replace(member, groups=groups))
