"""What is exported, fed to those who read it."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from dotenv import dotenv_values
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from dorky import errors
from dorky.cli import hints
from dorky.documents.export import Form, export, masked

EDGES = [
    "",
    " ",
    "a",
    "a b",
    " a ",
    "'",
    '"',
    "''",
    'it\'s "both"',
    "'quoted'",
    '"quoted"',
    "$HOME ${HOME} $(id) `id` !! \\$x",
    "it's $(id)",
    "\\",
    "\\\\",
    "\\n",
    "a\\",
    "C:\\dir\\'x",
    "\n",
    "a\nb",
    "a\n",
    "\na\n\n",
    "\r",
    "a\rb",
    "a\r\nb",
    "a\r",
    "\t",
    "#",
    "a #b",
    "a: b",
    "a:",
    "- a",
    "? a",
    "{a}",
    "[a]",
    "*a",
    "&a",
    "!a",
    "@a",
    "%a",
    "|",
    ">",
    "~",
    "~/x",
    "<<",
    "=",
    "no",
    "NO",
    "y",
    "on",
    "true",
    "null",
    "Null",
    "007",
    "0o7",
    "0x1F",
    "1_000",
    "1e3",
    "1.10",
    ".inf",
    ".nan",
    "1:30",
    "2001-12-14",
    "---",
    "...",
    "EOF",
    "A<<B",
    "A=B",
    "é",
    "\x01\x1b[31m\x7f",
    "\x85",
    "\xa0",
    "\u2028",
    "\u2029",
    "\ufeff",
    "\ufffe",
    "\ufffd",
    "😀",
    "\U0010ffff",
    "x" * 5000,
    "-----BEGIN KEY-----\nabc+/=\n-----END KEY-----\n",
]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.text(
    " \n\r\t'\"\\#$`={}[]:,-abn1~!&*%@|>?\x85\u2028\ufeff<", max_size=12
)
values = (texts | st.sampled_from(EDGES)).map(lambda text: text.replace("\0", ""))
names = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,8}\Z")
variables = st.dictionaries(names, values, max_size=8)
edges = {f"V{number}": value for number, value in enumerate(EDGES)}


def carried(wanted: Mapping[str, str], form: Form) -> dict[str, str]:
    """Those of the variables that a form takes."""
    taken = {}
    for name, value in wanted.items():
        try:
            export({name: value}, form)
        except errors.CantExport:
            continue
        taken[name] = value
    return taken


# --- shells ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "dash"])
@settings(max_examples=15, deadline=None)
@given(st.lists(values, max_size=60))
def test_a_shell_reads_them(shell: str, found: list[str]) -> None:
    program = shutil.which(shell)
    if not program:
        pytest.skip(f"there is no {shell} here")
    wanted = {**edges, **{f"X{number}": value for number, value in enumerate(found)}}
    shown = " ".join(f'"${name}"' for name in wanted)
    script = export(wanted, Form.SHELL) + f"printf '%s\\0' {shown}"
    done = subprocess.run(
        [program], input=script.encode(), env={"PATH": "/usr/bin:/bin"}, capture_output=True
    )
    assert not done.stderr
    assert done.stdout.decode().split("\0")[:-1] == list(wanted.values())


def test_a_shell_exports_them(tmp_path: Path) -> None:
    script = export({"A": "it's\n$(id)"}, Form.SHELL)
    done = subprocess.run(
        ["sh", "-c", script + "exec env -0"], env={}, check=True, capture_output=True
    )
    assert b"A=it's\n$(id)" in done.stdout.split(b"\0")


def test_bash_reads_the_dotenv_form_where_both_can() -> None:
    wanted = carried(edges, Form.DOTENV)
    assert len(wanted) > 50
    shown = " ".join(f'"${name}"' for name in wanted)
    script = f"set -a\n{export(wanted, Form.DOTENV)}printf '%s\\0' {shown}"
    done = subprocess.run(["bash"], input=script.encode(), env={}, check=True, capture_output=True)
    assert not done.stderr
    assert done.stdout.decode().split("\0")[:-1] == list(wanted.values())


# --- parsers --------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(variables)
def test_python_dotenv_reads_them(found: dict[str, str]) -> None:
    wanted = carried({**found, **edges}, Form.DOTENV)
    data = export(wanted, Form.DOTENV).encode()
    for interpolate in (False, True):
        stream = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
        assert dotenv_values(stream=stream, interpolate=interpolate) == wanted


@pytest.mark.parametrize(
    "value", ["${HOME}", "a\\\\b", "a\\", "a\rb", 'it\'s "both"', "it's $5", "it's `x`", "'\\n"]
)
def test_what_readers_of_dotenv_read_differently_is_refused(value: str) -> None:
    with pytest.raises(errors.CantExport, match=r"readers of \.env files differ on its value"):
        export({"A": value}, Form.DOTENV)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(texts, texts, max_size=6))
def test_json_and_yaml_readers_read_them(found: dict[str, str]) -> None:
    wanted = {**found, **dict(zip(EDGES, EDGES, strict=True))}
    wanted = carried(wanted, Form.YAML)
    assert len(wanted) >= len(EDGES) - 1
    assert json.loads(export(wanted, Form.JSON)) == wanted
    text = export(wanted, Form.YAML)
    assert yaml.safe_load(text) == wanted
    assert yaml.safe_load(text.encode()) == wanted
    assert YAML(typ="safe", pure=True).load(text) == wanted
    old = YAML(typ="safe", pure=True)
    old.version = (1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert old.load(text) == wanted


@pytest.mark.parametrize("form", Form, ids=lambda each: each.value)
def test_nothing_is_something_to_read(form: Form) -> None:
    text = export({}, form)
    assert text == ("{}\n" if form in (Form.JSON, Form.YAML) else "")


# --- docker ---------------------------------------------------------------------------------


def docker(data: bytes) -> dict[str, str]:
    """What `docker run --env-file` reads, as pkg/kvfile of github.com/docker/cli says.

    Both ways: some versions take quotes around a value away, others do not.
    """
    found: list[dict[str, str]] = [{}, {}]
    lines = data.split(b"\n")
    for number, each in enumerate(lines):
        assert len(each) < 64 * 1024, "bufio.Scanner: token too long"
        scanned = each.removesuffix(b"\r").decode()
        if number == 0:
            scanned = scanned.removeprefix("\ufeff")
        line = scanned.lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        assert name, "no variable name on line"
        assert not set(name) & {" ", "\t"}, "variable contains whitespaces"
        assert equals
        found[0][name] = value
        quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
        found[1][name] = value[1:-1] if quoted else value
    assert found[0] == found[1]
    return found[0]


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(names | texts, values, max_size=8))
def test_docker_reads_them(found: dict[str, str]) -> None:
    wanted = carried({**found, **edges}, Form.DOCKER)
    assert {"", " a ", "#", "A=B", "it's $(id)", "\\n", "\u2028"} <= set(wanted.values())
    assert docker(export(wanted, Form.DOCKER).encode()) == wanted


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("A", "x\ny", "line end"),
        ("A", "x\r", "line end"),
        ("A", "'x'", "quotes"),
        ("A", '"x"', "quotes"),
        ("A", "x" * 65_536, "longer"),
        ("A", "é" * 32_767, "longer"),
        ("", "x", "name"),
        ("A B", "x", "name"),
        ("#A", "x", "name"),
        ("A=B", "x", "name"),
        ("\ufeffA", "x", "name"),
        ("A", "x\0", "NUL"),
    ],
)
def test_what_docker_would_misread(name: str, value: str, reason: str) -> None:
    with pytest.raises(errors.CantExport, match=reason):
        export({name: value}, Form.DOCKER)


# --- GitHub ---------------------------------------------------------------------------------


def github(text: str) -> dict[str, str]:
    """What the runner reads of `$GITHUB_ENV`: FileCommandManager.cs of github.com/actions/runner.

    The format is at docs.github.com, "Workflow commands", "Multiline strings".
    """
    found = {}
    lines = text.split("\n")
    assert lines.pop() == ""
    while lines:
        line = lines.pop(0)
        if not line:
            continue
        equals, heredoc = line.find("="), line.find("<<")
        if equals >= 0 and (heredoc < 0 or equals < heredoc):
            name, _, value = line.partition("=")
        else:
            assert heredoc >= 0, "Invalid format"
            name, _, delimiter = line.partition("<<")
            at = lines.index(delimiter)
            value = "\n".join(lines[:at])
            del lines[: at + 1]
        found[name] = value
    return found


@settings(max_examples=100, deadline=None)
@given(variables)
def test_the_runner_reads_them(found: dict[str, str]) -> None:
    wanted = carried({**found, **edges}, Form.GITHUB)
    assert len(wanted) >= len(edges) - 2
    text = export(wanted, Form.GITHUB)
    assert github(text) == wanted


def test_a_value_can_not_foresee_its_delimiter() -> None:
    once, again = (export({"A": "x", "B": "x"}, Form.GITHUB) for _ in range(2))
    delimiters = re.findall(r"<<(\w+)$", once + again, re.MULTILINE)
    assert len(set(delimiters)) == 4
    assert all(len(each) >= 32 for each in delimiters)


def test_what_the_runner_does_not_take() -> None:
    for name in ("NODE_OPTIONS", "GITHUB_TOKEN", "RUNNER_OS", "A<<B", "A=B", "A\nB", ""):
        with pytest.raises(errors.CantExport):
            export({name: "x"}, Form.GITHUB)
    with pytest.raises(errors.CantExport, match="carriage return"):
        export({"A": "x\r"}, Form.GITHUB)


# --- all of them ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", Form, ids=lambda each: each.value)
@pytest.mark.parametrize(
    "name", ["", "1A", "A B", "A'", "A;id", "A\nB", "A=B", "é", "A\n", "$(id)"]
)
def test_no_name_gets_out_of_its_place(form: Form, name: str) -> None:
    if form in (Form.JSON, Form.YAML):
        assert yaml.safe_load(export({name: "x"}, form)) == {name: "x"}
    elif form is Form.DOCKER and name in ("1A", "A'", "A;id", "é", "$(id)"):
        assert docker(export({name: "x"}, form).encode()) == {name: "x"}
    else:
        with pytest.raises(errors.CantExport) as caught:
            export({name: "x"}, form)
        assert "\n" not in caught.value.message


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(Form), st.text(max_size=5), st.text(max_size=5))
def test_a_refusal_names_the_variable_and_no_value(form: Form, before: str, after: str) -> None:
    value = f"{before}kanari5ecret{after}"
    try:
        export({"OTHER": value[::-1].replace("\0", ""), "NAME": value}, form)
        return
    except errors.CantExport as refused:
        error = refused
    assert re.match(f"(NAME|OTHER) can't be written for {form.value}: ", error.message)
    assert "kanari" not in error.message + hints.hint(error)
    assert error.__context__ is None


@pytest.mark.parametrize("form", Form, ids=lambda each: each.value)
def test_half_a_surrogate_pair_is_refused(form: Form) -> None:
    for name, value in (("A", "\ud800"), ("A\udc00", "x")):
        with pytest.raises(errors.CantExport):
            export({name: value}, form)


@given(st.text(), st.text())
def test_a_mask_tells_nothing(one: str, other: str) -> None:
    assert masked(one) == masked(other) == "********"
