"""No address or header is shown with the credentials that it holds."""

from __future__ import annotations

import pytest
import servers
from machines import Machine
from servers import Canned, Remote

from dorky import errors
from dorky.cli import hints
from dorky.drivers import open_driver
from dorky.drivers.s3 import S3Driver
from dorky.redaction import redacted

SECRET = "hunter2hunter2hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f"https://user:{SECRET}@host/x can't be reached",
        f"http://{SECRET}@host",
        f"HTTPS://AKIA:{SECRET}@host:9000",
        f"s3://AKIA:{SECRET}@bucket/prefix",
        f"https://user:a@{SECRET}@host/",
        f"sftp://me:{SECRET}@host/dir",
        f"Max retries exceeded with url: /b/x?a=1&X-Amz-Signature={SECRET}&b=2 (x)",
        f"https://b.s3.amazonaws.com/x?X-Amz-Security-Token={SECRET}",
        f"https://storage.googleapis.com/b/x?X-Goog-Signature={SECRET}",
        f"https://acme.blob.core.windows.net/c?sv=2024&se=2026&sig={SECRET}",
        f"https://host/?access_token={SECRET}",
        f"https://host/?api_key={SECRET}#x",
        f"https://host/?password={SECRET}",
        f"{{'Authorization': 'Bearer {SECRET}', 'Host': 'x'}}",
        f"authorization: AWS4-HMAC-SHA256 Credential=AKIA/x, Signature={SECRET}",
        f'"x-amz-security-token": "{SECRET}"',
        f"Proxy-Authorization: Basic {SECRET}",
        f"sent Bearer {SECRET} to it",
    ],
)
def test_credentials_are_not_shown(text: str) -> None:
    shown = redacted(text)
    assert "hunter2" not in shown
    assert "***" in shown
    assert redacted(shown) == shown
    error = errors.BadEndpoint(text, text, hint=text)
    assert "hunter2" not in error.message + hints.hint(error) + str(error)


@pytest.mark.parametrize(
    "text",
    [
        "https://host:9000/path/a@b",
        "s3://acme-vault/payments",
        "sftp://me@host/dir",
        "http://[::1]:9000",
        "git@host:x and ./a@b",
        "the token has expired; dorky key gen",
        "file:///srv/vault?signal=1",
        "basic needs, bearer of news",
    ],
)
def test_what_holds_none_is_shown_whole(text: str) -> None:
    assert redacted(text) == text


NAME = "5e" * 32


@pytest.mark.parametrize("base", ["/work/p/.dorky", "/home/ana/my state", "/c", "/a:b/state"])
@pytest.mark.parametrize("inside", ["", "/lock", "/dorky.db", f"/packs/{'ab' * 32}", "/tmp/x"])
@pytest.mark.parametrize("around", ["{0}: full", "can't open '{0}'", "{0}", "x /y: {0}, s3://b/c"])
def test_the_name_of_a_state_is_not_shown(base: str, inside: str, around: str) -> None:
    text = around.format(f"{base}/{NAME}{inside}")
    assert redacted(text) == text.replace(NAME, "…")


@pytest.mark.parametrize("before", ["s3://b/", "file:///srv/", "/srv/vault/packs/", "Pack ", "x/"])
def test_names_of_packs_and_places_are_shown(before: str) -> None:
    assert redacted(f"{before}{NAME} is gone") == f"{before}{NAME} is gone"


URLS = [
    f"s3://AKIA:{SECRET}@bucket/x",
    f"s3://{SECRET}@bucket/x",
    f"gs://user:{SECRET}@bucket",
    f"file://user:{SECRET}@host/dir",
    f"s3://bucket/x?X-Amz-Signature={SECRET}",
    f"sftp://me:{SECRET}@host/dir",
]


@pytest.mark.parametrize("url", URLS)
def test_no_driver_takes_an_address_with_credentials(url: str) -> None:
    with pytest.raises(errors.BadURL, match="credentials don't belong") as caught:
        open_driver(url, {})
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("url", URLS)
def test_no_remote_is_named_by_one(ana: Machine, url: str) -> None:
    ana("init")
    before = ana.read(".dorkyrc")
    for command in (
        ["remote", "add", "origin", url],
        ["config", "set", "remotes.origin.url", url],
        ["clone", url, "elsewhere"],
    ):
        said = ana.run(*command)
        assert said.code == 2, said
        assert "credentials" in said.err
        assert "hunter2" not in said.out + said.err
    assert ana.read(".dorkyrc") == before


@pytest.mark.each_value
@pytest.mark.parametrize("key", ["url", "endpoint"])
@pytest.mark.parametrize(
    "command",
    [
        "pull",
        "status",
        "remote list",
        "remote list --json",
        "config list",
        "config list --json",
        "config get remotes.origin.url",
    ],
)
def test_a_dorkyrc_with_credentials(ana: Machine, key: str, command: str) -> None:
    ana("init")
    values = {"url": "s3://bucket/x", key: f"https://user:{SECRET}@host"}
    lines = "".join(f'{name} = "{value}"\n' for name, value in values.items())
    ana.write(".dorkyrc", ana.read(".dorkyrc") + f"\n[remotes.origin]\n{lines}".encode())
    said = ana.run("-vv", *command.split())
    assert said.code == 3, said
    assert f"remotes.origin.{key} holds credentials" in said.err
    assert "hunter2" not in said.out + said.err
    found = ana.run("doctor")
    assert f"remotes.origin.{key} holds credentials" in found.out
    assert "hunter2" not in found.out + found.err
    ana("config", "unset", f"remotes.origin.{key}")
    assert ana.run("config", "list").code == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DORKY_URL", f"s3://AKIA:{SECRET}@bucket/x"),
        ("AWS_ENDPOINT_URL", f"https://user:{SECRET}@host"),
        ("AWS_ENDPOINT_URL_S3", f"https://user:{SECRET}@host"),
    ],
)
def test_an_environment_with_credentials(ana: Machine, name: str, value: str) -> None:
    ana("init")
    ana("remote", "add", "origin", "s3://bucket/x")
    ana.env |= {name: value, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for command in ("pull", "doctor", "remote list", "remote list --json", "config list --json"):
        said = ana.run("-vv", *command.split())
        assert "hunter2" not in said.out + said.err, command


def test_what_a_server_says_is_redacted() -> None:
    body = f"<Error><Code>AccessDenied</Code><Message>Authorization: {SECRET}</Message></Error>"
    with servers.stub_server(lambda method, target: Canned(403, body)) as server:
        driver = S3Driver.open("s3://bucket", servers.s3_options(server.endpoint))
        with pytest.raises(errors.AccessDenied) as caught:
            driver.get("root")
    assert "hunter2" not in caught.value.message


def test_what_a_library_says_is_redacted(ana: Machine, s3_url: Remote) -> None:
    """Under -vv its own text is printed, with the address that it asked."""
    ana("init")
    ana("remote", "add", "origin", "s3://bucket/x", "--endpoint", "http://127.0.0.1:1")
    ana.env |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    with pytest.MonkeyPatch.context() as patch:
        from obstore.exceptions import GenericError

        def fail(*_: object, **__: object) -> None:
            raise GenericError(
                f"error sending request for url (https://u:{SECRET}@h/?sig={SECRET})"
            )

        patch.setattr("obstore.get", fail)
        said = ana.run("-vv", "pull")
    assert said.code == 8
    assert "GenericError" in said.err
    assert "hunter2" not in said.err
