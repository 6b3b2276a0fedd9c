"""Purge: take a leaked file out of all history, in the local store and in the remote."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

import msgspec

from dorky import errors
from dorky.commands.checkout import attached_head, check_no_merge
from dorky.commands.exposures import exposures
from dorky.commands.inspect import StrPath, repository_paths, tombstone_finder
from dorky.commands.purges import OWN_PURGE, apply_purges, without_purged
from dorky.commands.upstream import fetch_root
from dorky.drivers.base import Inspected, check_writable
from dorky.format.model import ALL, ObjectId, Purge
from dorky.keys import roster
from dorky.merge import rewrite
from dorky.project import ORIGIN, Project
from dorky.remote import gc
from dorky.remote import purge as remote_purge
from dorky.remote import push as remote_push
from dorky.remote.root import KEY, PACKS, TABLES
from dorky.results import PurgePlan
from dorky.store.history import ATTEST


def plan_purge(project: Project, paths: StrPath | Iterable[StrPath]) -> PurgePlan:
    """Find out what taking files out of all history would do.

    Arguments, results and errors are those of `Repository.plan_purge`.
    """
    names = repository_paths(project, paths)
    with project.locked():
        head = _settled_head(project)
        selects = rewrite.selector(names)
        found = rewrite.versions(project.store, head, selects)
        for name in names:
            if not any(map(rewrite.selector([name]), found)):
                earlier = tombstone_finder(project)(name)
                raise errors.PathNotTracked(
                    name, " anywhere in history", purge=earlier, purging=True
                )
        with project.store.writer() as writer:  # the writer is never saved
            became = rewrite.rewrite(project.store, writer, [head], selects)
        entries = {
            content: entry for held in found.values() for (_, content), entry in held.items()
        }
        groups = {group for held in found.values() for group, _ in held}
        return PurgePlan(
            paths=tuple(names),
            files=tuple(exposures(project, {path: held.values() for path, held in found.items()})),
            versions=len(entries),
            size=sum(entry.size for entry in entries.values()),
            commits=sum(old != new for old, new in became.items()),
            readers=tuple(
                member.name
                for member in project.roster.members
                if ALL in groups or groups.intersection(member.groups)
            ),
            kept=_unforgotten(project),
            head=head,
        )


def _settled_head(project: Project) -> ObjectId:
    """Return the newest commit, which must be the remote's, too, and wholly readable.

    Raises:
        Conflict: The remote's newest commit is another one.
        ForeignGroup: The user is not in every group.
    """
    head = attached_head(project)
    if head is None:
        raise errors.NoCommits
    check_no_merge(project)
    if ORIGIN in project.config.remotes():
        remote = fetch_root(project)
        check_writable(remote.driver)
        if remote_push.lacks(remote, head):
            raise errors.OutOfStep
    for epoch in project.header.epochs:
        if epoch.group not in project.vault.groups:
            name = roster.name_of(project.roster, epoch.group)
            raise errors.ForeignGroup("all history", name)
    return head


def _unforgotten(project: Project) -> str:
    """Return what the remote says it will keep even after a deletion."""
    if ORIGIN not in project.config.remotes():
        return ""
    driver = project.driver()
    if not isinstance(driver, Inspected):
        return ""
    found = [
        finding
        for finding in driver.inspect((KEY, PACKS, TABLES))
        if finding.name == "versioning" and finding.verdict == "ok"
    ]
    return found[0].about if found else ""


def purge(project: Project, plan: PurgePlan, *, reason: str = "") -> PurgePlan:
    """Carry out what `plan_purge` planned. The files on disk stay, untracked.

    Arguments, results and errors are those of `Repository.purge`.
    """
    with project.locked():
        head = _settled_head(project)
        if head != plan.head:
            raise errors.PlanOutdated
        with project.store.writer() as writer:
            selects = rewrite.selector(plan.paths)
            became = rewrite.rewrite(project.store, writer, [head], selects)[head]
            writer.save()
        record = Purge(
            paths=plan.paths,
            author=project.author,
            time=datetime.now(timezone.utc).replace(microsecond=0),
            old=head,
            new=became,
            reason=reason,
        )
        packs = 0
        remote = project.remote() if ORIGIN in project.config.remotes() else None
        if remote:
            project.check_swaps(remote)
            # The member who purges keeps the files on disk, even if a later pull completes the
            # purge.
            project.database.set(OWN_PURGE, became.encode())
            old = project.database.ref(f"{ORIGIN}/{ATTEST}")
            attested = without_purged(project, old, selects) if old else None
            packs = remote_purge.purge(remote, record, old, attested, project.progress).packs
        apply_purges(project, [record], keep=True)
        if remote:
            # Packs from an interrupted push are in no root.
            strays = gc.plan(remote, grace=timedelta(0), progress=project.progress)
            gc.apply(remote, strays, progress=project.progress)
        return msgspec.structs.replace(plan, packs=packs, head=became, done=True)
