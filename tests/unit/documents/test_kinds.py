"""Setting a value keeps its type, and the comments around it."""

from __future__ import annotations

import pytest

from dorky.documents import Kind, parse


@pytest.mark.parametrize(
    ("path", "text", "value", "wanted"),
    [
        ("a.toml", "a = 1979-05-27 # c\n", "1980-01-02", "a = 1980-01-02 # c\n"),
        (
            "a.toml",
            "a = 1979-05-27T07:32:00Z\n",
            "1980-01-02T03:04:05Z",
            "a = 1980-01-02T03:04:05Z\n",
        ),
        ("a.toml", "a = 07:32:00\n", "08:00:00", "a = 08:00:00\n"),
        ("a.toml", "a = 0xff\n", "0xDEAD", "a = 0xDEAD\n"),
        ("a.toml", "a = 1\n", "0o17", "a = 0o17\n"),
        ("a.toml", "a = 1.5\n", "2.5e10", "a = 2.5e10\n"),
        ("a.toml", "a = 1.5\n", "-0.25", "a = -0.25\n"),
        ("a.toml", "a = 1.5\n", "inf", "a = inf\n"),
        ("a.toml", "a = 1000\n", "1_000_000", "a = 1_000_000\n"),
        ("a.toml", "a = 1979-05-27\n", "soon", 'a = "soon"\n'),
        ("a.toml", "a = '1979-05-27'\n", "1980-01-02", 'a = "1980-01-02"\n'),
        ("a.yaml", "a: 2001-12-14 # c\n", "2002-01-02", "a: 2002-01-02 # c\n"),
        ("a.yaml", "a: 0xff\n", "0xfe", "a: 0xfe\n"),
        ("a.yaml", "a: 0o17\n", "0o20", "a: 0o20\n"),
        ("a.yaml", "a: 1.5\n", "1e-3", "a: 1e-3\n"),
        ("a.yaml", "a: 1.5\n", ".inf", "a: .inf\n"),
        ("a.yaml", "a: '0xff'\n", "0xfe", "a: '0xfe'\n"),
        ("a.json", '{"a": 1.5}', "2.5e-3", '{"a": 2.5e-3}'),
    ],
)
def test_a_value_keeps_its_type(path: str, text: str, value: str, wanted: str) -> None:
    document = parse(path, text.encode())
    before = document.leaves()["a"].kind
    document.set("a", value)
    assert document.dump().decode() == wanted
    after = parse(path, document.dump()).leaves()["a"].kind
    assert after is (Kind.STRING if value == "soon" else before)


@pytest.mark.parametrize(
    ("header", "value", "wanted"),
    [
        ("|  # why", "k1\nk2\n", "a: |  # why\n  k1\n  k2\n"),
        ("|- # why", "k1\nk2", "a: |- # why\n  k1\n  k2\n"),
        ("> # why", "k1\nk2\n", "a: | # why\n  k1\n  k2\n"),
        ("| # why", " k1\r", 'a: " k1\\x0d" # why\n'),
        ("|", "k1\n", "a: |\n  k1\n"),
    ],
)
def test_the_comment_of_a_block_stays(header: str, value: str, wanted: str) -> None:
    document = parse("a.yaml", f"a: {header}\n  old\n  text\nb: 1\n".encode())
    document.set("a", value)
    assert document.dump().decode() == f"{wanted}b: 1\n"
    assert document.items() == {"a": value, "b": "1"}
