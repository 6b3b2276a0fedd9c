"""A proxy on loopback that makes a bucket distant, and counts what is asked of it.

Data waits on the way, in order, for half of the round trip each way; how much of it is under way
does not matter, nor does setting up a connection (which is a constant for every tool that keeps
its connections, and would take TLS to measure honestly).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

PIECE = 256 << 10
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_RANGE = re.compile(rb"HTTP/1.1 200 OK(\r\n(?:[^\r]+\r\n)*?content-range:)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)


class RequestScanner:
    """Finds the requests in what one client sends on one connection.

    Bodies are stepped over by their length, so that nothing inside of them is taken for a request,
    wherever the stream happens to be cut.
    """

    def __init__(self) -> None:
        self._head = bytearray()  # of a request, or the size line of a chunk, as far as it is here
        self._body = 0  # bytes still to step over
        self._chunked = False  # after the body comes the next chunk's size, not a request

    def feed(self, data: bytes) -> list[str]:
        """Take what was sent next; the methods of the requests whose heads are complete by it."""
        methods = []
        at = 0
        while at < len(data):
            if self._body:
                step = min(self._body, len(data) - at)
                self._body -= step
                at += step
                continue
            end = b"\r\n" if self._chunked else b"\r\n\r\n"
            self._head += data[at:]
            found = self._head.find(end)
            if found < 0:
                break
            # The bytes kept from before end with none of it.
            at = len(data) - (len(self._head) - found - len(end))
            head = bytes(self._head[:found])
            self._head.clear()
            if self._chunked:
                self._chunk(head)
            elif head.strip():
                methods.append(head.split(b" ", 1)[0].strip().decode("latin-1"))
                length = _LENGTH.search(head)
                self._body = int(length[1]) if length else 0
                self._chunked = bool(_CHUNKED.search(head))
        return methods

    def _chunk(self, line: bytes) -> None:
        if not line:  # the end of the trailers
            self._chunked = False
        elif (size := line.partition(b";")[0].strip()) and b":" not in line and int(size, 16):
            self._body = int(size, 16) + 2  # and the line's end after it


def as_s3_says(data: bytes) -> bytes:
    """An answer as S3 would give it.

    rclone's server honours ranges, but says 200 where HTTP wants 206, which clients with a mind to
    HTTP take for the whole object and refuse. No bucket does that.

    Args:
        data: What the server sent next; nobody pipelines, so that an answer starts with it.
    """
    return (
        _RANGE.sub(rb"HTTP/1.1 206 Partial Content\1", data, count=1)
        if _RANGE.match(data)
        else data
    )


@dataclass
class Traffic:
    """What went through, so far or during one command.

    Attributes:
        requests: How many, by method.
        up: Bytes sent to the server, heads included.
        down: Bytes of its answers.
    """

    requests: Counter[str] = field(default_factory=Counter)
    up: int = 0
    down: int = 0


class Proxy:
    """A running proxy; what it counts is read with `take`."""

    def __init__(self, target: str, round_trip: float, rate: float = 0) -> None:
        self.endpoint = ""
        self._rate = rate
        self._free = {True: 0.0, False: 0.0}  # when the link, up and down, is done with the rest
        self._target = urlsplit(target)
        self._delay = round_trip / 2
        self._traffic = Traffic()
        self._lock = threading.Lock()
        self._tasks: set[asyncio.Task[Any] | None] = set()

    def take(self) -> Traffic:
        """What went through since the last time this was called."""
        with self._lock:
            taken, self._traffic = self._traffic, Traffic()
        return taken

    async def _serve(self, started: threading.Event, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0, limit=2 * PIECE)
        self.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        await stop.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connect(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        # asyncio itself refers to tasks weakly: one that nobody else knows may vanish half done.
        self._tasks.add(task := asyncio.current_task())
        try:
            await self._join(client, answer)
        finally:
            self._tasks.discard(task)

    async def _join(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        try:
            server, request = await asyncio.open_connection(
                self._target.hostname, self._target.port, limit=2 * PIECE
            )
        except OSError:
            answer.close()
            return
        with contextlib.suppress(asyncio.CancelledError):  # when the proxy ends
            await asyncio.gather(
                self._pass(client, request, RequestScanner()), self._pass(server, answer, None)
            )
        answer.close()
        request.close()

    async def _pass(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        scanner: RequestScanner | None,
    ) -> None:
        """Hand on what comes, late; a scanner says that it is what the client sends."""
        now = asyncio.get_running_loop().time
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)
        late = asyncio.create_task(self._deliver(under_way, sink))
        with contextlib.suppress(ConnectionError):
            while data := await source.read(PIECE):
                with self._lock:
                    if scanner:
                        self._traffic.up += len(data)
                        self._traffic.requests.update(scanner.feed(data))
                    else:
                        self._traffic.down += len(data)
                        data = as_s3_says(data)
                sent = now()
                if self._rate:  # all connections share it
                    up = scanner is not None
                    sent = self._free[up] = max(sent, self._free[up]) + len(data) / self._rate
                await under_way.put((sent + self._delay, data))
        await under_way.put((now() + self._delay, b""))
        await late

    async def _deliver(
        self, under_way: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter
    ) -> None:
        now = asyncio.get_running_loop().time
        gone = False
        while True:
            due, data = await under_way.get()
            if (wait := due - now()) > 0:
                await asyncio.sleep(wait)
            # Whoever hung up gets nothing more, but the queue is emptied all the same.
            try:
                if not data and not gone:
                    sink.write_eof()
                elif not gone:
                    sink.write(data)
                    await sink.drain()
            except (ConnectionError, OSError, RuntimeError):
                gone = True
            if not data:
                return


@contextlib.contextmanager
def delayed(target: str, *, round_trip: float, rate: float = 0) -> Iterator[Proxy]:
    """Run a proxy in front of a server, in a thread.

    Args:
        target: The server's endpoint, ``http://host:port``.
        round_trip: Seconds added to every request and its answer.
        rate: The bytes a second that go through each way; 0 for as many as there are.
    """
    proxy = Proxy(target, round_trip, rate)
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def serve() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(proxy._serve(started, stop))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    started.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
