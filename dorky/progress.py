"""How the library tells of progress: through this protocol; it never prints."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives what long operations do. Calls come from one thread at a time."""

    def start(self, label: str, total: int, unit: str) -> None:
        """A phase begins: ``total`` of ``unit`` ("B" for bytes, else a plural noun)."""

    def advance(self, amount: int) -> None:
        """``amount`` more units of the current phase are done."""

    def finish(self) -> None:
        """The current phase is over."""


class Silent:
    """Progress for callers that don't want to know."""

    def start(self, label: str, total: int, unit: str) -> None:
        """Ignore."""

    def advance(self, amount: int) -> None:
        """Ignore."""

    def finish(self) -> None:
        """Ignore."""


SILENT: Progress = Silent()
