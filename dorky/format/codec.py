"""Compression with a stated length: the layer between an object's body and its encryption.

offset  size  what
0       1     codec: 0 stored as it is, 1 zstd
1       4     length of the body in bytes, big-endian
5       …     the body, compressed

"""

from __future__ import annotations

import struct

from dorky import native
from dorky.format.model import KiB

NONE, ZSTD = 0, 1
_PREFIX = struct.Struct(">BI")
OVERHEAD = _PREFIX.size
"""Bytes in front of every body."""
_LEVEL = 3
_SAMPLE = 64 * KiB
_SMALL = 16 * KiB


class CodecError(ValueError):
    """The bytes do not match what their prefix says."""


def compress(body: bytes) -> bytes:
    """Return the smaller of the two forms of ``body``."""
    import cramjam

    if not _is_hopeless(body):
        packed = cramjam.zstd.compress(body, level=_LEVEL)
        if len(packed) < len(body):
            return _PREFIX.pack(ZSTD, len(body)) + bytes(packed)
    return _PREFIX.pack(NONE, len(body)) + body


def _is_hopeless(body: bytes) -> bool:
    """Return whether a cheap trial shows that compression is not worthwhile.

    Media, archives and ciphertext don't shrink.
    """
    import cramjam

    if len(body) > 4 * _SAMPLE:
        sample = memoryview(body)[:_SAMPLE]
        return len(cramjam.zstd.compress(sample, level=1)) > 0.97 * _SAMPLE
    # zstd's setup is slow. LZ4 finds repetitions fast, but not skewed byte frequencies, as in text:
    # 256 random bytes have some 162 values, hardly ever fewer than 145.
    if len(body) > _SMALL or len(set(body[:256])) < 145:
        return False
    return len(cramjam.lz4.compress_block(body, store_size=False)) >= len(body)


def inflate(data: bytes | memoryview, *, limit: int) -> bytes:
    """Return the decompressed body.

    Never writes more than the stated length, whatever the compressed bytes would inflate to.

    Args:
        data: What `compress` returned.
        limit: The largest body in bytes that the caller accepts.

    Raises:
        CodecError: The data is truncated, over the limit, of another length than stated, or has an
            unknown codec.
    """
    if len(data) < _PREFIX.size:
        raise CodecError("truncated")
    codec, length = _PREFIX.unpack_from(data)
    if length > limit:
        raise CodecError(f"claims {length} bytes, over the limit of {limit}")
    body = memoryview(data)[_PREFIX.size :]
    if codec == NONE:
        if len(body) != length:
            raise CodecError(f"holds {len(body)} bytes, claims {length}")
        return bytes(body)
    if codec != ZSTD:
        raise CodecError(f"unknown codec {codec}")
    import cramjam

    out = bytearray(length)
    try:
        # With a buffer of the stated size, a body that inflates further is an error and takes no
        # memory (`decompress(output_len=…)` is only a hint).
        written = cramjam.zstd.decompress_into(body, out)
    except cramjam.DecompressionError as error:
        raise CodecError("does not inflate to its stated length") from error
    except BaseException as error:
        if not native.panicked(error):
            raise
        raise CodecError("does not inflate") from None
    if written != length:
        raise CodecError(f"inflates to {written} bytes, claims {length}")
    return bytes(out)
