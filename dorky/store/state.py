"""The state directory: which part of `.dorky/` this user's key has named.

A git branch can put anything into `.dorky/`, so nothing in it is trusted just for being in it. The
state lies in `.dorky/NAME/`, and NAME ends with a MAC of its beginning: only the owner of the key
can make such a name, and no other name is opened, followed or deleted. NAME is as good as a key
until the directory is deleted: it is never shown (see `redaction.redacted`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dorky import errors, files, ownership
from dorky.config import Config

KEY = "state.key"
"""The file in ``~/.dorky`` that holds the key."""
DATABASE = "dorky.db"

_IGNORE = ".gitignore"

_SIZE = 32
_PURPOSE = "dorky state"
_INFO = b"dorky state key v1"
_BLOCK = 64
_HALF = 32
_NAME = re.compile(r"[0-9a-f]{64}")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


# --- the key --------------------------------------------------------------------------------


@functools.cache
def _hash() -> Callable[[bytes], Any]:
    # As in the standard library's `random`: hashlib loads OpenSSL, which takes longer than status.
    try:
        from _sha2 import sha256  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        try:
            from _sha256 import sha256  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            from hashlib import sha256
    made: Callable[[bytes], Any] = sha256
    return made


def _sha256(data: bytes) -> bytes:
    digest: bytes = _hash()(data).digest()
    return digest


def _hmac(key: bytes, data: bytes) -> bytes:
    """Return the HMAC-SHA256 (RFC 2104) under a key of at most a block."""
    key = (key if len(key) <= _BLOCK else _sha256(key)).ljust(_BLOCK, b"\0")
    inner = _sha256(bytes(byte ^ 0x36 for byte in key) + data)
    return _sha256(bytes(byte ^ 0x5C for byte in key) + inner)


def mac(key: bytes, purpose: str, data: bytes) -> bytes:
    """Return the 32 bytes that prove that somebody with the key has seen ``data``.

    Args:
        key: One of `keys`.
        purpose: The kind of data, so that one kind never passes for another; without NUL.
        data: Any bytes.
    """
    return _hmac(key, purpose.encode() + b"\0" + data)


def verifies(found: list[bytes], purpose: str, data: bytes, proof: bytes) -> bool:
    """Return whether ``proof`` is the MAC of ``data`` under one of the keys."""
    # Constant time is not needed: an attacker can't trigger enough comparisons.
    return any(mac(key, purpose, data) == proof for key in found)


def keys(config: Config) -> list[bytes]:
    """Return the keys that may authenticate local files, the preferred one first.

    Raises:
        SetupError: The file with the key is not as this user made it.
    """
    found = [_derived(config), _saved(config)]
    return [key for key in found if key]


def make_key(config: Config) -> bytes:
    """Return the key that authenticates new files; make it if there is none.

    Raises:
        SetupError: There is no identity in the environment, and no home to keep a key in.
    """
    if key := _derived(config) or _saved(config):
        return key
    try:
        directory = config.home
        with files.disk_errors(directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with alone(held):
            if key := _saved(config):
                return key
            key = os.urandom(_SIZE)
            files.write_atomic(directory / KEY, key, mode=0o600)
            if os.geteuid() == 0:  # by sudo, in the home of another user, who needs the key, too
                home = directory.stat()
                os.chown(directory / KEY, home.st_uid, home.st_gid)
            return key
    except (errors.DiskError, errors.UnreadableFile, errors.SetupError) as error:
        raise errors.NoStateKey(error.message) from error


def _derived(config: Config) -> bytes | None:
    """Return the key derived from the identity in the environment (HKDF, RFC 5869)."""
    text = config.given_identity
    lines = (line.strip() for line in text.splitlines())
    secret = "\n".join(line for line in lines if line and not line.startswith("#"))
    if not secret:
        return None
    return _hmac(_hmac(b"", secret.encode(errors="surrogateescape")), _INFO + b"\1")


def _saved(config: Config) -> bytes | None:
    """Return the key in the user's home; None if there is none, or no home."""
    try:
        path = config.home / KEY
    except errors.SetupError:
        return None
    try:
        fd = os.open(path, _FILE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise errors.UntrustedStateKey(path, _reason(error)) from None
    try:
        found = os.fstat(fd)
        if why := foreign(found) or ("it is a directory" if stat.S_ISDIR(found.st_mode) else ""):
            raise errors.UntrustedStateKey(path, why)
        _tighten(fd, 0o600)
        with files.disk_errors(path):
            key = os.read(fd, _SIZE + 1)
    finally:
        os.close(fd)
    if len(key) != _SIZE:
        raise errors.UntrustedStateKey(path, f"it has not {_SIZE} bytes")
    return key


# --- ownership ------------------------------------------------------------------------------


def foreign(found: os.stat_result, *, links: bool = False) -> str:
    """Return why a file or directory can't be one that dorky made for this user; empty if it can.

    Args:
        found: The stat of the file itself, links not followed.
        links: Whether a file may have several names.
    """
    if stat.S_ISLNK(found.st_mode):
        return "it is a symbolic link"
    if found.st_uid not in ownership.users(os.environ):
        return "it belongs to another user"
    if not stat.S_ISDIR(found.st_mode):
        if not stat.S_ISREG(found.st_mode):
            return "it is not a regular file"
        if found.st_nlink > 1 and not links:
            return "it has another name elsewhere (a hard link)"
    return ""


def _reason(error: OSError) -> str:
    if error.errno in {errno.ELOOP, errno.EMLINK}:
        return "it is a symbolic link"
    return error.strerror or str(error)


def _tighten(fd: int, mode: int) -> None:
    """Take away other users' permissions on a file or directory of dorky's."""
    if os.fstat(fd).st_mode & 0o7777 & ~mode:
        with contextlib.suppress(OSError):  # the file system may be mounted read-only
            os.fchmod(fd, mode)


@contextlib.contextmanager
def alone(held: int) -> Iterator[None]:
    """Lock an open directory against other commands that lock it, then close it."""
    with files.closing(held):
        # NFS locks no directory: commands that begin at the same moment are not kept apart.
        with contextlib.suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


# --- the directory --------------------------------------------------------------------------


def _opened(base: Path) -> int | None:
    """Open `.dorky/`; return None if there is none.

    Raises:
        UntrustedState: `.dorky/` is a link, no directory, or another user's.
    """
    try:
        fd = os.open(base, _DIRECTORY)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.EMLINK, errno.ENOTDIR}:
            with files.disk_errors(base):
                raise
        if not os.path.lexists(base):
            return None  # the project's directory is not a directory
        link = base.is_symlink()
        why = "it is a symbolic link" if link else "it is not a directory"
        raise errors.UntrustedState(base, why) from None
    if why := foreign(os.fstat(fd)):
        os.close(fd)
        raise errors.UntrustedState(base, why)
    return fd


def check_outside(base: Path, root: Path) -> None:
    """Check that a directory outside of the project may hold its state.

    Raises:
        BadStateDirectory: It may not.
    """
    if why := _unfit(base, root):
        raise errors.BadStateDirectory(base, why)


def _unfit(base: Path, root: Path) -> str:
    if not base.is_absolute() or ".." in base.parts:
        return "it is not an absolute path"
    if base.resolve().is_relative_to(root.resolve()):
        return "it is inside the project"
    try:
        fd = os.open(base, _DIRECTORY)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return "it is a symbolic link" if base.is_symlink() else _reason(error)
    try:
        found = os.fstat(fd)
        others = {name for name in os.listdir(fd) if not _NAME.fullmatch(name)}  # noqa: PTH208
    finally:
        os.close(fd)
    if found.st_mode & 0o077:
        return foreign(found) or f"other users may enter it (mode {found.st_mode & 0o7777:04o})"
    return foreign(found) or ("it holds other files" if others - {_IGNORE} else "")


def _candidates(fd: int) -> list[str]:
    """Return the directories in `.dorky/` that are named like a state."""
    found = []
    with os.scandir(fd) as listing:
        for entry in listing:
            if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                found.append(entry.name)
    return sorted(found)


def _is_ours(name: str, found: list[bytes]) -> bool:
    """Return whether one of the keys has made a name."""
    nonce, proof = name[:_HALF], name[_HALF:]
    return any(mac(key, _PURPOSE, nonce.encode()).hex()[:_HALF] == proof for key in found)


def find(base: Path, config: Config) -> Path | None:
    """Return the state of this user in a project's `.dorky/`; None if there is none.

    Raises:
        UntrustedState: `.dorky/` is a link, no directory, or another user's; or it holds two
            states.
    """
    fd = _opened(base)
    if fd is None:
        return None
    try:
        with files.disk_errors(base):
            return _found(fd, base, config)
    finally:
        os.close(fd)


def _found(fd: int, base: Path, config: Config) -> Path | None:
    names = _candidates(fd)
    known = keys(config) if names else []
    ours = [name for name in names if _is_ours(name, known)]
    if not ours:
        return None
    if len(ours) > 1:
        raise errors.UntrustedState(base, f"it holds {len(ours)} states of yours")
    if foreign(os.stat(ours[0], dir_fd=fd, follow_symlinks=False)):
        # Named with this user's key, so made by dorky as another user: by sudo, in most cases.
        raise errors.UntrustedState(base, "another user owns the state in it", left_by_sudo=base)
    held = os.open(ours[0], _DIRECTORY, dir_fd=fd)
    _tighten(held, 0o700)
    os.close(held)
    _tighten(fd, 0o700)
    return base / ours[0]


def strangers(base: Path, config: Config) -> list[str]:
    """Return the names in `.dorky/` that look like state made with another key.

    Raises:
        UntrustedState: `.dorky/` is a link, no directory, or another user's.
    """
    fd = _opened(base)
    if fd is None:
        return []
    try:
        with files.disk_errors(base):
            names = _candidates(fd)
            known = keys(config) if names else []
            return [name for name in names if not _is_ours(name, known)]
    finally:
        os.close(fd)


def has_old_layout(base: Path) -> bool:
    """Return whether a dorky from before the first release kept its state in ``base``."""
    return not base.is_symlink() and (base / DATABASE).is_file()


def make(base: Path, config: Config) -> Path:
    """Make an empty state of this user, unless there is one; return its directory.

    Args:
        base: The project's `.dorky/`, made if need be.
        config: Leads to the key.

    Raises:
        UntrustedState: `.dorky/` is a link, no directory, or another user's.
        NoStateKey: There is no key, and no place for one.
    """
    key = make_key(config)
    with files.disk_errors(base):
        if not base.is_symlink():
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = _opened(base)
        assert held is not None
        with alone(held):
            if found := _found(held, base, config):
                return found
            name = _name(key)
            _tighten(held, 0o700)
            _ignore(held)
            os.mkdir(name, 0o700, dir_fd=held)
            inside = os.open(name, _DIRECTORY, dir_fd=held)
            try:
                _ignore(inside)
            finally:
                os.close(inside)
            files.sync_directory(base)
            return base / name


def take(base: Path, name: str, config: Config) -> Path:
    """Rename a state made with another key, so that it is this user's; return its directory."""
    key = make_key(config)
    with files.disk_errors(base):
        held = _opened(base)
        if held is None:
            raise errors.UntrustedState(base, "it is gone")
        with alone(held):
            inside = os.open(name, _DIRECTORY, dir_fd=held)
            _tighten(inside, 0o700)
            os.close(inside)
            _tighten(held, 0o700)
            taken = _name(key)
            os.rename(name, taken, src_dir_fd=held, dst_dir_fd=held)
            files.sync_directory(base)
            return base / taken


def delete(found: Path) -> None:
    """Delete a state that `find` or `make` returned, and `.dorky/` if nothing else is in it."""
    import shutil

    base = found.parent
    with files.disk_errors(base):
        held = _opened(base)
        if held is None:
            return
        with alone(held):
            shutil.rmtree(found)  # follows no link
            if set(os.listdir(held)) <= {_IGNORE}:  # noqa: PTH208
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(_IGNORE, dir_fd=held)
                with contextlib.suppress(OSError):
                    base.rmdir()


def _name(key: bytes) -> str:
    nonce = os.urandom(_HALF // 2).hex()
    return nonce + mac(key, _PURPOSE, nonce.encode()).hex()[:_HALF]


def _ignore(held: int) -> None:
    """Make git ignore what is in an open directory.

    The state has a rule of its own, because a branch can bring another `.dorky/.gitignore`.
    """
    try:
        fd = os.open(
            _IGNORE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=held
        )
    except FileExistsError:
        return  # the file is the user's, or from a branch
    try:
        os.write(fd, b"*\n")
        os.fsync(fd)
    finally:
        os.close(fd)
