"""The outbox: packs that a call uploads before the commit that lists them.

The network is busy while the rest of a large source is still being read and encrypted.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from dorky import cancellation, errors
from dorky.format.model import ObjectId, Root
from dorky.library.session import Session
from dorky.remote import authority, pending_deletes
from dorky.remote.ahead import Ahead
from dorky.remote.journal import PacksAhead, Sent
from dorky.remote.root import PACKS

if TYPE_CHECKING:
    from typing_extensions import Self


class Outbox:
    """The packs of one call. A context manager, for any number of threads.

    At its end those are deleted that no root lists. If the program is killed, a later ``gc`` does
    that.

    Args:
        session: The session. Nothing is sent before `ahead` or `add` is called.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._store = session.store
        self._lock = threading.Lock()
        self._sent: list[Sent] = []
        self._under = 0
        self._kept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.keep_after(error)
        with cancellation.scope(None):
            self.delete_unlisted()

    @property
    def packs(self) -> PacksAhead:
        """Return the packs, for a push."""
        with self._lock:
            return PacksAhead(tuple(self._sent), self._under)

    @property
    def sent(self) -> tuple[Sent, ...]:
        """See `Journal`."""
        return self.packs.sent

    def begin(self, root: Root | None) -> None:
        """See `Journal`."""
        with self._lock:
            if not self._sent:
                self._under = root.gc_epoch if root else 0

    def add(self, sent: Sent) -> None:
        """See `Journal`."""
        with self._lock:
            self._sent.append(sent)

    def forget(self, sent: Sent) -> None:
        """See `Journal`."""
        with self._lock:
            self._sent.remove(sent)

    @contextlib.contextmanager
    def ahead(self) -> Iterator[Ahead | None]:
        """Yield what sends packs while the following ones are made.

        None if it is in use: its packs are in memory, so one source of a client at a time has it.

        Raises:
            NotWriter: The user may not write.
        """
        session = self._session
        sending = session.sending
        if not sending.acquire(blocking=False):
            yield None
            return
        try:
            with cancellation.holding(session.lock):
                authority.check_writer(session.remote)
                made = Ahead(session.remote, self)
            with made:
                yield made
        finally:
            sending.release()

    def keep_after(self, error: BaseException | None) -> None:
        """Delete nothing if a swap may still take effect, whose root lists the packs.

        It had no answer, or something like Ctrl-C came in between; no cancellation does.
        """
        orderly = isinstance(error, (Exception, cancellation.Cancelled, type(None)))
        self._kept = self._kept or isinstance(error, errors.Unavailable) or not orderly

    def delete_unlisted(self) -> None:
        """Delete the packs that no root lists; what can't be deleted is left for a ``gc``."""
        session = self._session
        with self._lock:
            sent, self._sent = {one.pack.id for one in self._sent}, []
        if not sent or self._kept or session.store is not self._store:
            return
        with session.lock:  # no push of this client can list one of them meanwhile
            if not sent - self._listed():
                return
            try:
                session.fetch()
            except errors.DorkyError:
                return
            pending_deletes.delete(
                session.remote, [PACKS + name for name in sorted(sent - self._listed())]
            )

    def _listed(self) -> set[ObjectId]:
        return {packed.id for packed in self._store.packs(self._session.remote.name)}
