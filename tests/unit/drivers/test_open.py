"""Which driver a URL gets, and what it costs to ask."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dorky import errors
from dorky.cli import hints
from dorky.drivers import open_driver
from dorky.drivers.retry import Retrying


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("s3://acme-vault", "s3://acme-vault"),
        ("s3://acme-vault/", "s3://acme-vault"),
        ("S3://acme.vault/team/payments//", "s3://acme.vault/team/payments"),
        ("s3://acme_vault/my project/ü", "s3://acme_vault/my project/ü"),
        ("gs://acme-vault/payments", "gs://acme-vault/payments"),
        ("file:///srv/vault/", "file:///srv/vault"),
        ("file://localhost/srv/my%20vault", "file:///srv/my%20vault"),
        ("/srv/a/../vault", "file:///srv/vault"),
    ],
)
def test_normal_form(url: str, normal: str) -> None:
    assert open_driver(url, {}).url == normal


def test_paths_are_taken_from_home_and_here(
    hermetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_driver("~/vault", {}).url == (hermetic / "vault").as_uri()
    assert open_driver("vault", {}).url == (tmp_path / "vault").as_uri()
    assert open_driver("./a:b", {}).url == (tmp_path / "a:b").as_uri()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "  ",
        "://x",
        "s3:acme-vault",
        "host:vault",
        "s3://",
        "s3:///prefix",
        "s3://-bucket",
        "s3://bu cket/x",
        "s3://bucket?x=1",
        "s3://bucket/a//b",
        "s3://bucket/../b",
        "s3://bucket/./b",
        "s3://bucket/a\nb",
        "gs://",
        "gs://bucket/..",
        "file://host/dir",
        "file://relative",
        "file:///a%00b",
        "~no-such-user-here/vault",
    ],
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(errors.BadURL) as caught:
        open_driver(url, {})
    assert "\n" not in caught.value.message
    assert hints.hint(caught.value)


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(errors.BadURL) as caught:
        open_driver("s3://AKIAEXAMPLE:hunter2@bucket/x", {})
    assert "hunter2" not in str(caught.value)
    assert "s3://***@bucket/x" in str(caught.value)


def test_unknown_schemes() -> None:
    with pytest.raises(errors.NoDriver) as caught:
        open_driver("ftp://host/dir", {})
    assert caught.value.args == ("ftp", "file, gs, https, s3")


def test_drivers_retry() -> None:
    assert isinstance(open_driver("s3://bucket", {}), Retrying)
    assert isinstance(Retrying.open("s3://bucket", {}), Retrying)


def test_opening_imports_no_cloud_sdk() -> None:
    """`dorky status` must stay fast: an SDK is imported by the first request."""
    program = (
        "import sys; from dorky.drivers import open_driver; import dorky.testing\n"
        "for url in ('s3://bucket/x', 'gs://bucket/x', '/srv/x'): open_driver(url, {})\n"
        "slow = {'obstore', 'boto3', 'botocore', 'google.cloud', 'google.auth', 'requests',"
        " 'urllib3', 'urllib.request', 'importlib.metadata', 'pytest'}\n"
        "print(*sorted(slow & set(sys.modules)))"
    )
    output = subprocess.check_output(
        [sys.executable, "-c", program], text=True, env={"PYTHONPATH": _path()}
    )
    assert output.split() == []


def test_given_keys_import_no_boto(s3_url: object) -> None:
    program = (
        "import sys; from dorky.drivers import open_driver\n"
        "driver = open_driver(sys.argv[1], dict(a.split('=', 1) for a in sys.argv[2:]))\n"
        "driver.put('a', b'x'); assert driver.get('a').data == b'x'\n"
        "print(*sorted({'boto3', 'botocore', 'google', 'requests'} & set(sys.modules)))"
    )
    url, options, *_ = s3_url  # type: ignore[misc]
    arguments = [f"{name}={value}" for name, value in options.items()]
    output = subprocess.check_output(
        [sys.executable, "-c", program, url, *arguments], text=True, env={"PYTHONPATH": _path()}
    )
    assert output.split() == []


def _path() -> str:
    import dorky

    return str(Path(dorky.__file__).parents[1])
