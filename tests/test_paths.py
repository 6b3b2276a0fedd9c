"""Paths in a repository: what is above them, and which patterns select them."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dorky.paths import lies_in, matches, parents, shown

names = st.sampled_from(["a", "b", "ab", "ba", "A", "aab", ".a", "a.b", "*", "[ab]", "a\nb", "é"])
some_paths = st.lists(names, min_size=1, max_size=5).map("/".join)
wild = [
    "**",
    "*",
    "?",
    "a*",
    "*b",
    "*a*",
    "a?b",
    "[ab]",
    "[!a]",
    "[ab]*",
    ".*",
    "a.b",
    "[*]",
    "**b",
]
patterns = st.lists(st.one_of(names, st.sampled_from(wild)), min_size=1, max_size=5).map("/".join)


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


@given(some_paths, patterns)
@example("a/b", "**/**/a")
def test_a_pattern_selects_what_lies_below_as_well(path: str, pattern: str) -> None:
    below = stated(pattern) + "(?:[^/]+/)*"
    assert lies_in(path, pattern) is bool(re.fullmatch(below, path + "/"))
    assert lies_in(path, pattern) is matches(path, f"{pattern}/**")


@given(some_paths, some_paths)
def test_a_name_without_wildcards_selects_itself_and_what_is_below(path: str, other: str) -> None:
    plain = re.sub(r"[*\[]", "x", path)
    assert matches(plain, plain)
    assert lies_in(plain, plain)
    assert lies_in(f"{plain}/{other}", plain)
    assert not lies_in(plain, f"{plain}/{other}")
    assert not lies_in(f"{plain}x", plain)


@pytest.mark.parametrize(
    ("pattern", "selected", "not_selected"),
    [
        (
            "env/prod",
            ["env/prod", "env/prod/.env", "env/prod/a/b"],
            ["env", "env/production", "env/prod.env", "prod", "x/env/prod", "ENV/prod"],
        ),
        ("env/prod/**", ["env/prod", "env/prod/.env", "env/prod/a/b"], ["env", "env/production"]),
        ("env/*.env", ["env/a.env", "env/.env", "env/a.env/b"], ["env/a/b.env", "a.env", "env/a"]),
        ("**/.env", [".env", "a/.env", "a/b/.env", "a/.env/x"], ["a/x.env", ".envrc"]),
        ("**/keys/*.pem", ["keys/a.pem", "a/b/keys/a.pem"], ["keys/a/b.pem", "keys/a.pem.txt"]),
        ("**b", ["b", "ab", "ab/c"], ["a", "x/ab", "x/y/b"]),
        ("*", ["a", "a/b", ".env"], []),
        ("**", ["a", "a/b", ".env"], []),
    ],
)
def test_patterns_as_people_write_them(
    pattern: str, selected: list[str], not_selected: list[str]
) -> None:
    assert [path for path in selected if not lies_in(path, pattern)] == []
    assert [path for path in not_selected if lies_in(path, pattern)] == []


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
    assert not lies_in("/".join(["d"] * 100), "**/d/" * 8 + "x")
    assert lies_in("/".join(["d"] * 100), "**/d/" * 8 + "d")


def test_a_path_as_long_as_a_disk_allows() -> None:
    path = "/".join(["d"] * 2000)
    assert matches(path, path)
    assert lies_in(f"{path}/a", path)


def test_three_are_shown_and_how_many_more_there_are() -> None:
    assert shown(["", "a"]) == "., a"
    assert shown(["a", "b", "c"]) == "a, b, c"
    assert shown(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
