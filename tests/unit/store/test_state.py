"""The key and the directory of local state: who made what lies in `.dorky/`?"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dorky import errors
from dorky.cli import hints
from dorky.config import Config
from dorky.store import state

IDENTITY = "AGE-SECRET-KEY-1ABC"


def config(home: Path, **environment: str) -> Config:
    return Config(None, environment={"HOME": str(home), **environment})


# --- the key --------------------------------------------------------------------------------


def test_a_mac_is_an_hmac() -> None:
    expected = hmac.new(b"k" * 32, b"purpose\0data", hashlib.sha256).digest()
    assert state.mac(b"k" * 32, "purpose", b"data") == expected
    assert state.verifies([b"other", b"k" * 32], "purpose", b"data", expected)
    assert not state.verifies([b"other"], "purpose", b"data", expected)
    assert not state.verifies([b"k" * 32], "another", b"data", expected)
    assert not state.verifies([], "purpose", b"data", expected)


def test_the_key_is_made_once_and_is_the_users_alone(tmp_path: Path) -> None:
    mine = config(tmp_path)
    assert state.keys(mine) == []
    key = state.make_key(mine)
    assert state.make_key(mine) == key
    assert state.keys(mine) == [key]
    assert stat.S_IMODE((tmp_path / ".dorky").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / ".dorky" / state.KEY).stat().st_mode) == 0o600
    assert state.make_key(config(tmp_path / "another")) != key


def test_an_identity_in_the_environment_gives_the_same_key_everywhere(tmp_path: Path) -> None:
    derive = HKDF(SHA256(), 32, None, b"dorky state key v1")
    key = derive.derive(IDENTITY.encode())
    ours = config(tmp_path, DORKY_IDENTITY=IDENTITY)
    assert state.make_key(ours) == key
    assert not (tmp_path / ".dorky").exists()
    file = tmp_path / "identity.txt"
    file.write_text(f"# created: today\n\n{IDENTITY}\n")
    assert state.keys(config(tmp_path, DORKY_IDENTITY_FILE=str(file))) == [key]
    assert state.keys(config(tmp_path, DORKY_IDENTITY=f"{IDENTITY}\n")) == [key]
    assert state.keys(config(tmp_path, DORKY_IDENTITY="another")) != [key]


def test_an_identity_that_comes_through_a_pipe_is_left_to_what_opens_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert state.keys(config(tmp_path, DORKY_IDENTITY_FILE=str(tmp_path / "pipe"))) == []
    assert state.keys(config(tmp_path, DORKY_IDENTITY_FILE=str(tmp_path / "none"))) == []


def test_a_saved_key_is_tried_after_the_identity(tmp_path: Path) -> None:
    saved = state.make_key(config(tmp_path))
    found = state.keys(config(tmp_path, DORKY_IDENTITY=IDENTITY))
    assert len(found) == 2
    assert found[1] == saved


@pytest.mark.parametrize("form", ["link", "hard link", "pipe", "short", "long", "directory"])
def test_a_key_that_dorky_did_not_make_is_refused(tmp_path: Path, form: str) -> None:
    state.make_key(config(tmp_path))
    path = tmp_path / ".dorky" / state.KEY
    aside = tmp_path / "aside"
    if form == "hard link":
        aside.hardlink_to(path)
    else:
        path.rename(aside)
    if form == "link":
        path.symlink_to(aside)
    elif form == "pipe":
        os.mkfifo(path)
    elif form == "directory":
        path.mkdir()
    elif form != "hard link":
        path.write_bytes(b"x" * (31 if form == "short" else 33))
    for use in (state.keys, state.make_key):
        with pytest.raises(errors.UntrustedStateKey, match=r"state\.key"):
            use(config(tmp_path))


def test_a_key_that_others_can_read_is_closed_to_them(tmp_path: Path) -> None:
    state.make_key(config(tmp_path))
    path = tmp_path / ".dorky" / state.KEY
    path.chmod(0o644)
    state.keys(config(tmp_path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_where_no_key_can_be_kept_the_error_tells_the_way(tmp_path: Path) -> None:
    (tmp_path / ".dorky").touch()  # root, too, can make nothing below
    with pytest.raises(errors.NoStateKey) as caught:
        state.make_key(config(tmp_path))
    assert "DORKY_IDENTITY" in hints.hint(caught.value)
    assert state.make_key(config(tmp_path, DORKY_IDENTITY=IDENTITY))


# --- the directory --------------------------------------------------------------------------


def test_the_name_of_a_state_is_that_of_the_format_page(tmp_path: Path) -> None:
    """Golden: a state that is there must be found by every later dorky."""
    base = tmp_path / ".dorky"
    key = base / state.KEY
    nonce = "00112233445566778899aabbccddeeff"
    name = nonce + "a163413799edc08abe6ecf7475bdb58f"
    (base / name).mkdir(parents=True)
    base.chmod(0o700)
    key.write_bytes(bytes(range(32)))
    assert state.find(base, config(tmp_path)) == base / name
    assert state.strangers(base, config(tmp_path)) == []
    for other in (name[:-1] + "0", "1" + name[1:], name.upper()):
        (base / other).mkdir()
    assert state.find(base, config(tmp_path)) == base / name
    assert len(state.strangers(base, config(tmp_path))) == 2
    key.write_bytes(bytes(32))
    assert state.find(base, config(tmp_path)) is None


def test_nothing_is_made_or_touched_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to("precious")
    mine = config(tmp_path)
    for use in (state.find, state.strangers, state.make):
        with pytest.raises(errors.UntrustedState):
            use(tmp_path / "link", mine)
    assert list((tmp_path / "precious").iterdir()) == []
    assert stat.S_IMODE((tmp_path / "precious").stat().st_mode) == 0o755


def test_what_is_too_open_is_closed_to_others(tmp_path: Path) -> None:
    mine = config(tmp_path)
    made = state.make(tmp_path / "p" / ".dorky", mine)
    for place in (made, made.parent):
        place.chmod(0o777)
    assert state.make(made.parent, mine) == state.find(made.parent, mine) == made
    for place in (made, made.parent):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_what_is_not_ours_stays_when_the_state_goes(tmp_path: Path) -> None:
    mine = config(tmp_path)
    base = tmp_path / "p" / ".dorky"
    made = state.make(base, mine)
    (made / "link").symlink_to(tmp_path)
    (base / "planted").touch()
    state.delete(made)
    assert {path.name for path in base.iterdir()} == {".gitignore", "planted"}
    (base / "planted").unlink()
    state.delete(state.make(base, mine))
    assert not base.exists()
    assert (tmp_path / "p").exists()
