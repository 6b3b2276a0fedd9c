"""Repair of a remote whose root was forged: put the successor of the last verified root there."""

from __future__ import annotations

import hashlib

import msgspec

from dorky import errors
from dorky.project import Project
from dorky.remote import authority, push, unlisted
from dorky.remote import root as roots
from dorky.remote.fetch import fetch
from dorky.remote.root import Remote
from dorky.results import Dangling, RootRepair
from dorky.store import reachability

FORGED = "forged/"
"""The prefix of forged roots that were replaced, each named by the hash of its bytes."""

_FORGED = (
    errors.CorruptObject,
    errors.CorruptPack,
    errors.CorruptRoot,
    errors.ForgedCommit,
    errors.ForgedGroup,
    errors.ForgedRoot,
    errors.HistoryReplaced,
    errors.MissingObject,
    errors.MissingPack,
    errors.TooLarge,
    errors.WrongKey,
    errors.WrongTeam,
)
"""Errors of a root that every member refuses."""


def plan(project: Project) -> RootRepair:
    """Find out what is wrong with the remote's root, and what would take its place.

    Raises:
        NothingToDo: The root is sound.
        NotWriter: The user may not write to the remote.
        NotSetUp: This clone has seen no root that could take its place.
    """
    with project.locked():
        remote = project.remote()
        if remote.before is None:
            raise errors.NotSetUp(project.root)
        authority.check_writer(remote)
        try:
            fetch(remote, project.progress)
        except _FORGED as error:
            blob = remote.driver.get(roots.KEY, limit=roots.LIMIT)
            assert blob is not None
            assert remote.before is not None
            root = remote.before.root
            return RootRepair(
                url=remote.url,
                error=error.message,
                kept=FORGED + hashlib.sha256(blob.data).hexdigest(),
                version=blob.version,
                generation=root.generation,
                time=root.time,
                signer=project.team.names.get(root.signer, ""),
                lacking=_lacking(project, remote, blob.data),
            )
        raise errors.NothingToDo(f"The state at {remote.url} is sound")


def _lacking(project: Project, remote: Remote, refused: bytes) -> tuple[Dangling, ...]:
    """Return the newest commits of members that the last verified state lacks, for people."""
    assert remote.before is not None
    found = unlisted.commits(remote, remote.before, refused)
    names = project.team.names
    return tuple(
        msgspec.structs.replace(tip, author=names[found[tip.id].signer])
        for tip in reachability.dangling(found)
    )


def repair(project: Project, made: RootRepair) -> RootRepair:
    """Carry out what `plan` planned. The forged root is kept in the remote, under another name.

    A member who has seen a newer state than this clone is told that the remote was put back. Their
    commits are not lost: after a pull that accepts the rewind they push them again.

    Raises:
        RootMoved: The root has changed since the plan was made.
    """
    with project.locked():
        remote = project.remote()
        blob = remote.driver.get(roots.KEY, limit=roots.LIMIT)
        seen = remote.before
        if blob is None or blob.version != made.version or seen is None:
            raise errors.RootMoved(remote.url)
        remote.driver.put(made.kept, blob.data)
        project.unlock(seen.header)
        following = roots.successor(seen.root)
        remote.stand_for(seen, blob.version)
        try:
            won = remote.swap(seen.header, following)
        except errors.PreconditionFailed:
            raise errors.RootMoved(remote.url) from None
        push.remember(remote, won, (), project.progress)
        return msgspec.structs.replace(made, done=True)
