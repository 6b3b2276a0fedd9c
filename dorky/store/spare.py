"""The second copy of unpushed work, in git's own directory: git can delete `.dorky/`, but not this.

It lies in ``<git common directory>/dorky/SLOT/``, where SLOT stands for a work tree and the
project's path in it. It holds the local packs (hard links where possible) and a record of the refs
and of all that is needed to open them. It exists only while there are commits that no remote is
known to have. Objects are proved by their ids, the record by a MAC under the user's key (see
`state`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from dorky import errors, files, git
from dorky.config import RC, Config
from dorky.format import model
from dorky.format.model import ObjectId
from dorky.store import history
from dorky.store import state as states
from dorky.store.database import PURGES, TEAM, Database
from dorky.store.history import ATTEST, MAIN
from dorky.store.objects import LOCAL, Store

DIRECTORY = "dorky"
"""The directory of second copies, in git's directory."""
KNOWN = "dorky.remote.known"
"""The directory, in git's, of the files that name each project's repository."""
PACKS = "packs"
RECORD = "record"
ALSO = ("header", "roster", TEAM, PURGES, "purges.followed", "purges.own", "newest", "head")
"""The single values of the database that a record keeps."""

_PURPOSE = "dorky second copy"
_MAC = 32
_LIMIT = 32 << 20
_COUNTED = 100
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}
_ONLY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Slot(msgspec.Struct, frozen=True):
    """The place of a project's second copy, whether it exists or not.

    Attributes:
        parent: The directory of all second copies of a git repository.
        name: The name of this one in it.
        worktree: The work tree's place in git's directory; empty for the main one.
        project: The name of the project in all work trees.
    """

    parent: Path
    name: str
    worktree: str
    project: str = ""

    @property
    def repository(self) -> Path:
        """Return the file that names the project's repository, whatever happens to its state."""
        return self.parent.with_name(KNOWN) / self.project

    @property
    def path(self) -> Path:
        """Return the directory of this second copy."""
        return self.parent / self.name


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record of a second copy: what it says beyond its packs.

    Attributes:
        root: The project's directory.
        worktree: See `Slot`.
        refs: ``main``, the backups, and ``attest`` if the remote has another one.
        upstream: The remote's ``main`` as last seen, or nothing.
        commits: How many commits of ``main`` are missing in ``upstream``; of many, only the first
            hundred count.
        author: The author of the newest of them.
        time: When the record was made.
        values: Single values of the database.
        first: The repository's first root, while no remote has it.
        rc: The project's `.dorkyrc`.
    """

    root: str
    worktree: str
    refs: dict[str, ObjectId]
    upstream: str = ""
    commits: int = 0
    author: str = ""
    time: str = ""
    values: dict[str, bytes] = {}
    first: bytes = b""
    rc: bytes = b""

    @property
    def repository(self) -> str:
        """Return the id of the repository; empty if the record does not name it."""
        with contextlib.suppress(model.Malformed):
            return model.decode(model.Header, self.values.get("header", b"")).repository
        return ""

    @property
    def lost(self) -> str:
        """Return a description, for people, of what would be lost with the second copy."""
        backups = len(self.refs.keys() - {MAIN, ATTEST})
        counts = ((self.commits, "commit"), (backups, "backup"))
        found = [f"{n} {what}{'s' * (n > 1)}" for n, what in counts if n]
        found += ["attestations"] if ATTEST in self.refs else []
        more = " or more" if self.commits == _COUNTED else ""
        return " and ".join(found) + more


def slot_of(root: Path) -> Slot | None:
    """Return the slot of the project at ``root``; None outside of git."""
    top = git.find(root)
    found = git.directories(top) if top else None
    if top is None or found is None:
        return None
    own, common = found
    worktree = "" if own == common else own.relative_to(common).as_posix()
    project = root.resolve().relative_to(top).as_posix()
    return Slot(common / DIRECTORY, _named(worktree, project), worktree, _named("", project))


def _named(worktree: str, project: str) -> str:
    from hashlib import sha256

    text = f"{worktree}\0{project}"
    return sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]


def project_above(start: Path) -> Path | None:
    """Return the nearest directory, from ``start`` up, that has a second copy; None if none has."""
    top = git.find(start)
    for directory in (start, *start.parents) if top else ():
        slot = slot_of(directory)
        if slot and _is_there(slot):
            return directory
        if directory == top:
            break
    return None


def _is_there(slot: Slot) -> bool:
    return not slot.parent.is_symlink() and (slot.path / RECORD).is_file()


def _open(slot: Slot, *, make: bool = False) -> tuple[int, int]:
    """Open a slot and the packs in it, never through a link, and only if they are this user's.

    Raises:
        OSError: The slot can't be opened, or made.
    """
    opened: list[int] = []
    try:
        opened.append(os.open(slot.parent.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for name in (slot.parent.name, slot.name, PACKS):
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=opened[-1])
                    files.sync_names(opened[-1])
            opened.append(os.open(name, _ONLY, dir_fd=opened[-1]))
            if why := states.foreign(os.fstat(opened[-1])):
                raise OSError(errno.EPERM, why)
        return opened.pop(-2), opened.pop()
    finally:
        for fd in opened:
            os.close(fd)


@contextlib.contextmanager
def _opened(slot: Slot, *, make: bool = False) -> Iterator[tuple[int, int]]:
    fds = _open(slot, make=make)
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


# --- the repository -------------------------------------------------------------------------


def known(slot: Slot) -> str:
    """Return the id of the repository that a project was set up with; empty if none is recorded."""
    return _small(slot.repository).decode(errors="replace")


def note(slot: Slot, repository: str) -> None:
    """Record the repository that a project is set up with.

    Raises:
        DiskError: The record can't be written.
    """
    if known(slot) != repository:
        with files.disk_errors(slot.repository):
            slot.repository.parent.mkdir(mode=0o700, exist_ok=True)
        files.write_atomic(slot.repository, repository.encode())


def forget(slot: Slot) -> None:
    """Allow a project to be set up with any repository.

    Only for a repository that the user has just named.
    """
    with files.disk_errors(slot.repository):
        slot.repository.unlink(missing_ok=True)


# --- writing --------------------------------------------------------------------------------


def keep(slot: Slot, root: Path, state: Path, store: Store, config: Config, first: Path) -> None:
    """Bring the second copy up to date; delete it if everything is pushed.

    Packs are written before the record that needs them, and deleted after it.

    Args:
        slot: The second copy's slot.
        root: The project's directory; its lock is held.
        state: The project's state.
        store: The project's objects.
        config: Leads to the user's key.
        first: The file that holds the repository's first root, while it matters.

    Raises:
        DiskError: The second copy can't be written.
    """
    database = store.database
    named = database.refs()
    refs = {
        name: commit
        for name, commit in named.items()
        if name == MAIN
        or name.startswith("backup/")
        or (name == ATTEST and commit != named.get(f"origin/{ATTEST}"))
    }
    upstream = database.ref(f"origin/{MAIN}") or ""
    old = _trusted(slot, config)
    told = _told(store, refs.get(MAIN), upstream, old if old and old.refs == refs else None)
    if not (told.commits or refs.keys() - {MAIN}):
        remove(slot)
        return
    record = msgspec.structs.replace(
        told,
        root=str(root),
        worktree=slot.worktree,
        refs=refs,
        upstream=upstream,
        values={key: value for key in ALSO if (value := database.get(key))},
        first=_small(first),
        rc=_small(root / RC),
    )
    with files.disk_errors(slot.path), _opened(slot, make=True) as (directory, packs):
        recorded = {pack.id for pack in store.packs()}
        there = set(os.listdir(packs))  # noqa: PTH208
        new = [name for name in sorted(recorded - there) if _add(state, name, packs, store)]
        if new:
            files.sync_names(packs)
        if record != old:
            _write(slot, record, directory, config)
        for name in there - recorded:
            os.unlink(name, dir_fd=packs)


def _told(store: Store, main: str | None, upstream: str, old: Record | None) -> Record:
    """Return a new record, counting what is not pushed unless an earlier record has the count."""
    if old and old.upstream == upstream:
        return old
    empty = Record("", "", {})
    if main is None or main == upstream:
        return empty
    head = history.read_commit(store, main)
    commits = 0
    if upstream:
        commits, _ = history.ahead_behind(store, main, upstream)
    else:
        for _ in history.ancestors(store, [main]):
            commits += 1
            if commits == _COUNTED:
                break
    time = f"{head.time:%Y-%m-%d %H:%M} UTC"
    return Record("", "", {}, commits=min(commits, _COUNTED), author=head.author, time=time)


def _add(state: Path, name: str, packs: int, store: Store) -> bool:
    """Link a local pack, or copy it if links are impossible; return whether that was done."""
    try:
        os.link(state / PACKS / name, name, dst_dir_fd=packs, follow_symlinks=False)
    except FileNotFoundError:
        return False  # fsck reports it
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        if not _has_unpushed(store, name):
            return False
        _copy(state / PACKS / name, name, packs)
    return True


def _has_unpushed(store: Store, name: str) -> bool:
    """Return whether a pack holds an object that no pack of the remote does."""
    found = store.database.connection.execute(
        "SELECT 1 FROM packs p JOIN objects o ON o.pack = p.n WHERE p.remote = ? AND p.name = ?"
        " AND NOT EXISTS (SELECT 1 FROM objects t JOIN packs q ON q.n = t.pack"
        " WHERE t.id = o.id AND q.remote = 'origin') LIMIT 1",
        (LOCAL, name),
    )
    return found.fetchone() is not None


def _copy(source: Path, name: str, target: int) -> None:
    scratch = files.temporary(Path()).name
    with open(os.open(source, _FILE), "rb") as file:
        blocks = iter(lambda: file.read(1 << 20), b"")
        files.write_new(scratch, 0o600, blocks, about=source, within=target)
    fd = os.open(scratch, _FILE, dir_fd=target)
    os.fsync(fd)
    os.close(fd)
    os.rename(scratch, name, src_dir_fd=target, dst_dir_fd=target)


def _write(slot: Slot, record: Record, directory: int, config: Config) -> None:
    data = msgspec.json.encode(record)
    proof = states.mac(states.make_key(config), _PURPOSE, _bound(slot, data))
    scratch = files.temporary(Path()).name
    files.write_new(scratch, 0o600, [proof, data], about=slot.path, within=directory)
    fd = os.open(scratch, _FILE, dir_fd=directory)
    os.fsync(fd)
    os.close(fd)
    os.rename(scratch, RECORD, src_dir_fd=directory, dst_dir_fd=directory)
    files.sync_names(directory)


def _bound(slot: Slot, data: bytes) -> bytes:
    return slot.name.encode() + b"\0" + data


def _small(path: Path) -> bytes:
    """Return the content of a small file of the project's; nothing if there is none."""
    try:
        with open(os.open(path, _FILE), "rb") as file:
            return file.read(_LIMIT >> 2)
    except OSError:
        return b""


def remove(slot: Slot) -> None:
    """Delete the second copy, if there is one."""
    if not slot.parent.is_symlink() and slot.path.is_dir() and not slot.path.is_symlink():
        with files.disk_errors(slot.path):
            # The record goes last, so that an interrupted deletion is found again.
            shutil.rmtree(slot.path / PACKS, ignore_errors=True)
            shutil.rmtree(slot.path)
            with contextlib.suppress(OSError):
                slot.parent.rmdir()


# --- reading --------------------------------------------------------------------------------


def find(slot: Slot, config: Config) -> Record | None:
    """Return the record of a second copy; None if there is none.

    Raises:
        BadSpare: The record can't be read, or was not made with this user's key.
    """
    if not _is_there(slot):
        return None
    try:
        with _opened(slot) as (directory, _), open(_record(directory), "rb") as file:
            data = file.read(_LIMIT)
    except OSError as error:
        raise errors.BadSpare(slot.path, error.strerror or error) from error
    proof, body = data[:_MAC], data[_MAC:]
    if not states.verifies(states.keys(config), _PURPOSE, _bound(slot, body), proof):
        raise errors.BadSpare(slot.path, "it was changed, or made with another key")
    try:
        return msgspec.json.decode(body, type=Record)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise errors.BadSpare(slot.path, error) from None


def _record(directory: int) -> int:
    fd = os.open(RECORD, _FILE, dir_fd=directory)
    if why := states.foreign(os.fstat(fd)):
        os.close(fd)
        raise OSError(errno.EPERM, why)
    return fd


def _trusted(slot: Slot, config: Config) -> Record | None:
    """Return the existing record; None if it can't be relied on."""
    try:
        return find(slot, config)
    except errors.BadSpare:
        return None


def orphans(slot: Slot, config: Config) -> dict[Slot, Record]:
    """Return the second copies of projects whose work tree is gone."""
    found = {}
    names = sorted(path.name for path in slot.parent.iterdir()) if slot.parent.is_dir() else []
    for name in names:
        other = Slot(slot.parent, name, "")
        record = _trusted(other, config) if name != slot.name else None
        if record is None:
            continue
        gone = record.worktree and not (slot.parent.parent / record.worktree).is_dir()
        if gone or not Path(record.root).is_dir():
            found[other] = record
    return found


# --- restoring ------------------------------------------------------------------------------


def bring_packs(slot: Slot, state: Path) -> int:
    """Restore packs of a second copy that the local store lacks; return how many.

    They are hard links, or copies, that no record names yet: the caller must check whether they are
    sound.
    """
    from dorky.store import verify

    made = 0
    target = state / PACKS
    with files.disk_errors(target):
        target.mkdir(mode=0o700, exist_ok=True)
        into = os.open(target, _ONLY)
        try:
            with _opened(slot) as (_, packs):
                for name in filter(verify.is_name, os.listdir(packs)):  # noqa: PTH208
                    with contextlib.suppress(FileExistsError):
                        try:
                            os.link(
                                name, name, src_dir_fd=packs, dst_dir_fd=into, follow_symlinks=False
                            )
                        except OSError as error:
                            if error.errno not in _NO_LINK:
                                raise
                            _copy(slot.path / PACKS / name, name, into)
                        made += 1
            files.sync_names(into)
        finally:
            os.close(into)
    return made


def seed(database: Database, record: Record, *, values: bool) -> None:
    """Write the refs of a second copy, and its values, into a database that has lost them.

    Args:
        database: The new database; what it could save stays.
        record: The record of the second copy.
        values: Whether single values were lost.
    """
    with database.transaction() as db:
        if values:
            known = [(key, value) for key, value in record.values.items() if key in ALSO]
            db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", known)
        # A damaged page can lose a ref, and be read without an error.
        named = [*record.refs.items()]
        db.executemany("INSERT OR IGNORE INTO refs VALUES (?, ?)", named)


def copies(slot: Slot, state: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the packs of a second copy that are not links to the state's, each with the state's."""
    from dorky.store import verify

    for path in verify.packs_in(slot.path / PACKS):
        own = state / PACKS / path.name
        if not (own.exists() and own.samefile(path)):
            yield path, own


def is_sound(path: Path) -> bool:
    """Return whether a pack's name matches its bytes."""
    from dorky.store import verify

    return not path.is_symlink() and verify.is_whole(path)
