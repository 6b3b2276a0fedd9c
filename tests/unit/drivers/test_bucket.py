"""What is told of a bucket's set-up: old versions, and rules that would delete packs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import servers
from servers import Canned, Remote

from dorky import errors
from dorky.drivers import open_driver
from dorky.drivers.base import Advice, Inspected
from dorky.drivers.bucket import Rule

KEEP = ("root", "packs/")


def told(remote: Remote) -> dict[str, Advice]:
    """What a driver, wrapped as it always is, says of its place."""
    driver = open_driver(remote.url, remote.options)
    assert isinstance(driver, Inspected)
    return {each.name: each for each in driver.inspect(KEEP)}


def test_a_directory_has_nothing_to_tell(file_url: Remote) -> None:
    assert told(file_url) == {}


@pytest.mark.parametrize(
    ("prefix", "reached"),
    [
        ("", True),
        ("te", True),
        ("team/", True),
        ("team/project/", True),
        ("team/project/root", True),
        ("team/project/packs/0", True),
        ("team/project/probe/", False),
        ("team/project/join/", False),
        ("team/other/", False),
        ("team/project2/", False),
        ("logs/", False),
    ],
)
def test_what_a_prefix_reaches(prefix: str, reached: bool) -> None:
    keep = ("team/project/root", "team/project/packs/")
    assert Rule("a", (prefix,), "").reaches(keep) is reached
    assert Rule("a", ("logs/", prefix), "").reaches(keep) is reached
    assert not Rule("a", (), "").reaches(keep)


# --- S3 -------------------------------------------------------------------------------------


@pytest.fixture
def client(s3_url: Remote) -> Any:
    with contextlib.closing(servers.s3_client(s3_url.options["endpoint"])) as made:
        yield made


def name_of(remote: Remote) -> str:
    return remote.url.split("/")[2]


def test_versioning(s3_url: Remote, client: Any) -> None:
    found = told(s3_url)["versioning"]
    assert found.verdict == "warn"
    assert found.about.startswith("off")
    assert f"--bucket {name_of(s3_url)} " in found.remedy
    for status, verdict in (("Enabled", "ok"), ("Suspended", "warn")):
        client.put_bucket_versioning(
            Bucket=name_of(s3_url), VersioningConfiguration={"Status": status}
        )
        found = told(s3_url)["versioning"]
        assert found.verdict == verdict
    assert found.about.startswith("suspended")


def test_no_rules(s3_url: Remote) -> None:
    assert told(s3_url)["lifecycle"].verdict == "ok"


EXPIRES: dict[str, Any] = {"Expiration": {"Days": 30}}
ON = "Enabled"


@pytest.mark.parametrize(
    ("rule", "about"),
    [
        ({"Status": ON, "Filter": {"Prefix": ""}, **EXPIRES}, "after 30 days"),
        ({"Status": ON, "Filter": {"Prefix": "team/"}, **EXPIRES}, "after 30 days"),
        ({"Status": ON, "Filter": {"Prefix": "team/project/packs/"}, **EXPIRES}, "after 30 days"),
        ({"Status": ON, "Prefix": "team/", **EXPIRES}, "after 30 days"),
        ({"Status": ON, "Filter": {}, "Expiration": {"Days": 1}}, "after 1 day"),
        (
            {
                "Status": ON,
                "Filter": {"Prefix": ""},
                "Expiration": {"Date": datetime(2030, 1, 2, tzinfo=timezone.utc)},
            },
            "on 2030-01-02",
        ),
        ({"Status": ON, "Filter": {"ObjectSizeGreaterThan": 1000}, **EXPIRES}, "after 30 days"),
        (
            {
                "Status": ON,
                "Filter": {"And": {"Prefix": "team/", "ObjectSizeLessThan": 10_000_000}},
                **EXPIRES,
            },
            "after 30 days",
        ),
        (
            {
                "Status": ON,
                "Filter": {"Prefix": ""},
                "Transitions": [
                    {"Days": 30, "StorageClass": "STANDARD_IA"},
                    {"Days": 90, "StorageClass": "DEEP_ARCHIVE"},
                ],
            },
            "archives packs after 90 days",
        ),
    ],
)
def test_rules_that_harm(s3_url: Remote, client: Any, rule: dict[str, Any], about: str) -> None:
    harmless = {"ID": "logs", "Status": ON, "Filter": {"Prefix": "logs/"}, **EXPIRES}
    client.put_bucket_lifecycle_configuration(
        Bucket=name_of(s3_url),
        LifecycleConfiguration={"Rules": [harmless, {"ID": "tidy-up", **rule}]},
    )
    found = told(s3_url)["lifecycle"]
    assert found.verdict == "fail"
    assert about in found.about
    assert "tidy-up" in found.about
    assert "logs" not in found.about
    assert "team/project/packs/" in found.remedy


TAG = {"Key": "keep", "Value": "no"}


@pytest.mark.parametrize(
    "rule",
    [
        {"Status": "Disabled", "Filter": {"Prefix": ""}, **EXPIRES},
        {"Status": ON, "Filter": {"Prefix": "team/other/"}, **EXPIRES},
        {"Status": ON, "Filter": {"Prefix": "team/project/probe/"}, **EXPIRES},
        {"Status": ON, "Filter": {"Tag": TAG}, **EXPIRES},
        {"Status": ON, "Filter": {"And": {"Prefix": "team/", "Tags": [TAG]}}, **EXPIRES},
        {
            "Status": ON,
            "Filter": {"Prefix": ""},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
        },
        {
            "Status": ON,
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
        },
        {"Status": ON, "Filter": {}, "Expiration": {"ExpiredObjectDeleteMarker": True}},
        {
            "Status": ON,
            "Filter": {"Prefix": ""},
            "Transitions": [{"Days": 30, "StorageClass": "GLACIER_IR"}],
        },
    ],
)
def test_rules_that_do_not(s3_url: Remote, client: Any, rule: dict[str, Any]) -> None:
    client.put_bucket_lifecycle_configuration(
        Bucket=name_of(s3_url), LifecycleConfiguration={"Rules": [{"ID": "tidy-up", **rule}]}
    )
    assert told(s3_url)["lifecycle"].verdict == "ok"


def test_a_repository_at_the_top_of_its_bucket(s3_url: Remote, client: Any) -> None:
    top = s3_url._replace(url=f"s3://{name_of(s3_url)}")
    for prefix, verdict in (("packs/", "fail"), ("p", "fail"), ("team/", "ok")):
        rule = {"ID": "a", "Status": ON, "Filter": {"Prefix": prefix}, **EXPIRES}
        client.put_bucket_lifecycle_configuration(
            Bucket=name_of(s3_url), LifecycleConfiguration={"Rules": [rule]}
        )
        assert told(top)["lifecycle"].verdict == verdict


def error(code: str) -> str:
    return f"<Error><Code>{code}</Code><Message>said so</Message></Error>"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Canned(403, error("AccessDenied")), "no permission s3:Get"),
        (Canned(403, ""), "no permission s3:Get"),
        (Canned(501, error("NotImplemented")), "does not know s3:Get"),
        (Canned(405, error("MethodNotAllowed")), "does not know s3:Get"),
        (Canned(400, error("MalformedXML")), "does not know s3:Get"),
        (Canned(404, "no such page"), "does not know s3:Get"),
        (Canned(200, "<html><br>welcome to the hotel"), "does not know s3:Get"),
    ],
)
def test_what_can_not_be_told(answer: Canned, why: str) -> None:
    with servers.stub_server(lambda method, target: answer) as server:
        driver = open_driver("s3://bucket/x", servers.s3_options(server.endpoint))
        assert isinstance(driver, Inspected)
        found = list(driver.inspect(KEEP))
    assert [each.name for each in found] == ["versioning", "lifecycle"]
    for each in found:
        assert each.verdict == "ok"
        assert "can't tell: " in each.about
        assert why in each.about
        assert "\n" not in each.about


def test_one_answer_does_without_the_other(s3_url: Remote) -> None:
    def answer(method: str, target: str) -> Canned:
        if "versioning" in target:
            return Canned(403, error("AccessDenied"))
        return Canned(404, error("NoSuchLifecycleConfiguration"))

    with servers.stub_server(answer) as server:
        driver = open_driver("s3://bucket/x", servers.s3_options(server.endpoint))
        assert isinstance(driver, Inspected)
        first, second = driver.inspect(KEEP)
    assert first.about == "can't tell: no permission s3:GetBucketVersioning"
    assert second.about == "no rule deletes or archives packs"


def test_no_network() -> None:
    driver = open_driver("s3://bucket/x", servers.s3_options("http://127.0.0.1:1"))
    assert isinstance(driver, Inspected)
    assert all("can't tell" in each.about for each in driver.inspect(KEEP))


def test_keys_of_the_profile(hermetic: Path, s3_url: Remote, client: Any) -> None:
    (hermetic / ".aws").mkdir()
    (hermetic / ".aws" / "config").write_text(
        f"[profile lab]\nendpoint_url = {s3_url.options['endpoint']}\nregion = us-east-1\n"
        "aws_access_key_id = AKIAFROMFILE\naws_secret_access_key = secret\n"
    )
    client.put_bucket_versioning(
        Bucket=name_of(s3_url), VersioningConfiguration={"Status": "Enabled"}
    )
    assert told(s3_url._replace(options={"profile": "lab"}))["versioning"].verdict == "ok"


def test_settings_of_aws_that_are_malformed(hermetic: Path, s3_url: Remote) -> None:
    (hermetic / ".aws").mkdir()
    (hermetic / ".aws" / "config").write_text("not a config file")
    assert "can't tell" in told(s3_url)["bucket"].about


def test_given_keys_need_no_profile(s3_url: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for all other requests, what AWS_PROFILE names does not matter."""
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    assert told(s3_url)["versioning"].about.startswith("off")


def test_missing_credentials_are_the_driver_s_error(s3_url: Remote) -> None:
    driver = open_driver(s3_url.url, {"endpoint": s3_url.options["endpoint"]})
    assert isinstance(driver, Inspected)
    with pytest.raises(errors.NoCredentials):
        next(driver.inspect(KEEP))


# --- Google Cloud Storage -------------------------------------------------------------------


def test_a_new_bucket_has_soft_delete_and_no_rules(gcs_url: Remote) -> None:
    found = told(gcs_url)
    assert {each.verdict for each in found.values()} == {"ok"}
    assert "soft delete keeps 7 days" in found["versioning"].about


def test_a_bucket_that_is_not_there(gcs_url: Remote) -> None:
    driver = open_driver("gs://no-such-bucket/x", {})
    assert isinstance(driver, Inspected)
    with pytest.raises(errors.BucketNotFound):
        next(driver.inspect(KEEP))


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Advice]]:
    """What is told of a bucket that has these properties."""

    def tell(status: int = 200, **properties: object) -> dict[str, Advice]:
        body = json.dumps({"name": "bucket", **properties})
        with servers.stub_server(lambda method, target: Canned(status, body)) as server:
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.endpoint)
            driver = open_driver("gs://bucket/team/project", {})
            assert isinstance(driver, Inspected)
            found = {each.name: each for each in driver.inspect(KEEP)}
            assert {path for _, path in server.log} == {"/storage/v1/b/bucket"}
        return found

    return tell


@pytest.mark.parametrize(
    ("properties", "verdict", "about"),
    [
        ({"versioning": {"enabled": True}}, "ok", "on"),
        ({"versioning": {"enabled": False}}, "warn", "off, and no soft delete"),
        ({"softDeletePolicy": {"retentionDurationSeconds": "604800"}}, "ok", "keeps 7 days"),
        ({"softDeletePolicy": {"retentionDurationSeconds": "0"}}, "warn", "no soft delete"),
    ],
)
def test_versioning_of_google(
    described: Callable[..., dict[str, Advice]],
    properties: dict[str, Any],
    verdict: str,
    about: str,
) -> None:
    found = described(**properties)["versioning"]
    assert found.verdict == verdict
    assert about in found.about


@pytest.mark.parametrize(
    ("kind", "condition", "harm"),
    [
        ("Delete", {"age": 30}, "after 30 days"),
        ("Delete", {"age": 30, "matchesPrefix": ["logs/", "team/"]}, "after 30 days"),
        ("Delete", {"createdBefore": "2030-01-02"}, "createdBefore=2030-01-02"),
        ("Delete", {"age": 3, "matchesSuffix": [".log", "ot"]}, "after 3 days"),
        ("Delete", {"age": 3, "matchesSuffix": ["0"]}, "after 3 days"),
        ("Delete", {"age": 30, "matchesPrefix": ["logs/"]}, ""),
        ("Delete", {"age": 30, "matchesSuffix": [".log"]}, ""),
        ("Delete", {"age": 30, "isLive": False}, ""),
        ("Delete", {"age": 30, "isLive": True}, "after 30 days"),
        ("Delete", {"numNewerVersions": 3}, ""),
        ("Delete", {"daysSinceNoncurrentTime": 30}, ""),
        ("Delete", {"daysSinceCustomTime": 30}, ""),
        ("SetStorageClass", {"age": 30}, ""),
        ("AbortIncompleteMultipartUpload", {"age": 7}, ""),
        ("SomethingNew", {"age": 7}, ""),
    ],
)
def test_rules_of_google(
    described: Callable[..., dict[str, Advice]], kind: str, condition: dict[str, Any], harm: str
) -> None:
    rule = {"action": {"type": kind, "storageClass": "COLDLINE"}, "condition": condition}
    found = described(lifecycle={"rule": [rule]})["lifecycle"]
    assert found.verdict == ("fail" if harm else "ok")
    assert harm in found.about


def test_a_root_that_can_not_be_replaced(described: Callable[..., dict[str, Advice]]) -> None:
    found = described(retentionPolicy={"retentionPeriod": "3600"})
    assert found["retention"].verdict == "fail"
    assert "retention" not in described()


def test_no_permission_to_look(described: Callable[..., dict[str, Advice]]) -> None:
    found = described(403, error={"message": "no storage.buckets.get access"})
    assert {each.verdict for each in found.values()} == {"ok"}
    assert all("no permission storage.buckets.get" in each.about for each in found.values())
