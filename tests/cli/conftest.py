"""Fixtures for the command line: somebody's computer, and a real terminal."""

from __future__ import annotations

import pytest
import snapshots
from machines import Machine
from terminals import Terminal, run_in_terminal


@pytest.fixture
def project(ana: Machine) -> Machine:
    """A local project with two commits."""

    def make() -> None:
        ana("init")
        ana.commit({".env": "KEY=1\n", "config/app.toml": "x = 1\n"}, "first")
        ana.commit({".env": "KEY=2\n"}, "second")

    snapshots.once([ana.base], make, "project")
    return ana


@pytest.fixture
def terminal() -> Terminal:
    """Run a command of a machine in a terminal of 80 columns, by a process of its own.

    ``typed`` is what somebody types when ``until`` has appeared. Without ``module`` the arguments
    are Python's own.
    """
    return run_in_terminal
