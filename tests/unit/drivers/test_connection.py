"""Why a server can't be reached: its certificate, or a proxy on the way; and what to do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import servers
from credentials import self_signed, service_account
from machines import Machine
from servers import Canned

from dorky import errors
from dorky.cli import hints
from dorky.config import Config
from dorky.drivers import connection, open_driver
from dorky.drivers.gcs import GCSDriver
from dorky.drivers.s3 import S3Driver

# Google's library leaves connections open that it could not use.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def closed() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def asking() -> Iterator[str]:
    """A proxy that wants to know who asks."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(407)
            self.send_header("Proxy-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_CONNECT = do_GET = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *args: object) -> None:
            """Not to stderr."""

    with servers.serving(Handler) as endpoint:
        yield endpoint.removeprefix("http://")


# --- proxies --------------------------------------------------------------------------------

OPERATIONS = {
    "get": lambda driver: driver.get("root"),
    "put": lambda driver: driver.put("packs/x", bytes(2 << 20)),
    "list": lambda driver: list(driver.list("packs/")),
    "delete": lambda driver: driver.delete(["packs/x"]),
}


def failure(
    monkeypatch: pytest.MonkeyPatch, url: str, proxy: str, operation: str = "get", **more: str
) -> errors.Unreachable:
    """Return the error, with the settings of the environment as the command line passes them."""
    scheme = "http" if "http" in more.values() else "https"
    server = f"{scheme}://storage.example.test"
    environment = {
        "AWS_ENDPOINT_URL" if url.startswith("s3") else "STORAGE_EMULATOR_HOST": server,
        "AWS_ACCESS_KEY_ID": "A",
        "AWS_SECRET_ACCESS_KEY": "B",
        f"{scheme.upper()}_PROXY": proxy,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    options = Config(None, environment=environment).driver_options("origin")
    kind = S3Driver if url.startswith("s3") else GCSDriver
    with pytest.raises(errors.Unreachable) as caught:
        OPERATIONS[operation](kind.open(url, options))
    return caught.value


@pytest.mark.each_value
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("url", ["s3://b/x", "gs://b/x"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_proxy_that_refuses_connections(
    monkeypatch: pytest.MonkeyPatch, closed: str, url: str, scheme: str, operation: str
) -> None:
    found = failure(monkeypatch, url, f"http://{closed}", operation, scheme=scheme)
    assert f"the proxy http://{closed} refuses connections" in found.message
    assert found.lasting
    assert hints.hint(found).startswith(f"check {scheme.upper()}_PROXY; NO_PROXY")


@pytest.mark.each_value
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("url", ["s3://b/x", "gs://b/x"])
def test_a_proxy_without_an_address(monkeypatch: pytest.MonkeyPatch, url: str, scheme: str) -> None:
    found = failure(monkeypatch, url, "http://no-such-proxy.test:3128", scheme=scheme)
    assert "the name of the proxy http://no-such-proxy.test:3128 can't be" in found.message


@pytest.mark.each_value
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("url", ["s3://b/x", "gs://b/x"])
@pytest.mark.parametrize("login", ["", "ana:hunter2@"])
def test_a_proxy_that_wants_a_password(
    monkeypatch: pytest.MonkeyPatch, asking: str, url: str, scheme: str, login: str
) -> None:
    found = failure(monkeypatch, url, f"http://{login}{asking}", scheme=scheme)
    assert f"the proxy http://{asking} asks for a user and a password" in found.message
    assert "hunter2" not in f"{found} {found.facts}"


def test_a_proxy_that_does_not_speak_tls(monkeypatch: pytest.MonkeyPatch, asking: str) -> None:
    found = failure(monkeypatch, "s3://b/x", f"https://{asking}")
    assert f"the proxy https://{asking} does not speak TLS" in found.message


def test_requests_that_delete_name_the_proxy_too(
    monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    """Single deletes go by another library."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://{closed}")
    options = servers.s3_options("https://storage.example.test")
    driver = S3Driver.open("s3://b/x", {**options, "tls_proxy": f"http://{closed}"})
    driver._bulk_deletes = False
    with pytest.raises(errors.Unreachable, match=r"the proxy http://.* refuses"):
        driver.delete(["a"])


def test_tokens_that_a_proxy_keeps_away(
    monkeypatch: pytest.MonkeyPatch, closed: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://{closed}")
    key = service_account(tmp_path / "sa.json", "https://oauth2.example.test/token")
    driver = GCSDriver.open("gs://b/x", {"service_account": key, "tls_proxy": f"http://{closed}"})
    with pytest.raises(errors.Unreachable, match="getting credentials: the proxy http://") as found:
        driver.get("root")
    assert found.value.lasting


@pytest.mark.parametrize("url", ["s3://b/x", "gs://b/x"])
def test_a_host_that_needs_no_proxy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed: str, url: str
) -> None:
    env = {
        "AWS_ENDPOINT_URL": f"http://{closed}",
        "STORAGE_EMULATOR_HOST": f"http://{closed}",
        "AWS_ACCESS_KEY_ID": "A",
        "AWS_SECRET_ACCESS_KEY": "B",
        "HTTP_PROXY": "http://proxy.example.test:3128",
        "NO_PROXY": "127.0.0.1",
    }
    said = Machine(tmp_path / "ana", env)("init", url, code=8)
    assert said.error.endswith("can't be reached: connection refused")
    assert said.hint.startswith("check the network")


@pytest.mark.parametrize(
    ("options", "endpoint", "shown"),
    [
        ({}, "https://a.test", None),
        ({"proxy": "http://p:1"}, "https://a.test", None),
        ({"proxy": "http://p:1"}, "http://a.test", ("http://p:1", "HTTP_PROXY")),
        ({"tls_proxy": "p:1"}, "https://a.test", ("http://p:1", "HTTPS_PROXY")),
        ({"tls_proxy": "u:hunter2@p:1/x"}, "https://a.test", ("http://p:1", "HTTPS_PROXY")),
        ({"tls_proxy": "socks5://u:h@2@p"}, "https://a.test", ("socks5://p", "HTTPS_PROXY")),
        ({"tls_proxy": "p", "no_proxy": "b.test,a.test"}, "https://a.test:9000", None),
        ({"tls_proxy": "p", "no_proxy": ".test"}, "https://a.test", None),
        ({"tls_proxy": "p", "no_proxy": "*"}, "https://a.test", None),
        ({"tls_proxy": "p", "no_proxy": "b.test"}, "https://a.test", ("http://p", "HTTPS_PROXY")),
    ],
)
def test_which_proxy(options: dict[str, str], endpoint: str, shown: tuple[str, str] | None) -> None:
    assert connection.proxy_of(options, endpoint) == shown


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_the_environment_names_the_proxy(name: str) -> None:
    options = Config(None, environment={name: "p:1", "no_proxy": "x"}).driver_options("origin")
    assert (options["tls_proxy"], options["no_proxy"]) == ("p:1", "x")


# --- certificates ---------------------------------------------------------------------------

FAULTS: dict[str, tuple[dict[str, Any], bool, str, str]] = {
    "expired": ({"days": -1}, True, "has expired", "have it renewed"),
    "early": ({"since": 1}, True, "is not valid yet", "timedatectl"),
    "name": ({"address": "127.0.0.2"}, True, "is for another name", "a name in the certificate"),
    "authority": ({"authority": True}, True, "is marked as that of an authority", "CA:FALSE"),
    "unknown": ({}, False, "is not trusted", "=FILE"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_certificates(tmp_path: Path, fault: str) -> None:
    given, trusted, said, hint = FAULTS[fault]
    bundle, context = self_signed(tmp_path, **given)
    with servers.stub_server(lambda *_: Canned(404), tls=context) as server:
        options = servers.s3_options(server.endpoint)
        if trusted:
            options["ca_bundle"] = bundle
        with pytest.raises(errors.Unreachable) as caught:
            S3Driver.open("s3://b/x", options).get("root")
    assert f"its TLS certificate {said}" in caught.value.message
    assert hint in hints.hint(caught.value)
    assert caught.value.lasting
    if fault != "early":
        assert ("AWS_CA_BUNDLE" in hints.hint(caught.value)) == (fault != "expired")


@pytest.mark.each_value
@pytest.mark.parametrize("fault", sorted(FAULTS.keys() - {"authority"}))
@pytest.mark.parametrize("driver", ["botocore", "gs"])
def test_certificates_by_other_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, driver: str
) -> None:
    given, trusted, said, hint = FAULTS[fault]
    bundle, context = self_signed(tmp_path, **given)
    with servers.stub_server(lambda *_: Canned(404), tls=context) as server:
        options = {**servers.s3_options(server.endpoint), "emulator": server.endpoint}
        if trusted:
            options["ca_bundle"] = bundle
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
        google, amazon = GCSDriver.open("gs://b/x", options), S3Driver.open("s3://b/x", options)
        with pytest.raises(errors.Unreachable) as caught:
            google.get("root") if driver == "gs" else amazon._delete_singly(["a"])
    assert f"its TLS certificate {said}" in caught.value.message
    assert hint in hints.hint(caught.value)


def test_a_self_signed_certificate_is_a_bundle_of_its_own(tmp_path: Path) -> None:
    """For every request, by whatever library it is sent."""
    bundle, context = self_signed(tmp_path)
    found = (tmp_path / "ca.pem").read_bytes()
    # More than one certificate, with words in between, as in a system's bundle.
    other, _ = self_signed(_made(tmp_path / "other"), address="127.0.0.3")
    (tmp_path / "ca.pem").write_bytes(
        b"# acme\n" + Path(other).read_bytes() + b"\n# ours\n" + found
    )
    listing = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"

    def answer(method: str, target: str) -> Canned:
        if method == "GET" and "list-type" in target:
            return Canned(200, listing)
        return Canned(404 if method == "GET" else 200, "", {"ETag": '"x"'})

    with servers.stub_server(answer, tls=context) as server:
        options = {**servers.s3_options(server.endpoint), "ca_bundle": bundle}
        driver = S3Driver.open("s3://b/x", options)
        with pytest.raises(errors.KeyNotFound):
            driver.get("root")
        driver.put("packs/a", b"x")
        driver.put("packs/b", bytes(2 << 20))
        assert driver.swap("root", b"x", expected=None) == '"x"'
        assert list(driver.list("packs/")) == []
        driver._delete_singly(["packs/a"])


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


# --- the emulator of Google Cloud Storage ----------------------------------------------------


def test_an_emulator_without_a_scheme(tmp_path: Path, gcs_server: servers.Server) -> None:
    """As other tools for Google's emulators take it."""
    host = gcs_server.endpoint.removeprefix("http://")
    place = gcs_server.remote("gs", {}, {"STORAGE_EMULATOR_HOST": host})
    ana = Machine(tmp_path / "ana", place.env)
    ana("init", place.url)
    ana.commit({".env": "A=1\n"})
    ana("push")
    assert ana("fsck", "--remote").out


@pytest.mark.parametrize("host", ["://x", "http://", "ftp://x", "http://h:1/ x", "a b", "\n"])
def test_an_emulator_that_is_no_address(tmp_path: Path, host: str) -> None:
    said = Machine(tmp_path / "ana", {"STORAGE_EMULATOR_HOST": host})("init", "gs://b/x", code=8)
    assert "an endpoint is written http://host" in said.error


def test_an_emulator_gets_no_credentials(tmp_path: Path) -> None:
    sent: list[str | None] = []

    def act(request: Any) -> None:
        sent.append(request.headers.get("Authorization"))
        servers.send(request, 404, {"Content-Length": "0"}, iter(()))

    with servers.answering(act) as endpoint:
        key = service_account(tmp_path / "sa.json", f"{endpoint}/token")
        driver = open_driver("gs://b/x", {"emulator": endpoint, "service_account": key})
        with pytest.raises(errors.NotFoundError):
            driver.get("root")
    assert set(sent) == {None}
