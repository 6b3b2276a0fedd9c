"""Checkout: plan changes to the worktree and carry them out.

Files that stand in the way of a plan are kept in a backup commit, git is told to ignore the files
that appear, and the operation log records what is replaced. Every command that writes files uses
this module.
"""

from __future__ import annotations

import contextlib
import itertools
import stat as stat_module
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from dorky import errors, files, git
from dorky.commands.inspect import fetch_missing, needing, told
from dorky.format import chunk
from dorky.format.model import ALL, ObjectId
from dorky.keys import placement
from dorky.keys.roster import GroupOf
from dorky.merge import pending
from dorky.paths import parents, shown
from dorky.project import ORIGIN, Project
from dorky.results import Change, CheckedOut, Omission
from dorky.store import contents, history, oplog, projection
from dorky.store.history import MAIN, Placed
from dorky.store.index import Row
from dorky.store.objects import batches
from dorky.store.projection import View
from dorky.worktree import checkout as engine
from dorky.worktree import staging
from dorky.worktree.checkout import Done, Wanted
from dorky.worktree.worktree import Writing

if TYPE_CHECKING:
    from dorky.worktree.incoming import Incoming
    from dorky.worktree.plan import Plan

_COUNTED = 5000
_FEW = 500
"""The most changes for which single rows are read, and not all of them."""
_FETCHED = 50_000


def checkout(project: Project, revision: str, *, force: bool = False) -> CheckedOut:
    """Make the files and the index match a revision.

    Arguments, results and errors are those of `Repository.checkout`.
    """
    with project.operation(f"checkout {revision}"):
        check_no_merge(project)
        target = history.resolve(project.store, revision)
        head = history.head_of(project.store)
        view = projection.current(project.store, target)
        found = projection.differences(projection.current(project.store, head), view)
        changes = told(found)
        detached = b"" if revision == MAIN else target.encode()
        rows, made = plan_checkout(project, head, view, lambda _: True)
        exact = vouched(project, made.write, target)
        backup, done = carry_out(project, rows, made, force=force, exact=exact)
        clean = project.index.commit == head
        with project.database.transaction():
            done.record(project.index)
            record_groups(project)
            project.database.set("head", detached)
            if clean:
                project.index.set_commit(target)
        return CheckedOut(
            commit=target,
            changes=changes,
            backup=backup,
            ignored=done.ignored,
            left_out=done.left_out,
            unplaced=done.unplaced,
        )


def plan_checkout(
    project: Project, old: ObjectId | None, after: View, wanted: Wanted, keep: Collection[str] = ()
) -> tuple[dict[str, Row], Plan]:
    """Plan the way from a commit to other trees; staged files that do not change stay staged.

    Returns:
        The staged files that the plan is about, and the plan.
    """
    top = git.find(project.root)
    partly = top is not None and git.sparse_file(top)
    grouped = bool(project.roster.groups)
    lost = project.index.groups - project.vault.groups if grouped else frozenset()
    gained = project.vault.groups - project.index.groups if grouped else frozenset()
    absent = partly or project.index.has_absent
    trees = history.trees_of(project.store, old, project.index.groups)
    before = View(project.store, trees, project.index.owner)
    moved = project.index.claims != placement.claims(project.roster)
    if trees == after.trees and not (lost or gained or absent or moved):
        from dorky.worktree.plan import nothing

        return {}, nothing(project.store.scratch)
    found = iter(() if moved else projection.differences(before, after))
    first = list(itertools.islice(found, _FEW + 1))
    if lost or absent or moved or len(first) > _FEW or project.worktree.disk().folds:
        rows = project.index.rows()
    else:
        rows = project.index.around(change.path for change in first)
    if moved:
        past = (
            View(project.store, history.trees_of(project.store, commit.id, project.index.groups))
            for commit in history.ancestors(project.store, [old] if old else [])
        )
        found = iter(engine.regrouped(rows, before, after, past))
    if partly:
        from dorky.commands import sparse

        stats = project.worktree.stats(rows)
        gone = sparse.left_out(project, (path for path, stat in stats if stat is None))
        rows.update((path, rows[path]._replace(absent=True)) for path in gone)
        wanted = _inside(wanted, sparse.outside(project))
    changes = itertools.chain(first, found)
    made = engine.plan(project.worktree, project.store, rows, changes, wanted, keep)
    # The user has lost the keys of these groups, so local changes can't be told: the files stay.
    made.forget.update(path for path, row in rows.items() if row.group in lost)
    if moved:
        made.forget.update(_taken_over(project, rows))
    return rows, made


def _taken_over(project: Project, rows: Mapping[str, Row]) -> Iterator[str]:
    """Yield files that several groups claimed, and that now belong to one that the user is not in.

    They may have left the trees that the user reads while they were contested, so no difference
    between commits shows them. Local changes can't be told: the files stay.
    """
    before, after, own = project.index.owner, project.owner, project.vault.groups
    for path in rows:
        if before(path) is None and (group := after(path)) is not None and group not in own:
            yield path


def _inside(wanted: Wanted, outside: Wanted | None) -> Wanted:
    """Leave out of what is wanted what a sparse checkout of git leaves out."""
    return wanted if outside is None else lambda path: wanted(path) and not outside(path)


def record_groups(project: Project) -> None:
    """Record, after a checkout, that the index covers all groups that the user is in."""
    if project.roster.groups:
        project.index.set_groups(project.vault.groups)
        project.index.set_claims(placement.claims(project.roster))


def follow_claims(project: Project, head: ObjectId | None) -> None:
    """Make the index use today's owners of paths.

    A file that begins to count is recorded as not on disk yet. A contested one that now belongs to
    a group that the user is not in is kept no longer.
    """
    claims = placement.claims(project.roster)
    if project.index.claims == claims:
        return
    rows = project.index.rows()
    trees = history.trees_of(project.store, head, project.index.groups)
    known = dict(View(project.store, trees, project.index.owner).files())
    new = [
        staging.row_of(path, placed, project.vault)
        for path, placed in View(project.store, trees, project.owner).files()
        if path not in rows and path not in known
    ]
    gone = list(_taken_over(project, rows))
    with project.database.transaction():
        project.index.remove(gone)
        project.index.put(new)
        project.index.set_claims(claims)
        project.index.set_commit(None)


def readable_grouping(project: Project, rows: Mapping[str, Row]) -> GroupOf:
    """Return the function that gives the group of a file that stays on this machine.

    A file that a group has closed is kept for that group, whoever owns the path today. `ALL` stands
    for groups that the user is not in.
    """
    owner, own = project.owner, project.vault.groups

    def group_of(path: str) -> str:
        source = rows[path].group if path in rows else ALL
        candidates = (source if source != ALL else None, owner(path))
        return next((group for group in candidates if group in own), None) or ALL

    return group_of


def carry_out(
    project: Project,
    rows: Mapping[str, Row],
    made: Plan,
    *,
    force: bool,
    exact: Collection[str] = (),
) -> tuple[str, Done]:
    """Carry out a plan on disk.

    Args:
        project: The project.
        rows: The staged files.
        made: The plan.
        force: Whether to overwrite what is in conflict.
        exact: Files to write whose contents must have the recorded SHA-256: somebody vouches for
            that.

    Returns:
        The ref that keeps what ``force`` overwrote (empty if nothing), and what must be recorded in
        the index, in the transaction that moves refs.

    Raises:
        LocalChanges: There are conflicts, and ``force`` was not given.
    """
    left_out = leave_out(project, made)
    if made.conflicts and not force:
        raise errors.LocalChanges(shown(sorted(made.conflicts)))
    _check_space(project, made)

    with project.worktree.writing() as writing:
        with needing(project, made.write):
            incoming = _receive(project, writing, rows, made)
        _check_exact(project, made, incoming, exact)
        name, kept = _back_up(project, rows, made)
        _note_disk(project, rows, made, kept)
        # Hide the files before they exist, so that git never sees them. A path beyond a link or a
        # file that must go first can only be hidden afterwards.
        beyond: set[str] = set()
        if made.remove:
            beyond = {path for path in made.write if not made.remove.isdisjoint(parents(path))}
        ignored = hide_from_git(project, (path for path in made.write if path not in beyond))
        done = engine.apply(
            project.worktree, writing, project.store, made, incoming, project.progress
        )
    staging.note_remote_only(project.store, project.index, made.adopt)
    ignored += hide_from_git(project, beyond)
    left_out = tuple(sorted({*left_out, *project.store.left_out}))
    unplaced = tuple(Omission(path, made.unplaced[path]) for path in sorted(made.unplaced))
    return name, done._replace(ignored=tuple(sorted(ignored)), left_out=left_out, unplaced=unplaced)


def _receive(
    project: Project, writing: Writing, rows: Mapping[str, Row], made: Plan
) -> Incoming | None:
    """Fetch what a plan needs, verified; large files are written aside as they arrive."""

    store = project.store
    if replaced := [row for row in _replaced(rows, made) if row.size > chunk.WHOLE]:
        from dorky.commands import cache

        cache.secure(project, replaced)
    if all(size <= chunk.WHOLE for _, size in made.write.sizes()):
        # The places of a million objects would take much memory.
        for batch in batches((entry.content for _, entry in made.write.values()), _FETCHED):
            fetch_missing(project, contents.all_below(store, batch))
        return None
    from dorky.commands import cache
    from dorky.worktree.incoming import Incoming

    incoming = Incoming(writing, store, made.write)
    passing = cache.passing(project, incoming.expected)
    passing.difference_update(entry.content for _, entry in made.write.values())
    try:
        # A job saves the directory that DORKY_DIR names where others may read it.
        incoming.begin(passing, resume=project.config.state_directory is None)
        if passing:
            there = {placed.entry.content for placed in incoming.expected.values()}
            sources = [
                row
                for row in project.index.in_order()
                if not row.absent and (row.path in incoming.expected or row.content in there)
            ]
            incoming.reuse(sources, project.worktree.open)
        needed = engine.needed(
            store,
            (entry for path, (_, entry) in made.write.items() if path not in incoming.expected),
        )
        fetch_missing(project, needed | incoming.lacking, incoming.take, passing)
        if passing:
            project.index.note_remote_only(contents.lacking(store, there))
    except errors.DiskFull:
        incoming.discard()
        raise
    return incoming


def vouched(project: Project, found: Mapping[str, Placed], commit: ObjectId | None) -> set[str]:
    """Refuse files of a commit that are not signed as the rules demand (see `vouching.check`)."""
    if not project.config.rules:
        return set()
    from dorky.commands import vouching

    return vouching.check(project, found, old=vouching.is_old(project, commit))


def _check_exact(
    project: Project, made: Plan, incoming: Incoming | None, paths: Collection[str]
) -> None:
    """Refuse files whose contents don't have the recorded SHA-256.

    Raises:
        CorruptObject: There is such a file.
    """
    if not paths:
        return
    from dorky.commands import vouching

    for path in made.write.keys() & set(paths):
        group, entry = made.write[path]
        if incoming and path in incoming.expected:
            blocks = incoming.written(path)
        else:
            blocks = engine.read(project.store, entry, group)
        for _ in vouching.exact(blocks, entry):
            pass


def _replaced(rows: Mapping[str, Row], made: Plan) -> Iterator[Row]:
    """Yield what is staged, or stored otherwise, of the files that a plan replaces or deletes."""
    for path in made.judged:
        row = made.held.get(path) or rows.get(path)
        replaced = path in made.write or path in made.remove
        if row and replaced and path not in made.conflicts:
            yield row


def _back_up(project: Project, rows: Mapping[str, Row], made: Plan) -> tuple[str, list[Row]]:
    """Keep what a plan is going to overwrite by force (see `engine.backup`)."""
    name = ""
    kept: list[Row] = []
    if made.conflicts:
        name, kept = engine.backup(
            project.worktree,
            project.store,
            rows,
            made,
            author=project.author,
            group_of=readable_grouping(project, rows),
        )
    return name, kept


def _check_space(project: Project, made: Plan) -> None:
    """Refuse a plan for which the disk has no room; every file is written before one is replaced.

    Raises:
        NoRoom: The disk has less left than must be fetched and written.
    """
    size = sum(size for _, size in made.write.sizes())
    if not size:
        return
    store = project.store
    large = [made.write[path].entry for path, size in made.write.sizes() if size > chunk.WHOLE]
    small = (entry for _, entry in made.write.values() if entry.size <= chunk.WHOLE)
    for batch in itertools.chain([large], batches(small, _COUNTED)):
        missing = store.missing(engine.needed(store, batch))
        places = store.locate(missing, remote=ORIGIN)
        size += sum(place.length for place in places.values())
    free = files.free(project.root)
    if size > free:
        raise errors.NoRoom(project.root, f"{int(free):,} bytes", f"{size:,}")


def leave_out(project: Project, made: Plan) -> tuple[str, ...]:
    """Remove files from a plan that other programs would obey; return their paths."""
    return engine.keep_out(project.worktree, made, in_git=git.find(project.root) is not None)


def hide_from_git(project: Project, paths: Iterable[str]) -> list[str]:
    """Make git ignore files that have just appeared.

    Their `.gitignore` may not be on disk yet. Where git can't be run, a line is added for each.
    """
    top = git.find(project.root)
    wanted = list(paths) if top else []
    if top is None or not wanted:
        return []
    if project.lacks_git:
        from dorky import gitignore

        with contextlib.suppress(errors.GitMissing):  # it can't check whether the lines suffice
            gitignore.ignore(project.root, [project.root / path for path in wanted])
        return []
    from dorky.commands.hiding import hide

    untracked: list[str] = []
    for batch in batches(wanted, git.AT_ONCE):
        places = {project.root / path: path for path in batch}
        tracked = git.tracked(top, list(places))
        untracked += (path for place, path in places.items() if place not in tracked)
    # If a rule of git's includes the path again, `stage` reports it.
    with contextlib.suppress(errors.GitDoesNotIgnore):
        return hide(project, untracked)
    return []


def show_to_git(project: Project, paths: Iterable[str], lines: Iterable[str] | None = None) -> None:
    """Make git see files that dorky keeps no longer (see `hiding.show`)."""
    if git.find(project.root):
        from dorky.commands.hiding import show

        show(project, paths, lines)


def _note_disk(project: Project, rows: Mapping[str, Row], made: Plan, kept: Iterable[Row]) -> None:
    """Record in the operation log what a plan is about to do to files."""
    if project.database.operation is None:
        return
    held = {**made.held, **{row.path: row for row in kept}}

    def noted(path: str) -> tuple[Row | None, Row | None]:
        old = (held.get(path) or rows.get(path)) if path in made.judged else None
        new = made.write.get(path)
        return old, staging.row_of(path, new, project.vault, absent=False) if new else None

    with project.database.transaction():
        for batch in batches(itertools.chain(made.write, made.remove), _COUNTED):
            oplog.note_disk(project.database, {path: noted(path) for path in batch})


def keep_contents(project: Project, path: str) -> Row:
    """Store the content of a file, so that an undo can find it."""
    group = readable_grouping(project, project.index.rows([path]))(path)
    from dorky.worktree.ingest import store_files

    with project.store.writer() as writer:
        (row,) = store_files(project.worktree, {path: 0}, writer, project.store, lambda _: group)
        writer.save()
    return row


def changes_on_disk(made: Plan) -> tuple[Change, ...]:
    """Return how a plan is going to change files, tracked or not."""
    changes = [Change(path, "deleted") for path in made.remove]
    for path in made.write:
        changes.append(Change(path, "modified" if path in made.judged else "added"))
    return tuple(sorted(changes))


def is_on_disk(project: Project, path: str) -> bool:
    """Return whether a file or link (not a directory) is on disk at a path."""
    stat = project.worktree.stat(path)
    return stat is not None and not stat_module.S_ISDIR(stat.st_mode)


def is_file_on_disk(project: Project, path: str) -> bool:
    """Return whether a regular file is on disk at a path."""
    stat = project.worktree.stat(path)
    return stat is not None and stat_module.S_ISREG(stat.st_mode)


def attached_head(project: Project) -> ObjectId | None:
    """Return the commit of ``main``; None before the first commit.

    Raises:
        Detached: An old revision is checked out.
    """
    if detached := project.database.text("head"):
        raise errors.Detached(detached[:10])
    return project.database.ref(MAIN)


def check_no_merge(project: Project) -> None:
    """Refuse to continue during a merge.

    Raises:
        Unresolved: The merge has conflicts.
        MergeInProgress: The merge has no conflicts any more, but is not committed.
    """
    if state := pending.load(project.database):
        if state.conflicts:
            raise errors.Unresolved(shown([conflict.path for conflict in state.conflicts]))
        raise errors.MergeInProgress(state.label)
