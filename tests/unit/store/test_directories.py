"""Directories in parts: one id for each content, and no more read or written than needed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from depth import deep
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import opened

from dorky import errors
from dorky.format import model, seal
from dorky.format.model import MOST, PARTS, Entry, Kind, Tree
from dorky.keys.vault import OpenEpoch, Vault
from dorky.paths import parents
from dorky.store import directories, history, reachability
from dorky.store.objects import Store, Writer
from dorky.worktree import staging

REPOSITORY = "00112233445566778899aabbccddeeff"
OPS = "0123456789abcdef"
SEALED = Vault(
    REPOSITORY,
    [
        OpenEpoch("all", 1, seal.EpochKey(bytes(range(32))), 0),
        OpenEpoch(OPS, 1, seal.EpochKey(bytes(range(1, 33))), 1),
    ],
)
PLAIN = Vault(REPOSITORY, [])
vaults = pytest.mark.parametrize("vault", [SEALED, PLAIN], ids=["encrypted", "unencrypted"])


@pytest.fixture(params=[SEALED, *deep(PLAIN)], ids=["encrypted", "unencrypted"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path / "state", request.param) as found:
        yield found


def entry(name: str, content: int = 0) -> Entry:
    return Entry(name, 0o100644, f"{content:064x}", 5, "ab" * 32)


def named(count: int, content: int = 0) -> list[Entry]:
    return [entry(f"file-{n:06}.json", content) for n in range(count)]


def ordered(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda each: each.name.encode()))


def written(store: Store, entries: Sequence[Entry], group: str = "all") -> str:
    with store.writer() as writer:
        made = directories.write(writer, ordered(entries), group)
        writer.save()
    return made


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each tree object is read."""
    found: Counter[str] = Counter()
    really = directories.read_node

    def spy(store: Store, tree: str, group: str | None = None) -> Tree:
        found[tree] += 1
        return really(store, tree, group)

    monkeypatch.setattr(directories, "read_node", spy)
    return found


def nodes(store: Store, tree: str) -> dict[str, Tree]:
    found: dict[str, Tree] = {}
    pending = [tree]
    while pending:
        each = pending.pop()
        found[each] = directories.read_node(store, each)
        pending += filter(None, found[each].parts)
    return found


# --- one id for one directory ---------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, MOST, MOST + 1, 3000, 9000])
def test_what_is_written_is_read_back(store: Store, count: int) -> None:
    entries = ordered(named(count))
    tree = written(store, entries)
    assert directories.read(store, tree, "all") == entries
    held = nodes(store, tree)
    assert (len(held) == 1) is (count <= MOST)
    assert all(len(node.entries) <= MOST for node in held.values())
    for name in ("file-000000.json", "file-002999.json", "file-008999.json", "other", ""):
        found = directories.find(store, tree, "all", name)
        assert found == next((each for each in entries if each.name == name), None)


def test_vectors(tmp_path: Path) -> None:
    """Where one changes, docs/internals/format.md must."""
    assert SEALED.place("file-000001.json") == "ef0323fd1974b638"
    assert PLAIN.place("file-000001.json") == "42bb7117a4b96085"
    assert SEALED.place("file-000001.json", group=OPS) != SEALED.place("file-000001.json")
    with opened(tmp_path / "a", PLAIN) as store:
        assert written(store, named(600)) == (
            "3ae16c3b120dcd29d4ea251b20b86da612ef9add59adf447ea9446551fba9a0f"
        )
    with opened(tmp_path / "b", SEALED) as store:
        assert written(store, named(600)) == (
            "024f2a1a0fa340558138f8c9c2457ed385703efad155eec38bbfbeef2191ff28"
        )


@settings(max_examples=12, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.lists(st.integers(0, 1400), min_size=1, max_size=4),
    st.sampled_from([SEALED, PLAIN]),
)
def test_the_way_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random, steps: list[int], vault: Vault
) -> None:
    """Entries come and go in any order: what is there in the end decides the id alone."""
    held: dict[str, Entry] = {}
    with opened(tmp_path_factory.mktemp("state") / "s", vault) as store:
        ids = {}
        for size in steps:
            for name in chance.sample(sorted(held), k=len(held) // 2):
                del held[name]
            while len(held) > size:
                held.popitem()
            while len(held) < size:
                new = entry(f"{chance.getrandbits(40):x}é{len(held)}", chance.getrandbits(8))
                held[new.name] = new
            ids[tuple(sorted(held))] = written(store, list(held.values()))
        final = ordered(list(held.values()))
        paths = [(each.name, each) for each in final]
        chance.shuffle(paths)
        with store.writer() as writer:
            again = staging.write_entries(paths, writer)
            writer.save()
        assert again == ids[tuple(sorted(held))]
        assert directories.read(store, again, "all") == final
    with opened(tmp_path_factory.mktemp("state") / "s", vault) as fresh:
        assert written(fresh, final) == again


@settings(max_examples=12, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 300)), min_size=1, max_size=4),
    st.sampled_from([SEALED, PLAIN]),
)
def test_edits_make_what_writing_makes(
    tmp_path_factory: pytest.TempPathFactory,
    chance: random.Random,
    steps: list[tuple[int, int]],
    vault: Vault,
) -> None:
    """Directories grow into parts, shrink out of them, and go with their last file."""
    held: dict[str, Entry] = {}
    with opened(tmp_path_factory.mktemp("state") / "s", vault) as store:
        tree = None
        for added, deleted in steps:
            edits: dict[str, Entry | None] = {}
            for path in chance.sample(sorted(held), k=min(deleted, len(held))):
                edits[path] = None
            for _ in range(added):
                path = f"{chance.choice(['', 'd/', 'd/e/', 'f/'])}{chance.getrandbits(10):x}.json"
                edits[path] = entry(path.rpartition("/")[2], chance.getrandbits(8))
            with store.writer() as writer:
                tree = directories.edit(store, writer, "all", tree, edits)
                writer.save()
            held.update({path: new for path, new in edits.items() if new})
            for path in edits.keys() - {path for path, new in edits.items() if new}:
                held.pop(path, None)
            with store.writer() as writer:
                assert tree == staging.write_entries(held.items(), writer)
                writer.save()


def test_an_edit_of_a_large_directory_reads_one_part(store: Store, reads: Counter[str]) -> None:
    tree = written(store, named(9000))
    reads.clear()
    with store.writer() as writer:
        made = directories.edit(store, writer, "all", tree, {"new": entry("new")})
        writer.save()
    assert len(reads) <= 3
    assert made == written(store, [*named(9000), entry("new")])


names = st.text(alphabet="-/0a\u00e9\U0001f600", min_size=1, max_size=9)


@given(st.sets(names.filter(lambda path: all(path.split("/")))))
def test_files_come_in_the_order_of_their_whole_paths(
    tmp_path_factory: pytest.TempPathFactory, paths: set[str]
) -> None:
    """As the index has them: `a-b` before `a/b`, and both before `a0`."""
    held = {path for path in paths if not any(above in paths for above in parents(path))}
    expected = [(path, entry(path.rpartition("/")[2])) for path in sorted(held)]
    with opened(tmp_path_factory.mktemp("state") / "s", PLAIN) as store:
        with store.writer() as writer:
            root = staging.write_sorted(expected, writer)
            assert staging.write_entries(reversed(expected), writer) == root
            writer.save()
        assert [*history.files_in_order(store, "all", root)] == expected
        assert sorted(history.files_below(store, "all", root)) == expected


def test_each_group_has_its_own_parts(tmp_path: Path) -> None:
    with opened(tmp_path / "state", SEALED) as store:
        one, other = (nodes(store, written(store, named(2000), each)) for each in ("all", OPS))
        sizes = [sorted(len(node.entries) for node in each.values()) for each in (one, other)]
        assert not one.keys() & other.keys()
        assert sizes[0] != sizes[1]


# --- no more than needed --------------------------------------------------------------------


def test_a_change_in_a_large_directory_is_small(store: Store, reads: Counter[str]) -> None:
    entries = named(100_000)
    old = written(store, entries)
    before = sum(packed.size for packed in store.packs())
    entries[4711] = entry(entries[4711].name, 1)
    entries[4712:4712] = [entry("new")]
    new = written(store, entries)
    sizes = [packed.size for packed in store.packs()]
    assert 0 < sum(sizes) - before <= 2 * 64 * 1024  # two entries
    held = [len(nodes(store, tree)) for tree in (old, new)]
    assert held[0] == held[1] <= 300
    reads.clear()
    assert directories.compare(store, "all", old, new) == [
        ("file-004711.json", entry("file-004711.json"), entries[4711]),
        ("new", None, entry("new")),
    ]
    assert sum(reads.values()) <= 2 * (1 + 2 * 2)
    reads.clear()
    assert directories.find(store, new, "all", "new") == entry("new")
    assert directories.find(store, new, "all", "gone") is None
    assert sum(reads.values()) <= 2 * 3
    reads.clear()
    found = dict(history.files_below(store, "all", new, {"new", "file-000007.json", "no"}))
    assert found.keys() == {"new", "file-000007.json"}
    assert sum(reads.values()) <= 1 + 3 * 2


def test_a_change_of_one_entry_costs_one_part(store: Store) -> None:
    entries = named(100_000)
    written(store, entries)
    before = sum(packed.size for packed in store.packs())
    for at in (0, 50_000, 99_999):
        entries[at] = entry(entries[at].name, 9)
        written(store, entries)
        after = sum(packed.size for packed in store.packs())
        assert after - before <= 64 * 1024
        before = after


@pytest.mark.parametrize(
    ("old", "new"), [(0, 600), (600, 0), (512, 513), (513, 512), (600, 9000), (9000, 600), (7, 7)]
)
def test_differences_across_forms(store: Store, old: int, new: int) -> None:
    left, right = named(old), named(new, 1)[: max(0, new - 3)]
    found = directories.compare(store, "all", written(store, left), written(store, right))
    was, now = ({each.name: each for each in side} for side in (left, right))
    assert found == [
        (name, was.get(name), now.get(name))
        for name in sorted(was.keys() | now.keys())
        if was.get(name) != now.get(name)
    ]
    assert directories.compare(store, "all", None, written(store, right)) == [
        (name, None, now[name]) for name in sorted(now)
    ]


def test_everything_is_reached(store: Store) -> None:
    below = written(store, named(700))
    top = [*named(600), Entry("dir", 0o040000, below)]
    tree = written(store, top)
    with store.writer() as writer:
        commit = history.add_commit(writer, {"all": tree}, [], author="A", message="m")
        writer.save()
    held = nodes(store, tree).keys() | nodes(store, below).keys()
    assert reachability.reach(store, [commit]).trees == held
    assert history.below(store, [tree])[0] == held
    files = dict(history.files_of(store, {"all": tree}))
    assert files.keys() == {each.name for each in named(600)} | {
        f"dir/{each.name}" for each in named(700)
    }
    (found,) = history.lookup(store, {"all": tree}, "dir/file-000699.json")
    assert found == named(700)[-1]


# --- what no writer makes -------------------------------------------------------------------


def test_objects_that_can_not_be() -> None:
    one = "1" * 64
    for tree in (
        Tree((), (one,) * (PARTS - 1)),
        Tree((), (one,) * (PARTS + 1)),
        Tree((), ("",) * PARTS),
        Tree((entry("a"),), (one,) * PARTS),
        Tree(tuple(named(MOST + 1))),
    ):
        with pytest.raises(errors.CorruptObject):
            model.decode_tree(model.encode(tree), one)
    for parts in ('["x"%s]' % (',""' * 15), "[1]", '{"0":""}', "null"):
        with pytest.raises(errors.CorruptObject):
            model.decode_tree(b'{"entries":[],"parts":%s}' % parts.encode(), one)
    assert model.decode_tree(model.encode(Tree(tuple(named(MOST)))), one)


Forge = Callable[[Writer, dict[str, list[Entry]]], list[str]]


def part(writer: Writer, entries: Sequence[Entry]) -> str:
    return writer.add(Kind.TREE, model.encode(Tree(ordered(entries))))


def misplaced(writer: Writer, by: dict[str, list[Entry]]) -> list[str]:
    """An entry in another part than its name's."""
    parts = [part(writer, by[f"{n:x}"]) for n in range(PARTS)]
    parts[3], parts[4] = parts[4], parts[3]
    return parts


def doubled(writer: Writer, by: dict[str, list[Entry]]) -> list[str]:
    """A name in its own part and, with other content, in another."""
    extra = entry(by["0"][0].name, 7)
    return [part(writer, [*by[f"{n:x}"], *([extra] if n == 9 else [])]) for n in range(PARTS)]


def repeated(writer: Writer, by: dict[str, list[Entry]]) -> list[str]:
    """Sixteen times sixteen times … the same nothing."""
    below = writer.add(Kind.TREE, model.encode(Tree(())))
    for _ in range(20):
        below = writer.add(Kind.TREE, model.encode(Tree((), (below,) * PARTS)))
    return [below] * PARTS


def deep(writer: Writer, by: dict[str, list[Entry]]) -> list[str]:
    """A part below the last digit of a name."""
    name = by["0"][0].name
    below = part(writer, [by["0"][0]])
    for digit in reversed(writer.vault.place(name)[1:] + "000"):
        parts = ["" for _ in range(PARTS)]
        parts[int(digit, 16)] = below
        below = writer.add(Kind.TREE, model.encode(Tree((), tuple(parts))))
    return [below, *("" for _ in range(PARTS - 1))]


@pytest.mark.parametrize("forge", [misplaced, doubled, repeated, deep])
def test_what_is_malformed_is_refused(store: Store, forge: Forge, reads: Counter[str]) -> None:
    by: dict[str, list[Entry]] = {f"{n:x}": [] for n in range(PARTS)}
    for each in named(600):
        by[store.vault.place(each.name)[0]].append(each)
    good = written(store, named(600))
    with store.writer() as writer:
        parts = forge(writer, by)
        tree = writer.add(Kind.TREE, model.encode(Tree((), tuple(parts))))
        writer.save()
    for read in (
        lambda: directories.read(store, tree, "all"),
        lambda: directories.compare(store, "all", good, tree),
        lambda: directories.compare(store, "all", tree, None),
        lambda: dict(history.files_below(store, "all", tree)),
    ):
        with pytest.raises(errors.CorruptObject):
            read()
    assert sum(reads.values()) < 2000
    # Looking for one name reads that name's part alone, and finds it or an error.
    for each in named(600)[:50]:
        try:
            found = directories.find(store, tree, "all", each.name)
        except errors.CorruptObject:
            continue
        assert found is None or found == each


def test_a_missing_part(store: Store) -> None:
    tree = written(store, named(600))
    parts = list(directories.read_node(store, tree).parts)
    parts[5] = "f" * 64
    with store.writer() as writer:
        broken = writer.add(Kind.TREE, model.encode(Tree((), tuple(parts))))
        writer.save()
    with pytest.raises(errors.MissingObject):
        directories.read(store, broken, "all")
    failed: list[str] = []
    with store.writer() as writer:
        commit = history.add_commit(writer, {"all": broken}, [], author="A", message="m")
        writer.save()
    reachability.reach(store, [commit], failed=lambda each, _: failed.append(each))
    assert failed == ["f" * 64]
