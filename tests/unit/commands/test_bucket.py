"""Buckets are created, listed, examined and deleted, on real servers and on odd ones."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import servers
from depth import deep
from servers import Canned, Remote

from dorky import errors
from dorky.commands import bucket, bucket_roles
from dorky.drivers import open_driver
from dorky.drivers.s3_buckets import S3Buckets
from dorky.results import BucketInfo, BucketReport, Check

BLOCKED = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}


def new(remote: Remote) -> str:
    """The URL of a bucket that does not exist yet, on the server of a remote."""
    scheme, _, rest = remote.url.partition("://")
    return f"{scheme}://new-{rest.partition('/')[0]}"


def options(remote: Remote) -> dict[str, str]:
    found = {**remote.options, "project": "acme"}
    if emulator := remote.env.get("STORAGE_EMULATOR_HOST"):
        found["emulator"] = emulator
    return found


def by_name(found: BucketInfo | BucketReport) -> dict[str, Check]:
    return {check.name: check for check in found.checks}


@pytest.fixture
def client(s3_url: Remote) -> Iterator[Any]:
    with contextlib.closing(servers.s3_client(s3_url.options["endpoint"])) as made:
        yield made


# --- create ---------------------------------------------------------------------------------


@pytest.mark.parametrize("region", ["", "us-east-1", "eu-central-1"])
def test_a_new_bucket_is_private_and_keeps_versions(
    s3_url: Remote, client: Any, region: str
) -> None:
    url, given = new(s3_url), {**options(s3_url), "region": region}
    name = url.removeprefix("s3://")
    assert bucket.plan_create(url, given).checks == ()
    assert name not in {found.name for found in bucket.list_buckets("s3://", given)}
    made = bucket.create(url, given)
    assert (made.name, made.region) == (name, region or "us-east-1")
    assert made.created is not None
    assert {check.verdict for check in made.checks if check.name != "TLS"} == {"ok"}
    block = client.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
    assert block == BLOCKED
    assert client.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    where = client.get_bucket_location(Bucket=name)["LocationConstraint"]
    assert where == (region if region == "eu-central-1" else None)
    assert name in {found.name for found in bucket.list_buckets("s3", given)}
    # On a server without TLS a policy that requires it would lock everybody out.
    assert by_name(made)["TLS"].verdict == "warn"
    with pytest.raises(client.exceptions.ClientError, match="NoSuchBucketPolicy"):
        client.get_bucket_policy(Bucket=name)


class Client:
    """botocore's client, as far as policies go: a real server here has no TLS to require."""

    class meta:  # noqa: N801
        partition = "aws"

    def __init__(self, policy: str) -> None:
        self.policy = policy

    def get_bucket_policy(self, **_: str) -> dict[str, str]:
        return {"Policy": self.policy}

    def put_bucket_policy(self, Policy: str, **_: str) -> dict[str, str]:  # noqa: N803
        self.policy = Policy
        return {}

    def put_bucket_versioning(self, **_: object) -> dict[str, str]:
        return {}

    put_public_access_block = get_public_access_block = put_bucket_versioning
    get_bucket_policy_status = put_bucket_versioning


def test_tls_is_required_and_other_statements_stay() -> None:
    own = {"Sid": "Own", "Effect": "Allow", "Principal": {"AWS": "1"}, "Action": "s3:GetObject"}
    for before in (json.dumps({"Version": "2012-10-17", "Statement": own}), ""):
        kept = Client(before)
        admin = S3Buckets(kept, "acme", "s3://acme", "")
        assert {found.name: found.verdict for found in admin.examine()}["TLS"] == "warn"
        assert list(admin.protect()) == []
        after = json.loads(kept.policy)["Statement"]
        assert after[:-1] == ([own] if before else [])
        assert after[-1]["Effect"] == "Deny"
        assert after[-1]["Resource"] == ["arn:aws:s3:::acme", "arn:aws:s3:::acme/*"]
        assert {found.name: found.verdict for found in admin.examine()}["TLS"] == "ok"
        once = kept.policy
        assert list(admin.protect()) == []
        assert kept.policy == once


def test_a_new_bucket_of_google(gcs_url: Remote) -> None:
    url, given = new(gcs_url), options(gcs_url)
    made = bucket.create(url, given)
    assert made.name == url.removeprefix("gs://")
    assert made.name in {found.name for found in bucket.list_buckets("gs://", given)}
    # The emulator forgets the settings of a request that creates; a second one makes them.
    assert by_name(made)["uniform access"].verdict == "warn"
    again = bucket.create(url, given, exist_ok=True)
    assert {check.verdict for check in again.checks} == {"ok"}
    assert by_name(again)["versioning"].about.startswith("on")
    assert by_name(again)["public access"].about == "blocked"


def test_one_request_creates_a_bucket_of_google_with_its_settings() -> None:
    """The emulator ignores them, so this is about what is sent."""
    sent = []

    def act(handler: Any) -> None:
        if handler.command == "POST":
            sent.append((handler.path, json.loads(handler.body)))
        found = handler.command == "POST" or len(sent) == 1
        body = json.dumps(sent[0][1] if found else {}).encode()
        headers = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        headers["Connection"] = "close"  # as the server does; nothing is sent twice here
        servers.send(handler, 200 if found else 404, headers, iter([body]))

    with servers.answering(act) as endpoint:
        given = {"emulator": endpoint, "project": "acme", "region": "europe-west3"}
        made = bucket.create("gs://acme-new", given)
    ((path, body),) = sent
    assert "project=acme" in path
    assert body["location"].lower() == "europe-west3"
    assert body["versioning"] == {"enabled": True}
    assert body["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert body["iamConfiguration"]["uniformBucketLevelAccess"] == {"enabled": True}
    assert {check.verdict for check in made.checks} == {"ok"}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("Your previous request succeeded and you already own it.", "it is yours"),
        ("The requested bucket name is not available.", "somebody else's"),
    ],
)
def test_a_name_that_is_taken_at_google(said: str, why: str) -> None:
    def answer(method: str, target: str) -> Canned:
        body = json.dumps({"error": {"message": said}})
        return Canned(404 if method == "GET" else 409, body)

    with servers.stub_server(answer) as server:
        given = {"emulator": server.endpoint, "project": "acme"}
        with pytest.raises(errors.BucketExists) as caught:
            bucket.create("gs://acme-new", given)
    assert why in caught.value.message


def test_google_s_project_must_be_known(gcs_url: Remote) -> None:
    given = {name: value for name, value in options(gcs_url).items() if name != "project"}
    for ask in (bucket.create, bucket.list_buckets):
        with pytest.raises(errors.NoProject):
            ask(new(gcs_url), given)


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_what_exists_is_left_alone(kind: str, request: pytest.FixtureRequest) -> None:
    remote: Remote = request.getfixturevalue(f"{kind}_url")
    url, given = new(remote), options(remote)
    first = bucket.create(url, given)
    open_driver(f"{url}/x", given).put("y", b"1")
    for ask in (bucket.plan_create, bucket.create):
        with pytest.raises(errors.BucketExists, match="may see it") as caught:
            ask(url, given)
        assert caught.value.exit_code == 5
    assert bucket.create(url, given, exist_ok=True).name == first.name
    assert open_driver(f"{url}/x", given).get_range("y", 0, 1) == b"1"


@pytest.mark.parametrize(
    "name",
    ["ab", "Acme", "a_b", "acme.", "a..b", "192.168.0.1", "a" * 64, "-acme"],
)
def test_names_that_no_bucket_has(s3_url: Remote, name: str) -> None:
    with pytest.raises(errors.UsageError):
        bucket.plan_create(f"s3://{name}", options(s3_url))
    assert s3_url.log == []


@pytest.mark.parametrize("name", ["ab", "Acme", "goog-x", "a..b", "10.0.0.1"])
def test_names_that_no_bucket_of_google_has(gcs_url: Remote, name: str) -> None:
    with pytest.raises(errors.UsageError):
        bucket.plan_create(f"gs://{name}", options(gcs_url))
    assert gcs_url.log == []


def error(code: str) -> str:
    return f"<Error><Code>{code}</Code><Message>said so</Message></Error>"


Answer = Callable[[str, str], Canned]


def on_stub(answer: Answer, ask: Callable[..., Any], **how: Any) -> tuple[Any, list[Any]]:
    with servers.stub_server(answer) as server:
        done = ask("s3://acme-x", servers.s3_options(server.endpoint), **how)
        return done, list(server.log)


def creating(answer: Canned) -> Answer:
    """A server without the bucket, which answers so to the request that creates it."""
    return lambda method, target: Canned(404) if method == "HEAD" else answer


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (Canned(409, error("BucketAlreadyExists")), errors.BucketExists, "somebody else's"),
        (Canned(409, error("BucketAlreadyOwnedByYou")), errors.BucketExists, "it is yours"),
        (Canned(403, error("AccessDenied")), errors.AccessDenied, "AccessDenied"),
        (Canned(400, error("InvalidBucketName")), errors.UsageError, "InvalidBucketName: said so"),
        (Canned(400, error("TooManyBuckets")), errors.UsageError, "TooManyBuckets"),
        (Canned(400, error("InvalidLocationConstraint")), errors.UsageError, "Location"),
    ],
)
def test_refusals(answer: Canned, kind: type[errors.DorkyError], said: str) -> None:
    with pytest.raises(kind) as caught:
        on_stub(creating(answer), bucket.create)
    assert said in caught.value.message


def test_somebody_else_s_bucket_looks_taken() -> None:
    for exist_ok in (False, True):
        with pytest.raises(errors.BucketExists, match="somebody else's"):
            on_stub(lambda *_: Canned(403), bucket.create, exist_ok=exist_ok)


def test_a_setting_that_can_not_be_made_is_told() -> None:
    """A right that is missing is a failure; a call that the server lacks is none."""

    def answer(method: str, target: str) -> Canned:
        if "publicAccessBlock" in target:
            return Canned(501, error("NotImplemented"))
        if "versioning" in target:
            return Canned(403, error("AccessDenied"))
        return Canned(404) if method == "HEAD" else Canned(200, "")

    made, log = on_stub(answer, bucket.create)
    found = by_name(made)
    assert found["public access"].verdict == "warn"
    assert "does not know s3:PutBucketPublicAccessBlock" in found["public access"].about
    assert found["versioning"].verdict == "fail"
    assert "no permission s3:PutBucketVersioning" in found["versioning"].about
    assert ("PUT", "/acme-x") in log


# --- list -----------------------------------------------------------------------------------


def test_a_list_that_does_not_end() -> None:
    page = (
        "<ListAllMyBucketsResult><Buckets><Bucket><Name>a</Name></Bucket></Buckets>"
        "<ContinuationToken>again</ContinuationToken></ListAllMyBucketsResult>"
    )
    with pytest.raises(errors.BadEndpoint, match="end"):
        on_stub(lambda *_: Canned(200, page), lambda _, given: bucket.list_buckets("s3", given))


@pytest.mark.parametrize("url", ["file:///tmp/x", "/tmp/x", "x://y"])
def test_places_in_no_bucket(url: str) -> None:
    for ask in (bucket.plan_create, bucket.create, bucket.plan_delete, bucket.delete):
        with pytest.raises((errors.NoBuckets, errors.NoDriver)):
            ask(url, {})


def test_a_prefix_is_no_bucket(s3_url: Remote) -> None:
    for ask in (bucket.plan_create, bucket.create, bucket.plan_delete, bucket.delete):
        with pytest.raises(errors.NotABucket):
            ask(s3_url.url, options(s3_url))
    assert s3_url.log == []


# --- delete ---------------------------------------------------------------------------------


def exists(url: str, given: dict[str, str]) -> bool:
    scheme, _, name = url.partition("://")
    return name in {found.name for found in bucket.list_buckets(scheme, given)}


@pytest.mark.parametrize("kind", ["s3", "gcs", *deep("seaweedfs")])
def test_only_an_empty_bucket_is_deleted(kind: str, request: pytest.FixtureRequest) -> None:
    remote: Remote = request.getfixturevalue(f"{kind}_url")
    url, given = new(remote), options(remote)
    with pytest.raises(errors.BucketNotFound):
        bucket.delete(url, given)
    bucket.create(url, given)
    driver = open_driver(f"{url}/team", given)
    driver.put("x", b"1")
    with pytest.raises(errors.BucketNotEmpty, match="objects"):
        bucket.delete(url, given)
    assert driver.get_range("x", 0, 1) == b"1"
    driver.delete(["x"])
    if kind != "gcs":  # the emulator keeps no versions
        with pytest.raises(errors.BucketNotEmpty, match=r"versions|markers"):
            bucket.delete(url, given)
        assert exists(url, given)
        return
    assert bucket.plan_delete(url, given).name in url
    assert exists(url, given)
    bucket.delete(url, given)
    assert not exists(url, given)


def test_an_upload_that_never_ended_is_content(s3_url: Remote, client: Any) -> None:
    url, given = new(s3_url), options(s3_url)
    name = url.removeprefix("s3://")
    bucket.create(url, given)
    begun = client.create_multipart_upload(Bucket=name, Key="x")
    with pytest.raises(errors.BucketNotEmpty, match="not finished"):
        bucket.delete(url, given)
    client.abort_multipart_upload(Bucket=name, Key="x", UploadId=begun["UploadId"])
    bucket.delete(url, given)
    assert not exists(url, given)


def test_versions_that_can_not_be_seen_are_not_deleted() -> None:
    """Some servers delete all that is in a bucket that is to be deleted."""
    deleted = []

    def answer(method: str, target: str) -> Canned:
        if method == "DELETE":
            deleted.append(target)
        return Canned(403, error("AccessDenied")) if "versions" in target else Canned(200, "")

    with pytest.raises(errors.AccessDenied, match="ListBucketVersions"):
        on_stub(answer, bucket.delete)
    assert deleted == []


def test_the_server_has_the_last_word_on_emptiness() -> None:
    def answer(method: str, target: str) -> Canned:
        return Canned(409, error("BucketNotEmpty")) if method == "DELETE" else Canned(200, "")

    with pytest.raises(errors.BucketNotEmpty):
        on_stub(answer, bucket.delete)


# --- validate -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["s3", "gcs", "file", *deep("seaweedfs")])
def test_a_sound_place(kind: str, request: pytest.FixtureRequest) -> None:
    remote: Remote = request.getfixturevalue(f"{kind}_url")
    found = bucket.validate(remote.url, options(remote))
    checks = by_name(found)
    assert {check.verdict for check in found.checks} <= {"ok", "warn"}
    assert checks["reading"].about.endswith("no repository")
    assert "honours conditional writes" in checks["writing"].about
    assert checks["clock"].verdict == "ok"
    assert not list(open_driver(remote.url, options(remote)).list("probe/"))
    names = [role.name for role in found.roles]
    assert names == ([] if kind == "file" else ["read-only", "read-write", "maintenance"])


def test_a_bucket_that_ignores_conditions(rclone_url: Remote) -> None:
    found = by_name(bucket.validate(rclone_url.url, options(rclone_url)))
    assert found["writing"].verdict == "fail"
    assert "ignores conditional writes" in found["writing"].about


def test_a_place_without_a_bucket(s3_url: Remote) -> None:
    with pytest.raises(errors.BucketNotFound):
        bucket.validate(f"{new(s3_url)}/x", options(s3_url))


def test_a_public_bucket_is_told(s3_url: Remote, client: Any) -> None:
    name = s3_url.url.split("/")[2]
    assert by_name(bucket.validate(s3_url.url, options(s3_url)))["public access"].verdict == "warn"
    client.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=BLOCKED)
    assert by_name(bucket.validate(s3_url.url, options(s3_url)))["public access"].verdict == "ok"

    def answer(method: str, target: str) -> Canned:
        if "policyStatus" in target:
            return Canned(200, "<PolicyStatus><IsPublic>true</IsPublic></PolicyStatus>")
        return (
            Canned(200, "") if method != "GET" or "?" in target else Canned(404, error("NoSuchKey"))
        )

    found, _ = on_stub(answer, bucket.validate)
    assert by_name(found)["public access"].verdict == "fail"


@pytest.mark.parametrize("text", ["", "[]", "nonsense", "[" * 5000, '{"Statement": 7}', '"x"'])
def test_policies_that_make_no_sense(text: str) -> None:
    found = {advice.name: advice for advice in S3Buckets(Client(text), "a", "s3://a", "").examine()}
    assert found["TLS"].verdict in {"ok", "warn"}
    assert "refused" not in found["TLS"].about


# --- roles ----------------------------------------------------------------------------------


def test_s3_roles_name_no_more_than_the_repository() -> None:
    roles = {role.name: role.policy for role in bucket_roles.of_s3("acme", "team/x", "cn-north-1")}
    text = json.dumps(roles["read-only"])
    assert "Put" not in text
    assert "Delete" not in text
    assert '"arn:aws-cn:s3:::acme/team/x/packs/*"' in text
    assert '"arn:aws-cn:s3:::acme/*"' not in json.dumps(roles)
    deletes = [
        statement["Resource"]
        for statement in roles["read-write"]["Statement"]
        if statement["Action"] == "s3:DeleteObject"
    ]
    places = [f"arn:aws-cn:s3:::acme/team/x/{name}/*" for name in ("probe", "join", "tables")]
    assert deletes == [places]
    assert "arn:aws-cn:s3:::acme/team/x/root" in json.dumps(roles["maintenance"])
    whole = bucket_roles.of_s3("acme", "", "")[0].policy
    assert whole["Statement"][0] == {
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": "arn:aws:s3:::acme",
    }


def test_google_s_roles_name_no_more_than_the_repository() -> None:
    roles = {role.name: role.policy for role in bucket_roles.of_gcs("acme", "team/x")}
    (reader,) = roles["read-only"]["bindings"]
    assert reader["role"] == "roles/storage.objectViewer"
    assert 'buckets/acme/objects/team/x/")' in reader["condition"]["expression"]
    assert "condition" not in bucket_roles.of_gcs("acme", "")[0].policy["bindings"][0]
