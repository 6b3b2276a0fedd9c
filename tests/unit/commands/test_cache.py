"""Contents that the remote holds: which of them `.dorky/` keeps, and which it drops."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import OFFLINE, Faults, failing
from machines import Machine, flip, noise
from servers import Remote

from dorky.format.model import KiB, MiB
from dorky.repo import Repository

BIG = noise(9 * MiB, 1)
CHANGED = BIG[: 4 * MiB] + b"!" + BIG[4 * MiB + 1 :]
HUGE = noise(40 * MiB, 11)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults.installed(monkeypatch)


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote, faults: Faults) -> Machine:
    """A project whose large file is pushed."""
    machine = Machine(tmp_path / "ana", file_url.env)
    machine("init", file_url.url)
    machine.commit({"big": BIG, ".env": "KEY=1\n", "small": noise(5 * MiB, 2)}, "first")
    machine("push")
    faults.clear()
    return machine


@pytest.fixture
def ben(ana: Machine, file_url: Remote, faults: Faults) -> Machine:
    machine = ana.another("ben")
    machine("clone", file_url.url, ".")
    faults.clear()
    return machine


def kept(machine: Machine) -> int:
    """The number of bytes in a machine's `.dorky/`."""
    return sum(path.stat().st_size for path in machine.own.rglob("*") if path.is_file())


def held(machine: Machine, path: str) -> bool:
    """Whether the local store holds the whole content of a committed file."""
    with machine.repo() as repo:
        return not repo.store.missing(_chunks(repo, path))


def _chunks(repo: Repository, path: str) -> set[str]:
    from dorky.store import contents

    return set(contents.chunks_of(repo.store, repo.index.rows([path])[path].content))


def received(faults: Faults) -> int:
    return sum(verb == "get_range" and key.startswith("packs/") for verb, key in faults.calls)


# --- what goes, and what stays --------------------------------------------------------------


def test_large_files_are_kept_once_after_a_push_and_a_pull(ana: Machine, ben: Machine) -> None:
    for machine in (ana, ben):
        assert machine.read("big") == BIG
        assert not held(machine, "big")
        assert held(machine, "small")
        assert kept(machine) < 5.5 * MiB
        machine("fsck")
        machine("gc", "--grace", "0")
        assert machine("status", "--json").json["unstaged"] == []


@pytest.mark.parametrize("where", ["user", "project"])
def test_all_contents_are_kept_if_either_asks_for_it(
    ana: Machine, file_url: Remote, where: str
) -> None:
    ben = ana.another("ben")
    ben.write(".dorkyrc", ana.read(".dorkyrc"))
    ben("config", "set", "cache", "all", *(["--user"] if where == "user" else []))
    ben("config", "set", "cache", "small", *([] if where == "user" else ["--user"]))
    ben("pull")
    assert held(ben, "big")
    ben.commit({"big": CHANGED})
    ben("push")
    assert held(ben, "big")


def test_none_is_the_users_choice_alone(ana: Machine) -> None:
    ben, carl = ana.another("ben"), ana.another("carl")
    for machine, options in ((ben, []), (carl, ["--user"])):
        machine.write(".dorkyrc", ana.read(".dorkyrc"))
        machine("config", "set", "cache", "none", *options)
        machine("pull")
        assert machine.files() == ana.files()
    assert held(ben, "small")
    assert not held(carl, "small")
    carl.commit({"small": noise(5 * MiB, 3)})
    carl("push")
    assert not held(carl, "small")


def test_a_remote_of_a_single_writer_keeps_everything(tmp_path: Path, file_url: Remote) -> None:
    ana = Machine(tmp_path / "ana", file_url.env)
    ana("init", file_url.url, "--single-writer")
    ana.commit({"big": BIG})
    ana("push")
    assert held(ana, "big")
    ben = ana.another("ben")
    ben.write(".dorkyrc", ana.read(".dorkyrc"))
    ben("pull")
    assert held(ben, "big")


def test_secrets_stay(ana: Machine, ben: Machine) -> None:
    ana.commit({"server.key": noise(9 * MiB, 5)})
    ana("push")
    assert held(ana, "server.key")
    ben("pull")
    assert held(ben, "server.key")


def test_what_a_push_has_not_sent_stays(ana: Machine) -> None:
    ana.write("big", CHANGED)
    ana("stage", "big")
    ana("undo")
    ana.write("other", noise(9 * MiB, 6))
    ana("stage", "other")
    ana("commit", "-m", "other")
    ana.write("other", noise(9 * MiB, 7))
    ana("stage", "other")
    ana("push")
    assert held(ana, "other")
    with ana.repo() as repo:
        (row,) = repo.index.rows(["other"]).values()
        assert row.size == 9 * MiB


def test_unpushed_contents_need_no_remote(ana: Machine, file_url: Remote) -> None:
    ana.commit({"big": CHANGED}, "changed")
    shutil.rmtree(file_url.url.removeprefix("file://"))
    (ana.project / "big").unlink()
    ana("restore", "big")
    assert ana.read("big") == CHANGED


def test_backups_stay(ana: Machine, ben: Machine, faults: Faults) -> None:
    ana.commit({"big": CHANGED})
    ana("push")
    mine = noise(9 * MiB, 8)
    ben.write("big", mine)
    ben("pull", "--force")
    ben.commit({"new": noise(9 * MiB, 9)})
    ben("push")
    faults.before("get_range", failing(OFFLINE), times=99)
    assert ben("cat", "backup/1:big").raw == mine


# --- going back, and offline ----------------------------------------------------------------


def test_a_changed_byte_receives_little(ana: Machine, ben: Machine, faults: Faults) -> None:
    ana.commit({"big": CHANGED})
    ana("push")
    before = kept(ben)
    faults.clear()
    ben("pull")
    assert ben.read("big") == CHANGED
    assert received(faults) <= 2  # the tail of the new pack, and one chunk
    assert kept(ben) - before < 300 * KiB


def test_a_pull_is_undone_by_fetching(ana: Machine, ben: Machine, faults: Faults) -> None:
    ana.commit({"big": noise(9 * MiB, 4)})
    ana("push")
    ben("pull")
    faults.before("get_range", failing(OFFLINE), times=99)
    before = ben.files()
    assert ben("undo", code=8).error
    assert ben.files() == before
    faults.clear()
    ben("undo")
    assert ben.read("big") == BIG


# --- a remote that is gone ------------------------------------------------------------------


def test_a_push_to_a_new_place_takes_contents_from_the_worktree(
    ana: Machine, tmp_path: Path
) -> None:
    ana("remote", "set-url", "origin", tmp_path / "elsewhere")
    ana("push")
    ben = ana.another("ben")
    ben("clone", tmp_path / "elsewhere", ".")
    assert ben.files() == ana.files()


def test_a_push_to_a_new_place_without_the_contents_is_refused(
    ana: Machine, tmp_path: Path
) -> None:
    ana.write("big", b"edited")
    ana("remote", "set-url", "origin", tmp_path / "elsewhere")
    assert ana("push", code=7).error
    assert not (tmp_path / "elsewhere" / "root").exists()
    assert ana.read("big") == b"edited"


# --- a pull that is interrupted -------------------------------------------------------------


@pytest.fixture
def begun(ana: Machine, faults: Faults) -> Machine:
    """A machine whose first pull was interrupted after the first range of the large file."""
    carl = ana.another("carl")
    carl.write(".dorkyrc", ana.read(".dorkyrc"))
    carl("fetch")
    faults.clear()
    ana.commit({"big": HUGE})
    ana("push")
    faults.clear()

    def stop() -> None:
        if received(faults) > 4:
            raise OFFLINE

    faults.before("get_range", stop, key="packs/", times=99)
    carl("pull", code=8)
    faults.clear()
    assert carl.files() == {}
    return carl


def partial(machine: Machine) -> Path:
    (found,) = (machine.state / "tmp").glob("partial-*")
    return found


def test_a_pull_goes_on_where_it_was(begun: Machine, faults: Faults) -> None:
    assert partial(begun).stat().st_mode & 0o777 == 0o600
    begun("status")
    begun("pull")
    assert begun.read("big") == HUGE
    again = received(faults)
    dora = begun.another("dora")
    dora.write(".dorkyrc", begun.read(".dorkyrc"))
    faults.clear()
    dora("pull")
    assert again < received(faults) - 1
    assert list((begun.state / "tmp").iterdir()) == []


def test_what_was_begun_is_verified(begun: Machine) -> None:
    path = partial(begun)
    data = path.read_bytes()
    path.write_bytes(bytes(each ^ 1 for each in data[:100]) + data[100:])
    begun("pull")
    assert begun.read("big") == HUGE


def test_a_file_that_was_begun_is_deleted_after_a_day(begun: Machine) -> None:
    path = partial(begun)
    os.utime(path, (path.stat().st_mtime - 25 * 3600,) * 2)
    begun("stage", ".")
    assert not path.exists()


def test_a_purge_deletes_what_was_begun(ana: Machine, begun: Machine) -> None:
    assert partial(begun)
    ana("purge", "big", "--yes")
    begun("pull")
    assert list((begun.state / "tmp").iterdir()) == []


def test_a_directory_that_a_job_caches_keeps_nothing_of_it(
    ana: Machine, begun: Machine, faults: Faults, tmp_path: Path
) -> None:
    """Whoever reads the cache of a job must not read contents."""
    job = begun.another("job")
    job.write(".dorkyrc", ana.read(".dorkyrc"))
    job.env["DORKY_DIR"] = str(tmp_path / "cached")

    def stop() -> None:
        if received(faults) > 4:
            raise OFFLINE

    faults.before("get_range", stop, key="packs/", times=99)
    job("pull", code=8)
    left = list((tmp_path / "cached").rglob("tmp/*"))
    faults.clear()
    assert left == []
    job("pull")
    assert job.read("big") == HUGE


@pytest.mark.parametrize("how", ["a link", "a hard link", "a directory", "a pipe"])
def test_something_else_in_its_place_is_not_written_to(
    begun: Machine, tmp_path: Path, how: str
) -> None:
    path = partial(begun)
    path.unlink()
    other = tmp_path / "other"
    other.write_bytes(b"mine")
    if how == "a link":
        path.symlink_to(other)
    elif how == "a hard link":
        os.link(other, path)
    elif how == "a directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    said = begun.run("pull")
    assert other.read_bytes() == b"mine"
    assert said.code == 8 if how == "a directory" else begun.read("big") == HUGE


def test_a_full_disk_keeps_nothing_of_it(
    ana: Machine, monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    carl = ana.another("carl")
    carl.write(".dorkyrc", ana.read(".dorkyrc"))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    assert "No space left" in carl("pull", code=8).error
    assert list((carl.state / "tmp").iterdir()) == []


# --- commands that need what is not here ----------------------------------------------------


@pytest.mark.parametrize("command", ["rotate --history", "gc --remote --grace 0", "rotate"])
def test_the_remote_is_rewritten(ana: Machine, ben: Machine, command: str) -> None:
    ben(*command.split())
    carl = ana.another("carl")
    with ben.repo() as repo:
        carl("clone", repo.config.url("origin"), ".")
    assert carl.files() == ana.files()
    carl("fsck", "--remote", "--read-data")


def test_it_is_said_how_much_a_rotation_downloads(ana: Machine) -> None:
    said = ana("rotate").err
    assert "downloaded first: up to 9.0 MiB" in said
    assert "downloaded first" not in ana("rotate").err


def test_a_crash_before_the_swap_drops_nothing(ana: Machine, faults: Faults) -> None:
    ana.commit({"big": noise(9 * MiB, 4)})
    faults.before("swap", failing(OFFLINE), times=99)
    ana("push", code=8)
    assert held(ana, "big")
    faults.clear()
    ana("push")
    assert not held(ana, "big")


def test_a_lost_swap_drops_nothing(ana: Machine, ben: Machine) -> None:
    ben.commit({"x": "1"})
    ben("push")
    ana.commit({"big": noise(9 * MiB, 4)})
    ana("push", code=5)
    assert held(ana, "big")


def test_a_remote_that_went_back_is_no_reason_to_lose_a_file(
    ana: Machine, ben: Machine, file_url: Remote, tmp_path: Path
) -> None:
    """Its newest version is only in the worktree then; a checkout keeps it before it goes."""
    place = Path(file_url.url.removeprefix("file://"))
    shutil.copytree(place, tmp_path / "old")
    new = noise(9 * MiB, 4)
    ana.commit({"big": new}, "new")
    ana("push")
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "old", place)
    ana("fetch", "--accept-rewind")
    ana("checkout", "HEAD~1")
    assert ana.read("big") == BIG
    ana("checkout", "main")
    assert ana.read("big") == new
    ana("push")
    ben("pull")
    assert ben.read("big") == new


# --- what is only in the remote -------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        *("cat HEAD:big", "show HEAD:big", "undo", "checkout HEAD~1", "download HEAD~1:big copy"),
        "restore big --source HEAD~1",
    ],
)
def test_offline_it_is_said_that_contents_must_be_fetched(
    ana: Machine, ben: Machine, faults: Faults, command: str
) -> None:
    ana.commit({"big": noise(9 * MiB, 4)})
    ana("push")
    ben("pull")
    before = ben.files()
    faults.before("get_range", failing(OFFLINE), times=99)
    said = ben(*command.split(), code=8)
    assert "can't be reached" in said.error
    assert said.hint.startswith("only the remote holds big: ")
    assert ben.files() == before


@pytest.fixture
def changed(ana: Machine, ben: Machine, faults: Faults) -> Machine:
    """A machine that holds the newest version of the large file, and no earlier one."""
    ana.commit({"big": HUGE})
    ana("push")
    ben("pull")
    faults.clear()
    return ben


def test_what_is_read_of_an_old_version_is_not_stored(changed: Machine, faults: Faults) -> None:
    before = kept(changed)
    assert changed("cat", "HEAD~1:big").raw == BIG
    assert changed("show", "HEAD~1:big").raw == BIG
    changed("download", "HEAD~1:big", "copy")
    assert changed.read("copy") == BIG
    assert received(faults) >= 3
    assert kept(changed) < before + 1 * MiB
    changed("restore", "big", "--source", "HEAD~1")
    assert changed.read("big") == BIG


def test_a_cache_of_all_keeps_what_was_read(changed: Machine, faults: Faults) -> None:
    changed("config", "set", "--user", "cache", "all")
    assert changed("cat", "HEAD~1:big").raw == BIG
    faults.clear()
    changed("download", "HEAD~1:big", "copy")
    assert changed.read("copy") == BIG
    assert received(faults) == 0


def test_a_download_takes_what_the_worktree_holds(changed: Machine, faults: Faults) -> None:
    changed("download", "HEAD:big", "copy")
    assert changed.read("copy") == HUGE
    assert received(faults) == 0
    # One changed chunk is fetched; the others are verified.
    changed.write("big", HUGE[: 20 * MiB] + b"!" + HUGE[20 * MiB + 1 :])
    changed("download", "HEAD:big", "copy", "--force")
    assert changed.read("copy") == HUGE
    assert received(faults) == 1
    assert changed("download", "HEAD:big", "copy", code=5).hint.startswith("choose another name")


def test_a_download_goes_on_where_it_was(
    ana: Machine, changed: Machine, faults: Faults, tmp_path: Path
) -> None:
    ana.commit({"big": BIG})
    ana("push")
    target = tmp_path / "there" / "copy"
    target.parent.mkdir()
    other = ana.another("other")
    other.write(".dorkyrc", ana.read(".dorkyrc"))
    other("pull", ".env")
    faults.clear()

    def stop() -> None:
        if received(faults) > 2:
            raise OFFLINE

    faults.before("get_range", stop, key="packs/", times=99)
    said = other("download", "HEAD~1:big", target, code=8)
    assert "only the remote holds big" in said.hint
    assert list(target.parent.iterdir()) == []
    assert partial(other).stat().st_mode & 0o777 == 0o600
    faults.clear()
    other("download", "HEAD~1:big", target)
    again = received(faults)
    assert target.read_bytes() == HUGE
    target.unlink()
    faults.clear()
    other("download", "HEAD~1:big", target)
    assert again < received(faults) - 1
    assert list((other.state / "tmp").iterdir()) == []


@pytest.mark.parametrize("command", ["cat HEAD~1:big", "download HEAD~1:big copy"])
def test_a_flipped_byte_of_what_passes_is_found(
    changed: Machine, file_url: Remote, command: str
) -> None:
    for pack in Path(file_url.url, "packs").iterdir():
        if MiB < pack.stat().st_size < 12 * MiB:
            flip(pack, 4 * MiB)
    said = changed(*command.split(), code=7)
    assert len(said.raw) < len(BIG)
    assert not (changed.project / "copy").exists()


def test_contents_are_fetched_in_advance(ana: Machine, ben: Machine, faults: Faults) -> None:
    ana.commit({"other": noise(9 * MiB, 4)})
    ana("push")
    ben("pull")
    assert ben("fetch", "--all-contents", "other", "--json").json["contents"] > 9 * MiB
    assert held(ben, "other")
    assert not held(ben, "big")
    assert "MiB of contents" in ben("fetch", "--all-contents").out
    assert "All contents are here" in ben("fetch", "--all-contents").out
    faults.before("get_range", failing(OFFLINE), times=99)
    assert ben("cat", "HEAD:big").raw == BIG
    ben.commit({"x": "1"})
    ben("push")
    assert held(ben, "big")


def test_paths_need_the_option(ben: Machine) -> None:
    assert "--all-contents" in ben("fetch", "big", code=2).hint
    ben("fetch", "--all-contents", "nothing", code=4)


def test_doctor_says_what_is_only_there(ana: Machine) -> None:
    found = {each["name"]: each for each in ana.run("doctor", "--json").json}
    assert "big" in found["contents"]["about"]
    assert found["contents"]["verdict"] == "ok"
    ana("fetch", "--all-contents")
    found = {each["name"]: each for each in ana.run("doctor", "--json").json}
    assert "big" not in found["contents"]["about"]


def only_there(machine: Machine) -> tuple[list[str], int]:
    """The files whose contents only the remote holds, by ``status``, and their size."""
    found = machine("status", "--json").json
    said = "are only in origin" in machine("status").out
    assert said == bool(found["remote_only"])
    return found["remote_only"], found["remote_only_size"]


def test_status_says_what_is_only_there(ana: Machine, ben: Machine, faults: Faults) -> None:
    """It asks no remote, and follows what is stored: whatever brings contents, and lets them go."""
    faults.before("get", failing(OFFLINE), times=99)
    for machine in (ana, ben):
        assert only_there(machine) == (["big"], len(BIG))
    assert "The stored contents of 1 file (9.0 MiB) are only in origin" in ben("status").out
    ana.write("big", CHANGED)
    assert only_there(ana) == (["big"], len(BIG))
    faults.clear()
    ana.commit({"big": CHANGED, "other": noise(9 * MiB, 5)})
    assert only_there(ana) == ([], 0)
    ana("push")
    assert only_there(ana) == (["big", "other"], 18 * MiB)
    ana("rm", "other")
    assert only_there(ana) == (["big"], 9 * MiB)
    ana("undo")
    assert only_there(ana) == (["big", "other"], 18 * MiB)
    ben("fetch", "--all-contents", "big")
    assert only_there(ben) == ([], 0)
    ben("pull")
    assert only_there(ben) == (["other"], 9 * MiB)
    ben("checkout", "HEAD~1")
    assert only_there(ben) == ([], 0)
    ben("checkout", "main")
    assert "other" in only_there(ben)[0]


def by_undo(ana: Machine, ben: Machine) -> Machine:
    ana("undo", "2", "--force")
    return ana


def by_unstage(ana: Machine, ben: Machine) -> Machine:
    ben("pull")
    ben.commit({"other": noise(9 * MiB, 6)}, "third")
    ben("push")
    ana.write("big", BIG[1:])
    ana("stage", "big")
    ana("pull")  # what is noted of contents that are not staged is forgotten
    ana("unstage", "big")
    return ana


def by_adoption(ana: Machine, ben: Machine) -> Machine:
    ben.write("big", CHANGED)
    ben("pull")
    return ben


def by_rebuild(ana: Machine, ben: Machine) -> Machine:
    (ana.state / "dorky.db").unlink()
    ana("fsck", "--rebuild")
    return ana


@pytest.mark.parametrize("way", [by_undo, by_unstage, by_adoption, by_rebuild])
def test_status_says_it_of_what_was_staged_unread(
    ana: Machine, ben: Machine, way: Callable[[Machine, Machine], Machine]
) -> None:
    ana.commit({"big": CHANGED}, "second")
    ana("push")
    machine = way(ana, ben)
    with machine.repo() as repo:
        large = {path for path, row in repo.index.rows().items() if row.size > 8 * MiB}
    lacking = sorted(path for path in large if not held(machine, path))
    assert lacking
    assert only_there(machine)[0] == lacking


def test_fsck_names_the_files_whose_only_copy_the_remote_has_lost(
    ana: Machine, ben: Machine, file_url: Remote
) -> None:
    packs = Path(file_url.url.removeprefix("file://")) / "packs"
    for path in packs.iterdir():
        if path.stat().st_size > 8 * MiB:
            path.unlink()
    ben("fsck")
    found = ben.run("fsck", "--remote", "--json")
    assert found.code == 7
    lost = [each for each in found.json["findings"] if each["code"] == "missing-content"]
    assert [each["subject"] for each in lost] == ["big"]
