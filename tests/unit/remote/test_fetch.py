"""Fetching: only what is needed, all of it verified, before anything here is touched."""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from faults import BUSY, OFFLINE, RESET, Faults, failing
from hypothesis import given
from hypothesis import strategies as st
from machines import Machine, bucket, driver_of, known, noise
from servers import Remote as Place

from dorky import errors
from dorky.format.model import Kind, Pack, Root
from dorky.keys.vault import Vault
from dorky.remote import fetch
from dorky.remote import root as roots
from dorky.store import pack
from dorky.store.objects import PackedObject

KiB, MiB = 1 << 10, 1 << 20


# --- ranges ---------------------------------------------------------------------------------

objects = st.lists(
    st.tuples(st.sampled_from(["p", "q"]), st.integers(0, 300 * KiB), st.integers(1, 4 * MiB)),
    max_size=20,
)


@given(objects=objects)
def test_spans_cover_every_object_once_in_bounded_pieces(
    objects: list[tuple[str, int, int]],
) -> None:
    places, ends = [], {"p": 8, "q": 8}
    for n, (name, gap, length) in enumerate(objects):
        places.append(PackedObject(Kind.CHUNK, f"{n}", name, ends[name] + gap, length))
        ends[name] += gap + length
    found = fetch.spans(random.Random(1).sample(places, len(places)))
    assert sorted(at for span in found for at in span.objects) == sorted(places)
    for span in found:
        assert span.start == span.objects[0].offset
        assert span.end == span.objects[-1].offset + span.objects[-1].length
        assert {at.pack for at in span.objects} == {span.pack}
        assert span.end - span.start <= 8 * MiB or len(span.objects) == 1
        wasted = span.end - span.start - sum(at.length for at in span.objects)
        assert wasted <= 128 * KiB * (len(span.objects) - 1)


@pytest.mark.parametrize("gap", [0, 100, 5000])
def test_what_is_cut_from_a_range_keeps_little_else_in_memory(gap: int) -> None:
    data = noise(100_000, 1)
    places = [
        PackedObject(Kind.CHUNK, f"{n}", "p", 50 + at, 100)
        for n, at in enumerate(range(0, 90_000, 100 + gap))
    ]
    span = fetch.Span("p", 50, 100_050, tuple(places))
    cut = dict(span.cut(data))
    assert [*cut] == places
    assert all(bytes(cut[at]) == data[at.offset - 50 :][:100] for at in places)
    views = sum(len(each.obj) for each in cut.values() if isinstance(each, memoryview))
    assert (views == 0) == (gap > 0)


# --- only what is needed --------------------------------------------------------------------


@pytest.fixture
def history(ana: Machine, faults: Faults) -> Machine:
    """Ana has pushed a file in three versions, too large to ride in the root."""
    for n in range(3):
        ana.commit({"data": noise(300_000, n), f"file{n}": noise(1000, n)}, f"version {n}")
    ana("push")
    faults.clear()
    return ana


def ranges(faults: Faults) -> int:
    return [verb for verb, _ in faults.calls].count("get_range")


def test_a_clone_fetches_what_its_head_needs_and_the_rest_when_asked(
    history: Machine, file_url: Place, faults: Faults
) -> None:
    ben = history.another("ben")
    ben("clone", file_url.url, ".")
    with ben.repo() as repo:
        held = repo.store.packs()
    # Two of the three versions stayed in the bucket, so did two of the small ones.
    assert sum(each.size for each in held) < 320_000
    faults.clear()
    assert ben("cat", "HEAD:data").raw == noise(300_000, 2)
    ben("log", "data")
    ben("show", "HEAD~2")
    ben("ls", "HEAD~2")
    assert faults.calls == []
    assert ben("cat", "HEAD~1:data").raw == noise(300_000, 1)
    assert faults.calls != []
    assert {verb for verb, _ in faults.calls} == {"get_range"}
    faults.clear()
    assert ben("cat", "HEAD~1:data").raw == noise(300_000, 1)
    assert faults.calls == []
    ben("restore", "data", "--source", "HEAD~2")
    assert ben.read("data") == noise(300_000, 0)
    assert ranges(faults) == len(faults.calls) > 0


def test_old_versions_are_out_of_reach_offline_and_that_is_said(
    history: Machine, file_url: Place, faults: Faults
) -> None:
    ben = history.another("ben")
    ben("clone", file_url.url, ".")
    before = ben.files()
    for command in (
        ("cat", "HEAD~1:data"),
        ("restore", "data", "--source", "HEAD~1"),
        ("checkout", "HEAD~1"),
    ):
        faults.clear()
        faults.before("get_range", failing(OFFLINE), times=100)
        said = ben(*command, code=8)
        assert "can't be reached" in said.error
        assert said.hint == "only the remote holds data: run it again when it can be reached"
        assert said.raw == b""
        assert ben.files() == before
    ben("status")


def test_one_path_of_a_fresh_clone(history: Machine, file_url: Place, faults: Faults) -> None:
    ben = history.another("ben")
    ben.write(".dorkyrc", history.read(".dorkyrc"))
    ben("pull", "file0", "file1")
    assert ben.files().keys() == {"file0", "file1"}
    said = ben("status")
    assert "3 files" in said.out
    assert ben("status", "--json").json["absent"] == 3
    assert ben("status", "-s", "--exit-code").out == ""
    # What is absent is not deleted.
    ben.commit({"new": "1"})
    ben("push")
    history("pull")
    assert history.files().keys() == {".env", "data", "file0", "file1", "file2", "new"}

    history.commit({"file0": "changed", "data": "changed", "later": "1"})
    history("push")
    ben("pull", "file0")
    assert ben.read("file0") == b"changed"
    assert ben.files().keys() == {"file0", "file1", "new"}
    ben("pull")
    assert ben.files().keys() == {"file0", "file1", "new"}
    faults.clear()
    ben("pull", "--all")
    assert ben.files() == history.files()
    assert ben("status", "--json").json["absent"] == 0


def test_patterns_and_directories_of_a_fresh_clone(ana: Machine, file_url: Place) -> None:
    ana.commit({"config/a": "1", "config/b": "2", "keys/x.pem": "3", "keys/x.txt": "4"})
    ana("push")
    for wanted, got in {
        ("config",): {"config/a", "config/b"},
        ("keys/*.pem",): {"keys/x.pem"},
        (".env", "keys"): {".env", "keys/x.pem", "keys/x.txt"},
    }.items():
        ben = ana.another("-".join(wanted).replace("/", "-"))
        ben.write(".dorkyrc", ana.read(".dorkyrc"))
        ben("pull", *wanted)
        assert ben.files().keys() == got
    said = ben("pull", "nowhere", code=4)
    assert "nowhere is not tracked" in said.error


def test_a_fetch_touches_no_file(history: Machine, ben: Machine) -> None:
    before = ben.files()
    ben("fetch")
    assert ben.files() == before
    assert ben("status", "--json").json["behind"] == 0
    history.commit({".env": "KEY=3\n"})
    history("push")
    ben("pull")
    history.commit({".env": "KEY=4\n"})
    history("push")
    before = ben.files()
    assert ben("fetch", "--json").json["commits"] == 1
    assert ben.files() == before
    assert ben("status", "--json").json["behind"] == 1
    assert ben("cat", "origin/main:.env").raw == b"KEY=4\n"


def test_every_object_is_fetched_in_few_large_ranges(
    ana: Machine, file_url: Place, faults: Faults
) -> None:
    ana.commit({f"{n:03}": noise(50_000, n) for n in range(500)})
    ana("push")
    ben = ana.another("ben")
    faults.clear()
    ben("clone", file_url.url, ".")
    assert ben.files() == ana.files()
    # 26 MB in pieces of at most 8 MiB, and the tails of two packs.
    assert ranges(faults) <= 7


def test_what_is_small_is_verified_once_and_written_at_once(
    ana: Machine, file_url: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana.commit({f"{n:02}": noise(10_000, n) for n in range(50)} | {"same": noise(10_000, 1)})
    ana("push")
    ben = ana.another("ben")
    opened: Counter[str] = Counter()
    read = Vault.read

    def counted(self: Vault, kind: Kind, name: str, *arguments: Any, **options: Any) -> bytes:
        opened[name] += kind is Kind.CHUNK
        return read(self, kind, name, *arguments, **options)

    monkeypatch.setattr(Vault, "read", counted)
    ben("clone", file_url.url, ".")
    assert ben.files() == ana.files()
    # Beside the fifty that differ, .env; and what two files hold was let go of after the first.
    assert sorted(each for each in opened.values() if each) == [1] * 50 + [2]


# --- damage ---------------------------------------------------------------------------------


class Bystander:
    """A clone that is to pull a damaged repository, and must not be changed by that."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.files = machine.files()
        with machine.repo() as repo:
            self.known = known(repo)

    def refuses(self, code: int = 7, *, at: str = "pull") -> str:
        """Pulling fails with that code; the clone is as it was. Gives the message."""
        said = self.machine(at, code=code)
        assert self.machine.files() == self.files
        with self.machine.repo() as repo:
            assert known(repo) == self.known
        return said.error


def damage(place: Place, key: str, alter: Callable[[bytearray], object]) -> None:
    driver = driver_of(place)
    blob = driver.get(key)
    assert blob
    data = bytearray(blob.data)
    alter(data)
    driver.put(key, bytes(data))


@pytest.fixture
def pushed(ana: Machine, ben: Machine, file_url: Place) -> tuple[str, Pack, list[PackedObject]]:
    """A pack of two chunks, which ben's clone has not seen: its key, and what is in it."""
    ana.commit({"one": noise(200_000, 1), "two": noise(200_000, 2), ".env": "KEY=2\n"})
    ana("push")
    with ana.repo() as repo:
        (packed,) = repo.store.packs("origin")
        ids = {entry.content for entry in repo.ls()}
        places = repo.store.locate(ids, remote="origin").values()
    return f"packs/{packed.id}", packed, sorted(places, key=lambda at: at.offset)


Pushed = tuple[str, Pack, list[PackedObject]]


def test_a_pack_that_is_listed_and_gone(ben: Machine, pushed: Pushed, file_url: Place) -> None:
    driver_of(file_url).delete([pushed[0]])
    assert "listed by the root" in Bystander(ben).refuses()


def test_a_pack_that_goes_after_its_tail_was_read(
    ben: Machine, pushed: Pushed, file_url: Place, faults: Faults
) -> None:
    files = ben.files()
    ben("fetch")
    driver_of(file_url).delete([pushed[0]])
    assert "listed by the root" in ben("pull", code=7).error
    assert ben.files() == files


def flip_metadata(data: bytearray, packed: Pack) -> None:
    data[packed.tail + 50] ^= 1


def flip_tail(data: bytearray, packed: Pack) -> None:
    data[(packed.tail + packed.size) // 2] ^= 1


def flip_footer(data: bytearray, packed: Pack) -> None:
    data[-10] ^= 1


def cut(data: bytearray, packed: Pack) -> None:
    del data[-1:]


def empty(data: bytearray, packed: Pack) -> None:
    data.clear()


@pytest.mark.parametrize("alter", [flip_metadata, flip_tail, flip_footer])
def test_a_damaged_tail(
    ben: Machine, pushed: Pushed, file_url: Place, alter: Callable[[bytearray, Pack], None]
) -> None:
    key, packed, _ = pushed
    damage(file_url, key, lambda data: alter(data, packed))
    Bystander(ben).refuses()


@pytest.mark.parametrize("alter", [cut, empty])
def test_a_truncated_pack(
    ben: Machine, pushed: Pushed, file_url: Place, alter: Callable[[bytearray, Pack], None]
) -> None:
    key, packed, _ = pushed
    damage(file_url, key, lambda data: alter(data, packed))
    Bystander(ben).refuses(7)


def test_every_byte_of_a_tail_counts(ana: Machine, ben: Machine, file_url: Place) -> None:
    """Flipped one by one. Those of metadata and index are sealed, those of the footer checked."""
    ana.commit({"one": noise(200_000, 1), "link": "x"})
    ana("push")
    with ana.repo() as repo:
        (packed,) = repo.store.packs("origin")
        vault = repo.vault
    whole = bucket(file_url)[f"packs/{packed.id}"]
    tail = whole[packed.tail :]
    assert pack.read_tail(packed, tail, vault)

    def read(data: bytes) -> None:
        for at in pack.read_tail(packed, data, vault):
            if not at.kind.is_data:
                start = at.offset - packed.tail
                vault.read(at.kind, at.id, data[start : start + at.length])

    read(tail)
    for n in range(len(tail)):
        altered = bytearray(tail)
        altered[n] ^= 1 << n % 8
        with pytest.raises(errors.IntegrityError):
            read(bytes(altered))


def flip(data: bytearray, places: list[PackedObject]) -> None:
    data[places[0].offset + places[0].length // 2] ^= 1


def flip_last(data: bytearray, places: list[PackedObject]) -> None:
    data[places[-1].offset + places[-1].length - 1] ^= 0x80


def zero(data: bytearray, places: list[PackedObject]) -> None:
    at = places[0]
    data[at.offset : at.offset + at.length] = bytes(at.length)


def swap(data: bytearray, places: list[PackedObject]) -> None:
    """Both are well sealed, each for another id."""
    one, two = (at for at in places if at.length > 100_000)
    assert one.length == two.length
    first = data[one.offset : one.offset + one.length]
    data[one.offset : one.offset + one.length] = data[two.offset : two.offset + two.length]
    data[two.offset : two.offset + two.length] = first


def repeat(data: bytearray, places: list[PackedObject]) -> None:
    one, two = (at for at in places if at.length > 100_000)
    data[one.offset : one.offset + one.length] = data[two.offset : two.offset + two.length]


@pytest.mark.each_value
@pytest.mark.parametrize("alter", [flip, flip_last, zero, swap, repeat])
@pytest.mark.parametrize("plain", [False, True], ids=["sealed", "plain"])
def test_a_damaged_chunk_is_found_before_any_file_is_touched(
    tmp_path: Path,
    file_url: Place,
    plain: bool,
    alter: Callable[[bytearray, list[PackedObject]], None],
) -> None:
    ana = Machine(tmp_path / "ana", {})
    ana("init", file_url.url, *(["--plain"] if plain else []))
    ana.commit({"a": "old", "gone": "old", "z": "old"})
    ana("push")
    ben = ana.another("ben")
    ben("clone", file_url.url, ".", *(["--plain"] if plain else []))
    (ana.project / "gone").unlink()
    ana("stage", "gone")
    ana.commit({"a": "new", "m1": noise(200_000, 1), "m2": noise(200_000, 2), "z": "new"})
    ana("push")
    with ana.repo() as repo:
        (packed,) = repo.store.packs("origin")
        ids = {entry.content for entry in repo.ls()}
        places = sorted(repo.store.locate(ids, remote="origin").values(), key=lambda at: at.offset)
    sound = bucket(file_url)[f"packs/{packed.id}"]
    damage(file_url, f"packs/{packed.id}", lambda data: alter(data, places))
    before = ben.files()
    said = ben("pull", code=7)
    assert "is damaged" in said.error
    assert ben.files() == before
    carl = ana.another("carl")
    carl("clone", file_url.url, "here", *(["--plain"] if plain else []), code=7)
    assert list(carl.project.iterdir()) == []
    # Once it is mended, pulling goes on as if nothing had been.
    driver_of(file_url).put(f"packs/{packed.id}", sound)
    ben("pull")
    assert ben.files() == ana.files()


def test_a_range_that_comes_truncated(ben: Machine, pushed: Pushed, faults: Faults) -> None:
    """From a driver that breaks its contract: the tail first, then the chunks."""
    before = Bystander(ben)
    faults.after("get_range", lambda data: data[:-1])
    before.refuses()
    faults.after("get_range", lambda data: data)
    faults.after("get_range", lambda data: data[: len(data) // 2])
    files = ben.files()
    ben("pull", code=7)
    assert ben.files() == files
    assert faults.done
    ben("pull")


def test_a_pack_of_impossible_size(ana: Machine, ben: Machine, file_url: Place) -> None:
    with ana.repo() as repo:
        seen, header, vault, signer = repo.remote().seen, repo.header, repo.vault, repo.signer
    assert seen
    for size, tail in ((pack.LIMIT + 1, 100), (100, 100), (100, 0), (100, 200)):
        listed = (Pack("0" * 64, size, tail),)
        root = roots.successor(seen.root, packs=listed)
        driver_of(file_url).put("root", roots.encode(header, root, vault, signer))
        Bystander(ben).refuses()


@pytest.mark.parametrize("error", [BUSY, RESET], ids=["busy", "reset"])
def test_what_passes_is_tried_again(
    ben: Machine, ana: Machine, pushed: Pushed, faults: Faults, error: Exception
) -> None:
    for verb in ("get", "get_range", "get_range"):
        faults.before(verb, failing(error), times=2)
    ben("pull")
    assert faults.done
    assert ben.files() == ana.files()


def test_what_does_not_pass_leaves_everything(ben: Machine, pushed: Pushed, faults: Faults) -> None:
    before = Bystander(ben)
    faults.before("get", failing(RESET), times=100)
    before.refuses(8)
    faults.clear()
    faults.before("get_range", failing(BUSY), times=100)
    assert "can't serve" in before.refuses(8)


# --- readers against garbage collection -----------------------------------------------------


def collected(ana: Machine, place: Place) -> None:
    """Do what a garbage collection does: other packs with the same objects, another root."""
    driver = driver_of(place)
    with ana.repo() as repo:
        blob = driver.get("root")
        assert blob
        header, body = roots.read_header(blob.data, "")
        old = roots.read_body(header, body, repo.vault, "")
        buffer = io.BytesIO()
        writer = pack.PackWriter(buffer, repo.vault)
        for each in old.packs:
            data = driver.get(f"packs/{each.id}")
            assert data
            for at in pack.read_tail(each, data.data[each.tail :], repo.vault):
                writer.append(at.kind, at.id, data.data[at.offset : at.offset + at.length])
        made = writer.finish()
        root = roots.successor(old, packs=(made,))
        driver.put(f"packs/{made.id}", buffer.getvalue())
        driver.put("root", roots.encode(header, root, repo.vault, repo.signer))
        driver.delete(f"packs/{each.id}" for each in old.packs)


@pytest.mark.parametrize("at", [0, 1], ids=["tail", "chunks"])
def test_a_pack_that_is_gone_because_the_root_moved(
    ana: Machine, ben: Machine, pushed: Pushed, file_url: Place, faults: Faults, at: int
) -> None:
    for _ in range(at):
        faults.before("get_range", lambda: None)
    faults.before("get_range", lambda: collected(ana, file_url))
    ben("pull")
    assert faults.done
    assert ben.files() == ana.files()
    with ben.repo() as repo:
        assert pushed[1] not in repo.store.packs("origin")


def test_a_root_that_never_holds_still(
    ana: Machine, ben: Machine, pushed: Pushed, file_url: Place, faults: Faults
) -> None:
    files = ben.files()
    faults.before("get_range", lambda: collected(ana, file_url), times=30)
    said = ben("pull", code=8)
    assert "keeps changing" in said.error
    assert ben.files() == files


def test_an_old_clone_reads_what_was_packed_anew(
    history: Machine, file_url: Place, faults: Faults
) -> None:
    """It knows the old packs, which are gone, and asks them for an old version."""
    ben = history.another("ben")
    ben("clone", file_url.url, ".")
    collected(history, file_url)
    faults.clear()
    assert ben("cat", "HEAD~1:data").raw == noise(300_000, 1)
    assert ("get", "root") in faults.calls


# --- malice of somebody with the key --------------------------------------------------------


def test_an_object_that_nobody_has(ana: Machine, ben: Machine, file_url: Place) -> None:
    """A head whose commit is in no pack."""
    with ana.repo() as repo:
        seen, header, vault, signer = repo.remote().seen, repo.header, repo.vault, repo.signer
    assert seen
    root: Root = roots.successor(seen.root, refs={"heads/main": "0" * 64})
    driver_of(file_url).put("root", roots.encode(header, root, vault, signer))
    files = ben.files()
    said = ben("pull", code=7)
    assert "missing" in said.error
    assert ben.files() == files


def test_an_inline_object_with_another_content(ana: Machine, ben: Machine, file_url: Place) -> None:
    ana.commit({".env": "KEY=2\n"})
    ana("push")
    with ana.repo() as repo:
        seen, header, vault, signer = repo.remote().seen, repo.header, repo.vault, repo.signer
    assert seen
    *others, one, two = seen.root.inline
    two = msgspec.structs.replace(two, data=one.data)
    root = roots.successor(seen.root, inline=(*others, one, two))
    driver_of(file_url).put("root", roots.encode(header, root, vault, signer))
    Bystander(ben).refuses()
