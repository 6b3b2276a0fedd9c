"""The suite of fsspec's own for file systems, on every kind of remote."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec.tests.abstract as abstract
import pytest
import servers
from servers import Server

from dorky.client import DorkyClient
from dorky.extras.fsspec import DorkyFileSystem


class Fixtures(abstract.AbstractFixtures):  # type: ignore[misc]
    @pytest.fixture
    def fs_path(self) -> str:
        """One repository serves all tests, each in a directory of its own."""
        return uuid.uuid4().hex

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield patch


def opened(url: str, home: pytest.MonkeyPatch) -> DorkyFileSystem:
    client = DorkyClient.create(url, unencrypted=True)
    identity = Path.home() / ".dorky" / "identity"
    home.setenv("DORKY_IDENTITY_FILE", str(identity))
    return DorkyFileSystem(client.url, unencrypted=True, skip_instance_cache=True)


class OnFiles(Fixtures):
    @pytest.fixture(scope="module")
    @classmethod
    def fs(
        cls, tmp_path_factory: pytest.TempPathFactory, home: pytest.MonkeyPatch
    ) -> Iterator[DorkyFileSystem]:
        made = opened(str(tmp_path_factory.mktemp("remote") / "vault"), home)
        yield made
        made.client.close()


class TestCopy(abstract.AbstractCopyTests, OnFiles):  # type: ignore[misc]
    pass


class TestGet(abstract.AbstractGetTests, OnFiles):  # type: ignore[misc]
    pass


class TestPut(abstract.AbstractPutTests, OnFiles):  # type: ignore[misc]
    pass


class TestPipe(abstract.AbstractPipeTests, OnFiles):  # type: ignore[misc]
    pass


class TestOpen(abstract.AbstractOpenTests, OnFiles):  # type: ignore[misc]
    pass


class OnS3(Fixtures):
    @pytest.fixture(scope="module")
    @classmethod
    def fs(cls, s3_server: Server, home: pytest.MonkeyPatch) -> Iterator[DorkyFileSystem]:
        place = s3_server.remote("s3", {}, {})
        for name, value in servers.s3_env(s3_server.endpoint).items():
            home.setenv(name, value)
        made = opened(place.url, home)
        yield made
        made.client.close()


class OnGCS(Fixtures):
    @pytest.fixture(scope="module")
    @classmethod
    def fs(cls, gcs_server: Server, home: pytest.MonkeyPatch) -> Iterator[DorkyFileSystem]:
        place = gcs_server.remote("gs", {}, {})
        home.setenv("STORAGE_EMULATOR_HOST", gcs_server.endpoint)
        made = opened(place.url, home)
        yield made
        made.client.close()


@pytest.mark.deep
class TestCopyOnS3(abstract.AbstractCopyTests, OnS3):  # type: ignore[misc]
    pass


@pytest.mark.deep
class TestGetOnS3(abstract.AbstractGetTests, OnS3):  # type: ignore[misc]
    pass


@pytest.mark.deep
class TestPutOnS3(abstract.AbstractPutTests, OnS3):  # type: ignore[misc]
    pass


class TestPipeOnS3(abstract.AbstractPipeTests, OnS3):  # type: ignore[misc]
    pass


class TestOpenOnS3(abstract.AbstractOpenTests, OnS3):  # type: ignore[misc]
    pass


@pytest.mark.deep
class TestCopyOnGCS(abstract.AbstractCopyTests, OnGCS):  # type: ignore[misc]
    pass


@pytest.mark.deep
class TestGetOnGCS(abstract.AbstractGetTests, OnGCS):  # type: ignore[misc]
    pass


@pytest.mark.deep
class TestPutOnGCS(abstract.AbstractPutTests, OnGCS):  # type: ignore[misc]
    pass


class TestPipeOnGCS(abstract.AbstractPipeTests, OnGCS):  # type: ignore[misc]
    pass


class TestOpenOnGCS(abstract.AbstractOpenTests, OnGCS):  # type: ignore[misc]
    pass
