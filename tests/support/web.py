"""A web server of static files for the tests, as any host of them has one."""

from __future__ import annotations

import contextlib
import hashlib
import re
import ssl
from collections.abc import Iterator
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from servers import RequestLog, serving


class Web(NamedTuple):
    """A running server.

    Attributes:
        url: Its address, which ends without a slash.
        log: What it was asked.
        statuses: What it answered.
    """

    url: str
    log: RequestLog
    statuses: list[int]


@contextlib.contextmanager
def web_server(
    directory: Path,
    *,
    etags: bool = True,
    dates: bool = True,
    ranges: bool = True,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Web]:
    """Serve the files of a directory, and take none.

    Args:
        directory: The directory.
        etags: Send ETags, and compare them.
        dates: Send Last-Modified, and compare it.
        ranges: Send parts of files; without, the whole file is sent, as HTTP allows.
        tls: Speak TLS with this.
    """
    log, statuses = RequestLog(), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            log.add(self.command, self.path)
            path = directory / unquote(urlsplit(self.path).path).lstrip("/")
            if not path.is_file():
                self.answer(404, b"no such file", {"Content-Type": "text/html"})
                return
            data, changed = path.read_bytes(), path.stat().st_mtime
            headers = {"Content-Type": "application/octet-stream"}
            etag = f'"{hashlib.sha256(data).hexdigest()}"'
            if etags:
                headers["ETag"] = etag
            if dates:
                headers["Last-Modified"] = formatdate(changed, usegmt=True)
            given = self.headers.get("If-None-Match")
            since = self.headers.get("If-Modified-Since")
            if etags and given is not None:
                same = given == etag
            else:
                same = bool(
                    dates and since and changed < parsedate_to_datetime(since).timestamp() + 1
                )
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if same:
                self.answer(304, b"", headers)
            elif ranges and wanted:
                start, end = int(wanted[1]), min(int(wanted[2]) + 1, len(data))
                if start >= len(data):
                    self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                    return
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
                self.answer(206, data[start:end], headers)
            else:
                self.answer(200, data, headers)

        def do_PUT(self) -> None:
            log.add(self.command, self.path)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.answer(405, b"", {})

        do_POST = do_DELETE = do_HEAD = do_PUT  # noqa: N815

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            statuses.append(status)
            log.down += len(body)
            self.send_response(HTTPStatus(status))
            if status != HTTPStatus.NOT_MODIFIED:
                headers["Content-Length"] = str(len(body))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):  # whoever asked has read enough
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Not to stderr."""

    with serving(Handler, tls) as endpoint:
        yield Web(endpoint, log, statuses)
