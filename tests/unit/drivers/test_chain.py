"""AWS's credential chain: how long credentials last, and where they are asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import servers
from botocore.credentials import JSONFileCache

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
    assert expires.tzinfo is timezone.utc  # obstore refuses any other
    with servers.stub_server(lambda *_: servers.Canned(404)) as server:
        driver = open_driver("s3://b/x", {"endpoint": server.endpoint, "region": "eu-central-1"})
        with pytest.raises(errors.KeyNotFound):
            driver.get("root")


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
    "proxy", ["http://ana:hunt/er2@127.0.0.1:1", "ana:hunt/er2@127.0.0.1:1", "http://a:hunt er2@x"]
)
def test_no_part_of_a_mistyped_proxy_is_shown(
    hermetic: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    """A slash in a password that should have been escaped makes its beginning a host."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    profile(
        hermetic,
        "[default]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = base\n"
        "[profile base]\naws_access_key_id = A\naws_secret_access_key = B\n",
    )
    with pytest.raises(errors.DorkyError) as caught:
        Chain("s3://b", None, "eu-central-1")
    assert "hunt" not in str(caught.value)


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


# --- roles ----------------------------------------------------------------------------------

ROLE = (
    "[default]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = base\n"
    "mfa_serial = arn:aws:iam::123456789012:mfa/ana\n"
    "[profile base]\naws_access_key_id = A\naws_secret_access_key = B\n"
)


def answered(minutes: int = 60) -> bytes:
    end = datetime.now(timezone.utc) + timedelta(minutes=minutes)
    return (
        "<AssumeRoleResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><AssumeRoleResult>"
        "<Credentials><AccessKeyId>ROLE</AccessKeyId><SecretAccessKey>B</SecretAccessKey>"
        f"<SessionToken>C</SessionToken><Expiration>{end:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
        "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
    ).encode()


@pytest.fixture
def sts(hermetic: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A service that lends a role, and what was asked of it; the code is typed when asked for."""
    asked: list[str] = []

    def act(request: Any) -> None:
        asked.append(request.body.decode())
        body = answered()
        servers.send(request, 200, {"Content-Length": str(len(body))}, iter([body]))

    monkeypatch.setattr("getpass.getpass", lambda prompt: "123456")
    profile(hermetic, ROLE)
    with servers.answering(act) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", endpoint)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        yield asked


def cache(home: Path) -> Path:
    return home / ".aws" / "cli" / "cache"


def test_a_code_is_asked_for_once(hermetic: Path, sts: list[str]) -> None:
    """Each command is a chain of its own; the file is the one that the AWS CLI reads and writes."""
    for _ in range(3):
        assert Chain("s3://b", None)()["access_key_id"] == "ROLE"
    assert len(sts) == 1
    assert "TokenCode=123456" in sts[0]
    (file,) = cache(hermetic).iterdir()
    assert (file.stat().st_mode & 0o777, cache(hermetic).stat().st_mode & 0o777) == (0o600, 0o700)
    assert JSONFileCache(str(cache(hermetic)))[file.stem]["Credentials"]["AccessKeyId"] == "ROLE"


def test_a_session_of_the_aws_cli_is_taken(hermetic: Path, sts: list[str]) -> None:
    Chain("s3://b", None)
    (file,) = cache(hermetic).iterdir()
    found = json.loads(file.read_bytes())
    found["Credentials"]["AccessKeyId"] = "CLI"
    JSONFileCache(str(cache(hermetic)))[file.stem] = found
    assert Chain("s3://b", None)()["access_key_id"] == "CLI"
    assert len(sts) == 1


@pytest.mark.parametrize(
    "how", ["expired", "cut", "list", "number", "no time", "local time", "open", "link", "huge"]
)
def test_a_cached_session_that_is_no_use(hermetic: Path, sts: list[str], how: str) -> None:
    """The role is asked for again, and the file is replaced."""
    Chain("s3://b", None)
    (file,) = cache(hermetic).iterdir()
    found = json.loads(file.read_bytes())
    found["Credentials"]["AccessKeyId"] = "EVIL"
    end = found["Credentials"]["Expiration"]
    past = {"expired": "2020-01-01T00:00:00Z", "local time": end.replace("UTC", "")}
    found["Credentials"]["Expiration"] = past.get(how, 1 if how == "number" else end)
    if how == "no time":
        del found["Credentials"]["Expiration"]
    text = json.dumps([found] if how == "list" else found)
    file.write_text(text[:-9] if how == "cut" else text + " " * (1 << 17) * (how == "huge"))
    if how == "open":
        file.chmod(0o666)
    if how == "link":
        file.rename(hermetic / "elsewhere")
        file.symlink_to(hermetic / "elsewhere")
    assert Chain("s3://b", None)()["access_key_id"] == "ROLE"
    assert len(sts) == 2
    Chain("s3://b", None)
    assert len(sts) == 2


@pytest.mark.parametrize("how", ["file", "open", "foreign"])
def test_a_cache_that_can_not_be_written(
    hermetic: Path, sts: list[str], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Nothing is written where others could read or replace it; the code is asked for again."""
    if how == "file":
        (hermetic / ".aws" / "cli").write_text("")
    elif how == "open":
        cache(hermetic).mkdir(parents=True)
        cache(hermetic).chmod(0o777)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    for _ in range(2):
        assert Chain("s3://b", None)()["access_key_id"] == "ROLE"
    assert len(sts) == 2
    assert not list((hermetic / ".aws").rglob("*.json"))


@pytest.mark.parametrize("command", ["get", "kms"])
def test_a_code_without_a_terminal(hermetic: Path, command: str) -> None:
    """Input that is piped to the command is not taken for a code."""
    profile(hermetic, ROLE)
    program = {
        "get": "from dorky.drivers import open_driver as o; o('s3://b/x', {}).get('root')",
        "kms": "from dorky.keys import kms; kms.lock('x', 'arn:aws:kms:eu-central-1:123456789012:"
        "key/1234abcd-12ab-34cd-56ef-1234567890ab', 'r')",
    }[command]
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=b"left alone\n",
        capture_output=True,
        start_new_session=True,
        timeout=60,
        check=False,
    )
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("dorky.errors.NoCredentials")
    assert "MFA code, and there is no terminal" in last


@pytest.mark.parametrize("region", [None, "eu-central-1"])
def test_a_profile_that_does_not_exist(hermetic: Path, region: str | None) -> None:
    profile(hermetic, "[default]\n")
    with pytest.raises(errors.NoCredentials, match="nosuch"):
        Chain("s3://b", "nosuch", region)


@pytest.mark.parametrize("said", ["expired: 20261130T080000Z is now earlier", "not yet current: 1"])
def test_a_role_that_is_refused_by_the_clock(
    hermetic: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    body = (
        "<ErrorResponse><Error><Type>Sender</Type><Code>SignatureDoesNotMatch</Code>"
        f"<Message>Signature {said}</Message></Error></ErrorResponse>"
    ).encode()

    def act(request: Any) -> None:
        servers.send(request, 403, {"Content-Length": str(len(body))}, iter([body]))

    with servers.answering(act) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", endpoint)
        profile(hermetic, ROLE.replace("mfa_serial", "# mfa_serial"))
        with pytest.raises(errors.ClockSkew, match="clock is wrong"):
            Chain("s3://b", None, "eu-central-1")
