"""What disks hold and do in the tests: trees of files, permissions that bind root, full disks."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from machines import files

from dorky import errors
from dorky.worktree.worktree import Writing

# --- trees ----------------------------------------------------------------------------------

Tree = Mapping[str, tuple[int, bytes]]
"""By path: type and permission bits, and content or a link's target; as `machines.files` gives."""


def plant(directory: Path, tree: Tree) -> None:
    """Make a directory hold just these files, beside dorky's own."""
    for path in files(directory).keys() - tree.keys():
        (directory / path).unlink()
    for parent, _, _ in os.walk(directory, topdown=False):
        if ".dorky" not in Path(parent).relative_to(directory).parts and parent != str(directory):
            with contextlib.suppress(OSError):
                Path(parent).rmdir()
    for path, (mode, content) in tree.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if stat.S_ISLNK(mode):
            target.symlink_to(os.fsdecode(content))
        else:
            target.write_bytes(content)
            target.chmod(mode)


def file(content: bytes | str = b"", mode: int = 0o644) -> tuple[int, bytes]:
    """A regular file, for a `Tree`."""
    return stat.S_IFREG | mode, content.encode() if isinstance(content, str) else content


def link(target: bytes | str) -> tuple[int, bytes]:
    """A symbolic link, for a `Tree`."""
    return stat.S_IFLNK, target.encode() if isinstance(target, str) else target


def _possible(tree: Tree) -> bool:
    """Whether no file lies where another needs a directory."""
    return not any(
        path[:end] in tree for path in tree for end in range(len(path)) if path[end] == "/"
    )


# Few names, so that files meet directories and links of the same name in other trees. None differ
# from another in case alone: such trees are refused.
NAMES = [
    "a",
    "b",
    "c",
    ".env",
    "two words",
    "new\nline",
    "tab\t",
    "é",
    "e\u0301",
    "日本",
    "😀",
    "עברית",
]

contents = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"x", b"y", b"KEY=1\n", b"KEY=2\n"]),
    st.integers(0, 3).map(lambda n: bytes([n]) * 300_000),  # more than one chunk
)
regular = st.builds(file, contents, st.sampled_from([0o600, 0o644, 0o755, 0o400, 0o700]))
links = st.sampled_from(["a", "nowhere", "../../x", "/etc/passwd", ".", "é\n", "x" * 300]).map(link)
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
trees: st.SearchStrategy[Tree] = st.dictionaries(
    paths, st.one_of(regular, regular, links), max_size=6
).filter(_possible)


def difference(old: Tree, new: Tree) -> list[tuple[str, str]]:
    """What `Change` records say of going from one tree to another."""
    found = [(path, "added") for path in new.keys() - old.keys()]
    found += [(path, "deleted") for path in old.keys() - new.keys()]
    found += [(path, "modified") for path in old.keys() & new.keys() if old[path] != new[path]]
    return sorted(found)


# --- permissions ----------------------------------------------------------------------------

_DAC_OVERRIDE_AND_READ_SEARCH = 1 << 1 | 1 << 2
_CAPABILITIES_V3 = 0x20080522


@contextlib.contextmanager
def unprivileged(scratch: Path) -> Iterator[None]:
    """Make permission bits hold for root, too: without them, a file of mode 000 is readable.

    Args:
        scratch: Where to try whether they do.
    """
    if os.geteuid():
        yield
        return
    if sys.platform != "linux":
        pytest.skip("root can't give up its powers for a while here")
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_V3, 0)
    before, now = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    libc.capget(header, before)
    libc.capget(header, now)
    now[0] &= ~_DAC_OVERRIDE_AND_READ_SEARCH
    if libc.capset(header, now):
        pytest.skip("may not give up capabilities")
    try:
        closed = scratch / "closed"
        closed.touch(0o000)
        with contextlib.suppress(PermissionError), closed.open():
            pytest.skip("permission bits don't hold here")
        closed.unlink()
        yield
    finally:
        libc.capset(header, before)


# --- full disks -----------------------------------------------------------------------------


_BALLAST = """
import os, sys
from pathlib import Path

disk = Path(sys.argv[1])
ballast = disk / "ballast"


def leave(free):
    ballast.unlink(missing_ok=True)
    stat = os.statvfs(disk)
    ballast.write_bytes(bytes(max(0, stat.f_bavail * stat.f_frsize - free)))
"""


def on_a_small_disk(disk: Path, script: str, *arguments: object, size: str = "4M") -> None:
    """Run a Python script while a file system of its own, of few bytes, lies at ``disk``.

    The script finds ``disk``, and ``leave(free)``, which fills it but for so many bytes.

    It is mounted in a namespace that dies with the script, which needs no privileges where the
    system allows user namespaces.
    """
    unshare = ["unshare", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("no user namespaces here")
    mount = f'mount -t tmpfs -o size={size},mode=700 none "$0" && exec "$@"'
    done = subprocess.run(
        [
            *unshare,
            "sh",
            "-c",
            mount,
            disk,
            sys.executable,
            "-c",
            _BALLAST + script,
            disk,
            *map(str, arguments),
        ],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Stopped:
    """Lets some files be put into the worktree, and then no more."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, error: BaseException | None, *, after: int
    ) -> None:
        left = after
        error = error or errors.DiskFull("here")

        def install(self: Writing, *arguments: Any, **options: Any) -> os.stat_result:
            nonlocal left
            left -= 1
            if left < 0:
                raise error
            return real(self, *arguments, **options)

        real = Writing.install
        monkeypatch.setattr(Writing, "install", install)
