"""Paths as the user types them: relative to the current directory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dorky.project import Project


def repository_path(project: Project, typed: str) -> str:
    """Return the repository path of what was typed; ``.`` for the root itself.

    Raises:
        UsageError: The path is empty, or outside the project.
    """
    return project.worktree.relative(typed, within=Path.cwd()) or "."


def repository_paths(project: Project, typed: Iterable[str]) -> list[str]:
    """Return the repository paths of what was typed (see `repository_path`)."""
    return [repository_path(project, path) for path in typed]


def as_typed(path: str) -> str:
    """Return a repository path of the current project as it is typed in the current directory."""
    from dorky.project import Project

    here = Path.cwd()
    root = Project.root_above(here)
    return path if root is None else os.path.relpath(root / path, here)
