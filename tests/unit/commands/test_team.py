"""Letting people in and out for good: on every kind of remote, each with a home of their own."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from machines import Machine, bucket, driver_of, files
from servers import Remote
from teams import admit, cloned, follow, joined, start

from dorky.keys import age
from dorky.remote import rotate

SECRET = re.compile(r"AGE-SECRET-KEY-1[0-9A-Z]+")


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    return start(tmp_path, file_url)


# --- from nothing to three readers ----------------------------------------------------------


def test_two_people_and_a_job_share_a_repository_in_under_ten_commands(
    tmp_path: Path, remote: Remote
) -> None:
    commands: list[tuple[object, ...]] = []

    def run(machine: Machine, *arguments: object, code: int = 0) -> object:
        commands.append(arguments)
        return machine(*arguments, code=code)

    ana = Machine(tmp_path / "ana", remote.env)
    ana.write(".env", "KEY=1\n")
    run(ana, "init", remote.url, "--name", "ana")  # 1
    run(ana, "stage", ".env")  # 2
    run(ana, "commit", "-m", "keys")  # 3
    run(ana, "push")  # 4

    ben = cloned(ana, "ben")
    asked = run(ben, "team", "join", "ben")  # 5
    (told,) = re.findall(r"SHA256:\S+", asked.out)  # type: ignore[attr-defined]
    run(ana, "team", "add", "ben", "--fingerprint", told)  # 6
    run(ben, "pull")  # 7
    assert ben.read(".env") == b"KEY=1\n"

    (secret,) = SECRET.findall(run(ana, "key", "gen", "--ci", "deploy").out)  # type: ignore[attr-defined]  # 8
    ci = cloned(ana, "ci")
    ci.env["DORKY_IDENTITY"] = secret
    run(ci, "pull")  # 9
    assert ci.read(".env") == b"KEY=1\n"
    assert not (ci.home / ".dorky" / "identity").exists()
    assert len(commands) < 10

    members = [each["name"] for each in ben("team", "list", "--json").json["members"]]
    assert members == ["ana", "ben", "deploy"]


def test_who_has_no_key_is_told_what_to_do(ana: Machine) -> None:
    ben = cloned(ana, "ben")
    said = ben("pull", code=6)
    assert "No age identity" in said.error
    assert said.hint.startswith("dorky team join, then tell a member of the team")
    assert not ben.own.exists()
    ben("key", "gen")
    said = ben("pull", code=6)
    assert "not encrypted for you" in said.error
    assert "dorky team join" in said.hint


def test_a_request_is_seen_by_members_alone_and_goes_when_it_is_granted(
    tmp_path: Path, remote: Remote
) -> None:
    ana = start(tmp_path, remote)
    ben = cloned(ana, "ben")
    asked = ben("team", "join", "ben-canary", "--json").json
    held = bucket(remote)
    (place,) = [key for key in held if key.startswith("join/")]
    recipient = asked["key"]["recipient"].encode()
    assert not any(b"canary" in data or recipient in data for data in held.values())

    found = ana("team", "list")
    assert asked["key"]["fingerprint"] in found.out
    assert "Ask to be let in: ben-canary" in ana("status").out
    # Without a terminal nobody is let in on a name alone.
    refused = ana("team", "add", "ben-canary", code=5)
    assert asked["key"]["fingerprint"] not in refused.hint  # else it would be pasted unread
    assert (
        "fingerprint" in ana("team", "add", "ben-canary", "--fingerprint", "SHA256:x", code=4).error
    )
    ana("team", "add", "ben-canary", "--fingerprint", asked["key"]["fingerprint"])
    assert place not in bucket(remote)
    assert "Ask to be let in" not in ana("team", "list").out


def test_two_requests_of_one_name_are_told_apart(ana: Machine) -> None:
    ben, eve = cloned(ana, "ben"), cloned(ana, "eve")
    told = ben("team", "join", "ben", "--json").json["key"]["fingerprint"]
    evil = eve("team", "join", "ben", "--json").json["key"]["fingerprint"]
    said = ana("team", "add", "ben", code=5)
    assert told in said.error
    assert evil in said.error
    ana("team", "add", "ben", "--fingerprint", told)
    ben("pull")
    eve("pull", code=6)


def test_rubbish_in_the_mailbox_is_passed_over(ana: Machine, file_url: Remote) -> None:
    driver = driver_of(file_url)
    driver.put("join/rubbish", b"not an age file")
    driver.put("join/large", b"x" * 10_000)
    driver.put("join/empty", b"")
    joined(ana, "ben")


def test_who_can_read_need_not_ask(ana: Machine) -> None:
    assert "already" in ana("team", "join", code=1).error
    assert "already" in ana("team", "add", "ana", ana("key", "show").out.strip(), code=1).error


def test_one_key_belongs_to_one_member(ana: Machine) -> None:
    public = ana("key", "show").out.strip()
    assert "ana's" in ana("team", "add", "ben", public, code=5).error


def test_a_member_may_have_several_keys(ana: Machine) -> None:
    laptop = cloned(ana, "laptop")
    laptop("key", "gen")
    ana("team", "add", "ana", laptop("key", "show").out.strip())
    laptop("pull")
    (me,) = laptop("team", "list", "--json").json["members"]
    assert me["you"]
    assert len(me["keys"]) == 2


@pytest.mark.parametrize("name", ["", "two words", "-x", "a/b", "é", "x" * 65])
def test_names_that_nobody_can_have(ana: Machine, name: str) -> None:
    said = ana("team", "add", "--", name, "age1xxx", code=2)
    assert "can't be named" in said.error


@pytest.mark.parametrize("key", ["age1xxx", "ssh-dss AAAA", "AGE-SECRET-KEY-1CANARY", "@/nowhere"])
def test_keys_that_are_none(ana: Machine, key: str) -> None:
    said = ana.run("team", "add", "ben", key)
    assert said.code in {2, 8}
    assert "CANARY" not in said.err
    assert [each["name"] for each in ana("team", "list", "--json").json["members"]] == ["ana"]


def test_an_unencrypted_repository_has_no_keys(tmp_path: Path, file_url: Remote) -> None:
    ana = Machine(tmp_path / "ana", {})
    ana("init", file_url.url, "--plain")
    for command in (["rotate"], ["group", "add", "g", "x"]):
        assert "unencrypted" in ana(*command, code=2).error


# --- other kinds of access ------------------------------------------------------------------


def test_a_passphrase_lets_in(ana: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    ana.env["DORKY_PASSPHRASE"] = "short"
    assert "at least 12" in ana("team", "add", "vault", "passphrase", code=2).error
    ana.env["DORKY_PASSPHRASE"] = "correct horse battery staple"
    ana("team", "add", "vault", "passphrase")
    del ana.env["DORKY_PASSPHRASE"]
    # A rotation needs the passphrase of nobody.
    ana("rotate")
    ben = cloned(ana, "ben")
    ben("pull", code=6)
    ben.env["DORKY_PASSPHRASE"] = "correct horse battery stapler"
    assert "passphrase" in ben("pull", code=6).error.lower()
    ben.env["DORKY_PASSPHRASE"] = "correct horse battery staple"
    ben("pull")
    assert ben.files() == ana.files()


def test_a_recovery_key_opens_what_its_owner_lost(tmp_path: Path, file_url: Remote) -> None:
    ana = Machine(tmp_path / "ana", {})
    said = ana("init", file_url.url, "--recovery", "key")
    (secret,) = SECRET.findall(said.out)
    ana.commit({".env": "A=1\n"})
    ana("push")
    found = cloned(ana, "found")
    found.env["DORKY_IDENTITY"] = secret
    found("pull")
    assert found.read(".env") == b"A=1\n"
    assert secret.encode() not in b"".join(
        data for _, data in files(ana.base).values() if isinstance(data, bytes)
    )


# --- taking away ----------------------------------------------------------------------------


def test_who_is_removed_reads_nothing_new(tmp_path: Path, remote: Remote) -> None:
    ana = start(tmp_path, remote)
    ben = joined(ana, "ben")
    planned = ana("team", "remove", "ben", "--dry-run", "--json").json
    assert not planned["done"]
    done = ana("team", "remove", "ben", "--json").json
    expected = [
        {"path": ".env", "variables": ["A", "B"]},
        {"path": "env/prod/api.env", "variables": ["P"]},
        {"path": "notes", "variables": []},
    ]
    assert done["exposed"] == planned["exposed"] == expected
    assert done["removed"] == "ben"
    assert done["fingerprint"] in (ana.project / ".dorkyrc").read_text()
    ana.commit({".env": "A=3\nB=4\n"})
    ana("push")
    said = ben("pull", code=6)
    assert "not encrypted for you" in said.error
    assert ben.read(".env") == b"A=1\nB=2\n"
    assert [each["name"] for each in ana("team", "list", "--json").json["members"]] == ["ana"]


def test_the_last_reader_stays_and_a_stranger_is_told_so(ana: Machine) -> None:
    assert "Nobody would be left" in ana("team", "remove", "ana", "--yes", code=2).error
    assert "Nobody" in ana("team", "remove", "zoe", code=4).error


def test_a_request_outlives_a_rotation(ana: Machine) -> None:
    ben = cloned(ana, "ben")
    told = ben("team", "join", "ben", "--json").json["key"]["fingerprint"]
    ana("rotate")
    ana("team", "add", "ben", "--fingerprint", told)
    ben("pull")


def test_a_rotation_reseals_what_is_newest(
    tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotate, "SMALL", 100_000)
    ana = start(tmp_path, remote)
    large = random.Random(1).randbytes(800_000)
    ana.commit({"large": large, "other": random.Random(2).randbytes(200_000)}, "large")
    ana("push")
    before = bucket(remote)
    done = ana("rotate", "--json").json
    after = bucket(remote)
    # No old pack stays, though there are old commits in it, too.
    assert not {key for key in before if key.startswith("packs/")} & after.keys()
    assert done["kept"] == 0
    # The pack in which some current file lies goes, with all that is old in it.
    ana.commit({"large": "small now"})
    ana("push")
    assert ana("rotate", "--json").json["kept"] < 10_000
    # Old revisions have a pack of their own.
    assert ana("rotate", "--json").json["kept"] > 800_000
    done = ana("rotate", "--history", "--json").json
    assert (done["kept"], done["blocked"]) == (0, 0)
    clone = cloned(ana, "clone")
    clone.env["DORKY_IDENTITY"] = ana.identity.read_text()
    clone("pull")
    assert clone.files() == ana.files()
    assert clone("cat", "HEAD~1:large").raw == large


def test_others_follow_a_rotation_with_their_old_dorkyrc(ana: Machine) -> None:
    ben = joined(ana, "ben")
    ana("rotate")
    ana("rotate", "--history")
    ana.commit({".env": "A=5\n"})
    ana("push")
    ben("pull")
    assert ben.read(".env") == b"A=5\n"
    # What was sealed here with the old key goes out with the new one.
    ben.commit({"notes": "from ben\n"})
    ben("push")
    ana("pull")
    assert ana.read("notes") == b"from ben\n"
    # git brings the new fingerprint, and a fresh clone starts with it.
    follow(ben, ana)
    ben("pull")


def test_a_commit_from_before_a_rotation_is_pushed_with_the_new_key(
    tmp_path: Path, remote: Remote
) -> None:
    ana = start(tmp_path, remote)
    ben = cloned(ana, "ben")
    admit(ana, ben, "ben")
    cleo = cloned(ana, "cleo")
    admit(ana, cleo, "cleo")
    ben("pull")
    cleo("pull")
    # A local pack that would go as it is, were its keys not out of date by then.
    content = random.Random(3).randbytes(9 << 20)
    ben.commit({"offline": content})
    ana("team", "remove", "cleo")
    ana.commit({".env": "A=9\n"})
    ana("push")
    ben("push", code=5)
    ben("pull")
    ben("push")
    ana("pull")
    assert ana.read("offline") == content
    with cleo.repo() as repo:
        keys_of_cleo = repo.vault
    for name, data in bucket(remote).items():
        if name.startswith("packs/"):
            assert keys_of_cleo.group_of(data[8:]) is None  # the first object comes after the magic


def test_a_job_has_a_name_of_its_own(ana: Machine) -> None:
    said = ana("key", "gen", "--ci", "ana", code=5)
    assert "There is a ana" in said.error
    assert not SECRET.search(said.out)
    assert "can't be named" in ana("key", "gen", "--ci", "a b", code=2).error
    assert "printed, not written" in ana("key", "gen", "there", "--ci", "job", code=2).error


def test_what_is_destroyed_leaves_no_requests(ana: Machine, file_url: Remote) -> None:
    cloned(ana, "ben")("team", "join", "ben")
    ana("destroy", "--remote", "--yes")
    assert bucket(file_url) == {}


def test_a_team_begins_with_the_first_push(tmp_path: Path, file_url: Remote) -> None:
    ana = Machine(tmp_path / "ana", {})
    ana("init")
    assert "no remote" in ana("team", "add", "ben", age.generate().public, code=3).error
    ana("remote", "add", "origin", file_url.url)
    ana.commit({".env": "A=1\n"})
    for command in ("list",), ("add", "ben", age.generate().public):
        assert "; dorky push starts it" in ana("team", *command, code=4).hint
    ana("push")
    ana("team", "add", "ben", age.generate().public)
    assert len(ana("team", "list", "--json").json["members"]) == 2


def test_a_remote_put_back_is_refused_by_who_only_lists(ana: Machine, file_url: Remote) -> None:
    """To this clone the old state is not older; git has brought what tells."""
    ben = joined(ana, "ben")
    root = Path(file_url.url, "root")
    old = root.read_bytes()
    ana("rotate")
    root.write_bytes(old)
    follow(ben, ana)
    for command in (["pull"], ["fetch"], ["push"], ["team", "list"], ["team", "add", "cleo"]):
        assert "another key" in ben(*command, code=7).error
