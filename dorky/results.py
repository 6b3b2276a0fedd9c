"""The results of commands: frozen records. ``--json`` prints exactly these."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The base of every command's result."""


class Change(msgspec.Struct, frozen=True, order=True):
    """A change of a file.

    Attributes:
        path: The file.
        what: What happened to it.
    """

    path: str
    what: Literal["added", "modified", "deleted"]


class Omission(msgspec.Struct, frozen=True, order=True):
    """A file that a command has left as it is, while it did the rest.

    Attributes:
        path: The file.
        why: The reason.
        code: The code of the error that it would be by itself; empty if it would be none.
    """

    path: str
    why: str
    code: str = ""


class Failure(Result, frozen=True, kw_only=True):
    """The reason why a command failed.

    Attributes:
        code: Its kind, for scripts: one of the codes of the errors, ``bug`` or ``interrupted``.
        message: What failed, on what, and why.
        hint: What to run next; empty if there is nothing useful to say.
        exit_code: The exit code of the command.
    """

    code: str
    message: str
    hint: str
    exit_code: int


class Remedy(msgspec.Struct, frozen=True):
    """What to do about a finding; the border names the command (`cli/hints.py`).

    Attributes:
        what: A stable name.
        about: The names or paths that it is about.
        error: The error whose hint it is; None for a remedy of its own.
    """

    what: str
    about: tuple[str, ...] = ()
    error: Any = None


class Initialized(Result, frozen=True, kw_only=True):
    """A project that has been set up.

    Attributes:
        root: Its directory.
        repository: The repository's id.
        url: Its remote; empty for a local project.
        encrypted: Whether everything that leaves the machine is encrypted.
        public_key: The key that it is encrypted to; empty for an unencrypted repository.
        identity: The file that holds the secret key; empty if it came from the environment.
        new_identity: Whether that file was made by this command.
        member: The user's name on the team.
        recovery: A second secret key that opens the repository, to be kept on paper.
    """

    root: str
    repository: str
    url: str = ""
    encrypted: bool = True
    public_key: str = ""
    identity: str = ""
    new_identity: bool = False
    member: str = ""
    recovery: str = ""


class Staged(Result, frozen=True, kw_only=True):
    """The result of staging, unstaging, or removing.

    Attributes:
        changes: The changes of the index.
        ignored: Lines added to `.gitignore`.
        skipped: The number of files that were skipped because git tracks them.
        nested: Directories that were skipped because they are projects of their own: they have a
            `.dorkyrc`, or are git repositories.
        backup: The ref that keeps deleted content that was stored nowhere else; empty if none.
        purged: New files that were once purged from all history.
        omitted: Files found in directories that can't be staged.
    """

    changes: tuple[Change, ...] = ()
    ignored: tuple[str, ...] = ()
    skipped: int = 0
    nested: tuple[str, ...] = ()
    backup: str = ""
    purged: tuple[str, ...] = ()
    omitted: tuple[Omission, ...] = ()


class LogEntry(Result, frozen=True, kw_only=True):
    """A commit.

    Attributes:
        id: Its id.
        parents: The commits that it continues: none for the first, several for a merge.
        author: Its author's name and address, as the commit says.
        time: Its time, in UTC.
        message: Its message.
        git: The commit that git was at; empty if none was noted.
        refs: The refs that name it.
        changes: The files that it changed against its first parent, if they were asked for.
        closed: The groups whose files it changed and the user can't read.
        signer: The member whose key has signed it; empty if the team log knows no such key.
        key: The fingerprint of that key.
        original: If a purge has rewritten the commit, the member whose key had signed it before, as
            ``signer`` says, who ran the purge.
        fault: The fault of the signature, if that was asked for; empty if it is valid.
    """

    id: str
    parents: tuple[str, ...]
    author: str
    time: datetime
    message: str
    git: str = ""
    refs: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    closed: tuple[str, ...] = ()
    signer: str = ""
    key: str = ""
    original: str = ""
    fault: str = ""


class FileEntry(Result, frozen=True, kw_only=True):
    """A committed file.

    Attributes:
        path: Its path.
        mode: Its mode, octal.
        size: Its size in bytes.
        content: The id of its content: equal for equal content, among the files of one group.
    """

    path: str
    mode: str
    size: int
    content: str


class Source(Result, frozen=True, kw_only=True):
    """Where the content of a file that was read comes from.

    Attributes:
        path: Its path.
        commit: The commit that holds it; empty if it is the file on disk, or is as staged.
        time: The commit's time, in UTC.
        age: The seconds since then.
        behind: The commits of the remote that follow it.
        why: Why the remote may have a newer one; empty if it was asked, or need not be.
    """

    path: str
    commit: str = ""
    time: datetime | None = None
    age: int | None = None
    behind: int = 0
    why: str = ""


class Values(Result, frozen=True, kw_only=True):
    """Values of a file.

    Attributes:
        values: Each variable and its value.
        source: Where they come from.
    """

    values: dict[str, str]
    source: Source


class Unmerged(Result, frozen=True, kw_only=True, order=True):
    """A file that a merge could not combine.

    Attributes:
        path: The file.
        why: The reason. *Changed by both*: it has conflict markers. *Binary*: it is the local
            version, and theirs lies next to it. *Deleted*: it is as the side that kept it has it.
            *Closed*: it is the local version, for its group only; theirs is for other readers.
        places: The keys, or the lines, that both changed.
        beside: The path of their version; empty if it does not lie next to the file.
    """

    path: str
    why: Literal["changed by both", "binary", "deleted by us", "deleted by them", "closed"]
    places: tuple[str, ...] = ()
    beside: str = ""


class Masked(Result, frozen=True, kw_only=True, order=True):
    """An entry of a commit that does not count, because it is not in the tree of its path's owner.

    Attributes:
        path: The file or link.
        tree: The group whose tree holds it.
        owners: The groups that claim the path: several contest it; if there is none, everybody
            owns it.
        above: A group's file that can't exist together with it; empty for another reason.
    """

    path: str
    tree: str
    owners: tuple[str, ...]
    above: str = ""


class Status(Result, frozen=True, kw_only=True):
    """The state of the project.

    Attributes:
        branch: ``main``.
        head: The commit checked out; None before the first.
        detached: Whether that is an old revision, not the newest of ``branch``.
        remote: The remote's name; empty if there is none.
        fetched: Whether the remote was ever fetched from its present URL.
        ahead: Commits that the remote lacks, as of the last fetch.
        behind: Commits of the remote that are not merged locally.
        staged: How the index differs from ``head``.
        unstaged: How the files differ from the index.
        partial: The paths that pulls are limited to since then; none for all.
        absent: The number of files that a pull of single paths, or git's sparse checkout, left out.
        sparse: How many of these the sparse checkout leaves out.
        untracked: Files that are not tracked, in directories that are kept as a whole.
        nested: Directories that were skipped because they are projects of their own.
        tracked_by_git: Tracked files that git tracks, too.
        not_ignored: Tracked files that git does not ignore, so that ``git add`` would take them.
        secrets: Files that look like secrets and are not tracked.
        closed: The groups whose files the user can't read.
        requests: Requests to join, as of the last look.
        merging: The name of the commit that is being merged; empty if none is.
        conflicts: Its conflicts that are not resolved yet; these files are not among the changes.
        masked: Entries of ``head`` that do not count, such as files at a group's paths that were
            committed by somebody who is not in it.
        moved: The URL that the remote had before `.dorkyrc` was changed other than by a command of
            this clone; empty if it was not.
        unreadable: Tracked files that can't be compared.
        attested: Whether there are signatures, or other attestations, that the remote lacks.
        remote_only: Large files whose staged contents this clone does not store: the remote does.
        remote_only_size: Their size in bytes.
    """

    branch: str
    head: str | None
    detached: bool
    remote: str
    fetched: bool
    ahead: int
    behind: int
    staged: tuple[Change, ...]
    unstaged: tuple[Change, ...]
    absent: int
    secrets: tuple[str, ...]
    closed: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()
    merging: str = ""
    conflicts: tuple[Unmerged, ...] = ()
    masked: tuple[Masked, ...] = ()
    moved: str = ""
    unreadable: tuple[Omission, ...] = ()
    partial: tuple[str, ...] = ()
    sparse: int = 0
    untracked: tuple[str, ...] = ()
    nested: tuple[str, ...] = ()
    tracked_by_git: tuple[str, ...] = ()
    not_ignored: tuple[str, ...] = ()
    attested: bool = False
    remote_only: tuple[str, ...] = ()
    remote_only_size: int = 0

    @property
    def clean(self) -> bool:
        """Return whether the files, the index and ``head`` agree."""
        return not (self.staged or self.unstaged or self.merging or self.unreadable)


class PreCommit(Result, frozen=True, kw_only=True):
    """The result of the check before a commit of git.

    Attributes:
        kept: Files that git is about to commit, though dorky keeps them; their paths in the git
            repository.
        secrets: Files that git is about to commit, and that look like secrets.
        uncommitted: Projects whose files, index and head differ, or whose files git tracks.
    """

    kept: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    uncommitted: tuple[str, ...] = ()


class Tombstone(Result, frozen=True, kw_only=True):
    """A purge of files from all history.

    Attributes:
        paths: The files.
        author: Its author's name and address.
        time: Its time, in UTC.
        reason: The reason that its author gave; empty if there is none.
    """

    paths: tuple[str, ...]
    author: str
    time: datetime
    reason: str = ""


class PushResult(Result, frozen=True, kw_only=True):
    """The result of a push.

    Attributes:
        remote: The remote's name.
        url: Its URL.
        old: The remote's head before; None if it had no commits.
        new: Its head now.
        commits: The number of commits that it did not have.
        objects: The number of objects sent.
        size: Their size in bytes.
        founded: Whether the remote held no repository before.
        moved: The URL that the remote had before `.dorkyrc` was changed other than by a command of
            this clone; empty if it was not.
        left: The number of files that nothing uses any more and that could not be deleted.
        attestations: The number of signatures, SBOMs and attestations that it did not have.
    """

    remote: str
    url: str
    old: str | None
    new: str
    left: int = 0
    attestations: int = 0
    commits: int = 0
    objects: int = 0
    size: int = 0
    founded: bool = False
    moved: str = ""


SignatureState = Literal["valid", "untrusted", "stale", "unsigned", "invalid"]
"""What a statement about a file is worth (see `Signature`)."""


class Signature(Result, frozen=True, kw_only=True):
    """A signed statement about a file, and what it is worth.

    Attributes:
        id: Its id: the SHA-256 of the bytes in which it is stored.
        path: The file.
        type: The type of what it says, a URI.
        algorithm: The algorithm of the signature; empty if no trusted key has made it.
        signed_by: The name of the signer; likewise.
        time: When the signer claims to have signed; None if nothing says so.
        key: The fingerprint of the signer's key; empty if no trusted key has signed.
        state: ``valid``; ``untrusted``: no key that counts has signed; ``stale``: it was signed for
            other content, or the signer has signed other content since; ``unsigned``; ``invalid``.
        problem: Why it is not valid; empty if it is.
    """

    id: str
    path: str
    type: str
    algorithm: str = ""
    signed_by: str = ""
    time: datetime | None = None
    key: str = ""
    state: SignatureState = "invalid"
    problem: str = ""


class Verification(Result, frozen=True, kw_only=True):
    """Whether enough signers vouch for a file.

    Attributes:
        path: The file.
        valid: Whether they do.
        message: The outcome in words.
        signatures: The signatures that were looked at.
    """

    path: str
    valid: bool
    message: str
    signatures: tuple[Signature, ...] = ()


class SignResult(Result, frozen=True, kw_only=True):
    """The result of signing or attaching.

    Attributes:
        added: The statements that were added.
        pushed: The result of the push, if there was one.
        edited: Files that differ on disk from what was committed, which is what the statements are
            about; empty if another revision than ``HEAD`` was named.
    """

    added: tuple[Signature, ...]
    pushed: PushResult | None = None
    edited: tuple[str, ...] = ()


class Attestation(Result, frozen=True, kw_only=True):
    """A statement about a file with data of its own.

    Attributes:
        id: Its id.
        path: The file.
        type: The type of the data, a URI.
        data: The data: the exact text of a JSON value.
        signed_by: The name of the signer; empty if no trusted key has signed.
        time: When the signer claims to have signed; None if nothing says so.
        state: As of `Signature`.
        problem: As of `Signature`.
    """

    id: str
    path: str
    type: str
    data: str
    signed_by: str = ""
    time: datetime | None = None
    state: SignatureState = "invalid"
    problem: str = ""


SbomFormat = Literal["spdx", "cyclonedx"]
"""The formats of SBOMs."""


class Sbom(Result, frozen=True, kw_only=True):
    """A software bill of materials of a file.

    Attributes:
        id: Its id.
        path: The file.
        format: ``spdx`` or ``cyclonedx``.
        content: Its exact text.
        signed_by: As of `Attestation`.
        time: As of `Attestation`.
        state: As of `Signature`.
        problem: As of `Signature`.
    """

    id: str
    path: str
    format: SbomFormat
    content: str
    signed_by: str = ""
    time: datetime | None = None
    state: SignatureState = "invalid"
    problem: str = ""


class FetchResult(Result, frozen=True, kw_only=True):
    """The result of a fetch.

    Attributes:
        remote: The remote's name.
        url: Its URL.
        old: The remote's head as of the last fetch; None if none was known.
        new: Its head now; None if it has no commits.
        commits: The number of commits that are new.
        generation: The number of the remote's state, which counts the writes.
        txid: The name of that state, for people to compare.
        moved: The URL that the remote had before `.dorkyrc` was changed other than by a command of
            this clone; empty if it was not.
        fingerprint: The repository's fingerprint if it was seen for the first time; else empty.
        unencrypted: Whether it was seen for the first time, and is not encrypted.
        team: The newest entry of its team log if it was seen for the first time and nothing pins
            one; else empty.
        admins: The administrators of that team.
        contents: The size in bytes of the contents that were fetched in advance.
    """

    remote: str
    url: str
    old: str | None
    new: str | None
    commits: int = 0
    contents: int = 0
    generation: int = 0
    txid: str = ""
    moved: str = ""
    fingerprint: str = ""
    unencrypted: bool = False
    team: str = ""
    admins: tuple[str, ...] = ()


class PullResult(Result, frozen=True, kw_only=True):
    """The result of a pull, or of a clone.

    Attributes:
        remote: The remote's name.
        url: Its URL.
        old: The local head before; None before the first pull.
        new: The local head now; None if the remote has no commits.
        commits: The number of commits between them.
        changes: The changes of files.
        backup: The ref that keeps content overwritten by force; empty if there was none.
        merged: Whether a merge commit was made.
        ignored: Lines added to `.gitignore`.
        conflicts: Files that could not be merged: the merge is in progress, ``main`` is where it
            was.
        purged: Purges of the remote that were applied to the local history.
        masked: Entries of the new head that do not count.
        dropped: Groups whose files the new head leaves out as a whole: the local files stay,
            staged.
        left_out: Files that were not put in place because of their names.
        missing: Tracked files that are not on disk, though no pull has left them out.
        unplaced: Files that this file system can't show.
        moved: The URL that the remote had before `.dorkyrc` was changed other than by a command of
            this clone; empty if it was not.
        fingerprint: The repository's fingerprint if it was seen for the first time; else empty.
        unencrypted: Whether it was seen for the first time, and is not encrypted.
        team: The newest entry of its team log if it was seen for the first time and nothing pins
            one; else empty.
        admins: The administrators of that team.
    """

    remote: str
    url: str
    old: str | None
    new: str | None
    commits: int = 0
    changes: tuple[Change, ...] = ()
    backup: str = ""
    merged: bool = False
    ignored: tuple[str, ...] = ()
    conflicts: tuple[Unmerged, ...] = ()
    purged: tuple[Tombstone, ...] = ()
    masked: tuple[Masked, ...] = ()
    dropped: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    unplaced: tuple[Omission, ...] = ()
    missing: tuple[str, ...] = ()
    moved: str = ""
    fingerprint: str = ""
    unencrypted: bool = False
    team: str = ""
    admins: tuple[str, ...] = ()


class Exposure(Result, frozen=True, kw_only=True):
    """A file that somebody could read.

    Attributes:
        path: The file.
        variables: The names of the variables in it, if it is a `.env` file.
    """

    path: str
    variables: tuple[str, ...] = ()


class Exposures(Result, frozen=True, kw_only=True):
    """The files that a member can read, or could read on leaving the team.

    Attributes:
        name: The member.
        left: When the member left the team; None for a member of today.
        files: The files, and the variables in them.
        closed: The names of groups of the member's whose files the user can't read.
    """

    name: str
    left: datetime | None
    files: tuple[Exposure, ...]
    closed: tuple[str, ...] = ()


class PurgePlan(Result, frozen=True, kw_only=True):
    """A purge of files from all history, planned or done.

    Attributes:
        paths: The arguments: paths, directories, patterns.
        files: The files, and the variables in them.
        versions: The number of contents that they have had.
        size: Their size in bytes.
        commits: The number of commits that are rewritten.
        readers: The members who could read the files.
        packs: The number of packs that are deleted from the remote.
        kept: Copies in the remote that can't be deleted, in words; empty if none is known.
        head: The new head of ``main``.
        done: Whether it has been done, not only planned.
    """

    paths: tuple[str, ...]
    files: tuple[Exposure, ...]
    versions: int
    size: int
    commits: int
    readers: tuple[str, ...]
    packs: int = 0
    kept: str = ""
    head: str = ""
    done: bool = False


class Synced(Result, frozen=True, kw_only=True):
    """The result of a sync.

    Attributes:
        pulled: The last pull; None if there was nothing to pull.
        pushed: The push; None if there was nothing to push, or there are conflicts.
        rounds: How often it started over because another push was faster.
        rewritten: The number of commits rewritten to hold files for their owners.
    """

    pulled: PullResult | None
    pushed: PushResult | None
    rounds: int = 1
    rewritten: int = 0


class Saved(Result, frozen=True, kw_only=True):
    """The result of a save.

    Attributes:
        staged: The files that were staged by name; None if none was named.
        commit: The commit; None if only the push of an earlier one was missing.
        synced: The push, after a pull if the remote had moved.
    """

    staged: Staged | None
    commit: LogEntry | None
    synced: Synced


class Resolved(Result, frozen=True, kw_only=True):
    """Conflicts that are resolved.

    Attributes:
        paths: The files.
        left: The conflicts that remain.
        backup: The ref that keeps overwritten content; empty if there was none.
    """

    paths: tuple[str, ...]
    left: tuple[Unmerged, ...] = ()
    backup: str = ""


class OperationEntry(Result, frozen=True, kw_only=True):
    """An operation: a command that changed something in this clone.

    Attributes:
        number: Its number, in order of time.
        time: Its time.
        command: The command.
        message: The first line of the message of the commit that it made; empty if it made none.
        paths: The files that it changed, on disk or in the next commit.
    """

    number: int
    time: datetime
    command: str
    message: str = ""
    paths: tuple[str, ...] = ()


class Undone(Result, frozen=True, kw_only=True):
    """An undo, planned or done.

    Attributes:
        operations: The operations that are undone, the newest first.
        changes: The changes of files.
        head: The commit that ``main`` names afterwards.
        backup: The ref that keeps overwritten content; empty if there was none.
        published: Whether the remote has commits that are undone locally.
        done: Whether it has been done, not only planned.
    """

    operations: tuple[OperationEntry, ...]
    changes: tuple[Change, ...] = ()
    head: str | None = None
    backup: str = ""
    published: bool = False
    done: bool = False


class CheckedOut(Result, frozen=True, kw_only=True):
    """The result of a checkout or restore.

    Attributes:
        commit: The revision that files were taken from; None for the index.
        changes: The changes of files.
        backup: The ref that keeps overwritten content; empty if there was none.
        ignored: Lines added to `.gitignore`.
        left_out: Files that were not put in place because of their names.
        unplaced: Files that this file system can't show.
        frozen: Files that were left as they are because several groups claim them.
    """

    commit: str | None
    changes: tuple[Change, ...] = ()
    backup: str = ""
    ignored: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    unplaced: tuple[Omission, ...] = ()
    frozen: tuple[str, ...] = ()


class DestroyPlan(Result, frozen=True, kw_only=True):
    """The files and keys that `destroy` would delete.

    Attributes:
        root: The project's directory.
        local: Whether its `.dorky/` and `.dorkyrc` are deleted.
        url: The remote whose keys are deleted; empty for none.
        keys: The number of these keys.
        size: Their size in bytes.
        unpushed: Commits that only this clone holds, as far as is known.
    """

    root: str
    local: bool = True
    url: str = ""
    keys: int = 0
    size: int = 0
    unpushed: int = 0


class Mirror(Result, frozen=True, kw_only=True):
    """The copy of a repository in another place.

    Attributes:
        source: The repository's URL.
        target: The URL of the copy.
        repository: The repository's id.
        generation: The number of the state that is copied; null without a key.
        time: When that state was written (UTC); null without a key.
        packs: The number of packs that are copied.
        tables: The number of tables that are copied.
        size: Their size in bytes.
        held: The number of packs and tables that the copy had already.
        root: Whether the copy gets another root.
        done: Whether it has been done.
    """

    source: str
    target: str
    repository: str
    generation: int | None = None
    time: datetime | None = None
    packs: int = 0
    tables: int = 0
    size: int = 0
    held: int = 0
    root: bool = False
    done: bool = False


class Trust(Result, frozen=True, kw_only=True):
    """Local state that was made with another key, and that `trust` accepts.

    Attributes:
        name: The beginning of its directory's name in `.dorky/`.
        repository: The id of its repository.
        url: The URL of its remote; empty for none.
        head: The commit that is checked out; null without commits.
        packs: The number of its packs, each of which has the hash of its name.
        size: Their size in bytes.
        done: Whether it has been accepted.
    """

    name: str
    repository: str
    url: str
    head: str | None
    packs: int
    size: int
    done: bool = False


class Garbage(Result, frozen=True, kw_only=True):
    """A pack, or another key of the remote, that is to be deleted.

    Attributes:
        name: Its name.
        size: Its size in bytes.
        reason: Why it is deleted.
    """

    name: str
    size: int
    reason: str


class RemoteGCReport(Result, frozen=True, kw_only=True):
    """A garbage collection in a remote, planned or done.

    Attributes:
        url: The remote.
        garbage: The packs that nobody needs.
        rewritten: Packs that are deleted after their needed objects were packed again.
        kept_young: The number of packs that no root lists but that are too young to be garbage:
            another client may be about to list them.
        packs_before: The number of packs that the root listed.
        packs_after: The number that it lists afterwards; an estimate until it is done.
        size: The bytes that are deleted.
        sent: The bytes that are uploaded for it.
        done: Whether it has been done, not only planned.
    """

    url: str
    garbage: tuple[Garbage, ...] = ()
    rewritten: tuple[Garbage, ...] = ()
    kept_young: int = 0
    packs_before: int = 0
    packs_after: int = 0
    size: int = 0
    sent: int = 0
    done: bool = False


class Key(Result, frozen=True, kw_only=True):
    """A public key.

    Attributes:
        recipient: The key itself: ``age1…`` or ``ssh-…``.
        fingerprint: The fingerprint that people compare; it covers both keys.
        source: The place of its secret part; empty for others' keys.
        problem: Why nothing is encrypted to it; empty for a sound key.
        signer: The key that verifies its holder's signatures, if that is another one.
    """

    recipient: str
    fingerprint: str
    source: str = ""
    problem: str = ""
    signer: str = ""


class SigningKey(Result, frozen=True, kw_only=True):
    """A key that was made to sign files.

    Attributes:
        line: The line of a signers file by which its signatures count.
        fingerprint: The key's fingerprint, as ``ssh-keygen -l`` shows it.
        source: The file that holds its secret part.
    """

    line: str
    fingerprint: str
    source: str


class Generated(Result, frozen=True, kw_only=True):
    """A key that was made.

    Attributes:
        key: Its public part.
        secret: The secret part, if it was made for a CI job; it is stored nowhere.
        member: The name under which it was added to the team; empty if it was not.
    """

    key: Key
    secret: str = ""
    member: str = ""


class MemberInfo(Result, frozen=True, kw_only=True):
    """A member of the team.

    Attributes:
        name: The member's name.
        keys: Their public keys.
        groups: The names of their groups, without the group of all members.
        you: Whether the member is the user.
        how: ``key``, or how their key is kept in the repository: ``passphrase``, ``awskms``.
        role: What they may do.
    """

    name: str
    keys: tuple[Key, ...]
    groups: tuple[str, ...] = ()
    you: bool = False
    how: Literal["key", "passphrase", "awskms"] = "key"
    role: Literal["admin", "writer", "reader"] = "writer"


class Overlap(Result, frozen=True, kw_only=True):
    """Two patterns that both select some path: files at it are frozen until one pattern is removed.

    Attributes:
        pattern: The first pattern.
        group: The group of the other pattern.
        other: The other pattern.
    """

    pattern: str
    group: str
    other: str


class GroupInfo(Result, frozen=True, kw_only=True):
    """A group of readers.

    Attributes:
        name: Its name.
        patterns: The patterns of the files that only it can read.
        members: Its members.
        yours: Whether the user is one of them.
        overlaps: The overlaps of its patterns with those of other groups.
    """

    name: str
    patterns: tuple[str, ...]
    members: tuple[str, ...]
    yours: bool
    overlaps: tuple[Overlap, ...] = ()


class RootRepair(Result, frozen=True, kw_only=True):
    """The replacement of a forged root.

    Attributes:
        url: The remote's URL.
        error: The reason why the root is refused.
        kept: The key in the remote under which the forged root is kept.
        version: The version of the forged root.
        generation: The generation of the state that takes its place: the last verified one.
        time: When that was written.
        signer: The name of the member who has written it.
        lacking: The newest commits signed by members that the bucket holds and that state lacks,
            by whose key has signed them.
        done: Whether the root was replaced.
    """

    url: str
    error: str
    kept: str
    version: str
    generation: int
    time: datetime | None = None
    signer: str = ""
    lacking: tuple[Dangling, ...] = ()
    done: bool = False


class TeamChange(Result, frozen=True, kw_only=True):
    """One entry of the team log.

    Attributes:
        n: Its number.
        id: Its id; `.dorkyrc` pins both.
        time: Its time.
        by: The name of the administrator who has signed it.
        key: The fingerprint of the key.
        changes: What it has changed, for people.
    """

    n: int
    id: str
    time: datetime
    by: str
    key: str
    changes: tuple[str, ...]


class JoinRequest(Result, frozen=True, kw_only=True):
    """A request to join.

    Attributes:
        name: The name that its sender claims.
        key: The sender's public key.
    """

    name: str
    key: Key


class Team(Result, frozen=True, kw_only=True):
    """The members of the team, or the readers of one path.

    Attributes:
        members: All members, or those who may read the path.
        groups: The groups of readers.
        requests: The requests to join.
        path: The path that was asked about; empty for none.
        group: The name of the group that owns it.
    """

    members: tuple[MemberInfo, ...]
    groups: tuple[GroupInfo, ...] = ()
    requests: tuple[JoinRequest, ...] = ()
    path: str = ""
    group: str = ""


class Unused(Result, frozen=True, kw_only=True):
    """A key in the roster that nothing is encrypted to.

    Attributes:
        member: The member whose key it is.
        fingerprint: Its name in ``dorky team remove MEMBER --key FINGERPRINT``.
        problem: Why nothing is encrypted to it.
    """

    member: str
    fingerprint: str
    problem: str


class Rotation(Result, frozen=True, kw_only=True):
    """A change to new keys, planned or done.

    Attributes:
        groups: The names of the groups with new keys.
        removed: The member who was removed; empty for a mere rotation.
        key: The only key of the member that was removed, if they have others.
        exposed: The files that the member could read: the list of secrets to change.
        objects: The number of re-encrypted objects.
        size: Their size in bytes.
        kept: The bytes of packs with older revisions that stay encrypted with old keys.
        blocked: The bytes of other packs that stay encrypted with old keys, because they may hold
            files of groups that the user is not in.
        finishers: The administrators who can re-encrypt those by a rotation.
        fingerprint: The new one, for `.dorkyrc`.
        skipped: Groups whose keys could not be renewed, because the user is not in them.
        unused: Members' keys that nothing is encrypted to, because they can't be used.
        locked_out: Whether the user has removed their own access.
        left: The number of files encrypted with old keys that could not be deleted.
        lost: The names of people whose requests to join were lost: they have to ask again.
        done: Whether it has been done, not only planned.
    """

    groups: tuple[str, ...]
    fingerprint: str
    left: int = 0
    lost: tuple[str, ...] = ()
    removed: str = ""
    key: str = ""
    exposed: tuple[Exposure, ...] = ()
    objects: int = 0
    size: int = 0
    kept: int = 0
    blocked: int = 0
    finishers: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    unused: tuple[Unused, ...] = ()
    locked_out: bool = False
    done: bool = False


class Moved(Result, frozen=True, kw_only=True):
    """A file that goes from one group to another.

    Attributes:
        path: The file.
        old: The group that it belonged to.
        new: The group that it belongs to now.
    """

    path: str
    old: str
    new: str


class GroupChange(Result, frozen=True, kw_only=True):
    """A change of a group, planned or done.

    Attributes:
        group: The group after the change.
        moved: The files that go to another group.
        gains: Members who can read more than before.
        loses: Members who can read less from now on. They keep what they have read already.
        files: The number of committed files that the group owns afterwards.
        commit: The commit that moves the files; None if there is none to move.
        done: Whether it has been done, not only planned.
    """

    group: GroupInfo
    moved: tuple[Moved, ...] = ()
    gains: tuple[str, ...] = ()
    loses: tuple[str, ...] = ()
    files: int = 0
    commit: str | None = None
    done: bool = False


class Check(Result, frozen=True, kw_only=True):
    """One check of `doctor`.

    Attributes:
        name: Its name.
        verdict: Its outcome.
        about: The finding.
        remedy: The command to run, or another remedy; empty if nothing is to be done.
    """

    name: str
    verdict: Literal["ok", "warn", "fail"]
    about: str
    remedy: Remedy | str = ""


class BucketInfo(Result, frozen=True, kw_only=True):
    """A bucket.

    Attributes:
        name: Its name.
        created: When it was created, in UTC; None if nothing tells, or it is only planned.
        region: Its region; empty if nothing tells.
        checks: What came of each setting of a bucket that was created.
    """

    name: str
    created: datetime | None = None
    region: str = ""
    checks: tuple[Check, ...] = ()


class BucketRole(Result, frozen=True, kw_only=True):
    """The least rights that a kind of user needs in a bucket.

    Attributes:
        name: The kind: ``read-only``, ``read-write`` or ``maintenance``.
        commands: What such a user does.
        policy: The rights, as the cloud's own JSON: of AWS an IAM policy, of Google the bindings of
            one, whose ``MEMBER`` you replace.
    """

    name: str
    commands: str
    policy: dict[str, Any]


class BucketReport(Result, frozen=True, kw_only=True):
    """How a bucket suits a repository.

    Attributes:
        url: The place.
        checks: The findings.
        roles: The least rights for each kind of user; none for a directory.
    """

    url: str
    checks: tuple[Check, ...]
    roles: tuple[BucketRole, ...] = ()


class CacheStats(Result, frozen=True, kw_only=True):
    """The cache of clients without a worktree.

    Attributes:
        directory: Where it lies; empty if it is turned off.
        repositories: The number of repositories in it.
        entries: The number of files.
        size: Their size on the disk in bytes.
        max_size: The bytes that they take at most.
        unusable: Why it is not used; empty if it is.
    """

    directory: str
    repositories: int
    entries: int
    size: int
    max_size: int
    unusable: str = ""


class Edited(Result, frozen=True, kw_only=True):
    """A file that was edited, and is now staged.

    Attributes:
        path: The file.
        key: The variable that was set or unset; empty if the whole file was edited.
        what: What happened to the file; None if it has the same content as before.
        ignored: Lines added to `.gitignore`.
    """

    path: str
    key: str = ""
    what: Literal["added", "modified"] | None = None
    ignored: tuple[str, ...] = ()


class Finding(Result, frozen=True, kw_only=True):
    """A problem that `fsck` has found.

    Attributes:
        code: Its kind, for scripts: ``missing-pack``, ``corrupt-object``, …
        subject: The pack, object, ref, path or URL that has it.
        about: A description of the problem.
        remedy: What to do; empty if nothing is to be done.
        fatal: Whether something is damaged or lost.
    """

    code: str
    subject: str
    about: str
    remedy: Remedy | str = ""
    fatal: bool = True


class Dangling(Result, frozen=True, kw_only=True):
    """A commit that no ref leads to. A checkout of its id gets it back.

    Attributes:
        id: Its id.
        author: Its author's name and address.
        time: Its time, in UTC.
        title: The first line of its message.
    """

    id: str
    author: str
    time: datetime
    title: str


class FsckReport(Result, frozen=True, kw_only=True):
    """The result of `fsck`.

    Attributes:
        packs: The number of packs, local and in the remote.
        objects: The number of objects that were decrypted and verified.
        bytes_read: The bytes of packs that were read whole.
        findings: The problems.
        dangling: The newest commits of each line that no ref leads to.
        unlisted: The number of packs in the remote that its root does not list.
        unlisted_size: Their size in bytes.
    """

    packs: int
    objects: int
    bytes_read: int
    findings: tuple[Finding, ...] = ()
    dangling: tuple[Dangling, ...] = ()
    unlisted: int = 0
    unlisted_size: int = 0

    @property
    def sound(self) -> bool:
        """Return whether nothing is damaged or lost."""
        return not any(finding.fatal for finding in self.findings)


class RepairReport(Result, frozen=True, kw_only=True):
    """The result of `fsck --repair`.

    Attributes:
        kept: The new path of the old database; empty if there was none.
        packs: The number of packs that were read.
        objects: The number of objects in them.
        damaged: Packs that were moved to `damaged/` in the state.
        saved: The number of objects saved from those.
        main: The commit that ``main`` names now.
        notes: What could not be restored, and its replacement.
        dangling: See `FsckReport`.
    """

    kept: str
    packs: int
    objects: int
    damaged: tuple[str, ...] = ()
    saved: int = 0
    main: str | None = None
    notes: tuple[str, ...] = ()
    dangling: tuple[Dangling, ...] = ()


class GCReport(Result, frozen=True, kw_only=True):
    """A garbage collection in the local store, planned or done.

    Attributes:
        garbage: Packs that hold nothing that is needed.
        rewritten: Packs that are deleted after their needed objects were packed again.
        size: The bytes that are freed.
        kept: Packs that the database does not know, and that hold commits which are nowhere else.
        commits: The newest commits of each line that is deleted permanently.
        operations: The number of operations that are forgotten.
        done: Whether it has been done, not only planned.
    """

    garbage: tuple[Garbage, ...] = ()
    rewritten: tuple[Garbage, ...] = ()
    size: int = 0
    kept: tuple[str, ...] = ()
    commits: tuple[Dangling, ...] = ()
    operations: int = 0
    done: bool = False


class KeyChange(Result, frozen=True, kw_only=True):
    """A key of a document whose value was changed, added or removed.

    Attributes:
        key: The key.
        what: What happened to it.
        old: Its value before, hidden unless values were asked for; None if there was none.
        new: Its value now, in the same way.
    """

    key: str
    what: Literal["added", "removed", "changed"]
    old: str | None
    new: str | None


class FileDiff(Result, frozen=True, kw_only=True):
    """The differences between two versions of a file.

    Attributes:
        path: The file.
        what: What happened to it.
        kind: How it was compared: by its ``keys``, as ``text``; ``binary`` for files that are not
            text, or too large; ``mode`` if only the mode differs.
        keys: The keys at which a document differs.
        text: A unified diff, without the lines that name the files.
        added: The number of keys or lines that are new or have changed.
        removed: The number that are removed or have changed.
        old_size: Its size in bytes before; None if it did not exist.
        new_size: Its size in bytes now; None if it is deleted.
        old_id: An id of its content before: equal for equal content, in this repository.
        new_id: An id of its content now.
        old_mode: Its mode before, octal.
        new_mode: Its mode now.
        masked: Whether values or lines are hidden.
    """

    path: str
    what: Literal["added", "modified", "deleted"]
    kind: Literal["keys", "text", "binary", "mode"]
    keys: tuple[KeyChange, ...] = ()
    text: str = ""
    added: int = 0
    removed: int = 0
    old_size: int | None = None
    new_size: int | None = None
    old_id: str = ""
    new_id: str = ""
    old_mode: str = ""
    new_mode: str = ""
    masked: bool = False


class Diff(Result, frozen=True, kw_only=True):
    """The differences between two states of the files.

    Attributes:
        files: The files that differ, by path.
        closed: The groups whose files differ, too, and which the user can't read.
    """

    files: tuple[FileDiff, ...] = ()
    closed: tuple[str, ...] = ()


class SettingValue(Result, frozen=True, kw_only=True):
    """A setting in force.

    Attributes:
        key: Its name.
        value: Its value.
        source: Where it was set: a file, or a variable of the environment.
    """

    key: str
    value: str | int | bool | list[str]
    source: str


class PythonToken(Result, frozen=True, kw_only=True):
    """A token for a server of Python packages.

    Attributes:
        name: Its name.
        token: The token, which is stored nowhere.
        line: The line of a token file that allows it.
    """

    name: str
    token: str
    line: str


class SettingInfo(Result, frozen=True, kw_only=True):
    """A setting that there is.

    Attributes:
        key: Its name.
        about: What it does.
        environment: The variable of the environment that overrides it; empty if none does.
    """

    key: str
    about: str
    environment: str


class PythonFile(Result, frozen=True, kw_only=True):
    """A file of a Python project: a wheel or a source distribution.

    Attributes:
        filename: Its name.
        version: The version that it is of.
        size: Its size in bytes.
        sha256: Its SHA-256, in hex.
        upload_time: When it was uploaded, in UTC, to the index that it came from.
        requires_python: The versions of Python that it needs; empty: any.
        yanked: Whether installers take it only if exactly this version is asked for.
        reason: The reason for that; empty if none was given.
        source: The page of the index that it came from; empty if it was uploaded.
    """

    filename: str
    version: str
    size: int
    sha256: str
    upload_time: datetime
    requires_python: str = ""
    yanked: bool = False
    reason: str = ""
    source: str = ""


class PythonProject(Result, frozen=True, kw_only=True):
    """A Python project in a package directory.

    Attributes:
        name: Its name, normalized.
        status: Its status.
        reason: The reason for it; empty if none was given.
        versions: Its versions, the oldest first.
        files: Its files, by version and name.
    """

    name: str
    status: Literal["active", "archived", "quarantined", "deprecated"]
    reason: str
    versions: tuple[str, ...]
    files: tuple[PythonFile, ...]


class PythonRemoval(Result, frozen=True, kw_only=True):
    """The files of a Python project that were removed, or would be.

    Attributes:
        name: The project.
        files: The names of the files.
        size: Their size in bytes.
        done: Whether they were removed.
    """

    name: str
    files: tuple[str, ...]
    size: int
    done: bool


class PythonTransfer(Result, frozen=True, kw_only=True):
    """Files of Python packages that were brought to a place.

    Attributes:
        place: The directory, or the address of the index.
        added: The names of the files that were not there.
        kept: The names of those that were there already.
        size: The size in bytes of what was added.
    """

    place: str
    added: tuple[str, ...]
    kept: tuple[str, ...]
    size: int


class PythonIndex(Result, frozen=True, kw_only=True):
    """An index of Python packages that was published, or would be.

    Attributes:
        place: The directory or the bucket.
        projects: The number of projects.
        files: The number of their files.
        size: The size of the files in bytes.
        url: The address of the page of presigned links, which is a secret; empty if there is none.
    """

    place: str
    projects: int
    files: int
    size: int
    url: str = ""
