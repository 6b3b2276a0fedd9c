"""Sending ahead: packs are uploaded while those that follow are still being made.

The push that comes after decides everything. It lists the packs that it needs, and uploads what did
not arrive. So an upload that fails is no error here. Each pack is recorded before it is sent, and
stays in the local store until the push is done.
"""

from __future__ import annotations

import contextvars
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from dorky import cancellation, errors
from dorky.format.model import ObjectId, Pack, Root
from dorky.progress import SILENT, Progress
from dorky.remote.journal import Sent
from dorky.remote.push import SMALL, UPLOADS, listed_by
from dorky.remote.root import PACKS, Remote

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from typing_extensions import Self


class Record(Protocol):
    """A record of what was sent: a `Journal`, or one that this process alone has."""

    @property
    def sent(self) -> tuple[Sent, ...]:
        """Return the packs."""

    def begin(self, root: Root | None) -> None:
        """Prepare for packs that are uploaded before it is known which of them are wanted."""

    def add(self, sent: Sent) -> None:
        """Record a pack that is about to be uploaded."""

    def forget(self, sent: Sent) -> None:
        """Forget a pack that may not have arrived."""


class Ahead:
    """The uploads of packs that a push is going to need. A context manager, for one thread.

    The user **must** be allowed to write, and the remote's last seen root is the one to replace.

    Memory: at most `UPLOADS` packs of 32 MiB and an object.

    Args:
        remote: The remote.
        record: Receives what is sent.
    """

    def __init__(self, remote: Remote, record: Record) -> None:
        self._driver = remote.driver
        self._record = record
        record.begin(remote.seen.root if remote.seen else None)
        self._listed = listed_by(remote, remote.seen)
        self._known: set[ObjectId] = {i for sent in record.sent for i in sent.ids}
        self._pool: ThreadPoolExecutor | None = None
        caller = cancellation.current()
        self._call = cancellation.Call(*([caller] if caller else []))
        self._running: deque[tuple[Sent, Future[None]]] = deque()
        self.sent: list[Sent] = []
        """The packs that were sent."""
        self._failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._pool:
            # A user who presses Ctrl-C does not want to wait for the end of a slow upload. Python
            # waits for the pool's threads at its own end, so these stop waiting, too.
            patient = kind is None or issubclass(kind, Exception)
            if not patient:
                self._call.cancel()
            self._pool.shutdown(wait=patient, cancel_futures=True)

    def send(self, pack: Pack, index: bytes, data: bytes) -> None:
        """Upload a pack in a thread, unless the push had better make another of its objects.

        It had if the pack is small, or if the remote may hold some of its objects already.
        """
        from concurrent.futures import ThreadPoolExecutor

        sent = Sent(pack, index)
        ids = sent.ids
        if self._failed or pack.size < SMALL or ids & self._known or self._listed(ids):
            return
        self._known |= ids
        self.sent.append(sent)
        self._record.add(sent)
        while len(self._running) >= UPLOADS:
            self._wait()
        self._pool = self._pool or ThreadPoolExecutor(max_workers=UPLOADS)
        run = contextvars.copy_context().run
        upload = self._pool.submit(run, self._put, PACKS + pack.id, data)
        self._running.append((sent, upload))

    def _put(self, key: str, data: bytes) -> None:
        with cancellation.scope(self._call):
            self._driver.put(key, data)

    def _wait(self) -> int:
        sent, upload = self._running.popleft()
        try:
            upload.result()
        except errors.DorkyError:
            self._failed = True
            self._record.forget(sent)
        return sent.pack.size

    def finish(self, progress: Progress = SILENT) -> None:
        """Wait until everything that was sent has arrived, or has failed."""
        if self._running:
            progress.start("Uploading", sum(sent.pack.size for sent, _ in self._running), "B")
            while self._running:
                progress.advance(self._wait())
            progress.finish()
