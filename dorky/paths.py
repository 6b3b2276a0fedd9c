"""Repository paths: their parents, patterns that select them, and a few of them in words."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath


def parents(path: str) -> Iterator[str]:
    """Yield the directories above a path, outermost first."""
    end = path.find("/")
    while end >= 0:
        yield path[:end]
        end = path.find("/", end + 1)


def shown(paths: Sequence[str]) -> str:
    """Return a few paths, or other names, in words for a message."""
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(path or "." for path in paths[:3]) + more


def matches(path: str, pattern: str) -> bool:
    """Return whether a path matches a shell pattern: ``*`` in a name, ``**`` for directories."""
    return [False, *_reached(path, pattern)][-1]


def _reached(path: str, pattern: str) -> Iterator[bool]:
    """Yield whether each directory above a path matches, outermost first, and then the path itself.

    All alternatives are followed at once, as numbers of names of the pattern: patterns come from
    others, and backtracking takes exponential time for some.
    """
    names = PurePosixPath(pattern).parts

    def beyond(at: set[int]) -> set[int]:
        for n, name in enumerate(names):
            if n in at and name == "**":  # `**` may match no directory
                at.add(n + 1)
        return at

    at = beyond({0})
    for part in PurePosixPath(path).parts:
        more = [n for n in at if n < len(names)]
        stay = {n for n in more if names[n] == "**"}
        at = beyond(stay | {n + 1 for n in more if fnmatch.fnmatchcase(part, names[n])})
        yield len(names) in at
