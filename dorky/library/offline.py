"""A place that must not be asked: whatever the cache lacks is an error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

from dorky import errors
from dorky.drivers.base import LIMIT, Blob, Driver, Stat, Version


class Offline:
    """A driver that sends no request (see `drivers.base.Driver`).

    Args:
        url: The place, for messages.
    """

    scheme: ClassVar[str] = "offline"

    def __init__(self, url: str) -> None:
        self.url = url

    @classmethod
    def open(cls, url: str, options: Mapping[str, str]) -> Driver:  # noqa: ARG003
        """See `Driver.open`."""
        return cls(url)

    def get(
        self,
        key: str,
        *,
        unless: Version | None = None,
        limit: int = LIMIT,  # noqa: ARG002
    ) -> Blob | None:
        """Count a version that the caller has as the newest.

        Raises:
            NotCached: The caller has none.
        """
        if unless is None:
            raise errors.NotCached(self.url, f"the {key}")
        return None

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Refuse."""
        raise errors.NotCached(self.url, f"bytes {start} to {end} of {key}")

    def put(self, key: str, data: bytes) -> None:  # noqa: ARG002
        """Refuse."""
        raise errors.NotCached(self.url, f"{key}, which is to be written")

    def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:  # noqa: ARG002
        """Refuse."""
        raise errors.NotCached(self.url, f"{key}, which is to be written")

    def list(self, prefix: str) -> Iterator[Stat]:
        """Refuse."""
        raise errors.NotCached(self.url, f"the list of {prefix}*")

    def delete(self, keys: Iterable[str]) -> None:  # noqa: ARG002
        """Refuse."""
        raise errors.NotCached(self.url, "what is to be deleted")
