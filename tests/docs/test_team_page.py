"""docs/guides/team.md shows what happens: its first story is run, and each line looked up in it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from machines import Machine, Said

ROOT = Path(__file__).resolve().parents[2]
VARYING = (
    (r"AGE-SECRET-KEY-1\S*", "SECRET"),
    (r"SHA256:[\w+/=…]+", "FINGERPRINT"),
    (r"\bage1\w+", "KEY"),
    (r"\b[0-9a-f]{10,}\b", "ID"),
    (r"[\d.]+ (?:B|KiB)\)", "SIZE)"),
)


def lines(text: str) -> list[str]:
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return [line.strip() for line in text.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def shown() -> set[str]:
    return set(lines((ROOT / "docs" / "guides" / "team.md").read_text("utf-8")))


def test_the_first_story(tmp_path: Path, shown: set[str]) -> None:
    homes = {name: Machine(tmp_path / name, {}) for name in ("ana", "ben")}
    ana, ben = homes["ana"], homes["ben"]
    vault = tmp_path / "vault"

    def told(said: Said) -> None:
        text = f"{said.out}\n{said.err}"
        for name, machine in homes.items():
            text = text.replace(str(machine.project), f"/home/{name}/shop")
            text = text.replace(str(machine.home), f"/home/{name}")
        text = text.replace(f"file://{vault}", "file:///home/vault")
        missing = [line for line in lines(text) if line not in shown]
        assert not missing

    for machine, name in ((ana, "Ana"), (ben, "Ben")):
        with machine.here():
            for key, value in (("user.name", name), ("user.email", f"{name}@example.test")):
                git(machine, "config", "--global", key, value)
    git(ana, "init", "--quiet")
    told(ana("init", vault, "--recovery", "key"))
    for path in (".env", "env/prod/api.env", "env/prod/mail.env", "env/staging/billing.env"):
        ana.write(path, "A=1\n")
    told(ana("stage", ".env", "env"))
    told(ana("commit", "-m", "keys for staging and production"))
    told(ana("push"))
    git(ana, "add", "--all")
    git(ana, "commit", "--quiet", "-m", "start the shop")

    ben.project.rmdir()
    subprocess.run(["git", "clone", "--quiet", ana.project, ben.project], check=True, timeout=60)
    told(ben("pull", code=6))
    told(ben("team", "join"))
    told(ana("team", "list"))
    fingerprint = ben("key", "show", "--json").json[0]["fingerprint"]
    told(ana("team", "add", "ben", "--fingerprint", fingerprint))
    told(ben("pull"))
    told(ana("key", "gen", "--ci", "deploy"))


def git(machine: Machine, *words: str) -> None:
    with machine.here():
        subprocess.run(["git", *words], cwd=machine.project, check=True, timeout=60)
