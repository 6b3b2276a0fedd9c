"""Cold reads: single objects of a remote, without a local store.

Each object costs two requests: a page of a table, and the range of the pack. The root holds head
commits and small root trees; the table of recent packs is read whole, once. Right after a garbage
collection there is one other table, and never more than four.
"""

from __future__ import annotations

from dorky import errors
from dorky.drivers.base import Driver
from dorky.format.model import ObjectId
from dorky.keys.vault import Vault
from dorky.remote.listing import older
from dorky.remote.root import PACKS, TABLES, RootSnapshot
from dorky.store import table
from dorky.store.table import Place


class Reader:
    """A reader of the objects that one root lists.

    A table that lies about a place can only deny an object: what is read is verified by its id.

    Args:
        driver: The remote's driver.
        seen: The root.
        vault: The keys.
    """

    def __init__(self, driver: Driver, seen: RootSnapshot, vault: Vault) -> None:
        self._driver = driver
        self._root = seen.root
        self._epochs = len(seen.header.epochs)
        self._vault = vault
        self._inline = {each.id: each for each in seen.root.inline}
        self._recent: dict[ObjectId, list[Place]] | None = None

    def read(self, object_id: ObjectId) -> bytes:
        """Return the body of an object, verified.

        Raises:
            MissingObject: The root lists no such object.
            MissingPack: The pack is gone; perhaps there is a newer root.
            CorruptObject: The object is damaged, or for a group that the user is not in.
        """
        if held := self._inline.get(object_id):
            return self._vault.read(held.kind, object_id, held.data, epochs=self._epochs)
        place = self.locate(object_id)
        if place is None:
            raise errors.MissingObject(object_id)
        start, end = place.at.offset, place.at.offset + place.at.length
        try:
            stored = self._driver.get_range(PACKS + place.pack, start, end)
        except errors.KeyNotFound:
            raise errors.MissingPack(place.pack, self._driver.url) from None
        return self._vault.read(place.at.kind, object_id, stored, epochs=place.epochs)

    def locate(self, object_id: ObjectId) -> Place | None:
        """Return where a pack holds an object; None if no pack that the root lists does.

        Raises:
            CorruptTable: A table is damaged or gone; perhaps there is a newer root.
        """
        recent = {each.id for each in self._root.packs}
        for place in self._recently().get(object_id, ()):
            if place.pack in recent:
                return place
        dropped = set(self._root.dropped)
        for each in older(self._root):
            page = table.page_of(each, object_id)
            data = self._range(each.id, *table.span(each, page))
            places = table.read_page(each, page, data, self._vault).get(object_id, ())
            for place in places:
                if place.pack not in dropped:
                    return place
        return None

    def _recently(self) -> dict[ObjectId, list[Place]]:
        """Return the places of all objects of the recent packs."""
        if self._recent is None:
            self._recent = {}
            for each in self._root.tables[:1] if self._root.packs else ():
                data = self._range(each.id, 0, each.size)
                for page in range(each.pages):
                    start, end = table.span(each, page)
                    self._recent |= table.read_page(each, page, data[start:end], self._vault)
        return self._recent

    def _range(self, name: str, start: int, end: int) -> bytes:
        try:
            return self._driver.get_range(TABLES + name, start, end)
        except errors.KeyNotFound:
            raise errors.CorruptTable(name, "it is gone") from None
