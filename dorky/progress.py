"""The protocol by which the library reports progress; the library itself never prints."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of long operations. Calls come from one thread at a time."""

    def start(self, label: str, total: int, unit: str) -> None:
        """Begin a phase with ``total`` of ``unit`` ("B" for bytes, else a plural noun)."""

    def advance(self, amount: int) -> None:
        """Count ``amount`` more units of the current phase as done."""

    def finish(self) -> None:
        """End the current phase."""


class Silent:
    """Progress for callers that don't need it."""

    def start(self, label: str, total: int, unit: str) -> None:
        """Do nothing."""

    def advance(self, amount: int) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""


SILENT: Progress = Silent()
