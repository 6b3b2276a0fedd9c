"""Commits and directories read last: a server asks for the same ones again and again."""

from __future__ import annotations

import threading
from collections import OrderedDict

from dorky.format.model import ObjectId, Tree
from dorky.keys.vault import Vault
from dorky.store.objects import Store

_LIMIT = 50_000
_BODIES = 1 << 20
"""The bytes of objects, such as commits, that are kept as they are."""
_NODE = 10
"""What an object without entries counts for, by what it takes of memory."""


class Nodes:
    """The commits and trees of a store, of which it keeps some decrypted and verified, in memory.

    Any number of threads may use it. It keeps objects with 50,000 entries, which take some 30 MB.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[ObjectId, str, str], Tree] = OrderedDict()
        self._size = 0
        self._bodies: OrderedDict[tuple[ObjectId, str | None], bytes] = OrderedDict()
        self._room = _BODIES

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
        key = object_id, group
        with self._lock:
            found = self._bodies.get(key)
            if found is not None:
                self._bodies.move_to_end(key)
                return found
        body = self._store.read(object_id, group=group)
        with self._lock:
            if key not in self._bodies:
                self._bodies[key] = body
                self._room -= len(body)
            while self._room < 0:
                self._room += len(self._bodies.popitem(last=False)[1])
        return body

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
