"""Doctor: find what is wrong with a project, or soon will be, and say how to repair it.

A check that fails reports the failure in its own line; the other checks still run.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from dorky import config as settings
from dorky import errors, git
from dorky.config import RC, SETTINGS
from dorky.drivers.base import Driver, Inspected, check_writable
from dorky.format.model import ALL
from dorky.keys import identities, roster
from dorky.paths import shown
from dorky.project import ORIGIN, Project
from dorky.redaction import redacted
from dorky.remote import probe
from dorky.remote.fetch import fetch
from dorky.remote.root import KEY, PACKS, TABLES, noted
from dorky.results import Check, Remedy
from dorky.store import spare
from dorky.store.contents import chunks_of
from dorky.store.oplog import MERGE

_GUIDE = "see the guide on git hooks"
_PULLING = ("post-merge", "post-checkout")
_SPARE = 1 << 30
"""The number of bytes that a disk should have left."""
_SKEW = timedelta(minutes=2)
_GONE = (
    errors.Unavailable,
    errors.NotMounted,
    errors.SetupError,
    errors.AccessError,
    errors.BucketNotFound,
)
"""Errors after which further checks of the remote are pointless."""


def examine(project: Project) -> Iterator[Check]:
    """Run one check after the other.

    The checks ask the remote, and what is new in it is fetched.
    """
    yield from _owner(project)
    yield from _package()
    yield from _made("settings", _settings, project)
    yield from _made("identity", _identity, project)
    yield from _made("state", _state, project)
    set_up = _is_set_up(project)
    if set_up:
        yield from _made("database", _database, project)
        yield from _made("merge", _merge, project)
        yield from _made("file system", _file_system, project)
        yield from _made("files", _files, project)
        yield from _made("contents", _contents, project)
        yield from _made("second copy", _second_copy, project)
    yield from _made("drafts", _drafts, project)
    yield from _made("space", _space, project)
    yield from _made("git", _git, project)
    yield from _made("hooks", _hooks, project)
    reached = True
    try:
        yield _remote(project)
    except errors.ReadOnly as error:
        reached = False
        yield _unchecked("remote", error)
    except errors.DorkyError as error:
        reached = not isinstance(error, _GONE)
        yield _failed("remote", error)
    # The checks of the remote may have set the project up.
    if set_up or _is_set_up(project):
        yield from _made("key", _key, project)
        yield from _made("recovery", _recovery, project)
        yield from _made("groups", _groups, project)
        yield from _made("team", _team, project)
        named = _has_origin(project)
        if named:
            yield from _made("newest", _newest, project)
            yield from _made("known", _known, project)
        if named and reached:
            yield from _made("writing", _writing, project)
            yield from _made("clock", lambda project: clock(project.driver()), project)
            yield from bucket(project.driver())


def _is_set_up(project: Project) -> bool:
    """Return whether there is local state to look at.

    Whether the state can be trusted is the subject of a check of its own.
    """
    try:
        return project.is_set_up
    except errors.DorkyError:
        return False


def _has_origin(project: Project) -> bool:
    """Return whether the settings name a remote; a check of their own reports bad ones."""
    try:
        return ORIGIN in project.config.remotes()
    except errors.DorkyError:
        return False


def _made(name: str, check: Callable[[Project], Check], project: Project) -> Iterator[Check]:
    try:
        yield check(project)
    except errors.ReadOnly as error:
        yield _unchecked(name, error)
    except (errors.DorkyError, OSError) as error:
        yield _failed(name, error)


def _unchecked(name: str, error: errors.ReadOnly) -> Check:
    return _warn(name, f"not checked: {error.message}")


def _failed(name: str, error: errors.DorkyError | OSError) -> Check:
    if not isinstance(error, errors.DorkyError):
        return Check(name=name, verdict="fail", about=redacted(str(error)))
    return Check(
        name=name, verdict="fail", about=error.message, remedy=Remedy(error.code, error=error)
    )


def _ok(name: str, about: str) -> Check:
    return Check(name=name, verdict="ok", about=about)


def _warn(name: str, about: str, remedy: Remedy | str = "") -> Check:
    return Check(name=name, verdict="warn", about=about, remedy=remedy)


def _fail(name: str, about: str, remedy: Remedy | str) -> Check:
    return Check(name=name, verdict="fail", about=about, remedy=remedy)


# --- this machine ---------------------------------------------------------------------------


def _owner(project: Project) -> Iterator[Check]:
    """Report the exception that makes dorky trust the project.

    Without an exception the project belongs to the user.
    """
    with contextlib.suppress(OSError):  # if the directory is gone, the other checks report it
        if project.root.stat().st_uid not in project.config.owners:
            yield _warn(
                "owner",
                f"{project.root} belongs to another user, whom safe.directory trusts",
                Remedy("distrust"),
            )


def _package() -> Iterator[Check]:
    """Report a distribution called dorky, which is another project's, or ours from before."""
    from importlib.metadata import PackageNotFoundError, distribution

    with contextlib.suppress(PackageNotFoundError):
        found = distribution("dorky")
        yield _warn(
            "package",
            f"another package called dorky is installed ({found.version}, in "
            f"{found.locate_file('')}): its files and those of dorky-client replace each other",
            Remedy("other-package", (sys.executable,)),
        )


def _settings(project: Project) -> Check:
    if hidden := list(_hidden(project)):
        return _warn("settings", "; ".join(hidden), "if that is not meant: unset the one that wins")
    config = project.config
    found = {value.key: value.source for value in config.items()}
    for key in _of_origin():
        if value := config.find(key):
            found[key] = value.source
    sources: dict[str, list[str]] = {}
    for key, source in sorted(found.items()):
        sources.setdefault(source, []).append(key)
    about = "; ".join(f"{source}: {', '.join(keys)}" for source, keys in sources.items())
    return _ok("settings", about or "none")


def _of_origin() -> list[str]:
    return [key.replace("*", ORIGIN) for key in SETTINGS if key.startswith("remotes.")]


def _hidden(project: Project) -> Iterator[str]:
    """Yield the settings of the remote that one file makes and a stronger source overrides."""
    config = project.config
    for scope in ("project", "user"):
        try:
            path = config.path(scope)
        except errors.NoHome:
            continue
        values = settings.read(path, scope)
        for key in _of_origin():
            found = config.find(key)
            if key in values and found and found.value != values[key]:
                yield f"{key} in {path} is overridden by {found.source}"
    options = config.driver_options(ORIGIN)
    endpoint = config.find(f"remotes.{ORIGIN}.endpoint")
    if endpoint and options.get("endpoint") != endpoint.value:
        yield f"{endpoint.key} in {endpoint.source} is overridden by AWS_ENDPOINT_URL_S3"
    profile = config.find(f"remotes.{ORIGIN}.profile")
    if profile and "access_key_id" in options:
        yield f"{profile.key} in {profile.source} is overridden by AWS_ACCESS_KEY_ID"


def _identity(project: Project) -> Check:
    if _is_set_up(project) and project.database.get("header") and not project.header.sealed:
        return _ok("identity", "none needed, the repository is not encrypted")
    found = identities.shown(project.config)
    about = ", ".join(f"{identity.fingerprint} in {identity.source}" for identity in found)
    return _ok("identity", about)


def _state(project: Project) -> Check:
    if not project.is_set_up and project.has_packs:
        return _fail("state", "the local database is gone", Remedy("repair"))
    if not project.is_set_up:
        why = project.nothing_known()
        if not isinstance(why, errors.NotSetUp):
            raise why
        return _warn("state", "nothing pulled yet", Remedy("pull"))
    base = project.base
    # `state.find` has closed what was too open, and refused what belongs to another user.
    files_in = [Path(parent, name) for parent, _, names in os.walk(base) for name in names]
    top = git.find(project.root)
    if top and base.is_relative_to(project.root) and git.tracked(top, files_in):
        return _fail("state", f"git tracks files in {base}", "git rm -r --cached .dorky")
    return _ok("state", str(base))


def _database(project: Project) -> Check:
    connection = project.database.connection
    said = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
    if said != ["ok"]:
        raise errors.CorruptDatabase(project.database.path, "; ".join(map(str, said)))
    return _ok("database", "SQLite finds no damage")


def _merge(project: Project) -> Check:
    if project.database.get(MERGE):
        return _warn(
            "merge",
            "one was begun and not finished",
            Remedy("end-merge"),
        )
    return _ok("merge", "none under way")


def _files(project: Project) -> Check:
    """Check whether files that were private when they were committed are private on disk."""
    exposed = []
    if project.worktree.disk().no_modes:
        return _ok("files", "the file system keeps no permissions to check")
    for path, row in project.index.rows().items():
        if stat.S_ISREG(row.mode) and not row.mode & 0o077:
            found = project.worktree.stat(path)
            if found and stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
                exposed.append(path)
    if exposed:
        return _warn(
            "files",
            f"others on this machine may read {shown(exposed)}, which was committed as private",
            f"chmod go= -- {' '.join(map(shlex.quote, exposed[:20]))}",
        )
    return _ok("files", "what was committed as private is private here")


def _contents(project: Project) -> Check:
    """Report the files whose contents are not in the local store."""
    alone, total = [], 0
    for path, row in project.index.rows().items():
        if project.store.missing(chunks_of(project.store, row.content)):
            alone.append(path)
            total += row.size
    if not alone:
        return _ok("contents", "those of all files are in the local store, too")
    return _ok(
        "contents", f"those of {shown(alone)} ({_size(total)}) are only on disk and in the remote"
    )


_DISKS = {
    "no_modes": "it keeps no permission bits: recorded ones stay as they are, and its mount "
    "options, not dorky's 0600, decide who may read the files",
    "folds_case": "it takes names that differ only in case for one",
    "folds_form": "it takes names that differ only in Unicode's normal form for one",
    "decomposes": "it keeps names decomposed",
    "no_symlinks": "it has no symbolic links",
    "no_links": "it has no hard links",
}
"""What the facts of a file system mean."""


def _file_system(project: Project) -> Check:
    """Look at the file system again, and say in what it differs from most."""
    with project.locked():
        found = project.look_at_disk()._asdict()
    said = [about for fact, about in _DISKS.items() if found[fact]]
    if found["no_modes"]:
        return _warn("file system", "; ".join(said))
    return _ok("file system", "; ".join(said) or "it keeps names, permissions and links")


def _second_copy(project: Project) -> Check:
    """Check whether unpushed work is kept where git can't delete it.

    Second copies that other work trees left are reported, too.
    """
    slot = project.spare
    if slot is None:
        return _ok("second copy", "not needed: no git repository of yours holds this project")
    with project.locked():
        project.keep_spare()
        found = spare.find(slot, project.config)
    if left := spare.orphans(slot, project.config):
        about = "; ".join(
            f"{record.lost} of {record.root}, which is gone" for record in left.values()
        )
        return _warn("second copy", f"{slot.parent} keeps {about}", Remedy("repair"))
    if found is None:
        return _ok("second copy", "not needed: everything is pushed")
    return _ok("second copy", f"{found.lost}, not pushed, also lie in {slot.path}")


def _drafts(project: Project) -> Check:
    own = [] if project.base.is_symlink() else [project.base]
    places = [*own, *([project.config.memory] if project.config.memory else [])]
    left = []
    for place in places:
        with contextlib.suppress(OSError):
            found = sorted(place.glob("dorky-*"))
            left += [str(path) for path in found if path.lstat().st_uid == os.geteuid()]
    if left:
        return _warn(
            "drafts",
            f"unencrypted text that an editor was given: {shown(left)}",
            "unless one is open now: take what you need, then "
            f"rm -r {' '.join(map(shlex.quote, left[:20]))}",
        )
    return _ok("drafts", "none left by an editor")


def _space(project: Project) -> Check:
    free = shutil.disk_usage(project.root).free
    packs = project.state / "packs" if _is_set_up(project) else None
    used = sum(path.stat().st_size for path in packs.iterdir()) if packs and packs.is_dir() else 0
    about = f"{_size(free)} free, packs take {_size(used)}"
    if free < max(_SPARE, 2 * used):
        return _warn("space", f"{about}; large files may not fit", "free some space")
    if count := project.scattered if packs else 0:
        return _warn("space", f"{about}, in {count:,} files", Remedy("gc"))
    return _ok("space", about)


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"


# --- git ------------------------------------------------------------------------------------


def _git(project: Project) -> Check:
    top = git.find(project.root)
    if top is None:
        return _ok("git", "the project is not in a git repository")
    rows = project.index.rows() if _is_set_up(project) else {}
    paths = [project.root / path for path in rows]
    if both := sorted(git.tracked(top, paths)):
        names = [str(path.relative_to(project.root)) for path in both]
        return _fail(
            "git",
            f"git tracks {shown(names)}, which dorky keeps: anyone who can read the git repository "
            "can read it",
            f"git rm --cached -- {' '.join(map(shlex.quote, names[:20]))}, and renew the secrets",
        )
    if open_ := git.not_ignored(top, paths):
        names = [str(path.relative_to(project.root)) for path in open_]
        return _warn(
            "git",
            f"git does not ignore {shown(names)}: git add . would take it",
            Remedy("stage", tuple(names[:20])),
        )
    if (project.root / RC).is_file() and not git.tracked(top, [project.root / RC]):
        return _warn(
            "git",
            f"{RC} is not in git, so a git clone does not know where the remote is",
            f"git add {RC}, and commit it",
        )
    return _ok("git", f"it has {RC}, and none of what dorky keeps")


def _hooks(project: Project) -> Check:
    top = git.find(project.root)
    if top is None:
        return _ok("hooks", "the project is not in a git repository")
    found = git.hooks(top)
    texts = {name: _text(path) for name, path in found.items()}
    calling = [name for name, text in texts.items() if "dorky" in text]
    for name in calling:
        if not os.access(found[name], os.X_OK):
            remedy = f"chmod +x {shlex.quote(str(found[name]))}"
            return _warn("hooks", f"git skips {name}, which is not executable", remedy)
    if "dorky" in _text(top / ".pre-commit-config.yaml"):
        calling += [name for name, text in texts.items() if "pre-commit" in text]
        if not any(name in calling for name in _PULLING):
            return _warn(
                "hooks",
                ".pre-commit-config.yaml names dorky's hooks, but git does not call pre-commit",
                "pre-commit install --hook-type post-checkout --hook-type post-merge",
            )
    if not any(name in calling for name in _PULLING):
        return _ok("hooks", f"none pulls after git pull ({_GUIDE})")
    return _ok("hooks", f"{', '.join(sorted(set(calling)))} call dorky")


def _text(path: Path) -> str:
    """Return the part of a file's content that matters; nothing if it can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(1 << 20).decode(errors="replace")
    except OSError:
        return ""


# --- the remote -----------------------------------------------------------------------------


def _remote(project: Project) -> Check:
    if ORIGIN not in project.config.remotes():
        return _warn(
            "remote",
            "none: what is committed is on this machine alone",
            Remedy("add-remote"),
        )
    if project.is_set_up:
        with project.locked():
            fetch(project.remote())
    else:
        project.driver().get(KEY)
    return _ok("remote", f"{project.driver().url} can be read")


def _known(project: Project) -> Check:
    """Check whether a rewound remote could be told from the newest one, even without `.dorky/`."""
    remote, newest = project.remote(), noted(project.database)
    if newest is None:
        return _ok("known", "nothing has been seen of the remote yet")
    place = remote.known.directory
    floor = remote.known.floor(project.header.repository)
    if floor is None or floor.generation < newest.generation:
        why = f"{place} can't be written to" if place else "you have no home directory"
        about = f"{why}: a new clone can't tell whether the remote has been rewound"
        return _warn("known", about, "set HOME to a directory that you can write to")
    return _ok("known", f"generation {floor.generation} of {remote.url} is noted in {place}")


def _writing(project: Project) -> Check:
    """Check whether the remote can be written to and keeps concurrent writers apart."""
    try:
        with project.locked():
            remote = project.remote()
            check_writable(remote.driver)
            project.check_swaps(remote)
        # The recorded verdict may be older than a change of permissions.
        _touch(remote.driver)
    except errors.ReadOnlyRemote as error:
        return _ok("writing", f"you can pull, but not push: {error.message}")
    except errors.AccessDenied as error:
        return _warn("writing", f"you can pull, but not push: {error.message}")
    if project.config.single_writer(ORIGIN):
        return _warn(
            "writing",
            "conditional writes are not used, as this remote is set to have a single writer",
            Remedy("share", (ORIGIN,)),
        )
    return _ok("writing", "you may push, and the bucket honours conditional writes")


def _touch(driver: Driver) -> None:
    scratch = f"{probe.PREFIX}{secrets.token_hex(8)}"
    driver.put(scratch, b"")
    # A member who may write need not be allowed to delete.
    with contextlib.suppress(errors.AccessError, errors.Unavailable):
        driver.delete([scratch])


def clock(driver: Driver) -> Check:
    """Compare this machine's clock with the one of a remote."""
    before = datetime.now(timezone.utc)
    try:
        theirs = probe.clock(driver)
    except (errors.AccessDenied, errors.ReadOnlyRemote) as error:
        return _ok("clock", f"can't tell: {error.message}")
    after = datetime.now(timezone.utc)
    off = max(before - theirs, theirs - after, timedelta(0))
    if off > _SKEW:
        way = "behind" if theirs > after else "ahead of"
        return _warn(
            "clock",
            f"this machine's is {off.total_seconds() / 60:.0f} minutes {way} the remote's; commits "
            "get wrong times, and S3 refuses requests beyond 15",
            "set the clock: timedatectl set-ntp true",
        )
    return _ok("clock", "this machine's and the remote's agree")


def bucket(driver: Driver) -> Iterator[Check]:
    """Check whether a bucket keeps old versions, and leaves packs alone."""
    if isinstance(driver, Inspected):
        try:
            for finding in driver.inspect((KEY, PACKS, TABLES)):
                yield Check(**finding._asdict())
        except errors.DorkyError as error:
            about = f"can't tell how it is set up: {error.message}"
            yield Check(
                name="bucket", verdict="warn", about=about, remedy=Remedy(error.code, error=error)
            )


# --- keys -----------------------------------------------------------------------------------


def _key(project: Project) -> Check:
    opened = project.vault
    if not opened.sealed:
        return _warn(
            "key", "the repository is not encrypted: anyone who reads the bucket reads everything"
        )
    project.check_pin()
    pinned = project.config.text("repository.fingerprint")
    if pinned and pinned != opened.fingerprint:
        return _warn(
            "key",
            f"{RC} names a key ({pinned[:16]}) from before the last rotation",
            Remedy("pin", (opened.fingerprint,)),
        )
    living = roster.living(project.roster)
    closed = [group.name for group in living if group.id not in opened.groups]
    but = f", except the files of {', '.join(closed)}" if closed else ""
    return _ok("key", f"yours opens {opened.fingerprint[:16]}{but}")


def _team(project: Project) -> Check:
    team, pinned = project.team, project.config.text("repository.team")
    project.check_pin()
    if pinned != team.pin:
        what = f"pins entry {pinned.partition(':')[0]}" if pinned else "pins no entry"
        return _warn(
            "team",
            f"{RC} {what} of the team log, which has {team.n}",
            Remedy("team pin", (team.pin,)),
        )
    admins = [member.name for member in team.members.values() if member.role == "admin"]
    return _ok("team", f"administered by {', '.join(admins)}")


def _newest(project: Project) -> Check:
    """Name the newest state, for people to compare, and check when it was written."""
    seen = project.remote().before
    if seen is None:
        return _ok("newest", "nothing has been seen of the remote yet")
    root = seen.root
    by = project.team.names.get(root.signer, "somebody unknown")
    about = f"generation {root.generation} ({root.txid}) was written by {by}"
    if root.time and root.time > datetime.now(timezone.utc) + _SKEW:
        return _warn("newest", f"{about} in the future: {root.time:%Y-%m-%d %H:%M} UTC")
    return _ok("newest", about)


def _groups(project: Project) -> Check:
    from dorky.keys import placement

    for clash in placement.overlaps(project.roster):
        return _warn(
            "groups",
            f"{clash.pattern} of the group {clash.group.name} overlaps {clash.of_other} of "
            f"{clash.other.name}: files that both claim are frozen",
            Remedy("unclaim", (clash.group.name, clash.other.name)),
        )
    return _ok("groups", "no file belongs to two of them")


def _recovery(project: Project) -> Check:
    if not project.vault.sealed:
        return _ok("recovery", "no keys that could be lost")
    count = len(roster.recipients(project.roster, ALL))
    if count < 2:
        return _warn(
            "recovery",
            "one key only opens this repository: lose it, and all is lost",
            Remedy("recovery-key"),
        )
    for group in roster.living(project.roster):
        if len(found := roster.recipients(project.roster, group.id)) < 2:
            only = ", ".join(member.name for member in roster.readers(project.roster, group.id))
            return _warn(
                "recovery",
                f"{len(found)} key only opens the files of the group {group.name}: {only}'s",
                Remedy("group-member", (group.name,)),
            )
    return _ok("recovery", f"{count} keys open this repository")
