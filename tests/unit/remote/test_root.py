"""The root: its bytes, what is refused of it, and whose compare-and-swap it was."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from faults import BUSY, LOST, OFFLINE, RESET, Faults, failing
from hypothesis import given
from hypothesis import strategies as st
from machines import Machine, driver_of, known
from servers import Remote as Place

from dorky import errors
from dorky.drivers.base import Version
from dorky.format import model
from dorky.format.model import (
    ALL,
    Epoch,
    Group,
    Header,
    Inline,
    Kind,
    Locked,
    Member,
    Pack,
    Root,
    Roster,
    Table,
)
from dorky.keys import age, vault
from dorky.remote import root as roots
from dorky.remote.root import Remote

IDENTITY = age.generate()
SEALED = vault.create([IDENTITY.public])
PLAIN = vault.create([])

ids = st.binary(min_size=32, max_size=32).map(bytes.hex)
txids = st.binary(min_size=16, max_size=16).map(bytes.hex)
whole_roots = st.builds(
    Root,
    generation=st.integers(1, 2**62),
    txid=txids,
    recent=st.lists(txids, max_size=64).map(tuple),
    refs=st.dictionaries(st.sampled_from(["heads/main", "tags/v1", "attest"]), ids),
    packs=st.lists(
        st.builds(
            Pack, ids, st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 2**31 - 1)
        ),
        max_size=3,
    ).map(tuple),
    inline=st.lists(
        st.builds(Inline, st.sampled_from(list(Kind)), ids, st.binary(max_size=300)), max_size=3
    ).map(tuple),
    gc_epoch=st.integers(0, 2**40),
    roster=st.builds(
        Roster,
        st.lists(
            st.builds(
                Member,
                st.sampled_from(["ana", "ci@acme"]),
                st.lists(st.text(max_size=20), max_size=2).map(tuple),
                st.lists(st.sampled_from(["0" * 16, "f" * 16])).map(tuple),
            ),
            max_size=3,
        ).map(tuple),
        st.lists(
            st.builds(
                Group,
                st.sampled_from(["0" * 16, "f" * 16]),
                st.just("prod"),
                st.lists(st.text(max_size=20), max_size=2).map(tuple),
            ),
            max_size=2,
        ).map(tuple),
    ),
    mailbox=st.text(max_size=20),
)


def test_what_is_stored_is_told_by_name(file_url: Place) -> None:
    driver = driver_of(file_url)
    names = ["ab" * 32, "cd" * 32]
    for key in (*(f"packs/{name}" for name in names), "packs/AB", f"packs/old/{names[0]}", "root"):
        driver.put(key, key.encode())
    found = roots.stored(driver)
    assert sorted(found) == names
    assert {each.size for each in found.values()} == {len("packs/") + 64}


# --- bytes ----------------------------------------------------------------------------------


@given(root=whole_roots, made=st.sampled_from([SEALED, PLAIN]))
def test_round_trip(root: Root, made: tuple[Header, vault.Vault]) -> None:
    header, opened = made
    data = roots.encode(header, root, opened)
    found, body = roots.read_header(data, "url")
    assert found == header
    assert roots.read_body(found, body, opened, "url") == root


def test_layout() -> None:
    """As the module's docstring and the docs draw it."""
    header, opened = PLAIN
    data = roots.encode(header, Root(1, "0" * 32), opened)
    magic, length = struct.unpack_from(">8sI", data)
    assert magic == b"DORKYRT1"
    assert data[12 : 12 + length] == msgspec.json.encode(header)
    assert data[-32:] == hashlib.sha256(data[:-32]).digest()
    body = data[12 + length : -32]
    assert len(body) == 4096
    signature, packed, codec, size = struct.unpack_from(">HIBI", body)
    assert signature == 0
    assert codec in {0, 1}
    assert size == len(model.encode(Root(1, "0" * 32)))
    assert not body[6 + packed :].strip(b"\0")


def test_successors_count_and_remember_sixty_four() -> None:
    chain = [roots.successor(None, refs={"heads/main": "0" * 64})]
    for _ in range(70):
        chain.append(roots.successor(chain[-1]))
    last = chain[-1]
    assert last.generation == 71
    assert last.refs == {"heads/main": "0" * 64}
    assert len({each.txid for each in chain}) == 71
    assert last.recent == tuple(each.txid for each in reversed(chain[6:70]))


NAME = "0" * 64
TABLE = Table(NAME, "0" * 32, 1024, 1, 1, 1, 1)


def names(count: int) -> tuple[str, ...]:
    return tuple(os.urandom(32).hex() for _ in range(count))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"packs": tuple(Pack(each, 1, 1) for each in names(65))}, "64 recent packs"),
        ({"tables": (TABLE,) * 6}, "5 tables"),
        ({"dropped": names(4097)}, "4,096 packs that were dropped"),
        ({"condemned": names(4097)}, "4,096 files that are to be deleted"),
        ({"refs": {f"tags/{n}": NAME for n in range(2049)}}, "2,048 branches and tags"),
        ({"mailbox": os.urandom(1 << 20).hex()}, "bytes, not for"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_has_no_room_is_said_before_anything_is_sent(
    changes: dict[str, Any], what: str
) -> None:
    header, opened = SEALED
    with pytest.raises(errors.UsageError, match=what):
        roots.encode(header, roots.successor(None, **changes), opened)


def test_as_much_as_there_may_be_fits() -> None:
    """100 members, 10 groups, 2,048 refs; lists and what is inline as full as they may be."""
    recipients = [age.generate().public for _ in range(100)]
    header, opened = vault.create(recipients)
    groups = [os.urandom(8).hex() for _ in range(10)]
    for group in groups:
        header, opened = vault.begin_epoch(header, opened, group, recipients)
    members = tuple(
        Member(f"member-{n}@example.com", (key,), tuple(groups)) for n, key in enumerate(recipients)
    )
    known = Roster(
        members,
        tuple(
            Group(each, f"group-{n}", tuple(f"area-{n}/{m}/**" for m in range(20)), 1, bytes(80))
            for n, each in enumerate(groups)
        ),
    )
    full = roots.successor(
        None,
        recent=tuple(os.urandom(16).hex() for _ in range(64)),
        refs={f"heads/feature/{os.urandom(8).hex()}": os.urandom(32).hex() for _ in range(2048)},
        packs=tuple(Pack(each, 1 << 25, 1 << 24, 300) for each in names(64)),
        inline=tuple(
            Inline(Kind.CHUNK, each, os.urandom(roots.INLINE // 128)) for each in names(128)
        ),
        condemned=names(4096),
        dropped=names(4096),
        tables=tuple(
            Table(each, os.urandom(16).hex(), 65_536, 1 << 20, 1 << 10, 10**9, 10**6)
            for each in names(5)
        ),
        roster=known,
        probed=names(16),
    )
    data = roots.encode(header, full, opened)
    assert len(data) < 0.9 * roots.LIMIT
    found, body = roots.read_header(data, "url")
    assert roots.read_body(found, body, opened, "url") == full


def test_a_body_says_nothing_of_little_changes_by_its_length() -> None:
    header, opened = SEALED
    sizes = {
        len(roots.encode(header, roots.successor(None, mailbox="m" * n), opened))
        for n in range(0, 1000, 100)
    }
    assert len(sizes) == 1


@pytest.mark.parametrize("at", [0, 3, -1], ids=["length", "low byte", "padding"])
def test_a_body_that_is_padded_otherwise_is_refused(at: int) -> None:
    header, opened = PLAIN
    data = roots.encode(header, roots.successor(None), opened)
    _, body = roots.read_header(data, "url")
    altered = bytearray(body)
    altered[at] ^= 1
    with pytest.raises(errors.CorruptRoot):
        roots.read_body(header, bytes(altered), opened, "url")
    for length in (0, 3, 100, len(body) - 1):
        with pytest.raises(errors.CorruptRoot):
            roots.read_body(header, body[:length], opened, "url")


def test_only_the_first_table_is_that_of_recent_packs() -> None:
    header, opened = SEALED
    recent = msgspec.structs.replace(TABLE, lists=0)
    for tables, right in (
        ((recent, TABLE), True),
        ((TABLE, recent), False),
        ((recent,) * 2, False),
    ):
        data = roots.encode(header, roots.successor(None, tables=tables), opened)
        found, body = roots.read_header(data, "url")
        if right:
            assert roots.read_body(found, body, opened, "url").tables == tables
        else:
            with pytest.raises(errors.CorruptRoot, match="two tables"):
                roots.read_body(found, body, opened, "url")


# --- what is refused ------------------------------------------------------------------------


class World:
    """Ana's project, the bytes of its root in the bucket, and a way to put others there."""

    def __init__(self, ana: Machine, place: Place) -> None:
        self.ana, self.driver = ana, driver_of(place)
        blob = self.driver.get("root")
        assert blob
        self.data = blob.data
        with ana.repo() as repo:
            self.known = known(repo)
            seen = repo.remote().seen
            assert seen
            self.header, self.root = seen.header, seen.root
            self.vault, self.signer = repo.vault, repo.signer

    def replace(self, data: bytes) -> None:
        self.driver.put("root", data)

    def replace_by(self, root: Root, header: Header | None = None) -> None:
        """Put a root there that somebody with the key has made."""
        self.replace(roots.encode(header or self.header, root, self.vault, self.signer))

    def refused(self, error: type[errors.DorkyError], code: int) -> None:
        """Fetching raises; nothing here is changed, neither by pull nor push."""
        files = self.ana.files()
        for command in ("fetch", "pull"):
            said = self.ana(command, code=code)
        with self.ana.repo() as repo:
            with pytest.raises(error) as caught:
                repo.fetch()
            assert said.error == caught.value.message
            assert known(repo) == self.known
        assert self.ana.files() == files
        self.ana.commit({"new": "1"})
        before = self.driver.get("root", limit=2 * roots.LIMIT)
        self.ana("push", code=code)
        assert self.driver.get("root", limit=2 * roots.LIMIT) == before


@pytest.fixture
def world(ana: Machine, file_url: Place) -> World:
    return World(ana, file_url)


def test_a_root_that_is_gone_is_no_invitation_to_make_one(world: World) -> None:
    world.driver.delete(["root"])
    files = world.ana.files()
    said = world.ana("pull", code=4)
    assert "is gone" in said.error
    assert "check the URL" in said.hint
    world.ana("push", code=4)
    world.ana.commit({"new": "1"})
    world.ana("push", code=4)
    assert list(world.driver.list("root")) == []
    assert world.ana.files().items() >= files.items()


def test_an_old_root_played_again(ana: Machine, file_url: Place) -> None:
    old = World(ana, file_url).data
    ana.commit({".env": "KEY=2\n"})
    ana("push")
    world = World(ana, file_url)
    world.replace(old)
    world.refused(errors.Rewound, 7)


def test_another_root_of_the_same_generation(world: World) -> None:
    world.replace_by(msgspec.structs.replace(world.root, txid="f" * 32))
    world.refused(errors.Rewound, 7)


@pytest.mark.parametrize("steps", [1, 3, 64])
def test_a_root_that_does_not_descend_from_what_was_seen(world: World, steps: int) -> None:
    """Within the window the chain must lead back; beyond it nobody can tell."""
    strangers = tuple(f"{n:032x}" for n in range(64))
    forged = msgspec.structs.replace(
        world.root, generation=world.root.generation + steps, txid="f" * 32, recent=strangers
    )
    world.replace_by(forged)
    world.refused(errors.Rewound, 7)


def test_a_clone_that_slept_through_the_window_catches_up(world: World) -> None:
    root = world.root
    for _ in range(65):
        root = roots.successor(root)
    assert world.root.txid not in root.recent
    world.replace_by(root)
    world.ana("pull")
    with world.ana.repo() as repo:
        seen = repo.remote().seen
        assert seen
        assert seen.root == root


def test_the_root_of_another_repository(world: World, tmp_path: Path) -> None:
    other = world.ana.another("other")
    other("init", tmp_path / "elsewhere")
    other.commit({".env": "EVIL=1\n"})
    other("push")
    world.replace((tmp_path / "elsewhere" / "root").read_bytes())
    world.refused(errors.WrongRepository, 7)


def test_a_repository_with_the_same_id_and_another_key(world: World) -> None:
    """As somebody could make it who may write to the bucket and knows whom to seal it to."""
    (identity,) = age.load(world.ana.identity)
    header, _ = vault.create([identity.public])
    header = msgspec.structs.replace(header, repository=world.header.repository)
    forger = vault.unlock(header, [identity])
    root = roots.successor(world.root)
    world.replace(roots.encode(header, root, forger, world.signer))
    world.refused(errors.WrongKey, 7)


def test_a_plain_repository_in_place_of_a_sealed_one(world: World) -> None:
    header = Header(model.FORMAT, world.header.repository, ())
    world.replace(
        roots.encode(header, roots.successor(world.root), vault.unlock(header, []), world.signer)
    )
    world.refused(errors.WrongKey, 7)


@pytest.mark.parametrize("plain", [False, True], ids=["sealed", "plain"])
def test_what_a_directory_without_dorkyrc_has_seen_it_holds_the_bucket_to(
    world: World, file_url: Place, plain: bool
) -> None:
    """DORKY_URL alone: the first root seen is trusted, a forged one afterwards is not."""
    bare = world.ana.another("bare")
    bare.env["DORKY_URL"] = file_url.url
    bare("pull")
    (identity,) = age.load(world.ana.identity)
    header, _ = vault.create([] if plain else [identity.public])
    header = msgspec.structs.replace(header, repository=world.header.repository)
    root = msgspec.structs.replace(world.root, generation=1000, refs={}, inline=())
    world.replace(roots.encode(header, root, vault.unlock(header, [identity]), world.signer))
    bare("pull", code=7)
    assert bare.read(".env") == b"KEY=1\n"


def test_a_stranger_is_told_that_it_is_not_sealed_for_him(world: World, file_url: Place) -> None:
    stranger = world.ana.another("stranger", identity=False)
    stranger("init", "--plain")
    stranger("destroy", "--yes")
    stranger.env["DORKY_IDENTITY"] = (mine := age.generate()).secret
    said = stranger("clone", file_url.url, "here", code=6)
    assert mine.public in said.error
    assert mine.secret not in said.err
    assert f"DORKY_URL={file_url.url} dorky team join" in said.hint
    assert stranger.files() == {}
    # What the hint says works.
    stranger.env["DORKY_URL"] = file_url.url
    stranger("team", "join")


def test_a_root_of_a_newer_format(world: World) -> None:
    world.replace_by(roots.successor(world.root), msgspec.structs.replace(world.header, format=3))
    world.refused(errors.FormatTooNew, 3)
    assert "newer dorky" in world.ana("pull", code=3).hint


@pytest.mark.parametrize("cut", [0, 1, 11, 12, 43, 44, 45, -33, -32, -1])
def test_a_truncated_root(world: World, cut: int) -> None:
    world.replace(world.data[:cut])
    world.refused(errors.CorruptRoot, 7)


@pytest.mark.parametrize(
    "garbage",
    [b"<html>hello</html>" * 10, bytes(1000), b"DORKYRT1" + bytes(100)],
    ids=["page", "zeros", "magic"],
)
def test_garbage_for_a_root(world: World, garbage: bytes) -> None:
    world.replace(garbage)
    world.refused(errors.CorruptRoot, 7)


def test_a_root_that_is_too_large(world: World) -> None:
    world.replace(b"x" * (roots.LIMIT + 1))
    world.refused(errors.TooLarge, 7)


def test_no_flipped_byte_of_a_root_goes_unnoticed(world: World) -> None:
    """Whether by accident or by somebody who mends the checksum, which needs no key."""
    with world.ana.repo() as repo:
        remote = repo.remote()

        def refused(data: bytes) -> None:
            # Not from the store: every byte would take two files.
            with pytest.raises(errors.DorkyError) as caught:
                remote._decode(Version(""), data)
            assert caught.value.exit_code in {3, 6, 7}, caught.value

        for at in range(len(world.data)):
            flipped = bytearray(world.data)
            flipped[at] ^= 1 << (at % 8)
            refused(bytes(flipped))
            if at < len(world.data) - 32:
                refused(mended(flipped))
        assert remote._decode(Version(""), world.data)


def mended(data: bytes | bytearray) -> bytes:
    """With a checksum that fits."""
    return bytes(data[:-32]) + hashlib.sha256(data[:-32]).digest()


@given(data=st.binary(max_size=200), cut=st.integers(0, 60))
def test_bytes_that_anybody_may_have_written(data: bytes, cut: int) -> None:
    """Nothing but an error of the tree comes out of bytes with a checksum that fits."""
    header, opened = SEALED
    start = roots.encode(header, roots.successor(None), opened)[:cut]
    whole = mended(start + data + bytes(32))

    def read() -> Root:
        found, body = roots.read_header(whole, "url")
        return roots.read_body(found, body, opened, "url")

    with pytest.raises(errors.DorkyError):
        read()


def wrapped_to_another(world: World) -> Header:
    """Whoever was a recipient once may have kept a wrapping that they can open."""
    (ana,) = age.load(world.ana.identity)
    return vault.wrap_anew(world.header, world.vault, ALL, [ana.public, IDENTITY.public])


def with_another_mailbox(world: World) -> Header:
    return msgspec.structs.replace(world.header, mailbox=IDENTITY.public)


def with_a_secret_key(world: World) -> Header:
    locked = (Locked(IDENTITY.public, "passphrase", b"of the writer"),)
    return msgspec.structs.replace(world.header, locked=locked)


def with_another_group(world: World) -> Header:
    made = Epoch("f" * 16, 1, "0" * 64, age.wrap(bytes(32), [IDENTITY.public]))
    return msgspec.structs.replace(world.header, epochs=(*world.header.epochs, made))


@pytest.mark.parametrize(
    "altered", [wrapped_to_another, with_another_mailbox, with_a_secret_key, with_another_group]
)
def test_a_header_is_bound_to_its_body(world: World, altered: Callable[[World], Header]) -> None:
    """What is in the clear can't be altered by who only writes to the bucket."""
    clear = model.encode(altered(world))
    _, body = roots.read_header(world.data, "")
    data = struct.pack(">8sI", b"DORKYRT1", len(clear)) + clear + body + bytes(32)
    world.replace(mended(data))
    world.refused(errors.CorruptRoot, 7)


def test_a_groups_key_is_not_taken_away_by_who_is_outside(ana: Machine, file_url: Place) -> None:
    """Putting somebody out begins a new key. The same key, no longer wrapped to them, is forged.

    Else a member of the team could make another's next commit lay open what is in the group.
    """
    ana("group", "add", "prod", ".env")
    world = World(ana, file_url)
    (group,) = world.root.roster.groups
    header = vault.wrap_anew(world.header, world.vault, group.id, [IDENTITY.public])
    emptied = msgspec.structs.replace(group, patterns=())
    open_now = msgspec.structs.replace(world.root.roster, groups=(emptied,))
    world.replace_by(roots.successor(world.root, roster=open_now), header)
    world.refused(errors.WrongKey, 7)


def test_remembering_is_all_or_nothing(world: World) -> None:
    following = roots.successor(world.root, refs={"heads/main": "0" * 64})
    data = roots.encode(world.header, following, world.vault, world.signer)
    with world.ana.repo() as repo:
        remote = repo.remote()
        before = remote.seen
        seen = roots.RootSnapshot(Version("x"), world.header, following)
        with pytest.raises(ZeroDivisionError), remote.remembering(seen, data):
            raise ZeroDivisionError
        assert remote.seen == before
        assert known(repo) == world.known
        with remote.remembering(seen, data):
            pass
        assert remote.seen == seen
        assert repo.database.ref("origin/main") == "0" * 64


# --- whose swap was it ----------------------------------------------------------------------


@contextmanager
def ready(world: World) -> Iterator[tuple[Remote, Callable[..., Any]]]:
    """A remote, and its swap on a clock that only sleeping moves."""
    with world.ana.repo() as repo:
        remote, clock = repo.remote(), [0.0]

        def sleep(seconds: float) -> None:
            clock[0] += seconds or 0.001

        def swap(root: Root) -> Any:
            return remote.swap(world.header, root, sleep=sleep, clock=lambda: clock[0])

        yield remote, swap


def somebody_else(world: World, faults: Faults) -> Callable[[], None]:
    """An action: another client's swap, from the root that ana has seen."""

    def act() -> None:
        world.replace_by(roots.successor(world.root, refs={}))

    return act


def stored(world: World) -> Root:
    blob = world.driver.get("root")
    assert blob
    header, body = roots.read_header(blob.data, "")
    return roots.read_body(header, body, world.vault, "")


NOISE = {"busy": BUSY, "reset": RESET, "lost": LOST}


@pytest.mark.each_value
@pytest.mark.parametrize("error", NOISE.values(), ids=NOISE)
@pytest.mark.parametrize("unread", [0, 1])
def test_won_though_the_answer_was_lost(
    world: World, faults: Faults, error: Exception, unread: int
) -> None:
    """Even when the client that retried inside says that it lost."""
    following = roots.successor(world.root)
    faults.after("swap", failing(error))
    faults.before("get", failing(RESET), times=6 * unread)
    with ready(world) as (_, swap):
        seen, data = swap(following)
    assert faults.done
    blob = world.driver.get("root")
    assert blob
    # What is sent says when it was sent.
    assert seen.root == msgspec.structs.replace(following, time=seen.root.time)
    assert (seen.version, data) == (blob.version, blob.data)
    # If reading failed, too, the identical bytes were sent again: that changes nothing.
    assert [verb for verb, _ in faults.calls].count("swap") == 1 + unread
    assert stored(world) == seen.root


@pytest.mark.parametrize("error", [BUSY, RESET], ids=["busy", "reset"])
def test_what_did_not_arrive_is_sent_again(world: World, faults: Faults, error: Exception) -> None:
    following = roots.successor(world.root)
    faults.before("swap", failing(error), times=3)
    with ready(world) as (_, swap):
        sent = swap(following)[0].root
    assert sent.txid == following.txid
    assert faults.done
    assert stored(world) == sent


def test_a_server_that_names_its_time_is_given_it(world: World, faults: Faults) -> None:
    busy = errors.ServerBusy("the bucket", "429", retry_after=7.0)
    faults.before("swap", failing(busy), times=2)
    with ready(world) as (remote, _):
        waited: list[float] = []
        remote.swap(world.header, roots.successor(world.root), sleep=waited.append)
    assert len(waited) == 2
    assert all(7.0 <= each < 7.5 for each in waited)


@pytest.mark.parametrize("asked", [roots.BUDGET + 1, 86_400.0, float("inf")])
def test_a_server_that_names_a_far_time_is_not_waited_for(
    world: World, faults: Faults, asked: float
) -> None:
    busy = errors.ServerBusy("the bucket", "503", retry_after=asked)
    faults.before("swap", failing(busy), times=9)
    with ready(world) as (remote, _):
        waited: list[float] = []
        with pytest.raises(errors.OutcomeUnknown):
            remote.swap(world.header, roots.successor(world.root), sleep=waited.append)
    assert waited == []


@pytest.mark.parametrize("error", [None, *NOISE.values()], ids=["answered", *NOISE])
def test_lost(world: World, faults: Faults, error: Exception | None) -> None:
    faults.before("swap", somebody_else(world, faults))
    if error:
        faults.after("swap", failing(error))
    with ready(world) as (_, swap), pytest.raises(errors.PreconditionFailed):
        swap(roots.successor(world.root))
    assert stored(world).refs == {}


@pytest.mark.parametrize("error", [BUSY, RESET, LOST], ids=["busy", "reset", "lost"])
def test_won_and_others_have_followed_since(world: World, faults: Faults, error: Exception) -> None:
    following = roots.successor(world.root)

    def two_more(_: object) -> None:
        world.replace_by(roots.successor(roots.successor(following)))
        raise error

    faults.after("swap", two_more)
    with ready(world) as (_, swap):
        assert swap(following) is None
    assert stored(world).generation == following.generation + 2


def test_no_answer_at_all_is_unknown_in_the_end(world: World, faults: Faults) -> None:
    faults.after("swap", failing(RESET), times=1000)
    faults.before("get", failing(RESET), times=10_000)
    with ready(world) as (_, swap), pytest.raises(errors.OutcomeUnknown):
        swap(roots.successor(world.root))
    assert 5 < [verb for verb, _ in faults.calls].count("swap") < 1000


def test_a_root_that_is_gone_when_looked_at(world: World, faults: Faults) -> None:
    def vanish() -> None:
        world.driver.delete(["root"])
        raise LOST

    faults.before("swap", vanish)
    with ready(world) as (_, swap), pytest.raises(errors.RootVanished):
        swap(roots.successor(world.root))
    assert list(world.driver.list("root")) == []


@pytest.mark.parametrize(
    "error",
    [
        OFFLINE,
        errors.AccessDenied("u", "403"),
        errors.BucketNotFound("u"),
        errors.NoCredentials("u", "-"),
        errors.BadEndpoint("u", "a web page"),
    ],
    ids=lambda error: error.code,
)
def test_what_will_not_pass_is_not_tried_again(
    world: World, faults: Faults, error: errors.DorkyError
) -> None:
    faults.before("swap", failing(error))
    with ready(world) as (_, swap), pytest.raises(type(error)):
        swap(roots.successor(world.root))
    assert len(faults.calls) == 1


def test_a_network_that_goes_away_after_sending_is_no_answer(world: World, faults: Faults) -> None:
    """Nothing was sent by the second try, but the first may have taken effect."""
    faults.before("swap", lambda: None)
    faults.after("swap", failing(RESET))
    faults.before("swap", failing(OFFLINE), times=1000)
    faults.before("get", failing(OFFLINE), times=10_000)
    with ready(world) as (_, swap), pytest.raises(errors.OutcomeUnknown):
        swap(roots.successor(world.root))


def test_the_first_root_may_lose_its_answer(world: World, faults: Faults, tmp_path: Path) -> None:
    founder = world.ana.another("founder")
    faults.after("swap", failing(RESET), key="root")
    founder("init", tmp_path / "place")
    assert faults.done
    founder.commit({"a": "1"})
    founder("push")


@pytest.mark.parametrize("error", [LOST, RESET], ids=["answered", "reset"])
def test_the_second_of_two_founders(
    world: World, faults: Faults, tmp_path: Path, error: Exception
) -> None:
    """Both found the place empty; the root of one is there when the other's arrives."""
    founder = world.ana.another("founder")
    place = tmp_path / "place"

    def first() -> None:
        (place / "root").write_bytes(world.data)
        raise error

    faults.before("swap", first, key="root")
    said = founder("init", place, code=5)
    assert "holds a dorky repository already" in said.error
    assert said.hint.startswith("dorky clone")
    assert (place / "root").read_bytes() == world.data
    assert list(founder.project.iterdir()) == []


# --- stores that refuse ---------------------------------------------------------------------


def test_a_store_that_refuses_the_version_that_it_shows(world: World, faults: Faults) -> None:
    faults.before("swap", failing(LOST), times=1000)
    with ready(world) as (_, swap), pytest.raises(errors.SwapsUnsupported):
        swap(roots.successor(world.root))
    assert [verb for verb, _ in faults.calls].count("swap") == 8


def test_refusals_after_a_try_without_an_answer_tell_nothing(world: World, faults: Faults) -> None:
    faults.before("swap", failing(RESET))
    faults.before("swap", failing(LOST), times=1000)
    with ready(world) as (_, swap), pytest.raises(errors.OutcomeUnknown):
        swap(roots.successor(world.root))


def test_tries_that_take_long_are_followed_by_others(world: World, faults: Faults) -> None:
    now = [0.0]

    def stall() -> None:
        now[0] += 61.0
        raise RESET

    faults.before("swap", stall, times=2)
    with ready(world) as (remote, _):
        following = roots.successor(world.root)
        won = remote.swap(world.header, following, sleep=lambda _: None, clock=lambda: now[0])
    assert won
    assert won[0].root.txid == following.txid
