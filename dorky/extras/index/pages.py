"""The pages of the Simple Repository API: JSON (PEP 691) and HTML (PEP 503), version 1.4."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

import msgspec

from dorky.extras.index.depot import Project
from dorky.extras.index.records import Entry

API_VERSION = "1.4"
JSON_TYPE = "application/vnd.pypi.simple.v1+json"
HTML_TYPE = "application/vnd.pypi.simple.v1+html"

Address = Callable[[Entry], str]
"""What returns a file's URL, without a fragment."""


def relative(entry: Entry) -> str:
    """Return the URL of a file, relative to its project's page ``simple/NAME/``."""
    return f"../../files/{entry.name}/{quote(entry.filename)}"


def project_list(names: Iterable[str]) -> bytes:
    """Return the list of projects, as JSON."""
    return _encoded(
        {
            "meta": {"api-version": API_VERSION},
            "projects": [{"name": name} for name in names],
        }
    )


def project_list_html(names: Iterable[str]) -> bytes:
    """Return the list of projects, as HTML."""
    links = [f'<a href="{html.escape(name)}/">{html.escape(name)}</a><br>' for name in names]
    return _page("Simple index", [], links)


def project_page(project: Project, address: Address = relative) -> bytes:
    """Return the page of a project, as JSON. That of a quarantined one lists no file.

    Args:
        project: The project.
        address: What returns a file's URL.
    """
    page: dict[str, Any] = {
        "meta": {"api-version": API_VERSION},
        "name": project.name,
        "project-status": msgspec.to_builtins(project.status) | {"status": project.status.status},
        "versions": [*project.versions],
        "files": [_file(entry, address(entry)) for entry in offered(project)],
    }
    return _encoded(page)


def project_page_html(project: Project, address: Address = relative) -> bytes:
    """Return the page of a project, as HTML; see `project_page`."""
    status: dict[str, str] = {"project-status": project.status.status}
    if project.status.reason:
        status["project-status-reason"] = project.status.reason
    meta = [
        f'<meta name="pypi:{key}" content="{html.escape(text)}">' for key, text in status.items()
    ]
    return _page(
        f"Links for {project.name}",
        meta,
        [link(entry, address(entry)) for entry in offered(project)],
    )


def offered(project: Project) -> tuple[Entry, ...]:
    """Return the files that installers may have: of a quarantined project none."""
    return () if project.status.status == "quarantined" else project.files


def link(entry: Entry, url: str) -> str:
    """Return the line of a file in an HTML page.

    Args:
        entry: The file.
        url: Its URL, without a fragment.
    """
    attributes = {"href": f"{url}#sha256={entry.sha256}"}
    if entry.requires_python:
        attributes["data-requires-python"] = entry.requires_python
    if entry.core_metadata:
        # PEP 658 called it otherwise, and not every installer reads both.
        metadata = f"sha256={entry.core_metadata['sha256']}"
        attributes |= {"data-core-metadata": metadata, "data-dist-info-metadata": metadata}
    if entry.yanked:
        attributes["data-yanked"] = entry.yanked if isinstance(entry.yanked, str) else ""
    told = " ".join(f'{key}="{html.escape(text)}"' for key, text in attributes.items())
    return f"<a {told}>{html.escape(entry.filename)}</a><br>"


def flat(links: list[str]) -> bytes:
    """Return a page of links to files of any project, for ``--find-links``.

    Args:
        links: What `link` returns.
    """
    return _page("Links", [], links)


def _file(entry: Entry, url: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "filename": entry.filename,
        "url": url,
        "hashes": {"sha256": entry.sha256},
        "size": entry.size,
        # No other form than this one is in PEP 700.
        "upload-time": entry.upload_time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "core-metadata": entry.core_metadata or False,
        "yanked": entry.yanked,
    }
    if entry.requires_python:
        made["requires-python"] = entry.requires_python
    return made


def _encoded(page: dict[str, Any]) -> bytes:
    return json.dumps(page, ensure_ascii=False, separators=(",", ":")).encode()


def _page(title: str, meta: list[str], links: list[str]) -> bytes:
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta name="pypi:repository-version" content="{API_VERSION}">',
        *meta,
        f"<title>{html.escape(title)}</title>",
        "</head>",
        "<body>",
        *links,
        "</body>",
        "</html>",
    ]
    return ("\n".join(lines) + "\n").encode()
