"""A sparse checkout of git: files that git took away are not pulled, and never deleted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from dorky import errors, git
from dorky.project import Project
from dorky.worktree.ignore import sparse_rules


def outside(project: Project) -> Callable[[str], bool] | None:
    """Return the function that tells which files a sparse checkout leaves out; None without one."""
    top = git.find(project.root)
    file = git.sparse_file(top) if top else None
    if top is None or file is None:
        return None
    below = project.root.resolve().relative_to(top).as_posix()
    prefix = "" if below == "." else f"{below}/"
    includes = sparse_rules(file)
    return lambda path: not includes(prefix + path)


def left_out(project: Project, missing: Iterable[str]) -> set[str]:
    """Return those of the missing files that a sparse checkout leaves out.

    The index notes them as not pulled: when the checkout is whole again, they must not look
    deleted.
    """
    is_outside = outside(project)
    found = set(filter(is_outside, missing)) if is_outside else set()
    if found:
        with contextlib.suppress(errors.Locked):
            project.index.leave_out(found)
    return found
