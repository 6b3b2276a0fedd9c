"""A file system that behaves as other people's do: a FUSE server, in Python, for root on Linux.

It passes everything through to a directory, except for its quirks:

- ``ci``: names compare without regard to case; ``nf``: without regard to Unicode's normal form
- ``nfd``: as ``nf``, and names are kept decomposed, as on HFS+
- ``refuses-modes``: chmod and links are refused, as on FAT; every mode is 0755
- ``ignores-modes``: chmod is accepted and ignored, as on WSL; every mode is 0755
- ``nolink``: hard links are refused
- ``bigino``: inodes are above 2^63; ``inoflip``: a file's inode changes with each look
- ``coarse``: times are even seconds; ``far``: times are beyond 2262; ``old``: before 1970
- ``nodirsync``: fsync of a directory is refused with EINVAL
- ``noflock``: flock is refused; ``nolocks``: every lock is
- ``unreadable``: files named ``busy`` can't be opened

The protocol is the kernel's (include/uapi/linux/fuse.h, version 7.31).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

_HEADER = struct.Struct("<IIQQIIII")
_ATTR = struct.Struct("<QQQqqqIIIIIIIIII")
_SETATTR = struct.Struct("<IIQQQqqqIIIIIIII")
_FLOCK_LOCKS, _POSIX_LOCKS, _BIG_WRITES = 1 << 10, 1 << 1, 1 << 5
_FAR = 10_000_000_000
_WRITE = 128 << 10


def _name(data: bytes) -> str:
    return os.fsdecode(data.split(b"\0")[0])


class _Server:
    def __init__(self, backing: str, quirks: set[str]) -> None:
        self.quirks = quirks
        self.paths = {1: backing}
        self.nodes: dict[tuple[int, int], int] = {}
        self.open: dict[int, int] = {}  # descriptors, with their nodes
        self.looks = 0

    def serve(self, device: int) -> None:
        while True:
            try:
                message = os.read(device, _WRITE + 4096)
            except OSError as error:
                if error.errno == errno.ENODEV:  # unmounted
                    return
                if error.errno in {errno.ENOENT, errno.EINTR}:
                    continue
                raise
            _, opcode, unique, node, *_ = _HEADER.unpack_from(message)
            handler = getattr(self, f"op{opcode}", None)
            error, answer = 0, b""
            try:
                if handler is None:
                    error = errno.ENOSYS
                else:
                    answer = handler(node, message[_HEADER.size :])
            except OSError as raised:
                error = raised.errno or errno.EIO
            if answer is not None:
                body = b"" if error else answer
                with contextlib.suppress(FileNotFoundError):  # interrupted
                    os.write(device, struct.pack("<IiQ", 16 + len(body), -error, unique) + body)

    # --- names and attributes ------------------------------------------------------------

    def key(self, name: str) -> str:
        if self.quirks & {"nf", "nfd"}:
            name = unicodedata.normalize("NFD", name)
        return name.casefold() if "ci" in self.quirks else name

    def at(self, node: int, name: str) -> str:
        directory = self.paths[node]
        path = f"{directory}/{name}"
        if self.quirks & {"ci", "nf", "nfd"} and not os.path.lexists(path):
            for other in os.listdir(directory):  # noqa: PTH208
                if self.key(other) == self.key(name):
                    return f"{directory}/{other}"
            if "nfd" in self.quirks:
                return f"{directory}/{unicodedata.normalize('NFD', name)}"
        return path

    def stat(self, node: int) -> os.stat_result:
        for descriptor, owner in self.open.items():
            if owner == node:
                return os.fstat(descriptor)
        return os.lstat(self.paths[node])

    def attr(self, found: os.stat_result) -> bytes:
        mode, inode, links = found.st_mode, found.st_ino, found.st_nlink
        if "bigino" in self.quirks:
            inode |= 1 << 63
        if "inoflip" in self.quirks:
            self.looks += 1
            inode = 1000 + self.looks
        if self.quirks & {"refuses-modes", "ignores-modes"}:
            mode = stat.S_IFMT(mode) | 0o755
        if "refuses-modes" in self.quirks:
            links = 1
        times = [found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns]
        if "coarse" in self.quirks:
            times = [moment // 2_000_000_000 * 2_000_000_000 for moment in times]
        if "far" in self.quirks:
            times = [moment + _FAR * 10**9 for moment in times]
        if "old" in self.quirks:
            times = [moment - 2_000_000_000 * 10**9 for moment in times]
        seconds = [moment // 10**9 for moment in times]
        rest = [moment % 10**9 for moment in times]
        owner = (found.st_uid, found.st_gid, found.st_rdev, 4096, 0)
        blocks = found.st_blocks
        return _ATTR.pack(inode, found.st_size, blocks, *seconds, *rest, mode, links, *owner)

    def entry(self, path: str) -> bytes:
        found = os.lstat(path)
        key = (found.st_dev, found.st_ino)
        node = self.nodes.setdefault(key, len(self.nodes) + 2)
        self.paths[node] = path
        return struct.pack("<QQQQII", node, 0, 0, 0, 0, 0) + self.attr(found)

    def opened(self, descriptor: int, node: int) -> bytes:
        self.open[descriptor] = node
        return struct.pack("<QII", descriptor, 0, 0)

    # --- operations, by number -----------------------------------------------------------

    def op1(self, node: int, data: bytes) -> bytes:  # LOOKUP
        return self.entry(self.at(node, _name(data)))

    def op2(self, _node: int, _data: bytes) -> None:  # FORGET
        return None

    op42 = op36 = op2  # BATCH_FORGET, INTERRUPT

    def op3(self, node: int, _data: bytes) -> bytes:  # GETATTR
        return struct.pack("<QII", 0, 0, 0) + self.attr(self.stat(node))

    def op4(self, node: int, data: bytes) -> bytes:  # SETATTR
        values = _SETATTR.unpack_from(data)
        valid, size, (atime, mtime), mode = values[0], values[3], values[5:7], values[11]
        path = self.paths[node]
        held = next((fd for fd, owner in self.open.items() if owner == node), None)
        target: Any = path if held is None else held
        if valid & 7:
            if "refuses-modes" in self.quirks:
                raise OSError(errno.EPERM, "")
            if valid & 1 and "ignores-modes" not in self.quirks:
                os.chmod(target, mode & 0o7777)  # noqa: PTH101
        if valid & 8:
            os.truncate(target, size)
        if valid & 48:
            now = time.time_ns()
            old = self.stat(node)
            times = [old.st_atime_ns, old.st_mtime_ns]
            if valid & 16:
                times[0] = now if valid & 128 else atime * 10**9 + values[8]
            if valid & 32:
                times[1] = now if valid & 256 else mtime * 10**9 + values[9]
            os.utime(path, ns=(times[0], times[1]), follow_symlinks=False)
        return self.op3(node, b"")

    def op5(self, node: int, _data: bytes) -> bytes:  # READLINK
        return os.fsencode(os.readlink(self.paths[node]))  # noqa: PTH115

    def op6(self, node: int, data: bytes) -> bytes:  # SYMLINK
        if "refuses-modes" in self.quirks:
            raise OSError(errno.EPERM, "")
        name, target = data.split(b"\0")[:2]
        path = self.at(node, os.fsdecode(name))
        Path(path).symlink_to(os.fsdecode(target))
        return self.entry(path)

    def op8(self, node: int, data: bytes) -> bytes:  # MKNOD
        mode, rdev, _umask, _ = struct.unpack_from("<IIII", data)
        path = self.at(node, _name(data[16:]))
        os.mknod(path, mode, rdev)
        return self.entry(path)

    def op9(self, node: int, data: bytes) -> bytes:  # MKDIR
        path = self.at(node, _name(data[8:]))
        Path(path).mkdir(mode=struct.unpack_from("<I", data)[0])
        return self.entry(path)

    def op10(self, node: int, data: bytes) -> bytes:  # UNLINK
        Path(self.at(node, _name(data))).unlink()
        return b""

    def op11(self, node: int, data: bytes) -> bytes:  # RMDIR
        Path(self.at(node, _name(data))).rmdir()
        return b""

    def op12(self, node: int, data: bytes, start: int = 8) -> bytes:  # RENAME
        into = struct.unpack_from("<Q", data)[0]
        old, new = data[start:].split(b"\0")[:2]
        source, target = self.at(node, os.fsdecode(old)), self.at(into, os.fsdecode(new))
        Path(source).rename(target)
        for known, path in self.paths.items():
            if path == source or path.startswith(f"{source}/"):
                self.paths[known] = target + path[len(source) :]
        return b""

    def op45(self, node: int, data: bytes) -> bytes:  # RENAME2
        if struct.unpack_from("<QI", data)[1]:
            raise OSError(errno.EINVAL, "")
        return self.op12(node, data, 16)

    def op13(self, node: int, data: bytes) -> bytes:  # LINK
        if self.quirks & {"refuses-modes", "nolink"}:
            raise OSError(errno.EPERM, "")
        path = self.at(node, _name(data[8:]))
        os.link(self.paths[struct.unpack_from("<Q", data)[0]], path)
        return self.entry(path)

    def op14(self, node: int, data: bytes) -> bytes:  # OPEN
        path = self.paths[node]
        if "unreadable" in self.quirks and path.endswith("/busy"):
            raise OSError(errno.EBUSY, "")
        flags = struct.unpack_from("<I", data)[0] & ~(os.O_NOFOLLOW | os.O_APPEND)
        return self.opened(os.open(path, flags), node)

    op27 = op14  # OPENDIR

    def op15(self, _node: int, data: bytes) -> bytes:  # READ
        descriptor, offset, size = struct.unpack_from("<QQI", data)
        return os.pread(descriptor, size, offset)

    def op16(self, _node: int, data: bytes) -> bytes:  # WRITE
        descriptor, offset, size = struct.unpack_from("<QQI", data)
        return struct.pack("<II", os.pwrite(descriptor, data[40 : 40 + size], offset), 0)

    def op17(self, node: int, _data: bytes) -> bytes:  # STATFS
        found = os.statvfs(self.paths[node])
        counts = (found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree)
        return struct.pack(
            "<5Q10I", *counts, found.f_bsize, found.f_namemax, found.f_frsize, *[0] * 7
        )

    def op18(self, _node: int, data: bytes) -> bytes:  # RELEASE
        descriptor = struct.unpack_from("<Q", data)[0]
        os.close(descriptor)
        del self.open[descriptor]
        return b""

    op29 = op18  # RELEASEDIR

    def op20(self, _node: int, _data: bytes) -> bytes:  # FSYNC
        return b""

    op25 = op34 = op38 = op20  # FLUSH, ACCESS, DESTROY

    def op30(self, _node: int, _data: bytes) -> bytes:  # FSYNCDIR
        if "nodirsync" in self.quirks:
            raise OSError(errno.EINVAL, "")
        return b""

    def op26(self, _node: int, _data: bytes) -> bytes:  # INIT
        flags = _BIG_WRITES
        if self.quirks & {"noflock", "nolocks"}:
            flags |= _FLOCK_LOCKS
        if "nolocks" in self.quirks:
            flags |= _POSIX_LOCKS
        return struct.pack("<IIIIHHIIHHI7I", 7, 31, 0, flags, 12, 9, _WRITE, 1, 0, 0, 0, *[0] * 7)

    def op28(self, node: int, data: bytes) -> bytes:  # READDIR
        _, offset, size = struct.unpack_from("<QQI", data)
        names = [".", "..", *sorted(os.listdir(self.paths[node]))]  # noqa: PTH208
        listing = b""
        for number, name in enumerate(names[offset:], offset + 1):
            raw = os.fsencode(name)
            kind = 0
            with contextlib.suppress(OSError):
                kind = stat.S_IFMT(os.lstat(f"{self.paths[node]}/{name}").st_mode) >> 12
            item = struct.pack("<QQII", number, number, len(raw), kind) + raw
            item += b"\0" * (-len(item) % 8)
            if len(listing) + len(item) > size:
                break
            listing += item
        return listing

    def op31(self, _node: int, _data: bytes) -> bytes:  # GETLK
        raise OSError(errno.ENOLCK, "")

    op32 = op33 = op31  # SETLK, SETLKW

    def op35(self, node: int, data: bytes) -> bytes:  # CREATE
        flags, mode = struct.unpack_from("<II", data)
        path = self.at(node, _name(data[16:]))
        descriptor = os.open(path, flags & ~(os.O_NOFOLLOW | os.O_APPEND) | os.O_CREAT, mode)
        entry = self.entry(path)
        return entry + self.opened(descriptor, struct.unpack_from("<Q", entry)[0])


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _skip(reason: str) -> NoReturn:
    import pytest

    pytest.skip(reason)


@contextlib.contextmanager
def mounted(directory: Path, *quirks: str) -> Iterator[Path]:
    """Mount a file system with quirks; skip the test where the kernel lets nobody do so."""
    if os.geteuid() or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        _skip("the kernel has no FUSE, or the tests do not run as root")
    backing, mount = directory / "backing", directory / "mount"
    backing.mkdir(parents=True)
    mount.mkdir()
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40755,user_id=0,group_id=0,allow_other,default_permissions"
    if _libc().mount(b"quirky", os.fsencode(mount), b"fuse", 6, options.encode()):
        reason = os.strerror(ctypes.get_errno())
        os.close(device)
        _skip(f"the kernel mounts no FUSE: {reason}")
    # Without site-packages, which it does not need, it starts five times as fast.
    code = [sys.executable, "-S", __file__, str(backing), str(device), *quirks]
    server = subprocess.Popen(code, pass_fds=[device])
    os.close(device)
    try:
        yield mount
    finally:
        try:
            _unmount(mount)
            server.wait(10)
        finally:
            server.kill()
            server.wait()


def _unmount(target: Path) -> None:
    if _libc().umount2(os.fsencode(target), 2):  # MNT_DETACH
        raise OSError(ctypes.get_errno(), f"{target} stays mounted")


_BIND, _REMOUNT, _READ_ONLY = 4096, 32, 1


def _mount(source: str, target: Path, kind: str, flags: int, options: str = "") -> None:
    values = [os.fsencode(text) for text in (source, target, kind)]
    if _libc().mount(*values, flags, options.encode()):
        _skip(f"can't mount: {os.strerror(ctypes.get_errno())}")


@contextlib.contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Make a directory read-only, as a mount in a container is."""
    _mount(str(directory), directory, "none", _BIND)
    try:
        _mount(str(directory), directory, "none", _BIND | _REMOUNT | _READ_ONLY)
        yield
    finally:
        _unmount(directory)


@contextlib.contextmanager
def small(directory: Path, size: int) -> Iterator[Path]:
    """Mount a disk of a few bytes."""
    directory.mkdir()
    _mount("none", directory, "tmpfs", 0, f"size={size},mode=700")
    try:
        yield directory
    finally:
        _unmount(directory)


def fill(disk: Path) -> Path:
    """Leave no byte of a disk free; return the file that takes them."""
    path = disk / "full"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return path


if __name__ == "__main__":
    os.umask(0)
    _Server(sys.argv[1], set(sys.argv[3:])).serve(int(sys.argv[2]))
