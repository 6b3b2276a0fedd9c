"""Work with the remote: push, fetch, pull, and single files of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypedDict

import msgspec

from dorky import errors, files
from dorky.commands.inspect import StrPath
from dorky.commands.undo import MendWork
from dorky.format.model import Header, ObjectId, Purge, Root
from dorky.keys import age as keys
from dorky.keys import roster
from dorky.merge import commits as merge
from dorky.merge import rewrite
from dorky.paths import shown
from dorky.project import ORIGIN
from dorky.remote import root as roots
from dorky.remote.fetch import fetch
from dorky.remote.push import listed_by, push
from dorky.remote.root import Remote
from dorky.results import Change, Synced, Tombstone, Transfer
from dorky.store import history, projection
from dorky.store import oplog as operations
from dorky.store.history import MAIN, Placed
from dorky.store.projection import View
from dorky.worktree import checkout, staging

_FOLLOWED = "purges.followed"
OWN_PURGE = "purges.own"
"""The single value that tells which commit the last purge that began here leads to."""
_ROUNDS = 100


class Place(TypedDict):
    """What a transfer tells of the place that it was made with (see `results.Transfer`)."""

    moved: str
    fingerprint: str
    unencrypted: bool


class SyncWork(MendWork):
    """The commands that make this clone and the remote follow each other."""

    def push(self) -> Transfer:
        """Send the commits that the remote lacks, and make its ``main`` ours.

        Raises:
            NoCommits: There is nothing to push.
            Rejected: The remote has commits that are not here.
            Misplaced: A commit holds a file for others than its path belongs to.
            SwapsIgnored: The remote can't be written to safely.
        """
        with self.locked():
            head = self.database.ref(MAIN)
            if head is None:
                raise errors.NoCommits
            self._check_no_merge()
            remote = self.remote()
            moved = self.moved_from()
            self._check_named(remote)
            if self.database.root(ORIGIN) is not None:
                self._check_pin_first()
            if self.database.ref(f"{ORIGIN}/{MAIN}") != head:
                self.check_swaps(remote)
            try:
                done = push(remote, self._first_root, head, self.progress)
            except errors.Rejected:
                raise errors.Rejected(ORIGIN, self._news(head)) from None
            commits, _ = history.ahead_behind(self.store, head, done.old)
            return Transfer(
                remote=ORIGIN,
                url=remote.url,
                moved=moved,
                old=done.old,
                new=done.new,
                commits=commits,
                objects=done.objects,
                size=done.size,
                founded=done.founded,
            )

    def _news(self, head: ObjectId) -> str:
        """Who has pushed what, for who has not got it yet."""
        theirs = self.database.ref(f"{ORIGIN}/{MAIN}")
        ours = {node.id for node in history.ancestors(self.store, [head])}
        heads = [theirs] if theirs else []
        new = history.ancestors(self.store, heads, stop=ours.__contains__)
        told = [
            f"{node.commit.author}'s {history.subject(node.commit.message)!r}"
            f" ({node.commit.time:%Y-%m-%d %H:%M} UTC)"
            for node in new
        ]
        return shown(told)

    def _check_pin_first(self) -> None:
        """Look whether the remote has what a newer `.dorkyrc` promises, before relying on it."""
        try:
            self.check_pin()
        except errors.WrongKey:
            self._fetched()

    def _check_named(self, remote: Remote) -> None:
        """Refuse to write to a place that the user has not named, unless it holds the repository.

        Raises:
            RemoteNotNamed: Only `.dorkyrc` names it, and it is empty.
        """
        if self.is_named():
            return
        try:
            fetch(remote, self.progress)
        except (errors.NoRepositoryAtURL, errors.RootVanished):
            before = self.moved_from()
            told = f" (before it was {before})" if before else ""
            url = self.config.url(ORIGIN)
            hint = (
                f"check the URL; if it is right: dorky remote set-url {ORIGIN} {errors.quoted(url)}"
            )
            raise errors.RemoteNotNamed(url, told, hint=hint) from None
        self.settle()

    def _first_root(self) -> tuple[Header, Root]:
        """The header and the root that the repository begins with in an empty place."""
        header = self.header
        first = roots.successor(None, roster=self.roster)
        if header.sealed:
            mailbox = keys.generate()
            header = msgspec.structs.replace(header, mailbox=mailbox.public)
            first = msgspec.structs.replace(first, mailbox=mailbox.secret)
        return header, first

    def _fetched(self, *, accept_rewind: bool = False) -> Remote:
        """The remote, brought up to date, with the key that `.dorkyrc` commits to.

        Args:
            accept_rewind: Whether to follow it to an older state, or to another history.

        Raises:
            WrongKey: It has another, or an older one.
            Rewound: It is older than what was seen.
            HistoryReplaced: Its history does not go on from what was seen.
        """
        remote = self.remote()
        remote.accept_rewind = accept_rewind
        before = self.database.ref(f"{ORIGIN}/{MAIN}")
        fetch(remote, self.progress)
        if before is None and self.database.ref(MAIN) is None:
            self.database.set(_FOLLOWED, str(len(self.purges)).encode())
        self.check_pin()
        self.settle()
        return remote

    def fetch(self, *, accept_rewind: bool = False) -> Transfer:
        """Learn what the remote has, without changing any file.

        Args:
            accept_rewind: Whether to follow the remote to an older state, or to another history.
        """
        return self._learn(accept_rewind=accept_rewind)

    def _learn(self, *, accept_rewind: bool = False) -> Transfer:
        with self._prepared():
            old = self.database.ref(f"{ORIGIN}/{MAIN}")
            told = self._news_of_place()
            remote = self._fetched(accept_rewind=accept_rewind)
            new = self.database.ref(f"{ORIGIN}/{MAIN}")
            commits, _ = history.ahead_behind(self.store, new, old)
            return Transfer(
                remote=ORIGIN, url=remote.url, old=old, new=new, commits=commits, **told()
            )

    def _news_of_place(self) -> Callable[[], Place]:
        """What tells, after a fetch, what is new of where it was made."""
        moved, first = self.moved_from(), self.database.get("header") is None

        def told() -> Place:
            header = self.header if first else None
            fingerprint = self.vault.fingerprint if header else ""
            return {
                "moved": moved,
                "fingerprint": fingerprint,
                "unencrypted": bool(header and not header.sealed),
            }

        return told

    def pull(
        self,
        paths: StrPath | Iterable[StrPath] = (),
        *,
        force: bool = False,
        accept_rewind: bool = False,
        plain: bool = False,
    ) -> Transfer:
        """Fetch, and make the files here follow.

        Commits on both sides are merged. Where that leaves conflicts, the files that have none are
        merged, those that have are prepared to be resolved, and ``main`` stays until they are.

        Args:
            paths: If given, new files appear on disk only if they are (or lie below, or match)
                one of these; the others stay away until they are pulled.
            force: Whether to overwrite local changes, after keeping them as a backup commit.
            accept_rewind: Whether to follow the remote to an older state, or to another history.
            plain: Whether a repository that is seen for the first time may be unencrypted.

        Raises:
            LocalChanges: Files that would be overwritten.
            Unencrypted: It is, and ``plain`` was not given.
            Diverged: What both sides did can't live in one directory.
            Detached: An old revision is checked out.
            Unresolved: An earlier merge has left conflicts.
        """
        if plain:
            self.config.flags["repository.unencrypted"] = True
        with self._prepared(), self._following():
            old = self._attached_head()
            self._check_no_merge()
            told = self._news_of_place()
            remote = self._fetched(accept_rewind=accept_rewind)
            purged, taken_out = self._follow_purges()
            ours = self.database.ref(MAIN)
            theirs = self.database.ref(f"{ORIGIN}/{MAIN}")
            if ours == theirs and not (paths or self.roster.groups or self.index.has_absent):
                # So that nothing new costs a request, and not even the keys are asked for.
                return Transfer(
                    remote=ORIGIN,
                    url=remote.url,
                    old=old,
                    new=ours,
                    changes=taken_out,
                    purged=purged,
                    **told(),
                )
            target = self._target(ours, theirs)
            view = projection.View(self.store, target.trees, self.owner)
            wanted = self._wanted(paths, view)
            unsettled = {each.path for each in target.conflicts}
            unsettled |= {each.beside for each in target.conflicts}
            rows, made = self._plan(
                ours, view, lambda path: path in unsettled or wanted(path), target.left
            )
            backup, done = self._carry_out(rows, made, force=force)
            clean = self.index.commit == ours or (ours is None and not rows)
            clean = clean and not (target.left or target.dropped)
            with self.database.transaction():
                done.record(self.index)
                self._read_by_now()
                if target.conflicts:
                    self._begin_merge(ours, theirs, target)
                elif target.commit is not None:
                    self.database.set_ref(MAIN, target.commit)
                    if clean:
                        self.index.commit = target.commit
            commits, _ = history.ahead_behind(self.store, target.commit or ours, ours)
            return Transfer(
                remote=ORIGIN,
                url=remote.url,
                old=old,
                new=target.commit or ours,
                commits=commits,
                changes=tuple(sorted({*taken_out, *made.changes(rows)})),
                backup=backup,
                merged=target.commit not in {None, ours, theirs},
                ignored=done.ignored,
                left_out=done.left_out,
                conflicts=target.conflicts,
                purged=purged,
                masked=self._masked(target.commit),
                dropped=tuple(roster.name_of(self.roster, group) for group in target.dropped),
                **told(),
            )

    def _follow_purges(self) -> tuple[tuple[Tombstone, ...], tuple[Change, ...]]:
        """Take the files out of the history here that were purged from the remote's since.

        They become untracked where they were edited (or where a purge that was interrupted began),
        and go where they were not. What this clone kept of them goes, too, and with it the
        operation log.
        """
        followed = int(self.database.text(_FOLLOWED) or "0")
        fresh = self.purges[followed:]
        ours = self.database.ref(MAIN)
        if not (fresh and ours):
            if followed != len(self.purges):
                self.database.set(_FOLLOWED, str(len(self.purges)).encode())
            return (), ()
        own = self.database.text(OWN_PURGE)
        changes = self.take_out(fresh, keep=any(each.new == own for each in fresh))
        return tuple(
            Tombstone(paths=each.paths, author=each.author, time=each.time, reason=each.reason)
            for each in fresh
        ), changes

    def take_out(self, fresh: Sequence[Purge], *, keep: bool = False) -> tuple[Change, ...]:
        """Rewrite what is here as purges say, and drop what is not needed any more.

        Refs are moved last: what is interrupted is done again.

        Args:
            fresh: The purges, the oldest first.
            keep: Whether the files stay on disk, untracked.

        Returns:
            How files on disk changed.
        """
        refs = {
            name: commit
            for name, commit in self.database.refs().items()
            if name == MAIN or name.startswith("backup/")
        }
        selects = rewrite.selector(path for each in fresh for path in each.paths)
        # The purges' own commits need not be anywhere any more: later ones have replaced them.
        upstream = self.database.ref(f"{ORIGIN}/{MAIN}")
        there = {fresh[-1].new, *([upstream] if upstream else [])}
        onto = there - self.store.missing(there)
        with self.store.writer() as writer:
            done = rewrite.rewrite(self.store, writer, list(refs.values()), selects, onto)
            writer.save()
        became = {name: done[commit] for name, commit in refs.items()}
        rows, made = self._plan(
            refs[MAIN], projection.current(self.store, became[MAIN]), lambda _: False
        )
        # What was edited is nobody's business but the user's; it stays, untracked.
        made.forget.update(made.remove if keep else made.conflicts)
        made.remove.difference_update(made.forget)
        made.conflicts.clear()
        _, done_here = self._carry_out(rows, made, force=False)
        clean = self.index.commit == refs[MAIN]
        with self.database.transaction():
            done_here.record(self.index)
            if clean:
                self.index.commit = became[MAIN]
            for name, commit in became.items():
                self.database.set_ref(name, commit)
            operations.forget(self.database)
        from dorky.commands import gc as garbage

        garbage.apply(self, garbage.plan(self, grace=timedelta(0), thorough=True))
        self.keep_spare()
        # Last: until nothing is left of them here it is not done.
        self.database.set(_FOLLOWED, str(len(self.purges)).encode())
        return tuple(Change(path, "deleted") for path in made.remove)

    @contextlib.contextmanager
    def _following(self) -> Iterator[None]:
        """Record a pull, but for the first: before that there is nothing to go back to."""
        nothing = self.database.ref(MAIN) is None and not self.index.rows()
        if nothing and not operations.log(self.database, 1):
            yield
            return
        with self.operation("pull"):
            yield

    def _begin_merge(
        self, ours: ObjectId | None, theirs: ObjectId | None, target: merge.Merged
    ) -> None:
        """Note a merge that has conflicts. What is staged of these files is what was here."""
        assert theirs is not None
        assert self.database.operation is not None
        before = dict(projection.current(self.store, ours).files())
        told = [each for each in target.conflicts if each.path not in target.left]
        self.index.remove(path for each in told for path in (each.path, each.beside))
        self.index.put(
            staging.row_of(each.path, before[each.path], self.vault, absent=False)
            for each in told
            if each.path in before
        )
        state = merge.State(
            theirs=theirs,
            label=f"{ORIGIN}/{MAIN}",
            operation=self.database.operation[0],
            trees=target.trees,
            sealed=target.sealed,
            conflicts=target.conflicts,
        )
        merge.save(self.database, state)

    def sync(self, *, rewrite: bool = False) -> Synced:
        """Pull, merge and push, until both sides have the same, or there are conflicts.

        Args:
            rewrite: Whether to rewrite commits that are not pushed, so that each file is encrypted
                for the group that owns its path.

        Raises:
            NoCommits: There is nothing on either side.
            Misplaced: Commits would have to be rewritten first.
            WouldOpen: They can't be: a file of a closed group belongs to others by now.
            ServerBusy: Others were faster, again and again.
        """
        rewritten = 0
        for rounds in range(1, _ROUNDS + 1):
            pulled = pushed = None
            if rewrite:
                rewritten += self._place()
            # Nothing there yet: what is here makes a beginning.
            with contextlib.suppress(errors.NoRepositoryAtURL):
                pulled = self.pull()
            same = self.database.ref(MAIN) == self.database.ref(f"{ORIGIN}/{MAIN}")
            if pulled and not pulled.conflicts and same and pulled.new is None:
                raise errors.NoCommits
            try:
                if not (pulled and (pulled.conflicts or same)):
                    pushed = self.push()
            except errors.Rejected:
                continue
            except errors.Misplaced:
                if not rewrite or rounds == _ROUNDS:
                    raise
                continue  # a group was started just now
            return Synced(pulled=pulled, pushed=pushed, rounds=rounds, rewritten=rewritten)
        raise errors.ServerBusy(self.driver().url, "others keep pushing")

    def _place(self) -> int:
        """Rewrite the commits that are not pushed by the newest roster; give how many changed."""
        if not self.is_set_up:
            return 0
        with self.operation("sync --rewrite"):
            head = self._attached_head()
            self._check_no_merge()
            remote = self.remote()
            with contextlib.suppress(errors.NoRepositoryAtURL):
                remote = self._fetched()
            known = self.roster
            if head is None or not known.groups:
                return 0
            listed = listed_by(remote, remote.seen)
            with self.store.writer() as writer:
                done = rewrite.place(
                    self.store,
                    writer,
                    head,
                    lambda commit: bool(listed([commit])),
                    known,
                    lambda entries: self._bring(checkout.needed(self.store, entries)),
                )
                writer.save()
            made = done.get(head, head)
            if made != head:
                self._follow_rewriting(head, made)
            return sum(old != new for old, new in done.items())

    def _follow_rewriting(self, head: ObjectId, made: ObjectId) -> None:
        """Make ``main`` and the index follow commits that hold files for other groups by now."""
        old, new = (history.trees_of(self.store, each) for each in (head, made))
        rows = self.index.rows()
        # Each tree by itself: the files that move lie where no reader looks for them.
        before, after = (
            {
                group: dict(history.files_of(self.store, {group: tree}))
                for group, tree in trees.items()
            }
            for trees in (old, new)
        )
        moved = []
        for group, held in after.items():
            for path, entry in held.items():
                changed = entry != before.get(group, {}).get(path)
                row = rows.get(path) if changed else None
                if row and any(staging.agree(row, each.get(path)) for each in before.values()):
                    moved.append(staging.moved(row, Placed(group, entry), self.vault))
        clean = self.index.commit == head
        with self.database.transaction():
            self.database.set_ref(MAIN, made)
            self.index.put(moved)
            # Of a group that had no tree the index has all that there is of it.
            self.index.groups = self.index.groups | (new.keys() - old.keys())
            if clean:
                self.index.commit = made

    @contextlib.contextmanager
    def _prepared(self) -> Iterator[None]:
        """A project that is set up, and locked; what was made for a first pull goes if it fails."""
        fresh = not self.is_set_up
        if fresh:
            self.config.url(ORIGIN)
            self.set_up()
        with self.locked():
            try:
                yield
            except BaseException:
                if fresh and self.database.root(ORIGIN) is None:
                    self.tear_down()
                raise

    def _target(self, ours: ObjectId | None, theirs: ObjectId | None) -> merge.Merged:
        """Where ``main`` goes: to the side that has both, or to a merge of the two."""
        if ours and theirs:
            ahead, behind = history.ahead_behind(self.store, ours, theirs)
            if ahead and behind:
                return merge.merge(
                    self.store,
                    ours,
                    theirs,
                    label=f"{ORIGIN}/{MAIN}",
                    author=self.author,
                    known=self.roster,
                    rows=self.index.rows(),
                    bring=lambda entries: self._bring(checkout.needed(self.store, entries)),
                )
            if behind:
                old = projection.current(self.store, ours)
                living = {group.id for group in roster.living(self.roster)}
                new = projection.current(self.store, theirs)
                view, dropped = merge.without_drops(old, new, living)
                return merge.Merged(theirs, dict(view.trees), {}, (), dropped=tuple(dropped))
            left = merge.unpushed(self.store, ours, theirs, self.roster)
            return merge.Merged(ours, history.trees_of(self.store, ours), {}, (), left)
        commit = ours or theirs
        left = merge.unpushed(self.store, ours, None, self.roster)
        return merge.Merged(commit, history.trees_of(self.store, commit), {}, (), left)

    def _wanted(self, paths: StrPath | Iterable[StrPath], view: View) -> checkout.Wanted:
        names = self._names(paths)
        if not names:
            return lambda _: True
        held = dict(view.files())
        return set(staging.tracked(held, names, f" in {ORIGIN}/{MAIN}")).__contains__

    def download(self, revision: str, path: str, destination: StrPath, *, force: bool) -> Path:
        """Write one committed file somewhere, without touching anything else.

        Args:
            revision: Of which state; the remote is asked for what is new first.
            path: In the repository, from its root.
            destination: A file, or a directory to put it in.
            force: Whether to replace an existing file.

        Returns:
            The file that was written.
        """
        target = Path(destination)
        if target.is_dir():
            target /= path.rpartition("/")[2]
        if not force and (target.exists() or target.is_symlink()):
            raise errors.LocalChanges(target, hint="choose another name, or add --force")
        if ORIGIN in self.config.remotes():
            self._learn()
        _, entry = self._lookup(revision, path)
        blocks = self.cat(revision, path)
        files.write_stream(target, entry.mode & ~files.umask(), blocks)
        return target
