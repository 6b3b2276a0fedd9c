"""Merging two lines of commits that changed different files."""

from __future__ import annotations

from dorky import errors, history, staging
from dorky.model import ObjectId
from dorky.paths import parents
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
    base_trees, our_trees, their_trees = (
        history.trees_of(store, each) for each in (base, ours, theirs)
    )
    done = {each.path: each.new for each in history.differences(store, base_trees, our_trees)}
    merged = {
        path: (group, entry)
        for group, tree in our_trees.items()
        for path, entry in history.files_of(store, {group: tree})
    }
    clashes = set()
    for each in history.differences(store, base_trees, their_trees):
        if each.path in done and done[each.path] != each.new:
            clashes.add(each.path)
        if each.new is None:
            merged.pop(each.path, None)
        else:
            merged[each.path] = (each.group, each.new)
    for path in merged:
        for parent in parents(path):
            if parent in merged:
                clashes |= {parent, path}
    if clashes:
        raise errors.Diverged(label, ", ".join(sorted(clashes)))
    staging.check_names(merged, (), portable=False)
    sealed = _sealed_trees(store, base, ours, theirs, label)
    with store.writer() as writer:
        own = staging.write_placed(((path, *placed) for path, placed in merged.items()), writer)
        commit = history.add_commit(
            writer, {**own, **sealed}, [ours, theirs], author=author, message=f"Merge {label}"
        )
        writer.save()
    return commit


def _sealed_trees(
    store: Store, base: ObjectId | None, ours: ObjectId, theirs: ObjectId, label: str
) -> dict[str, ObjectId]:
    """The trees of groups that can't be read here, merged as a whole.

    Raises:
        Diverged: Both sides changed the files of such a group.
    """
    base_trees, our_trees, their_trees = (
        history.read_commit(store, each).trees if each else {} for each in (base, ours, theirs)
    )
    found = {}
    for group in (our_trees.keys() | their_trees.keys()) - store.vault.groups:
        before, our, their = (held.get(group) for held in (base_trees, our_trees, their_trees))
        if before not in {our, their} and our != their:
            hint = "somebody in that group has to pull and push"
            raise errors.Diverged(label, "files of a group that you are not in", hint=hint)
        merged = their if our == before else our
        if merged:
            found[group] = merged
    return found
