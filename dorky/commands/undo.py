"""Undo: resolve conflicts, complete or abort a merge, and take back operations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from dorky import errors
from dorky.commands.checkout import carry_out, changes_on_disk, hide_from_git, is_on_disk
from dorky.format.model import ObjectId
from dorky.paths import shown
from dorky.project import ORIGIN, Project
from dorky.results import OperationEntry, Undone
from dorky.store import history, oplog
from dorky.store.history import MAIN
from dorky.store.oplog import Operation
from dorky.worktree import checkout, staging

# --- the operation log -----------------------------------------------------------------


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
        if n in mains and main and command == "commit":
            with contextlib.suppress(errors.IntegrityError):
                message = history.subject(history.read_commit(project.store, main).message)
        main = mains.get(n, main)
        paths = tuple(oplog.touched(project.database, n))
        found.append(
            OperationEntry(number=n, time=time, command=command, message=message, paths=paths)
        )
    return found


def undo(project: Project, count: int = 1, *, force: bool = False) -> Undone:
    """Take back the newest operations: refs, index and files are as they were before.

    An undo is an operation, too: undoing it restores everything.

    Args:
        project: The project.
        count: How many operations to take back.
        force: Whether to overwrite what was edited since, after keeping it as a backup commit.

    Raises:
        NothingToDo: There is nothing to undo.
        LocalChanges: Files were edited since.
    """
    if count < 1:
        raise errors.UsageError(f"{count} operations can't be undone")
    with project.locked():
        newest = oplog.log(project.database, count)
        if not newest:
            raise errors.NothingToDo("nothing was done here that can be undone")
        if len(newest) < count:
            raise errors.TooFewOperations(len(newest))
        what = newest[0].command if count == 1 else f"{count} operations"
        with project.operation(f"undo {what}"):
            return take_back(project, newest[-1].n, force=force)


def take_back(project: Project, since: int, *, force: bool) -> Undone:
    """Restore what operations have replaced, from one on."""
    undone = _logged(
        project, (operation for operation in oplog.log(project.database) if operation.n >= since)
    )
    found = oplog.replaced(project.database, since)
    before = project.database.ref(MAIN)
    rows = project.index.rows()
    wanted = {
        path: staging.placed_of(old, project.vault) if old else None
        for path, (old, _) in found.disk.items()
    }
    kept = {path: new for path, (_, new) in found.disk.items() if new}
    made = checkout.plan_files(project.worktree, project.store, rows, wanted, kept)
    if made.conflicts and not force:
        raise errors.LocalChanges(shown(sorted(made.conflicts)), undoing=len(undone))
    backup, done = carry_out(project, rows, made, force=force)
    changes = changes_on_disk(made)
    # Backups of later operations stay: the files were edited in between.
    later = oplog.replaced(project.database, since + 1).refs.keys() - {MAIN}
    written = {row.path: row for row in done.rows}
    back = [
        written[path] if path in written and written[path].same(old) else old
        for path, old in found.rows.items()
        if old
    ]
    with project.database.transaction():
        project.index.put(back)
        project.index.remove(path for path, old in found.rows.items() if old is None)
        project.index.refresh(row for row in done.rows if row.path not in found.rows)
        for name, commit in found.refs.items():
            if commit:
                project.database.set_ref(name, commit)
            elif name != backup and name not in later:
                project.database.delete_ref(name)
        for key, value in found.values.items():
            project.database.set(key, value or b"")
    # Unstaging may have removed git's ignore rules for these files.
    hide_from_git(project, (row.path for row in back if is_on_disk(project, row.path)))
    head = project.database.ref(MAIN)
    return Undone(
        operations=tuple(undone),
        changes=changes,
        head=head,
        backup=backup,
        published=_is_published(project, before, head),
    )


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
