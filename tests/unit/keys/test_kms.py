"""KMS keys as recipients, on moto over HTTP; what AWS may answer, from a server that says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import boto3
import pytest
import servers
from hypothesis import given
from hypothesis import strategies as st
from servers import Canned, Server

from dorky import errors
from dorky.cli import hints
from dorky.keys import kms

SECRET = "AGE-SECRET-KEY-1CANARY"
REPOSITORY = "0123456789abcdef"
ARN = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture
def aws(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of KMS on moto, and the environment in which dorky finds the same."""
    for name, value in servers.s3_env(s3_server.endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", s3_server.endpoint)
    # Another region than the environment's: it must come from the ARN.
    return boto3.client("kms", region_name="eu-west-1")


@pytest.fixture
def arn(aws: Any) -> str:
    found: str = aws.create_key()["KeyMetadata"]["Arn"]
    return found


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str], Any]:
    """A KMS that gives one answer to everything."""
    for name, value in servers.s3_env("http://unused.test").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL")

    def serve(status: int, body: str) -> Any:
        return servers.stub_server(lambda method, target: Canned(status, body))

    return serve


def test_what_is_locked_opens(arn: str) -> None:
    data = kms.lock(SECRET, arn, REPOSITORY)
    assert SECRET.encode() not in data
    assert kms.unlock(data, arn, REPOSITORY) == SECRET


def test_an_alias_names_a_key(aws: Any, arn: str) -> None:
    aws.create_alias(AliasName="alias/acme/dorky", TargetKeyId=arn)
    alias = f"{arn.rpartition(':')[0]}:alias/acme/dorky"
    data = kms.lock(SECRET, kms.parse(f"awskms:{alias}"), REPOSITORY)
    assert kms.unlock(data, alias, REPOSITORY) == SECRET
    assert kms.unlock(data, arn, REPOSITORY) == SECRET


def test_a_profile_can_be_named(arn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "credentials"
    file.write_text("[acme]\naws_access_key_id = AKIATEST\naws_secret_access_key = x\n")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    with pytest.raises(errors.NoCredentials):
        kms.lock(SECRET, arn, REPOSITORY)
    data = kms.lock(SECRET, arn, REPOSITORY, profile="acme")
    assert kms.unlock(data, arn, REPOSITORY, profile="acme") == SECRET
    with pytest.raises(errors.NoCredentials, match="none-such"):
        kms.lock(SECRET, arn, REPOSITORY, profile="none-such")


def test_it_opens_for_its_repository_and_key_only(aws: Any, arn: str) -> None:
    data = kms.lock(SECRET, arn, REPOSITORY)
    other = aws.create_key()["KeyMetadata"]["Arn"]
    for blob, key, repository in (
        (data, arn, "another"),
        (data[:-1], arn, REPOSITORY),
        (data[:-1] + bytes([data[-1] ^ 1]), arn, REPOSITORY),
        (b"", arn, REPOSITORY),
        (bytes(6145), arn, REPOSITORY),
        (b"noise", arn, REPOSITORY),
        (kms.lock(SECRET, other, "another"), arn, REPOSITORY),
    ):
        with pytest.raises((errors.KMSMismatch, errors.KMSKeyNotFound)):
            kms.unlock(blob, key, repository)


def test_the_key_is_named_when_opening(
    answering: Callable[[int, str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else KMS would open with whatever key the ciphertext names, an attacker's for one."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_error(400)

        def log_message(self, *args: object) -> None:
            """Not to stderr."""

    with servers.serving(Handler) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", endpoint)
        with pytest.raises(errors.DorkyError):
            kms.unlock(b"noise", ARN, REPOSITORY)
    assert asked[0]["KeyId"] == ARN
    assert asked[0]["EncryptionContext"] == {"dorky": REPOSITORY}


def test_there_is_no_such_key(arn: str) -> None:
    with pytest.raises(errors.KMSKeyNotFound, match="0000"):
        kms.lock(SECRET, f"{arn.rpartition('/')[0]}/00000000-0000-0000-0000-000000000000", "x")
    with pytest.raises(errors.KMSKeyNotFound, match="alias/none"):
        kms.lock(SECRET, f"{arn.rpartition(':')[0]}:alias/none", "x")


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("AccessDeniedException", 400, errors.AccessDenied),
        ("UnrecognizedClientException", 400, errors.AccessDenied),
        ("ExpiredTokenException", 400, errors.ExpiredCredentials),
        ("NotFoundException", 400, errors.KMSKeyNotFound),
        ("DisabledException", 400, errors.KMSKeyUnusable),
        ("KMSInvalidStateException", 400, errors.KMSKeyUnusable),
        ("InvalidKeyUsageException", 400, errors.KMSKeyUnusable),
        ("IncorrectKeyException", 400, errors.KMSMismatch),
        ("InvalidCiphertextException", 400, errors.KMSMismatch),
        ("ThrottlingException", 400, errors.ServiceUnavailableError),
        ("KMSInternalException", 500, errors.ServiceUnavailableError),
        ("RequestTimeTooSkewed", 400, errors.ClockSkew),
        ("Whatever", 503, errors.ServiceUnavailableError),
        ("Whatever", 404, errors.BadEndpoint),
    ],
)
def test_each_answer_has_its_error(
    answering: Callable[[int, str], Any],
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    status: int,
    expected: type[errors.DorkyError],
) -> None:
    with answering(status, json.dumps({"__type": code, "message": "of arn"})) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", server.endpoint)
        for call in (
            lambda: kms.lock(SECRET, ARN, REPOSITORY),
            lambda: kms.unlock(b"noise", ARN, REPOSITORY),
        ):
            with pytest.raises(expected) as caught:
                call()
            assert type(caught.value) is expected
            assert ARN in caught.value.message
            assert "CANARY" not in caught.value.message + hints.hint(caught.value)
        assert len(server.log) <= 4


def test_what_is_not_kms(
    answering: Callable[[int, str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for status, body in ((200, "<html>"), (200, "{}"), (404, "<html>")):
        with answering(status, body) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", server.endpoint)
            for call in (
                lambda: kms.lock(SECRET, ARN, REPOSITORY),
                lambda: kms.unlock(b"noise", ARN, REPOSITORY),
            ):
                with pytest.raises(errors.BadEndpoint):
                    call()
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "no url")
    with pytest.raises(errors.BadEndpoint):
        kms.lock(SECRET, ARN, REPOSITORY)


def test_nobody_answers(
    answering: Callable[[int, str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(200, "") as server:
        gone = server.endpoint
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", gone)
    with pytest.raises(errors.Unreachable):
        kms.lock(SECRET, ARN, REPOSITORY)


def test_no_credentials() -> None:
    with pytest.raises(errors.NoCredentials, match="none in the environment"):
        kms.lock(SECRET, ARN, REPOSITORY)


# --- ARNs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arn",
    [
        ARN,
        ARN.replace("1234abcd-12ab-34cd-56ef-1234567890ab", "mrk-" + "a" * 32),
        "arn:aws-cn:kms:cn-north-1:123456789012:alias/acme/dorky_1",
        "arn:aws-us-gov:kms:us-gov-west-1:123456789012:alias/x",
    ],
)
def test_an_arn(arn: str) -> None:
    assert kms.parse(f"awskms:{arn}") == arn
    assert kms.parse(f" {arn}\n") == arn


@pytest.mark.parametrize(
    "text",
    [
        "",
        "awskms:",
        "awskms:awskms:" + ARN,
        "awskms:1234abcd-12ab-34cd-56ef-1234567890ab",
        "awskms:alias/acme",
        ARN.replace("kms", "s3"),
        ARN.replace("eu-west-1", ""),
        ARN.replace("eu-west-1", "evil.test/"),
        ARN.replace("123456789012", "12345"),
        ARN.replace("123456789012", "\u0661" * 12),
        ARN + "/x",
        ARN + "\n" + ARN,
        ARN.replace(":key/", ":alias/") + " canary",
    ],
    ids=ascii,
)
def test_what_is_no_arn(text: str) -> None:
    for call in (
        lambda: kms.parse(text),
        lambda: kms.lock(SECRET, text, REPOSITORY),
        lambda: kms.unlock(b"noise", text, REPOSITORY),
    ):
        with pytest.raises(errors.BadRecipient) as caught:
            call()
        assert "canary" not in caught.value.message + hints.hint(caught.value)


@given(st.text())
def test_any_text_is_an_arn_or_is_not(text: str) -> None:
    with pytest.raises(errors.BadRecipient):
        kms.parse(f"awskms:{text}")
