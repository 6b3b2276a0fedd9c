"""Repository paths: the directories above them, and the patterns that select them."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from pathlib import PurePosixPath


def parents(path: str) -> Iterator[str]:
    """The directories above a path, outermost first."""
    end = path.find("/")
    while end >= 0:
        yield path[:end]
        end = path.find("/", end + 1)


def matches(path: str, pattern: str) -> bool:
    """Whether a path matches a shell pattern (``*`` within a name, ``**`` for any directories)."""
    return _matches(PurePosixPath(path).parts, PurePosixPath(pattern).parts)


def _matches(parts: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_matches(parts[skip:], patterns[1:]) for skip in range(len(parts) + 1))
    return (
        bool(parts)
        and fnmatch.fnmatchcase(parts[0], patterns[0])
        and _matches(parts[1:], patterns[1:])
    )


def lies_in(path: str, pattern: str) -> bool:
    """Whether a path, or a directory above it, matches a pattern."""
    return matches(path, pattern) or any(matches(each, pattern) for each in parents(path))
