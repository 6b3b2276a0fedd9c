"""Starting a command with secrets in its environment: in place of dorky, or as its child.

This module neither decides which variables there are nor reads dorky's own environment.
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
"""The fewest characters of a value that is masked: shorter ones occur in any text by chance."""

_BLOCK = 1 << 16

# An interactive sh runs the value of ENV as a script; half of all web services set "production".
_SCRIPT = re.compile(r"[/$`]")


def dangerous(name: str, value: str) -> bool:
    """Return whether a variable changes how programs are found, loaded or run.

    Anyone who may write a `.env` file must not be able to run code on the machines of its users.
    The names are those in `steering`, in which case matters, as it does to the programs. This is no
    sandbox: the effects of a program's own variables are up to the program.
    """
    if value.startswith("()"):  # a function, to an old bash; sudo refuses these, too
        return True
    if name == "ENV":
        return bool(_SCRIPT.search(value))
    if name == "AWS_PAGER":  # an empty value turns the pager off
        return bool(value)
    if name.lower().startswith("npm_config_"):  # npm ignores the case
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
    """Return the environment of a command.

    Args:
        variables: The added variables, encoded as UTF-8 whatever the locale is.
        inherited: dorky's own environment, which overrides them.
        overload: Whether the variables override the inherited ones instead.
        pristine: Whether the command inherits nothing.
    """
    new = {name.encode(): value.encode() for name, value in variables.items()}
    own = {} if pristine else {os.fsencode(k): os.fsencode(v) for k, v in inherited.items()}
    return {**own, **new} if overload else {**new, **own}


def find(command: str, path: str) -> str:
    """Return the file of a command.

    Args:
        command: A name to be looked up, or a path.
        path: Directories, as in `$PATH`.

    Raises:
        CommandUnusable: The file does not exist, or is not executable.
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
        if error.errno == errno.E2BIG:
            reason = "its variables, or its arguments, are larger than the system allows"
            raise errors.CommandUnusable(command, reason, needs="room") from None
        if error.errno == errno.ENOEXEC:
            reason = "it is no program and does not begin with #!"
        elif error.errno == errno.ENOENT:
            reason = "what its first line (#!) names is not there"
        raise errors.CommandUnusable(command, reason) from None


def replace(file: str, command: list[str], environment: Mapping[bytes, bytes]) -> NoReturn:
    """Replace this process by a command, which keeps its process id, terminal and files.

    Raises:
        CommandUnusable: The system can't run it.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # Python ignores these signals, and exec keeps ignored ones ignored.
    ours = {n: signal.signal(n, signal.SIG_DFL) for n in (signal.SIGPIPE, signal.SIGXFSZ)}
    try:
        with _starting(command[0]):
            os.execve(file, command, environment)  # noqa: S606 - a shell is not wanted
    finally:
        for number, before in ours.items():
            signal.signal(number, before)
    raise AssertionError


# --- as a child -----------------------------------------------------------------------------

_PASSED_ON = (
    *(signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM),
    *(signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2),
)
_FROM_TERMINAL = {signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGWINCH}


def _in_foreground() -> bool:
    """Return whether terminal signals (Ctrl-C) reach dorky, and therefore its children, too."""
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
    """Run a command as a child; pass on the signals that dorky receives."""
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        if child is None:
            early.append(number)
        elif child.poll() is not None:
            # The child has ended while its output is still written: signals are for dorky.
            signal.signal(number, before[number])
            signal.raise_signal(number)
        # The terminal already signals the child: many programs stop at once at a second signal.
        elif number not in _FROM_TERMINAL or not _in_foreground():
            child.send_signal(number)

    # Ignored signals (nohup) stay ignored, in dorky and in the child.
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
    """Run a command, such as an editor, with the terminal to itself; return its exit code."""
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
    """Run a command, and pass its output on with secret values masked.

    Args:
        file: The program.
        command: Its arguments, its name first.
        environment: Its environment.
        values: The secret values.
        out: The descriptor for its standard output.
        err: The descriptor for its standard error.

    Returns:
        Its exit code; 128 plus the signal's number if it was killed.

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
                    # At the end, or when the reader is gone: the command sees a closed pipe.
                    selector.unregister(pipe)
                    pipe.close()
        return _code(child)


def _write(to: int, data: bytes) -> bool:
    """Write all bytes; return False if there is no reader any more."""
    try:
        while data:
            data = data[os.write(to, data) :]
    except BrokenPipeError:
        return False
    return True


class Mask:
    """Removes values from a stream of bytes, whatever pieces it comes in.

    Only bytes that may be the beginning of a value are kept back; all others pass at once.

    Args:
        values: The values. One of several lines is looked for as a whole and line by line; parts
            shorter than `SHORTEST` are ignored.
    """

    def __init__(self, values: Iterable[str]) -> None:
        found = {line for value in values for line in (value, *map(str.strip, value.splitlines()))}
        self._values = [line.encode() for line in found if len(line) >= SHORTEST]
        self._waiting = b""
        self._covered = 0
        """The number of bytes kept back that belong to a value whose mask was already returned."""

    def feed(self, data: bytes) -> bytes:
        """Return the bytes that can be shown after more input."""
        text = self._waiting + data
        return self._shown(text, len(text) - self._undecided(text))

    def end(self) -> bytes:
        """Return the rest at the end of the input."""
        return self._shown(self._waiting, len(self._waiting))

    def _undecided(self, text: bytes) -> int:
        """Return the number of bytes at the end that may be the beginning of a value."""
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
        """Return the spans of values, overlapping ones too: none may show the rest of another."""
        found = []
        for value in self._values:
            start = text.find(value)
            while start >= 0:
                found.append((start, start + len(value)))
                start = text.find(value, start + 1)
        return sorted(found)
