"""Projects that are not here, from another index: its pages are passed on, its files are not.

A name that is here, or that matches a pattern of private names, is never asked for outside: whoever
registers it there can't slip in between. Each file is listed with a URL at the other index and with
its SHA-256, by which installers check it.
"""

from __future__ import annotations

import base64
import html
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from fnmatch import fnmatchcase
from http.client import HTTPException
from typing import Any
from urllib.parse import urljoin, urlsplit

import msgspec

from dorky import errors
from dorky.extras.index import negotiation
from dorky.extras.index.answers import Refusal
from dorky.extras.index.names import normalized, parsed
from dorky.extras.index.negotiation import Format
from dorky.extras.index.state import Kept

_PATIENCE = 20.0
_LARGEST = 64 << 20
_BLOCK = 64 << 10
_KEPT = 64 << 20
_NEW = 300.0
_HASH = re.compile(r"[0-9a-f]{64}")


class _File(msgspec.Struct, rename="kebab"):
    """A file as another index lists it."""

    filename: str
    url: str
    hashes: dict[str, str]
    requires_python: str | None = None
    size: int | None = None
    upload_time: str | None = None
    yanked: bool | str = False
    core_metadata: bool | dict[str, str] = False
    dist_info_metadata: bool | dict[str, str] = False


class _Page(msgspec.Struct):
    name: str
    files: list[_File]
    versions: list[str] = []


class _SameServer(urllib.request.HTTPRedirectHandler):
    """Follows redirections within a server alone: another is neither trusted nor told the token."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if _server(newurl) != _server(req.full_url):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Upstream:
    """Another index. Any number of threads may use it.

    Args:
        url: Its URL, that of its list of projects.
        private: Patterns of names that are never asked for there.
        token: Its token, if it needs one.

    Raises:
        UsageError: The URL is none, or holds a password.
    """

    def __init__(self, url: str, private: Sequence[str] = (), token: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise errors.UsageError("an upstream is https://HOST/simple/")
        if "@" in parts.netloc:
            raise errors.UsageError("the upstream's URL must not hold a password")
        self.url = url.rstrip("/") + "/"
        self._private = [re.sub(r"[-_.]+", "-", pattern).lower() for pattern in private]
        self._token = token
        self._opener = urllib.request.build_opener(_SameServer)
        self._pages: Kept[tuple[float, dict[str, Any] | None]] = Kept(_KEPT)

    def is_private(self, name: str) -> bool:
        """Return whether a normalized name is never asked for outside."""
        return any(fnmatchcase(name, pattern) for pattern in self._private)

    def page(self, name: str, format_: Format) -> bytes | None:
        """Return the page of a project; None if the other index has none, or is not to be asked.

        Args:
            name: The project, normalized.
            format_: The format of the page.

        Raises:
            Refusal: The other index can't be reached, or its answer makes no sense.
        """
        if self.is_private(name):
            return None
        held = self._pages.get(name)
        if held is None or time.monotonic() - held[0] > _NEW:
            body = self._fetch(name)
            made = self._rewritten(name, body) if body is not None else None
            held = self._pages.put(name, (time.monotonic(), made), 1000 + 4 * len(body or b""))
        page = held[1]
        if page is None:
            return None
        return json.dumps(page).encode() if format_ == "json" else _html(page)

    def _fetch(self, name: str) -> bytes | None:
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            f"{self.url}{name}/",
            headers={
                "Accept": negotiation.JSON,
                "Accept-Encoding": "identity",
                "User-Agent": "dorky",
            },
        )
        if self._token:
            pair = base64.b64encode(f"__token__:{self._token}".encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {pair}")
        try:
            with self._opener.open(request, timeout=_PATIENCE) as answer:
                body = _read(answer)
                kind = answer.headers.get_content_type()
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in {404, 410}:
                return None
            raise Refusal(502, f"the upstream index answers {error.code}") from None
        except (OSError, HTTPException, ValueError):
            raise Refusal(502, "the upstream index can't be reached") from None
        if kind != negotiation.JSON or len(body) > _LARGEST:
            raise Refusal(502, "the upstream index does not answer in JSON (PEP 691)")
        return body

    def _rewritten(self, name: str, body: bytes) -> dict[str, Any]:
        try:
            page = msgspec.json.decode(body, type=_Page)
            if normalized(page.name) != name:
                raise Refusal(502, "the upstream index has answered for another project")
        except (msgspec.DecodeError, UnicodeDecodeError, errors.BadPackage):
            raise Refusal(502, "the upstream index has sent a page that makes no sense") from None
        base = f"{self.url}{name}/"
        return {
            "meta": {"api-version": "1.1"},
            "name": name,
            "versions": page.versions,
            "files": [made for file in page.files if (made := _listed(file, base, name))],
        }


def _read(answer: Any) -> bytes:
    """Return a body, of which not more is read than is allowed, nor for longer.

    Raises:
        TimeoutError: It comes too slowly.
    """
    ending = time.monotonic() + _PATIENCE
    body = bytearray()
    while len(body) <= _LARGEST and (block := answer.read1(_BLOCK)):
        body += block
        if time.monotonic() > ending:
            raise TimeoutError
    return bytes(body)


def _server(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _listed(file: _File, base: str, name: str) -> dict[str, Any] | None:
    """Return how a file is listed; None if it can't be checked, or is another project's."""
    try:
        mine = parsed(file.filename).name == name
        url = urljoin(base, file.url)
        scheme = urlsplit(url).scheme
    except (errors.BadPackage, ValueError):
        return None
    sha256 = file.hashes.get("sha256", "")
    texts = (url, file.requires_python or "", str(file.yanked))
    if not (mine and scheme in {"https", "http"} and _HASH.fullmatch(sha256)):
        return None
    if not all(text.isprintable() for text in texts):
        return None
    core = file.core_metadata or file.dist_info_metadata
    made = {
        "filename": file.filename,
        "url": url.partition("#")[0],
        "hashes": {"sha256": sha256},
        "requires-python": file.requires_python,
        "size": file.size,
        "upload-time": file.upload_time,
        "yanked": file.yanked,
        "core-metadata": core,
    }
    return {key: value for key, value in made.items() if value is not None}


def _html(page: dict[str, Any]) -> bytes:
    lines = ["<!DOCTYPE html>", f"<title>Links for {page['name']}</title>"]
    for file in page["files"]:
        sha256 = file["hashes"]["sha256"]
        told = {"href": f"{file['url']}#sha256={sha256}"}
        if wanted := file.get("requires-python"):
            told["data-requires-python"] = wanted
        if core := file["core-metadata"]:
            digest = core.get("sha256") if isinstance(core, dict) else None
            told["data-core-metadata"] = f"sha256={digest}" if digest else "true"
        if file["yanked"] is not False:
            told["data-yanked"] = file["yanked"] if isinstance(file["yanked"], str) else ""
        words = " ".join(f'{key}="{html.escape(text)}"' for key, text in told.items())
        lines.append(f"<a {words}>{html.escape(file['filename'])}</a><br>")
    return ("\n".join(lines) + "\n").encode()
