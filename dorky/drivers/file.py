"""The directory driver: a remote on a disk, a network share or a synchronised folder."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

from dorky import errors, files
from dorky.drivers.base import Blob, Stat, Version


class FileDriver:
    """A directory as a remote.

    Writes are atomic and durable (`files.write_atomic`). Swaps exclude each other by ``flock`` on
    one file, which holds between processes and, over NFS, between machines. Versions are SHA-256
    of the content. Names that begin with a dot are the driver's own: the lock, files half written.

    Files are private to their owner, unless the directory is writable for its group: whoever made
    it so wants to share it.
    """

    scheme: ClassVar[str] = "file"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = root.as_uri()
        self._tidied: set[Path] = set()

    @classmethod
    def open(cls, url: str, options: Mapping[str, str]) -> FileDriver:  # noqa: ARG003
        """See `Driver.open`; ``url`` may be a plain path, taken from the current directory."""
        path = url
        if "://" in url:
            host, slash, rest = url.partition("://")[2].partition("/")
            if host not in {"", "localhost"} or not slash:
                raise errors.BadURL(url, "write file:///dir, with three slashes, or a plain path")
            path = unquote(f"/{rest}")
        if "\0" in path:
            raise errors.BadURL(ascii(url), "it holds a NUL")
        try:
            expanded = Path(path).expanduser()
        except RuntimeError as error:
            raise errors.BadURL(url, "there is no such user") from error
        # Not resolve(): a symbolic link that is pointed elsewhere later is to be followed.
        return cls(Path(os.path.normpath(expanded.absolute())))

    def get(self, key: str, *, unless: Version | None = None) -> Blob | None:
        """See `Driver.get`."""
        with self._errors(key) as path:
            data = path.read_bytes()
        version = _version(data)
        return None if version == unless else Blob(data, version)

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """See `Driver.get_range`."""
        with self._errors(key) as path, path.open("rb") as file:
            file.seek(start)
            data = file.read(end - start)
        if len(data) != end - start:
            raise errors.BadEndpoint(self.url, f"{key} has no bytes {start} to {end}")
        return data

    def put(self, key: str, data: bytes) -> None:
        """See `Driver.put`."""
        with self._errors() as root:
            self._write(root / _checked(key), data)

    def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:
        """See `Driver.swap`."""
        with self._errors() as root, self._exclusive():
            path = root / _checked(key)
            current = _version(path.read_bytes()) if path.exists() else None
            if current != expected:
                raise errors.PreconditionFailed(key, self.url)
            self._write(path, data)
        return _version(data)

    def list(self, prefix: str) -> Iterator[Stat]:
        """See `Driver.list`."""
        folder = prefix.rpartition("/")[0]
        with self._errors() as root:
            for path in _walk(root / _checked(folder) if folder else root):
                key = path.relative_to(root).as_posix()
                if not key.startswith(prefix):
                    continue
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    stat = path.stat()
                    modified = datetime.fromtimestamp(stat.st_mtime, timezone.utc)
                    yield Stat(key, stat.st_size, modified)

    def delete(self, keys: Iterable[str]) -> None:
        """See `Driver.delete`."""
        for key in keys:
            with contextlib.suppress(errors.KeyNotFound), self._errors(key) as path:
                path.unlink()

    def _write(self, path: Path, data: bytes) -> None:
        self._make_directory(path.parent)
        tidy = path.parent not in self._tidied
        self._tidied.add(path.parent)
        files.write_atomic(path, data, mode=self._mode(), tidy=tidy)

    def _make_directory(self, path: Path) -> None:
        if path.is_dir():
            return
        self._make_directory(path.parent)
        with contextlib.suppress(FileExistsError):  # another client was faster
            path.mkdir(mode=0o700)
            if self.root in path.parents:
                path.chmod(0o700 | self._shared())
        files.sync_directory(path.parent)

    def _mode(self) -> int:
        return 0o600 | self._shared() & 0o060

    def _shared(self) -> int:
        """The mode bits that give the group what the owner has; none if it is not to share."""
        mode = self.root.stat().st_mode
        return mode & 0o2070 if mode & 0o020 else 0

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        self._make_directory(self.root)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        lock = os.open(self.root / ".lock", flags, self._mode())
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                os.fchmod(lock, self._mode())  # the umask may have narrowed it
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)  # lets go of the lock, as dying does

    @contextlib.contextmanager
    def _errors(self, key: str | None = None) -> Iterator[Path]:
        """Raise from the error tree; yields the path of ``key``, whose absence is its own error."""
        path = self.root / _checked(key) if key is not None else self.root
        try:
            with files.disk_errors(path):
                yield path
        except errors.UnreadableFile as error:
            raise errors.AccessDenied(self.url, error.args[1]) from error.__cause__
        except errors.DiskError as error:
            missing = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
            if key is not None and isinstance(error.__cause__, missing):
                raise errors.KeyNotFound(key, self.url) from error.__cause__
            raise


def _checked(key: str) -> str:
    if "\0" in key or any(part == "" or part.startswith(".") for part in key.split("/")):
        raise errors.UnsafePath(ascii(key))
    return key


def _walk(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        else:
            yield Path(entry.path)


def _version(data: bytes) -> Version:
    return Version(hashlib.sha256(data).hexdigest())
