"""The programs that cloud SDKs start for credentials see none of our secrets."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import Remote

from dorky import errors
from dorky.drivers.gcs import GCSDriver
from dorky.drivers.s3 import S3Driver
from dorky.keys import kms

# botocore leaves the connections of the clients open that it makes for credentials.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SECRETS = ("DORKY_IDENTITY", "DORKY_IDENTITY_CMD", "DORKY_PASSPHRASE", "DORKY_SSH_PASSPHRASE")
KEYS = '{"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey": "s", "SessionToken": "t"}'


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in SECRETS:
        monkeypatch.setenv(name, "AGE-SECRET-KEY-1SECRET")
    monkeypatch.setenv("OF_THE_USER", "kept")
    yield
    gc.collect()


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Path]:
    """A program that notes its environment and prints what it is told."""

    def make(says: str) -> Path:
        made = tmp_path / "bin" / "gcloud"
        made.parent.mkdir()
        made.write_text(f"#!/bin/sh\n/usr/bin/env > {tmp_path}/seen\ncat <<'END'\n{says}\nEND\n")
        made.chmod(0o700)
        return made

    return make


def check(tmp_path: Path) -> None:
    """It ran, and saw the user's environment alone."""
    seen = (tmp_path / "seen").read_text()
    assert "OF_THE_USER=kept" in seen
    assert "AGE-SECRET-KEY" not in seen
    assert not any(f"{name}=" in seen for name in SECRETS)
    assert all(os.environ[name] for name in SECRETS)


def aws(home: Path, text: str) -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text(text)


def test_credential_process(
    hermetic: Path, tmp_path: Path, program: Callable[[str], Path], s3_url: Remote
) -> None:
    aws(hermetic, f"[profile tool]\ncredential_process = {program(KEYS)}\n")
    options = {"endpoint": s3_url.options["endpoint"], "profile": "tool"}
    S3Driver.open(s3_url.url, options).put("a", b"x")
    check(tmp_path)


def test_credential_process_of_a_role(
    hermetic: Path, tmp_path: Path, program: Callable[[str], Path], s3_url: Remote
) -> None:
    """Another provider, which the role's makes by itself."""
    endpoint = s3_url.options["endpoint"]
    aws(
        hermetic,
        f"[profile tool]\ncredential_process = {program(KEYS)}\n"
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/dorky\n"
        f"source_profile = tool\nregion = us-east-1\nendpoint_url = {endpoint}\n",
    )
    S3Driver.open(s3_url.url, {"endpoint": endpoint, "profile": "role"}).put("a", b"x")
    check(tmp_path)


def test_credential_process_for_kms(
    hermetic: Path, tmp_path: Path, program: Callable[[str], Path]
) -> None:
    aws(
        hermetic,
        f"[profile tool]\ncredential_process = {program(KEYS)}\n"
        "endpoint_url = http://127.0.0.1:1\n",
    )
    arn = "arn:aws:kms:eu-central-1:123456789012:key/12345678-1234-1234-1234-123456789012"
    with pytest.raises(errors.Unreachable):
        kms.lock("secret", arn, "0" * 32, profile="tool")
    check(tmp_path)


def test_gcloud(
    hermetic: Path,
    tmp_path: Path,
    program: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """google-auth asks it for the project of the user's credentials."""
    monkeypatch.setenv("PATH", f"{program('project').parent}:{os.environ['PATH']}")
    gcloud = hermetic / ".config" / "gcloud"
    gcloud.mkdir(parents=True)
    account = {"type": "authorized_user", "client_id": "i", "client_secret": "s"}
    path = gcloud / "application_default_credentials.json"
    path.write_text(json.dumps({**account, "refresh_token": "t"}))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with pytest.raises(errors.Unreachable):
        GCSDriver.open("gs://bucket", {}).get("root")
    check(tmp_path)


def test_the_executable_of_an_external_account(
    tmp_path: Path, program: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "urn:ietf:params:oauth:token-type:id_token"
    token = {"version": 1, "success": True, "token_type": kind, "id_token": "t"}
    account = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p"
        "/providers/x",
        "subject_token_type": kind,
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {
            "executable": {"command": str(program(json.dumps(token))), "timeout_millis": 5000}
        },
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "project")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with pytest.raises(errors.Unavailable):
        GCSDriver.open("gs://bucket", {}).get("root")
    check(tmp_path)


@pytest.mark.parametrize(
    "command",
    ["/no/such/program", "/bin/echo not JSON", "/bin/echo [1]", '/bin/echo {"Version":1}'],
)
def test_a_credential_process_that_is_none(hermetic: Path, s3_url: Remote, command: str) -> None:
    aws(hermetic, f"[profile tool]\ncredential_process = {command}\n")
    with pytest.raises(errors.NoCredentials) as caught:
        S3Driver.open(s3_url.url, {"profile": "tool"}).get("root")
    assert "\n" not in caught.value.message
