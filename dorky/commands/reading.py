"""Reading files for use: from the worktree, else as the remote has them now.

A state directory can be old: a CI job restores it from a cache, a laptop was away. So a file that
is not on disk is never read from it before the remote was asked, or it is told how old it is.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat as stat_module
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from dorky import errors, files
from dorky.commands import vouching
from dorky.commands.inspect import StrPath, fetch_missing, lookup_file, needing
from dorky.commands.stage import check_groups
from dorky.commands.sync import refresh
from dorky.commands.upstream import NEWEST, UPSTREAM, at_remote, was_pulled
from dorky.files import FileStamp, moment
from dorky.format.model import Entry
from dorky.merge import pending
from dorky.paths import parents
from dorky.project import ORIGIN, Project
from dorky.results import Source
from dorky.store import history
from dorky.store.history import MAIN, Placed
from dorky.store.index import mode_of
from dorky.worktree import checkout, staging

_LINKS = 10
_UNASKED = (errors.Unavailable, errors.NotMounted, errors.AccessError, errors.Locked)
"""Failures to ask a remote that say nothing against the state that is already known."""


class Content(NamedTuple):
    """The content at a path.

    Attributes:
        mode: Type and permission bits.
        data: The bytes, or a link's target.
        seen: The state of the file before it was read; None if it is not on disk.
    """

    mode: int
    data: bytes
    seen: FileStamp | None = None


class Reader:
    """Reads files for one command, which asks the remote at most once.

    Args:
        project: The project.
        revision: The revision that holds the files. Without one, a file on disk is read from there,
            another as it is staged, or as the remote has it if the remote is ahead.
        fresh: Whether a remote that can't be asked is an error.
        offline: Whether the remote must not be asked.
        as_staged: Whether a pulled file is read as it is staged, whatever the remote has.

    Raises:
        UsageError: ``fresh`` and ``offline`` exclude each other.
    """

    def __init__(
        self,
        project: Project,
        revision: str = "",
        *,
        fresh: bool = False,
        offline: bool = False,
        as_staged: bool = False,
    ) -> None:
        if fresh and offline:
            raise errors.UsageError("--fresh and --offline exclude each other")
        self.project = project
        self.revision = revision
        self._fresh = fresh
        self._offline = offline
        self._as_staged = as_staged
        self._why: str | None = None
        self._exact: set[str] = set()
        self.sources: dict[str, Source] = {}
        """Where each file that was read came from, by path."""

    def read(self, path: StrPath) -> bytes:
        """Return the whole content of a file; links are followed inside the project.

        Raises:
            PathNotFound: There is no such file.
            PathNotTracked: The revision holds no such file.
            ForeignGroup: The file belongs to a group that the user is not in.
        """
        return self.follow(path)[1].data

    def follow(self, path: StrPath) -> tuple[str, Content]:
        """Return the file that a path leads to, and its content."""
        name = self.project.repository_path(path)
        for _ in range(_LINKS):
            found = self._committed(name) if self.revision else self._content(name)
            if not stat_module.S_ISLNK(found.mode):
                return name, found
            target = os.fsdecode(found.data)
            name = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
            if name.startswith(("/", "../")) or name == "..":
                raise errors.UsageError(f"{os.fspath(path)} is a link that leads out of here")
        raise errors.UsageError(f"{os.fspath(path)} is a link in a circle")

    def nearest(self, path: str) -> str:
        """Return the file of the same name that is nearest, from a repository path upwards.

        While one is on disk the remote is not asked. If there is none, it is the root's.
        """
        name = path.rpartition("/")[2]
        places = [*(f"{above}/{name}" for above in reversed(list(parents(path)))), name]
        if not self.revision and self.project.is_set_up:
            stats = {place: self.project.worktree.stat(place) for place in places}
            if any(stats.values()):
                rows = self.project.index.rows(places)
                return next(place for place in places if stats[place] or place in rows)
        for place in places[:-1]:
            with contextlib.suppress(errors.NotFoundError):
                self.read(place)
                return place
        return name

    def _content(self, name: str) -> Content:
        project = self.project
        stat = project.worktree.stat(name) if name else project.root.stat()
        if stat is not None:
            if stat_module.S_ISDIR(stat.st_mode):
                raise errors.DirectoryNamed(name or "This")
            self.sources[name] = Source(path=name)
            if stat_module.S_ISLNK(stat.st_mode):
                return Content(mode_of(stat), project.worktree.link_target(name))
            with open(project.worktree.open(name), "rb") as file, files.disk_errors(Path(name)):
                return Content(mode_of(stat), file.read(), moment(stat))
        if not was_pulled(project):
            return self._committed(name, "HEAD")
        row = project.index.rows([name]).get(name)
        apart = self._is_apart(name)
        if not (apart or self._as_staged) and self._behind():
            return self._committed(name, UPSTREAM)
        if row is None:
            check_groups(project, [name])
            raise errors.PathNotFound(name)
        entry = staging.entry_of(row, project.vault)
        self.sources[name] = Source(path=name) if apart else self._source(name, "HEAD")
        if not apart:
            self._vouch(name, Placed(row.group, entry), "HEAD")
        return self._fetched(name, entry, row.group)

    def _is_apart(self, name: str) -> bool:
        """Return whether the user has staged, checked out or merged something at a path."""
        project = self.project
        if project.database.get("head") or pending.load(project.database):
            return True
        rows = project.index.rows([name])
        kept = staging.committed(project.store, project.index, rows, [name])
        return bool(staging.differences(kept, rows))

    def _behind(self) -> bool:
        """Ask the remote; return whether it has all that ``main`` has, and more."""
        self._ask()
        project = self.project
        ours, theirs = project.database.ref(MAIN), project.database.ref(UPSTREAM)
        if theirs is None or ours == theirs:
            return False
        return ours is None or history.is_ancestor(project.store, ours, theirs)

    def _committed(self, name: str, revision: str = "") -> Content:
        project, revision = self.project, revision or self.revision
        pulled = was_pulled(project)
        if not pulled:
            self._ask()
            if not project.is_set_up:
                raise errors.NotSetUp(project.root)
            if project.database.ref(UPSTREAM) is None:
                raise errors.NoCommits
        elif NEWEST.search(revision) or revision.startswith(UPSTREAM):
            self._ask()
        if not pulled or (self._is_bare() and self._behind()):
            revision = at_remote(revision)
        try:
            group, entry = lookup_file(project, revision, name)
        except errors.PathNotTracked:
            check_groups(project, [name])
            raise
        self.sources[name] = self._source(name, revision)
        self._vouch(name, Placed(group, entry), revision)
        return self._fetched(name, entry, group)

    def _vouch(self, name: str, placed: Placed, revision: str) -> None:
        """Refuse a file that is not signed as the rules demand; hash it when it is read."""
        old = vouching.is_old(self.project, history.resolve(self.project.store, revision))
        self._exact |= vouching.check(self.project, {name: placed}, old=old)

    def _is_bare(self) -> bool:
        """Return whether none of the tracked files is on disk, as after a cache was restored."""
        project = self.project
        if project.database.get("head") or staging.staged(project.store, project.index):
            return False
        return all(stat is None for _, stat in project.worktree.stats(project.index.rows()))

    def _fetched(self, name: str, entry: Entry, group: str) -> Content:
        store, wanted = self.project.store, checkout.needed(self.project.store, [entry])
        if self._offline and store.missing(wanted):
            raise errors.NotFetched(name)
        with needing(self.project, {name: Placed(group, entry)}):
            fetch_missing(self.project, wanted)
        blocks = checkout.read(store, entry, group)
        if name in self._exact:
            blocks = vouching.exact(blocks, entry)
        return Content(entry.mode, b"".join(blocks))

    def _ask(self) -> None:
        """Ask the remote for news, once.

        Raises:
            Unavailable: The remote can't be reached, though it has to be.
            NotMounted: Its disk is not mounted, likewise.
            AccessError: It refuses access, likewise.
        """
        if self._why is not None:
            return
        self._why = ""
        project = self.project
        if ORIGIN not in project.config.remotes():
            if not was_pulled(project):
                project.config.url(ORIGIN)
            return
        if self._offline:
            self._why = "the remote was not asked"
            return
        try:
            refresh(project)
        except _UNASKED as error:
            known = project.is_set_up and project.database.get("header") is not None
            if self._fresh or not known:
                raise
            self._why = error.message

    def _source(self, name: str, revision: str) -> Source:
        """Return what is known of the commit that a file is read from."""
        project = self.project
        commit = history.resolve(project.store, revision)
        made = history.read_commit(project.store, commit).time
        head, theirs = history.head_of(project.store), project.database.ref(UPSTREAM)
        behind = 0
        if commit == head and theirs:
            behind, _ = history.ahead_behind(project.store, theirs, head)
        return Source(
            path=name,
            commit=commit,
            time=made,
            age=max(0, int((datetime.now(timezone.utc) - made).total_seconds())),
            behind=behind,
            why=self._why or "",
        )
