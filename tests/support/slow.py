"""A server on loopback that answers slowly, and notices when nobody listens any more."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

_PIECE = 32 << 10
_LARGE = 16
"""After so many pieces with pauses an answer is a large one."""


class Slow:
    """A proxy that passes a server's answers on in pieces, with pauses.

    Attributes:
        endpoint: Where it listens.
        pause: The seconds before each piece of an answer.
        passed: The bytes of answers that were passed on.
        begun: Set when a large answer is under way, with pauses.
        hung_up: Set when a client closes a connection before it has the answer.
    """

    def __init__(self, target: str) -> None:
        self.pause = 0.0
        self.passed = 0
        self.begun = threading.Event()
        self.hung_up = threading.Event()
        self._target = urlsplit(target)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._open: list[socket.socket] = [self._listening]
        self.endpoint = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._start(self._accept)

    def _start(self, work: object, *args: object) -> None:
        threading.Thread(target=work, args=args, daemon=True).start()  # type: ignore[arg-type]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection((self._target.hostname, self._target.port))
                self._open += [client, server]
                self._start(self._pass, client, server, False)
                self._start(self._pass, server, client, True)

    def _pass(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            late = 0
            while data := source.recv(_PIECE):
                if answers and self.pause:
                    time.sleep(self.pause)
                    late += 1
                    if late == _LARGE:
                        self.begun.set()
                try:
                    sink.sendall(data)
                except OSError:
                    if answers:
                        self.hung_up.set()
                    break
                self.passed += len(data) if answers else 0
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close every connection."""
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextlib.contextmanager
def slowed(target: str) -> Iterator[Slow]:
    """Stand in front of a server."""
    made = Slow(target)
    try:
        yield made
    finally:
        made.close()
