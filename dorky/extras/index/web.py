"""Requests to other indexes: with credentials for one server alone, and tried again."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import random
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

from dorky import errors

_TRIES = 5
_PATIENCE = 60.0
_LONGEST_PAUSE = 20.0
_TOLD = 400
"""The most characters of an answer's text that a message shows."""
_LOCAL = {"localhost", "127.0.0.1", "::1"}

_REFUSALS = {
    401: errors.UnauthorizedError,
    403: errors.ForbiddenError,
    405: errors.ForbiddenError,
    409: errors.ConflictError,
    501: errors.ForbiddenError,
}

BYTES = "application/octet-stream"

Body = Callable[[], Iterable[bytes]]
"""What begins a request's body again."""


class Place(NamedTuple):
    """A server's address, without credentials, and the header that proves who asks.

    Attributes:
        url: The address.
        authorization: The header's value; empty if there is none.
    """

    url: str
    authorization: str = ""


def place_of(url: str, token: str = "") -> Place:
    """Return an address without the credentials in it, and the header that they make.

    Args:
        url: The address, perhaps with ``user:password@``.
        token: A token to present, if any.

    Raises:
        BadURL: It is no address of a web server.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise errors.BadURL(url, str(error), kind="index") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise errors.BadURL(url, "it names no web server", kind="index")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    clean = urlunsplit(parts._replace(netloc=f"{host}:{port}" if port else host, fragment=""))
    if token:
        header = f"Bearer {token}"
    elif parts.username is not None or parts.password is not None:
        pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        header = "Basic " + base64.b64encode(pair.encode()).decode()
    else:
        return Place(clean)
    if not header.isprintable() or not header.isascii():
        raise errors.UsageError("a token is printable ASCII")
    if token and parts.scheme == "http" and parts.hostname not in _LOCAL:
        why = "without TLS, anybody on the way reads the token"
        raise errors.BadURL(clean, why, kind="open index")
    return Place(clean, header)


def same_server(url: str, other: str) -> bool:
    """Return whether two addresses are of one server."""
    return urlsplit(url)[:2] == urlsplit(other)[:2]


class _Stubborn:
    """A connection that reads the answer of a server that did not read all of the request."""

    _gone = False

    def send(self, data: Any) -> None:
        """Send, until the server has closed its side."""
        if self._gone:
            return
        try:
            super().send(data)  # type: ignore[misc]
        except (BrokenPipeError, ConnectionResetError):
            self._gone = True


class _Plain(_Stubborn, http.client.HTTPConnection):
    pass


class _Secure(_Stubborn, http.client.HTTPSConnection):
    pass


class _HTTP(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Plain, request)


class _HTTPS(urllib.request.HTTPSHandler):
    def __init__(self) -> None:
        super().__init__()
        self._trusted = ssl.create_default_context()

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_Secure, context=self._trusted), request)


@functools.cache
def _opener(*, local: bool) -> urllib.request.OpenerDirector:
    # A proxy would read the token that a server on this machine is shown without TLS.
    proxies = [urllib.request.ProxyHandler({})] if local else []
    return urllib.request.build_opener(_HTTP, _HTTPS, *proxies)


def _pause(attempt: int, answer: urllib.error.HTTPError | None) -> float:
    asked = (answer.headers.get("Retry-After", "") if answer else "").strip()
    if asked.isdigit():
        return min(float(asked), _LONGEST_PAUSE)
    return random.uniform(0, min(0.5 * 2**attempt, _LONGEST_PAUSE))  # noqa: S311 - no secret


@contextlib.contextmanager
def asked(
    place: Place,
    *,
    method: str = "GET",
    accept: str = "*/*",
    body: Body | None = None,
    size: int = 0,
    kind: str = BYTES,
) -> Iterator[IO[bytes]]:
    """Send a request, again if the server is busy; yield the answer, open for reading.

    Credentials are sent to this server alone, and not along with a redirect.

    Args:
        place: The address.
        method: The method.
        accept: The media types that are wanted.
        body: What begins the body again; None: there is none.
        size: The bytes of the body.
        kind: The media type of the body.

    Raises:
        UnauthorizedError: The server does not know the credentials.
        ForbiddenError: They may not do this.
        NoSuchFile: There is nothing at the address.
        ConflictError: The server has something else there.
        ServerBusy: It could not serve the request, however often it was sent.
        Unreachable: It can't be reached.
    """
    for attempt in range(_TRIES):
        last = attempt + 1 == _TRIES
        # Its scheme is http or https: see `place_of`.
        request = urllib.request.Request(place.url, method=method, headers={"Accept": accept})  # noqa: S310
        if place.authorization:
            request.add_unredirected_header("Authorization", place.authorization)
        if body:
            request.data = body()
            request.add_header("Content-Length", str(size))
            request.add_header("Content-Type", kind)
        try:
            local = urlsplit(place.url).hostname in _LOCAL
            answer = _opener(local=local).open(request, timeout=_PATIENCE)
        except urllib.error.HTTPError as error:
            with error:
                if last or not _is_busy(error.code):
                    raise _refusal(place.url, error) from None
                pause = _pause(attempt, error)
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "reason", None) or error
            fault = _certificate_fault(why)
            if last or fault:
                facts = {"certificate": fault, "bundle": "SSL_CERT_FILE"} if fault else {}
                raise errors.Unreachable(
                    place.url, _words(why), lasting=bool(fault), **facts
                ) from None
            pause = _pause(attempt, None)
        else:
            with answer:
                yield answer
            return
        time.sleep(pause)


def _certificate_fault(why: object) -> str:
    """Return what is wrong with the server's certificate, by OpenSSL's codes; empty: nothing."""
    if not isinstance(why, ssl.SSLCertVerificationError):
        return ""
    return {9: "early", 10: "expired", 62: "name", 64: "name"}.get(why.verify_code, "unknown")


def _words(why: object) -> str:
    if isinstance(why, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not trusted ({why.verify_message})"
    return str(getattr(why, "strerror", None) or why)


def _is_busy(status: int) -> bool:
    return status not in _REFUSALS and (status == 429 or status >= 500)


def _refusal(url: str, answer: urllib.error.HTTPError) -> errors.DorkyError:
    """Return the error that a status stands for, with what the server says."""
    said = ""
    if "html" not in answer.headers.get("Content-Type", ""):
        with contextlib.suppress(OSError, http.client.HTTPException):
            said = " ".join(answer.read(_TOLD).decode(errors="replace").split())
    why = f"{answer.code} {said or answer.reason}"
    if answer.code in {404, 410}:
        parts = urlsplit(url)
        return errors.NoSuchFile(parts.path, f"{parts.scheme}://{parts.netloc}")
    if _is_busy(answer.code):
        kind = errors.RateLimitedError if answer.code == 429 else errors.ServiceUnavailableError
        return kind(url, why)
    refused = _REFUSALS.get(answer.code, errors.BadRequestError)
    return refused(f"{url} answered {why}")
