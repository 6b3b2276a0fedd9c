"""What groups let a push write: every commit of it, by the roster that the swap writes."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from machines import Machine, bucket, noise, root_of, started
from servers import Remote
from test_team import admit, cloned, follow

from dorky import codec, pack
from dorky.model import Pack
from dorky.remote import root as roots
from dorky.remote.fetch import fetch

SECRET = b"STRIPE=sk_live_SECRET\n"
NEW = "env/prod/new.env"


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    content = {".env": "A=1\n", "env/prod/api.env": "P=1\n", "notes": "n\n"}
    return started(tmp_path / "ana", file_url, content, "--name", "ana")


@pytest.fixture
def ben(ana: Machine) -> Machine:
    """A member of the team who is in no group."""
    made = cloned(ana, "ben")
    admit(ana, made, "ben")
    made("pull")
    return made


@pytest.fixture
def laptop(ana: Machine, ben: Machine) -> Machine:
    """Ana's other clone, which starts the groups."""
    made = ana.another("laptop")
    follow(made, ana)
    made("pull")
    return made


def readable(reader: Machine, remote: Remote) -> list[bytes]:
    """Every object in the bucket, listed by a root or not, that somebody's keys open."""
    found: list[bytes] = []
    with reader.repo() as repo:
        fetch(repo.remote())
        held = repo.vault
        inline = root_of(reader).inline
        stored = [(each.kind, each.id, each.data) for each in inline]
        for key, data in bucket(remote).items():
            if key.startswith("packs/"):
                name = key.removeprefix("packs/")
                tail, _ = pack.read_footer(name, data, len(data))
                packed = Pack(name, len(data), tail, held.epochs)
                for at in pack.read_tail(packed, data[tail:], held):
                    stored.append((at.kind, at.id, data[at.offset : at.offset + at.length]))
        for kind, name, sealed in stored:
            if held.group_of(sealed) is not None:
                body = held.open(sealed, f"{kind.value}\0{name}")
                found.append(codec.inflate(body, limit=kind.limit))
    return found


def tells(reader: Machine, remote: Remote, *secrets: bytes) -> bool:
    """Whether the bucket tells somebody one of some secrets."""
    return any(secret in body for body in readable(reader, remote) for secret in secrets)


def refused(machine: Machine, *command: str) -> str:
    """A command is refused because a commit holds a file for others; give the hint."""
    said = machine(*command, code=5)
    assert "belongs to the group prod, but commit" in said.error
    return said.hint


# --- what was committed before its path became a group's ------------------------------------


def test_a_commit_from_before_its_group_is_never_sent(
    ana: Machine, ben: Machine, laptop: Machine, file_url: Remote
) -> None:
    ana.commit({NEW: SECRET}, "new prod key")
    old = ana("log", "--json").json[0]
    laptop("group", "add", "prod", "env/prod/**")
    ana("push", code=5)
    assert refused(ana, "sync") == "dorky sync --rewrite"
    assert refused(ana, "push") == "dorky sync --rewrite"
    # Nor by a later commit that moves the file: the first one would go with it.
    ana.run("commit", "-m", "encrypt for prod")
    refused(ana, "sync")
    assert not tells(ben, file_url, SECRET, b"new.env")

    done = ana("sync", "--rewrite", "--json").json
    assert done["rewritten"] >= 1
    assert not tells(ben, file_url, SECRET, b"new.env")
    assert tells(laptop, file_url, SECRET)
    assert ana.read(NEW) == SECRET
    assert ana("status", "--json").json["staged"] == []
    (new,) = (each for each in ana("log", "--json").json if each["message"] == "new prod key")
    assert new["id"] != old["id"]
    assert {**new, "id": 0, "refs": 0, "parents": 0} == {**old, "id": 0, "refs": 0, "parents": 0}
    laptop("pull")
    assert laptop.read(NEW) == SECRET
    ben("pull")
    assert not (ben.project / NEW).exists()
    for commit in ben("log", "--json").json:
        ben("cat", f"{commit['id']}:{NEW}", code=4)


def test_undo_brings_the_old_commits_back_but_does_not_send_them(
    ana: Machine, ben: Machine, laptop: Machine, file_url: Remote
) -> None:
    head = ana.commit({NEW: SECRET}, "new prod key")
    laptop("group", "add", "prod", "env/prod/**")
    ana("sync", "--rewrite")
    count = [each["command"] for each in ana("op", "log", "--json").json].index("commit")
    ana("undo", count)
    assert ana("log", "--json").json[0]["id"] == head
    assert ana.read(NEW) == SECRET
    ana("push", code=5)
    ana.run("sync")
    ana.run("push")
    assert not tells(ben, file_url, SECRET)
    ana("sync", "--rewrite")
    assert ana.read(NEW) == SECRET
    assert not tells(ben, file_url, SECRET)


@pytest.mark.parametrize("size", [100, 9 << 20])
def test_packs_are_not_sent_with_old_objects_in_them(
    ana: Machine, ben: Machine, laptop: Machine, file_url: Remote, size: int
) -> None:
    """A large pack is sent as a whole, but only if everything in it is wanted."""
    secret = noise(size)
    ana.commit({"env/prod/large.bin": secret, "public.bin": noise(size, 2)}, "large")
    laptop("group", "add", "prod", "env/prod/**")
    ana("sync", "--rewrite")
    assert not tells(ben, file_url, secret[:100], b"large.bin")
    assert tells(laptop, file_url, secret[:100])
    ben("pull")
    assert ben.read("public.bin") == noise(size, 2)
    laptop("pull")
    assert laptop.read("env/prod/large.bin") == secret


def test_every_commit_between_is_rewritten(
    ana: Machine, ben: Machine, laptop: Machine, file_url: Remote
) -> None:
    """Added, changed, deleted again, and a merge in between: no version of it is sent."""
    ana.commit({NEW: SECRET}, "add")
    laptop.commit({"notes": "laptop's\n"}, "notes")
    laptop("push")
    ana("pull")
    ana.commit({NEW: b"STRIPE=second_SECRET\n", ".env": "A=2\n"}, "change")
    ana("rm", NEW)
    ana("commit", "-m", "delete")
    laptop("group", "add", "prod", "env/prod/**")
    ana("push", code=5)
    assert refused(ana, "sync") == "dorky sync --rewrite"
    ana("sync", "--rewrite")
    assert not tells(ben, file_url, b"SECRET", b"new.env")
    ben("pull")
    assert ben.read(".env") == b"A=2\n"
    assert ben.read("notes") == b"laptop's\n"
    assert not (ana.project / NEW).exists()
    add, change = (
        next(each["id"] for each in ana("log", "--json").json if each["message"] == message)
        for message in ("add", "change")
    )
    assert ana("cat", f"{add}:{NEW}").raw == SECRET
    assert ana("cat", f"{change}:{NEW}").raw == b"STRIPE=second_SECRET\n"
    assert ana("cat", f"{change}:env/prod/api.env").raw == b"P=1\n"


def test_what_is_staged_and_edited_stays(ana: Machine, ben: Machine, laptop: Machine) -> None:
    ana.commit({NEW: SECRET, "other": "1\n"}, "new prod key")
    laptop("group", "add", "prod", "env/prod/**")
    ana.write("other", "staged\n")
    ana("stage", "other")
    ana.write("notes", "edited\n")
    ana("sync", "--rewrite")
    status = ana("status", "--json").json
    assert [each["path"] for each in status["staged"]] == ["other"]
    assert [each["path"] for each in status["unstaged"]] == ["notes"]


def test_three_clones_of_one_member(
    ana: Machine, ben: Machine, laptop: Machine, file_url: Remote
) -> None:
    desktop = laptop.another("desktop")
    follow(desktop, laptop)
    desktop("pull")
    ana.commit({NEW: SECRET}, "ana's")
    desktop.commit({"env/prod/desktop.env": "D=SECRET\n"}, "desktop's")
    laptop("group", "add", "prod", "env/prod/**")
    laptop.commit({"env/prod/api.env": "P=SECRET\n"}, "laptop's")
    laptop("push")
    for machine in (ana, desktop, laptop, ana):
        machine("sync", "--rewrite")
    assert not tells(ben, file_url, b"SECRET", b"new.env", b"desktop.env")
    for machine in (ana, desktop):
        machine("pull")
    assert ana.files() == desktop.files()
    assert ana.read("env/prod/desktop.env") == b"D=SECRET\n"
    assert ana.read("env/prod/api.env") == b"P=SECRET\n"


# --- who is not in the group ----------------------------------------------------------------


def test_an_outsider_is_told_who_must(
    ana: Machine, ben: Machine, laptop: Machine, file_url: Remote
) -> None:
    ben.commit({NEW: SECRET, "notes": "ben's\n"}, "early")
    laptop("group", "add", "prod", "env/prod/**")
    cleo = cloned(ana, "cleo")
    admit(laptop, cleo, "cleo")
    cleo("pull")
    ben("push", code=5)
    for command in (["sync"], ["sync", "--rewrite"]):
        hint = refused(ben, *command)
        assert hint.startswith(f"give the file to ana, then: dorky rm --cached {NEW} && ")
    assert not tells(cleo, file_url, SECRET)
    # As the hint says: the file stays on his disk, and leaves the commits that are not pushed.
    ben("rm", "--cached", NEW)
    ben("commit", "-m", "left to prod")
    refused(ben, "push")
    ben("sync", "--rewrite")
    assert ben.read(NEW) == SECRET
    assert not tells(cleo, file_url, SECRET, b"new.env")
    ana("pull")
    assert ana.read("notes") == b"ben's\n"
    assert not (ana.project / NEW).exists()


def test_an_outsider_who_is_let_in_rewrites(ana: Machine, ben: Machine, laptop: Machine) -> None:
    ben.commit({NEW: SECRET}, "early")
    laptop("group", "add", "prod", "env/prod/**")
    refused(ben, "sync", "--rewrite")
    laptop("group", "members", "prod", "--add", "ben")
    ben("sync", "--rewrite")
    laptop("pull")
    assert laptop.read(NEW) == SECRET
    assert ben.read("env/prod/api.env") == b"P=1\n"


# --- a group that is started while a push is under way --------------------------------------


@pytest.mark.parametrize("size", [100, 2 << 20])
def test_a_group_is_started_between_the_check_and_the_swap(
    ana: Machine, ben: Machine, laptop: Machine, file_url: Remote, size: int
) -> None:
    secret = noise(size)
    ana.commit({NEW: secret}, "new prod key")
    swap = roots.Remote.swap
    met = []

    def late(remote: roots.Remote, *arguments: object, **options: object) -> object:
        if not met:
            met.append(remote)
            with mock.patch.object(roots.Remote, "swap", swap):
                laptop("group", "add", "prod", "new/**", "env/prod/new.env")
        return swap(remote, *arguments, **options)  # type: ignore[arg-type]

    with mock.patch.object(roots.Remote, "swap", late):
        assert refused(ana, "push") == "dorky sync --rewrite"
    assert met
    assert not tells(ben, file_url, secret[:100])
    ana("sync", "--rewrite")
    assert not tells(ben, file_url, secret[:100], b"new.env")
    laptop("pull")
    assert laptop.read(NEW) == secret
