"""Statements: a predicate comes back byte for byte, and nothing malformed is read."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
import signatures as sign
from hypothesis import given
from hypothesis import strategies as st

from dorky import errors
from dorky.provenance import statement
from dorky.provenance.statement import Origin

ORIGIN = Origin(sign.REPOSITORY, sign.COMMIT, sign.NOW)


def attested(predicate: bytes, kind: str = "build") -> statement.Statement:
    return statement.attestation(sign.PATH, sign.SHA256, kind, predicate, ORIGIN)


def test_a_signature_is_an_in_toto_statement() -> None:
    assert json.loads(sign.claim().payload) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": sign.PATH, "digest": {"sha256": sign.SHA256}}],
        "predicateType": "urn:dorky:signature:v1",
        "predicate": {
            "repository": sign.REPOSITORY,
            "commit": sign.COMMIT,
            "time": "2026-11-30T12:00:00Z",
        },
    }


def test_a_time_is_in_utc_and_to_the_second() -> None:
    east = timezone(timedelta(hours=5))
    origin = Origin("r", "c", datetime(2026, 1, 1, 2, 3, 4, 5, east))
    found = statement.signature("a", sign.SHA256, origin)
    assert b'"time":"2025-12-31T21:03:04Z"' in found.payload


@pytest.mark.parametrize(
    "predicate",
    [
        b'{"n": 142.0, "m": 142, "e": 1e2, "big": 123456789012345678901234567890}',
        b' \n{"a" :\t"\\u00e9\\/"}\r\n',
        b"{}",
        '{"ключ": "ü"}\n'.encode(),
    ],
)
def test_a_predicate_comes_back_byte_for_byte(predicate: bytes) -> None:
    found = statement.read(attested(predicate).payload)
    assert found == attested(predicate)
    assert found.predicate == predicate


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    st.text(st.characters(codec="utf-8")),
    st.dictionaries(st.text(st.characters(codec="utf-8")), json_values, max_size=4),
    st.sampled_from([None, 0, 3]),
    st.sampled_from(["", " ", "\n\t"]),
)
def test_every_statement_comes_back(
    path: str, value: dict[str, object], indent: int | None, space: str
) -> None:
    predicate = (space + json.dumps(value, indent=indent) + space).encode()
    found = statement.attestation(path, sign.SHA256, statement.SLSA, predicate, ORIGIN)
    assert statement.read(found.payload) == found


@pytest.mark.parametrize(
    ("predicate", "why"),
    [
        (b"[]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b'{"a":1,"a":2}', "one key twice"),
        (b'{"a":{"b":1,"\\u0062":2}}', "one key twice"),
        (b'{"a":1}}', "not JSON"),
        (b'{"a":1},"subject":[]', "not JSON"),
        (b'{"a":NaN}', "not JSON"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b'\xef\xbb\xbf{"a":1}', "not JSON"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"", "not JSON"),
    ],
)
def test_an_unfit_predicate_is_refused(predicate: bytes, why: str) -> None:
    with pytest.raises(errors.BadPredicate, match=why):
        attested(predicate)


def test_a_bare_word_gets_our_prefix_and_a_uri_stays() -> None:
    assert statement.type_of("build") == "urn:dorky:attestation:build"
    assert statement.type_of(statement.SLSA) == "https://slsa.dev/provenance/v1"
    for name in ("", "two words", "https:// x", "é", "-x", "urn:é", "a" * 501):
        with pytest.raises(errors.BadPredicate):
            statement.type_of(name)


def changed(old: str, new: str) -> bytes:
    payload = sign.claim().payload
    assert old.encode() in payload
    return payload.replace(old.encode(), new.encode())


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "not JSON"),
        (b"{}", "not an in-toto statement"),
        (changed("Statement/v1", "Statement/v0.1"), "not an in-toto statement v1"),
        (changed('"name":"models/net.bin",', ""), "not an in-toto statement"),
        (changed('"name":', '"name":"other","name":'), "one key twice"),
        (changed('[{"name', '[{"name":"x","digest":{}},{"name'), "about 2 files, not one"),
        (changed('"sha256"', '"sha512"'), "no sound SHA-256"),
        (changed("5e5e", "5E5e"), "no sound SHA-256"),
        (changed("5e5e", "5e"), "no sound SHA-256"),
        (changed(sign.SHA256 + '"', sign.SHA256 + '\\n"'), "no sound SHA-256"),
        (changed('"commit"', '"commits"'), "no sound origin"),
        (changed("T12:00:00Z", "T12:00:00"), "no sound origin"),
        (changed('"repository":"ab', '"repository":1,"x":"ab'), "no sound origin"),
        (changed("models/net.bin", "\\ud800"), "not an in-toto statement"),
    ],
)
def test_a_malformed_payload_is_refused(payload: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        statement.read(payload)


@given(st.binary() | st.text().map(str.encode) | json_values.map(lambda v: json.dumps(v).encode()))
def test_no_payload_does_more_than_be_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        statement.read(payload)


def test_a_statement_of_another_tool_has_no_origin() -> None:
    payload = {
        "_type": statement.STATEMENT,
        "predicateType": statement.SLSA,
        "predicate": {"x": 1.0},
        "subject": [
            {
                "uri": "file:x",
                "digest": {"sha1": "00", "sha256": sign.SHA256},
                "name": sign.PATH,
                "annotations": {"other": [1]},
            }
        ],
        "unknown": True,
    }
    found = statement.read(json.dumps(payload, indent=1).encode())
    assert found.origin is None
    assert (found.path, found.sha256, found.type) == (sign.PATH, sign.SHA256, statement.SLSA)
    assert json.loads(found.predicate) == {"x": 1.0}
