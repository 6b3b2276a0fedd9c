"""Fsck: check whether everything that should exist, locally and in the remote, exists and is sound.

By default the structure is checked: the database, the sizes and indexes of packs, and all that
walking history needs. With ``read_data`` every byte is checked. Nothing is changed, except that
what is new in the remote is fetched. All errors are found, not only the first one.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from dorky import errors
from dorky.drivers.base import Driver, Stat
from dorky.format.model import Inline, Kind, Location, ObjectId, Pack
from dorky.keys import placement, roster
from dorky.keys.vault import Vault
from dorky.parallel import in_order
from dorky.project import ORIGIN, Project
from dorky.redaction import redacted
from dorky.remote import root as roots
from dorky.remote.fetch import fetch
from dorky.remote.root import KEY, PACKS, Remote, RootSnapshot, read_header
from dorky.results import Dangling, Finding, FsckReport, Remedy
from dorky.store import history, pack, projection, reachability, spare, verify
from dorky.store.index import Index
from dorky.store.objects import Store
from dorky.store.pack import FOOTER
from dorky.store.state import DATABASE

Part = tuple[int, int]
"""A part of all packs: the n-th of t parts."""

_REBUILD = Remedy("repair")
_BACKUP = "only another clone, a backup or the bucket's versions can have it"
_THREADS = 8
_ATTEMPTS = 3
_SHOWN = 3


class _Look:
    """The checks made so far, and what they found."""

    def __init__(self, project: Project, part: Part | None) -> None:
        self.project = project
        self.part = part
        self.packs = self.objects = self.bytes_read = self.unlisted = self.unlisted_size = 0
        self.findings: dict[tuple[str, str, str], Finding] = {}
        self.dangling: tuple[Dangling, ...] = ()

    def add(
        self,
        code: str,
        subject: object,
        about: str,
        remedy: Remedy | str = "",
        *,
        fatal: bool = True,
    ) -> None:
        subject, about = redacted(str(subject)), redacted(about)
        found = Finding(code=code, subject=subject, about=about, remedy=remedy, fatal=fatal)
        self.findings.setdefault((code, subject, about), found)

    def fail(self, error: errors.DorkyError, subject: object, remedy: Remedy | str = "") -> None:
        """Record an error with its own message."""
        self.add(error.code, subject, error.message, remedy or Remedy(error.code, error=error))

    def start(self, label: str, sizes: Mapping[str, int]) -> None:
        """Begin to check packs, some of which may be read whole."""
        whole = sum(size for name, size in sizes.items() if self.reads(name))
        if self.part:
            self.project.progress.start(label, whole, "B")
        else:
            self.project.progress.start(label, len(sizes), "packs")

    def reads(self, name: str) -> bool:
        """Return whether to read a pack whole."""
        return self.part is not None and verify.in_part(name, self.part)

    def passing(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield blocks unchanged, and count the bytes."""
        for block in blocks:
            yield block
            self.bytes_read += len(block)
            self.project.progress.advance(len(block))

    def whole(
        self,
        name: str,
        blocks: Iterable[bytes],
        locations: Sequence[Location],
        vault: Vault | None,
        remedy: Remedy | str,
        epochs: int | None = None,
    ) -> None:
        """Read a pack whole: its name must match its bytes, and each id its object."""
        digest = hashlib.sha256()
        bad = []
        for scrubbed in verify.scrub(self.passing(blocks), locations, vault, digest, epochs):
            self.objects += 1
            if scrubbed.error:
                bad.append(scrubbed.at.id[:12])
        about = []
        if digest.hexdigest() != name:
            about.append("its bytes have another hash")
        if bad:
            more = ", …" if len(bad) > _SHOWN else ""
            about.append(
                f"{len(bad)} of its {len(locations)} objects damaged: "
                + ", ".join(bad[:_SHOWN])
                + more
            )
        if about:
            self.add("corrupt-pack", name, "; ".join(about), remedy)


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
    look = _Look(project, read_data or ((1, 1) if keyless else None))
    if project.is_set_up or project.has_packs:
        with project.locking():
            store = _database(look)
            with _database_errors(look):
                _here(look, store, store.vault if store and not keyless else None)
            if remote and store and not keyless:
                with _database_errors(look):
                    _remote(look, project.remote())
            elif remote:
                _bucket(look, store)
    elif remote and keyless:
        _bucket(look, None)
    else:
        raise project.nothing_known()
    project.progress.finish()
    return FsckReport(
        packs=look.packs,
        objects=look.objects,
        bytes_read=look.bytes_read,
        findings=tuple(look.findings.values()),
        dangling=look.dangling,
        unlisted=look.unlisted,
        unlisted_size=look.unlisted_size,
    )


@contextlib.contextmanager
def _database_errors(look: _Look) -> Iterator[None]:
    try:
        yield
    except errors.CorruptDatabase as error:
        look.fail(error, error.args[0], _REBUILD)


# --- the local store ------------------------------------------------------------------------


def _database(look: _Look) -> Store | None:
    """Check the database; return its store, or None if the database is of no use."""
    project = look.project
    path = project.state / DATABASE
    if not project.is_set_up:
        look.add("corrupt-database", path, "it is gone, though packs are here", _REBUILD)
        return None
    try:
        found = project.database.connection.execute("PRAGMA integrity_check(10)").fetchall()
        said = [text for (text,) in found if text != "ok"]
        if said:
            look.add("corrupt-database", path, said[0].replace("\n", " "), _REBUILD)
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
    except errors.NotSetUp:
        look.add("corrupt-database", path, "it holds no keys of the repository", _REBUILD)
        return None
    except errors.CorruptDatabase as error:
        look.fail(error, path, _REBUILD)
        return None
    return project.store


def _here(look: _Look, store: Store | None, vault: Vault | None) -> None:
    there = {path.name: path for path in verify.packs_in(look.project.state / "packs")}
    recorded = {packed.id: packed for packed in store.packs()} if store else {}
    look.start("Reading packs", {name: path.stat().st_size for name, path in there.items()})
    for name in recorded.keys() - there.keys():
        look.add("missing-pack", name, "it is recorded, but not there", _REBUILD)
    for name, path in there.items():
        _pack(look, path, recorded.get(name), store, vault)
        if not look.part:
            look.project.progress.advance(1)
    if store and vault:
        _history(look, store)
    if look.project.is_set_up:
        _second_copy(look)


def _second_copy(look: _Look) -> None:
    """Check the second copy of unpushed work in git's directory."""
    slot = look.project.spare
    if slot is None:
        return
    try:
        if spare.find(slot, look.project.config) is None:
            return
        for path, _ in spare.copies(slot, look.project.state):
            if not spare.is_sound(path):
                about = f"its second copy in {slot.path} is damaged"
                look.add("second-copy", path.name, about, _REBUILD)
    except errors.BadSpare as error:
        # The command that holds the lock writes the second copy again.
        look.add("second-copy", slot.path, error.message, fatal=False)


def _is_whole(path: Path) -> bool:
    """Return whether a pack's name matches its bytes."""
    try:
        return pack.name_of(verify.blocks_of(path)) == path.name
    except errors.DorkyError:
        return False


def _pack(
    look: _Look, path: Path, packed: Pack | None, store: Store | None, vault: Vault | None
) -> None:
    """Check a pack on disk."""
    name = path.name
    look.packs += 1
    known = sorted(store.locations(name)) if store and packed else []
    locations = known if vault else []
    try:
        size, tail = verify.footer_of(path)
        if packed and (size, tail) != (packed.size, packed.tail):
            raise errors.CorruptPack(name, f"{size:,} bytes, {packed.size:,} are recorded")
        if vault:
            _, locations = verify.index_of(path, vault, packed.epochs if packed else None)
        if store and packed is None:
            about = "nobody knows of it: left by a command that was killed, or forgotten"
            look.add("unrecorded-pack", name, about, _REBUILD, fatal=False)
        elif vault and store and sorted(locations) != known:
            about = "the database is wrong about where its objects lie"
            look.add("wrong-locations", name, about, _REBUILD)
    except errors.DorkyError as error:
        if packed is None and _is_whole(path):
            # A rotation may have written it: the key comes with the root that a pull fetches.
            about = "nobody knows of it, and it is encrypted with a key that is not known (yet)"
            look.add("unrecorded-pack", name, about, Remedy("pull"), fatal=False)
            return
        look.fail(error, name, _REBUILD)
    if look.reads(name):
        try:
            look.whole(name, verify.blocks_of(path), locations, vault, _REBUILD)
        except errors.DiskError as error:
            look.fail(error, name, _REBUILD)


def _history(look: _Look, store: Store) -> None:
    """Walk everything that the local store names."""
    start = reachability.named(store)
    remedy = _REBUILD if ORIGIN in look.project.config.remotes() else _BACKUP

    def failed(object_id: ObjectId, error: errors.DorkyError) -> None:
        by = start.commits.get(object_id) or start.contents.get(object_id)
        needed = f" ({by} needs it)" if by else ""
        look.add(error.code, object_id, error.message + needed, remedy)

    reached = reachability.reach(store, *start, failed=failed)
    look.objects += len(reached.commits) + len(reached.trees)
    missing = store.missing(reached.chunks)
    for name in _remotes(store):
        found = store.locate(missing, remote=name)
        missing -= {chunk for chunk, at in found.items() if at.kind is Kind.CHUNK}
    if missing:
        _lost(look, store, reached.contents, missing)
    with contextlib.suppress(errors.DorkyError):  # unreadable objects are reported elsewhere
        _masked(look, store)
    look.dangling = reachability.dangling(reachability.unreached(store, reached.commits))


def _masked(look: _Look, store: Store) -> None:
    """Report the entries of the newest commit that do not count."""
    known = look.project.roster
    for masked in projection.current(store, history.head_of(store)).reported():
        names = [group.name for group in placement.claimants(known, masked.path)]
        if masked.above:
            about = f"it does not count: {masked.above} needs a directory there"
        elif masked.owner is None:
            about = f"it is frozen: {' and '.join(names)} claim it"
        else:
            about = f"it does not count: it belongs to {' '.join(names) or 'all'}"
            about += f", but is in the tree of {roster.name_of(known, masked.group)}"
        look.add("masked-entry", masked.path, about, Remedy("status"), fatal=False)


def _remotes(store: Store) -> list[str]:
    """Return the remotes that the local store knows of."""
    return [name for (name,) in store.database.connection.execute("SELECT remote FROM roots")]


def _lost(look: _Look, store: Store, contents: Iterable[ObjectId], missing: set[ObjectId]) -> None:
    """Report the files that have lost some of their content."""
    names = {row.content: path for path, row in Index(store.database).rows().items()}
    with contextlib.suppress(errors.DorkyError):
        trees = history.trees_of(store, history.head_of(store))
        names.update((entry.content, path) for path, entry in history.files_of(store, trees))
    older: set[ObjectId] = set()
    for content in contents:
        try:
            pieces = history.chunks_of(store, [content])[content]
        except errors.DorkyError:
            continue  # already reported
        gone = missing.intersection(pieces)
        if gone and content in names:
            path = names[content]
            about = f"{len(gone)} of its {len(pieces)} pieces are neither here nor in the remote"
            again = look.project.worktree.stat(path) is not None
            remedy = Remedy("touch", (path,)) if again else _BACKUP
            look.add("missing-content", path, about, remedy)
        else:
            older |= gone
    if older:
        about = (
            f"{len(older)} pieces of files in older revisions are neither here nor in the remote"
        )
        look.add("missing-content", "older revisions", about, _BACKUP)


# --- the remote, without a key --------------------------------------------------------------


def _blocks(driver: Driver, name: str, size: int) -> Iterator[bytes]:
    for start in range(0, size, verify.BLOCK):
        yield driver.get_range(PACKS + name, start, min(start + verify.BLOCK, size))


def _bucket(look: _Look, store: Store | None) -> None:
    """Check the remote without a key."""
    project = look.project
    driver = project.driver()
    version = None
    try:
        blob = driver.get(KEY)
        assert blob is not None
        version = blob.version
        header, _ = read_header(blob.data, driver.url)
        known = project.config.text("repository.id")
        if known and header.repository != known:
            raise errors.WrongRepository(driver.url, header.repository[:12], known[:12])
    except errors.KeyNotFound:
        look.fail(errors.RootVanished(driver.url), driver.url)
    except errors.IntegrityError as error:
        look.fail(error, driver.url)
    stored = roots.stored(driver)
    # The list in the root is encrypted, but may be known from an earlier fetch.
    seen = store.database.root(ORIGIN) if store else None
    listed = store.packs(ORIGIN) if store and seen and seen[0] == version else []
    for packed in listed:
        _listed(look, packed, stored, driver.url)
    look.start("Reading the remote's packs", {name: stat.size for name, stat in stored.items()})
    for name, stat in stored.items():
        look.packs += 1
        if stat.size > pack.LIMIT:
            look.fail(errors.CorruptPack(name, f"{stat.size:,} bytes"), name, _BACKUP)
            continue
        try:
            end = driver.get_range(PACKS + name, max(0, stat.size - FOOTER), stat.size)
            pack.read_footer(name, end, stat.size)
        except errors.IntegrityError as error:
            look.fail(error, name, _BACKUP)
        if look.reads(name):
            look.whole(name, _blocks(driver, name, stat.size), (), None, _BACKUP)
        elif not look.part:
            project.progress.advance(1)


def _listed(look: _Look, packed: Pack, stored: Mapping[str, Stat], url: str) -> bool:
    """Check that a pack that the root lists is stored, with its size."""
    found = stored.get(packed.id)
    if found is None:
        look.fail(errors.MissingPack(packed.id, url), packed.id, _BACKUP)
    elif found.size != packed.size:
        about = f"{found.size:,} bytes, the root says {packed.size:,}"
        look.fail(errors.CorruptPack(packed.id, about), packed.id, _BACKUP)
    return found is not None and found.size == packed.size


# --- the remote -----------------------------------------------------------------------------


def _remote(look: _Look, remote: Remote) -> None:
    """Check the remote: its root, the packs that it lists, and all that its refs need."""
    trouble: errors.DorkyError | None = None
    try:
        fetch(remote, look.project.progress)
    except (errors.IntegrityError, errors.NotFound) as error:
        trouble = error
    try:
        seen, stored = _settled(remote)
    except (errors.IntegrityError, errors.NotFound) as error:
        look.fail(error, remote.url)
        return
    before = len(look.findings)
    listed = [packed for packed in seen.root.packs if _listed(look, packed, stored, remote.url)]
    others = stored.keys() - {packed.id for packed in seen.root.packs}
    look.unlisted = len(others)
    look.unlisted_size = sum(stored[name].size for name in others)
    held = _inline(look, remote, seen)
    look.start("Reading the remote's packs", {packed.id: packed.size for packed in listed})
    work = in_order(lambda packed: _tail(remote, packed), listed, threads=_THREADS, ahead=_THREADS)
    for packed, (locations, count, wrong) in zip(listed, work, strict=True):
        look.packs += 1
        look.objects += count
        for each in wrong:
            look.fail(each, packed.id, _BACKUP)
        known = sorted(remote.store.locations(packed.id, remote=remote.name))
        if known and locations and sorted(locations) != known:
            about = "the database is wrong about where its objects lie in the remote"
            look.add("wrong-locations", packed.id, about, _REBUILD)
        held.update(at.id for at in locations)
        if look.reads(packed.id):
            blocks = _blocks(remote.driver, packed.id, packed.size)
            vault = remote.store.vault
            look.whole(packed.id, blocks, locations, vault, _BACKUP, packed.epochs)
        elif not look.part:
            look.project.progress.advance(1)
    if trouble and len(look.findings) == before:
        look.fail(trouble, remote.url)
    if trouble is None:
        _complete(look, remote, seen, held)


def _settled(remote: Remote) -> tuple[RootSnapshot, dict[str, Stat]]:
    """Return the root, and the packs that were stored while it was in force."""
    for _ in range(_ATTEMPTS):
        answer = remote.read()
        assert answer is not None
        stored = roots.stored(remote.driver)
        # A garbage collection may have run between the two reads.
        gone = {packed.id for packed in answer[0].root.packs} - stored.keys()
        if not gone or remote.driver.get(KEY, unless=answer[0].version) is None:
            return answer[0], stored
    raise errors.ServerBusy(remote.url, "its root keeps changing")


def _inline(look: _Look, remote: Remote, seen: RootSnapshot) -> set[ObjectId]:
    """Check the objects that the root holds inline; return their ids."""
    vault = remote.store.vault

    def check(item: Inline) -> None:
        if not vault.is_foreign(item.data):
            vault.read(item.kind, item.id, item.data, epochs=len(seen.header.epochs))

    for item in seen.root.inline:
        look.objects += 1
        try:
            check(item)
        except errors.IntegrityError as error:
            look.fail(error, item.id, _BACKUP)
    return {item.id for item in seen.root.inline}


def _tail(remote: Remote, packed: Pack) -> tuple[list[Location], int, list[errors.DorkyError]]:
    """Return a pack's index, the number of its metadata objects, and the errors in them."""
    vault = remote.store.vault
    wrong: list[errors.DorkyError] = []
    try:
        if not 0 < packed.tail < packed.size <= pack.LIMIT:
            raise errors.CorruptRoot(remote.url, f"pack {packed.id} of {packed.size} bytes")
        tail = remote.driver.get_range(PACKS + packed.id, packed.tail, packed.size)
        locations = pack.read_tail(packed, tail, vault)
    except (errors.IntegrityError, errors.KeyNotFound) as error:
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


def _complete(look: _Look, remote: Remote, seen: RootSnapshot, held: set[ObjectId]) -> None:
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
        shown = ", ".join(object_id[:12] for object_id in missing[:_SHOWN])
        about = f"{len(missing)} objects that its history needs are in no pack it lists: {shown}"
        look.add("missing-object", remote.url, about, _BACKUP)
