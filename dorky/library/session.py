"""A session: one repository, opened without a worktree, for all threads of a process.

Its local state (history, and what is about to be uploaded) lies in a private temporary directory.
A process that was forked opens a session of its own at the first use.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dorky import cancellation, temporary
from dorky.config import Config as Settings
from dorky.config import Plain
from dorky.drivers import open_driver
from dorky.drivers.base import Driver
from dorky.drivers.retry import Retrying
from dorky.files import expanded
from dorky.format.model import ObjectId
from dorky.library.nodes import Nodes
from dorky.library.offline import Offline
from dorky.library.records import Config, Credentials
from dorky.project import ORIGIN, Project
from dorky.remote import cold
from dorky.remote import fetch as remote_fetch
from dorky.remote.cache import NOWHERE, Cache
from dorky.remote.root import Remote
from dorky.store.history import MAIN
from dorky.store.objects import Store

_BY_VALUE = "AGE-SECRET-KEY-"
_IDENTITIES = ("DORKY_IDENTITY", "DORKY_IDENTITY_FILE", "DORKY_IDENTITY_CMD")
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def is_secret(identity: str) -> bool:
    """Return whether an identity is given by value."""
    return identity.strip().upper().startswith(_BY_VALUE)


def environment_of(config: Config, base: dict[str, str]) -> dict[str, str]:
    """Return the environment in which a client with this configuration works."""
    environment = dict(base)
    if config.identity:
        for name in _IDENTITIES:
            environment.pop(name, None)
    if is_secret(config.identity):
        environment["DORKY_IDENTITY"] = config.identity
    if config.credentials:
        environment |= dict(zip(_KEYS, _keys(config.credentials), strict=True))
    if config.ca_bundle:
        environment["AWS_CA_BUNDLE"] = config.ca_bundle
    return environment


def _keys(credentials: Credentials) -> tuple[str, str, str]:
    return (
        credentials.access_key_id,
        credentials.secret_access_key,
        credentials.session_token,
    )


def connection_of(config: Config) -> dict[str, str]:
    """Return the options of drivers that a client gives (see `drivers.base.Driver.open`)."""
    waits = config.waits
    given = {
        "connect_timeout": str(min(waits.connect, waits.total or waits.connect)),
        "read_timeout": str(min(waits.read, waits.total or waits.read)),
    }
    if waits.total:
        given["request_timeout"] = str(waits.total)
    if config.user_agent:
        given["user_agent"] = config.user_agent
    if config.ca_bundle or not config.verify:
        given["verify"] = "yes" if config.verify else "no"
    return given


def settings_of(config: Config) -> Settings:
    """Return the engine's settings for a client; the nearest `.dorkyrc` counts if it names no URL.

    Raises:
        NotARepository: Nothing names a repository.
        BadURL: The URL is malformed.
    """
    environment = environment_of(config, dict(os.environ))
    flags: dict[str, Plain] = {
        f"remotes.{ORIGIN}.{name}": str(getattr(config, name))
        for name in ("profile", "region", "endpoint")
        if getattr(config, name)
    }
    if config.identity and not is_secret(config.identity):
        flags |= {"identity": str(expanded(config.identity).absolute()), "identity_command": ""}
    fingerprint = config.fingerprint or environment.get("DORKY_FINGERPRINT", "")
    if fingerprint:
        flags["repository.fingerprint"] = fingerprint
    if config.unencrypted:
        flags["repository.unencrypted"] = True
    named = config.url or environment.get("DORKY_URL") or environment.get("DORKY_BUCKET")
    root = None if named else Project.find(Path.cwd()).root
    if config.url:
        open_driver(config.url, {})  # refuses what is no URL
        url = config.url if "://" in config.url else str(expanded(config.url).absolute())
        flags[f"remotes.{ORIGIN}.url"] = url
    return Settings(root, flags=flags, environment=environment, connection=connection_of(config))


def cache_of(config: Config, settings: Settings) -> Cache:
    """Return the cache of a client."""
    chosen = config.cache
    if chosen is None:
        directory = settings.client_cache
    elif isinstance(chosen, str) and chosen:
        directory = expanded(chosen).absolute()
    else:
        directory = settings.user_cache if chosen else None
    return Cache(directory, config.cache_max_size or settings.client_cache_max_size)


class Session:
    """A repository and its newest state, as this process has seen it.

    Any number of threads may use it. `lock` is held while the state changes.

    Args:
        config: The client's configuration.
        offline: Whether the cache alone is read, and no request is sent.
    """

    def __init__(self, config: Config, *, offline: bool = False) -> None:
        self.config = config
        self.offline = offline
        self._begin()
        _SESSIONS.add(self)

    def _begin(self) -> None:
        self.lock = threading.RLock()
        self.turn = cancellation.Turn()
        """Held by the thread that makes a commit, for itself and for all that wait."""
        self.sending = threading.Lock()
        """Held while a source's packs are sent ahead of their commit (see `outbox`)."""
        self.queue = threading.Lock()
        """Held for moments, while `waiting` or `coming` changes."""
        self.coming = 0
        """How many sources are being read for a commit."""
        self.waiting: list[Any] = []
        """The changes that wait for a commit (see `commits`)."""
        self.process = os.getpid()
        self._project: Project | None = None
        self._nodes: Nodes | None = None
        self._remote: Remote | None = None
        self._asked = self._glimpsed = float("-inf")
        self._glimpse: cold.Snapshot | None = None
        self._may_write = False
        self._space = NOWHERE
        self._closing: weakref.finalize[[], Session] | None = None

    def forked(self) -> None:
        """Forget what belongs to the parent of this process."""
        if self._closing:
            self._closing.detach()
        self._begin()

    @property
    def project(self) -> Project:
        """Return the repository, opened."""
        if self._project:  # no waiting for a thread that is just pushing
            return self._project
        with cancellation.holding(self.lock):
            if self._project is None:
                settings = settings_of(self.config)
                state = temporary.TemporaryDirectory()
                self._closing = weakref.finalize(self, state.remove)
                project = Project(None, config=settings, state=state.path)
                project.set_up()
                project.store.pack_size = self.config.part_size
                self._project = project
            return self._project

    @property
    def store(self) -> Store:
        """Return the local store: the history, and what is about to be uploaded."""
        return self.project.store

    @property
    def nodes(self) -> Nodes:
        """Return the directories in the store."""
        store, nodes = self.store, self._nodes
        if nodes is None:
            self._nodes = nodes = Nodes(store)
        return nodes

    @property
    def url(self) -> str:
        """Return the repository's URL, for messages."""
        return self.remote.url

    @property
    def remote(self) -> Remote:
        """Return the remote. Only the holder of the lock may read or write its root."""
        if self._remote:
            return self._remote
        with cancellation.holding(self.lock):
            if self._remote is None:
                self._remote = self.project.remote()
                self._remote.glimpsed = self._glimpse.seen if self._glimpse else None
                self._remote.driver = self._patient(self._remote.driver)
                self._remote.may_be_old = self.offline
                self._remote.cache = cache_of(self.config, self.project.config)
                self._remote.space = self._space
            return self._remote

    def _patient(self, driver: Driver) -> Driver:
        """Return a driver that sends requests again as the configuration says, or none at all."""
        if self.offline:
            return Offline(driver.url)
        retry = self.config.retry
        if not isinstance(driver, Retrying):
            return driver
        return Retrying(
            driver.driver,
            conditions=driver.conditions,
            tries=retry.tries,
            patience=retry.patience,
            patience_offline=retry.patience_offline,
            first_delay=retry.first_delay,
            total=self.config.waits.total,
        )

    def open(self) -> None:
        """Fetch the history, unless that was ever done.

        Raises:
            NoRepositoryAtURL: There is no repository.
        """
        if self._asked == float("-inf"):  # else nobody waits for a commit under way
            with cancellation.holding(self.lock):
                if self._asked == float("-inf"):
                    self.fetch()

    @property
    def seen(self) -> ObjectId | None:
        """Return the newest head that the caller has seen; None if there was none.

        A later one may have been fetched since only to make a commit.
        """
        self.open()
        glimpse = self._glimpse
        return glimpse.head if glimpse else self.project.database.ref(f"{ORIGIN}/{MAIN}")

    def forget_glimpse(self) -> None:
        """Count the history that was fetched as seen."""
        if self._glimpse is not None:
            with cancellation.holding(self.lock):
                if self._asked > float("-inf"):
                    self._glimpse = None

    def glimpse(self, *, force: bool = False) -> cold.Snapshot | None:
        """Return the remote's newest state, for reading single files without its history.

        Args:
            force: Whether to ask even if the configuration allows an older state.

        Returns:
            The state; None if the history was fetched, so that there is no need for it.

        Raises:
            NoRepositoryAtURL: There is no repository.
            UnencryptedRepository: It is unencrypted, and nothing says that this is meant.
        """
        arrived = time.monotonic()
        if self._asked > float("-inf"):
            return None
        with cancellation.holding(self.lock):
            if self._asked > float("-inf"):
                return None
            newest = self._glimpsed if force else self._glimpsed + self.config.max_age
            if newest < arrived:
                begun = time.monotonic()
                found = cold.opened(self.remote, self._glimpse)
                self.project.keyring.check_pin(found.seen.header)
                if found is not self._glimpse:
                    cold.remember(self.remote, found)
                self._glimpse, self._glimpsed = found, begun
            return self._glimpse

    def refresh(self, *, force: bool = False) -> ObjectId | None:
        """Return the remote's newest head; None if it has no commits.

        Threads that ask at the same time share one request.

        Args:
            force: Whether to ask even if the configuration allows an older state.

        Raises:
            NoRepositoryAtURL: There is no repository.
            UnencryptedRepository: It is unencrypted, and nothing says that this is meant.
        """
        arrived = time.monotonic()
        with cancellation.holding(self.lock):
            newest = self._asked if force else self._asked + self.config.max_age
            if newest < arrived:
                self.fetch()
            self._glimpse = None
            return self.project.database.ref(f"{ORIGIN}/{MAIN}")

    def fetch(self) -> None:
        """Fetch the history; the caller does not count as having seen it."""
        with self.lock:
            begun = time.monotonic()
            remote_fetch.fetch(self.remote)
            self.project.check_pin()
            self._asked = begun

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Note that a source is read, whose upload soon waits for a commit."""
        with self.queue:
            self.coming += 1
        try:
            yield
        finally:
            with self.queue:
                self.coming -= 1

    def check_writable(self) -> None:
        """Check, once, that the place honours conditional writes. The lock must be held."""
        if not self._may_write:
            self.project.check_swaps(self.remote)
            self.remote.driver = self._patient(self.remote.driver)
            self._may_write = True

    def reconnect(self, config: Config) -> None:
        """Use another configuration of the same repository, such as other credentials."""
        with self.lock:
            self.config = config
            if self._project is not None:
                self._project.config = settings_of(config)
                self._space = self._remote.space if self._remote else NOWHERE
                self._remote = None
                if self._glimpse:
                    self._glimpse.reader.driver = self.remote.driver

    def close(self) -> None:
        """Close everything, and delete the local state; the next use opens it again."""
        with self.lock:
            closing, project = self._closing, self._project
            lock = self.lock
            self._begin()
            self.lock = lock
        if project:
            project.close()
        if closing:
            closing()


_SESSIONS: weakref.WeakSet[Session] = weakref.WeakSet()


def _after_fork() -> None:
    # Another thread of the parent may have held a lock, which nobody in the child would release.
    for session in _SESSIONS:
        session.forked()


os.register_at_fork(after_in_child=_after_fork)
