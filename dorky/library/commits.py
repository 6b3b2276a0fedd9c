"""Group commit: changes that wait while a swap is under way share the next commit.

Each caller submits a request and waits. One of the waiting threads makes a commit for all of them;
each request is checked against the very commit that is built upon, and fails alone. Two requests
for one path never share a commit.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from stat import S_IFREG, S_ISREG
from types import MappingProxyType
from typing import NamedTuple, NoReturn

import msgspec

from dorky import cancellation, errors, files
from dorky.drivers.retry import Patience
from dorky.format.model import Entry, Header, KiB, Kind, ObjectId, Root
from dorky.keys import placement, roster
from dorky.library import catalog
from dorky.library.contents import Content
from dorky.library.edits import Edits
from dorky.library.records import FileInfo
from dorky.library.session import Session
from dorky.project import ORIGIN
from dorky.remote import push as remote_push
from dorky.remote.fetch import fetch_objects
from dorky.remote.journal import NONE, PacksAhead
from dorky.store import contents, history, outgoing, projection
from dorky.store.history import MAIN, Node, Placed
from dorky.store.objects import Writer
from dorky.worktree import ingest, staging

_MOMENT = 0.01
_LONGEST = 0.2
"""The most seconds that a commit waits for those who are about to join it."""
_MESSAGE = 60 * KiB
_KEYS = "idempotency."
_REMEMBERED = timedelta(hours=24)
_LOOKED_AT = 1000


class Put(NamedTuple):
    """A file that is to be at a path.

    Attributes:
        path: The path.
        content: Its content: new, or that of a file of the repository.
        meta: The notes in its entry: content type, codec, metadata.
    """

    path: str
    content: Content | Placed
    meta: dict[str, str]


class Delete(NamedTuple):
    """A path that is to hold no file."""

    path: str


Change = Put | Delete
Expected = Mapping[str, Placed | None]
"""The file that the caller expects at each path; None for no file."""


class Outcome(NamedTuple):
    """The result of a request that was made.

    Attributes:
        commit: The commit that holds its changes.
        files: The files that it has put, by path.
        origins: The commit that has changed each of them last, where that is known.
    """

    commit: ObjectId
    files: dict[str, Placed]
    origins: Mapping[str, Node] = MappingProxyType({})


class Request:
    """Changes that are made together or not at all.

    Args:
        changes: At most one for each path.
        message: The message of their commit.
        expected: What the paths must hold; None to overwrite whatever they hold.
        key: An idempotency key.
        alone: Whether the commit must hold nothing else.
        ahead: Packs that were uploaded already.
    """

    def __init__(
        self,
        changes: Sequence[Change],
        message: str,
        *,
        expected: Expected | None,
        key: str = "",
        alone: bool = False,
        ahead: PacksAhead = NONE,
    ) -> None:
        self.changes = changes
        self.message = message
        self.expected = expected
        self.key = key
        self.alone = alone
        self.ahead = ahead
        self.outcome: Outcome | Exception | None = None
        self.call = cancellation.current()
        self.made: dict[str, Placed] = {}
        self.changed: set[str] = set()

    @property
    def paths(self) -> set[str]:
        """Return the paths that it is about."""
        return {change.path for change in self.changes} | set(self.expected or ())


def submit_all(session: Session, requests: Sequence[Request]) -> None:
    """Wait until requests are settled, most likely by one commit; their outcomes tell how."""
    with session.queue:
        session.waiting.extend(requests)

    def settled() -> bool:
        return all(request.outcome is not None for request in requests)

    try:
        if call := cancellation.current():
            call.idle()
        while not settled():
            with session.turn.taken(settled) as mine:
                if mine:
                    _linger(session)
                    _commit_waiting(session)
        session.forget_glimpse()
    except BaseException:
        gone = {*requests}
        with session.queue:
            session.waiting[:] = [one for one in session.waiting if one not in gone]
        raise


def _linger(session: Session) -> None:
    """Wait for moments while others are about to join the commit, as long as some do."""
    ending = time.monotonic() + _LONGEST
    joined = -1
    while session.coming and joined < len(session.waiting) and time.monotonic() < ending:
        joined = len(session.waiting)
        time.sleep(_MOMENT)


def infos(session: Session, outcomes: Iterable[Outcome]) -> Iterator[FileInfo]:
    """Yield what is known of the files that requests have put."""
    of_commit: dict[ObjectId, list[Outcome]] = {}
    for outcome in outcomes:
        of_commit.setdefault(outcome.commit, []).append(outcome)
    for commit, of in of_commit.items():
        put = [item for outcome in of for item in outcome.files.items()]
        origins = {path: node for outcome in of for path, node in outcome.origins.items()}
        yield from catalog.infos(session, commit, put, origins)


def submit(session: Session, request: Request) -> Outcome:
    """Wait until a request's changes are durable in the remote.

    Raises:
        UpdateConflict: A path holds something else than expected.
        ForeignGroup: A path belongs to a group that the user is not in.
        NotWriter: The user may not write.
        OutcomeUnknown: The remote did not answer; doing it again is safe.
    """
    submit_all(session, [request])
    if isinstance(request.outcome, Exception):
        raise request.outcome
    assert request.outcome is not None
    return request.outcome


def _commit_waiting(session: Session) -> None:
    """Make a commit of what waits, the oldest first; tell each request how it went."""
    with cancellation.holding(session.lock):
        with session.queue:
            batch = _taken(session)
        try:
            # It is interrupted when all callers have given up.
            with cancellation.scope(cancellation.together(request.call for request in batch)):
                _commit(session, batch)
        except Exception as error:  # noqa: BLE001 - each caller raises it
            for request in batch:
                request.outcome = request.outcome or error
        except BaseException:  # this thread is interrupted, the others are not
            with session.queue:
                session.waiting[:0] = [request for request in batch if request.outcome is None]
            raise


def _taken(session: Session) -> list[Request]:
    batch: list[Request] = []
    left: list[Request] = []
    taken: set[str] = set()
    for request in session.waiting:
        if request.call and request.call.cancelled:
            continue
        apart = request.alone or (batch and batch[0].alone)
        if (batch and apart) or not taken.isdisjoint(request.paths):
            left.append(request)
        else:
            batch.append(request)
        # An older request for a path comes first, even if it has to wait.
        taken |= request.paths
    session.waiting[:] = left
    return batch


def _commit(session: Session, batch: Sequence[Request]) -> None:
    session.check_writable()
    patience = Patience(session.url, "others keep pushing")
    while True:
        head = session.project.database.ref(f"{ORIGIN}/{MAIN}")
        known = session.project.roster
        commit = _write(session, batch, head)
        waiting = [request for request in batch if request.outcome is None]
        if not waiting:
            return
        try:
            if commit != head:
                push(session, commit, [*dict.fromkeys(request.ahead for request in waiting)])
        except (errors.Rejected, errors.Misplaced, errors.LeftGroup) as error:
            # A group may have been started or changed meanwhile, and claim a path.
            if not isinstance(error, errors.Rejected) and known == session.project.roster:
                raise
            patience.wait()
            continue
        node = Node(commit, history.read_commit(session.store, commit))
        for request in waiting:
            origins = dict.fromkeys(request.changed, node)
            request.outcome = Outcome(commit, request.made, origins)
        return


def push(session: Session, commit: ObjectId, ahead: Sequence[PacksAhead] = ()) -> None:
    """Move the remote's ``main`` to a commit. The session's locks must be held.

    Raises:
        Rejected: Somebody else was faster.
    """
    remote_push.push(session.remote, _no_root(session), commit, ahead=ahead)


def _no_root(session: Session) -> remote_push.Found:
    def missing() -> tuple[Header, Root]:
        raise errors.NoRepositoryAtURL(session.url)

    return missing


def _write(session: Session, batch: Sequence[Request], head: ObjectId | None) -> ObjectId:
    """Store a commit of the requests that pass; return it, or the head if nothing changes."""
    store = session.store
    paths = {path for request in batch for path in request.paths}
    edits = Edits(store, head, paths, session.nodes)
    meta: dict[str, str] = {}
    passed: list[Request] = []
    with store.writer() as writer:
        for request in batch:
            if request.outcome is not None:
                continue
            try:
                with edits.together():
                    noted = _apply(session, request, edits, writer)
            except errors.DorkyError as error:
                request.outcome = error
                continue
            if request.outcome is None:
                passed.append(request)
                meta |= noted
        if head and edits.are_empty and not meta:
            return head
        if not passed:
            return head or ""
        commit = history.add_commit(
            writer,
            edits.write(writer),
            [head],
            author=session.project.author,
            message=_joined([request.message for request in passed]),
            meta=meta,
        )
        writer.save()
    return commit


def _joined(messages: Sequence[str]) -> str:
    told = [*dict.fromkeys(messages)]
    if len(told) == 1:
        return told[0]
    text = f"{len(told)} changes\n\n" + "\n".join(f"- {message}" for message in told)
    return text.encode()[:_MESSAGE].decode(errors="ignore")


def _apply(session: Session, request: Request, edits: Edits, writer: Writer) -> dict[str, str]:
    """Apply a request to a commit in the making; return what the commit notes of it."""
    noted: dict[str, str] = {}
    if request.key:
        name, digest = _key_of(session, request)
        if first := _used(session, edits.head, name):
            if first.commit.meta[name] != digest:
                when = f"{first.commit.time:%Y-%m-%d %H:%M} UTC"
                raise errors.IdempotencyKeyReused(request.key, when)
            paths = [change.path for change in request.changes]
            held = dict(projection.recorded(session.store, first.id).files(paths))
            request.outcome = Outcome(first.id, held)
            return {}
        noted[name] = digest
    for path, expected in (request.expected or {}).items():
        found = edits.at(path)
        if not same(found, expected):
            _refuse(session, edits.head, path, found, expected)
    request.made, request.changed = {}, set()
    for change in request.changes:
        if isinstance(change, Put):
            placed = _placed(session, change, edits, writer)
            if edits.put(change.path, placed):
                request.changed.add(change.path)
            request.made[change.path] = placed
        elif edits.at(change.path):
            edits.delete(change.path)
    return noted


def same(one: Placed | None, other: Placed | None) -> bool:
    """Return whether two files are the same. Ids differ by group."""
    if one is None or other is None:
        return one is other
    mine, others = one.entry, other.entry
    return (mine.size, mine.sha256, mine.mode, mine.meta) == (
        *(others.size, others.sha256, others.mode, others.meta),
    )


def _placed(session: Session, change: Put, edits: Edits, writer: Writer) -> Placed:
    """Return a file's entry, encrypted for the group that owns the path."""
    path, content, meta = change
    group = owner_of(session, path)
    portable = session.project.config.get("portable_names") is not False
    staging.check_names([path], (), portable=portable)
    name = path.rpartition("/")[2]
    if isinstance(content, Placed):
        entry = msgspec.structs.replace(content.entry, name=name, meta=meta)
        source = content.group
    else:
        old = edits.at(path)
        usual = S_IFREG | 0o666 & ~files.umask()
        mode = old.entry.mode if old and S_ISREG(old.entry.mode) else usual
        source = content.group
        stored = content.store(writer)
        entry = Entry(name, content.mode or mode, stored, content.size, content.sha256, meta)
    if source == group:
        return Placed(group, entry)
    if placement.is_widening(source, group):
        known = session.project.roster
        names = (roster.name_of(known, each) for each in (source, group))
        raise errors.WouldOpen(path, *names)
    writer.save()
    needed = {
        piece for held in contents.below(session.store, [entry.content]).values() for piece in held
    }
    fetch_objects(session.remote, needed)
    return Placed(group, ingest.regroup(session.store, writer, entry, group, source=source))


def owner_of(session: Session, path: str) -> ObjectId:
    """Return the group that a path belongs to.

    Raises:
        AmbiguousGroup: Several groups claim it.
        ForeignGroup: The user is not in the group.
    """
    known = session.project.roster
    group = placement.owner(known)(path)
    if group is None:
        raise outgoing.contested(known, path)
    if group not in session.store.vault.groups:
        raise errors.ForeignGroup(path, roster.name_of(known, group))
    return group


# --- conflicts ------------------------------------------------------------------------------


def _refuse(
    session: Session,
    head: ObjectId | None,
    path: str,
    found: Placed | None,
    expected: Placed | None,
) -> NoReturn:
    last = last_change(session, head, path)
    team = session.project.team
    who, when = "somebody", "at a time unknown"
    if last:
        who = team.names.get(last.commit.signer, last.commit.author)
        when = f"{last.commit.time:%Y-%m-%d %H:%M:%S}"
    did = "deleted" if found is None else "changed" if expected else "made"
    now, before = (_shown(session, held) for held in (found, expected))
    told = f"{who} {did} it ({when} UTC)"
    raise errors.UpdateConflict(path, told, f"{now} now, not {before}", version=head or "")


def _shown(session: Session, placed: Placed | None) -> str:
    """Return a keyed hash of a content: a plain one reveals a short secret."""
    if placed is None:
        return "absent"
    return session.store.vault.object_id(Kind.CHUNK, bytes.fromhex(placed.entry.sha256))[:12]


def last_change(session: Session, head: ObjectId | None, path: str) -> Node | None:
    """Return the newest commit that changed a path; None if none did."""
    for node in history.ancestors(session.store, [head] if head else []):
        if history.touches(session.store, node.commit, path):
            return node
    return None


# --- idempotency ----------------------------------------------------------------------------


def _key_of(session: Session, request: Request) -> tuple[str, str]:
    """Return the name under which a commit notes a request's key, and a hash of what it uploads."""
    vault = session.store.vault
    name = vault.object_id(Kind.CHUNK, b"idempotency\0" + request.key.encode())
    told = [
        (change.path, _hash_of(change), sorted(change.meta.items()))
        if isinstance(change, Put)
        else (change.path,)
        for change in request.changes
    ]
    return f"{_KEYS}{name}", vault.object_id(Kind.CHUNK, msgspec.json.encode(told))


def _hash_of(change: Put) -> str:
    content = change.content
    return content.entry.sha256 if isinstance(content, Placed) else content.sha256


def _used(session: Session, head: ObjectId | None, name: str) -> Node | None:
    """Return the commit that notes a key, of those that are remembered."""
    oldest = datetime.now(timezone.utc) - _REMEMBERED
    nodes: Iterable[Node] = history.ancestors(session.store, [head] if head else [])
    for _, node in zip(range(_LOOKED_AT), nodes, strict=False):
        if node.commit.time < oldest:
            return None
        if name in node.commit.meta:
            return node
    return None
