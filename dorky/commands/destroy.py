"""Destroy: delete what a project keeps on this machine and, if asked for, in the remote."""

from __future__ import annotations

from collections.abc import Iterator

from dorky import errors, files
from dorky.commands import requests
from dorky.config import RC
from dorky.drivers.base import Driver, Stat, check_writable
from dorky.project import ORIGIN, Project
from dorky.remote import probe
from dorky.remote import root as roots
from dorky.remote.mirror import COPIED
from dorky.remote.root import Remote
from dorky.results import DestroyPlan
from dorky.store import history
from dorky.store.history import MAIN


def plan_destroy(project: Project, *, remote: bool = False) -> DestroyPlan:
    """Find out what `destroy` would delete.

    Arguments, results and errors are those of `Repository.plan_destroy`.
    """
    upstream = project.database.ref(f"{ORIGIN}/{MAIN}")
    unpushed, _ = history.ahead_behind(project.store, project.database.ref(MAIN), upstream)
    if not remote:
        return DestroyPlan(root=str(project.root), unpushed=unpushed)
    there = project.remote()
    check_writable(there.driver)
    _check_own(project, there)
    found = list(_ours(there.driver))
    return DestroyPlan(
        root=str(project.root),
        url=there.url,
        keys=len(found),
        size=sum(stat.size for stat in found),
        unpushed=unpushed,
    )


def _check_own(project: Project, remote: Remote) -> None:
    try:
        blob = remote.driver.get(roots.KEY)
    except errors.KeyNotFound:
        return  # left by a destruction that was interrupted
    assert blob is not None
    header, _ = roots.read_header(blob.data, remote.url)
    own = project.header.repository
    if header.repository != own:
        raise errors.WrongRepository(remote.url, header.repository[:12], own[:12])


def destroy(project: Project, plan: DestroyPlan) -> None:
    """Carry out what `plan_destroy` planned. The project's files stay."""
    with project.locked():
        if plan.url:
            there = project.remote()
            if there.url != plan.url:
                raise errors.ConflictError("the remote is not the one that was planned for")
            _check_own(project, there)
            driver = there.driver
            # The root goes first: without it, nobody begins to read what is about to be deleted.
            driver.delete([roots.KEY])
            driver.delete(stat.key for stat in _ours(driver))
        project.tear_down()
        if project.spare:
            from dorky.store import spare

            spare.forget(project.spare)
        with files.disk_errors(project.root):
            (project.root / RC).unlink(missing_ok=True)


def _ours(driver: Driver) -> Iterator[Stat]:
    """Yield the objects that dorky has written into a remote.

    A bucket without a prefix may hold other things, too.
    """
    for key in (roots.KEY, COPIED):
        yield from (stat for stat in driver.list(key) if stat.key == key)
    for prefix in (roots.PACKS, roots.TABLES, probe.PREFIX, requests.JOIN):
        yield from driver.list(prefix)
