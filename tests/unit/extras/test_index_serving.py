"""The server of packages on a real socket: what no client can make it do."""

from __future__ import annotations

import http.client
import io
import json
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import wheels
from credentials import self_signed
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from dorky import errors
from dorky.extras.index import auth, connections, serving, state
from dorky.extras.index.depot import Depot
from dorky.extras.index.operations import Log
from dorky.extras.index.serving import Service, Settings
from dorky.extras.index.storage import Directory

WAIT = 20


class Running:
    """A running server."""

    def __init__(self, place: Path, settings: Settings, *, write: bool = True) -> None:
        directory = Directory(place / "depot")
        self.depot = Depot(directory)
        self.logged = io.StringIO()
        self.service = Service(
            settings._replace(port=0),
            state.of_directory(directory),
            depot=self.depot if write else None,
            log=Log(self.logged),
        )

    def __enter__(self) -> Running:
        self.service.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.service.stop()

    @property
    def port(self) -> int:
        return int(self.service.url.split(":")[2].partition("/")[0])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT)

    def say(self, text: bytes) -> bytes:
        """Send bytes; return all that comes back until the server ends the connection."""
        with self.connect() as connection:
            connection.sendall(text)
            return everything(connection)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT)) as client:
            client.request(method, path, body, headers)
            answer = client.getresponse()
            return answer.status, answer.read()


def everything(connection: socket.socket) -> bytes:
    blocks = []
    while block := connection.recv(1 << 16):
        blocks.append(block)
    return b"".join(blocks)


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    file = tmp_path / "tokens"
    file.write_text(auth.line_of("ci", "secret", write=True))
    return file


@pytest.fixture
def guarded(tmp_path: Path, tokens: Path) -> Iterator[Running]:
    with Running(tmp_path, Settings(tokens=tokens, threads=2)) as running:
        yield running


@pytest.fixture
def open_to_all(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path, Settings(insecure=True, threads=2)) as running:
        yield running


def test_a_refused_body_is_not_read(guarded: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is not even told to send it, and what it sends all the same is not kept."""
    monkeypatch.setattr(connections.Body, "read", None)
    begin = b"PUT /python/acme-core/acme_core-1.0-py3-none-any.whl HTTP/1.1\r\nHost: x\r\n"
    asking = begin + b"Content-Length: 300000000\r\nExpect: 100-continue\r\n\r\n"
    answer = guarded.say(asking)
    assert answer.startswith(b"HTTP/1.1 401 a token is needed")
    assert b"100 Continue" not in answer
    assert b"Connection: close" in answer
    answer = guarded.say(begin + b"Content-Length: 8000000\r\n\r\n" + bytes(8_000_000))
    assert answer.startswith(b"HTTP/1.1 401 a token is needed")


def test_a_wanted_body_is_asked_for(open_to_all: Running, tmp_path: Path) -> None:
    wheel = wheels.wheel(tmp_path)
    size = wheel.stat().st_size
    with open_to_all.connect() as connection:
        connection.sendall(
            f"PUT /python/acme-core/{wheel.name} HTTP/1.1\r\nHost: localhost\r\n"
            f"Connection: close\r\nContent-Length: {size}\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(wheel.read_bytes())
        assert everything(connection).startswith(b"HTTP/1.1 201 ")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"400"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"400"),
        (b"Transfer-Encoding: gzip, chunked\r\n", b"501"),
        (b"Content-Length: 5\r\nContent-Length: 0\r\n", b"400"),
        (b"Content-Length: 5\r\n 0\r\n", b"400"),
        (b" Content-Length: 5\r\n", b"400"),
        (b"Content-Length : 5\r\n", b"400"),
        (b"Host: other\r\n", b"400"),
        (b"X: a\rContent-Length: 5\r\n", b"400"),
        (b"X: a\x00b\r\n", b"400"),
        (b"X: a\nContent-Length: 5\r\n", b"400"),
        (b"Content-Length: -1\r\n", b"400"),
        (b"Content-Length: +1\r\n", b"400"),
        (b"Content-Length: 1" + b"0" * 5000 + b"\r\n", b"400"),
        (b"Content-Length: 99999999999\r\n", b"413"),
        (b"X: " + b"x" * 70_000 + b"\r\n", b"413"),
        (b"no colon\r\n", b"400"),
    ],
)
def test_a_request_that_is_not_sound(open_to_all: Running, headers: bytes, status: bytes) -> None:
    request = b"PUT /python/acme-core/acme_core-1.0.tar.gz HTTP/1.1\r\nHost: localhost\r\n"
    answer = open_to_all.say(request + headers + b"\r\n")
    assert answer.split()[1] == status, answer


def chunked(*bodies: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x;x=y\r\n%s\r\n" % (len(body), body) for body in bodies) + end


def put(name: str, version: str = "1.1") -> bytes:
    begin = f"PUT /python/acme-core/{name} HTTP/{version}\r\nHost: localhost\r\n"
    return begin.encode() + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_an_upload_in_chunks(open_to_all: Running, tmp_path: Path, size: int) -> None:
    """Another request may follow it on the same connection."""
    wheel = wheels.wheel(tmp_path)
    body = wheel.read_bytes()
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    after = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    sent = put(wheel.name) + chunked(*parts, end=b"0\r\nX-Sum: 1\r\n\r\n")
    answer = open_to_all.say(sent + after)
    assert answer.startswith(b"HTTP/1.1 201 "), answer
    assert answer.endswith(b"healthy\n")
    with open_to_all.depot.open(wheel.name).file as held:
        assert held.read() == body


@pytest.mark.parametrize(
    "sent",
    [
        b"5\r\nabc",
        b"-5\r\nabcde\r\n0\r\n\r\n",
        b"0x5\r\nabcde\r\n0\r\n\r\n",
        b"5\nabcde\r\n0\r\n\r\n",
        b"5\r\nabcdefg\r\n0\r\n\r\n",
        b"fffffffffffffffffffff\r\nabc",
        b"0\r\n" + b"X: y\r\n" * 200,
        b"5" + b" " * 70_000 + b"\r\nabcde\r\n0\r\n\r\n",
    ],
)
def test_chunks_that_are_not_sound(open_to_all: Running, sent: bytes) -> None:
    """What follows them is no request."""
    with open_to_all.connect() as connection:
        connection.sendall(put("acme_core-1.0.tar.gz") + sent)
        connection.shutdown(socket.SHUT_WR)
        answer = everything(connection)
    assert answer.split()[1] == b"400", answer
    assert answer.count(b"HTTP/1.1") == 1
    assert open_to_all.depot.projects() == []


def test_chunks_that_never_end(tmp_path: Path) -> None:
    settings = Settings(insecure=True, threads=2, max_upload=100_000)
    with Running(tmp_path, settings) as running, running.connect() as connection:
        connection.sendall(put("acme_core-1.0.tar.gz") + chunked(bytes(90_000), bytes(90_000)))
        assert everything(connection).split()[1] == b"413"


def test_no_request_hides_in_the_body_of_another(open_to_all: Running) -> None:
    hidden = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    begin = b"GET /health HTTP/1.%d\r\nHost: localhost\r\n%s\r\n\r\n"
    for minor, length in [(1, b"Transfer-Encoding: chunked"), (0, b"Transfer-Encoding: chunked")]:
        answer = open_to_all.say(begin % (minor, length) + chunked(hidden) + hidden)
        assert b"requests_total" not in answer
        assert answer.count(b"HTTP/1.1 ") == 1


def test_a_body_that_ends_early(open_to_all: Running) -> None:
    request = b"PUT /python/acme-core/acme_core-1.0.tar.gz HTTP/1.1\r\nHost: localhost\r\n"
    with open_to_all.connect() as connection:
        connection.sendall(request + b"Content-Length: 100\r\n\r\nabc")
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection).split()[1] == b"400"
    assert open_to_all.depot.projects() == []


def test_silent_and_slow_clients_keep_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are more of them than threads: some say nothing, some begin and don't go on."""
    monkeypatch.setattr(connections, "_PATIENCE", 0.5)
    monkeypatch.setattr(connections, "_LOOK", 0.1)
    with Running(tmp_path, Settings(insecure=True, threads=2)) as running:
        silent = [running.connect() for _ in range(5)]
        assert running.ask("GET", "/health")[0] == 200
        for connection in silent:
            connection.sendall(b"GET /health HTTP/1.1\r\n")
        assert running.ask("GET", "/health")[0] == 200
        for connection in silent:
            assert everything(connection)[:12] in {b"", b"HTTP/1.1 400", b"HTTP/1.1 408"}
            connection.close()


def test_a_browser_on_the_same_machine(tmp_path: Path) -> None:
    """A page whose name leads to 127.0.0.1 can't read what needs no token."""
    with Running(tmp_path, Settings(), write=False) as running:
        for host, status in [
            ("127.0.0.1", 200),
            (f"localhost:{running.port}", 200),
            ("evil.example", 421),
            (f"evil.example:{running.port}", 421),
        ]:
            assert running.ask("GET", "/python/simple/", Host=host)[0] == status


def test_the_last_proxy_tells_the_address(tmp_path: Path, tokens: Path) -> None:
    settings = Settings(tokens=tokens, proxies=1, host="0.0.0.0")
    with Running(tmp_path, settings) as running:
        forged = {"X-Forwarded-For": "9.9.9.9, 192.0.2.1", "X_Forwarded_For": "9.9.9.9"}
        assert running.ask("GET", "/python/simple/", **forged)[0] == 401
    (line,) = [json.loads(x) for x in running.logged.getvalue().splitlines() if "request" in x]
    assert line["address"] == "192.0.2.1"


@pytest.mark.parametrize(
    ("settings", "write"),
    [
        (Settings(host="0.0.0.0"), False),
        (Settings(host="::"), False),
        (Settings(host="example.org", tokens=Path("tokens")), False),
        (Settings(host="0.0.0.0", certificate=Path("c"), key=Path("k")), False),
        (Settings(certificate=Path("c")), False),
        (Settings(), True),
        (Settings(proxies=1), True),
    ],
)
def test_what_others_could_read_or_change_is_not_served(settings: Settings, write: bool) -> None:
    with pytest.raises(errors.UsageError):
        serving.check(settings, write=write)
    if settings.key or not settings.certificate:
        serving.check(settings._replace(insecure=True), write=write)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(host="localhost"),
        Settings(host="::1"),
        Settings(host="127.8.9.1"),
        Settings(host="0.0.0.0", proxies=1),
        Settings(host="0.0.0.0", certificate=Path("c"), key=Path("k"), tokens=Path("t")),
    ],
)
def test_what_is_safe_is_served(settings: Settings) -> None:
    serving.check(settings, write=False)


def test_tls_and_a_reload(tmp_path: Path, tokens: Path) -> None:
    """A client that shakes no hands keeps nobody waiting; a mistake leaves all as it is."""
    first, second = (tmp_path / name for name in ("first", "second"))
    for directory in (first, second):
        directory.mkdir()
        self_signed(directory)
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def install(directory: Path) -> None:
        for file in (certificate, key):
            file.write_bytes((directory / "server.pem").read_bytes())

    def served() -> bytes:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with running.connect() as plain, context.wrap_socket(plain) as secure:
            shown = secure.getpeercert(binary_form=True) or b""
            secure.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert everything(secure).startswith(b"HTTP/1.1 200")
            return shown

    install(first)
    settings = Settings(tokens=tokens, certificate=certificate, key=key, threads=2)
    with Running(tmp_path, settings) as running:
        stalled = [running.connect() for _ in range(3)]
        before = served()
        install(second)
        tokens.write_text(auth.line_of("ci", "changed", write=True))
        running.service.reload()
        after = served()
        assert after != before
        key.write_bytes((first / "server.pem").read_bytes())
        running.service.reload()
        assert served() == after
        assert "not reloaded" in running.logged.getvalue()
        for connection in stalled:
            connection.close()


def test_a_signal_lets_uploads_end(
    tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody new is answered."""
    wheel = wheels.wheel(tmp_path)
    adding, go_on = threading.Event(), threading.Event()
    add = Depot.add

    def slow(self: Depot, *args: Any) -> Any:
        adding.set()
        assert go_on.wait(WAIT)
        return add(self, *args)

    monkeypatch.setattr(Depot, "add", slow)
    running = Running(tmp_path, Settings(tokens=tokens, threads=2))
    told: list[int] = []

    def upload() -> None:
        path = f"/python/acme-core/{wheel.name}"
        headers = {"Authorization": "Bearer secret"}
        told.append(running.ask("PUT", path, wheel.read_bytes(), **headers)[0])
        ended.set()

    ended = threading.Event()

    def conduct() -> None:
        threading.Thread(target=upload).start()
        assert adding.wait(WAIT)
        signal.raise_signal(signal.SIGTERM)
        go_on.set()

    serving.run(running.service, lambda: threading.Thread(target=conduct).start())
    assert ended.wait(WAIT)
    assert told == [201]
    with pytest.raises(OSError, match=r".*"):
        running.ask("GET", "/health")


def test_a_port_that_is_taken(open_to_all: Running, tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    settings = Settings(port=open_to_all.port)
    service = Service(settings, state.of_directory(directory), log=Log(io.StringIO()))
    told = r"can't listen on 127\.0\.0\.1:\d+: Address[^\])]*$"
    with pytest.raises(errors.UsageError, match=told):
        service.start()


def test_an_encrypted_key_is_refused_at_once(tmp_path: Path) -> None:
    """No question on a terminal holds the server up."""
    self_signed(tmp_path)
    key = tmp_path / "key.pem"
    held = load_pem_private_key((tmp_path / "server.pem").read_bytes(), None)
    secret = BestAvailableEncryption(b"secret")
    key.write_bytes(held.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    with pytest.raises(errors.BadConfig):
        connections.Certificate(tmp_path / "server.pem", key)
