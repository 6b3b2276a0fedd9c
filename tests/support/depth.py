"""What the ordinary run leaves to the deep one."""

from __future__ import annotations

from typing import Any

import pytest


def deep(*values: object) -> list[Any]:
    """More values of a parameter: they take the same way through the code as its others."""
    return [pytest.param(value, marks=pytest.mark.deep) for value in values]
