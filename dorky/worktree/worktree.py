"""The project's files on disk: walking them, reading them whole, writing them safely."""

from __future__ import annotations

import contextlib
import errno
import itertools
import operator
import os
import stat as stat_module
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

from dorky import errors, files
from dorky.config import RC
from dorky.files import FileStamp, FileStat, FileSystem, Stat, StatProof, file_stat, moment
from dorky.format.model import ObjectId
from dorky.paths import is_below, parents
from dorky.store.index import Row, mode_of
from dorky.worktree.ignore import Ignore

STATE = ".dorky"
PARTIAL = "partial-"
"""The beginning of the name of a new file there that the next command may go on with."""
SCRATCH = "tmp"
"""The directory in a project's state where new files are written; the next command empties it."""
# O_PATH opens a directory without permission to list it, on systems that have it.
_DIRECTORY = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_PATH_MAX = 4096
_BLOCK = 1 << 20
_BEGINNINGS = frozenset({RC, ".git"})
# The errors of different systems for a link that is not followed, and is no directory.
_NO_DIRECTORY = {errno.ENOTDIR, errno.ELOOP, errno.EMLINK}
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}


Omit = Callable[[str, errors.DorkyError], None]
"""Receives a path that is left as it is, and why."""


class Found(NamedTuple):
    """A file that a walk has found: its repository path and its own stat, links unfollowed."""

    path: str
    stat: FileStat


_proving = operator.attrgetter("st_mode", "st_size", "st_ino", "st_mtime_ns", "st_ctime_ns")


def _proving_without_mode(stat: os.stat_result) -> StatProof:
    _, *rest = _proving(stat)
    return (stat_module.S_IFMT(stat.st_mode), *rest)


class Survey(NamedTuple):
    """The result of a look at the whole worktree.

    Attributes:
        unproven: Tracked files whose stat proves nothing, with it; None if the file is missing.
        others: Wanted files that are neither tracked nor ignored.
        nested: The directories of other projects and git repositories, which are passed over.
        unreadable: Tracked files that can't be inspected, and why.
    """

    unproven: dict[str, os.stat_result | None]
    others: list[str]
    nested: list[str]
    unreadable: dict[str, errors.DorkyError]


class Prepared(NamedTuple):
    """A file in the scratch directory: its name, and a hash of what a move keeps of its stat."""

    name: str
    kept: int


def _staying(stat: os.stat_result) -> int:
    return hash((stat.st_ino, stat.st_size, stat.st_mtime_ns))


class Worktree:
    """The directory that holds `.dorkyrc`.

    Args:
        root: An absolute path.
        scratch: Returns the directory where new files are written before they are put in place.
    """

    def __init__(self, root: Path, scratch: Callable[[], Path]) -> None:
        self.root = root
        self.scratch = scratch
        self._prefix = os.path.join(root, "")  # noqa: PTH118
        self.umasks: Callable[[], Collection[int]] = lambda: (files.umask(),)
        """Returns the umasks under which files were written (see `mode`)."""
        self.disk: Callable[[], FileSystem] = FileSystem
        """Returns what the file system can keep."""

    # --- paths -----------------------------------------------------------------------------

    def relative(self, path: str | os.PathLike[str], *, within: Path | None = None) -> str:
        """Return the repository path of a path that the user named; ``""`` for the root itself.

        Args:
            path: An absolute path, or one that counts from ``within``.
            within: A directory; the root by default, so that a repository path stays as it is.

        Links inside the project are ordinary names: a user can ask for ``d/x`` in a revision even
        if ``d`` is now a link. Links that lead to the project are followed.

        Raises:
            UsageError: The path is empty (an unset shell variable must not mean everything).
            OutsideWorktree: It is outside the worktree.
            UnstorablePath: It is in a repository's own directory.
        """
        named = os.fspath(path)
        if not named:
            raise errors.EmptyPath
        if "\0" in named:
            raise errors.PathNotFound(named)
        absolute = Path(os.path.normpath((within or self.root) / named))
        if not absolute.is_relative_to(self.root):
            try:
                absolute = absolute.parent.resolve() / absolute.name
            except RuntimeError:  # links in a circle; Python 3.13 ignores them
                raise errors.PathNotFound(named) from None
            if not absolute.is_relative_to(self.root):
                raise errors.OutsideWorktree(named, self.root)
        parts = absolute.relative_to(self.root).parts
        for part in parts:
            if reason := files.unsafe(part):
                raise errors.UnstorablePath(named, reason)
        return "/".join(parts)

    def on_disk(self, path: str) -> Path:
        """Return the disk path of a repository path.

        Raises:
            UnsafePath: It would leave the worktree or enter a repository's own directory.
        """
        return Path(self.at(path))

    def at(self, path: str) -> str:
        """Return the path of `on_disk` as a string, as a `Path` is slow for 100,000 files."""
        files.check_path(path)
        return self._prefix + path

    def stat(self, path: str) -> os.stat_result | None:
        """Return the file's own stat; None if there is no such file.

        A file behind a symbolic link (or any other parent that is not a directory) is not the
        project's, so it counts as missing.
        """
        disk = self.at(path)
        slash = len(disk) - len(path)
        try:
            while (slash := disk.find("/", slash)) > 0:
                if not stat_module.S_ISDIR(os.lstat(disk[:slash]).st_mode):
                    return None
                slash += 1
            return os.lstat(disk)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise errors.UnreadableFile(path, error.strerror) from error

    def exists(self, path: str) -> bool:
        """Return whether a path, which is a safe one, exists."""
        return os.path.lexists(self._prefix + path)

    def stat_in(self, path: str) -> os.stat_result | None:
        """Return the stat of a path whose parents have just been checked; None if there is none."""
        try:
            return os.lstat(self.at(path))
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise errors.UnreadableFile(path, error.strerror) from error

    def stats(self, paths: Iterable[str]) -> Iterator[tuple[str, os.stat_result | None]]:
        """Yield what `stat` returns for each path; directories above them are checked only once."""
        there = {"": True}
        for path in paths:
            directory = path.rpartition("/")[0]
            if directory not in there:
                above = self.stat(directory)
                there[directory] = above is not None and stat_module.S_ISDIR(above.st_mode)
            yield path, self.stat_in(path) if there[directory] else None

    def is_nested(self, directory: str) -> bool:
        """Return whether a directory below the root is another project, or git repository."""
        at = self._prefix + directory
        # As in git, an empty `.git` means nothing.
        return any(map(os.path.isfile, (f"{at}/{RC}", f"{at}/.git", f"{at}/.git/HEAD")))

    def inside_nested(self, paths: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield the paths that lie in another project or git repository, with its directory."""
        known: dict[str, bool] = {}
        for path in paths:
            for directory in parents(path):
                if directory not in known:
                    known[directory] = self.is_nested(directory)
                if known[directory]:
                    yield path, directory
                    break

    def link_above(self, path: str) -> str | None:
        """Return the outermost directory above a path that is a symbolic link; None if none is."""
        parents = (path[:end] for end, char in enumerate(path) if char == "/")
        return next((parent for parent in parents if (self.on_disk(parent)).is_symlink()), None)

    def mode(self, found: int, recorded: int) -> int:
        """Return the mode to record for a file: the recorded one, if only a umask has narrowed it.

        Args:
            found: Its type and permission bits on disk.
            recorded: The mode with which it is staged, or committed.
        """
        if self.disk().no_modes and stat_module.S_IFMT(found) == stat_module.S_IFMT(recorded):
            return recorded
        narrowed = found == recorded or any(found == recorded & ~umask for umask in self.umasks())
        return recorded if narrowed else found

    def new_mode(self, stat: os.stat_result) -> int:
        """Return the mode to record for a file that is not tracked yet.

        Where files have no modes, a regular file is private: it may hold a secret.
        """
        if self.disk().no_modes and stat_module.S_ISREG(stat.st_mode):
            return stat_module.S_IFREG | 0o600
        return mode_of(stat)

    def misspelt(self, paths: Iterable[str]) -> dict[str, str]:
        """Return how the disk spells those paths that it has in another spelling only.

        The result is empty where the file system tells all names apart.
        """
        disk = self.disk()
        if not disk.folds:
            return {}
        listed: dict[str, tuple[set[str], dict[str, str]]] = {}
        found = {}
        for path in paths:
            spelling = ""
            for part in path.split("/"):
                if spelling not in listed:
                    with contextlib.suppress(OSError):
                        here = os.listdir(self._prefix + spelling)  # noqa: PTH208
                        listed[spelling] = set(here), {disk.key(name): name for name in here}
                names, by_key = listed.get(spelling, (set(), {}))
                name = part if part in names else by_key.get(disk.key(part))
                if name is None:
                    break
                spelling = f"{spelling}/{name}" if spelling else name
            else:
                if spelling != path:
                    found[path] = spelling
        return found

    def hidden(
        self, paths: Iterable[str], rows: Mapping[str, Row], coming: Collection[str] = ()
    ) -> set[str]:
        """Return the paths at which the disk has only the file of another path.

        Args:
            paths: The paths.
            rows: The staged files.
            coming: Paths that will be staged.
        """
        disk = self.disk()
        if not disk.folds:
            return set()
        spelled = self.misspelt(paths)
        # A file system that decomposes names shows another file by exactly this path.
        there = {disk.key(path): path for path, row in rows.items() if not row.absent}
        found = set()
        for path in paths:
            other, row = spelled.get(path, path), rows.get(path)
            owner = path if row and not row.absent else there.get(disk.key(path), path)
            if owner != path or (other != path and (other in rows or other in coming)):
                found.add(path)
        return found

    # --- walking ---------------------------------------------------------------------------

    def walk(
        self,
        ignore: Ignore,
        start: str = "",
        nested: list[str] | None = None,
        omit: Omit | None = None,
    ) -> Iterator[Found]:
        """Yield every file and link below ``start`` that is not ignored, in no particular order.

        Other projects and git repositories are passed over.

        Args:
            ignore: The rules of the worktree's root.
            start: A directory in the repository.
            nested: Receives the directories of other projects and git repositories.
            omit: Receives directories and files that can't be looked at; without it, they raise.

        Raises:
            UnreadableFile: A directory can't be listed.
        """

        def refuse(path: str, error: OSError) -> None:
            refused = errors.UnreadableFile(path or self.root, error.strerror)
            if omit is None or not path:
                raise refused from error
            omit(path, refused)

        for part in start.split("/") if start else []:
            ignore = ignore.enter(part)
        given = self.disk().given
        pending = [(start, ignore)]
        passed = [] if nested is None else nested
        for prefix, rules, items in self._listed(pending, refuse, passed):
            for item in items:
                name = given(item.name)
                path = prefix + name
                try:
                    is_dir = item.is_dir(follow_symlinks=False)
                    if rules.match(name, is_dir=is_dir):
                        continue
                    if is_dir:
                        pending.append((path, rules.enter(name)))
                        continue
                    stat = item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # deleted after it was listed
                except OSError as error:
                    refuse(path, error)
                    continue
                yield Found(path, file_stat(stat))

    def survey(
        self,
        ignore: Ignore,
        proofs: Mapping[str, StatProof],
        wanted: Callable[[str], bool],
        whole: AbstractSet[str] = frozenset(),
    ) -> Survey:
        """Look once at each tracked file, and at the names of other files.

        Directories that can't be listed (some other program's data) are skipped.

        Args:
            ignore: The rules of the worktree's root.
            proofs: By each tracked path, the stat that proves that the file is as staged.
            wanted: Returns which names of other files matter; only those are inspected further.
                Pipes, sockets and devices never do.
            whole: Directories in which all other files matter.
        """
        disk = self.disk()
        proving = _proving_without_mode if disk.no_modes else _proving
        left = dict(proofs)
        pop = left.pop
        unproven: dict[str, os.stat_result | None] = {}
        others: list[str] = []
        nested: list[str] = []
        pending = [("", ignore)]
        for prefix, rules, items in self._listed(pending, lambda *_: None, nested):
            matters = wanted if not is_below(prefix, whole) else lambda _: True
            for item in items:
                name = disk.given(item.name) if disk.decomposes else item.name
                path = prefix + name
                proof = pop(path, None)
                try:
                    if proof:
                        # Ignore rules don't apply to tracked files.
                        stat = item.stat(follow_symlinks=False)
                        if proof == proving(stat):
                            continue
                        unproven[path] = stat
                    if item.is_dir(follow_symlinks=False):
                        if not rules.match(name, is_dir=True):
                            pending.append((path, rules.enter(name)))
                    elif (
                        not proof
                        and matters(name)
                        and (item.is_file(follow_symlinks=False) or item.is_symlink())
                        and not rules.match(name, is_dir=False)
                    ):
                        others.append(path)
                except OSError:
                    if proof:
                        left[path] = proof
        found, unreadable = self._inspected(left)
        unproven.update(found)
        if disk.folds:
            keys = {disk.key(path) for path in proofs}
            others = [path for path in others if disk.key(path) not in keys]
        return Survey(unproven, others, nested, unreadable)

    def _inspected(
        self, paths: Iterable[str]
    ) -> tuple[dict[str, os.stat_result | None], dict[str, errors.DorkyError]]:
        """Return what `stats` finds, and why some paths can't be inspected."""
        found: dict[str, os.stat_result | None] = {}
        try:
            return dict(self.stats(paths)), {}
        except errors.UnreadableFile:
            unreadable: dict[str, errors.DorkyError] = {}
        for path in paths:
            try:
                found[path] = self.stat(path)
            except errors.UnreadableFile as error:
                unreadable[path] = error
        return found, unreadable

    def _listed(
        self,
        pending: list[tuple[str, Ignore]],
        refuse: Callable[[str, OSError], None],
        nested: list[str],
    ) -> Iterator[tuple[str, Ignore, list[os.DirEntry[str]]]]:
        """Yield listings of directories, with the rules that hold in each, to the last."""
        while pending:
            directory, rules = pending.pop()
            try:
                fd = os.open(self._prefix + directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    # Listed whole, so that an abandoned walk leaves no listing open; by its
                    # descriptor, because that finds entries faster than a path.
                    with os.scandir(fd) as listing:
                        items = list(listing)
                    names = (item.name for item in items) if directory else ()
                    if not _BEGINNINGS.isdisjoint(names) and self.is_nested(directory):
                        nested.append(directory)
                        continue
                    yield f"{directory}/" if directory else "", rules, items
                finally:
                    os.close(fd)
            except (FileNotFoundError, NotADirectoryError):
                continue  # deleted after its parent was listed
            except OSError as error:
                refuse(directory, error)

    def below(self, path: str) -> Iterator[str]:
        """Yield every file and link below a directory, ignored or not."""
        pending = [path]
        while pending:
            directory = pending.pop()
            with files.disk_errors(Path(directory)), os.scandir(self.root / directory) as listing:
                items = list(listing)
            for item in items:
                inside = f"{directory}/{item.name}"
                if item.is_dir(follow_symlinks=False):
                    pending.append(inside)
                else:
                    yield inside

    # --- reading ---------------------------------------------------------------------------

    def link_target(self, path: str) -> bytes:
        """Return where a link points, as bytes."""
        try:
            return os.fsencode(os.readlink(self.at(path)))  # noqa: PTH115
        except OSError as error:
            raise errors.UnreadableFile(path, error.strerror) from error

    def open(self, path: str) -> int:
        """Open a regular file for reading; the caller closes the descriptor.

        Raises:
            PathNotFound: The file no longer exists.
            UnreadableFile: It can't be opened.
            UnstorablePath: Something other than a regular file has taken its place.
        """
        try:
            # Without O_NONBLOCK, opening a pipe that replaced the file would block for ever.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            fd = os.open(self.at(path), flags)
        except FileNotFoundError:
            raise errors.PathNotFound(path) from None
        except OSError as error:
            raise errors.UnreadableFile(path, error.strerror) from error
        if stat_module.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        raise errors.UnstorablePath(path, "it is not a regular file or a link")

    def sha256(self, path: str, stat: Stat) -> str:
        """Return the SHA-256 of a file's content, or of a link's target."""
        import hashlib

        if stat_module.S_ISLNK(stat.st_mode):
            return hashlib.sha256(self.link_target(path)).hexdigest()
        digest = hashlib.sha256()
        with open(self.open(path), "rb", buffering=0) as file, files.disk_errors(Path(path)):
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()

    # --- writing ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(self) -> Iterator[Writing]:
        """Begin to write and delete files."""
        made = Writing(self)
        try:
            yield made
        finally:
            made.close()

    def remove(self, path: str) -> None:
        """See `Writing.remove`."""
        with self.writing() as writing:
            writing.remove(path)


class Writing:
    """Puts files in place, and deletes them. Only `prepare` may run in several threads.

    The target directory is held open. It is opened from the root down, each directory from the one
    above and none through a symbolic link, and files are named relative to it: a link that is put
    in the way later changes nothing.
    """

    def __init__(self, worktree: Worktree) -> None:
        self._worktree = worktree
        self._umask = files.umask()
        self._token, self._numbers = os.urandom(8).hex(), itertools.count()
        self._lock = threading.Lock()
        self._scratch = -1
        self._held = -1
        self._directory = ""

    def close(self) -> None:
        """Close the directory that is held open."""
        self._leave()
        if self._scratch >= 0:
            os.close(self._scratch)
            self._scratch = -1

    def prepare(self, path: str, mode: int, blocks: Iterable[bytes]) -> Prepared:
        """Write a file (or link) that `install` will put in its place.

        It is written in the scratch directory, from which the next command removes the leftovers
        of a killed process; next to its target, a secret would remain in the worktree.

        Args:
            path: The path in the repository.
            mode: File type and permission bits; the umask narrows them.
            blocks: The content, or the link's target.

        Raises:
            UnsafePath: The path leads out of the worktree.
            DiskFull: The disk has no space.
        """
        target = self._worktree.at(path)
        name = self._new_name(target)
        mode &= ~self._umask
        made = files.write_new(name, mode, blocks, about=target, within=self._scratch)
        return Prepared(name, _staying(made))

    def _new_name(self, target: str) -> str:
        """Return a name for a new file in the scratch directory, which is held open."""
        with self._lock, files.disk_errors(target, writing=True):
            if self._scratch < 0:
                flags = _DIRECTORY | os.O_NOFOLLOW
                self._scratch = os.open(self._worktree.scratch(), flags)
        return f"{self._token}-{next(self._numbers)}"

    def begin(self, path: str, size: int, *, resumed: ObjectId = "") -> tuple[str, bool]:
        """Begin a file that is written in any order, private until it is complete.

        Args:
            path: The path in the repository.
            size: The size that the file will have.
            resumed: If given, its content, by which an earlier command may have begun the file.

        Returns:
            Its name for `write_at`, and whether an earlier command has begun it.

        Raises:
            UnsafePath: The path leads out of the worktree.
        """
        target = self._worktree.at(path)
        name = self._new_name(target)
        if resumed:
            name = PARTIAL + resumed
        with files.disk_errors(target):
            fd = self._begun(name) if resumed else -1
            begun = fd >= 0
            if not begun:
                fd = self._scratch_file(name, os.O_CREAT | os.O_EXCL)
            try:
                os.ftruncate(fd, size)
            finally:
                os.close(fd)
        return name, begun

    def _begun(self, name: str) -> int:
        """Open a file that an earlier command has begun; -1 if there is none that is of use."""
        with contextlib.suppress(OSError):
            fd = self._scratch_file(name, os.O_NONBLOCK)
            found = os.fstat(fd)
            if stat_module.S_ISREG(found.st_mode) and found.st_nlink == 1:
                os.fchmod(fd, 0o600)
                return fd
            os.close(fd)
        self.discard(name)
        return -1

    def discard(self, name: str) -> None:
        """Delete a file that was begun."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._scratch)

    def reopen(self, path: str, name: str) -> int:
        """Open a file that was begun, for reading; the caller closes the descriptor."""
        with files.disk_errors(self._worktree.at(path)):
            return self._scratch_file(name)

    def write_at(self, path: str, name: str, data: bytes | memoryview, offset: int) -> None:
        """Write bytes at an offset of a file that was begun. Safe to call from several threads.

        Raises:
            DiskFull: The disk has no space.
        """
        with files.disk_errors(self._worktree.at(path)):
            # Opened for each write, because a pull may write more files than it may hold open.
            fd = self._scratch_file(name)
            try:
                done = os.pwrite(fd, data, offset)
                while done < len(data):
                    done += os.pwrite(fd, memoryview(data)[done:], offset + done)
            finally:
                os.close(fd)

    def complete(self, path: str, name: str, mode: int, *, durable: bool) -> Prepared:
        """Give a file that was begun, and written whole, its mode; `install` may take it then.

        Args:
            path: The path in the repository.
            name: The result of `begin`.
            mode: Permission bits; the umask narrows them.
            durable: Whether the content must survive power loss from now on.
        """
        with files.disk_errors(self._worktree.at(path)):
            fd = self._scratch_file(name)
            try:
                files.set_mode(fd, mode & 0o777 & ~self._umask)
                if durable:
                    os.fsync(fd)
                return Prepared(name, _staying(os.fstat(fd)))
            finally:
                os.close(fd)

    def _scratch_file(self, name: str, flags: int = 0) -> int:
        flags |= os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self._scratch)

    def install(
        self,
        prepared: Prepared,
        path: str,
        *,
        judged: FileStamp | None = None,
        vacant: bool = False,
    ) -> tuple[os.stat_result, bool]:
        """Put a prepared file in place of any file at a path.

        Args:
            prepared: The result of `prepare`.
            path: The path in the repository.
            judged: The state in which the present file was judged to be replaceable.
            vacant: Whether the path was judged to hold no file.

        Returns:
            The new stat, and whether nobody can have touched the file since it was prepared.

        Raises:
            UnsafePath: A parent is a symbolic link, through which nothing is written.
            LocalChanges: A parent is a file, the present file has changed or just appeared, or its
                directory has been moved away.
        """
        target = self._worktree.at(path)
        directory, _, name = path.rpartition("/")
        with files.disk_errors(target, writing=True):
            if len(os.fsencode(target)) >= _PATH_MAX:  # no program could open it by its path
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            self._enter(directory, make=True)
            found = self._look(path, name, judged)
            if found is not None and stat_module.S_ISDIR(found.st_mode):
                self._clear(name)
            elif found is not None and vacant:
                raise errors.LocalChanges(path)
            files.move(prepared.name, self._scratch, name, self._held)
            try:
                # Looked up by path, because the directory that is held may have been moved.
                stat = os.lstat(target)
            except (FileNotFoundError, NotADirectoryError):
                raise errors.LocalChanges(path) from None
            return stat, _staying(stat) == prepared.kept

    def export(self, prepared: Prepared, target: Path, *, replace: bool) -> None:
        """Put a prepared file anywhere on the disk.

        Raises:
            LocalChanges: There is a file, and ``replace`` is false.
        """
        scratch = files.temporary(target.parent)
        with files.disk_errors(target, writing=True):
            into = os.open(target.parent, _DIRECTORY)
            try:
                files.move(prepared.name, self._scratch, scratch.name, into)
            finally:
                os.close(into)
        files.put(scratch, target, replace=replace)

    def _look(self, path: str, name: str, judged: FileStamp | None) -> os.stat_result | None:
        """Return the stat of the present file, right before it is replaced or deleted.

        Raises:
            LocalChanges: It is not the file that was judged.
        """
        try:
            found = os.stat(name, dir_fd=self._held, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if judged is not None and moment(found) != judged:
            raise errors.LocalChanges(path)
        return found

    def remove(self, path: str, *, judged: FileStamp | None = None) -> None:
        """Delete a file, and the directories that are empty without it.

        The current directory stays, because the user's shell may be in it.

        Args:
            path: The path in the repository.
            judged: The state in which the file was judged to be deletable.

        Raises:
            UnsafePath: A parent is a symbolic link, through which nothing is deleted.
            LocalChanges: A parent is a file, or the file has changed.
        """
        target = self._worktree.at(path)
        directory, _, name = path.rpartition("/")
        with files.disk_errors(target, writing=True):
            try:
                self._enter(directory)
            except FileNotFoundError:
                return
            if self._look(path, name, judged) is not None:
                os.unlink(name, dir_fd=self._held)
            here = _here()
            while self._directory and self._worktree.root / self._directory != here:
                above, _, name = self._directory.rpartition("/")
                held = os.open("..", _DIRECTORY, dir_fd=self._held)
                try:
                    os.rmdir(name, dir_fd=held)
                except OSError:
                    os.close(held)
                    break
                os.close(self._held)
                self._held, self._directory = held, above

    def _enter(self, directory: str, *, make: bool = False) -> None:
        """Open a directory of the worktree, and hold it open.

        Raises:
            FileNotFoundError: It does not exist, and is not to be made.
        """
        if self._held >= 0 and self._directory == directory:
            return
        self._leave()
        self._held = os.open(self._worktree.root, _DIRECTORY)
        for name in directory.split("/") if directory else ():
            below = f"{self._directory}/{name}" if self._directory else name
            held = self._open(below, name, make=make)
            os.close(self._held)
            self._held, self._directory = held, below

    def _open(self, path: str, name: str, *, make: bool) -> int:
        """Open a directory below the one that is held open."""
        flags = _DIRECTORY | os.O_NOFOLLOW
        try:
            return os.open(name, flags, dir_fd=self._held)
        except FileNotFoundError:
            if not make:
                raise
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=self._held)
            return os.open(name, flags, dir_fd=self._held)
        except OSError as error:
            if error.errno not in _NO_DIRECTORY:
                raise
            mode = os.stat(name, dir_fd=self._held, follow_symlinks=False).st_mode
            if stat_module.S_ISLNK(mode):
                raise errors.UnsafePath(f"{path} is a symbolic link") from None
            raise errors.LocalChanges(f"{path} is a file, not a directory") from None

    def _leave(self) -> None:
        if self._held >= 0:
            os.close(self._held)
        self._held, self._directory = -1, ""

    def _clear(self, name: str) -> None:
        """Remove a directory that holds no file."""
        for _, directories, _, held in os.fwalk(name, topdown=False, dir_fd=self._held):
            for below in directories:
                os.rmdir(below, dir_fd=held)
        os.rmdir(name, dir_fd=self._held)


def _here() -> Path | None:
    """Return the current directory; None if it was deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def now() -> int:
    """Return the time in ns, on the clock that file times are taken from."""
    return time.time_ns()
