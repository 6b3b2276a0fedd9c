"""SBOMs: their formats are recognised, and their bytes come back."""

from __future__ import annotations

import json

import pytest
import signatures as sign
from hypothesis import given
from hypothesis import strategies as st

from dorky import errors
from dorky.provenance import bundle, sbom, statement
from dorky.provenance.statement import Origin

ORIGIN = Origin(sign.REPOSITORY, sign.COMMIT, sign.NOW)
SPDX = b'{\n  "spdxVersion": "SPDX-2.3",\n  "packages": [{"n": 142.0, "m": 1e400}]\n}\n'
SPDX3 = b'{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[]}'
CYCLONEDX = b'\r\n{"bomFormat":"CycloneDX","specVersion":"1.6","version":142}'
XML = (
    '<?xml version="1.0"?>\n<bom xmlns="http://cyclonedx.org/schema/bom/1.6">"é\\</bom>\n'.encode()
)
TAGS = b"SPDXVersion: SPDX-2.3\nDataLicense: CC0-1.0\n"


def attached(content: bytes, form: sbom.Format | None = None) -> statement.Statement:
    return sbom.claim(sign.PATH, sign.SHA256, content, form, ORIGIN)


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (SPDX, "spdx"),
        (SPDX3, "spdx"),
        (CYCLONEDX, "cyclonedx"),
        (XML, "cyclonedx"),
        (TAGS, "spdx"),
        (b"\xef\xbb\xbf" + SPDX, "spdx"),
    ],
)
def test_an_sbom_comes_back_byte_for_byte(content: bytes, form: sbom.Format) -> None:
    data = bundle.sign(attached(content), sign.key())
    found = bundle.read(data).statement
    assert found.type == sbom.TYPES[form]
    assert sbom.content_of(found) == (form, content)
    assert found == attached(content, form)


def test_json_is_the_predicate_itself() -> None:
    predicate = json.loads(attached(SPDX.replace(b"1e400", b"1")).payload)["predicate"]
    assert predicate["spdxVersion"] == "SPDX-2.3"
    assert json.loads(attached(TAGS).payload)["predicate"] == TAGS.decode()


@pytest.mark.parametrize(
    ("content", "form", "why"),
    [
        (b"{}", None, "neither SPDX nor CycloneDX"),
        (b"", None, "neither SPDX nor CycloneDX"),
        (b"SELECT 1", None, "neither SPDX nor CycloneDX"),
        (b"[]", None, "neither SPDX nor CycloneDX"),
        (SPDX, "cyclonedx", "its JSON is not cyclonedx"),
        (CYCLONEDX, "spdx", "its JSON is not spdx"),
        (b'{"bomFormat":"CycloneDX","specVersion":1.6}', "cyclonedx", "neither SPDX nor"),
        (b'{"spdxVersion":"2.3"}', "spdx", "neither SPDX nor"),
        (SPDX[:-3], "spdx", "not JSON"),
        (SPDX + b"{}", "spdx", "not JSON"),
        (SPDX.replace(b'"packages"', b'"spdxVersion"'), "spdx", "one key twice"),
        (b"<bom>\xff", "cyclonedx", "nor a text in UTF-8"),
        (b"x" * (sbom.LIMIT + 1), "spdx", "more than 16 MiB"),
        (SPDX + b" " * sbom.LIMIT, None, "more than 16 MiB"),
    ],
)
def test_an_unfit_sbom_is_refused(content: bytes, form: sbom.Format | None, why: str) -> None:
    with pytest.raises(errors.BadSBOM, match=why):
        attached(content, form)


def test_the_largest_sbom_fits_into_a_bundle() -> None:
    content = SPDX + b" " * (sbom.LIMIT - len(SPDX))
    found = bundle.read(bundle.sign(attached(content), sign.key())).statement
    assert sbom.content_of(found) == ("spdx", content)


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    content = b"SPDXVersion: " + text.encode()
    assert sbom.content_of(statement.read(attached(content).payload)) == ("spdx", content)


def test_a_predicate_that_is_no_sbom_is_refused() -> None:
    claim = attached(TAGS)._replace(predicate=b'"\\ud800"')
    with pytest.raises(errors.BadBundle):
        sbom.content_of(claim)
