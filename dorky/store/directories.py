"""Directories: the trees of a group one by one, each as one object or in parts.

A directory of more than `MOST` entries is a tree of trees. The first hexadecimal digit of a hash of
an entry's name decides in which of 16 parts the entry lies. A part of more than `MOST` entries is
divided in the same way by the next digit. So a directory has the same id however it came about,
and a change of one entry replaces one part and the objects above it.

The hash is keyed as ids are: otherwise the sizes of parts would confirm a guess at the names.
"""

from __future__ import annotations

import stat as stat_module
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from dorky import errors
from dorky.format import model
from dorky.format.model import DIGITS, MOST, PARTS, Entry, Kind, ObjectId, Tree
from dorky.paths import parents
from dorky.store.objects import Writer

if TYPE_CHECKING:
    from dorky.keys.vault import Vault


class Recent(Protocol):
    """Directories that were read and checked, by tree, group, and the digits that lead to it."""

    def get(self, key: tuple[ObjectId, str, str]) -> Tree | None:
        """Return a directory's object; None if it is not kept."""

    def put(self, key: tuple[ObjectId, str, str], node: Tree) -> None:
        """Keep a directory's object for a while."""


class Objects(Protocol):
    """Objects by id: a `Store`, or what a remote's root lists."""

    left_out: set[str]
    """Receives the names in trees that no worktree may hold."""

    @property
    def recent(self) -> Recent | None:
        """Return what keeps directories in memory, if anything does."""

    @property
    def vault(self) -> Vault:
        """Return the repository's keys."""

    def read(self, object_id: ObjectId, *, group: str | None = None) -> bytes:
        """Return the body of an object, verified (see `Store.read`)."""


Differing = tuple[str, Entry | None, Entry | None]
"""A name or path, and what two trees hold there."""


def read_node(store: Objects, tree: ObjectId, group: str | None = None) -> Tree:
    """Read one object: a directory, a part of one, or the list of its parts."""
    return model.decode_tree(store.read(tree, group=group), tree, store.left_out)


def read(store: Objects, tree: ObjectId, group: str) -> tuple[Entry, ...]:
    """Return the entries of a directory, in the order of their names' bytes.

    Raises:
        CorruptObject: A part is damaged, or holds a name that does not belong there.
    """
    return _Reader(store, group).entries("", tree)


def entries_named(
    store: Objects, tree: ObjectId, group: str, names: Collection[str]
) -> Iterable[Entry]:
    """Return the entries of a directory that have some names. Other parts are not read."""
    found = _Reader(store, group).entries("", tree, names)
    return (entry for entry in found if entry.name in names)


def find(store: Objects, tree: ObjectId, group: str, name: str) -> Entry | None:
    """Return the entry of a directory with a name; None if there is none."""
    return next(iter(entries_named(store, tree, group, {name})), None)


def compare(
    store: Objects, group: str, old: ObjectId | None, new: ObjectId | None
) -> list[Differing]:
    """Return the names at which two directories differ, in order. Equal parts are not read."""
    found: list[Differing] = []
    left, right = _Reader(store, group), _Reader(store, group)
    pending = [("", old, new)]
    while pending:
        prefix, before, after = pending.pop()
        if before == after:
            continue
        parts = left.parts(prefix, before), right.parts(prefix, after)
        if parts[0] and parts[1]:
            pending += (
                (digits, one or None, other or None)
                for (digits, one), (_, other) in zip(*parts, strict=True)
            )
            continue
        was = {entry.name: entry for entry in left.entries(prefix, before)}
        now = {entry.name: entry for entry in right.entries(prefix, after)}
        found += (
            (name, was.get(name), now.get(name))
            for name in was.keys() | now.keys()
            if was.get(name) != now.get(name)
        )
    return sorted(found, key=lambda item: item[0])


class _Reader:
    """A reader of one directory, which checks that each part is where it belongs."""

    def __init__(self, store: Objects, group: str) -> None:
        self._store = store
        self.group = group
        self._nodes: dict[ObjectId, Tree] = {}
        self._taken: dict[ObjectId, str] = {}

    def _node(self, prefix: str, tree: ObjectId) -> Tree:
        """Return the node to which some digits lead.

        Raises:
            CorruptObject: It is damaged, or holds a name that does not belong there.
        """
        recent, key = self._store.recent, (tree, self.group, prefix)
        if recent and (node := recent.get(key)):
            return node
        node = self._nodes.get(tree)
        if node is None:
            node = self._nodes[tree] = read_node(self._store, tree, self.group)
        if prefix:
            place = self._store.vault.place
            for entry in node.entries:
                if not place(entry.name, group=self.group).startswith(prefix):
                    raise errors.CorruptObject(tree, "a name that belongs to another part")
        if recent:
            recent.put(key, node)
        return node

    def parts(self, prefix: str, tree: ObjectId | None) -> list[tuple[str, str]]:
        """Return the parts of the node to which some digits lead, with those that lead to each.

        Raises:
            CorruptObject: There are more parts than names can be in, or one twice: a few objects
                could be read billions of times.
        """
        parts = self._node(prefix, tree).parts if tree else ()
        if parts and len(prefix) == DIGITS:
            raise errors.CorruptObject(tree, "more parts than names can be in")
        placed = [(f"{prefix}{n:x}", part) for n, part in enumerate(parts)]
        for digits, part in placed:
            if part and self._taken.setdefault(part, digits) != digits:
                raise errors.CorruptObject(tree, "one part twice")
        return placed

    def entries(
        self, prefix: str, tree: ObjectId | None, names: Collection[str] | None = None
    ) -> tuple[Entry, ...]:
        """Return the entries below the node to which some digits lead, in order.

        Args:
            prefix: The digits.
            tree: The node.
            names: If given, parts without any of these names are not read.
        """
        if tree is None:
            return ()
        node = self._node(prefix, tree)
        if not node.parts:
            return node.entries
        place = self._store.vault.place
        wanted = None if names is None else {place(name, group=self.group) for name in names}
        found: list[Entry] = []
        pending = self.parts(prefix, tree)
        while pending:
            digits, part = pending.pop()
            if part and (wanted is None or any(name.startswith(digits) for name in wanted)):
                found += self._node(digits, part).entries
                pending += self.parts(digits, part)
                self._nodes.pop(part, None)
        if names is not None:
            found = [entry for entry in found if entry.name in names]
        return tuple(sorted(found, key=lambda entry: entry.name.encode()))


def write(writer: Writer, entries: Sequence[Entry], group: str) -> ObjectId:
    """Store a directory, in parts if it is large; return its id.

    Args:
        writer: Receives the objects.
        entries: Its entries, unique, in the order of their names' bytes.
        group: The group whose tree it is in.
    """
    return _write(writer, entries, _places(writer, entries, group), 0, group)


def _places(writer: Writer, entries: Sequence[Entry], group: str) -> dict[str, str]:
    """Return where names lie, if there are so many that they lie in parts."""
    if len(entries) <= MOST:
        return {}
    return {entry.name: writer.vault.place(entry.name, group=group) for entry in entries}


def _write(
    writer: Writer, entries: Sequence[Entry], places: dict[str, str], depth: int, group: str
) -> ObjectId:
    if len(entries) <= MOST:
        return writer.add(Kind.TREE, model.encode(Tree(tuple(entries) or ())), group=group)
    parts: list[list[Entry]] = [[] for _ in range(PARTS)]
    for entry in entries:
        parts[int(places[entry.name][depth], PARTS)].append(entry)
    ids = (_write(writer, part, places, depth + 1, group) if part else "" for part in parts)
    return writer.add(Kind.TREE, model.encode(Tree((), tuple(ids))), group=group)


def at(store: Objects, tree: ObjectId | None, group: str, directory: str) -> dict[str, Entry]:
    """Return the entries of a directory below a root tree, by name; none if there is none."""
    for name in directory.split("/") if directory else ():
        found = find(store, tree, group, name) if tree else None
        tree = found.content if found and found.is_tree else None
    return {entry.name: entry for entry in read(store, tree, group)} if tree else {}


def edit(
    store: Objects,
    writer: Writer,
    group: str,
    tree: ObjectId | None,
    edits: Mapping[str, Entry | None],
) -> ObjectId:
    """Store the root tree of a group with other entries at some paths; return its id.

    Directories that become empty are left out.

    Args:
        store: The store that holds the tree.
        writer: Receives the new ones.
        group: The group.
        tree: The root tree; None if there is none.
        edits: The entries by path; None where there is to be none.
    """
    held: dict[str, ObjectId | None] = {"": tree}
    changes: dict[str, dict[str, Entry | None]] = {"": {}}
    for path in sorted({above for changed in edits for above in parents(changed)}):
        parent, _, name = path.rpartition("/")
        above = held[parent]
        found = find(store, above, group, name) if above else None
        held[path], changes[path] = found.content if found and found.is_tree else None, {}
    for path, new in edits.items():
        parent, _, name = path.rpartition("/")
        changes[parent][name] = new
    made = ""
    # Deepest first, because a directory's id is an entry of its parent.
    for path in sorted(held, key=lambda path: path.count("/") + bool(path), reverse=True):
        made = _changed(store, writer, group, held[path], changes[path])
        parent, _, name = path.rpartition("/")
        if path and made:
            changes[parent][name] = Entry(name, stat_module.S_IFDIR, made)
        elif path and held[path]:
            changes[parent].setdefault(name, None)
    return made or write(writer, (), group)


def _added(
    reader: _Reader, writer: Writer, prefix: str, tree: ObjectId, added: Sequence[Entry]
) -> ObjectId:
    """Store the node to which some digits lead with more entries, or others; return its id."""
    if not added:
        return tree
    parts = reader.parts(prefix, tree)
    group, place = reader.group, writer.vault.place
    if not parts:
        held = {entry.name: entry for entry in reader.entries(prefix, tree)}
        held.update((entry.name, entry) for entry in added)
        entries = sorted(held.values(), key=lambda entry: entry.name.encode())
        return _write(writer, entries, _places(writer, entries, group), len(prefix), group)
    ids = []
    for digits, part in parts:
        mine = [entry for entry in added if place(entry.name, group=group).startswith(digits)]
        if part:
            ids.append(_added(reader, writer, digits, part, mine))
        else:
            places = _places(writer, mine, group)
            ids.append(_write(writer, mine, places, len(digits), group) if mine else "")
    return writer.add(Kind.TREE, model.encode(Tree((), tuple(ids))), group=group)


def _changed(
    store: Objects,
    writer: Writer,
    group: str,
    tree: ObjectId | None,
    changes: Mapping[str, Entry | None],
) -> ObjectId:
    """Store a directory with other entries; return its id, empty if nothing is left in it."""
    added = [entry for entry in changes.values() if entry]
    if tree and len(added) == len(changes):
        return _added(_Reader(store, group), writer, "", tree, added)
    # A directory from which entries go may come to fit into fewer parts.
    held = {entry.name: entry for entry in read(store, tree, group)} if tree else {}
    held.update((entry.name, entry) for entry in added)
    for name in changes.keys() - {entry.name for entry in added}:
        held.pop(name, None)
    entries = sorted(held.values(), key=lambda entry: entry.name.encode())
    return write(writer, entries, group) if entries else ""
