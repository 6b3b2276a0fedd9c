"""Variables: read and change files variable by variable, for commands, scripts and people.

Nothing in this module prints a value or puts one into an error.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import posixpath
import shutil
import stat as stat_module
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from dorky import documents, errors, files, process
from dorky.commands.checkout import keep_contents
from dorky.commands.inspect import StrPath
from dorky.commands.reading import Content, Reader
from dorky.commands.stage import stage
from dorky.commands.upstream import was_pulled
from dorky.documents import Document, Syntax
from dorky.documents import export as quoting
from dorky.documents.export import Form
from dorky.documents.names import is_shown
from dorky.documents.names import shown as shown_name
from dorky.files import moment
from dorky.project import ORIGIN, Project
from dorky.results import Edited
from dorky.store import oplog
from dorky.store.history import MAIN

DOTENV = ".env"
"""The file to read when none is named."""

_NEW = 0o600


# --- reading ---------------------------------------------------------------------------


def read_document(reader: Reader, path: StrPath) -> Document:
    """Read a file as a document of variables."""
    name = _named_document(reader.project, path, read_from=f"{reader.revision or 'HEAD'}:{path}")
    return documents.parse(name, reader.read(path))


def _named_document(project: Project, path: StrPath, **facts: object) -> str:
    """Return the repository path of a file that has keys.

    Raises:
        UsageError: By its name, the file has none.
    """
    name = project.repository_path(path)
    if documents.syntax_of(name) is None:
        raise errors.NotADocument(name, **facts)
    return name


def get_variable(reader: Reader, path: StrPath, key: str) -> str:
    """Return one value of a `.env`, JSON, TOML or YAML file.

    Args:
        reader: Reads the file.
        path: The file.
        key: A variable, or a path of keys such as ``db.hosts.0``.

    Raises:
        NoSuchVariable: There is no such variable.
        BadDocument: The file is malformed.
    """
    found = read_document(reader, path)
    try:
        return found.get(key)
    except errors.NoSuchVariable:
        raise _missing(found.path, key, found.items()) from None


def variables(reader: Reader, path: StrPath, *, only: Collection[str] = ()) -> dict[str, str]:
    """Return all values of a `.env`, JSON, TOML or YAML file, by key, in the file's order.

    Args:
        reader: Reads the file.
        path: The file.
        only: If given, the keys that are wanted.

    Raises:
        NoSuchVariable: The file lacks one of ``only``.
        BadDocument: The file is malformed.
    """
    found = read_document(reader, path)
    values = found.items()
    for key in only:
        if key not in values:
            raise _missing(found.path, key, values)
    return {key: value for key, value in values.items() if not only or key in only}


def export(
    reader: Reader,
    path: StrPath,
    form: Form,
    *,
    only: Collection[str] = (),
    allow: Collection[str] = (),
) -> str:
    """Return the values of a file, written for another program to read.

    Arguments, results and errors are those of `Repository.export`.
    """
    found = variables(reader, path, only=only)
    _check_safe(found, reader.project.repository_path(path), allow)
    return quoting.export(found, form)


def environment(
    reader: Reader,
    paths: Sequence[StrPath] = (),
    *,
    only: Collection[str] = (),
    allow: Collection[str] = (),
) -> dict[str, str]:
    """Return the variables of files, for a command's environment.

    Args:
        reader: Reads the files.
        paths: The files; later ones win. By default the `.env` in the project's root.
        only: If given, the variables that are wanted.
        allow: Variables that may be set though they change how programs are loaded.

    Raises:
        UnsafeVariable: A variable is not allowed.
        UnusableValue: A variable holds a NUL character, which no environment can.
        NoSuchVariable: None of the files holds one of ``only``.
    """
    found: dict[str, str] = {}
    for path in paths or [DOTENV]:
        shown = reader.project.repository_path(path)
        held = {
            name: value
            for name, value in variables(reader, path).items()
            if not only or name in only
        }
        for name, value in held.items():
            if not name or "=" in name:
                raise errors.UnusableName(ascii(name), shown)
            if "\0" in name + value:
                raise errors.UnusableValue(shown_name(name), shown)
        _check_safe(held, shown, allow)
        found.update(held)
    for name in only:
        if name not in found:
            where = ", ".join(os.fspath(path) for path in paths) or DOTENV
            raise _missing(where, name, found)
    return found


def _check_safe(values: Mapping[str, str], path: str, allow: Collection[str]) -> None:
    """Refuse variables that change how programs are found, loaded or run.

    Raises:
        UnsafeVariable: A variable is not allowed.
    """
    for name, value in values.items():
        if name not in allow and process.dangerous(name, value):
            raise errors.UnsafeVariable(path, name)


# --- changing --------------------------------------------------------------------------


def set_variable(project: Project, path: StrPath, key: str, value: str) -> Edited:
    """Set a variable, and stage the file. Comments and order stay.

    Arguments, results and errors are those of `Repository.set`.
    """
    return edit_document(project, path, key, lambda document: document.set(key, value))


def check_settable(project: Project, path: StrPath) -> None:
    """Check that a variable can be set in a file, and open the keys for it.

    Arguments, results and errors are those of `Repository.check_settable`.
    """
    _named_document(project, path)
    _editable(project, path, create=True)
    assert project.vault.groups


def unset_variable(project: Project, path: StrPath, key: str) -> Edited:
    """Delete a variable, or a key with all below it, from a file, and stage the file.

    Arguments, results and errors are those of `Repository.unset`.
    """

    def unset(document: Document) -> None:
        try:
            document.unset(key)
        except errors.NoSuchVariable:
            raise _missing(document.path, key, document.items()) from None

    return edit_document(project, path, key, unset, create=False)


def edit_document(
    project: Project,
    path: StrPath,
    key: str,
    change: Callable[[Document], None],
    *,
    create: bool = True,
) -> Edited:
    """Change a document of variables, write it, and stage it."""
    with project.operation(f"{'set' if create else 'unset'} {key}"):
        _named_document(project, path)
        name, old = _editable(project, path, create=create)
        document = documents.parse(name, old.data if old else _empty(name))
        change(document)
        done = _save(project, name, old, document.dump())
        return msgspec.structs.replace(done, key=key)


def edit(
    project: Project,
    path: StrPath,
    editor: Callable[[Path], None],
    *,
    again: Callable[[errors.BadDocument], bool] = lambda _: False,
) -> Edited:
    """Let an editor change a copy of a file; save it if it changed, and stage it.

    Arguments, results and errors are those of `Repository.edit`.
    """
    name, old = _editable(project, path, create=True)
    with _private_directory(project) as directory:
        draft = directory / posixpath.basename(name)
        files.write_new(draft, _NEW, [old.data if old else b""], about=draft)
        editor(draft)
        while (flaw := _flaw(name, text := _text(draft))) and again(flaw):
            editor(draft)
        if text == (old.data if old else b""):
            return Edited(path=name)
        try:
            if flaw:
                raise flaw
            with project.operation(f"edit {name}"):
                return _save(project, name, old, text)
        except (errors.BadDocument, errors.LocalChanges) as error:
            raise errors.NotSaved(name, error.message, draft) from None
        except errors.DorkyError as error:
            raise errors.NotSaved(name, error.message, draft, cause=error) from None


def _editable(project: Project, path: StrPath, *, create: bool) -> tuple[str, Content | None]:
    """Return the path of a file to change, and its content; None for a new file.

    Raises:
        NotSetUp: The file has not been pulled yet.
    """
    if not project.is_set_up or not (
        was_pulled(project) or project.database.ref(f"{ORIGIN}/{MAIN}") is None
    ):
        raise errors.NotSetUp(project.root)
    found = None
    try:
        name, found = Reader(project, as_staged=True).follow(path)
    except (errors.PathNotFound, errors.NoCommits):
        if not create:
            raise
        name = project.repository_path(path)
    if project.ignore.ignored(name) and name not in project.index.rows():
        raise errors.IgnoredPath(name, during="edit")
    return name, found


def _save(project: Project, name: str, old: Content | None, data: bytes) -> Edited:
    """Write new content to a file, and stage it; if staging is refused, restore the old content.

    Raises:
        LocalChanges: The file has changed since it was read.
    """
    if moment(project.worktree.stat(name)) != (old.seen if old else None):
        raise errors.LocalChanges(name, during="edit")
    differs = old is None or old.data != data
    was = keep_contents(project, name) if old and old.seen and differs else None
    if differs:
        put_file(project, name, old.mode if old else stat_module.S_IFREG | _NEW, data)
    try:
        staged = stage(project, project.root / name, seen=not (old and old.seen))
    except BaseException:
        if differs and old and old.seen:
            put_file(project, name, old.mode, old.data)
        elif differs:
            project.worktree.remove(name)
        raise
    if differs:
        oplog.note_disk(project.database, {name: (was, project.index.rows()[name])})
    what: Literal["added", "modified"] = "modified" if old else "added"
    return Edited(path=name, what=what if differs else None, ignored=staged.ignored)


def put_file(project: Project, name: str, mode: int, data: bytes) -> None:
    """Write a file to the worktree, replacing the old one if there is one."""
    with project.worktree.writing() as writing:
        writing.install(writing.prepare(name, mode, [data]), name)


@contextlib.contextmanager
def _private_directory(project: Project) -> Iterator[Path]:
    """Yield a directory for unencrypted text; delete it afterwards, unless a text is kept in it."""
    import tempfile

    place = project.config.memory or project.base
    with files.disk_errors(place):
        made = Path(tempfile.mkdtemp(prefix="dorky-", dir=place))
    try:
        yield made
    except errors.NotSaved:
        raise  # the directory holds the only copy
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    shutil.rmtree(made, ignore_errors=True)


def _missing(path: str, key: str, names: Iterable[str]) -> errors.NoSuchVariable:
    near = difflib.get_close_matches(key, [name for name in names if is_shown(name)], n=1)
    return errors.NoSuchVariable(path, key, near=near[0] if near else None)


def _empty(name: str) -> bytes:
    """Return a document without keys."""
    return b"{}\n" if documents.syntax_of(name) is Syntax.JSON else b""


def _flaw(name: str, text: bytes) -> errors.BadDocument | None:
    """Return why a text can't be the content of a file of this name; None if it can."""
    if documents.syntax_of(name) is not None:
        try:
            documents.parse(name, text)
        except errors.BadDocument as error:
            return error
    return None


def _text(draft: Path) -> bytes:
    with files.disk_errors(draft):
        return draft.read_bytes()
