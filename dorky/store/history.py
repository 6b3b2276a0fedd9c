"""History: commits and trees, revisions, ancestry, and the differences between trees."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from types import MappingProxyType
from typing import NamedTuple

from dorky import errors
from dorky.format import model
from dorky.format.model import ALL, Commit, Entry, ObjectId, TeamEntry
from dorky.paths import parents
from dorky.store import directories
from dorky.store.directories import Differing, Objects
from dorky.store.objects import Store, Writer

HEAD = "HEAD"
MAIN = "main"
ATTEST = "attest"
"""The ref of what vouches for files (see `attestations`), of a root as well."""
_SHORT = 4
_FAR = 18  # digits of a number of steps; no history is longer, and int() refuses thousands


class Node(NamedTuple):
    """A commit and its id."""

    id: ObjectId
    commit: Commit


class Placed(NamedTuple):
    """A file or link, with the group in whose tree it lies."""

    group: str
    entry: Entry


class Difference(NamedTuple):
    """A path at which two commits differ; None where it does not exist."""

    path: str
    old: Entry | None
    new: Entry | None
    group: str = ALL
    """The group that ``new`` is encrypted for."""


# --- trees ----------------------------------------------------------------------------------


def subject(message: str) -> str:
    """Return the first line of a commit's message; empty if the message is empty."""
    return next(iter(message.strip().splitlines()), "")


def read_commit(store: Objects, commit: ObjectId) -> Commit:
    """Read a commit."""
    return model.decode_commit(store.read(commit), commit)


Trees = Mapping[str, ObjectId]
"""The root trees of a commit, by group."""


def trees_of(
    store: Objects, commit: ObjectId | None, groups: Collection[str] | None = None
) -> dict[str, ObjectId]:
    """Return the trees of a commit that the user can read, of all groups or of some."""
    if commit is None:
        return {}
    wanted = store.vault.groups if groups is None else store.vault.groups.intersection(groups)
    found = read_commit(store, commit).trees
    # A group's tree comes first, so it wins if somebody puts the same path into everybody's tree.
    return {group: found[group] for group in in_order(found) if group in wanted}


def in_order(groups: Iterable[str]) -> list[str]:
    """Return groups in the order in which they are walked: everybody's last."""
    return sorted(groups, key=lambda group: (group == ALL, group))


def files_of(
    store: Objects, trees: Trees, paths: Collection[str] | None = None
) -> Iterator[tuple[str, Entry]]:
    """Yield every file and link of a commit's trees, with its path.

    A single tree is read in tree order.

    Args:
        store: The store that holds the trees.
        trees: The root trees.
        paths: If given, only what lies at these paths; other directories are not read.
    """
    given: set[str] = set()
    for group, tree in trees.items():
        for path, entry in files_below(store, group, tree, paths):
            if path not in given:
                yield path, entry
            if len(trees) > 1:
                given.add(path)


def files_below(
    store: Objects, group: str, tree: ObjectId, paths: Collection[str] | None = None
) -> Iterator[tuple[str, Entry]]:
    """Yield every file and link of one group's tree, with its path, or those at some paths."""
    chosen = None if paths is None else set(paths)
    above = {parent for path in paths or () for parent in parents(path)}
    names: dict[str, set[str]] = {}
    for path in above.union(chosen or ()):
        directory, _, name = path.rpartition("/")
        names.setdefault(directory, set()).add(name)

    def reversed_(tree: ObjectId, directory: str) -> Iterable[Entry]:
        if chosen is None:
            return reversed(directories.read(store, tree, group))
        return reversed([*directories.entries_named(store, tree, group, names[directory])])

    # Not recursive: a tree from the remote may be deeper than the stack.
    pending = [("", entry) for entry in reversed_(tree, "")] if chosen != set() else []
    while pending:
        parent, entry = pending.pop()
        path = parent + entry.name
        if entry.is_tree:
            if chosen is None or path in above:
                below = reversed_(entry.content, path)
                pending.extend((f"{path}/", child) for child in below)
        elif chosen is None or path in chosen:
            yield path, entry


def files_in_order(store: Objects, group: str, tree: ObjectId) -> Iterator[tuple[str, Entry]]:
    """Yield every file and link of one group's tree, sorted by their whole paths.

    Memory: the entries of a directory and of those above it.
    """

    def placed(tree: ObjectId, prefix: str) -> list[tuple[str, Entry]]:
        found = directories.read(store, tree, group)
        named = [(prefix + one.name + ("/" if one.is_tree else ""), one) for one in found]
        return sorted(named, key=lambda item: item[0], reverse=True)

    pending = placed(tree, "")
    while pending:
        path, entry = pending.pop()
        if entry.is_tree:
            pending += placed(entry.content, path)
        else:
            yield path, entry


def lookup(store: Objects, trees: Trees, path: str) -> list[Entry]:
    """Return the entry (a file, link or directory) at a path in each of the trees that hold it."""
    found = (_lookup(store, group, tree, path) for group, tree in trees.items())
    return [entry for entry in found if entry]


def _lookup(store: Objects, group: str, tree: ObjectId | None, path: str) -> Entry | None:
    found = None
    for part in path.split("/"):
        if tree is None:
            return None
        found = directories.find(store, tree, group, part)
        tree = found.content if found and found.is_tree else None
    return found


def differences(store: Store, old: Trees, new: Trees) -> Iterable[Difference]:
    """Return the files at which two commits differ. Only directories that differ are read.

    A file that moved from one group to another lies in another tree and is encrypted with another
    key, but it is the same file: one difference.
    """
    found: dict[str, Difference] = {}
    for group in in_order(old.keys() | new.keys()):
        for path, before, after in differing(store, group, old.get(group), new.get(group)):
            other = found.get(path)
            if other is None:
                found[path] = Difference(path, before, after, group)
            else:
                where = other.group if other.new else group
                found[path] = Difference(path, other.old or before, other.new or after, where)
    return found.values()


def differing(
    store: Objects, group: str, old: ObjectId | None, new: ObjectId | None
) -> Iterator[Differing]:
    """Yield each path at which two trees of a group hold different files, and the files."""
    pending = _compare(store, group, old, new, "")
    while pending:
        path, a, b = pending.pop()
        left = a.content if a and a.is_tree else None
        right = b.content if b and b.is_tree else None
        changed = (path, None if left else a, None if right else b)
        if not left and not right:
            yield changed
            continue
        if changed[1] or changed[2]:
            pending.append(changed)
        pending += _compare(store, group, left, right, f"{path}/")


def _compare(
    store: Objects, group: str, old: ObjectId | None, new: ObjectId | None, prefix: str
) -> list[Differing]:
    """Return the paths, directories too, at which two directories differ, in reverse order."""
    found = directories.compare(store, group, old, new)
    return [(prefix + name, before, after) for name, before, after in reversed(found)]


def below(
    store: Store,
    heads: Iterable[ObjectId],
    skip: Callable[[set[ObjectId]], set[ObjectId]] = lambda _: set(),
) -> tuple[set[ObjectId], set[ObjectId]]:
    """Return trees with all trees and parts below them, and the contents of files and links.

    Args:
        store: The store that holds the trees.
        heads: The trees to begin with.
        skip: Returns which of some trees to skip, with everything below them.
    """
    found: set[ObjectId] = set()
    contents: set[ObjectId] = set()
    pending = set(heads)
    while pending := pending - found - skip(pending):
        found |= pending
        inside: set[ObjectId] = set()
        # One after the other: a thousand directories of a thousand files are a million entries.
        for node in (directories.read_node(store, tree) for tree in pending):
            contents.update(entry.content for entry in node.entries if not entry.is_tree)
            inside.update(entry.content for entry in node.entries if entry.is_tree)
            inside.update(part for part in node.parts if part)
        pending = inside
    return found, contents


def touches(store: Store, commit: Commit, path: str) -> bool:
    """Return whether a commit holds something else at a path than each of its parents does.

    Only those directories above the path are read that differ.
    """
    groups = store.vault.groups
    here = {group: tree for group, tree in commit.trees.items() if group in groups}
    if not commit.parents:
        return bool(lookup(store, here, path))
    before = (trees_of(store, parent) for parent in commit.parents)
    return all(
        any(
            _differs(store, group, old.get(group), here.get(group), path)
            for group in old.keys() | here.keys()
        )
        for old in before
    )


def _differs(
    store: Store, group: str, old: ObjectId | None, new: ObjectId | None, path: str
) -> bool:
    """Return whether two trees hold different things at a path."""
    for part in path.split("/"):
        if old == new:
            return False
        found = [
            directories.find(store, tree, group, part) if tree else None for tree in (old, new)
        ]
        if found[0] == found[1]:
            return False
        old, new = (entry.content if entry and entry.is_tree else None for entry in found)
    return True


# --- ancestry -------------------------------------------------------------------------------


def ancestors(
    store: Store, heads: Iterable[ObjectId], stop: Callable[[ObjectId], bool] | None = None
) -> Iterator[Node]:
    """Yield the commits reachable from ``heads``, newest first.

    A parent comes after its children unless clocks disagree: the order is by the commits' own
    times, as in git.

    Args:
        store: The store that holds the commits.
        heads: The commits to begin with.
        stop: If it returns true for a commit, the commit and its ancestors are skipped.
    """
    seen: set[ObjectId] = set()
    pending: list[tuple[float, int, Node]] = []

    def push(commit_id: ObjectId) -> None:
        if commit_id in seen or (stop and stop(commit_id)):
            return
        seen.add(commit_id)
        commit = read_commit(store, commit_id)
        heapq.heappush(pending, (-commit.time.timestamp(), len(seen), Node(commit_id, commit)))

    for head in heads:
        push(head)
    while pending:
        _, _, node = heapq.heappop(pending)
        yield node
        for parent in node.commit.parents:
            push(parent)


def is_ancestor(store: Store, old: ObjectId, new: ObjectId) -> bool:
    """Return whether ``old`` is ``new`` or one of its ancestors."""
    if old == new:
        return True
    if old not in store:
        return any(node.id == old for node in ancestors(store, [new]))
    return _sides(store, [old], [new], goal=old)[0][old] == _BOTH


class Entered(NamedTuple):
    """An entry of the team log, with its id."""

    id: ObjectId
    entry: TeamEntry


def added(store: Store, old: Iterable[ObjectId], new: Iterable[ObjectId]) -> dict[ObjectId, Commit]:
    """Return the commits reachable from the new heads and not from the old ones."""
    sides, commits = _sides(store, [*old], [*new])
    return {commit: commits[commit] for commit, side in sides.items() if side == _THEIRS}


def read_entry(store: Store, entry_id: ObjectId) -> TeamEntry:
    """Read an entry of the team log."""
    return model.decode_entry(store.read(entry_id, group=ALL), entry_id)


def entries(store: Store, newest: ObjectId, stop: ObjectId = "") -> Iterator[Entered]:
    """Yield the entries of the team log with their ids, the newest first.

    Args:
        store: The store that holds the entries.
        newest: The newest entry.
        stop: The entry to stop at, which is not yielded.
    """
    at = newest
    while at and at != stop:
        entry = read_entry(store, at)
        yield Entered(at, entry)
        at = entry.prev


def ahead_behind(store: Store, ours: ObjectId | None, theirs: ObjectId | None) -> tuple[int, int]:
    """Return how many commits each side has that the other lacks."""
    if ours and theirs:
        found = [*_sides(store, [ours], [theirs])[0].values()] if ours != theirs else []
        return found.count(_OURS), found.count(_THEIRS)
    one = sum(1 for head in (ours, theirs) if head for _ in ancestors(store, [head]))
    return (one, 0) if ours else (0, one)


def merge_bases(
    store: Store, ours: Collection[ObjectId], theirs: Collection[ObjectId]
) -> list[ObjectId]:
    """Return the best common ancestors: those that are no other common ancestor's ancestors.

    Args:
        store: The store that holds the commits.
        ours: The newest commits of one side.
        theirs: The newest commits of the other side.

    Returns:
        The newest first; several after criss-cross merges, none if the histories are unrelated.
    """
    sides, commits = _sides(store, ours, theirs)
    common = [commit for commit, side in sides.items() if side == _BOTH]
    parents = {parent for commit in common for parent in commits[commit].parents}
    best = [commit for commit in common if commit not in parents]
    return sorted(best, key=lambda commit: (commits[commit].time, commit), reverse=True)


_OURS, _THEIRS, _BOTH = 1, 2, 3


def _sides(
    store: Store,
    ours: Collection[ObjectId],
    theirs: Collection[ObjectId],
    *,
    goal: ObjectId | None = None,
) -> tuple[dict[ObjectId, int], dict[ObjectId, Commit]]:
    """Return the commits that one side alone has, with their side, and the nearest ones of both.

    The walk goes from the newest commit on and no further than it must. It stops when a single
    commit is left to continue from, which is both sides', and no first commit has been met.
    Everything met so far then lies above that commit, so nothing of it lies below. This holds
    whatever clocks have said: times only decide which way to go first.

    Args:
        store: The store that holds the commits.
        ours: The newest commits of one side.
        theirs: The newest commits of the other side.
        goal: A commit; the walk stops when it is known to be both sides'.
    """
    sides: dict[ObjectId, int] = {}
    commits: dict[ObjectId, Commit] = {}
    pending: list[tuple[float, ObjectId]] = []
    waiting: set[ObjectId] = set()
    beginning = False

    def reach(commit_id: ObjectId, side: int) -> None:
        known = sides.get(commit_id, 0)
        if known | side == known:
            return
        sides[commit_id] = known | side
        if commit_id not in commits:
            commits[commit_id] = read_commit(store, commit_id)
        if commit_id not in waiting:
            # Walk it again if it was met as one side's only: its ancestors are the other side's,
            # too.
            waiting.add(commit_id)
            heapq.heappush(pending, (-commits[commit_id].time.timestamp(), commit_id))

    for commit_id in ours:
        reach(commit_id, _OURS)
    for commit_id in theirs:
        reach(commit_id, _THEIRS)
    while pending and sides.get(goal or "") != _BOTH:
        if len(pending) == 1 and not beginning and sides[pending[0][1]] == _BOTH:
            break
        _, commit_id = heapq.heappop(pending)
        waiting.remove(commit_id)
        beginning = beginning or not commits[commit_id].parents
        for parent in commits[commit_id].parents:
            reach(parent, sides[commit_id])
    return sides, commits


def add_commit(
    writer: Writer,
    trees: Trees,
    parents: Iterable[ObjectId | None],
    *,
    author: str,
    message: str,
    git: str = "",
    meta: Mapping[str, str] = MappingProxyType({}),
) -> ObjectId:
    """Store a commit made now; return its id. Parents that are None are left out."""
    time = datetime.now(timezone.utc).replace(microsecond=0)
    known = tuple(parent for parent in parents if parent)
    # An environment in another encoding must not prevent a commit.
    name = author.encode(errors="surrogateescape").decode(errors="replace")
    commit = Commit(dict(trees), known, name, time, message, git, dict(meta))
    return writer.add_commit(commit)


# --- revisions ------------------------------------------------------------------------------


def resolve(store: Store, revision: str) -> ObjectId:
    """Return the commit that a revision names.

    Understands ``HEAD``, refs (``main``, ``origin/main``), full ids, unambiguous short ids of at
    least four digits, and any of them followed by ``~N`` or ``^``.

    Raises:
        UnknownRevision: The local store has no such revision.
        AmbiguousRevision: Several commits begin with a short id.
        NoCommits: ``HEAD`` is asked for before the first commit.
    """
    match = re.fullmatch(r"(?P<base>.+?)(?P<steps>(?:~\d*|\^)*)", revision, re.DOTALL)
    if match is None:
        raise errors.UnknownRevision("an empty name")
    commit = _resolve_base(store, match["base"])
    for step in re.findall(r"~\d*|\^", match["steps"]):
        for _ in range(int(step[1 : 1 + _FAR] or 1)):
            parents = read_commit(store, commit).parents
            if not parents:
                raise errors.UnknownRevision(revision, root=commit[:10])
            commit = parents[0]
    return commit


def _resolve_base(store: Store, name: str) -> ObjectId:
    database = store.database
    if name in {HEAD, "@"}:
        head = head_of(store)
        if head is None:
            raise _no_commits(store)
        return head
    commit = database.ref(name)
    if commit and name.rpartition("/")[2] != ATTEST:  # no worktree can hold that history
        return commit
    if name == MAIN:
        raise _no_commits(store)
    if re.fullmatch(rf"[0-9a-f]{{{_SHORT},64}}", name):
        found = _by_prefix(store, name)
        if len(found) == 1:
            return found[0]
        if found:
            raise errors.AmbiguousRevision(name, ", ".join(commit[:12] for commit in found[:4]))
    raise errors.UnknownRevision(name)


def _no_commits(store: Store) -> errors.NoCommits:
    fetched = store.database.ref(f"origin/{MAIN}") is not None
    return errors.NoCommits(fetched=True) if fetched else errors.NoCommits()


def _by_prefix(store: Store, prefix: str) -> list[ObjectId]:
    low, high = bytes.fromhex(prefix.ljust(64, "0")), bytes.fromhex(prefix.ljust(64, "f"))
    rows = store.database.connection.execute(
        "SELECT DISTINCT id FROM objects WHERE id BETWEEN ? AND ? AND kind = 'commit'", (low, high)
    )
    return [raw.hex() for (raw,) in rows]


def head_of(store: Store) -> ObjectId | None:
    """Return the commit that is checked out; None before the first commit."""
    return store.database.text("head") or store.database.ref(MAIN)
