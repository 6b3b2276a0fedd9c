"""Saving: stage what has changed, commit it and push, in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from os import PathLike

from dorky import errors
from dorky.commands import commit as committing
from dorky.commands import stage as staging
from dorky.commands import sync as syncing
from dorky.commands.checkout import check_no_merge
from dorky.commands.inspect import StrPath, repository_paths
from dorky.drivers.base import check_writable
from dorky.merge import pending
from dorky.paths import matches
from dorky.project import ORIGIN, Project
from dorky.results import LogEntry, Saved, Staged, Synced
from dorky.store.history import MAIN


def save(
    project: Project,
    paths: StrPath | Iterable[StrPath] = (),
    message: str = "",
    *,
    force: bool = False,
    readers: str = "",
    confirmed: bool = False,
    allow_deletions: bool = False,
) -> Saved:
    """Stage what has changed, commit it and push; merge first if the remote has moved.

    Arguments, results and errors are those of `Repository.save`.
    """
    given = [paths] if isinstance(paths, (str, PathLike)) else list(paths)
    with project.locked():
        # Before anything is committed, this refuses a project that has none, or one to read only.
        check_writable(project.remote().driver)
        with project.operation("save"):
            take = partial(
                staging.stage, project, given, force=force, readers=readers, confirmed=confirmed
            )
            record = partial(committing.commit, project, allow_deletions=allow_deletions)
            staged, commit = _commit(project, given, message, take, record)
        try:
            synced = _push(project)
        except errors.DorkyError as error:
            error.facts["committed"] = commit
            raise
        return Saved(staged=staged, commit=commit, synced=synced)


def _commit(
    project: Project,
    given: Sequence[StrPath],
    message: str,
    take: Callable[[], Staged],
    record: Callable[..., LogEntry],
) -> tuple[Staged | None, LogEntry | None]:
    """Stage and commit; the commit is None if only the push of an earlier one is missing.

    Raises:
        NothingToSave: Nothing has changed, and nothing is left to push.
        MergeInProgress: Single paths were named, and a merge is not ended.
    """
    staged = None
    try:
        if not given:
            return None, record(message, all=True)
        if pending.load(project.database):
            check_no_merge(project)
        committing.check_message(project, message)
        names = repository_paths(project, given)
        staged = take()
        changed = {change.path for change in staged.changes}
        commit = record(message, only=lambda path: path in changed or _is_named(path, names))
    except errors.EmptyMessage as error:
        error.facts["during"] = "save"
        raise
    except errors.NothingStaged as error:
        head = project.database.ref(MAIN)
        if head is None or head == project.database.ref(f"{ORIGIN}/{MAIN}"):
            raise errors.NothingToSave from error
        return staged, None  # an earlier save was interrupted before its push
    return staged, commit


def _is_named(path: str, names: Sequence[str]) -> bool:
    return any(
        not name or path == name or path.startswith(f"{name}/") or matches(path, name)
        for name in names
    )


def _push(project: Project) -> Synced:
    """Push; pull and merge first only if the remote has moved."""
    try:
        return Synced(pulled=None, pushed=syncing.push(project))
    except errors.Rejected:
        return syncing.sync(project)
