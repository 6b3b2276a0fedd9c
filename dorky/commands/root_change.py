"""Replace the remote's root where keys, members or groups change.

Every change is one compare-and-swap of the root: it takes effect as a whole, or not at all. Packs
uploaded before the swap are in no root yet; packs deleted after it are in no root any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from dorky import errors
from dorky.commands.upstream import fetch_root
from dorky.drivers.retry import Patience
from dorky.format.model import ALL, Header
from dorky.keys import roster, vault
from dorky.keys.vault import Vault
from dorky.project import Project
from dorky.remote import authority
from dorky.remote import fetch as remote_fetch
from dorky.remote import root as roots
from dorky.remote.journal import Journal, Sent
from dorky.remote.listing import Moved
from dorky.remote.push import remember
from dorky.remote.root import Remote, RootSnapshot

T = TypeVar("T")


class RootChange(NamedTuple):
    """The replacement of a root.

    Attributes:
        header: The new header.
        changes: The other changes of the root.
        sent: The packs that have been uploaded for it.
    """

    header: Header
    changes: dict[str, Any]
    sent: Sequence[Sent] = ()


def fetch_keyed_root(project: Project, *, change: bool = True) -> Remote:
    """Return the remote of an encrypted repository, brought up to date.

    Args:
        project: The project.
        change: Whether the user is going to change the team.

    Raises:
        UsageError: The repository is unencrypted: it has no keys.
        NotWriter: The user does not administer the team.
    """
    remote = fetch_team(project) if change else _fetch(project)
    assert remote.seen is not None
    if not remote.seen.header.sealed:
        raise errors.UsageError("An unencrypted repository has no keys")
    return remote


def fetch_team(project: Project, *, leaver: str = "") -> Remote:
    """Return the remote, brought up to date, of a team that the user may change.

    Args:
        project: The project.
        leaver: The member whose keys are to be removed; members may remove their own.

    Raises:
        NotWriter: The user does not administer the team.
    """
    remote = _fetch(project)
    holder = project.team.holder(project.signer.public)
    own = holder is not None and holder.name == leaver
    authority.check_writer(remote, admin=not own)
    return remote


def _fetch(project: Project) -> Remote:
    remote = fetch_root(project)
    assert remote.seen is not None
    return remote


def change_root(
    project: Project, remote: Remote, make: Callable[[RootSnapshot, Vault], tuple[RootChange, T]]
) -> T:
    """Replace the remote's root by what ``make`` makes of it, and update `.dorkyrc` to match.

    Args:
        project: The project.
        remote: The remote, brought up to date (see `fetch_keyed_root`).
        make: Gives the replacement of a root, and the caller's result; called again if another
            member was faster.

    Returns:
        The result of the call of ``make`` whose replacement took effect.

    Raises:
        UsageError: None of the user's keys would be used any more.
        ServerBusy: Others were faster, again and again.
    """
    patience = Patience(remote.url)
    while True:
        seen = remote.seen
        assert seen is not None
        sent: Sequence[Sent] = ()
        try:
            change, result = make(seen, project.unlock(seen.header))
            if _replace(project, remote, seen, change):
                return result
            sent = change.sent
        except Moved:  # nobody has seen the keys that it made: return to the known ones
            project.unlock(seen.header)
        patience.wait()
        remote_fetch.fetch(remote, project.progress)
        if sent:
            # A swap may seem lost that won, if very many have followed it.
            Journal(remote).discard(sent)


def _replace(project: Project, remote: Remote, seen: RootSnapshot, change: RootChange) -> bool:
    """Swap a root, and remember it; return False if another member was faster."""
    before = seen.root.roster
    after = change.changes.get("roster", before)
    heirs = roster.recipients(after, ALL)
    leaves = project.keyring.opened(change.header) is not None
    if change.header.sealed and project.publics.isdisjoint(heirs) and not leaves:
        raise errors.UselessKeys
    roster.check_room(before, after)
    vault.check_room(seen.header, change.header)
    known = roster.sealed(before, after, project.unlock(change.header))
    root = roots.successor(seen.root, **{**change.changes, "roster": known})
    root, team = authority.amended(remote, change.header, root)
    try:
        won = remote.swap(change.header, root)
    except errors.PreconditionFailed:
        project.unlock(seen.header)
        return False
    except BaseException:
        # Return to the known header: new keys that nobody else ever sees must not be used.
        project.unlock(seen.header)
        raise
    try:
        remember(remote, won, change.sent, project.progress, team=team)
    except errors.AccessError:
        # Other swaps have followed, and the user has just left the team.
        if not leaves:
            raise
    _pin(project)
    return True


def _pin(project: Project) -> None:
    """Make `.dorkyrc` commit to the newest key, and pin the newest entry of the team log."""
    if project.config.text("repository.id") and project.team.n:
        project.config.set("repository.team", project.team.pin, scope="project")
    if project.config.text("repository.id") and project.vault.sealed:
        fingerprint = project.vault.fingerprint
        if project.config.text("repository.fingerprint") != fingerprint:
            project.config.set("repository.fingerprint", fingerprint, scope="project")
