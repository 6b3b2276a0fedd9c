"""Authority: whether a root was written by a member who may write, and says what the log says.

Anyone who can write to the bucket can write a root. It counts only if a writer of the team has
signed it, if its team log goes on from what was seen, and if its keys, roster and purges are those
of the log.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dorky import errors
from dorky.config import RC
from dorky.format.model import Header, Inline, Kind, ObjectId, Purge, Replaced, Root, TeamEntry
from dorky.keys import teamlog
from dorky.keys.signing import Signer
from dorky.keys.teamlog import Pin, Refused, Team
from dorky.remote.root import HEAD, Remote, RootSnapshot
from dorky.store import authorship, history
from dorky.store.history import Entered
from dorky.store.objects import Store

PINNED = "pinned"
"""The single value with the pin that has been found in the team log."""


def check_writer(remote: Remote, *, admin: bool = False) -> Signer:
    """Return the user's key, if the team log lets it write.

    Args:
        remote: The remote.
        admin: Whether the team is to be changed.

    Raises:
        NotWriter: The user may not.
    """
    team, signer = remote.store.database.team(), remote.signer()
    role = team.role(signer.public)
    if role != "admin" and (admin or role != "writer"):
        raise not_allowed(remote, team, signer, "change the team" if admin else "write")
    return signer


def not_allowed(remote: Remote, team: Team, signer: Signer, what: str) -> errors.NotWriter:
    """Return the error for a user who may not do something."""
    holder = team.holder(signer.public)
    if holder is None:
        return errors.NotWriter(what, remote.url, "you are not on the team")
    admins = [member.name for member in team.members.values() if member.role == "admin"]
    wanted = "writer" if what == "write" else "admin"
    who = f"{holder.name} is a {holder.role}"
    return errors.NotWriter(
        what, remote.url, who, member=holder.name, admin=admins[0], wanted=wanted
    )


# --- reading --------------------------------------------------------------------------------


def check_early(remote: Remote, seen: RootSnapshot) -> None:
    """Refuse a root by its signer alone, before anything is fetched that it lists.

    That is possible if it brings no change of the team. `accept` looks at all of it.

    Raises:
        ForgedRoot: The root was not written by a member who may.
    """
    known, root = remote.store.database.team(), seen.root
    if remote.accept_rewind or not known.n or not root.before == root.team == known.id:
        return
    try:
        _check_may_write(root, known)
    except Refused as error:
        raise errors.ForgedRoot(remote.url, error) from None


def accept(remote: Remote, seen: RootSnapshot) -> None:
    """Check a root that was read, and record the team as its log leaves it.

    Everything that it names must be in the local store; the caller's transaction is taken back if
    the root is refused.

    Args:
        remote: The remote.
        seen: The root.

    Raises:
        ForgedRoot: The root was not written by a member who may, or does not say what the log says.
        ForgedCommit: It brings a commit that no member has signed.
    """
    store, root = remote.store, seen.root
    known = Team() if remote.accept_rewind else store.database.team()
    try:
        new = _new_entries(remote, root, known)
        team = teamlog.replay(new, seen.header.repository, known)
        teamlog.check(team, seen.header, root.roster)
        if tuple(map(replaced, root.purges)) != team.purges:
            raise Refused("its purges are not those of the team log")
        _check_signer(root, team, _newest(remote, root))
        if new and not remote.accept_rewind:
            _check_heads(remote, root, new[-1].entry)
    except Refused as error:
        raise errors.ForgedRoot(remote.url, error) from None
    authorship.check(store, team, root.refs.values())
    authorship.note(store.database, root.refs.values())
    store.database.set_team(team)
    if not known.n:
        store.database.set(PINNED, b"")
    check_pin(store, remote.pin, remote.url)


def _new_entries(remote: Remote, root: Root, known: Team) -> list[Entered]:
    """Return the entries that follow the last known one, the oldest first."""
    if not root.team:
        raise Refused("it names no team log")
    found: list[Entered] = []
    for entered in history.entries(remote.store, root.team, stop=known.id):
        if entered.entry.n <= known.n:
            raise Refused(f"its team log does not go on from entry {known.n}, which was seen")
        found.append(entered)
    return found[::-1]


def _newest(remote: Remote, root: Root) -> TeamEntry:
    return next(history.entries(remote.store, root.team)).entry


def _check_signer(root: Root, team: Team, newest: TeamEntry) -> None:
    """Refuse a root that nobody has signed who could write in the state before it.

    A root that brings an entry was signed by the administrator who has signed the entry. Otherwise
    somebody who has just been removed could bring the entry, with another history. Whoever gives up
    writing by the entry changes no ref, so bringing it again later does no harm.
    """
    if root.before == root.team:
        _check_may_write(root, team)
        return
    name = _name(root, team)
    if (newest.prev, newest.signer) != (root.before, root.signer):
        raise Refused(f"{name} has written it, but not the change of the team that it brings")
    if not team.may_write(root.signer) and root.refs != newest.heads:
        raise Refused(f"{name} has written it, who has left the team with it")


def _check_may_write(root: Root, team: Team) -> None:
    if not team.may_write(root.signer):
        raise Refused(f"{_name(root, team)} has written it, who may not write")


def _name(root: Root, team: Team) -> str:
    return team.names.get(root.signer, "somebody whom the team log does not know")


def _check_heads(remote: Remote, root: Root, newest: TeamEntry) -> None:
    """Refuse a history that does not go on from the one that the newest entry was made for."""
    head, now = newest.heads.get(HEAD), root.refs.get(HEAD)
    if head is None:
        return
    purged = {purge.old: purge.new for purge in newest.purges}
    if now is None or not history.is_ancestor(remote.store, purged.get(head, head), now):
        raise Refused(f"its history does not go on from that of entry {newest.n}")


def replaced(purge: Purge) -> Replaced:
    """Return what the team log keeps of a purge."""
    return Replaced(purge.old, purge.new)


def _nth(store: Store, team: Team, n: int) -> ObjectId:
    log = history.entries(store, team.id)
    return next(entered.id for entered in log if entered.entry.n == n)


def check_pin(store: Store, text: str, url: str) -> None:
    """Refuse a team log without the entry that `.dorkyrc` pins. Its successors are fine.

    Args:
        store: The store that holds the log.
        text: The pin; empty if there is none.
        url: Where the log comes from, for messages.

    Raises:
        WrongTeam: The log has another entry in its place.
        TeamRewound: The log does not have as many entries.
        BadConfig: The pin is malformed.
    """
    if not text or store.database.text(PINNED) == text:
        return
    try:
        pin = Pin.parse(text)
    except ValueError as error:
        raise errors.BadConfig(RC, f"repository.team: {error}") from None
    team = store.database.team()
    if pin.n > team.n:
        raise errors.TeamRewound(url, team.n, pin.n)
    # The newest entry is known without opening a key.
    found = team.id if pin.n == team.n else _nth(store, team, pin.n)
    if found != pin.id:
        raise errors.WrongTeam(url, pin.n)
    store.database.set(PINNED, text.encode())


# --- writing --------------------------------------------------------------------------------


def amended(
    remote: Remote, header: Header, root: Root, *, purges: Sequence[Replaced] = ()
) -> tuple[Root, Team]:
    """Return a new root with the entry of the team log that it needs.

    Args:
        remote: The remote; its last seen root is the one to replace.
        header: The new header.
        root: The new root, with its roster.
        purges: The histories that the root purges.

    Returns:
        The root, and the team after the entry: to be recorded when the swap is won.

    Raises:
        NotWriter: The user may not make this change.
        UsageError: Nobody may.
    """
    store = remote.store
    before, signer = store.database.team(), remote.signer()
    heads = remote.seen.root.refs if remote.seen else {}
    opened = remote.unlock(header)
    try:
        team, body = authorship.enter(
            store, before, header, root.roster, signer, heads=heads, purges=purges
        )
    except Refused as error:
        if before.role(signer.public) != "admin":
            raise not_allowed(remote, before, signer, "change the team") from None
        raise errors.UnsoundTeam(error) from None
    entry = Inline(Kind.TEAM, team.id, opened.store(Kind.TEAM, team.id, body))
    following = msgspec.structs.replace(
        root, inline=(*root.inline, entry), team=team.id, before=before.id
    )
    return following, team
