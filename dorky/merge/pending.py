"""The merge in progress: what a pull leaves behind that has conflicts, until they are resolved."""

from __future__ import annotations

import msgspec

from dorky import errors
from dorky.format.model import ObjectId
from dorky.results import Unmerged
from dorky.store.database import Database
from dorky.store.oplog import MERGE


class State(msgspec.Struct, frozen=True):
    """A merge in progress.

    Attributes:
        theirs: The commit that is merged into ``HEAD``.
        label: Its name for the user.
        operation: The operation that began the merge.
        trees: The trees that were checked out for it, with conflict markers in files.
        sealed: The trees of groups that the user can't read.
        conflicts: The conflicts that are not resolved yet.
        paths: The files that the merge takes from the index; the others are those of ``trees``.
            None if a dorky before this field began the merge: then all of the index is taken.
    """

    theirs: ObjectId
    label: str
    operation: int
    trees: dict[str, ObjectId]
    sealed: dict[str, ObjectId]
    conflicts: tuple[Unmerged, ...]
    paths: tuple[str, ...] | None = None


def load(database: Database) -> State | None:
    """Return the merge in progress, or None.

    Raises:
        CorruptDatabase: The record of it can't be read.
    """
    data = database.get(MERGE)
    try:
        return msgspec.json.decode(data, type=State) if data else None
    except msgspec.MsgspecError as error:
        raise errors.CorruptDatabase(database.path, error) from None


def save(database: Database, state: State | None) -> None:
    """Record the state of a merge; None records its end."""
    database.set(MERGE, msgspec.json.encode(state) if state else b"")
