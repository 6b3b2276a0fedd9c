"""Ranges of bytes, as callers name them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dorky import errors

Range = str | tuple[int, int | None]
"""A range: its first byte and the one to stop before, or as in HTTP."""


def check(start: int, end: int | None) -> None:
    """Check the ends of a range.

    Raises:
        UsageError: There is no such range.
    """
    if start < 0 or (end is not None and end < start):
        raise errors.UsageError(f"there are no bytes {start} to {end}")


def resolve(wanted: Range | None, size: int) -> tuple[int, int]:
    """Return the first byte of a range, and the one behind its last.

    Raises:
        UsageError: There is no such range.
    """
    if wanted is None:
        return 0, size
    if isinstance(wanted, str):
        first, dash, last = wanted.removeprefix("bytes=").partition("-")
        numbers = [part for part in (first, last) if part]
        if (
            not dash
            or not numbers
            or not all(part.isascii() and part.isdigit() for part in numbers)
        ):
            raise errors.UsageError(f"{wanted!r} is no range of bytes")
        if not first:
            return max(0, size - int(last)), size
        if last and int(last) < int(first):
            raise errors.UsageError(f"{wanted!r} is no range of bytes")
        wanted = (int(first), int(last) + 1 if last else None)
    start, end = wanted
    check(start, end)
    stop = size if end is None else min(end, size)
    if start > stop:
        raise errors.UsageError(f"the file has {size} bytes, none from {start} on")
    return start, stop


def even(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the same bytes in blocks of one size."""
    left = bytearray()
    for block in blocks:
        at = 0
        if left:
            at = min(size - len(left), len(block))
            left += memoryview(block)[:at]
            if len(left) < size:
                continue
            yield bytes(left)
            left.clear()
        for start in range(at, len(block) - size + 1, size):
            at = start + size
            yield block[start:at]
        left += memoryview(block)[at:]
    if left:
        yield bytes(left)
