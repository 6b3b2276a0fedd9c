"""The lines by which git ignores what dorky keeps.

They stand in a marked, sorted block of the project's `.gitignore`, which all clones share, and once
more in the clone's own `info/exclude`, because a branch from before dorky has no such `.gitignore`.
The line ``/directory/`` marks a directory that is kept as a whole.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

from dorky import errors, files, git
from dorky.paths import parents

FILE = ".gitignore"

_LARGEST = 64 << 20
_BEGIN = b"# >>> dorky: files kept by dorky, not by git >>>"
_END = b"# <<< dorky <<<"
# Lines between the marks never look like a mark: otherwise a mark that lost its partner would make
# the block include lines that are not dorky's.
_BLOCK = re.compile(
    rb"^# >>> dorky\b.*\n((?:(?!# >>> dorky\b|# <<< dorky\b).*\n)*)# <<< dorky\b.*(?:\n|\Z)",
    re.MULTILINE,
)
# The marks of a conflict in git. Both sides' lines stay, so the conflict in the block is settled.
_CONFLICT = re.compile(rb"(?:<<<<<<<|\|\|\|\|\|\|\||=======|>>>>>>>)(?: |\r?\Z)")
_SPECIAL = re.compile(rb"[\\*?\[]")
_DIRECTORY = re.compile(rb"/((?:[^\\*?\[]|\\.|\[ \])+)/\Z")


def ignore(
    worktree: Path,
    paths: Collection[Path],
    directories: Collection[Path] = (),
    *,
    shared: bool = True,
) -> list[str]:
    """Make git ignore files, by lines in the project's `.gitignore` and in git's `info/exclude`.

    Lines outside the blocks stay as they are. Outside of git nothing is done.

    Args:
        worktree: The directory that holds `.dorkyrc`.
        paths: Files, absolute, below ``worktree``.
        directories: Directories to ignore as a whole, likewise.
        shared: Whether `.gitignore` gets the lines, not only this clone's `info/exclude`.

    Returns:
        The lines that were added to `.gitignore`, sorted.

    Raises:
        GitDoesNotIgnore: A later or deeper rule of git's un-ignores a path; the lines stay.
        SetupError: git is not installed, or refuses the repository; or `.gitignore` is a link.
    """
    top = git.find(worktree)
    if top is None or not (paths or directories):
        return []
    wanted = _lines(worktree, paths) | _lines(worktree, directories, b"/")
    if not shared:
        _exclude(top, worktree, add=wanted)
        return []
    before, after = _edit(_shared(worktree), add=wanted)
    # No others: a branch can bring any lines, and `info/exclude` holds in all branches.
    names = (str(path.relative_to(worktree)) for path in paths)
    above = {worktree / directory for name in names for directory in parents(name)}
    _exclude(top, worktree, add=after & (wanted | _lines(worktree, above, b"/")))
    if exposed := git.not_ignored(top, list(paths)):
        raise errors.GitDoesNotIgnore(exposed[0].relative_to(worktree))
    return sorted(os.fsdecode(line) for line in after - before)


def unignore(worktree: Path, paths: Collection[Path], kept: Iterable[str] = ()) -> list[str]:
    """Remove the lines for ``paths`` from the blocks, and a block when it is empty.

    The line of a directory that is kept as a whole goes with the last file in it.

    Args:
        worktree: The directory that holds `.dorkyrc`.
        paths: Absolute, below ``worktree``.
        kept: The repository paths of the files that are still kept.

    Returns:
        The lines that were removed from `.gitignore`, sorted.

    Raises:
        SetupError: `.gitignore` is a link.
    """
    above = {parent for path in paths for parent in parents(str(path.relative_to(worktree)))}
    used = {parent for path in kept for parent in parents(path)} if above else set()
    empty = [worktree / directory for directory in above - used]
    unwanted = _lines(worktree, paths) | _lines(worktree, empty, b"/")
    before, _ = _edit(_shared(worktree), remove=unwanted)
    if top := git.find(worktree):
        _exclude(top, worktree, remove=unwanted)
    return sorted(os.fsdecode(line) for line in unwanted & before)


def ignored_by(worktree: Path, lines: Iterable[str], paths: Iterable[Path]) -> list[Path]:
    """Return those paths that have one of these lines, or that are below a directory with one.

    Args:
        worktree: The directory that holds `.dorkyrc`.
        lines: A result of `ignore`.
        paths: Absolute, below ``worktree``.
    """
    given = {os.fsencode(line) for line in lines}

    def is_given(path: Path) -> bool:
        above = [worktree / name for name in parents(str(path.relative_to(worktree)))]
        return not given.isdisjoint(_lines(worktree, [path]) | _lines(worktree, above, b"/"))

    return list(filter(is_given, paths))


def own_lines(top: Path, worktree: Path) -> set[bytes]:
    """Return the lines that dorky has added to a project's `.gitignore` and to `info/exclude`."""
    return _block(worktree / FILE) | _block(_local(top, "exclude"))


def _block(file: Path | None) -> set[bytes]:
    with contextlib.suppress(errors.DorkyError):
        return _inside(_read(file)) if file else set()
    return set()


def is_listed(top: Path, worktree: Path, path: Path) -> bool:
    """Return whether dorky has added a line for a single file."""
    (line,) = _lines(worktree, [path])
    local = _prefix(top, worktree) + line
    return line in _block(worktree / FILE) or local in _block(_local(top, "exclude"))


def whole(top: Path, worktree: Path) -> set[str]:
    """Return the repository paths of the directories that are marked as kept as a whole."""
    prefix = _prefix(top, worktree)
    local = (line for line in _block(_local(top, "exclude")) if line.startswith(prefix + b"/"))
    lines = _block(worktree / FILE) | {line.removeprefix(prefix) for line in local}
    found = (_DIRECTORY.match(line) for line in lines)
    return {
        os.fsdecode(re.sub(rb"\\(.)", rb"\1", match[1].replace(b"[ ]", b" ")))
        for match in found
        if match
    }


def places(top: Path, worktree: Path) -> Iterator[Path]:
    """Yield the files that tell git, at the top of a project, what to track and to ignore."""
    if found := git.directories(top):
        own, common = found
        yield own / "index"
        yield own / "config.worktree"
        yield common / "config"
        yield common / "info" / "exclude"
    for directory in (worktree, *worktree.parents):
        yield directory / FILE
        if directory == top:
            break


def _shared(worktree: Path) -> Path:
    """Return the project's `.gitignore`.

    Raises:
        IgnoreFileIsLink: It is a link.
    """
    file = worktree / FILE
    if file.is_symlink():
        raise errors.IgnoreFileIsLink(file)
    return file


def _local(top: Path, name: str) -> Path | None:
    """Return a file in the ``info`` directory of the clone; None if it lies outside of git's."""
    found = git.directories(top)
    if found is None:
        return None
    common = found[1].resolve()
    try:
        file = (common / "info" / name).resolve()
    except (OSError, RuntimeError):  # links in a circle
        return None
    return file if file.is_relative_to(common) else None


def _exclude(
    top: Path,
    worktree: Path,
    *,
    add: AbstractSet[bytes] = frozenset(),
    remove: AbstractSet[bytes] = frozenset(),
) -> None:
    """Rewrite the blocks in git's own `info/exclude` and `info/attributes`, if that is possible.

    Two branches that add lines then merge without a conflict in this clone.
    """
    prefix = _prefix(top, worktree)
    with contextlib.suppress(errors.DorkyError, OSError):  # git's directory may be read-only
        if file := _local(top, "exclude"):
            if add:
                file.parent.mkdir(exist_ok=True)
            adding, removing = ({prefix + line for line in lines} for lines in (add, remove))
            _edit(file, add=adding, remove=removing)
        if add and (file := _local(top, "attributes")):
            # A pattern with a quotation mark or a space would have to be quoted.
            pattern = re.sub(rb"[^\w./+-]", b"?", prefix, flags=re.ASCII) + b"/" + FILE.encode()
            _edit(file, add={pattern + b" merge=union"})


def _prefix(top: Path, worktree: Path) -> bytes:
    """Return what the lines of a project begin with in git's `info/exclude`."""
    below = worktree.resolve().relative_to(top)
    return b"/" + _escaped(os.fsencode(below)) if below.parts else b""


def _escaped(name: bytes) -> bytes:
    # A line can't hold a line end.
    return re.sub(rb"[\r\n]", b"?", _SPECIAL.sub(rb"\\\g<0>", name))


def _lines(worktree: Path, paths: Iterable[Path], end: bytes = b"") -> set[bytes]:
    """Return lines that match only these paths, for a file of rules in ``worktree``."""
    root = os.fsencode(worktree / "x")[:-1]
    names = (os.fsencode(path).removeprefix(root) for path in paths)
    # An editor that trims lines would break an escaped space at the end.
    return {b"/" + re.sub(rb" \Z", b"[ ]", _escaped(name)) + end for name in names}


def _read(file: Path) -> bytes:
    try:
        return files.read_small(file, _LARGEST) or b""
    except ValueError as error:
        raise errors.DiskError(file, error) from None


def _inside(data: bytes) -> set[bytes]:
    """Return the lines of the blocks in a file."""
    lines = {
        line.rstrip(b"\r")
        for block in _BLOCK.finditer(data)
        for line in block[1].split(b"\n")
        if not _CONFLICT.match(line)
    }
    return lines - {b""}


def _simplified(lines: AbstractSet[bytes]) -> set[bytes]:
    """Return lines without those for files in a directory that is ignored as a whole."""
    whole = {line for line in lines if line.startswith(b"/") and line.endswith(b"/")}

    def is_covered(line: bytes) -> bool:
        ends = (match.end() for match in re.finditer(b"/", line[:-1]))
        return any(line[:end] in whole for end in ends)

    return {line for line in lines if not is_covered(line)} if whole else set(lines)


def _edit(
    file: Path,
    *,
    add: AbstractSet[bytes] = frozenset(),
    remove: AbstractSet[bytes] = frozenset(),
) -> tuple[set[bytes], set[bytes]]:
    """Rewrite the block in a file; return the lines that it had, and those that it has."""
    data, mode = _read(file), 0o644 & ~files.umask()
    with files.disk_errors(file), contextlib.suppress(FileNotFoundError):
        mode = stat.S_IMODE(file.lstat().st_mode)
    newline = b"\r\n" if b"\r\n" in data else b"\n"
    blocks = list(_BLOCK.finditer(data))
    before = _inside(data)
    lines = _simplified((before | add) - remove)
    block = b"".join(line + newline for line in [_BEGIN, *sorted(lines), _END]) if lines else b""
    if blocks:
        # A merge of two branches can leave two blocks; their lines move to the first.
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
    return before, lines
