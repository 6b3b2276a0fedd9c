"""Whose key is used: made, chosen, found; age identities, SSH keys, commands, KMS."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import boto3
import pytest
from machines import Machine, started
from servers import Remote, Server, s3_env
from teams import cloned

from dorky.keys import age


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    return started(tmp_path / "ana", file_url, {".env": "A=1\n"}, "--name", "ana")


def ssh_key(machine: Machine, passphrase: str = "", kind: str = "ed25519") -> Path:
    """Make an SSH key where ssh looks for it."""
    path = machine.home / ".ssh" / f"id_{kind}"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "canary@host", "-f", path],
        check=True,
    )
    return path


# --- commands -------------------------------------------------------------------------------


def test_a_key_is_made_once(ana: Machine) -> None:
    ben = cloned(ana, "ben")
    made = ben("key", "gen", "--json").json
    assert made["source"] == str(ben.identity)
    assert ben.identity.stat().st_mode & 0o777 == 0o600
    assert age.load(ben.identity)[0].public == made["recipient"]
    assert "never overwritten" in ben("key", "gen", code=5).error
    other = ben("key", "gen", ben.base / "other").out
    assert "AGE-SECRET-KEY" not in other
    assert (ben.base / "other").stat().st_mode & 0o777 == 0o600


def test_a_key_is_shown_without_its_secret_part(ana: Machine) -> None:
    said = ana("key", "show")
    assert re.fullmatch(r"age1[0-9a-z]+ ssh-ed25519 \S+\n", said.out)  # fit for "$(dorky key show)"
    assert "fingerprint  SHA256:" in said.err
    ben = cloned(ana, "ben")
    assert "No age identity" in ben("key", "show", code=6).error
    assert "No keys here" in ben("key", "list").out


def test_a_key_is_chosen(ana: Machine) -> None:
    path = ssh_key(ana)
    before = ana("key", "list", "--json").json
    assert [each["source"] for each in before] == [str(ana.identity), str(path)]
    ana("key", "use", path)
    after = ana("key", "list", "--json").json
    assert [each["source"] for each in after] == [str(path), str(ana.identity)]
    public = path.with_name("id_ed25519.pub").read_text().rsplit(" ", 1)[0]
    assert after[0]["recipient"] == public
    assert ana("key", "use", f"{path}.pub", code=2).hint == f"dorky key use {path}"
    assert "does not exist" in ana("key", "use", "/nowhere", code=6).error


def test_key_commands_need_no_project(tmp_path: Path) -> None:
    ana = Machine(tmp_path / "ana", {})
    ana("key", "gen")
    ana("key", "show")
    ana("key", "list")


# --- where from -----------------------------------------------------------------------------


def test_an_ssh_key_is_found_by_itself(ana: Machine) -> None:
    ben = cloned(ana, "ben")
    path = ssh_key(ben)
    ben("pull", code=6)
    ana("team", "add", "ben", f"@{path}.pub")
    ben("pull")
    assert ben.read(".env") == b"A=1\n"
    assert ben("team", "list", "--json").json["members"][1]["you"]
    assert not ben.identity.exists()


def test_an_ssh_key_under_a_passphrase(ana: Machine) -> None:
    ben = cloned(ana, "ben")
    path = ssh_key(ben, "canary passphrase")
    ana("team", "add", "ben", path.with_name("id_ed25519.pub").read_text())
    assert "not encrypted for you" in ben("pull", code=6).error  # nobody to ask
    ben.env["DORKY_SSH_PASSPHRASE"] = "wrong"
    said = ben("pull", code=6)
    assert "passphrase" in said.error
    assert "wrong" not in said.err
    ben.env["DORKY_SSH_PASSPHRASE"] = "canary passphrase"
    ben("pull")
    assert ben.read(".env") == b"A=1\n"


def test_a_command_prints_the_identity(ana: Machine) -> None:
    ci = cloned(ana, "ci")
    ci.env["DORKY_IDENTITY_CMD"] = f"cat '{ana.identity}'"
    ci("pull")
    ci.env["DORKY_IDENTITY_CMD"] = "false"
    assert "false" in ci("rotate", code=6).error
    ci.env["DORKY_IDENTITY_CMD"] = ""
    ci("config", "set", "--user", "identity_command", f"cat '{ana.identity}'")
    ci("rotate")


def test_a_command_may_not_come_with_git(ana: Machine) -> None:
    marker = ana.base / "ran"
    line = f'identity_command = "touch {marker}"\n'
    text = (ana.project / ".dorkyrc").read_text()
    for malicious in (text + line, line + text):
        (ana.project / ".dorkyrc").write_text(malicious)
        ana("pull", code=3)
        ana("rotate", code=3)
    assert not marker.exists()


def test_the_environment_goes_before_files(ana: Machine) -> None:
    stranger = age.generate()
    ana.env["DORKY_IDENTITY"] = stranger.secret
    said = ana("rotate", code=6)
    assert stranger.public in said.error
    assert stranger.secret not in said.err


def test_a_file_that_is_named_and_is_not_there(ana: Machine) -> None:
    ssh_key(ana)
    ana.env["DORKY_IDENTITY_FILE"] = "/nowhere/key"
    assert "/nowhere/key does not exist" in ana("rotate", code=6).error


# --- KMS ------------------------------------------------------------------------------------


def test_a_kms_key_lets_a_job_in(ana: Machine, s3_server: Server) -> None:
    env = {**s3_env(s3_server.endpoint), "AWS_ENDPOINT_URL_KMS": s3_server.endpoint}
    client = boto3.client(
        "kms",
        endpoint_url=s3_server.endpoint,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    arn = client.create_key()["KeyMetadata"]["Arn"]
    ana.env.update(env)
    ana("team", "add", "job", f"awskms:{arn}")
    ana.env.clear()
    # Whoever rotates needs no access to the KMS.
    ana("rotate")
    job = cloned(ana, "job")
    job("pull", code=6)
    job.env.update(env)
    job("pull")
    assert job.read(".env") == b"A=1\n"
    assert job("team", "list", "--json").json["members"][1]["how"] == "awskms"


def test_an_empty_identity_of_a_job(ana: Machine) -> None:
    job = cloned(ana, "job")
    job.env["DORKY_IDENTITY"] = ""
    assert "DORKY_IDENTITY, which is empty" in job("pull", code=6).error


def test_who_comes_back_with_another_key_asks_the_remote_first(ana: Machine) -> None:
    """What is cached is sealed for the key of before; the remote knows of the new one."""
    ben = cloned(ana, "ben")
    ben.env["DORKY_IDENTITY"] = ana.identity.read_text()
    ben("pull")
    made = age.generate()
    ana("team", "add", "ben", made.public)
    ana("group", "add", "prod", "*.env", "--member", "ana", "--member", "ben")
    ben.env["DORKY_IDENTITY"] = made.secret
    ben("pull", code=3)
    ben("trust", "--yes")  # the state was made by the key of before
    ben("pull")
    assert ben.read(".env") == b"A=1\n"


def test_a_clone_that_two_keys_use(ana: Machine) -> None:
    outside, inside = age.generate(), age.generate()
    for name, key in (("outside", outside), ("inside", inside)):
        ana("team", "add", name, key.public)
    ana.commit({"env/prod.env": "P=1\n"})
    ana("push")
    ana("group", "add", "prod", "env/**", "--member", "ana", "--member", "inside")
    job = cloned(ana, "job")
    job.env["DORKY_IDENTITY"] = outside.secret
    job("pull")
    assert not (job.project / "env").exists()
    job.env["DORKY_IDENTITY"] = inside.secret
    job("pull", code=3)
    job("trust", "--yes")
    job("pull")
    assert job.read("env/prod.env") == b"P=1\n"


def test_an_ssh_key_is_tried_beside_a_key_of_ones_own(ana: Machine) -> None:
    ben = cloned(ana, "ben")
    path = ssh_key(ben)
    said = ben("team", "join", "ben")
    assert f"Your new secret key is in {ben.identity}" in said.out
    ana("team", "add", "ben", f"@{path}.pub")
    ben("pull")
    assert ben.read(".env") == b"A=1\n"


def test_an_ssh_key_whose_passphrase_nobody_gives(ana: Machine) -> None:
    ben = cloned(ana, "ben")
    path = ssh_key(ben, "canary passphrase")
    ana("team", "add", "ben", f"@{path}.pub")
    assert "DORKY_SSH_PASSPHRASE" in ben("pull", code=6).hint
