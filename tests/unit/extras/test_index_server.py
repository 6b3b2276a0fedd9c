"""The server of packages, without a network: negotiation, caching, ranges, redirects, uploads."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import wheels
from werkzeug.datastructures import FileStorage
from werkzeug.test import Client, TestResponse, encode_multipart

from dorky.client import DorkyClient
from dorky.extras.index import auth, records, signatures, state
from dorky.extras.index.app import App
from dorky.extras.index.depot import Depot, Package
from dorky.extras.index.operations import Log, Metrics
from dorky.extras.index.storage import Directory, Remote
from dorky.extras.index.uploads import Uploads
from dorky.provenance import private_keys

JSON = "application/vnd.pypi.simple.v1+json"
PIP = f"{JSON}, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"
READ, WRITE = "reading-token", "writing-token"


class Shop:
    """A server in memory, and its client."""

    def __init__(
        self, newest: state.Newest, depot: Depot, limit: int = 1 << 20, **more: Any
    ) -> None:
        self.depot = depot
        self.logged = io.StringIO()
        self.app = App(
            newest,
            uploads=Uploads(depot, limit),
            log=Log(self.logged),
            metrics=Metrics(),
            **more,
        )
        self.client = Client(self.app)

    def get(self, path: str, **headers: str) -> TestResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.get(path, headers=named, buffered=True)

    def put(self, file: Path, project: str = "acme-core", **headers: str) -> TestResponse:
        path = f"/python/simple/{project}/{file.name}"
        return self.client.put(path, data=file.read_bytes(), headers=headers, buffered=True)

    def post(self, file: Path, **fields: str) -> TestResponse:
        with file.open("rb") as content:
            form = {":action": "file_upload", "protocol_version": "1", **fields}
            return self.client.post(
                "/python/legacy/", data={**form, "content": (content, file.name)}
            )

    def add(self, *files: Path) -> None:
        self.depot.add([Package(records.derive(file, file.name), file) for file in files])


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A server of a directory."""
    directory = Directory(tmp_path / "depot")
    return Shop(state.of_directory(directory), Depot(directory))


@pytest.fixture
def stocked(shop: Shop, tmp_path: Path) -> Shop:
    shop.add(wheels.wheel(tmp_path), wheels.wheel(tmp_path, version="1.1", requires_python=">=3.9"))
    return shop


# --- pages ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/html"),
        ("*/*", "text/html"),
        ("text/html", "text/html"),
        (PIP, JSON),
        (f"text/html, {JSON}", JSON),
        ("text/html;q=0, */*", "application/vnd.pypi.simple.v1+html"),
        ("application/vnd.pypi.simple.latest+json", JSON),
        ("text/html,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        (f"{JSON};q=0.1, text/html;q=0.2", "text/html"),
        ("application/*", JSON),
        (f"{JSON};q=nan, text/html;q=0.001", "text/html"),
    ],
)
def test_the_client_chooses_the_format(stocked: Shop, accept: str, kind: str) -> None:
    for path in ("/python/simple/", "/python/simple/acme-core/"):
        answer = stocked.get(path, Accept=accept)
        assert (answer.status_code, answer.mimetype) == (200, kind)
        assert answer.headers["Vary"] == "Accept"
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("accept", ["image/png", "*/*;q=0", "application/vnd.pypi.simple.v2+json"])
def test_another_format_is_refused(stocked: Shop, accept: str) -> None:
    assert stocked.get("/python/simple/acme-core/", Accept=accept).status_code == 406


def test_the_page_of_a_project(stocked: Shop, tmp_path: Path) -> None:
    page = json.loads(stocked.get("/python/simple/acme-core/", Accept=JSON).data)
    first, second = page["files"]
    body = (tmp_path / first["filename"]).read_bytes()
    assert page["meta"]["api-version"] == "1.4"
    assert page["versions"] == ["1.0", "1.1"]
    assert first["url"] == first["filename"]
    assert first["hashes"] == {"sha256": hashlib.sha256(body).hexdigest()}
    assert (first["size"], first["yanked"]) == (len(body), False)
    assert second["requires-python"] == ">=3.9"
    metadata = stocked.get(f"/python/simple/acme-core/{first['url']}.metadata")
    assert hashlib.sha256(metadata.data).hexdigest() == first["core-metadata"]["sha256"]
    html = stocked.get("/python/simple/acme-core/").text
    assert f'href="{first["url"]}#sha256=' in html
    assert "data-dist-info-metadata" in html


@pytest.mark.parametrize("kind", [JSON, "text/html"])
@pytest.mark.parametrize("path", ["/python/simple/", "/python/simple/acme-core/"])
def test_an_unchanged_page_is_not_sent_again(
    stocked: Shop, tmp_path: Path, path: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = stocked.get(path, Accept=kind).headers["ETag"]
    other = {JSON: "text/html", "text/html": JSON}[kind]
    assert stocked.get(path, Accept=other, If_None_Match=tag).status_code == 200
    with monkeypatch.context() as patch:
        patch.setattr(Depot, "project", None)  # a 304 opens nothing
        answer = stocked.get(path, Accept=kind, If_None_Match=f'"x", W/{tag}')
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", tag)
    stocked.add(wheels.wheel(tmp_path, "acme-other"))
    unchanged = path.endswith("core/")
    assert stocked.get(path, Accept=kind, If_None_Match=tag).status_code == 200 + 104 * unchanged
    stocked.add(wheels.wheel(tmp_path, version="2.0"))
    if unchanged:
        assert stocked.get(path, Accept=kind, If_None_Match=tag).status_code == 200


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/python/simple", "/python/simple/"),
        ("/python/simple/acme-core", "/python/simple/acme-core/"),
        ("/python/simple/Acme.Core/", "/python/simple/acme-core/"),
        ("/python/simple/ACME__core", "/python/simple/acme-core/"),
        ("/python/acme-core", "/python/simple/acme-core/"),
        ("/python/Acme_Core/", "/python/simple/acme-core/"),
        ("/python/simple/Acme_Core/a-1.whl.metadata", "/python/simple/acme-core/a-1.whl.metadata"),
        ("/python/Acme_Core/a-1.0+x.whl", "/python/acme-core/a-1.0%2Bx.whl"),
    ],
)
def test_other_spellings_lead_to_the_one_url(stocked: Shop, path: str, place: str) -> None:
    from urllib.parse import urljoin

    answer = stocked.get(path)
    assert answer.status_code == 308
    assert urljoin(path, answer.headers["Location"]) == place


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/python/", "/python/simple//", "/python/simple/acme-none/", "/python/simple/../"),
        *("/python/simple/acme-core/../../x", "/python/simple/%2e%2e/", "/python/simple/a%00/"),
        *("/python/simple/acme-core/..", "/python/simple/acme-core/a%2F..%2Fb.whl", "/etc/passwd"),
        *("/python/simple/acme-core/acme_core-9-py3-none-any.whl", "/python/simple/-/"),
        *("/python/simple/acme-core/acme_core-9-py3-none-any.whl.metadata", "/pythonx/simple/"),
        *("/python/files/acme-core/acme_core-1.0-py3-none-any.whl", "/python/simple/" + "a" * 4000),
    ],
)
def test_nothing_else_is_there(stocked: Shop, path: str) -> None:
    answer = stocked.get(path)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (404, "no-store")


def test_nothing_is_put_elsewhere(stocked: Shop) -> None:
    """Whoever pushes to another URL of the server is told where the index is."""
    answer = stocked.client.put("/acme-core/acme_core-1.0-py3-none-any.whl", data=b"x")
    assert (answer.status_code, "/python/simple/" in answer.text) == (404, True)
    answer = stocked.client.post("/python/simple/", data={})
    assert answer.status == "405 a form is sent to /python/legacy/"


def test_a_quarantined_project_offers_nothing(stocked: Shop) -> None:
    before = json.loads(stocked.get("/python/simple/acme-core/", Accept=JSON).data)["files"]
    stocked.depot.set_status("acme-core", "quarantined", "stolen")
    page = json.loads(stocked.get("/python/simple/acme-core/", Accept=JSON).data)
    assert (page["files"], page["project-status"]["status"]) == ([], "quarantined")
    for suffix in ("", ".metadata"):
        assert (
            stocked.get(f"/python/simple/acme-core/{before[0]['url']}{suffix}").status_code == 404
        )


# --- files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["/python/simple/acme-core/", "/python/acme-core/"])
def test_a_file(stocked: Shop, tmp_path: Path, where: str) -> None:
    path = f"{where}acme_core-1.0-py3-none-any.whl"
    body = (tmp_path / "acme_core-1.0-py3-none-any.whl").read_bytes()
    answer = stocked.get(path)
    tag = f'"{hashlib.sha256(body).hexdigest()}"'
    assert (answer.data, answer.headers["ETag"]) == (body, tag)
    assert answer.headers["Content-Length"] == str(len(body))
    assert "immutable" in answer.headers["Cache-Control"]
    head = stocked.client.head(path)
    assert (head.data, head.headers["Content-Length"]) == (b"", str(len(body)))
    assert stocked.get(path, If_None_Match=tag).status_code == 304
    part = stocked.client.head(path, headers={"Range": "bytes=0-0"})
    assert (part.status_code, part.headers["Content-Length"]) == (200, str(len(body)))


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-0", 206, slice(0, 1)),
        ("bytes=5-9", 206, slice(5, 10)),
        ("bytes=7-", 206, slice(7, None)),
        ("bytes=-4", 206, slice(-4, None)),
        ("bytes=-99999999", 206, slice(None)),
        ("bytes=0-99999999", 206, slice(None)),
        ("bytes=99999999-", 416, slice(0)),
        ("bytes=99999999999999999999999999-", 416, slice(0)),
        ("bytes=-0", 416, slice(0)),
        ("bytes=" + "0-0," * 1000 + "0-0", 200, slice(None)),
        ("bytes=0-1,3-4", 200, slice(None)),
        ("bytes=9-5", 200, slice(None)),
        ("lines=0-1", 200, slice(None)),
    ],
)
def test_a_part_of_a_file(
    stocked: Shop, tmp_path: Path, asked: str, status: int, part: slice
) -> None:
    body = (tmp_path / "acme_core-1.0-py3-none-any.whl").read_bytes()
    path = "/python/simple/acme-core/acme_core-1.0-py3-none-any.whl"
    tag = f'"{hashlib.sha256(body).hexdigest()}"'
    for condition in ({}, {"If_Range": tag}):
        answer = stocked.get(path, Range=asked, **condition)
        assert answer.status_code == status
        if status == 416:
            assert answer.headers["Content-Range"] == f"bytes */{len(body)}"
        else:
            assert answer.data == body[part]
        if status == 206:
            start, end, _ = part.indices(len(body))
            assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(body)}"
    for other in ('"x"', f"W/{tag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        answer = stocked.get(path, Range="bytes=0-0", If_Range=other)
        assert (answer.status_code, answer.data) == (200, body), other


def test_a_damaged_file_ends_the_answer(stocked: Shop, tmp_path: Path) -> None:
    (held,) = (tmp_path / "depot/files").rglob("acme_core-1.0-*.whl")
    held.write_bytes(held.read_bytes()[:-5])
    answer = stocked.get("/python/simple/acme-core/acme_core-1.0-py3-none-any.whl")
    assert answer.status_code == 500
    assert "bad-record" in stocked.logged.getvalue()


def test_signatures_lie_next_to_a_file(tmp_path: Path) -> None:
    """ssh-keygen verifies one of SSH; a signature of other content is not shown."""
    run = partial(subprocess.run, check=True, timeout=60, capture_output=True)
    key = tmp_path / "key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key])
    wheel = wheels.wheel(tmp_path)
    path = f"python/files/acme-core/{wheel.name}"
    with DorkyClient.create(str(tmp_path / "vault"), unencrypted=True) as client:
        newest = state.of_client(client, "python", pinned="", refresh=0, failed=print)
        shop = Shop(newest, Depot(Remote(client, "python")))
        shop.add(wheel)
        page = "/python/simple/acme-core/"
        shown = {end: f"{page}{wheel.name}{end}" for end in signatures.ENDINGS}
        assert {shop.get(place).status_code for place in shown.values()} == {404}
        private_keys.generate(tmp_path / "other")
        client.sign_artifact(path, tmp_path / "other")
        assert [shop.get(place).status_code for place in shown.values()] == [200, 404, 404]
        client.sign_artifact(path, key)
        for ending, place in shown.items():
            answer = shop.get(place)
            assert answer.status_code == 200
            (tmp_path / f"shown{ending}").write_bytes(answer.data)
            assert shop.get(place, If_None_Match=answer.headers["ETag"]).status_code == 304
        (tmp_path / "signers").write_text(f"ana {(tmp_path / 'key.pub').read_text()}")
        verify = ["ssh-keygen", "-Y", "verify", "-f", tmp_path / "signers", "-I", "ana"]
        verify += ["-n", "dorky-artifact", "-s", tmp_path / "shown.signed.sig"]
        statement = (tmp_path / "shown.signed").read_bytes()
        run(verify, input=statement)
        assert hashlib.sha256(wheel.read_bytes()).hexdigest().encode() in statement
        assert json.loads((tmp_path / "shown.sigstore.json").read_bytes())["dsseEnvelope"]
        assert shop.get(f"{page}acme_core-9-py3-none-any.whl.signed").status_code == 404
        client.upload(b"other content", path)
        assert {shop.get(place).status_code for place in shown.values()} == {404}
        shop.depot.set_status("acme-core", "quarantined")
        assert {shop.get(place).status_code for place in shown.values()} == {404}


def test_a_directory_has_no_signatures(stocked: Shop, tmp_path: Path) -> None:
    for ending in signatures.ENDINGS:
        path = f"/python/simple/acme-core/acme_core-1.0-py3-none-any.whl{ending}"
        assert stocked.get(path).status_code == 404
        assert stocked.client.put(path, data=b"{}").status_code == 405


# --- uploads --------------------------------------------------------------------------------


def test_uploads_of_every_kind(shop: Shop, tmp_path: Path) -> None:
    """A repeat is no error; other content of the same name is."""
    wheel = wheels.wheel(tmp_path, version="3.0")
    for send in (shop.put, shop.post):
        assert send(wheel).status_code in {201, 200}
        assert (again := send(wheel)).status_code == 200, again.text
    other = wheels.wheel(tmp_path / "other", version="3.0", code="x = 1")
    for send in (shop.put, shop.post):
        answer = send(other)
        said = "acme_core-3.0-py3-none-any.whl is here already, with other content"
        assert (answer.status, answer.text) == (f"409 {said}", f"{said}\n")
    assert shop.get("/python/simple/acme-core/acme_core-3.0-py3-none-any.whl").status_code == 200


def test_other_spellings_of_uploads_are_answered_directly(shop: Shop, tmp_path: Path) -> None:
    wheel = wheels.wheel(tmp_path)
    body = wheel.read_bytes()
    for path in ("simple/Acme.Core", "Acme_Core", "simple/acme-core", "acme-core"):
        assert shop.client.put(f"/python/{path}/{wheel.name}", data=body).status_code in {200, 201}
    with wheel.open("rb") as file:
        form = {"content": (file, wheel.name)}
        assert shop.client.post("/python/legacy", data=form).status_code == 200


def told(file: Path, **more: Any) -> bytes:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return json.dumps({"filename": file.name, "hashes": {"sha256": digest}, **more}).encode()


@pytest.mark.parametrize("first", ["record", "file"])
def test_a_record_comes_before_its_file_or_after_it(shop: Shop, tmp_path: Path, first: str) -> None:
    wheel = wheels.wheel(tmp_path)
    record = told(wheel, **{"upload-time": "2021-02-03T04:05:06.000001Z", "yanked": "broken"})
    path = f"/python/simple/acme-core/{wheel.name}"
    if first == "record":
        assert shop.client.put(f"{path}.json", data=record).status_code == 202
        assert shop.get("/python/simple/acme-core/").status_code == 404
        assert shop.put(wheel).status_code == 201
    else:
        assert shop.put(wheel).status_code == 201
        assert shop.client.put(f"{path}.json", data=record).status_code == 200
    (entry,) = json.loads(shop.get("/python/simple/acme-core/", Accept=JSON).data)["files"]
    assert (entry["upload-time"], entry["yanked"]) == ("2021-02-03T04:05:06.000001Z", "broken")
    assert shop.client.put(f"{path}.json", data=record).status_code == 200


def test_a_record_of_other_content_waits_for_that_alone(shop: Shop, tmp_path: Path) -> None:
    wheel = wheels.wheel(tmp_path)
    other = wheels.wheel(tmp_path / "other", code="x = 1")
    path = f"/python/acme-core/{wheel.name}"
    assert shop.client.put(f"{path}.json", data=told(other, yanked=True)).status_code == 202
    assert shop.put(wheel).status_code == 201
    (entry,) = json.loads(shop.get("/python/simple/acme-core/", Accept=JSON).data)["files"]
    assert entry["yanked"] is False
    assert shop.client.put(f"{path}.json", data=told(other)).status_code == 409


@pytest.mark.parametrize(
    "more",
    [
        {"size": 1},
        {"requires-python": ">=2"},
        {"core-metadata": {"sha256": "0" * 64}},
        {"upload-time": "2021-02-03T04:05:06"},
        {"upload-time": "2999-01-01T00:00:00Z"},
        {"yanked": "a\nb"},
        {"hashes": {}},
        {"filename": "acme_core-2.0-py3-none-any.whl"},
        {"yanked": []},
    ],
)
@pytest.mark.parametrize("first", ["record", "file"])
def test_nothing_in_a_record_is_believed(
    shop: Shop, tmp_path: Path, more: dict[str, Any], first: str
) -> None:
    wheel = wheels.wheel(tmp_path)
    path = f"/python/acme-core/{wheel.name}"
    answers_ = []
    for what in ("record", "file") if first == "record" else ("file", "record"):
        if what == "file":
            answers_.append(shop.put(wheel).status_code)
        else:
            sent = shop.client.put(f"{path}.json", data=told(wheel, **more))
            answers_.append(sent.status_code)
    assert 400 in answers_


@pytest.mark.parametrize(
    "fields",
    [
        {"sha256_digest": "0" * 64},
        {"md5_digest": "0" * 32},
        {"blake2_256_digest": "0" * 64},
        {"name": "other"},
        {"version": "2.0"},
        {":action": "submit"},
    ],
)
def test_a_form_that_disagrees_with_its_file(
    shop: Shop, tmp_path: Path, fields: dict[str, str]
) -> None:
    wheel = wheels.wheel(tmp_path)
    assert shop.post(wheel, **fields).status_code == 400
    assert shop.depot.projects() == []


def test_the_form_of_a_large_real_package(shop: Shop, tmp_path: Path) -> None:
    wheel = wheels.wheel(tmp_path)
    body = wheel.read_bytes()
    digests = {
        "sha256_digest": hashlib.sha256(body).hexdigest(),
        "md5_digest": hashlib.md5(body).hexdigest(),
        "blake2_256_digest": hashlib.blake2b(body, digest_size=32).hexdigest().upper(),
    }
    form = {
        ":action": "file_upload",
        "name": "Acme.Core",
        "version": "1.0.0",
        "description": "x" * 600_000,
        "provides_extra": [f"extra{n}" for n in range(3000)],
        "attestations": "[]",
        **digests,
    }
    # As bytes: the test client would leave the temporary file of a large form open.
    sent = FileStorage(io.BytesIO(body), wheel.name)
    boundary, data = encode_multipart({**form, "content": sent})
    kind = f'multipart/form-data; boundary="{boundary}"'
    answer = shop.client.post("/python/legacy/", data=data, content_type=kind)
    assert answer.status_code == 201, answer.text
    page = shop.get("/python/simple/acme-core/", Accept=JSON).text
    assert "attestations" not in page
    assert "provenance" not in page


def broken(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return path


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"acme_core-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n"},
        {
            "acme_core-1.0.dist-info/METADATA": b"Name: acme-core\nVersion: 1.0\n"
            + b" " * (17 << 20)
        },
        {"evil-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: acme-core\nVersion: 1.0\n"},
        {
            "acme_core-1.0.dist-info/METADATA": (
                b"Metadata-Version: 2.1\nName: acme-core\nVersion: 1.0\n"
            ),
            "acme_core-1.0.dist-info/RECORD": b"acme_core-1.0.dist-info/METADATA,,\n",
            "unlisted.pth": b"import evil\n",
        },
    ],
)
def test_a_file_whose_metadata_is_bad(
    shop: Shop, tmp_path: Path, members: dict[str, bytes]
) -> None:
    """One of them unpacks to 17 MiB from a few kilobytes."""
    file = broken(tmp_path / "acme_core-1.0-py3-none-any.whl", members)
    for answer in (shop.put(file), shop.post(file)):
        assert answer.status_code == 400
        assert "acme_core-1.0" in answer.status


@pytest.mark.parametrize(
    ("project", "filename"),
    [
        ("acme-other", "acme_core-1.0-py3-none-any.whl"),
        ("acme-core", "acme_core-1.0.exe"),
        ("acme-core", "..%2Facme_core-1.0-py3-none-any.whl"),
        ("..", "acme_core-1.0-py3-none-any.whl"),
        ("acme-core", ".acme_core-1.0-py3-none-any.whl"),
        ("acme-core", "acme_core-1.0-py3-none-any%0d%0aX-Evil: 1.whl"),
    ],
)
def test_a_file_in_the_wrong_place(shop: Shop, tmp_path: Path, project: str, filename: str) -> None:
    body = wheels.wheel(tmp_path).read_bytes()
    answer = shop.client.put(f"/python/simple/{project}/{filename}", data=body)
    assert answer.status_code in {400, 404, 405}
    assert "X-Evil" not in answer.headers
    assert shop.depot.projects() == []


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "depot")
    small = Shop(state.of_directory(directory), Depot(directory), limit=500)
    wheel = wheels.wheel(tmp_path)
    assert wheel.stat().st_size > 500
    for answer in (small.put(wheel), small.post(wheel)):
        assert answer.status_code == 413
        assert "500 bytes" in answer.text


def test_a_disk_that_is_full(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records, "derive", full)
    assert shop.put(wheels.wheel(tmp_path)).status == "507 the server's disk has failed"
    assert "No space left" in shop.logged.getvalue()


def test_a_closed_project_takes_no_file(stocked: Shop, tmp_path: Path) -> None:
    stocked.depot.set_status("acme-core", "archived")
    answer = stocked.put(wheels.wheel(tmp_path, version="5.0"))
    assert answer.status == "403 acme-core takes no files: it is archived"


# --- access ---------------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path: Path) -> Shop:
    directory = Directory(tmp_path / "depot")
    file = tmp_path / "tokens"
    lines = auth.line_of("reader", READ, write=False) + auth.line_of("ci", WRITE, write=True)
    file.write_text(lines)
    made = Shop(state.of_directory(directory), Depot(directory), access=auth.load(file))
    made.add(wheels.wheel(tmp_path))
    return made


def basic(token: str, user: str = "__token__") -> str:
    return "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("", 401),
        (basic("wrong"), 401),
        ("Bearer wrong", 401),
        ("Basic !!!", 401),
        ("Digest x", 401),
        (basic(READ), 200),
        (basic(READ, "anybody"), 200),
        (basic("", READ), 200),
        (f"Bearer {READ}", 200),
        (f"bearer {WRITE}", 200),
    ],
)
def test_reading_needs_a_token(guarded: Shop, header: str | None, status: int) -> None:
    headers = {} if header is None else {"Authorization": header}
    for path in ("/python/simple/", "/python/simple/acme-core/", "/metrics"):
        answer = guarded.client.get(path, headers=headers)
        assert answer.status_code == status
        assert ("WWW-Authenticate" in answer.headers) == (status == 401)
    assert guarded.get("/health").status_code == 200


def test_writing_needs_a_token_for_it(guarded: Shop, tmp_path: Path) -> None:
    wheel = wheels.wheel(tmp_path, version="2.0")
    assert guarded.put(wheel).status_code == 401
    refused = guarded.put(wheel, Authorization=basic(READ))
    assert refused.status == "403 the token is only for reading"
    assert guarded.put(wheel, Authorization=basic(WRITE), Origin="https://evil").status_code == 403
    assert guarded.put(wheel, Authorization=basic(WRITE)).status_code == 201


def test_failed_logins_are_refused_for_a_while(guarded: Shop) -> None:
    for _ in range(10):
        assert guarded.get("/python/simple/", Authorization=basic("guess")).status_code == 401
    late = guarded.get("/python/simple/", Authorization=basic(READ))
    assert late.status_code == 429
    assert int(late.headers["Retry-After"]) <= 60
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    other = guarded.client.get(
        "/python/simple/", headers={"Authorization": basic(READ)}, environ_overrides=elsewhere
    )
    assert other.status_code == 200


def test_no_token_is_logged(guarded: Shop, tmp_path: Path) -> None:
    wheel = wheels.wheel(tmp_path, version="2.0")
    guarded.get(f"/python/simple/?token={WRITE}", Authorization=basic("", WRITE))
    guarded.put(wheel, Authorization=basic(WRITE, WRITE))
    guarded.get("/python/simple/", Authorization=f"Bearer {WRITE}x")
    logged = guarded.logged.getvalue()
    assert WRITE not in logged
    assert base64.b64encode(WRITE.encode()).decode()[:12] not in logged
    lines = [json.loads(line) for line in logged.splitlines()]
    assert [line["status"] for line in lines] == [200, 201, 401]
    assert [line["caller"] for line in lines] == ["ci", "ci", ""]
    assert (
        guarded.get("/metrics", Authorization=basic(READ)).text.count("failed_logins_total 1") == 1
    )


def test_a_read_only_server(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "depot")
    client = Client(App(state.of_directory(directory), log=Log(io.StringIO()), metrics=Metrics()))
    wheel = wheels.wheel(tmp_path)
    path = f"/python/simple/acme-core/{wheel.name}"
    for answer in (
        client.put(path, data=wheel.read_bytes()),
        client.post("/python/legacy/", data={}),
        client.delete(path),
    ):
        assert answer.status_code == 405
        assert "PUT" not in answer.headers["Allow"]


def test_the_operator_sees_how_it_is(stocked: Shop) -> None:
    assert stocked.get("/health").text == "healthy\n"
    assert stocked.get("/ready").status_code == 200
    assert stocked.get("/robots.txt").text == "User-agent: *\nDisallow: /\n"
    assert 'requests_total{kind="health",status="200"} 1' in stocked.get("/metrics").text
