"""Key/value documents (`.env`, JSON, TOML, YAML), edited with all other text kept.

A document is its text. An edit replaces, inserts or cuts a piece of that text, and the result is
parsed again: unless it has exactly the wanted values, the edit is refused and nothing changes.
TOML is edited by tomlkit, which keeps the text itself, and checked in the same way by `tomllib`.

Values of a `.env` file are those of python-dotenv's `dotenv_values(interpolate=False)`: quotes and
escapes, no `$VARIABLE`, no command. YAML is 1.2, one document per file; a number keeps the digits
that were written. Messages of parsers are never passed on, because they quote the text.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from dorky import errors
from dorky.documents.base import Document, Kind, Leaf, Malformed, Syntax
from dorky.documents.tree import key_path

__all__ = ["Document", "Kind", "Leaf", "Syntax", "key_path", "parse", "syntax_of"]


def syntax_of(path: str) -> Syntax | None:
    """Return the syntax of a file by its name; None if it is not a document.

    `.envrc` is not one: it is a program for bash.
    """
    name = PurePosixPath(path).name.lower()
    suffix = PurePosixPath(name).suffix
    if name == ".env" or suffix == ".env" or name.startswith(".env."):
        return Syntax.DOTENV
    known = {".json": Syntax.JSON, ".toml": Syntax.TOML, ".yaml": Syntax.YAML, ".yml": Syntax.YAML}
    return known.get(suffix)


def parse(path: str, data: bytes) -> Document:
    """Read a document.

    A byte order mark and the line ends are kept. A variable that occurs twice in a `.env` file has
    its last value, as in other programs that read such files; in other documents a key that occurs
    twice is refused, because readers differ.

    Raises:
        BadDocument: The text is malformed.
        UsageError: The file's name is not one of a document.
    """
    syntax = syntax_of(path)
    if syntax is None:
        raise errors.UsageError(f"{path} is not a .env, JSON, TOML or YAML file")
    try:
        text = data.decode()
        if "\0" in text:
            raise Malformed("it holds a NUL character")
        return _class(syntax)(path, text)
    except Malformed as error:
        reason = str(error)
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    except RecursionError:
        reason = "it is nested too deeply"
    raise errors.BadDocument(path, syntax.value, reason)


def _class(syntax: Syntax) -> type[Document]:
    if syntax is Syntax.DOTENV:
        from dorky.documents.dotenv import Dotenv

        return Dotenv
    if syntax is Syntax.JSON:
        from dorky.documents.json import JSON

        return JSON
    if syntax is Syntax.TOML:
        from dorky.documents.toml import TOML

        return TOML
    from dorky.documents.yaml import YAMLDocument

    return YAMLDocument
