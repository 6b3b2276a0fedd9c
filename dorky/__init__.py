"""dorky: git for the files git must not hold.

    from pathlib import Path
    from dorky import Repository

    with Repository.find(Path.cwd()) as repo:
        repo.stage([".env"])
        repo.commit("staging keys")
        repo.push()

Everything public is re-exported here and loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dorky.drivers.base import Driver
    from dorky.errors import DorkyError
    from dorky.progress import Progress
    from dorky.repo import Repository

__version__ = "0.1.0"
__all__ = ["DorkyError", "Driver", "Progress", "Repository", "__version__"]

_HOME = {
    "DorkyError": "dorky.errors",
    "Driver": "dorky.drivers.base",
    "Progress": "dorky.progress",
    "Repository": "dorky.repo",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'dorky' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
