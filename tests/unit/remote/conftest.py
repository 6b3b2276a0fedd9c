"""Fixtures for the remote's tests: a project whose every request can be made to fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import Faults
from machines import Machine, started
from servers import Remote


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults.installed(monkeypatch)


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote, faults: Faults) -> Machine:
    """A project with one commit, pushed into a directory."""
    machine = started(tmp_path / "ana", file_url, {".env": "KEY=1\n"})
    faults.clear()
    return machine


@pytest.fixture
def ben(ana: Machine, file_url: Remote, faults: Faults) -> Machine:
    """Another machine with a clone of ana's."""
    machine = ana.another("ben")
    machine("clone", file_url.url, ".")
    faults.clear()
    return machine
