"""Commits that were not pushed when their author was taken out of a group."""

from __future__ import annotations

from pathlib import Path

import pytest
from machines import Machine, started
from servers import Remote
from teams import admit, cloned

KEY = "env/prod/key"


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    return started(tmp_path / "ana", file_url, {"notes": "n\n"}, "--name", "ana")


@pytest.fixture
def ben(ana: Machine) -> Machine:
    """In the group prod with Ana, with a commit of a file of it that is not pushed."""
    made = cloned(ana, "ben")
    admit(ana, made, "ben")
    ana("group", "add", "prod", "env/prod/**", "--member", "ana", "--member", "ben")
    ana.commit({KEY: "K=1\n"}, "prod")
    ana("push")
    made("pull")
    made.commit({KEY: "K=2\n", "notes": "ben's\n"}, "work of ben's")
    return made


@pytest.mark.parametrize("changes", [False, True])
def test_the_rest_of_a_leaver_s_work_is_sent(
    ana: Machine, ben: Machine, file_url: Remote, changes: bool
) -> None:
    """What Ben changed in the group stays on his disk; nothing of it is in what he pushes."""
    ana("group", "members", "prod", "--remove", "ben")
    if changes:
        ana.commit({KEY: "K=3\n"}, "on")
        ana("push")
    ben("pull", code=5 if changes else 0)
    assert ben("sync", code=5).hint.startswith("dorky sync --rewrite")
    ben("sync", "--rewrite")
    assert ben.read("notes") == b"ben's\n"
    assert ben.read(KEY) == b"K=2\n"
    ana("pull")
    assert ana.read("notes") == b"ben's\n"
    assert ana.read(KEY) == (b"K=3\n" if changes else b"K=1\n")
    assert ben("status", "--json").json["staged"] == []
    ben("fsck")
