"""The clear header of a root: anyone who can write to the bucket can write one.

What it costs to refuse one is counted (stanzas that reach age, trials of a passphrase), not timed.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import struct
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import msgspec
import pyrage
import pytest
from attacks import STEERING, Place, everything, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from teams import Team, cloned, fresh, public

from dorky import errors
from dorky.format import model
from dorky.format.model import ALL, Epoch, Header, Locked
from dorky.keys import age, vault
from dorky.keys.vault import Vault

PASSPHRASE = "correct horse battery"


class Costs:
    """What has been done with keys: stanzas that age was given, and work of scrypt."""

    def __init__(self) -> None:
        self.calls = 0
        self.stanzas = 0
        self.work = 0


@contextlib.contextmanager
def counted() -> Iterator[Costs]:
    costs = Costs()
    decrypt = pyrage.decrypt

    def counting(data: bytes, identities: list[Any]) -> bytes:
        costs.calls += 1
        costs.stanzas += len(identities) * data.count(b"\n-> ")
        return bytes(decrypt(data, identities))

    def trying(data: bytes, _: str) -> bytes:
        costs.work += 1 << int(re.findall(rb"-> scrypt \S+ (\d+)", data)[0])
        raise pyrage.DecryptError("no")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pyrage, "decrypt", counting)
        patched.setattr(pyrage.passphrase, "decrypt", trying)
        yield costs


def crafted(*stanzas: bytes) -> bytes:
    return b"age-encryption.org/v1\n%s--- %s\n%s" % (b"".join(stanzas), b"A" * 43, bytes(64))


TINY = b"-> x a\n\n"
X25519 = b"-> X25519 " + b"A" * 43 + b"\n" + b"A" * 43 + b"\n"


def with_groups(header: Header, *wrapped: bytes) -> Header:
    made = (Epoch(os.urandom(8).hex(), 1, os.urandom(32).hex(), each) for each in wrapped)
    return msgspec.structs.replace(header, epochs=(*header.epochs, *made))


@pytest.fixture(scope="module")
def known() -> tuple[Header, Vault, age.Identity]:
    identity = age.generate()
    header, opened = vault.create([identity.public])
    return header, opened, identity


# --- before the body is known to be a member's ----------------------------------------------


def test_invented_groups_are_not_looked_at(team: Team, place: Place) -> None:
    """Eleven groups of 64 KiB of stanzas each cost five minutes before the body was verified."""
    header, body = place.parts()
    mine = age.wrap(bytes(32), [age.generate().public])
    for wrapped in ([crafted(*[TINY] * 250)] * 11, [crafted(*[X25519] * 250)] * 11, [mine] * 500):
        place.put(with_groups(header, *wrapped), body)
        for each in (team.ben, fresh(team.ben)):
            with counted() as costs:
                each("pull", code=7)
            assert costs.calls <= 2
            assert costs.stanzas <= 16
            with counted() as costs:
                each("team", "join", code=7)
            assert costs.stanzas <= 16


def test_a_header_of_more_than_any_writer_makes_is_refused_unopened(
    team: Team, place: Place
) -> None:
    header, body = place.parts()
    place.put(with_groups(header, *[crafted(*[TINY] * 7000)] * 8), body)
    for each in (team.ben, fresh(team.ben), cloned(team.ana, "nobody")):
        each("key", "gen") if each.base.name == "nobody" else None
        with counted() as costs:
            each("pull", code=7)
        assert costs.stanzas <= 16  # of the header that was seen before


@pytest.mark.parametrize("stanza", [TINY, X25519])
def test_too_many_stanzas_of_everybodys_key(team: Team, place: Place, stanza: bytes) -> None:
    header, body = place.parts()
    (epoch,) = header.epochs
    bare = msgspec.structs.replace(header, epochs=())
    epochs = (msgspec.structs.replace(epoch, wrapped=crafted(*[stanza] * 600)),)
    place.put(msgspec.structs.replace(bare, epochs=epochs), body)
    with counted() as costs:
        team.ben.run("pull")
        fresh(team.ben)("pull", code=6)
    assert costs.stanzas <= 16  # of the header that was seen before


def test_the_pin_is_looked_at_before_the_groups(team: Team, place: Place) -> None:
    """Keys of the writer's own, wrapped to the reader: the body verifies, but is another's."""
    header, _ = place.parts()
    reader = team.ben("key", "show").out.split()[0]
    own, opened = vault.create([reader])
    own = msgspec.structs.replace(own, repository=header.repository)
    held = Vault(header.repository, list(opened._by_id.values()))
    from dorky.remote import root as roots

    evil = with_groups(own, *[crafted(*[X25519] * 250)] * 8)
    place.keep(roots.encode(evil, roots.successor(None), held))
    for each in (team.ben, fresh(team.ben)):
        with counted() as costs:
            assert "key" in each("pull", code=7).error
        assert costs.stanzas <= 16


def test_an_ssh_key_is_tried_if_it_is_named_and_not_hundreds_of_times() -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

    made = generate_private_key(65537, 2048).private_bytes(
        form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()
    )
    (identity,) = age.parse(made.decode(), "a test")
    other = age.generate().public
    named = age.wrap(bytes(32), [other, identity.public])
    with counted() as costs:
        assert age.unwrap(named, [identity]) == bytes(32)
        assert age.unwrap(age.wrap(bytes(32), [other]), [identity]) is None
        assert costs.calls == 1
        # One operation of RSA for each stanza of its name, some ten milliseconds.
        found = re.search(rb"-> ssh-rsa \S+\n", named)
        assert found
        body = b"\n".join([b"A" * 64] * 5 + [b"A" * 22, b""])
        assert age.unwrap(crafted(*[found[0] + body] * 80), [identity]) is None
        assert costs.calls == 1


# --- passphrases ----------------------------------------------------------------------------


def under(work: int, salt: bytes = b"A" * 22) -> bytes:
    return crafted(b"-> scrypt %s %d\n%s\n" % (salt, work, b"A" * 43))


@pytest.mark.parametrize(
    ("works", "most"),
    [
        ([18] * 16, 1 << 20),
        ([20] * 16, 1 << 20),
        ([21, 22, 30, 63, 99], 0),
        ([1] * 16, 32),
        ([20, 18, 18], 1 << 20),
    ],
)
def test_all_trials_of_a_passphrase_together_have_a_limit(
    team: Team, place: Place, works: list[int], most: int
) -> None:
    header, body = place.parts()
    locked = tuple(Locked(age.generate().public, "passphrase", under(work)) for work in works)
    place.put(msgspec.structs.replace(header, locked=locked), body)
    dan = cloned(team.ana, "dan")
    dan("key", "gen")
    dan.env["DORKY_PASSPHRASE"] = PASSPHRASE
    with counted() as costs:
        dan("pull", code=6)
    assert costs.work <= most
    assert bool(costs.work) is bool(most)


def test_a_passphrase_costs_what_it_should_on_a_busy_machine(
    monkeypatch: pytest.MonkeyPatch, as_shipped: None
) -> None:
    """The age library measures how much a machine does in a second: on a busy one, nothing."""
    weak = pyrage.passphrase.encrypt

    def busy(data: bytes, passphrase: str) -> bytes:
        return re.sub(rb"(-> scrypt \S+) \d+", rb"\1 13", bytes(weak(data, passphrase)))

    monkeypatch.setattr(pyrage.passphrase, "encrypt", busy)
    identity = age.generate()
    locked = age.lock(identity, PASSPHRASE)
    assert re.match(rb"age-encryption\.org/v1\n-> scrypt [A-Za-z0-9+/]{22} 18\n", locked)
    assert age.work(locked) == 1 << 18
    assert age.unlock(locked, PASSPHRASE) == identity


def test_only_the_passphrase_opens_what_was_not_altered() -> None:
    identity = age.generate()
    locked = age.lock(identity, PASSPHRASE)
    assert age.unlock(locked, PASSPHRASE) == identity
    assert age.unlock(locked, f"{PASSPHRASE} ") is None
    # age itself, and not only what is written here, opens it.
    assert pyrage.passphrase.decrypt(locked, PASSPHRASE) == f"{identity.secret}\n".encode()
    for place in (40, 70, 120, -70, -1):
        altered = bytearray(locked)
        altered[place] ^= 1
        assert age.unlock(bytes(altered), PASSPHRASE) is None


def test_two_locked_keys_have_nothing_in_common() -> None:
    identity = age.generate()
    one, other = (age.lock(identity, PASSPHRASE) for _ in "12")
    words = [set(re.findall(rb"[A-Za-z0-9+/]{20,}", each)) for each in (one, other)]
    assert all(len(each) >= 3 for each in words)
    assert not words[0] & words[1]
    assert one[-100:] != other[-100:]


@pytest.mark.parametrize("work", [b"21", b"30", b"63", b"99", b"0", b"018", b"-1", b"1000", b""])
def test_more_work_than_is_reasonable_is_not_done(work: bytes) -> None:
    data = re.sub(rb"(-> scrypt \S+) \d+", rb"\1 " + work, under(18))
    with counted() as costs:
        assert age.work(data) == 0
        assert age.unlock(data, PASSPHRASE) is None
    assert not costs.work


def test_one_file_is_one_trial() -> None:
    twice = crafted(*(b"-> scrypt %s 18\n%s\n" % (salt * 22, b"A" * 43) for salt in (b"A", b"B")))
    with counted() as costs:
        assert age.unlock(twice, PASSPHRASE) is None
    assert not costs.work


# --- what is written ------------------------------------------------------------------------


def test_no_more_is_written_than_is_read(known: tuple[Header, Vault, age.Identity]) -> None:
    header, _, identity = known
    crowd = with_groups(header, *[crafted(*[X25519] * 256)] * 20)
    with pytest.raises(errors.UsageError, match="room"):
        vault.check_room(header, crowd)
    with pytest.raises(errors.CorruptRoot):
        vault.unlock(crowd, [identity])
    # What takes away is not refused, whatever a hostile member has written.
    fewer = msgspec.structs.replace(crowd, epochs=crowd.epochs[:-1])
    vault.check_room(crowd, fewer)
    vault.check_room(crowd, crowd)
    full = with_groups(header, *[crafted(*[X25519] * 100)] * 27)
    vault.check_room(header, full)
    assert vault.unlock(full, [identity]).groups == {ALL}
    assert 320 * model.KiB < len(model.encode(full)) < 384 * model.KiB
    over = with_groups(header, *[crafted(*[X25519] * 100)] * 32)
    with pytest.raises(errors.TooManyKeys, match="room"):
        vault.check_room(header, over)
    # A new key is refused before anything is encrypted with it, unless a member is removed by it.
    _, opened, _ = known
    recipients = [identity.public] * 100
    with pytest.raises(errors.TooManyKeys, match="room"):
        vault.begin_epoch(over, opened, "f" * 16, recipients)


def test_there_is_an_end_to_epochs(known: tuple[Header, Vault, age.Identity]) -> None:
    header, opened, identity = known
    crowd = with_groups(header, *[b"x"] * 1023)
    with pytest.raises(errors.UsageError, match="1,024 keys"):
        vault.begin_epoch(crowd, opened, ALL, [identity.public])


# --- any header -----------------------------------------------------------------------------

stanza = st.one_of(
    st.sampled_from([TINY, X25519, b"-> X25519\n\n", b"-> \n", b"->", b"-> scrypt A 30\nAAAA\n"]),
    st.binary(max_size=60),
    st.builds(
        b"-> %s %s\n%s\n".__mod__,
        st.tuples(
            st.sampled_from([b"X25519", b"ssh-rsa", b"ssh-ed25519", b"scrypt"]),
            st.binary(max_size=32).map(base64.b64encode),
            st.binary(max_size=48).map(base64.b64encode),
        ),
    ),
)
wrapped = st.one_of(
    st.builds(
        lambda stanzas, times: crafted(*stanzas * times), st.lists(stanza), st.integers(0, 90)
    ),
    st.binary(max_size=200),
)
epoch = st.builds(
    Epoch,
    st.sampled_from([ALL, "0" * 16, "1" * 16]),
    st.integers(1, 3),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    wrapped,
    st.sampled_from([b"", b"x", bytes(80)]),
    st.sampled_from([b"", b"x", bytes(80)]),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(epoch, max_size=5), st.booleans())
def test_any_header_is_refused_at_little_cost(
    known: tuple[Header, Vault, age.Identity], epochs: list[Epoch], behind: bool
) -> None:
    """None raises anything but an error of ours, and none costs much before it is known."""
    header, _, identity = known
    try:
        made = msgspec.structs.replace(
            header, epochs=tuple([*header.epochs, *epochs] if behind else epochs)
        )
        made = model.decode(Header, model.encode(made))
    except (ValueError, model.Malformed):
        return

    class Verified(Exception):
        pass

    def verify(_: Vault) -> None:
        raise Verified

    with counted() as costs:
        with contextlib.suppress(errors.DorkyError, Verified):
            vault.unlock(made, [identity], verify=verify)
        assert costs.calls <= 2
        assert costs.stanzas <= 2 * 264
    with counted() as costs:
        with contextlib.suppress(errors.DorkyError):
            vault.unlock(made, [identity])
        assert costs.calls <= 1 + len(made.epochs)
        assert costs.stanzas <= 4096 * 2


# --- headers that are made to harm ----------------------------------------------------------


def many_groups(header: Header, wrapped: bytes) -> Header:
    made = (Epoch(os.urandom(8).hex(), 1, os.urandom(32).hex(), wrapped) for _ in range(_MANY))
    return msgspec.structs.replace(header, epochs=(*header.epochs, *made))


def many_epochs(header: Header) -> Header:
    (ours,) = header.epochs
    first = msgspec.structs.replace(ours, wrapped=b"")
    made = [Epoch(ALL, n, os.urandom(32).hex(), b"", b"x" * 80, b"x" * 80) for n in range(2, _MANY)]
    made[-1] = msgspec.structs.replace(made[-1], wrapped=ours.wrapped)
    return msgspec.structs.replace(header, epochs=(first, *made))


_MANY = 1200


def test_headers_of_thousands_of_epochs(team: Team, place: Place) -> None:
    header, body = place.parts()
    mine = age.wrap(bytes(32), [public(team.ben)])
    for altered, error in (
        (many_groups(header, b"x"), errors.CorruptRoot),
        (many_groups(header, mine), errors.CorruptRoot),
        (many_epochs(header), errors.WrongKey),
    ):
        place.put(altered, body)
        refused(team.ben, place.remote, error, commands=[["pull"]])
        cloned(team.ben, "nobody")("pull", code=6)
        shutil.rmtree(team.ana.base.parent / "nobody")


def test_headers_that_are_none(team: Team, place: Place) -> None:
    header, body = place.parts()
    fields = msgspec.json.decode(model.encode(header))
    (epoch,) = fields["epochs"]
    for changes in (
        {"epochs": [epoch, epoch]},
        {"epochs": [{**epoch, "group": "0" * 16}]},
        {"epochs": [{**epoch, "epoch": 2}]},
        {"epochs": [{**epoch, "epoch": -1}]},
        {"epochs": [{**epoch, "epoch": 1 << 70}]},
        {"epochs": [{**epoch, "wrapped": "*"}]},
        {"epochs": [{**epoch, "commitment": "x"}]},
        {"epochs": [{**epoch, "group": "\x1b[2J"}]},
        {"locked": [{}]},
        {"locked": [{"recipient": "x", "kind": "\x1b[2J", "data": ""}]},
        {"locked": {"a": 1}},
        {"mailbox": 1},
        {"repository": "\x1b[2J"},
        {"format": 0},
    ):
        clear = msgspec.json.encode({**fields, **changes})
        data = struct.pack(">8sI", b"DORKYRT1", len(clear)) + clear + body
        place.keep(data + sha256(data).digest())
        before = everything(team.ben)
        for each in (team.ben, fresh(team.ben)):
            for command in (["pull"], ["team", "join"]):
                said = each(*command, code=7)
                assert not set(said.err) & set(STEERING)
        assert everything(team.ben) == before


GARBAGE = ("", "x", "\x1b[2J\x9b", "age1", "age1" + "q" * 58, "ssh-rsa AAAA", "\0", "x" * 100_000)


def test_mailboxes_and_locked_identities_that_are_garbage(team: Team, place: Place) -> None:
    """The first that a newcomer meets, with nothing to check it by."""
    header, body = place.parts()
    dan = cloned(team.ana, "dan")
    dan("key", "gen")
    for text in GARBAGE:
        for altered in (
            msgspec.structs.replace(header, mailbox=text),
            msgspec.structs.replace(header, locked=(Locked(text, "awskms", b"x", text),)),
            msgspec.structs.replace(header, locked=(Locked(text, "passphrase", text.encode()),)),
        ):
            place.put(altered, body)
            dan.env["DORKY_PASSPHRASE"] = "correct horse battery"
            before = everything(dan)
            for command in (["pull"], ["team", "join"]):
                said = dan.run(*command)
                assert said.code in ({2, 6, 7} if command == ["pull"] else {0, 2, 6, 7})
                assert not set(said.err) & set(STEERING)
            assert everything(dan) == before
            # Whom another key lets in does not even look.
            refused(team.ben, place.remote, errors.CorruptRoot, commands=[["pull"]])


def test_a_passphrase_is_not_tried_at_any_price(
    team: Team, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try takes as much memory and time as the header says, up to a limit."""
    tries: list[object] = []
    monkeypatch.setattr("pyrage.passphrase.decrypt", lambda *_: tries.append(1) or b"")
    header, body = place.parts()
    dan = cloned(team.ana, "dan")
    dan("key", "gen")
    dan.env["DORKY_PASSPHRASE"] = "correct horse battery"
    for work in (b"22", b"30", b"63", b"99", b"-1", b"1000", b"18 -> scrypt A 18"):
        data = b"age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA " + work + b"\n"
        locked = Locked(age.generate().public, "passphrase", data + bytes(200))
        place.put(msgspec.structs.replace(header, locked=(locked,)), body)
        dan("pull", code=6)
    assert not tries


def test_a_passphrase_is_not_tried_without_end(
    team: Team, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second and half a GiB each: a header has room for hours of it."""
    header, body = place.parts()
    tries: list[bytes] = []

    def unlock(data: bytes, _: str) -> None:
        tries.append(data)

    monkeypatch.setattr(age, "unlock", unlock)
    one = Locked(age.generate().public, "passphrase", b"x" * 100)
    place.put(msgspec.structs.replace(header, locked=(one,) * 1000), body)
    dan = cloned(team.ana, "dan")
    dan("key", "gen")
    dan.env["DORKY_PASSPHRASE"] = "correct horse battery"
    assert dan.run("pull").code in {6, 7}
    assert len(tries) <= 100
