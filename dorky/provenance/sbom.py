"""SBOMs: recognising their formats, and carrying them in statements byte for byte.

JSON is the predicate itself. XML and tag-value text are JSON strings, as cosign carries them.

Sources: SPDX 2.3 and 3.0, CycloneDX 1.6, and cosign's predicate types.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from dorky import errors
from dorky.provenance import json, statement
from dorky.provenance.statement import Origin, Statement

Format = Literal["spdx", "cyclonedx"]
TYPES: dict[Format, str] = {
    "spdx": "https://spdx.dev/Document",
    "cyclonedx": "https://cyclonedx.org/bom",
}
LIMIT = 16 << 20
"""The largest SBOM in bytes."""

_START = 4096  # bytes in which XML and tag-value text say what they are


def claim(
    path: str,
    sha256: str,
    content: bytes,
    format: Format | None,
    origin: Origin,
) -> Statement:
    """Return the statement that a file has an SBOM.

    Args:
        path: The file's path in the repository.
        sha256: The SHA-256 of its content.
        content: The SBOM, whose bytes are kept.
        format: Its format; None to recognise it.
        origin: Where and when it is said.

    Raises:
        BadSBOM: It is too large, not of the format that it should have, or of none that is known.
    """
    found = recognise(content, path) if format is None else _checked(content, format, path)
    predicate = content if _is_json(content) else msgspec.json.encode(_text(content, path))
    return statement.about(path, sha256, TYPES[found], predicate, origin)


def recognise(content: bytes, source: str) -> Format:
    """Return the format of an SBOM.

    Raises:
        BadSBOM: It is of no known format, or too large.
    """
    if len(content) > LIMIT:
        raise errors.BadSBOM(source, f"it has more than {LIMIT >> 20} MiB")
    if not _is_json(content):
        start = content[:_START].lower()
        if b"spdx" in start:
            return "spdx"
        if b"cyclonedx" in start:
            return "cyclonedx"
        raise errors.BadSBOM(source, "it is neither SPDX nor CycloneDX")
    try:
        found = _of_json(json.check(content))
    except ValueError as error:
        raise errors.BadSBOM(source, error) from None
    if found is None:
        raise errors.BadSBOM(source, "its JSON is neither SPDX nor CycloneDX")
    return found


def content_of(claim: Statement) -> tuple[Format, bytes]:
    """Return the format and the exact bytes of the SBOM in a statement of one of `TYPES`.

    Raises:
        BadBundle: The statement holds something else.
    """
    [format] = [name for name, kind in TYPES.items() if kind == claim.type]
    if claim.predicate.lstrip()[:1] != b'"':
        return format, claim.predicate
    try:
        return format, msgspec.json.decode(claim.predicate, type=str).encode()
    except (msgspec.DecodeError, UnicodeError):
        raise errors.BadBundle("The SBOM", "it is not a text") from None


def _checked(content: bytes, format: Format, source: str) -> Format:
    if len(content) <= LIMIT and not _is_json(content):
        return format
    if recognise(content, source) != format:
        raise errors.BadSBOM(source, f"its JSON is not {format}")
    return format


def _is_json(content: bytes) -> bool:
    return content.lstrip(b" \t\r\n")[:1] == b"{"


def _of_json(found: Any) -> Format | None:
    version = found.get("spdxVersion")
    if isinstance(version, str) and version.startswith("SPDX-"):
        return "spdx"
    if found.get("bomFormat") == "CycloneDX" and isinstance(found.get("specVersion"), str):
        return "cyclonedx"
    context = found.get("@context")
    if isinstance(context, str) and context.startswith("https://spdx.org/rdf/3."):
        return "spdx" if isinstance(found.get("@graph"), list) else None
    return None


def _text(content: bytes, source: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise errors.BadSBOM(source, "it is neither JSON nor a text in UTF-8") from None
