"""Merging two versions of a document (`.env`, JSON, TOML, YAML) by key.

Every value is merged on its own, except that a list is one value, and so is a key with a single
value on one side and a table on another. The result is the text of the line merge if its values
are those of the merge by key, or that of the merge by statement (`statements`); otherwise it is
one of these texts with values put in. A text in which a change of spelling vanished is no clean
merge. Where both sides changed the same comment, ours stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain, pairwise
from typing import NamedTuple, TypeAlias

from dorky import errors
from dorky.documents import Document, Kind, Leaf, Syntax, parse, syntax_of
from dorky.merge import linemerge, statements
from dorky.merge.linemerge import Combined, Labels

_LEAVES = 10_000  # A page of YAML's aliases can have a million of them,
_EDITS = 4 * 1024 * 1024  # and every edit parses the document again.

_SEGMENT = re.compile(r'"(?:[^"\\]|\\.)*"|[^.]+')
_TABLE = Leaf("{}", Kind.EMPTY)
_LIST = Leaf("[]", Kind.EMPTY)

_Leaves: TypeAlias = "dict[str, Leaf]"
_Units: TypeAlias = "dict[str, _Leaves]"
"""Units with their leaves. A *unit* is merged as one value: a leaf, or all of a list."""


def combine(
    path: str, base: bytes | None, ours: bytes, theirs: bytes, labels: Labels
) -> Combined | None:
    """Merge documents; return None if a version is malformed, or has too many values."""
    document = _read(path, base, ours, theirs)
    if document is None:
        return None
    versions = document.versions
    if any(map(_is_list, versions)) and syntax_of(path) is not Syntax.DOTENV:
        whole = linemerge.compare(ours, theirs)
        return Combined(linemerge.mark_up(whole, labels).data, ("the list",))
    layout = _layout(path, versions)
    merge = _merge(layout, versions)
    editing = _editing(layout, document)
    spelled = statements.statements(path, base, ours, theirs)
    parts = linemerge.merge(base, ours, theirs)
    with_ours, with_theirs, with_both = (
        linemerge.settle(parts, choice)
        for choice in (linemerge.ours, linemerge.theirs, linemerge.additions)
    )
    proposed = spelled.merged()
    one = other = None
    for keeps in (spelled.keeps, spelled.keeps_most):
        if one is None:
            strict = editing._replace(keeps=keeps)
            texts = (with_both, with_ours, proposed), (proposed, ours, theirs)
            one = other = strict.text(merge.ours, *texts)
    if one is not None and merge.conflicts:
        other = editing.text(merge.theirs, (with_theirs,), (one, theirs))
    if one is not None and other is not None:
        return Combined(
            linemerge.mark_up(linemerge.compare(one, other), labels).data, merge.conflicts
        )
    by_lines = linemerge.mark_up(parts, labels)
    sides = (layout.units(versions.ours), layout.units(versions.theirs))
    plausible = all(_is_unmixed(layout, data, sides) for data in (with_ours, with_theirs))
    if not (by_lines.conflicts and plausible):
        by_lines = linemerge.mark_up(linemerge.compare(ours, theirs), labels)
    return Combined(by_lines.data, merge.conflicts or by_lines.conflicts)


def ancestor(path: str, base: bytes | None, ours: bytes, theirs: bytes) -> Combined | None:
    """Merge two common ancestors of a document (see `threeway.ancestor`).

    Returns:
        The document, with a value that neither side has at each conflict; None if a version is
        malformed, has too many values, or can't be edited.
    """
    document = _read(path, base, ours, theirs)
    if document is None:
        return None
    versions = document.versions
    if any(map(_is_list, versions)) and syntax_of(path) is not Syntax.DOTENV:
        return None
    layout = _layout(path, versions)
    merge = _merge(layout, versions)
    # A value that differs from any other: also from that of an ancestor of the ancestors.
    odd = Leaf("the-common-ancestors-disagree-" + hashlib.sha256(ours + b"\0" + theirs).hexdigest())
    wanted = {**merge.ours, **{unit: {unit: odd} for unit in merge.conflicts}}
    parts = linemerge.merge(base, ours, theirs)
    candidates = (
        linemerge.settle(parts, linemerge.additions),
        linemerge.settle(parts, linemerge.ours),
    )
    text = _editing(layout, document).text(wanted, candidates, (ours, theirs))
    return None if text is None else Combined(text, merge.conflicts)


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


# --- units ----------------------------------------------------------------------------------


class _Versions(NamedTuple):
    """The values of a document in the common ancestor and on both sides."""

    base: _Leaves
    ours: _Leaves
    theirs: _Leaves


class _Document(NamedTuple):
    """A document to be merged.

    Attributes:
        versions: Its values.
        repeated: The variables that one of the sides has more than once.
    """

    versions: _Versions
    repeated: set[str]


def _read(path: str, base: bytes | None, ours: bytes, theirs: bytes) -> _Document | None:
    """Read three versions; return None if one is malformed, or has too many values."""
    try:
        documents = [parse(path, data) for data in (base, ours, theirs) if data is not None]
    except errors.BadDocument:
        return None
    if any(len(document.leaves()) > _LEAVES for document in documents):
        return None
    versions = _Versions(*({}, *map(_leaves, documents))[-3:])
    return _Document(versions, documents[-2].repeated() | documents[-1].repeated())


class _Layout(NamedTuple):
    """The division of a document's keys into units.

    Attributes:
        path: The path of the document.
        nested: Whether keys lead to other keys.
        wholes: The keys that are a unit with all that is below them.
        tables: The keys of empty tables that do not count as a value.
    """

    path: str
    nested: bool
    wholes: Collection[str]
    tables: Collection[str]

    def units(self, leaves: _Leaves) -> _Units:
        """Return the units of a version."""
        units: _Units = {}
        for key, leaf in leaves.items():
            if key not in self.tables:
                units.setdefault(self.unit(key), {})[key] = leaf
        return units

    def unit(self, key: str) -> str:
        """Return the unit that a key is part of."""
        outer_keys = _above(key) if self.wholes else ()
        return next((outer for outer in outer_keys if outer in self.wholes), key)

    def outer(self, key: str) -> list[str]:
        """Return a key and those that lead to it, the shortest first."""
        return [*_above(key), key] if self.nested else [key]

    def reached(self, keys: Iterable[str]) -> set[str]:
        """Return keys and those that lead to them."""
        return {outer for key in keys for outer in self.outer(key)}


def _layout(path: str, versions: _Versions) -> _Layout:
    """Return the units that three versions of a document are merged by."""
    if syntax_of(path) is Syntax.DOTENV:
        return _Layout(path, nested=False, wholes=(), tables=())
    above = {outer for leaves in versions for key in leaves for outer in _above(key)}
    items = [item for leaves in versions for item in leaves.items()]
    wholes = {key for key, leaf in items if key in above and leaf != _TABLE}
    # An empty table does not count as a value if another version has values in it.
    tables = {
        key
        for key, leaf in items
        if leaf == _TABLE and key in above and wholes.isdisjoint([*_above(key), key])
    }
    return _Layout(path, nested=True, wholes=wholes, tables=tables)


class _Merge(NamedTuple):
    """The content of a document after a merge.

    Attributes:
        ours: The units with their leaves; ours where both sides changed one.
        theirs: The same, with theirs where both sides changed one.
        conflicts: The units that both sides changed.
    """

    ours: _Units
    theirs: _Units
    conflicts: tuple[str, ...]


def _merge(layout: _Layout, versions: _Versions) -> _Merge:
    """Merge every unit on its own."""
    base, ours, theirs = map(layout.units, versions)
    merge = _Merge({}, {}, ())
    conflicts = []
    for unit in {**ours, **theirs, **base}:
        was, our, their = (units.get(unit, {}) for units in (base, ours, theirs))
        one = their if our == was else our
        other = our if their == was else their
        if one != other:
            conflicts.append(unit)
        if one:
            merge.ours[unit] = one
        if other:
            merge.theirs[unit] = other
    return merge._replace(conflicts=tuple(conflicts))


def _is_unmixed(layout: _Layout, data: bytes, sides: Iterable[_Units]) -> bool:
    """Return whether every unit of a text is as on one of the sides, with no mix of both."""
    try:
        found = layout.units(_leaves(parse(layout.path, data)))
    except errors.BadDocument:
        return False
    return all(any(side.get(unit) == leaves for side in sides) for unit, leaves in found.items())


# --- the text -------------------------------------------------------------------------------


class _Editing(NamedTuple):
    """The rules by which a text gets the values of a merge.

    Attributes:
        layout: The division of its keys into units.
        kept: Keys that stay, as empty tables, when nothing is left in them.
        repeated: Variables that may occur in the text more than once.
        keeps: Returns whether a text has the changes that leave values as they are.
    """

    layout: _Layout
    kept: Collection[str]
    repeated: Collection[str]
    keeps: Callable[[bytes], bool] = lambda _: True

    def text(
        self, wanted: _Units, candidates: Iterable[bytes], starts: Iterable[bytes]
    ) -> bytes | None:
        """Return the first candidate with the wanted values; else the first editable start."""
        for candidate in candidates:
            if self._says(candidate, wanted) and self.keeps(candidate):
                return candidate
        for start in starts:
            with contextlib.suppress(errors.UsageError):
                edited = self._edited(start, wanted)
                if self._says(edited, wanted) and self.keeps(edited):
                    return edited
        return None

    def _says(self, data: bytes, wanted: _Units) -> bool:
        """Return whether a text has the wanted values, and nothing else except empty tables."""
        try:
            document = parse(self.layout.path, data)
        except errors.BadDocument:
            return False
        found = _leaves(document)
        for unit in wanted.values():
            for key, leaf in unit.items():
                if found.pop(key, None) != leaf:
                    return False
        if any(leaf != _TABLE or self.layout.unit(key) != key for key, leaf in found.items()):
            return False
        # A variable that both sides added in two places has the wanted value, but twice.
        return document.repeated().issubset(self.repeated)

    def _edited(self, start: bytes, wanted: _Units) -> bytes:
        """Return a text in which values are set and removed until it has the wanted ones.

        Raises:
            UsageError: The document can't be edited in this way.
        """
        document = parse(self.layout.path, start)
        have = self.layout.units(_leaves(document))
        changed = [unit for unit in wanted if have.get(unit) != wanted[unit]]
        gone = [unit for unit in have if unit not in wanted]
        if (sum(len(wanted[unit]) for unit in changed) + len(gone)) * len(start) > _EDITS:
            raise errors.UsageError(f"{self.layout.path} differs too much to be edited")
        for unit in changed:
            if unit in self.layout.wholes:
                document = self._given(document, unit, have.get(unit, {}), wanted[unit])
            else:
                document.put(unit, wanted[unit][unit])
        reached = self.layout.reached(chain.from_iterable(wanted.values()))
        self._cut(document, gone, reached.union(self.kept))
        return document.dump()

    def _given(
        self, document: Document, unit: str, have: Mapping[str, Leaf], wanted: _Leaves
    ) -> Document:
        """Return a document with other leaves in a unit, edited in place if possible."""
        before = document.dump()
        try:
            for key, leaf in wanted.items():
                if have.get(key) != leaf:
                    document.put(key, leaf)
            surplus = [key for key in have if key not in wanted]
            self._cut(document, surplus, self.layout.reached(wanted))
            if self.layout.units(_leaves(document)).get(unit) == wanted:
                return document
        except errors.UsageError:
            pass
        document = parse(self.layout.path, before)
        if have:
            document.unset(unit)
        for key, leaf in wanted.items():
            document.put(key, leaf)
        return document

    def _cut(self, document: Document, keys: Sequence[str], kept: Collection[str]) -> None:
        """Remove keys, the last first, each with the tables that lead to it unless kept."""
        gone = set()
        for key in reversed(keys):
            outermost = next((outer for outer in self.layout.outer(key) if outer not in kept), None)
            if outermost is not None and outermost not in gone:
                document.unset(outermost)
                gone.add(outermost)


def _editing(layout: _Layout, document: _Document) -> _Editing:
    _, ours, theirs = document.versions
    kept = layout.reached(ours) & layout.reached(theirs)
    return _Editing(layout, kept=kept, repeated=document.repeated)
