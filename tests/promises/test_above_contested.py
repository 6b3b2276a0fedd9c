"""A file of everybody's above files that several groups claim."""

from __future__ import annotations

from pathlib import Path

import pytest
from machines import Machine, started
from servers import Remote
from test_group_rules import LINK, PROD, TRUE, claim, clone, gift, unclaim
from test_team import admit, cloned


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    return started(tmp_path / "ana", file_url, {".env": "A=1\n", "notes": "n\n"}, "--name", "ana")


@pytest.fixture
def ben(ana: Machine) -> Machine:
    made = cloned(ana, "ben")
    admit(ana, made, "ben")
    made("pull")
    ana("group", "add", "prod", "env/prod/**")
    ana.commit({PROD: TRUE}, "prod")
    ana("push")
    made("pull")
    return made


@pytest.mark.parametrize("path", ["env", "env/prod", "ENV"])
@pytest.mark.parametrize("work", ["none", "committed"])
def test_a_link_above_contested_files_keeps_nobody_from_working(
    ana: Machine, ben: Machine, path: str, work: str
) -> None:
    claim(ben, b"EVIL=1\n")
    if path == "env/prod":
        gift(ben, ("env/prod", b"notes"), mode=LINK)
    else:
        gift(ben, (path, b"pub"), mode=LINK)
    if work == "committed":
        ana.commit({"notes": "n2\n"}, "mine")
    ana("pull")
    assert ana.read(PROD) == TRUE
    assert path not in ana.files()
    ana.commit({".env": "A=2\n"}, "on")
    ana("push")
    assert ana("status", "--json").json["staged"] == []
    assert ana("status", "--json").json["unstaged"] == []
    unclaim(ben)
    for machine in (ana, clone(ana)):
        machine("pull")
        assert machine.read(PROD) == TRUE
