"""Documents against their own readers: what is set is read back, and all else stays as it was."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
import tomlkit
import yaml
from dotenv import dotenv_values
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from dorky import errors
from dorky.documents import Document, Kind, Leaf, Syntax, key_path, parse, syntax_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAMES = {
    Syntax.DOTENV: ".env",
    Syntax.JSON: "a.json",
    Syntax.TOML: "a.toml",
    Syntax.YAML: "a.yaml",
}
every_syntax = pytest.mark.parametrize("syntax", Syntax, ids=lambda each: each.value)


def read(path: str, text: str) -> Document:
    return parse(path, text.encode())


def edited(path: str, text: str, *edits: tuple[str, str | None]) -> str:
    document = read(path, text)
    for key, value in edits:
        if value is None:
            document.unset(key)
        else:
            document.set(key, value)
    return document.dump().decode()


# --- what is a document ---------------------------------------------------------------------


def test_the_name_tells_the_syntax() -> None:
    named = {
        Syntax.DOTENV: [".env", "a/.env.local", "prod.env", ".ENV", "a/.env.json"],
        Syntax.JSON: ["a.json", "a/B.JSON"],
        Syntax.TOML: ["a.toml"],
        Syntax.YAML: ["a.yml", "x.y.yaml"],
        None: [".envrc", "env", ".environment", "a.jsonc", "a.env/b", "yaml", "", ".env/x"],
    }
    for syntax, paths in named.items():
        assert [syntax_of(path) for path in paths] == [syntax] * len(paths)
    with pytest.raises(errors.UsageError, match=r"notes\.txt is not"):
        parse("notes.txt", b"A=1")


@every_syntax
def test_what_no_document_may_hold(syntax: Syntax) -> None:
    for data, reason in (
        (b"\xff\xfeA\0", "it is not UTF-8"),
        (b'{"a": "\0"}', "it holds a NUL character"),
    ):
        with pytest.raises(errors.BadDocument, match=reason):
            parse(NAMES[syntax], data)


MALFORMED = [
    (".env", "A=1\n\n\nB='x", "line 4 is not NAME=value"),
    (".env", "A=1\nnot a variable\n", "line 2 is not NAME=value"),
    ("a.json", '{"a": 1,\n "b" 2}', "line 2 is malformed"),
    ("a.json", '{"a": 1}\n{}', "line 2 is malformed"),
    ("a.json", '{"a": 1,\n"a": 2}', "line 2 has a key that stands before"),
    ("a.json", '{"a": NaN}', "line 1 is malformed"),
    ("a.json", '{"a": "\\ud800"}', "line 1 holds half of a surrogate pair"),
    ("a.json", '{"a": 1,}', "line 1 is malformed"),
    ("a.json", "", "line 1 is malformed"),
    ("a.json", "1", "its top level is a single value"),
    ("a.json", "[" * 100_000, "it is nested too deeply"),
    ("a.toml", "a = 1\nb = [", "malformed"),
    ("a.toml", "a = 1\na = 2\n", "malformed"),
    ("a.toml", "a = 1\nb = = 2\nc = 1\n", "line 2 is malformed"),
    ("a.toml", "a = " + "9" * 5000, "malformed"),
    ("a.yaml", "a: 1\nb: [\n", "malformed"),
    ("a.yaml", "a: 1\na: 2\n", "line 2 has a key that stands before"),
    ("a.yaml", "a: *b\n", "line 1 names an anchor that is not there"),
    ("a.yaml", "a: &a [*a]\n", "line 1 names an anchor that is not there"),
    ("a.yaml", "[a]: 1\n", "line 1 has a key that is no text"),
    ("a.yaml", "--- {a: 1}\n--- {b: 1}\n", "it holds several documents"),
    ("a.yaml", "just text\n", "its top level is a single value"),
    ("a.yaml", "a: \x07\n", "it is malformed"),
    ("a.yaml", 'a: "\\ud800"\n', "line 1 holds half of a surrogate pair"),
    ("a.yaml", "[" * 1000, "it is nested too deeply"),
]


@pytest.mark.parametrize(("path", "text", "reason"), MALFORMED)
def test_malformed_documents_are_refused(path: str, text: str, reason: str) -> None:
    with pytest.raises(errors.BadDocument, match=reason):
        read(path, text)


def test_a_page_of_aliases_does_not_fill_the_memory() -> None:
    laughs = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    laughs += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    with pytest.raises(errors.BadDocument, match="its aliases stand for too much"):
        read("a.yaml", "\n".join(laughs))


# --- reading --------------------------------------------------------------------------------


def test_values_of_every_kind_as_text() -> None:
    document = read(
        "a.json",
        '{"s": "x\\n", "n": 1.50, "b": true, "z": null, "e": {}, "l": [1, [], {"k": "v"}],'
        ' "a.b": {"c d": "1", "": 2}}',
    )
    assert document.leaves() == {
        "s": Leaf("x\n"),
        "n": Leaf("1.50", Kind.NUMBER),
        "b": Leaf("true", Kind.BOOLEAN),
        "z": Leaf("", Kind.NULL),
        "e": Leaf("{}", Kind.EMPTY),
        "l.0": Leaf("1", Kind.NUMBER),
        "l.1": Leaf("[]", Kind.EMPTY),
        "l.2.k": Leaf("v"),
        '"a.b"."c d"': Leaf("1"),
        '"a.b".""': Leaf("2", Kind.NUMBER),
    }
    assert document.items() == {key: leaf.text for key, leaf in document.leaves().items()}
    assert document.get("l") == '[1,[],{"k":"v"}]'
    assert document.get('"a.b"') == '{"c d":"1","":2}'
    assert document.get("z") == ""
    assert document.get('"s"') == "x\n"
    for key in ("x", "s.x", "l.3", "l.00", "a.b"):
        with pytest.raises(errors.NoSuchVariable, match=r"a\.json has no"):
            document.get(key)
    for key in ("", ".", "a.", ".a", '"a', '"a"b', "a..b"):
        with pytest.raises(errors.UsageError, match="is not a key"):
            document.get(key)


def test_toml_values_as_text() -> None:
    text = "i = 0xff\nf = 1.50\nb = false\nd = 1979-05-27\n[t]\nx.y = 'z'\n[[p]]\nq = inf\n"
    assert read("a.toml", text).items() == {
        "i": "255",
        "f": "1.50",
        "b": "false",
        "d": "1979-05-27",
        "t.x.y": "z",
        "p.0.q": "inf",
    }


def test_yaml_values_as_text() -> None:
    text = (
        "base: &base {x: 1, y: two}\n"
        "no: no\n"
        "t: TRUE\n"
        "z: ~\n"
        "e:\n"
        "v: 1.10\n"
        "o: 0o17\n"
        "d: 2001-12-14\n"
        "m: !tag 12\n"
        "q: '12'\n"
        "b: |\n  one\n  two\n"
        "prod:\n  <<: *base\n  y: 3\n"
        "l: [*base, .inf]\n"
    )
    document = read("a.yaml", text)
    assert document.items() == {
        "base.x": "1",
        "base.y": "two",
        "no": "no",
        "t": "true",
        "z": "",
        "e": "",
        "v": "1.10",
        "o": "0o17",
        "d": "2001-12-14",
        "m": "12",
        "q": "12",
        "b": "one\ntwo\n",
        "prod.y": "3",
        "prod.x": "1",
        "l.0.x": "1",
        "l.0.y": "two",
        "l.1": ".inf",
    }
    kinds = {key: leaf.kind for key, leaf in document.leaves().items()}
    assert kinds["o"] is kinds["l.1"] is kinds["base.x"] is Kind.NUMBER
    assert kinds["no"] is kinds["m"] is kinds["q"] is Kind.STRING
    assert (kinds["d"], kinds["z"], kinds["t"]) == (Kind.TIME, Kind.NULL, Kind.BOOLEAN)
    assert json.loads(document.get("l")) == [{"x": 1, "y": "two"}, ".inf"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_any_keys_make_a_path(keys: list[str]) -> None:
    assume(not any("\0" in key for key in keys))
    document = read("a.json", "{}")
    document.set(key_path(keys), "x")
    assert document.items() == {key_path(keys): "x"}
    found: Any = json.loads(document.dump())
    for key in keys:
        found = found[key]
    assert found == "x"


# --- the texts that edits make --------------------------------------------------------------

EDITS: list[tuple[str, str, list[tuple[str, str | None]], str]] = [
    (
        ".env",
        "# a\nexport A='x'  # hi\n\nB= # c\nexport C\n  D=1 2 # z\n",
        [("A", "it's"), ("B", "q"), ("NEW", "a b"), ("C", "1")],
        "# a\nexport A=\"it's\"  # hi\n\nB= q # c\nexport C\n  D=1 2 # z\nNEW='a b'\nC=1\n",
    ),
    (".env", "A=1\n\n  B='2\n3' # b\n# c\nC=3", [("B", None), ("C", None)], "A=1\n\n# c\n"),
    (".env", "A=1\nB=2\nA=3", [("A", "4")], "A=1\nB=2\nA=4"),
    (".env", "A=1\nB=2\nA=3", [("A", None)], "B=2\n"),
    (".env", "A=1", [("B", "2")], "A=1\nB=2\n"),
    (".env", "A=1\r\nB=x # y\r\n", [("B", "2"), ("C", "3")], "A=1\r\nB=2 # y\r\nC=3\r\n"),
    (".env", "", [("A", "$(x) `y` ${z}")], "A='$(x) `y` ${z}'\n"),
    (".env", "\ufeffA=1\n", [("A", None), ("B", "")], "\ufeffB=\n"),
    ("a.json", '{"a":1,"b":[]}', [("c", "x"), ("b.0", "y")], '{"a":1,"b":["y"],"c":"x"}'),
    ("a.json", '{"a": 1, "b": 2}\n', [("a", None), ("c.d", "x")], '{"b": 2, "c": {"d": "x"}}\n'),
    ("a.json", "{}", [("a.b", "é")], '{\n  "a": {\n    "b": "é"\n  }\n}'),
    (
        "a.json",
        '{\n\t"a": 1,\n\t"b": [\n\t\t1,\n\t\t2\n\t]\n}\n',
        [("b.2", "3"), ("a", "7"), ("b.0", None), ("c", "true")],
        '{\n\t"a": 7,\n\t"b": [\n\t\t2,\n\t\t"3"\n\t],\n\t"c": "true"\n}\n',
    ),
    ("a.json", '{\r\n "a": true\r\n}', [("b", "")], '{\r\n "a": true,\r\n "b": ""\r\n}'),
    ("a.json", '{\n  "a": {\n    "b": 1\n  }\n}', [("a.b", None)], '{\n  "a": {}\n}'),
    ("a.json", '{"a": true, "b": 1}', [("a", "false"), ("b", "x")], '{"a": false, "b": "x"}'),
    (
        "a.toml",
        "# top\na = 1 # one\n\n[t]  # table\nx = 'y'\n",
        [("a", "2"), ("b", "n\n"), ("t.x", "z"), ("t.u", "1")],
        '# top\na = 2 # one\nb = "n\\n"\n\n[t]  # table\nx = "z"\nu = "1"\n',
    ),
    ("a.toml", "a = 1\r\n[t]\r\nx = 1\r\n", [("t.y", "2")], 'a = 1\r\n[t]\r\nx = 1\r\ny = "2"\r\n'),
    ("a.toml", "", [("a.b.c", "x")], '[a.b]\nc = "x"\n'),
    ("a.toml", "a.b = 1\nc = 2\n", [("a.b", None)], "c = 2\n"),
    (
        "a.yaml",
        "# top\na: 1 # one\nb: |\n  foo\n\n# c\nc:\n  d: 'x'\n  # last\ne:\n",
        [("a", "2"), ("b", "k1\nk2"), ("c.d", "no"), ("c.f", "g"), ("e", "true")],
        "# top\na: 2 # one\nb: |-\n  k1\n  k2\n\n# c\n"
        "c:\n  d: 'no'\n  f: g\n  # last\ne: \"true\"\n",
    ),
    (
        "a.yaml",
        "l:\n- 1\n- a: b\n  c: d\n",
        [("l.1.a", None), ("l.2", "x")],
        "l:\n- 1\n- c: d\n- x\n",
    ),
    (
        "a.yaml",
        "l:\n- 1\nm: {a: b, c: d}\n",
        [("l.0", None), ("m.a", None)],
        "l:\n []\nm: {c: d}\n",
    ),
    ("a.yaml", "a:\n    b: 1\n", [("c.d", "x")], "a:\n    b: 1\nc:\n    d: x\n"),
    ("a.yaml", "", [("a.b", "x")], "a:\n  b: x\n"),
    ("a.yaml", "a: 1\r\nb: x\r\n", [("a", None), ("c", "z")], "b: x\r\nc: z\r\n"),
    ("a.yaml", "a: [1, 2] # c\n", [("a.2", "x y"), ("a.0", None)], 'a: [2, "x y"] # c\n'),
    (
        "a.yaml",
        "base: &b\n  x: 1\nprod:\n  <<: *b\n  y: 2\n",
        [("base.x", "5"), ("prod.x", "z"), ("prod.y", None)],
        "base: &b\n  x: 5\nprod:\n  <<: *b\n  x: z\n",
    ),
]


@pytest.mark.parametrize(("path", "text", "edits", "wanted"), EDITS)
def test_edits_keep_the_rest(
    path: str, text: str, edits: list[tuple[str, str | None]], wanted: str
) -> None:
    assert edited(path, text, *edits) == wanted


REFUSED = [
    (".env", "A=1\n", "not a name", "x"),
    (".env", "A=1\n", "A", "x\0y"),
    (".env", "A=1\n", "A", "\ud800"),
    ("a.json", '{"a": {"b": 1}}', "a", "x"),
    ("a.json", '{"a": {"b": 1}}', "a.b.c", "x"),
    ("a.json", '{"a": []}', "a.1", "x"),
    ("a.json", '{"a": []}', "a.x", "x"),
    ("a.toml", "a = 1\n", "a.b", "x"),
    ("a.yaml", "a: &a {x: 1}\nb: *a\n", "b.x", "2"),
    ("a.yaml", "a: &a 1\nb: *a\n", "a", "2"),
    ("a.yaml", "a: !secret x\n", "a", "2"),
    ("a.yaml", "a: &a {x: 1}\nb: {<<: *a}\n", "b.x", None),
]


@pytest.mark.parametrize(("path", "text", "key", "value"), REFUSED)
def test_what_can_not_be_edited_stays(path: str, text: str, key: str, value: str | None) -> None:
    document = read(path, text)
    before = document.items()
    with pytest.raises(errors.UsageError, match=r"can't be changed|is not a key"):
        document.unset(key) if value is None else document.set(key, value)
    assert document.dump() == text.encode()
    assert document.items() == before


@every_syntax
def test_what_is_not_there_can_not_be_unset(syntax: Syntax) -> None:
    text = "{}" if syntax is Syntax.JSON else ""
    with pytest.raises(errors.NoSuchVariable):
        read(NAMES[syntax], text).unset("a")


def test_a_value_of_a_kind_goes_from_one_document_to_another() -> None:
    for name, text, empty in (
        ("a.json", '{"n": 1.50, "b": true, "z": null, "e": {}, "l": [], "s": "1"}', "{}"),
        ("a.yaml", "n: 1.50\nb: true\nz: null\ne: {}\nl: []\ns: '1'\nd: 2001-12-14\n", ""),
        ("a.toml", "n = 1.50\nb = true\nl = []\ns = '1'\nd = 2001-12-14\n", ""),
    ):
        ours, theirs = read(name, empty), read(name, text)
        for key, leaf in theirs.leaves().items():
            ours.put(key, leaf)
        assert ours.leaves() == theirs.leaves()


# --- properties -----------------------------------------------------------------------------

words = st.text("abcXYZ_", min_size=1, max_size=5)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.text(
    " \n\r\t'\"\\#$`={}[]:,-abn1~!&*%@|>?\x85\u2028\ufeff", max_size=12
)
values = texts.map(lambda text: text.replace("\0", ""))
scalars = values | st.integers() | st.booleans() | st.sampled_from([0.5, -1.25])
trees = st.dictionaries(
    words,
    st.recursive(
        scalars,
        lambda inner: st.dictionaries(words, inner, max_size=3) | st.lists(inner, max_size=3),
        max_leaves=6,
    ),
    min_size=1,
    max_size=4,
)


@st.composite
def env_texts(draw: st.DrawFn) -> str:
    """A `.env` file; its parts are drawn so that most of it is usual and some is odd."""
    line = st.one_of(
        st.just(""),
        st.just("# comment 'quote"),
        st.just("export BARE"),
        st.builds(
            "{}{}{}{}{}".format,
            st.sampled_from(["", "export ", "  "]),
            words,
            st.sampled_from(["=", " = ", "= "]),
            st.sampled_from(["", "x", "a b", "'q # r'", '"d\\n\\"e"', "'two\nlines'", "a#b", "$X"]),
            st.sampled_from(["", " # why", "  ", " #"]),
        ),
    )
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = "\n".join(draw(st.lists(line, max_size=6))).replace("\n", end)
    return draw(st.sampled_from(["", "\ufeff"])) + text + draw(st.sampled_from(["", end]))


@st.composite
def tree_texts(draw: st.DrawFn, syntax: Syntax) -> str:
    tree = draw(trees)
    if syntax is Syntax.JSON:
        style = draw(st.sampled_from([(None, None), (2, None), ("\t", None), (None, (",", ":"))]))
        text = json.dumps(
            tree, indent=style[0], separators=style[1], ensure_ascii=draw(st.booleans())
        )
        return draw(st.sampled_from([text, text + "\n", text.replace("\n", "\r\n")]))
    if syntax is Syntax.TOML:
        text = tomlkit.dumps(tree)
        assume(_toml(text) == tree)  # tomlkit's own mistakes are none of ours
    elif draw(st.booleans()):
        text = yaml.safe_dump(tree, sort_keys=False, default_flow_style=draw(st.booleans()))
    else:
        out = io.StringIO()
        YAML(typ="safe", pure=True).dump(tree, out)
        text = out.getvalue()
    lines = text.splitlines(keepends=True)
    if draw(st.booleans()) and lines[0].isascii() and lines[0][0].isalpha():
        lines.insert(0, "# comment: [x\n\n")
    return "".join(lines)


def _toml(text: str) -> object:
    return tomllib.loads(text)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    syntax = draw(st.sampled_from(Syntax))
    text = draw(env_texts() if syntax is Syntax.DOTENV else tree_texts(syntax))
    try:
        document = read(NAMES[syntax], text)
    except errors.BadDocument:
        assume(False)
        raise
    assert document.dump() == text.encode()
    return document


def facts(document: Document) -> dict[str, str]:
    """What an independent reader says of a document's bytes."""
    data, syntax = document.dump(), syntax_of(document.path)
    if syntax is Syntax.DOTENV:
        found = dotenv_values(
            stream=io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig"), interpolate=False
        )
        # A name alone, even after a value, is not a variable with a value.
        return {key: value for key, value in found.items() if value is not None}
    text = data.decode().lstrip("\ufeff")
    tree: Any
    if syntax is Syntax.JSON:
        tree = json.loads(text)
    elif syntax is Syntax.TOML:
        tree = tomllib.loads(text)
    else:
        tree = YAML(typ="safe", pure=True).load(text)
    return dict(_flat(tree or {}, []))


def _flat(tree: Any, above: list[str]) -> Any:
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, each in inside:
        path = [*above, str(key)]
        if isinstance(each, (dict, list)) and each:
            yield from _flat(each, path)
        else:
            yield key_path(path), each if isinstance(each, str) else json.dumps(each)


def surroundings(old: str, new: str) -> str:
    """What of the old text is not, from its ends, in the new one."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    return old[start : len(old) - end]


@settings(max_examples=90, deadline=None)
@given(documents(), st.data())
def test_what_is_set_is_read_and_the_rest_stays(document: Document, data: st.DataObject) -> None:
    keys = st.sampled_from(sorted(document.items()) or ["a"]) | words | st.just("new.deep.key")
    key, value = data.draw(keys), data.draw(values)
    if syntax_of(document.path) is Syntax.DOTENV:
        key = key.replace(".", "_")
    before, old, was = document.items(), document.dump().decode(), facts(document)
    try:
        document.set(key, value)
    except errors.UsageError:
        assert document.dump().decode() == old
        # Nothing else is refused, but for a value in place of one of TOML's `[[tables]]`.
        assert any(each.startswith(f"{key}.") for each in before) or before[key] == "{}"
        return
    new = document.dump().decode()
    assert document.get(key) == value
    assert facts(document)[key] == value
    assert read(document.path, new).items() == document.items()
    gone = set(was) - set(facts(document))
    assert all(was[each] in ("{}", "[]") for each in gone)
    assert {k: v for k, v in facts(document).items() if k in was and k != key} == {
        k: v for k, v in was.items() if k != key and k not in gone
    }
    if key not in before and not gone:
        assert surroundings(old, new) == "", "a new key is put in, nothing is taken out"
    elif before.get(key) == value:
        assert old == new


@settings(max_examples=90, deadline=None)
@given(documents(), st.data())
def test_what_is_unset_is_gone_and_the_rest_stays(document: Document, data: st.DataObject) -> None:
    assume(document.items())
    key = data.draw(st.sampled_from(sorted(document.items())))
    old, was = document.dump().decode(), facts(document)
    assume(not key.split(".")[-1].isdigit())
    assume(not re.search(r"[\[,] *\?", old))  # a mapping without brackets, which can't be cut from
    document.unset(key)
    left = {k: v for k, v in facts(document).items() if v not in ("{}", "[]", "null")}
    assert left == {k: v for k, v in was.items() if k != key and v not in ("{}", "[]", "null")}
    with pytest.raises(errors.NoSuchVariable):
        document.get(key)
    new = document.dump().decode()
    assert _comments(new) == _comments(old)


def _comments(text: str) -> list[str]:
    return [line for line in text.lstrip("\ufeff").splitlines() if line.startswith("# comment")]


CANARY = "kanari5ecret"
FORMS = {
    Syntax.DOTENV: f"A={CANARY}\nB='{CANARY}'\nC=\"{CANARY}\\n\"\n{CANARY}=1\n",
    Syntax.JSON: f'{{"{CANARY}": "{CANARY}", "l": ["{CANARY}", 1, true], "b": {{"c": null}}}}',
    Syntax.TOML: f'a = "{CANARY}"\n{CANARY} = 1\nd = 2001-01-01\n[t]\nl = ["{CANARY}", 1]\n',
    Syntax.YAML: f"a: {CANARY}\n{CANARY}: &{CANARY} |\n  {CANARY}\nc: *{CANARY}\nl: [{CANARY}]\n",
}


@settings(max_examples=90, deadline=None)
@given(st.sampled_from(Syntax), st.data())
def test_malformed_documents_are_not_quoted(syntax: Syntax, data: st.DataObject) -> None:
    text = FORMS[syntax]
    junk = st.sampled_from(
        [
            *"\"'{}[]:,=#&*!|>\\%@`\t\n \x01\ufeff",
            CANARY,
            "\\x",
            "---",
            f"!{CANARY} ",
            f"*{CANARY}x",
        ]
    )
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 4))
        text = text[:at] + data.draw(junk) + text[at + cut :]
    try:
        read(NAMES[syntax], text).items()
    except errors.BadDocument as error:
        caught: BaseException | None = error
        while caught:
            shown = "".join(traceback.format_exception(type(caught), caught, None))
            assert CANARY[:6] not in shown + str(caught.args)
            caught = caught.__cause__ or caught.__context__


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(NAMES.values())),
    st.binary(max_size=60) | texts.map(str.encode),
    words,
    values,
)
def test_any_bytes_give_a_document_or_a_typed_error(
    name: str, data: bytes, key: str, value: str
) -> None:
    try:
        document = parse(name, data)
        assert document.dump() == data
        for each in document.items():
            document.get(each)
        document.set(key, value)
        assert document.get(key) == value
        document.unset(key)
    except errors.UsageError:
        pass


# --- the real readers of .env files ---------------------------------------------------------


@settings(max_examples=90, deadline=None)
@given(env_texts())
def test_dotenv_reads_the_same_file(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("env") / ".env"
    file.write_bytes(text.encode())
    found = dotenv_values(file, interpolate=False, encoding="utf-8-sig")
    bare = {key for key, value in found.items() if value is None}
    ours = read(".env", text).items()
    assert {k: v for k, v in ours.items() if k not in bare} == {
        k: v for k, v in found.items() if k not in bare
    }


def test_bash_reads_what_was_set(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    assert bash
    wanted = {
        "PLAIN": "https://ana:s3cret@db.example.test:5432/x?y=z,w",
        "SPACES": "  a  b ",
        "DOLLAR": "$HOME `id` $(id) ${X} !! \\n",
        "QUOTE": 'it\'s "both"',
        "BACK": "C:\\dir\\",
        "LINES": "-----BEGIN KEY-----\nabc+/=\n-----END KEY-----\n",
        "HASH": "a #b",
        "TILDE": "~/x",
        "EMPTY": "",
        "UNICODE": "é\u2028\x85\ufeff",
        "TAB": "\ta",
    }
    document = read(".env", "# made for bash\nexport PLAIN=old # why\nTAB=\n")
    for key, value in wanted.items():
        document.set(key, value)
    file = tmp_path / ".env"
    file.write_bytes(document.dump())
    names = " ".join(f'"${name}"' for name in wanted)
    done = subprocess.run(
        [bash, "-c", f"set -a; . ./.env; printf '%s\\0' {names}"],
        cwd=tmp_path,
        env={},
        check=True,
        capture_output=True,
    )
    assert not done.stderr
    assert dict(zip(wanted, done.stdout.decode().split("\0"), strict=False)) == wanted
    assert document.items() == wanted == dotenv_values(file, interpolate=False)
