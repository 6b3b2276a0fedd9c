"""The enclosing git repository: what it tracks and ignores, and the lines that make it ignore."""

from __future__ import annotations

import os
import re
import stat
import sys
import unicodedata
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from dorky import errors, files

# Inside a hook git exports these for the repository of the hook and the index of that one commit.
# Our questions are about the repository that holds the path. (githooks(5) has hooks unset them
# too.) Those about pathspecs would change how `check-ignore` reads its input.
_HOOK_VARIABLES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
)

_LONGEST = 4096

_BEGIN = b"# >>> dorky: files kept by dorky, not by git >>>"
_END = b"# <<< dorky <<<"
# Lines between the marks never look like a mark: after a mark that lost its partner, the block
# must not swallow what is not ours.
_BLOCK = re.compile(
    rb"^# >>> dorky\b.*\n((?:(?!# >>> dorky\b|# <<< dorky\b).*\n)*)# <<< dorky\b.*(?:\n|\Z)",
    re.MULTILINE,
)


def find(start: Path) -> Path | None:
    """The top of the git work tree that holds the directory ``start``; None outside of git.

    Links are followed, as git does. Does not run git.
    """
    start = start.resolve()
    return next((top for top in (start, *start.parents) if _is_top(top)), None)


def directories(top: Path) -> tuple[Path, Path] | None:
    """Return the directory of a work tree's own in git's, and the one that all of them share.

    Follows `.git` as gitrepository-layout(5) has it, whatever the environment says: hooks run with
    variables of another repository. Does not run git.

    Args:
        top: What `find` gave.

    Returns:
        Both, equal in a main work tree and in a submodule; None if they are not git's.
    """
    own = top / ".git"
    try:
        if own.is_file():
            line = own.read_bytes()[:_LONGEST].rstrip(b"\r\n")
            own = top / os.fsdecode(line.removeprefix(b"gitdir: "))
        own = common = own.resolve()
        if (own / "commondir").is_file():
            line = (own / "commondir").read_bytes()[:_LONGEST].rstrip(b"\r\n")
            common = (own / os.fsdecode(line)).resolve()
    except (OSError, ValueError):
        return None
    whole = (own / "HEAD").exists() and all(
        (common / name).is_dir() for name in ("objects", "refs")
    )
    return (own, common) if whole and own.is_relative_to(common) else None


def tracked(top: Path, paths: Sequence[Path]) -> set[Path]:
    """Those of ``paths`` that are in git's index.

    Args:
        top: What `find` gave.
        paths: Absolute, below ``top``. Those in a submodule are looked up in the submodule.

    Raises:
        SetupError: git is not installed, or refuses the repository.
    """
    found: set[Path] = set()
    for repository, members in _by_repository(top, paths).items():
        _, listing = _git(repository, "ls-files", "-z")
        index = {_same(name) for name in listing.split(b"\0")}
        found.update(path for path, name in members if _same(name) in index)
    return found


def not_ignored(top: Path, paths: Sequence[Path]) -> list[Path]:
    """Those of ``paths`` that git would offer to add: no ignore rule of its covers them.

    Only the rules count: a file that git tracks already may be covered by one, see `tracked`.

    Args:
        top: What `find` gave.
        paths: Absolute, below ``top``. Those in a submodule are matched by the submodule's rules.

    Raises:
        SetupError: git is not installed, or refuses the repository or a path.
    """
    ignored: set[Path] = set()
    for repository, members in _by_repository(top, paths).items():
        # "./": a name that begins with a colon is else read as pathspec magic.
        names = {b"./" + name: path for path, name in members}
        # --no-index: without it git takes a rule for void where it tracks the file.
        _, output = _git(
            *(repository, "check-ignore", "--no-index", "--stdin", "-z", "--verbose"),
            stdin=b"".join(name + b"\0" for name in names),
            also=1,  # none is ignored
        )
        fields = output.split(b"\0")
        # Without --verbose, git before 2.26 lists paths that a "!" rule takes back (git 7ec8125).
        for pattern, name in zip(fields[2::4], fields[3::4], strict=True):
            if not pattern.startswith(b"!"):
                ignored.add(names[name])
    return [path for path in paths if path not in ignored]


def ignore(worktree: Path, paths: Sequence[Path]) -> list[str]:
    """Make git ignore ``paths``: a line for each in a marked block of the project's `.gitignore`.

    What stands outside of the block stays as it is. Outside of git nothing is done.

    Args:
        worktree: The directory that holds `.dorkyrc`.
        paths: Absolute, below ``worktree``.

    Returns:
        The lines that were added, sorted.

    Raises:
        GitDoesNotIgnore: A later or deeper rule of git's takes a path back; the lines stay.
        SetupError: git is not installed, or refuses the repository; or `.gitignore` is a link.
    """
    top = find(worktree)
    if top is None or not paths:
        return []
    wanted = {_line(worktree, path) for path in paths}
    before = _edit(worktree, add=wanted)
    if exposed := not_ignored(top, paths):
        raise errors.GitDoesNotIgnore(exposed[0].relative_to(worktree))
    return sorted(os.fsdecode(line) for line in wanted - before)


def unignore(worktree: Path, paths: Sequence[Path]) -> list[str]:
    """Take the lines for ``paths`` out of the block again, and the block away when it is empty.

    Args:
        worktree: The directory that holds `.dorkyrc`.
        paths: Absolute, below ``worktree``.

    Returns:
        The lines that were removed, sorted.

    Raises:
        SetupError: `.gitignore` is a link.
    """
    unwanted = {_line(worktree, path) for path in paths}
    before = _edit(worktree, remove=unwanted)
    return sorted(os.fsdecode(line) for line in unwanted & before)


def head(top: Path) -> str | None:
    """The id of the commit that is checked out, in hexadecimal; None before the first.

    Raises:
        SetupError: git is not installed, or refuses the repository.
    """
    status, output = _git(top, "rev-parse", "--verify", "--quiet", "HEAD", also=1)
    return output.decode().strip() if status == 0 else None


def hooks(top: Path) -> dict[str, Path]:
    """The hooks by name, whether or not git may run them; not the samples.

    Raises:
        SetupError: git is not installed, or refuses the repository.
    """
    # Heeds core.hooksPath, and what linked work trees share.
    _, output = _git(top, "rev-parse", "--git-path", "hooks")
    place = top / os.fsdecode(output.rstrip(b"\n"))
    with files.disk_errors(place):
        found = sorted(place.iterdir()) if place.is_dir() else []
    return {each.name: each for each in found if each.is_file() and not each.suffix}


def user(top: Path) -> str:
    """Who git says commits here: ``Name <address>``; empty if it was never told.

    Raises:
        SetupError: git is not installed, or refuses the repository.
    """
    _, output = _git(top, "config", "-z", "--get-regexp", r"^user\.(name|email)$", also=1)
    found = dict(
        line.split("\n", 1) for line in output.decode(errors="replace").split("\0") if line
    )
    name, address = found.get("user.name", ""), found.get("user.email", "")
    return f"{name} <{address}>" if name and address else name or address


def last_author(path: Path) -> str:
    """The name of who last committed a file; empty if that can't be told."""
    top = find(path.parent)
    if top is None:
        return ""
    try:
        status, output = _git(top, "log", "-1", "--format=%an", "--", str(path), also=128)
    except errors.SetupError:
        return ""
    return output.decode(errors="replace").strip() if status == 0 else ""


def _is_top(directory: Path) -> bool:
    """Whether a work tree begins here. Like git, passes over a `.git` that is no repository."""
    # A file in worktrees and submodules.
    dot_git = directory / ".git"
    return dot_git.is_file() or (dot_git / "HEAD").is_file() or (dot_git / "HEAD").is_symlink()


def _by_repository(top: Path, paths: Sequence[Path]) -> dict[Path, list[tuple[Path, bytes]]]:
    """Sort paths by the innermost repository, each with its name there."""
    homes: dict[str, Path | None] = {str(top): top}

    def home(directory: str) -> Path | None:
        # No recursion: directories may be deeper than Python's stack.
        unknown = []
        here = Path(directory)
        while str(here) not in homes and here != here.parent:
            unknown.append(here)
            here = here.parent
        found = homes.get(str(here))
        for each in reversed(unknown):
            found = homes[str(each)] = each if found and _is_top(each) else found
        return found

    members: dict[Path, list[tuple[Path, bytes]]] = {}
    for path in paths:
        text = str(path)
        repository = home(text.rpartition("/")[0] or "/")
        if not repository:
            raise errors.OutsideWorktree(path, top)
        name = text.removeprefix(str(repository)).removeprefix("/")
        members.setdefault(repository, []).append((path, os.fsencode(name)))
    return members


def _same(name: bytes) -> bytes:
    """The form in which two names of one file are equal."""
    # macOS hands names out decomposed or composed, as they were written; git's index there has
    # them composed (core.precomposeUnicode).
    if sys.platform == "darwin":
        return unicodedata.normalize("NFC", name.decode("utf-8", "surrogateescape")).encode(
            "utf-8", "surrogateescape"
        )
    return name


def _git(top: Path, *args: str, stdin: bytes = b"", also: int = 0) -> tuple[int, bytes]:
    """Run git in ``top``; ``also`` is an exit status besides 0 that is an answer.

    Returns:
        The exit status and what git printed.
    """
    import subprocess

    # `env`, since only `config` reads the environment. In C git's complaints are in English.
    without = [word for name in _HOOK_VARIABLES for word in ("-u", name)]
    command = ["env", *without, "LC_ALL=C", "LANGUAGE=C", "git", "-C", str(top), *args]
    gone = errors.SetupError(
        f"{top} is in git, but git can't be run",
        hint="install git: dorky must see what it tracks",
    )
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    except FileNotFoundError:  # not even `env` is where PATH says
        raise gone from None
    status, output = done.returncode, done.stdout
    if status == 127:
        raise gone
    if status not in {0, also}:
        what = f"killed by signal {-status}" if status < 0 else f"status {status}"
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [what]
        way_out = next((line.strip() for line in lines if "safe.directory" in line), "")
        raise errors.SetupError(f"git in {top}: {lines[0].removeprefix('fatal: ')}", hint=way_out)
    return status, output


def _line(worktree: Path, path: Path) -> bytes:
    """The line of a `.gitignore` in ``worktree`` that stands for this one path."""
    name = re.sub(rb"[\\*?\[]", rb"\\\g<0>", os.fsencode(path.relative_to(worktree)))
    # A line can't hold a line's end. Escaped spaces at the end would not survive an editor that
    # trims lines.
    return b"/" + re.sub(rb" \Z", b"[ ]", re.sub(rb"[\r\n]", b"?", name))


def _edit(
    worktree: Path,
    *,
    add: AbstractSet[bytes] = frozenset(),
    remove: AbstractSet[bytes] = frozenset(),
) -> set[bytes]:
    """Rewrite the block in `.gitignore`; returns the lines that it had."""
    file = worktree / ".gitignore"
    data, mode = b"", 0o644
    with files.disk_errors(file):
        try:
            mode = stat.S_IMODE(file.lstat().st_mode)
            if file.is_symlink():
                raise errors.SetupError(
                    f"{file} is a symbolic link, which git does not follow",
                    hint="put a file in its place",
                )
            data = file.read_bytes()
        except FileNotFoundError:
            pass
    newline = b"\r\n" if b"\r\n" in data else b"\n"
    blocks = list(_BLOCK.finditer(data))
    before = {line.rstrip(b"\r") for block in blocks for line in block[1].split(b"\n")} - {b""}
    lines = (before | add) - remove
    block = b"".join(line + newline for line in [_BEGIN, *sorted(lines), _END]) if lines else b""
    if blocks:
        # A merge of two branches can leave two blocks; the first takes them all.
        rest = _BLOCK.sub(b"", data[blocks[0].end() :])
        new = data[: blocks[0].start()] + block + rest
    elif data and not data.endswith(b"\n") and block:
        new = data + newline + block
    else:
        new = data + block
    if new == data:
        pass
    elif new:
        files.write_atomic(file, new, mode=mode)
    else:
        file.unlink()
    return before
