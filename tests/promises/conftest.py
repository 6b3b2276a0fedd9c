"""Fixtures for the promises: a team of three on one directory, and their bucket."""

from __future__ import annotations

from pathlib import Path

import pytest
from attacks import Place
from servers import Remote
from teams import Team, gather


@pytest.fixture
def team(tmp_path: Path, file_url: Remote) -> Team:
    return gather(tmp_path, file_url)


@pytest.fixture
def place(file_url: Remote) -> Place:
    return Place(file_url)
