"""Repository: the commands. A command of the CLI is a method of the same name.

Methods take plain values and return the frozen records of `dorky.results`; they never print.
Paths are as the user types them, relative to the current directory.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dorky import errors, files
from dorky.commands import doctor, fsck, team, trust
from dorky.commands import gc as garbage
from dorky.commands import repair as rebuild
from dorky.commands.inspect import StrPath
from dorky.commands.purge import PurgeWork
from dorky.config import RC, Config, check, choice
from dorky.drivers import consent, open_driver
from dorky.drivers.base import Driver, Stat
from dorky.format import model
from dorky.format.model import Member, Roster
from dorky.keys import age as keys
from dorky.keys import identities, roster, vault
from dorky.progress import SILENT, Progress
from dorky.project import FIRST, ORIGIN
from dorky.remote import gc, probe
from dorky.remote import root as roots
from dorky.remote.push import remember
from dorky.remote.root import Remote
from dorky.results import (
    Check,
    Collection,
    Destruction,
    Fscked,
    Initialized,
    Rebuilt,
    Swept,
    Transfer,
    Trust,
)
from dorky.store import history
from dorky.store.history import MAIN

_CHOSEN = ("endpoint", "profile")
_UNFINISHED = "unfinished"
"""The single value that names the command which is making the project."""


class Repository(PurgeWork):
    """A project's versioned files, and everything that is done with them."""

    # --- set-up ----------------------------------------------------------------------------

    @classmethod
    def init(
        cls,
        root: StrPath = ".",
        url: str = "",
        *,
        plain: bool = False,
        name: str = "",
        recovery: str = "",
        passphrase: str = "",
        options: Mapping[str, str | bool] | None = None,
        progress: Progress = SILENT,
        ask: keys.Ask = keys.nobody,
    ) -> tuple[Repository, Initialized]:
        """Start a repository in a directory, and in the remote at ``url`` if one is given.

        Args:
            root: The project's directory; made if it is missing.
            url: The remote. Nothing is left behind here if it can't be used.
            plain: Whether to leave what reaches the remote unsealed.
            name: What to call the user on the team; made of the author's name without it.
            recovery: A second way in, should the user's key be lost: ``key`` makes an age key to be
                kept on paper, ``passphrase`` takes ``passphrase``.
            passphrase: For that.
            options: What else to know of the remote: ``profile``, ``region``, ``endpoint``,
                ``single_writer``.
            progress: Is told about long operations.

        Raises:
            AlreadyARepository: The directory is a project.
            RepositoryExists: The remote holds a repository.
            SwapsIgnored: The remote ignores conditional writes.
        """
        place = Path(root).resolve()
        settings = _remote_settings(place, ORIGIN, url, options or {})
        repo = cls(place, config=Config(place, flags=settings), progress=progress, ask=ask)
        if plain and (name or recovery):
            raise errors.UsageError("a plain repository has no keys, and so no team")
        if name:
            roster.check_name(name, "member")
        identity, made = (None, False) if plain else identities.own(repo.config)
        members = []
        if identity:
            own = name or roster.suggest_name(repo.author)
            members.append(Member(own, (identity.public,)))
        second = team.recovery(recovery, passphrase) if recovery else None
        if second:
            members.append(Member("recovery", second.recipients))
        header, opened = vault.create(
            [key for each in members for key in each.recipients],
            (second.locked,) if second and second.locked else (),
        )
        with repo._beginning("init"):
            with repo.database.transaction():
                repo.database.set("header", model.encode(header))
                repo.database.set("roster", model.encode(Roster(tuple(members))))
            first = roots.encode(*repo._first_root(), opened)
            files.write_atomic(repo.state / FIRST, first)
            repo.write_rc(opened, settings)
            repo._allow_typed(ORIGIN, settings)
            repo.settle()
            url = repo.config.text(f"remotes.{ORIGIN}.url")
            if url:
                repo._found(repo.remote())
        return repo, Initialized(
            root=str(place),
            repository=header.repository,
            url=repo.remote().url if url else "",
            sealed=not plain,
            public_key=identity.public if identity else "",
            identity="" if plain or repo.config.identity_text else str(repo.config.identity_path),
            new_identity=made,
            member=members[0].name if members else "",
            recovery=second.secret if second else "",
        )

    @classmethod
    def clone(
        cls,
        url: str,
        root: StrPath,
        *,
        options: Mapping[str, str | bool] | None = None,
        accept_rewind: bool = False,
        plain: bool = False,
        fingerprint: str = "",
        progress: Progress = SILENT,
        ask: keys.Ask = keys.nobody,
    ) -> tuple[Repository, Transfer]:
        """Make a directory that holds the newest state of the repository at ``url``.

        Whether the remote honours conditional writes is found out before the first push, so that
        those who may only read can clone.

        Args:
            url: Where the remote is.
            root: The directory; made if it is missing.
            options: What else to know of the remote (see `init`).
            accept_rewind: Whether to take a state that is older than one seen on this machine.
            plain: Whether the repository may be unencrypted.
            fingerprint: The one that it must have, as `.dorkyrc` has it.
            progress: Is told about long operations.
            ask: Asks the user for a passphrase.

        Raises:
            NoRepositoryAtURL: There is none.
            Rewound: It is older than what this user has seen of it on this machine.
            Conflict: The directory is not empty.
            Unencrypted: It is not encrypted, and ``plain`` was not given.
            WrongKey: It has another fingerprint.
        """
        place = Path(root).resolve()
        settings = _remote_settings(place, ORIGIN, url, options or {})
        flags = {**settings, **_expected(plain=plain, fingerprint=fingerprint)}
        repo = cls(place, config=Config(place, flags=flags), progress=progress, ask=ask)
        empty = not place.exists() or (
            # A clone that was killed before anything else has left that much.
            place.is_dir() and all(each == repo.base for each in place.iterdir())
        )
        if not empty and not repo._was_killed("clone"):
            raise errors.Conflict(f"{place} exists and is not empty")
        with _following_by(url), repo._beginning("clone"):
            result = repo.pull(accept_rewind=accept_rewind)
            repo.write_rc(repo.vault, settings)
            repo._allow_typed(ORIGIN, settings)
            repo.settle()
        return repo, result

    @contextlib.contextmanager
    def _beginning(self, command: str) -> Iterator[None]:
        """Make a project where there is none, alone; if that fails, nothing of it is left.

        A clone that was killed is gone on with, an init is begun anew.

        Raises:
            AlreadyARepository: There is one, or another command was faster.
        """
        made = not self.root.exists()
        self.check_ownership()
        with files.disk_errors(self.root):
            # Not for everyone to write to, whatever the umask.
            self.root.mkdir(mode=0o775, parents=True, exist_ok=True)
        self.make_state()
        with self.locking():
            killed = self._was_killed(command)
            resumed = killed and command == "clone"
            if killed and not resumed:
                self._take_back()
            elif not resumed and (self.is_set_up or self.has_packs or (self.root / RC).exists()):
                raise errors.AlreadyARepository(self.root)
            try:
                self.set_up()
                if self.spare:  # the user has just named the place
                    from dorky.store import spare

                    spare.forget(self.spare)
                self.database.set(_UNFINISHED, command.encode())
                yield
                self.database.set(_UNFINISHED, b"")
            except BaseException:
                if resumed:  # its files may have been edited since
                    raise
                with contextlib.suppress(errors.DorkyError, OSError):
                    self._remove_checked_out()
                self.tear_down()
                (self.root / RC).unlink(missing_ok=True)
                if made:
                    with contextlib.suppress(OSError):
                        self.root.rmdir()
                raise

    def _was_killed(self, command: str) -> bool:
        """Whether an earlier ``init`` or ``clone`` was killed before this project was complete."""
        if not self.is_set_up:
            return False
        begun = self.database.get("header") or (self.root / RC).exists()
        return self.database.text(_UNFINISHED) == command or not begun

    def _take_back(self) -> None:
        """Remove what an init that was killed has left, here and in the remote.

        Raises:
            AlreadyARepository: It is in use by now.
        """
        if self.database.refs() or self.index.rows():
            raise errors.AlreadyARepository(self.root)
        if ORIGIN in self.config.remotes() and self.database.get("header"):
            driver = self.driver()
            with contextlib.suppress(errors.KeyNotFound):
                blob = driver.get(roots.KEY)
                assert blob is not None
                header, _ = roots.read_header(blob.data, driver.url)
                # Nobody but its maker has seen it: where it is was to be told by `.dorkyrc`.
                if header.repository == self.header.repository:
                    driver.delete([roots.KEY])
        self.tear_down()
        (self.root / RC).unlink(missing_ok=True)

    def _remove_checked_out(self) -> None:
        """Delete the files that a clone has put in place before it failed."""
        if self.is_set_up:
            for path in self._committed(self.database.ref(f"{ORIGIN}/{MAIN}")):
                self.worktree.remove(path)

    def _found(self, remote: Remote) -> None:
        """Write the first root of a repository."""
        try:
            remote.driver.get(roots.KEY)
        except errors.KeyNotFound:
            pass
        else:
            raise errors.RepositoryExists(remote.url)
        self.check_swaps(remote)
        try:
            won = remote.swap(*self._first_root())
        except (errors.PreconditionFailed, errors.WrongRepository):
            raise errors.RepositoryExists(remote.url) from None
        remember(remote, won, ())

    def remote_add(self, name: str, url: str, options: Mapping[str, str | bool]) -> None:
        """Name a remote in `.dorkyrc`.

        Raises:
            RemoteExists: The name is taken.
        """
        if name in self.config.remotes():
            raise errors.RemoteExists(name)
        settings = self._set_remote(name, url, options)
        self._allow_typed(name, settings)

    def remote_set_url(self, name: str, url: str) -> None:
        """Point a remote elsewhere."""
        self.config.url(name)
        with self.naming(name):
            self._set_remote(name, url, {})

    @contextlib.contextmanager
    def naming(self, name: str) -> Iterator[None]:
        """While the user changes what `.dorkyrc` says of a remote: that is allowed and meant.

        But not what else stands there, if the user had not allowed that before.
        """
        if name in self.config.remotes():
            strange = consent.is_missing(self.config, name)
        else:
            strange = any(self.config.text(f"remotes.{name}.{each}") for each in _CHOSEN)
        yield
        if not strange:
            consent.allow_typed(self.config, self.config.chosen(name))
        if self.is_set_up:
            self.settle(name)

    def remote_remove(self, name: str) -> None:
        """Forget a remote. What it holds stays."""
        self.config.url(name)
        for value in self.config.items():
            if value.key.startswith(f"remotes.{name}."):
                self.config.unset(value.key, scope="project")
        self.database.forget_remote(name)
        self.database.set(f"named.{name}", b"")

    def _allow_typed(self, name: str, settings: Mapping[str, str | bool]) -> None:
        """Note that the user has chosen a remote's profile and server."""
        url = str(settings.get(f"remotes.{name}.url", ""))
        typed = {each: str(settings.get(f"remotes.{name}.{each}", "")) for each in _CHOSEN}
        consent.allow_typed(self.config, choice(url, **typed))

    def _set_remote(
        self, name: str, url: str, options: Mapping[str, str | bool]
    ) -> dict[str, str | bool]:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise errors.UsageError(f"a remote can't be named {name!r}")
        settings = _remote_settings(self.root, name, url, options)
        for key, value in settings.items():
            self.config.set(key, value, scope="project")
        if self.is_set_up:
            self.settle(name)
        return settings

    @classmethod
    def download_from(
        cls,
        url: str,
        revision: str,
        path: str,
        destination: StrPath,
        *,
        force: bool = False,
        options: Mapping[str, str | bool] | None = None,
        plain: bool = False,
        progress: Progress = SILENT,
        ask: keys.Ask = keys.nobody,
    ) -> Path:
        """`download` without a project: everything but the file is forgotten afterwards."""
        with tempfile.TemporaryDirectory(prefix="dorky-") as scratch:
            place = Path(scratch).resolve()
            flags = _remote_settings(place, ORIGIN, url, options or {})
            flags |= _expected(plain=plain)
            config = Config(place, flags=flags)
            with cls(place, config=config, progress=progress, ask=ask) as repo:
                # Nobody comes back to this state: it takes no key, and no home to keep one in.
                repo.set_up(key=os.urandom(32))
                with _following_by(url):
                    head = repo._learn().new
                if head:
                    repo.database.set_ref(MAIN, head)
                return repo.download(revision, path, destination, force=force)

    def plan_trust(self, name: str = "") -> Trust:
        """See `trust.plan`."""
        return trust.plan(self, name)

    def trust(self, plan: Trust) -> Trust:
        """Take over the state that `plan_trust` has looked at."""
        return trust.apply(self, plan)

    def doctor(self) -> list[Check]:
        """Look for what is wrong, or soon will be."""
        return list(doctor.examine(self))

    def fsck(
        self,
        *,
        remote: bool = False,
        read_data: tuple[int, int] | None = None,
        keyless: bool = False,
    ) -> Fscked:
        """Look for what is damaged or lost (see `fsck.examine`)."""
        return fsck.examine(self, remote=remote, read_data=read_data, keyless=keyless)

    def fsck_rebuild(self) -> Rebuilt:
        """Make the local database again (see `rebuild.rebuild`)."""
        return rebuild.rebuild(self)

    def gc(
        self,
        *,
        grace: timedelta | None = None,
        prune_remote_verified: bool = False,
        dry_run: bool = False,
    ) -> Swept:
        """Delete what nothing here needs any more.

        Args:
            grace: How old a pack must be for what is not needed to go; two weeks by default.
            prune_remote_verified: Whether content goes, too, that the remote provably has.
            dry_run: Whether to say only what would go.

        Raises:
            MissingObject: Something is missing, so what is needed can't be told.
        """
        with self.locked():
            plan = garbage.plan(self, grace=grace, prune=prune_remote_verified)
            return plan.swept if dry_run else garbage.apply(self, plan)

    def gc_remote(self, *, grace: timedelta | None = None, dry_run: bool = False) -> Collection:
        """Delete what nobody needs any more from the remote, and pack anew what is scattered.

        Args:
            grace: How old packs that no root lists must be to go; a week by default.
            dry_run: Whether to say only what would go.

        Raises:
            AccessDenied: Deleting is not allowed.
        """
        with self.locked():
            remote = self.remote()
            age = gc.GRACE if grace is None else grace
            plan = gc.plan(remote, grace=age, progress=self.progress)
            if dry_run:
                return plan.collection
            self.check_swaps(remote)
            return gc.apply(remote, plan, progress=self.progress)

    # --- the end ---------------------------------------------------------------------------

    def plan_destroy(self, *, remote: bool = False) -> Destruction:
        """Find out what `destroy` would delete.

        Args:
            remote: Whether to delete the repository in the remote, too.

        Raises:
            WrongRepository: The remote holds another repository.
        """
        upstream = self.database.ref(f"{ORIGIN}/{MAIN}")
        unpushed, _ = history.ahead_behind(self.store, self.database.ref(MAIN), upstream)
        if not remote:
            return Destruction(root=str(self.root), unpushed=unpushed)
        there = self.remote()
        self._check_own(there)
        found = list(_ours(there.driver))
        return Destruction(
            root=str(self.root),
            url=there.url,
            keys=len(found),
            size=sum(each.size for each in found),
            unpushed=unpushed,
        )

    def _check_own(self, remote: Remote) -> None:
        try:
            blob = remote.driver.get(roots.KEY)
        except errors.KeyNotFound:
            return  # what is left of a destruction that was interrupted
        assert blob is not None
        header, _ = roots.read_header(blob.data, remote.url)
        own = self.header.repository
        if header.repository != own:
            raise errors.WrongRepository(remote.url, header.repository[:12], own[:12])

    def destroy(self, plan: Destruction) -> None:
        """Carry out what `plan_destroy` planned. The project's files stay."""
        with self.locked():
            if plan.url:
                there = self.remote()
                if there.url != plan.url:
                    raise errors.Conflict("the remote is not the one that was planned for")
                self._check_own(there)
                driver = there.driver
                # Without a root nobody begins to read what is about to go.
                driver.delete([roots.KEY])
                driver.delete(each.key for each in _ours(driver))
            self.tear_down()
            if self.spare:
                from dorky.store import spare

                spare.forget(self.spare)
            with files.disk_errors(self.root):
                (self.root / RC).unlink(missing_ok=True)


def _remote_settings(
    root: Path, name: str, url: str, options: Mapping[str, str | bool]
) -> dict[str, str | bool]:
    """What `.dorkyrc` in ``root`` shall say of a remote, by key.

    Raises:
        BadURL: No driver can make anything of ``url``.
    """
    if not url:
        return {}
    place = urlsplit(open_driver(url, {}).url)
    if place.scheme == "file" and Path(unquote(place.path)).resolve().is_relative_to(root):
        raise errors.BadURL(url, "a remote inside the project would be staged with it")
    if "://" not in url and not url.startswith(("/", "~")):
        # `.dorkyrc` is shared: a relative directory counts from where it lies.
        url = os.path.relpath(Path.cwd() / url, root)
    settings = {"url": url, **options}
    for key, value in settings.items():
        check(f"remotes.{name}.{key}", value)
    return {f"remotes.{name}.{key}": value for key, value in settings.items() if value}


def _ours(driver: Driver) -> Iterator[Stat]:
    """What dorky has written into a remote; without a prefix, a bucket may hold much else."""
    yield from (each for each in driver.list(roots.KEY) if each.key == roots.KEY)
    for prefix in (roots.PACKS, probe.PREFIX, team.JOIN):
        yield from driver.list(prefix)


@contextlib.contextmanager
def _following_by(url: str) -> Iterator[None]:
    """Name the command that follows a rewound remote where there is no project to pull in."""
    try:
        yield
    except errors.Rewound as error:
        hint = f"ask who restored it; to follow: dorky clone --accept-rewind {shlex.quote(url)}"
        raise errors.Rewound(*error.args, hint=hint) from error


def _expected(*, plain: bool, fingerprint: str = "") -> dict[str, str | bool]:
    """What a repository that is seen for the first time shall be, by setting.

    Raises:
        UsageError: A fingerprint is not written so.
    """
    if fingerprint and not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
        raise errors.UsageError(
            f"a fingerprint has 64 hex digits, unlike {fingerprint!a}",
            hint="a member sees it by: dorky config get repository.fingerprint",
        )
    found: dict[str, str | bool] = {}
    if plain:
        found["repository.unencrypted"] = True
    if fingerprint:
        found["repository.fingerprint"] = fingerprint
    return found
