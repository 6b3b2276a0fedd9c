"""The team log: only administrators change the team, and no entry is valid anywhere else."""

from __future__ import annotations

import base64
import hashlib
import struct
from datetime import datetime, timezone
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from dorky import errors
from dorky.format import model
from dorky.format.model import ALL, Begun, Epoch, Group, Header, Member, Replaced, Roster, TeamEntry
from dorky.keys import signing, teamlog
from dorky.keys.signing import Signer
from dorky.keys.sshsig import Namespace
from dorky.keys.teamlog import Refused, Team

REPOSITORY = "5e" * 16
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
PROD = "ab" * 8
Log = list[tuple[str, TeamEntry]]


@cache
def key(name: str) -> Signer:
    secret = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
    parts = (b"ssh-ed25519", secret.public_key().public_bytes_raw())
    blob = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return Signer(f"ssh-ed25519 {base64.b64encode(blob).decode()}", secret)


def member(name: str, role: Any = "writer", *, groups: tuple[str, ...] = (), n: int = 1) -> Member:
    """A member with ``n`` age keys, each with its signing key."""
    ages = [f"age1{name}{at}" for at in range(n)]
    signers = {f"age1{name}{at}": key(f"{name}{at}").public for at in range(n)}
    return Member(name, tuple(ages), groups, signers, role)


def id_of(entry: TeamEntry) -> str:
    return hashlib.sha256(model.encode(entry)).hexdigest()


def header(*begun: tuple[str, str]) -> Header:
    """A header with an epoch for each group and letter."""
    epochs: list[Epoch] = []
    for group, letter in begun:
        number = sum(each.group == group for each in epochs) + 1
        epochs = [
            msgspec.structs.replace(e, wrapped=b"") if e.group == group else e for e in epochs
        ]
        more = {"previous": b"p", "proof": b"n"} if number > 1 else {}
        digest = hashlib.sha256(f"{group} {letter}".encode()).hexdigest()
        epochs.append(Epoch(group, number, digest, b"w", **more))
    return Header(2, REPOSITORY, tuple(epochs))


class Place(NamedTuple):
    """A log, its state, and the roster and header that it stands for."""

    log: Log
    team: Team
    roster: Roster
    header: Header

    def then(
        self,
        by: str,
        roster: Roster | None = None,
        head: Header | None = None,
        *,
        purges: tuple[Replaced, ...] = (),
        **other: Any,
    ) -> Place:
        """The place after an entry of somebody's, by the given fields instead of the right ones."""
        roster = self.roster if roster is None else roster
        head = self.header if head is None else head
        entry = teamlog.entry_for(
            self.team, head, roster, time=NOW, refs={"heads/main": "cd" * 32}, purges=purges
        )
        entry = signing.signed(
            msgspec.structs.replace(entry, **other), Namespace.TEAM, key(by), REPOSITORY
        )
        team = teamlog.extend(self.team, entry, id_of(entry), REPOSITORY)
        return Place([*self.log, (id_of(entry), entry)], team, roster, head)

    def put(self, by: str, *changed: Member, **other: Any) -> Place:
        names = {one.name for one in changed}
        members = (*(one for one in self.roster.members if one.name not in names), *changed)
        return self.then(by, msgspec.structs.replace(self.roster, members=members), **other)

    def drop(self, by: str, *names: str, **other: Any) -> Place:
        members = tuple(one for one in self.roster.members if one.name not in names)
        return self.then(by, msgspec.structs.replace(self.roster, members=members), **other)


def founded(*more: Member) -> Place:
    roster = Roster((member("ana", "admin"), *more))
    return Place([], Team(), Roster(), header()).then("ana0", roster, header((ALL, "1")))


def refused(log: Log, repository: str = REPOSITORY) -> str:
    with pytest.raises(Refused) as caught:
        teamlog.replay(log, repository)
    return str(caught.value)


# --- what an honest log says ----------------------------------------------------------------


def test_the_states_of_a_log() -> None:
    place = founded(member("ben"))
    assert place.team.n == 1
    assert place.team.role(key("ana0").public) == "admin"
    assert place.team.may_write(key("ben0").public)
    assert not place.team.may_write(key("cleo0").public)
    place = place.put("ana0", member("cleo", "reader"))
    assert place.team.role(key("cleo0").public) == "reader"
    assert not place.team.may_write(key("cleo0").public)
    assert key("cleo0").public not in place.team.names
    place = place.put("ana0", member("cleo", "writer")).put("ana0", member("cleo", "reader"))
    assert place.team.names[key("cleo0").public] == "cleo"
    place = place.drop("ana0", "ben")
    assert place.team.role(key("ben0").public) is None
    assert place.team.names[key("ben0").public] == "ben"  # what Ben committed stays his
    assert teamlog.replay(place.log, REPOSITORY) == place.team
    teamlog.check(place.team, place.header, place.roster)


def test_a_group_and_its_keys() -> None:
    place = founded(member("ben"))
    prod = Group(PROD, "prod", ("env/prod/**",), 3, b"seal")
    roster = Roster((member("ana", "admin", groups=(PROD,)), member("ben")), (prod,))
    place = place.then("ana0", roster, header((ALL, "1"), (PROD, "1")))
    assert place.team.groups[PROD] == Group(PROD, "prod", ("env/prod/**",))
    teamlog.check(place.team, place.header, place.roster)
    purged = place.then("ana0", purges=(Replaced("01" * 32, "02" * 32),))
    assert purged.team.purges == (Replaced("01" * 32, "02" * 32),)


def test_ssh_keys_sign_themselves() -> None:
    ana = Member("ana", (key("ana0").public,), role="admin")
    place = Place([], Team(), Roster(), header()).then("ana0", Roster((ana,)), header((ALL, "1")))
    assert place.team.role(key("ana0").public) == "admin"


def test_an_unencrypted_repository_has_a_log() -> None:
    place = Place([], Team(), Roster(), header()).then("ana0", Roster((member("ana", "admin"),)))
    assert place.team.epochs == ()
    teamlog.check(place.team, header(), place.roster)


def test_canonical_bytes() -> None:
    (_, entry), *_ = founded().log
    body = model.encode(entry)
    assert model.decode_entry(body, id_of(entry)) == entry
    for other in (body.replace(b'{"n":1', b'{ "n":1'), body[:-1], b"", body + b" "):
        with pytest.raises(errors.CorruptObject):
            model.decode_entry(other, id_of(entry))
    signed = signing.message(REPOSITORY, entry)
    assert signed.startswith(b"dorky/2\0" + REPOSITORY.encode() + b'\0{"n":1,')
    assert b"signature" not in signed


# --- who may change the team ----------------------------------------------------------------


@pytest.mark.parametrize("by", ["ben0", "cleo0", "nobody"])
def test_only_administrators(by: str) -> None:
    place = founded(member("ben"), member("cleo", "reader"))
    with pytest.raises(Refused, match="administrator"):
        place.put(by, member("dan"))
    with pytest.raises(Refused, match="administrator"):
        place.put(by, member("ben", "admin"))
    with pytest.raises(Refused, match="administrator"):
        place.drop(by, "ana", "dan")
    with pytest.raises(Refused, match="administrator"):
        place.then(by, head=header((ALL, "1"), (ALL, "2")))
    with pytest.raises(Refused, match="administrator"):
        place.then(by, purges=(Replaced("01" * 32, "02" * 32),))
    roster = msgspec.structs.replace(place.roster, groups=(Group(PROD, "prod", ("a",)),))
    with pytest.raises(Refused, match="administrator"):
        place.then(by, roster)


def test_one_who_was_an_administrator_is_none() -> None:
    place = founded(member("ben", "admin"))
    place.put("ben0", member("dan"))
    demoted = place.put("ana0", member("ben", "writer"))
    with pytest.raises(Refused, match="administrator"):
        demoted.put("ben0", member("dan"))
    removed = place.drop("ana0", "ben")
    with pytest.raises(Refused, match="administrator"):
        removed.put("ben0", member("dan"))


def test_the_last_administrator_stays() -> None:
    place = founded(member("ben"))
    with pytest.raises(Refused, match="no administrator"):
        place.put("ana0", member("ana", "writer"))
    with pytest.raises(Refused, match="no administrator"):
        place.drop("ana0", "ana")
    with pytest.raises(Refused, match="no administrator"):  # one who can't sign is none
        place.put("ana0", Member("ana", ("age1ana0",), role="admin"))
    place.put("ana0", member("ana", "writer"), member("ben", "admin"))


def test_members_remove_their_own_keys_and_nothing_else() -> None:
    place = founded(member("ben", n=2), member("cleo", "reader", n=2))
    new = header((ALL, "1"), (ALL, "2"))
    for name in ("ben", "cleo"):
        role = "writer" if name == "ben" else "reader"
        assert name not in place.drop(f"{name}1", name, head=new).team.members
        place.put(f"{name}1", member(name, role), head=new)
        with pytest.raises(Refused):  # a promotion on the way
            place.put(f"{name}1", member(name, "admin"))
        with pytest.raises(Refused):  # another key in place of the old one
            place.put(f"{name}1", member(name, role, n=3))
        with pytest.raises(Refused):  # nothing removed
            place.then(f"{name}1")
        with pytest.raises(Refused):  # and somebody else
            place.drop(f"{name}1", name, "ana")
        with pytest.raises(Refused):
            place.drop(f"{name}1", name, purges=(Replaced("01" * 32, "02" * 32),))
    with pytest.raises(Refused):
        place.drop("ben0", "cleo")


# --- what no entry may say ------------------------------------------------------------------


def test_a_key_is_one_members() -> None:
    place = founded(member("ben"))
    thief = Member("cleo", ("age1cleo0",), (), {"age1cleo0": key("ben0").public})
    with pytest.raises(Refused, match="two members"):
        place.put("ana0", thief)
    with pytest.raises(Refused, match="two members"):
        place.put("ana0", Member("cleo", ("age1ben0",)))
    with pytest.raises(Refused, match="two members"):
        place.put("ana0", Member("cleo", (key("ben0").public,)))


@pytest.mark.parametrize(
    "signers",
    [
        {"age1other": key("x").public},
        {"age1dan0": "ssh-ed25519 AAAA"},
        {"age1dan0": f"{key('x').public} comment"},
        {"age1dan0": "ssh-rsa AAAA"},
        {"age1dan0": ""},
    ],
)
def test_malformed_signing_keys(signers: dict[str, str]) -> None:
    with pytest.raises(Refused, match="signing key"):
        founded().put("ana0", Member("dan", ("age1dan0",), (), signers))


def test_epochs_are_new_and_of_known_groups() -> None:
    place = founded().then("ana0", head=header((ALL, "1"), (ALL, "2")))
    again = place.team.epochs[0]
    with pytest.raises(Refused, match="old key"):
        place.then("ana0", epochs=(again,))
    with pytest.raises(Refused, match="group that is not"):
        place.then("ana0", epochs=(Begun("cd" * 8, "01" * 32),))
    with pytest.raises(Refused, match="group that is not"):
        place.put("ana0", member("ben", groups=("cd" * 8,)))


def test_an_entry_changes_everything_once() -> None:
    place = founded(member("ben"))
    with pytest.raises(Refused, match="twice"):
        place.then("ana0", members=(member("ben"), member("ben", "reader")))
    with pytest.raises(Refused, match="twice"):
        place.then("ana0", members=(member("ben", "reader"),), left=("ben",))
    with pytest.raises(Refused, match="not on the team"):
        place.then("ana0", left=("dan",))
    group = Group(PROD, "prod", ("a",))
    with pytest.raises(Refused, match="twice"):
        place.then("ana0", groups=(group, group))
    with pytest.raises(Refused, match="seal"):
        place.then("ana0", groups=(msgspec.structs.replace(group, version=1),))


def test_what_a_root_holds_is_what_the_log_says() -> None:
    place = founded(member("ben"))
    others = [
        Roster((*place.roster.members, member("dan"))),
        Roster(place.roster.members[:1]),
        Roster((member("ana", "admin"), member("ben", "admin"))),
        msgspec.structs.replace(place.roster, groups=(Group(PROD, "prod", ("a",)),)),
    ]
    for roster in others:
        with pytest.raises(Refused, match="roster"):
            teamlog.check(place.team, place.header, roster)
        # Nor if an administrator has signed the hash of it.
        team = place.team._replace(roster=teamlog.digest(roster))
        with pytest.raises(Refused, match="roster"):
            teamlog.check(team, place.header, roster)
    for head in (header(), header((ALL, "2")), header((ALL, "1"), (ALL, "2"))):
        with pytest.raises(Refused, match="keys"):
            teamlog.check(place.team, head, place.roster)


def test_seals_are_bound() -> None:
    place = founded()
    prod = Group(PROD, "prod", ("a",), 1, b"seal")
    roster = msgspec.structs.replace(place.roster, groups=(prod,))
    place = place.then("ana0", roster, header((ALL, "1"), (PROD, "1")))
    older = msgspec.structs.replace(roster, groups=(msgspec.structs.replace(prod, version=0),))
    with pytest.raises(Refused, match="roster"):
        teamlog.check(place.team, place.header, older)


# --- attacks on whole logs ------------------------------------------------------------------

NAMES = ("ben", "cleo", "dan")


@st.composite
def logs(draw: st.DrawFn) -> Place:
    """An honest log of some entries, of which every one changes something."""
    place = founded()
    letters = 1
    for _ in range(draw(st.integers(2, 6))):
        admins = [one.name for one in place.team.members.values() if one.role == "admin"]
        by = f"{draw(st.sampled_from(sorted(admins)))}0"
        what = draw(st.sampled_from(["put", "put", "drop", "rotate", "purge"]))
        others = [name for name in place.team.members if name not in {"ana", by[:-1]}]
        if what == "put":
            name = draw(st.sampled_from(NAMES))
            role = draw(st.sampled_from(["admin", "writer", "reader"]))
            place = place.put(by, member(name, role))
        elif what == "drop" and others:
            place = place.drop(by, draw(st.sampled_from(sorted(others))))
        elif what == "purge":
            place = place.then(by, purges=(Replaced("01" * 32, f"{letters:064x}"),))
        else:
            letters += 1
            place = place.then(by, head=header(*((ALL, str(n + 1)) for n in range(letters))))
    return place


@given(logs())
def test_an_honest_log_replays_to_its_states(place: Place) -> None:
    team = Team()
    for entry_id, entry in place.log:
        team = teamlog.extend(team, entry, entry_id, REPOSITORY)
        assert team.n == entry.n
    assert team == place.team
    teamlog.check(team, place.header, place.roster)
    middle = len(place.log) // 2
    start = teamlog.replay(place.log[:middle], REPOSITORY)
    assert teamlog.replay(place.log[middle:], REPOSITORY, start) == place.team


@given(logs(), st.data())
def test_reordered_left_out_and_repeated_entries(place: Place, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(place.log) - 2))
    one, other = place.log[at : at + 2]
    rest = place.log[at + 2 :]
    assert "follow" in refused([*place.log[:at], other, one, *rest])
    assert "follow" in refused([*place.log[:at], other, *rest])  # truncated at the front, too
    assert "follow" in refused([*place.log[:at], one, one, other, *rest])
    assert "follow" in refused([*place.log, *place.log[at:]])


@given(logs(), st.data())
def test_a_truncated_log_is_another_state(place: Place, data: st.DataObject) -> None:
    at = data.draw(st.integers(1, len(place.log) - 1))
    team = teamlog.replay(place.log[:at], REPOSITORY)
    assert (team.n, team.id) != (place.team.n, place.team.id)
    # What the whole log has led to does not pass as what a part of it leads to.
    if team.roster != place.team.roster or team.epochs != place.team.epochs:
        with pytest.raises(Refused):
            teamlog.check(team, place.header, place.roster)


@given(logs(), st.data())
def test_a_fork_by_one_who_is_no_administrator(place: Place, data: st.DataObject) -> None:
    at = data.draw(st.integers(1, len(place.log)))
    before = teamlog.replay(place.log[:at], REPOSITORY)
    admins = {one.name for one in before.members.values() if one.role == "admin"}
    by = data.draw(st.sampled_from([*sorted({*NAMES} - admins), "mallory"]))
    evil = member("mallory", "admin")
    entry = TeamEntry(at + 1, before.id, NOW, members=(evil,), roster=before.roster)
    forged = signing.signed(entry, Namespace.TEAM, key(f"{by}0"), REPOSITORY)
    assert "administrator" in refused([*place.log[:at], (id_of(forged), forged)])
    # Nor does a true entry go on from there.
    if at < len(place.log):
        rest = [
            (entry_id, msgspec.structs.replace(entry, prev=id_of(forged), n=entry.n + 1))
            for entry_id, entry in place.log[at : at + 1]
        ]
        with pytest.raises(Refused):
            teamlog.replay(rest, REPOSITORY, before._replace(n=at + 1, id=id_of(forged)))


@given(logs(), st.data())
def test_stripped_and_borrowed_signatures(place: Place, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(place.log) - 1))
    _, entry = place.log[at]
    others = [other.signature for _, other in place.log if other.signature != entry.signature]
    signatures = [b"", bytes(64), *others]
    for changes in (
        *({"signature": signature} for signature in signatures),
        {"signer": ""},
        {"signer": key("mallory").public},
        {"signature": b"", "signer": ""},
        {"head": "ef" * 32},
        {"roster": "ef" * 32},
        {"members": (*entry.members, member("mallory", "admin"))},
        {"left": (*entry.left, "ana")},
        {"purges": (*entry.purges, Replaced("0a" * 32, "0b" * 32))},
        {"time": NOW.replace(year=2027)},
    ):
        forged = msgspec.structs.replace(entry, **changes)
        assert "signature" in refused([*place.log[:at], (id_of(forged), forged)])


@given(logs())
def test_no_entry_is_valid_in_another_repository(place: Place) -> None:
    assert "signature" in refused(place.log, "5f" * 16)
    assert "signature" in refused(place.log[:1], REPOSITORY + " ")


@given(logs(), st.sampled_from([one for one in Namespace if one is not Namespace.TEAM]))
def test_no_signature_of_another_purpose(place: Place, namespace: Namespace) -> None:
    entry_id, entry = place.log[0]
    signature = key("ana0").sign(namespace, signing.message(REPOSITORY, entry))
    forged = msgspec.structs.replace(entry, signature=signature)
    assert "signature" in refused([(entry_id, forged)])


@given(logs())
def test_names_only_grow(place: Place) -> None:
    teams = [teamlog.replay(place.log[:at], REPOSITORY) for at in range(1, len(place.log) + 1)]
    for before, after in pairwise(teams):
        assert before.names.items() <= after.names.items()
