"""Rewriting history without some files, which is what a purge does, here and in every clone.

Commits keep their authors, times and messages; only trees and parents change. Ids depend on nothing
else, so clones that rewrite the same commits come to the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

import msgspec

from dorky import errors, history, model
from dorky.model import ALL, Commit, Entry, Kind, ObjectId, Tree
from dorky.paths import matches
from dorky.store import Store, Writer

_DEEPEST = 500

Selects = Callable[[str], bool]
"""Whether a path is to go."""


def selector(paths: Iterable[str]) -> Selects:
    """What tells whether a path is one of ``paths``, lies below one, or matches a pattern."""
    names = tuple(paths)

    def selects(path: str) -> bool:
        return any(
            path == name or path.startswith(f"{name}/") or matches(path, name) for name in names
        )

    return selects


def versions(store: Store, head: ObjectId, selects: Selects) -> dict[str, dict[ObjectId, Entry]]:
    """The files in all history that are selected, each with what it has held, by content."""
    found: dict[str, dict[ObjectId, Entry]] = {}
    seen: set[tuple[str, ObjectId]] = set()
    pending = [
        ("", tree)
        for node in history.ancestors(store, [head])
        for group, tree in node.commit.trees.items()
        if group in store.vault.groups
    ]
    while pending:
        prefix, tree = pending.pop()
        if (prefix, tree) in seen:
            continue
        seen.add((prefix, tree))
        for entry in history.read_tree(store, tree).entries:
            path = prefix + entry.name
            if entry.is_tree:
                pending.append((f"{path}/", entry.content))
            elif selects(path):
                found.setdefault(path, {})[entry.content] = entry
    return found


def rewrite(
    store: Store,
    writer: Writer,
    heads: Collection[ObjectId],
    selects: Selects,
    onto: Iterable[ObjectId] = (),
) -> dict[ObjectId, ObjectId]:
    """Store the history that led to commits, without some files.

    Args:
        store: Where it is.
        writer: Takes what is new.
        heads: The commits.
        selects: Tells which files.
        onto: Heads of a history of which somebody else has taken the files already. Its commits
            stay; and what is one of them but for the files becomes that, though trees of closed
            groups, which can't be rewritten here, were rewritten there.

    Returns:
        What each commit became; itself, if there is no such file in it or before it.
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
        # Parents first; not recursive, because histories are longer than the stack.
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
            if all(node.commit.trees.get(each) == kept.get(each) for each in judged - closed):
                done[commit] = node.id
                break
        else:
            done[commit] = (
                commit if became == record else writer.add(Kind.COMMIT, model.encode(became))
            )
            made[done[commit]] = became
    return done


def _but_trees(commit: Commit) -> bytes:
    return model.encode(msgspec.structs.replace(commit, trees={}))


def _opened(store: Store, commit: Commit) -> set[str]:
    """The groups whose trees can be read: the user is in them, and was when they were fetched."""
    own = commit.trees.keys() & store.vault.groups
    missing = store.missing(commit.trees[group] for group in own - {ALL})
    return {group for group in own if commit.trees[group] not in missing}


def _inherited(
    store: Store, commit: Commit, group: str, after: Callable[[ObjectId], Commit]
) -> dict[str, ObjectId]:
    """What becomes of a closed group's tree: who can't read it has it from a parent."""
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
            yield group, writer.add(Kind.TREE, model.encode(Tree(())))


def _without(
    store: Store,
    writer: Writer,
    group: str,
    where: tuple[str, ObjectId],
    selects: Selects,
    done: dict[tuple[str, ObjectId], ObjectId | None],
) -> ObjectId | None:
    """A directory without the files that are to go; None if it held nothing else."""
    if where in done:
        return done[where]
    prefix, tree = where
    if prefix.count("/") > _DEEPEST:
        raise errors.CorruptObject(tree, "directories deeper than any disk has them")
    entries = history.read_tree(store, tree, group).entries
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
        done[where] = writer.add(Kind.TREE, model.encode(Tree(tuple(kept))), group=group)
    else:
        done[where] = None
    return done[where]
