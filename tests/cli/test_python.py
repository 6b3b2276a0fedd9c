"""Python packages from the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import wheels
from machines import Machine

from dorky.extras.index.depot import Depot, Package
from dorky.extras.index.records import derive
from dorky.extras.index.storage import Directory


def kept(machine: Machine, *paths: Path, directory: str = ".depot-storage/python") -> Depot:
    """Put files into a machine's depot."""
    depot = Depot(Directory(machine.project / directory))
    depot.add([Package(derive(path, path.name), path) for path in paths])
    return depot


def test_a_depot_is_looked_at_and_changed(ana: Machine, tmp_path: Path) -> None:
    assert "No packages in .depot-storage/python." in ana("python", "list").err
    kept(ana, wheels.wheel(tmp_path, requires_python=">=3.9"), wheels.sdist(tmp_path, version="2"))
    assert ana("python", "list").out.startswith("acme-core 2  (2 files, ")
    ana("python", "yank", "Acme.Core==1.0", "--reason", "loses data")
    ana("python", "status", "acme-core", "archived", "--reason", "use acme-next")
    said = ana("python", "show", "acme_core").out
    assert said.startswith("acme-core: archived (use acme-next)\n")
    assert "acme_core-1.0-py3-none-any.whl  Python >=3.9  yanked (loses data)" in said
    ana("python", "yank", "acme-core==1.0", "--undo")
    assert "yanked" not in ana("python", "show", "acme-core").out
    assert "nothing was removed" in ana("python", "remove", "acme-core==2", code=5).error
    said = ana("python", "remove", "acme-core==2", "--dry-run")
    assert "Would remove 1 file of acme-core" in said.out
    assert "acme_core-2.tar.gz" in said.out
    ana("python", "remove", "acme-core==2", "--yes")
    assert ana("python", "show", "acme-core", "--json").json["versions"] == ["1.0"]


def test_the_directory_is_chosen(ana: Machine, tmp_path: Path) -> None:
    kept(ana, wheels.wheel(tmp_path), directory="here")
    assert "acme-core" in ana("python", "list", "--dir", "here").out
    ana.env["DEPOT_PYTHON_DIR"] = "here"
    assert "acme-core" in ana("python", "list").out
    assert "acme-core" not in ana("python", "list", "--dir", "there").out


def test_what_can_not_be_done(ana: Machine, tmp_path: Path) -> None:
    kept(ana, wheels.wheel(tmp_path))
    said = ana("python", "show", "nothing", code=4)
    assert "There is no Python package nothing in .depot-storage/python" in said.error
    assert "dorky python list" in said.err
    ana("python", "yank", "acme-core==3", code=4)
    ana("python", "remove", "nothing", code=4)
    for wrong in ("acme-core", "acme-core==", "acme-core==what", "../x==1"):
        ana("python", "yank", wrong, code=2)
    ana("python", "remove", "acme-core==", code=2)
    ana("python", "yank", "acme-core==1.0", "--undo", "--reason", "x", code=2)
    ana("python", "status", "acme-core", "lost", code=2)


def test_without_the_extra_it_is_named(ana: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("dorky.extras.index.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "packaging.utils", None)
    said = ana("python", "list", code=3)
    assert "needs the package packaging" in said.error
    assert "pip install 'dorky-client[python]'" in said.err


def test_a_reason_obeys_no_terminal(ana: Machine, tmp_path: Path) -> None:
    kept(ana, wheels.wheel(tmp_path))
    ana("python", "status", "acme-core", "archived", "--reason", "a\x1b[2J", code=2)
    ana("python", "yank", "acme-core==1.0", "--reason", "a\nb", code=2)
    assert ana("python", "show", "acme-core", "--json").json["status"] == "active"
