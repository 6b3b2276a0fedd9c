"""Commands are named at the border alone: the library says what failed, `hints` what to run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import dorky
from dorky import errors
from dorky.cli import hints
from dorky.cli.main import everything
from dorky.results import Check, Finding, Remedy

PACKAGE = Path(dorky.__file__).parent
LIBRARY = [path for path in sorted(PACKAGE.rglob("*.py")) if "cli" not in path.parts]
COMMANDS = [name for name, command in everything().commands.items() if not command.hidden]
LINE = re.compile(rf"\bdorky ({'|'.join(COMMANDS)})\b")


def texts(tree: ast.AST) -> Iterator[ast.Constant]:
    """The strings of a module, but for docstrings."""
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_library_names_no_command(path: Path) -> None:
    tree = ast.parse(path.read_text())
    named = [
        f"{path}:{text.lineno}: {text.value}" for text in texts(tree) if LINE.search(text.value)
    ]
    assert not named
    hinting = [
        call.lineno for call in calls(tree) if "hint" in {word.arg for word in call.keywords}
    ]
    assert not hinting, f"{path}: only the command line's own errors carry their hint"


def test_the_scan_sees_a_command() -> None:
    tree = ast.parse('"""Run dorky pull."""\nx = f"if so: dorky pull {y}"\nf(hint="")')
    assert [text.value for text in texts(tree) if LINE.search(text.value)] == ["if so: dorky pull "]


def test_a_command_in_a_hint_exists() -> None:
    for kind, text in hints.TEXTS.items():
        for word in re.findall(r"\bdorky ([a-z]+)\b", text):
            if word not in {"that", "must", "deletes", "shows"}:
                assert word in COMMANDS, (kind, text)


def test_every_remedy_has_words() -> None:
    made = {
        call.args[0].value
        for path in LIBRARY
        for call in calls(ast.parse(path.read_text()))
        if isinstance(call.func, ast.Name) and call.func.id == "Remedy"
        if isinstance(call.args[0], ast.Constant)
    }
    assert made == set(hints.REMEDIES)
    for what in made:
        assert "{" not in hints.remedy(Remedy(what, ("a b", "c d")))


def test_a_finding_is_told_with_its_remedy() -> None:
    found = Finding(code="x", subject="y", about="z", remedy=Remedy("touch", ("a b",)))
    said = "if a b is as it was: touch 'a b', then dorky stage 'a b'"
    assert hints.finding_in_words(found).remedy == said
    assert hints.finding_in_words(hints.finding_in_words(found)).remedy == said
    failed = Check(
        name="x", verdict="fail", about="y", remedy=Remedy("not-set-up", error=errors.NotSetUp("x"))
    )
    assert hints.check_in_words(failed).remedy == "dorky pull"
    assert hints.remedy(Remedy("stage", ("a b", "c"))) == "dorky stage 'a b' c"


def test_a_hint_of_a_class_holds_for_those_below_it() -> None:
    class Own(errors.NoRemote):
        """{0} is missing."""

    assert hints.hint(Own("x")) == "dorky remote add x s3://bucket/prefix"
    assert hints.hint(errors.CorruptPack("x", "y", blocks="gc")).startswith("dorky fsck: until")


def test_credentials_are_taken_out_of_what_the_choice_is_made_of() -> None:
    said = hints.hint(errors.Rewound("x", 1, 2, cloning="https://me:hunter2@host/x"))
    assert "hunter2" not in said
