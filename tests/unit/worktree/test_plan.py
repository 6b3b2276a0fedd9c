"""The plan of a checkout, which may be of a million files."""

from __future__ import annotations

import stat
import tracemalloc
from pathlib import Path

import pytest

from dorky.format.model import ALL, Entry
from dorky.results import Change
from dorky.store.history import Placed
from dorky.store.index import Row
from dorky.worktree.plan import PlacedFiles, nothing

ID, DIGEST = "0a" * 32, "b0" * 32
FILE, LINK = stat.S_IFREG | 0o640, stat.S_IFLNK


@pytest.mark.parametrize(
    ("path", "placed"),
    [
        ("a", Placed(ALL, Entry("a", FILE, ID, 7, DIGEST))),
        ("é/ü.bin", Placed("0123456789abcdef", Entry("ü.bin", FILE, ID, 0, DIGEST))),
        ("d/link", Placed(ALL, Entry("link", LINK, ID, 3, DIGEST))),
        ("huge", Placed(ALL, Entry("huge", FILE, ID, (1 << 63) - 1, DIGEST))),
        ("d/noted", Placed(ALL, Entry("noted", FILE, ID, 1, DIGEST, {"type": "x/y"}))),
        ("d/undigested", Placed(ALL, Entry("undigested", FILE, ID, 1))),
        ("d/renamed", Placed(ALL, Entry("other", FILE, ID, 1, DIGEST))),
        ("mode", Placed(ALL, Entry("mode", 1 << 40, ID, 1, DIGEST))),
    ],
)
def test_files_come_out_as_they_went_in(path: str, placed: Placed) -> None:
    files = PlacedFiles()
    files["first"] = Placed("f" * 16, Entry("first", FILE, DIGEST, 1, ID))
    files[path] = placed
    assert files[path] == placed
    assert dict(files.sizes()) == {"first": 1, path: placed.entry.size}
    assert dict(files) == {"first": files["first"], path: placed}
    assert path in files
    assert files.pop(path) == placed
    assert path not in files
    assert [*files] == ["first"]
    assert files.get(path) is None
    assert len(files) == 1


def test_a_file_takes_few_bytes() -> None:
    """A million files, with their paths, stay below 300 MB."""
    files = PlacedFiles()
    placed = Placed(ALL, Entry("00000", FILE, ID, 1024, DIGEST))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for n in range(6000):
            entry = Entry(f"{n:05}", FILE, ID, 1024, DIGEST)
            files[f"directory/{n:05}"] = placed._replace(entry=entry)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / len(files) < 300


def test_a_plan_tells_what_changes_on_disk(tmp_path: Path) -> None:
    plan = nothing(tmp_path)
    for name in ("new", "old", "absent"):
        plan.write[name] = Placed(ALL, Entry(name, FILE, ID, 1, DIGEST))
    plan.remove.add("gone")
    plan.forget.update(("forgotten", "unknown"))
    rows = {name: Row(name, FILE, 1, ID, DIGEST) for name in ("old", "gone", "forgotten")}
    rows["absent"] = Row("absent", FILE, 1, ID, DIGEST, absent=True)
    assert plan.changes(rows) == (
        Change("absent", "added"),
        Change("forgotten", "deleted"),
        Change("gone", "deleted"),
        Change("new", "added"),
        Change("old", "modified"),
    )
