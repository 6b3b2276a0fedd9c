"""Servers that fail in the middle: every driver tells what happened, none gives half a file."""
# ruff: noqa: N815 (http.server names its methods so)

from __future__ import annotations

import base64
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from typing import NamedTuple

import google_crc32c
import pytest
import servers

from dorky import errors
from dorky.drivers import connection
from dorky.drivers.base import Driver, Version
from dorky.drivers.gcs import GCSDriver
from dorky.drivers.retry import Retrying
from dorky.drivers.s3 import S3Driver

WHOLE = b"0123456789"
CRC = base64.b64encode(google_crc32c.Checksum(WHOLE).digest()).decode()
HEADERS = {"ETag": '"x"', "x-goog-generation": "1", "x-goog-hash": f"crc32c={CRC}"}


class Request(BaseHTTPRequestHandler):
    """One request, and what a server may do with it."""

    protocol_version = "HTTP/1.1"
    act: Callable[[Request], None]
    asked: list[str]
    over: threading.Event

    def handle_any(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append(self.command)
        type(self).act(self)
        self.wfile.flush()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    def log_message(self, *args: object) -> None:
        """Not to stderr."""

    def begin(self, status: int, **headers: str) -> None:
        if status == 200 and "Range" in self.headers:
            status, headers = 206, {**headers, "Content_Range": "bytes 0-9/10"}
        self.send_response(status)
        for name, value in {**HEADERS, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.begin(status, Content_Length=str(len(body)), **headers)
        self.wfile.write(body)

    def reset(self) -> None:
        """End the connection as a crash or a firewall does."""
        self.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        self.close_connection = True


class Place(NamedTuple):
    """A faulty server, a driver that talks to it, and what it was asked."""

    driver: Driver
    asked: list[str]


Serve = Callable[[Callable[[Request], None]], "contextlib.AbstractContextManager[Place]"]


@pytest.fixture(params=["s3", "gcs"])
def serve(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Starts a server; the driver's patience with one that is silent is 0.1 seconds."""

    def driver_at(endpoint: str, *, silent: bool) -> Driver:
        waits = {"read_timeout": "0.1"} if silent else {}
        if request.param == "gcs":
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
            return GCSDriver.open("gs://bucket/prefix", waits)
        return S3Driver.open("s3://bucket/prefix", {**servers.s3_options(endpoint), **waits})

    @contextlib.contextmanager
    def started(act: Callable[[Request], None]) -> Iterator[Place]:
        over = threading.Event()
        handler = type("Handler", (Request,), {"act": act, "asked": [], "over": over})
        with servers.serving(handler) as endpoint:
            try:
                silent = act in {silence, half_a_header, stall}
                yield Place(driver_at(endpoint, silent=silent), handler.asked)
            finally:
                over.set()

    return started


def came_once(asked: list[str]) -> bool:
    """Whether one request came; the server may be slower than the driver's patience."""
    ending = time.monotonic() + 20
    while not asked and time.monotonic() < ending:
        time.sleep(0.01)
    return len(asked) == 1


READS: dict[str, Callable[[Driver], object]] = {
    "get": lambda d: d.get("root"),
    "get_unless": lambda d: d.get("root", unless=Version("17")),
    "get_range": lambda d: d.get_range("packs/a", 0, 10),
    "list": lambda d: list(d.list("packs/")),
}
SWAPS: dict[str, Callable[[Driver], object]] = {
    "create": lambda d: d.swap("root", b"x", expected=None),
    "update": lambda d: d.swap("root", b"x", expected=Version("17")),
}
WRITES: dict[str, Callable[[Driver], object]] = {
    **SWAPS,
    "put": lambda d: d.put("packs/a", b"x"),
    "delete": lambda d: d.delete(["packs/a"]),
}
CALLS = {**READS, **WRITES}


def test_a_server_without_faults(serve: Serve) -> None:
    """What is cut off below is read when it is whole."""
    with serve(lambda request: request.answer(200, WHOLE)) as (driver, _):
        blob = driver.get("root")
        assert blob
        assert blob.data == driver.get_range("packs/a", 0, 10) == WHOLE


# --- answers that break off -----------------------------------------------------------------


def hang_up(request: Request) -> None:
    request.close_connection = True


def cut(request: Request) -> None:
    request.begin(200, Content_Length="10")
    request.wfile.write(WHOLE[:5])
    request.close_connection = True


def cut_chunks(request: Request) -> None:
    request.begin(200, Transfer_Encoding="chunked")
    request.wfile.write(b"5\r\n01234\r\n")
    request.close_connection = True


def reset_within(request: Request) -> None:
    request.begin(200, Content_Length="10")
    request.wfile.write(WHOLE[:5])
    request.reset()


def stall(request: Request) -> None:
    request.begin(200, Content_Length="10")
    request.wfile.write(WHOLE[:5])
    request.wfile.flush()
    request.over.wait(60)


def silence(request: Request) -> None:
    request.over.wait(60)
    request.close_connection = True


def half_a_header(request: Request) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    request.wfile.flush()
    request.over.wait(60)
    request.close_connection = True


@pytest.mark.parametrize("act", [hang_up, Request.reset, silence, half_a_header])
def test_no_answer(serve: Serve, act: Callable[[Request], None]) -> None:
    """Whatever was asked: it is told soon, may pass, and was sent once."""
    with serve(act) as (driver, asked):
        for name, call in CALLS.items():
            asked.clear()
            began = time.monotonic()
            with pytest.raises(errors.Unreachable) as caught:
                call(driver)
            assert time.monotonic() - began < 20, name
            assert not caught.value.lasting
            assert came_once(asked), name


@pytest.mark.parametrize("act", [cut, cut_chunks, reset_within, stall])
def test_half_an_answer(serve: Serve, act: Callable[[Request], None]) -> None:
    with serve(act) as (driver, asked):
        for name, call in READS.items():
            asked.clear()
            began = time.monotonic()
            with pytest.raises((errors.Unreachable, errors.BadEndpoint)) as caught:
                call(driver)
            assert time.monotonic() - began < 20, name
            assert came_once(asked), name
            # obstore wants every object's length announced.
            assert isinstance(caught.value, errors.Unreachable) or act is cut_chunks


@pytest.mark.parametrize("act", [cut, cut_chunks, reset_within, stall])
def test_half_an_answer_to_a_write(serve: Serve, act: Callable[[Request], None]) -> None:
    """It may say enough; if it does not, the error is one that tells that nothing is known."""
    with serve(act) as (driver, asked):
        for name, call in SWAPS.items():
            asked.clear()
            began = time.monotonic()
            with contextlib.suppress(errors.Unreachable, errors.BadEndpoint):
                call(driver)
            assert time.monotonic() - began < 20, name
            assert came_once(asked), name


def test_bytes_without_an_end(serve: Serve) -> None:
    """No length is announced, and the end is the end of the connection: anything may be missing."""

    def act(request: Request) -> None:
        request.begin(200, Connection="close")
        request.wfile.write(WHOLE[:5])
        request.close_connection = True

    with serve(act) as (driver, _):
        for name in ("get", "get_range"):
            with pytest.raises((errors.Unreachable, errors.BadEndpoint)):
                READS[name](driver)


# --- answers that say no --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (408, errors.ServiceUnavailableError),
        (409, errors.ServiceUnavailableError),
        (429, errors.RateLimitedError),
        (500, errors.InternalServerError),
        (502, errors.ServiceUnavailableError),
        (503, errors.ServiceUnavailableError),
        (504, errors.ServiceUnavailableError),
        (412, errors.PreconditionFailed),
    ],
)
def test_statuses(serve: Serve, status: int, kind: type[errors.DorkyError]) -> None:
    """A swap is sent once, whatever the answer; the client's own retries are off everywhere."""
    with serve(lambda request: request.answer(status)) as (driver, asked):
        for name, call in (SWAPS if status == 412 else CALLS).items():
            asked.clear()
            with pytest.raises(kind) as caught:
                call(driver)
            assert type(caught.value) is kind, name
            assert came_once(asked), name


def test_a_swap_on_a_used_connection_is_sent_once(serve: Serve) -> None:
    """A client that finds its connection closed is tempted to send again what it had sent."""

    def act(request: Request) -> None:
        if len(request.asked) > 1:
            request.reset()
        else:
            request.answer(200, WHOLE)

    with serve(act) as (driver, asked):
        driver.get("root")
        with pytest.raises(errors.Unreachable):
            driver.swap("root", b"x", expected=None)
        assert len(asked) == 2


def test_what_is_busy_for_a_while_is_asked_again(serve: Serve) -> None:
    def act(request: Request) -> None:
        {1: lambda: request.answer(503), 2: request.reset, 3: lambda: request.answer(429)}.get(
            len(request.asked), lambda: request.answer(404, b"No such object: x")
        )()

    slept: list[float] = []
    with serve(act) as (driver, asked):
        with pytest.raises((errors.KeyNotFound, errors.BadEndpoint)):
            Retrying(driver, sleep=slept.append).get("root")
        assert len(asked) == 4
    assert len(slept) == 3


# --- Retry-After ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("after", "now", "seconds"),
    [
        ("7", "", 7),
        ("0", "", 0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 30),
        ("Wed, 21 Oct 2026 07:27:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 0),
        ("soon", "", None),
        ("-5", "", None),
        ("٣", "", None),
        ("", "", None),
    ],
)
def test_google_says_when(status: int, after: str, now: str, seconds: float | None) -> None:
    headers = {"Retry-After": after, "Date": now} if now else {"Retry-After": after}
    assert connection.retry_after(headers) == seconds


def test_google_says_when_by_our_clock() -> None:
    """If it does not tell what time it thinks it is."""
    then = datetime.now(timezone.utc) + timedelta(seconds=60)
    found = connection.retry_after({"Retry-After": format_datetime(then, usegmt=True)})
    assert found is not None
    assert 50 < found <= 60


@pytest.mark.parametrize("serve", ["gcs"], indirect=True)
def test_a_date_over_the_wire(serve: Serve) -> None:
    def act(request: Request) -> None:
        later = datetime.now(timezone.utc) + timedelta(seconds=20)
        request.answer(429, Retry_After=format_datetime(later, usegmt=True))

    with serve(act) as (driver, _), pytest.raises(errors.ServerBusy) as caught:
        driver.get("root")
    assert caught.value.retry_after is not None
    assert 15 <= caught.value.retry_after <= 21


@pytest.mark.parametrize("serve", ["s3"], indirect=True)
def test_obstore_keeps_the_header_to_itself(serve: Serve) -> None:
    """So S3 gets the backoff alone. Should this fail one day, the driver can pass it on."""
    with (
        serve(lambda request: request.answer(503, Retry_After="7")) as (driver, _),
        pytest.raises(errors.ServerBusy) as caught,
    ):
        driver.get("root")
    assert caught.value.retry_after is None
    assert "retry-after" not in str(caught.value.__cause__).lower()
