"""dorky and its peers, each used as its own manual says: what to type for the same few jobs."""
# ruff: noqa: ARG002 (not every tool needs to know the site)

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import library
from benchmarks.servers import BUCKET
from benchmarks.tools import PEERS, Command, Site, Tool


class Dorky(Tool):
    hint = "dev.py installs it"
    schemes = ("s3", "gs")

    def init(self, site: Site) -> list[Command]:
        where = [site.url] if site.endpoint else [str(site.vault)]
        if not site.conditions:
            where.append("--single-writer")
        return [[self.program, "init", *where, "--name", "ana", "--recovery", "none"]]

    def stage(self, site: Site) -> list[Command]:
        return [[self.program, "stage", "data"]]

    def commit(self, site: Site) -> list[Command]:
        return [[self.program, "commit", "-m", "change"]]

    def push(self, site: Site) -> list[Command]:
        return [[self.program, "push"]]

    def save(self, site: Site) -> list[Command]:
        return [[self.program, "save", "data", "-m", "change", "--yes"]]

    def pull(self, site: Site) -> list[Command]:
        return [[self.program, "pull"]]

    def status(self, site: Site) -> list[Command]:
        return [[self.program, "status"]]

    def clone(self, old: Site, new: Site) -> None:
        shutil.copy2(old.work / ".dorkyrc", new.work)
        (new.home / ".dorky").mkdir(mode=0o700)
        shutil.copy2(old.home / ".dorky" / "identity", new.home / ".dorky")


class Rclone(Tool):
    asks_version = ("version",)

    def environment(self, site: Site) -> Mapping[str, str]:
        return {
            "RCLONE_CONFIG_STORE_TYPE": "s3",
            "RCLONE_CONFIG_STORE_PROVIDER": "Other",
            "RCLONE_CONFIG_STORE_ENDPOINT": site.endpoint,
            "RCLONE_CONFIG_STORE_ENV_AUTH": "true",
        }

    def push(self, site: Site) -> list[Command]:
        return [[self.program, "sync", "data", f"store:{BUCKET}/{site.prefix}"]]

    def pull(self, site: Site) -> list[Command]:
        return [[self.program, "sync", f"store:{BUCKET}/{site.prefix}", "data"]]


class TunedRclone(Rclone):
    """As its manual has it for many small files; nobody who types `rclone sync` gets this."""

    def _tuned(self, commands: list[Command]) -> list[Command]:
        flags = ["--transfers=32", "--checkers=32", "--s3-no-head", "--checksum"]
        return [[*command, *flags] for command in commands]

    def push(self, site: Site) -> list[Command]:
        return self._tuned(super().push(site))

    def pull(self, site: Site) -> list[Command]:
        return self._tuned(super().pull(site))


class S5cmd(Tool):
    asks_version = ("version",)

    def _sync(self, site: Site, source: str, target: str) -> list[Command]:
        return [[self.program, "--endpoint-url", site.endpoint, "sync", source, target]]

    def push(self, site: Site) -> list[Command]:
        return self._sync(site, "data/", f"{site.url}/")

    def save(self, site: Site) -> list[Command]:
        copying = [self.program, "--endpoint-url", site.endpoint, "cp"]
        return [[*copying, "data/", f"{site.url}/"]]  # which asks for no list first

    def pull(self, site: Site) -> list[Command]:
        return self._sync(site, f"{site.url}/*", "data/")


class DVC(Tool):
    def environment(self, site: Site) -> Mapping[str, str]:
        return {"DVC_NO_ANALYTICS": "true", "DVC_SITE_CACHE_DIR": str(site.home / "dvc")}

    def init(self, site: Site) -> list[Command]:
        where = site.url if site.endpoint else str(site.vault)
        return [
            [self.program, "init", "--no-scm", "--quiet"],
            [self.program, "remote", "add", "--default", "store", where],
        ]

    def stage(self, site: Site) -> list[Command]:
        files = [path for path in site.data.iterdir() if path.suffix != ".dvc"]
        single = len(files) == 1 and files[0].is_file()
        return [[self.program, "add", f"data/{files[0].name}" if single else "data"]]

    def push(self, site: Site) -> list[Command]:
        return [[self.program, "push"]]

    def pull(self, site: Site) -> list[Command]:
        return [[self.program, "pull"]]

    def status(self, site: Site) -> list[Command]:
        return [[self.program, "status"]]

    def clone(self, old: Site, new: Site) -> None:
        cache = shutil.ignore_patterns("cache", "tmp")
        shutil.copytree(old.work / ".dvc", new.work / ".dvc", ignore=cache)
        for path in (*old.work.glob("*.dvc"), *old.data.glob("*.dvc")):
            if path.is_file():
                shutil.copy2(path, new.work / path.relative_to(old.work))


class Restic(Tool):
    hint = "apt install restic"
    asks_version = ("version",)

    def environment(self, site: Site) -> Mapping[str, str]:
        bucket = f"s3:{site.endpoint}/{BUCKET}/{site.prefix}"
        repository = bucket if site.endpoint else str(site.vault)
        return {"RESTIC_REPOSITORY": repository, "RESTIC_PASSWORD": "of-the-benchmarks"}

    def init(self, site: Site) -> list[Command]:
        return [[self.program, "init"]]

    def push(self, site: Site) -> list[Command]:
        return [[self.program, "backup", "data"]]

    def pull(self, site: Site) -> list[Command]:
        return [[self.program, "restore", "latest", "--target", "."]]


class Git(Tool):
    hint = "apt install git"

    def environment(self, site: Site) -> Mapping[str, str]:
        who = {"NAME": "Ana", "EMAIL": "ana@example.test"}
        people = {f"GIT_{role}_{k}": v for role in ("AUTHOR", "COMMITTER") for k, v in who.items()}
        return {"GIT_CONFIG_NOSYSTEM": "1", **people}

    def init(self, site: Site) -> list[Command]:
        return [[self.program, "init", "--quiet"]]

    def stage(self, site: Site) -> list[Command]:
        return [[self.program, "add", "data"]]

    def commit(self, site: Site) -> list[Command]:
        return [[self.program, "commit", "--quiet", "-m", "change"]]

    def status(self, site: Site) -> list[Command]:
        return [[self.program, "status"]]


class Sha256sum(Tool):
    hint = "apt install coreutils"

    def stage(self, site: Site) -> list[Command]:
        return [[self.program, str(site.file)]]


class Cp(Tool):
    hint = "apt install coreutils"

    def stage(self, site: Site) -> list[Command]:
        return [[self.program, str(site.file), str(site.work / "copy")]]


class Python(Tool):
    def __post_init__(self) -> None:
        self.program = sys.executable

    def nothing(self, site: Site) -> list[Command]:
        return [[self.program, "-c", "0"]]


class Node(Tool):
    hint = "apt install nodejs"

    def nothing(self, site: Site) -> list[Command]:
        return [[self.program, "-e", "0"]]


_PACKAGES = {"DorkyClient": "dorky-client", "transfer_manager": "google-cloud-storage"}


class Library(Tool):
    """A Python library of `benchmarks.library`."""

    hint = "dev.py installs it"

    def __post_init__(self) -> None:
        self.program = sys.executable

    def version(self) -> str:
        package = _PACKAGES.get(self.name, self.name)
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            return f"{package} of some version"

    def environment(self, site: Site) -> Mapping[str, str]:
        return {library.BUCKET: BUCKET, library.PREFIX: site.prefix}

    def _do(self, job: str) -> list[Command]:
        return [[self.program, str(Path(library.__file__)), self.name, job]]

    def push(self, site: Site) -> list[Command]:
        return self._do("upload")

    def pull(self, site: Site) -> list[Command]:
        return self._do("download")

    def read(self, site: Site, at: int) -> list[Command]:
        variable = f"{library.MIDDLE}={at}"
        return [["env", variable, *command] for command in self._do("read")]


class Google(Library):
    schemes = ("gs",)


class Client(Library):
    schemes = ("s3", "gs")

    def init(self, site: Site) -> list[Command]:
        return TOOLS["dorky"].init(site)

    def clone(self, old: Site, new: Site) -> None:
        TOOLS["dorky"].clone(old, new)


class DVCLibrary(Library):
    hint = Tool.hint

    def __post_init__(self) -> None:
        self.program = str(PEERS / "bin" / "python") if TOOLS["dvc"].program else ""

    def version(self) -> str:
        return TOOLS["dvc"].version().replace("dvc", self.name)

    def environment(self, site: Site) -> Mapping[str, str]:
        return TOOLS["dvc"].environment(site)

    def init(self, site: Site) -> list[Command]:
        return TOOLS["dvc"].init(site)

    def clone(self, old: Site, new: Site) -> None:
        TOOLS["dvc"].clone(old, new)


TOOLS: dict[str, Tool] = {
    tool.name: tool
    for tool in (
        Dorky("dorky"),
        Rclone("rclone"),
        TunedRclone("rclone, tuned"),
        S5cmd("s5cmd"),
        DVC("dvc"),
        Restic("restic"),
        Git("git"),
        Sha256sum("sha256sum"),
        Cp("cp"),
        Python("python"),
        Node("node"),
    )
}
for _of in (
    Client("DorkyClient"),
    Library("boto3"),
    Library("obstore"),
    Google("transfer_manager"),
    DVCLibrary("dvc.api"),
):
    TOOLS[_of.name] = _of
