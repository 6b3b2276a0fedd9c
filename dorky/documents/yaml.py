"""YAML, with the position of every value, from the events of ruamel.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from dorky.documents.base import LINE_END, Kind, Leaf, Malformed, encodable
from dorky.documents.tree import DEPTH, FLOAT, INTEGER, Marked, Node, Place

_YAML_PLAIN = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)\Z)[a-z_][a-z0-9_./@-]*", re.I)
_YAML_KINDS = {
    Kind.NULL: re.compile(r"~|null|Null|NULL|"),
    Kind.BOOLEAN: re.compile(r"true|True|TRUE|false|False|FALSE"),
    Kind.NUMBER: re.compile(
        r"[-+]?[0-9][0-9_]*|0o[0-7_]+|0x[0-9a-fA-F_]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
        r"|[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9_]+)(?:[eE][-+]?[0-9]+)?"
    ),
    Kind.TIME: re.compile(
        r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
        r"(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?"
        r"(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?)?"
    ),
}


_TAG = re.compile(r"(?:&\S+\s+)?(!\S*)")
_LONGEST = 10_000  # letters of a tag; ruamel's time grows with its square


class YAMLDocument(Marked):
    """A YAML file."""

    _literals: ClassVar = {
        Kind.NUMBER: re.compile(
            rf"{INTEGER}|{FLOAT}|0o[0-7]{{1,21}}|0x[0-9a-fA-F]{{1,16}}"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
        ),
        Kind.TIME: _YAML_KINDS[Kind.TIME],
        Kind.BOOLEAN: re.compile("true|false"),
    }

    def _string(self, text: str) -> str:
        return text if _YAML_PLAIN.fullmatch(text) else _yaml_quoted(text)

    def _literal(self, leaf: Leaf) -> str:
        return f"{leaf.tag} {super()._literal(leaf)}" if leaf.tag else super()._literal(leaf)

    def _read(self, text: str) -> Node:
        return _YAMLReader(text).document()

    def _with(self, place: Place, leaf: Leaf) -> Iterator[str]:
        text, node, missing = self._text, place.node, place.missing
        if missing and node.flow:
            yield self._flow_with(node, missing, leaf)
        elif missing:
            yield self._block_with(node, missing, leaf)
        elif text[node.start : node.start + 1] not in ("&", "" if leaf.tag else "!"):
            space = " " if node.start == node.end and text[node.start - 1] in ":-?" else ""
            for literal in self._scalars(node, leaf):
                yield text[: node.start] + space + literal + text[node.end :]

    def _scalars(self, node: Node, leaf: Leaf) -> Iterator[str]:
        """Yield a value in the style of the one before it, if possible, and quoted."""
        style = self._text[node.start : node.start + 1]
        comment = ""
        if style in ("|", ">"):
            header = re.match(r"[^\s#]*([^\S\r\n]+#[^\r\n]*)?", self._text[node.start : node.end])
            comment = (header and header[1]) or ""
        if leaf.kind is Kind.STRING and not leaf.tag:
            if style in ("|", ">") and re.fullmatch(r"\S(?:[^\r]*\S)?\n?", leaf.text):
                lines = leaf.text.removesuffix("\n").split("\n")
                opening = ("|" if leaf.text.endswith("\n") else "|-") + comment
                below = self._text[node.start : node.end].splitlines()[1:]
                old = next((line for line in below if line.strip()), "")
                indent = old[: len(old) - len(old.lstrip(" "))]
                yield self._line_end.join(
                    [opening, *(indent + line if line else "" for line in lines)]
                )
            if style == "'" and leaf.text.isprintable():
                yield "'" + leaf.text.replace("'", "''") + "'"
            if style == '"':
                yield _yaml_quoted(leaf.text)
        yield self._literal(leaf) + comment

    def _block_with(self, node: Node, missing: list[str], leaf: Leaf) -> str:
        text, literal, end = self._text, self._literal(leaf), self._line_end
        if not node.parts:
            before = text if not text or text[-1] in "\r\n" else text + end
            return before + self._lines("", missing, literal) + end
        first = node.parts[0].entry
        indent = " " * (first - self._line(first))
        if node.listed:
            made = f"{indent}- {self._nested(missing[1:], literal, None)}"
        else:
            made = self._lines(indent, missing, literal)
        found = LINE_END.search(text, node.end)
        at = found.start() if found else len(text)
        return text[:at] + end + made + text[at:]

    def _lines(self, indent: str, missing: list[str], literal: str) -> str:
        head = f"{indent}{self._string(missing[0])}:"
        if len(missing) == 1:
            return f"{head} {literal}"
        return head + self._line_end + self._lines(indent + self._step, missing[1:], literal)

    @property
    def _step(self) -> str:
        found = re.search(r"[\r\n]( +)[^\s#-]", self._text)
        return found[1] if found else "  "

    def _without(self, place: Place) -> str:
        text, node, parent = self._text, place.node, place.parent
        parts = parent.parts
        if parent.flow:
            return self._flow_without(node, parent)
        if len(parts) == 1 and parent is not self._root:
            # A list may be indented as little as its key; brackets may not.
            return text[: parent.start] + (" []" if parent.listed else "{}") + text[node.end :]
        start = self._line(node.entry)
        if text[start : node.entry].strip(" "):
            following = next((part for part in parts if part.entry > node.entry), None)
            return text[: node.entry] + text[following.entry if following else node.end :]
        found = LINE_END.search(text, node.end)
        return text[:start] + text[found.end() if found else len(text) :]


def _yaml_quoted(text: str) -> str:
    return '"' + "".join(map(_yaml_escaped, text)) + '"'


def _yaml_escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    if char == "\n":
        return r"\n"
    code = ord(char)
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )


class _YAMLReader:
    """Makes nodes from the events of ruamel.yaml, which know their exact positions."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._anchors: dict[str, Node] = {}

    def document(self) -> Node:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        if any(len(word) > _LONGEST and "!" in word for word in self._text.split()):
            raise Malformed("it has a tag without end")
        try:
            self._events: Iterator[Any] = iter(YAML(typ="safe", pure=True).parse(self._text))
            return self._document()
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"line {mark.line + 1}" if mark else "it"
        except YAMLError:
            where = "it"  # A character that is not allowed.
        except (Malformed, RecursionError):
            raise
        except Exception:  # noqa: BLE001 - on odd input it fails in odd ways
            where = "it"
        raise Malformed(f"{where} is malformed")

    def _document(self) -> Node:
        from ruamel.yaml import events

        next(self._events)
        event = next(self._events)
        if isinstance(event, events.StreamEndEvent):
            return Node(flow=False)
        event = next(self._events)
        blank = (
            isinstance(event, events.ScalarEvent) and event.start_mark.index == event.end_mark.index
        )
        root = Node(flow=False) if blank else self._node(event, 0)
        next(self._events)
        if not isinstance(next(self._events), events.StreamEndEvent):
            raise Malformed("it holds several documents")
        return root

    def _node(self, event: Any, depth: int) -> Node:
        from ruamel.yaml import events

        start, end = event.start_mark.index, event.end_mark.index
        if isinstance(event, events.AliasEvent):
            if event.anchor not in self._anchors:
                raise Malformed.at(self._text, start, "names an anchor that is not there")
            return replace(self._anchors[event.anchor], start=start, end=end, shared=True)
        if depth > DEPTH:
            raise Malformed("it is nested too deeply")
        if isinstance(event, events.ScalarEvent):
            node = self._scalar(event, start, end)
        elif isinstance(event, events.SequenceStartEvent):
            node = self._sequence(event, depth)
        else:
            node = self._mapping(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _scalar(self, event: Any, start: int, end: int) -> Node:
        if event.style in ("|", ">"):
            piece = self._text[start:end]
            keeps = "+" in piece.splitlines()[0].split("#")[0]
            # Blank lines after a scalar belong to it only if it keeps them.
            end = start + len(re.sub(r"(?:\r\n|\n|\r)\Z", "", piece) if keeps else piece.rstrip())
        if not encodable(event.value):
            raise Malformed.at(self._text, start, "holds half of a surrogate pair")
        leaf = Leaf(event.value)
        if event.implicit[0]:
            for kind, pattern in _YAML_KINDS.items():
                if pattern.fullmatch(event.value):
                    leaf = Leaf(event.value, kind)
                    break
            if leaf.kind in (Kind.NULL, Kind.BOOLEAN):
                leaf = leaf._replace(text="" if leaf.kind is Kind.NULL else leaf.text.lower())
        if event.tag is not None and (tag := _TAG.match(self._text, start)):
            leaf = leaf._replace(tag=tag[1])
        return Node(leaf, start=start, end=end)

    def _sequence(self, event: Any, depth: int) -> Node:
        from ruamel.yaml.events import SequenceEndEvent

        node = Node(listed=True, flow=bool(event.flow_style), start=event.end_mark.index - 1)
        while not isinstance(inner := next(self._events), SequenceEndEvent):
            child = self._node(inner, depth + 1)
            child.entry = child.start if node.flow else self._text.rfind("-", 0, child.start)
            if child.start == child.end:
                child.start = child.end = child.entry + 1
            node.add(str(len(node.parts)), child)
            node.parts.append(child)
        return self._closed(node, inner)

    def _mapping(self, event: Any, depth: int) -> Node:
        from ruamel.yaml.events import MappingEndEvent, ScalarEvent

        node = Node(flow=bool(event.flow_style), start=event.end_mark.index - 1)
        merged: list[Node] = []
        while not isinstance(inner := next(self._events), MappingEndEvent):
            if not isinstance(inner, ScalarEvent):
                raise Malformed.at(self._text, inner.start_mark.index, "has a key that is no text")
            key, entry = inner.value, inner.start_mark.index
            child = self._node(next(self._events), depth + 1)
            child.entry = entry
            if child.start == child.end:  # empty: the event has any position after its key
                child.start = child.end = self._text.find(":", inner.end_mark.index) + 1
            node.parts.append(child)
            sources = list(child.children.values()) if child.listed else [child]
            if key == "<<" and inner.implicit[0] and all(s.leaf is None for s in sources):
                merged += sources
                continue
            if key in node.children:
                raise Malformed.at(self._text, entry, "has a key that stands before")
            if not encodable(key):
                raise Malformed.at(self._text, entry, "holds half of a surrogate pair")
            node.add(key, child)
        for source in merged:
            for key, child in source.children.items():
                if key not in node.children:
                    node.add(key, replace(child, entry=-1, shared=True))
        return self._closed(node, inner)

    def _closed(self, node: Node, event: Any) -> Node:
        if node.flow:
            node.end = event.end_mark.index
        elif node.parts:
            node.start, node.end = node.parts[0].entry, node.parts[-1].end
        return node
