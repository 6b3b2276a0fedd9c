"""S3 servers that mean harm: endless answers, false lengths, redirects, regions that are hosts."""

from __future__ import annotations

import gzip
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import servers
from credentials import self_signed
from servers import HUGE, SUPPORT, Canned, answering, at_most, send

from dorky import errors
from dorky.drivers import open_driver
from dorky.drivers.base import LIMIT, Version
from dorky.drivers.s3 import S3Driver

MiB = 1 << 20


BODIES: dict[str, Callable[[Any], None]] = {
    "long": lambda h: send(h, 200, {"Content-Length": HUGE}, at_most(3 << 10)),
    "chunked": lambda h: send(h, 200, {"Transfer-Encoding": "chunked"}, at_most(3 << 10)),
    "closed": lambda h: send(h, 200, {"Connection": "close"}, at_most(3 << 10)),
    "lies": lambda h: send(
        h, 200, {"Content-Length": "10", "Transfer-Encoding": "chunked"}, at_most(3 << 10)
    ),
    "packed": lambda h: send(
        h, 200, {"Content-Encoding": "gzip", "Connection": "close"}, at_most(3 << 10)
    ),
    "range": lambda h: send(
        h, 206, {"Content-Range": f"bytes 0-9/{HUGE}", "Content-Length": HUGE}, at_most(3 << 10)
    ),
    "endless range": lambda h: send(
        h,
        206,
        {"Content-Range": "bytes 0-9/10", "Transfer-Encoding": "chunked"},
        at_most(3 << 10),
    ),
}

_PEAK = """
import resource, sys
from dorky import errors
from dorky.drivers import open_driver
import servers
driver = open_driver("s3://bucket/x", servers.s3_options(sys.argv[1])).driver
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
try:
    driver.put("a", b"")
except errors.DorkyError:
    pass
before = peak()
for call in (lambda: driver.get("root"), lambda: driver.get_range("packs/a", 0, 10)):
    try:
        print("took", len(call()))
    except errors.DorkyError as error:
        print(error.code)
print(peak() - before)
"""


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_no_body_fills_the_memory(body: Callable[[Any], None]) -> None:
    with answering(body) as endpoint:
        path = [*filter(None, sys.path), str(SUPPORT)]
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, endpoint],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    *codes, peak = done.stdout.splitlines()
    assert len(codes) == 2
    assert codes[0] in {"too-large", "bad-endpoint", "unreachable"}
    assert codes[1] in {"took 10", "bad-endpoint", "unreachable"}
    assert int(peak) < 40, "MiB"


def test_what_is_too_large_is_told_before_it_is_read() -> None:
    sent = []

    def act(handler: Any) -> None:
        send(handler, 200, {"Content-Length": HUGE}, iter(()))
        for _ in range(3 << 10):
            handler.wfile.write(bytes(MiB))
            sent.append(MiB)

    with answering(act) as endpoint:
        driver = open_driver("s3://bucket/x", servers.s3_options(endpoint))
        began = time.monotonic()
        with pytest.raises(errors.TooLarge, match=f"{LIMIT:,} bytes"):
            driver.get("root")
        assert time.monotonic() - began < 5
    assert sum(sent) < 64 * MiB


def test_a_compressed_body_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(64 * MiB))
    answer = Canned(200, bomb, {"ETag": '"x"', "Content-Encoding": "gzip"})
    with servers.stub_server(lambda method, target: answer) as server:
        blob = S3Driver.open("s3://bucket", servers.s3_options(server.endpoint)).get("root")
    assert blob
    assert blob.data == bomb


# --- lists ----------------------------------------------------------------------------------


def page(keys: list[str], *, size: str = "1", more: bool = True) -> str:
    contents = "".join(
        f"<Contents><Key>x/{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;e&quot;</ETag><Size>{size}</Size></Contents>"
        for key in keys
    )
    token = "<NextContinuationToken>t</NextContinuationToken>" if more else ""
    return (
        f"<ListBucketResult><Name>bucket</Name><KeyCount>{len(keys)}</KeyCount>"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{contents}{token}</ListBucketResult>"
    )


def test_a_list_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dorky.drivers.retry.LISTED", 5000)
    keys = itertools.count()

    def answer(method: str, target: str) -> Canned:
        return Canned(200, page([f"packs/{next(keys)}" for _ in range(1000)]))

    with servers.stub_server(answer) as server:
        driver = open_driver("s3://bucket/x", servers.s3_options(server.endpoint))
        with pytest.raises(errors.TooLarge, match="the list of packs/"):
            list(driver.list("packs/"))


def test_a_list_of_empty_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own: what asks for pages goes on until that ends."""
    program = (
        "import sys, servers\n"
        "from dorky import errors\n"
        "from dorky.drivers import s3\n"
        "s3._PAGE = 0.5\n"
        "driver = s3.S3Driver.open('s3://bucket/x', servers.s3_options(sys.argv[1]))\n"
        "try: print(list(driver.list('packs/')))\n"
        "except errors.Unreachable as error: print(error)\n"
    )
    with servers.stub_server(lambda method, target: Canned(200, page([]))) as server:
        path = [*filter(None, sys.path), str(SUPPORT)]
        done = subprocess.run(
            [sys.executable, "-c", program, server.endpoint],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    assert "its list does not end" in done.stdout


@pytest.mark.parametrize("size", ["-1", "x", str(1 << 70)])
def test_listed_sizes_that_can_not_be(size: str) -> None:
    answer = Canned(200, page(["packs/a"], size=size, more=False))
    with servers.stub_server(lambda method, target: answer) as server:
        driver = open_driver("s3://bucket/x", servers.s3_options(server.endpoint))
        with pytest.raises(errors.BadEndpoint):
            list(driver.list("packs/"))


def test_listed_keys_that_were_not_asked_for() -> None:
    keys = ["packs/" + "k" * 3000, "root", "packs/a"]
    answer = Canned(200, page(keys, more=False))
    with servers.stub_server(lambda method, target: answer) as server:
        driver = open_driver("s3://bucket/x", servers.s3_options(server.endpoint))
        assert [stat.key for stat in driver.list("packs/")] == ["packs/a"]


def test_a_listed_key_that_leaves_the_prefix() -> None:
    answer = Canned(200, page(["../../etc", "packs/a"], more=False))
    with servers.stub_server(lambda method, target: answer) as server:
        driver = open_driver("s3://bucket/x", servers.s3_options(server.endpoint))
        assert [stat.key for stat in driver.list("packs/")] == ["packs/a"]


# --- where requests go ----------------------------------------------------------------------

CALLS: dict[str, Callable[[S3Driver], object]] = {
    "get": lambda d: d.get("root"),
    "get_range": lambda d: d.get_range("packs/a", 0, 10),
    "put": lambda d: d.put("packs/a", b"x"),
    "swap": lambda d: d.swap("root", b"x", expected=Version('"etag"')),
    "list": lambda d: list(d.list("packs/")),
    "delete": lambda d: d.delete(["packs/a", "packs/b"]),
}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_where_a_redirect_leads(status: int) -> None:
    """obstore can't be kept from following (docs/decisions/0018): what goes along is this.

    Never the signature. Writes are not sent again. The question for a bucket's region, which is
    asked by hand, goes nowhere else.
    """
    asked: list[tuple[str, str, dict[str, str]]] = []

    def elsewhere(handler: Any) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        asked.append((handler.command, handler.path, headers))
        send(handler, 404, {"Content-Length": "0"}, iter(()))

    with answering(elsewhere) as other:

        def redirect(handler: Any) -> None:
            location = {"Location": other + handler.path, "Content-Length": "0"}
            send(handler, status, location, iter(()))

        with answering(redirect) as endpoint:
            options = {**servers.s3_options(endpoint), "session_token": "token"}
            driver = S3Driver.open("s3://bucket/x", options)
            for call in CALLS.values():
                with pytest.raises(errors.DorkyError):
                    call(driver)
    assert {method for method, _, _ in asked} <= {"GET", "POST"}
    assert not any("authorization" in headers for _, _, headers in asked)
    assert not any(path == "/bucket" for _, path, _ in asked)


def test_no_redirect_leads_out_of_tls(tmp_path: Any) -> None:
    asked: list[str] = []

    def elsewhere(handler: Any) -> None:
        asked.append(handler.path)
        send(handler, 404, {"Content-Length": "0"}, iter(()))

    bundle, context = self_signed(tmp_path)
    with answering(elsewhere) as other:
        answer = Canned(307, "", {"Location": f"{other}/bucket/x/root"})
        with servers.stub_server(lambda method, target: answer, tls=context) as server:
            options = {**servers.s3_options(server.endpoint), "ca_bundle": bundle}
            driver = S3Driver.open("s3://bucket/x", options)
            for call in CALLS.values():
                with pytest.raises(errors.DorkyError):
                    call(driver)
    assert asked == []


def test_an_endpoint_of_the_same_host_may_redirect() -> None:
    """Nothing is lost by it, so that servers which do it go on working."""

    def answer(method: str, target: str) -> Canned:
        if target.startswith("/moved"):
            return Canned(200, b"x", {"ETag": '"1"'})
        return Canned(307, "", {"Location": f"/moved{target}"})

    with servers.stub_server(answer) as server:
        blob = S3Driver.open("s3://bucket/x", servers.s3_options(server.endpoint)).get("root")
    assert blob
    assert blob.data == b"x"


@pytest.mark.parametrize(
    "region", ["us-east-1.evil.example/?", "evil.example#", "a@b", "x/y", "a b", "é", "x" * 65]
)
def test_a_region_is_no_host(region: str) -> None:
    options = {"access_key_id": "a", "secret_access_key": "b", "region": region}
    for call in CALLS.values():
        with pytest.raises(errors.BadConfig, match="no region is named"):
            call(S3Driver.open("s3://bucket/x", options))


@pytest.mark.parametrize("region", ["evil.example/?", "\x1b[2J", "x" * 1000])
def test_a_region_that_a_server_names_is_no_text_of_its_own(region: str) -> None:
    headers = {"x-amz-bucket-region": region.replace("\x1b", "?")}
    body = f"<Error><Code>PermanentRedirect</Code><Region>{region}</Region></Error>"
    with servers.stub_server(lambda method, target: Canned(400, body, headers)) as server:
        driver = S3Driver.open("s3://bucket", servers.s3_options(server.endpoint))
        with pytest.raises(errors.DorkyError) as caught:
            driver.get("root")
    assert region not in caught.value.message


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://169.254.169.254/latest/?",
        "http://h/#",
        "http://h/a b",
        "http://u:p@h",
        "http://h\\@g",
    ],
)
def test_endpoints_that_hide_another_request(endpoint: str) -> None:
    with pytest.raises(errors.BadEndpoint):
        S3Driver.open("s3://bucket", servers.s3_options(endpoint)).get("root")
