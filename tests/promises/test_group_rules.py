"""Reading, merging and moving by the owners of paths, whatever a member outside a group pushes.

Ana is in the group prod, Ben is on the team and outside, Cleo's clones are Ana's other machines.
"""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
import snapshots
from attacks import DIRECTORY, FILE, LINK, NOW, Forge
from hypothesis import example, given
from hypothesis import strategies as st
from machines import Machine, bucket, signed, started
from servers import Remote
from teams import joined

from dorky import DorkyClient, errors
from dorky.format import model
from dorky.format.model import ALL, Commit, Entry, Group, Inline, Kind, Roster, Tree
from dorky.keys import placement, roster, vault
from dorky.store import history, projection
from dorky.store.projection import View

TRUE, EVIL = b"URL=postgres://db/shop\nPASSWORD=hunter2\n", b"URL=postgres://evil/shop\n"
PROD = "env/prod/.env"
ZZ = "0" * 15 + "1"


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    return started(tmp_path / "ana", file_url, {".env": "A=1\n", "notes": "n\n"}, "--name", "ana")


@pytest.fixture
def ben(ana: Machine, file_url: Remote) -> Machine:
    base = ana.base.parent / "ben"

    def make() -> None:
        made = joined(ana, "ben")
        ana("group", "add", "prod", "env/prod/**")
        ana.commit({PROD: TRUE}, "prod")
        ana("push")
        made("pull")

    snapshots.once([ana.base, base, Path(file_url.url)], make, "closed")
    return Machine(base, ana.env)


def clone(ana: Machine, name: str = "cleo") -> Machine:
    made = ana.another(name)
    (made.project / ".dorkyrc").write_bytes((ana.project / ".dorkyrc").read_bytes())
    return made


# --- a member who writes trees and roots by hand --------------------------------------------


def gift(ben: Machine, *files: tuple[str, bytes], mode: int = FILE) -> None:
    """Ben puts files into everybody's tree, commit by commit."""
    for path, body in files:
        with Forge(ben) as forge:
            head = forge.commit({ALL: forge.everybodys(forge.at(path, body, mode))})
            forge.publish(head)


def claim(ben: Machine, body: bytes, pattern: str = "env/prod/**") -> None:
    """Ben starts a group with Ana in it, over prod's files, and puts a file into its tree."""
    with Forge(ben) as forge:
        known = forge.seen.root.roster
        members = tuple(
            msgspec.structs.replace(member, groups=(*member.groups, ZZ)) for member in known.members
        )
        after = Roster(members, (Group(ZZ, "zz", (pattern,)), *known.groups))
        heirs = [key for member in members for key in member.recipients]
        header, _ = vault.begin_epoch(forge.seen.header, forge.vault, ZZ, heirs)
        forge.vault = forge.repo.unlock(header)
        after = roster.sealed(known, after, forge.vault)
        tree = forge.tree(forge.at(PROD, body, group=ZZ), group=ZZ)
        forge.publish(forge.commit({ZZ: tree}), header=header, roster=after)


def unclaim(ben: Machine) -> None:
    with Forge(ben) as forge:
        known = forge.seen.root.roster
        groups = tuple(
            msgspec.structs.replace(group, patterns=()) if group.id == ZZ else group
            for group in known.groups
        )
        after = roster.sealed(known, msgspec.structs.replace(known, groups=groups), forge.vault)
        forge.publish(forge.head, roster=after)


def everything_ben_can_open(ben: Machine) -> bytes:
    """All bodies in the remote that Ben's keys open."""
    ben("fetch")
    found = []
    with ben.repo() as repo:
        store = repo.store
        rows = store.database.connection.execute("SELECT DISTINCT id FROM objects").fetchall()
        for (raw,) in rows:
            with contextlib.suppress(errors.DorkyError):
                found.append(store.read(raw.hex()))
    return b"\0".join(found)


# --- states in which a hostile push finds Ana -----------------------------------------------


def forward(ana: Machine) -> Machine:
    ana("pull")
    return ana


def merging(ana: Machine) -> Machine:
    ana.commit({"notes": "n2\n"}, "a note of mine")
    assert "Merged" in ana("pull").out
    return ana


def merging_prod(ana: Machine) -> Machine:
    """The group's own file has changed here, too."""
    ana.commit({"env/prod/other": "O=1\n"}, "another")
    ana("pull")
    return ana


def fetched(ana: Machine) -> Machine:
    ana("fetch")
    return ana


def fresh(ana: Machine) -> Machine:
    made = clone(ana)
    made("pull")
    return made


STATES = pytest.mark.parametrize("state", [forward, merging, merging_prod, fresh])
State = Callable[[Machine], Machine]


def assert_true(machine: Machine) -> None:
    """The group's file is the group's, wherever one looks."""
    assert machine.read(PROD) == TRUE
    assert machine("cat", f"HEAD:{PROD}").raw == TRUE
    assert machine("get", PROD, "URL").out == "postgres://db/shop\n"
    assert machine("get", PROD, "URL", "--rev", "HEAD").out == "postgres://db/shop\n"
    machine("download", f"HEAD:{PROD}", machine.base / "copy", "--force")
    assert (machine.base / "copy").read_bytes() == TRUE
    held = [each for each in machine("ls", "--json").json if each["path"] == PROD]
    assert len(held) == 1
    assert held[0]["size"] == len(TRUE)
    status = machine("status", "--json").json
    assert not status["unstaged"]
    assert not status["staged"]
    assert PROD not in machine("diff", "HEAD").out + machine("diff", "--staged").out


# --- R1: what is put at a group's paths by others -------------------------------------------


@STATES
def test_a_groups_file_is_not_replaced_by_everybodys(
    ana: Machine, ben: Machine, state: State
) -> None:
    gift(ben, (PROD, EVIL))
    machine = state(ana)
    assert_true(machine)
    (found,) = machine("status", "--json").json["masked"] or [None]
    if state not in {merging, merging_prod}:  # a merge leaves out what does not count
        assert found == {"path": PROD, "tree": "all", "owners": ["prod"], "above": ""}
        assert "belongs to prod, committed for all" in machine("status").out
        assert "masked-entry" in machine("fsck", "--json").out
        assert machine("pull", "--json").json["masked"] == [found]
    # What others do next tidies up, and breaks nothing.
    machine.commit({".env": "A=2\n"}, "on")
    machine("push")
    assert machine("status", "--json").json["masked"] == []
    assert "evil" not in str(machine("show", "HEAD").out)
    again = clone(ana, "again")
    again("pull")
    assert_true(again)
    ben("pull")
    assert ben.read(".env") == b"A=2\n"


SPELLINGS = ["env/prod/.env.local", "Env/PROD/.env.local", "env/prod /.env", "ENV/prod./x/y.env"]


@pytest.mark.each_value
@STATES
@pytest.mark.parametrize("path", SPELLINGS)
def test_nothing_is_added_to_a_groups_files_by_others(
    ana: Machine, ben: Machine, state: State, path: str
) -> None:
    gift(ben, (path, EVIL))
    machine = state(ana)
    assert_true(machine)
    assert not any("evil" in str(body) for _, body in machine.files().values())
    machine("cat", f"HEAD:{path}", code=4)
    machine("cat", f"origin/main:{path}", code=4)
    assert path not in machine("ls").out + machine("show", "HEAD").out
    machine("get", path, "URL", code=4)


def test_a_path_in_another_normal_form(ana: Machine, ben: Machine) -> None:
    ana("group", "add", "keys", "schl\u00fcssel/**")
    path = unicodedata.normalize("NFD", "schl\u00fcssel/k.env")
    gift(ben, (path, EVIL))
    ana("pull")
    assert path not in ana.files()
    assert [each["path"] for each in ana("status", "--json").json["masked"]] == [path]


def test_what_was_only_fetched_counts_no_more(ana: Machine, ben: Machine) -> None:
    gift(ben, (PROD, EVIL))
    ana("fetch")
    assert ana("cat", f"origin/main:{PROD}").raw == TRUE
    held = [each for each in ana("ls", "origin/main", "--json").json if each["path"] == PROD]
    assert [each["size"] for each in held] == [len(TRUE)]


@pytest.mark.each_value
@pytest.mark.parametrize("state", [forward, merging, fresh])
@pytest.mark.parametrize(
    ("path", "mode"), [("env", LINK), ("env", FILE), ("env/prod", LINK), ("ENV", LINK)]
)
def test_nothing_of_everybodys_lies_above_a_groups_file(
    ana: Machine, ben: Machine, state: State, path: str, mode: int
) -> None:
    gift(ben, ("pub/.env", EVIL))
    gift(ben, (path, b"pub"), mode=mode)
    machine = state(ana)
    assert_true(machine)
    assert path not in machine.files()
    assert machine.read("pub/.env") == EVIL
    if state is not merging:
        (found,) = machine("status", "--json").json["masked"]
        assert found["path"] == path
        assert found["owners"] == ["prod"]


def test_a_file_makes_room_when_a_groups_file_comes_below_it(ana: Machine, ben: Machine) -> None:
    ana("group", "add", "deep", "a/b/c/**")
    gift(ben, ("a", b"in the way"))
    ana("pull")
    assert ana.read("a") == b"in the way"
    cleo = clone(ana)
    cleo("pull")
    cleo("rm", "a")
    cleo.commit({"a/b/c/key": "K=1\n"}, "deep")
    with Forge(cleo) as forge:  # as somebody does who has not seen the file
        head = forge.repo.database.ref("main")
        assert head
        mine = history.read_commit(forge.repo.store, head)
        deep = next(group for group in mine.trees if group not in forge.trees)
        for at in forge.repo.store.locate(objects_of(forge, mine.trees[deep], deep)).values():
            stored = forge.repo.store.stored(at)
            forge.inline.append(Inline(at.kind, at.id, stored))
        forge.publish(forge.commit({deep: mine.trees[deep]}))
    for machine in (ana, clone(ana, "again")):
        machine("pull")
        assert machine.read("a/b/c/key") == b"K=1\n"
        assert machine("status", "--json").json["masked"][0]["above"] == "a/b/c/key"
        assert machine("status", "--json").json["staged"] == []


def objects_of(forge: Forge, tree: str, group: str) -> set[str]:
    trees, contents = history.below(forge.repo.store, [tree])
    return trees | contents


def test_history_is_read_as_it_was_recorded(ana: Machine, ben: Machine) -> None:
    gift(ben, (PROD, EVIL), ("env/prod/new", EVIL))
    ana("pull")
    ana.commit({".env": "A=2\n"}, "on")
    ana("push")
    assert ana("cat", f"HEAD~1:{PROD}").raw == TRUE
    assert ana("cat", "HEAD~1:env/prod/new").raw == EVIL
    ana("cat", "HEAD:env/prod/new", code=4)


# --- R4, R6: a group that claims another's files --------------------------------------------


@pytest.mark.each_value
@pytest.mark.parametrize("body", [b"", TRUE, EVIL])
@pytest.mark.parametrize("work", ["committed", "staged", "edited", "none"])
def test_nobody_reads_a_groups_file_by_claiming_it(
    ana: Machine, ben: Machine, body: bytes, work: str
) -> None:
    new = TRUE + b"STRIPE=sk_live_SECRET\n"
    if work != "none":
        ana.write(PROD, new)
    if work in {"committed", "staged"}:
        ana("stage", PROD)
    if work == "committed":
        ana("commit", "-m", "the live key")
    claim(ben, body)
    ana.run("sync")
    ana.run("pull")
    assert ana.read(PROD) == (TRUE if work == "none" else new)
    assert b"sk_live" not in everything_ben_can_open(ben)
    ben("pull")
    assert not (ben.project / PROD).exists()
    (found,) = [each for each in ana("status", "--json").json["masked"] if each["tree"] == "zz"]
    assert found["owners"] == ["zz", "prod"]
    assert "claimed by zz and prod" in ana("status").out
    ana.write(PROD, b"CHANGED=1\n")
    assert "patterns overlap" in ana("stage", PROD, code=6).error


def test_what_is_contested_is_frozen_and_everything_else_goes_on(
    ana: Machine, ben: Machine
) -> None:
    claim(ben, EVIL)
    ana("pull")
    ana.commit({".env": "A=2\n"}, "on")
    ana("push")
    ben.commit({"notes": "ben\n"}, "on")
    ben("sync")
    ana.commit({".env": "A=3\n"}, "on")
    ana("sync")
    assert ana.read("notes") == b"ben\n"
    cleo = clone(ana)
    cleo("pull")
    assert not (cleo.project / PROD).exists()
    assert cleo.read(".env") == b"A=3\n"
    cleo.commit({".env": "A=4\n"}, "from a clone that never had it")
    cleo("push")
    assert ana.read(PROD) == TRUE
    # Nothing of it is lost when the claim is gone.
    unclaim(ben)
    for machine in (ana, cleo, clone(ana, "again")):
        machine("pull")
        assert_true(machine)
    assert ana("status", "--json").json["staged"] == []


@pytest.mark.parametrize("how", ["pull", "fetch"])
@pytest.mark.parametrize("work", ["none", "edited", "staged"])
def test_a_file_that_a_group_took_over_while_it_was_contested_blocks_nobody(
    ana: Machine, ben: Machine, work: str, how: str
) -> None:
    dan = joined(ana, "dan")
    dan("pull")
    if work != "none":
        dan.write("notes", b"dan's\n")
    if work == "staged":
        dan("stage", "notes")
    ana("pull")
    ana("group", "add", "prod", "notes")
    claim(ben, EVIL, "notes")
    dan("pull")
    assert dan.read("notes") == (b"n\n" if work == "none" else b"dan's\n")
    unclaim(ben)
    dan(how)
    if how == "fetch":
        dan.commit({"own": "1\n"}, "before the pull")
        dan("sync")
    # Dan could not tell what of it is his: it stays, and is kept no longer.
    assert dan.read("notes") == (b"n\n" if work == "none" else b"dan's\n")
    assert set(dan("ls").out.split()) == {".env"} | ({"own"} if how == "fetch" else set())
    dan.commit({".env": "A=2\n"}, "on")
    dan("push")
    ana("pull")
    assert ana.read("notes") == b"n\n"
    assert ana.read(".env") == b"A=2\n"


@pytest.mark.parametrize("change", ["deleted", "rewritten", "rewritten and deleted"])
@pytest.mark.parametrize("work", ["none", "edited", "staged"])
def test_a_file_that_changed_while_it_was_contested_follows_when_it_is_free(
    ana: Machine, ben: Machine, change: str, work: str
) -> None:
    if work == "staged":
        ana.write(PROD, b"mine\n")
        ana("stage", PROD)
    claim(ben, EVIL)
    ana("pull")
    other = clone(ana)
    other("pull")
    wanted = None
    for body in {"deleted": [None], "rewritten": [b"new\n"]}.get(change, [b"new\n", None]):
        with Forge(other) as forge:
            (prod,) = forge.trees.keys() - {ALL, ZZ}
            entries = [forge.at(PROD, body, group=prod)] if body else []
            forge.publish(forge.commit({prod: forge.tree(*entries, group=prod)}))
        ana("pull")
        wanted = body
    held = TRUE if work == "none" else b"mine\n"
    if work == "edited":
        ana.write(PROD, held)
    assert ana.read(PROD) == held
    unclaim(ben)
    if work == "staged":
        ana("pull")
        (staged,) = ana("status", "--json").json["staged"]
        assert staged == {"path": PROD, "what": "modified" if wanted else "added"}
        assert ana.read(PROD) == held
        return
    said = ana("pull", code=0 if work == "none" else 5)
    if work != "none":
        assert f"Local changes would be overwritten: {PROD}" in said.error
        assert ana.read(PROD) == held
        ana("pull", "--force")
    assert PROD in ana.files() if wanted else PROD not in ana.files()
    assert not wanted or ana.read(PROD) == wanted
    status = ana("status", "--json").json
    assert not status["staged"]
    assert not status["unstaged"]


def test_an_old_commit_in_which_two_groups_have_a_file_gives_the_owners(
    ana: Machine, ben: Machine, file_url: Remote
) -> None:
    claim(ben, EVIL)
    ana("pull")
    old = ana("log", "--json").json[0]["id"]
    ana.commit({".env": "A=2\n"}, "on")
    ana("push")

    # Contested: what is on the disk stays, and nobody is asked to choose.
    assert "belongs to the groups zz and prod" in (
        ana("restore", PROD, "--source", old, code=6).error
    )
    said = ana("restore", ".", "--source", old)
    assert said.out.splitlines()[1:] == [
        "  M .env",
        "Frozen until one group alone claims it (dorky group list):",
        f"  ! {PROD}",
    ]
    assert ana("restore", "env", "--source", old, "--json").json["frozen"] == [PROD]
    assert ana.read(PROD) == TRUE
    ana.write(PROD, b"mine\n")
    ana("restore", PROD)
    assert ana.read(PROD) == TRUE

    unclaim(ben)
    ana("pull")
    assert ana("cat", f"{old}:{PROD}").raw == TRUE
    with ana.here(), DorkyClient(file_url.url) as client:
        assert client.read(PROD, version=old) == TRUE
        versions = [info.version for info in client.versions(PROD)]
        assert {client.read(PROD, version=version) for version in versions} == {TRUE}
    ana.write(PROD, b"mine\n")
    ana("restore", PROD, "--source", old)
    assert ana.read(PROD) == TRUE
    assert [f["path"] for f in ana("ls", old, "--json").json].count(PROD) == 1
    ana("stage", PROD)
    assert not ana("status", "--json").json["staged"]


def test_a_claim_over_everybodys_files_closes_them_and_keeps_nobody_from_working(
    ana: Machine, ben: Machine
) -> None:
    with Forge(ben) as forge:
        known = forge.seen.root.roster
        own = roster.member(known, "ben")
        after = roster.put(known, msgspec.structs.replace(own, groups=(*own.groups, ZZ)))
        after = roster.put_group(after, Group(ZZ, "zz", ("notes",)))
        header, _ = vault.begin_epoch(forge.seen.header, forge.vault, ZZ, list(own.recipients))
        forge.vault = forge.repo.unlock(header)
        forge.publish(forge.head, header=header, roster=roster.sealed(known, after, forge.vault))
    ana("pull")
    ana.commit({".env": "A=2\n"}, "on")
    ana("push")
    assert set(ana("ls").out.split()) == {".env", PROD}


@pytest.mark.each_value
@pytest.mark.parametrize("path", ["env", "env/prod", "ENV"])
@pytest.mark.parametrize("work", ["none", "committed"])
def test_a_link_above_contested_files_keeps_nobody_from_working(
    ana: Machine, ben: Machine, path: str, work: str
) -> None:
    claim(ben, b"EVIL=1\n")
    if path == "env/prod":
        gift(ben, ("env/prod", b"notes"), mode=LINK)
    else:
        gift(ben, (path, b"pub"), mode=LINK)
    if work == "committed":
        ana.commit({"notes": "n2\n"}, "mine")
    ana("pull")
    assert ana.read(PROD) == TRUE
    assert path not in ana.files()
    ana.commit({".env": "A=2\n"}, "on")
    ana("push")
    assert ana("status", "--json").json["staged"] == []
    assert ana("status", "--json").json["unstaged"] == []
    unclaim(ben)
    for machine in (ana, clone(ana)):
        machine("pull")
        assert machine.read(PROD) == TRUE


# --- a group's tree that somebody leaves out ------------------------------------------------


def refused_by_all(ana: Machine, name: str = "laptop") -> None:
    """Nobody follows a commit by which somebody outside changes the group's files."""
    before = ana.files()
    for machine in (ana, clone(ana, name)):
        said = machine("pull", code=7)
        assert "it changes files of a group that ben was never in" in said.error
    assert ana.files() == before


def test_a_groups_tree_that_is_left_out_is_not_deleted(ana: Machine, ben: Machine) -> None:
    with Forge(ben) as forge:
        (prod,) = (group for group in forge.trees if group != ALL)
        forge.publish(forge.commit({}, without=prod))
    refused_by_all(ana)
    ana("remote", "repair", "--yes")
    ana("pull")
    assert_true(fresh(ana))


def test_a_groups_tree_is_not_rolled_back(ana: Machine, ben: Machine) -> None:
    """By a commit with an older genuine tree, or a merge with the commit that has it."""
    with Forge(ben) as forge:
        (prod,) = (group for group in forge.trees if group != ALL)
        old, before = forge.trees[prod], forge.head
    ana.commit({PROD: b"URL=postgres://new/shop\n"}, "changed")
    ana("push")
    ben("pull")
    with Forge(ben) as forge:
        forge.publish(forge.commit({prod: old}))
    refused_by_all(ana)
    ana("remote", "repair", "--yes")
    ana("pull")
    ben("pull")
    with Forge(ben) as forge:
        forge.head, head = before, forge.head
        aside = forge.commit({prod: old})  # no change there
        made = Commit({**forge.trees, prod: old}, (head, aside), "Ana", NOW, "a merge")
        forge.publish(forge.add(Kind.COMMIT, model.encode(signed(forge.repo, made))))
    refused_by_all(ana, "tablet")


def test_who_is_outside_merges_what_the_group_has_changed(ana: Machine, ben: Machine) -> None:
    ben.commit({"notes": "bens\n"}, "ben's")
    ana.commit({PROD: b"URL=postgres://new/shop\n"}, "changed")
    ana("push")
    ben("sync")
    for machine in (ana, fresh(ana)):
        machine("pull")
        assert machine.read(PROD) == b"URL=postgres://new/shop\n"
        assert machine.read("notes") == b"bens\n"


def test_members_may_delete_all_files_of_their_group(ana: Machine, ben: Machine) -> None:
    cleo = fresh(ana)
    cleo("rm", PROD)
    cleo("commit", "-m", "no more")
    cleo("push")
    assert ana("pull", "--json").json["dropped"] == []
    assert not (ana.project / PROD).exists()
    assert ana("status", "--json").json["staged"] == []


# --- R3: what a group has closed is not opened by accident ----------------------------------


def opened(ana: Machine, *command: str) -> None:
    """A command that would open a file is refused, its hint is what does it on purpose."""
    said = ana(*command, code=5)
    assert "is only for the group prod; all would be able to read it" in said.error
    assert said.hint.startswith("if they may: dorky ")
    assert said.hint.endswith(" --for all")
    before = ana("ls").out
    words = said.hint.removeprefix("if they may: dorky ").split()
    ana(*words)
    assert ana("ls").out == before


@pytest.mark.parametrize("way", ["move", "copy", "rm first", "stage all", "committed rm"])
def test_a_groups_file_under_another_name(ana: Machine, ben: Machine, way: str) -> None:
    target = ana.write("shared/prod.env", TRUE)
    if way in {"move", "stage all"}:
        (ana.project / PROD).unlink()
    elif way == "rm first":
        ana("rm", PROD)
    elif way == "committed rm":
        (ana.project / PROD).unlink()
        ana("stage", PROD)
    assert target.exists()
    opened(ana, "stage", "." if way == "stage all" else "shared/prod.env")
    ana("commit", "-m", "on purpose")
    ana("push")
    ben("pull")
    assert ben.read("shared/prod.env") == TRUE


def test_what_is_empty_or_everybodys_is_not_closed(ana: Machine, ben: Machine) -> None:
    ana.commit({"env/prod/empty": "", "env/prod/copy": "A=1\n"}, "in prod")
    ana.commit({"empty": "", "new": "N=1\n"}, "for all")


def test_readers_are_named_rightly(ana: Machine, ben: Machine) -> None:
    ana.write("shared/prod.env", TRUE)
    assert "is for all, not for prod" in ana("stage", "shared", "--for", "prod", code=2).error
    ana("stage", "shared", "--for", "nobody", code=4)
    ana("stage", PROD, "--for", "prod")


def test_an_ended_group_s_file_from_an_older_commit(ana: Machine, ben: Machine) -> None:
    ana.commit({PROD: TRUE + b"OLD=1\n"}, "old")
    ana.commit({PROD: TRUE}, "new")
    ana("push")
    ana("group", "remove", "prod")
    ben("pull")
    assert ben.read(PROD) == TRUE
    said = ana("restore", PROD, "--source", "HEAD~2", code=5)
    assert said.hint == f"if they may: dorky restore {PROD} --source 'HEAD~2' --for all"
    assert ana.read(PROD) == TRUE
    ana("restore", PROD, "--source", "HEAD~2", "--for", "all")
    assert ana.read(PROD) == TRUE + b"OLD=1\n"


def test_what_is_undone_is_for_whom_it_was(ana: Machine, ben: Machine) -> None:
    ana.write(PROD, TRUE + b"NEW=1\n")
    ana("stage", PROD)
    ana("unstage", PROD)
    ana("restore", PROD)
    cleo = fresh(ana)
    cleo("group", "remove", "prod")
    ana("pull")
    ana("undo", "3")  # the pull, restoring and unstaging
    ana("fetch")
    assert ana.read(PROD) == TRUE + b"NEW=1\n"
    opened(ana, "commit", "-m", "it was staged for prod")


def test_a_backup_of_a_groups_file_stays_the_groups(ana: Machine, ben: Machine) -> None:
    ana.write(PROD, TRUE + b"MINE=1\n")
    cleo = fresh(ana)
    cleo("group", "remove", "prod")
    ana("pull", code=5)
    ana("pull", "--force")
    assert ana("cat", f"backup/1:{PROD}").raw == TRUE + b"MINE=1\n"
    said = ana("restore", PROD, "--source", "backup/1", code=5)
    assert said.hint.endswith("--source backup/1 --for all")


@pytest.mark.parametrize("side", ["--theirs", "--ours", ""])
def test_a_change_to_a_file_of_a_group_that_has_ended(
    ana: Machine, ben: Machine, side: str
) -> None:
    """Ana wrote a secret for prod; meanwhile its files went to everybody."""
    cleo = fresh(ana)
    new = TRUE + b"SECRET=1\n"
    ana.commit({PROD: new}, "for prod only")
    cleo("group", "remove", "prod")
    said = ana("pull", code=5)
    assert "here it is only for its group, there for others" in said.out
    assert ana.read(PROD) == new
    command = ["resolve", PROD, *filter(None, [side])]
    if side == "--theirs":
        ana(*command)
        assert ana.read(PROD) == TRUE
    else:
        refused = ana(*command, code=5)
        assert refused.hint == f"if they may: dorky resolve {PROD} --for all"
        ana(*command, "--for", "all")
        assert ana.read(PROD) == new
    ana("merge", "--continue")
    assert ana("cat", f"HEAD:{PROD}").raw == ana.read(PROD)
    assert ana("status", "--json").json["staged"] == []


def test_theirs_beside_a_conflict_is_placed_by_its_own_name(ana: Machine, ben: Machine) -> None:
    ana("group", "add", "exact", "keys/a.bin")
    ana.commit({"keys/a.bin": b"\0one"}, "binary")
    ana("push")
    cleo = fresh(ana)
    cleo.commit({"keys/a.bin": b"\0two"}, "cleo's")
    cleo("push")
    ana.commit({"keys/a.bin": b"\0three"}, "ana's")
    ana("pull", code=5)
    assert not (ana.project / "keys/a.bin.theirs").exists()
    assert ana.read("keys/a.bin") == b"\0three"
    ana("resolve", "keys/a.bin", "--theirs")
    assert ana.read("keys/a.bin") == b"\0two"
    ana("merge", "--continue")
    ana("push")
    ben("pull")
    assert not any(b"\0two" in body for _, body in ben.files().values())


def test_a_change_made_before_the_file_became_a_groups(ana: Machine, ben: Machine) -> None:
    cleo = fresh(ana)
    new = b"A=1\nB=NEW-for-the-group\n"
    ana.commit({".env": new}, "before it was known")
    cleo("group", "add", "closed", ".env")
    assert "Merged" in ana("pull").out
    assert ana.read(".env") == new
    with ana.repo() as repo:
        head = history.head_of(repo.store)
        trees = history.trees_of(repo.store, head)
        assert ".env" not in dict(history.files_of(repo.store, {ALL: trees[ALL]}))
    assert ana("cat", "HEAD:.env").raw == new


# --- the rule itself ------------------------------------------------------------------------


NAMES = st.sampled_from(["a", "b", "A", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
PATTERNS = st.lists(st.sampled_from(["a", "b", "**", "*"]), min_size=1, max_size=2).map("/".join)
GROUPS = (ALL, "one", "two")


class Trees:
    """Trees in memory, in place of a store."""

    recent = None

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.left_out: set[str] = set()

    def read(self, object_id: str, *, group: str | None = None) -> bytes:
        return self.held[object_id]

    def root(self, paths: set[str]) -> tuple[str, set[str]]:
        """A tree of files; those that are also directories are left out."""
        files = {path for path in paths if not any(other.startswith(f"{path}/") for other in paths)}
        return self._tree("", files), files

    def _tree(self, prefix: str, files: set[str]) -> str:
        names = {path.removeprefix(prefix).split("/")[0] for path in files}
        entries = []
        for name in sorted(names):
            below = {path for path in files if path.startswith(f"{prefix}{name}/")}
            if below:
                content = self._tree(f"{prefix}{name}/", below)
                entries.append(Entry(name, DIRECTORY, content))
            else:
                entries.append(Entry(name, FILE, "0" * 64, 1, "0" * 64))
        data = model.encode(Tree(tuple(entries)))
        made = sha256(data).hexdigest()
        self.held[made] = data
        return made


def views(store: Trees, held: dict[str, set[str]], owner: placement.Owner) -> tuple[View, Any]:
    trees, files = {}, []
    for group in history.in_order(held):
        trees[group], found = store.root(held[group])
        files += [(path, group) for path in found]
    return View(store, trees, owner), files  # type: ignore[arg-type]


HELD = st.dictionaries(st.sampled_from(GROUPS), st.sets(PATHS, max_size=6))
CLAIMED = st.tuples(*[st.lists(PATTERNS, max_size=2)] * 2)


@given(HELD, HELD, CLAIMED)
@example({}, {ALL: {"a"}, "two": {"a/a"}}, ([], ["a/a"]))
def test_trees_are_read_by_the_rule(
    before: dict[str, set[str]], after: dict[str, set[str]], claimed: tuple[list[str], list[str]]
) -> None:
    one, two = (Group(name, name, tuple(each)) for name, each in zip("ot", claimed, strict=True))
    known = Roster(
        (), (msgspec.structs.replace(one, id="one"), msgspec.structs.replace(two, id="two"))
    )
    owner = placement.owner(known)
    store = Trees()
    counted = []
    for held in (before, after):
        view, files = views(store, held, owner)
        expected, masked = placement.projected(owner, files)
        assert {(path, placed.group) for path, placed in view.files()} == expected
        assert {(each.path, each.group) for each in view.reported()} == {
            (each.path, each.group) for each in masked
        }
        counted.append((view, expected))
    (old, was), (new, now) = counted
    found = {
        each.path: (bool(each.old), bool(each.new)) for each in projection.differences(old, new)
    }
    paths = {path for path, _ in was ^ now}
    differing = {
        path: (flags[0], flags[1]) for path, flags in found.items() if flags[0] != flags[1]
    }
    assert differing.keys() == paths
    for path, flags in differing.items():
        assert flags == (any(path == p for p, _ in was), any(path == p for p, _ in now))


def test_content_only_widens_from_a_closed_group() -> None:
    assert not placement.is_widening(ALL, "one")
    assert not placement.is_widening("one", "one")
    assert placement.is_widening("one", ALL)
    assert placement.is_widening("one", "two")


def test_nothing_of_a_claim_is_told_to_who_reads_the_bucket(
    ana: Machine, ben: Machine, file_url: Remote
) -> None:
    claim(ben, EVIL)
    ana("pull")
    assert not any(b"env/prod" in data for data in bucket(file_url).values())


def test_an_index_that_is_made_again_holds_what_counts(ana: Machine, ben: Machine) -> None:
    gift(ben, (PROD, EVIL), ("pub", b"p"))
    ana("pull")
    (ana.state / "dorky.db").unlink()
    ana("fsck", "--rebuild")
    assert ana("status", "--json").json["staged"] == []
    ana("pull")
    assert_true(ana)


def test_what_became_free_is_not_deleted_by_a_clone_that_never_had_it(
    ana: Machine, ben: Machine
) -> None:
    claim(ben, EVIL)
    cleo = fresh(ana)
    unclaim(ben)
    cleo("fetch")
    cleo.commit({".env": "A=2\n"}, "before a pull")
    cleo("push")
    for machine in (cleo, ana):
        machine("pull")
        assert_true(machine)
