"""The programs in `examples/` do what their first lines promise."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import noise

from dorky import DorkyClient

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
COVERED = {"async_batch", "demo", "publish_model", "read_table", "serve_model", "upload_artifact"}
BIG = noise(3_000_000)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[DorkyClient]:
    with DorkyClient.create(str(tmp_path / "vault")) as made:
        yield made


def command(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *map(str, arguments)]


def run(client: DorkyClient, name: str, *arguments: object, **env: str) -> str:
    done = subprocess.run(
        command(name, *arguments),
        env={**os.environ, "DORKY_URL": client.url, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == COVERED


def test_an_artifact_of_ci_is_uploaded_once(client: DorkyClient, tmp_path: Path) -> None:
    built = tmp_path / "app.tar"
    built.write_bytes(BIG)
    ids = [
        run(client, "upload_artifact", built, "app.tar", CI_PIPELINE_ID="7", CI_COMMIT_SHA="abc")
        for _ in range(2)
    ]
    assert ids[0] == ids[1]
    assert client.read(ids[0].strip()) == BIG
    assert client.stat("app.tar").custom == {"commit": "abc"}
    assert [commit.message for commit in client.log()] == ["Build 7"]


def test_a_model_is_published_whole(client: DorkyClient, tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(BIG)
    version = run(client, "publish_model", weights, "v4").strip()
    assert [commit.version for commit in client.log()] == [version]
    assert client.read("models/latest.bin") == client.read("models/v4/weights.bin") == BIG
    assert json.loads(client.read("models/v4/card.json"))["name"] == "v4"


def test_a_table_is_read_in_each_version(client: DorkyClient) -> None:
    client.upload(b"name,amount\na,1\n", "t.csv")
    client.upload(b"name,amount\na,1\nb,2.5\n", "t.csv")
    told = run(client, "read_table", "t.csv", "amount")
    assert [line.split()[1] for line in told.splitlines()] == ["3.5", "1"]


def test_files_are_uploaded_at_once_from_asyncio(client: DorkyClient, tmp_path: Path) -> None:
    results = tmp_path / "results"
    (results / "sub").mkdir(parents=True)
    files = {f"{n}.txt": f"{n}".encode() for n in range(20)} | {"sub/big.bin": BIG}
    for name, data in files.items():
        (results / name).write_bytes(data)
    told = run(client, "async_batch", results, "runs/7")
    assert len(told.splitlines()) == len(files) + 1
    assert client.read("latest") == b"runs/7"
    index = json.loads(client.read("runs/7/index.json"))
    assert index == {f"runs/7/{name}": client.stat(f"runs/7/{name}").etag for name in files}
    assert client.read("runs/7/sub/big.bin") == BIG


@contextlib.contextmanager
def serving(client: DorkyClient) -> Iterator[str]:
    process = subprocess.Popen(
        command("serve_model", 0),
        env={**os.environ, "DORKY_URL": client.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def fetched(url: str, wanted: str = "") -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers={"Range": wanted} if wanted else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, b""


def test_a_model_is_served_by_range(client: DorkyClient) -> None:
    client.upload(BIG, "models/v 3.bin")
    with serving(client) as url:
        place = f"{url}/models/v%203.bin"
        assert fetched(place) == (200, BIG)
        assert fetched(place, "bytes=2000000-2000009") == (206, BIG[2_000_000:2_000_010])
        assert fetched(place, "bytes=2999990-") == (206, BIG[-10:])
        assert fetched(place, "bytes=3000000-") == (416, b"")
        assert fetched(f"{url}/none") == (404, b"")
        assert fetched(f"{url}/../none") == (400, b"")
