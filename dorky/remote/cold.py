"""Cold reads: single files of a remote, without their history in the local store.

Each object costs one request, the range of a pack, if the tables are so small that they are read
whole, once: up to about 30,000 objects. Of larger tables it costs another one, a page. The root
holds head commits, small root trees and the newest part of the team log. Besides the table of
recent packs there is one right after a garbage collection, and never more than four.

Everything that is read is checked as after a fetch: the root and its signature, the whole team log,
the signature of the head commit, and each object by its id. The commits before the head are not
looked at, except where they must tell whose tree a group has.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator

from dorky import errors
from dorky.drivers.base import Driver
from dorky.format import model
from dorky.format.model import ALL, Chunk, Commit, KiB, Kind, MiB, ObjectId
from dorky.keys import placement
from dorky.keys.teamlog import Team
from dorky.keys.vault import Vault
from dorky.remote import authority
from dorky.remote.cache import NOWHERE, Space
from dorky.remote.fetch import Span, spans
from dorky.remote.listing import older
from dorky.remote.root import HEAD, PACKS, TABLES, Remote, RootSnapshot
from dorky.store import authorship, history, table
from dorky.store.history import Placed
from dorky.store.objects import PackedObject
from dorky.store.projection import View
from dorky.store.table import Place

_PAGES = 64
"""How many pages of tables are kept, of at most 64 KiB each."""
_WHOLE = 1792 * KiB
"""Tables of so many bytes together are read whole, so that objects cost one request each."""
_KEPT = 8 * MiB
"""The bytes of trees, lists of chunks and commits that are kept."""
_BACK = 16
"""How many commits are looked at to tell whose tree a group has."""


class NeedsHistory(Exception):
    """A fetch alone can tell whether a group's tree is its members'.

    Somebody outside the group has merged two histories that differ in it, or has made many commits
    since a member did.
    """


class Kept:
    """Pages and objects that were read of a remote. They serve readers of all its roots."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pages: dict[tuple[ObjectId, int], dict[ObjectId, list[Place]]] = {}
        self.bodies: dict[ObjectId, tuple[str | None, Kind, bytes]] = {}
        self.room = _KEPT
        self.table: ObjectId = ""
        """The table in which an object was found last: those of one file mostly lie together."""

    def keep(self, object_id: ObjectId, group: str | None, kind: Kind, body: bytes) -> None:
        """Keep an object other than a chunk; forget the oldest ones if there is no room."""
        with self.lock:
            if kind is Kind.CHUNK or object_id in self.bodies or len(body) > _KEPT:
                return
            self.bodies[object_id] = group, kind, body
            self.room -= len(body)
            while self.room < 0:
                self.room += len(self.bodies.pop(next(iter(self.bodies)))[2])

    def keep_page(self, key: tuple[ObjectId, int], page: dict[ObjectId, list[Place]]) -> None:
        """Keep a page of a table, or forget the oldest one for it."""
        with self.lock:
            if len(self.pages) == _PAGES:
                del self.pages[next(iter(self.pages))]
            self.pages[key] = page


class Reader:
    """A reader of the objects that one root lists. Any number of threads may use it.

    A table that lies about a place can only deny an object: what is read is verified by its id.

    Args:
        driver: The remote's driver.
        seen: The root.
        vault: The keys.
        kept: What readers of earlier roots have read.
        space: What earlier processes have read.
    """

    def __init__(
        self,
        driver: Driver,
        seen: RootSnapshot,
        vault: Vault,
        kept: Kept | None = None,
        space: Space = NOWHERE,
    ) -> None:
        self.vault = vault
        self.left_out: set[str] = set()
        self.recent = None
        self.driver = driver
        self._root = seen.root
        self._epochs = len(seen.header.epochs)
        self._inline = {inlined.id: inlined for inlined in seen.root.inline}
        self.kept = kept or Kept()
        self._space = space
        self._whole: set[ObjectId] = set()
        room = _WHOLE
        for entry in seen.root.tables:
            if entry.pages * entry.page <= room:
                self._whole.add(entry.id)
                room -= entry.pages * entry.page

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
        held = self.kept.bodies.get(object_id)
        if held and (group is None or held[0] in {group, None}):
            return held[1], held[2]
        body = self.read_all({object_id}, group=group)[object_id]
        return self.kind(object_id), body

    def kind(self, object_id: ObjectId) -> Kind:
        """Return the kind of an object, which is not read.

        Raises:
            MissingObject: The root lists no such object.
        """
        if held := self._inline.get(object_id):
            return held.kind
        if cached := self._space.object(self.vault, object_id):
            return cached.kind
        if place := self.locate(object_id):
            return place.at.kind
        raise errors.MissingObject(object_id)

    def read_all(
        self, ids: Collection[ObjectId], *, group: str | None = None, keep: bool = True
    ) -> dict[ObjectId, bytes]:
        """Return the bodies of objects, verified (see `read`); neighbours come by one request.

        Args:
            ids: The objects.
            group: If given, the group that the objects must be encrypted for.
            keep: Whether the cache keeps them.
        """
        found: dict[ObjectId, bytes] = {}
        places: dict[ObjectId, Place] = {}
        for object_id in ids:
            if held := self._inline.get(object_id):
                opened = self._opened(held.kind, object_id, held.data, group, self._epochs)
                found[object_id] = opened
            elif cached := self._space.object(self.vault, object_id, group):
                found[object_id] = cached.body
                self.kept.keep(object_id, *cached)
            elif place := self.locate(object_id):
                places[object_id] = place
            else:
                raise errors.MissingObject(object_id)
        packed = [
            PackedObject(at.kind, at.id, pack, at.offset, at.length)
            for pack, _, at in places.values()
        ]
        for span in spans(packed):
            for at, stored in span.cut(self._pack_range(span)):
                epochs = places[at.id].epochs
                found[at.id] = self._opened(at.kind, at.id, stored, group, epochs)
                if keep:
                    self._space.keep_object(at.kind, at.id, stored)
        return found

    def _pack_range(self, span: Span) -> bytes:
        try:
            return self.driver.get_range(PACKS + span.pack, span.start, span.end)
        except errors.KeyNotFound:
            raise errors.MissingPack(span.pack, self.driver.url) from None

    def _opened(
        self,
        kind: Kind,
        object_id: ObjectId,
        stored: bytes | memoryview,
        group: str | None,
        epochs: int,
    ) -> bytes:
        own = self.vault.group_of(stored)
        if group is not None and own not in {group, None}:
            raise errors.CorruptObject(
                object_id, "it is sealed for another group than what names it"
            )
        body = self.vault.read(kind, object_id, stored, epochs=epochs)
        self.kept.keep(object_id, own, kind, body)
        return body

    def locate(self, object_id: ObjectId) -> Place | None:
        """Return where a pack holds an object; None if no pack that the root lists does.

        Raises:
            CorruptTable: A table is damaged or gone; perhaps there is a newer root.
        """
        recent = {packed.id for packed in self._root.packs}
        for entry in self._root.tables[:1] if recent else ():
            for place in self._page(entry, object_id).get(object_id, ()):
                if place.pack in recent:
                    return place
        dropped = set(self._root.dropped)
        # The sort is stable: the newest ones come first otherwise.
        for entry in sorted(older(self._root), key=lambda entry: entry.id != self.kept.table):
            for place in self._page(entry, object_id).get(object_id, ()):
                if place.pack not in dropped:
                    self.kept.table = entry.id
                    return place
        return None

    def _page(self, listed: model.Table, object_id: ObjectId) -> dict[ObjectId, list[Place]]:
        wanted = table.page_of(listed, object_id)
        if (page := self.kept.pages.get((listed.id, wanted))) is not None:
            return page

        def check(data: bytes) -> dict[ObjectId, list[Place]]:
            return table.read_page(listed, wanted, data, self.vault)

        if (page := self._space.taken(table.page_name(listed, wanted), check)) is not None:
            self.kept.keep_page((listed.id, wanted), page)
            return page
        whole = listed.id in self._whole
        pages = range(listed.pages) if whole else range(wanted, wanted + 1)
        data = self._range(
            listed.id, table.span(listed, pages[0])[0], table.span(listed, pages[-1])[1]
        )
        found: dict[ObjectId, list[Place]] = {}
        for n in pages:
            start = (n - pages[0]) * listed.page
            part = data[start : start + listed.page]
            read = table.read_page(listed, n, part, self.vault)
            self._space.keep(table.page_name(listed, n), part)
            self.kept.keep_page((listed.id, n), read)
            found = read if n == wanted else found
        return found

    def _range(self, name: str, start: int, end: int) -> bytes:
        try:
            return self.driver.get_range(TABLES + name, start, end)
        except errors.KeyNotFound:
            raise errors.CorruptTable(name, "it is gone") from None


class Snapshot:
    """The newest commit of a remote, verified, and the files in it (see `opened`).

    Attributes:
        seen: The root.
        team: The team, as its log leaves it.
        reader: Reads what the root lists.
        head: The newest commit; None if there is none.
        commit: The newest commit's record.
    """

    def __init__(self, reader: Reader, seen: RootSnapshot, team: Team) -> None:
        self.seen = seen
        self.team = team
        self.reader = reader
        self.head: ObjectId | None = seen.root.refs.get(HEAD)
        self.commit: Commit | None = self._commit(self.head) if self.head else None
        self._proven = {ALL}

    def _commit(self, commit_id: ObjectId) -> Commit:
        commit = model.decode_commit(self.reader.read(commit_id, group=ALL), commit_id)
        if why := authorship.signature_fault(self.reader.vault, self.team, commit_id, commit):
            raise errors.ForgedCommit(commit_id[:10], why)
        return commit

    def find(self, path: str) -> Placed | None:
        """Return the file or link at a path; None if there is none that the user can read.

        Raises:
            ForgedCommit: A group's tree was not written by a member of the group.
            NeedsHistory: That can't be told without the history.
        """
        held = self.commit.trees if self.commit else {}
        trees = {
            group: held[group] for group in history.in_order(held.keys() & self.reader.vault.groups)
        }
        # A group's file can also decide that everybody's does not count.
        for group in trees:
            self._prove(group)
        view = View(self.reader, trees, placement.owner(self.seen.root.roster))
        return dict(view.files([path])).get(path)

    def _prove(self, group: str) -> None:
        """Go back to a commit that a member of a group has signed, with the same tree of it."""
        commit_id, commit = self.head, self.commit
        for _ in range(_BACK):
            if group in self._proven:
                return
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
        raise NeedsHistory

    def read(self, found: Placed, start: int = 0, end: int | None = None) -> Iterator[bytes]:
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
        kind, body = self.reader.open(piece.id, group=group)
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


def verified(remote: Remote) -> tuple[RootSnapshot, bytes]:
    """Return the root of a remote and its bytes, verified as by `opened`."""
    answer = remote.read()
    assert answer is not None
    _checked(remote, answer[0], None)
    return answer


def opened(remote: Remote, before: Snapshot | None = None) -> Snapshot:
    """Return the newest state of a remote, verified but not stored. Nothing is remembered of it.

    Takes one request, and two more for each entry of the team log that neither the local store nor
    the root holds.

    Args:
        remote: The remote.
        before: A state that was read; it is returned if it is still the newest.

    Raises:
        NoRepositoryAtURL: The remote holds no repository.
        Rewound: The root is older than what this clone, or this user on this machine, has seen.
        ForgedRoot: The root was not written by a member who may, or does not say what the log says.
        ForgedCommit: No member has signed the newest commit.
        WrongTeam: The team log is not the one that `.dorkyrc` pins.
    """
    answer = remote.read(unless=before.seen.version if before else None)
    if answer is None:
        assert before is not None
        return before
    return _checked(remote, answer[0], before)


def _checked(remote: Remote, seen: RootSnapshot, before: Snapshot | None) -> Snapshot:
    authority.check_early(remote, seen)
    vault = remote.unlock(seen.header)
    kept = before.reader.kept if before else None
    reader = Reader(remote.driver, seen, vault, kept, remote.space)
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
    return Snapshot(reader, seen, team)


def remember(remote: Remote, read: Snapshot) -> None:
    """Record a state, so that an older root, another team or other keys are refused from now on.

    No commit is stored: a fetch of the remote still begins with nothing.
    """
    with remote.store.database.transaction():
        remote.glimpse(read.seen)
        remote.store.database.set_team(read.team)
