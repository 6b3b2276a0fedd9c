"""Connections: why a server could not be reached, in words, from what three libraries say of it.

The Rust client of S3 says it in its debug text, botocore and Google's library in those of urllib3
and OpenSSL. None of them says that it was a proxy that could not be reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

from dorky import errors

if TYPE_CHECKING:
    from email.message import Message


STATUSES: Mapping[int, type[errors.DorkyError]] = {
    401: errors.AccessDenied,
    403: errors.AccessDenied,
    404: errors.KeyNotFound,
    408: errors.ServiceUnavailableError,
    429: errors.RateLimitedError,
    500: errors.InternalServerError,
    502: errors.ServiceUnavailableError,
    503: errors.ServiceUnavailableError,
    504: errors.ServiceUnavailableError,
}
"""The errors that statuses of HTTP stand for, whatever the server."""


class Proxy(NamedTuple):
    """A proxy that requests go through.

    Attributes:
        url: Its URL for messages, without a password.
        variable: The environment variable that names it.
    """

    url: str
    variable: str


class _Sign(NamedTuple):
    """A failure, and how to recognize it.

    Attributes:
        texts: Any of these is in what the library says.
        server: The reason, if it is the server that fails.
        proxy: The reason, if it is a proxy.
        lasting: Whether waiting seldom helps.
        certificate: The fault of the certificate; empty if it has none.
    """

    texts: tuple[str, ...]
    server: str
    proxy: str = ""
    lasting: bool = True
    certificate: str = ""


_LATE = _Sign(
    ("TimedOut", "Timeout", "timed out"),
    "it did not answer in time",
    "the proxy {0} did not answer in time",
    lasting=False,
)
_SIGNS = (
    _Sign(
        ("ProxyAuthRequired", "Tunnel connection failed: 407"),
        "",
        "the proxy {0} asks for a user and a password",
    ),
    _Sign(
        ("TunnelUnsuccessful", "Tunnel connection failed"),
        "",
        "the proxy {0} does not let requests through to it",
    ),
    _Sign(
        ("dns error", "NameResolutionError"),
        "its name can't be resolved",
        "the name of the proxy {0} can't be resolved",
    ),
    _Sign(
        ("ConnectionRefused", "Connection refused"),
        "connection refused",
        "the proxy {0} refuses connections",
    ),
    _Sign(
        ("NetworkUnreachable", "Network is unreachable"),
        "no network",
        "no network to the proxy {0}",
    ),
    _Sign(("HostUnreachable", "No route to host"), "no route to it", "no route to the proxy {0}"),
    _Sign(
        ("Expired", "certificate has expired"),
        "its TLS certificate has expired",
        certificate="expired",
    ),
    _Sign(
        ("NotValidYet", "certificate is not yet valid"),
        "its TLS certificate is not valid yet",
        certificate="early",
    ),
    _Sign(
        ("NotValidForName", "mismatch", "doesn't match", "no appropriate subjectAltName"),
        "its TLS certificate is for another name",
        certificate="name",
    ),
    _Sign(
        ("CaUsedAsEndEntity",),
        "its TLS certificate is marked as that of an authority",
        certificate="authority",
    ),
    _Sign(
        ("InvalidCertificate", "CERTIFICATE_VERIFY_FAILED"),
        "its TLS certificate is not trusted",
        certificate="unknown",
    ),
    _Sign(
        ("InvalidContentType", "WRONG_VERSION_NUMBER", "wrong version number"),
        "it does not speak TLS",
        "the proxy {0} does not speak TLS",
    ),
    _LATE,
    _Sign(("",), "the connection broke", "the connection to the proxy {0} broke", lasting=False),
)
_OF_PROXY = ("ConnectFailed", "TunnelUnexpectedEof", "ProxyError(")
"""What libraries say of the way to a proxy, and of nothing else."""
_BEFORE_TLS = 6
"""The signs up to here are of the first connection, which is the proxy's if there is one."""


def proxy_of(options: Mapping[str, str], endpoint: str) -> Proxy | None:
    """Return the proxy that requests to an endpoint go through, or None.

    Args:
        options: The driver's: ``proxy`` for unencrypted connections, ``tls_proxy`` for others, and
            ``no_proxy``.
        endpoint: The server's URL.
    """
    from urllib.parse import urlsplit
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

    plain = endpoint.startswith("http://")
    url = options.get("proxy" if plain else "tls_proxy", "")
    host = urlsplit(endpoint).netloc.rpartition("@")[2]
    if not url or proxy_bypass_environment(host, {"no": options.get("no_proxy", "")}):
        return None
    scheme, separator, rest = url.rpartition("://")
    shown = rest.rpartition("@")[2].partition("/")[0]
    scheme = scheme if separator and scheme.isalnum() else "http"
    return Proxy(f"{scheme}://{shown}", "HTTP_PROXY" if plain else "HTTPS_PROXY")


def unreached(
    place: str, said: str, proxy: Proxy | None = None, *, during: str = "", bundle: str = ""
) -> errors.Unreachable:
    """Return the error for a request that got no answer.

    Args:
        place: The remote, for the message.
        said: The text of a library's error.
        proxy: The proxy that the request went through.
        during: What the request was for, if not for the remote's contents.
        bundle: The environment variable that names trusted certificates.
    """
    # Before that comes an address, which may hold any word.
    cause = said.partition("inner:")[2] or said.partition("(Caused by ")[2] or said
    n, sign = next(
        (n, sign) for n, sign in enumerate(_SIGNS) if any(text in cause for text in sign.texts)
    )
    if not sign.server:
        proxy = proxy or Proxy("on the way", "HTTPS_PROXY")
    early = n < _BEFORE_TLS or any(text in cause for text in _OF_PROXY)
    if proxy and sign.proxy and early:
        reason, facts = sign.proxy.format(proxy.url), {"proxy": proxy.variable}
    else:
        reason, facts = sign.server, {"certificate": sign.certificate, "bundle": bundle}
    kind = errors.TimeoutError if sign is _LATE else errors.Unreachable
    return kind(place, during + reason, lasting=sign.lasting, **facts)


def retry_after(headers: Mapping[str, str] | Message) -> float | None:
    """Return the seconds that an answer asks to wait; RFC 9110 allows a number or a date."""
    after = headers.get("Retry-After", "")
    if after.isascii() and after.isdigit():
        return float(after)
    try:
        # The server's own clock is used if it sends one, because ours may be wrong.
        now = headers.get("Date")
        asked = parsedate_to_datetime(after)
        since = parsedate_to_datetime(now) if now else datetime.now(timezone.utc)
        return max(0.0, (asked - since).total_seconds())
    except (TypeError, ValueError):
        return None
