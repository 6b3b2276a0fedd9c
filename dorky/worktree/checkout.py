"""From trees to the worktree: a plan is made first, which touches nothing, and then applied.

A file is replaced only if its content is the one in the index, which is stored. Every other file in
the way is a conflict; it is overwritten only by force, and only after its content has become part
of a backup commit.
"""

from __future__ import annotations

import functools
import itertools
import os
import stat as stat_module
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from dorky import errors, files
from dorky.files import moment, stamp
from dorky.format.model import ALL, Entry, KiB, Kind, ObjectId
from dorky.keys.roster import GroupOf
from dorky.parallel import THREADS, in_order
from dorky.paths import parents
from dorky.progress import Progress
from dorky.results import Omission
from dorky.store import contents, history
from dorky.store.history import Placed
from dorky.store.index import Index, Row, Spool
from dorky.store.objects import PackedObject, Store, batches
from dorky.store.projection import View
from dorky.worktree import staging
from dorky.worktree.worktree import Prepared, Worktree, Writing, now

if TYPE_CHECKING:
    from dorky.worktree.incoming import Incoming
    from dorky.worktree.plan import PlacedFiles, Plan

_SMALL = 32 * KiB
_TOLD = 64
_LOCATED = 1024
# Few at first, so that the beginning comes soon; then enough for several requests at once.
_FIRST, _FETCHED = 4, 64

Wanted = Callable[[str], bool]
"""Returns whether a path is wanted on disk."""


class _Planning(NamedTuple):
    """A plan in the making.

    Attributes:
        worktree: The files on disk.
        store: The store, for its keys.
        rows: The staged files.
        plan: The plan.
        seen: The time before the first file is inspected, in ns.
    """

    worktree: Worktree
    store: Store
    rows: Mapping[str, Row]
    plan: Plan
    seen: int

    def adopt(self, path: str, placed: Placed, stat: os.stat_result) -> None:
        """Note that a file holds the right content already."""
        row = staging.row_of(path, placed, self.store.vault)
        self.plan.adopt.add(row.known(stat, self.seen))

    def judge(self, path: str, stat: os.stat_result | None, *, hidden: bool) -> None:
        """Note the state of a file that is replaced or deleted, unless another's hides it."""
        made = self.plan
        if path not in made.write and path not in made.remove:
            return
        if hidden:
            made.unjudged.add(path)
        elif stat is not None:
            made.judged[path] = stamp(stat)


def plan(
    worktree: Worktree,
    store: Store,
    rows: Mapping[str, Row],
    changes: Iterable[history.Difference],
    wanted: Wanted,
    keep: Collection[str] = (),
) -> Plan:
    """Plan the way from one commit to another; files that both have stay as they are.

    Contested files stay as they are: they count in neither commit. Memory: some 300 bytes for each
    file to write, and little for others.

    Args:
        worktree: The files on disk.
        store: The store, for its keys.
        rows: The staged files, at least those at the paths of changes, above and below them.
        changes: The files at which the two commits differ.
        wanted: Returns which files that are not on disk are to be there.
        keep: Staged files that stay as they are, too.
    """
    from dorky.worktree.plan import nothing

    planning = _Planning(worktree, store, rows, nothing(store.scratch), now())
    made = planning.plan
    changes = (change for change in changes if change.path not in keep)
    hidden: Collection[str] = ()
    if worktree.disk().folds or any(row.absent for row in rows.values()):
        changed = {change.path: change for change in changes}
        for path, row in rows.items():
            if row.absent and path not in changed and wanted(path):
                group, entry = staging.placed_of(row, store.vault)
                changed[path] = history.Difference(path, entry, entry, group)
        coming = {path for path, change in changed.items() if change.new}
        hidden = worktree.hidden(changed, rows, coming)
        changes = changed.values()
    # One after the other, because they may be a million.
    changes, looked_at = itertools.tee(changes)
    stats = worktree.stats(change.path for change in looked_at)
    for change, (path, seen) in zip(changes, stats, strict=True):
        stat = None if path in hidden else seen
        if _staged_apart(rows.get(path), change):
            made.conflicts.add(path)
        if change.new is None:
            _plan_removal(planning, change, stat)
        else:
            _plan_writing(planning, change, Placed(change.group, change.new), wanted, stat)
        planning.judge(path, stat, hidden=path in hidden)
    _set_apart(planning)
    _check_room(worktree, made)
    if staged := rows.keys() - made.remove - made.forget:
        # A staged path that is missing on disk can be in the way, too: a next to a/b.
        arriving = {*made.write, *made.leave, *(row.path for row in made.adopt)}
        displaced = staging.displaced(arriving, staged)
        made.conflicts.update(displaced)
        made.forget.update(displaced)
    return made


def regrouped(
    rows: Mapping[str, Row], old: View, new: View, past: Iterable[View]
) -> Iterator[history.Difference]:
    """Yield the files that differ between two commits that are read by different rosters.

    The old version of a staged file is in the tree that it came from, whoever owned the path. A
    file that was contested stayed as it was while the commits went on, so its old version may be
    in an earlier commit.

    Args:
        rows: The staged files.
        old: The commit that they go by.
        new: The commit that they are to go by.
        past: The ancestors of the old commit, newest first; read only as far as is needed.
    """
    owner = new.owner
    came_from = {path: row.group for path, row in rows.items()}
    before, after = dict(old.files()) | old.recorded(came_from), dict(new.files())
    if old.owner and owner:
        own = new.store.vault.groups
        freed = {
            path: row for path, row in rows.items() if not old.owner(path) and owner(path) in own
        }
        before |= _held_since(freed, itertools.chain([old], past))
    for path in before.keys() | after.keys():
        was, now = before.get(path), after.get(path)
        if was != now and owner is not None and owner(path) is not None:
            yield history.Difference(
                path,
                was.entry if was else None,
                now.entry if now else None,
                now.group if now else ALL,
            )


def _held_since(rows: Mapping[str, Row], commits: Iterable[View]) -> dict[str, Placed]:
    """Return the files that some commit holds just as they are staged, each with its tree."""
    found: dict[str, Placed] = {}
    wanted = dict(rows)
    for commit in commits if wanted else ():
        for path, placed in commit.recorded({path: wanted[path].group for path in wanted}).items():
            if staging.agree(wanted[path], placed.entry):
                found[path] = placed
                del wanted[path]
        if not wanted:
            break
    return found


def plan_files(
    worktree: Worktree,
    store: Store,
    rows: Mapping[str, Row],
    wanted: Mapping[str, Placed | None],
    kept: Mapping[str, Row] = MappingProxyType({}),
) -> Plan:
    """Plan to write or delete single files, whatever is on disk.

    Args:
        worktree: The files on disk.
        store: The store, for its keys.
        rows: The staged files.
        wanted: The wanted state of each path; None for no file.
        kept: Stored contents that files may hold, other than those that are staged.
    """
    from dorky.worktree.plan import nothing

    planning = _Planning(worktree, store, rows, nothing(store.scratch), now())
    made = planning.plan
    hidden = worktree.hidden(wanted, rows, {path for path in wanted if wanted[path]})
    for path, found in worktree.stats(wanted):
        placed = wanted[path]
        stat = None if path in hidden else found
        there = stat is not None and not stat_module.S_ISDIR(stat.st_mode)
        if placed and stat and there and staging.holds(worktree, path, stat, placed.entry):
            planning.adopt(path, placed, stat)
            continue
        if placed:
            made.write[path] = placed
        elif there:
            made.remove.add(path)
        planning.judge(path, stat, hidden=path in hidden)
        if there:
            _judge(planning, path, kept.get(path), stat)
    _set_apart(planning)
    _check_room(worktree, made)
    return made


def _judge(planning: _Planning, path: str, kept: Row | None, stat: os.stat_result | None) -> None:
    """Note a file as held if its content is stored, staged or elsewhere; else as a conflict."""
    worktree, store, rows, made, _ = planning
    for row in (rows.get(path), kept):
        if row and _clean(worktree, row, staging.entry_of(row, store.vault), path, stat):
            made.held[path] = row
            return
    made.conflicts.add(path)


def _clean(
    worktree: Worktree,
    row: Row | None,
    old: Entry | None,
    path: str,
    stat: os.stat_result | None,
) -> bool:
    """Return whether the old tree holds what is staged and on disk at a path."""
    if row is None or old is None or not staging.agree(row, old):
        return False
    if stat is None or row.fresh(stat, modes=not worktree.disk().no_modes):
        return True
    return not stat_module.S_ISDIR(stat.st_mode) and staging.holds(worktree, path, stat, old)


def _plan_removal(
    planning: _Planning, change: history.Difference, stat: os.stat_result | None
) -> None:
    path, made = change.path, planning.plan
    row = planning.rows.get(path)
    if stat is None or stat_module.S_ISDIR(stat.st_mode) or row is None:
        made.forget.add(path)
        return
    made.remove.add(path)
    if not _clean(planning.worktree, row, change.old, path, stat):
        made.conflicts.add(path)


def _plan_writing(
    planning: _Planning,
    change: history.Difference,
    placed: Placed,
    wanted: Wanted,
    stat: os.stat_result | None,
) -> None:
    path, made, worktree = change.path, planning.plan, planning.worktree
    row = planning.rows.get(path)
    if stat is not None and stat_module.S_ISDIR(stat.st_mode):
        made.write[path] = placed  # `_check_room` inspects the directory's content
    elif stat is not None and staging.holds(worktree, path, stat, placed.entry):
        planning.adopt(path, placed, stat)
    elif stat is None and (row is None or row.absent) and not wanted(path):
        made.leave[path] = placed
    else:
        made.write[path] = placed
        if stat is not None and not _clean(worktree, row, change.old, path, stat):
            made.conflicts.add(path)


def _staged_apart(row: Row | None, change: history.Difference) -> bool:
    """Return whether the staged file (or deletion) at a path is in neither of two trees."""
    if row is None:
        return change.old is not None and change.new is not None
    return not (staging.agree(row, change.old) or staging.agree(row, change.new))


def _set_apart(planning: _Planning) -> None:
    """Leave out what the file system can't show: one of two names that it takes for one, a link."""
    made, disk = planning.plan, planning.worktree.disk()
    if disk.no_symlinks:
        for path, placed in list(made.write.items()):
            if stat_module.S_ISLNK(placed.entry.mode):
                _leave_out(made, path, "the file system has no symbolic links")
    if not disk.folds:
        return
    gone = made.remove | made.forget
    there = [path for path, row in planning.rows.items() if not row.absent and path not in gone]
    taken: dict[str, str] = {}
    directories: dict[str, str] = {}
    for path in (*there, *sorted(row.path for row in made.adopt), *sorted(made.write)):
        same = {path, *parents(path)}
        found = [taken.get(disk.key(name)) for name in same] + [directories.get(disk.key(path))]
        clash = next((name for name in found if name and name not in same), None)
        if clash and path in made.write:
            both = staging.told_apart(path, clash)
            _leave_out(made, path, f"the file system takes {both[0]} and {both[1]} for one name")
            continue
        taken.setdefault(disk.key(path), path)
        for parent in parents(path):
            directories.setdefault(disk.key(parent), parent)


def _leave_out(made: Plan, path: str, why: str) -> None:
    made.leave[path] = made.write.pop(path)
    made.conflicts.discard(path)
    made.unplaced[path] = why


def _check_room(worktree: Worktree, made: Plan) -> None:
    """Find files in the way of new directories, and directories in the way of new files."""
    looked: set[str] = set()
    for path in made.write:
        stat = worktree.stat(path) if path in made.judged else None
        if stat is not None and stat_module.S_ISDIR(stat.st_mode):
            del made.judged[path]
            made.unjudged.add(path)
            _clear(worktree, made, worktree.below(path))
        for parent in parents(path):
            if parent in looked:
                continue
            looked.add(parent)
            stat = worktree.stat(parent)
            if stat is None or parent in made.remove:
                break
            if not stat_module.S_ISDIR(stat.st_mode):  # a link is deleted, not followed
                _clear(worktree, made, [parent])
                break


def keep_out(worktree: Worktree, made: Plan, *, in_git: bool) -> tuple[str, ...]:
    """Remove files from a plan that other programs would obey; return their paths.

    These are all files in a directory that git would take for a repository, and, inside a git
    repository, git's own files: a remote must not decide whether `.gitignore` hides secrets.
    """
    shaped = repositories(worktree, made.write)
    found = set(made.write) if "" in shaped else set()
    if shaped:
        found.update(path for path in made.write if not shaped.isdisjoint(parents(path)))
    if in_git:
        found.update(path for path in made.write if files.is_gits_own(path.rpartition("/")[2]))
    for path in found:
        made.leave[path] = made.write.pop(path)
        made.conflicts.discard(path)
    return tuple(sorted(found))


def repositories(worktree: Worktree, coming: Iterable[str]) -> set[str]:
    """Return the directories that git takes for repositories once some files are in place."""
    inside: dict[str, set[str]] = {"": set()}
    for path in coming:
        name = path
        while name:
            directory, _, name = name.rpartition("/")
            known = directory in inside
            names = inside.setdefault(directory, set())
            if files.is_gits_entry(name):
                names.add(name)
            name = "" if known else directory
    found = set()
    for directory, names in inside.items():
        # Look up single names only: a directory may hold a hundred thousand files.
        at = f"{directory}/" if directory else ""
        held = {name for name in files.GIT_DIRECTORY if worktree.exists(at + name)}
        if files.is_git_directory(names | held):
            found.add(directory)
    return found


def _clear(worktree: Worktree, made: Plan, paths: Iterable[str]) -> None:
    for path in paths:
        if path not in made.remove:
            if stat := worktree.stat(path):
                made.judged[path] = stamp(stat)
            made.remove.add(path)
            made.conflicts.add(path)


# --- applying -------------------------------------------------------------------------------


def backup(
    worktree: Worktree,
    store: Store,
    rows: Mapping[str, Row],
    made: Plan,
    *,
    author: str,
    group_of: GroupOf,
) -> tuple[str, list[Row]]:
    """Keep what is on disk (or only staged) at conflicts, as a commit of its own.

    Returns:
        The ref that names it, ``backup/…``, and the rows of the files on disk.
    """
    from dorky.worktree.ingest import store_files

    head = history.head_of(store)
    paths = sorted(made.conflicts)
    staging.check_names(paths, (), portable=False)
    there = [path for path in paths if _is_file(worktree.stat(path))]
    only_staged = [rows[path] for path in rows.keys() & set(paths)]
    with store.writer() as writer:

        def keep(rows: Iterable[Row], parent: ObjectId | None, what: str) -> ObjectId:
            trees = staging.write_trees(rows, writer, store.vault)
            message = f"{what} before they were replaced"
            return history.add_commit(writer, trees, [parent], author=author, message=message)

        sizes = dict.fromkeys(there, 0)
        kept = list(store_files(worktree, sizes, writer, store, group_of))
        parent = head
        known = {(row.path, row.content, row.mode) for row in kept}
        if any((row.path, row.content, row.mode) not in known for row in only_staged):
            # The staged state is the backup's parent, as in git's stash.
            parent = keep(only_staged, head, "Staged changes")
        commit = keep(kept, parent, "Local changes") if kept else parent
        assert commit is not None
        taken = store.database.refs()
        n = next(n for n in itertools.count(1) if f"backup/{n}" not in taken)
        name = f"backup/{n}"
        with store.database.transaction():
            writer.save()
            store.database.set_ref(name, commit)
    made.judged.update((row.path, row.moment) for row in kept)
    made.unjudged.difference_update(row.path for row in kept)
    return name, kept


def needed(store: Store, entries: Iterable[Entry]) -> set[ObjectId]:
    """Return the chunks, and the lists of them, that are needed to write ``entries``."""
    return contents.all_below(store, (entry.content for entry in entries))


def _is_file(stat: os.stat_result | None) -> bool:
    return stat is not None and not stat_module.S_ISDIR(stat.st_mode)


class _Aside(NamedTuple):
    """A file that is written aside, and the path where it belongs (see `Prepared`)."""

    path: str
    name: str
    kept: int


class Done(NamedTuple):
    """The changes of the index after a plan has been applied."""

    written: Spool[Row]
    """The rows of files put in place; ``seen`` is 1 if their stat proves something from now on."""
    adopted: Spool[Row]
    """The rows of files that were there already."""
    left: Spool[Row]
    """The rows of files that are not wanted on disk."""
    gone: set[str]
    seen: int
    ignored: tuple[str, ...] = ()
    """Lines added to `.gitignore` for the files put in place."""
    left_out: tuple[str, ...] = ()
    """Files that were not put in place, because of their names."""
    unplaced: tuple[Omission, ...] = ()
    """Files that the file system can't show."""

    def rows(self) -> Iterator[Row]:
        """Yield all new rows."""
        # The stat of a file just written is trusted only from this later moment on.
        for row in self.written:
            yield row._replace(seen=self.seen) if row.seen else row
        yield from self.adopted
        yield from self.left

    def record(self, index: Index) -> None:
        """Write the changes to the index."""
        index.remove(self.gone)
        index.put(self.rows())


def apply(
    worktree: Worktree,
    writing: Writing,
    store: Store,
    made: Plan,
    incoming: Incoming | None,
    progress: Progress,
) -> Done:
    """Apply a plan to the disk. Every chunk must be in the local store, or have come in.

    All new files are written, whole and verified, before the first one in the worktree is touched.

    Args:
        worktree: The files on disk.
        writing: Writes and deletes them.
        store: Holds their contents.
        made: The plan.
        incoming: Has written those of the files whose chunks were not all in the store, if any.
        progress: Receives the progress.
    """
    aside = Spool(store.scratch, _Aside._make)
    for path, prepared in incoming.complete() if incoming else ():
        aside.add(_Aside(path, *prepared))
    there = incoming.expected.keys() if incoming else ()
    if len(made.write) > len(there):
        for path, prepared in _prepare(writing, store, made.write, there, progress):
            aside.add(_Aside(path, *prepared))
    # A file may have been edited since it was inspected. All are checked before anything is
    # touched, and each again right before it is replaced.
    touched = itertools.chain(made.write, made.remove)
    for path, stat in worktree.stats(path for path in touched if path not in made.unjudged):
        if moment(stat) != made.judged.get(path):
            raise errors.LocalChanges(path)
    for path in sorted(made.remove, reverse=True):
        writing.remove(path, judged=made.judged.get(path))
    rows, left = Spool(store.scratch, Row._make), Spool(store.scratch, Row._make)
    installed = 0
    for path, name, kept in aside:
        judged = made.judged.get(path)
        vacant = judged is None and path not in made.unjudged
        prepared = Prepared(name, kept)
        stat, untouched = writing.install(prepared, path, judged=judged, vacant=vacant)
        row = staging.row_of(path, made.write[path], store.vault)
        rows.add(row.known(stat, 1 if untouched else 0))
        installed += 1
    assert installed == len(made.write)
    for path, placed in made.leave.items():
        left.add(staging.row_of(path, placed, store.vault))
    return Done(rows, made.adopt, left, made.remove | made.forget, now())


def _prepare(
    writing: Writing,
    store: Store,
    entries: PlacedFiles,
    but: Collection[str],
    progress: Progress,
) -> Iterator[tuple[str, Prepared]]:
    """Write files aside, except some, and yield each with its path."""

    def prepare(item: tuple[str, PackedObject]) -> tuple[str, Prepared]:
        path, at = item
        group, entry = entries[path]
        if at.kind is Kind.CHUNKS:
            blocks = read(store, entry, group)
        else:
            blocks = _blocks(store, [at], entry, group=group)
        return path, writing.prepare(path, entry.mode, blocks)

    def prepare_large(path: str, placed: Placed) -> Prepared:
        group, entry = placed

        def blocks() -> Iterator[bytes]:
            for block in read(store, entry, group):
                yield block
                progress.advance(len(block))

        return writing.prepare(path, entry.mode, blocks())

    sizes = [(path, size) for path, size in entries.sizes() if path not in but]
    progress.start("Writing files", sum(size for _, size in sizes), "B")
    small = [path for path, size in sizes if size <= _SMALL]
    large = [path for path, size in sizes if size > _SMALL]
    del sizes
    small.sort()
    others = _places(store, entries, sorted(large))
    # Large files are written one by one with their chunks in parallel, others in parallel; small
    # ones in one thread, because several would wait for the interpreter's and the disk's locks.
    for path, at in others.items():
        if at.kind is Kind.CHUNKS:
            yield path, prepare_large(path, entries[path])
    middling = [(path, at) for path, at in others.items() if at.kind is not Kind.CHUNKS]
    for path, scratch in in_order(prepare, middling, threads=THREADS):
        yield path, scratch
        progress.advance(entries[path].entry.size)
    # Not all are located at once: there may be a million.
    for batch in batches(small, _LOCATED):
        places = _places(store, entries, batch)
        for told in batches(places.items(), _TOLD):
            yield from map(prepare, told)
            progress.advance(sum(entries[path].entry.size for path, _ in told))
    progress.finish()


def _places(
    store: Store, entries: Mapping[str, Placed], paths: Iterable[str]
) -> dict[str, PackedObject]:
    """Return where the contents of some files lie in the local store, by path.

    Raises:
        MissingObject: One is not there.
    """
    wanted = {path: entries[path].entry.content for path in paths}
    found = store.locate(wanted.values())
    for content in wanted.values():
        if content not in found:
            raise errors.MissingObject(content)
    return {path: found[content] for path, content in wanted.items()}


def _blocks(
    store: Store,
    chunks: Iterable[PackedObject],
    entry: Entry,
    *,
    group: str | None = None,
    threads: int = 1,
) -> Iterator[bytes]:
    """Yield a file's verified content, block by block."""
    size = 0
    read = functools.partial(store.open, group=group)
    for body in in_order(read, chunks, threads=threads) if threads > 1 else map(read, chunks):
        size += len(body)
        yield body
    if size != entry.size:
        raise errors.CorruptObject(entry.content, f"{size} bytes, the tree says {entry.size}")


Fetch = Callable[[Collection[ObjectId]], None]
"""A function that fetches those of some chunks that the local store lacks."""


def read(
    store: Store, entry: Entry, group: str | None = None, fetch: Fetch | None = None
) -> Iterator[bytes]:
    """Return a committed file's verified content, block by block.

    Args:
        store: The store that holds it.
        entry: The file.
        group: The group whose tree holds it, if known: its content must be that group's.
        fetch: Called for a few chunks after the other, before they are read. By default, all must
            be in the local store.
    """
    # Several threads would look ahead, and wait for what they see.
    threads = 1 if fetch else THREADS
    return _blocks(store, _located(store, entry, fetch), entry, group=group, threads=threads)


def _located(store: Store, entry: Entry, fetch: Fetch | None = None) -> Iterator[PackedObject]:
    """Yield the locations of a file's chunks, in order, in memory that does not grow with it."""
    size = _FIRST if fetch else _LOCATED
    chunks = iter(contents.chunks_of(store, entry.content))
    while batch := list(itertools.islice(chunks, size)):
        if fetch:
            fetch(batch)
            size = min(2 * size, _FETCHED)
        places = store.locate(batch)
        for chunk in batch:
            if chunk not in places:
                raise errors.MissingObject(chunk)
            yield places[chunk]
