"""config get, set, unset, list: two files, the environment, and where each value comes from."""

from __future__ import annotations

import pytest
from machines import Machine


@pytest.fixture
def local(ana: Machine) -> Machine:
    ana("init", "--plain")
    return ana


def test_values_and_where_they_come_from(local: Machine) -> None:
    local("remote", "add", "origin", "s3://acme-vault/payments", "--region", "eu-central-1")
    local("config", "set", "user.name", "Ana Example")
    local.env["DORKY_AUTHOR"] = "Somebody Else"
    lines = local("config", "list").out.splitlines()
    rc, user = local.project / ".dorkyrc", local.home / ".dorky" / "config"
    assert f"remotes.origin.region = eu-central-1\t({rc})" in lines
    assert "user.name = Somebody Else\t(environment (DORKY_AUTHOR))" in lines
    del local.env["DORKY_AUTHOR"]
    assert f"user.name = Ana Example\t({user})" in local("config", "list").out.splitlines()
    found = local("config", "list", "--json").json
    assert {"key": "user.name", "value": "Ana Example", "source": str(user)} in found
    explained = {each["key"]: each for each in local("config", "list", "--all", "--json").json}
    assert explained["user.name"]["environment"] == "DORKY_AUTHOR"
    assert explained["user.name"]["about"] in local("config", "list", "--all").out
    assert local("config", "get", "user.name").out == "Ana Example\n"
    assert local("config", "get", "user.name", "--json").json["source"] == str(user)


def test_set_and_unset_keep_the_rest_of_the_file(local: Machine) -> None:
    rc = local.project / ".dorkyrc"
    rc.write_text("# ours\n" + rc.read_text() + "\n# the end\n")
    before = rc.read_text()
    local("config", "set", "portable_names", "no")
    assert local("config", "get", "portable_names").out == "false\n"
    assert "# ours" in rc.read_text()
    local("config", "unset", "portable_names")
    assert rc.read_text().split() == before.split()
    said = local("config", "unset", "portable_names", code=1)
    assert said.error == "portable_names is not set there"


def test_what_is_the_users_goes_to_the_users_file(local: Machine) -> None:
    local("config", "set", "user.name", "Ana")
    local("config", "set", "--user", "remotes.origin.profile", "acme")
    assert "Ana" not in (local.project / ".dorkyrc").read_text()
    text = (local.home / ".dorky" / "config").read_text()
    assert "Ana" in text
    assert "acme" in text
    local("config", "unset", "--user", "remotes.origin.profile")
    assert "acme" not in (local.home / ".dorky" / "config").read_text()


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["get", "nope"], 2, "There is no setting nope"),
        (["get", "user.name"], 4, "user.name is not set"),
        (["set", "nope", "x"], 2, "There is no setting nope"),
        (["set", "portable_names", "perhaps"], 2, "portable_names is true or false, not perhaps"),
        (["set", "user.name"], 2, "Missing argument VALUE"),
        (["lst"], 2, "dorky config has no command lst"),
    ],
)
def test_settings_that_are_refused(local: Machine, words: list[str], code: int, error: str) -> None:
    said = local("config", *words, code=code)
    assert said.error == error
    if words == ["lst"]:
        assert said.hint == "did you mean dorky config list?"


def test_every_setting_is_explained(local: Machine) -> None:
    text = local("config", "list", "--all").out
    for key in ("remotes.*.url", "user.name", "identity", "portable_names"):
        assert f"{key}\n    " in text
    assert "environment: DORKY_IDENTITY_FILE" in text


def test_outside_of_a_project(ana: Machine) -> None:
    ana("config", "set", "--user", "user.name", "Ana")
    assert ana("config", "get", "user.name").out == "Ana\n"
    assert ana("config", "set", "portable_names", "no", code=3).hint.startswith("dorky init")
