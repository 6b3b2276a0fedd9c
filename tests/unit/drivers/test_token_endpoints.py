"""What gives AWS credentials sends nobody on to another place: no token or role's name leaks."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import servers
from depth import deep
from servers import Canned, Remote

from dorky import errors
from dorky.drivers.s3 import S3Driver

# botocore leaves the connections of the clients open that it makes for credentials.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

REDIRECTS = [302, 307, *deep(301, 303, 308)]


@pytest.fixture(params=REDIRECTS)
def redirecting(request: pytest.FixtureRequest) -> Iterator[tuple[str, list[str]]]:
    """An endpoint that redirects everything, and what has arrived where it leads."""
    arrived: list[str] = []

    def elsewhere(method: str, target: str) -> Canned:
        arrived.append(f"{method} {target}")
        return Canned(200, '{"AccessKeyId": "a", "SecretAccessKey": "b", "Token": "t"}')

    with servers.stub_server(elsewhere) as other:
        answer = Canned(request.param, "", {"Location": f"{other.endpoint}/caught"})
        with servers.stub_server(lambda method, target: answer) as server:
            yield server.endpoint, arrived
    gc.collect()


def refused(s3_url: Remote, **options: str) -> None:
    driver = S3Driver.open(s3_url.url, {"endpoint": s3_url.options["endpoint"], **options})
    with pytest.raises((errors.AccessError, errors.Unavailable)):
        driver.get("root")


def test_a_machines_role(
    redirecting: tuple[str, list[str]], s3_url: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, arrived = redirecting
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint)
    monkeypatch.setenv("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "1")
    refused(s3_url)
    assert arrived == []


def test_a_containers_role(
    redirecting: tuple[str, list[str]], s3_url: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, arrived = redirecting
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{endpoint}/creds")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-token")
    monkeypatch.setattr("time.sleep", lambda _: None)
    refused(s3_url)
    assert arrived == []


@pytest.fixture
def profile(hermetic: Path) -> Callable[[str], None]:
    def write(text: str) -> None:
        (hermetic / ".aws").mkdir()
        (hermetic / ".aws" / "config").write_text(text)

    return write


def test_an_assumed_role(
    redirecting: tuple[str, list[str]], s3_url: Remote, profile: Callable[[str], None]
) -> None:
    endpoint, arrived = redirecting
    profile(
        "[profile keys]\naws_access_key_id = AKIA\naws_secret_access_key = s\n"
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/dorky\n"
        f"source_profile = keys\nregion = us-east-1\nendpoint_url = {endpoint}\n"
    )
    refused(s3_url, profile="role")
    assert arrived == []


def test_a_web_identity(
    redirecting: tuple[str, list[str]],
    s3_url: Remote,
    profile: Callable[[str], None],
    tmp_path: Path,
) -> None:
    endpoint, arrived = redirecting
    (tmp_path / "token").write_text("web-identity-token")
    profile(
        "[profile web]\nrole_arn = arn:aws:iam::123456789012:role/dorky\n"
        f"web_identity_token_file = {tmp_path}/token\nregion = us-east-1\n"
        f"endpoint_url = {endpoint}\n"
    )
    refused(s3_url, profile="web")
    assert arrived == []


def test_what_doctor_asks(redirecting: tuple[str, list[str]]) -> None:
    """botocore's own requests to the bucket."""
    endpoint, arrived = redirecting
    driver = S3Driver.open("s3://bucket/x", servers.s3_options(endpoint))
    assert {advice.verdict for advice in driver.inspect(["packs/"])} == {"ok"}
    assert arrived == []
