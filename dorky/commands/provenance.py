"""Provenance: sign files, and attach SBOMs and statements of any type to them."""

from __future__ import annotations

import stat as stat_module
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from dorky import errors
from dorky.commands import sync, vouching
from dorky.commands.inspect import StrPath, placed_files, repository_paths
from dorky.commands.signatures import File, examined, hashed
from dorky.commands.stage import check_groups
from dorky.commands.vouching import Demand
from dorky.format.model import ALL
from dorky.project import ORIGIN, Project
from dorky.results import SignResult
from dorky.store import attestations, history
from dorky.store.history import ATTEST, HEAD
from dorky.worktree import staging

if TYPE_CHECKING:
    from dorky.provenance.private_keys import PrivateKey
    from dorky.provenance.sbom import Format
    from dorky.provenance.statement import Statement

SSH = "ssh"
"""The name of the user's own SSH key among signing keys."""


# --- signing --------------------------------------------------------------------------------


def sign(
    project: Project,
    paths: StrPath | Iterable[StrPath],
    *,
    key: PrivateKey | None = None,
    revision: str = HEAD,
    push: bool = False,
) -> SignResult:
    """Sign committed files.

    Arguments, results and errors are those of `Repository.sign`.
    """
    from dorky.provenance import statement

    def claim(file: File, origin: Origin) -> Statement:
        return statement.signature(file.path, file.sha256, **origin)

    names = repository_paths(project, paths)
    return _attach(project, names, claim, revision, key or member_key(project), push=push)


def attest(
    project: Project,
    path: StrPath,
    kind: str,
    predicate: bytes,
    *,
    key: PrivateKey | None = None,
    signed: bool = True,
    revision: str = HEAD,
    push: bool = False,
) -> SignResult:
    """Attach a statement with data of any type to a committed file.

    Arguments, results and errors are those of `Repository.attest`.
    """
    from dorky.provenance import statement

    uri = vouching.kind_of(kind) or statement.SIGNATURE

    def claim(file: File, origin: Origin) -> Statement:
        try:
            return statement.attestation(file.path, file.sha256, uri, predicate, **origin)
        except ValueError as error:
            raise errors.UsageError(f"The predicate can't be attached: {error}") from None

    chosen = (key or member_key(project)) if signed else None
    return _attach(project, repository_paths(project, path), claim, revision, chosen, push=push)


def attach_sbom(
    project: Project,
    path: StrPath,
    content: bytes,
    *,
    format: Format | None = None,
    key: PrivateKey | None = None,
    signed: bool = True,
    revision: str = HEAD,
    push: bool = False,
) -> SignResult:
    """Attach an SBOM to a committed file.

    Arguments, results and errors are those of `Repository.attach_sbom`.
    """
    from dorky.provenance import sbom

    def claim(file: File, origin: Origin) -> Statement:
        return sbom.claim(file.path, file.sha256, content, format, **origin)

    chosen = (key or member_key(project)) if signed else None
    return _attach(project, repository_paths(project, path), claim, revision, chosen, push=push)


def member_key(project: Project) -> PrivateKey:
    """Return the key with which the user signs as a member.

    Raises:
        CantSign: None of the user's keys can be used.
    """
    from dorky.provenance import public_keys
    from dorky.provenance.private_keys import PrivateKey

    signer = project.signer
    is_ssh = signer.public in project.keyring.publics
    return PrivateKey(public_keys.parse(signer.public), signer.key, is_ssh)


def load_key(project: Project, named: str) -> PrivateKey:
    """Return a private key: that in a file, or the user's own SSH key (`SSH`).

    Raises:
        SigningKeyMissing: There is none.
        BadSigningKey: It can't sign.
    """
    from dorky.provenance import private_keys

    ask = project.ask or (lambda _: None)
    if named != SSH:
        return private_keys.load(Path(named), ask)
    for path in project.config.ssh_keys:
        try:
            return private_keys.load(path, ask)
        except errors.BadSigningKey:
            continue
    raise errors.SigningKeyMissing("~/.ssh/id_ed25519")


class Origin(TypedDict):
    """Where and when something is said: see `provenance.statement.Origin`."""

    repository: str
    commit: str
    time: datetime


Claim = Callable[[File, Origin], "Statement"]
"""Returns what is said about a file."""


def _attach(
    project: Project,
    names: Sequence[str],
    claim: Claim,
    revision: str,
    key: PrivateKey | None,
    *,
    push: bool,
) -> SignResult:
    """Make a bundle about each file, store all of them as one commit, and perhaps push it."""
    from dorky.provenance import bundle

    with project.operation("sign"):
        files = _committed(project, names, revision)
        held = vouching.bundles_about(project, [file.path for file in files])
        now = datetime.now(timezone.utc).replace(microsecond=0)
        made: dict[str, bytes] = {}
        for file in files:
            time = max([now, *(_after(data) for data in held[file.path])]) if key else now
            repository = project.header.repository
            said = claim(file, Origin(repository=repository, commit=file.commit, time=time))
            made[file.path] = bundle.sign(said, key) if key else bundle.unsigned(said)
        _store(project, made)
        trust = vouching.trusted(project)
        added = tuple(
            examined(project, file, [made[file.path]], trust, Demand(kind=vouching.ANY))[0]
            for file in files
        )
    return SignResult(added=added, pushed=sync.push(project) if push else None)


def _after(data: bytes) -> datetime:
    """Return the first second after a bundle was made; the beginning of time if nothing says that.

    What a signer signs later must have a later time, or it would count as the older of the two.
    """
    from dorky.provenance import bundle

    beginning = datetime.fromtimestamp(0, timezone.utc)
    try:
        origin = bundle.read(data).statement.origin
    except errors.BadBundle:
        return beginning
    now = datetime.now(timezone.utc)
    late = origin and origin.time > now + timedelta(hours=1)  # another's clock, or a lie
    return beginning if origin is None or late else origin.time + timedelta(seconds=1)


def _committed(project: Project, names: Sequence[str], revision: str) -> list[File]:
    """Return the committed files that paths name, each hashed now.

    Raises:
        PathNotTracked: There is no such file.
        UsageError: It is a link, or has a name that attestations have.
    """
    commit = history.resolve(project.store, revision)
    held = placed_files(project, commit)
    found = []
    for path in staging.tracked(held, names, f" in {revision}"):
        if stat_module.S_ISLNK(held[path].entry.mode):
            raise errors.UsageError(f"{path} is a symbolic link, for which nobody can vouch")
        if not attestations.may_have(path):
            raise errors.UsageError(f"{path} has the name of an attestation")
        found.append(File(path, hashed(project, path, held[path]), commit))
    check_groups(project, [file.path for file in found])
    return found


def _store(project: Project, made: Mapping[str, bytes]) -> None:
    """Store bundles by the paths that they are about, as a commit of the local history."""
    store, owner = project.store, project.owner
    attestations.catch_up(store, ORIGIN)
    head = project.database.ref(ATTEST)
    with store.writer() as writer:
        added = {}
        for subject, body in made.items():
            path = attestations.path_of(subject, attestations.id_of(body))
            added[path] = attestations.store_body(store, writer, body, owner(subject) or ALL)
        commit = attestations.commit(store, writer, head, added, author=project.author)
        with project.database.transaction():
            writer.save()
            project.database.set_ref(ATTEST, commit)


def import_bundle(
    project: Project, path: StrPath, data: bytes, *, source: str = "", push: bool = False
) -> SignResult:
    """Attach what another tool has signed to a committed file.

    Arguments, results and errors are those of `Repository.import_bundle`.
    """
    from dorky.provenance import bundle

    taken = bundle.adopt(data, source or "The bundle")
    claim = bundle.read(taken).statement
    name = project.repository_path(path)
    if claim.path != name:
        raise errors.BadBundle(source or "The bundle", f"it is about {claim.path!a}, not {name}")
    with project.operation("bundle import"):
        (file,) = _committed(project, [name], HEAD)
        _store(project, {name: taken})
        added = examined(
            project, file, [taken], vouching.trusted(project), Demand(kind=vouching.ANY)
        )
    return SignResult(added=tuple(added), pushed=sync.push(project) if push else None)
