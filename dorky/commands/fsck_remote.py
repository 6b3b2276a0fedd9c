"""Fsck of the remote: its root, the packs that it lists, and all that its refs need."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from dorky import errors
from dorky.commands.findings import BACKUP, REBUILD, SHOWN, Scope, check_bytes, failure, finding
from dorky.drivers.base import Driver, Stat
from dorky.format.model import Inline, Location, ObjectId, Pack
from dorky.parallel import in_order
from dorky.project import ORIGIN, Project
from dorky.remote import root as roots
from dorky.remote.fetch import fetch
from dorky.remote.listing import Moved, packs_of, read_range, wrong_tables
from dorky.remote.root import KEY, PACKS, TABLES, Remote, RootSnapshot, read_header
from dorky.results import Finding, Remedy
from dorky.store import pack, reachability, table, verify
from dorky.store.contents import chunks_of
from dorky.store.objects import Store
from dorky.store.pack import FOOTER

_THREADS = 8
_ATTEMPTS = 3


# --- the remote, without a key --------------------------------------------------------------


def _blocks(read: Callable[[str, int, int], bytes], key: str, size: int) -> Iterator[bytes]:
    for start in range(0, size, verify.BLOCK):
        yield read(key, start, min(start + verify.BLOCK, size))


def check_bucket(scope: Scope, store: Store | None) -> Iterator[Finding]:
    """Check the remote without a key."""
    driver = scope.project.driver()
    version = None
    try:
        blob = driver.get(KEY)
        assert blob is not None
        version = blob.version
        _check_repository(scope.project, blob.data, driver.url)
    except errors.KeyNotFound:
        yield failure(errors.RootVanished(driver.url), driver.url)
    except errors.IntegrityError as error:
        yield failure(error, driver.url)
    stored = roots.stored(driver)
    # The list in the root is encrypted, but may be known from an earlier fetch.
    seen = store.database.root(ORIGIN) if store else None
    listed = store.packs(ORIGIN) if store and seen and seen[0] == version else []
    for packed in listed:
        yield from _listed(packed, stored, driver.url)
    scope.start("Reading the remote's packs", {name: stat.size for name, stat in stored.items()})
    for name, stat in stored.items():
        yield from _stored_pack(scope, driver, name, stat.size)
    for name, stat in roots.stored(driver, TABLES).items():
        key, size = TABLES + name, stat.size
        end = driver.get_range(key, max(0, size - table.FOOTER), size) if size else b""
        if table.name_of(end, _blocks(driver.get_range, key, size)) != name:
            yield failure(errors.CorruptTable(name, "its bytes have another hash"), name)


def _check_repository(project: Project, data: bytes, url: str) -> None:
    """Check that a root's header is whole, and that of the repository that `.dorkyrc` names."""
    header, _ = read_header(data, url)
    known = project.config.text("repository.id")
    if known and header.repository != known:
        raise errors.WrongRepository(url, header.repository[:12], known[:12])


def _stored_pack(scope: Scope, driver: Driver, name: str, size: int) -> Iterator[Finding]:
    """Check a pack in the remote without a key."""
    scope.packs += 1
    if size > pack.LIMIT:
        yield failure(errors.CorruptPack(name, f"{size:,} bytes"), name, BACKUP)
        return
    tail = 0
    try:
        end = driver.get_range(PACKS + name, max(0, size - FOOTER), size)
        tail = pack.read_footer(name, end, size).tail
    except errors.IntegrityError as error:
        yield failure(error, name, BACKUP)
    if scope.reads(name):
        blocks = _blocks(driver.get_range, PACKS + name, size)
        yield from check_bytes(scope, name, blocks, (), None, BACKUP, tail=tail)
    elif not scope.part:
        scope.project.progress.advance(1)


def _listed(packed: Pack, stored: Mapping[str, Stat], url: str) -> Iterator[Finding]:
    """Check that a pack that the root lists is stored, with its size."""
    found = stored.get(packed.id)
    if found is None:
        yield failure(errors.MissingPack(packed.id, url), packed.id, BACKUP)
    elif found.size != packed.size:
        about = f"{found.size:,} bytes, the root says {packed.size:,}"
        yield failure(errors.CorruptPack(packed.id, about), packed.id, BACKUP)


# --- the remote -----------------------------------------------------------------------------


def check_remote(scope: Scope) -> Iterator[Finding]:
    """Check the remote: its root, the packs that it lists, and all that its refs need."""
    counted = scope.packs, scope.objects, scope.bytes_read
    remote = scope.project.remote()
    for _ in range(_ATTEMPTS):
        try:
            yield from list(_check(scope, remote))
        except Moved:  # what a garbage collection deletes meanwhile is no damage
            scope.packs, scope.objects, scope.bytes_read = counted
        else:
            return
    raise errors.ServiceUnavailableError(remote.url, "its root keeps changing")


def _check(scope: Scope, remote: Remote) -> Iterator[Finding]:
    trouble: errors.DorkyError | None = None
    try:
        fetch(remote, scope.project.progress)
    except (errors.IntegrityError, errors.NotFoundError) as error:
        trouble = error
    try:
        seen, stored = _settled(remote)
    except (errors.IntegrityError, errors.NotFoundError) as error:
        yield failure(error, remote.url)
        return
    packs = packs_of(remote, seen)
    others = stored.keys() - {packed.id for packed in packs}
    scope.unlisted = len(others)
    scope.unlisted_size = sum(stored[name].size for name in others)
    listed = [(packed, list(_listed(packed, stored, remote.url))) for packed in packs]
    lost = {
        at.id
        for packed, wrong in listed
        if wrong
        for at in remote.store.locations(packed.id, remote=remote.name)
    }
    sound = [packed for packed, wrong in listed if not wrong]
    held: set[ObjectId] = set()
    found = False
    for wrong in itertools.chain(
        *(wrong for _, wrong in listed),
        _inline(scope, remote, seen, held),
        _remote_packs(scope, remote, seen, sound, held),
        _tables(remote, seen),
    ):
        found = True
        yield wrong
    yield from _lost(scope.project, remote, lost - held)
    if trouble is None:
        yield from _complete(remote, seen, held)
    elif not found:
        yield failure(trouble, remote.url)


def _lost(project: Project, remote: Remote, gone: set[ObjectId]) -> Iterator[Finding]:
    """Report the files whose only stored copy was in packs that the remote has lost."""
    gone = remote.store.missing(gone)
    for path, row in project.index.rows().items() if gone else ():
        try:
            pieces = list(chunks_of(remote.store, row.content))
        except errors.DorkyError:
            continue  # already reported
        if count := len(gone.intersection(pieces)):
            about = f"{count} of its {len(pieces)} pieces are neither here nor in the remote"
            there = project.worktree.stat(path) is not None
            remedy = Remedy("touch", (path,)) if there else BACKUP
            yield finding("missing-content", path, about, remedy)


def _remote_packs(
    scope: Scope,
    remote: Remote,
    seen: RootSnapshot,
    listed: Sequence[Pack],
    held: set[ObjectId],
) -> Iterator[Finding]:
    """Check packs that the root lists; add the ids of their objects to ``held``."""
    scope.start("Reading the remote's packs", {packed.id: packed.size for packed in listed})
    work = in_order(
        lambda packed: _tail(remote, seen, packed), listed, threads=_THREADS, ahead=_THREADS
    )
    for packed, (locations, count, wrong) in zip(listed, work, strict=True):
        scope.packs += 1
        scope.objects += count
        for error in wrong:
            yield failure(error, packed.id, BACKUP)
        known = sorted(remote.store.locations(packed.id, remote=remote.name))
        if known and locations and sorted(locations) != known:
            about = "the database is wrong about where its objects lie in the remote"
            yield finding("wrong-locations", packed.id, about, REBUILD)
        held.update(at.id for at in locations)
        if scope.reads(packed.id):
            read = partial(read_range, remote, seen)
            blocks = _blocks(read, PACKS + packed.id, packed.size)
            vault = remote.store.vault
            yield from check_bytes(
                *(scope, packed.id, blocks, locations, vault, BACKUP),
                tail=packed.tail,
                epochs=packed.epochs,
            )
        elif not scope.part:
            scope.project.progress.advance(1)


def _tables(remote: Remote, seen: RootSnapshot) -> Iterator[Finding]:
    """Check the tables that the root lists against what is known of its packs."""
    for error in wrong_tables(remote, seen, remote.store.contents(remote.name)):
        yield failure(error, error.args[0])


def _settled(remote: Remote) -> tuple[RootSnapshot, dict[str, Stat]]:
    """Return the root, and the packs that were stored while it was in force."""
    for _ in range(_ATTEMPTS):
        answer = remote.read()
        assert answer is not None
        stored = roots.stored(remote.driver)
        try:
            gone = {packed.id for packed in packs_of(remote, answer[0])} - stored.keys()
        except Moved:
            continue
        # A garbage collection may have run between the two reads.
        if not gone or remote.driver.get(KEY, unless=answer[0].version) is None:
            return answer[0], stored
    raise errors.ServiceUnavailableError(remote.url, "its root keeps changing")


def _inline(
    scope: Scope, remote: Remote, seen: RootSnapshot, held: set[ObjectId]
) -> Iterator[Finding]:
    """Check the objects that the root holds inline; add their ids to ``held``."""
    vault = remote.store.vault

    def check(item: Inline) -> None:
        if not vault.is_foreign(item.data):
            vault.read(item.kind, item.id, item.data, epochs=len(seen.header.epochs))

    for item in seen.root.inline:
        scope.objects += 1
        try:
            check(item)
        except errors.IntegrityError as error:
            yield failure(error, item.id, BACKUP)
        held.add(item.id)


def _tail(
    remote: Remote, seen: RootSnapshot, packed: Pack
) -> tuple[list[Location], int, list[errors.DorkyError]]:
    """Return a pack's index, the number of its metadata objects, and the errors in them."""
    vault = remote.store.vault
    wrong: list[errors.DorkyError] = []
    try:
        if not 0 < packed.tail < packed.size <= pack.LIMIT:
            raise errors.CorruptRoot(remote.url, f"pack {packed.id} of {packed.size} bytes")
        tail = read_range(remote, seen, PACKS + packed.id, packed.tail, packed.size)
        locations = pack.read_tail(packed, tail, vault)
    except errors.IntegrityError as error:
        return [], 0, [error]
    metadata = [at for at in locations if not at.kind.is_data]
    for at in metadata:
        start = at.offset - packed.tail
        stored = tail[start : start + at.length]
        try:
            if not vault.is_foreign(stored):
                vault.read(at.kind, at.id, stored, epochs=packed.epochs)
        except errors.IntegrityError as error:
            wrong.append(error)
    return locations, len(metadata), wrong


def _complete(remote: Remote, seen: RootSnapshot, held: set[ObjectId]) -> Iterator[Finding]:
    """Check whether the remote lists everything that its refs need."""
    store = remote.store
    damaged: set[ObjectId] = set()
    reached = reachability.reach(
        store, seen.root.refs.values(), failed=lambda object_id, _: damaged.add(object_id)
    )
    wanted = reached.all
    for commit in reached.commits.values():
        wanted.update(commit.trees.values())
    missing = sorted(wanted - held)
    if missing:
        shown = ", ".join(object_id[:12] for object_id in missing[:SHOWN])
        about = f"{len(missing)} objects that its history needs are in no pack it lists: {shown}"
        yield finding("missing-object", remote.url, about, BACKUP)
