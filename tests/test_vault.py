"""Stored objects: each is what it was stored as, in its own repository, or it is not read."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cramjam
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorky import codec, errors, keys, model, seal, vault
from dorky.model import ALL, Epoch, Header, Kind, MiB
from dorky.vault import Opened, Vault

REPOSITORY = "00112233445566778899aabbccddeeff"
KEY = seal.EpochKey(bytes(range(32)))
SEALED = Vault(REPOSITORY, [Opened("all", 1, KEY)])
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
            "914607719f98d91e6465666768696a6b6c6d6e6f707172737475767778797a7b"
            "0c58465f87061da2c29140bc19b745a408f042c538ec0c525da9dc",
        ),
        (
            BODY * 20,
            "914607719f98d91e6465666768696a6b6c6d6e6f707172737475767778797a7b"
            "0d58465ff965edd402803241d7d889446046bfda39d087f27b26c6d7ac127effa24d68bab8fe8289ca7ea6",
        ),
    ],
)
def test_vectors(body: bytes, stored: str) -> None:
    data = bytes.fromhex(stored)
    object_id = SEALED.object_id(Kind.CHUNK, body)
    assert SEALED.read(Kind.CHUNK, object_id, data) == body
    # What it is made of: the key's id, and XAES-256-GCM bound to what the object is.
    aad = b"dorky/1\0" + REPOSITORY.encode() + b"\0all\0chunk\0" + object_id.encode() + b"\0"
    assert data[:8] == bytes.fromhex(KEY.commitment)[:8]
    packed = seal.XAES(seal.derive(KEY.key, "seal")).open(data[8:], aad)
    assert codec.inflate(packed, limit=MiB) == body


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
    assert len(stored) <= len(body) + codec.OVERHEAD + (vault.OVERHEAD if opened.sealed else 0)


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
        Vault("f" * 32, [Opened("all", 1, KEY)]),
        Vault(REPOSITORY, [Opened("ops", 1, KEY)]),
        Vault(REPOSITORY, [Opened("all", 1, seal.EpochKey(bytes(32)))]),
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

ANA, BEN, EVE = (keys.generate() for _ in range(3))


def renewed(header: Header, members: Sequence[keys.Identity]) -> Header:
    """The header after somebody has been removed: a new epoch, for ``members`` (Ana is one)."""
    last = header.epochs[-1]
    old = keys.unwrap(last.wrapped, [ANA])
    assert old
    key = seal.EpochKey(bytes([last.epoch]) * 32)
    number = last.epoch + 1
    following = Vault(header.repository, [Opened(ALL, number, key)])
    epoch = Epoch(
        ALL,
        number,
        key.commitment,
        tuple(each.public for each in members),
        keys.wrap(key.key, [each.public for each in members]),
        following.close(old, f"previous\0{number}"),
    )
    return msgspec.structs.replace(header, epochs=(*header.epochs, epoch))


def test_a_new_repository_opens_for_its_recipients_and_nobody_else() -> None:
    header, made = vault.create([ANA.public, BEN.public])
    assert header.format == model.FORMAT
    stored = made.store(Kind.CHUNK, made.object_id(Kind.CHUNK, BODY), BODY)
    for holder in ([ANA], [BEN], [EVE, BEN]):
        opened = vault.unlock(header, holder)
        assert opened.sealed
        assert opened.fingerprint == made.fingerprint == header.epochs[0].commitment
        assert opened.gear_seed == made.gear_seed
        assert opened.read(Kind.CHUNK, made.object_id(Kind.CHUNK, BODY), stored) == BODY
    with pytest.raises(errors.NoKey) as caught:
        vault.unlock(header, [EVE])
    assert EVE.public in caught.value.message
    assert EVE.secret not in caught.value.message + caught.value.hint
    with pytest.raises(errors.NoKey):
        vault.unlock(header, [])


def test_a_plain_repository_needs_no_identity() -> None:
    header, made = vault.create([])
    assert not header.sealed
    opened = vault.unlock(header, [])
    assert not opened.sealed
    assert opened.fingerprint == ""
    assert opened.id_key is None
    assert opened.gear_seed == made.gear_seed == 0
    assert opened.mask("ab" * 32, ID) == "ab" * 32


def test_repositories_have_nothing_in_common() -> None:
    (one, opened), (other, also) = (vault.create([ANA.public]) for _ in range(2))
    assert one.repository != other.repository
    assert opened.object_id(Kind.CHUNK, BODY) != also.object_id(Kind.CHUNK, BODY)
    assert opened.gear_seed != also.gear_seed
    assert opened.mask("ab" * 32, ID) != also.mask("ab" * 32, ID)


def test_the_mask_is_undone_by_itself() -> None:
    digest = "ab" * 32
    assert SEALED.mask(digest, ID) == seal.mask(digest, ID, seal.derive(KEY.id_key, "mask"))
    assert SEALED.mask(SEALED.mask(digest, ID), ID) == digest


def test_a_key_other_than_the_promised_is_not_used() -> None:
    # Public keys are public: anybody can wrap a key of their own to Ana.
    header, _ = vault.create([ANA.public])
    for key in (bytes(32), b"short", bytes(33), b""):
        forged = msgspec.structs.replace(header.epochs[0], wrapped=keys.wrap(key, [ANA.public]))
        with pytest.raises(errors.WrongKey):
            vault.unlock(msgspec.structs.replace(header, epochs=(forged,)), [ANA])
        if len(key) != seal.KEY:
            # Nor one that is promised, but of a length that no key has.
            forged = msgspec.structs.replace(forged, commitment=seal.EpochKey(key).commitment)
            with pytest.raises(errors.WrongKey):
                vault.unlock(msgspec.structs.replace(header, epochs=(forged,)), [ANA])


def test_an_altered_wrapping_opens_for_nobody() -> None:
    header, _ = vault.create([ANA.public])
    wrapped = header.epochs[0].wrapped
    for place in range(0, len(wrapped), 7):
        damaged = wrapped[:place] + bytes([wrapped[place] ^ 1]) + wrapped[place + 1 :]
        epoch = msgspec.structs.replace(header.epochs[0], wrapped=damaged)
        with pytest.raises((errors.NoKey, errors.WrongKey)):
            vault.unlock(msgspec.structs.replace(header, epochs=(epoch,)), [ANA])


def test_who_joins_later_reads_what_was_stored_before() -> None:
    header, first = vault.create([ANA.public])
    object_id = first.object_id(Kind.CHUNK, BODY)
    old = first.store(Kind.CHUNK, object_id, BODY)
    header = renewed(renewed(header, [ANA]), [ANA, BEN])
    for holder in (ANA, BEN):
        third = vault.unlock(header, [holder])
        # Ids never change, whichever epoch it is.
        assert third.object_id(Kind.CHUNK, BODY) == object_id
        assert third.gear_seed == first.gear_seed
        assert third.read(Kind.CHUNK, object_id, old) == BODY
        new = third.store(Kind.CHUNK, object_id, BODY)
        assert new[:8].hex() == header.epochs[2].commitment[:16]
        assert third.fingerprint == header.epochs[2].commitment
        with pytest.raises(errors.CorruptObject):
            first.read(Kind.CHUNK, object_id, new)


def test_who_was_removed_opens_nothing_more() -> None:
    header = renewed(vault.create([ANA.public, EVE.public])[0], [ANA])
    # Her identity still opens the first epoch; as a member she would seal with it for all to see.
    assert keys.unwrap(header.epochs[0].wrapped, [EVE])
    with pytest.raises(errors.NoKey):
        vault.unlock(header, [EVE])


def test_who_was_removed_does_not_pass_for_a_member() -> None:
    header, eves = vault.create([ANA.public, EVE.public])
    anas = vault.unlock(renewed(header, [ANA]), [ANA])
    for data in (eves.close(b"a root", "root\0header"), eves.close(b"x", "index")):
        with pytest.raises(seal.SealBroken, match="not this repository's"):
            anas.open(data, "root\0header", newest=True)
    assert anas.open(anas.close(b"a root", "root"), "root", newest=True) == b"a root"
    # Objects of before stay readable: their ids say what they are, whoever sealed them.
    assert anas.open(eves.close(b"x", "index"), "index") == b"x"


def test_an_altered_way_back_is_found() -> None:
    header = renewed(vault.create([ANA.public])[0], [ANA])
    previous = header.epochs[1].previous
    stranger = Vault(header.repository, [Opened(ALL, 2, seal.EpochKey(b"s" * 32))])
    for altered in (previous[:-1], b"x" + previous[1:], stranger.close(b"k" * 32, "previous\0002")):
        epoch = msgspec.structs.replace(header.epochs[1], previous=altered)
        with pytest.raises(errors.WrongKey):
            vault.unlock(msgspec.structs.replace(header, epochs=(header.epochs[0], epoch)), [ANA])


def test_groups_have_keys_of_their_own() -> None:
    header, first = vault.create([ANA.public, BEN.public])
    key = seal.EpochKey(b"o" * 32)
    ops = Epoch("ops", 1, key.commitment, (ANA.public,), keys.wrap(key.key, [ANA.public]))
    header = msgspec.structs.replace(header, epochs=(*header.epochs, ops))
    anas, bens = (vault.unlock(header, [each]) for each in (ANA, BEN))
    object_id = anas.object_id(Kind.TREE, b"{}")
    assert object_id == bens.object_id(Kind.TREE, b"{}") == first.object_id(Kind.TREE, b"{}")
    stored = anas.store(Kind.TREE, object_id, b"{}", group="ops")
    assert anas.read(Kind.TREE, object_id, stored) == b"{}"
    assert anas.fingerprint == bens.fingerprint == first.fingerprint
    with pytest.raises(errors.CorruptObject):
        bens.read(Kind.TREE, object_id, stored)
    # A member of a group alone is no member: ids hang on the first key of all.
    header = msgspec.structs.replace(
        header,
        epochs=(
            msgspec.structs.replace(header.epochs[0], wrapped=keys.wrap(b"", [BEN.public])),
            ops,
        ),
    )
    with pytest.raises(errors.NoKey):
        vault.unlock(header, [ANA])
