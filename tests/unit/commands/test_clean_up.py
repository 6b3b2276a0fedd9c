"""Done is done: clean-up that fails after the swap decides no exit code."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from faults import BUSY, OFFLINE, Faults, failing
from machines import Machine, started
from servers import Remote

from dorky import errors

FAILURES = [
    BUSY,
    OFFLINE,
    errors.BadEndpoint("the bucket", "501 NotImplemented"),
    errors.AccessDenied("the bucket", "403"),
    errors.KeyNotFound("packs/", "the bucket"),
]
NAMES = ["busy", "offline", "501", "403", "404"]


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    ana = started(tmp_path / "ana", file_url, {".env": "TOKEN=1\nPORT=2\n"}, "--name", "ana")
    # A file with no room in the root is in a pack, which a rotation replaces.
    ana.commit({"big": random.Random(1).randbytes(300_000), "notes.txt": "n"})
    ana("push")
    ben = ana.another("ben", identity=False)
    ben("key", "gen")
    ana("team", "add", "ben", *ben("key", "show").out.split())
    return ana


@pytest.mark.parametrize("error", FAILURES, ids=NAMES)
def test_a_member_is_removed(
    ana: Machine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    faults = Faults.installed(monkeypatch)
    faults.before("delete", failing(error), times=100)
    said = ana("team", "remove", "ben")
    assert "could not be deleted (dorky gc --remote)" in said.err
    assert ".env: TOKEN, PORT" in said.out
    assert "dorky team exposed ben" in said.err
    faults.clear()
    assert "ben" not in ana("team", "list").out
    # The garbage collection finds them.
    faults.calls.clear()
    ana("gc", "--remote", "--grace", "0")
    assert "delete" in [verb for verb, key in faults.calls if key.startswith("packs/")]


@pytest.mark.parametrize("error", FAILURES, ids=NAMES)
def test_a_rotation(ana: Machine, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    faults = Faults.installed(monkeypatch)
    faults.before("delete", failing(error), times=100)
    done = ana("rotate", "--json").json
    assert done["done"]
    assert done["left"] > 0
    faults.clear()
    assert ana("rotate", "--json").json["left"] == 0


def test_the_network_is_gone_after_the_swap(ana: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to join go into the new mailbox after the swap: those who asked must ask again."""
    cleo = ana.another("cleo", identity=False)
    cleo.write(".dorkyrc", ana.read(".dorkyrc"))
    cleo("team", "join", "cleo")
    faults = Faults.installed(monkeypatch)

    def cut(answer: object) -> object:
        for verb in ("get", "get_range", "put", "list", "delete"):
            faults.before(verb, failing(OFFLINE), times=100)
        return answer

    faults.after("swap", cut, key="root")
    done = ana("team", "remove", "ben", "--json").json
    assert done["done"]
    assert done["lost"] == ["cleo"]
    assert [each["path"] for each in done["exposed"]] == [".env", "big", "notes.txt"]
    faults.clear()
    assert ana("status").code == 0
    assert "ben" not in ana("team", "list").out


def test_a_swap_that_won_is_followed_and_the_network_is_gone(
    ana: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is lost, others push, and what they pushed can't be read."""
    other = ana.another("other")
    other.write(".dorkyrc", ana.read(".dorkyrc"))
    other("pull")
    faults = Faults.installed(monkeypatch)
    busy = {"now": False}

    def lost(answer: object) -> object:
        if busy["now"]:
            return answer
        busy["now"] = True
        other("sync")
        other.commit({"other.txt": "o"})
        other("push")
        # The look that finds the txid among the recent ones, and then nothing.
        faults.after("get", lambda blob: (gone(), blob)[1], key="root")
        raise errors.Unreachable("the bucket", "the connection broke")

    def gone() -> None:
        faults.before("get", failing(OFFLINE), times=100)

    faults.after("swap", lost, key="root")
    ana.commit({"mine.txt": "m"})
    ana("push")
    faults.clear()
    assert ana("pull").code == 0
    assert ana.read("other.txt") == b"o"


def test_the_list_can_be_asked_for_again(ana: Machine) -> None:
    """As it was on leaving, whatever has been added since."""
    before = ana("team", "exposed", "ben", "--json").json
    assert before["left"] is None
    removed = ana("team", "remove", "ben", "--json").json
    ana.commit({"later.env": "NEW=1\n", ".env": "TOKEN=2\nMORE=3\n"})
    ana("push")
    again = ana("team", "exposed", "ben", "--json").json
    assert again["files"] == removed["exposed"] == before["files"]
    assert again["left"] is not None
    assert ".env: TOKEN, PORT" in ana("team", "exposed", "ben").out
    assert "later.env" in ana("team", "exposed", "ana").out


def test_the_list_of_somebody_in_a_group(ana: Machine) -> None:
    ana("group", "add", "prod", "prod/**", "--member", "ana", "--member", "ben")
    ana.commit({"prod/.env": "KEY=1\n"})
    ana("push")
    ana("team", "remove", "ben")
    assert "prod/.env: KEY" in ana("team", "exposed", "ben").out


def test_a_clone_outside_a_group_says_what_is_missing(ana: Machine, tmp_path: Path) -> None:
    cleo = ana.another("cleo", identity=False)
    cleo("key", "gen")
    ana("team", "add", "cleo", *cleo("key", "show").out.split())
    ana("group", "add", "prod", "prod/**", "--member", "ana", "--member", "ben")
    ana.commit({"prod/.env": "KEY=1\n"})
    ana("push")
    cleo.write(".dorkyrc", ana.read(".dorkyrc"))
    cleo("pull")
    said = cleo("team", "exposed", "ben")
    assert "prod/.env" not in said.out
    assert "not in are missing: prod" in said.err


def test_nobody_of_that_name(ana: Machine) -> None:
    assert "dora" in ana("team", "exposed", "dora", code=4).error
