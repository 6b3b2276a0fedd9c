"""The enclosing git repository: its tracked and ignored files, and its settings."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from dorky import errors, files, ownership
from dorky.config import Config, child_environment, find_program

# No other GIT_ variable reaches git. A hook exports those of its own repository, but dorky asks
# about the repository that holds the path; and some name programs or configuration.
_KEPT = frozenset(
    {
        "GIT_CEILING_DIRECTORIES",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CONFIG_SYSTEM",
        "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    }
)
_ENVIRONMENT = {
    # git's messages are in English.
    **{"LC_ALL": "C", "LANGUAGE": "C"},
    # git writes nothing, prompts for nothing, and fetches nothing, not even in a partial clone.
    **{"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"},
    **{"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": ""},
}
# Settings of the repository that would make git run a program, or accept a repository.
_NEUTRAL = (
    "core.fsmonitor=",
    "core.hooksPath=/dev/null",
    "core.alternateRefsCommand=false",
    "core.sshCommand=false",
    "core.pager=cat",
    "credential.helper=",
    "diff.external=",
    "gpg.program=false",
    "log.showSignature=false",
    "safe.bareRepository=explicit",
)

AT_ONCE = 20_000
"""How many paths git had better be asked about at once: a million would take over a gigabyte."""
_LONGEST_POINTER = 4096 + len("gitdir: \n")


def is_installed() -> bool:
    """Return whether there is the program git."""
    return find_program("git") is not None


def find(start: Path) -> Path | None:
    """Return the top of the git work tree that holds the directory ``start``; None outside of git.

    Links are followed, as git does. Does not run git.

    Raises:
        DubiousOwnership: Another user owns the work tree, or its repository.
        WritableByAll: Everyone may change one of them.
    """
    config = Config(None)
    above = ownership.upwards(start.resolve(), config.environment)
    top = next(filter(_is_top, above), None)
    if top is not None:
        ownership.check(
            top,
            _places(top),
            config.owners,
            safe=lambda: is_safe(top),
            place="git",
        )
    return top


def _places(top: Path) -> Iterator[Path]:
    """Yield the paths that define a repository; none is read before the caller has checked it."""
    dot_git = top / ".git"
    yield from (top, dot_git)
    directory = dot_git.resolve()
    if dot_git.is_file():
        directory = (top / _pointer(dot_git).removeprefix("gitdir: ")).resolve()
    yield directory
    yield (directory / _pointer(directory / "commondir")).resolve()


def _pointer(file: Path) -> str:
    """Return the path in one of git's pointer files; empty if there is no such file."""
    if not file.is_file():
        return ""
    with files.disk_errors(file), file.open("rb") as opened:
        return os.fsdecode(opened.read(_LONGEST_POINTER)).rstrip("\r\n").replace("\0", "")


def is_safe(directory: Path) -> bool:
    """Return whether the user trusts a directory, whoever owns it.

    `safe.directory` decides: of ~/.dorky/config, where ``*`` means all directories, or of git's
    system and global configuration. The repository and git's environment variables do not count.
    """
    named = Config(None).get("safe.directory")
    trusted = {*named} if isinstance(named, list) else set()
    if "*" in trusted or _named(directory, trusted):
        return True
    try:
        # git's status is 1 if there is none.
        asked = ["config", "-z", "--show-scope", "--get-all", "safe.directory"]
        _, output = _git(Path("/"), *asked, also=1)
    except errors.SetupError:  # git is not installed, or older than the setting
        return False
    fields = os.fsdecode(output).split("\0")
    declared: set[str] = set()
    for scope, value in zip(fields[::2], fields[1::2], strict=False):
        if scope in {"system", "global"}:
            # An empty value clears the values of less specific files.
            declared = declared | {value} if value else set()
    return _named(directory, declared)


def _named(directory: Path, trusted: AbstractSet[str]) -> bool:
    """Return whether a directory is listed, or is below one that is listed with ``/*``."""
    for entry in trusted:
        whole = not entry.endswith("/*")
        try:
            path = Path(os.path.normpath(files.expanded(entry.removesuffix("/*"))))
        except errors.SetupError:  # ~somebody
            continue
        if entry.startswith(("/", "~")) and (
            directory == path if whole else path in directory.parents
        ):
            return True
    return False


def directories(top: Path) -> tuple[Path, Path] | None:
    """Return git's own directory of a work tree, and the one that all work trees share.

    Follows `.git` as in gitrepository-layout(5), whatever the environment says: hooks run with
    variables of another repository. Does not run git.

    Args:
        top: The result of `find`.

    Returns:
        Both, equal in a main work tree and in a submodule; None if they are not git's.
    """
    try:
        _, _, own, common = _places(top)
    except (errors.DorkyError, OSError, ValueError):
        return None
    whole = (own / "HEAD").exists() and all(
        (common / name).is_dir() for name in ("objects", "refs")
    )
    return (own, common) if whole and own.is_relative_to(common) else None


def tracked(top: Path, paths: Sequence[Path]) -> set[Path]:
    """Return those of ``paths`` that are in git's index.

    Args:
        top: The result of `find`.
        paths: Absolute, below ``top``. Those in a submodule are looked up in the submodule.

    Raises:
        SetupError: git is not installed, or refuses the repository.
    """
    found: set[Path] = set()
    for repository, members in _by_repository(top, paths).items():
        _, listing = _git(repository, "ls-files", "-z")
        names = listing.split(b"\0")
        index = {_same(name) for name in names}
        found.update(path for path, name in members if _same(name) in index)
        spelled = dict(zip(listing.lower().split(b"\0"), names, strict=True))
        for path, name in members:
            # On a file system that ignores case, this is the same file.
            other = spelled.get(name.lower())
            if other and path not in found and _is_one_file(path, repository, other):
                found.add(path)
    return found


def _is_one_file(path: Path, repository: Path, name: bytes) -> bool:
    try:
        return path.samefile(repository / os.fsdecode(name)) and not path.is_symlink()
    except OSError:
        return False


def tracked_below(directory: Path) -> list[str]:
    """Return the paths of the files in git's index below a directory, relative to it.

    Raises:
        SetupError: git is not installed, or refuses the repository.
    """
    _, listing = _git(directory, "ls-files", "-z")
    return os.fsdecode(listing).split("\0")[:-1]


def not_ignored(
    top: Path, paths: Sequence[Path], but: AbstractSet[bytes] = frozenset()
) -> list[Path]:
    """Return those of ``paths`` that git would offer to add: no ignore rule of git's covers them.

    Only the rules count: they may cover a file that git tracks already, see `tracked`.

    Args:
        top: The result of `find`.
        paths: Absolute, below ``top``. Those in a submodule are matched by the submodule's rules.
        but: Lines of ignore files that do not count.

    Raises:
        SetupError: git is not installed, or refuses the repository or a path.
    """
    ignored: set[Path] = set()
    for repository, members in _by_repository(top, paths).items():
        # Without "./", git reads a name that begins with a colon as pathspec magic.
        names = {b"./" + name: path for path, name in members}
        # Without --no-index, git disregards a rule for a file that it tracks.
        _, output = _git(
            *(repository, "check-ignore", "--no-index", "--stdin", "-z", "--verbose"),
            stdin=b"".join(name + b"\0" for name in names),
            also=1,  # git's status if none is ignored
        )
        fields = output.split(b"\0")
        # Without --verbose, git before 2.26 lists paths that a "!" rule un-ignores (git 7ec8125).
        for pattern, name in zip(fields[2::4], fields[3::4], strict=True):
            if not pattern.startswith(b"!") and pattern not in but:
                ignored.add(names[name])
    return [path for path in paths if path not in ignored]


def about_to_commit(top: Path) -> list[Path]:
    """Return the files that the next commit of git adds or changes.

    A hook is told the index that counts, as `git commit FILE` makes one of its own.

    Raises:
        SetupError: git is not installed, or refuses the repository.
    """
    found, named = directories(top), child_environment().get("GIT_INDEX_FILE", "")
    index = (top / named).resolve() if named else None
    if index and not (found and index.is_relative_to(found[0])):
        index = None  # another repository's
    asked = ["ls-files", "-z"]
    if base := head(top):
        # No setting lets git run a program here, or leave names out.
        asked = ["diff-index", "--cached", "--name-only", "--no-renames", "--diff-filter=d"]
        asked += ["--no-ext-diff", "--ignore-submodules=all", "-z", base, "--"]
    _, listing = _git(top, *asked, index=index)
    return [top / os.fsdecode(name) for name in listing.split(b"\0")[:-1]]


def holding(top: Path, name: str) -> list[Path]:
    """Return the directories in which git tracks a file of this name.

    Raises:
        SetupError: git is not installed, or refuses the repository.
    """
    _, listing = _git(top, "ls-files", "-z", "--", f":(glob)**/{name}")
    return [top / Path(os.fsdecode(path)).parent for path in listing.split(b"\0")[:-1]]


def sparse_file(top: Path) -> Path | None:
    """Return the file with the patterns of a sparse checkout; None if nothing is left out.

    Raises:
        SetupError: git is not installed, or refuses the repository.
    """
    found = directories(top)
    file = found[0] / "info" / "sparse-checkout" if found else None
    if file is None or not file.is_file():
        return None
    asked = ["config", "--type=bool", "--get", "core.sparseCheckout"]
    _, output = _git(top, *asked, also=1)  # git's status if it is not set
    return file if output == b"true\n" else None


def head(top: Path) -> str | None:
    """Return the id of the commit that is checked out, in hexadecimal; None before the first.

    Raises:
        SetupError: git is not installed, or refuses the repository.
    """
    status, output = _git(top, "rev-parse", "--verify", "--quiet", "HEAD", also=1)
    return output.decode().strip() if status == 0 else None


def hooks(top: Path) -> dict[str, Path]:
    """Return the hooks by name, whether or not git may run them; not the samples.

    Raises:
        SetupError: git is not installed, or refuses the repository.
    """
    # git applies core.hooksPath, and the directory that linked work trees share.
    _, output = _git(top, "rev-parse", "--git-path", "hooks", hooks=True)
    place = top / os.fsdecode(output.rstrip(b"\n"))
    with files.disk_errors(place):
        found = sorted(place.iterdir()) if place.is_dir() else []
    return {hook.name: hook for hook in found if hook.is_file() and not hook.suffix}


def user(top: Path) -> str:
    """Return the author of git commits in a repository: ``Name <address>``; empty if not set.

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
    """Return the author of the last commit of a file; empty if it can't be found."""
    try:
        top = find(path.parent)
        if top is None:
            return ""
        # `log` would apply settings of its own. The first line is "commit" and an id.
        found = _git(top, "rev-list", "-1", "--format=%an", "HEAD", "--", str(path), also=128)
    except errors.SetupError:
        return ""
    status, output = found
    lines = output.decode(errors="replace").splitlines()
    return lines[1].strip() if status == 0 and len(lines) > 1 else ""


def _is_top(directory: Path) -> bool:
    """Return whether a work tree begins at a directory; an invalid `.git` is ignored, as by git."""
    # It is a file in worktrees and submodules.
    dot_git = directory / ".git"
    return dot_git.is_file() or (dot_git / "HEAD").is_file() or (dot_git / "HEAD").is_symlink()


def _by_repository(top: Path, paths: Sequence[Path]) -> dict[Path, list[tuple[Path, bytes]]]:
    """Group paths by their innermost repository, each with its name in it."""
    homes: dict[str, Path | None] = {str(top): top}

    def home(directory: str) -> Path | None:
        # No recursion, because directories may be deeper than Python's stack.
        unknown = []
        here = Path(directory)
        while str(here) not in homes and here != here.parent:
            unknown.append(here)
            here = here.parent
        found = homes.get(str(here))
        for above in reversed(unknown):
            found = homes[str(above)] = above if found and _is_top(above) else found
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
    """Return the form in which two names of one file are equal."""
    # macOS returns names as they were written, decomposed or composed; git's index has them
    # composed on it (core.precomposeUnicode).
    if sys.platform == "darwin":
        return unicodedata.normalize("NFC", name.decode("utf-8", "surrogateescape")).encode(
            "utf-8", "surrogateescape"
        )
    return name


def _git(
    top: Path,
    *args: str,
    stdin: bytes = b"",
    also: int = 0,
    hooks: bool = False,
    index: Path | None = None,
) -> tuple[int, bytes]:
    """Run git in ``top``, which another user may own: nothing that its configuration names is run.

    This is the only function that starts git.

    Args:
        top: A directory.
        *args: The command, which must only read.
        stdin: The input of git.
        also: An exit status other than 0 that is an answer.
        hooks: Whether `core.hooksPath` counts, which the command only queries.
        index: The index to read, if not the repository's own.

    Returns:
        The exit status and git's output.
    """
    import subprocess

    gone = errors.GitMissing(top)
    program = find_program("git")
    if program is None:
        raise gone
    inherited = child_environment()
    environment = {
        name: value
        for name, value in inherited.items()
        if not name.startswith("GIT_") or name in _KEPT
    }
    if index:
        environment["GIT_INDEX_FILE"] = str(index)
    settings = [setting for setting in _NEUTRAL if not (hooks and "hooksPath" in setting)]
    options = [word for setting in settings for word in ("-c", setting)]
    command = [program, "-C", str(top), "--no-pager", *options, *args]
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            env={**environment, **_ENVIRONMENT},
            check=False,
        )
    except FileNotFoundError:  # deleted after it was found
        raise gone from None
    status, output = done.returncode, done.stdout
    if status not in {0, also}:
        what = f"killed by signal {-status}" if status < 0 else f"status {status}"
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [what]
        way_out = next((line.strip() for line in lines if "safe.directory" in line), "")
        raise errors.GitFailed(top, lines[0].removeprefix("fatal: "), way_out)
    return status, output
