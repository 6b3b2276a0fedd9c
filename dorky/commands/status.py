"""The state of a project: what is staged, changed, in the way, or only in the remote."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence

from dorky import errors
from dorky.commands import inspect
from dorky.commands.inspect import StrPath, masked_entries, repository_paths, tombstone_finder
from dorky.files import is_gits_own, stamp_at
from dorky.keys import placement, roster
from dorky.merge import pending
from dorky.paths import LOOKED_AT, OFTEN_PUBLIC, is_below, looks_secret, selector
from dorky.paths import is_public as shows_public
from dorky.project import ORIGIN, Project
from dorky.results import Change, Omission, Status
from dorky.store import history
from dorky.store.history import ATTEST, MAIN
from dorky.store.index import Sight
from dorky.worktree import staging
from dorky.worktree.worktree import Omit


def status(project: Project, paths: Iterable[StrPath] = ()) -> Status:
    """Return how the files, the index, ``HEAD`` and the remote (as last seen) differ.

    Arguments, results and errors are those of `Repository.status`.
    """
    given = repository_paths(project, paths)
    wanted = selector(given or [""])
    proofs = project.index.proofs(modes=not project.worktree.disk().no_modes)
    sight = _sight(project, proofs)
    whole = {*sight.whole}

    def inside(path: str) -> bool:
        return is_below(path, whole) and not is_gits_own(path.rpartition("/")[2])

    seen = project.worktree.survey(project.ignore, proofs, looks_secret, whole)
    merging = pending.load(project.database)
    conflicts = merging.conflicts if merging else ()
    unmerged = {conflict.path for conflict in conflicts}
    unreadable = {path: why for path, why in seen.unreadable.items() if wanted(path)}
    unproven = {path: stat for path, stat in seen.unproven.items() if wanted(path)}
    others = [path for path in seen.others if wanted(path)]
    unstaged, absent, sparse = _unstaged(project, unproven, unmerged, unreadable.__setitem__)
    remote = ORIGIN if ORIGIN in project.config.remotes() else ""
    moved = project.moved_from() if remote else ""
    fetched = not moved and project.database.root(ORIGIN) is not None
    ahead, behind = _ahead_behind(project) if fetched else (0, 0)
    head = history.head_of(project.store)
    rows = project.index.remote_only(project.store.missing) if remote else []
    only = [row for row in rows if wanted(row.path)]
    found = Status(
        branch=MAIN,
        head=head,
        detached=bool(project.database.get("head")),
        remote=remote,
        fetched=fetched,
        ahead=ahead,
        behind=behind,
        staged=tuple(change for change in _staged(project, unmerged) if wanted(change.path)),
        unstaged=unstaged,
        absent=absent,
        sparse=sparse,
        secrets=_secrets(project, others, merging),
        untracked=_stageable(project, filter(inside, others), merging),
        nested=tuple(sorted(filter(wanted, seen.nested))),
        tracked_by_git=tuple(filter(wanted, sight.tracked)),
        not_ignored=tuple(
            path for path in sight.exposed if wanted(path) and project.worktree.stat(path)
        ),
        closed=_closed(project),
        masked=tuple(entry for entry in masked_entries(project, head) if wanted(entry.path)),
        requests=tuple(project.database.text("requests").split()),
        merging=merging.label if merging else "",
        conflicts=tuple(each for each in conflicts if wanted(each.path)),
        moved=moved,
        partial=tuple(inspect.partial(project)),
        attested=fetched and _lacks_attestations(project),
        unreadable=omissions(unreadable),
        remote_only=tuple(row.path for row in only),
        remote_only_size=sum(row.size for row in only),
    )
    _check_given(project, given, proofs, found)
    return found


def _check_given(
    project: Project, given: Sequence[str], rows: Collection[str], found: Status
) -> None:
    """Refuse a path, most likely with a typing error, that is neither on disk nor kept.

    Raises:
        PathNotFound: There is one.
    """
    told = {change.path for change in found.staged} | {each.path for each in found.conflicts}
    told.update(entry.path for entry in found.masked)
    told.update(found.secrets, found.untracked, found.nested)
    for path in given:
        if path and project.worktree.stat(path) is None:
            selects = selector([path])
            if not any(map(selects, told)) and not any(map(selects, rows)):
                raise errors.PathNotFound(path)


def omissions(found: Mapping[str, errors.DorkyError]) -> tuple[Omission, ...]:
    """Return paths that a command has left out, with the reasons in their errors."""
    return tuple(
        Omission(path, str(error.args[-1]) if len(error.args) > 1 else error.message, error.code)
        for path, error in sorted(found.items())
    )


def _sight(project: Project, kept: Collection[str]) -> Sight:
    """Return what git sees of the kept files; ask git only if something has changed."""
    sight = project.index.sight
    if sight and all(stamp_at(place) == known for place, known in sight.places.items()):
        return sight
    if not any(os.path.lexists(above / ".git") for above in (project.root, *project.root.parents)):
        return Sight()
    from dorky.commands import hiding

    try:
        sight = hiding.look(project, kept)
    except errors.DorkyError:  # git is not installed, or refuses the repository; doctor says so
        return Sight()
    # This only fills a cache, so it can wait while another command is writing.
    with contextlib.suppress(errors.Locked, errors.ReadOnly, errors.DiskFull):
        if sight.places:
            project.index.set_sight(sight)
    return sight


def _ahead_behind(project: Project) -> tuple[int, int]:
    upstream = project.database.ref(f"{ORIGIN}/{MAIN}")
    return history.ahead_behind(project.store, project.database.ref(MAIN), upstream)


def _lacks_attestations(project: Project) -> bool:
    """Return whether the remote, as last seen, lacks attestations of the local history."""
    ours, theirs = (project.database.ref(name) for name in (ATTEST, f"{ORIGIN}/{ATTEST}"))
    return ours not in {None, theirs}


def _staged(project: Project, unmerged: Collection[str]) -> tuple[Change, ...]:
    changes = staging.staged(project.store, project.index)
    return tuple(change for change in changes if change.path not in unmerged)


def _unstaged(
    project: Project,
    unproven: Mapping[str, os.stat_result | None],
    unmerged: Collection[str],
    omit: Omit,
) -> tuple[tuple[Change, ...], int, int]:
    """Return the changes that are not staged, how many staged files are not on disk yet.

    The last number tells how many of these git's sparse checkout leaves out.
    """
    rows = project.index.rows(unproven) if unproven else {}
    sparse = inspect.mark_sparse(project, rows, unproven)
    changes = staging.unstaged(project.worktree, project.store, project.index, rows, unproven, omit)
    return (
        tuple(change for change in changes if change.path not in unmerged),
        sum(1 for row in rows.values() if row.absent),
        sparse,
    )


def _secrets(
    project: Project, others: Iterable[str], merging: pending.State | None
) -> tuple[str, ...]:
    """Return the files that look like secrets and that could be staged."""
    named = (path for path in others if looks_secret(path.rpartition("/")[2]))
    return tuple(
        path for path in _stageable(project, named, merging) if not is_public(project, path)
    )


def _stageable(
    project: Project, others: Iterable[str], merging: pending.State | None
) -> tuple[str, ...]:
    """Return those of the files that are not kept which could be staged."""
    known, own = project.roster, project.index.groups
    owner, purged = placement.owner(known), tombstone_finder(project)
    conflicts = merging.conflicts if merging else ()
    in_merge = {path for conflict in conflicts for path in (conflict.path, conflict.beside)}
    return tuple(
        path
        for path in sorted(others)
        if path not in in_merge and (not known.groups or owner(path) in own) and not purged(path)
    )


def is_public(project: Project, path: str) -> bool:
    """Return whether a file that is named like a secret shows at its beginning that it is none."""
    if not path.lower().endswith(OFTEN_PUBLIC):
        return False
    try:
        with open(project.worktree.open(path), "rb") as file:
            return shows_public(path.rpartition("/")[2], file.read(LOOKED_AT))
    except (OSError, errors.DorkyError):
        return False


def _closed(project: Project) -> tuple[str, ...]:
    """Return the groups whose files the user can't read."""
    own = project.index.groups
    return tuple(group.name for group in roster.living(project.roster) if group.id not in own)
