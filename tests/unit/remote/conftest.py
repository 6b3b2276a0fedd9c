"""Fixtures for the remote's tests: a project whose every request can be made to fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import snapshots
from faults import Faults
from machines import Machine, started
from servers import Remote


@pytest.fixture
def faults() -> Iterator[Faults]:
    # Patches of its own: `snapshots` minds others, which these are not.
    with pytest.MonkeyPatch.context() as patched:
        yield Faults.installed(patched)


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

    def make() -> None:
        machine("clone", file_url.url, ".")

    snapshots.once([machine.base, Path(file_url.url)], make, "ben")
    faults.clear()
    return machine
