"""A batch: changes of many files that become one commit, whole or not at all."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from dorky import errors
from dorky.library import catalog, commits, folders, streams, uploads
from dorky.library.commits import Change, Delete, Put, Request
from dorky.library.contents import Content
from dorky.library.records import NOTHING, CommitInfo, IfVersion, StrPath
from dorky.library.session import Session
from dorky.library.sources import Source

if TYPE_CHECKING:
    from typing_extensions import Self


class Batch:
    """Changes that become one commit when the ``with`` block ends (see `DorkyClient.batch`).

    Several threads may use it. It sees the repository as it was when the batch began, with the
    changes that were made in it.

    Attributes:
        commit: The commit, once the block has ended; None if there was nothing to change.
    """

    def __init__(self, session: Session, message: str, if_version: IfVersion) -> None:
        self.commit: CommitInfo | None = None
        self._session = session
        self._message = message
        self._if_version = if_version
        self._version = session.seen or ""
        self._view = catalog.view_of(session, self._version)
        self._lock = threading.RLock()
        self._changes: dict[str, Change] = {}
        self._writers: list[streams.Writer] = []
        self._held = 0
        self._ended = False

    def upload(
        self,
        source: Source,
        path: StrPath | None = None,
        *,
        metadata: Mapping[str, str] = NOTHING,
        content_type: str = "",
        compress: str = "zstd",
        level: int | None = None,
    ) -> None:
        """Put a file at a path. The source is read at once.

        Args:
            source: As in `DorkyClient.upload`.
            path: As in `DorkyClient.upload`.
            metadata: Your own metadata, at most 8 KiB.
            content_type: The media type; guessed by the path if it is not given.
            compress: The codec: ``zstd``, ``gzip``, ``lz4``, ``brotli`` or ``none``.
            level: The codec's level; None: the usual one.

        Raises:
            UsageError: The block has ended.
        """
        self._check()
        meta = catalog.meta_of(metadata, content_type, compress)
        place = uploads.target(source, path)
        put = uploads.taken(self._session, source, place, meta, compress=compress, level=level)
        self._note(put)

    def open(
        self, path: StrPath, mode: str = "wb", *, encoding: str = "utf-8", **upload_options: Any
    ) -> IO[Any]:
        """Open a file for writing. It is committed with the batch, if it is closed by then.

        Args:
            path: The file.
            mode: ``wb`` or ``w``.
            encoding: The encoding of text.
            upload_options: Options of `upload`.
        """
        self._check()
        what, text = streams.check_mode(mode)
        if what != "w":
            raise errors.UsageError(f"a batch opens no file as {mode!r}: take wb or w")
        target = catalog.checked(uploads.text_of(path))
        upload = functools.partial(self.upload, path=target, **upload_options)
        writer = streams.Writer(target, upload)
        with self._lock:
            self._writers.append(writer)
        buffer = streams.Buffered(writer)
        return streams.Text(buffer, encoding=encoding) if text else buffer

    def set_metadata(
        self, path: StrPath, metadata: Mapping[str, str], *, replace: bool = False
    ) -> None:
        """Change a file's metadata.

        Args:
            path: The file.
            metadata: The metadata.
            replace: Whether names that are not given are forgotten.
        """
        with self._lock:
            put = self._find(catalog.checked(uploads.text_of(path)))
            meta = catalog.changed_meta(put.meta, metadata, replace=replace)
            self._note(put._replace(meta=meta))

    def delete(self, path: StrPath, *, recursive: bool = False, missing_ok: bool = False) -> None:
        """Delete a file. Its versions stay in history.

        Args:
            path: The file.
            recursive: Whether ``path`` may be a directory, all of which is deleted.
            missing_ok: Whether there may be nothing.

        Raises:
            NoSuchFile: There is no such file.
        """
        text = uploads.text_of(path)
        with self._lock:
            if recursive:
                found = self._below(catalog.prefix(text))
            else:
                found = [text] if self._holds(catalog.checked(text)) else []
            if not found and not missing_ok:
                self._find(text)
                raise errors.NoSuchFile(text, self._session.url)
            for name in found:
                self._note(Delete(name))

    def copy(self, source: StrPath, target: StrPath) -> None:
        """Copy a file, with its metadata; nothing is uploaded again.

        Args:
            source: The file, perhaps of an earlier version.
            target: The path of the copy.
        """
        where = catalog.address(uploads.text_of(source))
        path = catalog.checked(uploads.text_of(target))
        with self._lock:
            if where.version:
                view = catalog.view_of(self._session, where.version)
                placed = catalog.find(self._session, view, where.path, where.version)
                put = Put(path, placed, placed.entry.meta)
            else:
                put = self._find(where.path)._replace(path=path)
            self._note(put)

    def move(self, source: StrPath, target: StrPath) -> None:
        """Move a file.

        Args:
            source: The file.
            target: Its new path.
        """
        old, new = (catalog.checked(uploads.text_of(path)) for path in (source, target))
        with self._lock:
            put = self._find(old)
            if old != new:
                self._note(Delete(old))
                self._note(put._replace(path=new))

    def __enter__(self) -> Self:
        self._check()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._lock:
            self._ended = True
        left = [writer for writer in self._writers if not writer.closed]
        for writer in left:
            writer.drop()
            writer.close()
        if kind is None and left:
            names = ", ".join(writer.name for writer in left)
            raise errors.UsageError(f"{names}: still open at the end of the batch")
        if kind is None and self._changes:
            self._commit()

    def _commit(self) -> None:
        # A file must be gone before its path can become a directory.
        changes = sorted(self._changes.values(), key=lambda change: isinstance(change, Put))
        if self._if_version is None:
            held = dict(self._view.files([*self._changes]))
            expected: commits.Expected | None = {path: held.get(path) for path in self._changes}
        else:
            expected = catalog.expected(self._session, self._changes, self._if_version)
        message = self._message or f"Change {len(changes)} files"
        request = Request(changes, message, expected=expected)
        done = commits.submit(self._session, request)
        if done.commit:
            self.commit = catalog.commit_of(self._session, done.commit)

    def _check(self) -> None:
        if self._ended:
            raise errors.UsageError("the batch has ended")

    def _find(self, path: str) -> Put:
        """Return the file at a path, as the change that would put it there."""
        change = self._changes.get(path)
        if isinstance(change, Put):
            return change
        if change:
            raise errors.NoSuchFile(path, self._session.url)
        placed = catalog.find(self._session, self._view, path, self._version)
        return Put(path, placed, placed.entry.meta)

    def _holds(self, path: str) -> bool:
        change = self._changes.get(path)
        return isinstance(change, Put) if change else bool(dict(self._view.files([path])))

    def _below(self, directory: str) -> list[str]:
        """Return the files at or below a directory."""
        names = {name for name, _ in catalog.listed(self._view, directory, recursive=True)}
        under = f"{directory}/" if directory else ""
        names |= {path for path in self._changes if path == directory or path.startswith(under)}
        return sorted(name for name in names if self._holds(name))

    def _note(self, change: Change) -> None:
        with self._lock:
            self._check()
            self._changes[change.path] = change
            content = change.content if isinstance(change, Put) else None
            self._held += len(content.body or b"") if isinstance(content, Content) else 0
            if self._held > folders.HELD:
                puts = [each for each in self._changes.values() if isinstance(each, Put)]
                self._changes |= {put.path: put for put in folders.stored(self._session, puts)}
                self._held = 0
