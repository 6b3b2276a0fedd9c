"""The directory driver: a remote on a disk, a network share or a synchronised folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

from dorky import errors, files
from dorky.drivers.base import KEY_LIMIT, LIMIT, LISTED, Blob, Stat, Version

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: without it, opening a pipe would block until another process writes into it.
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DEPTH = 32
"""How deep directories are listed; every level takes a descriptor."""
_BLOCK = 1 << 20
_SWAPPED = 512 << 20
"""The most bytes of an object whose version is computed: a pack's limit."""
_LATEST = datetime(9999, 1, 1, tzinfo=timezone.utc).timestamp()
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class FileDriver:
    """A directory as a remote.

    Writes are atomic and durable. Swaps exclude each other by ``flock`` on one file, which holds
    between processes and, over NFS, between machines. Versions are SHA-256 of the content. Names
    that begin with a dot are the driver's own: the lock, and half-written files.

    Files are private to their owner, unless the directory is writable for its group: then its
    owner wants to share it. Another user with write access may write, replace and delete objects,
    but can't redirect anybody: below the directory everything is opened relative to descriptors,
    no link is followed, and only regular files are read.
    """

    scheme: ClassVar[str] = "file"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = root.as_uri()
        self._tidied: set[str] = set()

    @classmethod
    def open(cls, url: str, options: Mapping[str, str]) -> FileDriver:  # noqa: ARG003
        """See `Driver.open`; ``url`` may be a path, relative to the current directory."""
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
        # resolve() would not follow a symbolic link that is changed later.
        return cls(Path(os.path.normpath(expanded.absolute())))

    def get(self, key: str, *, unless: Version | None = None, limit: int = LIMIT) -> Blob | None:
        """See `Driver.get`."""
        with self._errors(key), self._top() as top, self._opened(top, key) as file:
            size = os.fstat(file).st_size
            data = _read(file, 0, size + 1) if size <= limit else b""
            if max(size, len(data)) > limit:
                raise errors.TooLarge(key, self.url, f"{limit:,} bytes")
        version = _version(data)
        return None if version == unless else Blob(data, version)

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """See `Driver.get_range`."""
        with self._errors(key), self._top() as top, self._opened(top, key) as file:
            there = os.fstat(file).st_size >= end
            data = _read(file, start, end - start) if there else b""
        if len(data) != end - start:
            raise errors.BadEndpoint(self.url, f"{key} has no bytes {start} to {end}")
        return data

    def put(self, key: str, data: bytes) -> None:
        """See `Driver.put`."""
        with self._errors(), self._top(make=True) as top:
            self._write(top, key, data)

    def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:
        """See `Driver.swap`."""
        with self._errors(), self._top(make=True) as top, self._exclusive(top):
            if self._current(top, key) != expected:
                raise errors.PreconditionFailed(key, self.url)
            self._write(top, key, data)
        return _version(data)

    def list(self, prefix: str) -> Iterator[Stat]:
        """See `Driver.list`."""
        folder = prefix.rpartition("/")[0]
        try:
            with self._errors(), self._top() as top:
                if not folder:
                    yield from (item for item in self._walk(top) if item.key.startswith(prefix))
                    return
                with self._folder(top, f"{folder}/any") as (inner, _):
                    for item in self._walk(inner, f"{folder}/"):
                        if item.key.startswith(prefix):
                            yield item
        except errors.DiskError as error:
            if not isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                raise

    def delete(self, keys: Iterable[str]) -> None:
        """See `Driver.delete`."""
        for key in keys:
            with (
                contextlib.suppress(errors.KeyNotFound),
                self._errors(key),
                self._top() as top,
                self._folder(top, key) as (folder, name),
            ):
                os.unlink(name, dir_fd=folder)

    def is_bare(self) -> bool:
        """Return whether there is nothing at all at the URL, as in a mount point without a disk."""
        try:
            return {*os.listdir(self.root)} <= {"lost+found"}  # noqa: PTH208
        except FileNotFoundError:
            return True
        except OSError:
            return False

    # --- by descriptors --------------------------------------------------------------------

    @contextlib.contextmanager
    def _top(self, *, make: bool = False) -> Iterator[int]:
        """Open the remote's directory. Links in its path are the user's own, and are followed."""
        if make:
            self._make_directory(self.root)
        top = os.open(self.root, _FOLDER)
        try:
            yield top
        finally:
            os.close(top)

    def _make_directory(self, path: Path) -> None:
        if path.is_dir():
            return
        self._make_directory(path.parent)
        with contextlib.suppress(FileExistsError):  # another client was faster
            path.mkdir(mode=0o700)
        files.sync_directory(path.parent)

    @contextlib.contextmanager
    def _folder(self, top: int, key: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Open the directory that holds a key; yield it and the key's last part."""
        *parts, name = _checked(key).split("/")
        folder = os.dup(top)
        try:
            for part in parts:
                inner = self._enter(folder, part, key, _shared(top) if make else None)
                os.close(folder)
                folder = inner
            yield folder, name
        finally:
            os.close(folder)

    def _enter(self, folder: int, part: str, key: str, shared: int | None) -> int:
        """Open a directory in another, and make it if ``shared`` gives a mode."""
        try:
            return os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
        except FileNotFoundError:
            if shared is None:
                raise
        except OSError:
            self._refuse(folder, part, key)
            raise
        made = True
        try:
            os.mkdir(part, 0o700, dir_fd=folder)
        except FileExistsError:  # another client was faster
            made = False
        files.sync_names(folder)
        inner = self._enter(folder, part, key, None)
        if made:
            files.set_mode(inner, 0o700 | shared)
        return inner

    @contextlib.contextmanager
    def _opened(self, top: int, key: str) -> Iterator[int]:
        """Open an object, which is a regular file."""
        with self._folder(top, key) as (folder, name):
            try:
                file = os.open(name, os.O_RDONLY | _FILE, dir_fd=folder)
            except OSError:
                self._refuse(folder, name, key)
                raise
            try:
                self._check(os.fstat(file).st_mode, key)
                yield file
            finally:
                os.close(file)

    def _refuse(self, folder: int, name: str, key: str) -> None:
        """Raise if a key can't be opened because it is neither a file nor a directory."""
        with contextlib.suppress(FileNotFoundError):
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_IFMT(mode) in _KINDS:
                self._check(mode, key)

    def _check(self, mode: int, key: str) -> None:
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            kind = _KINDS.get(stat.S_IFMT(mode), "of an unknown kind")
            raise errors.NotAFile(key, self.url, kind)

    def _current(self, top: int, key: str) -> Version | None:
        """Return the version that an object is at; None if it does not exist."""
        digest = hashlib.sha256()
        try:
            with self._opened(top, key) as file:
                if os.fstat(file).st_size > _SWAPPED:
                    return Version("too large to be any that was written")
                while block := os.read(file, _BLOCK):
                    digest.update(block)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Version(digest.hexdigest())

    def _walk(self, folder: int, path: str = "", depth: int = 0) -> Iterator[Stat]:
        with os.scandir(folder) as listing:
            # Sorted, and read to the end before the caller deletes anything in it.
            names = sorted(entry.name for entry in islice(listing, LISTED + 1))
        if len(names) > LISTED:
            raise errors.TooLarge(f"the list of {path}*", self.url, f"{LISTED:,} keys")
        for name in names:
            if name.startswith(".") or len(path + name) > KEY_LIMIT:
                continue
            # A file that was deleted meanwhile, or replaced by a link, is not listed.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    # Anybody with write access can set a time that no calendar has.
                    moment = min(max(found.st_mtime, 0), _LATEST)
                    modified = datetime.fromtimestamp(moment, timezone.utc)
                    yield Stat(path + name, found.st_size, modified)
                elif stat.S_ISDIR(found.st_mode) and depth < _DEPTH:
                    inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                    try:
                        yield from self._walk(inner, f"{path}{name}/", depth + 1)
                    finally:
                        os.close(inner)

    def _write(self, top: int, key: str, data: bytes) -> None:
        with self._folder(top, key, make=True) as (folder, name):
            scratch = files.temporary(Path()).name
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE
            fd = os.open(scratch, flags, 0o600, dir_fd=folder)
            try:
                with open(fd, "wb") as file:
                    file.write(data)
                    files.set_mode(file.fileno(), _mode(top))
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(scratch, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(scratch, dir_fd=folder)
                raise
            files.sync_names(folder)
            place = key.rpartition("/")[0]
            if place not in self._tidied:
                self._tidied.add(place)
                files.sweep(name, within=folder)

    @contextlib.contextmanager
    def _exclusive(self, top: int) -> Iterator[None]:
        try:
            lock = os.open(".lock", os.O_RDWR | os.O_CREAT | _FILE, _mode(top), dir_fd=top)
        except OSError:
            self._refuse(top, ".lock", ".lock")
            raise
        with files.closing(lock):
            found = os.fstat(lock)
            self._check(found.st_mode, ".lock")
            if found.st_uid == os.geteuid():
                # A second hard link may be another of our files, which fchmod would expose.
                if found.st_nlink != 1:
                    raise errors.NotAFile(".lock", self.url, "a second name of another file")
                files.set_mode(lock, _mode(top))  # the umask may have narrowed it
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                # Another lock might bind this machine only, while others swap, too.
                if error.errno not in files.NO_LOCKS:
                    raise
                why = f"its file system has no locks ({error.strerror})"
                raise errors.SwapsUnsupported(self.url, why) from error
            yield

    @contextlib.contextmanager
    def _errors(self, key: str | None = None) -> Iterator[None]:
        """Raise from the error tree; a missing ``key`` has its own error."""
        path = self.root / _checked(key) if key is not None else self.root
        try:
            with files.disk_errors(path):
                yield
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


def _shared(top: int) -> int:
    """Return the mode bits that give the group what the owner has; 0 for a private directory."""
    mode = os.fstat(top).st_mode
    return mode & 0o2070 if mode & 0o020 else 0


def _mode(top: int) -> int:
    return 0o600 | _shared(top) & 0o060


def _read(file: int, start: int, count: int) -> bytes:
    with open(os.dup(file), "rb") as stream:
        stream.seek(start)
        return stream.read(count)


def _version(data: bytes) -> Version:
    return Version(hashlib.sha256(data).hexdigest())
