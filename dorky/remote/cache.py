"""The cache: what clients without a worktree have read of remotes, for the processes after them.

    DIRECTORY/client-1/         0700, the user's own
        roots/PLACE             the newest root that was read at a place, and its version
        REPOSITORY-PURGES/NAME  an object, a tail of a pack, a page of a table
        lock, size              the bytes that all of it may take by now, at most

All of it is as the remote stores it, so encrypted. Whoever takes an entry verifies it like an
answer of the remote: objects by their ids, tails and pages by the names that the root lists. An
entry that is wrong is deleted and read from the remote. A root counts only while the remote says
that there is no newer one.

Nothing depends on the cache: where it can't be used, everything is read from the remote.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from dorky import errors, files
from dorky.drivers.base import Blob, Version
from dorky.format.model import Kind, MiB, ObjectId
from dorky.keys.vault import Vault
from dorky.store import pack

T = TypeVar("T")
_LAYOUT = "client-1"
_OBJECT = "object "
_ROOTS = "roots"
_LOCK, _SIZE = "lock", "size"
_SPACE = re.compile(r"[0-9a-f]{24}-[0-9a-f]{16}")
_ENTRY = re.compile(r"[0-9a-f]{64}")
_HALF = re.compile(r"\.tmp-dorky-[0-9a-f]{16}")
_LARGEST = 16 * MiB
_BLOCK = 4096
_SHARE = 4
_SLICES = 64
"""A process reserves this part of the limit at a time."""
_KEEP = 0.75
"""The part of the limit that is kept when there is no room."""
_PATIENCE = 1.0
_GRACE = 3600
"""Seconds after which a half-written file counts as abandoned."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LENGTH = struct.Struct(">H")


class Unusable(Exception):
    """The directory can't be used, or must not be: other users may have put something there."""


class Content(NamedTuple):
    """What a cache holds.

    Attributes:
        repositories: The number of repositories.
        entries: The number of files.
        size: Their size on the disk in bytes.
    """

    repositories: int
    entries: int
    size: int


class Space(NamedTuple):
    """The part of a cache that one repository has.

    Attributes:
        cache: The cache.
        name: The directory's name.
    """

    cache: Cache
    name: str

    def taken(self, name: str, check: Callable[[bytes], T]) -> T | None:
        """Return what ``check`` makes of an entry; None if there is none, or only a wrong one.

        Args:
            name: What the entry is.
            check: Raises `IntegrityError` if the bytes are not what they should be.
        """
        data = self.cache.read(self.name, name)
        if data is None:
            return None
        try:
            return check(data)
        except errors.IntegrityError:
            self.cache.discard(self.name, name)
            return None

    def through(self, name: str, read: Callable[[], bytes], check: Callable[[bytes], T]) -> T:
        """Return what ``check`` makes of an entry, or else of what ``read`` returns; keep that."""
        found = self.taken(name, check)
        if found is None:
            data = read()
            found = check(data)
            self.keep(name, data)
        return found

    def keep(self, name: str, data: bytes) -> None:
        """Keep an entry, if there is room and the disk allows it."""
        self.cache.write(self.name, name, data)

    def object(self, vault: Vault, object_id: ObjectId, group: str | None = None) -> Held | None:
        """Return an object, verified; None if there is none.

        Args:
            vault: The keys.
            object_id: The object.
            group: If given, the group that the object must be encrypted for.
        """

        def check(data: bytes) -> Held:
            kind, stored = pack.KINDS.get(data[0] if data else 0), memoryview(data)[1:]
            own = vault.group_of(stored)
            if kind is None or own is None or group not in {own, None}:
                raise errors.CorruptObject(object_id, "it is not what is asked for")
            return Held(own, kind, vault.read(kind, object_id, stored))

        return self.taken(_OBJECT + object_id, check)

    def keep_object(self, kind: Kind, object_id: ObjectId, stored: bytes | memoryview) -> None:
        """Keep an object as it is stored."""
        self.keep(_OBJECT + object_id, bytes([pack.CODES[kind]]) + stored)

    def holds_object(self, object_id: ObjectId) -> bool:
        """Return whether there is such an object, right or wrong."""
        return self.cache.holds(self.name, _OBJECT + object_id)


class Held(NamedTuple):
    """An object from a cache, verified: its group, its kind and its body."""

    group: str
    kind: Kind
    body: bytes


class _Entry(NamedTuple):
    used: int
    size: int
    space: str
    name: str


class Cache:
    """One user's cache. Any number of threads and processes may use it.

    Args:
        directory: Where it lies; None: nothing is kept.
        limit: The bytes that it takes at most. Processes that write at the same time may exceed it
            by 1/64 each.
    """

    def __init__(self, directory: Path | None, limit: int = 0) -> None:
        self.limit = limit
        self.directory = directory / _LAYOUT if directory else None
        self._room = 0
        """The bytes that this process may still write without asking."""

    def keeps(self, size: int) -> bool:
        """Return whether a read of so many bytes is kept: a larger one would drive all else out."""
        return size <= self.limit // _SHARE

    # --- roots -----------------------------------------------------------------------------

    def root(self, place: str) -> Blob | None:
        """Return the newest root that was read at a place, not verified; None if none is kept."""
        data = self.read(_ROOTS, place)
        if data is None or len(data) < _LENGTH.size:
            return None
        middle = _LENGTH.size + _LENGTH.unpack_from(data)[0]
        version = data[_LENGTH.size : middle]
        # It is sent in a header.
        if not re.fullmatch(rb"[!-~]+", version):
            return None
        return Blob(data[middle:], Version(version.decode()))

    def keep_root(self, place: str, blob: Blob) -> None:
        """Keep the newest root of a place."""
        version = blob.version.encode()
        if self.directory and len(version) < 1 << 16:
            with contextlib.suppress(OSError, Unusable):
                self._make(_ROOTS)
            self.write(_ROOTS, place, _LENGTH.pack(len(version)) + version + blob.data)

    def discard_root(self, place: str) -> None:
        """Forget a root that was wrong."""
        self.discard(_ROOTS, place)

    def settle(self, repository: str, purges: bytes) -> Space:
        """Return the space of a repository, which exists then, if it can.

        Entries from before a purge are deleted, and can't come back: they have another space.

        Args:
            repository: The repository's id.
            purges: Tells which histories were purged.
        """
        own = _hash(repository)[:24]
        space = f"{own}-{hashlib.sha256(purges).hexdigest()[:16]}"
        with contextlib.suppress(OSError, Unusable):
            if self.directory and self._make(space):
                with self._opened() as top:
                    for name in _names(top):
                        if _SPACE.fullmatch(name) and name != space and name.startswith(own):
                            _delete(top, name)
        return Space(self, space)

    # --- the directory ---------------------------------------------------------------------

    @contextlib.contextmanager
    def _opened(self, space: str | None = None) -> Iterator[int]:
        """Open the cache, or a space in it.

        Raises:
            Unusable: There is none, or it is another user's, or others may enter it.
            OSError: It does not exist, or is a link.
        """
        if self.directory is None or space == "":
            raise Unusable("it is turned off")
        at = top = os.open(self.directory, _DIRECTORY)
        try:
            found = os.fstat(top)
            if found.st_uid != os.geteuid():
                raise Unusable("it belongs to another user")
            if found.st_mode & 0o077:
                raise Unusable("other users may enter it")
            if space:
                at = os.open(space, _DIRECTORY, dir_fd=top)
            yield at
        finally:
            os.close(top)
            if at != top:
                os.close(at)

    def _make(self, space: str) -> bool:
        """Make a space; return whether there was none."""
        assert self.directory
        with contextlib.suppress(FileNotFoundError), self._opened() as top:
            with contextlib.suppress(FileExistsError):
                os.mkdir(space, 0o700, dir_fd=top)
                return True
            return False
        self.directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            self.directory.mkdir(mode=0o700)
        with self._opened() as top:
            os.mkdir(space, 0o700, dir_fd=top)
        return True

    def why_not(self) -> str:
        """Return why the cache can't be used; empty if it can, or does not exist yet."""
        if self.directory is None:
            return "it is turned off, or you have no home directory"
        try:
            with self._opened() as top:
                return "" if os.access(".", os.W_OK, dir_fd=top) else "it can't be written to"
        except FileNotFoundError:
            above = next(path for path in self.directory.parents if path.exists())
            return "" if os.access(above, os.W_OK) else f"{above} can't be written to"
        except OSError as error:
            link = self.directory.is_symlink()
            return "it is a symbolic link" if link else error.strerror or str(error)
        except Unusable as error:
            return str(error)

    # --- entries ---------------------------------------------------------------------------

    def read(self, space: str, name: str) -> bytes | None:
        """Return an entry, not verified; None if there is none."""
        try:
            with (
                self._opened(space) as at,
                open(os.open(_hash(name), _READ, dir_fd=at), "rb") as file,
            ):
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
                    return None
                with contextlib.suppress(OSError):  # the disk may be read-only
                    os.utime(file.fileno())
                return file.read(_LARGEST)
        except (OSError, Unusable):
            return None

    def holds(self, space: str, name: str) -> bool:
        """Return whether there is an entry."""
        with contextlib.suppress(OSError, Unusable), self._opened(space) as at:
            return stat.S_ISREG(os.stat(_hash(name), dir_fd=at, follow_symlinks=False).st_mode)
        return False

    def discard(self, space: str, name: str) -> None:
        """Delete an entry, if there is one."""
        with contextlib.suppress(OSError, Unusable), self._opened(space) as at:
            os.unlink(_hash(name), dir_fd=at)

    def write(self, space: str, name: str, data: bytes) -> None:
        """Write an entry, whole or not at all: not if it is too large, or the disk refuses."""
        if len(data) > min(_LARGEST, self.limit // _SHARE):
            return
        with contextlib.suppress(OSError, Unusable, errors.DorkyError), self._opened(space) as at:
            self._reserve(_rounded(len(data)))
            scratch = f".tmp-dorky-{os.urandom(8).hex()}"
            fd = os.open(scratch, _NEW, 0o600, dir_fd=at)
            try:
                try:
                    if os.write(fd, data) != len(data):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                finally:
                    os.close(fd)
                os.rename(scratch, _hash(name), src_dir_fd=at, dst_dir_fd=at)
            except BaseException:
                os.unlink(scratch, dir_fd=at)
                raise

    # --- the limit -------------------------------------------------------------------------

    def _reserve(self, size: int) -> None:
        """Reserve room; delete what was not used for longest if there is none.

        The record never tells less than what the files take: it is written before they are.

        Raises:
            Locked: Other processes take too long.
            DiskError: The record can't be written.
        """
        self._room -= size
        if self._room >= 0:
            return
        wanted = max(self.limit // _SLICES, -self._room)
        with self._opened() as top, self._locked(top):
            taken = _recorded(top)
            if taken is None or taken + wanted > self.limit:
                taken = self._evict(top, int(self.limit * _KEEP) - wanted)
            _record(top, taken + wanted)
        self._room += wanted

    @contextlib.contextmanager
    def _locked(self, top: int) -> Iterator[None]:
        with files.locked(Path(_LOCK), timeout=_PATIENCE, required=False, within=top):
            yield

    def _evict(self, top: int, most: int) -> int:
        """Delete entries until they take no more than ``most`` bytes; return what they take."""
        found = sorted(_entries(top))
        taken = sum(entry.size for entry in found)
        if taken <= most:
            return taken
        for entry in found:
            if taken <= most:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{entry.space}/{entry.name}", dir_fd=top)
            taken -= entry.size
        return taken

    # --- for people ------------------------------------------------------------------------

    def content(self) -> Content:
        """Return what the cache holds; nothing if it can't be used."""
        with contextlib.suppress(OSError, Unusable), self._opened() as top:
            found = [*_entries(top)]
            spaces = {entry.space[:24] for entry in found if entry.space != _ROOTS}
            return Content(len(spaces), len(found), sum(entry.size for entry in found))
        return Content(0, 0, 0)

    def clear(self) -> None:
        """Delete everything in the cache.

        Raises:
            DiskError: The disk refuses.
            Locked: Another process makes room just now.
        """
        if self.directory is None:
            return
        with files.disk_errors(self.directory, writing=True):
            try:
                with self._opened() as top, self._locked(top):
                    for name in _names(top):
                        if _is_space(name):
                            _delete(top, name)
                    _record(top, 0)
            except FileNotFoundError:
                return
            except Unusable as error:
                raise errors.DiskError(self.directory, error) from None


NONE = Cache(None)
"""The cache that keeps nothing."""
NOWHERE = Space(NONE, "")


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _rounded(size: int) -> int:
    """Return the bytes that a file of this size takes on a disk."""
    return -(-max(size, 1) // _BLOCK) * _BLOCK


def _is_space(name: str) -> bool:
    return name == _ROOTS or _SPACE.fullmatch(name) is not None


def _entries(top: int) -> Iterator[_Entry]:
    """Yield what the cache holds; delete what killed processes have left half-written."""
    long_ago = time.time() - _GRACE
    for space in filter(_is_space, _names(top)):
        with contextlib.suppress(OSError):
            at = os.open(space, _DIRECTORY, dir_fd=top)
            try:
                with os.scandir(at) as listing:
                    for entry in listing:
                        half = _HALF.fullmatch(entry.name)
                        if not half and not _ENTRY.fullmatch(entry.name):
                            continue
                        with contextlib.suppress(FileNotFoundError):
                            found = entry.stat(follow_symlinks=False)
                            if half and found.st_mtime < long_ago:
                                os.unlink(entry.name, dir_fd=at)
                            else:
                                size = _rounded(found.st_size)
                                yield _Entry(found.st_mtime_ns, size, space, entry.name)
            finally:
                os.close(at)


def _names(directory: int) -> list[str]:
    with os.scandir(directory) as listing:
        return [entry.name for entry in listing]


def _delete(top: int, space: str) -> None:
    """Delete a space."""
    at = os.open(space, _DIRECTORY, dir_fd=top)
    try:
        for name in _names(at):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=at)
    finally:
        os.close(at)
    with contextlib.suppress(OSError):  # another process has just written to it
        os.rmdir(space, dir_fd=top)


def _recorded(top: int) -> int | None:
    """Return the recorded size; None if it makes no sense."""
    with contextlib.suppress(OSError), open(os.open(_SIZE, _READ, dir_fd=top), "rb") as file:
        text = file.read(32)
        if text.isdigit():
            return int(text)
    return None


def _record(top: int, size: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(_SIZE, flags, 0o600, dir_fd=top), "wb") as file:
        file.truncate()
        file.write(f"{size:020}".encode())
