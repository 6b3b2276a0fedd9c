"""Authority: whether a root was written by a member who may write, and says what the log says.

Anyone who can write to the bucket can write a root. It counts only if a writer of the team has
signed it, if its team log goes on from what was seen, and if its keys, roster and purges are those
of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from dorky import errors
from dorky.config import RC
from dorky.drivers.base import check_writable
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
        ReadOnlyRemote: Nobody may, there.
    """
    check_writable(remote.driver)
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


def accept(remote: Remote, seen: RootSnapshot, *, first: bool) -> None:
    """Check a root that was read, and record the team as its log leaves it.

    Everything that it names must be in the local store; the caller's transaction is taken back if
    the root is refused.

    Args:
        remote: The remote.
        seen: The root.
        first: Whether no root was accepted before, though the team may be known.

    Raises:
        ForgedRoot: The root was not written by a member who may, or does not say what the log says.
        ForgedCommit: It brings a commit that no member has signed.
    """
    store, root = remote.store, seen.root
    known = Team() if remote.accept_rewind else store.database.team()
    team, new = follow_log(
        seen, known, lambda entry_id: history.read_entry(store, entry_id), remote.url
    )
    if (new or first) and not remote.accept_rewind:
        _check_heads(remote, root, history.read_entry(store, team.id))
    authorship.check(store, team, root.refs.values())
    authorship.note(store.database, root.refs.values())
    store.database.set_team(team)
    if not known.n:
        store.database.set(PINNED, b"")
    check_pin(store, remote.pin, remote.url)


def follow_log(
    seen: RootSnapshot, known: Team, read: Callable[[ObjectId], TeamEntry], url: str
) -> tuple[Team, list[Entered]]:
    """Check that a root was written by a member who may, and says what the team log says.

    Args:
        seen: The root.
        known: The team as it was last verified.
        read: Reads an entry of the log.
        url: Where the root comes from, for messages.

    Returns:
        The team as the log leaves it, and the entries that are new.

    Raises:
        ForgedRoot: One of the entries, or the root, is refused.
    """
    root = seen.root
    try:
        new = _new_entries(root, known, read)
        team = teamlog.replay(new, seen.header.repository, known)
        teamlog.check(team, seen.header, root.roster)
        if tuple(map(replaced, root.purges)) != team.purges:
            raise Refused("its purges are not those of the team log")
        _check_signer(root, team, read)
    except Refused as error:
        raise errors.ForgedRoot(url, error) from None
    return team, new


def _new_entries(root: Root, known: Team, read: Callable[[ObjectId], TeamEntry]) -> list[Entered]:
    """Return the entries that follow the last known one, the oldest first."""
    if not root.team:
        raise Refused("it names no team log")
    found: list[Entered] = []
    at = root.team
    while at and at != known.id:
        entry = read(at)
        if entry.n <= known.n:
            raise Refused(f"its team log does not go on from entry {known.n}, which was seen")
        found.append(Entered(at, entry))
        at = entry.prev
    return found[::-1]


def _check_signer(root: Root, team: Team, read: Callable[[ObjectId], TeamEntry]) -> None:
    """Refuse a root that nobody has signed who could write in the state before it.

    A root that brings an entry was signed by the administrator who has signed the entry. Otherwise
    somebody who has just been removed could bring the entry, with another history. Whoever gives up
    writing by the entry changes no ref, so bringing it again later does no harm.
    """
    if root.before == root.team:
        _check_may_write(root, team)
        return
    name, newest = _name(root, team), read(root.team)
    if (newest.prev, newest.signer) != (root.before, root.signer):
        raise Refused(f"{name} has written it, but not the change of the team that it brings")
    if not team.may_write(root.signer) and teamlog.digest_of_refs(root.refs) != newest.refs:
        raise Refused(f"{name} has written it, who has left the team with it")


def _check_may_write(root: Root, team: Team) -> None:
    if not team.may_write(root.signer):
        raise Refused(f"{_name(root, team)} has written it, who may not write")


def _name(root: Root, team: Team) -> str:
    return team.names.get(root.signer, "somebody whom the team log does not know")


def _check_heads(remote: Remote, root: Root, newest: TeamEntry) -> None:
    """Refuse a history that does not go on from the one that the newest entry was made for.

    Raises:
        ForgedRoot: The history does not go on.
    """
    head, now = newest.head, root.refs.get(HEAD)
    if not head:
        return
    purged = {purge.old: purge.new for purge in newest.purges}
    if now is None or not history.is_ancestor(remote.store, purged.get(head, head), now):
        what = f"its history does not go on from that of entry {newest.n}"
        raise errors.ForgedRoot(remote.url, what)


def replaced(purge: Purge) -> Replaced:
    """Return what the team log keeps of a purge."""
    return Replaced(purge.old, purge.new)


def nth(store: Store, team: Team, n: int) -> ObjectId:
    """Return the id of an entry of the team log by its number."""
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
    team = store.database.team()
    # The newest entry is known without opening a key.
    compare_pin(text, team, lambda n: team.id if n == team.n else nth(store, team, n), url)
    store.database.set(PINNED, text.encode())


def compare_pin(text: str, team: Team, nth: Callable[[int], ObjectId], url: str) -> None:
    """Refuse a team whose log has another entry than a pin says (see `check_pin`).

    Args:
        text: The pin.
        team: The team as the log leaves it.
        nth: Returns the id of an entry of the log by its number.
        url: Where the log comes from, for messages.
    """
    try:
        pin = Pin.parse(text)
    except ValueError as error:
        raise errors.BadConfig(RC, f"repository.team: {error}") from None
    if pin.n > team.n:
        raise errors.TeamRewound(url, team.n, pin.n)
    if nth(pin.n) != pin.id:
        raise errors.WrongTeam(url, pin.n)


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
    refs = remote.seen.root.refs if remote.seen else {}
    opened = remote.unlock(header)
    try:
        team, body = authorship.enter(
            store, before, header, root.roster, signer, refs=refs, purges=purges
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
