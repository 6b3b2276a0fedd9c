"""The HTTP server: cheroot, with bounds on what a client can make it hold, read or wait for.

cheroot reads a refused body into memory, the chunks of a chunked one whole, waits in a thread of
its own for a client that says nothing, and shakes hands of TLS in the thread that accepts.
"""

from __future__ import annotations

import contextlib
import logging
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

    def readline(self, size: int = -1) -> bytes:
        """Return the next line, at most 64 KiB of it."""
        self._request.ask_for_body()
        wanted = _BLOCK if size is None or size < 0 else min(size, _BLOCK)
        with self._request.conn.within(_PATIENCE):
            return bytes(self._request.rfile.readline(wanted))


class Request(cheroot.HTTPRequest):
    """A request, of whose body not more is read than the application wants."""

    expects = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.header_reader = self._read_headers

    def _read_headers(self, rfile: Any, found: dict[bytes, bytes]) -> dict[bytes, bytes]:
        cheroot.HeaderReader()(rfile, found)
        # WSGI has one name for X-Real and X_Real, and a proxy checks only the first.
        for name in [name for name in found if b"_" in name]:
            del found[name]
        if not found.get(b"Content-Length", b"0").isdigit():
            raise ValueError("Malformed Content-Length Header.")
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
        if self.chunked_read:  # each chunk would be read whole
            self.close_connection = True
            self.simple_response("411 Length Required", "Send a Content-Length.")
            self._drain()
            return
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
        for at in range(0, len(chunk), _BLOCK):
            with self.conn.within(_PATIENCE):
                super().write(chunk[at : at + _BLOCK])

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
        return {**found, "wsgi.input": Body(self.req)}


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
