"""The interface of all documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import ClassVar, NamedTuple

from dorky import errors

LINE_END = re.compile(r"\r\n|\n|\r")


class Syntax(Enum):
    """The syntax of a document; the value is its name in messages."""

    DOTENV = "dotenv"
    JSON = "JSON"
    TOML = "TOML"
    YAML = "YAML"


class Kind(Enum):
    """The type of a value."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"
    NULL = "null"
    TIME = "time"
    EMPTY = "empty"
    """`{}` or `[]`: nothing in it could be a value."""


class Leaf(NamedTuple):
    """One value of a document."""

    text: str
    """The string itself, `true` or `false`, a number's digits, nothing for null, `{}` or `[]`."""
    kind: Kind = Kind.STRING
    tag: str = ""
    """The tag of a YAML value, as it is written."""


class Document:
    """A document that can be read by key and edited.

    Keys are the names of variables in a `.env` file, and elsewhere paths such as `db.hosts.0.port`
    (a key that has dots is quoted: `labels."app.kubernetes.io/name"`).
    """

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self._text = text.lstrip("\ufeff")
        self._mark = text[: len(text) - len(self._text)]
        self._load(self._text)

    def leaves(self) -> dict[str, Leaf]:
        """Return every value with its kind, in the order of the document."""
        return self._leaves()

    def items(self) -> dict[str, str]:
        """Return every value as text, in the order of the document."""
        return {key: leaf.text for key, leaf in self.leaves().items()}

    def statements(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return the pieces of the text, each with the keys that begin in it."""
        raise NotImplementedError

    def repeated(self) -> set[str]:
        """Return the variables that have a value more than once; only `.env` files can have any."""
        return set()

    def get(self, key: str) -> str:
        """Return the value of a key; compact JSON if the key has several values under it.

        Raises:
            NoSuchVariable: The key does not exist.
        """
        value = self._get(key)
        if value is None:
            raise errors.NoSuchVariable(self.path, key)
        return value

    def set(self, key: str, value: str) -> None:
        """Give a key a value; a missing key comes last, a missing parent is made.

        A number stays a number if the text is one, and so do a boolean, a date and a time; any
        other text becomes a string.

        In a `.env` file the value is quoted so that bash reads the same, as far as both syntaxes
        allow: not if it holds a carriage return, or `$` or a backtick together with a single
        quote, a double backslash or one at its end.

        Raises:
            UsageError: The key leads through a value or an alias, or holds values itself; or the
                text can't be written.
        """
        was = self.leaves().get(key, Leaf("")).kind
        literal = self._literals.get(was)
        kept = literal is not None and literal.fullmatch(value)
        self.put(key, Leaf(value, was if kept else Kind.STRING))

    def put(self, key: str, leaf: Leaf) -> None:
        """Give a key a value of a certain type, as `leaves` returns it for the same syntax.

        Raises:
            UsageError: As for `set`.
        """
        if "\0" in leaf.text + key or not encodable(leaf.text + key):
            raise self._refusal(key, "it is not text that can be stored")
        if self.leaves().get(key) != leaf:
            self._put(key, leaf)

    def unset(self, key: str) -> None:
        """Remove a key, with all that is under it.

        Raises:
            NoSuchVariable: The key does not exist.
            UsageError: The value comes from another place, by an alias.
        """
        self.get(key)
        self._unset(key)

    def dump(self) -> bytes:
        """Return the document's bytes; the original ones as long as nothing was changed."""
        return (self._mark + self._text).encode()

    _literals: ClassVar[Mapping[Kind, re.Pattern[str]]] = {}
    """The pattern that a text must match to be a value of each type."""

    def _load(self, text: str) -> None:
        raise NotImplementedError

    def _leaves(self) -> dict[str, Leaf]:
        raise NotImplementedError

    def _get(self, key: str) -> str | None:
        raise NotImplementedError

    def _put(self, key: str, leaf: Leaf) -> None:
        raise NotImplementedError

    def _unset(self, key: str) -> None:
        raise NotImplementedError

    def _refusal(self, key: str, reason: str) -> errors.UsageError:
        return errors.UsageError(f"{key} of {self.path} can't be changed: {reason}")

    @property
    def _line_end(self) -> str:
        found = LINE_END.search(self._text)
        return found[0] if found else "\n"


class Malformed(Exception):
    """The reason why a text is no document; never quotes the text."""

    @classmethod
    def at(cls, text: str, index: int, what: str = "is malformed") -> Malformed:
        """Return an error that names the line of a position in the text."""
        return cls(f"line {len(LINE_END.findall(text, 0, index)) + 1} {what}")


def encodable(text: str) -> bool:
    """Return whether a text can be UTF-8: it has no half of a surrogate pair."""
    return not re.search("[\ud800-\udfff]", text)
