"""`.env` files: names and values, as python-dotenv reads them."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from dorky.documents.base import LINE_END, Document, Leaf, Malformed

if TYPE_CHECKING:
    from dotenv.parser import Binding

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_ENV_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")
# The grammar of dotenv.parser: the part of a statement before its value, and the value.
_ENV_HEAD = re.compile(r"\s*(?:export[^\S\r\n]+)?(?:'[^']+'|[^=#\s]+)[^\S\r\n]*=[^\S\r\n]*")
_ENV_VALUE = re.compile(
    r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\S*(?:[^\S\r\n]+[^\s\#]\S*)*""",
    re.DOTALL,
)
_ENV_GAP = re.compile(r"[^\S\r\n]{2,}")
_ENV_WIDEST = 1000  # python-dotenv's time grows with its square


class Dotenv(Document):
    """A `.env` file: its statements."""

    def _load(self, text: str) -> None:
        from dotenv.parser import parse_stream

        for gap in _ENV_GAP.finditer(text):
            if len(gap[0]) > _ENV_WIDEST:
                what = f"has more than {_ENV_WIDEST} spaces in a row"
                raise Malformed.at(text, gap.start(), what)
        self._bindings: list[Binding] = []
        for binding in parse_stream(io.StringIO(text, newline="")):
            if binding.error:
                blank = re.match(r"\s*", binding.original.string)
                before = len(LINE_END.findall(blank[0])) if blank else 0
                raise Malformed(f"line {binding.original.line + before} is not NAME=value")
            value = binding.value
            if value is not None and "\r" in binding.original.string:
                # python-dotenv opens files with universal line ends.
                unified = LINE_END.sub("\n", binding.original.string)
                value = next(parse_stream(io.StringIO(unified))).value
            self._bindings.append(binding._replace(value=value))

    def _assignments(self) -> list[tuple[str, str]]:
        return [
            (binding.key, binding.value)
            for binding in self._bindings
            if binding.key is not None and binding.value is not None
        ]

    def _leaves(self) -> dict[str, Leaf]:
        return {key: Leaf(value) for key, value in self._assignments()}

    def _get(self, key: str) -> str | None:
        return dict(self._assignments()).get(key)

    def _unset(self, key: str) -> None:
        rest = [pair for pair in self._assignments() if pair[0] != key]
        pieces = []
        for binding in self._bindings:
            piece = binding.original.string
            if binding.key == key and binding.value is not None:
                blank = piece[: len(piece) - len(piece.lstrip())]
                piece = blank[: max(blank.rfind("\n"), blank.rfind("\r")) + 1]
            pieces.append(piece)
        self._replace(key, "".join(pieces), rest)

    def _put(self, key: str, leaf: Leaf) -> None:
        quoted = _env_quoted(leaf.text)
        pieces = [binding.original.string for binding in self._bindings]
        wanted = self._assignments()
        places = [i for i, b in enumerate(self._bindings) if b.key == key and b.value is not None]
        if places:
            pieces[places[-1]] = _env_replaced(pieces[places[-1]], quoted)
            last = max(i for i, pair in enumerate(wanted) if pair[0] == key)
            wanted[last] = (key, leaf.text)
        elif _ENV_NAME.fullmatch(key):
            if self._text and self._text[-1] not in "\r\n":
                pieces.append(self._line_end)
            pieces.append(f"{key}={quoted}{self._line_end}")
            wanted.append((key, leaf.text))
        else:
            raise self._refusal(key, "a variable's name is letters, digits and underscores")
        self._replace(key, "".join(pieces), wanted)

    def _replace(self, key: str, text: str, wanted: list[tuple[str, str]]) -> None:
        try:
            again = Dotenv(self.path, text)
            right = again._assignments() == wanted
        except Malformed:
            right = False
        if not right:
            raise self._refusal(key, "the lines around it can't be kept")
        self._text, self._bindings = again._text, again._bindings


def _env_quoted(value: str) -> str:
    if _ENV_PLAIN.fullmatch(value):
        return value
    # bash keeps every backslash between single quotes; python-dotenv unescapes these two.
    if not re.search(r"['\r]|\\\\|\\\Z", value):
        return f"'{value}'"
    escaped = re.sub(r'([\\"])', r"\\\1", value).replace("\r", r"\r")
    return f'"{escaped}"'


def _env_replaced(statement: str, quoted: str) -> str:
    head = _ENV_HEAD.match(statement)
    assert head
    at = head.end()
    # `A= # text` is an empty value with a comment, `A=#text` has a value.
    if not statement.startswith("#", at) or statement[at - 1] == "=":
        value = _ENV_VALUE.match(statement, at)
        assert value
        at = value.end()
    tail = statement[at:]
    return statement[: head.end()] + quoted + (" " if tail.startswith("#") else "") + tail
