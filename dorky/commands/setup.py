"""Setup: start and clone projects, name remotes, and download one file without a project."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from dorky import errors, files, temporary
from dorky.commands.access import recovery as second_way
from dorky.commands.inspect import StrPath, committed_entries
from dorky.commands.remote_files import download
from dorky.commands.sync import pull
from dorky.commands.upstream import first_root
from dorky.config import RC, Config, check, choice, read
from dorky.drivers import consent, open_driver
from dorky.drivers.base import check_writable
from dorky.format import model
from dorky.format.model import Header, Locked, Member, Roster
from dorky.keys import age, identities, roster, signing, vault
from dorky.keys.teamlog import Pin
from dorky.keys.vault import Vault
from dorky.progress import SILENT, Progress
from dorky.project import FIRST, ORIGIN, Project
from dorky.remote import root as roots
from dorky.remote.push import remember
from dorky.remote.root import Remote
from dorky.results import Initialized, PullResult
from dorky.store.history import MAIN

P = TypeVar("P", bound=Project)

_CHOSEN = ("endpoint", "profile")
_UNFINISHED = "unfinished"
"""The single value that names the command that is making the project."""


def init(
    kind: type[P],
    root: StrPath = ".",
    url: str = "",
    *,
    plain: bool = False,
    name: str = "",
    recovery: str = "",
    passphrase: str = "",
    options: Mapping[str, str | bool] | None = None,
    environment: Mapping[str, str] | None = None,
    connection: Mapping[str, str] | None = None,
    progress: Progress = SILENT,
    ask: age.Ask = age.nobody,
) -> tuple[P, Initialized]:
    """Start a repository in a directory, and in the remote at ``url`` if one is given.

    Arguments, results and errors are those of `Repository.init`; ``environment`` and ``connection``
    are those of `Config`.
    """
    place = Path(root).resolve()
    settings = _remote_settings(place, ORIGIN, url, options or {}) if url else {}
    if url:
        check_writable(open_driver(url, {}))
    config = Config(place, flags=settings, environment=environment, connection=connection)
    project = kind(place, config=config, progress=progress, ask=ask)
    if plain and recovery:
        raise errors.UsageError("an unencrypted repository has no keys to recover")
    if name:
        roster.check_name(name, "member")
    founders = _founders(project, name, recovery, passphrase)
    header, opened = vault.create(
        () if plain else [key for member in founders.members for key in member.recipients],
        founders.locked,
    )
    with _beginning(project, "init"):
        _record(project, header, opened, founders.members)
        project.write_rc(opened, settings)
        _allow_typed(project, ORIGIN, settings)
        project.settle()
        url = project.config.text(f"remotes.{ORIGIN}.url")
        if url:
            _write_first_root(project, project.remote())
    return project, Initialized(
        root=str(place),
        repository=header.repository,
        url=project.remote().url if url else "",
        encrypted=not plain,
        public_key=founders.public_key,
        identity="" if project.config.identity_text else str(project.config.identity_path),
        new_identity=founders.new_identity,
        member=founders.members[0].name,
        recovery=founders.secret,
    )


class _Founders(NamedTuple):
    """The first members of a repository; none if it is unencrypted.

    Attributes:
        members: The user, and the second way in.
        public_key: The user's public key.
        new_identity: Whether the user's key was made for this repository.
        locked: The secret key of the second way in, if it is to lie in the repository.
        secret: The secret key of the second way in, if it is to be written down.
    """

    members: tuple[Member, ...]
    public_key: str
    new_identity: bool
    locked: tuple[Locked, ...] = ()
    secret: str = ""


def _founders(project: Project, name: str, recovery: str, passphrase: str) -> _Founders:
    """Return the first members, with the user's key, which is made if there is none."""
    identity, made = identities.own(project.config)
    user = signing.member(name or roster.suggest_name(project.author), identity, "admin")
    if not recovery:
        return _Founders((user,), identity.public, made)
    second = second_way(recovery, passphrase)
    heir = Member("recovery", second.recipients, (), dict(second.signers), "admin")
    return _Founders(
        (user, heir),
        identity.public,
        made,
        (second.locked,) if second.locked else (),
        second.secret,
    )


def _record(project: Project, header: Header, opened: Vault, members: tuple[Member, ...]) -> None:
    """Record the keys and members of a new repository, and its first root, locally."""
    with project.database.transaction():
        project.database.set("header", model.encode(header))
        project.database.set("roster", model.encode(Roster(members)))
        # `.dorkyrc` may still be that of an attempt that was killed, so it is not asked.
        project.keyring.adopt(header, opened)
        project.found_team()
    first = roots.encode(*first_root(project), opened, project.signer)
    files.write_atomic(project.state / FIRST, first)


def _write_first_root(project: Project, remote: Remote) -> None:
    """Write the first root of a repository.

    Raises:
        RepositoryExists: The remote holds a repository.
    """
    try:
        remote.driver.get(roots.KEY)
    except errors.KeyNotFound:
        pass
    else:
        raise errors.RepositoryExists(remote.url)
    try:
        project.check_swaps(remote)
    except (errors.SwapsIgnored, errors.SwapsUnsupported) as error:
        error.facts["starting"] = project.config.url(ORIGIN)  # there is no project to configure
        raise
    try:
        won = remote.swap(*first_root(project))
    except (errors.PreconditionFailed, errors.WrongRepository):
        raise errors.RepositoryExists(remote.url) from None
    remember(remote, won, ())


def clone(
    kind: type[P],
    url: str,
    root: StrPath,
    *,
    options: Mapping[str, str | bool] | None = None,
    accept_rewind: bool = False,
    plain: bool = False,
    fingerprint: str = "",
    team: str = "",
    progress: Progress = SILENT,
    ask: age.Ask = age.nobody,
) -> tuple[P, PullResult]:
    """Make a directory that holds the newest state of the repository at ``url``.

    Arguments, results and errors are those of `Repository.clone`.
    """
    place = Path(root).resolve()
    settings = _remote_settings(place, ORIGIN, url, options or {})
    flags = {**settings, **_expected(plain=plain, fingerprint=fingerprint, team=team)}
    project = kind(place, config=Config(place, flags=flags), progress=progress, ask=ask)
    empty = not place.exists() or (
        # A clone that was killed very early has left an empty `.dorky/`.
        place.is_dir() and all(path == project.base for path in place.iterdir())
    )
    if not empty and not _was_killed(project, "clone"):
        raise errors.ConflictError(f"{place} exists and is not empty")
    with _following_by(url), _beginning(project, "clone"):
        result = pull(project, accept_rewind=accept_rewind)
        project.write_rc(project.vault, settings)
        _allow_typed(project, ORIGIN, settings)
        project.settle()
    return project, result


@contextlib.contextmanager
def _beginning(project: Project, command: str) -> Iterator[None]:
    """Make a project where there is none, alone; delete it again if that fails.

    A clone that was killed is continued; an init that was killed is started over.

    Raises:
        AlreadyARepository: There is a project, or another command was faster.
    """
    made = _make_directories(project)
    with project.locking():
        resumed = _resume(project, command)
        try:
            _begin(project, command)
            yield
            project.database.set(_UNFINISHED, b"")
        except BaseException:
            if not resumed:  # the files of a continued clone may have been edited since
                _delete_begun(project, directory=made)
            raise


def _make_directories(project: Project) -> bool:
    """Make the project's directory and state; return whether the directory was missing."""
    missing = not project.root.exists()
    project.check_ownership()
    with files.disk_errors(project.root):
        # Not everyone may write to it, whatever the umask.
        project.root.mkdir(mode=0o775, parents=True, exist_ok=True)
    project.make_state()
    return missing


def _resume(project: Project, command: str) -> bool:
    """Delete what a killed init has left; return whether a killed clone is continued.

    Raises:
        AlreadyARepository: There is a project, or another command was faster.
    """
    if _was_killed(project, command):
        if command == "clone":
            return True
        _take_back(project)
    elif project.is_set_up or project.has_packs or (project.root / RC).exists():
        raise errors.AlreadyARepository(project.root)
    return False


def _begin(project: Project, command: str) -> None:
    """Set the project up, and record which command makes it."""
    project.set_up()
    if project.spare:  # the user has just named the place
        from dorky.store import spare

        spare.forget(project.spare)
    project.database.set(_UNFINISHED, command.encode())


def _delete_begun(project: Project, *, directory: bool) -> None:
    """Delete what a failed command has made, and its directory if ``directory``."""
    with contextlib.suppress(errors.DorkyError, OSError):
        _remove_checked_out(project)
    project.tear_down()
    (project.root / RC).unlink(missing_ok=True)
    if directory:
        with contextlib.suppress(OSError):
            project.root.rmdir()


def _was_killed(project: Project, command: str) -> bool:
    """Return whether an ``init`` or ``clone`` was killed before the project was complete."""
    if not project.is_set_up:
        return False
    begun = project.database.get("header") or (project.root / RC).exists()
    return project.database.text(_UNFINISHED) == command or not begun


def _take_back(project: Project) -> None:
    """Delete what an init that was killed has left, locally and in the remote.

    Raises:
        AlreadyARepository: The repository is already in use.
    """
    if project.database.refs() or project.index.rows():
        raise errors.AlreadyARepository(project.root)
    if ORIGIN in project.config.remotes() and project.database.get("header"):
        driver = project.driver()
        with contextlib.suppress(errors.KeyNotFound):
            blob = driver.get(roots.KEY)
            assert blob is not None
            header, _ = roots.read_header(blob.data, driver.url)
            # Only its maker has seen it: `.dorkyrc`, which names its place, was not written yet.
            if header.repository == project.header.repository:
                driver.delete([roots.KEY])
    project.tear_down()
    (project.root / RC).unlink(missing_ok=True)


def _remove_checked_out(project: Project) -> None:
    """Delete the files that a clone wrote before it failed."""
    if project.is_set_up:
        for path in committed_entries(project, project.database.ref(f"{ORIGIN}/{MAIN}")):
            project.worktree.remove(path)


def add_remote(project: Project, name: str, url: str, options: Mapping[str, str | bool]) -> None:
    """Name a remote in `.dorkyrc`.

    Arguments, results and errors are those of `Repository.remote_add`.
    """
    if name in project.config.remotes():
        raise errors.RemoteExists(name)
    known = project.is_set_up and project.database.get("header")
    if known and not (project.root / RC).exists():
        # Without the pins, a clone would believe any repository at the URL.
        project.write_rc(project.vault, {})
    settings = _set_remote(project, name, url, options)
    _allow_typed(project, name, settings)


def set_remote_url(project: Project, name: str, url: str) -> tuple[str, ...]:
    """Change a remote's URL, and take out what `.dorkyrc` says of its old place.

    Returns:
        The options that were taken out, such as ``endpoint``.
    """
    project.config.url(name)
    prefix = f"remotes.{name}."
    with naming(project, name):
        _set_remote(project, name, url, {})
        old = read(project.config.path("project"), "project")
        gone = [key for key in old if key.startswith(prefix) and key != f"{prefix}url"]
        for key in gone:
            project.config.unset(key, scope="project")
    if project.is_set_up:
        project.follow_place(name)
    return tuple(key.removeprefix(prefix) for key in gone)


@contextlib.contextmanager
def naming(project: Project, name: str) -> Iterator[None]:
    """Accept what the user changes in `.dorkyrc` about a remote: the change is allowed and meant.

    Other settings that the user had not allowed before stay disallowed.
    """
    if name in project.config.remotes():
        strange = consent.is_missing(project.config, name)
    else:
        strange = any(project.config.text(f"remotes.{name}.{option}") for option in _CHOSEN)
    yield
    if not strange:
        consent.allow_typed(project.config, project.config.chosen(name))
    if project.is_set_up:
        project.settle(name)


def remove_remote(project: Project, name: str) -> None:
    """Forget a remote. Its content stays."""
    project.config.url(name)
    for value in project.config.items():
        if value.key.startswith(f"remotes.{name}."):
            project.config.unset(value.key, scope="project")
    project.database.forget_remote(name)
    project.database.set(f"named.{name}", b"")


def _allow_typed(project: Project, name: str, settings: Mapping[str, str | bool]) -> None:
    """Record that the user has chosen a remote's profile and server."""
    url = str(settings.get(f"remotes.{name}.url", ""))
    typed = {option: str(settings.get(f"remotes.{name}.{option}", "")) for option in _CHOSEN}
    consent.allow_typed(project.config, choice(url, **typed))


def _set_remote(
    project: Project, name: str, url: str, options: Mapping[str, str | bool]
) -> dict[str, str | bool]:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise errors.UsageError(f"a remote can't be named {name!r}")
    settings = _remote_settings(project.root, name, url, options)
    for key, value in settings.items():
        project.config.set(key, value, scope="project")
    if project.is_set_up:
        project.settle(name)
    return settings


def download_from(
    url: str,
    revision: str,
    path: str,
    destination: StrPath,
    *,
    force: bool = False,
    options: Mapping[str, str | bool] | None = None,
    plain: bool = False,
    progress: Progress = SILENT,
    ask: age.Ask = age.nobody,
) -> Path:
    """Run `download` without a project; everything but the file is deleted afterwards."""
    flags = _remote_settings(None, ORIGIN, url, options or {}) | _expected(plain=plain)
    config = Config(None, flags=flags)
    with (
        temporary.directory() as state,
        Project(None, config=config, state=state, progress=progress, ask=ask) as project,
    ):
        project.set_up()
        with _following_by(url):
            return download(project, revision, path, destination, force=force)


def _remote_settings(
    root: Path | None, name: str, url: str, options: Mapping[str, str | bool]
) -> dict[str, str | bool]:
    """Return the settings of a remote, by key: for the `.dorkyrc` in ``root``, if it is given.

    Raises:
        BadURL: No driver understands ``url``.
    """
    place = urlsplit(open_driver(url, {}).url)
    if root is None:
        url = url if "://" in url else str(files.expanded(url).absolute())
    elif place.scheme == "file" and Path(unquote(place.path)).resolve().is_relative_to(root):
        raise errors.BadURL(url, "a remote inside the project would be staged with it")
    elif "://" not in url and not url.startswith(("/", "~")):
        # `.dorkyrc` is shared, so a relative directory is relative to it.
        url = os.path.relpath(Path.cwd() / url, root)
    settings = {"url": url, **options}
    for key, value in settings.items():
        check(f"remotes.{name}.{key}", value)
    return {f"remotes.{name}.{key}": value for key, value in settings.items() if value}


@contextlib.contextmanager
def _following_by(url: str) -> Iterator[None]:
    """Note in the error of a rewound remote that it was cloned: there is no project to pull in."""
    try:
        yield
    except errors.Rewound as error:
        error.facts["cloning"] = url
        raise


def _expected(*, plain: bool, fingerprint: str = "", team: str = "") -> dict[str, str | bool]:
    """Return the settings that a repository seen for the first time must match.

    Raises:
        BadFingerprint: ``fingerprint`` is not a fingerprint.
        BadPin: ``team`` is not the name of an entry.
    """
    if fingerprint and not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
        raise errors.BadFingerprint(ascii(fingerprint))
    found: dict[str, str | bool] = {}
    if plain:
        found["repository.unencrypted"] = True
    if fingerprint:
        found["repository.fingerprint"] = fingerprint
    if team:
        try:
            Pin.parse(team)
        except ValueError:
            raise errors.BadPin(ascii(team)) from None
        found["repository.team"] = team
    return found
