"""Serve the files of a repository by HTTP on this machine, with ranges.

    DORKY_URL=s3://acme-vault/models python serve_model.py 8000
    curl -r 0-1023 http://127.0.0.1:8000/models/v3.bin

Only the chunks that hold a range are fetched. The server has no access control: it answers
programs on this machine alone.
"""

from __future__ import annotations

import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from dorky import DorkyClient, DorkyError

client = DorkyClient.from_env(max_age=10)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        try:
            info = client.stat(unquote(self.path).lstrip("/"))
        except DorkyError as error:
            self.send_error(error.status_code or 500)
            return
        start, end, status = 0, info.size, 200
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or ""):
            start, status = int(found[1]), 206
            end = min(int(found[2]) + 1, end) if found[2] else end
            if start >= end:
                self.send_error(416)
                return
        self.send_response(status)
        self.send_header("Content-Type", info.content_type)
        self.send_header("Content-Length", str(end - start))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{info.size}")
        self.end_headers()
        client.download(info.id, self.wfile, byte_range=(start, end))


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
