"""GCS servers that mean harm: endless answers, compressed ones, redirects, lists without an end."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import servers
from calls import calls
from credentials import service_account
from servers import HUGE, SUPPORT, Canned, answering, at_most, send

from dorky import errors
from dorky.drivers import open_driver
from dorky.drivers.gcs import GCSDriver

MiB = 1 << 20
Emulated = Callable[[str], GCSDriver]


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Emulated:
    def make(endpoint: str) -> GCSDriver:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
        return GCSDriver.open("gs://bucket/x", {})

    return make


GENERATION = {"x-goog-generation": "1"}
ANSWERS: dict[str, Callable[[Any], None]] = {
    "long": lambda h: send(h, 200, {"Content-Length": HUGE, **GENERATION}, at_most(3 << 10)),
    "chunked": lambda h: send(
        h, 200, {"Transfer-Encoding": "chunked", **GENERATION}, at_most(3 << 10)
    ),
    "lies": lambda h: send(
        h,
        206,
        {"Transfer-Encoding": "chunked", "Content-Range": "bytes 0-9/10", **GENERATION},
        at_most(3 << 10),
    ),
    "packed": lambda h: send(
        h, 200, {"Content-Encoding": "gzip", "Connection": "close", **GENERATION}, iter([BOMB])
    ),
    "refused": lambda h: send(h, 403, {"Content-Length": HUGE}, at_most(3 << 10)),
    "missing": lambda h: send(h, 404, {"Transfer-Encoding": "chunked"}, at_most(3 << 10)),
    "busy": lambda h: send(h, 503, {"Content-Length": HUGE}, at_most(3 << 10)),
}
BOMB = gzip.compress(bytes(400 * MiB))

_PEAK = """
import resource, sys
from dorky import errors
from dorky.drivers import gcs
from calls import calls
driver = gcs.GCSDriver.open("gs://bucket/x", {})
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
driver._bucket()
big = bytes(9 << 20)
before = peak()
for name, call in calls("17", large=9 << 20).items():
    try:
        print(name, "took", call(driver))
    except errors.DorkyError as error:
        print(name, error.code)
print(peak() - before)
"""


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_no_answer_fills_the_memory(answer: Callable[[Any], None]) -> None:
    with answering(answer) as endpoint:
        path = [*filter(None, sys.path), str(SUPPORT)]
        done = subprocess.run(
            [sys.executable, "-c", _PEAK],
            env={
                **os.environ,
                "STORAGE_EMULATOR_HOST": endpoint,
                "PYTHONPATH": os.pathsep.join(path),
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    *codes, peak = done.stdout.splitlines()
    assert len(codes) == len(calls("17", large=9 << 20))
    assert not any("took" in code for code in codes)
    # Two answers of 8 MiB, and what is uploaded with its copies.
    assert int(peak) < 80, "MiB"


def test_what_is_larger_than_the_limit(emulated: Emulated) -> None:
    with servers.stub_server(lambda method, target: Canned(200, b"12345", GENERATION)) as server:
        driver = emulated(server.endpoint)
        with pytest.raises(errors.TooLarge, match="4 bytes"):
            driver.get("root", limit=4)
        with pytest.raises(errors.BadEndpoint, match="more of packs/a"):
            driver.get_range("packs/a", 0, 4)


# --- lists ----------------------------------------------------------------------------------


def item(name: object, **other: object) -> dict[str, object]:
    return {"name": name, "size": "5", "updated": "2026-01-02T03:04:05.678Z", **other}


def test_a_list_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dorky.drivers.retry.LISTED", 5000)
    names = itertools.count()

    def answer(method: str, target: str) -> Canned:
        items = [item(f"x/packs/{next(names)}") for _ in range(1000)]
        return Canned(200, json.dumps({"items": items, "nextPageToken": "next"}))

    with servers.stub_server(answer) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.endpoint)
        with pytest.raises(errors.TooLarge, match="the list of packs/"):
            list(open_driver("gs://bucket/x", {}).list("packs/"))


def test_a_list_of_empty_pages(emulated: Emulated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dorky.drivers.gcs._EMPTY", 20)
    answer = Canned(200, json.dumps({"nextPageToken": "next"}))
    with (
        servers.stub_server(lambda method, target: answer) as server,
        pytest.raises(errors.BadEndpoint, match="does not end"),
    ):
        list(emulated(server.endpoint).list("packs/"))


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"items": 1},
        {"items": [1]},
        {"items": [{}]},
        {"items": [item(None)]},
        {"items": [item("x/a", size="many")]},
        {"items": [item("x/a", updated="never")]},
        {"items": [item("x/a", updated=None)]},
    ],
    ids=str,
)
def test_garbled_lists(emulated: Emulated, body: object) -> None:
    with (
        servers.stub_server(lambda method, target: Canned(200, json.dumps(body))) as server,
        pytest.raises(errors.BadEndpoint, match="garbled"),
    ):
        list(emulated(server.endpoint).list(""))


# --- redirects ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(emulated: Emulated, status: int) -> None:
    """To another port, which is another host; the bearer token would go along to some."""
    asked: list[str] = []

    def elsewhere(method: str, target: str) -> Canned:
        asked.append(target)
        return Canned(404)

    with servers.stub_server(elsewhere) as other:

        def redirect(method: str, target: str) -> Canned:
            return Canned(status, "", {"Location": other.endpoint + urlsplit(target).path})

        with servers.stub_server(redirect) as server:
            driver = emulated(server.endpoint)
            for call in calls("17", large=9 << 20).values():
                with pytest.raises(errors.BadEndpoint, match="redirect"):
                    call(driver)
    assert asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_request_for_a_token_is_redirected(
    tmp_path: Path, gcs_url: servers.Remote, status: int
) -> None:
    """It holds an assertion signed with the account's key."""
    asked: list[str] = []

    def elsewhere(method: str, target: str) -> Canned:
        asked.append(target)
        return Canned(404)

    with servers.stub_server(elsewhere) as other:
        answer = Canned(status, "", {"Location": other.endpoint})
        with servers.stub_server(lambda method, target: answer) as server:
            path = service_account(tmp_path / "key.json", server.endpoint)
            driver = GCSDriver.open(gcs_url.url, {"service_account": path})
            with pytest.raises(errors.BadEndpoint, match="redirect"):
                driver.get("root")
    assert asked == []
