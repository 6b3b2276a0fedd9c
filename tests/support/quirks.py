"""A front for an S3 server that behaves as providers do which differ from AWS."""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

import servers
from servers import Remote, Server

QUIRKS = (
    "b2",
    "oss",
    "ignore",
    "no-if-match",
    "missing",
    "unquoted",
    "weak",
    "one-per-second",
    "no-bulk",
    "endless",
    "empty-pages",
    "object-lock",
)
_NOT_IMPLEMENTED = (
    b"<Error><Code>NotImplemented</Code><Message>A header you provided implies functionality that "
    b"is not implemented</Message></Error>"
)
_NO_CHECKSUM = (
    b"<Error><Code>InvalidRequest</Code><Message>Content-MD5 OR x-amz-checksum- HTTP header is "
    b"required for Put Object requests with Object Lock parameters</Message></Error>"
)
_BUSY = b"<Error><Code>ServiceUnavailable</Code><Message>Reduce your rate.</Message></Error>"
_HOPS = {"transfer-encoding", "connection", "content-length", "date", "server"}


class _Front:
    """See `quirky`.

    Attributes:
        conditions: The conditional headers of every write, as they arrived.
        second: How long a key stays closed after a write (``one-per-second``).
        pages: How many pages of lists were asked for (``endless``, ``empty-pages``).
    """

    def __init__(self, endpoint: str, quirk: str) -> None:
        self.host = urlsplit(endpoint).netloc
        self.quirk = quirk
        self.conditions: list[tuple[str, str]] = []
        self.second = 0.3
        self.pages = 0
        self._lock = threading.Lock()
        self._written: dict[str, float] = {}

    def forward(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            kept = {n: v for n, v in answer.getheaders() if n.lower() not in _HOPS}
            return answer.status, kept, answer.read()

    def answer(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        found = next((n for n in headers if n.lower() in {"if-match", "if-none-match"}), None)
        if method == "POST" and self.quirk == "no-bulk":
            return 501, {}, _NOT_IMPLEMENTED
        if method == "GET" and "list-type=2" in target and self.quirk in {"endless", "empty-pages"}:
            return self._page(target, headers)
        if method == "PUT" and self.quirk == "object-lock":
            names = {name.lower() for name in headers}
            if not names & {"content-md5", "x-amz-checksum-sha256"}:
                return 400, {}, _NO_CHECKSUM
        if method == "PUT" and found:
            self.conditions.append((found.lower(), headers[found]))
            refused = self._refused(found.lower(), headers[found])
            if refused:
                return refused
            if self.quirk == "ignore":
                del headers[found]
            elif self.quirk == "missing" and found.lower() == "if-match":
                if self.forward("HEAD", target, {}, b"")[0] == 404:
                    del headers[found]
            elif self.quirk == "unquoted" and found.lower() == "if-match":
                headers[found] = f'"{headers[found]}"'
        if method == "PUT" and self.quirk == "one-per-second":
            with self._lock:
                now = time.monotonic()
                if now - self._written.get(target, -9) < self.second:
                    return 429, {}, _BUSY
                self._written[target] = now
        status, sent, data = self.forward(method, target, headers, body)
        if self.quirk == "weak":
            sent = {n: f"W/{v}" if n.lower() == "etag" else v for n, v in sent.items()}
        return status, sent, data

    def _page(self, target: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """The first page of a list for ever: as it is, or without its keys."""
        self.pages += 1
        first = re.sub(r"&?continuation-token=[^&]*", "", target)
        status, sent, data = self.forward("GET", first, headers, b"")
        if self.quirk == "empty-pages":
            data = re.sub(rb"<Contents>.*</Contents>", b"", data, flags=re.DOTALL)
        token = b"same" if self.quirk == "endless" else b"%d" % self.pages
        more = b"<IsTruncated>true</IsTruncated><NextContinuationToken>%s</NextContinuationToken>"
        return status, sent, data.replace(b"<IsTruncated>false</IsTruncated>", more % token)

    def _refused(self, name: str, value: str) -> tuple[int, dict[str, str], bytes] | None:
        if self.quirk == "b2" or (self.quirk == "no-if-match" and name == "if-match"):
            return 501, {}, _NOT_IMPLEMENTED
        if self.quirk == "oss":
            return 400, {}, _NOT_IMPLEMENTED
        if name == "if-match" and (
            (self.quirk == "unquoted" and value.startswith('"'))
            or (self.quirk == "weak" and value.startswith("W/"))
        ):
            return 412, {}, b"<Error><Code>PreconditionFailed</Code></Error>"
        return None


@contextlib.contextmanager
def quirky(server: Server, quirk: str) -> Iterator[tuple[Remote, _Front]]:
    """Put a front before a server that checks no keys; yield a fresh place behind it."""
    assert quirk in QUIRKS
    front = _Front(server.endpoint, quirk)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = dict(self.headers.items())
            status, sent, data = front.answer(self.command, self.path, headers, body)
            self.send_response(status)
            for name, value in {**sent, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

        def log_message(self, *args: object) -> None:
            """Not to stderr."""

    with servers.serving(Handler) as endpoint:
        place = server.remote("s3", servers.s3_options(endpoint), servers.s3_env(endpoint))
        yield place, front
