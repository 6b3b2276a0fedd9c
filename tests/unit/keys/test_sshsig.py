"""SSH signatures: ssh-keygen accepts them, and nothing but the one form is valid."""

from __future__ import annotations

import base64
import hashlib
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from dorky.keys import sshsig
from dorky.keys.sshsig import Namespace

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
MESSAGE = b"dorky/2\0" + b"a" * 32 + b"\0{}"
ED = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
RSA = rsa.generate_private_key(65537, 2048)


def strings(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def line(*parts: bytes) -> str:
    return f"{parts[0].decode()} {base64.b64encode(strings(*parts)).decode()}"


def ed25519(point: bytes) -> str:
    return line(b"ssh-ed25519", point)


def public(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


@pytest.fixture(params=["ed25519", "rsa"])
def key(request: pytest.FixtureRequest) -> Any:
    return {"ed25519": ED, "rsa": RSA}[request.param]


def test_ssh_keygen_accepts_it(key: Any, tmp_path: Path) -> None:
    signature = sshsig.sign(key, Namespace.COMMIT, MESSAGE)
    (tmp_path / "allowed").write_text(f"ana {public(key)}\n")
    sig = tmp_path / "message.sig"
    sig.write_text(sshsig.armour(public(key), Namespace.COMMIT, signature))

    def keygen(namespace: str, message: bytes) -> int:
        command = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "ana", "-n", namespace]
        done = subprocess.run(
            [*command, "-s", str(sig)], cwd=tmp_path, input=message, capture_output=True, timeout=60
        )
        return done.returncode

    assert keygen("dorky-commit", MESSAGE) == 0
    assert keygen("dorky-root", MESSAGE) != 0
    assert keygen("git", MESSAGE) != 0
    assert keygen("dorky-commit", MESSAGE + b" ") != 0


def test_what_ssh_keygen_signs_is_valid(tmp_path: Path) -> None:
    for kind in ("ed25519", "rsa"):
        path = tmp_path / kind
        command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(path)]
        subprocess.run(command, check=True, timeout=120)
        (tmp_path / "m").write_bytes(MESSAGE)
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "dorky-root", "-f", str(path)]
        subprocess.run([*command, str(tmp_path / "m")], check=True, timeout=60, capture_output=True)
        text = (tmp_path / "m.sig").read_text()
        found = path.with_suffix(".pub").read_text().strip()
        blob = base64.b64decode("".join(text.splitlines()[1:-1]))
        raw = blob[-64:] if kind == "ed25519" else blob[-384:]
        assert sshsig.verify(found, Namespace.ROOT, MESSAGE, raw)
        assert sshsig.armour(found, Namespace.ROOT, raw) == text
        (tmp_path / "m.sig").unlink()


def test_signatures_are_deterministic(key: Any) -> None:
    made = {sshsig.sign(key, Namespace.COMMIT, MESSAGE) for _ in range(3)}
    assert len(made) == 1


def test_a_signature_is_for_one_purpose(key: Any) -> None:
    for made in Namespace:
        signature = sshsig.sign(key, made, MESSAGE)
        valid = [each for each in Namespace if sshsig.verify(public(key), each, MESSAGE, signature)]
        assert valid == [made]


def test_git_signatures_are_none(key: Any) -> None:
    digest = hashlib.sha512(MESSAGE).digest()
    signed = b"SSHSIG" + strings(b"git", b"", b"sha512", digest)
    raw = key.sign(signed) if key is ED else key.sign(signed, padding.PKCS1v15(), hashes.SHA512())
    assert not any(sshsig.verify(public(key), each, MESSAGE, raw) for each in Namespace)
    with pytest.raises(ValueError, match="git"):
        sshsig.sign(key, "git", MESSAGE)  # type: ignore[arg-type]


@given(st.data())
def test_no_flipped_bit_verifies(data: st.DataObject) -> None:
    key = data.draw(st.sampled_from([ED, RSA]))
    signature = bytearray(sshsig.sign(key, Namespace.TEAM, MESSAGE))
    message = bytearray(MESSAGE)
    assert sshsig.verify(public(key), Namespace.TEAM, bytes(message), bytes(signature))
    target = data.draw(st.sampled_from([signature, message]))
    at = data.draw(st.integers(0, 8 * len(target) - 1))
    target[at // 8] ^= 1 << at % 8
    assert not sshsig.verify(public(key), Namespace.TEAM, bytes(message), bytes(signature))


@given(st.binary(max_size=600))
def test_bytes_are_no_signature(signature: bytes) -> None:
    for key in (ED, RSA):
        assert not sshsig.verify(public(key), Namespace.ROOT, MESSAGE, signature)


def test_s_is_below_the_order() -> None:
    signature = sshsig.sign(ED, Namespace.ROOT, MESSAGE)
    s = int.from_bytes(signature[32:], "little")
    for times in range(1, 16):
        if s + times * ORDER < 1 << 256:
            second = signature[:32] + (s + times * ORDER).to_bytes(32, "little")
            assert not sshsig.verify(public(ED), Namespace.ROOT, MESSAGE, second)


def test_other_lengths_are_refused(key: Any) -> None:
    signature = sshsig.sign(key, Namespace.ROOT, MESSAGE)
    for other in (signature[:-1], signature + b"\0", b"\0" + signature, b""):
        assert not sshsig.verify(public(key), Namespace.ROOT, MESSAGE, other)


def test_rsa_with_other_hashes_is_refused() -> None:
    digest = hashlib.sha512(MESSAGE).digest()
    signed = b"SSHSIG" + strings(b"dorky-root", b"", b"sha512", digest)
    for algorithm in (hashes.SHA1(), hashes.SHA256(), hashes.SHA512()):
        signature = RSA.sign(signed, padding.PKCS1v15(), algorithm)
        valid = sshsig.verify(public(RSA), Namespace.ROOT, MESSAGE, signature)
        assert valid == isinstance(algorithm, hashes.SHA512)
    pss = padding.PSS(padding.MGF1(hashes.SHA512()), 64)
    signature = RSA.sign(signed, pss, hashes.SHA512())
    assert not sshsig.verify(public(RSA), Namespace.ROOT, MESSAGE, signature)


LOW_ORDER = [
    bytes(31) + b"\0",
    bytes(31) + b"\x80",
    b"\1" + bytes(31),
    b"\1" + bytes(30) + b"\x80",
    (P - 1).to_bytes(32, "little"),
    (P - 1 | 1 << 255).to_bytes(32, "little"),
    bytes.fromhex("05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826")[::-1],
    bytes.fromhex("7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7")[::-1],
]
NON_CANONICAL = [
    (y | sign << 255).to_bytes(32, "little") for y in range(P, 1 << 255) for sign in (0, 1)
]


@pytest.mark.parametrize("point", [*LOW_ORDER, *NON_CANONICAL])
def test_points_of_low_order_and_second_spellings_are_refused(point: bytes) -> None:
    with pytest.raises(ValueError, match=r"order|usual"):
        sshsig.check(ed25519(point))
    # With a key of low order, some signatures of nobody's verify for many messages.
    for r in LOW_ORDER:
        assert not sshsig.verify(ed25519(point), Namespace.ROOT, MESSAGE, r + bytes(32))


@given(st.integers(2, (1 << 256) - 1).filter(lambda n: n.to_bytes(32, "little") not in LOW_ORDER))
def test_every_point_is_on_the_curve(number: int) -> None:
    y = number & ((1 << 255) - 1)
    text = ed25519(number.to_bytes(32, "little"))
    d = -121665 * pow(121666, -1, P) % P
    square = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
    try:
        sshsig.check(text)
    except ValueError:
        assert y >= P or pow(square, (P - 1) // 2, P) != 1
    else:
        assert pow(square, (P - 1) // 2, P) == 1


def test_other_kinds_of_keys_are_refused() -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    small = rsa.generate_private_key(65537, 1024)
    point = ED.public_key().public_bytes_raw()
    hardware = line(b"sk-ssh-ed25519@openssh.com", point, b"ssh:")
    for text in (public(curve), public(small), hardware, "", "ssh-ed25519", "ssh-rsa ", "age1xyz"):
        with pytest.raises(ValueError, match=r"."):
            sshsig.check(text)
        assert not sshsig.verify(text, Namespace.ROOT, MESSAGE, bytes(64))


def test_other_spellings_of_keys_are_refused(key: Any) -> None:
    kind, encoded = public(key).split()
    blob = base64.b64decode(encoded)
    swapped = {"ssh-rsa": "ssh-ed25519", "ssh-ed25519": "ssh-rsa"}[kind]
    others = [
        f"{kind} {encoded} ana@example",
        f" {kind} {encoded}",
        f"{kind}  {encoded}",
        f"{kind} {encoded}\n",
        f"{swapped} {encoded}",
        f"{kind.upper()} {encoded}",
        f"{kind} {base64.b64encode(blob + bytes(1)).decode()}",
        f"{kind} {base64.b64encode(blob[:-1]).decode()}",
        f"{kind} {encoded.rstrip('=')}=====",
        f"{kind} {encoded}é",
    ]
    signature = sshsig.sign(key, Namespace.ROOT, MESSAGE)
    for text in others:
        with pytest.raises(ValueError, match=r"."):
            sshsig.check(text)
        assert not sshsig.verify(text, Namespace.ROOT, MESSAGE, signature)
    sshsig.check(public(key))


@given(st.text(max_size=100) | st.binary(max_size=80).map(lambda raw: base64.b64encode(raw)))
def test_any_text_is_refused_without_a_crash(text: str | bytes) -> None:
    rest = text if isinstance(text, str) else text.decode()
    for kind in ("ssh-ed25519", "ssh-rsa", ""):
        assert not sshsig.verify(f"{kind} {rest}", Namespace.JOIN, MESSAGE, bytes(64))
