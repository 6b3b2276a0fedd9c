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
    """

    root: str
    repository: str
    url: str = ""
    sealed: bool = True
    public_key: str = ""
    identity: str = ""
    new_identity: bool = False


class Staged(Result, frozen=True, kw_only=True):
    """What staging (or unstaging, or removing) did.

    Attributes:
        changes: How the index changed.
        ignored: Lines added to `.gitignore`.
        skipped: How many files were passed over because git tracks them.
    """

    changes: tuple[Change, ...] = ()
    ignored: tuple[str, ...] = ()
    skipped: int = 0


class LogEntry(Result, frozen=True, kw_only=True):
    """A commit, with what it changed if that was asked for."""

    id: str
    parents: tuple[str, ...]
    author: str
    time: datetime
    message: str
    git: str = ""
    refs: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()


class Listed(Result, frozen=True, kw_only=True):
    """A committed file. ``mode`` is octal, ``size`` in bytes, ``content`` an id."""

    path: str
    mode: str
    size: int
    content: str


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

    @property
    def clean(self) -> bool:
        """Whether the files, the index and ``head`` agree."""
        return not self.staged and not self.unstaged


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


class CheckedOut(Result, frozen=True, kw_only=True):
    """What a checkout or restore did.

    Attributes:
        commit: The revision that files were taken from; None for the index.
        changes: How files changed.
        backup: The ref that keeps what was overwritten; empty if nothing was.
    """

    commit: str | None
    changes: tuple[Change, ...] = ()
    backup: str = ""


class Destruction(Result, frozen=True, kw_only=True):
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
