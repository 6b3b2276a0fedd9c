"""Looking: what a command shows of the files, the index and the history that are here.

Methods take plain values and return the frozen records of `dorky.results`; they never print.
Paths are as the user types them, relative to the current directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import msgspec

from dorky import checkout, errors, history, merge, roster, staging
from dorky.history import MAIN
from dorky.model import Commit, Entry, ObjectId
from dorky.project import ORIGIN, Project
from dorky.remote.fetch import fetch_objects
from dorky.results import Change, Listed, LogEntry, Status

StrPath = str | os.PathLike[str]


class LookWork(Project):
    """The commands that change nothing (but fetch chunks that were left in the remote)."""

    def _names(self, paths: StrPath | Iterable[StrPath]) -> list[str]:
        """The repository paths of what was typed, which may be a single path."""
        several = [paths] if isinstance(paths, str | os.PathLike) else paths
        return [self.worktree.relative(path) for path in several]

    def status(self) -> Status:
        """How files, index, ``HEAD`` and the remote (as last seen) stand to each other."""
        rows = self.index.rows()
        found = list(self.worktree.walk(self.ignore, partly=True))
        head = history.head_of(self.store)
        ahead = behind = 0
        remote = ORIGIN if ORIGIN in self.config.remotes() else ""
        if remote:
            upstream = self.database.ref(f"{remote}/{MAIN}")
            ahead, behind = history.ahead_behind(self.store, self.database.ref(MAIN), upstream)
        known = self.roster
        own = self.index.groups
        closed = tuple(each.name for each in roster.living(known) if each.id not in own)
        requests = self.database.get("requests")
        merging = merge.load(self.database)
        pending = {each.path for each in merging.conflicts} if merging else set()
        unstaged = staging.unstaged(self.worktree, self.store, self.index, rows, dict(found))
        # What could not be staged anyway is not worth a hint.
        meant = [each for each in found if not closed or roster.group_of(known, each.path) in own]
        aside = {each.beside for each in merging.conflicts} if merging else set()
        meant = [each for each in meant if each.path not in aside]
        return Status(
            branch=MAIN,
            head=head,
            detached=bool(self.database.get("head")),
            remote=remote,
            fetched=self.database.root(ORIGIN) is not None,
            ahead=ahead,
            behind=behind,
            staged=tuple(
                each
                for each in staging.staged(self.store, self.index, rows)
                if each.path not in pending
            ),
            unstaged=tuple(each for each in unstaged if each.path not in pending),
            absent=sum(row.absent for row in rows.values()),
            secrets=tuple(staging.untracked_secrets(meant, rows)),
            closed=closed,
            requests=tuple(requests.decode().split()) if requests else (),
            merging=merging.label if merging else "",
            conflicts=merging.conflicts if merging else (),
        )

    def log(
        self, revision: str = "HEAD", path: StrPath | None = None, *, limit: int | None = None
    ) -> Iterator[LogEntry]:
        """The commits that led to a revision, newest first.

        Args:
            revision: Where to begin.
            path: Only commits that changed this file, or something below this directory.
            limit: At most so many.
        """
        name = "" if path is None else self.worktree.relative(path)
        start = history.resolve(self.store, revision)
        found = 0
        for node in history.ancestors(self.store, [start]):
            if name and not history.touches(self.store, node.commit, name):
                continue
            if limit is not None and found >= limit:
                return
            found += 1
            yield self._entry(node.commit, node.id)
        if name and not found:
            raise errors.PathNotTracked(name, f" anywhere in the history of {revision}")

    def _entry(
        self, commit: Commit, commit_id: ObjectId, changes: tuple[Change, ...] = ()
    ) -> LogEntry:
        return LogEntry(
            id=commit_id,
            parents=commit.parents,
            author=commit.author,
            time=commit.time,
            message=commit.message,
            git=commit.git,
            refs=tuple(ref for ref, held in self.database.refs().items() if held == commit_id),
            changes=changes,
        )

    def show(self, revision: str = "HEAD") -> LogEntry:
        """A commit, and which files it changed against its first parent."""
        commit_id = history.resolve(self.store, revision)
        commit = history.read_commit(self.store, commit_id)
        parent = commit.parents[0] if commit.parents else None
        entry = self._entry(commit, commit_id, self._changes(parent, commit_id))
        before = history.read_commit(self.store, parent).trees if parent else {}
        closed = tuple(
            roster.name_of(self.roster, group)
            for group in sorted((before.keys() | commit.trees.keys()) - self.vault.groups)
            if before.get(group) != commit.trees.get(group)
        )
        return msgspec.structs.replace(entry, closed=closed)

    def _changes(self, old: ObjectId | None, new: ObjectId | None) -> tuple[Change, ...]:
        before, after = (history.trees_of(self.store, each) for each in (old, new))
        return tuple(
            sorted(
                Change(
                    each.path, "added" if not each.old else "modified" if each.new else "deleted"
                )
                for each in history.differences(self.store, before, after)
            )
        )

    def _committed(self, commit: ObjectId | None) -> dict[str, Entry]:
        return dict(history.files_of(self.store, history.trees_of(self.store, commit)))

    def ls(self, revision: str = "HEAD", path: StrPath | None = None) -> list[Listed]:
        """The files that a revision holds, all of them or those at or below a path."""
        commit = history.resolve(self.store, revision)
        found = self._committed(commit)
        if path is not None:
            name = self.worktree.relative(path)
            found = {
                each: found[each] for each in staging.tracked(found, [name], f" in {revision}")
            }
        return [
            Listed(path=name, mode=f"{entry.mode:06o}", size=entry.size, content=entry.content)
            for name, entry in found.items()
        ]

    def cat(self, revision: str, path: str) -> Iterator[bytes]:
        """The content of a committed file, piece by piece, verified.

        Args:
            revision: Of which state.
            path: In the repository, from its root.

        Raises:
            PathNotTracked: The revision holds no such file.
        """
        entry = self._lookup(revision, path)
        self._bring(checkout.needed(self.store, [entry]))
        return checkout.read(self.store, entry)

    def _lookup(self, revision: str, path: str) -> Entry:
        commit = history.resolve(self.store, revision)
        found = history.lookup(self.store, history.trees_of(self.store, commit), path)
        entry = next((each for each in found if not each.is_tree), None)
        if not found:
            raise errors.PathNotTracked(path, f" in {revision}", hint=f"dorky ls {revision}")
        if entry is None:
            raise errors.UsageError(f"{path} is a directory", hint=f"dorky ls {revision} {path}")
        return entry

    def _bring(self, chunks: Iterable[ObjectId]) -> None:
        """Fetch chunks that are not here."""
        missing = self.store.missing(chunks)
        if missing:
            with self.locked():
                fetch_objects(self.remote(), missing, self.progress)
