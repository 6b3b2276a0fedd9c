"""`DorkyClient`: files in a remote repository, from Python, without a worktree.

    from dorky import DorkyClient

    client = DorkyClient("s3://acme-vault/models")
    client.upload("model.bin", "models/v3.bin")
    client.download("models/v3.bin", "out.bin")

An upload is a commit in the remote: it has a history, is encrypted, and the command line sees it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from dorky import errors, files
from dorky.drivers.base import check_writable
from dorky.format.codec import coding
from dorky.library import (
    buckets,
    catalog,
    commits,
    contents,
    folders,
    glimpses,
    many,
    ranges,
    streams,
    uploads,
)
from dorky.library.batch import Batch
from dorky.library.catalog import Address
from dorky.library.commits import Change, Delete, Put, Request
from dorky.library.contents import Objects
from dorky.library.metering import Meter, Report
from dorky.library.parts import UploadSession
from dorky.library.ranges import Range
from dorky.library.records import (
    ABSENT,
    NOTHING,
    BatchItem,
    BatchResult,
    CommitInfo,
    Config,
    Credentials,
    Download,
    FileInfo,
    IfVersion,
    Progress,
    Retry,
    Snapshot,
    StrPath,
    Timeout,
)
from dorky.library.session import Session, is_secret
from dorky.library.sources import Source
from dorky.paths import matches
from dorky.results import BucketInfo, BucketReport
from dorky.store import history
from dorky.store.history import Placed

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "ABSENT",
    "Batch",
    "BatchItem",
    "BatchResult",
    "CommitInfo",
    "Config",
    "Credentials",
    "DorkyClient",
    "Download",
    "FileInfo",
    "Progress",
    "Retry",
    "Snapshot",
    "Source",
    "Timeout",
    "UploadSession",
]

Patterns = Sequence[str] | str | None


class DorkyClient:
    """A client of one repository. Any number of threads may use it, also after a fork.

    Nothing is read before the first call. A client may be used as a context manager, which closes
    it; after that the next call opens it again.

    Args:
        url: The repository: ``s3://bucket/prefix``, ``gs://bucket/prefix`` or a directory. None:
            ``DORKY_URL``, ``DORKY_BUCKET``, or the nearest `.dorkyrc`, whose pins then apply.
        config: The configuration. The keywords override its fields, which `Config` describes.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        config: Config | None = None,
        identity: StrPath | None = None,
        fingerprint: str | None = None,
        unencrypted: bool | None = None,
        credentials: Credentials | None = None,
        profile: str | None = None,
        region: str | None = None,
        endpoint: str | None = None,
        ca_bundle: StrPath | None = None,
        verify: bool | None = None,
        user_agent: str | None = None,
        retry: Retry | None = None,
        timeout: Timeout | float | None = None,
        max_concurrency: int | None = None,
        chunk_size: int | None = None,
        part_size: int | None = None,
        max_age: float | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if value is not None}
        chosen = {
            name: os.fspath(value) if isinstance(value, os.PathLike) else value
            for name, value in given.items()
            if name in Config.__struct_fields__
        }
        self._config = msgspec.structs.replace(config or Config(), **chosen)
        self._session = Session(self._config)
        self._pin = ""

    @classmethod
    def from_env(cls, **keywords: Any) -> Self:
        """Return a client of the repository that the environment names, or the nearest `.dorkyrc`.

        Args:
            keywords: Further keywords of the class.
        """
        return cls(None, **keywords)

    @classmethod
    def create(
        cls,
        url: str,
        *,
        exist_ok: bool = False,
        unencrypted: bool = False,
        recovery: str | None = None,
        **keywords: Any,
    ) -> Self:
        """Start a repository; return a client that accepts its key alone.

        Args:
            url: An empty place.
            exist_ok: Whether a repository may be there already.
            unencrypted: Whether it is not to be encrypted.
            recovery: A public key (age, or of SSH) that opens it, too.
            keywords: Further keywords of the class.

        Raises:
            RepositoryExists: There is a repository, and ``exist_ok`` was not given.
        """
        from dorky.library import creation

        client = cls(url, unencrypted=unencrypted or None, **keywords)
        with contextlib.ExitStack() as stack:
            if exist_ok:
                stack.enter_context(contextlib.suppress(errors.RepositoryExists))
            made = creation.create(client._config, recovery or "")
            if made:
                client = cls(url, **{**keywords, "unencrypted": unencrypted, "fingerprint": made})
        return client

    def at(self, version: str) -> Self:
        """Return a client that looks at one version, and can't change anything."""
        made = type(self)(config=self._config)
        vars(made).update(_session=self._session, _pin=catalog.version_of(version))
        return made

    @property
    def url(self) -> str:
        """Return the repository's URL."""
        return self._session.url

    @property
    def config(self) -> Config:
        """Return the configuration."""
        return self._config

    def set_credentials(self, credentials: Credentials | None) -> None:
        """Use another key of the storage service from now on; None: the environment's."""
        self._config = msgspec.structs.replace(self._config, credentials=credentials)
        self._session.reconnect(self._config)

    def close(self) -> None:
        """Close connections, and delete the local copy of the history."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"DorkyClient({self._config!r})"

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        """Pickle the configuration, without secrets.

        Raises:
            CantPickle: The client was given a secret by value.
        """
        if self._config.credentials:
            raise errors.CantPickle("credentials", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        if is_secret(self._config.identity):
            raise errors.CantPickle("an identity", "DORKY_IDENTITY")
        return _unpickled, (type(self), self._config, self._pin)

    # --- versions --------------------------------------------------------------------------

    def _version(self, named: str = "") -> str:
        """Return the version to read: the one named, the pinned one, or the newest."""
        if named := named or self._pin:
            return catalog.known(self._session, named)
        return self._session.refresh() or ""

    def _found(self, path: StrPath, version: str) -> tuple[Address, Placed]:
        named = catalog.address(uploads.text_of(path), version)
        where = named._replace(version=self._version(named.version))
        view = catalog.view_of(self._session, where.version)
        return where, catalog.find(self._session, view, where.path, where.version)

    def _content(self, path: StrPath, version: str) -> tuple[str, Placed, Objects]:
        """Return the path of a file, the file, and what it is read from."""
        named = catalog.address(uploads.text_of(path), version)
        if not (named.version or self._pin):
            found = glimpses.find(self._session, named.path)
            if isinstance(found, glimpses.File):
                return named.path, *found
        where, placed = self._found(path, version)
        return where.path, placed, contents.Fetched(self._session)

    def _info(self, where: Address, placed: Placed) -> FileInfo:
        return catalog.info(self._session, where.version, where.path, placed)

    def _writable(self) -> Session:
        """Return the session, which has read the root: it tells who may write where."""
        if self._pin:
            raise errors.ReadOnlyClient(self._pin[:12])
        check_writable(self._session.remote.driver)
        self._session.open()
        return self._session

    # --- writing ---------------------------------------------------------------------------

    def upload(
        self,
        source: Source,
        path: StrPath | None = None,
        *,
        message: str = "",
        metadata: Mapping[str, str] = NOTHING,
        content_type: str = "",
        compress: str = "zstd",
        level: int | None = None,
        idempotency_key: str = "",
        if_version: IfVersion = None,
        force: bool = False,
        coalesce: bool = True,
        progress: Report | None = None,
    ) -> FileInfo:
        """Upload a file, as a commit in the remote. When it returns, that is durable.

        Args:
            source: The path of a file, bytes, a file open for reading (which is not closed), or an
                iterable of bytes. It is read once, in bounded memory.
            path: The path in the repository; with a slash at its end, a directory. None: the
                source's own path if that is relative, else its name.
            message: The commit's message.
            metadata: Your own metadata, at most 8 KiB.
            content_type: The media type; guessed by the path if it is not given.
            compress: The codec: ``zstd``, ``gzip``, ``lz4``, ``brotli`` or ``none``.
            level: The codec's level; None: the usual one.
            idempotency_key: A key for this upload. If it is repeated with the same content within
                24 hours, the first result is returned and nothing is changed.
            if_version: The version that the path must still be at; `ABSENT`: there must be no file.
                None: what the path holds in the newest state that this client has seen.
            force: Whether to overwrite whatever the path holds. The old version stays in history.
            coalesce: Whether the commit may hold other uploads that are under way.
            progress: Receives the progress.

        Raises:
            UpdateConflict: Somebody else has changed the file.
            IdempotencyKeyReused: The key was used for something else.
            ForbiddenError: You may not write, or not there.
        """
        session = self._writable()
        target = uploads.target(source, path)
        expected = catalog.expected(session, [target], if_version, force=force)
        meter = Meter(progress, "upload")
        meta = catalog.meta_of(metadata, content_type, compress)
        put = uploads.taken(
            session, source, target, meta, compress=compress, level=level, meter=meter
        )
        request = Request(
            [put],
            message or f"Upload {target}",
            expected=expected,
            key=idempotency_key,
            alone=not coalesce,
        )
        done = commits.submit(session, request)
        meter.finish(target)
        return self._info(Address(done.commit, target), done.files[target])

    def set_metadata(
        self,
        path: StrPath,
        metadata: Mapping[str, str],
        *,
        replace: bool = False,
        if_version: IfVersion = None,
    ) -> FileInfo:
        """Change a file's metadata; its content is not uploaded again.

        Args:
            path: The file.
            metadata: The metadata.
            replace: Whether names that are not given are forgotten.
            if_version: As in `upload`.
        """
        session = self._writable()
        where, placed = self._found(path, "")
        expected = catalog.expected(session, [where.path], if_version, force=False)
        if if_version is None:
            expected = {where.path: placed}
        meta = catalog.changed_meta(placed.entry.meta, metadata, replace=replace)
        put = Put(where.path, placed, meta)
        request = Request([put], f"Describe {where.path}", expected=expected)
        done = commits.submit(session, request)
        return self._info(Address(done.commit, where.path), done.files[where.path])

    def delete(
        self,
        path: StrPath,
        *,
        recursive: bool = False,
        missing_ok: bool = False,
        message: str = "",
        if_version: IfVersion = None,
        force: bool = False,
    ) -> CommitInfo | None:
        """Delete a file. Its versions stay in history.

        Args:
            path: The file.
            recursive: Whether ``path`` may be a directory, all of which is deleted.
            missing_ok: Whether there may be nothing.
            message: The commit's message.
            if_version: As in `upload`.
            force: As in `upload`.

        Returns:
            The commit; None if there was nothing to delete.

        Raises:
            NoSuchFile: There is no such file.
            IsADirectory: It is a directory, and ``recursive`` was not given.
        """
        session = self._writable()
        target = (
            catalog.prefix(uploads.text_of(path))
            if recursive
            else catalog.checked(uploads.text_of(path))
        )
        seen = session.seen or ""
        version = self._version()
        view = catalog.view_of(session, version)
        if recursive:
            found = [name for name, _ in catalog.listed(view, target, recursive=True)]
        else:
            found = [target] if target in dict(view.files([target])) else []
        if not found:
            if missing_ok:
                return None
            catalog.find(session, view, target, version)
            raise errors.NoSuchFile(target, session.url)
        expected = catalog.expected(session, found, if_version, force=force, seen=seen)
        changes: list[Change] = [Delete(name) for name in found]
        request = Request(changes, message or f"Delete {target or '/'}", expected=expected)
        return catalog.commit_of(session, commits.submit(session, request).commit)

    def copy(
        self,
        source: StrPath,
        target: StrPath,
        *,
        to: DorkyClient | None = None,
        if_version: IfVersion = None,
        force: bool = False,
    ) -> FileInfo:
        """Copy a file, with its metadata; within a repository nothing is uploaded again.

        Args:
            source: The file, perhaps of an earlier version.
            target: The path of the copy.
            to: The client of another repository to copy to.
            if_version: As in `upload`, of the target.
            force: As in `upload`.

        Raises:
            WouldOpen: The target is for readers who can't read the source.
        """
        seen = self._session.seen or ""
        where, placed = self._found(source, "")
        path = catalog.checked(uploads.text_of(target))
        if to is None or to is self:
            session = self._writable()
            expected = catalog.expected(session, [path], if_version, force=force, seen=seen)
            put = Put(path, placed, placed.entry.meta)
            request = Request([put], f"Copy {where.path} to {path}", expected=expected)
            done = commits.submit(session, request)
            return self._info(Address(done.commit, path), done.files[path])
        info = self._info(where, placed)
        return to.upload(
            contents.blocks(contents.Fetched(self._session), placed),
            path,
            message=f"Copy {where.path} from {self._session.url}",
            metadata=info.custom,
            content_type=info.content_type,
            compress=info.compression,
            if_version=if_version,
            force=force,
        )

    def move(self, source: StrPath, target: StrPath, *, force: bool = False) -> CommitInfo:
        """Move a file, in one commit.

        Args:
            source: The file.
            target: Its new path.
            force: Whether to overwrite whatever the target holds.

        Raises:
            WouldOpen: The target is for readers who can't read the source.
        """
        session = self._writable()
        seen = session.seen or ""
        where, placed = self._found(catalog.checked(uploads.text_of(source)), "")
        path = catalog.checked(uploads.text_of(target))
        expected: dict[str, Placed | None] = {where.path: placed}
        expected |= catalog.expected(session, [path], None, force=force, seen=seen) or {}
        changes: list[Change] = [Delete(where.path), Put(path, placed, placed.entry.meta)]
        if path == where.path:
            changes = []
        request = Request(changes, f"Move {where.path} to {path}", expected=expected)
        return catalog.commit_of(session, commits.submit(session, request).commit)

    # --- many files ------------------------------------------------------------------------

    def upload_batch(
        self,
        items: Iterable[StrPath | tuple[Source, StrPath]],
        *,
        prefix: str = "",
        message: str = "",
        compress: str = "zstd",
        force: bool = False,
        return_exceptions: bool = False,
        progress: Report | None = None,
    ) -> BatchResult:
        """Upload many files at once, as one commit. A bad one fails alone.

        Args:
            items: Files on the disk, or pairs of a source and a path.
            prefix: A directory to put all of them in.
            message: The commit's message.
            compress: As in `upload`.
            force: As in `upload`.
            return_exceptions: Whether to return even if some have failed.
            progress: Receives the progress.

        Raises:
            BatchError: Some have failed; the others are uploaded.
        """
        result = many.upload(
            self._writable(),
            items,
            catalog.prefix(prefix),
            message=message,
            compress=compress,
            force=force,
            progress=progress,
        )
        return many.checked(result, return_exceptions=return_exceptions)

    def download_batch(
        self,
        items: Iterable[StrPath],
        dest_dir: StrPath,
        *,
        version: str = "",
        return_exceptions: bool = False,
        progress: Report | None = None,
    ) -> BatchResult:
        """Download many files at once into a directory, each at its own path below it.

        Args:
            items: Paths or ids.
            dest_dir: The directory.
            version: The version; empty: the newest.
            return_exceptions: Whether to return even if some have failed.
            progress: Receives the progress.

        Raises:
            BatchError: Some have failed; the others are there.
        """
        newest = self._version(catalog.version_of(version) if version else "")
        result = many.download(self._session, items, Path(dest_dir), newest, progress)
        return many.checked(result, return_exceptions=return_exceptions)

    def upload_folder(
        self,
        folder: StrPath,
        path: str = "",
        *,
        allow_patterns: Patterns = None,
        ignore_patterns: Patterns = None,
        delete: bool = False,
        message: str = "",
        force: bool = False,
    ) -> CommitInfo:
        """Upload a directory, as one commit, whole or not at all.

        Args:
            folder: The directory.
            path: The directory in the repository.
            allow_patterns: Only files that match one of these, in the syntax of `.gitignore`.
            ignore_patterns: And none of these.
            delete: Whether to delete the files there that match and that ``folder`` lacks.
            message: The commit's message.
            force: As in `upload`.

        Raises:
            UnstorablePath: A file is a link, for example.
            UpdateConflict: Somebody else has changed one of the files.
        """
        return many.upload_folder(
            self._writable(),
            Path(folder),
            catalog.prefix(path),
            folders.selector(allow_patterns, ignore_patterns),
            delete=delete,
            message=message,
            force=force,
        )

    def start_upload(
        self,
        path: StrPath,
        *,
        metadata: Mapping[str, str] = NOTHING,
        content_type: str = "",
        compress: str = "zstd",
        level: int | None = None,
        if_version: IfVersion = None,
        force: bool = False,
    ) -> UploadSession:
        """Start the upload of a file in parts that the caller produces.

        Args:
            path: The path in the repository.
            metadata: As in `upload`.
            content_type: As in `upload`.
            compress: As in `upload`.
            level: As in `upload`.
            if_version: As in `upload`.
            force: As in `upload`.

        Raises:
            ForbiddenError: You may not write, or not there.
        """
        session = self._writable()
        target = catalog.checked(uploads.text_of(path))
        expected = catalog.expected(session, [target], if_version, force=force)
        meta = catalog.meta_of(metadata, content_type, compress)
        return UploadSession(session, target, meta, coding(compress, level), expected)

    def batch(self, *, message: str = "", if_version: IfVersion = None) -> Batch:
        """Return a batch: a context manager for many changes that become one commit, or none.

        If an exception leaves the block, nothing is changed. If somebody else has changed one of
        the files since the batch began, nothing is either.

        Args:
            message: The commit's message.
            if_version: The version that all changed paths must still be at; `ABSENT`: none of them
                may hold a file. None: what they hold when the batch begins.

        Raises:
            UpdateConflict: Somebody else has changed one of the files; at the end of the block.
            UsageError: A file that was opened in the batch is still open at its end.
        """
        return Batch(self._writable(), message, if_version)

    def snapshot(
        self,
        dest: StrPath,
        *,
        allow_patterns: Patterns = None,
        ignore_patterns: Patterns = None,
        version: str = "",
        delete: bool = False,
        dry_run: bool = False,
    ) -> Snapshot:
        """Bring a directory to a version: files that it holds already are not fetched again.

        Args:
            dest: The directory; files in it are replaced.
            allow_patterns: Only files that match one of these, in the syntax of `.gitignore`.
            ignore_patterns: And none of these.
            version: The version; empty: the newest.
            delete: Whether to delete the files that match and that the version lacks.
            dry_run: Whether only to say what would be done.
        """
        found = self._version(catalog.version_of(version) if version else "")
        selects = folders.selector(allow_patterns, ignore_patterns)
        return many.snapshot(
            self._session, Path(dest), found, selects, delete=delete, dry_run=dry_run
        )

    def open(
        self,
        path: StrPath,
        mode: str = "rb",
        *,
        version: str = "",
        encoding: str = "utf-8",
        **upload_options: Any,
    ) -> IO[Any]:
        """Open a file, as Python's own `open` does.

        A file open for reading is seekable, and fetches only the chunks that are touched. A file
        open for writing is committed by `close`, unless an exception is on its way.

        Args:
            path: The file.
            mode: ``rb``, ``r``, ``wb``, ``w``, ``xb`` or ``x``.
            version: The version to read; empty: the newest.
            encoding: The encoding of text.
            upload_options: Options of `upload`.
        """
        what, text = streams.check_mode(mode)
        if what == "r":
            name, placed, objects = self._content(path, version)
            reader = io.BufferedReader(streams.Reader(objects, name, placed))
            return io.TextIOWrapper(reader, encoding=encoding) if text else reader
        self._writable()
        target = catalog.checked(uploads.text_of(path))
        if what == "x":
            upload_options.setdefault("if_version", ABSENT)
        upload = functools.partial(self.upload, path=target, **upload_options)
        buffer = streams.Buffered(streams.Writer(target, upload))
        return streams.Text(buffer, encoding=encoding) if text else buffer

    # --- reading ---------------------------------------------------------------------------

    def read(
        self, path: StrPath, *, start: int = 0, end: int | None = None, version: str = ""
    ) -> bytes:
        """Return the content of a file, verified.

        Args:
            path: The file.
            start: The first byte; only the chunks that hold the range are fetched.
            end: The byte to stop before; None: the end.
            version: The version; empty: the newest.

        Raises:
            NoSuchFile: There is no such file.
            IntegrityError: The stored content is damaged.
        """
        ranges.check(start, end)
        _, placed, objects = self._content(path, version)
        return b"".join(contents.blocks(objects, placed, start, end))

    def stream(
        self, path: StrPath, *, chunk_size: int | None = None, version: str = ""
    ) -> Iterator[bytes]:
        """Yield the content of a file in blocks of ``chunk_size`` bytes, in bounded memory.

        Args:
            path: The file.
            chunk_size: The bytes of a block; only the last may be shorter.
            version: The version; empty: the newest.
        """
        _, placed, objects = self._content(path, version)
        size = self._config.chunk_size if chunk_size is None else chunk_size
        if size < 1:
            raise errors.UsageError("a chunk has at least one byte")
        return ranges.even(contents.blocks(objects, placed), size)

    def download(
        self,
        path: StrPath,
        dest: StrPath | IO[bytes] = ".",
        *,
        version: str = "",
        byte_range: Range | None = None,
        progress: Report | None = None,
    ) -> Download:
        """Download a file, verified. A file on the disk is replaced as a whole or not at all.

        Args:
            path: The file.
            dest: A file, a directory to put the file in, or a file object open for writing.
            version: The version; empty: the newest.
            byte_range: A part of it: ``(start, end)``, or ``"bytes=0-99"`` as in HTTP.
            progress: Receives the progress.

        Raises:
            NoSuchFile: There is no such file.
            DiskError: It can't be written.
        """
        where, placed = self._found(path, version)
        info = self._info(where, placed)
        if info.kind == "link":
            raise errors.UsageError(f"{where.path} is a symbolic link, which has no content")
        start, end = ranges.resolve(byte_range, info.size)
        meter = Meter(progress, "download", total=end - start)

        def counted() -> Iterator[bytes]:
            objects = contents.Fetched(self._session)
            for block in contents.blocks(objects, placed, start, end):
                yield block
                meter.advance(where.path, len(block))

        written = ""
        if isinstance(dest, str | os.PathLike):
            place = Path(dest)
            if place.is_dir() or str(dest).endswith("/"):
                place /= where.path.rpartition("/")[2]
            with files.disk_errors(place.parent):
                place.parent.mkdir(parents=True, exist_ok=True)
            files.write_stream(place, placed.entry.mode & ~files.umask(), counted())
            written = str(place)
        else:
            for block in counted():
                dest.write(block)
        meter.finish(where.path)
        return Download(info=info, local_path=written)

    def stat(self, path: StrPath, *, version: str = "") -> FileInfo:
        """Return what is known of a file.

        Args:
            path: The file.
            version: The version; empty: the newest.

        Raises:
            NoSuchFile: There is no such file.
        """
        return self._info(*self._found(path, version))

    get_metadata = stat

    def exists(self, path: StrPath, *, version: str = "") -> bool:
        """Return whether there is such a file.

        Args:
            path: The file.
            version: The version; empty: the newest.
        """
        named = catalog.address(uploads.text_of(path), version)
        if not (named.version or self._pin):
            found = glimpses.find(self._session, named.path)
            if found is not None:
                return isinstance(found, glimpses.File)
        with contextlib.suppress(errors.NoSuchFile, errors.IsADirectory):
            self._found(path, version)
            return True
        return False

    def list(
        self,
        prefix: str = "",
        *,
        recursive: bool = True,
        limit: int | None = None,
        start_after: str = "",
        version: str = "",
        details: bool = True,
    ) -> Iterator[FileInfo]:
        """Return the files in a directory, sorted by path.

        Args:
            prefix: The directory: ``a`` and ``a/`` have ``a/b`` in them, and not ``ab``.
            recursive: Whether to list what is further below; if not, directories are listed, too.
            limit: The most files.
            start_after: Only paths after this one.
            version: The version; empty: the newest.
            details: Whether to look up when and by whom each file was last changed, and the bytes
                that it takes in the remote. In a long history that costs most.
        """
        directory = catalog.prefix(prefix)
        found = self._version(catalog.version_of(version) if version else "")
        view = catalog.view_of(self._session, found)

        def chosen() -> Iterator[tuple[str, Placed | None]]:
            for count, item in enumerate(
                item
                for item in catalog.listed(view, directory, recursive=recursive)
                if item[0] > start_after
            ):
                if limit is not None and count >= limit:
                    return
                yield item

        return catalog.infos(self._session, found, chosen(), details=details)

    def glob(self, pattern: str, *, version: str = "") -> Iterator[FileInfo]:
        """Return the files that match a shell pattern: ``*`` in a name, ``**`` for directories.

        Args:
            pattern: The pattern.
            version: The version; empty: the newest.
        """
        found = self._version(catalog.version_of(version) if version else "")
        view = catalog.view_of(self._session, found)
        held = ((path, placed) for path, placed in catalog.listed(view, "", recursive=True))
        chosen = ((path, placed) for path, placed in held if matches(path, pattern))
        return catalog.infos(self._session, found, chosen)

    def versions(self, path: StrPath, *, limit: int | None = None) -> Iterator[FileInfo]:
        """Return every version of a file, the newest first.

        Args:
            path: The file, whether it still exists or not.
            limit: The most versions.
        """
        target = catalog.checked(uploads.text_of(path))
        head = self._version()
        found = catalog.versions(self._session, head, target) if head else iter(())
        return (info for _, info in zip(_counted(limit), found, strict=False))

    def log(self, *, limit: int | None = None) -> Iterator[CommitInfo]:
        """Return the commits, the newest first.

        Args:
            limit: The most commits.
        """
        head = self._version()
        nodes = history.ancestors(self._session.store, [head] if head else [])
        infos = (catalog.commit_info(self._session, node) for node in nodes)
        return (info for _, info in zip(_counted(limit), infos, strict=False))

    # --- buckets ---------------------------------------------------------------------------

    def create_bucket(
        self, url: str, *, region: str = "", project: str = "", exist_ok: bool = False
    ) -> BucketInfo:
        """Create a bucket: private, public access blocked, with versioning, over TLS alone.

        Args:
            url: ``s3://NAME`` or ``gs://NAME``.
            region: The region, or Google's location; the usual one if it is not given.
            project: Google's project; ``GOOGLE_CLOUD_PROJECT``, or that of the credentials.
            exist_ok: Whether it may exist: then only its settings are made.

        Returns:
            The bucket. Its checks say which settings the server lacks, or you may not make.

        Raises:
            ConflictError: It exists.
        """
        return buckets.create(self._config, url, region=region, project=project, exist_ok=exist_ok)

    def list_buckets(self, url: str = "s3://", *, project: str = "") -> Sequence[BucketInfo]:
        """Return the buckets of the account, or of Google's project.

        Args:
            url: ``s3://`` or ``gs://``.
            project: As in `create_bucket`.
        """
        return buckets.listed(self._config, url, project=project)

    def delete_bucket(self, url: str) -> None:
        """Delete an empty bucket.

        Raises:
            ConflictError: It holds objects, old versions, or uploads that were never finished.
        """
        buckets.delete(self._config, url)

    def validate_bucket(self, url: str) -> BucketReport:
        """Examine a place for a repository; it is written to, and left as it was.

        Args:
            url: A bucket, a prefix of one, or a directory.

        Returns:
            The findings, and the least rights of users who read, write and maintain.
        """
        return buckets.validate(self._config, url)


def _unpickled(kind: type[DorkyClient], config: Config, pin: str) -> DorkyClient:
    client = kind(config=config)
    return client.at(pin) if pin else client


def _counted(limit: int | None) -> Iterable[int]:
    import itertools

    return itertools.count() if limit is None else range(limit)
