"""The documentation is held true: generated pages, links, and the README's tour."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import dorky

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]

FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
TOUR = re.compile(r"<!-- tour -->(.*?)<!-- /tour -->", re.DOTALL)


@pytest.mark.skipif(
    tuple(map(int, version("typer").split(".")[:2])) > (0, 26), reason="typer writes other metavars"
)
def test_generated_pages_are_fresh_wherever_they_are_made() -> None:
    odd = {"COLUMNS": "31", "HOME": "/nowhere", "LC_ALL": "C", "TERM": "dumb", "FORCE_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"],
        env={**os.environ, **odd},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCED.sub("", page.read_text("utf-8"))
    broken = []
    for link in (inline or reference for inline, reference in LINK.findall(text)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def anchors(page: Path) -> set[str]:
    """The anchors that Markdown renderers give a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("folder", ["guides", "decisions", "internals"])
def test_the_index_has_every_page(folder: str) -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    pages = [f"{folder}/{page.name}" for page in (ROOT / "docs" / folder).glob("*.md")]
    assert not [page for page in pages if f"({page})" not in index]


def test_the_tour_of_the_readme_runs(tmp_path: Path) -> None:
    script = tour(README.read_text("utf-8"))
    assert "dorky push" in script, "README.md has no <!-- tour --> … <!-- /tour --> with commands"
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\nname = Ana\nemail = ana@example.org\n[init]\ndefaultBranch = main\n"
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-x", "-c", script],
        cwd=home,
        env={
            "HOME": str(home),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "GIT_CONFIG_NOSYSTEM": "1",
            "LC_ALL": "C.UTF-8",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def tour(markdown: str) -> str:
    """The command lines of a tour's blocks, as one script: what ``cd`` did stays done.

    A ``console`` block shows a terminal: what follows ``$ `` was typed, with its continuation
    lines (``> ``); the rest is output. An ``sh`` block without prompts is all commands.
    """
    lines = []
    for part in TOUR.findall(markdown):
        for language, block in FENCED.findall(part):
            if language not in ("console", "sh"):
                continue
            typed = re.findall(r"^(?:\$|>) (.*)$", block, re.MULTILINE)
            lines += [block] if language == "sh" and not typed else typed
    return "\n".join(lines)


def test_tours_are_read_as_they_are_typed() -> None:
    page = (
        "```sh\nnot me\n```\n<!-- tour -->\n```sh\ncd a\nls\n```\nprose\n```console\n"
        "$ echo one \\\n>   two\none   two\n$ cd b\n```\n```toml\nno = 1\n```\n<!-- /tour -->\n"
    )
    assert tour(page).split("\n") == ["cd a", "ls", "", "echo one \\", "  two", "cd b"]


PROMISES = ROOT / "docs" / "internals" / "promises.md"
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`(\s+\(deep\))?")


def test_every_promise_names_tests_that_exist() -> None:
    text = PROMISES.read_text("utf-8")
    promises = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert [each[:2] for each in promises] == [f"{n}." for n in range(1, 9)]
    wrong = []
    for promise in promises:
        named = NAMED.findall(promise)
        assert named, promise.partition("\n")[0]
        for file, function, deep in named:
            if known_tests(file).get(function) != bool(deep):
                wrong.append(f"{file}::{function}{deep}")
    assert not wrong
    assert text.count("::test_") == len(NAMED.findall(text))


@functools.cache
def known_tests(file: str) -> dict[str, bool]:
    """The tests in a file, and whether they are deep."""
    path = ROOT / file
    tree = ast.parse(path.read_text("utf-8")) if path.exists() else ast.Module([], [])
    return {
        node.name: "pytest.mark.deep" in map(ast.unparse, node.decorator_list)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_no_page_installs_the_other_dorky() -> None:
    """The package dorky of PyPI is another project's."""
    installs = re.compile(
        r"\b(?:(?:pip3?|pipx|uv|uv tool|uv pip)\s+(?:install|run|add)|uvx)\s+(?:-\S+\s+)*dorky"
        r"(?:\s|\[|[=<>~`]|$)",
        re.MULTILINE,
    )
    assert installs.search("  pip install --user dorky==1\n")
    assert installs.search("uvx dorky")
    assert not installs.search("pip install dorky-client; pip install ./dorky; pipx install .")
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*")]
    pages += [*ROOT.glob(".github/**/*.y*ml"), *ROOT.glob(".*.yaml"), *ROOT.glob("dorky/**/*.py")]
    found = [str(page) for page in pages if page.is_file() and installs.search(page.read_text())]
    assert not found


def test_the_package_is_called_dorky_client() -> None:
    assert version("dorky-client") == dorky.__version__
    with pytest.raises(PackageNotFoundError):
        version("dorky")
