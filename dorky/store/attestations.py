"""Attestations: a second history of the repository, of what vouches for its files.

The ref `ATTEST` names commits whose trees hold ``SUBJECT/ID.sigstore.json`` for a file SUBJECT. Its
bytes determine ID, so two histories never disagree about a path: joining them is a union. Each lies
in the tree of the group that owns SUBJECT, so nobody else learns that it exists.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from stat import S_IFREG, S_ISREG

from dorky import errors
from dorky.format import chunk
from dorky.format.model import ALL, Chunk, Commit, Entry, Kind, ObjectId, Roster
from dorky.keys import placement
from dorky.keys.placement import Owner
from dorky.paths import parents
from dorky.store import contents, directories, history, projection
from dorky.store.database import Database
from dorky.store.history import ATTEST, Placed
from dorky.store.objects import Store, Writer
from dorky.store.projection import View

LIMIT = 32 << 20
"""The largest attestation in bytes: an SBOM of 16 MiB in Base64, and what surrounds it."""
_NAME = re.compile(r"[0-9a-f]{64}\.sigstore\.json")
_MODE = S_IFREG | 0o644

Selects = Callable[[str], bool]


# --- names ----------------------------------------------------------------------------------


def id_of(body: bytes) -> str:
    """Return the id of an attestation: the SHA-256 of its bytes."""
    return hashlib.sha256(body).hexdigest()


def path_of(subject: str, attestation: str) -> str:
    """Return the path at which an attestation about a file lies."""
    return f"{subject}/{attestation}.sigstore.json"


def subject_of(path: str) -> str:
    """Return the file that an attestation at a path is about; empty if none can lie there."""
    subject, _, name = path.rpartition("/")
    return subject if _NAME.fullmatch(name) and may_have(subject) else ""


def may_have(path: str) -> bool:
    """Return whether a file at a path can have attestations; some names are theirs."""
    return bool(path) and not any(map(_NAME.fullmatch, path.split("/")))


def owner_in(ref: str, known: Roster) -> Owner:
    """Return the function that returns the owner of a path in the history that a ref names."""
    owner = placement.owner(known)
    if ref != ATTEST:
        return owner
    return lambda path: owner(subject_of(path) or path)


# --- reading --------------------------------------------------------------------------------


def view_of(store: Store, commit: ObjectId | None) -> View:
    """Return what counts of a commit of the attestations' history by the roster last seen."""
    owner = owner_in(ATTEST, store.database.roster())
    return View(store, history.trees_of(store, commit), owner)


def heads(database: Database, remote: str) -> list[ObjectId]:
    """Return the heads of the local history and the remote's one, as last seen."""
    found = (database.ref(name) for name in (ATTEST, f"{remote}/{ATTEST}"))
    return sorted({head for head in found if head})


def unpushed(database: Database, remote: str) -> bool:
    """Return whether the local history is another one than the remote's, as last seen."""
    return database.ref(ATTEST) not in {None, database.ref(f"{remote}/{ATTEST}")}


def catch_up(store: Store, remote: str) -> None:
    """Move the local history to the remote's, as last seen, if that has all of it."""
    ours, theirs = (store.database.ref(name) for name in (ATTEST, f"{remote}/{ATTEST}"))
    if theirs and ours != theirs and (ours is None or history.is_ancestor(store, ours, theirs)):
        store.database.set_ref(ATTEST, theirs)


def about(
    store: Store, commits: Iterable[ObjectId], subjects: Collection[str]
) -> dict[str, dict[str, Placed]]:
    """Return the attestations about some files that commits hold, by file and id.

    Only directories that lead to the files are read.
    """
    found: dict[str, dict[str, Placed]] = {subject: {} for subject in subjects}
    for commit in commits:
        view = view_of(store, commit)
        for group, tree in view.trees.items():
            for subject, entry in _below(store, group, tree, found):
                if not view.masked(group, f"{subject}/{entry.name}"):
                    found[subject][entry.name.partition(".")[0]] = Placed(group, entry)
    return found


def _below(
    store: Store, group: str, tree: ObjectId, subjects: Collection[str]
) -> Iterator[tuple[str, Entry]]:
    """Yield the attestations about some files in the tree of a group, each with its file."""
    wanted = set(subjects)
    names: dict[str, set[str]] = {}
    for path in wanted.union(above for subject in wanted for above in parents(subject)):
        directory, _, name = path.rpartition("/")
        names.setdefault(directory, set()).add(name)
    pending = [("", tree)]
    while pending:
        path, at = pending.pop()
        if path in wanted:
            for entry in directories.read(store, at, group):
                if _NAME.fullmatch(entry.name) and S_ISREG(entry.mode) and entry.size <= LIMIT:
                    yield path, entry
        if path in names:
            below = f"{path}/" if path else ""
            for entry in directories.entries_named(store, at, group, names[path]):
                if entry.is_tree:
                    pending.append((below + entry.name, entry.content))


def read(store: Store, placed: Placed) -> bytes:
    """Return the bytes of an attestation, whose chunks must be in the local store.

    Raises:
        MissingObject: They are not.
        CorruptObject: They are damaged, or encrypted for others.
    """
    group, entry = placed
    pieces = [*contents.chunks_of(store, entry.content)]
    body = b"".join(store.read(piece, group=group) for piece in pieces)
    if len(body) != entry.size:
        raise errors.CorruptObject(entry.content, f"{len(body)} bytes, not {entry.size}")
    return body


# --- writing --------------------------------------------------------------------------------


def store_body(store: Store, writer: Writer, body: bytes, group: str) -> Placed:
    """Store the bytes of an attestation for a group; return its entry."""
    if len(body) <= chunk.WHOLE:
        content = writer.add(Kind.CHUNK, body, group=group)
    else:
        bodies = chunk.cut(io.BytesIO(body), seed=store.vault.gear_seed(group))
        added = writer.add_all(Kind.CHUNK, bodies, group=group)
        made = contents.write(writer, (Chunk(*piece) for piece in added), group=group)
        assert made is not None
        content = made
    digest = id_of(body)
    name = path_of("", digest)[1:]
    return Placed(group, Entry(name, _MODE, content, len(body), digest))


def commit(
    store: Store,
    writer: Writer,
    head: ObjectId | None,
    added: Mapping[str, Placed],
    *,
    author: str,
) -> ObjectId:
    """Store a commit that adds attestations; return its id.

    Its message is for everybody, so it names no file.

    Args:
        store: The store that holds the history.
        writer: Receives the new objects.
        head: The newest commit; None if there is none.
        added: The attestations by path, each in the tree of its subject's owner.
        author: The author of the commit.
    """
    trees = dict(history.read_commit(store, head).trees) if head else {}
    edits: dict[str, dict[str, Entry | None]] = {ALL: {}}
    for path, (group, entry) in added.items():
        edits.setdefault(group, {})[path] = entry
    for group, changed in edits.items():
        if changed or group not in trees:
            made = directories.edit(store, writer, group, trees.get(group), changed)
            trees[group] = made
    count = "1 attestation" if len(added) == 1 else f"{len(added):,} attestations"
    return history.add_commit(writer, trees, [head], author=author, message=f"Add {count}")


def following(
    store: Store,
    known: Roster,
    theirs: ObjectId | None,
    ours: ObjectId | None,
    *,
    without: Selects = lambda _: False,
) -> ObjectId | None:
    """Return a commit that follows the other side's and has all that ours has; store it if new.

    Ours itself will do if it follows, and each of its commits may be pushed as it is. Otherwise
    what it has is added to theirs, by today's roster, signed with the user's key of today.

    Args:
        store: The store that holds both.
        known: The roster that says who owns a subject.
        theirs: The other side's head; None if it has none.
        ours: Our head; likewise.
        without: Returns whether attestations about a file are left out.
    """
    if ours is None or (theirs and history.is_ancestor(store, ours, theirs)):
        return theirs
    owner = owner_in(ATTEST, known)
    before, after = (View(store, history.trees_of(store, head)) for head in (theirs, ours))
    new = {
        change.path: Placed(change.group, change.new)
        for change in projection.differences(before, after)
        if change.new and not change.old and subject_of(change.path)
    }
    kept = {path: held for path, held in new.items() if not without(subject_of(path))}
    if len(kept) == len(new) and (theirs is None or history.is_ancestor(store, theirs, ours)):
        nodes = history.added(store, [theirs] if theirs else [], [ours])
        if all(_may_be_pushed(store, *node, owner) for node in nodes.items()):
            return ours
    with store.writer() as writer:
        moved = _placed(store, writer, kept, owner)
        if not moved:
            return theirs
        author = history.read_commit(store, ours).author
        made = commit(store, writer, theirs, moved, author=author)
        writer.save()
    return made


def _may_be_pushed(store: Store, commit_id: ObjectId, record: Commit, owner: Owner) -> bool:
    """Return whether a commit is signed by somebody who may write, and all of it in its place."""
    from dorky.store import authorship, outgoing

    if authorship.fault(store, store.database.team(), commit_id, record):
        return False
    node = history.Node(commit_id, record)
    return next(outgoing.strays(store, node, owner), None) is None


def _placed(
    store: Store, writer: Writer, held: Mapping[str, Placed], owner: Owner
) -> dict[str, Placed]:
    """Return attestations in the trees of their subjects' owners, encrypted again if need be.

    One that would be opened to others than before is left out, and so is one about a file that
    belongs to a group that the user is not in: its members have it already.
    """
    found = {}
    for path, placed in held.items():
        target = owner(path)
        if target == placed.group:
            found[path] = placed
        elif target in store.vault.groups and not placement.is_widening(placed.group, target):
            found[path] = store_body(store, writer, read(store, placed), target)
    return found
