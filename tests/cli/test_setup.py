"""init, clone, remote, destroy."""

from __future__ import annotations

import msgspec
import pytest
from machines import Machine
from servers import Remote
from terminals import Terminal

from dorky.keys import age
from dorky.results import DestroyPlan, Initialized, PullResult


def test_init_in_words(ana: Machine, file_url: Remote) -> None:
    lines = ana("init", file_url.url, "--name", "ana").out.splitlines()
    assert lines[0] == f"Started an encrypted repository in {ana.project}"
    assert lines[1] == f"Remote: file://{file_url.url}"
    (mine,) = age.parse(ana.identity.read_text(), "")
    assert lines[2] == f"Encrypted to ana: {mine.public}"
    assert lines[-1] == "Commit .dorkyrc to git; it holds no secrets."
    assert all(len(line) <= 80 for line in lines if str(ana.base) not in line)


def test_init_without_a_name_takes_that_of_the_author(ana: Machine) -> None:
    ana("config", "set", "--user", "user.name", "Ana Example <ana@example.test>")
    assert "\nEncrypted to ana-example: age1" in ana("init").out


def test_init_plain_and_local(ana: Machine) -> None:
    assert ana("init", "--plain").out.splitlines() == [
        f"Started an unencrypted repository in {ana.project}",
        "No remote yet: dorky remote add origin s3://bucket/prefix",
        f"Your new secret key is in {ana.identity};",
        "keep a copy somewhere safe, for without it you can't push any more.",
        "Commit .dorkyrc to git; it holds no secrets.",
    ]
    assert ana.identity.exists()  # it signs
    said = ana("init", code=3)
    assert said.error == f"There is a dorky repository at {ana.project} already"
    assert said.hint


def test_init_as_json(ana: Machine, file_url: Remote) -> None:
    said = ana("init", file_url.url, "--json")
    assert said.err == ""
    found = msgspec.json.decode(said.raw, type=Initialized)
    assert found.encrypted
    assert found.new_identity
    assert found.public_key.startswith("age1")
    assert "SECRET" not in said.out


def test_init_where_a_repository_is(shared: Machine, file_url: Remote) -> None:
    ben = shared.another("ben")
    said = ben("init", file_url.url, code=5)
    assert said.hint == f"dorky clone file://{file_url.url}"
    assert list(ben.project.iterdir()) == []


def test_clone_in_words_and_as_json(shared: Machine, file_url: Remote) -> None:
    ben = shared.another("ben")
    lines = ben("clone", file_url.url).out.splitlines()
    assert lines[0] == f"Cloned file://{file_url.url} into vault"
    assert lines[1].startswith("2 files at ")
    assert (ben.project / "vault" / ".env").read_text() == "KEY=2\n"
    found = msgspec.json.decode(ben("clone", file_url.url, "b", "--json").raw, type=PullResult)
    assert len(found.changes) == 2
    said = ben("clone", file_url.url, code=5)
    assert "exists and is not empty" in said.error
    said = ben("clone", "/nowhere/at/all", code=4)
    assert said.error == "file:///nowhere/at/all holds no dorky repository"
    assert said.hint


def test_remotes(project: Machine) -> None:
    assert project("remote", "list").out == ""
    project("remote", "add", "origin", "s3://acme-vault/payments", "--profile", "acme")
    assert project("remote", "list").out == "origin\ts3://acme-vault/payments\n"
    assert project("remote", "list", "--json").json == {"origin": "s3://acme-vault/payments"}
    said = project("remote", "add", "origin", "gs://other", code=3)
    assert said.hint == "dorky remote set-url origin URL"
    project("remote", "set-url", "origin", "s3://acme-vault-eu/payments")
    assert project("config", "get", "remotes.origin.profile").out == "acme\n"
    project("remote", "remove", "origin")
    assert project("remote", "list").out == ""
    assert project("remote", "remove", "origin", code=3).error
    assert project("remote", "add", "a b", "s3://x", code=2).error
    assert project("push", code=3).hint == "dorky remote add origin s3://bucket/prefix"


def test_destroy_never_asks_without_a_terminal(shared: Machine) -> None:
    said = shared("destroy", code=5)
    assert said.error == "Not confirmed: nothing was deleted"
    assert "--yes" in said.hint
    assert (shared.state / "dorky.db").exists()


def test_destroy_says_what_it_would_do(shared: Machine, file_url: Remote) -> None:
    shared.commit({"a": "1"})
    said = shared("destroy", "--dry-run")
    assert said.err.splitlines() == [
        f"Will delete .dorky/ and .dorkyrc in {shared.project}",
        "with 1 commit that no remote is known to have",
    ]
    said = shared("destroy", "--remote", "--dry-run")
    assert f"and the whole repository at file://{file_url.url}: " in said.err
    found = msgspec.json.decode(
        shared("destroy", "--remote", "--dry-run", "--json").raw, type=DestroyPlan
    )
    assert found.keys
    assert found.unpushed == 1
    assert (shared.state / "dorky.db").exists()


def test_destroy_keeps_the_files(shared: Machine, file_url: Remote) -> None:
    said = shared("destroy", "--yes")
    assert said.out == "Deleted.\n"
    assert shared.read(".env") == b"KEY=2\n"
    assert not (shared.project / ".dorkyrc").exists()
    assert not shared.own.exists()
    shared.another("ben")("clone", file_url.url, "here")


@pytest.mark.parametrize(("typed", "gone"), [("project\n", True), ("yes\n", False), ("\n", False)])
def test_destroy_asks_for_the_name(
    project: Machine, terminal: Terminal, typed: str, gone: bool
) -> None:
    shown = terminal(project, "destroy", until="to go on: ", typed=typed)
    assert "Type project to go on: " in shown.text
    assert shown.code == (0 if gone else 5)
    assert project.own.exists() is not gone


@pytest.mark.parametrize("url", ["", " "])
def test_an_empty_url(project: Machine, url: str) -> None:
    """A script whose variable is not set must not make a project that nobody else can pull."""
    new = project.another("new")
    project("remote", "add", "origin", "s3://acme/x")
    for machine, command in (
        (new, ("init", url)),
        (new, ("clone", url)),
        (new, ("clone", url, "here")),
        (project, ("remote", "set-url", "origin", url)),
        (project, ("remote", "add", "second", url)),
    ):
        said = machine(*command, code=2)
        assert said.error == "'' is not a remote URL: it is empty"
    assert list(new.project.iterdir()) == []
    assert project("remote", "list").out == "origin\ts3://acme/x\n"


@pytest.mark.parametrize("typed", ["s3:/b/x", "s3:b/x", "https://b.s3.amazonaws.com/x"])
@pytest.mark.parametrize("how", ["DORKY_URL", ".dorkyrc"])
def test_a_mistyped_url_of_a_project(project: Machine, typed: str, how: str) -> None:
    """It names no directory below the project."""
    if how == "DORKY_URL":
        project.env["DORKY_URL"] = typed
    else:
        text = project.read(".dorkyrc").decode()
        project.write(".dorkyrc", f'{text}\n[remotes.origin]\nurl = "{typed}"\n'.encode())
    for command in ("fetch", "push", "pull"):
        assert "did you mean s3://b/x?" in project(command, code=2).error
