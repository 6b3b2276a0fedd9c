"""Documents with nested values."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from dorky import errors
from dorky.documents.base import LINE_END, Document, Kind, Leaf, Malformed

DEPTH = 100
# Aliases of aliases can make YAML arbitrarily large, long and deep.
_SIZE = 1_000_000
_LETTERS = 100_000_000

_BARE = re.compile(r"[^\s.\"'\\\x00-\x1f]+")
_SEGMENT = re.compile(r'([^."][^.]*)|("(?:[^"\\]|\\.)*")')
INTEGER = r"0|-?[1-9][0-9]{0,300}"
DECIMAL = rf"-?(?:{INTEGER})\.[0-9]{{1,300}}"
FLOAT = rf"-?(?:{INTEGER})(?:\.[0-9]{{1,300}})?(?:[eE][-+]?[0-9]{{1,3}})?"
JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")


def key_path(segments: list[str]) -> str:
    """Return a path of keys as one key: joined with dots, quoted as in TOML where needed."""
    return ".".join(
        segment if _BARE.fullmatch(segment) else json.dumps(segment, ensure_ascii=False)
        for segment in segments
    )


_Plain: TypeAlias = "Leaf | dict[str, _Plain] | list[_Plain] | None"


@dataclass
class Node:
    """One value, list or mapping, and its position in the text."""

    leaf: Leaf | None = None
    listed: bool = False
    children: dict[str, Node] = field(default_factory=dict)
    """The children by key; those of a list by number."""
    parts: list[Node] = field(default_factory=list)
    """The parts of the text between its ends, in that order: the children, and YAML's `<<`."""
    start: int = 0
    end: int = 0
    entry: int = -1
    """The start of its key, or of its item's dash; -1 if it was merged in from another place."""
    flow: bool = True
    """Whether it has brackets; otherwise lines and indentation delimit it."""
    shared: bool = False
    """Whether an alias refers to text at another place."""
    size: int = 1
    letters: int = 0
    """The length of all its values, and of the keys that lead to them, as `walk` yields both."""
    height: int = 0

    def add(self, key: str, child: Node) -> None:
        """Put a value under a key."""
        self.children[key] = child
        self.size += child.size
        self.letters += len(child.leaf.text) if child.leaf else child.letters
        self.letters += (len(key) + 1) * child.size
        self.height = max(self.height, child.height + 1)
        if self.size > _SIZE or self.letters > _LETTERS:
            raise Malformed("its aliases stand for too much")
        if self.height > DEPTH + 1:
            raise Malformed("it is nested too deeply")

    def walk(self, above: list[str]) -> Iterator[tuple[str, Leaf]]:
        """Yield every value in it, with its key; ``above`` are the keys that lead to this node."""
        if self.leaf is not None:
            yield key_path(above), self.leaf
        elif not self.children and above:
            yield key_path(above), Leaf("[]" if self.listed else "{}", Kind.EMPTY)
        for key, child in self.children.items():
            yield from child.walk([*above, key])

    def marks(self, above: list[str]) -> Iterator[tuple[int, str]]:
        """Yield where each value's key begins, with its path."""
        for key, child in self.children.items():
            if child.entry >= 0:
                yield child.entry, key_path([*above, key])
                if not child.shared:
                    yield from child.marks([*above, key])

    def plain(self) -> _Plain:
        """Return the node's own content, for comparison."""
        if self.shared or self.leaf is not None:
            return None if self.shared else self.leaf
        own = {key: child.plain() for key, child in self.children.items() if child.entry >= 0}
        return list(own.values()) if self.listed else own

    def compact(self) -> str:
        """Return the node as JSON without spaces."""
        if self.leaf is None:
            inner = [(json.dumps(k, ensure_ascii=False), v) for k, v in self.children.items()]
            if self.listed:
                return "[" + ",".join(child.compact() for _, child in inner) + "]"
            return "{" + ",".join(f"{key}:{child.compact()}" for key, child in inner) + "}"
        text, kind = self.leaf.text, self.leaf.kind
        if kind is Kind.NULL:
            return "null"
        if kind is Kind.BOOLEAN or (kind is Kind.NUMBER and JSON_NUMBER.fullmatch(text)):
            return text
        return json.dumps(text, ensure_ascii=False)


class Place(NamedTuple):
    """The place of a key: the path as far as it exists, and the keys that are missing after it."""

    segments: list[str]
    node: Node
    parent: Node
    missing: list[str]


class Tree(Document):
    """A document with nested values."""

    def statements(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return the lines, those without a key of their own joined to the line before."""
        marks = self._marks()
        places = [at for at, _ in marks]
        found: list[tuple[str, tuple[str, ...]]] = []
        start = 0
        for line in self._text.splitlines(keepends=True):
            first, after = (bisect_left(places, at) for at in (start, start + len(line)))
            keys = tuple(key for _, key in marks[first:after])
            bare = line.strip()
            apart = keys or not bare or bare.startswith("#") or not bare.strip("]},")
            if apart or not found:
                found.append((line, keys))
            else:
                found[-1] = (found[-1][0] + line, found[-1][1])
            start += len(line)
        return found

    def _marks(self) -> list[tuple[int, str]]:
        """Return where keys begin in the text, in order."""
        return sorted(self._root.marks([]))

    def _load(self, text: str) -> None:
        self._root = self._read(text)
        if self._root.leaf is not None:
            raise Malformed("its top level is a single value")

    def _leaves(self) -> dict[str, Leaf]:
        return dict(self._root.walk([]))

    def _get(self, key: str) -> str | None:
        place = self._place(key)
        if place.missing:
            return None
        return place.node.compact() if place.node.leaf is None else place.node.leaf.text

    def _unset(self, key: str) -> None:
        place = self._place(key)
        if place.node.entry < 0 or self._leads_elsewhere(place.segments[:-1]):
            raise self._refusal(key, "an alias brings it from elsewhere")
        wanted = self._root.plain()
        _take(wanted, place.segments)
        self._replace(key, [self._without(place)], wanted, pruned=True)

    def _put(self, key: str, leaf: Leaf) -> None:
        segments, node, parent, missing = self._place(key)
        if not missing and node.entry < 0:  # Its own value goes before the one merged in.
            node, missing = parent, segments[-1:]
        there = segments[: len(segments) - len(missing)]
        if self._leads_elsewhere(there if missing else there[:-1]):
            raise self._refusal(key, "it leads through an alias")
        if missing and node.leaf is not None:
            raise self._refusal(key, "it leads through a single value")
        if missing and node.listed and missing[0] != str(len(node.children)):
            raise self._refusal(key, "the list has no such place")
        if not missing and node.children:
            raise self._refusal(key, "there are several values under it")
        wanted = self._root.plain()
        _give(wanted, segments, self._as_read(leaf))
        self._replace(key, self._with(Place(segments, node, parent, missing), leaf), wanted)

    def _replace(
        self, key: str, texts: Iterable[str], wanted: _Plain, *, pruned: bool = False
    ) -> None:
        for text in texts:
            try:
                root = self._read(text)
            except (Malformed, RecursionError):
                continue
            found = root.plain()
            if found == wanted or (pruned and _pruned(found) == _pruned(wanted)):
                self._text, self._root = text, root
                return
        raise self._refusal(key, "what is around it can't be kept")

    def _segments(self, key: str) -> list[str]:
        segments, at = [], 0
        while found := _SEGMENT.match(key, at):
            try:
                segments.append(found[1] or json.loads(found[2], strict=False))
            except ValueError:
                break
            at = found.end() + 1
            if at > len(key):
                return segments
            if key[at - 1] != ".":
                break
        raise errors.UsageError(f'{key} is not a key, such as a.b or a."b.c"')

    def _place(self, key: str) -> Place:
        node = parent = self._root
        segments = self._segments(key)
        for depth, segment in enumerate(segments):
            if segment not in node.children:
                return Place(segments, node, parent, segments[depth:])
            node, parent = node.children[segment], node
        return Place(segments, node, parent, [])

    def _leads_elsewhere(self, segments: list[str]) -> bool:
        node = self._root
        for segment in segments:
            node = node.children[segment]
            if node.shared:
                return True
        return False

    def _as_read(self, leaf: Leaf) -> Leaf:
        """Return a value as it is read after it was written."""
        return leaf

    def _read(self, text: str) -> Node:
        raise NotImplementedError

    def _with(self, place: Place, leaf: Leaf) -> Iterator[str]:
        """Yield the texts that may give a place the value, the best first."""
        raise NotImplementedError

    def _without(self, place: Place) -> str:
        """Return the text without the place's value."""
        raise NotImplementedError


def _give(tree: Any, segments: list[str], leaf: Leaf) -> None:
    value: Any = leaf
    if leaf.kind is Kind.EMPTY:
        value = [] if leaf.text == "[]" else {}
    for depth, segment in enumerate(segments):
        at: Any = int(segment) if isinstance(tree, list) else segment
        if isinstance(tree, list) and at == len(tree):
            tree.append({})
        if depth == len(segments) - 1:
            tree[at] = value
        else:
            tree = tree[at] if isinstance(tree, list) else tree.setdefault(at, {})


def _take(tree: Any, segments: list[str]) -> None:
    for segment in segments[:-1]:
        tree = tree[int(segment)] if isinstance(tree, list) else tree[segment]
    del tree[int(segments[-1]) if isinstance(tree, list) else segments[-1]]


def _pruned(tree: _Plain) -> _Plain:
    """Return a tree without empty mappings, which TOML can't keep without a dotted key."""
    if isinstance(tree, list):
        return [_pruned(child) for child in tree]
    if isinstance(tree, dict):
        pruned = {key: _pruned(child) for key, child in tree.items()}
        return {key: child for key, child in pruned.items() if child != {}}
    return tree


class Marked(Tree):
    """A tree whose nodes know their positions: JSON, and YAML in brackets."""

    def _string(self, text: str) -> str:
        return json.dumps(text, ensure_ascii=False)

    def _literal(self, leaf: Leaf) -> str:
        if leaf.kind is Kind.STRING:
            return self._string(leaf.text)
        return leaf.text or "null"

    def _nested(self, missing: list[str], literal: str, indent: str | None) -> str:
        """Return a value under missing keys, with its lines indented unless it has only one."""
        if not missing:
            return literal
        inner = None if indent is None else indent + self._step
        value = f"{self._string(missing[0])}: {self._nested(missing[1:], literal, inner)}"
        if inner is None:
            return f"{{{value}}}"
        return f"{{{self._line_end}{inner}{value}{self._line_end}{indent}}}"

    @property
    def _step(self) -> str:
        found = re.search(r"[\r\n]([ \t]+)[^\s]", self._text)
        return found[1] if found else "  "

    def _indent(self, index: int) -> str:
        """Return the white space at the start of a position's line."""
        line = self._text[self._line(index) : index]
        return line[: len(line) - len(line.lstrip(" \t"))]

    def _line(self, index: int) -> int:
        """Return the start of a position's line."""
        before = self._text
        return max(before.rfind("\n", 0, index), before.rfind("\r", 0, index)) + 1

    def _flow_with(self, node: Node, missing: list[str], leaf: Leaf) -> str:
        text, literal = self._text, self._literal(leaf)
        if not node.parts:
            if self._spread and not node.listed:
                made = self._nested(missing, literal, self._indent(node.start))
                return text[: node.start] + made + text[node.end :]
            made = self._nested(missing[1:] if node.listed else missing, literal, None)
            at = node.start + 1
            return text[:at] + (made if node.listed else made[1:-1]) + text[at:].lstrip(" ")
        last = node.parts[-1]
        gap = re.search(r"\s*\Z", text[node.start + 1 : last.entry])
        colon = re.search(r":[ \t]*\Z", text[last.entry : last.start])
        between = colon[0] if colon else ": "
        space, indent = " ", None
        if gap and (lines := LINE_END.findall(gap[0])):
            indent = LINE_END.split(gap[0])[-1]
            space = lines[0] + indent
        elif between == ":":
            space = ""
        made = self._nested(missing[1:], literal, indent if self._spread else None)
        entry = made if node.listed else self._string(missing[0]) + between + made
        return text[: last.end] + "," + space + entry + text[last.end :]

    @property
    def _spread(self) -> bool:
        """Return whether a new mapping gets lines of its own."""
        return False

    def _flow_without(self, node: Node, parent: Node) -> str:
        text, parts = self._text, parent.parts
        at = next(i for i, part in enumerate(parts) if part is node)
        if at + 1 < len(parts):
            return text[: node.entry] + text[parts[at + 1].entry :]
        if at:
            return text[: parts[at - 1].end] + text[node.end :]
        start, end = parent.start + 1, parent.end - 1
        if text[start : node.entry].strip() or text[node.end : end].strip():
            start, end = node.entry, node.end
        return text[:start] + text[end:]
