"""Tokens of the server of packages."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from dorky import errors
from dorky.extras.index import auth

KEYS: dict[str, Callable[[], Any]] = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
}


def public(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def in_an_hour(hours: float = 1) -> datetime:
    return datetime.now(timezone.utc) + timedelta(hours=hours)


def access(directory: Path, line: str) -> auth.Access:
    file = directory / "tokens"
    file.write_text(f"# tokens\n\n{line}\n")
    return auth.load(file)


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_token_that_a_known_key_has_signed(tmp_path: Path, algorithm: str) -> None:
    key, other = KEYS[algorithm](), KEYS[algorithm]()
    (tmp_path / "idp.pem").write_bytes(public(key))
    found = access(tmp_path, "idp write key:idp.pem issuer=https://idp audience=dorky subject=ci")
    claims = {"exp": in_an_hour(), "iss": "https://idp", "aud": "dorky", "sub": "ci"}

    def caller(signer: Any = key, **changed: Any) -> auth.Caller | None:
        told = {name: value for name, value in (claims | changed).items() if value is not None}
        return found.caller(jwt.encode(told, signer, algorithm))

    assert caller() == auth.Caller("idp", may_write=True)
    assert caller(scope="read write") == auth.Caller("idp", may_write=True)
    assert caller(scope="read") == auth.Caller("idp", may_write=False)
    assert caller(scope=["read"]) == auth.Caller("idp", may_write=False)
    assert caller(signer=other) is None
    assert caller(exp=in_an_hour(-1)) is None
    for name in claims:
        assert caller(**{name: None}) is None, name
    for name in ("iss", "aud", "sub"):
        assert caller(**{name: "other"}) is None, name
    assert caller(nbf=in_an_hour()) is None


def test_the_key_decides_on_the_algorithm(tmp_path: Path) -> None:
    """Not the token: one without a signature, or one "signed" with the public key, is refused."""
    key = KEYS["RS256"]()
    (tmp_path / "idp.pem").write_bytes(public(key))
    found = access(tmp_path, "idp read key:idp.pem")
    claims = {"exp": in_an_hour()}
    signed = jwt.encode(claims, key, "RS256")
    assert found.caller(signed)
    unsigned = jwt.encode(claims, "", "none")
    header, body, _ = signed.split(".")
    swapped = jwt.encode(claims, "0" * 32, "HS256")
    pss = jwt.encode(claims, key, "PS256")
    for forged in (unsigned, swapped, pss, f"{header}.{body}.", f"{header}.{body}", "a.b.c", ""):
        assert found.caller(forged) is None, forged


def test_an_audience_that_is_not_expected_is_refused(tmp_path: Path) -> None:
    key = KEYS["EdDSA"]()
    (tmp_path / "idp.pem").write_bytes(public(key))
    found = access(tmp_path, "idp read key:idp.pem")
    assert found.caller(jwt.encode({"exp": in_an_hour(), "aud": "other"}, key, "EdDSA")) is None


def test_opaque_tokens(tmp_path: Path) -> None:
    made = auth.new("ci", write=True)
    today = datetime.now(timezone.utc).date()
    late = auth.new("late", write=True, expires=today - timedelta(days=1))
    last = auth.new("last", write=False, expires=today)
    file = tmp_path / "tokens"
    for new in (made, late, last):
        auth.append(file, new.line)
    assert file.stat().st_mode & 0o777 == 0o600
    found = auth.load(file)
    assert found.caller(made.token) == auth.Caller("ci", may_write=True)
    assert found.caller(last.token) == auth.Caller("last", may_write=False)
    for wrong in (late.token, made.token + "x", made.token[:-1], "", "x" * 10_000, "\udcff"):
        assert found.caller(wrong) is None
    assert not any(new.token in file.read_text() for new in (made, late, last))
    with pytest.raises(errors.TokenExists):
        auth.append(file, auth.new("ci", write=False).line)


@pytest.mark.parametrize(
    "line",
    [
        "ci write",
        "ci admin sha256:" + "0" * 64,
        "ci write sha256:0",
        "ci write sha256:" + "g" * 64,
        "ci write md5:" + "0" * 64,
        "ci write dorky_secret",
        "ci write sha256:" + "0" * 64 + " expires=soon",
        "ci write sha256:" + "0" * 64 + " audience=x",
        "ci write key:missing.pem",
        "ci write key:weak.pem",
        "ci write key:curve.pem",
        "ci write key:private.pem",
        "ci write key:private.pem expires=2030-01-01",
        "ci read sha256:" + "0" * 64 + "\nci read sha256:" + "1" * 64,
    ],
)
def test_a_line_that_is_wrong(tmp_path: Path, line: str) -> None:
    (tmp_path / "weak.pem").write_bytes(public(rsa.generate_private_key(65537, 1024)))
    (tmp_path / "curve.pem").write_bytes(public(ec.generate_private_key(ec.SECP384R1())))
    own = KEYS["EdDSA"]().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "private.pem").write_bytes(own)
    with pytest.raises(errors.BadConfig) as caught:
        access(tmp_path, line)
    assert "line " in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_may_write_to(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "tokens"
    file.write_text("")
    file.chmod(mode)
    with pytest.raises(errors.BadConfig, match="another user"):
        auth.load(file)
    file.chmod(0o644)
    assert auth.load(file).names == set()


@pytest.mark.parametrize("name", ["", "a b", "a#b", "a\nb", "\x1b[0m"])
def test_a_name_that_is_no_word(name: str) -> None:
    with pytest.raises(errors.UsageError):
        auth.new(name, write=False, expires=date(2030, 1, 1))


def test_failed_logins_by_address() -> None:
    now = [0.0]
    failures = auth.Failures(lambda: now[0])
    for n in range(9):
        failures.note(f"2001:db8::{n}")
    failures.note("198.51.100.1")
    assert failures.wait("2001:db8::1") == 0
    failures.note("2001:db8::ffff")
    assert failures.wait("2001:db8::9999") == 60
    assert failures.wait("2001:db8:0:1::1") == failures.wait("198.51.100.1") == 0
    now[0] = 61
    assert failures.wait("2001:db8::1") == 0


def test_the_memory_for_failed_logins_is_bounded() -> None:
    failures = auth.Failures()
    for n in range(10_100):
        failures.note(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    assert len(failures._times) == 10_000


def test_nobody_else_owns_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tokens"
    file.write_text("")
    if os.geteuid() == 0:
        os.chown(file, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(errors.BadConfig, match="another user"):
        auth.load(file)
