"""Groups of readers: files that only some of the team can read.

A group's files are sealed with its own key, names included, and lie in a tree of their own in each
commit. Who is not in the group carries that tree forward unchanged.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from dorky import checkout, contents, errors, history, roster, staging, vault
from dorky.history import MAIN, Placed
from dorky.model import Entry, Group, Member, ObjectId, Roster
from dorky.project import ORIGIN
from dorky.remote import push
from dorky.remote.journal import Sent
from dorky.remote.root import Remote, Seen
from dorky.results import Exposure, Grouped, Moved, Regrouping, Rotation
from dorky.team import Following, TeamWork, described
from dorky.vault import Vault


class GroupWork(TeamWork):
    """The commands that say who may read which files."""

    def group_list(self) -> list[Grouped]:
        """The groups, as last fetched."""
        return list(self._groups(self.roster))

    def group_add(
        self,
        name: str,
        patterns: Sequence[str],
        members: Iterable[str] = (),
        *,
        dry_run: bool = False,
    ) -> Regrouping:
        """Seal files for a group: a new one, or one that has others already.

        Args:
            name: What to call it.
            patterns: Which files (see `roster.groups_of`), from the current directory.
            members: Who is to be in it; the user alone without any.
            dry_run: Whether to only say what would become of whom.

        Raises:
            Conflict: Commits that are not pushed or not pulled, or changes to the files that move.
        """
        roster.check_name(name, "group")
        wanted = roster.check_patterns([self.worktree.relative(each) for each in patterns])
        names = list(dict.fromkeys(members))

        def add(known: Roster) -> tuple[Roster, str]:
            me = self._me(known)
            assert me is not None
            old = roster.find(known, name)
            if old is None and names and me.name not in names:
                raise errors.UsageError(
                    "you would lock yourself out", hint=f"add --member {me.name}"
                )
            made = old or Group(secrets.token_hex(8), name, ())
            both = tuple(dict.fromkeys((*made.patterns, *wanted)))
            known = roster.put_group(known, msgspec.structs.replace(made, patterns=both))
            for each in names or ([] if old else [me.name]):
                known = _join(known, each, made.id)
            return known, made.id

        return self._regroup(add, dry_run=dry_run)

    def group_remove(
        self, name: str, patterns: Sequence[str] = (), *, dry_run: bool = False
    ) -> Regrouping:
        """Give a group's files, or those that patterns select, to everybody.

        Args:
            name: Which group.
            patterns: Of those that it has; all of them without any.
            dry_run: Whether to only say what would become of whom.
        """
        wanted = roster.check_patterns([self.worktree.relative(each) for each in patterns])

        def remove(known: Roster) -> tuple[Roster, str]:
            old = roster.group(known, name)
            for each in wanted:
                if each not in old.patterns:
                    raise errors.NotFound(
                        f"the group {name} has no pattern {each}", hint="dorky group list"
                    )
            left = tuple(each for each in old.patterns if wanted and each not in wanted)
            for member in roster.readers(known, old.id) if not left else ():
                known = _leave(known, member, old.id)
            return roster.put_group(known, msgspec.structs.replace(old, patterns=left)), old.id

        return self._regroup(remove, dry_run=dry_run)

    def group_members(
        self, name: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> tuple[Grouped, Rotation | None]:
        """Let members of the team into a group, or take its files away from some.

        Returns:
            The group, and what the removal came to.

        Raises:
            ForeignGroup: The user is not in the group.
        """
        coming, leaving = list(dict.fromkeys(add)), list(dict.fromkeys(remove))
        with self._prepared():
            done = None
            if leaving:
                done = self._put_out(name, leaving, coming)
            elif coming:
                self._change(lambda _, seen, opened: self._let_in(seen, opened, name, coming))
            else:
                self._fetched()
            known = self.roster
            return described(known, roster.group(known, name), self.vault.groups), done

    def _let_in(self, seen: Seen, opened: Vault, name: str, coming: Sequence[str]) -> Following:
        known = seen.root.roster
        group = roster.group(known, name)
        self._check_in(group, opened)
        for each in coming:
            known = _join(known, each, group.id)
        if known == seen.root.roster:
            raise errors.NothingToDo(f"{', '.join(coming)}: in {name} already")
        heirs = roster.recipients(known, group.id)
        return Following(vault.wrap_anew(seen.header, opened, group.id, heirs), {"roster": known})

    def _put_out(self, name: str, leaving: Sequence[str], coming: Sequence[str]) -> Rotation:
        exposed: list[Exposure] = []

        def leave(known: Roster, opened: Vault) -> tuple[Roster, set[str]]:
            group = roster.group(known, name)
            self._check_in(group, opened)
            for each in coming:
                known = _join(known, each, group.id)
            for each in leaving:
                if group.id not in roster.member(known, each).groups:
                    raise errors.NotFound(f"{each} is not in the group {name}")
                member = self._other(known, each)
                known = _leave(known, member, group.id)
            exposed[:] = self._exposed({group.id})
            return known, {group.id}

        done = self._rotate(leave, all_history=False)
        return msgspec.structs.replace(done, removed=", ".join(leaving), exposed=tuple(exposed))

    @staticmethod
    def _check_in(group: Group, opened: Vault) -> None:
        if group.id not in opened.groups:
            raise errors.NotInGroup(group.name)

    # --- moving files ----------------------------------------------------------------------

    def _regroup(
        self, choose: Callable[[Roster], tuple[Roster, str]], *, dry_run: bool
    ) -> Regrouping:
        """Change which files belong to a group, and move those that are committed.

        Args:
            choose: Gives the roster to be, and the id of the group that changes.
            dry_run: Whether to only plan.
        """
        with self._prepared():
            head = self._attached_head()
            did: list[tuple[str, Regrouping, _Moving | None]] = []

            def change(remote: Remote, seen: Seen, opened: Vault) -> Following | None:
                before = seen.root.roster
                known, group = choose(before)
                header = seen.header
                self._check_up_to_date(known, head, opened)
                if header.newest(group):
                    self._check_in(next(g for g in known.groups if g.id == group), opened)
                roster.check_apart(known, group)
                if known == before:
                    raise errors.NothingToDo("the group is like that already")
                kept = self._committed(head)
                moves = self._moves(before, known, kept, {*opened.groups, group})
                plan = _regrouping(before, known, group, moves)
                matching = sum(roster.group_of(known, path) == group for path in kept)
                plan = msgspec.structs.replace(plan, files=matching)
                did[:] = [(group, plan, None)]
                if dry_run:
                    return None
                heirs = roster.recipients(known, group)
                if header.newest(group):
                    # Who was in a group that ends goes on reading its history.
                    if heirs:
                        header = vault.wrap_anew(header, opened, group, heirs)
                else:
                    header, opened = vault.begin_epoch(header, opened, group, heirs)
                self.unlock(header)
                if head is None or not moves:
                    return Following(header, {"roster": known})
                moving = self._move(head, moves)
                did[:] = [(group, plan, moving)]
                sent: list[Sent] = []
                fresh = push.unlisted(remote, seen, moving.commit)
                changes = push.upload(remote, opened, seen.root, fresh, sent, self.progress)
                refs = {**seen.root.refs, MAIN: moving.commit}
                return Following(header, {**changes, "roster": known, "refs": refs}, sent)

            self._change(change)
            ((group, plan, moving),) = did
            if dry_run:
                return plan
            self._follow(head, group, moving)
            commit = moving.commit if moving else None
            return msgspec.structs.replace(plan, done=True, commit=commit)

    def _check_up_to_date(self, known: Roster, head: ObjectId | None, opened: Vault) -> None:
        """Refuse to change who reads what while there is anything that others have not seen.

        Raises:
            Conflict: Commits that are not pushed, or not pulled.
            NotPulled: Files of a group that the user has been let into since the last pull.
        """
        if head != self.database.ref(f"{ORIGIN}/{MAIN}"):
            raise errors.Conflict(
                "there are commits that are not pushed, or not pulled",
                hint="dorky sync, then run the command again",
            )
        for group in history.trees_of(self.store, head, opened.groups - self.index.groups):
            raise errors.NotPulled(roster.name_of(known, group))

    def _moves(
        self, old: Roster, new: Roster, kept: Mapping[str, Entry], own: set[str]
    ) -> dict[str, tuple[str, Entry]]:
        """Committed files that change groups: where to, and as what they are committed now.

        Raises:
            ForeignGroup: They would go into a group that the user is not in.
            Conflict: They have been changed and not committed.
        """
        found: dict[str, tuple[str, Entry]] = {}
        for path, entry in kept.items():
            target = roster.check_single(new, path)
            if target == roster.group_of(old, path):
                continue
            if target not in own:
                raise errors.ForeignGroup(path, roster.name_of(new, target))
            found[path] = (target, entry)
        rows = self.index.rows()
        changed = {each.path for each in staging.staged(self.store, self.index, rows)}
        for path in sorted(changed & found.keys()):
            raise errors.Conflict(
                f"changes to {path} are staged", hint="commit or unstage them first"
            )
        return found

    def _move(self, head: ObjectId, moves: Mapping[str, tuple[str, Entry]]) -> _Moving:
        """Commit files into the trees of their new groups."""
        self._bring(checkout.needed(self.store, (entry for _, entry in moves.values())))
        trees = history.read_commit(self.store, head).trees
        with self.store.writer() as writer:
            moved = {
                path: contents.regroup(self.store, writer, entry, target)
                for path, (target, entry) in moves.items()
            }
            placed = (
                (path, moves[path][0] if path in moves else source, moved.get(path, entry))
                for source, tree in history.trees_of(self.store, head).items()
                for path, entry in history.files_of(self.store, {source: tree})
            )
            own = staging.write_placed(placed, writer)
            sealed = {each: trees[each] for each in trees.keys() - self.vault.groups}
            count = "1 file" if len(moves) == 1 else f"{len(moves):,} files"
            commit = history.add_commit(
                writer,
                {**own, **sealed},
                [head],
                author=self.author,
                message=f"Change who can read {count}",
            )
            writer.save()
        return _Moving(commit, {path: Placed(moves[path][0], moved[path]) for path in moved})

    def _follow(self, head: ObjectId | None, group: str, made: _Moving | None) -> None:
        """Make the index and ``main`` follow files that have changed groups."""
        rows = self.index.rows()
        clean = self.index.commit == head
        name = roster.name_of(self.roster, group)
        with self.operation(f"group {name}"), self.database.transaction():
            if made:
                self.database.set_ref(MAIN, made.commit)
                self.index.put(
                    staging.moved(rows[path], placed, self.vault)
                    for path, placed in made.entries.items()
                    if path in rows
                )
                if clean:
                    self.index.commit = made.commit
            self.index.groups = self.index.groups | {group}
            clean = self.index.commit is not None
            self._follow_claims(made.commit if made else head)
            if clean:
                self.index.commit = made.commit if made else head


class _Moving(NamedTuple):
    """Files as they are committed anew, sealed for other groups."""

    commit: ObjectId
    entries: dict[str, Placed]


def _regrouping(
    old: Roster, new: Roster, group: str, moves: Mapping[str, tuple[str, Entry]]
) -> Regrouping:
    """Who gains and who loses what."""
    gains: set[str] = set()
    loses: set[str] = set()
    moved = []
    for path, (target, _) in sorted(moves.items()):
        source = roster.group_of(old, path)
        before = {each.name for each in roster.readers(old, source)}
        after = {each.name for each in roster.readers(new, target)}
        gains |= after - before
        loses |= before - after
        names = (roster.name_of(old, source), roster.name_of(new, target))
        moved.append(Moved(path=path, old=names[0], new=names[1]))
    held = next(each for each in new.groups if each.id == group)
    if held.patterns and group in roster.keyed(old):
        inside = {each.name for each in roster.readers(old, group)}
        gains |= {each.name for each in roster.readers(new, group)} - inside
    return Regrouping(
        group=described(new, held, {group}),
        moved=tuple(moved),
        gains=tuple(sorted(gains)),
        loses=tuple(sorted(loses)),
    )


def _leave(known: Roster, member: Member, group: str) -> Roster:
    """The roster without a member in a group."""
    groups = tuple(held for held in member.groups if held != group)
    return roster.put(known, msgspec.structs.replace(member, groups=groups))


def _join(known: Roster, name: str, group: str) -> Roster:
    """The roster with a member in a group."""
    member = roster.member(known, name)
    groups = tuple(dict.fromkeys((*member.groups, group)))
    return roster.put(known, msgspec.structs.replace(member, groups=groups))
