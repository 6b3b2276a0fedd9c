"""Merging two versions of a file, by way of the version that both come from.

Text is merged by lines, as git does: hunks of the two sides that overlap or touch are a conflict,
unless they are equal. The hunks are those of `linediff`, which may be larger than git's, so dorky
reports a conflict now and then where git would not.

Documents (`.env`, JSON, TOML, YAML) are merged by key. Every value is merged on its own, except
that a list is one value, and so is a key with a single value on one side and a table on another.
The result is the text of the line merge if its values are those of the merge by key; otherwise it
is ours with the other side's values put in, and where both changed the same comment ours stays.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain, pairwise
from typing import NamedTuple, TypeAlias

from dorky import errors
from dorky.documents import Document, Kind, Leaf, Syntax, parse, syntax_of
from dorky.merge import linediff
from dorky.merge.linediff import Lines

_TEXT = 4 * 1024 * 1024
_DOCUMENT = 256 * 1024  # A parser in pure Python reads 200 KB to 2 MB a second,
_LEAVES = 10_000  # a page of YAML's aliases can have a million of them,
_EDITS = 4 * 1024 * 1024  # and every edit parses the document again.

_MARKER = re.compile(rb"^(?:<{7}|>{7})(?: |\r?$)", re.MULTILINE)
_SEGMENT = re.compile(r'"(?:[^"\\]|\\.)*"|[^.]+')
_ASSIGNED = re.compile(r"^[ \t]*(?:export[ \t]+)?'?([^\s=#']+)'?[ \t]*=", re.MULTILINE)
_TABLE = Leaf("{}", Kind.EMPTY)
_LIST = Leaf("[]", Kind.EMPTY)

_Leaves: TypeAlias = "dict[str, Leaf]"


class Combined(NamedTuple):
    """The result of a merge.

    Attributes:
        data: The merged bytes, with git's conflict markers where there are conflicts.
        conflicts: Their places: keys of a document, or ``line 12`` for the marker of others;
            empty for a clean merge.
    """

    data: bytes
    conflicts: tuple[str, ...] = ()


class _Clash(NamedTuple):
    """Lines that both sides changed in different ways."""

    base: Lines
    ours: Lines
    theirs: Lines


_Part: TypeAlias = "Lines | _Clash"


def combine(
    path: str,
    base: bytes | None,
    ours: bytes,
    theirs: bytes,
    *,
    ours_label: str,
    theirs_label: str,
) -> Combined | None:
    """Merge two versions of a file.

    Args:
        path: The file's path, which tells whether it is a document.
        base: The version that both come from; None if there is none.
        ours: Our side; a merged document keeps its comments, order and formatting.
        theirs: The other side.
        ours_label: The name of our side in conflict markers.
        theirs_label: The name of the other side in them.

    Returns:
        The merged version; None if both sides changed a file that is not text (UTF-8 without NUL)
        or is larger than 4 MiB. A line without its end gets one before a conflict marker.
    """
    if theirs in (base, ours):
        return Combined(ours)
    if ours == base:
        return Combined(theirs)
    if not (_is_text(ours) and _is_text(theirs)):
        return None
    if base is not None and not _is_text(base):
        base = None
    labels = (ours_label, theirs_label)
    if syntax_of(path) and max(len(base or b""), len(ours), len(theirs)) <= _DOCUMENT:
        combined = _combined_by_key(path, base, ours, theirs, labels)
        if combined:
            return combined
    return _marked_up(_merged(base, ours, theirs), labels)


def marked(data: bytes) -> int | None:
    """Return the number of the first line that begins or ends a conflict; None if there is none."""
    found = _MARKER.search(data)
    return data.count(b"\n", 0, found.start()) + 1 if found else None


def _is_text(data: bytes) -> bool:
    if len(data) > _TEXT or b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


# --- by lines -------------------------------------------------------------------------------


def _merged(base: bytes | None, ours: bytes, theirs: bytes) -> list[_Part]:
    """Return the parts of a merge by lines."""
    if base is None:
        return _compared(ours, theirs)
    old = linediff.split(base)
    sides = (linediff.split(ours), linediff.split(theirs))
    hunks = sorted(
        (hunk, side) for side, new in enumerate(sides) for hunk in linediff.hunks(old, new)
    )
    parts: list[_Part] = []
    done = at = 0
    while at < len(hunks):
        low, high = hunks[at][0].low, hunks[at][0].high
        touching: tuple[list[linediff.Hunk], list[linediff.Hunk]] = ([], [])
        while at < len(hunks) and hunks[at][0].low <= high:
            hunk, side = hunks[at]
            touching[side].append(hunk)
            high = max(high, hunk.high)
            at += 1
        parts.append(old[done:low])
        done = high
        was = old[low:high]
        our, their = (
            new[each[0].new_low - (each[0].low - low) : each[-1].new_high + (high - each[-1].high)]
            if each
            else was
            for new, each in zip(sides, touching, strict=True)
        )
        if touching[0] and touching[1]:
            parts += _clash(was, our, their)
        else:
            parts.append(our if touching[0] else their)
    return [*parts, old[done:]]


def _clash(base: Lines, ours: Lines, theirs: Lines) -> list[_Part]:
    """Return a clash, without the lines at its beginning and end that both sides share."""
    if ours == theirs:
        return [ours]
    before = after = 0
    most = min(len(ours), len(theirs))
    while before < most and ours[before] == theirs[before]:
        before += 1
    while after < most - before and ours[-1 - after] == theirs[-1 - after]:
        after += 1
    our, their = (each[before : len(each) - after] for each in (ours, theirs))
    return [ours[:before], _Clash(base, our, their), ours[len(ours) - after :]]


def _compared(ours: bytes, theirs: bytes) -> list[_Part]:
    """Return the parts of two versions without a base: every difference is a clash."""
    our, their = linediff.split(ours), linediff.split(theirs)
    parts: list[_Part] = []
    done = 0
    for hunk in linediff.hunks(our, their):
        parts.append(our[done : hunk.low])
        parts.append(_Clash([], our[hunk.low : hunk.high], their[hunk.new_low : hunk.new_high]))
        done = hunk.high
    return [*parts, our[done:]]


def _marked_up(parts: Iterable[_Part], labels: tuple[str, str]) -> Combined:
    """Return the text of parts, with clashes between markers."""
    found: Lines = []
    conflicts = []
    for part in parts:
        if not isinstance(part, _Clash):
            found += part
            continue
        end = b"\r\n" if (part.ours or part.theirs)[0].endswith(b"\r\n") else b"\n"
        conflicts.append(f"line {len(found) + 1}")
        found.append(b"<<<<<<< " + labels[0].encode() + end)
        found += _ended(part.ours, end)
        found.append(b"=======" + end)
        found += _ended(part.theirs, end)
        found.append(b">>>>>>> " + labels[1].encode() + end)
    return Combined(b"".join(found), tuple(conflicts))


def _ended(piece: Lines, end: bytes) -> Lines:
    """Return lines with a line end after the last one."""
    if not piece or piece[-1].endswith(b"\n"):
        return piece
    return [*piece[:-1], piece[-1] + end]


def _taken(parts: Iterable[_Part], choice: Callable[[_Clash], Lines]) -> bytes:
    """Return the text of parts, with a choice made at every clash."""
    return b"".join(
        line for part in parts for line in (choice(part) if isinstance(part, _Clash) else part)
    )


def _both(clash: _Clash) -> Lines:
    """Return the additions of both sides at the same place; ours if they did more than add."""
    if clash.base:
        return clash.ours
    return [*_ended(clash.ours, b"\n"), *clash.theirs]


# --- by key ---------------------------------------------------------------------------------


def _combined_by_key(
    path: str, base: bytes | None, ours: bytes, theirs: bytes, labels: tuple[str, str]
) -> Combined | None:
    """Merge documents by key; return None if a version is malformed, or has too many values."""
    try:
        documents = [parse(path, each) for each in (base, ours, theirs) if each is not None]
    except errors.BadDocument:
        return None
    if any(len(each.leaves()) > _LEAVES for each in documents):
        return None
    old, our, their = ({}, *map(_leaves, documents))[-3:]
    if any(map(_is_list, (old, our, their))) and syntax_of(path) is not Syntax.DOTENV:
        return Combined(_marked_up(_compared(ours, theirs), labels).data, ("the list",))
    parts = _merged(base, ours, theirs)
    merge = _KeyMerge(path, old, our, their, _repeated(ours) | _repeated(theirs))
    by_hunks = (_taken(parts, _both), _taken(parts, lambda each: each.ours))
    one = other = merge.text(merge.first, by_hunks, (ours, theirs))
    if one is not None and merge.conflicts:
        by_hunk = _taken(parts, lambda each: each.theirs)
        other = merge.text(merge.second, [by_hunk], (one, theirs))
    if one is not None and other is not None:
        return Combined(_marked_up(_compared(one, other), labels).data, merge.conflicts)
    by_lines = _marked_up(parts, labels)
    taken = (_taken(parts, lambda each: each.ours), _taken(parts, lambda each: each.theirs))
    if not (by_lines.conflicts and all(map(merge.plausible, taken))):
        by_lines = _marked_up(_compared(ours, theirs), labels)
    return Combined(by_lines.data, merge.conflicts or by_lines.conflicts)


def _above(key: str) -> list[str]:
    """Return the keys that lead to a key, the shortest first."""
    segments = _SEGMENT.findall(key)
    return [".".join(segments[:depth]) for depth in range(1, len(segments))]


def _leaves(document: Document) -> _Leaves:
    """Return every value, and `[]` for every list before its items."""
    found = document.leaves()
    if syntax_of(document.path) is Syntax.DOTENV:
        return found
    lists: dict[str, bool] = {}
    leaves: _Leaves = {}
    for key, leaf in found.items():
        for outer, inner in pairwise([*_above(key), key]):
            if outer not in lists:
                lists[outer] = inner == f"{outer}.0" and document.get(outer).startswith("[")
                if lists[outer]:
                    leaves[outer] = _LIST
        leaves[key] = leaf
    return leaves


def _is_list(leaves: _Leaves) -> bool:
    """Return whether the top level looks like a list."""
    top = dict.fromkeys(_SEGMENT.findall(key)[0] for key in leaves)
    return bool(top) and list(top) == [str(index) for index in range(len(top))]


class _KeyMerge:
    """The content of a document after a merge.

    A *unit* is merged as one value: a leaf, or all of a list.

    Attributes:
        first: The units with their leaves; ours where both sides changed one.
        second: The same, with theirs where both sides changed one.
        conflicts: The units that both sides changed.
    """

    def __init__(
        self, path: str, old: _Leaves, our: _Leaves, their: _Leaves, repeated: set[str]
    ) -> None:
        self._path = path
        self._nested = syntax_of(path) is not Syntax.DOTENV
        self._repeated = repeated
        versions = (old, our, their)
        self._wholes: set[str] = set()
        self._tables: set[str] = set()
        if self._nested:
            above = {outer for each in versions for key in each for outer in _above(key)}
            for key, leaf in (item for each in versions for item in each.items()):
                if key in above and leaf != _TABLE:
                    self._wholes.add(key)
            # An empty table does not count as a value if another version has values in it.
            self._tables = {
                key
                for each in versions
                for key, leaf in each.items()
                if leaf == _TABLE and key in above and self._wholes.isdisjoint([*_above(key), key])
            }
        self._kept = self._reached(our) & self._reached(their)
        before, ours, theirs = map(self._units, versions)
        self._sides = (ours, theirs)
        self.first: dict[str, _Leaves] = {}
        self.second: dict[str, _Leaves] = {}
        conflicts = []
        for unit in {**ours, **theirs, **before}:
            was, our_one, their_one = (each.get(unit, {}) for each in (before, ours, theirs))
            one = their_one if our_one == was else our_one
            other = our_one if their_one == was else their_one
            if one != other:
                conflicts.append(unit)
            if one:
                self.first[unit] = one
            if other:
                self.second[unit] = other
        self.conflicts = tuple(conflicts)

    def text(
        self, wanted: dict[str, _Leaves], candidates: Iterable[bytes], starts: Iterable[bytes]
    ) -> bytes | None:
        """Return the first candidate with the wanted values; else the first editable start."""
        for each in candidates:
            if self._says(each, wanted):
                return each
        for each in starts:
            with contextlib.suppress(errors.UsageError):
                edited = self._edited(each, wanted)
                if self._says(edited, wanted):
                    return edited
        return None

    def plausible(self, data: bytes) -> bool:
        """Return whether every unit of a text is as on one of the sides, with no mix of both."""
        try:
            found = self._units(_leaves(parse(self._path, data)))
        except errors.BadDocument:
            return False
        return all(
            any(each.get(unit) == leaves for each in self._sides) for unit, leaves in found.items()
        )

    def _units(self, leaves: _Leaves) -> dict[str, _Leaves]:
        units: dict[str, _Leaves] = {}
        for key, leaf in leaves.items():
            if key not in self._tables:
                units.setdefault(self._unit(key), {})[key] = leaf
        return units

    def _unit(self, key: str) -> str:
        outer = _above(key) if self._wholes else ()
        return next((each for each in outer if each in self._wholes), key)

    def _says(self, data: bytes, wanted: dict[str, _Leaves]) -> bool:
        """Return whether a text has the wanted values, and nothing else except empty tables."""
        try:
            found = _leaves(parse(self._path, data))
        except errors.BadDocument:
            return False
        for unit in wanted.values():
            for key, leaf in unit.items():
                if found.pop(key, None) != leaf:
                    return False
        if any(leaf != _TABLE or self._unit(key) != key for key, leaf in found.items()):
            return False
        # A variable that both sides added in two places has the wanted value, but twice.
        return self._nested or _repeated(data) <= self._repeated

    def _edited(self, start: bytes, wanted: dict[str, _Leaves]) -> bytes:
        """Return a text in which values are set and removed until it has the wanted ones.

        Raises:
            UsageError: The document can't be edited in this way.
        """
        document = parse(self._path, start)
        have = self._units(_leaves(document))
        changed = [unit for unit in wanted if have.get(unit) != wanted[unit]]
        gone = [unit for unit in have if unit not in wanted]
        if (sum(len(wanted[unit]) for unit in changed) + len(gone)) * len(start) > _EDITS:
            raise errors.UsageError(f"{self._path} differs too much to be edited")
        for unit in changed:
            if unit in self._wholes:
                document = self._given(document, unit, have.get(unit, {}), wanted[unit])
            else:
                document.put(unit, wanted[unit][unit])
        self._cut(document, gone, self._kept | self._reached(chain.from_iterable(wanted.values())))
        return document.dump()

    def _given(self, document: Document, unit: str, have: _Leaves, wanted: _Leaves) -> Document:
        """Return a document with other leaves in a unit, edited in place if possible."""
        before = document.dump()
        try:
            for key, leaf in wanted.items():
                if have.get(key) != leaf:
                    document.put(key, leaf)
            surplus = [key for key in have if key not in wanted]
            self._cut(document, surplus, self._reached(wanted))
            if self._units(_leaves(document)).get(unit) == wanted:
                return document
        except errors.UsageError:
            pass
        document = parse(self._path, before)
        if have:
            document.unset(unit)
        for key, leaf in wanted.items():
            document.put(key, leaf)
        return document

    def _cut(self, document: Document, keys: Sequence[str], kept: Collection[str]) -> None:
        """Remove keys, the last first, each with the tables that lead to it unless kept."""
        gone = set()
        for key in reversed(keys):
            outer = next((each for each in self._outer(key) if each not in kept), None)
            if outer is not None and outer not in gone:
                document.unset(outer)
                gone.add(outer)

    def _outer(self, key: str) -> list[str]:
        """Return a key and those that lead to it, the shortest first."""
        return [*_above(key), key] if self._nested else [key]

    def _reached(self, keys: Iterable[str]) -> set[str]:
        """Return keys and those that lead to them."""
        return {each for key in keys for each in self._outer(key)}


def _repeated(data: bytes) -> set[str]:
    """Return the variables that occur in a `.env` file more than once."""
    found = Counter(_ASSIGNED.findall(data.decode()))
    return {name for name, count in found.items() if count > 1}
