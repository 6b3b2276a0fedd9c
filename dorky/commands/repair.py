"""Repair: rebuild the local database from its readable parts, the packs and the remote.

Nothing is deleted: the old database is kept next to the new one, and damaged packs are moved aside.
An interrupted repair is simply run again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from dorky import errors, files
from dorky.config import RC
from dorky.format import model
from dorky.format.model import Commit, Header, Location, ObjectId, Pack
from dorky.keys import placement
from dorky.merge import pending
from dorky.paths import shown
from dorky.project import FIRST, ORIGIN, Project
from dorky.redaction import redacted
from dorky.remote.fetch import fetch
from dorky.remote.root import KEY, NEWEST, noted, read_body, read_header, verifier
from dorky.results import RepairReport
from dorky.store import (
    history,
    projection,
    spare,
)
from dorky.store import (
    oplog as operations,
)
from dorky.store import (
    reachability as reach,
)
from dorky.store import (
    verify as scrub,
)
from dorky.store.database import PURGES, Database
from dorky.store.history import MAIN
from dorky.store.index import SINCE
from dorky.store.objects import LOCAL, Store
from dorky.store.salvage import salvage
from dorky.store.state import DATABASE
from dorky.worktree import staging
from dorky.worktree.worktree import SCRATCH

DAMAGED = "damaged"
"""The directory in the state that damaged packs are moved to."""

_BACKUP = "before they were replaced"
"""The end of the message of every backup commit (see `checkout.backup`)."""
_TABLES = frozenset({"meta", "refs", "files", "operations", "replaced"})
"""The tables with content that exists only in the database."""
_LOST = "rebuild.lost"
"""The single value that names those of them that were lost, until they are repaired."""


class _Made:
    """The progress of a repair so far."""

    def __init__(self) -> None:
        self.packs = self.objects = self.saved = 0
        self.damaged: list[str] = []
        self.notes: list[str] = []


def rebuild(project: Project) -> RepairReport:
    """Rebuild the database.

    Raises:
        NotSetUp: There is nothing to rebuild it from.
        FormatTooNew: The database has a later layout.
        CorruptDatabase: The repository's keys can't be found.
        NoKey: None of the user's identities opens the keys.
    """
    if project.lost:
        project.make_state(lost=True)
    directory = project.state / "packs"
    if not (project.is_set_up or project.lost or directory.is_dir()):
        raise project.nothing_known()
    made = _Made()
    with project.locking():
        project.close()
        second, orphans = _bring_back(project, made)
        kept, lost = _renew(project.state)
        project.set_up()
        if second:
            spare.seed(project.database, second, values="meta" in lost, refs="refs" in lost)
        if lost == _TABLES and not second:
            made.notes.append("nothing could be read of the old database")
        elif lost != _TABLES:
            made.notes += [f"the table {name} could not be read whole" for name in sorted(lost)]
        _find_keys(project, made)
        _forget_nonsense(project, made)
        _forget_sent(project.database)
        _index(project, directory, made)
        _fetch(project, made)
        _mend_operations(project, made, lost="replaced" in lost or "operations" in lost)
        _mend_refs(project, made, lost="refs" in lost)
        _adopt(project, made, orphans)
        _mend_rows(project, made, lost=not lost.isdisjoint({"files", "meta"}))
        with project.database.transaction() as db:
            db.execute("DELETE FROM meta WHERE key = ?", (_LOST,))
        start = reach.named(project.store)
        reached = reach.reach(project.store, *start, failed=lambda *_: None)
        return RepairReport(
            kept=redacted(kept),
            packs=made.packs,
            objects=made.objects,
            damaged=tuple(made.damaged),
            saved=made.saved,
            main=project.database.ref(MAIN),
            notes=tuple(made.notes),
            dangling=reach.dangling(reach.unreached(project.store, reached.commits)),
        )


# --- the second copy ------------------------------------------------------------------------


def _bring_back(
    project: Project, made: _Made
) -> tuple[spare.Record | None, dict[spare.Slot, spare.Record]]:
    """Restore what git has deleted, of this project and of work trees that are gone.

    Returns:
        The record of this project's second copy, and the records of the others by slot.
    """
    slot = project.spare
    if slot is None:
        return None, {}
    second: spare.Record | None = None
    try:
        second = spare.find(slot, project.config)
    except errors.BadSpare as error:
        made.notes.append(error.message)
    orphans = spare.orphans(slot, project.config)
    if second:
        for path, pack in spare.copies(slot, project.state):
            if not spare.is_sound(path):
                path.unlink()
                made.notes.append(f"pack {path.name} was damaged in the second copy")
            elif pack.exists() and not spare.is_sound(pack):
                aside = project.state / DAMAGED
                aside.mkdir(mode=0o700, exist_ok=True)
                pack.rename(aside / pack.name)
                made.damaged.append(pack.name)
        if count := spare.bring_packs(slot, project.state):
            packs = f"{count} pack{'s are' if count > 1 else ' is'}"
            made.notes.append(f"{packs} back from the second copy in git's directory")
        for path, data, mode in (
            (project.root / RC, second.rc, 0o644),
            (project.state / FIRST, second.first, 0o600),
        ):
            if data and not path.exists():
                files.write_atomic(path, data, mode=mode)
                project.config.reload()
    own = project.config.text("repository.id")
    orphans = {other: found for other, found in orphans.items() if found.repository == own}
    for other in orphans:
        spare.bring_packs(other, project.state)
    return second, orphans


def _adopt(project: Project, made: _Made, orphans: Mapping[spare.Slot, spare.Record]) -> None:
    """Name the work of work trees that are gone as backups, and delete their second copies."""
    database = project.database
    for slot, record in orphans.items():
        heads = set(record.refs.values())
        if not all(_is_commit(project.store, head) for head in heads):
            continue  # for example, its packs are damaged
        for head in sorted(heads - set(database.refs().values())):
            name = next(_free_backups(database))
            database.set_ref(name, head)
            made.notes.append(f"{name} is work of {record.root}, which is gone")
        project.keep_spare()
        spare.remove(slot)


# --- the database ---------------------------------------------------------------------------


def _renew(state: Path) -> tuple[str, frozenset[str]]:
    """Put a new database in place, with what can be read of the old one.

    Returns:
        The file that keeps the old database, and the tables of `_TABLES` that could not be read
        whole.
    """
    path = state / DATABASE
    if path.exists():
        # A database of a later layout is left alone.
        with contextlib.suppress(errors.CorruptDatabase):
            Database(path).close()
    with files.disk_errors(path):
        scratch = state / SCRATCH
        scratch.mkdir(mode=0o700, exist_ok=True)
        kept = _keep(path)
        made = scratch / DATABASE
        with contextlib.closing(Database(made)) as new:
            whole = salvage(path, new)
            # An attempt that was interrupted has left tables that are whole but empty.
            lost = (_TABLES - whole).union((new.get(_LOST) or b"").decode().split())
            new.set(_LOST, " ".join(sorted(lost)).encode())
        # SQLite must not take the old database's log for the new one's.
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        made.rename(path)
        files.sync_directory(state)
    return kept, lost


def _keep(path: Path) -> str:
    """Copy the old database, with its log, to a new name; return that name."""
    if not path.exists():
        return ""
    n = 1
    while (kept := path.with_name(f"{path.name}.damaged-{n}")).exists():
        n += 1
    for suffix in ("-wal", ""):
        old = path.with_name(path.name + suffix)
        if old.exists():
            target = kept.with_name(kept.name + suffix)
            target.touch(mode=0o600)
            shutil.copyfile(old, target)
            with target.open("rb") as file:
                os.fsync(file.fileno())
    return str(kept)


def _find_keys(project: Project, made: _Made) -> None:
    """Make sure that the repository's keys are known, and open them.

    Raises:
        CorruptDatabase: The keys can't be found.
        NoKey: None of the user's identities opens the keys.
    """
    database = project.database
    failed: errors.DorkyError | None = None
    for found in _headers(project, made):
        try:
            header, note = found()
            with database.transaction() as db:
                # A header that opens is trusted: it is checked against `.dorkyrc`, not the
                # database.
                db.execute("DELETE FROM meta WHERE key = 'header'")
                project.unlock(header)
                database.set("header", model.encode(header))
        except (errors.AccessError, errors.IntegrityError) as error:
            failed = failed if isinstance(failed, errors.AccessError) else error
            continue
        except (errors.Unavailable, errors.NotFound):
            continue
        if note:
            made.notes.append(note)
        return
    if isinstance(failed, errors.AccessError):
        raise failed
    raise errors.CorruptDatabase(database.path, "its keys are lost", lost="keys")


_Found = Callable[[], tuple[Header, str]]


def _headers(project: Project, made: _Made) -> Iterator[_Found]:
    """Yield headers that may hold the repository's keys, the best first, with descriptions."""
    database = project.database
    seen = _headers_seen(database, made)
    if database.get("header"):
        yield lambda: (project.header, "")
    for header in seen:
        yield functools.partial(lambda header: (header, ""), header)
    if ORIGIN in project.config.remotes():
        yield lambda: _header_there(project)
    first = project.state / FIRST
    if first.is_file():
        yield lambda: _first_header(project, first)


def _headers_seen(database: Database, made: _Made) -> list[Header]:
    """Return the headers of the roots seen last; forget damaged ones."""
    found = []
    for name, data in list(database.connection.execute("SELECT remote, data FROM roots")):
        try:
            found.append(read_header(data, name)[0])
        except errors.IntegrityError:
            made.notes.append(f"the root of {name} that was seen last is lost")
            with database.transaction() as db:
                db.execute("DELETE FROM roots WHERE remote = ?", (name,))
    return found


def _header_there(project: Project) -> tuple[Header, str]:
    driver = project.driver()
    blob = driver.get(KEY)
    assert blob is not None
    header, _ = read_header(blob.data, driver.url)
    return header, f"the keys are those of {driver.url}"


def _first_header(project: Project, first: Path) -> tuple[Header, str]:
    header, body = read_header(first.read_bytes(), str(first))
    opened = project.unlock(header, verifier(header, body, str(first)))
    root = read_body(header, body, opened, str(first))
    project.database.set("roster", model.encode(root.roster))
    return header, "the keys are those that the repository began with"


def _forget_nonsense(project: Project, made: _Made) -> None:
    """Forget single values that can't be read, and operations that can't be undone any more."""
    database = project.database

    def forget(key: str) -> None:
        with database.transaction() as db:
            db.execute("DELETE FROM meta WHERE key = ?", (key,))

    for key in ("groups", "index.groups"):
        if not re.fullmatch(r"((all|[0-9a-f]{16}) ?)*", _text(database, key)):
            forget(key)
    for key in ("head", "index.commit", "requests"):
        if not _text(database, key).isprintable():
            forget(key)
    forget(SINCE)  # a cache only
    for key, read in (
        ("roster", lambda: project.roster),
        (PURGES, lambda: project.purges),
        (NEWEST, lambda: noted(database)),
        (operations.MERGE, lambda: pending.load(database)),
    ):
        try:
            read()
        except errors.CorruptDatabase:
            forget(key)
            if key == operations.MERGE:
                made.notes.append("a merge was in progress, and is lost: a pull begins it again")


def _text(database: Database, key: str) -> str:
    """Return a single value; a value that is not text becomes something unprintable."""
    try:
        return database.text(key)
    except errors.CorruptDatabase:
        return "\0"


def _forget_sent(database: Database) -> None:
    """Forget the packs of an interrupted push: a root must not list them if the record is wrong."""
    with database.transaction() as db:
        db.execute("DELETE FROM packs WHERE remote GLOB '*/sent'")
        db.execute("DELETE FROM meta WHERE key GLOB 'remote.*.sent'")


# --- packs ----------------------------------------------------------------------------------


def _index(project: Project, directory: Path, made: _Made) -> None:
    """Record the content of packs; save the good objects of damaged ones."""
    store = project.store
    recorded = {packed.id: packed for packed in store.packs()}
    there = scrub.packs_in(directory)
    project.progress.start("Reading packs", sum(path.stat().st_size for path in there), "B")
    gone = recorded.keys() - {path.name for path in there}
    _forget(store, gone)
    made.notes += [f"pack {name} is gone" for name in sorted(gone)]
    damaged: list[tuple[Path, list[Location]]] = []
    for path in there:
        made.packs += 1
        known = recorded.get(path.name)
        packed, locations = _open(store, path, known)
        digest = hashlib.sha256()
        wrong = 0
        for scrubbed in scrub.scrub(_told(project, path), locations, store.vault, digest):
            wrong += scrubbed.error is not None
        whole = digest.hexdigest() == path.name
        if packed is None and whole:
            made.notes.append(f"pack {path.name} is sealed with a key that is not known here")
            continue
        if packed is None or wrong or not whole:
            damaged.append((path, locations))
            continue
        made.objects += len(locations)
        with store.database.transaction():
            _forget(store, [path.name])
            store.record(LOCAL, packed, locations)
        if known is None:
            # Renew the pack's age, so that users have time to look at work that was just restored.
            os.utime(path)
    project.progress.finish()
    _save(project, damaged, made)


def _told(project: Project, path: Path) -> Iterator[bytes]:
    for block in scrub.blocks_of(path):
        yield block
        project.progress.advance(len(block))


def _open(store: Store, path: Path, known: Pack | None) -> tuple[Pack | None, list[Location]]:
    """Return what a pack holds; if it can't be opened, what the database knew of it."""
    for epochs in (known.epochs, None) if known else (None,):
        with contextlib.suppress(errors.IntegrityError):
            return scrub.index_of(path, store.vault, epochs)
    for where in (LOCAL, ORIGIN):
        if locations := store.locations(path.name, remote=where):
            return None, locations
    return None, []


def _forget(store: Store, names: Iterable[str]) -> None:
    store.retain(LOCAL, {packed.id for packed in store.packs()} - set(names))


def _save(project: Project, damaged: list[tuple[Path, list[Location]]], made: _Made) -> None:
    """Move damaged packs aside, once their good objects are stored elsewhere."""
    if not damaged:
        return
    store = project.store
    aside = project.state / DAMAGED
    with store.writer() as writer, store.database.transaction():
        _forget(store, [path.name for path, _ in damaged])
        for path, locations in damaged:
            blocks = scrub.blocks_of(path)
            for at, stored, error in scrub.scrub(blocks, locations, store.vault, hashlib.sha256()):
                if error or store.vault.is_foreign(stored) or writer.holds(at.id):
                    continue
                writer.append(at.kind, at.id, store.vault.renew(at.kind, at.id, stored))
                made.saved += 1
        writer.save()
    with files.disk_errors(aside):
        aside.mkdir(mode=0o700, exist_ok=True)
        for path, _ in damaged:
            path.rename(aside / path.name)
            made.damaged.append(path.name)
        files.sync_directory(aside)
        files.sync_directory(store.directory)
    made.objects += made.saved
    store.close()  # the store may have these packs open


# --- the remote, the log, refs and rows -----------------------------------------------------


def _fetch(project: Project, made: _Made) -> None:
    """Fetch all that is known of the remote once more, if it can be reached."""
    if ORIGIN not in project.config.remotes():
        return
    database = project.database
    try:
        remote = project.remote()
        _ = remote.before  # the roots fetched next are checked against it
        with database.transaction() as db:
            for table in ("roots", "packs"):
                db.execute(f"DELETE FROM {table} WHERE remote = ?", (ORIGIN,))  # noqa: S608
            fetch(remote, project.progress)
    except errors.NoRepositoryAtURL:
        return  # nothing has been pushed yet
    except errors.DorkyError as error:
        made.notes.append(f"what is known of the remote is what was known: {error.message}")


def _mend_operations(project: Project, made: _Made, *, lost: bool) -> None:
    """Forget operations that have lost something, and all older ones.

    No undo gets past an incomplete operation.
    """
    store, database = project.store, project.database
    log = operations.log(database)
    bad = max((operation.n for operation in log), default=0) if lost else 0
    for operation in () if lost else log:
        if not _undoable(store, operation.n):
            bad = operation.n
            break
    if bad:
        with database.transaction() as db:
            db.execute("DELETE FROM operations WHERE n <= ?", (bad,))
        made.notes.append("the operation log was damaged: undo reaches less far back")


def _undoable(store: Store, n: int) -> bool:
    """Return whether all that undoing an operation needs is in the local store or the remote."""
    try:
        was = operations.replaced(store.database, n)
        heads = {*was.refs.values(), (was.values.get("head") or b"").decode(errors="replace")}
        rows = [*was.rows.values(), *(row for both in was.disk.values() for row in both)]
        contents = {row.content for row in rows if row}
        contents -= store.locate(contents).keys()
        contents -= store.locate(contents, remote=ORIGIN).keys()
    except errors.CorruptDatabase:
        return False
    return not contents and all(_is_commit(store, commit) for commit in heads if commit)


def _mend_refs(project: Project, made: _Made, *, lost: bool) -> None:
    """Forget refs that name no commit; find the newest work if ``main`` is lost."""
    store, database = project.store, project.database
    for name, commit in database.refs().items():
        if not _is_commit(store, commit):
            database.delete_ref(name)
            lost = lost or name == MAIN
            made.notes.append(f"{name} named {commit[:10]}, which is lost")
    head = database.get("head")
    if head and not _is_commit(store, head.decode(errors="replace")):
        made.notes.append("HEAD named what is lost: it is main now")
        with database.transaction() as db:
            db.execute("DELETE FROM meta WHERE key = 'head'")
    if not lost or database.ref(MAIN):
        return
    upstream = database.ref(f"{ORIGIN}/{MAIN}")
    known = reach.reach(store, database.refs().values(), failed=lambda *_: None).commits
    commits = reach.unreached(store, known)
    _name_backups(database, commits)
    newest = _newest(store, commits, upstream) or upstream
    if newest:
        database.set_ref(MAIN, newest)
        what = "the remote's" if newest == upstream else "the newest commit that is here"
        made.notes.append(f"main was lost: it is {newest[:10]} now, {what}")


def _is_commit(store: Store, commit: str) -> bool:
    try:
        history.read_commit(store, commit)
    except (errors.DorkyError, ValueError):
        return False
    return True


def _name_backups(database: Database, commits: Mapping[ObjectId, Commit]) -> None:
    """Name backups again that no ref names any more."""
    lost = [tip for tip in reversed(reach.tips(commits)) if _is_backup(commits[tip])]
    for commit, name in zip(lost, _free_backups(database), strict=False):
        database.set_ref(name, commit)


def _free_backups(database: Database) -> Iterator[str]:
    """Yield unused names for backups."""
    taken = database.refs()
    return (name for n in itertools.count(1) if (name := f"backup/{n}") not in taken)


def _is_backup(commit: Commit) -> bool:
    return commit.message.endswith(_BACKUP)


def _newest(
    store: Store, commits: Mapping[ObjectId, Commit], upstream: ObjectId | None
) -> ObjectId | None:
    """Return the newest commit that descends from the remote's; any if there is no remote."""
    own = {commit_id: commit for commit_id, commit in commits.items() if not _is_backup(commit)}
    for tip in reach.tips(own):
        with contextlib.suppress(errors.DorkyError):
            if upstream is None or history.is_ancestor(store, upstream, tip):
                return tip
    return None


def _mend_rows(project: Project, made: _Made, *, lost: bool) -> None:
    """Take lost rows from HEAD; forget rows whose content is lost."""
    store, index = project.store, project.index
    rows = index.rows()
    missing = store.missing(row.content for row in rows.values())
    for name in project.config.remotes():
        missing -= store.locate(missing, remote=name).keys()
    gone = [path for path, row in rows.items() if row.content in missing]
    if gone:
        made.notes.append(f"what was staged of {shown(gone)} is lost")
        index.remove(gone)
        lost = True
    if not lost:
        return
    view = projection.current(store, history.head_of(store))
    with contextlib.suppress(errors.IntegrityError):
        index.put(
            staging.row_of(path, placed, store.vault, absent=project.worktree.stat(path) is None)
            for path, placed in list(view.files())
            if path not in rows or path in gone
        )
    with project.database.transaction():
        index.set_groups(store.vault.groups)
        index.set_claims(placement.claims(project.roster))
        index.set_commit(None)
    made.notes.append("what was staged, and not committed, may have to be staged again")
