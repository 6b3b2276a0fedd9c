"""Stored objects: each is what it was stored as, in its own repository, or it is not read."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator

import cramjam
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorky import errors
from dorky.cli import hints
from dorky.format import codec, model, seal
from dorky.format.model import ALL, Epoch, Header, Kind, Locked, MiB
from dorky.keys import age, vault
from dorky.keys.vault import OpenEpoch, Vault

REPOSITORY = "00112233445566778899aabbccddeeff"
OPS, DATA = "0123456789abcdef", "f" * 16
KEY = seal.EpochKey(bytes(range(32)))
SEALED = Vault(REPOSITORY, [OpenEpoch("all", 1, KEY)])
PLAIN = Vault(REPOSITORY, [])
vaults = pytest.mark.parametrize("opened", [SEALED, PLAIN], ids=["sealed", "plain"])

BODY = b"KEY=1\n"
ID = SEALED.object_id(Kind.CHUNK, BODY)


# --- vectors: where one changes, docs/internals/format.md must ------------------------------


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        (
            BODY,
            "876fbaf89ba122436465666768696a6b6c6d6e6f707172737475767778797a7b23304adfdba20c83"
            "52b82597a6bad86f22b60ed5166875655d0085f88fb09f8240567844701fde2b096f2d30d5af535d"
            "2e1385ffc4713b53b017a873b7ca5cebace0cd010c901e56483cac5cdcacec9dddf09c8e931f7117"
            "7a295fb7a4dfff58a658fc6d9512272096af9eae171b32364ea60802fc555d146188a615bfbd2636"
            "6006055c3d035ce57965b36c2791fb926ef0627bdcdcca237df54f36fcbe92703b49f50e1403c9c6"
            "ef2bb6be7c3e7986236cca7b2eae8a98c8f32379e969586381df5c992534b2c76c27fa33d22d03fc"
            "cf62bd29781fc6f727debb2b6212111fb26b75b983902bb58788518975e723ba03c3f77f6ea4ca42"
            "b3ed795c93ff2df24101775aeac9546e31f3a23d6ece6865",
        ),
        (
            BODY * 200,
            "876fbaf89ba122436465666768696a6b6c6d6e6f707172737475767778797a7b22304adb6da20c83"
            "43dbd5e166eb626c4fb60ee55d2d2c586c0a84f82854b0c740567844701fde2b096f2d30d5af535d"
            "2e1385ffc4713b53b017a873b7ca5cebace0cd010c901e56483cac5cdcacec9dddf09c8e931f7117"
            "7a295fb7a4dfff58a658fc6d9512272096af9eae171b32364ea60802fc555d146188a615bfbd2636"
            "6006055c3d035ce57965b36c2791fb926ef0627bdcdcca237df54f36fcbe92703b49f50e1403c9c6"
            "ef2bb6be7c3e7986236cca7b2eae8a98c8f32379e969586381df5c992534b2c76c27fa33d22d03fc"
            "cf62bd29781fc6f727debb2b6212111fb26b75b983902bb58788518975e723ba03c3f77f6ea4ca42"
            "b3ed795c93ff2df2476e6b0ad036e6927d2980387cea9721",
        ),
    ],
)
def test_vectors(body: bytes, stored: str) -> None:
    data = bytes.fromhex(stored)
    object_id = SEALED.object_id(Kind.CHUNK, body)
    assert SEALED.read(Kind.CHUNK, object_id, data) == body
    # What it is made of: the key's id, and XAES-256-GCM bound to what the object is.
    aad = b"dorky/2\0" + REPOSITORY.encode() + b"\0all\0chunk\0" + object_id.encode() + b"\0"
    assert data[:8] == bytes.fromhex(KEY.commitment)[:8]
    packed = seal.XAES(seal.derive(KEY.key, "seal")).open(data[8:], aad)
    assert len(packed) == 256
    assert codec.inflate(packed, limit=MiB, padded=True) == body


def test_a_plain_object_is_its_compressed_body() -> None:
    object_id = PLAIN.object_id(Kind.CHUNK, BODY)
    assert PLAIN.store(Kind.CHUNK, object_id, BODY) == codec.compress(BODY)


# --- round trips ----------------------------------------------------------------------------


@given(st.sampled_from([SEALED, PLAIN]), st.sampled_from(Kind), st.binary(max_size=2000))
def test_objects_survive(opened: Vault, kind: Kind, body: bytes) -> None:
    object_id = opened.object_id(kind, body)
    stored = opened.store(kind, object_id, body)
    assert opened.read(kind, object_id, stored) == body
    assert opened.read(kind, object_id, memoryview(stored)) == body
    # Nothing but their lengths leaves a sealed repository.
    if opened.sealed and len(body) > 3:
        assert body not in stored
        assert opened.store(kind, object_id, body) != stored
    whole = len(body) + codec.OVERHEAD
    assert len(stored) <= (vault.OVERHEAD + max(256, whole * 9 // 8) if opened.sealed else whole)


# --- binding --------------------------------------------------------------------------------


@vaults
def test_an_object_is_not_taken_for_another(opened: Vault) -> None:
    object_id = opened.object_id(Kind.CHUNK, BODY)
    stored = opened.store(Kind.CHUNK, object_id, BODY)
    for kind in Kind:
        wanted = {opened.object_id(Kind.CHUNK, b"other"), "0" * 64}
        if kind is not Kind.CHUNK:
            wanted.add(object_id)
            # A plain object does not say what it is: its id does, and these bytes have both.
            wanted |= {opened.object_id(kind, BODY)} if opened.sealed else set()
        for each in wanted:
            with pytest.raises(errors.CorruptObject):
                opened.read(kind, each, stored)


def test_an_object_is_bound_to_its_repository_and_group() -> None:
    stored = SEALED.store(Kind.CHUNK, ID, BODY)
    for other in (
        Vault("f" * 32, [OpenEpoch("all", 1, KEY)]),
        Vault(REPOSITORY, [OpenEpoch(OPS, 1, KEY)]),
        Vault(REPOSITORY, [OpenEpoch("all", 1, seal.EpochKey(bytes(32)))]),
        PLAIN,
    ):
        with pytest.raises(errors.CorruptObject):
            other.read(Kind.CHUNK, ID, stored)


def test_a_plain_object_does_not_pass_in_a_sealed_repository() -> None:
    # Whoever only writes to the bucket can make these.
    with pytest.raises(errors.CorruptObject):
        SEALED.read(Kind.CHUNK, ID, codec.compress(BODY))


def test_what_is_sealed_as_one_thing_does_not_open_as_another() -> None:
    whats = ["index", "root\0{}", "previous\0002", f"chunk\0{ID}", "chunk", "index\0", ""]
    for one, other in itertools.permutations(whats, 2):
        with pytest.raises(seal.SealBroken):
            SEALED.open(SEALED.close(b"x", one), other)


@vaults
@pytest.mark.parametrize("body", [b"", BODY, BODY * 30])
def test_every_flipped_bit_is_found(opened: Vault, body: bytes) -> None:
    object_id = opened.object_id(Kind.CHUNK, body)
    stored = bytearray(opened.store(Kind.CHUNK, object_id, body))
    for place in range(8 * len(stored)):
        stored[place // 8] ^= 1 << place % 8
        try:
            # Bits in a plain frame's header may mean nothing; another body they never mean.
            assert opened.read(Kind.CHUNK, object_id, bytes(stored)) == body
            assert opened is PLAIN
        except errors.CorruptObject:
            pass
        stored[place // 8] ^= 1 << place % 8


@vaults
def test_every_truncation_is_found(opened: Vault) -> None:
    object_id = opened.object_id(Kind.CHUNK, BODY)
    stored = opened.store(Kind.CHUNK, object_id, BODY)
    for data in (*(stored[:length] for length in range(len(stored))), stored + b"\0"):
        with pytest.raises(errors.CorruptObject):
            opened.read(Kind.CHUNK, object_id, data)


# --- limits ---------------------------------------------------------------------------------


@vaults
@pytest.mark.parametrize("kind", [Kind.CHUNK, Kind.COMMIT])
def test_what_no_reader_accepts_is_not_stored(opened: Vault, kind: Kind) -> None:
    largest = bytes(kind.limit)
    object_id = opened.object_id(kind, largest)
    assert opened.read(kind, object_id, opened.store(kind, object_id, largest)) == largest
    with pytest.raises(errors.UsageError, match=f"a {kind.value} of [0-9,]+ bytes is too large"):
        opened.store(kind, object_id, largest + b"\0")


@vaults
@pytest.mark.parametrize("kind", Kind)
def test_an_object_over_its_kinds_limit_is_not_inflated(opened: Vault, kind: Kind) -> None:
    bomb = (kind.limit + 1).to_bytes(5, "big")
    bomb = bytes([codec.ZSTD]) + bomb[1:] + bytes(cramjam.zstd.compress(bytes(1 << 20)))
    stored = opened.close(bomb, f"{kind.value}\0{ID}")
    with pytest.raises(errors.CorruptObject, match="over the limit"):
        opened.read(kind, ID, stored)


@vaults
def test_an_object_that_unfolds_past_its_stated_length(opened: Vault) -> None:
    frame = bytes(cramjam.zstd.compress(BODY * 100))
    for claimed in (0, 6, 599, 601):
        bomb = bytes([codec.ZSTD]) + claimed.to_bytes(4, "big") + frame
        with pytest.raises(errors.CorruptObject):
            opened.read(Kind.CHUNK, ID, opened.close(bomb, f"chunk\0{ID}"))


@given(st.sampled_from([SEALED, PLAIN]), st.sampled_from(Kind), st.binary(max_size=120))
def test_noise_is_no_object(opened: Vault, kind: Kind, noise: bytes) -> None:
    for stored in (noise, opened.close(noise, f"{kind.value}\0{ID}")):
        with pytest.raises(errors.CorruptObject):
            opened.read(kind, ID, stored)


# --- keys -----------------------------------------------------------------------------------

ANA, BEN, EVE = (age.generate() for _ in range(3))


def begun(header: Header, group: str, *members: age.Identity) -> Header:
    """The header after Ana, who is in all groups, has begun an epoch for ``members``."""
    opened = vault.unlock(header, [ANA])
    return vault.begin_epoch(header, opened, group, [each.public for each in members])[0]


def flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


def replaced(header: Header, place: int, **change: object) -> Header:
    """The header with one of its epochs changed."""
    epochs = list(header.epochs)
    epochs[place] = msgspec.structs.replace(epochs[place], **change)
    return msgspec.structs.replace(header, epochs=tuple(epochs))


def test_a_new_repository_opens_for_its_recipients_and_nobody_else() -> None:
    header, made = vault.create([ANA.public, BEN.public])
    assert header.format == model.FORMAT
    stored = made.store(Kind.CHUNK, made.object_id(Kind.CHUNK, BODY), BODY)
    for holder in ([ANA], [BEN], [EVE, BEN]):
        opened = vault.unlock(header, holder)
        assert opened.sealed
        assert opened.groups == {ALL}
        assert opened.epochs == 1
        assert opened.fingerprint == made.fingerprint == header.epochs[0].commitment
        assert opened.gear_seed() == made.gear_seed()
        assert opened.read(Kind.CHUNK, made.object_id(Kind.CHUNK, BODY), stored) == BODY
    with pytest.raises(errors.NoKey) as caught:
        vault.unlock(header, [EVE])
    assert EVE.public in caught.value.message
    assert EVE.secret not in caught.value.message + hints.hint(caught.value)
    with pytest.raises(errors.NoKey):
        vault.unlock(header, [])


def test_a_plain_repository_needs_no_identity() -> None:
    header, made = vault.create([])
    assert not header.sealed
    opened = vault.unlock(header, [], more=unasked)
    assert not opened.sealed
    assert opened.fingerprint == ""
    assert opened.groups == {ALL}
    assert opened.epochs == 0
    assert opened.object_id(Kind.CHUNK, BODY) == hashlib.sha256(b"chunk\0" + BODY).hexdigest()
    assert opened.gear_seed() == made.gear_seed() == 0
    assert opened.mask("ab" * 32, ID) == "ab" * 32


def test_a_plain_object_is_everybodys_and_stays_as_it_is() -> None:
    object_id = PLAIN.object_id(Kind.CHUNK, BODY)
    stored = PLAIN.store(Kind.CHUNK, object_id, BODY)
    assert PLAIN.group_of(stored) == ALL
    assert not PLAIN.is_foreign(stored)
    assert PLAIN.is_current(stored)
    assert PLAIN.renew(Kind.CHUNK, object_id, stored) == stored
    for epochs in (0, 1, 9):
        assert PLAIN.read(Kind.CHUNK, object_id, stored, epochs=epochs) == BODY


def test_repositories_have_nothing_in_common() -> None:
    (one, opened), (other, also) = (vault.create([ANA.public]) for _ in range(2))
    assert one.repository != other.repository
    assert opened.object_id(Kind.CHUNK, BODY) != also.object_id(Kind.CHUNK, BODY)
    assert opened.gear_seed() != also.gear_seed()
    assert opened.mask("ab" * 32, ID) != also.mask("ab" * 32, ID)


def test_the_mask_is_undone_by_itself() -> None:
    digest = "ab" * 32
    assert SEALED.mask(digest, ID) == seal.mask(digest, ID, seal.derive(KEY.id_key, "mask"))
    assert SEALED.mask(SEALED.mask(digest, ID), ID) == digest


def test_a_key_other_than_the_promised_is_not_used() -> None:
    # Public keys are public: anybody can wrap a key of their own to Ana.
    header, opened = vault.create([ANA.public])
    for group in (ALL, OPS):
        if group == OPS:
            header, _ = vault.begin_epoch(header, opened, OPS, [ANA.public])
        place = len(header.epochs) - 1
        promised = header.epochs[place].commitment
        for key in (bytes(32), b"short", bytes(33), b""):
            forged = replaced(header, place, wrapped=age.wrap(key, [ANA.public]))
            with pytest.raises(errors.WrongKey) as caught:
                vault.unlock(forged, [ANA])
            # Both are named, the one found and the one expected, shortened.
            found = seal.EpochKey(key).commitment
            assert f"({found[:16]})" in caught.value.message
            assert f"({promised[:16]})" in caught.value.message
            if len(key) != seal.KEY:
                # Nor one that is promised, but of a length that no key has.
                forged = replaced(forged, place, commitment=seal.EpochKey(key).commitment)
                with pytest.raises(errors.WrongKey):
                    vault.unlock(forged, [ANA])


def test_an_altered_wrapping_opens_for_nobody() -> None:
    header, _ = vault.create([ANA.public])
    wrapped = header.epochs[0].wrapped
    for place in range(0, len(wrapped), 7):
        with pytest.raises((errors.NoKey, errors.WrongKey)):
            vault.unlock(replaced(header, 0, wrapped=flipped(wrapped, place)), [ANA])


# --- epochs ---------------------------------------------------------------------------------


def test_who_joins_later_reads_what_was_stored_before() -> None:
    header, first = vault.create([ANA.public])
    object_id = first.object_id(Kind.CHUNK, BODY)
    old = first.store(Kind.CHUNK, object_id, BODY)
    header = begun(begun(header, ALL, ANA), ALL, ANA, BEN)
    for holder in (ANA, BEN):
        third = vault.unlock(header, [holder])
        # Ids never change, whichever epoch it is.
        assert third.object_id(Kind.CHUNK, BODY) == object_id
        assert third.gear_seed() == first.gear_seed()
        assert third.mask("ab" * 32, ID) == first.mask("ab" * 32, ID)
        assert third.read(Kind.CHUNK, object_id, old) == BODY
        new = third.store(Kind.CHUNK, object_id, BODY)
        assert new[:8].hex() == header.epochs[2].commitment[:16]
        assert third.fingerprint == header.epochs[2].commitment
        with pytest.raises(errors.CorruptObject):
            first.read(Kind.CHUNK, object_id, new)


def test_what_a_new_epoch_is_made_of() -> None:
    header, first = vault.create([ANA.public])
    following, second = vault.begin_epoch(header, first, ALL, [BEN.public])
    old, new = following.epochs
    assert (old.group, old.epoch, old.commitment) == (ALL, 1, header.epochs[0].commitment)
    assert (new.group, new.epoch, new.commitment) == (ALL, 2, second.fingerprint)
    # The newest alone is wrapped, to whom it was said; it seals the one before.
    assert old.wrapped == old.previous == b""
    key = age.unwrap(new.wrapped, [BEN])
    assert key == second.key(ALL)
    assert age.unwrap(new.wrapped, [ANA]) is None
    assert new.previous[:8].hex() == new.commitment[:16]
    aad = f"dorky/2\0{header.repository}\0all\0previous\0{2}\0".encode()
    cipher = seal.XAES(seal.derive(second.key(ALL), "seal"))
    assert cipher.open(new.previous[8:], aad) == first.key(ALL)
    # Nothing else of the header changes, and the maker goes on with both keys.
    assert msgspec.structs.replace(following, epochs=header.epochs) == header
    unlocked = vault.unlock(following, [BEN])
    stored = [each.store(Kind.CHUNK, ID, BODY) for each in (first, second)]
    for opened in (second, unlocked):
        assert opened.epochs == 2
        assert [opened.is_current(each) for each in stored] == [False, True]


def test_who_was_removed_opens_nothing_more() -> None:
    first, _ = vault.create([ANA.public, EVE.public])
    eves = vault.unlock(first, [EVE])
    header = begun(first, ALL, ANA)
    with pytest.raises(errors.NoKey):
        vault.unlock(header, [EVE])
    # With all that she ever had: the way leads back only.
    anas = vault.unlock(header, [ANA])
    object_id = anas.object_id(Kind.CHUNK, BODY)
    stored = anas.store(Kind.CHUNK, object_id, BODY)
    with pytest.raises(errors.CorruptObject):
        eves.read(Kind.CHUNK, object_id, stored)
    with pytest.raises(seal.SealBroken):
        eves.open(header.epochs[1].previous, "previous\0002")
    # Nor does she get in by the wrapping that she has kept, put in place of the new one.
    with pytest.raises(errors.WrongKey):
        vault.unlock(replaced(header, 1, wrapped=first.epochs[0].wrapped), [EVE])


def test_who_was_put_out_can_tell_by_whom() -> None:
    """By somebody who had the key before; else it is not a removal but an attack."""
    first, _ = vault.create([ANA.public, EVE.public])
    header = begun(first, ALL, ANA)
    vault.check_succession(header, first, ALL, [EVE], age.nobody)
    # A key that was begun without the one before: everything about it is made up.
    forger = Vault(first.repository, [OpenEpoch(ALL, 1, seal.EpochKey(b"f" * 32))])
    forged, _ = vault.begin_epoch(first, forger, ALL, [ANA.public])
    taken = vault.wrap_anew(first, vault.unlock(first, [ANA]), ALL, [ANA.public])
    other = replaced(header, 1, commitment="0" * 64)
    for bad in (forged, taken, other, replaced(header, 1, proof=b"x")):
        with pytest.raises(errors.WrongKey, match=first.epochs[0].commitment[:16]):
            vault.check_succession(bad, first, ALL, [EVE], age.nobody)
    # Who was never in has nothing to check, and whose key is not there nothing to check it with.
    vault.check_succession(forged, first, ALL, [age.generate()], age.nobody)
    vault.check_succession(forged, first, "e" * 16, [EVE], age.nobody)


def test_who_was_removed_does_not_pass_for_a_member() -> None:
    header, eves = vault.create([ANA.public, EVE.public])
    anas = vault.unlock(begun(header, ALL, ANA), [ANA])
    for data in (eves.close(b"a root", "root\0header"), eves.close(b"x", "index")):
        with pytest.raises(seal.SealBroken, match="retired"):
            anas.open(data, "root\0header", newest=True)
    assert anas.open(anas.close(b"a root", "root"), "root", newest=True) == b"a root"
    # Objects of before stay readable: their ids say what they are, whoever sealed them.
    assert anas.open(eves.close(b"x", "index"), "index") == b"x"


def test_an_altered_way_back_is_found() -> None:
    header = begun(vault.create([ANA.public])[0], ALL, ANA)
    previous = header.epochs[1].previous
    stranger = Vault(header.repository, [OpenEpoch(ALL, 2, seal.EpochKey(b"s" * 32))])
    own = vault.unlock(header, [ANA])
    for altered in (
        *(previous[:-1], flipped(previous, 0), flipped(previous, -1)),
        *(stranger.close(b"k" * 32, "previous\0002"), own.close(b"k" * 32, "previous\0002")),
        *(own.close(own.key(ALL), "previous\0001"), own.close(b"k", "previous\0002")),
    ):
        with pytest.raises(errors.WrongKey):
            vault.unlock(replaced(header, 1, previous=altered), [ANA])
    # Nor is a past key another than what the header says of it.
    with pytest.raises(errors.WrongKey):
        vault.unlock(replaced(header, 0, commitment="0" * 64), [ANA])


def test_wrapping_anew_lets_in_and_shuts_out_without_another_key() -> None:
    first, made = vault.create([ANA.public, EVE.public])
    first, made = vault.begin_epoch(first, made, OPS, [ANA.public])
    header = vault.wrap_anew(first, made, ALL, [ANA.public, BEN.public])
    opened = vault.unlock(header, [BEN])
    assert opened.fingerprint == made.fingerprint
    assert opened.key(ALL) == made.key(ALL)
    with pytest.raises(errors.NoKey):
        vault.unlock(header, [EVE])
    # All else is as it was, the other groups' wrappings too.
    assert replaced(header, 0, wrapped=first.epochs[0].wrapped) == first
    header = vault.wrap_anew(header, made, OPS, [BEN.public])
    assert vault.unlock(header, [BEN]).groups == {ALL, OPS}
    assert vault.unlock(header, [ANA]).groups == {ALL}
    # The newest is what is wrapped.
    second, new = vault.begin_epoch(header, made, ALL, [ANA.public])
    again = vault.wrap_anew(second, new, ALL, [BEN.public])
    assert [bool(each.wrapped) for each in again.epochs] == [False, True, True]
    assert vault.unlock(again, [BEN]).fingerprint == new.fingerprint


# --- groups ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two() -> tuple[Header, Vault, Vault]:
    """A repository with a group that Ana is in and Ben is not: its header, and what each opens."""
    header, opened = vault.create([ANA.public, BEN.public])
    header, _ = vault.begin_epoch(header, opened, OPS, [ANA.public])
    return header, vault.unlock(header, [ANA]), vault.unlock(header, [BEN])


def test_groups_have_keys_of_their_own(two: tuple[Header, Vault, Vault]) -> None:
    _, anas, bens = two
    assert (anas.groups, bens.groups) == ({ALL, OPS}, {ALL})
    # Everybody counts all epochs: what a pack says of itself does not depend on who wrote it.
    assert anas.epochs == bens.epochs == 2
    assert anas.fingerprint == bens.fingerprint
    object_id = anas.object_id(Kind.TREE, b"{}", group=OPS)
    stored = anas.store(Kind.TREE, object_id, b"{}", group=OPS)
    assert anas.read(Kind.TREE, object_id, stored) == b"{}"
    assert anas.group_of(stored) == OPS
    assert not anas.is_foreign(stored)
    assert anas.is_current(stored)
    # Ben sees that it is for others, and nothing else.
    assert bens.group_of(stored) is None
    assert bens.is_foreign(stored)
    with pytest.raises(errors.CorruptObject, match=r"a key .* that you don't have"):
        bens.read(Kind.TREE, object_id, stored)
    with pytest.raises(KeyError):
        bens.store(Kind.TREE, object_id, b"{}", group=OPS)
    # The local index hides digests by the key of all, whatever groups there are.
    assert anas.mask("ab" * 32, ID) == bens.mask("ab" * 32, ID)
    # What is for all is for both.
    shared = bens.store(Kind.TREE, bens.object_id(Kind.TREE, b"{}"), b"{}")
    for opened in (anas, bens):
        assert opened.group_of(shared) == ALL
        assert not opened.is_foreign(shared)
        assert opened.read(Kind.TREE, opened.object_id(Kind.TREE, b"{}"), shared) == b"{}"


def test_who_is_not_in_a_group_renews_the_key_of_all(two: tuple[Header, Vault, Vault]) -> None:
    header, anas, bens = two
    stored = anas.store(Kind.CHUNK, ID, BODY, group=OPS)
    following, made = vault.begin_epoch(header, bens, ALL, [ANA.public, BEN.public])
    assert following.epochs[1] == header.epochs[1]
    for opened in (made, vault.unlock(following, [BEN])):
        assert opened.epochs == 3
        assert opened.groups == {ALL}
        assert opened.is_foreign(stored)
    assert vault.unlock(following, [ANA]).is_current(stored)
    with pytest.raises(KeyError):
        vault.begin_epoch(header, bens, OPS, [BEN.public])


def test_what_nobody_sealed_is_no_foreign_groups_either(two: tuple[Header, Vault, Vault]) -> None:
    # What is passed over unread must be somebody's: else a damaged object would be passed over.
    _, anas, bens = two
    stored = anas.store(Kind.CHUNK, ID, BODY, group=OPS)
    for other in (b"", stored[:7], bytes(8) + stored[8:], SEALED.store(Kind.CHUNK, ID, BODY)):
        for opened in (anas, bens):
            assert not opened.is_foreign(other)
            assert not opened.is_current(other)
            assert opened.group_of(other) is None
    assert bens.is_foreign(memoryview(stored))


def test_ids_and_cuts_tell_nothing_to_another_group(two: tuple[Header, Vault, Vault]) -> None:
    """Ben can't find out whether the group holds a file that he guesses."""
    header, anas, bens = two
    first = age.unwrap(header.epochs[1].wrapped, [ANA])
    assert first
    id_key = seal.EpochKey(first).id_key
    for kind in Kind:
        own = anas.object_id(kind, BODY, group=OPS)
        assert own == seal.object_id(kind.value, BODY, id_key)
        assert own != anas.object_id(kind, BODY) == bens.object_id(kind, BODY)
        with pytest.raises(KeyError):
            bens.object_id(kind, BODY, group=OPS)
    assert anas.gear_seed(OPS) == seal.gear_seed(id_key)
    assert anas.gear_seed(OPS) != anas.gear_seed() == bens.gear_seed()
    # Nor do they change with the group's key, or with that of all.
    for group in (OPS, ALL):
        header = begun(header, group, ANA, BEN)
        later = vault.unlock(header, [BEN])
        assert later.object_id(Kind.CHUNK, BODY, group=OPS) == seal.object_id("chunk", BODY, id_key)
        assert later.gear_seed(OPS) == anas.gear_seed(OPS)


def test_an_object_moved_to_another_group_is_not_read(two: tuple[Header, Vault, Vault]) -> None:
    _, anas, _ = two
    for group, other in ((ALL, OPS), (OPS, ALL)):
        own, others = (anas.object_id(Kind.CHUNK, BODY, group=each) for each in (group, other))
        stored = anas.store(Kind.CHUNK, own, BODY, group=group)
        named = anas.store(Kind.CHUNK, own, BODY, group=other)[:8]
        with pytest.raises(errors.CorruptObject, match="does not verify"):
            anas.read(Kind.CHUNK, own, named + stored[8:])
        with pytest.raises(errors.CorruptObject, match="does not verify"):
            anas.read(Kind.CHUNK, others, stored)
        # Not even a member of both can make one that is in a group by its id alone.
        with pytest.raises(errors.CorruptObject, match="another id"):
            anas.read(Kind.CHUNK, own, anas.store(Kind.CHUNK, own, BODY, group=other))


def test_a_member_of_a_group_alone_is_no_member(two: tuple[Header, Vault, Vault]) -> None:
    header, _, bens = two
    with pytest.raises(errors.NoKey):
        vault.unlock(vault.wrap_anew(header, bens, ALL, [BEN.public]), [ANA])


# --- sealing anew ---------------------------------------------------------------------------


def test_what_is_sealed_with_a_retired_key_is_renewed(two: tuple[Header, Vault, Vault]) -> None:
    header, anas, _ = two
    named = {group: anas.object_id(Kind.CHUNK, BODY, group=group) for group in (ALL, OPS)}
    stored = {group: anas.store(Kind.CHUNK, named[group], BODY, group=group) for group in named}
    for rotated, other in ((OPS, ALL), (ALL, OPS)):
        later = vault.unlock(begun(header, rotated, ANA), [ANA])
        old, kept = stored[rotated], stored[other]
        assert not later.is_current(old)
        assert later.is_current(kept)
        # What is sealed with a key in use stays to the byte.
        assert later.renew(Kind.CHUNK, named[other], kept) == kept
        new = later.renew(Kind.CHUNK, named[rotated], old)
        assert later.is_current(new)
        assert later.group_of(new) == rotated
        assert len(new) == len(old)
        assert new[8:] != old[8:]
        # It is the same object: the id stays.
        for each in (old, new):
            assert later.read(Kind.CHUNK, named[rotated], each) == BODY
        assert later.read(Kind.CHUNK, named[rotated], new, epochs=3) == BODY
        with pytest.raises(errors.CorruptObject):
            anas.read(Kind.CHUNK, named[rotated], new)
        for damaged in (old[:-1], flipped(old, -1)):
            with pytest.raises(errors.CorruptObject, match=named[rotated]):
                later.renew(Kind.CHUNK, named[rotated], damaged)
        # What it is bound to is looked at, too: nothing becomes another object on the way.
        for kind, object_id in ((Kind.TREE, named[rotated]), (Kind.CHUNK, named[other])):
            with pytest.raises(errors.CorruptObject):
                later.renew(kind, object_id, old)


def test_what_is_for_others_is_not_renewed(two: tuple[Header, Vault, Vault]) -> None:
    header, anas, _ = two
    object_id = anas.object_id(Kind.CHUNK, BODY, group=OPS)
    stored = anas.store(Kind.CHUNK, object_id, BODY, group=OPS)
    for each in (header, begun(header, OPS, ANA)):
        bens = vault.unlock(each, [BEN])
        # The key of a past epoch is foreign as that of the newest is.
        assert bens.is_foreign(stored)
        assert not bens.is_current(stored)
        with pytest.raises(errors.CorruptObject):
            bens.renew(Kind.CHUNK, object_id, stored)


# --- what was in use when -------------------------------------------------------------------


def newest_of_the_first(header: Header, count: int, group: str) -> Epoch | None:
    """The key that a group used when the header had so many epochs."""
    return next((each for each in header.epochs[:count][::-1] if each.group == group), None)


def vaults_along(header: Header, opened: Vault, groups: str) -> Iterator[tuple[Header, Vault]]:
    """The header and the keys after each of some new epochs."""
    for group in groups:
        name = {"a": ALL, "o": OPS, "d": DATA}[group]
        header, opened = vault.begin_epoch(header, opened, name, [ANA.public])
        yield header, opened


@pytest.mark.parametrize("groups", ["", "a", "aa", "o", "oao", "odaoadd"])
def test_a_key_is_good_for_what_was_written_while_it_was_in_use(groups: str) -> None:
    start = vault.create([ANA.public])
    history = [start, *vaults_along(*start, groups)]
    header, made = history[-1]
    # Who has just begun an epoch, and who opens it later.
    for last in (made, vault.unlock(header, [ANA])):
        assert last.epochs == len(header.epochs) == len(groups) + 1
        read_while_in_use(header, last, [writer for _, writer in history])


def read_while_in_use(header: Header, last: Vault, writers: list[Vault]) -> None:
    for writer in writers:
        for group in writer.groups:
            object_id = writer.object_id(Kind.CHUNK, BODY, group=group)
            stored = writer.store(Kind.CHUNK, object_id, BODY, group=group)
            name = stored[:8].hex()
            assert last.read(Kind.CHUNK, object_id, stored) == BODY
            assert last.read(Kind.CHUNK, object_id, stored, epochs=writer.epochs) == BODY
            for epochs in range(len(header.epochs) + 3):
                used = newest_of_the_first(header, epochs, group)
                if used and used.commitment.startswith(name):
                    assert last.read(Kind.CHUNK, object_id, stored, epochs=epochs) == BODY
                    assert last.open(stored, f"chunk\0{object_id}", epochs=epochs)
                else:
                    with pytest.raises(errors.CorruptObject, match="not in use then"):
                        last.read(Kind.CHUNK, object_id, stored, epochs=epochs)
                    with pytest.raises(seal.SealBroken, match=name):
                        last.open(stored, f"chunk\0{object_id}", epochs=epochs)


PEOPLE = (ANA, BEN, EVE)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([ALL, OPS, DATA]), st.sets(st.sampled_from(range(3)), min_size=1)
        ),
        max_size=5,
    )
)
def test_who_opens_what_after_any_changes(changes: list[tuple[str, set[int]]]) -> None:
    """A group is open to those whom its newest key is wrapped to, if all's is, too."""
    everybody = {0, 1, 2}
    header, opened = vault.create([each.public for each in PEOPLE])
    members = {ALL: everybody}
    for group, chosen in changes:
        recipients = [PEOPLE[n].public for n in chosen]
        header, opened = vault.begin_epoch(header, opened, group, recipients)
        members[group] = chosen
    stored = {group: opened.close(b"x", "what", group=group) for group in members}
    assert opened.groups == set(members)
    for n, person in enumerate(PEOPLE):
        if n not in members[ALL]:
            with pytest.raises(errors.NoKey):
                vault.unlock(header, [person])
            continue
        theirs = vault.unlock(header, [person])
        assert theirs.groups == {group for group, chosen in members.items() if n in chosen}
        assert theirs.epochs == opened.epochs == len(header.epochs) == len(changes) + 1
        assert theirs.fingerprint == opened.fingerprint
        for group, data in stored.items():
            assert theirs.is_foreign(data) is (group not in theirs.groups)
            if group in theirs.groups:
                assert theirs.open(data, "what", newest=True, epochs=theirs.epochs) == b"x"
                assert theirs.key(group) == opened.key(group)
                assert theirs.gear_seed(group) == opened.gear_seed(group)


# --- identities that lie in the repository --------------------------------------------------


def unasked() -> list[age.Identity]:
    raise AssertionError("asked for more identities than are needed")


def test_more_identities_are_looked_for_only_where_they_are_needed() -> None:
    locked = (Locked(BEN.public, "passphrase", b"locked"),)
    header, made = vault.create([ANA.public, BEN.public], locked)
    assert header.locked == locked
    header, _ = vault.begin_epoch(header, made, OPS, [BEN.public])
    assert header.locked == locked
    # Whoever has a key is not asked for a passphrase, though it would open a group more.
    assert vault.unlock(header, [ANA], more=unasked).groups == {ALL}
    asked = []

    def more() -> list[age.Identity]:
        asked.append(1)
        return [EVE, BEN]

    for held in ([], [EVE]):
        opened = vault.unlock(header, held, more=more)
        assert opened.groups == {ALL, OPS}
    assert len(asked) == 2
    with pytest.raises(errors.NoKey) as caught:
        vault.unlock(header, [], more=lambda: [EVE])
    assert EVE.public in caught.value.message
