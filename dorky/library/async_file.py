"""File objects of the asynchronous client."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from dorky import errors
from dorky.library.workers import Workers

if TYPE_CHECKING:
    from typing_extensions import Self


class AsyncFile:
    """A file of a repository that ``async with`` opens; as Python's own files, with ``await``.

    A file open for writing is committed at the end of the block. If an exception leaves the block,
    or the task is cancelled, nothing is committed. ``async for`` yields its lines.
    """

    def __init__(self, workers: Workers, opener: Callable[[], IO[Any]]) -> None:
        self._workers = workers
        self._opener = opener
        self._file: IO[Any] | None = None

    @property
    def sync(self) -> IO[Any]:
        """Return the blocking file.

        Raises:
            UsageError: It is not open yet.
        """
        if self._file is None:
            raise errors.UsageError("a file is opened by: async with client.open(path) as file")
        return self._file

    @property
    def closed(self) -> bool:
        """Return whether it is closed."""
        return self._file is not None and self._file.closed

    async def read(self, size: int = -1) -> Any:
        """Return the next ``size`` bytes or characters, or all that are left."""
        return await self._workers.run(self.sync.read, size)

    async def readline(self) -> Any:
        """Return the next line; empty at the end."""
        return await self._workers.run(self.sync.readline)

    async def write(self, data: Any) -> int:
        """Take more bytes or text; return how much."""
        return await self._workers.run(self.sync.write, data)

    async def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position; return it."""
        return await self._workers.run(self.sync.seek, offset, whence)

    async def tell(self) -> int:
        """Return the position."""
        return await self._workers.run(self.sync.tell)

    async def close(self) -> None:
        """Close the file; what was written is committed."""
        await self._workers.run(self.sync.close)

    async def __aenter__(self) -> Self:
        self._file = await self._workers.run(self._opener)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        end = self._workers.run if kind is None else self._workers.finish
        await end(self.sync.__exit__, kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line
