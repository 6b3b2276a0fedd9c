"""The asynchronous client's own features: loops, cancellation, sources and iterators."""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from loops import LOOPS
from machines import noise
from servers import Remote
from slow import slowed

from dorky import (
    AsyncBatch,
    AsyncDorkyClient,
    AsyncItems,
    AsyncUploadSession,
    Batch,
    DorkyClient,
    UploadSession,
    errors,
)
from dorky.drivers.file import FileDriver
from dorky.format.model import MiB

SOON = 60
"""Far more seconds than anything here takes, unless it never ends."""

Run = Callable[[Callable[[], Awaitable[object]]], None]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine function on each kind of loop in turn."""
    backend, options = LOOPS[request.param]

    def to_its_end(work: Callable[[], Awaitable[object]]) -> None:
        async def bounded() -> None:
            with anyio.fail_after(240):
                await work()

        anyio.run(bounded, backend=backend, backend_options=options)

    return to_its_end


@pytest.fixture
def vault(file_url: Remote) -> str:
    """A repository in a directory."""
    DorkyClient.create(file_url.url).close()
    return file_url.url


@contextlib.asynccontextmanager
async def cancelled_when(moment: threading.Event) -> AsyncIterator[anyio.CancelScope]:
    """Cancel a block when something has happened in a thread."""
    async with anyio.create_task_group() as group:

        async def watch(scope: anyio.CancelScope) -> None:
            await anyio.to_thread.run_sync(moment.wait, SOON, abandon_on_cancel=True)
            scope.cancel()

        with anyio.CancelScope() as scope:
            group.start_soon(watch, scope)
            yield scope
        group.cancel_scope.cancel()


# --- the same names -------------------------------------------------------------------------


def public(of: type) -> dict[str, Any]:
    return {name: member for name, member in vars(of).items() if not name.startswith("_")}


def shape(member: Any) -> list[tuple[str, Any, Any]]:
    """Return the names, kinds and defaults of a method's parameters."""
    function = member.__func__ if isinstance(member, classmethod) else member
    parameters = inspect.signature(function).parameters.values()
    return [(one.name, one.kind, one.default) for one in parameters]


@pytest.mark.parametrize(
    ("sync", "own"),
    [
        (DorkyClient, AsyncDorkyClient),
        (Batch, AsyncBatch),
        (UploadSession, AsyncUploadSession),
    ],
)
def test_every_name_has_the_same_signature(sync: type, own: type) -> None:
    expected, found = public(sync), public(own)
    extra = {AsyncDorkyClient: {"sync"}, AsyncBatch: {"commit"}}.get(own, set())
    assert found.keys() == expected.keys() | extra
    for name, member in expected.items():
        assert type(found[name]) is type(member), name
        if not isinstance(member, property):
            assert shape(found[name]) == shape(member), name
    assert shape(DorkyClient.__init__) == shape(AsyncDorkyClient.__init__)


class Recorded:
    """A client or a batch that does nothing but note in which thread it is called."""

    def __init__(self, threads: dict[str, int]) -> None:
        self._threads = threads

    def __getattr__(self, name: str) -> Any:
        def called(*_: object, **__: object) -> Any:
            self._threads[name] = threading.get_ident()
            return self

        return called

    def __enter__(self) -> Recorded:
        return self.enter()

    def __exit__(self, *_: object) -> None:
        self.exit()

    def __iter__(self) -> Iterator[int]:
        self.iterate()
        yield 1


def test_nothing_that_may_wait_runs_on_the_loop(run: Run) -> None:
    threads: dict[str, int] = {}

    async def use(of: type, made: Any) -> None:
        for name, member in public(of).items():
            if isinstance(member, classmethod | property) or name in {"at", "sync"}:
                continue
            parameters = [*inspect.signature(member).parameters.values()][1:]
            given = ["x" for one in parameters if one.default is one.empty and one.kind < 2]
            found = getattr(made, name)(*given)
            if isinstance(found, Awaitable):
                await found
            elif isinstance(found, AsyncItems):
                assert [item async for item in found] == [1]
            else:
                async with found:
                    pass

    async def all_of_them() -> None:
        async with AsyncDorkyClient("s3://nowhere/x") as client:
            vars(client)["_sync"] = Recorded(threads)
            await use(AsyncDorkyClient, client)
            async with client.batch() as batch:
                await use(AsyncBatch, batch)
            async with client.start_upload("x") as upload:
                await use(AsyncUploadSession, upload)
        assert threading.get_ident() not in threads.values()

    run(all_of_them)
    expected = {*public(DorkyClient), *public(Batch), "iterate", "enter", "exit"}
    assert threads.keys() >= expected - {
        "at",
        "create",
        "from_env",
        "url",
        "config",
        "get_metadata",
    }


def test_a_client_serves_one_loop_after_another(vault: str) -> None:
    client = AsyncDorkyClient(vault)

    async def upload(path: str) -> None:
        assert (await client.upload(b"x", path)).path == path

    for name, (backend, options) in LOOPS.items():
        anyio.run(upload, name, backend=backend, backend_options=options)
    assert sorted(info.path for info in client.sync.list()) == sorted(LOOPS)
    client.sync.close()


def test_without_anyio_an_error_names_the_extra() -> None:
    program = (
        "import sys; sys.modules['anyio'] = None\n"
        "from dorky import *\n"
        "DorkyClient('s3://b/c')\n"
        "try: AsyncDorkyClient('s3://b/c')\n"
        "except DorkyError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True
    )
    assert "pip install 'dorky-client[async]'" in done.stdout


# --- commits that are shared ----------------------------------------------------------------


@pytest.fixture
def swaps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that were swapped; each swap takes as long as over a network."""
    keys: list[str] = []
    swap = FileDriver.swap

    def counted(self: FileDriver, key: str, *args: Any, **kwargs: Any) -> Any:
        keys.append(key)
        time.sleep(0.025)
        return swap(self, key, *args, **kwargs)

    monkeypatch.setattr(FileDriver, "swap", counted)
    return keys


def test_two_hundred_uploads_share_a_few_swaps(run: Run, vault: str, swaps: list[str]) -> None:
    async def upload() -> None:
        async with AsyncDorkyClient(vault) as client:
            async with anyio.create_task_group() as group:
                for n in range(200):
                    group.start_soon(client.upload, f"{n}".encode() * 100, f"dir/{n}")
            assert len([info async for info in client.list("dir")]) == 200

    run(upload)
    assert swaps.count("root") <= 5


# --- cancellation ---------------------------------------------------------------------------


def test_a_cancelled_download_closes_the_connection_and_leaves_no_file(
    run: Run, s3_url: Remote, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in s3_url.env.items():
        monkeypatch.setenv(name, value)
    size = 12 * MiB
    with DorkyClient.create(s3_url.url) as made:
        made.upload(noise(size), "big")
    with slowed(s3_url.env["AWS_ENDPOINT_URL"]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)

        async def download() -> None:
            async with AsyncDorkyClient(s3_url.url) as client:
                assert await client.exists("big")
                server.pause = 0.02
                async with cancelled_when(server.begun) as scope:
                    await client.download("big", tmp_path / "out")
                assert scope.cancelled_caught
                assert await anyio.to_thread.run_sync(server.hung_up.wait, SOON)
                with anyio.fail_after(SOON):  # on a busy machine the thread ends a bit later
                    while [*tmp_path.iterdir()]:
                        await anyio.sleep(0.01)
                assert server.passed < size
                server.pause = 0
                assert await client.read("big", end=5) == noise(size)[:5]

        run(download)


class Gate:
    """A method of the driver that waits until it is let go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()
        self.shut = False
        work = getattr(FileDriver, name)

        @functools.wraps(work)
        def gated(*args: Any, **kwargs: Any) -> Any:
            if self.shut:
                self.reached.set()
                assert self.go.wait(SOON)
            return work(*args, **kwargs)

        monkeypatch.setattr(FileDriver, name, gated)


def test_what_is_cancelled_during_the_swap_is_there_whole(
    run: Run, vault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = Gate(monkeypatch, "swap")

    async def upload() -> None:
        async with AsyncDorkyClient(vault) as client:
            await client.upload(b"old", "old")
            swap.shut = True
            async with anyio.create_task_group() as group:
                with anyio.CancelScope() as scope:

                    async def interrupt() -> None:
                        await anyio.to_thread.run_sync(swap.reached.wait, SOON)
                        scope.cancel()
                        await anyio.sleep(0.5)  # the upload outlives its cancellation
                        swap.go.set()

                    group.start_soon(interrupt)
                    await client.upload(b"new", "new")
            # It had begun to take effect, so it was waited for.
            assert scope.cancelled_caught
            assert swap.go.is_set()
            assert client.sync.read("new") == b"new"

    run(upload)


@pytest.mark.parametrize("how", ["upload", "open", "batch", "folder"])
def test_what_is_cancelled_before_the_swap_is_not_there(
    run: Run, vault: str, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put = Gate(monkeypatch, "put")
    data = noise(3 * MiB)
    (tmp_path / "big").write_bytes(data)

    async def write(client: AsyncDorkyClient) -> None:
        if how == "upload":
            await client.upload(data, "big")
        elif how == "folder":
            await client.upload_folder(tmp_path)
        elif how == "open":
            async with client.open("big", "wb") as file:
                await file.write(data)
        else:
            async with client.batch() as batch:
                await batch.upload(data, "big")

    async def upload() -> None:
        async with AsyncDorkyClient(vault) as client:
            await client.upload(b"old", "old")
            put.shut = True
            async with cancelled_when(put.reached) as scope:
                await write(client)
            assert scope.cancelled_caught
            assert not await client.exists("big")  # though the store has not answered yet
            put.shut = False
            put.go.set()
            await client.upload(b"after", "after")
            await write(client)
            assert await client.read("big") == data
            assert len([commit async for commit in client.log()]) == 3

    run(upload)


def test_those_who_wait_for_a_commit_leave_at_once(
    run: Run, vault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = Gate(monkeypatch, "swap")

    async def upload() -> None:
        async with AsyncDorkyClient(vault) as client:
            await client.upload(b"old", "old")
            swap.shut = True
            async with anyio.create_task_group() as group:
                group.start_soon(client.upload, b"x", "first")
                await anyio.to_thread.run_sync(swap.reached.wait, SOON)
                waiting = threading.Event()
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as others:
                        for n in range(3):
                            others.start_soon(client.upload, b"x", f"late/{n}")
                        while len(client.sync._scope.session.waiting) < 3:
                            await anyio.sleep(0.01)
                        waiting.set()
                        scope.cancel()
                assert waiting.is_set()
                assert not swap.go.is_set()
                swap.shut = False
                swap.go.set()
            await client.upload(b"x", "last")
            assert [info.path async for info in client.list()] == ["first", "last", "old"]

    run(upload)


def test_a_block_that_fails_commits_nothing(run: Run, vault: str) -> None:
    async def write(client: AsyncDorkyClient) -> None:
        async with client.open("x", "wb") as file:
            await file.write(b"x" * 3 * MiB)
            raise ZeroDivisionError

    async def wait(client: AsyncDorkyClient) -> None:
        with anyio.move_on_after(0.1):
            async with client.open("x", "wb") as file, client.batch() as batch:
                await file.write(b"x" * 3 * MiB)
                await batch.upload(b"x", "y")
                await anyio.sleep(SOON)

    async def both() -> None:
        async with AsyncDorkyClient(vault) as client:
            with pytest.raises(ZeroDivisionError):
                await write(client)
            await wait(client)
            assert not [info async for info in client.list()]
            unopened = client.open("x")
            with pytest.raises(errors.UsageError, match="async with"):
                await unopened.read()
            with pytest.raises(errors.UsageError, match="async with"):
                await client.batch().delete("x")

    run(both)


# --- iterators ------------------------------------------------------------------------------


class Endless:
    """A generator that never ends, and that says whether it is closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.yielded = 0
        self.thread = 0

    def __call__(self) -> Iterator[int]:
        try:
            while True:
                yield self.yielded
                self.yielded += 1
        finally:
            self.thread = threading.get_ident()
            self.closed.set()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Let nothing that refers to itself be freed."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("how", ["aclose", "break", "drop", "cancel"])
def test_an_iterator_that_ends_early_closes_what_it_reads(run: Run, vault: str, how: str) -> None:
    async def iterate() -> None:
        endless = Endless()
        async with AsyncDorkyClient(vault) as client:
            items = AsyncItems(client._workers, endless)
            assert [await items.__anext__() for _ in range(3)] == [0, 1, 2]
            assert endless.yielded <= 256
            if how == "aclose":
                async with contextlib.aclosing(items):
                    pass
                assert endless.closed.is_set()
                assert [item async for item in items] == []
            elif how == "break":
                async for _ in items:
                    break
            elif how == "cancel":
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    async for _ in items:
                        pass
                assert scope.cancelled_caught
                assert await anyio.to_thread.run_sync(endless.closed.wait, SOON)
                assert [item async for item in items] == []
            del items
            assert await anyio.to_thread.run_sync(endless.closed.wait, SOON)
            assert endless.thread != threading.get_ident()

    run(iterate)


def test_an_iterator_that_is_cancelled_at_work_is_closed_afterwards(run: Run, vault: str) -> None:
    reached, go, closed = threading.Event(), threading.Event(), threading.Event()

    def stuck() -> Iterator[int]:
        try:
            reached.set()
            assert go.wait(SOON)
            yield 1
        finally:
            closed.set()

    async def iterate() -> None:
        async with AsyncDorkyClient(vault) as client:
            items = AsyncItems(client._workers, stuck)
            async with cancelled_when(reached) as scope:
                await items.__anext__()
            assert scope.cancelled_caught
            assert not closed.is_set()
            go.set()
            assert await anyio.to_thread.run_sync(closed.wait, SOON)

    run(iterate)


def test_an_iterator_may_be_closed_unread(run: Run, vault: str) -> None:
    endless = Endless()

    async def close() -> None:
        async with AsyncDorkyClient(vault) as client:
            items = AsyncItems(client._workers, endless)
            await items.aclose()
            assert [item async for item in items] == []
            with anyio.CancelScope() as scope:
                scope.cancel()
                async for _ in AsyncItems(client._workers, endless):
                    pass
            assert scope.cancelled_caught

    run(close)
    assert not endless.closed.is_set()


def test_a_stream_fetches_no_more_than_is_taken(run: Run, vault: str) -> None:
    data = noise(40 * MiB)

    async def stream() -> None:
        async with AsyncDorkyClient(vault) as client:
            await client.upload(data, "x")
            blocks = client.stream("x", chunk_size=1000)
            assert await blocks.__anext__() == data[:1000]
            assert len(blocks._ready) <= MiB // 1000
            await blocks.aclose()
            assert b"".join([block async for block in client.stream("x")]) == data
            with pytest.raises(errors.NoSuchFile):
                await client.stream("none").__anext__()

    run(stream)


# --- sources --------------------------------------------------------------------------------


def test_an_asynchronous_source_is_read_by_one_task(run: Run, vault: str) -> None:
    data = noise(5 * MiB)
    tasks: set[object] = set()
    ended: list[str] = []

    async def blocks(name: str) -> AsyncIterator[Any]:
        try:
            with anyio.fail_after(SOON):  # a scope that spans the blocks
                buffer = bytearray(MiB)
                for at in range(0, len(data), MiB):
                    await anyio.lowlevel.checkpoint()
                    tasks.add(anyio.get_current_task().id)
                    buffer[:] = data[at : at + MiB]  # used again for every block
                    yield buffer
        finally:
            ended.append(name)

    async def upload() -> None:
        async with AsyncDorkyClient(vault) as client:
            info = await client.upload(blocks("one"), "one")
            assert (info.size, len(tasks)) == (len(data), 1)
            assert await client.read("one") == data
            done = await client.upload_batch([(blocks("two"), "two"), (b"3", "three")])
            assert [item.path for item in done.items] == ["two", "three"]
            assert await client.read("two") == data
            async with client.batch() as batch:
                await batch.upload(blocks("four"), "four")
            assert await client.read("four") == data
            with anyio.move_on_after(0.1):
                await client.upload(stalled(), "five")
            assert not await client.exists("five")

    async def stalled() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await anyio.sleep(SOON)
        finally:
            ended.append("five")

    run(upload)
    assert ended == ["one", "two", "four", "five"]


def test_an_error_of_a_source_reaches_the_caller_alone(run: Run, vault: str) -> None:
    async def broken(block: Any) -> AsyncIterator[Any]:
        yield block
        raise ZeroDivisionError

    async def upload() -> None:
        async with AsyncDorkyClient(vault) as client:
            with pytest.raises(ZeroDivisionError):
                await client.upload(broken(b"x"), "x")
            with pytest.raises(errors.UsageError, match="not of str"):
                await client.upload(broken("text"), "x")
            found = await client.upload_batch(
                [(broken(b"x"), "x"), (b"y", "y")], return_exceptions=True
            )
            assert [type(item.error) for item in found.items] == [ZeroDivisionError, type(None)]
            assert [info.path async for info in client.list()] == ["y"]

    run(upload)


def test_progress_comes_from_a_thread(run: Run, vault: str) -> None:
    told: list[int] = []

    async def upload() -> None:
        loop = threading.get_ident()

        def note(_: object) -> None:
            assert threading.get_ident() != loop
            anyio.from_thread.run_sync(lambda: told.append(threading.get_ident() == loop))

        async with AsyncDorkyClient(vault) as client:
            await client.upload(noise(3 * MiB), "x", progress=note)
        assert told
        assert all(told)

    run(upload)
