"""What is wrong with a project, or soon will be: each check with its mend."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dorky import errors, git, identities, roster
from dorky.config import RC
from dorky.model import ALL
from dorky.project import ORIGIN, Project
from dorky.remote.fetch import fetch
from dorky.remote.root import KEY
from dorky.results import Check


def examine(project: Project) -> Iterator[Check]:
    """Check one thing after the other. Asks the remote, and takes over what is new there."""
    yield _run("settings", _settings, project)
    yield _run("identity", _identity, project)
    yield _run("state", _state, project)
    yield _run("remote", _remote, project)
    if project.is_set_up:
        yield _run("key", _key, project)
        yield _run("recovery", _recovery, project)


def _run(name: str, check: Callable[[Project], Check], project: Project) -> Check:
    try:
        found = check(project)
    except errors.DorkyError as error:
        return Check(name=name, verdict="fail", about=error.message, mend=error.hint)
    return found


def _settings(project: Project) -> Check:
    files = sorted({each.source for each in project.config.items()})
    return Check(name="settings", verdict="ok", about=", ".join(files) or "none")


def _identity(project: Project) -> Check:
    if project.is_set_up and project.database.get("header") and not project.header.sealed:
        return Check(name="identity", verdict="ok", about="none needed, the repository is plain")
    found = identities.shown(project.config)
    about = ", ".join(f"{each.fingerprint} in {each.source}" for each in found)
    return Check(name="identity", verdict="ok", about=about)


def _state(project: Project) -> Check:
    if not project.is_set_up:
        return Check(name="state", verdict="warn", about="nothing pulled yet", mend="dorky pull")
    mode = project.state.stat().st_mode & 0o777
    if mode & 0o077:
        return Check(
            name="state",
            verdict="warn",
            about=f"others can look into {project.state} (mode {mode:04o})",
            mend=f"chmod 700 {project.state}",
        )
    top = git.find(project.root)
    if top and git.tracked(top, [project.state / "dorky.db"]):
        return Check(
            name="state",
            verdict="fail",
            about=f"git tracks {project.state}",
            mend="git rm -r --cached .dorky",
        )
    return Check(name="state", verdict="ok", about=str(project.state))


def _remote(project: Project) -> Check:
    if ORIGIN not in project.config.remotes():
        return Check(
            name="remote",
            verdict="warn",
            about="none: what is committed is on this machine alone",
            mend="dorky remote add origin s3://bucket/prefix",
        )
    if project.is_set_up:
        with project.locked():
            fetch(project.remote())
    else:
        project.driver().get(KEY)
    return Check(name="remote", verdict="ok", about=f"{project.driver().url} can be read")


def _key(project: Project) -> Check:
    opened = project.vault
    if not opened.sealed:
        return Check(
            name="key",
            verdict="warn",
            about="the repository is plain: who reads the bucket reads everything",
        )
    project.check_pin()
    pinned = project.config.text("repository.fingerprint")
    if pinned and pinned != opened.fingerprint:
        return Check(
            name="key",
            verdict="warn",
            about=f"{RC} names a key ({pinned[:16]}) from before the last rotation",
            mend="git pull, or: "
            f"dorky config set repository.fingerprint {opened.fingerprint}, and commit {RC}",
        )
    living = roster.living(project.roster)
    closed = [each.name for each in living if each.id not in opened.groups]
    but = f", except the files of {', '.join(closed)}" if closed else ""
    return Check(name="key", verdict="ok", about=f"yours opens {opened.fingerprint[:16]}{but}")


def _recovery(project: Project) -> Check:
    if not project.vault.sealed:
        return Check(name="recovery", verdict="ok", about="no keys that could be lost")
    count = len(roster.recipients(project.roster, ALL))
    if count < 2:
        return Check(
            name="recovery",
            verdict="warn",
            about="one key only opens this repository: lose it, and all is lost",
            mend="dorky team add recovery passphrase",
        )
    for group in roster.living(project.roster):
        if len(found := roster.recipients(project.roster, group.id)) < 2:
            only = ", ".join(each.name for each in roster.readers(project.roster, group.id))
            return Check(
                name="recovery",
                verdict="warn",
                about=f"{len(found)} key only opens the files of the group {group.name}: {only}'s",
                mend=f"dorky group members {group.name} --add NAME",
            )
    return Check(name="recovery", verdict="ok", about=f"{count} keys open this repository")
