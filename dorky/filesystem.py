"""Try what a file system can keep: git's core.fileMode, ignoreCase, precomposeUnicode."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from dorky import files
from dorky.files import FileSystem

_COMPOSED, _DECOMPOSED = "\u00e9", "e\u0301"


def look(directory: Path) -> FileSystem:
    """Try what a directory's file system can keep, with a few files that are deleted again.

    Raises:
        DiskError: The directory can't be written to.
    """
    path = files.temporary(directory)
    upper = path.with_name(path.name.upper())
    accented = path.with_name(path.name + _COMPOSED)
    other = path.with_name(path.name + _DECOMPOSED)
    made = [path, accented, path.with_name(f"{path.name}-s"), path.with_name(f"{path.name}-l")]
    with files.disk_errors(directory):
        try:
            for name in (path, accented):
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            return FileSystem(
                folds_case=os.path.lexists(upper),
                folds_form=os.path.lexists(other),
                decomposes=other.name in os.listdir(directory),  # noqa: PTH208
                no_modes=not _keeps_modes(path),
                no_symlinks=not _makes(lambda: made[2].symlink_to("nowhere")),
                no_links=not _makes(lambda: made[3].hardlink_to(path)),
            )
        finally:
            for name in made:
                with contextlib.suppress(OSError):
                    name.unlink()


def _keeps_modes(path: Path) -> bool:
    for mode in (0o700, 0o640, 0o600):
        try:
            path.chmod(mode)
        except OSError:
            return False
        if stat.S_IMODE(path.stat().st_mode) != mode:
            return False
    return True


def _makes(make: Callable[[], None]) -> bool:
    try:
        make()
    except OSError:
        return False
    return True
