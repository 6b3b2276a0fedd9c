"""Keys that sign: every type is read from a file, and written with private modes."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
import signatures as sign
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import dsa, ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from dorky import errors
from dorky.keys import age
from dorky.provenance import private_keys, public_keys

MESSAGE = b"DSSEv1 1 x 1 y"


def saved(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "release.pem"
    made = private_keys.generate(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().startswith("-----BEGIN PRIVATE KEY-----\n")
    assert private_keys.load(path).public == made.public
    assert made.public.algorithm == "P-256"
    with pytest.raises(errors.KeyExists):
        private_keys.generate(path)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(errors.KeyExists):
        private_keys.generate(tmp_path / "link")


def test_the_line_of_a_new_key_trusts_it(tmp_path: Path) -> None:
    made = private_keys.make(str(tmp_path / "release.pem"))
    key = private_keys.load(tmp_path / "release.pem")
    assert made.line == f'release namespaces="dorky-artifact" {key.public.line}'
    assert made.fingerprint == key.public.fingerprint
    with pytest.raises(errors.BadName):
        private_keys.make(str(tmp_path / "my key.pem"))
    assert not (tmp_path / "my key.pem").exists()


@pytest.mark.parametrize("kind", sign.TYPES)
def test_a_key_of_every_type_is_read_and_signs(kind: str, tmp_path: Path) -> None:
    key = private_keys.load(saved(tmp_path / "key", sign.pem(sign.key(kind))))
    assert key.public == sign.key(kind).public
    assert key.public.verify(MESSAGE, key.sign(MESSAGE)) == kind
    assert not key.public.verify(MESSAGE + b"y", key.sign(MESSAGE))
    assert "PRIVATE" not in repr(key)
    assert str(key.key) not in repr(key)


@pytest.mark.parametrize("kind", sign.TYPES)
def test_lost_line_breaks_are_restored(kind: str) -> None:
    text = sign.pem(sign.key(kind)).replace("\n", " ")
    assert private_keys.read(text, "key").public == sign.key(kind).public


@pytest.mark.parametrize("kind", ["EC PRIVATE KEY", "RSA PRIVATE KEY"])
def test_old_forms_of_pem_are_read(kind: str, tmp_path: Path) -> None:
    key = sign.key("RSA" if "RSA" in kind else "P-256")
    old = form.PrivateFormat.TraditionalOpenSSL
    pem = key.key.private_bytes(form.Encoding.PEM, old, form.NoEncryption()).decode()
    assert kind in pem
    found = private_keys.read(f"# comment\n{pem}", "key")
    assert found.public == key.public


@pytest.mark.parametrize("kind", ["P-256", "SSH Ed25519"])
def test_a_passphrase_is_asked_for(kind: str) -> None:
    key = sign.key(kind)
    shape = form.PrivateFormat.OpenSSH if key.is_ssh else form.PrivateFormat.PKCS8
    lock = (
        shape.encryption_builder().kdf_rounds(1).build(b"open")
        if key.is_ssh
        else form.BestAvailableEncryption(b"open")
    )
    pem = key.key.private_bytes(form.Encoding.PEM, shape, lock).decode()
    asked: list[str] = []

    def ask(answer: str | None) -> age.Ask:
        return lambda prompt: (asked.append(prompt), answer)[1]

    assert private_keys.read(pem, "k.pem", ask("open")).public == key.public
    assert asked == ["Passphrase of the key in k.pem"]
    with pytest.raises(errors.WrongPassphrase):
        private_keys.read(pem, "k.pem", ask("wrong"))
    with pytest.raises(errors.BadSigningKey, match="nobody gave"):
        private_keys.read(pem, "k.pem")


def pkcs8(key: object) -> str:
    return key.private_bytes(  # type: ignore[attr-defined,no-any-return]
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
    ).decode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no private key in PEM"),
        ("AGE-SECRET-KEY-1QQ", "no private key in PEM"),
        (sign.key().public.pem, "no private key in PEM"),
        (pkcs8(ec.derive_private_key(7, ec.SECP521R1())), "only keys of the types"),
        (pkcs8(ec.derive_private_key(7, ec.SECP256K1())), "only keys of the types"),
        (pkcs8(Ed448PrivateKey.from_private_bytes(bytes(57))), "only keys of the types"),
        (pkcs8(X25519PrivateKey.from_private_bytes(bytes(32))), "only keys of the types"),
        (pkcs8(dsa.generate_private_key(1024)), "only keys of the types"),
        (sign.pem(sign.key()).replace("a", "b"), "damaged"),
        (sign.pem(sign.key("SSH Ed25519")).replace("a", "b"), "damaged"),
        ("-----BEGIN PRIVATE KEY-----\n\n-----END PRIVATE KEY-----", "damaged"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAA\n-----END OPENSSH PRIVATE KEY-----", "damaged"),
    ],
)
def test_what_can_not_sign_is_refused(text: str, why: str) -> None:
    with pytest.raises(errors.BadSigningKey, match=why):
        private_keys.read(text, "key")


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "key", sign.pem(sign.key()))
    path.chmod(0o644)
    with pytest.raises(errors.IdentityExposed):
        private_keys.load(path)
    with pytest.raises(errors.SigningKeyMissing):
        private_keys.load(tmp_path / "none")


@pytest.mark.parametrize("kind", sign.TYPES)
def test_a_public_key_has_one_name(kind: str) -> None:
    key = sign.key(kind).public
    for text in (key.pem, key.line, f"{key.line} ana@laptop\n", f"\n{key.pem}\n"):
        assert public_keys.read(text, "key") == key
    assert public_keys.of(form.load_pem_public_key(key.pem.encode())).line == key.line


def test_a_fingerprint_is_that_of_ssh_keygen(tmp_path: Path) -> None:
    path = saved(tmp_path / "key.pub", sign.key().public.line)
    done = subprocess.run(["ssh-keygen", "-lf", path], capture_output=True, text=True, timeout=30)
    assert sign.key().public.fingerprint in done.stdout


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "age1qqq",
        sign.pem(sign.key()),
        sign.key().public.pem.replace("a", "b"),
        sign.key().public.line.replace("nistp256 AAAA", "nistp384 AAAA"),
        sign.key().public.line[:-5],
        "-----BEGIN PUBLIC KEY-----",
        "sk-ssh-ed25519@openssh.com AAAA",
    ],
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(errors.BadPublicKey):
        public_keys.read(text, "key")


def test_a_compressed_point_is_another_spelling() -> None:
    """One key under two spellings could pass for two keys."""
    point = sign.key().public.key.public_bytes(
        form.Encoding.X962, form.PublicFormat.CompressedPoint
    )
    parts = (b"ecdsa-sha2-nistp256", b"nistp256", point)
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    with pytest.raises(ValueError, match=r"."):
        public_keys.parse(f"ecdsa-sha2-nistp256 {base64.b64encode(blob).decode()}")


@given(st.binary(max_size=600))
def test_no_signature_is_made_up(signature: bytes) -> None:
    assert not any(sign.key(kind).public.verify(MESSAGE, signature) for kind in sign.TYPES)


@given(st.text())
def test_no_text_does_more_than_be_refused(text: str) -> None:
    with pytest.raises(errors.BadPublicKey):
        public_keys.read(text, "key")
    with pytest.raises(errors.BadSigningKey):
        private_keys.read(text, "key")
