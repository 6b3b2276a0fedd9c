"""Projects that come from another index, which may be hostile."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin

import pytest
import wheels
from servers import Remote, serving
from teams import gather
from werkzeug.test import Client

from dorky import errors
from dorky.client import DorkyClient
from dorky.extras.index import records, state, upstream
from dorky.extras.index.app import App
from dorky.extras.index.depot import Depot, Package
from dorky.extras.index.operations import Log, Metrics
from dorky.extras.index.storage import Directory
from dorky.extras.index.storage import Remote as Storage
from dorky.extras.index.uploads import Uploads
from dorky.extras.index.upstream import Upstream

JSON = "application/vnd.pypi.simple.v1+json"


class Other(NamedTuple):
    """Another index: what it answers by path, and what it was asked."""

    url: str
    answers: dict[str, tuple[int, dict[str, str], bytes]]
    asked: list[tuple[str, str]]

    def page(self, name: str, *files: dict[str, Any], called: str = "") -> None:
        page = {"meta": {"api-version": "1.1"}, "name": called or name, "files": files}
        answer = 200, {"Content-Type": JSON}, json.dumps(page).encode()
        self.answers[f"/simple/{name}/"] = answer


@contextlib.contextmanager
def other_index() -> Iterator[Other]:
    answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization", "")))
            status, headers, body = answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            pause = float(headers.get("X-Pause", 0))
            with contextlib.suppress(OSError):  # nobody waits any more
                for at in range(0, len(body), 10 if pause else 1 << 20):
                    time.sleep(pause)
                    self.wfile.write(body[at : at + (10 if pause else 1 << 20)])

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as url:
        yield Other(url, answers, asked)


@pytest.fixture
def other() -> Iterator[Other]:
    with other_index() as made:
        yield made


@pytest.fixture
def client(other: Other, tmp_path: Path) -> Client:
    """A server that has acme-core, and asks the other index for the rest."""
    directory = Directory(tmp_path / "depot")
    depot = Depot(directory)
    wheel = wheels.wheel(tmp_path)
    depot.add([Package(records.derive(wheel, wheel.name), wheel)])
    foreign = Upstream(f"{other.url}/simple", ["acme_*", "Internal.*"], "token")
    newest = state.of_directory(directory)
    return Client(App(newest, upstream=foreign, log=Log(io.StringIO()), metrics=Metrics()))


def listed(name: str, version: str = "99.0", **more: Any) -> dict[str, Any]:
    filename = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    return {"filename": filename, "url": f"../../{filename}", "hashes": {"sha256": "0" * 64}} | more


def page(client: Client, name: str) -> Any:
    answer = client.get(f"/python/simple/{name}/", headers={"Accept": JSON})
    assert answer.status_code == 200, answer.text
    return json.loads(answer.data)


def test_a_page_is_passed_on(client: Client, other: Other) -> None:
    told = {"size": 5, "upload-time": "2024-01-01T00:00:00Z", "core-metadata": {"sha256": "1" * 64}}
    other.page("requests", listed("requests", "1.0", yanked="a <b>", **told))
    (file,) = page(client, "requests")["files"]
    assert file["url"] == f"{other.url}/requests-1.0-py3-none-any.whl"
    assert file | told == file
    assert page(client, "requests")
    assert other.asked == [("/simple/requests/", other.asked[0][1])]
    assert other.asked[0][1].startswith("Basic ")
    html = client.get("/python/simple/requests/").text
    assert f'href="{file["url"]}#sha256={"0" * 64}"' in html
    assert 'data-yanked="a &lt;b&gt;"' in html
    tag = client.get("/python/simple/requests/").headers["ETag"]
    assert client.get("/python/simple/requests/", headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize("kind", ["files", "python"])
def test_names_of_a_group_are_never_asked_for_by_who_is_not_in_it(
    other: Other, tmp_path: Path, file_url: Remote, kind: str
) -> None:
    """A member outside the group can't see that the repository holds acme-core."""
    team = gather(tmp_path, file_url)
    team.ana("group", "add", "core", f"depot/{kind}/acme-core/**")
    for name in ("acme-core", "acme-open", "requests"):
        other.page(name, listed(name))
    with team.cleo.here(), DorkyClient(file_url.url) as own:
        shop = Storage(own, "depot")
        wheel = wheels.wheel(tmp_path, "acme-open")
        Depot(shop).add([Package(records.derive(wheel, wheel.name), wheel)])
        newest = state.of_client(own, "depot", pinned="", refresh=0, failed=lambda _: None)
        server = Client(
            App(
                newest,
                uploads=Uploads(Depot(shop), 1 << 20),
                upstream=Upstream(f"{other.url}/simple"),
                log=Log(io.StringIO()),
                metrics=Metrics(),
            )
        )
        assert server.get("/python/simple/acme-core/").status_code == 404
        assert page(server, "acme-open")["versions"] == ["1.0"]
        assert other.asked == []
        assert page(server, "requests")
        assert [path for path, _ in other.asked] == ["/simple/requests/"]
        wheel = wheels.wheel(tmp_path)
        sent = server.put(f"/python/simple/acme-core/{wheel.name}", data=wheel.read_bytes())
        assert sent.status_code == 403
        assert sent.text == "the project is for a group that this server is not in\n"


@pytest.mark.parametrize(
    "name", ["acme-core", "Acme_Core", "acme-unknown", "ACME.unknown", "internal-tool"]
)
def test_names_of_our_own_are_never_asked_for(client: Client, other: Other, name: str) -> None:
    """Even if the other index has a higher version of them."""
    for spelling in ("acme-core", "acme-unknown", "internal-tool"):
        other.page(spelling, listed(spelling))
    path = f"/python/simple/{name}/"
    answer = client.get(path, headers={"Accept": JSON})
    if answer.status_code == 308:
        path = urljoin(path, answer.headers["Location"])
        answer = client.get(path, headers={"Accept": JSON})
    assert b"99.0" not in answer.data
    assert answer.status_code == (200 if "core" in name.lower() else 404)
    assert other.asked == []


def test_what_can_not_be_checked_is_left_out(client: Client, other: Other) -> None:
    """Another project's files, what has no hash, and what is no web address."""
    other.page(
        "requests",
        listed("requests", "1.0"),
        listed("requests", "2.0", hashes={}),
        listed("requests", "3.0", hashes={"md5": "0" * 32}),
        listed("requests", "4.0", url="javascript:alert(1)"),
        listed("requests", "5.0", url="file:///etc/passwd"),
        listed("requests", "6.0", yanked="a\x1b[2J"),
        listed("requests", "7.0", url="http://[::1"),
        listed("acme-core"),
        listed("requests", filename="../../x.whl"),
        listed("requests", "8.0", url="https://x/y.whl#sha256=" + "f" * 64),
    )
    files = page(client, "requests")["files"]
    versions = [file["filename"].split("-")[1] for file in files]
    assert versions == ["1.0", "8.0"]
    assert files[1]["url"] == "https://x/y.whl"


@pytest.mark.parametrize(
    "answer",
    [
        (500, {}, b""),
        (403, {}, b""),
        (200, {"Content-Type": "text/html"}, b"<a href=x>x</a>"),
        (200, {"Content-Type": JSON}, b"{"),
        (200, {"Content-Type": JSON}, b'{"name": "acme-core", "files": []}'),
        (200, {"Content-Type": JSON}, b'{"name": "requests", "files": 5}'),
        (200, {"Content-Type": JSON}, b" " * 3000),
        (302, {"Location": "http://127.0.0.2:1/simple/requests/"}, b""),
        (302, {"Location": "file:///etc/passwd"}, b""),
    ],
)
def test_an_answer_that_makes_no_sense(
    client: Client,
    other: Other,
    answer: tuple[int, dict[str, str], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upstream, "_LARGEST", 2000)
    other.answers["/simple/requests/"] = answer
    assert client.get("/python/simple/requests/").status_code == 502
    other.page("requests", listed("requests"))
    assert client.get("/python/simple/requests/").status_code == 200


def test_an_answer_that_never_ends(
    client: Client, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its bytes is in time, but they would keep a thread for hours."""
    monkeypatch.setattr(upstream, "_PATIENCE", 0.3)
    other.page("requests", listed("requests"))
    _, headers, body = other.answers["/simple/requests/"]
    other.answers["/simple/requests/"] = 200, {**headers, "X-Pause": "0.1"}, body
    assert client.get("/python/simple/requests/").status_code == 502


def test_a_redirection_within_the_server(client: Client, other: Other) -> None:
    other.page("requests", listed("requests"))
    other.answers["/simple/old/"] = 301, {"Location": "/simple/requests/"}, b""
    assert client.get("/python/simple/old/").status_code == 502
    other.answers["/simple/moved/"] = 301, {"Location": "/elsewhere/"}, b""
    other.page("moved", listed("moved"))
    other.answers["/elsewhere/"] = other.answers["/simple/moved/"]
    other.answers["/simple/moved/"] = 301, {"Location": "/elsewhere/"}, b""
    assert client.get("/python/simple/moved/").status_code == 200


def test_nothing_there_is_nothing_here(client: Client, other: Other) -> None:
    for _ in range(2):
        assert client.get("/python/simple/nothing/").status_code == 404
    assert len(other.asked) == 1


@pytest.mark.parametrize("url", ["ftp://x/", "https://", "x", "https://a:b@x/"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(errors.UsageError):
        Upstream(url)
