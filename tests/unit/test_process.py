"""Commands: what they get, how they are found, and what of their output passes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorky import errors
from dorky import process as launch

SH = "/bin/sh"
MASK = b"********"


# --- what a command gets --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "PATH", "PYTHONPATH"),
        *("PYTHONHOME", "PYTHONSTARTUP", "NODE_OPTIONS", "BASH_ENV", "SHELLOPTS", "PERL5LIB"),
        *("PERL5OPT", "RUBYOPT", "RUBYLIB", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "IFS", "PS4"),
        *("JDK_JAVA_OPTIONS", "GIT_SSH_COMMAND", "PROMPT_COMMAND", "EDITOR", "VISUAL", "PAGER"),
        *("BASH_FUNC_ls%%", "BASH_FUNC_a\nb%%", "DORKY_IDENTITY_CMD", "LUA_INIT_5_4", "HOME"),
    ],
)
def test_names_that_change_how_programs_load(name: str) -> None:
    assert launch.dangerous(name, "")


@pytest.mark.parametrize(
    "name",
    [
        *("DATABASE_URL", "PATHS", "MY_PATH", "path", "ld_preload", "LDAP", "GITHUB_TOKEN", "GIT"),
        *("PYTHONUNBUFFERED", "NODE_ENV", "HOMEPAGE", "AWS_SECRET_ACCESS_KEY", "X_LD_PRELOAD", ""),
    ],
)
def test_names_that_do_not(name: str) -> None:
    assert not launch.dangerous(name, "/tmp/x")


def test_env_is_a_script_only_if_it_can_be_one() -> None:
    assert not launch.dangerous("ENV", "production")
    for value in ("/tmp/x", "./x", "$HOME", "`id`"):
        assert launch.dangerous("ENV", value)


def test_what_is_set_already_stays() -> None:
    new, inherited = {"A": "new", "B": "ü"}, {"A": "old", "C": "\udcff"}
    both = launch.environment(new, inherited)
    assert both == {b"A": b"old", b"B": "ü".encode(), b"C": b"\xff"}
    assert launch.environment(new, inherited, overload=True) == {**both, b"A": b"new"}
    assert launch.environment(new, inherited, pristine=True) == {b"A": b"new", b"B": "ü".encode()}


# --- finding it -----------------------------------------------------------------------------


def script(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = script(tmp_path / "tool", "#!/bin/sh\n")
    assert launch.find("tool", f"/nowhere:{tmp_path}") == own
    assert launch.find("./tool", "") == "./tool"
    assert "/" in launch.find("tool", ".")
    assert launch.find("sh", os.defpath).endswith("/sh")


@pytest.mark.parametrize("command", ["nowhere", "./nowhere", "", "directory"])
def test_a_command_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "directory").mkdir()
    with pytest.raises(errors.CommandUnusable, match="not found"):
        launch.find(command, str(tmp_path))


@pytest.mark.parametrize("name", ["plain", "directory"])
def test_a_command_that_is_not_executable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "directory").mkdir()
    script(tmp_path / "plain", "#!/bin/sh\n", 0o644)
    with pytest.raises(errors.CommandUnusable, match="not executable"):
        launch.find(f"./{name}", "")


BROKEN = {"text": "it is no program", "#!/no/where\n": "first line"}


@pytest.mark.parametrize("text", BROKEN)
def test_a_command_that_the_system_refuses(tmp_path: Path, text: str) -> None:
    file = script(tmp_path / "tool", text)
    before = signal.getsignal(signal.SIGPIPE)
    with pytest.raises(errors.CommandUnusable, match=BROKEN[text]):
        launch.replace(file, ["tool"], {})
    assert signal.getsignal(signal.SIGPIPE) == before
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(errors.CommandUnusable, match=BROKEN[text]):
        launch.masked(file, ["tool"], {}, [])
    assert signal.getsignal(signal.SIGTERM) == handler


# --- in our place ---------------------------------------------------------------------------

_REPLACE = """
import signal, sys, tempfile
from dorky import process as launch
kept = tempfile.TemporaryFile()
print("before")
launch.replace("/bin/sh", ["sh", "-c", sys.argv[1]], {b"A": b"secret"})
"""


def replaced(line: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _REPLACE, line], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_the_process_is_the_commands() -> None:
    line = 'echo $$; echo "$A"; ls /dev/fd/; grep SigIgn /proc/self/status; exit 7'
    process = replaced(line)
    out, err = process.communicate()
    said = out.decode().splitlines()
    assert said[:3] == ["before", str(process.pid), "secret"]
    ignored = int(said[-1].split()[1], 16) if said[-1].startswith("SigIgn") else 0
    assert not ignored & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1))
    # ls itself has its directory open.
    assert set(said[3:]) - {said[-1]} <= {"0", "1", "2", "3"}, err
    assert process.returncode == 7


def test_a_signal_ends_it_as_it_would_end_the_command() -> None:
    process = replaced("kill -TERM $$")
    process.communicate()
    assert process.returncode == -signal.SIGTERM


# --- masks ----------------------------------------------------------------------------------


def masked(data: bytes, *values: str) -> bytes:
    mask = launch.Mask(values)
    return mask.feed(data) + mask.end()


def test_values_are_masked() -> None:
    assert masked(b"a secret, a SECRET, secret", "secret") == b"a ********, a SECRET, ********"
    assert masked("schlüssel".encode(), "lüss") == b"sch********el"
    assert masked(b"abc abcd", "abc", "") == b"abc abcd"
    assert masked(b"", "secret") == b""


def test_the_longest_value_counts_and_overlaps_are_masked_whole() -> None:
    assert masked(b"<abcdef>", "abcd", "abcdef") == b"<********>"
    assert masked(b"<abcdefgh>", "abcdef", "defgh") == b"<********>"
    assert masked(b"<aaaaaaa>", "aaaa") == b"<********>"
    assert masked(b"<abcdabcd>", "abcd") == b"<****************>"


def test_lines_of_a_value_are_masked_one_by_one() -> None:
    key = "-----BEGIN-----\r\n  c2VjcmV0\nab\n-----END-----\n"
    assert masked(key.encode(), key) == MASK
    assert masked(b"(c2VjcmV0) [-----END-----]", key) == b"(********) [********]"
    assert masked(b"cd\nab\nef", "cd\nab\nef") == MASK
    assert masked(b"ab cd", "ab\ncd") == b"ab cd"


def test_only_what_may_begin_a_value_waits() -> None:
    mask = launch.Mask(["secret", "sesame"])
    assert mask.feed(b"Password: ") == b"Password: "
    assert mask.feed(b"is") == b"i"
    assert mask.feed(b"ec") == b""
    assert mask.feed(b"ond, sesa") == b"second, "
    assert mask.feed(b"me, se") == b"********, "
    assert mask.end() == b"se"
    assert mask.end() == b""


def test_what_waits_is_never_more_than_a_value() -> None:
    mask = launch.Mask(["aaaa"])
    assert b"".join(mask.feed(b"a") for _ in range(10_000)) == MASK
    assert mask.feed(b"b") + mask.end() == b"b"


def reference(data: bytes, values: list[str]) -> bytes:
    """The same, seen from the bytes: which of them belong to a value, and where one begins."""
    spans = []
    for value in (each.encode() for each in values if len(each) >= launch.SHORTEST):
        spans += [(at, at + len(value)) for at in range(len(data)) if data.startswith(value, at)]
    out, end = b"", 0
    for at in range(len(data)):
        stops = [stop for start, stop in spans if start == at]
        if stops and at >= end:
            out += MASK
        end = max(end, *stops) if stops else end
        if at >= end:
            out += data[at : at + 1]
    return out


@given(
    values=st.lists(st.text("abc", min_size=1, max_size=8), max_size=4),
    pieces=st.lists(st.text("abcd", max_size=12).map(str.encode), max_size=8),
)
def test_it_does_not_matter_how_output_is_cut(values: list[str], pieces: list[bytes]) -> None:
    mask = launch.Mask(values)
    shown = b"".join([mask.feed(piece) for piece in pieces] + [mask.end()])
    assert shown == reference(b"".join(pieces), values)
    assert not any(value.encode() in shown for value in values if len(value) >= launch.SHORTEST)


# --- beside us ------------------------------------------------------------------------------


class Ran(NamedTuple):
    code: int
    out: bytes
    err: bytes


def run(line: str, *values: str, env: dict[bytes, bytes] | None = None) -> Ran:
    """Run a shell's line in this process, masked."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code = launch.masked(
            SH, ["sh", "-c", line], env or {}, values, out=out.fileno(), err=err.fileno()
        )
        out.seek(0)
        err.seek(0)
        return Ran(code, out.read(), err.read())


def test_both_outputs_are_masked() -> None:
    done = run('echo "out $A"; echo "err $A" >&2; exit 3', "secret", env={b"A": b"secret"})
    assert done == Ran(3, b"out ********\n", b"err ********\n")


def test_bytes_pass_as_they_are() -> None:
    assert run(r"printf '\000\377\033[1m\r\n'; printf 'no end' >&2") == Ran(
        0, b"\0\xff\x1b[1m\r\n", b"no end"
    )


def test_a_value_written_piece_by_piece() -> None:
    assert run("printf se; sleep 0.05; printf cret; printf .", "secret").out == MASK + b"."


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_command_that_is_killed(number: signal.Signals) -> None:
    assert run(f"kill -{int(number)} $$").code == 128 + number


def test_much_output() -> None:
    done = run("yes a secret | head -c 3000000", "secret")
    assert done.out.count(MASK) > 300_000
    assert b"secret" not in done.out


def test_output_that_nobody_reads() -> None:
    read, out = os.pipe()
    os.close(read)
    try:
        code = launch.masked(SH, ["sh", "-c", "yes; kill -9 $$"], {}, [], out=out)
    finally:
        os.close(out)
    assert code == 128 + signal.SIGKILL


def test_attend_has_our_terminal() -> None:
    assert launch.attend(SH, ["sh", "-c", "exit 5"], {}) == 5
    assert launch.attend(SH, ["sh", "-c", "kill -9 $$"], {}) == 128 + signal.SIGKILL


# Nobody sends these from a terminal here: it is a session of its own.
_MASKED = """
import signal, sys
from dorky import process as launch
if "nohup" in sys.argv:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
line = 'trap "echo got $NAME; exit 9" $NAME; echo ready; while :; do sleep 0.01; done'
env = {b"NAME": sys.argv[1].encode(), b"PATH": b"/bin:/usr/bin"}
sys.exit(launch.masked("/bin/sh", ["sh", "-c", line], env, ["xxxx"]))
"""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "WINCH"])
def test_signals_are_passed_on(started: list[subprocess.Popen[bytes]], name: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _MASKED, name], stdout=subprocess.PIPE, start_new_session=True
    )
    started.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(getattr(signal, f"SIG{name}"))
    assert process.communicate()[0] == f"got {name}\n".encode()
    assert process.returncode == 9


def test_a_signal_is_for_us_when_the_command_has_ended(
    started: list[subprocess.Popen[bytes]],
) -> None:
    line = "sleep 60 & echo $! $$"
    code = f"from dorky import process; process.masked({SH!r}, ['sh', '-c', {line!r}], {{}}, [])"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    started.append(process)
    assert process.stdout is not None
    left, shell = map(int, process.stdout.readline().split())
    try:
        while running(shell):
            time.sleep(0.01)
        process.terminate()
        assert process.wait() == -signal.SIGTERM
    finally:
        os.kill(left, signal.SIGKILL)


def running(pid: int) -> bool:
    """Whether a process still runs; one that has ended and was not waited for does not."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], stdout=subprocess.PIPE)
    return done.stdout.strip()[:1] not in {b"", b"Z"}


def test_what_is_ignored_stays_ignored(started: list[subprocess.Popen[bytes]]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _MASKED, "TERM", "nohup"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    started.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.communicate()[0] == b"got TERM\n"
