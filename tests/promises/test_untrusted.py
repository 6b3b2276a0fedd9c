"""What `.dorkyrc`, a git branch and a bucket may not have anybody do unasked."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from attacks import DIRECTORY, RawForge
from machines import Machine, started
from servers import Remote

from dorky import config, errors, files
from dorky.config import Choice, Config
from dorky.drivers import consent

TIMEOUT = 60


def cloned(machine: Machine, name: str, *, identity: bool = True) -> Machine:
    """A fresh git clone of a project: `.dorkyrc` and nothing else."""
    made = machine.another(name, identity=identity)
    shutil.copy(machine.project / ".dorkyrc", made.project)
    return made


def rc(machine: Machine, text: str) -> None:
    """What a git branch brings."""
    (machine.project / ".dorkyrc").write_text(text)


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    """A project whose repository is encrypted, with one commit pushed."""
    return started(tmp_path / "ana", file_url, {".env": "A=1\n"}, "--name", "ana")


@pytest.fixture
def plain(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """One whose repository is not."""
    made = Machine(tmp_path / "eve", {})
    made("init", tmp_path_factory.mktemp("open") / "vault", "--plain")
    made.commit({".env": "E=1\n"}, "one")
    made("push")
    return made


def vault(machine: Machine) -> Path:
    """Where the remote is, whatever `.dorkyrc` says later."""
    with machine.repo() as repo:
        return Path(repo.config.url("origin"))


# --- repositories that are not encrypted ------------------------------------------------------


def test_a_clone_of_what_is_not_encrypted_asks_for_a_word(plain: Machine) -> None:
    url = vault(plain)
    ben = plain.another("ben")
    said = ben("clone", url, "here", code=7)
    assert "is not encrypted" in said.error
    assert said.hint.endswith(f"dorky clone {url} --plain")
    assert list(ben.project.iterdir()) == []
    said = ben("clone", url, "here", "--plain")
    assert f"anyone who can read file://{url} can read" in said.err
    assert "unencrypted = true" in (ben.project / "here/.dorkyrc").read_text()
    found = ben("clone", url, "there", "--plain", "--json").json
    assert (found["unencrypted"], found["fingerprint"]) == (True, "")
    # Said once, in .dorkyrc: whoever has that needs no word more, and is told what it is.
    said = cloned(plain, "carl")("pull")
    assert "Not encrypted: anyone who can read" in said.err


def test_a_dorkyrc_without_a_word_is_no_word(plain: Machine) -> None:
    url = vault(plain)
    ben = plain.another("ben")
    for text in (
        f'version = 2\n[remotes.origin]\nurl = "{url}"\n',
        (plain.project / ".dorkyrc").read_text().replace("unencrypted = true\n", ""),
    ):
        rc(ben, text)
        for command in ("pull", "fetch", "sync"):
            said = ben(command, code=7)
            assert "is not encrypted" in said.error
            assert said.hint.endswith("dorky pull --plain")
        assert not (ben.project / ".env").exists()
        assert not ben.state.exists()
    ben("pull", "--plain")
    assert ben.read(".env") == b"E=1\n"
    ben("pull")  # known from now on


def test_by_the_environment_alone(plain: Machine) -> None:
    ben = plain.another("ben")
    ben.env["DORKY_URL"] = str(vault(plain))
    ben("pull", code=7)
    ben("sync", code=7)
    ben("download", "main:.env", ".", "--remote", ben.env["DORKY_URL"], code=7)
    ben("download", "main:.env", ".", "--remote", ben.env["DORKY_URL"], "--plain")
    (ben.project / ".env").unlink()
    ben("pull", "--plain")
    ben("fetch")


def test_the_word_for_one_project_is_not_for_all(plain: Machine, ana: Machine) -> None:
    said = ana("config", "set", "--user", "repository.unencrypted", "true", code=2)
    assert "project's" in said.error
    path = ana.home / ".dorky" / "config"
    path.write_text("[repository]\nunencrypted = true\n")
    assert "only stand in a project's .dorkyrc" in ana("status", code=3).error


@pytest.mark.parametrize("whole", [True, False], ids=["its own .dorkyrc", "ours, changed"])
def test_a_branch_does_not_turn_a_clone_into_an_open_one(
    ana: Machine, plain: Machine, whole: bool
) -> None:
    """Whatever a branch says: what was encrypted stays so, and nothing goes elsewhere."""
    url = vault(plain)
    before = {path: path.read_bytes() for path in url.rglob("*") if path.is_file()}
    ana.commit({"secret": "PLAINTEXT"}, "two")
    if whole:
        rc(ana, (plain.project / ".dorkyrc").read_text())
    else:
        text = f'version = 2\n[repository]\nunencrypted = true\n[remotes.origin]\nurl = "{url}"\n'
        rc(ana, text)
    for command in ("push", "sync", "pull", "fetch"):
        said = ana.run(command)
        assert said.code == 7, said
        assert {path: path.read_bytes() for path in url.rglob("*") if path.is_file()} == before
    assert ana.read(".env") == b"A=1\n"


def test_an_open_clone_does_not_go_over_to_another(plain: Machine, tmp_path: Path) -> None:
    eve = Machine(tmp_path / "another", {})
    eve("init", tmp_path / "elsewhere", "--plain")
    ben = cloned(plain, "ben")
    ben("pull")
    rc(ben, (eve.project / ".dorkyrc").read_text())
    assert "holds another repository" in ben("pull", code=7).error


def test_an_open_root_in_place_of_an_encrypted_one(ana: Machine, file_url: Remote) -> None:
    """By whoever writes to the bucket, and knows the id, which is no secret."""
    from dorky.format.model import Header, Root
    from dorky.keys.vault import Vault
    from dorky.remote import root as roots

    ben, carl = cloned(ana, "ben"), cloned(ana, "carl")
    ben("pull")
    path = Path(file_url.url) / "root"
    header, _ = roots.read_header(path.read_bytes(), "")
    forged = roots.encode(
        Header(2, header.repository, ()), Root(99, "0" * 32), Vault(header.repository, ())
    )
    path.write_bytes(forged)
    for machine in (ana, ben, carl):
        assert machine.run("pull").code == 7
    dan = carl.another("dan")
    dan("clone", file_url.url, ".", code=7)
    dan("clone", file_url.url, ".", "--plain", "--fingerprint", "0" * 64, code=7)


# --- fingerprints -----------------------------------------------------------------------------


def test_a_clone_says_what_to_compare(ana: Machine, file_url: Remote) -> None:
    mine = ana("config", "get", "repository.fingerprint").out.strip()
    ben = ana.another("ben")
    said = ben("clone", file_url.url, "here")
    assert f"Its fingerprint: {mine}" in said.err
    assert "dorky config get repository.fingerprint" in said.err
    assert ben("clone", file_url.url, "b", "--json").json["fingerprint"] == mine
    # A pull that has nothing to compare with says it, too; one that has, has compared.
    bare = ana.another("bare")
    bare.env["DORKY_URL"] = file_url.url
    assert mine in bare("pull").err
    assert mine not in bare("pull").err
    assert mine not in cloned(ana, "carl")("pull").err


def test_a_clone_may_demand_one(ana: Machine, file_url: Remote) -> None:
    mine = ana("config", "get", "repository.fingerprint").out.strip()
    ben = ana.another("ben")
    ben("clone", file_url.url, "here", "--fingerprint", "0" * 64, code=7)
    assert "64 hex digits" in ben("clone", file_url.url, "here", "--fingerprint", "x", code=2).error
    assert list(ben.project.iterdir()) == []
    ben("clone", file_url.url, "here", "--fingerprint", mine)
    ana("rotate")
    ben("clone", file_url.url, "later", "--fingerprint", mine)


# --- names in trees -----------------------------------------------------------------------------

RC = b'version = 2\n[remotes.origin]\nendpoint = "https://evil.example"\nprofile = "prod-admin"\n'
SPELLINGS = [
    *(".dorkyrc", ".DorkyRC", ".dorkyrc.", ".dorkyrc ", ".dorkyrc::$DATA", "DORKYR~1", "dorkyr~2"),
    *(".dork\u200cyrc", ".dorkyr\uff43", "\uff0edorkyrc", "git~2", "dorky~3"),
]


@pytest.fixture
def forge(ana: Machine) -> Iterator[RawForge]:
    with ana.repo() as repo:
        yield RawForge(repo)


def directory(forge: RawForge, name: str, *entries: dict[str, object]) -> dict[str, object]:
    ordered = sorted(entries, key=lambda entry: str(entry["name"]).encode())
    return {"name": name, "mode": DIRECTORY, "content": forge.tree(*ordered)}


def file(forge: RawForge, name: str, body: bytes = b"evil", **more: object) -> dict[str, object]:
    return forge.file(name, body, sha256=hashlib.sha256(body).hexdigest(), **more)


def publish(forge: RawForge, *entries: dict[str, object], parent: str = "") -> str:
    """Make a commit of these entries the newest, as somebody by hand."""
    tree = str(directory(forge, "", *entries)["content"])
    head = forge.commit(tree, **({"parents": [parent]} if parent else {}))
    forge.publish(head)
    return head


@pytest.mark.parametrize("name", SPELLINGS, ids=ascii)
def test_a_dorkyrc_does_not_come_out_of_a_bucket(ana: Machine, forge: RawForge, name: str) -> None:
    ben = cloned(ana, "ben")
    ben("pull")
    inner = directory(forge, "sub", file(forge, name, RC), file(forge, "fine"))
    head = publish(forge, file(forge, name, RC), file(forge, "fine"), inner)
    url = vault(ana)
    ben("pull")
    carl = ana.another("carl")
    said = carl("clone", url, ".")
    for machine in (ben, carl):
        found = {
            path.relative_to(machine.project).as_posix() for path in machine.project.rglob("*")
        }
        found = {path for path in found if not path.startswith(".dorky/")}
        assert found == {".dorky", ".dorkyrc", "fine", "sub", "sub/fine"}
        assert "evil.example" not in (machine.project / ".dorkyrc").read_text()
        # It is gone with the next commit; nobody was stopped by it.
        assert machine("status", "-s").out == ""
    assert "Left out" in said.err
    assert carl("clone", url, "again", "--json").json["left_out"] == [name]
    carl("download", f"main:sub/{name}", "there", code=2)
    # Ben has edited meanwhile: a merge has none of it either.
    ben.commit({"fine": "ben's"})
    publish(forge, file(forge, name, RC), file(forge, "fine"), file(forge, "new"), parent=head)
    ben("pull")
    assert not (ben.project / "sub" / name).exists()


def test_no_dorkyrc_is_staged(ana: Machine) -> None:
    for name in ("sub/.dorkyrc", "sub/.DORKYRC", "sub/DORKYR~1"):
        ana.write(name, "version = 2\n")
        said = ana("stage", name, code=2)
        assert "can't be stored" in said.error
    ana.write("sub/other", "1")
    (ana.project / "sub/.DORKYRC").unlink()
    (ana.project / "sub/DORKYR~1").unlink()
    # A nested project is no reason to stop; it is passed over.
    ana.write("own", "1")
    found = ana("stage", ".", "--json").json
    assert [each["path"] for each in found["changes"]] == ["own"]
    assert found["nested"] == ["sub"]


HEAD = b"ref: refs/heads/main\n"
CONFIG = (
    b"[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = .\n"
    b'\tfsmonitor = "touch %s;false"\n'
)


def git(cwd: Path, *words: str, home: Path) -> subprocess.CompletedProcess[str]:
    env = {"HOME": str(home), "PATH": os.environ["PATH"]}
    return subprocess.run(
        ["git", *words],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def repository(
    forge: RawForge, name: str, config: bytes, spell: Sequence[str]
) -> dict[str, object]:
    head, objects, refs = spell
    return directory(
        forge,
        name,
        file(forge, head, HEAD),
        file(forge, "config", config),
        directory(forge, objects, file(forge, "x")),
        directory(forge, refs, file(forge, "x")),
        file(forge, "other"),
    )


@pytest.mark.parametrize(
    "spell",
    [("HEAD", "objects", "refs"), ("head", "OBJECTS", "ref\u200cs")],
    ids=["git's", "other"],
)
def test_a_tree_that_git_takes_for_a_repository(
    ana: Machine, forge: RawForge, tmp_path: Path, spell: Sequence[str]
) -> None:
    owned = tmp_path / "owned"
    made = repository(forge, "sub", CONFIG % os.fsencode(owned), spell)
    publish(forge, file(forge, "fine"), directory(forge, "deep", made), made)
    ben = cloned(ana, "ben")
    said = ben("pull")
    assert "deep/sub/" in said.err
    assert ben.read("fine") == b"evil"
    assert not (ben.project / "sub").exists()
    assert not (ben.project / "deep").exists()
    (ben.project / "sub").mkdir()
    git(ben.project / "sub", "status", home=ben.home)
    assert not owned.exists()
    # Nor by any other way to the disk.
    for words in (
        ["restore", "."],
        ["checkout", "HEAD"],
        ["pull", "sub"],
        ["restore", "sub/other"],
    ):
        ben.run(*words)
        assert {path.name for path in (ben.project / "sub").iterdir()} <= {"other"}


def test_a_repository_made_of_what_is_there_and_what_comes(
    ana: Machine, forge: RawForge, tmp_path: Path
) -> None:
    ben = cloned(ana, "ben")
    ben("pull")
    ben.write("sub/objects/x", "mine")
    ben.write("sub/refs/x", "mine")
    head = publish(
        forge,
        file(forge, "HEAD", HEAD),
        file(forge, "commondir", b"elsewhere\n"),
        directory(forge, "sub", file(forge, "HEAD", HEAD), file(forge, "config")),
    )
    said = ben("pull")
    assert {path.name for path in (ben.project / "sub").iterdir()} == {"objects", "refs"}
    assert not (ben.project / "HEAD").exists()
    assert not (ben.project / "commondir").exists()
    assert "sub/HEAD" in said.err
    # A repository of one's own gets no hooks either.
    ben.write("vendor.git/HEAD", HEAD.decode())
    ben.write("vendor.git/objects/x", "")
    ben.write("vendor.git/refs/x", "")
    hook = directory(forge, "hooks", file(forge, "post-update", mode=0o100755))
    publish(forge, directory(forge, "vendor.git", hook), parent=head)
    ben("pull")
    assert not (ben.project / "vendor.git/hooks").exists()


def test_what_only_looks_like_one_is_kept(ana: Machine) -> None:
    names = ["a/HEAD", "a/refs/x", "b/objects/x", "b/refs/x", "head/objects/x", "head/refs/x"]
    ana.commit(dict.fromkeys(names, "1"))
    ana("push")
    ben = cloned(ana, "ben")
    assert "Left out" not in ben("pull").err
    assert all(ben.read(name) == b"1" for name in names)


def test_no_repository_of_gits_is_staged(ana: Machine) -> None:
    for name in ("x.git/HEAD", "x.git/objects/x", "x.git/refs/x", "x.git/config"):
        ana.write(name, "1")
    said = ana("stage", "x.git", code=2)
    assert "git takes its directory for a repository" in said.error
    assert said.hint == "echo /x.git/ >> .dorkyignore"
    ana("stage", "x.git/config", code=2)
    (ana.project / ".dorkyignore").write_text("/x.git/\n")
    ana("stage", ".")


GITS = [".gitignore", ".gitattributes", ".gitmodules", ".dorkyignore", ".GitIgnore"]


@pytest.mark.parametrize("name", GITS)
def test_what_git_takes_orders_from_stays_gits(ana: Machine, forge: RawForge, name: str) -> None:
    """In a git repository; elsewhere it is a file like any other."""
    inner = directory(forge, "sub", file(forge, name, b"!.env\n"), file(forge, ".envrc"))
    publish(forge, inner)
    inside, outside = cloned(ana, "inside"), cloned(ana, "outside")
    assert git(inside.project, "init", "-q", home=inside.home).returncode == 0
    assert name in inside("pull").err
    assert not (inside.project / "sub" / name).exists()
    assert inside.read("sub/.envrc") == b"evil"
    outside("pull")
    assert outside.read(f"sub/{name}") == b"!.env\n"


# --- consent ------------------------------------------------------------------------------------

EVIL = 'endpoint = "http://127.0.0.1:9"\n'
PROFILE = 'profile = "prod-admin"\n'


@pytest.fixture
def victim(tmp_path: Path) -> Machine:
    """A user with a profile that runs a program, in a git clone."""
    made = Machine(tmp_path / "victim", {"AWS_EC2_METADATA_DISABLED": "true"})
    aws = made.home / ".aws"
    aws.mkdir()
    ran = made.base / "ran"
    program = made.base / "program"
    answer = {"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "s", "SessionToken": "t"}
    program.write_text(f"#!/bin/sh\ntouch {ran}\necho '{json.dumps(answer)}'\n")
    program.chmod(0o700)
    (aws / "config").write_text(f"[profile prod-admin]\ncredential_process = {program}\n")
    (aws / "credentials").write_text(
        "[default]\naws_access_key_id = A\naws_secret_access_key = s\naws_session_token = t\n"
    )
    return made


def s3(machine: Machine, text: str, url: str = "s3://acme-vault/x") -> None:
    rc(machine, f'version = 2\n[remotes.origin]\nurl = "{url}"\n{text}')


@pytest.mark.each_value
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (EVIL, ["--endpoint", "http://127.0.0.1:9"]),
        (PROFILE, ["--profile", "prod-admin"]),
        (EVIL + PROFILE, ["--endpoint", "http://127.0.0.1:9", "--profile", "prod-admin"]),
    ],
    ids=["endpoint", "profile", "both"],
)
@pytest.mark.parametrize("command", ["pull", "fetch", "sync", "doctor"])
def test_a_dorkyrc_chooses_no_credentials_unasked(
    victim: Machine, text: str, words: list[str], command: str
) -> None:
    s3(victim, text)
    said = victim.run(command)
    told = said.out if command == "doctor" else said.err
    assert "which you have not allowed yet" in told
    assert " ".join(["dorky remote allow s3://acme-vault", *words]) in told
    assert not (victim.base / "ran").exists()
    if command != "doctor":
        assert said.code == 6
        assert not victim.state.exists()


def test_allowed_once_and_for_no_more_than_that(victim: Machine) -> None:
    def may(text: str, url: str = "s3://acme-vault/x") -> bool:
        s3(victim, text, url)
        with victim.here():
            return not consent.is_missing(Config(victim.project), "origin")

    victim("remote", "allow", "s3://acme-vault", "--endpoint", "https://s3.example.test")
    assert victim("remote", "allow", "s3://acme-vault", "--profile", "acme").code == 0
    victim("remote", "allow", "s3://acme-vault/y", "--profile", "acme", code=1)
    victim("remote", "allow", "s3://acme-vault", code=2)
    victim("remote", "allow", "s3://x", "--endpoint", "http://a:b@evil", code=2)
    path = victim.home / ".dorky" / consent.FILE
    assert path.stat().st_mode & 0o777 == 0o600
    good = 'endpoint = "https://s3.example.test"\n'
    assert may(good)
    assert may(good, "S3://acme-vault/another/prefix")
    assert may(good + 'region = "eu-west-1"\n')
    assert may('profile = "acme"\n')
    assert may("")
    assert may('profile = "default"\n')
    assert not may(good, "s3://evil-bucket/x")
    assert not may(good + 'profile = "acme"\n')
    assert not may(good.replace("https", "http"))
    assert not may(good.replace("example.test", "example.test:444"))
    assert not may(good.replace("s3.example", "s4.example"))
    assert not may('profile = "prod-admin"\n')
    # Neither a directory nor Google's storage takes any of it.
    assert may(EVIL + PROFILE, "gs://acme-vault/x")
    assert may(EVIL + PROFILE, "/srv/vault")
    assert may(EVIL + PROFILE, "file:///srv/vault")
    assert not may(EVIL, "third-party://x")


def test_what_the_user_says_elsewhere_needs_no_more(victim: Machine) -> None:
    s3(victim, EVIL + PROFILE)
    user = victim.home / ".dorky" / "config"
    for env, own, missing in (
        ({"AWS_ENDPOINT_URL": "http://one.test"}, "", Choice("s3://acme-vault", "", "prod-admin")),
        ({"AWS_ENDPOINT_URL_S3": "http://one.test", "AWS_PROFILE": "mine"}, "", None),
        ({"AWS_PROFILE": "mine"}, "", Choice("s3://acme-vault", "http://127.0.0.1:9", "")),
        ({}, PROFILE, Choice("s3://acme-vault", "http://127.0.0.1:9", "")),
        ({}, EVIL + PROFILE, None),
        # Keys in the environment: no profile is looked at, but they would go to the endpoint.
        (
            {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "s"},
            "",
            Choice("s3://acme-vault", "http://127.0.0.1:9", ""),
        ),
    ):
        user.parent.mkdir(exist_ok=True)
        user.write_text(f"[remotes.origin]\n{own}")
        settings = Config(victim.project, environment={"HOME": str(victim.home), **env})
        assert settings.chosen("origin") == missing


def test_what_is_typed_is_allowed_by_that(ana: Machine) -> None:
    def missing() -> bool:
        with ana.here():
            return consent.is_missing(Config(ana.project), "origin")

    ana("remote", "remove", "origin")
    ana(
        "remote", "add", "origin", "s3://acme/x", "--profile", "acme", "--endpoint", "http://a.test"
    )
    assert not missing()
    ana("remote", "set-url", "origin", "s3://acme-eu/x")
    assert not missing()
    ana("config", "set", "remotes.origin.endpoint", "http://b.test")
    assert not missing()
    # But not together with what a branch has brought in between.
    text = ana.read(".dorkyrc").decode()
    rc(ana, text.replace("http://b.test", "http://evil.test"))
    assert missing()
    ana("config", "set", "remotes.origin.profile", "other")
    assert missing()
    # Another place has none of the options of the old one, so nothing is left to be allowed.
    ana("remote", "set-url", "origin", "s3://acme/x")
    assert "evil" not in ana.read(".dorkyrc").decode()
    assert not missing()


def test_init_and_clone_allow_what_is_typed(tmp_path: Path, s3_url: Remote) -> None:
    endpoint = s3_url.env["AWS_ENDPOINT_URL"]
    env = {name: value for name, value in s3_url.env.items() if "ENDPOINT" not in name}
    ana = Machine(tmp_path / "a", env)
    ana("init", s3_url.url, "--endpoint", endpoint)
    ana.commit({"a": "1"})
    ana("push")
    ben = ana.another("ben")
    ben("clone", s3_url.url, ".", "--endpoint", endpoint)
    ben("pull")
    carl = cloned(ana, "carl")
    said = carl("pull", code=6)
    # What the hint says works, also where nobody can be asked.
    assert said.hint.startswith("if that is right: dorky remote allow ")
    carl(*said.hint.split("dorky ")[1].split())
    carl("pull")
    # And so does what a CI job says of its own.
    dan = cloned(ana, "dan")
    dan.env["AWS_ENDPOINT_URL"] = endpoint
    dan("pull")
    assert not (dan.home / ".dorky" / consent.FILE).exists()


def test_the_list_is_the_users_own(victim: Machine, tmp_path: Path) -> None:
    s3(victim, PROFILE)
    path = victim.home / ".dorky" / consent.FILE
    path.parent.mkdir(mode=0o700)
    good = json.dumps([["s3://acme-vault", "", "prod-admin"]])
    path.write_text(good)
    path.chmod(0o666)
    assert "other users can write" in victim("pull", code=3).error
    path.unlink()
    (tmp_path / "planted").write_text(good)
    path.symlink_to(tmp_path / "planted")
    victim("pull", code=3)
    path.unlink()
    for text in ("{", "[1]", "[" * 100_000, '[["a"]]', "null x"):
        path.write_text(text)
        said = victim("pull", code=3)
        assert said.hint == f"rm {path}"
    assert not (victim.base / "ran").exists()


def test_without_a_home_nothing_is_allowed(victim: Machine) -> None:
    s3(victim, PROFILE)
    settings = Config(victim.project, environment={"HOME": str(victim.base / "file" / "x")})
    (victim.base / "file").touch()
    asked: list[Choice] = []
    with pytest.raises(errors.DorkyError):
        consent.check(settings, "origin", None)
    assert asked == []


@pytest.mark.parametrize(("answer", "code"), [(True, 4), (False, 6)])
def test_asked_once(victim: Machine, answer: bool, code: int) -> None:
    from dorky.repo import Repository

    s3(victim, EVIL + PROFILE)
    asked = []

    def agree(choice: Choice) -> bool:
        asked.append(choice)
        return answer

    expected = Choice("s3://acme-vault", "http://127.0.0.1:9", "prod-admin")
    with victim.here(), Repository(victim.project, agree=agree) as repo:
        for _ in range(2):
            try:
                repo.driver()
            except errors.NotAllowed:
                assert not answer
    assert asked == [expected] * (1 if answer else 2)
    assert "(not encrypted)" in consent.described(expected)


# --- the URL in .dorkyrc ------------------------------------------------------------------------


def test_a_branch_does_not_send_everything_to_an_empty_place(ana: Machine, tmp_path: Path) -> None:
    text = ana.read(".dorkyrc").decode()
    old, new = vault(ana), tmp_path / "elsewhere"
    rc(ana, text.replace(str(old), str(new)))
    ana.commit({"b": "2"})
    said = ana("status")
    assert f"has another URL for origin than before: {old}" in said.out
    assert ana("status", "--json").json["moved"] == str(old)
    for command in ("push", "sync"):
        said = ana(command, code=3)
        assert f"There is no repository at {new}, which only `.dorkyrc` names" in said.error
        assert said.hint.endswith(f"dorky remote set-url origin {new}")
        assert not new.exists()
    ana("pull", code=4)
    assert ana("status", "--json").json["moved"] == str(old)
    # By a command it is the user's own will.
    ana("remote", "set-url", "origin", new)
    assert ana("status", "--json").json["moved"] == ""
    ana("push")
    assert (new / "root").exists()


def test_a_move_that_the_team_made_is_said_once(ana: Machine, tmp_path: Path) -> None:
    ben = cloned(ana, "ben")
    ben("pull")
    old, new = vault(ana), tmp_path / "moved"
    shutil.copytree(old, new)
    ana("remote", "set-url", "origin", new)
    ana.commit({"b": "2"})
    ana("push")
    rc(ben, ana.read(".dorkyrc").decode())
    said = ben("pull")
    assert "has another URL for origin than before" in said.err
    assert str(old) in said.err
    assert ben.read("b") == b"2"
    assert "another URL" not in ben("pull").err
    assert "another URL" not in ben("status").out
    ben.commit({"c": "3"})
    ben("push")


def test_a_remote_that_only_a_branch_names(ana: Machine, tmp_path: Path) -> None:
    local = Machine(tmp_path / "local", {})
    local("init")
    local.commit({"a": "1"})
    place = tmp_path / "chosen"
    with (local.project / ".dorkyrc").open("a") as file:
        file.write(f'[remotes.origin]\nurl = "{place}"\n')
    local("push", code=3)
    assert not place.exists()
    local.env["DORKY_URL"] = str(place)
    local("push")
    assert (place / "root").exists()


# --- the file itself ----------------------------------------------------------------------------


def test_a_pipe_is_not_waited_for(ana: Machine) -> None:
    path = ana.project / ".dorkyrc"
    for make in (os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")):
        path.unlink() if path.is_file() or path.is_fifo() else None
        make(path)  # type: ignore[operator]
        with ana.here():
            done = subprocess.run(
                [sys.executable, "-m", "dorky", "status"],
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        assert done.returncode in (3, 8), done
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()


def test_a_link_shows_nothing_of_what_it_leads_to(ana: Machine, tmp_path: Path) -> None:
    (tmp_path / "theirs.toml").write_text('version = "SECRET"\n')
    (ana.project / ".dorkyrc").unlink()
    (ana.project / ".dorkyrc").symlink_to(tmp_path / "theirs.toml")
    assert "SECRET" not in ana("status", code=3).err


@pytest.mark.parametrize(
    "text",
    [
        'url = "s3://b/x\\u001b]0;owned\\u0007"',
        'url = "s3://b/\\u202ex"',
        'url = "s3://b/x\\nhint: rm -rf"',
        'region = "us-east-1.evil.example/?"',
        'region = "eu west"',
        'endpoint = "http://169.254.169.254/latest/meta-data/?"',
        'endpoint = "https://key:secret@evil.example"',
        'endpoint = "https://evil.example/#"',
        'endpoint = "https://evil.example\\\\@good.example"',
        'endpoint = "ftp://evil.example"',
        'endpoint = "https://"',
        "url = [" + "[" * 500 + "]" * 500 + "]",
        "url = [" + '"x", ' * 100_000 + "]",
        "surprise = 1",
    ],
    ids=range(14),
)
def test_values_that_lead_astray(tmp_path: Path, text: str) -> None:
    path = tmp_path / ".dorkyrc"
    path.write_text(f"version = 2\n[remotes.origin]\n{text}\n")
    with pytest.raises(errors.BadConfig) as caught:
        config.read(path, "project")
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    "endpoint",
    [
        *("https://s3.example.test", "http://127.0.0.1:9000", "http://[::1]:9000", "http://nas"),
        *("https://s3.example.test/tenant/a", "https://x.example.test:443/"),
    ],
)
def test_endpoints_that_there_are(endpoint: str) -> None:
    config.check("remotes.origin.endpoint", endpoint)


def test_a_byte_order_mark_is_said(tmp_path: Path) -> None:
    path = tmp_path / ".dorkyrc"
    path.write_bytes(b"\xef\xbb\xbfversion = 2\n")
    with pytest.raises(errors.BadConfig):
        config.read(path, "project")


@pytest.mark.parametrize(
    ("names", "git"),
    [
        (["HEAD", "objects", "refs"], True),
        (["head", "Objects", "REFS.", "x"], True),
        (["HEAD", "commondir"], True),
        (["HEAD", "objects"], False),
        (["objects", "refs", "commondir", "config"], False),
        ([], False),
    ],
)
def test_git_directories(names: list[str], git: bool) -> None:
    for each in itertools.permutations(names):
        assert files.is_git_directory(each) is git
