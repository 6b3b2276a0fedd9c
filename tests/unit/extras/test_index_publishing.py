"""An index without a server: what is published, and that pip and uv install from it."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import installers
import pytest
import wheels
from servers import Remote, s3_client, serving
from wheels import package

from dorky import errors
from dorky.extras.index import pages, publishing, sinks
from dorky.extras.index.depot import Depot
from dorky.results import PythonIndex

LONG_AGO = datetime(2019, 5, 6, tzinfo=timezone.utc)
BOTH = {"acme_app": "1.0", "acme_core": "2.0"}


@pytest.fixture
def depot(tmp_path: Path) -> Depot:
    made = tmp_path / "made"
    depot = wheels.depot_of(tmp_path / "depot")
    depot.add(
        [
            package(wheels.wheel(made, "acme-app", "1.0", ["acme-core"]), upload_time=LONG_AGO),
            package(wheels.wheel(made), upload_time=LONG_AGO),
            package(wheels.wheel(made, version="2.0")),
        ]
    )
    return depot


def published(depot: Depot, out: str, **how: Any) -> PythonIndex:
    return publishing.publish(depot, publishing.plan(depot), sinks.sink_at(out), **how)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A web server that knows nothing of packages, on the directory ``site``."""
    with serving(functools.partial(Quiet, directory=str(tmp_path / "site"))) as url:
        yield url


def test_a_directory_that_any_web_server_shows(depot: Depot, tmp_path: Path, site: str) -> None:
    done = published(depot, str(tmp_path / "site"), form="html")
    assert (done.projects, done.files, done.url) == (2, 3, "")
    target = tmp_path / "there"
    assert installers.uv(target, "--index-url", f"{site}/simple/", "acme-app") == BOTH
    metadata = tmp_path / "site/files/acme-core/acme_core-2.0-py3-none-any.whl.metadata"
    assert b"Name: acme-core" in metadata.read_bytes()


@pytest.mark.deep
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_pip_installs_from_a_directory(
    depot: Depot, tmp_path: Path, site: str, scheme: str
) -> None:
    published(depot, str(tmp_path / "site"), form="html")
    place = site if scheme == "http" else (tmp_path / "site").as_uri()
    found = installers.pip(tmp_path / "there", "--index-url", f"{place}/simple/", "acme-app")
    assert found == BOTH


def test_a_second_index_writes_what_is_new_and_deletes_what_is_gone(
    depot: Depot, tmp_path: Path
) -> None:
    out = tmp_path / "site"
    (out / "files").mkdir(parents=True)
    other = out / "files" / "mine.txt"
    other.write_text("not of the index")
    published(depot, str(out), form="html")
    kept = out / "files/acme-core/acme_core-2.0-py3-none-any.whl"
    before = kept.stat()
    depot.remove("acme-core", "1.0")
    depot.set_status("acme-app", "quarantined")
    published(depot, str(out), form="json")
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert found == [
        "files/acme-core/acme_core-2.0-py3-none-any.whl",
        "files/acme-core/acme_core-2.0-py3-none-any.whl.metadata",
        "files/mine.txt",
        "published.json",
        "simple/acme-app/index.json",
        "simple/acme-core/index.json",
        "simple/index.json",
    ]


def test_what_an_interrupted_index_has_left_is_deleted_later(
    depot: Depot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "site"
    last = "files/acme-core/acme_core-2.0-py3-none-any.whl"
    put = sinks.DirectorySink.put

    def interrupted(sink: sinks.DirectorySink, key: str, *content: Any) -> None:
        if key.startswith("simple/"):
            raise KeyboardInterrupt
        put(sink, key, *content)

    with monkeypatch.context() as patched:
        patched.setattr(sinks.DirectorySink, "put", interrupted)
        with pytest.raises(KeyboardInterrupt):
            published(depot, str(out))
    assert (out / last).exists()
    depot.remove("acme-core", "2.0")
    with monkeypatch.context() as patched:
        patched.setattr(sinks.DirectorySink, "delete", lambda sink, _: interrupted(sink, "simple/"))
        with pytest.raises(KeyboardInterrupt):
            published(depot, str(out))
    assert (out / last).exists()
    published(depot, str(out))
    assert not (out / last).exists()


def test_an_index_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.NoPackages):
        publishing.plan(wheels.depot_of(tmp_path / "empty"))


def test_a_damaged_published_file_is_written_again(depot: Depot, tmp_path: Path) -> None:
    published(depot, str(tmp_path / "site"))
    path = tmp_path / "site/files/acme-core/acme_core-2.0-py3-none-any.whl"
    good = path.read_bytes()
    path.write_bytes(b"\0" * len(good))
    published(depot, str(tmp_path / "site"))
    assert path.read_bytes() == good


def test_nothing_but_what_an_index_wrote_is_deleted(depot: Depot, tmp_path: Path) -> None:
    """Somebody who may write to the place may have written the list."""
    out = tmp_path / "site"
    out.mkdir()
    outside = tmp_path / "outside"
    inside = out / "index.html"
    for path in (outside, inside):
        path.write_text("mine")
    keys = ["../outside", "simple/../../outside", "/etc/passwd", "index.html", 3, "files/.x"]
    (out / "published.json").write_text(json.dumps(keys))
    published(depot, str(out))
    assert outside.exists()
    assert inside.exists()


def test_a_damaged_package_is_not_published(depot: Depot, tmp_path: Path) -> None:
    path = tmp_path / "depot/files/acme-core/acme_core-2.0-py3-none-any.whl"
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(errors.BadRecord):
        published(depot, str(tmp_path / "site"))
    assert not (tmp_path / "site/simple").exists()


def test_files_may_be_elsewhere(depot: Depot, tmp_path: Path) -> None:
    published(depot, str(tmp_path / "site"), base_url="https://cdn.example/py")
    page = json.loads((tmp_path / "site/simple/acme-core/index.json").read_bytes())
    assert page["files"][0]["url"] == (
        "https://cdn.example/py/files/acme-core/acme_core-1.0-py3-none-any.whl"
    )


@pytest.mark.parametrize("text", ["", "7", "8d", "0d", "1w", "d", "-1d", "1d2h", "169h"])
def test_time_spans_that_no_link_can_have(text: str) -> None:
    with pytest.raises(errors.UsageError):
        publishing.duration(text)


def test_time_spans() -> None:
    assert publishing.duration("7d") == timedelta(days=7)
    assert publishing.duration("90m") == timedelta(minutes=90)


@pytest.mark.parametrize("out", ["https://x/", "s3://", "ftp://a/b"])
def test_other_places_are_refused(out: str) -> None:
    with pytest.raises(errors.BadURL):
        sinks.sink_at(out)


# --- buckets ---------------------------------------------------------------------------------


@pytest.fixture
def bucket(s3_url: Remote, monkeypatch: pytest.MonkeyPatch) -> Remote:
    for name, value in s3_url.env.items():
        monkeypatch.setenv(name, value)
    return s3_url


@pytest.fixture
def public(bucket: Remote) -> Remote:
    """A bucket whose objects anybody may read, if they know the name."""
    name = bucket.url.removeprefix("s3://").partition("/")[0]
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{name}/*",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    with contextlib.closing(s3_client(bucket.env["AWS_ENDPOINT_URL"])) as client:
        client.put_bucket_policy(Bucket=name, Policy=policy)
    return bucket


def address(remote: Remote) -> str:
    return f"{remote.env['AWS_ENDPOINT_URL']}/{remote.url.removeprefix('s3://')}/pkg"


def test_a_bucket_answers_as_an_index_does(depot: Depot, public: Remote, tmp_path: Path) -> None:
    published(depot, f"{public.url}/pkg/")
    with urlopen(f"{address(public)}/simple/acme-core/") as answer:
        assert answer.headers["Content-Type"] == pages.JSON_TYPE
        assert answer.headers["Cache-Control"] == "no-cache"
    index = ["--index-url", f"{address(public)}/simple/"]
    assert installers.uv(tmp_path / "new", *index, "acme-app") == BOTH
    old = ["--exclude-newer", "2020-01-01T00:00:00Z"]
    found = installers.uv(tmp_path / "old", *index, *old, "acme-app")
    assert found == {"acme_app": "1.0", "acme_core": "1.0"}
    public.log.clear()
    published(depot, f"{public.url}/pkg")
    assert not [path for method, path in public.log if method == "PUT" and "/files/" in path]
    depot.remove("acme-core", "1.0")
    published(depot, f"{public.url}/pkg")
    with pytest.raises(HTTPError):
        urlopen(f"{address(public)}/files/acme-core/acme_core-1.0-py3-none-any.whl")


@pytest.mark.deep
def test_pip_installs_from_a_bucket(depot: Depot, public: Remote, tmp_path: Path) -> None:
    published(depot, f"{public.url}/pkg")
    index = ["--index-url", f"{address(public)}/simple/"]
    assert installers.pip(tmp_path / "new", *index, "acme-app") == BOTH
    old = ["--uploaded-prior-to", "2020-01-01T00:00:00Z"]
    found = installers.pip(tmp_path / "old", *index, *old, "acme-app")
    assert found == {"acme_app": "1.0", "acme_core": "1.0"}


@pytest.fixture
def private(bucket: Remote, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket that takes signed requests alone: a link that is signed for GET, for no HEAD."""
    real = bucket.env["AWS_ENDPOINT_URL"]

    class Gate(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            linked = "X-Amz-Signature=" in self.path and self.command == "GET"
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, answer = 403, {}, b"<Error><Code>AccessDenied</Code></Error>"
            if linked or "Authorization" in self.headers:
                try:
                    request = Request(
                        real + self.path, body or None, dict(self.headers), method=self.command
                    )
                    with urlopen(request) as found:
                        status, headers, answer = found.status, found.headers, found.read()
                except HTTPError as error:
                    status, headers, answer = error.code, error.headers, error.read()
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in {"content-length", "connection", "transfer-encoding"}:
                    self.send_header(name, value)
            length = headers.get("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(answer)))
            self.end_headers()
            self.wfile.write(answer if self.command != "HEAD" else b"")

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_PUT(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with serving(Gate) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        yield bucket.url


def test_a_presigned_page_installs_from_a_private_bucket(
    depot: Depot, private: str, tmp_path: Path
) -> None:
    done = published(depot, f"{private}/pkg", presign=timedelta(days=7))
    assert "X-Amz-Expires=604800" in done.url
    for url, method in ((done.url.partition("?")[0], "GET"), (done.url, "HEAD")):
        with pytest.raises(HTTPError, match="403"):
            urlopen(Request(url, method=method))
    words = ["--no-index", "--find-links", done.url, "acme-app"]
    assert installers.uv(tmp_path / "by-uv", *words) == BOTH


@pytest.mark.deep
def test_pip_installs_from_a_presigned_page(depot: Depot, private: str, tmp_path: Path) -> None:
    done = published(depot, f"{private}/pkg", presign=timedelta(days=7))
    words = ["--no-index", "--find-links", done.url, "acme-app"]
    assert installers.pip(tmp_path / "by-pip", *words) == BOTH


def test_who_may_not_write_is_told(depot: Depot, private: str, monkeypatch: Any) -> None:
    sink = sinks.sink_at("s3://no-such-bucket/x")
    with pytest.raises(errors.BucketNotFound):
        sink.put("simple/", b"", "text/html")
    assert not sink.temporary
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    assert sinks.sink_at(private).temporary


def test_a_bucket_of_googles(
    depot: Depot, gcs_url: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in gcs_url.env.items():
        monkeypatch.setenv(name, value)
    for _ in "12":
        done = published(depot, f"{gcs_url.url}/pkg")
        assert (done.projects, done.files) == (2, 3)
    sink = sinks.sink_at(f"{gcs_url.url}/pkg")
    assert json.loads(sink.read("simple/acme-core/") or b"")["versions"] == ["1.0", "2.0"]
    assert sink.read("files/acme-core/acme_core-3.0-py3-none-any.whl") is None
    depot.remove("acme-app")
    published(depot, f"{gcs_url.url}/pkg")
    assert sink.read("simple/acme-app/") is None
    with pytest.raises(errors.AccessDenied):
        sink.presigned(publishing.LINKS, timedelta(days=1))
