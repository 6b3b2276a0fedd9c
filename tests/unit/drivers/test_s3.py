"""The S3 driver beyond the contract: what every kind of failure is called, and its quirks."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import servers
from calls import calls
from credentials import self_signed
from servers import Canned, Remote

from dorky import errors
from dorky.cli import hints
from dorky.drivers.base import Version
from dorky.drivers.s3 import S3Driver


def error(code: str, *, message: str = "said so", region: str = "") -> str:
    named = f"<Region>{region}</Region>" if region else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message>{named}</Error>"
    )


CALLS = calls('"etag"')

FAULTS = [
    (400, error("ExpiredToken"), errors.ExpiredCredentials),
    (400, error("TokenRefreshRequired"), errors.ExpiredCredentials),
    (403, error("RequestExpired"), errors.ExpiredCredentials),
    (403, error("AccessDenied"), errors.AccessDenied),
    (403, error("InvalidAccessKeyId"), errors.AccessDenied),
    (403, error("SignatureDoesNotMatch"), errors.AccessDenied),
    (403, error("RequestTimeTooSkewed"), errors.ClockSkew),
    (403, "", errors.AccessDenied),
    (400, error("InvalidToken"), errors.AccessDenied),
    (404, error("NoSuchBucket"), errors.BucketNotFound),
    (400, error("AuthorizationHeaderMalformed", region="eu-west-1"), errors.WrongRegion),
    (429, "", errors.RateLimitedError),
    (500, error("InternalError"), errors.InternalServerError),
    (502, "<html>bad gateway</html>", errors.ServiceUnavailableError),
    (503, error("SlowDown"), errors.RateLimitedError),
    (503, "", errors.ServiceUnavailableError),
    (504, "", errors.ServiceUnavailableError),
    (400, error("RequestTimeout"), errors.ServiceUnavailableError),
    (409, error("ConditionalRequestConflict"), errors.ServiceUnavailableError),
    (507, error("XMinioStorageFull"), errors.DiskFull),
    (200, "<!DOCTYPE html><html><br>welcome to the hotel", errors.BadEndpoint),
    (403, "<html>blocked by the proxy</html>", errors.BadEndpoint),
    (404, "<!DOCTYPE HTML>no such page", errors.BadEndpoint),
    (404, '{"detail": "Not Found"}', errors.BadEndpoint),
    (405, "<html>", errors.BadEndpoint),
    (400, error("InvalidRequest"), errors.BadEndpoint),
]


@pytest.mark.parametrize(
    ("status", "body", "kind"), FAULTS, ids=[f"{s}-{k.__name__}" for s, _, k in FAULTS]
)
def test_answers(status: int, body: str, kind: type[errors.DorkyError]) -> None:
    """Whatever the call, the same answer is the same error."""
    with servers.stub_server(lambda method, target: Canned(status, body)) as server:
        driver = S3Driver.open("s3://bucket/prefix", servers.s3_options(server.endpoint))
        for name, call in CALLS.items():
            with pytest.raises(errors.DorkyError) as caught:
                call(driver)
            assert type(caught.value) is kind, name
            assert "s3://bucket/prefix" in caught.value.message
            assert "\n" not in caught.value.message
            assert hints.hint(caught.value) or kind is errors.ServerBusy


def test_what_the_server_said_is_told() -> None:
    body = error("AccessDenied", message="not on a Sunday")
    with servers.stub_server(lambda method, target: Canned(403, body)) as server:
        driver = S3Driver.open("s3://bucket", servers.s3_options(server.endpoint))
        with pytest.raises(errors.AccessDenied, match="403 AccessDenied: not on a Sunday"):
            driver.get("root")


def test_one_refused_deletion_of_many() -> None:
    body = (
        "<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>b</Key>"
        "<Code>AccessDenied</Code><Message>locked</Message></Error></DeleteResult>"
    )
    with servers.stub_server(lambda method, target: Canned(200, body)) as server:
        driver = S3Driver.open("s3://bucket", servers.s3_options(server.endpoint))
        with pytest.raises(errors.AccessDenied):
            driver.delete(["a", "b"])


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (Canned(301, "", {"x-amz-bucket-region": "eu-west-1"}), ": eu-west-1"),
        (Canned(301, error("PermanentRedirect"), {"x-amz-bucket-region": "sa-east-1"}), ": sa-"),
        (Canned(400, error("AuthorizationHeaderMalformed", region="me-south-1")), ": me-south-1"),
    ],
)
def test_the_region_is_named(answer: Canned, named: str) -> None:
    """obstore drops the header in which a 301 names it, so it is asked for once more."""
    with servers.stub_server(lambda method, target: answer) as server:
        driver = S3Driver.open("s3://bucket", servers.s3_options(server.endpoint))
        for call in CALLS.values():
            with pytest.raises(errors.WrongRegion, match=named):
                call(driver)


def test_a_malformed_key_is_not_about_regions() -> None:
    body = error("AuthorizationHeaderMalformed", message="a non-empty Access Key must be provided")
    with servers.stub_server(lambda method, target: Canned(400, body)) as server:
        driver = S3Driver.open("s3://bucket", servers.s3_options(server.endpoint))
        with pytest.raises(errors.AccessDenied):
            driver.get("root")


def test_conditions(s3_url: Remote) -> None:
    """A 412 and a 404 to If-Match are lost swaps; a missing bucket is not."""
    for status, body in ((412, error("PreconditionFailed")), (412, ""), (404, error("NoSuchKey"))):
        with servers.stub_server(lambda method, target, s=status, b=body: Canned(s, b)) as server:  # type: ignore[misc]
            driver = S3Driver.open("s3://bucket", servers.s3_options(server.endpoint))
            with pytest.raises(errors.PreconditionFailed):
                driver.swap("root", b"x", expected=Version('"etag"'))


def test_a_missing_bucket(s3_url: Remote) -> None:
    driver = S3Driver.open("s3://no-such-bucket/x", s3_url.options)
    for name, call in CALLS.items():
        with pytest.raises(errors.BucketNotFound) as caught:
            call(driver)
        assert "s3://no-such-bucket/x" in str(caught.value), name


@pytest.mark.parametrize("wrong", ["access_key_id", "secret_access_key"])
def test_wrong_keys(rclone_url: Remote, wrong: str) -> None:
    driver = S3Driver.open(rclone_url.url, {**rclone_url.options, wrong: "NOTTHEKEY"})
    for call in CALLS.values():
        with pytest.raises(errors.AccessDenied):
            call(driver)


def test_a_web_server_is_no_s3() -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with servers.serving(Quiet) as endpoint:
        driver = S3Driver.open("s3://bucket/x", servers.s3_options(endpoint))
        for call in CALLS.values():
            with pytest.raises(errors.BadEndpoint, match=endpoint):
                call(driver)


@contextmanager
def listening(answer: bytes | None) -> Iterator[str]:
    """A server that sends ``answer`` and hangs up; or accepts and says nothing, for None."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                kept.append(connection)
                if answer is not None:
                    with connection:
                        connection.recv(1 << 16)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in kept:
            connection.close()


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("http://127.0.0.1:1", "connection refused"),
        ("http://no-such-host.invalid", "can't be resolved"),
    ],
)
def test_no_network(endpoint: str, reason: str) -> None:
    driver = S3Driver.open("s3://bucket/x", servers.s3_options(endpoint))
    for call in CALLS.values():
        with pytest.raises(errors.Unreachable, match=reason) as caught:
            call(driver)
        assert caught.value.lasting
        assert endpoint in caught.value.message


def test_broken_connections() -> None:
    with listening(b"") as place:
        driver = S3Driver.open("s3://bucket", servers.s3_options(f"http://{place}"))
        for call in CALLS.values():
            with pytest.raises(errors.Unreachable) as caught:
                call(driver)
            assert not caught.value.lasting
    body = b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 100\r\n\r\ncut off'
    with listening(body) as place:
        driver = S3Driver.open("s3://bucket", servers.s3_options(f"http://{place}"))
        with pytest.raises(errors.Unreachable):
            driver.get("root")


def test_other_protocols() -> None:
    with listening(b"SSH-2.0-OpenSSH_9.7\r\n") as place:
        driver = S3Driver.open("s3://bucket", servers.s3_options(f"http://{place}"))
        with pytest.raises(errors.BadEndpoint):
            driver.get("root")
    with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as place:
        driver = S3Driver.open("s3://bucket", servers.s3_options(f"https://{place}"))
        with pytest.raises(errors.Unreachable, match="TLS"):
            driver.get("root")


@pytest.mark.parametrize("endpoint", ["localhost:9000", "http://a b", "ftp://host", "http://"])
def test_malformed_endpoints(endpoint: str) -> None:
    driver = S3Driver.open("s3://bucket", servers.s3_options(endpoint))
    with pytest.raises(errors.BadEndpoint):
        driver.get("root")


def test_an_answer_without_a_version() -> None:
    with servers.stub_server(lambda method, target: Canned(200, b"bytes")) as server:
        driver = S3Driver.open("s3://bucket", servers.s3_options(server.endpoint))
        with pytest.raises(errors.BadEndpoint):
            driver.get("root")


def test_a_server_that_ignores_ranges() -> None:
    answer = Canned(200, b"0123456789", {"ETag": '"x"'})
    with servers.stub_server(lambda method, target: answer) as server:
        driver = S3Driver.open("s3://bucket", servers.s3_options(server.endpoint))
        assert driver.get_range("packs/a", 2, 5) == b"234"
        with pytest.raises(errors.BadEndpoint):
            driver.get_range("packs/a", 8, 11)


def test_a_range_of_a_large_object_from_a_server_that_ignores_ranges() -> None:
    whole = Random(1).randbytes(5_000_000)
    answer = Canned(200, whole, {"ETag": '"x"'})
    with servers.stub_server(lambda method, target: answer) as server:
        driver = S3Driver.open("s3://bucket", servers.s3_options(server.endpoint))
        for start, end in ((0, 10), (10, 2_000_000), (999_999, 5_000_000), (0, 5_000_000)):
            assert driver.get_range("packs/a", start, end) == whole[start:end]
        with pytest.raises(errors.BadEndpoint, match="sent 1 bytes"):
            driver.get_range("packs/a", 4_999_999, 5_000_001)


def test_a_server_that_heeds_ranges_and_says_200(rclone_url: Remote) -> None:
    driver = S3Driver.open(rclone_url.url, rclone_url.options)
    whole = Random(1).randbytes(3_000_000)
    driver.put("packs/a", whole)
    for start, end in ((0, 10), (10, 2_000_000), (2_999_999, 3_000_000), (0, 3_000_000)):
        assert driver.get_range("packs/a", start, end) == whole[start:end]
    with pytest.raises(errors.BadEndpoint):
        driver.get_range("packs/a", 2_999_999, 3_000_001)
    with pytest.raises(errors.KeyNotFound):
        driver.get_range("packs/b", 0, 10)


def test_swaps_are_not_to_be_cached(s3_url: Remote) -> None:
    import obstore

    driver = S3Driver.open(s3_url.url, s3_url.options)
    driver.swap("root", b"x", expected=None)
    found = obstore.get(driver._store(), "team/project/root")
    assert found.attributes["Cache-Control"] == "no-store"


def test_keys_that_are_no_paths(s3_url: Remote) -> None:
    driver = S3Driver.open(s3_url.url, s3_url.options)
    for key in ("../x", "a//b", "a\nb"):
        with pytest.raises(errors.UnsafePath):
            driver.put(key, b"x")


def test_neighbours_of_the_prefix_are_not_listed(s3_url: Remote) -> None:
    driver = S3Driver.open(s3_url.url, s3_url.options)
    S3Driver.open(s3_url.url + "-two", s3_url.options).put("a", b"x")
    driver.put("b", b"x")
    assert [stat.key for stat in driver.list("")] == ["b"]


def test_rclone_heeds_no_conditions(rclone_url: Remote) -> None:
    """The trap that the probe is for: a stale swap succeeds, and a commit would be lost."""
    driver = S3Driver.open(rclone_url.url, rclone_url.options)
    stale = driver.swap("root", b"one", expected=None)
    driver.swap("root", b"two", expected=stale)
    driver.swap("root", b"three", expected=stale)
    driver.swap("root", b"four", expected=None)
    blob = driver.get("root")
    assert blob
    assert blob.data == b"four"


def test_rclone_otherwise_works(rclone_url: Remote) -> None:
    driver = S3Driver.open(rclone_url.url, rclone_url.options)
    driver.put("packs/a b", b"0123456789")
    blob = driver.get("packs/a b")
    assert blob
    assert driver.get("packs/a b", unless=blob.version) is None
    assert driver.get_range("packs/a b", 2, 5) == b"234"
    assert [stat.key for stat in driver.list("packs/a")] == ["packs/a b"]
    driver.delete(["packs/a b", "packs/none"])
    assert list(driver.list("")) == []
    with pytest.raises(errors.KeyNotFound):
        driver.get("packs/a b")
    with pytest.raises(errors.BucketNotFound):
        S3Driver.open("s3://no-such-bucket", rclone_url.options).get("root")


# --- credentials and settings ---------------------------------------------------------------


@pytest.fixture
def aws(hermetic: Path, s3_url: Remote) -> Callable[[str], None]:
    """Writes ``~/.aws/config``; ENDPOINT stands for the server's."""

    def write(text: str) -> None:
        (hermetic / ".aws").mkdir(exist_ok=True)
        text = text.replace("ENDPOINT", s3_url.options["endpoint"])
        (hermetic / ".aws" / "config").write_text(text)

    return write


KEYS = "aws_access_key_id = AKIAFROMFILE\naws_secret_access_key = secret\n"


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (f"[default]\nendpoint_url = ENDPOINT\n{KEYS}", {}),
        (f"[profile lab]\nendpoint_url = ENDPOINT\n{KEYS}", {"profile": "lab"}),
        (
            f"[profile lab]\nservices = x\n{KEYS}[services x]\ns3 =\n  endpoint_url = ENDPOINT\n",
            {"profile": "lab"},
        ),
    ],
)
def test_the_profile_tells(
    aws: Callable[[str], None], s3_url: Remote, config: str, options: dict[str, str]
) -> None:
    aws(config)
    driver = S3Driver.open(s3_url.url, options)
    driver.put("a", b"x")
    assert [path for _, path in s3_url.log] == [f"/{s3_url.url.split('/')[2]}/team/project/a"]


def test_no_credentials(s3_url: Remote) -> None:
    driver = S3Driver.open(s3_url.url, {"endpoint": s3_url.options["endpoint"]})
    for call in CALLS.values():
        with pytest.raises(errors.NoCredentials):
            call(driver)
    assert s3_url.log == []


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ("", errors.NoCredentials),
        ("[profile lab]\naws_access_key_id = half\n", errors.NoCredentials),
        ("[profile lab]\ncredential_process = /bin/false\n", errors.NoCredentials),
        ("[profile lab]\nrole_arn = arn:x\nsource_profile = none\n", errors.NoCredentials),
        ("not a config file", errors.NoCredentials),
        (
            "[profile lab]\nsso_session = x\nsso_account_id = 1\nsso_role_name = r\n"
            "[sso-session x]\nsso_region = us-east-1\nsso_start_url = https://example.invalid\n",
            errors.ExpiredCredentials,
        ),
    ],
)
def test_profiles_that_fail(
    aws: Callable[[str], None], s3_url: Remote, config: str, kind: type[errors.DorkyError]
) -> None:
    aws(config)
    driver = S3Driver.open(s3_url.url, {"profile": "lab"})
    with pytest.raises(kind) as caught:
        driver.get("root")
    assert "\n" not in caught.value.message


def test_renewal_that_fails_later(
    s3_url: Remote, aws: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """obstore asks again in its own thread; the reason still comes out as ours."""
    from botocore.exceptions import UnauthorizedSSOTokenError

    aws(f"[default]\nendpoint_url = ENDPOINT\n{KEYS}")
    driver = S3Driver.open(s3_url.url, {})
    driver._store()
    assert driver._chain

    class Expired:
        def get_frozen_credentials(self) -> None:
            raise UnauthorizedSSOTokenError

    driver._chain._credentials = Expired()
    with pytest.raises(errors.ExpiredCredentials):
        driver.get("root")


def test_given_keys_get_no_foreign_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """obstore by itself would add AWS_SESSION_TOKEN to them, and go to AWS_ENDPOINT_URL_S3."""
    seen: list[dict[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append({name.lower(): value for name, value in self.headers.items()})
            self.send_error(503)

        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-somebody-else")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    with servers.serving(Handler) as endpoint:
        for extra in ({}, {"session_token": "ours"}):
            driver = S3Driver.open("s3://bucket", {**servers.s3_options(endpoint), **extra})
            with pytest.raises(errors.ServerBusy):
                driver.get("root")
    assert [headers.get("x-amz-security-token") for headers in seen] == [None, "ours"]


def test_unusable_certificates(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    options = {**servers.s3_options("https://127.0.0.1:1"), "ca_bundle": str(bundle)}
    with pytest.raises(errors.UnreadableFile):
        S3Driver.open("s3://bucket", options).get("root")
    bundle.write_text("not a certificate")
    with pytest.raises(errors.BadConfig):
        S3Driver.open("s3://bucket", options).get("root")


def test_private_certificates(tmp_path: Path) -> None:
    """A server of one's own: refused by itself, trusted with its `ca_bundle`."""
    bundle, context = self_signed(tmp_path)
    answer = Canned(200, b"x", {"ETag": '"1"'})
    with servers.stub_server(lambda method, target: answer, tls=context) as server:
        options = servers.s3_options(server.endpoint)
        with pytest.raises(errors.Unreachable, match="certificate") as caught:
            S3Driver.open("s3://bucket", options).get("root")
        assert caught.value.lasting
        blob = S3Driver.open("s3://bucket", {**options, "ca_bundle": bundle}).get("root")
        assert blob
        assert blob.data == b"x"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("s3://plain-1/x", "plain-1.s3.eu-west-1."),
        ("s3://with.dots/x", "s3.eu-west-1."),
        ("s3://under_score/x", "s3.eu-west-1."),
    ],
)
def test_where_aws_is(url: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual hosts, but a bucket with dots would not match the certificate of its host."""
    proxied: list[bytes] = []
    options: dict[str, Any] = servers.s3_options("")
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def serve() -> None:
            connection, _ = proxy.accept()
            with connection:
                proxied.append(connection.recv(1000))

        thread = threading.Thread(target=serve)
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        with pytest.raises(errors.Unreachable):
            S3Driver.open(url, {**options, "region": "eu-west-1"}).get("root")
        thread.join()
    assert proxied[0].startswith(f"CONNECT {host}amazonaws.com:443".encode())


@pytest.mark.parametrize(
    ("endpoint", "proxy", "verified"),
    [
        ("http://127.0.0.1:1", "", False),
        ("http://127.0.0.1:1", "https://proxy.example.test", True),
        ("https://127.0.0.1:1", "", True),
        ("", "", True),
    ],
)
def test_certificates_are_verified_where_there_are_any(
    endpoint: str, proxy: str, verified: bool
) -> None:
    """To read those that the system trusts takes longer than a request does."""
    options = {**servers.s3_options(endpoint), "proxy": proxy}
    client: Any = S3Driver.open("s3://bucket", options)._store().client_options
    assert bool(client.get("allow_invalid_certificates")) is not verified


def test_slow_uploads_are_not_cut_off() -> None:
    """reqwest's read timeout counts the sending of the body, so large bodies go without one."""
    with servers.stub_server(lambda method, target: Canned(200, "", {"ETag": '"x"'})) as server:
        driver = S3Driver.open("s3://bucket", servers.s3_options(server.endpoint))
        driver.put("small", b"x")
        driver.put("large", b"x" * (2 << 20))
        small, large = driver._store(), driver._store(2 << 20)
    assert "read_timeout" in small.client_options  # type: ignore[operator]
    assert "read_timeout" not in large.client_options  # type: ignore[operator]


def test_silence_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(None) as place:
        driver = S3Driver.open("s3://bucket", servers.s3_options(f"http://{place}"))
        driver._stores[False] = driver._connect({"read_timeout": "200ms"})
        began = time.monotonic()
        with pytest.raises(errors.Unreachable, match="in time") as caught:
            driver.get("root")
        assert time.monotonic() - began < 5
        assert not caught.value.lasting
