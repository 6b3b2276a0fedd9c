"""Buckets of Google Cloud Storage: create, examine, delete and list them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from dorky import errors
from dorky.drivers.base import LISTED, Advice, Bucket

if TYPE_CHECKING:
    from google.cloud.storage import Bucket as Handle


class GCSBuckets:
    """See `Administration`.

    Args:
        handle: google-cloud-storage's object for the bucket.
        url: The bucket's URL, for messages.
        project: The project for buckets that are created and listed.
        once: The keywords of a request that is sent once.
    """

    def __init__(self, handle: Handle, url: str, project: str, once: Mapping[str, Any]) -> None:
        self._handle = handle
        self._url = url
        self._project = project
        self._once = once
        self._new = False

    def find(self) -> Bucket | None:
        """See `Administration.find`."""
        from google.api_core.exceptions import NotFound

        try:
            self._handle.reload(**self._once)
        except NotFound:
            return None
        return _described(self._handle)

    def create(self, region: str) -> Bucket:
        """See `Administration.create`."""
        from google.api_core.exceptions import BadRequest, Conflict

        self._set()
        try:
            made = self._handle.client.create_bucket(
                self._handle, location=region or None, project=self._owner(), **self._once
            )
        except Conflict as error:
            yours = "already own" in str(error)
            why = "it is yours" if yours else "it is somebody else's"
            raise errors.BucketExists(self._url, why) from error
        except BadRequest as error:
            said = str(error.message)[:200]
            raise errors.UsageError(f"{self._url} can't be created: {said}") from error
        self._new = True
        return _described(made)

    def _set(self) -> None:
        rules = self._handle.iam_configuration
        rules.uniform_bucket_level_access_enabled = True
        rules.public_access_prevention = "enforced"
        self._handle.versioning_enabled = True

    def protect(self) -> Iterator[Advice]:
        """See `Administration.protect`."""
        from google.api_core.exceptions import Forbidden

        if self._new:  # it was created so
            return
        self._set()
        try:
            self._handle.patch(**self._once)
        except Forbidden:
            about = "not set: no permission storage.buckets.update"
            remedy = "grant roles/storage.admin, and run it again"
            for name in ("public access", "uniform access", "versioning"):
                yield Advice(name, "fail", about, remedy)

    def examine(self) -> Iterator[Advice]:
        """See `Administration.examine`."""
        from google.api_core.exceptions import Forbidden

        place = f"gs://{self._handle.name}"
        try:
            self._handle.reload(**self._once)
        except Forbidden:
            why = "no permission storage.buckets.get (roles/storage.legacyBucketReader has it)"
            yield Advice("public access", "ok", f"can't tell: {why}")
            yield Advice("uniform access", "ok", f"can't tell: {why}")
            return
        rules = self._handle.iam_configuration
        if rules.public_access_prevention == "enforced":
            yield Advice("public access", "ok", "blocked")
        else:
            yield Advice(
                "public access",
                "warn",
                "not blocked: a grant can open the bucket to everybody",
                f"gcloud storage buckets update {place} --public-access-prevention",
            )
        if rules.uniform_bucket_level_access_enabled:
            yield Advice("uniform access", "ok", "on: no object has readers of its own")
        else:
            yield Advice(
                "uniform access",
                "warn",
                "off: single objects can have readers of their own",
                f"gcloud storage buckets update {place} --uniform-bucket-level-access",
            )

    def content(self) -> str:
        """See `Administration.content`."""
        found = self._handle.list_blobs(max_results=1, versions=True, **self._once)
        return "objects, or old versions of them" if any(True for _ in found) else ""

    def delete(self) -> None:
        """See `Administration.delete`."""
        from google.api_core.exceptions import Conflict

        try:
            self._handle.delete(**self._once)
        except Conflict as error:
            raise errors.BucketNotEmpty(self._url, "something") from error

    def list(self) -> Iterator[Bucket]:
        """See `Administration.list`."""
        found = self._handle.client.list_buckets(project=self._owner(), **self._once)
        yield from map(_described, islice(found, LISTED))

    def _owner(self) -> str:
        """Return the project.

        Raises:
            NoProject: Nothing tells.
        """
        if self._project:
            return self._project
        import google.auth
        from google.auth.credentials import AnonymousCredentials
        from google.auth.exceptions import DefaultCredentialsError

        given = self._handle.client._credentials  # noqa: SLF001
        found: Any = getattr(given, "project_id", None)
        if not isinstance(given, AnonymousCredentials):  # an emulator's
            with contextlib.suppress(DefaultCredentialsError):
                found = found or google.auth.default()[1]
        if not found:
            raise errors.NoProject(self._url)
        return str(found)


def _described(handle: Handle) -> Bucket:
    return Bucket(str(handle.name), handle.time_created, str(handle.location or "").lower())
