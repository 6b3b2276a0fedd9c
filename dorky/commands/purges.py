"""Purges: take files out of the local history that were purged from the remote's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from dorky.commands.checkout import carry_out, plan_checkout
from dorky.commands.upstream import record_followed
from dorky.format.model import ObjectId, Purge
from dorky.merge import rewrite
from dorky.project import ORIGIN, Project
from dorky.results import Change, Tombstone
from dorky.store import attestations, oplog, projection
from dorky.store.history import ATTEST, MAIN

OWN_PURGE = "purges.own"
"""The single value with the commit that the last purge begun in this clone leads to."""


def follow(
    project: Project, fresh: Sequence[Purge]
) -> tuple[tuple[Tombstone, ...], tuple[Change, ...]]:
    """Take files out of the local history that were purged from the remote's since the last pull.

    Files that were edited (or that an interrupted purge began with) become untracked; the others
    are deleted. The copies that this clone kept of purged files are deleted, too, and with them the
    operation log.

    Args:
        project: The project.
        fresh: The purges that the local history has not followed, the oldest first.
    """
    own = project.database.text(OWN_PURGE)
    changes = apply_purges(project, fresh, keep=any(purge.new == own for purge in fresh))
    return tuple(
        Tombstone(paths=purge.paths, author=purge.author, time=purge.time, reason=purge.reason)
        for purge in fresh
    ), changes


def apply_purges(
    project: Project, fresh: Sequence[Purge], *, keep: bool = False
) -> tuple[Change, ...]:
    """Rewrite the local history as purges say, and drop what is not needed any more.

    Refs move last, so an interrupted call is simply repeated.

    Args:
        project: The project.
        fresh: The purges, the oldest first.
        keep: Whether the files stay on disk, untracked.

    Returns:
        How files on disk changed.
    """
    refs = {
        name: commit
        for name, commit in project.database.refs().items()
        if name == MAIN or name.startswith("backup/")
    }
    selects = rewrite.selector(path for purge in fresh for path in purge.paths)
    attested = _attested(project, selects)
    # Later commits have replaced the purges' own ones, so those need not exist any more.
    upstream = project.database.ref(f"{ORIGIN}/{MAIN}")
    there = {fresh[-1].new, *([upstream] if upstream else [])}
    onto = there - project.store.missing(there)
    with project.store.writer() as writer:
        done = rewrite.rewrite(project.store, writer, list(refs.values()), selects, onto)
        writer.save()
    became = {name: done[commit] for name, commit in refs.items()}
    rows, made = plan_checkout(
        project, refs[MAIN], projection.current(project.store, became[MAIN]), lambda _: False
    )
    # An edited file belongs to the user alone; it stays, untracked.
    made.forget.update(made.remove if keep else made.conflicts)
    made.remove.difference_update(made.forget)
    made.conflicts.clear()
    _, done_here = carry_out(project, rows, made, force=False)
    clean = project.index.commit == refs[MAIN]
    with project.database.transaction():
        done_here.record(project.index)
        if clean:
            project.index.set_commit(became[MAIN])
        for name, commit in became.items():
            project.database.set_ref(name, commit)
        if attested:
            project.database.set_ref(ATTEST, attested)
        else:
            project.database.delete_ref(ATTEST)
        oplog.forget(project.database)
    from dorky.commands import gc

    gc.apply(project, gc.plan(project, grace=timedelta(0), thorough=True))
    project.keep_spare()
    # Last: the purge is complete only when nothing of the files is left locally.
    record_followed(project)
    return tuple(Change(path, "deleted") for path in made.remove)


def _attested(project: Project, selects: rewrite.Selects) -> ObjectId | None:
    """Return the history of attestations without those about purged files.

    The remote's was rewritten by the purge; what only the local one has is added to it.
    """
    store, database = project.store, project.database
    ours, theirs = (database.ref(name) for name in (ATTEST, f"{ORIGIN}/{ATTEST}"))
    if theirs:
        return attestations.following(store, project.roster, theirs, ours, without=selects)
    return without_purged(project, ours, selects) if ours else None


def without_purged(project: Project, head: ObjectId, selects: rewrite.Selects) -> ObjectId:
    """Rewrite a history of attestations without those about purged files; return its head."""

    def vouches(path: str) -> bool:
        return selects(attestations.subject_of(path) or path)

    with project.store.writer() as writer:
        done = rewrite.rewrite(project.store, writer, [head], vouches)
        writer.save()
    return done[head]
