"""Buckets of S3 and of servers that speak it: create, examine, delete and list them, by botocore.

Servers other than AWS lack some of the calls. What they lack is told, and is no failure.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from dorky import errors
from dorky.drivers.base import LISTED, Advice, Bucket
from dorky.drivers.bucket import Untold, ask

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_FIRST_REGION = "us-east-1"
"""The one region that S3 doesn't take by its name, for the oldest buckets' sake."""
_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_PAGE = 1000
_TLS = "DorkyRequiresTLS"
_TAKEN = {
    "BucketAlreadyExists": "it is somebody else's",
    "BucketAlreadyOwnedByYou": "it is yours",
}


class S3Buckets:
    """See `Administration`.

    Args:
        client: botocore's client for ``s3``.
        name: The bucket.
        url: The bucket's URL, for messages.
        endpoint: The server, if it is not AWS.
    """

    def __init__(self, client: Any, name: str, url: str, endpoint: str) -> None:
        self._client = client
        self._name = name
        self._url = url
        self._endpoint = endpoint
        self._arn = f"arn:{client.meta.partition}:s3:::{name}"

    def find(self) -> Bucket | None:
        """See `Administration.find`."""
        from botocore.exceptions import ClientError

        try:
            answer = self._client.head_bucket(Bucket=self._name)
        except ClientError as error:
            if _status(error) == 404:
                return None
            if _status(error) == 403:
                raise errors.AccessDenied(self._url, "403 to a question for it") from error
            raise
        return Bucket(self._name, None, _region_in(answer))

    def create(self, region: str) -> Bucket:
        """See `Administration.create`."""
        from botocore.exceptions import ClientError, ParamValidationError

        region = region or self._client.meta.region_name
        options: dict[str, Any] = {}
        if region != _FIRST_REGION:
            options["CreateBucketConfiguration"] = {"LocationConstraint": region}
        if not self._endpoint:
            options["ObjectOwnership"] = "BucketOwnerEnforced"  # no lists of whom else it serves
        try:
            answer = self._client.create_bucket(Bucket=self._name, **options)
        except ParamValidationError as error:
            raise errors.UsageError(f"no bucket can be named {self._name}") from error
        except ClientError as error:
            code, said = _said(error)
            if code in _TAKEN:
                raise errors.BucketExists(self._url, _TAKEN[code]) from error
            if _status(error) == 400:
                raise errors.UsageError(f"{self._url} can't be created: {said}") from error
            raise
        return Bucket(self._name, _date_in(answer), region)

    def protect(self) -> Iterator[Advice]:
        """See `Administration.protect`."""
        settings: list[tuple[str, str, Callable[[], object]]] = [
            ("public access", "s3:PutBucketPublicAccessBlock", self._block_public_access),
            ("versioning", "s3:PutBucketVersioning", self._keep_versions),
        ]
        if not self._endpoint.startswith("http://"):
            settings.append(("TLS", "s3:PutBucketPolicy", self._require_tls))
        for name, permission, make in settings:
            try:
                make()
            except Untold as why:
                about = f"not set: {why}"
                if why.denied:
                    yield Advice(name, "fail", about, f"grant {permission}, and run it again")
                else:
                    yield Advice(name, "warn", about)

    def _block_public_access(self) -> None:
        ask(
            self._client.put_public_access_block,
            self._name,
            "s3:PutBucketPublicAccessBlock",
            PublicAccessBlockConfiguration=dict.fromkeys(_BLOCKS, True),
        )

    def _keep_versions(self) -> None:
        ask(
            self._client.put_bucket_versioning,
            self._name,
            "s3:PutBucketVersioning",
            VersioningConfiguration={"Status": "Enabled"},
        )

    def _require_tls(self) -> None:
        policy = self._policy() or {"Version": "2012-10-17", "Statement": []}
        statements = _statements(policy)
        if any(map(self._requires_tls, statements)):
            return
        added = {
            "Sid": _TLS,
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [self._arn, f"{self._arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        ask(
            self._client.put_bucket_policy,
            self._name,
            "s3:PutBucketPolicy",
            Policy=json.dumps({**policy, "Statement": [*statements, added]}),
        )

    def _requires_tls(self, statement: Any) -> bool:
        """Return whether a statement of the policy refuses everybody's unencrypted requests."""
        if not isinstance(statement, dict):
            return False
        values = ("false", ["false"], False)
        resources = statement.get("Resource")
        return (
            statement.get("Effect") == "Deny"
            and statement.get("Principal") in ("*", {"AWS": "*"})
            and statement.get("Action") in ("s3:*", ["s3:*"], "*")
            and statement.get("Condition")
            in [{"Bool": {"aws:SecureTransport": value}} for value in values]
            and f"{self._arn}/*" in (resources if isinstance(resources, list) else [resources])
        )

    def _policy(self) -> dict[str, Any] | None:
        """Return the bucket's policy; None if it has none.

        Raises:
            Untold: It can't be read.
        """
        answer = ask(self._client.get_bucket_policy, self._name, "s3:GetBucketPolicy")
        if not answer.get("Policy"):
            return None
        try:
            found = json.loads(answer["Policy"])
        except (ValueError, RecursionError) as error:
            raise Untold("its policy is no JSON") from error
        if not isinstance(found, dict):
            raise Untold("its policy is no object")
        return found

    def examine(self) -> Iterator[Advice]:
        """See `Administration.examine`."""
        yield self._public_access()
        if self._endpoint.startswith("http://"):
            yield Advice("TLS", "warn", f"requests to {self._endpoint} are not encrypted")
            return
        try:
            if any(map(self._requires_tls, _statements(self._policy() or {}))):
                yield Advice("TLS", "ok", "unencrypted requests are refused")
            else:
                yield Advice(
                    "TLS",
                    "warn",
                    "unencrypted requests are allowed",
                    "add a statement to the bucket's policy that denies s3:* where "
                    "aws:SecureTransport is false",
                )
        except Untold as why:
            yield Advice("TLS", "ok", f"can't tell: {why}")

    def _public_access(self) -> Advice:
        with contextlib.suppress(Untold):
            status = ask(
                self._client.get_bucket_policy_status, self._name, "s3:GetBucketPolicyStatus"
            )
            if (status.get("PolicyStatus") or {}).get("IsPublic"):
                return Advice(
                    "public access",
                    "fail",
                    "the bucket's policy lets everybody in",
                    f"aws s3api get-bucket-policy --bucket {self._name}",
                )
        try:
            answer = ask(
                self._client.get_public_access_block, self._name, "s3:GetBucketPublicAccessBlock"
            )
        except Untold as why:
            return Advice("public access", "ok", f"can't tell: {why}")
        set_here = answer.get("PublicAccessBlockConfiguration") or {}
        if all(set_here.get(name) for name in _BLOCKS):
            return Advice("public access", "ok", "blocked")
        return Advice(
            "public access",
            "warn",
            "not blocked: a policy or a list of grants can open the bucket to everybody",
            f"aws s3api put-public-access-block --bucket {self._name} "
            "--public-access-block-configuration " + ",".join(f"{name}=true" for name in _BLOCKS),
        )

    def content(self) -> str:
        """See `Administration.content`."""
        try:
            found = ask(
                self._client.list_object_versions, self._name, "s3:ListBucketVersions", MaxKeys=1
            )
        except Untold as why:
            if why.denied:
                raise errors.AccessDenied(self._url, str(why)) from why
            found = {}
        if found.get("Versions"):
            return "objects, or old versions of them"
        if found.get("DeleteMarkers"):
            return "markers of deleted objects"
        # Not `ask`: nothing may be deleted unless this is answered.
        if self._client.list_objects_v2(Bucket=self._name, MaxKeys=1).get("Contents"):
            return "objects"
        with contextlib.suppress(Untold):
            found = ask(
                self._client.list_multipart_uploads,
                self._name,
                "s3:ListBucketMultipartUploads",
                MaxUploads=1,
            )
            if found.get("Uploads"):
                return "uploads that were begun and not finished"
        return ""

    def delete(self) -> None:
        """See `Administration.delete`."""
        from botocore.exceptions import ClientError

        try:
            self._client.delete_bucket(Bucket=self._name)
        except ClientError as error:
            if _said(error)[0] == "BucketNotEmpty":
                raise errors.BucketNotEmpty(self._url, "something") from error
            raise

    def list(self) -> Iterator[Bucket]:
        """See `Administration.list`."""
        from botocore.exceptions import PaginationError

        pages: Iterable[Mapping[str, Any]]
        if self._client.can_paginate("list_buckets"):  # only pages name the regions
            paginator = self._client.get_paginator("list_buckets")
            pages = paginator.paginate(PaginationConfig={"PageSize": _PAGE})
        else:
            pages = [self._client.list_buckets()]
        count = 0
        try:
            for page in pages:
                for found in page.get("Buckets") or ():
                    count += 1
                    if count > LISTED:
                        raise errors.BadEndpoint(self._url, "its list of buckets does not end")
                    created = found.get("CreationDate")
                    when = created.astimezone(timezone.utc) if created else None
                    yield Bucket(found["Name"], when, found.get("BucketRegion") or "")
        except PaginationError as error:
            raise errors.BadEndpoint(self._url, "its list of buckets does not end") from error


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)


def _said(error: ClientError) -> tuple[str, str]:
    """Return the code of an error, and code and message in a line."""
    told = error.response.get("Error", {})
    code = str(told.get("Code") or "")
    return code, f"{code}: {' '.join(str(told.get('Message') or '').split())[:200]}"


def _region_in(answer: Mapping[str, Any]) -> str:
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(answer.get("BucketRegion") or headers.get("x-amz-bucket-region") or "")


def _date_in(answer: Mapping[str, Any]) -> datetime | None:
    try:
        said = answer["ResponseMetadata"]["HTTPHeaders"]["date"]
        return parsedate_to_datetime(said).astimezone(timezone.utc)
    except (LookupError, TypeError, ValueError):
        return None


def _statements(policy: Mapping[str, Any]) -> list[Any]:
    found = policy.get("Statement") or []
    return list(found) if isinstance(found, list) else [found]
