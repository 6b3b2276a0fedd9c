"""Repair: rebuild the local database from its readable parts, the packs and the remote.

Nothing is deleted: the old database is kept next to the new one, and damaged packs are moved aside.
An interrupted repair is simply run again.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from dorky import errors, files
from dorky.commands.repair_packs import Repairs, bring_back, index_packs
from dorky.format import model
from dorky.format.model import Commit, Header, Kind, ObjectId
from dorky.keys import placement, teamlog
from dorky.merge import pending
from dorky.paths import shown
from dorky.project import DISK, FIRST, ORIGIN, Project
from dorky.redaction import redacted
from dorky.remote.authority import PINNED
from dorky.remote.fetch import fetch
from dorky.remote.root import KEY, NEWEST, noted, read_body, read_header, verifier
from dorky.remote.tables import renew as renew_tables
from dorky.results import RepairReport
from dorky.store import authorship, history, projection, spare
from dorky.store import oplog as operations
from dorky.store import reachability as reach
from dorky.store.database import PURGES, TEAM, Database
from dorky.store.history import ATTEST, MAIN
from dorky.store.index import MASKED, SIGHT, SINCE
from dorky.store.objects import Store
from dorky.store.salvage import salvage
from dorky.store.state import DATABASE
from dorky.worktree import staging
from dorky.worktree.worktree import SCRATCH

_BACKUP = "before they were replaced"
"""The end of the message of every backup commit (see `checkout.backup`)."""
_TABLES = frozenset({"meta", "refs", "files", "operations", "replaced"})
"""The tables with content that exists only in the database."""
_CACHES = frozenset({SINCE, SIGHT, DISK, PINNED, MASKED})
"""The single values that can be found out again."""
_LOST = "rebuild.lost"
"""The single value that names those of them that were lost, until they are repaired."""


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
    repairs = Repairs()
    with project.locking():
        project.close()
        second, orphans = bring_back(project, repairs)
        kept, lost = _renew(project.state)
        project.set_up()
        if second:
            _seed(project.database, second, repairs, values="meta" in lost)
        if lost == _TABLES and not second:
            repairs.notes.append("nothing could be read of the old database")
        elif lost != _TABLES:
            repairs.notes += [f"the table {name} could not be read whole" for name in sorted(lost)]
        _find_keys(project, repairs)
        _forget_nonsense(project, repairs)
        _forget_sent(project.database)
        index_packs(project, directory, repairs)
        _find_team(project)
        _fetch(project, repairs)
        _mend_operations(project, repairs, lost="replaced" in lost or "operations" in lost)
        found = _mend_refs(project, repairs, lost="refs" in lost)
        _adopt(project, repairs, orphans)
        _mend_rows(project, repairs, lost=found or not lost.isdisjoint({"files", "meta"}))
        with project.database.transaction() as db:
            db.execute("DELETE FROM meta WHERE key = ?", (_LOST,))
        start = reach.named(project.store)
        reached = reach.reach(project.store, *start, failed=lambda *_: None)
        return RepairReport(
            kept=redacted(kept),
            packs=repairs.packs,
            objects=repairs.objects,
            damaged=tuple(repairs.damaged),
            saved=repairs.saved,
            main=project.database.ref(MAIN),
            notes=tuple(repairs.notes),
            dangling=reach.dangling(reach.unreached(project.store, reached.commits)),
        )


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
        fresh = scratch / DATABASE
        with contextlib.closing(Database(fresh)) as new:
            whole = salvage(path, new)
            # An attempt that was interrupted has left tables that are whole but empty.
            lost = (_TABLES - whole).union((new.get(_LOST) or b"").decode().split())
            new.set(_LOST, " ".join(sorted(lost)).encode())
        # SQLite must not take the old database's log for the new one's.
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        fresh.rename(path)
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


def _find_keys(project: Project, repairs: Repairs) -> None:
    """Make sure that the repository's keys are known, and open them.

    Raises:
        CorruptDatabase: The keys can't be found.
        NoKey: None of the user's identities opens the keys.
    """
    database = project.database
    failed: errors.DorkyError | None = None
    for found in _headers(project, repairs):
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
        except (errors.Unavailable, errors.NotFoundError):
            continue
        if note:
            repairs.notes.append(note)
        return
    if isinstance(failed, errors.AccessError):
        raise failed
    raise errors.CorruptDatabase(database.path, "its keys are lost", lost="keys")


_Found = Callable[[], tuple[Header, str]]


def _headers(project: Project, repairs: Repairs) -> Iterator[_Found]:
    """Yield headers that may hold the repository's keys, the best first, with descriptions."""
    database = project.database
    seen = _headers_seen(database, repairs)
    if database.get("header"):
        yield lambda: (project.header, "")
    for header in seen:
        yield functools.partial(lambda header: (header, ""), header)
    if ORIGIN in project.config.remotes():
        yield lambda: _header_there(project)
    first = project.state / FIRST
    if first.is_file():
        yield lambda: _first_header(project, first)


def _headers_seen(database: Database, repairs: Repairs) -> list[Header]:
    """Return the headers of the roots seen last; forget damaged ones."""
    found = []
    for name, data in list(database.connection.execute("SELECT remote, data FROM roots")):
        try:
            found.append(read_header(data, name)[0])
        except errors.IntegrityError:
            repairs.notes.append(f"the root of {name} that was seen last is lost")
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
    log = [inlined for inlined in root.inline if inlined.kind is Kind.TEAM]
    bodies = {inlined.id: opened.read(inlined.kind, inlined.id, inlined.data) for inlined in log}
    entries = [(inlined, model.decode_entry(body, inlined)) for inlined, body in bodies.items()]
    entries.sort(key=lambda entered: entered[1].n)
    project.database.set_team(teamlog.replay(entries, header.repository))
    return header, "the keys are those that the repository began with"


def _find_team(project: Project) -> None:
    """Read the team from the entries of its log, which the packs hold.

    The database's record is a cache of them. It stays only if it tells of entries that are lost.
    """
    known, team = project.team, authorship.replayed(project.store, project.header.repository)
    if team.n >= known.n or team.id == known.id:
        project.database.set_team(team)


def _forget_nonsense(project: Project, repairs: Repairs) -> None:
    """Forget single values that can't be read, and operations that can't be undone any more."""
    database = project.database

    def forget(key: object) -> None:
        with database.transaction() as db:
            db.execute("DELETE FROM meta WHERE key = ?", (key,))

    for key in ("groups", "index.groups"):
        if not re.fullmatch(r"((all|[0-9a-f]{16}) ?)*", _text(database, key)):
            forget(key)
    for key in ("head", "index.commit", "requests"):
        if not _text(database, key).isprintable():
            forget(key)
    for key, value in dict(database.connection.execute("SELECT key, value FROM meta")).items():
        if key in _CACHES or not (_is_of_remote(key) or _is_text(value)):
            forget(key)
    for key, read in (
        ("roster", lambda: project.roster),
        (PURGES, lambda: project.purges),
        (TEAM, lambda: project.team),
        (authorship.VERIFIED, lambda: authorship.verified(database)),
        (NEWEST, lambda: noted(database)),
        (operations.MERGE, lambda: pending.load(database)),
    ):
        try:
            read()
        except errors.CorruptDatabase:
            forget(key)
            if key == operations.MERGE:
                repairs.notes.append("a merge was in progress, and is lost: a pull begins it again")


def _is_of_remote(key: object) -> bool:
    return isinstance(key, str) and key.startswith("remote.")


def _is_text(value: object) -> bool:
    try:
        return isinstance(value, bytes) and value.decode() is not None
    except UnicodeDecodeError:
        return False


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


# --- the remote, the log, refs and rows -----------------------------------------------------


def _fetch(project: Project, repairs: Repairs) -> None:
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
        if wrong := renew_tables(remote, project.progress):
            repairs.notes.append(f"{wrong} of the remote's tables were wrong, and are made again")
    except errors.NoRepositoryAtURL:
        return  # nothing has been pushed yet
    except errors.DorkyError as error:
        repairs.notes.append(f"what is known of the remote is what was known: {error.message}")


def _mend_operations(project: Project, repairs: Repairs, *, lost: bool) -> None:
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
        repairs.notes.append("the operation log was damaged: undo reaches less far back")


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


def _seed(database: Database, second: spare.Record, repairs: Repairs, *, values: bool) -> None:
    """Take from the second copy what the database has lost."""
    had = database.refs().keys()
    spare.seed(database, second, values=values)
    for name in sorted(second.refs.keys() - had):
        if name == MAIN:
            repairs.notes.append(_found_main(second.refs[name], "as the second copy says"))
        else:
            repairs.notes.append(f"{name} is back from the second copy in git's directory")


def _found_main(commit: ObjectId, why: str) -> str:
    return f"main was lost: it is {commit[:10]} now, {why}"


def _mend_refs(project: Project, repairs: Repairs, *, lost: bool) -> bool:
    """Forget refs that name no commit; find ``main`` if it is lost, and return whether it was."""
    store, database = project.store, project.database
    for name, commit in database.refs().items():
        if not _is_commit(store, commit):
            database.delete_ref(name)
            lost = lost or name == MAIN
            repairs.notes.append(f"{name} named {commit[:10]}, which is lost")
    head = database.get("head")
    if head and not _is_commit(store, head.decode(errors="replace")):
        repairs.notes.append("HEAD named what is lost: it is main now")
        with database.transaction() as db:
            db.execute("DELETE FROM meta WHERE key = 'head'")
    strays = _stray_refs(project)
    is_lost = not database.ref(MAIN)
    if is_lost:
        # While a branch is checked out, the index equals its commit.
        equal = "" if database.get("head") else project.index.commit
        told = [*([equal] if equal else []), *strays.values()]
        found = next((commit for commit in told if _is_commit(store, commit)), None)
        if found:
            database.set_ref(MAIN, found)
            repairs.notes.append(_found_main(found, "which the index or a damaged ref names"))
        elif lost or _had_main(project):
            _guess_main(project, repairs)
    for name, commit in strays.items():
        database.delete_ref(name)
        if commit not in database.refs().values():
            backup = next(_free_backups(database))
            database.set_ref(backup, commit)
            repairs.notes.append(f"{backup} was named {shown([name])}")
    return is_lost and database.ref(MAIN) is not None


def _stray_refs(project: Project) -> dict[str, ObjectId]:
    """Return the refs with names that no command gives."""
    remotes = tuple(f"{name}/" for name in (ORIGIN, *project.config.remotes()))
    return {
        name: commit
        for name, commit in project.database.refs().items()
        if name not in {MAIN, ATTEST}
        and not re.fullmatch("backup/[0-9]+", name)
        and not name.startswith(remotes)
    }


def _had_main(project: Project) -> bool:
    """Return whether there was a ``main``, as far as the log, the packs and the index tell.

    A project has none before its first commit or pull, and after that commit was undone.
    """
    store, database = project.store, project.database
    moves = operations.mains(database)
    if moves:
        last = max(moves)
        by = {operation.n: operation.command for operation in operations.log(database)}
        return moves[last] is None or not by.get(last, "").startswith("undo")
    refs = database.refs()
    known = reach.reach(store, refs.values(), failed=lambda *_: None).commits
    if any(not _is_backup(commit) for commit in reach.unreached(store, known).values()):
        return True
    upstream = refs.get(f"{ORIGIN}/{MAIN}")
    pulled = {path for path, _ in projection.current(store, upstream).files()}
    return bool(pulled) and pulled <= project.index.rows().keys()


def _guess_main(project: Project, repairs: Repairs) -> None:
    """Point ``main`` at the newest commit that descends from the remote's, or at the remote's."""
    store, database = project.store, project.database
    upstream = database.ref(f"{ORIGIN}/{MAIN}")
    known = reach.reach(store, database.refs().values(), failed=lambda *_: None).commits
    commits = reach.unreached(store, known)
    _name_backups(database, commits)
    newest = _newest(store, commits, upstream) or upstream
    if newest:
        database.set_ref(MAIN, newest)
        what = "the remote's" if newest == upstream else "the newest commit that is here"
        repairs.notes.append(_found_main(newest, what))


def _is_commit(store: Store, commit: str) -> bool:
    try:
        history.read_commit(store, commit)
    except (errors.DorkyError, ValueError):
        return False
    return True


def _adopt(project: Project, repairs: Repairs, orphans: Mapping[spare.Slot, spare.Record]) -> None:
    """Name the work of work trees that are gone as backups, and delete their second copies."""
    database = project.database
    for slot, record in orphans.items():
        heads = set(record.refs.values())
        if not all(_is_commit(project.store, head) for head in heads):
            continue  # for example, its packs are damaged
        for head in sorted(heads - set(database.refs().values())):
            name = next(_free_backups(database))
            database.set_ref(name, head)
            repairs.notes.append(f"{name} is work of {record.root}, which is gone")
        project.keep_spare()
        spare.remove(slot)


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


def _mend_rows(project: Project, repairs: Repairs, *, lost: bool) -> None:
    """Take lost rows from HEAD; forget rows whose content is lost."""
    store, index = project.store, project.index
    rows = index.rows()
    missing = store.missing(row.content for row in rows.values())
    for name in project.config.remotes():
        missing -= store.locate(missing, remote=name).keys()
    gone = [path for path, row in rows.items() if row.content in missing]
    if gone:
        repairs.notes.append(f"what was staged of {shown(gone)} is lost")
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
        staging.note_remote_only(store, index, index.rows().values())
    repairs.notes.append("what was staged, and not committed, may have to be staged again")
