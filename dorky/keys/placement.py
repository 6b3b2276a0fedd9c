"""The rule by which every reader and writer finds the group that owns a path.

A path, compared in its folded form (see `fold`), belongs to the one group that has it in a pattern.
If no group has, it belongs to everybody; if several have, it is contested: it belongs to nobody,
and no file is written for it.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from dorky.files import IGNORABLE
from dorky.format.model import ALL, Group, Roster

ANY_DIRECTORIES = "**"
_LAST = 0x10FFFF
_SLASH = "\u2044"

Owner = Callable[[str], "str | None"]
"""Returns the id of the group that owns a path; None if several claim it."""


def fold(path: str) -> str:
    """Return the form of a path for comparisons: names that some file system equates are equal.

    Each name is in Unicode's NFKD form, without default-ignorable characters, case-folded, and
    without dots and spaces at its end.
    """
    if path.isascii():
        folded = path.lower()
    elif "/" in path:
        return "/".join(map(fold, path.split("/")))
    else:
        folded = _fold_name(path)
    if "./" in folded or " /" in folded or folded.endswith((".", " ")):
        folded = "/".join(name.rstrip(". ") for name in folded.split("/"))
    return folded


def _fold_name(name: str) -> str:
    """Fold one name, or a character of one, but keep dots and spaces at its end."""
    folded, before = name, ""
    while folded != before:  # case folding can produce characters that decompose
        before = folded
        folded = unicodedata.normalize("NFKD", folded).translate(IGNORABLE).casefold()
    # Some characters decompose to a slash and more (U+2100); no file system splits names there.
    return folded.replace("/", _SLASH)


def everybodys(_: str) -> str:
    """Return everybody's group: the owner of each path as long as no group has a pattern."""
    return ALL


def owner(roster: Roster) -> Owner:
    """Return the function that returns a path's owner by this roster."""
    patterns = [(group.id, compiled(pattern)) for group, pattern in _claims(roster)]
    if not patterns:
        return everybodys

    # Files come directory by directory, so all files of one share the patterns' states in it.
    @functools.lru_cache(maxsize=256)
    def reached(directory: str) -> list[tuple[str, Pattern, States]]:
        if not directory:
            return [(group, pattern, pattern.start) for group, pattern in patterns]
        above, _, name = directory.rpartition("/")
        folded = fold(name)
        before = (
            (group, pattern, pattern.step(at, folded, name))
            for group, pattern, at in reached(above)
        )
        return [(group, pattern, at) for group, pattern, at in before if at]

    def owner_of(path: str) -> str | None:
        directory, _, name = path.rpartition("/")
        folded = fold(name)
        owners = {
            group
            for group, pattern, at in reached(directory)
            if pattern.is_complete(pattern.step(at, folded, name))
        }
        if len(owners) > 1:
            return None
        return owners.pop() if owners else ALL

    return owner_of


def is_widening(source: str, target: str) -> bool:
    """Return whether a move gives content to readers whom its source group excludes.

    Groups change, so two closed groups count as different readers whoever is in them today.
    """
    return source not in {ALL, target}


def claims(roster: Roster) -> str:
    """Return a text that is equal for rosters that give every path the same owner."""
    import json

    claimed = sorted((group.id, pattern) for group, pattern in _claims(roster))
    return json.dumps(claimed) if claimed else ""


def owner_by(claims: str) -> Owner:
    """Return the function that returns a path's owner, from a text that `claims` returned.

    Raises:
        ValueError: It is no such text.
    """
    import json

    groups = tuple(Group(group, "", (pattern,)) for group, pattern in json.loads(claims or "[]"))
    return owner(Roster((), groups))


def is_contested(roster: Roster) -> bool:
    """Return whether there are paths that several groups claim."""
    return any(True for _ in overlaps(roster))


# --- what counts ----------------------------------------------------------------------------


class Masked(NamedTuple):
    """An entry of a tree that does not count.

    Attributes:
        path: The path of the file or link.
        group: The group whose tree holds it.
        owner: The group that owns the path; None if several groups claim it.
        above: A path of the owner's that can't exist together with this file; else empty.
    """

    path: str
    group: str
    owner: str | None
    above: str = ""


def judged(
    owner: Owner, group: str, path: str, below: Callable[[str], Masked | None]
) -> Masked | None:
    """Return why an entry does not count; None if it does. This is the one rule of reading.

    An entry counts only in the tree of its path's owner. A file of everybody's also does not count
    if its path must be a directory for a group's file below it, provided that that file counts or
    is frozen because several groups claim it.

    Args:
        owner: Returns the owner of a path.
        group: The group whose tree holds the entry.
        path: The path of the entry.
        below: Returns a group's entry below a path (compared folded) that counts or is frozen; None
            if there is none.
    """
    owned_by = owner(path)
    if owned_by != group:
        return Masked(path, group, owned_by)
    found = below(path) if group == ALL else None
    return Masked(path, group, found.owner, found.path) if found else None


def projected(
    owner: Owner, held: Collection[tuple[str, str]]
) -> tuple[set[tuple[str, str]], list[Masked]]:
    """Return which entries of a commit's trees count, and those that do not.

    Args:
        owner: Returns the owner of a path.
        held: Each entry's path and the group whose tree holds it.
    """
    above: dict[str, Masked] = {}
    for path, group in sorted(held):
        if group != ALL and owner(path) in {group, None}:
            names = fold(path).split("/")
            for n in range(1, len(names)):
                above.setdefault("/".join(names[:n]), Masked(path, group, group))
    counted, masked = set(), []
    for path, group in sorted(held):
        found = judged(owner, group, path, lambda path: above.get(fold(path)))
        if found:
            masked.append(found)
        else:
            counted.add((path, group))
    return counted, masked


def claimants(roster: Roster, path: str) -> list[Group]:
    """Return the groups that have a path in a pattern; more than one if it is contested."""
    names = path.split("/")
    return [
        group
        for group in roster.groups
        if any(compiled(pattern).covers(names) for pattern in group.patterns)
    ]


def overlap(one: str, other: str) -> bool:
    """Return whether there is a path that two patterns select.

    Both are followed name by name. A pattern that selects a directory selects all that is below,
    so the two overlap as soon as one of them ends.
    """
    left, right = compiled(one).names, compiled(other).names
    pending, seen = [(0, 0)], {(0, 0)}
    while pending:
        i, j = pending.pop()
        if i == len(left) or j == len(right):
            return True
        steps = []
        if left[i] is None:  # stands for no name, or for one that `right` names as well
            steps.append((i + 1, j))
        if right[j] is None:
            steps.append((i, j + 1))
        first, second = left[i], right[j]
        if first is None or second is None or _have_common_name(first, second):
            steps.append((i + (first is not None), j + (second is not None)))
        pending += [step for step in steps if step not in seen]
        seen.update(steps)
    return False


class Overlap(NamedTuple):
    """Two patterns that both select some path, each with its group."""

    group: Group
    pattern: str
    other: Group
    of_other: str


def overlaps(roster: Roster) -> Iterator[Overlap]:
    """Yield the overlapping patterns of several groups. Nothing is written at common paths."""
    claims = list(_claims(roster))
    for n, (group, pattern) in enumerate(claims):
        for other, of_other in claims[n + 1 :]:
            if other.id != group.id and overlap(pattern, of_other):
                yield Overlap(group, pattern, other, of_other)


def _claims(roster: Roster) -> Iterator[tuple[Group, str]]:
    return ((group, pattern) for group in roster.groups for pattern in group.patterns)


# --- patterns -------------------------------------------------------------------------------


class Token(NamedTuple):
    """One position of a name in a pattern.

    Attributes:
        ranges: The characters allowed at it, as pairs of first and last code point.
        repeats: Whether any number of them is allowed (``*``).
        marked: Whether combining marks may follow; folding removes them from a character.
    """

    ranges: tuple[tuple[int, int], ...]
    repeats: bool = False
    marked: bool = False

    def takes(self, character: str) -> bool:
        """Return whether a character is allowed at this position."""
        code = ord(character)
        return any(first <= code <= last for first, last in self.ranges)

    def takes_whole(self, unit: str) -> bool:
        """Return whether this position allows a single character whose folded form is ``unit``."""
        return self.marked and len(unit) != 1 and (not unit or any(map(self.takes, unit)))

    def meets(self, other: Token) -> bool:
        """Return whether some character is allowed at both positions."""
        return any(
            first <= last_of_other and first_of_other <= last
            for first, last in self.ranges
            for first_of_other, last_of_other in other.ranges
        )


Name = tuple[Token, ...]
"""The positions of one name in a pattern."""

_ANYTHING = ((0, _LAST),)


States = frozenset[int]
"""How many names of a pattern a path may have matched: all alternatives are followed at once.

Patterns come from others, and backtracking takes exponential time for some.
"""


class Pattern:
    """A pattern of paths, compiled.

    Attributes:
        names: Each of its names; None for ``**``, any number of directories.
        start: The states at the beginning of each path.
    """

    def __init__(self, text: str) -> None:
        parts = fold(text).split("/")
        self.names = [None if part == ANY_DIRECTORIES else _tokens(part) for part in parts]
        self._matches = [_matcher(part, name) for part, name in zip(parts, self.names, strict=True)]
        self.start = self._beyond({0})

    def step(self, at: States, folded: str, name: str) -> States:
        """Return the states after one more name of a path, given both folded and unfolded."""
        end = len(self.names)
        if end in at:  # a pattern that selects a directory selects all that is below
            return at
        after = {
            n if self.names[n] is None else n + 1 for n in at if self._matches[n](folded, name)
        }
        return self._beyond(after)

    def is_complete(self, at: States) -> bool:
        """Return whether a path in these states, or a directory above it, matches."""
        return len(self.names) in at

    def covers(self, path: Sequence[str]) -> bool:
        """Return whether a path, given as its names, or a directory above it, matches."""
        at = self.start
        for name in path:
            at = self.step(at, fold(name), name)
        return self.is_complete(at)

    def _beyond(self, at: set[int]) -> States:
        for n, name in enumerate(self.names):
            if n in at and name is None:
                at.add(n + 1)
        return frozenset(at)


Matches = Callable[[str, str], bool]
"""Returns whether a name, given folded and unfolded, matches one name of a pattern."""


def _matcher(text: str, name: Name | None) -> Matches:
    """Return the quickest function that matches names with one name of a pattern."""
    if name is None:
        return lambda *_: True
    if "?" in text or "[" in text or text.count("*") > 1:
        return functools.lru_cache(maxsize=256)(functools.partial(_name_matches, name))
    before, star, after = text.partition("*")
    if not star:
        return lambda folded, _: folded == text
    least = len(before) + len(after)
    return lambda folded, _: (
        len(folded) >= least and folded.startswith(before) and folded.endswith(after)
    )


@functools.lru_cache(maxsize=1024)
def compiled(pattern: str) -> Pattern:
    """Return the compiled form of a pattern."""
    return Pattern(pattern)


def _tokens(name: str) -> Name:
    """Read one name of a pattern, already folded: ``*``, ``?``, ``[…]``, ``[!…]``, literals."""
    found: list[Token] = []
    at = 0
    while at < len(name):
        character = name[at]
        at += 1
        if character == "*":
            if not (found and found[-1].repeats):
                found.append(Token(_ANYTHING, repeats=True))
        elif character == "?":
            found.append(Token(_ANYTHING, marked=True))
        elif character == "[" and (end := _class_end(name, at)):
            found.append(Token(_class(name[at:end]), marked=True))
            at = end + 1
        else:
            code = ord(character)
            found.append(Token(((code, code),)))
    return tuple(found)


def _class_end(name: str, start: int) -> int:
    """Return the position of a class's ``]``; 0 if there is none: then the ``[`` is a literal."""
    first = start + 1 if name[start : start + 1] == "!" else start
    return max(name.find("]", first + 1), 0)  # at the beginning of a class it is a literal


def _class(text: str) -> tuple[tuple[int, int], ...]:
    """Return the characters of a class.

    A group's patterns decide who can read a file. So where folding makes a class unclear, it
    stands for more characters rather than for fewer.
    """
    negated = text.startswith("!")
    items = list(text[negated:])
    ranges: list[tuple[int, int]] = []
    unclear = text.startswith("^")  # other programs take it for a negation
    while items:
        first = items.pop(0)
        if len(items) > 1 and items[0] == "-":
            items.pop(0)
            last = items.pop(0)
            # Only ranges of digits and of letters keep their meaning when they are folded.
            kinds = (str.isdecimal, str.islower)
            if any(kind(first) and kind(last) for kind in kinds) and (first + last).isascii():
                ranges.append((ord(first), ord(last)))
            else:
                unclear = True
        elif _is_combining(first):
            # A character decomposes: its mark may follow, as after every class.
            if negated and ranges:
                ranges.pop()
        else:
            ranges.append((ord(first), ord(first)))
    if unclear:
        return _ANYTHING
    return tuple(_complement(ranges)) if negated else tuple(ranges)


def _complement(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    start = 0
    for first, last in sorted(ranges):
        if start < first:
            yield start, first - 1
        start = max(start, last + 1)
    if start <= _LAST:
        yield start, _LAST


def _is_mark(token: Token) -> bool:
    """Return whether a position allows a combining mark."""
    single = len(token.ranges) == 1 and token.ranges[0][0] == token.ranges[0][1]
    return not single or _is_combining(chr(token.ranges[0][0]))


def _name_matches(tokens: Name, folded: str, name: str) -> bool:
    """Return whether a name matches, folded or character by character.

    `?` stands for one character, though folding may make several of it, or none.
    """
    if _are_matched(tokens, folded):
        return True
    if name.isascii() and not name.endswith((".", " ")):
        return False
    return _are_matched(tokens, map(_fold_name, unicodedata.normalize("NFC", name)))


def _are_matched(tokens: Name, units: Iterable[str]) -> bool:
    at = _past_stars(tokens, {0})
    for unit in units:
        after = {n + 1 for n in at if n < len(tokens) and tokens[n].takes_whole(unit)}
        for character in unit:
            at = _after(tokens, at, character)
        at = _past_stars(tokens, at | after)
    return len(tokens) in at


def _after(tokens: Name, at: set[int], character: str) -> set[int]:
    mark = _is_combining(character)
    after = set()
    for n in at:
        if n < len(tokens) and tokens[n].takes(character):
            after.add(n if tokens[n].repeats else n + 1)
        if n and mark and tokens[n - 1].marked:
            after.add(n)
    return _past_stars(tokens, after)


def _is_combining(character: str) -> bool:
    """Return whether a character belongs to the one before: a mark, or a later Hangul letter."""
    return unicodedata.category(character).startswith("M") or "\u1160" <= character <= "\u11ff"


def _past_stars(tokens: Name, at: set[int]) -> set[int]:
    for n, token in enumerate(tokens):
        if n in at and token.repeats:
            at.add(n + 1)
    return at


def _have_common_name(one: Name, other: Name) -> bool:
    """Return whether some name matches both."""
    pending, seen = [(0, 0)], {(0, 0)}
    while pending:
        i, j = pending.pop()
        if (i, j) == (len(one), len(other)):
            return True
        steps = [
            (i + n, j + m)
            for n, step in _steps(one, i)
            for m, step2 in _steps(other, j)
            if step is not None and step2 is not None and step.meets(step2)
        ]
        steps += [(i + n, j) for n, step in _steps(one, i) if step is None]
        steps += [(i, j + n) for n, step in _steps(other, j) if step is None]
        # Combining marks that one name may have after a character, the other at this position.
        if i and one[i - 1].marked:
            steps += [(i, j + n) for n, step in _steps(other, j) if step and _is_mark(step)]
        if j and other[j - 1].marked:
            steps += [(i + n, j) for n, step in _steps(one, i) if step and _is_mark(step)]
        pending += [step for step in steps if step not in seen]
        seen.update(steps)
    return False


def _steps(name: Name, at: int) -> Iterator[tuple[int, Token | None]]:
    """Yield the next positions of a name, and the token that each consumes; None for none."""
    if at < len(name):
        token = name[at]
        if token.repeats:
            yield 1, None
            yield 0, token
        else:
            yield 1, token
