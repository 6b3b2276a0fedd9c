"""Signatures: verify what vouches for files, list it, and give it to other programs."""

from __future__ import annotations

import stat as stat_module
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from dorky import errors
from dorky.commands import vouching
from dorky.commands.inspect import StrPath, content_of, placed_files, repository_paths
from dorky.commands.vouching import Demand, Opinion
from dorky.format.model import ObjectId
from dorky.project import Project
from dorky.results import Attestation, Sbom, Signature, Verification
from dorky.store import attestations, history
from dorky.store.history import HEAD, Placed
from dorky.worktree import staging

if TYPE_CHECKING:
    from dorky.provenance.public_keys import PublicKey
    from dorky.provenance.sbom import Format
    from dorky.provenance.statement import Statement
    from dorky.provenance.verification import Trust, Verdict

Form = Literal["sigstore", "ssh"]


class File(NamedTuple):
    """A file that something is said about, with the SHA-256 of its content."""

    path: str
    sha256: str
    commit: ObjectId


# --- verifying ------------------------------------------------------------------------------


def verify(
    project: Project,
    paths: StrPath | Iterable[StrPath],
    *,
    revision: str = "",
    keys: Sequence[PublicKey] = (),
    signers: Path | None = None,
    names: Sequence[str] = (),
    threshold: int = 1,
    kind: str = "",
    bundle: bytes | None = None,
) -> list[Verification]:
    """Verify that enough signers vouch for files as they are now.

    Arguments, results and errors are those of `Repository.verify`.
    """
    if threshold < 1:
        raise errors.UsageError(f"a threshold of {threshold} demands nothing")
    demand = Demand(names, threshold, vouching.kind_of(kind), old=bool(revision))
    trust = _chosen(project, keys, signers)
    files = _named(project, repository_paths(project, paths), revision)
    held = vouching.bundles_about(project, [file.path for file in files])
    found = []
    for file in files:
        data = held(file.path) if bundle is None else [bundle]
        told = vouching.opinion(project, file.path, file.sha256, data, trust, demand)
        found.append(verified(file.path, told))
    return found


def verified(path: str, told: Opinion) -> Verification:
    """Return an opinion about a file as commands report it."""
    signed = tuple(signature_of(path, verdict) for verdict in told.verdicts)
    names = [*dict.fromkeys(one.signed_by for one in signed if one.state == "valid")]
    message = told.problem or f"signed by {', '.join(names)}"
    return Verification(path=path, valid=not told.problem, message=message, signatures=signed)


def check(found: Sequence[Verification]) -> None:
    """Refuse files for which not enough signers vouch.

    Raises:
        Unsigned: Nobody has signed a file.
        BadSignature: Its signatures are not enough.
    """
    bad = [one for one in found if not one.valid]
    if bad:
        more = f" (like {len(bad) - 1:,} more)" if len(bad) > 1 else ""
        unsigned = all(signature.state == "unsigned" for signature in bad[0].signatures)
        kind = errors.Unsigned if unsigned else errors.BadSignature
        raise kind(bad[0].path + more, bad[0].message, paths=tuple(one.path for one in bad))


def signatures(project: Project, path: StrPath) -> list[Signature]:
    """Return every signature of a file, and what it is worth.

    Arguments, results and errors are those of `Repository.signatures`.
    """
    file, data = _about(project, path)
    return examined(project, file, data, vouching.trusted(project), Demand())


def attested(project: Project, path: StrPath, *, kind: str = "") -> list[Attestation]:
    """Return what was attached to a file, other than signatures.

    Arguments, results and errors are those of `Repository.attestations`.
    """
    return attested_in(*_told(project, path), vouching.kind_of(kind))


def attested_in(path: str, told: Opinion, kind: str = "") -> list[Attestation]:
    """Return the statements about a file: of a type, or all but signatures."""
    from dorky.provenance import statement

    return [
        Attestation(
            id=verdict.id,
            path=path,
            type=claim.type,
            data=claim.predicate.decode(),
            signed_by=verdict.signer,
            time=verdict.time,
            state=verdict.state,
            problem=verdict.problem,
        )
        for verdict, claim in _statements(told)
        if claim.type == kind or (not kind and claim.type != statement.SIGNATURE)
    ]


def sboms(project: Project, path: StrPath, *, format: Format | None = None) -> list[Sbom]:
    """Return the SBOMs of a file: the best first, which is signed, of its content, and newest.

    Arguments, results and errors are those of `Repository.sboms`.
    """
    return sboms_in(*_told(project, path), format)


def sboms_in(path: str, told: Opinion, format: Format | None = None) -> list[Sbom]:
    """Return the SBOMs of a file, the best first."""
    from dorky.provenance import sbom

    found: list[tuple[bool, Sbom]] = []
    for verdict, claim in _statements(told):
        if claim.type not in sbom.TYPES.values():
            continue
        try:
            held, content = sbom.content_of(claim)
        except errors.BadBundle:
            continue
        if format in {None, held}:
            made = Sbom(
                id=verdict.id,
                path=path,
                format=held,
                content=content.decode(),
                signed_by=verdict.signer,
                time=verdict.time,
                state=verdict.state,
                problem=verdict.problem,
            )
            found.append((claim.sha256 == told.sha256, made))
    return [made for _, made in sorted(found, key=_goodness, reverse=True)]


def sbom(project: Project, path: StrPath, *, format: Format | None = None) -> Sbom:
    """Return the best SBOM of a file (see `sboms`).

    Raises:
        NoAttestation: It has none.
    """
    return best(project.repository_path(path), sboms(project, path, format=format), format)


def best(path: str, found: Sequence[Sbom], format: Format | None) -> Sbom:
    """Return the best of the SBOMs of a file.

    Raises:
        NoAttestation: There is none.
    """
    if not found:
        raise errors.NoAttestation(path, f"{format or ''} SBOM".strip())
    return found[0]


_STATES = ("invalid", "unsigned", "stale", "untrusted", "valid")


def _goodness(item: tuple[bool, Sbom]) -> tuple[bool, int, float]:
    """Return what to sort by: whether it is of this content, whose word it is, and when."""
    fits, found = item
    return fits, _STATES.index(found.state), found.time.timestamp() if found.time else 0.0


def _told(project: Project, path: StrPath) -> tuple[str, Opinion]:
    """Return what all attestations about a file say of it."""
    file, data = _about(project, path)
    trust, demand = vouching.trusted(project), Demand(kind=vouching.ANY)
    return file.path, vouching.opinion(project, file.path, file.sha256, data, trust, demand)


def _statements(told: Opinion) -> list[tuple[Verdict, Statement]]:
    """Return what attestations are worth, with the statements of those that are sound."""
    return [(verdict, verdict.statement) for verdict in told.verdicts if verdict.statement]


def examined(
    project: Project, file: File, data: Sequence[bytes], trust: Trust, demand: Demand
) -> list[Signature]:
    """Return what attestations about a file are worth."""
    told = vouching.opinion(project, file.path, file.sha256, data, trust, demand)
    return [signature_of(file.path, verdict) for verdict in told.verdicts]


def signature_of(path: str, verdict: Verdict) -> Signature:
    """Return a verdict as commands report it."""
    return Signature(
        id=verdict.id,
        path=path,
        type=verdict.type,
        algorithm=verdict.algorithm,
        signed_by=verdict.signer,
        time=verdict.time,
        key=verdict.fingerprint,
        state=verdict.state,
        problem=verdict.problem,
    )


def _chosen(project: Project, keys: Sequence[PublicKey], signers: Path | None) -> Trust:
    """Return those whose signatures count for a command."""
    return trust_in(keys) if keys else vouching.trusted(project, signers)


def trust_in(keys: Iterable[PublicKey]) -> Trust:
    """Return the trust in some keys, named by their fingerprints, and in no others."""
    from dorky.provenance.signers import Signer
    from dorky.provenance.verification import Trust

    return Trust(Signer((key.fingerprint,), key) for key in keys)


def _about(project: Project, path: StrPath) -> tuple[File, list[bytes]]:
    """Return a file as it is now, and all attestations about it."""
    name = project.repository_path(path)
    (file,) = _named(project, [name], "", whole=False)
    return file, vouching.bundles_about(project, [file.path])(file.path)


def _named(
    project: Project, names: Sequence[str], revision: str, *, whole: bool = True
) -> list[File]:
    """Return files, each with the SHA-256 of the bytes that are on disk, or that a revision holds.

    Args:
        project: The project.
        names: Paths.
        revision: The revision; empty for the files on disk, and for others as ``HEAD`` has them.
        whole: Whether a directory stands for all files in it.
    """
    commit = history.resolve(project.store, revision or HEAD)
    held = placed_files(project, commit)
    chosen = staging.tracked(held, names, f" in {revision or HEAD}")
    if not whole and chosen != [*names]:
        raise errors.DirectoryNamed(names[0])
    found = []
    for path in chosen:
        stat = None if revision or not project.has_worktree else project.worktree.stat(path)
        if stat is not None and stat_module.S_ISREG(stat.st_mode):
            sha256 = project.worktree.sha256(path, stat)
        elif stat is not None or stat_module.S_ISLNK(held[path].entry.mode):
            sha256 = ""  # for a link nobody can vouch
        else:
            sha256 = hashed(project, path, held[path])
        found.append(File(path, sha256, commit))
    return found


# --- bundles --------------------------------------------------------------------------------


class Exported(NamedTuple):
    """A signature for other programs.

    Attributes:
        content: The bundle; of an SSH signature, the file that ``ssh-keygen -Y verify`` reads.
        message: The bytes that an SSH signature signs; empty for a bundle.
    """

    content: bytes
    message: bytes = b""


def export_bundle(
    project: Project, path: StrPath, *, form: Form = "sigstore", kind: str = "", id: str = ""
) -> Exported:
    """Return a statement about a file as other programs read it: the newest valid one.

    Arguments, results and errors are those of `Repository.export_bundle`.
    """
    from dorky.provenance import bundle

    file, data = _about(project, path)
    wanted = Demand(kind=vouching.ANY if id else vouching.kind_of(kind))
    told = examined(project, file, data, vouching.trusted(project), wanted)
    chosen = [one for one in told if one.id.startswith(id) and (id or one.state == "valid")]
    if not chosen:
        raise errors.NoAttestation(file.path, f"{kind or 'signature'} that is valid")
    newest = max(chosen, key=lambda one: one.time.timestamp() if one.time else 0.0)
    (found,) = (body for body in data if attestations.id_of(body) == newest.id)
    if form == "sigstore":
        return Exported(found)
    opened = bundle.read(found)
    if not opened.signature.startswith(b"SSHSIG"):
        raise errors.UsageError(f"the signature {newest.id[:10]} was not made with an SSH key")
    return Exported(_armoured(opened.signature), opened.signed)


def _armoured(blob: bytes) -> bytes:
    import base64

    text = base64.b64encode(blob).decode()
    lines = (text[at : at + 70] for at in range(0, len(text), 70))
    marks = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
    return "\n".join((marks[0], *lines, marks[1], "")).encode()


def without_content(found: Sequence[Sbom]) -> list[Sbom]:
    """Return SBOMs without their contents, for a list."""
    return [msgspec.structs.replace(one, content="") for one in found]


def hashed(project: Project, path: str, placed: Placed) -> str:
    """Return the SHA-256 of a committed file's bytes.

    Raises:
        CorruptObject: It is not the recorded one.
    """
    entry = placed.entry
    stat = project.worktree.stat(path) if project.has_worktree else None
    regular = stat is not None and stat_module.S_ISREG(stat.st_mode)
    if stat and regular and staging.holds(project.worktree, path, stat, entry):
        return entry.sha256
    for _ in vouching.exact(content_of(project, path, placed), entry):
        pass
    return entry.sha256
