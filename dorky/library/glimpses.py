"""Glimpses: single files of the newest state, read without its history (see `remote.cold`)."""

from __future__ import annotations

from typing import NamedTuple

from dorky import errors
from dorky.format.model import Kind, ObjectId
from dorky.library.contents import Fetched, Objects
from dorky.library.session import Session
from dorky.remote import cold
from dorky.store.history import Placed

_ATTEMPTS = 3
_MOVED = (
    errors.MissingObject,
    errors.MissingPack,
    errors.CorruptTable,
)
"""What a reader of a root meets after a garbage collection; reading the root again tells."""


class File(NamedTuple):
    """A file, and the objects that its content is made of."""

    placed: Placed
    objects: Objects


class Absent(NamedTuple):
    """The newest state holds no file at a path."""


def find(session: Session, path: str) -> File | Absent | None:
    """Return the file at a path in the newest state; None if the history must be fetched to tell.

    Raises:
        NoRepositoryAtURL: There is no repository.
        ForgedCommit: The newest commit is not one of the team's.
    """
    for attempt in range(_ATTEMPTS):
        snapshot = session.glimpse(force=attempt > 0)
        if snapshot is None:
            return None
        try:
            placed = snapshot.find(path)
        except cold.NeedsHistory:
            return None
        except (*_MOVED, errors.CorruptObject):
            continue
        return File(placed, _Glimpsed(session, snapshot)) if placed else Absent()
    return None


class _Glimpsed:
    """The objects that a root lists, or that the root lists that has followed it."""

    def __init__(self, session: Session, snapshot: cold.Snapshot) -> None:
        self._session = session
        self._snapshot = snapshot

    def read_list(self, object_id: ObjectId) -> bytes | None:
        """See `Objects`."""
        try:
            reader = self._snapshot.reader
            if reader.kind(object_id) is not Kind.CHUNKS:
                return None
            return reader.read(object_id)
        except _MOVED:
            return self._renewed().read_list(object_id)

    def fetch(self, ids: set[ObjectId], group: str, *, keep: bool = True) -> dict[ObjectId, bytes]:
        """See `Objects`."""
        try:
            return self._snapshot.reader.read_all(ids, group=group, keep=keep)
        except _MOVED:
            return self._renewed().fetch(ids, group, keep=keep)

    def keeps(self, size: int) -> bool:
        """See `Objects`."""
        return self._session.remote.cache.keeps(size)

    def _renewed(self) -> Objects:
        """Return the objects of the newest root; of the history, if the root is the same."""
        newest = self._session.glimpse(force=True)
        if newest and newest is not self._snapshot:
            return _Glimpsed(self._session, newest)
        self._session.refresh(force=True)
        return Fetched(self._session)
