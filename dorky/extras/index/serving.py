"""A running server: what it may listen on, and how it starts, reloads and ends."""

from __future__ import annotations

import errno
import ipaddress
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from werkzeug.middleware.proxy_fix import ProxyFix

from dorky import errors
from dorky.extras.index import auth
from dorky.extras.index.app import App, Options
from dorky.extras.index.auth import Access
from dorky.extras.index.connections import Certificate, Server
from dorky.extras.index.depot import Depot
from dorky.extras.index.operations import Log, Metrics
from dorky.extras.index.state import Newest
from dorky.extras.index.uploads import Uploads
from dorky.extras.index.upstream import Upstream

_STOPPING = 35.0
_LOOK = 1.0
_STALE = 120.0
_ROUNDS = 12


class Settings(NamedTuple):
    """The settings of a server.

    Attributes:
        host: The name or address to listen on.
        port: The port; 0: any that is free.
        tokens: The token file; None: no token is needed.
        certificate: The file of TLS's certificate; None: no TLS.
        key: The file of its key.
        proxies: The proxies in front of it, whose word on the client's address counts.
        threads: The number of requests that are answered at once.
        max_upload: The most bytes of an uploaded file.
        refresh: The seconds for which a state is shown.
        insecure: Whether to serve what others on the network could read or change.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    tokens: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    proxies: int = 0
    threads: int = 16
    max_upload: int = 2 << 30
    refresh: float = 10.0
    insecure: bool = False


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check(settings: Settings, *, write: bool) -> None:
    """Refuse to serve what others could read or change.

    Raises:
        UsageError: They could.
    """
    if bool(settings.certificate) != bool(settings.key):
        raise errors.UsageError("--tls-cert and --tls-key belong together")
    if settings.insecure:
        return
    if write and not settings.tokens:
        raise errors.UsageError(
            "--write without --token-file would let any program on this machine upload,"
            " and any page in a browser on it",
            needs="tokens",
        )
    if is_loopback(settings.host) or settings.proxies:
        return
    if not settings.certificate:
        raise errors.UsageError(
            f"{settings.host} is open to the network, and tokens could be read in it"
            " without TLS, its own or that of a proxy",
            needs="tls",
        )
    if not settings.tokens:
        raise errors.UsageError(
            f"{settings.host} is open to the network, where everybody could read the packages"
            " without --token-file",
            needs="tokens",
        )


class Service:
    """A server of packages.

    Args:
        settings: Its settings.
        state: The packages.
        depot: Where uploads go; None: nowhere.
        access: The tokens, if no file holds them.
        upstream: Where projects that are not here come from; None: nowhere.
        log: The log.

    Raises:
        UsageError: The settings would let others read or change the packages.
        BadConfig: The token file or the certificate is no good.
    """

    def __init__(
        self,
        settings: Settings,
        state: Newest,
        *,
        depot: Depot | None = None,
        access: Access | None = None,
        upstream: Upstream | None = None,
        log: Log,
    ) -> None:
        check(settings, write=depot is not None)
        self._settings = settings
        self._log = log
        self._certificate = (
            Certificate(settings.certificate, settings.key)
            if settings.certificate and settings.key
            else None
        )
        tokens = auth.load(settings.tokens) if settings.tokens else access
        # Without tokens, a page in a browser must not read packages by a name of its own.
        alone = tokens is None and is_loopback(settings.host) and not settings.proxies
        names = {"localhost", "127.0.0.1", "[::1]", settings.host} if alone else set()
        self._app = App(
            state,
            uploads=Uploads(depot, settings.max_upload) if depot else None,
            access=tokens,
            upstream=upstream,
            log=log,
            metrics=Metrics(),
            options=Options(
                hosts=frozenset(names),
                stale=max(_STALE, _ROUNDS * settings.refresh),
                # Another user of the machine must not lock out a command with its own token.
                throttled=access is None,
            ),
        )
        app: Callable[..., Any] = self._app
        if settings.proxies:
            app = ProxyFix(app, x_for=settings.proxies, x_proto=0, x_host=0, x_prefix=0)
        self._server = Server(
            *(settings.host, settings.port, app),
            threads=settings.threads,
            certificate=self._certificate,
            tell=log.error,
        )

    @property
    def url(self) -> str:
        """Return the URL of the index, once it is served."""
        scheme = "https" if self._certificate else "http"
        host = self._settings.host
        named = f"[{host}]" if ":" in host else host
        return f"{scheme}://{named}:{self._server.port}/python/simple/"

    def start(self) -> None:
        """Listen, and answer requests in threads.

        Raises:
            Unreachable: The address can't be listened on.
        """
        where = f"{self._settings.host}:{self._settings.port}"
        try:
            self._server.prepare()
        except OSError as error:
            # cheroot tells of each address that it has tried, in one text.
            found = re.findall(r"\[Errno -?\d+\] ([^)\]]+)", str(error))
            why = found[-1] if found else error.strerror or str(error)
            needs = "port" if error.errno == errno.EADDRINUSE or "in use" in why else None
            raise errors.UsageError(f"can't listen on {where}: {why}", needs=needs) from None
        threading.Thread(target=self._server.serve, name="dorky serve", daemon=True).start()
        self._log.event("started", url=self.url)

    def reload(self) -> None:
        """Read the token file and the certificate again; with a mistake in one, keep what was."""
        try:
            if self._settings.tokens:
                self._app.access = auth.load(self._settings.tokens)
            if self._certificate:
                self._certificate.reload()
        except errors.DorkyError as error:
            self._log.error(f"not reloaded: {error.message}")
            return
        self._log.event("reloaded")

    def stop(self) -> None:
        """Accept nothing more, and wait for what is under way, at most half a minute."""
        ending = threading.Thread(target=self._server.stop, daemon=True)
        ending.start()
        ending.join(_STOPPING)
        self._log.event("stopped")


def run(service: Service, started: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reloads.

    Args:
        service: The server.
        started: Called when it listens.
    """
    ended, again = threading.Event(), threading.Event()
    with _signals({signal.SIGTERM: ended, signal.SIGINT: ended, signal.SIGHUP: again}):
        service.start()
        started()
        while not ended.wait(_LOOK):
            if again.is_set():
                again.clear()
                service.reload()
    service.stop()


@contextmanager
def _signals(events: dict[signal.Signals, threading.Event]) -> Iterator[None]:
    def received(number: int, _: FrameType | None) -> None:
        events[signal.Signals(number)].set()

    before = {number: signal.signal(number, received) for number in events}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
