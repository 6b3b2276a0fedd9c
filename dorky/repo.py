"""The repository: a thin facade, one short method per command.

Methods take plain values and return the frozen records of `dorky.results`; they never print. Each
imports its command when it is called. A path to a file of the project is either absolute, or counts
from the project's root; the current directory never matters.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from dorky import errors
from dorky.keys import age
from dorky.progress import SILENT, Progress
from dorky.project import Project

if TYPE_CHECKING:
    from dorky.commands.inspect import StrPath
    from dorky.commands.signatures import Exported
    from dorky.commands.signatures import Form as BundleForm
    from dorky.documents.export import Form
    from dorky.format.model import Role
    from dorky.provenance.private_keys import PrivateKey
    from dorky.provenance.public_keys import PublicKey
    from dorky.provenance.sbom import Format
    from dorky.results import (
        Attestation,
        Check,
        CheckedOut,
        DestroyPlan,
        Diff,
        Edited,
        Exposures,
        FetchResult,
        FileEntry,
        FsckReport,
        GCReport,
        Generated,
        GroupChange,
        GroupInfo,
        Initialized,
        JoinRequest,
        LogEntry,
        MemberInfo,
        Mirror,
        OperationEntry,
        PullResult,
        PurgePlan,
        PushResult,
        RemoteGCReport,
        RepairReport,
        Resolved,
        RootRepair,
        Rotation,
        Saved,
        Sbom,
        Signature,
        SignResult,
        Staged,
        Status,
        Synced,
        Team,
        TeamChange,
        Trust,
        Undone,
        Verification,
    )


class Repository(Project):
    """A project, with a method for each command."""

    @classmethod
    def init(
        cls,
        root: StrPath = ".",
        url: str = "",
        *,
        plain: bool = False,
        name: str = "",
        recovery: str = "",
        passphrase: str = "",
        options: Mapping[str, str | bool] | None = None,
        progress: Progress = SILENT,
        ask: age.Ask = age.nobody,
    ) -> tuple[Repository, Initialized]:
        """Start a repository in a directory, and in the remote at ``url`` if one is given.

        Args:
            root: The project's directory; made if it is missing.
            url: The remote. Nothing is left behind locally if it can't be used.
            plain: Whether to leave what reaches the remote unencrypted.
            name: The user's name on the team; derived from the author's name by default.
            recovery: A second way in, should the user's key be lost: ``key`` makes an age key to be
                kept on paper, ``passphrase`` takes ``passphrase``.
            passphrase: The passphrase of ``recovery``.
            options: Further settings of the remote: ``profile``, ``region``, ``endpoint``,
                ``single_writer``.
            progress: Receives the progress of long operations.

        Raises:
            AlreadyARepository: The directory is a project.
            RepositoryExists: The remote holds a repository.
            SwapsIgnored: The remote ignores conditional writes.
        """
        from dorky.commands import setup as commands

        return commands.init(
            cls,
            root,
            url,
            plain=plain,
            name=name,
            recovery=recovery,
            passphrase=passphrase,
            options=options,
            progress=progress,
            ask=ask,
        )

    @classmethod
    def clone(
        cls,
        url: str,
        root: StrPath,
        *,
        options: Mapping[str, str | bool] | None = None,
        accept_rewind: bool = False,
        plain: bool = False,
        fingerprint: str = "",
        team: str = "",
        progress: Progress = SILENT,
        ask: age.Ask = age.nobody,
    ) -> tuple[Repository, PullResult]:
        """Make a directory that holds the newest state of the repository at ``url``.

        Whether the remote honours conditional writes is found out before the first push, so that
        users with read-only access can clone.

        Args:
            url: The remote's URL.
            root: The directory; made if it is missing.
            options: Further settings of the remote (see `init`).
            accept_rewind: Whether to accept a state that is older than one seen on this machine.
            plain: Whether the repository may be unencrypted.
            fingerprint: The fingerprint that the repository must have, as in `.dorkyrc`.
            team: An entry that its team log must have, as in `.dorkyrc`.
            progress: Receives the progress of long operations.
            ask: Asks the user for a passphrase.

        Raises:
            NoRepositoryAtURL: The remote holds no repository.
            Rewound: The repository is older than what this user has seen of it on this machine.
            ConflictError: The directory is not empty.
            UnencryptedRepository: The repository is not encrypted, and ``plain`` was not given.
            WrongKey: The repository has another fingerprint.
            WrongTeam: Its team log has another entry.
            TeamRewound: Its team log is older.
        """
        from dorky.commands import setup as commands

        return commands.clone(
            cls,
            url,
            root,
            options=options,
            accept_rewind=accept_rewind,
            plain=plain,
            fingerprint=fingerprint,
            team=team,
            progress=progress,
            ask=ask,
        )

    @staticmethod
    def download_from(
        url: str,
        revision: str,
        path: str,
        destination: StrPath,
        *,
        force: bool = False,
        options: Mapping[str, str | bool] | None = None,
        plain: bool = False,
        progress: Progress = SILENT,
        ask: age.Ask = age.nobody,
    ) -> Path:
        """Run `download` without a project; everything but the file is deleted afterwards."""
        from dorky.commands import setup as commands

        return commands.download_from(
            url,
            revision,
            path,
            destination,
            force=force,
            options=options,
            plain=plain,
            progress=progress,
            ask=ask,
        )

    def remote_add(self, name: str, url: str, options: Mapping[str, str | bool]) -> None:
        """Name a remote in `.dorkyrc`.

        Raises:
            RemoteExists: The name is taken.
        """
        from dorky.commands import setup as commands

        return commands.add_remote(self, name, url, options)

    def remote_set_url(self, name: str, url: str) -> tuple[str, ...]:
        """Change a remote's URL, and take out what `.dorkyrc` says of its old place.

        Returns:
            The options that were taken out, such as ``endpoint``.
        """
        from dorky.commands import setup as commands

        return commands.set_remote_url(self, name, url)

    def remote_remove(self, name: str) -> None:
        """Forget a remote. Its content stays."""
        from dorky.commands import setup as commands

        return commands.remove_remote(self, name)

    def plan_trust(self, name: str = "") -> Trust:
        """Inspect state that is not this user's (see `trust.plan`)."""
        from dorky.commands import trust as commands

        return commands.plan(self, name)

    def trust(self, plan: Trust) -> Trust:
        """Take over the state that `plan_trust` has inspected."""
        from dorky.commands import trust as commands

        return commands.apply(self, plan)

    def doctor(self) -> list[Check]:
        """Find what is wrong with the project, or soon will be."""
        from dorky.commands import doctor as commands

        return list(commands.examine(self))

    def fsck(
        self,
        *,
        remote: bool = False,
        read_data: tuple[int, int] | None = None,
        keyless: bool = False,
    ) -> FsckReport:
        """Find what is damaged or lost (see `fsck.examine`)."""
        from dorky.commands import fsck as commands

        return commands.examine(self, remote=remote, read_data=read_data, keyless=keyless)

    def fsck_rebuild(self) -> RepairReport:
        """Rebuild the local database (see `repair.rebuild`)."""
        from dorky.commands import repair as commands

        return commands.rebuild(self)

    def gc(
        self,
        *,
        grace: timedelta | None = None,
        prune_remote_verified: bool = False,
        dry_run: bool = False,
    ) -> GCReport:
        """Delete what nothing in the local store needs any more.

        Args:
            grace: How old a pack must be before unneeded objects in it are deleted; two weeks by
                default.
            prune_remote_verified: Whether to delete content, too, that the remote provably has.
            dry_run: Whether to report only what would be deleted.

        Raises:
            MissingObject: Something is missing, so what is needed can't be told.
        """
        from dorky.commands import gc as commands

        return commands.collect(
            self, grace=grace, prune_remote_verified=prune_remote_verified, dry_run=dry_run
        )

    def gc_remote(self, *, grace: timedelta | None = None, dry_run: bool = False) -> RemoteGCReport:
        """Delete from the remote what nobody needs any more, and repack what is scattered.

        Args:
            grace: How old packs that no root lists must be before they are deleted; a week by
                default.
            dry_run: Whether to report only what would be deleted.

        Raises:
            AccessDenied: Deleting is not allowed.
        """
        from dorky.commands import gc as commands

        return commands.collect_remote(self, grace=grace, dry_run=dry_run)

    def mirror(
        self,
        source: str,
        target: str,
        *,
        keyless: bool = False,
        read_data: bool = False,
        dry_run: bool = False,
        accept_rewind: bool = False,
    ) -> Mirror:
        """Copy a repository to another place as it is stored, and check it on the way.

        Args:
            source: The name of a remote, or a URL.
            target: Where to: nothing is there, or an earlier state of the same repository.
            keyless: Whether to do without a key: every pack and table that the source stores is
                copied, and what was copied before tells whether the target is earlier.
            read_data: Whether to read what the target has, and to replace what is damaged.
            dry_run: Whether to report only what would be copied.
            accept_rewind: Whether the source may be older than what this user has seen.

        Raises:
            CopyIsNewer: The target has a later state than the source.
            CopyDiverged: The target has changes that the source lacks.
            CopyUnknown: Without a key, nothing tells whether the target's state is earlier.
            CopyOfAnother: The target holds another repository.
            CorruptPack: A pack of the source is damaged; the others were copied, the root was not.
            NoKey: The user can't open the repository.
        """
        from dorky.commands import mirror as commands

        return commands.mirror(
            *(self, source, target),
            keyless=keyless,
            read_data=read_data,
            dry_run=dry_run,
            accept_rewind=accept_rewind,
            progress=self.progress,
            ask=self.ask or (lambda _: None),
        )

    def plan_destroy(self, *, remote: bool = False) -> DestroyPlan:
        """Find out what `destroy` would delete.

        Args:
            remote: Whether to delete the repository in the remote, too.

        Raises:
            WrongRepository: The remote holds another repository.
        """
        from dorky.commands import destroy as commands

        return commands.plan_destroy(self, remote=remote)

    def destroy(self, plan: DestroyPlan) -> None:
        """Carry out what `plan_destroy` planned. The project's files stay."""
        from dorky.commands import destroy as commands

        return commands.destroy(self, plan)

    def status(self, paths: Iterable[StrPath] = ()) -> Status:
        """Return how the files, the index, ``HEAD`` and the remote (as last seen) differ.

        Args:
            paths: Files, directories or patterns; only what they select is told. All if empty.

        Raises:
            PathNotFound: A path is neither on disk nor tracked.
        """
        from dorky.commands import status as commands

        return commands.status(self, paths)

    def log(
        self,
        revision: str = "HEAD",
        path: StrPath | None = None,
        *,
        limit: int | None = None,
        changes: bool = False,
        signatures: bool = False,
    ) -> Iterator[LogEntry]:
        """Return the commits that led to a revision, newest first.

        Args:
            revision: Where to begin.
            path: Only commits that changed this file, or something below this directory.
            limit: The largest number of commits.
            changes: Whether to tell the files that each commit changed, which reads its trees.
            signatures: Whether to verify the signatures of the commits.
        """
        from dorky.commands import inspect as commands

        return commands.log(
            self, revision, path, limit=limit, changes=changes, signatures=signatures
        )

    def show(self, revision: str = "HEAD") -> LogEntry:
        """Return a commit and the files that it changed against its first parent."""
        from dorky.commands import inspect as commands

        return commands.show(self, revision)

    def ls(self, revision: str = "HEAD", path: StrPath | None = None) -> list[FileEntry]:
        """Return the files that a revision holds: all of them, or those at or below a path."""
        from dorky.commands import inspect as commands

        return commands.ls(self, revision, path)

    def cat(self, revision: str, path: StrPath) -> Iterator[bytes]:
        """Yield the content of a committed file, piece by piece, verified.

        Args:
            revision: The revision that holds the file.
            path: The file.

        Raises:
            PathNotTracked: The revision holds no such file.
        """
        from dorky.commands import inspect as commands

        return commands.cat(self, revision, path)

    def diff(
        self,
        revisions: Sequence[str] = (),
        paths: StrPath | Iterable[StrPath] = (),
        *,
        staged: bool = False,
        reveal: bool = False,
    ) -> Diff:
        """Return how files differ: on disk from what is staged, unless something else is asked for.

        Args:
            revisions: One revision (compared with the disk) or two (the second compared with the
                first), which may be written as ``A..B``.
            paths: Only these files, what is below these directories, or what patterns match.
            staged: Whether to compare what is staged with ``HEAD`` or with a revision.
            reveal: Whether to give values of documents, and the text of what looks like a secret.

        Raises:
            UsageError: There are three revisions, or two of them and ``staged``.
            PathNotTracked: Neither side has a path.
        """
        from dorky.commands import inspect as commands

        return commands.diff(self, revisions, paths, staged=staged, reveal=reveal)

    def checkout(self, revision: str, *, force: bool = False) -> CheckedOut:
        """Make the files and the index match a revision.

        Args:
            revision: ``main`` to go back to where commits are made; any other revision is only for
                looking.
            force: Whether to overwrite local changes, after keeping them as a backup commit.

        Raises:
            LocalChanges: Files would be overwritten.
        """
        from dorky.commands import checkout as commands

        return commands.checkout(self, revision, force=force)

    def stage(
        self,
        paths: StrPath | Iterable[StrPath],
        *,
        force: bool = False,
        readers: str = "",
        confirmed: bool = False,
    ) -> Staged:
        """Make the next commit hold files as they are now: changed, new, or gone.

        Args:
            paths: Files, directories, patterns.
            force: Whether to stage named files that `.dorkyignore` excludes, and files in place of
                versions that were never pulled.
            readers: The group that the files belong to, or ``all``: its members may read them, even
                what another group has closed until now.
            confirmed: Whether to take all that a directory or a pattern brings along.

        Raises:
            PathNotFound: A path matches nothing.
            NeverPulled: A named file is not the version of the last commit, which was never pulled.
            SourceCode: In a git repository, files that were not named look like source code.
            ManyFiles: In a git repository, the first stage takes more than 500 files that were not
                named.
            GitTracked: git tracks a named file.
            UnstorablePath: A named file, by its name or kind, can't be kept. Such files in a
                directory are left out, as are unreadable ones, and the result lists them.
            NameClash: Names differ only in case.
            WouldOpen: A file would open what a group has closed to those who could read the file
                now.
        """
        from dorky.commands import stage as commands

        return commands.stage(self, paths, force=force, readers=readers, confirmed=confirmed)

    def unstage(self, paths: StrPath | Iterable[StrPath]) -> Staged:
        """Make the next commit hold files as ``HEAD`` does. The files on disk stay as they are."""
        from dorky.commands import stage as commands

        return commands.unstage(self, paths)

    def rm(
        self, paths: StrPath | Iterable[StrPath], *, cached: bool = False, force: bool = False
    ) -> Staged:
        """Make the next commit not hold files, and delete them.

        Args:
            paths: Files, directories, patterns.
            cached: Whether the files stay on disk (and git's ignore rules for them are removed).
            force: Whether to delete files whose content is not committed, after keeping them as a
                backup commit.

        Raises:
            LocalChanges: The content of a file is kept nowhere.
        """
        from dorky.commands import stage as commands

        return commands.rm(self, paths, cached=cached, force=force)

    def commit(self, message: str, *, all: bool = False, allow_deletions: bool = False) -> LogEntry:
        """Commit what is staged.

        Args:
            message: The commit's message.
            all: Whether to stage tracked files that changed first.
            allow_deletions: Whether the commit may delete more than ten files and more than half of
                all.

        Raises:
            ManyDeletions: It would delete as many, which was not allowed. Nothing is staged.
            EmptyMessage: The message is nothing but white space.
            UsageError: The message is not Unicode, or too long.
            NothingToDo: Nothing is staged.
            Detached: An old revision is checked out.
            Unresolved: A merge has left conflicts. Without conflicts, the commit completes the
                merge.
        """
        from dorky.commands import commit as commands

        return commands.commit(self, message, all=all, allow_deletions=allow_deletions)

    def restore(
        self,
        paths: StrPath | Iterable[StrPath],
        *,
        source: str = "",
        staged: bool = False,
        readers: str = "",
    ) -> CheckedOut | Staged:
        """Put files back as they are staged, or as a revision holds them.

        Content that would be lost is kept as a backup commit first.

        Args:
            paths: Files, directories, patterns.
            source: The revision to take the files from; the index by default.
            staged: Whether to restore the index instead of the files.
            readers: The group that the files belong to, or ``all``: its members may read them, even
                what another group has closed until now.

        Raises:
            WouldOpen: A file now belongs to other readers than the group that closed it then.
        """
        from dorky.commands import stage as commands

        return commands.restore(self, paths, source=source, staged=staged, readers=readers)

    def resolve(
        self,
        paths: StrPath | Iterable[StrPath],
        *,
        ours: bool = False,
        theirs: bool = False,
        readers: str = "",
    ) -> Resolved:
        """Settle conflicts of a merge: with what the files hold now, or with one side's version.

        Args:
            paths: Files, directories, patterns.
            ours: Whether to take the local side's version.
            theirs: Whether to take the other side's version.
            readers: The group that the files belong to, or ``all``: its members may read them, even
                what another group has closed until now.

        Raises:
            NothingToDo: No merge is in progress.
            NotFoundError: A path has no conflict.
            StillMarked: A file has conflict markers.
            WouldOpen: A file now belongs to other readers than the group that has closed it.
        """
        from dorky.commands import resolve as commands

        return commands.resolve(self, paths, ours=ours, theirs=theirs, readers=readers)

    def merge_continue(self, message: str = "") -> LogEntry:
        """Commit a merge whose conflicts are resolved.

        Raises:
            NothingToDo: No merge is in progress.
            Unresolved: There are conflicts.
        """
        from dorky.commands import resolve as commands

        return commands.merge_continue(self, message)

    def merge_abort(self) -> Undone:
        """Go back to the state before the merge. Files edited since are kept as a backup.

        Raises:
            NothingToDo: No merge is in progress.
            UsageError: The merge began so long ago that the state before it is not known any more.
        """
        from dorky.commands import resolve as commands

        return commands.merge_abort(self)

    def op_log(self, *, limit: int | None = None) -> list[OperationEntry]:
        """Return the recorded operations, the newest first."""
        from dorky.commands import undo as commands

        return commands.op_log(self, limit=limit)

    def undo(self, count: int = 1, *, force: bool = False, dry_run: bool = False) -> Undone:
        """Take back the newest operations: refs, index and files are as they were before.

        An undo is an operation, too: undoing it restores everything.

        Args:
            count: How many operations to take back.
            force: Whether to overwrite what was edited since, after keeping it as a backup commit.
            dry_run: Whether to report only what would be taken back.

        Raises:
            NothingToDo: There is nothing to undo.
            LocalChanges: Files were edited since.
        """
        from dorky.commands import undo as commands

        return commands.undo(self, count, force=force, dry_run=dry_run)

    def push(self) -> PushResult:
        """Send the commits that the remote lacks, and move its ``main`` to the local one.

        Raises:
            NoCommits: There is nothing to push.
            Rejected: The remote has commits that the local store lacks.
            Misplaced: A commit holds a file for other readers than its path belongs to.
            SwapsIgnored: The remote can't be written to safely.
        """
        from dorky.commands import sync as commands

        return commands.push(self)

    def pull(
        self,
        paths: StrPath | Iterable[StrPath] = (),
        *,
        force: bool = False,
        accept_rewind: bool = False,
        plain: bool = False,
        all: bool = False,
    ) -> PullResult:
        """Fetch, and update the local files to match.

        Commits on both sides are merged. If the merge has conflicts, the files without a conflict
        are merged, those with one are prepared for resolving, and ``main`` does not move until they
        are resolved.

        Args:
            paths: If given, new files appear on disk only if they are (or lie below, or match) one
                of these; the others stay off the disk until they are pulled. The first pull's paths
                also limit later pulls without any, and later paths add to them.
            force: Whether to overwrite local changes, after keeping them as a backup commit.
            accept_rewind: Whether to follow the remote to an older state, or to another history.
            plain: Whether a repository that is seen for the first time may be unencrypted.
            all: Whether to end the limits of earlier pulls, and put every file in place.

        Raises:
            LocalChanges: Files would be overwritten.
            UnencryptedRepository: The repository is unencrypted, and ``plain`` was not given.
            Diverged: The changes of both sides can't live in one directory.
            Detached: An old revision is checked out.
            Unresolved: An earlier merge has left conflicts.
        """
        from dorky.commands import sync as commands

        return commands.pull(
            self, paths, force=force, accept_rewind=accept_rewind, plain=plain, all=all
        )

    def sync(self, *, rewrite: bool = False) -> Synced:
        """Pull, merge and push, until both sides are equal or there are conflicts.

        Args:
            rewrite: Whether to rewrite commits that are not pushed, so that each file is encrypted
                for the group that owns its path.

        Raises:
            NoCommits: Neither side has commits.
            Misplaced: Commits would have to be rewritten first.
            WouldOpen: The commits can't be rewritten: a file of a closed group now belongs to
                others.
            ServerBusy: Others were faster, again and again.
        """
        from dorky.commands import sync as commands

        return commands.sync(self, rewrite=rewrite)

    def save(
        self,
        paths: StrPath | Iterable[StrPath] = (),
        message: str = "",
        *,
        force: bool = False,
        readers: str = "",
        confirmed: bool = False,
        allow_deletions: bool = False,
    ) -> Saved:
        """Stage what has changed, commit it and push; pull and merge first if the remote has moved.

        Without paths, that is every tracked file that has changed, and all that is staged, as
        ``commit(all=True)`` takes it. With paths, it is what lies at or below them, new files
        included, and nothing else: other staged changes stay staged.

        If nothing has changed, but an earlier commit is not pushed, that one is.

        Args:
            paths: Files, directories and patterns.
            message: The commit's message.
            force: Whether to take named files that are ignored.
            readers: The group that the named files are meant for; checked if given.
            confirmed: Whether directories may bring source code, or very many files.
            allow_deletions: Whether the commit may delete more than half of the files.

        Raises:
            EmptyMessage: The message is nothing but white space.
            NothingToDo: Nothing has changed, and nothing is left to push.
            SourceCode: A directory brings what looks like source code.
            ManyFiles: It brings very many files.
            ManyDeletions: The commit would delete more than half of the files.
            NoRemote: There is no remote. Nothing is committed.
            MergeInProgress: A merge is not ended, and it holds conflicts, or paths were named.
            Unavailable: The remote can't be reached. The commit is made; saving again pushes it.
        """
        from dorky.commands import save as commands

        return commands.save(
            self,
            paths,
            message,
            force=force,
            readers=readers,
            confirmed=confirmed,
            allow_deletions=allow_deletions,
        )

    def download(self, revision: str, path: StrPath, destination: StrPath, *, force: bool) -> Path:
        """Write one committed file somewhere, without touching anything else.

        Args:
            revision: The revision that holds the file; the remote is asked for news first. Empty:
                the remote's newest.
            path: The file.
            destination: A file, or a directory to put the file in.
            force: Whether to replace an existing file.

        Returns:
            The file that was written.
        """
        from dorky.commands import remote_files as commands

        return commands.download(self, revision, path, destination, force=force)

    def read(
        self, path: StrPath, revision: str = "", *, fresh: bool = False, offline: bool = False
    ) -> bytes:
        """Return the whole content of a file. Nothing is written to the worktree.

        With a revision, the content is the revision's. Without one, it is the content on disk. If
        the file is not on disk, the remote is asked: the content is as staged, or as the remote has
        it if the remote is ahead, or if the project was never pulled.

        Links are followed as far as they stay in the project.

        Args:
            path: The file.
            revision: The revision that holds it.
            fresh: Whether a remote that can't be asked is an error. Otherwise what was last seen
                counts.
            offline: Whether the remote must not be asked.

        Raises:
            PathNotFound: There is no such file.
            PathNotTracked: The revision holds no such file.
            ForeignGroup: The file belongs to a group that the user is not in.
        """
        from dorky.commands.reading import Reader

        return Reader(self, revision, fresh=fresh, offline=offline).read(path)

    def get(self, path: StrPath, key: str, revision: str = "") -> str:
        """Return one value of a `.env`, JSON, TOML or YAML file.

        Args:
            path: The file.
            key: A variable, or a path of keys such as ``db.hosts.0``.
            revision: The revision that holds the file (see `read`).

        Raises:
            NoSuchVariable: There is no such variable.
            BadDocument: The file is malformed.
        """
        from dorky.commands import variables as commands
        from dorky.commands.reading import Reader

        return commands.get_variable(Reader(self, revision), path, key)

    def variables(
        self, path: StrPath, *, only: Collection[str] = (), revision: str = ""
    ) -> dict[str, str]:
        """Return all values of a `.env`, JSON, TOML or YAML file, by key, in the file's order.

        Args:
            path: The file.
            only: If given, the keys that are wanted.
            revision: The revision that holds the file (see `read`).

        Raises:
            NoSuchVariable: The file lacks one of ``only``.
            BadDocument: The file is malformed.
        """
        from dorky.commands import variables as commands
        from dorky.commands.reading import Reader

        return commands.variables(Reader(self, revision), path, only=only)

    def export(
        self,
        path: StrPath,
        form: Form,
        *,
        only: Collection[str] = (),
        allow: Collection[str] = (),
        revision: str = "",
    ) -> str:
        """Return the values of a file, written for another program to read.

        Args:
            path: The file.
            form: The program that reads them.
            only: If given, the keys that are wanted.
            allow: Variables that may be set though they change how programs are loaded.
            revision: The revision that holds the file (see `read`).

        Raises:
            UnsafeVariable: A variable is not allowed.
            CantExport: The form can't carry one of them.
        """
        from dorky.commands import variables as commands
        from dorky.commands.reading import Reader

        return commands.export(Reader(self, revision), path, form, only=only, allow=allow)

    def environment(
        self,
        paths: Sequence[StrPath] = (),
        *,
        only: Collection[str] = (),
        allow: Collection[str] = (),
        revision: str = "",
    ) -> dict[str, str]:
        """Return the variables of files, for a command's environment.

        Args:
            paths: The files; later ones win. By default the `.env` in the project's root.
            only: If given, the variables that are wanted.
            allow: Variables that may be set though they change how programs are loaded.
            revision: The revision that holds the files (see `read`).

        Raises:
            UnsafeVariable: A variable is not allowed.
            NoSuchVariable: None of the files holds one of ``only``.
        """
        from dorky.commands import variables as commands
        from dorky.commands.reading import Reader

        return commands.environment(Reader(self, revision), paths, only=only, allow=allow)

    def set(self, path: StrPath, key: str, value: str) -> Edited:
        """Set a variable, and stage the file. Comments and order stay.

        Args:
            path: A `.env`, JSON, TOML or YAML file; made if there is none.
            key: A variable, or a path of keys such as ``db.hosts.0``.
            value: The text. A number or a boolean stays one if the new text is one.

        Raises:
            UsageError: The file can't hold the value.
            BadDocument: The file is malformed.
            GitTracked: git tracks the file, which is as it was.
        """
        from dorky.commands import variables as commands

        return commands.set_variable(self, path, key, value)

    def check_settable(self, path: StrPath) -> None:
        """Check that a variable can be set in a file, and open the keys for it.

        Raises:
            UsageError: The file is no `.env`, JSON, TOML or YAML file.
            NoKey: The user can't write to the file.
        """
        from dorky.commands import variables as commands

        return commands.check_settable(self, path)

    def unset(self, path: StrPath, key: str) -> Edited:
        """Delete a variable, or a key with all below it, from a file, and stage the file.

        Raises:
            NoSuchVariable: There is no such variable.
            BadDocument: The file is malformed.
        """
        from dorky.commands import variables as commands

        return commands.unset_variable(self, path, key)

    def edit(
        self,
        path: StrPath,
        editor: Callable[[Path], None],
        *,
        again: Callable[[errors.BadDocument], bool] = lambda _: False,
    ) -> Edited:
        """Let an editor change a copy of a file; save it if it changed, and stage it.

        The copy lies in a directory of its own that nobody else can enter, in memory if the system
        has such a place. It is deleted afterwards.

        Args:
            path: Any file; made if there is none.
            editor: Edits the file it is given; if it raises, nothing is changed.
            again: Receives the error of malformed text; returns whether to edit it again.

        Raises:
            NotSaved: The file was changed meanwhile, or the text is malformed, or can't be staged.
                The text is kept where the error says.
        """
        from dorky.commands import variables as commands

        return commands.edit(self, path, editor, again=again)

    def team_list(self, path: StrPath = "") -> Team:
        """Return who may read, and who asks to.

        Args:
            path: If given, only members who may read this file.
        """
        from dorky.commands import team as commands

        return commands.members(self, path)

    def fetch(
        self,
        paths: StrPath | Iterable[StrPath] = (),
        *,
        accept_rewind: bool = False,
        all_contents: bool = False,
    ) -> FetchResult:
        """Learn what the remote has, and who asks to join, without changing any file.

        Args:
            paths: The files and directories whose contents are wanted; all by default.
            accept_rewind: Whether to follow the remote to an older state, or to another history.
            all_contents: Whether to fetch the contents of files, too, that only the remote holds.

        Raises:
            OnlyContents: Paths are given, but no contents are wanted.
        """
        from dorky.commands import sync as commands

        return commands.fetch(self, paths, accept_rewind=accept_rewind, all_contents=all_contents)

    def team_join(self, name: str = "") -> JoinRequest:
        """Ask to join: put a request, encrypted to the members, into the remote.

        Args:
            name: The name that the user asks for.

        Raises:
            NothingToDo: The user can read the repository.
        """
        from dorky.commands import team as commands

        return commands.join(self, name)

    def requests(self, name: str) -> list[JoinRequest]:
        """Return the requests to join under a name."""
        from dorky.commands import team as commands

        return commands.requests_by(self, name)

    def team_add(
        self,
        name: str,
        access: str,
        *,
        passphrase: str = "",
        new: bool = False,
        role: Role | None = None,
    ) -> MemberInfo:
        """Add a member, or give a member another key.

        Args:
            name: The member's name.
            access: ``age1…`` (with the key that signs behind it), ``ssh-…``, ``@FILE`` of such
                keys, ``passphrase``, ``awskms:ARN``.
            passphrase: The passphrase, if ``access`` is ``passphrase``.
            new: Whether to refuse another key for somebody who is on the team already.
            role: What they may do; by default, who is new and can sign is a writer.

        Raises:
            NothingToDo: The member has that key already.
            ConflictError: The key is another member's, or the name is taken and was to be new.
        """
        from dorky.commands import team as commands

        return commands.add(self, name, access, passphrase=passphrase, new=new, role=role)

    def team_set_role(self, name: str, role: Role) -> MemberInfo:
        """Change what a member may do.

        Raises:
            NoSuchMember: There is no member of that name.
            NothingToDo: The member has that role already.
            UsageError: The member can't sign, or nobody would administer the team.
            NotWriter: The user does not administer the team.
        """
        from dorky.commands import team as commands

        return commands.set_role(self, name, role)

    def team_log(self) -> list[TeamChange]:
        """Return the changes of the team, the newest first, as last fetched."""
        from dorky.commands import team_log as commands

        return commands.log(self)

    def plan_remote_repair(self) -> RootRepair:
        """Find out what is wrong with the remote's root, and what would take its place.

        Raises:
            NothingToDo: The root is sound.
            NotWriter: The user may not write to the remote.
        """
        from dorky.commands import forged as commands

        return commands.plan(self)

    def remote_repair(self, plan: RootRepair) -> RootRepair:
        """Put the last verified root in the place of one that was forged, which is kept.

        Raises:
            ConflictError: The root has changed since the plan was made.
        """
        from dorky.commands import forged as commands

        return commands.repair(self, plan)

    def commit_resign(self) -> int:
        """Sign unpushed commits again that nobody would accept; return how many.

        Raises:
            NothingToDo: There are none.
        """
        from dorky.commands import commit as commands

        return commands.sign_again(self)

    def key_gen_ci(self, name: str, *, role: Role = "reader") -> Generated:
        """Make a key for a CI job and add the job to the team.

        The secret part is in the result alone.

        Args:
            name: The job's name on the team.
            role: What the job may do.
        """
        from dorky.commands import team as commands

        return commands.generate_ci_key(self, name, role=role)

    def team_remove(
        self,
        name: str,
        *,
        key: str = "",
        all_history: bool = False,
        dry_run: bool = False,
        lock_out: bool = False,
    ) -> Rotation:
        """Remove a member's access, and make new keys for those who stay.

        Args:
            name: The member's name.
            key: The fingerprint of the one key of the member to remove, or ``unused`` for all that
                can't be used; by default the member is removed.
            all_history: Whether to re-encrypt old revisions, too.
            dry_run: Whether to report only what the member can read.
            lock_out: Whether the user may lose all access.

        Raises:
            NoSuchMember: There is no member of that name.
            NotFoundError: The member has no such key.
            ForeignGroup: The member belongs to a group that the user is not in and whose key the
                user so can't renew.
            WouldLockOut: The user would have no access any more.
            UsageError: Nobody would have access any more.
        """
        from dorky.commands import team as commands

        return commands.remove(
            self, name, key=key, all_history=all_history, dry_run=dry_run, lock_out=lock_out
        )

    def team_exposed(self, name: str) -> Exposures:
        """Return the files that a member can read, or could read on leaving the team.

        Raises:
            NoSuchMember: Nobody of that name is, or ever was, on the team.
        """
        from dorky.commands import team as commands

        return commands.exposed(self, name)

    def rotate(self, *, all_history: bool = False) -> Rotation:
        """Renew the keys of everybody's group and of every group that the user is in."""
        from dorky.commands import team as commands

        return commands.rotate(self, all_history=all_history)

    def group_list(self) -> list[GroupInfo]:
        """Return the groups as last fetched."""
        from dorky.commands import groups as commands

        return commands.list_groups(self)

    def group_add(
        self,
        name: str,
        patterns: Sequence[str],
        members: Iterable[str] = (),
        *,
        dry_run: bool = False,
    ) -> GroupChange:
        """Encrypt files for a group: a new one, or one that already has other files.

        Args:
            name: The group's name.
            patterns: The files (see `placement`), from the project's root.
            members: The members of the group; the user alone if none are given.
            dry_run: Whether to report only who would gain and lose access to what.

        Raises:
            ConflictError: There are commits that are not pushed or not pulled, changes to the files
                that move, or patterns that overlap those of another group.
        """
        from dorky.commands import groups as commands

        return commands.add(self, name, patterns, members, dry_run=dry_run)

    def group_remove(
        self, name: str, patterns: Sequence[str] = (), *, dry_run: bool = False
    ) -> GroupChange:
        """Give a group's files, or those that patterns select, to everybody.

        Args:
            name: The group's name.
            patterns: Some of the group's patterns; all of them if none are given.
            dry_run: Whether to report only who would gain and lose access to what.
        """
        from dorky.commands import groups as commands

        return commands.remove(self, name, patterns, dry_run=dry_run)

    def group_members(
        self, name: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> tuple[GroupInfo, Rotation | None]:
        """Add members of the team to a group, or take its files away from some.

        Returns:
            The group, and the rotation that a removal caused.

        Raises:
            ForeignGroup: The user is not in the group.
        """
        from dorky.commands import groups as commands

        return commands.change_members(self, name, add=add, remove=remove)

    def plan_purge(self, paths: StrPath | Iterable[StrPath]) -> PurgePlan:
        """Find out what taking files out of all history would do.

        Args:
            paths: Files, directories, patterns.

        Raises:
            PathNotTracked: No commit in history holds such a file.
            ConflictError: The local history and the remote's are not the same.
            ForeignGroup: The user is not in every group, so can't read all history.
        """
        from dorky.commands import purge as commands

        return commands.plan_purge(self, paths)

    def purge(self, plan: PurgePlan, *, reason: str = "") -> PurgePlan:
        """Carry out what `plan_purge` planned. The files on disk stay, untracked.

        Args:
            plan: The plan.
            reason: The reason, which the other members see.

        Raises:
            ConflictError: Somebody has pushed since the plan was made.
            AccessDenied: Deleting in the remote is not allowed.
        """
        from dorky.commands import purge as commands

        return commands.purge(self, plan, reason=reason)

    # --- what vouches for files ------------------------------------------------------------

    def sign(
        self,
        paths: StrPath | Iterable[StrPath],
        *,
        key: PrivateKey | None = None,
        revision: str = "HEAD",
        push: bool = False,
    ) -> SignResult:
        """Sign committed files.

        Args:
            paths: Files, directories, patterns.
            key: The key that signs (see `provenance.private_keys`); the user's own as a member if
                it is not given.
            revision: The revision that holds the files.
            push: Whether to push the signatures, too.

        Raises:
            PathNotTracked: The revision holds no such file.
            ForeignGroup: A file belongs to a group that the user is not in.
            CantSign: None of the user's keys can be used.
        """
        from dorky.commands import provenance as commands

        return commands.sign(self, paths, key=key, revision=revision, push=push)

    def verify(
        self,
        paths: StrPath | Iterable[StrPath],
        *,
        revision: str = "",
        keys: Sequence[PublicKey] = (),
        signers: Path | None = None,
        names: Sequence[str] = (),
        threshold: int = 1,
        kind: str = "",
        bundle: bytes | None = None,
    ) -> list[Verification]:
        """Verify that enough signers vouch for files, without a look at the remote.

        Args:
            paths: Files, directories, patterns.
            revision: The revision that holds the files; empty for the files on disk.
            keys: The only keys that count.
            signers: A signers file, whose signers alone count. Without either, the team's writers
                and those of `.dorkysigners` do.
            names: The names of the signers that count; all if none are given.
            threshold: How many must have signed each file.
            kind: The type of statement, a word or a URI; empty for a signature.
            bundle: A bundle to verify instead of those that the repository holds.
        """
        from dorky.commands import signatures as commands

        return commands.verify(
            self,
            paths,
            revision=revision,
            keys=keys,
            signers=signers,
            names=names,
            threshold=threshold,
            kind=kind,
            bundle=bundle,
        )

    def signatures(self, path: StrPath) -> list[Signature]:
        """Return every signature of a file, and what it is worth.

        Args:
            path: The file.
        """
        from dorky.commands import signatures as commands

        return commands.signatures(self, path)

    def attest(
        self,
        path: StrPath,
        kind: str,
        predicate: bytes,
        *,
        key: PrivateKey | None = None,
        signed: bool = True,
        push: bool = False,
    ) -> SignResult:
        """Attach a statement with data of any type to a committed file.

        Args:
            path: The file.
            kind: The type of the statement: a word, or a URI.
            predicate: Its data: a JSON object, whose bytes are kept.
            key: As in `sign`.
            signed: Whether to sign it; if not, it counts for no rule.
            push: Whether to push it, too.

        Raises:
            UsageError: The type or the data is unfit.
        """
        from dorky.commands import provenance as commands

        return commands.attest(self, path, kind, predicate, key=key, signed=signed, push=push)

    def attestations(self, path: StrPath, *, kind: str = "") -> list[Attestation]:
        """Return what was attached to a file, other than signatures.

        Args:
            path: The file.
            kind: Only statements of this type.
        """
        from dorky.commands import signatures as commands

        return commands.attested(self, path, kind=kind)

    def attach_sbom(
        self,
        path: StrPath,
        content: bytes,
        *,
        format: Format | None = None,
        key: PrivateKey | None = None,
        signed: bool = True,
        push: bool = False,
    ) -> SignResult:
        """Attach an SBOM to a committed file.

        Args:
            path: The file.
            content: The SBOM, whose bytes are kept.
            format: ``spdx`` or ``cyclonedx``; None to recognise it.
            key: As in `sign`.
            signed: As in `attest`.
            push: Whether to push it, too.

        Raises:
            BadSBOM: It is not of that format, or too large.
        """
        from dorky.commands import provenance as commands

        return commands.attach_sbom(
            self, path, content, format=format, key=key, signed=signed, push=push
        )

    def sboms(self, path: StrPath, *, format: Format | None = None) -> list[Sbom]:
        """Return the SBOMs of a file: the best first, which is signed, of its content, and newest.

        Args:
            path: The file.
            format: Only those of this format.
        """
        from dorky.commands import signatures as commands

        return commands.sboms(self, path, format=format)

    def export_bundle(
        self, path: StrPath, *, form: BundleForm = "sigstore", kind: str = "", id: str = ""
    ) -> Exported:
        """Return a statement about a file as other programs read it: the newest valid one.

        Args:
            path: The file.
            form: ``sigstore`` for a bundle; ``ssh`` for what ``ssh-keygen -Y verify`` reads.
            kind: The type of the statement; empty for a signature.
            id: The beginning of the id of the one to export, valid or not.

        Raises:
            NoAttestation: There is none.
        """
        from dorky.commands import signatures as commands

        return commands.export_bundle(self, path, form=form, kind=kind, id=id)

    def import_bundle(
        self, path: StrPath, data: bytes, *, source: str = "", push: bool = False
    ) -> SignResult:
        """Attach what another tool has signed to a committed file.

        Args:
            path: The file.
            data: A Sigstore bundle with a public key, or a DSSE envelope.
            source: What to call it in errors.
            push: Whether to push it, too.

        Raises:
            BadBundle: It is malformed, or about another path.
        """
        from dorky.commands import provenance as commands

        return commands.import_bundle(self, path, data, source=source, push=push)
