"""Fsck: check whether everything that should exist, locally and in the remote, exists and is sound.

By default the structure is checked: the database, the sizes and indexes of packs, and all that
walking history needs. With ``read_data`` every byte is checked. Nothing is changed, except that
what is new in the remote is fetched. All errors are found, not only the first one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from dorky import errors
from dorky.commands.findings import BACKUP, REBUILD, Part, Scope, check_bytes, failure, finding
from dorky.commands.fsck_remote import check_bucket, check_remote
from dorky.format.model import Kind, ObjectId, Pack
from dorky.keys import placement, roster
from dorky.keys.vault import Vault
from dorky.project import ORIGIN, Project
from dorky.remote.root import read_header
from dorky.results import Finding, FsckReport, Remedy
from dorky.store import history, projection, reachability, spare, verify
from dorky.store.contents import chunks_of
from dorky.store.index import Index
from dorky.store.objects import Store
from dorky.store.salvage import nonsense
from dorky.store.state import DATABASE


def examine(
    project: Project,
    *,
    remote: bool = False,
    read_data: Part | None = None,
    keyless: bool = False,
) -> FsckReport:
    """Check everything.

    Args:
        project: The project. It need not be set up if only its remote is checked without a key.
        remote: Whether to check the remote, too.
        read_data: Which part of the packs to read whole; all of them by default when ``keyless``.
        keyless: Whether to check only what needs no key: whether packs have the right names, sizes
            and footers, and whether the root is whole.

    Raises:
        NotSetUp: There is no local state.
        FormatTooNew: The database has a later layout.
        Unavailable: The remote can't be read.
    """
    scope = Scope(project, read_data or ((1, 1) if keyless else None))
    findings: dict[tuple[str, str, str], Finding] = {}
    for found in _check(scope, remote=remote, keyless=keyless):
        # Several checks may find the same.
        findings.setdefault((found.code, found.subject, found.about), found)
    project.progress.finish()
    return FsckReport(
        packs=scope.packs,
        objects=scope.objects,
        bytes_read=scope.bytes_read,
        findings=tuple(findings.values()),
        dangling=scope.dangling,
        unlisted=scope.unlisted,
        unlisted_size=scope.unlisted_size,
    )


def _check(scope: Scope, *, remote: bool, keyless: bool) -> Iterator[Finding]:
    """Run every check that was asked for."""
    project = scope.project
    if not (project.is_set_up or project.has_packs):
        if not (remote and keyless):
            raise project.nothing_known()
        yield from check_bucket(scope, None)
        return
    with project.reading():
        store, wrong = _database(project)
        yield from wrong
        yield from _guarded(_local(scope, store, keyless=keyless))
        if remote and store and not keyless:
            yield from _guarded(check_remote(scope))
        elif remote:
            yield from check_bucket(scope, store)


def _guarded(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield findings; report damage to the database that ends the search."""
    try:
        yield from findings
    except errors.CorruptDatabase as error:
        yield failure(error, error.args[0], REBUILD)


# --- the local store ------------------------------------------------------------------------


def _database(project: Project) -> tuple[Store | None, list[Finding]]:
    """Check the database.

    Returns:
        Its store, or None if the database is of no use, and the findings.
    """
    path = project.state / DATABASE
    if not project.is_set_up:
        about = "it is gone, though packs are here"
        return None, [finding("corrupt-database", path, about, REBUILD)]
    try:
        found = project.database.connection.execute("PRAGMA integrity_check(10)").fetchall()
        said = [text for (text,) in found if text != "ok"] or nonsense(project.database)
        if said:
            about = said[0].replace("\n", " ")
            return None, [finding("corrupt-database", path, about, REBUILD)]
        _check_keys(project, path)
    except errors.NotSetUp:
        about = "it holds no keys of the repository"
        return None, [finding("corrupt-database", path, about, REBUILD)]
    except errors.CorruptDatabase as error:
        return None, [failure(error, path, REBUILD)]
    return project.store, []


def _check_keys(project: Project, path: Path) -> None:
    """Check that the database has the keys of the root that was seen last.

    Raises:
        CorruptDatabase: They are others, or the root is damaged.
        NotSetUp: There are no keys.
    """
    for (data,) in project.database.connection.execute("SELECT data FROM roots"):
        try:
            header, _ = read_header(data, "")
        except errors.IntegrityError:
            about = "the root that was seen last does not have its checksum"
            raise errors.CorruptDatabase(path, about) from None
        if header != project.header:
            about = "its keys are not those of the root that was seen last"
            raise errors.CorruptDatabase(path, about)
    assert project.header


def _local(scope: Scope, store: Store | None, *, keyless: bool) -> Iterator[Finding]:
    """Check the packs on disk, all that the local store names, and the second copy."""
    vault = store.vault if store and not keyless else None
    there = {path.name: path for path in verify.packs_in(scope.project.state / "packs")}
    recorded = {packed.id: packed for packed in store.packs()} if store else {}
    scope.start("Reading packs", {name: path.stat().st_size for name, path in there.items()})
    for name in recorded.keys() - there.keys():
        yield finding("missing-pack", name, "it is recorded, but not there", REBUILD)
    for name, path in there.items():
        yield from _pack(scope, path, recorded.get(name), store, vault)
        if not scope.part:
            scope.project.progress.advance(1)
    if store and vault:
        yield from _history(scope, store)
    if scope.project.is_set_up:
        yield from _second_copy(scope.project)


def _second_copy(project: Project) -> Iterator[Finding]:
    """Check the second copy of unpushed work in git's directory."""
    slot = project.spare
    if slot is None:
        return
    try:
        if spare.find(slot, project.config) is None:
            return
        for path, _ in spare.copies(slot, project.state):
            if not spare.is_sound(path):
                about = f"its second copy in {slot.path} is damaged"
                yield finding("second-copy", path.name, about, REBUILD)
    except errors.BadSpare as error:
        # The command that holds the lock writes the second copy again.
        yield finding("second-copy", slot.path, error.message, fatal=False)


def _is_whole(path: Path) -> bool:
    """Return whether a pack's name matches its bytes."""
    try:
        return verify.is_whole(path)
    except errors.DorkyError:
        return False


def _pack(
    scope: Scope, path: Path, packed: Pack | None, store: Store | None, vault: Vault | None
) -> Iterator[Finding]:
    """Check a pack on disk."""
    name = path.name
    scope.packs += 1
    known = sorted(store.locations(name)) if store and packed else []
    locations = known if vault else []
    tail = 0
    try:
        size, tail = verify.footer_of(path)
        if packed and (size, tail) != (packed.size, packed.tail):
            raise errors.CorruptPack(name, f"{size:,} bytes, {packed.size:,} are recorded")
        if vault:
            _, locations = verify.index_of(path, vault, packed.epochs if packed else None)
        if store and packed is None:
            about = "nobody knows of it: left by a command that was killed, or forgotten"
            yield finding("unrecorded-pack", name, about, REBUILD, fatal=False)
        elif vault and store and sorted(locations) != known:
            about = "the database is wrong about where its objects lie"
            yield finding("wrong-locations", name, about, REBUILD)
    except errors.DorkyError as error:
        if packed is None and _is_whole(path):
            # A rotation may have written it: the key comes with the root that a pull fetches.
            about = "nobody knows of it, and it is encrypted with a key that is not known (yet)"
            yield finding("unrecorded-pack", name, about, Remedy("pull"), fatal=False)
            return
        yield failure(error, name, REBUILD)
    if scope.reads(name):
        try:
            blocks = verify.blocks_of(path)
            yield from check_bytes(scope, name, blocks, locations, vault, REBUILD, tail=tail)
        except errors.DiskError as error:
            yield failure(error, name, REBUILD)


def _history(scope: Scope, store: Store) -> Iterator[Finding]:
    """Walk everything that the local store names."""
    start = reachability.named(store)
    remedy = REBUILD if ORIGIN in scope.project.config.remotes() else BACKUP
    failed: list[tuple[ObjectId, errors.DorkyError]] = []
    reached = reachability.reach(
        store, *start, failed=lambda object_id, error: failed.append((object_id, error))
    )
    for object_id, error in failed:
        by = start.commits.get(object_id) or start.contents.get(object_id)
        needed = f" ({by} needs it)" if by else ""
        yield finding(error.code, object_id, error.message + needed, remedy)
    scope.objects += len(reached.commits) + len(reached.trees)
    missing = store.missing(reached.chunks)
    for name in _remotes(store):
        found = store.locate(missing, remote=name)
        missing -= {chunk for chunk, at in found.items() if at.kind is Kind.CHUNK}
    if missing:
        yield from _lost(scope.project, store, reached.contents, missing)
    with contextlib.suppress(errors.DorkyError):  # unreadable objects are reported elsewhere
        yield from _masked(scope.project, store)
    scope.dangling = reachability.dangling(reachability.unreached(store, reached.commits))


def _masked(project: Project, store: Store) -> Iterator[Finding]:
    """Report the entries of the newest commit that do not count."""
    known = project.roster
    for masked in projection.current(store, history.head_of(store)).reported():
        names = [group.name for group in placement.claimants(known, masked.path)]
        if masked.above:
            about = f"it does not count: {masked.above} needs a directory there"
        elif masked.owner is None:
            about = f"it is frozen: {' and '.join(names)} claim it"
        else:
            about = f"it does not count: it belongs to {' '.join(names) or 'all'}"
            about += f", but is in the tree of {roster.name_of(known, masked.group)}"
        yield finding("masked-entry", masked.path, about, Remedy("status"), fatal=False)


def _remotes(store: Store) -> list[str]:
    """Return the remotes that the local store knows of."""
    return [name for (name,) in store.database.connection.execute("SELECT remote FROM roots")]


def _lost(
    project: Project, store: Store, contents: Iterable[ObjectId], missing: set[ObjectId]
) -> Iterator[Finding]:
    """Report the files that have lost some of their content."""
    names = {row.content: path for path, row in Index(store.database).rows().items()}
    with contextlib.suppress(errors.DorkyError):
        trees = history.trees_of(store, history.head_of(store))
        names.update((entry.content, path) for path, entry in history.files_of(store, trees))
    older: set[ObjectId] = set()
    for content in contents:
        try:
            pieces = list(chunks_of(store, content))
        except errors.DorkyError:
            continue  # already reported
        gone = missing.intersection(pieces)
        if gone and content in names:
            path = names[content]
            about = f"{len(gone)} of its {len(pieces)} pieces are neither here nor in the remote"
            again = project.worktree.stat(path) is not None
            remedy = Remedy("touch", (path,)) if again else BACKUP
            yield finding("missing-content", path, about, remedy)
        else:
            older |= gone
    if older:
        about = (
            f"{len(older)} pieces of files in older revisions are neither here nor in the remote"
        )
        yield finding("missing-content", "older revisions", about, BACKUP)
