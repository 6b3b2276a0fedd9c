"""Provenance: sign files, and attach SBOMs and statements of any type to them."""

from __future__ import annotations

import contextlib
import stat as stat_module
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

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
    from dorky.provenance.statement import Origin, Statement

_AHEAD = timedelta(minutes=10)
"""How far in the future a signature may claim to have been made; nobody believes much more."""
SSH = "ssh"
"""The name of the user's own SSH key among signing keys."""


# --- statements -----------------------------------------------------------------------------


Claim = Callable[[File, "Origin"], "Statement"]
"""Returns what is said about a file."""


def signing() -> Claim:
    """Return the statement that a file is as its signer has seen it."""
    from dorky.provenance import statement

    return lambda file, origin: statement.signature(file.path, file.sha256, origin)


def attesting(kind: str, predicate: bytes) -> Claim:
    """Return a statement of any type.

    Raises:
        UsageError: The type or the predicate is unfit.
    """
    from dorky.provenance import statement

    uri = vouching.kind_of(kind)
    if uri in {"", statement.SIGNATURE}:
        raise errors.UsageError("a signature has no predicate")

    return lambda file, origin: statement.attestation(
        file.path, file.sha256, uri, predicate, origin
    )


def describing(content: bytes, format: Format | None) -> Claim:
    """Return the statement that a file has an SBOM.

    Raises:
        BadSBOM: It is not of that format, or too large.
    """
    from dorky.provenance import sbom

    return lambda file, origin: sbom.claim(file.path, file.sha256, content, format, origin)


def origin_of(
    project: Project, file: File, held: Iterable[bytes], key: PrivateKey | None
) -> Origin:
    """Return where and when something is said about a file.

    The time is after whatever the same key has said of other content: otherwise the later
    statement would count as the older one.

    Args:
        project: The project.
        file: The file.
        held: All attestations about it.
        key: The key that signs.
    """
    from dorky.provenance import bundle
    from dorky.provenance.statement import Origin

    time = datetime.now(timezone.utc).replace(microsecond=0)
    latest = time + _AHEAD
    for data in held if key else ():
        with contextlib.suppress(errors.BadBundle):
            found = bundle.read(data)
            said = found.statement.origin
            other = said and time <= said.time < latest and found.statement.sha256 != file.sha256
            if said and other and key and key.public.verify(found.signed, found.signature):
                time = said.time + timedelta(seconds=1)
    return Origin(project.header.repository, file.commit, time)


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
    chosen = key or member_key(project)
    return _attach(
        project, repository_paths(project, paths), signing(), revision, chosen, push=push
    )


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
    claim = attesting(kind, predicate)
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
    claim = describing(content, format)
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
        edited = tuple(_edited(project, files)) if revision == HEAD else ()
        held = vouching.bundles_about(project, [file.path for file in files])
        made: dict[str, bytes] = {}
        for file in files:
            said = claim(file, origin_of(project, file, held(file.path), key))
            made[file.path] = bundle.sign(said, key) if key else bundle.unsigned(said)
        store(project, made)
        trust = vouching.trusted(project)
        added = tuple(
            examined(project, file, [made[file.path]], trust, Demand(kind=vouching.ANY))[0]
            for file in files
        )
    pushed = sync.push(project) if push else None
    return SignResult(added=added, pushed=pushed, edited=edited)


def _edited(project: Project, files: Sequence[File]) -> Iterator[str]:
    """Yield the files that have other content on disk than in the commit."""
    if not project.has_worktree:
        return
    worktree, vault = project.worktree, project.vault
    modes = not worktree.disk().no_modes
    rows = project.index.rows(file.path for file in files)
    for file in files:
        stat = worktree.stat(file.path)
        if stat is None or not stat_module.S_ISREG(stat.st_mode):
            continue
        row = rows.get(file.path)
        if row and row.fresh(stat, modes=modes):
            same = row.digest == vault.mask(file.sha256, row.content)
        else:
            same = worktree.sha256(file.path, stat) == file.sha256
        if not same:
            yield file.path


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


def store(project: Project, made: Mapping[str, bytes]) -> None:
    """Store bundles by the paths that they are about, as a commit of the local history."""
    attestations.catch_up(project.store, ORIGIN)
    owner = project.owner
    head = project.database.ref(ATTEST)
    with project.store.writer() as writer:
        added = {}
        for subject, body in made.items():
            path = attestations.path_of(subject, attestations.id_of(body))
            added[path] = attestations.store_body(
                project.store, writer, body, owner(subject) or ALL
            )
        commit = attestations.commit(project.store, writer, head, added, author=project.author)
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
        store(project, {name: taken})
        added = examined(
            project, file, [taken], vouching.trusted(project), Demand(kind=vouching.ANY)
        )
    return SignResult(added=tuple(added), pushed=sync.push(project) if push else None)
