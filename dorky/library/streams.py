"""File objects: one that reads a file by range, and one whose content becomes a file."""

from __future__ import annotations

import contextvars
import io
import queue
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from dorky import cancellation, errors
from dorky.library import contents
from dorky.library.contents import Objects, Piece
from dorky.store.history import Placed

_KEPT = 4
"""How many chunks a reader keeps, each of at most 4 MiB."""
_WAITING = 8
_BLOCK = 1 << 20
_LOOK = 0.05
"""The seconds after which `close` looks for cancellation."""


class Reader(io.RawIOBase):
    """A file of a repository, open for reading. Only the chunks that are touched are fetched.

    Several threads may use it through the buffer that `open` puts around it.
    """

    def __init__(self, objects: Objects, path: str, placed: Placed) -> None:
        super().__init__()
        self.name = path
        self._objects = objects
        self._placed = placed
        self._at = 0
        self._kept: OrderedDict[int, tuple[Piece, bytes]] = OrderedDict()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position; return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._placed.entry.size}
        if whence not in base or base[whence] + offset < 0:
            raise OSError(22, "there is no such position")
        self._at = base[whence] + offset
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer; return the number of bytes, 0 at the end."""
        if self.closed:
            raise ValueError("the file is closed")
        window = memoryview(buffer).cast("B")
        if self._at >= self._placed.entry.size or not window:
            return 0
        piece, body = self._piece()
        block = body[self._at - piece.start : self._at - piece.start + len(window)]
        window[: len(block)] = block
        self._at += len(block)
        return len(block)

    def _piece(self) -> tuple[Piece, bytes]:
        for start, (piece, body) in self._kept.items():
            if piece.start <= self._at < piece.end:
                self._kept.move_to_end(start)
                return piece, body
        group, entry = self._placed
        wanted = contents.pieces(self._objects, entry, self._at, self._at + 1)
        found = next(contents.bodies(self._objects, wanted, group))
        self._kept[found[0].start] = found
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found


class Writer(io.RawIOBase):
    """A file of a repository, open for writing: it is committed when it is closed.

    If it is closed while an exception is on its way that was not when it was opened, or if nobody
    closes it, nothing is committed.

    Args:
        path: The path, for messages.
        upload: Uploads what an iterator yields.
    """

    def __init__(self, path: str, upload: Callable[[Iterator[bytes]], object]) -> None:
        super().__init__()
        self.name = path
        self._blocks: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._before = sys.exc_info()[1]
        self._error: BaseException | None = None
        self._dropped = False
        self._ended = False
        # Its own call: the one that opens the file is over when another closes it.
        self._call = cancellation.Call() if cancellation.current() else None
        with cancellation.scope(self._call):
            run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._run, upload), daemon=True)
        self._thread.start()

    def _run(self, upload: Callable[[Iterator[bytes]], object]) -> None:
        try:
            upload(self._given())
        except _Dropped:
            pass
        except BaseException as error:  # noqa: BLE001 - raised by the next call of the writer
            self._error = error
            while not self._ended:  # whoever writes must not wait for ever
                self._ended = self._blocks.get() is None

    def _given(self) -> Iterator[bytes]:
        while (block := self._blocks.get()) is not None:
            yield block
        self._ended = True
        if self._dropped:
            raise _Dropped

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any, /) -> int:
        """Take more bytes; return how many."""
        if self.closed:
            raise ValueError("the file is closed")
        if self._error:
            raise self._error
        view = memoryview(data).cast("B")
        for at in range(0, len(view), _BLOCK):
            self._blocks.put(bytes(view[at : at + _BLOCK]))
        return len(view)

    def drop(self) -> None:
        """Commit nothing, whatever closes the file."""
        self._dropped = True

    def close(self) -> None:
        """Commit the file, and wait until that is durable."""
        if self.closed:
            return
        super().close()
        now = sys.exc_info()[1]
        if now is not None and now is not self._before:
            self._dropped = True
        self._blocks.put(None)
        while self._thread.is_alive():
            self._thread.join(_LOOK)
            if self._call and cancellation.cancelled():
                self._call.cancel()
        cancellation.check()
        if self._error and not self._dropped:
            raise self._error

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.drop()
        self.close()

    def __del__(self) -> None:
        self.drop()
        self.close()


class _Dropped(Exception):
    """The caller does not want the file any more."""


class Buffered(io.BufferedWriter):
    """A buffer for a writer; one that nobody closes commits nothing."""

    raw: Writer

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.raw.drop()
        self.close()

    def __del__(self) -> None:
        if not self.closed:
            self.raw.drop()


class Text(io.TextIOWrapper):
    """Text for a writer; what nobody closes commits nothing."""

    def __init__(self, buffer: Buffered, **options: Any) -> None:
        super().__init__(buffer, **options)
        self._raw = buffer.raw

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._raw.drop()
        self.close()

    def __del__(self) -> None:
        if not self.closed:
            self._raw.drop()


def check_mode(mode: str) -> tuple[str, bool]:
    """Return what a mode does with a file (``r``, ``w`` or ``x``), and whether it is text.

    Raises:
        UsageError: There is no such mode.
    """
    if mode not in {"r", "rt", "rb", "w", "wt", "wb", "x", "xt", "xb"}:
        raise errors.UsageError(f"a file can't be opened as {mode!r}: take rb, r, wb, w or xb")
    return mode[0], "b" not in mode
