"""The agreement of client and server on a page's format, and on which part of a file is sent."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from werkzeug.http import parse_range_header

Format = Literal["json", "html"]

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
# In the server's order of preference: what it names for each, and what it sends.
_OFFERS: tuple[tuple[str, Format, str], ...] = (
    (JSON, "json", JSON),
    ("application/vnd.pypi.simple.latest+json", "json", JSON),
    (HTML, "html", HTML),
    ("application/vnd.pypi.simple.latest+html", "html", HTML),
    ("text/html", "html", "text/html; charset=utf-8"),
)
_LONGEST = 4096
_NO_BYTES = re.compile(r"\s*bytes\s*=\s*-0+\s*")


class Choice(NamedTuple):
    """The format of a page.

    Attributes:
        format: The format.
        content_type: What the answer calls it.
    """

    format: Format
    content_type: str


USUAL = Choice("html", _OFFERS[-1][2])


def choose(accept: str) -> Choice | None:
    """Return the format that an Accept header asks for; None if there is none that it accepts.

    The client's order decides, then how narrowly it names a format, then the server's order.
    Clients that take anything get HTML.
    """
    wanted = [_weighed(part) for part in accept[:_LONGEST].split(",") if part.strip()]
    if not wanted:
        return USUAL
    best: tuple[tuple[float, int, int], Choice] | None = None
    for place, (name, format_, sent) in enumerate(_OFFERS):
        matching = [(narrow, q) for pattern, q in wanted if (narrow := _match(pattern, name))]
        if not matching:
            continue
        narrow, quality = max(matching)
        choice = Choice(format_, sent)
        rank = (quality, narrow, place if narrow == 1 else -place)
        if quality > 0 and (best is None or rank > best[0]):
            best = (rank, choice)
    return best[1] if best else None


def _weighed(part: str) -> tuple[str, float]:
    name, *parameters = (word.strip().lower() for word in part.split(";"))
    quality = next((word[2:] for word in parameters if word.startswith("q=")), "1")
    try:
        return name, min(max(float(quality), 0.0), 1.0)
    except ValueError:
        return name, 0.0


def _match(pattern: str, name: str) -> int:
    """Return how narrowly a pattern names a type; 0 if it does not."""
    if pattern == name:
        return 3
    if pattern == f"{name.partition('/')[0]}/*":
        return 2
    return 1 if pattern == "*/*" else 0


class Span(NamedTuple):
    """The bytes of a file that are sent: from ``start`` up to ``end``."""

    start: int
    end: int


class Unsatisfiable(Exception):
    """The range begins after the end of the file."""


def span(header: str, if_range: str, etag: str, size: int) -> Span | None:
    """Return the part of a file that a Range header asks for; None for all of it.

    Several ranges at once, and what is malformed, are answered by the whole file, as RFC 9110
    allows.

    Args:
        header: The Range header.
        if_range: The If-Range header: the whole file is sent if that is not its entity tag.
        etag: The file's entity tag.
        size: The file's size.

    Raises:
        Unsatisfiable: No byte of the file is in the range.
    """
    if not header or (if_range and if_range.strip() != f'"{etag}"'):
        return None
    if _NO_BYTES.fullmatch(header):
        raise Unsatisfiable  # what parses it takes it for all of the file
    ranges = parse_range_header(header[:_LONGEST])
    if ranges is None or ranges.units != "bytes" or len(ranges.ranges) != 1:
        return None
    start, end = ranges.ranges[0]
    if start < 0:  # the last bytes
        start, end = max(size + start, 0), size
    end = size if end is None else min(end, size)
    if start >= end:
        raise Unsatisfiable
    return Span(start, end)
