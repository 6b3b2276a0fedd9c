"""Cutting files into chunks by their content (FastCDC, 2020).

A file of at most `WHOLE` bytes is one chunk. A rolling hash decides where a larger one is cut, so
that a byte inserted at the beginning moves one boundary and not all of them.

Source: W. Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based
Storage Systems", IEEE TPDS 2020; as in the Rust crate `fastcdc`, with normalized chunking level 3
(see docs/decisions/0015).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from dorky.format.model import KiB, MiB

MIN, AVERAGE, MAX = 256 * KiB, 1 * MiB, 4 * MiB
NORMALIZATION: Final = 3
"""How close chunk sizes keep to the average: after an edit, about one chunk is sent again."""
WHOLE = MIN
"""Files up to this size in bytes are never cut."""


class Readable(Protocol):
    """An open binary file, as `cut` reads it."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill ``buffer``; return the number of bytes read, 0 at the end."""


def cut(stream: Readable, *, seed: int) -> Iterator[bytes]:
    """Cut a stream into chunks of `MIN` to `MAX` bytes (the last may be shorter).

    Args:
        stream: Read once, front to back, in bounded memory.
        seed: 0 to 2⁶³ - 1; alters the gear table. An encrypted repository derives it from a
            secret, so that chunk sizes don't fingerprint the content.
    """
    from pyfastcdc import FastCDC

    chunker = FastCDC(
        AVERAGE, min_size=MIN, max_size=MAX, seed=seed, normalized_chunking=NORMALIZATION
    )
    for piece in chunker.cut_stream(stream):
        # The library's view is valid only until the next chunk.
        yield bytes(piece.data)
