"""Lists with keys that are not dorky's, and lists that do not end, below a whole repository."""

from __future__ import annotations

from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import quirks
from depth import deep
from machines import Machine, bucket, driver_of
from servers import Remote, Server

from dorky.drivers import s3

FOLDERS = ("packs", "tables", "join", "probe")
STRANGE = ("/x", "//x", "./x", "../x", "x//y", "x/", "")


def put_strange(place: Remote) -> set[str]:
    """Put keys that other programs make below every folder of dorky's; return them."""
    base = f"{place.options['endpoint']}/{place.url.removeprefix('s3://')}"
    names = {f"{folder}/{strange}" for folder in FOLDERS for strange in STRANGE}
    for name in names:
        # %2F and %2E, so that no library on the way tidies the path.
        quoted = name.replace("/", "%2F").replace(".", "%2E")
        with urlopen(Request(f"{base}/{quoted}", data=b"not dorky's", method="PUT")):
            pass
    return names


def test_keys_with_empty_parts_hide_nothing(s3_url: Remote, tmp_path: Path) -> None:
    ana = Machine(tmp_path / "ana", s3_url.env)
    ana("init", s3_url.url)
    for n in range(3):
        ana.commit({"data": f"{n}" * 200_000, "noise": bytes(range(256)) * 900 + b"%d" % n})
        ana("push")
    stray = f"packs/{'ab' * 32}"
    driver_of(s3_url).put(stray, b"garbage")
    put_strange(s3_url)
    ana("fetch")
    assert ana("team", "list").out
    ana("gc", "--remote", "--grace", "0")
    assert stray not in bucket(s3_url)
    ana("fsck", "--remote", "--read-data")
    ana("fsck", "--remote", "--keyless")
    ana("rotate", "--history")
    ana("fsck", "--remote", "--read-data")
    ben = ana.another("ben")
    ben("clone", s3_url.url, ".")
    assert ben.read("data") == ana.read("data")
    # It deletes its own, and leaves what is not dorky's.
    ana("destroy", "--remote", "--yes")
    assert bucket(s3_url) == {}


@pytest.mark.parametrize("quirk", ["endless", *deep("empty-pages")])
def test_a_list_that_does_not_end(
    s3_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quirk: str
) -> None:
    """Each command ends and says so; nothing is deleted by what half a list told."""
    monkeypatch.setattr(s3, "_PAGE", 0.2)
    with quirks.quirky(s3_server, quirk) as (place, front):
        front.quirk = ""
        ana = Machine(tmp_path / "ana", place.env)
        ana("init", place.url)
        ana.commit({".env": "A=1\n", "noise": bytes(range(256)) * 900})
        ana("push")
        put_strange(place)
        whole = bucket(place)
        ana.write(".env", "A=2\n")
        ana("commit", "-a", "-m", "two")
        front.quirk = quirk
        for command in ("fetch", "gc --remote --grace 0", "fsck --remote", "team list"):
            said = ana(*command.split(), code=8)
            assert "its list" in said.error, command
        # A list is none of a push's or a pull's business.
        ana("push")
        ana("pull")
        front.quirk = ""
        assert bucket(place).keys() >= whole.keys()
        ana("fsck", "--remote", "--read-data")
