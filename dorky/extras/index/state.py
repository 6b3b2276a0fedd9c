"""The state of the packages that a server shows, and what it keeps of it in memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

from dorky import errors
from dorky.client import DorkyClient
from dorky.extras.index.depot import Depot
from dorky.extras.index.storage import Directory, Nothing, Remote

T = TypeVar("T")


class View(NamedTuple):
    """One state of all packages.

    Attributes:
        version: The commit; empty if nothing tells states apart.
        depot: The packages in that state.
    """

    version: str
    depot: Depot


class Newest:
    """The newest state that the server has seen, by which all requests are answered.

    Any number of threads may use it. One of them asks for a newer one while the others go on.

    Args:
        version: Asks for the newest version.
        depot: Returns the packages as they are in a version.
        refresh: The seconds for which a state is used before the next is asked for.
        failed: Is told why none could be had.
    """

    def __init__(
        self,
        version: Callable[[], str],
        depot: Callable[[str], Depot],
        *,
        refresh: float,
        failed: Callable[[errors.DorkyError], None],
    ) -> None:
        self._version = version
        self._depot = depot
        self._refresh = refresh
        self._failed = failed
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._view: View | None = None

    @property
    def age(self) -> float:
        """Return the seconds since the newest state was asked for."""
        return time.monotonic() - self._asked

    def view(self) -> View:
        """Return the state, asked for again if it is due; an older one if that fails.

        Raises:
            DorkyError: There was never any.
        """
        held = self._view
        if held is None:
            return self.since(float("-inf"))
        if self.age > self._refresh and self._lock.acquire(blocking=False):
            try:
                return self._ask()
            except errors.DorkyError as error:
                # A state that was verified may be shown; the readiness tells how old it is.
                self._failed(error)
            finally:
                self._lock.release()
        return held

    def since(self, moment: float) -> View:
        """Return a state that was asked for at a moment of the monotonic clock, or later.

        Raises:
            DorkyError: There is none to be had.
        """
        with self._lock:
            if self._view and self._asked >= moment:
                return self._view
            return self._ask()

    def _ask(self) -> View:
        begun = time.monotonic()
        version = self._version()
        if self._view is None or version != self._view.version:
            self._view = View(version, self._depot(version))
        self._asked = begun
        return self._view


def of_client(
    client: DorkyClient,
    prefix: str,
    *,
    pinned: str,
    refresh: float,
    failed: Callable[[errors.DorkyError], None],
) -> Newest:
    """Return the state of a repository.

    Args:
        client: Its client.
        prefix: The directory of the packages in it.
        pinned: The one version to show; empty: the newest.
        refresh: See `Newest`.
        failed: See `Newest`.
    """

    def version() -> str:
        return pinned or next((commit.version for commit in client.log(limit=1)), "")

    def depot(version: str) -> Depot:
        return Depot(Remote(client.at(version), prefix, fixed=True) if version else Nothing())

    return Newest(version, depot, refresh=refresh, failed=failed)


def of_directory(directory: Directory) -> Newest:
    """Return the state of a directory, which is read afresh for each request."""
    depot = Depot(directory)
    return Newest(lambda: "", lambda _: depot, refresh=0, failed=lambda _: None)


class Kept(Generic[T]):
    """The things that were used last, up to a total size. Any number of threads may use it.

    Args:
        limit: The most that the sizes of all of them add up to.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._size = 0

    def get(self, key: Hashable) -> T | None:
        """Return the thing with a key; None if it is not held."""
        with self._lock:
            found = self._held.get(key)
            if found is None:
                return None
            self._held.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, thing: T, size: int) -> T:
        """Keep a thing; return it."""
        with self._lock:
            self._size += size - self._held.pop(key, (thing, 0))[1]
            self._held[key] = thing, size
            while self._size > self._limit:
                self._size -= self._held.popitem(last=False)[1][1]
        return thing
