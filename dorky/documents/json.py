"""JSON, with the position of every value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import ClassVar

from dorky.documents.base import Kind, Leaf, Malformed, encodable
from dorky.documents.tree import DEPTH, JSON_NUMBER, Marked, Node, Place

_JSON_SPACE = re.compile(r"[ \t\r\n]*")
_JSON_WORD = re.compile(r"true|false|null")


class JSON(Marked):
    """A JSON file."""

    _literals: ClassVar = {
        Kind.NUMBER: JSON_NUMBER,
        Kind.BOOLEAN: re.compile("true|false"),
    }

    @property
    def _spread(self) -> bool:
        return "\n" in self._text.strip() or "\r" in self._text.strip() or not self._root.parts

    def _with(self, place: Place, leaf: Leaf) -> Iterator[str]:
        node = place.node
        if place.missing:
            yield self._flow_with(node, place.missing, leaf)
        else:
            yield self._text[: node.start] + self._literal(leaf) + self._text[node.end :]

    def _without(self, place: Place) -> str:
        return self._flow_without(place.node, place.parent)

    def _read(self, text: str) -> Node:
        root = _json_value(text, _json_space(text, 0), 0)
        end = _json_space(text, root.end)
        if end < len(text):
            raise Malformed.at(text, end)
        return root


def _json_space(text: str, at: int) -> int:
    found = _JSON_SPACE.match(text, at)
    assert found
    return found.end()


def _json_string(text: str, at: int) -> tuple[str, int]:
    if not text.startswith('"', at):
        raise Malformed.at(text, at)
    try:
        value, end = json.JSONDecoder().raw_decode(text, at)
    except ValueError:
        raise Malformed.at(text, at) from None
    if not encodable(value):
        raise Malformed.at(text, at, "holds half of a surrogate pair")
    return value, end


def _json_value(text: str, at: int, depth: int) -> Node:
    opening = text[at : at + 1]
    if opening in ("{", "["):
        return _json_container(text, at, depth)
    if opening == '"':
        value, end = _json_string(text, at)
        return Node(Leaf(value), start=at, end=end)
    if found := JSON_NUMBER.match(text, at):
        return Node(Leaf(found[0], Kind.NUMBER), start=at, end=found.end())
    if found := _JSON_WORD.match(text, at):
        leaf = Leaf("", Kind.NULL) if found[0] == "null" else Leaf(found[0], Kind.BOOLEAN)
        return Node(leaf, start=at, end=found.end())
    raise Malformed.at(text, at)


def _json_container(text: str, at: int, depth: int) -> Node:
    if depth > DEPTH:
        raise Malformed("it is nested too deeply")
    node = Node(listed=text[at] == "[", start=at)
    closing = "]" if node.listed else "}"
    at = _json_space(text, at + 1)
    while not text.startswith(closing, at):
        if node.parts:
            if not text.startswith(",", at):
                raise Malformed.at(text, at)
            at = _json_space(text, at + 1)
        entry, key = at, str(len(node.parts))
        if not node.listed:
            key, at = _json_string(text, at)
            at = _json_space(text, at)
            if not text.startswith(":", at):
                raise Malformed.at(text, at)
            at = _json_space(text, at + 1)
        if key in node.children:
            raise Malformed.at(text, entry, "has a key that stands before")
        child = _json_value(text, at, depth + 1)
        child.entry = entry
        node.add(key, child)
        node.parts.append(child)
        at = _json_space(text, child.end)
    node.end = at + 1
    return node
