"""Statements: a claim about one file.

Source: in-toto's attestation framework, Statement v1 and ResourceDescriptor v1
(github.com/in-toto/attestation, spec/v1). The types of SBOMs are those that cosign gives them.

A predicate goes in and comes out byte for byte: 142 does not become 142.0, and white space stays.
So the payload is put together around its bytes, never parsed and written again.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Annotated, NamedTuple

import msgspec

from dorky import errors
from dorky.provenance import json

STATEMENT = "https://in-toto.io/Statement/v1"
SIGNATURE = "urn:dorky:signature:v1"
"""The type of a bare signature: of what `dorky sign` makes."""
SLSA = "https://slsa.dev/provenance/v1"
PREFIX = "urn:dorky:attestation:"
"""The start of the types that are named by a bare word, such as ``build``."""

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST = 500  # characters of a predicate's type

_Hex = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Time = Annotated[datetime, msgspec.Meta(tz=True)]


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a signer claims of when and where a statement was made.

    Attributes:
        repository: The id of the repository.
        commit: The commit that holds the file.
        time: The time by the signer's clock, in UTC, to the second.
    """

    repository: str
    commit: str
    time: _Time


class Statement(NamedTuple):
    """A claim about one file.

    Attributes:
        path: The file's path in the repository.
        sha256: The SHA-256 of its content.
        type: The type of the predicate, a URI.
        predicate: The claim itself, the exact bytes of a JSON value.
        origin: When and where it was made; None in a statement of another tool's that is silent.
    """

    path: str
    sha256: str
    type: str
    predicate: bytes
    origin: Origin | None

    @property
    def payload(self) -> bytes:
        """Return the bytes that are signed, in the envelope of `dsse`."""
        return _head(self) + self.predicate + b"}"


class _Subject(msgspec.Struct, frozen=True):
    name: str
    digest: dict[str, str]
    annotations: dict[str, msgspec.Raw] = {}


class _Envelope(msgspec.Struct, frozen=True):
    kind: str = msgspec.field(name="_type")
    subject: tuple[_Subject, ...]
    predicate_type: str = msgspec.field(name="predicateType")
    predicate: msgspec.Raw


_ANNOTATION = "dorky"


def signature(path: str, sha256: str, origin: Origin) -> Statement:
    """Return the statement that a file is as its signer has seen it, and nothing else."""
    origin = _to_the_second(origin)
    return Statement(path, sha256, SIGNATURE, msgspec.json.encode(origin), origin)


def attestation(
    path: str,
    sha256: str,
    kind: str,
    predicate: bytes,
    origin: Origin,
) -> Statement:
    """Return a statement with any predicate about a file.

    Args:
        path: The file's path in the repository.
        sha256: The SHA-256 of its content.
        kind: The predicate's type: a URI, or a bare word.
        predicate: A JSON object, whose bytes are kept.
        origin: Where and when it is said.

    Raises:
        BadPredicate: The type or the predicate is unfit.
    """
    try:
        json.check_object(predicate)
    except ValueError as error:
        raise errors.BadPredicate(ascii(kind), f"of its predicate, {error}") from None
    return about(path, sha256, type_of(kind), predicate, origin)


def about(
    path: str,
    sha256: str,
    kind: str,
    predicate: bytes,
    origin: Origin,
) -> Statement:
    """Return a statement with a predicate that was checked (see `attestation`)."""
    return Statement(path, sha256, kind, predicate, _to_the_second(origin))


def type_of(name: str) -> str:
    """Return the URI of a predicate's type that a user has named; a bare word gets our prefix.

    Raises:
        BadPredicate: It is neither a URI nor a word.
    """
    if len(name) <= _LONGEST and _URI.fullmatch(name):
        return name
    if len(name) <= _LONGEST and _WORD.fullmatch(name):
        return PREFIX + name
    why = "a type is a URI, or one word of letters, digits, '.', '_' and '-'"
    raise errors.BadPredicate(ascii(name), why)


def read(payload: bytes) -> Statement:
    """Read a signed payload, from an untrusted source.

    Raises:
        ValueError: It is not an in-toto statement about one file; the text says why.
    """
    json.check(payload)
    try:
        found = msgspec.json.decode(payload, type=_Envelope)
    except (msgspec.DecodeError, RecursionError):
        raise ValueError("its payload is not an in-toto statement") from None
    if found.kind != STATEMENT:
        raise ValueError("its payload is not an in-toto statement v1")
    if len(found.subject) != 1:
        raise ValueError(f"its statement is about {len(found.subject)} files, not one")
    [subject] = found.subject
    try:
        sha256 = msgspec.convert(subject.digest.get("sha256"), _Hex)
        origin = _origin(found, subject)
    except (msgspec.DecodeError, ValueError):
        raise ValueError("its statement has no sound SHA-256, or no sound origin") from None
    claim = Statement(subject.name, sha256, found.predicate_type, bytes(found.predicate), origin)
    head = _head(claim)
    if payload.startswith(head) and payload.endswith(b"}"):
        # White space around the predicate is not JSON's, but the file's that was attached.
        return claim._replace(predicate=payload[len(head) : -1])
    return claim


def _origin(found: _Envelope, subject: _Subject) -> Origin | None:
    if found.predicate_type == SIGNATURE:
        return msgspec.json.decode(found.predicate, type=Origin)
    raw = subject.annotations.get(_ANNOTATION)
    return None if raw is None else msgspec.json.decode(raw, type=Origin)


def _head(claim: Statement) -> bytes:
    """Return the payload up to the predicate."""
    subject: dict[str, object] = {"name": claim.path, "digest": {"sha256": claim.sha256}}
    if claim.type != SIGNATURE and claim.origin:
        subject["annotations"] = {_ANNOTATION: claim.origin}
    head = {"_type": STATEMENT, "subject": [subject], "predicateType": claim.type}
    return msgspec.json.encode(head)[:-1] + b',"predicate":'


def _to_the_second(origin: Origin) -> Origin:
    time = origin.time.astimezone(timezone.utc).replace(microsecond=0)
    return msgspec.structs.replace(origin, time=time)
