"""AWS's credential chain: how long credentials last, and where they are asked for."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import servers

from dorky import errors
from dorky.drivers import open_driver
from dorky.drivers.aws import Chain


def profile(home: Path, text: str) -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text(text)


@pytest.mark.parametrize("minutes", [2, 7, 60])
def test_credentials_last_as_long_as_they_say(hermetic: Path, minutes: int) -> None:
    """And ten minutes at most, since botocore then has newer ones."""
    now = datetime.now(timezone.utc)
    end = now + timedelta(minutes=minutes)
    found = {"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "B", "SessionToken": "C"}
    program = hermetic / "program"
    text = json.dumps({**found, "Expiration": end.isoformat()})
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
    program.chmod(0o700)
    profile(hermetic, f"[default]\ncredential_process = {program}\n")
    expires = Chain("s3://b", None)()["expires_at"]
    assert expires <= end
    assert expires <= datetime.now(timezone.utc) + timedelta(minutes=10)
    assert expires > now


def test_a_role_is_asked_for_in_the_region_of_the_remote(
    hermetic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def act(request: Any) -> None:
        seen.append(request.headers.get("Authorization", ""))
        servers.send(request, 403, {"Content-Length": "0"}, iter(()))

    with servers.answering(act) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", endpoint)
        profile(
            hermetic,
            "[default]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = base\n"
            "[profile base]\naws_access_key_id = A\naws_secret_access_key = B\n",
        )
        with pytest.raises(errors.AccessError):
            Chain("s3://b", None, "eu-central-1")
    assert seen
    assert all("/eu-central-1/sts/" in each for each in seen)


@pytest.mark.parametrize(
    "text",
    [
        "credential_process = /no/such/program",
        "web_identity_token_file = /no/such/file\nrole_arn = arn:aws:iam::123456789012:role/r",
        "role_arn = arn:aws:iam::123456789012:role/r\nsource_profile = nobody",
    ],
)
def test_a_profile_that_names_what_is_missing(hermetic: Path, text: str) -> None:
    profile(hermetic, f"[default]\n{text}\n")
    options = {"endpoint": "http://127.0.0.1:1", "region": "eu-central-1"}
    with pytest.raises(errors.NoCredentials):
        open_driver("s3://b/x", options).get("root")
