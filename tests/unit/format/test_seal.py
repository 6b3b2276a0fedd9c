"""Sealing against the published vectors and a second implementation; what is derived from keys."""

from __future__ import annotations

import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives import cmac, hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from dorky.format import seal
from dorky.format.seal import XAES, EpochKey, SealBroken

KEY = EpochKey(bytes(range(32)))

# --- XAES-256-GCM ---------------------------------------------------------------------------

NONCE = b"ABCDEFGHIJKLMNOPQRSTUVWX"


@pytest.mark.parametrize(
    ("key", "aad", "expected"),
    [
        (b"\x01" * 32, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (
            b"\x03" * 32,
            b"c2sp.org/XAES-256-GCM",
            "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
        ),
    ],
)
def test_the_vectors_of_the_specification(key: bytes, aad: bytes, expected: str) -> None:
    # https://c2sp.org/XAES-256-GCM#test-vectors: K1 has its top bit clear in one, set in the other
    sealed = XAES(key).seal(b"XAES-256-GCM", aad, nonce=NONCE)
    assert sealed == NONCE + bytes.fromhex(expected)
    assert XAES(key).open(sealed, aad) == b"XAES-256-GCM"


def accumulated(iterations: int) -> str:
    """The hash over random inputs of the specification's accumulated test."""
    # Keys, nonces, two lengths of one byte and two texts of 127.5 on average, and some to spare.
    stream = memoryview(hashlib.shake_128(b"").digest(314 * iterations + 100_000))
    taken = 0

    def draw(count: int) -> bytes:
        nonlocal taken
        taken += count
        return bytes(stream[taken - count : taken])

    ciphertexts = hashlib.shake_128()
    for _ in range(iterations):
        key, nonce = draw(32), draw(24)
        plaintext = draw(draw(1)[0])
        aad = draw(draw(1)[0])
        cipher = XAES(key)
        sealed = cipher.seal(plaintext, aad, nonce=nonce)
        assert cipher.open(sealed, aad) == plaintext
        ciphertexts.update(sealed[seal.NONCE :])
    return ciphertexts.hexdigest(32)


def test_the_accumulated_vector() -> None:
    expected = "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
    assert accumulated(10_000) == expected


@pytest.mark.deep
def test_the_accumulated_vector_of_a_million() -> None:
    expected = "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15"
    assert accumulated(1_000_000) == expected


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=24, max_size=24), st.binary())
def test_against_cmac_and_gcm_of_another_library(key: bytes, nonce: bytes, text: bytes) -> None:
    derived = b""
    for counter in (b"\0\1X\0", b"\0\2X\0"):
        mac = cmac.CMAC(AES(key))
        mac.update(counter + nonce[:12])
        derived += mac.finalize()
    expected = nonce + AESGCM(derived).encrypt(nonce[12:], text, b"aad")
    assert XAES(key).seal(text, b"aad", nonce=nonce) == expected


def test_every_flipped_bit_is_found() -> None:
    cipher = XAES(KEY.key)
    sealed = bytearray(cipher.seal(b"KEY=1\n", b"aad"))
    for place in range(8 * len(sealed)):
        sealed[place // 8] ^= 1 << place % 8
        with pytest.raises(SealBroken):
            cipher.open(bytes(sealed), b"aad")
        sealed[place // 8] ^= 1 << place % 8
    assert cipher.open(bytes(sealed), b"aad") == b"KEY=1\n"


def test_every_truncation_is_found() -> None:
    cipher = XAES(KEY.key)
    sealed = cipher.seal(b"KEY=1\n", b"")
    for length in range(len(sealed)):
        with pytest.raises(SealBroken):
            cipher.open(sealed[:length], b"")
    with pytest.raises(SealBroken):
        cipher.open(sealed + b"\0", b"")


def test_another_key_or_another_context_does_not_open() -> None:
    sealed = XAES(KEY.key).seal(b"x", b"one")
    with pytest.raises(SealBroken):
        XAES(KEY.key).open(sealed, b"two")
    with pytest.raises(SealBroken):
        XAES(bytes(32)).open(sealed, b"one")


@pytest.mark.parametrize("length", [0, 12, 23, 25, 32])
def test_nonces_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match="nonce"):
        XAES(KEY.key).seal(b"x", b"", nonce=bytes(length))


def test_nonces_are_drawn_anew() -> None:
    cipher = XAES(KEY.key)
    assert len({cipher.seal(b"", b"")[: seal.NONCE] for _ in range(100)}) == 100


def test_one_cipher_serves_several_threads() -> None:
    cipher = XAES(KEY.key)

    def there_and_back(number: int) -> bool:
        text = b"%d" % number * 500
        return cipher.open(cipher.seal(text, b"%d" % number), b"%d" % number) == text

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(there_and_back, range(400)))


# --- what is derived ------------------------------------------------------------------------


@given(st.binary(max_size=80), st.text(st.characters(codec="utf-8"), max_size=20))
def test_derivation_is_hkdf(key: bytes, purpose: str) -> None:
    info = f"dorky/2 {purpose}".encode()
    assert seal.derive(key, purpose) == HKDF(hashes.SHA256(), 32, None, info).derive(key)


def test_the_vectors_of_one_key() -> None:
    assert seal.derive(KEY.key, "seal").hex() == (
        "3a8839144e683b2eb03b735feb14a7d1c4ef9c2a19efb38919842521600f0318"
    )
    assert KEY.id_key.hex() == "d79c78fa2ba7df47bb01de06677b05fd8ebf923a36da5b90e6fe779bebef779d"
    assert KEY.commitment == "876fbaf89ba122432e585f0120c7e0ecf50562c2f9af8eacd70a5a4939827542"
    assert KEY.id.hex() == "876fbaf89ba12243"
    assert seal.gear_seed(KEY.id_key) == 60258296017528139


def test_purposes_give_keys_that_have_nothing_in_common() -> None:
    purposes = ["seal", "id", "commitment"]
    found = {seal.derive(KEY.key, purpose) for purpose in purposes}
    found |= {seal.derive(KEY.id_key, purpose) for purpose in ["gear", "mask"]}
    assert len(found) == 5
    assert KEY.key not in found


@given(st.binary(min_size=32, max_size=32))
def test_the_seed_fits_the_chunker_and_says_nothing_when_plain(id_key: bytes) -> None:
    assert 0 <= seal.gear_seed(id_key) < 1 << 63
    assert seal.gear_seed(None) == 0


def test_a_key_does_not_show() -> None:
    assert KEY.key.hex() not in repr(KEY)
    assert repr(KEY.key) not in repr(KEY)


# --- ids ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "body", "plain", "sealed"),
    [
        (
            "chunk",
            b"KEY=1\n",
            "c8ae12c6064cfb39a18736cbec29f9449d1f2623adaeafe28e9e9e2e1ac887a8",
            "a148347d82f9d390bb05fd7f8219c3d3592f4d97a053d3e6192c89387245fccd",
        ),
        (
            "chunk",
            b"",
            "03be8e8f894ab7c69503555c972e87c8f8428a583a7fa175d00555ee2820d129",
            "55c02bcbf42dc53678aa03f7a6477e7de7b5d7366dd7ccd3fe9e17246f48ff57",
        ),
        (
            "tree",
            b'{"entries":[]}',
            "f6c51009171c1dc96929ce90acb98639abdc1223313f1c070333c62e113ccfd5",
            "11f7b8143733f96c594c01303569a196c5bdd6d2f8607423cf98f90495cc9021",
        ),
    ],
)
def test_ids(kind: str, body: bytes, plain: str, sealed: str) -> None:
    assert seal.object_id(kind, body, None) == plain
    assert seal.object_id(kind, body, KEY.id_key) == sealed
    named = kind.encode() + b"\0" + body
    assert hashlib.sha256(named).hexdigest() == plain
    assert hmac.new(KEY.id_key, named, "sha256").hexdigest() == sealed


@given(st.binary(max_size=50), st.sampled_from(["chunk", "tree"]))
def test_ids_differ_by_kind_and_by_key(body: bytes, kind: str) -> None:
    found = {
        seal.object_id(each, body, key)
        for each in ("chunk", "chunks", "tree", "commit")
        for key in (None, KEY.id_key, bytes(32))
    }
    assert len(found) == 12
    assert seal.object_id(kind, memoryview(body), None) in found


# --- the mask -------------------------------------------------------------------------------


@given(st.binary(min_size=32, max_size=32).map(bytes.hex), st.binary(max_size=32).map(bytes.hex))
def test_a_mask_hides_and_shows_again(digest: str, content: str) -> None:
    hidden = seal.mask(digest, content, b"k" * 32)
    assert hidden != digest
    assert len(hidden) == 64
    assert seal.mask(hidden, content, b"k" * 32) == digest
    assert seal.mask(digest, content + "0", b"k" * 32) != hidden
    assert seal.mask(digest, content, b"l" * 32) != hidden


def test_where_nothing_is_hidden_nothing_is_masked() -> None:
    assert seal.mask("ab" * 32, "x", None) == "ab" * 32
    assert seal.mask("", "x", b"k" * 32) == ""
