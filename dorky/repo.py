"""Repository: the commands. A command of the CLI is a method of the same name.

Methods take plain values and return the frozen records of `dorky.results`; they never print.
Paths are as the user types them, relative to the current directory.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dorky import checkout, errors, files, history, keys, merge, model, staging, vault
from dorky.config import RC, Config
from dorky.drivers import open_driver
from dorky.history import MAIN
from dorky.local import LocalWork, StrPath
from dorky.model import ObjectId
from dorky.progress import SILENT, Progress
from dorky.project import ORIGIN
from dorky.remote import probe
from dorky.remote import root as roots
from dorky.remote.fetch import fetch
from dorky.remote.push import push
from dorky.remote.root import Remote
from dorky.results import Destruction, Initialized, Transfer


class Repository(LocalWork):
    """A project's versioned files, and everything that is done with them."""

    # --- set-up ----------------------------------------------------------------------------

    @classmethod
    def find(cls, start: StrPath = ".", *, progress: Progress = SILENT) -> Repository:
        """The repository that ``start`` lies in.

        Raises:
            NotARepository: There is none.
        """
        root = cls.root_above(Path(start))
        if root is None:
            raise errors.NotARepository(Path(start).resolve())
        return cls(root, progress=progress)

    @classmethod
    def init(
        cls,
        root: StrPath = ".",
        url: str = "",
        *,
        plain: bool = False,
        options: Mapping[str, str | bool] | None = None,
        progress: Progress = SILENT,
    ) -> tuple[Repository, Initialized]:
        """Start a repository in a directory, and in the remote at ``url`` if one is given.

        Args:
            root: The project's directory; made if it is missing.
            url: The remote. Nothing is left behind here if it can't be used.
            plain: Whether to leave what reaches the remote unsealed.
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
        repo = cls(place, config=Config(place, flags=settings), progress=progress)
        identity, made = (None, False) if plain else repo._own_identity()
        header, opened = vault.create([identity.public] if identity else [])
        with repo._beginning():
            repo.set_up()
            repo.database.set("header", model.encode(header))
            repo.write_rc(opened, settings)
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
        )

    @classmethod
    def clone(
        cls,
        url: str,
        root: StrPath,
        *,
        options: Mapping[str, str | bool] | None = None,
        progress: Progress = SILENT,
    ) -> tuple[Repository, Transfer]:
        """Make a directory that holds the newest state of the repository at ``url``.

        Whether the remote honours conditional writes is found out before the first push, so that
        those who may only read can clone.

        Raises:
            NoRepositoryAtURL: There is none.
            Conflict: The directory is not empty.
        """
        place = Path(root).resolve()
        settings = _remote_settings(place, ORIGIN, url, options or {})
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise errors.Conflict(f"{place} exists and is not empty")
        repo = cls(place, config=Config(place, flags=settings), progress=progress)
        with repo._beginning():
            repo.set_up()
            result = repo.pull()
            repo.write_rc(repo.vault, settings)
        return repo, result

    @contextlib.contextmanager
    def _beginning(self) -> Iterator[None]:
        """Make a project where there is none, alone; if that fails, nothing of it is left.

        Raises:
            AlreadyARepository: There is one, or another command was faster.
        """
        made = not self.root.exists()
        with files.disk_errors(self.root):
            self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.locking():
            if self.is_set_up or (self.root / RC).exists():
                raise errors.AlreadyARepository(self.root)
            try:
                yield
            except BaseException:
                with contextlib.suppress(errors.DorkyError, OSError):
                    self._remove_checked_out()
                self.tear_down()
                (self.root / RC).unlink(missing_ok=True)
                if made:
                    with contextlib.suppress(OSError):
                        self.root.rmdir()
                raise

    def _remove_checked_out(self) -> None:
        """Delete the files that a clone has put in place before it failed."""
        if self.is_set_up:
            for path in self._committed(self.database.ref(f"{ORIGIN}/{MAIN}")):
                self.worktree.remove(path)

    def _own_identity(self) -> tuple[keys.Identity, bool]:
        """The user's identity, made if there is none; and whether it was made."""
        try:
            return self.identities()[0], False
        except errors.IdentityMissing:
            identity = keys.generate()
            try:
                keys.save(identity, self.config.identity_path)
            except errors.DiskError:
                if not self.config.identity_path.exists():
                    raise
                return self.identities()[0], False  # another command has just made it
            return identity, True

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
            won = remote.swap(self.header, roots.successor(None))
        except (errors.PreconditionFailed, errors.WrongRepository):
            raise errors.RepositoryExists(remote.url) from None
        if won:
            with remote.remembering(*won):
                pass

    def remote_add(self, name: str, url: str, options: Mapping[str, str | bool]) -> None:
        """Name a remote in `.dorkyrc`.

        Raises:
            RemoteExists: The name is taken.
        """
        if name in self.config.remotes():
            raise errors.RemoteExists(name)
        self._set_remote(name, url, options)

    def remote_set_url(self, name: str, url: str) -> None:
        """Point a remote elsewhere."""
        self.config.url(name)
        self._set_remote(name, url, {})

    def remote_remove(self, name: str) -> None:
        """Forget a remote. What it holds stays."""
        self.config.url(name)
        for value in self.config.items():
            if value.key.startswith(f"remotes.{name}."):
                self.config.unset(value.key, scope="project")
        self.database.forget_remote(name)

    def _set_remote(self, name: str, url: str, options: Mapping[str, str | bool]) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise errors.UsageError(f"a remote can't be named {name!r}")
        for key, value in _remote_settings(self.root, name, url, options).items():
            self.config.set(key, value, scope="project")

    # --- sync ------------------------------------------------------------------------------

    def push(self) -> Transfer:
        """Send the commits that the remote lacks, and make its ``main`` ours.

        Raises:
            NoCommits: There is nothing to push.
            Rejected: The remote has commits that are not here.
            SwapsIgnored: The remote can't be written to safely.
        """
        with self.locked():
            head = self.database.ref(MAIN)
            if head is None:
                raise errors.NoCommits
            remote = self.remote()
            if self.database.ref(f"{ORIGIN}/{MAIN}") != head:
                self.check_swaps(remote)
            done = push(remote, self.header, head, self.progress)
            commits, _ = history.ahead_behind(self.store, head, done.old)
            return Transfer(
                remote=ORIGIN,
                url=remote.url,
                old=done.old,
                new=done.new,
                commits=commits,
                objects=done.objects,
                size=done.size,
                founded=done.founded,
            )

    def fetch(self) -> Transfer:
        """Learn what the remote has, without changing any file."""
        with self._prepared():
            remote = self.remote()
            old = self.database.ref(f"{ORIGIN}/{MAIN}")
            fetch(remote, self.progress)
            new = self.database.ref(f"{ORIGIN}/{MAIN}")
            commits, _ = history.ahead_behind(self.store, new, old)
            return Transfer(remote=ORIGIN, url=remote.url, old=old, new=new, commits=commits)

    def pull(self, paths: StrPath | Iterable[StrPath] = (), *, force: bool = False) -> Transfer:
        """Fetch, and make the files here follow.

        Commits on both sides are merged if they changed different files.

        Args:
            paths: If given, new files appear on disk only if they are (or lie below, or match)
                one of these; the others stay away until they are pulled.
            force: Whether to overwrite local changes, after keeping them as a backup commit.

        Raises:
            LocalChanges: Files that would be overwritten.
            Diverged: Both sides changed the same file.
            Detached: An old revision is checked out.
        """
        with self._prepared():
            ours = self._attached_head()
            remote = self.remote()
            fetch(remote, self.progress)
            theirs = self.database.ref(f"{ORIGIN}/{MAIN}")
            target = self._target(ours, theirs)
            wanted = self._wanted(paths, target)
            rows, made = self._plan(ours, target, wanted)
            backup, done = self._carry_out(rows, made, force=force)
            clean = not rows or self.index.commit == ours
            with self.database.transaction():
                done.record(self.index)
                if target is not None:
                    self.database.set_ref(MAIN, target)
                    if clean:
                        self.index.commit = target
            commits, _ = history.ahead_behind(self.store, target, ours)
            return Transfer(
                remote=ORIGIN,
                url=remote.url,
                old=ours,
                new=target,
                commits=commits,
                changes=made.changes(rows),
                backup=backup,
                merged=target not in {ours, theirs},
            )

    @contextlib.contextmanager
    def _prepared(self) -> Iterator[None]:
        """A project that is set up, and locked; what was made for a first pull goes if it fails."""
        fresh = not self.is_set_up
        if fresh:
            self.config.url(ORIGIN)
            self.set_up()
        with self.locked():
            try:
                yield
            except BaseException:
                if fresh and self.database.root(ORIGIN) is None:
                    self.tear_down()
                raise

    def _target(self, ours: ObjectId | None, theirs: ObjectId | None) -> ObjectId | None:
        """Where ``main`` goes: to the side that has both, or to a merge of the two."""
        if theirs is None or ours == theirs:
            return ours
        if ours is None or history.is_ancestor(self.store, ours, theirs):
            return theirs
        if history.is_ancestor(self.store, theirs, ours):
            return ours
        return merge.merge(self.store, ours, theirs, label=f"{ORIGIN}/{MAIN}", author=self.author)

    def _wanted(
        self, paths: StrPath | Iterable[StrPath], target: ObjectId | None
    ) -> checkout.Wanted:
        names = self._names(paths)
        if not names:
            return lambda _: True
        chosen = set(staging.tracked(self._committed(target), names, f" in {ORIGIN}/{MAIN}"))
        return chosen.__contains__

    def download(self, revision: str, path: str, destination: StrPath, *, force: bool) -> Path:
        """Write one committed file somewhere, without touching anything else.

        Args:
            revision: Of which state; the remote is asked for what is new first.
            path: In the repository, from its root.
            destination: A file, or a directory to put it in.
            force: Whether to replace an existing file.

        Returns:
            The file that was written.
        """
        target = Path(destination)
        if target.is_dir():
            target /= path.rpartition("/")[2]
        if not force and (target.exists() or target.is_symlink()):
            raise errors.LocalChanges(target, hint="choose another name, or add --force")
        if ORIGIN in self.config.remotes():
            self.fetch()
        entry = self._lookup(revision, path)
        blocks = self.cat(revision, path)
        files.write_stream(target, entry.mode, blocks)
        return target

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
        progress: Progress = SILENT,
    ) -> Path:
        """`download` without a project: everything but the file is forgotten afterwards."""
        with tempfile.TemporaryDirectory(prefix="dorky-") as scratch:
            place = Path(scratch).resolve()
            flags = _remote_settings(place, ORIGIN, url, options or {})
            with cls(place, config=Config(place, flags=flags), progress=progress) as repo:
                repo.set_up()
                head = repo.fetch().new
                if head:
                    repo.database.set_ref(MAIN, head)
                return repo.download(revision, path, destination, force=force)

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
        found = [each for each in there.driver.list("") if _is_ours(each.key)]
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
                driver.delete(each.key for each in driver.list("") if _is_ours(each.key))
            self.tear_down()
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
    return {f"remotes.{name}.{key}": value for key, value in settings.items() if value}


def _is_ours(key: str) -> bool:
    return key == roots.KEY or key.startswith((roots.PACKS, probe.PREFIX))
