"""Rewriting history: without some files, as a purge does, or with each file in its owner's tree.

Commits keep their authors, times and messages. Whoever rewrites a commit signs it, so other clones
take the rewritten commits from the remote.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from dorky import errors, paths
from dorky.format import model
from dorky.format.model import ALL, SIGNED, Commit, Entry, ObjectId, Roster
from dorky.store import directories, history
from dorky.store.history import Node
from dorky.store.objects import Store, Writer

if TYPE_CHECKING:
    from dorky.keys.signing import Signer

_DEEPEST = 500

Selects = Callable[[str], bool]
"""Returns whether a path is to be removed."""


def selector(given: Iterable[str]) -> Selects:
    """Return the function that selects paths, all those below them, and matches of patterns.

    An empty path selects nothing: a purge must not delete everything by a mistake.
    """
    return paths.selector(filter(None, given))


def versions(
    store: Store, head: ObjectId, selects: Selects
) -> dict[str, dict[tuple[str, ObjectId], Entry]]:
    """Return the selected files in all history, each with its versions by group and id."""
    found: dict[str, dict[tuple[str, ObjectId], Entry]] = {}
    seen: set[tuple[str, ObjectId]] = set()
    pending = [
        (group, "", tree)
        for node in history.ancestors(store, [head])
        for group, tree in node.commit.trees.items()
        if group in store.vault.groups
    ]
    while pending:
        group, prefix, tree = pending.pop()
        if (prefix, tree) in seen:
            continue
        seen.add((prefix, tree))
        node = directories.read_node(store, tree)
        pending += ((group, prefix, part) for part in node.parts if part)
        for entry in node.entries:
            path = prefix + entry.name
            if entry.is_tree:
                pending.append((group, f"{path}/", entry.content))
            elif selects(path):
                found.setdefault(path, {})[group, entry.content] = entry
    return found


def rewrite(
    store: Store,
    writer: Writer,
    heads: Collection[ObjectId],
    selects: Selects,
    onto: Iterable[ObjectId] = (),
) -> dict[ObjectId, ObjectId]:
    """Store the history of commits without some files.

    Args:
        store: The store that holds it.
        writer: Receives the new objects.
        heads: The commits.
        selects: Returns which files to remove.
        onto: Heads of a history from which somebody else has already removed the files. Its commits
            stay. A commit that differs from one of them only in the files becomes that one, even if
            that history has rewritten trees of groups that are closed to the user.

    Returns:
        The new id of each commit; its own, if neither it nor its history holds such a file.
    """
    there = list(history.ancestors(store, onto))
    done = {node.id: node.id for node in there}
    twins: dict[bytes, list[history.Node]] = {}
    for node in there:
        twins.setdefault(_but_trees(node.commit), []).append(node)
    made: dict[ObjectId, Commit] = {}
    trees: dict[tuple[str, ObjectId], ObjectId | None] = {}

    def after(commit: ObjectId) -> Commit:
        became = done[commit]
        return made.get(became) or history.read_commit(store, became)

    pending = list(heads)
    while pending:
        commit = pending[-1]
        record = history.read_commit(store, commit)
        # Parents first; without recursion, because histories are longer than the stack.
        ahead = [parent for parent in record.parents if parent not in done]
        if ahead and commit not in done:
            pending += ahead
            continue
        pending.pop()
        if commit in done:
            continue
        opened = _opened(store, record)
        kept = dict(_trees(store, writer, record, selects, trees, opened))
        closed = record.trees.keys() - opened
        for group in closed:
            kept |= _inherited(store, record, group, after)
        became = msgspec.structs.replace(
            record, parents=tuple(done[parent] for parent in record.parents), trees=kept
        )
        for node in twins.get(_but_trees(became), ()):
            judged = (node.commit.trees.keys() & store.vault.groups) | opened
            if all(node.commit.trees.get(group) == kept.get(group) for group in judged - closed):
                done[commit] = node.id
                break
        else:
            signed = _attributed(became, store.signer)
            done[commit] = commit if became == record else writer.add_commit(signed)
            made[done[commit]] = became
    return done


def _attributed(commit: Commit, signer: Signer | None) -> Commit:
    """Let a commit that somebody else is about to sign tell whose key had signed it."""
    if signer is None or not commit.signer or commit.signer == signer.public:
        return commit
    return msgspec.structs.replace(commit, meta={SIGNED: commit.signer, **commit.meta})


def _but_trees(commit: Commit) -> bytes:
    """Return what stays of a commit when somebody else rewrites it, and so signs it."""
    meta = {name: value for name, value in commit.meta.items() if name != SIGNED}
    return model.encode(
        msgspec.structs.replace(commit, trees={}, meta=meta, signer="", signature=b"")
    )


def _opened(store: Store, commit: Commit) -> set[str]:
    """Return the groups with readable trees: the user is in them, and was at the time of fetch."""
    own = commit.trees.keys() & store.vault.groups
    missing = store.missing(commit.trees[group] for group in own - {ALL})
    return {group for group in own if commit.trees[group] not in missing}


def _inherited(
    store: Store, commit: Commit, group: str, after: Callable[[ObjectId], Commit]
) -> dict[str, ObjectId]:
    """Return the new tree of a group that is closed to the user, taken from a parent."""
    tree = commit.trees[group]
    for parent in commit.parents:
        if history.read_commit(store, parent).trees.get(group) == tree:
            became = after(parent).trees.get(group)
            return {group: became} if became else {}
    return {group: tree}


def _trees(
    store: Store,
    writer: Writer,
    commit: Commit,
    selects: Selects,
    done: dict[tuple[str, ObjectId], ObjectId | None],
    opened: Collection[str],
) -> Iterator[tuple[str, ObjectId]]:
    for group, tree in commit.trees.items():
        if group not in opened:
            continue
        if kept := _without(store, writer, group, ("", tree), selects, done):
            yield group, kept
        elif group == ALL:
            yield group, directories.write(writer, (), group)


def _without(
    store: Store,
    writer: Writer,
    group: str,
    where: tuple[str, ObjectId],
    selects: Selects,
    done: dict[tuple[str, ObjectId], ObjectId | None],
) -> ObjectId | None:
    """Return a directory without the selected files; None if it held nothing else."""
    if where in done:
        return done[where]
    prefix, tree = where
    if prefix.count("/") > _DEEPEST:
        raise errors.CorruptObject(tree, "directories deeper than any disk has them")
    entries = directories.read(store, tree, group)
    kept: list[Entry] = []
    for entry in entries:
        path = prefix + entry.name
        if not entry.is_tree:
            if not selects(path):
                kept.append(entry)
        elif below := _without(store, writer, group, (f"{path}/", entry.content), selects, done):
            kept.append(msgspec.structs.replace(entry, content=below))
    if tuple(kept) == entries:
        done[where] = tree
    elif kept:
        done[where] = directories.write(writer, kept, group)
    else:
        done[where] = None
    return done[where]


def sign_again(
    writer: Writer,
    head: ObjectId,
    unpushed: Mapping[ObjectId, Commit],
    is_valid: Callable[[ObjectId, Commit], bool],
) -> dict[ObjectId, ObjectId]:
    """Store commits again whose signatures are not valid, and those that follow them.

    Args:
        writer: Receives the new commits, and signs them.
        head: The newest commit.
        unpushed: The commits that may change.
        is_valid: Returns whether the signature of a commit is valid.

    Returns:
        The new id of each of the commits; its own if nothing changes.
    """
    done: dict[ObjectId, ObjectId] = {}
    nodes = {commit_id: Node(commit_id, commit) for commit_id, commit in unpushed.items()}
    for commit in _parents_first(nodes, head):
        record = unpushed[commit]
        parents = tuple(done.get(parent, parent) for parent in record.parents)
        if parents == record.parents and is_valid(commit, record):
            done[commit] = commit
        else:
            done[commit] = writer.add_commit(msgspec.structs.replace(record, parents=parents))
    return done


# --- each file into its owner's tree --------------------------------------------------------

Key = tuple[str, str]
"""A group, and a path in its tree."""


def place(
    store: Store,
    writer: Writer,
    head: ObjectId,
    published: Callable[[ObjectId], bool],
    known: Roster,
    bring: Callable[[Iterable[Entry]], object],
) -> dict[ObjectId, ObjectId]:
    """Store unpublished commits again, with each misplaced file in its owner's tree.

    A file of a group that the user is not in can't be encrypted for it, and a file of a closed
    group is not opened to others. Such a file is left out of commits, but only if the newest does
    not hold it: then its author has already deleted it. The user's changes in a group that they
    have left since are left out, too.

    Args:
        store: The store that holds them.
        writer: Receives the new objects.
        head: The newest commit.
        published: Returns which commits stay as they are, with all before them, and which trees.
        known: The roster, which gives the owners.
        bring: Fetches the chunks of files into the local store.

    Returns:
        The new id of each unpublished commit; its own, if nothing in it or before it moves.

    Raises:
        Misplaced: The user is not in the group that owns a file.
        WouldOpen: A file of a closed group now belongs to others.
        AmbiguousGroup: Several groups claim the path of a file.
    """
    from dorky.keys import placement
    from dorky.store import outgoing

    owner_of = placement.owner(known)
    nodes = {node.id: node for node in history.ancestors(store, [head], stop=published)}
    done: dict[ObjectId, ObjectId] = {}
    # A remote with none of the commits has no tree of a closed group either.
    is_based = any(parent not in nodes for node in nodes.values() for parent in node.commit.parents)
    made: dict[ObjectId, Mapping[str, ObjectId]] = {}
    moved: dict[ObjectId, dict[Key, str | None]] = {}
    for commit in _parents_first(nodes, head):
        node = nodes[commit]
        moves: dict[Key, str | None] = {}
        for stray in outgoing.strays(store, node, owner_of):
            widens = stray.owner and placement.is_widening(stray.tree, stray.owner)
            if stray.owner in store.vault.groups and not widens:
                moves[stray.tree, stray.path] = stray.owner
            elif outgoing.is_held(store, [head], stray):
                if stray.owner in store.vault.groups:
                    raise outgoing.would_open(stray, known)
                raise outgoing.refusal(store, [head], commit, stray, known)
            else:
                moves[stray.tree, stray.path] = None
        moves |= _inherited_moves(store, node.commit, moved)
        trees = node.commit.trees
        if moves:
            trees = _moved(store, writer, node.commit, moves, bring)
        parents = tuple(done.get(parent, parent) for parent in node.commit.parents)
        if is_based:
            before = [
                made.get(parent) or history.read_commit(store, parent).trees for parent in parents
            ]
            trees = dict(_without_left(trees, before, store.vault.groups, published))
        became = msgspec.structs.replace(node.commit, parents=parents, trees=dict(trees))
        done[commit] = commit if became == node.commit else writer.add_commit(became)
        made[done[commit]] = became.trees
        moved[commit] = moves
    return done


def _without_left(
    trees: Mapping[str, ObjectId],
    before: Collection[Mapping[str, ObjectId]],
    opened: Collection[str],
    published: Callable[[ObjectId], bool],
) -> Iterator[tuple[str, ObjectId]]:
    """Yield a commit's trees; for a group that the user has left, a parent's tree."""
    for group, tree in trees.items():
        if group in opened or published(tree):
            yield group, tree
        elif found := next((held[group] for held in before if group in held), None):
            yield group, found


def _parents_first(nodes: Mapping[ObjectId, Node], head: ObjectId) -> Iterator[ObjectId]:
    pending = [head] if head in nodes else []
    given: set[ObjectId] = set()
    while pending:
        commit = pending[-1]
        ahead = [
            parent
            for parent in nodes[commit].commit.parents
            if parent in nodes and parent not in given
        ]
        if ahead and commit not in given:
            pending += ahead
            continue
        pending.pop()
        if commit not in given:
            given.add(commit)
            yield commit


def _inherited_moves(
    store: Store, commit: Commit, moved: Mapping[ObjectId, Mapping[Key, str | None]]
) -> dict[Key, str | None]:
    """Return the files that a commit has only from parents in which they were moved."""
    found: dict[Key, str | None] = {}
    trees = {parent: history.read_commit(store, parent).trees for parent in commit.parents}
    for parent in commit.parents:
        for key, owner in moved.get(parent, {}).items():
            held = _at(store, commit.trees, key)
            if held and held == _at(store, trees[parent], key):
                keeping = (
                    other
                    for other in commit.parents
                    if key not in moved.get(other, {}) and held == _at(store, trees[other], key)
                )
                if not any(keeping):
                    found[key] = owner
    return found


def _at(store: Store, trees: history.Trees, key: Key) -> list[Entry]:
    group, path = key
    return history.lookup(store, {group: trees[group]}, path) if group in trees else []


def _moved(
    store: Store,
    writer: Writer,
    commit: Commit,
    moves: Mapping[Key, str | None],
    bring: Callable[[Iterable[Entry]], object],
) -> dict[str, ObjectId]:
    """Return the trees of a commit with files moved to their owners; None for left out."""
    from dorky.worktree import ingest, staging

    touched = {group for group, _ in moves} | {owner for owner in moves.values() if owner}
    held = {
        (group, path): entry
        for group in touched & commit.trees.keys()
        for path, entry in history.files_of(store, {group: commit.trees[group]})
    }
    kept = {key: entry for key, entry in held.items() if key not in moves}
    coming = {
        (owner, path): (group, held[group, path])
        for (group, path), owner in moves.items()
        # An entry in the owner's tree takes precedence.
        if owner and (owner, path) not in kept
    }
    bring(entry for _, entry in coming.values())
    for (owner, path), (group, entry) in coming.items():
        # In the right tree, but encrypted for another group: only content of `ALL` is taken over.
        source = ALL if group == owner else group
        kept[owner, path] = ingest.regroup(store, writer, entry, owner, source=source)
    placed = ((path, group, entry) for (group, path), entry in kept.items())
    made = staging.write_placed(placed, writer, touched & commit.trees.keys())
    rest = {group: tree for group, tree in commit.trees.items() if group not in touched}
    if ALL in rest:
        del made[ALL]
    return {**rest, **made}
