"""Where a depot lies: a directory, or a directory of a repository's."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import random
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from dorky import errors
from dorky.client import ABSENT, DorkyClient, FileInfo
from dorky.extras.index.records import Source, opened

Changes = Mapping[str, "Source | None"]
"""New contents by path, in the order in which they are written; None deletes."""

_TRIES = 30
_BLOCK = 1 << 20
_SENT = 256 << 10
"""The bytes of a block to be sent: as many as are still near when the socket copies them."""


class Opened(NamedTuple):
    """A file that is open for reading, and can seek.

    Attributes:
        file: The file.
        size: Its size in bytes.
        sha256: Its SHA-256, in hex, if the storage knows that without reading the file.
        blocks: All of it in blocks, faster than from the file; None if the file is as fast.
    """

    file: IO[bytes]
    size: int
    sha256: str
    blocks: Iterator[bytes] | None = None


class Storage(Protocol):
    """What a depot needs. Paths are relative, and hold no ``..``."""

    @property
    def place(self) -> str:
        """Return the name of the place, for people."""

    def directories(self, path: str) -> list[str]:
        """Return the names of the directories in a directory, sorted."""

    def sizes(self, path: str) -> dict[str, int]:
        """Return the size of each file that lies in a directory, by name, sorted."""

    def digests(self, path: str) -> dict[str, str]:
        """Return the SHA-256 of each file that lies in a directory, by name, sorted."""

    def read(self, path: str) -> bytes:
        """Return the content of a file.

        Raises:
            NoSuchFile: There is none.
        """

    def open(self, path: str) -> Opened:
        """Open a file.

        Raises:
            NoSuchFile: There is none.
        """

    def bundles(self, path: str) -> Sequence[bytes]:
        """Return the signatures of a file (see `DorkyClient.get_bundles`)."""

    def is_closed(self, path: str) -> bool:
        """Return whether a file there could not be seen (see `DorkyClient.is_closed`)."""

    def change(self, make: Callable[[Storage], Changes], message: str) -> None:
        """Change files, all or none, by what a function says that is given the newest state."""


class Directory:
    """A depot in a directory on the disk.

    Nothing follows a symbolic link in it: what lies there may come from a repository.

    Args:
        root: The directory, which need not exist.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def place(self) -> str:
        """See `Storage.place`."""
        return str(self._root)

    def directories(self, path: str) -> list[str]:
        """See `Storage.directories`."""
        with self._entries(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))

    def sizes(self, path: str) -> dict[str, int]:
        """See `Storage.sizes`."""
        with self._entries(path) as entries:
            found = [
                (entry.name, entry.stat(follow_symlinks=False).st_size)
                for entry in entries
                if entry.is_file(follow_symlinks=False)
            ]
        return dict(sorted(found))

    def digests(self, path: str) -> dict[str, str]:
        """See `Storage.digests`."""
        return {name: self._digest(f"{path}/{name}") for name in self.sizes(path)}

    def _digest(self, path: str) -> str:
        digest = hashlib.sha256()
        with self.open(path).file as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()

    @contextlib.contextmanager
    def _entries(self, path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        try:
            self._check_above(f"{path}/.")
            found = os.scandir(self._root / path)
        except (FileNotFoundError, NotADirectoryError):
            yield iter(())
            return
        with found as entries:
            # Temporary files, and what other programs leave, begin with a dot.
            yield (entry for entry in entries if not entry.name.startswith("."))

    def _check_above(self, path: str) -> None:
        """Refuse a path through a symbolic link.

        Raises:
            BadRecord: There is one.
        """
        place = self._root
        for part in path.split("/")[:-1]:
            place /= part
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISLNK(place.lstat().st_mode):
                    raise errors.BadRecord(str(place), "it is a symbolic link")

    def read(self, path: str) -> bytes:
        """See `Storage.read`."""
        with self.open(path).file as file:
            return file.read()

    def open(self, path: str) -> Opened:
        """See `Storage.open`."""
        self._check_above(path)
        place = self._root / path
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise errors.BadRecord(str(place), "it is a symbolic link") from None
            if isinstance(error, (FileNotFoundError, NotADirectoryError)):
                raise errors.NoSuchFile(path, self.place) from None
            raise errors.DiskError(str(place), error.strerror) from error
        file = os.fdopen(descriptor, "rb")
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            file.close()
            raise errors.BadRecord(str(place), "it is no file")
        return Opened(file, found.st_size, "")

    def bundles(self, path: str) -> Sequence[bytes]:  # noqa: ARG002
        """See `Storage.bundles`: a directory has none."""
        return ()

    def is_closed(self, path: str) -> bool:  # noqa: ARG002
        """See `Storage.is_closed`."""
        return False

    def change(self, make: Callable[[Storage], Changes], message: str) -> None:  # noqa: ARG002
        """See `Storage.change`.

        A power failure may leave files of which no record tells yet; the same call ends it.
        """
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with self._locked():
                self._write(make(self))
        except OSError as error:
            raise errors.DiskError(error.filename or self.place, error.strerror) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, changes: Changes) -> None:
        written: dict[str, Path] = {}
        try:
            for path, source in changes.items():
                if source is not None:
                    written[path] = self._written(path, source)
            for path in changes:
                place = self._root / path
                if path in written:
                    written[path].replace(place)
                else:
                    place.unlink(missing_ok=True)
                    with contextlib.suppress(OSError):  # others are in it
                        place.parent.rmdir()
            for parent in {(self._root / path).parent for path in changes}:
                _flush(parent)
        finally:
            for temporary in written.values():
                temporary.unlink(missing_ok=True)

    def _written(self, path: str, source: Source) -> Path:
        """Write a temporary file next to a path; return it."""
        self._check_above(path)
        place = self._root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f".{secrets.token_hex(8)}.tmp")
        with opened(source) as original, temporary.open("xb") as copy:
            shutil.copyfileobj(original, copy, _BLOCK)
            copy.flush()
            os.fsync(copy.fileno())
        return temporary


def _flush(directory: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Remote:
    """A depot in a repository: of one version if the client is pinned to one, else the newest.

    Args:
        client: The client.
        prefix: The directory of the depot in the repository; empty: all of it.
        fixed: Whether the client is pinned, so that nothing ever changes.
    """

    def __init__(self, client: DorkyClient, prefix: str = "", *, fixed: bool = False) -> None:
        self._client = client
        self._prefix = prefix.strip("/")
        self._fixed = fixed
        self._last: tuple[str, dict[str, FileInfo]] = "", {}

    @property
    def place(self) -> str:
        """See `Storage.place`."""
        return self._client.url

    def _path(self, path: str) -> str:
        return "/".join(filter(None, (self._prefix, path)))

    def directories(self, path: str) -> list[str]:
        """See `Storage.directories`."""
        found = self._client.list(self._path(path), recursive=False, details=False)
        return [info.path.rpartition("/")[2] for info in found if info.kind == "directory"]

    def sizes(self, path: str) -> dict[str, int]:
        """See `Storage.sizes`."""
        return {name: info.size for name, info in self._files(path).items()}

    def digests(self, path: str) -> dict[str, str]:
        """See `Storage.digests`."""
        return {name: info.content_hash for name, info in self._files(path).items()}

    def _files(self, path: str) -> dict[str, FileInfo]:
        """Return the files in a directory, by name. The last one asked for is remembered."""
        last, found = self._last
        if not self._fixed or last != path:
            whole = self._client.list(self._path(path), recursive=False, details=False)
            found = {info.path.rpartition("/")[2]: info for info in whole if info.kind == "file"}
            self._last = path, found
        return found

    def read(self, path: str) -> bytes:
        """See `Storage.read`."""
        return self._client.read(self._path(path))

    def open(self, path: str) -> Opened:
        """See `Storage.open`."""
        whole = self._path(path)
        found = self._client.list(whole, recursive=False, details=False)
        info = next((info for info in found if info.path == whole), None)
        if info is None:
            raise errors.NoSuchFile(path, self.place)
        if info.kind != "file":
            raise errors.BadRecord(path, "it is a symbolic link")
        file = self._client.open(whole, version=info.version)
        blocks = self._client.stream(whole, version=info.version, chunk_size=_SENT)
        return Opened(file, info.size, info.content_hash, blocks)

    def bundles(self, path: str) -> Sequence[bytes]:
        """See `Storage.bundles`."""
        return self._client.get_bundles(self._path(path))

    def is_closed(self, path: str) -> bool:
        """See `Storage.is_closed`."""
        return self._client.is_closed(self._path(path))

    def change(self, make: Callable[[Storage], Changes], message: str) -> None:
        """See `Storage.change`: it is one commit, made again if somebody else was first.

        Raises:
            UpdateConflict: Somebody else was first each time.
        """
        for left in reversed(range(_TRIES)):
            version = next((commit.version for commit in self._client.log(limit=1)), "")
            state = Remote(self._client.at(version), self._prefix) if version else Nothing()
            changes = make(state)
            try:
                self._commit(changes, version, message)
                return
            except errors.UpdateConflict:
                if not left:
                    raise
            time.sleep(random.uniform(0, 0.2))  # noqa: S311 - others wait for another time

    def _commit(self, changes: Changes, version: str, message: str) -> None:
        if not changes:
            return
        with self._client.batch(message=message, if_version=version or ABSENT) as batch:
            for path, source in changes.items():
                if source is None:
                    batch.delete(self._path(path), missing_ok=True)
                else:
                    with opened(source) as file:
                        batch.upload(file, self._path(path))


class Nothing:
    """The state of a repository that has no commit yet."""

    place = ""

    def directories(self, path: str) -> list[str]:  # noqa: ARG002
        """See `Storage.directories`."""
        return []

    def sizes(self, path: str) -> dict[str, int]:  # noqa: ARG002
        """See `Storage.sizes`."""
        return {}

    def digests(self, path: str) -> dict[str, str]:  # noqa: ARG002
        """See `Storage.digests`."""
        return {}

    def read(self, path: str) -> bytes:
        """See `Storage.read`."""
        raise errors.NoSuchFile(path, self.place)

    def open(self, path: str) -> Opened:
        """See `Storage.open`."""
        raise errors.NoSuchFile(path, self.place)

    def bundles(self, path: str) -> Sequence[bytes]:  # noqa: ARG002
        """See `Storage.bundles`."""
        return ()

    def is_closed(self, path: str) -> bool:  # noqa: ARG002
        """See `Storage.is_closed`."""
        return False

    def change(
        self,
        make: Callable[[Storage], Changes],  # noqa: ARG002
        message: str,  # noqa: ARG002
    ) -> None:
        """See `Storage.change`."""
        raise errors.ReadOnlyClient("")
