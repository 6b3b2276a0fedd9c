"""The records of push, fetch and pull hold what each of them knows; a log holds changes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from machines import Machine

from dorky import results
from dorky.store import objects


def keys(record: type[msgspec.Struct]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(record)]


def test_each_transfer_has_its_own_record(project: Machine, file_url: Any) -> None:
    project("remote", "add", "origin", file_url.url)
    project.write("late.env", b"A=1\n")
    project("stage", "late.env")
    project("commit", "-m", "late")
    pushed = project("push", "--json").json
    assert list(pushed) == keys(results.PushResult)
    assert pushed["founded"] is True
    assert pushed["objects"] > 0
    fetched = project("fetch", "--json").json
    assert list(fetched) == keys(results.FetchResult)
    assert (fetched["old"], fetched["new"]) == (pushed["new"], pushed["new"])
    pulled = project("pull", "--json").json
    assert list(pulled) == keys(results.PullResult)
    synced = project("sync", "--json").json
    assert synced["pushed"] is None
    # No field that another one alone can fill.
    assert not {"changes", "conflicts", "fingerprint"} & pushed.keys()
    assert not {"objects", "size", "founded", "changes"} & fetched.keys()
    assert not {"objects", "size", "founded"} & pulled.keys()


def test_a_log_tells_what_each_commit_changed(project: Machine) -> None:
    project.write("one.env", b"A=1\n")
    project("stage", "one.env")
    project("commit", "-m", "one")
    project.write("one.env", b"A=2\n")
    project.write("dir/two.env", b"B=1\n")
    project("stage", "one.env", "dir/two.env")
    project("commit", "-m", "two")
    project("rm", "--cached", "one.env")
    project("commit", "-m", "three")
    three, two, one = project("log", "-n", "3", "--json").json
    assert three["changes"] == [{"path": "one.env", "what": "deleted"}]
    assert two["changes"] == [
        {"path": "dir/two.env", "what": "added"},
        {"path": "one.env", "what": "modified"},
    ]
    assert one["changes"] == [{"path": "one.env", "what": "added"}]
    for found in (three, two, one):
        assert project("show", found["id"], "--json").json == found
    said = project("log", "-n", "2", "--oneline", "--name-status").out.splitlines()
    assert said[0].endswith("three")
    assert "  D one.env" in said
    assert said.index("  A dir/two.env") + 1 == said.index("  M one.env")


def test_no_tree_is_read_for_a_log_without_changes(
    project: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file changed in every commit would cost reading all the trees."""
    kinds: list[Any] = []
    read = objects.Store.read

    def spy(self: Any, *arguments: Any, **options: Any) -> Any:
        kinds.append(arguments)
        return read(self, *arguments, **options)

    monkeypatch.setattr(objects.Store, "read", spy)
    project("log")
    without = len(kinds)
    kinds.clear()
    project("log", "--json")
    assert len(kinds) > without
    kinds.clear()
    project("log", "-n", "0", "--json")
    assert len(kinds) <= without  # the limit bounds what is read
