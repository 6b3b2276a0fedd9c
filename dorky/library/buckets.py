"""Buckets: create, list, delete and examine the places for repositories. None is needed yet."""

from __future__ import annotations

import os

from dorky.commands import bucket
from dorky.config import Config as Settings
from dorky.library.records import Config
from dorky.library.session import environment_of
from dorky.project import ORIGIN
from dorky.results import BucketInfo, BucketReport


def _options(config: Config, region: str = "", project: str = "") -> dict[str, str]:
    """Return a driver's options for a client's configuration."""
    chosen = {name: str(getattr(config, name)) for name in ("profile", "region", "endpoint")}
    chosen["region"] = region or chosen["region"]
    flags = {f"remotes.{ORIGIN}.{name}": value for name, value in chosen.items() if value}
    settings = Settings(None, flags=flags, environment=environment_of(config, dict(os.environ)))
    options = settings.driver_options(ORIGIN)
    project = project or settings.environment.get("GOOGLE_CLOUD_PROJECT", "")
    return {**options, "project": project} if project else options


def create(config: Config, url: str, *, region: str, project: str, exist_ok: bool) -> BucketInfo:
    """Create a bucket; see `DorkyClient.create_bucket`."""
    return bucket.create(url, _options(config, region, project), exist_ok=exist_ok)


def listed(config: Config, url: str, *, project: str) -> list[BucketInfo]:
    """List buckets; see `DorkyClient.list_buckets`."""
    return bucket.list_buckets(url, _options(config, project=project))


def delete(config: Config, url: str) -> None:
    """Delete an empty bucket; see `DorkyClient.delete_bucket`."""
    bucket.delete(url, _options(config))


def validate(config: Config, url: str) -> BucketReport:
    """Examine a place; see `DorkyClient.validate_bucket`."""
    return bucket.validate(url, _options(config))
