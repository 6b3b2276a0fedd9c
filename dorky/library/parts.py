"""Uploads in parts that the caller produces, in any order, from any number of threads."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from dorky import errors
from dorky.format import chunk
from dorky.format.codec import Coding
from dorky.format.model import Chunk, Kind, MiB
from dorky.library import commits, sources
from dorky.library.commits import Expected, Put, Request
from dorky.library.contents import Content
from dorky.library.outbox import Outbox
from dorky.library.records import FileInfo
from dorky.library.session import Session
from dorky.library.sources import Source
from dorky.parallel import THREADS, in_order
from dorky.remote import authority, push, rotate
from dorky.remote.root import PACKS
from dorky.store import contents

if TYPE_CHECKING:
    from typing_extensions import Self

_WORTH = 1 * MiB
"""Less than this is not sent by itself, but with the commit."""


class _Part(NamedTuple):
    """A part: its bytes, as chunks."""

    size: int
    chunks: tuple[Chunk, ...]


class UploadSession:
    """A file that is uploaded in parts (see `DorkyClient.start_upload`).

    A part is encrypted and sent when it is put; nobody sees any of it before `complete`. Any number
    of threads may put parts. As a context manager it gives up the upload if an exception leaves the
    block, or if the block ends without `complete`.

    If the program is killed, a later ``gc`` deletes the parts that were sent.

    Attributes:
        path: The path that the file gets.
    """

    def __init__(
        self,
        session: Session,
        path: str,
        meta: dict[str, str],
        how: Coding,
        expected: Expected | None,
    ) -> None:
        self.path = path
        self._session = session
        self._store = session.store
        self._meta = meta
        self._how = how
        self._expected = expected
        self._group = commits.owner_of(session, path)
        self._outbox = Outbox(session)
        with session.lock:
            authority.check_writer(session.remote)
            seen = session.remote.seen
            self._outbox.begin(seen.root if seen else None)
        self._lock = threading.Lock()
        self._ending = threading.Lock()
        self._parts: dict[int, _Part] = {}
        self._done: FileInfo | None = None
        self._aborted = False

    @property
    def parts(self) -> Mapping[int, int]:
        """Return the sizes in bytes of the parts that were put, by number."""
        with self._lock:
            return MappingProxyType({n: part.size for n, part in sorted(self._parts.items())})

    def put_part(self, n: int, data: Source) -> None:
        """Encrypt and send a part. Putting the same part again changes nothing.

        Args:
            n: Its number: the file is made of all parts in the order of their numbers, which may
                have gaps. Another part of the same number is replaced.
            data: Its bytes, at least one; a path, a file or an iterable, as in
                `DorkyClient.upload`, are read in bounded memory.

        Raises:
            UsageError: The upload has ended, or the part is empty.
        """
        self._check()
        if n < 0:
            raise errors.UsageError(f"a part's number is not negative: {n}")
        store = self._store
        with sources.opened(data) as reading, store.writer() as writer:
            bodies = chunk.cut(reading, seed=store.vault.gear_seed(self._group))
            chunks = tuple(
                Chunk(object_id, length)
                for object_id, length in writer.add_all(
                    Kind.CHUNK, bodies, group=self._group, how=self._how
                )
            )
            writer.save()
        if not reading.size:
            raise errors.UsageError(f"part {n} is empty")
        self._send(chunks)
        with self._lock:
            self._check()
            self._parts[n] = _Part(reading.size, chunks)

    def _send(self, chunks: tuple[Chunk, ...]) -> None:
        """Upload packs of those chunks that the remote lacks, if they are worth it."""
        store, session = self._store, self._session
        there = {object_id for sent in self._outbox.sent for object_id in sent.ids}
        wanted = {part.id for part in chunks} - there
        wanted -= store.locate(wanted, remote=session.remote.name).keys()
        places = store.locate(wanted)
        if sum(at.length for at in places.values()) < _WORTH:
            return
        vault = store.vault
        driver = session.remote.driver
        for sent, data in push.build(vault, rotate.renewed(store, vault, wanted), store.pack_size):
            driver.put(PACKS + sent.pack.id, data)
            self._outbox.add(sent)

    def complete(self, message: str = "", *, idempotency_key: str = "") -> FileInfo:
        """Put the file at its path, as a commit in the remote. When it returns, that is durable.

        It may be called again after an error; once it has succeeded, it returns the same again.

        Args:
            message: The commit's message.
            idempotency_key: As in `DorkyClient.upload`.

        Raises:
            UsageError: No part was put, or the upload was given up.
            UpdateConflict: Somebody else has changed the file since the upload was started.
        """
        with self._ending:
            if self._done is None:
                self._check()
                with self._lock:
                    parts = [part for _, part in sorted(self._parts.items())]
                if not parts:
                    raise errors.UsageError(f"no part of {self.path} was put")
                put = Put(self.path, self._content(parts), self._meta)
                request = Request(
                    [put],
                    message or f"Upload {self.path}",
                    expected=self._expected,
                    key=idempotency_key,
                    ahead=self._outbox.packs,
                )
                try:
                    done = commits.submit(self._session, request)
                except BaseException as error:
                    self._outbox.keep_after(error)
                    raise
                self._done = next(commits.infos(self._session, [done]))
                self._outbox.delete_unlisted()
            return self._done

    def _content(self, parts: list[_Part]) -> Content:
        """Return the file's content, which is read once more: its hash is that of all in order."""
        store, group = self._store, self._group
        chunks = [one for part in parts for one in part.chunks]
        size = sum(part.size for part in parts)
        sha256 = hashlib.sha256()
        bodies = in_order(
            lambda one: store.read(one.id, group=group), chunks, threads=min(THREADS, 4)
        )
        if size <= chunk.WHOLE:
            body = b"".join(bodies)
            digest = hashlib.sha256(body).hexdigest()
            return Content(size, digest, 0, group, self._how, body)
        for block in bodies:
            sha256.update(block)
        with store.writer() as writer:
            content = contents.write(writer, chunks, group=group)
            writer.save()
        assert content is not None
        return Content(size, sha256.hexdigest(), 0, group, self._how, id=content)

    def abort(self) -> None:
        """Give up the upload, and delete what was sent. Does nothing after `complete`."""
        with self._ending:
            if self._done is None and not self._aborted:
                self._aborted = True
                self._outbox.delete_unlisted()

    def _check(self) -> None:
        if self._done or self._aborted:
            raise errors.UsageError(f"the upload of {self.path} has ended")
        if self._session.store is not self._store:
            raise errors.UsageError("the client was closed since the upload was started")

    def __enter__(self) -> Self:
        self._check()
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()
