"""What commands cost: requests and bytes, as the buckets' servers count them.

The table in docs/internals/protocol.md says the same; each of its rows is held by a test here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import NamedTuple, NoReturn

import pytest
from depth import deep
from machines import Machine, bucket, driver_of
from servers import Remote, RequestLog

from dorky import drivers
from dorky.drivers.base import LIMIT, Blob, Driver, Stat, Version
from dorky.drivers.retry import Retrying
from dorky.format import chunk, model
from dorky.remote import listing, push

KiB, MiB = 1 << 10, 1 << 20
HERE = Path(__file__)
PAGE = HERE.parents[2] / "docs" / "internals" / "protocol.md"
UNITS = {"": 1, "KiB": KiB, "MiB": MiB}


# --- the table ------------------------------------------------------------------------------


class Row(NamedTuple):
    """What the page says of a command: requests, and at the most how many bytes."""

    requests: int
    up: int
    down: int


def table() -> dict[str, Row]:
    section = PAGE.read_text("utf-8").partition("## Requests, counted")[2].partition("\n## ")[0]
    cells = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    return {
        row[0].strip().replace("`", ""): Row(
            int(re.findall(r"\d+", row[1])[0]), *map(size, row[2:])
        )
        for row in cells[2:]
    }


def size(cell: str) -> int:
    number, unit = re.findall(r"([\d.]+) ?([KM]iB)?", cell)[0]
    return int(float(number) * UNITS[unit])


STATED = table()


def test_every_row_of_the_table_is_held() -> None:
    text = HERE.read_text("utf-8")
    assert [row for row in STATED if f'"{row}"' not in text] == []


# --- counting -------------------------------------------------------------------------------


class Counting:
    """A driver that logs what is asked of a directory as the servers do, in the words of S3."""

    def __init__(self, inner: Driver, log: RequestLog) -> None:
        self.inner, self.log, self.url = inner, log, inner.url

    def get(self, key: str, *, unless: Version | None = None, limit: int = LIMIT) -> Blob | None:
        self.log.add("GET", key)
        found = self.inner.get(key, unless=unless, limit=limit)
        self.log.down += len(found.data) if found else 0
        return found

    def get_range(self, key: str, start: int, end: int) -> bytes:
        self.log.add("GET", key)
        found = self.inner.get_range(key, start, end)
        self.log.down += len(found)
        return found

    def put(self, key: str, data: bytes) -> None:
        self.log.add("PUT", key, str(len(data)))
        self.inner.put(key, data)

    def swap(self, key: str, data: bytes, *, expected: Version | None) -> Version:
        self.log.add("PUT", key, str(len(data)))
        return self.inner.swap(key, data, expected=expected)

    def list(self, prefix: str) -> Iterator[Stat]:
        self.log.add("GET", prefix)
        return self.inner.list(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        self.log.add("POST", "")
        self.inner.delete(keys)


@pytest.fixture
def file_url(file_url: Remote, monkeypatch: pytest.MonkeyPatch) -> Remote:
    def open_driver(url: str, options: Mapping[str, str]) -> Driver:
        opened = drivers.open_driver(url, options)
        assert isinstance(opened, Retrying)
        return Retrying(Counting(opened.driver, file_url.log))

    monkeypatch.setattr("dorky.project.open_driver", open_driver)
    return file_url


class Spent(NamedTuple):
    """What something has cost."""

    asked: list[str]
    up: int
    down: int

    @property
    def requests(self) -> int:
        return len(self.asked)


class Cost:
    """Counts what commands cost at a remote."""

    def __init__(self, remote: Remote) -> None:
        self._log = remote.log
        # Google is sent metadata beside the bytes, and answers with more.
        self._beside = 2 * KiB if remote.url.startswith("gs:") else 0

    def of(self, command: Callable[..., object], *arguments: object, row: str = "") -> Spent:
        """Run a command; if the page has a row for it, that must be right."""
        self._log.clear()
        command(*arguments)
        # What packs and scratch keys are called is noise; S3 lists and deletes at the bucket.
        asked = [
            f"{method} {re.sub('^/bucket.*?(project/|$)|[0-9a-f]{16,}', '', path)}".strip()
            for method, path in self._log
        ]
        spent = Spent(asked, self._log.up, self._log.down)
        if row:
            requests, up, down = STATED[row]
            assert spent.requests == requests, spent
            assert spent.up <= up + requests * self._beside, spent
            assert spent.down <= down + requests * self._beside, spent
        return spent


@pytest.fixture
def cost(remote: Remote) -> Cost:
    return Cost(remote)


@pytest.fixture
def ana(tmp_path: Path, remote: Remote) -> Machine:
    return Machine(tmp_path / "ana", remote.env)


def on(*kinds: object) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("remote", kinds, indirect=True)


# That a call is one request there as well is asserted of the driver.
DEEP_GCS = pytest.param("gcs", marks=pytest.mark.deep)


PACK_AND_ROOT = ["PUT packs/", "PUT tables/", "PUT root"]
ROOT_TAIL_DATA = ["GET root", "GET packs/", "GET packs/"]


def noise(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


# --- small things ---------------------------------------------------------------------------


def test_what_a_small_repository_costs(ana: Machine, remote: Remote, cost: Cost) -> None:
    ana("init", remote.url)
    ana.commit({".env": "KEY=1\n"})
    assert cost.of(ana, "push").requests == 1
    assert cost.of(ana, "push", row="push with nothing new").requests == 1
    assert cost.of(ana, "pull").requests == 1
    assert cost.of(ana, "fetch", row="fetch").requests == 2

    ben, fresh = ana.another("ben"), ana.another("fresh")
    first = "first pull, or clone, of a small repository"
    assert cost.of(ben, "clone", remote.url, ".", row=first).requests == 1
    (fresh.project / ".dorkyrc").write_bytes(ana.read(".dorkyrc"))
    assert cost.of(fresh, "pull", row=first).requests == 1

    ana.commit({".env": "KEY=2\n"})
    assert cost.of(ana, "push", row="push of a changed .env, root seen").requests == 1
    assert cost.of(ben, "pull", row="pull of a changed .env").requests == 1
    assert ben.read(".env") == b"KEY=2\n"
    assert cost.of(ben, "pull", row="pull or sync with nothing new").requests == 1
    assert cost.of(ben, "sync", row="pull or sync with nothing new").requests == 1
    ben.write(".env", "KEY=3\n")
    for command in ("status", "diff", "stage .env", "commit -m work", "log", "show HEAD~1"):
        row = "status, diff, stage, commit, log, show"
        assert cost.of(ben, *command.split(), row=row).requests == 0


@on("s3")
def test_the_main_job_does_nothing_but_read_and_write_the_root_and_packs(
    ana: Machine, remote: Remote, cost: Cost
) -> None:
    """What is there is never sent again, what is here is never fetched again."""
    ana("init", remote.url)
    ana.commit({".env": "KEY=1\n", "data": noise(200_000)})
    assert cost.of(ana, "push").asked == PACK_AND_ROOT
    ben = ana.another("ben")
    assert cost.of(ben, "clone", remote.url, ".").asked == ROOT_TAIL_DATA

    row = "push of files copied, moved, or as they were once"
    ana.write("copy", noise(200_000))
    (ana.project / "data").rename(ana.project / "moved")
    ana("stage", "copy", "data", "moved")
    ana("commit", "-m", "copied and moved")
    assert cost.of(ana, "push", row=row).asked == ["PUT root"]
    assert cost.of(ben, "pull", row="pull of these").asked == ["GET root"]
    assert ben.files() == ana.files()

    ana("rm", "copy", "moved")
    ana("commit", "-m", "removed")
    assert cost.of(ana, "push", row=row).asked == ["PUT root"]
    assert cost.of(ben, "sync", row="pull of these").asked == ["GET root"]
    ben.commit({"data": noise(200_000), "deep/copy": noise(200_000)})
    assert cost.of(ben, "sync").asked == ["GET root", "PUT root"]
    assert cost.of(ana, "pull", row="pull of these").asked == ["GET root"]
    assert ben.files() == ana.files()


@on("s3")
@pytest.mark.usefixtures("as_shipped")
def test_the_bucket_is_probed_once(ana: Machine, remote: Remote, cost: Cost) -> None:
    """By whoever makes the repository; the root tells all others."""
    init = cost.of(ana, "init", remote.url, row="init")
    assert init.asked[0] == "GET root"
    assert init.asked[1:-1] == ["PUT probe/"] * 34 + ["POST"]
    assert init.asked[-1] == "PUT root"
    ana.commit({".env": "KEY=1\n"})
    assert cost.of(ana, "push").asked == ["PUT root"]
    ben = ana.another("ben")
    assert cost.of(ben, "clone", remote.url, ".").asked == ["GET root"]
    ben.commit({".env": "KEY=2\n"})
    first = cost.of(ben, "push", row="first push of a second clone")
    assert first.asked == ["PUT root"]


@on("s3")
@pytest.mark.usefixtures("as_shipped")
def test_another_place_is_probed_by_itself(ana: Machine, remote: Remote, cost: Cost) -> None:
    ana("init", remote.url)
    ana.commit({".env": "KEY=1\n"})
    ana("push")
    ana("remote", "set-url", "origin", f"{remote.url}/elsewhere")
    moved = cost.of(ana, "push").asked
    assert moved.count("PUT elsewhere/probe/") == 34
    ana("remote", "set-url", "origin", remote.url)
    # Once more in the first place, whose root still vouches for it.
    assert not [each for each in cost.of(ana, "push").asked if "probe" in each]


RULE = '\n[[signatures]]\npaths = ["**"]\n'


def obliged(machine: Machine) -> None:
    """Let a project take nothing that is not signed."""
    rc = machine.project / ".dorkyrc"
    rc.write_text(rc.read_text() + RULE)


@on("s3")
def test_what_signatures_cost(ana: Machine, remote: Remote, cost: Cost) -> None:
    ana("init", remote.url)
    ana.commit({".env": "KEY=1\n"})
    ana("push")
    ben = ana.another("ben")
    ben("clone", remote.url, ".")
    obliged(ben)
    signed = cost.of(ana, "sign", ".env", "--push", row="sign --push of a pushed file")
    assert signed.asked == ["PUT root"]
    assert cost.of(ben, "pull", row="pull of a signature").asked == ["GET root"]
    assert cost.of(ben, "verify", ".env").asked == []
    ana.commit({".env": "KEY=2\n"})
    ana("sign", ".env")
    assert cost.of(ana, "push").asked == ["PUT root"]
    assert cost.of(ben, "pull").asked == ["GET root"]
    assert ben.read(".env") == b"KEY=2\n"
    assert cost.of(ben, "pull", row="pull or sync with nothing new").asked == ["GET root"]


@on("s3")
@pytest.mark.parametrize("together", [True, False])
def test_what_a_rule_for_many_files_costs(
    ana: Machine, remote: Remote, cost: Cost, together: bool
) -> None:
    """At most two requests more than without, which are three (see below)."""
    ana("init", remote.url)
    ana.commit({".env": "KEY=1\n"})
    ana("sign", ".env", "--push")
    ben = ana.another("ben")
    ben("clone", remote.url, ".")
    obliged(ben)
    chance = Random(1)
    ana.commit({f"data/{n:03}": chance.randbytes(KiB) for n in range(300 if together else 200)})
    if not together:
        ana("push")
    ana("sign", "data", "--push")
    got = cost.of(ben, "pull").asked
    assert got[0] == "GET root"
    assert len(got) <= len(ROOT_TAIL_DATA) + 2
    assert ben.files() == ana.files()


@on("s3")
def test_what_an_interrupted_push_costs(
    ana: Machine, remote: Remote, cost: Cost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    ana("init", remote.url)
    ana.commit({"data": noise(200_000)})
    with monkeypatch.context() as patch:
        patch.setattr("dorky.remote.root.Remote.swap", interrupt)
        assert cost.of(lambda: ana("push", code=130)).asked == ["PUT packs/", "PUT tables/"]
    row = "push again, after one that was interrupted before the swap"
    assert cost.of(ana, "push", row=row).asked == ["GET", "PUT tables/", "PUT root"]


@on("s3")
def test_what_joining_and_collecting_cost(ana: Machine, remote: Remote, cost: Cost) -> None:
    ana("init", remote.url)
    ana.commit({".env": "KEY=1\n"})
    ana("push")
    eve = ana.another("eve", identity=False)
    (eve.project / ".dorkyrc").write_bytes(ana.read(".dorkyrc"))
    assert cost.of(eve, "team", "join", "eve", row="team join").asked == ["GET root", "PUT join/"]

    nothing = cost.of(ana, "gc", "--remote", row="gc --remote, nothing to do")
    assert nothing.asked == ["GET root", "GET", "GET", "GET"]
    driver_of(remote).put(f"packs/{'0' * 64}", b"garbage")
    garbage = cost.of(ana, "gc", "--remote", "--grace", "0", row="gc --remote, with garbage")
    clock = ["PUT probe/", "GET", "POST"]
    assert garbage.asked == [*nothing.asked, *clock, "PUT root", "POST"]


# --- many small pushes ----------------------------------------------------------------------


@on("s3")
def test_what_outgrowing_the_root_costs(ana: Machine, remote: Remote, cost: Cost) -> None:
    """What is inline moves into a pack when there is no more room, and then there is room."""
    ana("init", remote.url)
    ben = ana.another("ben")
    ben("clone", remote.url, ".")
    for n in range(5):
        ana.commit({f"{n}.bin": noise(60_000, n)})
        packed = n == 2
        assert cost.of(ana, "push").asked == (PACK_AND_ROOT if packed else ["PUT root"])
        got = cost.of(ben, "pull")
        assert got.asked == (ROOT_TAIL_DATA if packed else ["GET root"])
        # Of the new pack he has all but what is new.
        assert not packed or got.down < 70_000
    assert ben.files() == ana.files()
    assert len([key for key in bucket(remote) if key.startswith("packs/")]) == 1


@on("file")
def test_what_many_small_pushes_cost(ana: Machine, remote: Remote, cost: Cost) -> None:
    """What rides in the root is sent again with each, until it is 128 KiB, and goes into a pack."""
    ana("init", remote.url)
    spent = []
    with ana.repo() as repo:
        for n in range(40):
            repo.stage(ana.write(".env", noise(4000, n)))
            repo.commit("work")
            spent.append(cost.of(repo.push))
    assert [each.asked for each in spent if each.asked != ["PUT root"]] == [PACK_AND_ROOT]
    for before, after in itertools.pairwise(spent):
        assert after.up < before.up + 4000 + 6 * KiB  # a body is a multiple of 4 KiB
        assert after.up < 150 * KiB


@on("s3")
def test_what_many_packs_cost(
    ana: Machine, remote: Remote, cost: Cost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each push replaces the table of recent packs; some now and then delete what was replaced."""
    monkeypatch.setattr(push, "_TIDIED", 4)
    monkeypatch.setattr(model, "RECENT_PACKS", 6)
    monkeypatch.setattr(listing, "RECENT_PACKS", 6)
    ana("init", remote.url)
    tidied = []
    with ana.repo() as repo:
        for n in range(16):
            repo.stage(ana.write("data", noise(140_000, n)))
            repo.commit("work")
            asked = cost.of(repo.push, row="" if n else "push of a changed file of 140 KB").asked
            tidy = [*PACK_AND_ROOT[:2], "GET", "GET", "PUT root", "POST"]
            assert asked in (PACK_AND_ROOT, tidy)
            if asked == tidy:
                tidied.append(n)
    assert tidied == [4, 9, 13]
    tables = [key for key in bucket(remote) if key.startswith("tables/")]
    assert len(tables) < 12
    ben = ana.another("ben")
    got = cost.of(ben, "clone", remote.url, ".").asked
    assert got.count("GET packs/") == 17
    assert got.count("GET tables/") <= 4
    assert ben.read("data") == ana.read("data")


# --- many files -----------------------------------------------------------------------------


@on("s3", DEEP_GCS)
def test_what_a_thousand_files_cost(ana: Machine, remote: Remote, cost: Cost) -> None:
    ana("init", remote.url)
    chance = Random(1)
    content = {f"data/{n:04}": chance.randbytes(4 * KiB) for n in range(1000)}
    ana.commit(content)
    sent = cost.of(ana, "push", row="push of 1,000 new files of 4 KiB")
    assert sent.requests == 3  # a pack, a table and the root
    # The padding of 4 KiB takes 6 %.
    assert sent.up <= 1.11 * sum(map(len, content.values())) + 64 * KiB
    ben = ana.another("ben")
    got = cost.of(ben, "clone", remote.url, ".", row="first pull of those 1,000 files")
    assert got.requests == 3  # the root, the tail, the chunks
    assert got.down <= sent.up
    assert ben.files() == ana.files()

    ana.commit({"data/0500": chance.randbytes(4 * KiB)})
    row = "push of a change in one of them"
    assert cost.of(ana, "push", row=row).requests == 1
    assert cost.of(ben, "pull", row="pull of that change").requests == 1
    assert ben.files() == ana.files()


@on("s3")
@pytest.mark.parametrize("directories", [2, *deep(20)])
def test_what_a_change_in_one_of_very_many_files_costs(
    ana: Machine, remote: Remote, cost: Cost, directories: int
) -> None:
    """What is sent is a part of its directory's list, however much there is beside it."""
    ana("init", remote.url)
    for d in range(directories):
        directory = ana.project / f"{d:02}"
        directory.mkdir()
        for n in range(1000):
            (directory / f"{n:03}").write_text(f"{d} {n}\n")
    ana("stage", ".")
    ana("commit", "-m", "all")
    ana("push")
    ben = ana.another("ben")
    (ben.project / ".dorkyrc").write_bytes(ana.read(".dorkyrc"))
    ben("pull", "01/500")

    for n in range(3):
        ana.commit({"01/500": f"changed {n}\n"})
        sent = cost.of(ana, "push")
        assert sent.asked == ["PUT root"]
        assert sent.up <= 64 * KiB
        got = cost.of(ben, "pull", "01/500")
        assert got.asked == ["GET root"]
        assert got.down <= 64 * KiB
        assert ben.read("01/500") == ana.read("01/500")


# --- large files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("remote", "plain", "mebibytes"),
    [
        ("s3", False, 16),
        ("file", True, 16),
        pytest.param("s3", False, 256, marks=pytest.mark.deep),
        pytest.param("s3", True, 256, marks=pytest.mark.deep),
    ],
    indirect=["remote"],
)
def test_what_a_byte_in_front_of_a_large_file_costs(
    ana: Machine,
    remote: Remote,
    cost: Cost,
    plain: bool,
    mebibytes: int,
) -> None:
    """The chunk in front, however large the file is."""
    ana("init", remote.url, *(["--plain"] if plain else []))
    content = b"".join(noise(MiB, n) for n in range(mebibytes))
    ana.commit({"large": content})
    sent = cost.of(ana, "push")
    assert sent.up < len(content) * 1.01
    ben = ana.another("ben")
    assert cost.of(ben, "clone", remote.url, ".", *(["--plain"] if plain else [])).down <= sent.up

    content = b"!" + content
    ana.commit({"large": content})
    row = "push of a large file with one byte put in front"
    sent = cost.of(ana, "push", row=row)
    assert sent.asked == PACK_AND_ROOT
    # The cuts are a secret's; with even chunks the first is never twice as large as the average.
    assert chunk.MIN < sent.up < 2 * MiB
    got = cost.of(ben, "pull", row="pull of that")
    assert got.asked == ROOT_TAIL_DATA
    assert got.down <= sent.up
    assert ben.read("large") == content
