"""Saving: stage what has changed, commit it and push, in one step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Sequence
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
from dorky.paths import selector
from dorky.project import ORIGIN, Project
from dorky.remote import authority
from dorky.remote.ahead import Ahead
from dorky.remote.fetch import fetch
from dorky.remote.journal import Journal
from dorky.remote.root import Remote
from dorky.results import LogEntry, Saved, Staged, Synced
from dorky.store.history import MAIN
from dorky.store.objects import Announce


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
    with project.locked(), contextlib.ExitStack() as stack:
        remote = project.remote()
        # Before anything is committed, this refuses a project that has none, or one to read only.
        check_writable(remote.driver)
        begun: list[tuple[Ahead, Journal]] = []

        def ahead() -> Announce | None:
            if _may_send(project, remote):
                journal = Journal(remote)
                begun.append((stack.enter_context(Ahead(remote, journal)), journal))
                return begun[-1][0].send
            return None

        allowed = {"force": force, "confirmed": confirmed}
        take = partial(staging.stage, project, given, readers=readers, ahead=ahead, **allowed)
        record = partial(committing.commit, project, allow_deletions=allow_deletions, ahead=ahead)
        try:
            with project.operation("save"):
                staged, commit = _commit(project, given, message, take, record)
        except errors.DorkyError:
            _discard(begun)
            raise
        try:
            synced = _push(project, remote, begun)
        except errors.DorkyError as error:
            error.facts["committed"] = commit
            raise
        return Saved(staged=staged, commit=commit, synced=synced)


def _may_send(project: Project, remote: Remote) -> bool:
    """Return whether packs may be sent before the push; if not, the push says what is wrong."""
    try:
        if not project.is_named():
            return False
        project.check_pin()
        authority.check_writer(remote)
        if remote.version is None:
            with contextlib.suppress(errors.NoRepositoryAtURL):
                remote.read()
                return False  # a repository that is not known yet may have other groups
        project.check_swaps(remote)
    except errors.DorkyError:
        return False
    return True


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
        named = selector(names)
        commit = record(message, only=lambda path: path in changed or named(path))
    except errors.EmptyMessage as error:
        error.facts["during"] = "save"
        raise
    except errors.NothingStaged as error:
        head = project.database.ref(MAIN)
        if head is None or head == project.database.ref(f"{ORIGIN}/{MAIN}"):
            raise errors.NothingToSave from error
        return staged, None  # an earlier save was interrupted before its push
    return staged, commit


def _discard(begun: Iterable[tuple[Ahead, Journal]]) -> None:
    """Delete what was sent, because no push is going to need it."""
    for ahead, journal in begun:
        ahead.finish()
        if ahead.sent:
            journal.discard(ahead.sent)


def _push(project: Project, remote: Remote, begun: Collection[tuple[Ahead, Journal]]) -> Synced:
    """Push; pull and merge first only if the remote has moved.

    Args:
        project: The project.
        remote: The remote.
        begun: The uploads that have begun already.
    """
    journal = None
    for ahead, journal in begun:  # noqa: B007 - the last one is the push's
        ahead.finish(project.progress)
    try:
        return Synced(pulled=None, pushed=syncing.push(project, journal=journal))
    except errors.Rejected:
        return syncing.sync(project)
    except (errors.AccessError, errors.IntegrityError):
        # The swap may have won for all that, so the root is read first.
        with contextlib.suppress(errors.DorkyError):
            if begun:
                fetch(remote)
                _discard(begun)
        raise
