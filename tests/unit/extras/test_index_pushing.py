"""Packages are pushed: files before records, four at once, again if the index is busy."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import installers
import pytest
import wheels
from servers import serving

from dorky import errors
from dorky.client import DorkyClient
from dorky.extras.index import (
    auth,
    locks,
    operations,
    pages,
    pushing,
    saving,
    state,
    storage,
    web,
)
from dorky.extras.index import serving as serving_
from dorky.extras.index.depot import Depot

TOKEN = "s3cret-t0ken"


class Taker:
    """An index that takes files by PUT.

    Attributes:
        url: Its address.
        held: What it has, by path.
        statuses: The statuses of its next answers, before it answers as it should.
        order: The paths that were put, in order.
        most: The most requests at once.
    """

    def __init__(self) -> None:
        self.url = ""
        self.held: dict[str, bytes] = {}
        self.statuses: list[int] = []
        self.order: list[str] = []
        self.most = 0
        self.reads = True
        self._now = 0
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if self.statuses:
            return self.statuses.pop(0), b"the server says why"
        if method == "PUT":
            if self.held.setdefault(path, body) != body:
                return 409, b"other content is there"
            self.order.append(path)
            return 201, b""
        files = [
            {"filename": name, "hashes": {"sha256": hashlib.sha256(data).hexdigest()}}
            for place, data in self.held.items()
            for name in [place.rpartition("/")[2]]
            if place.startswith(path) and not name.endswith(".json")
        ]
        return (200, json.dumps({"files": files}).encode()) if files else (404, b"")

    def begin(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)

    def end(self) -> None:
        with self._lock:
            self._now -= 1


@pytest.fixture
def taker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Taker]:
    taker = Taker()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            taker.begin()
            length = int(self.headers.get("Content-Length") or 0)
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, body = 401, b"no such token"
                self.close_connection = True
            else:
                data = self.rfile.read(length)
                status, body = taker.answer(self.command, self.path, data)
            taker.end()
            self.send_response(status)
            self.send_header("Content-Type", pages.JSON_TYPE if status == 200 else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.do_PUT()

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(web.time, "sleep", lambda _: None)
    with serving(Handler) as endpoint:
        taker.url = f"{endpoint}/simple/"
        yield taker


@pytest.fixture
def depot(tmp_path: Path) -> Depot:
    made = tmp_path / "made"
    return wheels.depot_of(
        tmp_path / "depot",
        wheels.wheel(made, "acme-app", "1.0+a"),
        *[wheels.wheel(made, version=str(number)) for number in range(1, 7)],
    )


def test_files_then_records(taker: Taker, depot: Depot) -> None:
    done = pushing.push(depot, taker.url, token=TOKEN)
    assert (len(done.added), done.kept, done.place) == (7, (), taker.url)
    kinds = [path.endswith(".json") for path in taker.order]
    assert kinds == sorted(kinds)
    assert taker.most <= 4
    path = "/simple/acme-app/acme_app-1.0%2Ba-py3-none-any.whl"
    assert hashlib.sha256(taker.held[path]).hexdigest() == depot.project("acme-app").files[0].sha256
    record = json.loads(taker.held[f"{path}.json"])
    assert record["filename"] == "acme_app-1.0+a-py3-none-any.whl"
    assert record["upload-time"]


def test_what_is_there_is_not_sent(taker: Taker, depot: Depot) -> None:
    pushing.push(depot, taker.url, token=TOKEN, projects=["acme_core"])
    taker.order.clear()
    done = pushing.push(depot, taker.url, token=TOKEN, projects=["acme-core"])
    assert (done.added, len(done.kept), done.size, taker.order) == ((), 6, 0, [])
    with pytest.raises(errors.NoSuchPackage):
        pushing.push(depot, taker.url, token=TOKEN, projects=["nothing"])


def test_other_content_is_a_conflict_before_anything_is_sent(taker: Taker, depot: Depot) -> None:
    taker.held["/simple/acme-core/acme_core-3-py3-none-any.whl"] = b"other"
    with pytest.raises(errors.PackageHeld, match="acme_core-3"):
        pushing.push(depot, taker.url, token=TOKEN)
    assert taker.order == []


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_index_is_asked_again(taker: Taker, depot: Depot, status: int) -> None:
    taker.statuses[:] = [404, 404, *[status] * 3]
    assert len(pushing.push(depot, taker.url, token=TOKEN).added) == 7
    taker.statuses[:] = [status] * 1000
    with pytest.raises(errors.ServerBusy):
        pushing.push(depot, taker.url, token=TOKEN)


@pytest.mark.parametrize(
    ("status", "exit_code"), [(409, 5), (401, 6), (403, 6), (405, 6), (400, 2), (413, 2)]
)
def test_a_refusal_is_told_and_not_repeated(
    taker: Taker, depot: Depot, status: int, exit_code: int
) -> None:
    taker.statuses[:] = [404, status, *[201] * 100]
    with pytest.raises(errors.DorkyError, match="the server says why") as caught:
        pushing.push(depot, taker.url, token=TOKEN, projects=["acme-app"])
    assert caught.value.exit_code == exit_code
    assert str(status) in caught.value.message
    assert len(taker.statuses) == 100


@pytest.mark.parametrize("token", ["", "guessed-wrongly"])
def test_a_wrong_token_is_no_secret_in_the_error(taker: Taker, depot: Depot, token: str) -> None:
    with pytest.raises(errors.UnauthorizedError, match="no such token") as caught:
        pushing.push(depot, taker.url, token=token)
    assert not token or token not in repr(caught.value) + caught.value.message


def test_the_answer_to_a_body_that_is_not_read_is_told(taker: Taker, tmp_path: Path) -> None:
    """A server that refuses closes the connection while the file is being sent."""
    big = wheels.wheel(tmp_path / "big", files={"blob": "x"})
    depot = wheels.depot_of(tmp_path / "one", big)
    place = web.place_of(f"{taker.url}a", "wrong")
    body = b"\0" * (1 << 20)
    with (
        pytest.raises(errors.UnauthorizedError, match="no such token"),
        web.asked(place, method="PUT", body=lambda: iter([body] * 64), size=64 << 20),
    ):
        pass
    assert depot.projects() == ["acme-core"]


def test_a_damaged_package_is_not_sent(taker: Taker, depot: Depot, tmp_path: Path) -> None:
    path = tmp_path / "depot/files/acme-app/acme_app-1.0+a-py3-none-any.whl"
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(errors.BadRecord):
        pushing.push(depot, taker.url, token=TOKEN, projects=["acme-app"])
    assert taker.held == {}


def test_a_token_needs_tls(depot: Depot) -> None:
    with pytest.raises(errors.BadURL, match="TLS"):
        pushing.push(depot, "http://packages.acme.example/simple/", token=TOKEN)


def test_no_proxy_is_told_the_token_of_a_server_here(
    taker: Taker, depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert pushing.push(depot, taker.url, token=TOKEN, projects=["acme-app"]).added


# --- with dorky's own server -----------------------------------------------------------------


@contextlib.contextmanager
def server(tmp_path: Path) -> Iterator[str]:
    """The server of packages, in an unencrypted repository; yields its index's address."""
    tokens = tmp_path / "tokens"
    tokens.write_text(auth.line_of("ci", TOKEN, write=True))
    client = DorkyClient.create(str(tmp_path / "vault"), unencrypted=True)
    service = serving_.Service(
        serving_.Settings(tokens=tokens, port=0, threads=8),
        state.of_client(client, "", pinned="", refresh=0, failed=print),
        depot=Depot(storage.Remote(client)),
        log=operations.Log(io.StringIO()),
    )
    service.start()
    try:
        yield service.url
    finally:
        service.stop()
        client.close()


def test_a_server_of_dorkys_takes_what_is_pushed(tmp_path: Path) -> None:
    made = tmp_path / "made"
    before = datetime(2019, 5, 6, 7, 8, 9, 123456, timezone.utc)
    depot = wheels.depot_of(tmp_path / "depot", wheels.sdist(made))
    depot.add([wheels.package(wheels.wheel(made), upload_time=before, yanked="leaks")])
    with server(tmp_path) as url:
        done = pushing.push(depot, url, token=TOKEN)
        assert (len(done.added), done.kept) == (2, ())
        again = pushing.push(depot, url, token=TOKEN)
        assert (again.added, len(again.kept)) == ((), 2)
        with web.asked(web.place_of(f"{url}acme-core/", TOKEN), accept=pages.JSON_TYPE) as page:
            wheel, sdist = json.load(page)["files"]
        assert (wheel["upload-time"], wheel["yanked"]) == ("2019-05-06T07:08:09.123456Z", "leaks")
        assert sdist["hashes"]["sha256"] == depot.entry("acme_core-1.0.tar.gz").sha256
        with pytest.raises(errors.UnauthorizedError):
            pushing.push(depot, url, token="guessed")
        other = wheels.depot_of(tmp_path / "other", wheels.sdist(tmp_path / "o", extra="X: y\n"))
        with pytest.raises(errors.PackageHeld):
            pushing.push(other, url, token=TOKEN)


@pytest.mark.deep
def test_from_the_public_index_to_an_installer(tmp_path: Path) -> None:
    """jinja2 is saved and pushed; pip and uv install it from dorky's server, and nowhere else."""
    depot = wheels.depot_of(tmp_path / "depot")
    page = f"{saving.PUBLIC_INDEX}jinja2/"
    try:
        with web.asked(web.place_of(page), accept=pages.JSON_TYPE) as answer:
            files = {file["filename"]: file for file in json.load(answer)["files"]}
    except errors.Unreachable:
        pytest.skip("no public index can be reached")
    saving.save(depot, locks.Wanted(["jinja2==3.1.6"]))
    assert depot.projects() == ["jinja2", "markupsafe"]
    with server(tmp_path) as url:
        pushing.push(depot, url, token=TOKEN)
        index = ["--index-url", url.replace("://", f"://ci:{TOKEN}@"), "jinja2"]
        for installer in (installers.uv, installers.pip):
            found = installer(tmp_path / installer.__name__, *index)
            assert found.keys() == {"jinja2", "markupsafe"}
        with web.asked(web.place_of(f"{url}jinja2/", TOKEN), accept=pages.JSON_TYPE) as answer:
            [file] = json.load(answer)["files"]
    assert file["upload-time"] == files[file["filename"]]["upload-time"]
