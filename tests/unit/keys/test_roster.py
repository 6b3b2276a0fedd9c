"""The roster: who is on the team, which group a path belongs to, and who may say so."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import patterns

from dorky import errors
from dorky.format import model
from dorky.format.model import ALL, NAME, Group, Header, Member, Roster
from dorky.keys import age, placement, roster, vault
from dorky.keys.vault import Vault

OPS, DATA, WEB = "0123456789abcdef", "d" * 16, "e" * 16
IDS = (OPS, DATA, WEB)

names = st.sampled_from(["ana", "ben", "ci@acme", "recovery"])
SOUND = [age.generate().public for _ in range(3)]
keys_of = st.lists(st.sampled_from([*SOUND, "ssh-rsa AAAA"]), max_size=3).map(tuple)
members = st.builds(Member, names, keys_of, st.sets(st.sampled_from(IDS)).map(sorted).map(tuple))
groups = st.builds(
    Group,
    st.sampled_from(IDS),
    st.sampled_from(["ops", "data", "web"]),
    st.lists(patterns, max_size=3).map(tuple),
)
rosters = st.builds(
    Roster,
    st.lists(members, unique_by=lambda each: each.name, max_size=4).map(tuple),
    st.lists(groups, unique_by=lambda each: each.id, max_size=3).map(tuple),
)


# --- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ana", "a", "7", "Ana.B_c-d@acme+ci", "x" * 64])
def test_one_word_is_a_name(name: str) -> None:
    assert roster.check_name(name, "member") == roster.check_name(name, "group") == name


@pytest.mark.parametrize(
    "name", ["", " ", "-x", ".x", "@x", "a b", "a/b", "a\n", "a\x1b[2J", "é", "x" * 65, "\udcff"]
)
def test_anything_else_is_none(name: str) -> None:
    for what in ("member", "group"):
        with pytest.raises(errors.UsageError) as caught:
            roster.check_name(name, what)
        assert f"A {what} can't be named" in caught.value.message
        assert caught.value.message.isascii()
        assert caught.value.message.isprintable()


def test_no_group_is_called_as_everybody_is() -> None:
    with pytest.raises(errors.UsageError):
        roster.check_name(ALL, "group")
    assert roster.check_name(ALL, "member") == ALL


@pytest.mark.parametrize(
    ("author", "name"),
    [
        ("Ana Example <ana@example.test>", "ana-example"),
        ("ana", "ana"),
        ("Ana B. Example-Jones", "ana-b.-example-jones"),
        ("  Ana  <x>", "ana"),
        ("ana_b", "ana_b"),
        ("Zoë", "zo"),
        ("Анна", "me"),
        ("<ana@example.test>", "me"),
        ("", "me"),
        ("-._", "me"),
        ("x" * 70, "x" * 64),
    ],
)
def test_a_name_is_made_of_the_authors(author: str, name: str) -> None:
    assert roster.suggest_name(author) == name


@given(st.text(max_size=100))
def test_whatever_somebody_is_called_there_is_a_name(author: str) -> None:
    name = roster.suggest_name(author)
    assert roster.check_name(name, "member") == name
    assert re.match(NAME, name)


# --- members --------------------------------------------------------------------------------


@given(rosters, st.lists(st.one_of(members, names), max_size=6))
def test_putting_and_dropping_members_is_what_a_mapping_does(
    known: Roster, changes: list[Member | str]
) -> None:
    expected = {each.name: each for each in known.members}
    found = known
    for each in changes:
        if isinstance(each, str):
            expected.pop(each, None)
            found = roster.drop(found, each)
        else:
            expected[each.name] = each
            found = roster.put(found, each)
    # In the order in which they came.
    assert found == Roster(tuple(expected.values()), known.groups)
    for name in ("ana", "ben", "ci@acme", "recovery", "nobody"):
        if name in expected:
            assert roster.member(found, name) == expected[name]
        else:
            with pytest.raises(errors.NoSuchMember, match=name):
                roster.member(found, name)


@given(rosters)
def test_who_reads_a_group_and_by_which_keys(known: Roster) -> None:
    assert roster.readers(known, ALL) == list(known.members)
    for group in (ALL, *IDS, "f" * 16):
        inside = [each for each in known.members if group == ALL or group in each.groups]
        assert roster.readers(known, group) == inside
        held = [key for each in inside for key in each.recipients]
        assert roster.recipients(known, group) == [key for key in held if key in SOUND]
        assert set(roster.unused(known, group)) == set(held) - set(SOUND)


@given(rosters, st.sets(st.sampled_from(["age1a", "age1b", "age1c", "age1x"])))
def test_who_i_am_is_whose_key_i_hold(known: Roster, held: set[str]) -> None:
    holders = [each for each in known.members if not held.isdisjoint(each.recipients)]
    assert roster.me(known, iter(held)) == (holders[0] if holders else None)


# --- groups ---------------------------------------------------------------------------------


@given(rosters, st.lists(groups, max_size=5))
def test_putting_groups_is_what_a_mapping_does(known: Roster, changes: list[Group]) -> None:
    expected = {each.id: each for each in known.groups}
    found = known
    for each in changes:
        expected[each.id] = each
        found = roster.put_group(found, each)
    # In the order in which they came: it decides which of two has a path.
    assert found == Roster(known.members, tuple(expected.values()))


def test_a_group_is_found_by_its_name_while_it_has_files() -> None:
    ops, gone = Group(OPS, "ops", ("env/**",)), Group(DATA, "data", ())
    again = Group(WEB, "data", ("data",))
    known = Roster((), (ops, gone))
    assert roster.group(known, "ops") == ops
    for name in ("data", "web", ALL, ""):
        with pytest.raises(errors.NoSuchGroup):
            roster.group(known, name)
    # The name of one that is gone is free again.
    assert roster.group(roster.put_group(known, again), "data") == again
    assert roster.name_of(known, OPS) == "ops"
    assert roster.name_of(known, DATA) == "data"
    assert roster.name_of(known, ALL) == ALL
    assert roster.name_of(known, WEB) == WEB


# --- patterns -------------------------------------------------------------------------------

parts = st.sampled_from(["a", "b c", "*", "**", "[ab]", ".env", "...", "", ".", "..", "é"])


@given(st.lists(parts, max_size=4).map("/".join), st.sampled_from(["", "./", "././", "/"]))
@example("a/b/", "./")
@example("", "./")
@example("//", "")
def test_patterns_are_kept_without_what_means_nothing(pattern: str, before: str) -> None:
    given_ = before + pattern
    plain = given_[2:] if given_.startswith("./") else given_
    while plain.endswith("/"):
        plain = plain[:-1]
    if any(part in {"", ".", ".."} for part in plain.split("/")):
        with pytest.raises(errors.UsageError, match="no pattern of paths"):
            roster.check_patterns([given_])
    else:
        assert roster.check_patterns([given_]) == (plain,)
        assert roster.check_patterns([plain, given_, plain]) == (plain,)


def test_patterns_stay_in_their_order_each_once() -> None:
    assert roster.check_patterns(["b", "a/", "./b", "c"]) == ("b", "a", "c")
    assert roster.check_patterns([]) == ()
    # Another spelling is the same pattern.
    assert roster.check_patterns(["Env/**", "env/**", "ENV/**/"]) == ("Env/**",)


@pytest.mark.parametrize("pattern", ["/etc", "/", "", "../x", "a/../b", "..", "a//b", "a\0/.."])
def test_patterns_that_leave_the_project(pattern: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        roster.check_patterns(["fine", pattern])
    assert caught.value.message.isprintable()


def test_a_pattern_that_is_no_text() -> None:
    # Arguments that are not UTF-8 arrive like this; no path that can be staged is like that.
    with pytest.raises(errors.UsageError):
        roster.check_patterns(["env/\udcff"])


# --- what groups vouch for ------------------------------------------------------------------

ANA, BEN, EVE = (age.generate() for _ in range(3))
SPARE, CARL, EVIL = (age.generate().public for _ in range(3))


class Team:
    """Ana and Ben are in ``ops``, Eve is on the team only; all of them hold the key of all."""

    def __init__(self) -> None:
        header, opened = vault.create([each.public for each in (ANA, BEN, EVE)])
        header, opened = vault.begin_epoch(header, opened, WEB, [ANA.public, EVE.public])
        self.header, _ = vault.begin_epoch(header, opened, OPS, [ANA.public, BEN.public])
        self.anas, self.bens, self.eves = self.opened(self.header)
        known = Roster(
            (
                Member("ana", (ANA.public,), (OPS, WEB)),
                Member("ben", (BEN.public, SPARE), (OPS,)),
                Member("eve", (EVE.public,), (WEB,)),
            ),
            (Group(WEB, "web", ("web/**",)), Group(OPS, "ops", ("env/prod/**", "keys"))),
        )
        self.known = roster.sealed(Roster(), known, self.anas)

    @staticmethod
    def opened(header: Header) -> tuple[Vault, Vault, Vault]:
        ana, ben, eve = (vault.unlock(header, [each]) for each in (ANA, BEN, EVE))
        return ana, ben, eve

    def accepted(self, known: Roster, seen: Roster | None = None) -> None:
        """By everybody."""
        for opened in (self.anas, self.bens, self.eves):
            roster.check(self.header, known, opened, seen or Roster(), "url")

    def refused(self, known: Roster, seen: Roster | None = None) -> None:
        """By Ben, who knows the group and has nothing to do with the change."""
        before = self.known if seen is None else seen
        with pytest.raises(errors.ForgedGroup):
            roster.check(self.header, known, self.bens, before, "url")


@pytest.fixture(scope="module")
def team() -> Team:
    return Team()


def changed(known: Roster, group: str, **change: Any) -> Roster:
    (old,) = [each for each in known.groups if each.id == group]
    return roster.put_group(known, msgspec.structs.replace(old, **change))


def test_a_sealed_roster_is_what_was_sealed(team: Team) -> None:
    assert [each.version for each in team.known.groups] == [1, 1]
    team.accepted(team.known)
    team.accepted(team.known, seen=team.known)
    team.accepted(model.decode(Roster, model.encode(team.known)))
    # It says nothing new: nothing is sealed anew.
    for opened in (team.anas, team.bens, team.eves):
        assert roster.sealed(team.known, team.known, opened) == team.known


def test_who_is_in_a_group_changes_it(team: Team) -> None:
    web, ops = team.known.groups
    after = changed(team.known, OPS, patterns=("env/**",))
    sealed = roster.sealed(team.known, after, team.bens)
    team.accepted(sealed, seen=team.known)
    assert sealed.groups[0] == web
    assert (sealed.groups[1].patterns, sealed.groups[1].version) == (("env/**",), 2)
    # And it is not undone by who has kept what was before.
    team.refused(team.known, seen=sealed)
    team.refused(changed(sealed, OPS, **msgspec.structs.asdict(ops)), seen=sealed)


@pytest.mark.parametrize(
    "change",
    [{"patterns": ()}, {"patterns": ("keys", "env/prod/**")}, {"name": "opps"}, {"version": 2}],
    ids=str,
)
def test_who_is_not_in_a_group_does_not_change_it(team: Team, change: dict[str, Any]) -> None:
    after = changed(team.known, OPS, **change)
    team.refused(after)
    # Sealing leaves alone what the user can't vouch for.
    sealed = roster.sealed(team.known, after, team.eves)
    assert sealed == after
    team.refused(sealed)


def test_who_gets_a_groups_key_is_for_the_group_to_say(team: Team) -> None:
    eve = Member("eve", (EVE.public,), (OPS, WEB))
    ben = Member("ben", (BEN.public, SPARE, EVIL), (OPS,))
    swapped = Member("ben", (EVIL,), (OPS,))
    for member in (eve, ben, swapped, Member("ben", (BEN.public, SPARE), ())):
        after = roster.put(team.known, member)
        team.refused(after)
        team.refused(roster.sealed(team.known, after, team.eves))
        team.accepted(roster.sealed(team.known, after, team.anas), seen=team.known)
    team.refused(roster.drop(team.known, "ana"))
    # Nor are two called by each other's names: what people say yes to would be another thing.
    named = {"ana": "ben", "ben": "ana"}
    team.refused(
        msgspec.structs.replace(
            team.known,
            members=tuple(
                msgspec.structs.replace(each, name=named.get(each.name, each.name))
                for each in team.known.members
            ),
        )
    )
    # Others, and those of other groups, come and go.
    for after in (
        roster.put(team.known, Member("carl", (CARL,))),
        roster.put(team.known, Member("carl", (CARL,), (WEB,))),
        roster.drop(team.known, "eve"),
    ):
        roster.check(team.header, after, team.bens, team.known, "url")


def test_the_order_of_members_and_keys_means_nothing(team: Team) -> None:
    ben = Member("ben", (SPARE, BEN.public), (OPS,))
    members = [ben if each.name == "ben" else each for each in reversed(team.known.members)]
    team.accepted(msgspec.structs.replace(team.known, members=tuple(members)))


def test_a_seal_is_of_one_group_in_one_repository(team: Team) -> None:
    web, ops = team.known.groups
    for seal in (b"", web.seal, ops.seal[:-1], team.bens.close(b"x", "group", group=OPS)):
        team.refused(changed(team.known, OPS, seal=seal))
    # Moved to another group with all that it says.
    moved = changed(team.known, WEB, patterns=ops.patterns, name=ops.name, seal=ops.seal)
    with pytest.raises(errors.IntegrityError):
        roster.check(team.header, moved, team.anas, Roster(), "url")
    other = Team().known
    team.refused(changed(team.known, OPS, seal=other.groups[1].seal))


def test_a_new_key_seals_anew_and_the_old_one_no_more(team: Team) -> None:
    header, made = vault.begin_epoch(team.header, team.anas, OPS, [ANA.public])
    after = roster.put(team.known, Member("ben", (BEN.public, SPARE)))
    sealed = roster.sealed(team.known, after, made)
    assert [each.version for each in sealed.groups] == [1, 2]
    anas, bens, eves = team.opened(header)
    for opened in (anas, bens, eves):
        roster.check(header, sealed, opened, team.known, "url")
    # Ben, who was put out, vouches for nothing any more.
    late = roster.sealed(team.known, changed(team.known, OPS, patterns=("x",)), team.bens)
    for forged in (team.known, late):
        with pytest.raises(errors.ForgedGroup):
            roster.check(header, forged, anas, Roster(), "url")


@pytest.mark.parametrize("group", [ALL, WEB])
def test_a_seal_made_with_the_key_of_another_group(team: Team, group: str) -> None:
    after = changed(team.known, OPS, patterns=("nothing",), version=2)
    seal = team.eves.close(b"", roster._claims(after, after.groups[1]), group=group)
    forged = changed(after, OPS, seal=seal)
    with pytest.raises(errors.ForgedGroup):
        roster.check(team.header, forged, team.anas, team.known, "url")


def test_a_group_does_not_vanish(team: Team) -> None:
    # What is staged under its patterns afterwards would be for all to read.
    team.refused(msgspec.structs.replace(team.known, groups=team.known.groups[:1]))
    team.refused(msgspec.structs.replace(team.known, groups=()))
    # Not even for who has not seen it before: the header has its key.
    team.refused(msgspec.structs.replace(team.known, groups=()), seen=Roster())


def test_nobody_outside_takes_a_groups_files_by_a_wider_pattern(team: Team) -> None:
    web, ops = team.known.groups
    assert placement.owner(team.known)("env/prod/.env") == OPS
    # Eve lets a group of hers have them: one that is there, or a new one put before.
    wider = changed(team.known, WEB, patterns=("web/**", "env/**"))
    hers = Group(DATA, "hers", ("env/prod/**",))
    for known in (wider, msgspec.structs.replace(team.known, groups=(web, hers, ops))):
        owner_of = placement.owner(known)
        assert owner_of("env/prod/.env") is None
        assert owner_of("keys") == OPS
        assert owner_of("else") == ALL
