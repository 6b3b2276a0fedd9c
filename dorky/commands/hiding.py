"""Hide kept files from git, and find those that git sees nevertheless."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from dorky import files, git, gitignore
from dorky.config import RC
from dorky.paths import parents
from dorky.project import Project
from dorky.store.index import Sight
from dorky.store.objects import batches

_MANY = 100


def hide(project: Project, paths: Iterable[str], named: Collection[str] = ()) -> list[str]:
    """Make git ignore files that dorky keeps, or is about to keep or to write.

    A directory is ignored as a whole if it was named, or if it holds many files, unless it holds
    any that dorky does not keep.

    Args:
        project: The project.
        paths: Repository paths of files that git does not track.
        named: Directories that the user has named.

    Returns:
        The lines that were added to `.gitignore`, sorted.

    Raises:
        GitDoesNotIgnore: A rule of git's un-ignores a path; the lines stay.
        SetupError: git is not installed, or refuses the repository; or `.gitignore` is a link.
    """
    top = git.find(project.root)
    wanted = sorted(paths)
    if top is None or not wanted:
        return []
    root = os.path.join(project.root, "")  # noqa: PTH118
    own = gitignore.own_lines(top, project.root)
    left: list[Path] = []
    for batch in batches(wanted, git.AT_ONCE):
        left += git.not_ignored(top, [Path(root + path) for path in batch], own)
    # The user's own rules cover the rest. On another branch they may not.
    exposed = {str(path).removeprefix(root) for path in left}
    covered = [path for path in wanted if path not in exposed]
    directories = _whole(project, wanted, named)
    shared = {above for path in exposed for above in parents(path) if above in directories}
    if covered:
        few = [path for path in covered if directories.isdisjoint(parents(path))]
        gitignore.ignore(
            project.root,
            [project.root / path for path in few] if len(few) <= _MANY else [],
            [project.root / directory for directory in directories - shared],
            shared=False,
        )
    singles, wholes = sorted(left), [project.root / directory for directory in shared]
    if not (project.root / RC).exists():
        # A branch from before dorky: git could not leave it with a `.gitignore` that is ours.
        gitignore.ignore(project.root, singles, wholes, shared=False)
        if not git.not_ignored(top, singles):
            return []
    return gitignore.ignore(project.root, singles, wholes)


def _whole(project: Project, paths: Iterable[str], named: Collection[str]) -> set[str]:
    """Return the outermost directories that git can ignore as a whole."""
    counts = Counter(above for path in paths for above in parents(path))
    candidates = {path for path, count in counts.items() if count > _MANY or path in named}
    if not candidates:
        return set()
    in_git = {above for path in git.tracked_below(project.root) for above in parents(path)}
    kept: set[str] | None = None
    found: set[str] = set()
    for directory in sorted(candidates - in_git):
        if not found.isdisjoint(parents(directory)):
            continue
        kept = kept if kept is not None else {*project.index.proofs(), *paths}
        nested: list[str] = []
        below = project.worktree.walk(project.ignore, directory, nested)
        if all(item.path in kept for item in below) and not nested:
            found.add(directory)
    return found


def look(project: Project, kept: Collection[str]) -> Sight:
    """Ask git which kept files it sees, and read which directories are kept as a whole.

    Raises:
        SetupError: git is not installed, or refuses the repository.
        DubiousOwnership: Another user owns the repository.
    """
    top = git.find(project.root)
    if top is None:
        return Sight()
    root = os.path.join(project.root, "")  # noqa: PTH118
    above = sorted({directory for path in kept for directory in parents(path)})
    deep = (Path(root + directory, gitignore.FILE) for directory in above)
    # The stamps come first: what changes while git is asked makes the next look ask again.
    places = {
        str(file): files.stamp_at(file) for file in (*gitignore.places(top, project.root), *deep)
    }
    whole = gitignore.whole(top, project.root)
    tracked: set[Path] = set()
    exposed: list[Path] = []
    for batch in batches(kept, git.AT_ONCE):
        paths = [Path(root + path) for path in batch]
        tracked |= git.tracked(top, paths)
        exposed += (path for path in git.not_ignored(top, paths) if path not in tracked)
    return Sight(
        places=places,
        whole=tuple(sorted(whole)),
        tracked=tuple(sorted(str(path).removeprefix(root) for path in tracked)),
        exposed=tuple(sorted(str(path).removeprefix(root) for path in exposed)),
    )


def show(project: Project, paths: Iterable[str], lines: Iterable[str] | None = None) -> None:
    """Make git see files that dorky keeps no longer.

    Args:
        project: The project.
        paths: Their repository paths.
        lines: If given, only files that git ignores by one of these lines.
    """
    gone = [project.root / path for path in paths]
    if lines is not None:
        gone = gitignore.ignored_by(project.root, lines, gone)
    gitignore.unignore(project.root, gone, project.index.proofs())
