"""Signing keys: derived from age identities, or the SSH keys themselves."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dorky import errors
from dorky.keys import age, signing, sshsig
from dorky.keys.sshsig import Namespace

# The scalar of 32 bytes 0x2a: nobody's key.
SECRET = "AGE-SECRET-KEY-19G4Z52329G4Z52329G4Z52329G4Z52329G4Z52329G4Z52329G4QX68XRW"


def test_the_derivation_is_as_written() -> None:
    (identity,) = age.parse(SECRET, "")
    assert age.scalar(identity) == b"\x2a" * 32
    pseudorandom = hmac.digest(bytes(32), b"\x2a" * 32, "sha256")
    info = b"dorky signing ed25519 v1"
    seed = hmac.digest(pseudorandom, info + b"\1", hashlib.sha256)
    key = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    made = signing.signer(identity)
    assert made
    assert made.public == signing.public_of(identity)
    assert made.key.public_key().public_bytes_raw() == key
    # It never changes: members would be locked out of writing.
    assert made.public == PUBLIC


PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOdCGfotq/KK3I6YXaoh1FXNG+kCdfhKUIo6L0lDroao"


def test_a_generated_identity_signs() -> None:
    made = signing.signer(age.generate())
    assert made
    signature = made.sign(Namespace.COMMIT, b"hello")
    assert sshsig.verify(made.public, Namespace.COMMIT, b"hello", signature)
    assert made.public in repr(made)
    assert "key=" not in repr(made)


def made_by_ssh(path: Path, kind: str, passphrase: str = "") -> age.Identity:
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "", "-f", str(path)]
    subprocess.run(
        [*command, *(["-Z", "aes256-ctr"] if passphrase else [])], check=True, timeout=120
    )
    (identity,) = age.load(path)
    return identity


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_an_ssh_key_signs_itself(kind: str, tmp_path: Path) -> None:
    identity = made_by_ssh(tmp_path / "key", kind)
    made = signing.signer(identity)
    assert made
    assert made.public == identity.public == signing.public_of(identity)
    signature = made.sign(Namespace.TEAM, b"hello")
    assert sshsig.verify(identity.public, Namespace.TEAM, b"hello", signature)


def test_a_locked_ssh_key_asks(tmp_path: Path) -> None:
    pytest.importorskip("bcrypt")
    identity = made_by_ssh(tmp_path / "key", "ed25519", "a passphrase")
    assert signing.public_of(identity) == identity.public
    assert signing.signer(identity) is None
    with pytest.raises(errors.WrongPassphrase):
        signing.signer(identity, lambda _: "wrong")
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "a passphrase"

    for _ in range(2):  # once a command
        made = signing.signer(identity, ask)
        assert made
        assert sshsig.verify(
            identity.public, Namespace.ROOT, b"hello", made.sign(Namespace.ROOT, b"hello")
        )
    assert len(asked) == 1
