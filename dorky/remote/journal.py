"""The journal: packs that were uploaded but are in no root yet.

It is kept locally, so that an interrupted push need not upload them again. A pack is recorded
before it is uploaded. Only the remote tells whether it has arrived; no other clone knows what it
is, and a garbage collection may delete it at any time. So before a root lists such a pack, the push
makes sure that the pack is stored and that no collection has condemned it (see `Journal.take`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from dorky import errors
from dorky.format.model import Location, ObjectId, Pack, Root
from dorky.remote.pending_deletes import delete
from dorky.remote.root import PACKS, Remote, stored
from dorky.store import pack


class Sent(NamedTuple):
    """A pack that is in the remote but in no root yet, and its objects (see `pack.read_index`)."""

    pack: Pack
    where: bytes

    @property
    def locations(self) -> list[Location]:
        """Return where the pack's objects lie in it."""
        return pack.read_index(self.where)

    @property
    def ids(self) -> set[ObjectId]:
        """Return the ids of the pack's objects."""
        return {at.id for at in self.locations}


class PacksAhead(NamedTuple):
    """Packs that this process has uploaded ahead of a push.

    Attributes:
        sent: The packs, which are stored.
        under: The ``gc_epoch`` of a root that was seen before any of them was uploaded.
    """

    sent: tuple[Sent, ...] = ()
    under: int = 0


NONE = PacksAhead()


class Journal:
    """The packs uploaded to a remote, in the local database, by this process or by one that died.

    Args:
        remote: The remote that they were uploaded to.
    """

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._database = remote.store.database
        self._name = f"{remote.name}/sent"
        # Forgotten with the rest of what is known of a remote, whatever packs are recorded.
        self._key = f"remote.{remote.name}.sent"
        under = self._database.get(self._key)
        self._sent = self._recorded() if under else []
        self._under = int(under or 0)
        self._sure = not self._sent

    def _recorded(self) -> list[Sent]:
        store = self._remote.store
        return [
            Sent(packed, pack.make_index(store.locations(packed.id, remote=self._name)))
            for packed in store.packs(self._name)
        ]

    @property
    def sent(self) -> tuple[Sent, ...]:
        """Return the packs."""
        return tuple(self._sent)

    def begin(self, root: Root | None) -> None:
        """Prepare for packs that are uploaded before it is known which of them are wanted.

        Args:
            root: The root to replace, or None.
        """
        if not self._sent:
            self._under = root.gc_epoch if root else 0

    def add(self, sent: Sent) -> None:
        """Record a pack that is about to be uploaded."""
        with self._database.transaction():
            if not self._sent:
                self._remote.store.retain(self._name, [])
            self._remote.store.record(self._name, sent.pack, sent.locations)
            self._database.set(self._key, str(self._under).encode())
        self._sent.append(sent)

    def resume(self, ahead: PacksAhead) -> None:
        """Record packs that are stored already."""
        known = {upload.pack.id for upload in self._sent}
        new = [upload for upload in ahead.sent if upload.pack.id not in known]
        if not new:
            return
        if known:
            self._sure = self._sure and self._under == ahead.under
            self._under = min(self._under, ahead.under)
        else:
            self._under = ahead.under
        for upload in new:
            self.add(upload)

    def take(
        self,
        root: Root | None,
        wanted: Collection[ObjectId],
        listed: Callable[[set[ObjectId]], set[ObjectId]],
    ) -> list[Sent]:
        """Return the packs that the root after ``root`` may list; forget the rest.

        Such a pack holds something wanted, and nothing that is neither wanted nor listed: a root
        lists an object only with everything below it. The pack is not encrypted with a retired key.
        No garbage collection has deleted it, or is about to.

        Args:
            root: The root to replace, or None.
            wanted: The objects that the root lacks.
            listed: Returns which objects the root lists.
        """
        kept = [upload for upload in self._sent if _fits(upload, wanted, listed)]
        epochs = self._remote.store.vault.epochs
        retired = [upload for upload in self._sent if upload.pack.epochs != epochs]
        if retired:
            # A former member may hold the keys of these packs.
            delete(self._remote, [PACKS + upload.pack.id for upload in retired])
        kept = [upload for upload in kept if upload.pack.epochs == epochs]
        under = root.gc_epoch if root else 0
        if kept and not (self._sure and under == self._under):
            kept = self._still_there(kept, under, root.condemned if root else ())
        self._sure = True
        if kept != self._sent or (kept and under != self._under):
            self._keep(kept, under)
        self._sent, self._under = kept, under
        return list(kept)

    def _still_there(
        self, sent: Iterable[Sent], under: int, condemned: Collection[str]
    ) -> list[Sent]:
        # An entry leaves `condemned` with a later collection. After two, a pack may have been
        # condemned, deleted, forgotten, and written once more by a late request.
        if not 0 <= under - self._under <= 1:
            return []
        try:
            there = {name: found.size for name, found in stored(self._remote.driver).items()}
        except errors.AccessError:
            return []
        return [
            upload
            for upload in sent
            if upload.pack.id not in condemned and there.get(upload.pack.id) == upload.pack.size
        ]

    def _keep(self, sent: list[Sent], under: int) -> None:
        with self._database.transaction():
            self._remote.store.retain(self._name, [upload.pack.id for upload in sent])
            self._database.set(self._key, str(under).encode())

    def forget(self, sent: Sent) -> None:
        """Forget a pack that may not have arrived."""
        self._sent.remove(sent)
        self._keep(self._sent, self._under)

    def discard(self, sent: Collection[Sent]) -> None:
        """Delete packs of a push that was refused, unless a root lists them, and forget them.

        They may hold what others must not read.
        """
        listed = {packed.id for packed in self._remote.store.packs(self._remote.name)}
        if gone := {upload.pack.id for upload in sent} - listed:
            delete(self._remote, [PACKS + name for name in sorted(gone)])
        self._sent = [upload for upload in self._sent if upload.pack.id not in gone]
        self._keep(self._sent, self._under)

    def clear(self) -> None:
        """Forget all packs: a root lists them now, or nobody needs them any more."""
        if self._sent:
            self._keep([], self._under)
            self._sent = []


def _fits(
    sent: Sent,
    wanted: Collection[ObjectId],
    listed: Callable[[set[ObjectId]], set[ObjectId]],
) -> bool:
    ids = sent.ids
    rest = ids.difference(wanted)
    return len(rest) < len(ids) and rest == listed(rest)


def remaining(remote: Remote, sent: Iterable[Sent], alive: set[ObjectId], under: int) -> list[Sent]:
    """Return the packs of a lost swap that the next attempt may list, without a journal.

    Args:
        remote: The remote that they were uploaded to; its root has been fetched again.
        sent: The packs.
        alive: The objects that may be listed.
        under: The ``gc_epoch`` of the root that was to be replaced. If it has moved, another
            collection may have condemned the packs.
    """
    assert remote.seen is not None
    if remote.seen.root.gc_epoch != under:
        return []
    epochs = remote.store.vault.epochs
    return [upload for upload in sent if upload.pack.epochs == epochs and upload.ids <= alive]
