"""Publish a depot as files that any web server or bucket can serve: an index without a server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import NamedTuple
from urllib.parse import quote, urljoin

import msgspec

from dorky import errors
from dorky.extras.index import pages
from dorky.extras.index.depot import Depot, Project
from dorky.extras.index.names import file_path
from dorky.extras.index.records import Entry
from dorky.extras.index.sinks import Sink
from dorky.extras.index.transfer import Meter, Progress, at_once
from dorky.results import PythonIndex

LINKS = "links.html"
"""The flat page of presigned links."""

_MANIFEST = "published.json"
_THREADS = 8
_OURS = re.compile(r"(?:simple|files)/(?:[A-Za-z0-9][A-Za-z0-9._+!-]*/?)*")
_LONGEST = timedelta(days=7)
_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


class Plan(NamedTuple):
    """The projects and files to publish.

    Attributes:
        projects: The projects.
        files: The files that installers may have.
    """

    projects: tuple[Project, ...]
    files: tuple[Entry, ...]

    @property
    def size(self) -> int:
        """Return the size of the files, in bytes."""
        return sum(entry.size for entry in self.files)


def duration(text: str) -> timedelta:
    """Return a time span: ``7d``, ``12h``, ``30m``, ``90s``.

    Raises:
        UsageError: It is none, or longer than a signature can be valid.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,5})([dhms])", text)
    if not found:
        raise errors.UsageError(f"{text} is no time span: write 7d, 12h or 30m")
    span = timedelta(**{_UNITS[found[2]]: int(found[1])})
    if span > _LONGEST:
        raise errors.UsageError("a presigned link is valid for at most 7d")
    return span


def plan(depot: Depot) -> Plan:
    """Return what `publish` would publish: those who can read the place can read all of it.

    Raises:
        NoPackages: There are none: an index of nothing would delete all that was published.
    """
    projects = tuple(map(depot.project, depot.projects()))
    if not projects:
        raise errors.NoPackages(depot.place)
    return Plan(projects, tuple(entry for found in projects for entry in pages.offered(found)))


def leaving(planned: Plan, sink: Sink) -> int:
    """Return how many files `publish` would delete, because they are not planned any more."""
    kept = {file_path(entry.filename) for entry in planned.files}
    return sum(
        key.startswith("files/") and not key.endswith(".metadata")
        for key in _published(sink) - kept
    )


def publish(
    depot: Depot,
    planned: Plan,
    sink: Sink,
    *,
    form: str = "json",
    base_url: str = "",
    presign: timedelta | None = None,
    progress: Progress | None = None,
) -> PythonIndex:
    """Publish files, then their pages; then delete what an earlier index had in addition.

    Args:
        depot: The packages.
        planned: What `plan` has returned.
        sink: Where to.
        form: The form of the pages: ``json`` or ``html``.
        base_url: The address under which files are fetched; empty: relative to their page.
        presign: How long presigned links are valid; None: there are pages, and no such links.
        progress: Receives the progress.
    """
    keys = {file_path(entry.filename) for entry in planned.files}
    keys |= {f"{file_path(entry.filename)}.metadata" for entry in planned.files if _has(entry)}
    made = {} if presign else _pages(planned, sink, form, base_url)
    keys |= made.keys()
    old = _published(sink)
    if not keys <= old:  # first: a later index deletes what an interrupted one has left
        _list(sink, keys | old)
    meter = Meter(progress)
    meter.start("Publishing", planned.size, "B")
    at_once(partial(_put_file, depot, sink, meter), planned.files, _THREADS)
    meter.finish()
    url = ""
    if presign:
        links = [
            pages.link(_bare(entry), sink.presigned(file_path(entry.filename), presign))
            for entry in planned.files
        ]
        sink.put(LINKS, pages.flat(links), "text/html; charset=utf-8")
        url = sink.presigned(LINKS, presign)
    for key, (body, kind) in made.items():
        sink.put(key, body, kind)
    if gone := sorted(old - keys):
        for key in gone:
            sink.delete(key)
        _list(sink, keys)
    return PythonIndex(
        place=sink.place,
        projects=len(planned.projects),
        files=len(planned.files),
        size=planned.size,
        url=url,
    )


def _has(entry: Entry) -> bool:
    return bool(entry.core_metadata)


def _bare(entry: Entry) -> Entry:
    """Return a record without metadata: a signature holds for one address alone."""
    return msgspec.structs.replace(entry, core_metadata={})


def _put_file(depot: Depot, sink: Sink, meter: Meter, entry: Entry) -> None:
    key = file_path(entry.filename)
    if not sink.holds(key, entry.sha256, entry.size):
        with depot.verified(entry.filename) as file:
            sink.put(key, file, "application/octet-stream", entry.sha256)
    if _has(entry):
        digest = entry.core_metadata["sha256"]
        if not sink.holds(f"{key}.metadata", digest, None):
            body = depot.metadata(entry.filename)
            sink.put(f"{key}.metadata", body, "text/plain; charset=utf-8", digest)
    meter.advance(entry.size)


def _pages(planned: Plan, sink: Sink, form: str, base_url: str) -> dict[str, tuple[bytes, str]]:
    """Return the pages and their media types, by their keys; the list of projects comes last."""
    names = [found.name for found in planned.projects]
    address: Callable[[Entry], str] = pages.relative
    if base_url:
        address = partial(_below, base_url.rstrip("/") + "/")
    if form == "json":
        kind, listed, shown = pages.JSON_TYPE, pages.project_list, pages.project_page
    else:
        kind = "text/html; charset=utf-8"
        listed, shown = pages.project_list_html, pages.project_page_html
    made = {
        sink.page_key(f"simple/{found.name}", form): (shown(found, address), kind)
        for found in planned.projects
    }
    return {**made, sink.page_key("simple", form): (listed(names), kind)}


def _below(base_url: str, entry: Entry) -> str:
    return urljoin(base_url, quote(file_path(entry.filename)))


def _list(sink: Sink, keys: set[str]) -> None:
    """Note the keys of an index, for the next one."""
    sink.put(_MANIFEST, json.dumps(sorted(keys), indent=0).encode(), "application/json")


def _published(sink: Sink) -> set[str]:
    """Return the keys that an earlier index has written, as far as they can be its."""
    try:
        found = json.loads(sink.read(_MANIFEST) or b"[]")
    except ValueError:
        return set()
    keys = found if isinstance(found, list) else []
    return {key for key in keys if isinstance(key, str) and _OURS.fullmatch(key)}
