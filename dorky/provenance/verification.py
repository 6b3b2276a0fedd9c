"""Verification: what signed statements are worth to somebody who trusts some signers.

A statement counts only if all of this holds: its bundle is sound; a trusted key has signed the
exact bytes of the payload; it names the path and the content that were read; it was made for this
repository; its type is the one that was asked for; the signer was in force at the time that they
claim, which is past; and the same signer has not signed another content of the path since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from dorky import errors
from dorky.provenance import bundle, signers
from dorky.provenance.bundle import Bundle
from dorky.provenance.public_keys import PublicKey
from dorky.provenance.signers import Signer
from dorky.provenance.statement import Statement
from dorky.results import SignatureState

_SLACK = timedelta(minutes=15)
"""How far the clock of a signer may be ahead: as far as S3 allows."""


class Subject(NamedTuple):
    """The file that is verified.

    Attributes:
        path: Its path in the repository.
        sha256: The SHA-256 of the bytes that were read.
        repository: The repository's id.
    """

    path: str
    sha256: str
    repository: str


class Verdict(NamedTuple):
    """What one bundle is worth.

    Attributes:
        id: The bundle's id (see `bundle.identify`).
        state: ``valid``; ``untrusted``: no key that counts has signed it; ``stale``: it was signed
            for other content, or the signer has signed other content since; ``unsigned``;
            ``invalid``: malformed, damaged, or made for something else.
        problem: Why it is not valid, as the end of a sentence; empty if it is.
        signer: The signer; empty if no trusted key has signed it.
        algorithm: The algorithm of the signature, as far as it verifies.
        fingerprint: The key's fingerprint, as far as the signature verifies.
        statement: The statement; None if the bundle is malformed.
    """

    id: str
    state: SignatureState
    problem: str = ""
    signer: str = ""
    algorithm: str = ""
    fingerprint: str = ""
    statement: Statement | None = None

    @property
    def type(self) -> str:
        """Return the type of the predicate; empty if the bundle is malformed."""
        return self.statement.type if self.statement else ""

    @property
    def time(self) -> datetime | None:
        """Return when the signer claims to have made it."""
        return self.statement.origin.time if self.statement and self.statement.origin else None


class Trust:
    """Those whose signatures count."""

    def __init__(self, trusted: Iterable[Signer]) -> None:
        self._lines: dict[str, list[Signer]] = {}
        self._keys: dict[str, PublicKey] = {}
        for signer in trusted:
            self._lines.setdefault(signer.key.line, []).append(signer)
            self._keys[signer.key.id] = signer.key

    def __bool__(self) -> bool:
        return bool(self._lines)

    def key_of(self, found: Bundle) -> tuple[PublicKey, str] | None:
        """Return the trusted key that has signed a bundle, and by which algorithm."""
        hinted = self._keys.get(found.keyid)
        for key in ([hinted] if hinted else []) + [*self._keys.values()]:
            if algorithm := key.verify(found.signed, found.signature):
                return key, algorithm
        return None

    def names(self, keyid: str) -> bool:
        """Return whether a bundle's hint is the id of a trusted key."""
        return keyid in self._keys

    def signer(self, key: PublicKey, names: Sequence[str], time: datetime) -> tuple[str, str]:
        """Return by which name a key counts, and why it does not (one of them is empty).

        Args:
            key: A trusted key.
            names: The names that are asked for; empty for all.
            time: The time of the signature.

        Returns:
            The first name that was asked for, or that the signers file has; a reason.
        """
        problem = "its signer is not among those that are asked for"
        for signer in self._lines[key.line]:
            name = next((name for name in names if signers.matches(name, signer.names)), "")
            if names and not name:
                continue
            if not (problem := signer.problem(time)):
                return name or signer.names[0], ""
        return "", problem


def examine(
    bundles: Iterable[bytes],
    subject: Subject,
    trust: Trust,
    *,
    now: datetime,
    kind: str = "",
    names: Sequence[str] = (),
) -> list[Verdict]:
    """Return what bundles say of a file.

    Args:
        bundles: All bundles of its path, whatever their type, from an untrusted source.
        subject: The file.
        trust: Whose signatures count.
        now: The time at which a statement without a time of its own has to be valid.
        kind: The predicate's type that is asked for; empty for all.
        names: The names of the signers that are asked for; empty for all that are trusted.

    Returns:
        A verdict for each bundle of that type and each that is malformed, in the given order.
    """
    asked = _Asked(subject, trust, now, names)
    found = [_judged(data, asked) for data in bundles]
    newest = _newest(found)
    verdicts = [_dated(verdict, newest) for verdict in found]
    return [one for one in verdicts if not kind or one.type in {kind, ""}]


def count(verdicts: Iterable[Verdict]) -> int:
    """Return how many signers vouch for a file.

    A signer with several keys counts once, and so does a key with several names.
    """
    valid = [verdict for verdict in verdicts if verdict.state == "valid"]
    keys: dict[str, str] = {}
    for verdict in valid:
        keys.setdefault(verdict.fingerprint, verdict.signer)
    return len(set(keys.values()))


class _Asked(NamedTuple):
    """The arguments of `examine` that decide about a single bundle."""

    subject: Subject
    trust: Trust
    now: datetime
    names: Sequence[str]


def _judged(data: bytes, asked: _Asked) -> Verdict:
    """Return what one bundle is worth, whatever else its signer has signed."""
    name = bundle.identify(data)
    try:
        found = bundle.read(data)
    except errors.BadBundle as error:
        return Verdict(name, "invalid", str(error.args[1]))
    verdict = Verdict(name, "invalid", statement=found.statement)
    if problem := _misplaced(found.statement, asked.subject):
        return verdict._replace(problem=problem)
    if not found.signature:
        return verdict._replace(state="unsigned", problem="nobody has signed it")
    if signed := asked.trust.key_of(found):
        return _attributed(verdict, found.statement, *signed, asked)
    if asked.trust.names(found.keyid):
        return verdict._replace(problem="its signature does not verify")
    return verdict._replace(state="untrusted", problem="no trusted key has signed it")


def _misplaced(claim: Statement, subject: Subject) -> str:
    """Return why a statement is not about a file, whatever the file holds; empty if it is."""
    if claim.path != subject.path:
        return "it is about another path"
    if claim.origin and claim.origin.repository != subject.repository:
        return "it was made for another repository"
    return ""


def _attributed(
    verdict: Verdict, claim: Statement, key: PublicKey, algorithm: str, asked: _Asked
) -> Verdict:
    """Return a verdict in view of the key that has signed the statement."""
    time = claim.origin.time if claim.origin else asked.now
    if time > asked.now + _SLACK:
        # Otherwise a clock that was once wrong would make all that its signer signs later stale.
        return verdict._replace(state="untrusted", problem="it claims a time in the future")
    signer, problem = asked.trust.signer(key, asked.names, time)
    verdict = verdict._replace(algorithm=algorithm, fingerprint=key.fingerprint, signer=signer)
    if problem:
        return verdict._replace(state="untrusted", problem=problem)
    if claim.sha256 != asked.subject.sha256:
        return verdict._replace(state="stale", problem="it was signed for other content")
    return verdict._replace(state="valid")


def _newest(verdicts: Iterable[Verdict]) -> dict[str, datetime]:
    """Return when each signer and each key has last signed other content."""
    found: dict[str, datetime] = {}
    for verdict in verdicts:
        if verdict.state == "stale" and verdict.time:
            for name in (verdict.signer, verdict.fingerprint):
                found[name] = max(found.get(name, verdict.time), verdict.time)
    return found


def _dated(verdict: Verdict, newest: Mapping[str, datetime]) -> Verdict:
    """Return a verdict as it is in view of what its signer has signed since."""
    if verdict.state != "valid" or verdict.time is None:
        return verdict
    if any(
        newest.get(name, verdict.time) > verdict.time
        for name in (verdict.signer, verdict.fingerprint)
    ):
        problem = "its signer has signed other content since"
        return verdict._replace(state="stale", problem=problem)
    return verdict
