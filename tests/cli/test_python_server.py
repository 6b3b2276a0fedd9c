"""Python packages that are served, from the command line."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wheels
from credentials import self_signed
from machines import Machine
from servers import Remote

from dorky.client import DorkyClient
from dorky.extras.index import auth, serving
from dorky.extras.index.depot import Depot, Package
from dorky.extras.index.records import derive
from dorky.extras.index.storage import Directory
from dorky.extras.index.storage import Remote as Stored

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "package-server"
FETCH = """
import base64, json, os, sys, urllib.request
from urllib.parse import urlsplit
url = urlsplit(os.environ["UV_DEFAULT_INDEX"])
plain = url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()
pair = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
request = urllib.request.Request(plain + "acme-core/", headers={
    "Authorization": f"Basic {pair}", "Accept": "application/vnd.pypi.simple.v1+json"})
page = json.load(urllib.request.urlopen(request, timeout=20))
try:
    urllib.request.urlopen(plain, timeout=20)
except urllib.error.HTTPError as error:
    page["without"] = error.code
page["environment"] = dict(os.environ)
json.dump(page, open(sys.argv[1], "w"))
sys.exit(1)
"""


@pytest.fixture
def stocked(ana: Machine, file_url: Remote, tmp_path: Path) -> Machine:
    """A project whose remote holds a package, which is not pulled."""
    ana("init", file_url.url)
    ana.commit({"a": "1"})
    ana("push")
    wheel = wheels.wheel(tmp_path)
    with ana.here(), DorkyClient() as client:
        depot = Depot(Stored(client, ".depot-storage/python"))
        depot.add([Package(derive(wheel, wheel.name), wheel)])
    return ana


@pytest.mark.parametrize("named", [True, False])
def test_a_command_has_the_packages_as_its_one_index(
    stocked: Machine, file_url: Remote, tmp_path: Path, named: bool
) -> None:
    stocked.env |= {
        "PIP_FIND_LINKS": "/elsewhere",
        "UV_INDEX": "https://elsewhere/",
        "DEPOT_AUTH_TOKEN": "secret",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "NO_PROXY": "example.org",
    }
    where = ["--remote", file_url.url] if named else []
    machine = stocked.another("other") if named else stocked
    out = tmp_path / "out.json"
    command = [sys.executable, "-c", FETCH, str(out)]
    machine("python", "run", *where, "--", *command, code=1)
    told = json.loads(out.read_text())
    assert [file["filename"] for file in told["files"]] == ["acme_core-1.0-py3-none-any.whl"]
    assert told["without"] == 401
    environment = told["environment"]
    assert environment["NO_PROXY"] == "example.org,127.0.0.1"
    assert environment["PIP_EXTRA_INDEX_URL"] == environment["PIP_INDEX_URL"]
    assert not {"PIP_FIND_LINKS", "UV_INDEX", "DEPOT_AUTH_TOKEN"} & environment.keys()
    assert not (stocked.project / ".depot-storage").exists()


def test_a_command_that_is_not_there(stocked: Machine) -> None:
    """Its options are its own, with and without the two dashes."""
    for dashes in ([], ["--"]):
        said = stocked("python", "run", *dashes, "no-such-command", "--version", code=4)
        assert "not found" in said.error


class Served:
    """The server that a command would have run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        monkeypatch.setattr(serving, "run", self._run)

    def _run(self, service: serving.Service, started: Any) -> None:
        del started
        app = service._app
        self.names = app._state.view().depot.projects()
        self.writes = app._uploads is not None
        self.settings = service._settings


def test_what_is_served(stocked: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remote in a project, a directory if it is named, and one commit if that is."""
    served = Served(monkeypatch)
    stocked("python", "serve")
    assert (served.names, served.writes) == (["acme-core"], False)
    wheel = wheels.wheel(tmp_path, "acme-other")
    local = Depot(Directory(stocked.project / "here"))
    local.add([Package(derive(wheel, wheel.name), wheel)])
    stocked("python", "serve", "--dir", "here")
    assert served.names == ["acme-other"]
    stocked("python", "serve", "--dir", "here", "--rev", "origin/main")
    assert served.names == []
    first = stocked("log", "--json").json[0]["id"]
    stocked("python", "serve", "--rev", first)
    assert served.names == []
    tokens = stocked.project / "tokens"
    stocked("python", "token", "ci", "--write", "--file", tokens)
    options = ("--write", "--max-upload", "5MiB", "--refresh", "1m", "--host", "::1")
    stocked("python", "serve", "--token-file", tokens, *options)
    assert served.writes
    assert (served.settings.max_upload, served.settings.refresh) == (5 << 20, 60)


def unit() -> list[str]:
    """Return the words of the unit's command."""
    text = (EXAMPLES / "dorky-python.service").read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    return shlex.split(command)


def image() -> list[str]:
    """Return the words of the container's command."""
    text = (EXAMPLES / "Containerfile").read_text()
    found = re.findall(r"^(?:ENTRYPOINT|CMD) (.*)$", text, re.MULTILINE)
    return [word for line in found for word in json.loads(line)]


@pytest.mark.parametrize(
    ("words", "secrets"), [(unit, "${CREDENTIALS_DIRECTORY}"), (image, "/run/secrets")]
)
def test_the_examples_of_services_serve(
    stocked: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: Callable[[], list[str]],
    secrets: str,
) -> None:
    served = Served(monkeypatch)
    self_signed(tmp_path)
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_bytes((tmp_path / "server.pem").read_bytes())
    stocked("python", "token", "ci", "--file", tmp_path / "tokens")
    program, *command = [word.replace(secrets, str(tmp_path)) for word in words()]
    assert Path(program).name == "dorky"
    stocked(*command)
    assert served.names == ["acme-core"]
    assert (served.settings.host, served.settings.port) == ("0.0.0.0", 8443)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_the_unit_is_valid(tmp_path: Path) -> None:
    text = (EXAMPLES / "dorky-python.service").read_text()
    file = tmp_path / "dorky-python.service"
    file.write_text(text.replace(unit()[0], sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", file],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--write"], 2),
        (["--host", "0.0.0.0"], 2),
        (["--dir", "here", "--write", "--insecure"], 2),
        (["--dir", "nowhere"], 4),
        (["--rev", "other/main"], 4),
        (["--token-file", "missing"], 4),
        (["--token-file", "here"], 6),
        (["--tls-cert", "missing", "--tls-key", "missing"], 4),
        (["--upstream", "file:///etc"], 2),
        (["--private", "acme-*"], 2),
        (["--upstream", "https://user:secret@example.org/simple/"], 2),
        (["--max-upload", "0"], 2),
        (["--max-upload", "5TB"], 2),
        (["--refresh", "soon"], 2),
    ],
)
def test_what_is_not_served(
    stocked: Machine, options: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "run", None)
    (stocked.project / "here").mkdir()
    said = stocked("python", "serve", *options, code=code)
    assert "secret" not in said.err


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--write"], "dorky python token NAME --write --file tokens"),
        (["--token-file", "missing"], "dorky python token NAME --write --file missing"),
        (["--host", "0.0.0.0"], "--tls-cert FILE --tls-key FILE"),
        (["--tls-cert", "missing", "--tls-key", "missing"], "files in PEM"),
    ],
)
def test_what_is_missing_is_named(
    stocked: Machine, options: list[str], hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "run", None)
    said = stocked.run("python", "serve", *options)
    assert hint in said.err
    assert "dorky config" not in said.err


def test_an_unencrypted_repository_is_meant(
    ana: Machine, file_url: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "run", lambda *_, **__: None)
    ana("init", file_url.url, "--plain")
    ana.commit({"a": "1"})
    ana("push")
    ben = Machine(ana.base.parent / "ben", ana.env)
    said = ben("python", "serve", "--remote", f"file://{file_url.url}", code=7)
    assert said.hint.endswith("add --plain")
    assert "No packages" in ben("python", "run", "--plain", "--remote", file_url.url, "true").err


def test_a_place_without_packages_is_told(
    ana: Machine, file_url: Remote, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They are saved, but not pushed: installers would say that there are none, and not why."""
    ana("init", file_url.url)
    wheels.depot_of(ana.project / ".depot-storage/python", wheels.wheel(tmp_path))
    served = Served(monkeypatch)
    for words in (["serve"], ["run", "--", "true"]):
        said = ana("python", *words)
        assert f"No packages in file://{file_url.url} (.depot-storage/python)" in said.err
        assert "dorky save .depot-storage/python" in said.err
    ana("save", ".depot-storage", "-m", "packages")
    for words in (["serve"], ["run", "--", "true"]):
        assert "No packages" not in ana("python", *words).err
    assert served.names == ["acme-core"]


def test_a_port_that_is_taken(stocked: Machine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = stocked("python", "serve", "--port", str(port), code=2)
    assert f"can't listen on 127.0.0.1:{port}: Address already in use" in said.error
    assert "--port 0" in said.err


def test_nothing_to_serve(ana: Machine) -> None:
    ana("python", "serve", code=3)


def test_a_token_is_shown_once(ana: Machine) -> None:
    file = ana.project / "tokens"
    token = ana("python", "token", "ci", "--write", "--expires", "90d", "--file", file).out.strip()
    assert token not in file.read_text()
    assert auth.load(file).caller(token) == auth.Caller("ci", may_write=True)
    said = ana("python", "token", "ci", "--file", file, code=5)
    assert f"{file} has a token called ci already" in said.error
    ana("python", "token", "x", "--file", ana.project / "nowhere/tokens", code=6)
    said = ana("python", "token", "reader")
    assert said.out.strip() not in said.err
    file.write_text(said.err.splitlines()[-1])
    assert auth.load(file).caller(said.out.strip()) == auth.Caller("reader", may_write=False)
    made = ana("python", "token", "x", "--expires", "2030-01-31", "--json").json
    assert made["line"].endswith(" expires=2030-01-31")
    for wrong in (["a b"], ["x", "--expires", "soon"], ["x", "--expires", "2020-01-01"]):
        ana("python", "token", *wrong, code=2)
