"""What of a key may be shown where values are hidden."""

from __future__ import annotations

import base64
import random

import pytest

from dorky.documents.names import HIDDEN, is_shown, shown


@pytest.mark.parametrize(
    "key",
    [
        *("DATABASE_URL", "A", "_x", "db.hosts.0.port", "AWS_S3_BUCKET", "K8S_1", "N0", "2FA_KEY"),
        *("oauth2ClientSecret", "getUserById2", "X509CertPEM", "SHA256_OF_IPv6", "base64Encoded"),
        *("NEXT_PUBLIC_FIREBASE_MESSAGING_SENDER_ID", "größe", "@scope/name", "$schema", "<<"),
        *('labels."app.kubernetes.io/name"', '"content type"', "i18n.de-DE", "*", "url:port"),
        *("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "verylongnamewithoutanyseparatorswhatsoever", "deadbeef"),
    ],
)
def test_names_are_shown(key: str) -> None:
    assert shown(key) == key
    assert is_shown(key)


@pytest.mark.parametrize(
    "key",
    [
        *("https://ana:s3cret@db.example/x?ssl", "postgres://u:p@h/d", "?ssl", "x?sslmode", "a&b"),
        *("Zm9vYmFyCg==", "ab+cd", "d41d8cd98f00b204e9800998ecf8427e", "x" * 101, "a=b"),
        *(
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
            "wJalrXUtnFEMI7K9MDENG2bPxRfiCY",
            "a\nb",
            "a\x1b",
        ),
    ],
)
def test_parts_of_secrets_are_not(key: str) -> None:
    assert key not in shown(f'"{key}"')
    assert not is_shown(f'"{key}"')
    assert shown(f'a."{key}".b') == f"a.{HIDDEN}.b"


def test_base64_of_random_bytes_is_hardly_ever_a_name() -> None:
    chance = random.Random(7)
    tails = [base64.b64encode(chance.randbytes(33)).decode() for _ in range(400)]
    assert sum(map(is_shown, tails)) < 10
