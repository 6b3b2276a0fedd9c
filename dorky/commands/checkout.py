"""Putting files in place: plans for the worktree, carried out with everything noted and kept.

What stands in the way of a plan becomes a backup commit, git is told to ignore what appears, and
the operation log is told what is replaced: here, for every command that writes files.
"""

from __future__ import annotations

import contextlib
import stat as stat_module
from collections.abc import Collection, Iterable, Mapping

from dorky import errors, git
from dorky.commands.inspect import LookWork, told
from dorky.format.model import ALL, ObjectId
from dorky.keys import placement
from dorky.keys.roster import GroupOf
from dorky.merge import commits as merge
from dorky.paths import parents, shown
from dorky.results import Change, CheckedOut
from dorky.store import history, projection
from dorky.store import oplog as operations
from dorky.store.history import MAIN
from dorky.store.index import Row
from dorky.store.projection import View
from dorky.worktree import checkout, staging
from dorky.worktree.checkout import Done, Plan, Wanted
from dorky.worktree.ingest import store_files


class PlaceWork(LookWork):
    """What commands that write files build on, and the plainest of them, checkout."""

    def checkout(self, revision: str, *, force: bool = False) -> CheckedOut:
        """Make files and index be as a revision is.

        Args:
            revision: ``main`` to go back to where commits are made; anything else is for looking.
            force: Whether to overwrite local changes, after keeping them as a backup commit.

        Raises:
            LocalChanges: Files that would be overwritten.
        """
        with self.operation(f"checkout {revision}"):
            self._check_no_merge()
            target = history.resolve(self.store, revision)
            head = history.head_of(self.store)
            view = projection.current(self.store, target)
            found = projection.differences(projection.current(self.store, head), view)
            changes = told(found)
            detached = b"" if revision == MAIN else target.encode()
            rows, made = self._plan(head, view, lambda _: True)
            backup, done = self._carry_out(rows, made, force=force)
            clean = self.index.commit == head
            with self.database.transaction():
                done.record(self.index)
                self._read_by_now()
                self.database.set("head", detached)
                if clean:
                    self.index.commit = target
            return CheckedOut(
                commit=target,
                changes=changes,
                backup=backup,
                ignored=done.ignored,
                left_out=done.left_out,
            )

    def _plan(
        self, old: ObjectId | None, after: View, wanted: Wanted, keep: Collection[str] = ()
    ) -> tuple[dict[str, Row], Plan]:
        """Plan to go from a commit to other trees, but for staged files that stay as they are."""
        rows = self.index.rows()
        grouped = bool(self.roster.groups)
        lost = self.index.groups - self.vault.groups if grouped else frozenset()
        gained = self.vault.groups - self.index.groups if grouped else frozenset()
        absent = any(row.absent for row in rows.values())
        trees = history.trees_of(self.store, old, self.index.groups)
        before = View(self.store, trees, self.index.owner)
        moved = self.index.claims != placement.claims(self.roster)
        if trees == after.trees and not (lost or gained or absent or moved):
            return rows, checkout.nothing()
        made = checkout.plan(
            self.worktree, self.store, rows, before, after, wanted, keep, moved=moved
        )
        # What is in the files here can't be told any more, so they stay.
        made.forget.update(path for path, row in rows.items() if row.group in lost)
        return rows, made

    def _read_by_now(self) -> None:
        """Note that the index is about all groups that the user is in, after a checkout."""
        if self.roster.groups:
            self.index.groups = self.vault.groups
            self.index.claims = placement.claims(self.roster)

    def _follow_claims(self, head: ObjectId | None) -> None:
        """Have the index go by today's owners of paths: what begins to count is not on disk yet."""
        claims = placement.claims(self.roster)
        if self.index.claims == claims:
            return
        rows = self.index.rows()
        trees = history.trees_of(self.store, head, self.index.groups)
        known = dict(View(self.store, trees, self.index.owner).files())
        new = [
            staging.row_of(path, placed, self.vault)
            for path, placed in View(self.store, trees, self.owner).files()
            if path not in rows and path not in known
        ]
        with self.database.transaction():
            self.index.put(new)
            self.index.claims = claims
            self.index.commit = None

    def _readable_grouping(self, rows: Mapping[str, Row]) -> GroupOf:
        """Return the function that gives the group of a file that stays on this machine.

        A file that a group has closed is kept for that group, whoever owns the path today. `ALL`
        stands for groups that the user is not in.
        """
        owner, own = self.owner, self.vault.groups

        def group_of(path: str) -> str:
            source = rows[path].group if path in rows else ALL
            candidates = (source if source != ALL else None, owner(path))
            return next((group for group in candidates if group in own), None) or ALL

        return group_of

    def _carry_out(self, rows: Mapping[str, Row], made: Plan, *, force: bool) -> tuple[str, Done]:
        """Carry out a plan on disk.

        Returns:
            The ref that keeps what force overwrote (empty if nothing), and what the index is to
            be told, in the transaction that moves refs.

        Raises:
            LocalChanges: There are conflicts, and no force.
        """
        left_out = checkout.keep_out(self.worktree, made, in_git=git.find(self.root) is not None)
        if made.conflicts and not force:
            raise errors.LocalChanges(shown(sorted(made.conflicts)))
        self._bring(checkout.needed(self.store, (entry for _, entry in made.write.values())))
        name = ""
        kept: list[Row] = []
        if made.conflicts:
            name, kept = checkout.backup(
                self.worktree,
                self.store,
                rows,
                made,
                author=self.author,
                group_of=self._readable_grouping(rows),
            )
        self._note_disk(rows, made, kept)
        # Before they are there: git must not see them even for a moment. Of what lies beyond a
        # link or a file that has to go first, it can't be told before.
        beyond = {path for path in made.write if not made.remove.isdisjoint(parents(path))}
        ignored = self._hide_from_git(made.write.keys() - beyond)
        done = checkout.apply(self.worktree, self.store, made, self.progress)
        ignored += self._hide_from_git(beyond)
        left_out = tuple(sorted({*left_out, *self.store.left_out}))
        return name, done._replace(ignored=tuple(sorted(ignored)), left_out=left_out)

    def _hide_from_git(self, paths: Iterable[str]) -> list[str]:
        """Have git ignore files that have just appeared: their `.gitignore` may not be here yet."""
        top = git.find(self.root)
        if top is None:
            return []
        exposed = git.not_ignored(top, [self.root / path for path in paths])
        tracked = git.tracked(top, exposed) if exposed else set()
        # Where a rule of git's takes the path back, staging it is what fails.
        with contextlib.suppress(errors.GitDoesNotIgnore):
            return git.ignore(self.root, [each for each in exposed if each not in tracked])
        return []

    def _note_disk(self, rows: Mapping[str, Row], made: Plan, kept: Iterable[Row]) -> None:
        """Note in the operation log what a plan is about to do to files."""
        if self.database.operation is None:
            return
        held = {**rows, **made.held, **{row.path: row for row in kept}}
        operations.note_disk(
            self.database,
            {
                path: (
                    held.get(path) if made.judged.get(path) else None,
                    staging.row_of(path, made.write[path], self.vault, absent=False)
                    if path in made.write
                    else None,
                )
                for path in made.write.keys() | made.remove
            },
        )

    def _keep(self, path: str) -> Row:
        """Store what a file holds, for an undo to find."""
        group = self._readable_grouping(self.index.rows([path]))(path)
        with self.store.writer() as writer:
            (row,) = store_files(self.worktree, {path: 0}, writer, self.store, lambda _: group)
            writer.save()
        return row

    def _on_disk(self, made: Plan) -> tuple[Change, ...]:
        """How a plan is going to change files, tracked or not."""
        changes = [Change(path, "deleted") for path in made.remove]
        for path in made.write:
            changes.append(Change(path, "modified" if made.judged.get(path) else "added"))
        return tuple(sorted(changes))

    def _is_there(self, path: str) -> bool:
        """Whether a file or link (not a directory) is on disk at a path."""
        stat = self.worktree.stat(path)
        return stat is not None and not stat_module.S_ISDIR(stat.st_mode)

    def _is_file(self, path: str) -> bool:
        stat = self.worktree.stat(path)
        return stat is not None and stat_module.S_ISREG(stat.st_mode)

    def _attached_head(self) -> ObjectId | None:
        if detached := self.database.text("head"):
            raise errors.Detached(detached[:10])
        return self.database.ref(MAIN)

    def _check_no_merge(self) -> None:
        """Refuse what can't be done during a merge.

        Raises:
            Unresolved: There are conflicts.
            MergeInProgress: There are none any more, but it is not committed.
        """
        if state := merge.load(self.database):
            if state.conflicts:
                raise errors.Unresolved(shown([each.path for each in state.conflicts]))
            raise errors.MergeInProgress(state.label)
