"""Mistakes of everyday: each is told as what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import servers
from servers import Canned

from dorky import errors
from dorky.drivers import open_driver


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("s3:/b/x", "s3://b/x"),
        ("s3:b/x", "s3://b/x"),
        ("s3:///b/x", "s3://b/x"),
        ("gs:/b", "gs://b"),
        ("https://b.s3.amazonaws.com/x", "s3://b/x"),
        ("https://b.s3.amazonaws.com", "s3://b"),
        ("https://my.b.s3.eu-central-1.amazonaws.com/x/y/", "s3://my.b/x/y"),
        ("https://b.s3-eu-west-1.amazonaws.com/x?versionId=1", "s3://b/x"),
        ("https://s3.amazonaws.com/b/x", "s3://b/x"),
        ("http://s3.eu-west-1.amazonaws.com/b", "s3://b"),
        ("https://b.storage.googleapis.com/x", "gs://b/x"),
        ("https://storage.googleapis.com/b/x", "gs://b/x"),
        ("https://storage.cloud.google.com/b/x", "gs://b/x"),
    ],
)
def test_did_you_mean(typed: str, meant: str) -> None:
    with pytest.raises(errors.BadURL) as caught:
        open_driver(typed, {})
    assert f"did you mean {meant}?" in caught.value.message


@pytest.mark.parametrize("url", ["s3://b/x", "S3://b/x/", "gs://b", "s3://s3.amazonaws.com.b/x"])
def test_what_is_meant_as_typed(url: str) -> None:
    open_driver(url, {})


@pytest.mark.parametrize("field", ["access_key_id", "secret_access_key", "session_token"])
@pytest.mark.parametrize("wrong", ["\n", "\r\n", "\t", " ", "é", "\0"])
def test_keys_that_can_not_be_sent(field: str, wrong: str) -> None:
    """A key read from a file has a line break; the value itself is shown nowhere."""
    options = servers.s3_options("http://127.0.0.1:1")
    options[field] = f"hunter2{wrong}"
    with pytest.raises(errors.NoCredentials, match="line break") as caught:
        open_driver("s3://b/x", options).get("root")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("wrong", ["\\n", "é"])
def test_keys_of_a_profile_that_can_not_be_sent(
    hermetic: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    program = hermetic / "program"
    program.write_text(
        "#!/bin/sh\ncat <<'END'\n"
        f'{{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "hunter2{wrong}"}}\nEND\n'
    )
    program.chmod(0o700)
    (hermetic / ".aws").mkdir()
    (hermetic / ".aws" / "config").write_text(f"[default]\ncredential_process = {program}\n")
    with pytest.raises(errors.NoCredentials, match="line break"):
        open_driver("s3://b/x", {"endpoint": "http://127.0.0.1:1"}).get("root")


def test_a_clock_that_is_wrong() -> None:
    answer = Canned(
        403, "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference</Message></Error>"
    )
    with servers.stub_server(lambda *_: answer) as server:
        driver = open_driver("s3://b/x", servers.s3_options(server.endpoint))
        with pytest.raises(errors.ClockSkew, match="clock is wrong"):
            driver.get("root")


def test_an_empty_404_to_a_write() -> None:
    """There can be no object yet, so it is not the object that is missing."""
    with servers.stub_server(lambda *_: Canned(404)) as server:
        driver = open_driver("s3://b/x", servers.s3_options(server.endpoint))
        with pytest.raises(errors.BucketNotFound):
            driver.put("probe/x", b"x")
        with pytest.raises(errors.BucketNotFound):
            driver.swap("probe/x", b"x", expected=None)


def test_what_is_not_implemented() -> None:
    """Of a swap it is the condition; of anything else the server is no storage service."""
    answer = Canned(501, "<Error><Code>NotImplemented</Code></Error>")
    with servers.stub_server(lambda *_: answer) as server:
        driver = open_driver("s3://b/x", servers.s3_options(server.endpoint))
        with pytest.raises(errors.BadEndpoint):
            driver.get("root")
        with pytest.raises(errors.BadEndpoint):
            driver.put("a", b"x")
        with pytest.raises(errors.SwapsUnsupported):
            driver.swap("root", b"x", expected=None)
