"""Roles at random: whatever members, leavers and strangers write, everybody follows the same team.

A model says who may write. What an honest member pushes with the right to is acknowledged and never
refused by anybody later. What anybody else puts into the bucket is refused by clones that exist and
by fresh ones, until it is repaired.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from machines import Machine, driver_of, started
from roles import Forge, stranger
from servers import Remote, RequestLog
from teams import admit, cloned, follow, fresh

NAMES = ("ben", "cleo", "dan")
ROLES = ("admin", "writer", "reader")
PEOPLE = st.sampled_from(NAMES)


class Roles(RuleBasedStateMachine):
    """Ana starts a repository and stays an administrator; the others come, go and change roles."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="roles-", dir=Path.cwd()))
        self.number = itertools.count()
        self.acknowledged: list[str] = []
        self.roles: dict[str, str] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.base, ignore_errors=True)

    @initialize(plain=st.booleans(), role=st.sampled_from(ROLES))
    def start(self, plain: bool, role: str) -> None:
        self.plain = plain
        self.remote = Remote(str(self.base / "vault"), {}, {}, RequestLog())
        options = ["--name", "ana", *(["--plain"] if plain else [])]
        self.ana = started(self.base / "ana", self.remote, {".env": "A=1\n"}, *options)
        self.machines: dict[str, Machine] = {}
        self.keys: dict[str, str] = {}
        for name in NAMES:
            machine = self.machines[name] = cloned(self.ana, name)
            if plain:
                machine("pull")
            admit(self.ana, machine, name, role)
            machine("pull")
            (key,) = machine("key", "show", "--json").json
            self.keys[name] = f"{key['recipient']} {key['signer']}"
            self.roles[name] = role

    def may_write(self, name: str) -> bool:
        return self.roles.get(name) in {"admin", "writer"}

    # --- honest work ----------------------------------------------------------------------

    @rule(name=PEOPLE, role=st.sampled_from(ROLES))
    def set_role(self, name: str, role: str) -> None:
        if name in self.roles:
            self.ana("team", "set-role", name, role, code=int(self.roles[name] == role))
            self.roles[name] = role

    @rule(name=PEOPLE)
    def remove(self, name: str) -> None:
        if name in self.roles:
            self.ana("pull")
            self.ana("team", "remove", name)
            del self.roles[name]

    @rule(name=PEOPLE, role=st.sampled_from(ROLES))
    def let_in_again(self, name: str, role: str) -> None:
        if name not in self.roles:
            self.ana("team", "add", name, self.keys[name], "--role", role)
            self.roles[name] = role

    @rule(by=PEOPLE, name=PEOPLE, role=st.sampled_from(ROLES))
    def set_role_by(self, by: str, name: str, role: str) -> None:
        """An administrator's change is made, and anybody else's is not."""
        if by == name or name not in self.roles or self.roles[name] == role:
            return
        said = self.machines[by].run("team", "set-role", name, role)
        if self.roles.get(by) == "admin":
            assert said.code == 0, said
            self.roles[name] = role
        else:
            assert said.code == 6, said

    def is_shut_out(self, name: str) -> bool:
        """Whether somebody has begun afresh and has no key: then there is nothing to work in."""
        machine = self.machines[name]
        if (machine.state / "dorky.db").exists() or not machine.run("pull").code:
            return False
        assert name not in self.roles
        assert not self.plain
        return True

    @rule(name=PEOPLE)
    def work(self, name: str) -> None:
        machine, n = self.machines[name], next(self.number)
        if self.is_shut_out(name):
            return
        machine.commit({f"{name}{n}": f"{n}\n"}, f"{name} {n}")
        said = machine.run("sync")
        if self.may_write(name):
            assert said.code == 0, said
            self.acknowledged.append(f"{name} {n}")
        else:
            assert said.code == 6, said
            self.forget(machine)

    def forget(self, machine: Machine) -> None:
        """Give up what can't be sent: start with a fresh clone, if that is allowed."""
        shutil.rmtree(machine.project)
        machine.project.mkdir()
        follow(machine, self.ana)
        machine.run("pull")

    @rule()
    def collect(self) -> None:
        self.ana("gc", "--remote", "--grace", "0")

    # --- attacks --------------------------------------------------------------------------

    @rule(name=PEOPLE, how=st.sampled_from(["own", "strange", "promotion", "none"]))
    def attack(self, name: str, how: str) -> None:
        """Somebody without the right writes a root by hand."""
        machine = self.machines[name]
        if self.is_shut_out(name):
            return
        machine.run("pull")
        self.ana("pull")  # a repair brings back what she has seen
        if how == "own" and self.may_write(name):
            return  # with the right to it
        if how == "promotion" and self.roles.get(name) == "admin":
            return
        forge = Forge(machine)
        if how == "strange":
            forge.signer = stranger()
        head = forge.commit(forge.signer if how != "none" else None)
        changes: dict[str, object] = {"refs": {"heads/main": head}}
        if how == "promotion":
            known = forge.root.roster
            promoted = tuple(
                type(one)(one.name, one.recipients, one.groups, one.signers, "admin")
                for one in known.members
            )
            known = type(known)(promoted, known.groups)
            entry = forge.entry(known)
            changes |= {"roster": known, "team": entry, "before": forge.root.team}
        driver = driver_of(self.remote)
        before = driver.get("root")
        assert before
        driver.put("root", forge.encode(**changes))
        for reader in (self.ana, fresh(self.ana)):
            files = reader.files()
            reader("pull", code=7)
            assert reader.files() == files
        self.ana.run("remote", "repair", "--yes")
        self.ana("pull")

    @precondition(lambda self: self.acknowledged)
    @rule()
    def everybody_has_what_was_acknowledged(self) -> None:
        self.ana("pull")
        machine = fresh(self.ana)
        for reader in (self.ana, machine):
            reader("pull")
            log = reader("log", "--json").json
            signed = {entry["message"].strip(): entry["signer"] for entry in log}
            for message in self.acknowledged:
                assert signed[message] == message.split()[0]
            assert "a gift" not in signed
            assert "NOT VALID" not in reader("log", "--signatures").out


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with mock.patch.object(os, "fsync"):
        yield


CHECKS = list(HealthCheck)


@pytest.mark.timeout(600)
def test_roles() -> None:
    quick = settings(
        max_examples=2, stateful_step_count=8, deadline=None, suppress_health_check=CHECKS
    )
    run_state_machine_as_test(Roles, settings=quick)


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_roles_at_length() -> None:
    long = settings(
        max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=CHECKS
    )
    run_state_machine_as_test(Roles, settings=long)


@pytest.mark.parametrize(
    ("broken", "how"),
    [
        ("dorky.remote.authority._check_signer", "own"),
        ("dorky.store.authorship.check", "none"),
        ("dorky.keys.teamlog._is_leaving", "promotion"),
    ],
)
def test_a_broken_rule_is_found(broken: str, how: str) -> None:
    play = Roles()
    play.start(plain=True, role="writer")
    if how != "none":  # for one who was a writer once: the signature of the commit is fine
        for name in ("ben", "cleo"):
            play.set_role(name, "reader")
    play.attack("ben", how)
    with mock.patch(broken, return_value=True), pytest.raises(AssertionError):
        play.attack("cleo", how)
