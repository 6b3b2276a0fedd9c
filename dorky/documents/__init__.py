"""Key/value documents (`.env`, JSON, TOML, YAML), read and edited with everything else kept.

A document is its text. An edit replaces, inserts or cuts a piece of that text, and what comes out
is read again: unless it says exactly what was asked for, the edit is refused and nothing changed.
TOML is edited by tomlkit, which keeps the text itself, and checked the same way by `tomllib`.

Values of a `.env` file are what `dotenv_values(interpolate=False)` of python-dotenv gives: quotes
and escapes, no `$VARIABLE`, no command. YAML is 1.2, one document a file; a number is its digits
as they were written. No message of any parser is passed on, because they quote what they read.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from dorky import errors
from dorky.documents.base import Document, Kind, Leaf, Malformed, Syntax
from dorky.documents.tree import key_path

__all__ = ["Document", "Kind", "Leaf", "Syntax", "key_path", "parse", "syntax_of"]


def syntax_of(path: str) -> Syntax | None:
    """Tell by its name what kind of document a file is; None when it is none of them.

    `.envrc` is none: it is a program for bash.
    """
    name = PurePosixPath(path).name.lower()
    suffix = PurePosixPath(name).suffix
    if name == ".env" or suffix == ".env" or name.startswith(".env."):
        return Syntax.DOTENV
    known = {".json": Syntax.JSON, ".toml": Syntax.TOML, ".yaml": Syntax.YAML, ".yml": Syntax.YAML}
    return known.get(suffix)


def parse(path: str, data: bytes) -> Document:
    """Read a document.

    A byte order mark and the line ends are kept. A variable that stands in a `.env` file twice has
    its last value, as for everybody who reads such files; elsewhere a key that stands twice is
    refused, because readers differ.

    Raises:
        BadDocument: It is malformed.
        UsageError: The file's name is none of a document.
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
