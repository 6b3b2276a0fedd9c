"""Edits: the trees of a commit with some paths changed; other directories are not read."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import NamedTuple

from dorky import errors
from dorky.format.model import ALL, Entry, ObjectId
from dorky.keys import placement
from dorky.paths import parents
from dorky.store import directories, history, projection
from dorky.store.directories import Objects
from dorky.store.history import Placed
from dorky.store.objects import Store, Writer
from dorky.store.projection import View


class _Change(NamedTuple):
    """What a path becomes in the tree of a group; None if it is deleted from it."""

    group: str
    path: str
    entry: Entry | None


_Names = dict[str, tuple[str, bool]]
"""The names in a directory, by their folded form, and whether each is one of a directory."""


class Edits:
    """The changes of a commit that is about to be made on top of another.

    Each is checked when it is added, and one that is refused changes nothing. No path is changed
    twice.

    Args:
        store: The store that holds the commit.
        head: The commit; None for the first one.
        paths: The paths that `at`, `put` and `delete` are going to be called with.
        objects: What the directories are read from.
    """

    def __init__(
        self, store: Store, head: ObjectId | None, paths: Collection[str], objects: Objects
    ) -> None:
        self.store = objects
        self.head = head
        self.trees = history.read_commit(objects, head).trees if head else {}
        self.view: View = projection.current(store, head, objects=objects)
        self._owner = placement.owner(store.database.roster())
        self._held: dict[str, Placed | None] = dict.fromkeys(paths)
        self._held |= self.view.files(paths)
        self._changes: dict[tuple[str, str], Entry | None] = {}
        self._deleted: set[tuple[str, str]] = set()
        self._names: dict[str, _Names] = {}
        self._added: dict[str, _Names] = {}
        """The names in each directory that changes have added."""

    def at(self, path: str) -> Placed | None:
        """Return the file at a path, with what was added; None if there is none."""
        group = self._owner(path)
        if group is not None and (group, path) in self._changes:
            entry = self._changes[group, path]
            return Placed(group, entry) if entry else None
        return self._held[path]

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Take back what the block has changed if it raises."""
        before = len(self._changes)
        try:
            yield
        except BaseException:
            while len(self._changes) > before:
                self._deleted.discard(self._changes.popitem()[0])
            self._names.clear()
            self._added.clear()
            for (_, path), entry in self._changes.items():
                if entry:
                    self._add_names(path)
            raise

    @property
    def are_empty(self) -> bool:
        """Return whether no file differs from the commit's."""
        return not self._changes

    def delete(self, path: str) -> None:
        """Delete the file at a path."""
        old = self.at(path)
        assert old is not None
        self._note(old.group, path, None)

    def put(self, path: str, placed: Placed) -> bool:
        """Put a file at a path; return whether that changes anything.

        Raises:
            ConflictError: The path, or one above it, is a directory, or a file, instead.
            NameClash: Another name differs from the path's only in case.
        """
        self._check_names(path)
        if self.at(path) == placed:
            return False
        self._note(placed.group, path, placed.entry)
        return True

    def _note(self, group: str, path: str, entry: Entry | None) -> None:
        self._changes[group, path] = entry
        if entry:
            self._add_names(path)
        else:
            self._deleted.add((group, path))
            for above in ["", *parents(path)]:
                self._names.pop(above, None)

    def _add_names(self, path: str) -> None:
        directory = ""
        for place in [*parents(path), path]:
            name = place.rpartition("/")[2]
            for names in (self._added.setdefault(directory, {}), self._names.get(directory, {})):
                names[name.casefold()] = (name, place != path)
            directory = place

    def _check_names(self, path: str) -> None:
        directory = ""
        for place in [*parents(path), path]:
            name = place.rpartition("/")[2]
            known = self._listed(directory).get(name.casefold())
            if known and known[0] != name:
                raise errors.NameClash(f"{directory}/{known[0]}".lstrip("/"), place)
            if known and place != path and not known[1]:
                raise errors.NotADirectory(path, place)
            if known and place == path and known[1]:
                raise errors.IsADirectory(path)
            directory = place

    def _listed(self, directory: str) -> _Names:
        """Return the names in a directory of any tree, by their folded form, and whether each is
        one of a directory."""
        if directory not in self._names:
            found: _Names = {}
            for group, tree in self.view.trees.items():
                entries = directories.at(self.store, tree, group, directory)
                for entry in entries.values():
                    path = f"{directory}/{entry.name}".lstrip("/")
                    if entry.is_tree:
                        if self._lives(group, path, entry.content):
                            found[entry.name.casefold()] = (entry.name, True)
                    elif (group, path) not in self._changes and not self.view.masked(group, path):
                        found[entry.name.casefold()] = (entry.name, False)
            found |= self._added.get(directory, {})
            self._names[directory] = found
        return self._names[directory]

    def _lives(self, group: str, path: str, tree: ObjectId) -> bool:
        """Return whether a directory still holds anything after the changes."""
        gone = {
            changed
            for tree_of, changed in self._deleted
            if tree_of == group and changed.startswith(f"{path}/")
        }
        if not gone:
            return True
        held = history.files_below(self.store, group, tree)
        return any(f"{path}/{name}" not in gone for name, _ in held)

    def write(self, writer: Writer) -> dict[str, ObjectId]:
        """Store the changed trees; return the root trees of all groups."""
        trees = dict(self.trees)
        for group in {group for group, _ in self._changes} | ({ALL} - trees.keys()):
            edits = {path: entry for (of, path), entry in self._changes.items() if of == group}
            trees[group] = directories.edit(self.store, writer, group, self.trees.get(group), edits)
        return trees
