"""The jobs: each is done by one tool after the other, on sites of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks import data
from benchmarks.bench import Bench, Sample
from benchmarks.tools import Site, Tool


@dataclass(frozen=True)
class Sizes:
    """How much data there is."""

    few: int = 1_000  # files
    many: int = 10_000
    most: int = 100_000
    shifted: int = 256  # MiB
    large: int = 1024

    @classmethod
    def quick(cls) -> Sizes:
        return cls(few=100, many=1_000, most=3_000, shifted=16, large=64)


@dataclass(frozen=True)
class Job:
    """Something that takes several commands, some of which are measured.

    Attributes:
        name: For `--only`.
        tools: The tools that do it, where they are installed.
        rounds: How often at most: some take minutes.
        run: Does it with one tool, once.
        titles: What its measured parts are called, by the names they are noted under.
        always: The peers that run without `--peers`, too: every machine has them.
    """

    name: str
    tools: tuple[str, ...]
    rounds: int
    run: Callable[[Bench, Tool], None]
    titles: dict[str, str] = field(default_factory=dict)
    always: tuple[str, ...] = ()


LIBRARIES = ("DorkyClient", "boto3", "obstore", "transfer_manager", "dvc.api")
BUCKETS = ("dorky", "rclone", "rclone, tuned", "s5cmd", "dvc", "restic")
# What the npm package of this name took to list a small repository, and what starting Python took
# then, on the machine that the bars were set on.
NPM_LISTING, PYTHON_THEN = 0.147, 0.012
NPM = "npm dorky*"


def jobs(sizes: Sizes) -> list[Job]:
    """All jobs, the quick ones first."""
    few, many, most = f"{sizes.few:,} × 4 KiB", f"{sizes.many:,} × 4 KiB", f"{sizes.most:,}"
    shifted, large = f"{sizes.shifted} MiB", f"{sizes.large} MiB"

    def one_file(bench: Bench, tool: Tool) -> None:
        site = bench.site(bench.samples.env())
        _first_push(bench, tool, site)
        data.change(site.data)
        _push(bench, tool, site, "env.push")
        bench.time("env.push.same", tool, site, tool.push(site))
        clone = bench.clone(tool, site)
        bench.time("env.pull", tool, clone, tool.pull(clone))
        data.check_equal(site.data, clone.data)
        bench.time("env.pull.same", tool, clone, tool.pull(clone))
        data.check_equal(site.data, clone.data)

    def few_files(bench: Bench, tool: Tool) -> None:
        site = bench.site(bench.samples.small(sizes.few))
        bench.run(tool, site, tool.init(site))
        _push(bench, tool, site, "few.push")
        clone = bench.clone(tool, site)
        bench.time("few.pull", tool, clone, tool.pull(clone))
        data.check_equal(site.data, clone.data)
        data.change(site.data)
        _push(bench, tool, site, "few.change")
        # Whether the change arrived; DVC's files come by git.
        clone = bench.clone(tool, site)
        bench.run(tool, clone, tool.pull(clone))
        data.check_equal(site.data, clone.data)

    def many_files(bench: Bench, tool: Tool) -> None:
        site = bench.site(bench.samples.small(sizes.many))
        bench.run(tool, site, tool.init(site))
        _push(bench, tool, site, "many.push")
        clone = bench.clone(tool, site)
        bench.time("many.pull", tool, clone, tool.pull(clone))
        data.check_equal(site.data, clone.data)
        bench.clear()
        _save(bench, tool, bench.site(bench.samples.small(sizes.many)), "many.save")

    def large_file(kind: str) -> Callable[[Bench, Tool], None]:
        def run(bench: Bench, tool: Tool) -> None:
            samples = {"noise": bench.samples.noise, "text": bench.samples.text}
            sample = samples[kind](sizes.large)
            site = bench.site(sample)
            bench.run(tool, site, tool.init(site))
            _push(bench, tool, site, f"large.{kind}.push")
            clone = bench.clone(tool, site)
            bench.time(f"large.{kind}.pull", tool, clone, tool.pull(clone))
            data.check_equal(site.data, clone.data)
            bench.clear()
            _save(bench, tool, bench.site(sample), f"large.{kind}.save")

        return run

    def shift(bench: Bench, tool: Tool) -> None:
        site = bench.site(bench.samples.noise(sizes.shifted))
        _first_push(bench, tool, site)
        data.put_in_front(site.data)
        _push(bench, tool, site, "shift")
        clone = bench.clone(tool, site)
        bench.run(tool, clone, tool.pull(clone))
        data.check_equal(site.data, clone.data)

    def local(bench: Bench, tool: Tool) -> None:
        site = bench.site(bench.samples.small(sizes.many), remote=False)
        bench.run(tool, site, tool.init(site))
        record = [*tool.stage(site), *tool.commit(site)] or tool.push(site)
        bench.time("local", tool, site, record)
        for _ in range(3 if tool.status(site) else 0):
            bench.time("status.many", tool, site, tool.status(site))

    def status(bench: Bench, tool: Tool) -> None:
        site = bench.site(bench.samples.small(sizes.most), remote=False)
        bench.run(tool, site, [*tool.init(site), *tool.stage(site), *tool.commit(site)])
        for _ in range(5):
            bench.time("status.most", tool, site, tool.status(site))

    def stage(bench: Bench, tool: Tool) -> None:
        for kind, sample in (("noise", bench.samples.noise), ("text", bench.samples.text)):
            site = bench.site(sample(sizes.large), remote=False)
            bench.run(tool, site, tool.init(site))
            bench.time(f"stage.{kind}", tool, site, tool.stage(site))
            shutil.rmtree(site.root)

    def start(bench: Bench, tool: Tool) -> None:
        site = bench.site(bench.samples.env(), remote=False)
        bench.run(tool, site, [*tool.init(site), *tool.stage(site), *tool.commit(site)])
        bench.run(tool, site, tool.push(site))
        for _ in range(5):
            for job, commands in (
                ("start.nothing", tool.nothing(site)),
                ("start.help", [[tool.program, "--help"]] if tool.name[:5] == "dorky" else []),
                ("start.status", tool.status(site)),
            ):
                if commands:
                    bench.time(job, tool, site, commands)
        for sample in bench.measured.pop(("start.nothing", "python"), []):
            bench.note("start.nothing", "python", sample)
            bench.note("start.status", NPM, Sample(NPM_LISTING * sample.seconds / PYTHON_THEN))

    def signed(bench: Bench, tool: Tool) -> None:
        for name, count in (("few", sizes.few), ("many", sizes.many)):
            site = bench.site(bench.samples.small(count))
            _first_push(bench, tool, site)
            for part in ("sign", "verify"):
                command = [[tool.program, part, "data"]]
                bench.time(f"signed.{name}.{part}", tool, site, command)
            bench.time(f"signed.{name}.push", tool, site, tool.push(site))

    def memory_large(bench: Bench, tool: Tool) -> None:
        for remote in ("directory", "s3"):
            site = bench.site(bench.samples.noise(sizes.large), remote=remote == "s3")
            _all_of_it(bench, tool, site, f"memory.large.{remote}")
            bench.clear()

    def memory_most(bench: Bench, tool: Tool) -> None:
        site = bench.site(bench.samples.small(sizes.most))
        _all_of_it(bench, tool, site, "memory.most")
        data.change(site.data)
        _push(bench, tool, site, "most.change")

    def library(bench: Bench, tool: Tool) -> None:
        for name, sample in (
            ("few", bench.samples.small(sizes.few)),
            ("large", bench.samples.noise(sizes.large)),
        ):
            site = bench.site(sample)
            bench.run(tool, site, tool.init(site))
            bench.time(f"library.{name}.up", tool, site, tool.push(site))
            clone = bench.clone(tool, site)
            bench.time(f"library.{name}.down", tool, clone, tool.pull(clone))
            data.check_equal(site.data, clone.data)
            if name == "large":
                clone, at = bench.clone(tool, site), sizes.large << 19
                bench.time("library.read", tool, clone, tool.read(clone, at))
                data.check_piece(sample / "large.bin", at, clone.work / "piece")
            bench.clear()

    def pushes(name: str, what: str) -> dict[str, str]:
        return {name: what, f"{name}.all": f"{what}, stage and commit included"}

    def both_ways(name: str, what: str) -> dict[str, str]:
        return {
            **pushes(f"{name}.push", f"push {what}"),
            f"{name}.pull": f"first pull of {what}",
            f"{name}.save": f"save {what}, as it lies there",
        }

    def parts(name: str, what: str) -> dict[str, str]:
        names = ("stage", "commit", "push", "pull")
        return {f"{name}.{part}": f"{part} {what}" for part in names}

    return [
        Job("start", ("dorky", "python", "node"), 5, start, {
            "start.help": "dorky --help",
            "start.status": "status in a small repository",
            "start.nothing": "start of the interpreter, doing nothing",
        }),
        Job("env", BUCKETS, 5, one_file, {
            **pushes("env.push", "push one changed .env"),
            "env.push.same": "push, nothing new",
            "env.pull": "first pull of one .env",
            "env.pull.same": "pull, nothing new",
        }),
        Job("few", BUCKETS, 3, few_files, {
            **pushes("few.push", f"push {few}"),
            "few.pull": f"first pull of {few}",
            **pushes("few.change", f"push 1 changed of {few}"),
        }),
        Job("many", BUCKETS, 3, many_files, both_ways("many", many)),
        *(
            Job(f"large-{kind}", BUCKETS, 5, large_file(kind),
                both_ways(f"large.{kind}", f"{large}, {words}"))
            for kind, words in (("noise", "random"), ("text", "text"))
        ),
        Job("library", LIBRARIES, 3, library, {
            "library.few.up": f"upload {few}",
            "library.few.down": f"download {few}",
            "library.large.up": f"upload {large}",
            "library.large.down": f"download {large}",
            "library.read": f"read 1 KiB of {large}",
        }, always=("boto3", "obstore", "transfer_manager")),
        Job("shift", BUCKETS, 3, shift, pushes("shift", f"push {shifted}, a byte put in front")),
        Job("local", ("dorky", "git", "dvc", "restic"), 5, local, {
            "local": f"stage and commit {many}",
            "status.many": f"status, nothing changed in {many}",
        }),
        Job("stage", ("dorky", "dvc", "sha256sum", "cp"), 5, stage, {
            "stage.noise": f"stage {large}, random",
            "stage.text": f"stage {large}, text",
        }),
        Job("status", ("dorky", "git"), 1, status, {
            "status.most": f"status, nothing changed in {most} files",
        }),
        Job("signed", ("dorky",), 3, signed, {
            f"signed.{name}.{part}": f"{words} {what}"
            for name, what in (("few", few), ("many", many))
            for part, words in (
                ("sign", "sign"), ("verify", "verify"), ("push", "push the signatures of")
            )
        }),
        Job("memory-large", ("dorky",), 1, memory_large, {
            **parts("memory.large.directory", f"{large}, directory"),
            **parts("memory.large.s3", f"{large}, bucket"),
        }),
        Job("memory-most", ("dorky",), 1, memory_most, {
            **parts("memory.most", f"{most} files, bucket"),
            **pushes("most.change", f"push 1 changed of {most} files"),
        }),
    ]  # fmt: skip


def _first_push(bench: Bench, tool: Tool, site: Site) -> None:
    bench.run(tool, site, tool.init(site))
    bench.run(tool, site, [*tool.stage(site), *tool.commit(site)])
    bench.run(tool, site, tool.push(site))


def _push(bench: Bench, tool: Tool, site: Site, job: str) -> None:
    """Take in what changed, and push: the push alone is noted, and then all of it."""
    local = [*tool.stage(site), *tool.commit(site)]
    before = bench.run(tool, site, local)
    sample = bench.time(job, tool, site, tool.push(site))
    if local:
        bench.note(f"{job}.all", tool.name, before + sample)


def _save(bench: Bench, tool: Tool, site: Site, job: str) -> None:
    bench.run(tool, site, tool.init(site))
    bench.time(job, tool, site, tool.save(site))


def _all_of_it(bench: Bench, tool: Tool, site: Site, job: str) -> None:
    bench.run(tool, site, tool.init(site))
    bench.time(f"{job}.stage", tool, site, tool.stage(site))
    bench.time(f"{job}.commit", tool, site, tool.commit(site))
    bench.time(f"{job}.push", tool, site, tool.push(site))
    clone = bench.clone(tool, site)
    bench.time(f"{job}.pull", tool, clone, tool.pull(clone))
    data.check_equal(site.data, clone.data)
