"""The files that dorky ignores: `.dorkyignore` files, read exactly as git reads `.gitignore`.

The translation follows git's `dir.c` and `wildmatch.c`, because no class of pathspec (1.1) does:
in a walk it differs for `data/**` with `!data/keep`, for `[[:alpha:]]`, `[\\]a]` and names beyond
ASCII, and it raises on a backslash at the end and on `[b-a]`, which git accepts.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dorky import errors, files

FILE = ".dorkyignore"

_NEVER = frozenset({".git", ".dorky"})
_ANYTHING = frozenset({".hg", ".svn", ".DS_Store", "Thumbs.db"})
_SUFFIXES = (".swp", "~")
# `env` is missing although virtual environments often have this name, because `.env` files lie in
# such directories, too. Virtual environments are known by their pyvenv.cfg instead (PEP 405).
_DIRECTORIES = frozenset(
    {
        "node_modules",
        "__pycache__",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".tox",
        ".nox",
        ".cache",
        ".terraform",
        ".gradle",
        ".next",
        ".nuxt",
        ".turbo",
    }
)

# The character classes of wildmatch.c: ASCII only, whatever the locale.
_CLASSES = {
    "alnum": [*range(48, 58), *range(65, 91), *range(97, 123)],
    "alpha": [*range(65, 91), *range(97, 123)],
    "blank": [9, 32],
    "cntrl": [*range(32), 127],
    "digit": [*range(48, 58)],
    "graph": [*range(33, 127)],
    "lower": [*range(97, 123)],
    "print": [*range(32, 127)],
    "punct": [*range(33, 48), *range(58, 65), *range(91, 97), *range(123, 127)],
    "space": [9, 10, 13, 32],
    "upper": [*range(65, 91)],
    "xdigit": [*range(48, 58), *range(65, 71), *range(97, 103)],
}
_CLASS = re.compile(r"\[:([^]]*):\]")
_UNTRIMMED = re.compile(r"((?:\\.|[^\\])*?) *\Z", re.DOTALL)


class Rule(NamedTuple):
    """One line of an ignore file."""

    file: str
    """The path of its file in the repository; empty for a default rule."""
    line: int
    """The line number, from 1; 0 for a default rule."""
    pattern: str

    @property
    def ignores(self) -> bool:
        """Return whether the rule ignores its matches; otherwise it un-ignores them."""
        return not self.pattern.startswith("!")


class _Rules:
    """The rules of one file, as regular expressions whose groups are the rules, last first.

    Rules for a name at any depth are matched with the name alone, separately from rules for a path:
    one expression for both, over whole paths, takes three times as long.
    """

    def __init__(self, names: list[tuple[Rule, str]], paths: list[tuple[Rule, str]]) -> None:
        self._names = [rule for rule, _ in reversed(names)]
        self._paths = [rule for rule, _ in reversed(paths)]
        self._match_name = re.compile("|".join(f"({regex})" for _, regex in reversed(names)))
        self._match_path = re.compile("|".join(f"({regex})" for _, regex in reversed(paths)))

    def decide(self, base: str, entry: str) -> Rule | None:
        """Return the last rule that matches an entry (directory names end in NUL) of ``base``."""
        name = self._match_name.fullmatch(entry)
        path = self._match_path.fullmatch(base + entry)
        by_name = self._names[name.lastindex - 1] if name and name.lastindex else None
        by_path = self._paths[path.lastindex - 1] if path and path.lastindex else None
        if by_name and by_path:
            return by_name if by_name.line > by_path.line else by_path
        return by_name or by_path


class Ignore:
    """The rules that hold in one directory; made for a walk that descends with `enter`.

    In git, nothing below an ignored directory can be un-ignored. The walk ensures that: it does not
    enter what `match` ignores.
    """

    def __init__(self, directory: str, path: str, outer: tuple[tuple[str, _Rules], ...]) -> None:
        own = _load(f"{directory}/{FILE}", path + FILE)
        self._directory = directory
        self._path = path
        # Deepest first, each with the path from its directory to this one.
        self._files = (("", own), *outer) if own else outer

    @classmethod
    def root(cls, worktree: Path) -> Ignore:
        """Return the rules at the top of a project.

        Raises:
            BadConfig: Its `.dorkyignore` is not UTF-8.
            UnreadableFile: Its `.dorkyignore` can't be read.
        """
        return cls(os.fspath(worktree), "", ())

    def enter(self, name: str) -> Ignore:
        """Return the rules of a child directory: these, overridden by its own `.dorkyignore`.

        Raises:
            BadConfig: Its `.dorkyignore` is not UTF-8.
            UnreadableFile: Its `.dorkyignore` can't be read.
        """
        step = f"{_bytewise(name)}/"
        outer = tuple((base + step, rules) for base, rules in self._files)
        return Ignore(f"{self._directory}/{name}", f"{self._path}{name}/", outer)

    def match(self, name: str, *, is_dir: bool) -> bool:
        """Return whether an entry of this directory is ignored; a link is never ``is_dir``."""
        rule = self._decide(name, is_dir=is_dir)
        return rule is not None and rule.ignores

    def why(self, path: str) -> Rule | None:
        """Return the rule that ignores ``path`` or one of its parents; None if none does.

        Args:
            path: Relative to this directory. The disk tells whether it is a directory.

        Raises:
            BadConfig: A `.dorkyignore` on the way is not UTF-8.
            UnreadableFile: A `.dorkyignore` on the way can't be read.
        """
        here = self
        *parents, last = path.split("/")
        for parent in parents:
            rule = here._decide(parent, is_dir=True)
            if rule and rule.ignores:
                return rule
            here = here.enter(parent)
        target = Path(here._directory, last)  # noqa: SLF001
        rule = here._decide(last, is_dir=target.is_dir() and not target.is_symlink())  # noqa: SLF001
        return rule if rule and rule.ignores else None

    def ignored(self, path: str) -> bool:
        """Return whether a walk skips ``path``; takes the same argument and raises as `why`."""
        return self.why(path) is not None

    def _decide(self, name: str, *, is_dir: bool) -> Rule | None:
        """Return the last rule that matches an entry, either way; None if none matches."""
        if name.lower() in _NEVER:  # .GIT is .git if the file system ignores case
            return Rule("", 0, name)
        if self._files:
            entry = _bytewise(name) + "\0" if is_dir else _bytewise(name)
            for base, rules in self._files:
                if rule := rules.decide(base, entry):
                    return rule
        return self._default(name, is_dir=is_dir)

    def _default(self, name: str, *, is_dir: bool) -> Rule | None:
        if name in _ANYTHING:
            return Rule("", 0, name)
        if name.endswith(_SUFFIXES):
            return Rule("", 0, "*~" if name[-1] == "~" else "*.swp")
        if is_dir and name in _DIRECTORIES:
            return Rule("", 0, f"{name}/")
        if is_dir and os.path.exists(f"{self._directory}/{name}/pyvenv.cfg"):  # noqa: PTH110
            return Rule("", 0, f"{name}/ (a Python virtual environment)")
        return None


def sparse_rules(file: Path) -> Callable[[str], bool]:
    """Read the patterns of a sparse checkout; return which paths are checked out.

    Source: `path_in_sparse_checkout_1` in git's dir.c. Patterns of the cone mode have the same
    meaning when they are read as patterns.
    """
    with files.disk_errors(file):
        text = os.fsdecode(file.read_bytes())
    rules = _parsed(text, file.name)

    def includes(path: str) -> bool:
        entry = _bytewise(path)
        while entry and rules:
            directory, _, name = entry.rstrip("\0").rpartition("/")
            end = "\0" if entry.endswith("\0") else ""
            if rule := rules.decide(f"{directory}/" if directory else "", name + end):
                return rule.ignores
            entry = f"{directory}\0" if directory else ""
        return False

    return includes


def _load(file: str, path: str) -> _Rules | None:
    """Read one `.dorkyignore`; None if it is missing or without rules."""
    try:
        os.lstat(file)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None  # the walk reports a directory without permission
    with files.disk_errors(file):
        try:
            # Opening a pipe of that name would block for ever.
            if not stat.S_ISREG(os.stat(file).st_mode):  # noqa: PTH116
                return None
            data = Path(file).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise errors.BadConfig(path, f"it is not UTF-8 (byte {error.start})") from None
    return _parsed(text, path)


def _parsed(text: str, path: str) -> _Rules | None:
    """Parse the text of one file of rules; None if it has none."""
    names: list[tuple[Rule, str]] = []
    paths: list[tuple[Rule, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        pattern = _trim(line.removesuffix("\r"))
        if pattern.startswith("#"):
            continue
        anchored, regex = _translate(_bytewise(pattern.removeprefix("!")))
        if regex:
            (paths if anchored else names).append((Rule(path, number, pattern), regex))
    return _Rules(names, paths) if names or paths else None


def _trim(line: str) -> str:
    """Drop the spaces at the end, but not one after a backslash."""
    match = _UNTRIMMED.match(line)
    return match[1] if match else line  # without a match, the last character is a backslash


def _bytewise(name: str) -> str:
    """Return a name with one character per byte: git matches bytes, so `?` does not match `é`."""
    return name if name.isascii() else os.fsencode(name).decode("latin-1")


def _translate(pattern: str) -> tuple[bool, str]:
    """Translate a pattern to a regular expression.

    Returns:
        Whether it matches paths from the directory of its file, not names at any depth; and the
        expression, which expects NUL after directories. The expression is empty if the pattern
        can't match anything: it is empty, or its bracket or backslash is incomplete.

    Source: `parse_path_pattern`, `match_basename` and `match_pathname` in git's dir.c.
    """
    end = "\0?"
    if pattern.endswith("/"):
        pattern, end = pattern[:-1], "\0"
    anchored = "/" in pattern
    try:
        body = _glob(pattern.removeprefix("/"))
    except LookupError:
        body = ""
    return anchored, body and body + end


def _glob(pattern: str) -> str:
    """Translate the wildcards.

    Raises:
        LookupError: A bracket or an escape is incomplete, or a character class is unknown.

    Source: `dowild` in git's wildmatch.c, with WM_PATHNAME.
    """
    regex = []
    at = 0
    # Git compares the part before the first wildcard by itself and then matches only the rest, so
    # `**` right after that part counts as following a slash.
    fresh = True
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            stars = at
            while pattern.startswith("*", at):
                at += 1
            deep = at > stars and (fresh or pattern[stars - 2] == "/")
            if deep and pattern.startswith("/", at):
                regex.append("(?:[^\0]*/)?")
                at += 1
            elif deep and (at == len(pattern) or pattern.startswith("\\/", at)):
                regex.append("[^\0]*")
            else:
                regex.append("[^/\0]*")
        elif char == "?":
            regex.append("[^/\0]")
        elif char == "[":
            allowed, at = _bracket(pattern, at)
            regex.append(allowed)
        elif char == "\\":
            regex.append(re.escape(pattern[at]))
            at += 1
        else:
            regex.append(re.escape(char))
            continue
        fresh = False
    return "".join(regex)


def _bracket(pattern: str, at: int) -> tuple[str, int]:
    """Translate a bracket expression that opened before ``at``; also return its end.

    Raises:
        LookupError: It is incomplete, or names an unknown character class.

    Source: the case `'['` of `dowild` in git's wildmatch.c.
    """
    negated = pattern[at] in "!^"
    first = at = at + negated
    chars: set[int] = set()
    low: int | None = None  # the start of a range that may follow
    while at == first or pattern[at] != "]":
        if pattern[at] == "-" and low is not None and pattern[at + 1] != "]":
            at += 2 if pattern[at + 1] == "\\" else 1
            chars.update(range(low, ord(pattern[at]) + 1))
            low = None
        elif named := _CLASS.match(pattern, at):
            chars.update(_CLASSES[named[1]])
            at = named.end() - 1
            low = None
        else:
            at += pattern[at] == "\\"
            low = ord(pattern[at])
            chars.add(low)
        at += 1
    if negated:
        chars = set(range(256)) - chars
    chars -= {0, ord("/")}
    inside = "".join(f"\\x{char:02x}" for char in sorted(chars))
    return (f"[{inside}]" if inside else "(?!)"), at + 1
