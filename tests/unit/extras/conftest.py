"""Fixtures for what stands on the library."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dorky.extras.fsspec import DorkyFileSystem


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No file system of another test's: fsspec keeps them by their URL."""
    yield
    DorkyFileSystem.clear_instance_cache()
