"""Find prose that breaks the mechanical part of the project's rules of English.

Run as ``python docs/prose.py``; `python3 dev.py lint` does. It reads the pages, and of the code the
comments and docstrings. Each finding is one line: where, which rule, and the text.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = ("dorky", "docs", "examples", "benchmarks", "dev.py")
PAGES = ("docs", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "AGENTS.md")
# The format's own issue rewrites these three; the reference is made of docstrings.
LATER = {f"docs/internals/{page}.md" for page in ("format", "protocol", "security")}
GENERATED = "docs/reference/"

SUBJECT = 72
SINCE = "153d77313dd50053cbe81065e0ce98abf0d3d9fe"
"""The commit after which subjects are checked."""

_VERBS = "is|are|has|have|was|were|can|may|must|does|did|leaves|had|comes|holds|stands|only|should"
_TYPES = "feat|fix|docs|test|refactor|perf|build|ci|style|chore|revert"
_HEADLESS = rf"(?:^|[.:] )(?:Who|What|Whoever|Whatever) (?:{_VERBS})\b"
_RULES = [
    (why, re.compile(pattern))
    for why, pattern in (
        ("a headless opening: name the subject", _HEADLESS),
        ('say "again", "newly" or "re-encrypt"', r"\b[Aa]new\b"),
        ('say "so that … not"', r"\b[Ll]est\b"),
        ('say "follow" or "honour"', r"\b[Hh]eed(?:s|ed|ing)?\b"),
        ('say "repair" or "fix"', r"\b[Mm]end(?:s|ed|ing)?\b"),
        ('say "permanently"', r"\bfor good\b"),
    )
]


def main() -> int:
    """Print what is found; return 1 if anything is."""
    found = [*pages(), *code(), *subjects()]
    print("\n".join(found) or "prose: nothing found")
    return bool(found)


def pages() -> Iterator[str]:
    """Check Markdown, without its code."""
    for path in files(PAGES, ".md"):
        name = path.relative_to(ROOT).as_posix()
        if name in LATER or name.startswith(GENERATED):
            continue
        fenced = False
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if line.lstrip().startswith("```"):
                fenced = not fenced
            elif not fenced:
                yield from check(re.sub(r"`[^`]*`", "", line), f"{name}:{number}")


def code() -> Iterator[str]:
    """Check the comments and docstrings of Python files."""
    for path in files(CODE, ".py"):
        name = path.relative_to(ROOT).as_posix()
        source = path.read_text("utf-8")
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                yield from check(token.string.lstrip("# "), f"{name}:{token.start[0]}")
        for node in ast.walk(ast.parse(source)):
            text = node.value if isinstance(node, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                for n, line in enumerate(text.value.splitlines()):
                    yield from check(line.strip(), f"{name}:{text.lineno + n}")


def subjects() -> Iterator[str]:
    """Check the subjects of commits, where the history is at hand."""
    git = ["git", "log", "--no-merges", "--format=%h %s", f"{SINCE}..HEAD"]
    done = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        commit, _, subject = line.partition(" ")
        if len(subject) > SUBJECT:
            yield f"{commit}: a subject of {len(subject)} characters (at most {SUBJECT}): {subject}"
        if not re.match(rf"(?:{_TYPES})(?:\([\w/-]+\))?!?: ", subject):
            yield f"{commit}: a subject without a type (feat, fix, docs, …): {subject}"


def files(places: tuple[str, ...], suffix: str) -> Iterator[Path]:
    """Yield the files of some kind at or below places."""
    for place in places:
        path = ROOT / place
        yield from sorted(path.rglob(f"*{suffix}")) if path.is_dir() else [path]


def check(line: str, where: str) -> Iterator[str]:
    """Yield what is wrong with a line."""
    for why, pattern in _RULES:
        if pattern.search(line):
            yield f"{where}: {why}: {line.strip()[:100]}"


if __name__ == "__main__":
    sys.exit(main())
