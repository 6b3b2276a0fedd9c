"""Bucket: create buckets with sound settings, list, examine and delete them.

No repository is needed: these commands make the place for one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from dorky import errors
from dorky.commands import bucket_roles, doctor
from dorky.drivers import open_driver
from dorky.drivers.base import (
    Administered,
    Administration,
    Bucket,
    Driver,
    Inspected,
    split_bucket_url,
)
from dorky.drivers.retry import UNQUOTED, Retrying
from dorky.remote import probe
from dorky.remote.root import KEY, PACKS, TABLES
from dorky.results import BucketInfo, BucketReport, Check, Remedy

Options = Mapping[str, str]
"""A driver's options (see `drivers.base.Driver.open`)."""

_NAME = {
    "s3": re.compile(r"(?!.*\.\.|[0-9.]+\Z)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
    "gs": re.compile(r"(?!.*\.\.|[0-9.]+\Z|goog)[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"),
}
"""The names that a new bucket may have. Source: the naming rules of S3 and of GCS."""
_SOMEBODYS = "it is somebody else's, or you may not see it"


def plan_create(url: str, options: Options, *, exist_ok: bool = False) -> BucketInfo:
    """Check that a bucket can be created; change nothing.

    Args:
        url: The bucket: ``s3://bucket`` or ``gs://bucket``.
        options: Of the driver.
        exist_ok: Whether it may exist: then only its settings are made.

    Raises:
        BucketExists: There is one of this name.
        BadBucketName: No bucket can have this name.
    """
    with _administered(url, options) as (_, admin):
        found = _find(admin, url, exist_ok=exist_ok)
        return BucketInfo(name=_name(url), region=found.region if found else _region(options))


def create(url: str, options: Options, *, exist_ok: bool = False) -> BucketInfo:
    """Create a bucket: private, public access blocked, with versioning, over TLS alone.

    Arguments are those of `plan_create`; ``region`` and, for Google, ``project`` are options.

    Returns:
        The bucket. Its checks say which setting could not be made: no such failure ends the call.
    """
    with _administered(url, options) as (driver, admin):
        found = _find(admin, url, exist_ok=exist_ok)
        made = found or admin.create(_region(options))
        failed = list(admin.protect())
        names = {advice.name for advice in failed}
        kept = driver.inspect((KEY, PACKS, TABLES)) if isinstance(driver, Inspected) else ()
        told = [advice for advice in (*admin.examine(), *kept) if advice.name not in names]
    checks = tuple(Check(**advice._asdict()) for advice in (*failed, *told))
    return BucketInfo(name=made.name, created=made.created, region=made.region, checks=checks)


def _find(admin: Administration, url: str, *, exist_ok: bool) -> Bucket | None:
    if not _NAME[_scheme(url)].fullmatch(_name(url)):
        raise errors.BadBucketName(_name(url))
    try:
        found = admin.find()
    except errors.AccessDenied as error:
        raise errors.BucketExists(url, _SOMEBODYS) from error
    if found and not exist_ok:
        raise errors.BucketExists(url, "it is yours, or you may see it", visible=True)
    return found


def list_buckets(url: str, options: Options) -> list[BucketInfo]:
    """Return the buckets of an account or project.

    Args:
        url: ``s3://`` or ``gs://``.
        options: Of the driver.
    """
    scheme = _scheme(url if "://" in url else f"{url}://")
    with _administered(f"{scheme}://all", options, shown=f"{scheme}://") as (_, admin):
        return [_info(bucket) for bucket in admin.list()]


def plan_delete(url: str, options: Options) -> BucketInfo:
    """Check that a bucket can be deleted: that it exists, and is empty.

    Args:
        url: The bucket.
        options: Of the driver.

    Raises:
        BucketNotFound: There is none.
        BucketNotEmpty: It holds objects, old versions of some, or uploads that never ended.
    """
    with _administered(url, options) as (_, admin):
        return _empty(admin, url)


def delete(url: str, options: Options) -> BucketInfo:
    """Delete an empty bucket; arguments and errors are those of `plan_delete`."""
    with _administered(url, options) as (_, admin):
        # Not all servers refuse it themselves: SeaweedFS deletes what is in the bucket.
        found = _empty(admin, url)
        admin.delete()
        return found


def _empty(admin: Administration, url: str) -> BucketInfo:
    found = admin.find()
    if found is None:
        raise errors.BucketNotFound(url)
    if content := admin.content():
        raise errors.BucketNotEmpty(url, content)
    return _info(found)


def validate(url: str, options: Options) -> BucketReport:
    """Examine a place for a repository: a bucket, a prefix of one, or a directory.

    It is written to: the probe races writers for scratch keys, which are deleted.

    Args:
        url: The place.
        options: Of the driver.

    Raises:
        BucketNotFound: There is no such bucket.
        AccessDenied: It can't be read.
    """
    driver = open_driver(url, options)
    checks = [
        _reading(driver),
        _made("writing", lambda: _writing(driver, url, options)),
        _made("clock", lambda: doctor.clock(driver)),
        *doctor.bucket(driver),
    ]
    inner = driver.driver if isinstance(driver, Retrying) else driver
    if not isinstance(inner, Administered):
        return BucketReport(url=driver.url, checks=tuple(checks))
    try:
        with inner.administration() as admin:
            checks += [Check(**advice._asdict()) for advice in admin.examine()]
    except errors.DorkyError as error:
        about = f"can't tell who can get at it: {error.message}"
        remedy = Remedy(error.code, error=error)
        checks.append(Check(name="public access", verdict="warn", about=about, remedy=remedy))
    bucket, prefix = split_bucket_url(driver.url)
    if _scheme(url) == "gs":
        roles = bucket_roles.of_gcs(bucket, prefix)
    else:
        roles = bucket_roles.of_s3(bucket, prefix, options.get("region", ""))
    return BucketReport(url=driver.url, checks=tuple(checks), roles=roles)


def _reading(driver: Driver) -> Check:
    try:
        driver.get(KEY)
    except errors.KeyNotFound:
        return Check(name="reading", verdict="ok", about="you can read, and there is no repository")
    return Check(name="reading", verdict="ok", about="you can read, and there is a repository")


def _made(name: str, check: Callable[[], Check]) -> Check:
    """Make a check whose failure is a finding."""
    try:
        return check()
    except errors.AccessDenied as error:
        return Check(name=name, verdict="warn", about=f"you can't write: {error.message}")
    except errors.DorkyError as error:
        remedy = Remedy(error.code, error=error)
        return Check(name=name, verdict="fail", about=error.message, remedy=remedy)


def _writing(driver: Driver, url: str, options: Options) -> Check:
    """Check by the probe whether the place honours conditional writes."""
    how = "it honours conditional writes"
    try:
        honoured = probe.honours_swaps(driver)
    except errors.SwapsUnsupported:
        how = f"{how}, if versions come without quotation marks"
        honoured = probe.honours_swaps(open_driver(url, {**options, "conditions": UNQUOTED}))
    if not honoured:
        raise errors.SwapsIgnored(driver.url, "origin")
    return Check(name="writing", verdict="ok", about=f"you can write, and {how}")


@contextmanager
def _administered(
    url: str, options: Options, *, shown: str = ""
) -> Iterator[tuple[Driver, Administration]]:
    """Connect to administer a bucket; yield its driver, too.

    Raises:
        NoBuckets: The URL is no cloud's.
        NotABucket: The URL is of a place in a bucket.
    """
    retrying = open_driver(url, options)
    driver = retrying.driver if isinstance(retrying, Retrying) else retrying
    if not isinstance(driver, Administered):
        raise errors.NoBuckets(shown or url)
    if split_bucket_url(url)[1]:
        raise errors.NotABucket(url)
    driver.url = shown or driver.url
    with driver.administration() as admin:
        yield driver, admin


def _info(bucket: Bucket) -> BucketInfo:
    return BucketInfo(name=bucket.name, created=bucket.created, region=bucket.region)


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def _name(url: str) -> str:
    return split_bucket_url(url)[0]


def _region(options: Options) -> str:
    return options.get("region", "")
