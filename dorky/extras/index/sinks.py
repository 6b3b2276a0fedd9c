"""Where an index is published: a directory, a bucket of S3, or one of Google's."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Protocol

from dorky import errors

_BLOCK = 1 << 20
_FOREVER = "public, max-age=31536000, immutable"
_FRESH = "no-cache"

Content = bytes | IO[bytes]


class Sink(Protocol):
    """A place that an index is published to."""

    place: str
    temporary: bool
    """Whether the credentials expire, and presigned links with them."""

    def page_key(self, directory: str, form: str) -> str:
        """Return the key of a directory's page."""

    def holds(self, key: str, sha256: str, size: int | None) -> bool:
        """Return whether there is this very content at a key."""

    def put(self, key: str, content: Content, kind: str, sha256: str = "") -> None:
        """Write content to a key; ``sha256`` says that it never changes."""

    def read(self, key: str) -> bytes | None:
        """Return what is at a key; None if nothing is."""

    def delete(self, key: str) -> None:
        """Delete what is at a key, if anything is."""

    def presigned(self, key: str, span: timedelta) -> str:
        """Return an address from which anybody can fetch a key for a time."""


def sink_at(out: str) -> Sink:
    """Return the place that a URL or a path names.

    Raises:
        BadURL: It is of another kind.
        UsageError: The path is that of a file.
    """
    scheme, separator, rest = out.partition("://")
    if not separator:
        if Path(out).exists() and not Path(out).is_dir():
            raise errors.UsageError(f"{out} is no directory")
        return DirectorySink(Path(out))
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    if scheme == "s3" and bucket:
        return S3Sink(bucket, prefix)
    if scheme == "gs" and bucket:
        return GCSSink(bucket, prefix)
    raise errors.BadURL(out, "an index is published to a directory, s3://… or gs://…")


def _stream(content: Content) -> IO[bytes]:
    return io.BytesIO(content) if isinstance(content, bytes) else content


class DirectorySink:
    """A directory that a web server shows.

    Args:
        root: The directory.
    """

    temporary = False

    def __init__(self, root: Path) -> None:
        self.place = str(root)
        self._root = root

    def page_key(self, directory: str, form: str) -> str:
        """See `Sink.page_key`: web servers show `index.html` for a directory."""
        return f"{directory}/index.{form}"

    def holds(self, key: str, sha256: str, size: int | None) -> bool:
        """See `Sink.holds`."""
        path = self._root / key
        digest = hashlib.sha256()
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            if size not in {None, os.fstat(file.fileno()).st_size}:
                return False
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest() == sha256

    def put(self, key: str, content: Content, kind: str, sha256: str = "") -> None:  # noqa: ARG002
        """See `Sink.put`."""
        path = self._root / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
            try:
                with temporary.open("xb") as file:
                    shutil.copyfileobj(_stream(content), file, _BLOCK)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise errors.DiskError(str(path), error.strerror) from error

    def read(self, key: str) -> bytes | None:
        """See `Sink.read`."""
        try:
            return (self._root / key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise errors.DiskError(str(self._root / key), error.strerror) from error

    def delete(self, key: str) -> None:
        """See `Sink.delete`."""
        path = self._root / key
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # there is something else in it
            path.parent.rmdir()

    def presigned(self, key: str, span: timedelta) -> str:  # noqa: ARG002
        """See `Sink.presigned`."""
        raise errors.UsageError("a directory has no presigned links: name a bucket")


@contextlib.contextmanager
def _aws(place: str) -> Iterator[None]:
    """Turn boto3's errors into dorky's."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        PartialCredentialsError,
    )

    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = error.response.get("Error", {}).get("Code", "")
        if status in {401, 403}:
            raise errors.AccessDenied(place, code) from None
        if code == "NoSuchBucket":
            raise errors.BucketNotFound(_bucket(place), kind="index") from None
        if status == 404:
            raise errors.NoSuchFile(place, code) from None
        raise errors.ServiceUnavailableError(place, str(error)) from None
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise errors.NoCredentials(_bucket(place), str(error)) from None
    except (BotoCoreError, Boto3Error) as error:
        raise errors.Unreachable(place, str(error)) from None


def _bucket(place: str) -> str:
    """Return the URL of the bucket that a place is in."""
    return "/".join(place.split("/")[:3])


class S3Sink:
    """A bucket of S3, or of a server that speaks it. The SDK's own settings say which account.

    Args:
        bucket: The bucket.
        prefix: The prefix of all keys; empty: none.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        import boto3
        from botocore.config import Config

        self.place = "/".join(filter(None, (f"s3://{bucket}", prefix)))
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        with _aws(self.place):
            session = boto3.session.Session()
            # The older signature lets no link live longer than its key, and is refused by regions.
            self._client: Any = session.client("s3", config=Config(signature_version="s3v4"))
            credentials = session.get_credentials()
        self.temporary = bool(credentials and credentials.token)

    def page_key(self, directory: str, form: str) -> str:  # noqa: ARG002
        """See `Sink.page_key`: a key may end in a slash, as the address of a page does."""
        return f"{directory}/"

    def _named(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def holds(self, key: str, sha256: str, size: int | None) -> bool:
        """See `Sink.holds`."""
        try:
            with _aws(f"{self.place}/{key}"):
                found = self._client.head_object(**self._named(key))
        except errors.NoSuchFile:
            return False
        held = found.get("Metadata", {}).get("sha256") == sha256
        return held and size in {None, found["ContentLength"]}

    def put(self, key: str, content: Content, kind: str, sha256: str = "") -> None:
        """See `Sink.put`."""
        about: dict[str, Any] = {
            "ContentType": kind,
            "CacheControl": _FOREVER if sha256 else _FRESH,
            "Metadata": {"sha256": sha256} if sha256 else {},
        }
        with _aws(f"{self.place}/{key}"):
            if isinstance(content, bytes):
                self._client.put_object(**self._named(key), Body=content, **about)
            else:
                self._client.upload_fileobj(content, **self._named(key), ExtraArgs=about)

    def read(self, key: str) -> bytes | None:
        """See `Sink.read`."""
        try:
            with _aws(f"{self.place}/{key}"):
                found: bytes = self._client.get_object(**self._named(key))["Body"].read()
        except errors.NoSuchFile:
            return None
        return found

    def delete(self, key: str) -> None:
        """See `Sink.delete`."""
        with _aws(f"{self.place}/{key}"):
            self._client.delete_object(**self._named(key))

    def presigned(self, key: str, span: timedelta) -> str:
        """See `Sink.presigned`."""
        seconds = int(span.total_seconds())
        with _aws(self.place):
            url: str = self._client.generate_presigned_url(
                "get_object", Params=self._named(key), ExpiresIn=seconds
            )
        return url


@contextlib.contextmanager
def _google(place: str) -> Iterator[None]:
    """Turn the errors of Google's library into dorky's."""
    from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound, Unauthorized
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

    try:
        yield
    except NotFound as error:
        if "bucket does not exist" in str(error):
            raise errors.BucketNotFound(_bucket(place), kind="index") from None
        raise errors.NoSuchFile(place, "the bucket") from None
    except DefaultCredentialsError as error:
        raise errors.NoCredentials(_bucket(place), str(error).split(". ")[0]) from None
    except (Forbidden, Unauthorized, GoogleAuthError) as error:
        raise errors.AccessDenied(place, str(error)) from None
    except GoogleAPIError as error:
        raise errors.ServiceUnavailableError(place, str(error)) from None


class GCSSink:
    """A bucket of Google Cloud Storage. The SDK's own settings say which account.

    Args:
        bucket: The bucket.
        prefix: The prefix of all keys; empty: none.
    """

    temporary = False  # links are signed by a service account's key, or not at all

    def __init__(self, bucket: str, prefix: str) -> None:
        from google.cloud import storage

        self.place = "/".join(filter(None, (f"gs://{bucket}", prefix)))
        self._prefix = f"{prefix}/" if prefix else ""
        with _google(self.place):
            self._bucket: Any = storage.Client().bucket(bucket)

    def page_key(self, directory: str, form: str) -> str:  # noqa: ARG002
        """See `S3Sink.page_key`."""
        return f"{directory}/"

    def _blob(self, key: str) -> Any:
        return self._bucket.blob(self._prefix + key)

    def holds(self, key: str, sha256: str, size: int | None) -> bool:
        """See `Sink.holds`."""
        with _google(f"{self.place}/{key}"):
            found = self._bucket.get_blob(self._prefix + key)
        held = found is not None and (found.metadata or {}).get("sha256") == sha256
        return held and size in {None, found.size}

    def put(self, key: str, content: Content, kind: str, sha256: str = "") -> None:
        """See `Sink.put`."""
        blob = self._blob(key)
        blob.cache_control = _FOREVER if sha256 else _FRESH
        blob.metadata = {"sha256": sha256} if sha256 else {}
        with _google(f"{self.place}/{key}"):
            blob.upload_from_file(_stream(content), content_type=kind)

    def read(self, key: str) -> bytes | None:
        """See `Sink.read`."""
        try:
            with _google(f"{self.place}/{key}"):
                found: bytes = self._blob(key).download_as_bytes()
        except errors.NoSuchFile:
            return None
        return found

    def delete(self, key: str) -> None:
        """See `Sink.delete`."""
        with contextlib.suppress(errors.NoSuchFile), _google(f"{self.place}/{key}"):
            self._blob(key).delete()

    def presigned(self, key: str, span: timedelta) -> str:
        """See `Sink.presigned`."""
        try:
            with _google(self.place):
                url: str = self._blob(key).generate_signed_url(version="v4", expiration=span)
        except AttributeError:  # what the library raises for credentials without a private key
            raise errors.AccessDenied(
                self.place, "only a service account's key can sign links"
            ) from None
        return url
