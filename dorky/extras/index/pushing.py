"""Push packages to an index that takes files by PUT, such as `dorky python serve`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from dorky import errors
from dorky.extras.index import web
from dorky.extras.index.depot import Depot
from dorky.extras.index.pages import JSON_TYPE
from dorky.extras.index.records import Entry
from dorky.extras.index.transfer import Meter, Progress, at_once
from dorky.results import PythonTransfer

_THREADS = 4
_BLOCK = 1 << 20
_LARGEST_PAGE = 256 << 20


class _Target(NamedTuple):
    """The index."""

    place: web.Place

    def below(self, *parts: str) -> web.Place:
        """Return the address of something in it."""
        path = "/".join(quote(part) for part in parts)
        return self.place._replace(url=f"{self.place.url.rstrip('/')}/{path}")


def push(
    depot: Depot,
    url: str,
    *,
    token: str = "",
    projects: Sequence[str] = (),
    progress: Progress | None = None,
) -> PythonTransfer:
    """Push files that the index lacks, and then their records.

    Args:
        depot: The packages.
        url: The index's address, ``https://host/python/simple/``.
        token: What proves who pushes; empty: nothing, or the credentials in the URL.
        projects: The projects; none: all.
        progress: Receives the progress.

    Raises:
        NoSuchPackage: There is no such project.
        PackageHeld: The index has another file of that name: nothing was pushed.
        ConflictError: It has got one since.
        AccessError: The token is not known, or may not push.
    """
    target = _Target(web.place_of(url, token))
    chosen = [depot.project(name) for name in dict.fromkeys(projects) or depot.projects()]
    held = at_once(partial(_held, target), [project.name for project in chosen], _THREADS)
    missing: list[Entry] = []
    kept: list[Entry] = []
    for project, there in zip(chosen, held, strict=True):
        for entry in project.files:
            known = there.get(entry.filename)
            if known not in {None, entry.sha256}:
                raise errors.PackageHeld(entry.filename, target.place.url)
            (kept if known else missing).append(entry)
    meter = Meter(progress)
    size = sum(entry.size for entry in missing)
    meter.start("Pushing", size, "B")
    at_once(partial(_put_file, depot, target, meter), missing, _THREADS)
    at_once(partial(_put_record, target), missing, _THREADS)
    meter.finish()
    return PythonTransfer(
        place=target.place.url,
        added=tuple(entry.filename for entry in missing),
        kept=tuple(entry.filename for entry in kept),
        size=size,
    )


def _held(target: _Target, name: str) -> dict[str, str]:
    """Return the SHA-256 of each file that the index has of a project."""
    try:
        with web.asked(target.below(name, ""), accept=JSON_TYPE) as answer:
            page = json.loads(answer.read(_LARGEST_PAGE))
        return {file["filename"]: file["hashes"]["sha256"] for file in page["files"]}
    except (errors.NotFoundError, errors.BadRequestError, ValueError, KeyError, TypeError):
        return {}  # the index decides when it gets the file


def _put_file(depot: Depot, target: _Target, meter: Meter, entry: Entry) -> None:
    sent = 0
    with depot.verified(entry.filename) as file:

        def body() -> Iterator[bytes]:
            nonlocal sent
            meter.advance(-sent)
            sent = 0
            file.seek(0)
            while block := file.read(_BLOCK):
                yield block
                sent += len(block)
                meter.advance(len(block))

        _put(target.below(entry.name, entry.filename), body, entry.size)


def _put_record(target: _Target, entry: Entry) -> None:
    data = msgspec.json.encode(entry)
    place = target.below(entry.name, f"{entry.filename}.json")
    _put(place, lambda: iter([data]), len(data), kind="application/json")


def _put(place: web.Place, body: web.Body, size: int, *, kind: str = web.BYTES) -> None:
    with web.asked(place, method="PUT", body=body, size=size, kind=kind) as answer:
        answer.read(_BLOCK)
