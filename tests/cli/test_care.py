"""fsck, gc: what people and scripts see."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from machines import Machine, flip, forget
from servers import Remote
from terminals import Terminal

from dorky.results import FsckReport, GCReport, RemoteGCReport, RepairReport


def largest(directory: Path) -> Path:
    return max(directory.iterdir(), key=lambda each: each.stat().st_size)


def damage(machine: Machine) -> Path:
    """Flip a byte of content."""
    machine.commit({"big": random.Random(6).randbytes(100_000)}, "third")
    victim = largest(machine.state / "packs")
    flip(victim, 50)
    return victim


def drop(machine: Machine, url: str = "") -> None:
    """Leave something behind that nothing needs."""
    machine.write("dropped", "x" * 1000)
    machine("stage", "dropped")
    machine("unstage", "dropped")
    forget(machine)


def test_fsck_in_words(project: Machine) -> None:
    said = project("fsck")
    assert said.out == "Looked at 5 packs, 5 objects.\n"
    assert said.err == ""
    assert project("fsck", "-q").out == ""
    assert "read whole" in project("fsck", "--read-data").out


def test_fsck_names_what_is_damaged_and_what_mends_it(project: Machine) -> None:
    victim = damage(project)
    said = project("fsck", "--read-data", code=7)
    first, remedy, last = said.out.splitlines()
    assert first.startswith(f"damaged: {victim.name}: its bytes have another hash; 1 of its ")
    assert remedy == "  → dorky fsck --repair"
    assert last.startswith("Looked at ")
    assert said.error == "1 thing is damaged or missing"
    assert said.hint == "dorky fsck --repair"


def test_fsck_as_json(project: Machine) -> None:
    found = msgspec.json.decode(project("fsck", "--json").raw, type=FsckReport)
    assert found.sound
    damage(project)
    said = project("fsck", "--read-data", "--json", code=7)
    assert not msgspec.json.decode(said.raw, type=FsckReport).sound
    assert said.error


def test_rebuild_in_words_and_as_json(project: Machine) -> None:
    victim = damage(project)
    said = project("fsck", "--rebuild")
    assert f"Moved to .dorky/…/damaged: {victim.name}\n" in said.out
    assert "main is " in said.out
    assert said.out.splitlines()[-1] == "Now look whether all is well: dorky fsck"
    found = msgspec.json.decode(project("fsck", "--rebuild", "--json").raw, type=RepairReport)
    assert Path(found.kept).name == "dorky.db.damaged-2"
    assert found.damaged == ()


@pytest.mark.parametrize("part", ["0/3", "4/3", "3", "a/b", "-1/3", "1/0", "1/3/5"])
def test_parts_that_are_none(project: Machine, part: str) -> None:
    assert project("fsck", f"--read-data={part}", code=2).error == f"{part} is no part"


def test_a_part_may_stand_apart(project: Machine) -> None:
    read = [project("fsck", "--read-data", f"{n}/2", "--json").json["bytes_read"] for n in (1, 2)]
    assert sum(read) == project("fsck", "--read-data", "--json").json["bytes_read"]


def test_rebuild_alone(project: Machine) -> None:
    for option in ("--remote", "--keyless", "--read-data"):
        assert "no other option" in project("fsck", "--rebuild", option, code=2).error


def test_gc_in_words(project: Machine) -> None:
    assert project("gc").out == "Nothing to collect.\n"
    drop(project)
    assert project("gc").out == "Nothing to collect.\n"
    would = project("gc", "--grace", "0", "--dry-run").out.splitlines()
    assert "would be deleted" in would[0]
    assert "nothing in it is needed" in would[0]
    assert would[-1].endswith(" would be freed.")
    done = project("gc", "--grace", "0").out.splitlines()
    assert [line.replace("would be ", "") for line in would] == done
    assert project("gc", "--grace", "0").out == "Nothing to collect.\n"


def test_gc_as_json(project: Machine) -> None:
    drop(project)
    found = msgspec.json.decode(
        project("gc", "--grace", "0", "--dry-run", "--json").raw, type=GCReport
    )
    assert not found.done
    assert found.size
    assert msgspec.json.decode(project("gc", "--grace", "0", "--json").raw, type=GCReport).done


@pytest.mark.parametrize("days", ["-1", "nan", "inf", "1e9"])
def test_graces_that_are_none(project: Machine, days: str) -> None:
    assert project("gc", "--grace", days, code=2).hint


def test_gc_of_the_remote(shared: Machine, file_url: Remote) -> None:
    assert shared("gc", "--remote").out == "Nothing to collect.\n"
    stray = Path(file_url.url) / "packs" / ("ab" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"left by somebody")
    assert "1 pack that no root lists left alone" in shared("gc", "--remote").out
    would = shared("gc", "--remote", "--grace", "0", "--dry-run").out
    assert f"would be deleted: packs/{stray.name[:12]} (16 B): no root lists it" in would
    assert f"16 B would be deleted from file://{file_url.url}." in would
    assert stray.exists()
    found = msgspec.json.decode(
        shared("gc", "--remote", "--grace", "0", "--json").raw, type=RemoteGCReport
    )
    assert found.done
    assert not stray.exists()
    assert shared("fsck", "--remote").out.startswith("Looked at ")
    said = shared("gc", "--remote", "--prune-remote-verified", code=2)
    assert "here" in said.error


def test_gc_of_a_remote_that_is_none(project: Machine) -> None:
    assert project("gc", "--remote", code=3).hint
    assert project("gc", "--prune-remote-verified", code=3).hint


def test_nothing_is_asked_on_a_terminal(project: Machine, terminal: Terminal) -> None:
    drop(project)
    shown = terminal(project, "gc", "--grace", "0")
    assert shown.code == 0
    assert "freed." in shown.text
