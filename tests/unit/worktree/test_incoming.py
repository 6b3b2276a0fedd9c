"""Large files are written while their chunks arrive: whole, verified, and not before all are."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import Faults
from machines import Machine, noise
from servers import Remote

from dorky import errors
from dorky.format import model
from dorky.format.model import ALL, LISTED, Chunk, Chunks, Entry, Kind, MiB, ObjectId
from dorky.repo import Repository
from dorky.store import contents
from dorky.store.history import Placed
from dorky.worktree.incoming import Incoming

LARGE = noise(20 * MiB, 3)
DENIED = errors.AccessDenied("the bucket", "403")


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults.installed(monkeypatch)


@pytest.fixture
def ben(tmp_path: Path, file_url: Remote, faults: Faults) -> Machine:
    """A machine that has yet to pull a large file, a copy of it, and a small one."""
    ana = Machine(tmp_path / "ana", file_url.env)
    ana("init", file_url.url)
    ana.commit({"large": LARGE, "copy": LARGE, ".env": "KEY=1\n"})
    ana("push")
    ben = ana.another("ben")
    ben.write(".dorkyrc", ana.read(".dorkyrc"))
    faults.clear()
    return ben


def ranges(faults: Faults) -> int:
    return sum(verb == "get_range" and key.startswith("packs/") for verb, key in faults.calls)


def test_large_files_arrive_whole(ben: Machine) -> None:
    ben("pull")
    assert ben.read("large") == ben.read("copy") == LARGE
    assert ben("status", "--json").json["unstaged"] == []
    assert list((ben.state / "tmp").iterdir()) == []


def test_each_chunk_is_decrypted_once(ben: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    from dorky.keys.vault import Vault

    read, seen = Vault.read, list[ObjectId]()

    def counting(self: Vault, kind: Kind, object_id: ObjectId, *rest: Any, **more: Any) -> bytes:
        body = read(self, kind, object_id, *rest, **more)
        if kind is Kind.CHUNK and len(body) > 100:
            seen.append(object_id)
        return body

    monkeypatch.setattr(Vault, "read", counting)
    ben("pull")
    assert len(seen) == len(set(seen)) > 4


def test_files_keep_their_modes(tmp_path: Path, file_url: Remote) -> None:
    ana = Machine(tmp_path / "ana", file_url.env)
    ana("init", file_url.url)
    ana.write("tool", noise(MiB), 0o755)
    ana.write("closed", noise(MiB, 2), 0o400)
    ana("stage", ".")
    ana("commit", "-m", "x")
    ana("push")
    ben = ana.another("ben")
    ben("clone", file_url.url, ".")
    assert ben.files() == ana.files()
    assert stat.S_IMODE(ben.files()["closed"][0]) == 0o400


def test_nothing_is_in_place_before_all_has_arrived(ben: Machine, faults: Faults) -> None:
    """And what has arrived is not fetched again."""
    carl = ben.another("carl")
    carl.write(".dorkyrc", ben.read(".dorkyrc"))
    ben("pull")
    whole = ranges(faults)
    faults.clear()

    def stop() -> None:
        if ranges(faults) > 2:
            raise DENIED

    faults.before("get_range", stop, key="packs/", times=whole)
    carl("pull", code=6)
    assert carl.files() == {}
    faults.clear()
    carl("pull")
    assert carl.files() == ben.files()
    assert ranges(faults) < whole


def test_a_range_that_was_altered_replaces_nothing(ben: Machine, faults: Faults) -> None:
    ben("fetch")
    faults.clear()
    faults.after("get_range", lambda data: data[:-99] + bytes([data[-99] ^ 1]) + data[-98:])
    ben("pull", code=7)
    assert ben.files() == {}
    ben("pull")
    assert ben.read("large") == LARGE


def test_local_edits_are_kept(ben: Machine, faults: Faults) -> None:
    ben("pull")
    ana = ben.another("ana again")
    ana.write(".dorkyrc", ben.read(".dorkyrc"))
    ana("pull")
    ana.commit({"large": LARGE[::-1]}, "reversed")
    ana("push")
    ben.write("large", b"mine")
    assert ben("pull", code=5).error
    assert ben.read("large") == b"mine"
    ben("pull", "--force")
    assert ben.read("large") == LARGE[::-1]
    ben("undo", "--force")
    assert ben.read("large") == b"mine"


def test_a_file_that_is_edited_while_its_next_version_arrives(ben: Machine, faults: Faults) -> None:
    ben("pull")
    ana = ben.another("ana again")
    ana.write(".dorkyrc", ben.read(".dorkyrc"))
    ana("pull")
    ana.commit({"large": LARGE[::-1]}, "reversed")
    ana("push")
    ben("fetch")
    faults.clear()
    faults.before("get_range", lambda: ben.write("large", b"mine"), key="packs/")
    ben("pull", code=5)
    assert ben.read("large") == b"mine"


def test_a_disk_that_is_full_while_a_file_arrives(
    ben: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite, done = os.pwrite, list[int]()

    def full(fd: int, data: bytes, offset: int) -> int:
        done.append(offset)
        if len(done) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    assert "No space left" in ben("pull", code=8).error
    assert ben.files() == {}
    assert list((ben.state / "tmp").iterdir()) == []
    monkeypatch.undo()
    ben("pull")
    assert ben.read("large") == LARGE


def test_short_writes_are_continued(ben: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:99_999], at))
    ben("pull")
    assert ben.read("copy") == LARGE


# --- lists and chunks that are not what they should be --------------------------------------


@pytest.fixture
def arriving(repo: Repository) -> Iterator[Callable[..., Incoming]]:
    """Make a file that arrives: its list is in the store, its chunks are not."""
    with repo.worktree.writing() as writing:

        def make(pieces: Chunks, size: int, group: str = ALL) -> Incoming:
            with repo.store.writer() as writer:
                content = writer.add(Kind.CHUNKS, model.encode(pieces))
                writer.save()
            entry = Entry("a", stat.S_IFREG | 0o644, content, size, "")
            made = Incoming(writing, repo.store, {"a": Placed(group, entry)})
            made.begin(())
            assert made.lacking == {ONE, TWO}
            return made

        yield make


ONE, TWO = "ab" * 32, "cd" * 32
PIECES = Chunks((Chunk(ONE, MiB), Chunk(TWO, MiB), Chunk(ONE, MiB)))


def test_a_chunk_is_written_wherever_it_belongs(
    repo: Repository, arriving: Callable[..., Incoming]
) -> None:
    made = arriving(PIECES, 3 * MiB)
    made.take(TWO, ALL, b"2" * MiB)
    with pytest.raises(errors.MissingObject, match=ONE[:10]):
        list(made.complete())
    made.take(ONE, ALL, b"1" * MiB)
    made.take("ef" * 32, ALL, b"not of this file")
    ((path, prepared),) = made.complete()
    written = repo.state / "tmp" / prepared.name
    assert path == "a"
    assert written.read_bytes() == b"1" * MiB + b"2" * MiB + b"1" * MiB


@pytest.mark.parametrize("length", [0, MiB - 1, MiB + 1])
def test_a_chunk_of_another_length(arriving: Callable[..., Incoming], length: int) -> None:
    made = arriving(PIECES, 3 * MiB)
    with pytest.raises(errors.CorruptObject, match="its list says"):
        made.take(TWO, ALL, bytes(length))


@pytest.mark.parametrize("group", [None, "0123456789abcdef"])
def test_a_chunk_for_another_group(arriving: Callable[..., Incoming], group: str | None) -> None:
    made = arriving(PIECES, 3 * MiB)
    with pytest.raises(errors.CorruptObject, match="another group"):
        made.take(TWO, group, bytes(MiB))


@pytest.mark.parametrize("size", [MiB, 3 * MiB - 1, 3 * MiB + 1])
def test_a_list_that_is_not_of_the_file_s_size(
    repo: Repository, arriving: Callable[..., Incoming], size: int
) -> None:
    with pytest.raises(errors.CorruptObject, match="the tree"):
        arriving(PIECES, size)
    assert list((repo.state / "tmp").iterdir()) == []


def test_a_list_of_more_chunks_than_the_file_has_room_for(
    repo: Repository, arriving: Callable[..., Incoming], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists that name one list over and over take little space, and would fill the memory."""
    seen = 0

    def counted(*arguments: Any) -> Iterator[Chunk]:
        nonlocal seen
        for piece in pieces(*arguments):
            seen += 1
            yield piece

    pieces = contents.pieces
    monkeypatch.setattr(contents, "pieces", counted)
    with repo.store.writer() as writer:
        tiny = Chunks((Chunk(ONE, 1),) * LISTED)
        below = Chunk(writer.add(Kind.CHUNKS, model.encode(tiny), group=ALL), LISTED)
        writer.save()
    with pytest.raises(errors.CorruptObject, match="more chunks than"):
        arriving(Chunks((below,) * 64, lists=True), 64 * LISTED)
    assert seen < 10
    assert list((repo.state / "tmp").iterdir()) == []
