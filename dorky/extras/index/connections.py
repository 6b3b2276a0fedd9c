"""The HTTP server: cheroot, with bounds on what a client can make it hold, read or wait for.

cheroot reads a refused body into memory, the chunks of a chunked one whole, waits in a thread of
its own for a client that says nothing, and shakes hands of TLS in the thread that accepts. It takes
the last of two lengths, and goes on with a header in the next line.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cheroot import server as cheroot
from cheroot import wsgi
from cheroot.makefile import MakeFile
from cheroot.ssl import Adapter
from werkzeug.exceptions import ClientDisconnected

from dorky import errors

_HEADERS = 64 << 10
_CONNECTIONS = 500
_IDLE = 20
_STOPPING = 30
_BLOCK = 64 << 10
_PATIENCE = 30.0
"""The seconds in which a request's headers, or a block of its body, must arrive."""
_DRAINED = 16 << 20
_DRAINING = 2.0
_LOOK = 1.0
_LINE = 4096
_TRAILERS = 100
_CHUNK = re.compile(rb"[0-9a-fA-F]{1,15}")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*)\r\n")
_ONCE = frozenset({b"Content-Length", b"Transfer-Encoding", b"Host", b"Authorization", b"Expect"})


def _header(line: bytes) -> tuple[bytes, bytes]:
    """Return the name and the value of a header.

    Raises:
        ValueError: It is malformed, or goes on with the line before.
    """
    found = _HEADER.fullmatch(line)
    if not found:
        raise ValueError("Malformed header.")
    return found[1].title(), found[2].strip()


class Body:
    """The body of a request. The client is told to send it when it is first read."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most 64 KiB; empty at the end."""
        request = self._request
        request.ask_for_body()
        wanted = _BLOCK if size is None or size < 0 else min(size, _BLOCK)
        with request.conn.within(_PATIENCE):
            return bytes(request.rfile.read(wanted))


class Chunks:
    """A body of unknown length, sent in chunks of which none need fit into memory.

    Args:
        file: What it is read from.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = 0
        self.remaining = 1
        """0 once all of it is read."""

    def read(self, size: int) -> bytes:
        """Return the next bytes, fewer than ``size`` only at the end.

        Raises:
            ClientDisconnected: It has ended early, or is malformed.
        """
        found = bytearray()
        while len(found) < size and self.remaining:
            if not self._left:
                self._begin()
                continue
            block = self._file.read(min(self._left, size - len(found)))
            if not block:
                raise ClientDisconnected
            found += block
            self._left -= len(block)
            if not self._left and self._line() != b"":
                raise ClientDisconnected
        return bytes(found)

    def _begin(self) -> None:
        """Read what stands before a chunk; after the last one, to the end of the body."""
        digits = self._line().partition(b";")[0].strip()
        if not _CHUNK.fullmatch(digits):
            raise ClientDisconnected
        self._left = int(digits, 16)
        if self._left:
            return
        for _ in range(_TRAILERS):
            if not self._line():
                self.remaining = 0
                return
        raise ClientDisconnected

    def _line(self) -> bytes:
        line: bytes = self._file.readline(_LINE)
        if not line.endswith(b"\r\n"):
            raise ClientDisconnected
        return line[:-2]


class Request(cheroot.HTTPRequest):
    """A request, of whose body not more is read than the application wants."""

    expects = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.header_reader = self._read_headers

    def _read_headers(self, rfile: Any, found: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Read the headers. Two servers must never see two requests in the same bytes.

        Raises:
            ValueError: They are malformed, or could be understood in two ways.
        """
        while (line := rfile.readline()) != b"\r\n":
            name, value = _header(line)
            if name in found:
                if name in _ONCE:
                    raise ValueError(f"There are two {name.decode()} headers.")
                value = found[name] + b", " + value
            # WSGI has one name for X-Real and X_Real, and a proxy checks only the first.
            if b"_" not in name:
                found[name] = value
        if not found.get(b"Content-Length", b"0").isdigit():
            raise ValueError("Malformed Content-Length Header.")
        if b"Transfer-Encoding" in found and (
            b"Content-Length" in found or self.response_protocol != "HTTP/1.1"
        ):
            raise ValueError("The length of the body is not certain.")
        # cheroot would tell the client to go on, whatever the answer is.
        self.expects = found.pop(b"Expect", b"").lower() == b"100-continue"
        return found

    def ask_for_body(self) -> None:
        """Tell a client that waits for it to send the body."""
        if self.expects and not self.sent_headers:
            self.expects = False
            self.conn.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def respond(self) -> None:
        """Answer."""
        self.conn.due = None
        if self.chunked_read:
            self.rfile = Chunks(self.conn.rfile)  # cheroot's own reads each chunk whole
            self.server.gateway(self).respond()
            if self.ready:
                self.ensure_headers_sent()
        else:
            super().respond()
        if self._unread:
            self._drain()

    @property
    def _unread(self) -> int:
        return int(getattr(self.rfile, "remaining", 0))

    def send_headers(self) -> None:
        """Send the headers; end the connection if there is a body that nobody wants."""
        if self._unread:
            self.close_connection = True
        super().send_headers()

    def write(self, chunk: bytes) -> None:
        """Send a part of the answer."""
        if self.chunked_write or len(chunk) <= _BLOCK:
            with self.conn.within(_PATIENCE):
                super().write(chunk)
            return
        for at in range(0, len(chunk), _BLOCK):
            block = memoryview(chunk)[at : at + _BLOCK]
            with self.conn.within(_PATIENCE):
                while block:  # cheroot's own file would copy it three times
                    block = block[self.conn.socket.send(block) :]

    def _drain(self) -> None:
        """Read a little of the body, or the client would not read the answer."""
        end, left = time.monotonic() + _DRAINING, _DRAINED
        with contextlib.suppress(OSError):
            self.conn.socket.shutdown(socket.SHUT_WR)
            while left > 0 and (wait := end - time.monotonic()) > 0:
                self.conn.socket.settimeout(wait)
                block = self.conn.socket.recv(_BLOCK)
                if not block:
                    return
                left -= len(block)


class Connection(cheroot.HTTPConnection):
    """A connection that is ended when a request takes too long to arrive."""

    RequestHandlerClass = Request
    fresh = True
    due: float | None = None
    """When what is under way must have been done, by the monotonic clock."""

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Shut the connection down if a block takes longer."""
        self.due = time.monotonic() + seconds
        try:
            yield
        finally:
            self.due = None

    def communicate(self) -> bool:
        """Answer a request; return whether there may be another."""
        with self.within(_PATIENCE):
            if self.fresh and isinstance(self.socket, ssl.SSLSocket):
                try:
                    self.socket.do_handshake()
                except OSError:
                    return False
            self.fresh = False
            return bool(super().communicate())  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Close it."""
        self.server.forget(self)
        super().close()


class Certificate(Adapter):
    """TLS by a certificate that can be read again. Threads of requests shake hands.

    Args:
        certificate: The file of the certificate and of those that it leads back to.
        key: The file of its key.

    Raises:
        PathNotFound: One is not there.
        BadConfig: They can't be read, or don't belong together.
    """

    makefile = staticmethod(MakeFile)

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = certificate, key
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.reload()

    def reload(self) -> None:
        """Read the files again, for connections from now on."""
        certificate, key = self._files
        for path in self._files:
            if not path.exists():
                raise errors.PathNotFound(path, kind="tls")
        # First into a context of its own: a mistake must leave the running one as it is.
        for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._context):
            try:
                context.load_cert_chain(certificate, key, password=lambda: b"")
            except (OSError, ValueError) as error:
                why = getattr(error, "reason", None) or error.args[-1]
                raise errors.BadConfig(certificate, f"no TLS with {key}: {why}") from None

    def bind(self, sock: Any) -> Any:
        """Return a socket as it is."""
        return sock

    def wrap(self, sock: Any) -> tuple[ssl.SSLSocket, dict[str, str]]:
        """Return a connection's socket, and what the application is told of it."""
        wrapped = self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return wrapped, self.get_environ()

    def get_environ(self) -> dict[str, str]:
        """Return what the application is told."""
        return {"wsgi.url_scheme": "https", "HTTPS": "on"}


class Gateway(wsgi.Gateway_10):
    """The way of a request to the application."""

    def get_environ(self) -> Any:
        """Return the WSGI environment."""
        found: Any = super().get_environ()  # type: ignore[no-untyped-call]
        ends = {"wsgi.input_terminated": True} if self.req.chunked_read else {}
        return {**found, "wsgi.input": Body(self.req), **ends}


class Server(cheroot.HTTPServer):
    """An HTTP server.

    Args:
        host: The name or address to listen on.
        port: The port; 0: any that is free.
        app: The application.
        threads: The number of requests that are answered at once.
        certificate: TLS, if the server is to speak it.
        tell: Is told of what went wrong, without any part of a request.
    """

    ConnectionClass = Connection
    keep_alive_conn_limit = 200
    max_request_header_size = _HEADERS
    request_queue_size = 128
    timeout = _IDLE
    shutdown_timeout = _STOPPING

    def __init__(
        self,
        host: str,
        port: int,
        app: Callable[..., Any],
        *,
        threads: int,
        certificate: Certificate | None,
        tell: Callable[[str], None],
    ) -> None:
        super().__init__((host, port), Gateway, minthreads=threads, server_name="dorky")
        self.wsgi_app = app
        self.ssl_adapter = certificate
        self._tell = tell
        self._open: set[Connection] = set()
        self._ended = threading.Event()

    @property
    def port(self) -> int:
        """Return the port that it listens on."""
        return int(self.bind_addr[1])

    def prepare(self) -> None:
        """Listen."""
        super().prepare()
        threading.Thread(target=self._watch, name="dorky watch", daemon=True).start()

    @staticmethod
    def bind_socket(socket_: socket.socket, bind_addr: Any) -> socket.socket:
        """Bind a socket, or close it."""
        try:
            socket_.bind(bind_addr)
        except OSError:
            socket_.close()
            raise
        return socket_

    def process_conn(self, conn: Connection) -> None:
        """Have a connection's next request answered, once it begins to arrive."""
        if conn in self._open:
            super().process_conn(conn)
        elif len(self._open) >= _CONNECTIONS:
            conn.close()
        else:
            self._open.add(conn)
            self.put_conn(conn)

    def forget(self, conn: Connection) -> None:
        """Forget a connection that is closed."""
        self._open.discard(conn)

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK):
            now = time.monotonic()
            for conn in [*self._open]:
                due = conn.due
                if due is not None and due < now:
                    with contextlib.suppress(OSError):
                        # Of the socket below TLS: another thread may be using that.
                        socket.socket.shutdown(conn.socket, socket.SHUT_RDWR)

    def stop(self) -> None:
        """Accept nothing more, and wait for what is under way."""
        super().stop()
        self._ended.set()

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        """Tell what went wrong, but neither what the client sent nor where in the code it was."""
        del traceback
        if level >= logging.WARNING:
            self._tell(str(msg))
