"""Panics of libraries that are written in Rust.

pyo3 raises a panic as an exception that `except Exception` does not catch. Each library has its own
class for it, which can't be imported, so it is recognised by its name.
"""

from __future__ import annotations


def panicked(error: BaseException) -> bool:
    """Return whether an exception is a panic: on untrusted data, it means that the data is bad."""
    return type(error).__name__ == "PanicException"
