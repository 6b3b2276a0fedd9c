"""Merging two lines of commits that changed different files."""

from __future__ import annotations

from dorky import errors, history, staging
from dorky.model import Entry, ObjectId
from dorky.store import Store


def merge(store: Store, ours: ObjectId, theirs: ObjectId, *, label: str, author: str) -> ObjectId:
    """Store a commit that holds what both sides did since they parted.

    Args:
        store: Where the commits are.
        ours: The first parent.
        theirs: The second parent.
        label: What to call the other side.
        author: Who merges.

    Returns:
        The merge commit; no ref names it yet.

    Raises:
        Diverged: Both sides changed the same file, differently.
        NameClash: Names that differ only in case.
    """
    base = history.merge_base(store, ours, theirs)
    base_tree, our_tree, their_tree = (
        history.root_tree(store, each) for each in (base, ours, theirs)
    )
    done = {each.path: each.new for each in history.differences(store, base_tree, our_tree)}
    merged = dict(history.files_of(store, our_tree))
    clashes = set()
    for each in history.differences(store, base_tree, their_tree):
        if each.path in done and done[each.path] != each.new:
            clashes.add(each.path)
        _put(merged, each.path, each.new)
    for path in merged:
        for parent in staging.parents(path):
            if parent in merged:
                clashes |= {parent, path}
    if clashes:
        raise errors.Diverged(label, ", ".join(sorted(clashes)))
    staging.check_names(merged, (), portable=False)
    with store.writer() as writer:
        tree = staging.write_entries(merged.items(), writer)
        commit = history.add_commit(
            writer, tree, [ours, theirs], author=author, message=f"Merge {label}"
        )
        writer.save()
    return commit


def _put(merged: dict[str, Entry], path: str, entry: Entry | None) -> None:
    if entry is None:
        merged.pop(path, None)
    else:
        merged[path] = entry
