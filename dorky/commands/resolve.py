"""Conflicts of a merge, and its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dorky import errors
from dorky.commands import undo
from dorky.commands.checkout import carry_out
from dorky.commands.commit import commit
from dorky.commands.inspect import StrPath, repository_paths
from dorky.commands.stage import check_unmarked, clear_conflicts, stage_selection
from dorky.files import file_stat
from dorky.merge import pending
from dorky.paths import shown
from dorky.project import Project
from dorky.results import LogEntry, Resolved, Undone
from dorky.store import history, oplog, projection
from dorky.store.history import Placed
from dorky.store.projection import View
from dorky.worktree import checkout, staging


def resolve(
    project: Project,
    paths: StrPath | Iterable[StrPath],
    *,
    ours: bool = False,
    theirs: bool = False,
    readers: str = "",
) -> Resolved:
    """Settle conflicts of a merge: with what the files hold now, or with one side's version.

    Arguments, results and errors are those of `Repository.resolve`.
    """
    if ours and theirs:
        raise errors.UsageError("Ours and theirs exclude each other")
    names = repository_paths(project, paths)
    with project.operation(f"resolve {shown(names)}"):
        state = merge_in_progress(project)
        pending = [conflict.path for conflict in state.conflicts]
        try:
            chosen = staging.tracked(pending, names)
        except errors.PathNotTracked as error:
            raise errors.NoConflict(error.args[0]) from None
        backup = ""
        if ours or theirs:
            side = history.head_of(project.store) if ours else state.theirs
            held = dict(projection.current(project.store, side).files())
            rows = project.index.rows()
            # An entry of ours that does not count exists only as the file on disk, still untouched.
            apart = [path for path in chosen if ours and path in rows and path not in held]
            _take_as_it_is(project, apart, readers)
            backup = _take(project, [p for p in chosen if p not in apart], held, state.trees)
        else:
            check_unmarked(project, chosen)
            _take_as_it_is(project, chosen, readers)
        clear_conflicts(project, chosen)
        left = merge_in_progress(project).conflicts
        return Resolved(paths=tuple(chosen), left=left, backup=backup)


def _take(
    project: Project, paths: Sequence[str], held: Mapping[str, Placed], prepared: history.Trees
) -> str:
    """Write files as one side holds them, unless they were edited, and stage them."""
    rows = project.index.rows()
    marks = dict(View(project.store, prepared, project.owner).files())
    wanted = {path: held.get(path) for path in paths}
    marked = {
        path: staging.row_of(path, marks[path], project.vault, absent=False)
        for path in paths
        if path in marks
    }
    made = checkout.plan_files(project.worktree, project.store, rows, wanted, marked)
    backup, done = carry_out(project, rows, made, force=True)
    with project.database.transaction():
        done.record(project.index)
        project.index.remove(path for path, placed in wanted.items() if placed is None)
    return backup


def _take_as_it_is(project: Project, paths: Sequence[str], readers: str = "") -> None:
    """Stage files as they are on disk, or as gone."""
    rows = project.index.rows()
    found = ((path, project.worktree.stat(path)) for path in paths)
    stats = {path: file_stat(stat) for path, stat in found if stat}
    chosen = staging.selection(stats, set(paths), set(paths) - stats.keys())
    try:
        stage_selection(project, rows, chosen, readers, seen=True)
    except errors.WouldOpen as error:
        error.facts["command"] = "resolve"
        raise


def merge_in_progress(project: Project) -> pending.State:
    """Return the merge in progress.

    Raises:
        NothingToDo: There is none.
    """
    state = pending.load(project.database)
    if state is None:
        raise errors.NoMerge
    return state


def merge_continue(project: Project, message: str = "") -> LogEntry:
    """Commit a merge whose conflicts are resolved.

    Arguments, results and errors are those of `Repository.merge_continue`.
    """
    with project.locked():
        merge_in_progress(project)
        return commit(project, message)


def merge_abort(project: Project) -> Undone:
    """Go back to the state before the merge. Files edited since are kept as a backup.

    Arguments, results and errors are those of `Repository.merge_abort`.
    """
    with project.operation("merge --abort"):
        state = merge_in_progress(project)
        if not oplog.known(project.database, state.operation):
            raise errors.MergeForgotten
        plan = undo.plan_undo(project, state.operation, force=True)
        return undo.apply(project, plan, force=True)
