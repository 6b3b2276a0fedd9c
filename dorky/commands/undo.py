"""Undo: list operations, and take back the newest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from dorky import errors
from dorky.commands.checkout import (
    carry_out,
    changes_on_disk,
    hide_from_git,
    is_on_disk,
    leave_out,
    show_to_git,
)
from dorky.format.model import ObjectId
from dorky.paths import shown
from dorky.project import ORIGIN, Project
from dorky.results import OperationEntry, Undone
from dorky.store import history, oplog
from dorky.store.history import ATTEST, MAIN
from dorky.store.index import Row
from dorky.store.oplog import Operation
from dorky.worktree import checkout, staging

if TYPE_CHECKING:
    from dorky.worktree.plan import Plan


def op_log(project: Project, *, limit: int | None = None) -> list[OperationEntry]:
    """Return the recorded operations, the newest first."""
    return _logged(project, oplog.log(project.database, limit))


def _logged(project: Project, newest: Iterable[Operation]) -> list[OperationEntry]:
    """Return operations, the newest first, with the messages of the commits that they made.

    The log itself does not hold messages: apart from paths, `.dorky/` holds nothing unencrypted.
    """
    found = []
    mains = oplog.mains(project.database)
    main = project.database.ref(MAIN)
    for n, time, command in newest:
        message = ""
        if n in mains and main and command in {"commit", "save"}:
            with contextlib.suppress(errors.IntegrityError):
                message = history.subject(history.read_commit(project.store, main).message)
        main = mains.get(n, main)
        paths = tuple(oplog.touched(project.database, n))
        found.append(
            OperationEntry(number=n, time=time, command=command, message=message, paths=paths)
        )
    return found


class UndoPlan(NamedTuple):
    """The way back to the state before some operations.

    Attributes:
        since: The number of the oldest operation that is undone.
        replaced: What the operations have replaced.
        rows: The staged files.
        files: The plan for the files on disk.
        undone: The result, without a backup.
    """

    since: int
    replaced: oplog.Replaced
    rows: dict[str, Row]
    files: Plan
    undone: Undone


def undo(project: Project, count: int = 1, *, force: bool = False, dry_run: bool = False) -> Undone:
    """Take back the newest operations: refs, index and files are as they were before.

    Arguments, results and errors are those of `Repository.undo`.
    """
    if count < 1:
        raise errors.UsageError(f"{count} operations can't be undone")
    with project.locked():
        newest = oplog.log(project.database, count)
        if not newest:
            raise errors.NothingToDo("nothing was done here that can be undone")
        if len(newest) < count:
            raise errors.TooFewOperations(len(newest))
        plan = plan_undo(project, newest[-1].n, force=force)
        if dry_run:
            return plan.undone
        what = newest[0].command if count == 1 else f"{count} operations"
        with project.operation(f"undo {what}"):
            return apply(project, plan, force=force)


def plan_undo(project: Project, since: int, *, force: bool) -> UndoPlan:
    """Plan to restore what operations have replaced, from one on.

    Raises:
        LocalChanges: Files were edited since, and ``force`` was not given.
    """
    operations = oplog.log(project.database)
    undone = _logged(project, (operation for operation in operations if operation.n >= since))
    found = oplog.replaced(project.database, since)
    rows = project.index.rows()
    wanted = {
        path: staging.placed_of(old, project.vault) if old else None
        for path, (old, _) in found.disk.items()
    }
    stored = {path: new for path, (_, new) in found.disk.items() if new}
    made = checkout.plan_files(project.worktree, project.store, rows, wanted, stored)
    if made.conflicts and not force:
        raise errors.LocalChanges(shown(sorted(made.conflicts)), undoing=len(undone))
    leave_out(project, made)
    before = project.database.ref(MAIN)
    head = found.refs.get(MAIN, before)
    return UndoPlan(
        since,
        found,
        rows,
        made,
        Undone(
            operations=tuple(undone),
            changes=changes_on_disk(made),
            head=head,
            published=_is_published(project, before, head),
        ),
    )


def apply(project: Project, plan: UndoPlan, *, force: bool) -> Undone:
    """Carry out what `plan_undo` planned, within an operation of the log."""
    found = plan.replaced
    backup, done = carry_out(project, plan.rows, plan.files, force=force)
    # Backups of later operations stay: the files were edited in between.
    later = oplog.replaced(project.database, plan.since + 1).refs.keys() - {MAIN, ATTEST}
    written = {row.path: row for row in done.rows()}
    back = [
        written[path] if path in written and written[path].same(old) else old
        for path, old in found.rows.items()
        if old
    ]
    with project.database.transaction():
        project.index.put(back)
        project.index.remove(path for path, old in found.rows.items() if old is None)
        project.index.refresh(row for row in done.rows() if row.path not in found.rows)
        for name, commit in found.refs.items():
            if commit:
                project.database.set_ref(name, commit)
            elif name != backup and name not in later:
                project.database.delete_ref(name)
        for key, value in found.values.items():
            project.database.set(key, value or b"")
        staging.note_remote_only(project.store, project.index, back)
    # Unstaging may have removed git's ignore rules for these files; for the others, which neither
    # git nor dorky keeps any more, `git clean -x` would delete what git ignores.
    hide_from_git(project, (row.path for row in back if is_on_disk(project, row.path)))
    gone = (path for path, old in found.rows.items() if old is None)
    show_to_git(project, (path for path in gone if is_on_disk(project, path)))
    return msgspec.structs.replace(plan.undone, backup=backup, done=True)


def _is_published(project: Project, before: ObjectId | None, head: ObjectId | None) -> bool:
    """Return whether the remote has a commit that the undo took out of ``main``."""
    upstream = project.database.ref(f"{ORIGIN}/{MAIN}")
    if before is None or upstream is None:
        return False
    if head and history.is_ancestor(project.store, before, head):
        return False
    theirs = {node.id for node in history.ancestors(project.store, [upstream])}
    while before and before != head:
        if before in theirs:
            return True
        # Follow first parents only: what came by a merge was the remote's before.
        before = next(iter(history.read_commit(project.store, before).parents), None)
    return False
