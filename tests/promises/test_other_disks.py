"""Disks that are not like a Linux developer's: names that fold, no modes, huge inodes, no locks."""

from __future__ import annotations

import contextlib
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
import quirky
from depth import deep
from machines import Machine
from servers import Remote

from dorky import filesystem
from dorky.files import FileSystem
from dorky.worktree import staging

COMPOSED = unicodedata.normalize("NFC", "caf\u00e9")
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


@contextlib.contextmanager
def on(place: Path, *quirks: str) -> Iterator[Machine]:
    """A computer whose disk has quirks; its home has none."""
    with quirky.mounted(place / "disk", *quirks) as mount:
        machine = Machine(place / "mac", {})
        machine.project = mount / "project"
        machine.project.mkdir()
        yield machine


@contextlib.contextmanager
def joined(ana: Machine, remote: Remote, place: Path, *quirks: str) -> Iterator[Machine]:
    """The same person's other computer, whose disk has quirks; it has pulled."""
    with on(place, *quirks) as machine:
        machine.identity.parent.mkdir(mode=0o700)
        machine.identity.write_bytes(ana.identity.read_bytes())
        machine.identity.chmod(0o600)
        machine("clone", remote.url, ".")
        yield machine


def pushed(ana: Machine, remote: Remote, files: dict[str, str]) -> None:
    if not ana.identity.exists():
        ana("init", remote.url)
    ana.commit(files)
    ana("push")


def names(machine: Machine) -> set[str]:
    return {path.name for path in machine.project.iterdir()} - {".dorky", ".dorkyrc"}


def unchanged(machine: Machine) -> bool:
    """Whether nothing is to be committed, not even by ``commit -a``."""
    said = machine("status", "--json").json
    machine("commit", "-a", "-m", "nothing", code=1)
    return not said["staged"] and not said["unstaged"]


# --- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quirks", "facts"),
    [
        (["ci"], {"folds_case"}),
        (["nf"], {"folds_form"}),
        (["ci", "nfd"], {"folds_case", "folds_form", "decomposes"}),
        (["refuses-modes"], {"no_modes", "no_symlinks", "no_links"}),
        (["ignores-modes"], {"no_modes"}),
        (["nolink"], {"no_links"}),
        (["bigino"], set()),
    ],
)
def test_a_disk_is_found_out(tmp_path: Path, quirks: list[str], facts: set[str]) -> None:
    with quirky.mounted(tmp_path, *quirks) as mount:
        found = filesystem.look(mount)
        assert set(found.text.split()) == facts
        assert FileSystem.read(found.text + " later") == found
        assert not list(mount.iterdir())


@pytest.mark.parametrize("changed", [False, *deep(True)], ids=["same", "edited"])
@pytest.mark.parametrize(
    ("old", "new", "quirk"),
    [
        pytest.param("Readme", "README", "ci", marks=pytest.mark.deep),
        pytest.param("Dir/x", "dir/x", "ci", marks=pytest.mark.deep),
        ("Dir/x", "dir/X", "ci"),
        pytest.param(COMPOSED, DECOMPOSED, "nf", marks=pytest.mark.deep),
        (f"{COMPOSED}/x", f"{DECOMPOSED}/x", "nf"),
    ],
)
def test_a_rename_that_only_respells_is_pulled(
    ana: Machine, file_url: Remote, tmp_path: Path, old: str, new: str, quirk: str, changed: bool
) -> None:
    pushed(ana, file_url, {old: "1", "other": "2"})
    with joined(ana, file_url, tmp_path, quirk) as mac:
        ana("rm", old)
        pushed(ana, file_url, {new: "3" if changed else "1"})
        mac("pull")
        assert (mac.project / new).read_text() == ("3" if changed else "1")
        assert new.split("/")[0] in names(mac)
        assert unchanged(mac)
        # And back, over what is there.
        ana("rm", new)
        pushed(ana, file_url, {old: "4"})
        mac("pull")
        assert (mac.project / old).read_text() == "4"
        assert unchanged(mac)


def test_a_directory_that_keeps_its_old_spelling_loses_nothing(
    ana: Machine, file_url: Remote, tmp_path: Path
) -> None:
    pushed(ana, file_url, {"Dir/x": "1"})
    with joined(ana, file_url, tmp_path, "ci") as mac:
        mac.write("Dir/own", "mine")
        ana("rm", "Dir/x")
        pushed(ana, file_url, {"dir/x": "1"})
        mac("pull")
        assert {path.name for path in (mac.project / "Dir").iterdir()} == {"own", "x"}
        assert unchanged(mac)


@pytest.mark.parametrize(
    ("first", "second", "quirk"),
    [
        ("twin", "TWIN", "ci"),
        pytest.param(COMPOSED, DECOMPOSED, "nf", marks=pytest.mark.deep),
        (COMPOSED, DECOMPOSED, "nfd"),
    ],
)
@pytest.mark.parametrize("later", [*deep(False), True], ids=["in a clone", "in a pull"])
def test_of_two_names_that_are_one_none_loses_its_content(
    ana: Machine,
    file_url: Remote,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
    second: str,
    quirk: str,
    later: bool,
) -> None:
    pushed(ana, file_url, {first: "one", "other": "x"})
    with contextlib.ExitStack() as stack:
        mac = stack.enter_context(joined(ana, file_url, tmp_path, quirk)) if later else None
        with monkeypatch.context() as patched:  # a member's dorky that does not refuse it
            patched.setattr(staging, "check_names", lambda *_, **__: None)
            pushed(ana, file_url, {second: "two"})
        expected = {path: content for path, (_, content) in ana.files().items()}
        assert {first, second} <= expected.keys()
        mac = mac or stack.enter_context(joined(ana, file_url, tmp_path, quirk))
        if later:
            said = mac("pull")
            spelled = {first, second} if quirk == "ci" else {"caf\\xe9", "cafe\\u0301"}
            assert all(name in said.err for name in spelled), said.err
        shown = {name: (mac.project / name).read_bytes() for name in names(mac)}
        assert len(shown) == len(expected) - 3 + 2  # `.dorkyrc` and one of the twins
        assert set(shown.values()) <= set(expected.values())
        assert unchanged(mac)
        mac("stage", ".")
        assert unchanged(mac)
        mac.commit({"other": "y"})
        mac("push")
        ana("pull")
        kept = {path: content for path, (_, content) in ana.files().items()}
        assert kept == {**expected, "other": b"y"}


@pytest.mark.parametrize("argument", [".", *deep("README")])
def test_a_rename_that_only_respells_is_staged(
    ana: Machine, file_url: Remote, tmp_path: Path, argument: str
) -> None:
    pushed(ana, file_url, {"Readme": "1"})
    with joined(ana, file_url, tmp_path, "ci") as mac:
        (mac.project / "Readme").rename(mac.project / "aside")
        (mac.project / "aside").rename(mac.project / "README")
        assert unchanged(mac)  # as in git: only staging says that it is meant
        said = mac("stage", argument, "--json").json
        changes = {(change["path"], change["what"]) for change in said["changes"]}
        assert changes == {("Readme", "deleted"), ("README", "added")}
        mac("commit", "-m", "respelled")
        assert unchanged(mac)
        mac("push")
        ana("pull")
        assert names(ana) == {"README"}


def test_a_file_is_staged_however_it_is_typed(
    ana: Machine, file_url: Remote, tmp_path: Path
) -> None:
    pushed(ana, file_url, {"Readme": "1"})
    with joined(ana, file_url, tmp_path, "ci") as mac:
        mac.write("Readme", "2")
        mac.write("New", "3")
        mac("stage", "README", "NEW")
        said = mac("status", "--json").json["staged"]
        assert {(change["path"], change["what"]) for change in said} == {
            ("Readme", "modified"),
            ("New", "added"),
        }


def test_a_file_that_is_not_tracked_is_no_less_in_the_way_for_its_spelling(
    ana: Machine, file_url: Remote, tmp_path: Path
) -> None:
    pushed(ana, file_url, {"other": "1"})
    with joined(ana, file_url, tmp_path, "ci") as mac:
        mac.write("readme", "mine")
        pushed(ana, file_url, {"README": "theirs"})
        assert mac("pull", code=5).error.startswith("Local changes")
        assert mac.read("readme") == b"mine"
        mac("pull", "--force")
        assert mac.read("README") == b"theirs"
        assert unchanged(mac)


def test_names_typed_on_a_disk_that_decomposes_them_stay_composed(
    ana: Machine, file_url: Remote, tmp_path: Path
) -> None:
    pushed(ana, file_url, {COMPOSED: "1"})
    with joined(ana, file_url, tmp_path, "ci", "nfd") as mac:
        assert names(mac) == {DECOMPOSED}
        mac.write(COMPOSED, "2")
        mac.write("\u00fc/\u00f6", "3")
        mac("stage", ".")
        said = mac("status", "--json").json["staged"]
        assert {(change["path"], change["what"]) for change in said} == {
            (COMPOSED, "modified"),
            ("\u00fc/\u00f6", "added"),
        }


# --- what a stat says -----------------------------------------------------------------------


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    "quirk", ["bigino", "nodirsync", "noflock", *deep("far", "old", "nolink", "coarse")]
)
def test_a_whole_life(ana: Machine, file_url: Remote, tmp_path: Path, quirk: str) -> None:
    """The project, its home and a directory as remote all lie on that disk."""
    with on(tmp_path, quirk) as mac:
        mac.home = mac.project.parent / "home"
        mac.home.mkdir()
        vault = mac.project.parent / "vault"
        mac("init", vault, *(["--single-writer"] if quirk == "noflock" else []))
        mac.commit({".env": "A=1\n", "d/large": "x" * 3_000_000})
        mac("push")
        assert unchanged(mac)
        mac.write(".env", "A=2\n")
        said = mac("status", "--json").json["unstaged"]
        assert [change["path"] for change in said] == [".env"]
        mac("commit", "-am", "two")
        mac("checkout", "HEAD~1")
        assert mac.read(".env") == b"A=1\n"
        mac("checkout", "main")
        mac("sync")
        mac("gc")
        mac("fsck")
        mac("doctor", "--json")
        other = mac.project.parent / "other"
        other.mkdir()
        mac.project = other
        mac("clone", vault, ".")
        assert mac.read(".env") == b"A=2\n"
        assert unchanged(mac)


@pytest.mark.parametrize("quirk", ["refuses-modes", "ignores-modes"])
def test_modes_that_a_disk_does_not_keep_are_nobodys_change(
    ana: Machine, file_url: Remote, tmp_path: Path, quirk: str
) -> None:
    ana("init", file_url.url)
    ana.write("run.sh", "#!/bin/sh\n", 0o755)
    ana.write(".env", "A=1\n", 0o600)
    ana("stage", ".")
    ana("commit", "-m", "one")
    ana("push")
    before = ana.files()
    with on(tmp_path, quirk) as mac:
        mac.identity.parent.mkdir(mode=0o700)
        mac.identity.write_bytes(ana.identity.read_bytes())
        mac.identity.chmod(0o600)
        mac("clone", file_url.url, ".")
        assert unchanged(mac)
        (mac.project / ".env").write_text("A=2\n")
        (mac.project / "run.sh").write_text("#!/bin/sh\necho\n")
        (mac.project / "new").write_text("1")
        mac("stage", ".")
        mac("commit", "-m", "two")
        mac("push")
        assert unchanged(mac)
        checks = {check["name"]: check for check in mac("doctor", "--json").json}
        assert "permission" in checks["file system"]["about"]
    ana("pull")
    after = ana.files()
    modes = {path: stat.S_IMODE(mode) for path, (mode, _) in after.items()}
    assert modes["run.sh"] == 0o755
    assert modes[".env"] == modes["new"] == 0o600
    assert after.keys() - before.keys() == {"new"}


def test_links_stay_in_the_repository_where_a_disk_has_none(
    ana: Machine, file_url: Remote, tmp_path: Path
) -> None:
    ana("init", file_url.url)
    (ana.project / "link").symlink_to("target")
    ana.write("target", "1")
    ana("stage", ".")
    ana("commit", "-m", "one")
    ana("push")
    with joined(ana, file_url, tmp_path, "refuses-modes") as mac:
        assert names(mac) == {"target"}
        assert unchanged(mac)
        (mac.project / "target").write_text("2")
        mac("commit", "-am", "two")
        mac("push")
    ana("pull")
    assert (ana.project / "link").is_symlink()


def test_without_any_locks_nothing_is_written(tmp_path: Path) -> None:
    with on(tmp_path, "nolocks") as mac:
        said = mac("init", code=8)
        assert "it can't be locked" in said.error


def test_a_directory_without_locks_is_no_remote_for_several(ana: Machine, tmp_path: Path) -> None:
    with quirky.mounted(tmp_path / "share", "noflock") as mount:
        said = ana("init", mount / "vault", code=5)
        assert "lock" in said.error
        assert "single_writer" in said.hint or "single-writer" in said.hint
