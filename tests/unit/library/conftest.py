"""Fixtures for the client: every way to call it, and a repository in every kind of place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import snapshots
from backends import BACKENDS, Backend
from calls import Requests
from servers import Remote

from dorky.client import DorkyClient
from dorky.drivers.file import FileDriver


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with BACKENDS[request.param]() as made:
        yield made


@pytest.fixture
def place(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> Remote:
    """An empty place of every kind in turn, which this process reaches."""
    for name, value in remote.env.items():
        monkeypatch.setenv(name, value)
    return remote


@pytest.fixture
def client(backend: Backend, place: Remote) -> DorkyClient:
    """A client of a fresh repository in every kind of place."""
    return backend.create(place.url)


@pytest.fixture
def local(backend: Backend, file_url: Remote) -> DorkyClient:
    """A client of a fresh repository in a directory."""
    places = [Path(file_url.url), Path.home()]
    snapshots.once(places, lambda: DorkyClient.create(file_url.url).close(), "local")
    return backend.client(file_url.url)


@pytest.fixture
def url(local: DorkyClient) -> str:
    """The URL of the repository in a directory."""
    return local.url


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Requests:
    """Counts the requests of all clients of directories."""
    log = Requests()
    for verb in ("get", "get_range", "put", "swap", "list"):
        own = getattr(FileDriver, verb)

        def counted(
            self: FileDriver, key: str, *args: Any, own: Any = own, verb: str = verb, **how: Any
        ) -> Any:
            found = own(self, key, *args, **how)
            data = getattr(found, "data", found)
            log.append((verb, key, len(data) if isinstance(data, bytes) else 0))
            return found

        monkeypatch.setattr(FileDriver, verb, counted)
    return log
