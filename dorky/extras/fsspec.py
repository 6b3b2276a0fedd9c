"""`dorky://`: the files of a repository as a file system of fsspec's.

    import pandas

    pandas.read_csv("dorky://tables/a.csv", storage_options={"remote": "s3://acme-vault/data"})
    pandas.read_csv("dorky+s3://acme-vault/data//tables/a.csv")

Every write is a commit, and each call that writes many files is one commit: `put`, `pipe`, `copy`,
`mv`, `rm`, and all that happens in a `transaction`.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.compression import compr
from fsspec.core import get_compression
from fsspec.spec import AbstractFileSystem
from fsspec.transaction import Transaction
from fsspec.utils import isfilelike, stringify_path

from dorky import errors
from dorky.client import ABSENT, Batch, DorkyClient, FileInfo, Progress

_ID = re.compile(r"([0-9a-f]{64}):(.+)", re.DOTALL)
_OWN = "dorky"
_PLACES = ("s3", "gs", "file", "https", "http")


class _Surroundings:
    """What decides on the repository if no URL does: instances are cached by it, too."""

    def __get__(self, _: object, owner: type) -> tuple[str | None, ...]:
        named = [os.environ.get(name) for name in ("DORKY_URL", "DORKY_BUCKET")]
        with contextlib.suppress(OSError):  # the directory may be deleted
            named.append(str(Path.cwd()))
        return tuple(named)


class DorkyTransaction(Transaction):  # type: ignore[misc]
    """A block whose writes become one commit at its end, or none if an exception leaves it."""

    fs: DorkyFileSystem

    def start(self) -> None:
        """Begin."""
        super().start()
        self.fs.begin()

    def complete(self, commit: bool = True) -> None:
        """Commit, or drop everything."""
        self.files.clear()  # they belong to the batch
        try:
            self.fs.end(commit=commit)
        finally:
            super().complete(commit)


class DorkyFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """The files of one repository.

    As in other object stores, directories are there while a file is in them. A write replaces what
    the path holds, whoever has written it: history keeps the other version. Symbolic links are not
    listed. Calls that read take ``version=``, and those that write the options of
    `DorkyClient.upload`.

    Args:
        remote: The repository's URL; None: as for `DorkyClient`. A URL of the form
            ``dorky+s3://bucket/prefix//path`` names it, too.
        version: The version to look at; nothing can be written then. Empty: the newest.
        message: The message of commits.
        use_listings_cache: Whether to look at a version that was read before as the newest one.
        listings_expiry_time: The most seconds of that; None: until `invalidate_cache`.
        options: Keywords of `DorkyClient`.
    """

    protocol = (_OWN, *(f"{_OWN}+{scheme}" for scheme in _PLACES))
    transaction_type = DorkyTransaction
    surroundings = _Surroundings()
    _extra_tokenize_attributes = ("surroundings",)

    def __init__(
        self,
        remote: str | None = None,
        *,
        version: str = "",
        message: str = "",
        use_listings_cache: bool = False,
        listings_expiry_time: float | None = None,
        **options: Any,
    ) -> None:
        if self._cached:
            return
        super().__init__()
        client = DorkyClient(remote, **options)
        self.client = client.at(version) if version else client
        self._pinned = version
        self._message = message
        self._keeps = use_listings_cache
        self._lasts = listings_expiry_time
        self._kept: tuple[str, float] | None = None
        self._here = threading.local()
        self._shared: Batch | None = None

    # --- names -----------------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        """Return the path in the repository, of a URL or a path; of a list, all of them."""
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        text = str(stringify_path(path))
        scheme, separator, rest = text.partition("://")
        if separator and scheme == _OWN:
            text = rest
        elif separator and scheme in cls.protocol:
            text = rest.partition("//")[2]
        return text.strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        """Return the options that a URL names."""
        scheme, separator, rest = str(path).partition("://")
        if not separator or not scheme.startswith(f"{_OWN}+"):
            return {}
        return {"remote": f"{scheme.removeprefix(f'{_OWN}+')}://{rest.partition('//')[0]}"}

    def unstrip_protocol(self, name: str) -> str:
        """Return the URL of a path, which names the repository, too, if it was given."""
        place = self.client.config.url
        path = self._strip_protocol(name)
        if not place:
            return f"{_OWN}://{path}"
        if "://" not in place:
            place = Path(place).expanduser().absolute().as_uri()
        return f"{_OWN}+{place.rstrip('/')}//{path}"

    @property
    def fsid(self) -> str:
        """Return a name of the file system that is the same in other processes."""
        return f"{_OWN}_{self.client.url}"

    def __reduce__(self) -> Any:
        self.client.__reduce__()  # refuses if it was given a secret
        return super().__reduce__()

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Return the options as JSON."""
        self.client.__reduce__()
        found: dict[str, Any] = super().to_dict(include_password=include_password)
        return found

    # --- versions --------------------------------------------------------------------------

    def _newest(self) -> str:
        """Return the newest version, or the one kept if it is new enough; empty if none is."""
        if self._pinned:
            return self._pinned
        kept = self._kept
        if self._keeps and kept and (self._lasts is None or time.monotonic() < kept[1]):
            return kept[0]
        found = next((commit.version for commit in self.client.log(limit=1)), "")
        if self._keeps:
            self._kept = (found, time.monotonic() + (self._lasts or 0))
        return found

    def _settled(self, version: str = "") -> str:
        """Return the version that all reads of one call look at."""
        return version or getattr(self._here, "version", "") or self._newest()

    def _where(self, path: Any, version: str) -> tuple[str, str]:
        """Return a path, and the version to read it in; empty: the newest."""
        name = self._strip_protocol(path)
        if found := _ID.fullmatch(name):
            return found[2], found[1]
        version = version or getattr(self._here, "version", "")
        return name, self._newest() if self._keeps and not version else version

    @contextlib.contextmanager
    def _steady(self) -> Iterator[None]:
        """Let every read of this thread look at one version."""
        before = getattr(self._here, "version", "")
        self._here.version = before or self._newest()
        try:
            yield
        finally:
            self._here.version = before

    def invalidate_cache(self, path: str | None = None) -> None:
        """Look at the newest version again (see ``use_listings_cache``)."""
        self._kept = None
        super().invalidate_cache(path)

    # --- what is there ---------------------------------------------------------------------

    def info(self, path: Any, version: str = "", **_: Any) -> dict[str, Any]:
        """Return what is known of a path."""
        name, version = self._where(path, version)
        if not name:
            return _directory("")
        try:
            return _entry(self.client.stat(name, version=version))
        except errors.IsADirectory:
            return _directory(name)

    def exists(self, path: Any, **options: Any) -> bool:
        """Return whether there is a file or a directory."""
        try:
            self.info(path, **options)
        except (FileNotFoundError, errors.UnstorablePath):
            return False
        return True

    def ls(self, path: Any, detail: bool = True, version: str = "", **_: Any) -> list[Any]:
        """List a directory."""
        name, version = self._where(path, self._settled(version))
        listed = self.client.list(name, recursive=False, version=version)
        found = [_entry(info) for info in listed if info.kind != "link"]
        if not found and name:
            self.info(name, version=version)  # raises if there is nothing
        return found if detail else [entry["name"] for entry in found]

    def find(
        self,
        path: Any,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        version: str = "",
        **_: Any,
    ) -> Any:
        """List all files below a path, by one request."""
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        name, version = self._where(path, version)
        listed = self.client.list(name, version=version)
        found = {info.path: _entry(info) for info in listed if info.kind == "file"}
        below = f"{name}/" if name else ""
        if withdirs:
            for held in [held for held in found if held != name]:
                parts = held[len(below) :].split("/")[:-1]
                above = [below + "/".join(parts[:n]) for n in range(len(parts) + 1)]
                found |= {
                    each: _directory(each) for each in (up.rstrip("/") for up in above) if each
                }
        if maxdepth is not None:
            found = {
                held: entry
                for held, entry in found.items()
                if held == name or held[len(below) :].count("/") < maxdepth
            }
        return dict(sorted(found.items())) if detail else sorted(found)

    def walk(self, path: Any, maxdepth: int | None = None, **options: Any) -> Iterator[Any]:
        """Yield each directory with what is in it, all of one version."""
        options["version"] = self._settled(options.get("version", ""))
        found: Iterator[Any] = super().walk(path, maxdepth=maxdepth, **options)
        return found

    def du(self, path: Any, *arguments: Any, **options: Any) -> Any:
        """Return the size of the files below a path."""
        with self._steady():
            return super().du(path, *arguments, **options)

    def created(self, path: Any) -> datetime:
        """Return when the first version of a file was written."""
        self.info(path)
        *_, first = self.client.versions(self._strip_protocol(path))
        assert first.last_updated
        return first.last_updated

    def modified(self, path: Any) -> datetime:
        """Return when a file was changed last."""
        found: datetime = self._of_file(path)["last_modified"]
        return found

    def checksum(self, path: Any) -> int:
        """Return a number that stands for a file's content."""
        return int(self._of_file(path)["sha256"], 16)

    def ukey(self, path: Any) -> str:
        """Return the SHA-256 of a file."""
        return str(self._of_file(path)["sha256"])

    def _of_file(self, path: Any) -> dict[str, Any]:
        found = self.info(path)
        if found["type"] == "directory":
            raise builtins.IsADirectoryError(found["name"])
        return found

    # --- reading ---------------------------------------------------------------------------

    def cat_file(
        self,
        path: Any,
        start: int | None = None,
        end: int | None = None,
        version: str = "",
        **_: Any,
    ) -> bytes:
        """Return the content of a file, verified."""
        name, version = self._where(path, version)
        if (start or 0) < 0 or (end or 0) < 0:
            version = self._settled(version)
            size = self.info(name, version=version)["size"]
            start, end = (n if n is None or n >= 0 else max(0, size + n) for n in (start, end))
        if not name:
            raise builtins.IsADirectoryError(name)
        if end is not None and end <= (start or 0):
            self.info(name, version=version)
            return b""
        try:
            return self.client.read(name, start=start or 0, end=end, version=version)
        except errors.IsADirectory as error:
            raise builtins.IsADirectoryError(name) from error

    def _parts(
        self, wanted: Sequence[tuple[str, int | None, int | None]], version: str
    ) -> list[bytes | Exception]:
        """Read parts of files at once; return each, or why it can't be read."""

        def part(one: tuple[str, int | None, int | None]) -> bytes | Exception:
            try:
                return self.cat_file(*one, version=version)
            except Exception as error:  # noqa: BLE001 - the caller decides
                return error

        with ThreadPoolExecutor(min(self.client.config.max_concurrency, len(wanted) or 1)) as pool:
            return list(pool.map(part, wanted))

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,  # noqa: ARG002
        on_error: str = "return",
        version: str = "",
        **_: Any,
    ) -> list[bytes | Exception]:
        """Return parts of files, read at once."""
        firsts, lasts = (
            given if isinstance(given, list) else [given] * len(paths) for given in (starts, ends)
        )
        found = self._parts(list(zip(paths, firsts, lasts, strict=True)), self._settled(version))
        if on_error == "raise":
            _raise_first(found)
        return found

    def cat(
        self,
        path: Any,
        recursive: bool = False,
        on_error: str = "raise",
        version: str = "",
        **_: Any,
    ) -> Any:
        """Return the content of a file, or of many by path, read at once."""
        version = self._settled(version)
        paths = self.expand_path(path, recursive=recursive, version=version)
        if isinstance(path, str) and paths == [self._strip_protocol(path)] and not recursive:
            return self.cat_file(paths[0], version=version)
        read = self._parts([(one, None, None) for one in paths], version)
        found = {
            one: data
            for one, data in zip(paths, read, strict=True)
            if not (recursive and isinstance(data, builtins.IsADirectoryError))
        }
        if on_error == "raise":
            _raise_first(found.values())
        if on_error == "omit":
            return {one: data for one, data in found.items() if not isinstance(data, Exception)}
        return found

    def get_file(
        self,
        rpath: Any,
        lpath: Any,
        callback: Any = DEFAULT_CALLBACK,
        outfile: Any = None,
        version: str = "",
        **_: Any,
    ) -> None:
        """Download a file, verified: one on the disk is replaced as a whole or not at all."""
        name, version = self._where(rpath, self._settled(version))
        found = self.info(name, version=version)
        target = outfile if outfile is not None else lpath
        if found["type"] == "directory":
            if not isfilelike(target):
                Path(target).mkdir(parents=True, exist_ok=True)
            return
        callback.set_size(found["size"])

        def report(progress: Progress) -> None:
            callback.absolute_update(progress.done)

        self.client.download(name, target, version=version, progress=report)

    def get(self, rpath: Any, lpath: Any, *arguments: Any, **options: Any) -> None:
        """Download files, all of one version."""
        with self._steady():
            super().get(rpath, lpath, *arguments, **options)

    def open(
        self, path: Any, mode: str = "rb", compression: str | None = None, **options: Any
    ) -> Any:
        """Open a file. One open for writing is committed by `close`."""
        if compression is None or "r" in mode or "b" not in mode:
            return super().open(path, mode, compression=compression, **options)
        held = super().open(path, mode, **options)
        codec = get_compression(self._strip_protocol(path), compression)
        if codec is None:
            return held
        made = compr[codec](held, mode="w")
        finish = made.close

        def close() -> None:
            finish()
            held.close()  # a codec leaves that open, and it would never be committed

        made.close = close
        return made

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,  # noqa: ARG002
        autocommit: bool = True,
        cache_options: Mapping[str, Any] | None = None,  # noqa: ARG002
        version: str = "",
        **options: Any,
    ) -> Any:
        """Open a file: see `DorkyClient.open`."""
        if mode == "rb":
            name, version = self._where(path, version)
            try:
                file = self.client.open(name, mode, version=version)
            except errors.IsADirectory as error:
                raise builtins.IsADirectoryError(path) from error
            vars(file).update(path=path, size=file.seek(0, io.SEEK_END))
            file.seek(0)
            return file
        if mode not in {"wb", "xb"}:
            raise io.UnsupportedOperation(
                f"{path}: dorky opens no file as {mode!r}; to append, read it and write all of it"
            )
        if mode == "xb" and self.exists(path):
            raise FileExistsError(path)
        for unused in ("cache_type", "size"):
            options.pop(unused, None)
        if self._batch:
            return self._batch.open(path, "wb", **options)
        if not autocommit:
            raise io.UnsupportedOperation("without autocommit: write in a transaction")
        if mode == "wb":
            options.setdefault("force", "if_version" not in options)
        self._kept = None
        return self.client.open(path, mode, **{"message": self._message, **options})

    # --- writing ---------------------------------------------------------------------------

    @property
    def _batch(self) -> Batch | None:
        """Return the batch that writes of this thread belong to."""
        found: Batch | None = getattr(self._here, "batch", None)
        return found or self._shared

    def _begun(self) -> Batch:
        """Return a batch that begins with the newest version."""
        self._kept = None
        self._newest()
        return self.client.batch(message=self._message)

    def begin(self) -> None:
        """Collect all writes from now on; see `transaction`."""
        self._shared = self._begun().__enter__()

    def end(self, *, commit: bool) -> None:
        """Commit what was collected, as one commit, or drop it; see `transaction`."""
        batch, self._shared = self._shared, None
        self._kept = None
        if batch:
            batch.__exit__(None if commit else RuntimeError, None, None)

    def start_transaction(self) -> DorkyTransaction:
        """Begin a transaction that is no block."""
        self._transaction = self.transaction_type(self)
        self._transaction.start()
        return self._transaction

    @contextlib.contextmanager
    def _together(self) -> Iterator[Batch]:
        """Let every write of this thread be in one commit."""
        if self._batch:
            yield self._batch
            return
        with self._begun() as batch, self._steady():
            self._here.batch = batch
            try:
                yield batch
            finally:
                self._here.batch = None
        self._kept = None

    def _upload(self, source: Any, path: str, mode: str, options: Mapping[str, Any]) -> None:
        """Write one file."""
        if mode == "create" and self.exists(path):
            raise FileExistsError(path)
        if batch := self._batch:
            batch.upload(source, path, **options)
            return
        expected = {"if_version": ABSENT} if mode == "create" else {"force": True}
        try:
            self.client.upload(source, path, **{"message": self._message, **expected, **options})
        except errors.UpdateConflict as error:
            if mode != "create":
                raise
            raise FileExistsError(path) from error
        finally:
            self._kept = None

    def pipe_file(self, path: Any, value: Any, mode: str = "overwrite", **options: Any) -> None:
        """Write a file."""
        self._upload(bytes(value), self._strip_protocol(path), mode, options)

    def pipe(self, path: Any, value: Any = None, **options: Any) -> None:
        """Write files, as one commit."""
        if isinstance(path, str):
            self.pipe_file(path, value, **options)
            return
        with self._together():
            super().pipe(path, value, **options)

    def put_file(
        self,
        lpath: Any,
        rpath: Any,
        callback: Any = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        **options: Any,
    ) -> None:
        """Upload a file."""
        source = Path(lpath)
        if source.is_dir():
            return
        size = source.stat().st_size
        callback.set_size(size)
        self._upload(source, self._strip_protocol(rpath), mode, options)
        callback.absolute_update(size)

    def put(self, lpath: Any, rpath: Any, *arguments: Any, **options: Any) -> None:
        """Upload files, as one commit."""
        with self._together():
            super().put(lpath, rpath, *arguments, **options)

    def cp_file(self, path1: Any, path2: Any, **_: Any) -> None:
        """Copy a file; nothing is uploaded."""
        name = self._strip_protocol(path1)
        with self._together() as batch, contextlib.suppress(errors.IsADirectory):
            if name:
                batch.copy(name, self._strip_protocol(path2))

    def copy(self, path1: Any, path2: Any, *arguments: Any, **options: Any) -> None:
        """Copy files, as one commit; nothing is uploaded."""
        with self._together():
            super().copy(path1, path2, *arguments, **options)

    def mv(self, path1: Any, path2: Any, *arguments: Any, **options: Any) -> None:
        """Move files, as one commit; nothing is uploaded."""
        with self._together():
            super().mv(path1, path2, *arguments, **options)

    def rm_file(self, path: Any) -> None:
        """Delete a file."""
        self.rm(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Delete files, as one commit. Their versions stay in history."""
        named = {self._strip_protocol(one) for one in (path if isinstance(path, list) else [path])}
        with self._together() as batch:
            for name in self.expand_path(path, recursive=recursive, maxdepth=maxdepth):
                if self.isdir(name):
                    if name in named and not recursive:
                        raise builtins.IsADirectoryError(name)
                else:
                    batch.delete(name)


def _directory(path: str) -> dict[str, Any]:
    return {"name": path, "size": 0, "type": "directory"}


def _entry(info: FileInfo) -> dict[str, Any]:
    if info.kind == "directory":
        return _directory(info.path)
    return {
        "name": info.path,
        "size": info.size,
        "type": info.kind,
        "version": info.version,
        "sha256": info.content_hash,
        "stored_size": info.stored_size,
        "content_type": info.content_type,
        "last_modified": info.last_updated,
        "mtime": info.last_updated.timestamp() if info.last_updated else None,
        "uploaded_by": info.uploaded_by,
        "metadata": info.custom,
    }


def _raise_first(found: Iterable[bytes | Exception]) -> None:
    for one in found:
        if isinstance(one, Exception):
            raise one
