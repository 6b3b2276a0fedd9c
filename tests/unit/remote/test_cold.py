"""Cold reads: one file out of a remote, without a local store, by few requests."""

from __future__ import annotations

import random
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import Machine, driver_of, noise, started
from roles import Forge
from servers import Remote as Place
from teams import follow, joined

from dorky import errors
from dorky.drivers.base import LIMIT, Blob, Driver, Stat, Version
from dorky.format import model
from dorky.format.model import Kind, Location, Pack
from dorky.remote import cold, listing
from dorky.remote import root as roots
from dorky.remote.cold import Reader
from dorky.remote.journal import Sent
from dorky.remote.push import remember
from dorky.remote.root import HEAD, Remote, read_body, read_header
from dorky.remote.root import LIMIT as ROOT
from dorky.repo import Repository
from dorky.store.pack import make_index

MiB = 1 << 20


class Counting:
    """A driver that counts."""

    def __init__(self, inner: Driver) -> None:
        self.inner, self.url = inner, inner.url
        self.asked: list[tuple[str, int]] = []

    def get(self, key: str, *, unless: Version | None = None, limit: int = LIMIT) -> Blob | None:
        found = self.inner.get(key, unless=unless, limit=limit)
        self.asked.append((key, len(found.data) if found else 0))
        return found

    def get_range(self, key: str, start: int, end: int) -> bytes:
        self.asked.append((key, end - start))
        return self.inner.get_range(key, start, end)

    def put(self, key: str, data: bytes) -> None:
        raise AssertionError("a read does not write")

    def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:
        raise AssertionError("a read does not write")

    def list(self, prefix: str) -> Iterator[Stat]:
        raise AssertionError("a read does not list")

    def delete(self, keys: object) -> None:
        raise AssertionError("a read does not delete")

    @property
    def size(self) -> int:
        return sum(size for _, size in self.asked)


def cold_read(repo: Repository, path: str) -> tuple[bytes, Counting]:
    """Read one file with nothing but the keys, from the root on."""
    driver = Counting(repo.remote().driver)
    blob = driver.get(roots.KEY, limit=ROOT)
    assert blob
    header, body = read_header(blob.data, driver.url)
    vault = repo.vault
    root = read_body(header, body, vault, driver.url)
    reader = Reader(driver, roots.RootSnapshot(blob.version, header, root), vault)
    head = root.refs[HEAD]
    commit = model.decode_commit(reader.read(head), head)
    # The roster says whose a path is: there is at most one other group.
    closed = [group for group in commit.trees if group != model.ALL]
    group = closed[0] if closed and path.startswith("a/b/") else model.ALL
    content = commit.trees[group]
    for name in path.split("/"):
        entries = model.decode_tree(reader.read(content), content).entries
        (entry,) = (each for each in entries if each.name == name)
        content = entry.content
    assert stat.S_ISREG(entry.mode)
    data = reader.read(content)
    if entry.size == len(data):
        return data, driver
    # One piece of a large file.
    return reader.read(model.decode_chunks(data, content).chunks[0].id), driver


def claim(remote: Remote, repo: Repository, packs: int, objects: int, *, at_once: int) -> None:
    """List packs that nobody has written: for what lists them they are as good as any."""
    chance = random.Random(packs)
    epochs = repo.vault.epochs
    for _ in range(0, packs, at_once):
        sent = [
            Sent(
                Pack(chance.randbytes(32).hex(), 1 << 25, 1 << 24, epochs),
                make_index(
                    Location(Kind.CHUNK, chance.randbytes(32).hex(), 8 + 9000 * n, 9000)
                    for n in range(objects)
                ),
            )
            for _ in range(at_once)
        ]
        assert remote.seen
        made = listing.follow(remote, remote.seen, repo.vault, sent)
        following = roots.successor(remote.seen.root, **made.changes)
        remember(remote, remote.swap(remote.seen.header, following), sent)
        remote.driver.delete(f"tables/{each}" for each in made.stale)


def compacted(remote: Remote, repo: Repository) -> None:
    """Do what `gc` does to tables."""
    assert remote.seen
    made = listing.follow(remote, remote.seen, repo.vault, compact=True)
    following = roots.successor(remote.seen.root, **made.changes)
    remember(remote, remote.swap(remote.seen.header, following), ())


FILES = {
    "a/small": noise(9000, 1),
    "a/b/c/small": noise(9000, 2),
    "a/large": noise(1 * MiB, 3),
    "a/b/c/large": noise(1 * MiB, 4),
}


def check(repo: Repository, *, recent: int = 0, tables: int = 1) -> None:
    """Read each file; ``recent`` is 1 if there are recent packs, beside so many other tables."""
    for path, content in FILES.items():
        data, driver = cold_read(repo, path)
        assert content.startswith(data)
        # The root; then of each object below the root tree a page and a range.
        below = path.count("/") + 1 + ("large" in path)
        most = 1 + recent + below * (tables + 1)
        assert len(driver.asked) <= most, driver.asked
        if path == "a/small" and tables == 1:
            assert len(driver.asked) <= 6
        assert driver.size - len(data) < 2 * MiB


def prepared(ana: Machine) -> None:
    ana.commit(FILES, "files")
    ana("push")


def test_a_cold_read(tmp_path: Path, file_url: Place) -> None:
    ana = started(tmp_path / "ana", file_url, {".env": "KEY=1\n"})
    prepared(ana)
    with ana.repo() as repo, repo.locked():
        remote = repo.remote()
        check(repo, recent=1, tables=0)
        claim(remote, repo, 300, 20, at_once=20)
        check(repo, recent=1, tables=listing.OLDER)
        compacted(remote, repo)
        check(repo)
        claim(remote, repo, 3, 20, at_once=1)
        check(repo, recent=1)
    # What is inline is one request.
    ana.commit({".env": "KEY=2\n"})
    ana("push")
    with ana.repo() as repo:
        data, driver = cold_read(repo, ".env")
        assert data == b"KEY=2\n"
        assert [key for key, _ in driver.asked] == ["root"]


def test_a_cold_read_of_a_large_repository(tmp_path: Path, file_url: Place) -> None:
    """Far over 10,000 objects, in a table of their own: it is read whole, once."""
    ana = started(tmp_path / "ana", file_url, {".env": "KEY=1\n"})
    prepared(ana)
    with ana.repo() as repo, repo.locked():
        remote = repo.remote()
        for packs in (110, 130):
            claim(remote, repo, packs, 100, at_once=packs)
            claim(remote, repo, 2, 20, at_once=1)
            data, driver = cold_read(repo, "a/large")
            assert FILES["a/large"].startswith(data)
            assert len(driver.asked) <= 6, driver.asked
            assert driver.size - len(data) < 2 * MiB
            assert sum(1 for key, _ in driver.asked if key.startswith("tables/")) == 2
        assert sum(entry.objects for entry in remote.seen.root.tables if entry.lists) > 20_000


def test_a_cold_read_looks_first_where_it_found_something_last(
    tmp_path: Path, file_url: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold, "_WHOLE", 0)
    ana = started(tmp_path / "ana", file_url, {".env": "KEY=1\n"})
    prepared(ana)
    with ana.repo() as repo, repo.locked():
        remote = repo.remote()
        claim(remote, repo, 1, 15_000, at_once=1)
        compacted(remote, repo)
        claim(remote, repo, 1, 3000, at_once=1)  # another table, newer
        claim(remote, repo, 1, 20, at_once=1)
        assert remote.seen
        old = remote.seen.root.tables[-1].id
        _, driver = cold_read(repo, "a/large")
        tables = [key.removeprefix("tables/") for key, _ in driver.asked if "tables/" in key]
        assert len(remote.seen.root.tables) == 3
        assert tables.count(old) == len(tables) - 2


def test_a_cold_read_after_a_rotation_and_in_a_group(tmp_path: Path, file_url: Place) -> None:
    ana = started(tmp_path / "ana", file_url, {".env": "KEY=1\n"})
    ana("group", "add", "prod", "a/b/**")
    prepared(ana)
    with ana.repo() as repo, repo.locked():
        check(repo, recent=1, tables=0)
    ana("rotate")
    with ana.repo() as repo, repo.locked():
        check(repo)
        claim(repo.remote(), repo, 100, 20, at_once=20)
        check(repo, recent=1, tables=listing.OLDER)


def test_what_is_not_there(tmp_path: Path, file_url: Place) -> None:
    ana = started(tmp_path / "ana", file_url, {".env": "KEY=1\n"})
    prepared(ana)
    with ana.repo() as repo:
        remote = repo.remote()
        assert remote.seen
        reader = Reader(remote.driver, remote.seen, repo.vault)
        with pytest.raises(errors.MissingObject):
            reader.read("0" * 64)
        (packed,) = remote.seen.root.packs
        lost = next(
            at for at in repo.store.locations(packed.id, remote="origin") if at.kind.is_data
        )
        remote.driver.delete([f"packs/{packed.id}"])
        with pytest.raises(errors.MissingPack):
            reader.read(lost.id)


def test_a_table_that_lies_can_only_deny(tmp_path: Path, file_url: Place) -> None:
    """A member lists wrong places: what is read has another id, and is refused."""
    ana = started(tmp_path / "ana", file_url, {".env": "KEY=1\n"})
    prepared(ana)
    with ana.repo() as repo, repo.locked():
        remote = repo.remote()
        assert remote.seen
        (packed,) = remote.seen.root.packs
        held = repo.store.locations(packed.id, remote="origin")
        rotated = [
            at._replace(offset=other.offset, length=other.length)
            for at, other in zip(held, [*held[1:], held[0]], strict=True)
        ]
        made = listing.follow(
            remote, remote.seen, repo.vault, (Sent(packed, make_index(rotated)),), (packed.id,)
        )
        following = roots.successor(remote.seen.root, **made.changes)
        remember(remote, remote.swap(remote.seen.header, following), ())
        reader = Reader(remote.driver, remote.seen, repo.vault)
        inline = {each.id for each in remote.seen.root.inline}
        assert inline.issubset(at.id for at in held)
        for at in held:
            if at.id in inline:
                continue
            with pytest.raises(errors.CorruptObject):
                reader.read(at.id)


def test_a_part_of_a_file(tmp_path: Path, file_url: Place) -> None:
    """No piece is read that the part does not touch."""
    ana = started(tmp_path / "ana", file_url, {".env": "KEY=1\n"})
    large = noise(6 * MiB, 5)
    ana.commit({"a/large": large, "a/small": noise(9000, 6)})
    ana("push")
    with ana.repo() as repo:
        remote = repo.remote()
        counting = Counting(remote.driver)
        remote.driver = counting
        snapshot = cold.opened(remote)
        found = snapshot.find("a/large")
        assert found
        for start, end in ((0, 1), (3 * MiB, 3 * MiB + 5), (100, None), (6 * MiB, None), (5, 5)):
            counting.asked.clear()
            part = b"".join(snapshot.read(found, start, end))
            assert part == large[start:end]
            assert counting.size < len(part) + 9 * MiB
            if len(part) < 10:
                assert sum(key.startswith("packs/") for key, _ in counting.asked) <= 2
        blocks = snapshot.read(found)
        counting.asked.clear()
        next(blocks)
        assert counting.size <= 4 * MiB + 64 * 1024
        assert snapshot.find("a/none") is None
        assert snapshot.find("a/small/none") is None


def test_whose_tree_a_group_has(tmp_path: Path, file_url: Place) -> None:
    """Ben, who is not in the group, may carry its tree on, and can't put an older one in place."""
    ana = started(tmp_path / "ana", file_url, {".env": "KEY=1\n"}, "--name", "ana")
    ben = joined(ana, "ben")
    ana("group", "add", "prod", "prod/**", "--member", "ana")
    ana.commit({"prod/key": "1\n"})
    ana("push")
    old = Forge(ana).trees
    ana.commit({"prod/key": "2\n"})
    ana("push")
    ben("pull")
    ben.commit({"other": "1\n"})
    ben("push")
    follow(ben, ana)
    with ana.repo() as repo:
        snapshot = cold.opened(repo.remote())
        found = snapshot.find("prod/key")
        assert found
        assert b"".join(snapshot.read(found)) == b"2\n"
    with ben.repo() as repo:
        assert cold.opened(repo.remote()).find("prod/key") is None
    forge = Forge(ben)
    forge.trees = {**forge.trees, **{group: old[group] for group in old if group != model.ALL}}
    root = forge.encode(refs={HEAD: forge.commit(forge.signer)})
    driver_of(file_url).put("root", root)
    with ana.repo() as repo, pytest.raises(errors.ForgedCommit, match="ben was never in"):
        cold.opened(repo.remote()).find("prod/key")
