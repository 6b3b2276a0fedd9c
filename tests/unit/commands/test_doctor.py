"""doctor: each thing that can be wrong is named, with what remedies it."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import servers
from faults import Faults, failing
from machines import Machine, bucket
from servers import Remote
from teams import admit, cloned, follow, joined

from dorky import errors
from dorky.remote import probe


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    # The memory of the real machine may hold drafts of whoever uses it.
    made = Machine(tmp_path / "ana", {"XDG_RUNTIME_DIR": str(tmp_path)})
    made("init", file_url.url, "--name", "ana", "--recovery", "key")
    made.commit({".env": "A=1\n"})
    made("push")
    return made


def checks(machine: Machine, code: int = 0) -> dict[str, Any]:
    return {each["name"]: each for each in machine("doctor", "--json", code=code).json}


def test_all_is_well(ana: Machine) -> None:
    found = checks(ana)
    assert {each["verdict"] for each in found.values()} == {"ok"}
    assert list(found) == [
        *("settings", "identity", "state", "database", "merge", "file system", "files"),
        "contents",
        *(
            "second copy",
            "drafts",
            "space",
            "git",
            "hooks",
            "remote",
            "key",
            "recovery",
            "groups",
            "team",
        ),
        *("newest", "known", "writing", "clock"),
    ]
    assert "2 keys open" in ana("doctor").out


def test_another_package_called_dorky(
    ana: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "site" / "dorky-2.4.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: dorky\nVersion: 2.4\n")
    (metadata / "RECORD").write_text("dorky/__init__.py,,\n")
    monkeypatch.syspath_prepend(str(metadata.parent))
    found = checks(ana)["package"]
    assert found["verdict"] == "warn"
    assert f"called dorky is installed (2.4, in {metadata.parent})" in found["about"]
    assert found["remedy"].endswith(" -m pip uninstall dorky, then install dorky-client again")


def test_a_single_key(ana: Machine) -> None:
    ana("team", "remove", "recovery")
    found = checks(ana)["recovery"]
    assert found["verdict"] == "warn"
    assert found["remedy"] == "dorky team add recovery passphrase"


def test_a_dorkyrc_from_before_a_rotation(ana: Machine) -> None:
    old = (ana.project / ".dorkyrc").read_bytes()
    ana("rotate")
    (ana.project / ".dorkyrc").write_bytes(old)
    found = checks(ana)["key"]
    assert found["verdict"] == "warn"
    command = found["remedy"].partition("dorky ")[2].partition(",")[0].split()
    ana(*command)
    assert checks(ana)["key"]["verdict"] == "ok"


def test_a_newcomer(ana: Machine) -> None:
    ben = cloned(ana, "ben")
    found = checks(ben, code=1)
    assert found["identity"]["verdict"] == "fail"
    assert found["state"]["remedy"] == "dorky pull"
    assert found["remote"]["verdict"] == "ok"
    assert not ben.own.exists()
    admit(ana, ben, "ben")
    ben("pull")
    # Without the `.dorkyrc` that Ana has committed since.
    assert [name for name, each in checks(ben).items() if each["verdict"] != "ok"] == ["team"]
    follow(ben, ana)
    assert {each["verdict"] for each in checks(ben).values()} == {"ok"}


def test_who_was_removed(ana: Machine) -> None:
    ben = joined(ana, "ben")
    ana("team", "remove", "ben")
    found = checks(ben, code=1)
    assert "not encrypted for you" in found["remote"]["about"]


def test_a_group_that_is_closed(ana: Machine) -> None:
    ben = joined(ana, "ben")
    ana("group", "add", "prod", "*.env")
    assert "except the files of prod" in checks(ben)["key"]["about"]


def test_a_remote_that_is_gone(ana: Machine, file_url: Remote) -> None:
    Path(file_url.url, "root").unlink()
    found = checks(ana, code=1)
    assert found["remote"]["verdict"] == "fail"
    assert found["remote"]["remedy"]


def test_an_identity_that_others_can_read(ana: Machine) -> None:
    ana.identity.chmod(0o644)
    assert checks(ana, code=1)["identity"]["remedy"] == f"chmod 600 {ana.identity}"


def test_a_state_that_others_can_read_is_closed_to_them(ana: Machine) -> None:
    places = (ana.state, ana.own)
    for place in places:
        place.chmod(0o755)
    assert checks(ana)["state"]["verdict"] == "ok"
    assert [place.stat().st_mode & 0o777 for place in places] == [0o700, 0o700]


def test_no_remote(tmp_path: Path) -> None:
    ana = Machine(tmp_path / "ana", {})
    ana("init")
    found = checks(ana)
    assert found["remote"]["verdict"] == "warn"


def test_a_plain_repository(tmp_path: Path, file_url: Remote) -> None:
    ana = Machine(tmp_path / "ana", {})
    ana("init", file_url.url, "--plain")
    found = checks(ana)
    assert found["key"]["verdict"] == "warn"
    assert found["recovery"]["verdict"] == "ok"


def test_a_group_that_hangs_on_one_key(ana: Machine) -> None:
    ana("group", "add", "prod", "*.env")
    found = checks(ana)["recovery"]
    assert found["verdict"] == "warn"
    assert "the group prod: ana's" in found["about"]
    ana("group", "members", "prod", "--add", "recovery")
    assert checks(ana)["recovery"]["verdict"] == "ok"


# --- settings -------------------------------------------------------------------------------


def test_where_settings_are_from(ana: Machine) -> None:
    ana("config", "set", "--user", "user.name", "Ana")
    ana.env["DORKY_AUTHOR"] = "Ana of the lab"
    about = checks(ana)["settings"]["about"]
    assert f"{ana.project}/.dorkyrc: remotes.origin.url, repository.fingerprint" in about
    assert "environment (DORKY_AUTHOR): user.name" in about


@pytest.mark.parametrize(
    ("setting", "env"),
    [
        ("profile", {"AWS_PROFILE": "other"}),
        ("endpoint", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}),
        ("endpoint", {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}),
        ("profile", {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret"}),
    ],
)
def test_settings_that_are_overridden(ana: Machine, setting: str, env: dict[str, str]) -> None:
    ana("config", "set", f"remotes.origin.{setting}", "http://127.0.0.1:2")
    assert checks(ana)["settings"]["verdict"] == "ok"
    ana.env.update(env)
    found = checks(ana)["settings"]
    assert found["verdict"] == "warn"
    assert f"remotes.origin.{setting} in {ana.project}/.dorkyrc" in found["about"]
    assert next(iter(env)) in found["about"]
    assert "secret" not in found["about"]


def test_a_url_that_is_overridden(ana: Machine, file_url: Remote) -> None:
    ana.env["DORKY_URL"] = f"{file_url.url}/"
    found = checks(ana)["settings"]
    assert "is overridden by environment (DORKY_URL)" in found["about"]


def test_a_malformed_dorkyrc_leaves_the_other_checks(ana: Machine) -> None:
    with (ana.project / ".dorkyrc").open("a") as file:
        file.write("[remotes.origin\n")
    found = checks(ana, code=1)
    assert found["settings"]["verdict"] == "fail"
    assert found["files"]["verdict"] == "ok"


# --- this machine ---------------------------------------------------------------------------


def test_a_damaged_database(ana: Machine) -> None:
    path = ana.state / "dorky.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'objects'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    data = bytearray(path.read_bytes())
    data[(root - 1) * size : root * size] = bytes(size)
    path.write_bytes(data)
    found = checks(ana, code=1)
    assert found["database"]["verdict"] == "fail"
    assert found["database"]["remedy"]
    assert found["files"]["verdict"] == "ok"


def test_no_database_at_all(ana: Machine) -> None:
    for each in ana.state.glob("dorky.db*"):
        each.write_bytes(b"not a database" * 1000)
    found = checks(ana, code=1)
    assert {found[name]["verdict"] for name in ("database", "merge", "key")} == {"fail"}
    assert {found[name]["verdict"] for name in ("settings", "drafts", "space")} == {"ok"}


def test_a_merge_that_was_not_finished(ana: Machine) -> None:
    with ana.repo() as repo:
        repo.database.set("merge", b"{}")
    found = checks(ana)["merge"]
    assert found["verdict"] == "warn"
    assert "dorky merge --abort" in found["remedy"]
    with ana.repo() as repo:
        repo.database.set("merge", b"")
    assert checks(ana)["merge"]["verdict"] == "ok"


def test_private_files_that_others_can_read(ana: Machine) -> None:
    ana.write("it's.key", "x", 0o600)
    ana.write("open.txt", "x", 0o644)
    ana("stage", ".")
    (ana.project / ".env").chmod(0o640)
    (ana.project / "it's.key").chmod(0o604)
    found = checks(ana)["files"]
    assert found["verdict"] == "warn"
    assert ".env, it's.key" in found["about"]
    assert "open.txt" not in found["about"]
    subprocess.run(["sh", "-c", found["remedy"]], cwd=ana.project, check=True)
    assert checks(ana)["files"]["verdict"] == "ok"


@pytest.mark.parametrize("place", ["state", "base"])
def test_drafts(ana: Machine, place: str) -> None:
    at: Path = {"state": ana.own, "base": ana.base.parent}[place] / "dorky-x1"
    at.mkdir()
    found = checks(ana)["drafts"]
    assert found["verdict"] == "warn"
    assert str(at) in found["remedy"]


@pytest.mark.parametrize(("free", "verdict"), [(1 << 30, "ok"), ((1 << 30) - 1, "warn")])
def test_space(ana: Machine, monkeypatch: pytest.MonkeyPatch, free: int, verdict: str) -> None:
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert checks(ana)["space"]["verdict"] == verdict


def test_space_for_the_packs_that_there_are(ana: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 3 << 30})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with (ana.state / "packs" / "large").open("wb") as file:
        file.truncate((3 << 29) + 1)  # sparse
    assert checks(ana)["space"]["verdict"] == "warn"


# --- git ------------------------------------------------------------------------------------


@pytest.fixture
def in_git(ana: Machine) -> Callable[..., None]:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=Ana", "-c", "user.email=ana@example.test"]
        subprocess.run(["git", *who, *arguments], cwd=ana.project, check=True)

    git("init", "-q")
    return git


def test_a_project_in_git(ana: Machine, in_git: Callable[..., None]) -> None:
    ana("stage", ".")
    found = checks(ana)["git"]
    assert (found["verdict"], found["remedy"]) == ("warn", "git add .dorkyrc, and commit it")
    in_git("add", ".dorkyrc")
    assert checks(ana)["git"]["verdict"] == "ok"


def test_a_secret_that_git_tracks(ana: Machine, in_git: Callable[..., None]) -> None:
    in_git("add", "-f", ".env")
    found = checks(ana, code=1)["git"]
    assert found["verdict"] == "fail"
    assert found["remedy"].startswith("git rm --cached -- .env")


def test_a_secret_that_git_would_take(ana: Machine, in_git: Callable[..., None]) -> None:
    found = checks(ana)["git"]
    assert (found["verdict"], found["remedy"]) == ("warn", "dorky stage .env")
    ana("stage", ".env")
    in_git("add", ".dorkyrc")
    assert checks(ana)["git"]["verdict"] == "ok"


@pytest.mark.parametrize("path", [".dorky", ".dorky/.gitignore"])
def test_a_state_that_git_tracks(ana: Machine, path: str, in_git: Callable[..., None]) -> None:
    in_git("add", "-f", path)
    found = checks(ana, code=1)["state"]
    assert found["remedy"] == "git rm -r --cached .dorky"


def test_hooks(ana: Machine, in_git: Callable[..., None]) -> None:
    assert "none pulls after git pull" in checks(ana)["hooks"]["about"]
    hook = ana.project / ".git" / "hooks" / "post-merge"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ndorky pull || true\n")
    hook.chmod(0o644)
    found = checks(ana)["hooks"]
    assert (found["verdict"], found["remedy"]) == ("warn", f"chmod +x {hook}")
    hook.chmod(0o755)
    found = checks(ana)["hooks"]
    assert (found["verdict"], found["about"]) == ("ok", "post-merge call dorky")
    in_git("config", "core.hooksPath", "elsewhere")
    assert "none pulls after git pull" in checks(ana)["hooks"]["about"]


def test_pre_commit_that_is_not_installed(ana: Machine, in_git: Callable[..., None]) -> None:
    ana.write(".pre-commit-config.yaml", "repos:\n- hooks:\n  - id: dorky-pull\n")
    found = checks(ana)["hooks"]
    assert found["verdict"] == "warn"
    assert found["remedy"].startswith("pre-commit install")
    hook = ana.project / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexec python -m pre_commit hook-impl  # pre-commit\n")
    hook.chmod(0o755)
    assert checks(ana)["hooks"]["about"] == "post-checkout call dorky"


# --- the remote -----------------------------------------------------------------------------


def test_nothing_is_left_in_the_bucket(ana: Machine, file_url: Remote) -> None:
    before = bucket(file_url)
    checks(ana)
    assert bucket(file_url) == before


def test_the_verdict_is_found_out_and_kept(ana: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    ben = joined(ana, "ben")
    raced = []
    monkeypatch.setattr(probe, "honours_swaps", lambda driver: not raced.append(driver))
    assert checks(ben)["writing"]["verdict"] == "ok"
    assert checks(ben)["writing"]["verdict"] == "ok"
    assert len(raced) == 1


def test_a_bucket_that_ignores_conditions(tmp_path: Path, rclone_url: Remote) -> None:
    ana = Machine(tmp_path / "ana", rclone_url.env)
    ana("init", rclone_url.url, "--name", "ana", "--single-writer", "--recovery", "key")
    found = checks(ana)
    assert found["writing"]["verdict"] == "warn"
    assert "single writer" in found["writing"]["about"]
    assert found["versioning"]["verdict"] == "warn"
    assert found["lifecycle"]["verdict"] == "ok"
    ana("config", "unset", "remotes.origin.single_writer")
    found = checks(ana, code=1)
    assert found["writing"]["verdict"] == "fail"
    assert "single_writer" in found["writing"]["remedy"]
    assert found["clock"]["verdict"] == "ok"


def test_who_may_only_read(ana: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults.installed(monkeypatch)
    faults.before("put", failing(errors.AccessDenied("the bucket", "403")), times=2)
    found = checks(ana)
    assert found["writing"]["verdict"] == "warn"
    assert "not push" in found["writing"]["about"]
    assert (found["clock"]["verdict"], found["recovery"]["verdict"]) == ("ok", "ok")
    assert "can't tell" in found["clock"]["about"]


@pytest.mark.usefixtures("as_shipped")
def test_who_never_could_write(ana: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a verdict the probe is what meets the refusal; nothing is remembered."""
    ben = joined(ana, "ben")
    faults = Faults.installed(monkeypatch)
    faults.before("swap", failing(errors.AccessDenied("the bucket", "403")), times=16)
    assert checks(ben)["writing"]["verdict"] == "warn"
    assert faults.done
    faults.clear()
    assert checks(ben)["writing"]["verdict"] == "ok"
    assert [verb for verb, _ in faults.calls].count("swap") == 34


@pytest.mark.parametrize(("minutes", "word"), [(5, "behind"), (-5, "ahead of"), (1, "agree")])
def test_the_clock(ana: Machine, monkeypatch: pytest.MonkeyPatch, minutes: int, word: str) -> None:
    theirs = datetime.now(timezone.utc) + timedelta(minutes=minutes)
    monkeypatch.setattr(probe, "clock", lambda driver: theirs)
    found = checks(ana)["clock"]
    assert found["verdict"] == ("ok" if word == "agree" else "warn")
    assert word in found["about"]


def test_a_remote_that_is_not_there_is_asked_once(
    ana: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults.installed(monkeypatch)
    gone = errors.Unreachable("the bucket", "no network", lasting=True)
    faults.before("get", failing(gone), times=99)
    found = checks(ana, code=1)
    assert found["remote"]["verdict"] == "fail"
    assert "writing" not in found
    assert found["key"]["verdict"] == "ok"
    assert {verb for verb, _ in faults.calls} == {"get"}


def test_every_kind_of_place(tmp_path: Path, remote: Remote) -> None:
    ana = Machine(tmp_path / "ana", {**remote.env, "XDG_RUNTIME_DIR": str(tmp_path)})
    ana("init", remote.url, "--name", "ana", "--recovery", "key")
    found = checks(ana)
    mended = found.pop("versioning", None)
    assert (mended is None) == (remote.url[0] == "/")
    assert {each["verdict"] for each in found.values()} == {"ok"}
    out = ana("doctor").out
    assert not [value for name, value in remote.env.items() if "KEY" in name and value in out]


def test_a_root_that_a_rule_deleted(tmp_path: Path, s3_url: Remote) -> None:
    """The error does not keep back what explains it."""
    ana = Machine(tmp_path / "ana", s3_url.env)
    ana("init", s3_url.url, "--name", "ana", "--recovery", "key")
    client = servers.s3_client(s3_url.options["endpoint"])
    name = s3_url.url.split("/")[2]
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    rule = {"ID": "tidy", "Status": "Enabled", "Filter": {}, "Expiration": {"Days": 30}}
    client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rule]})
    client.delete_object(Bucket=name, Key="team/project/root")
    found = checks(ana, code=1)
    assert found["remote"]["verdict"] == "fail"
    assert found["versioning"]["verdict"] == "ok"
    assert found["lifecycle"]["verdict"] == "fail"
    assert "tidy deletes packs after 30 days" in found["lifecycle"]["about"]
