"""A repository's whole life on SeaweedFS: a real server that honours conditional writes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from machines import Machine, bucket
from servers import Remote

pytestmark = pytest.mark.deep


def test_a_life(tmp_path: Path, seaweedfs_url: Remote) -> None:
    ana = Machine(tmp_path / "ana", seaweedfs_url.env)
    ana("init", seaweedfs_url.url, "--name", "ana")
    noise = random.Random(1)
    many = {f"many/{n}": noise.randbytes(3000) for n in range(200)}
    ana.commit({".env": "A=1\n", "dump": "leak", "big": noise.randbytes(20 << 20), **many})
    ana("push")
    ben = ana.another("ben", identity=False)
    ben.write(".dorkyrc", ana.read(".dorkyrc"))
    key = ben("team", "join", "ben", "--json").json["key"]
    ana("team", "add", "ben", "--fingerprint", key["fingerprint"])
    ben("pull")
    assert ben.files() == ana.files()
    ben.commit({".env": "A=1\nB=2\n"})
    ben("push")
    ana.commit({".env": "A=9\n"})
    ana("push", code=5)
    ana("sync")
    assert ana.read(".env") == b"A=9\nB=2\n"
    for n in range(4):
        ana.commit({f"pack/{n}": noise.randbytes(200_000)})
        ana("push")
    ana("purge", "dump", "-m", "leak", "--yes")
    ben("pull")
    ana("gc", "--remote", "--grace", "0")
    ana("team", "remove", "ben")
    ana.commit({".env": "A=10\n"})
    ana("push")
    ben("pull", code=6)
    ana("rotate", "--history")
    ana("fsck", "--remote", "--read-data")
    other = ana.another("other")
    other("clone", seaweedfs_url.url, ".")
    assert other.read("big") == ana.read("big")
    assert other.read("many/7") == many["many/7"]
    ana("destroy", "--remote", "--yes")
    assert bucket(seaweedfs_url) == {}
