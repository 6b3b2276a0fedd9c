"""The records that a client takes and returns."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from dorky import errors
from dorky.results import Result


class Absent(Enum):
    """The type of `ABSENT`."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
"""In the place of a version: the path must hold no file yet."""
IfVersion = str | Absent | None
"""The version that a file must still be at (see `DorkyClient.upload`)."""

_LEAST_PART, _MOST_PART = 8 << 20, 256 << 20
_LEAST_CACHE = 1 << 20
NOTHING: Mapping[str, str] = MappingProxyType({})


class FileInfo(Result, frozen=True, kw_only=True):
    """A file in a repository.

    Attributes:
        path: Its path.
        version: The commit in which it was read.
        kind: Whether it is a ``file``, a ``link``, or a ``directory`` of a list.
        size: Its size in bytes.
        content_hash: The SHA-256 of its content, in hex; empty for a directory.
        stored_size: The bytes that its content takes in the remote, compressed and encrypted.
        compression: The codec that the writer chose.
        content_type: Its media type.
        last_updated: When it was last changed, in UTC; None for a directory.
        uploaded_by: The member who changed it last.
        custom: Its metadata.
    """

    path: str
    version: str
    kind: Literal["file", "link", "directory"] = "file"
    size: int = 0
    content_hash: str = ""
    stored_size: int = 0
    compression: str = ""
    content_type: str = ""
    last_updated: datetime | None = None
    uploaded_by: str = ""
    custom: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it

    @property
    def id(self) -> str:
        """Return a name for this very version, accepted wherever a path is: VERSION:PATH."""
        return f"{self.version}:{self.path}"

    @property
    def etag(self) -> str:
        """Return what changes exactly when the content does."""
        return self.content_hash


class CommitInfo(Result, frozen=True, kw_only=True):
    """A commit: one state of all files.

    Attributes:
        version: Its id.
        parents: The commits before it.
        time: When it was made, in UTC.
        author: The member who has signed it.
        message: Its message.
    """

    version: str
    parents: tuple[str, ...]
    time: datetime
    author: str
    message: str


class Progress(Result, frozen=True, kw_only=True):
    """How far a transfer is.

    Attributes:
        path: The file that has just gone on.
        operation: Whether it is uploaded or downloaded.
        done: The bytes that are done, of all files.
        total: The bytes of all files, if that is known.
        files_done: The files that are done: all of them only once the commit is durable.
        files_total: The files of the transfer.
    """

    path: str
    operation: Literal["upload", "download"]
    done: int
    total: int | None
    files_done: int
    files_total: int


class Download(Result, frozen=True, kw_only=True):
    """A file that was downloaded; a path to it, for whatever takes paths.

    Attributes:
        info: The file in the repository.
        local_path: Where it lies; empty if it was written to a file object.
    """

    info: FileInfo
    local_path: str

    def __fspath__(self) -> str:
        return self.local_path


class BatchItem(Result, frozen=True, kw_only=True):
    """The outcome for one file of a batch.

    Attributes:
        path: Its path in the repository.
        info: The file; None if it failed.
        local_path: Where a downloaded file lies.
        error: Why it failed; None if it did not.
    """

    path: str
    info: FileInfo | None = None
    local_path: str = ""
    error: Exception | None = None


class BatchResult(Result, frozen=True, kw_only=True):
    """The outcome of a batch, in the order of its items.

    Attributes:
        items: The outcome for each file.
        version: The commit that holds what was uploaded; empty if nothing was.
    """

    items: tuple[BatchItem, ...]
    version: str = ""

    @property
    def failed(self) -> tuple[BatchItem, ...]:
        """Return the items that failed."""
        return tuple(item for item in self.items if item.error)


class Snapshot(Result, frozen=True, kw_only=True):
    """What a directory was brought to.

    Attributes:
        local_path: The directory.
        version: The commit that it now holds.
        written: The files that were written, or would be.
        unchanged: The files that were there already.
        deleted: The files that were deleted, or would be.
        left_out: Files that were not written: links, and what git would obey.
    """

    local_path: str
    version: str
    written: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        return self.local_path


class Credentials(msgspec.Struct, frozen=True):
    """A key of the storage service, given by value.

    Attributes:
        access_key_id: The key's id.
        secret_access_key: The key.
        session_token: The token that belongs to a temporary key.
    """

    access_key_id: str
    secret_access_key: str
    session_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.access_key_id[:4]}…)"


class Retry(msgspec.Struct, frozen=True):
    """How often, and how long, a request is sent again. Pauses are exponential, with full jitter.

    Attributes:
        tries: How often a request is sent at most.
        patience: The most seconds of all pauses.
        patience_offline: The same, while no connection can be made.
        first_delay: The most seconds of the first pause; the bound doubles with each try.
    """

    tries: int = 6
    patience: float = 30.0
    patience_offline: float = 3.0
    first_delay: float = 0.5


class Timeout(msgspec.Struct, frozen=True):
    """How long a client waits, in seconds.

    Attributes:
        connect: For a connection.
        read: For the next bytes of an answer.
        total: For all of a request, however often it is sent again; None: as long as it takes.
    """

    connect: float = 10.0
    read: float = 60.0
    total: float | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of a client; each field is a keyword of `DorkyClient`, too.

    Attributes:
        url: The repository; empty: ``DORKY_URL``, ``DORKY_BUCKET``, or the nearest `.dorkyrc`.
        identity: An age identity or SSH key: the path of its file, or the age key itself.
        fingerprint: The repository's key must lead back to this one.
        unencrypted: Whether the repository may be unencrypted.
        credentials: A key of the storage service, if the environment has none.
        profile: An AWS profile.
        region: An AWS region.
        endpoint: The server, if it is not the provider's own.
        ca_bundle: A file of certificates that are trusted.
        verify: Whether the server's certificate must be trusted.
        user_agent: The name that requests tell the server; empty: the library's own.
        retry: How requests are sent again.
        timeout: How long to wait; a number: the seconds for all of a request.
        max_concurrency: The most files that a batch transfers at once.
        chunk_size: The bytes of the blocks of `stream`.
        part_size: The bytes of the parts that large uploads are sent in: 8 MiB to 256 MiB.
        max_age: Seconds for which the newest state that was read counts as the newest.
        cache: Whether to keep what was read for other clients of this user, or the directory to
            keep it in; None: as the environment and the user's configuration say, else True.
        cache_max_size: The bytes that the cache takes at most; None: likewise, else 2 GiB.
    """

    url: str = ""
    identity: str = ""
    fingerprint: str = ""
    unencrypted: bool = False
    credentials: Credentials | None = None
    profile: str = ""
    region: str = ""
    endpoint: str = ""
    ca_bundle: str = ""
    verify: bool = True
    user_agent: str = ""
    retry: Retry = Retry()
    timeout: Timeout | float = Timeout()
    max_concurrency: int = 32
    chunk_size: int = 1 << 20
    part_size: int = 32 << 20
    max_age: float = 0.0
    cache: str | bool | None = None
    cache_max_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse what can't be.

        Raises:
            UsageError: A number is out of its range.
        """
        waits = self.waits
        times = {
            "timeout": min(waits.connect, waits.read, 1 if waits.total is None else waits.total)
        }
        counts = {"max_concurrency": self.max_concurrency, "chunk_size": self.chunk_size}
        for name, value in (counts | times).items():
            if value <= 0:
                raise errors.UsageError(f"{name} is a positive number")
        if not _LEAST_PART <= self.part_size <= _MOST_PART:
            raise errors.UsageError("part_size is from 8 MiB to 256 MiB")
        if self.cache_max_size is not None and self.cache_max_size < _LEAST_CACHE:
            raise errors.UsageError("cache_max_size is at least 1 MiB")

    @property
    def waits(self) -> Timeout:
        """Return how long to wait, as a record."""
        return self.timeout if isinstance(self.timeout, Timeout) else Timeout(total=self.timeout)

    def __repr__(self) -> str:
        given = {
            name: getattr(self, name)
            for name, usual in zip(self.__struct_fields__, self.__struct_defaults__, strict=True)
            if getattr(self, name) != usual
        }
        shown = {name: "…" if name == "identity" else value for name, value in given.items()}
        return f"Config({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


StrPath = str | os.PathLike[str]
