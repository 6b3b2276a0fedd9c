"""Mirror: a copy that is whole at any time, checked, resumable, and never set back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crashes import Crashes, occurrences
from depth import deep
from faults import OFFLINE, Faults, failing
from machines import Machine, bucket, driver_of, flip, noise, packs_listed, started
from roles import Forge
from servers import Remote, RequestLog
from teams import admit, cloned, follow

from dorky.drivers.base import Driver
from dorky.remote import mirror as mirrors

BIG = "data.bin"
Meanwhile = Callable[[Callable[[], object]], None]


def local(path: Path) -> Remote:
    return Remote(str(path), {}, {}, RequestLog())


@pytest.fixture
def copy(tmp_path: Path) -> Remote:
    """A directory that does not exist yet."""
    return local(tmp_path / "copy")


def begun(base: Path, remote: Remote) -> Machine:
    """A project with packs, a table and small objects in the root, pushed three times."""
    ana = started(base / "ana", remote, {".env": "A=1\n"}, "--name", "ana")
    for n in range(2):
        ana.commit({BIG: noise(3_000_000, n), "small": f"{n}\n"})
        ana("push")
    return ana


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    return begun(tmp_path, file_url)


def stored(remote: Remote) -> dict[str, bytes]:
    """What a copy must hold, and nothing else of the place."""
    kept = ("root", "packs/", "tables/")
    return {key: data for key, data in bucket(remote).items() if key.startswith(kept)}


def clone(ana: Machine, remote: Remote, name: str = "clone") -> Machine:
    """Clone a copy, and check every byte of it."""
    made = ana.another(name)
    made("clone", remote.url, made.project)
    made("fsck", "--remote", "--read-data")
    assert made.files() == ana.files()
    return made


# --- copies ---------------------------------------------------------------------------------


def test_a_copy_in_every_kind_of_place_and_back(
    tmp_path: Path, remote: Remote, copy: Remote
) -> None:
    ana = begun(tmp_path, remote)
    planned = ana("mirror", "origin", copy.url, "--dry-run", "--json").json
    assert not planned["done"]
    assert not bucket(copy)
    done = ana("mirror", "origin", copy.url, "--json").json
    assert done == {**planned, "done": True}
    assert done["packs"] >= 2
    assert done["tables"] == 1
    # A table that the root lists no more is stored in the source alone.
    assert stored(copy).items() <= stored(remote).items()
    clone(ana, copy)
    # The way back, to a place of the same kind, by somebody who has no project.
    again = remote._replace(url=f"{remote.url}-again")
    other = ana.another("other")
    assert "Copied" in other("mirror", copy.url, again.url).out
    assert stored(again) == stored(copy)
    assert other("mirror", copy.url, again.url).out.endswith("is up to date.\n")


def test_a_copy_of_an_unencrypted_repository(
    tmp_path: Path, file_url: Remote, copy: Remote
) -> None:
    ana = started(tmp_path / "ana", file_url, {"a": "1\n"}, "--plain")
    ana("mirror", "origin", copy.url)
    ana.commit({"a": "2\n", BIG: noise(500_000)})
    ana("push")
    ana("mirror", "origin", copy.url)
    assert stored(copy)["root"] == stored(file_url)["root"]
    there = ana.another("there")
    there("clone", copy.url, there.project, "--plain")
    assert there.files() == ana.files()


def test_only_what_is_new_is_copied_and_only_what_is_listed(
    ana: Machine, file_url: Remote, copy: Remote
) -> None:
    ana("mirror", "origin", copy.url)
    listed = {f"packs/{packed.id}" for packed in packs_listed(ana)}
    driver_of(file_url).put("packs/" + "0" * 64, b"planted")
    ana.commit({"more": noise(300_000, 9)})
    ana("push")
    done = ana("mirror", "origin", copy.url, "--json").json
    assert done["packs"] == len(packs_listed(ana)) - len(listed) > 0
    assert done["size"] < 1_000_000
    assert f"packs/{'0' * 64}" not in bucket(copy)
    clone(ana, copy)


def test_without_a_key_all_is_copied_that_is_stored(
    ana: Machine, file_url: Remote, copy: Remote, tmp_path: Path
) -> None:
    guard = Machine(tmp_path / "guard", {})
    said = guard("mirror", file_url.url, copy.url, code=6)
    assert said.hint == "add --keyless: a copy can be made without a key"
    assert not bucket(copy)
    guard("mirror", file_url.url, copy.url, "--keyless")
    assert stored(copy) == stored(file_url)
    ana.commit({BIG: noise(400_000, 5)})
    ana("push")
    done = guard("mirror", file_url.url, copy.url, "--keyless", "--json").json
    assert done["done"]
    assert done["generation"] is None
    assert stored(copy).keys() >= stored(file_url).keys()
    assert not guard.identity.exists()
    clone(ana, copy)


def test_a_copy_is_made_through_a_small_window(
    ana: Machine, copy: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are over the limit are copied one at a time."""
    monkeypatch.setattr(mirrors, "_LARGE", 1_000_000)
    ana("mirror", "origin", copy.url)
    clone(ana, copy)


# --- interrupted, and moving sources --------------------------------------------------------


@pytest.fixture
def crashes(tmp_path: Path) -> Iterator[Crashes]:
    made = Crashes(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("most", [7, *deep(25)])
def test_a_copy_that_is_killed_anywhere_goes_on(
    ana: Machine, copy: Remote, crashes: Crashes, tmp_path: Path, most: int
) -> None:
    words = ("mirror", "origin", copy.url)
    whole = crashes.run(ana, *words)
    assert whole.code == 0
    points = [point for point in occurrences(whole.points) if "copy/" in point[0]]
    assert len(points) > 10
    resumed = 0
    for n, point in enumerate(points[:: 1 + len(points) // most]):
        place = local(tmp_path / f"copy{n}")
        name = point[0].replace("to copy/", f"to copy{n}/").replace(" copy/", f" copy{n}/")
        ended = crashes.run(ana, "mirror", "origin", place.url, at=(name, point[1]))
        held = stored(place) if Path(place.url).exists() else {}
        if "root" in held:
            assert held == stored(copy)
        done = ana("mirror", "origin", place.url, "--json").json
        resumed += ended.code is None and done["held"] > 0
        assert stored(place) == stored(copy)
    assert resumed
    clone(ana, place)


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Have something done just before the first files are copied."""

    def arrange(act: Callable[[], object]) -> None:
        real, left = mirrors.copy, [act]

        def copy(*arguments: Any) -> None:
            if left:
                left.pop()()
            real(*arguments)

        monkeypatch.setattr(mirrors, "copy", copy)

    return arrange


@pytest.mark.parametrize("options", [(), ("--keyless",)])
def test_a_push_during_the_copy_is_copied_too(
    ana: Machine, file_url: Remote, copy: Remote, meanwhile: Meanwhile, options: tuple[str, ...]
) -> None:
    def push() -> None:
        ana.commit({BIG: noise(2_000_000, 7)})
        ana("push")

    meanwhile(push)
    ana("mirror", "origin", copy.url, *options)
    assert stored(copy)["root"] == stored(file_url)["root"]
    clone(ana, copy)


@pytest.mark.parametrize("options", [(), ("--keyless",)])
def test_a_rotation_during_the_copy_deletes_what_was_to_be_copied(
    ana: Machine, file_url: Remote, copy: Remote, meanwhile: Meanwhile, options: tuple[str, ...]
) -> None:
    before = stored(file_url)

    def rotate() -> None:
        ana("rotate", "--history")
        assert before.keys() - stored(file_url).keys()

    meanwhile(rotate)
    ana("mirror", "origin", copy.url, *options)
    assert stored(copy)["root"] == stored(file_url)["root"]
    clone(ana, copy)


def test_a_source_that_never_rests_is_copied_all_the_same(
    ana: Machine, copy: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = mirrors.copy, itertools.count()

    def copying(*arguments: Any) -> None:
        real(*arguments)
        ana.commit({"small": f"again {next(count)}"})
        ana("push")

    monkeypatch.setattr(mirrors, "copy", copying)
    ana("mirror", "origin", copy.url)
    assert "root" in bucket(copy)


# --- the target -----------------------------------------------------------------------------


def test_a_newer_copy_is_not_set_back(ana: Machine, file_url: Remote, copy: Remote) -> None:
    ana("mirror", "origin", copy.url)
    old = stored(copy)
    ana.commit({"a": "new\n"})
    ana("push")
    newer = stored(file_url)
    # The other way round: what is copied is older than what this user has seen.
    said = ana("mirror", copy.url, "origin", code=7)
    assert "--accept-rewind" in said.hint
    said = ana("mirror", copy.url, "origin", "--accept-rewind", code=5)
    assert "holds a newer state" in said.error
    stranger = ana.another("stranger")
    stranger("mirror", copy.url, file_url.url, code=5)
    assert (stored(copy), stored(file_url)) == (old, newer)


def test_a_source_that_was_set_back_is_not_copied(
    ana: Machine, file_url: Remote, copy: Remote
) -> None:
    old = stored(file_url)["root"]
    ana.commit({"a": "new\n"})
    ana("push")
    ana("mirror", "origin", copy.url)
    held = bucket(copy)
    driver_of(file_url).put("root", old)
    assert "older than what this clone has seen" in ana("mirror", "origin", copy.url, code=7).error
    # Nor by somebody who has seen nothing, whose only measure is the copy.
    other = ana.another("other")
    assert "newer" in other("mirror", file_url.url, copy.url, code=5).error
    assert "newer" in other("mirror", file_url.url, copy.url, "--accept-rewind", code=5).error
    assert bucket(copy) == held


def test_without_a_key_only_what_was_copied_is_replaced(
    ana: Machine, file_url: Remote, copy: Remote
) -> None:
    words = ("mirror", file_url.url, copy.url, "--keyless")
    ana(*words)
    first = stored(file_url)["root"]
    ana.commit({"a": "1\n"})
    ana("push")
    ana(*words)
    # The source is set back to what was copied before.
    second = stored(file_url)["root"]
    driver_of(file_url).put("root", first)
    assert "newer state" in ana(*words, code=5).error
    driver_of(file_url).put("root", second)
    # Somebody pushes to the copy.
    ana.run("remote", "set-url", "origin", copy.url)
    ana.commit({"a": "2\n"})
    ana("push")
    held = bucket(copy)
    said = ana(*words, code=6)
    assert "Without a key" in said.error
    driver_of(copy).delete(["copied"])
    ana(*words, code=6)
    assert stored(copy).items() <= held.items()


def test_a_copy_that_somebody_has_pushed_to_is_left_alone(
    ana: Machine, file_url: Remote, copy: Remote
) -> None:
    ana("mirror", "origin", copy.url)
    there = ana.another("there")
    there("clone", copy.url, there.project)
    there.commit({"a": "of the copy\n"})
    there("push")
    ana.commit({"a": "of the source\n"})
    ana("push")
    held = bucket(copy)
    said = ana.another("judge")("mirror", file_url.url, copy.url, code=5)
    assert "holds changes that" in said.error
    assert bucket(copy) == held


def test_another_repository_is_left_alone(ana: Machine, copy: Remote, tmp_path: Path) -> None:
    started(tmp_path / "other", copy, {"x": "1\n"})
    held = bucket(copy)
    for options in ((), ("--keyless",)):
        assert "another repository" in ana("mirror", "origin", copy.url, *options, code=5).error
    assert bucket(copy) == held


def test_a_damaged_root_of_the_target_is_left_alone(ana: Machine, copy: Remote) -> None:
    ana("mirror", "origin", copy.url)
    ana.commit({"a": "1\n"})
    ana("push")
    data = bytearray(bucket(copy)["root"])
    data[-40] ^= 1
    driver_of(copy).put("root", bytes(data))
    ana("mirror", "origin", copy.url, code=7)
    assert bucket(copy)["root"] == data


def test_what_was_planted_in_the_target(ana: Machine, file_url: Remote, copy: Remote) -> None:
    """Another size is seen at once, another content by reading; strange keys are left alone."""
    first, second, *_ = (f"packs/{packed.id}" for packed in packs_listed(ana))
    sound = stored(file_url)
    for read in ((), ("--read-data",)):
        driver = driver_of(copy)
        driver.put(first, b"of another size")
        driver.put(second, b"x" * len(sound[second]))
        driver.put("packs/readme", b"strange")
        ana("mirror", "origin", copy.url, *read)
        assert bucket(copy)[first] == sound[first]
        assert (bucket(copy)[second] == sound[second]) == bool(read)
        assert bucket(copy)["packs/readme"] == b"strange"


def test_a_target_that_loses_what_it_has_taken_gets_no_root(
    ana: Machine, copy: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = mirrors.copy

    def forgetful(source: Driver, target: Driver, files: Any, progress: Any) -> None:
        real(source, target, files, progress)
        target.delete([files[-1].key])

    monkeypatch.setattr(mirrors, "copy", forgetful)
    ana("mirror", "origin", copy.url, code=7)
    assert "root" not in bucket(copy)


def test_a_server_without_conditional_writes(
    ana: Machine, file_url: Remote, rclone_url: Remote
) -> None:
    ana.env.update(rclone_url.env)
    said = ana("mirror", "origin", rclone_url.url, code=5)
    assert said.hint.endswith(f"dorky remote add copy {rclone_url.url}")
    ana("remote", "add", "copy", rclone_url.url)
    said = ana("mirror", "origin", "copy", code=5)
    assert said.hint.endswith("dorky config set remotes.copy.single_writer true")
    ana("config", "set", "remotes.copy.single_writer", "true")
    ana("mirror", "origin", "copy")
    assert stored(rclone_url).items() <= stored(file_url).items()


# --- the source -----------------------------------------------------------------------------


@pytest.mark.each_value
@pytest.mark.parametrize("options", [(), ("--keyless",)])
@pytest.mark.parametrize("folder", ["packs", "tables"])
def test_a_flipped_byte_is_found_and_the_rest_is_copied(
    ana: Machine, file_url: Remote, copy: Remote, options: tuple[str, ...], folder: str
) -> None:
    # The newest: an older table may be one that the root lists no more.
    found = Path(file_url.url, folder).iterdir()
    files = sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for at in (20, files[0].stat().st_size - 60, files[0].stat().st_size - 3):
        flip(files[0], at)
        said = ana("mirror", "origin", copy.url, *options, code=7)
        assert files[0].name[:12] in said.error
        held = bucket(copy)
        assert "root" not in held
        assert f"{folder}/{files[0].name}" not in held
        assert len([key for key in held if key.startswith("packs/")]) >= 1
        flip(files[0], at)
    ana("mirror", "origin", copy.url, *options)
    clone(ana, copy)


def test_a_flipped_byte_of_the_root(ana: Machine, file_url: Remote, copy: Remote) -> None:
    flip(Path(file_url.url, "root"), 300)
    for options in ((), ("--keyless",)):
        ana("mirror", "origin", copy.url, *options, code=7)
        assert not bucket(copy)


def test_a_listed_pack_that_is_gone(ana: Machine, file_url: Remote, copy: Remote) -> None:
    (packed, *_) = packs_listed(ana)
    Path(file_url.url, "packs", packed.id).unlink()
    assert packed.id[:12] in ana("mirror", "origin", copy.url, code=7).error
    assert "root" not in bucket(copy)


def test_a_root_of_somebody_who_may_not_write(ana: Machine, file_url: Remote, copy: Remote) -> None:
    cleo = cloned(ana, "cleo")
    admit(ana, cleo, "cleo", "reader")
    cleo("pull")
    ana("pull")
    ana("mirror", "origin", copy.url)
    held = bucket(copy)
    driver_of(file_url).put("root", Forge(cleo).encode())
    for machine in (ana, ana.another("other")):
        said = machine("mirror", file_url.url, copy.url, code=7)
        assert "may not write" in said.error
    assert bucket(copy) == held


def test_a_place_without_a_repository(ana: Machine, copy: Remote, tmp_path: Path) -> None:
    for options in ((), ("--keyless",)):
        ana("mirror", str(tmp_path / "nothing"), copy.url, *options, code=4)
    assert not bucket(copy)


# --- names of places ------------------------------------------------------------------------


def test_places_that_are_one_or_lie_in_each_other(
    ana: Machine, file_url: Remote, tmp_path: Path
) -> None:
    place = Path(file_url.url)
    alias = tmp_path / "alias"
    alias.symlink_to(place)
    before = bucket(file_url)
    for target in ("origin", place, f"{place}/", alias, place / "packs", place.parent, "./copy"):
        ana("mirror", "origin", target, code=2)
    assert "no remote named bakup" in ana("mirror", "origin", "bakup", code=3).error
    assert bucket(file_url) == before


def test_a_place_that_only_git_names_is_not_filled(ana: Machine, copy: Remote) -> None:
    """A git branch can change `.dorkyrc`; what a clone has is not for wherever that leads."""
    ben = cloned(ana, "ben")
    ben("remote", "add", "second", copy.url)
    follow(ana, ben)
    said = ana("mirror", "origin", "second", code=3)
    assert said.hint.endswith(f"dorky config set remotes.second.url {copy.url}")
    assert not bucket(copy)
    ana("config", "set", "remotes.second.url", copy.url)
    ana("mirror", "origin", "second")
    clone(ana, copy)


def test_a_named_source_must_be_the_projects(
    ana: Machine, file_url: Remote, copy: Remote, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere"
    started(tmp_path / "ben", local(other), {"x": "1\n"})
    ana("remote", "add", "second", other)
    ana("mirror", "second", copy.url, code=7)
    assert not bucket(copy)


def test_a_new_place_of_a_remote_whose_contents_are_only_there(
    ana: Machine, file_url: Remote, copy: Remote
) -> None:
    ben = ana.another("ben")
    ben("clone", file_url.url, ben.project)
    ben.commit({".env": "A=2\n"})
    said = ben("remote", "set-url", "origin", copy.url)
    assert f"dorky mirror {file_url.url} origin" in said.err
    said = ben("push", code=7)
    assert said.hint == "first copy the old place: dorky mirror OLD-URL origin"
    ben("mirror", file_url.url, "origin")
    ben("push")
    clone(ben, copy, "there")


def test_contents_that_are_only_there_are_copied_though_it_breaks_off(
    tmp_path: Path, file_url: Remote, copy: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several packs, of which no clone has the contents; what has arrived is not sent again."""
    faults = Faults.installed(monkeypatch)
    ana = started(tmp_path / "ana", file_url, {".env": "A=1\n"}, "--name", "ana")
    for n in range(3):
        ana.commit({f"{n}.bin": noise(9 << 20, n)})
        ana("push")
    assert len(ana("status", "--json").json["remote_only"]) == 3
    faults.clear()
    faults.before("put", lambda: None, key="packs/", times=1)
    faults.before("put", failing(OFFLINE), key="packs/", times=99)
    ana("mirror", "origin", copy.url, code=8)
    arrived = stored(copy)
    assert arrived
    assert "root" not in arrived
    faults.clear()
    done = ana("mirror", "origin", copy.url, "--json").json
    assert done["held"] > 0
    assert arrived.items() <= stored(copy).items() <= stored(file_url).items()
    clone(ana, copy)


def test_a_copy_is_destroyed_whole(ana: Machine, copy: Remote) -> None:
    ana("mirror", "origin", copy.url)
    clone(ana, copy)("destroy", "--remote", "--yes")
    assert not bucket(copy)
