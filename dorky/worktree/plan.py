"""The plan of a checkout: what is written, deleted and left, by path."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import NamedTuple

from dorky.files import FileStamp
from dorky.format.model import Entry
from dorky.results import Change
from dorky.store.history import Placed
from dorky.store.index import Row, Spool

_DIGITS = 64
_PACKED = struct.Struct("<qHI32s32s")
_SIZE = struct.Struct("<q")


class PlacedFiles(MutableMapping[str, Placed]):
    """Files by path, each packed into some hundred bytes: a million records would take 600 MiB."""

    def __init__(self) -> None:
        self._packed: dict[str, bytes | Placed] = {}
        self._groups: list[str] = []

    def __setitem__(self, path: str, placed: Placed) -> None:
        self._packed[path] = self._pack(path, placed)

    def __getitem__(self, path: str) -> Placed:
        packed = self._packed[path]
        if not isinstance(packed, bytes):
            return packed
        size, group, mode, content, digest = _PACKED.unpack(packed)
        name = path.rpartition("/")[2]
        return Placed(self._groups[group], Entry(name, mode, content.hex(), size, digest.hex()))

    def __delitem__(self, path: str) -> None:
        del self._packed[path]

    def __contains__(self, path: object) -> bool:
        return path in self._packed

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield each path with the size of its content in bytes."""
        for path, packed in self._packed.items():
            if isinstance(packed, bytes):
                yield path, _SIZE.unpack_from(packed)[0]
            else:
                yield path, packed.entry.size

    def _pack(self, path: str, placed: Placed) -> bytes | Placed:
        """Pack a file, unless it is of an unusual kind."""
        group, entry = placed
        usual = len(entry.content) == len(entry.sha256) == _DIGITS and not entry.meta
        if not usual or entry.name != path.rpartition("/")[2]:
            return placed
        if group not in self._groups:
            self._groups.append(group)
        raw = bytes.fromhex(entry.content), bytes.fromhex(entry.sha256)
        try:
            return _PACKED.pack(entry.size, self._groups.index(group), entry.mode, *raw)
        except struct.error:
            return placed


class Plan(NamedTuple):
    """The steps of a checkout, by path."""

    write: PlacedFiles
    """Files to put in place."""

    adopt: Spool[Row]
    """Files that hold the right content already."""

    leave: PlacedFiles
    """Files that belong to the commit but are not wanted on disk."""

    remove: set[str]
    """Files to delete."""

    forget: set[str]
    """Paths that only the index still has."""

    conflicts: set[str]
    """Files whose content is stored nowhere; they are also in ``write`` or ``remove``."""

    judged: dict[str, FileStamp]
    """The state in which files to be replaced or deleted were inspected. Others were missing."""

    unjudged: set[str]
    """Paths in ``write`` or ``remove`` that were not inspected: the disk has another's file there,
    or a directory."""

    held: dict[str, Row]
    """The content of such files that is stored, but is not what is staged."""

    unplaced: dict[str, str]
    """Why files, which are also in ``leave``, can't be on this file system."""

    def changes(self, rows: Mapping[str, Row]) -> tuple[Change, ...]:
        """Return how files on disk will change."""

        def there(path: str) -> bool:
            return path in rows and not rows[path].absent

        found = [Change(path, "modified" if there(path) else "added") for path in self.write]
        found += [Change(path, "deleted") for path in self.remove | self.forget if there(path)]
        found.sort()
        return tuple(found)


def nothing(scratch: Path) -> Plan:
    """Return the plan that does nothing.

    Args:
        scratch: The directory for what a large plan need not keep in memory.
    """
    return Plan(
        write=PlacedFiles(),
        adopt=Spool(scratch, Row._make),
        leave=PlacedFiles(),
        remove=set(),
        forget=set(),
        conflicts=set(),
        judged={},
        unjudged=set(),
        held={},
        unplaced={},
    )
