"""The guide to the library runs, and a program of a user's is typed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dorky import DorkyClient

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "guides" / "library.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def program(url: str) -> str:
    return "\n".join(BLOCKS).replace("s3://acme-vault/models", url)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(BLOCKS) > 5
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program(str(tmp_path / "vault"))],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.bin").read_bytes() == b"weights"


def test_the_examples_of_the_file_system_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = GUIDE.with_name("fsspec.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    vault = str(tmp_path / "vault")
    DorkyClient.create(vault).close()
    text = "\n".join(blocks).replace("s3://acme-vault/data", vault)
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr


def test_the_examples_are_typed(tmp_path: Path) -> None:
    written = tmp_path / "program.py"
    written.write_text(program("s3://bucket/models"))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache"]
    done = subprocess.run(
        [*command, "--follow-imports=silent", written],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
