"""A remote of very many packs that is cheap to make, in memory, and counts what it is asked.

The packs are real: every object opens and every file reads. But they are made directly, without a
worktree, and are a few kilobytes each.
"""

from __future__ import annotations

import hashlib
import random
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from machines import signed

from dorky import errors
from dorky.drivers.base import LIMIT, Blob, Stat, Version
from dorky.format import model
from dorky.format.model import (
    ALL,
    Chunk,
    Chunks,
    Commit,
    Entry,
    Inline,
    KiB,
    Kind,
    ObjectId,
    Record,
    Tree,
)
from dorky.remote import gc, listing, push, rotate
from dorky.remote import root as roots
from dorky.remote.journal import Sent
from dorky.remote.push import Stored
from dorky.remote.root import HEAD, PACKS, TABLES
from dorky.repo import Repository

SMALL = 3 * KiB
"""What counts as a small pack here: those of pushes are, those of the data set are not."""

_FILES = 3
"""Files of a pack."""
DIRECTORY = 150
"""Packs of a directory."""


class MemoryDriver:
    """A dictionary that counts requests and bytes."""

    scheme: ClassVar[str] = "memory"
    places: ClassVar[dict[str, MemoryDriver]] = {}

    def __init__(self, url: str) -> None:
        self.url = url
        self.objects: dict[str, tuple[bytes, datetime]] = {}
        self.asked: list[tuple[str, str, int]] = []
        """Requests: the method, the key, and how many bytes went up or down."""

    @classmethod
    def open(cls, url: str, options: object) -> MemoryDriver:
        return cls.places.setdefault(url, cls(url))

    def count(self, *methods: str, key: str = "") -> int:
        return sum(
            method in (methods or (method,)) and name.startswith(key)
            for method, name, _ in self.asked
        )

    def size(self, *methods: str, key: str = "") -> int:
        return sum(
            size
            for method, name, size in self.asked
            if method in (methods or (method,)) and name.startswith(key)
        )

    def _find(self, key: str) -> bytes:
        try:
            return self.objects[key][0]
        except KeyError:
            raise errors.KeyNotFound(key, self.url) from None

    def get(self, key: str, *, unless: Version | None = None, limit: int = LIMIT) -> Blob | None:
        data = self._find(key)
        version = Version(hashlib.sha256(data).hexdigest())
        self.asked.append(("get", key, 0 if version == unless else len(data)))
        return None if version == unless else Blob(data, version)

    def get_range(self, key: str, start: int, end: int) -> bytes:
        self.asked.append(("range", key, end - start))
        data = self._find(key)
        if end > len(data):
            raise errors.BadEndpoint(self.url, "too short")
        return data[start:end]

    def put(self, key: str, data: bytes) -> None:
        self.asked.append(("put", key, len(data)))
        self.objects[key] = (data, datetime.now(timezone.utc))

    def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:
        self.asked.append(("swap", key, len(data)))
        held = self.objects.get(key)
        if (hashlib.sha256(held[0]).hexdigest() if held else None) != expected:
            raise errors.PreconditionFailed(key, self.url)
        self.objects[key] = (data, datetime.now(timezone.utc))
        return Version(hashlib.sha256(data).hexdigest())

    def list(self, prefix: str) -> Iterator[Stat]:
        found = [
            Stat(key, len(data), at)
            for key, (data, at) in self.objects.items()
            if key.startswith(prefix)
        ]
        for n in range(0, max(1, len(found)), 1000):
            self.asked.append(("list", prefix, 0))
            yield from found[n : n + 1000]

    def delete(self, keys: Iterable[str]) -> None:
        for n, key in enumerate(keys):
            if n % 1000 == 0:
                self.asked.append(("delete", key, 0))
            self.objects.pop(key, None)


def install(directory: Path, patch: pytest.MonkeyPatch) -> None:
    """Install the driver, as pip installs one, and let packs of a few kilobytes be large ones."""
    metadata = directory / "dorky_bulk-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: dorky-bulk\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[dorky.drivers]\nmemory = {__name__}:MemoryDriver\n"
    )
    patch.syspath_prepend(str(directory))
    patch.setitem(sys.modules, __name__, sys.modules[__name__])
    for module in (push, gc, rotate):
        patch.setattr(module, "SMALL", SMALL)


class Bulk(NamedTuple):
    """The content of some of the files that were made, by path."""

    files: dict[str, bytes]


class _Maker:
    def __init__(self, repo: Repository) -> None:
        self.repo, self.vault, self.remote = repo, repo.vault, repo.remote()
        self.chance = random.Random(12)
        # Inline objects move into the first pack, as by a push.
        self.objects: list[Stored] = []
        self.sent: list[Sent] = []
        seen = self.remote.seen
        assert seen
        self.objects += [(each.kind, each.id, each.data) for each in seen.root.inline]
        self.head = seen.root.refs[HEAD]

    def add(self, kind: Kind, body: bytes, group: str = ALL) -> ObjectId:
        made = self.vault.object_id(kind, body, group=group)
        self.objects.append((kind, made, self.vault.store(kind, made, body, group=group)))
        return made

    def record(self, kind: Kind, record: Record, group: str = ALL) -> ObjectId:
        return self.add(kind, model.encode(record), group)

    def file(self, name: str, data: bytes, group: str, *, pieces: int = 1) -> Entry:
        step = -(-len(data) // pieces)
        parts = [data[n : n + step] for n in range(0, len(data), step)]
        chunks = tuple(Chunk(self.add(Kind.CHUNK, each, group), len(each)) for each in parts)
        content = chunks[0].id if pieces == 1 else self.record(Kind.CHUNKS, Chunks(chunks), group)
        digest = hashlib.sha256(data).hexdigest()
        return Entry(name, stat.S_IFREG | 0o644, content, len(data), digest)

    def tree(self, entries: Mapping[str, Entry | dict[str, Any]], group: str) -> ObjectId:
        made = [
            Entry(name, stat.S_IFDIR, self.tree(each, group)) if isinstance(each, dict) else each
            for name, each in sorted(entries.items())
        ]
        return self.record(Kind.TREE, Tree(tuple(made)), group)

    def pack(self) -> None:
        for sent, data in push.build(self.vault, self.objects):
            self.remote.driver.put(PACKS + sent.pack.id, data)
            self.sent.append(sent)
        self.objects = []

    def commit(self, trees: dict[str, ObjectId]) -> list[Stored]:
        """Add a commit; return it and its root trees, which are to be inline."""
        now = datetime.now(timezone.utc).replace(microsecond=0)
        made = signed(self.repo, Commit(trees, (self.head,), "ana", now, "bulk"))
        self.head = self.record(Kind.COMMIT, made)
        first = {self.head, *trees.values()}
        return [each for each in self.objects if each[1] in first]

    def swap(self, inline: list[Stored] | None = None) -> None:
        """List what was packed since, as a push would."""
        seen = self.remote.seen
        assert seen
        made = listing.follow(self.remote, seen, self.vault, self.sent)
        changes: dict[str, Any] = dict(made.changes)
        if inline is not None:
            log = [each for each in seen.root.inline if each.kind is Kind.TEAM]
            changes |= {
                "refs": {HEAD: self.head},
                "inline": (*log, *(Inline(*each) for each in inline)),
            }
        root = roots.successor(seen.root, **changes)
        push.remember(self.remote, self.remote.swap(seen.header, root), self.sent)
        self.remote.driver.delete(TABLES + each for each in made.stale)
        self.sent = []


def fill(repo: Repository, packs: int, pushes: int, group: str) -> Bulk:
    """Fill a remote: pushes of one small pack each, and one data set of many packs.

    The data set has files at depth 2 (``d0/``) and 4 (``far/``), every tenth of them cut into
    pieces, and a tenth of the directories belongs to a group (``prod/``, depth 3).
    """
    make = _Maker(repo)
    files: dict[str, bytes] = {}
    kept = {f"k{n}": make.file(f"k{n}", b"%d" % n, ALL) for n in range(10)}
    for n in range(pushes):
        kept[f"k{n % 10}"] = make.file(f"k{n % 10}", b"value %d" % n, ALL)
        inline = make.commit({ALL: make.tree({"push": dict(kept)}, ALL)})
        make.pack()
        make.swap(inline)
    everybody: dict[str, Any] = {"push": dict(kept), "far": {}}
    closed: dict[str, Any] = {}
    for n in range(packs):
        area, at = divmod(n, DIRECTORY)
        if area % 10 == 1:
            where, readers, path = closed.setdefault(f"d{area}", {}), group, f"prod/d{area}"
        elif area % 2:
            where = everybody["far"].setdefault(f"x{area // 20}", {}).setdefault(f"y{area}", {})
            readers, path = ALL, f"far/x{area // 20}/y{area}"
        else:
            where, readers, path = everybody.setdefault(f"d{area}", {}), ALL, f"d{area}"
        for m in range(_FILES):
            name, large = f"f{at}-{m}", (n * _FILES + m) % 10 == 0
            data = make.chance.randbytes(3000 if large else 1200)
            where[name] = make.file(name, data, readers, pieces=3 if large else 1)
            if at in {0, 30, 77, 149}:
                files[f"{path}/{name}"] = data
        make.pack()
        if len(make.sent) >= 2000:
            make.swap()
    trees = {ALL: make.tree(everybody, ALL), group: make.tree({"prod": closed}, group)}
    inline = make.commit(trees)
    make.pack()
    make.swap(inline)
    return Bulk(files)
