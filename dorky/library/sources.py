"""Sources: whatever a caller uploads, read once, front to back, in bounded memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat as stat_module
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from dorky import cancellation, errors, files
from dorky.files import moment

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Iterable[bytes]
"""The path of a file, bytes, a file open for reading, or an iterable of bytes."""

_REGULAR = stat_module.S_IFREG
_BLOCK = 1 << 20


class Reading:
    """A source while it is read: its bytes are counted and hashed.

    Args:
        blocks: Its bytes, in blocks of any size.
        mode: File type and permission bits of the file that it becomes; 0 if it has none.
        total: Its size in bytes, if that is known.
        advance: Receives the number of bytes of each block.
    """

    def __init__(
        self,
        blocks: Iterator[bytes | memoryview],
        mode: int,
        total: int | None,
        advance: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._blocks = blocks
        self._left = memoryview(b"")
        self._advance = advance
        self._sha256 = hashlib.sha256()
        self.mode = mode
        self.total = total
        self.size = 0

    @property
    def digest(self) -> str:
        """Return the SHA-256, in hex, of what was read so far."""
        return self._sha256.hexdigest()

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a buffer, or a part of it; return the number of bytes read, 0 at the end."""
        cancellation.check()
        while not self._left:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._left = memoryview(block).cast("B")
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._sha256.update(self._left[:count])
        self._left = self._left[count:]
        self.size += count
        self._advance(count)
        return count

    def read_up_to(self, size: int) -> bytes:
        """Return the next bytes: fewer than ``size`` only at the end."""
        buffer = bytearray(size)
        window = memoryview(buffer)
        done = 0
        while done < size and (count := self.readinto(window[done:])):
            done += count
        return bytes(window[:done])


@contextlib.contextmanager
def opened(source: Source, advance: Callable[[int], None] = lambda _: None) -> Iterator[Reading]:
    """Open a source for reading. A file object of the caller's is neither closed nor rewound.

    Raises:
        PathNotFound: There is no such file.
        UnstorablePath: The path is none of a file.
        UsageError: The source is none.
        FileChanged: The file has changed while it was read.
    """
    if isinstance(source, str | os.PathLike):
        with _opened_file(Path(source), advance) as reading:
            yield reading
    elif isinstance(source, bytes | bytearray | memoryview):
        view = memoryview(source)
        blocks: Iterator[bytes | memoryview] = iter([view] if view.nbytes else [])
        yield Reading(blocks, 0, view.nbytes, advance)
    elif hasattr(source, "read"):
        yield Reading(_read(source), 0, None, advance)
    elif isinstance(source, Iterable):
        yield Reading(_checked(source), 0, None, advance)
    else:
        raise errors.UsageError(f"a {type(source).__name__} can't be uploaded")


@contextlib.contextmanager
def _opened_file(path: Path, advance: Callable[[int], None]) -> Iterator[Reading]:
    try:
        # Not waiting: a pipe without a writer would block for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise errors.PathNotFound(path) from None
    except OSError as error:
        with files.disk_errors(path):
            raise error from None
        raise
    before = os.fstat(fd)
    if not stat_module.S_ISREG(before.st_mode):
        os.close(fd)
        raise errors.UnstorablePath(path, "it is not a regular file")
    with open(fd, "rb", buffering=0) as file:
        mode = _REGULAR | before.st_mode & 0o777
        # One byte more than there was shows that the file grows, and reading comes to an end.
        yield Reading(_of_file(file, path, before.st_size + 1), mode, before.st_size, advance)
        if moment(os.fstat(fd)) != moment(before):
            raise errors.FileChanged(path)


def _of_file(file: Any, path: Path, limit: int) -> Iterator[bytes]:
    while limit:
        with files.disk_errors(path):
            block = file.read(min(_BLOCK, limit))
        if not block:
            return
        limit -= len(block)
        yield block


def _read(source: Any) -> Iterator[bytes | memoryview]:
    while True:
        block = source.read(_BLOCK)
        if block is None:
            raise errors.UsageError("a file that does not block can't be uploaded")
        if isinstance(block, str):
            raise errors.UsageError("a file opened as text can't be uploaded: open it as binary")
        if not block:
            return
        yield block


def _checked(source: Iterable[Any]) -> Iterator[bytes | memoryview]:
    for block in source:
        if not isinstance(block, bytes | bytearray | memoryview):
            kind = type(block).__name__
            raise errors.UsageError(f"an upload is made of bytes, not of {kind}")
        yield block if isinstance(block, memoryview) else bytes(block)
