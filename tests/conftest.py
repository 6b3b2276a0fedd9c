"""Fixtures for all tests: a hermetic environment, and remotes on real servers."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import itertools
import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import servers
import snapshots
import surroundings
from backends import BACKENDS
from hypothesis import HealthCheck, settings
from machines import Machine
from servers import Remote, RequestLog, Server

from dorky.repo import Repository

pytest.register_assert_rewrite("attacks", "clones", "dorky.testing", "teams", "watcher")

# Of what does not say how many: `--deep` runs what needs more.
# Timing never decides whether a test passes.
settings.register_profile(
    "deep", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
# What gates a landing takes the same examples each time: a change is not refused by chance.
settings.register_profile("quick", settings.get_profile("deep"), derandomize=True)

DEEP_LIMIT = 1800


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let one of the ways to call the library run alone, in every kind of place."""
    parser.addoption("--async-backend", choices=BACKENDS, help="the library's tests, in one way")


def pytest_configure(config: pytest.Config) -> None:
    """Take other examples in each run if deep tests are chosen, or a seed."""
    given = config.getoption("hypothesis_seed", None) is not None
    settings.load_profile("deep" if given or config.getoption("-m") == "deep" else "quick")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose how the library is called; give deep tests a longer limit than pyproject.toml's."""
    only = config.getoption("--async-backend")
    if only:
        items[:] = [item for item in items if way(item) == only]
    for item in items:
        # One loop stands for all, in a directory; the rest needs a reason, or to be asked for.
        backend = parameter(item, "backend")
        asyncio, other = backend == "asyncio", backend in {"uvloop", "trio"}
        elsewhere = parameter(item, "remote") not in {None, "file"}
        repeats = other and not item.get_closest_marker("every_loop")
        if not only and (repeats or (elsewhere and (asyncio or other))):
            item.add_marker(pytest.mark.deep)
        # One kind of bucket stands for both where the drivers themselves are not the subject.
        another = parameter(item, "remote") == "gcs" and "unit/drivers/" not in item.nodeid
        if not only and another and not item.get_closest_marker("every_place"):
            item.add_marker(pytest.mark.deep)
    for item in [*repeated(items)]:
        item.add_marker(pytest.mark.deep)
    for item in items:
        if item.get_closest_marker("deep") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(DEEP_LIMIT))


def repeated(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Yield what tests marked `each_value` take beyond each value of each parameter once."""
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("each_value") and not item.get_closest_marker("deep"):
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for pairs in tests.values():
        ids = {item: tuple(item.callspec._idlist) for item in pairs}  # type: ignore[attr-defined]
        values = [[*dict.fromkeys(column)] for column in zip(*ids.values(), strict=True)]
        longest = max(map(len, values))
        taken = {tuple(found[n % len(found)] for found in values) for n in range(longest)}
        yield from (item for item in pairs if ids[item] not in taken)


def way(item: pytest.Item) -> object:
    """Return the way in which a test calls the library; None if it does not choose one."""
    return parameter(item, "backend") or parameter(item, "run")


def parameter(item: pytest.Item, fixture: str) -> object:
    """Return the parameter of a fixture; None if the test does not use it."""
    return item.callspec.params.get(fixture) if hasattr(item, "callspec") else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let no test go on for ever, not even in code that no time limit of Python's interrupts."""
    marker = item.get_closest_marker("timeout")
    given = item.config.getoption("timeout")
    limit = marker.args[0] if marker else float(item.config.getini("timeout"))
    limit = limit if given is None else given
    with surroundings.at_the_latest(limit + 60) if limit else contextlib.nullcontext():
        return (yield)


def pytest_enter_pdb() -> None:
    """Give people all the time that they want in a debugger."""
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session", autouse=True)
def ready() -> Iterator[None]:
    """Let nothing of whoever runs the tests in: see `surroundings`."""
    gc.collect()
    gc.freeze()  # ten thousand tests, and what they import, stay to the end
    with surroundings.made_ready():
        yield


@pytest.fixture
def as_shipped() -> Iterator[None]:
    """A passphrase takes all its work, and a remote is tried out by all its writers."""
    with surroundings.as_shipped():
        yield


_TESTS = itertools.count()
_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether a test has failed."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture
def grounds(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """An empty directory that has the same path in every test, which is what `snapshots` needs.

    Afterwards it has another name, by which a person can look at it. Those of deep tests that have
    passed are deleted: together they would take 60 GB.
    """
    base = tmp_path_factory.getbasetemp()
    now = base / "now"
    now.mkdir(mode=0o700)
    snapshots.Grounds.now = now
    yield now
    if request.node.get_closest_marker("deep") and not request.node.stash.get(_FAILED, False):
        shutil.rmtree(now, ignore_errors=True)
        if not now.exists():
            return
    name = re.sub(r"\W", "_", request.node.name)[:40]
    now.rename(base / f"{next(_TESTS):05}-{name}")


@pytest.fixture
def tmp_path(grounds: Path) -> Path:
    """An empty directory."""
    made = grounds / "tmp"
    made.mkdir()
    return made


@pytest.fixture(autouse=True)
def hermetic(grounds: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an empty HOME. What it patches is put back before its directory is moved.

    Returns:
        That directory.
    """
    home = grounds / "home"
    home.mkdir()
    snapshots.Grounds.patches = monkeypatch
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
def seaweedfs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers.seaweedfs_server(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[Server]:
    with servers.gcs_server() as server:
        yield server


@pytest.fixture
def s3_url(s3_server: Server) -> Iterator[Remote]:
    endpoint = s3_server.endpoint
    yield s3_server.remote("s3", servers.s3_options(endpoint), servers.s3_env(endpoint))
    s3_server.forget()


@pytest.fixture
def rclone_url(rclone_server: Server) -> Remote:
    endpoint = rclone_server.endpoint
    return rclone_server.remote("s3", servers.s3_options(endpoint), servers.s3_env(endpoint))


@pytest.fixture
def seaweedfs_url(seaweedfs_server: Server) -> Remote:
    endpoint = seaweedfs_server.endpoint
    return seaweedfs_server.remote("s3", servers.s3_options(endpoint), servers.s3_env(endpoint))


@pytest.fixture
def gcs_url(gcs_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    """Also sets the variable in this process: Google's library itself reads it."""
    env = {"STORAGE_EMULATOR_HOST": gcs_server.endpoint}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    yield gcs_server.remote("gs", {}, env)
    gcs_server.forget()


@pytest.fixture
def file_url(grounds: Path) -> Remote:
    """A directory that does not exist yet; the log stays empty."""
    place = grounds / "remote"
    place.mkdir()
    return Remote(str(place / "vault"), {}, {}, RequestLog())


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
    snapshots.once([root, Path.home()], lambda: Repository.init()[0].close(), "repo")
    with Repository(root) as made:
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
