"""What dorky has to be ahead of: the bars, and how they are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.bench import Sample
from benchmarks.growth import COUNTS, STEPS
from benchmarks.jobs import NPM

Measured = Mapping[tuple[str, str], Sequence[Sample]]


@dataclass(frozen=True)
class Bar:
    """A limit for one figure of dorky's, or for its ratio to another figure.

    Attributes:
        number: Of the list that it is from.
        job: What dorky is judged by.
        limit: The most that is allowed; None for what is shown for the record.
        against: Whose figure of the same job it is divided by; a job's name with a dot for one of
            dorky's own; empty for none.
        measure: The figure: an attribute of `Sample`.
        unit: What the figure is shown in, where it is no ratio.
        where: The kind of link that it is for (see `link`); empty for all.
    """

    number: int
    job: str
    limit: float | None
    against: str = ""
    measure: str = "seconds"
    unit: str = ""
    where: str = ""


@dataclass(frozen=True)
class Verdict:
    """How dorky stands to one bar; the value is None if something for it was not measured."""

    bar: Bar
    value: float | None

    @property
    def word(self) -> str:
        if self.value is None:
            return "not measured"
        if self.bar.limit is None:
            return "for the record"
        return "met" if self.value <= self.bar.limit else "MISSED"


MIB = 1 << 20
SCALES = {"MiB sent": MIB, "KiB sent": 1 << 10}

BARS = [
    Bar(1, "env.push", 1.0, "s5cmd"),
    Bar(1, "env.push", 1.0, "rclone"),
    Bar(1, "env.push", 1, "", "requests", "requests"),
    Bar(1, "env.push.all", None, "s5cmd"),
    Bar(1, "env.pull.same", 1.1, "rclone"),
    Bar(1, "env.pull.same", 1, "", "requests", "requests"),
    Bar(1, "env.pull", 1.0, "rclone"),
    Bar(1, "env.pull", 1, "", "requests", "requests"),
    Bar(2, "few.push", 0.4, "s5cmd"),
    Bar(2, "few.push", 0.6, "restic"),
    Bar(2, "few.push.all", None, "s5cmd"),
    Bar(2, "few.push.all", None, "restic"),
    Bar(2, "few.push.all", None, "rclone, tuned"),
    Bar(2, "few.pull", None, "rclone, tuned"),
    Bar(2, "few.pull", 0.4, "s5cmd"),
    Bar(2, "few.pull", 0.6, "restic"),
    Bar(2, "many.push", 10, "few.push"),
    Bar(2, "many.push.all", 10, "few.push.all"),
    Bar(2, "many.pull", 10, "few.pull"),
    *(
        bar
        for kind in ("noise", "text")
        for bar in (
            Bar(9, f"large.{kind}.pull", 1.0, "rclone"),
            Bar(9, f"large.{kind}.pull", 1.8, "s5cmd", where="loopback"),
            Bar(9, f"large.{kind}.pull", 1.1, "s5cmd", where="slow"),
            Bar(9, f"large.{kind}.pull", 2.5, "", "cpu", "CPU seconds"),
            Bar(9, f"large.{kind}.save", 1.2, "s5cmd"),
            Bar(9, f"large.{kind}.save", 4.5, "", "cpu", "CPU seconds"),
        )
    ),
    Bar(9, "many.pull", 1.0, "restic", where="loopback"),
    Bar(9, "many.pull", 0.6, "restic", where="distant"),
    Bar(9, "many.save", None, "restic"),
    Bar(9, "many.save", None, "s5cmd"),
    Bar(9, "many.save", None, "rclone, tuned"),
    Bar(3, "few.change", 1.1, "s5cmd"),
    Bar(3, "few.change.all", None, "s5cmd"),
    Bar(3, "few.change.all", None, "rclone, tuned"),
    Bar(3, "shift.all", 2, "", "up", "MiB sent"),
    Bar(3, "shift.all", 1.0, "restic"),
    Bar(4, "local", 0.8, "git"),
    Bar(4, "status.many", 0.25, "dvc"),
    Bar(4, "status.most", 3, "git"),
    Bar(4, "stage.noise", 0.6, "dvc"),
    Bar(4, "stage.noise", 1.2, "sha256sum"),
    Bar(4, "stage.text", 0.6, "dvc"),
    Bar(4, "stage.text", 1.2, "sha256sum"),
    Bar(5, "start.status", 0.6, NPM),
    Bar(5, "start.help", 0.6, NPM),
    *(
        Bar(6, f"memory.{what}.{part}", limit, "", "rss", "MiB")
        for what, limit in (("large.directory", 300), ("large.s3", 300), ("most", 400))
        for part in ("stage", "commit", "push", "pull")
    ),
    Bar(7, "env.push.same", 1, "", "requests", "requests"),
    Bar(7, "most.change", 2, "", "requests", "requests"),
    Bar(7, "most.change", 200, "", "up", "KiB sent"),
    *(
        bar
        for count, limit in zip(COUNTS, (None, 400, 1024), strict=True)
        for bar in (
            *(Bar(8, f"growth.{count}.{step}", limit, "", "rss", "MiB") for step in STEPS),
            Bar(8, f"growth.{count}.status", 3, "git"),
            Bar(8, f"growth.{count}.change.push", 3, "", "requests", "requests"),
            Bar(8, f"growth.{count}.change.push", 300, "", "up", "KiB sent"),
        )
    ),
]


def link(round_trip: int, rate: int) -> str:
    """The kind of a link: ``slow`` with a limit on its rate, ``loopback`` without any delay."""
    return "slow" if rate else "distant" if round_trip else "loopback"


def judge(measured: Measured, where: str = "distant") -> list[Verdict]:
    """How dorky stands to every bar for a kind of link; medians are compared."""
    return [Verdict(bar, _value(bar, measured)) for bar in BARS if bar.where in ("", where)]


def _value(bar: Bar, measured: Measured) -> float | None:
    ours = figure(measured, bar.job, "dorky", bar.measure)
    if ours is None or not bar.against:
        return ours if ours is None else ours / SCALES.get(bar.unit, 1)
    if "." in bar.against:
        other = figure(measured, bar.against, "dorky", bar.measure)
    else:
        job = "start.status" if bar.against == NPM else bar.job
        other = figure(measured, job, bar.against, bar.measure)
    return ours / other if other else None


def figure(measured: Measured, job: str, tool: str, measure: str) -> float | None:
    """The median of one figure; None if it was not measured.

    Of a tool that has no steps before the push, the push is all of it.
    """
    samples = measured.get((job, tool)) or measured.get((job.removesuffix(".all"), tool))
    return median(getattr(sample, measure) for sample in samples) if samples else None
