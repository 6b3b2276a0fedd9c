"""Where pathspec differs from git: the reason why `.dorkyignore` has a matcher of its own.

Each row of `docs/decisions/0005-own-ignore-matcher.md`. They fail today; once one passes, pathspec
has changed, and the decision is due to be read again.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pathspec
import pytest

ROWS = [
    ("data/**\n!data/keep", "data/keep"),
    ("[[:alpha:]].txt", "a.txt"),
    ("[\\]a]x", "]x"),
    ("?.txt", "\u00e9.txt"),
    ("foo\\", "foo"),
    ("[b-a]\n*.log", "x.log"),
]


def ignored_by_git(top: Path, patterns: str, path: str) -> bool:
    git = ["git", "-c", "core.excludesFile=/dev/null"]
    subprocess.run([*git, "init", "-q", top], check=True, timeout=30)
    (top / ".gitignore").write_text(patterns + "\n")
    file = top / path
    file.parent.mkdir(exist_ok=True)
    file.touch()
    listed = [*git, "ls-files", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(listed, cwd=top, check=True, capture_output=True, timeout=30)
    return os.fsencode(path) not in done.stdout.split(b"\0")


def ignored_by_pathspec(patterns: str, path: str) -> bool:
    """Walk as git does: into no directory that is ignored."""
    spec = pathspec.GitIgnoreSpec.from_lines(patterns.splitlines())
    parts = path.split("/")
    above = ["/".join(parts[:n]) + "/" for n in range(1, len(parts))]
    return any(spec.match_file(each) for each in [*above, path])


@pytest.mark.parametrize(("patterns", "path"), ROWS)
@pytest.mark.xfail(strict=True, reason="pathspec does not follow git (decision 0005)")
def test_pathspec_follows_git(tmp_path: Path, patterns: str, path: str) -> None:
    expected = ignored_by_git(tmp_path, patterns, path)
    assert ignored_by_pathspec(patterns, path) == expected


def test_the_comparison_is_fair(tmp_path: Path) -> None:
    for n, (patterns, path) in enumerate([("*.log", "x.log"), ("/a", "b"), ("d/", "d/x")]):
        expected = ignored_by_git(tmp_path / str(n), patterns, path)
        assert ignored_by_pathspec(patterns, path) == expected
