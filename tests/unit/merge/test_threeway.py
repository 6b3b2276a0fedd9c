"""Merging versions of a file: by lines against git, by key against merging dictionaries."""

from __future__ import annotations

import io
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tomlkit
import yaml
from dotenv import dotenv_values
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dorky.documents import parse
from dorky.merge.linemerge import Combined
from dorky.merge.threeway import combine, marked

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)


def merged(path: str, base: str | None, ours: str, theirs: str) -> tuple[str, tuple[str, ...]]:
    made = combine(
        path,
        None if base is None else base.encode(),
        ours.encode(),
        theirs.encode(),
        ours_label="ours",
        theirs_label="origin/main",
    )
    assert made is not None
    return made.data.decode(), made.conflicts


def side(text: str, which: int) -> str:
    """A merged text with one side taken at every conflict."""
    blocks = re.compile(
        r"<<<<<<< ours\r?\n(.*?)=======\r?\n(.*?)>>>>>>> origin/main\r?\n", re.DOTALL
    )
    return blocks.sub(lambda found: found[which], text)


# --- what can not be merged, and what need not be -------------------------------------------


@pytest.mark.parametrize("odd", [b"a\0b", b"\xff\n", b"x" * (4 * 1024 * 1024 + 1)])
def test_what_is_no_text_is_not_merged(odd: bytes) -> None:
    for path in ("a.txt", ".env", "a.json"):
        for ours, theirs in ((odd, b"b\n"), (b"b\n", odd)):
            made = combine(path, b"a\n", ours, theirs, ours_label="ours", theirs_label="theirs")
            assert made is None
        # What one side left alone is no question at all.
        taken = combine(path, b"a\n", b"a\n", odd, ours_label="ours", theirs_label="theirs")
        assert taken == Combined(odd)


def test_a_base_that_is_no_text_is_none() -> None:
    made = combine("a.txt", b"\0", b"a\nb\n", b"a\nc\n", ours_label="o", theirs_label="t")
    assert made == Combined(b"a\n<<<<<<< o\nb\n=======\nc\n>>>>>>> t\n", ("line 2",))


versions = st.lists(st.sampled_from(["a", "b", "c", "d", "", "A=1", "A=2", "B=1"]), max_size=8)


@st.composite
def texts(draw: st.DrawFn) -> str:
    end = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    return end.join(draw(versions)) + draw(st.sampled_from([end, end, ""]))


@quick
@given(st.sampled_from(["a.txt", ".env", "a.yaml"]), texts(), texts())
def test_the_side_that_changed_wins(path: str, base: str, other: str) -> None:
    assert merged(path, base, other, base) == (other, ())
    assert merged(path, base, base, other) == (other, ())
    assert merged(path, base, other, other) == (other, ())
    assert merged(path, None, other, other) == (other, ())


# --- by lines -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "result", "conflicts"),
    [
        ("1\n2\n3\n4\n5\n", "1\nX\n3\n4\n5\n", "1\n2\n3\nY\n5\n", "1\nX\n3\nY\n5\n", ()),
        ("1\n2\n3\n", "0\n1\n2\n3\n", "1\n2\n3\n4", "0\n1\n2\n3\n4", ()),
        ("1\r\n2\r\n3\r\n", "X\r\n2\r\n3\r\n", "1\r\n2\r\n", "X\r\n2\r\n", ()),
        # Both did the same, and more.
        ("1\n2\n3\n", "1\nX\n3\n", "1\nX\n3\n4\n", "1\nX\n3\n4\n", ()),
        ("1\n", "1\nsame\nmine\n", "1\nsame\nhers\n", None, ("line 3",)),
        # Lines that touch are no separate changes, as for git.
        ("1\n2\n", "X\n2\n", "1\nY\n", None, ("line 1",)),
        ("1\n2\n3\n", "1\n3\n", "1\nX\n3\n", None, ("line 2",)),
        ("", "mine", "hers\n", None, ("line 1",)),
    ],
)
def test_lines(
    base: str, ours: str, theirs: str, result: str | None, conflicts: tuple[str, ...]
) -> None:
    text, found = merged("a.txt", base, ours, theirs)
    assert found == conflicts
    if result is None:
        assert side(text, 1).removesuffix("\n") == ours.removesuffix("\n")
        assert side(text, 2).removesuffix("\n") == theirs.removesuffix("\n")
        assert marked(text.encode()) == int(conflicts[0].split()[1])
    else:
        assert text == result
        assert marked(text.encode()) is None


def test_markers_have_the_line_ends_of_what_they_stand_in() -> None:
    text, _ = merged("a.txt", "1\r\n", "2\r\n", "3\r\n")
    assert text == "<<<<<<< ours\r\n2\r\n=======\r\n3\r\n>>>>>>> origin/main\r\n"
    assert merged("a.txt", "1", "2", "3")[0] == "<<<<<<< ours\n2\n=======\n3\n>>>>>>> origin/main\n"


def test_only_markers_are_markers() -> None:
    assert marked(b"a\n<<<<<<< b\n") == 2
    assert marked(b">>>>>>>\r\n") == 1
    for text in (b"Title\n=======\n", b"a <<<<<<< b\n", b"<<<<<<<<\n", b">>>>>>>x\n", b"\0"):
        assert marked(text) is None


def git(tmp: Path, base: str, ours: str, theirs: str) -> tuple[str, int]:
    for name, text in (("base", base), ("ours", ours), ("theirs", theirs)):
        (tmp / name).write_bytes(text.encode())
    done = subprocess.run(
        ["git", "merge-file", "-p", "ours", "base", "theirs"], cwd=tmp, capture_output=True
    )
    return done.stdout.decode(), done.returncode


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, str, str]:
    """Three versions of a text of distinct lines, and a few that stand in it often."""
    base = [
        f"line {i}" if draw(st.integers(0, 3)) else "}" for i in range(draw(st.integers(4, 20)))
    ]
    sides = []
    for who in ("ours", "theirs"):
        lines = list(base)
        for at in draw(st.lists(st.integers(0, len(base) - 1), max_size=3)):
            at = min(at, len(lines))
            new = draw(st.sampled_from([[], [f"{who} {at}"], ["both"], ["}", f"{who} {at}", "x"]]))
            lines[at : at + draw(st.integers(0, 2))] = new
        sides.append(lines)
    return tuple("".join(f"{line}\n" for line in each) for each in (base, *sides))  # type: ignore[return-value]


@settings(max_examples=60, deadline=None)
@given(edits())
def test_what_git_merges_cleanly_comes_out_the_same(
    tmp_path_factory: pytest.TempPathFactory, three: tuple[str, str, str]
) -> None:
    text, conflicts = merged("a.txt", *three)
    theirs, count = git(tmp_path_factory.mktemp("merge"), *three)
    if not count and not conflicts:
        assert text == theirs


@quick
@given(texts(), texts(), texts())
def test_conflicts_lose_nothing(base: str, ours: str, theirs: str) -> None:
    text, conflicts = merged("a.txt", base, ours, theirs)
    assert len(conflicts) == text.count("<<<<<<< ours")
    assert [
        f"line {n}" for n, line in enumerate(text.split("\n"), 1) if line.startswith("<<<<<<<")
    ] == list(conflicts)
    said = set(re.split(r"\r?\n", text))
    old = set(re.split(r"\r?\n", base))
    assert {line for each in (ours, theirs) for line in re.split(r"\r?\n", each)} - old <= said


# --- by key ---------------------------------------------------------------------------------

ENV = "# the server\nHOST=a\nPORT=1 # http\n"
JSON = '{\n  "a": 1,\n  "hosts": ["x"],\n  "db": {"port": 1}\n}\n'
TOML = '# top\na = 1\n\n[db]\nport = 1 # usual\nhost = "h"\n'
YAML = "# top\na: 1\nhosts:\n- x\ndb:\n  port: 1 # usual\n"


@pytest.mark.parametrize(
    ("path", "base", "ours", "theirs", "result"),
    [
        # Different variables at the same place, each with its comment.
        (
            ".env",
            ENV,
            ENV + "# mine\nA=1\n",
            ENV + "# hers\nB=2\n",
            ENV + "# mine\nA=1\n# hers\nB=2\n",
        ),
        (".env", "A=1", "A=1\nB=1", "A=1\nC=1", "A=1\nB=1\nC=1"),
        (".env", None, "A=1\nB=1\n", "B=1\nC=1\n", "A=1\nB=1\nC=1\n"),
        # Neighbours, one of which is gone; another value in its place, quotes and comment kept.
        (
            ".env",
            ENV,
            "# the server\nHOST=b\nPORT=1 # http\n",
            "# the server\nHOST=a\n",
            "# the server\nHOST=b\n",
        ),
        (".env", "A='x' # c\nB=1\n", "A='x' # c\nB=2\n", "A='y' # c\nB=1\n", "A='y' # c\nB=2\n"),
        # The same variable added at two places is there once.
        (
            ".env",
            "A=1\nB=2\nC=3\n",
            "N=1\nA=1\nB=2\nC=3\n",
            "A=1\nB=2\nC=3\nN=1\n",
            "N=1\nA=1\nB=2\nC=3\n",
        ),
        # Twice in a file from the beginning: the last one counts, and both go.
        (".env", "A=1\nA=2\nB=1\n", "A=1\nA=2\nB=2\n", "A=1\nA=3\nB=1\n", "A=1\nA=3\nB=2\n"),
        (".env", "A=1\nA=2\nB=1\n", "A=1\nA=2\nB=2\n", "B=1\n", "B=2\n"),
        (
            "a.json",
            JSON,
            JSON.replace("1,", "2,"),
            JSON.replace('"x"', '"x", "y"'),
            JSON.replace("1,", "2,").replace('"x"', '"x", "y"'),
        ),
        ("a.json", '{"a": 1, "b": 1}', '{"a": 2, "b": 1}', '{"a": 1}', '{"a": 2}'),
        ("a.json", '{"a": {}}', '{"a": {"b": 1}}', '{"a": {"c": 1}}', '{"a": {"b": 1, "c": 1}}'),
        ("a.json", '{"a": {"b": 1, "c": 1}}', '{"a": {"b": 1}}', '{"a": {"c": 1}}', '{"a": {}}'),
        (
            "a.json",
            '{"l": [1], "a": 1}',
            '{"l": [1], "a": 2}',
            '{"l": [{"n": [2]}, 3], "a": 1}',
            '{"a": 2, "l": [{"n": [2]}, 3]}',
        ),
        (
            "a.json",
            '{"a": 1}',
            '{"a": 2}',
            '{"a": 1, "l": [[1, "x"], {}]}',
            '{"a": 2, "l": [[1, "x"], {}]}',
        ),
        (
            "a.json",
            '{"l": [1, 2, 3], "a": 1}',
            '{"l": [1, 2, 3], "a": 2}',
            '{"l": [], "a": 1}',
            '{"l": [], "a": 2}',
        ),
        (
            "a.json",
            '{"l": [1, 2], "a": 1}',
            '{"l": [1, 2], "a": 2}',
            '{"l": "x", "a": 1}',
            '{"a": 2, "l": "x"}',
        ),
        # A value became a table on one side; the other left it alone.
        (
            "a.json",
            '{"a": 1, "b": 1}',
            '{"a": {"c": 1}, "b": 1}',
            '{"a": 1, "b": 2}',
            '{"a": {"c": 1}, "b": 2}',
        ),
        (
            "a.toml",
            TOML,
            TOML.replace("= 1 #", "= 2 #"),
            TOML.replace('"h"', '"i"'),
            TOML.replace("= 1 #", "= 2 #").replace('"h"', '"i"'),
        ),
        (
            "a.toml",
            TOML,
            TOML + "user = 'u'\n",
            TOML + "\n[log]\nlevel = 1\n",
            TOML + "user = 'u'\n\n[log]\nlevel = 1\n",
        ),
        (
            "a.yaml",
            YAML,
            YAML.replace("a: 1", "a: 2"),
            YAML.replace("- x\n", "- x\n- y\n"),
            YAML.replace("a: 1", "a: 2").replace("- x\n", "- x\n- y\n"),
        ),
        ("a.yaml", "a: 1\nb: 1\n", "a: 2\nb: 1\n", "a: 1\n", "a: 2\n"),
        (
            "a.yaml",
            "a: 1 # c\nb: 1\n",
            "a: 1 # c\nb: 2\n",
            "a: '1' # c\nb: 1\n",
            "a: '1' # c\nb: 2\n",
        ),
    ],
)
def test_documents(path: str, base: str | None, ours: str, theirs: str, result: str) -> None:
    assert merged(path, base, ours, theirs) == (result, ())


@pytest.mark.parametrize(
    ("path", "base", "ours", "theirs", "result", "conflicts"),
    [
        (
            ".env",
            ENV,
            ENV.replace("=1", "=2"),
            ENV.replace("=1", "=3"),
            "# the server\nHOST=a\n<\nPORT=2 # http\n=\nPORT=3 # http\n>\n",
            ("PORT",),
        ),
        # The rest is merged all the same.
        (
            ".env",
            "A=1\nB=1\n",
            "A=2\nB=1\n",
            "A=3\nB=2\nC=1\n",
            "<\nA=2\n=\nA=3\n>\nB=2\nC=1\n",
            ("A",),
        ),
        # Changed here, gone there.
        (".env", "A=1\nB=1\n", "A=2\nB=1\n", "B=1\n", "<\nA=2\n=\n>\nB=1\n", ("A",)),
        (".env", "A=1\nB=1\n", "B=1\n", "A=2\nB=1\n", "<\n=\nA=2\n>\nB=1\n", ("A",)),
        (".env", None, "A=1\nB=1\n", "A=2\nB=1\n", "<\nA=1\n=\nA=2\n>\nB=1\n", ("A",)),
        # A list is one value.
        (
            "a.yaml",
            YAML,
            YAML.replace("- x\n", "- x\n- y\n"),
            YAML.replace("- x\n", "- z\n- x\n"),
            None,
            ("hosts",),
        ),
        (
            "a.yaml",
            YAML,
            YAML.replace("- x\n", "- y\n- x\n"),
            YAML.replace("- x\n", "- x\n- z\n"),
            None,
            ("hosts",),
        ),
        ("a.json", "[1,\n2]\n", "[0,\n1,\n2]\n", "[1,\n2,\n3]\n", None, ("the list",)),
        (
            "a.json",
            JSON,
            JSON.replace('"x"', '"y"'),
            JSON.replace('["x"]', '"x"'),
            None,
            ("hosts",),
        ),
        # What is a value here and a table there is one value.
        (
            "a.json",
            JSON,
            JSON.replace('{"port": 1}', "2"),
            JSON.replace('"port": 1', '"port": 2'),
            None,
            ("db",),
        ),
        (
            "a.toml",
            TOML,
            TOML.replace("port = 1", "port = 2"),
            TOML.replace("port = 1", "port = 3"),
            None,
            ("db.port",),
        ),
        # Another kind is another value.
        ("a.yaml", "a: x\n", "a: 1\n", "a: '1'\n", "<\na: 1\n=\na: '1'\n>\n", ("a",)),
    ],
)
def test_documents_in_conflict(
    path: str, base: str | None, ours: str, theirs: str, result: str | None, conflicts: tuple[str]
) -> None:
    text, found = merged(path, base, ours, theirs)
    assert found == conflicts
    assert marked(text.encode())
    if result is not None:
        short = re.sub(r"^(<|=|>){7}.*", r"\1", text, flags=re.MULTILINE)
        assert short == result
    for which, whole in ((1, ours), (2, theirs)):
        taken = parse(path, side(text, which).encode()).leaves()
        told = parse(path, whole.encode()).leaves()
        assert {key: leaf for key, leaf in taken.items() if key.startswith(conflicts)} == {
            key: leaf for key, leaf in told.items() if key.startswith(conflicts)
        }


def test_documents_that_can_not_be_edited_are_merged_by_lines() -> None:
    # Where an alias stands nothing can be set.
    base = "x: &x\n  a: 1\ny: *x\nz: *x\n"
    ours, theirs = base.replace("z: *x", "z: {a: 2}"), base.replace("y: *x", "y: {a: 3}")
    both = "x: &x\n  a: 1\ny: {a: 3}\nz: {a: 2}\n"
    assert merged("a.yaml", base, ours, theirs) == (both, ())
    # A list that both changed is shown whole, though its lines would merge.
    lists = base + "l: [\n 1,\n 2,\n 3]\n"
    ours, theirs = ours + "l: [\n 0,\n 2,\n 3]\n", theirs + "l: [\n 1,\n 2,\n 4]\n"
    text, conflicts = merged("a.yaml", lists, ours, theirs)
    assert parse("a.yaml", side(text, 1).encode()).get("l") == "[0,2,3]"
    assert parse("a.yaml", side(text, 2).encode()).get("l") == "[1,2,4]"
    assert conflicts == ("l",)
    malformed = "{\n 1\n\n 2\n"
    assert merged("a.json", malformed, "[\n 1\n\n 2\n", "{\n 1\n\n 3\n") == ("[\n 1\n\n 3\n", ())


def test_a_clean_merge_by_lines_that_says_something_else_is_none() -> None:
    # Two lists of which each got a part of the other's change, were it for the lines.
    base = "a: [\n 1,\n 2,\n 3,\n 4]\n"
    text, conflicts = merged("a.yaml", base, base.replace(" 1", " 9"), base.replace(" 4", " 8"))
    assert conflicts == ("a",)
    assert parse("a.yaml", side(text, 1).encode()).get("a") == "[9,2,3,4]"
    assert parse("a.yaml", side(text, 2).encode()).get("a") == "[1,2,3,8]"


def test_documents_that_hold_too_much_are_merged_by_lines() -> None:
    aliases = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 7)}]\n" for i in range(1, 5)]
    base = "a0: &a0 [x, x, x, x, x, x, x]\n" + "".join(aliases)
    assert merged("a.yaml", base, base + "b: 1\n", base + "c: 1\n")[1] == ("line 6",)


names = st.sampled_from(["a", "b", "c", "d", "e"])
scalars = st.sampled_from(["x", "y z", "1", "#"]) | st.integers(0, 3) | st.booleans()
nested = st.dictionaries(
    names,
    scalars
    | st.lists(scalars | st.dictionaries(names, scalars, min_size=1, max_size=2), max_size=3)
    | st.dictionaries(names, scalars | st.dictionaries(names, scalars, max_size=2), max_size=3),
    max_size=5,
)
flat = st.dictionaries(names.map(str.upper), st.sampled_from(["x", "y z", "1", "#", "'"]))


def _env(tree: dict[str, Any]) -> str:
    return "".join(f'{name}="{value}"\n' for name, value in tree.items())


WRITERS: dict[str, Any] = {
    ".env": _env,
    "a.json": lambda tree: json.dumps(tree, indent=2) + "\n",
    "b.json": json.dumps,
    "a.toml": tomlkit.dumps,
    "a.yaml": lambda tree: yaml.safe_dump(tree, sort_keys=False),
}
READERS: dict[str, Any] = {
    ".env": lambda text: dotenv_values(stream=io.StringIO(text), interpolate=False),
    "a.json": json.loads,
    "b.json": json.loads,
    "a.toml": lambda text: tomlkit.parse(text).unwrap(),
    "a.yaml": yaml.safe_load,
}
GONE = object()


def facts(tree: Any, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """What a tree says, a list being one value."""
    if not isinstance(tree, dict) or (above and not tree):
        return {above: (type(tree), json.dumps(tree, sort_keys=True))}
    found: dict[tuple[str, ...], Any] = {}
    for name, each in tree.items():
        found |= facts(each, (*above, name))
    return found


EMPTY = (dict, "{}")


def full(tree: Any) -> dict[tuple[str, ...], Any]:
    return {key: each for key, each in facts(tree).items() if each != EMPTY}


def dict_merge(base: Any, ours: Any, theirs: Any) -> dict[tuple[str, ...], Any] | None:
    """The merged facts, without empty tables; None for a conflict."""
    outer = {
        key[:n] for each in (base, ours, theirs) for key in facts(each) for n in range(len(key))
    }
    old, our, their = (
        {key: fact for key, fact in facts(each).items() if fact != EMPTY or key not in outer}
        for each in (base, ours, theirs)
    )
    result = {}
    for key in {**our, **their}:
        was, one, other = (each.get(key, GONE) for each in (old, our, their))
        if was not in (one, other) and one != other:
            return None
        value = other if one == was else one
        if value not in (GONE, EMPTY):
            result[key] = value
    # A value on one side that is a table on another.
    keys = {*old, *our, *their}
    if any(key[:depth] in keys for key in keys for depth in range(1, len(key))):
        return None
    return result


@st.composite
def three_trees(draw: st.DrawFn) -> tuple[str, Any, Any, Any]:
    path = draw(st.sampled_from(list(WRITERS)))
    kind = flat if path == ".env" else nested
    base = draw(kind)
    pool = draw(kind), draw(kind)
    return path, base, *(_mixed(draw, base, other) for other in pool)


def _mixed(draw: st.DrawFn, tree: Any, other: Any) -> Any:
    """A tree with some of another's values, and without some of its own."""
    made = {name: each for name, each in tree.items() if draw(st.integers(0, 4))}
    for name, each in other.items():
        if draw(st.booleans()):
            both = isinstance(each, dict) and isinstance(made.get(name), dict)
            made[name] = _mixed(draw, made[name], each) if both else each
    return made


@settings(max_examples=200, deadline=None)
@given(three_trees())
def test_keys_merge_as_dictionaries_do(case: tuple[str, Any, Any, Any]) -> None:
    path, *trees = case
    base, ours, theirs = (WRITERS[path](each) for each in trees)
    for text, tree in zip((base, ours, theirs), trees, strict=True):
        assume(READERS[path](text) == tree or not tree)  # What writes them has its own mistakes.
    expected = dict_merge(*trees)
    text, conflicts = merged(path, base, ours, theirs)
    other, back = merged(path, base, theirs, ours)
    assert sorted(conflicts) == sorted(back)
    if expected is None:
        return
    assert conflicts == ()
    assert full(READERS[path](text) or {}) == full(READERS[path](other) or {}) == expected
