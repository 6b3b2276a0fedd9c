"""Running programs and measuring them."""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import data
from benchmarks.proxy import Proxy
from benchmarks.servers import Server
from benchmarks.tools import Command, Site, Tool

_TO_MIB = 1024  # ru_maxrss is in KiB on Linux


@dataclass(frozen=True)
class Sample:
    """What some commands took, one after the other.

    Attributes:
        seconds: From start to end.
        cpu: Seconds of processor time, of all their threads and children.
        rss: The most memory that one of them held, in MiB.
        requests: What the bucket was asked.
        up: Bytes sent to it.
        down: Bytes it sent.
    """

    seconds: float = 0.0
    cpu: float = 0.0
    rss: float = 0.0
    requests: int = 0
    up: int = 0
    down: int = 0

    def __add__(self, other: Sample) -> Sample:
        return Sample(
            self.seconds + other.seconds,
            self.cpu + other.cpu,
            max(self.rss, other.rss),
            self.requests + other.requests,
            self.up + other.up,
            self.down + other.down,
        )


class Failed(Exception):
    """A tool did not do its job."""


class Bench:
    """A run of the benchmarks: where its sites are, and what was measured so far.

    Args:
        directory: Takes everything that is written.
        proxy: The way to the bucket.
        server: The bucket's server.
    """

    def __init__(self, directory: Path, proxy: Proxy, server: Server) -> None:
        self.samples = data.Samples(directory / "samples")
        self.measured: dict[tuple[str, str], list[Sample]] = defaultdict(list)
        self.directory = directory
        self.scheme = server.scheme
        self._proxy = proxy
        self._server = server
        self._sites = 0

    def site(self, source: Path, *, remote: bool = True) -> Site:
        """A new machine with a project that holds a copy of sample data."""
        self._sites += 1
        root = self.directory / "sites" / str(self._sites)
        endpoint = self._proxy.endpoint if remote else ""
        conditions = self._server.conditions or not remote
        prefix, scheme = f"project-{self._sites}", self._server.scheme
        site = Site(root, prefix, endpoint, root / "vault", conditions, scheme)
        for path in (site.home, site.work):
            path.mkdir(parents=True)
        data.copy(source, site.data)
        return site

    def clone(self, tool: Tool, old: Site) -> Site:
        """Another machine, with a fresh clone of the same project."""
        self._sites += 1
        new = replace(old, root=self.directory / "sites" / str(self._sites))
        for path in (new.home, new.work, new.data):
            path.mkdir(parents=True)
        tool.clone(old, new)
        return new

    def clear(self) -> None:
        """Remove all sites, and what is in the bucket: nothing asks for it again."""
        shutil.rmtree(self.directory / "sites", ignore_errors=True)
        self._server.clear()

    def run(self, tool: Tool, site: Site, commands: Iterable[Command]) -> Sample:
        """Run commands, one after the other, and measure them.

        Raises:
            Failed: One ended with another status than 0.
        """
        total = Sample()
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            **site.environment(),
            **tool.environment(site),
        }
        for command in commands:
            os.sync()  # what others wrote is not to be waited for by whoever calls fsync next
            self._proxy.take()
            total += self._one(command, site, environment)
        return total

    def time(self, job: str, tool: Tool, site: Site, commands: Iterable[Command]) -> Sample:
        """Run commands as `run` does, and note the result under a job's name."""
        sample = self.run(tool, site, commands)
        self.note(job, tool.name, sample)
        return sample

    def note(self, job: str, name: str, sample: Sample) -> None:
        """Note the result of one round of a job."""
        self.measured[job, name].append(sample)

    def _one(self, command: Command, site: Site, environment: dict[str, str]) -> Sample:
        log = site.root / "output"
        with log.open("wb") as output:
            started = time.perf_counter()
            process = subprocess.Popen(
                command,
                cwd=site.work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                # Its peak of memory is never less than ours, from which it was forked: our own
                # stays small, nothing large is read into memory here.
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                process.wait()
                raise
            seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said = log.read_text(errors="replace")[-4000:]
            raise Failed(f"exit {process.returncode}: {shlex.join(command)}\n{said}")
        traffic = self._proxy.take()
        return Sample(
            seconds,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss / _TO_MIB,
            traffic.requests.total(),
            traffic.up,
            traffic.down,
        )


def own_memory() -> float:
    """The most memory that this process has held, in MiB: the floor of what is seen of others."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _TO_MIB
