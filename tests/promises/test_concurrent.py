"""Many pushers at once, each a process with a clone of its own: none loses anything."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from depth import deep
from machines import Machine
from servers import Remote

from dorky.format.model import Root
from dorky.remote import root as roots

WORKER = """
import json, sys
from pathlib import Path
from dorky import drivers, project
from dorky.cli import main
from dorky.drivers.retry import Retrying

name, rounds, kept = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])


class Recording:
    scheme = "recording"

    def __init__(self, inner):
        self.inner, self.url = inner, inner.url

    def __getattr__(self, verb):
        return getattr(self.inner, verb)

    def swap(self, key, data, *, expected):
        version = self.inner.swap(key, data, expected=expected)
        if key == "root":
            (kept / f"{name}-{len(list(kept.iterdir()))}").write_bytes(data)
        return version


def open_driver(url, options):
    return Retrying(Recording(drivers.open_driver(url, options).driver))


project.open_driver = open_driver


def dorky(*words):
    try:
        return main.run(list(words))
    except SystemExit as end:
        return int(end.code or 0)


sys.stdin.readline()  # until everybody is there
tries = 0
for n in range(rounds):
    for path, content in ((f"{name}/{n}", f"{n}"), (f"{name}/now", f"{n}"), ("x" + name, "x" * n)):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(content)
    assert dorky("stage", ".") == 0
    assert dorky("commit", "-m", f"{name} {n}") == 0
    while True:
        tries += 1
        code = dorky("sync")
        if code == 0:
            break
        assert code in (5, 8), code
        assert tries < 50 * rounds
    (kept.parent / "acknowledged" / f"{name} {n}").touch()
"""


def compete(base: Path, remote: Remote, pushers: int, rounds: int) -> None:
    kept, acknowledged = base / "roots", base / "acknowledged"
    for directory in (kept, acknowledged):
        directory.mkdir()
    first = Machine(base / "first", remote.env)
    first("init", remote.url)
    first.commit({"first": "1"}, "first")
    first("push")
    with first.repo() as repo:
        begun = repo.remote().seen
        assert begun
    names = [f"w{n}" for n in range(pushers)]
    workers = {}
    for name in names:
        machine = first.another(name)
        machine("clone", remote.url, ".")
        workers[name] = subprocess.Popen(
            [sys.executable, "-c", WORKER, name, str(rounds), str(kept)],
            cwd=machine.project,
            env={**os.environ, **machine.env, "HOME": str(machine.home)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    for worker in workers.values():
        assert worker.stdin
        worker.stdin.write(b"\n")
        worker.stdin.flush()
    for name, worker in workers.items():
        said, _ = worker.communicate(timeout=600)
        assert worker.returncode == 0, f"{name}: {said.decode()}"

    # Whatever was acknowledged is there, once; and so are its files.
    last = first.another("last")
    last("clone", remote.url, ".")
    messages = [each["message"] for each in json.loads(last("log", "--json").raw)]
    ours = sorted(message for message in messages if message.startswith("w"))
    assert ours == sorted(f"{name} {n}" for name in names for n in range(rounds))
    assert ours == sorted(each.name for each in acknowledged.iterdir())
    for name in names:
        for n in range(rounds):
            assert last.read(f"{name}/{n}") == f"{n}".encode()
        assert last.read(f"{name}/now") == f"{rounds - 1}".encode()

    # Every root names the one that it has replaced.
    with first.repo() as repo:
        chain: list[Root] = [begun.root]
        for path in kept.iterdir():
            header, body = roots.read_header(path.read_bytes(), remote.url)
            chain.append(roots.read_body(header, body, repo.vault, remote.url))
        read = repo.remote().read()
        assert read
        newest = read[0].root
    chain.sort(key=lambda root: root.generation)
    for old, new in itertools.pairwise(chain):
        assert new.generation == old.generation + 1
        assert new.recent[0] == old.txid
    assert chain[-1].txid == newest.txid
    assert len(chain) > pushers * rounds


def test_pushers_to_a_directory(tmp_path: Path, file_url: Remote) -> None:
    compete(tmp_path, file_url, 4, 2)


@pytest.mark.parametrize("kind", ["s3", *deep("gcs")])
def test_pushers_to_a_bucket(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    compete(tmp_path, request.getfixturevalue(f"{kind}_url"), 3, 2)


@pytest.mark.deep
@pytest.mark.parametrize("kind", ["file", "s3", "gcs", "seaweedfs"])
def test_many_pushers(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    compete(tmp_path, request.getfixturevalue(f"{kind}_url"), 8, 10)
