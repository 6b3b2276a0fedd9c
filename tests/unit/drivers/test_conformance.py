"""Our own drivers against the public suite."""

from __future__ import annotations

import pytest
from servers import Remote

from dorky.drivers import open_driver
from dorky.drivers.base import Driver
from dorky.testing import DriverConformance


class OpenEpoch(DriverConformance):
    remote: Remote

    def make_driver(self) -> Driver:
        return open_driver(self.remote.url, self.remote.options)


class TestFile(OpenEpoch):
    @pytest.fixture(autouse=True)
    def place(self, file_url: Remote) -> None:
        self.remote = file_url


class TestS3(OpenEpoch):
    listed = 250

    @pytest.fixture(autouse=True)
    def place(self, s3_url: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
        # As many keys as SeaweedFS sends at a time, `TestSeaweedFS` writes.
        monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "100")
        self.remote = s3_url


class TestGCS(OpenEpoch):
    listed = 50  # the emulator knows no pages

    @pytest.fixture(autouse=True)
    def place(self, gcs_url: Remote) -> None:
        self.remote = gcs_url


@pytest.mark.deep
class TestSeaweedFS(OpenEpoch):
    @pytest.fixture(autouse=True)
    def place(self, seaweedfs_url: Remote) -> None:
        self.remote = seaweedfs_url
