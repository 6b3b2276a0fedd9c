"""What the tests set up for themselves, whatever starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from servers import SUPPORT

PROGRAM = """
import json, os, signal, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from surroundings import made_ready
child = '''
import json, os, signal, sys
ignored = [n.name for n in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)
           if signal.getsignal(n) == signal.SIG_IGN]
blocked = [signal.Signals(n).name for n in signal.pthread_sigmask(signal.SIG_BLOCK, [])]
print(json.dumps([ignored, blocked, os.umask(0), dict(os.environ)]))
'''
before = os.umask(0o027), time.tzname
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
with made_ready():
    os.kill(os.getpid(), signal.SIGHUP)
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        print(subprocess.check_output([sys.executable, "-c", child], text=True).strip())
    assert time.tzname == ("UTC", "UTC")
assert (os.umask(0), time.tzname) == (0o027, before[1]), (before, time.tzname)
assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
assert os.environ["TZ"] == "Asia/Kolkata"
"""
STRANGE = {
    **{"TZ": "Asia/Kolkata", "LANG": "C", "LC_ALL": "C", "LANGUAGE": "de", "FORCE_COLOR": "1"},
    **{"AWS_PROFILE": "x", "GOOGLE_CLOUD_PROJECT": "x", "GIT_DIR": "/nowhere", "COLUMNS": "20"},
    **{"http_proxy": "http://127.0.0.1:1", "NO_COLOR": "1", "EDITOR": "false", "CI": "1"},
    **{"SSH_AUTH_SOCK": "/nowhere", "XDG_CONFIG_HOME": "/nowhere", "PYTHONWARNINGS": "error"},
}


def test_nothing_of_whoever_starts_the_tests_gets_in() -> None:
    """As `nohup python3 dev.py test &` does: the suite waited for ever for such signals."""
    ignoring = ["sh", "-c", 'trap "" INT HUP QUIT; exec "$@"', "sh"]
    done = subprocess.run(
        [*ignoring, sys.executable, "-c", PROGRAM, str(SUPPORT)],
        env={"PATH": os.environ["PATH"], **STRANGE},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    ignored, blocked, umask, environment = json.loads(done.stdout)
    assert not ignored
    assert not blocked
    assert umask == 0o022
    assert environment["TZ"] == "UTC"
    assert environment["LANG"] == "C.UTF-8"
    assert not set(environment) & set(STRANGE) - {"TZ", "LANG"}


def test_every_test_has_a_time_limit(request: pytest.FixtureRequest) -> None:
    assert 0 < float(request.config.getini("timeout")) < 600


@pytest.mark.timeout(60)
def test_what_can_not_be_interrupted_ends_the_process() -> None:
    program = (
        "import sys, threading; sys.path.insert(0, sys.argv[1])\n"
        "from surroundings import at_the_latest\n"
        "with at_the_latest(0.2):\n"
        "    while True:\n"
        "        try: threading.Event().wait()\n"
        "        except BaseException: pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(SUPPORT)], capture_output=True, check=False, timeout=50
    )
    assert done.returncode == 1
    assert b"Timeout" in done.stderr


def test_signals_are_what_children_expect() -> None:
    handlers: list[Any] = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGHUP)]
    assert signal.SIG_IGN not in handlers
