"""`dev.py`, as far as it reads pyproject.toml, and not just runs what that names."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


@pytest.fixture
def dev() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def required(project: dict[str, Any]) -> set[str]:
    """The names of what the package and its extras require."""
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    named = (re.match(r"[\w.-]+", requirement) for group in groups for requirement in group)
    return {found[0] for found in named if found} - {project["name"]}


def test_every_requirement_has_a_lower_bound(dev: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = [bound.partition("==")[0] for bound in dev.lower_bounds()]
    assert sorted(bounds) == sorted(required(project))


def test_bounds_are_found_however_they_are_written(
    dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text(
        """
dependencies = [
  "a-b[x,y]>=1.2",
  "tomli>=2; python_version < '3.11'",
]

[project.optional-dependencies]
one = ["anyio>=4.9", "both>=1.10,<3"]
two = [
  "both>=1.9",
]
all = ["dorky-client[one,two]"]

[project.scripts]
dorky = "x>=1"
"""
    )
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    assert dev.lower_bounds() == ["a-b==1.2", "tomli==2", "anyio==4.9", "both==1.10"]
