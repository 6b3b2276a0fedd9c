"""How a client connects: certificates, names, waits and the sizes of parts."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from backends import Backend
from credentials import self_signed
from machines import noise
from servers import Canned, Remote, answering, s3_env, send, stub_server

import dorky
from dorky import errors
from dorky.client import Config, Retry, Timeout

MiB = 1 << 20
ONCE = Retry(tries=1)
PLACES = {"s3": "s3://bucket/x", "gs": "gs://bucket/x"}


@pytest.fixture(params=PLACES)
def scheme(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def named(scheme: str, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a place on a server, which the environment names."""
    env = s3_env(endpoint) if scheme == "s3" else {"STORAGE_EMULATOR_HOST": endpoint}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return PLACES[scheme]


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_what_a_client_trusts(
    tmp_path: Path, backend: Backend, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate of one's own: refused, unless it is named or none matters."""
    bundle, context = self_signed(tmp_path)
    with stub_server(lambda *_: Canned(404), tls=context) as server:
        url = named(scheme, server.endpoint, monkeypatch)
        monkeypatch.setenv("NO_PROXY", "*")
        with pytest.raises(errors.Unreachable, match="certificate"):
            backend.client(url, retry=ONCE).exists("x")
        # A bundle in the environment does not replace what the program has named.
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none"))
        for trusting in ({"ca_bundle": Path(bundle)}, {"verify": False}):
            with pytest.raises(dorky.NotFoundError):
                backend.client(url, retry=ONCE, **trusting).exists("x")


def test_the_name_that_a_server_is_told(
    backend: Backend, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def act(request: Any) -> None:
        told.append(request.headers["User-Agent"])
        send(request, 404, {"Content-Length": "0"}, iter(()))

    with answering(act) as endpoint:
        url = named(scheme, endpoint, monkeypatch)
        with pytest.raises(dorky.NotFoundError):
            backend.client(url, retry=ONCE, user_agent="acme-trainer/7").exists("x")
    assert told
    assert all(name.startswith("acme-trainer/7") for name in told)


@pytest.mark.parametrize(
    "timeout", [Timeout(read=0.2), Timeout(total=0.2), 0.2], ids=["read", "total", "number"]
)
def test_a_server_that_does_not_answer(
    backend: Backend,
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
    timeout: Timeout | float,
) -> None:
    over = threading.Event()
    asked: list[str] = []

    def act(request: Any) -> None:
        asked.append(request.path)
        over.wait(30)

    with answering(act) as endpoint:
        try:
            url = named(scheme, endpoint, monkeypatch)
            patient = Retry(tries=3, first_delay=0.001)
            with pytest.raises(dorky.TimeoutError):
                backend.client(url, retry=patient, timeout=timeout).exists("x")
        finally:
            over.set()
    # A request that has used up all of its time is not sent again.
    whole = timeout if isinstance(timeout, float) else timeout.total
    assert len(asked) == (1 if whole else 3)


def test_the_size_of_parts(file_url: Remote, backend: Backend) -> None:
    client = backend.create(file_url.url, part_size=8 * MiB)
    client.upload(noise(30 * MiB, 1), "x")
    sizes = sorted(pack.stat().st_size for pack in (Path(file_url.url) / "packs").iterdir())
    assert len(sizes) == 4
    assert sizes[-1] < 13 * MiB
    assert client.read("x") == noise(30 * MiB, 1)


@pytest.mark.parametrize(
    "given",
    [
        {"part_size": 1},
        {"part_size": 1 << 30},
        {"chunk_size": 0},
        {"max_concurrency": 0},
        {"timeout": 0},
        {"timeout": Timeout(read=-1)},
    ],
    ids=str,
)
def test_numbers_that_can_not_be(given: dict[str, Any], backend: Backend) -> None:
    with pytest.raises(dorky.BadRequestError):
        backend.client("s3://bucket/x", **given)
    with pytest.raises(dorky.BadRequestError):
        Config(**given)
