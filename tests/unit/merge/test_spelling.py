"""A change of spelling that one side made never vanishes from a clean merge."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dorky.documents import parse
from dorky.merge.threeway import combine

# Each line has spellings of one value; `{}` is the key.
SPELLINGS = {
    ".env": [
        *("{}=x\n", "export {}=x\n", "{}='x'\n", '{}="x"\n', "{}=x # why\n", "{} = x\n"),
        *("{}=`x`\n", "# about\n{}=x\n", "\n{}=x\n"),
    ],
    "a.yaml": [
        *("{}: x\n", "{}: 'x'\n", '{}: "x"\n', "{}: x # why\n", "{}:   x\n", "# about\n{}: x\n"),
        *('"{}": x\n', '{}: "\\x78"\n'),
    ],
    "a.toml": [
        *('{} = "x"\n', "{} = 'x'\n", '{} = "x" # why\n', '{}="x"\n', '# about\n{} = "x"\n'),
        *('"{}" = "x"\n', '{} = "\\u0078"\n', '{} = """x"""\n'),
    ],
    "a.json": ['  "{}": "x"', '  "{}":"x"', '    "{}": "x"', '  "{}": "\\u0078"', '\t"{}" : "x"'],
}
VALUES = {
    ".env": "{}=new\n",
    "a.yaml": "{}: new\n",
    "a.toml": '{} = "new"\n',
    "a.json": '  "{}": "new"',
}
KEYS = "abcde"


def text_of(path: str, lines: list[str]) -> str:
    if path == "a.json":
        return "{\n" + ",\n".join(lines) + "\n}\n"
    return "".join(lines)


def merged(path: str, base: str, ours: str, theirs: str) -> tuple[str, tuple[str, ...]]:
    sides = (text.encode() for text in (base, ours, theirs))
    made = combine(path, *sides, ours_label="o", theirs_label="t")
    assert made
    return made.data.decode(), made.conflicts


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(sorted(SPELLINGS)))
def test_each_statement_is_that_of_the_side_that_changed_it(data: st.DataObject, path: str) -> None:
    spellings = st.sampled_from(SPELLINGS[path])
    base = {key: data.draw(spellings).format(key) for key in KEYS}
    ours, theirs, wanted = dict(base), dict(base), dict(base)
    for key in KEYS:
        side = data.draw(st.sampled_from([ours, theirs, None]))
        if side is not None:
            new = data.draw(spellings | st.just(VALUES[path]))
            side[key] = wanted[key] = new.format(key)
    texts = [text_of(path, list(lines.values())) for lines in (base, ours, theirs, wanted)]
    text, conflicts = merged(path, *texts[:3])
    if not conflicts:
        for line in wanted.values():
            assert line.strip("\n") in text
        assert parse(path, text.encode()).leaves() == parse(path, texts[3].encode()).leaves()
    plain = not any(
        "# about" in line or line.startswith("\n") for line in (*base.values(), *wanted.values())
    )
    if plain:
        assert (text, conflicts) == (texts[3], ())


@pytest.mark.parametrize(
    ("path", "base", "ours", "theirs", "wanted"),
    [
        ("a.yaml", "a: x\nb: 1\n", "a: x\nb: 2\n", "a: !secret x\nb: 1\n", "a: !secret x\nb: 2\n"),
        ("a.yaml", "a: !s x\nb: 1\n", "a: !s x\nb: 2\n", "a: !s y\nb: 1\n", "a: !s y\nb: 2\n"),
        ("a.yaml", "a: !s 1\nb: 1\n", "a: !s 1\nb: 2\n", "a: !t 1\nb: 1\n", "a: !t 1\nb: 2\n"),
        (".env", "A=1\nB=1\n", "A=2\nB=1\n", "export A=1\nB=1\n", "export A=2\nB=1\n"),
        (".env", "A=1\nB=1\n", "A=2\nB=1\n", "A=1 # why\nB=1\n", "A=2 # why\nB=1\n"),
        (".env", "# c\nA=1\nB=1\n", "# c\nA=2\nB=1\n", "# d\nA=1\nB=1\n", "# d\nA=2\nB=1\n"),
        (".env", "A=1\nB=1\n", "A='1'\nB=1\n", "A=1\nexport B=1\n", "A='1'\nexport B=1\n"),
        (
            "a.toml",
            "[t]\na = 1\nb = 1\n",
            "[t]\na = 2\nb = 1\n",
            "[t]\na = 1\nb = 1 # c\n",
            "[t]\na = 2\nb = 1 # c\n",
        ),
        (
            "a.toml",
            "a = 255\nb = 1\n",
            "a = 255\nb = 2\n",
            "a = 0xff\nb = 1\n",
            "a = 0xff\nb = 2\n",
        ),
        (
            "a.json",
            '{\n "a": "A",\n "b": 1\n}\n',
            '{\n "a": "A",\n "b": 2\n}\n',
            '{\n "a": "\\u0041",\n "b": 1\n}\n',
            '{\n "a": "\\u0041",\n "b": 2\n}\n',
        ),
    ],
)
def test_neighbours(path: str, base: str, ours: str, theirs: str, wanted: str) -> None:
    assert merged(path, base, ours, theirs) == (wanted, ())
    assert merged(path, base, theirs, ours) == (wanted, ())


def test_a_tag_is_part_of_the_value() -> None:
    text, conflicts = merged("a.yaml", "a: x\nb: 1\n", "a: !s x\nb: 1\n", "a: !t x\nb: 1\n")
    assert conflicts == ("a",)
    assert "!s x" in text
    assert "!t x" in text
