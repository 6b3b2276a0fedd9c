"""The names of values: what of a key may be shown where values are hidden.

A key can hold a part of a secret: the second line of a value that was wrapped, or an address that
was pasted on a line of its own (`https://ana:secret@host/?ssl=1`).
"""

from __future__ import annotations

import re
from itertools import pairwise

HIDDEN = "********"
"""The text that is shown in place of a value, or of a key that is no name."""

_SEGMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|[^.]+')
_NAME = re.compile(r"[\w@$*<][\w .@$*:/<>()-]*")
_LONGEST = 100
_WORD = re.compile(r"[A-Za-z0-9]+")
_HEX = re.compile(r"(?=[a-f]*[0-9])[0-9a-f]{24,}|(?=[A-F]*[0-9])[0-9A-F]{24,}")
_DIGITS = re.compile(r"[0-9]+")
_RANDOM = 10  # letters; in shorter words, chance and intention look alike
_CHANGES = 0.45  # of neighbours; 0.62 in base64, fewer in most names


def shown(key: str) -> str:
    """Return a key as it may be shown: each part that does not look like a name is hidden."""
    return _SEGMENT.sub(lambda found: found[0] if _is_name(found[1] or found[0]) else HIDDEN, key)


def is_shown(key: str) -> bool:
    """Return whether all of a key may be shown."""
    return shown(key) == key


def _is_name(segment: str) -> bool:
    if not _NAME.fullmatch(segment) or len(segment) > _LONGEST or "://" in segment:
        return False
    return not any(map(_is_random, _WORD.findall(segment)))


def _is_random(word: str) -> bool:
    """Return whether a word looks drawn by chance: hexadecimal, or base64 of random bytes."""
    if _HEX.fullmatch(word):
        return True
    classes = [char.isdigit() + 2 * char.isupper() for char in word]
    changes = sum(one != other for one, other in pairwise(classes))
    mixed = len({*classes}) > 2 and len(_DIGITS.findall(word)) > 1  # unlike `getUserById2`
    return mixed and len(word) >= _RANDOM and changes > _CHANGES * (len(word) - 1)
