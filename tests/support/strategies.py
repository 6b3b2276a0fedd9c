"""Paths and patterns of any shape, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

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
