"""Walking commits and trees: revisions, ancestry, what a tree holds, how two trees differ."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import NamedTuple

from dorky import errors
from dorky.format import model
from dorky.format.model import ALL, Commit, Entry, Kind, ObjectId, Tree
from dorky.paths import parents
from dorky.store.objects import Store, Writer

HEAD = "HEAD"
MAIN = "main"
_SHORT = 4
_FAR = 18  # digits of a number of steps; no history is that long, and int() refuses thousands


class Node(NamedTuple):
    """A commit and its id."""

    id: ObjectId
    commit: Commit


class Placed(NamedTuple):
    """A file or link, and the group in whose tree it lies."""

    group: str
    entry: Entry


class Difference(NamedTuple):
    """One path at which two commits differ; None where it does not exist."""

    path: str
    old: Entry | None
    new: Entry | None
    group: str = ALL
    """Whom ``new`` is for."""


# --- trees ----------------------------------------------------------------------------------


def subject(message: str) -> str:
    """Return the first line of a commit's message; nothing if a member has written none."""
    return next(iter(message.strip().splitlines()), "")


def read_commit(store: Store, commit: ObjectId) -> Commit:
    """Read a commit."""
    return model.decode_commit(store.read(commit), commit)


def read_tree(store: Store, tree: ObjectId, group: str | None = None) -> Tree:
    """Read one directory, of a group's tree if that is given."""
    return model.decode_tree(store.read(tree, group=group), tree, store.left_out)


Trees = Mapping[str, ObjectId]
"""The root trees of a commit, by group."""


def trees_of(
    store: Store, commit: ObjectId | None, groups: Collection[str] | None = None
) -> dict[str, ObjectId]:
    """The trees of a commit that can be read here, of all groups or of some."""
    if commit is None:
        return {}
    wanted = store.vault.groups if groups is None else store.vault.groups.intersection(groups)
    found = read_commit(store, commit).trees
    # A group's tree comes first: it wins, should somebody put the same path into everybody's.
    return {each: found[each] for each in in_order(found) if each in wanted}


def in_order(groups: Iterable[str]) -> list[str]:
    """Return groups as they are walked: everybody's last."""
    return sorted(groups, key=lambda each: (each == ALL, each))


def files_of(
    store: Store, trees: Trees, paths: Collection[str] | None = None
) -> Iterator[tuple[str, Entry]]:
    """Every file and link of a commit's trees, with its path; in tree order if there is one.

    Args:
        store: Where they are.
        trees: The root trees.
        paths: Only what is there; other directories are not read.
    """
    given: set[str] = set()
    for group, tree in trees.items():
        for path, entry in files_below(store, group, tree, paths):
            if path not in given:
                yield path, entry
            if len(trees) > 1:
                given.add(path)


def files_below(
    store: Store, group: str, tree: ObjectId, paths: Collection[str] | None = None
) -> Iterator[tuple[str, Entry]]:
    """Yield every file and link of one group's tree, with its path, or those at some paths."""
    chosen = None if paths is None else set(paths)
    above = {each for path in paths or () for each in parents(path)}
    # Not recursive: a stranger's trees may be deeper than the stack.
    pending = [("", entry) for entry in _reversed(store, group, tree)]
    while pending:
        parent, entry = pending.pop()
        path = parent + entry.name
        if entry.is_tree:
            if chosen is None or path in above:
                below = _reversed(store, group, entry.content)
                pending.extend((f"{path}/", child) for child in below)
        elif chosen is None or path in chosen:
            yield path, entry


def _reversed(store: Store, group: str, tree: ObjectId) -> Iterable[Entry]:
    return reversed(read_tree(store, tree, group).entries)


def lookup(store: Store, trees: Trees, path: str) -> list[Entry]:
    """What lies at a path (a file, a link or a directory) in each of the trees that hold it."""
    found = (_lookup(store, group, tree, path) for group, tree in trees.items())
    return [entry for entry in found if entry]


def _lookup(store: Store, group: str, tree: ObjectId | None, path: str) -> Entry | None:
    found = None
    for part in path.split("/"):
        if tree is None:
            return None
        entries = read_tree(store, tree, group).entries
        found = next((entry for entry in entries if entry.name == part), None)
        tree = found.content if found and found.is_tree else None
    return found


def differences(store: Store, old: Trees, new: Trees) -> Iterable[Difference]:
    """The files at which two commits differ. Reads only the directories that differ.

    A file that went from one group to another is in another tree, sealed with another key, but it
    is the same file: one difference.
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


_Differing = tuple[str, Entry | None, Entry | None]


def differing(
    store: Store, group: str, old: ObjectId | None, new: ObjectId | None
) -> Iterator[_Differing]:
    """Yield each path at which two trees of a group hold different files, and what they hold."""
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
    store: Store, group: str, old: ObjectId | None, new: ObjectId | None, prefix: str
) -> list[_Differing]:
    """The names, directories too, at which two directories differ; the last one first."""
    if old == new:
        return []
    left = {entry.name: entry for entry in read_tree(store, old, group).entries} if old else {}
    right = {entry.name: entry for entry in read_tree(store, new, group).entries} if new else {}
    return [
        (prefix + name, left.get(name), right.get(name))
        for name in sorted(left.keys() | right.keys(), reverse=True)
        if left.get(name) != right.get(name)
    ]


def below(
    store: Store,
    trees: Iterable[ObjectId],
    skip: Callable[[set[ObjectId]], set[ObjectId]] = lambda _: set(),
) -> tuple[set[ObjectId], set[ObjectId]]:
    """Trees with all trees below them, and what their files and links hold.

    Args:
        store: Where they are.
        trees: Where to begin.
        skip: Says of some trees which are not to be looked at, and so nothing below them.
    """
    found: set[ObjectId] = set()
    contents: set[ObjectId] = set()
    pending = set(trees)
    while pending := pending - found - skip(pending):
        found |= pending
        entries = [entry for tree in pending for entry in read_tree(store, tree).entries]
        contents.update(entry.content for entry in entries if not entry.is_tree)
        pending = {entry.content for entry in entries if entry.is_tree}
    return found, contents


def chunks_of(store: Store, contents: Iterable[ObjectId]) -> dict[ObjectId, list[ObjectId]]:
    """The chunks that each content consists of, in order, whether they are here or not."""
    wanted = set(contents)
    lists = {each: at for each, at in store.locate(wanted).items() if at.kind is Kind.CHUNKS}
    result = {}
    for content in wanted:
        if content in lists:
            pieces = model.decode_chunks(store.open(lists[content]), content).chunks
            result[content] = [piece.id for piece in pieces]
        else:
            result[content] = [content]
    return result


def touches(store: Store, commit: Commit, path: str) -> bool:
    """Whether a commit holds something else at a path than each of its parents does.

    Reads only the directories above the path that differ.
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
    """Whether two trees hold different things at a path."""
    found: _Differing | None = None
    for part in path.split("/"):
        differing = _compare(store, group, old, new, "")
        found = next((each for each in differing if each[0] == part), None)
        if found is None:
            return False
        old, new = (each.content if each and each.is_tree else None for each in found[1:])
    return found is not None


# --- ancestry -------------------------------------------------------------------------------


def ancestors(
    store: Store, heads: Iterable[ObjectId], stop: Callable[[ObjectId], bool] | None = None
) -> Iterator[Node]:
    """The commits reachable from ``heads``, newest first; never a parent before its child...

    ... unless clocks disagree: the order is by the commits' own times, as in git.

    Args:
        store: Where they are.
        heads: Where to begin.
        stop: Commits for which it says yes are neither given nor walked past.
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
    """Whether ``old`` is ``new`` or one of its ancestors."""
    if old == new:
        return True
    if old not in store:
        return any(node.id == old for node in ancestors(store, [new]))
    return _sides(store, old, new, goal=old)[0][old] == _BOTH


def ahead_behind(store: Store, ours: ObjectId | None, theirs: ObjectId | None) -> tuple[int, int]:
    """How many commits each side has that the other lacks."""
    if ours and theirs:
        found = [*_sides(store, ours, theirs)[0].values()] if ours != theirs else []
        return found.count(_OURS), found.count(_THEIRS)
    one = sum(1 for head in (ours, theirs) if head for _ in ancestors(store, [head]))
    return (one, 0) if ours else (0, one)


def merge_base(store: Store, ours: ObjectId, theirs: ObjectId) -> ObjectId | None:
    """A best common ancestor: one that is no other common ancestor's ancestor; None if unrelated.

    Of several (criss-cross merges) it is the newest.
    """
    sides, commits = _sides(store, ours, theirs)
    common = [each for each, side in sides.items() if side == _BOTH]
    parents = {parent for each in common for parent in commits[each].parents}
    best = (each for each in common if each not in parents)
    return max(best, key=lambda each: (commits[each].time, each), default=None)


_OURS, _THEIRS, _BOTH = 1, 2, 3


def _sides(
    store: Store, ours: ObjectId, theirs: ObjectId, *, goal: ObjectId | None = None
) -> tuple[dict[ObjectId, int], dict[ObjectId, Commit]]:
    """Whose each commit is that only one side has, and those of both that lie next to them.

    Walks from the newest on, and no further than it must: until a single commit is left to go on
    from, which is both sides', and no first commit has been met. All that was met lies above that
    commit then, so nothing of it lies below. This holds whatever clocks have said: times tell
    only which way to go first.

    Args:
        store: Where they are.
        ours: One side's newest commit.
        theirs: The other's.
        goal: Stop when this is known to be both sides'.
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
            # Again, if it was met as one side's only: what lies below is the other's, too.
            waiting.add(commit_id)
            heapq.heappush(pending, (-commits[commit_id].time.timestamp(), commit_id))

    reach(ours, _OURS)
    reach(theirs, _THEIRS)
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
) -> ObjectId:
    """Store a commit made now; give its id. Parents that are None are left out."""
    time = datetime.now(timezone.utc).replace(microsecond=0)
    known = tuple(parent for parent in parents if parent)
    # An environment in another encoding must not keep anybody from committing.
    name = author.encode(errors="surrogateescape").decode(errors="replace")
    commit = Commit(dict(trees), known, name, time, message, git)
    return writer.add(Kind.COMMIT, model.encode(commit))


# --- revisions ------------------------------------------------------------------------------


def resolve(store: Store, revision: str) -> ObjectId:
    """The commit that a revision names.

    Understands ``HEAD``, refs (``main``, ``origin/main``), full ids, unambiguous short ids of at
    least four digits, and any of them followed by ``~N`` or ``^``.

    Raises:
        UnknownRevision: It names nothing here.
        AmbiguousRevision: A short id that several commits begin with.
        NoCommits: ``HEAD`` before the first commit.
    """
    match = re.fullmatch(r"(?P<base>.+?)(?P<steps>(?:~\d*|\^)*)", revision, re.DOTALL)
    if match is None:
        raise errors.UnknownRevision("an empty name")
    commit = _resolve_base(store, match["base"])
    for step in re.findall(r"~\d*|\^", match["steps"]):
        for _ in range(int(step[1 : 1 + _FAR] or 1)):
            parents = read_commit(store, commit).parents
            if not parents:
                raise errors.UnknownRevision(revision, hint=f"{commit[:10]} has no parent")
            commit = parents[0]
    return commit


def _resolve_base(store: Store, name: str) -> ObjectId:
    database = store.database
    if name in {HEAD, "@"}:
        head = head_of(store)
        if head is None:
            raise errors.NoCommits
        return head
    if commit := database.ref(name):
        return commit
    if name == MAIN:
        raise errors.NoCommits
    if re.fullmatch(rf"[0-9a-f]{{{_SHORT},64}}", name):
        found = _by_prefix(store, name)
        if len(found) == 1:
            return found[0]
        if found:
            raise errors.AmbiguousRevision(name, ", ".join(each[:12] for each in found[:4]))
    raise errors.UnknownRevision(name)


def _by_prefix(store: Store, prefix: str) -> list[ObjectId]:
    low, high = bytes.fromhex(prefix.ljust(64, "0")), bytes.fromhex(prefix.ljust(64, "f"))
    rows = store.database.connection.execute(
        "SELECT DISTINCT id FROM objects WHERE id BETWEEN ? AND ? AND kind = 'commit'", (low, high)
    )
    return [raw.hex() for (raw,) in rows]


def head_of(store: Store) -> ObjectId | None:
    """The commit that is checked out; None before the first."""
    return store.database.text("head") or store.database.ref(MAIN)
