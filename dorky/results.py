"""What commands return: frozen records. ``--json`` prints exactly these."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The base of every command's result."""


class Change(msgspec.Struct, frozen=True, order=True):
    """What happened to a path."""

    path: str
    what: Literal["added", "modified", "deleted"]


class Initialized(Result, frozen=True, kw_only=True):
    """A project that has been set up.

    Attributes:
        root: Its directory.
        repository: The repository's id.
        url: Its remote; empty for a local project.
        sealed: Whether what leaves the machine is encrypted.
        public_key: What it is sealed to; empty for a plain one.
        identity: The file that holds the secret key; empty if it came from the environment.
        new_identity: Whether that file was made just now.
        member: What the user is called on the team.
        recovery: A secret key that opens the repository, too, to be kept on paper.
    """

    root: str
    repository: str
    url: str = ""
    sealed: bool = True
    public_key: str = ""
    identity: str = ""
    new_identity: bool = False
    member: str = ""
    recovery: str = ""


class Staged(Result, frozen=True, kw_only=True):
    """What staging (or unstaging, or removing) did.

    Attributes:
        changes: How the index changed.
        ignored: Lines added to `.gitignore`.
        skipped: How many files were passed over because git tracks them.
        backup: The ref that keeps what was deleted and kept nowhere else; empty if nothing was.
        purged: New files that were once taken out of all history.
    """

    changes: tuple[Change, ...] = ()
    ignored: tuple[str, ...] = ()
    skipped: int = 0
    backup: str = ""
    purged: tuple[str, ...] = ()


class LogEntry(Result, frozen=True, kw_only=True):
    """A commit, with what it changed if that was asked for.

    ``closed`` names the groups whose files it changed and the user can't read.
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


class FileEntry(Result, frozen=True, kw_only=True):
    """A committed file. ``mode`` is octal, ``size`` in bytes, ``content`` an id."""

    path: str
    mode: str
    size: int
    content: str


class Unmerged(Result, frozen=True, kw_only=True, order=True):
    """A file that a merge could not settle.

    Attributes:
        path: The file.
        why: What each side did. *Changed by both*: it has conflict markers. *Binary*: it is as it
            was here, and theirs lies beside it. *Deleted*: it is what the other one made of it.
            *Closed*: it is as it was here, for its group only; theirs is for others.
        places: The keys, or the lines, that both changed.
        beside: Where theirs lies; empty if not beside it.
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
        owners: The groups that claim the path; several contest it, none leaves it to everybody.
        above: A group's file that can't exist together with it; empty if that is not the reason.
    """

    path: str
    tree: str
    owners: tuple[str, ...]
    above: str = ""


class Status(Result, frozen=True, kw_only=True):
    """How things stand.

    Attributes:
        branch: ``main``.
        head: The commit checked out; None before the first.
        detached: Whether that is an old revision, not the newest of ``branch``.
        remote: The remote's name; empty if there is none.
        fetched: Whether anything is known of the remote.
        ahead: Commits that the remote lacks, as far as is known here.
        behind: Commits of the remote that are not here.
        staged: How the index differs from ``head``.
        unstaged: How the files differ from the index.
        absent: How many files were left out by a pull of single paths.
        secrets: Files that look like secrets and are not tracked.
        closed: The groups whose files the user can't read.
        requests: Who asked to be let in, when somebody looked last.
        merging: What is being merged; empty if nothing is.
        conflicts: What of that is not resolved yet; these files are not among the changes.
        masked: What ``head`` holds that does not count, such as files at a group's paths that were
            committed by somebody who is not in it.
        moved: The URL that the remote had before `.dorkyrc` was changed by no command here; empty
            if it was not.
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

    @property
    def clean(self) -> bool:
        """Whether the files, the index and ``head`` agree."""
        return not (self.staged or self.unstaged or self.merging)


class Tombstone(Result, frozen=True, kw_only=True):
    """What was taken out of all history: which files, who did it, when, and why."""

    paths: tuple[str, ...]
    author: str
    time: datetime
    reason: str = ""


class Transfer(Result, frozen=True, kw_only=True):
    """What a push, fetch or pull did.

    Attributes:
        remote: The remote's name.
        url: Where it is.
        old: The head before: the remote's for a push, our view of it for a fetch, ours for a pull.
        new: The head now.
        commits: How many commits lie between.
        objects: How many objects were sent (push).
        size: How many bytes of them (push).
        changes: How files changed (pull).
        backup: The ref that keeps what was overwritten by force; empty if nothing was.
        merged: Whether a merge commit was made.
        founded: Whether the remote held no repository before (push).
        ignored: Lines added to `.gitignore` (pull).
        conflicts: What could not be merged: the merge is in progress, ``main`` is where it was
            (pull).
        purged: What was taken out of the history here because it was out of the remote's (pull).
        masked: What the new head holds that does not count (pull).
        dropped: Groups whose files the new head leaves out as a whole: they stay here, staged
            (pull).
        left_out: Files that were not put in place because of their names (pull).
        moved: The URL that the remote had before `.dorkyrc` was changed by no command here; empty
            if it was not.
        fingerprint: That of the repository, where it was seen for the first time; else empty.
        unencrypted: Whether it was seen for the first time, and is not encrypted.
    """

    remote: str
    url: str
    old: str | None
    new: str | None
    commits: int = 0
    objects: int = 0
    size: int = 0
    changes: tuple[Change, ...] = ()
    backup: str = ""
    merged: bool = False
    founded: bool = False
    ignored: tuple[str, ...] = ()
    conflicts: tuple[Unmerged, ...] = ()
    purged: tuple[Tombstone, ...] = ()
    masked: tuple[Masked, ...] = ()
    dropped: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    moved: str = ""
    fingerprint: str = ""
    unencrypted: bool = False


class Exposure(Result, frozen=True, kw_only=True):
    """A file that somebody could read, and the variables in it if it is a `.env` file."""

    path: str
    variables: tuple[str, ...] = ()


class PurgePlan(Result, frozen=True, kw_only=True):
    """What becomes of files that are taken out of all history.

    Attributes:
        paths: What was asked for: paths, directories, patterns.
        files: The files, and the variables in them.
        versions: How many contents they have had.
        size: How many bytes those have.
        commits: How many commits are written anew.
        readers: Who could read the files.
        packs: How many packs of the remote go.
        kept: What can't be taken back there, in words; empty if nothing is known to stay.
        head: Where ``main`` is then.
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
    """What a sync did.

    Attributes:
        pulled: The pull that came last; None if there was nothing there to pull.
        pushed: The push; None if there was nothing to push, or there are conflicts.
        rounds: How often it began anew because others were faster.
        rewritten: How many commits were rewritten to hold files for their owners.
    """

    pulled: Transfer | None
    pushed: Transfer | None
    rounds: int = 1
    rewritten: int = 0


class Resolved(Result, frozen=True, kw_only=True):
    """Conflicts that are settled.

    Attributes:
        paths: The files.
        left: The conflicts that remain.
        backup: The ref that keeps what was overwritten; empty if nothing was.
    """

    paths: tuple[str, ...]
    left: tuple[Unmerged, ...] = ()
    backup: str = ""


class OperationEntry(Result, frozen=True, kw_only=True):
    """An operation: a command that changed something here.

    Attributes:
        number: Counts them.
        time: When.
        command: What it was.
        message: The first line of the message of the commit that it made; empty if it made none.
        paths: The files that it changed, on disk or in the next commit.
    """

    number: int
    time: datetime
    command: str
    message: str = ""
    paths: tuple[str, ...] = ()


class Undone(Result, frozen=True, kw_only=True):
    """What an undo did.

    Attributes:
        operations: What it has undone, the newest first.
        changes: How files changed.
        head: Where ``main`` is now.
        backup: The ref that keeps what was overwritten; empty if nothing was.
        published: Whether the remote has commits that were undone here.
    """

    operations: tuple[OperationEntry, ...]
    changes: tuple[Change, ...] = ()
    head: str | None = None
    backup: str = ""
    published: bool = False


class CheckedOut(Result, frozen=True, kw_only=True):
    """What a checkout or restore did.

    Attributes:
        commit: The revision that files were taken from; None for the index.
        changes: How files changed.
        backup: The ref that keeps what was overwritten; empty if nothing was.
        ignored: Lines added to `.gitignore`.
        left_out: Files that were not put in place because of their names.
    """

    commit: str | None
    changes: tuple[Change, ...] = ()
    backup: str = ""
    ignored: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


class DestroyPlan(Result, frozen=True, kw_only=True):
    """What `destroy` is going to delete.

    Attributes:
        root: The project's directory.
        local: Whether its `.dorky/` and `.dorkyrc` go.
        url: The remote whose keys go; empty for none.
        keys: How many keys, and ``size`` how many bytes they hold.
        unpushed: Commits that only this clone holds, as far as is known.
    """

    root: str
    local: bool = True
    url: str = ""
    keys: int = 0
    size: int = 0
    unpushed: int = 0


class Trust(Result, frozen=True, kw_only=True):
    """State of another key, which `trust` takes over.

    Attributes:
        name: How the name of its directory in `.dorky/` begins.
        repository: The id of the repository that it belongs to.
        url: Of the remote that it knows; empty for none.
        head: The commit that it is at; null without commits.
        packs: How many packs it holds, each of which has the hash of its name.
        size: Their size in bytes.
        done: Whether it has been taken over.
    """

    name: str
    repository: str
    url: str
    head: str | None
    packs: int
    size: int
    done: bool = False


class Garbage(Result, frozen=True, kw_only=True):
    """A pack (or another key of the remote) that can go: its name, its size in bytes, and why."""

    name: str
    size: int
    reason: str


class RemoteGCReport(Result, frozen=True, kw_only=True):
    """What a collection of a remote's garbage comes to.

    Attributes:
        url: The remote.
        garbage: What nobody needs.
        rewritten: Packs that are given up, after what is needed of them has been packed anew.
        kept_young: How many packs that no root lists are too young to be garbage: somebody may be
            about to list them.
        packs_before: How many packs the root listed.
        packs_after: How many it lists then; an estimate until it is done.
        size: How many bytes go.
        sent: How many bytes are uploaded for that.
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
        fingerprint: To be compared by people.
        source: Where its secret part is; empty for others' keys.
        problem: Why nothing is encrypted to it; empty for a sound key.
    """

    recipient: str
    fingerprint: str
    source: str = ""
    problem: str = ""


class Generated(Result, frozen=True, kw_only=True):
    """A key that was made.

    Attributes:
        key: Its public part.
        secret: The secret part, if it was made for a CI job; it is kept nowhere.
        member: The name under which it was added to the team; empty if it was not.
    """

    key: Key
    secret: str = ""
    member: str = ""


class MemberInfo(Result, frozen=True, kw_only=True):
    """Somebody who may read.

    Attributes:
        name: What they are called.
        keys: Their public keys.
        groups: The names of the groups that they belong to, beside everybody's.
        you: Whether it is the user.
        how: ``key``, or how their key is kept in the repository: ``passphrase``, ``awskms``.
    """

    name: str
    keys: tuple[Key, ...]
    groups: tuple[str, ...] = ()
    you: bool = False
    how: Literal["key", "passphrase", "awskms"] = "key"


class Overlap(Result, frozen=True, kw_only=True):
    """Two patterns that select a path in common: files there are frozen until one of them ends.

    Attributes:
        pattern: The one.
        group: The group that has the other.
        other: The other.
    """

    pattern: str
    group: str
    other: str


class GroupInfo(Result, frozen=True, kw_only=True):
    """A group of readers.

    Attributes:
        name: What it is called.
        patterns: Which files only it can read.
        members: Who belongs to it.
        yours: Whether the user does.
        overlaps: Which of its patterns overlap those of other groups.
    """

    name: str
    patterns: tuple[str, ...]
    members: tuple[str, ...]
    yours: bool
    overlaps: tuple[Overlap, ...] = ()


class JoinRequest(Result, frozen=True, kw_only=True):
    """Somebody's request to be let in; the name is what they claim."""

    name: str
    key: Key


class Team(Result, frozen=True, kw_only=True):
    """Who may read.

    Attributes:
        members: Everybody, or those who may read the path that was asked about.
        groups: The groups of readers.
        requests: Who asks to be let in.
        path: The path that was asked about; empty for none.
        group: The name of the group that it belongs to.
    """

    members: tuple[MemberInfo, ...]
    groups: tuple[GroupInfo, ...] = ()
    requests: tuple[JoinRequest, ...] = ()
    path: str = ""
    group: str = ""


class Unused(Result, frozen=True, kw_only=True):
    """A key in the roster that nothing is encrypted to.

    Attributes:
        member: Whose it is.
        fingerprint: To name it by: ``dorky team remove MEMBER --key FINGERPRINT``.
        problem: Why.
    """

    member: str
    fingerprint: str
    problem: str


class Rotation(Result, frozen=True, kw_only=True):
    """New keys.

    Attributes:
        groups: The names of the groups that have them.
        removed: Who has been removed; empty for a mere rotation.
        key: By which key alone, if they have others.
        exposed: What they could read: the list of secrets to be changed.
        objects: How many objects were sealed anew.
        size: How many bytes of them.
        kept: How many bytes of packs stay as they were sealed before.
        fingerprint: The new one, for `.dorkyrc`.
        skipped: Groups whose keys could not be renewed, because the user is not in them.
        unused: Members' keys that nothing is encrypted to, because they can't be used.
        locked_out: Whether it was the user's own access that was taken away.
        done: Whether it has been done, not only planned.
    """

    groups: tuple[str, ...]
    fingerprint: str
    removed: str = ""
    key: str = ""
    exposed: tuple[Exposure, ...] = ()
    objects: int = 0
    size: int = 0
    kept: int = 0
    skipped: tuple[str, ...] = ()
    unused: tuple[Unused, ...] = ()
    locked_out: bool = False
    done: bool = False


class Moved(Result, frozen=True, kw_only=True):
    """A file that goes from one group to another."""

    path: str
    old: str
    new: str


class GroupChange(Result, frozen=True, kw_only=True):
    """What becomes of a group.

    Attributes:
        group: The group as it is going to be.
        moved: The files that change hands.
        gains: Who can read more than before.
        loses: Who can read less from now on. What they have read they have read.
        files: How many committed files belong to the group then.
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
    """One thing that `doctor` looked at.

    Attributes:
        name: What.
        verdict: How it is.
        about: What was found.
        mend: The command to run, or what else to do; empty if nothing is to be done.
    """

    name: str
    verdict: Literal["ok", "warn", "fail"]
    about: str
    mend: str = ""


class Edited(Result, frozen=True, kw_only=True):
    """What became of a file that was edited, and is staged now.

    Attributes:
        path: The file.
        key: The variable that was set or unset; empty if the whole file was edited.
        what: What happened to the file; None if it held just that before.
        ignored: Lines added to `.gitignore`.
    """

    path: str
    key: str = ""
    what: Literal["added", "modified"] | None = None
    ignored: tuple[str, ...] = ()


class Finding(Result, frozen=True, kw_only=True):
    """Something that `fsck` found to be other than it should be.

    Attributes:
        code: What sort of thing, for scripts: ``missing-pack``, ``corrupt-object``, …
        subject: What it is about: a pack, an object, a ref, a path, a URL.
        about: What is wrong.
        mend: What to do; empty if nothing is to be done.
        fatal: Whether something is damaged or lost.
    """

    code: str
    subject: str
    about: str
    mend: str = ""
    fatal: bool = True


class Dangling(Result, frozen=True, kw_only=True):
    """A commit that nothing leads to. ``dorky checkout ID`` gets it back."""

    id: str
    author: str
    time: datetime
    title: str


class FsckReport(Result, frozen=True, kw_only=True):
    """What `fsck` has looked at, and found.

    Attributes:
        packs: How many packs, here and in the remote.
        objects: How many objects were opened and verified.
        bytes_read: How many bytes of packs were read whole.
        findings: What is not as it should be.
        dangling: The newest commits of each line that nothing leads to.
        unlisted: How many packs the remote stores that its root does not list.
        unlisted_size: How many bytes they have.
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
        """Whether nothing is damaged or lost."""
        return not any(each.fatal for each in self.findings)


class RepairReport(Result, frozen=True, kw_only=True):
    """What `fsck --rebuild` has made.

    Attributes:
        kept: Where the old database is now; empty if there was none.
        packs: How many packs were read.
        objects: How many objects they hold.
        damaged: Packs that were moved to `damaged/` in the state.
        saved: How many objects of those were saved.
        main: The commit that ``main`` names now.
        notes: What could not be had back as it was, and what was taken instead.
        dangling: See `Fscked`.
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
    """What a collection of garbage here deletes.

    Attributes:
        garbage: Packs that hold nothing that is needed.
        rewritten: Packs that are given up, after what is needed of them has been packed anew.
        size: How many bytes are freed.
        kept: Packs that the database does not know, and that hold commits which are nowhere else.
        commits: The newest commits of each line that go for good.
        operations: How many operations are forgotten.
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
    """A key of a document that has another value, has one now, or has none any more.

    Attributes:
        key: Which.
        what: What happened to it.
        old: Its value before, hidden unless values were asked for; None if there was none.
        new: Its value now, in the same way.
    """

    key: str
    what: Literal["added", "removed", "changed"]
    old: str | None
    new: str | None


class FileDiff(Result, frozen=True, kw_only=True):
    """How two versions of a file differ.

    Attributes:
        path: Which file.
        what: What happened to it.
        kind: How it was compared: by its ``keys``, as ``text``; ``binary`` is all that is no text,
            or too large; ``mode`` if only the mode differs.
        keys: The keys at which a document differs.
        text: A unified diff, without the lines that name the files.
        added: How many keys or lines are new or have changed.
        removed: How many are gone or have changed.
        old_size: How many bytes it had; None if it was not there.
        new_size: How many it has; None if it is gone.
        old_id: What stands for its content before: equal for equal content, in this repository.
        new_id: What stands for its content now.
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
    """How two states of the files differ.

    Attributes:
        files: The files that differ, by path.
        closed: The groups whose files differ, too, and which the user can't read.
    """

    files: tuple[FileDiff, ...] = ()
    closed: tuple[str, ...] = ()
