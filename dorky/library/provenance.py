"""Provenance, for the client: sign files, attach SBOMs and statements, and verify them."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from dorky import cancellation, errors
from dorky.commands import provenance as commands
from dorky.commands import signatures, vouching
from dorky.commands.provenance import Claim
from dorky.commands.signatures import File
from dorky.commands.vouching import ANY, Demand, Opinion
from dorky.drivers.retry import Patience
from dorky.library import commits, contents
from dorky.library import vouching as rules
from dorky.library.records import StrPath
from dorky.library.scope import Scope
from dorky.library.session import Session
from dorky.project import ORIGIN
from dorky.results import Attestation, Sbom, Signature, Verification
from dorky.store import attestations
from dorky.store.history import ATTEST, MAIN

if TYPE_CHECKING:
    from dorky.provenance.private_keys import PrivateKey
    from dorky.provenance.public_keys import PublicKey
    from dorky.provenance.sbom import Format
    from dorky.provenance.verification import Trust


# --- writing --------------------------------------------------------------------------------


def sign(scope: Scope, path: StrPath, private_key: StrPath | None) -> Signature:
    """Sign a file; see `DorkyClient.sign_artifact`."""
    return _attach(scope, path, commands.signing(), private_key)


def attach_sbom(
    scope: Scope, path: StrPath, format: Format | None, content: bytes | str, key: StrPath | None
) -> Sbom:
    """Attach an SBOM to a file; see `DorkyClient.attach_sbom`."""
    body = content.encode() if isinstance(content, str) else content
    made = _attach(scope, path, commands.describing(body, format), key)
    file, told = _opinion(scope, path)
    return next(one for one in signatures.sboms_in(file.path, told) if one.id == made.id)


def add_attestation(
    scope: Scope, path: StrPath, kind: str, data: bytes | str, key: StrPath | None
) -> Attestation:
    """Attach a statement to a file; see `DorkyClient.add_attestation`."""
    body = data.encode() if isinstance(data, str) else data
    made = _attach(scope, path, commands.attesting(kind, body), key)
    file, told = _opinion(scope, path)
    found = signatures.attested_in(file.path, told, vouching.kind_of(kind))
    return next(one for one in found if one.id == made.id)


def _attach(scope: Scope, path: StrPath, claim: Claim, private_key: StrPath | None) -> Signature:
    """Sign a statement about a file with a key, or the user's own; return when it is durable."""
    from dorky.provenance import bundle

    session = scope.writable()
    key = _private(session, private_key)
    patience = Patience(session.url, "others keep pushing")
    while True:
        file = _file(session, scope, path)
        commits.owner_of(session, file.path)
        with session.turn.taken(), cancellation.holding(session.lock):
            held = _bundles(session, file.path)
            origin = commands.origin_of(session.project, file, held, key)
            made = bundle.sign(claim(file, origin), key)
            try:
                _push(session, {file.path: made})
            except errors.Rejected:  # somebody has pushed files meanwhile
                patience.wait()
                continue
        trust = vouching.trusted(session.project)
        return signatures.examined(session.project, file, [made], trust, Demand(kind=ANY))[0]


def _push(session: Session, made: dict[str, bytes]) -> None:
    """Push attestations on top of the newest state. The locks must be held."""
    project = session.project
    session.check_writable()
    head = project.database.ref(f"{ORIGIN}/{MAIN}")
    assert head is not None
    try:
        commands.store(project, made)
        commits.push(session, head)
    finally:
        # The session keeps no history of its own: a purge must find nothing to bring back.
        project.database.delete_ref(ATTEST)


def _private(session: Session, given: StrPath | None) -> PrivateKey:
    """Return a private key: in a file, as a text in PEM, or the user's own as a member."""
    from dorky.provenance import private_keys

    if given is None:
        return commands.member_key(session.project)
    if "-----BEGIN" in str(given):
        return private_keys.read(str(given), "The private key")
    return private_keys.load(Path(given))


# --- reading --------------------------------------------------------------------------------


def verify(
    scope: Scope, path: StrPath, public_keys: Iterable[StrPath] | None, *, threshold: int
) -> Verification:
    """Verify that enough signers vouch for a file; see `DorkyClient.verify_signatures`."""
    if threshold < 1:
        raise errors.UsageError(f"a threshold of {threshold} demands nothing")
    trust = None if public_keys is None else signatures.trust_in(map(_public, public_keys))
    file, told = _opinion(scope, path, trust, Demand(threshold=threshold))
    return signatures.verified(file.path, told)


def get_signatures(scope: Scope, path: StrPath) -> list[Signature]:
    """Return every signature of a file; see `DorkyClient.get_signatures`."""
    file, told = _opinion(scope, path, None, Demand())
    return [signatures.signature_of(file.path, verdict) for verdict in told.verdicts]


def get_bundles(scope: Scope, path: StrPath) -> list[bytes]:
    """Return the signatures of a file's content; see `DorkyClient.get_bundles`."""
    from dorky.provenance import bundle

    where, placed = scope.find(path)
    project, sha256 = scope.session.project, placed.entry.sha256
    bodies = {attestations.id_of(body): body for body in _bundles(scope.session, where.path)}
    file = File(where.path, sha256, where.version)
    trust = vouching.trusted(project)
    told = signatures.examined(project, file, [*bodies.values()], trust, Demand())
    kept = [one for one in told if one.state in {"valid", "untrusted"}]
    kept.sort(key=lambda one: (one.state == "valid", one.time.timestamp() if one.time else 0.0))
    found = [bodies[one.id] for one in reversed(kept)]
    # What an unknown key says was not looked at: it may be about earlier content.
    return [body for body in found if bundle.read(body).statement.sha256 == sha256]


def get_sbom(scope: Scope, path: StrPath, format: Format | None) -> Sbom:
    """Return the best SBOM of a file; see `DorkyClient.get_sbom`."""
    file, told = _opinion(scope, path)
    return signatures.best(file.path, signatures.sboms_in(file.path, told, format), format)


def get_attestations(scope: Scope, path: StrPath, kind: str) -> list[Attestation]:
    """Return what was attached to a file; see `DorkyClient.get_attestations`."""
    file, told = _opinion(scope, path)
    return signatures.attested_in(file.path, told, vouching.kind_of(kind))


def _opinion(
    scope: Scope, path: StrPath, trust: Trust | None = None, demand: Demand | None = None
) -> tuple[File, Opinion]:
    """Return a file of the newest state, hashed now, and what attestations say of it."""
    session = scope.session
    file = _file(session, scope, path)
    project = session.project
    return file, vouching.opinion(
        *(project, file.path, file.sha256, _bundles(session, file.path)),
        trust or vouching.trusted(project),
        demand or Demand(kind=ANY),
    )


def _file(session: Session, scope: Scope, path: StrPath) -> File:
    where, placed = scope.find(path)
    for _ in contents.blocks(contents.Fetched(session), placed):
        pass  # the last block comes only if the hash is right
    return File(where.path, placed.entry.sha256, where.version)


def _bundles(session: Session, path: str) -> list[bytes]:
    fetch = functools.partial(rules.fetch, session)
    return vouching.bundles_about(session.project, [path], fetch)(path)


def _public(given: StrPath) -> PublicKey:
    """Return a public key: in a file, or as a text, in PEM or as an SSH key."""
    from dorky.provenance import public_keys

    text = str(given)
    if "-----BEGIN" in text or " " in text.strip():
        return public_keys.read(text, "The public key")
    return public_keys.read(Path(given).read_text("utf-8", "replace"), text)
