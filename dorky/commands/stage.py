"""Local work: stage, unstage, delete, commit and restore files.

The functions take plain values and return the frozen records of `dorky.results`; they never print.
Paths are repository paths, or absolute.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from dorky import errors, files, git
from dorky.commands.checkout import (
    carry_out,
    changes_on_disk,
    hide_from_git,
    is_file_on_disk,
    is_on_disk,
    show_to_git,
    vouched,
)
from dorky.commands.inspect import (
    StrPath,
    placed_files,
    repository_paths,
    tombstone_finder,
)
from dorky.commands.status import omissions
from dorky.config import RC, SIGNERS
from dorky.format.model import ALL, ObjectId
from dorky.keys import placement, roster
from dorky.keys.roster import GroupOf
from dorky.merge import pending
from dorky.paths import looks_like_source, shown
from dorky.project import Project
from dorky.results import Change, CheckedOut, Staged
from dorky.store import history, oplog, outgoing
from dorky.store.history import Placed
from dorky.store.index import Row
from dorky.store.objects import batches
from dorky.store.projection import View
from dorky.worktree import checkout, staging

if TYPE_CHECKING:
    from dorky.worktree.plan import Plan

_MANY = 500

# --- staging ---------------------------------------------------------------------------


def stage(
    project: Project,
    paths: StrPath | Iterable[StrPath],
    *,
    force: bool = False,
    readers: str = "",
    confirmed: bool = False,
    seen: bool = False,
    ahead: staging.Ahead | None = None,
) -> Staged:
    """Make the next commit hold files as they are now: changed, new, or gone.

    Arguments, results and errors are those of `Repository.stage`; ``seen`` says that files which
    were never pulled were made of their committed versions, ``ahead`` is that of
    `stage_selection`.
    """
    names = repository_paths(project, paths)
    with project.operation(f"stage {shown(names)}"):
        rows = _rows_about(project, names)
        for name in names:
            if name not in rows and (link := project.worktree.link_above(name)):
                raise errors.UnstorablePath(
                    name,
                    f"{link} is a symbolic link",
                    link=link,
                )
        chosen = staging.select(project.worktree, project.ignore, rows, names, force=force)
        if chosen.gone:
            from dorky.commands import sparse

            chosen.gone.difference_update(sparse.left_out(project, chosen.gone))
        settled = _settled_by(project, names, chosen)
        seen = seen or force
        done = stage_selection(
            project, rows, chosen, readers, confirmed=confirmed, seen=seen, ahead=ahead
        )
        clear_conflicts(project, settled)
        return done


def _rows_about(project: Project, names: Sequence[str]) -> dict[str, Row]:
    """Return the rows that decide what staging some paths does; all only if any may matter."""
    everywhere = "" in names or len(names) > _MANY or any(set("*?[") & set(name) for name in names)
    if everywhere or project.roster.groups or project.worktree.disk().folds:
        return project.index.rows()
    return project.index.around(names)


def _settled_by(project: Project, names: Iterable[str], chosen: staging.Selection) -> set[str]:
    """Return the conflicts that staging settles: files named outright. Others are skipped.

    Raises:
        StillMarked: A named file still has conflict markers.
    """
    state = pending.load(project.database)
    if state is None:
        return set()
    unsettled = {conflict.path for conflict in state.conflicts}
    named = unsettled.intersection(names)
    check_unmarked(project, named)
    for path in (unsettled - named) | {conflict.beside for conflict in state.conflicts}:
        if path not in chosen.named:
            chosen.present.pop(path, None)
            chosen.gone.discard(path)
    return named


def check_unmarked(project: Project, paths: Iterable[str]) -> None:
    """Refuse files that still hold conflict markers.

    Raises:
        StillMarked: There is such a file.
    """
    from dorky.merge import threeway

    for path in sorted(filter(functools.partial(is_file_on_disk, project), paths)):
        with open(project.worktree.open(path), "rb") as file:
            line = threeway.marked(file.read())
        if line is not None:
            raise errors.StillMarked(path, line)


def clear_conflicts(project: Project, paths: Collection[str]) -> None:
    """Record that conflicts are settled, and delete the copies that the merge put next to files.

    A copy that was edited stays: it is a file like any other.
    """
    state = pending.load(project.database)
    if state is None or not paths:
        return
    besides = {
        conflict.beside
        for conflict in state.conflicts
        if conflict.beside and conflict.path in paths
    }
    view = View(project.store, state.trees, project.owner)
    held = dict(view.files(besides)) if besides else {}
    gone = []
    for path in sorted(besides & held.keys()):
        stat = project.worktree.stat(path)
        if stat and staging.holds(project.worktree, path, stat, held[path].entry):
            row = staging.row_of(path, held[path], project.vault, absent=False)
            oplog.note_disk(project.database, {path: (row, None)})
            project.worktree.remove(path)
            gone.append(path)
    show_to_git(project, gone)
    left = tuple(conflict for conflict in state.conflicts if conflict.path not in paths)
    pending.save(project.database, msgspec.structs.replace(state, conflicts=left))


def stage_selection(
    project: Project,
    rows: Mapping[str, Row],
    chosen: staging.Selection,
    readers: str = "",
    *,
    confirmed: bool = False,
    seen: bool = False,
    ahead: staging.Ahead | None = None,
) -> Staged:
    """Stage selected files, and make git ignore them.

    Arguments and errors are those of `stage`; ``ahead`` returns what sends packs before all files
    are read (see `staging.stage`).
    """
    top = git.find(project.root)
    skipped = 0
    for path in chosen.present.keys() - rows.keys():
        name = path.rpartition("/")[2]
        if name in {RC, SIGNERS} or (top and files.is_gits_own(name)):
            if path in chosen.named:
                raise errors.UnstorablePath(path, "it belongs into git, or next to the project")
            del chosen.present[path]
    if top:
        skipped = _leave_to_git(project, top, rows, chosen)
    _check_pulled(project, rows, () if seen else list(chosen.present), chosen)
    portable = project.config.get("portable_names") is not False
    staging.omit_names(chosen, rows, portable=portable)
    new = chosen.present.keys() - rows.keys()
    if top and not confirmed:
        _check_found(new - chosen.named, first=not project.index.count)
    # A path that goes makes room for another: a file may be renamed from Readme to README.
    held = set(project.index.names()) - chosen.gone if new else ()
    staging.check_names(new, held, portable=portable)
    _check_no_repository(project, new)
    check_groups(project, chosen.present)
    _check_readers(project, chosen.present, readers)
    for path, nested in project.worktree.inside_nested(sorted(new)):
        raise errors.NestedProject(path, nested)
    # Before anything is staged: dorky must not keep a file that git still sees.
    lines: list[str] = []
    if top:
        from dorky.commands.hiding import hide

        lines = hide(project, chosen.present, chosen.directories)
    try:
        changes = staging.stage(
            project.worktree,
            project.store,
            project.index,
            rows,
            chosen,
            owning(project),
            project.progress,
            lambda new: None if readers else _check_sources(project, rows, new),
            ahead if readers or _opens_nothing(project, rows) else None,
        )
    except BaseException:
        # dorky does not keep them, so git must not ignore them either. Other lines may be for files
        # of other members that were not pulled yet.
        if lines:
            show_to_git(project, new, lines)
        raise
    if lines and (left := [path for path in chosen.omitted if path not in rows]):
        show_to_git(project, left, lines)
    added = [change.path for change in changes if change.what == "added"]
    return Staged(
        changes=tuple(changes),
        ignored=tuple(lines),
        skipped=skipped,
        nested=tuple(sorted({*chosen.nested})),
        purged=tuple(filter(tombstone_finder(project), added)),
        omitted=omissions(chosen.omitted),
    )


def _check_pulled(
    project: Project,
    rows: Mapping[str, Row],
    paths: Iterable[str],
    chosen: staging.Selection,
) -> None:
    """Refuse files in place of other versions that were never on this disk.

    Those that were found in directories are left out.

    Raises:
        NeverPulled: There is such a file.
    """
    for path in paths:
        row = rows.get(path)
        if row is None or not row.absent:
            continue
        stat = chosen.present[path]
        try:
            if staging.holds(project.worktree, path, stat, staging.entry_of(row, project.vault)):
                continue
        except (errors.UnreadableFile, errors.DiskError):
            continue  # staging says so
        error = errors.NeverPulled(path)
        if path in chosen.named:
            raise error
        chosen.omit(path, error)


def _check_found(found: Collection[str], *, first: bool) -> None:
    """Refuse to take along, with a directory, what git should track.

    Raises:
        SourceCode: It looks like source code.
        ManyFiles: It is very much, and nothing is kept yet.
    """
    if source := [path for path in found if looks_like_source(path.rpartition("/")[2])]:
        raise errors.SourceCode(shown(sorted(source)))
    if first and len(found) > _MANY:
        raise errors.ManyFiles(f"{len(found):,}")


def check_groups(project: Project, paths: Iterable[str]) -> None:
    """Refuse files that can't be encrypted for the readers they are meant for.

    Raises:
        ForeignGroup: The files belong to a group that the user is not in.
        AmbiguousGroup: The files belong to several groups.
    """
    known = project.roster
    if not known.groups:
        return
    owner, groups = placement.owner(known), project.vault.groups
    for path in paths:
        group = owner(path)
        if group is None:
            raise outgoing.contested(known, path)
        if group not in groups:
            raise errors.ForeignGroup(path, roster.name_of(known, group))


def owning(project: Project) -> GroupOf:
    """Return the function that gives a path's owner, for paths that `check_groups` accepts."""
    owner = project.owner
    return lambda path: owner(path) or ALL


def _check_readers(project: Project, paths: Iterable[str], readers: str) -> None:
    """Check that files belong to the readers that were named for them, if any were.

    Raises:
        NoSuchGroup: There is no such group.
        UsageError: A file belongs to other readers.
    """
    if not readers:
        return
    known = project.roster
    named = ALL if readers == ALL else roster.group(known, readers).id
    owner = placement.owner(known)
    for path in paths:
        if (group := owner(path)) not in {named, None}:
            name = roster.name_of(known, str(group))
            raise errors.OtherReaders(path, name, readers)


def _check_sources(project: Project, rows: Mapping[str, Row], new: Iterable[Row]) -> None:
    """Refuse rows that would open what a group has closed to the rows' readers.

    The content tells where it comes from: a file of the group that is staged or committed holds the
    same content, or the replaced row was the group's.

    Raises:
        WouldOpen: There is such a row.
    """
    if not project.roster.groups:
        return
    closed: dict[str, str] | None = None
    for row in new:
        old = rows.get(row.path)
        source = old.group if old else ALL
        if source == ALL and row.size:
            if closed is None:
                closed = _closed_contents(project, rows)
            source = closed.get(project.vault.mask(row.digest, row.content), ALL)
        if placement.is_widening(source, row.group):
            raise would_open(project, row.path, source, row.group)


def _opens_nothing(project: Project, rows: Mapping[str, Row]) -> bool:
    """Return whether `_check_sources`, which sees whole files only, refuses nothing."""
    if not project.roster.groups:
        return True
    return project.index.groups <= {ALL} and all(row.group == ALL for row in rows.values())


def would_open(
    project: Project, path: str, source: str, target: str, **facts: object
) -> errors.WouldOpen:
    """Return the error, with the names of the groups."""
    old, new = (roster.name_of(project.roster, group) for group in (source, target))
    return errors.WouldOpen(path, old, new, **facts)


def _closed_contents(project: Project, rows: Mapping[str, Row]) -> dict[str, str]:
    """Return the SHA-256 of each file of a closed group, staged or committed, with the group."""
    if project.index.groups <= {ALL}:
        return {}
    since = project.index.since
    # If nothing is staged, the rows equal what is committed.
    paths = since[1] if since and since[0] == history.head_of(project.store) else None
    kept = staging.committed(project.store, project.index, rows, paths)
    found = {placed.entry.sha256: placed.group for placed in kept.values()}
    found |= {project.vault.mask(row.digest, row.content): row.group for row in rows.values()}
    return {digest: group for digest, group in found.items() if group != ALL}


def _check_no_repository(project: Project, new: Collection[str]) -> None:
    """Refuse files that would make git take a directory for a repository of its own.

    Raises:
        UnstorablePath: Every member's git would obey the ``config`` of that repository.
    """
    for directory in sorted(checkout.repositories(project.worktree, new)):
        for path in sorted(new):
            if not directory or path.startswith(f"{directory}/"):
                raise errors.UnstorablePath(
                    path,
                    "git takes its directory for a repository, and would run what is in it",
                    repository=directory,
                )


def _leave_to_git(
    project: Project, top: Path, rows: Mapping[str, Row], chosen: staging.Selection
) -> int:
    """Refuse named files that git tracks; skip those found in directories."""
    held: set[str] = set()
    for batch in batches(chosen.present, git.AT_ONCE):
        candidates = {project.root / path: path for path in batch}
        held.update(candidates[path] for path in git.tracked(top, list(candidates)))
    for path in sorted(held):
        if path in chosen.named or path in rows:
            raise errors.GitTracked(path)
    for path in held:
        del chosen.present[path]
    return len(held)


def unstage(project: Project, paths: StrPath | Iterable[StrPath]) -> Staged:
    """Make the next commit hold files as ``HEAD`` does. The files on disk stay as they are."""
    names = repository_paths(project, paths)
    with project.operation(f"unstage {shown(names)}"):
        rows = project.index.rows()
        committed = staging.committed(project.store, project.index, rows)
        chosen = staging.tracked({**committed, **rows}, names, " or staged")
        changes, back, gone = [], [], []
        for path in chosen:
            placed, row = committed.get(path), rows.get(path)
            if placed is None:
                gone.append(path)
                changes.append(Change(path, "deleted"))
            elif not staging.agree(row, placed.entry):
                absent = project.worktree.stat(path) is None and (row is None or row.absent)
                back.append(staging.row_of(path, placed, project.vault, absent=absent))
                changes.append(Change(path, "modified" if row else "added"))
        with project.database.transaction():
            project.index.remove(gone)
            project.index.put(back)
            staging.note_remote_only(project.store, project.index, back)
        # Neither git nor dorky keeps these files: `git clean -x` would delete what git ignores.
        show_to_git(project, gone)
        there = (row.path for row in back if is_on_disk(project, row.path))
        return Staged(changes=tuple(sorted(changes)), ignored=tuple(hide_from_git(project, there)))


def rm(
    project: Project,
    paths: StrPath | Iterable[StrPath],
    *,
    cached: bool = False,
    force: bool = False,
) -> Staged:
    """Make the next commit not hold files, and delete them.

    Arguments, results and errors are those of `Repository.rm`.
    """
    names = repository_paths(project, paths)
    with project.operation(f"rm {shown(names)}"):
        rows = project.index.rows()
        chosen = {path: rows[path] for path in staging.tracked(rows, names)}
        kept = ""
        if not cached:
            kept = _delete(project, rows, chosen, force=force)
        with project.database.transaction():
            project.index.remove(chosen)
            clear_conflicts(project, chosen.keys())
        if cached:
            show_to_git(project, chosen)
        changes = tuple(Change(path, "deleted") for path in chosen)
        return Staged(changes=changes, backup=kept)


def _delete(
    project: Project, rows: Mapping[str, Row], chosen: Mapping[str, Row], *, force: bool
) -> str:
    """Delete files; return the ref that keeps those whose content is not committed."""
    made = checkout.plan_files(project.worktree, project.store, rows, dict.fromkeys(chosen))
    staged = {change.path for change in staging.staged(project.store, project.index, rows)}
    made.conflicts.update(staged & made.remove)
    if made.conflicts and not force:
        raise errors.LocalChanges(shown(sorted(made.conflicts)), during="rm")
    kept, _ = carry_out(project, rows, made, force=True)
    return kept


# --- restoring -------------------------------------------------------------------------


def restore(
    project: Project,
    paths: StrPath | Iterable[StrPath],
    *,
    source: str = "",
    staged: bool = False,
    readers: str = "",
) -> CheckedOut | Staged:
    """Put files back as they are staged, or as a revision holds them.

    Arguments, results and errors are those of `Repository.restore`.
    """
    if staged:
        if source:
            raise errors.UsageError("The index is restored from HEAD, not from another source")
        return unstage(project, paths)
    names = repository_paths(project, paths)
    with project.operation(f"restore {shown(names)}"):
        rows = project.index.rows()
        commit = history.resolve(project.store, source) if source else None
        held = (
            placed_files(project, commit)
            if commit
            else {path: staging.placed_of(row, project.vault) for path, row in rows.items()}
        )
        where = f" in {source}" if source else ""
        chosen = staging.tracked(held, names, where)
        frozen: list[str] = []
        if commit:
            owner = project.owner
            frozen = [path for path in chosen if owner(path) is None]
            left = set(frozen)
            if named := left.intersection(names):
                raise outgoing.contested(project.roster, min(named))
            chosen = [path for path in chosen if path not in left]
            _check_readers(project, chosen, readers)
            _check_restored(project, {path: held[path] for path in chosen}, source, readers)
        wanted: dict[str, Placed | None] = {path: held[path] for path in chosen}
        made = checkout.plan_files(project.worktree, project.store, rows, wanted)
        exact = _vouched(project, rows, made, commit)
        backup, done = carry_out(project, rows, made, force=True, exact=exact)
        changes = changes_on_disk(made)
        with project.database.transaction():
            # Files from another revision are changes that may be staged; the index stays.
            project.index.refresh(
                row
                for row in done.rows()
                if not row.absent and row.path in rows and row.same(rows[row.path])
            )
        return CheckedOut(
            commit=commit,
            changes=changes,
            backup=backup,
            ignored=done.ignored,
            left_out=done.left_out,
            unplaced=done.unplaced,
            frozen=tuple(frozen),
        )


def _vouched(
    project: Project, rows: Mapping[str, Row], made: Plan, commit: ObjectId | None
) -> set[str]:
    """Refuse committed files that are not signed as the rules demand (see `vouching.check`).

    What the user has staged and not committed is the user's own.
    """
    if commit:
        return vouched(project, made.write, commit)
    staged = {change.path for change in staging.staged(project.store, project.index, rows)}
    held = {path: placed for path, placed in made.write.items() if path not in staged}
    return vouched(project, held, history.head_of(project.store))


def _check_restored(
    project: Project, held: Mapping[str, Placed], source: str, readers: str
) -> None:
    """Refuse files of a group that would belong to others once they are staged.

    Raises:
        WouldOpen: There is such a file, and its new readers were not named.
    """
    owner = project.owner
    for path, placed in () if readers else held.items():
        target = owner(path)
        if target is not None and placement.is_widening(placed.group, target):
            raise would_open(
                project, path, placed.group, target, command="restore", revision=source
            )
