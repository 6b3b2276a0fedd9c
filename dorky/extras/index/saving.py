"""Bring packages into a depot: files of other indexes, by URL and hash, and files on the disk."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin

from dorky import errors
from dorky.extras.index import locks, web
from dorky.extras.index.depot import Depot, Package
from dorky.extras.index.locks import Locked, Wanted
from dorky.extras.index.names import parsed
from dorky.extras.index.pages import JSON_TYPE
from dorky.extras.index.records import derive
from dorky.extras.index.transfer import Meter, Progress, at_once
from dorky.results import PythonTransfer

PUBLIC_INDEX = "https://pypi.org/simple/"

_THREADS = 8
_TRIES = 3
_BLOCK = 1 << 18
_LARGEST_PAGE = 256 << 20
_LARGEST = 16 << 30


class Told(NamedTuple):
    """What an index says of a file, beyond what the file itself tells.

    Attributes:
        page: The page of the project.
        upload_time: When the file was uploaded, as text.
        yanked: Whether it was yanked; or the reason.
        provenance: The address of its attestations.
    """

    page: str
    upload_time: str
    yanked: bool | str
    provenance: str


def save(
    depot: Depot,
    wanted: Wanted,
    *,
    lock: Path | None = None,
    local: Sequence[Path] = (),
    require_hashes: bool = False,
    progress: Progress | None = None,
) -> PythonTransfer:
    """Save what requirements need, and files, into a depot: all or nothing.

    Args:
        depot: The depot.
        wanted: The requirements.
        lock: A lock, instead of what requirements resolve to.
        local: Wheels and source distributions on the disk, which are added as they are.
        require_hashes: Whether each file's hash must be one that the requirements name.
        progress: Receives the progress.

    Raises:
        BadRequirement: A requirement is none, or names no package of an index.
        NoSolution: There is no solution.
        UnexpectedFile: A file has another hash than it should have.
        PackageHeld: The depot has another file of that name.
    """
    if wanted.index_url:
        web.place_of(wanted.index_url)
    meter = Meter(progress)
    meter.start("Resolving", 0, "files")
    found = locks.read(lock, sdists=wanted.sdists) if lock else []
    if wanted.requirements or wanted.files:
        found = locks.merged([*found, *locks.resolved(wanted)])
    if require_hashes:
        _check_allowed(found, locks.hashes(wanted))
    missing = [locked for locked in found if not _held(depot, locked)]
    packages = [Package(derive(path, path.name), path) for path in local]
    with tempfile.TemporaryDirectory() as directory:
        places = _Places(wanted.index_url)
        told = places.told(missing)
        meter.start("Fetching", sum(locked.size or 0 for locked in missing), "B")
        fetch = partial(_fetched, Path(directory), told, places, meter)
        packages += at_once(fetch, missing, _THREADS)
        meter.finish()
        added = depot.add(packages)
    names = {entry.filename for entry in added}
    every = [*(locked.filename for locked in found), *(path.name for path in local)]
    return PythonTransfer(
        place=depot.place,
        added=tuple(sorted(names)),
        kept=tuple(sorted(set(every) - names)),
        size=sum(entry.size for entry in added),
    )


def _check_allowed(found: Sequence[Locked], allowed: set[str]) -> None:
    for locked in found:
        if locked.sha256 not in allowed:
            raise errors.HashNotNamed(locked.filename)


def _held(depot: Depot, locked: Locked) -> bool:
    try:
        held = depot.entry(locked.filename).sha256
    except errors.NoSuchPackage:
        return False
    if held != locked.sha256:
        raise errors.PackageHeld(locked.filename, depot.place)
    return True


class _Places:
    """The indexes that files may come from.

    Args:
        index_url: The index that was named; empty: those of the environment.
    """

    def __init__(self, index_url: str) -> None:
        self._indexes = [web.place_of(url) for url in _index_urls(index_url)]

    def place(self, url: str) -> web.Place:
        """Return a file's or a page's address, with the credentials of its server."""
        place = web.place_of(url)
        if place.authorization:
            return place
        for index in self._indexes:
            if web.same_server(index.url, place.url):
                return place._replace(authorization=index.authorization)
        return place

    def told(self, found: Sequence[Locked]) -> dict[str, Told]:
        """Return what the indexes say of files, by filename, where one answers."""
        projects: dict[str, list[Locked]] = {}
        for locked in found:
            projects.setdefault(parsed(locked.filename).name, []).append(locked)
        answers = at_once(self._of_project, projects.items(), _THREADS)
        return {filename: told for answer in answers for filename, told in answer.items()}

    def _of_project(self, project: tuple[str, Sequence[Locked]]) -> dict[str, Told]:
        name, files = project
        indexes = [files[0].origin] if files[0].origin else [place.url for place in self._indexes]
        told: dict[str, Told] = {}
        for index in indexes:
            page = urljoin(index.rstrip("/") + "/", f"{name}/")
            listed = self._page(page)
            for locked in files:
                entry = listed.get(locked.filename)
                if entry and _digest(entry) == locked.sha256:
                    told.setdefault(locked.filename, _told(page, entry))
        return told

    def _page(self, url: str) -> dict[str, Mapping[str, Any]]:
        """Return the files that a page lists, by name; none if there is no page in JSON."""
        place = self.place(url)
        try:
            with web.asked(place, accept=JSON_TYPE) as answer:
                page = json.loads(answer.read(_LARGEST_PAGE))
            return {entry["filename"]: entry for entry in page["files"]}
        except (errors.NotFoundError, errors.BadRequestError, ValueError, KeyError, TypeError):
            return {}


def _index_urls(named: str) -> list[str]:
    """Return the addresses of the indexes that the resolver asks."""
    variables = os.environ
    default = variables.get("UV_DEFAULT_INDEX") or variables.get("UV_INDEX_URL") or PUBLIC_INDEX
    more = f"{variables.get('UV_INDEX', '')} {variables.get('UV_EXTRA_INDEX_URL', '')}"
    # An index may have a name: name=https://…
    urls = [named or default, *more.split()]
    return [url[url.index("http") :] for url in urls if "http" in url]


def _digest(entry: Mapping[str, Any]) -> object:
    hashes = entry.get("hashes")
    return hashes.get("sha256") if isinstance(hashes, dict) else None


def _told(page: str, entry: Mapping[str, Any]) -> Told:
    yanked = entry.get("yanked", False)
    if isinstance(yanked, str):
        yanked = " ".join("".join(c if c.isprintable() else " " for c in yanked).split()) or True
    provenance = entry.get("provenance")
    return Told(
        page=page,
        upload_time=str(entry.get("upload-time") or ""),
        yanked=yanked if isinstance(yanked, bool | str) else False,
        provenance=provenance if isinstance(provenance, str) and provenance.isprintable() else "",
    )


def _fetched(
    directory: Path, told: Mapping[str, Told], places: _Places, meter: Meter, locked: Locked
) -> Package:
    """Fetch a file, which must have the hash that the lock says."""
    path = directory / locked.filename
    _download(places.place(locked.url), path, locked, meter)
    about = told.get(locked.filename)
    entry = derive(
        path,
        locked.filename,
        upload_time=(_time(about.upload_time) if about else None) or locked.upload_time,
        yanked=about.yanked if about else False,
        origin=about.page if about else "",
        provenance=about.provenance if about else "",
        recorded=False,  # it is the file that the lock means, as its index has taken it
    )
    return Package(entry, path)


def _download(place: web.Place, path: Path, locked: Locked, meter: Meter) -> None:
    """Download a file, again if the connection breaks."""
    limit = _LARGEST if locked.size is None else locked.size
    for left in reversed(range(_TRIES)):
        try:
            count, digest = _copied(place, path, limit, meter)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, errors.DorkyError):
                raise
            if not left:
                raise errors.Unreachable(place.url, str(error)) from None
            continue
        if digest == locked.sha256:
            return
        if not left or count >= (locked.size or 0):
            break
        meter.advance(-count)
    raise errors.UnexpectedFile(place.url, f"its SHA-256 is not {locked.sha256}")


def _copied(place: web.Place, path: Path, limit: int, meter: Meter) -> tuple[int, str]:
    digest, count = hashlib.sha256(), 0
    with web.asked(place) as answer, path.open("wb") as file:
        while block := answer.read(min(_BLOCK, limit + 1 - count)):
            count += len(block)
            if count > limit:
                raise errors.UnexpectedFile(place.url, f"it has more than {limit:,} bytes")
            digest.update(block)
            file.write(block)
            meter.advance(len(block))
    return count, digest.hexdigest()


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else None
