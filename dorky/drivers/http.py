"""The read-only driver for ``https://``: a repository that a web server hosts, for anybody.

The standard library's client is used and not obstore, which follows redirects to any host and
connects to any address (see docs/decisions/0028-https-remotes.md).

The URL may come from a `.dorkyrc` in a git clone, so private and loopback addresses are refused
unless the user names the host (``private_hosts``), whatever the name resolves to, and redirects
stay on the host.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import re
import socket
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, unquote, urljoin, urlsplit

from dorky import cancellation, errors
from dorky.drivers import addresses, connection
from dorky.drivers.base import LIMIT, Advice, Blob, Stat, Version

if TYPE_CHECKING:
    import ssl

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])"
_PLACE = re.compile(rf"(https?)://({_HOST})(?::([0-9]{{1,5}}))?(/.*)?", re.IGNORECASE | re.DOTALL)
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_LOOPBACK = re.compile(r"https://.*|http://(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?(/.*)?")
_PORTS = {"https": 443, "http": 80}

_BY_TIME = re.compile(r'W/.*|"[0-9a-f]+(-[0-9a-f]+)+"', re.IGNORECASE)
"""ETags made of a time and a size, which do not tell two changes in one second apart."""
_SETTLED = 2
"""After so many seconds no further change can have the same Last-Modified."""
_DATE, _HASH = "date ", "sha256 "
"""The beginnings of versions that are no ETags, which always have quotation marks."""

_REDIRECTS = 5
_IDLE = 4
"""The most connections that are kept for later."""
_CONNECT = 10.0
_WAIT = 60.0
"""The most seconds between two blocks of an answer."""
_LEAST = 60.0
"""The seconds that any answer may take."""
_SLOWEST = 64 << 10
"""The bytes a second at which a large answer must still arrive."""
_BLOCK = 1 << 16

_KINDS: Mapping[int, type[errors.DorkyError]] = {
    **connection.STATUSES,
    410: errors.KeyNotFound,
}


class HTTPDriver:
    """A directory of a web server, which is read and never written.

    Versions are ETags; without one, the time of the last change if that is long enough ago to be
    the last in its second, else a hash of the bytes, which saves no transfer.

    The option ``private_hosts`` names the hosts that may be on private or loopback addresses,
    separated by commas; among them, loopback ones may be named by ``http://``, too.
    """

    scheme: ClassVar[str] = "https"
    read_only: ClassVar[bool] = True

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        self.url = url
        self._options = options
        place = urlsplit(url)
        self._scheme = place.scheme
        self._host = place.hostname or ""
        self._port = place.port or _PORTS[place.scheme]
        self._path = place.path
        self._idle: list[_Connection] = []
        weakref.finalize(self, _close, self._idle)
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    @classmethod
    def open(cls, url: str, options: Mapping[str, str]) -> HTTPDriver:
        """See `Driver.open`."""
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise errors.BadURL(
                re.sub(r"//[^/]*@", "//***@", url), "credentials don't belong into a URL"
            )
        found = _PLACE.fullmatch(url)
        if not found or int(found[3] or 1) not in range(1, 1 << 16):
            raise errors.BadURL(ascii(url), "it is written https://host/path")
        path = (found[4] or "").rstrip("/")
        if not _PATH.fullmatch(path):
            raise errors.BadURL(ascii(url), "its path has characters that belong percent-encoded")
        if any(part in {"", ".", ".."} for part in unquote(path).split("/")[1:]):
            raise errors.BadURL(url, "its path has an empty part, . or ..")
        scheme, port = found[1].lower(), int(found[3] or 0)
        shown = f":{port}" if port and port != _PORTS[scheme] else ""
        place = f"{scheme}://{found[2].lower()}{shown}{path}"
        if not _LOOPBACK.fullmatch(place):
            raise errors.BadURL(url, "without TLS, anybody on the way can change it: use https://")
        return cls(place, options)

    def get(self, key: str, *, unless: Version | None = None, limit: int = LIMIT) -> Blob | None:
        """See `Driver.get`."""
        # A cache on the way must not answer with a root that it has not compared with the server's.
        headers = {"Cache-Control": "no-cache"}
        if unless and unless.startswith(_DATE):
            headers["If-Modified-Since"] = unless.removeprefix(_DATE)
        elif unless and not unless.startswith(_HASH):
            headers["If-None-Match"] = unless
        with self._asked(key, headers, limit) as answer:
            if answer.status == http.client.NOT_MODIFIED:
                if unless is None or len(headers) == 1:
                    raise self._strange("it answers 304 to an unconditional request")
                return None
            self._check(answer, key)
            if answer.status == http.client.PARTIAL_CONTENT:
                raise self._strange(f"it sends a part of {key}, and all of it was asked")
            length = answer.length
            if length is not None and length > limit:
                raise errors.TooLarge(key, self.url, f"{limit:,} bytes")
            data = b"".join(self._blocks(answer, limit + 1))
        if len(data) > limit:
            raise errors.TooLarge(key, self.url, f"{limit:,} bytes")
        version = _version(answer.headers, data)
        return None if version == unless else Blob(data, version)

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """See `Driver.get_range`. Of a server that ignores ranges, everything before is read."""
        if start == end:  # HTTP can't express an empty range
            return b""
        with self._asked(key, {"Range": f"bytes={start}-{end - 1}"}, end) as answer:
            if answer.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise self._strange(f"it has no bytes {start} to {end} of {key}")
            self._check(answer, key)
            if answer.status == http.client.PARTIAL_CONTENT:
                self._check_range(answer, start, end)
                data = b"".join(self._blocks(answer, end - start + 1))
            else:
                data = self._cut(answer, start, end)
        if len(data) != end - start:
            raise self._strange(
                f"it sent {len(data)} bytes of {key} where {end - start} were asked"
            )
        return data

    def _check_range(self, answer: http.client.HTTPResponse, start: int, end: int) -> None:
        given = answer.headers.get("Content-Range", "")
        if not re.fullmatch(rf"bytes {start}-{end - 1}/(\*|[0-9]+)", given, re.IGNORECASE):
            raise self._strange(f"it sent {given[:60]!a} where bytes {start} to {end} were asked")

    def _cut(self, answer: http.client.HTTPResponse, start: int, end: int) -> bytes:
        found: list[bytes] = []
        at = 0
        for block in self._blocks(answer, end):
            if at + len(block) > start:
                found.append(block[max(start - at, 0) :])
            at += len(block)
        return b"".join(found)

    def put(self, key: str, data: bytes) -> None:  # noqa: ARG002
        """Refuse: see `Driver.put`."""
        raise errors.ReadOnlyRemote(self.url, "a web server takes no files")

    def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:  # noqa: ARG002
        """Refuse: see `Driver.swap`."""
        raise errors.ReadOnlyRemote(self.url, "a web server takes no files")

    def list(self, prefix: str) -> Iterator[Stat]:  # noqa: ARG002
        """Refuse: see `Driver.list`."""
        raise errors.ReadOnlyRemote(self.url, "a web server does not list its files")

    def delete(self, keys: Iterable[str]) -> None:  # noqa: ARG002
        """Refuse: see `Driver.delete`."""
        raise errors.ReadOnlyRemote(self.url, "a web server deletes no files")

    def inspect(self, keep: Sequence[str]) -> Iterator[Advice]:
        """See `Inspected`: whether the server sends parts of files, and compares versions."""
        key = keep[0]
        with self._asked(key, {"Range": "bytes=0-7"}, LIMIT) as answer:
            self._check(answer, key)
            ranges = answer.status == http.client.PARTIAL_CONTENT
        if ranges:
            yield Advice("ranges", "ok", "the server sends parts of files")
        else:
            yield Advice(
                "ranges",
                "warn",
                "the server sends whole files only: a small file may cost a pack of 32 MiB",
                "host it where ranges are supported: nginx, Caddy, a bucket or a CDN",
            )
        known = "ETag" in answer.headers or "Last-Modified" in answer.headers
        about = "the server compares versions" if known else "each look costs the whole root"
        yield Advice("versions", "ok", about)

    # --- requests --------------------------------------------------------------------------

    @contextmanager
    def _asked(
        self, key: str, headers: Mapping[str, str], size: int
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request; yield the answer, whose body is not yet read.

        A connection is kept if the whole answer was read, and the block raised nothing.
        """
        deadline = time.monotonic() + _LEAST + size / _SLOWEST
        path = f"{self._path}/{quote(key, safe='/')}"
        used, answer = None, None
        try:
            for _ in range(_REDIRECTS + 1):
                used, answer = self._sent(path, headers, deadline)
                if answer.status not in {301, 302, 303, 307, 308}:
                    break
                path = self._redirected(path, answer.headers.get("Location", ""))
                answer.close()
                used.close()
            else:
                raise self._strange("it redirects again and again")
            yield answer
            if (answer.isclosed() or answer.length == 0) and not answer.will_close:
                answer.close()
                self._keep(used)
                used = None
        except http.client.HTTPException as error:
            raise self._strange(f"its answer is garbled ({type(error).__name__})") from error
        except OSError as error:
            raise self._unreached(error) from error
        finally:
            if used and answer:
                answer.close()
                used.close()

    def _sent(
        self, path: str, headers: Mapping[str, str], deadline: float
    ) -> tuple[_Connection, http.client.HTTPResponse]:
        sent = {"Accept-Encoding": "identity", "User-Agent": "dorky", **headers}
        if kept := self._kept():
            kept.sock.deadline = deadline
            try:
                kept.request("GET", path, headers=sent)
                return kept, kept.getresponse()
            except (OSError, http.client.HTTPException):
                kept.close()  # the server has closed it since
        paced = _Paced(self._dialled())
        paced.deadline = deadline
        made = _Connection(self._host, self._port, _PORTS[self._scheme], paced)
        try:
            made.request("GET", path, headers=sent)
            return made, made.getresponse()
        except BaseException:
            made.close()
            raise

    def _redirected(self, path: str, location: str) -> str:
        place = urlsplit(urljoin(f"{self._scheme}://{urlsplit(self.url).netloc}{path}", location))
        try:
            port = place.port or _PORTS.get(place.scheme)
        except ValueError:
            port = None
        if (place.scheme, place.hostname, port) != (self._scheme, self._host, self._port):
            host = place.netloc.rpartition("@")[2][:80]
            raise self._strange(f"it redirects to {host!a}, and not on its own host")
        found = place.path + (f"?{place.query}" if place.query else "")
        if not found.isascii() or not found.isprintable() or " " in found:
            raise self._strange("it redirects to something that is no URL")
        return found

    def _kept(self) -> _Connection | None:
        with self._lock:
            if self._process != os.getpid():  # the parent uses the same sockets
                _close(self._idle)
                self._process = os.getpid()
            return self._idle.pop() if self._idle else None

    def _keep(self, used: _Connection) -> None:
        with self._lock:
            if len(self._idle) < _IDLE and self._process == os.getpid():
                self._idle.append(used)
                return
        used.close()

    def _dialled(self) -> socket.socket:
        """Connect to the server, at an address that may be reached."""
        allowed = addresses.is_named(self._host, self._options.get("private_hosts", ""))
        if self._scheme == "http":
            may_reach = addresses.is_loopback if allowed else addresses.is_none
            return addresses.dial(self._host, self._port, _CONNECT, may_reach)
        may_reach = addresses.is_any if allowed else addresses.is_public
        proxy = connection.proxy_of(self._options, self.url)
        if proxy is None:
            found = addresses.dial(self._host, self._port, _CONNECT, may_reach)
        else:
            addresses.check_name(self._host, self._port, may_reach)
            found = addresses.tunnel(self._options["tls_proxy"], self._host, self._port, _CONNECT)
        try:
            return self._tls().wrap_socket(found, server_hostname=self._host)
        except BaseException:
            found.close()
            raise

    def _tls(self) -> ssl.SSLContext:
        import ssl

        with self._lock:
            if self._context is None:
                made = ssl.create_default_context()
                if bundle := self._options.get("ca_bundle"):
                    try:
                        made.load_verify_locations(Path(bundle).expanduser())
                    except ssl.SSLError:
                        raise errors.BadConfig(
                            bundle, "it holds no PEM certificate", file="certificates"
                        ) from None
                    except OSError as error:
                        raise errors.UnreadableFile(bundle, error.strerror) from error
                self._context = made
            return self._context

    def _blocks(self, answer: http.client.HTTPResponse, most: int) -> Iterator[bytes]:
        """Yield at most ``most`` bytes of an answer's body.

        Raises:
            Unreachable: The answer ends before the length that it has announced.
        """
        left = most
        buffer = memoryview(bytearray(min(_BLOCK, max(most, 1))))
        while left:
            cancellation.check()
            count = answer.readinto(buffer[: min(left, len(buffer))])
            if not count:
                if answer.length:
                    raise ConnectionResetError("the answer is cut off")
                return
            left -= count
            yield bytes(buffer[:count])

    # --- answers ---------------------------------------------------------------------------

    def _check(self, answer: http.client.HTTPResponse, key: str) -> None:
        """Raise the error that an answer stands for; return if it brings the object."""
        status, headers = answer.status, answer.headers
        if status in {http.client.OK, http.client.PARTIAL_CONTENT}:
            if headers.get("Content-Encoding", "identity").lower() != "identity":
                raise self._strange("it compresses what it sends")
            if headers.get_content_type() == "text/html":
                raise self._strange("it sends a web page, not an object")
            return
        kind = _KINDS.get(status, errors.BadEndpoint)
        said = f"{status} {answer.reason[:80]}".strip()
        if kind is errors.KeyNotFound:
            raise kind(key, self.url)
        if issubclass(kind, errors.ServerBusy):
            raise kind(self.url, said, retry_after=connection.retry_after(headers))
        if kind is errors.BadEndpoint:
            raise self._strange(f"it answers {said}")
        raise kind(self.url, said)

    def _strange(self, why: str) -> errors.BadEndpoint:
        return errors.BadEndpoint(self.url, why)

    def _unreached(self, error: OSError) -> errors.DorkyError:
        said = "NameResolutionError" if isinstance(error, socket.gaierror) else str(error)
        proxy = connection.proxy_of(self._options, self.url)
        return connection.unreached(self.url, said, proxy, bundle="SSL_CERT_FILE")


def _version(headers: Any, data: bytes) -> Version:
    """Return the version of an object: its ETag, the time of its last change, or its hash."""
    etag, changed = headers.get("ETag", ""), headers.get("Last-Modified", "")
    sound = re.fullmatch(r'(W/)?"[\x21\x23-\x7e]{0,200}"', etag)
    if sound and not (_BY_TIME.fullmatch(etag) and changed and not _is_settled(headers)):
        return Version(etag)
    if not sound and changed and _is_settled(headers):
        return Version(_DATE + changed)
    return Version(_HASH + hashlib.sha256(data).hexdigest())


def _is_settled(headers: Any) -> bool:
    """Return whether an object was changed last so long ago that its time names one state."""
    try:
        now = parsedate_to_datetime(headers.get("Date", ""))
        changed = parsedate_to_datetime(headers.get("Last-Modified", ""))
        return (now - changed).total_seconds() > _SETTLED
    except (TypeError, ValueError):
        return False


def _close(idle: list[_Connection]) -> None:
    while idle:
        idle.pop().close()


class _Connection(http.client.HTTPConnection):
    """A connection that was made, to one server."""

    auto_open = 0

    def __init__(self, host: str, port: int, standard: int, paced: _Paced) -> None:
        super().__init__(host, port)
        self.default_port = standard  # for the Host header
        self.sock: Any = paced


class _Paced:
    """The socket of a connection, as far as http.client uses it.

    All waits for an answer end by one deadline, however slowly it arrives.
    """

    def __init__(self, connected: socket.socket) -> None:
        self.connected = connected
        self.deadline = 0.0
        self.is_read = False
        self.closed = False

    def sendall(self, data: bytes) -> None:
        """Send bytes."""
        self.connected.settimeout(_WAIT)
        self.connected.sendall(data)

    def makefile(self, _: str) -> io.BufferedReader:
        """Return what arrives for one answer, as a file."""
        self.is_read = True
        return io.BufferedReader(_Arriving(self))

    def close(self) -> None:
        """Close the connection once the answer is read, as a socket does."""
        self.closed = True
        if not self.is_read:
            self.connected.close()


class _Arriving(io.RawIOBase):
    def __init__(self, paced: _Paced) -> None:
        self._paced = paced

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._paced.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._paced.connected.settimeout(min(left, _WAIT))
        return self._paced.connected.recv_into(buffer)

    def close(self) -> None:
        super().close()
        self._paced.is_read = False
        if self._paced.closed:
            self._paced.connected.close()
