"""TOML: read by `tomllib`, edited by tomlkit."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from dorky.documents.base import Kind, Leaf, Malformed
from dorky.documents.tree import DEPTH, FLOAT, INTEGER, Node, Place, Tree

_TABLE = re.compile(r"\s*(\[\[?[^\]#]+\]\]?)")
_KEY = re.compile(r"""\s*((?:[\w.-]|"[^"]*"|'[^']*'|[^\S\r\n])+?)[^\S\r\n]*=""")
_DOTS = 1000  # in a line; tomllib's time grows with the square of a dotted key's parts


class TOML(Tree):
    """A TOML file."""

    _literals: ClassVar = {
        Kind.NUMBER: re.compile(
            rf"{INTEGER}|{FLOAT}|0x[0-9a-fA-F]{{1,16}}|0o[0-7]{{1,21}}|0b[01]{{1,63}}"
            r"|[-+]?(?:inf|nan)|[1-9][0-9]{0,2}(?:_[0-9]{3}){1,6}"
        ),
        Kind.TIME: re.compile(
            r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
            r"(?:[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:[Zz]|[-+][0-9]{2}:[0-9]{2})?)?"
            r"|[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
        ),
        Kind.BOOLEAN: re.compile("true|false"),
    }

    def _read(self, text: str) -> Node:
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib

        if any(line.count(".") > _DOTS for line in text.split("\n")):
            raise Malformed(f"a line has more than {_DOTS} dots")
        try:
            return _toml_node(tomllib.loads(text, parse_float=_Digits), 0)
        except ValueError as error:
            line = re.search(r"\(at line ([0-9]+), column [0-9]+\)\Z", str(error))
        raise Malformed(f"line {line[1]} is malformed" if line else "it is malformed")

    def _marks(self) -> list[tuple[int, str]]:
        """Return where keys and tables begin; a line inside a string may be taken for one."""
        marks, table, at = [], "", 0
        for line in self._text.splitlines(keepends=True):
            if header := _TABLE.match(line):
                table = _bare(header[1].strip("[] \t"))
                marks.append((at, table))
            elif found := _KEY.match(line):
                key = _bare(found[1].strip())
                marks.append((at, f"{table}.{key}" if table else key))
            at += len(line)
        return marks

    def _as_read(self, leaf: Leaf) -> Leaf:
        if leaf.kind in (Kind.NUMBER, Kind.TIME):
            with contextlib.suppress(Malformed):  # 0xff is read as 255
                return self._read(f"x = {leaf.text}").children["x"].leaf or leaf
        return leaf

    def _with(self, place: Place, leaf: Leaf) -> Iterator[str]:
        import tomlkit

        literal = leaf.text
        if leaf.kind is Kind.STRING:
            literal = json.dumps(leaf.text, ensure_ascii=False).replace("\x7f", r"\u007f")
        yield self._edited(place.segments, lambda: tomlkit.value(literal))

    def _without(self, place: Place) -> str:
        return self._edited(place.segments, None)

    def _edited(self, segments: list[str], value: Callable[[], Any] | None) -> str:
        """Return the text with a value set or removed by tomlkit; unchanged if it can't do that."""
        import tomlkit

        text = self._text
        try:
            document = tomlkit.parse(text)
            if tomlkit.dumps(document) != text:
                return text
            inside: Any = document
            for segment in segments[:-1]:
                if isinstance(inside, list):
                    inside = inside[int(segment)]
                    continue
                if segment not in inside:
                    inline = isinstance(inside, tomlkit.items.InlineTable)
                    table = tomlkit.inline_table if inline else tomlkit.table
                    inside[segment] = table() if inline else tomlkit.table(segment != segments[-2])
                inside = inside[segment]
            last = int(segments[-1]) if isinstance(inside, list) else segments[-1]
            if value is None:
                del inside[last]
            elif isinstance(inside, list) and last == len(inside):
                inside.append(value())
            else:
                inside[last] = value()
            made = tomlkit.dumps(document)
        except Exception:  # noqa: BLE001 - tomlkit's exceptions are not documented
            return text
        if "\r\n" in text and "\n" not in text.replace("\r\n", ""):
            made = re.sub(r"(?<!\r)\n", "\r\n", made)
        return made


def _bare(key: str) -> str:
    """Return a key as it is written without needless quotes and spaces."""
    return re.sub(r"""["']([^\s."'\\]+)["']""", r"\1", re.sub(r"\s*\.\s*", ".", key))


class _Digits(str):
    """A decimal number with the digits that were written."""


def _toml_node(value: object, depth: int) -> Node:
    if depth > DEPTH:
        raise Malformed("it is nested too deeply")
    node = Node(listed=isinstance(value, list), entry=0)
    if isinstance(value, dict):
        for key, child in value.items():
            node.add(key, _toml_node(child, depth + 1))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            node.add(str(index), _toml_node(child, depth + 1))
    elif isinstance(value, bool):
        node.leaf = Leaf(str(value).lower(), Kind.BOOLEAN)
    elif isinstance(value, (int, _Digits)):
        node.leaf = Leaf(str(value), Kind.NUMBER)
    elif isinstance(value, str):
        node.leaf = Leaf(value)
    else:
        node.leaf = Leaf(value.isoformat(), Kind.TIME)  # type: ignore[attr-defined]
    return node
