"""Two clones and a bucket, doing anything in any order, against dictionaries.

Every value that is written is another, so that whatever is lost, or turns up, can be told.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from machines import files

from dorky import errors
from dorky.commands import cache, inspect
from dorky.drivers.file import FileDriver
from dorky.format import chunk, model
from dorky.format.model import Chunk, Chunks, Entry, Kind, ObjectId
from dorky.keys.vault import Vault
from dorky.merge import pending
from dorky.remote import push
from dorky.repo import Repository
from dorky.store import contents, database, history, reachability
from dorky.worktree import checkout, ingest

Content = dict[str, str]
"""By path: text."""

NOW = timedelta(0)
PATHS = ("a", "b", "d/c", "d/e")
LARGE = ("b", "d/e")
"""Those that are large files if any are."""


COMMANDS = (
    *("stage", "commit", "push", "pull", "sync", "undo", "restore", "merge_abort", "gc"),
    "gc_remote",
)


class Crashed(BaseException):
    """The process ends here."""


@contextlib.contextmanager
def crash(n: int) -> Iterator[None]:
    """End at the n-th point at which something is made durable, or asked for; and pass that."""
    left = n

    def point() -> None:
        nonlocal left
        left -= 1
        if left == -1:
            raise Crashed

    def around(call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            point()
            done = call(*arguments, **options)
            point()
            return done

        return watched

    execute = database._Connection.execute

    def commit(self: Any, *arguments: Any) -> Any:
        return (
            around(execute)(self, *arguments)
            if arguments[0] == "COMMIT"
            else execute(self, *arguments)
        )

    with contextlib.ExitStack() as stack:
        for place, names in (
            (os, ("fsync", "rename", "replace", "link", "unlink")),
            (FileDriver, ("get", "put", "swap", "delete", "get_range")),
        ):
            for name in names:
                stack.enter_context(mock.patch.object(place, name, around(getattr(place, name))))
        stack.enter_context(mock.patch.object(database._Connection, "execute", commit))
        with contextlib.suppress(Crashed):
            yield


class Commit(NamedTuple):
    parents: tuple[str, ...]
    tree: Content


class Merging(NamedTuple):
    """A merge in progress, and the operation that began it."""

    theirs: str
    operation: int
    conflicts: frozenset[str]
    tree: Content
    paths: frozenset[str]

    def committed(self, index: Content) -> Content:
        """The tree of the merge commit: of what is staged only what was in conflict."""
        kept = {path: text for path, text in self.tree.items() if path not in self.paths}
        return {**kept, **{path: index[path] for path in self.paths if path in index}}


class Op(NamedTuple):
    """What was before an operation, and what it did to the disk."""

    head: str | None
    index: Content
    merging: Merging | None
    disk: dict[str, tuple[str | None, str | None]]


@dataclass
class Clone:
    """What a clone is expected to hold."""

    repo: Repository
    head: str | None = None
    index: Content = field(default_factory=dict)
    disk: Content = field(default_factory=dict)
    merging: Merging | None = None
    log: list[Op] = field(default_factory=list)
    first: int = 1
    """The number of the log's first operation; what is before it can't be foretold."""
    owed: set[str] = field(default_factory=set)
    """Values that dorky took off the disk."""

    @property
    def next(self) -> int:
        return self.first + len(self.log)


def three_ways(base: Content, ours: Content, theirs: Content) -> tuple[Content, frozenset[str]]:
    """What a merge gives, and which files are conflicts."""
    merged, conflicts = {}, set()
    for path in base.keys() | ours.keys() | theirs.keys():
        was, our, their = (side.get(path) for side in (base, ours, theirs))
        if our == their or their == was:
            found = our
        elif our == was:
            found = their
        else:
            conflicts.add(path)
            found = our or their
            if our and their:
                found = f"<<<<<<< main\n{our}=======\n{their}>>>>>>> origin/main\n"
        if found is not None:
            merged[path] = found
    return merged, frozenset(conflicts)


def agreed(base: Content, ours: Content, theirs: Content) -> Content:
    """A merge of common ancestors: where they disagree, what neither side can have."""
    merged, conflicts = three_ways(base, ours, theirs)
    return {**merged, **{path: f"{ours.get(path)} or {theirs.get(path)}" for path in conflicts}}


def differing(old: Mapping[str, str], new: Mapping[str, str]) -> set[str]:
    return {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}


def follow(clone: Clone, old: Content, new: Content) -> tuple[Content, Content] | None:
    """The index and the disk after going from one tree to another; None if edits are in the way."""
    index, disk = dict(clone.index), dict(clone.disk)
    for path in differing(old, new):
        was, then, row, held = old.get(path), new.get(path), index.get(path), disk.get(path)
        clean = row == was and held in {None, was}
        apart = (was and then) if row is None else row not in {was, then}
        if apart:
            return None
        if then is None:
            if held is not None and row is not None:
                if not clean:
                    return None
                del disk[path]
            index.pop(path, None)
        else:
            if held not in {None, then} and not (clean and row is not None):
                return None
            disk[path] = index[path] = then
    return index, disk


def is_large(text: str) -> bool:
    return len(text) > chunk.WHOLE


def content_of(vault: Vault, text: str) -> ObjectId:
    """The id of a file's content: its chunk's, or that of the list of its chunks."""
    if not is_large(text):
        return vault.object_id(Kind.CHUNK, text.encode())
    pieces = (
        bytes(piece) for piece in chunk.cut(io.BytesIO(text.encode()), seed=vault.gear_seed())
    )
    cut = tuple(Chunk(vault.object_id(Kind.CHUNK, piece), len(piece)) for piece in pieces)
    return vault.object_id(Kind.CHUNKS, model.encode(Chunks(cut)))


def read(repo: Repository, content: ObjectId, size: int) -> str:
    """The text of a content, fetched if only the remote holds it."""
    entry = Entry("", 0o100644, content, size)
    fetch = functools.partial(inspect.fetch_missing, repo)
    return b"".join(checkout.read(repo.store, entry, fetch=fetch)).decode()


class Machine(RuleBasedStateMachine):
    """The rules."""

    plain = True
    bulky = False
    """Whether some files are so large that a clone leaves their contents to the remote."""
    clones: tuple[Clone, Clone]

    def __init__(self) -> None:
        super().__init__()
        self.before = Path.cwd()
        self.place = Path(tempfile.mkdtemp()).resolve()
        self.commits: dict[str | None, Commit] = {None: Commit((), {})}
        self.remote: str | None = None
        self.pushed: list[str] = []
        self.values: list[str] = []

    @initialize(plain=st.booleans())
    def start(self, plain: bool) -> None:
        self.sealed = not plain
        url = str(self.place / "vault")
        ana, _ = Repository.init(self.place / "ana", url, plain=plain)
        ben, _ = Repository.clone(url, self.place / "ben", plain=plain)
        self.observer, _ = Repository.clone(url, self.place / "observer", plain=plain)
        self.clones = (Clone(ana), Clone(ben))
        # Both begin with something in common.
        for path in PATHS[:3]:
            self.edit(0, path)
        self.stage(0, ".")
        self.commit(0, False)
        self.push(0)
        self.pull(1)

    # --- what the model knows ----------------------------------------------------------------

    def ancestors(self, head: str | None) -> list[str]:
        found: list[str] = []
        pending = [head] if head else []
        while pending:
            each = pending.pop(0)
            if each not in found:
                found.append(each)
                pending += self.commits[each].parents
        return found

    def base(self, ones: Sequence[str], twos: Sequence[str]) -> Content:
        """The files of the best common ancestor; of several, those of a merge of them."""
        other = {above for two in twos for above in self.ancestors(two)}
        common = {above for one in ones for above in self.ancestors(one)} & other
        below = {above for commit in common for above in self.ancestors(commit)[1:]}
        best = [commit for commit in self.commits if commit in common - below]
        files: Content = {}
        for n, commit in enumerate(best):
            tree = self.commits[commit].tree
            files = agreed(self.base(best[:n], [commit]), files, tree) if n else tree
        return files

    def at(self, n: int) -> Clone:
        clone = self.clones[n]
        os.chdir(clone.repo.root)
        return clone

    def did(
        self,
        clone: Clone,
        *,
        head: str | None,
        index: Content,
        disk: Content,
        merging: Merging | None,
    ) -> None:
        """An operation is expected to have done this."""
        moved = differing(clone.disk, disk)
        clone.owed |= {clone.disk[path] for path in moved if path in clone.disk}
        if moved or (head, index, merging) != (clone.head, clone.index, clone.merging):
            changes = {path: (clone.disk.get(path), disk.get(path)) for path in moved}
            clone.log.append(Op(clone.head, clone.index, clone.merging, changes))
        clone.head, clone.index, clone.disk, clone.merging = head, index, disk, merging

    def keep(self, clone: Clone, **changes: Any) -> None:
        known = {
            "head": clone.head,
            "index": dict(clone.index),
            "disk": dict(clone.disk),
            "merging": clone.merging,
        }
        self.did(clone, **{**known, **changes})

    # --- what people do ----------------------------------------------------------------------

    clone_numbers = st.integers(0, 1)
    paths = st.sampled_from(PATHS)

    @rule(n=clone_numbers, path=paths)
    def edit(self, n: int, path: str) -> None:
        clone = self.at(n)
        number = len(self.values) + 1
        value = f"value {number}\n"
        if self.bulky and path in LARGE:
            digits = hashlib.shake_128(value.encode()).hexdigest(1500)
            value += "".join(f"{number} {digits[n : n + 50]}\n" for n in range(0, 3000, 50))
        self.values.append(value)
        target = clone.repo.root / path
        target.parent.mkdir(exist_ok=True)
        target.write_text(value)
        target.chmod(0o644)
        clone.disk = {**clone.disk, path: value}

    @rule(n=clone_numbers, path=paths)
    def delete(self, n: int, path: str) -> None:
        clone = self.at(n)
        (clone.repo.root / path).unlink(missing_ok=True)
        clone.disk = {each: value for each, value in clone.disk.items() if each != path}

    # --- what dorky does ---------------------------------------------------------------------

    @rule(n=clone_numbers, path=st.sampled_from((*PATHS, ".")))
    def stage(self, n: int, path: str) -> None:
        clone = self.at(n)
        conflicts = clone.merging.conflicts if clone.merging else frozenset()
        if path == ".":
            clone.repo.stage(".")
            chosen = set(clone.disk) | set(clone.index)
            chosen -= conflicts
        elif path not in clone.disk and path not in clone.index:
            with pytest.raises(errors.PathNotFound):
                clone.repo.stage(path)
            return
        elif path in conflicts and "<<<<" in clone.disk.get(path, ""):
            with pytest.raises(errors.StillMarked):
                clone.repo.stage(path)
            return
        else:
            clone.repo.stage(path)
            chosen = {path}
        index = {each: value for each, value in clone.index.items() if each not in chosen}
        index.update({each: clone.disk[each] for each in chosen if each in clone.disk})
        merging = clone.merging
        if merging:
            merging = merging._replace(conflicts=conflicts - ({path} if path != "." else set()))
        self.keep(clone, index=index, merging=merging)

    @rule(n=clone_numbers, path=paths)
    def restore(self, n: int, path: str) -> None:
        clone = self.at(n)
        if path not in clone.index:
            with pytest.raises(errors.PathNotTracked):
                clone.repo.restore(path)
            return
        clone.repo.restore(path)
        self.keep(clone, disk={**clone.disk, path: clone.index[path]})

    @rule(n=clone_numbers, path=paths)
    def rm(self, n: int, path: str) -> None:
        clone = self.at(n)
        if path not in clone.index:
            with pytest.raises(errors.PathNotTracked):
                clone.repo.rm(path, force=True)
            return
        clone.repo.rm(path, force=True)
        index, disk = dict(clone.index), dict(clone.disk)
        for held in (index, disk):
            held.pop(path, None)
        merging = clone.merging
        if merging:
            merging = merging._replace(conflicts=merging.conflicts - {path})
        self.keep(clone, index=index, disk=disk, merging=merging)

    @rule(n=clone_numbers, all=st.booleans())
    def commit(self, n: int, all: bool) -> None:
        clone = self.at(n)
        merging = clone.merging
        if merging and merging.conflicts:
            with pytest.raises(errors.Unresolved):
                clone.repo.commit("work", all=all)
            return
        index = dict(clone.index)
        if all:
            index = {path: clone.disk[path] for path in index if path in clone.disk}
        # Two commits of one second are one, if nothing else tells them apart.
        message = f"work {len(self.commits)}"
        if index == self.commits[clone.head].tree and not merging:
            # Staging is done by then.
            with pytest.raises(errors.NothingToDo):
                clone.repo.commit(message, all=all)
            self.keep(clone, index=index)
            return
        made = clone.repo.commit(message, all=all).id
        parents = tuple(each for each in (clone.head, merging and merging.theirs) if each)
        assert made not in self.commits
        self.commits[made] = Commit(parents, merging.committed(index) if merging else index)
        self.keep(clone, head=made, index=index, merging=None)

    @rule(n=clone_numbers)
    def push(self, n: int) -> None:
        clone = self.at(n)
        rejected = clone.head and self.remote and self.remote not in self.ancestors(clone.head)
        if clone.merging or rejected:
            with pytest.raises(errors.ConflictError):
                clone.repo.push()
            return
        if clone.head is None:
            with pytest.raises(errors.NoCommits):
                clone.repo.push()
            return
        clone.repo.push()
        self.remote = clone.head
        self.pushed.append(clone.head)

    @rule(n=clone_numbers)
    def pull(self, n: int) -> None:
        clone = self.at(n)
        if clone.merging:
            with pytest.raises(errors.ConflictError):
                clone.repo.pull()
            return
        self._pulled(clone, clone.repo.pull)

    def all_staged_for_deletion(self, clone: Clone) -> bool:
        """Whether `test_a_pull_does_not_hide_staged_deletions` says that no pull must come now."""
        return bool(not clone.index and self.commits[clone.head].tree)

    def _pulled(self, clone: Clone, pull: Callable[[], Any]) -> bool:
        """Whether there are no conflicts, and no edits in the way."""
        ours, theirs = clone.head, self.remote
        if self.all_staged_for_deletion(clone):
            return False
        assert theirs
        target, conflicts, merged = theirs, frozenset[str](), False
        tree = self.commits[theirs].tree
        if theirs in self.ancestors(ours):
            assert ours
            target, tree = ours, self.commits[ours].tree
        elif ours and ours not in self.ancestors(theirs):
            merged = True
            base = self.base([ours], [theirs])
            tree, conflicts = three_ways(
                base, *(self.commits[each].tree for each in (ours, theirs))
            )
        old = self.commits[ours].tree
        went = follow(clone, old, tree)
        if went is None:
            with pytest.raises(errors.LocalChanges):
                pull()
            return False
        index, disk = went
        first = ours is None and not clone.index
        done = pull()
        done = getattr(done, "pulled", done)
        assert {each.path for each in done.conflicts} == conflicts
        merging = None
        if conflicts:
            for path in conflicts:
                index.pop(path, None)
                if path in old:
                    index[path] = old[path]
            merging = Merging(theirs, clone.next, conflicts, tree, conflicts)
            target = ours or ""
        elif merged:
            assert done.merged
            target = done.new
            self.commits[target] = Commit((ours or "", theirs), tree)
        self.keep(clone, head=target, index=index, disk=disk, merging=merging)
        if first:  # a beginning, nothing to go back from
            self.forget(clone)
        return not conflicts

    @rule(n=clone_numbers)
    def sync(self, n: int) -> None:
        clone = self.at(n)
        if clone.merging:
            with pytest.raises(errors.ConflictError):
                clone.repo.sync()
        elif self._pulled(clone, clone.repo.sync):
            assert clone.head
            self.remote = clone.head
            self.pushed.append(clone.head)

    def is_merging(self) -> bool:
        return any(each.merging for each in self.clones)

    @precondition(is_merging)
    @rule(n=clone_numbers, ours=st.booleans(), first=st.booleans())
    def resolve(self, n: int, ours: bool, first: bool) -> None:
        clone = self.at(n)
        if not clone.merging:
            with pytest.raises(errors.NothingToDo):
                clone.repo.resolve(".", ours=ours, theirs=not ours)
            return
        if not clone.merging.conflicts:
            return
        chosen = set(clone.merging.conflicts)
        if first:
            chosen = {min(chosen)}
        tree = self.commits[clone.head if ours else clone.merging.theirs].tree
        clone.repo.resolve(sorted(chosen), ours=ours, theirs=not ours)
        index, disk = dict(clone.index), dict(clone.disk)
        for path in chosen:
            for held in (index, disk):
                held.pop(path, None)
                if path in tree:
                    held[path] = tree[path]
        left = clone.merging._replace(conflicts=clone.merging.conflicts - chosen)
        self.keep(clone, index=index, disk=disk, merging=left)

    @precondition(is_merging)
    @rule(n=clone_numbers)
    def merge_continue(self, n: int) -> None:
        clone = self.at(n)
        if clone.merging is None or clone.merging.conflicts:
            with pytest.raises(errors.DorkyError):
                clone.repo.merge_continue()
            return
        made = clone.repo.merge_continue().id
        assert clone.head
        tree = clone.merging.committed(clone.index)
        self.commits[made] = Commit((clone.head, clone.merging.theirs), tree)
        self.keep(clone, head=made, merging=None)

    @precondition(is_merging)
    @rule(n=clone_numbers)
    def merge_abort(self, n: int) -> None:
        clone = self.at(n)
        if clone.merging is None:
            with pytest.raises(errors.NothingToDo):
                clone.repo.merge_abort()
        elif clone.merging.operation < clone.first:
            clone.repo.merge_abort()
            self.look(clone)
        else:
            self._undone(clone, clone.next - clone.merging.operation, True, clone.repo.merge_abort)

    @rule(n=clone_numbers, count=st.integers(1, 3), force=st.booleans())
    def undo(self, n: int, count: int, force: bool) -> None:
        clone = self.at(n)
        if count <= len(clone.log):
            self._undone(clone, count, force, lambda: clone.repo.undo(count, force=force))

    def _undone(self, clone: Clone, count: int, force: bool, undo: Callable[[], Any]) -> None:
        undone = clone.log[-count:]
        found: dict[str, tuple[str | None, str | None]] = {}
        for each in undone:
            for path, (old, new) in each.disk.items():
                found[path] = (found.get(path, (old,))[0], new)
        disk = dict(clone.disk)
        edited = False
        for path, (old, new) in found.items():
            held = disk.pop(path, None)
            edited |= held not in {None, old, new, clone.index.get(path)}
            if old is not None:
                disk[path] = old
        if edited and not force:
            with pytest.raises(errors.LocalChanges):
                undo()
            return
        done = undo()
        assert bool(done.backup) == edited
        before = undone[0]
        self.keep(
            clone, head=before.head, index=dict(before.index), disk=disk, merging=before.merging
        )
        assert done.head == clone.head

    @rule(n=clone_numbers, path=paths)
    def work(self, n: int, path: str) -> None:
        """What people mostly do."""
        self.edit(n, path)
        self.stage(n, path)
        self.commit(n, False)

    @rule(n=clone_numbers, path=paths)
    def meet(self, n: int, path: str) -> None:
        """Two people at the same file."""
        self.work(n, path)
        self.sync(n)
        self.work(1 - n, path)
        self.pull(1 - n)

    @rule(n=clone_numbers)
    def gc(self, n: int) -> None:
        self.at(n).repo.gc(grace=NOW)
        self.check_store(n)

    @rule(n=clone_numbers)
    def gc_remote(self, n: int) -> None:
        self.at(n).repo.gc_remote(grace=NOW)
        self.check_store(n)

    @precondition(lambda self: self.sealed)
    @rule(n=clone_numbers)
    def rotate(self, n: int) -> None:
        self.at(n).repo.rotate()

    @rule(n=clone_numbers, at=st.integers(0, 60), what=st.sampled_from(COMMANDS))
    def crash(self, n: int, at: int, what: str) -> None:
        """A command ends in the middle; somebody looks what has become of it, and goes on."""
        clone = self.at(n)
        before = set(clone.disk.values())
        repo = clone.repo
        if what in {"pull", "sync"} and self.all_staged_for_deletion(clone):
            return
        calls: dict[str, Callable[[], object]] = {
            "stage": lambda: repo.stage("."),
            "commit": lambda: repo.commit(f"work {len(self.commits)}", all=True),
            "push": repo.push,
            "pull": repo.pull,
            "sync": repo.sync,
            "undo": repo.undo,
            "gc": lambda: repo.gc(grace=NOW),
            "restore": lambda: repo.restore("."),
            "gc_remote": lambda: repo.gc_remote(grace=NOW),
            "merge_abort": repo.merge_abort,
        }
        with crash(at), contextlib.suppress(errors.DorkyError):
            calls[what]()
        repo.close()
        clone.repo = Repository(repo.root)
        # Nothing is lost that was on the disk, staged, or owed before.
        self.look(clone)
        clone.owed |= before - set(clone.disk.values())
        self.check_store(n)

    def look(self, clone: Clone) -> None:
        """Take what is there for what shall be there."""
        repo = clone.repo
        clone.disk = {path: data.decode() for path, (_, data) in files(repo.root).items()}
        head = repo.status().head
        remote = self.observer.fetch().new
        for each in (head, remote):
            self.learn(repo if each == head else self.observer, each)
        clone.head, self.remote = head, remote
        vault = repo.vault
        ids = {content_of(vault, text): text for text in self.values}
        clone.index = {}
        for path, row in repo.index.rows().items():
            if row.content not in ids:
                ids[row.content] = read(repo, row.content, row.size)
            clone.index[path] = ids[row.content]
        state = pending.load(repo.database)
        clone.merging = None
        if state:
            conflicts = frozenset(each.path for each in state.conflicts)
            tree = {
                path: read(repo, entry.content, entry.size)
                for path, entry in history.files_of(repo.store, state.trees)
            }
            own = frozenset(state.paths or ())
            clone.merging = Merging(state.theirs, state.operation, conflicts, tree, own)
            self.learn(repo, state.theirs)
        self.forget(clone)

    def forget(self, clone: Clone) -> None:
        """Expect nothing of undoing what has been done until now."""
        clone.log.clear()
        clone.first = next((each.number for each in clone.repo.op_log(limit=1)), 0) + 1

    def learn(self, repo: Repository, head: str | None) -> None:
        """Add to the model commits that a command which has ended made."""
        if head is None or head in self.commits:
            return
        entry = repo.show(head)
        for parent in entry.parents:
            self.learn(repo, parent)
        tree = {each.path: b"".join(repo.cat(head, each.path)).decode() for each in repo.ls(head)}
        self.commits[head] = Commit(entry.parents, tree)

    # --- what is always so -------------------------------------------------------------------

    @invariant()
    def everything_is_as_expected(self) -> None:
        if not hasattr(self, "clones"):
            return
        for clone in self.clones:
            repo = clone.repo
            os.chdir(repo.root)
            held = {path: data.decode() for path, (_, data) in files(repo.root).items()}
            assert held == clone.disk
            status = repo.status()
            conflicts = clone.merging.conflicts if clone.merging else frozenset()
            assert status.head == clone.head
            assert {each.path for each in status.conflicts} == conflicts
            staged = differing(self.commits[clone.head].tree, clone.index) - conflicts
            assert {each.path for each in status.staged} == staged
            unstaged = {p for p, v in clone.index.items() if clone.disk.get(p) != v} - conflicts
            assert {each.path for each in status.unstaged} == unstaged
            assert status.clean == (not staged and not unstaged and not clone.merging)
            newest = next((each.number for each in repo.op_log(limit=1)), 0)
            assert newest + 1 == clone.next

    def check_store(self, n: int) -> None:
        """Nothing is damaged, and what dorky took off the disk can be had back."""
        clone = self.clones[n]
        repo = clone.repo
        assert not [each for each in repo.fsck(remote=True).findings if each.fatal]
        kept = reachability.reachable(repo.store)
        for text in clone.owed:
            content = content_of(repo.vault, text)
            assert content in kept, text
            assert read(repo, content, len(text)) == text

    def teardown(self) -> None:
        try:
            if hasattr(self, "clones"):
                for n in (0, 1):
                    self.check_store(n)
                os.chdir(self.observer.root)
                assert self.observer.pull().new == self.remote
                history = {each.id for each in self.observer.log()}
                assert history >= set(self.pushed)
                found = {p: data.decode() for p, (_, data) in files(self.observer.root).items()}
                assert found == self.commits[self.remote].tree
                for repo in (*(each.repo for each in self.clones), self.observer):
                    repo.close()
        finally:
            os.chdir(self.before)
            shutil.rmtree(self.place, ignore_errors=True)


def test_a_pull_does_not_hide_staged_deletions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo, _ = Repository.init(tmp_path / "ana", str(tmp_path / "vault"))
    monkeypatch.chdir(repo.root)
    with repo:
        Path("a").write_text("a")
        repo.stage("a")
        repo.commit("a")
        repo.push()
        repo.rm("a")
        repo.pull()
        assert [each.what for each in repo.status().staged] == ["deleted"]
        repo.commit("without")


QUICK = settings(
    max_examples=4,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_two_clones_and_a_bucket() -> None:
    run_state_machine_as_test(Machine, settings=QUICK)


@pytest.mark.deep
def test_two_clones_and_a_bucket_for_long() -> None:
    run_state_machine_as_test(
        Machine, settings=settings(QUICK, max_examples=100, stateful_step_count=50)
    )


class Bulky(Machine):
    """The same, with files of which `.dorky/` keeps no contents once they are pushed."""

    bulky = True

    @invariant()
    def status_tells_what_is_only_there(self) -> None:
        for clone in getattr(self, "clones", ()):
            lacking = {
                path
                for path, row in clone.repo.index.rows().items()
                if row.content in clone.repo.store
                and clone.repo.store.missing(contents.chunks_of(clone.repo.store, row.content))
            }
            assert set(clone.repo.status().remote_only) == lacking
            SEEN.update(lacking)


SEEN: set[str] = set()
"""The files of which a run has left the contents to the remote."""


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of 3 KiB are cut, get packs of their own, and are dropped."""
    sizes = {"MIN": 256, "AVERAGE": 512, "MAX": 1024, "WHOLE": 256}
    for name, size in sizes.items():
        monkeypatch.setattr(chunk, name, size)
    monkeypatch.setattr(push, "INLINE", 1024)
    for place in (cache, ingest):
        monkeypatch.setattr(place, "LARGE", 1024)
    SEEN.clear()


@pytest.mark.usefixtures("small_chunks")
def test_two_clones_of_large_files() -> None:
    run_state_machine_as_test(Bulky, settings=settings(QUICK, max_examples=2))


@pytest.mark.deep
@pytest.mark.usefixtures("small_chunks")
def test_two_clones_of_large_files_for_long() -> None:
    run_state_machine_as_test(
        Bulky, settings=settings(QUICK, max_examples=100, stateful_step_count=50)
    )
    assert SEEN
