"""Many callers: threads, forked and spawned processes, groups of readers, other people."""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from backends import Backend
from machines import Machine, noise
from servers import Remote
from teams import gather

import dorky
from dorky import errors
from dorky.client import ABSENT, DorkyClient
from dorky.format.model import MiB


@pytest.mark.every_loop
def test_threads_share_a_client_and_its_commits(local: DorkyClient) -> None:
    together = threading.Barrier(16)
    big = noise(2 * MiB)

    def upload(n: int) -> None:
        together.wait(30)
        data = big + bytes([n]) if n % 4 == 0 else f"{n}".encode()
        info = local.upload(data, f"dir/{n}")
        assert local.read(info.id) == data
        assert local.read(f"dir/{n}") == data

    with ThreadPoolExecutor(16) as pool:
        [*pool.map(upload, range(16))]
    assert len([*local.list("dir")]) == 16
    commits = [*local.log()]
    assert len(commits) < 16  # some have waited together
    assert sum(len(commit.parents) for commit in commits) == len(commits) - 1


@pytest.mark.every_loop
def test_threads_that_write_one_path(local: DorkyClient) -> None:
    """Of one expectation exactly one upload wins; forced ones all land, each in its own commit."""
    together = threading.Barrier(8)
    won: list[int] = []

    def race(n: int) -> None:
        together.wait(30)
        try:
            local.upload(f"{n}".encode(), "one", if_version=ABSENT)
        except dorky.ConflictError:
            return
        won.append(n)

    def force(n: int) -> None:
        local.upload(f"{n}".encode(), "many", force=True)

    with ThreadPoolExecutor(8) as pool:
        [*pool.map(race, range(8))]
        [*pool.map(force, range(8))]
    assert len(won) == 1
    assert local.read("one") == f"{won[0]}".encode()
    assert sorted(local.read(info.id) for info in local.versions("many")) == sorted(
        f"{n}".encode() for n in range(8)
    )


@pytest.mark.every_loop
def test_a_bad_upload_fails_alone(local: DorkyClient) -> None:
    together = threading.Barrier(6)

    def upload(n: int) -> object:
        together.wait(30)
        try:
            if n == 0:
                return local.upload(iter([b"x", 7]), "bad")  # type: ignore[list-item]
            return local.upload(b"x", "../hostile" if n == 1 else f"good/{n}")
        except dorky.BadRequestError as error:
            return error

    with ThreadPoolExecutor(6) as pool:
        found = [*pool.map(upload, range(6))]
    assert [isinstance(each, dorky.BadRequestError) for each in found] == [True] * 2 + [False] * 4
    assert len([*local.list()]) == 4


def test_an_upload_may_ask_for_a_commit_of_its_own(local: DorkyClient) -> None:
    together = threading.Barrier(8)

    def upload(n: int) -> str:
        together.wait(30)
        return local.upload(b"x", f"{n}", coalesce=False, message=f"m{n}").version

    with ThreadPoolExecutor(8) as pool:
        found = {*pool.map(upload, range(8))}
    assert len(found) == 8
    assert sorted(commit.message for commit in local.log()) == [f"m{n}" for n in range(8)]


# --- processes ------------------------------------------------------------------------------


def put(client: DorkyClient, worker: int, count: int) -> int:
    for n in range(count):
        client.upload(f"{worker} {n}".encode(), f"w{worker}/{n}")
    return os.getpid()


def race(client: DorkyClient, worker: int, version: str) -> bool:
    try:
        client.upload(f"{worker}".encode(), "x", if_version=version)
    except dorky.ConflictError:
        return False
    return True


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_write_with_a_client_that_was_used(
    client: DorkyClient, method: str, place: Remote
) -> None:
    if method == "fork" and place.url.startswith("s3:"):
        pytest.skip("obstore does not survive a fork: see below")
    first = client.upload(b"parent", "x")
    workers = 3
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        jobs = [pool.submit(put, client, n, 4) for n in range(workers)]
        races = [pool.submit(race, client, n, first.version) for n in range(workers)]
        pids = {job.result(200) for job in jobs}
        assert sum(one.result(200) for one in races) == 1
    assert os.getpid() not in pids
    assert len([*client.list()]) == workers * 4 + 1
    assert client.upload(b"after", "after").size == 5


def test_a_fork_after_s3_was_used_is_an_error_and_no_hang(
    s3_url: Remote, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_url.env.items():
        monkeypatch.setenv(name, value)
    client = backend.create(s3_url.url)
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=context) as pool, pytest.raises(errors.UsedBeforeFork):
        pool.submit(put, client, 0, 1).result(60)


def forked(client: DorkyClient) -> int:
    """Use a client in a child that was forked while a thread uses it; return the exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if client.read("x") == b"x" and client.upload(b"child", "child") else 2
        except Exception:  # noqa: BLE001 - the parent sees the code
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.every_loop
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_fork_in_the_middle_of_everything(local: DorkyClient) -> None:
    local.upload(b"x", "x")
    ending = threading.Event()

    def work() -> None:
        n = 0
        while not ending.is_set():
            local.upload(f"{n}".encode(), "busy", force=True)
            n += 1
            ending.wait(0.1)  # it is busy, and leaves the others a chance

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert [forked(local) for _ in range(3)] == [0, 0, 0]
    finally:
        ending.set()
        thread.join(60)
    assert local.read("child") == b"child"
    assert local.upload(b"y", "y")


def count(client: DorkyClient) -> None:
    assert [*client.list()] == []


def test_workers_leave_no_state_behind(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of `multiprocessing` ends without what a program does at its end."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr("tempfile.tempdir", str(place))
    context = multiprocessing.get_context("spawn")
    for _ in range(2):
        worker = context.Process(target=count, args=(DorkyClient(url),))
        worker.start()
        worker.join(60)
        assert worker.exitcode == 0
    with DorkyClient(url) as client:
        count(client)
        assert len([*place.glob("dorky-*")]) == 1  # its own
    assert [*place.glob("dorky-*")] == []


@pytest.mark.deep
def test_eight_processes_and_fifty_paths(client: DorkyClient) -> None:
    version = client.upload(b"x", "x").version
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(8, mp_context=context) as pool:
        jobs = [pool.submit(put, client, n, 50) for n in range(8)]
        [job.result(1500) for job in jobs]
        races = [pool.submit(race, client, n, version) for n in range(8)]
        assert sum(one.result(300) for one in races) == 1
    assert len([*client.list()]) == 401


# --- the command line, and groups -----------------------------------------------------------


def test_the_command_line_sees_uploads_and_keeps_what_they_note(
    ana: Machine, file_url: Remote, backend: Backend
) -> None:
    ana("init", file_url.url, "--name", "ana")
    ana.commit({"a": "1"})
    ana("push")
    client = backend.client(file_url.url, identity=ana.identity)
    client.upload(b"data", "b.bin", metadata={"k": "v"}, content_type="x/y", message="from Python")
    ana("pull")
    assert ana.read("b.bin") == b"data"
    assert "from Python" in ana("log").out
    ana.commit({"a": "2"})
    ana("push")
    info = client.stat("b.bin")
    assert (info.custom, info.content_type) == ({"k": "v"}, "x/y")
    assert info.uploaded_by == "ana"
    assert client.read("a") == b"2"
    client.set_metadata("b.bin", {"k": "w"})
    ana("pull")
    assert ana("status", "--json").json["unstaged"] == []
    assert client.stat("b.bin").custom == {"k": "w"}
    ana("fsck", "--remote", "--read-data")


def test_groups_are_closed_to_others(tmp_path: Path, file_url: Remote, backend: Backend) -> None:
    team = gather(tmp_path, file_url)
    team.ana("group", "add", "prod", "env/prod/**", "--member", "ana", "--member", "ben")
    insider = backend.client(file_url.url, identity=team.ben.identity)
    outsider = backend.client(file_url.url, identity=team.cleo.identity)
    insider.upload(b"P=2\n", "env/prod/api.env")
    insider.upload(noise(MiB), "env/prod/big")
    assert outsider.upload(b"open", "notes").path == "notes"
    for call in (
        lambda: outsider.upload(b"x", "env/prod/new"),
        lambda: outsider.copy("notes", "env/prod/new"),
        lambda: outsider.move("notes", "env/prod/new"),
    ):
        with pytest.raises(dorky.ForbiddenError) as caught:
            call()
        assert isinstance(caught.value, errors.ForeignGroup)
    with pytest.raises(dorky.NotFoundError):
        outsider.read("env/prod/api.env")
    assert not [*outsider.list("env/prod")]
    assert outsider.is_closed("env/prod/new")
    assert not outsider.is_closed("env/new")
    assert not insider.is_closed("env/prod/new")
    with pytest.raises(errors.UnstorablePath):
        outsider.is_closed("env/../notes")
    assert outsider.at(outsider.stat("notes").version).is_closed("env/prod/new")
    team.ana("group", "members", "prod", "--add", "cleo")
    assert not outsider.is_closed("env/prod/new")
    team.ana("group", "members", "prod", "--remove", "cleo")
    assert outsider.is_closed("env/prod/new")
    assert len([*insider.list("env/prod")]) == 2
    # What others upload leaves the group's files as they are.
    assert insider.read("env/prod/api.env") == b"P=2\n"
    for path in ("env/prod/api.env", "env/prod/big"):
        with pytest.raises(errors.WouldOpen):
            insider.copy(path, "leak")
        with pytest.raises(errors.WouldOpen):
            insider.move(path, "leak")
    assert insider.copy("notes", "env/prod/notes").path == "env/prod/notes"
    assert insider.read("env/prod/notes") == b"open"
    assert not outsider.exists("env/prod/notes")
    team.ana("pull")
    team.ana("fsck", "--remote", "--read-data")


def test_a_batch_keeps_groups_apart(tmp_path: Path, file_url: Remote, backend: Backend) -> None:
    team = gather(tmp_path, file_url)
    team.ana("group", "add", "prod", "env/prod/**", "--member", "ana", "--member", "ben")
    insider = backend.client(file_url.url, identity=team.ben.identity)
    outsider = backend.client(file_url.url, identity=team.cleo.identity)
    with insider.batch() as batch:
        for path, data in {"small": b"open", "big": noise(MiB)}.items():
            batch.upload(data, path)
            batch.copy(path, f"env/prod/{path}")  # encrypted for the group, too
    for path, data in {"small": b"open", "big": noise(MiB)}.items():
        assert insider.read(f"env/prod/{path}") == outsider.read(path) == data
        assert not outsider.exists(f"env/prod/{path}")

    def leak(kept: int) -> None:
        with insider.batch() as batch:
            batch.upload(noise(kept), "env/prod/new")
            batch.upload(b"x", "innocent")
            batch.move("env/prod/new", "leak")

    for size in (10, MiB):
        with pytest.raises(errors.WouldOpen):
            leak(size)
    with pytest.raises(errors.WouldOpen), insider.batch() as batch:
        batch.copy("env/prod/big", "leak")
    with pytest.raises(errors.ForeignGroup), outsider.batch() as batch:
        batch.copy("small", "env/prod/mine")
    assert {info.path for info in outsider.list()} >= {"small", "big"}
    assert not {info.path for info in insider.list()} & {"leak", "innocent", "env/prod/mine"}
    team.ana("pull")
    team.ana("fsck", "--remote", "--read-data")


def test_a_group_that_begins_while_a_client_is_open(
    tmp_path: Path, file_url: Remote, backend: Backend
) -> None:
    team = gather(tmp_path, file_url)
    insider = backend.client(file_url.url, identity=team.ana.identity, max_age=1000)
    outsider = backend.client(file_url.url, identity=team.cleo.identity, max_age=1000)
    assert insider.exists("notes")
    assert outsider.exists("notes")
    team.ana("group", "add", "new", "closed/**", "--member", "ana", "--member", "ben")
    insider.upload(noise(MiB), "closed/x")
    with pytest.raises(errors.ForeignGroup):
        outsider.upload(b"x", "closed/y")
    ben = backend.client(file_url.url, identity=team.ben.identity)
    assert ben.read("closed/x") == noise(MiB)
    assert not outsider.exists("closed/x")


def test_a_copy_into_another_repository(
    local: DorkyClient, backend: Backend, tmp_path: Path
) -> None:
    other = backend.create(str(tmp_path / "other"))
    data = noise(3 * MiB)
    first = local.upload(data, "a.bin", metadata={"k": "v"}, compress="gzip")
    local.upload(b"newer", "a.bin")
    info = local.copy(first.id, "b.bin", to=other)
    assert other.read("b.bin") == data
    assert (info.custom, info.compression) == ({"k": "v"}, "gzip")
    assert info.content_hash == first.content_hash
