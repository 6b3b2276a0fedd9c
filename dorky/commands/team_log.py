"""The team log, for people: who has changed the team, when and how."""

from __future__ import annotations

from collections.abc import Iterator

from dorky.format.model import ALL, Member, TeamEntry
from dorky.keys import ssh, teamlog
from dorky.keys.teamlog import Team
from dorky.project import Project
from dorky.results import TeamChange
from dorky.store import history


def log(project: Project) -> list[TeamChange]:
    """Return the changes of the team, the newest first, as last fetched."""
    team, found = Team(), []
    for entry_id, entry in [*history.entries(project.store, project.team.id)][::-1]:
        after = teamlog.extend(team, entry, entry_id, project.header.repository)
        found.append(
            TeamChange(
                n=entry.n,
                id=entry_id,
                time=entry.time,
                by=(team if team.n else after).names.get(entry.signer, ""),
                key=ssh.fingerprint(entry.signer),
                changes=tuple(_changes(team, after, entry)),
            )
        )
        team = after
    return found[::-1]


def _changes(before: Team, after: Team, entry: TeamEntry) -> Iterator[str]:
    """Yield what an entry has changed, for people."""
    for member in entry.members:
        yield from _changes_of(before.members.get(member.name), member, after)
    for name in entry.left:
        yield f"removed {name}"
    for group in entry.groups:
        if group.id not in before.groups:
            yield f"began the group {group.name}"
        elif not group.patterns:
            yield f"ended the group {group.name}"
        else:
            yield f"changed the patterns of {group.name}"
    for epoch in entry.epochs:
        name = ALL if epoch.group == ALL else after.groups[epoch.group].name
        yield f"made a new key for {name}"
    for purge in entry.purges:
        yield f"purged the history before {purge.new[:10]}"


def _changes_of(old: Member | None, new: Member, after: Team) -> Iterator[str]:
    """Yield what has changed of one member."""
    if old is None:
        yield f"added {new.name} ({new.role})"
        return
    if old.role != new.role:
        yield f"made {new.name} {_an(new.role)}"
    added = len(set(new.recipients) - set(old.recipients))
    gone = len(set(old.recipients) - set(new.recipients))
    if added or gone:
        yield f"changed the keys of {new.name} (+{added} -{gone})"
    for changed in sorted(set(new.groups) ^ set(old.groups)):
        what = "let {} into {}" if changed in new.groups else "took {} out of {}"
        yield what.format(new.name, after.groups[changed].name)


def _an(role: str) -> str:
    return f"an {role}" if role == "admin" else f"a {role}"
