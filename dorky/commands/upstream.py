"""Upstream: the remote that a project pulls from and pushes to, and its first root."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import msgspec

from dorky.format.model import Header, Inline, Purge, Root
from dorky.keys import age
from dorky.project import ORIGIN, Project
from dorky.remote import fetch as remote_fetch
from dorky.remote import root as roots
from dorky.remote.root import Remote
from dorky.store import history
from dorky.store.history import ATTEST, MAIN

_FOLLOWED = "purges.followed"
"""The single value with the number of purges that the local history has followed."""
UPSTREAM = f"{ORIGIN}/{MAIN}"
"""The name of the newest commit of the remote, as last seen."""
NEWEST = re.compile(rf"\A(HEAD|@|{MAIN})(?=[~^]|\Z)")
"""Matches a revision that begins at the newest commit."""


def fetch_root(project: Project, *, accept_rewind: bool = False) -> Remote:
    """Return the remote, brought up to date, with the key that `.dorkyrc` commits to.

    Args:
        project: The project.
        accept_rewind: Whether to follow the remote to an older state, or to another history.

    Raises:
        WrongKey: The remote has another key, or an older one.
        Rewound: The remote is older than what was seen.
        ForgedRoot: The remote's state was not written by a member who may.
        WrongTeam: The remote has another team log than `.dorkyrc` pins.
        TeamRewound: The remote has an older one.
        HistoryReplaced: The remote's history does not continue what was seen.
    """
    remote = project.remote()
    remote.accept_rewind = accept_rewind
    before = project.database.ref(f"{ORIGIN}/{MAIN}")
    remote_fetch.fetch(remote, project.progress)
    if before is None and project.database.ref(MAIN) is None:
        record_followed(project)
    if project.database.ref(f"{ORIGIN}/{ATTEST}") != project.database.ref(ATTEST):
        from dorky.store import attestations

        attestations.catch_up(project.store, ORIGIN)
    project.check_pin()
    project.settle()
    return remote


def first_root(project: Project) -> tuple[Header, Root]:
    """Return the header and the root that the repository begins with in an empty place."""
    header, team = project.header, project.team
    first = roots.successor(
        None, roster=project.roster, team=team.id, before=team.id, inline=_log(project)
    )
    mailbox = age.generate()
    header = msgspec.structs.replace(header, mailbox=mailbox.public)
    return header, msgspec.structs.replace(first, mailbox=mailbox.secret)


def _log(project: Project) -> tuple[Inline, ...]:
    """Return the entries of the team log as they lie in a root."""
    store = project.store
    found = []
    for entered in history.entries(store, project.team.id):
        at = store.locate([entered.id])[entered.id]
        stored = store.vault.renew(at.kind, at.id, store.stored(at))
        found.append(Inline(at.kind, at.id, stored))
    return tuple(found)


@contextlib.contextmanager
def ensure_set_up(project: Project) -> Iterator[None]:
    """Set the project up and lock it; if a first pull fails, delete what was made for it."""
    fresh = not project.is_set_up
    if fresh:
        project.config.url(ORIGIN)
        project.set_up()
    with project.locked():
        try:
            yield
        except BaseException:
            if fresh and project.database.root(ORIGIN) is None:
                project.tear_down()
            raise


def was_pulled(project: Project) -> bool:
    """Return whether the local store has anything but, perhaps, what a fetch has brought."""
    return project.is_set_up and (
        project.database.ref(MAIN) is not None
        or ORIGIN not in project.config.remotes()
        or bool(project.index.rows())
    )


def at_remote(revision: str) -> str:
    """Return a revision that begins at the remote's newest commit, if this one begins at ours."""
    return NEWEST.sub(UPSTREAM, revision)


def unfollowed_purges(project: Project) -> tuple[Purge, ...]:
    """Return the purges of the remote's history that the local one has not followed."""
    return project.purges[int(project.database.text(_FOLLOWED) or "0") :]


def record_followed(project: Project) -> None:
    """Record that the local history has followed every purge.

    What a pull has begun may be a part of what was purged, so it is deleted, too.
    """
    count = str(len(project.purges))
    if count != project.database.text(_FOLLOWED):
        project.clear_scratch(begun=True)
        project.database.set(_FOLLOWED, count.encode())
