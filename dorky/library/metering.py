"""Progress: what a transfer has done, told to the caller's function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from dorky.library.records import Progress

Report = Callable[[Progress], object]
"""Receives the progress of a transfer, in the thread that has called the client."""


class Meter:
    """Counts the bytes and files of one transfer. What it tells never decreases.

    Args:
        report: Receives the progress; None if nobody wants it.
        operation: What is done with the files.
        files: The number of files.
        total: The bytes of all files, if that is known.
    """

    def __init__(
        self,
        report: Report | None,
        operation: Literal["upload", "download"],
        *,
        files: int = 1,
        total: int | None = None,
    ) -> None:
        self._report = report
        self._operation: Literal["upload", "download"] = operation
        self._files = files
        self._files_done = 0
        self._done = 0
        self._path = ""
        self.total = total

    def advance(self, path: str, count: int) -> None:
        """Count more bytes of a file as done."""
        self._done += count
        # The end is told by `finish`, once the commit is durable.
        if self.total is None or self._done < self.total:
            self._tell(path)

    def finish(self, path: str, files: int = 1) -> None:
        """Count files as done."""
        self._files_done += files
        if self._files_done == self._files:
            self.total = self._done
        self._tell(path)

    def _tell(self, path: str) -> None:
        if self._report:
            self._report(
                Progress(
                    path=path,
                    operation=self._operation,
                    done=self._done,
                    total=self.total,
                    files_done=self._files_done,
                    files_total=self._files,
                )
            )
