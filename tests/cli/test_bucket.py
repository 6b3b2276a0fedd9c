"""Buckets from the command line: text, JSON, questions and exit codes."""

from __future__ import annotations

import json

import msgspec
import pytest
from machines import Machine
from servers import Remote
from terminals import Terminal

from dorky.results import BucketInfo, BucketReport


@pytest.fixture
def ana_in_aws(ana: Machine, s3_url: Remote) -> Machine:
    ana.env.update(s3_url.env)
    return ana


def a_bucket(remote: Remote) -> str:
    scheme, _, rest = remote.url.partition("://")
    return f"{scheme}://cli-{rest.partition('/')[0]}"


def test_from_nothing_to_nothing(ana_in_aws: Machine, s3_url: Remote) -> None:
    ana, url = ana_in_aws, a_bucket(s3_url)
    name = url.removeprefix("s3://")
    planned = msgspec.json.decode(
        ana("bucket", "create", url, "--dry-run", "--json").raw, type=BucketInfo
    )
    assert (planned.name, planned.created, planned.checks) == (name, None, ())
    assert name not in ana("bucket", "list").out
    said = ana("bucket", "create", url, "--region", "eu-central-1").out
    assert said.startswith(f"Created {url} in eu-central-1\n")
    assert "ok    public access: blocked" in said
    assert "ok    versioning: on" in said
    assert name in ana("bucket", "list").out
    found = msgspec.json.decode(ana("bucket", "list", "s3://", "--json").raw, type=list[BucketInfo])
    assert name in {info.name for info in found}
    gone = msgspec.json.decode(ana("bucket", "delete", url, "--yes", "--json").raw, type=BucketInfo)
    assert gone.name == name
    assert name not in ana("bucket", "list").out


def test_what_can_not_be_done(ana_in_aws: Machine, s3_url: Remote) -> None:
    ana, url = ana_in_aws, a_bucket(s3_url)
    said = ana("bucket", "delete", url, "--yes", code=4)
    assert "does not exist" in said.error
    ana("bucket", "create", url)
    said = ana("bucket", "create", url, code=5)
    assert f"dorky bucket create {url} --exist-ok" in said.err
    failure = ana("bucket", "create", url, "--json", code=5).json["error"]
    assert failure["code"] == "bucket-exists"
    ana("bucket", "create", url, "--exist-ok")
    said = ana("bucket", "create", f"{url}/team", code=2)
    assert "a place in a bucket" in said.error
    ana("bucket", "create", "s3://No_Such", code=2)
    ana("bucket", "list", "file:///tmp", code=2)
    ana("init", f"{url}/team")
    said = ana("bucket", "delete", url, "--yes", code=5)
    assert "is not empty" in said.error
    ana.commit({".env": "KEY=1"}, "first")
    ana("push")


def test_nobody_is_asked_without_a_terminal(ana_in_aws: Machine, s3_url: Remote) -> None:
    ana, url = ana_in_aws, a_bucket(s3_url)
    ana("bucket", "create", url)
    ana("bucket", "delete", url, code=5)
    assert "which is empty" in ana("bucket", "delete", url, "--dry-run").err
    assert url.removeprefix("s3://") in ana("bucket", "list").out


@pytest.mark.parametrize("right", [True, False])
def test_the_name_is_typed(
    ana_in_aws: Machine, s3_url: Remote, terminal: Terminal, right: bool
) -> None:
    ana, url = ana_in_aws, a_bucket(s3_url)
    ana("bucket", "create", url)
    typed = f"{url if right else 'yes'}\n"
    shown = terminal(ana, "bucket", "delete", url, until="to go on: ", typed=typed)
    assert shown.code == (0 if right else 5)
    assert (url.removeprefix("s3://") in ana("bucket", "list").out) is not right


def test_a_place_is_examined(ana_in_aws: Machine, s3_url: Remote) -> None:
    ana = ana_in_aws
    said = ana("bucket", "validate", s3_url.url).out
    assert "ok    writing: you can write, and it honours conditional writes" in said
    assert "warn  versioning: off" in said
    policy = said.partition("read-only (")[2].partition("\n")[2].partition("\n\n")[0]
    assert json.loads(policy)["Statement"][0]["Action"] == "s3:ListBucket"
    report = msgspec.json.decode(
        ana("bucket", "validate", s3_url.url, "--json").raw, type=BucketReport
    )
    assert [role.name for role in report.roles] == ["read-only", "read-write", "maintenance"]
    assert not (ana.project / ".dorky").exists()


def test_a_bucket_that_two_can_not_share(ana: Machine, rclone_url: Remote) -> None:
    ana.env.update(rclone_url.env)
    said = ana("bucket", "validate", rclone_url.url, code=1).out
    assert "fail  writing:" in said
    assert "→ use another server" in said
    found = ana("bucket", "validate", rclone_url.url, "--json", code=1).json
    assert {check["verdict"] for check in found["checks"]} >= {"ok", "fail"}


def test_google_s_bucket(ana: Machine, gcs_url: Remote) -> None:
    ana.env.update(gcs_url.env)
    url = a_bucket(gcs_url)
    said = ana("bucket", "create", url, code=2)
    assert "GOOGLE_CLOUD_PROJECT" in said.err
    ana("bucket", "create", url, "--project", "acme")
    ana.env["GOOGLE_CLOUD_PROJECT"] = "acme"
    assert url.removeprefix("gs://") in ana("bucket", "list", "gs://").out
    assert "roles/storage.objectUser" in ana("bucket", "validate", f"{url}/team").out
    ana("bucket", "delete", url, "--yes")
