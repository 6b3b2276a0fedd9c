"""The settings of a bucket: whether it keeps old versions, and whether its rules delete packs.

`dorky doctor` uses it. Few users of a bucket may administer it, and few servers that speak S3 know
all of its questions, so "can't tell" is a good answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from dorky.drivers.base import Advice

if TYPE_CHECKING:
    from google.cloud.storage import Bucket

_KEPT = "what somebody deletes can be brought back; so can what rotate or purge delete"
_NOT_KEPT = "whoever may delete in the bucket, or errs there, deletes permanently"

# Classes whose objects must be requested and waited for; all others are readable at once.
_FROZEN = frozenset({"GLACIER", "DEEP_ARCHIVE"})


class Rule(NamedTuple):
    """A lifecycle rule, as far as it ends the life of objects.

    Attributes:
        name: Its owner's name for it.
        prefixes: The rule applies to objects below any of these.
        effect: Its effect, and when: ``deletes … 30 days after they were written``.
    """

    name: str
    prefixes: tuple[str, ...]
    effect: str

    def reaches(self, keep: Sequence[str]) -> bool:
        """Return whether the rule applies to objects below any of the prefixes ``keep``."""
        return any(a.startswith(b) or b.startswith(a) for a in keep for b in self.prefixes)


def _lifecycle(rules: Iterable[Rule], keep: Sequence[str], command: str) -> Advice:
    harmful = [rule for rule in rules if rule.reaches(keep)]
    if not harmful:
        return Advice("lifecycle", "ok", "no rule deletes or archives packs")
    return Advice(
        "lifecycle",
        "fail",
        "; ".join(f"the rule {rule.name} {rule.effect}" for rule in harmful),
        f"disable it, or have it leave out {', '.join(keep)}: {command}",
    )


# --- S3 -------------------------------------------------------------------------------------


class Untold(Exception):
    """The reason why a question has no answer, or why a setting was not made.

    Args:
        reason: It.
        denied: Whether the caller lacks the permission; else the server does not know the call.
    """

    def __init__(self, reason: str, *, denied: bool = False) -> None:
        super().__init__(reason)
        self.denied = denied


def of_s3(client: Any, bucket: str, keep: Sequence[str]) -> Iterator[Advice]:
    """Inspect a bucket through botocore.

    Args:
        client: botocore's client for ``s3``.
        bucket: The bucket's name.
        keep: Prefixes that must not be deleted, relative to the bucket.
    """
    try:
        state = ask(client.get_bucket_versioning, bucket, "s3:GetBucketVersioning").get("Status")
        if state == "Enabled":
            yield Advice("versioning", "ok", f"on: {_KEPT}")
        else:
            how = "suspended" if state == "Suspended" else "off"
            yield Advice(
                "versioning",
                "warn",
                f"{how}: {_NOT_KEPT}",
                f"aws s3api put-bucket-versioning --bucket {bucket} "
                "--versioning-configuration Status=Enabled",
            )
    except Untold as why:
        yield Advice("versioning", "ok", f"can't tell: {why}")
    try:
        answer = ask(
            client.get_bucket_lifecycle_configuration, bucket, "s3:GetLifecycleConfiguration"
        )
        command = f"aws s3api get-bucket-lifecycle-configuration --bucket {bucket}"
        yield _lifecycle(map(_rule_of_s3, answer.get("Rules", ())), keep, command)
    except Untold as why:
        yield Advice("lifecycle", "ok", f"can't tell: {why}")


_UNSET = frozenset({
    "NoSuchBucketPolicy",
    "NoSuchLifecycleConfiguration",
    "NoSuchPublicAccessBlockConfiguration",
})  # fmt: skip


def ask(
    call: Callable[..., Mapping[str, Any]], bucket: str, permission: str, **what: Any
) -> Mapping[str, Any]:
    """Send a request about a bucket's settings; return the answer, which is empty if none is set.

    Raises:
        Untold: There is no answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        return call(Bucket=bucket, **what)
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if code in _UNSET:
            return {}
        if status in {401, 403}:
            raise Untold(f"no permission {permission}", denied=True) from error
        raise Untold(f"the server does not know {permission} ({status} {code})") from error
    except ResponseParserError as error:
        raise Untold(f"the server does not know {permission}") from error
    except RecursionError as error:  # botocore follows a redirect that leads back to itself
        raise Untold("the server redirects without an end") from error
    except (BotoCoreError, ValueError) as error:
        raise Untold(str(error).partition("\n")[0]) from error


def _rule_of_s3(rule: Mapping[str, Any]) -> Rule:
    name = str(rule.get("ID") or "without a name")
    meant = rule.get("Filter") or {}
    both = meant.get("And") or {}
    tagged = "Tag" in meant or "Tags" in both
    effect = _effect_on_s3(rule)
    # dorky sets no tags, so rules for tagged objects don't apply to its objects.
    if rule.get("Status") != "Enabled" or tagged or not effect:
        return Rule(name, (), "")
    # The oldest layout has the prefix outside the filter.
    prefix = rule.get("Prefix") or meant.get("Prefix") or both.get("Prefix") or ""
    return Rule(name, (prefix,), effect)


def _effect_on_s3(rule: Mapping[str, Any]) -> str:
    # Rules for noncurrent versions don't concern the repository.
    expiration = rule.get("Expiration") or {}
    if when := _when(expiration):
        return f"deletes packs {when}"
    for transition in rule.get("Transitions") or ():
        if transition.get("StorageClass") in _FROZEN and (when := _when(transition)):
            return f"archives packs {when}, where they can't be read at once"
    return ""


def _when(action: Mapping[str, Any]) -> str:
    if (days := action.get("Days")) is not None:
        return f"after {days} day{'s' if days != 1 else ''}"
    return f"on {action['Date']:%Y-%m-%d}" if action.get("Date") else ""


# --- Google Cloud Storage -------------------------------------------------------------------

# Conditions that only objects which dorky never makes, or old versions, meet.
_NOT_OURS = (
    "customTimeBefore",
    "daysSinceCustomTime",
    "daysSinceNoncurrentTime",
    "noncurrentTimeBefore",
    "numNewerVersions",
)


def of_gcs(bucket: Bucket, keep: Sequence[str]) -> Iterator[Advice]:
    """Inspect a bucket whose metadata has been read.

    Args:
        bucket: The bucket after its ``reload``.
        keep: Prefixes that must not be deleted, relative to the bucket.
    """
    place = f"gs://{bucket.name}"
    # Soft delete (a week by default) keeps deleted objects, with and without versioning.
    days = int(bucket.soft_delete_policy.retention_duration_seconds or 0) // 86400
    if bucket.versioning_enabled:
        yield Advice("versioning", "ok", f"on: {_KEPT}")
    elif days:
        yield Advice("versioning", "ok", f"off, but soft delete keeps {days} days: {_KEPT}")
    else:
        yield Advice(
            "versioning",
            "warn",
            f"off, and no soft delete: {_NOT_KEPT}",
            f"gcloud storage buckets update {place} --versioning",
        )
    command = f"gcloud storage buckets describe {place} --format='default(lifecycle_config)'"
    # `lifecycle_rules` would warn about actions that are newer than the library.
    rules = bucket._properties.get("lifecycle", {}).get("rule", ())  # noqa: SLF001
    yield _lifecycle(map(_rule_of_gcs, rules), keep, command)
    if bucket.retention_period:
        yield Advice(
            "retention",
            "fail",
            f"objects can't be replaced for {bucket.retention_period} seconds, nor can the root: "
            "who pushes again sooner is refused",
            f"gcloud storage buckets update {place} --clear-retention-period",
        )


def _rule_of_gcs(rule: Mapping[str, Any]) -> Rule:
    condition = rule.get("condition", {})
    # Archiving does no harm: objects of every storage class are readable at once.
    deletes = rule.get("action", {}).get("type") == "Delete"
    not_live = condition.get("isLive") is False or any(condition.get(name) for name in _NOT_OURS)
    name = f"for {_conditions(condition)}"
    if not deletes or not_live or not _ends(condition.get("matchesSuffix")):
        return Rule(name, (), "")
    when = f"after {condition['age']} days" if "age" in condition else "that meet it"
    prefixes = tuple(condition.get("matchesPrefix") or ("",))
    return Rule(name, prefixes, f"deletes packs {when}")


def _conditions(condition: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in condition.items()) or "everything"


def _ends(suffixes: Iterable[str] | None) -> bool:
    """Return whether the root's name, or a pack's (hexadecimal digits), may have such an end."""
    return suffixes is None or any(
        "root".endswith(suffix) or set(suffix) <= set("0123456789abcdef") for suffix in suffixes
    )
