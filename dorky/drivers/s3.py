"""The S3 driver, over obstore (the Rust object_store), for AWS and everything compatible."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar

from dorky import cancellation, errors, native
from dorky.drivers.base import (
    LIMIT,
    Administration,
    Advice,
    Blob,
    Stat,
    Version,
    check_credentials,
    check_endpoint,
    split_bucket_url,
)

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from obstore import GetOptions, GetResult, ObjectMeta
    from obstore.store import S3Store

    from dorky.drivers.aws import Chain

_KINDS: Mapping[str, type[errors.DorkyError]] = {
    # First by S3's error code (the <Code> of its answer) …
    "NoSuchKey": errors.KeyNotFound,
    "NoSuchBucket": errors.BucketNotFound,
    "InvalidBucketName": errors.BucketNotFound,
    "PreconditionFailed": errors.PreconditionFailed,
    "ExpiredToken": errors.ExpiredCredentials,
    "ExpiredTokenException": errors.ExpiredCredentials,
    "RequestExpired": errors.ExpiredCredentials,
    "TokenRefreshRequired": errors.ExpiredCredentials,
    "AccessDenied": errors.AccessDenied,
    "RequestTimeTooSkewed": errors.ClockSkew,
    "InvalidToken": errors.AccessDenied,
    "AuthorizationHeaderMalformed": errors.WrongRegion,
    "IllegalLocationConstraintException": errors.WrongRegion,
    "PermanentRedirect": errors.WrongRegion,
    "TemporaryRedirect": errors.WrongRegion,
    # "A conflicting operation is in progress": it may pass, and the caller of the swap finds out
    # whether the write took effect.
    "ConditionalRequestConflict": errors.ServiceUnavailableError,
    "OperationAborted": errors.ServiceUnavailableError,
    "RequestTimeout": errors.ServiceUnavailableError,
    "InternalError": errors.InternalServerError,
    "SlowDown": errors.RateLimitedError,
    # … then, for other codes, by the HTTP status.
    "301": errors.WrongRegion,
    "307": errors.WrongRegion,
    "401": errors.AccessDenied,
    "403": errors.AccessDenied,
    "404": errors.KeyNotFound,
    "408": errors.ServiceUnavailableError,
    "409": errors.ServiceUnavailableError,
    "412": errors.PreconditionFailed,
    "429": errors.RateLimitedError,
    "500": errors.InternalServerError,
    "502": errors.ServiceUnavailableError,
    "503": errors.ServiceUnavailableError,
    "504": errors.ServiceUnavailableError,
    "507": errors.DiskFull,
}

# obstore has a handful of error classes; only their text has the server's answer, without headers:
# the time that a Retry-After asks for is lost.
_STATUS = re.compile(r"non-2xx status code: (\d{3})[^:]*: ?(.*)", re.DOTALL)
_CODE = re.compile(r"<Code>([^<]+)</Code>|\(code: (\w+)\)")
_MESSAGE = re.compile(r"<Message>([^<]+)</Message>")
_UNSUPPORTED = re.compile(r"<Code>NotImplemented</Code>|conditional", re.IGNORECASE)
_NO_BULK = frozenset({"400", "405", "501"})
_STRANGE = re.compile(r"(^|/)(|\.|\.\.)(/|$)")
"""Keys with an empty part, . or .., which dorky never makes."""
_REGION = re.compile(r"<Region>([A-Za-z0-9_-]{1,64})</Region>")
_REGION_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

_SECRETS = ("access_key_id", "secret_access_key", "session_token")
_BULK = 1 << 20
_BLOCK = 1 << 18
"""The bytes after which a read looks for cancellation."""
_CHUNK = 250
"""How many listed keys are looked at together."""
_PAGES = 1000
_PAGE = 120.0
"""The most seconds that a page of a list may take."""
_LEAST = 60
"""The seconds for which a server may be silent, and that any upload may take."""
_SLOWEST = 64 << 10
"""The bytes a second at which a large upload may still arrive: 0.5 Mbit/s."""
_CONNECTING = 10
"""The seconds that a connection may take."""
_DAY = 24 * 3600

P = ParamSpec("P")
T = TypeVar("T")


class S3Driver:
    """A bucket, or a prefix of one, in S3 or a compatible store.

    Credentials given as options go straight to the Rust client; otherwise botocore's chain finds
    them (profiles, SSO, assumed roles, containers, instances), which costs 200 ms to import.

    Versions are ETags, as the server quotes them.
    """

    scheme: ClassVar[str] = "s3"

    def __init__(self, bucket: str, prefix: str, options: Mapping[str, str]) -> None:
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._options = dict(options)
        self._chain: Chain | None = None
        self._stores: dict[int, S3Store] = {}
        self._lock = threading.Lock()
        self._partial = True
        """Whether the server answers ranges as HTTP says, as far as is known."""
        self._bulk_deletes = True
        """Whether the server knows DeleteObjects, as far as is known."""

    @classmethod
    def open(cls, url: str, options: Mapping[str, str]) -> S3Driver:
        """See `Driver.open`."""
        bucket, prefix = split_bucket_url(url)
        return cls(bucket, prefix, options)

    def get(self, key: str, *, unless: Version | None = None, limit: int = LIMIT) -> Blob | None:
        """See `Driver.get`."""
        from obstore.exceptions import NotModifiedError

        options: GetOptions = {"if_none_match": unless} if unless else {}
        try:
            with self._errors(key):
                found, version = self._begin(self._store(), key, options)
                if found.meta["size"] > limit:
                    raise errors.TooLarge(key, self.url, f"{limit:,} bytes")
                # One byte more, because a server may send more than it has announced.
                data = _run(_cut, found, 0, limit + 1)
        except NotModifiedError:
            return None
        if len(data) > limit:
            raise errors.TooLarge(key, self.url, f"{limit:,} bytes")
        return Blob(data, version)

    def _begin(self, store: S3Store, key: str, options: GetOptions) -> tuple[GetResult, Version]:
        """Request an object; return the answer, with its content not yet read, and its version."""
        import obstore

        found = _run(obstore.get, store, self._prefix + key, options=options)
        etag = found.meta["e_tag"]
        if etag is None or found.attributes.get("Content-Type", "").startswith("text/html"):
            raise errors.BadEndpoint(self._place, "it sends a web page, not an object")
        return found, Version(etag)

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """See `Driver.get_range`."""
        import obstore

        if start == end:  # HTTP can't express an empty range
            return b""
        data = None
        try:
            if self._partial:
                with self._errors(key):
                    # obstore.get_range would hold everything that the server sends.
                    where = self._prefix + key
                    part: GetOptions = {"range": (start, end)}
                    found = _run(obstore.get, self._store(), where, options=part)
                    data = _run(_cut, found, 0, end - start)
        except errors.BadEndpoint as error:
            if "non-partial" not in str(error.__cause__):
                raise
            self._partial = False
        if data is None:
            data = self._get_range(key, start, end)
        if len(data) != end - start:
            raise errors.BadEndpoint(
                self._place, f"it sent {len(data)} bytes of {key} where {end - start} were asked"
            )
        return data

    def _get_range(self, key: str, start: int, end: int) -> bytes:
        """Read a range from a server that answers 200, not 206, to a request for one.

        HTTP lets a server ignore ranges. rclone serves them but still answers 200, which
        object_store takes for the whole object; so the range is hidden from object_store.
        """
        with self._errors(key):
            store = self._connect(self._reading, {"Range": f"bytes={start}-{end - 1}"})
            found, _ = self._begin(store, key, {})
            if found.meta["size"] == end - start:
                return _run(_cut, found, 0, end - start)
            return _run(_cut, found, start, end)

    def put(self, key: str, data: bytes) -> None:
        """See `Driver.put`."""
        self._put(key, data)

    def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:
        """See `Driver.swap`."""
        try:
            etag = self._put(
                key,
                data,
                mode="create" if expected is None else {"e_tag": expected},
                attributes={"Cache-Control": "no-store"},
            )
        except errors.KeyNotFound as error:  # S3 answers 404 to If-Match for a missing key
            raise errors.PreconditionFailed(key, self.url) from error
        except errors.BadEndpoint as error:
            status, body = _answer(str(error.__cause__)) or ("", "")
            unsupported = _CODE if status == "501" else _UNSUPPORTED
            refused = status in {"400", "501"} and unsupported.search(body)
            if refused:
                raise errors.SwapsUnsupported(self.url, _said(status, body)) from error
            raise
        return Version(etag)

    def list(self, prefix: str) -> Iterator[Stat]:
        """See `Driver.list`."""
        import obstore

        wanted = self._prefix + prefix
        seen = set()
        try:
            with self._errors(prefix):
                # object_store lists whole path segments: list the last whole one, then filter.
                whole = wanted.rpartition("/")[0] or None
                pages = obstore.list(self._store(), whole, chunk_size=_CHUNK)
                while page := self._page(pages):
                    for meta in page:
                        if meta["path"].startswith(wanted):
                            seen.add(meta["path"])
                            key = meta["path"][len(self._prefix) :]
                            yield Stat(key, meta["size"], meta["last_modified"])
        except errors.BadEndpoint as error:
            if "invalid path" not in str(error.__cause__):
                raise
            yield from (
                stored for stored in self._all(wanted) if self._prefix + stored.key not in seen
            )

    def _all(self, wanted: str) -> Iterator[Stat]:
        """List by botocore: obstore refuses a list that has a key such as ``a//b``.

        Such keys are not dorky's, and are left out.
        """
        from botocore.exceptions import PaginationError

        with self._administered() as client:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=wanted
            )
            try:
                for n, page in enumerate(pages):
                    for found in page.get("Contents", ()):
                        path = found["Key"]
                        if path.startswith(wanted) and not _STRANGE.search(path):
                            key = path[len(self._prefix) :]
                            modified = found["LastModified"].astimezone(timezone.utc)
                            yield Stat(key, found["Size"], modified)
                    if n > _PAGES:
                        raise errors.BadEndpoint(self._place, "its list does not end")
            except PaginationError as error:
                raise errors.BadEndpoint(self._place, "its list does not end") from error

    def _page(self, pages: Iterator[Sequence[ObjectMeta]]) -> Sequence[ObjectMeta]:
        # A server may send endless empty pages, which object_store requests without returning.
        try:
            return _wait(lambda: next(pages, ()), _PAGE)
        except TimeoutError as error:
            raise errors.Unreachable(self._place, "its list does not end") from error

    def delete(self, keys: Iterable[str]) -> None:
        """See `Driver.delete`."""
        import obstore

        paths = [self._prefix + key for key in keys]
        if not paths:
            return
        if self._bulk_deletes:
            try:
                with self._errors(paths[0]):
                    _run(obstore.delete, self._store(), paths)  # DeleteObjects: 1000 in a request
                return
            except (errors.BadEndpoint, errors.KeyNotFound) as error:
                if (_answer(str(error.__cause__)) or ("",))[0] not in _NO_BULK:
                    raise
                # Some stores don't know DeleteObjects, and say so in many ways.
                self._bulk_deletes = False
        self._delete_singly(paths)

    def _delete_singly(self, paths: Iterable[str]) -> None:
        """Send a DELETE for each key, which obstore can't: it always sends a DeleteObjects."""
        from botocore.exceptions import ClientError

        with self._administered() as client:
            for path in paths:
                try:
                    client.delete_object(Bucket=self._bucket, Key=path)
                except ClientError as error:
                    explained = self._refused(error, path)
                    if not isinstance(explained, errors.KeyNotFound):
                        raise explained from error

    @contextmanager
    def _administered(self) -> Iterator[Any]:
        """Yield botocore's client, and raise from the error tree."""
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            ConnectionError,
            HTTPClientError,
        )
        from botocore.parsers import ResponseParserError

        try:
            with closing(self._administer()) as client:
                yield client
        except ClientError as error:
            raise self._refused(error, self._bucket) from error
        except (ResponseParserError, RecursionError) as error:
            raise errors.BadEndpoint(self._place, "nobody can make sense of its answer") from error
        except (ConnectionError, HTTPClientError) as error:
            raise self._unreached(repr(error.kwargs.get("error", error))) from error
        except (BotoCoreError, ValueError) as error:
            raise errors.Unreachable(self._place, str(error).partition("\n")[0][:200]) from error

    def _refused(self, error: ClientError, path: str) -> errors.DorkyError:
        said = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
        code, message = said.get("Code", ""), said.get("Message", "")
        # botocore puts the status in place of a code that is not there.
        body = "" if code.isdigit() else f"<Code>{code}</Code><Message>{message}</Message>"
        return self._answered(str(status), body, path)

    def inspect(self, keep: Sequence[str]) -> Iterator[Advice]:
        """See `Inspected`."""
        from botocore.exceptions import BotoCoreError

        from dorky.drivers import bucket

        kept = [self._prefix + key for key in keep]
        try:
            client = self._administer()
        except (BotoCoreError, ValueError) as error:
            yield Advice("bucket", "ok", f"can't tell how it is set up: {error}")
            return
        try:
            yield from bucket.of_s3(client, self._bucket, kept)
        finally:
            client.close()

    @contextmanager
    def administration(self) -> Iterator[Administration]:
        """See `Administered`."""
        from dorky.drivers.s3_buckets import S3Buckets

        with self._administered() as client:
            yield S3Buckets(client, self._bucket, self.url, self._options.get("endpoint", ""))

    def _put(self, key: str, data: bytes, **how: Any) -> str:
        import obstore

        store = self._store(len(data))
        where = self._prefix + key
        try:
            with self._errors(key):
                etag = _run(obstore.put, store, where, data, use_multipart=False, **how)["e_tag"]
        except errors.KeyNotFound as error:
            if isinstance(how.get("mode"), dict):
                raise
            # Whoever writes a new object is not told that it is missing.
            raise errors.BucketNotFound(self.url) from error
        if etag is None:
            raise errors.BadEndpoint(self._place, "it names no version (ETag) of what it keeps")
        return etag

    # --- the connection --------------------------------------------------------------------

    @property
    def _place(self) -> str:
        endpoint = self._options.get("endpoint")
        return f"{self.url} (at {endpoint})" if endpoint else self.url

    @property
    def _server(self) -> str:
        return self._options.get("endpoint") or f"https://{self._bucket}.s3.amazonaws.com"

    def _store(self, size: int = 0) -> S3Store:
        """Return the client. Large uploads have others, because timeouts belong to clients.

        A read timeout notices a dead connection soon, but reqwest counts the sending of the body
        as a wait for the answer, so a slow upload would be cut off (32 MiB at 4 Mbit/s: 64 s).
        So their timeout is one for all of it, by their size, rounded up to a power of two.
        """
        bulk = 1 << (size - 1).bit_length() if size > _BULK else 0
        with self._lock:
            if bulk not in self._stores:
                longest = self._seconds("read_timeout", _LEAST) + bulk // _SLOWEST
                longest = min(longest, self._seconds("request_timeout", longest))
                timeouts = {"timeout": f"{longest * 1000:.0f}ms"} if bulk else self._reading
                self._stores[bulk] = self._connect(timeouts)
            return self._stores[bulk]

    def _seconds(self, option: str, usual: float) -> float:
        return float(self._options.get(option) or usual)

    @property
    def _reading(self) -> dict[str, str]:
        """Return the timeouts of what is no large upload."""
        waits = {
            "timeout": self._seconds("request_timeout", _DAY),
            "read_timeout": self._seconds("read_timeout", _LEAST),
        }
        return {name: f"{seconds * 1000:.0f}ms" for name, seconds in waits.items()}

    def _connect(
        self, timeouts: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> S3Store:
        from obstore.store import S3Store

        options = self._options
        if options.get("access_key_id") and options.get("secret_access_key"):
            provider: Callable[[], dict[str, Any]] = self._given
            provider()  # so that errors are raised now and not inside obstore
        else:
            from dorky.drivers.aws import Chain

            provider = self._chain = self._chain or Chain(
                self.url, options.get("profile"), options.get("region")
            )
            for name, value in self._chain.defaults().items():
                options.setdefault(name, value)
        # A bucket with Object Lock takes no write without a checksum.
        config: dict[str, Any] = {"aws_checksum_algorithm": "sha256"}
        connecting = self._seconds("connect_timeout", _CONNECTING)
        client: dict[str, Any] = {"connect_timeout": f"{connecting * 1000:.0f}ms", **timeouts}
        if headers:
            client["default_headers"] = headers
        if agent := options.get("user_agent"):
            client["user_agent"] = agent
        if options.get("verify") == "no":
            client["allow_invalid_certificates"] = True
        endpoint = options.get("endpoint")
        if endpoint:
            # AWS_ENDPOINT_URL_S3 in the environment would override the setting "endpoint".
            config["aws_endpoint_url_s3"] = check_endpoint(endpoint)
            # An unencrypted endpoint needs no certificates, and reading the system's takes 4 to
            # 12 ms. A proxy may be encrypted nevertheless.
            plain = endpoint.startswith("http://")
            client["allow_http"] = plain
            if plain and not options.get("proxy"):
                client["allow_invalid_certificates"] = True
        if bundle := options.get("ca_bundle"):
            client["root_certificate"] = _certificates(bundle)
        return S3Store(
            self._bucket,
            region=_region(options),
            # The certificate's wildcard does not cover a name with dots (or one from before 2018).
            virtual_hosted_style_request=not endpoint
            and re.fullmatch(r"[a-z0-9-]+", self._bucket) is not None,
            client_options=client,  # type: ignore[arg-type]
            retry_config={"max_retries": 0},
            # Also for given keys: obstore would add AWS_SESSION_TOKEN from the environment to those
            # in its configuration.
            credential_provider=provider,  # type: ignore[arg-type]
            **config,
        )

    def _administer(self) -> Any:
        """Return botocore's client, for requests that obstore does not support."""
        import botocore.session
        from botocore.config import Config

        self._store()  # reads the profile's settings
        options = self._options
        endpoint, bundle = options.get("endpoint"), options.get("ca_bundle")
        trusted = str(Path(bundle).expanduser()) if bundle else None
        # Given keys need no profile, so a missing AWS_PROFILE does no harm.
        none = {"profile": (None, None, None, None)}
        session = self._chain.session if self._chain else botocore.session.Session(none)
        given = not self._chain
        return session.create_client(
            "s3",
            region_name=_region(options),
            endpoint_url=endpoint or None,
            verify=False if options.get("verify") == "no" else trusted,
            aws_access_key_id=options["access_key_id"] if given else None,
            aws_secret_access_key=options["secret_access_key"] if given else None,
            aws_session_token=options.get("session_token") if given else None,
            config=Config(
                connect_timeout=self._seconds("connect_timeout", _CONNECTING),
                read_timeout=self._seconds("read_timeout", 30),
                user_agent=options.get("user_agent"),
                retries={"total_max_attempts": 2},
                s3={"addressing_style": "path" if endpoint else "auto"},
            ),
        )

    def _given(self) -> dict[str, Any]:
        check_credentials(self.url, *map(self._options.get, _SECRETS))
        return {
            "access_key_id": self._options["access_key_id"],
            "secret_access_key": self._options["secret_access_key"],
            "token": self._options.get("session_token"),
            "expires_at": None,
        }

    # --- errors ----------------------------------------------------------------------------

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        from obstore.exceptions import BaseError, NotModifiedError

        try:
            yield
        except NotModifiedError:
            raise
        except (BaseError, OSError, ValueError) as error:
            raise self._explain(error, key) from error
        except BaseException as error:
            if not native.panicked(error):
                raise
            raise errors.BadEndpoint(self._place, "nobody can make sense of its answer") from None

    def _explain(self, error: Exception, key: str) -> errors.DorkyError:
        text, _, debug = str(error).partition("\n\nDebug source:")
        if text.startswith("Could not parse path"):
            return errors.UnsafePath(ascii(key))
        if self._chain and self._chain.failure and "credential provider" in text:
            return self._chain.failure
        if answer := _answer(text):
            return self._answered(*answer, key)
        if "HTTP error" in text and "Parse(" not in debug:
            return self._unreached(debug)
        return errors.BadEndpoint(
            self._place, text.removeprefix("Generic S3 error: ").partition("\n")[0][:200]
        )

    def _unreached(self, said: str) -> errors.Unreachable:
        from dorky.drivers import connection

        proxy = connection.proxy_of(self._options, self._server)
        return connection.unreached(self._place, said, proxy, bundle="AWS_CA_BUNDLE")

    def _answered(self, status: str, body: str, key: str) -> errors.DorkyError:
        if status == "407":  # no server answers this, but a proxy
            return self._unreached("ProxyAuthRequired")
        found = _CODE.search(body)
        code = (found[1] or found[2]) if found else ""
        kind = _KINDS.get(code) or _KINDS.get(status, errors.BadEndpoint)
        if body.strip() and not code and not issubclass(kind, errors.ServerBusy):
            # This answer comes from a web server, a portal or a proxy, not from S3.
            kind = errors.BadEndpoint
        said = _said(status, body)
        if kind in {errors.KeyNotFound, errors.PreconditionFailed}:
            return kind(key, self.url)
        if kind is errors.WrongRegion:
            named = _REGION.search(body)
            if region := named[1] if named else self._ask_region():
                return kind(self.url, f": {region}")
            kind = errors.AccessDenied if code else errors.BadEndpoint
        return kind(self._place if kind is errors.BadEndpoint else self.url, said)

    def _ask_region(self) -> str:
        """Return the region in the header of a 301, which obstore drops, by another request."""
        import urllib.error
        import urllib.request
        from http.client import HTTPException

        class Staying(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_: object) -> None:
                """Follow no redirect: the answer is in the redirect itself."""

        base = self._options.get("endpoint") or "https://s3.amazonaws.com"
        request = urllib.request.Request(f"{base}/{self._bucket}", method="HEAD")  # noqa: S310
        try:
            with urllib.request.build_opener(Staying).open(request, timeout=5) as answer:
                headers = answer.headers
        except urllib.error.HTTPError as error:
            with error:
                headers = error.headers
        except (OSError, HTTPException):
            return ""
        named = str(headers.get("x-amz-bucket-region") or "")
        return named if _REGION_NAME.fullmatch(named) else ""


class _Use:
    """Whether this process, and the one that it was forked from, have used obstore."""

    here = before_fork = False

    @classmethod
    def forked(cls) -> None:
        cls.before_fork = cls.before_fork or cls.here


os.register_at_fork(after_in_child=_Use.forked)


def _run(request: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Send a request so that Ctrl-C ends the wait for its answer.

    obstore blocks signals until it returns, which may take minutes; in its own thread it blocks
    none.

    Raises:
        UsedBeforeFork: obstore's threads are in the parent of this process.
    """
    if _Use.before_fork:
        raise errors.UsedBeforeFork
    _Use.here = True
    if threading.current_thread() is not threading.main_thread():
        return request(*args, **kwargs)
    return _wait(lambda: request(*args, **kwargs), None)


def _wait(request: Callable[[], T], seconds: float | None) -> T:
    """Send a request from another thread, and wait at most ``seconds`` for its answer.

    Raises:
        TimeoutError: It takes longer. The request continues until the process ends.
    """
    answers: list[T] = []
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            answers.append(request())
        except BaseException as error:  # noqa: BLE001 (it is raised where it is waited for)
            failures.append(error)

    # A pool takes 8 ms to import, and at exit waits for abandoned threads.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError
    for error in failures:
        raise error
    return answers[0]


def _cut(found: GetResult, start: int, end: int) -> bytes:
    """Return a range of the answer without holding more of it in memory; the rest is not read."""
    blocks: list[memoryview] = []
    at = 0
    for block in found.stream(min_chunk_size=min(end, _BLOCK)):
        cancellation.check()
        if at + len(block) > start:
            blocks.append(memoryview(block)[max(start - at, 0) : end - at])
        at += len(block)
        if at >= end:
            break
    return b"".join(blocks)


def _answer(text: str) -> tuple[str, str] | None:
    """Return the status and the body in the text of an obstore error; None if there are none."""
    if found := _STATUS.search(text):
        return found[1], found[2]
    if "without LOCATION" in text:  # object_store's text for a 301 of S3
        return "301", ""
    if found := _CODE.search(text):  # one of many deletions failed
        return "200", found[0]
    return None


def _said(status: str, body: str) -> str:
    """Return an answer in a line."""
    code, message = _CODE.search(body), _MESSAGE.search(body)
    named = (code[1] or code[2])[:64] if code else ""
    return f"{status} {named}".strip() + (f": {message[1][:200]}" if message else "")


def _region(options: Mapping[str, str]) -> str:
    region = options.get("region") or "us-east-1"
    # The region becomes a part of the host's name, and `.dorkyrc` may set it.
    if not _REGION_NAME.fullmatch(region):
        raise errors.BadConfig("The region", f"no region is named {region!a}")
    return region


def _certificates(bundle: str) -> bytes:
    try:
        pem = Path(bundle).expanduser().read_bytes()
    except OSError as error:
        raise errors.UnreadableFile(bundle, error.strerror) from error
    if b"-----BEGIN CERTIFICATE" not in pem:
        raise errors.BadConfig(bundle, "it holds no PEM certificate", file="certificates")
    return pem
