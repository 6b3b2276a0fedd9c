"""`DorkyClient`: files in a remote repository, from Python, without a worktree.

    from dorky import DorkyClient

    client = DorkyClient("s3://acme-vault/models")
    client.upload("model.bin", "models/v3.bin")
    client.download("models/v3.bin", "out.bin")

An upload is a commit in the remote: it has a history, is encrypted, and the command line sees it.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from dorky import errors
from dorky.format.codec import coding
from dorky.library import (
    buckets,
    catalog,
    changes,
    folders,
    many,
    reads,
    streams,
    uploads,
)
from dorky.library.batch import Batch
from dorky.library.metering import Report
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
from dorky.library.scope import Scope, configured
from dorky.library.session import Session, is_secret
from dorky.library.sources import Source
from dorky.results import (
    Attestation,
    BucketInfo,
    BucketReport,
    Sbom,
    SbomFormat,
    Signature,
    Verification,
)

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
        cache: StrPath | bool | None = None,
        cache_max_size: int | None = None,
    ) -> None:
        self._config = configured(config, locals())
        self._scope = Scope(Session(self._config))

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
        made = creation.create(client.config, recovery or "", exist_ok=exist_ok)
        pins = {"unencrypted": unencrypted, "fingerprint": made}
        return cls(url, **{**keywords, **pins}) if made else client

    def at(self, version: str) -> Self:
        """Return a client that looks at one version, and can't change anything."""
        made = type(self)(config=self._config)
        vars(made).update(_scope=self._scope._replace(pin=catalog.version_of(version)))
        return made

    @property
    def url(self) -> str:
        """Return the repository's URL."""
        return self._scope.session.url

    @property
    def config(self) -> Config:
        """Return the configuration."""
        return self._config

    def set_credentials(self, credentials: Credentials | None) -> None:
        """Use another key of the storage service from now on; None: the environment's."""
        self._config = msgspec.structs.replace(self._config, credentials=credentials)
        self._scope.session.reconnect(self._config)

    def close(self) -> None:
        """Close connections, and delete the local copy of the history."""
        self._scope.session.close()

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
        return _unpickled, (type(self), self._config, self._scope.pin)

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
        return changes.upload(
            self._scope,
            source,
            path,
            catalog.meta_of(metadata, content_type, compress),
            message=message,
            compress=compress,
            level=level,
            key=idempotency_key,
            if_version=if_version,
            force=force,
            alone=not coalesce,
            progress=progress,
        )

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
        return changes.set_metadata(
            self._scope, path, metadata, replace=replace, if_version=if_version
        )

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
        return changes.delete(
            self._scope,
            path,
            recursive=recursive,
            missing_ok=missing_ok,
            message=message,
            if_version=if_version,
            force=force,
        )

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
        if to and to is not self:
            return changes.copy_to(
                to.upload, self._scope, source, target, if_version=if_version, force=force
            )
        return changes.copy(self._scope, source, target, if_version=if_version, force=force)

    def move(self, source: StrPath, target: StrPath, *, force: bool = False) -> CommitInfo:
        """Move a file, in one commit.

        Args:
            source: The file.
            target: Its new path.
            force: Whether to overwrite whatever the target holds.

        Raises:
            WouldOpen: The target is for readers who can't read the source.
        """
        return changes.move(self._scope, source, target, force=force)

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
            self._scope.writable(),
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
        newest = self._scope.version(version)
        result = many.download(self._scope.session, items, Path(dest_dir), newest, progress)
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
        progress: Report | None = None,
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
            progress: Receives the progress.

        Raises:
            UnstorablePath: A file is a link, for example.
            UpdateConflict: Somebody else has changed one of the files.
        """
        return many.upload_folder(
            self._scope.writable(),
            Path(folder),
            catalog.prefix(path),
            folders.selector(allow_patterns, ignore_patterns),
            delete=delete,
            message=message,
            force=force,
            progress=progress,
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
        session = self._scope.writable()
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
        return Batch(self._scope.writable(), message, if_version)

    def snapshot(
        self,
        dest: StrPath,
        *,
        allow_patterns: Patterns = None,
        ignore_patterns: Patterns = None,
        version: str = "",
        delete: bool = False,
        local_only: bool = False,
        dry_run: bool = False,
        progress: Report | None = None,
    ) -> Snapshot:
        """Bring a directory to a version: files that it holds already are not fetched again.

        Args:
            dest: The directory; files in it are replaced.
            allow_patterns: Only files that match one of these, in the syntax of `.gitignore`.
            ignore_patterns: And none of these.
            version: The version; empty: the newest.
            delete: Whether to delete the files that match and that the version lacks.
            local_only: Whether no request may be sent: the directory and the cache must hold
                everything. The newest version is then the newest in the cache.
            dry_run: Whether only to say what would be done.
            progress: Receives the progress.

        Raises:
            NotCached: Something is missing, and ``local_only`` was given. Nothing was written.
        """
        selects = folders.selector(allow_patterns, ignore_patterns)
        with self._scope.asking(not local_only) as scope:
            found = scope.version(version)
            return many.snapshot(
                scope.session,
                Path(dest),
                found,
                selects,
                delete=delete,
                dry_run=dry_run,
                progress=progress,
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
            name, placed, objects = self._scope.content(path, version)
            reader = io.BufferedReader(streams.Reader(objects, name, placed))
            return io.TextIOWrapper(reader, encoding=encoding) if text else reader
        self._scope.writable()
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
        return reads.read(self._scope, path, start, end, version)

    def stream(
        self, path: StrPath, *, chunk_size: int | None = None, version: str = ""
    ) -> Iterator[bytes]:
        """Yield the content of a file in blocks of ``chunk_size`` bytes, in bounded memory.

        Args:
            path: The file.
            chunk_size: The bytes of a block; only the last may be shorter.
            version: The version; empty: the newest.
        """
        size = self._config.chunk_size if chunk_size is None else chunk_size
        return reads.stream(self._scope, path, size, version)

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
        return reads.download(
            self._scope, path, dest, version=version, byte_range=byte_range, progress=progress
        )

    def stat(self, path: StrPath, *, version: str = "") -> FileInfo:
        """Return what is known of a file.

        Args:
            path: The file.
            version: The version; empty: the newest.

        Raises:
            NoSuchFile: There is no such file.
        """
        return self._scope.info(*self._scope.find(path, version))

    get_metadata = stat

    def exists(self, path: StrPath, *, version: str = "") -> bool:
        """Return whether there is such a file.

        Args:
            path: The file.
            version: The version; empty: the newest.
        """
        return reads.exists(self._scope, path, version)

    def is_closed(self, path: StrPath) -> bool:
        """Return whether a path belongs to a group that this client is not in.

        What such a group has there can be neither listed nor read. It is so, too, while several
        groups claim the path. The groups are those of now, whatever version the client looks at.

        Args:
            path: The path of a file, which need not exist.
        """
        return reads.is_closed(self._scope, path)

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
        return reads.listed(
            self._scope,
            prefix,
            recursive=recursive,
            limit=limit,
            start_after=start_after,
            version=version,
            details=details,
        )

    def glob(self, pattern: str, *, version: str = "") -> Iterator[FileInfo]:
        """Return the files that match a shell pattern: ``*`` in a name, ``**`` for directories.

        Args:
            pattern: The pattern.
            version: The version; empty: the newest.
        """
        return reads.matching(self._scope, pattern, version)

    def versions(self, path: StrPath, *, limit: int | None = None) -> Iterator[FileInfo]:
        """Return every version of a file, the newest first.

        Args:
            path: The file, whether it still exists or not.
            limit: The most versions.
        """
        return reads.versions(self._scope, path, limit)

    def log(self, *, limit: int | None = None) -> Iterator[CommitInfo]:
        """Return the commits, the newest first.

        Args:
            limit: The most commits.
        """
        return reads.log(self._scope, limit)

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

    # --- what vouches for files ------------------------------------------------------------

    def sign_artifact(self, path: StrPath, private_key: StrPath | None = None) -> Signature:
        """Sign a file of the newest version. When it returns, that is durable.

        Args:
            path: The file.
            private_key: A private key: its file, or its text in PEM. None: the key by which the
                team knows you.

        Raises:
            ForbiddenError: You may not write, or not there.
        """
        from dorky.library import provenance

        return provenance.sign(self._scope, path, private_key)

    def verify_signatures(
        self,
        path: StrPath,
        public_keys: Iterable[StrPath] | None = None,
        *,
        threshold: int = 1,
    ) -> Verification:
        """Verify that enough signers vouch for a file of the newest version.

        Args:
            path: The file.
            public_keys: The keys that count: their files or texts, in PEM or as SSH keys. None:
                those of the team's writers, and those in `.dorkysigners` if there is one.
            threshold: How many must have signed.
        """
        from dorky.library import provenance

        return provenance.verify(self._scope, path, public_keys, threshold=threshold)

    def get_signatures(self, path: StrPath) -> Sequence[Signature]:
        """Return every signature of a file, and what it is worth to the team.

        Args:
            path: The file.
        """
        from dorky.library import provenance

        return provenance.get_signatures(self._scope, path)

    def get_bundles(self, path: StrPath) -> Sequence[bytes]:
        """Return the signatures of a file's content as other programs read them.

        Each is a bundle of Sigstore's, with a plain key. Those that the team trusts come first, the
        newest before others; of the rest only their keys can tell what they are worth.

        Args:
            path: The file.
        """
        from dorky.library import provenance

        return provenance.get_bundles(self._scope, path)

    def attach_sbom(
        self,
        path: StrPath,
        format: SbomFormat | None,
        content: bytes | str,
        *,
        private_key: StrPath | None = None,
    ) -> Sbom:
        """Attach an SBOM to a file of the newest version, and sign it.

        Args:
            path: The file.
            format: ``spdx`` or ``cyclonedx``; None to recognise it.
            content: The SBOM, of at most 16 MiB. It comes back byte for byte.
            private_key: As in `sign_artifact`.
        """
        from dorky.library import provenance

        return provenance.attach_sbom(self._scope, path, format, content, private_key)

    def get_sbom(self, path: StrPath, format: SbomFormat | None = None) -> Sbom:
        """Return the SBOM of a file: the newest that somebody of the team has signed for it.

        If there is none, ``state`` and ``problem`` say what is wrong with the one returned.

        Args:
            path: The file.
            format: Only one of this format.

        Raises:
            NotFoundError: It has none.
        """
        from dorky.library import provenance

        return provenance.get_sbom(self._scope, path, format)

    def add_attestation(
        self,
        path: StrPath,
        type: str,
        data: bytes | str,
        *,
        private_key: StrPath | None = None,
    ) -> Attestation:
        """Attach a statement to a file of the newest version, and sign it.

        Args:
            path: The file.
            type: The type of the statement: a word such as ``build``, or a URI.
            data: A JSON object, whose text is kept.
            private_key: As in `sign_artifact`.
        """
        from dorky.library import provenance

        return provenance.add_attestation(self._scope, path, type, data, private_key)

    def get_attestations(self, path: StrPath, *, type: str = "") -> Sequence[Attestation]:
        """Return what was attached to a file, other than signatures, and what it is worth.

        Args:
            path: The file.
            type: Only statements of this type.
        """
        from dorky.library import provenance

        return provenance.get_attestations(self._scope, path, type)


def _unpickled(kind: type[DorkyClient], config: Config, pin: str) -> DorkyClient:
    client = kind(config=config)
    return client.at(pin) if pin else client
