"""What a member who has left can read of today's bucket: nothing that was current since."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import Machine, bucket, noise
from servers import Remote, RequestLog
from teams import follow, joined, start

from dorky import errors
from dorky.format.model import ALL, KiB, Kind, ObjectId
from dorky.keys.vault import Vault
from dorky.remote import gc, push, rotate
from dorky.store import history, pack, verify
from dorky.store.contents import below

STEPS = ("write", "secret", "delete", "push", "push", "out", "remove", "rotate", "history", "gc")


@pytest.fixture(scope="module", autouse=True)
def _small_packs() -> Iterator[None]:
    """Everything goes into packs, of 12 KiB, so that old and new contents share them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(push, "INLINE", 1 * KiB)
        patch.setattr(pack, "TARGET", 12 * KiB)
        patch.setattr(push, "SMALL", 3 * KiB)
        patch.setattr(gc, "SMALL", 3 * KiB)
        patch.setattr(rotate, "SMALL", 3 * KiB)
        yield


def current(machine: Machine, group: str = ALL) -> set[ObjectId]:
    """The commit that the remote's main names, and all that it holds for a group."""
    with machine.repo() as repo:
        head = repo.database.ref("origin/main")
        assert head
        trees = history.trees_of(repo.store, head, {group}).values()
        found, contents = history.below(repo.store, trees)
        pieces = {piece for each in below(repo.store, contents).values() for piece in each}
        return {*found, *pieces, *([head] if group == ALL else [])}


def opened(machine: Machine, place: Remote, leaver: Vault) -> set[ObjectId]:
    """Everything in the bucket's packs, listed or not, that a leaver's keys open."""
    found: set[ObjectId] = set()
    with machine.repo() as repo:
        for key, data in bucket(place).items():
            if not key.startswith("packs/"):
                continue
            path = machine.base / key.rpartition("/")[2]
            path.write_bytes(data)
            _, locations = verify.index_of(path, repo.vault)
            path.unlink()
            for at in locations:
                stored = data[at.offset : at.offset + at.length]
                try:
                    leaver.read(at.kind, at.id, stored)
                except errors.CorruptObject:
                    continue
                if at.kind is not Kind.TEAM:
                    found.add(at.id)
    return found


def size_of_packs(place: Remote) -> int:
    return sum(len(data) for key, data in bucket(place).items() if key.startswith("packs/"))


class Story:
    """Ana works, Ben is removed at some time, perhaps from a group before."""

    def __init__(self, base: Path, place: Remote) -> None:
        self.place = place
        self.ana = start(base, place)
        self.ben = joined(self.ana, "ben")
        self.ana("group", "add", "prod", "prod/**", "--member", "ana", "--member", "ben")
        with self.ana.repo() as repo:
            (self.group,) = repo.vault.groups - {ALL}
        self.left: Vault | None = None
        """The keys that Ben had when he was removed."""
        self.was_in: Vault | None = None
        """The keys that Ben had when he was taken out of the group."""
        self.guarded: set[ObjectId] = set()
        self.closed: set[ObjectId] = set()
        self.known: set[ObjectId] = set()
        """What Ben could read when he was removed, or taken out of the group.

        Files that become again as they were then are guarded from the next collection on.
        """
        self.count = 0

    def write(self) -> None:
        self.count += 1
        self.ana.commit({f"file{self.count % 4}": noise(1700 * self.count % 9000, self.count)})

    def secret(self) -> None:
        self.count += 1
        name = f"prod/file{self.count % 3}"
        self.ana.commit({name: noise(1300 * self.count % 9000, self.count)})

    def delete(self) -> None:
        files = sorted(self.ana.project.glob("**/file*"))
        if files:
            files[0].unlink()
            self.ana("commit", "-a", "-m", "gone")

    def push(self) -> None:
        self.ana("push")

    def remove(self) -> None:
        if self.left is None:
            self.left = self.keys()
            self.known |= opened(self.ana, self.place, self.left)
            self.was_in = self.was_in or self.left
            self.ana("team", "remove", "ben")
            self.guard()

    def out(self) -> None:
        if self.was_in is None:
            self.was_in = self.keys()
            self.known |= opened(self.ana, self.place, self.was_in)
            self.ana("group", "members", "prod", "--remove", "ben")
            self.guard()

    def keys(self) -> Vault:
        self.ben("fetch")
        with self.ben.repo() as repo:
            return repo.vault

    def rotate(self) -> None:
        self.ana("rotate")

    def history(self) -> None:
        self.ana("rotate", "--history")

    def gc(self) -> None:
        self.ana("gc", "--remote", "--grace", "0")
        self.guard()

    def guard(self, known: Collection[ObjectId] = ()) -> None:
        """Note what Ben may not read of what is current now."""
        if self.left:
            self.guarded |= current(self.ana) - set(known)
        if self.was_in:
            self.closed |= current(self.ana, self.group) - set(known)

    def check(self) -> None:
        self.guard(self.known)
        if self.left:
            assert not opened(self.ana, self.place, self.left) & self.guarded
        if self.was_in:
            assert not opened(self.ana, self.place, self.was_in) & self.closed

    def run(self, *steps: str) -> None:
        for step in steps:
            getattr(self, step)()
            self.check()


@settings(max_examples=3, deadline=None)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=6, max_size=14))
def test_nothing_that_was_current_since(steps: list[str]) -> None:
    _run(steps)


@pytest.mark.deep
@settings(max_examples=80, deadline=None)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=6, max_size=40))
def test_nothing_that_was_current_since_for_long(steps: list[str]) -> None:
    _run(steps)


def _run(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as base:
        Story(Path(base), Remote(str(Path(base) / "vault"), {}, {}, RequestLog())).run(
            *steps, "push", "remove", "gc"
        )


def test_a_file_that_is_again_as_it_was(tmp_path: Path, file_url: Remote) -> None:
    """The leaver has had it; a collection replaces the copy under the old key."""
    story = Story(tmp_path, file_url)
    story.ana.commit({"file": noise(900, 1), "other": noise(900, 2)})
    story.ana.commit({"file": noise(900, 3)})
    story.run("push", "remove")
    story.ana.commit({"file": noise(900, 1)})
    story.run("push", "gc")


def test_packs_that_mix_old_and_current(tmp_path: Path, file_url: Remote) -> None:
    """A pack of which little is current is replaced, too."""
    story = Story(tmp_path, file_url)
    story.ana.commit({"kept": noise(500, 1), "old": noise(8000, 2)})
    (story.ana.project / "old").unlink()
    story.ana("commit", "-a", "-m", "old goes")
    story.run("push", "remove", "gc")
    story.ana("pull")
    clone = story.ana.another("clone")
    clone("clone", file_url.url, ".")
    assert clone("cat", "HEAD~1:old").raw == noise(8000, 2)


def test_gc_keeps_the_copy_under_the_newest_key(tmp_path: Path, file_url: Remote) -> None:
    """A rotation by somebody outside a group can't replace packs; a collection by a member can."""
    story = Story(tmp_path, file_url)
    ana, ben = story.ana, story.ben
    cleo = joined(ana, "cleo")
    ana("group", "members", "prod", "--remove", "ben")
    ana.commit({"prod/key": noise(900, 1), "file": noise(900, 2), "prod/big": noise(9000, 3)})
    ana("push")
    for each in (ben, cleo):
        each("pull")
    with ben.repo() as repo:
        story.left = repo.vault
    told = cleo("team", "remove", "ben")
    assert "ask ana to run dorky rotate --history" in told.err
    before = size_of_packs(file_url)
    for _ in range(2):
        done = cleo("rotate", "--history", "--json").json
        assert (done["finishers"], done["kept"]) == (["ana"], 0)
        assert done["blocked"] > 0
        # Nothing is uploaded that replaces nothing.
        assert size_of_packs(file_url) <= before
    assert "--history)" not in cleo("rotate", "--history").err
    follow(ana, cleo)
    ana("pull")
    story.gc()
    story.check()
    assert not opened(ana, file_url, story.left) & current(cleo)
    assert ana("rotate", "--history", "--json").json["blocked"] == 0
    clone = ana.another("clone")
    clone("clone", file_url.url, ".")
    assert {path: ana.files()[path] for path in clone.files()} == clone.files()
    assert clone.read("prod/big") == noise(9000, 3)
