"""Merging two versions of a file, by way of the version that both come from.

Text is merged by lines, as git does (`linemerge`), documents by key (`keymerge`). Where a document
can't be read, it is a text like any other; in a `.env` file, every difference is a conflict then.
"""

from __future__ import annotations

import re

from dorky.documents import Syntax, syntax_of
from dorky.merge import linemerge
from dorky.merge.linemerge import Combined, Labels

_TEXT = 4 * 1024 * 1024
_DOCUMENT = 256 * 1024  # A parser in pure Python reads 200 KB to 2 MB a second.

_MARKER = re.compile(rb"^(?:<{7}|>{7})(?: |\r?$)", re.MULTILINE)


def combine(
    path: str,
    base: bytes | None,
    ours: bytes,
    theirs: bytes,
    *,
    ours_label: str,
    theirs_label: str,
) -> Combined | None:
    """Merge two versions of a file.

    Args:
        path: The file's path, which tells whether it is a document.
        base: The version that both come from; None if there is none.
        ours: Our side; a merged document keeps its comments, order and formatting.
        theirs: The other side.
        ours_label: The name of our side in conflict markers.
        theirs_label: The name of the other side in them.

    Returns:
        The merged version; None if both sides changed a file that is not text (UTF-8 without NUL)
        or is larger than 4 MiB. A line without its end gets one before a conflict marker.
    """
    if theirs in (base, ours):
        return Combined(ours)
    if ours == base:
        return Combined(theirs)
    if not (_is_text(ours) and _is_text(theirs)):
        return None
    if base is not None and not _is_text(base):
        base = None
    labels = Labels(ours_label, theirs_label)
    if syntax_of(path) and max(len(base or b""), len(ours), len(theirs)) <= _DOCUMENT:
        from dorky.merge import keymerge

        combined = keymerge.combine(path, base, ours, theirs, labels)
        if combined:
            return combined
    # Lines of a `.env` file that can't be read by key may be parts of one secret.
    apart = syntax_of(path) is Syntax.DOTENV
    parts = linemerge.merge(None if apart else base, ours, theirs)
    return linemerge.mark_up(parts, labels)


def ancestor(path: str, base: bytes | None, ours: bytes, theirs: bytes) -> Combined | None:
    """Merge two common ancestors of a file into one that can serve as the base of a merge.

    In place of a conflict it has a text that neither of them has. The arguments are those of
    `combine`, and so is the result.
    """
    if not (_is_text(ours) and _is_text(theirs) and _is_text(base or b"")):
        return None
    if syntax_of(path) and max(len(base or b""), len(ours), len(theirs)) <= _DOCUMENT:
        from dorky.merge import keymerge

        combined = keymerge.ancestor(path, base, ours, theirs)
        if combined:
            return combined
    return linemerge.mark_up(linemerge.merge(base, ours, theirs), Labels("", ""))


def marked(data: bytes) -> int | None:
    """Return the number of the first line that begins or ends a conflict; None if there is none."""
    found = _MARKER.search(data)
    return data.count(b"\n", 0, found.start()) + 1 if found else None


def _is_text(data: bytes) -> bool:
    if len(data) > _TEXT or b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
