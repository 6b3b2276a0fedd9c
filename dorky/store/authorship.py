"""Authorship: who has signed commits and entries of the team log, and whether they were allowed to.

A commit is valid if any key has signed it that the log ever had as a writer's. So nothing that was
accepted once is refused when its author leaves. What makes it part of the history is the root that
brings it (see `authority`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from functools import cache

import msgspec

from dorky import errors
from dorky.format import model
from dorky.format.model import ALL, Commit, Header, Kind, ObjectId, Replaced, Roster
from dorky.keys import signing, teamlog
from dorky.keys.signing import Signer
from dorky.keys.sshsig import Namespace
from dorky.keys.teamlog import Team
from dorky.keys.vault import Vault
from dorky.store import history
from dorky.store.database import Database
from dorky.store.history import Trees
from dorky.store.objects import Store

VERIFIED = "verified"
"""The single value with the heads of the histories that have been verified."""


# --- the team log ---------------------------------------------------------------------------


def enter(
    store: Store,
    team: Team,
    header: Header,
    roster: Roster,
    signer: Signer,
    *,
    refs: Mapping[str, ObjectId],
    purges: Sequence[Replaced] = (),
) -> tuple[Team, bytes]:
    """Make the entry that makes the log agree with a header and a roster.

    Args:
        store: The local store.
        team: The team before the entry.
        header: The new header.
        roster: The new roster.
        signer: The user's key.
        refs: The refs of the root that is replaced.
        purges: The histories that the same change purges.

    Returns:
        The team after the entry, and the entry's body.

    Raises:
        Refused: The user may not make this change, or nobody may.
    """
    time = datetime.now(timezone.utc).replace(microsecond=0)
    entry = teamlog.entry_for(team, header, roster, time=time, refs=refs, purges=purges)
    entry = signing.signed(entry, Namespace.TEAM, signer, header.repository)
    body = model.encode(entry)
    after = teamlog.extend(team, entry, store.vault.object_id(Kind.TEAM, body), header.repository)
    return after, body


def replayed(store: Store, repository: str) -> Team:
    """Return the team as the entries that the local packs hold leave it, verified again."""
    rows = store.database.connection.execute(
        "SELECT DISTINCT o.id FROM objects o JOIN packs p ON p.n = o.pack"
        " WHERE p.remote = '' AND o.kind = 'team'"
    )
    numbers: dict[ObjectId, int] = {}
    for entry_id in [raw.hex() for (raw,) in rows]:
        with contextlib.suppress(errors.DorkyError):
            body = store.read(entry_id, group=ALL)
            numbers[entry_id] = model.decode_entry(body, entry_id).n
    for newest in sorted(numbers, key=lambda entry_id: -numbers[entry_id]):
        with contextlib.suppress(errors.DorkyError, teamlog.Refused):
            return teamlog.replay([*history.entries(store, newest)][::-1], repository)
    return Team()


# --- commits --------------------------------------------------------------------------------


def check(store: Store, team: Team, heads: Iterable[ObjectId]) -> None:
    """Refuse histories with commits that nobody has signed who could write.

    Commits that were verified before are not verified again.

    Raises:
        ForgedCommit: There is such a commit.
    """
    known = set(verified(store.database))
    for commit_id, commit in history.added(store, known - store.missing(known), heads).items():
        if problem := fault(store, team, commit_id, commit):
            raise errors.ForgedCommit(commit_id[:10], problem)


def verified(database: Database) -> list[ObjectId]:
    """Return the heads of the histories that have been verified."""
    try:
        return msgspec.json.decode(database.get(VERIFIED) or b"[]", type=list[ObjectId])
    except msgspec.MsgspecError as error:
        raise errors.CorruptDatabase(database.path, error) from None


def note(database: Database, heads: Iterable[ObjectId]) -> None:
    """Record the heads of the histories that have been verified."""
    database.set(VERIFIED, msgspec.json.encode(sorted(set(heads))))


def fault(store: Store, team: Team, commit_id: ObjectId, commit: Commit) -> str:
    """Return what is wrong with the signature of a commit; an empty text if it is valid."""
    if problem := signature_fault(store.vault, team, commit_id, commit):
        return problem
    for group in _changed(store, commit):
        if commit.signer not in team.insiders.get(group, ()):
            return f"it changes files of a group that {team.names[commit.signer]} was never in"
    return ""


def signature_fault(vault: Vault, team: Team, commit_id: ObjectId, commit: Commit) -> str:
    """Return what is wrong with a signature, whatever the commit does to the trees of groups."""
    if not commit.signature:
        return "it is not signed"
    if not signing.is_signed(commit, Namespace.COMMIT, vault.repository):
        return "its signature is not valid"
    if vault.object_id(Kind.COMMIT, model.encode(commit)) != commit_id:
        return "its bytes are not canonical"
    if commit.signer not in team.names:
        return "the key that has signed it was never a writer's"
    return ""


def _changed(store: Store, commit: Commit) -> list[str]:
    """Return the groups whose tree a commit does not simply have from its parents."""
    before = [history.read_commit(store, parent).trees for parent in commit.parents]
    groups = {group for trees in (commit.trees, *before) for group in trees} - {ALL}

    @cache
    def ancestors() -> list[Trees]:
        ours, theirs = commit.parents
        bases = history.merge_bases(store, [ours], [theirs])
        return [history.read_commit(store, base).trees for base in bases]

    return [
        group for group in sorted(groups) if not _is_inherited(group, commit, before, ancestors)
    ]


def _is_inherited(
    group: str, commit: Commit, parents: Sequence[Trees], ancestors: Callable[[], list[Trees]]
) -> bool:
    """Return whether a commit has the tree of a group that somebody outside it must take over.

    Of two parents that differ, it is the tree of the one that has changed it since they diverged.
    Where they have diverged several times and differed then, only a member can tell.
    """
    own, before = commit.trees.get(group), [trees.get(group) for trees in parents]
    if len(set(before)) <= 1:
        return own == (before[0] if before else None)
    if len(before) != 2 or own not in before:
        return False
    old = {trees.get(group) for trees in ancestors()} or {None}
    return len(old) == 1 and old < {*before} and own not in old
