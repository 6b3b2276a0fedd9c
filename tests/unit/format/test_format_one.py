"""Data of the first, unreleased format: a clear error wherever dorky meets it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest
from machines import Machine, driver_of
from servers import Remote as Place

from dorky import errors
from dorky.config import Config
from dorky.drivers.base import Version
from dorky.format import model
from dorky.remote import root as roots

SAID = "was written by an earlier, unreleased version of dorky (format 1)"


@pytest.fixture
def ana(tmp_path: Path, file_url: Place) -> Machine:
    made = Machine(tmp_path / "ana", file_url.env)
    made("init", file_url.url)
    made.commit({".env": "A=1\n"})
    made("push")
    return made


@pytest.mark.parametrize("options", [[], ["--plain"]], ids=["encrypted", "unencrypted"])
def test_a_root(tmp_path: Path, file_url: Place, options: list[str]) -> None:
    ana = Machine(tmp_path / "ana", file_url.env)
    ana("init", file_url.url, *options)
    ana.commit({".env": "A=1\n"})
    ana("push")
    with ana.repo() as repo:
        header = msgspec.structs.replace(repo.header, format=1)
        seen = repo.remote().read()
        assert seen
        data = roots.encode(header, seen[0].root, repo.vault)
    driver = driver_of(file_url)
    blob = driver.get("root")
    assert blob
    driver.swap("root", data, expected=Version(blob.version))
    before = ana.files()
    ana.write(".env", "A=2\n")
    ana("stage", ".env")
    ana("commit", "-m", "mine")
    ben = ana.another("ben")
    for machine, *command in (
        (ana, "pull"),
        (ana, "fetch"),
        (ana, "push"),
        (ana, "fsck", "--remote"),
        (ana, "fsck", "--remote", "--keyless"),
        (ben, "clone", file_url.url, "."),
    ):
        said = machine(*command, code=3)
        assert SAID in said.error
        assert "dorky init" in said.hint
    assert driver.get("root").data == data  # type: ignore[union-attr]
    assert ana.files() == {**before, ".env": ana.files()[".env"]}


def test_the_local_state(ana: Machine) -> None:
    with ana.repo() as repo:
        path = repo.database.path
        header = msgspec.structs.replace(repo.header, format=1)
        repo.database.set("header", model.encode(header))
    ana.write(".env", "A=2\n")
    for command in (["pull"], ["stage", ".env"], ["fsck"], ["fsck", "--repair"]):
        assert SAID in ana(*command, code=3).error
    with sqlite3.connect(path) as database:
        database.executescript("PRAGMA user_version=2; PRAGMA application_id=0")
    database.close()
    for command in (["status"], ["log"], ["pull"], ["fsck"], ["fsck", "--repair"], ["gc"]):
        said = ana(*command, code=3).error
        assert SAID.replace("1", "2") in said
    assert path.exists()


def test_dorkyrc(ana: Machine) -> None:
    rc = ana.project / ".dorkyrc"
    rc.write_text(rc.read_text().replace("version = 2", "version = 1"))
    said = ana("pull", code=3)
    assert f"{rc} {SAID}" in said.error


def test_a_users_own_settings_have_no_format(tmp_path: Path) -> None:
    """They hold neither keys nor data, so those of before hold."""
    home = tmp_path / "home"
    (home / ".dorky").mkdir(parents=True, mode=0o700)
    config = home / ".dorky/config"
    config.touch(0o600)
    config.write_text("version = 1\n[user]\nname = 'Ana'\n")
    assert Config(tmp_path, environment={"HOME": str(home)}).text("user.name") == "Ana"


def test_formats_that_never_were() -> None:
    for number, error in ((3, errors.FormatTooNew), (1, errors.FormatTooOld)):
        with pytest.raises(error) as caught:
            model.decode_header(b'{"format":%d,"anything":1}' % number, "it")
        assert caught.value.exit_code == 3
    for body in (b'{"format":0,"repository":"%s","epochs":[]}' % (b"a" * 32), b"{}", b"", b"[1]"):
        with pytest.raises(model.Malformed):
            model.decode_header(body, "it")
