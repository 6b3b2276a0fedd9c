"""From the worktree to the index to trees: staging, status, and writing a commit's trees."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat as stat_module
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from dorky import errors, files
from dorky.files import FileStat, Stat, file_stat
from dorky.format.model import ALL, Entry, ObjectId
from dorky.keys.roster import GroupOf
from dorky.paths import is_text, matches, parents
from dorky.progress import Progress
from dorky.results import Change
from dorky.store import directories, history, projection
from dorky.store.history import Placed
from dorky.store.index import Index, Row, Spool, mode_of
from dorky.store.objects import Store, Writer
from dorky.worktree.ignore import Ignore
from dorky.worktree.worktree import Omit, Worktree, now

if TYPE_CHECKING:
    from dorky.keys.vault import Vault
    from dorky.store.objects import Announce

_KINDS = {
    stat_module.S_IFIFO: "a pipe",
    stat_module.S_IFSOCK: "a socket",
    stat_module.S_IFCHR: "a device",
    stat_module.S_IFBLK: "a device",
}

# --- what a path on the command line means --------------------------------------------------


class Selection(NamedTuple):
    """The files that paths on a command line select."""

    present: dict[str, FileStat]
    """Files and links on disk."""

    named: set[str]
    """Those that were named directly, not found in a directory or by a pattern."""

    gone: set[str]
    """Staged paths that are no longer on disk."""

    directories: set[str]
    """Directories that were named."""

    nested: list[str]
    """The directories of other projects and git repositories, which are passed over."""

    omitted: dict[str, errors.DorkyError]
    """Paths found in directories or by a pattern that can't be staged, and why."""

    def omit(self, path: str, error: errors.DorkyError) -> None:
        """Leave a path out."""
        self.omitted[path] = error
        self.present.pop(path, None)

    def omitting(self, path: str) -> Omit | None:
        """Return `omit` for a path that was not named; None for one that was."""
        return None if path in self.named else self.omit


def selection(present: dict[str, FileStat], named: set[str], gone: set[str]) -> Selection:
    """Return the selection of files that were not found in directories."""
    return Selection(present, named, gone, set(), [], {})


def select(
    worktree: Worktree,
    ignore: Ignore,
    rows: Mapping[str, Row],
    paths: Sequence[str],
    *,
    force: bool = False,
) -> Selection:
    """Expand files, directories, patterns that the shell did not expand, and deleted files.

    Args:
        worktree: The files on disk.
        ignore: Rules of the worktree's root.
        rows: The staged files.
        paths: Repository paths.
        force: Whether to take named files that are ignored.

    Raises:
        PathNotFound: A path selects nothing.
        UsageError: A named file is ignored.
        NestedProject: A named directory is another project, or git repository.
    """
    chosen = selection({}, set(), set())
    for path in paths:
        stat = worktree.stat(path) if path else worktree.root.stat()
        if stat is not None and not stat_module.S_ISDIR(stat.st_mode):
            if not force and path not in rows and ignore.ignored(path):
                raise errors.IgnoredPath(path)
            chosen.present[path] = file_stat(stat)
            chosen.named.add(path)
            continue
        below = {name for name in rows if not path or name == path or name.startswith(path + "/")}
        if stat is None and not below:
            _select_pattern(worktree, ignore, rows, path, chosen)
        elif stat is None:
            for name in below:
                _select_tracked(worktree, rows[name], chosen)
        else:
            if path and not force and not below and ignore.ignored(path + "/"):
                raise errors.IgnoredPath(path)
            for _, nested in () if below or not path else worktree.inside_nested([f"{path}/"]):
                raise errors.NestedProject(path, nested)
            found = dict(worktree.walk(ignore, path, chosen.nested, chosen.omit))
            chosen.present.update(found)
            chosen.directories.add(path)
            for name in below - found.keys():
                try:
                    _select_tracked(worktree, rows[name], chosen)
                except errors.UnreadableFile as error:
                    chosen.omit(name, error)
    _respell(worktree, rows, chosen)
    _omit_special(chosen)
    return chosen


def _omit_special(chosen: Selection) -> None:
    """Leave out what has no content, unless it was named."""
    for path, stat in list(chosen.present.items()):
        kind = stat_module.S_IFMT(stat.st_mode)
        if path not in chosen.named and kind not in {stat_module.S_IFREG, stat_module.S_IFLNK}:
            chosen.omit(path, errors.SpecialFile(path, _KINDS.get(kind, "of an unknown kind")))


def _respell(worktree: Worktree, rows: Mapping[str, Row], chosen: Selection) -> None:
    """Select a file in the spelling in which it is tracked; one that was renamed, by both.

    Only a file system that folds names has files with several spellings.
    """
    disk = worktree.disk()
    if not disk.folds:
        return
    tracked = {disk.key(path): path for path in rows}
    old = {tracked[key] for path in chosen.present if (key := disk.key(path)) in tracked}
    spelled = worktree.misspelt(chosen.present.keys() | old)
    for path in chosen.present.keys() - rows.keys():
        actual = spelled.get(path, path)
        before = tracked.get(disk.key(path))
        name = actual if actual in rows or not disk.decomposes else path
        if name != path:
            stat = chosen.present.pop(path)
            chosen.present.setdefault(name, stat)
            if path in chosen.named:
                chosen.named.add(name)
        if before is not None and actual not in rows and spelled.get(before) == actual:
            chosen.present.pop(before, None)
            chosen.gone.add(before)
    for path in worktree.hidden(chosen.present.keys() & rows.keys(), rows):
        del chosen.present[path]


def _select_tracked(worktree: Worktree, row: Row, chosen: Selection) -> None:
    """Add a staged path that the walk did not find: one now ignored, deleted, or never pulled."""
    stat = worktree.stat(row.path)
    if stat is not None and not stat_module.S_ISDIR(stat.st_mode):
        chosen.present[row.path] = file_stat(stat)
    elif not row.absent:
        chosen.gone.add(row.path)


def _select_pattern(
    worktree: Worktree, ignore: Ignore, rows: Mapping[str, Row], path: str, chosen: Selection
) -> None:
    if not any(c in path for c in "*?["):
        raise errors.PathNotFound(path)
    walk = worktree.walk(ignore, nested=chosen.nested)
    found = {name: stat for name, stat in walk if matches(name, path)}
    tracked = [name for name in rows if name not in found and matches(name, path)]
    if not found and not tracked:
        raise errors.PathNotFound(path)
    chosen.present.update(found)
    for name in tracked:
        _select_tracked(worktree, rows[name], chosen)


def tracked(rows: Iterable[str], paths: Sequence[str], where: str = "") -> list[str]:
    """Return the tracked paths that command-line paths (or patterns) name or have below them.

    Raises:
        PathNotTracked: A path selects nothing.
    """
    names = list(rows)
    found: dict[str, None] = {}
    for path in paths:
        hits = [n for n in names if not path or n == path or n.startswith(path + "/")]
        hits = hits or [n for n in names if matches(n, path)]
        if not hits and path:
            raise errors.PathNotTracked(path, where)
        found.update(dict.fromkeys(hits))
    return list(found)


# --- staging --------------------------------------------------------------------------------


Ahead = Callable[[], "Announce | None"]


def told_apart(*names: str) -> list[str]:
    """Return names for a message: with escapes if they look alike."""
    alike = len({unicodedata.normalize("NFC", name) for name in names}) == 1
    return [ascii(name)[1:-1] for name in names] if alike else list(names)


def check_names(paths: Iterable[str], rows: Iterable[str], *, portable: bool) -> None:
    """Refuse names that can't be kept, or can't coexist on every system.

    Args:
        paths: The paths that are added.
        rows: The paths that are there. They are not refused, whatever they are.
        portable: Whether Windows must be able to create the names, too.

    Raises:
        UnstorablePath: A name is not UTF-8, or Windows can't create it.
        NameClash: Two names differ only in case.
    """
    new = set(paths)
    if not new:
        return
    fine: set[str] = set()
    for path in new:
        if not is_text(path):
            raise errors.UnstorablePath(ascii(path), "its name is not UTF-8")
        for part in path.split("/"):
            if part in fine:
                continue
            reason = files.unsafe(part) or (files.unportable(part) if portable else None)
            if reason:
                raise errors.UnstorablePath(path, reason)
            fine.add(part)
    spellings: dict[str, str] = {}
    others: dict[str, set[str]] = {}
    above: set[str] = set()
    for path in (*rows, *new):
        directory = path.rpartition("/")[0]
        prefixes = [path] if directory in above else [*parents(path), path]
        above.add(directory)
        for prefix in prefixes:
            key = prefix.casefold()
            # One string if the name has no capital letters: there may be a million.
            first = spellings.setdefault(prefix if key == prefix else key, prefix)
            if first == prefix or prefix in others.get(key, ()):
                continue
            if path in new:
                raise errors.NameClash(first, prefix)
            # A merge can bring two such names, which must not stop others from being staged.
            others.setdefault(key, set()).add(prefix)


def omit_names(chosen: Selection, rows: Iterable[str], *, portable: bool) -> None:
    """Leave out new files that have names which can't be kept, unless they were named."""
    for path in chosen.present.keys() - chosen.named - set(rows):
        try:
            check_names([path], (), portable=portable)
        except errors.UnstorablePath as error:
            chosen.omit(path, error)


def stage(
    worktree: Worktree,
    store: Store,
    index: Index,
    rows: Mapping[str, Row],
    chosen: Selection,
    group_of: GroupOf,
    progress: Progress,
    check: Callable[[Iterable[Row]], None] = lambda _: None,
    ahead: Ahead | None = None,
) -> list[Change]:
    """Put the chosen files as they are on disk into the index, each encrypted for its group.

    All files are staged in one transaction, or none.

    Args:
        worktree: The files on disk.
        store: Receives their content.
        index: The index to change.
        rows: The staged files.
        chosen: The files.
        group_of: Returns the group of a path.
        progress: Receives the progress.
        check: Refuses rows, before anything is saved.
        ahead: Called if a file is large; returns what receives each pack once it is finished.

    Returns:
        The changes in the index.
    """
    modes = not worktree.disk().no_modes
    stale = sorted(
        path
        for path, stat in chosen.present.items()
        if (row := rows.get(path)) is None
        or row.absent
        or row.group != group_of(path)
        or not row.fresh(stat, modes=modes)
    )
    gone = (chosen.gone & rows.keys()) | displaced(chosen.present, rows)
    changes = [Change(path, "deleted") for path in sorted(gone)]
    if stale:
        from dorky.worktree.ingest import LARGE, store_files

        new, same = Spool(store.scratch, Row._make), Spool(store.scratch, Row._make)

        sizes = {path: chosen.present[path].st_size for path in stale}
        announce = ahead() if ahead and max(sizes.values()) >= LARGE else None
        progress.start("Staging", sum(sizes.values()), "B")
        with store.writer(announce) as writer:
            for found in store_files(
                worktree,
                sizes,
                writer,
                store,
                group_of,
                advance=progress.advance,
                omit=chosen.omitting,
            ):
                old = rows.get(found.path)
                mode = worktree.mode(found.mode, old.mode) if old else found.mode
                row = found._replace(mode=mode)
                if old is None or not row.same(old):
                    new.add(row)
                    changes.append(Change(row.path, "modified" if old else "added"))
                else:
                    same.add(row)
            check(itertools.chain(new, same))
            writer.complete()
            with store.database.transaction():
                writer.save()
                index.remove(gone)
                index.put(new)
                index.refresh(same)
        progress.finish()
    elif gone:
        index.remove(gone)
    changes.sort()
    return changes


def displaced(present: Collection[str], rows: Collection[str]) -> set[str]:
    """Return staged paths that can't exist any more: a directory replaced a file, or vice versa."""
    gone = {prefix for path in present for prefix in parents(path) if prefix in rows}
    directories = {prefix for path in rows for prefix in parents(path)}
    for path in directories.intersection(present):
        gone.update(name for name in rows if name.startswith(path + "/"))
    return gone


# --- comparing ------------------------------------------------------------------------------


def holds(worktree: Worktree, path: str, stat: Stat, entry: Entry) -> bool:
    """Return whether a file on disk is exactly as ``entry`` says; read it if its size fits."""
    if worktree.mode(mode_of(stat), entry.mode) != entry.mode or stat.st_size != entry.size:
        return False
    return worktree.sha256(path, stat) == entry.sha256


def unstaged(
    worktree: Worktree,
    store: Store,
    index: Index,
    rows: Mapping[str, Row],
    found: Mapping[str, os.stat_result | None],
    omit: Omit | None = None,
) -> list[Change]:
    """Return how the worktree differs from the index.

    If only a file's content, not its stat, proves that it is unchanged, its new stat is noted, so
    that the file need not be read the next time.

    Args:
        worktree: The files on disk.
        store: The store, for the key that masks digests.
        index: The index, which notes the stats.
        rows: The staged files.
        found: The stat of each of these files.
        omit: Receives files that can't be read; without it, they raise.
    """
    changes, learned = [], []
    modes = not worktree.disk().no_modes
    hidden = worktree.hidden(rows, index.rows()) if worktree.disk().folds else set()
    for path, row in rows.items():
        if path in hidden:
            continue  # the file on disk is the other's; this one can't be shown
        stat = found[path]
        if stat is None or stat_module.S_ISDIR(stat.st_mode):
            if not row.absent:
                changes.append(Change(path, "deleted"))
            continue
        seen = now()
        if row.fresh(stat, modes=modes):
            continue
        # A different mode or size suffices; the key is needed only to compare content.
        differs = worktree.mode(mode_of(stat), row.mode) != row.mode or stat.st_size != row.size
        try:
            differs = differs or not holds(worktree, path, stat, entry_of(row, store.vault))
        except (errors.UnreadableFile, errors.DiskError) as error:
            if omit is None:
                raise
            omit(path, error)
            continue
        if differs:
            changes.append(Change(path, "modified"))
        else:
            learned.append(row.known(stat, seen))
    if learned:
        # This only updates a cache, so it yields to another command that writes.
        with contextlib.suppress(errors.Locked, errors.ReadOnly, errors.DiskFull):
            index.refresh(learned)
    return changes


def committed(
    store: Store,
    index: Index,
    rows: Mapping[str, Row],
    paths: Collection[str] | None = None,
) -> dict[str, Placed]:
    """Return the files of ``HEAD`` in the groups of the index, by the owners in the index.

    Contested files are frozen: a staged one is as the group holds it that had it.

    Args:
        store: The store that holds ``HEAD``.
        index: The index, which lists the groups.
        rows: The staged files at these paths.
        paths: The paths; all if None.
    """
    head = history.head_of(store)
    owner = index.owner
    view = projection.View(store, history.trees_of(store, head, index.groups), owner)
    frozen = {path: row.group for path, row in rows.items() if owner(path) is None}
    return dict(view.files(paths)) | view.recorded(frozen)


def staged(store: Store, index: Index, rows: Mapping[str, Row] | None = None) -> list[Change]:
    """Return how the index differs from ``HEAD``.

    Args:
        store: The store that holds ``HEAD``.
        index: The index.
        rows: Its rows, if they have been read.
    """
    head = history.head_of(store)
    since = index.since
    if since and since[0] == head:
        # The rest of the trees, which may have a hundred thousand files, need not be decoded.
        if not since[1]:
            return []
        rows = index.rows(since[1])
        kept = committed(store, index, rows, since[1])
    elif rows is None and is_everybodys(index):
        pairs = beside_committed(store, index, head)
        return [found for path, row, old in pairs if (found := change(path, row, old))]
    else:
        rows = index.rows() if rows is None else rows
        kept = committed(store, index, rows)
    return differences(kept, rows)


def is_everybodys(index: Index) -> bool:
    """Return whether all files are everybody's, by the last checkout: no group has any."""
    return index.groups <= {ALL} and not index.claims


def beside_committed(
    store: Store, index: Index, head: ObjectId | None
) -> Iterator[tuple[str, Row | None, Entry | None]]:
    """Yield each path that is staged or committed, with its row and its entry, sorted by path.

    Memory does not grow with their number. All files **must** be everybody's.

    Args:
        store: The store that holds the commit.
        index: The index.
        head: The commit; None if there is none.
    """
    tree = history.read_commit(store, head).trees.get(ALL) if head else None
    kept = history.files_in_order(store, ALL, tree) if tree else iter(())
    before = next(kept, None)
    for row in index.in_order():
        while before and before[0] < row.path:
            yield before[0], None, before[1]
            before = next(kept, None)
        old = before[1] if before and before[0] == row.path else None
        yield row.path, row, old
        if old:
            before = next(kept, None)
    if before:
        for path, entry in itertools.chain([before], kept):
            yield path, None, entry


def change(path: str, row: Row | None, old: Entry | None) -> Change | None:
    """Return how what is staged at a path differs from what is committed; None if it does not."""
    if row is None:
        return Change(path, "deleted")
    if old is None:
        return Change(path, "added")
    return None if agree(row, old) else Change(path, "modified")


def differences(kept: Mapping[str, Placed], rows: Mapping[str, Row]) -> list[Change]:
    """Return how rows differ from committed files."""
    pairs = (
        (path, rows.get(path), kept[path].entry if path in kept else None)
        for path in rows.keys() | kept.keys()
    )
    return sorted(found for pair in pairs if (found := change(*pair)))


# --- trees ----------------------------------------------------------------------------------


def row_of(path: str, placed: Placed, vault: Vault, *, absent: bool = True) -> Row:
    """Return the row for a committed file that is not on disk (yet)."""
    group, entry = placed
    digest = vault.mask(entry.sha256, entry.content)
    return Row(path, entry.mode, entry.size, entry.content, digest, absent=absent, group=group)


def moved(row: Row, placed: Placed, vault: Vault) -> Row:
    """Return the row of the same file with its content encrypted for another group."""
    group, entry = placed
    digest = vault.mask(entry.sha256, entry.content)
    return row._replace(content=entry.content, digest=digest, group=group)


def agree(row: Row | None, entry: Entry | None) -> bool:
    """Return whether a row equals a tree's entry; a missing one on either side equals nothing."""
    return (
        row is not None
        and entry is not None
        and (row.content, row.mode) == (entry.content, entry.mode)
    )


def note_remote_only(store: Store, index: Index, rows: Iterable[Row]) -> None:
    """Record, for `status`, which contents of files that are staged unread are not stored here."""
    from dorky.format import chunk  # `status` needs neither
    from dorky.store import contents

    large = {row.content for row in rows if row.size > chunk.WHOLE}
    index.note_remote_only(contents.lacking(store, large))


def entry_of(row: Row, vault: Vault) -> Entry:
    """Return the tree entry that a row is committed as."""
    name = row.path.rpartition("/")[2]
    return Entry(name, row.mode, row.content, row.size, vault.mask(row.digest, row.content))


def placed_of(row: Row, vault: Vault) -> Placed:
    """Return the entry and the group that a row is committed with."""
    return Placed(row.group, entry_of(row, vault))


def write_trees(rows: Iterable[Row], writer: Writer, vault: Vault) -> dict[str, ObjectId]:
    """Store the trees that hold ``rows``, each row in the tree of its own group.

    Returns:
        The root trees by group; `ALL` is always present.
    """
    return write_placed(((row.path, *placed_of(row, vault)) for row in rows), writer)


def write_placed(
    items: Iterable[tuple[str, str, Entry]], writer: Writer, groups: Iterable[str] = ()
) -> dict[str, ObjectId]:
    """Store the trees that hold entries at paths, each for a group.

    Args:
        items: The paths, groups and entries.
        writer: Receives the trees.
        groups: Groups that get a tree even if it is empty: otherwise it would look as if somebody
            outside the group had left the tree out.

    Returns:
        The root trees by group; `ALL` is always present.
    """
    held: dict[str, list[tuple[str, Entry]]] = {group: [] for group in (ALL, *groups)}
    for path, group, entry in items:
        held.setdefault(group, []).append((path, entry))
    return {group: write_entries(entries, writer, group=group) for group, entries in held.items()}


def write_entries(
    items: Iterable[tuple[str, Entry]], writer: Writer, *, group: str = ALL
) -> ObjectId:
    """Store the trees that hold a group's entries at paths; return the root tree's id."""
    return write_sorted(sorted(items, key=lambda item: item[0]), writer, group=group)


def write_sorted(
    items: Iterable[tuple[str, Entry]], writer: Writer, *, group: str = ALL
) -> ObjectId:
    """Store the trees of entries that are sorted by their paths, in which directories are whole.

    Memory: the entries of a directory and of those above it.
    """
    opened: list[tuple[str, list[Entry]]] = [("", [])]

    def close() -> ObjectId:
        directory, held = opened.pop()
        entries = sorted(held, key=lambda entry: entry.name.encode())
        for before, entry in pairwise(entries):
            if before.name == entry.name:  # readers refuse such a tree
                raise errors.ConflictError(f"{directory or '.'} holds two of {entry.name}")
        tree = directories.write(writer, entries, group)
        if directory:
            name = directory.rpartition("/")[2]
            opened[-1][1].append(Entry(name, stat_module.S_IFDIR, tree))
        return tree

    for path, entry in items:
        parent = path.rpartition("/")[0]
        while opened[-1][0] and not f"{parent}/".startswith(f"{opened[-1][0]}/"):
            close()
        at = len(opened[-1][0])
        opened += ((above, []) for above in parents(path) if len(above) > at)
        opened[-1][1].append(entry)
    while len(opened) > 1:
        close()
    return close()
