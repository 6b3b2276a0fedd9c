"""Packs that were sent and are in no root yet: remembered here, so that they need not be sent again
if the push that sends them is interrupted.

They are written down before they are sent. Whether they have arrived the remote tells; nobody but
this clone knows what they are, and a collection of garbage may take them away at any time. So
before a root lists one, it is made sure that it is there, and that none did (see `Journal.take`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from dorky import errors
from dorky.format.model import Location, ObjectId, Pack, Root
from dorky.remote.pending_deletes import delete
from dorky.remote.root import Remote, stored


class Sent(NamedTuple):
    """A pack that is in the remote but in no root yet, and what it holds."""

    pack: Pack
    locations: list[Location]

    @property
    def ids(self) -> set[ObjectId]:
        """What it holds."""
        return {at.id for at in self.locations}


class Journal:
    """The packs sent to a remote, in the local database: of this process, or of one that died.

    Args:
        remote: Where they were sent to.
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
            Sent(each, store.locations(each.id, remote=self._name))
            for each in store.packs(self._name)
        ]

    def add(self, sent: Sent) -> None:
        """Remember a pack that is about to be sent."""
        with self._database.transaction():
            if not self._sent:
                self._remote.store.retain(self._name, [])
            self._remote.store.record(self._name, sent.pack, sent.locations)
            self._database.set(self._key, str(self._under).encode())
        self._sent.append(sent)

    def take(
        self,
        root: Root | None,
        wanted: Collection[ObjectId],
        listed: Callable[[set[ObjectId]], set[ObjectId]],
    ) -> list[Sent]:
        """The packs that may be listed by the root that follows ``root``; the rest is forgotten.

        Such a pack holds something wanted, and nothing that is neither wanted nor listed: what a
        root lists it lists with everything below. It is sealed with no key that has been retired.
        And no collection of garbage has taken it away, or is about to.

        Args:
            root: The root to replace, or None.
            wanted: What it lacks.
            listed: Says which objects it lists.
        """
        kept = [each for each in self._sent if _fits(each, wanted, listed)]
        epochs = self._remote.store.vault.epochs
        retired = [each for each in self._sent if each.pack.epochs != epochs]
        if retired:
            # Somebody who has been removed since may hold the keys.
            delete(self._remote, [each.pack.id for each in retired])
        kept = [each for each in kept if each.pack.epochs == epochs]
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
        # An entry of `condemned` leaves it with a later collection. After two of them a pack may
        # have been condemned, deleted, forgotten, and written once more by a request that was late.
        if not 0 <= under - self._under <= 1:
            return []
        try:
            there = {name: each.size for name, each in stored(self._remote.driver).items()}
        except errors.AccessError:
            return []
        return [
            each
            for each in sent
            if each.pack.id not in condemned and there.get(each.pack.id) == each.pack.size
        ]

    def _keep(self, sent: list[Sent], under: int) -> None:
        with self._database.transaction():
            self._remote.store.retain(self._name, [each.pack.id for each in sent])
            self._database.set(self._key, str(under).encode())

    def clear(self) -> None:
        """Forget all of them: a root lists them now, or nobody needs them any more."""
        if self._sent:
            self._keep([], self._under)
            self._sent = []


def _fits(
    sent: Sent,
    wanted: Collection[ObjectId],
    listed: Callable[[set[ObjectId]], set[ObjectId]],
) -> bool:
    rest = sent.ids.difference(wanted)
    return len(rest) < len(sent.locations) and rest == listed(rest)


def remaining(remote: Remote, sent: Iterable[Sent], alive: set[ObjectId], under: int) -> list[Sent]:
    """The packs sent for a swap that was lost which its repetition may list, without a journal.

    Args:
        remote: Where they were sent to; its root has been fetched again.
        sent: They.
        alive: What may be listed.
        under: The ``gc_epoch`` of the root that was to be replaced. If it has moved, another
            collection may have condemned them.
    """
    assert remote.seen is not None
    if remote.seen.root.gc_epoch != under:
        return []
    epochs = remote.store.vault.epochs
    return [each for each in sent if each.pack.epochs == epochs and each.ids <= alive]
