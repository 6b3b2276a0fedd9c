"""The GCS driver beyond the contract: what every kind of failure is called, and its quirks."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import servers
from calls import calls
from credentials import service_account
from servers import Canned, Remote

from dorky import errors
from dorky.drivers.base import Version
from dorky.drivers.gcs import GCSDriver


def error(code: int, message: str) -> str:
    return json.dumps({"error": {"code": code, "message": message, "errors": []}})


CALLS = calls("17", large=9 << 20)

FAULTS = [
    (403, error(403, "x does not have storage.objects.get access"), errors.AccessDenied),
    (404, error(404, "The specified bucket does not exist."), errors.BucketNotFound),
    (404, "", errors.BucketNotFound),
    (429, error(429, "rate limit"), errors.RateLimitedError),
    (500, error(500, "backend error"), errors.InternalServerError),
    (502, "<html>bad gateway</html>", errors.ServiceUnavailableError),
    (503, "", errors.ServiceUnavailableError),
    (504, "", errors.ServiceUnavailableError),
    (408, "", errors.ServiceUnavailableError),
    (200, "<html>welcome to the hotel</html>", errors.BadEndpoint),
    (403, "<html>blocked by the proxy</html>", errors.BadEndpoint),
    (404, "<!DOCTYPE html>no such page", errors.BadEndpoint),
    (405, "", errors.BadEndpoint),
    (400, error(400, "invalid"), errors.BadEndpoint),
]


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], GCSDriver]:
    def make(endpoint: str) -> GCSDriver:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
        return GCSDriver.open("gs://bucket/prefix", {})

    return make


@pytest.mark.parametrize(
    ("status", "body", "kind"), FAULTS, ids=[f"{s}-{k.__name__}" for s, _, k in FAULTS]
)
def test_answers(
    emulated: Callable[[str], GCSDriver], status: int, body: str, kind: type[errors.DorkyError]
) -> None:
    """Whatever the call, the same answer is the same error."""
    with servers.stub_server(lambda method, target: Canned(status, body)) as server:
        driver = emulated(server.endpoint)
        for name, call in CALLS.items():
            with pytest.raises(errors.DorkyError) as caught:
                call(driver)
            assert type(caught.value) is kind, name
            assert "gs://bucket/prefix" in caught.value.message
            assert "\n" not in caught.value.message


def test_the_server_says_when_to_come_back(emulated: Callable[[str], GCSDriver]) -> None:
    answer = Canned(429, "", {"Retry-After": "7"})
    with servers.stub_server(lambda method, target: answer) as server:
        driver = emulated(server.endpoint)
        for call in CALLS.values():
            with pytest.raises(errors.ServerBusy) as caught:
                call(driver)
            assert caught.value.retry_after == 7


def test_missing_objects_as_google_tells_them(emulated: Callable[[str], GCSDriver]) -> None:
    """Downloads get plain text; the message names the object, so nothing else is asked."""
    for body in ("No such object: bucket/prefix/root", error(404, "No such object: b/r")):
        with servers.stub_server(lambda method, target, b=body: Canned(404, b)) as server:  # type: ignore[misc]
            driver = emulated(server.endpoint)
            with pytest.raises(errors.KeyNotFound):
                driver.get("root")
            assert len(server.log) == 1


def test_missing_objects_as_emulators_tell_them(gcs_url: Remote) -> None:
    """An empty 404 may be the bucket's: a list tells."""
    driver = GCSDriver.open(gcs_url.url, {})
    with pytest.raises(errors.KeyNotFound):
        driver.get("root")
    assert len(gcs_url.log) == 2
    missing = GCSDriver.open("gs://no-such-bucket/x", {})
    for name, call in CALLS.items():
        with pytest.raises(errors.BucketNotFound) as caught:
            call(missing)
        assert "gs://no-such-bucket/x" in str(caught.value), name


def test_no_network(emulated: Callable[[str], GCSDriver]) -> None:
    for endpoint, reason in (
        ("http://127.0.0.1:1", "connection refused"),
        ("http://no-such-host.invalid", "can't be resolved"),
    ):
        driver = emulated(endpoint)
        for call in CALLS.values():
            with pytest.raises(errors.Unreachable, match=reason) as caught:
                call(driver)
            assert caught.value.lasting


def test_broken_downloads(emulated: Callable[[str], GCSDriver]) -> None:
    headers = {"Content-Length": "100", "x-goog-generation": "1", "Connection": "close"}
    with servers.stub_server(lambda method, target: Canned(200, "cut", headers)) as server:
        driver = emulated(server.endpoint)
        with pytest.raises(errors.Unreachable) as caught:
            driver.get("root")
        assert not caught.value.lasting


def test_bytes_that_do_not_match_their_checksum(emulated: Callable[[str], GCSDriver]) -> None:
    headers = {"x-goog-generation": "1", "x-goog-hash": "crc32c=AAAAAA=="}
    with servers.stub_server(lambda method, target: Canned(200, "flipped", headers)) as server:
        driver = emulated(server.endpoint)
        with pytest.raises(errors.BadEndpoint, match="hecksum"):
            driver.get("root")


def test_short_ranges(emulated: Callable[[str], GCSDriver]) -> None:
    with servers.stub_server(lambda method, target: Canned(206, b"12345")) as server:
        driver = emulated(server.endpoint)
        with pytest.raises(errors.BadEndpoint):
            driver.get_range("packs/a", 0, 10)


def test_lists_over_all_pages(emulated: Callable[[str], GCSDriver]) -> None:
    def item(name: str) -> dict[str, str]:
        return {"name": f"prefix/{name}", "size": "5", "updated": "2026-01-02T03:04:05.678Z"}

    def answer(method: str, target: str) -> Canned:
        query = parse_qs(urlsplit(target).query)
        assert query["prefix"] == ["prefix/packs/"]
        if "pageToken" not in query:
            return Canned(200, json.dumps({"items": [item("packs/a")], "nextPageToken": "next"}))
        assert query["pageToken"] == ["next"]
        return Canned(200, json.dumps({"items": [item("packs/b")]}))

    with servers.stub_server(answer) as server:
        stats = list(emulated(server.endpoint).list("packs/"))
    assert [(stat.key, stat.size) for stat in stats] == [("packs/a", 5), ("packs/b", 5)]
    assert stats[0].modified.isoformat() == "2026-01-02T03:04:05.678000+00:00"


def test_what_is_sent(emulated: Callable[[str], GCSDriver]) -> None:
    """Preconditions, one multipart request a write, and no caching of what is swapped."""
    asked: list[str] = []

    def answer(method: str, target: str) -> Canned:
        asked.append(target)
        return Canned(200, json.dumps({"name": "prefix/root", "generation": "18"}))

    with servers.stub_server(answer) as server:
        driver = emulated(server.endpoint)
        assert driver.swap("root", b"x", expected=None) == "18"
        assert driver.swap("root", b"x", expected=Version("17")) == "18"
        driver.put("packs/a", b"x")
    queries = [parse_qs(urlsplit(target).query) for target in asked]
    assert [query.get("ifGenerationMatch") for query in queries] == [["0"], ["17"], None]
    assert {query["uploadType"][0] for query in queries} == {"multipart"}


def test_swaps_are_not_to_be_cached(gcs_url: Remote) -> None:
    driver = GCSDriver.open(gcs_url.url, {})
    driver.swap("root", b"x", expected=None)
    found = driver._bucket().get_blob("team/project/root")
    assert found.cache_control == "no-store"


def test_versions_of_another_store(gcs_url: Remote) -> None:
    """A remote's URL may change from S3 to GCS under a clone that remembers an ETag."""
    driver = GCSDriver.open(gcs_url.url, {})
    foreign = Version('"9a0364b9e99bb480dd25e1f0284c8555"')
    with pytest.raises(errors.PreconditionFailed):
        driver.swap("root", b"x", expected=foreign)
    driver.swap("root", b"x", expected=None)
    assert driver.get("root", unless=foreign) is not None


class TestServersThatNameNoGeneration:
    """The emulator as it comes: the generation is asked for, then those bytes."""

    @pytest.fixture
    def driver(self, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
        with servers.gcs_server(names_generations=False) as server:
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.endpoint)
            yield GCSDriver.open(server.remote("gs", {}, {}).url, {})

    def test_get(self, driver: GCSDriver) -> None:
        version = driver.swap("root", b"one", expected=None)
        assert driver.get("root") == (b"one", version)
        assert driver.get("root", unless=version) is None
        driver.put("root", b"two")
        blob = driver.get("root", unless=version)
        assert blob
        assert blob.data == b"two"
        assert driver.swap("root", b"three", expected=blob.version)

    def test_a_change_in_between(self, emulated: Callable[[str], GCSDriver]) -> None:
        """Bytes of one generation are never given out under a later one."""
        asked: list[dict[str, list[str]]] = []

        def answer(method: str, target: str) -> Canned:
            asked.append(query := parse_qs(urlsplit(target).query))
            if query.get("alt") != ["media"]:
                return Canned(200, json.dumps({"name": "prefix/root", "generation": "17"}))
            return Canned(412 if "ifGenerationMatch" in query else 200, b"of generation 16")

        with servers.stub_server(answer) as server:
            driver = emulated(server.endpoint)
            with pytest.raises(errors.ServerBusy):
                driver.get("root")
        assert asked[-1]["ifGenerationMatch"] == ["17"]


# --- credentials ----------------------------------------------------------------------------


def test_no_credentials() -> None:
    driver = GCSDriver.open("gs://bucket/x", {})
    for call in CALLS.values():
        with pytest.raises(errors.NoCredentials) as caught:
            call(driver)
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("text", [None, "", "{}", '{"type": "service_account"}'])
def test_bad_service_accounts(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "key.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(errors.NoCredentials, match=r"key\.json"):
        GCSDriver.open("gs://bucket", {"service_account": str(path)}).get("root")


def test_an_endpoint_in_the_options_gets_no_token(gcs_url: Remote) -> None:
    """It may come from a cloned repository, or be meant for S3."""
    driver = GCSDriver.open(gcs_url.url, {"endpoint": "http://127.0.0.1:1"})
    driver.put("a", b"x")
    assert len(gcs_url.log) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (
            {"error": "invalid_grant", "error_description": "Token has been expired or revoked."},
            errors.ExpiredCredentials,
        ),
        (
            {"error": "invalid_grant", "error_description": "Invalid JWT Signature."},
            errors.AccessDenied,
        ),
    ],
)
def test_refused_tokens(
    tmp_path: Path, gcs_url: Remote, answer: dict[str, str], kind: type[errors.DorkyError]
) -> None:
    with servers.stub_server(lambda method, target: Canned(400, json.dumps(answer))) as server:
        path = service_account(tmp_path / "key.json", server.endpoint)
        driver = GCSDriver.open(gcs_url.url, {"service_account": path})
        with pytest.raises(kind):
            driver.get("root")


def test_no_network_for_tokens(tmp_path: Path, gcs_url: Remote) -> None:
    path = service_account(tmp_path / "key.json", "http://127.0.0.1:1")
    driver = GCSDriver.open(gcs_url.url, {"service_account": path})
    with pytest.raises(errors.Unreachable, match="credentials"):
        driver.get("root")


def test_nothing_but_our_error_reaches_stderr(hermetic: Path) -> None:
    """No warning of Google's about quota projects or Pythons, no log line by the last resort."""
    gcloud = hermetic / ".config" / "gcloud"
    gcloud.mkdir(parents=True)
    account = {"type": "authorized_user", "client_id": "i", "client_secret": "s"}
    path = gcloud / "application_default_credentials.json"
    path.write_text(json.dumps({**account, "refresh_token": "t"}))
    program = (
        "import warnings; warnings.simplefilter('always')\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from dorky import errors; from dorky.drivers.gcs import GCSDriver\n"
        "def read(n):\n"
        "    try: GCSDriver.open('gs://b', {}).get('root')\n"
        "    except errors.DorkyError as error: return error.code\n"
        "with ThreadPoolExecutor(4) as pool: print(*set(pool.map(read, range(4))))\n"
    )
    env = {"HOME": str(hermetic), "PYTHONPATH": ":".join(filter(None, sys.path))}
    env |= {"HTTPS_PROXY": "http://127.0.0.1:1", "NO_GCE_CHECK": "true"}
    done = subprocess.run([sys.executable, "-c", program], env=env, text=True, capture_output=True)
    assert done.stderr == ""
    assert done.stdout.strip() == "unreachable"


def test_many_threads_log_nothing(gcs_url: Remote, caplog: pytest.LogCaptureFixture) -> None:
    driver = GCSDriver.open(gcs_url.url, {})
    driver.put("a", b"x")
    handlers = logging.getLogger("urllib3").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)
