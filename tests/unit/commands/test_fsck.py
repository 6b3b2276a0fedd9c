"""fsck: damage of every sort is found and named; what can be had back is."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from depth import deep
from faults import Faults, failing
from machines import Machine, bucket, driver_of, flip
from servers import Remote
from stores import NEWER
from teams import joined

from dorky import errors
from dorky.format.model import Inline
from dorky.remote import root as roots
from dorky.store.pack import FOOTER

BIG = random.Random(3).randbytes(700_000)


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    """A project with three commits, two of them pushed, and something staged."""
    made = Machine(tmp_path / "ana", {})
    made("init", file_url.url, "--name", "ana", "--recovery", "none")
    made.commit({".env": "A=1\n", "config/app": "x\n"}, "first")
    made.commit({"big": BIG}, "second")
    made("push")
    made.commit({".env": "A=2\n"}, "third")
    made.write("new", "staged\n")
    made("stage", "new")
    return made


def fsck(machine: Machine, *options: str, code: int = 0) -> Any:
    return machine("fsck", "--json", *options, code=code).json


def codes(found: Any) -> list[str]:
    return [each["code"] for each in found["findings"]]


def packs(machine: Machine) -> list[Path]:
    """The packs on disk, the largest first."""
    return sorted((machine.state / "packs").iterdir(), key=lambda each: -each.stat().st_size)


def pack_of(machine: Machine, kind: str) -> Path:
    """The newest pack that holds such an object."""
    with machine.repo() as repo:
        query = (
            "SELECT p.name FROM packs p JOIN objects o ON o.pack = p.n"
            " WHERE p.remote = '' AND o.kind = ? ORDER BY p.n DESC"
        )
        (name,) = repo.database.connection.execute(query, (kind,)).fetchone()
    return machine.state / "packs" / name


def sound(machine: Machine, *options: str) -> None:
    """All is well, and as it was in `ana`."""
    assert fsck(machine, "--read-data", *options)["findings"] == []
    head, second, first = machine("log", "--oneline").out.splitlines()
    assert "(main" in head
    assert "third" in head
    assert "second" in second
    assert "first" in first
    for revision, path, content in (
        ("HEAD", ".env", b"A=2\n"),
        ("HEAD~1", ".env", b"A=1\n"),
        ("HEAD", "config/app", b"x\n"),
        ("HEAD", "big", BIG),
    ):
        assert machine("cat", f"{revision}:{path}").raw == content


def test_all_is_well(ana: Machine) -> None:
    found = fsck(ana, "--remote", "--read-data")
    assert found["findings"] == found["dangling"] == []
    size = sum(each.stat().st_size for each in packs(ana))
    assert found["bytes_read"] > size
    assert found["objects"] > 10
    assert ana("fsck").out.startswith("Looked at 8 packs, ")


def test_parts_cover_all_packs_once(ana: Machine) -> None:
    size = sum(each.stat().st_size for each in packs(ana))
    read = [fsck(ana, f"--read-data={n}/3")["bytes_read"] for n in (1, 2, 3)]
    assert sum(read) == size
    assert fsck(ana)["bytes_read"] == 0
    assert fsck(ana, "--read-data")["bytes_read"] == size


# --- damage here ----------------------------------------------------------------------------


def test_a_flipped_byte_of_content_is_found_by_reading_it(ana: Machine) -> None:
    victim = packs(ana)[0]
    flip(victim, 5000)
    assert fsck(ana)["findings"] == []
    for options in (["--read-data"], ["--keyless"]):
        (finding,) = fsck(ana, *options, code=7)["findings"]
        assert finding["code"] == "corrupt-pack"
        assert finding["subject"] == victim.name
        assert finding["fatal"] is True
    assert "1 of its" in fsck(ana, "--read-data", code=7)["findings"][0]["about"]
    n = next(n for n in (1, 2) if int(victim.name[:8], 16) % 2 == n - 1)
    fsck(ana, f"--read-data={n}/2", code=7)
    fsck(ana, f"--read-data={3 - n}/2")

    said = ana("fsck", "--rebuild", "--json").json
    assert said["damaged"] == [victim.name]
    assert (ana.state / "damaged" / victim.name).exists()
    assert not victim.exists()
    sound(ana)


def test_a_flipped_byte_of_a_commit(ana: Machine) -> None:
    victim = pack_of(ana, "commit")
    with ana.repo() as repo:
        at = next(at for at in repo.store.locations(victim.name) if at.kind.value == "commit")
    flip(victim, at.offset + at.length - 1)
    finding, found = sorted(fsck(ana, code=7)["findings"], key=lambda each: each["code"])
    assert finding["code"] == "corrupt-object"
    assert finding["subject"] == at.id
    assert "main needs it" in finding["about"]
    assert (found["code"], found["subject"]) == ("corrupt-pack", victim.name)
    assert "its tail has another hash" in found["about"]


def test_a_damaged_commit_that_the_remote_has(ana: Machine) -> None:
    ana("push")
    flip(pack_of(ana, "commit"), 8 + 40)
    assert fsck(ana, code=7)["findings"]
    ana("fsck", "--rebuild")
    sound(ana, "--remote")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: flip(path, path.stat().st_size - FOOTER - 1),  # the index
        lambda path: flip(path, path.stat().st_size - 1),  # the footer
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(path.read_bytes()[:40]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    ],
    ids=["index", "footer", "truncated", "cut", "emptied", "longer"],
)
def test_a_pack_that_is_no_pack_any_more(ana: Machine, damage: Callable[[Path], None]) -> None:
    ana("push")
    victim = pack_of(ana, "commit")
    damage(victim)
    found = fsck(ana, code=7)["findings"]
    assert victim.name in {each["subject"] for each in found}
    assert "corrupt-pack" in {each["code"] for each in found}
    assert ana("fsck", "--rebuild", "--json").json["damaged"] == [victim.name]
    sound(ana, "--remote")


def test_good_objects_of_a_truncated_pack_are_saved(ana: Machine) -> None:
    victim = packs(ana)[0]
    victim.write_bytes(victim.read_bytes()[:-10])
    made = ana("fsck", "--rebuild", "--json").json
    assert made["damaged"] == [victim.name]
    assert made["saved"] >= 1
    sound(ana)


def test_a_pack_that_is_gone(ana: Machine) -> None:
    ana("push")
    victim = packs(ana)[0]
    victim.unlink()
    found = fsck(ana, code=7)
    assert "missing-pack" in codes(found)
    assert victim.name in {each["subject"] for each in found["findings"]}
    ana("fsck", "--rebuild")
    sound(ana, "--remote")


def test_swapped_packs(ana: Machine) -> None:
    one, two = packs(ana)[:2]
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)
    found = fsck(ana, code=7)["findings"]
    assert {one.name, two.name} <= {each["subject"] for each in found}
    made = ana("fsck", "--rebuild", "--json").json
    assert set(made["damaged"]) == {one.name, two.name}
    sound(ana)


def lose_chunks(machine: Machine) -> None:
    """Delete the packs that hold nothing but small chunks that were never pushed."""
    for path in packs(machine):
        with machine.repo() as repo:
            held = repo.store.locations(path.name)
            pushed = repo.store.locate([at.id for at in held], remote="origin")
        inline = {each.id for each in repo_inline(machine)}
        if all(at.kind.is_data and at.id not in pushed and at.id not in inline for at in held):
            path.unlink()


def repo_inline(machine: Machine) -> Any:
    with machine.repo() as repo:
        seen = repo.remote().seen
        assert seen is not None
        return seen.root.inline


def test_staged_content_that_is_lost_is_forgotten_and_said(ana: Machine) -> None:
    lose_chunks(ana)
    notes = ana("fsck", "--rebuild", "--json").json["notes"]
    assert any("what was staged of .env, new is lost" in each for each in notes)
    ana("stage", "new")
    ana("commit", "-m", "fourth")
    assert ana("cat", "HEAD:new").raw == b"staged\n"


def test_committed_content_that_is_lost_is_named_and_can_be_staged_again(ana: Machine) -> None:
    ana("commit", "-m", "fourth")
    lose_chunks(ana)
    ana("fsck", "--rebuild")
    found = {each["subject"]: each for each in fsck(ana, code=7)["findings"]}
    assert found.keys() == {"new", ".env"}
    assert {each["code"] for each in found.values()} == {"missing-content"}
    assert found["new"]["remedy"] == "if new is as it was: touch new, then dorky stage new"
    for path in found:
        (ana.project / path).touch()
        ana("stage", path)
    assert fsck(ana)["findings"] == []


# --- the database ---------------------------------------------------------------------------


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    path.write_bytes(b"not a database, though somebody called it so" * 100)


def garble_pages(path: Path) -> None:
    """All but the first page."""
    data = path.read_bytes()
    path.write_bytes(data[:4096] + random.Random(5).randbytes(len(data) - 4096))


def without_header(path: Path) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("DELETE FROM meta")
    connection.close()


@pytest.mark.parametrize("damage", [remove, empty, garble, garble_pages, without_header])
def test_a_database_that_is_lost(ana: Machine, damage: Callable[[Path], None]) -> None:
    damage(ana.state / "dorky.db")
    found = fsck(ana, code=7)
    assert "corrupt-database" in codes(found)
    assert found["findings"][0]["remedy"] == "dorky fsck --repair"
    made = ana("fsck", "--rebuild", "--json").json
    if damage is not remove:
        assert "/.dorky/…/" in made["kept"]
        assert (ana.state / Path(made["kept"]).name).exists()
    sound(ana, "--remote")
    assert ana("ls", "HEAD").out.split() == [".env", "big", "config/app"]
    ana("stage", ".")
    ana("commit", "-m", "fourth")
    ana("push")
    assert ana("status").out.startswith("On main, same as origin")


def test_a_lost_database_is_said_to_be_so(ana: Machine) -> None:
    remove(ana.state / "dorky.db")
    for command in ("status", "pull", "log"):
        said = ana(command, code=7)
        assert "it is gone, though packs are here" in said.error
        assert said.hint == "dorky fsck --repair"
    assert not (ana.state / "dorky.db").exists()


def test_nothing_here_at_all(ana: Machine) -> None:
    shutil.rmtree(ana.state)
    for options in ([], ["--rebuild"], ["--keyless"]):
        assert ana("fsck", *options, code=3).hint == "dorky pull"


@pytest.mark.parametrize("seed", range(6))
def test_a_few_damaged_pages(ana: Machine, seed: int) -> None:
    """Whatever can be read of the rest is kept."""
    with ana.repo() as repo:
        db = repo.database
        with db.transaction() as connection:
            connection.executemany(
                "INSERT INTO meta VALUES (?, ?)",
                ((f"filler.{n}", b"x" * 900) for n in range(60)),
            )
        db.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path = ana.state / "dorky.db"
    data = bytearray(path.read_bytes())
    chance = random.Random(seed)
    pages = range(1, len(data) // 4096)
    for page in chance.sample(pages, 3):
        data[page * 4096 : (page + 1) * 4096] = chance.randbytes(4096)
    path.write_bytes(data)
    ana("fsck", "--rebuild")
    sound(ana, "--remote")


def flip_bits(path: Path, seed: int, count: int) -> None:
    """Flip bits of what is not empty."""
    data, chance = bytearray(path.read_bytes()), random.Random(seed)
    for at in chance.sample([n for n, byte in enumerate(data) if byte], count):
        data[at] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def survives_flips(machine: Machine, seed: int) -> None:
    """Whatever becomes of the database, nothing that was committed is lost, or otherwise."""
    flip_bits(machine.state / "dorky.db", seed, 2 + seed % 30)
    said = machine.run("fsck", "--json")
    assert said.code in {0, 3, 7}, said
    machine("fsck", "--rebuild")
    sound(machine, "--remote")
    machine("status")
    machine("op", "log")


@pytest.mark.parametrize("seed", range(6))
def test_flipped_bits(ana: Machine, seed: int) -> None:
    survives_flips(ana, seed)


@pytest.mark.parametrize("stride", [4, *deep(1)])
def test_values_of_another_type(ana: Machine, stride: int) -> None:
    """A single flipped bit does that to a value; SQLite finds nothing wrong with it."""
    with ana.repo() as repo:
        keys = [key for (key,) in repo.database.connection.execute("SELECT key FROM meta")]
    whole = (ana.state / "dorky.db").read_bytes()
    for key in keys[::stride]:
        (ana.state / "dorky.db").write_bytes(whole)
        with contextlib.closing(sqlite3.connect(ana.state / "dorky.db")) as db, db:
            db.execute("UPDATE meta SET value = CAST(value AS TEXT) WHERE key = ?", (key,))
        ana("fsck", "--rebuild")
        sound(ana, "--remote")


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("files", "mode", "12.5"),
        ("files", "mode", "-1"),
        ("files", "mode", "mode | 512"),
        ("files", "size", "-1"),
        ("files", "absent", "'x'"),
        ("files", "absent", "NULL"),
        ("objects", "offset", "x'00'"),
        ("objects", "length", "9223372036854775807"),
        ("packs", "size", "'x'"),
        ("operations", "time", "'x'"),
        ("operations", "command", "x'00'"),
        ("replaced", "old", "x'00'"),
    ],
)
def test_rows_that_can_not_be(ana: Machine, table: str, column: str, value: str) -> None:
    """Whatever they break is called damage, not a bug, and can be repaired."""
    ana.write("new", "1")
    ana("stage", "new")
    path = ana.state / "dorky.db"
    statement = "UPDATE sqlite_master SET sql = ? WHERE name = ?"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        (made,) = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        free = made.replace(f"{column} INTEGER NOT NULL", f"{column} INTEGER")
        db.execute("PRAGMA writable_schema=ON")
        db.execute(statement, (free, table))
        db.execute("PRAGMA writable_schema=RESET")
        db.execute(f"UPDATE {table} SET {column} = {value}")
        db.execute("PRAGMA writable_schema=ON")
        db.execute(statement, (made, table))
    damaged = path.read_bytes()
    for command in ("status", "diff", "log", "op log", "undo --dry-run", "gc", "ls"):
        assert ana.run(*command.split()).code in {0, 7}
        path.write_bytes(damaged)
    assert fsck(ana, code=7)["findings"][0]["code"] == "corrupt-database"
    ana("fsck", "--rebuild")
    sound(ana, "--remote")


@pytest.mark.deep
def test_many_flipped_bits(ana: Machine, tmp_path: Path) -> None:
    saved = shutil.copytree(ana.project, tmp_path / "saved")
    for seed in range(600):
        shutil.rmtree(ana.project)
        shutil.copytree(saved, ana.project)
        try:
            survives_flips(ana, seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error


def test_a_team_that_is_recorded_wrongly(ana: Machine) -> None:
    with ana.repo() as repo:
        right = repo.database.team()
    (name,) = right.members
    member, (signer,) = right.members[name], right.names
    for wrong in (
        right._replace(names={}, members={}),
        right._replace(members={name: msgspec.structs.replace(member, role="reader")}),
        right._replace(names={signer[:-1]: name}),
        right._replace(n=right.n + 4),
        right._replace(id=f"{int(right.id[0], 16) ^ 1:x}{right.id[1:]}"),
    ):
        with ana.repo() as repo:
            repo.database.set_team(wrong)
        ana("fsck", "--rebuild")
        with ana.repo() as repo:
            assert repo.database.team() == right
        sound(ana, "--remote")


@pytest.mark.parametrize("wrong", [str.upper, lambda id: f"{id[:32]} {id[32:]}"])
def test_one_object_under_two_names(ana: Machine, wrong: Callable[[str], str]) -> None:
    """A flipped bit makes a letter a capital, which Python decodes as the same byte."""
    ana.write(".env", "B=2\n")
    ana("stage", ".env")
    with ana.repo() as repo, repo.database.transaction() as db:
        rows = db.execute("SELECT old FROM replaced WHERE what = 'row' ORDER BY operation DESC")
        (old,) = rows.fetchone()
        content = json.loads(old)[2]
        changed = old.replace(content, wrong(content))
        assert db.execute("UPDATE replaced SET old = ? WHERE old = ?", (changed, old)).rowcount
    ana("fsck", code=7)
    said = ana("fsck", "--rebuild")
    assert "the operation log was damaged" in said.err
    sound(ana)


def test_locations_that_are_wrong(ana: Machine) -> None:
    with ana.repo() as repo, repo.database.transaction() as db:
        db.execute("UPDATE objects SET offset = offset + 1 WHERE kind = 'chunk'")
    found = fsck(ana, code=7)
    assert set(codes(found)) == {"wrong-locations"}
    ana("fsck", "--rebuild")
    sound(ana)


def test_a_ref_to_nowhere(ana: Machine) -> None:
    with ana.repo() as repo:
        repo.database.set_ref("backup/1", "0" * 64)
    (finding,) = fsck(ana, code=7)["findings"]
    assert finding["subject"] == "0" * 64
    assert "backup/1 needs it" in finding["about"]
    notes = ana("fsck", "--rebuild", "--json").json["notes"]
    assert "backup/1 named 0000000000, which is lost" in notes
    sound(ana)


@pytest.mark.parametrize(
    "row",
    [
        "[1]",
        f'[33188, 1, "{"g" * 64}", "", 0, "all"]',
        f'[33188, 1, "{"A" * 64}", "", 0, "all"]',
        f'[33188, 1, "{" a" * 64}", "", 0, "all"]',
        "[[], 1, 2, 3, 4, 5]",
    ],
)
def test_an_operation_that_makes_no_sense(ana: Machine, row: str) -> None:
    """It is JSON, so that it is salvaged; what it says can't be undone."""
    ana.write(".env", "B=2\n")
    ana("stage", ".env")
    with ana.repo() as repo, repo.database.transaction() as db:
        assert db.execute("UPDATE replaced SET old = ? WHERE what = 'row'", (row,)).rowcount
    said = ana("fsck", "--rebuild")
    assert "the operation log was damaged" in said.err
    sound(ana)
    ana("status")


def test_a_rebuild_keeps_refs_staging_and_checkout(ana: Machine) -> None:
    ana.write(".env", "local\n")
    ana("restore", ".env")  # makes a backup
    ana("checkout", "HEAD~1")
    before = ana("status", "--json").json
    refs = ana("log", "backup/1", "--json").json
    ana("fsck", "--rebuild")
    assert ana("status", "--json").json == before
    assert ana("log", "backup/1", "--json").json == refs
    assert ana("op", "log").out


def test_a_rebuild_forgets_what_the_index_noted_where_that_is_nonsense(ana: Machine) -> None:
    before = ana("status", "--json").json
    with ana.repo() as repo, repo.database.transaction():
        repo.database.set("index.since", b"\xff\xfe\0abc")
    ana("fsck", "--rebuild")
    assert ana("status", "--json").json == before
    ana("stage", ".")
    ana("commit", "-m", "goes on")
    sound_codes = codes(fsck(ana, "--read-data"))
    assert sound_codes == []


def test_backups_come_back_with_their_names(ana: Machine) -> None:
    ana.write(".env", "local\n")
    ana("restore", ".env")
    remove(ana.state / "dorky.db")
    ana("fsck", "--rebuild")
    sound(ana)
    assert ana("cat", "backup/1:.env").raw == b"local\n"


def test_main_that_is_lost_is_the_newest_that_goes_on_from_the_remotes(ana: Machine) -> None:
    with ana.repo() as repo, repo.database.transaction() as db:
        db.execute("DELETE FROM refs")
    path = ana.state / "dorky.db"
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("DROP TABLE refs")
    connection.close()
    said = ana("fsck", "--rebuild")
    assert "main was lost" in said.err
    sound(ana)


def test_a_project_without_a_remote(tmp_path: Path) -> None:
    ana = Machine(tmp_path / "ana", {})
    ana("init", "--name", "ana", "--recovery", "none")
    ana.commit({".env": "A=1\n"}, "first")
    (ana.state / "dorky.db").unlink()
    ana("fsck", "--rebuild")
    assert fsck(ana, "--read-data")["findings"] == []
    assert ana("cat", "main:.env").raw == b"A=1\n"
    with ana.repo() as repo:
        assert [each.name for each in repo.roster.members] == ["ana"]


def test_keys_that_are_nowhere(ana: Machine, file_url: Remote) -> None:
    (ana.state / "dorky.db").unlink()
    (ana.state / "first-root").unlink()
    (Path(file_url.url) / "root").rename(ana.base / "root")
    said = ana("fsck", "--rebuild", code=7)
    assert "its keys are lost" in said.error
    (ana.base / "root").rename(Path(file_url.url) / "root")
    ana("fsck", "--rebuild")
    sound(ana)


def test_a_rebuild_without_the_network(ana: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults.installed(monkeypatch)
    offline = errors.Unreachable("the bucket", "connection refused", lasting=True)
    faults.before("get", failing(offline), times=100)
    notes = ana("fsck", "--rebuild", "--json").json["notes"]
    assert any("can't be reached" in each for each in notes)
    sound(ana)
    assert ana("status").out.startswith("On main, 1 commit ahead")


def test_an_older_root_is_not_believed_for_a_rebuild(ana: Machine, file_url: Remote) -> None:
    root = Path(file_url.url) / "root"
    old = root.read_bytes()
    ana("push")
    root.write_bytes(old)
    notes = ana("fsck", "--rebuild", "--json").json["notes"]
    assert any("older than what this clone has seen" in each for each in notes)
    sound(ana)


def test_a_rebuild_is_safe_wherever_it_is_interrupted(
    ana: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(packs(ana)[0], 5000)
    garble_pages(ana.state / "dorky.db")
    rename = Path.rename
    for n in range(1, 6):
        left = [n]

        def fail(self: Path, target: Path, left: list[int] = left) -> Path:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            return rename(self, target)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", fail)
            ana.run("fsck", "--rebuild")
    ana("fsck", "--rebuild")
    sound(ana, "--remote")


def test_a_pack_that_nobody_knows(ana: Machine) -> None:
    ben = ana.another("ben")
    shutil.copytree(ana.project, ben.project, dirs_exist_ok=True)
    shutil.copy(ana.home / ".dorky" / "state.key", ben.home / ".dorky")
    ben.commit({"more": "more\n"}, "elsewhere")
    for path in packs(ben):
        shutil.copy(path, ana.state / "packs")
    found = fsck(ana)
    assert set(codes(found)) == {"unrecorded-pack"}
    assert not any(each["fatal"] for each in found["findings"])
    made = ana("fsck", "--rebuild", "--json").json
    assert [each["title"] for each in made["dangling"]] == ["elsewhere"]
    assert ana("log", made["dangling"][0]["id"], "-n", "1").out.count("elsewhere") == 1


def test_dangling_commits_are_named(ana: Machine) -> None:
    lost = ana.commit({"more": "more\n"}, "lost\n\nwith a body")
    with ana.repo() as repo, repo.database.transaction() as db:
        first = repo.database.connection.execute("SELECT id FROM refs WHERE name='origin/main'")
        repo.database.set_ref("main", first.fetchone()[0])
        db.execute("DELETE FROM operations")
    (dangling,) = fsck(ana)["dangling"]
    assert dangling["id"] == lost
    assert dangling["title"] == "lost"
    shown = ana("fsck").out
    assert lost[:10] in shown
    assert "dorky checkout ID" in shown


def test_a_database_of_a_later_dorky_is_left_alone(ana: Machine) -> None:
    path = ana.state / "dorky.db"
    connection = sqlite3.connect(path)
    connection.executescript(NEWER)
    connection.close()
    before = path.read_bytes()
    for options in ([], ["--rebuild"]):
        assert "newer dorky" in ana("fsck", *options, code=3).error
    assert path.read_bytes() == before


def test_what_an_interrupted_push_has_sent_is_forgotten(ana: Machine) -> None:
    """A root must not list packs of which the database may be wrong."""
    with ana.repo() as repo:
        packed = repo.store.packs()[0]
        repo.store.record("origin/sent", packed, repo.store.locations(packed.id))
        repo.database.set("remote.origin.sent", b"0")
    ana("fsck", "--rebuild")
    with ana.repo() as repo:
        assert repo.store.packs("origin/sent") == []
        assert repo.database.get("remote.origin.sent") is None
    sound(ana)


def test_destroy_takes_what_a_rebuild_has_kept(ana: Machine) -> None:
    flip(packs(ana)[0], 5000)
    ana("fsck", "--rebuild")
    ana("destroy", "--yes")
    assert not ana.own.exists()


# --- the remote -----------------------------------------------------------------------------


@pytest.fixture
def there(file_url: Remote) -> Path:
    return Path(file_url.url)


def pack_there(place: Path) -> Path:
    return max((place / "packs").iterdir(), key=lambda each: each.stat().st_size)


def test_a_pack_that_the_remote_has_lost(ana: Machine, there: Path) -> None:
    name = pack_there(there).name
    pack_there(there).unlink()
    assert fsck(ana)["findings"] == []
    found = fsck(ana, "--remote", code=7)
    assert "missing-pack" in codes(found)
    assert found["findings"][0]["subject"] == name
    # Without a key it is known from before.
    assert "missing-pack" in codes(fsck(ana, "--remote", "--keyless", code=7))


def test_a_clone_that_has_all_makes_a_lost_bucket_whole(
    ana: Machine, there: Path, tmp_path: Path
) -> None:
    ana("push")
    pack_there(there).unlink()
    ana("remote", "set-url", "origin", tmp_path / "another")
    ana("push")
    assert fsck(ana, "--remote", "--read-data")["findings"] == []
    ben = ana.another("ben")
    ben("clone", tmp_path / "another", ".")
    assert ben.read("big") == BIG


@pytest.mark.parametrize(
    ("damage", "plain"),
    [
        (lambda path: flip(path, 5000), False),  # content
        (lambda path: flip(path, path.stat().st_size - FOOTER - 5), True),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), True),
    ],
    ids=["content", "index", "truncated"],
)
def test_a_damaged_pack_there(
    ana: Machine, there: Path, damage: Callable[[Path], None], plain: bool
) -> None:
    victim = pack_there(there)
    damage(victim)
    assert bool(fsck(ana, "--remote", code=7 if plain else 0)["findings"]) is plain
    found = fsck(ana, "--remote", "--read-data", code=7)["findings"]
    assert {each["subject"] for each in found} >= {victim.name}
    found = fsck(ana, "--remote", "--keyless", code=7)["findings"]
    assert victim.name in {each["subject"] for each in found}


def test_a_damaged_root(ana: Machine, there: Path) -> None:
    flip(there / "root", 300)
    for options in (["--remote"], ["--remote", "--keyless"]):
        (finding,) = fsck(ana, *options, code=7)["findings"]
        assert finding["code"] == "corrupt-root"
    (there / "root").unlink()
    for options in (["--remote"], ["--remote", "--keyless"]):
        (finding,) = fsck(ana, *options, code=7)["findings"]
        assert finding["code"] == "root-vanished"


def test_a_root_that_was_put_back(ana: Machine, there: Path) -> None:
    old = (there / "root").read_bytes()
    ana("push")
    (there / "root").write_bytes(old)
    assert codes(fsck(ana, "--remote", code=7)) == ["rewound"]


def swap(machine: Machine, **changes: Any) -> None:
    """Put another root in place, as a member can."""
    with machine.repo() as repo:
        remote = repo.remote()
        seen = remote.seen
        assert seen is not None
        assert remote.swap(seen.header, roots.successor(seen.root, **changes))


def test_a_root_that_does_not_list_what_its_history_needs(ana: Machine) -> None:
    swap(ana, packs=())
    (finding,) = fsck(ana, "--remote", code=7)["findings"]
    assert finding["code"] == "missing-object"
    assert "in no pack it lists" in finding["about"]


def test_a_damaged_object_in_the_root(ana: Machine) -> None:
    ana("push")
    with ana.repo() as repo:
        seen = repo.remote().seen
        assert seen is not None
        first, *rest = seen.root.inline
    bad = Inline(first.kind, first.id, first.data[:-1] + bytes([first.data[-1] ^ 1]))
    swap(ana, inline=(bad, *rest))
    found = {each["subject"]: each["code"] for each in fsck(ana, "--remote", code=7)["findings"]}
    assert found[first.id] == "corrupt-object"


def test_what_no_root_lists_is_counted(ana: Machine, there: Path) -> None:
    (there / "packs" / ("ab" * 32)).write_bytes(b"left by somebody")
    found = fsck(ana, "--remote")
    assert (found["unlisted"], found["unlisted_size"]) == (1, 16)
    assert "dorky gc --remote" in ana("fsck", "--remote").out


def test_nothing_is_needed_but_a_url_to_scrub_a_bucket(
    ana: Machine, there: Path, tmp_path: Path
) -> None:
    cron = Machine(tmp_path / "cron", {"DORKY_URL": str(there)})
    found = fsck(cron, "--remote", "--keyless")
    assert found["findings"] == []
    assert found["bytes_read"] == sum(each.stat().st_size for each in (there / "packs").iterdir())
    assert list(cron.home.iterdir()) == list(cron.project.iterdir()) == []
    flip(pack_there(there), 5000)
    said = cron("fsck", "--remote", "--keyless", code=7)
    assert pack_there(there).name in said.out


def test_keyless_with_packs_but_no_identity(ana: Machine) -> None:
    ana.identity.unlink()
    assert fsck(ana, "--keyless", "--remote")["findings"] == []
    assert ana("fsck", code=6).hint


def test_in_a_bucket(tmp_path: Path, s3_url: Remote) -> None:
    ana = Machine(tmp_path / "ana", s3_url.env)
    ana("init", s3_url.url, "--recovery", "none")
    ana.commit({"big": BIG})
    ana("push")
    assert fsck(ana, "--remote", "--read-data")["findings"] == []
    (name,) = [each for each in bucket(s3_url) if each.startswith("packs/")]
    data = bytearray(bucket(s3_url)[name])
    data[1000] ^= 1
    driver_of(s3_url).put(name, bytes(data))
    (finding,) = fsck(ana, "--remote", "--read-data", code=7)["findings"]
    assert finding["subject"] == name.removeprefix("packs/")


def test_groups_that_are_closed(ana: Machine, there: Path) -> None:
    ana("commit", "-m", "fourth")
    ana("push")
    ana("group", "add", "prod", "*.env")
    ben = joined(ana, "ben")
    assert fsck(ben, "--remote", "--read-data")["findings"] == []
    ben("fsck", "--rebuild")
    assert fsck(ben, "--remote", "--read-data")["findings"] == []
    ana("group", "members", "prod", "--add", "ben")
    ben("fetch")
    assert fsck(ben, "--remote", "--read-data")["findings"] == []


def test_a_plain_repository(tmp_path: Path, file_url: Remote) -> None:
    ana = Machine(tmp_path / "ana", {})
    ana("init", file_url.url, "--plain")
    ana.commit({".env": "A=1\n"}, "first")
    ana("push")
    (ana.state / "dorky.db").unlink()
    ana("fsck", "--rebuild")
    assert fsck(ana, "--remote", "--read-data")["findings"] == []
    assert ana("cat", "main:.env").raw == b"A=1\n"
