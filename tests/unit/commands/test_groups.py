"""Groups of readers: who is outside sees that there are files, carries them along, breaks none."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from machines import Machine, bucket, started
from servers import Remote
from teams import admit, cloned, joined

from dorky.format.model import Roster
from dorky.keys import age, roster
from dorky.remote import root as roots
from dorky.remote.fetch import fetch
from dorky.remote.push import remember
from dorky.repo import Repository


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    content = {".env": "A=1\n", "env/dev.env": "D=1\n", "env/prod/api.env": "P=1\n", "notes": "n\n"}
    return started(tmp_path / "ana", file_url, content, "--name", "ana")


@pytest.fixture
def ben(ana: Machine) -> Machine:
    """A member who is in no group."""
    return joined(ana, "ben")


def shown(machine: Machine) -> set[str]:
    return set(machine.files()) - {".gitignore"}


EVERYTHING = {".env", "env/dev.env", "env/prod/api.env", "notes"}
OPEN = EVERYTHING - {"env/prod/api.env"}


def test_a_group_closes_its_files_to_others(ana: Machine, ben: Machine) -> None:
    planned = ana("group", "add", "prod", "env/prod/**", "--dry-run", "--json").json
    assert not planned["done"]
    assert planned["moved"] == [{"path": "env/prod/api.env", "old": "all", "new": "prod"}]
    assert planned["gains"] == []
    assert planned["loses"] == ["ben"]
    assert ana("group", "list", "--json").json == []

    done = ana("group", "add", "prod", "env/prod/**", "--json").json
    assert {**planned, "done": True, "commit": done["commit"]} == done
    assert ana("status", "--json").json["staged"] == []
    assert ana("status", "--json").json["unstaged"] == []
    assert ana("log", "--json").json[0]["id"] == done["commit"]

    ben("pull")
    assert shown(ben) == OPEN
    assert "Closed to you: the files of prod" in ben("status").out
    assert "env/prod" not in ben("ls").out
    assert ben("show", "--json").json["closed"] == ["prod"]
    assert [
        each["name"] for each in ben("team", "list", "env/prod/x", "--json").json["members"]
    ] == ["ana"]
    # What was readable in old commits still is.
    assert ben("cat", "HEAD~1:env/prod/api.env").out == "P=1\n"
    ben("cat", "HEAD:env/prod/api.env", code=4)


def test_who_is_outside_works_on_and_breaks_nothing(ana: Machine, ben: Machine) -> None:
    ana("group", "add", "prod", "env/prod/**")
    ben("pull")
    ana.commit({"env/prod/api.env": "P=2\n", "env/prod/new.env": "N=1\n"}, "prod")
    ben.commit({".env": "A=2\n"}, "open")
    ana("push")
    ben("push", code=5)
    assert "Merged" in ben("pull").out
    ben("push")
    ana("pull")
    assert ana.read("env/prod/api.env") == b"P=2\n"
    assert ana.read("env/prod/new.env") == b"N=1\n"
    assert ana.read(".env") == b"A=2\n"
    ben("rm", "notes")
    ben("commit", "-m", "tidy")
    ben("push")
    ana("pull")
    assert shown(ana) == EVERYTHING - {"notes"} | {"env/prod/new.env"}


def test_who_is_outside_can_put_nothing_into_a_group(ana: Machine, ben: Machine) -> None:
    ana("group", "add", "prod", "env/prod/**")
    ben("pull")
    ben.write("env/prod/mine.env", "M=1\n")
    said = ben("stage", "env/prod/mine.env", code=6)
    assert said.error == "env/prod/mine.env belongs to the group prod, which you are not in"
    ben("stage", ".", code=6)
    for command in (
        ["group", "members", "prod", "--add", "ben"],
        ["group", "remove", "prod"],
        ["group", "add", "prod", "notes"],
    ):
        assert "not in the group prod" in ben(*command, code=6).error


def test_what_was_staged_before_the_group_was_known(ana: Machine, ben: Machine) -> None:
    ben.write("env/prod/mine.env", "M=1\n")
    ben("stage", "env/prod/mine.env")
    ana("group", "add", "prod", "env/prod/**")
    ben("fetch")
    assert "belongs to the group prod" in ben("commit", "-m", "mine", code=6).error
    ben("unstage", "env/prod/mine.env")
    ben("pull")
    # A member's file, staged for everybody, is sealed for the group when it is committed.
    ana.write("later/key.env", "K=1\n")
    ana("stage", "later/key.env")
    ana("group", "add", "prod", "later")
    ana("commit", "-m", "later")
    ana("push")
    ben("pull")
    assert "later" not in ben("ls").out
    assert ana("cat", "HEAD:later/key.env").out == "K=1\n"


def test_who_is_let_in_gets_the_files_and_may_change_them(ana: Machine, ben: Machine) -> None:
    ana("group", "add", "prod", "env/prod/**")
    ben("pull")
    ana("group", "members", "prod", "--add", "ben")
    assert shown(ben) == OPEN
    # A commit made before the next pull does not drop what is not here yet.
    ben("fetch")
    ben.commit({".env": "A=2\n"}, "before")
    ben.write("env/prod/mine.env", "M=1\n")
    ben("stage", "env/prod/mine.env")
    assert "not here yet" in ben("commit", "-m", "too early", code=5).error
    said = ben("pull")
    assert "env/prod/api.env" in said.out
    assert shown(ben) == EVERYTHING | {"env/prod/mine.env"}
    ben("commit", "-m", "mine")
    ben.commit({"env/prod/api.env": "P=2\n"}, "changed")
    ben("push")
    ana("pull")
    assert ana.read("env/prod/api.env") == b"P=2\n"
    assert ana.read("env/prod/mine.env") == b"M=1\n"
    assert shown(ana) == EVERYTHING | {"env/prod/mine.env"}


def test_who_leaves_a_group_reads_nothing_new_of_it(ana: Machine, ben: Machine) -> None:
    ana("group", "add", "prod", "env/prod/**")
    ana("group", "members", "prod", "--add", "ben")
    ben("pull")
    done = ana("group", "members", "prod", "--remove", "ben", "--json").json
    assert done["groups"] == ["prod"]
    assert done["exposed"] == [{"path": "env/prod/api.env", "variables": ["P"]}]
    ana.commit({"env/prod/api.env": "P=secret\n", ".env": "A=2\n"}, "new")
    ana("push")
    ben("pull")
    assert ben.read(".env") == b"A=2\n"
    assert ben.read("env/prod/api.env") == b"P=1\n"  # his copy; nobody can take it back
    assert "env/prod" not in ben("ls").out
    ben.commit({"notes": "still here\n"}, "work")
    ben("push")
    ana("pull")
    assert ana.read("env/prod/api.env") == b"P=secret\n"


def test_who_leaves_the_team_leaves_its_groups(ana: Machine, ben: Machine) -> None:
    ana("group", "add", "prod", "env/prod/**")
    ana("group", "members", "prod", "--add", "ben")
    done = ana("team", "remove", "ben", "--json").json
    assert done["groups"] == ["all", "prod"]
    assert ana("group", "list", "--json").json[0]["members"] == ["ana"]
    ben("pull", code=6)


def test_only_who_is_in_a_group_can_renew_its_key(ana: Machine, ben: Machine) -> None:
    ana("key", "gen", "--ci", "job")
    ana("group", "add", "prod", "env/prod/**", "--member", "ana", "--member", "job")
    said = ben("team", "remove", "ana", code=6)
    assert said.error == "ana belongs to the group prod, which you are not in"
    assert ben("rotate", "--json").json["skipped"] == ["prod"]
    ana("pull")
    ana.commit({"env/prod/api.env": "P=2\n"}, "on")
    ana("push")


def test_a_group_that_ends_gives_its_files_to_everybody(ana: Machine, ben: Machine) -> None:
    ana("group", "add", "prod", "env/prod/**", "notes")
    ben("pull")
    assert shown(ben) == OPEN - {"notes"}
    planned = ana("group", "remove", "prod", "notes", "--dry-run", "--json").json
    assert planned["gains"] == ["ben"]
    ana("group", "remove", "prod", "notes")
    ben("pull")
    assert shown(ben) == OPEN
    ana("group", "remove", "prod", "nothing/**", code=4)
    ana("group", "remove", "prod")
    assert ana("group", "list", "--json").json == []
    ben("pull")
    assert shown(ben) == EVERYTHING
    # Its history stays closed to others and open to its members; a new one may have its name.
    assert ana("cat", "HEAD~2:env/prod/api.env").out == "P=1\n"
    ben("cat", "HEAD~2:env/prod/api.env", code=4)
    ana("group", "add", "prod", "env/prod/**")
    ben("pull")
    assert shown(ben) == OPEN


def test_large_files_and_directories_change_hands(ana: Machine, ben: Machine) -> None:
    large = random.Random(1).randbytes(3 << 20)
    ana.commit({"data/large.bin": large, "data/empty": b"", "data/deep/er/x": "x\n"}, "data")
    (ana.project / "data" / "link").symlink_to("large.bin")
    ana("stage", "data/link")
    ana("commit", "-m", "link")
    ana("push")
    ben("pull")
    ana("group", "add", "data", "data")
    assert ana("status", "--json").json["staged"] == []
    ben("pull")
    assert not (ben.project / "data").exists()
    clone = cloned(ana, "clone")
    clone.env["DORKY_IDENTITY"] = ana.identity.read_text()
    clone("pull")
    assert clone.files() == ana.files()


def test_files_change_hands_whose_contents_only_the_remote_holds(ana: Machine) -> None:
    ana.commit({"data/large.bin": random.Random(2).randbytes(3 << 20)}, "data")
    ana("push")
    ana("gc", "--prune-remote-verified", "--grace", "0")
    ana("group", "add", "data", "data")
    clone = cloned(ana, "clone")
    clone.env["DORKY_IDENTITY"] = ana.identity.read_text()
    clone("pull")
    assert clone.files() == ana.files()


def test_a_file_is_changed_while_it_changes_hands(ana: Machine, ben: Machine) -> None:
    ana("group", "members", "prod", code=4)
    ana.write("env/prod/api.env", "P=unstaged\n")
    ana("group", "add", "prod", "env/prod/**")
    assert ana("status", "--json").json["unstaged"] == [
        {"path": "env/prod/api.env", "what": "modified"}
    ]
    ben.commit({"env/prod/api.env": "P=ben\n"}, "ben's")
    # For Ben, who is not in the group, the file is gone.
    assert "changed here, deleted there" in ben("pull", code=5).out
    ben("resolve", "env/prod/api.env", "--theirs")
    ben("merge", "--continue")
    # The version in between, which nobody has at its path any more, is not for everybody.
    assert ben("sync", code=5).hint == "dorky sync --rewrite"
    ben("sync", "--rewrite")


def test_changes_need_a_settled_state(ana: Machine, ben: Machine) -> None:
    ana.write("env/prod/api.env", "P=2\n")
    ana("stage", "env/prod/api.env")
    assert "are staged" in ana("group", "add", "prod", "env/prod/**", code=5).error
    ana("commit", "-m", "second")
    assert "not pushed" in ana("group", "add", "prod", "env/prod/**", code=5).error
    ana("push")
    ana("group", "add", "prod", "env/prod/**")
    assert "already" in ana("group", "add", "prod", "env/prod/**", code=1).error


@pytest.mark.parametrize("pattern", ["", "/etc", "../x", ".", "a/../..", ".git/config"])
def test_patterns_that_lead_nowhere(ana: Machine, pattern: str) -> None:
    ana("group", "add", "prod", pattern, code=2)
    assert ana("group", "list", "--json").json == []


def test_patterns_count_from_where_one_stands(ana: Machine) -> None:
    ana.project /= "env"
    done = ana("group", "add", "prod", "prod/**", "--json").json
    assert done["group"]["patterns"] == ["env/prod/**"]
    assert done["files"] == 1


def test_members_that_there_are_not(ana: Machine, ben: Machine) -> None:
    zoe = ["--member", "ana", "--member", "zoe"]
    assert "Nobody" in ana("group", "add", "prod", "x", *zoe, code=4).error
    assert "lock yourself out" in ana("group", "add", "prod", "x", "--member", "ben", code=2).error
    ana("group", "add", "prod", "x", "--member", "ben", "--member", "ana")
    assert ana("group", "list", "--json").json[0]["members"] == ["ana", "ben"]


def test_nothing_of_a_group_is_told_to_who_reads_the_bucket(ana: Machine, file_url: Remote) -> None:
    ana("group", "add", "canary-group", "env/prod/**")
    assert not any(b"canary" in data or b"env/prod" in data for data in bucket(file_url).values())


def test_ids_tell_nothing_across_groups(ana: Machine) -> None:
    """The same content has another id in each group: who is outside can't guess by ids."""
    ana.commit({"a/pin": "4711\n", "b/pin": "4711\n"}, "pins")
    ana("push")
    ana("group", "add", "g", "b")
    with ana.repo() as repo:
        ids = {each.path: each.content for each in repo.ls()}
    assert ids["a/pin"] != ids["b/pin"]


def test_a_merge_of_files_that_are_closed_on_both_sides(ana: Machine, ben: Machine) -> None:
    cleo = cloned(ana, "cleo")
    admit(ana, cleo, "cleo")
    ana("group", "add", "prod", "env/prod/**")
    for machine in (ben, cleo):
        machine("pull")
    ana.commit({"env/prod/api.env": "P=2\n"}, "two")
    ana("push")
    ben.commit({"notes": "ben\n"}, "ben")
    cleo.commit({".env": "A=cleo\n"}, "cleo")
    ben("pull")
    ben("push")
    cleo("pull")
    cleo("push")
    ana("pull")
    assert ana.files()["env/prod/api.env"][1] == b"P=2\n"
    assert ana.read("notes") == b"ben\n"
    assert ana.read(".env") == b"A=cleo\n"


def test_a_backup_of_a_group_s_file_is_kept(ana: Machine) -> None:
    ana("group", "add", "prod", "env/prod/**")
    ana.write("env/prod/api.env", "P=local\n")
    ana("restore", "env/prod/api.env")
    assert ana.read("env/prod/api.env") == b"P=1\n"
    assert ana("cat", "backup/1:env/prod/api.env").out == "P=local\n"


def test_the_library_says_the_same(ana: Machine) -> None:
    with ana.here(), Repository.find() as repo:
        done = repo.group_add("prod", ["env/prod/**"])
        assert done.commit == repo.show().id
        assert [each.name for each in repo.group_list()] == ["prod"]


# --- members who mean harm ------------------------------------------------------------------


def rewrite(machine: Machine, change: Callable[[Roster], Roster]) -> None:
    """Write a root with another roster, past the commands, as a member can."""
    with machine.repo() as repo:
        remote = repo.remote()
        fetch(remote)
        seen = remote.seen
        assert seen is not None
        root = roots.successor(seen.root, roster=change(seen.root.roster))
        won = remote.swap(seen.header, root)
        assert won
        remember(remote, won, ())


def refused(ana: Machine) -> None:
    before = ana.files()
    for command in (["pull"], ["team", "add", "x", age.generate().public], ["rotate"]):
        said = ana(*command, code=7)
        assert "The group prod was changed by somebody who is not in it" in said.error
    assert ana.files() == before


def test_who_is_outside_can_t_let_themselves_in(ana: Machine, ben: Machine) -> None:
    """Else the next member who wraps the group's key would wrap it to them."""
    ana("group", "add", "prod", "env/prod/**")
    ben("pull")

    def join(known: Roster) -> Roster:
        (group,) = known.groups
        me = roster.member(known, "ben")
        return roster.put(known, msgspec.structs.replace(me, groups=(group.id,)))

    rewrite(ben, join)
    refused(ana)


def test_who_is_outside_can_t_give_a_member_their_key(ana: Machine, ben: Machine) -> None:
    ana("group", "add", "prod", "env/prod/**")
    ben("pull")

    def smuggle(known: Roster) -> Roster:
        anas = roster.member(known, "ana")
        key = age.generate().public
        return roster.put(known, msgspec.structs.replace(anas, recipients=(*anas.recipients, key)))

    rewrite(ben, smuggle)
    refused(ana)


@pytest.mark.parametrize("patterns", [(), ("env/prod/api.env",)])
def test_who_is_outside_can_t_open_what_is_closed(
    ana: Machine, ben: Machine, patterns: tuple[str, ...]
) -> None:
    """Else the next file that a member stages there would be sealed for everybody."""
    ana("group", "add", "prod", "env/prod/**")
    ben("pull")

    def widen(known: Roster) -> Roster:
        (group,) = known.groups
        return roster.put_group(known, msgspec.structs.replace(group, patterns=patterns))

    rewrite(ben, widen)
    refused(ana)


def test_who_is_outside_can_t_put_an_older_state_of_a_group_back(
    ana: Machine, ben: Machine
) -> None:
    ana("group", "add", "prod", "env/prod/**")
    ben("pull")
    with ben.repo() as repo:
        old = repo.roster
    ana("group", "add", "prod", "more")
    rewrite(ben, lambda _: old)
    refused(ana)


def test_what_was_committed_before_its_group_is_not_pushed_for_everybody(
    ana: Machine, ben: Machine
) -> None:
    cleo = joined(ana, "cleo")
    for machine in (ben, cleo):
        machine.commit({f"sec/{machine.base.name}.env": "S=1\n"}, "early")
    ana("group", "add", "sec", "sec/**", "--member", "ana", "--member", "cleo")
    for machine in (ben, cleo):
        machine("push", code=5)
        machine("pull")
        said = machine("push", code=5)
        assert "belongs to the group sec, but commit" in said.error
    # A member of the group encrypts it for the group; anyone else takes it out.
    assert said.hint == "dorky sync --rewrite"
    cleo("sync", "--rewrite")
    ben("rm", "--cached", "sec/ben.env")
    ben("commit", "-m", "not mine to keep")
    ben("sync", "--rewrite")
    ana("pull")
    assert ana.read("sec/cleo.env") == b"S=1\n"
    assert "sec" not in ben("ls").out


def test_lost_files_with_changes_are_kept_by_force(ana: Machine, ben: Machine) -> None:
    ben.write("env/prod/api.env", "P=mine\n")
    ana("group", "add", "prod", "env/prod/**")
    ben("pull", code=5)
    ben("pull", "--force")
    assert ben("cat", "backup/1:env/prod/api.env").out == "P=mine\n"


def test_members_come_and_go_in_one_change(ana: Machine, ben: Machine) -> None:
    ana("group", "add", "prod", "env/prod/**")
    ana("group", "members", "prod", "--add", "ben", "--remove", "ana", code=2)
    assert ana("group", "list", "--json").json[0]["members"] == ["ana"]


def test_a_group_that_has_ended_keeps_nobody_on_the_team(ana: Machine, ben: Machine) -> None:
    ana("group", "add", "solo", "solo/**")
    ana("group", "remove", "solo")
    ana("group", "add", "prod", "env/prod/**")
    # Nobody else is in prod: its files are lost to the team, but Ana goes.
    done = ben("team", "remove", "ana", "--json").json
    assert done["groups"] == ["all"]
    assert done["skipped"] == ["prod"]
    ana("pull", code=6)
    ben("rotate")
