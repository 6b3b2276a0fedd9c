"""Computers for the tests: each has a home, a project, and dorky's command line.

Commands run in this process, as `dorky` would run them: in the machine's directory, with its
environment, writing to streams of their own.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import random
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import msgspec
import snapshots
import typer
from servers import Remote

from dorky import errors
from dorky.cli import main
from dorky.config import Config
from dorky.drivers import open_driver
from dorky.drivers.base import Driver
from dorky.format.model import Commit, Pack, Root
from dorky.keys import signing
from dorky.keys.sshsig import Namespace
from dorky.remote.listing import packs_of
from dorky.repo import Repository
from dorky.store import oplog, state

# Typer makes the commands from their functions again at every run: three quarters of a test's time.
_COMMANDS: Any = typer.main.get_command(main.app)
for _command in _COMMANDS.commands.values():
    _command.load = functools.cache(_command.load)


class Said(NamedTuple):
    """What a command answered."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.raw)

    @property
    def error(self) -> str:
        """The line that says what failed."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        return line.removeprefix("error: ")

    @property
    def hint(self) -> str:
        """What to run next."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("hint: ")]
        return line.removeprefix("hint: ")


class Machine:
    """Somebody's computer.

    Args:
        base: A directory for all of it: an empty one, or one of a computer.
        env: Environment variables, such as those that make a remote's server be found.
    """

    def __init__(self, base: Path, env: Mapping[str, str]) -> None:
        self.base = base
        self.env = dict(env)
        self.home = base / "home"
        self.project = base / "project"
        for directory in (self.home, self.project):
            directory.mkdir(parents=True, exist_ok=True)

    @property
    def identity(self) -> Path:
        return self.home / ".dorky" / "identity"

    @property
    def own(self) -> Path:
        return self.project / ".dorky"

    @property
    def state(self) -> Path:
        """What of `.dorky/` is this machine's; before there is any, a path where nothing is."""
        with self.here():
            return state.find(self.own, Config(self.project)) or self.own / ("0" * 64)

    def another(self, name: str, *, identity: bool = True) -> Machine:
        """Another computer, with the same environment and a copy of the identity."""
        made = Machine(self.base.parent / name, self.env)
        if identity and self.identity.exists():
            made.identity.parent.mkdir(mode=0o700)
            made.identity.write_bytes(self.identity.read_bytes())
            made.identity.chmod(0o600)
        return made

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """Be in the project, with the machine's environment."""
        before = Path.cwd()
        with mock.patch.dict(os.environ, {**self.env, "HOME": str(self.home)}):
            os.chdir(self.project)
            try:
                yield
            finally:
                os.chdir(before)

    def __call__(self, *arguments: object, code: int = 0) -> Said:
        """Run a command, and check its exit code."""
        said = self.run(*arguments)
        assert said.code == code, f"{arguments}: {said}"
        return said

    def run(self, *arguments: object) -> Said:
        """Run a command.

        An error is one line with ``error:`` and at most one with ``hint:``, never a traceback
        (unless ``-vv`` asks for it), and never a bug.
        """
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in "12")
        with (
            self.here(),
            mock.patch.multiple(sys, stdout=out, stderr=err),
            mock.patch.object(main, "app", _COMMANDS),
        ):
            try:
                code = main.run([str(each) for each in arguments])
            except SystemExit as end:  # the code of a command that was run
                code = int(end.code or 0)
        said = Said(code, out.buffer.getvalue(), err.buffer.getvalue().decode())  # type: ignore[attr-defined]
        assert "Traceback" not in said.err or "-vv" in arguments, said.err
        assert code != 70, f"{arguments}: {said}"
        if code > 1 and code != 130:
            assert said.error
            assert said.err.count("\nhint: ") <= 1
        return said

    @contextlib.contextmanager
    def repo(self) -> Iterator[Repository]:
        """The project as the library opens it."""
        with self.here(), Repository(self.project) as found:
            yield found

    def write(self, path: str, content: str | bytes, mode: int = 0o600) -> Path:
        target = self.project / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        target.chmod(mode)
        return target

    def read(self, path: str) -> bytes:
        return (self.project / path).read_bytes()

    def commit(self, files: Mapping[str, str | bytes], message: str = "work") -> str:
        """Write files, stage and commit them; give the commit's id."""
        for path, content in files.items():
            self.write(path, content)
        self("stage", *files)
        found: str = self("commit", "-m", message, "--json").json["id"]
        return found

    def files(self) -> dict[str, tuple[int, bytes]]:
        return files(self.project)


def started(base: Path, remote: Remote, content: Mapping[str, str], *options: str) -> Machine:
    """Somebody's computer with a project of one commit, pushed."""
    made = Machine(base, remote.env)

    def start() -> None:
        made("init", remote.url, *options)
        made.commit(content, "first")
        made("push")

    if remote.url.startswith("/") and not os.path.lexists(remote.url):
        snapshots.once([base, Path(remote.url)], start, "started", *content.items(), *options)
    else:
        start()
    return made


def forget(machine: Machine) -> None:
    """Empty the operation log."""
    with machine.repo() as repo:
        oplog.forget(repo.database)


def known(repo: Repository) -> str:
    """All that the local database holds, but what is learned by merely looking."""
    return "\n".join(line for line in repo.database.connection.iterdump() if '"meta"' not in line)


def files(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every file and link below a directory but dorky's own: type and mode, and content."""
    found = {}
    for parent, directories, names in os.walk(directory):
        if ".dorky" in directories:
            directories.remove(".dorky")
        links = [name for name in directories if Path(parent, name).is_symlink()]
        for name in [*names, *links]:
            path = Path(parent, name)
            key = path.relative_to(directory).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                found[key] = (stat.S_IFLNK, os.fsencode(path.readlink()))
            elif key != ".dorkyrc":
                found[key] = (mode, path.read_bytes())
    return found


def driver_of(remote: Remote) -> Driver:
    """A way into the bucket past the machines."""
    return open_driver(remote.url, remote.options)


def root_of(machine: Machine) -> Root:
    """The root as it is in the bucket, read with the machine's key."""
    with machine.repo() as repo:
        remote = repo.remote()
        blob = remote.driver.get("root")
        assert blob
        return remote._decode(blob.version, blob.data).root


def signed(repo: Repository, commit: Commit) -> Commit:
    """A commit with the signature of whoever works in a project."""
    return signing.signed(commit, Namespace.COMMIT, repo.signer, repo.vault.repository)


def packs_listed(machine: Machine) -> tuple[Pack, ...]:
    """Every pack that the root in the bucket lists, itself or in a table."""
    with machine.repo() as repo:
        remote = repo.remote()
        blob = remote.driver.get("root")
        assert blob
        return packs_of(remote, remote._decode(blob.version, blob.data))


def bucket(remote: Remote) -> dict[str, bytes]:
    """Everything that the bucket holds below the remote's URL."""
    driver = driver_of(remote)
    found = {}
    for each in driver.list(""):
        with contextlib.suppress(errors.KeyNotFound):  # rclone lists what was deleted just now
            blob = driver.get(each.key, limit=1 << 29)
            assert blob is not None
            found[each.key] = blob.data
    return found


# --- bytes ----------------------------------------------------------------------------------


def noise(size: int, seed: float = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def flip(path: Path, at: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


# --- files of every sort --------------------------------------------------------------------

_NAMES = (
    *(".env", "plain.txt", "two words.txt", " leading space", "-dash", "#hash", "!bang", "~tilde"),
    *("new\nline", "tab\there", "carriage\rreturn", "bell\a", "percent%20", "quote's", "$HOME"),
    *("caf\u00e9", "cafe\u0301", "\u212bngstro\u0308m", "日本語", "עברית", "😀.bin", "\ufeffbom"),
    *("n" * 255, "é" * 127, "a,b;c=d&e", "(x)[y]{z}", "..hidden", "dot.s.everywhere", "^caret`"),
)
_DIRECTORIES = (
    *("", "config/", "data/deep/er/still/", "sp ace/", "ünï/", "line\nfeed/", "x" * 200 + "/"),
)
_TARGETS = ("config/.env", "../../nowhere", "/etc/hosts", "日本語", ".")
_MODES = (0o600, 0o755, 0o644, 0o444)
_SIZES = (0, 1, 10, 100, 4096, 4097, 20_000)
_LARGE = (256 << 10, (256 << 10) + 1, 1 << 20, 3_000_000, (5 << 20) + 7)


def make_assorted(directory: Path, count: int = 1000, *, seed: int = 7) -> None:
    """Make files of every sort: names, modes, links, sizes from none to several MiB."""
    chance = random.Random(seed)
    names = [*_NAMES]
    n = 0
    while n < count:
        where = directory / f"{n:04}" if n >= len(_DIRECTORIES) * len(names) else directory
        for below in _DIRECTORIES:
            for name in names:
                if n == count:
                    return
                path = where / below / name
                path.parent.mkdir(parents=True, exist_ok=True)
                _make(path, n, chance)
                n += 1


def _make(path: Path, n: int, chance: random.Random) -> None:
    if n % 25 == 24:
        path.symlink_to(chance.choice(_TARGETS))
        return
    size = _LARGE[n // 40 % len(_LARGE)] if n % 100 == 50 else chance.choice(_SIZES)
    content = chance.randbytes(size)
    if n % 3 == 0:  # something that compresses
        content = (b"KEY_%d=value\n" % n * (size // 8 + 1))[:size]
    path.write_bytes(content)
    path.chmod(_MODES[n % len(_MODES)])


def git(machine: Machine, *words: str, code: int = 0, at: Path | None = None) -> str:
    """Run git in a machine's project; return all that it says."""
    who = ("-c", "user.name=Ana", "-c", "user.email=ana@example.test")
    with machine.here():
        done = subprocess.run(
            ["git", *who, *words],
            cwd=at or machine.project,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr
