"""What the tests need of their surroundings, made so, whoever starts them and however."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from dorky.keys import age
from dorky.remote import probe
from dorky.store import database

_KEPT = ("PATH", "TMPDIR", "USER", "LOGNAME", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
_KEPT_BEGINNINGS = ("PYTEST_", "COV", "LD_LIBRARY_", "DYLD_", "FUZZ_", "TEST_")
_SET = {
    # A git whose messages are translated, or that has the machine's settings, is another git.
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "TZ": "UTC",
    # No waiting for the metadata servers of clouds that we are not in.
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_GCE_CHECK": "true",
    # What a test damages in a remote must not come out of the cache; the cache's own tests use it.
    "DORKY_CLIENT_CACHE": "no",
}
_SIGNALS = {
    *(signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM),
    *(signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD),
}
CHEAPER: tuple[tuple[Any, str, Any], ...] = (
    (age, "WORK", 10),  # what ships takes a second for a passphrase
    # Two race for a key of a new remote, not sixteen.
    *((race, "__kwdefaults__", {"writers": 2}) for race in (probe._race, probe._later)),
    # The power stays, but where `crashes` takes it away.
    (os, "fsync", os.fstat),
    (database, "_SYNCHRONOUS", "OFF"),
)
"""What costs less in tests of which it is not the subject: see `as_shipped`."""
_SHIPPED = [(place, name, getattr(place, name)) for place, name, _ in CHEAPER]


@contextlib.contextmanager
def made_ready() -> Iterator[None]:
    """Set the environment, the umask, the time zone, signals, and what costs less."""
    with pytest.MonkeyPatch.context() as patched:
        for name in [*os.environ]:
            if name not in _KEPT and not name.startswith(_KEPT_BEGINNINGS):
                patched.delenv(name)
        for name, value in _SET.items():
            patched.setenv(name, value)
        for cheaper in CHEAPER:
            patched.setattr(*cheaper)
        time.tzset()
        umask = os.umask(0o022)
        try:
            with _heard():
                yield
        finally:
            os.umask(umask)
    time.tzset()


@contextlib.contextmanager
def as_shipped() -> Iterator[None]:
    """Let everything cost what it costs users."""
    with pytest.MonkeyPatch.context() as patched:
        for shipped in _SHIPPED:
            patched.setattr(*shipped)
        yield


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """Have no signal ignored or blocked: a child would inherit that, as of `nohup … &`.

    What this process ignored does nothing to it still, but for SIGINT, which is KeyboardInterrupt.
    """
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    ignored = [n for n in _SIGNALS if signal.getsignal(n) == signal.SIG_IGN]
    for number in ignored:
        interrupts = number == signal.SIGINT
        signal.signal(number, signal.default_int_handler if interrupts else lambda *_: None)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextlib.contextmanager
def at_the_latest(seconds: float) -> Iterator[None]:
    """End this process when a test neither ends nor can be interrupted by its time limit."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
