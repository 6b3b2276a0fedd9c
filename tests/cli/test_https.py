"""A repository that a web server shows: anybody reads it, and nobody writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from credentials import self_signed
from machines import Machine, noise
from servers import Remote
from web import Web, web_server

from dorky import errors
from dorky.client import DorkyClient

SECRET = "TOKEN=hunter2"


@pytest.fixture
def shown(ana: Machine, file_url: Remote) -> Iterator[Web]:
    """Ana's encrypted repository in a directory, which a web server shows."""
    ana("init", file_url.url)
    ana.commit({".env": SECRET, "data/table.csv": noise(3 << 20)}, "first")
    ana("push")
    with web_server(Path(file_url.url.removeprefix("file://"))) as web:
        yield web


def reader(ana: Machine, name: str = "reader", *, identity: bool = True) -> Machine:
    made = ana.another(name, identity=identity)
    made.env["DORKY_PRIVATE_HOSTS"] = "127.0.0.1"
    return made


def test_a_repository_is_cloned_and_pulled(ana: Machine, shown: Web) -> None:
    bob = reader(ana)
    bob("clone", shown.url, ".")
    assert bob.read(".env") == SECRET.encode()
    assert bob.read("data/table.csv") == noise(3 << 20)
    ana.commit({".env": "TOKEN=new", "more": noise(1 << 20)}, "second")
    ana("push")
    bob("pull")
    assert (bob.read(".env"), bob.read("more")) == (b"TOKEN=new", noise(1 << 20))
    before = len(shown.log)
    bob("pull")
    assert shown.statuses[before:] == [304]
    assert "second" in bob("log", "--oneline").out
    assert {method for method, _ in shown.log} == {"GET"}
    assert bob("fsck").code == 0
    assert bob("fetch").code == 0


def test_a_git_clone_with_its_address_pulls(ana: Machine, shown: Web) -> None:
    bob = reader(ana)
    text = (ana.project / ".dorkyrc").read_text()
    url = next(line for line in text.splitlines() if line.startswith("url ="))
    bob.write(".dorkyrc", text.replace(url, f'url = "{shown.url}"'))
    bob("pull")
    assert bob.read(".env") == SECRET.encode()


@pytest.mark.parametrize("ranges", [True, False])
def test_files_are_read_without_a_clone(
    ana: Machine, shown: Web, file_url: Remote, *, ranges: bool
) -> None:
    bob = reader(ana)
    directory = Path(file_url.url.removeprefix("file://"))
    with web_server(directory, ranges=ranges, etags=ranges) as web, bob.here():
        with DorkyClient(web.url) as client:
            assert client.read(".env") == SECRET.encode()
            assert [info.path for info in client.list()] == [".env", "data/table.csv"]
            assert client.stat("data/table.csv").size == 3 << 20
            client.download("data/table.csv", "out.csv")
            assert Path("out.csv").read_bytes() == noise(3 << 20)
            assert b"".join(client.stream("data/table.csv")) == noise(3 << 20)
            with client.open("data/table.csv") as file:
                file.seek(2 << 20)
                assert file.read(10) == noise(3 << 20)[2 << 20 : (2 << 20) + 10]
            sources = iter([b"never read"])
            for write in (
                lambda: client.upload(sources, "x"),
                lambda: client.delete(".env"),
                lambda: client.open("x", "wb"),
                lambda: client.batch(),
                lambda: client.move(".env", "x"),
                lambda: client.set_metadata(".env", {"a": "b"}),
            ):
                with pytest.raises(errors.ReadOnlyRemote) as raised:
                    write()
                assert raised.value.status_code == 403
            assert next(sources)
        if ranges:
            assert web.log.down < 3 * (4 << 20)
    assert bob("stat", ".env", "--remote", web.url, code=8).code
    assert bob("stat", ".env", "--remote", shown.url, "--json").json["size"] == len(SECRET)
    bob("upload", "out.csv", "--remote", shown.url, code=6)


def test_whoever_has_no_key_reads_nothing(ana: Machine, shown: Web) -> None:
    eve = reader(ana, "eve", identity=False)
    eve("clone", shown.url, ".", code=6)
    assert [*eve.project.iterdir()] == []


def test_an_unencrypted_repository_needs_consent_and_no_key(ana: Machine, file_url: Remote) -> None:
    ana("init", file_url.url, "--plain")
    ana.commit({"table.csv": "a,b\n1,2\n"})
    ana("push")
    with web_server(Path(file_url.url.removeprefix("file://"))) as web:
        anybody = reader(ana, "anybody", identity=False)
        assert "not encrypted" in anybody("clone", web.url, ".", code=7).error
        anybody("clone", web.url, ".", "--plain")
        assert anybody.read("table.csv") == b"a,b\n1,2\n"
        with anybody.here():
            with pytest.raises(errors.UnencryptedRepository), DorkyClient(web.url) as client:
                client.read("table.csv")
            with DorkyClient(web.url, unencrypted=True) as client:
                assert client.read("table.csv") == b"a,b\n1,2\n"
        anybody("pull")
        anybody("push", code=6)


WRITING = [
    ("push",),
    ("sync",),
    ("save", "-m", "x", "new"),
    ("gc", "--remote"),
    ("gc", "--remote", "--dry-run"),
    ("rotate",),
    ("purge", ".env", "--yes"),
    ("team", "add", "bob", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"),
    ("team", "remove", "ana", "--yes"),
    ("team", "join"),
    ("group", "add", "ops", "ops/**"),
    ("destroy", "--remote", "--yes"),
]


def test_whatever_writes_says_that_it_is_read_only(ana: Machine, shown: Web) -> None:
    bob = reader(ana)
    bob("clone", shown.url, ".")
    bob.write("new", "1")
    bob("stage", "new")
    bob("commit", "-m", "local work is possible")
    bob.write("new", "2")
    before = bob("log", "--oneline").out
    for command in WRITING:
        said = bob.run(*command)
        assert (said.code, "read-only" in said.error) == (6, True), (command, said)
        assert "dorky remote set-url origin" in said.hint, command
        assert bob("log", "--oneline").out == before, command
    assert {method for method, _ in shown.log} == {"GET"}
    assert bob("push", "--json", code=6).json["error"]["code"] == "read-only-remote"


def test_a_repository_can_not_be_started_there(ana: Machine, shown: Web) -> None:
    new = reader(ana, "new", identity=False)
    said = new("init", shown.url, code=6)
    assert "read-only" in said.error
    assert [*new.project.iterdir()] == []
    assert not new.identity.exists()
    assert not shown.log


def test_a_hostile_project_file_leads_to_no_private_host(ana: Machine, shown: Web) -> None:
    bob = reader(ana)
    del bob.env["DORKY_PRIVATE_HOSTS"]
    text = (ana.project / ".dorkyrc").read_text()
    url = next(line for line in text.splitlines() if line.startswith("url ="))
    port = shown.url.rpartition(":")[2]
    for target in (f"http://127.0.0.1:{port}", f"https://localhost:{port}/x"):
        bob.write(".dorkyrc", text.replace(url, f'url = "{target}"'))
        said = bob("pull", code=6)
        assert "private or loopback" in said.error
        assert said.hint.startswith("if you trust it: dorky config set --user private_hosts ")
    bob.write(".dorkyrc", f'private_hosts = "127.0.0.1"\n{text}')
    assert "may only stand in ~/.dorky/config" in bob("pull", code=3).error
    assert not shown.log
    # The user may allow it, once for all projects.
    bob.write(".dorkyrc", text.replace(url, f'url = "{shown.url}"'))
    bob("config", "set", "--user", "private_hosts", "127.0.0.1")
    bob("pull")
    assert bob.read(".env") == SECRET.encode()


def test_its_certificate_may_be_ones_own(ana: Machine, shown: Web, file_url: Remote) -> None:
    bundle, context = self_signed(ana.base)
    bob = reader(ana)
    directory = Path(file_url.url.removeprefix("file://"))
    with web_server(directory, tls=context) as web:
        assert "SSL_CERT_FILE" in bob("clone", web.url, ".", code=8).hint
        with bob.here(), DorkyClient(web.url, ca_bundle=bundle) as client:
            assert client.read(".env") == SECRET.encode()
        bob.env["SSL_CERT_FILE"] = bundle
        bob("clone", web.url, ".")
        assert bob.read(".env") == SECRET.encode()


def test_doctor_looks_at_it(ana: Machine, shown: Web) -> None:
    bob = reader(ana)
    bob("clone", shown.url, ".")
    found = {check["name"]: check for check in bob("doctor", "--json").json}
    assert found["remote"]["verdict"] == "ok"
    assert found["writing"]["verdict"] == "ok"
    assert "read-only" in found["writing"]["about"]
    assert (found["ranges"]["verdict"], found["versions"]["verdict"]) == ("ok", "ok")
    assert not [check for check in found.values() if check["verdict"] == "fail"]
    assert {method for method, _ in shown.log} == {"GET"}


def test_a_rewound_or_altered_repository_is_told(
    ana: Machine, shown: Web, file_url: Remote
) -> None:
    bob = reader(ana)
    bob("clone", shown.url, ".")
    root = Path(file_url.url.removeprefix("file://")) / "root"
    old = root.read_bytes()
    ana.commit({"a": "1"})
    ana("push")
    bob("pull")
    root.write_bytes(old)
    bob("pull", code=7)
    root.write_bytes(b"<html>")
    bob("pull", code=7)
    root.unlink()
    bob("pull", code=4)
