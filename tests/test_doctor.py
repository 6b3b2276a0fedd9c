"""doctor: each thing that can be wrong is named, with what mends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from machines import Machine
from servers import Remote
from test_team import admit, cloned


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    made = Machine(tmp_path / "ana", {})
    made("init", file_url.url, "--name", "ana", "--recovery", "key")
    made.commit({".env": "A=1\n"})
    made("push")
    return made


def checks(machine: Machine, code: int = 0) -> dict[str, Any]:
    return {each["name"]: each for each in machine("doctor", "--json", code=code).json}


def test_all_is_well(ana: Machine) -> None:
    found = checks(ana)
    assert {each["verdict"] for each in found.values()} == {"ok"}
    assert list(found) == ["settings", "identity", "state", "remote", "key", "recovery"]
    assert "2 keys open" in ana("doctor").out


def test_a_single_key(ana: Machine) -> None:
    ana("team", "remove", "recovery")
    found = checks(ana)["recovery"]
    assert found["verdict"] == "warn"
    assert found["mend"] == "dorky team add recovery passphrase"


def test_a_dorkyrc_from_before_a_rotation(ana: Machine) -> None:
    old = (ana.project / ".dorkyrc").read_bytes()
    ana("rotate")
    (ana.project / ".dorkyrc").write_bytes(old)
    found = checks(ana)["key"]
    assert found["verdict"] == "warn"
    command = found["mend"].partition("dorky ")[2].partition(",")[0].split()
    ana(*command)
    assert checks(ana)["key"]["verdict"] == "ok"


def test_a_newcomer(ana: Machine) -> None:
    ben = cloned(ana, "ben")
    found = checks(ben, code=1)
    assert found["identity"]["verdict"] == "fail"
    assert found["state"]["mend"] == "dorky pull"
    assert found["remote"]["verdict"] == "ok"
    assert not ben.state.exists()
    admit(ana, ben, "ben")
    ben("pull")
    assert {each["verdict"] for each in checks(ben).values()} == {"ok"}


def test_who_was_removed(ana: Machine) -> None:
    ben = cloned(ana, "ben")
    admit(ana, ben, "ben")
    ben("pull")
    ana("team", "remove", "ben")
    found = checks(ben, code=1)
    assert "not sealed for you" in found["remote"]["about"]


def test_a_group_that_is_closed(ana: Machine) -> None:
    ben = cloned(ana, "ben")
    admit(ana, ben, "ben")
    ben("pull")
    ana("group", "add", "prod", "*.env")
    assert "except the files of prod" in checks(ben)["key"]["about"]


def test_a_remote_that_is_gone(ana: Machine, file_url: Remote) -> None:
    Path(file_url.url, "root").unlink()
    found = checks(ana, code=1)
    assert found["remote"]["verdict"] == "fail"
    assert found["remote"]["mend"]


def test_an_identity_that_others_can_read(ana: Machine) -> None:
    ana.identity.chmod(0o644)
    assert checks(ana, code=1)["identity"]["mend"] == f"chmod 600 {ana.identity}"


def test_a_state_that_others_can_read(ana: Machine) -> None:
    ana.state.chmod(0o755)
    assert checks(ana)["state"]["mend"] == f"chmod 700 {ana.state}"


def test_no_remote(tmp_path: Path) -> None:
    ana = Machine(tmp_path / "ana", {})
    ana("init")
    found = checks(ana)
    assert found["remote"]["verdict"] == "warn"


def test_a_plain_repository(tmp_path: Path, file_url: Remote) -> None:
    ana = Machine(tmp_path / "ana", {})
    ana("init", file_url.url, "--plain")
    found = checks(ana)
    assert found["key"]["verdict"] == "warn"
    assert found["recovery"]["verdict"] == "ok"


def test_a_group_that_hangs_on_one_key(ana: Machine) -> None:
    ana("group", "add", "prod", "*.env")
    found = checks(ana)["recovery"]
    assert found["verdict"] == "warn"
    assert "the group prod: ana's" in found["about"]
    ana("group", "members", "prod", "--add", "recovery")
    assert checks(ana)["recovery"]["verdict"] == "ok"
