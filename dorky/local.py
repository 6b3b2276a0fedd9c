"""Local work: what a command does with the files, the index and the history that are here.

Methods take plain values and return the frozen records of `dorky.results`; they never print.
Paths are as the user types them, relative to the current directory.
"""

from __future__ import annotations

import shlex
import stat as stat_module
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import msgspec

from dorky import (
    checkout,
    contents,
    errors,
    files,
    git,
    history,
    merge,
    operations,
    roster,
    staging,
)
from dorky.config import RC
from dorky.history import MAIN
from dorky.index import Row
from dorky.looking import StrPath
from dorky.model import Entry, KiB, ObjectId
from dorky.paths import shown
from dorky.placing import PlaceWork
from dorky.results import Change, CheckedOut, LogEntry, Staged
from dorky.store import Writer

_LONGEST_MESSAGE = 64 * KiB


class LocalWork(PlaceWork):
    """The commands that need no remote (but fetch chunks that were left there)."""

    # --- staging ---------------------------------------------------------------------------

    def stage(self, paths: StrPath | Iterable[StrPath], *, force: bool = False) -> Staged:
        """Make the next commit hold files as they are now: changed, new, or gone.

        Args:
            paths: Files, directories, patterns.
            force: Whether to stage named files that `.dorkyignore` excludes.

        Raises:
            PathNotFound: A path that matches nothing.
            GitTracked: A named file that git tracks.
            UnstorablePath: A name, or a kind of file, that can't be kept.
            NameClash: Names that differ only in case.
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
            done = self._stage(rows, chosen)
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
        from dorky import threeway

        for path in sorted(filter(self._is_file, paths)):
            with open(self.worktree.open(path), "rb") as file:
                line = threeway.marked(file.read())
            if line is not None:
                raise errors.StillMarked(path, line, shlex.quote(path))

    def _settle(self, paths: Collection[str]) -> None:
        """Note that conflicts are settled, and take away what lay beside the files for that.

        Unless it was edited: then it is a file like any other.
        """
        state = merge.load(self.database)
        if state is None or not paths:
            return
        besides = {each.beside for each in state.conflicts if each.beside and each.path in paths}
        held = dict(history.files_of(self.store, state.trees)) if besides else {}
        gone = []
        for path in sorted(besides & held.keys()):
            stat = self.worktree.stat(path)
            if stat and staging.holds(self.worktree, path, stat, held[path]):
                row = staging.row_of(path, held[path], self.vault, absent=False)
                operations.note_disk(self.database, {path: (row, None)})
                self.worktree.remove(path)
                gone.append(self.root / path)
        if gone and git.find(self.root):
            git.unignore(self.root, gone)
        left = tuple(each for each in state.conflicts if each.path not in paths)
        merge.save(self.database, msgspec.structs.replace(state, conflicts=left))

    def _stage(self, rows: Mapping[str, Row], chosen: staging.Selection) -> Staged:
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
        exposed: list[Path] = []
        lines: list[str] = []
        if top and chosen.present:
            # Before anything is staged: a file that git goes on seeing is not to be kept here.
            exposed = git.not_ignored(top, [self.root / path for path in chosen.present])
            lines = git.ignore(self.root, exposed) if exposed else []
        try:
            changes = staging.stage(
                self.worktree, self.store, self.index, rows, chosen, self.grouping(), self.progress
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
        groups = self.vault.groups if known.groups else ()
        for path in paths if known.groups else ():
            if (group := roster.check_single(known, path)) not in groups:
                raise errors.ForeignGroup(path, roster.name_of(known, group))

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
                        hint=f"echo {shlex.quote(f'/{directory}/')} >> .dorkyignore",
                    )

    def _leave_to_git(self, top: Path, rows: Mapping[str, Row], chosen: staging.Selection) -> int:
        """Refuse named files that git tracks; pass over those met in directories."""
        candidates = {self.root / path: path for path in chosen.present}
        held = {candidates[path] for path in git.tracked(top, list(candidates))}
        for path in sorted(held):
            if path in chosen.named or path in rows:
                raise errors.GitTracked(path, shlex.quote(path))
        for path in held:
            del chosen.present[path]
        return len(held)

    def unstage(self, paths: StrPath | Iterable[StrPath]) -> Staged:
        """Make the next commit hold files as ``HEAD`` does. The files stay as they are."""
        names = self._names(paths)
        with self.operation(f"unstage {shown(names)}"):
            rows = self.index.rows()
            committed = staging.committed(self.store, self.index)
            chosen = staging.tracked({**committed, **rows}, names, " or staged")
            changes, back, gone = [], [], []
            for path in chosen:
                entry, row = committed.get(path), rows.get(path)
                if entry is None:
                    gone.append(path)
                    changes.append(Change(path, "deleted"))
                elif not staging.agree(row, entry):
                    absent = self.worktree.stat(path) is None and (row is None or row.absent)
                    back.append(staging.row_of(path, entry, self.vault, absent=absent))
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
            rows = self.index.rows()
            misplaced = self._misplaced()
            changes = staging.staged(self.store, self.index, rows)
            resealed = misplaced - {each.path for each in changes}
            changes = sorted([*changes, *(Change(path, "modified") for path in resealed)])
            if not changes and not merging:
                raise errors.NothingToDo(
                    "nothing is staged", hint="dorky stage FILE…, or dorky commit -a"
                )
            self._check_groups(rows)
            with self.store.writer() as writer:
                moved = self._regrouped(rows, writer, {each.path for each in changes})
                rows.update(moved)
                trees = staging.write_trees(rows.values(), writer, self.vault, self.grouping())
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

    def _misplaced(self) -> set[str]:
        """Committed files that lie in another group's tree than their paths say by now."""
        known = self.roster
        own = self.index.groups & self.vault.groups if known.groups else frozenset()
        trees = history.trees_of(self.store, history.head_of(self.store), own) if own else {}
        return {
            path
            for group, tree in trees.items()
            for path, _ in history.files_of(self.store, {group: tree})
            if (meant := roster.group_of(known, path)) != group and meant in own
        }

    def _regrouped(
        self, rows: Mapping[str, Row], writer: Writer, changed: set[str]
    ) -> dict[str, Row]:
        """Rows whose content has to be sealed for another group than it is, with that done.

        A file was staged before its path became a group's, say.
        """
        known = self.roster
        if not known.groups:
            return {}
        moved = {}
        judged = {path: row for path, row in rows.items() if path in changed}
        places = self.store.locate(row.content for row in judged.values())
        for path, row in judged.items():
            group = roster.group_of(known, path)
            at = places.get(row.content)
            if at and self.vault.group_of(self.store.stored(at)) != group:
                entry = staging.entry_of(row, self.vault)
                self._bring(checkout.needed(self.store, [entry]))
                moved[path] = staging.moved(
                    row, contents.regroup(self.store, writer, entry, group), self.vault
                )
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
        self, paths: StrPath | Iterable[StrPath], *, source: str = "", staged: bool = False
    ) -> CheckedOut | Staged:
        """Put files back as they are staged, or as a revision holds them.

        What would be lost is kept as a backup commit first.

        Args:
            paths: Files, directories, patterns.
            source: The revision to take them from; the index without one.
            staged: Whether to put back the index instead of the files.
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
                self._committed(commit)
                if commit
                else {path: staging.entry_of(row, self.vault) for path, row in rows.items()}
            )
            where = f" in {source}" if source else ""
            wanted: dict[str, Entry | None] = {
                path: held[path] for path in staging.tracked(held, names, where)
            }
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
