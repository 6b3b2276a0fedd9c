"""Vouching: whose signatures count, what the attestations of files say, and which files need some.

Every command and the library ask `check` before they use a file that comes from the remote. So one
place decides, by the rules of `.dorkyrc` and of the user's own file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, NamedTuple

from dorky import errors, files, ownership
from dorky.config import SIGNERS, Rule
from dorky.project import ORIGIN, Project
from dorky.store.history import MAIN

if TYPE_CHECKING:
    from dorky.format.model import Entry, Member, ObjectId
    from dorky.provenance.signers import Signer
    from dorky.provenance.verification import Trust, Verdict
    from dorky.store.history import Placed

ANY = "*"
"""Stands for statements of every type."""
OWN_SIGNERS = "signers"
"""The file in ``~/.dorky`` that says whose signatures count for the user's own rules, too."""
_SLACK = timedelta(minutes=5)
"""How far a member's clock may be behind that of the administrator who let them in."""


Fetch = Callable[[set["ObjectId"]], None]
"""Fetches objects into the local store."""


class Demand(NamedTuple):
    """What signatures of a file have to be like.

    Attributes:
        names: The names of the signers that count; empty for all who are trusted.
        threshold: How many must have signed.
        kind: The predicate's type, a URI; `ANY`; empty for a bare signature.
        old: Whether the caller has named a version, so that newer signatures don't matter.
    """

    names: Sequence[str] = ()
    threshold: int = 1
    kind: str = ""
    old: bool = False


class Opinion(NamedTuple):
    """What the attestations about a file say.

    Attributes:
        verdicts: What each is worth.
        sha256: The SHA-256 of the file's content.
        signers: How many signers vouch for the file.
        problem: Why that is not enough; empty if it is.
        unsigned: Whether nobody has signed anything about the file.
    """

    verdicts: tuple[Verdict, ...]
    sha256: str
    signers: int
    problem: str
    unsigned: bool


# --- trust ----------------------------------------------------------------------------------


def trusted(project: Project, named: Path | None = None, *, own: bool = False) -> Trust:
    """Return those whose signatures count: the team's writers, and those of `.dorkysigners`.

    Args:
        project: The project.
        named: A signers file, whose signers alone count.
        own: Whether to take the user's own ``~/.dorky/signers`` instead of `.dorkysigners`, which
            comes with a git branch.

    Raises:
        BadSigners: A signers file is malformed.
    """
    from dorky.provenance import signers
    from dorky.provenance.verification import Trust

    if named is not None:
        if (text := _text(named, follow=True)) is None:
            raise errors.BadSigners(named, "there is no such file")
        return Trust(signers.parse(text, str(named)))
    found = [*_of_team(project)]
    if own:
        path = project.config.home / OWN_SIGNERS
        text = _text(path, follow=True, owners=project.config.owners | {ownership.ROOT})
        return Trust(found + (signers.parse(text, str(path)) if text else []))
    root = project.config.root
    # git can make it a link to a file that comes from dorky's own history.
    if root and (text := _text(root / SIGNERS, follow=False)) is not None:
        found += signers.parse(text, SIGNERS)
    return Trust(found)


def _text(path: Path, *, follow: bool, owners: Collection[int] = ()) -> str | None:
    """Return the content of a signers file; None if there is none."""
    from dorky.provenance import signers

    try:
        data = files.read_small(path, signers.LIMIT, follow=follow, owners=owners)
        return None if data is None else data.decode()
    except ValueError as error:
        raise errors.BadSigners(path.name, error) from None


class _Term(NamedTuple):
    """A time in which a member could write, with one key."""

    name: str
    key: str


def _of_team(project: Project) -> Iterable[Signer]:
    """Yield each key that was ever a writer's or an administrator's, with the time when it was."""
    from dorky.keys import teamlog
    from dorky.provenance import public_keys
    from dorky.provenance.signers import Signer
    from dorky.store import history

    def signer(term: _Term, after: datetime, before: datetime | None) -> Signer:
        key = public_keys.parse(term.key)
        return Signer((term.name,), key, (), after - _SLACK, before)

    members: dict[str, Member] = {}
    begun: dict[_Term, datetime] = {}
    log = [*history.entries(project.store, project.team.id)]
    for _, entry in reversed(log):
        for name in entry.left:
            members.pop(name, None)
        members |= {member.name: member for member in entry.members}
        now = {
            _Term(member.name, key)
            for member in members.values()
            if member.role != "reader"
            for key in teamlog.signing_keys(member)
        }
        for term in begun.keys() - now:
            yield signer(term, begun.pop(term), entry.time)
        for term in now - begun.keys():
            begun[term] = entry.time
    for term, time in begun.items():
        yield signer(term, time, None)


# --- what attestations say ------------------------------------------------------------------


def bundles_about(
    project: Project, subjects: Collection[str], fetch: Fetch | None = None
) -> Callable[[str], list[bytes]]:
    """Fetch the attestations about files, of the local history and the remote's, as last seen.

    Args:
        project: The project.
        subjects: The files.
        fetch: Fetches objects that only the remote holds; None for the usual way.

    Returns:
        A function that reads those about one of the files: SBOMs are large.
    """
    from dorky.store import attestations, contents

    store = project.store
    heads = attestations.heads(project.database, ORIGIN)
    found = attestations.about(store, heads, subjects)
    held: list[Placed] = [placed for by_id in found.values() for placed in by_id.values()]
    pieces = contents.below(store, {placed.entry.content for placed in held})
    missing = store.missing({piece for of in pieces.values() for piece in of})
    if missing and fetch:
        fetch(missing)
    elif missing:
        from dorky.remote.fetch import fetch_objects

        with project.locked():
            fetch_objects(project.remote(), missing, project.progress)

    def read(subject: str) -> list[bytes]:
        return [attestations.read(store, placed) for _, placed in sorted(found[subject].items())]

    return read


def opinion(
    project: Project,
    path: str,
    sha256: str,
    bundles: Sequence[bytes],
    trust: Trust,
    demand: Demand,
) -> Opinion:
    """Return what attestations say of a file.

    Args:
        project: The project.
        path: The file.
        sha256: The SHA-256 of its content.
        bundles: All attestations of the path.
        trust: Whose signatures count.
        demand: The signatures that are asked for.
    """
    from dorky.provenance import statement, verification
    from dorky.provenance.verification import Subject

    subject = Subject(path, sha256, project.header.repository)
    found = verification.examine(
        bundles,
        subject,
        trust,
        now=datetime.now(timezone.utc),
        kind="" if demand.kind == ANY else demand.kind or statement.SIGNATURE,
        names=demand.names,
    )
    if demand.old:
        found = [_in_its_time(verdict, sha256) for verdict in found]
    count = verification.count(found)
    unsigned = all(verdict.state == "unsigned" for verdict in found)
    return Opinion(tuple(found), sha256, count, _problem(found, count, demand, sha256), unsigned)


def _in_its_time(verdict: Verdict, sha256: str) -> Verdict:
    """Return a verdict without regard to what its signer has signed since."""
    claim = verdict.statement
    if verdict.state == "stale" and claim and claim.sha256 == sha256:
        return verdict._replace(state="valid", problem="")
    return verdict


def _problem(found: Sequence[Verdict], count: int, demand: Demand, sha256: str) -> str:
    """Return why signatures are not enough; empty if they are."""
    if count >= demand.threshold:
        return ""
    if count:
        return f"{count} of {demand.threshold} signers have signed it"
    told = sorted(found, key=lambda one: bool(one.statement and one.statement.sha256 == sha256))
    return told[-1].problem if told else "nobody has signed it"


# --- rules ----------------------------------------------------------------------------------


def demanded(project: Project) -> dict[Rule, Callable[[str], bool]]:
    """Return the rules in force, each with the function that tells which paths it is about."""
    rules = project.config.rules
    if not rules:
        return {}
    from dorky.keys import placement

    def about(rule: Rule) -> Callable[[str], bool]:
        patterns = [placement.compiled(pattern) for pattern in rule.paths]
        return lambda path: any(pattern.covers(path.split("/")) for pattern in patterns)

    return {rule: about(rule) for rule in rules}


def is_old(project: Project, commit: ObjectId | None) -> bool:
    """Return whether a commit is none of the newest ones: somebody has asked for that very one."""
    newest = (project.database.ref(name) for name in (MAIN, f"{ORIGIN}/{MAIN}"))
    return commit not in {*newest}


def check(
    project: Project,
    found: Mapping[str, Placed],
    *,
    old: bool = False,
    fetch: Fetch | None = None,
) -> set[str]:
    """Refuse files that are not signed as the rules demand. Nothing may have been touched yet.

    Whether their contents have the recorded SHA-256 is for the caller to check (see `exact`).

    Args:
        project: The project.
        found: The files that are about to be used.
        old: Whether the user has named the version, so that newer signatures don't matter.
        fetch: See `bundles_about`.

    Returns:
        The files that the rules are about.

    Raises:
        Unsigned: Nobody has signed a file.
        BadSignature: Its signatures are not enough.
    """
    rules = demanded(project)
    wanted = {path for path in found if any(covers(path) for covers in rules.values())}
    if not wanted:
        return wanted
    bundles = bundles_about(project, wanted, fetch)
    trust = {own: trusted(project, own=own) for own in {rule.own for rule in rules}}
    refused: list[tuple[str, Opinion]] = []
    for path in sorted(wanted):
        held = bundles(path)
        for rule, covers in rules.items():
            if covers(path):
                demand = Demand(rule.signers, rule.threshold, kind_of(rule.type), old)
                entry = found[path].entry
                # Nobody can vouch for a link.
                sha256 = entry.sha256 if S_ISREG(entry.mode) else ""
                told = opinion(project, path, sha256, held, trust[rule.own], demand)
                if told.problem:
                    refused.append((path, told))
                    break
    if refused:
        raise refusal(refused)
    return wanted


def exact(blocks: Iterable[bytes], entry: Entry) -> Iterator[bytes]:
    """Yield a content, if it has the recorded SHA-256; the last block only if it has.

    Raises:
        CorruptObject: It has another one.
    """
    import hashlib  # status, which shows no content, starts faster without

    sha256 = hashlib.sha256()
    last = b""
    for block in blocks:
        if last:
            yield last
        sha256.update(block)
        last = block
    if sha256.hexdigest() != entry.sha256:
        raise errors.CorruptObject(entry.content, "its SHA-256 is not the recorded one")
    yield last


def kind_of(name: str) -> str:
    """Return the URI of a predicate's type that a user has named; empty for none.

    Raises:
        BadPredicate: It is neither a URI nor a word.
    """
    from dorky.provenance import statement

    return statement.type_of(name) if name and name != "signature" else ""


def refusal(refused: Sequence[tuple[str, Opinion]]) -> errors.DorkyError:
    """Return the error for files whose signatures are not enough."""
    path, told = refused[0]
    more = f" (like {len(refused) - 1:,} more)" if len(refused) > 1 else ""
    kind = errors.Unsigned if told.unsigned else errors.BadSignature
    return kind(path + more, told.problem, paths=tuple(path for path, _ in refused))
