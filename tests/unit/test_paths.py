"""Paths in a repository: what is above them, and which patterns select them."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import example, given
from strategies import patterns, some_paths

from dorky.paths import matches, parents, shown


def stated(pattern: str) -> str:
    """A pattern as a regular expression for paths in which every name ends with a slash."""
    return "".join(
        "(?:[^/]+/)*" if name == "**" else _stated(name) + "/" for name in pattern.split("/")
    )


def _stated(name: str) -> str:
    found = ""
    for token in re.findall(r"\[!?[^]]+\]|.", name, re.DOTALL):
        if token == "*":
            found += "[^/]*"
        elif token == "?":
            found += "[^/]"
        elif len(token) > 1:
            found += token.replace("!", "^")
        else:
            found += re.escape(token)
    return found


@given(some_paths, patterns)
@example("a", "**")
@example("a/b", "**/**")
@example("a", "a/**")
@example("a/b/a/b", "**/a/b")
def test_matches_is_what_the_expression_says(path: str, pattern: str) -> None:
    assert matches(path, pattern) is bool(re.fullmatch(stated(pattern), path + "/"))


@given(some_paths, some_paths)
def test_a_name_without_wildcards_matches_itself(path: str, other: str) -> None:
    plain = re.sub(r"[*\[]", "x", path)
    assert matches(plain, plain)
    assert not matches(plain, f"{plain}/{other}")
    assert not matches(f"{plain}x", plain)


@given(some_paths)
def test_parents_are_what_is_above_outermost_first(path: str) -> None:
    parts = path.split("/")
    assert list(parents(path)) == ["/".join(parts[:n]) for n in range(1, len(parts))]


def test_the_top_has_no_parents() -> None:
    assert list(parents("a")) == []


# Patterns come from the roster, and paths from anybody's trees.
def test_many_wildcards_are_no_reason_to_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    def look(name: str, pattern: str) -> bool:
        nonlocal looked
        looked += 1
        assert looked < 10_000
        return name == pattern

    monkeypatch.setattr(fnmatch, "fnmatchcase", look)
    assert not matches("/".join(["d"] * 100), "**/d/" * 8 + "x")
    assert matches("/".join(["d"] * 100), "**/d/" * 8 + "d")


def test_a_path_as_long_as_a_disk_allows() -> None:
    path = "/".join(["d"] * 2000)
    assert matches(path, path)


def test_three_are_shown_and_how_many_more_there_are() -> None:
    assert shown(["", "a"]) == "., a"
    assert shown(["a", "b", "c"]) == "a, b, c"
    assert shown(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
