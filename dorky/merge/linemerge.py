"""Merging two versions of a text by lines, as git does.

Hunks of the two sides that overlap or touch are a conflict, unless they are equal. The hunks are
those of `linediff`, which may be larger than git's, so dorky reports a conflict now and then where
git would not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from dorky.merge import linediff
from dorky.merge.linediff import Hunk, Lines


class Combined(NamedTuple):
    """The result of a merge.

    Attributes:
        data: The merged bytes, with git's conflict markers where there are conflicts.
        conflicts: Their places: keys of a document, or ``line 12`` for the marker of others;
            empty for a clean merge.
    """

    data: bytes
    conflicts: tuple[str, ...] = ()


class Labels(NamedTuple):
    """The names of both sides in conflict markers."""

    ours: str
    theirs: str


class Clash(NamedTuple):
    """Lines that both sides changed in different ways."""

    base: Lines
    ours: Lines
    theirs: Lines


Part: TypeAlias = "Lines | Clash"
"""Some lines of a merged text, or a clash in their place."""


def merge(base: bytes | None, ours: bytes, theirs: bytes) -> list[Part]:
    """Return the parts of a merge; without a base, every difference is a clash."""
    if base is None:
        return compare(ours, theirs)
    old = linediff.split(base)
    sides = (linediff.split(ours), linediff.split(theirs))
    hunks = sorted(
        (hunk, side) for side, new in enumerate(sides) for hunk in linediff.hunks(old, new)
    )
    parts: list[Part] = []
    done = at = 0
    while at < len(hunks):
        low, high = hunks[at][0].low, hunks[at][0].high
        touching: tuple[list[Hunk], list[Hunk]] = ([], [])
        while at < len(hunks) and hunks[at][0].low <= high:
            hunk, side = hunks[at]
            touching[side].append(hunk)
            high = max(high, hunk.high)
            at += 1
        parts.append(old[done:low])
        done = high
        our, their = (
            _replacing(old, new, low, high, of_side)
            for new, of_side in zip(sides, touching, strict=True)
        )
        if touching[0] and touching[1]:
            parts += _clash(old[low:high], our, their)
        else:
            parts.append(our if touching[0] else their)
    return [*parts, old[done:]]


def _replacing(old: Lines, new: Lines, low: int, high: int, hunks: list[Hunk]) -> Lines:
    """Return the lines that a side has in place of the old lines from ``low`` to ``high``."""
    if not hunks:
        return old[low:high]
    first, last = hunks[0], hunks[-1]
    return new[first.new_low - (first.low - low) : last.new_high + (high - last.high)]


def _clash(base: Lines, ours: Lines, theirs: Lines) -> list[Part]:
    """Return a clash, without the lines at its beginning and end that both sides share."""
    if ours == theirs:
        return [ours]
    before = after = 0
    most = min(len(ours), len(theirs))
    while before < most and ours[before] == theirs[before]:
        before += 1
    while after < most - before and ours[-1 - after] == theirs[-1 - after]:
        after += 1
    our, their = (side[before : len(side) - after] for side in (ours, theirs))
    return [ours[:before], Clash(base, our, their), ours[len(ours) - after :]]


def compare(ours: bytes, theirs: bytes) -> list[Part]:
    """Return the parts of two versions without a base: every difference is a clash."""
    our, their = linediff.split(ours), linediff.split(theirs)
    parts: list[Part] = []
    done = 0
    for hunk in linediff.hunks(our, their):
        parts.append(our[done : hunk.low])
        parts.append(Clash([], our[hunk.low : hunk.high], their[hunk.new_low : hunk.new_high]))
        done = hunk.high
    return [*parts, our[done:]]


def mark_up(parts: Iterable[Part], labels: Labels) -> Combined:
    """Return the text of parts, with clashes between markers."""
    found: Lines = []
    conflicts = []
    for part in parts:
        if not isinstance(part, Clash):
            found += part
            continue
        end = b"\r\n" if (part.ours or part.theirs)[0].endswith(b"\r\n") else b"\n"
        conflicts.append(f"line {len(found) + 1}")
        found.append(b"<<<<<<< " + labels.ours.encode() + end)
        found += _ended(part.ours, end)
        found.append(b"=======" + end)
        found += _ended(part.theirs, end)
        found.append(b">>>>>>> " + labels.theirs.encode() + end)
    return Combined(b"".join(found), tuple(conflicts))


def _ended(lines: Lines, end: bytes) -> Lines:
    """Return lines with a line end after the last one."""
    if not lines or lines[-1].endswith(b"\n"):
        return lines
    return [*lines[:-1], lines[-1] + end]


def settle(parts: Iterable[Part], choice: Callable[[Clash], Lines]) -> bytes:
    """Return the text of parts, with a choice made at every clash."""
    return b"".join(
        line for part in parts for line in (choice(part) if isinstance(part, Clash) else part)
    )


def ours(clash: Clash) -> Lines:
    """Choose our lines."""
    return clash.ours


def theirs(clash: Clash) -> Lines:
    """Choose the other side's lines."""
    return clash.theirs


def additions(clash: Clash) -> Lines:
    """Choose the additions of both sides; only our lines if they did more than add."""
    if clash.base:
        return clash.ours
    return [*_ended(clash.ours, b"\n"), *clash.theirs]
