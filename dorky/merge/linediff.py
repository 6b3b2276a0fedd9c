"""Lines of text, and the lines that two versions share.

Lines that occur once in each version are matched first (Bram Cohen's patience diff), and difflib
matches those between, up to a bound on its work: if the same few lines occur all over two large
versions, the difference may come as one large hunk.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import NamedTuple, TypeAlias

_PAIRS = 10_000_000  # About a second of difflib.

Lines: TypeAlias = "list[bytes]"


def split(data: bytes) -> Lines:
    """Split text into lines with their ends; only `\\n` ends a line, as in git."""
    pieces = data.split(b"\n")
    return [piece + b"\n" for piece in pieces[:-1]] + [piece for piece in pieces[-1:] if piece]


class _Run(NamedTuple):
    """Equal lines: their first index in each of two versions, and their number."""

    a: int
    b: int
    size: int


def _runs(a: Lines, b: Lines) -> list[_Run]:
    """Return the lines that two versions share, in order; an empty run at the end comes last."""
    found: list[_Run] = []
    left = _PAIRS
    gaps = [(0, len(a), 0, len(b))]
    while gaps:
        a_low, a_high, b_low, b_high = gaps.pop()
        before = after = 0
        most = min(a_high - a_low, b_high - b_low)
        while before < most and a[a_low + before] == b[b_low + before]:
            before += 1
        while after < most - before and a[a_high - after - 1] == b[b_high - after - 1]:
            after += 1
        found.append(_Run(a_low, b_low, before))
        found.append(_Run(a_high - after, b_high - after, after))
        a_low, a_high = a_low + before, a_high - after
        b_low, b_high = b_low + before, b_high - after
        if a_low == a_high or b_low == b_high:
            continue
        inner, other = a[a_low:a_high], b[b_low:b_high]
        in_a, in_b = Counter(inner), Counter(other)
        anchors = _anchors(inner, other, in_a, in_b)
        if anchors:
            starts = [(a_low + i, b_low + j) for i, j in anchors]
            ends = [*starts[1:], (a_high, b_high)]
            gaps.append((a_low, starts[0][0], b_low, starts[0][1]))
            gaps += [
                (i, i_end, j, j_end) for (i, j), (i_end, j_end) in zip(starts, ends, strict=True)
            ]
            continue
        work = sum(count * in_b[line] for line, count in in_a.items()) * min(len(inner), len(other))
        if 0 < work <= left:
            left -= work
            matcher = SequenceMatcher(None, inner, other, autojunk=False)
            for i, j, size in matcher.get_matching_blocks():
                found.append(_Run(a_low + i, b_low + j, size))
    return [*sorted(run for run in found if run.size), _Run(len(a), len(b), 0)]


def _anchors(
    a: Lines, b: Lines, in_a: Mapping[bytes, int], in_b: Mapping[bytes, int]
) -> list[tuple[int, int]]:
    """Return the longest series of lines that occur once in each version, in the same order."""
    places = {line: j for j, line in enumerate(b) if in_b[line] == 1}
    tops: list[int] = []  # Patience sorting: the top cards of the piles,
    cards: list[tuple[int, int, int]] = []  # all cards, each with the one to its left,
    piles: list[int] = []  # and the indexes of the top cards.
    for i, line in enumerate(a):
        if in_a[line] > 1 or line not in places:
            continue
        j = places[line]
        pile = bisect_left(tops, j)
        tops[pile : pile + 1] = [j]
        piles[pile : pile + 1] = [len(cards)]
        cards.append((i, j, piles[pile - 1] if pile else -1))
    row = []
    at = piles[-1] if piles else -1
    while at >= 0:
        i, j, at = cards[at]
        row.append((i, j))
    return row[::-1]


class Hunk(NamedTuple):
    """Lines of one version, from ``low`` up to ``high``, and their replacement in another."""

    low: int
    high: int
    new_low: int
    new_high: int


def hunks(old: Lines, new: Lines) -> Iterator[Hunk]:
    """Yield how two versions differ; between any two hunks there is a line that both share."""
    at = _Run(0, 0, 0)
    for run in _runs(old, new):
        hunk = Hunk(at.a + at.size, run.a, at.b + at.size, run.b)
        if hunk.low < hunk.high or hunk.new_low < hunk.new_high:
            yield hunk
        at = run
