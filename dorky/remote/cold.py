"""Cold reads: single files of a remote, without their history in the local store.

Each object costs two requests: a page of a table, and the range of the pack. The root holds head
commits, small root trees and the newest part of the team log; the table of recent packs is read
whole, once. Right after a garbage collection there is one other table, and never more than four.

Everything that is read is checked as after a fetch: the root and its signature, the whole team log,
the signature of the head commit, and each object by its id. The commits before the head are not
looked at, except where they must tell whose tree a group has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dorky import errors
from dorky.drivers.base import Driver
from dorky.format import model
from dorky.format.model import ALL, Chunk, Commit, Entry, Kind, ObjectId
from dorky.keys.teamlog import Team
from dorky.keys.vault import Vault
from dorky.remote import authority
from dorky.remote.listing import older
from dorky.remote.root import HEAD, PACKS, TABLES, Remote, RootSnapshot
from dorky.store import authorship, history, table
from dorky.store.table import Place

_PAGES = 64
"""How many pages of tables are kept, of at most 64 KiB each."""


class NeedsHistory(Exception):
    """Whether a group's tree is its members' can be told by a fetch alone.

    Somebody outside the group has merged two histories that differ in it.
    """


class Found(NamedTuple):
    """A file, link or directory, and the group that it belongs to."""

    group: str
    entry: Entry


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
        self._inline = {inlined.id: inlined for inlined in seen.root.inline}
        self._recent: dict[ObjectId, list[Place]] | None = None
        self._pages: dict[tuple[ObjectId, int], dict[ObjectId, list[Place]]] = {}

    def read(self, object_id: ObjectId, *, group: str | None = None) -> bytes:
        """Return the body of an object, verified.

        Args:
            object_id: The object.
            group: If given, the group that the object must be encrypted for.

        Raises:
            MissingObject: The root lists no such object.
            MissingPack: The pack is gone; perhaps there is a newer root.
            CorruptObject: The object is damaged, or for a group that the user is not in, or for
                another one than ``group``.
        """
        return self.open(object_id, group=group)[1]

    def open(self, object_id: ObjectId, *, group: str | None = None) -> tuple[Kind, bytes]:
        """Return the kind and the body of an object (see `read`)."""
        if held := self._inline.get(object_id):
            kind, stored, epochs = held.kind, held.data, self._epochs
        else:
            place = self.locate(object_id)
            if place is None:
                raise errors.MissingObject(object_id)
            kind, epochs = place.at.kind, place.epochs
            start, end = place.at.offset, place.at.offset + place.at.length
            try:
                stored = self._driver.get_range(PACKS + place.pack, start, end)
            except errors.KeyNotFound:
                raise errors.MissingPack(place.pack, self._driver.url) from None
        if group is not None and self._vault.group_of(stored) not in {group, None}:
            raise errors.CorruptObject(
                object_id, "it is sealed for another group than what names it"
            )
        return kind, self._vault.read(kind, object_id, stored, epochs=epochs)

    def locate(self, object_id: ObjectId) -> Place | None:
        """Return where a pack holds an object; None if no pack that the root lists does.

        Raises:
            CorruptTable: A table is damaged or gone; perhaps there is a newer root.
        """
        recent = {packed.id for packed in self._root.packs}
        for place in self._recently().get(object_id, ()):
            if place.pack in recent:
                return place
        dropped = set(self._root.dropped)
        for entry in older(self._root):
            for place in self._page(entry, table.page_of(entry, object_id)).get(object_id, ()):
                if place.pack not in dropped:
                    return place
        return None

    def _page(self, listed: model.Table, page: int) -> dict[ObjectId, list[Place]]:
        if (key := (listed.id, page)) not in self._pages:
            data = self._range(listed.id, *table.span(listed, page))
            if len(self._pages) == _PAGES:
                del self._pages[next(iter(self._pages))]
            self._pages[key] = table.read_page(listed, page, data, self._vault)
        return self._pages[key]

    def _recently(self) -> dict[ObjectId, list[Place]]:
        """Return the places of all objects of the recent packs."""
        if self._recent is None:
            self._recent = {}
            for entry in self._root.tables[:1] if self._root.packs else ():
                data = self._range(entry.id, 0, entry.size)
                for page in range(entry.pages):
                    start, end = table.span(entry, page)
                    self._recent |= table.read_page(entry, page, data[start:end], self._vault)
        return self._recent

    def _range(self, name: str, start: int, end: int) -> bytes:
        try:
            return self._driver.get_range(TABLES + name, start, end)
        except errors.KeyNotFound:
            raise errors.CorruptTable(name, "it is gone") from None


class Snapshot:
    """The newest commit of a remote, verified, and the files in it (see `opened`)."""

    def __init__(self, reader: Reader, seen: RootSnapshot, vault: Vault, team: Team) -> None:
        self.team = team
        """The team, as its log leaves it."""
        self._reader = reader
        self._vault = vault
        self._proven = {ALL}
        self.head: ObjectId | None = seen.root.refs.get(HEAD)
        """The newest commit; None if there is none."""
        self.commit: Commit | None = self._commit(self.head) if self.head else None
        """The newest commit's record."""

    def _commit(self, commit_id: ObjectId) -> Commit:
        commit = model.decode_commit(self._reader.read(commit_id, group=ALL), commit_id)
        if why := authorship.signature_fault(self._vault, self.team, commit_id, commit):
            raise errors.ForgedCommit(commit_id[:10], why)
        return commit

    def find(self, path: str) -> Found | None:
        """Return what is at a path; None if nothing is, or nothing that the user can read.

        Raises:
            ForgedCommit: The group's tree was not written by a member of the group.
            NeedsHistory: That can't be told without the history.
        """
        trees = self.commit.trees if self.commit else {}
        for group in history.in_order(trees.keys() & self._vault.groups):
            if entry := self._lookup(group, trees[group], path):
                self._prove(group)
                return Found(group, entry)
        return None

    def _lookup(self, group: str, tree: ObjectId | None, path: str) -> Entry | None:
        found = None
        for name in path.split("/"):
            found = self._entry(group, tree, name) if tree else None
            tree = found.content if found and found.is_tree else None
        return found

    def _entry(self, group: str, tree: ObjectId, name: str) -> Entry | None:
        node = model.decode_tree(self._reader.read(tree, group=group), tree)
        for digit in self._vault.place(name, group=group):
            if not node.parts:
                break
            tree = node.parts[int(digit, model.PARTS)]
            if not tree:
                return None
            node = model.decode_tree(self._reader.read(tree, group=group), tree)
        return next((entry for entry in node.entries if entry.name == name), None)

    def _prove(self, group: str) -> None:
        """Go back to a commit that a member of a group has signed, with the same tree of it."""
        commit_id, commit = self.head, self.commit
        while group not in self._proven:
            assert commit_id is not None
            assert commit is not None
            if commit.signer in self.team.insiders.get(group, ()):
                self._proven.add(group)
                return
            before = [self._commit(parent) for parent in commit.parents]
            trees = {parent.trees.get(group) for parent in before}
            if trees != {commit.trees[group]}:
                if len(trees) > 1:
                    raise NeedsHistory
                name = self.team.names[commit.signer]
                why = f"it changes files of a group that {name} was never in"
                raise errors.ForgedCommit(commit_id[:10], why)
            commit_id, commit = commit.parents[0], before[0]

    def read(self, found: Found, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of a file (or a link's target), piece by piece as they arrive.

        Memory: two chunk lists and one piece, at most 4 MiB.

        Args:
            found: The file.
            start: The first byte.
            end: The byte to end before; that of the whole file by default.

        Raises:
            CorruptObject: A piece is damaged, or is not as long as its list says.
        """
        stop = found.entry.size if end is None else min(end, found.entry.size)
        whole = Chunk(found.entry.content, found.entry.size)
        yield from self._pieces(found.group, whole, start, stop, depth=0)

    def _pieces(
        self, group: str, piece: Chunk, start: int, stop: int, *, depth: int
    ) -> Iterator[bytes]:
        kind, body = self._reader.open(piece.id, group=group)
        if kind is not Kind.CHUNKS:
            if kind is not Kind.CHUNK or len(body) != piece.length:
                raise errors.CorruptObject(piece.id, f"it is not {piece.length} bytes of content")
            yield body[max(0, start) : stop]
            return
        listed = model.decode_chunks(body, piece.id)
        if depth + listed.lists > 1 or sum(chunk.length for chunk in listed.chunks) != piece.length:
            raise errors.CorruptObject(piece.id, f"it is not a list of {piece.length} bytes")
        at = 0
        for chunk in listed.chunks:
            if at < stop and at + chunk.length > start:
                yield from self._pieces(group, chunk, start - at, stop - at, depth=depth + 1)
            at += chunk.length


def opened(remote: Remote) -> Snapshot:
    """Return the newest state of a remote, verified but not stored (see `verified`)."""
    return verified(remote)[2]


def verified(remote: Remote) -> tuple[RootSnapshot, bytes, Snapshot]:
    """Return the root of a remote, its bytes, and its newest state, without storing any of it.

    Takes one request, and two more for each entry of the team log that neither the local store nor
    the root holds.

    Raises:
        NoRepositoryAtURL: The remote holds no repository.
        Rewound: The root is older than what this clone, or this user on this machine, has seen.
        ForgedRoot: The root was not written by a member who may, or does not say what the log says.
        ForgedCommit: No member has signed the newest commit.
        WrongTeam: The team log is not the one that `.dorkyrc` pins.
    """
    answer = remote.read()
    assert answer is not None
    seen, data = answer
    authority.check_early(remote, seen)
    vault = remote.unlock(seen.header)
    reader = Reader(remote.driver, seen, vault)
    known = Team() if remote.accept_rewind else remote.store.database.team()

    def entry(entry_id: ObjectId) -> model.TeamEntry:
        return model.decode_entry(reader.read(entry_id, group=ALL), entry_id)

    team, new = authority.follow_log(seen, known, entry, remote.url)
    ids = {team.n: team.id, **{entered.entry.n: entered.id for entered in new}}
    if remote.pin:
        authority.compare_pin(
            remote.pin,
            team,
            lambda n: ids.get(n) or authority.nth(remote.store, known, n),
            remote.url,
        )
    return seen, data, Snapshot(reader, seen, vault, team)
