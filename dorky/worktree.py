"""The project's files on disk: walking them, reading them whole, writing them safely."""

from __future__ import annotations

import errno
import hashlib
import os
import stat as stat_module
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from dorky import errors, files
from dorky.ignore import Ignore

STATE = ".dorky"
SCRATCH = "tmp"
"""The directory below `STATE` where new files are written; emptied by the next command."""
_BLOCK = 1 << 20
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}


class Found(NamedTuple):
    """A file as the walk meets it: its repository path and its own stat, links unfollowed."""

    path: str
    stat: os.stat_result


class Worktree:
    """The directory that holds `.dorkyrc`.

    Args:
        root: An absolute path.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._prefix = os.path.join(root, "")  # noqa: PTH118

    # --- paths -----------------------------------------------------------------------------

    def relative(self, path: str | os.PathLike[str]) -> str:
        """The repository path of a path that the user named; ``""`` for the root itself.

        Links inside the project are names like others: what a revision holds at ``d/x`` can be
        asked for though ``d`` is a link by now. Links that lead to the project are followed.

        Raises:
            UsageError: It is empty (an unset shell variable, which must not mean everything).
            OutsideWorktree: It lies elsewhere.
            UnstorablePath: It lies in a repository's own directory.
        """
        named = os.fspath(path)
        if not named:
            raise errors.UsageError("a path is empty", hint="name a file, or . for all of them")
        if "\0" in named:
            raise errors.PathNotFound(named)
        absolute = Path(os.path.normpath(Path.cwd() / named))
        if not absolute.is_relative_to(self.root):
            try:
                absolute = absolute.parent.resolve() / absolute.name
            except RuntimeError:  # links in a circle; Python 3.13 passes over them
                raise errors.PathNotFound(named) from None
            if not absolute.is_relative_to(self.root):
                raise errors.OutsideWorktree(named, self.root)
        parts = absolute.relative_to(self.root).parts
        for part in parts:
            if reason := files.unsafe(part):
                raise errors.UnstorablePath(named, reason)
        return "/".join(parts)

    def on_disk(self, path: str) -> Path:
        """The disk path of a repository path.

        Raises:
            UnsafePath: It would leave the worktree or enter a repository's own directory.
        """
        return Path(self.at(path))

    def at(self, path: str) -> str:
        """The same (see `on_disk`) as a string: for a hundred thousand files a `Path` is slow."""
        files.check_path(path)
        return self._prefix + path

    def stat(self, path: str) -> os.stat_result | None:
        """The file's own stat; None if there is no such file.

        What lies behind a symbolic link (or any other parent that is not a directory) is not the
        project's: there is no such file either.
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

    def stat_in(self, path: str) -> os.stat_result | None:
        """The same for a path whose parents have been looked at just now."""
        try:
            return os.lstat(self.at(path))
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise errors.UnreadableFile(path, error.strerror) from error

    def link_above(self, path: str) -> str | None:
        """The outermost directory above a path that is a symbolic link; None if none is."""
        parents = (path[:end] for end, char in enumerate(path) if char == "/")
        return next((each for each in parents if (self.on_disk(each)).is_symlink()), None)

    # --- walking ---------------------------------------------------------------------------

    def walk(self, ignore: Ignore, start: str = "", *, partly: bool = False) -> Iterator[Found]:
        """Every file and link below ``start`` that is not ignored, in no particular order.

        Args:
            ignore: The rules of the worktree's root.
            start: A directory in the repository.
            partly: Whether to pass over directories that can't be listed (some other program's
                data), for a look at what is around.

        Raises:
            UnreadableFile: A directory that can't be listed.
        """

        def refuse(path: str, error: OSError) -> None:
            if not partly:
                raise errors.UnreadableFile(path or self.root, error.strerror) from error

        for part in start.split("/") if start else []:
            ignore = ignore.enter(part)
        pending = [(start, ignore)]
        while pending:
            directory, rules = pending.pop()
            try:
                # Listed whole: a walk that is given up must leave no directory open.
                with os.scandir(self.root / directory) as listing:
                    items = list(listing)
            except (FileNotFoundError, NotADirectoryError):
                continue  # gone since its parent was listed
            except OSError as error:
                refuse(directory, error)
                continue
            for item in items:
                path = f"{directory}/{item.name}" if directory else item.name
                try:
                    is_dir = item.is_dir(follow_symlinks=False)
                    if rules.match(item.name, is_dir=is_dir):
                        continue
                    if is_dir:
                        pending.append((path, rules.enter(item.name)))
                        continue
                    stat = item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # deleted since it was listed
                except OSError as error:
                    refuse(path, error)
                    continue
                yield Found(path, stat)

    def below(self, path: str) -> Iterator[str]:
        """Every file and link below a directory, ignored or not."""
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
        """Where a link points, as bytes."""
        try:
            return os.fsencode(os.readlink(self.at(path)))  # noqa: PTH115
        except OSError as error:
            raise errors.UnreadableFile(path, error.strerror) from error

    def open(self, path: str) -> int:
        """Open a regular file for reading; the caller closes the descriptor.

        Raises:
            PathNotFound: It is gone.
            UnreadableFile: It can't be opened.
            UnstorablePath: Something else has taken its place.
        """
        try:
            # Without O_NONBLOCK, a pipe that took the file's place would block for ever.
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

    def sha256(self, path: str, stat: os.stat_result) -> str:
        """The SHA-256 of a file's content, or of a link's target."""
        if stat_module.S_ISLNK(stat.st_mode):
            return hashlib.sha256(self.link_target(path)).hexdigest()
        digest = hashlib.sha256()
        with open(self.open(path), "rb", buffering=0) as file, files.disk_errors(Path(path)):
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()

    # --- writing ---------------------------------------------------------------------------

    def prepare(self, path: str, mode: int, blocks: Iterable[bytes]) -> Path:
        """Write a file (or link) that `install` will put in its place.

        It is written in `.dorky/tmp`: what a killed process leaves there is removed by the next,
        beside its target a secret would lie about.

        Args:
            path: In the repository.
            mode: File type and permission bits.
            blocks: The content, or the link's target.

        Raises:
            UnsafePath: The path leads out of the worktree.
            DiskFull: No space.
        """
        target = self.on_disk(path)
        prepared = files.temporary(self.root / STATE / SCRATCH)
        files.write_new(prepared, mode, blocks, about=target)
        return prepared

    def install(self, prepared: Path, path: str) -> os.stat_result:
        """Put a prepared file in place of whatever file is there; give its stat.

        Raises:
            UnsafePath: A parent is a symbolic link, through which nothing is written.
        """
        target = self.on_disk(path)
        for directory, exists in self._parents(path):
            if not exists:
                with files.disk_errors(directory):
                    directory.mkdir(exist_ok=True)
        self._make_room(target)
        files.move(prepared, target)
        return target.lstat()

    def remove(self, path: str) -> None:
        """Delete a file, and the directories that are empty without it.

        The current directory stays: a shell that stands in it would be lost.
        """
        target = self.on_disk(path)
        if not all(exists for _, exists in self._parents(path)):
            return
        with files.disk_errors(target):
            target.unlink(missing_ok=True)
        for parent in target.parents:
            if parent == self.root or parent == _here():
                break
            try:
                parent.rmdir()
            except OSError:
                break

    def _make_room(self, target: Path) -> None:
        """Remove a directory that holds no file."""
        if target.is_symlink() or not target.is_dir():
            return
        with files.disk_errors(target):
            for directory, _, _ in os.walk(target, topdown=False):
                Path(directory).rmdir()

    def _parents(self, path: str) -> Iterator[tuple[Path, bool]]:
        """The directories above a path, outermost first, and whether they exist.

        Raises:
            UnsafePath: One is a symbolic link, through which nothing is written or deleted.
            LocalChanges: One is a file.
        """
        for end, char in enumerate(path):
            if char != "/":
                continue
            directory = self.root / path[:end]
            try:
                mode = os.lstat(directory).st_mode
            except FileNotFoundError:
                yield directory, False
                continue
            except OSError as error:
                raise errors.DiskError(path[:end], error.strerror) from error
            if stat_module.S_ISLNK(mode):
                raise errors.UnsafePath(f"{path}: {path[:end]} is a symbolic link")
            if not stat_module.S_ISDIR(mode):
                raise errors.LocalChanges(f"{path[:end]} is a file, {path} needs a directory there")
            yield directory, True


def _here() -> Path | None:
    """The current directory; None if it was deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def now() -> int:
    """The time in ns, on the clock that file times are taken from."""
    return time.time_ns()
