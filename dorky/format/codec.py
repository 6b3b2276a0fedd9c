"""Compression with stated lengths: the layer between an object's body and its encryption.

    offset  size  what
    0       1     codec: 0 none, 1 zstd, 2 gzip, 3 lz4 (frames), 4 brotli
    1       4     length of the body in bytes, big-endian
    5       4     length n of the body in that codec
    9       n     the body in that codec
    9+n     …     zeros, if the object is encrypted (see `pad`)

dorky writes zstd unless the caller names another codec, or nothing but the body where that is not
smaller.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from dorky import errors, native
from dorky.format.model import KiB

NONE, ZSTD = 0, 1
_MODULES = {ZSTD: "zstd", 2: "gzip", 3: "lz4", 4: "brotli"}
"""The modules of cramjam that decompress, by codec."""
_PREFIX = struct.Struct(">BII")
OVERHEAD = _PREFIX.size
"""Bytes in front of every body."""
_LEVELS = {"zstd": 3, "gzip": 6, "lz4": 4, "brotli": 5}
_HIGHEST = {"none": 0, "zstd": 22, "gzip": 9, "lz4": 12, "brotli": 11}
_SAMPLE = 64 * KiB
_SMALL = 16 * KiB
PADDED = 64 * KiB
"""Shorter results are padded where they are encrypted."""
_LEAST = 256


class CodecError(ValueError):
    """The bytes do not match what their prefix says."""


class Coding(NamedTuple):
    """How a body is compressed: a codec, and its level."""

    codec: int = ZSTD
    level: int = _LEVELS["zstd"]

    @property
    def name(self) -> str:
        """Return the codec's name."""
        return _MODULES.get(self.codec, "none")


DEFAULT = Coding()


def coding(name: str, level: int | None = None) -> Coding:
    """Return a codec by its name, with a level (None: the usual one).

    Raises:
        UsageError: There is no such codec, or it has no such level.
    """
    if name not in _HIGHEST:
        raise errors.UsageError(f"there is no codec {name!r}, but {', '.join(_HIGHEST)}")
    if level is None:
        level = _LEVELS.get(name, 0)
    if not 0 <= level <= _HIGHEST[name]:
        raise errors.UsageError(f"{name} has levels up to {_HIGHEST[name]}, not {level}")
    codecs = {module: codec for codec, module in _MODULES.items()}
    return Coding(codecs.get(name, NONE), level)


def compress(body: bytes, how: Coding = DEFAULT) -> bytes:
    """Return the smaller of the two forms of ``body``."""
    return b"".join(compress_apart(body, how))


def compress_apart(body: bytes, how: Coding = DEFAULT) -> tuple[bytes, bytes]:
    """Return what `compress` does, without a copy of a large body: the prefix, and what follows."""
    import cramjam

    if how.codec != NONE and not _is_hopeless(body):
        packed = getattr(cramjam, how.name).compress(body, level=how.level)
        if len(packed) < len(body):
            return _PREFIX.pack(how.codec, len(body), len(packed)), bytes(packed)
    return _PREFIX.pack(NONE, len(body), len(body)), body


def pad(packed: bytes) -> bytes:
    """Return what `compress` returned with zeros behind it, so that its length says less.

    Up to 256 bytes, all results get one length; longer ones get a length that Padmé allows, at most
    12 % more. Source: K. Nikitin et al., "Reducing Metadata Leakage from
    Encrypted Files and Communication with PURBs", PoPETs 2019.
    """
    size = len(packed)
    if size >= PADDED:
        return packed
    exponent = max(size, _LEAST).bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return packed.ljust(max(_LEAST, -(-size // step) * step), b"\0")


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


def inflate(data: bytes | memoryview, *, limit: int, padded: bool = False) -> bytes:
    """Return the decompressed body.

    Never writes more than the stated length, whatever the compressed bytes would inflate to.

    Args:
        data: What `compress` returned.
        limit: The largest body in bytes that the caller accepts.
        padded: Whether zeros may follow (see `pad`).

    Raises:
        CodecError: The data is truncated, over the limit, of other lengths than stated, or has an
            unknown codec; or something else than padding follows it.
    """
    codec, length, body = _parts(data, limit, padded=padded)
    if codec == NONE:
        if len(body) != length:
            raise CodecError(f"holds {len(body)} bytes, claims {length}")
        return bytes(body)
    if codec not in _MODULES:
        raise CodecError(f"unknown codec {codec}")
    import cramjam

    out = bytearray(length)
    try:
        # With a buffer of the stated size, a body that inflates further is an error and takes no
        # memory (`decompress(output_len=…)` is only a hint).
        written = getattr(cramjam, _MODULES[codec]).decompress_into(body, out)
    except cramjam.DecompressionError as error:
        raise CodecError("does not inflate to its stated length") from error
    except BaseException as error:
        if not native.panicked(error):
            raise
        raise CodecError("does not inflate") from None
    if written != length:
        raise CodecError(f"inflates to {written} bytes, claims {length}")
    return bytes(out)


def _parts(data: bytes | memoryview, limit: int, *, padded: bool) -> tuple[int, int, memoryview]:
    """Return the codec, the length of the body, and the body in that codec.

    Raises:
        CodecError: See `inflate`.
    """
    if len(data) < _PREFIX.size:
        raise CodecError("truncated")
    codec, length, coded = _PREFIX.unpack_from(data)
    if length > limit:
        raise CodecError(f"claims {length} bytes, over the limit of {limit}")
    body = memoryview(data)[_PREFIX.size : _PREFIX.size + coded]
    if len(body) != coded:
        raise CodecError(f"holds {len(body)} bytes, claims {coded}")
    rest = bytes(memoryview(data)[_PREFIX.size + coded :])
    if rest and (not padded or rest.count(0) != len(rest)):
        raise CodecError(f"is followed by {len(rest)} bytes that mean nothing")
    return codec, length, body
