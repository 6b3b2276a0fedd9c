"""The differences between two versions of a file: documents by key, text by lines, others by id.

Values of documents are hidden unless they are asked for, and so is the text of likely secrets, of
which only the number and the signs of lines are shown. A document that differs only in comments,
order or layout, or that is malformed, is hidden text: any line of it may hold a value.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from dorky import errors
from dorky.documents import Leaf, names, parse, syntax_of
from dorky.documents.export import masked
from dorky.merge import linediff
from dorky.merge.linediff import Hunk, Lines
from dorky.paths import holds_secret
from dorky.results import FileDiff, KeyChange

LIMIT = 4 * 1024 * 1024
"""The most bytes of a file whose content is compared."""

_DOCUMENT = 1024 * 1024  # Parsers in pure Python: five seconds, for YAML.
_CONTEXT = 3


class Version(NamedTuple):
    """One version of a file.

    Attributes:
        mode: File type and permission bits.
        size: Bytes.
        id: An id of its content; never an unkeyed hash, which reveals a short secret.
        data: Its content; None if it is too large to be compared.
    """

    mode: int
    size: int
    id: str
    data: bytes | None


def compare(
    path: str, old: Version | None, new: Version | None, *, secret: bool, reveal: bool
) -> FileDiff:
    """Return how two versions of a file differ.

    Args:
        path: The file's path, which tells whether it is a document.
        old: The old version; None if the file did not exist.
        new: The new version; None if it is deleted.
        secret: Whether the file looks like a secret.
        reveal: Whether values and secret text may be shown.
    """
    found = FileDiff(
        path=path,
        what="added" if old is None else "deleted" if new is None else "modified",
        kind="binary",
        old_size=old and old.size,
        new_size=new and new.size,
        old_id=old.id if old else "",
        new_id=new.id if new else "",
        old_mode=f"{old.mode:06o}" if old else "",
        new_mode=f"{new.mode:06o}" if new else "",
    )
    if not secret and not reveal:
        secret = any(holds_secret(side.data or b"") for side in (old, new) if side)
    if old and new and old.id == new.id:
        return msgspec.structs.replace(found, kind="mode")
    hide = not reveal and (secret or syntax_of(path) is not None)
    if keys := _keys(path, old, new, hide):
        return msgspec.structs.replace(
            found,
            kind="keys",
            keys=tuple(keys),
            added=sum(key.what != "removed" for key in keys),
            removed=sum(key.what != "added" for key in keys),
            masked=hide,
        )
    before, after = _lines(old), _lines(new)
    if before is None or after is None:
        return found
    hunks = list(linediff.hunks(before, after))
    return msgspec.structs.replace(
        found,
        kind="text",
        text="".join(_unified(before, after, hunks, hide)),
        added=sum(hunk.new_high - hunk.new_low for hunk in hunks),
        removed=sum(hunk.high - hunk.low for hunk in hunks),
        masked=hide,
    )


# --- by key ---------------------------------------------------------------------------------


def _keys(path: str, old: Version | None, new: Version | None, hide: bool) -> list[KeyChange]:
    """Return the keys at which two documents differ; none if one of them can't be parsed."""
    before, after = _leaves(path, old), _leaves(path, new)
    if before is None or after is None:
        return []
    found = []
    for key in {**before, **after}:
        was, now = before.get(key), after.get(key)
        if was == now:
            continue
        found.append(
            KeyChange(
                key=names.shown(key) if hide else key,
                what="added" if was is None else "removed" if now is None else "changed",
                old=was and _shown(was, now, hide),
                new=now and _shown(now, was, hide),
            )
        )
    return found


def _shown(leaf: Leaf, other: Leaf | None, hide: bool) -> str:
    """Return a value as text, with its kind if that is all that differs."""
    if hide:
        return masked(leaf.text)
    return (
        f"{leaf.text} ({leaf.tag or leaf.kind.value})"
        if other and other.text == leaf.text
        else leaf.text
    )


def _leaves(path: str, version: Version | None) -> dict[str, Leaf] | None:
    if version is None:
        return {}
    data = version.data
    if data is None or len(data) > _DOCUMENT or not stat.S_ISREG(version.mode):
        return None
    try:
        return parse(path, data).leaves()
    except errors.UsageError:
        return None


# --- by lines -------------------------------------------------------------------------------


def _lines(version: Version | None) -> Lines | None:
    """Return the lines of a version; None if it is not text."""
    if version is None:
        return []
    if version.data is None or b"\0" in version.data:
        return None
    try:
        version.data.decode()
    except UnicodeDecodeError:
        return None
    return linediff.split(version.data)


def _unified(old: Lines, new: Lines, hunks: list[Hunk], hide: bool) -> Iterator[str]:
    """Yield a unified diff without file names."""
    at = 0
    while at < len(hunks):
        group = [hunks[at]]
        at += 1
        while at < len(hunks) and hunks[at].low - group[-1].high <= 2 * _CONTEXT:
            group.append(hunks[at])
            at += 1
        first, last = group[0], group[-1]
        before = min(_CONTEXT, first.low)
        after = min(_CONTEXT, len(old) - last.high)
        low, high = first.low - before, last.high + after
        span = _span(low, high), _span(first.new_low - before, last.new_high + after)
        yield f"@@ -{span[0]} +{span[1]} @@\n"
        for hunk in group:
            yield from _signed(" ", old[low : hunk.low], hide)
            yield from _signed("-", old[hunk.low : hunk.high], hide)
            yield from _signed("+", new[hunk.new_low : hunk.new_high], hide)
            low = hunk.high
        yield from _signed(" ", old[low:high], hide)


def _span(low: int, high: int) -> str:
    """Return a range of lines: the first and how many; if none, the line before."""
    count = high - low
    return f"{low + 1}" if count == 1 else f"{low + 1 if count else low},{count}"


def _signed(sign: str, piece: Lines, hide: bool) -> Iterator[str]:
    for line in piece:
        if hide:
            yield f"{sign}{masked('')}\n"
        elif line.endswith(b"\n"):
            yield sign + line.decode()
        else:
            yield f"{sign}{line.decode()}\n\\ No newline at end of file\n"
