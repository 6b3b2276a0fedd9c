"""Regroup: change which files belong to a group, and move those that are committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from dorky import errors
from dorky.commands.checkout import attached_head, follow_claims
from dorky.commands.inspect import fetch_missing
from dorky.commands.root_change import RootChange, change_root, fetch_keyed_root
from dorky.commands.team import described
from dorky.commands.upstream import ensure_set_up
from dorky.format.model import Entry, Group, ObjectId, Roster
from dorky.keys import placement, roster, vault
from dorky.keys.vault import Vault
from dorky.paths import parents
from dorky.project import ORIGIN, Project
from dorky.remote import push
from dorky.remote.journal import Sent
from dorky.remote.root import HEAD, Remote, RootSnapshot
from dorky.results import GroupChange, Moved
from dorky.store import attestations, history
from dorky.store.history import ATTEST, MAIN, Placed
from dorky.worktree import checkout, ingest, staging


class _Move(NamedTuple):
    """A committed file that moves from one group's tree to another's."""

    source: str
    target: str
    entry: Entry


class _Plan(NamedTuple):
    """The change of a group.

    Attributes:
        roster: The new roster.
        group: The id of the group that changes.
        moves: The files of each head that move, by ref and path.
        change: The report of it.
    """

    roster: Roster
    group: str
    moves: dict[str, dict[str, _Move]]
    change: GroupChange


class _Moving(NamedTuple):
    """The result of committing files for other groups."""

    commit: ObjectId
    entries: dict[str, Placed]


def regroup(
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
        remote = fetch_keyed_root(project)
        if dry_run:
            assert remote.seen is not None
            return _plan(project, remote.seen, project.vault, head, choose).change

        def change(
            seen: RootSnapshot, opened: Vault
        ) -> tuple[RootChange, tuple[_Plan, _Moving | None]]:
            plan = _plan(project, seen, opened, head, choose)
            replacement, made = _carry_out(project, remote, seen, opened, plan)
            return replacement, (plan, made.get(HEAD))

        plan, moving = change_root(project, remote, change)
        _follow(project, head, plan.group, moving)
        return msgspec.structs.replace(
            plan.change, done=True, commit=moving.commit if moving else None
        )


def _plan(
    project: Project,
    seen: RootSnapshot,
    opened: Vault,
    head: ObjectId | None,
    choose: Callable[[Roster], tuple[Roster, str]],
) -> _Plan:
    """Find out which files move to which group, and who gains and loses access.

    Raises:
        Conflict: There are commits that are not pushed or not pulled, changes to the files that
            move, or patterns that overlap those of another group.
        NotInGroup: The user is not in the group.
        NothingToDo: The group is like that already.
    """
    before = seen.root.roster
    known, group = choose(before)
    _check_up_to_date(project, known, head, opened)
    # Anyone can end a group that has no readers left: ending it reveals nothing.
    if seen.header.newest(group) and roster.readers(before, group):
        check_in(next(held for held in known.groups if held.id == group), opened)
    _check_apart(before, known, group)
    if known == before:
        raise errors.NothingToDo("the group is like that already")
    # Look at every head: a file that stays in one of them still counts as everybody's.
    moves = {
        ref: _moves(project, ref, (before, known), commit, {*opened.groups, group})
        for ref, commit in seen.root.refs.items()
    }
    of_main = moves.get(HEAD, {})
    if of_main:
        _check_settled(project, of_main)
    files = {ref: found for ref, found in moves.items() if ref != ATTEST}
    change = _regrouping(before, known, group, files)
    matching = _count(project, known, group, head, of_main)
    return _Plan(known, group, moves, msgspec.structs.replace(change, files=matching))


def _carry_out(
    project: Project, remote: Remote, seen: RootSnapshot, opened: Vault, plan: _Plan
) -> tuple[RootChange, dict[str, _Moving]]:
    """Make the group's keys, commit the files that move, and upload the commits.

    Returns:
        The replacement of the root, and the new commits by ref.
    """
    known, header = plan.roster, seen.header
    heirs = roster.recipients(known, plan.group)
    if not header.newest(plan.group):
        header, opened = vault.begin_epoch(header, opened, plan.group, heirs)
    elif heirs:  # former readers of a group that ends keep reading its history
        header = vault.wrap_anew(header, opened, plan.group, heirs)
    # Fetching reads the remote's own keys, which know nothing of the group's new one.
    entries = (move.entry for moves in plan.moves.values() for move in moves.values())
    fetch_missing(project, checkout.needed(project.store, entries))
    project.unlock(header)
    made = {
        ref: _move(project, seen.root.refs[ref], moves)
        for ref, moves in plan.moves.items()
        if moves
    }
    if not made:
        return RootChange(header, {"roster": known}), made
    sent: list[Sent] = []
    heads = {ref: moving.commit for ref, moving in made.items()}
    fresh = push.unlisted(remote, seen, heads, known)
    sending = (remote, opened, seen, fresh, sent, project.progress)
    changes = push.upload(*sending, heads=heads.values()).changes
    refs = {**seen.root.refs, **heads}
    return RootChange(header, {**changes, "roster": known, "refs": refs}, sent), made


def _check_up_to_date(
    project: Project, known: Roster, head: ObjectId | None, opened: Vault
) -> None:
    """Refuse to change who reads what while some work is not shared.

    Raises:
        Conflict: There are commits that are not pushed or not pulled.
        NotPulled: There are files of a group that the user has joined since the last pull.
    """
    if head != project.database.ref(f"{ORIGIN}/{MAIN}"):
        raise errors.Unshared
    for group in history.trees_of(project.store, head, opened.groups - project.index.groups):
        raise errors.NotPulled(roster.name_of(known, group))


def _moves(
    project: Project, ref: str, rosters: tuple[Roster, Roster], commit: ObjectId, own: set[str]
) -> dict[str, _Move]:
    """Return the files of a head that change groups.

    Only a file in its owner's tree counts and so moves. Contested files stay where they are.

    Raises:
        ForeignGroup: A file would move into a group that the user is not in.
    """
    source_of, target_of = (attestations.owner_in(ref, known) for known in rosters)
    found: dict[str, _Move] = {}
    for source, tree in history.trees_of(project.store, commit).items():
        for path, entry in history.files_of(project.store, {source: tree}):
            target = target_of(path)
            if source_of(path) != source or target in {source, None}:
                continue
            assert target is not None
            if target not in own:
                raise errors.ForeignGroup(path, roster.name_of(rosters[1], target))
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
        raise errors.ChangesStaged(path)


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
                project.index.set_commit(made.commit)
        project.index.set_groups(project.index.groups | {group})
        clean = project.index.commit is not None
        follow_claims(project, made.commit if made else head)
        if clean:
            project.index.set_commit(made.commit if made else head)


def _check_apart(old: Roster, new: Roster, group: str) -> None:
    """Refuse new patterns of a group that overlap those of another.

    Raises:
        Conflict: A pattern overlaps.
    """
    before = {pattern for held in old.groups if held.id == group for pattern in held.patterns}
    own = next(held for held in new.groups if held.id == group)
    for mine in own.patterns:
        for other in new.groups if mine not in before else ():
            for theirs in other.patterns if other.id != group else ():
                if placement.overlap(mine, theirs):
                    raise errors.PatternsOverlap(mine, theirs, other.name)


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
    held = next(known for known in new.groups if known.id == group)
    if held.patterns and group in roster.keyed(old):
        inside = {member.name for member in roster.readers(old, group)}
        gains |= {member.name for member in roster.readers(new, group)} - inside
    return GroupChange(
        group=described(new, held, {group}),
        moved=tuple(Moved(path=path, old=was, new=now) for path, was, now in sorted(moved)),
        gains=tuple(sorted(gains)),
        loses=tuple(sorted(loses)),
    )


def check_in(group: Group, opened: Vault) -> None:
    """Refuse to change a group for somebody who is not in it.

    Raises:
        NotInGroup: The user is not in the group.
    """
    if group.id not in opened.groups:
        raise errors.NotInGroup(group.name)
