"""Drivers: the places that store bytes, chosen by the scheme of a URL."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dorky import errors
from dorky.config import has_credentials
from dorky.drivers.base import Driver
from dorky.drivers.retry import QUOTED, Retrying

BUILT_IN = ("file", "gs", "https", "s3")
GROUP = "dorky.drivers"
"""The entry-point group in which third parties register drivers: ``scheme = "module:Class"``."""


def open_driver(url: str, options: Mapping[str, str]) -> Driver:
    """Open the driver that serves ``url``, wrapped so that it retries what is safe to retry.

    Does no I/O on the network and imports no cloud SDK: the first request does.

    Args:
        url: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``file:///dir``, a path,
            ``https://host/path`` (read-only), or a URL with the scheme of an installed third-party
            driver.
        options: See `Driver.open`; and ``conditions``, see `Retrying`.

    Returns:
        The driver; its ``url`` is the normal form of ``url``.

    Raises:
        BadURL: ``url`` is malformed, or holds credentials.
        NoDriver: No driver serves its scheme.
        MissingLibrary: The driver's package can't be imported.
    """
    if has_credentials(url):
        raise errors.BadURL(url, "credentials don't belong into a URL")
    driver = _driver_class(_scheme(url)).open(url, options)
    return Retrying(driver, conditions=options.get("conditions", QUOTED))


def _scheme(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    if meant := _meant(url):
        raise errors.BadURL(url, f"did you mean {meant}?")
    if not separator:
        if not url.strip():
            raise errors.BadURL("''", "it is empty")
        # Otherwise `s3:bucket` would become a directory of that name.
        if ":" in url.partition("/")[0]:
            raise errors.BadURL(url, "a path with a colon is written ./like:this")
        return "file"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise errors.BadURL(url, "no scheme before ://")
    return scheme.lower()


_MISTYPED = (
    (r"(s3|gs):/*([^/:].*)", r"\1://\2"),
    (r"https?://([a-z0-9.-]+)\.s3[.-][a-z0-9.-]*amazonaws\.com(?::\d+)?/?(.*)", r"s3://\1/\2"),
    (r"https?://s3[.-][a-z0-9.-]*amazonaws\.com(?::\d+)?/([^/]+)/?(.*)", r"s3://\1/\2"),
    (r"https?://([a-z0-9._-]+)\.storage\.googleapis\.com/?(.*)", r"gs://\1/\2"),
    (r"https?://storage\.(?:googleapis|cloud\.google)\.com/([^/]+)/?(.*)", r"gs://\1/\2"),
)
"""Addresses that people paste from a browser or mistype, and the URLs that they mean."""


def _meant(url: str) -> str:
    """Return the URL that a mistyped one means; empty if it is none."""
    for pattern, written in _MISTYPED:
        if found := re.fullmatch(pattern, url.partition("?")[0], re.IGNORECASE):
            meant = found.expand(written).rstrip("/")
            return "" if url.lower().startswith(meant.lower()) else meant
    return ""


def _driver_class(scheme: str) -> type[Driver]:
    if scheme == "file":
        from dorky.drivers.file import FileDriver

        return FileDriver
    if scheme == "s3":
        from dorky.drivers.s3 import S3Driver

        return S3Driver
    if scheme == "gs":
        from dorky.drivers.gcs import GCSDriver

        return GCSDriver
    if scheme in {"https", "http"}:
        from dorky.drivers.http import HTTPDriver

        return HTTPDriver
    return _third_party(scheme)


def _third_party(scheme: str) -> type[Driver]:
    # This import is slow (tens of ms): it reads the metadata of every installed package.
    from importlib.metadata import entry_points

    found = entry_points(group=GROUP)
    for entry in found.select(name=scheme):
        try:
            driver: type[Driver] = entry.load()
        except ImportError as error:
            raise errors.MissingLibrary(f"{scheme}://", error.name or entry.module) from error
        return driver
    raise errors.NoDriver(scheme, ", ".join(sorted({*BUILT_IN, *found.names})))
