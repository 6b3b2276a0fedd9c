"""Record what is staged: a commit, with its files in the trees of their groups."""

from __future__ import annotations

import itertools
import stat as stat_module
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

import msgspec

from dorky import errors, git
from dorky.commands.checkout import (
    attached_head,
    check_no_merge,
    follow_claims,
)
from dorky.commands.inspect import (
    fetch_missing,
    log_entry,
    masked_entries,
)
from dorky.commands.stage import check_groups, owning, stage_selection, would_open
from dorky.files import file_stat
from dorky.format.model import ALL, Entry, KiB, ObjectId
from dorky.keys import placement, roster
from dorky.merge import pending, rewrite
from dorky.project import ORIGIN, Project
from dorky.results import Change, LogEntry
from dorky.store import directories, history, projection
from dorky.store.history import MAIN, Placed
from dorky.store.index import Row
from dorky.store.objects import Writer
from dorky.store.projection import View
from dorky.worktree import checkout, ingest, staging

_LONGEST_MESSAGE = 64 * KiB
_SEVERAL = 2
_FEW = 10


def commit(
    project: Project,
    message: str,
    *,
    all: bool = False,
    only: Callable[[str], bool] | None = None,
    allow_deletions: bool = False,
    ahead: staging.Ahead | None = None,
) -> LogEntry:
    """Commit what is staged.

    Arguments, results and errors are those of `Repository.commit`.

    Args:
        project: The project.
        message: The commit's message.
        all: Whether to stage tracked files that changed first.
        only: Tells which staged paths to commit; the others stay staged. No merge may be pending.
        ahead: See `stage_selection`.
    """
    message = check_message(project, message)
    with project.operation("commit"):
        head = attached_head(project)
        merging = pending.load(project.database)
        if merging and merging.conflicts:
            check_no_merge(project)
        rows: dict[str, Row] = {}
        chosen = _tracked(project, rows) if all else staging.selection({}, set(), set())
        if head and not allow_deletions:
            # What a merge deletes, the other side has committed.
            staged = () if merging else staging.staged(project.store, project.index)
            _check_deletions(project.index.count, chosen.gone, staged)
        if all:
            stage_selection(project, rows, chosen, ahead=ahead)
        follow_claims(project, head)
        changes, edits = ([], {}) if merging else _edits(project, head, only)
        apart: dict[str, Row | None] = {}
        plain = not (merging or project.roster.groups)
        plain = plain and staging.is_everybodys(project.index)
        if not edits and not plain:
            rows, changes, apart = _chosen(project, merging, only)
            if not changes and not merging and not only:
                changes = _dropped(project, head)
            if not changes and not merging:
                raise errors.NothingStaged
        with project.store.writer() as writer:
            if edits and head:
                old = history.read_commit(project.store, head).trees.get(ALL)
                moved: dict[str, Row] = {}
                trees = {ALL: directories.edit(project.store, writer, ALL, old, edits)}
            elif plain:
                moved = {}
                changes, trees, apart = _write_all(project, writer, head, only)
            else:
                moved, trees = _write_trees(project, writer, head, rows, changes, merging)
            carried = _carried(project, head, trees, merging)
            top = None if project.lacks_git else git.find(project.root)
            commit = history.add_commit(
                writer,
                {**trees, **carried},
                [head, merging.theirs if merging else None],
                author=project.author,
                message=message,
                git=(git.head(top) or "") if top else "",
            )
            with project.database.transaction():
                writer.save()
                project.database.set_ref(MAIN, commit)
                project.index.put(row for path, row in moved.items() if path not in apart)
                project.index.set_commit(None if apart else commit)
                if trees.keys() - project.index.groups:
                    project.index.set_groups(trees.keys() | project.index.groups)
                pending.save(project.database, None)
        return log_entry(
            project, history.read_commit(project.store, commit), commit, tuple(changes)
        )


def _edits(
    project: Project, head: ObjectId | None, only: Callable[[str], bool] | None
) -> tuple[list[Change], dict[str, Entry | None]]:
    """Return the staged changes, and the entries by path that a commit of them puts into trees.

    None stands for a deleted file. Nothing is returned if that takes all rows to tell, or if other
    changes stay staged.
    """
    index = project.index
    since = index.since
    if not head or not since or since[0] != head or project.roster.groups:
        return [], {}
    rows = index.around(since[1])
    kept = staging.committed(project.store, index, rows, since[1])
    changes = staging.differences(kept, rows)
    changed = [change.path for change in changes]
    # A row above or below another one is an error, which is found when all trees are written.
    if rows.keys() - set(since[1]) or (only and not all(map(only, changed))):
        return [], {}
    edits: dict[str, Entry | None] = dict.fromkeys(changed)
    for path in edits.keys() & rows.keys():
        old = kept.get(path)
        entry = staging.entry_of(rows[path], project.vault)
        edits[path] = _with_notes(entry, old.entry if old else None)
    return changes, edits


def _dropped(project: Project, head: ObjectId | None) -> list[Change]:
    """Return the files that the next commit leaves out, which may be its only change.

    They do not count (see `placement.judged`).
    """
    dropped = {
        entry.path for entry in masked_entries(project, head) if len(entry.owners) < _SEVERAL
    }
    return [Change(path, "deleted") for path in sorted(dropped)]


def _write_all(
    project: Project,
    writer: Writer,
    head: ObjectId | None,
    only: Callable[[str], bool] | None,
) -> tuple[list[Change], dict[str, ObjectId], dict[str, Row | None]]:
    """Store the trees that hold what is staged, all of it everybody's.

    Memory: the changes, and the entries of a few directories.

    Returns:
        The changes, the trees by group, and the paths at which other changes stay staged.

    Raises:
        NothingStaged: There are no changes.
    """
    store, index, vault = project.store, project.index, project.vault
    if head and index.commit == head:
        raise errors.NothingStaged
    changes: list[Change] = []
    apart: dict[str, Row | None] = {}

    def entries() -> Iterator[tuple[str, Entry]]:
        for path, row, old in staging.beside_committed(store, index, head):
            change = staging.change(path, row, old)
            if change and only and not only(path):
                apart[path] = None
                if old:
                    yield path, old
                continue
            if change:
                changes.append(change)
            if row:
                yield path, _with_notes(staging.entry_of(row, vault), old)

    tree = staging.write_sorted(entries(), writer)
    if not changes:
        raise errors.NothingStaged
    return changes, {ALL: tree}, apart


def _with_notes(entry: Entry, old: Entry | None) -> Entry:
    """Return an entry with what the library noted of the same content, such as its media type."""
    if old and old.content == entry.content:
        return msgspec.structs.replace(entry, meta=old.meta)
    return entry


def _chosen(
    project: Project, merging: pending.State | None, only: Callable[[str], bool] | None
) -> tuple[dict[str, Row], list[Change], dict[str, Row | None]]:
    """Return the files to commit, their changes, and what stays staged in place of other rows."""
    rows = project.index.rows()
    changes = staging.staged(project.store, project.index, rows)
    apart = _apart(project, rows, merging) if merging else {}
    if only:
        others = [change.path for change in changes if not only(change.path)]
        apart = _committed(project, rows, others)
    if apart:
        rows = {path: row for path, row in {**rows, **apart}.items() if row}
        about = {path: row for path, row in apart.items() if row}
        kept = staging.committed(project.store, project.index, about, apart.keys())
        changes = [change for change in changes if change.path not in apart]
        changes = sorted([*changes, *staging.differences(kept, about)])
    return rows, changes, apart


def check_message(project: Project, message: str) -> str:
    """Return the message of a commit, which has one of its own if it ends a merge.

    Raises:
        EmptyMessage: There is none.
        UsageError: It can't be kept.
    """
    message = message.strip()
    if not message and project.is_set_up and (merging := pending.load(project.database)):
        message = f"Merge {merging.label}"
    if not message:
        raise errors.EmptyMessage
    try:
        length = len(message.encode())
    except UnicodeEncodeError:
        raise errors.UsageError("the commit message is not UTF-8") from None
    if length > _LONGEST_MESSAGE:
        raise errors.UsageError(
            f"the commit message has {length:,} bytes, at most {_LONGEST_MESSAGE:,} are kept"
        )
    return message


def _tracked(project: Project, rows: dict[str, Row]) -> staging.Selection:
    """Return the selection of tracked files that may have changed, or are gone.

    Where git, groups or the file system must be asked about the others, too, it is of all files.

    Args:
        project: The project.
        rows: Receives the rows of these files.
    """
    worktree, index = project.worktree, project.index
    disk = worktree.disk()
    every = bool(project.roster.groups) or disk.folds or git.find(project.root) is not None
    if every:
        rows.update(index.rows())
    hidden = worktree.hidden(rows, rows)
    chosen = staging.selection({}, set(), set())
    # One after the other, because they may be a million.
    found, looked_at = itertools.tee(list(rows.values()) if every else index.in_order())
    stats = worktree.stats(row.path for row in looked_at)
    for row, (path, stat) in zip(found, stats, strict=True):
        if path in hidden:
            continue
        if stat is None or stat_module.S_ISDIR(stat.st_mode):
            if not row.absent:
                chosen.gone.add(path)
                rows[path] = row
        elif every or not row.fresh(stat, modes=not disk.no_modes):
            chosen.present[path] = file_stat(stat)
            rows[path] = row
    chosen.named.update(chosen.present)
    if chosen.gone:
        from dorky.commands import sparse

        chosen.gone.difference_update(sparse.left_out(project, chosen.gone))
    return chosen


def _check_deletions(count: int, gone: AbstractSet[str], staged: Collection[Change]) -> None:
    """Refuse a commit that deletes many files: another program may have taken them away.

    Args:
        count: The staged files.
        gone: Those that are not on disk any more.
        staged: The staged changes.

    Raises:
        ManyDeletions: It would delete more than ten files, and more than half of all.
    """
    added = {change.path for change in staged if change.what == "added"}
    removed = {change.path for change in staged if change.what == "deleted"}
    deleted = removed | (gone - added)
    total = count - len(added) + len(removed)
    if len(deleted) > max(_FEW, total / 2):
        kind = "staged" if any(change.what == "deleted" for change in staged) else ""
        raise errors.ManyDeletions(len(deleted), total, kind=kind)


def _apart(
    project: Project, rows: Mapping[str, Row], merging: pending.State
) -> dict[str, Row | None]:
    """Return the staged changes that are not part of a merge, each as the merge holds its path.

    They stay staged. A row is None if the merge holds no such file.
    """
    if merging.paths is None:
        return {}
    held = dict(View(project.store, merging.trees, project.owner).files())
    own = set(merging.paths)
    frozen = {path for path in rows if project.roster.groups and project.owner(path) is None}
    found = {}
    for path in (held.keys() | rows.keys()) - own - frozen:
        placed = held.get(path)
        if not staging.agree(rows.get(path), placed.entry if placed else None):
            found[path] = staging.row_of(path, placed, project.vault) if placed else None
    return found


def _committed(
    project: Project, rows: Mapping[str, Row], paths: Collection[str]
) -> dict[str, Row | None]:
    """Return the rows of paths as ``HEAD`` holds them; None where it holds no such file."""
    about = {path: rows[path] for path in paths if path in rows}
    kept = staging.committed(project.store, project.index, about, paths)
    return {
        path: staging.row_of(path, kept[path], project.vault) if path in kept else None
        for path in paths
    }


def left_by_merge(project: Project, done: LogEntry) -> list[Change]:
    """Return the staged changes that a merge commit has left out; none after other commits."""
    return staging.staged(project.store, project.index) if done.parents[1:] else []


def sign_again(project: Project) -> int:
    """Sign unpushed commits again that nobody would accept; return how many.

    They were signed with a key that is not on the team, or is not any more: it was replaced, say.

    Raises:
        NothingToDo: There are none.
        NoCommits: There is no commit at all.
    """
    from dorky.store import authorship

    with project.operation("commit --re-sign"):
        head = attached_head(project)
        check_no_merge(project)
        if head is None:
            raise errors.NoCommits
        store, team = project.store, project.team
        pushed = project.database.ref(f"{ORIGIN}/{MAIN}")
        unpushed = history.added(store, [pushed] if pushed else [], [head])
        with store.writer() as writer:
            done = rewrite.sign_again(
                writer,
                head,
                unpushed,
                lambda commit, record: not authorship.fault(store, team, commit, record),
            )
            count = sum(old != new for old, new in done.items())
            if not count:
                raise errors.NothingToDo("Every commit is signed with a key of the team")
            clean = project.index.commit == head
            with project.database.transaction():
                writer.save()
                project.database.set_ref(MAIN, done[head])
                if clean:
                    project.index.set_commit(done[head])
        return count


def _write_trees(
    project: Project,
    writer: Writer,
    head: ObjectId | None,
    rows: Mapping[str, Row],
    changes: Iterable[Change],
    merging: pending.State | None,
) -> tuple[dict[str, Row], dict[str, ObjectId]]:
    """Store the trees that hold what is staged, and contested files as they were committed.

    Returns:
        The rows that had to be encrypted for other groups, and the trees by group.
    """
    known, owner = project.roster, project.owner
    frozen = {path for path in rows if known.groups and owner(path) is None}
    # A contested file is committed only as it was committed before.
    check_groups(project, rows.keys() - (frozen - {change.path for change in changes}))
    moved = _regrouped(project, rows, writer, frozen)
    about = project.index.groups & project.vault.groups
    before = projection.current(project.store, head, about)
    if merging:
        before = View(project.store, merging.trees, owner)
    # The index does not hold what the library notes of a file, such as its content type.
    noted = {
        (group, path): entry
        for group, tree in before.trees.items()
        for path, entry in history.files_below(project.store, group, tree)
        if entry.meta
    }
    placed: list[tuple[str, str, Entry]] = []
    for path, row in {**rows, **moved}.items():
        if path in frozen:
            continue
        group, entry = staging.placed_of(row, project.vault)
        placed.append((path, group, _with_notes(entry, noted.get((group, path)))))
    if placement.is_contested(known):
        placed += [(path, *held) for path, held, why in before.walk() if why and not why.owner]
    living = {group.id for group in roster.living(known)}
    return moved, staging.write_placed(placed, writer, before.trees.keys() & living)


def _regrouped(
    project: Project, rows: Mapping[str, Row], writer: Writer, frozen: Collection[str]
) -> dict[str, Row]:
    """Return rows whose content had to be re-encrypted for another group.

    For example, a file was staged before a group took over its path.

    Raises:
        WouldOpen: A group has closed the content to those who could read it then.
    """
    if not project.roster.groups:
        return {}
    moved = {}
    group_of = owning(project)
    for path, row in rows.items():
        if path in frozen or (group := group_of(path)) == row.group:
            continue
        if placement.is_widening(row.group, group):
            raise would_open(project, path, row.group, group)
        entry = staging.entry_of(row, project.vault)
        fetch_missing(project, checkout.needed(project.store, [entry]))
        entry = ingest.regroup(project.store, writer, entry, group, source=row.group)
        moved[path] = staging.moved(row, Placed(group, entry), project.vault)
    return moved


def _carried(
    project: Project,
    head: ObjectId | None,
    trees: Mapping[str, ObjectId],
    merging: pending.State | None,
) -> dict[str, ObjectId]:
    """Return the trees that a commit takes over unchanged: those of groups that the index omits.

    Raises:
        NotPulled: Files of such a group are staged, though the group's own files are not pulled
            yet.
    """
    old = history.read_commit(project.store, head).trees if head else {}
    about = project.index.groups & project.vault.groups
    carried = {group: tree for group, tree in old.items() if group not in about}
    if merging:
        carried = merging.sealed
    for group in carried.keys() & trees.keys():
        raise errors.NotPulled(roster.name_of(project.roster, group))
    return carried
