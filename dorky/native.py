"""Panics of libraries that are written in Rust.

pyo3 raises a panic as an exception that `except Exception` does not catch, of a class that each
library has for itself and that can't be imported: it is told by its name.
"""

from __future__ import annotations


def panicked(error: BaseException) -> bool:
    """Return whether an exception is a panic: on data of others, that is the data's fault."""
    return type(error).__name__ == "PanicException"
