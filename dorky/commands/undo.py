"""Mending: resolving conflicts, ending a merge, and taking back what was done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence

from dorky import errors
from dorky.commands.inspect import StrPath
from dorky.commands.stage import LocalWork
from dorky.format.model import ObjectId
from dorky.merge import commits as merge
from dorky.paths import shown
from dorky.project import ORIGIN
from dorky.results import LogEntry, Logged, Resolved, Undone
from dorky.store import history, projection
from dorky.store import oplog as operations
from dorky.store.history import MAIN, Placed
from dorky.store.oplog import Operation
from dorky.store.projection import View
from dorky.worktree import checkout, staging


class MendWork(LocalWork):
    """The commands for the day things go wrong."""

    # --- conflicts -------------------------------------------------------------------------

    def resolve(
        self,
        paths: StrPath | Iterable[StrPath],
        *,
        ours: bool = False,
        theirs: bool = False,
        readers: str = "",
    ) -> Resolved:
        """Settle conflicts of a merge: with what the files hold now, or with one side's.

        Args:
            paths: Files, directories, patterns.
            ours: Whether to take what was here.
            theirs: Whether to take the other side's.
            readers: The group that the files belong to, or ``all``: it may read them, even what
                another group has closed until now.

        Raises:
            NothingToDo: No merge is in progress.
            NotFound: A path has no conflict.
            StillMarked: A file has conflict markers.
            WouldOpen: A file belongs to others now than the group that has closed it.
        """
        if ours and theirs:
            raise errors.UsageError(
                "--ours and --theirs exclude each other", hint="dorky resolve FILE --ours"
            )
        names = self._names(paths)
        with self.operation(f"resolve {shown(names)}"):
            state = self._merging()
            pending = [each.path for each in state.conflicts]
            try:
                chosen = staging.tracked(pending, names)
            except errors.PathNotTracked as error:
                what = f"{error.args[0]} has no conflict"
                raise errors.NotFound(what, hint="dorky status") from None
            backup = ""
            if ours or theirs:
                side = history.head_of(self.store) if ours else state.theirs
                held = dict(projection.current(self.store, side).files())
                rows = self.index.rows()
                # Of ours that does not count, only the file is left, which nobody has touched.
                apart = [path for path in chosen if ours and path in rows and path not in held]
                self._take_as_it_is(apart, readers)
                backup = self._take([p for p in chosen if p not in apart], held, state.trees)
            else:
                self._check_unmarked(chosen)
                self._take_as_it_is(chosen, readers)
            self._settle(chosen)
            left = self._merging().conflicts
            return Resolved(paths=tuple(chosen), left=left, backup=backup)

    def _take(
        self, paths: Sequence[str], held: Mapping[str, Placed], prepared: history.Trees
    ) -> str:
        """Put files in place as one side holds them, unless they were edited, and stage that."""
        rows = self.index.rows()
        marks = dict(View(self.store, prepared, self.owner).files())
        wanted = {path: held.get(path) for path in paths}
        marked = {
            path: staging.row_of(path, marks[path], self.vault, absent=False)
            for path in paths
            if path in marks
        }
        made = checkout.plan_files(self.worktree, self.store, rows, wanted, marked)
        backup, done = self._carry_out(rows, made, force=True)
        with self.database.transaction():
            done.record(self.index)
            self.index.remove(path for path, placed in wanted.items() if placed is None)
        return backup

    def _take_as_it_is(self, paths: Sequence[str], readers: str = "") -> None:
        """Stage files as they are on disk, or as gone."""
        rows = self.index.rows()
        stats = {path: stat for path in paths if (stat := self.worktree.stat(path))}
        chosen = staging.Selection(stats, set(paths), set(paths) - stats.keys())
        try:
            self._stage(rows, chosen, readers)
        except errors.WouldOpen as error:
            hint = error.hint.replace("dorky stage", "dorky resolve")
            raise errors.WouldOpen(*error.args, hint=hint) from None

    def _merging(self) -> merge.State:
        state = merge.load(self.database)
        if state is None:
            raise errors.NothingToDo("no merge is in progress", hint="dorky status")
        return state

    def merge_continue(self, message: str = "") -> LogEntry:
        """Commit a merge whose conflicts are resolved.

        Raises:
            NothingToDo: No merge is in progress.
            Unresolved: There are conflicts.
        """
        with self.locked():
            self._merging()
            return self.commit(message)

    def merge_abort(self) -> Undone:
        """Go back to how things were before the merge. Files edited since are kept as a backup.

        Raises:
            NothingToDo: No merge is in progress.
            UsageError: It began so long ago that what was here before is not known any more.
        """
        with self.operation("merge --abort"):
            state = self._merging()
            if not operations.known(self.database, state.operation):
                raise errors.UsageError(
                    "what was here before the merge is not known any more: it began too long ago",
                    hint="dorky resolve FILE --ours, then dorky merge --continue",
                )
            return self._undo(state.operation, force=True)

    # --- the operation log -----------------------------------------------------------------

    def op_log(self, *, limit: int | None = None) -> list[Logged]:
        """What has been done here, the newest first."""
        return self._logged(operations.log(self.database, limit))

    def _logged(self, newest: Iterable[Operation]) -> list[Logged]:
        """Operations, the newest first, with the messages of the commits that they made.

        Those are not in the log itself: beside paths nothing lies about here unsealed.
        """
        found = []
        mains = operations.mains(self.database)
        main = self.database.ref(MAIN)
        for n, time, command in newest:
            message = ""
            if n in mains and main and command == "commit":
                with contextlib.suppress(errors.IntegrityError):
                    message = history.subject(history.read_commit(self.store, main).message)
            main = mains.get(n, main)
            paths = tuple(operations.touched(self.database, n))
            found.append(Logged(number=n, time=time, command=command, message=message, paths=paths))
        return found

    def undo(self, count: int = 1, *, force: bool = False) -> Undone:
        """Take back the newest operations: refs, index and files are as they were before.

        An undo is an operation, too: undoing it brings everything back.

        Args:
            count: How many.
            force: Whether to overwrite what was edited since, after keeping it as a backup commit.

        Raises:
            NothingToDo: There is nothing to undo.
            LocalChanges: Files were edited since.
        """
        if count < 1:
            raise errors.UsageError(f"{count} operations can't be undone")
        with self.locked():
            newest = operations.log(self.database, count)
            if not newest:
                raise errors.NothingToDo("nothing was done here that can be undone")
            if len(newest) < count:
                raise errors.UsageError(
                    f"only {len(newest)} operations are known", hint="dorky op log"
                )
            what = newest[0].command if count == 1 else f"{count} operations"
            with self.operation(f"undo {what}"):
                return self._undo(newest[-1].n, force=force)

    def _undo(self, since: int, *, force: bool) -> Undone:
        """Put back what operations have replaced, from one on."""
        undone = self._logged(each for each in operations.log(self.database) if each.n >= since)
        found = operations.replaced(self.database, since)
        before = self.database.ref(MAIN)
        rows = self.index.rows()
        wanted = {
            path: staging.placed_of(old, self.vault) if old else None
            for path, (old, _) in found.disk.items()
        }
        kept = {path: new for path, (_, new) in found.disk.items() if new}
        made = checkout.plan_files(self.worktree, self.store, rows, wanted, kept)
        if made.conflicts and not force:
            again = f"dorky undo {len(undone)}" if len(undone) > 1 else "dorky undo"
            raise errors.LocalChanges(
                shown(sorted(made.conflicts)), hint=f"{again} --force (a backup is kept)"
            )
        backup, done = self._carry_out(rows, made, force=force)
        changes = self._on_disk(made)
        # What a later one kept is not what is put back: it was edited in between.
        later = operations.replaced(self.database, since + 1).refs.keys() - {MAIN}
        written = {row.path: row for row in done.rows}
        back = [
            written[path] if path in written and written[path].same(old) else old
            for path, old in found.rows.items()
            if old
        ]
        with self.database.transaction():
            self.index.put(back)
            self.index.remove(path for path, old in found.rows.items() if old is None)
            self.index.refresh(row for row in done.rows if row.path not in found.rows)
            for name, commit in found.refs.items():
                if commit:
                    self.database.set_ref(name, commit)
                elif name != backup and name not in later:
                    self.database.delete_ref(name)
            for key, value in found.values.items():
                self.database.set(key, value or b"")
        # Rules of git's may have gone with what was staged.
        self._hide_from_git(row.path for row in back if self._is_there(row.path))
        head = self.database.ref(MAIN)
        return Undone(
            operations=tuple(undone),
            changes=changes,
            head=head,
            backup=backup,
            published=self._is_published(before, head),
        )

    def _is_published(self, before: ObjectId | None, head: ObjectId | None) -> bool:
        """Whether the remote has a commit that was ``main``'s, and is not any more."""
        upstream = self.database.ref(f"{ORIGIN}/{MAIN}")
        if before is None or upstream is None:
            return False
        if head and history.is_ancestor(self.store, before, head):
            return False
        theirs = {node.id for node in history.ancestors(self.store, [upstream])}
        while before and before != head:
            if before in theirs:
                return True
            # Not what came by a merge: that was theirs before.
            before = next(iter(history.read_commit(self.store, before).parents), None)
        return False
