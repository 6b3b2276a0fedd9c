"""Commits and directories read last: a server asks for the same ones again and again."""

from __future__ import annotations

import threading
from collections import OrderedDict

from dorky.format.model import ObjectId
from dorky.keys.vault import Vault
from dorky.store.objects import Store

_LIMIT = 16 << 20


class Nodes:
    """The commits and trees of a store, of which it keeps some decrypted and verified, in memory.

    Any number of threads may use it.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[ObjectId, str | None], bytes] = OrderedDict()
        self._size = 0

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

    def read(self, object_id: ObjectId, *, group: str | None = None) -> bytes:
        """See `directories.Objects`."""
        key = object_id, group
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
                return found
        body = self._store.read(object_id, group=group)
        with self._lock:
            self._size += len(body) - len(self._held.pop(key, b""))
            self._held[key] = body
            while self._size > _LIMIT:
                self._size -= len(self._held.popitem(last=False)[1])
        return body
