"""Progress bars of tqdm and rich, for the ``progress`` argument of a client's methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from dorky import errors
from dorky.library.records import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from typing_extensions import Self

_TITLE = 40


class _Bar(Protocol):
    """What one transfer is shown by."""

    def show(self, progress: Progress, title: str) -> None:
        """Show how far the transfer is."""

    def close(self) -> None:
        """End the bar; it stays on the screen."""


class Bars:
    """Shows one transfer after the other, each by a bar that ends with it.

    It is called with `Progress`. As a context manager, it also ends the bar of a transfer that has
    failed.
    """

    def __init__(self, make: type[_Bar], *arguments: Any, **options: Any) -> None:
        self._make = make
        self._arguments = arguments
        self._options = options
        self._bar: _Bar | None = None

    def __call__(self, progress: Progress) -> None:
        """Show how far a transfer is."""
        if self._bar is None:
            self._bar = self._make(*self._arguments, **self._options)
        self._bar.show(progress, _title(progress))
        if progress.files_done == progress.files_total:
            self.close()

    def close(self) -> None:
        """End the bar, if there is one."""
        if self._bar:
            self._bar.close()
        self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _title(progress: Progress) -> str:
    if progress.files_total != 1:
        return f"{progress.operation} {progress.files_done}/{progress.files_total}"
    # Somebody else may have chosen the path: it must not steer a terminal.
    path = "".join(c if c.isprintable() else "?" for c in progress.path)
    return path if len(path) <= _TITLE else f"…{path[1 - _TITLE :]}"


class _Tqdm:
    def __init__(self, tqdm_class: Any, options: dict[str, Any]) -> None:
        self._bar = tqdm_class(
            **{"unit": "B", "unit_scale": True, "unit_divisor": 1024, "total": None, **options}
        )
        self._titled = "desc" in options

    def show(self, progress: Progress, title: str) -> None:
        if not self._titled:
            self._bar.set_description(title, refresh=False)
        self._bar.total = progress.total
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class _Rich:
    def __init__(self, shown: RichProgress | None) -> None:
        self._own = shown is None
        self._bars = shown or _columns()
        self._task = self._bars.add_task("", total=None)
        if self._own:
            self._bars.start()

    def show(self, progress: Progress, title: str) -> None:
        from rich.markup import escape

        self._bars.update(
            self._task, description=escape(title), completed=progress.done, total=progress.total
        )

    def close(self) -> None:
        if self._own:
            self._bars.stop()


def _columns() -> RichProgress:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    title = TextColumn("[progress.description]{task.description}")
    return Progress(
        title, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    )


def tqdm_progress(tqdm_class: Any = None, **options: Any) -> Bars:
    """Return a ``progress`` that shows transfers by bars of tqdm: ``progress=tqdm_progress()``.

    It serves one transfer at a time. As a context manager, it also ends the bar of a transfer that
    has failed.

    Args:
        tqdm_class: The class of the bars; that of ``tqdm.auto`` by default, which suits notebooks.
        options: Further options of the class, such as ``desc`` or ``leave``.

    Raises:
        MissingLibrary: tqdm is not installed.
    """
    if tqdm_class is None:
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise errors.MissingLibrary("tqdm_progress", "tqdm (pip install tqdm)") from error
        tqdm_class = tqdm
    return Bars(_Tqdm, tqdm_class, options)


def rich_progress(progress: RichProgress | None = None) -> Bars:
    """Return a ``progress`` that shows transfers by bars of rich: ``progress=rich_progress()``.

    It serves one transfer at a time. As a context manager, it also ends the bar of a transfer that
    has failed.

    Args:
        progress: A ``rich.progress.Progress`` that is running, which gets a task for each transfer.
            None: each transfer has one of its own.
    """
    return Bars(_Rich, progress)
