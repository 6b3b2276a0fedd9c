"""The jobs of `--million`: the same work with ten times, and a hundred times, as many files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median

from benchmarks import data
from benchmarks.bench import Bench, Sample
from benchmarks.jobs import Job
from benchmarks.tools import Site, Tool

COUNTS = (10_000, 100_000, 1_000_000)
QUICK = (1_000, 3_000)
STEPS = {
    "stage": "stage all",
    "commit": "commit all",
    "status": "status, nothing changed",
    "push": "push",
    "pull": "first pull",
    "change.stage": "stage one changed file",
    "change.commit": "commit it",
    "change.push": "push it",
}
"""What the steps are called, by the last part of the names that they are noted under."""
_STATUS = 3
"""How often each round asks for the status."""


def growth(counts: tuple[int, ...]) -> list[Job]:
    """Return one job for each count of files."""
    return [
        Job(
            f"growth-{count // 1000}k",
            ("dorky", "git"),
            1,
            _of(count),
            {f"growth.{count}.{step}": f"{title}, {count:,}" for step, title in STEPS.items()},
            always=("git",),
        )
        for count in counts
    ]


def _of(count: int) -> Callable[[Bench, Tool], None]:
    def run(bench: Bench, tool: Tool) -> None:
        site = bench.site(bench.samples.tiny(count), remote=tool.name == "dorky")
        job = f"growth.{count}"
        bench.run(tool, site, tool.init(site))
        bench.time(f"{job}.stage", tool, site, tool.stage(site))
        bench.time(f"{job}.commit", tool, site, tool.commit(site))
        for _ in range(_STATUS):
            bench.time(f"{job}.status", tool, site, tool.status(site))
        if tool.name == "dorky":
            _share(bench, tool, site, job)

    return run


def _share(bench: Bench, tool: Tool, site: Site, job: str) -> None:
    bench.time(f"{job}.push", tool, site, tool.push(site))
    clone = bench.clone(tool, site)
    bench.time(f"{job}.pull", tool, clone, tool.pull(clone))
    data.check_equal(site.data, clone.data)
    shutil.rmtree(clone.root)
    changed = data.change(site.data).relative_to(site.work).as_posix()
    bench.time(f"{job}.change.stage", tool, site, [[tool.program, "stage", changed]])
    bench.time(f"{job}.change.commit", tool, site, tool.commit(site))
    bench.time(f"{job}.change.push", tool, site, tool.push(site))


def table(measured: Mapping[tuple[str, str], Sequence[Sample]]) -> Iterator[list[str]]:
    """Yield the rows of a table: each step, by the count of files, and how much it has grown.

    The last column divides the processor time by that of the count before, and that by the growth
    of the count: 1 is linear, less is better.
    """
    yield ["step", "files", "s", "cpu s", "MiB", "requests", "MB up", "MB down", "growth"]
    counts = sorted({int(job.split(".")[1]) for job, _ in measured if job.startswith("growth.")})
    for tool in ("dorky", "git"):
        for step, title in STEPS.items():
            before: tuple[int, float] | None = None
            for count in counts:
                found = measured.get((f"growth.{count}.{step}", tool))
                if not found:
                    continue
                middle = Sample(*(
                    median(getattr(sample, name) for sample in found)
                    for name in Sample.__dataclass_fields__
                ))  # fmt: skip
                grown = middle.cpu / before[1] / (count / before[0]) if before else None
                before = count, middle.cpu
                yield [
                    title if tool == "dorky" else f"{tool}: {title}",
                    f"{count:,}",
                    f"{middle.seconds:.2f}",
                    f"{middle.cpu:.2f}",
                    f"{middle.rss:.0f}",
                    f"{middle.requests:.0f}",
                    f"{middle.up / 1e6:.3f}",
                    f"{middle.down / 1e6:.3f}",
                    "" if grown is None else f"{grown:.2f}",
                ]
