"""The driver for https://: it reads what a web server shows, and leads to no other host."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import servers
from credentials import self_signed
from servers import Canned, answering, stub_server
from web import Web, web_server

from dorky import errors
from dorky.drivers import addresses, http, open_driver
from dorky.drivers.base import Driver, Version
from dorky.drivers.http import HTTPDriver
from dorky.testing import ReadOnlyConformance

LOCAL = {"private_hosts": "localhost, 127.0.0.1,[::1]"}
ETAG = {"ETag": '"x"'}


def driver_at(url: str, **options: str) -> HTTPDriver:
    return HTTPDriver.open(url, {**LOCAL, **options})


class Conformance(ReadOnlyConformance):
    @pytest.fixture(autouse=True)
    def server(self, tmp_path: Path) -> Iterator[None]:
        self.directory = tmp_path
        with self.serve(tmp_path) as web:
            self.web = web
            yield

    def serve(self, directory: Path) -> Any:
        return web_server(directory)

    def make_driver(self, objects: Mapping[str, bytes]) -> Driver:
        place = uuid.uuid4().hex
        for key, data in objects.items():
            path = self.directory / place / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return driver_at(f"{self.web.url}/{place}")

    def change(self, driver: Driver, key: str, data: bytes) -> None:
        (self.directory / driver.url.rpartition("/")[2] / key).write_bytes(data)


class TestWithETags(Conformance):
    pass


class TestWithDatesAlone(Conformance):
    """As of `python -m http.server`."""

    def serve(self, directory: Path) -> Any:
        return web_server(directory, etags=False, ranges=False)


class TestWithNothing(Conformance):
    def serve(self, directory: Path) -> Any:
        return web_server(directory, etags=False, dates=False, ranges=False)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with web_server(tmp_path / "www") as found:
        (tmp_path / "www").mkdir()
        yield found


# --- URLs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("HTTPS://Example.ORG/Data/x/", "https://example.org/Data/x"),
        ("https://example.org:443", "https://example.org"),
        ("https://example.org:8443/a%20b", "https://example.org:8443/a%20b"),
        ("https://[2001:db8::1]/x", "https://[2001:db8::1]/x"),
        ("http://localhost:8000/x", "http://localhost:8000/x"),
        ("http://127.0.0.1/x", "http://127.0.0.1/x"),
    ],
)
def test_urls(url: str, normal: str) -> None:
    assert open_driver(url, {}).url == normal


@pytest.mark.parametrize(
    "url",
    [
        "https://",
        "https:///x",
        "https://example.org/../x",
        "https://example.org/a/%2e%2e/x",
        "https://example.org//x",
        "https://example.org/x?token=1",
        "https://example.org/x#y",
        "https://example.org/a b",
        "https://example.org/a\r\nX: y",
        "https://example.org:0/x",
        "https://example.org:99999/x",
        "https://exa mple.org/x",
        "https://-example.org/x",
        f"https://{'a' * 64}.org/x",
        "https://a..org/x",
        "http://example.org/x",
        "http://10.0.0.1/x",
        "http://localhost.example.org/x",
        "http://127.0.0.1.example.org/x",
    ],
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(errors.BadURL):
        open_driver(url, {})


@pytest.mark.parametrize("url", ["https://user:secret@example.org/x", "https://secret@h.org"])
def test_no_url_holds_credentials_and_no_error_shows_them(url: str) -> None:
    for opened in (lambda: open_driver(url, {}), lambda: HTTPDriver.open(url, {})):
        with pytest.raises(errors.BadURL) as raised:
            opened()
        assert "secret" not in str(raised.value)


# --- private addresses ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.251",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::a9fe:a9fe",
        "2001:0:0:0:0:0:80ff:fffe",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not addresses.is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f::1", "64:ff9b::5db8:d70e"])
def test_addresses_that_are(address: str) -> None:
    assert addresses.is_public(address)


def resolving(monkeypatch: pytest.MonkeyPatch, *found: str) -> list[str]:
    """Let every name resolve to these addresses; return the names that are asked for."""
    asked = []

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        family = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(family[":" in at], socket.SOCK_STREAM, 6, "", (at, port)) for at in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_no_name_leads_to_a_private_address(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    port = web.url.rpartition(":")[2]
    asked = resolving(monkeypatch, "127.0.0.1", "::ffff:127.0.0.1", "10.0.0.1")
    driver = HTTPDriver.open(f"https://rebound.example.org:{port}/x", {})
    with pytest.raises(errors.PrivateHost, match=r"rebound\.example\.org"):
        driver.get("root")
    with pytest.raises(errors.PrivateHost):
        driver.get_range("packs/x", 0, 1)
    assert asked == ["rebound.example.org"] * 2
    assert not web.log
    # The name that is allowed is one, not all of them.
    others = {"private_hosts": "example.org,other.example.org"}
    with pytest.raises(errors.PrivateHost):
        HTTPDriver.open(f"https://rebound.example.org:{port}/x", others).get("root")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "2130706433", "0x7f.1", "0"])
def test_loopback_is_reached_only_if_the_user_names_it(web: Web, host: str) -> None:
    port = web.url.rpartition(":")[2]
    with pytest.raises((errors.PrivateHost, errors.Unreachable)):
        HTTPDriver.open(f"https://{host}:{port}/x", {}).get("root")
    if not host[0].isdigit() or host.count(".") == 3:
        with pytest.raises(errors.PrivateHost):
            HTTPDriver.open(f"http://{host}:{port}/x", {}).get("root")
    assert not web.log


def test_a_name_of_loopback_that_resolves_elsewhere_gets_nothing_unencrypted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolving(monkeypatch, "93.184.215.14")
    with pytest.raises(errors.PrivateHost):
        driver_at("http://localhost:1/x").get("root")


# --- redirects ------------------------------------------------------------------------------


def test_redirects_stay_on_the_host(tmp_path: Path) -> None:
    with web_server(tmp_path) as other:
        (tmp_path / "root").write_bytes(b"elsewhere")
        targets = [
            f"{other.url}/root",
            other.url.replace("http://127.0.0.1", "http://localhost") + "/root",
            other.url.replace("http://", "//") + "/root",
            "http://169.254.169.254/latest",
            "file:///etc/passwd",
            "https://example.org:99999999/x",
            "",
        ]
        for target in targets:

            def answer(_: str, path: str, *, target: str = target) -> Canned:
                return Canned(302, "", {"Location": target})

            with stub_server(answer) as server:
                with pytest.raises(errors.BadEndpoint, match="redirects"):
                    driver_at(f"{server.endpoint}/x").get("root")
                if target:
                    assert server.log == [("GET", "/x/root")]
        assert not other.log


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_on_the_host_are_followed(status: int) -> None:
    def answer(_: str, path: str) -> Canned:
        if path == "/x/root":
            return Canned(status, "away", {"Location": "/y/root?v=1"})
        return Canned(200, b"found", ETAG)

    with stub_server(answer) as server:
        assert driver_at(f"{server.endpoint}/x").get("root") == (b"found", '"x"')
        assert server.log == [("GET", "/x/root"), ("GET", "/y/root")]
        same = Canned(status, "", {"Location": f"{server.endpoint}/y/root"})
        with stub_server(lambda _, path: same if path == "/x/root" else Canned(200, b"z", ETAG)):
            assert driver_at(f"{server.endpoint}/x").get("root") == (b"found", '"x"')


def test_redirects_end() -> None:
    with stub_server(lambda *_: Canned(302, "", {"Location": "/x/root"})) as server:
        with pytest.raises(errors.BadEndpoint, match="again and again"):
            driver_at(f"{server.endpoint}/x").get("root")
        assert len(server.log) < 10


# --- versions -------------------------------------------------------------------------------


def dated(seconds: float, **headers: str) -> dict[str, str]:
    """Return the headers of an object that was changed ``seconds`` before it was asked for."""
    now = 1_700_000_000
    found = {"Date": formatdate(now, usegmt=True), **headers}
    return {**found, "Last-Modified": formatdate(now - seconds, usegmt=True)}


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({"ETag": '"abc"'}, '"abc"'),
        ({"ETag": 'W/"abc"'}, 'W/"abc"'),
        (dated(1, ETag='"abc"'), '"abc"'),
        (dated(3), "date "),
        (dated(2), "sha256 "),  # it may change once more in that second
        (dated(-5), "sha256 "),
        (dated(3, ETag='W/"abc"'), 'W/"abc"'),
        (dated(2, ETag='W/"abc"'), "sha256 "),
        (dated(3, ETag='"65536fe0-1000"'), '"65536fe0-1000"'),
        (dated(1, ETag='"65536fe0-1000"'), "sha256 "),  # nginx: the second, and the size
        ({"ETag": "no quotation marks"}, "sha256 "),
        ({"ETag": '"' + "a" * 9999 + '"'}, "sha256 "),
        ({"ETag": '"tab\t"'}, "sha256 "),
        ({"Last-Modified": "yesterday"}, "sha256 "),
        ({}, "sha256 "),
    ],
)
def test_versions(headers: dict[str, str], kind: str) -> None:
    from http.client import HTTPMessage

    message = HTTPMessage()
    for name, value in headers.items():
        message[name] = value
    assert http._version(message, b"data").startswith(kind)


def test_an_unchanged_root_is_not_sent_again(web: Web, tmp_path: Path) -> None:
    (tmp_path / "www" / "root").write_bytes(b"one")
    driver = driver_at(web.url)
    blob = driver.get("root")
    assert blob
    assert driver.get("root", unless=blob.version) is None
    assert web.statuses == [200, 304]
    (tmp_path / "www" / "root").write_bytes(b"two")
    newer = driver.get("root", unless=blob.version)
    assert newer
    assert newer.data == b"two"


def test_a_date_of_long_ago_saves_the_transfer(tmp_path: Path) -> None:
    with web_server(tmp_path, etags=False) as web:
        (tmp_path / "root").write_bytes(b"one")
        os.utime(tmp_path / "root", (1e9, 1e9))
        driver = driver_at(web.url)
        blob = driver.get("root")
        assert blob
        assert driver.get("root", unless=blob.version) is None
        assert web.statuses == [200, 304]
        # Of another change in that second nobody could tell by its date.
        (tmp_path / "root").write_bytes(b"two")
        found = driver.get("root", unless=blob.version)
        assert found
        assert found.data == b"two"
        assert found.version.startswith("sha256 ")
        assert driver.get("root", unless=found.version) is None
        assert web.statuses[2:] == [200, 200]


def test_versions_of_other_stores_do_no_harm(web: Web, tmp_path: Path) -> None:
    (tmp_path / "www" / "root").write_bytes(b"one")
    blob = driver_at(web.url).get("root", unless=Version("1700000000"))
    assert blob
    assert blob.data == b"one"


# --- parts ----------------------------------------------------------------------------------


def test_a_part_is_all_that_is_transferred(web: Web, tmp_path: Path) -> None:
    (tmp_path / "www" / "pack").write_bytes(bytes(1 << 20))
    assert driver_at(web.url).get_range("pack", 1000, 1010) == bytes(10)
    assert web.log.down == 10


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (206, {}, b"12345"),
        (206, {"Content-Range": "bytes 0-4/9"}, b"12345"),
        (206, {"Content-Range": "bytes 3-9/9"}, b"12345"),
        (206, {"Content-Range": "bytes 3-7/9"}, b"1234"),
        (206, {"Content-Range": "bytes 3-7/9"}, b"123456"),
        (206, {"Content-Range": "bytes */9"}, b"12345"),
        (206, {"Content-Type": "multipart/byteranges; boundary=x"}, b"12345"),
        (416, {"Content-Range": "bytes */2"}, b""),
        (200, {}, b"1234567"),
        (200, {"Content-Encoding": "gzip"}, b"1" * 20),
        (200, {"Content-Type": "text/html"}, b"<html>" * 20),
        (204, {}, b""),
        (304, {}, b""),
    ],
)
def test_wrong_parts_are_refused(status: int, headers: dict[str, str], body: bytes) -> None:
    answer = Canned(status, body, headers)
    with stub_server(lambda *_: answer) as server, pytest.raises(errors.BadEndpoint):
        driver_at(server.endpoint).get_range("pack", 3, 8)


def test_a_part_is_no_whole_object() -> None:
    part = Canned(206, b"12345", {"Content-Range": "bytes 0-4/9", **ETAG})
    with stub_server(lambda *_: part) as server, pytest.raises(errors.BadEndpoint):
        driver_at(server.endpoint).get("root")


# --- what servers answer --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.AccessDenied),
        (403, errors.AccessDenied),
        (404, errors.KeyNotFound),
        (410, errors.KeyNotFound),
        (429, errors.RateLimitedError),
        (500, errors.InternalServerError),
        (503, errors.ServiceUnavailableError),
        (304, errors.BadEndpoint),
        (418, errors.BadEndpoint),
        (204, errors.BadEndpoint),
    ],
)
def test_answers(status: int, kind: type[errors.DorkyError]) -> None:
    with stub_server(lambda *_: Canned(status, "<html>no", {"Retry-After": "7"})) as server:
        for asked in (
            lambda driver: driver.get("root"),
            lambda driver: driver.get_range("packs/x", 0, 1),
        ):
            with pytest.raises(kind) as raised:
                asked(driver_at(server.endpoint))
            if isinstance(raised.value, errors.ServerBusy):
                assert raised.value.retry_after == 7


def test_a_web_page_is_no_root() -> None:
    page = Canned(200, "<html>log in", {"Content-Type": "text/html; charset=utf-8"})
    with (
        stub_server(lambda *_: page) as server,
        pytest.raises(errors.BadEndpoint, match="web page"),
    ):
        driver_at(server.endpoint).get("root")


# --- hostile servers ------------------------------------------------------------------------


def endless(handler: Any) -> None:
    servers.send(handler, 200, {}, servers.at_most(4096))


def chunked(handler: Any) -> None:
    servers.send(handler, 200, {"Transfer-Encoding": "chunked"}, servers.at_most(4096))


def negative(handler: Any) -> None:
    servers.send(handler, 200, {"Transfer-Encoding": "chunked"}, iter(()))
    handler.wfile.write(b"-1\r\n")
    for block in servers.at_most(4096):
        handler.wfile.write(block)


def announced(handler: Any) -> None:
    servers.send(handler, 200, {"Content-Length": servers.HUGE}, servers.at_most(4096))


@pytest.mark.parametrize("act", [endless, chunked, negative, announced])
def test_bodies_are_bounded(act: Callable[[Any], None]) -> None:
    written = []

    def counted(handler: Any) -> None:
        write = handler.wfile.write

        def noting(data: bytes) -> None:
            write(data)
            written.append(len(data))

        handler.wfile.write = noting
        act(handler)

    with answering(counted) as endpoint:
        driver = driver_at(endpoint)
        with pytest.raises((errors.TooLarge, errors.BadEndpoint)):
            driver.get("root", limit=1000)
        with contextlib.suppress(errors.BadEndpoint):
            assert len(driver.get_range("pack", 5, 1000)) == 995
        assert sum(written) < 100 << 20


def many_headers(handler: Any) -> None:
    servers.send(handler, 200, {f"X-{n}": "x" for n in range(2000)}, iter([b"x"]))


def long_header(handler: Any) -> None:
    servers.send(handler, 200, {"X": "x" * (10 << 20)}, iter([b"x"]))


def long_status(handler: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 " + b"x" * (10 << 20) + b"\r\n\r\n")


def garbage(handler: Any) -> None:
    handler.wfile.write(b"220 smtp.example.org ready\r\n")


def bad_chunks(handler: Any) -> None:
    servers.send(handler, 200, {"Transfer-Encoding": "chunked"}, iter(()))
    handler.wfile.write(b"zz\r\nxxx")


@pytest.mark.parametrize("act", [many_headers, long_header, long_status, garbage, bad_chunks])
def test_answers_that_are_none(act: Callable[[Any], None]) -> None:
    with answering(act) as endpoint:
        for asked in (
            lambda driver: driver.get("root"),
            lambda driver: driver.get_range("packs/x", 0, 1),
        ):
            with pytest.raises((errors.BadEndpoint, errors.Unreachable)):
                asked(driver_at(endpoint))


def cut_off(handler: Any) -> None:
    servers.send(handler, 200, {"Content-Length": "1000"}, iter([bytes(999)]))


def test_an_answer_that_is_cut_off_is_asked_for_again() -> None:
    with answering(cut_off) as endpoint:
        with pytest.raises(errors.Unreachable) as raised:
            driver_at(endpoint).get("root")
        assert raised.value.retryable


def dripping_headers(handler: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for n in range(1000):
        handler.wfile.write(b"X-%d: 1\r\n" % (n % 50))
        time.sleep(0.05)


def dripping_body(handler: Any) -> None:
    servers.send(handler, 200, {"Content-Length": "1000"}, iter(()))
    for _ in range(1000):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def silent(_: Any) -> None:
    time.sleep(3)


@pytest.mark.parametrize("act", [dripping_headers, dripping_body, silent])
def test_slow_servers_are_given_up(
    act: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_LEAST", 0.3)
    with answering(act) as endpoint, pytest.raises((errors.TimeoutError, errors.BadEndpoint)):
        driver_at(endpoint).get("root", limit=1000)


# --- connections ----------------------------------------------------------------------------


def test_one_connection_serves_many_requests_and_survives_its_end(tmp_path: Path) -> None:
    (tmp_path / "root").write_bytes(b"one")
    made = []
    with web_server(tmp_path) as web:
        driver = driver_at(web.url)
        dial = driver._dialled
        driver._dialled = lambda: (made.append(1), dial())[1]  # type: ignore[method-assign]
        blob = driver.get("root")
        assert blob
        driver.get("root", unless=blob.version)
        driver.get_range("root", 1, 2)
        with pytest.raises(errors.KeyNotFound):
            driver.get("none")
        assert len(made) <= 2
        for kept in driver._idle:
            kept.sock.connected.shutdown(socket.SHUT_RDWR)
        assert driver.get("root") == blob


def test_a_forked_child_uses_no_connection_of_its_parent(web: Web, tmp_path: Path) -> None:
    (tmp_path / "www" / "root").write_bytes(b"one")
    driver = driver_at(web.url)
    driver.get("root")
    assert driver._idle
    child = os.fork()
    if child == 0:
        kept = driver._kept()
        blob = driver.get("root")
        os._exit(0 if kept is None and blob and blob.data == b"one" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert driver.get("root")


def test_many_threads(web: Web, tmp_path: Path) -> None:
    data = os.urandom(1 << 18)
    (tmp_path / "www" / "pack").write_bytes(data)
    driver = driver_at(web.url)
    found: list[bool] = []

    def read(n: int) -> None:
        for at in range(n, n + 2000, 100):
            found.append(driver.get_range("pack", at, at + 5000) == data[at : at + 5000])

    threads = [threading.Thread(target=read, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 8 * 20
    assert all(found)
    assert len(driver._idle) <= 4


# --- TLS ------------------------------------------------------------------------------------


def test_certificates(tmp_path: Path) -> None:
    bundle, context = self_signed(tmp_path)
    www = tmp_path / "www"
    www.mkdir()
    (www / "root").write_bytes(b"one")
    with web_server(www, tls=context) as web:
        blob = driver_at(web.url, ca_bundle=bundle).get("root")
        assert blob
        assert blob.data == b"one"
        with pytest.raises(errors.Unreachable, match="not trusted") as raised:
            driver_at(web.url).get("root")
        assert raised.value.lasting
        named = web.url.replace("127.0.0.1", "localhost")
        with pytest.raises(errors.Unreachable, match="another name"):
            driver_at(named, ca_bundle=bundle).get("root")
        with pytest.raises(errors.BadConfig):
            driver_at(web.url, ca_bundle=str(www / "root")).get("root")
        with pytest.raises(errors.UnreadableFile):
            driver_at(web.url, ca_bundle=str(www / "none")).get("root")
    with web_server(www) as plain, pytest.raises(errors.Unreachable, match="does not speak TLS"):
        driver_at(plain.url.replace("http:", "https:")).get("root")


def test_an_expired_certificate(tmp_path: Path) -> None:
    bundle, context = self_signed(tmp_path, days=-1)
    with (
        web_server(tmp_path, tls=context) as web,
        pytest.raises(errors.Unreachable, match="expired"),
    ):
        driver_at(web.url, ca_bundle=bundle).get("root")


# --- proxies --------------------------------------------------------------------------------


@contextlib.contextmanager
def proxy(status: bytes = b"200 OK") -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that connects whoever asks; yields its address, and what it was asked."""
    asked: list[bytes] = []

    def serve(client: socket.socket) -> None:
        with client:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)
            asked.append(head)
            client.sendall(b"HTTP/1.1 " + status + b"\r\nVia: proxy\r\n\r\n")
            if not status.startswith(b"2"):
                return
            _, _, port = head.split()[1].decode().rpartition(":")
            with socket.create_connection(("127.0.0.1", int(port)), 5) as server:
                back = threading.Thread(target=pump, args=(server, client), daemon=True)
                back.start()
                pump(client, server)
                back.join(10)

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", asked
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_a_proxy_is_asked_to_connect(tmp_path: Path) -> None:
    bundle, context = self_signed(tmp_path)
    www = tmp_path / "www"
    www.mkdir()
    (www / "root").write_bytes(b"one")
    with web_server(www, tls=context) as web, proxy() as (address, asked):
        options = {"ca_bundle": bundle, "tls_proxy": f"http://us%65r:pa%3Ass@{address}"}
        blob = driver_at(web.url, **options).get("root")
        assert blob
        assert blob.data == b"one"
        assert asked[0].startswith(f"CONNECT {web.url.removeprefix('https://')} HTTP".encode())
        assert b"Proxy-Authorization: Basic dXNlcjpwYTpzcw==" in asked[0]
        # A private host is one through a proxy, too.
        with pytest.raises(errors.PrivateHost):
            HTTPDriver.open(web.url, {**options, "private_hosts": ""}).get("root")
        assert driver_at(web.url, **options, no_proxy="127.0.0.1").get("root")
        assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "why"),
    [(b"407 No", "user and a password"), (b"403 No", "does not let"), (b"", "does not let")],
)
def test_a_proxy_that_refuses(status: bytes, why: str) -> None:
    with proxy(status) as (address, _):
        with pytest.raises(errors.Unreachable, match=why) as raised:
            driver_at("https://127.0.0.1:1/x", tls_proxy=f"http://u:secret@{address}").get("root")
        assert "secret" not in str(raised.value)


# --- advice ---------------------------------------------------------------------------------


def test_what_a_server_can_do_is_told(tmp_path: Path) -> None:
    (tmp_path / "root").write_bytes(bytes(100))
    with web_server(tmp_path) as web:
        found = {advice.name: advice.verdict for advice in driver_at(web.url).inspect(["root"])}
    assert found == {"ranges": "ok", "versions": "ok"}
    with web_server(tmp_path, ranges=False, etags=False, dates=False) as web:
        ranges, versions = driver_at(web.url).inspect(["root"])
    assert (ranges.verdict, "whole root" in versions.about) == ("warn", True)
