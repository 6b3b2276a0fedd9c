"""Keys that are none, too many keys, and taking one away: no member's key stops the others."""

from __future__ import annotations

import base64
import struct
from typing import Any

import msgspec
import pyrage
import pytest
from attacks import STEERING, changed, rewrite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from machines import Machine
from servers import Remote
from teams import Team, admit, cloned, gather, public

from dorky import errors, native
from dorky.format import codec, model, seal
from dorky.format.model import ALL, Group, Member, Roster
from dorky.keys import age as keys
from dorky.keys import roster, ssh

P = 2**255 - 19
CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def age(number: int) -> str:
    """An age key (Bech32, BIP 173) of any 32 bytes, as a number."""
    data = number.to_bytes(32, "little")
    bits = int.from_bytes(data, "big") << 4
    words = [bits >> shift & 31 for shift in range(255, -1, -5)]
    expanded = [ord(letter) >> 5 for letter in "age"] + [0] + [ord(letter) & 31 for letter in "age"]
    sum_ = 1
    for word in (*expanded, *words, *bytes(6)):
        top, sum_ = sum_ >> 25, (sum_ & 0x1FFFFFF) << 5 ^ word
        for n, one in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            sum_ ^= one if top >> n & 1 else 0
    words += [(sum_ ^ 1) >> 5 * (5 - n) & 31 for n in range(6)]
    return "age1" + "".join(CHARSET[word] for word in words)


def strings(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def ed25519(point: bytes) -> str:
    return f"ssh-ed25519 {base64.b64encode(strings(b'ssh-ed25519', point)).decode()}"


def rsa_key(exponent: int, modulus: int) -> str:
    numbers = [n.to_bytes(n.bit_length() // 8 + 1, "big") for n in (exponent, modulus)]
    return f"ssh-rsa {base64.b64encode(strings(b'ssh-rsa', *numbers)).decode()}"


# RFC 7748, section 6.1, and https://cr.yp.to/ecdh.html: with these every secret agrees on zero.
EIGHTH = (
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
)
LOW = [0, 1, P - 1, *(int.from_bytes(bytes.fromhex(text), "little") for text in EIGHTH)]
EDWARDS_EIGHTH = (
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
)
EDWARDS = [0, 1, P - 1, *(int.from_bytes(bytes.fromhex(text), "little") for text in EDWARDS_EIGHTH)]
MODULUS = (1 << 2047) + 1

UNFIT = [
    *(age(number) for number in LOW),
    *(age(number + P) for number in LOW if number + P < 1 << 256),
    *(age(number | 1 << 255) for number in LOW),
    age(9 | 1 << 255),
    age(P + 9),
    *(ed25519(y.to_bytes(32, "little")) for y in EDWARDS),
    *(ed25519((y | 1 << 255).to_bytes(32, "little")) for y in EDWARDS),
    *(ed25519((y + P).to_bytes(32, "little")) for y in EDWARDS if y + P < 1 << 255),
    ed25519((2).to_bytes(32, "little")),  # of no point
    ed25519(bytes(31)),
    rsa_key(1, MODULUS),
    rsa_key(2, MODULUS),
    rsa_key((1 << 64) + 1, MODULUS),
    rsa_key(65537, (1 << 1023) + 1),
    rsa_key(65537, (1 << 16383) + 1),
    "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t",
    "age1damaged",
    "ssh-ed25519",
    "",
    "\x1b[2J",
    "\ud800",
]


@pytest.mark.parametrize("key", UNFIT, ids=lambda key: ascii(key[:30]))
def test_what_can_not_be_encrypted_to_is_refused(key: str) -> None:
    assert keys.problem(key)
    with pytest.raises(errors.BadRecipient) as caught:
        keys.recipient(key)
    assert caught.value.message.isprintable()
    with pytest.raises(errors.BadRecipient):
        keys.wrap(bytes(32), [keys.generate().public, key])


def test_points_are_told_from_their_neighbours() -> None:
    """The lists hold what they should: pairs whose u is inverse, or whose y is negative."""
    assert age(9) == keys.recipient(age(9))
    assert {pow(u, -1, P) if u else 0 for u in LOW} == set(LOW) - {0} | {0}
    assert {-y % P for y in EDWARDS} - {P - 1, 0, 1} == set(EDWARDS) - {0, 1, P - 1}
    assert set(EDWARDS) == ssh._LOW_ORDER
    assert set(LOW) == keys._LOW_ORDER
    for number in LOW[3:]:
        assert not keys.problem(age(number + 1 if number % 2 else number + 2))


def test_another_spelling_of_a_key_is_one_key_where_people_give_it() -> None:
    key = keys.generate().public
    assert keys.recipient(key.upper()) == key
    # In a roster it is nobody's: it would pass for a second key.
    assert keys.problem(key.upper())
    assert keys.problem(f"{key} ")
    assert not keys.problem(key)


class PanicException(BaseException):
    """As pyo3 calls it; it can't be imported."""


def panic(*_: object, **__: object) -> None:
    raise PanicException("called `Option::unwrap()` on a `None` value")


def test_a_panic_is_an_error_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    known = keys.generate()
    wrapped = keys.wrap(bytes(32), [known.public])
    locked = keys.lock(known, "correct horse battery")
    fresh = keys.generate().public
    monkeypatch.setattr(pyrage, "encrypt", panic)
    monkeypatch.setattr(pyrage, "decrypt", panic)
    monkeypatch.setattr(pyrage.passphrase, "decrypt", panic)
    assert keys.problem(fresh)
    with pytest.raises(errors.BadRecipient):
        keys.wrap(bytes(32), [known.public])
    assert keys.unwrap(wrapped, [known]) is None
    assert keys.unlock(locked, "correct horse battery") is None
    monkeypatch.setattr(ssh, "parse", panic)
    with pytest.raises(errors.IdentityMalformed):
        keys.parse("-----BEGIN OPENSSH PRIVATE KEY-----", "the mailbox")
    monkeypatch.setattr("cramjam.zstd.decompress_into", panic)
    with pytest.raises(codec.CodecError):
        codec.inflate(codec.compress(bytes(1000)), limit=1000)
    aead = seal.XAES(bytes(32))
    sealed = aead.seal(b"x", b"")
    monkeypatch.setattr(aead, "_gcm", panic)
    with pytest.raises(seal.SealBroken):
        aead.open(sealed, b"")


def test_what_is_no_panic_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not native.panicked(KeyboardInterrupt())

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    known = keys.generate()
    wrapped = keys.wrap(bytes(32), [known.public])
    monkeypatch.setattr(pyrage, "decrypt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keys.unwrap(wrapped, [known])


# --- rosters that are made to harm ----------------------------------------------------------

texts = st.one_of(
    st.sampled_from([*UNFIT, "ssh-rsa AAAA", "x" * 10_000, "age1" + "q" * 58]),
    st.text(max_size=80),
    st.binary(max_size=40).map(lambda data: f"ssh-rsa {base64.b64encode(data).decode()}"),
    st.binary(min_size=32, max_size=32).map(ed25519),
    st.integers(0, (1 << 256) - 1).map(age),
)
GROUP = "0" * 16
rosters = st.builds(
    Roster,
    st.lists(
        st.builds(
            Member,
            st.sampled_from("abcdef"),
            st.lists(texts, max_size=4).map(tuple),
            st.sampled_from([(), (GROUP,)]),
        ),
        max_size=4,
    ).map(tuple),
    st.just((Group(GROUP, "prod", ("x/**",)),)),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rosters)
def test_whatever_a_roster_holds_it_can_be_wrapped_to(known: Roster) -> None:
    sound = keys.generate().public
    known = roster.put(known, Member("me", (sound,), (GROUP,)))
    for group in (ALL, GROUP):
        heirs = roster.recipients(known, group)
        assert sound in heirs
        assert keys.stanzas(keys.wrap(bytes(32), heirs)) >= len(heirs)
        assert set(roster.unused(known, group)).isdisjoint(heirs)
        assert all(roster.unused(known, group).values())


def test_no_roster_has_more_keys_than_a_root_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "problem", lambda _: "")
    for size in (62, 724):
        crowd = tuple(
            Member(f"m{n}", tuple(f"{n}-{i}".ljust(size, "x") for i in range(20)))
            for n in range(30)
        )
        heirs = roster.recipients(Roster(crowd), ALL)
        assert 60 < len(heirs) <= keys.RECIPIENTS
        assert sum(map(keys.cost, heirs)) <= keys.ROOM
        for each in crowd:
            assert len(set(each.recipients) & set(heirs)) <= roster.KEYS
    many = [keys.generate().public for _ in range(keys.RECIPIENTS)]
    monkeypatch.undo()
    assert keys.unwrap(keys.wrap(bytes(32), many), [keys.generate()]) is None
    assert len(keys.wrap(bytes(32), many)) <= keys.ROOM
    big = rsa_key(65537, (1 << 4095) + 1)
    assert len(keys.wrap(b"", [big])) - 300 < keys.cost(big)


@pytest.fixture
def team(tmp_path: Any, file_url: Remote) -> Team:
    return gather(tmp_path, file_url)


def give(member: Machine, name: str, *more: str, first: bool = False) -> None:
    """Write keys under a name, as a hostile member would."""

    def change(known: Roster) -> Roster:
        held = roster.member(known, name).recipients
        return changed(known, name, recipients=(*more, *held) if first else (*held, *more))

    rewrite(member, change)


def unused(machine: Machine, name: str) -> list[str]:
    (found,) = [
        each for each in machine("team", "list", "--json").json["members"] if each["name"] == name
    ]
    return [key["fingerprint"] for key in found["keys"] if key["problem"]]


@pytest.mark.parametrize(
    "key", [age(LOW[3]), ed25519(bytes(32)), "age1damaged", "\x1b[2J"], ids=ascii
)
def test_a_key_that_is_none_stops_nobody(team: Team, key: str) -> None:
    give(team.ben, "ana", key, first=True)
    for each in (team.ana, team.cleo):
        each("pull")
    said = team.ana("team", "remove", "ben")
    assert "dorky team remove ana --key unused" in said.err
    team.ben("pull", code=6)
    team.ana("rotate")
    team.ana("team", "add", "dan", keys.generate().public)
    team.ana("team", "remove", "dan", "--json")
    listed = team.ana("team", "list")
    assert "CAN'T BE USED" in listed.out
    assert not set(listed.out + listed.err) & set(STEERING)
    (bad,) = unused(team.ana, "ana")
    assert team.ana("team", "remove", "ana", "--key", bad, "--dry-run").out.count(".env") == 0
    assert unused(team.ana, "ana") == [bad]
    team.ana("team", "remove", "ana", "--key", bad)
    assert not unused(team.ana, "ana")
    team.cleo("pull")


def test_a_key_that_is_none_under_a_name_in_a_group(team: Team) -> None:
    """Those in the group refuse the roster; one who is outside can put it right."""
    team.ana("group", "add", "prod", "env/prod/**")
    team.ben("pull")
    give(team.ben, "ana", age(0))
    team.ana("pull", code=7)
    (bad,) = unused(team.cleo, "ana")
    team.cleo("team", "remove", "ana", "--key", bad)
    team.ana("pull")
    team.ana("team", "remove", "ben")


def test_hundreds_of_keys_under_one_name_stop_nobody(team: Team) -> None:
    give(team.ben, "ana", *(keys.generate().public for _ in range(700)))
    team.ana("pull")
    team.ana("team", "add", "dan", keys.generate().public)
    said = team.ana("team", "remove", "ben")
    assert "more than 16 keys" in said.err
    team.ben("pull", code=6)
    assert len(unused(team.ana, "ana")) == 700 + 1 - roster.KEYS
    team.ana("team", "remove", "ana", "--key", "unused")
    assert unused(team.ana, "ana") == []
    team.cleo("pull")


def test_hundreds_of_keys_before_ones_own_lock_nobody_out(team: Team) -> None:
    flood = [keys.generate().public for _ in range(roster.KEYS)]
    give(team.ben, "ana", *flood, first=True)
    team.ana("pull")
    for command in (["rotate"], ["team", "add", "dan", keys.generate().public]):
        assert "No key of yours" in team.ana(*command, code=2).error
    team.ana("team", "remove", "ana", "--key", "unused", code=5)
    team.ana("team", "remove", "ana", "--key", flood[0])
    team.ana("team", "remove", "ben")
    team.ana("rotate")


def test_no_more_keys_are_added_than_are_used(team: Team) -> None:
    for _ in range(roster.KEYS - 1):
        team.ana("team", "add", "ben", keys.generate().public)
    before = team.ana("team", "list", "--json").json
    error = team.ana("team", "add", "ben", keys.generate().public, code=2).error
    assert "more than 16 keys" in error
    assert team.ana("team", "list", "--json").json == before
    team.ben("pull")


def test_there_is_an_end_to_groups() -> None:
    groups = tuple(Group(f"{n:016x}", f"g{n}", ()) for n in range(roster.GROUPS + 1))
    with pytest.raises(errors.UsageError):
        roster.check_room(Roster((), groups[1:]), Roster((), groups))
    roster.check_room(Roster((), groups), Roster((), groups))
    roster.check_room(Roster(), Roster((), groups[1:]))


@pytest.mark.usefixtures("as_shipped")
def test_there_is_an_end_to_passphrases(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader who has no other key tries each: so many are written as are tried."""
    data = keys.lock(keys.generate(), "correct horse battery")
    monkeypatch.setattr(keys, "lock", lambda *_: data)
    team.ana.env["DORKY_PASSPHRASE"] = "correct horse battery"
    for n in range(4):
        team.ana("team", "add", f"p{n}", "passphrase")
    assert "at most 4 passphrases" in team.ana("team", "add", "p4", "passphrase", code=2).error
    team.ana("team", "remove", "p0")
    team.ana("team", "add", "p4", "passphrase")


# --- one key of a member --------------------------------------------------------------------


def test_one_key_of_a_member_is_taken_away(team: Team) -> None:
    """Ben's old laptop: he goes on reading with his new one."""
    laptop = team.ben.another("laptop", identity=False)
    (laptop.project / ".dorkyrc").write_bytes((team.ben.project / ".dorkyrc").read_bytes())
    laptop("key", "gen")
    team.ana("team", "add", "ben", laptop("key", "show").out.strip())
    laptop("pull")
    (old, new) = (
        each("key", "show", "--json").json[0]["fingerprint"] for each in (team.ben, laptop)
    )
    team.ana("team", "remove", "ben", "--key", "SHA256:x", code=4)
    planned = team.ana("team", "remove", "ben", "--key", old, "--dry-run", "--json").json
    assert not planned["done"]
    assert planned["exposed"]
    assert planned["key"] == old
    team.ben("pull")
    done = team.ana("team", "remove", "ben", "--key", old)
    assert "ben can read nothing new by that key" in done.out
    team.ana.write(".env", "A=new\n")
    team.ana("commit", "-am", "changed")
    team.ana("push")
    team.ben("pull", code=6)
    laptop("pull")
    assert laptop.read(".env") == b"A=new\n"
    # The only key that is left: the member goes with it.
    done = team.ana("team", "remove", "ben", "--key", new, "--json").json
    assert not done["key"]
    laptop("pull", code=6)
    assert [each["name"] for each in team.ana("team", "list", "--json").json["members"]] == [
        "ana",
        "cleo",
    ]


def test_one_key_of_a_member_of_a_group(team: Team) -> None:
    second = keys.generate()
    team.ana("team", "add", "ben", second.public)
    team.ana("group", "add", "prod", "env/prod/**", "--member", "ana", "--member", "ben")
    told = keys.fingerprint(second.public)
    team.cleo("pull")
    assert "prod" in team.cleo("team", "remove", "ben", "--key", told, code=6).error
    rotation = team.ana("team", "remove", "ben", "--key", told, "--json").json
    assert rotation["groups"] == ["all", "prod"]
    team.ben("pull")
    other = cloned(team.ana, "second")
    other.env["DORKY_IDENTITY"] = second.secret
    other("pull", code=6)


def test_a_member_leaves(team: Team) -> None:
    """Cleo takes her own access away, of everything and of her group."""
    team.ana("group", "add", "prod", "env/prod/**", "--member", "ana", "--member", "cleo")
    team.cleo("pull")
    said = team.cleo("team", "remove", "cleo", code=5)
    assert "lock yourself out" in said.error
    assert said.hint == "if you mean it: dorky team remove cleo --yes"
    assert "would lock yourself out" in team.cleo("team", "remove", "cleo", "--dry-run").err
    team.cleo("pull")
    said = team.cleo("team", "remove", "cleo", "--yes")
    assert "dorky rotate" in said.err
    team.cleo("pull", code=6)
    team.ana("pull")
    team.ana.write("env/prod/api.env", "P=new\n")
    team.ana("commit", "-am", "changed")
    team.ana("push")
    team.ana("rotate")
    team.ben("pull")
    cloned(team.ana, "cleo-again")("pull", code=6)


def test_a_member_takes_a_key_of_their_own_away(team: Team) -> None:
    second = keys.generate()
    team.ben("team", "add", "ben", second.public)
    team.ben("team", "remove", "ben", "--key", keys.fingerprint(second.public))
    team.ben("pull")
    team.ben("team", "remove", "ben", "--key", keys.fingerprint(public(team.ben)), code=5)


def test_the_last_in_a_group_does_not_leave_it_to_nobody(team: Team) -> None:
    team.cleo("group", "add", "prod", "env/prod/**")
    assert "prod" in team.cleo("team", "remove", "cleo", "--yes", code=2).error
    team.cleo("pull")


def test_a_removal_of_oneself_that_loses_the_race(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys that were made for it must not be used: somebody else's swap came first."""
    from dorky.remote.root import Remote as Place

    swap = Place.swap
    raced: list[int] = []

    def first(self: Place, *arguments: Any, **named: Any) -> Any:
        if not raced:
            raced.append(1)
            raise errors.PreconditionFailed("root", self.url)
        return swap(self, *arguments, **named)

    monkeypatch.setattr(Place, "swap", first)
    team.cleo("team", "remove", "cleo", "--yes")
    assert raced
    team.ana("rotate")
    team.cleo("pull", code=6)


def test_a_removal_of_oneself_that_others_have_followed(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has been done, and what came after it is not for the one who left."""
    from dorky.remote.root import Remote as Place

    swap = Place.swap
    overtaken: list[int] = []

    def first(self: Place, *arguments: Any, **named: Any) -> Any:
        won = swap(self, *arguments, **named)
        if not overtaken:
            overtaken.append(1)
            team.ana("rotate")
            return None
        return won

    monkeypatch.setattr(Place, "swap", first)
    team.cleo("team", "remove", "cleo", "--yes")
    team.cleo("pull", code=6)
    assert len(team.ana("team", "list", "--json").json["members"]) == 2


def test_a_request_for_many_stanzas_is_nobodys(team: Team, file_url: Remote) -> None:
    """A hundred requests of 8 KiB of tiny stanzas each took a minute."""
    from machines import driver_of

    from dorky.remote import root as roots

    blob = driver_of(file_url).get("root")
    assert blob
    header, _ = roots.read_header(blob.data, "")
    wrapped = keys.wrap(
        model.encode(model.Request("dan", keys.generate().public, "ssh-ed25519 AAAA")),
        [header.mailbox, *(keys.generate().public for _ in range(20))],
    )
    driver_of(file_url).put("join/" + "0" * 32, wrapped)
    assert team.ana("team", "list", "--json").json["requests"] == []
    dan = cloned(team.ana, "dan")
    admit(team.ana, dan, "dan")


def test_a_member_is_replaced_in_place() -> None:
    ana = Member("ana", ("a", "b"))
    known = roster.put(Roster((ana, Member("ben", ("c",)))), msgspec.structs.replace(ana))
    assert [each.name for each in known.members] == ["ana", "ben"]
