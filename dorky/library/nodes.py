"""Directories that were read last: a server asks for the same ones again and again."""

from __future__ import annotations

import threading
from collections import OrderedDict

from dorky.format.model import Commit, ObjectId, Tree
from dorky.keys.vault import Vault
from dorky.store import history
from dorky.store.objects import Store

_LIMIT = 50_000
_COMMITS = 16
_NODE = 10
"""What an object without entries counts for, by what it takes of memory."""


class Nodes:
    """The trees of a store, of which it keeps some decrypted and verified, in memory.

    Any number of threads may use it. It keeps objects with 50,000 entries, which take some 30 MB.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[ObjectId, str, str], Tree] = OrderedDict()
        self._size = 0
        self._commits: OrderedDict[ObjectId, Commit] = OrderedDict()

    def trees(self, commit: ObjectId) -> dict[str, ObjectId]:
        """Return the trees of a commit that the user can read, by group."""
        with self._lock:
            found = self._commits.get(commit)
        if found is None:
            found = history.read_commit(self._store, commit)
            with self._lock:
                self._commits[commit] = found
                if len(self._commits) > _COMMITS:
                    self._commits.popitem(last=False)
        groups = self.vault.groups
        names = history.in_order(found.trees)
        return {group: found.trees[group] for group in names if group in groups}

    @property
    def left_out(self) -> set[str]:
        """See `directories.Objects`."""
        return self._store.left_out

    @left_out.setter
    def left_out(self, names: set[str]) -> None:
        self._store.left_out = names

    @property
    def vault(self) -> Vault:
        """See `directories.Objects`."""
        return self._store.vault

    @property
    def recent(self) -> Nodes:
        """See `directories.Objects`."""
        return self

    def read(self, object_id: ObjectId, *, group: str | None = None) -> bytes:
        """See `directories.Objects`."""
        return self._store.read(object_id, group=group)

    def get(self, key: tuple[ObjectId, str, str]) -> Tree | None:
        """See `directories.Recent`."""
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
            return found

    def put(self, key: tuple[ObjectId, str, str], node: Tree) -> None:
        """See `directories.Recent`."""
        with self._lock:
            if key not in self._held:
                self._held[key] = node
                self._size += len(node.entries) + _NODE
            while self._size > _LIMIT:
                _, dropped = self._held.popitem(last=False)
                self._size -= len(dropped.entries) + _NODE
