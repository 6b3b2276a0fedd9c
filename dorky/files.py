"""Safe file operations: atomic writes, confined paths, locks, disk errors with file names."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import operator
import os
import re
import stat
import threading
import time
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from dorky import errors

# Unicode's default-ignorable characters: HFS+ and ext4's casefold directories ignore most of them
# when they compare names, so `.g\u200cit` opens `.git` on them (git's CVE-2014-9390).
IGNORABLE = dict.fromkeys(
    [
        *(0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFEFF, 0xFFA0),
        *(*range(0x180B, 0x1810), *range(0x200B, 0x2010), *range(0x202A, 0x202F)),
        *(*range(0x2060, 0x2070), *range(0xFE00, 0xFE10), *range(0xFFF0, 0xFFF9)),
        *(*range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B), *range(0xE0000, 0xE1000)),
    ]
)

_PATH_MAX = 4096

_BLOCK = 1 << 20

_TEMPORARY = re.compile(r"\.tmp-dorky-[0-9a-f]{16}")

_GRACE = 24 * 3600
"""Seconds after which a half-written file counts as abandoned."""

# NTFS's short names; the file that was created first gets the first number.
_SHORT_NAME = re.compile(r"(?:git|dorky|dorkyr)~[0-9]+", re.ASCII)

# ASCII only, and not the beginning of a name that needs a closer check.
_PLAIN = re.compile(r"(?!\.|git|dorky)[\x01-.0-\x7f]+", re.ASCII | re.IGNORECASE)
_PLAIN_PATH = re.compile(f"(?:{_PLAIN.pattern}/)*{_PLAIN.pattern}", _PLAIN.flags)

_PORTABLE = re.compile(
    r'(?!con|prn|aux|nul|com|lpt)[^<>:"|?*\\]*[^<>:"|?*\\ .]', re.ASCII | re.IGNORECASE
)

_WINDOWS_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{n}" for port in ("com", "lpt") for n in "123456789¹²³"}
)


@contextlib.contextmanager
def disk_errors(path: str | Path, *, writing: bool = False) -> Iterator[None]:
    """Turn an `OSError` about ``path`` into the error tree's, keeping its reason."""
    try:
        yield
    except errors.DorkyError:  # some are Python's own errors of that kind, too
        raise
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise errors.DiskFull(path) from error
        if error.errno == errno.EROFS:
            raise errors.ReadOnly(path) from error
        if error.errno in {errno.EACCES, errno.EPERM}:
            kind = errors.UnwritableFile if writing else errors.UnreadableFile
            raise kind(path, error.strerror) from error
        raise errors.DiskError(path, error.strerror or error) from error


FileStamp = tuple[int, int, int, int]
"""A file's inode, size, and times of modification and change in ns."""

StatProof = tuple[int, int, int, int, int]
"""A file's mode, size, inode, and times of modification and change in ns."""


class FileStat(NamedTuple):
    """The parts of a file's stat that staging needs, in less than half of the memory."""

    st_mode: int
    st_size: int
    st_ino: int
    st_mtime_ns: int
    st_ctime_ns: int


Stat = os.stat_result | FileStat

_LATEST = (1 << 63) - 1
_parts = operator.attrgetter(*FileStat._fields)


def file_stat(stat: os.stat_result) -> FileStat:
    """Return those parts of a stat."""
    return FileStat._make(_parts(stat))


def moment(stat: Stat | None) -> FileStamp | None:
    """Return the parts of a stat that change when a file changes; None for no file."""
    return None if stat is None else stamp(stat)


def stamp(stat: Stat) -> FileStamp:
    """Return the parts of a stat that change when a file changes, each of 64 bits with a sign.

    Inodes of some file systems are larger. So are times after the year 2262, which are cut off: a
    file from the future is read at each look anyway.
    """
    inode = stat.st_ino
    return (
        inode if inode <= _LATEST else inode - (1 << 64),
        stat.st_size,
        min(max(stat.st_mtime_ns, -_LATEST), _LATEST),
        min(max(stat.st_ctime_ns, -_LATEST), _LATEST),
    )


def stamp_at(path: str | Path) -> FileStamp | None:
    """Return the stamp of a file; None if there is none, or if it can't be inspected."""
    try:
        return moment(os.lstat(path))
    except OSError:
        return None


def free(directory: Path) -> float:
    """Return how many bytes a disk has left for this user; infinite if it does not tell."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize if found.f_blocks else float("inf")


_UMASK = threading.Lock()


def umask() -> int:
    """Return the bits that the user's umask takes from the group and from others.

    The owner's bits are kept as recorded: without them the files could not be used at all.
    """
    with _UMASK:
        # Only setting the umask returns it; other threads' files get fewer bits, never more.
        found = os.umask(0o077)
        os.umask(found)
    return found & 0o077


def expanded(path: str | Path) -> Path:
    """Return a path that a person wrote, with ``~`` and ``~user`` replaced by a home directory.

    Raises:
        SetupError: The user does not exist, or has no home directory.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise errors.NoSuchHome(path) from None


# The errors of different file systems for what they do not have at all.
_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_REFUSED = _UNSUPPORTED | {errno.EPERM, errno.EACCES}


def sync_directory(path: Path) -> None:
    """Make renames and new names in ``path`` survive power loss."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync_names(fd)
    finally:
        os.close(fd)


def sync_names(directory: int) -> None:
    """Do what `sync_directory` does, for an open directory.

    Some network file systems refuse; their servers decide when names are durable.
    """
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise


def set_mode(fd: int, mode: int) -> None:
    """Give an open file its permission bits, if its file system has any (FAT has none)."""
    try:
        os.fchmod(fd, mode)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise


def temporary(directory: Path) -> Path:
    """Return a fresh name in ``directory`` for a file that will be renamed into place."""
    return directory / f".tmp-dorky-{os.urandom(8).hex()}"


def sweep(written: str | Path, *, within: int | None = None) -> None:
    """Delete the half-written files that killed processes have left next to a new file.

    Args:
        written: The new file.
        within: An open directory that holds it under that name; then no path is followed.
    """
    with contextlib.suppress(OSError):  # deleted already, or another user's
        # Both times come from the file system's clock, which may be another machine's.
        long_ago = os.stat(written, dir_fd=within, follow_symlinks=False).st_mtime - _GRACE
        with os.scandir(Path(written).parent if within is None else within) as listing:
            for entry in listing:
                old = entry.stat(follow_symlinks=False).st_mtime < long_ago
                if old and _TEMPORARY.fullmatch(entry.name):
                    os.unlink(entry.path if within is None else entry.name, dir_fd=within)


def publish(scratch: Path, path: Path) -> None:
    """Give a finished file its name, unless such a file exists already.

    Raises:
        FileExistsError: It exists: another process was faster.
    """
    try:
        # Unlike a rename, a link does not replace an existing file.
        os.link(scratch, path, follow_symlinks=False)
    except OSError as error:
        # Some file systems (FAT) have no hard links.
        if error.errno not in _REFUSED:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        scratch.rename(path)
    else:
        scratch.unlink(missing_ok=True)


def write_atomic(
    path: Path, data: bytes, *, mode: int = 0o600, replace: bool = True, tidy: bool = True
) -> None:
    """Replace ``path`` by ``data``, durably: readers see the old bytes or the new ones.

    Args:
        path: The file.
        data: All of its bytes.
        mode: Its permission bits.
        replace: Whether such a file may exist already.
        tidy: Whether to `sweep` its directory, which takes a listing.

    Raises:
        DiskFull: The disk has no space; the old file is untouched.
        DiskError: The disk refuses for another reason.
    """
    with disk_errors(path, writing=True):
        scratch = temporary(path.parent)
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(data)
                set_mode(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                scratch.rename(path)
            else:
                publish(scratch, path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
        if tidy:
            sweep(path)


def read_small(
    path: Path, limit: int, *, follow: bool = False, owners: Collection[int] = ()
) -> bytes | None:
    """Read a whole regular file, without waiting for a pipe or reading beyond a limit.

    Args:
        path: The file.
        limit: The most bytes that it may have.
        follow: Whether it may be a symbolic link.
        owners: If given, only these users may be able to write to it.

    Returns:
        Its bytes; None if there is no such file.

    Raises:
        ValueError: It is larger, is not a regular file, or does not belong to the user.
        DiskError: The disk refuses.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    with disk_errors(path):
        try:
            fd = os.open(path, flags)
        except FileNotFoundError:
            return None
        except OSError as error:
            # ENXIO is the error for a socket, which can't be opened at all.
            if error.errno in {errno.ELOOP, errno.EMLINK, errno.ENXIO}:
                raise ValueError("it is not a regular file") from None
            raise
        with open(fd, "rb") as file:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise ValueError("it is not a regular file")
            if owners and (found.st_uid not in owners or found.st_mode & 0o022):
                raise ValueError("other users can write to it")
            data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it is larger than {limit:,} bytes")
    return data


def write_new(
    path: str | Path,
    mode: int,
    blocks: Iterable[bytes],
    *,
    about: str | Path,
    within: int | None = None,
) -> os.stat_result:
    """Write a new file (or, if ``mode`` says so, a link), private (0600) until it is complete.

    Args:
        path: The new file.
        mode: File type and permission bits.
        blocks: The content, or the link's target.
        about: The file to name in errors.
        within: An open directory that ``path`` is relative to.

    Returns:
        The stat of the complete file.

    Raises:
        DiskFull: The disk has no space; nothing is left.
        UnsafePath: The target of a link is no possible path.
    """
    with disk_errors(about, writing=True):
        try:
            if stat.S_ISLNK(mode):
                os.symlink(_target(about, blocks), path, dir_fd=within)
                return os.stat(path, dir_fd=within, follow_symlinks=False)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(path, flags, 0o600, dir_fd=within)
            try:
                for block in blocks:
                    _write(fd, block)
                set_mode(fd, mode & 0o777)
                return os.fstat(fd)
            finally:
                os.close(fd)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path, dir_fd=within)
            raise


def _write(fd: int, data: bytes) -> None:
    # No file object is made, because for a small file it costs more than the write.
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, memoryview(data)[done:])


def write_stream(path: Path, mode: int, blocks: Iterable[bytes], *, replace: bool = True) -> None:
    """Put a file (or link) in place of any file at ``path`` (see `write_new`).

    Nobody sees half of it, and a hard link or an open descriptor keeps the old content.

    Raises:
        LocalChanges: There is a file, perhaps since the blocks began to arrive, and ``replace`` is
            false.
    """
    scratch = temporary(path.parent)
    write_new(scratch, mode, blocks, about=path)
    put(scratch, path, replace=replace)


def put(scratch: Path, path: Path, *, replace: bool = True) -> None:
    """Give a finished file its name; delete it if that fails (see `write_stream`)."""
    with disk_errors(path, writing=True):
        try:
            if replace:
                scratch.rename(path)
            else:
                publish(scratch, path)
        except FileExistsError:
            scratch.unlink()
            raise errors.LocalChanges(path, during="download") from None
        except BaseException:
            scratch.unlink()
            raise


def move(path: str, source: int, target: str, into: int) -> None:
    """Rename a file or link, replacing any at ``target``; copy it if that is on another mount.

    Args:
        path: The file to move.
        source: An open directory that ``path`` is relative to.
        target: Its new name.
        into: An open directory that ``target`` is relative to.
    """
    try:
        os.rename(path, target, src_dir_fd=source, dst_dir_fd=into)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    mode = os.stat(path, dir_fd=source, follow_symlinks=False).st_mode
    scratch = temporary(Path()).name
    if stat.S_ISLNK(mode):
        link = os.fsencode(os.readlink(path, dir_fd=source))
        write_new(scratch, mode, [link], about=target, within=into)
    else:
        # Its owner must be able to open it whatever its mode, which may be 0.
        with contextlib.suppress(OSError):  # refused where files have no modes
            os.chmod(path, 0o600, dir_fd=source)
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=source), "rb") as file:
            blocks = iter(lambda: file.read(_BLOCK), b"")
            write_new(scratch, mode, blocks, about=target, within=into)
    try:
        os.rename(scratch, target, src_dir_fd=into, dst_dir_fd=into)
    except BaseException:
        os.unlink(scratch, dir_fd=into)
        raise
    os.unlink(path, dir_fd=source)


def _target(path: str | Path, blocks: Iterable[bytes]) -> str:
    """Return where a link leads, without reading more than a link can hold."""
    name = Path(path).name
    target = b""
    for block in blocks:
        target += block
        if len(target) > _PATH_MAX:
            raise errors.UnsafePath(f"{name!a}, a link of over {_PATH_MAX} bytes")
    if b"\0" in target:
        raise errors.UnsafePath(f"{name!a}, a link with a NUL in it")
    return os.fsdecode(target)


def malformed(name: str) -> str | None:
    """Return why a name can't be a path component; None if it can."""
    if not name or name in {".", ".."}:
        return "it leaves its directory"
    if "/" in name or "\0" in name:
        return "it holds a separator"
    return None


def unsafe(name: str) -> str | None:
    """Return why an untrusted path component must not be written to disk; None if it may.

    Refuses names that leave the directory (``..``, separators, NUL) and every spelling of ``.git``,
    ``.dorky``, ``.dorkyrc`` and ``.dorkysigners`` that some file system takes for the same name.
    """
    if _PLAIN.fullmatch(name):
        return None
    if reason := malformed(name):
        return reason
    plain = folded(name)
    if plain in {".git", ".dorky"} or _SHORT_NAME.fullmatch(plain):
        return "it is a repository's own directory"
    if plain == ".dorkyrc":
        return "it tells dorky where a repository is, and belongs into git"
    if plain == ".dorkysigners":
        return "it says whose signatures count, and belongs into git"
    return None


def folded(name: str) -> str:
    """Return a path component as seen by the file system that equates the most names."""
    if not name.isascii():
        # Compatibility forms too, because ZFS can be set to compare names by them.
        name = unicodedata.normalize("NFKD", name).translate(IGNORABLE)
    # NTFS ends a name at ':' (alternate data streams).
    return name.casefold().split(":")[0].rstrip(". ")


GIT_DIRECTORY = ("HEAD", "commondir", "objects", "refs")
"""The entries by which git recognises a repository."""

_RECOGNISED = frozenset(name.lower() for name in GIT_DIRECTORY)
_GITS_OWN = frozenset({".gitattributes", ".gitignore", ".gitmodules", ".dorkyignore"})


def is_git_directory(names: Iterable[str]) -> bool:
    """Return whether git takes a directory with these entries for a repository of its own.

    git would then run what its ``config`` says, at the next ``git status`` below the directory.
    Source: git's setup.c, is_git_directory; a ``commondir`` names the place of the rest.
    """
    held = {folded(name) for name in names if is_gits_entry(name)}
    return "head" in held and ("commondir" in held or {"objects", "refs"} <= held)


def is_gits_entry(name: str) -> bool:
    """Return whether a name may be one of those by which git recognises a repository."""
    # Other names can't match and need not be folded.
    return (name[:1] in "HhCcOoRr" or not name.isascii()) and folded(name) in _RECOGNISED


def is_gits_own(name: str) -> bool:
    """Return whether a file of this name gives git (or dorky) rules for other files."""
    return name.startswith(".") and folded(name) in _GITS_OWN


class FileSystem(NamedTuple):
    """The facts of one directory's file system, found by trying.

    Attributes:
        folds_case: Whether names that differ only in case are one name.
        folds_form: Whether names that differ only in Unicode's normal form are one name.
        decomposes: Whether names are kept decomposed, in whatever form they were given.
        no_modes: Whether permission bits can't be set.
        no_symlinks: Whether there are no symbolic links.
        no_links: Whether there are no hard links.
    """

    folds_case: bool = False
    folds_form: bool = False
    decomposes: bool = False
    no_modes: bool = False
    no_symlinks: bool = False
    no_links: bool = False

    @property
    def folds(self) -> bool:
        """Return whether one file can be opened by several names."""
        return self.folds_case or self.folds_form

    def key(self, path: str) -> str:
        """Return the same text for all paths that this file system takes for one."""
        if self.folds_form and not path.isascii():
            path = unicodedata.normalize("NFD", path)
        return path.casefold() if self.folds_case else path

    def given(self, name: str) -> str:
        """Return a listed name as people type it: composed, where the file system decomposes."""
        if self.decomposes and not name.isascii():
            return unicodedata.normalize("NFC", name)
        return name

    @property
    def text(self) -> str:
        """Return the facts that hold, as words."""
        return " ".join(name for name, holds in self._asdict().items() if holds)

    @classmethod
    def read(cls, text: str) -> FileSystem:
        """Return the facts that `text` has put into words; unknown ones are ignored."""
        return cls(**{name: True for name in text.split() if name in cls._fields})


def unportable(name: str) -> str | None:
    """Return why Windows can't create a file of this name; None if it can.

    Source: Microsoft, "Naming Files, Paths, and Namespaces". Control characters are allowed: names
    with newlines or tabs are kept byte for byte on the systems that have them.
    """
    if _PORTABLE.fullmatch(name):
        return None
    bad = next((c for c in name if c in '<>:"|?*\\'), None)
    if bad:
        return f"Windows has no {bad} in names"
    if name.endswith((" ", ".")):
        return "Windows drops a space or a dot at the end"
    if name.split(".", maxsplit=1)[0].rstrip().casefold() in _WINDOWS_DEVICES:
        return "the name is a device on Windows"
    return None


def check_path(path: str) -> None:
    """Refuse a repository path that must not reach the disk.

    Raises:
        UnsafePath: It is absolute, leaves the worktree, or enters a repository's own directory.
    """
    if _PLAIN_PATH.fullmatch(path):
        return
    if path.startswith("/") or any(unsafe(part) for part in path.split("/")):
        raise errors.UnsafePath(ascii(path))


NO_LOCKS = frozenset({*_UNSUPPORTED, errno.ENOLCK})
"""The errors of file systems without locks."""


def _lock(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS or not hasattr(fcntl, "F_OFD_SETLK"):
            raise
        import struct

        # As `struct flock`: like `flock`'s, the lock is the open file's, not the process's.
        whole = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, whole)


_holding: set[int] = set()
"""The descriptors of open files that are locked, or about to be."""


@contextlib.contextmanager
def closing(fd: int) -> Iterator[int]:
    """Release the lock of a descriptor in the end, and close it, as a forked child does at once.

    A lock is the open file's. A child that inherits it would keep it, and could wait for itself.
    """
    _holding.add(fd)
    try:
        yield fd
    finally:
        if fd in _holding:  # else this is a child
            _holding.remove(fd)
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)  # a child may not have closed it yet
            os.close(fd)


def _close_in_child() -> None:
    for fd in _holding:
        with contextlib.suppress(OSError):
            os.close(fd)
    _holding.clear()


os.register_at_fork(after_in_child=_close_in_child)


@contextlib.contextmanager
def locked(
    path: Path, *, timeout: float = 10.0, required: bool = True, within: int | None = None
) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` (created if missing, never removed).

    The kernel drops it when its holder dies, so a killed process never blocks. It is a `flock`; a
    file system without those gets a lock on an open file's bytes, which SQLite needs there as well.

    Args:
        path: The lock file; it contains the process id of the lock's holder.
        timeout: Seconds to wait.
        required: Whether to fail if the file system has no locks, as some network ones.
        within: An open directory that ``path`` is relative to.

    Raises:
        Locked: Another process still holds it after ``timeout``.
        ReadOnly: The file can't be written to.
        DiskError: The file system has no locks.
    """
    with disk_errors(path, writing=True):
        # The file is emptied below, so it must not be another file through a link of either kind.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, 0o600, dir_fd=within)
        except PermissionError as error:
            raise errors.ReadOnly(path) from error
    with closing(fd):
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise errors.DiskError(path, "it is not a file of its own")
        deadline = time.monotonic() + timeout
        while True:
            try:
                _lock(fd)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
                    raise errors.Locked(f"process {holder or 'unknown'}") from None
                time.sleep(0.05)
            except OSError as error:
                if not required:
                    break
                raise errors.DiskError(path, f"it can't be locked: {error.strerror}") from error
        with contextlib.suppress(OSError):  # on a full disk the holder's id is missing
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
