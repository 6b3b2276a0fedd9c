"""The `Driver` protocol: the operations that dorky needs of a place that stores bytes.

A driver maps keys (POSIX paths without a leading slash, ``root``, ``packs/…``) below its URL to
bytes. It never retries (the caller knows what is safe to send twice, see `drivers.retry`), never
interprets the bytes, and is used from several threads at once.

Contract (`dorky.testing` holds the suite that every driver must pass):

- A write that returned **must** be durable, and visible to every later read and list.
- A reader **must** see a whole object or none, never a part.
- A driver **must not** hold more of an object than was asked for: anyone who can write to the store
  decides how large an object is. `get` reads no further than its limit and raises `TooLarge`,
  `get_range` no further than its range, even if the store sends more or lies about the length.
- `swap` **must** be atomic among all clients of the store: of any number of concurrent swaps
  that name the same expected version exactly one succeeds.
- A failed call **must** raise from the error tree: `KeyNotFound` for a key that does not exist,
  `BucketNotFound`, `AccessDenied`/`NoCredentials`/`ExpiredCredentials`, `PreconditionFailed` from
  `swap` alone, `ServerBusy` for failures that may pass (429, 5xx), `Unreachable` for transport
  failures, `BadEndpoint` for answers that make no sense. `OSError` never leaves a driver.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import ClassVar, Literal, NamedTuple, NewType, Protocol, runtime_checkable

from dorky import errors

LIMIT = 1 << 20
"""The bytes of an object that a reader takes by default: the most that a root has."""

KEY_LIMIT = 1024
"""The most bytes of a key that stores allow. Source: the limits of S3 and of GCS."""

LISTED = 250_000
"""The most keys in a list: more than a root can name, and few enough for memory."""

Version = NewType("Version", str)
"""An opaque token naming one state of one key: an ETag, a generation, a hash."""


class Blob(NamedTuple):
    """An object as read: its bytes, and the version that `swap` accepts."""

    data: bytes
    version: Version


class Stat(NamedTuple):
    """One listed key: its size in bytes, and when the store says it was last written (UTC)."""

    key: str
    size: int
    modified: datetime


class Driver(Protocol):
    """One place that stores bytes. The module's docstring has the contract."""

    scheme: ClassVar[str]
    """The URL scheme this driver serves, as in the entry-point group ``dorky.drivers``."""

    url: str
    """The URL for messages, without credentials."""

    @classmethod
    def open(cls, url: str, options: Mapping[str, str]) -> Driver:
        """Make a driver for ``url``.

        Does no I/O on the network: the first request tells whether the place exists.

        Args:
            url: A whole URL of this driver's scheme (for ``file`` also a path).
            options: The caller's configuration for this remote: ``profile``, ``region``,
                ``endpoint``, ``ca_bundle`` and, when they were found in the environment,
                ``access_key_id``, ``secret_access_key``, ``session_token``, ``proxy`` (for
                unencrypted connections), ``tls_proxy`` and ``no_proxy``; ``service_account`` (a
                file), ``project`` and ``emulator`` (a URL) for GCS; ``private_hosts`` for https.
                A program may give
                ``connect_timeout``, ``read_timeout`` and ``request_timeout`` (seconds),
                ``user_agent``, and ``verify``: ``no`` to trust any certificate, ``yes`` if
                ``ca_bundle`` is its own choice.
                Unknown names are ignored.

        Raises:
            BadURL: The URL can't be this driver's.
        """

    def get(self, key: str, *, unless: Version | None = None, limit: int = LIMIT) -> Blob | None:
        """Read a whole object in **one request**.

        Args:
            key: The object's key.
            unless: A version that the caller has.
            limit: The most bytes that the object may have; no more is read.

        Returns:
            The object; or None if it is still at version ``unless`` (HTTP 304).

        Raises:
            KeyNotFound: The key does not exist.
            TooLarge: The object has more bytes than ``limit``.
        """

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Read bytes ``start`` to ``end`` (exclusive) in one request.

        Raises:
            KeyNotFound: The key does not exist.
            BadEndpoint: The store returned another number of bytes than asked for.
        """

    def put(self, key: str, data: bytes) -> None:
        """Write a whole object, replacing any (for packs, whose names are their hashes)."""

    def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:
        """Write an object only if it is at version ``expected`` (None: does not exist).

        Sent once, with ``Cache-Control: no-store``.

        Returns:
            The new version, fit for the next ``swap`` or ``get(unless=…)``.

        Raises:
            PreconditionFailed: The object is at another version, or exists while None was
                expected, or does not exist while a version was expected.
        """

    def list(self, prefix: str) -> Iterator[Stat]:
        """Return every key that begins with ``prefix`` (compared as strings), over all pages.

        Pages are fetched one by one: if the caller stops, the rest is not fetched.
        """

    def delete(self, keys: Iterable[str]) -> None:
        """Delete keys; a missing one counts as deleted."""


class Advice(NamedTuple):
    """One finding of a driver about its place; the same as `results.Check`.

    Attributes:
        name: The aspect: ``versioning``, ``lifecycle``, …
        verdict: How it is. An aspect that can't be inspected is no failure.
        about: The finding, or why there is none.
        remedy: What to do; empty if nothing is to be done.
    """

    name: str
    verdict: Literal["ok", "warn", "fail"]
    about: str
    remedy: str = ""


@runtime_checkable
class Inspected(Protocol):
    """A driver that can inspect how its place is set up, for `dorky doctor`.

    This is not part of the contract: drivers need not support it.
    """

    def inspect(self, keep: Sequence[str]) -> Iterator[Advice]:
        """Inspect one aspect after the other. Changes nothing.

        Args:
            keep: Prefixes of keys that only dorky may delete or archive.

        Yields:
            The findings. Missing permissions, and questions that the place does not understand,
            are findings too, not errors: few users of a bucket may administer it.
        """


def check_writable(driver: Driver) -> None:
    """Refuse, before anything is done, to write to a place that can only be read.

    A driver of such places has an attribute ``read_only`` that is true.

    Raises:
        ReadOnlyRemote: It can only be read.
    """
    if getattr(driver, "read_only", False):
        raise errors.ReadOnlyRemote(driver.url, "a web server takes no files")


class Bucket(NamedTuple):
    """A bucket: its name, when it was created (UTC; None if nothing tells), and its region."""

    name: str
    created: datetime | None
    region: str


class Administration(Protocol):
    """What the owner of buckets does with them. Every call is sent once."""

    def find(self) -> Bucket | None:
        """Return the driver's own bucket; None if it does not exist.

        Raises:
            AccessDenied: It is somebody else's, or the caller may not see it.
        """

    def create(self, region: str) -> Bucket:
        """Create the bucket, private.

        Args:
            region: Where; empty for the usual place.

        Raises:
            BucketExists: There is one of this name.
            UsageError: The service refuses the name or the region.
        """

    def protect(self) -> Iterator[Advice]:
        """Block public access, keep old versions, refuse unencrypted requests.

        Yields:
            A finding for each setting that could not be made: other settings are made all the same.
        """

    def examine(self) -> Iterator[Advice]:
        """Yield findings on who can get at the bucket, and how. Changes nothing."""

    def content(self) -> str:
        """Return what is in the bucket, in words; empty if nothing is."""

    def delete(self) -> None:
        """Delete the bucket, which must be empty.

        Raises:
            BucketNotEmpty: It is not.
        """

    def list(self) -> Iterator[Bucket]:
        """Yield the buckets of the account or project."""


@runtime_checkable
class Administered(Protocol):
    """A driver of places that lie in buckets. This is not part of the contract."""

    def administration(self) -> AbstractContextManager[Administration]:
        """Connect to administer buckets; errors of the service are raised from the error tree."""


def refusal(version: Version) -> str:
    """Return why a store may refuse to replace the very version that it shows."""
    if version.startswith("W/"):
        return "a proxy on the way makes its versions (ETags) weak"
    return "it refuses to replace the version (ETag) that it shows"


def check_credentials(url: str, *values: str | None) -> None:
    """Refuse credentials that can't be sent: the library that sends them would panic.

    Raises:
        NoCredentials: One of them holds a line break, or another character that is not printable.
    """
    for value in values:
        if value and not (value.isascii() and value.isprintable() and " " not in value):
            raise errors.NoCredentials(
                url, "a key or token holds a space, a line break or a character that is not ASCII"
            )


def check_endpoint(endpoint: str) -> str:
    """Return the URL of a server, without a slash at its end.

    Raises:
        BadEndpoint: It is not a URL that the clients' libraries take as it is meant.
    """
    # obstore panics on an invalid URL, and text after a ? would not belong to the path.
    if not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9/._~%-]*)?", endpoint):
        raise errors.BadEndpoint(endpoint, "an endpoint is written http://host or https://host")
    return endpoint.rstrip("/")


def split_bucket_url(url: str) -> tuple[str, str]:
    """Split ``scheme://bucket/prefix`` into the bucket and the prefix (no slash at its ends).

    Raises:
        BadURL: There is no bucket, or the prefix has parts that stores don't agree on.
    """
    bucket, _, prefix = url.partition("://")[2].partition("/")
    if "@" in bucket:
        # The error leaves out the part before the @, which may be a secret key.
        raise errors.BadURL(re.sub(r"//.*@", "//***@", url), "credentials don't belong into a URL")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bucket):
        raise errors.BadURL(url, "no bucket" if not bucket else f"no bucket is named {bucket}")
    prefix = prefix.rstrip("/")
    if prefix and any(part in ("", ".", "..") for part in prefix.split("/")):
        raise errors.BadURL(url, "its prefix has an empty part, . or ..")
    if not prefix.isprintable():
        raise errors.BadURL(repr(url), "its prefix has control characters")
    return bucket, prefix
