"""Few rows decide as all rows do: what a checkout and `stage` read of the index."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from machines import started
from servers import Remote

from dorky import errors
from dorky.commands import checkout
from dorky.format import model
from dorky.format.model import ALL, ObjectId
from dorky.keys import placement
from dorky.paths import parents
from dorky.repo import Repository
from dorky.store import history
from dorky.store.history import Placed
from dorky.store.index import Index, Row
from dorky.store.projection import View
from dorky.worktree import ingest, staging

# Names next to each other in the order of their bytes, in two cases, of a group, and contested.
PATHS = [
    *("a", "a!", "a/b", "a/b/c", "a/b!", "a/c", "a0", "A", "A/b", "é", "é/x"),
    *("g/x", "g/x/y", "h/x", "c", "c/x", "c/x/y", "c/y"),
]
FILE, LINK = stat.S_IFREG | 0o600, stat.S_IFLNK

paths = st.sampled_from(PATHS)
some = st.sets(paths, max_size=4)
file = st.tuples(
    st.sampled_from([0, 0, 0, 1, 2]), st.sampled_from([FILE, FILE, LINK]), st.sampled_from("12")
)
files = st.dictionaries(paths, file, max_size=8)
"""The group, the mode and the content of each file."""
edits = st.dictionaries(paths, st.sampled_from(["gone", "edited", "link", "directory", "file"]))


def fitting(found: Iterable[str]) -> set[str]:
    """Those of some paths that can exist together."""
    held = {*found}
    return {path for path in held if held.isdisjoint(parents(path))}


def contest(repo: Repository) -> tuple[ObjectId, ...]:
    """Let the patterns of two groups overlap, as somebody may write by hand; give the groups."""
    one, two = repo.roster.groups
    changed = tuple(
        msgspec.structs.replace(group, patterns=patterns)
        for group, patterns in ((one, ("g/**", "c/**")), (two, ("h/**", "c/x/**", "c/x")))
    )
    known = msgspec.structs.replace(repo.roster, groups=changed)
    repo.database.set("roster", model.encode(known))
    repo.index.set_groups(repo.vault.groups)
    repo.index.set_claims(placement.claims(known))
    return ALL, one.id, two.id


class Example:
    """Two commits, what is staged, and what is on the disk."""

    def __init__(self, repo: Repository, groups: tuple[ObjectId, ...]) -> None:
        self.repo = repo
        self.groups = groups

    def trees(self, held: Mapping[str, tuple[int, int, str]]) -> dict[str, ObjectId]:
        """Store trees, in each of which all files fit together."""
        store = self.repo.store
        items = []
        with store.writer() as writer:
            for n, group in enumerate(self.groups):
                for path in fitting(path for path, (of, _, _) in held.items() if of == n):
                    _, mode, text = held[path]
                    name = path.rpartition("/")[2]
                    data = text.encode()
                    entry = ingest.store_bytes(store, writer, name, mode, data, group=group)
                    items.append((path, group, entry))
            found = staging.write_placed(items, writer, self.groups)
            writer.save()
        return found

    def commit(self, trees: dict[str, ObjectId]) -> ObjectId:
        with self.repo.store.writer() as writer:
            made = history.add_commit(writer, trees, [], author="ana", message="x")
            writer.save()
        return made

    def stage(self, held: Mapping[str, Placed]) -> None:
        index, vault = self.repo.index, self.repo.vault
        rows = (staging.row_of(path, held[path], vault, absent=False) for path in fitting(held))
        index.remove(index.names())
        index.put(rows)

    def lay_out(self, changed: Mapping[str, str]) -> None:
        """Write what is staged, with some changes."""
        root = self.repo.root
        for place in root.iterdir():
            if place.name not in {".dorky", ".dorkyrc"}:
                shutil.rmtree(
                    place
                ) if place.is_dir() and not place.is_symlink() else place.unlink()
        rows = self.repo.index.rows()
        for path in fitting([*changed, *(path for path in rows if path not in changed)]):
            how = changed.get(path, "")
            place = root / path
            if how == "gone":
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if how == "directory":
                (place / "inside").mkdir(parents=True)
                (place / "inside" / "file").write_text("x")
            elif how == "link" or (not how and stat.S_ISLNK(rows[path].mode)):
                place.symlink_to("1")
            else:
                place.write_text("1" if path in rows and not how else "other")
                place.chmod(0o600)


def planned(
    repo: Repository, few: int, old: ObjectId, after: View, unwanted: set[str], keep: set[str]
) -> dict[str, Any]:
    """What a plan does, and what is done with it, when at most so many changes take few rows."""
    with mock.patch.object(checkout, "_FEW", few):
        rows, made = checkout.plan_checkout(
            repo, old, after, lambda path: path not in unwanted, keep
        )
    touched = {*made.write, *made.leave, *made.judged}
    touched |= made.remove | made.forget | made.conflicts | made.unjudged
    group_of = checkout.readable_grouping(repo, rows)
    replaced = checkout._replaced(rows, made)
    return {
        **made._asdict(),
        "write": dict(made.write),
        "leave": dict(made.leave),
        "adopt": sorted(row._replace(seen=0) for row in made.adopt),
        "changes": made.changes(rows),
        "replaced": sorted(replaced),
        "rows": {path: (rows.get(path), group_of(path)) for path in touched},
    }


def chosen(repo: Repository, rows: Mapping[str, Row], names: Collection[str]) -> object:
    """What staging some paths does."""
    try:
        found = staging.select(repo.worktree, repo.ignore, rows, sorted(names))
    except errors.DorkyError as error:
        return type(error), error.args
    gone = (found.gone & rows.keys()) | staging.displaced(found.present, rows)
    about = {path: rows.get(path) for path in {*found.present, *gone, *names}}
    return {**found._asdict(), "omitted": {*found.omitted}, "gone": gone, "rows": about}


def examine(tmp_path: Path, file_url: Remote, examples: int) -> None:
    ana = started(tmp_path / "ana", file_url, {"first": "1"}, "--name", "ana")
    for name, pattern in (("one", "g/**"), ("two", "h/**")):
        ana("group", "add", name, pattern)
    with ana.repo() as repo:
        groups = contest(repo)
        around = mock.Mock(side_effect=Index.around, autospec=True)

        @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
        @given(files, files, files, some, edits, some, some, some)
        def check(
            before: dict[str, tuple[int, int, str]],
            new: dict[str, tuple[int, int, str]],
            apart: dict[str, tuple[int, int, str]],
            unstaged: set[str],
            changed: dict[str, str],
            unwanted: set[str],
            keep: set[str],
            named: set[str],
        ) -> None:
            example = Example(repo, groups)
            old = example.trees(before)
            after = View(repo.store, example.trees({**before, **new}), repo.owner)
            other = View(repo.store, example.trees(apart), repo.owner)
            staged = dict(View(repo.store, old, repo.owner).files()) | dict(other.files())
            example.stage({path: staged[path] for path in staged.keys() - unstaged})
            example.lay_out(changed)
            commit = example.commit(old)
            plans = [planned(repo, few, commit, after, unwanted, keep) for few in (-1, 500)]
            assert plans[0] == plans[1]
            for names in ({name} for name in named):
                rows = (repo.index.rows(), repo.index.around(names))
                assert chosen(repo, rows[0], names) == chosen(repo, rows[1], names)

        with mock.patch.object(Index, "around", lambda *given: around(*given)):
            check()
        assert around.called


def test_few_rows_decide_as_all_rows_do(tmp_path: Path, file_url: Remote) -> None:
    examine(tmp_path, file_url, 40)


@pytest.mark.deep
def test_few_rows_decide_as_all_rows_do_in_many_cases(tmp_path: Path, file_url: Remote) -> None:
    examine(tmp_path, file_url, 3000)
