"""Bytes, without I/O: records, chunks, codecs, encryption."""
