"""Teams for the tests: people who start a repository, ask to be let in, and come back elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import snapshots
from machines import Machine, started
from servers import Remote


def cloned(machine: Machine, name: str) -> Machine:
    """Another person's computer with what git carries of the project: `.dorkyrc`."""
    made = Machine(machine.base.parent / name, machine.env)
    (made.project / ".dorkyrc").write_bytes((machine.project / ".dorkyrc").read_bytes())
    return made


def follow(machine: Machine, other: Machine) -> None:
    """Take over the other's `.dorkyrc`, as by git pull."""
    (machine.project / ".dorkyrc").write_bytes((other.project / ".dorkyrc").read_bytes())


def admit(ana: Machine, newcomer: Machine, name: str, role: str = "admin") -> None:
    """Let a newcomer in, who asks and tells the fingerprint."""
    told = newcomer("team", "join", name, "--json").json["key"]["fingerprint"]
    ana("team", "add", name, "--fingerprint", told, "--role", role)


def joined(ana: Machine, name: str) -> Machine:
    """Let another person in, who pulls everything."""
    made = cloned(ana, name)
    admit(ana, made, name)
    made("pull")
    return made


def start(tmp_path: Path, remote: Remote) -> Machine:
    """Start a repository with three files in two directories."""
    content = {".env": "A=1\nB=2\n", "env/prod/api.env": "P=1\n", "notes": "n\n"}
    return started(tmp_path / "ana", remote, content, "--name", "ana")


class Team(NamedTuple):
    """Ana starts the repository, Ben and Cleo are let in."""

    ana: Machine
    ben: Machine
    cleo: Machine


def gather(tmp_path: Path, remote: Remote) -> Team:
    def make() -> None:
        ana = start(tmp_path, remote)
        for name in Team._fields[1:]:
            joined(ana, name)

    bases = [tmp_path / name for name in Team._fields]
    if remote.url.startswith("/"):
        snapshots.once([*bases, Path(remote.url)], make, "team")
    else:
        make()
    return Team(*(Machine(base, remote.env) for base in bases))


def public(machine: Machine) -> str:
    return machine("key", "show").out.split()[0]


def pinned(machine: Machine) -> str:
    text = (machine.project / ".dorkyrc").read_text()
    (found,) = [line for line in text.splitlines() if line.startswith("fingerprint")]
    return found.split('"')[1]


def fresh(machine: Machine) -> Machine:
    """The same person at another computer, with what git has brought."""
    name = f"{machine.base.name}-fresh"
    shutil.rmtree(machine.base.parent / name, ignore_errors=True)
    made = machine.another(name)
    follow(made, machine)
    return made
