"""Taking a leaked file out of all history: planned, then carried out, here and in the remote."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

import msgspec

from dorky import errors
from dorky.commands.groups import GroupWork
from dorky.commands.inspect import StrPath
from dorky.commands.sync import OWN_PURGE
from dorky.drivers.base import Inspected
from dorky.format.model import ALL, ObjectId, Purge
from dorky.keys import roster
from dorky.merge import rewrite
from dorky.project import ORIGIN
from dorky.remote import gc
from dorky.remote import purge as remote_purge
from dorky.remote.root import KEY, PACKS
from dorky.results import Purging
from dorky.store.history import MAIN


class PurgeWork(GroupWork):
    """The command that makes the repository forget."""

    def plan_purge(self, paths: StrPath | Iterable[StrPath]) -> Purging:
        """Find out what taking files out of all history would do.

        Args:
            paths: Files, directories, patterns.

        Raises:
            PathNotTracked: There is no such file anywhere in history.
            Conflict: Not everything here is in the remote, or the other way round.
            ForeignGroup: The user is not in every group, so can't read all history.
        """
        names = self._names(paths)
        with self.locked():
            head = self._settled_head()
            selects = rewrite.selector(names)
            found = rewrite.versions(self.store, head, selects)
            for name in names:
                if not any(map(rewrite.selector([name]), found)):
                    hint = self._tombstones()(name)
                    if hint:  # the purge may have been interrupted
                        hint += "; for what the bucket has left: dorky gc --remote --grace 0"
                    raise errors.PathNotTracked(name, " anywhere in history", hint=hint or None)
            with self.store.writer() as writer:  # nothing of it is saved
                became = rewrite.rewrite(self.store, writer, [head], selects)
            entries = {
                content: entry for held in found.values() for (_, content), entry in held.items()
            }
            groups = {group for held in found.values() for group, _ in held}
            return Purging(
                paths=tuple(names),
                files=tuple(self._exposures({path: held.values() for path, held in found.items()})),
                versions=len(entries),
                size=sum(entry.size for entry in entries.values()),
                commits=sum(old != new for old, new in became.items()),
                readers=tuple(
                    each.name
                    for each in self.roster.members
                    if ALL in groups or groups.intersection(each.groups)
                ),
                kept=self._unforgotten(),
                head=head,
            )

    def _settled_head(self) -> ObjectId:
        """The newest commit, which must be the remote's, too, and wholly readable.

        Raises:
            Conflict: It is not the remote's.
            ForeignGroup: The user is not in every group.
        """
        head = self._attached_head()
        if head is None:
            raise errors.NoCommits
        self._check_no_merge()
        if ORIGIN in self.config.remotes():
            self._fetched()
            if self.database.ref(f"{ORIGIN}/{MAIN}") != head:
                raise errors.Conflict("your commits and the remote's differ", hint="dorky sync")
        for each in self.header.epochs:
            if each.group not in self.vault.groups:
                name = roster.name_of(self.roster, each.group)
                raise errors.ForeignGroup("all history", name)
        return head

    def _unforgotten(self) -> str:
        """What the remote says it will keep whatever is deleted."""
        if ORIGIN not in self.config.remotes():
            return ""
        driver = self.driver()
        if not isinstance(driver, Inspected):
            return ""
        found = [
            each
            for each in driver.inspect((KEY, PACKS))
            if each.name == "versioning" and each.verdict == "ok"
        ]
        return found[0].about if found else ""

    def purge(self, plan: Purging, *, reason: str = "") -> Purging:
        """Carry out what `plan_purge` planned. The files on disk stay, untracked.

        Args:
            plan: The plan.
            reason: Why; others are told it.

        Raises:
            Conflict: Somebody has pushed since the plan was made.
            AccessDenied: Deleting in the remote is not allowed.
        """
        with self.locked():
            head = self._settled_head()
            if head != plan.head:
                raise errors.Conflict("there are commits since the plan", hint="plan again")
            with self.store.writer() as writer:
                selects = rewrite.selector(plan.paths)
                became = rewrite.rewrite(self.store, writer, [head], selects)[head]
                writer.save()
            record = Purge(
                paths=plan.paths,
                author=self.author,
                time=datetime.now(timezone.utc).replace(microsecond=0),
                old=head,
                new=became,
                reason=reason,
            )
            packs = 0
            remote = self.remote() if ORIGIN in self.config.remotes() else None
            if remote:
                self.check_swaps(remote)
                # However this ends: who purges keeps the files, also if it is a pull that ends it.
                self.database.set(OWN_PURGE, became.encode())
                packs = remote_purge.purge(remote, record, self.progress).packs
            self.take_out([record], keep=True)
            if remote:
                # What a push was interrupted with is in no root.
                strays = gc.plan(remote, grace=timedelta(0), progress=self.progress)
                gc.apply(remote, strays, progress=self.progress)
            return msgspec.structs.replace(plan, packs=packs, head=became, done=True)
