"""The grammar of `.env` files: names and values, as python-dotenv reads them, and backticks.

Readers differ. Where one of them would end a value on another line than the others do, the file is
malformed, because half of a value could be taken for the whole. The guide on secrets has the table.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from typing import TYPE_CHECKING

from dorky.documents.base import LINE_END, Document, Leaf, Malformed

if TYPE_CHECKING:
    from dotenv.parser import Binding

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_ENV_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")
# The grammar of dotenv.parser: the part of a statement before its value, and the value.
_ENV_HEAD = re.compile(
    r"\s*(?P<export>export[^\S\r\n]+)?(?:'(?P<quoted>[^']+)'|(?P<bare>[^=#\s]+))[^\S\r\n]*"
    r"(?:(?P<sign>=)[^\S\r\n]*)?"
)
_ENV_VALUE = re.compile(
    r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\S*(?:[^\S\r\n]+[^\s\#]\S*)*""",
    re.DOTALL,
)
# A value in backticks is one of node's dotenv alone: LINE in its lib/main.js.
_ENV_BACKTICKS = re.compile(r"`((?:\\`|[^`])*)`(?=[^\S\r\n]*(?:#[^\r\n]*)?(?:[\r\n]|\Z))")
_ENV_REST = re.compile(r"[^\S\r\n]*(?:#[^\r\n]*)?(?:\r\n|\n|\r|\Z)")
_ENV_GAP = re.compile(r"[^\S\r\n]{2,}")
_ENV_WIDEST = 1000  # python-dotenv's time grows with its square
# Names that some reader takes; `https://host/?ssl` is not one, nor is a line of base64.
_ENV_READABLE = re.compile(r"\w[\w.-]*")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{16,}")
_BASE64_TAIL = re.compile(r"(?:[A-Za-z0-9+/]{4})*[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]+==")
_CAPITALS = re.compile(r"[A-Z][A-Z0-9]*=")


class Dotenv(Document):
    """A `.env` file: its statements."""

    def _load(self, text: str) -> None:
        from dotenv.parser import Binding, Reader, parse_binding

        for gap in _ENV_GAP.finditer(text):
            if len(gap[0]) > _ENV_WIDEST:
                what = f"has more than {_ENV_WIDEST} spaces in a row"
                raise Malformed.at(text, gap.start(), what)
        self._bindings: list[Binding] = []
        reader = Reader(io.StringIO(text, newline=""))
        before = ""
        while reader.has_next():
            start = reader.position.chars
            head = _ENV_HEAD.match(text, start)
            ticked = _ENV_BACKTICKS.match(text, head.end()) if head and head["sign"] else None
            if head and ticked:
                rest = _ENV_REST.match(text, ticked.end())
                assert rest
                reader.set_mark()
                reader.position.advance(text[start : rest.end()])
                key = head["quoted"] or head["bare"]
                binding = Binding(key, ticked[1], reader.get_marked(), error=False)
            else:
                binding = parse_binding(reader)
            statement = binding.original.string
            if reason := _env_flaw(binding, before):
                lead = len(statement) - len(statement.lstrip())
                raise Malformed.at(text, start + lead, reason)
            value = binding.value
            if value is not None and "\r" in statement:
                # python-dotenv opens files with universal line ends.
                unified = io.StringIO(LINE_END.sub("\n", statement))
                value = (
                    LINE_END.sub("\n", value) if ticked else parse_binding(Reader(unified)).value
                )
            self._bindings.append(binding._replace(value=value))
            before = statement

    def _assignments(self) -> list[tuple[str, str]]:
        return [
            (binding.key, binding.value)
            for binding in self._bindings
            if binding.key is not None and binding.value is not None
        ]

    def statements(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return the statements, and the blank lines and comments between them."""
        found: list[tuple[str, tuple[str, ...]]] = []
        for binding in self._bindings:
            text = binding.original.string
            body = len(text) - len(text.lstrip())
            start = max(text.rfind("\n", 0, body), text.rfind("\r", 0, body)) + 1
            found += [(line, ()) for line in text[:start].splitlines(keepends=True)]
            if text[start:]:
                found.append((text[start:], (binding.key,) if binding.key is not None else ()))
        return found

    def repeated(self) -> set[str]:
        """Return the variables that have a value more than once."""
        found = Counter(key for key, _ in self._assignments())
        return {key for key, count in found.items() if count > 1}

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
        literal = quoted(leaf.text)
        pieces = [binding.original.string for binding in self._bindings]
        wanted = self._assignments()
        places = [i for i, b in enumerate(self._bindings) if b.key == key and b.value is not None]
        if places:
            pieces[places[-1]] = _env_replaced(pieces[places[-1]], literal)
            last = max(i for i, pair in enumerate(wanted) if pair[0] == key)
            wanted[last] = (key, leaf.text)
        elif _ENV_NAME.fullmatch(key):
            if self._text and self._text[-1] not in "\r\n":
                pieces.append(self._line_end)
            pieces.append(f"{key}={literal}{self._line_end}")
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


def _env_flaw(binding: Binding, before: str) -> str:
    """Return why a statement is no assignment that all readers end at the same place.

    Such a statement may be a part of the value before it: to take, change or delete only one of
    both would leave half of a secret.
    """
    statement = binding.original.string.strip()
    head = _ENV_HEAD.match(statement)
    if binding.error:
        return "is not NAME=value"
    if binding.key is None or head is None:
        return ""
    if binding.value is None:
        exported = head["export"] and _ENV_NAME.fullmatch(binding.key)
        return "" if exported else "is not NAME=value"
    raw = statement[head.end() :]
    ticks = 0 if _ENV_BACKTICKS.match(raw) or raw[:1] != "`" else binding.value.count("`")
    flaws = {
        "is not NAME=value": not _ENV_READABLE.fullmatch(binding.key),
        "opens a backtick that is not closed": ticks % 2,
        "may be the end of the value before it": _is_tail(statement, before),
    }
    return next((reason for reason, found in flaws.items() if found), "")


def _is_tail(statement: str, before: str) -> bool:
    """Return whether a statement looks like the last line of wrapped base64."""
    if not _BASE64_TAIL.fullmatch(statement) or _CAPITALS.fullmatch(statement):
        return False
    head = _ENV_HEAD.match(before)
    return bool(head and head["sign"] and _BASE64.fullmatch(before[head.end() :].rstrip("\r\n")))


def quoted(value: str) -> str:
    """Return a value as it is written into a `.env` file: in quotes if it needs them."""
    if _ENV_PLAIN.fullmatch(value):
        return value
    # bash keeps every backslash between single quotes; python-dotenv unescapes these two.
    if not re.search(r"['\r]|\\\\|\\\Z", value):
        return f"'{value}'"
    escaped = re.sub(r'([\\"])', r"\\\1", value).replace("\r", r"\r")
    return f'"{escaped}"'


def is_portable(value: str) -> bool:
    """Return whether python-dotenv, node's dotenv, docker compose and bash read `quoted` alike.

    python-dotenv expands `${…}` even in single quotes, where it also unescapes a double backslash;
    node's dotenv keeps the backslash of an escaped quote.
    """
    if "'" in value:
        return not re.search(r'["\\$`\r]', value)
    return not re.search(r"\r|\\\\|\\\Z|\$\{", value)


def _env_styled(quote: str, literal: str) -> str:
    """Return a literal in the quotes that were used before, if it can be."""
    bare = literal.strip("'") if literal[:1] != '"' else ""
    if quote == "'" and bare and literal[:1] != "'":
        return f"'{bare}'"
    return f'"{bare}"' if quote == '"' and bare and not re.search(r'["\\$`]', bare) else literal


def _env_replaced(statement: str, literal: str) -> str:
    head = _ENV_HEAD.match(statement)
    assert head
    at = head.end()
    # `A= # text` is an empty value with a comment, `A=#text` has a value.
    if not statement.startswith("#", at) or statement[at - 1] == "=":
        value = _ENV_BACKTICKS.match(statement, at) or _ENV_VALUE.match(statement, at)
        assert value
        literal = _env_styled(value[0][:1], literal)
        at = value.end()
    tail = statement[at:]
    return statement[: head.end()] + literal + (" " if tail.startswith("#") else "") + tail
