"""The check before a commit of git, which must not take what dorky keeps, or other secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dorky import errors, git, gitignore
from dorky.commands.status import is_public, status
from dorky.config import RC
from dorky.paths import looks_secret
from dorky.project import Project
from dorky.results import PreCommit, Status


def check(start: Path) -> tuple[PreCommit, dict[str, Status]]:
    """Check what git is about to commit, in all projects of a git repository.

    A secret that is not to be kept by dorky either is listed in `.dorkyignore`.

    Args:
        start: A directory in the repository, or in a project.

    Returns:
        The findings, and the status of each project that has changes.

    Raises:
        NotARepository: There is no project.
        NotSetUp: The project that holds ``start`` has not been set up.
        SetupError: git is not installed, or refuses the repository.
    """
    start = start.resolve()
    top = git.find(start)
    roots = sorted(_projects(start, top))
    if not roots:
        raise errors.NotARepository(start)
    coming = git.about_to_commit(top) if top else []
    kept: list[str] = []
    secrets: list[str] = []
    dirty: dict[str, Status] = {}
    for root in roots:
        below = [path for path in coming if _home(path, roots) == root]
        with Project(root) as project:
            for path in below:
                name = path.relative_to(root).as_posix()
                if _is_kept(project, top or root, name):
                    kept.append(_shown(path, top))
                elif _is_secret(project, name):
                    secrets.append(_shown(path, top))
            if not project.is_set_up and not start.is_relative_to(root):
                continue  # another team's project in the same repository
            state = status(project)
            if state.tracked_by_git or not state.clean:
                dirty[_shown(root, top)] = state
    found = PreCommit(kept=tuple(kept), secrets=tuple(secrets), uncommitted=tuple(dirty))
    return found, dirty


def _projects(start: Path, top: Path | None) -> Iterator[Path]:
    """Yield the roots of the projects: the one that holds ``start``, and those in git's index."""
    nearest = Project.root_above(start)
    if nearest:
        yield nearest
    for root in git.holding(top, RC) if top else ():
        if root != nearest and (root / RC).is_file():
            yield root


def _home(path: Path, roots: list[Path]) -> Path | None:
    """Return the innermost of the projects that hold a path."""
    return max(filter(path.is_relative_to, roots), default=None, key=lambda root: len(root.parts))


def _shown(path: Path, top: Path | None) -> str:
    return path.relative_to(top).as_posix() if top else str(path)


def _is_kept(project: Project, top: Path, name: str) -> bool:
    if project.is_set_up and project.index.rows([name]):
        return True
    # A clone in which nothing was pulled yet still has the lines.
    return gitignore.is_listed(top, project.root, project.root / name)


def _is_secret(project: Project, name: str) -> bool:
    return (
        looks_secret(name.rpartition("/")[2])
        and not is_public(project, name)
        and not project.ignore.ignored(name)
    )
