"""Reachability: what the local store must keep.

That is everything that a ref, the index, a merge in progress, the operation log or another group's
tree may still need.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

from dorky import errors
from dorky.format import model
from dorky.format.model import ALL, Commit, Kind, ObjectId
from dorky.results import Dangling
from dorky.store import history, oplog
from dorky.store.index import Index
from dorky.store.objects import Store, batches

Failed = Callable[[ObjectId, errors.DorkyError], None]
"""A function that receives what can't be read, and why; it may raise."""


class Named(NamedTuple):
    """The ids where walking begins, each with what names it."""

    commits: dict[ObjectId, str]
    contents: dict[ObjectId, str]
    trees: set[ObjectId]


class Reached(NamedTuple):
    """The reachable objects: commits, trees, contents, and their chunks.

    Parts of trees are trees, too. Contents are chunks or lists of them, and lists that those name;
    a content that is no list is a chunk, too. The objects of closed groups are not included: they
    can't be walked (see `foreign`).
    """

    commits: dict[ObjectId, Commit]
    trees: set[ObjectId]
    contents: set[ObjectId]
    chunks: set[ObjectId]

    @property
    def all(self) -> set[ObjectId]:
        """Return all reachable ids."""
        return self.commits.keys() | self.trees | self.contents | self.chunks


def named(store: Store) -> Named:
    """Return everything that the local store names.

    Raises:
        CorruptDatabase: A name in the database makes no sense.
    """
    try:
        return _named(store)
    except (TypeError, ValueError) as error:
        raise errors.CorruptDatabase(store.database.path, error) from None


def _named(store: Store) -> Named:
    database = store.database
    commits: dict[ObjectId, str] = {}
    contents: dict[ObjectId, str] = {}
    if head := database.text("head"):
        commits[head] = "HEAD"
    refs = database.refs()
    for name in sorted(refs, key=lambda name: (name.startswith("backup/"), name), reverse=True):
        commits[refs[name]] = name
    for row in Index(database).rows().values():
        contents[row.content] = row.path
    merging = set(_ids_in(database.get(oplog.MERGE)))
    undone, replaced = oplog.named(database)
    for commit in undone:
        commits.setdefault(commit, "the operation log")
    for content in replaced:
        contents.setdefault(content, "the operation log")
    for (value,) in database.connection.execute(
        "SELECT old FROM replaced WHERE what = 'value' AND key = ?", (oplog.MERGE,)
    ):
        merging.update(_ids_in(value))
    trees = set()
    # An object missing locally is in the remote: a closed group's tree, or unpulled content.
    for object_id, at in store.locate(merging).items():
        if at.kind is Kind.TREE:
            trees.add(object_id)
        else:
            where = commits if at.kind is Kind.COMMIT else contents
            where.setdefault(object_id, "a merge")
    return Named(commits, contents, trees)


def _ids_in(value: bytes | str | None) -> set[ObjectId]:
    """Return every id in a JSON text, whatever its shape."""
    found: set[ObjectId] = set()
    pending: list[Any] = [json.loads(value)] if value else []
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            pending += [*each, *each.values()]
        elif isinstance(each, list):
            pending += each
        elif isinstance(each, str) and re.fullmatch("[0-9a-f]{64}", each):
            found.add(each)
    return found


def _raise(_: ObjectId, error: errors.DorkyError) -> NoReturn:
    raise error


def reach(
    store: Store,
    commits: Iterable[ObjectId],
    contents: Iterable[ObjectId] = (),
    trees: Iterable[ObjectId] = (),
    *,
    failed: Failed = _raise,
) -> Reached:
    """Walk everything below commits, contents and trees that the user can read.

    Raises:
        MissingObject: A commit, a tree or a list of chunks is missing (without ``failed``).
        CorruptObject: One of them is damaged (without ``failed``).
    """
    found = Reached({}, set(), set(contents), set())
    pending = set(trees)
    groups = store.vault.groups
    for commit, record in _commits(store, commits, failed):
        found.commits[commit] = record
        pending.update(tree for group, tree in record.trees.items() if group in groups)
    # A member who has been let into a group gets its trees with the next fetch.
    taken = {*store.database.text("groups").split(), ALL}
    late = {
        tree
        for record in found.commits.values()
        for group, tree in record.trees.items()
        if group not in taken
    }
    pending -= store.missing(pending & late)
    _below(store, pending, found, failed)
    _chunks(store, found, failed)
    return found


def reachable(store: Store) -> set[ObjectId]:
    """Return everything that the local store must keep, except what is `foreign`.

    Raises:
        MissingObject: Something is missing, so what is below it can't be told.
        CorruptObject: Something is damaged.
    """
    start = named(store)
    log = history.entries(store, store.database.team().id)
    return reach(store, *start).all.union(entered.id for entered in log)


def _commits(
    store: Store, heads: Iterable[ObjectId], failed: Failed
) -> Iterator[tuple[ObjectId, Commit]]:
    seen: set[ObjectId] = set()
    pending = list(heads)
    while pending:
        commit = pending.pop()
        if commit in seen:
            continue
        seen.add(commit)
        try:
            record = history.read_commit(store, commit)
        except errors.DorkyError as error:
            failed(commit, error)
            continue
        yield commit, record
        pending += record.parents


def _below(store: Store, trees: Iterable[ObjectId], found: Reached, failed: Failed) -> None:
    pending = set(trees)
    while pending := pending - found.trees:
        found.trees.update(pending)
        places = store.locate(pending)
        below: set[ObjectId] = set()
        for tree in pending:
            try:
                if tree not in places:
                    raise errors.MissingObject(tree)
                node = model.decode_tree(store.open(places[tree]), tree)
            except errors.DorkyError as error:
                failed(tree, error)
                continue
            below.update(entry.content for entry in node.entries if entry.is_tree)
            below.update(part for part in node.parts if part)
            found.contents.update(entry.content for entry in node.entries if not entry.is_tree)
        pending = below


def _chunks(store: Store, found: Reached, failed: Failed) -> None:
    lists: set[ObjectId] = set()
    for batch in batches(found.contents, 5000):
        _chunks_in(store, batch, found, lists, failed)
    found.contents.update(lists)
    for batch in batches(lists, 5000):
        _chunks_in(store, batch, found, set(), failed)


def _chunks_in(
    store: Store,
    batch: Iterable[ObjectId],
    found: Reached,
    lists: set[ObjectId],
    failed: Failed,
) -> None:
    """Add the chunks of contents, and collect the lists that lists of lists name."""
    if contents := set(batch):
        places = store.locate(contents)
        for content in contents:
            at = places.get(content)
            if at is None or at.kind is not Kind.CHUNKS:
                found.chunks.add(content)
                continue
            try:
                listed = model.decode_chunks(store.open(at), content)
            except errors.DorkyError as error:
                failed(content, error)
                continue
            below = lists if listed.lists else found.chunks
            below.update(piece.id for piece in listed.chunks)


def foreign(store: Store, ids: Collection[ObjectId]) -> set[ObjectId]:
    """Return those of the local objects that none of the user's keys opens.

    Whether such an object is needed can't be judged.
    """
    if not store.vault.sealed:
        return set()
    return {
        at.id for at in store.locate(ids).values() if store.vault.group_of(store.stored(at)) is None
    }


def unreached(store: Store, reached: Collection[ObjectId]) -> dict[ObjectId, Commit]:
    """Return the local commits that are not among those reached. Damaged ones are skipped."""
    rows = store.database.connection.execute(
        "SELECT DISTINCT o.id FROM objects o JOIN packs p ON p.n = o.pack"
        " WHERE p.remote = '' AND o.kind = 'commit'"
    )
    found = {}
    for commit in [raw.hex() for (raw,) in rows]:
        if commit not in reached:
            with contextlib.suppress(errors.DorkyError):
                found[commit] = history.read_commit(store, commit)
    return found


def tips(commits: Mapping[ObjectId, Commit]) -> list[ObjectId]:
    """Return those of some commits that none of the others descends from, the newest first."""
    parents = {parent for commit in commits.values() for parent in commit.parents}
    return sorted(commits.keys() - parents, key=lambda commit: commits[commit].time, reverse=True)


def dangling(commits: Mapping[ObjectId, Commit]) -> tuple[Dangling, ...]:
    """Return the newest of commits that nothing leads to, for people."""
    return tuple(
        Dangling(
            id=commit,
            author=commits[commit].author,
            time=commits[commit].time,
            title=commits[commit].message.strip().partition("\n")[0],
        )
        for commit in tips(commits)
    )
