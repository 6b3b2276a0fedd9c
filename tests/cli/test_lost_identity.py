"""Keys that are lost or can't be used: what was found, why not, and the way back first."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from machines import Machine, started
from servers import Remote


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    return started(tmp_path / "ana", file_url, {".env": "KEY=1\n"})


@pytest.fixture
def ben(ana: Machine, file_url: Remote) -> Machine:
    """Somebody with a git clone, and without any key yet."""
    ben = ana.another("ben", identity=False)
    ben.write(".dorkyrc", (ana.project / ".dorkyrc").read_bytes())
    (ben.home / ".ssh").mkdir(mode=0o700)
    return ben


def ssh_key(machine: Machine, *options: str, name: str = "id_ed25519", password: str = "") -> Path:
    path = machine.home / ".ssh" / name
    subprocess.run(
        ["ssh-keygen", "-q", "-N", password, "-f", path, *options], check=True, timeout=60
    )
    return path


def exposed(machine: Machine) -> tuple[str, str]:
    path = ssh_key(machine, "-t", "ed25519")
    path.chmod(0o644)
    return f"{path} can be read by other users (mode 0644)", f"chmod 600 {path}; "


def wrong_type(machine: Machine) -> tuple[str, str]:
    ssh_key(machine, "-t", "ecdsa", name="id_ecdsa")
    return "ed25519 and RSA only", "use an SSH key of the type ed25519"


def short(machine: Machine) -> tuple[str, str]:
    ssh_key(machine, "-t", "rsa", "-b", "1024", name="id_rsa")
    return "an RSA key of 1024 bits: age takes 2048", "use an SSH key of the type ed25519"


def damaged(machine: Machine) -> tuple[str, str]:
    path = ssh_key(machine, "-t", "ed25519")
    path.write_text(path.read_text()[:80])
    return f"{path} holds no age identity", ""


@pytest.mark.each_value
@pytest.mark.parametrize("made", [exposed, wrong_type, short, damaged])
@pytest.mark.parametrize("command", [["pull"], ["get", ".env", "KEY"], ["run", "true"]])
def test_a_key_that_is_passed_over_is_named(
    ben: Machine, made: Callable[[Machine], tuple[str, str]], command: list[str]
) -> None:
    why, way = made(ben)
    said = ben(*command, code=6)
    assert why in said.error
    assert said.hint.startswith(way)
    assert "dorky team join" in said.hint
    assert why in ben("key", "show", code=6).error


def test_a_locked_key_says_how_to_give_the_passphrase(ben: Machine) -> None:
    path = ssh_key(ben, "-t", "ed25519", password="open sesame")
    assert f"if the key in {path} should: set DORKY_SSH_PASSPHRASE" in ben("pull", code=6).hint


@pytest.mark.parametrize(
    "command", [["cat", "HEAD:.env"], ["team", "join"], ["key", "gen"], ["key", "show"]]
)
def test_nothing_takes_the_place_of_a_lost_key(ana: Machine, command: list[str]) -> None:
    secret = ana.identity.read_bytes()
    ana.identity.unlink()
    ana("rotate", code=6)
    said = ana(*command, code=6)
    assert said.error.startswith(f"Your key is not in {ana.identity} any more")
    assert said.hint.index("backup") < said.hint.index("recovery key") < said.hint.index("join")
    assert not ana.identity.exists()
    ana.identity.write_bytes(secret)
    ana.identity.chmod(0o600)
    ana("rotate")


def test_a_new_key_can_be_made_elsewhere_or_if_the_old_one_is_given_up(ana: Machine) -> None:
    ana.identity.unlink()
    ana("key", "gen", ana.home / "other")
    ana.identity.with_name("identity.pub").unlink()
    ana("key", "gen")
    assert ana.identity.exists()
    assert "exists" in ana("key", "gen", code=5).error


def test_another_key_than_before(ana: Machine) -> None:
    """The usual place holds a key, but not the one that opens the repository."""
    other = ana.another("other", identity=False)
    other("key", "gen")
    ana.identity.write_bytes(other.identity.read_bytes())
    hint = ana("rotate", code=6).hint
    assert hint.index("backup") < hint.index("recovery key") < hint.index("join")
