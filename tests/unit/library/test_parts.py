"""Uploads in parts that the caller produces."""

from __future__ import annotations

import io
import random
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from backends import Backend
from machines import noise
from servers import Remote
from teams import admit, cloned, start

import dorky
from dorky import errors
from dorky.client import ABSENT, DorkyClient

MiB = 1 << 20
SIZE = 3 * MiB
PARTS = [noise(SIZE, n) for n in range(6)]


def stored(place: Remote) -> set[str]:
    """The packs in a directory, listed or not."""
    found = Path(place.url) / "packs"
    return {path.name for path in found.iterdir()} if found.exists() else set()


@pytest.mark.parametrize("compress", ["zstd", "none"])
def test_parts_become_a_file(client: DorkyClient, backend: Backend, compress: str) -> None:
    upload = client.start_upload(
        "models/x", metadata={"run": "7"}, content_type="model/x", compress=compress
    )
    order = [*enumerate(PARTS)]
    random.Random(1).shuffle(order)
    with ThreadPoolExecutor(4) as pool:
        [*pool.map(lambda item: upload.put_part(*item), order)]
    assert upload.parts == dict.fromkeys(range(6), SIZE)
    other = backend.client(client.url)
    assert not other.exists("models/x")
    info = upload.complete("six parts")
    whole = b"".join(PARTS)
    assert (info.size, info.custom, info.content_type) == (len(whole), {"run": "7"}, "model/x")
    assert other.read("models/x") == whole
    assert other.stat("models/x").content_hash == info.content_hash
    assert next(other.log()).message == "six parts"
    # It is the file that an upload makes, as far as anybody can tell.
    assert client.upload(whole, "models/x", metadata={"run": "7"}, force=True).size == len(whole)


def test_what_was_put_is_not_sent_again(local: DorkyClient, file_url: Remote) -> None:
    """Not by a repeat, not by what others commit meanwhile, and not by the commit."""
    upload = local.start_upload("x")
    for n, part in enumerate(PARTS):
        upload.put_part(n, part)
    sent = stored(file_url)
    assert len(sent) == len(PARTS)
    for n, part in enumerate(PARTS):
        upload.put_part(n, io.BytesIO(part))
    assert stored(file_url) == sent
    local.upload(noise(300_000, 9), "between")
    between = stored(file_url) - sent
    upload.complete()
    late = stored(file_url) - sent - between
    size = sum((Path(file_url.url) / "packs" / name).stat().st_size for name in late)
    assert size < 100_000
    assert local.read("x") == b"".join(PARTS)
    assert stored(file_url) >= sent


def test_a_part_is_replaced(local: DorkyClient, file_url: Remote, backend: Backend) -> None:
    upload = local.start_upload("x")
    upload.put_part(7, PARTS[0])
    replaced = stored(file_url)
    upload.put_part(7, PARTS[1])
    upload.put_part(3, b"small")
    assert upload.complete().size == SIZE + 5
    assert backend.client(local.url).read("x") == b"small" + PARTS[1]
    assert not stored(file_url) & replaced


def test_small_parts_and_equal_ones(local: DorkyClient, backend: Backend) -> None:
    upload = local.start_upload("small")
    for n in (2, 1):
        upload.put_part(n, b"%d" % n)
    assert upload.complete() == upload.complete()
    zeros = local.start_upload("zeros")
    for n in range(4):
        zeros.put_part(n, bytes(SIZE))
    zeros.complete()
    other = backend.client(local.url)
    assert other.read("small") == b"12"
    assert other.read("zeros") == bytes(4 * SIZE)


@pytest.mark.parametrize("how", ["abort", "exception", "left"])
def test_an_upload_that_is_given_up_leaves_nothing(
    local: DorkyClient, file_url: Remote, how: str
) -> None:
    local.upload(noise(300_000, 9), "other")
    before = stored(file_url)
    upload = local.start_upload("x")
    if how == "abort":
        upload.put_part(0, PARTS[0])
        upload.abort()
        upload.abort()
    else:
        with pytest.raises(RuntimeError) if how == "exception" else upload, upload:
            upload.put_part(0, PARTS[0])
            if how == "exception":
                raise RuntimeError
    assert stored(file_url) == before
    for call in (lambda: upload.put_part(1, b"x"), upload.complete):
        with pytest.raises(errors.UsageError, match="has ended"):
            call()
    assert not local.exists("x")


def test_what_another_upload_has_taken_over_is_not_deleted(
    local: DorkyClient, backend: Backend
) -> None:
    """The same bytes go up as a file while the parts do."""
    upload = local.start_upload("x")
    upload.put_part(0, PARTS[0])
    local.upload(PARTS[0], "y")
    upload.abort()
    assert backend.client(local.url).read("y") == PARTS[0]


def test_the_commit_meets_what_others_do(local: DorkyClient, backend: Backend) -> None:
    local.upload(b"1", "x")
    other = backend.client(local.url)
    uploads = [
        local.start_upload("x"),
        local.start_upload("new", if_version=ABSENT),
        local.start_upload("x", force=True),
    ]
    for upload in uploads:
        upload.put_part(0, PARTS[0])
    other.upload(b"2", "x")
    other.upload(b"2", "new")
    for upload in uploads[:2]:
        with pytest.raises(dorky.UpdateConflict):
            upload.complete()
    assert uploads[2].complete(idempotency_key="k").size == SIZE
    assert other.read("x") == PARTS[0]
    assert other.read("new") == b"2"


def test_parts_outlive_a_collection_and_stale_ones_do_not(
    tmp_path: Path, file_url: Remote, backend: Backend
) -> None:
    ana = start(tmp_path, file_url)
    client = backend.client(file_url.url, identity=ana.identity)
    stale, upload = client.start_upload("stale"), client.start_upload("x")
    stale.put_part(0, PARTS[0])
    upload.put_part(0, PARTS[1])
    packs = stored(file_url)
    for _ in range(2):
        ana("gc", "--remote", "--grace", "0")
    assert not stored(file_url) & packs
    upload.put_part(1, PARTS[2])
    assert upload.complete().size == 2 * SIZE
    assert backend.client(file_url.url, identity=ana.identity).read("x") == PARTS[1] + PARTS[2]


def test_keys_change_between_the_parts_and_the_commit(
    tmp_path: Path, file_url: Remote, backend: Backend
) -> None:
    ana = start(tmp_path, file_url)
    client = backend.client(file_url.url, identity=ana.identity)
    upload = client.start_upload("x")
    upload.put_part(0, PARTS[0])
    old = stored(file_url)
    ana("rotate")
    assert upload.complete().size == SIZE
    assert not stored(file_url) & old
    assert backend.client(file_url.url, identity=ana.identity).read("x") == PARTS[0]


def test_a_reader_sends_nothing(tmp_path: Path, file_url: Remote, backend: Backend) -> None:
    ana = start(tmp_path, file_url)
    ben = cloned(ana, "ben")
    admit(ana, ben, "ben", role="reader")
    client = backend.client(file_url.url, identity=ben.identity)
    with pytest.raises(dorky.ForbiddenError):
        client.start_upload("x")


def test_what_is_no_part(local: DorkyClient) -> None:
    upload = local.start_upload("x")
    for n, data in ((0, b""), (-1, b"x"), (0, 7), (0, iter(["text"]))):
        with pytest.raises(dorky.BadRequestError):
            upload.put_part(n, data)  # type: ignore[arg-type]
    with pytest.raises(errors.UsageError, match="no part"):
        upload.complete()
    upload.put_part(0, b"x")
    local.close()
    with pytest.raises(errors.UsageError, match="was closed"):
        upload.complete()


def test_parts_take_bounded_memory(local: DorkyClient) -> None:
    def blocks() -> object:
        chance = random.Random(1)
        return (chance.randbytes(MiB) for _ in range(150))

    upload = local.start_upload("x", compress="none")
    tracemalloc.start()
    try:
        upload.put_part(0, blocks())  # type: ignore[arg-type]
        upload.complete()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 120 * MiB


@pytest.mark.every_loop
def test_two_threads_complete_once(local: DorkyClient) -> None:
    upload = local.start_upload("x")
    upload.put_part(0, PARTS[0])
    ready = threading.Barrier(4)

    def complete(_: int) -> str:
        ready.wait(30)
        return upload.complete().version

    with ThreadPoolExecutor(4) as pool:
        assert len({*pool.map(complete, range(4))}) == 1
    assert len([*local.versions("x")]) == 1
