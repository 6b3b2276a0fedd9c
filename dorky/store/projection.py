"""Views of commits: the rules of `placement`, applied to trees as they are read.

At heads an entry counts only in the tree of the group that owns its path, so nobody outside a group
can replace, hide or add to its files. Older commits are read as they were recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from dorky.format.model import ALL, Entry, ObjectId
from dorky.keys.placement import Masked, Owner, everybodys, fold, judged, owner
from dorky.paths import parents
from dorky.store import directories, history
from dorky.store.directories import Objects
from dorky.store.history import Difference, Placed, Trees
from dorky.store.objects import Store


class _Place(NamedTuple):
    """A directory in the tree of a group, and the path that leads to it."""

    group: str
    prefix: str
    tree: ObjectId


class View:
    """The entries of a commit's trees that count.

    Args:
        store: The store that holds the trees.
        trees: The root trees by group.
        owner: Returns the owner of a path; None to read the trees as they were recorded.
        preferred: In a view as recorded, returns the group whose file is given if several trees
            hold a path. Otherwise the first group would win, and anybody can start one.
    """

    def __init__(
        self,
        store: Objects,
        trees: Trees,
        owner: Owner | None = None,
        *,
        preferred: Owner | None = None,
    ) -> None:
        self.store = store
        self.trees = trees
        self.owner = owner
        self._preferred = preferred
        self._closed = [_Place(group, "", tree) for group, tree in trees.items() if group != ALL]
        self._places: dict[str, list[_Place]] = {"": self._closed}
        self._read: dict[ObjectId, tuple[Entry, ...]] = {}

    def masked(self, group: str, path: str) -> Masked | None:
        """Return why an entry of a group's tree does not count; None if it counts."""
        if self.owner is None:
            return None
        return judged(self.owner, group, path, self._below)

    def files(self, paths: Collection[str] | None = None) -> Iterator[tuple[str, Placed]]:
        """Yield each file and link that counts, with its path.

        In a view as recorded, several trees may hold a path: the preferred group wins it, or else
        the first.

        Args:
            paths: If given, only what lies at these paths; other directories are not read.
        """
        given: set[str] = set()
        for path, placed, why in self.walk(paths):
            if why is None and path not in given:
                yield path, self._chosen(path, placed)
                if self._closed:
                    given.add(path)

    def _chosen(self, path: str, placed: Placed) -> Placed:
        """Return the file of the preferred group if its tree holds the path, too."""
        group = self._preferred(path) if self._preferred and self._closed else None
        if group is None or group == placed.group:
            return placed
        return self.recorded({path: group}).get(path, placed)

    def walk(
        self, paths: Collection[str] | None = None
    ) -> Iterator[tuple[str, Placed, Masked | None]]:
        """Yield every file and link of the trees; for one that does not count, also the reason."""
        for group, tree in self.trees.items():
            for path, entry in history.files_below(self.store, group, tree, paths):
                yield path, Placed(group, entry), self.masked(group, path)

    def listing(self, directory: str) -> dict[str, Placed | None]:
        """Return the files that count in a directory, by path, and its directories (None).

        A directory is one if a file below it counts. Other directories are not read.

        Args:
            directory: The directory; empty: the root.
        """
        above = f"{directory}/" if directory else ""
        found: dict[str, Placed | None] = {}
        for group, tree in self.trees.items():
            for entry in directories.at(self.store, tree, group, directory).values():
                path = above + entry.name
                if path in found:
                    continue
                if not entry.is_tree:
                    if not self.masked(group, path):
                        found[path] = self._chosen(path, Placed(group, entry))
                elif self._any_counts(group, path, entry.content):
                    found[path] = None
        return found

    def _any_counts(self, group: str, path: str, tree: ObjectId) -> bool:
        if self.owner is everybodys and not self._closed:
            return True  # no directory is stored that holds nothing
        below = history.files_below(self.store, group, tree)
        return any(not self.masked(group, f"{path}/{name}") for name, _ in below)

    def reported(self) -> list[Masked]:
        """Return every entry that does not count, sorted."""
        return sorted(why for _, _, why in self.walk() if why)

    def recorded(self, places: Mapping[str, str]) -> dict[str, Placed]:
        """Return the entries at paths, each of the group given for it, whether it counts or not."""
        paths: dict[str, list[str]] = {}
        for path, group in places.items():
            paths.setdefault(group, []).append(path)
        return {
            path: Placed(group, entry)
            for group in paths.keys() & self.trees.keys()
            for path, entry in history.files_below(
                self.store, group, self.trees[group], paths[group]
            )
        }

    def above(self, path: str) -> Iterator[tuple[str, Entry]]:
        """Yield everybody's files and links that stand where a directory above a path has to be."""
        pending = [("", self.trees[ALL])] if ALL in self.trees else []
        for directory in parents(fold(path)):
            below = []
            for prefix, tree in pending:
                for entry in self._entries(tree, ALL):
                    if fold(prefix + entry.name) != directory:
                        continue
                    if entry.is_tree:
                        below.append((f"{prefix}{entry.name}/", entry.content))
                    else:
                        yield prefix + entry.name, entry
            pending = below

    def _below(self, above: str) -> Masked | None:
        """Return a path below ``above`` that counts for a group or is frozen; None if none is."""
        if not self._closed:
            return None
        directory = fold(above)
        for place in self._within(self._at(directory.rpartition("/")[0]), directory):
            for path, _ in history.files_below(self.store, place.group, place.tree):
                found = place.prefix + path
                if self.owner is not None and self.owner(found) in {place.group, None}:
                    return Masked(found, place.group, place.group)
        return None

    def _at(self, directory: str) -> list[_Place]:
        """Return the directories of groups' trees whose paths fold to the same path."""
        if (known := self._places.get(directory)) is not None:
            return known
        found = self._within(self._at(directory.rpartition("/")[0]), directory)
        self._places[directory] = found
        return found

    def _within(self, places: Iterable[_Place], directory: str) -> list[_Place]:
        return [
            _Place(place.group, f"{place.prefix}{entry.name}/", entry.content)
            for place in places
            for entry in self._entries(place.tree, place.group)
            if entry.is_tree and fold(place.prefix + entry.name) == directory
        ]

    def _entries(self, tree: ObjectId, group: str) -> tuple[Entry, ...]:
        if tree not in self._read:
            self._read[tree] = directories.read(self.store, tree, group)
        return self._read[tree]


def current(
    store: Store,
    commit: ObjectId | None,
    groups: Collection[str] | None = None,
    *,
    objects: Objects | None = None,
) -> View:
    """Return what counts of a commit by the roster last seen, of all groups or some.

    Args:
        store: The store.
        commit: The commit.
        groups: The groups; None: all of them.
        objects: What the commit and the directories are read from; None: the store.
    """
    trees = history.trees_of(objects or store, commit, groups)
    return View(objects or store, trees, owner(store.database.roster()))


def recorded(store: Store, commit: ObjectId | None, *, objects: Objects | None = None) -> View:
    """Return what a commit held when it was made.

    If several groups had a file at a path then, that of today's owner is given.

    Args:
        store: The store.
        commit: The commit.
        objects: What the commit and the directories are read from; None: the store.
    """
    trees = history.trees_of(objects or store, commit)
    return View(objects or store, trees, preferred=owner(store.database.roster()))


def differences(old: View, new: View) -> Iterable[Difference]:
    """Return the files at which two commits differ. Only directories that differ are read.

    Those of two commits that only everybody can read are not kept in memory: they may be a million.
    """
    if old.trees.keys() | new.trees.keys() <= {ALL}:
        return _everybodys(old, new)
    return _of_groups(old, new)


def _everybodys(old: View, new: View) -> Iterator[Difference]:
    """Yield the files at which the trees of everybody differ, as far as they count."""
    trees = old.trees.get(ALL), new.trees.get(ALL)
    for path, before, after in history.differing(new.store, ALL, *trees):
        was = before if before and not old.masked(ALL, path) else None
        now = after if after and not new.masked(ALL, path) else None
        if was or now:
            yield Difference(path, was, now)


def _of_groups(old: View, new: View) -> Iterable[Difference]:
    found: dict[str, Difference] = {}

    def note(group: str, path: str, before: Entry | None, after: Entry | None) -> None:
        was = before if before and not old.masked(group, path) else None
        now = after if after and not new.masked(group, path) else None
        if was is None and now is None:
            return
        other = found.get(path)
        if other is None:
            found[path] = Difference(path, was, now, group)
        else:
            where = other.group if other.new else group
            found[path] = Difference(path, other.old or was, other.new or now, where)

    everybodys: tuple[dict[str, Entry], dict[str, Entry]] = ({}, {})
    for group in history.in_order(old.trees.keys() | new.trees.keys()):
        trees = old.trees.get(group), new.trees.get(group)
        for path, before, after in history.differing(new.store, group, *trees):
            note(group, path, before, after)
            if group != ALL and (old.owner or new.owner):
                # A change to a group's file can change whether everybody's file above it counts.
                for view, above in zip((old, new), everybodys, strict=True):
                    above.update(view.above(path))
    for path in sorted(everybodys[0].keys() | everybodys[1].keys()):
        if path not in found and bool(old.masked(ALL, path)) != bool(new.masked(ALL, path)):
            note(ALL, path, everybodys[0].get(path), everybodys[1].get(path))
    return found.values()


def changed(old: View, new: View) -> Iterator[tuple[str, str, Entry | None, Entry | None]]:
    """Yield each group and path at which trees differ, whether the entry counts or not."""
    for group in history.in_order(old.trees.keys() | new.trees.keys()):
        trees = old.trees.get(group), new.trees.get(group)
        for path, before, after in history.differing(new.store, group, *trees):
            yield group, path, before, after
