"""Two processes in one worktree, whatever becomes of one of them; and disks that are full.

The first is held up in the middle of its work by the command that gives it its key: it asks for
that while it has the project's lock.
"""

from __future__ import annotations

import functools
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import on_a_small_disk
from machines import Machine, started
from servers import Remote

from dorky import files

HOLD = """
echo > {asked}
read line < {answer}
cat {identity}
"""


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    return started(tmp_path / "ana", file_url, {".env": "KEY=1\n", "config": "x\n"})


def dorky(machine: Machine, *words: str, **env: str) -> subprocess.Popen[bytes]:
    """A process like the user's."""
    return subprocess.Popen(
        [sys.executable, "-m", "dorky", *words],
        cwd=machine.project,
        env={**os.environ, **machine.env, "HOME": str(machine.home), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


class PackedObject:
    """A command that holds the lock until it is let go.

    Args:
        machine: Whose.
        words: Of the command.
    """

    def __init__(self, machine: Machine, *words: str) -> None:
        pipes = [machine.base / "asked", machine.base / "answer"]
        for pipe in pipes:
            os.mkfifo(pipe)
        # Open for both, so that opening never waits for the other side.
        self._asked, self._answer = (os.open(pipe, os.O_RDWR) for pipe in pipes)
        script = machine.base / "hold"
        script.write_text(HOLD.format(asked=pipes[0], answer=pipes[1], identity=machine.identity))
        self.process = dorky(machine, *words, DORKY_IDENTITY_CMD=f"sh {script}")
        asked, _, _ = select.select([self._asked], [], [], 60)
        assert asked, "it never asked for its key"

    def let_go(self) -> None:
        os.write(self._answer, b"\n")

    def end(self) -> tuple[int, str]:
        self.let_go()
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said.decode()

    def close(self) -> None:
        if self.process.returncode is None:
            self.end()
        assert self.process.stdout
        self.process.stdout.close()
        for pipe in (self._asked, self._answer):
            os.close(pipe)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in this process don't wait for the lock."""
    monkeypatch.setattr(files, "locked", functools.partial(files.locked, timeout=0))


@pytest.fixture
def held(ana: Machine) -> Iterator[PackedObject]:
    """A process that stages, held up in the middle of it."""
    ana.write("new", "1\n")
    found = PackedObject(ana, "stage", "new")
    yield found
    found.close()


WRITERS = [
    ("stage", "config"),
    ("commit", "-m", "second"),
    ("push",),
    ("pull",),
    ("restore", ".env"),
    ("rm", ".env"),
    ("checkout", "HEAD"),
]


@pytest.mark.usefixtures("impatient")
def test_the_second_is_told_who_is_at_work(ana: Machine, held: PackedObject) -> None:
    before = ana.files()
    for words in WRITERS:
        said = ana(*words, code=5)
        assert f"process {held.process.pid}" in said.error
        assert "wait" in said.hint
    assert ana.files() == before
    assert held.end()[0] == 0
    assert ana("status", "--json").json["staged"] == [{"path": "new", "what": "added"}]
    ana("commit", "-m", "second")


def test_the_second_waits(ana: Machine, held: PackedObject) -> None:
    ana.write("config", "y\n")
    second = dorky(ana, "stage", "config")
    code, said = held.end()
    assert code == 0, said
    said_then, _ = second.communicate(timeout=60)
    assert second.returncode == 0, said_then
    staged = ana("status", "--json").json["staged"]
    assert [each["path"] for each in staged] == ["config", "new"]


def test_readers_read_beside_a_writer(ana: Machine, held: PackedObject) -> None:
    assert ana("status", "--json").json["staged"] == []
    assert ana("log", "--json").json[0]["message"] == "first"
    assert ana("ls").out.split() == [".env", "config"]
    assert ana("cat", "HEAD:.env").raw == b"KEY=1\n"
    assert held.process.poll() is None
    assert held.end()[0] == 0


@pytest.mark.usefixtures("impatient")
def test_a_holder_that_is_killed_blocks_nobody(ana: Machine, held: PackedObject) -> None:
    held.process.kill()
    held.process.wait()
    # What it had started, and waits for an answer still, does not hold its lock.
    ana("stage", "new")
    ana("commit", "-m", "second")
    held.let_go()


@pytest.mark.usefixtures("impatient")
def test_a_holder_that_is_stopped_is_named_and_may_go_on(ana: Machine, held: PackedObject) -> None:
    held.process.send_signal(signal.SIGSTOP)
    said = ana("stage", "config", code=5)
    assert f"process {held.process.pid}" in said.error
    ana("status")
    held.process.send_signal(signal.SIGCONT)
    assert held.end()[0] == 0
    ana("stage", "config")


@pytest.mark.usefixtures("impatient")
def test_an_interrupted_holder_lets_go(ana: Machine, held: PackedObject) -> None:
    held.process.send_signal(signal.SIGINT)
    assert held.process.wait(60) == 130
    ana("stage", "new")
    held.let_go()


def test_two_at_work_all_the_time(ana: Machine) -> None:
    """Each takes what it finds; together they take everything, and nothing twice."""
    rounds = 2
    for n in range(rounds):
        ana.write(f"a{n}", "1\n")
        ana.write(f"b{n}", "1\n")
        pair = [dorky(ana, "stage", f"a{n}"), dorky(ana, "stage", f"b{n}")]
        assert [each.communicate() and each.returncode for each in pair] == [0, 0]
        pair = [dorky(ana, "commit", "-m", f"{name}{n}") for name in "ab"]
        assert sorted(each.communicate() and each.returncode for each in pair) == [0, 1]
        pair = [dorky(ana, "push"), dorky(ana, "pull")]
        assert [each.communicate() and each.returncode for each in pair] == [0, 0]
    assert len(ana("log", "--json").json) == 1 + rounds
    assert ana("status", "--json").json["ahead"] == 0
    assert ana("ls").out.split() == sorted(ana.files())


@pytest.mark.parametrize("url", [True, False])
def test_of_two_that_begin_one_succeeds(tmp_path: Path, file_url: Remote, url: bool) -> None:
    ana = Machine(tmp_path / "ana", {})
    pair = [dorky(ana, "init", *[file_url.url] * url) for _ in "ab"]
    said = [each.communicate()[0] for each in pair]
    codes = sorted(each.returncode for each in pair)
    assert codes[0] == 0, said
    assert codes[1] in {3, 5}, said
    ana.commit({".env": "1\n"})
    if url:
        ana("push")


# --- full disks -----------------------------------------------------------------------------

FULL = """
from machines import files
from dorky import errors
from dorky.repo import Repository

other, phase, small = Path(sys.argv[2]), *sys.argv[3:]
project, vault = (disk, other) if small == "here" else (other, disk)


repo, _ = Repository.init(project / "project", str(vault / "vault"))
os.chdir(repo.root)
Path("old").write_bytes(b"old" * 1000)
repo.stage(["."]), repo.commit("first"), repo.push()
Path("new").write_bytes(os.urandom(300_000 if phase == "pack" else 300))
repo.stage(["."])
expected = files(repo.root)
acts = {"pack": repo.push, "inline": repo.push, "commit": lambda: repo.commit("second")}
if phase != "commit":
    repo.commit("second")
first = True
for free in (*range(0, 60_000, 4096), *range(60_000, 1_500_000, 65_536)):
    leave(free)
    refused = None
    try:
        acts[phase]()
    except errors.DorkyError as error:
        assert isinstance(error, errors.Unavailable), repr(error)
        refused = error
    ballast.unlink()
    # Whoever comes now finds one state or the other, whole.
    clone, _ = Repository.clone(str(vault / "vault"), other / f"clone{free}")
    with clone:
        heads = [entry.message for entry in clone.log()]
    assert heads in (["first"], ["second", "first"]), heads
    left = [each for each in (vault / "vault").rglob("*") if each.name.startswith(".tmp")]
    assert not left, left
    if refused is None:
        break
    first = False
else:
    raise AssertionError("never enough")
assert not first, "the disk was never full"
if phase == "commit":
    repo.push()
assert repo.status().ahead == 0
clone, _ = Repository.clone(str(vault / "vault"), other / "clone")
with clone:
    assert files(clone.root) == expected
repo.close()
"""


@pytest.mark.each_value
@pytest.mark.parametrize("small", ["here", "there"])
@pytest.mark.parametrize("phase", ["inline", "pack"])
def test_a_full_disk_costs_the_push_alone(tmp_path: Path, phase: str, small: str) -> None:
    """`test_local` has the commands that need no remote; here the disk of either side is full."""
    disk, other = tmp_path / "disk", tmp_path / "other"
    for path in (disk, other):
        path.mkdir()
    on_a_small_disk(disk, FULL, other, phase, small)
