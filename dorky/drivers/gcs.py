"""The Google Cloud Storage driver, over google-cloud-storage (its JSON API)."""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timezone
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from dorky import cancellation, errors
from dorky.drivers import connection, sdks
from dorky.drivers.base import (
    LIMIT,
    Administration,
    Advice,
    Blob,
    Stat,
    Version,
    check_endpoint,
    split_bucket_url,
)

if TYPE_CHECKING:
    from google.cloud.storage import Blob as Object
    from google.cloud.storage import Bucket


class _Unchanged(errors.PreconditionFailed):
    """The object is still at the version named (HTTP 304)."""


_KINDS: Mapping[int, type[errors.DorkyError]] = {
    **connection.STATUSES,
    304: _Unchanged,
    409: errors.ServiceUnavailableError,
    412: errors.PreconditionFailed,
}

_CONNECTING, _SILENT = "10", "60"
"""The usual seconds to connect, and to wait for the next bytes."""

_SERVER = "https://storage.googleapis.com"
_ANSWER = 8 << 20
"""The most bytes of an answer that is no object: a page of 1000 names, each byte escaped."""
_BLOCK = 1 << 16
_EMPTY = 1000
"""The most empty pages of a list in a row."""


class GCSDriver:
    """A bucket, or a prefix of one, in Google Cloud Storage.

    Credentials are a service account's file (the option ``service_account``), else the application
    default credentials that Google's libraries find. If ``STORAGE_EMULATOR_HOST`` is set, requests
    go to it, without credentials. The option ``endpoint`` is ignored: it may come from a file in a
    git clone, and the host that it names would receive a bearer token.

    Versions are generations.
    """

    scheme: ClassVar[str] = "gs"

    def __init__(self, bucket: str, prefix: str, options: Mapping[str, str]) -> None:
        self.url = f"gs://{bucket}/{prefix}".rstrip("/")
        self._name = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._options = options
        waits = (options.get("connect_timeout", _CONNECTING), options.get("read_timeout", _SILENT))
        # The library's own retries are off: the caller knows what may be sent twice.
        self._once: Mapping[str, Any] = {"timeout": (*map(float, waits),), "retry": None}
        self._made: Bucket | None = None
        self._lock = threading.Lock()

    @classmethod
    def open(cls, url: str, options: Mapping[str, str]) -> GCSDriver:
        """See `Driver.open`."""
        bucket, prefix = split_bucket_url(url)
        return cls(bucket, prefix, options)

    def get(self, key: str, *, unless: Version | None = None, limit: int = LIMIT) -> Blob | None:
        """See `Driver.get`."""
        try:
            with self._errors(key) as bucket:
                found = bucket.blob(self._prefix + key)
                told = {"if_generation_not_match": _generation(unless)}
                data = _download(found, limit, **self._once, **told)
                version = found.generation
        except _Unchanged:
            return None
        except _Enough as error:
            raise errors.TooLarge(key, self.url, f"{limit:,} bytes") from error
        if version is None:
            return self._get_in_two(key, unless, limit)
        return Blob(data, Version(str(version)))

    def _get_in_two(self, key: str, unless: Version | None, limit: int) -> Blob | None:
        """Read from a server that sends no generation with the bytes.

        The generation is requested first. If the object changes in between, a server that supports
        preconditions sends nothing; from another the bytes are newer than the generation, so a
        swap that names it fails. Nothing is lost either way.
        """
        try:
            with self._errors(key) as bucket:
                found = bucket.blob(self._prefix + key)
                found.reload(**self._once)
                version = Version(str(found.generation))
                if version == unless:
                    return None
                data = _download(found, limit, **self._once, if_generation_match=found.generation)
                return Blob(data, version)
        except _Enough as error:
            raise errors.TooLarge(key, self.url, f"{limit:,} bytes") from error
        except errors.PreconditionFailed as error:
            raise errors.ServiceUnavailableError(
                self.url, f"{key} changed while it was read"
            ) from error

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """See `Driver.get_range`."""
        if start == end:  # HTTP can't express an empty range
            return b""
        try:
            with self._errors(key) as bucket:
                found = bucket.blob(self._prefix + key)
                data = _download(found, end - start, **self._once, start=start, end=end - 1)
        except _Enough as error:
            raise errors.BadEndpoint(
                self.url, f"it sent more of {key} than the {end - start} bytes that were asked"
            ) from error
        if len(data) != end - start:
            raise errors.BadEndpoint(
                self.url, f"it sent {len(data)} bytes of {key} where {end - start} were asked"
            )
        return data

    def put(self, key: str, data: bytes) -> None:
        """See `Driver.put`. Over 8 MiB the library sends two requests."""
        with self._errors(key) as bucket:
            _upload(bucket.blob(self._prefix + key), data, **self._once)

    def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:
        """See `Driver.swap`."""
        generation = 0 if expected is None else _generation(expected)
        if generation is None:
            raise errors.PreconditionFailed(key, self.url)
        with self._errors(key) as bucket:
            found = bucket.blob(self._prefix + key)
            found.cache_control = "no-store"
            _upload(found, data, **self._once, if_generation_match=generation)
        return Version(str(found.generation))

    def list(self, prefix: str) -> Iterator[Stat]:
        """See `Driver.list`."""
        with self._errors(None) as bucket:
            listing = bucket.list_blobs(
                prefix=self._prefix + prefix,
                fields="items(name,size,updated),nextPageToken",
                **self._once,
            )
            empty = 0
            for page in listing.pages:
                empty = 0 if page.num_items else empty + 1
                if empty > _EMPTY:
                    raise errors.BadEndpoint(self.url, "its list does not end")
                for found in page:
                    key = found.name[len(self._prefix) :]
                    yield Stat(key, found.size or 0, found.updated.astimezone(timezone.utc))

    def delete(self, keys: Iterable[str]) -> None:
        """See `Driver.delete`."""
        for key in keys:
            try:
                with self._errors(key) as bucket:
                    bucket.blob(self._prefix + key).delete(**self._once)
            except errors.KeyNotFound:
                continue

    def inspect(self, keep: Sequence[str]) -> Iterator[Advice]:
        """See `Inspected`."""
        from dorky.drivers import bucket

        try:
            with self._errors(None) as shared:
                found = shared.client.bucket(self._name)
                found.reload(**self._once)
        except errors.AccessDenied:
            why = "no permission storage.buckets.get (roles/storage.legacyBucketReader has it)"
            yield Advice("versioning", "ok", f"can't tell: {why}")
            yield Advice("lifecycle", "ok", f"can't tell: {why}")
        else:
            yield from bucket.of_gcs(found, [self._prefix + key for key in keep])

    @contextmanager
    def administration(self) -> Iterator[Administration]:
        """See `Administered`."""
        from dorky.drivers.gcs_buckets import GCSBuckets

        with self._errors(None) as bucket:
            yield GCSBuckets(bucket, self.url, self._options.get("project", ""), self._once)

    # --- the connection --------------------------------------------------------------------

    def _bucket(self) -> Bucket:
        with self._lock:
            if self._made is None:
                self._made = self._connect()
            return self._made

    def _connect(self) -> Bucket:
        # Google's libraries warn about quota projects (`gcloud auth`) and old Pythons.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from google.cloud.storage import Client
            from google.oauth2.service_account import Credentials

            sdks.guard_google()
            credentials = None
            # Google's library takes an emulator's address only with a scheme, others without, too.
            emulator = self._options.get("emulator")
            if emulator:
                emulator = check_endpoint(emulator)
            elif path := self._options.get("service_account"):
                try:
                    credentials = Credentials.from_service_account_file(  # type: ignore[no-untyped-call]
                        path, scopes=Client.SCOPE
                    )
                except (OSError, ValueError) as error:
                    raise errors.NoCredentials(self.url, f"{path}: {error}") from error
            # project=None: objects need none, and the search for one may fail.
            client = Client(
                project=self._options.get("project"),
                credentials=credentials,
                client_options={"api_endpoint": emulator} if emulator else None,
                use_auth_w_custom_endpoint=False,
            )
        # Recent versions would request the bucket's metadata in a thread, for traces that nobody
        # has turned on; users may lack the permission for it.
        client._bucket_metadata_cache = None  # noqa: SLF001
        # The sessions for objects and for tokens.
        for session in (client._http, client._http._auth_request.session):  # noqa: SLF001
            session.hooks["response"].append(partial(_hold, self.url))
            if (trusted := self._trusted) is not None:
                # A session's own attribute yields to REQUESTS_CA_BUNDLE in the environment.
                session.request = partial(session.request, verify=trusted)
        if agent := self._options.get("user_agent"):
            client._connection.user_agent = agent  # noqa: SLF001
        for name in ("google", "urllib3"):
            # Otherwise the messages that they log before an error would reach stderr.
            logging.getLogger(name).addHandler(logging.NullHandler())
        return client.bucket(self._name)

    @property
    def _trusted(self) -> bool | str | None:
        """Return what a program trusts: a file of certificates, or any (False); None: the usual."""
        verify = self._options.get("verify")
        # Otherwise `ca_bundle` is AWS_CA_BUNDLE, which says nothing of Google.
        return {"yes": self._options.get("ca_bundle"), "no": False}.get(verify or "")

    # --- errors ----------------------------------------------------------------------------

    @contextmanager
    def _errors(self, key: str | None) -> Iterator[Bucket]:
        """Raise from the error tree; yield the bucket. Without a ``key`` a 404 is the bucket's."""
        try:
            yield self._bucket()
        except errors.DorkyError:
            raise
        except _Enough:
            raise
        except Exception as error:
            explained = self._explain(error, key)
            if explained is None:
                raise
            raise explained from error

    def _explain(self, error: Exception, key: str | None) -> errors.DorkyError | None:
        from google.api_core.exceptions import GoogleAPICallError
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.storage.exceptions import DataCorruption
        from requests.exceptions import JSONDecodeError
        from urllib3.exceptions import HTTPError

        if isinstance(error, GoogleAPICallError):
            return self._answered(error, key)
        if isinstance(error, GoogleAuthError):
            return self._unauthenticated(error)
        garbled = (DataCorruption, AttributeError, KeyError, TypeError, ValueError)
        if isinstance(error, (JSONDecodeError, *garbled)):
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            return errors.BadEndpoint(self.url, f"its answer is garbled: {reason}")
        if isinstance(error, OSError | HTTPError):  # requests' own errors are OSErrors too
            return self._unreached(error)
        return None

    def _answered(self, error: Any, key: str | None) -> errors.DorkyError:
        if error.code == 407:  # no server answers this, but a proxy
            return self._unreached("ProxyAuthRequired")
        said = _said(error.response)
        kind = _KINDS.get(error.code, errors.BadEndpoint)
        if issubclass(kind, errors.ServerBusy):
            after = connection.retry_after(error.response.headers)
            return kind(self.url, f"{error.code} {said}".strip(), retry_after=after)
        if said.lower().startswith(("<html", "<!doctype")):
            return errors.BadEndpoint(self.url, f"it answers {error.code} with a web page")
        if kind is errors.KeyNotFound:
            return self._missing(key, said)
        if kind is errors.PreconditionFailed:
            return kind(key, self.url)
        return kind(self.url, f"{error.code} {said}".strip())

    def _missing(self, key: str | None, said: str) -> errors.DorkyError:
        """Return the error for a 404: Google says what is missing; for emulators a list tells."""
        if key is None or "bucket does not exist" in said:
            return errors.BucketNotFound(self.url)
        if "No such object" not in said:
            try:
                next(self.list(key), None)
            except errors.BucketNotFound as error:
                return error
            except errors.DorkyError:
                pass
        return errors.KeyNotFound(key, self.url)

    def _unauthenticated(self, error: Exception) -> errors.DorkyError:
        from google.auth import exceptions

        said = str(error.args[0] if error.args else error).partition("\n")[0]
        if isinstance(error, exceptions.TransportError):
            found = self._unreached(error, "while getting credentials: ")
            found.lasting = True  # google-auth has retried already
            return found
        if not isinstance(error, exceptions.RefreshError):
            return errors.NoCredentials(self.url, said)
        if any(word in said.lower() for word in ("expired", "revoked", "reauth")):
            return errors.ExpiredCredentials(self.url, cloud="google")
        if "iat and exp" in said or "short-lived token" in said:
            return errors.ClockSkew(self.url, said)
        return errors.AccessDenied(self.url, said)

    def _unreached(self, error: Exception | str, during: str = "") -> errors.Unreachable:
        from requests import exceptions as transport

        said = "Timeout" if isinstance(error, transport.Timeout) else str(error)
        proxy = connection.proxy_of(self._options, self._options.get("emulator") or _SERVER)
        return connection.unreached(
            self.url, said, proxy, during=during, bundle="REQUESTS_CA_BUNDLE"
        )


def _generation(version: Version | None) -> int | None:
    """Return a version as a generation; None if it is another store's (after a change of URL)."""
    return int(version) if version and version.isdigit() else None


class _Enough(Exception):
    """More bytes arrive than may be taken."""


class _Bounded:
    """The target of a download: takes at most ``limit`` bytes, also after decompression."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.stream = io.BytesIO()

    def write(self, data: bytes) -> int:
        cancellation.check()
        if self.stream.tell() + len(data) > self.limit:
            raise _Enough
        return self.stream.write(data)

    def seek(self, position: int) -> int:
        self.stream.truncate(position)
        return self.stream.seek(position)


def _download(found: Object, limit: int, **how: Any) -> bytes:
    # Whole objects come with their CRC, ranges don't.
    checksum = None if "start" in how else "crc32c"
    into = _Bounded(limit)
    found.download_to_file(into, checksum=checksum, **how)
    return into.stream.getvalue()


def _hold(url: str, response: Any, *_: object, stream: bool = False, **__: object) -> None:
    """Refuse redirects and endless answers, which requests would handle before we see them.

    Raises:
        BadEndpoint: The answer is a redirect or too long.
    """
    if response.is_redirect:
        raise errors.BadEndpoint(url, f"it answers {response.status_code}, a redirect elsewhere")
    if stream and response.ok:
        return  # an object, which goes into something bounded
    body = bytearray()
    for block in response.iter_content(_BLOCK):
        body += block
        if len(body) > _ANSWER:
            response.close()
            raise errors.BadEndpoint(url, f"its answer has more than {_ANSWER:,} bytes")
    response._content = bytes(body)  # noqa: SLF001


def _upload(found: Object, data: bytes, **how: Any) -> None:
    found.upload_from_string(
        data, content_type="application/octet-stream", checksum="crc32c", **how
    )


def _said(response: Any) -> str:
    """Return the message of an answer: JSON as documented, or the text that downloads get."""
    try:
        return str(response.json()["error"]["message"])[:200]
    except (ValueError, KeyError, TypeError):
        return str(response.text).strip()[:200]
