"""Trust: inspect state that another key has named, and take it over.

The state was copied from another machine, or the user's key has changed. It may also be planted: so
it is never read through a link, and state that a git branch has brought is refused.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from dorky import errors, files, git
from dorky.format import model
from dorky.format.model import Header
from dorky.project import FIRST, ORIGIN, RESERVE, Project
from dorky.results import Trust
from dorky.store import state, verify
from dorky.store.database import Database
from dorky.store.history import MAIN
from dorky.store.state import DATABASE

_SHOWN = 8
_DIRECTORIES = {"packs", "damaged", "tmp"}
_FILES = {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", FIRST, RESERVE, "lock", ".gitignore"}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def plan(project: Project, name: str = "") -> Trust:
    """Inspect state that is not this user's.

    Args:
        project: The project that holds the state.
        name: The beginning of the state's name, if there are several.

    Raises:
        NothingToDo: All state is this user's.
        NotSetUp: There is no state.
        OldState: The state has the layout from before the first release.
        UsageError: Several states match.
        UnsoundState: The state is not what dorky would have left.
        WrongRepository: The state belongs to another repository than `.dorkyrc` names.
    """
    if project.is_set_up or project.has_packs:
        raise errors.NothingToDo(f"the state of {project.root} is yours already")
    found = state.strangers(project.base, project.config)
    if not found:
        raise project.nothing_known()
    chosen = [state_name for state_name in found if state_name.startswith(name)]
    if not chosen:
        raise errors.NoSuchState(project.base, name)
    if len(chosen) > 1:
        names = ", ".join(state_name[:_SHOWN] for state_name in chosen)
        raise errors.SeveralStates(project.base, names, chosen[0][:_SHOWN])
    return _looked_at(project, chosen[0])


def apply(project: Project, planned: Trust) -> Trust:
    """Carry out what `plan` planned: name the state with this user's key."""
    name = planned.name
    found = state.strangers(project.base, project.config)
    (chosen,) = [state_name for state_name in found if state_name.startswith(name)] or [""]
    again = _looked_at(project, chosen) if chosen else None
    if again != planned:
        raise errors.StateChanged
    project.take_state(chosen)
    return Trust(
        name=name,
        repository=planned.repository,
        url=planned.url,
        head=planned.head,
        packs=planned.packs,
        size=planned.size,
        done=True,
    )


def _looked_at(project: Project, name: str) -> Trust:
    directory = project.base / name
    with files.disk_errors(directory):
        inside = list(_checked(project.base, name))
    top = git.find(project.root)
    if top and git.tracked(top, inside):
        raise errors.UnsoundState(directory, "git tracks it, so it came with a branch")
    header, url, head = _told(project, directory)
    packs = verify.packs_in(directory / "packs")
    for path in packs:
        if not verify.is_whole(path):
            raise errors.UnsoundState(directory, f"pack {path.name[:12]} has another hash")
    known = project.config.text("repository.id")
    if known and header.repository != known:
        raise errors.WrongRepository(directory, header.repository[:12], known[:12])
    return Trust(
        name=name[:_SHOWN],
        repository=header.repository,
        url=url,
        head=head,
        packs=len(packs),
        size=sum(path.stat().st_size for path in packs),
    )


def _told(project: Project, directory: Path) -> tuple[Header, str, str | None]:
    """Return the repository, the remote and the head that a state records."""
    if not (directory / DATABASE).is_file():
        raise errors.UnsoundState(directory, "it holds no database")
    try:
        with contextlib.closing(Database(directory / DATABASE)) as database:
            found = database.connection.execute("PRAGMA integrity_check(1)").fetchall()
            if found != [("ok",)]:
                raise errors.UnsoundState(directory, f"its database is damaged: {found[0][0]}")
            data = database.get("header")
            if data is None:
                raise errors.UnsoundState(directory, "it holds no keys of a repository")
            header = model.decode_header(data, directory)
            place = database.text(f"remote.{ORIGIN}.place").partition("\0")[0]
            return header, place or project.config.text(f"remotes.{ORIGIN}.url"), database.ref(MAIN)
    except (errors.CorruptDatabase, errors.FormatTooNew, model.Malformed) as error:
        raise errors.UnsoundState(directory, str(error)) from None


def _checked(base: Path, name: str) -> Iterator[Path]:
    """Yield every file of a state, after checking that dorky may have made it.

    Raises:
        UnsoundState: dorky can't have made a file.
    """
    directory = base / name
    held = os.open(base, _DIRECTORY)
    try:
        if os.stat(name, dir_fd=held, follow_symlinks=False).st_uid != os.geteuid():
            raise errors.UnsoundState(directory, "it belongs to another user")
        for path, directories, names, inside in os.fwalk(name, dir_fd=held):
            below = path.removeprefix(name).strip("/")
            for item in [*directories, *names]:
                found = os.stat(item, dir_fd=inside, follow_symlinks=False)
                shown = f"{below}/{item}".strip("/")
                why = state.foreign(found, links=bool(below)) or _misplaced(below, item, found)
                if not why and found.st_uid != os.geteuid():
                    why = "it belongs to another user"
                if why:
                    raise errors.UnsoundState(directory, f"{shown!a}: {why}")
                if item in names:
                    yield directory / shown
    finally:
        os.close(held)


def _misplaced(below: str, name: str, found: os.stat_result) -> str:
    if stat.S_ISDIR(found.st_mode):
        known = not below and name in _DIRECTORIES
    else:
        known = bool(below) or name in _FILES or name.startswith(f"{DATABASE}.damaged-")
    return "" if known else "dorky keeps nothing of that name"
