"""Which group owns a path: folding, patterns, and whether two of them overlap."""

from __future__ import annotations

import fnmatch
import itertools
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorky.format.model import ALL, Group, Roster
from dorky.keys.placement import claimants, compiled, fold, overlap, owner

NAMES = st.text("ab", min_size=1, max_size=3)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
GLOBS = st.one_of(st.just("**"), st.text("ab*?", min_size=1, max_size=3), st.just("[!a]b"))
PATTERNS = st.lists(GLOBS, min_size=1, max_size=3).map("/".join)


def roster(**patterns: str | tuple[str, ...]) -> Roster:
    groups = []
    for name, each in patterns.items():
        groups.append(Group(name, name, (each,) if isinstance(each, str) else each))
    return Roster((), tuple(groups))


def selects(path: str, pattern: str) -> bool:
    return compiled(pattern).covers(path.split("/"))


def reference(names: list[str], pattern: list[str]) -> bool:
    """The definition, by trying everything: what matches, or lies below what matches."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(reference(names[n:], pattern[1:]) for n in range(len(names) + 1))
    return bool(names) and (
        fnmatch.fnmatchcase(names[0], pattern[0]) and reference(names[1:], pattern[1:])
    )


@given(PATHS, PATTERNS)
def test_a_pattern_selects_what_it_matches_and_all_below(path: str, pattern: str) -> None:
    assert selects(path, pattern) == reference(path.split("/"), pattern.split("/"))


ALL_PATHS = [
    "/".join(names)
    for depth in range(1, 5)
    for names in itertools.product(["a", "b", "ab", "bb", "aab"], repeat=depth)
]


@given(PATTERNS, PATTERNS)
def test_overlap_is_that_some_path_lies_in_both(one: str, other: str) -> None:
    common = any(selects(path, one) and selects(path, other) for path in ALL_PATHS)
    found = overlap(one, other)
    assert found == overlap(other, one)
    # Patterns of three names of three characters have longer common paths than those tried.
    assert found or not common
    if all(part in {"**", "*", "a", "b", "?"} for part in f"{one}/{other}".split("/")):
        assert found == common


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("env/prod/**", "env/**/x", True),
        ("env/prod/**", "env/stage/**", False),
        ("*.env", "prod.*", True),
        ("*.env", "prod.pem", False),
        ("env/*/key", "env/prod", True),
        ("**/*.pem", "certs/*.key", True),  # certs/a.key/b.pem
        ("a/*b*c*", "a/*c*b*", True),
        ("a?c", "abd", False),
        ("[a-c]x", "[d-f]x", False),
        ("[a-c]x", "[!a-b]x", True),
        ("[!a]", "a", False),
        ("ENV/Prod", "env/prod/**", True),
        ("schl\u00fcssel", "schlu\u0308ssel/**", True),
        ("schl?ssel", "schlu\u0308ssel", True),
        ("a", "a\u0308", False),
        ("env.", "env", True),
    ],
)
def test_overlaps(one: str, other: str, expected: bool) -> None:
    assert overlap(one, other) is overlap(other, one) is expected


SAME = [
    "env/prod",
    "ENV/Prod",
    "env./prod",
    "env/prod ",
    "env/prod. .",
    "e\u200bnv/prod",
    "\uff45nv/prod",
    "env/\uff30rod",
]


@pytest.mark.parametrize("spelling", SAME)
def test_spellings_of_one_path_are_one_path(spelling: str) -> None:
    assert fold(spelling) == "env/prod"
    assert owner(roster(prod="env/prod/**"))(f"{spelling}/.env") == "prod"
    assert owner(roster(prod=f"{spelling}/**"))("env/prod/.env") == "prod"


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
@pytest.mark.parametrize(
    "pattern",
    [
        "schl\u00fcssel/**",
        "schlu\u0308ssel/**",
        "SCHL\u00dcSSEL",
        "schl?ssel",
        "schl[\u00fc]ssel",
        "schl[!a]ssel",
        "schl[a-\u00ff]ssel",
        "**/*.pem",
    ],
)
def test_patterns_match_whatever_the_normal_form(form: str, pattern: str) -> None:
    path = unicodedata.normalize(form, "schl\u00fcssel/k.pem")
    assert owner(roster(keys=pattern))(path) == "keys"


@given(st.text(max_size=12))
def test_folding_is_idempotent(path: str) -> None:
    assert fold(fold(path)) == fold(path)


@given(st.text(st.characters(codec="utf-8", exclude_characters="/*?["), min_size=1, max_size=8))
def test_a_literal_pattern_selects_every_spelling(name: str) -> None:
    group = owner(roster(g=f"x{name}"))
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert group(unicodedata.normalize(form, f"x{name}")) == "g"
    assert group(f"x{name}".upper().lower()) in {"g", ALL}
    assert group(f"X{name}/below") == "g"


def test_what_several_groups_claim_belongs_to_nobody() -> None:
    known = roster(one="env/**", two=("env/prod", "certs"))
    assert owner(known)("env/prod/.env") is None
    assert [group.id for group in claimants(known, "env/prod/.env")] == ["one", "two"]
    assert owner(known)("env/dev/.env") == "one"
    assert owner(known)("certs/a.pem") == "two"
    assert owner(known)("notes") == ALL
    assert owner(Roster())("notes") == ALL


def test_two_patterns_of_one_group_do_not_contest() -> None:
    assert owner(roster(one=("env/**", "env/prod")))("env/prod/x") == "one"


def test_an_ended_group_owns_nothing() -> None:
    assert owner(roster(old=()))("env/prod/x") == ALL


def test_brackets_that_are_none() -> None:
    assert selects("a[b", "a[b")
    assert selects("a[]", "a[]")
    assert selects("]", "[]]")
    assert not selects("b", "[]]")
    assert selects("x", "[^a]")  # unclear: claimed


def test_hostile_patterns_take_no_time() -> None:
    start = time.process_time()
    hostile = "/".join(["**", "*a" * 40, "**", "?*" * 40]) + "/**/" + "*b" * 40
    path = "/".join(["a" * 120] * 30)
    owner(roster(one=hostile, two="**/" * 60 + "z"))(path)
    overlap(hostile, hostile.replace("a", "c"))
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    ("pattern", "selected", "not_selected"),
    [
        (
            "env/prod",
            ["env/prod", "env/prod/.env", "env/prod/a/b", "ENV/prod"],
            ["env", "env/production", "env/prod.env", "prod", "x/env/prod"],
        ),
        ("env/prod/**", ["env/prod", "env/prod/.env", "env/prod/a/b"], ["env", "env/production"]),
        ("env/*.env", ["env/a.env", "env/.env", "env/a.env/b"], ["env/a/b.env", "a.env", "env/a"]),
        ("**/.env", [".env", "a/.env", "a/b/.env", "a/.env/x"], ["a/x.env", ".envrc"]),
        ("**/keys/*.pem", ["keys/a.pem", "a/b/keys/a.pem"], ["keys/a/b.pem", "keys/a.pem.txt"]),
        ("**b", ["b", "ab", "ab/c"], ["a", "x/ab", "x/y/b"]),
        ("*", ["a", "a/b", ".env"], []),
        ("**", ["a", "a/b", ".env"], []),
        # One character is one, whatever folding makes of it.
        ("?.env", ["\uac00.env", "\u00df.env", "\ufb01.env", "\u2469.env"], ["ab.env", "10.env"]),
        ("stra?e/**", ["stra\u00dfe/x", "straSe"], ["strasse/x", "strae"]),
        ("[\u00dfx]/k", ["\u00df/k", "X/k"], ["ab/k"]),
        ("[!a]/k", ["\uac00/k", "\u00e9/k"], ["a/k", "A/k"]),
        ("??", ["ab", "a.", "a ", "a\u200b"], ["abc"]),
        # A slash within a character is no directory.
        ("*.env", ["c\u2105.env"], ["a/b.env"]),
        ("env/prod/**", ["env/prod/c\u2105"], ["env\uff0fprod\uff0fx"]),
    ],
)
def test_patterns_as_people_write_them(
    pattern: str, selected: list[str], not_selected: list[str]
) -> None:
    for path in selected:
        assert selects(path, pattern), path
        assert selects(unicodedata.normalize("NFD", path), pattern), path
    for path in not_selected:
        assert not selects(path, pattern), path


@given(st.text(max_size=4), st.text("*?[]!-a", max_size=3))
def test_however_a_name_is_written_its_owner_is_the_same(name: str, more: str) -> None:
    name, pattern = name.replace("/", ""), f"{more}{name}".replace("/", "")
    for form in ("NFC", "NFD"):
        other = unicodedata.normalize(form, name)  # type: ignore[arg-type]
        assert selects(name, pattern) == selects(other, pattern)
        assert fold(name) == fold(other)
        if set(name).isdisjoint("*?[\\"):  # no pattern, then
            assert selects(name, other)


@given(st.text(max_size=6))
def test_folding_once_is_folding_twice_and_makes_no_directory(path: str) -> None:
    assert fold(fold(path)) == fold(path)
    assert fold(path).count("/") == path.count("/")
