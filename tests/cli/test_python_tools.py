"""The server of packages, as pip, uv, twine and curl see it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import wheels
from credentials import self_signed
from machines import Machine
from servers import Remote

from dorky.client import DorkyClient
from dorky.extras.index import auth, state
from dorky.extras.index.depot import Depot, Package
from dorky.extras.index.operations import Log
from dorky.extras.index.records import derive
from dorky.extras.index.serving import Service, Settings
from dorky.extras.index.storage import Remote as Stored
from dorky.extras.index.upstream import Upstream

pytestmark = pytest.mark.deep

PIP = [sys.executable, "-m", "pip"]
UV = [sys.executable, "-m", "uv"]
TWINE = [sys.executable, "-m", "twine", "--no-color"]
WAIT = 120


class Index:
    """A server over a repository, which many tools use."""

    def __init__(self, url: str, place: Path, *, tls: bool = False, upstream: str = "") -> None:
        self.client = DorkyClient(url)
        self.logged = io.StringIO()
        self.ca = str(place / "ca.pem")
        tokens = place / "tokens"
        tokens.write_text(auth.line_of("ci", "secret", write=True))
        pem = place / "server.pem" if tls else None
        self.service = Service(
            Settings(port=0, tokens=tokens, certificate=pem, key=pem),
            state.of_client(self.client, "depot", pinned="", refresh=0, failed=lambda _: None),
            depot=Depot(Stored(self.client, "depot")),
            upstream=Upstream(upstream, ["acme-*"]) if upstream else None,
            log=Log(self.logged),
        )

    def __enter__(self) -> Index:
        self.service.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.service.stop()
        self.client.close()

    @property
    def url(self) -> str:
        return self.service.url.replace("://", "://ci:secret@")

    @property
    def legacy(self) -> str:
        return self.service.url.replace("/simple/", "/legacy/")

    @property
    def requests(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.logged.getvalue().splitlines()]
        return [line for line in lines if line["event"] == "request"]

    def forget(self) -> None:
        self.logged.seek(0)
        self.logged.truncate()


@pytest.fixture
def vault(file_url: Remote) -> str:
    DorkyClient.create(file_url.url).close()
    return file_url.url


def ran(command: list[Any], code: int = 0, **env: str) -> str:
    """Run a tool with nothing of the surroundings but HOME; return all that it says."""
    base = {name: os.environ[name] for name in ("HOME", "PATH")}
    own = {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "UV_NO_CONFIG": "1"}
    done = subprocess.run(
        [str(word) for word in command],
        env=base | own | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def curl(index: Index, *words: object, code: int = 0) -> str:
    return ran(["curl", "-sS", "-u", "ci:secret", "--cacert", index.ca, *words], code)


def told(file: Path, when: str) -> str:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return json.dumps({"filename": file.name, "hashes": {"sha256": digest}, "upload-time": when})


def test_installers_over_tls(vault: str, tmp_path: Path) -> None:
    """The old version is chosen by its time, metadata are read alone, a repeat costs 304s."""
    self_signed(tmp_path)
    old, new = (wheels.wheel(tmp_path, version=v, requires=["acme-base"]) for v in ("1.0", "1.1"))
    base, sdist = wheels.wheel(tmp_path, "acme-base"), wheels.sdist(tmp_path, version="1.1")
    with Index(vault, tmp_path, tls=True) as index:
        root = index.service.url.removesuffix("simple/")
        for n, file in enumerate((old, new, sdist, base)):
            path = f"{root}{'simple/' * (n % 2)}{'acme-base' if file is base else 'acme-core'}/"
            record = [f"{path}{file.name}.json", "-X", "PUT", "-d"]
            when = "2021-01-01T00:00:00Z" if file in {old, base} else "2025-01-01T00:00:00Z"
            assert "waits" in curl(index, *record, told(file, when))
            assert "added" in curl(index, "-T", file, path)
            assert "was here" in curl(index, "-T", file, f"{path}{file.name}")
            assert "was here" in curl(index, *record, told(file, when))

        def pip(target: str, *words: str) -> str:
            options = ["--index-url", index.url, "--cert", index.ca, "--target", tmp_path / target]
            return ran([*PIP, "install", *options, *words])

        def uv(target: str, *words: str) -> str:
            options = ["--default-index", index.url, "--target", tmp_path / target]
            return ran([*UV, "pip", "install", "-v", *options, *words], SSL_CERT_FILE=index.ca)

        index.forget()
        assert "acme-base-1.0 acme-core-1.1" in pip("a", "acme-core")
        assert {line["status"] for line in index.requests} <= {200, 401}
        index.forget()
        pip("b", "acme-core")
        assert {line["status"] for line in index.requests} <= {304, 401}
        assert "acme-core-1.0" in pip("c", "acme-core", "--uploaded-prior-to", "2022-01-01")
        index.forget()
        said = uv("e", "acme-core")
        assert "acme-core==1.1" in said
        assert "acme_core-1.1-py3-none-any.whl.metadata" in said
        assert "range request" not in said.lower()
        assert "acme-core==1.0" in uv("f", "acme-core", "--exclude-newer", "2022-01-01T00:00:00Z")
        index.service._app._uploads._depot.yank("acme-core", "1.1", "broken")
        assert "acme-core-1.0" in pip("g", "acme-core")
        assert "acme-core-1.1" in pip("h", "acme-core==1.1")
        assert "acme-core==1.0" in uv("i", "acme-core")
        assert "secret" not in index.logged.getvalue()


def test_curl(vault: str, tmp_path: Path) -> None:
    wheel = wheels.wheel(tmp_path)
    with Index(vault, tmp_path) as index:
        root = index.service.url.removesuffix("simple/")
        file = f"{root}simple/acme-core/{wheel.name}"
        curl_ = ["curl", "-sS", "-o", tmp_path / "out", "-w", "%{http_code} %{redirect_url}"]
        assert ran([*curl_, "-T", wheel, file]).strip() == "401"
        curl(index, "-T", wheel, file)
        own = [*curl_, "-u", "ci:secret"]
        moved = ran([*own, f"{root}simple/Acme.Core"])
        assert moved.replace("ci:secret@", "") == f"308 {root}simple/acme-core/"
        assert ran([*own, "-L", f"{root}Acme_Core/{wheel.name}"]).strip() == "200"
        assert (tmp_path / "out").read_bytes() == wheel.read_bytes()
        assert ran([*own, "-r", "-10", file]).strip() == "206"
        assert (tmp_path / "out").read_bytes() == wheel.read_bytes()[-10:]
        assert ran([*own, "-r", "1000000-", file]).strip() == "416"
        assert ran([*own, "-H", "Accept: image/png", f"{root}simple/acme-core/"]).strip() == "406"
        etag = f'"{hashlib.sha256(wheel.read_bytes()).hexdigest()}"'
        assert ran([*own, "-H", f"If-None-Match: {etag}", file]).strip() == "304"
        large = tmp_path / "large.bin"
        with large.open("wb") as made:
            made.truncate(64 << 20)
        refused = ["curl", "-sS", "-H", "Expect:", "-T", large, f"{root}x/x-1.tar.gz"]
        assert "a token is needed" in ran(refused)


def test_uploads_by_twine_and_uv(vault: str, tmp_path: Path) -> None:
    """Eight at once, through two servers on one bucket: none is lost."""
    packages = [wheels.wheel(tmp_path, version=f"1.{n}") for n in range(8)]
    changed = wheels.wheel(tmp_path / "changed", version="1.0", code="x = 1")
    with Index(vault, tmp_path) as one, Index(vault, tmp_path) as two:

        def publish(n: int) -> str:
            index = (one, two)[n % 2]
            options = ["--publish-url", index.legacy, "--token", "secret", packages[n]]
            return ran([*UV, "publish", *options])

        with ThreadPoolExecutor(8) as pool:
            [*pool.map(publish, range(8))]
        for index in (one, two):
            page = curl(
                index,
                "-H",
                "Accept: application/vnd.pypi.simple.v1+json",
                f"{index.service.url}acme-core/",
            )
            assert len(json.loads(page)["files"]) == 8
        upload = [*TWINE, "upload", "--disable-progress-bar", "--repository-url", one.legacy]
        env = {"TWINE_USERNAME": "ci", "TWINE_PASSWORD": "secret"}
        for _ in range(2):
            ran([*upload, *packages[:2]], **env)
        said = " ".join(ran([*upload, changed], 1, **env).split())
        assert f"{changed.name} is here already, with other content" in said
        wrong = ran([*UV, "publish", "--publish-url", one.legacy, "--token", "x", changed], 2)
        assert "the token is not valid" in wrong


def test_nobody_slips_in_a_higher_version(vault: str, tmp_path: Path) -> None:
    evil, lib = wheels.wheel(tmp_path, version="99.0"), wheels.wheel(tmp_path, "public-lib")
    mine = wheels.wheel(tmp_path, requires=["public-lib"])
    outside = tmp_path / "outside"
    outside.mkdir()
    DorkyClient.create(str(outside / "vault")).close()
    with Index(str(outside / "vault"), outside) as other:
        for file, name in ((evil, "acme-core"), (lib, "public-lib")):
            curl(other, "-T", file, other.service.url.replace("simple/", f"{name}/"))
        # Its pages need a token here, which an upstream that is asked gets from the environment.
        other.service._app.access = None
        with Index(vault, tmp_path, upstream=other.service.url) as index:
            curl(index, "-T", mine, index.service.url.replace("simple/", "acme-core/"))
            other.forget()
            options = ["--index-url", index.url, "--target", tmp_path / "t"]
            assert "acme-core-1.0 public-lib-1.0" in ran([*PIP, "install", *options, "acme-core"])
            assert not [line for line in other.requests if "acme" in line["path"]]


def test_a_fresh_machine_with_one_key(ana: Machine, file_url: Remote, tmp_path: Path) -> None:
    """It has no server, and no project: a command installs from the encrypted bucket."""
    ana("init", file_url.url)
    ana.commit({"a": "1"})
    ana("push")
    wheel = wheels.wheel(tmp_path)
    with ana.here(), DorkyClient(file_url.url) as client:
        depot = Depot(Stored(client, ".depot-storage/python"))
        depot.add([Package(derive(wheel, wheel.name), wheel)])
    assert b"acme" not in b"".join(
        f.read_bytes() for f in Path(file_url.url).rglob("*") if f.is_file()
    )
    fresh = ana.another("fresh")
    command = [sys.executable, "-m", "dorky", "python", "run", "--remote", file_url.url, "--"]
    install = [*PIP, "install", "--target", tmp_path / "t", "acme-core"]
    assert "Successfully installed acme-core-1.0" in ran([*command, *install], HOME=str(fresh.home))
    add = [*UV, "pip", "install", "--target", tmp_path / "u", "acme-core"]
    assert "acme-core==1.0" in ran([*command, *add], HOME=str(fresh.home))
    ran([*command, sys.executable, "-c", "raise SystemExit(9)"], 9, HOME=str(fresh.home))
