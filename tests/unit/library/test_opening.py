"""Which repository a client opens, with which key, and what it refuses."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from backends import Backend
from machines import Machine
from servers import Remote, Server, s3_env, serving
from teams import admit, cloned, start

import dorky
from dorky import errors
from dorky.client import Config, Credentials, DorkyClient, Retry
from dorky.keys import age

FAST = Retry(tries=2, patience=0.2, patience_offline=0.1, first_delay=0.01)


def test_nothing_is_read_before_the_first_call(tmp_path: Path) -> None:
    client = DorkyClient("s3://nowhere-at-all/x", identity=tmp_path / "none")
    assert "nowhere" in repr(client)
    client.close()


def test_the_environment_names_the_repository(
    url: str, backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.NotARepository):
        backend.client().exists("x")
    monkeypatch.setenv("DORKY_URL", url)
    DorkyClient.from_env().upload(b"x", "x")
    monkeypatch.setenv("DORKY_URL", "")
    directory = Path(url.removeprefix("file://"))
    monkeypatch.setenv("DORKY_BUCKET", f"file://{directory.parent}")
    (tmp_path / directory.name).mkdir()
    monkeypatch.chdir(tmp_path / directory.name)
    assert DorkyClient.from_env(max_age=5).read("x") == b"x"


def test_the_nearest_project_names_it_with_its_pins(
    ana: Machine, file_url: Remote, backend: Backend, tmp_path: Path
) -> None:
    ana("init", file_url.url)
    ana.commit({"a": "1"})
    ana("push")
    rc = ana.project / ".dorkyrc"
    with ana.here():
        (ana.project / "below").mkdir()
        os.chdir(ana.project / "below")
        assert backend.client().read("a") == b"1"
        assert not [*ana.project.rglob("below/*")]
    text = rc.read_text()
    pinned = next(line for line in text.splitlines() if line.startswith("fingerprint"))
    rc.write_text(text.replace(pinned, f'fingerprint = "{"f" * 64}"'))
    with ana.here():
        with pytest.raises(errors.WrongKey):
            backend.client().read("a")
        # A URL of the caller's has nothing to do with the project around.
        assert backend.client(file_url.url).read("a") == b"1"


def test_a_fingerprint_pins_the_key(
    url: str, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(errors.WrongKey):
        backend.client(url, fingerprint="0" * 64).exists("x")
    monkeypatch.setenv("DORKY_FINGERPRINT", "0" * 64)
    with pytest.raises(dorky.IntegrityError):
        backend.client(url).exists("x")


def test_an_unencrypted_repository_is_meant_or_refused(
    place: Remote, backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = backend.create(place.url, unencrypted=True)
    made.upload(b"public", "x")
    place.log.clear()
    stranger = backend.client(place.url)
    for call in (lambda: stranger.upload(b"secret", "y"), lambda: stranger.read("x")):
        with pytest.raises(dorky.UnencryptedRepository):
            call()
    assert place.log.up == 0
    assert backend.client(place.url, unencrypted=True).read("x") == b"public"


def test_a_repository_that_exists(local: DorkyClient, backend: Backend) -> None:
    local.upload(b"x", "x")
    with pytest.raises(errors.RepositoryExists):
        backend.create(local.url)
    assert backend.create(local.url, exist_ok=True).read("x") == b"x"


def test_nothing_is_there(place: Remote, backend: Backend) -> None:
    client = backend.client(place.url)
    for call in (lambda: client.exists("x"), lambda: client.upload(b"x", "x", force=True)):
        with pytest.raises(dorky.NotFoundError) as caught:
            call()
        assert isinstance(caught.value, errors.NoRepositoryAtURL)
        assert not isinstance(caught.value, FileNotFoundError)


# --- keys -----------------------------------------------------------------------------------


def test_the_identity_of_a_worker(
    url: str, backend: Backend, hermetic: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Environment, configuration, home, SSH; and what the caller names comes first."""
    own = hermetic / ".dorky" / "identity"
    secret = own.read_text()
    moved = tmp_path / "moved"
    own.rename(moved)
    with pytest.raises(dorky.UnauthorizedError) as caught:
        backend.client(url).exists("x")
    assert caught.value.status_code == 401
    (line,) = [line for line in secret.splitlines() if line.startswith("AGE-SECRET")]
    assert not backend.client(url, identity=moved).exists("x")
    assert not backend.client(url, identity=line).exists("x")
    monkeypatch.setenv("DORKY_IDENTITY_FILE", str(moved))
    assert not backend.client(url).exists("x")
    monkeypatch.setenv("DORKY_IDENTITY", age.generate().secret)
    with pytest.raises(dorky.ForbiddenError) as denied:
        backend.client(url).exists("x")
    assert isinstance(denied.value, errors.NoKey)
    # Named by the caller, it comes before both, and before a command.
    monkeypatch.setenv("DORKY_IDENTITY_CMD", "false")
    assert not backend.client(url, identity=moved).exists("x")
    monkeypatch.setenv("DORKY_IDENTITY", line)
    assert not backend.client(url).exists("x")


def test_a_reader_reads_alone(tmp_path: Path, file_url: Remote, backend: Backend) -> None:
    ana = start(tmp_path, file_url)
    ben = cloned(ana, "ben")
    admit(ana, ben, "ben", role="reader")
    client = backend.client(file_url.url, identity=ben.identity)
    assert client.read("notes") == b"n\n"
    with pytest.raises(dorky.ForbiddenError) as caught:
        client.upload(b"x", "x")
    assert isinstance(caught.value, errors.NotWriter)
    assert caught.value.status_code == 403
    with pytest.raises(errors.NotWriter):
        client.delete("notes")
    assert [info.path for info in client.list()] == [".env", "env/prod/api.env", "notes"]


# --- pickling -------------------------------------------------------------------------------


def test_a_pickle_carries_the_configuration_and_no_secret(
    url: str, hermetic: Path, backend: Backend
) -> None:
    client = backend.client(url, max_age=3, retry=FAST)
    first = client.upload(b"x", "x")
    again = pickle.loads(pickle.dumps(client))
    assert again.config == client.config
    assert again.read("x") == b"x"
    pinned = pickle.loads(pickle.dumps(client.at(first.version)))
    with pytest.raises(errors.ReadOnlyClient):
        pinned.upload(b"y", "x")
    secret = (hermetic / ".dorky" / "identity").read_text().split()[-1]
    held = backend.client(url, identity=secret)
    with pytest.raises(errors.CantPickle, match="DORKY_IDENTITY"):
        pickle.dumps(held)
    keys = DorkyClient("s3://b/c", credentials=Credentials("AKIA1234", "very secret"))
    with pytest.raises(errors.CantPickle, match="AWS_SECRET_ACCESS_KEY"):
        pickle.dumps(keys)
    for shown in (repr(held), repr(keys)):
        assert secret not in shown
        assert "very secret" not in shown
    assert pickle.loads(pickle.dumps(backend.client(url, identity=hermetic / "x"))).config.identity


# --- storage services -----------------------------------------------------------------------


def test_the_endpoint_and_the_keys_of_the_caller(s3_server: Server, backend: Backend) -> None:
    remote = s3_server.remote("s3", {}, {})
    env = s3_env(s3_server.endpoint)
    keys = Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])
    client = backend.create(
        remote.url, endpoint=s3_server.endpoint, region="us-east-1", credentials=keys
    )
    client.upload(b"x", "x")
    other = backend.client(
        remote.url, config=Config(endpoint=s3_server.endpoint, region="us-east-1"), retry=FAST
    )
    other.set_credentials(keys)
    assert other.read("x") == b"x"
    other.set_credentials(Credentials("AKIAOTHER", "other"))
    assert other.read("x") == b"x"  # the server checks none; what counts is that it is asked again
    assert other.config.credentials == Credentials("AKIAOTHER", "other")


STATUSES = {
    403: (dorky.ForbiddenError, 403, False),
    429: (dorky.RateLimitedError, 429, True),
    500: (dorky.InternalServerError, 500, True),
    503: (dorky.ServiceUnavailableError, 503, True),
}


@pytest.mark.parametrize("status", STATUSES)
def test_each_answer_has_its_error(
    status: int, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    from servers import Canned, stub_server

    kind, code, retryable = STATUSES[status]
    body = "<Error><Code>AccessDenied</Code></Error>" if status == 403 else ""
    with stub_server(lambda *_: Canned(status, body)) as server:
        for name, value in s3_env(server.endpoint).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(kind) as caught:
            backend.client("s3://bucket/x", retry=FAST).exists("x")
        assert (caught.value.status_code, caught.value.retryable) == (code, retryable)
        assert caught.value.__cause__ is not None
        # As often as the configuration says, and no more.
        assert len(server.log) == (FAST.tries if retryable else 1)


def test_the_time_that_a_server_asks_for_is_told(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    from servers import Canned, stub_server

    with stub_server(lambda *_: Canned(429, "{}", {"Retry-After": "7"})) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.endpoint)
        with pytest.raises(dorky.RateLimitedError) as caught:
            backend.client("gs://bucket/x", retry=FAST).exists("x")
        assert caught.value.retry_after == 7.0


def test_nobody_answers(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda *_: None) as endpoint:  # type: ignore[arg-type, return-value]
        gone = endpoint
    for name, value in s3_env(gone).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(errors.Unreachable) as caught:
        backend.client("s3://bucket/x", retry=FAST).exists("x")
    assert (caught.value.status_code, caught.value.retryable) == (503, False)


# --- one process and many -------------------------------------------------------------------


def test_a_client_leaves_nothing_on_the_disk(
    url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("tmp")
    program = (
        "import sys, dorky\n"
        "client = dorky.DorkyClient(sys.argv[1])\n"
        "client.upload(b'secret' * 100_000, 'x')\n"
        "if sys.argv[2] == 'close': client.close(); client.read('x'); client.close()\n"
    )
    for how in ("close", "leave"):
        env = {**os.environ, "TMPDIR": str(place)}
        subprocess.run([sys.executable, "-c", program, url, how], check=True, env=env, timeout=60)
        assert not [*place.iterdir()], how


def test_a_repository_of_another_key_is_not_written_to(
    tmp_path: Path, file_url: Remote, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that has seen a repository refuses another one in its place."""
    client = backend.create(file_url.url)
    client.upload(b"x", "x")
    vault = Path(file_url.url)
    vault.rename(tmp_path / "old")
    backend.create(file_url.url)
    with pytest.raises(dorky.IntegrityError):
        client.upload(b"y", "y")
    with pytest.raises(dorky.IntegrityError):
        client.read("x")
