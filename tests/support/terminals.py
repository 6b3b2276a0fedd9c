"""A real terminal for the tests, in which a command runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from machines import Machine


class Shown(NamedTuple):
    """What a terminal was sent, and the exit code."""

    text: str
    code: int


Terminal = Callable[..., Shown]


def run_in_terminal(
    machine: Machine,
    *arguments: str,
    until: str = "",
    typed: str = "",
    module: bool = True,
    **env: str,
) -> Shown:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with machine.here():
        process = subprocess.Popen(
            [sys.executable, "-c", _TAKE, *(["-m", "dorky"] if module else []), *arguments],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", **env},
        )
    os.close(follower)
    seen = bytearray()
    waiting = typed
    for block in _output(leader):
        seen += block
        if waiting and until.encode() in seen:
            os.write(leader, waiting.encode())
            waiting = ""
    os.close(leader)
    return Shown(seen.decode(), process.wait())


# The terminal becomes the process's own, so that control-C reaches it.
_TAKE = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def _output(leader: int) -> Iterator[bytes]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([leader], [], [], 1)[0]:
            continue
        with contextlib.suppress(OSError):  # Linux says EIO when the last writer has closed
            if block := os.read(leader, 65536):
                yield block
                continue
        return
    raise AssertionError("the command did not end")
