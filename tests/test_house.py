"""The house of the tests: a mirror of the package, and nothing shared but by `tests/support/`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "dorky"
FILES = sorted(TESTS.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(TESTS)))
def test_no_file_imports_a_test_file(file: Path) -> None:
    modules = [*imported(file.read_text("utf-8"))]
    assert not [name for name in modules if name.split(".")[-1].startswith(("test_", "conftest"))]


def imported(source: str) -> Iterator[str]:
    """The modules that a file imports, also from where it stands, and later."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)
            yield node.module or ""


def test_imports_are_found_wherever_they_stand() -> None:
    source = "import a.test_b\ndef f():\n    from .conftest import g\n    from . import test_h\n"
    assert {"a.test_b", "conftest", ".test_h"} <= set(imported(source))


def test_every_directory_of_unit_tests_is_a_package() -> None:
    rooms = [path for path in (TESTS / "unit").iterdir() if [*path.rglob("test_*.py")]]
    assert not [path.name for path in rooms if path.is_dir() and not (PACKAGE / path.name).is_dir()]
