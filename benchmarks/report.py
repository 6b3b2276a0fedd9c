"""The measurements, as tables, as JSON and as a plot."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import growth
from benchmarks.bars import Measured, Verdict, figure, judge
from benchmarks.bench import Sample
from benchmarks.jobs import NPM
from benchmarks.peers import TOOLS

PLOTTED = (
    "env.push.all", "env.pull", "env.pull.same", "few.push.all", "few.pull", "few.change.all",
    "shift.all", "many.push.all", "many.pull", "large.noise.save", "large.noise.pull",
    "large.text.save", "large.text.pull", "local", "status.many", "stage.noise",
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """A run of the benchmarks.

    Attributes:
        facts: About the machine and the programs.
        titles: Of the jobs, in order.
        measured: By job and tool.
        missing: What could not be run, and why.
        where: The kind of link to the bucket (see `bars.link`).
    """

    facts: Mapping[str, str]
    titles: Mapping[str, str]
    measured: Measured
    missing: Sequence[str]
    where: str = "distant"

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read a run that `write_json` has written, to draw it again."""
        found = json.loads(path.read_text())
        jobs = found["jobs"]
        return cls(
            found["facts"],
            {job["job"]: job["title"] for job in jobs},
            {(job["job"], job["tool"]): [Sample(**of) for of in job["samples"]] for job in jobs},
            found["missing"],
        )

    def text(self) -> str:
        """Two tables, and what one needs to know to read them."""
        facts = [f"{name}: {value}" for name, value in self.facts.items()]
        rows = [
            ["job", "tool", "median s", "min s", "cpu s", "requests", "MB up", "MB down", "MiB"]
        ]
        previous = ""
        for job, tool, samples in self._rows():
            seconds = [sample.seconds for sample in samples]
            rows.append([
                self.titles[job] if job != previous else "",
                tool,
                f"{median(seconds):.3f}",
                f"{min(seconds):.3f}",
                *(
                    self._cell(job, tool, measure, pattern, scale)
                    for measure, pattern, scale in (
                        ("cpu", "{:.2f}", 1), ("requests", "{:.0f}", 1), ("up", "{:.3f}", 1e6),
                        ("down", "{:.3f}", 1e6), ("rss", "{:.0f}", 1),
                    )
                ),
            ])  # fmt: skip
            previous = job
        verdicts = [["bar", "of dorky's", "figure", "limit", ""]]
        verdicts += [self._verdict(verdict) for verdict in self._verdicts()]
        grown = list(growth.table(self.measured))
        tables = [rows, grown, verdicts] if len(grown) > 1 else [rows, verdicts]
        shown = [line for table in tables for line in ("", *_table(table, left=2))]
        return "\n".join([*facts, *shown, "", *self.missing])

    def record(self) -> dict[str, Any]:
        """The same for programs: every sample, and the verdicts."""
        return {
            "facts": dict(self.facts),
            "jobs": [
                {
                    "job": job,
                    "title": self.titles[job],
                    "tool": tool,
                    "median_seconds": median(sample.seconds for sample in samples),
                    "samples": [asdict(sample) for sample in samples],
                }
                for job, tool, samples in self._rows()
            ],
            "bars": [
                {**asdict(verdict.bar), "value": verdict.value, "verdict": verdict.word}
                for verdict in self._verdicts()
            ],
            "missing": list(self.missing),
        }

    def write_json(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.record(), indent=1, ensure_ascii=False) + "\n")

    def plot(self, path: Path) -> None:
        """Draw the medians of what has peers, one small chart a job.

        Raises:
            ImportError: matplotlib is not installed.
        """
        # Here, not above: it is large, and only `dev.py bench` installs it.
        import matplotlib  # type: ignore[import-not-found, unused-ignore]

        matplotlib.use("svg")
        from matplotlib import pyplot  # type: ignore[import-not-found, unused-ignore]

        jobs = [job for job in PLOTTED if figure(self.measured, job, "dorky", "seconds")]
        if not jobs:
            return
        # The same figures give the same bytes; text stays text, in the reader's font.
        matplotlib.rcParams.update({"svg.hashsalt": "dorky", "svg.fonttype": "none"})
        rows = (len(jobs) + 1) // 2
        chart, axes = pyplot.subplots(rows, 2, figsize=(9, 1.7 * rows), squeeze=False)
        for place, job in zip(axes.flat, jobs, strict=False):
            found = {tool: figure(self.measured, job, tool, "seconds") for tool in TOOLS}
            medians = {tool: seconds for tool, seconds in found.items() if seconds}
            tools = sorted(medians, key=medians.__getitem__, reverse=True)
            colors = ["#c2410c" if tool == "dorky" else "#9ca3af" for tool in tools]
            bars = place.barh(tools, [medians[tool] for tool in tools], color=colors)
            alone = figure(self.measured, job.removesuffix(".all"), "dorky", "seconds")
            if job.endswith(".all") and alone:  # of which the push takes
                place.barh(["dorky"], [alone], color="#7c2d12")
            place.bar_label(bars, [f" {medians[tool]:.2f} s" for tool in tools], fontsize=8)
            place.set_title(self.titles[job], fontsize=9, loc="left")
            place.set_xlim(0, max(medians.values()) * 1.2)
            place.set_xticks([])
            place.tick_params(axis="y", labelsize=8, length=0)
            place.spines[:].set_visible(False)
        for place in axes.flat[len(jobs) :]:
            place.axis("off")
        chart.tight_layout()
        path.parent.mkdir(parents=True, exist_ok=True)
        chart.savefig(path, format="svg", metadata={"Date": None}, facecolor="white")
        pyplot.close(chart)

    def _verdicts(self) -> Iterable[Verdict]:
        return (
            verdict
            for verdict in judge(self.measured, self.where)
            if verdict.bar.job in self.titles
        )

    def _rows(self) -> Iterable[tuple[str, str, Sequence[Sample]]]:
        for job in self.titles:
            for tool in (*TOOLS, NPM):
                if samples := self.measured.get((job, tool)):
                    yield job, tool, samples

    def _cell(self, job: str, tool: str, measure: str, pattern: str, scale: float) -> str:
        value = figure(self.measured, job, tool, measure)
        return pattern.format(value / scale) if value else ""

    def _verdict(self, verdict: Verdict) -> list[str]:
        bar = verdict.bar
        title = self.titles[bar.job]
        against = self.titles.get(bar.against, bar.against)
        figures = "" if verdict.value is None else f"{verdict.value:.2f}"
        limit = "" if bar.limit is None else f"{bar.limit:g}"
        return [
            str(bar.number),
            f"{title} ÷ {against}" if bar.against else f"{title}: {bar.unit}",
            figures,
            limit,
            verdict.word,
        ]


def _table(rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """Columns, of which so many are flush left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if n < left else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
