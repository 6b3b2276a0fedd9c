"""Roles: what somebody writes who may not is refused by every clone, whatever the bucket lets in.

Ana administers the team, Ben is a writer, Cleo a reader, and Mallory was removed. Each of them can
write to the bucket, and knows the format. Encrypted and unencrypted repositories.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import snapshots
from attacks import everything
from depth import deep
from machines import Machine, bucket, driver_of, noise, started
from roles import NOW, Forge, stranger
from servers import Remote
from teams import admit, cloned, follow, fresh

from dorky import errors
from dorky.drivers.file import FileDriver
from dorky.format import model
from dorky.format.model import ALL, SIGNED, Inline, Member, Purge, Root, TeamEntry
from dorky.keys import age, roster, signing, teamlog, vault
from dorky.keys.sshsig import Namespace
from dorky.remote import cold, unlisted
from dorky.remote import root as roots
from dorky.store import history, pack


class World(NamedTuple):
    """The team's machines, and the bucket."""

    ana: Machine
    ben: Machine
    cleo: Machine
    mallory: Machine
    remote: Remote
    plain: bool

    def put(self, data: bytes) -> None:
        driver_of(self.remote).put("root", data)

    @property
    def root(self) -> bytes:
        blob = driver_of(self.remote).get("root")
        assert blob
        return blob.data

    def readers(self) -> list[Machine]:
        """Clones that have seen the newest state, and fresh ones with the newest `.dorkyrc`."""
        follow(self.ben, self.ana)
        return [self.ana, self.ben, fresh(self.ben)]

    def refuse_cold(self, error: type[errors.DorkyError]) -> None:
        """So does whoever reads a single file, with nothing but the keys and `.dorkyrc`."""
        for machine in (self.ana, fresh(self.ben)):
            with machine.repo() as repo:
                repo.set_up()
                with pytest.raises(error):
                    cold.opened(repo.remote())

    def refuse(self, error: type[errors.DorkyError], *words: str, cold_too: bool = True) -> None:
        """Every clone refuses what the bucket holds, says why, and changes nothing."""
        there = bucket(self.remote)
        for machine in self.readers():
            before = everything(machine)
            seen = machine.state.exists()
            for command in (["pull"], ["fetch"], ["sync"], *([["gc", "--remote"]] if seen else [])):
                said = machine(*command, code=7)
                for word in words:
                    assert word in said.error, said
            with machine.repo() as repo, pytest.raises(error):
                repo.fetch()
            assert everything(machine) == before
        if cold_too:
            self.refuse_cold(error)
        assert bucket(self.remote) == there


@pytest.fixture(params=["encrypted", *deep("plain")])
def world(request: pytest.FixtureRequest, tmp_path: Path, file_url: Remote) -> World:
    plain = request.param == "plain"
    options = ["--name", "ana", *(["--plain"] if plain else [])]
    ana = started(tmp_path / "ana", file_url, {".env": "A=1\n"}, *options)
    roles = {"ben": "writer", "cleo": "reader", "mallory": "writer"}

    def make() -> None:
        people = {}
        for name, role in roles.items():
            people[name] = cloned(ana, name)
            if plain:
                people[name]("pull")
            admit(ana, people[name], name, role)
            people[name]("pull")
        people["mallory"].commit({"m": "1\n"}, "an honest commit")
        people["mallory"]("push")
        for machine in (ana, *people.values()):
            machine("pull")

    bases = [tmp_path / name for name in roles]
    snapshots.once([ana.base, *bases, Path(file_url.url)], make, "roles", plain)
    return World(ana, *(Machine(base, ana.env) for base in bases), file_url, plain)


def leave(world: World) -> None:
    """Mallory is removed; everybody honest has seen it."""
    world.ana("pull")
    world.ana("team", "remove", "mallory")
    world.ana.commit({"after": "1\n"}, "after")
    world.ana("push")
    follow(world.ben, world.ana)
    world.ben("pull")


# --- who may not write ----------------------------------------------------------------------


def test_a_reader_writes_a_commit(world: World) -> None:
    forge = Forge(world.cleo)
    world.put(forge.encode(refs={"heads/main": forge.commit(forge.signer)}))
    world.refuse(errors.ForgedRoot, "may not write")


def test_a_reader_brings_what_a_writer_has_signed(world: World) -> None:
    """Neither another's commit nor none at all makes a reader's root count."""
    forge = Forge(world.cleo)
    world.put(forge.encode())
    world.refuse(errors.ForgedRoot, "may not write")
    with world.ben.repo() as repo:
        bens = repo.signer
    world.put(forge.encode(refs={"heads/main": forge.commit(bens)}))
    world.refuse(errors.ForgedRoot, "may not write")


def test_readers_are_told_before_anything_is_sent(world: World) -> None:
    world.cleo.commit({"big": "x" * 300_000})
    before = bucket(world.remote)
    for command in (["push"], ["sync"], ["gc", "--remote"], ["team", "set-role", "cleo", "admin"]):
        said = world.cleo(*command, code=6)
        assert "cleo is a reader" in said.error
        assert said.hint.startswith("ask ana: dorky team set-role cleo")
    assert bucket(world.remote) == before
    world.ana("team", "set-role", "cleo", "writer")
    world.cleo("push")
    world.ben("pull")


def test_a_leaver_goes_on(world: World) -> None:
    if world.plain:
        leave(world)
        world.mallory("pull")  # anybody can read it
        forge = Forge(world.mallory)
        world.put(forge.encode(refs={"heads/main": forge.commit(forge.signer)}))
        world.refuse(errors.ForgedRoot, "may not write")
    else:
        forge = Forge(world.mallory)
        data = forge.encode(refs={"heads/main": forge.commit(forge.signer)})
        leave(world)
        world.put(data)
        world.refuse(errors.IntegrityError)


def test_a_leaver_forks_from_before(world: World) -> None:
    """With many states, so that the chain of txids does not tell."""
    forge = Forge(world.mallory)
    leave(world)
    root = msgspec.structs.replace(forge.root, refs={"heads/main": forge.commit(forge.signer)})
    for _ in range(100):
        root = roots.successor(root)
    inline = (*root.inline, *forge.inline)
    root = msgspec.structs.replace(root, inline=inline, time=NOW)
    world.put(roots.encode(forge.header, root, forge.vault, forge.signer))
    world.refuse(errors.IntegrityError)


def test_a_leaver_brings_the_entry_that_has_removed_them(world: World) -> None:
    """With another history, from a state in which they could still write."""
    if not world.plain:
        pytest.skip("the entry can't be read any more")
    leave(world)
    world.mallory("pull")
    forge = Forge(world.mallory)
    entry = history_of(world.mallory)[-1]
    head = forge.commit(forge.signer)
    world.put(forge.encode(refs={"heads/main": head}, team=forge.root.team, before=entry.prev))
    world.refuse(errors.ForgedRoot, "but not the change of the team")


def history_of(machine: Machine) -> list[TeamEntry]:
    with machine.repo() as repo:
        entries = [entered.entry for entered in history.entries(repo.store, repo.team.id)]
        return entries[::-1]


def test_one_who_leaves_alone_takes_nothing_along(world: World) -> None:
    """An entry by which members remove themselves brings no other history."""
    forge = Forge(world.mallory)
    stay = roster.drop(forge.root.roster, "mallory")
    entry = forge.entry(stay)
    head = forge.commit(forge.signer)
    data = forge.encode(refs={"heads/main": head}, roster=stay, team=entry, before=forge.root.team)
    world.put(data)
    world.refuse(errors.ForgedRoot, "has left the team with it")
    world.put(forge.encode(roster=stay, team=entry, before=forge.root.team))
    for machine in world.readers():
        machine("pull")
        assert "mallory" not in machine("team", "list").out


def test_a_stranger(world: World) -> None:
    if world.plain:
        forge = Forge(world.cleo)
        forge.signer = stranger()
    else:
        forge = Forge(world.cleo)  # somebody to whom a reader has given the keys
        forge.signer = stranger()
    world.put(forge.encode(refs={"heads/main": forge.commit(forge.signer)}))
    world.refuse(errors.ForgedRoot, "somebody whom the team log does not know")


def test_a_repository_of_ones_own_with_the_same_name(world: World) -> None:
    """A log that begins with the attacker, under the repository's id."""
    if not world.plain:
        pytest.skip("its keys are not those that were seen")
    forge = Forge(world.cleo)
    forge.signer = stranger()
    me = Member("ana", ("age1x",), (), {"age1x": forge.signer.public}, "admin")
    forge.team = teamlog.Team()
    known = roster.Roster((me,))
    entry = forge.entry(known)
    root = Root(99, "0" * 32, team=entry, before=entry, roster=known)
    root = msgspec.structs.replace(
        root, refs={"heads/main": forge.commit(forge.signer)}, inline=tuple(forge.inline), time=NOW
    )
    data = roots.encode(forge.header, root, forge.vault, forge.signer)
    world.put(data)
    world.refuse(errors.IntegrityError)


def test_an_encrypted_repository_in_place_of_an_open_one(world: World) -> None:
    if not world.plain:
        pytest.skip("it is encrypted")
    forge = Forge(world.cleo)
    header, opened = vault.create([age.generate().public])
    header = msgspec.structs.replace(header, repository=forge.header.repository)
    world.put(roots.encode(header, roots.successor(forge.root), opened, forge.signer))
    for machine in (world.ana, world.ben):
        machine("pull", code=7)
    world.ana("remote", "repair", "--yes")
    world.ben("pull")


# --- signatures -----------------------------------------------------------------------------


def unsigned(forge: Forge) -> str:
    return forge.commit(None)


def by_a_stranger(forge: Forge) -> str:
    return forge.commit(stranger())


def of_another_purpose(forge: Forge) -> str:
    return forge.commit(forge.signer, namespace=Namespace.ROOT)


def of_another_repository(forge: Forge) -> str:
    return forge.commit(forge.signer, repository="ab" * 16)


@pytest.mark.parametrize(
    "made", [unsigned, by_a_stranger, of_another_purpose, of_another_repository]
)
def test_commits_that_nobody_has_signed(world: World, made: Callable[[Forge], str]) -> None:
    forge = Forge(world.ben)
    world.put(forge.encode(refs={"heads/main": made(forge)}))
    world.refuse(errors.ForgedCommit, "is not by a member of the team")


def test_a_commit_under_an_honest_one(world: World) -> None:
    """A signature covers the parents' ids alone, so all commits that are new are verified."""
    forge = Forge(world.ben)
    forge.head = forge.commit(None)
    world.put(forge.encode(refs={"heads/main": forge.commit(forge.signer)}))
    # A cold read does not look at what is under the head.
    world.refuse(errors.ForgedCommit, "it is not signed", cold_too=False)


def test_a_reader_is_no_author(world: World) -> None:
    with world.cleo.repo() as repo:
        cleos = repo.signer
    forge = Forge(world.ben)
    world.put(forge.encode(refs={"heads/main": forge.commit(cleos)}))
    world.refuse(errors.ForgedCommit, "never a writer's")


def test_nobody_writes_in_anothers_name(world: World) -> None:
    """The commit says Ana, and whose key has signed it is shown next to it."""
    forge = Forge(world.ben)
    world.put(forge.encode(refs={"heads/main": forge.commit(forge.signer)}))
    world.ana("pull")
    said = world.ana("log", "-n", "1", "--signatures").out
    assert "Author: Ana <ana@example>\nSigned: ben SHA256:" in said
    (entry,) = world.ana("log", "-n", "1", "--json").json
    assert (entry["author"], entry["signer"]) == ("Ana <ana@example>", "ben")
    assert "Signed: ben" in world.ana("show").out


def test_a_rejected_push_names_whose_key_it_was(world: World) -> None:
    forge = Forge(world.ben)
    world.put(forge.encode(refs={"heads/main": forge.commit(forge.signer)}))
    world.ana.commit({"a": "1\n"})
    assert "ben's 'a gift'" in world.ana("push", code=5).error


def test_a_root_without_a_signature_or_with_anothers(world: World) -> None:
    forge = Forge(world.ben)
    following = roots.successor(forge.root, time=NOW, signer=forge.signer.public)
    world.put(roots.encode(forge.header, following, forge.vault))
    world.refuse(errors.ForgedRoot, "its signature is not valid")
    following = msgspec.structs.replace(following, signer="")
    world.put(roots.encode(forge.header, following, forge.vault))
    world.refuse(errors.ForgedRoot, "its signature is not valid")


def test_a_signature_does_not_go_with_another_header(world: World) -> None:
    """The mailbox of one root in the header of another."""
    header, body = roots.read_header(world.root, "")
    other = msgspec.structs.replace(header, mailbox=age.generate().public)
    with world.ben.repo() as repo:
        opened = repo.vault.open(body, f"root\0{model.encode(header).decode()}")
        moved = repo.vault.close(opened, f"root\0{model.encode(other).decode()}")
    from attacks import assembled

    world.put(assembled(other, moved))
    world.refuse(errors.ForgedRoot, "its signature is not valid")


# --- the team log ---------------------------------------------------------------------------


def test_a_writer_changes_the_roster(world: World) -> None:
    """Without an entry, with an entry of their own, or by leaving the log out."""
    forge = Forge(world.ben)
    ben = roster.member(forge.root.roster, "ben")
    promoted = msgspec.structs.replace(ben, role="admin")
    known = roster.put(forge.root.roster, promoted)
    world.put(forge.encode(roster=known))
    world.refuse(errors.ForgedRoot, "its roster is not that of the team log")
    entry = forge.entry(known)
    world.put(forge.encode(roster=known, team=entry, before=forge.root.team))
    world.refuse(errors.ForgedRoot, "not signed by an administrator")
    world.put(forge.encode(roster=known, team="", before=""))
    world.refuse(errors.ForgedRoot, "it names no team log")


def test_a_truncated_log(world: World) -> None:
    """The state before Cleo was made a reader, with the roster of that time."""
    forge = Forge(world.ben)
    known = forge.root.roster
    world.ana("team", "set-role", "ben", "reader")
    world.ana("pull")
    follow(world.ben, world.ana)
    world.ben("pull")
    with world.ben.repo() as repo:
        seen = repo.remote().seen
        assert seen
    older = forge.root.team
    changes = {"roster": known, "team": older, "before": older, "time": NOW}
    root = roots.successor(seen.root, **changes)
    world.put(roots.encode(seen.header, root, forge.vault, forge.signer))
    for machine in (world.ana, world.ben):
        said = machine("pull", code=7)
        assert "does not go on from entry" in said.error
    said = fresh(world.ben)("pull", code=7)
    assert "has 4 entries, and `.dorkyrc` pins entry 5" in said.error


def test_an_old_root_under_a_newer_log(world: World) -> None:
    old = world.root
    world.ana("team", "set-role", "cleo", "writer")
    follow(world.ben, world.ana)
    world.ben("pull")
    new = world.root
    world.put(old)
    world.refuse(errors.IntegrityError)
    world.put(new)
    world.ben("pull")


def test_an_epoch_without_an_entry(world: World) -> None:
    if world.plain:
        pytest.skip("there are no keys")
    forge = Forge(world.ben)
    heirs = roster.recipients(forge.root.roster, ALL)
    header, opened = vault.begin_epoch(forge.header, forge.vault, ALL, heirs)
    forge.vault = opened
    inline = tuple(
        Inline(each.kind, each.id, opened.renew(each.kind, each.id, each.data))
        for each in forge.root.inline
    )
    world.put(forge.encode(header=header, inline=inline))
    world.refuse(errors.ForgedRoot, "its keys are not those of the team log")


def test_a_purge_by_a_writer(world: World) -> None:
    world.ben("purge", "m", "--yes", code=6)
    forge = Forge(world.ben)
    first = history_heads(world.ben)[-1]
    record = Purge(("m",), "Ben", NOW, forge.head, first)
    world.put(forge.encode(refs={"heads/main": first}, purges=(record,)))
    world.refuse(errors.ForgedRoot, "its purges are not those of the team log")
    world.put(forge.encode(refs={"heads/main": first}))
    for machine in (world.ana, world.ben):
        assert "history" in machine("pull", code=7).error


def history_heads(machine: Machine) -> list[str]:
    return [entry["id"] for entry in machine("log", "--json").json]


def test_a_fresh_clone_does_not_fall_behind_the_log(world: World) -> None:
    """A writer can't show newcomers a history from before the last change of the team."""
    world.ana("team", "set-role", "cleo", "writer")
    follow(world.ben, world.ana)
    world.ben("pull")
    forge = Forge(world.ben)
    first = history_heads(world.ben)[-1]
    world.put(forge.encode(refs={"heads/main": first}))
    said = fresh(world.ben)("pull", code=7)
    assert "does not go on from that of entry" in said.error or "history" in said.error


# --- honest work goes on --------------------------------------------------------------------


def test_what_was_accepted_stays(world: World) -> None:
    """A leaver's commits and a demoted writer's, for fresh clones, too."""
    world.ben.commit({"b": "1\n"}, "ben's")
    world.ben("push")
    world.ana("team", "set-role", "ben", "reader")
    leave(world)
    for machine in (world.ana, world.ben, fresh(world.ben)):
        machine("pull")
        signers = {e["message"].strip(): e["signer"] for e in machine("log", "--json").json}
        assert signers["an honest commit"] == "mallory"
        assert signers["ben's"] == "ben"
        assert "NOT VALID" not in machine("log", "--signatures").out
    world.ben("push", code=0 if world.ben("status", "--json").json["ahead"] == 0 else 6)


def test_a_clone_that_has_lost_the_root_reads_it_again(world: World) -> None:
    """The one that has brought the last change of the team, which the clone knows."""
    world.ana("team", "set-role", "ben", "admin")
    for machine in (world.ana, world.ben):
        machine("pull")
        with machine.repo() as repo:
            repo.database.forget_remote("origin")
        machine.commit({machine.base.name: "1\n"})
        machine("sync")


@pytest.mark.parametrize("lost", ["gone", "damaged", "refetched"])
def test_a_clone_that_has_lost_the_team_finds_it_again(world: World, lost: str) -> None:
    """In its own packs, or in the remote; a pin that was found before is looked at again."""
    world.ana("team", "set-role", "ben", "admin")
    for machine in (world.ana, world.ben):
        machine("pull")
        with machine.repo() as repo:
            repo.database.set("team", b"nonsense" if lost == "damaged" else b"")
        if lost != "refetched":
            machine("fsck", "--rebuild")
        machine.commit({machine.base.name: "1\n"})
        machine("sync")
        with machine.repo() as repo:
            assert repo.team.n == 5
    with world.ana.repo() as repo:
        repo.database.set("team", b"")
    text = rc(world.ana)
    pin(world.ana, f"5:{'0' * 64}")
    world.ana("pull", code=7)
    (world.ana.project / ".dorkyrc").write_text(text)
    world.ana("pull")


def test_a_purge_is_followed_by_all(world: World) -> None:
    world.ben.commit({"mine": "1\n"}, "not pushed")
    world.ana("purge", "m", "--yes")
    world.ben("pull")
    world.ben("push")
    for machine in (world.ana, fresh(world.ben)):
        machine("pull")
        assert "m" not in {entry["path"] for entry in machine("ls", "--json").json}
        assert "NOT VALID" not in machine("log", "--signatures").out


def test_who_had_signed_what_a_purge_rewrote(world: World) -> None:
    """It is told from what the purge's own key says, below the purge, and from nothing else."""
    world.ben.commit({"secret": "1\n"}, "by ben")
    world.ben("push")
    world.ana("pull")
    world.ana("purge", "secret", "--yes")
    made = world.ana.commit({"after": "1\n"}, "by ana")
    world.ana("push")
    for machine in (world.ana, world.ben, fresh(world.ben)):
        machine("pull")
        assert "Signed: ben, rewritten by ana" in machine("log", "--signatures").out
        assert "Signed: ana\n" in machine("show", made).out
    # Ben claims that Ana had signed what he writes.
    with world.ben.repo() as repo:
        claim = history.read_commit(repo.store, made)
        said = msgspec.structs.replace(claim, parents=(made,), meta={SIGNED: claim.signer})
        with repo.locked(), repo.store.writer() as writer:
            forged = writer.add_commit(said)
            writer.save()
    assert "Signed: ben\n" in world.ben("show", forged).out


def test_the_log_for_people(world: World) -> None:
    world.ana("team", "set-role", "ben", "admin")
    said = world.ana("team", "log").out
    assert "made ben an admin" in said
    assert "added cleo (reader)" in said
    newest = world.ana("team", "log", "--json").json[0]
    assert (newest["n"], newest["by"]) == (5, "ana")
    assert f"{newest['n']}:{newest['id']}" in (world.ana.project / ".dorkyrc").read_text()
    world.ana("team", "set-role", "ben", "admin", code=1)
    world.ana("team", "set-role", "nobody", "admin", code=4)
    world.ana("team", "set-role", "ben", "owner", code=2)
    world.ben("pull")
    world.ben("team", "set-role", "ana", "writer")
    assert "no administrator" in world.ben("team", "set-role", "ben", "writer", code=2).error


def test_a_bare_key_can_only_read(world: World) -> None:
    bare = age.generate()
    said = world.ana("team", "add", "eve", bare.public, "--role", "writer", code=2)
    assert "can only be a reader" in said.error
    world.ana("team", "add", "eve", bare.public)
    roles = {
        each["name"]: each["role"] for each in world.ana("team", "list", "--json").json["members"]
    }
    assert roles == {
        "ana": "admin",
        "ben": "writer",
        "cleo": "reader",
        "mallory": "writer",
        "eve": "reader",
    }
    both = age.generate()
    keys = f"{both.public} {signing.public_of(both)}"
    world.ana("team", "add", "fay", keys)
    made = world.ana("key", "gen", "--ci", "deploy", "--json").json
    roles = {
        each["name"]: each["role"] for each in world.ana("team", "list", "--json").json["members"]
    }
    assert (roles["fay"], roles["deploy"]) == ("writer", "reader")
    job = cloned(world.ana, "job")
    job.env["DORKY_IDENTITY"] = made["secret"]
    job("pull")
    job.commit({"x": "1"})
    job("push", code=6)
    world.ana("team", "set-role", "deploy", "writer")
    job("push")


def test_states_can_be_compared(world: World) -> None:
    """Members see which state they have, who has written it, and one from the future."""
    found = world.ana("fetch", "--json").json
    assert f"generation {found['generation']}, {found['txid']}" in world.ana("fetch", "-v").out
    newest = {check["name"]: check for check in world.ana("doctor", "--json").json}["newest"]
    assert (newest["verdict"], f"({found['txid']}) was written by" in newest["about"]) == (
        "ok",
        True,
    )
    forge = Forge(world.ben)
    world.put(forge.encode(time=NOW.replace(year=2999)))
    world.ana("pull")
    newest = {check["name"]: check for check in world.ana("doctor", "--json").json}["newest"]
    assert newest["verdict"] == "warn"
    assert "was written by ben in the future: 2999-" in newest["about"]


# --- keys of every kind sign ----------------------------------------------------------------


def test_an_ssh_key_signs(tmp_path: Path, file_url: Remote) -> None:
    ana = started(tmp_path / "ana", file_url, {".env": "A=1\n"}, "--name", "ana")
    ben = cloned(ana, "ben")
    path = ben.home / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(command, check=True, timeout=60)
    ben("key", "use", path)
    admit(ana, ben, "ben", "writer")
    ben("pull")
    ben.commit({"b": "1\n"}, "by ssh")
    ben("push")
    ana("pull")
    entry = ana("log", "--json").json[0]
    assert entry["signer"] == "ben"
    # As ssh-keygen -l shows it.
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", f"{path}.pub"], check=True, timeout=60, capture_output=True
    )
    assert entry["key"] in shown.stdout.decode()


def test_a_passphrase_signs(tmp_path: Path, file_url: Remote) -> None:
    """Who opens the repository by the recovery passphrase administers it."""
    ana = Machine(tmp_path / "ana", {"DORKY_PASSPHRASE": "correct horse battery staple"})
    ana("init", file_url.url, "--name", "ana", "--recovery", "passphrase")
    ana.commit({".env": "A=1\n"})
    ana("push")
    other = cloned(ana, "other")
    other("pull")
    other.commit({"o": "1\n"}, "after the loss")
    other("push")
    other("team", "remove", "ana")
    other("team", "add", "ana", other("key", "gen", "--json").json["recipient"])
    ana("pull", code=0)  # by the passphrase, which is in the environment
    assert ana("log", "--json").json[0]["signer"] == "recovery"


def test_an_open_repository_keeps_no_secret_key(tmp_path: Path, file_url: Remote) -> None:
    """A second administrator there is one with a key of their own."""
    ana = started(tmp_path / "ana", file_url, {"a": "1\n"}, "--plain")
    ana.env["DORKY_PASSPHRASE"] = "correct horse battery staple"
    assert "unencrypted" in ana("team", "add", "vault", "passphrase", code=2).error
    second = age.generate()
    keys = f"{second.public} {signing.public_of(second)}"
    ana("team", "add", "second", keys, "--role", "admin")
    other = cloned(ana, "other")
    other.env["DORKY_IDENTITY"] = second.secret
    other("pull")
    other("team", "set-role", "second", "writer", code=0)


# --- groups ---------------------------------------------------------------------------------


def test_a_groups_keys_made_again_from_the_first_on(tmp_path: Path, file_url: Remote) -> None:
    """By an administrator outside the group, for a clone that has seen nothing."""
    ana = started(tmp_path / "ana", file_url, {".env": "A=1\n"}, "--name", "ana")
    ben = cloned(ana, "ben")
    admit(ana, ben, "ben", "admin")
    ben("pull")
    ana("group", "add", "prod", "env/prod/**")
    ana.commit({"env/prod/.env": "URL=true\n"}, "prod")
    ana("push")
    ben("pull")
    forge = Forge(ben)
    (prod,) = forge.root.roster.groups
    own = [each for each in forge.header.epochs if each.group != prod.id]
    bare = msgspec.structs.replace(forge.header, epochs=tuple(own))
    heirs = [key for each in forge.root.roster.members for key in each.recipients]
    held = [each for each in forge.vault._by_id.values() if each.group != prod.id]
    header, opened = vault.begin_epoch(bare, vault.Vault(bare.repository, held), prod.id, heirs)
    known = roster.sealed(forge.root.roster, forge.root.roster, opened)
    forge.vault = opened
    inline = tuple(each for each in forge.root.inline if opened.group_of(each.data))
    for changes in (
        {"roster": known},
        {"roster": known, "team": forge.entry(known, header), "before": forge.root.team},
    ):
        data = forge.encode(header=header, inline=(*inline, *forge.inline), **changes)
        driver_of(file_url).put("root", data)
        for machine in (ana, fresh(ana)):
            before = machine.files()
            machine("pull", code=7)
            assert machine.files() == before


# --- joining --------------------------------------------------------------------------------


def test_a_signing_key_that_was_exchanged(world: World) -> None:
    """Somebody who writes to the bucket puts their signing key under a newcomer's key."""
    dan = cloned(world.ana, "dan")
    if world.plain:
        dan("pull")
    told = dan("team", "join", "dan", "--json").json["key"]
    assert told["signer"].startswith("ssh-ed25519 ")
    evil = stranger()
    forge = Forge(world.cleo)
    request = model.Request("dan", told["recipient"], evil.public)
    request = signing.signed(request, Namespace.JOIN, evil, forge.header.repository)
    (key,) = [name for name in bucket(world.remote) if name.startswith("join/")]
    body = age.wrap(model.encode(request), [forge.header.mailbox])
    driver_of(world.remote).put(key, body)
    said = world.ana("team", "add", "dan", "--fingerprint", told["fingerprint"], code=4)
    assert "no request of dan has the fingerprint" in said.error
    # Nor one that whoever asks can't sign with.
    with dan.repo() as repo:
        dans = repo.keyring.signer(teamlog.Team())
    request = msgspec.structs.replace(request, signer=dans.public)
    driver_of(world.remote).put(key, age.wrap(model.encode(request), [forge.header.mailbox]))
    assert world.ana("team", "list", "--json").json["requests"] == []


# --- repair ---------------------------------------------------------------------------------


def test_a_forged_root_is_replaced_and_kept(world: World) -> None:
    forge = Forge(world.cleo)
    evil = forge.encode(refs={"heads/main": forge.commit(forge.signer)})
    world.put(evil)
    world.cleo("remote", "repair", "--yes", code=6)
    assert "may not write" in world.ben("remote", "repair", code=5).err
    assert world.root == evil
    done = world.ben("remote", "repair", "--yes", "--json").json
    assert done["done"]
    assert bucket(world.remote)[done["kept"]] == evil
    for machine in world.readers():
        machine("pull")
        assert machine.read(".env") == b"A=1\n"
    world.ben("remote", "repair", "--yes", code=1)
    world.ana.commit({"n": "1"})
    world.ana("push")
    world.ben("pull")


def test_a_repair_names_what_the_last_sound_state_lacks(world: World) -> None:
    """Ana has pushed since Ben has looked; the forged root carries a part of it."""
    world.ana.commit({"large": noise(200_000)}, "in a pack")
    world.ana("push")
    newest = world.ana.commit({".env": "A=2\n"}, "in the root")
    world.ana("push")
    world.cleo("pull")
    forge = Forge(world.cleo)
    world.put(forge.encode(refs={"heads/main": forge.commit(forge.signer)}))
    said = world.ben("remote", "repair", code=5)
    assert "It lacks ana's 'in the root'" in said.err
    assert "a gift" not in said.err
    done = world.ben("remote", "repair", "--yes", "--json").json
    assert [(each["id"], each["author"]) for each in done["lacking"]] == [(newest, "ana")]
    # Ana, who has made them, does not lose them.
    world.ana("pull", "--accept-rewind")
    world.ana("push")
    world.ben("pull")
    assert world.ben.read(".env") == b"A=2\n"


def test_a_repair_finds_commits_in_packs_alone(world: World) -> None:
    made = world.ana.commit({"large": noise(200_000)}, "in a pack")
    world.ana("push")
    world.put(b"no root at all")
    done = world.ben("remote", "repair", "--yes", "--json").json
    assert [each["id"] for each in done["lacking"]] == [made]


def test_a_repair_finds_commits_behind_any_number_of_planted_packs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer of the bucket adds many later ones, so that the members' are overlooked."""
    made = world.ana.commit({"large": noise(200_000)}, "in a pack")
    world.ana("push")
    for n in range(1001):
        (Path(world.remote.url) / "packs" / f"{n:064x}").write_bytes(b"x" * 100)
    world.put(b"no root at all")
    monkeypatch.setattr(unlisted, "_LARGE", 1)
    done = world.ben("remote", "repair", "--yes", "--json").json
    assert [each["id"] for each in done["lacking"]] == [made]


def test_a_repair_reads_no_object_that_is_larger_than_a_pack(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer of the bucket puts a huge file there, which is called a pack."""
    huge = Path(world.remote.url) / "packs" / ("ab" * 32)
    huge.parent.mkdir(exist_ok=True)
    with huge.open("wb") as file:
        file.seek(1 << 40)
        file.write(struct.pack(">QI32s8s", 8, 100, bytes(32), b"DORKYPK2"))
    real = FileDriver.get_range

    def bounded(driver: FileDriver, key: str, start: int, end: int) -> bytes:
        assert end - start <= pack.LIMIT
        return real(driver, key, start, end)

    monkeypatch.setattr(FileDriver, "get_range", bounded)
    world.put(b"no root at all")
    assert world.ben("remote", "repair", "--yes", "--json").json["lacking"] == []


# --- the pin in .dorkyrc --------------------------------------------------------------------


def rc(machine: Machine) -> str:
    return (machine.project / ".dorkyrc").read_text()


def pin(machine: Machine, text: str) -> None:
    lines = [line for line in rc(machine).splitlines() if not line.startswith("team = ")]
    at = lines.index("[repository]") + 1
    new = [*lines[:at], *([f'team = "{text}"'] if text else []), *lines[at:]]
    (machine.project / ".dorkyrc").write_text("\n".join(new) + "\n")


def test_pins(world: World) -> None:
    entries = world.ana("team", "log", "--json").json
    newest, oldest = entries[0], entries[-1]
    for machine in (world.ben, fresh(world.ben)):
        for entry in (newest, oldest):  # a stale one is fine
            pin(machine, f"{entry['n']}:{entry['id']}")
            machine("pull")
            machine("doctor")
        pin(machine, f"{oldest['n']}:{newest['id']}")
        said = machine("pull", code=7)
        assert "has another entry 1 than `.dorkyrc` pins" in said.error
        pin(machine, f"9:{newest['id']}")
        said = machine("pull", code=7)
        assert "has 4 entries, and `.dorkyrc` pins entry 9" in said.error
        machine.commit({f"x{machine.base.name}": "1"})
        machine("push", code=7)
        pin(machine, "4")
        assert "N:ID" in machine("pull", code=3).error
        pin(machine, f"{newest['n']}:{newest['id']}")
        machine("sync")
    (world.ben.project / ".dorkyrc").write_text(f"<<<<<<< ours\n{rc(world.ben)}")
    assert "the higher number" in world.ben("pull", code=3).hint


def test_without_a_pin_the_administrators_are_named(world: World) -> None:
    machine = fresh(world.ben)
    pin(machine, "")
    said = machine("pull", *(["--plain"] if world.plain else []))
    assert "administered by ana" in said.err
    assert "team = " not in rc(machine)  # pull never edits .dorkyrc


def test_a_clone_by_url_may_demand_a_team(world: World) -> None:
    """Somebody has put another repository in the place of the one that was meant."""
    entry = world.ana("team", "log", "--json").json[0]
    wanted = f"{entry['n']}:{entry['id']}"
    options = ["--plain"] if world.plain else []
    for name in ("one", "two", "three", "four"):
        machine = world.ana.another(name)
        if name == "one":
            said = machine("clone", world.remote.url, ".", *options, "--team", wanted)
            assert "administered by" not in said.err
            assert wanted in rc(machine)
        elif name == "two":
            said = machine("clone", world.remote.url, ".", *options)
            assert "administered by ana" in said.out + said.err
        elif name == "three":
            other = f"{entry['n']}:{'0' * 64}"
            machine("clone", world.remote.url, ".", *options, "--team", other, code=7)
            assert not machine.own.exists()
        else:
            said = machine("clone", world.remote.url, ".", *options, "--team", "x", code=2)
            assert "N:ID" in said.error


# --- own commits under a replaced key -------------------------------------------------------


def test_own_commits_are_signed_again(world: World) -> None:
    """Ben has committed, and then gets another key."""
    world.ben.commit({"b": "1\n"}, "first")
    world.ben.commit({"b": "2\n"}, "second")
    for half in (world.ben.identity, world.ben.identity.with_suffix(".pub")):
        shutil.move(half, world.ben.base / f"old-{half.name}")
    new = world.ben("key", "gen", "--json").json
    if not world.plain:
        world.ana("team", "add", "ben", f"{new['recipient']} {new['signer']}")
    else:
        world.ana("team", "add", "benedict", f"{new['recipient']} {new['signer']}")
    world.ben("pull")
    # The old key was a writer's, so these are fine as they are.
    world.ben("commit", "--re-sign", code=1)
    world.ben("push")
    # A key that nobody knows is not.
    other = cloned(world.ana, "other")
    if world.plain:
        other("pull")
        other.commit({"o": "1\n"}, "by nobody yet")
        other.identity.unlink()
        other.identity.with_suffix(".pub").unlink()
        own = other("key", "gen", "--json").json
        world.ana("team", "add", "other", f"{own['recipient']} {own['signer']}")
        said = other("push", code=7)
        assert "never a writer's" in said.error
        assert "dorky commit --re-sign" in said.hint
        assert "Signed 1 commit again" in other("commit", "--re-sign").out
        other("push")
        world.ana("pull")
        assert world.ana("log", "-n", "1", "--json").json[0]["signer"] == "other"
