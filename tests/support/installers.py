"""The real pip and uv, which know of no other index than the one they are given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from uv import find_uv_bin


def _run(words: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    home.mkdir(parents=True, exist_ok=True)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "UV_")) and "proxy" not in name.lower()
    }
    env = {
        **kept,
        "HOME": str(home),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_NO_CONFIG": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }
    return subprocess.run(
        words, env=env, cwd=home, capture_output=True, text=True, check=False, timeout=120
    )


def _installed(target: Path) -> dict[str, str]:
    found = [path.name.removesuffix(".dist-info") for path in target.glob("*.dist-info")]
    return dict(name.split("-") for name in found)


def uv(target: Path, *words: str, code: int = 0) -> dict[str, str]:
    """Install with uv into a directory; return the versions by name."""
    done = _run(
        [
            *(find_uv_bin(), "pip", "install", "--quiet", "--no-cache", "--target", str(target)),
            *("--python", sys.executable, *words),
        ],
        target.parent / "home",
    )
    assert done.returncode == code, done.stderr
    return _installed(target)


def pip(target: Path, *words: str, code: int = 0) -> dict[str, str]:
    """Install with pip into a directory; return the versions by name."""
    done = _run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-cache-dir"),
            *("--target", str(target), *words),
        ],
        target.parent / "home",
    )
    assert done.returncode == code, done.stderr
    return _installed(target)
