"""Identities: kept from other eyes, never overwritten, and understood by age itself."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorky import errors, keys
from dorky.keys import Identity

# The scalar of 32 bytes 0x2a: nobody's key.
SECRET = "AGE-SECRET-KEY-19G4Z52329G4Z52329G4Z52329G4Z52329G4Z52329G4Z52329G4QX68XRW"
PUBLIC = "age1q740705lc9njw42y7np6dgtumqml9mrw0rxc54a3u00m8nqrtfmqg3lme7"
# bytes(range(32)), wrapped to it.
WRAPPED = (
    "6167652d656e6372797074696f6e2e6f72672f76310a2d3e2058323535313920314b5a763751734a553776456e68"
    "4d387a352f6f38486d4b4561434f354b686b37764e5378442b653254410a6c7068542b467963444145412f425a62"
    "3762363677766d6539364f4856672b52727735632f6a666a74714d0a2d3e2055625f6a6a34492d6772656173650a"
    "476e416471334555786139745941325a37315468456341782f34666f7a7059682f55553664674e534b4f56613935"
    "65657758494d6e4c54496d6c6c566678332f0a62316f776570314e673337644f4354654a6877506d474255633667"
    "52317261334349566e6858424464670a2d2d2d204158395a6b41627943306c41306d516d35794944786b4d583744"
    "50624776356272614b444e566e5556616f0a0d27c4be4371b0b46280102383dff92bb3413b5cc4fd5519c55bcabe"
    "631b1c14cd47bb2e22329e87af5c0cdd302ae24f44456cc78a38081005ddb71ad6d43e8c"
)


@pytest.fixture(params=[0o000, 0o022, 0o077], ids="umask {:03o}".format)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    old = os.umask(request.param)
    yield
    os.umask(old)


def test_vectors() -> None:
    (identity,) = keys.parse(SECRET, "here")
    assert identity == Identity(SECRET, PUBLIC)
    assert keys.unwrap(bytes.fromhex(WRAPPED), [identity]) == bytes(range(32))


# --- identity files -------------------------------------------------------------------------


def test_an_identity_survives(tmp_path: Path, umask: None) -> None:
    identity = keys.generate()
    path = tmp_path / "home" / ".dorky" / "identity"
    keys.save(identity, path)
    assert keys.load(path) == [identity]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_a_secret_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    keys.save(keys.generate(), path)
    before = path.read_bytes()
    with pytest.raises(errors.DiskError, match="exists"):
        keys.save(keys.generate(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_home_that_can_not_be_is_named(tmp_path: Path) -> None:
    (tmp_path / ".dorky").touch()
    with pytest.raises(errors.DiskError, match=r"\.dorky"):
        keys.save(keys.generate(), tmp_path / ".dorky" / "identity")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o602, 0o610, 0o601, 0o777])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "identity"
    keys.save(keys.generate(), path)
    path.chmod(mode)
    with pytest.raises(errors.IdentityExposed, match=f"{mode:04o}") as caught:
        keys.load(path)
    assert caught.value.hint == f"chmod 600 {path}"
    path.chmod(0o400)
    assert keys.load(path)


def test_the_file_may_be_a_link_to_one_that_is_private(tmp_path: Path) -> None:
    path, link = tmp_path / "identity", tmp_path / "link"
    keys.save(keys.generate(), path)
    link.symlink_to(path)
    assert keys.load(link) == keys.load(path)
    path.chmod(0o644)
    with pytest.raises(errors.IdentityExposed):
        keys.load(link)


def test_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "identity", tmp_path / "none" / "identity", tmp_path / "file" / "x"):
        with pytest.raises(errors.IdentityMissing):
            keys.load(path)
    with pytest.raises(errors.DiskError, match="directory"):
        keys.load(tmp_path)


def test_several_keys_with_comments() -> None:
    identities = [keys.generate() for _ in range(3)]
    text = "# created: today\r\n\r\n" + "".join(
        f"# public key: {each.public}\n  {each.secret}\t\r\n" for each in identities
    )
    assert keys.parse(text, "here") == identities
    assert keys.parse(SECRET.lower(), "here")[0].public == PUBLIC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "# only a comment\n",
        PUBLIC,
        SECRET[:-1],
        SECRET + "Q",
        SECRET + " " + SECRET,
        SECRET[:40] + SECRET[40:].lower(),
        f"{SECRET}\nrubbish",
        "AGE-SECRET-KEY-1",
        "AGE-PLUGIN-YUBIKEY-1QQPQZQG",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "\0",
        "é" * 40,
        "\ufffd\ufffd",
    ],
    ids=lambda text: ascii(text[-12:]),
)
def test_what_is_no_identity_is_not_shown(text: str) -> None:
    with pytest.raises(errors.IdentityMalformed) as caught:
        keys.parse(text, "DORKY_IDENTITY")
    shown = caught.value.message + caught.value.hint
    assert "DORKY_IDENTITY" in shown
    assert SECRET[20:] not in shown


def test_an_identity_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    path.write_bytes(bytes(range(256)) * 9)
    path.chmod(0o600)
    with pytest.raises(errors.IdentityMalformed):
        keys.load(path)


def test_a_secret_key_does_not_show() -> None:
    identity = keys.generate()
    for text in (repr(identity), repr([identity]), f"{identity}"):
        assert identity.secret not in text
        assert identity.public in text


# --- wrapping -------------------------------------------------------------------------------


def test_each_recipient_opens_it_and_nobody_else() -> None:
    ana, ben, eve = (keys.generate() for _ in range(3))
    wrapped = keys.wrap(b"k" * 32, [ana.public, ben.public])
    for holder in ([ana], [ben], [eve, ben], [ben, eve]):
        assert keys.unwrap(wrapped, holder) == b"k" * 32
    assert keys.unwrap(wrapped, [eve]) is None
    assert keys.unwrap(wrapped, []) is None


@pytest.mark.parametrize(
    "recipient",
    [
        "",
        "age1",
        PUBLIC[:-1],
        PUBLIC.upper()[:9] + PUBLIC[9:],
        SECRET,
        "ssh-ed25519 AAAA",
        "é\x1b[",
    ],
    ids=ascii,
)
def test_the_malformed_recipient_is_named(recipient: str) -> None:
    with pytest.raises(errors.UsageError, match="is no age public key") as caught:
        keys.wrap(b"k" * 32, [PUBLIC, recipient])
    assert caught.value.message.isprintable()
    assert PUBLIC not in caught.value.message


def test_a_passphrase_is_not_tried() -> None:
    # At a work factor of 30, scrypt would take a terabyte of memory.
    stanza = b"age-encryption.org/v1\n-> scrypt %s 30\n%s\n--- %s\n"
    wrapped = stanza % (b"A" * 22, b"A" * 43, b"A" * 43) + bytes(64)
    assert keys.unwrap(wrapped, keys.parse(SECRET, "here")) is None


def test_an_altered_wrapping_does_not_open() -> None:
    wrapped = bytes.fromhex(WRAPPED)
    holder = keys.parse(SECRET, "here")
    for place in range(len(wrapped)):
        damaged = wrapped[:place] + bytes([wrapped[place] ^ 1]) + wrapped[place + 1 :]
        assert keys.unwrap(damaged, holder) is None
        assert keys.unwrap(wrapped[:place], holder) is None


@given(st.one_of(st.binary(), st.binary().map(lambda noise: b"age-encryption.org/v1\n" + noise)))
def test_noise_opens_for_nobody(noise: bytes) -> None:
    assert keys.unwrap(noise, keys.parse(SECRET, "here")) is None


@pytest.mark.skipif(not shutil.which("age"), reason="age is not installed")
def test_age_itself_opens_it(tmp_path: Path) -> None:
    identity = keys.generate()
    keys.save(identity, tmp_path / "identity")
    done = subprocess.run(
        ["age", "--decrypt", "--identity", tmp_path / "identity"],
        input=keys.wrap(b"k" * 32, [identity.public]),
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"k" * 32


@pytest.mark.skipif(not shutil.which("age-keygen"), reason="age is not installed")
def test_a_key_from_age_keygen_is_read(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    subprocess.run(["age-keygen", "--output", path], capture_output=True, check=True)
    (identity,) = keys.load(path)
    assert identity.public in path.read_text()
