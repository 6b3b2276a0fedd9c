"""What another user of the machine owns, or may change, decides nothing."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import Machine
from users import EVE, VIC, User, as_user, needs_root

from dorky import errors, git, ownership
from dorky.cli import hints
from dorky.config import Config
from dorky.project import Project
from dorky.repo import Repository


@pytest.fixture
def lab() -> Iterator[Path]:
    """A directory that every user can enter; everything that a command imports is loaded."""
    made = Path(tempfile.mkdtemp(prefix="dorky-users-")).resolve()
    made.chmod(0o755)
    try:
        # What lies below root's home can't be imported any more by somebody else.
        first = Machine(made / "first", {})
        first("init", made / "first/vault")
        first.commit({".env": "K=1\n"})
        for words in (["push"], ["pull"], ["sync"], ["log"], ["doctor"], ["get", ".env", "K"]):
            first(*words, code=0)
        first("config", "set", "--add", "safe.directory", "/nowhere")
        first("run", "--mask", "--", "true")
        yield made
    finally:
        shutil.rmtree(made)


@pytest.fixture
def eve(lab: Path) -> User:
    """A user of the machine who means harm."""
    return User(EVE, lab / "eve")


@pytest.fixture
def vic(lab: Path) -> User:
    """A user of the machine who does not."""
    return User(VIC, lab / "vic")


@pytest.fixture
def shared(lab: Path) -> Path:
    """A directory like /tmp."""
    made = lab / "shared"
    made.mkdir()
    made.chmod(0o1777)
    return made


@pytest.fixture
def project(ana: Machine) -> Machine:
    """A project in git, with a commit that was pushed."""
    subprocess.run(["git", "init", "-q", ana.project], check=True, timeout=60)
    ana("init", ana.base / "vault")
    ana.commit({".env": "KEY=1\n"}, "first")
    ana("push")
    return ana


def give_away(path: Path, uid: int = EVE) -> None:
    os.chown(path, uid, uid, follow_symlinks=False)


COMMANDS = [
    *(["status"], ["stage", ".env"], ["commit", "-m", "x"], ["push"], ["pull"], ["sync"], ["log"]),
    *(["run", "--", "true"], ["get", ".env"], ["set", ".env", "X"], ["edit", ".env"], ["doctor"]),
    *(["config", "list"], ["config", "get", "remotes.origin.url"], ["remote", "list"], ["gc"]),
    *(["config", "set", "remotes.origin.region", "x"], ["team", "list"], ["undo"], ["fsck"]),
    *(["clone", "/nowhere", "."], ["init"], ["destroy", "--yes"], ["download", "HEAD:.env"]),
]


# --- two users ------------------------------------------------------------------------------


@needs_root
def test_a_directory_above_that_is_somebody_elses(
    eve: User, vic: User, shared: Path, lab: Path
) -> None:
    """Whoever owns the `.dorkyrc` of a shared parent gets nothing that others push from below."""
    vault = lab / "vault"
    vault.mkdir()
    vault.chmod(0o777)
    eve.project = shared / "top"
    eve.make(eve.project)
    eve("init", "--plain", vault)
    subprocess.run(["chmod", "-R", "a+rwX", vault], check=True, timeout=60)
    for name in (".dorkyrc", ".dorky"):  # in /tmp itself
        as_user(EVE, lambda name=name: (eve.project / name).rename(shared / name) and None)
    as_user(EVE, lambda: (shared / ".dorkyrc").chmod(0o666))
    vic.project = vic.make(shared / "work")
    vic.make(vic.project / ".env", "PW=victims-secret\n")
    vic.env["EDITOR"] = "false"
    for words in COMMANDS:
        if words[0] not in {"init", "clone"}:
            said = vic(*words, code=3)
            assert "Dubious ownership: " in said.error
    assert all(b"victims" not in path.read_bytes() for path in vault.rglob("*") if path.is_file())
    assert not (vic.project / ".dorky").exists()
    # In a directory of one's own, one starts one's own.
    vic("init", "--plain")


@needs_root
def test_the_hint_does_what_it_says(eve: User, vic: User, shared: Path) -> None:
    odd = shared / "eve's $(project)"
    eve.project = eve.make(odd)
    eve("init", "--plain")
    as_user(EVE, lambda: odd.chmod(0o755))
    vic.project = odd
    said = vic("config", "list", code=3)
    assert said.error == (f"Dubious ownership: {odd} belongs to user {EVE}, not to user {VIC}")
    words = shlex.split(said.hint.partition(": ")[2])
    assert words[0] == "dorky"
    vic(*words[1:])
    vic("config", "list")
    assert vic("config", "get", "safe.directory").out == f"{odd}\n"


@needs_root
def test_state_is_nobody_elses_to_read(eve: User, vic: User) -> None:
    vic("init")
    vic.project.chmod(0o755)
    for path in (vic.project / ".dorky").rglob("*"):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.lstat().st_mode) == wanted, path

    def look() -> list[Path]:
        return list((vic.project / ".dorky").iterdir())

    with pytest.raises(AssertionError, match="PermissionError"):
        as_user(EVE, look)


@needs_root
def test_sudo_uid_counts_for_root_alone(eve: User, vic: User) -> None:
    eve("init", "--plain")
    eve.project.chmod(0o755)
    vic.project = eve.project
    vic.env["SUDO_UID"] = str(EVE)
    assert "Dubious ownership" in vic("status", code=3).error


@needs_root
def test_a_home_that_is_somebody_elses(eve: User, vic: User) -> None:
    """Its configuration names commands that are run."""
    mark = eve.base / "ran"
    eve("config", "set", "--user", "identity_command", f"touch {mark}")
    for path in (eve.home, eve.home / ".dorky"):
        path.chmod(0o755)
    vic.home = eve.home
    said = vic("key", "show", code=3)
    assert "Dubious ownership" in said.error
    assert said.hint == "set HOME to your own home directory"
    assert not mark.exists()


# --- each of the files ----------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("name", [".", ".dorkyrc", ".dorky", ".git"])
def test_every_part_must_be_the_users(project: Machine, name: str) -> None:
    give_away(project.project / name)
    project.env["EDITOR"] = "false"
    for words in COMMANDS:
        said = project(*words, code=3)
        assert "Dubious ownership" in said.error, words
    with pytest.raises(errors.DubiousOwnership), project.here():
        Repository(project.project)
    with pytest.raises(errors.DubiousOwnership), project.here():
        Project.find()


@needs_root
@pytest.mark.parametrize("name", [".", ".dorkyrc", ".dorky", ".git"])
def test_under_sudo_its_caller_is_the_user(project: Machine, name: str) -> None:
    give_away(project.project / name)
    for nonsense in ("", "0x7d1", "-1", "²", "9" * 99, str(VIC)):
        project.env["SUDO_UID"] = nonsense
        project("status", code=3)
    project.env["SUDO_UID"] = str(EVE)
    project("status")


@needs_root
def test_what_root_has_made_is_given_back(vic: User) -> None:
    vic("init", "--plain")
    (made,) = vic.own.glob("?" * 64)
    os.chown(made, 0, 0)
    said = vic("status", code=3)
    assert said.hint == f"sudo chown -R {VIC} {vic.own}"


@needs_root
def test_what_is_allowed_by_sudo_is_allowed_for_both(vic: User) -> None:
    """With vic's home, as `sudo` leaves it on some systems, and before and after his own use."""
    vic("init", "--plain")

    def choice(name: str) -> tuple[str, ...]:
        return ("remote", "allow", "s3://acme", "--profile", name)

    vic(*choice("own"))
    by_sudo = Machine.__new__(Machine)
    by_sudo.__dict__ |= {**vars(vic), "env": {"SUDO_UID": str(VIC)}}
    by_sudo(*choice("sudo"))
    allowed = vic.home / ".dorky/allowed"
    assert allowed.stat().st_uid == VIC
    vic(*choice("third"))
    assert [name in allowed.read_text() for name in ("own", "sudo", "third")] == [True] * 3


@needs_root
def test_a_git_repository_elsewhere(project: Machine, tmp_path: Path) -> None:
    """A linked work tree, and a submodule, have a file that says where their repository is."""
    top = project.project
    place = tmp_path / "place"
    (top / ".git").rename(place)
    (top / ".git").write_text(f"gitdir: {place}\n")
    assert git.find(top) == top
    linked = place / "worktrees/x"
    linked.mkdir(parents=True)
    (linked / "commondir").write_text("../..\n")
    (top / ".git").write_text(f"gitdir: {linked}\n")
    assert git.find(top) == top
    for path in (place, linked):
        give_away(path)
        with pytest.raises(errors.DubiousOwnership) as caught:
            git.find(top)
        assert hints.hint(caught.value) == f"git config --global --add safe.directory {top}"
        project("stage", ".env", code=3)
        give_away(path, 0)


@needs_root
def test_a_git_repository_above(project: Machine) -> None:
    """As for git itself: it would be asked what it tracks, and would be run in there."""
    (project.project / ".git").rename(project.base / ".git")
    (project.project / ".gitignore").unlink(missing_ok=True)
    project("stage", ".env")
    give_away(project.base / ".git")
    assert "Dubious ownership" in project("stage", ".env", code=3).error
    project.env["GIT_CEILING_DIRECTORIES"] = str(project.base)
    project("stage", ".env")


@needs_root
@pytest.mark.parametrize("words", [["init"], ["clone", "VAULT", "."], ["pull"]])
def test_none_is_begun_in_somebody_elses_directory(
    project: Machine, ana: Machine, words: list[str]
) -> None:
    other = project.another("other")
    give_away(other.project)
    if words == ["pull"]:
        other.env["DORKY_URL"] = str(project.base / "vault")
    vault = str(project.base / "vault")
    said = other(*(vault if word == "VAULT" else word for word in words), code=3)
    assert "Dubious ownership" in said.error
    assert list(other.project.iterdir()) == []


@needs_root
def test_a_command_can_be_run_where_no_project_is(project: Machine) -> None:
    """A container's working directory is root's, and the command is not run by root."""
    other = project.another("other")
    give_away(other.project)
    other.env["DORKY_URL"] = str(project.base / "vault")
    other("key", "show")
    assert "safe.directory" in other("config", "list", "--all").out


# --- exceptions -----------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("form", ["{}", "*", "{parent}/*", "~/../project"])
def test_our_configuration_makes_exceptions(project: Machine, form: str) -> None:
    give_away(project.project)
    top = project.project
    entry = form.format(top, parent=top.parent)
    project("config", "set", "--add", "safe.directory", "/elsewhere")
    project("status", code=3)
    path = project.home / ".dorky/config"
    path.write_text(path.read_text().replace('"]', f'", "{entry}"]'))
    project("status")
    (check,) = [each for each in project.run("doctor", "--json").json if each["name"] == "owner"]
    assert check["verdict"] == "warn"


@needs_root
def test_gits_configuration_makes_exceptions(project: Machine, tmp_path: Path) -> None:
    top = str(project.project)
    give_away(project.project)

    def answers(text: str, *, file: str = "") -> int:
        path = Path(file) if file else project.home / ".gitconfig"
        before = path.read_text() if path.exists() else None
        path.write_text((before or "") + text)
        code = project.run("status").code
        path.unlink() if before is None else path.write_text(before)
        return code

    entry = f"[safe]\n\tdirectory = {top}\n"
    assert answers(entry) == 0
    assert answers(f"[safe]\n\tdirectory = {project.base}/*\n") == 0
    assert answers("[safe]\n\tdirectory = *\n") == 3
    assert answers("[safe]\n\tdirectory = /*\n") == 3
    assert answers(f"[safe]\n\tdirectory = {project.base}\n") == 3
    assert answers(f"{entry}[safe]\n\tdirectory =\n") == 3
    assert answers(entry, file=str(project.project / ".git/config")) == 3
    project.env["GIT_CONFIG_SYSTEM"] = str(tmp_path / "system")
    assert answers(entry, file=str(tmp_path / "system")) == 0


@needs_root
def test_gits_variables_make_none(project: Machine) -> None:
    give_away(project.project)
    project.env |= {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": str(project.project),
        "GIT_CONFIG_PARAMETERS": f"'safe.directory={project.project}'",
    }
    project("status", code=3)


@needs_root
def test_an_exception_for_a_directory_is_none_for_one_below(project: Machine) -> None:
    give_away(project.project)
    project("config", "set", "--add", "safe.directory", project.base)
    project("status", code=3)


# --- who may write --------------------------------------------------------------------------


@pytest.mark.parametrize("name", [".", ".dorkyrc", ".dorky", ".git"])
def test_no_part_is_everyones_to_write(project: Machine, name: str) -> None:
    path = project.project / name
    before = stat.S_IMODE(path.stat().st_mode)
    path.chmod(before | 0o020)
    project("status")
    path.chmod(before | 0o002)
    project("config", "set", "--add", "safe.directory", project.project)
    said = project("status", code=3)
    assert said.error == f"Every user of this machine may change {path}"
    assert said.hint == f"chmod o-w {path}"
    subprocess.run(said.hint, shell=True, check=True, timeout=60)
    project("status")


def test_a_sticky_directory_is_not_everyones(project: Machine) -> None:
    project.project.chmod(0o1777)
    project("status")
    # Where a user may link to files of others, `.dorkyrc` can be any of them.
    os.link(project.project / ".dorkyrc", project.base / "other")
    said = project("status", code=3)
    assert said.error == f"Every user of this machine may change {project.project}"
    project.project.chmod(0o755)
    project("status")


@pytest.mark.parametrize("name", ["", "config"])
def test_the_users_configuration_is_not_everyones_to_write(project: Machine, name: str) -> None:
    project("config", "set", "--user", "user.name", "Ana")
    path = project.home / ".dorky" / name
    path.chmod(0o777)
    assert project("status", code=3).hint == f"chmod o-w {path}"


def test_umask_of_a_clone(project: Machine) -> None:
    """What `clone` makes is not refused by the next command."""
    before = os.umask(0)
    try:
        project("clone", project.base / "vault", "new")
    finally:
        os.umask(before)
    project.project /= "new"
    project("status")


# --- .dorkyrc -------------------------------------------------------------------------------


def test_settings_are_in_a_regular_file(project: Machine) -> None:
    rc = project.project / ".dorkyrc"
    kept = project.base / "kept"
    rc.rename(kept)
    rc.symlink_to(kept)
    assert project("pull", code=3).error == f"{rc} is malformed: it is not a regular file"
    assert "not a regular file" in project("config", "set", "portable_names", "true", code=3).error
    rc.unlink()
    os.mkfifo(rc)
    # It does not wait for a writer.
    assert project("pull", code=3).error == f"{rc} is malformed: it is not a regular file"


# --- how far up -----------------------------------------------------------------------------


def test_ceilings(project: Machine) -> None:
    deep = project.project / "a/b"
    deep.mkdir(parents=True)
    top = project.project

    def found(start: Path, ceilings: str) -> tuple[Path | None, Path | None]:
        project.env["GIT_CEILING_DIRECTORIES"] = ceilings
        with project.here():
            return Project.root_above(start), git.find(start)

    link = project.base / "link"
    link.symlink_to(top)
    assert found(deep, "") == (top, top)
    assert found(deep, str(top.parent)) == (top, top)
    assert found(deep, str(top)) == (None, None)
    assert found(deep, f"{top}/") == (None, None)
    assert found(deep, str(top / "a")) == (None, None)
    assert found(deep, str(deep)) == (top, top)  # the directory that one is in
    assert found(top, str(top)) == (top, top)
    assert found(deep, f"/nowhere:{top}:a/b") == (None, None)
    assert found(deep, "a:b") == (top, top)
    # Links count only before an empty entry.
    assert found(deep, str(link)) == (None, None)
    assert found(deep, f":{link}") == (top, top)
    assert found(deep, f":{top}") == (None, None)
    del project.env["GIT_CEILING_DIRECTORIES"]


@pytest.mark.skipif(
    not Path("/dev/shm").is_mount(), reason="no other file system where one can write"
)
def test_the_border_of_a_file_system() -> None:
    shm = Path("/dev/shm")
    assert [*ownership.upwards(shm / "x/y", {})] == [shm / "x/y", shm / "x", shm]
    across = {"GIT_DISCOVERY_ACROSS_FILESYSTEM": "true"}
    assert [*ownership.upwards(shm, across)] == [shm, *shm.parents]


# --- settings -------------------------------------------------------------------------------


def test_a_list_of_directories(project: Machine) -> None:
    project("config", "set", "safe.directory", "x/..")
    project("config", "set", "--add", "safe.directory", "/srv/app")
    project("config", "set", "--add", "safe.directory", "/srv/app")
    got = project("config", "get", "safe.directory", "--json").json["value"]
    assert got == [str(project.project), "/srv/app"]
    assert "/srv/app" in project("config", "list").out
    project("config", "unset", "safe.directory")
    project("config", "get", "safe.directory", code=4)
    assert "one value" in project("config", "set", "--add", "user.name", "x", code=2).error


def test_a_project_trusts_nobody(project: Machine) -> None:
    rc = project.project / ".dorkyrc"
    rc.write_text(rc.read_text() + '[safe]\ndirectory = ["*"]\n')
    assert "may only stand in ~/.dorky/config" in project("pull", code=3).error
    with project.here(), pytest.raises(errors.UsageError):
        Config(project.project).set("safe.directory", ["*"], scope="project")
