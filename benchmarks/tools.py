"""What a tool is to the benchmarks, and where it works."""
# ruff: noqa: ARG002 (these do nothing)

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from benchmarks.servers import BUCKET, bucket_environment

PEERS = Path(__file__).resolve().parent.parent / ".peers"  # dev.py installs them there

Command = list[str]


def find(program: str) -> str:
    """Return the path of a program, a peer's or one on the PATH; empty if there is none."""
    here = Path(sys.executable).parent
    places = [str(PEERS / "bin"), str(here), os.environ.get("PATH", os.defpath)]
    return shutil.which(program, path=os.pathsep.join(places)) or ""


@dataclass(frozen=True)
class Site:
    """One person's machine, as far as a tool sees it.

    Attributes:
        root: A directory of its own, with the person's home and project in it.
        prefix: The place in the bucket that the project's sites share.
        endpoint: The bucket's server; empty for a remote that is a directory.
        vault: That directory, which the project's sites share.
        conditions: Whether the remote honours conditional writes.
        scheme: That of the bucket's URLs.
    """

    root: Path
    prefix: str
    endpoint: str
    vault: Path
    conditions: bool = True
    scheme: str = "s3"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def work(self) -> Path:
        return self.root / "project"

    @property
    def data(self) -> Path:
        return self.work / "data"

    @property
    def file(self) -> Path:
        """The one file that there is in the data."""
        (only,) = (path for path in self.data.iterdir() if path.suffix != ".dvc")
        return only

    @property
    def url(self) -> str:
        return f"{self.scheme}://{BUCKET}/{self.prefix}"

    def environment(self) -> dict[str, str]:
        """Nothing of whoever runs the benchmarks: no configuration, credentials or proxies."""
        bucket = bucket_environment(self.scheme, self.endpoint) if self.endpoint else {}
        home = str(self.home)
        return {"HOME": home, "LC_ALL": "C.UTF-8", "TMPDIR": home, **bucket}


@dataclass
class Tool:
    """A program; every method gives the command lines of one job.

    Attributes:
        name: As it is shown.
        program: Where it is; empty when it is not installed.
    """

    name: str = ""
    program: str = field(default="", init=False)
    hint = "dev.py bench --peers installs it"
    asks_version = ("--version",)
    schemes: ClassVar[tuple[str, ...]] = ("s3",)
    """The schemes of the buckets that it knows."""

    def __post_init__(self) -> None:
        self.program = find(self.name.partition(",")[0])

    def version(self) -> str:
        done = subprocess.run(
            [self.program, *self.asks_version], capture_output=True, text=True, check=False
        )
        words = (done.stdout or done.stderr).split()
        number = next((word for word in words if any(map(str.isdigit, word))), "of some version")
        return f"{self.name} {number.removeprefix('v')}"

    def environment(self, site: Site) -> Mapping[str, str]:
        """What the tool needs besides the site's own."""
        return {}

    def init(self, site: Site) -> list[Command]:
        """Start a project."""
        return []

    def stage(self, site: Site) -> list[Command]:
        """Take the data in, where that is a step of its own."""
        return []

    def commit(self, site: Site) -> list[Command]:
        """Record what was taken in, where that is a step of its own."""
        return []

    def push(self, site: Site) -> list[Command]:
        """Bring the data to the bucket."""
        return []

    def save(self, site: Site) -> list[Command]:
        """Bring to the bucket what no step has taken in yet, by as few commands as there are."""
        return [*self.stage(site), *self.commit(site), *self.push(site)]

    def pull(self, site: Site) -> list[Command]:
        """Bring the data here."""
        return []

    def read(self, site: Site, at: int) -> list[Command]:
        """Read 1 KiB of the only file, from an offset, into ``piece``."""
        return []

    def status(self, site: Site) -> list[Command]:
        """Say what has changed."""
        return []

    def nothing(self, site: Site) -> list[Command]:
        """Start, and end at once."""
        return []

    def clone(self, old: Site, new: Site) -> None:
        """Bring to a new machine what a git clone, and whoever hands out keys, would bring."""
