"""One project on this machine: its settings, state, keys, remotes, and a worktree if there is one.

`repo.Repository` builds the commands from it. Nothing is opened before it is needed: most commands
need neither the keys nor a driver.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from dorky import errors, files, ownership
from dorky.config import RC, VERSION, Config
from dorky.drivers import open_driver
from dorky.drivers.base import Driver
from dorky.drivers.retry import UNQUOTED
from dorky.files import FileSystem
from dorky.format import model
from dorky.format.model import Header, Purge, Roster
from dorky.progress import SILENT, Progress
from dorky.store import oplog
from dorky.store import state as states
from dorky.store.database import PURGES, Database
from dorky.store.index import Index
from dorky.store.objects import Store
from dorky.store.state import DATABASE
from dorky.worktree.ignore import Ignore
from dorky.worktree.worktree import PARTIAL, SCRATCH, STATE, Worktree

if TYPE_CHECKING:
    from typing_extensions import Self

    # Most commands need neither the keys nor a remote.
    from dorky.drivers.consent import Agree
    from dorky.keys.age import Ask
    from dorky.keys.keyring import Keyring
    from dorky.keys.placement import Owner
    from dorky.keys.signing import Signer
    from dorky.keys.teamlog import Team
    from dorky.keys.vault import Vault
    from dorky.remote.known import Known
    from dorky.remote.root import Remote
    from dorky.store.spare import Record, Slot

RESERVE = "reserve"
"""The file that is deleted to make room for a garbage collection on a full disk."""
_RESERVED = 256 << 10
FIRST = "first-root"
"""The file of the repository's first root. While there is no remote, only this file and the
database have the keys."""
MANY_PACKS = 500
"""So many packs deserve a hint that a collection joins them."""
ORIGIN = "origin"
_PARTIAL_AGE = 24 * 3600
"""Seconds after which a file that was partly fetched is deleted."""
DISK = "disk"
"""The single value with what the file system can keep, in words (see `FileSystem.text`)."""
_UMASKS = "umasks"
"""The single value with the umasks, in octal, under which files were written."""


class Project:
    """A repository as one user sees it, opened lazily. A context manager.

    With a root it is a directory that dorky manages. Without one there is no worktree and no
    `.dorkyrc`, and what needs them raises `NoWorktree`.

    Several threads may use a project: what it opens is opened once, reading is safe, and `locked`
    keeps all but one thread from writing. `close` is for the last of them. A child process opens a
    project of its own.

    Args:
        root: The directory that holds `.dorkyrc`; None for a project without a worktree.
        config: The project's settings.
        state: The directory for the local state of a project without a worktree. It belongs to this
            object alone, and must be private.
        progress: Receives the progress of long operations.
        ask: Asks the user for a passphrase; None if there is nobody to ask.
        agree: Asks the user whether `.dorkyrc` may choose a profile or a server; likewise.
    """

    def __init__(
        self,
        root: Path | None,
        *,
        config: Config | None = None,
        state: Path | None = None,
        progress: Progress = SILENT,
        ask: Ask | None = None,
        agree: Agree | None = None,
    ) -> None:
        self._root = root
        self.config = config or Config(root)
        self.progress = progress
        self._worktree: Worktree | None = None
        if root is not None:
            self._worktree = Worktree(root, lambda: self.state / SCRATCH)
            self._worktree.umasks = self._umasks
            self._worktree.disk = self._file_system
        self.ask = ask
        if root and any(os.path.lexists(root / name) for name in (RC, STATE)):
            self.check_ownership()
        self.agree = agree
        self._mutex = threading.RLock()
        self._opening = threading.RLock()
        self._database: Database | None = None
        self._store: Store | None = None
        self._keyring: Keyring | None = None
        self._holds_lock = False
        self._disk: FileSystem | None = None
        self._state = None if root else state

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close files and the database; the next use opens them again."""
        with self._opening:
            if self._store:
                self._store.close()
            if self._database:
                self._database.close()
            self._store = self._database = None

    @staticmethod
    def root_above(start: Path) -> Path | None:
        """Return the nearest directory, from ``start`` up, that is a project; None if none is.

        The owner of the directory is not checked. `ownership.upwards` says how far up the search
        goes.
        """
        start = start.resolve()
        for directory in ownership.upwards(start, Config(None).environment):
            # ~/.dorky holds the user's identity, and a git branch can bring any `.dorky/`.
            if (directory / RC).is_file() or _has_state(directory):
                return directory
        from dorky.store import spare

        return spare.project_above(start.resolve())

    @classmethod
    def find(
        cls,
        start: str | os.PathLike[str] = ".",
        *,
        progress: Progress = SILENT,
        ask: Ask | None = None,
        agree: Agree | None = None,
    ) -> Self:
        """Return the project that ``start`` lies in.

        Raises:
            NotARepository: There is no project.
        """
        root = cls.root_above(Path(start))
        if root is None:
            raise errors.NotARepository(Path(start).resolve())
        return cls(root, progress=progress, ask=ask, agree=agree)

    @property
    def root(self) -> Path:
        """Return the directory that holds `.dorkyrc`.

        Raises:
            NoWorktree: The project has none.
        """
        if self._root is None:
            raise errors.NoWorktree(self.config.url(ORIGIN))
        return self._root

    @property
    def worktree(self) -> Worktree:
        """Return the project's files on disk.

        Raises:
            NoWorktree: The project has none.
        """
        if self._worktree is None:
            raise errors.NoWorktree(self.config.url(ORIGIN))
        return self._worktree

    @property
    def has_worktree(self) -> bool:
        """Return whether the project has files on disk."""
        return self._worktree is not None

    def check_ownership(self) -> None:
        """Check that the project belongs to the user, or to somebody whom the user trusts.

        Raises:
            DubiousOwnership: The project is another user's.
            WritableByAll: Everyone may change the project.
        """

        def safe() -> bool:
            from dorky import git

            return git.is_safe(self.root)

        paths = (self.root, *(self.root / name for name in (RC, STATE, ".git")))
        ownership.check(self.root, paths, self.config.owners, safe=safe)

    def repository_path(self, path: str | os.PathLike[str]) -> str:
        """Return the repository path of a path that is one, or is absolute (see `relative`).

        Raises:
            NoWorktree: It is an absolute path, or leads out of the repository, and the project has
                no worktree.
        """
        if self._worktree is None:
            try:
                # Nothing is on disk, so any directory serves as the root.
                return Worktree(self.state, lambda: self.state).relative(path)
            except errors.OutsideWorktree:
                raise errors.NoWorktree(self.config.url(ORIGIN)) from None
        return self._worktree.relative(path)

    # --- state -----------------------------------------------------------------------------

    @property
    def base(self) -> Path:
        """Return the `.dorky/` directory, or the one that DORKY_DIR names.

        Its content may come from anybody; `state` is this user's.

        Raises:
            BadStateDirectory: DORKY_DIR names a directory that can't hold the state.
        """
        outside = self.config.state_directory
        if outside is None:
            return self.root / STATE
        states.check_outside(outside, self.root)
        return outside

    @property
    def state(self) -> Path:
        """Return the directory in `.dorky/` that this user's key has named (see `state`).

        Raises:
            NotSetUp: There is no state.
            ForeignState: All state is named with another key.
            UntrustedState: `.dorky/` is a link, for example.
        """
        found = self._own_state()
        if found is None:
            raise self.nothing_known()
        return found

    def _own_state(self) -> Path | None:
        if self._root and (self._state is None or not self._state.is_dir()):
            self._state = states.find(self.base, self.config)
        return self._state

    @property
    def is_set_up(self) -> bool:
        """Return whether there is local state.

        A home directory has a `.dorky/` without any.
        """
        found = self._own_state()
        return found is not None and (found / DATABASE).is_file()

    @property
    def has_packs(self) -> bool:
        """Return whether the local store has packs.

        Without a database they may hold what is stored nowhere else.
        """
        found = self._own_state()
        packs = found / "packs" if found else None
        return packs is not None and packs.is_dir() and any(packs.iterdir())

    @property
    def scattered(self) -> int:
        """Return the number of packs if there are so many that they should be joined; else 0."""
        found = self._own_state()
        packs = found / "packs" if found else None
        count = len(list(packs.iterdir())) if packs and packs.is_dir() else 0
        return count if count >= MANY_PACKS else 0

    def nothing_known(self) -> errors.DorkyError:
        """Return the error to raise if there is no database."""
        found = self._own_state()
        if found is None:
            return self._others_state() or self._lost() or errors.NotSetUp(self.root)
        if self.has_packs:
            path = found / DATABASE
            return errors.CorruptDatabase(path, "it is gone, though packs are here")
        return self._lost() or errors.NotSetUp(self.root)

    @cached_property
    def spare(self) -> Slot | None:
        """Return the slot of the second copy of unpushed work; None outside of git."""
        from dorky import git

        if self._root is None or git.find(self._root) is None:
            return None
        from dorky.store import spare

        return spare.slot_of(self.root)

    @property
    def lost(self) -> Record | None:
        """Return the second copy of a state that is gone; None if there is none.

        Raises:
            BadSpare: The second copy can't be used.
        """
        from dorky.store import spare

        slot = None if self.is_set_up else self.spare
        return spare.find(slot, self.config) if slot else None

    def _lost(self) -> errors.DorkyError | None:
        """Return the error to raise if a state with unpushed work is gone."""
        try:
            found = self.lost
        except errors.BadSpare as error:
            return error
        if found is None:
            return None
        newest = f"{found.time} by {found.author}" if found.time else "an earlier pull or checkout"
        return errors.StateLost(self.root, found.lost, newest)

    def keep_spare(self) -> None:
        """Bring the second copy of unpushed work up to date. The lock must be held.

        Raises:
            DiskError: The second copy can't be written.
        """
        if self.spare and self.is_set_up and self.database.get("header"):
            from dorky.store import spare

            with contextlib.suppress(errors.DiskError):  # git's directory may be read-only
                spare.note(self.spare, self.header.repository)
            first = self.state / FIRST
            spare.keep(self.spare, self.root, self.state, self.store, self.config, first)

    def _others_state(self) -> errors.DorkyError | None:
        """Return the error to raise if `.dorky/` holds state, but none of this user's."""
        if others := states.strangers(self.base, self.config):
            # The start of the name distinguishes states without revealing a name.
            return errors.ForeignState(self.base, self.base / others[0][:8])
        return errors.OldState(self.base) if states.has_old_layout(self.base) else None

    def make_state(self, *, lost: bool = False) -> None:
        """Make the directory of this user's state, if there is none.

        Args:
            lost: Whether the state is for restoring a second copy, which otherwise prevents a new
                state.

        Raises:
            ForeignState: There is state of another key.
            StateLost: There was a state, with work that was not pushed.
            UntrustedState: `.dorky/` is a link, for example.
        """
        if self._own_state() is None:
            if error := self._others_state() or (None if lost else self._lost()):
                raise error
            self._state = states.make(self.base, self.config)

    def take_state(self, name: str) -> None:
        """Take over the state of another key; ``name`` is its whole name."""
        if found := self._own_state():
            states.delete(found)  # empty: a command was killed when it had just begun
        self._state = states.take(self.base, name, self.config)

    def set_up(self) -> None:
        """Make this user's state, if it is missing (see `make_state`).

        Raises:
            CorruptDatabase: Only the database is missing.
            StateLost: There was a state, with work that was not pushed.
        """
        if self._root:
            self.check_ownership()
        if not self.is_set_up and (self.has_packs or self._lost()):
            raise self.nothing_known()
        self.make_state()
        with files.disk_errors(self.state):
            (self.state / SCRATCH).mkdir(mode=0o700, exist_ok=True)
        self._make_database()
        self.reserve()

    def reserve(self) -> None:
        """Keep some disk space for a garbage collection on a full disk."""
        path = self.state / RESERVE
        if not path.exists():
            with contextlib.suppress(errors.DorkyError):
                # Random, because zeros take no space on some file systems.
                files.write_new(path, stat.S_IFREG | 0o600, [os.urandom(_RESERVED)], about=path)

    def make_room(self) -> None:
        """Give up the reserve if the disk is full."""
        if self.is_set_up and self.database.is_full:
            self.close()
            with files.disk_errors(self.state):
                (self.state / RESERVE).unlink(missing_ok=True)

    def _make_database(self) -> None:
        path = self.state / DATABASE
        with files.disk_errors(path):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            held = os.open(self.state, flags)
        with states.alone(held):
            if not path.exists():
                for left in self.state.glob(".tmp-dorky-*"):  # left by a command that was killed
                    left.unlink()
            Database(path).close()

    def tear_down(self) -> None:
        """Delete what `set_up` and later commands made in `.dorky/`, and nothing else in it.

        In a project at the home directory, `.dorky/` also holds the user's identity.
        """
        self.close()
        if self.spare:
            from dorky.store import spare

            spare.remove(self.spare)
        if found := self._own_state():
            states.delete(found)
        self._state = None

    @property
    def database(self) -> Database:
        """Return the local database."""
        with self._opening:
            if self._database is None:
                if not self.is_set_up:
                    raise self.nothing_known()
                opened = Database(self.state / DATABASE)
                if self._root and self.config.state_directory:
                    self._check_bound(opened)
                self._database = opened
            return self._database

    def _check_bound(self, database: Database) -> None:
        """Refuse a state outside of the project that is of another repository.

        Raises:
            BadStateDirectory: It is.
        """
        named, data = self.config.text("repository.id"), database.get("header")
        # Before `init` or `clone` ends, there is no `.dorkyrc`.
        if not data or not (named or self.config.path("project").is_file()):
            return
        try:
            held = model.decode_header(data, database.path).repository
        except model.Malformed as error:
            raise errors.CorruptDatabase(database.path, error) from None
        if held != named:
            database.close()
            this = f"this is {named[:12]}" if named else f"{RC} names none"
            why = f"it holds the state of repository {held[:12]}, and {this}"
            raise errors.BadStateDirectory(self.base, why)

    @property
    def store(self) -> Store:
        """Return the local object store."""
        with self._opening:
            if self._store is None:
                packs, scratch = self.state / "packs", self.state / SCRATCH
                self._store = Store(packs, scratch, self.database, lambda: self.vault, self._sign)
            return self._store

    @property
    def index(self) -> Index:
        """Return the staging area."""
        return Index(self.database)

    @property
    def ignore(self) -> Ignore:
        """Return the ignore rules of the project's root."""
        return Ignore.root(self.root)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands that write out of this project.

        Nested calls join the outer one.
        """
        if not self.is_set_up:
            raise self.nothing_known()
        with self.locking():
            self._note_umask()
            if self._root and self.database.get(DISK) is None:
                with contextlib.suppress(errors.DorkyError):  # a full disk, say
                    self.look_at_disk()
            if self._root and self.config.state_directory:
                self._follow_checkout()
            yield

    def _follow_checkout(self) -> None:
        """Take all files for not pulled if none is on disk: it is a fresh checkout."""
        rows = self.index.rows()
        if rows and all(stat is None for _, stat in self.worktree.stats(rows)):
            gone = [row for row in rows.values() if not row.absent]
            with self.database.transaction():
                clean = self.index.commit
                self.index.put(row._replace(absent=True, seen=0) for row in gone)
                self.index.set_commit(clean)

    def _umasks(self) -> set[int]:
        """Return the umasks under which files were written in this clone, and the current one."""
        noted = self.database.text(_UMASKS).split() if self.is_set_up else ()
        found = (int(text, 8) & 0o077 for text in noted if not text.strip("01234567"))
        return {files.umask(), *found}

    def _file_system(self) -> FileSystem:
        if self._disk is None:
            if not self.is_set_up:
                return FileSystem()
            self._disk = FileSystem.read(self.database.text(DISK))
        return self._disk

    def look_at_disk(self) -> FileSystem:
        """Try what the file system of the project's files can keep, and remember it."""
        from dorky import filesystem

        # The directory that DORKY_DIR names may be on another disk.
        outside = self._root is not None and self.config.state_directory is not None
        seen = outside and os.access(self.root, os.W_OK)
        self._disk = filesystem.look(self.root if seen else self.state / SCRATCH)
        if self.database.get(DISK) != self._disk.text.encode():
            self.database.set(DISK, self._disk.text.encode())
        return self._disk

    def _note_umask(self) -> None:
        umasks = " ".join(f"{umask:o}" for umask in sorted(self._umasks()))
        if umasks != self.database.text(_UMASKS):
            self.database.set(_UMASKS, umasks.encode())

    @contextlib.contextmanager
    def operation(self, command: str) -> Iterator[None]:
        """Lock the project (see `locked`), and record what the block replaces in the operation log.

        The operation has the command's name.
        """
        with self.locked(), oplog.recording(self.database, command):
            yield

    @contextlib.contextmanager
    def locking(self) -> Iterator[None]:
        """Lock the project (see `locked`), even if its state is only a directory yet."""
        with self._mutex:
            if self._holds_lock:
                yield
                return
            with files.locked(self.state / "lock"):
                self._holds_lock = True
                try:
                    self.clear_scratch()
                    yield
                    # The command has succeeded; doctor reports if the second copy can't be written.
                    with contextlib.suppress(errors.DorkyError):
                        self.keep_spare()
                except BaseException:
                    # Files in the scratch directory are unencrypted, so delete them after a
                    # failure, too.
                    with contextlib.suppress(errors.DorkyError):
                        self.clear_scratch()
                    raise
                finally:
                    self._holds_lock = False

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Lock the project (see `locking`), unless it can't be written to at all."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(errors.ReadOnly, errors.DiskFull):
                stack.enter_context(self.locking())
            yield

    def clear_scratch(self, *, begun: bool = False) -> None:
        """Delete what a command that was killed, or has failed, left in the scratch directory.

        Args:
            begun: Whether to delete files, too, with which the next pull could go on.
        """
        scratch = self.state / SCRATCH
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        with files.disk_errors(scratch):
            try:
                held = os.open(scratch, flags)
            except FileNotFoundError:
                return
            try:
                for name in os.listdir(held):  # noqa: PTH208
                    found = os.stat(name, dir_fd=held, follow_symlinks=False)
                    partial = name.startswith(PARTIAL) and stat.S_ISREG(found.st_mode)
                    recent = abs(time.time() - found.st_mtime) < _PARTIAL_AGE
                    if partial and recent and not begun:
                        continue
                    if stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode):
                        os.unlink(name, dir_fd=held)
            finally:
                os.close(held)

    # --- keys ------------------------------------------------------------------------------

    @property
    def header(self) -> Header:
        """Return the repository's id and wrapped keys.

        Raises:
            NotSetUp: Nothing has been pulled yet.
            FormatTooOld: The state was made by an earlier version of dorky.
        """
        data = self.database.get("header")
        if data is None:
            raise errors.NotSetUp(self._root or self.config.url(ORIGIN))
        try:
            return model.decode_header(data, self.database.path)
        except model.Malformed as error:
            raise errors.CorruptDatabase(self.database.path, error) from None

    @property
    def roster(self) -> Roster:
        """Return the roster last seen; empty in an unencrypted repository."""
        return self.database.roster()

    @property
    def purges(self) -> tuple[Purge, ...]:
        """Return what was purged from the remote's history, as last seen, the oldest first."""
        data = self.database.get(PURGES)
        try:
            return msgspec.json.decode(data, type=tuple[Purge, ...]) if data else ()
        except msgspec.MsgspecError as error:
            raise errors.CorruptDatabase(self.database.path, error) from None

    @property
    def owner(self) -> Owner:
        """Return the function that gives the owner of a path by the roster last seen."""
        from dorky.keys import placement

        return placement.owner(self.roster)

    @property
    def keyring(self) -> Keyring:
        """Return the user's keys, and what they have opened."""
        with self._opening:
            if self._keyring is None:
                from dorky.keys.keyring import Keyring

                self._keyring = Keyring(self._root, self.config, self.ask)
            return self._keyring

    @property
    def vault(self) -> Vault:
        """Return the repository's keys, opened with the user's identity."""
        if opened := self.keyring.newest:
            return opened
        with self._opening:
            return self.keyring.newest or self.unlock(self.header)

    @property
    def team(self) -> Team:
        """Return the team: members, roles, and every key that ever signed for one."""
        return self.database.team()

    def _sign(self) -> Signer:
        return self.signer

    def found_team(self) -> None:
        """Begin the team log with the members of the roster; the user administers the team."""
        from dorky.keys.teamlog import Team
        from dorky.store import authorship

        members = {member.name: member for member in self.roster.members}
        signer = self.keyring.signer(Team(members=members))
        team, entry = authorship.enter(
            self.store, Team(), self.header, self.roster, signer, refs={}
        )
        with self.store.writer() as writer, self.database.transaction():
            writer.add(model.Kind.TEAM, entry)
            writer.save()
            self.database.set_team(team)

    @property
    def signer(self) -> Signer:
        """Return the user's key that signs, one of a member with a role if there is any.

        Raises:
            CantSign: None of the user's keys can be used.
        """
        if self.header.sealed:
            # An identity may lie in the repository; opening the keys finds it.
            assert self.vault
        return self.keyring.signer(self.team)

    @property
    def publics(self) -> set[str]:
        """Return the public keys of the user's identities.

        An identity that was unlocked in the repository is included.
        """
        assert self.vault
        return self.keyring.publics

    def unlock(self, header: Header, verify: Callable[[Vault], None] = lambda _: None) -> Vault:
        """Open a header's keys, if it is this project's header.

        Args:
            header: The header.
            verify: See `vault.unlock`.

        Raises:
            WrongRepository: The header belongs to another repository.
            WrongKey: The header's key does not lead back to the one that `.dorkyrc` commits to, or
                to the one seen before.
            NoKey: None of the user's identities opens the header.
            IdentityMissing: The user has no identity.
        """
        with self._opening:
            opened = self.keyring.opened(header)
            if opened is None:
                seen = self.header if self.is_set_up and self.database.get("header") else None
                if seen is None:
                    self._check_noted(header)
                opened = self.keyring.unlock(header, seen, verify)
            return opened

    def _check_noted(self, header: Header) -> None:
        """Refuse another repository than the one in use before git deleted `.dorky/`.

        Raises:
            WrongRepository: The header belongs to another repository.
        """
        if self.spare is None:
            return
        from dorky.store import spare

        noted = spare.known(self.spare)
        if noted and header.repository != noted:
            url = self.config.text(f"remotes.{ORIGIN}.url")
            place = self.spare.repository
            raise errors.WrongRepository(url, header.repository[:12], noted[:12], noted_in=place)

    def check_pin(self) -> None:
        """Check, after reading the remote, that it has the key and the team of `.dorkyrc`.

        Raises:
            WrongKey: The remote has another key, or an older one.
            WrongTeam: The remote has another team log.
            TeamRewound: The remote has an older team log.
        """
        from dorky.remote import authority

        self.keyring.check_pin(self.header)
        url = self.config.text(f"remotes.{ORIGIN}.url") or str(self.root)
        authority.check_pin(self.store, self.config.text("repository.team"), url)

    @property
    def author(self) -> str:
        """Return the author of commits.

        The name comes from the configuration, from git, or from the account, in this order.
        """
        if name := self.config.text("user.name"):
            return name
        from dorky import git

        top = git.find(self._root) if self._root and not self.lacks_git else None
        return (git.user(top) if top else "") or self.config.login

    @property
    def lacks_git(self) -> bool:
        """Return whether the project is in a git repository and git can't be run."""
        from dorky import git

        return self._root is not None and not git.is_installed() and bool(git.find(self._root))

    # --- remotes ---------------------------------------------------------------------------

    def driver(self, name: str = ORIGIN, *, unquoted: bool = False) -> Driver:
        """Return the driver of a remote's place, for projects without local state.

        Args:
            name: The remote's name.
            unquoted: Whether its server understands versions only without quotation marks.

        Raises:
            NoRemote: There is no remote of that name.
            NotAllowed: `.dorkyrc` chooses a profile or a server that the user has not allowed.
        """
        if self.config.chosen(name):
            from dorky.drivers import consent

            consent.check(self.config, name, self.agree)
        options = self.config.driver_options(name)
        if unquoted:
            options.setdefault("conditions", UNQUOTED)
        return open_driver(self.config.url(name), options)

    def remote(self, name: str = ORIGIN) -> Remote:
        """Return a remote that is ready to use.

        Raises:
            NoRemote: There is no remote of that name.
            NotMounted: It is a directory that was seen, and is missing or empty.
        """
        from dorky.remote.root import Remote

        driver = self.driver(name)
        endpoint = self.follow_place(name)
        if self.database.get(f"remote.{name}.swaps") == b"unquoted":
            driver = self.driver(name, unquoted=True)
        own = self.known(driver, endpoint)
        remote = Remote(name, driver, self.store, self.unlock, own, self._sign)
        remote.pin = self.config.text("repository.team")
        remote.check_there()
        return remote

    def follow_place(self, name: str = ORIGIN) -> str:
        """Forget what is known of a remote if its place is another than before.

        The records of another place say nothing about this one. Nothing is requested.

        Returns:
            The endpoint of its place; empty if there is none.
        """
        options = self.config.driver_options(name)
        endpoint = options.get("endpoint", "")
        place = f"{open_driver(self.config.url(name), options).url}\0{endpoint}".encode()
        known = self.database.get(f"remote.{name}.place")
        if known != place:
            if known is not None:
                self.database.forget_remote(name)
            self.database.set(f"remote.{name}.place", place)
        return endpoint

    def known(self, driver: Driver, endpoint: str) -> Known:
        """Return what this user knows of a remote's place, whatever happens to `.dorky/`."""
        from dorky.remote.known import Known

        scheme, separator, rest = endpoint.rstrip("/").rpartition("://")
        # An endpoint may hold a password, which is not part of the place.
        server = f"{scheme}{separator}{rest.rpartition('@')[2]}"
        return Known(self.config, f"{driver.url} {server}".strip())

    def settle(self, name: str = ORIGIN) -> None:
        """Record that the user named a remote's place, or that the repository was found in it."""
        if not self.is_named(name):
            self.database.set(f"named.{name}", self.config.named(name).encode())

    def moved_from(self, name: str = ORIGIN) -> str:
        """Return the URL that a remote had before `.dorkyrc` was changed other than by a command.

        It is empty if nothing was changed.
        """
        noted = self.database.text(f"named.{name}")
        return "" if self.is_named(name) else noted.partition("\0")[0]

    def is_named(self, name: str = ORIGIN) -> bool:
        """Return whether the user named a remote's place, or the repository was found in it."""
        named = self.config.named(name)
        return self.config.named_outside(name) or self.database.text(f"named.{name}") == named

    def check_swaps(self, remote: Remote) -> None:
        """Check, once per place, that it honours conditional writes, unless its root says so.

        Raises:
            SwapsIgnored: It does not, and `.dorkyrc` does not say that there is a single writer.
            SwapsUnsupported: It refuses them.
        """
        key = f"remote.{remote.name}.swaps"
        if self.config.single_writer(remote.name):
            return
        if not self.database.get(key) and not remote.vouched:
            self.database.set(key, self._probed(remote))
        if self.database.get(key) == b"honoured":
            remote.vouch()

    def _probed(self, remote: Remote) -> bytes:
        """Probe a place; return how it honours conditional writes."""
        from dorky.remote import probe

        how = b"honoured"
        try:
            good = probe.honours_swaps(remote.driver)
        except errors.SwapsUnsupported:
            remote.driver = self.driver(remote.name, unquoted=True)
            how, good = b"unquoted", probe.honours_swaps(remote.driver)
        if not good:
            raise errors.SwapsIgnored(remote.url, remote.name)
        return how

    def write_rc(self, opened: Vault, settings: Mapping[str, str | bool]) -> None:
        """Write `.dorkyrc`: the repository's id, fingerprint and team, and the settings."""
        values: dict[str, str | int | bool] = {
            "version": VERSION,
            "repository.id": opened.repository,
        }
        if opened.sealed:
            values["repository.fingerprint"] = opened.fingerprint
        else:
            values["repository.unencrypted"] = True
        values["repository.team"] = self.team.pin
        for key, value in {**values, **settings}.items():
            self.config.set(key, value, scope="project")


def _has_state(directory: Path) -> bool:
    """Return whether a directory without `.dorkyrc` holds state of this user (of ``init``, say)."""
    try:
        return states.find(directory / STATE, Config(directory)) is not None
    except errors.DorkyError:
        return False
