"""Rows on their way into the index, kept on disk: a million of them would take half a gigabyte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from dorky import files
from dorky.store.index import Row

_MOST = 1000
"""The most rows that are kept in memory."""
_LENGTH = 8


class Spool:
    """Rows that are added one by one, and read in the same order any number of times.

    Many are written to a file without a name, which ends with the process. It holds what the local
    database is going to hold.

    Args:
        directory: The directory of the file.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: IO[bytes] | None = None
        self._end = 0
        self._last: list[Row] = []

    def __del__(self) -> None:
        if self._file:
            self._file.close()

    def add(self, row: Row) -> None:
        """Add a row.

        Raises:
            DiskFull: The disk has no space.
        """
        self._last.append(row)
        if len(self._last) < _MOST:
            return
        data = msgspec.msgpack.encode(self._last)
        with files.disk_errors(self._directory, writing=True):
            if self._file is None:
                import tempfile

                self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115
            self._file.seek(self._end)
            self._end += self._file.write(len(data).to_bytes(_LENGTH, "big") + data)
        self._last = []

    def __iter__(self) -> Iterator[Row]:
        at = 0
        while self._file and at < self._end:
            with files.disk_errors(self._directory):
                self._file.seek(at)
                size = int.from_bytes(self._file.read(_LENGTH), "big")
                data = self._file.read(size)
            at += _LENGTH + size
            yield from map(Row._make, msgspec.msgpack.decode(data))
        yield from self._last
