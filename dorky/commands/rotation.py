"""Rotation: renew the keys of groups, and re-encrypt what the remote holds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

import msgspec

from dorky import errors
from dorky.commands import requests
from dorky.commands.root_change import RootChange, change_root, fetch_team
from dorky.format.model import ALL, Header, Request, Roster
from dorky.keys import age, identities, roster, vault
from dorky.keys.vault import Vault
from dorky.project import Project
from dorky.remote import gc as remote_gc
from dorky.remote import root as roots
from dorky.remote import rotate as remote_rotate
from dorky.remote.pending_deletes import Condemned, delete
from dorky.remote.root import Remote, RootSnapshot
from dorky.results import Exposure, Rotation, Unused


class RotationPlan(NamedTuple):
    """The groups whose keys are renewed, and the reason.

    Attributes:
        roster: The new roster.
        groups: The groups whose keys are renewed.
        removed: The members who are removed; see `Rotation` for this and the rest.
        key: The only key of the member that is removed.
        exposed: The files that the members could read.
        locked_out: Whether the user removes their own access.
    """

    roster: Roster
    groups: frozenset[str]
    removed: str = ""
    key: str = ""
    exposed: tuple[Exposure, ...] = ()
    locked_out: bool = False


class _Renewed(NamedTuple):
    plan: RotationPlan
    resealed: remote_rotate.Resealed
    requests: list[Request]


def rotate(
    project: Project,
    plan: Callable[[Roster, Vault], RotationPlan],
    *,
    all_history: bool = False,
    lock_out: bool = False,
    leaver: str = "",
) -> Rotation:
    """Begin new epochs and re-encrypt.

    Args:
        project: The project.
        plan: Plans the rotation from the remote's newest roster and keys.
        all_history: See `remote_rotate.reseal`.
        lock_out: Whether the user may leave.
        leaver: The member whose keys are removed; members may remove their own.
    """
    remote = fetch_team(project, leaver=leaver)

    def renew(seen: RootSnapshot, opened: Vault) -> tuple[RootChange, _Renewed]:
        planned = plan(seen.root.roster, opened)
        return _renew(
            project, remote, seen, opened, planned, all_history=all_history, lock_out=lock_out
        )

    planned, resealed, waiting = change_root(project, remote, renew)
    lost = [request.name for request in waiting if not _asked_again(project, remote, request)]
    return msgspec.structs.replace(
        describe(project, planned),
        objects=resealed.objects,
        size=resealed.size,
        kept=resealed.kept,
        blocked=resealed.blocked,
        finishers=_finishers(project) if resealed.blocked else (),
        left=_clean_up(project, remote, resealed.condemned),
        lost=tuple(lost),
        done=True,
    )


def _asked_again(project: Project, remote: Remote, request: Request) -> bool:
    """Put a request into the new mailbox; return whether that was possible."""
    try:
        requests.again(remote.driver, project.header, request)
    except (errors.AccessError, errors.Unavailable):
        return False
    return True


def _clean_up(project: Project, remote: Remote, condemned: Condemned) -> int:
    """Delete what the rotation has replaced; return how many files may be left."""
    left = delete(remote, condemned.keys)
    if condemned.left and not left:
        try:
            rest = remote_gc.plan(remote, grace=timedelta(0), progress=project.progress)
            remote_gc.apply(remote, rest, progress=project.progress)
        except errors.DorkyError:
            # The keys are new all the same.
            return condemned.left
    return left + condemned.left if left else 0


def describe(project: Project, plan: RotationPlan) -> Rotation:
    """Return what is reported of a rotation, as far as the plan tells."""
    known = project.roster
    return Rotation(
        groups=tuple(sorted(roster.name_of(known, group) for group in plan.groups)),
        removed=plan.removed,
        key=plan.key,
        exposed=plan.exposed,
        fingerprint=project.vault.fingerprint,
        skipped=tuple(
            group.name for group in roster.living(known) if group.id not in project.vault.groups
        ),
        unused=_unused(known),
        locked_out=plan.locked_out,
    )


def _finishers(project: Project) -> tuple[str, ...]:
    """Return the administrators who are in every group that the user is not in."""
    closed = {epoch.group for epoch in project.header.epochs} - project.vault.groups
    return tuple(
        member.name
        for member in project.roster.members
        if member.role == "admin" and closed <= {*member.groups}
    )


def _renew(
    project: Project,
    remote: Remote,
    seen: RootSnapshot,
    opened: Vault,
    plan: RotationPlan,
    *,
    all_history: bool,
    lock_out: bool,
) -> tuple[RootChange, _Renewed]:
    """Make the new keys, and upload what is re-encrypted with them."""
    header, opened = _begin_epochs(seen.header, opened, plan)
    heirs = set(roster.recipients(plan.roster, ALL))
    locked = tuple(secret for secret in header.locked if secret.recipient in heirs)
    # The member who leaves knows the old mailbox's secret key.
    mailbox = age.generate()
    header = msgspec.structs.replace(header, locked=locked, mailbox=mailbox.public)
    waiting: list[Request] = []
    with contextlib.suppress(errors.AccessError):
        waiting = requests.read(project, remote)
    # A root that has no room is refused before anything is sent.
    following = roots.successor(seen.root, roster=plan.roster, mailbox=mailbox.secret)
    roots.encode(header, following, opened, remote.signer())
    resealed = remote_rotate.reseal(
        remote, seen, opened, plan.groups, all_history=all_history, progress=project.progress
    )
    if lock_out and project.publics.isdisjoint(heirs):
        # The user leaves: the new keys are used once more, for the swap.
        project.keyring.adopt(header, opened)
    changes = {**resealed.changes, "roster": plan.roster, "mailbox": mailbox.secret}
    return RootChange(header, changes, resealed.sent), _Renewed(plan, resealed, waiting)


def _begin_epochs(header: Header, opened: Vault, plan: RotationPlan) -> tuple[Header, Vault]:
    """Begin an epoch in each group of a plan.

    Raises:
        UsageError: A group would have no members left.
    """
    for group in sorted(plan.groups):
        heirs = roster.recipients(plan.roster, group)
        if not heirs:
            raise errors.EmptyGroup(roster.name_of(plan.roster, group))
        header, opened = vault.begin_epoch(header, opened, group, heirs)
    return header, opened


def _unused(known: Roster) -> tuple[Unused, ...]:
    """Return the keys of members that nothing is encrypted to."""
    problems = roster.unused(known)
    return tuple(
        Unused(
            member=member.name,
            fingerprint=identities.describe(key, problem=problems[key]).fingerprint,
            problem=problems[key],
        )
        for member in known.members
        for key in member.recipients
        if key in problems
    )
