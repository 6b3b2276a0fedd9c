"""Fixtures for all tests: a hermetic environment, and remotes on real servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
from hypothesis import settings
from machines import Machine
from servers import Remote, RequestLog, Server

from dorky.repo import Repository

pytest.register_assert_rewrite("attacks", "clones", "dorky.testing", "teams", "watcher")

# Of what does not say how many: the suite has four minutes. `--deep` runs what needs more.
settings.register_profile("quick", max_examples=60)
settings.load_profile("quick")

_OURS = ("AWS_", "GOOGLE_", "GCE_", "CLOUDSDK_", "STORAGE_EMULATOR_HOST", "DORKY_", "GIT_", "XDG_")


@pytest.fixture(autouse=True)
def hermetic(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing of whoever runs the tests gets in: no home, credentials, configuration or proxy.

    Returns:
        The empty directory that is HOME.
    """
    for name in os.environ:
        if name.startswith(_OURS) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    # No waiting for the metadata servers of clouds that we are not in.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    with servers.moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def rclone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers.rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[Server]:
    with servers.gcs_server() as server:
        yield server


@pytest.fixture
def s3_url(s3_server: Server) -> Remote:
    endpoint = s3_server.endpoint
    return s3_server.remote("s3", servers.s3_options(endpoint), servers.s3_env(endpoint))


@pytest.fixture
def rclone_url(rclone_server: Server) -> Remote:
    endpoint = rclone_server.endpoint
    return rclone_server.remote("s3", servers.s3_options(endpoint), servers.s3_env(endpoint))


@pytest.fixture
def gcs_url(gcs_server: Server, monkeypatch: pytest.MonkeyPatch) -> Remote:
    """Also sets the variable in this process: Google's library itself reads it."""
    env = {"STORAGE_EMULATOR_HOST": gcs_server.endpoint}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return gcs_server.remote("gs", {}, env)


@pytest.fixture
def file_url(tmp_path_factory: pytest.TempPathFactory) -> Remote:
    """A directory that does not exist yet; the log stays empty."""
    return Remote(str(tmp_path_factory.mktemp("remote") / "vault"), {}, {}, RequestLog())


@pytest.fixture(params=["file", "s3", "gcs"])
def remote(request: pytest.FixtureRequest) -> Remote:
    """A fresh place of every kind in turn."""
    found: Remote = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """A project without commits, and the current directory."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    made, _ = Repository.init()
    with made:
        yield made


@pytest.fixture
def ana(tmp_path: Path) -> Machine:
    """A computer without any project."""
    return Machine(tmp_path / "ana", {})


@pytest.fixture
def shared(project: Machine, file_url: Remote) -> Machine:
    """The module's ``project``, pushed into a directory."""
    project("remote", "add", "origin", file_url.url)
    project("push")
    return project
