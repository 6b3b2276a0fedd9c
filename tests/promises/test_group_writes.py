"""What groups let a push write: every commit of it, by the roster that the swap writes."""

from __future__ import annotations

import itertools
import tempfile
import unicodedata
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import msgspec
import pytest
import snapshots
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from machines import Machine, bucket, noise, root_of, signed, started
from servers import Remote, RequestLog
from teams import admit, cloned, follow, joined

from dorky.format import codec, model
from dorky.format.model import ALL, Entry, Group, Inline, Kind, Pack, Roster, Tree
from dorky.keys import roster, vault
from dorky.keys.vault import Vault
from dorky.remote import authority
from dorky.remote import root as roots
from dorky.remote.fetch import fetch
from dorky.remote.push import remember
from dorky.store import history, pack
from dorky.worktree import ingest, staging

SECRET = b"STRIPE=sk_live_SECRET\n"
NEW = "env/prod/new.env"


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    content = {".env": "A=1\n", "env/prod/api.env": "P=1\n", "notes": "n\n"}
    return started(tmp_path / "ana", file_url, content, "--name", "ana")


@pytest.fixture
def ben(ana: Machine, file_url: Remote) -> Machine:
    """A member of the team who is in no group."""
    base = ana.base.parent / "ben"
    places = [ana.base, base, Path(file_url.url)]
    snapshots.once(places, lambda: joined(ana, "ben"), "a member")
    return Machine(base, ana.env)


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
                tail = pack.read_footer(name, data, len(data)).tail
                packed = Pack(name, len(data), tail, held.epochs)
                for at in pack.read_tail(packed, data[tail:], held):
                    stored.append((at.kind, at.id, data[at.offset : at.offset + at.length]))
        for kind, name, sealed in stored:
            if held.group_of(sealed) is not None:
                body = held.open(sealed, f"{kind.value}\0{name}")
                found.append(codec.inflate(body, limit=kind.limit, padded=True))
    return found


def tells(reader: Machine, remote: Remote, *secrets: bytes) -> bool:
    """Whether the bucket tells somebody one of some secrets.

    The team log is left out: all members know the groups' patterns.
    """
    bodies = [body for body in readable(reader, remote) if not body.startswith(b'{"n":')]
    return any(secret in body for body in bodies for secret in secrets)


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


@pytest.mark.parametrize("size", [100, 2 << 20])
def test_content_in_the_right_tree_is_encrypted_for_the_group(
    ana: Machine, ben: Machine, file_url: Remote, size: int
) -> None:
    """As another client might commit it: the tree is the group's, the content everybody's."""
    ana("group", "add", "prod", "env/prod/**")
    secret = noise(size)
    with ana.repo() as repo:
        head = repo.database.ref("main")
        assert head is not None
        trees = history.read_commit(repo.store, head).trees
        (group,) = trees.keys() - {ALL}
        files = dict(history.files_of(repo.store, {group: trees[group]}))
        with repo.store.writer() as writer:
            files[NEW] = ingest.store_bytes(repo.store, writer, "new.env", 0o100600, secret)
            tree = staging.write_entries(files.items(), writer, group=group)
            made = {**trees, group: tree}
            commit = history.add_commit(writer, made, [head], author="ana", message="odd")
            writer.save()
        repo.database.set_ref("main", commit)
    refused(ana, "push")
    ana("sync", "--rewrite")
    assert not tells(ben, file_url, secret[:100])
    assert tells(ana, file_url, secret[:100])


def test_a_terminal_is_asked(ana: Machine, ben: Machine, laptop: Machine) -> None:
    ana.commit({NEW: SECRET}, "new prod key")
    laptop("group", "add", "prod", "env/prod/**")
    with mock.patch("dorky.cli.sync.agree", return_value=False) as asked:
        ana("sync", code=5)
    asked.assert_called_once()
    with mock.patch("dorky.cli.sync.agree", return_value=True):
        ana("sync")
    laptop("pull")
    assert laptop.read(NEW) == SECRET


def test_another_place_is_given_no_old_commits_either(
    ana: Machine, ben: Machine, file_url: Remote
) -> None:
    """An empty place has none of the commits, so each of them is new to it."""
    ana("group", "add", "prod", "env/prod/**")
    ana("config", "set", "remotes.origin.url", f"{file_url.url}-2")
    assert refused(ana, "push") == "dorky sync --rewrite"
    ana("sync", "--rewrite")
    moved = file_url._replace(url=f"{file_url.url}-2")
    assert tells(ana, moved, b"P=1")
    ben.write(".dorkyrc", (ana.project / ".dorkyrc").read_bytes())
    ben("pull", "--accept-rewind", "--force")
    assert not tells(ben, moved, b"P=1")


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


# --- patterns that overlap ------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    [
        "env/**",
        "env/prod/*.env",
        "**/api.env",
        "e*/p*/a*",
        "ENV/PROD",
        "?nv/[a-p]rod/x",
        "env/pr*d/**/deep",
        "env/prod\u200b/x",
    ],
)
def test_a_pattern_must_not_overlap_that_of_another_group(
    ana: Machine, ben: Machine, pattern: str
) -> None:
    ana("group", "add", "prod", "env/prod/**")
    for machine in (ana, ben):
        machine("pull")
        error = machine("group", "add", "other", pattern, code=5).error
        assert error.endswith("overlaps env/prod/** of the group prod")
        assert ascii(pattern)[1:-1].lower().partition("\\")[0] in error.lower()
    ana("group", "add", "other", "env/dev/**")


SPELLINGS = ["SCHLÜSSEL/**", unicodedata.normalize("NFD", "schlüssel/**"), "schlüssel./**"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_another_spelling_is_the_same_pattern(ana: Machine, spelling: str) -> None:
    ana("group", "add", "prod", "schlüssel/**", "env/prod/**")
    assert "already" in ana("group", "add", "prod", spelling, code=1).error
    ana("group", "remove", "prod", spelling)
    assert ana("group", "list", "--json").json[0]["patterns"] == ["env/prod/**"]


def forge(machine: Machine, patterns: tuple[str, ...], *members: str, name: str = "zz") -> None:
    """Start a group by hand, first in the roster, whose patterns may overlap."""
    with machine.repo() as repo:
        remote = repo.remote()
        fetch(remote)
        seen = remote.seen
        assert seen is not None
        known = seen.root.roster
        group = "0" * 15 + "1"
        joined = tuple(
            msgspec.structs.replace(each, groups=(*each.groups, group))
            if each.name in members
            else each
            for each in known.members
        )
        after = Roster(joined, (Group(group, name, patterns), *known.groups))
        heirs = roster.recipients(after, group)
        header, _ = vault.begin_epoch(seen.header, repo.unlock(seen.header), group, heirs)
        after = roster.sealed(known, after, repo.unlock(header))
        following = roots.successor(seen.root, roster=after)
        following, team = authority.amended(remote, header, following)
        won = remote.swap(header, following)
        remember(remote, won, (), team=team)


@pytest.mark.parametrize("members", [["ben"], ["ben", "ana"]])
def test_an_overlap_written_by_hand_freezes_these_paths_only(
    ana: Machine, ben: Machine, laptop: Machine, file_url: Remote, members: list[str]
) -> None:
    laptop("group", "add", "prod", "env/prod/**")
    ana("pull")
    ana.commit({NEW: SECRET}, "in time")
    ana("push")
    ana.commit({"env/prod/late.env": SECRET}, "late")
    ben("pull")
    forge(ben, ("env/**",), *members)
    before = root_of(ana)
    ana("fetch")
    said = ana("push", code=6)
    assert said.error == (
        "env/prod/late.env belongs to the groups zz and prod: their patterns overlap"
    )
    assert ana("sync", "--rewrite", code=6).error == said.error
    assert root_of(ana).txid == before.txid
    # The messages, and the member who can end it.
    (clash,) = ana("group", "list", "--json").json[-1]["overlaps"]
    assert clash == {"pattern": "env/prod/**", "group": "zz", "other": "env/**"}
    listed = ana("group", "list")
    assert "frozen: env/prod/** overlaps env/** of zz" in listed.out
    assert "dorky group remove NAME PATTERN" in listed.err
    checks = ana.run("doctor", "--json").json
    (found,) = (each for each in checks if each["name"] == "groups")
    assert found["verdict"] == "warn"
    assert "env/**" in found["about"]
    assert ana("team", "list", NEW, code=6).error.startswith(f"{NEW} belongs to the groups")
    # Everybody else's work goes on.
    ben.commit({".env": "A=2\n"}, "open")
    ben("push")
    laptop("pull")
    assert laptop.read(".env") == b"A=2\n"
    laptop.commit({".env": "A=3\n"}, "with what is frozen on disk")
    laptop("push")
    ben("pull")
    assert ben.read(".env") == b"A=3\n"
    laptop("group", "add", "prod", "notes")
    ben("pull")
    assert not (ben.project / "notes").exists()
    assert not tells(ben, file_url, SECRET)
    laptop("rotate")
    assert not tells(ben, file_url, SECRET)
    # A member of the other group ends it, and nothing was lost.
    ben("pull")
    ben("group", "remove", "zz")
    ana("sync", "--rewrite")
    laptop("pull")
    assert laptop.read(NEW) == SECRET
    assert laptop.read("env/prod/late.env") == SECRET
    assert not tells(ben, file_url, SECRET)


def test_a_group_that_nobody_is_left_in_is_ended_by_anyone(ana: Machine, ben: Machine) -> None:
    ana("group", "add", "prod", "env/prod/**")
    forge(ben, ("env/**",), "ben")
    ana("pull")
    assert "not in the group zz" in ana("group", "remove", "zz", code=6).error
    ana("team", "remove", "ben")
    ana("group", "remove", "zz")
    assert [each["name"] for each in ana("group", "list", "--json").json] == ["prod"]
    ana.commit({NEW: SECRET}, "goes on")
    ana("push")


# --- moving files ---------------------------------------------------------------------------


def held(machine: Machine, commit: str) -> dict[str, set[str]]:
    """The files of a commit, by the name of the group whose tree holds them."""
    with machine.repo() as repo:
        fetch(repo.remote())
        return {
            roster.name_of(repo.roster, group): {
                path for path, _ in history.files_of(repo.store, {group: tree})
            }
            for group, tree in history.read_commit(repo.store, commit).trees.items()
        }


def publish(machine: Machine, change: Callable[[dict[str, str], Forge], dict[str, str]]) -> None:
    """Write refs, and objects for them, past the commands, as a member can."""
    with machine.repo() as repo:
        remote = repo.remote()
        fetch(remote)
        seen = remote.seen
        assert seen is not None
        forged = Forge(repo.vault, [])
        refs = change(dict(seen.root.refs), forged)
        inline = (*seen.root.inline, *forged.inline)
        won = remote.swap(seen.header, roots.successor(seen.root, refs=refs, inline=inline))
        remember(remote, won, ())


def evil(machine: Machine, gifts: dict[str, bytes]) -> None:
    """Publish a commit that holds files for everybody, whoever owns their paths."""

    def change(refs: dict[str, str], forged: Forge) -> dict[str, str]:
        with machine.repo() as repo:
            commit = history.read_commit(repo.store, refs["heads/main"])
            files = dict(history.files_of(repo.store, {ALL: commit.trees[ALL]}))
        for path, body in gifts.items():
            name = path.rpartition("/")[2]
            content = forged.add(Kind.CHUNK, body)
            files[path] = Entry(name, 0o100600, content, len(body), sha256(body).hexdigest())
        made = msgspec.structs.replace(
            commit,
            trees={**commit.trees, ALL: forged.tree(files)},
            parents=(refs["heads/main"],),
            message="a gift",
        )
        with machine.repo() as repo:
            made = signed(repo, made)
        return {**refs, "heads/main": forged.add(Kind.COMMIT, model.encode(made))}

    publish(machine, change)


class Forge(NamedTuple):
    """Objects for everybody, made by hand."""

    vault: Vault
    inline: list[Inline]

    def add(self, kind: Kind, body: bytes) -> str:
        name = self.vault.object_id(kind, body)
        self.inline.append(Inline(kind, name, self.vault.store(kind, name, body)))
        return name

    def tree(self, files: dict[str, Entry], prefix: str = "") -> str:
        entries: dict[str, Entry] = {}
        for path, entry in files.items():
            if not path.startswith(prefix):
                continue
            name, below, _ = path.removeprefix(prefix).partition("/")
            if below and name not in entries:
                entries[name] = Entry(name, 0o040000, self.tree(files, f"{prefix}{name}/"))
            elif not below:
                entries[name] = entry
        ordered = sorted(entries.values(), key=lambda entry: entry.name.encode())
        return self.add(Kind.TREE, model.encode(Tree(tuple(ordered))))


def test_files_move_on_every_head(ana: Machine, ben: Machine, file_url: Remote) -> None:
    first = root_of(ana).refs["heads/main"]
    ana.commit({NEW: SECRET}, "on main only")
    ana("push")
    publish(ana, lambda refs, _: {**refs, "heads/dev": first})
    ana("pull")
    planned = ana("group", "add", "prod", "env/prod/**", "--dry-run", "--json").json
    done = ana("group", "add", "prod", "env/prod/**", "--json").json
    assert done["moved"] == planned["moved"]
    refs = root_of(ana).refs
    assert refs["heads/dev"] != first
    assert held(ana, refs["heads/main"])["prod"] == {NEW, "env/prod/api.env"}
    assert held(ana, refs["heads/dev"])["prod"] == {"env/prod/api.env"}
    for commit in refs.values():
        assert held(ana, commit)["all"] == {".env", "notes"}
    # Old commits read as they were recorded.
    ben("pull")
    assert ben("cat", f"{first}:env/prod/api.env").raw == b"P=1\n"
    ana("group", "remove", "prod")
    refs = root_of(ana).refs
    assert held(ana, refs["heads/dev"])["all"] == {".env", "notes", "env/prod/api.env"}
    ben("pull")
    assert ben.read(NEW) == SECRET


def test_what_does_not_count_never_moves(ana: Machine, ben: Machine, file_url: Remote) -> None:
    """Ben puts files for everybody at the group's paths, and a link above them."""
    ana("group", "add", "prod", "env/prod/**")
    ben("pull")
    evil(ben, {"env/prod/api.env": b"EVIL=1\n", "env/prod/evil.env": b"EVIL=1\n"})
    with ana.repo() as repo:
        fetch(repo.remote())
        upstream = repo.database.ref("origin/main")
        repo.database.set_ref("main", upstream)
        repo.index.set_commit(upstream)
    ana("group", "add", "prod", "notes")
    main = held(ana, root_of(ana).refs["heads/main"])
    assert main["prod"] == {"env/prod/api.env", "notes"}
    assert main["all"] == {".env", "env/prod/api.env", "env/prod/evil.env"}
    ana("rotate")
    with ana.repo() as repo:
        # The group's own file comes back to everybody, not the one that was put in its place.
        repo.group_remove("prod")
        trees = history.read_commit(repo.store, root_of(ana).refs["heads/main"]).trees
        files = dict(history.files_of(repo.store, {ALL: trees[ALL]}))
        assert files["env/prod/api.env"].sha256 == sha256(b"P=1\n").hexdigest()


def test_a_file_above_a_group_s_path_makes_room_when_it_moves(ana: Machine, ben: Machine) -> None:
    ana("group", "add", "prod", "env/prod/**")
    ben("pull")
    evil(ben, {"env/prod": b"a file where a directory is\n"})
    with ana.repo() as repo:
        fetch(repo.remote())
        upstream = repo.database.ref("origin/main")
        repo.database.set_ref("main", upstream)
        repo.index.set_commit(upstream)
        repo.group_remove("prod")
    assert held(ana, root_of(ana).refs["heads/main"])["all"] == {
        ".env",
        "env/prod/api.env",
        "notes",
    }


# --- Unicode --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_names_are_compared_however_a_system_writes_them(
    ana: Machine, ben: Machine, file_url: Remote, form: str, on_disk: str
) -> None:
    """macOS, its tar and its zip write names decomposed."""
    normalize = unicodedata.normalize
    ana("group", "add", "geheim", normalize(form, "schlüssel/**"))  # type: ignore[arg-type]
    path = normalize(on_disk, "schlüssel/pw.env")  # type: ignore[arg-type]
    ana.write(path, SECRET)
    ana("stage", ".")
    ana("commit", "-m", "keys")
    ana("push")
    ben("pull")
    assert not (ben.project / path).exists()
    assert not tells(ben, file_url, SECRET, b"pw.env")
    assert held(ana, root_of(ana).refs["heads/main"])["geheim"] == {path}


# --- purge and rotation ---------------------------------------------------------------------


def test_a_purge_leaves_each_file_in_its_group(
    ana: Machine, ben: Machine, laptop: Machine, file_url: Remote
) -> None:
    laptop("group", "add", "prod", "env/prod/**")
    ana("pull")
    ana.commit({NEW: SECRET, "dump.sql": "leaked\n"}, "both")
    ana.commit({"dump.sql": "leaked twice\n"}, "again")
    ana("push")
    ben("pull")
    laptop("pull")
    # Another clone has a commit that is not pushed, from before its path became a group's.
    laptop.commit({"keys/laptop.key": "K=SECRET\n"}, "laptop's")
    ana("group", "add", "keys", "keys/**")
    ana("purge", "dump.sql", "--yes")
    main = held(ana, root_of(ana).refs["heads/main"])
    assert main == {"all": {".env", "notes"}, "prod": {NEW, "env/prod/api.env"}}
    assert not tells(ben, file_url, SECRET, b"leaked")
    laptop.run("pull")
    assert not tells(ben, file_url, b"K=SECRET")
    laptop("sync", "--rewrite")
    assert not tells(ben, file_url, b"K=SECRET", SECRET, b"leaked")
    assert held(laptop, root_of(laptop).refs["heads/main"])["keys"] == {"keys/laptop.key"}
    ben("pull")
    ana("pull")
    assert ana.read("keys/laptop.key") == b"K=SECRET\n"


def test_who_could_read_what_is_purged_is_told_by_its_history(ana: Machine, ben: Machine) -> None:
    """The file is a group's today, and was everybody's."""
    ana("group", "add", "prod", "env/prod/**")
    assert ana("purge", "env/prod/api.env", "--dry-run", "--json").json["readers"] == ["ana", "ben"]
    ana.commit({NEW: SECRET}, "always the group's")
    ana("push")
    assert ana("purge", NEW, "--dry-run", "--json").json["readers"] == ["ana"]


@pytest.mark.parametrize("options", [[], ["--history"]])
def test_a_rotation_opens_nothing_to_more_readers(
    ana: Machine, ben: Machine, laptop: Machine, file_url: Remote, options: list[str]
) -> None:
    laptop("group", "add", "prod", "env/prod/**")
    ana("pull")
    ana.commit({NEW: SECRET, "large.bin": noise(300_000)}, "prod")
    ana("push")
    laptop("pull")
    forge(ben, ("env/**",), "ben", "ana")
    evil(ben, {NEW: b"EVIL=1\n"})
    laptop("fetch")
    laptop("rotate", *options)
    assert not tells(ben, file_url, SECRET)
    assert tells(laptop, file_url, SECRET)


def test_rewriting_opens_nothing(
    ana: Machine, ben: Machine, laptop: Machine, file_url: Remote
) -> None:
    """A commit holds a file for a group that has ended when it is pushed."""
    laptop("group", "add", "prod", "env/prod/**")
    ana("pull")
    ana.commit({NEW: SECRET}, "for prod")
    laptop("group", "remove", "prod")
    ana("push", code=5)
    ana.run("pull")
    ana("push", code=5)
    said = ana("sync", "--rewrite", code=5)
    assert (
        said.error == f"{NEW} holds what is only for the group prod; all would be able to read it"
    )
    assert said.hint.startswith(f"if they may: dorky stage {NEW} --for all && dorky commit")
    assert not tells(ben, file_url, SECRET)
    ana("stage", NEW, "--for", "all")
    ana("commit", "-m", "for everybody")
    ana("sync", "--rewrite")
    ben("pull")
    assert ben.read(NEW) == SECRET


_SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
_ACTS = st.sampled_from(["secret", "change", "public", "other", "pull", "rm", "undo", "push"])
_STORIES = given(before=st.lists(_ACTS, max_size=5), after=st.lists(_ACTS, min_size=1, max_size=5))


@settings(_SETTINGS, max_examples=2)
@_STORIES
@example(
    before=["secret", "other", "pull", "change"], after=["other", "pull", "rm", "undo", "push"]
)
@example(before=[], after=["change", "change", "undo"])
@example(before=["change", "push"], after=["change"])
def test_nothing_is_opened_whatever_was_done_before_and_after(
    before: list[str], after: list[str]
) -> None:
    open_nothing(before, after)


@pytest.mark.deep
@settings(_SETTINGS, max_examples=20)
@_STORIES
def test_nothing_is_opened_whatever_else_was_done(before: list[str], after: list[str]) -> None:
    open_nothing(before, after)


def open_nothing(before: list[str], after: list[str]) -> None:
    """What the outsider can read of a group's files is what was pushed before there was one."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        place = Remote(f"{base}/vault", {}, {}, RequestLog())
        ana = started(base / "ana", place, {".env": "A=1\n", "notes": "n\n"}, "--name", "ana")
        ben = joined(ana, "ben")
        laptop = ana.another("laptop")
        follow(laptop, ana)
        laptop("pull")
        count = itertools.count()
        own = 0  # her operations that are not undone: what she pulled before is not hers to undo

        def act(what: str) -> None:
            nonlocal own
            n = next(count)
            if what == "other":
                laptop.commit({"notes": f"{n}\n"}, "other")
                laptop("sync", "--rewrite")
            elif what in {"secret", "change", "public"}:
                path = {"secret": f"env/prod/{n}", "change": "env/prod/a"}.get(what, "public")
                ana.commit({path: f"SECRET-{n}\n" if path != "public" else f"{n}\n"}, what)
                own += 2
            elif what == "rm":
                if ana.run("rm", "env/prod/a").code == 0:
                    ana("commit", "-m", "rm")
                    own += 2
            elif what != "undo":
                ana.run(what)
            elif own:
                ana("undo")
                own -= 1

        for each in before:
            act(each)
        laptop("sync")
        laptop("group", "add", "prod", "env/prod/**")
        known = {body for body in readable(ben, place) if b"SECRET" in body}
        for each in after:
            act(each)
        ana.run("commit", "-m", "the rest")  # an undone commit leaves it staged
        ana("sync", "--rewrite")
        assert {body for body in readable(ben, place) if b"SECRET" in body} <= known
        laptop("sync", "--rewrite")
        assert laptop("ls", "--json").json == ana("ls", "--json").json
