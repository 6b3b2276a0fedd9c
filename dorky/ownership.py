"""Ownership of directories, and how far up a project is looked for.

Files of another user of the machine must not decide where secrets go, or which programs run.

Source: git's fix for CVE-2022-24765 (`ensure_valid_ownership`), and its discovery of repositories
(`setup_git_directory_gently`, `longest_ancestor_length`).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

from dorky import errors

ROOT = 0
_YES = {"1", "true", "yes", "on"}
_LONGEST = 10  # digits of a user id


def users(environment: Mapping[str, str]) -> frozenset[int]:
    """Return the ids of the users whose files are the user's own: several only under sudo.

    SUDO_UID counts for root alone: any other user could set it to trust anybody.
    """
    own = os.geteuid()
    behind = environment.get("SUDO_UID", "")
    if own == ROOT and behind.isascii() and behind.isdecimal() and len(behind) <= _LONGEST:
        return frozenset({own, int(behind)})
    return frozenset({own})


def check(
    directory: Path,
    paths: Iterable[Path],
    owners: Collection[int],
    *,
    safe: Callable[[], bool] = lambda: False,
    place: str = "",
    follow: bool = False,
) -> None:
    """Refuse files and directories that other users of this machine own, or may change.

    Members of the file's group may change them: a umask of 002 is common.

    Args:
        directory: The directory that the paths belong to, for messages.
        paths: The paths to check, in this order; missing ones are skipped.
        owners: See `users`.
        safe: Returns whether the user trusts the directory, whoever owns it.
        place: What the directory is, if not a project: ``home``, or ``git``.
        follow: Whether links are followed instead of being checked themselves.

    Raises:
        DubiousOwnership: Another user owns one of them.
        WritableByAll: Everyone may change one of them.
    """
    sticky = None
    for path in paths:
        try:
            found = path.stat(follow_symlinks=follow)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise errors.UnreadableFile(path, error.strerror) from error
        if found.st_uid not in owners and not safe():
            raise errors.DubiousOwnership(
                path,
                f"{_name(found.st_uid)}, not to {_name(os.geteuid())}",
                directory,
                **_facts(path, found.st_uid, directory, place),
            )
        writable = bool(found.st_mode & stat.S_IWOTH)
        if stat.S_ISDIR(found.st_mode) and writable and found.st_mode & stat.S_ISVTX:
            sticky = sticky or path
        elif (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)) and writable:
            raise errors.WritableByAll(path)
        # In such a directory, anyone may give a file of the user's another name.
        if sticky and stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            raise errors.WritableByAll(sticky)


def _facts(path: Path, owner: int, directory: Path, place: str) -> dict[str, object]:
    """Return what is known of a path that somebody else owns, for `DubiousOwnership`."""
    if place:
        return {"place": place}
    if owner == ROOT and path != directory and directory.lstat().st_uid == os.geteuid():
        return {"left_by_sudo": path}
    return {}


def _name(user: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(user).pw_name} ({user})"
    except KeyError:  # a user of another machine, or from outside a container
        return f"user {user}"


def upwards(start: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield the directories in which the project or repository of ``start`` may be, upwards.

    As in git: not above the file system's border unless GIT_DISCOVERY_ACROSS_FILESYSTEM is set,
    and neither in the directories that GIT_CEILING_DIRECTORIES lists nor above them.

    Args:
        start: An absolute path without links; it comes first.
        environment: Holds the two variables.
    """
    across = environment.get("GIT_DISCOVERY_ACROSS_FILESYSTEM", "").lower() in _YES
    ceilings = _ceilings(environment.get("GIT_CEILING_DIRECTORIES", ""))
    # As in git, the start directory itself is no ceiling.
    above = [path for path in ceilings if path != start and start.is_relative_to(path)]
    lowest = max((len(path.parts) for path in above), default=0)
    device: int | None = None
    for directory in (start, *start.parents):
        if len(directory.parts) <= lowest:
            return
        with contextlib.suppress(OSError):  # does not exist yet
            found = directory.stat().st_dev
            if device is not None and found != device and not across:
                return
            device = found
        yield directory


def _ceilings(text: str) -> Iterator[Path]:
    """Yield the directories of a list; links in them count only before an empty entry."""
    resolved = True
    for entry in text.split(os.pathsep) if text else ():
        if not entry:
            resolved = False
        elif entry.startswith("/"):
            path = Path(os.path.normpath(entry))
            try:
                yield path.resolve() if resolved else path
            except (OSError, RuntimeError):  # links in a circle
                continue
