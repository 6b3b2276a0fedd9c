"""The least rights in a bucket for each kind of user, as the cloud's own JSON."""

from __future__ import annotations

from typing import Any

from dorky.commands.requests import JOIN
from dorky.remote.probe import PREFIX as PROBE
from dorky.remote.root import KEY, PACKS, TABLES
from dorky.results import BucketRole

_KINDS = {
    "read-only": "clone, pull, download, ls, cat, log",
    "read-write": "the same, and push, sync, save, upload, team join",
    "maintenance": "the same, and gc, team remove, rotate, purge, doctor, destroy",
}
_PASSING = (PROBE, JOIN, TABLES)
"""The prefixes below which a writer deletes keys that have served their purpose."""
_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}


def of_s3(bucket: str, prefix: str, region: str) -> tuple[BucketRole, ...]:
    """Return the roles as IAM policies of AWS.

    A reader needs ``s3:ListBucket``, too: without it S3 says of a missing key that access to it is
    denied. Only a listing names a prefix, hence ``IfExists``.

    Args:
        bucket: The bucket's name.
        prefix: The repository's place in it, without slashes at its ends.
        region: The bucket's region; empty if it is not known.
    """
    partition = next((name for p, name in _PARTITIONS.items() if region.startswith(p)), "aws")
    here = f"arn:{partition}:s3:::{bucket}"
    below = f"{prefix}/" if prefix else ""

    def keys(*names: str) -> list[str]:
        return [f"{here}/{below}{name}{'*' if name.endswith('/') else ''}" for name in names]

    every = (KEY, PACKS, *_PASSING)
    listing: dict[str, Any] = {
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": here,
    }
    if prefix:
        within = {"s3:prefix": [prefix, f"{prefix}/*"]}
        listing["Condition"] = {"StringLikeIfExists": within}
    reading = [listing, _allow("s3:GetObject", keys(*every))]
    writing = [*reading, _allow("s3:PutObject", keys(*every))]
    settings = [
        "s3:GetBucketPolicy",
        "s3:GetBucketPolicyStatus",
        "s3:GetBucketPublicAccessBlock",
        "s3:GetBucketVersioning",
        "s3:GetLifecycleConfiguration",
    ]
    found = {
        "read-only": reading,
        "read-write": [*writing, _allow("s3:DeleteObject", keys(*_PASSING))],
        "maintenance": [*writing, _allow("s3:DeleteObject", keys(*every)), _allow(settings, here)],
    }
    return tuple(
        _role(kind, {"Version": "2012-10-17", "Statement": statements})
        for kind, statements in found.items()
    )


def _role(kind: str, policy: dict[str, Any]) -> BucketRole:
    return BucketRole(name=kind, commands=_KINDS[kind], policy=policy)


def _allow(action: str | list[str], resource: str | list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource}


def of_gcs(bucket: str, prefix: str) -> tuple[BucketRole, ...]:
    """Return the roles as bindings of Google's IAM.

    A writer must be allowed to delete: Google takes the replacement of an object for a deletion.

    Args:
        bucket: The bucket's name.
        prefix: The repository's place in it, without slashes at its ends.
    """
    condition = {}
    if prefix:
        named = f'resource.name.startsWith("projects/_/buckets/{bucket}/objects/{prefix}/")'
        listed = (
            'api.getAttribute("storage.googleapis.com/objectListPrefix", "")'
            f'.startsWith("{prefix}/")'
        )
        condition = {"condition": {"title": "dorky", "expression": f"{named} || {listed}"}}

    def binding(role: str, **more: Any) -> dict[str, Any]:
        return {"role": f"roles/storage.{role}", "members": ["MEMBER"], **more}

    user = binding("objectUser", **condition)
    found = {
        "read-only": [binding("objectViewer", **condition)],
        "read-write": [user],
        "maintenance": [user, binding("legacyBucketReader")],
    }
    return tuple(_role(kind, {"version": 3, "bindings": given}) for kind, given in found.items())
