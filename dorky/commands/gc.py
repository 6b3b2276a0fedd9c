"""Garbage collection in the local store: delete old objects that nothing needs any more.

Packs that hold nothing needed are deleted; packs that are half unneeded are rewritten; many small
packs are joined. Before
anything is deleted, all that is needed of it is stored elsewhere, durable and verified. If the
collection is interrupted, the repository is in its old or in its new state; the next collection
deletes what is left on disk. Objects that are not needed but new stay, since something may be about
to need them.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import msgspec

from dorky import errors, files
from dorky.drivers.base import check_writable
from dorky.format.model import Kind, ObjectId
from dorky.project import ORIGIN, Project
from dorky.remote import gc as remote_gc
from dorky.remote.fetch import fetch
from dorky.remote.listing import packs_of
from dorky.remote.root import stored
from dorky.results import Garbage, GCReport, RemoteGCReport
from dorky.store import oplog, reachability, verify
from dorky.store.objects import LOCAL, PackedObject, Store

GRACE = timedelta(days=14)
"""The age below which a pack keeps even what nothing needs."""
MEMORY = timedelta(days=90)
"""The age at which operations are forgotten, with what only undoing them would need."""

_WORTH = 0.25
"""The largest part of a pack that is moved in order to be rid of the rest."""
_SMALL = 1 << 20
_MANY_SMALL = 16
"""So many packs of less than `_SMALL` bytes are joined: a commit or a pull makes one at a time."""

_DOOMED = "gc.doomed"
"""The single value that names packs which have been replaced and are being deleted."""


class Plan(NamedTuple):
    """The plan of a collection.

    Attributes:
        swept: The report for people.
        moved: The objects to rewrite.
        copies: Where the remaining copies are of objects that another pack loses.
    """

    swept: GCReport
    moved: tuple[PackedObject, ...]
    copies: tuple[PackedObject, ...]


class _Pack(NamedTuple):
    """A pack and those of its objects that are needed. ``old`` says whether its grace is over."""

    name: str
    size: int
    places: list[PackedObject]
    old: bool


def plan(
    project: Project,
    *,
    grace: timedelta | None = None,
    prune: bool = False,
    thorough: bool = False,
) -> Plan:
    """Find out what can be deleted. Nothing is changed, except that ``prune`` fetches.

    Args:
        project: The project; its lock is held.
        grace: How old a pack must be before unneeded objects in it are deleted; `GRACE` by default.
        prune: Whether to delete chunks, too, that the remote provably has.
        thorough: Whether to delete every unneeded byte, however few of them a pack has.

    Raises:
        MissingObject: Something is missing, so what is needed can't be told.
        CorruptObject: Something is damaged.
    """
    store = project.store
    cached = _provably_there(project) if prune else set()
    try:
        needed = reachability.reachable(store)
    except errors.IntegrityError as error:
        error.facts["blocks"] = "gc"
        raise
    since = time.time() - (GRACE if grace is None else grace).total_seconds()
    packs = list(_recorded(store, since))
    doubtful = {at.id for pack in packs if pack.old for at in pack.places} - needed
    needed |= reachability.foreign(store, doubtful)
    garbage: list[Garbage] = []
    rewritten: list[Garbage] = []
    moved: list[PackedObject] = []
    copies: list[PackedObject] = []
    claimed: dict[ObjectId, PackedObject] = {}
    small: dict[str, list[PackedObject]] = {}

    def wanted(pack: _Pack) -> list[PackedObject]:
        return [
            at for at in pack.places if at.id not in cached and (at.id in needed or not pack.old)
        ]

    def worth(pack: _Pack) -> float:
        return sum(at.length for at in wanted(pack)) / max(pack.size, 1)

    # If several packs hold an object, keep the copy in the pack that has most to keep.
    for pack in sorted(packs, key=worth, reverse=True):
        live = [at for at in wanted(pack) if at.id not in claimed]
        copies += [claimed[at.id] for at in wanted(pack) if at.id in claimed]
        claimed.update((at.id, at) for at in live)
        total = sum(at.length for at in pack.places)
        left = sum(at.length for at in live)
        if live and (left == total if thorough else 2 * left > total):
            # What nobody needs would get a new grace by moving, so such a pack waits for its end.
            if pack.size < _SMALL and all(at.id in needed for at in pack.places):
                small[pack.name] = live
            continue
        why = "half of it or more is not needed" if live else "nothing in it is needed"
        if any(at.id in cached for at in pack.places):
            why = "the remote has what it holds"
            if live:
                why = "the remote has half of what it holds, or more"
        size = total - left if live else pack.size
        goes = rewritten if live else garbage
        goes.append(Garbage(name=pack.name, size=size, reason=why))
        moved += live
    if len(small) >= _MANY_SMALL:
        rewritten += [Garbage(name=name, size=0, reason="it is small") for name in small]
        moved += [at for live in small.values() for at in live]
    strays, kept = _strays(project, since)
    going = {at.id for pack in packs for at in pack.places} - claimed.keys()
    commits = reachability.unreached(store, needed)
    swept = GCReport(
        garbage=(*garbage, *strays),
        rewritten=tuple(rewritten),
        size=_size((*garbage, *strays, *rewritten)),
        kept=kept,
        commits=reachability.dangling(
            {commit: commits[commit] for commit in commits.keys() & going}
        ),
        operations=sum(operation.time < _horizon() for operation in oplog.log(project.database)),
    )
    return Plan(swept, tuple(moved), tuple(copies))


def _recorded(store: Store, since: float) -> Iterator[_Pack]:
    for packed in store.packs():
        path = store.directory / packed.id
        try:
            old = path.stat().st_mtime <= since
        except FileNotFoundError:
            raise errors.CorruptPack(packed.id, "it is gone", blocks="pack") from None
        places = [
            PackedObject(at.kind, at.id, packed.id, at.offset, at.length)
            for at in store.locations(packed.id)
        ]
        yield _Pack(packed.id, packed.size, places, old)


def _strays(project: Project, since: float) -> tuple[list[Garbage], tuple[str, ...]]:
    """Return the packs that are not recorded: those to delete, and those to keep."""
    store = project.store
    recorded = {packed.id for packed in store.packs()}
    doomed = set(project.database.text(_DOOMED).split())
    goes: list[Garbage] = []
    stays: list[str] = []
    for path in verify.packs_in(store.directory):
        name, stat = path.name, path.stat()
        if name in recorded:
            continue
        if name in doomed:
            why = "an earlier collection was interrupted"
        elif stat.st_mtime > since:
            continue
        elif _worth_keeping(store, path):
            stays.append(name)
            continue
        else:
            why = "left by a command that was killed"
        goes.append(Garbage(name=name, size=stat.st_size, reason=why))
    return goes, tuple(stays)


def _worth_keeping(store: Store, path: Path) -> bool:
    """Return whether a pack that is not recorded must stay.

    It must if it can't be judged, or holds the only copy of an object. A new database that replaced
    a lost one knows nothing of the packs written before.
    """
    try:
        _, locations = verify.index_of(path, store.vault)
    except errors.IntegrityError:
        return True
    commits = {at.id for at in locations if at.kind is Kind.COMMIT}
    return bool(store.missing(commits) - store.locate(commits, remote=ORIGIN).keys())


def _provably_there(project: Project) -> set[ObjectId]:
    """Return the chunks that the remote needs itself and stores in packs that its root lists.

    Chunks that the remote stores but does not need may be deleted from it at any time.
    """
    remote = project.remote()
    fetch(remote, project.progress)
    seen = remote.seen
    assert seen is not None
    there = {name: stat.size for name, stat in stored(remote.driver).items()}
    sure = {packed.id for packed in packs_of(remote, seen) if there.get(packed.id) == packed.size}
    chunks = reachability.reach(remote.store, seen.root.refs.values()).chunks
    found = remote.store.locate(chunks, remote=remote.name)
    return {chunk for chunk, at in found.items() if at.kind is Kind.CHUNK and at.pack in sure}


# --- applying -------------------------------------------------------------------------------


def apply(project: Project, made: Plan) -> GCReport:
    """Carry out a plan under the same lock.

    Raises:
        CorruptObject: Something that is needed is damaged; nothing has been deleted.
    """
    database = project.database
    gone = [pack.name for pack in (*made.swept.garbage, *made.swept.rewritten)]
    _replace(project, gone, made.moved, made.copies)
    if not database.get(oplog.MERGE):  # aborting the merge needs the operation that it began with
        oplog.expire(database, _horizon())
    return msgspec.structs.replace(made.swept, done=True)


def shed(project: Project, chunks: Collection[ObjectId]) -> int:
    """Delete packs that hold little else than some chunks, which the remote provably has.

    What else they hold is moved to a new pack.

    Args:
        project: The project; its lock is held.
        chunks: The chunks.

    Returns:
        The number of bytes that were saved.

    Raises:
        CorruptObject: Something that would be moved is damaged; nothing has been deleted.
    """
    gone: list[str] = []
    moved: list[PackedObject] = []
    saved = 0
    for pack in _recorded(project.store, time.time()):
        left = [at for at in pack.places if at.id not in chunks]
        size = sum(at.length for at in left)
        if len(left) < len(pack.places) and size <= _WORTH * pack.size:
            gone.append(pack.name)
            moved += left
            saved += pack.size - size
    if gone:
        _replace(project, gone, moved)
    return saved


def _replace(
    project: Project,
    gone: Collection[str],
    moved: Iterable[PackedObject],
    copies: Iterable[PackedObject] = (),
) -> None:
    """Delete packs after objects in them were moved to new ones.

    Args:
        project: The project; its lock is held.
        gone: The packs.
        moved: The objects to move.
        copies: Where the remaining copies are of objects that the packs hold, too.

    Raises:
        CorruptObject: One of them is damaged; nothing has been deleted.
    """
    store, database = project.store, project.database
    moving = list(moved)
    project.progress.start("Rewriting packs", sum(at.length for at in moving), "B")
    with store.writer() as writer:
        for at in copies:
            _checked(store, at)
        # Data first: the writer holds metadata back, so that it ends up in the last pack.
        for at in sorted(moving, key=lambda at: (not at.kind.is_data, at.pack, at.offset)):
            writer.append(at.kind, at.id, _checked(store, at))
            project.progress.advance(at.length)
        with database.transaction():
            writer.save()
            store.retain(LOCAL, {packed.id for packed in store.packs()} - set(gone))
            database.set(_DOOMED, " ".join(gone).encode())
    project.progress.finish()
    store.close()
    with files.disk_errors(store.directory):
        for name in gone:
            (store.directory / name).unlink(missing_ok=True)
        if gone:
            files.sync_directory(store.directory)
    database.set(_DOOMED, b"")


def _checked(store: Store, at: PackedObject) -> bytes:
    """Return the verified stored form of an object, re-encrypted if its key has been retired."""
    stored = store.stored(at)
    if store.vault.group_of(stored) is None:
        return stored
    store.vault.read(at.kind, at.id, stored)
    return store.vault.renew(at.kind, at.id, stored)


def _horizon() -> datetime:
    return datetime.now(timezone.utc) - MEMORY


def collect(
    project: Project,
    *,
    grace: timedelta | None = None,
    prune_remote_verified: bool = False,
    dry_run: bool = False,
) -> GCReport:
    """Delete what nothing in the local store needs any more.

    Arguments, results and errors are those of `Repository.gc`.
    """
    if not dry_run:
        project.make_room()
    with project.locked():
        found = plan(project, grace=grace, prune=prune_remote_verified)
        if dry_run:
            return found.swept
        done = None
        if not _has_room(project, found):
            # Packs that go as a whole make room for those that are rewritten.
            swept = msgspec.structs.replace(
                found.swept, rewritten=(), size=_size(found.swept.garbage)
            )
            done = apply(project, Plan(swept, (), found.copies))
            found = plan(project, grace=grace, prune=prune_remote_verified)
        if done is None or _has_room(project, found):
            rest = apply(project, found)
            done = rest if done is None else _both(done, rest)
        project.reserve()
        return done


def _size(packs: Iterable[Garbage]) -> int:
    return sum(pack.size for pack in packs)


def _both(first: GCReport, second: GCReport) -> GCReport:
    return msgspec.structs.replace(
        first,
        garbage=(*first.garbage, *second.garbage),
        rewritten=second.rewritten,
        size=first.size + second.size,
        commits=(*first.commits, *second.commits),
    )


def _has_room(project: Project, made: Plan) -> bool:
    return sum(at.length for at in made.moved) < files.free(project.state)


def collect_remote(
    project: Project, *, grace: timedelta | None = None, dry_run: bool = False
) -> RemoteGCReport:
    """Delete from the remote what nobody needs any more, and repack what is scattered.

    Arguments, results and errors are those of `Repository.gc_remote`.
    """
    with project.locked():
        remote = project.remote()
        check_writable(remote.driver)
        age = remote_gc.GRACE if grace is None else grace
        found = remote_gc.plan(remote, grace=age, progress=project.progress)
        if dry_run:
            return found.collection
        project.check_swaps(remote)
        return remote_gc.apply(remote, found, progress=project.progress)
