"""Files done safely: atomic writes, paths that stay inside, locks, disk errors with names."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import threading
import time
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from dorky import errors

# What Unicode calls default-ignorable: HFS+ and ext4's casefold directories pass over (most of)
# these when they compare names, so `.g\u200cit` opens `.git` there (git's CVE-2014-9390).
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
"""Seconds in which a file that is being written is not taken for one that was given up."""

# NTFS's short names, of which the first is taken by what is there first.
_SHORT_NAME = re.compile(r"(?:git|dorky|dorkyr)~[0-9]+", re.ASCII)

# ASCII only, and not the beginning of a name that is looked at more closely.
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
def disk_errors(path: str | Path) -> Iterator[None]:
    """Turn an `OSError` about ``path`` into the error tree's, keeping its reason."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise errors.DiskFull(path) from error
        if error.errno in {errno.EACCES, errno.EPERM}:
            raise errors.UnreadableFile(path, error.strerror) from error
        raise errors.DiskError(path, error.strerror or error) from error


FileStamp = tuple[int, int, int, int]
"""A file's inode, size, and times of modification and change in ns."""

StatProof = tuple[int, int, int, int, int]
"""A file's mode, size, inode, and times of modification and change in ns."""


def moment(stat: os.stat_result | None) -> FileStamp | None:
    """What of a stat moves when a file changes."""
    if stat is None:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


_UMASK = threading.Lock()


def umask() -> int:
    """Return what the user's umask takes from the group and from others.

    The owner's bits are kept as recorded: without them the files could not be used at all.
    """
    with _UMASK:
        # It can be read only by setting it; another thread's file gets less meanwhile, never more.
        found = os.umask(0o077)
        os.umask(found)
    return found & 0o077


def expanded(path: str | Path) -> Path:
    """Return a path that a person wrote, with ``~`` and ``~user`` replaced by a home directory.

    Raises:
        SetupError: There is no such user, or no home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise errors.SetupError(
            f"{path}: there is no home directory of that name", hint="write the whole path"
        ) from None


def sync_directory(path: Path) -> None:
    """Make renames and new names in ``path`` survive power loss."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def temporary(directory: Path) -> Path:
    """A fresh name in ``directory`` for a file that will be renamed into place."""
    return directory / f".tmp-dorky-{os.urandom(8).hex()}"


def sweep(written: str | Path, *, within: int | None = None) -> None:
    """Delete what processes that were killed have left half written beside a file just written.

    Args:
        written: That file.
        within: An open directory that holds it under that name; no path is followed then.
    """
    with contextlib.suppress(OSError):  # gone already, or somebody else's
        # Both times are by the clock of the file system, which may be another machine's.
        long_ago = os.stat(written, dir_fd=within, follow_symlinks=False).st_mtime - _GRACE
        with os.scandir(Path(written).parent if within is None else within) as listing:
            for each in listing:
                old = each.stat(follow_symlinks=False).st_mtime < long_ago
                if old and _TEMPORARY.fullmatch(each.name):
                    os.unlink(each.path if within is None else each.name, dir_fd=within)


def publish(scratch: Path, path: Path) -> None:
    """Give a file that is finished its name, unless there is such a file already.

    Raises:
        FileExistsError: There is: somebody else was faster.
    """
    try:
        # Unlike a rename, a link does not replace what is there.
        os.link(scratch, path)
    except OSError as error:
        # Some file systems (FAT) have no hard links.
        if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}:
            raise
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
        replace: Whether there may be such a file already.
        tidy: Whether to `sweep` its directory, which is listed for that.

    Raises:
        DiskFull: No space; the old file is untouched.
        DiskError: Anything else the disk refuses.
    """
    with disk_errors(path):
        scratch = temporary(path.parent)
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), mode)
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
    """Read a regular file whole, without waiting for a pipe or reading beyond a limit.

    Args:
        path: The file.
        limit: How many bytes it may have.
        follow: Whether it may be a symbolic link.
        owners: If given, nobody but these users may be able to write to it.

    Returns:
        Its bytes; None if there is no such file.

    Raises:
        ValueError: It is larger, something else than a regular file, or not the user's own.
        DiskError: The disk refuses.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    with disk_errors(path):
        try:
            fd = os.open(path, flags)
        except FileNotFoundError:
            return None
        except OSError as error:
            # A socket can't be opened at all.
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
    """Make a new file (or, going by ``mode``, a link), which is nobody else's (0600) until whole.

    Args:
        path: The new file.
        mode: File type and permission bits.
        blocks: The content, or the link's target.
        about: The file to name in errors.
        within: An open directory that ``path`` is taken from.

    Returns:
        Its stat, now that it is whole.

    Raises:
        DiskFull: No space; nothing is left.
        UnsafePath: A link to what no path can be.
    """
    with disk_errors(about):
        try:
            if stat.S_ISLNK(mode):
                os.symlink(_target(about, blocks), path, dir_fd=within)
                return os.stat(path, dir_fd=within, follow_symlinks=False)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(path, flags, 0o600, dir_fd=within)
            try:
                for block in blocks:
                    _write(fd, block)
                os.fchmod(fd, mode & 0o777)
                return os.fstat(fd)
            finally:
                os.close(fd)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path, dir_fd=within)
            raise


def _write(fd: int, data: bytes) -> None:
    # Without a file object around it, which costs a small file more than its bytes do.
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, memoryview(data)[done:])


def write_stream(path: Path, mode: int, blocks: Iterable[bytes]) -> None:
    """Put a file (or link) in place of whatever is at ``path`` (see `write_new`).

    Nobody sees half of it, and a hard link or an open descriptor keeps the old content.
    """
    scratch = temporary(path.parent)
    write_new(scratch, mode, blocks, about=path)
    with disk_errors(path):
        try:
            scratch.rename(path)
        except BaseException:
            scratch.unlink()
            raise


def move(path: str, source: int, target: str, into: int) -> None:
    """Rename a file or link, replacing any at ``target``; copy it where that is another mount.

    Args:
        path: What to move.
        source: An open directory that ``path`` is taken from.
        target: Its new name.
        into: An open directory that ``target`` is taken from.
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
        # Opened by its owner whatever its mode, which may be 0.
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
    """Where a link leads, without reading more than a link can hold."""
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
    """Why a path component is none at all; None if it is one."""
    if not name or name in {".", ".."}:
        return "it leaves its directory"
    if "/" in name or "\0" in name:
        return "it holds a separator"
    return None


def unsafe(name: str) -> str | None:
    """Why one path component from a stranger must not be written to disk; None if it may.

    Refuses what leaves the directory (``..``, separators, NUL) and every spelling of ``.git``,
    ``.dorky`` and ``.dorkyrc`` that some file system takes for the same name.
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
    return None


def folded(name: str) -> str:
    """A path component as the file system sees it that tells the fewest names apart."""
    if not name.isascii():
        # Compatibility forms, too: ZFS can be told to compare names by them.
        name = unicodedata.normalize("NFKD", name).translate(IGNORABLE)
    # NTFS ends a name at ':' (alternate data streams).
    return name.casefold().split(":")[0].rstrip(". ")


GIT_DIRECTORY = ("HEAD", "commondir", "objects", "refs")
"""The entries that git knows a repository of its own by."""

_GITS_OWN = frozenset({".gitattributes", ".gitignore", ".gitmodules", ".dorkyignore"})


def is_git_directory(names: Iterable[str]) -> bool:
    """Whether git takes a directory with these entries for a repository of its own.

    It then runs what the ``config`` in it says, at the next ``git status`` below.
    Source: git's setup.c, is_git_directory; a ``commondir`` says where the rest is.
    """
    # Most names begin otherwise, and need not be folded.
    held = {folded(name) for name in names if name[:1] in "HhCcOoRr" or not name.isascii()}
    return "head" in held and ("commondir" in held or {"objects", "refs"} <= held)


def is_gits_own(name: str) -> bool:
    """Whether a file of this name tells git (or dorky) what to do with others."""
    return name.startswith(".") and folded(name) in _GITS_OWN


def unportable(name: str) -> str | None:
    """Why Windows can't create a file of this name; None if it can.

    Source: Microsoft, "Naming Files, Paths, and Namespaces". Control characters are let through:
    names with newlines or tabs are kept byte for byte on the systems that have them.
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
        UnsafePath: Absolute, leaving the worktree, or entering a repository's own directory.
    """
    if _PLAIN_PATH.fullmatch(path):
        return
    if path.startswith("/") or any(unsafe(part) for part in path.split("/")):
        raise errors.UnsafePath(ascii(path))


@contextlib.contextmanager
def locked(path: Path, *, timeout: float = 10.0, required: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` (created if missing, never removed).

    The kernel drops a `flock` when its holder dies, so a killed process never blocks.

    Args:
        path: The lock file; it holds the process id of whoever has the lock.
        timeout: Seconds to wait.
        required: Whether to fail where the file system knows no locks, as some over a network.

    Raises:
        Locked: Somebody else still has it after ``timeout``.
        DiskError: The file system knows no locks.
    """
    with disk_errors(path):
        # It is emptied below: it must be no other file, by a link of either sort.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise errors.DiskError(path, "it is not a file of its own")
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
        with contextlib.suppress(OSError):  # on a full disk the holder has no name
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)
