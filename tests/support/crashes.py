"""Commands that are killed at the worst moments.

Every fsync, rename, link, unlink and COMMIT, and every request to a driver before and after it
takes effect, is a point with a name, as in ``before rename .tmp-# to vault/root``. `Crashes` runs
a command and lists the points that it passes, or has it die (SIGKILL) at one of them, or, with
``loss``, takes the power away: what was not synced by then is gone.

Nothing in dorky knows of this: the points are put around what it calls. The commands run in
children of a server, this file run as a program, which has imported dorky already: a fork takes
milliseconds, and pytest's own process, which has threads, must not.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from machines import Machine

NAMES, DATA = "names", "data"
"""What a loss of power takes: all that was not synced, or only the content of such files.

The second is what ext4 does with a file that is renamed before its content is on the disk.
"""
END = ("the end", 1)

Point = tuple[str, int]
"""A point's name, and the how-manieth of that name it is, from 1."""


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        code: Its exit code; None if it died.
        points: What it passed, in order, the one at which it died included.
        said: What it printed.
    """

    code: int | None
    points: list[str]
    said: str


def occurrences(points: Iterable[str]) -> list[Point]:
    """The points of a run, told apart."""
    seen: Counter[str] = Counter()
    found = []
    for name in points:
        seen[name] += 1
        found.append((name, seen[name]))
    return found


class Crashes:
    """The server, seen from outside.

    Args:
        base: What names of points are relative to.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        self._server.communicate()

    def run(
        self,
        machine: Machine,
        *arguments: object,
        at: Point | None = None,
        loss: str = "",
        disks: Sequence[Path] = (),
    ) -> Ended:
        """Run a command on a machine.

        Args:
            machine: Whose.
            arguments: Of the command line.
            at: Where it dies; `END` is after it has done everything.
            loss: What the power takes with it, ``names`` or ``data``.
            disks: The directories that the power takes it from.
        """
        job = {
            "base": str(self.base),
            "cwd": str(machine.project),
            "env": {**os.environ, **machine.env, "HOME": str(machine.home)},
            "arguments": [str(each) for each in arguments],
            "at": at,
            "loss": loss,
            "disks": [str(each) for each in disks],
        }
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        ended = Ended(*json.loads(self._server.stdout.readline()))
        assert "Traceback" not in ended.said, ended.said
        return ended


# --- in the child ---------------------------------------------------------------------------


class _File:
    """A file, and the content of it that a loss of power leaves; None if it was never synced."""

    def __init__(self, durable: bytes | None = None) -> None:
        self.durable = durable


class Disk:
    """What of some directories is on the disk, were the power to go now.

    Args:
        tops: The directories. What they hold now is on the disk.
        loss: What the power takes.
    """

    def __init__(self, tops: Iterable[Path], loss: str) -> None:
        self.tops = [Path(os.path.realpath(top)) for top in tops]
        self.loss = loss
        self._files: dict[int, _File] = {}
        self._names: dict[Path, dict[str, _File | None]] = {}
        for top in self.tops:
            # The name of a top is on the disk if it is there now, or its directory gets synced.
            self._names[top.parent] = {top.name: None} if top.is_dir() else {}
            for directory, _, names in os.walk(top):
                for name in names:
                    path = Path(directory, name)
                    self._files[path.stat().st_ino] = _File(path.read_bytes())
                self._names[Path(directory)] = self._entries(Path(directory))

    def _ours(self, path: Path) -> bool:
        return any(top == path or top in path.parents for top in self.tops)

    def _entries(self, directory: Path) -> dict[str, _File | None]:
        found: dict[str, _File | None] = {}
        for each in os.scandir(directory):
            if self._ours(directory / each.name):
                is_dir = each.is_dir(follow_symlinks=False)
                file = None if is_dir else self._files.setdefault(each.inode(), _File())
                found[each.name] = file
        return found

    def synced(self, fd: int) -> None:
        """An fsync has returned."""
        now = os.fstat(fd)
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if stat.S_ISDIR(now.st_mode):
            if self._ours(path) or path in self._names:
                self._names[path] = self._entries(path)
        else:
            # Named or not yet, here or still elsewhere: it may be renamed into our directories.
            content = Path(f"/proc/self/fd/{fd}").read_bytes()
            self._files.setdefault(now.st_ino, _File()).durable = content

    def going(self, path: Path) -> None:
        """A name is about to go; the number of its file may be given to another one."""
        with contextlib.suppress(FileNotFoundError):
            now = path.lstat()
            if now.st_nlink == 1:
                self._files.pop(now.st_ino, None)

    def lose_power(self) -> None:
        for top in self.tops:
            if self.loss == DATA:
                self._lose_data(top)
            elif top.name in self._names[top.parent]:
                self._lose_names(top)
            else:
                self._remove(top)

    def _lose_data(self, top: Path) -> None:
        for directory, _, names in os.walk(top):
            for name in names:
                path = Path(directory, name)
                file = self._files.get(path.stat().st_ino)
                durable = file.durable or b"" if file else b""
                if path.read_bytes() != durable:
                    _UNLINK(path)  # not written through: other names may lead to it
                    path.write_bytes(durable)

    def _lose_names(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        durable = self._names.get(directory, {})
        for each in list(os.scandir(directory)):
            if each.name not in durable:
                self._remove(Path(each.path))
        for name, file in durable.items():
            if file is None:
                self._lose_names(directory / name)
            else:
                # Never written through: the name may be another file's by now.
                self._remove(directory / name)
                (directory / name).write_bytes(file.durable or b"")
                (directory / name).chmod(0o600)

    def _remove(self, path: Path) -> None:
        if path.is_dir():
            for each in list(os.scandir(path)):
                self._remove(Path(each.path))
            os.rmdir(path)  # noqa: PTH106
        elif path.exists():
            _UNLINK(path)


_UNLINK = os.unlink


def _whole(within: int | None, path: Any) -> Path:
    """The path of what is named from an open directory."""
    above = Path() if within is None else Path(f"/proc/self/fd/{within}").readlink()
    return above / os.fsdecode(path)


class Trap:
    """Watches a command pass its points, and kills it at one.

    Args:
        job: See `Crashes.run`.
        report: Where to write which points were passed.
    """

    def __init__(self, job: Mapping[str, Any], report: int) -> None:
        self.base = job["base"]
        self.at = tuple(job["at"]) if job["at"] else None
        self.disk = Disk(map(Path, job["disks"]), job["loss"]) if job["loss"] else None
        self.report = report
        self.points: list[str] = []
        self._seen: Counter[str] = Counter()
        self.lock = threading.RLock()
        self._here = threading.local()

    def reach(self, name: str) -> None:
        with self.lock:
            self.points.append(name)
            self._seen[name] += 1
            if (name, self._seen[name]) == self.at:
                if self.disk:
                    self.disk.lose_power()
                self.tell()
                os.kill(os.getpid(), signal.SIGKILL)

    def tell(self) -> None:
        with open(self.report, "w", encoding="utf-8") as file:
            json.dump(self.points, file)

    def named(self, what: str, *paths: Path) -> str:
        names = [os.path.relpath(each, self.base) for each in paths]
        return re.sub(r"[0-9a-f]{16,}", "#", f"{what} {' to '.join(names)}")

    def around(self, module: Any, verb: str) -> None:
        """Put a point before every call of a function that changes names."""
        call = getattr(module, verb)

        def watched(*arguments: Any, **options: Any) -> Any:
            # A method of Path may call the function in os: one point, not two.
            if getattr(self._here, "inside", False):
                return call(*arguments, **options)
            count = 2 if verb in {"rename", "replace", "link"} else 1
            within = [options.get(each) for each in ("src_dir_fd", "dst_dir_fd")]
            within = within if count == 2 else [options.get("dir_fd")]
            paths = [_whole(*each) for each in zip(within, arguments[:count], strict=True)]
            self._here.inside = True
            try:
                with self.lock:
                    self.reach(self.named(f"before {verb}", *paths))
                    if self.disk and verb != "link":
                        self.disk.going(paths[-1])
                    return call(*arguments, **options)
            finally:
                self._here.inside = False

        setattr(module, verb, watched)

    def install(self) -> None:
        from dorky import drivers, project
        from dorky.drivers.retry import Retrying
        from dorky.store import database

        for verb in ("rename", "replace", "link", "unlink"):
            around_os = "hardlink_to" if verb == "link" else verb
            self.around(os, verb)
            self.around(Path, around_os)

        def fsync(fd: int) -> None:
            path = Path(f"/proc/self/fd/{fd}").readlink()
            with self.lock:
                self.reach(self.named("before fsync", path))
                # The real thing would only wait: these disks are lost as we say.
                if self.disk:
                    self.disk.synced(fd)

        os.fsync = fsync
        execute = database._Connection.execute

        def commit(connection: Any, *arguments: Any) -> Any:
            if arguments[0] != "COMMIT":
                return execute(connection, *arguments)
            with self.lock:
                self.reach("before COMMIT")
                found = execute(connection, *arguments)
                self.reach("after COMMIT")
            return found

        database._Connection.execute = commit  # type: ignore[method-assign]

        def open_driver(url: str, options: Mapping[str, str]) -> Any:
            opened = drivers.open_driver(url, options)
            assert isinstance(opened, Retrying)
            return Retrying(Watched(opened.driver, self))

        project.open_driver = open_driver  # type: ignore[attr-defined]


class Watched:
    """A driver with a point before every request, and after those that change something."""

    scheme: ClassVar[str] = "watched"

    def __init__(self, inner: Any, trap: Trap) -> None:
        self.inner, self.trap, self.url = inner, trap, inner.url

    def _reach(self, when: str, verb: str, key: str) -> None:
        self.trap.reach(re.sub(r"[0-9a-f]{16,}", "#", f"{when} request {verb} {key}"))

    def get(self, key: str, **options: Any) -> Any:
        self._reach("before", "get", key)
        return self.inner.get(key, **options)

    def get_range(self, key: str, start: int, end: int) -> Any:
        self._reach("before", "get_range", key)
        return self.inner.get_range(key, start, end)

    def list(self, prefix: str) -> Iterator[Any]:
        self._reach("before", "list", prefix)
        yield from self.inner.list(prefix)

    def put(self, key: str, data: bytes) -> None:
        self._change("put", key, lambda: self.inner.put(key, data))

    def swap(self, key: str, data: bytes, *, expected: Any) -> Any:
        return self._change("swap", key, lambda: self.inner.swap(key, data, expected=expected))

    def delete(self, keys: Iterable[str]) -> None:
        keys = tuple(keys)
        self._change("delete", " ".join(keys), lambda: self.inner.delete(keys))

    def _change(self, verb: str, key: str, call: Callable[[], Any]) -> Any:
        # One at a time: how many writers of a probe find no directory, and make it, is chance.
        with self.trap.lock:
            self._reach("before", verb, key)
            try:
                return call()
            finally:
                self._reach("after", verb, key)


def _child(job: Mapping[str, Any], report: int, said: int) -> None:
    from machines import _COMMANDS

    from dorky.cli import main

    for fd in (1, 2):
        os.dup2(said, fd)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    trap = Trap(job, report)
    trap.install()
    main.app = _COMMANDS  # type: ignore[assignment]
    try:
        code = main.run(job["arguments"])
    except SystemExit as end:
        code = int(end.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    if trap.at == END:
        trap.reach(END[0])
    trap.tell()
    os._exit(code)


def _serve() -> None:
    import gc

    # What commands import when they need it.
    import cramjam  # noqa: F401
    import machines  # noqa: F401
    import pyrage  # noqa: F401
    import rich.console  # noqa: F401
    import surroundings

    import dorky.drivers.file  # noqa: F401

    for cheaper in surroundings.CHEAPER:
        setattr(*cheaper)

    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        job = json.loads(line)
        reading, writing = os.pipe()
        output, said = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            os.close(output)
            try:
                _child(job, writing, said)
            finally:
                import traceback

                traceback.print_exc()
                sys.stderr.flush()
                os._exit(70)
        os.close(writing)
        os.close(said)
        # Little enough for a pipe, so it does not matter which is read first.
        with open(output, encoding="utf-8") as file:
            printed = file.read()
        with open(reading, encoding="utf-8") as file:
            points = json.loads(file.read() or "[]")
        _, status = os.waitpid(child, 0)
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        sys.stdout.write(json.dumps([code, points, printed]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
