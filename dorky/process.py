"""Starting a command that gets secrets in its environment: in our place, or with us as its reader.

Nothing here decides which variables there are, and nothing is read from our own environment.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType
from typing import Any, NoReturn

from dorky import errors, steering
from dorky.documents import export

SHORTEST = 4
"""Characters of a value that is masked: fewer stand in any text by chance."""

_BLOCK = 1 << 16

# Of every interactive sh it is a script; for half of all web services it is "production".
_SCRIPT = re.compile(r"[/$`]")


def dangerous(name: str, value: str) -> bool:
    """Return whether a variable changes how programs are found, loaded or run.

    Anyone who may write a `.env` file shall not run code of theirs with everybody who uses it. The
    names are those in `steering`; upper and lower case differ, as they do to the programs. It is no
    sandbox: what a program's own variables make it do is the program's affair.
    """
    if value.startswith("()"):  # a function, to an old bash; sudo refuses these, too
        return True
    if name == "ENV":
        return bool(_SCRIPT.search(value))
    if name == "AWS_PAGER":  # an empty one is how it is turned off
        return bool(value)
    if name.lower().startswith("npm_config_"):  # npm takes it in any case
        name = name.lower()
    if name.startswith(steering.TOOLS) and steering.CREDENTIAL.search(name):
        return False
    return name in steering.NAMES or name.startswith(steering.BEGINNINGS)


def environment(
    variables: Mapping[str, str],
    inherited: Mapping[str, str],
    *,
    overload: bool = False,
    pristine: bool = False,
) -> dict[bytes, bytes]:
    """The environment of a command.

    Args:
        variables: What is added, as UTF-8 whatever the locale is.
        inherited: Our own environment, which goes before them.
        overload: Whether it does not.
        pristine: Whether the command gets nothing of it.
    """
    new = {name.encode(): value.encode() for name, value in variables.items()}
    own = {} if pristine else {os.fsencode(k): os.fsencode(v) for k, v in inherited.items()}
    return {**own, **new} if overload else {**new, **own}


def find(command: str, path: str) -> str:
    """The file that a command's name stands for.

    Args:
        command: A name to be looked for, or a path.
        path: Directories, as in `$PATH`.

    Raises:
        CommandUnusable: There is none, or it is not executable.
    """
    found = shutil.which(command, path=path)
    if found:
        return found if "/" in found else f"./{found}"
    there = "/" in command and os.path.lexists(command)
    raise errors.CommandUnusable(command, "it is not executable" if there else "not found")


@contextlib.contextmanager
def _starting(command: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.ENOEXEC:
            reason = "it is no program and does not begin with #!"
        elif error.errno == errno.ENOENT:
            reason = "what its first line (#!) names is not there"
        raise errors.CommandUnusable(command, reason) from None


def replace(file: str, command: list[str], environment: Mapping[bytes, bytes]) -> NoReturn:
    """Become a command: it has our process id, terminal and files, so nothing stands in between.

    Raises:
        CommandUnusable: The system can't run it.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # Python ignores these, and what is ignored stays so.
    ours = {n: signal.signal(n, signal.SIG_DFL) for n in (signal.SIGPIPE, signal.SIGXFSZ)}
    try:
        with _starting(command[0]):
            os.execve(file, command, environment)  # noqa: S606 - no shell is just what is wanted
    finally:
        for number, before in ours.items():
            signal.signal(number, before)
    raise AssertionError


# --- beside us ------------------------------------------------------------------------------

_PASSED_ON = (
    *(signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM),
    *(signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2),
)
_FROM_TERMINAL = {signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGWINCH}


def _in_foreground() -> bool:
    """Whether what the terminal sends (control-C) goes to us, and so to our children, too."""
    try:
        fd = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(fd)


@contextlib.contextmanager
def _child(
    file: str, command: list[str], environment: Mapping[bytes, bytes], **how: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command beside us; signals that we get are passed on to it."""
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        if child is None:
            early.append(number)
        elif child.poll() is not None:
            # Its output is still to be written, or what it left running writes on: it is for us.
            signal.signal(number, before[number])
            signal.raise_signal(number)
        # Twice would be once too often: many programs take the second for "at once".
        elif number not in _FROM_TERMINAL or not _in_foreground():
            child.send_signal(number)

    # What is ignored (nohup) stays ignored, here and in the child.
    heard = [n for n in _PASSED_ON if signal.getsignal(n) not in {signal.SIG_IGN, None}]
    before = {int(number): signal.signal(number, pass_on) for number in heard}
    try:
        with _starting(command[0]):
            started = subprocess.Popen(
                command, executable=file, env=environment, close_fds=True, bufsize=0, **how
            )
        with started as child:
            for number in early:
                child.send_signal(number)
            yield child
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _code(child: subprocess.Popen[bytes]) -> int:
    code = child.wait()
    return code if code >= 0 else 128 - code


def attend(file: str, command: list[str], environment: Mapping[bytes, bytes]) -> int:
    """Run a command, such as an editor, that has the terminal for itself; give its exit code."""
    with _child(file, command, environment) as child:
        return _code(child)


def masked(
    file: str,
    command: list[str],
    environment: Mapping[bytes, bytes],
    values: Iterable[str],
    *,
    out: int = 1,
    err: int = 2,
) -> int:
    """Run a command, with its output passed on but for secret values.

    Args:
        file: The program.
        command: Its arguments, its name first.
        environment: Its environment.
        values: What must not show.
        out: The descriptor for its standard output.
        err: The descriptor for its standard error.

    Returns:
        Its exit code; 128 and the signal's number if it was killed.

    Raises:
        CommandUnusable: The system can't run it.
    """
    hidden = list(values)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with (
        _child(file, command, environment, **pipes) as child,
        selectors.DefaultSelector() as selector,
    ):
        for pipe, to in ((child.stdout, out), (child.stderr, err)):
            assert pipe is not None
            selector.register(pipe, selectors.EVENT_READ, (pipe, Mask(hidden), to))
        while selector.get_map():
            for key, _ in selector.select():
                pipe, mask, to = key.data
                data = os.read(key.fd, _BLOCK)
                if not (_write(to, mask.feed(data) if data else mask.end()) and data):
                    # Nobody reads on: closed, it is as if the command wrote there itself.
                    selector.unregister(pipe)
                    pipe.close()
        return _code(child)


def _write(to: int, data: bytes) -> bool:
    """Write all of it; False if there is no reader any more."""
    try:
        while data:
            data = data[os.write(to, data) :]
    except BrokenPipeError:
        return False
    return True


class Mask:
    """Takes values out of a stream of bytes, however it is cut into pieces.

    Only what may be the beginning of a value waits for what follows, all else passes at once.

    Args:
        values: A value of several lines is looked for as a whole and line by line; what is shorter
            than `SHORTEST` is not.
    """

    def __init__(self, values: Iterable[str]) -> None:
        found = {each for value in values for each in (value, *map(str.strip, value.splitlines()))}
        self._values = [each.encode() for each in found if len(each) >= SHORTEST]
        self._waiting = b""
        self._covered = 0
        """How many bytes of what waits belong to a value whose mask has been given already."""

    def feed(self, data: bytes) -> bytes:
        """What can be shown now that there is more."""
        text = self._waiting + data
        return self._shown(text, len(text) - self._undecided(text))

    def end(self) -> bytes:
        """What is left to be shown."""
        return self._shown(self._waiting, len(self._waiting))

    def _undecided(self, text: bytes) -> int:
        """How many bytes at the end may be the beginning of a value."""
        longest = 0
        for value in self._values:
            tail = text[-(len(value) - 1) :]
            at = tail.find(value[:1])
            while at >= 0 and len(tail) - at > longest:
                if value.startswith(tail[at:]):
                    longest = len(tail) - at
                at = tail.find(value[:1], at + 1)
        return longest

    def _shown(self, text: bytes, until: int) -> bytes:
        pieces = []
        at = end = self._covered
        for start, stop in self._spans(text):
            if start >= until:
                break
            if start >= end:
                pieces += [text[at:start], export.masked("").encode()]
            at = end = max(end, stop)
        pieces.append(text[at:until])
        self._waiting, self._covered = text[until:], max(end - until, 0)
        return b"".join(pieces)

    def _spans(self, text: bytes) -> list[tuple[int, int]]:
        """Where values are, though they overlap: what two share must not show what one has more."""
        found = []
        for value in self._values:
            start = text.find(value)
            while start >= 0:
                found.append((start, start + len(value)))
                start = text.find(value, start + 1)
        return sorted(found)
