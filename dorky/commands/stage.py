"""Local work: what a command does with the files, the index and the history that are here.

Methods take plain values and return the frozen records of `dorky.results`; they never print.
Paths are as the user types them, relative to the current directory.
"""

from __future__ import annotations

import stat as stat_module
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import msgspec

from dorky import errors, files, git
from dorky.commands.checkout import PlaceWork
from dorky.commands.inspect import StrPath
from dorky.config import RC
from dorky.format.model import ALL, KiB, ObjectId
from dorky.keys import placement, roster
from dorky.keys.roster import GroupOf
from dorky.merge import commits as merge
from dorky.paths import shown
from dorky.results import Change, CheckedOut, LogEntry, Staged
from dorky.store import history, projection
from dorky.store import oplog as operations
from dorky.store.history import MAIN, Placed
from dorky.store.index import Row
from dorky.store.objects import Writer
from dorky.store.projection import View
from dorky.worktree import checkout, staging
from dorky.worktree import ingest as contents

_LONGEST_MESSAGE = 64 * KiB
_SEVERAL = 2


class LocalWork(PlaceWork):
    """The commands that need no remote (but fetch chunks that were left there)."""

    # --- staging ---------------------------------------------------------------------------

    def stage(
        self, paths: StrPath | Iterable[StrPath], *, force: bool = False, readers: str = ""
    ) -> Staged:
        """Make the next commit hold files as they are now: changed, new, or gone.

        Args:
            paths: Files, directories, patterns.
            force: Whether to stage named files that `.dorkyignore` excludes.
            readers: The group that the files belong to, or ``all``: it may read them, even what
                another group has closed until now.

        Raises:
            PathNotFound: A path that matches nothing.
            GitTracked: A named file that git tracks.
            UnstorablePath: A name, or a kind of file, that can't be kept.
            NameClash: Names that differ only in case.
            WouldOpen: A file holds what a group has closed to those who could read it now.
        """
        names = self._names(paths)
        with self.operation(f"stage {shown(names)}"):
            rows = self.index.rows()
            for name in names:
                if name not in rows and (link := self.worktree.link_above(name)):
                    raise errors.UnstorablePath(
                        name,
                        f"{link} is a symbolic link",
                        hint="stage the link itself, or the file by its real path",
                    )
            chosen = staging.select(self.worktree, self.ignore, rows, names, force=force)
            settled = self._settled_by(names, chosen)
            done = self._stage(rows, chosen, readers)
            self._settle(settled)
            return done

    def _settled_by(self, names: Iterable[str], chosen: staging.Selection) -> set[str]:
        """The conflicts that staging settles: files named outright. Others are passed over.

        Raises:
            StillMarked: One of them is not settled.
        """
        state = merge.load(self.database)
        if state is None:
            return set()
        pending = {each.path for each in state.conflicts}
        named = pending.intersection(names)
        self._check_unmarked(named)
        for path in (pending - named) | {each.beside for each in state.conflicts}:
            if path not in chosen.named:
                chosen.present.pop(path, None)
                chosen.gone.discard(path)
        return named

    def _check_unmarked(self, paths: Iterable[str]) -> None:
        from dorky.merge import threeway

        for path in sorted(filter(self._is_file, paths)):
            with open(self.worktree.open(path), "rb") as file:
                line = threeway.marked(file.read())
            if line is not None:
                raise errors.StillMarked(path, line)

    def _settle(self, paths: Collection[str]) -> None:
        """Note that conflicts are settled, and take away what lay beside the files for that.

        Unless it was edited: then it is a file like any other.
        """
        state = merge.load(self.database)
        if state is None or not paths:
            return
        besides = {each.beside for each in state.conflicts if each.beside and each.path in paths}
        view = View(self.store, state.trees, self.owner)
        held = dict(view.files(besides)) if besides else {}
        gone = []
        for path in sorted(besides & held.keys()):
            stat = self.worktree.stat(path)
            if stat and staging.holds(self.worktree, path, stat, held[path].entry):
                row = staging.row_of(path, held[path], self.vault, absent=False)
                operations.note_disk(self.database, {path: (row, None)})
                self.worktree.remove(path)
                gone.append(self.root / path)
        if gone and git.find(self.root):
            git.unignore(self.root, gone)
        left = tuple(each for each in state.conflicts if each.path not in paths)
        merge.save(self.database, msgspec.structs.replace(state, conflicts=left))

    def _stage(
        self, rows: Mapping[str, Row], chosen: staging.Selection, readers: str = ""
    ) -> Staged:
        top = git.find(self.root)
        skipped = 0
        for path in chosen.present.keys() - rows.keys():
            name = path.rpartition("/")[2]
            if name == RC or (top and files.is_gits_own(name)):
                if path in chosen.named:
                    raise errors.UnstorablePath(path, "it belongs into git, or beside the project")
                del chosen.present[path]
        if top:
            skipped = self._leave_to_git(top, rows, chosen)
        new = chosen.present.keys() - rows.keys()
        portable = self.config.get("portable_names") is not False
        # What goes makes room: a file may be renamed from Readme to README.
        staging.check_names(new, rows.keys() - chosen.gone, portable=portable)
        self._check_no_repository(new)
        self._check_groups(chosen.present)
        self._check_readers(chosen.present, readers)
        exposed: list[Path] = []
        lines: list[str] = []
        if top and chosen.present:
            # Before anything is staged: a file that git goes on seeing is not to be kept here.
            exposed = git.not_ignored(top, [self.root / path for path in chosen.present])
            lines = git.ignore(self.root, exposed) if exposed else []
        try:
            changes = staging.stage(
                self.worktree,
                self.store,
                self.index,
                rows,
                chosen,
                self._owning(),
                self.progress,
                lambda new: None if readers else self._check_sources(rows, new),
            )
        except BaseException:
            if lines:  # kept by nobody, they must not be hidden from git either
                git.unignore(self.root, exposed)
            raise
        added = [each.path for each in changes if each.what == "added"]
        return Staged(
            changes=tuple(changes),
            ignored=tuple(lines),
            skipped=skipped,
            purged=tuple(filter(self._tombstones(), added)),
        )

    def _check_groups(self, paths: Iterable[str]) -> None:
        """Refuse files that can't be sealed for whom they are meant.

        Raises:
            ForeignGroup: They belong to a group that the user is not in.
            AmbiguousGroup: They belong to several groups.
        """
        known = self.roster
        if not known.groups:
            return
        owner, groups = placement.owner(known), self.vault.groups
        for path in paths:
            group = owner(path)
            if group is None:
                first, second = (each.name for each in placement.claimants(known, path)[:2])
                raise errors.AmbiguousGroup(path, first, second)
            if group not in groups:
                raise errors.ForeignGroup(path, roster.name_of(known, group))

    def _owning(self) -> GroupOf:
        """Return the function that gives a path's owner, for paths that `_check_groups` accepts."""
        owner = self.owner
        return lambda path: owner(path) or ALL

    def _check_readers(self, paths: Iterable[str], readers: str) -> None:
        """Make sure that files belong to the readers that were named for them, if any were.

        Raises:
            NoSuchGroup: There is no such group.
            UsageError: A file belongs to others.
        """
        if not readers:
            return
        known = self.roster
        named = ALL if readers == ALL else roster.group(known, readers).id
        owner = placement.owner(known)
        for path in paths:
            if (group := owner(path)) not in {named, None}:
                name = roster.name_of(known, str(group))
                raise errors.UsageError(
                    f"{path} is for {name}, not for {readers}",
                    hint="the patterns decide that: dorky group list",
                )

    def _check_sources(self, rows: Mapping[str, Row], new: Iterable[Row]) -> None:
        """Refuse rows that hold what a group has closed to their readers.

        Content tells where it comes from: a file of the group's that is staged or committed holds
        the same, or the row that is replaced was the group's.

        Raises:
            WouldOpen: There is one.
        """
        if not self.roster.groups:
            return
        closed: dict[str, str] | None = None
        for row in new:
            old = rows.get(row.path)
            source = old.group if old else ALL
            if source == ALL and row.size:
                if closed is None:
                    closed = self._closed_contents(rows)
                source = closed.get(self.vault.mask(row.digest, row.content), ALL)
            if placement.is_widening(source, row.group):
                raise self._would_open(row.path, source, row.group)

    def _would_open(
        self, path: str, source: str, target: str, command: str = "stage", more: str = ""
    ) -> errors.WouldOpen:
        """Return the error, with a hint that names the command which does it on purpose."""
        old, new = (roster.name_of(self.roster, group) for group in (source, target))
        hint = f"if they may: dorky {command} {errors.quoted(path)}{more} --for {new}"
        return errors.WouldOpen(path, old, new, hint=hint)

    def _closed_contents(self, rows: Mapping[str, Row]) -> dict[str, str]:
        """Return the SHA-256 of each closed group's files, staged or committed, and the group."""
        if self.index.groups <= {ALL}:
            return {}
        since = self.index.since
        # Where nothing is staged, the rows are what is committed.
        paths = since[1] if since and since[0] == history.head_of(self.store) else None
        kept = staging.committed(self.store, self.index, rows, paths)
        found = {placed.entry.sha256: placed.group for placed in kept.values()}
        found |= {self.vault.mask(row.digest, row.content): row.group for row in rows.values()}
        return {digest: group for digest, group in found.items() if group != ALL}

    def _check_no_repository(self, new: Collection[str]) -> None:
        """Refuse to keep what would make git take a directory for a repository of its own.

        Raises:
            UnstorablePath: Everybody's git would do what its ``config`` says.
        """
        for directory in sorted(checkout.repositories(self.worktree, new)):
            for path in sorted(new):
                if not directory or path.startswith(f"{directory}/"):
                    raise errors.UnstorablePath(
                        path,
                        "git takes its directory for a repository, and would run what is in it",
                        hint=f"echo {errors.quoted(f'/{directory}/')} >> .dorkyignore",
                    )

    def _leave_to_git(self, top: Path, rows: Mapping[str, Row], chosen: staging.Selection) -> int:
        """Refuse named files that git tracks; pass over those met in directories."""
        candidates = {self.root / path: path for path in chosen.present}
        held = {candidates[path] for path in git.tracked(top, list(candidates))}
        for path in sorted(held):
            if path in chosen.named or path in rows:
                raise errors.GitTracked(path)
        for path in held:
            del chosen.present[path]
        return len(held)

    def unstage(self, paths: StrPath | Iterable[StrPath]) -> Staged:
        """Make the next commit hold files as ``HEAD`` does. The files stay as they are."""
        names = self._names(paths)
        with self.operation(f"unstage {shown(names)}"):
            rows = self.index.rows()
            committed = staging.committed(self.store, self.index, rows)
            chosen = staging.tracked({**committed, **rows}, names, " or staged")
            changes, back, gone = [], [], []
            for path in chosen:
                placed, row = committed.get(path), rows.get(path)
                if placed is None:
                    gone.append(path)
                    changes.append(Change(path, "deleted"))
                elif not staging.agree(row, placed.entry):
                    absent = self.worktree.stat(path) is None and (row is None or row.absent)
                    back.append(staging.row_of(path, placed, self.vault, absent=absent))
                    changes.append(Change(path, "modified" if row else "added"))
            with self.database.transaction():
                self.index.remove(gone)
                self.index.put(back)
            return Staged(changes=tuple(sorted(changes)))

    def rm(
        self, paths: StrPath | Iterable[StrPath], *, cached: bool = False, force: bool = False
    ) -> Staged:
        """Make the next commit not hold files, and delete them.

        Args:
            paths: Files, directories, patterns.
            cached: Whether the files stay on disk (and git's ignore rules for them go).
            force: Whether to delete files whose content is not committed, after keeping them as
                a backup commit.

        Raises:
            LocalChanges: A file whose content is kept nowhere.
        """
        names = self._names(paths)
        with self.operation(f"rm {shown(names)}"):
            rows = self.index.rows()
            chosen = {path: rows[path] for path in staging.tracked(rows, names)}
            kept = ""
            if not cached:
                kept = self._delete(rows, chosen, force=force)
            with self.database.transaction():
                self.index.remove(chosen)
                self._settle(chosen.keys())
            if cached and git.find(self.root):
                git.unignore(self.root, [self.root / path for path in chosen])
            changes = tuple(Change(path, "deleted") for path in chosen)
            return Staged(changes=changes, backup=kept)

    def _delete(self, rows: Mapping[str, Row], chosen: Mapping[str, Row], *, force: bool) -> str:
        """Delete files; give the ref that keeps those whose content is not committed."""
        made = checkout.plan_files(self.worktree, self.store, rows, dict.fromkeys(chosen))
        staged = {each.path for each in staging.staged(self.store, self.index, rows)}
        made.conflicts.update(staged & made.remove)
        if made.conflicts and not force:
            raise errors.LocalChanges(
                shown(sorted(made.conflicts)), hint="commit them, or add --cached (keeps the files)"
            )
        kept, _ = self._carry_out(rows, made, force=True)
        return kept

    # --- committing ------------------------------------------------------------------------

    def commit(self, message: str, *, all: bool = False) -> LogEntry:
        """Record what is staged.

        Args:
            message: Why.
            all: Whether to stage tracked files that changed first.

        Raises:
            EmptyMessage: Nothing but white space.
            UsageError: The message is not Unicode, or too long.
            NothingToDo: Nothing is staged.
            Detached: An old revision is checked out.
            Unresolved: A merge has left conflicts. Without any, the commit ends the merge.
        """
        if not message.strip() and self.is_set_up and (state := merge.load(self.database)):
            message = f"Merge {state.label}"
        if not message.strip():
            raise errors.EmptyMessage
        try:
            length = len(message.encode())
        except UnicodeEncodeError:
            raise errors.UsageError("the commit message is not UTF-8") from None
        if length > _LONGEST_MESSAGE:
            raise errors.UsageError(
                f"the commit message has {length:,} bytes, at most {_LONGEST_MESSAGE:,} are kept"
            )
        with self.operation("commit"):
            head = self._attached_head()
            merging = merge.load(self.database)
            if merging and merging.conflicts:
                self._check_no_merge()
            if all:
                rows = self.index.rows()
                present = {
                    path: stat
                    for path in rows
                    if (stat := self.worktree.stat(path)) and not stat_module.S_ISDIR(stat.st_mode)
                }
                gone = {path for path in rows.keys() - present.keys() if not rows[path].absent}
                self._stage(rows, staging.Selection(present, set(), gone))
            self._follow_claims(head)
            rows = self.index.rows()
            changes = staging.staged(self.store, self.index, rows)
            if not changes and not merging:
                # The next commit leaves out what does not count: there may be nothing else to do.
                dropped = {each.path for each in self._masked(head) if len(each.owners) < _SEVERAL}
                changes = [Change(path, "deleted") for path in sorted(dropped)]
            if not changes and not merging:
                raise errors.NothingToDo(
                    "nothing is staged", hint="dorky stage FILE…, or dorky commit -a"
                )
            with self.store.writer() as writer:
                moved, trees = self._write_trees(writer, head, rows, changes, merging)
                carried = self._carried(head, trees, merging)
                top = git.find(self.root)
                commit = history.add_commit(
                    writer,
                    {**trees, **carried},
                    [head, merging.theirs if merging else None],
                    author=self.author,
                    message=message.strip(),
                    git=(git.head(top) or "") if top else "",
                )
                with self.database.transaction():
                    writer.save()
                    self.database.set_ref(MAIN, commit)
                    self.index.put(moved.values())
                    self.index.commit = commit
                    if trees.keys() - self.index.groups:
                        self.index.groups = trees.keys() | self.index.groups
                    merge.save(self.database, None)
            return self._entry(history.read_commit(self.store, commit), commit, tuple(changes))

    def _write_trees(
        self,
        writer: Writer,
        head: ObjectId | None,
        rows: Mapping[str, Row],
        changes: Iterable[Change],
        merging: merge.State | None,
    ) -> tuple[dict[str, Row], dict[str, ObjectId]]:
        """Store the trees that hold what is staged, and contested files as they were committed.

        Returns:
            The rows that had to be encrypted for other groups, and the trees by group.
        """
        known, owner = self.roster, self.owner
        frozen = {path for path in rows if known.groups and owner(path) is None}
        # Of what is contested nothing is committed but what was committed before.
        self._check_groups(rows.keys() - (frozen - {each.path for each in changes}))
        moved = self._regrouped(rows, writer, frozen)
        about = self.index.groups & self.vault.groups
        before = projection.current(self.store, head, about)
        if merging:
            before = View(self.store, merging.trees, owner)
        placed = [
            (path, *staging.placed_of(row, self.vault))
            for path, row in {**rows, **moved}.items()
            if path not in frozen
        ]
        if placement.is_contested(known):
            placed += [(path, *held) for path, held, why in before.walk() if why and not why.owner]
        living = {group.id for group in roster.living(known)}
        return moved, staging.write_placed(placed, writer, before.trees.keys() & living)

    def _regrouped(
        self, rows: Mapping[str, Row], writer: Writer, frozen: Collection[str]
    ) -> dict[str, Row]:
        """Rows whose content has to be sealed for another group than it is, with that done.

        A file was staged before its path became a group's, say.

        Raises:
            WouldOpen: A group has closed the content to those who could read it then.
        """
        if not self.roster.groups:
            return {}
        moved = {}
        group_of = self._owning()
        for path, row in rows.items():
            if path in frozen or (group := group_of(path)) == row.group:
                continue
            if placement.is_widening(row.group, group):
                raise self._would_open(path, row.group, group)
            entry = staging.entry_of(row, self.vault)
            self._bring(checkout.needed(self.store, [entry]))
            entry = contents.regroup(self.store, writer, entry, group, source=row.group)
            moved[path] = staging.moved(row, Placed(group, entry), self.vault)
        return moved

    def _carried(
        self, head: ObjectId | None, trees: Mapping[str, ObjectId], merging: merge.State | None
    ) -> dict[str, ObjectId]:
        """The trees that a commit takes over as they are: of groups that the index is not about.

        Raises:
            NotPulled: Files of such a group are staged, though those that it has are not here yet.
        """
        old = history.read_commit(self.store, head).trees if head else {}
        about = self.index.groups & self.vault.groups
        carried = {group: tree for group, tree in old.items() if group not in about}
        if merging:
            carried = merging.sealed
        for group in carried.keys() & trees.keys():
            raise errors.NotPulled(roster.name_of(self.roster, group))
        return carried

    # --- back to files ---------------------------------------------------------------------

    def restore(
        self,
        paths: StrPath | Iterable[StrPath],
        *,
        source: str = "",
        staged: bool = False,
        readers: str = "",
    ) -> CheckedOut | Staged:
        """Put files back as they are staged, or as a revision holds them.

        What would be lost is kept as a backup commit first.

        Args:
            paths: Files, directories, patterns.
            source: The revision to take them from; the index without one.
            staged: Whether to put back the index instead of the files.
            readers: The group that the files belong to, or ``all``: it may read them, even what
                another group has closed until now.

        Raises:
            WouldOpen: A file belongs to others now than the group that closed it then.
        """
        if staged:
            if source:
                raise errors.UsageError(
                    "--staged takes no --source", hint="dorky restore --staged PATH (from HEAD)"
                )
            return self.unstage(paths)
        names = self._names(paths)
        with self.operation(f"restore {shown(names)}"):
            rows = self.index.rows()
            commit = history.resolve(self.store, source) if source else None
            held = (
                self._placed(commit)
                if commit
                else {path: staging.placed_of(row, self.vault) for path, row in rows.items()}
            )
            where = f" in {source}" if source else ""
            chosen = staging.tracked(held, names, where)
            if commit:
                self._check_readers(chosen, readers)
                self._check_restored({path: held[path] for path in chosen}, source, readers)
            wanted: dict[str, Placed | None] = {path: held[path] for path in chosen}
            made = checkout.plan_files(self.worktree, self.store, rows, wanted)
            backup, done = self._carry_out(rows, made, force=True)
            changes = self._on_disk(made)
            with self.database.transaction():
                # Files from another revision are changes that may be staged; the index stays.
                self.index.refresh(
                    row for row in done.rows if row.path in rows and row.same(rows[row.path])
                )
            return CheckedOut(
                commit=commit,
                changes=changes,
                backup=backup,
                ignored=done.ignored,
                left_out=done.left_out,
            )

    def _check_restored(self, held: Mapping[str, Placed], source: str, readers: str) -> None:
        """Refuse files of a group that would belong to others once they are staged.

        Raises:
            WouldOpen: There is one, and these readers were not named.
        """
        owner = self.owner
        for path, placed in () if readers else held.items():
            target = owner(path)
            if target is not None and placement.is_widening(placed.group, target):
                more = f" --source {errors.quoted(source)}"
                raise self._would_open(path, placed.group, target, "restore", more)
